/* The published schemes that keep convolution, BN and ReLU, in real training runs: clips, scales
 * and codes of every normalisation, forward and backward, the search for a direction and the
 * update, each against an oracle that keeps its own state from the first step on; equal bits on
 * every instruction set; what their reports say. dai8 and amax: test_schemes.c. */
#include "graph/layers/product.h"
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

enum { NODES = 64, ELEMENTS = 16 * 16 * 16 * 16 };

/* What the oracle remembers of one normalisation. */
struct follower {
    float share, distance, factor;
    const float *a, *b, *ix, *jx, *lo, *hi, *xhat_max, *bound; /* device */
    const uint8_t *mask, *inside;
};

/* One per test process. */
static struct watch {
    oct_trainer *t;
    struct follower follower[NODES];
    int64_t forwards, backwards, searches, updates;
    int64_t clipped; /* elements of clipped channels */
    float z[ELEMENTS], dy[ELEMENTS];
    uint16_t dy16[ELEMENTS];
    int8_t codes[ELEMENTS];
    uint8_t mask[ELEMENTS / 8], inside[ELEMENTS / 8];
    struct kept_params kept; /* before the update */
} watch;

static int64_t rows_of(const struct oct_value *y)
{
    return (int64_t)y->n * y->h * y->w;
}

static bool has_relu(const struct oct_node *node)
{
    return strstr(node->name, "downsample") == NULL;
}

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

/* --- forward --- */

/* Ends of every channel's clip, from gamma and beta alone; returns the largest magnitude. */
static float check_clip(const struct oct_node *node, const struct follower *f, float sigmas)
{
    const float *gamma = param_of(node->name, "weight")->value->data;
    const float *beta = param_of(node->name, "bias")->value->data;
    bool relu = has_relu(node) && node->in[1] < 0;
    float largest = 0.0f;
    for (int c = 0; c < watch.t->graph->values[node->out].c; c++) {
        float width = oracle_mul(sigmas, fabsf(gamma[c]));
        float lo = oracle_sub(beta[c], width), hi = oracle_add(beta[c], width);
        lo = relu && lo < 0.0f ? 0.0f : lo;
        hi = relu && hi < 0.0f ? 0.0f : hi;
        cr_assert(f->lo[c] == lo && f->hi[c] == hi, "%s channel %d: [%g, %g], oracle [%g, %g]",
            node->name, c, (double)f->lo[c], (double)f->hi[c], (double)lo, (double)hi);
        largest = fmaxf(largest, fmaxf(fabsf(lo), fabsf(hi)));
    }
    return largest;
}

static struct oct_act_fwd_args act_args(const struct oct_node *node, uint32_t *flag)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = &g->values[node->in[0]];
    const struct follower *f = &watch.follower[node->index];
    struct oct_act_fwd_args args = {.rows = rows_of(y),
        .channels = y->c,
        .y = y->real->data,
        .y_dtype = y->real_dtype,
        .a = f->a,
        .b = f->b,
        .relu = has_relu(node),
        .clip_lo = f->lo,
        .clip_hi = f->hi,
        .flag = flag};
    if (node->in[1] >= 0) {
        const struct oct_value *residual = &g->values[node->in[1]];
        args.residual = residual->codes->data;
        args.residual_dtype = OCT_S8;
        args.residual_scale = residual->range.scale->data;
    }
    return args;
}

static void check_forward(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *out = &g->values[node->out];
    const struct follower *f = &watch.follower[node->index];
    const struct oct_policy *policy = &out->range.policy;
    const float *got = out->range.clip->data, *scale = out->range.scale->data;
    int64_t n = oct_value_elements(out), bits = (n + 7) / 8, clipped = 0;
    uint32_t flag = 0;
    float clip, inverse;
    struct oct_act_fwd_args args = act_args(node, &flag);

    cr_assert(n <= ELEMENTS);
    if (policy->sigmas > 0.0f) {
        clip = check_clip(node, f, policy->sigmas);
        if (node->in[1] >= 0)
            clip = oracle_add(clip, *(float *)g->values[node->in[1]].range.clip->data);
    } else {
        args.amax = &clip;
        oracle_act_fwd(&args);
        args.amax = NULL;
    }
    cr_assert(*got == clip && *scale == oracle_over(clip, 127.0f), "%s: clip %a, oracle %a",
        node->name, (double)*got, (double)clip);
    inverse = clip > 0.0f ? oracle_over(127.0f, clip) : 0.0f;
    args.x = watch.codes;
    args.x_dtype = OCT_S8;
    args.x_range =
        (struct oct_range){.inverse = &inverse, .count = 1, .code_max = 127, .grid = policy->grid};
    args.mask = f->mask ? watch.mask : NULL;
    args.inside = f->inside ? watch.inside : NULL;
    args.clipped = f->inside ? &clipped : NULL;
    oracle_act_fwd(&args);
    cr_assert_eq(flag, 0u);
    cr_assert(memcmp(out->codes->data, watch.codes, (size_t)n) == 0, "%s: codes of x", node->name);
    cr_assert(!f->mask || memcmp(f->mask, watch.mask, (size_t)bits) == 0, "%s: mask", node->name);
    cr_assert(
        !f->inside || memcmp(f->inside, watch.inside, (size_t)bits) == 0, "%s: inside", node->name);
    watch.clipped += clipped;
    watch.forwards++;
}

/* --- backward --- */

static struct oct_bn_bwd_apply_args backward_args(const struct oct_node *node, uint32_t *flag)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = &g->values[node->in[0]], *out = &g->values[node->out];
    const struct follower *f = &watch.follower[node->index];
    return (struct oct_bn_bwd_apply_args){.rows = rows_of(y),
        .channels = y->c,
        .da = out->grad->data,
        .da_dtype = out->grad_dtype,
        .y = y->real->data,
        .y_dtype = y->real_dtype,
        .a = f->a,
        .b = f->b,
        .ix = f->ix,
        .jx = f->jx,
        .relu = has_relu(node),
        .mask = f->inside ? f->inside : f->mask,
        .flag = flag};
}

/* The oracle's own search in the steps that search, on dY as bf16. */
static void follow_search(const struct oct_node *node, const struct oct_range_state *range,
    struct oct_bn_bwd_apply_args *args, const struct norm_reduced *r)
{
    struct follower *f = &watch.follower[node->index];
    const struct oct_pre *pre = watch.t->graph->values[node->in[0]].pre;
    int64_t sums[OCT_SEARCH_SUMS];
    if (watch.t->at.step % range->policy.search_period == 0) {
        struct oct_cosine_search_args search = {.rows = args->rows,
            .channels = args->channels,
            .x = watch.dy16,
            .dtype = OCT_BF16,
            .amax = r->bound,
            .amax_count = args->channels,
            .code_max = range->code_max,
            .candidates = 16,
            .alpha = 20.0f,
            .beta = 0.1f,
            .share = &f->share,
            .distance = &f->distance,
            .lr_factor = &f->factor,
            .sums = sums};
        for (int j = 0; j < 16; j++)
            search.factor[j] = (float)pow(2.0, -0.25 * j);
        args->dy = watch.dy16;
        args->dy_dtype = OCT_BF16;
        oracle_bn_bwd_apply(args, NULL);
        oracle_cosine_search(&search);
        watch.searches++;
    }
    float share = *(float *)range->share->data, distance = *(float *)range->distance->data;
    float factor = *(float *)pre->lr_factor->data;
    cr_assert(share == f->share && distance == f->distance && factor == f->factor,
        "%s: share %g, distance %g, factor %g; oracle %g, %g, %g", node->name, (double)share,
        (double)distance, (double)factor, (double)f->share, (double)f->distance, (double)f->factor);
}

static void check_codes(const struct oct_node *node, const struct oct_range_state *range,
    const struct oct_buffer *hi, const struct oct_buffer *lo, float clip, int64_t elements)
{
    const int8_t *q = hi->data, *low = oct_buffer_data(lo);
    float top = (float)range->code_max, inverse = clip > 0.0f ? oracle_over(top, clip) : 0.0f;
    cr_assert(*(float *)range->clip->data == clip, "%s: clip of dY %a, oracle %a", node->name,
        (double)*(float *)range->clip->data, (double)clip);
    for (int64_t i = 0; i < elements; i++) {
        int want = oracle_grid_code(range->policy.grid, watch.dy[i], inverse, range->code_max);
        int got = low ? 128 * q[i] + low[i] : q[i];
        if (got != want) /* an assertion each would take minutes */
            cr_assert_fail("%s element %lld step %lld: dY %a, code %d, oracle %d", node->name,
                (long long)i, (long long)watch.t->at.step, (double)watch.dy[i], got, want);
    }
}

static void check_backward(const struct oct_node *node)
{
    static struct norm_reduced r;
    const struct oct_value *y = &watch.t->graph->values[node->in[0]];
    const struct oct_pre *pre = y->pre;
    const struct oct_range_state *range =
        pre->need_channel ? &pre->channel_range : &pre->tensor_range;
    const struct follower *f = &watch.follower[node->index];
    uint32_t flag = 0;
    float clip = 0.0f;
    struct oct_bn_bwd_apply_args args = backward_args(node, &flag);

    cr_assert(!pre->need_channel || !pre->need_tensor, "%s: two copies of equal codes", node->name);
    norm_reduce(&args, f->xhat_max, watch.t->graph->eps, &r);
    cr_assert(memcmp(r.bound, f->bound, 4 * (size_t)y->c) == 0, "%s: bound", node->name);
    args.m1 = r.m1;
    args.m2 = r.m2;
    for (int c = 0; c < y->c; c++)
        clip = fmaxf(clip, r.bound[c]);
    if (range->share)
        follow_search(node, range, &args, &r);
    args.dy = watch.dy;
    args.dy_dtype = OCT_F32;
    oracle_bn_bwd_apply(&args, NULL);
    if (range->policy.clip == OCT_CLIP_SHARE)
        clip = oracle_mul(range->share ? f->share : range->policy.a, clip);
    check_codes(node, range, pre->need_channel ? pre->dy_channel : pre->dy_tensor,
        pre->need_channel ? pre->dy_channel_lo : pre->dy_tensor_lo, clip, args.rows * y->c);
    watch.backwards++;
}

/* Runs between the ops of a step; device memory is host memory here. */
static void see_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    static const struct {
        const char *what;
        size_t offset;
    } kept[] = {{"a", offsetof(struct follower, a)}, {"b", offsetof(struct follower, b)},
        {"ix", offsetof(struct follower, ix)}, {"jx", offsetof(struct follower, jx)},
        {"clip_lo", offsetof(struct follower, lo)}, {"clip_hi", offsetof(struct follower, hi)},
        {"xhat_max", offsetof(struct follower, xhat_max)},
        {"bound", offsetof(struct follower, bound)}, {"mask", offsetof(struct follower, mask)},
        {"inside", offsetof(struct follower, inside)}};
    (void)user, (void)dtype, (void)count;
    if (strcmp(node->type->name, "norm") != 0)
        return;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (strcmp(what, kept[i].what) == 0)
            memcpy((char *)&watch.follower[node->index] + kept[i].offset, &device, sizeof device);
    if (strcmp(what, "codes") == 0)
        check_forward(node);
    if (strcmp(what, "dbeta") == 0)
        check_backward(node);
}

/* --- the update --- */

static void check_update(void)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_barrier_policy *barrier = &watch.t->numerics.barrier;
    const struct oct_options *o = &watch.t->options;
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *p = &g->params[i];
        bool held = barrier->lam > 0.0f && p->dims == 4;
        int64_t sums[2] = {0, 0};
        struct oct_sgd_args a = {.count = p->count,
            .w = watch.kept.w[i],
            .momentum = watch.kept.momentum[i],
            .dw = p->grad->data,
            .step = g->step->data,
            .mu = (float)o->momentum,
            .weight_decay = p->decay ? (float)o->weight_decay : 0.0f,
            .nesterov = o->nesterov,
            .lr_factor = oct_buffer_data(p->lr_factor)};
        if (held) {
            double fan_in = (double)p->count / (double)p->dim[0];
            a.barrier = (struct oct_barrier){barrier->lam, (float)(3.0 * sqrt(2.0 / fan_in)), sums};
            cr_assert_eq(a.barrier.tau, p->tau, "%s: tau", p->name);
        }
        cr_assert_eq(p->barrier != NULL, held);
        oracle_sgd(&a);
        kept_params_expect(&watch.kept, g, i);
        watch.updates++;
    }
}

static void advance(int steps, double *loss)
{
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        kept_params_take(&watch.kept, watch.t->graph);
        cr_assert_eq(oct_trainer_step(watch.t, &r), OCT_OK, "%s", oct_last_error());
        cr_assert_not(r.flagged);
        check_update();
        if (loss)
            loss[i] = r.loss;
    }
}

static void open_watched(const struct oct_options *o)
{
    cr_assert_eq(oct_trainer_open(o, &watch.t), OCT_OK, "%s", oct_last_error());
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
    cr_assert_eq(watch.forwards, 20 * 9);
    cr_assert_eq(watch.backwards, 20 * 9);
    cr_assert_gt(watch.updates, 20 * 20);
}

Test(published, fqat)
{
    struct oct_options o = run_options("fqat");
    follow(&o);
    double share = (double)watch.clipped / (20.0 * 16 * 16 * 16 * 16 * 5.25);
    cr_assert(share > 1e-4 && share < 0.1, "share of clipped elements %g", share);
}

Test(published, fqat_with_other_constants)
{
    struct oct_options o = run_options("fqat");
    o.scheme_opt = "z=1.0,clip=0.5";
    o.first_last = "int8";
    follow(&o);
}

Test(published, ui8)
{
    struct oct_options o = run_options("ui8");
    o.scheme_opt = "period=4";
    follow(&o);
    cr_assert_eq(watch.searches, 5 * 9);
}

Test(published, logbtq)
{
    struct oct_options o = run_options("logbtq");
    o.synthetic_size = 8; /* the oracle takes a logarithm an element */
    follow(&o);
}

Test(published, logbtq_with_bounded_activations)
{
    struct oct_options o = run_options("logbtq");
    o.scheme_opt = "lam_a=1e-3,tau_a=2";
    o.synthetic_size = 8;
    follow(&o);
}

Test(published, logbtq_in_planes)
{
    struct oct_options o = run_options("logbtq");
    o.scheme_opt = "product=planes,lam=1e-3,t0=2,growth=2";
    o.synthetic_size = 8;
    follow(&o);
}

/* --- every instruction set --- */

static void losses_of(struct oct_options o, const char *isa, int steps, double *loss)
{
    oct_trainer *t = NULL;
    o.isa = isa;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s %s: %s", o.scheme, isa, oct_last_error());
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "%s", oct_last_error());
        cr_assert_not(r.flagged, "%s %s: step %d", o.scheme, isa, i);
        loss[i] = r.loss;
    }
    oct_trainer_close(t);
}

Test(published, equal_bits_on_every_instruction_set, .timeout = 600)
{
    enum { STEPS = 20 };
    static const char *const isas[] = {"vnni", "amx-emulated", "simulate"};
    for (size_t s = 0; oct_scheme_name(s); s++) {
        double want[STEPS], got[STEPS];
        struct oct_options o = run_options(oct_scheme_name(s));
        o.synthetic_size = 8;
        o.model = run_model_of(o.scheme);
        losses_of(o, "c", STEPS, want);
        for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
            if (i == 0 && !__builtin_cpu_supports("avx512vnni"))
                continue;
            losses_of(o, isas[i], STEPS, got);
            cr_expect_arr_eq(got, want, sizeof want, "%s: c and %s differ", o.scheme, isas[i]);
        }
    }
}

/* --- options and reports --- */

static void expect_refusal(const char *scheme, const char *options, const char *word)
{
    struct oct_options o = run_options(scheme);
    oct_trainer *t = NULL;
    o.scheme_opt = options;
    cr_expect_neq(oct_trainer_open(&o, &t), OCT_OK, "%s with %s", scheme, options);
    cr_expect_null(t);
    cr_expect(strstr(oct_last_error(), word), "'%s' does not say '%s'", oct_last_error(), word);
    cr_expect_null(strchr(oct_last_error(), '\n'));
}

Test(published, options_out_of_range_are_refused)
{
    expect_refusal("fqat", "z=0", "0.5..16");
    expect_refusal("fqat", "z=wide", "0.5..16");
    expect_refusal("fqat", "clip=1.5", "0.01..1");
    expect_refusal("fqat", "compensation=yes", "on|off");
    expect_refusal("fqat", "period=100", "no option");
    expect_refusal("ui8", "period=0", "1..1000000");
    expect_refusal("ui8", "period=2.5", "1..1000000");
    expect_refusal("ui8", "beta=0", "0.001..1");
    expect_refusal("ui8", "alpha=-1", "0..10000");
    expect_refusal("logbtq", "lam=-1", "0..10");
    expect_refusal("logbtq", "lam_a=0.2", "0..0.1");
    expect_refusal("logbtq", "tau_a=0", "0.01..1000");
    expect_refusal("logbtq", "growth=0.9", "1..10");
    expect_refusal("logbtq", "tau=wide", "sigmas|tail");
    expect_refusal("logbtq", "delta=0.6", "1e-30..0.5");
    expect_refusal("logbtq", "product=cubic", "linear|planes|exact");
    struct oct_options o = run_options("logbtq");
    oct_trainer *t = NULL;
    o.rounding = "stochastic";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_UNSUPPORTED);
    cr_expect(strstr(oct_last_error(), "evenly spaced"), "%s", oct_last_error());
}

static void health_of(const struct oct_options *o, int steps, struct oct_layer_record rows[NODES])
{
    size_t count = 0;
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(o, &t), OCT_OK, "%s", oct_last_error());
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "%s", oct_last_error());
    }
    cr_assert_eq(oct_health(t, rows, &count), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(count, 10);
    oct_trainer_close(t);
}

/* Each mechanism is seen at work, and only where it is. */
Test(published, reports_show_the_mechanism)
{
    struct oct_layer_record rows[NODES];
    struct oct_options o = run_options("fqat");
    health_of(&o, 10, rows);
    for (int i = 0; i < 9; i++) {
        cr_expect(rows[i].channel_clipped > 1e-4 && rows[i].channel_clipped < 0.1, "%s: %g",
            rows[i].layer, rows[i].channel_clipped);
        cr_expect(isnan(rows[i].clip_share) && isnan(rows[i].barrier_share));
    }
    o = run_options("ui8");
    health_of(&o, 10, rows);
    for (int i = 0; i < 9; i++) {
        cr_expect(rows[i].clip_share > 0.0 && rows[i].clip_share <= 1.0);
        cr_expect(rows[i].direction_loss >= 0.0 && rows[i].direction_loss < 0.5);
        cr_expect(rows[i].lr_factor >= 0.1 && rows[i].lr_factor <= 1.0);
        cr_expect(isnan(rows[i].channel_clipped) && isnan(rows[i].y_overflow));
    }
    cr_expect(rows[0].direction_loss < 1e-5, "two planes lost %g", rows[0].direction_loss);
    cr_expect(isnan(rows[9].clip_share), "the classifier is not searched");
    o = run_options("logbtq");
    o.scheme_opt = "R=2";
    health_of(&o, 10, rows);
    for (int i = 0; i < 10; i++)
        cr_expect(rows[i].barrier_share > 0.0 && rows[i].barrier_share < 1.0, "%s: %g",
            rows[i].layer, rows[i].barrier_share);
    cr_expect(rows[1].y_overflow > 0.0 && rows[1].y_overflow < 0.5, "%g", rows[1].y_overflow);
    o.scheme_opt = "R=100000,lam=0";
    health_of(&o, 2, rows);
    cr_expect(rows[1].y_overflow == 0.0 && isnan(rows[1].barrier_share));
    cr_expect(isnan(rows[1].activation_barrier_share));
    o.scheme_opt = "lam_a=1e-3";
    health_of(&o, 10, rows);
    int barred_rows = 0;
    for (int i = 0; i < 10; i++) /* those in front of a ReLU */
        barred_rows +=
            rows[i].activation_barrier_share > 0.0 && rows[i].activation_barrier_share < 1.0;
    cr_expect_eq(barred_rows, 7);
}

/* --- the barrier on activations --- */

static struct {
    oct_backend device;
    int calls, codes;
    float lam, tau;
} barred;

/* Every gradient of an activation, before the pass that reads it. */
static enum oct_status watch_barrier(oct_backend *backend, const struct oct_barrier_bwd_args *a)
{
    barred.calls++;
    barred.codes += a->x_dtype == OCT_S8;
    barred.lam = a->barrier.lam;
    barred.tau = a->barrier.tau;
    return barred.device.barrier_bwd(backend, a);
}

/* Behind the 7 ReLUs of resnet8: a loss averaged over the batch and summed over a sample. */
Test(published, barrier_on_activations)
{
    double loss[4];
    for (int on = 0; on < 2; on++) {
        struct oct_options o = run_options("logbtq");
        o.scheme_opt = on ? "lam_a=1e-3,tau_a=1.5" : "lam=0";
        o.grad_accum_steps = 2;
        oct_trainer *t = run_open(&o);
        memset(&barred, 0, sizeof barred);
        barred.device = *t->graph->backend;
        t->graph->backend->barrier_bwd = watch_barrier;
        run_steps(t, 2, loss);
        cr_expect_eq(barred.calls, on ? 2 * 2 * 7 : 0);
        cr_expect_eq(barred.codes, barred.calls, "x is what products read");
        cr_expect(!on || (barred.lam == 1e-3f * (1.0f / 32.0f) && barred.tau == 1.5f));
        oct_trainer_close(t);
    }
}

static void collect(void *user, const char *line)
{
    strncat(user, line, 8191 - strlen(user));
    strncat(user, "\n", 8191 - strlen(user));
}

Test(published, info_says_what_is_published_and_what_is_ours)
{
    static const struct {
        const char *scheme, *says[6];
    } cases[] = {
        {"fqat", {"Polytechnic", "[published", "[reconstructed]", "[ours]", "option      z="}},
        {"ui8", {"CVPR 2020", "[published", "1 - cos", "[ours]", "option      period="}},
        {"logbtq", {"ICLR 2021", "[published", "psi_t", "[ours]", "option      lam="}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[8192] = "";
        cr_assert_eq(oct_info(cases[i].scheme, collect, text), OCT_OK, "%s", oct_last_error());
        for (int j = 0; j < 6 && cases[i].says[j]; j++)
            cr_expect(strstr(text, cases[i].says[j]), "'%s' is not in\n%s", cases[i].says[j], text);
    }
}
