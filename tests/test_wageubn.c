/* The fixed-point scheme in real training runs of a pre-activation network: known answers of its
 * quantisers; then activations, errors, summed errors and the update of every parameter, each
 * against an oracle that keeps its own state over a checkpoint; codes within their widths. */
#include "oracle/oracle_fixed.h"
#include "oracle/oracle_norm.h"
#include "oracle/oracle_ops.h"
#include "oracle/oracle_scheme.h"
#include "cpu/cpu.h"
#include "support/followed.h"
#include "support/norm_reduced.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 64, CHANNELS = NORM_REDUCED_CHANNELS, ELEMENTS = 16 * 16 * 16 * 16 };

/* What the oracle remembers of one node; pointers are device memory, which is host memory here. */
struct follower {
    float clip; /* moving average of the largest activation */
    bool visited;
    const float *a, *b, *ix, *jx, *xhat_max, *m1, *m2;
    const uint8_t *mask;
};

/* One per test process. */
static struct watch {
    oct_trainer *t;
    struct follower follower[NODES];
    int64_t forwards, backwards, sums, updates, fine; /* fine: errors in the unit of the flag */
    float dy[ELEMENTS], gamma_q[CHANNELS], beta_q[CHANNELS];
    int8_t codes[ELEMENTS];
    uint8_t mask[ELEMENTS / 8];
    struct kept_params kept; /* before the update */
} watch;

static struct oct_options small_run(void)
{
    struct oct_options o = run_options("wageubn");
    o.momentum = 0.25;
    o.weight_decay = 1e-4;
    return o;
}

/* --- known answers --- */

static const struct oct_policy *policy_of(enum oct_role role)
{
    return &oct_scheme_find("wageubn")->role[role];
}

static int code_of(const struct oct_policy *policy, float clip, float x)
{
    int code_max = oct_format_code_max(policy->format);
    struct oct_steps steps = oct_steps_of_clip(clip, code_max, policy->pow2);
    return oct_quantise_on(policy->grid, x, steps.inverse, code_max);
}

Test(wageubn, known_answers_of_weights)
{
    static const float w[] = {0.5f, -0.3f, 0.004f, 0.9999f, -1.7f};
    static const int want[] = {64, -38, 1, 127, -127};
    const struct oct_policy *policy = policy_of(OCT_ROLE_W_FWD);
    cr_assert_eq(policy->clip, OCT_CLIP_FIXED);
    cr_assert_eq(oct_steps_of_clip(policy->a, 127, policy->pow2).scale, 0x1p-7f);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(code_of(policy, policy->a, w[i]), want[i], "%g", (double)w[i]);
}

static const float errors[] = {3e-4f, -1.2e-4f, 5e-6f, 1e-6f, -2e-8f};

Test(wageubn, known_answers_of_summed_errors)
{
    static const int want[] = {127, -63, 3, 1, 0};
    for (int i = 0; i < 5; i++)
        cr_assert_eq(code_of(policy_of(OCT_ROLE_DX), errors[0], errors[i]), want[i]);
}

/* Two planes: 128 times a code of unit sc, or a code of unit sc / 128. */
Test(wageubn, known_answers_of_errors)
{
    static const int want[] = {127 * 128, -63 * 128, 3 * 128, 67, -1};
    static const double value[] = {2.42233e-4, -1.20163e-4, 5.72205e-6, 9.98378e-7, -1.49012e-8};
    const struct oct_policy *policy = policy_of(OCT_ROLE_DY_DW);
    struct oct_steps steps = oct_steps_of_clip(errors[0], OCT_CODE16_MAX, policy->pow2);
    for (int i = 0; i < 5; i++) {
        int code = code_of(policy, errors[0], errors[i]);
        double real = (double)((float)code * steps.scale);
        cr_assert_eq(code, want[i], "%g: %d", (double)errors[i], code);
        cr_assert(fabs(real - value[i]) < 1e-5 * fabs(value[i])); /* six figures are given */
    }
    cr_assert_eq(128.0f * steps.scale, 0x1p-19f); /* sc = 1.90735e-6 */
}

/* lr 2^-9 times G 2^-14 is the last bit of a weight; a quarter of a momentum's unit is one of G. */
Test(wageubn, widths_fit_each_other)
{
    const struct oct_update_policy *u = &oct_scheme_find("wageubn")->update;
    cr_assert_eq(512.0f * u->gradient_steps, u->weight_steps);
    cr_assert_eq(4.0f * u->momentum_steps, u->gradient_steps);
    cr_assert_eq(oct_update_lr(u, 0.05), 26.0 / 512.0);
}

Test(wageubn, the_range_of_gradients_falls_with_the_run)
{
    const struct oct_update_policy *u = &oct_scheme_find("wageubn")->update;
    static const float want[] = {128, 128, 128, 128, 128, 128, 32, 32, 8, 2};
    for (int epoch = 0; epoch < 10; epoch++)
        cr_assert_eq(oct_update_range(u, epoch, 10), want[epoch], "epoch %d", epoch);
    cr_assert_eq(oct_update_range(u, 0, 1), 128.0f);
    cr_assert_eq(oct_update_range(u, 99, 100), 2.0f);
    cr_assert_eq(oct_update_range(u, 59, 100), 128.0f);
}

Test(wageubn, initial_weights_lie_on_16_bits)
{
    struct oct_options o = small_run();
    oct_trainer *t = run_open(&o);
    for (int i = 0; i < t->graph->param_count; i++) {
        const struct oct_param *p = &t->graph->params[i];
        const float *w = p->value->data;
        for (int64_t j = 0; j < p->count; j++)
            if (w[j] * 32768.0f != rintf(w[j] * 32768.0f))
                cr_assert_fail("%s[%lld] = %a", p->name, (long long)j, (double)w[j]);
    }
    oct_trainer_close(t);
}

/* --- forward --- */

static const struct oct_param *param_of(const char *node, const char *suffix)
{
    char name[160];
    snprintf(name, sizeof name, "%s.%s", node, suffix);
    for (int i = 0; i < watch.t->graph->param_count; i++)
        if (strcmp(watch.t->graph->params[i].name, name) == 0)
            return &watch.t->graph->params[i];
    cr_assert_fail("no parameter %s", name);
    return NULL;
}

/* The power of two next to a magnitude, by the definition. */
static float power_of(float largest)
{
    int e;
    double m = frexp((double)largest, &e);
    return largest > 0.0f ? (float)ldexp(1.0, m * m > 0.5 ? e : e - 1) : 0.0f;
}

static int64_t rows_of(const struct oct_value *y)
{
    return (int64_t)y->n * y->h * y->w;
}

static void check_forward(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = &g->values[node->in[0]], *out = &g->values[node->out];
    struct follower *f = &watch.follower[node->index];
    const float *gamma = param_of(node->name, "weight")->value->data;
    const float *beta = param_of(node->name, "bias")->value->data;
    int64_t n = oct_value_elements(out);
    uint32_t flag = 0;
    float amax = 0.0f, scale, inverse;

    cr_assert(n <= ELEMENTS && y->c <= CHANNELS);
    for (int c = 0; c < y->c; c++) {
        watch.gamma_q[c] = oracle_on_grid(gamma[c], 128.0f);
        watch.beta_q[c] = oracle_on_grid(beta[c], 128.0f);
    }
    struct oct_act_fwd_args args = {.rows = rows_of(y),
        .channels = y->c,
        .y = y->real->data,
        .y_dtype = y->real_dtype,
        .a = watch.gamma_q,
        .b = watch.beta_q,
        .ix = f->ix,
        .jx = f->jx,
        .xhat_steps = 128.0f,
        .relu = 1,
        .amax = &amax,
        .flag = &flag};
    oracle_act_fwd(&args);
    f->clip = f->visited
                  ? oracle_add(oracle_mul(oracle_sub(1.0f, 0.1f), f->clip), oracle_mul(0.1f, amax))
                  : amax;
    f->visited = true;
    scale = power_of(f->clip) / 128.0f;
    inverse = 1.0f / scale;
    cr_assert(
        *(float *)out->range.clip->data == f->clip && *(float *)out->range.scale->data == scale,
        "%s: clip %a, oracle %a", node->name, (double)*(float *)out->range.clip->data,
        (double)f->clip);
    args.amax = NULL;
    args.x = watch.codes;
    args.x_dtype = OCT_S8;
    args.x_range = (struct oct_range){.inverse = &inverse, .count = 1, .code_max = 127};
    args.mask = watch.mask;
    oracle_act_fwd(&args);
    cr_assert_eq(flag, 0u);
    cr_assert(memcmp(out->codes->data, watch.codes, (size_t)n) == 0, "%s: codes of x", node->name);
    cr_assert(memcmp(f->mask, watch.mask, (size_t)(n + 7) / 8) == 0, "%s: mask", node->name);
    watch.forwards++;
}

/* --- backward --- */

/* dY of a node into watch.dy; the largest magnitude. */
static float make_dy(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = &g->values[node->in[0]], *out = &g->values[node->out];
    const struct follower *f = &watch.follower[node->index];
    const bool norm = strcmp(node->type->name, "norm") == 0;
    static struct norm_reduced r;
    uint32_t flag = 0;
    float largest = 0.0f;
    struct oct_bn_bwd_apply_args args = {.rows = rows_of(y),
        .channels = y->c,
        .da = out->grad->data,
        .da_dtype = out->grad_dtype,
        .y = norm ? y->real->data : out->grad->data,
        .y_dtype = norm ? y->real_dtype : out->grad_dtype,
        .a = f->a,
        .b = f->b,
        .ix = f->ix,
        .jx = f->jx,
        .m1 = f->m1,
        .m2 = f->m2,
        .mask = f->mask,
        .dy = watch.dy,
        .dy_dtype = OCT_F32,
        .flag = &flag};
    int64_t n = args.rows * args.channels;

    cr_assert(n <= ELEMENTS);
    if (norm) {
        norm_reduce(&args, f->xhat_max, 0.0f, &r);
        args.m1 = r.m1;
        args.m2 = r.m2;
    }
    oracle_bn_bwd_apply(&args, NULL);
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(watch.dy[i]));
    return largest;
}

static void check_error(const struct oct_node *node)
{
    const struct oct_value *y = &watch.t->graph->values[node->in[0]];
    const struct oct_pre *pre = y->pre;
    const struct oct_range_state *range =
        pre->need_channel ? &pre->channel_range : &pre->tensor_range;
    const int8_t *hi = (pre->need_channel ? pre->dy_channel : pre->dy_tensor)->data;
    const int8_t *lo = oct_buffer_data(pre->need_channel ? pre->dy_channel_lo : pre->dy_tensor_lo);
    const float power = power_of(make_dy(node));
    const float step = power / (lo ? 16384.0f : 128.0f);

    cr_assert(!pre->need_channel || !pre->need_tensor, "%s: two copies of equal codes", node->name);
    cr_assert(*(float *)range->scale->data == step, "%s: scale %a, oracle %a", node->name,
        (double)*(float *)range->scale->data, (double)step);
    for (int64_t i = 0; i < oct_value_elements(y); i++) {
        int got = lo ? 128 * hi[i] + lo[i] : hi[i];
        int want = oracle_grid_code(
            lo ? OCT_GRID_FLAG : OCT_GRID_UNIFORM, watch.dy[i], 1.0f / step, lo ? 16256 : 127);
        if (got != want) /* an assertion each would take minutes */
            cr_assert_fail("%s element %lld step %lld: dY %a, code %d, oracle %d", node->name,
                (long long)i, (long long)watch.t->at.step, (double)watch.dy[i], got, want);
        /* a product of 8-bit numbers and a flag: 127 codes of either unit */
        if (lo && !(abs(got) <= 128 || got % 128 == 0))
            cr_assert_fail("%s: code %d has more than 8 bits and a flag", node->name, got);
        watch.fine += lo && got != 0 && abs(got) < 128;
    }
    watch.backwards++;
}

/* Every summed error is a code of 8 bits, and the largest has seven of them: R <= sqrt(2) max. */
static void check_sum(
    const struct oct_node *node, const void *grad, enum oct_dtype dtype, int64_t n)
{
    const float *scale = watch.t->graph->values[node->out].grad_range.scale->data;
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double code = oracle_at(grad, dtype, i) / (double)*scale;
        if (code != floor(code) || fabs(code) > 127.0)
            cr_assert_fail("%s element %lld: %g units", node->name, (long long)i, code);
        largest = fmax(largest, fabs(code));
    }
    cr_assert(largest >= 90.0, "%s: largest code %g", node->name, largest);
    watch.sums++;
}

/* Runs between the ops of a step. */
static void see_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    static const struct {
        const char *what;
        size_t offset;
    } kept[] = {{"a", offsetof(struct follower, a)}, {"b", offsetof(struct follower, b)},
        {"ix", offsetof(struct follower, ix)}, {"jx", offsetof(struct follower, jx)},
        {"xhat_max", offsetof(struct follower, xhat_max)}, {"m1", offsetof(struct follower, m1)},
        {"m2", offsetof(struct follower, m2)}, {"mask", offsetof(struct follower, mask)}};
    (void)user;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (strcmp(what, kept[i].what) == 0)
            memcpy((char *)&watch.follower[node->index] + kept[i].offset, &device, sizeof device);
    if (strcmp(what, "grad") == 0)
        check_sum(node, device, dtype, count);
    if (strcmp(what, "codes") == 0 && strcmp(node->type->name, "norm") == 0)
        check_forward(node);
    if (strcmp(what, "dy_dw") == 0 || strcmp(what, "dy_dx") == 0)
        check_error(node);
}

/* --- the update --- */

static void check_update(bool edges_in_float)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_options *o = &watch.t->options;
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *p = &g->params[i];
        bool edge = strcmp(p->name, "conv1.weight") == 0 || strcmp(p->name, "fc.weight") == 0;
        float largest, wd = p->decay ? (float)o->weight_decay : 0.0f;
        struct oct_sgd_fixed_args a = {.count = p->count,
            .w = watch.kept.w[i],
            .momentum = watch.kept.momentum[i],
            .dw = p->grad->data,
            .step = g->step->data,
            .tensor = (uint32_t)(g->node_count + i),
            .mu = 0.25f,
            .weight_decay = wd,
            .normalise = p->dims == 4 || edge,
            .gradient_steps = 16384.0f,
            .momentum_steps = 4096.0f,
            .weight_steps = 8388608.0f,
            .gradient_amax = &largest};
        struct oct_sgd_args in_float = {.count = a.count,
            .w = a.w,
            .momentum = a.momentum,
            .dw = a.dw,
            .step = a.step,
            .mu = a.mu,
            .weight_decay = wd};
        if (edge && edges_in_float)
            oracle_sgd(&in_float);
        else
            oracle_sgd_fixed(&a);
        kept_params_expect(&watch.kept, g, i);
        watch.updates++;
    }
}

static void advance(int steps, double *loss)
{
    const bool edges_in_float = strcmp(watch.t->options.first_last, "float") == 0;
    for (int i = 0; i < steps; i++) {
        kept_params_take(&watch.kept, watch.t->graph);
        run_steps(watch.t, 1, &loss[i]);
        check_update(edges_in_float);
    }
}

static void open_watched(const struct oct_options *o)
{
    watch.t = run_open(o);
    cr_assert_leq(watch.t->graph->node_count, NODES);
    watch.t->observer.tensor = see_tensor;
    oct_cpu_flush_subnormals();
}

static void forget(void)
{
    struct watch empty = {.kept = watch.kept};
    watch = empty;
}

static void follow(const struct oct_options *o)
{
    static const struct followed_run run = {&watch.t, open_watched, advance, forget};
    follow_over_checkpoint(&run, o);
    cr_assert_eq(watch.forwards, 20 * 7);
    cr_assert_eq(watch.sums, 20 * 6);
    cr_assert_gt(watch.updates, 20 * 20);
}

Test(wageubn, every_step_is_the_oracles)
{
    struct oct_options o = small_run();
    follow(&o);
    cr_assert_eq(watch.backwards, 20 * 9);
    cr_assert_gt(watch.fine, 1000);
}

Test(wageubn, every_step_is_the_oracles_with_float_ends_and_plain_errors)
{
    struct oct_options o = small_run();
    o.first_last = "float";
    o.scheme_opt = "e2=plain,dr=128";
    follow(&o);
    cr_assert_eq(watch.backwards, 20 * 8);
    cr_assert_eq(watch.fine, 0);
}

/* --- other networks, reports, refusals --- */

/* A post-activation network's trunk goes through the codes of summed errors too. */
Test(wageubn, post_activation_networks_have_equal_bits)
{
    static const char *const isas[] = {"c", "amx-emulated", "simulate"};
    double loss[3][10];
    for (int i = 0; i < 3; i++) {
        struct oct_options o = small_run();
        o.model = "resnet8";
        o.synthetic_size = 8;
        o.isa = isas[i];
        oct_trainer *t = run_open(&o);
        run_steps(t, 10, loss[i]);
        oct_trainer_close(t);
        cr_assert_arr_eq(loss[i], loss[0], sizeof loss[0], "%s", isas[i]);
    }
}

/* Both kinds of residual networks, on pictures: the loss falls by a twentieth in 40 steps. */
Test(wageubn, networks_learn)
{
    static const char *const models[] = {"preact_resnet8", "resnet8"};
    for (int m = 0; m < 2; m++) {
        struct oct_options o = small_run();
        double loss[40], first = 0.0, last = 0.0;
        o.dataset = "idx";
        o.data = "data/fashion-mnist-15k";
        o.model = models[m];
        o.lr = 0.25;
        oct_trainer *t = run_open(&o);
        run_steps(t, 40, loss);
        oct_trainer_close(t);
        for (int i = 0; i < 10; i++) {
            first += loss[i];
            last += loss[30 + i];
        }
        cr_assert_lt(
            last, 0.95 * first, "%s: loss from %g to %g", models[m], first / 10.0, last / 10.0);
    }
}

/* The widths of 3.2 hold in real steps: |n| < dr, 13 bits of momentum, |W| < 1 in 24 bits. */
Test(wageubn, codes_stay_within_their_widths)
{
    static const double range[] = {128.0, 32.0, 8.0, 2.0};
    static const int epoch[] = {0, 6, 8, 9};
    struct oct_options o = small_run();
    double loss[20];
    o.epochs = 10;
    o.synthetic_images = 32; /* two steps an epoch */
    oct_trainer *t = run_open(&o);
    for (int i = 0, made = 0; i < 4; i++) {
        struct oct_layer_record rows[NODES];
        size_t count;
        run_steps(t, 2 * epoch[i] - made, loss);
        cr_assert_eq(oct_health(t, rows, &count), OCT_OK, "%s", oct_last_error());
        run_steps(t, 2, loss);
        made = 2 * epoch[i] + 2;
        cr_assert_eq(oct_health(t, rows, &count), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(count, 10);
        for (size_t r = 0; r < count; r++) {
            /* R <= sqrt(2) max: the largest gradient has a code of at least dr / sqrt(2) - 1 */
            cr_expect(
                rows[r].update_code < range[i] && rows[r].update_code >= range[i] * 0.7071 - 1.0,
                "%s: code %g of range %g", rows[r].layer, rows[r].update_code, range[i]);
            /* a gradient's unit is a quarter of the momentum's: codes of 1 leave nothing in it */
            cr_expect(rows[r].momentum_code >= (range[i] > 2.0 ? 1.0 : 0.0) &&
                      rows[r].momentum_code < 4096.0);
            cr_expect(rows[r].update_zeros >= 0.0 && rows[r].update_zeros < 1.0);
        }
    }
    for (int i = 0; i < t->graph->param_count; i++) {
        const struct oct_param *p = &t->graph->params[i];
        cr_expect(!p->codes || *(float *)p->amax->data < 1.0f, "%s: %g", p->name,
            (double)*(float *)p->amax->data);
    }
    oct_trainer_close(t);
}

static void expect_refusal(struct oct_options o, const char *word)
{
    oct_trainer *t = NULL;
    cr_expect_neq(oct_trainer_open(&o, &t), OCT_OK, "%s", o.scheme_opt);
    cr_expect_null(t);
    cr_expect(strstr(oct_last_error(), word), "'%s' does not say '%s'", oct_last_error(), word);
    cr_expect_null(strchr(oct_last_error(), '\n'));
}

Test(wageubn, what_makes_no_sense_is_refused)
{
    struct oct_options o = small_run();
    o.scheme_opt = "e2=wide";
    expect_refusal(o, "flag|plain");
    o.scheme_opt = "xhat=9";
    expect_refusal(o, "8|16");
    o.scheme_opt = "activations=integer";
    expect_refusal(o, "exponent|fraction");
    o.scheme_opt = "dr=64";
    expect_refusal(o, "schedule|128");
    o.scheme_opt = "residual=int8";
    expect_refusal(o, "no option");
    o = small_run();
    o.nesterov = 1;
    expect_refusal(o, "--nesterov");
    o = small_run();
    o.rounding = "stochastic";
    expect_refusal(o, "evenly spaced");
}
