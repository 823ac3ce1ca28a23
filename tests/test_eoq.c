/* The scheme whose forward pass is integer only, in real training runs: every code and every scale
 * against an oracle that keeps its own state from the first step on; that no activation exists as a
 * real; that weights and momenta lie on their grids; that a resumed run is the same run. */
#include "cpu/cpu.h"
#include "graph/layers/product.h"
#include "graph/layers/shift.h"
#include "oracle/oracle_conv.h"
#include "oracle/oracle_ops.h"
#include "oracle/oracle_shift.h"
#include "support/folder.h"
#include "support/runs.h"
#include "train/trainer.h"

#include "base/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 128, CHANNELS = 64 };

static struct oct_options small_run(void)
{
    struct oct_options o = run_options("eoq");
    o.batch_size = 8;
    o.momentum = 0.75;
    o.threads = 2;
    return o;
}

/* --- forward, followed by an oracle --- */

/* The oracle's memory of one value. */
struct follower {
    float clip, scale, inverse, amax[CHANNELS];
    uint8_t visited;
    int steps;
};

/* One per test process. */
static struct watch {
    oct_trainer *t;
    struct follower follower[VALUES];
    int convolutions, activations, sums;
    int64_t clipped, codes, fine;
    bool flag; /* summed errors have a flag */
} watch;

static const float *device_scale(const struct oct_value *value)
{
    return oct_range_for(&value->range, true).scale;
}

/* The scale that codes of `value` must have in this step: of the largest results of the last one,
 * or of this step's own `first` in the first. */
static void expect_scale(const struct oct_value *value, struct follower *f, const float *first,
    int count, enum oct_role role)
{
    const struct oct_policy *policy = &watch.t->numerics.role[role];
    struct oct_range_update_args args = {.range = {.clip = &f->clip,
                                             .scale = &f->scale,
                                             .inverse = &f->inverse,
                                             .count = 1,
                                             .code_max = 127,
                                             .pow2 = OCT_POW2_UP},
        .rule = OCT_CLIP_EMA,
        .k = 1.0f,
        .a = policy->a,
        .floor = policy->floor,
        .amax = f->steps == 0 ? first : f->amax,
        .amax_count = count,
        .visited = &f->visited};
    oracle_range_update(&args);
    cr_assert_eq(device_scale(value)[0], f->scale, "%s step %d: scale %a, oracle %a", value->name,
        f->steps, (double)device_scale(value)[0], (double)f->scale);
    memcpy(f->amax, first, sizeof(float) * (size_t)count);
    f->steps++;
}

static void expect_codes(const struct oct_value *value, const int8_t *want, int64_t n)
{
    const int8_t *got = value->codes->data;
    for (int64_t i = 0; i < n; i++) {
        watch.clipped += want[i] == 127 || want[i] == -127;
        if (got[i] != want[i]) /* an assertion each would take minutes */
            cr_assert_fail(
                "%s element %lld: code %d, oracle %d", value->name, (long long)i, got[i], want[i]);
    }
    watch.codes += n;
}

static const struct oct_param *named_param(const char *owner, const char *name)
{
    const struct oct_graph *g = watch.t->graph;
    char text[96];
    snprintf(text, sizeof text, "%s%s%s", owner, *owner ? "." : "", name);
    for (int i = 0; i < g->param_count; i++)
        if (strcmp(g->params[i].name, text) == 0)
            return &g->params[i];
    return NULL;
}

/* Accumulators from the codes of x and from the weights themselves. */
static int64_t *accumulate(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_product *self = node->self;
    const struct oct_conv_shape *v = &node->shape;
    const int64_t nx = oct_conv_x_elements(v), nw = oct_conv_w_elements(v);
    int32_t *x = malloc(4 * (size_t)nx), *w = malloc(4 * (size_t)nw);
    int64_t *acc = malloc(8 * (size_t)oct_conv_y_elements(v));
    oracle_codes(x, g->values[node->in[0]].codes->data, NULL, nx);
    oracle_weight_codes(w, g->params[self->weight].value->data, v->k, (int64_t)v->r * v->s * v->c,
        self->w_range.inverse->data, 0, self->w_range.code_max);
    oracle_conv_fprop(acc, v, x, w);
    free(x);
    free(w);
    return acc;
}

static void largest_of(const int64_t *acc, int64_t rows, int channels, int64_t *min, int64_t *max)
{
    for (int c = 0; c < channels; c++) {
        min[c] = INT64_MAX;
        max[c] = INT64_MIN;
        for (int64_t row = 0; row < rows; row++) {
            int64_t a = acc[row * channels + c];
            min[c] = a < min[c] ? a : min[c];
            max[c] = a > max[c] ? a : max[c];
        }
    }
}

static void follow_convolution(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_product *self = node->self;
    const struct oct_value *y = &g->values[node->out];
    struct follower *f = &watch.follower[node->out];
    const struct oct_node *joined = y->pre->joined >= 0 ? &g->nodes[y->pre->joined] : NULL;
    const int64_t n = oct_value_elements(y), rows = n / y->c;
    int64_t *acc = accumulate(node), min[CHANNELS], max[CHANNELS];
    int32_t by[OCT_SHIFT_ENTRIES], bias[CHANNELS];
    int8_t *want = malloc((size_t)n);
    float amax[CHANNELS];
    const struct oct_acc_stats stats = {.min = min, .max = max};
    struct oct_shift_finalize_args s = {.channels = y->c,
        .bias = y->pre->joined_bias >= 0 ? g->params[y->pre->joined_bias].value->data : NULL,
        .bias_count = 1,
        .relu = joined && ((const struct oct_activation *)joined->self)->relu,
        .y_scale = device_scale(&g->values[node->in[0]]),
        .w_scale = self->w_range.scale->data,
        .x_scale = device_scale(y),
        .shift = {by, bias},
        .amax = amax};

    oracle_shift_finalize(&s);
    largest_of(acc, rows, y->c, min, max);
    s.acc = &stats;
    oracle_shift_finalize(&s);
    expect_scale(y, f, amax, y->c, OCT_ROLE_Y);
    for (int64_t i = 0; i < n; i++)
        want[i] = (int8_t)oracle_shift_code(
            acc[i] + bias[i % y->c], by[OCT_SHIFT_RIGHT], s.relu ? 0 : -127);
    expect_codes(y, want, n);
    watch.convolutions++;
    free(acc);
    free(want);
}

/* The name of an affine node is its owner's and its bias's: "layer1.0.bias2b". */
static void params_of(
    const struct oct_node *node, const struct oct_param **scale, const struct oct_param **bias)
{
    char owner[64];
    snprintf(owner, sizeof owner, "%s", node->name);
    char *dot = strrchr(owner, '.');
    *bias = named_param("", node->name);
    *scale = NULL;
    if (dot && strcmp(dot, ".bias2b") == 0 && node->in[1] >= 0) {
        *dot = 0;
        *scale = named_param(owner, "scale");
    }
}

static void follow_activation(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_activation *self = node->self;
    const struct oct_value *y = &g->values[node->in[0]], *out = &g->values[node->out];
    const struct oct_value *residual = node->in[1] >= 0 ? &g->values[node->in[1]] : NULL;
    const struct oct_param *scale, *bias;
    const int64_t n = oct_value_elements(y);
    int32_t by[OCT_SHIFT_ENTRIES], biases[CHANNELS];
    int8_t *want = malloc((size_t)n);
    float amax;

    if (self->done)
        return;
    params_of(node, &scale, &bias);
    cr_assert(bias && (scale || !residual), "%s", node->name);
    const struct oct_shift_finalize_args s = {.channels = y->c,
        .scale = scale ? scale->value->data : NULL,
        .bias = bias->value->data,
        .bias_count = 1,
        .window = y->window,
        .relu = self->relu,
        .y_scale = device_scale(y),
        .residual_scale = residual ? device_scale(residual) : NULL,
        .x_scale = device_scale(out),
        .shift = {by, biases}};
    const struct oct_act_shift_args a = {.rows = n / y->c,
        .channels = y->c,
        .y = y->window ? y->real->data : y->codes->data,
        .y_dtype = y->window ? OCT_S32 : OCT_S8,
        .residual = residual ? residual->codes->data : NULL,
        .shift = s.shift,
        .relu = self->relu,
        .x = want,
        .amax = &amax};
    oracle_shift_finalize(&s);
    oracle_act_shift(&a);
    expect_scale(out, &watch.follower[node->out], &amax, 1, OCT_ROLE_X);
    expect_codes(out, want, n);
    watch.activations++;
    free(want);
}

/* Every summed error is a code of 8 bits, where they have a flag of either unit. Behind weights
 * that are still 0 there is none. */
static void check_sum(
    const struct oct_node *node, const void *grad, enum oct_dtype dtype, int64_t n)
{
    const float *scale = watch.t->graph->values[node->out].grad_range.scale->data;
    double largest = 0.0, unit = watch.flag ? 128.0 : 1.0;
    for (int64_t i = 0; i < n; i++) {
        double error = oracle_at(grad, dtype, i),
               code = *scale > 0.0f ? error / (double)*scale : 0.0;
        if (*scale == 0.0f && error != 0.0)
            cr_assert_fail("%s element %lld: %g without a unit", node->name, (long long)i, error);
        bool coarse = fmod(code, unit) == 0.0 && fabs(code) <= 127.0 * unit;
        if (!coarse && !(watch.flag && code == floor(code) && fabs(code) < 128.0))
            cr_assert_fail("%s element %lld: %g units", node->name, (long long)i, code);
        watch.fine += !coarse;
        largest = fmax(largest, fabs(code));
    }
    cr_assert(*scale == 0.0f || largest >= 90.0 * unit, "%s: largest code %g", node->name, largest);
    watch.sums++;
}

/* Runs between the ops of a step; device memory is host memory here. */
static void see_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    (void)user;
    if (strcmp(what, "grad") == 0)
        check_sum(node, device, dtype, count);
    if (strcmp(what, "y_codes") == 0)
        follow_convolution(node);
    if (strcmp(node->type->name, "affine") == 0 && strcmp(what, "codes") == 0)
        follow_activation(node);
}

static void follow(const struct oct_options *o, int steps)
{
    double loss[16];
    watch.t = run_open(o);
    cr_assert_leq(watch.t->graph->value_count, VALUES);
    watch.flag = watch.t->graph->numerics->role[OCT_ROLE_DX].grid == OCT_GRID_FLAG;
    watch.t->observer.tensor = see_tensor;
    oct_cpu_flush_subnormals();
    run_steps(watch.t, steps, loss);
    oct_trainer_close(watch.t);
    /* 3 blocks: the stem, two convolutions each, two shortcuts */
    cr_assert_eq(watch.convolutions, steps * 9);
    /* 3 blocks of x + b1a, relu + b2a and the end; the features */
    cr_assert_eq(watch.activations, steps * 10);
    /* 3 blocks of two inputs of convolutions */
    cr_assert_eq(watch.sums, steps * 6, "%d", watch.sums);
    cr_assert_eq(watch.fine > 0, watch.flag);
    /* scales of earlier steps clip, but rarely */
    cr_assert_lt((double)watch.clipped, 0.02 * (double)watch.codes);
    cr_assert_gt(watch.clipped, 0);
}

Test(eoq, codes_and_scales_are_those_of_the_oracle)
{
    struct oct_options o = small_run();
    follow(&o, 6);
}

Test(eoq, codes_and_scales_of_one_plane_and_strict_updates)
{
    struct oct_options o = small_run();
    o.first_last = "int8";
    o.scheme_opt = "update=strict,error=qe1,e1=qe1";
    follow(&o, 6);
}

/* --- no activation in reals --- */

static enum oct_status no_act_fwd(oct_backend *backend, const struct oct_act_fwd_args *args)
{
    (void)backend, (void)args;
    cr_assert_fail("a float activation");
    return OCT_INTERNAL;
}

static enum oct_status no_bn(oct_backend *backend, const struct oct_bn_finalize_args *args)
{
    (void)backend, (void)args;
    cr_assert_fail("a normalisation");
    return OCT_INTERNAL;
}

static enum oct_status no_affine(oct_backend *backend, const struct oct_affine_finalize_args *args)
{
    (void)backend, (void)args;
    cr_assert_fail("float coefficients of an activation");
    return OCT_INTERNAL;
}

/* Every tensor of the forward pass is codes, or sums of codes; excepted are the images before they
 * are quantised, and the logits, which the loss reads. */
static void walk(const struct oct_graph *g)
{
    for (int i = 0; i < g->node_count; i++) {
        const struct oct_node *node = &g->nodes[i];
        const struct oct_activation *act = node->self;
        cr_expect_str_neq(node->type->name, "norm");
        if (strcmp(node->type->name, "affine") == 0 && act->done) /* made one node earlier */
            cr_expect_leq(act->a->first, g->values[node->in[0]].producer, "%s", node->name);
        if (node->is_product && node->has_dgrad && g->values[node->out].pre)
            cr_expect(g->values[node->in[0]].grad_on_codes, "%s: its dX stays real", node->name);
    }
    for (int i = 0; i < g->value_count; i++) {
        const struct oct_value *value = &g->values[i];
        bool logits = i == g->logits, loss = i == g->value_count - 1;
        bool sums = value->real && value->real_dtype == OCT_S32;
        if (value->kind == OCT_VALUE_IMAGE || logits || loss)
            continue;
        cr_expect(!value->real || sums, "%s is stored in %s", value->name,
            oct_dtype_name(value->real_dtype));
        cr_expect(value->codes || sums, "%s has no codes", value->name);
    }
}

Test(eoq, no_activation_is_a_real)
{
    static const char *const models[] = {
        "fixup_resnet8", "fixup_resnet20", "fixup_resnet18", "fixup_resnet50"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct oct_options o = small_run();
        double loss[2];
        o.model = models[i];
        o.synthetic_size = 32;
        o.batch_size = 2;
        oct_trainer *t = run_open(&o);
        walk(t->graph);
        t->backend->act_fwd = no_act_fwd;
        t->backend->bn_finalize = no_bn;
        t->backend->affine_finalize = no_affine;
        run_steps(t, 2, loss);
        oct_trainer_close(t);
    }
}

/* --- updates --- */

/* All values are multiples of `unit`, at most `most` of them. */
static void expect_on_grid(const char *name, const float *x, int64_t n, double unit, double most)
{
    for (int64_t i = 0; i < n; i++) {
        double steps = x[i] / unit;
        cr_assert(steps == nearbyint(steps) && fabs(steps) <= most,
            "%s element %lld: %g is no multiple of %g, or above %g of them", name, (long long)i,
            (double)x[i], unit, most);
    }
}

static const struct oct_range_state *range_of_weight(const struct oct_graph *g, int param)
{
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].is_product && ((struct oct_product *)g->nodes[i].self)->weight == param)
            return &((struct oct_product *)g->nodes[i].self)->w_range;
    return NULL;
}

static void expect_updates(const oct_trainer *t, bool strict)
{
    const struct oct_graph *g = t->graph;
    const bool kept = t->numerics.update.keeps_magnitude;
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *p = &g->params[i];
        const struct oct_range_state *range = range_of_weight(g, i);
        if (!range || !kept) /* else the grid follows the gradient's unit */
            expect_on_grid(p->name, p->momentum->data, p->count, 0x1p-12, 1e9);
        if (range && strict)
            expect_on_grid(
                p->name, p->value->data, p->count, *(const float *)range->scale->data, 127.0);
        else
            expect_on_grid(p->name, p->value->data, p->count, 0x1p-23, 1e9);
    }
}

static void check_updates(const char *options, bool strict)
{
    struct oct_options o = small_run();
    double loss[1];
    o.scheme_opt = options;
    o.first_last = "int8";
    oct_trainer *t = run_open(&o);
    for (int step = 0; step < 8; step++) {
        run_steps(t, 1, loss);
        expect_updates(t, strict);
    }
    oct_trainer_close(t);
}

Test(eoq, wide_updates_stay_on_their_grids)
{
    check_updates("update=wide", false);
    check_updates("gradient=cq", false);
    check_updates("gradient=cq,momentum=none", false);
}

Test(eoq, strict_weights_are_codes_after_every_step)
{
    check_updates("update=strict", true);
    check_updates("update=strict,gradient=cq", true);
}

/* The unit of a weight comes from its initial values, or from the floor, and never moves. */
Test(eoq, units_of_weights_are_fixed)
{
    struct oct_options o = small_run();
    float before[VALUES], loss_unit;
    double loss[12];
    oct_trainer *t = run_open(&o);
    const struct oct_graph *g = t->graph;
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_range_state *range = range_of_weight(g, i);
        const float *w = g->params[i].value->data;
        const int64_t *dim = g->params[i].dim;
        float amax = 0.0625f;
        for (int64_t k = 0; k < g->params[i].count; k++)
            amax = fabsf(w[k]) > amax ? fabsf(w[k]) : amax;
        if (!range)
            continue;
        if (g->params[i].initial_value == 0.0f) /* 4 deviations of He's: sqrt(2 / fan out) */
            amax = fmaxf(amax, 4.0f * sqrtf(2.0f / (float)(dim[0] * dim[1] * dim[2])));
        before[i] = *(const float *)range->scale->data;
        loss_unit = range->code_max == 127 ? 128.0f : 16384.0f;
        cr_expect_eq(
            before[i], ldexpf(1.0f, (int)ceilf(log2f(amax))) / loss_unit, "%s", g->params[i].name);
    }
    run_steps(t, 12, loss);
    for (int i = 0; i < g->param_count; i++)
        if (range_of_weight(g, i))
            cr_expect_eq(before[i], *(const float *)range_of_weight(g, i)->scale->data, "%s",
                g->params[i].name);
    oct_trainer_close(t);
}

/* A weight that is a code moves by whole codes, on average by what was asked. With step s codes, of
 * which the fraction p = 1/4 + k/16 is left to chance, n = 2^16 draws have a mean of s +- 5
 * sqrt(p (1 - p) / n): 5 standard errors of independent draws. Chi-square of the bytes themselves:
 * test_rng.c. */
Test(eoq, strict_updates_are_unbiased)
{
    enum { N = 1 << 16 };
    for (int k = 0; k < 8; k++) {
        const double fraction = 0.25 + k / 16.0, step = 2.0 + fraction, unit = 0x1p-8;
        const struct oct_fixed_rates rates = {
            .lr = 0x1p-4f, .increment = OCT_INCREMENT_GRID, .unit = (float)unit};
        const uint32_t key = oct_rounding_key(11, (uint32_t)k, 5);
        double sum = 0.0;
        for (int i = 0; i < N; i++) {
            float w = 0.0f, momentum = 0.0f, g = (float)(step * unit * 16.0);
            oct_fixed_element(&w, &momentum, g, rates, oct_rounding_byte(key, (uint64_t)i));
            double codes = -w / unit;
            cr_assert(codes == 2.0 || codes == 3.0);
            sum += codes;
        }
        cr_expect_leq(fabs(sum / N - step), 5.0 * sqrt(fraction * (1.0 - fraction) / N), "%g: %g",
            step, sum / N);
    }
}

/* --- runs --- */

Test(eoq, a_resumed_run_is_the_same_run)
{
    enum { BEFORE = 4, STEPS = 9 };
    static const char *const options[] = {
        "update=wide", "update=strict,error=qe1,e1=qe1,gradient=cq"};
    char *folder = folder_make(), path[300];
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    for (int i = 0; i < 2; i++) {
        struct oct_options o = small_run();
        double want[STEPS], got[STEPS];
        o.scheme_opt = options[i];
        o.nesterov = i;
        o.first_last = "int8";
        oct_trainer *t = run_open(&o);
        run_steps(t, STEPS, want);
        oct_trainer_close(t);
        t = run_open(&o);
        run_steps(t, BEFORE, got);
        cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
        oct_trainer_close(t);
        o.threads = 1;
        t = run_open(&o);
        cr_assert_eq(oct_trainer_load(t, path), OCT_OK, "%s", oct_last_error());
        run_steps(t, STEPS - BEFORE, got + BEFORE);
        oct_trainer_close(t);
        cr_expect_arr_eq(got, want, sizeof want, "%s", options[i]);
    }
    folder_remove(folder);
}

static void expect_refusal(const struct oct_options *o, const char *word)
{
    oct_trainer *t = NULL;
    cr_expect_neq(oct_trainer_open(o, &t), OCT_OK, "%s", o->model);
    cr_expect_null(t);
    cr_expect(strstr(oct_last_error(), word), "'%s' does not say '%s'", oct_last_error(), word);
    cr_expect_null(strchr(oct_last_error(), '\n'));
}

Test(eoq, what_makes_no_sense_is_refused)
{
    static const char *const normalised[] = {"resnet8", "vgg11", "preact_resnet8"};
    struct oct_options o = small_run();
    o.synthetic_size = 32;
    for (int i = 0; i < 3; i++) {
        o.model = normalised[i];
        expect_refusal(&o, "scheme eoq has no batch normalisation; use fixup_resnet20");
    }
    o.model = "lenet5";
    o.synthetic_size = 28;
    expect_refusal(&o, "fixup_resnet20");
    o = small_run();
    o.first_last = "float";
    expect_refusal(&o, "integer only");
    o = small_run();
    o.int8_wgrad = 0;
    expect_refusal(&o, "integer only");
    o = small_run();
    o.scheme_opt = "update=narrow";
    expect_refusal(&o, "wide|strict");
    o.scheme_opt = "update=strict"; /* of 15-bit codes */
    expect_refusal(&o, "--first-last int8");
}
