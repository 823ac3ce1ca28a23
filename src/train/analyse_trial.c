#include "train/analyse_trial.h"

#include "train/analyse.h"

#include <math.h>
#include <stdlib.h>

static const enum oct_role roles[2] = {OCT_ROLE_DY_DW, OCT_ROLE_DY_DX};

static struct oct_buffer *book(struct oct_trial *b, size_t bytes, const char *what)
{
    return oct_plan_book(b->plan, bytes, OCT_PERSISTENT, 0, "%s", what);
}

static struct oct_operand operand(const struct oct_buffer *hi, const struct oct_buffer *lo,
    int planes, const struct oct_range_state *range)
{
    struct oct_operand x = {.dtype = OCT_S8,
        .planes = planes,
        .data = oct_buffer_data(hi),
        .data_lo = oct_buffer_data(lo),
        .scale = oct_buffer_data(range->scale),
        .scale_per_k = range->count > 1};
    return x;
}

static int planes_of(const struct oct_trial *b, enum oct_role role)
{
    return oct_format_planes(b->layer.role[role].format);
}

static struct oct_conv_wgrad_args wgrad_args(const struct oct_trial *b, const struct oct_subject *s)
{
    struct oct_conv_wgrad_args args = {.shape = s->shape,
        .x = operand(b->x_codes, NULL, 1, &b->x_range),
        .dy = operand(b->codes[0], b->codes_lo[0], planes_of(b, OCT_ROLE_DY_DW), &b->dy_range[0]),
        .dw = oct_buffer_data(b->dw),
        .mode = OCT_OVERWRITE,
        .workspace = oct_plan_workspace_data(b->plan)};
    return args;
}

static struct oct_conv_dgrad_args dgrad_args(const struct oct_trial *b, const struct oct_subject *s)
{
    struct oct_conv_dgrad_args args = {.shape = s->shape,
        .dy = operand(b->codes[1], b->codes_lo[1], planes_of(b, OCT_ROLE_DY_DX), &b->dy_range[1]),
        .w = operand(b->pack, b->pack_lo, planes_of(b, OCT_ROLE_W_DX), &b->w_range),
        .dx = oct_buffer_data(b->dx),
        .dx_dtype = OCT_F32,
        .mode = OCT_OVERWRITE,
        .workspace = oct_plan_workspace_data(b->plan)};
    return args;
}

/* One scale per channel only where the policy says so. */
static void book_ranges(struct oct_trial *b, const struct oct_subject *s)
{
    static const char *const names[2] = {"dy for dw", "dy for dx"};
    oct_range_book(b->plan, &b->x_range, 1, &b->layer.role[OCT_ROLE_X], false, "x");
    oct_range_book(b->plan, &b->w_range, 1, &b->layer.role[OCT_ROLE_W_DX], false, "w");
    for (int i = 0; i < 2; i++) {
        const struct oct_policy *policy = &b->layer.role[roles[i]];
        int count = policy->granularity == OCT_PER_CHANNEL ? s->shape.k : 1;
        oct_range_book(b->plan, &b->dy_range[i], count, policy, false, names[i]);
    }
}

static void book_tensors(struct oct_trial *b, const struct oct_subject *s)
{
    const struct oct_conv_shape *v = &s->shape;
    size_t x = (size_t)oct_conv_x_elements(v), w = (size_t)oct_conv_w_elements(v);
    size_t dy = (size_t)oct_conv_y_elements(v), k = (size_t)v->k;
    size_t widest = k > (size_t)v->c ? k : (size_t)v->c;
    size_t pack = b->backend->weight_pack_bytes(b->backend, v, OCT_S8, 1);

    b->step = book(b, sizeof(struct oct_step_state), "step");
    b->x = book(b, 4 * x, "x");
    b->w = book(b, 4 * w, "w");
    b->dy = book(b, 4 * dy, "dy");
    b->x_codes = book(b, x, "x codes");
    b->dw = book(b, 4 * w, "dw");
    b->dx = book(b, 4 * x, "dx");
    b->pack = book(b, pack, "w pack");
    b->pack_lo = planes_of(b, OCT_ROLE_W_DX) == 2 ? book(b, pack, "w pack, low") : NULL;
    for (int i = 0; i < 2; i++) {
        b->codes[i] = book(b, dy, "dy codes");
        b->codes_lo[i] = planes_of(b, roles[i]) == 2 ? book(b, dy, "dy codes, low") : NULL;
    }
    b->amax = book(b, 4 * widest, "amax");
    b->sum = book(b, 8 * k, "sum");
    b->sumsq = book(b, 8 * k, "sumsq");
    b->sigma = book(b, 4 * k, "sigma");
    b->sigma_all = book(b, 4, "sigma of all");
    b->sums = book(b, 8 * OCT_SEARCH_SUMS, "search");
    b->above = book(b, 8 * k, "above");
    b->above_all = book(b, 8, "above of all");
}

static enum oct_status book_workspace(struct oct_trial *b, const struct oct_subject *s)
{
    const struct oct_conv_shape *v = &s->shape;
    oct_backend *backend = b->backend;
    int64_t x_rows = (int64_t)v->n * v->h * v->w, y_rows = oct_conv_y_elements(v) / v->k;
    struct oct_conv_wgrad_args wgrad = wgrad_args(b, s);
    struct oct_conv_dgrad_args dgrad = dgrad_args(b, s);
    size_t bytes = 0;

    oct_plan_workspace(b->plan, backend->channel_workspace(backend, x_rows, v->c));
    oct_plan_workspace(b->plan, backend->channel_workspace(backend, y_rows, v->k));
    oct_plan_workspace(b->plan, backend->channel_workspace(backend, oct_conv_w_elements(v), 1));
    wgrad.dy.scale_per_k = b->dy_range[0].count > 1;
    OCT_TRY(backend->conv_wgrad_check(backend, &wgrad, &bytes));
    oct_plan_workspace(b->plan, bytes);
    OCT_TRY(backend->conv_dgrad_check(backend, &dgrad, &bytes));
    oct_plan_workspace(b->plan, bytes);
    return OCT_OK;
}

enum oct_status oct_trial_open(struct oct_trial *b, oct_backend *backend,
    const struct oct_numerics *numerics, const struct oct_subject *s)
{
    size_t persistent = 0, transient = 0;

    *b = (struct oct_trial){.backend = backend};
    oct_layer_numerics(numerics, s->name, s->edge != 0, &b->layer);
    if (!b->layer.wgrad || !b->layer.dgrad)
        return OCT_OK; /* kept in float: nothing to measure */
    OCT_TRY(oct_check_factoring(&b->layer, s->name));
    OCT_TRY(oct_plan_open(&b->plan));
    book_ranges(b, s);
    book_tensors(b, s);
    OCT_TRY(book_workspace(b, s));
    OCT_TRY(oct_plan_layout(b->plan, &persistent, &transient));
    OCT_TRY(backend->alloc(backend, persistent, &b->memory));
    OCT_TRY(backend->clear(backend, b->memory, persistent));
    OCT_TRY(backend->alloc(backend, transient, &b->workspace));
    oct_plan_place(b->plan, b->memory, b->workspace);
    return OCT_OK;
}

void oct_trial_close(struct oct_trial *b)
{
    if (b->memory)
        b->backend->free(b->backend, b->memory);
    if (b->workspace)
        b->backend->free(b->backend, b->workspace);
    oct_plan_close(b->plan);
    *b = (struct oct_trial){0};
}

static uint32_t *flag_of(const struct oct_trial *b)
{
    return &((struct oct_step_state *)oct_buffer_data(b->step))->flag;
}

static enum oct_status stats(
    struct oct_trial *b, const struct oct_buffer *x, int64_t rows, int channels, bool sums)
{
    struct oct_channel_stats_args args = {.rows = rows,
        .channels = channels,
        .x = oct_buffer_data(x),
        .dtype = OCT_F32,
        .amax = oct_buffer_data(b->amax),
        .sum = sums ? oct_buffer_data(b->sum) : NULL,
        .sumsq = sums ? oct_buffer_data(b->sumsq) : NULL,
        .workspace = oct_plan_workspace_data(b->plan),
        .flag = flag_of(b)};
    return b->backend->channel_stats(b->backend, &args);
}

static enum oct_status make_x_and_w(struct oct_trial *b, const struct oct_subject *s)
{
    const struct oct_conv_shape *v = &s->shape;
    int64_t rows = (int64_t)v->n * v->h * v->w;

    OCT_TRY(stats(b, b->x, rows, v->c, false));
    OCT_TRY(oct_range_from_amax(b->backend, &b->x_range, oct_buffer_data(b->amax), v->c));
    const struct oct_quantise_args quantise = {.rows = rows,
        .rows_per_sample = (int64_t)v->h * v->w,
        .channels = v->c,
        .x = oct_buffer_data(b->x),
        .dtype = OCT_F32,
        .range = oct_range_now(&b->x_range),
        .q = oct_buffer_data(b->x_codes),
        .flag = flag_of(b)};
    OCT_TRY(b->backend->quantise(b->backend, &quantise));
    OCT_TRY(stats(b, b->w, oct_conv_w_elements(v), 1, false));
    OCT_TRY(oct_range_from_amax(b->backend, &b->w_range, oct_buffer_data(b->amax), 1));
    const struct oct_weight_pack_args pack = {.shape = *v,
        .w = oct_buffer_data(b->w),
        .dtype = OCT_S8,
        .planes = planes_of(b, OCT_ROLE_W_DX),
        .range = oct_range_now(&b->w_range),
        .dgrad = oct_buffer_data(b->pack),
        .dgrad_lo = oct_buffer_data(b->pack_lo),
        .flag = flag_of(b)};
    return b->backend->weight_pack(b->backend, &pack);
}

/* Standard deviations of dy, per channel and of all, where the counting op reads them. */
static enum oct_status upload_sigma(struct oct_trial *b, int64_t rows, int channels)
{
    enum oct_status status = OCT_OK;
    oct_backend *backend = b->backend;
    size_t k = (size_t)channels;
    double *sum = calloc(2 * k, sizeof *sum), all = 0.0, n = (double)rows;
    float *sigma = calloc(k + 1, sizeof *sigma);

    if (!sum || !sigma)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for %d channels", channels));
    OCT_OUT(backend->download(backend, sum, b->sum->data, 8 * k));
    OCT_OUT(backend->download(backend, sum + k, b->sumsq->data, 8 * k));
    for (size_t c = 0; c < k; c++) {
        double mean = sum[c] / n, variance = sum[k + c] / n - mean * mean;
        sigma[c] = variance > 0.0 ? (float)sqrt(variance) : 0.0f;
        all += variance > 0.0 ? variance : 0.0;
    }
    sigma[k] = (float)sqrt(all / (double)channels);
    OCT_OUT(backend->upload(backend, b->sigma->data, sigma, 4 * k));
    OCT_OUT(backend->upload(backend, b->sigma_all->data, sigma + k, 4));
out:
    free(sum);
    free(sigma);
    return status;
}

/* A policy that searches does so in every recorded step. */
static enum oct_status search(struct oct_trial *b, int copy, int64_t rows, int channels,
    const struct oct_range_evidence *evidence)
{
    const struct oct_range_search args = {.rows = rows,
        .channels = channels,
        .x = oct_buffer_data(b->dy),
        .dtype = OCT_F32,
        .workspace = oct_buffer_data(b->sums)};
    return oct_range_search_share(b->backend, &b->dy_range[copy], &args, evidence);
}

static enum oct_status make_dy(struct oct_trial *b, const struct oct_subject *s)
{
    const struct oct_conv_shape *v = &s->shape;
    const int64_t rows = oct_conv_y_elements(v) / v->k;

    OCT_TRY(stats(b, b->dy, rows, v->k, true));
    OCT_TRY(upload_sigma(b, rows, v->k));
    const struct oct_count_above_args count = {.rows = rows,
        .channels = v->k,
        .x = oct_buffer_data(b->dy),
        .dtype = OCT_F32,
        .threshold = oct_buffer_data(b->sigma),
        .threshold_all = oct_buffer_data(b->sigma_all),
        .count = oct_buffer_data(b->above),
        .total = oct_buffer_data(b->above_all),
        .workspace = oct_plan_workspace_data(b->plan)};
    OCT_TRY(b->backend->count_above(b->backend, &count));
    for (int i = 0; i < 2; i++) {
        const struct oct_policy *policy = &b->layer.role[roles[i]];
        bool whole = b->dy_range[i].count == 1;
        const struct oct_range_evidence evidence = {.amax = oct_buffer_data(b->amax),
            .amax_count = v->k,
            .above = oct_buffer_data(whole ? b->above_all : b->above),
            .population = (double)rows * (whole ? v->k : 1)};
        if (b->dy_range[i].share)
            OCT_TRY(search(b, i, rows, v->k, &evidence));
        OCT_TRY(oct_range_adapt(b->backend, &b->dy_range[i], &evidence));
        const struct oct_quantise_args quantise = {.rows = rows,
            .rows_per_sample = rows / v->n,
            .channels = v->k,
            .x = oct_buffer_data(b->dy),
            .dtype = OCT_F32,
            .range = oct_range_now(&b->dy_range[i]),
            .rounding = policy->rounding,
            .step = oct_buffer_data(b->step),
            .q = oct_buffer_data(b->codes[i]),
            .q_lo = oct_buffer_data(b->codes_lo[i]),
            .flag = flag_of(b)};
        OCT_TRY(b->backend->quantise(b->backend, &quantise));
    }
    return OCT_OK;
}

static enum oct_status upload(
    struct oct_trial *b, const struct oct_subject *s, int64_t step, uint64_t seed)
{
    const struct oct_conv_shape *v = &s->shape;
    const struct oct_step_state state = {.seed = seed, .step = (uint32_t)step};
    oct_backend *on = b->backend;

    OCT_TRY(on->upload(on, b->step->data, &state, sizeof state));
    OCT_TRY(on->upload(on, b->x->data, s->x, 4 * (size_t)oct_conv_x_elements(v)));
    OCT_TRY(on->upload(on, b->w->data, s->w, 4 * (size_t)oct_conv_w_elements(v)));
    return on->upload(on, b->dy->data, s->dy, 4 * (size_t)oct_conv_y_elements(v));
}

/* What became of the channels of dY for dW. */
static enum oct_status read_channels(
    struct oct_trial *b, const struct oct_subject *s, struct oct_analysis_row *row)
{
    enum oct_status status = OCT_OK;
    const struct oct_range_state *range = &b->dy_range[0];
    const int64_t elements = oct_conv_y_elements(&s->shape);
    size_t n = (size_t)range->count;
    uint8_t *label = calloc(n, sizeof *label);
    float *clip = calloc(n, sizeof *clip);
    int tails = 0, labelled = 0;
    int64_t clipped = 0;

    if (!label || !clip)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for the channels of %s", s->name));
    OCT_OUT(b->backend->download(b->backend, label, range->label->data, n));
    OCT_OUT(b->backend->download(b->backend, clip, range->clip->data, n * sizeof *clip));
    for (size_t c = 0; c < n; c++) {
        labelled += label[c] != OCT_LABEL_NONE;
        tails += label[c] == OCT_LABEL_TAIL;
    }
    for (int64_t i = 0; i < elements; i++)
        clipped += fabsf(s->dy[i]) > clip[n > 1 ? i % s->shape.k : 0];
    row->tail_share = labelled ? (double)tails / labelled : (double)NAN;
    row->clipped_share = (double)clipped / (double)elements;
out:
    free(label);
    free(clip);
    return status;
}

static enum oct_status read_products(
    struct oct_trial *b, const struct oct_subject *s, struct oct_analysis_row *row)
{
    enum oct_status status = OCT_OK;
    const struct oct_conv_shape *v = &s->shape;
    size_t w = (size_t)oct_conv_w_elements(v), x = (size_t)oct_conv_x_elements(v);
    float *dw = malloc(4 * w), *dx = malloc(4 * x);

    if (!dw || !dx)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for the gradients of %s", s->name));
    OCT_OUT(b->backend->download(b->backend, dw, b->dw->data, 4 * w));
    row->snr_dw = oct_snr(dw, s->dw, (int64_t)w);
    row->snr_dw_worst = oct_worst_snr(dw, s->dw, v->k, (int64_t)w / v->k);
    row->cosine_dw = oct_cosine(dw, s->dw, (int64_t)w);
    row->cosine_dx = (double)NAN;
    if (s->dx) {
        OCT_OUT(b->backend->download(b->backend, dx, b->dx->data, 4 * x));
        row->cosine_dx = oct_cosine(dx, s->dx, (int64_t)x);
    }
out:
    free(dw);
    free(dx);
    return status;
}

enum oct_status oct_trial_measure(struct oct_trial *b, const struct oct_subject *s, int64_t step,
    uint64_t seed, struct oct_analysis_row *row)
{
    OCT_TRY(upload(b, s, step, seed));
    OCT_TRY(make_x_and_w(b, s));
    OCT_TRY(make_dy(b, s));
    const struct oct_conv_wgrad_args wgrad = wgrad_args(b, s);
    OCT_TRY(b->backend->conv_wgrad(b->backend, &wgrad));
    if (s->dx) {
        const struct oct_conv_dgrad_args dgrad = dgrad_args(b, s);
        OCT_TRY(b->backend->conv_dgrad(b->backend, &dgrad));
    }
    OCT_TRY(read_products(b, s, row));
    return read_channels(b, s, row);
}
