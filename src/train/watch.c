/* What can be seen of a step without changing it: hashes of every tensor, the place of a
 * non-finite value, the health of the quantised errors, the time of every op. */
#include "graph/layers/product.h"
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* --- hashes of every tensor per node --- */

static void hash_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    struct oct_trainer *t = user;
    size_t bytes = (size_t)count * oct_dtype_bytes(dtype);
    void *host = malloc(bytes);

    if (!host || t->backend->download(t->backend, host, device, bytes) != OCT_OK)
        fprintf(t->trace, "%" PRId64 " %s %s unreadable\n", t->at.step, node->name, what);
    else
        fprintf(t->trace, "%" PRId64 " %s %s %s %016" PRIx64 "\n", t->at.step, node->name, what,
            oct_dtype_name(dtype), (uint64_t)XXH3_64bits(host, bytes));
    free(host);
}

enum oct_status oct_trace_open(struct oct_trainer *t)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/trace.txt", t->options.output_dir);
    t->trace = fopen(path, "a");
    if (!t->trace)
        return oct_fail(OCT_IO, "cannot write %s: check the folder's permissions", path);
    t->observer.user = t;
    t->observer.tensor = hash_tensor;
    return OCT_OK;
}

void oct_trace_step(struct oct_trainer *t)
{
    if (t->trace)
        fflush(t->trace);
}

/* --- where is the non-finite value? --- */

struct search {
    struct oct_trainer *t;
    char *out;
    size_t size;
    bool found;
};

static bool all_finite(enum oct_dtype dtype, const void *data, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float x = dtype == OCT_F32 ? ((const float *)data)[i]
                                   : oct_f32_from_bf16(((const uint16_t *)data)[i]);
        if (oct_not_finite(x))
            return false;
    }
    return true;
}

static bool flag_raised(struct oct_trainer *t)
{
    struct oct_step_state state = {0};
    return t->backend->download(t->backend, &state, t->graph->step->data, sizeof state) == OCT_OK &&
           state.flag != 0;
}

static void search_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    struct search *search = user;
    size_t bytes = (size_t)count * oct_dtype_bytes(dtype);
    bool real = dtype == OCT_F32 || dtype == OCT_BF16;
    void *host = search->found || !real ? NULL : malloc(bytes);

    if (host && search->t->backend->download(search->t->backend, host, device, bytes) == OCT_OK &&
        !all_finite(dtype, host, count)) {
        snprintf(search->out, search->size, "%s of layer %s", what, node->name);
        search->found = true;
    }
    free(host);
    if (!search->found && flag_raised(search->t)) { /* by a sum over values that are finite */
        snprintf(search->out, search->size, "the statistics of layer %s", node->name);
        search->found = true;
    }
}

/* Runs the batch again with the flag down, to see where it rises. */
void oct_diagnose(struct oct_trainer *t, char *out, size_t size)
{
    struct oct_graph *g = t->graph;
    struct search search = {.t = t, .out = out, .size = size};
    struct oct_observer observer = {.user = &search, .tensor = search_tensor};
    struct oct_step_state state;

    snprintf(out, size, "a tensor of an earlier part of the step");
    if (g->backend->download(g->backend, &state, g->step->data, sizeof state) != OCT_OK)
        return;
    state.flag = 0;
    if (g->backend->upload(g->backend, g->step->data, &state, sizeof state) != OCT_OK)
        return;
    g->observer = &observer;
    if (oct_graph_forward(g) == OCT_OK)
        (void)oct_graph_backward(g);
    g->observer = NULL;
}

/* --- int8 weight gradients next to those of unquantised errors --- */

struct oct_samples {
    float *dw, *dw_float; /* host copies, as long as the longest weight */
    struct oct_cosine {
        double sum;
        int count;
    } * cosine; /* of every node, since the last report */
};

enum oct_status oct_samples_wanted(const struct oct_trainer *t, bool *wanted)
{
    const struct oct_conv_wgrad_args float_product = {.shape = oct_conv_pointwise(1, 1, 1, 1, 1),
        .x = {.dtype = OCT_F32, .planes = 1},
        .dy = {.dtype = OCT_F32, .planes = 1}};
    bool asked = t->options.stats_interval > 0;
    size_t bytes;

    *wanted = false;
    if (!asked && !t->options.output_dir)
        return OCT_OK;
    enum oct_status status = t->backend->conv_wgrad_check(t->backend, &float_product, &bytes);
    if (status != OCT_OK && (asked || status != OCT_UNSUPPORTED))
        return status;
    *wanted = status == OCT_OK;
    return OCT_OK;
}

enum oct_status oct_samples_open(struct oct_trainer *t)
{
    const struct oct_graph *g = t->graph;
    struct oct_samples *samples;
    size_t longest = 1;

    if (!g->with_samples)
        return OCT_OK;
    for (int i = 0; i < g->param_count; i++)
        if ((size_t)g->params[i].count > longest)
            longest = (size_t)g->params[i].count;
    t->observer.user = t;
    t->samples = samples = calloc(1, sizeof *samples);
    if (samples) {
        samples->dw = calloc(longest, sizeof *samples->dw);
        samples->dw_float = calloc(longest, sizeof *samples->dw_float);
        samples->cosine = calloc((size_t)g->node_count, sizeof *samples->cosine);
    }
    if (!samples || !samples->dw || !samples->dw_float || !samples->cosine)
        return oct_fail(OCT_NOMEM, "no memory for samples of %zu weight gradients", longest);
    return OCT_OK;
}

void oct_samples_free(struct oct_trainer *t)
{
    if (!t->samples)
        return;
    free(t->samples->dw);
    free(t->samples->dw_float);
    free(t->samples->cosine);
    free(t->samples);
    t->samples = NULL;
}

/* Adds the cosine between two gradients. Without a direction (all zeros, NaN) there is none. */
static void sample_gradients(
    void *user, const struct oct_node *node, const void *dw, const void *dw_float, int64_t count)
{
    struct oct_trainer *t = user;
    struct oct_samples *s = t->samples;
    size_t bytes = (size_t)count * sizeof *s->dw;
    double dot = 0.0, norm = 0.0, norm_float = 0.0;

    if (t->backend->download(t->backend, s->dw, dw, bytes) != OCT_OK ||
        t->backend->download(t->backend, s->dw_float, dw_float, bytes) != OCT_OK)
        return;
    for (int64_t i = 0; i < count; i++) {
        dot += (double)s->dw[i] * (double)s->dw_float[i];
        norm += (double)s->dw[i] * (double)s->dw[i];
        norm_float += (double)s->dw_float[i] * (double)s->dw_float[i];
    }
    double cosine = dot / sqrt(norm * norm_float);
    if (!isfinite(cosine))
        return;
    s->cosine[node->index].sum += cosine;
    s->cosine[node->index].count++;
}

/* Only the first part of a step finds its int8 gradient by itself in the buffer. */
void oct_samples_arm(struct oct_trainer *t, bool first_part)
{
    int interval = t->options.stats_interval;
    bool due = interval > 0 ? (t->at.step + 1) % interval == 0
                            : t->at.step_in_epoch + 1 == t->steps_per_epoch;
    bool sampled = t->samples && first_part && due;

    t->observer.gradients = sampled ? sample_gradients : NULL;
}

/* Mean cosine since the last report; NaN if there is none. */
static double take_cosine(struct oct_trainer *t, const struct oct_node *node)
{
    if (!t->samples)
        return NAN;
    struct oct_cosine cosine = t->samples->cosine[node->index];
    t->samples->cosine[node->index] = (struct oct_cosine){0};
    return cosine.count > 0 ? cosine.sum / cosine.count : NAN;
}

/* --- health of the errors' codes --- */

static enum oct_status read_counts(
    struct oct_trainer *t, const struct oct_pre *pre, int64_t counts[2])
{
    counts[0] = counts[1] = 0;
    if (!pre->saturated)
        return OCT_OK;
    return t->backend->download(t->backend, counts, pre->saturated->data, 2 * sizeof counts[0]);
}

enum oct_status oct_saturation(struct oct_trainer *t, int64_t *clipped)
{
    int64_t sum = 0;
    for (int i = 0; i < t->graph->value_count; i++) {
        int64_t counts[2];
        if (!t->graph->values[i].pre)
            continue;
        OCT_TRY(read_counts(t, t->graph->values[i].pre, counts));
        sum += counts[0] + counts[1];
    }
    *clipped = sum;
    return OCT_OK;
}

/* Share of inverted-T channels and the mean of clip / amax over channels with errors. */
static enum oct_status read_channels(
    struct oct_trainer *t, const struct oct_pre *pre, int channels, struct oct_layer_record *row)
{
    enum oct_status status = OCT_OK;
    const struct oct_range_state *range = &pre->channel_range;
    size_t n = (size_t)channels;
    uint8_t *label = calloc(n, 1);
    float *clip = calloc(n, sizeof *clip), *amax = calloc(n, sizeof *amax);
    double ratio = 0.0;
    int tails = 0, labelled = 0, live = 0;

    if (!label || !clip || !amax)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for the health of %d channels", channels));
    OCT_OUT(t->backend->download(t->backend, label, range->label->data, n));
    OCT_OUT(t->backend->download(t->backend, clip, range->clip->data, n * sizeof *clip));
    OCT_OUT(t->backend->download(t->backend, amax, pre->dy_amax->data, n * sizeof *amax));
    for (int c = 0; c < channels; c++) {
        labelled += label[c] != OCT_LABEL_NONE;
        tails += label[c] == OCT_LABEL_TAIL;
        if (amax[c] > 0.0f) {
            ratio += (double)clip[c] / (double)amax[c];
            live++;
        }
    }
    row->tail_share = labelled ? (double)tails / labelled : NAN;
    row->clip_over_amax = live ? ratio / live : NAN;
out:
    free(label);
    free(clip);
    free(amax);
    return status;
}

/* What the last search on dY found, and the factor of the learning rate that follows. */
static enum oct_status read_search(
    struct oct_trainer *t, const struct oct_pre *pre, struct oct_layer_record *row)
{
    const struct oct_range_state *range =
        pre->need_channel ? &pre->channel_range : &pre->tensor_range;
    float share, distance, factor;
    if (!range->share)
        return OCT_OK;
    OCT_TRY(t->backend->download(t->backend, &share, range->share->data, sizeof share));
    OCT_TRY(t->backend->download(t->backend, &distance, range->distance->data, sizeof distance));
    row->clip_share = (double)share;
    row->direction_loss = (double)distance;
    if (!pre->lr_factor)
        return OCT_OK;
    OCT_TRY(t->backend->download(t->backend, &factor, pre->lr_factor->data, sizeof factor));
    row->lr_factor = (double)factor;
    return OCT_OK;
}

/* Elements of y and of its channels since the last report, `elements` of them. */
static enum oct_status read_forward(
    struct oct_trainer *t, const struct oct_pre *pre, double elements, struct oct_layer_record *row)
{
    int64_t counts[2];
    if (!pre->forward)
        return OCT_OK;
    OCT_TRY(t->backend->download(t->backend, counts, pre->forward->data, sizeof counts));
    OCT_TRY(t->backend->clear(t->backend, pre->forward->data, sizeof counts));
    if (t->numerics.role[OCT_ROLE_X].sigmas > 0.0f)
        row->channel_clipped = (double)counts[0] / elements;
    if (pre->layer.role[OCT_ROLE_Y].limit > 0.0f)
        row->y_overflow = (double)counts[1] / elements;
    return OCT_OK;
}

/* A barrier's share of the gradient it adds to, since the last report; none: stays as it is. */
static enum oct_status read_barrier(
    struct oct_trainer *t, const struct oct_buffer *sums, double *share)
{
    int64_t found[2];
    if (!sums)
        return OCT_OK;
    OCT_TRY(t->backend->download(t->backend, found, sums->data, sizeof found));
    OCT_TRY(t->backend->clear(t->backend, sums->data, sizeof found));
    *share = found[1] > 0 ? (double)found[0] / (double)found[1] : NAN;
    return OCT_OK;
}

/* Codes of the weight's normalised gradients since the last report, and of its momentum. */
static enum oct_status read_update(
    struct oct_trainer *t, const struct oct_param *weight, struct oct_layer_record *row)
{
    int64_t counts[OCT_FIXED_COUNTS];
    if (!weight->codes)
        return OCT_OK;
    OCT_TRY(t->backend->download(t->backend, counts, weight->codes->data, sizeof counts));
    OCT_TRY(t->backend->clear(t->backend, weight->codes->data, sizeof counts));
    row->update_code = (double)counts[OCT_FIXED_LARGEST];
    row->momentum_code = (double)counts[OCT_FIXED_MOMENTUM];
    row->update_zeros =
        (double)counts[OCT_FIXED_ZEROS] / ((double)weight->count * (double)t->steps_counted);
    return OCT_OK;
}

static enum oct_status read_layer(
    struct oct_trainer *t, const struct oct_node *node, struct oct_layer_record *row)
{
    const struct oct_product *product = node->self;
    const struct oct_param *weight = &t->graph->params[product->weight];
    const struct oct_value *y = &t->graph->values[node->out];
    double elements =
        (double)oct_value_elements(y) * (double)t->steps_counted * t->options.grad_accum_steps;
    int64_t counts[2];

    OCT_TRY(read_barrier(t, weight->barrier, &row->barrier_share));
    OCT_TRY(read_update(t, weight, row));
    if (!y->pre)
        return OCT_OK;
    OCT_TRY(read_counts(t, y->pre, counts));
    OCT_TRY(t->backend->clear(t->backend, y->pre->saturated->data, sizeof counts));
    if (y->pre->need_channel)
        row->saturation_dw = (double)counts[0] / elements;
    if (y->pre->need_tensor)
        row->saturation_dx = (double)counts[1] / elements;
    if (y->pre->need_channel && y->pre->channel_range.count > 1)
        OCT_TRY(read_channels(t, y->pre, y->c, row));
    OCT_TRY(read_forward(t, y->pre, elements, row));
    OCT_TRY(read_barrier(t, y->pre->barrier, &row->activation_barrier_share));
    return read_search(t, y->pre, row);
}

enum oct_status oct_health(struct oct_trainer *t, struct oct_layer_record *rows, size_t *count)
{
    struct oct_graph *g = t->graph;
    size_t n = 0;

    for (int i = 0; i < g->node_count; i++) {
        const struct oct_node *node = &g->nodes[i];
        if (!node->is_product)
            continue;
        struct oct_layer_record *row = &rows[n++];
        const struct oct_layer_numerics *layer = &node->layer;
        int products = node->has_dgrad ? 3 : 2;
        int int8 = layer->fprop + layer->wgrad + (node->has_dgrad && layer->dgrad);
        *row = (struct oct_layer_record){.layer = node->name,
            .int8_share = layer->emulated ? 0.0 : (double)int8 / products,
            .saturation_dw = NAN,
            .saturation_dx = NAN,
            .tail_share = NAN,
            .clip_over_amax = NAN,
            .cosine_dw = take_cosine(t, node),
            .channel_clipped = NAN,
            .y_overflow = NAN,
            .clip_share = NAN,
            .direction_loss = NAN,
            .lr_factor = NAN,
            .barrier_share = NAN,
            .activation_barrier_share = NAN,
            .update_code = NAN,
            .momentum_code = NAN,
            .update_zeros = NAN};
        OCT_TRY(read_layer(t, node, row));
    }
    t->saturated_before = t->steps_counted = 0; /* what counts clipped codes starts again */
    *count = n;
    return OCT_OK;
}

/* --- time of every op --- */

struct oct_profile {
    struct oct_profile_row *rows;
    size_t count, capacity, next; /* next: the op that comes in this step */
    bool failed;
};

/* Whether product `pass` of a layer is quantised; NULL: it is another pass. */
static const bool *product_of(const struct oct_layer_numerics *layer, const char *pass)
{
    if (strcmp(pass, "fprop") == 0)
        return &layer->fprop;
    if (strcmp(pass, "dgrad") == 0)
        return &layer->dgrad;
    return strcmp(pass, "wgrad") == 0 ? &layer->wgrad : NULL;
}

static void time_op(void *user, const struct oct_node *node, const char *pass, double seconds)
{
    struct oct_profile *profile = ((struct oct_trainer *)user)->profile;

    if (profile->next == profile->capacity) {
        size_t capacity = profile->capacity ? 2 * profile->capacity : 256;
        struct oct_profile_row *grown = realloc(profile->rows, capacity * sizeof *grown);
        if (!grown) {
            profile->failed = true;
            return;
        }
        profile->rows = grown;
        profile->capacity = capacity;
    }
    struct oct_profile_row *row = &profile->rows[profile->next];
    if (profile->next++ < profile->count) { /* the same op of an earlier step */
        row->seconds = seconds < row->seconds ? seconds : row->seconds;
        return;
    }
    profile->count = profile->next;
    *row = (struct oct_profile_row){.node = node ? node->name : "(update)",
        .op = node ? node->type->name : "update",
        .pass = pass,
        .seconds = seconds};
    const bool *quantised = node && node->is_product ? product_of(&node->layer, pass) : NULL;
    if (quantised) {
        row->macs = (double)oct_conv_macs(&node->shape);
        row->int8 = *quantised && !node->layer.emulated;
    }
}

void oct_profile_free(struct oct_trainer *t)
{
    if (t->profile)
        free(t->profile->rows);
    free(t->profile);
    t->profile = NULL;
}

enum oct_status oct_trainer_profile(
    oct_trainer *t, int steps, const struct oct_profile_row **rows, size_t *count)
{
    enum oct_status status = OCT_OK;
    struct oct_observer before = t->observer;
    struct oct_step_result result;

    if (steps < 1)
        return oct_fail(OCT_ARG, "profile of %d steps: need at least 1", steps);
    OCT_TRY(oct_trainer_computes(t));
    oct_profile_free(t);
    t->profile = calloc(1, sizeof *t->profile);
    if (!t->profile)
        return oct_fail(OCT_NOMEM, "no memory for a profile");
    t->observer = (struct oct_observer){.user = t, .op = time_op};
    for (int i = 0; i < steps; i++) {
        t->profile->next = 0;
        OCT_OUT(oct_trainer_step(t, &result));
    }
    if (t->profile->failed)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for a profile"));
    *rows = t->profile->rows;
    *count = t->profile->count;
out:
    t->observer = before;
    return status;
}
