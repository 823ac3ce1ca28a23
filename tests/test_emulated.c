/* Readings of papers whose operands no int8 code holds, emulated in float: known answers of their
 * formulas; every operand and every product of real training steps against formulas in double. */
#include "graph/layers/activation.h"
#include "graph/layers/product.h"
#include "oracle/oracle_fconv.h"
#include "oracle/oracle_norm.h"
#include "oracle/oracle_ops.h"
#include "cpu/cpu.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 64 * 64 * 9, STEPS = 3 }; /* the largest tensor is a weight */

/* --- known answers --- */

/* What a mu-law code stands for, of a largest magnitude of 1. */
static double mu_law_number(int c)
{
    return (double)(float)((powl(256.0L, c / 127.0L) - 1.0L) / 255.0L);
}

Test(emulated, mu_law_numbers_are_the_formula)
{
    for (int c = 0; c <= 127; c++)
        cr_expect_eq((double)oct_mu8_number(c), mu_law_number(c), "code %d: %a", c,
            (double)oct_mu8_number(c));
}

/* .001 -> 5 (.000957), .01 -> 29 (.00999), .1 -> 75 (.09975), .5 -> 111 (.49531), 1 -> 127 */
Test(emulated, mu_law_vectors)
{
    static const float x[] = {0.001f, 0.01f, 0.1f, 0.5f, 1.0f, 1.7f, 1e-5f};
    static const double value[] = {0.000957, 0.00999, 0.09975, 0.49531, 1.0, 1.0, 0.0};
    for (int code_max = 127; code_max <= 16256; code_max *= 128) {
        struct oct_steps steps = oct_steps_of_clip(1.0f, code_max, OCT_POW2_NONE);
        for (int i = 0; i < 7; i++) {
            float got = oct_real_on(OCT_GRID_MU8_NUMBER, x[i], steps, 1.0f, code_max);
            cr_expect_float_eq((double)got, value[i], 6e-6); /* the last digit that is given */
            got = oct_real_on(OCT_GRID_MU8_NUMBER, -x[i], steps, 1.0f, code_max);
            cr_expect_float_eq((double)got, -value[i], 6e-6);
            cr_expect(got != 0.0f || !signbit(got), "code 0 is +0");
        }
    }
}

/* Q(x, 8) = rne(2^7 x) / 2^7, not clipped. */
Test(emulated, fraction_vectors)
{
    static const float x[] = {0.5f, -0.3f, 0.004f, 0.9999f, 1.7f, 7.99f, 100.0f, 0.01171875f};
    static const int code[] = {64, -38, 1, 128, 218, 1023, 12800, 2 /* 1.5, a tie */};
    const struct oct_steps steps = oct_steps_of_clip(1.0f, 127, OCT_POW2_NEAREST);
    cr_assert(steps.scale == 0x1p-7f && steps.inverse == 0x1p7f);
    for (int i = 0; i < 8; i++)
        cr_expect_eq(oct_real_on(OCT_GRID_OPEN, x[i], steps, 1.0f, 127), (float)code[i] * 0x1p-7f);
}

/* --- operands of real steps --- */

/* One per test process. */
static struct watch {
    oct_trainer *t;
    bool mu_law;
    int64_t operands, products, sums,
        large;                       /* large: activations of the fraction reading from 1 on */
    float x[ELEMENTS], dy[ELEMENTS]; /* before they went through their grid */
    float fc_x[8 * 64];              /* the classifier's operand */
    double in[2][ELEMENTS], out[ELEMENTS], magnitude[ELEMENTS];
} watch;

static float largest_of(const float *x, int64_t n)
{
    float most = 0.0f;
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    return most;
}

/* The power of two next to a magnitude, in the logarithm. */
static double power_of(float most)
{
    return most > 0.0f ? exp2(rint(log2((double)most))) : 0.0;
}

/* `got` is s number(c) of a code that x rounds to: exactly one of these numbers, no tolerance. The
 * logarithm in float errs by less than 127 * 2^-20 codes (its argument is rounded three times, its
 * value and the product once each, by 2^-23 at most of at most 127): closer to a tie than that, the
 * code on its other side is right as well. */
static bool is_mu_law(float got, float x, float clip)
{
    double share = clip > 0.0f ? fmin(fabs((double)x) / (double)clip, 1.0) : 0.0;
    double exact = 127.0 * log1p(255.0 * share) / log(256.0);
    for (int c = (int)floor(exact); c <= (int)ceil(exact); c++) {
        float want = (float)((double)clip * mu_law_number(c));
        if (fabs(c - exact) <= 0.5 + 127.0 * 0x1p-20 && got == (x < 0.0f ? -want : want))
            return true;
    }
    return false;
}

static double clipped(double code, double most)
{
    return fmax(-most, fmin(most, code));
}

/* E2: 8 bits of unit R/128, or below one of those 8 bits of unit R/2^14. */
static double error_of(float e, double power)
{
    double u = (double)e * 128.0 / power;
    if (!(power > 0.0))
        return 0.0;
    return fabs(u) >= 1.0 ? clipped(oracle_rne(u), 127.0) * power / 128.0
                          : oracle_rne(128.0 * u) * power / 16384.0;
}

enum operand { OPERAND_X, OPERAND_W, OPERAND_DY };

/* All n numbers `got` are what is left of x. clip: the range's. */
static void expect_on_grid(const struct oct_node *node, enum operand operand, const float *got,
    const float *x, int64_t n, float clip)
{
    const double power = power_of(largest_of(x, n));
    const bool wide = operand == OPERAND_W && node->edge; /* unit 2^-14 */
    const double unit = wide ? 0x1p-14 : 0x1p-7, most = wide ? 16256.0 : 127.0;
    for (int64_t i = 0; i < n; i++) {
        double code = oracle_rne((double)x[i] / unit);
        double want = operand == OPERAND_DY  ? error_of(x[i], power)
                      : operand == OPERAND_W ? clipped(code, most) * unit
                                             : code * unit;
        bool right = watch.mu_law ? is_mu_law(got[i], x[i], clip) : (double)got[i] == want;
        if (!right) /* an assertion each would take minutes */
            cr_assert_fail("%s operand %d element %lld: %a of %a, clip %a, formula %a", node->name,
                (int)operand, (long long)i, (double)got[i], (double)x[i], (double)clip, want);
        watch.large += operand == OPERAND_X && fabsf(got[i]) >= 1.0f;
    }
    watch.operands++;
}

/* x of a normalisation, in f32. */
static void make_x(const struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    uint32_t flag = 0;
    struct oct_act_fwd_args args = {.rows = oct_rows_of(y),
        .channels = y->c,
        .y = y->real->data,
        .y_dtype = OCT_F32,
        .a = (self->rounds ? self->gamma_q : self->a)->data,
        .b = (self->rounds ? self->beta_q : self->b)->data,
        .ix = self->ix->data,
        .jx = self->jx->data,
        .xhat_steps = self->rounds ? 128.0f : 0.0f,
        .residual = residual ? residual->codes->data : NULL, /* numbers on their grid */
        .residual_dtype = OCT_F32,
        .relu = self->relu,
        .x = watch.x,
        .x_dtype = OCT_F32,
        .flag = &flag};
    cr_assert_leq(oct_value_elements(y), ELEMENTS);
    oracle_act_fwd(&args);
    cr_assert_eq(flag, 0u);
}

static void check_x(const struct oct_node *node)
{
    struct oct_graph *g = watch.t->graph;
    const struct oct_value *out = oct_out(g, node);
    const float clip = *oct_range_for(&out->range, g->training).clip;
    int64_t n = oct_value_elements(out);

    if (strcmp(node->type->name, "norm") == 0) {
        make_x(node);
    } else {
        const uint8_t *image = g->images->data;
        for (int64_t i = 0; i < n; i++) {
            float a = (float)(1.0 / (255.0 * g->std[i % out->c]));
            float b = (float)(-g->mean[i % out->c] / g->std[i % out->c]);
            watch.x[i] = oracle_fl((double)oracle_fl((double)image[i] * (double)a) + (double)b);
        }
    }
    if (watch.mu_law && g->training)
        cr_assert_eq(clip, largest_of(watch.x, n), "%s: clip %a", node->name, (double)clip);
    expect_on_grid(node, OPERAND_X, out->codes->data, watch.x, n, clip);
}

static void check_w(const struct oct_node *node)
{
    const struct oct_product *self = node->self;
    const struct oct_param *w = &watch.t->graph->params[self->weight];
    const float clip = *(const float *)self->w_range.clip->data;
    if (watch.mu_law)
        cr_assert_eq(clip, largest_of(w->value->data, w->count), "%s", node->name);
    expect_on_grid(node, OPERAND_W, self->w_emulated->data, w->value->data, w->count, clip);
}

static void check_dy(const struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    const struct oct_pre *pre = y->pre;
    const struct oct_range_state *range =
        pre->need_channel ? &pre->channel_range : &pre->tensor_range;
    const float clip = *(const float *)range->clip->data;
    int64_t n = oct_value_elements(y);
    uint32_t flag = 0;
    struct oct_bn_bwd_apply_args args = {.rows = oct_rows_of(y),
        .channels = y->c,
        .da = out->grad->data,
        .da_dtype = OCT_F32,
        .y = self->rereads_y ? y->real->data : out->grad->data,
        .y_dtype = OCT_F32,
        .a = self->a->data,
        .b = self->b->data,
        .ix = self->ix->data,
        .jx = self->jx->data,
        .m1 = self->m1->data,
        .m2 = self->m2->data,
        .relu = self->relu,
        .mask = oct_buffer_data(self->mask),
        .dy = watch.dy,
        .dy_dtype = OCT_F32,
        .flag = &flag};
    oracle_bn_bwd_apply(&args, NULL);
    cr_assert(pre->need_channel != pre->need_tensor && !pre->dy_channel_lo && !pre->dy_tensor_lo);
    cr_assert_geq(clip, largest_of(watch.dy, n) * (watch.mu_law ? 1.0f : 0.0f), "%s", node->name);
    expect_on_grid(node, OPERAND_DY, (pre->need_channel ? pre->dy_channel : pre->dy_tensor)->data,
        watch.dy, n, clip);
}

/* E1: dX, once it is summed up, is a code of 8 bits of unit R/128. */
static void check_sum(const struct oct_node *node, const float *grad, int64_t n)
{
    const double unit =
        (double)*(const float *)oct_out(watch.t->graph, node)->grad_range.scale->data;
    double most = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double code = (double)grad[i] / unit;
        if (code != oracle_rne(code) || fabs(code) > 127.0)
            cr_assert_fail("%s element %lld: %g units", node->name, (long long)i, code);
        most = fmax(most, fabs(code));
    }
    cr_assert_geq(most, 90.0, "%s: R is at most sqrt(2) times the largest", node->name);
    watch.sums++;
}

/* --- their products --- */

static const double *doubles_of(int slot, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        watch.in[slot][i] = (double)x[i];
    return watch.in[slot];
}

/* A sum of `terms` products in any order, in float, errs by gamma(terms) of the sum of their
 * magnitudes, gamma(n) = n u / (1 - n u), u = 2^-24; subnormals are zero (test_dnnl.c). */
static void expect_product(const struct oct_node *node, const float *got, int64_t n, int64_t terms)
{
    double nu = (double)(terms + 1) * 0x1p-24, gamma = nu / (1.0 - nu);
    for (int64_t i = 0; i < n; i++) {
        double bound = gamma * watch.magnitude[i] + 2.0 * (double)terms * 0x1p-126;
        if (!(fabs((double)got[i] - watch.out[i]) <= bound))
            cr_assert_fail("%s element %lld: %.9g, in double %.9g, bound %.3g", node->name,
                (long long)i, (double)got[i], watch.out[i], bound);
    }
    watch.products++;
}

static const float *x_of(const struct oct_node *node)
{
    const struct oct_value *x = &watch.t->graph->values[node->in[0]];
    return x->pre || !x->codes ? watch.fc_x : x->codes->data;
}

static void check_fprop(const struct oct_node *node, const float *got)
{
    const struct oct_product *self = node->self;
    const struct oct_conv_shape *v = &node->shape;
    const float *bias =
        strcmp(node->name, "fc") == 0 ? watch.t->graph->params[self->weight + 1].value->data : NULL;
    double b[64];

    check_w(node);
    for (int k = 0; bias && k < v->k; k++)
        b[k] = (double)bias[k];
    oracle_fconv_fprop(v, doubles_of(0, x_of(node), oct_conv_x_elements(v)),
        doubles_of(1, self->w_emulated->data, oct_conv_w_elements(v)), bias ? b : NULL, watch.out,
        watch.magnitude);
    expect_product(node, got, oct_conv_y_elements(v), (int64_t)v->r * v->s * v->c + 1);
}

static const float *dy_of(const struct oct_node *node)
{
    const struct oct_pre *pre = watch.t->graph->values[node->out].pre;
    return pre ? (pre->need_channel ? pre->dy_channel : pre->dy_tensor)->data : watch.dy;
}

static void check_wgrad(const struct oct_node *node, const float *got)
{
    const struct oct_conv_shape *v = &node->shape;
    oracle_fconv_wgrad(v, doubles_of(0, x_of(node), oct_conv_x_elements(v)),
        doubles_of(1, dy_of(node), oct_conv_y_elements(v)), watch.out, watch.magnitude);
    expect_product(
        node, got, oct_conv_w_elements(v), (int64_t)v->n * oct_conv_p(v) * oct_conv_q(v));
}

static void check_dgrad(const struct oct_node *node, const float *got)
{
    const struct oct_product *self = node->self;
    const struct oct_conv_shape *v = &node->shape;
    const struct oct_value *x = &watch.t->graph->values[node->in[0]];
    if (oct_value_grad_mode(x, node) == OCT_ACCUMULATE)
        return; /* a sum with what another consumer wrote */
    oracle_fconv_dgrad(v, doubles_of(0, dy_of(node), oct_conv_y_elements(v)),
        doubles_of(1, self->w_emulated->data, oct_conv_w_elements(v)), watch.out, watch.magnitude);
    expect_product(node, got, oct_conv_x_elements(v), (int64_t)v->r * v->s * v->k);
}

/* Operands that only the classifier has, by the definitions in float. */
static void put_on_grid(enum oct_grid grid, int code_max, const float *x, float *to, int64_t n)
{
    const float most = largest_of(x, n);
    const enum oct_pow2 pow2 = watch.mu_law ? OCT_POW2_NONE : OCT_POW2_NEAREST;
    const float clip = grid == OCT_GRID_OPEN ? 1.0f : most;
    const struct oct_steps steps = oct_steps_of_clip(clip, code_max, pow2);
    for (int64_t i = 0; i < n; i++)
        to[i] = oct_real_on(grid, x[i], steps, clip, code_max);
}

static void make_classifier_operands(const struct oct_node *node, bool error)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *x = &g->values[node->in[0]], *y = &g->values[node->out];
    const enum oct_grid mu_law = OCT_GRID_MU8_NUMBER;
    if (error)
        put_on_grid(watch.mu_law ? mu_law : OCT_GRID_FLAG, 16256, y->grad->data, watch.dy,
            oct_value_elements(y));
    else
        put_on_grid(watch.mu_law ? mu_law : OCT_GRID_OPEN, 127, x->real->data, watch.fc_x,
            oct_value_elements(x));
}

/* Runs between the ops of a step. */
static void see_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    (void)user;
    if (strcmp(what, "grad") == 0)
        check_sum(node, device, count);
    if (strcmp(what, "codes") == 0)
        check_x(node);
    if (strcmp(what, "logits") == 0 && watch.t->graph->training)
        make_classifier_operands(node, false);
    if (strcmp(what, "y") == 0 || (strcmp(what, "logits") == 0 && watch.t->graph->training))
        check_fprop(node, device);
    if (strncmp(what, "dy_d", 4) == 0)
        check_dy(node);
    if (strcmp(what, "dw") == 0 && strcmp(node->type->name, "linear") == 0)
        make_classifier_operands(node, true);
    if (strcmp(what, "dw") == 0)
        check_wgrad(node, device);
    if (strcmp(what, "dx") == 0 && node->is_product)
        check_dgrad(node, device);
    if (strcmp(what, "codes") == 0 || strncmp(what, "dy_d", 4) == 0)
        cr_assert_eq(dtype, OCT_F32, "%s %s", node->name, what);
}

/* Three steps, then a forward pass of evaluation, whose ranges are moving averages. */
static void follow(const struct oct_options *o, bool mu_law)
{
    double loss[STEPS];
    watch.mu_law = mu_law;
    watch.t = run_open(o);
    watch.t->observer.tensor = see_tensor;
    oct_cpu_flush_subnormals();
    run_steps(watch.t, STEPS, loss);
    struct oct_graph *g = watch.t->graph;
    g->training = false;
    g->observer = &watch.t->observer;
    cr_assert_eq(oct_graph_forward(g), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(watch.t);
}

/* Of resnet8: in each of three steps the image and 9 normalisations make X, 9 convolutions and the
 * classifier have W, 9 convolutions have dY; evaluation adds 10 X and 9 W. As many products forward
 * as W, 10 dW a step, and of 9 dX the 6 that no other consumer's gradient has begun. */
Test(emulated, mu_law_operands_are_the_formula)
{
    struct oct_options o = run_emulated_options("logbtq", "product=exact");
    follow(&o, true);
    cr_assert_eq(watch.operands, 3 * (10 + 10 + 9) + 10 + 9);
    cr_assert_eq(watch.products, 3 * (10 + 10 + 6) + 9);
}

/* Of preact_resnet8: 7 normalisations instead of 9, 7 of the dX, and 6 of what convolutions read.
 */
Test(emulated, fraction_operands_are_the_formula)
{
    struct oct_options o = run_emulated_options("wageubn", "activations=fraction");
    follow(&o, false);
    cr_assert_gt(watch.large, 1000); /* numbers that an int8 code of unit 2^-7 would have clipped */
    cr_assert_eq(watch.operands, 3 * (8 + 10 + 9) + 8 + 9);
    cr_assert_eq(watch.products, 3 * (10 + 10 + 7) + 9);
    cr_assert_eq(watch.sums, 3 * 6);
}
