/* What the schemes compute in real training runs: after every backward pass of a normalisation that
 * follows a convolution, labels, clip values, scales and both sets of codes must be those of an
 * oracle that keeps its own state from the first step on; and what their health fields report. */
#include "cpu/cpu.h"
#include "oracle/oracle_dai8.h"
#include "oracle/oracle_fconv.h"
#include "oracle/oracle_norm.h"
#include "oracle/oracle_ops.h"
#include "support/folder.h"
#include "support/norm_reduced.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 64, CHANNELS = NORM_REDUCED_CHANNELS, ELEMENTS = 16 * 28 * 28 * 16 };

/* The oracle's memory of one normalisation. */
struct follower {
    struct oracle_dai8 copy[2]; /* for dW, for dX */
    struct oracle_dai8_evidence last;
    int steps;
    const float *a, *b, *ix, *jx, *xhat_max, *m1, *m2, *bound, *sigma; /* device */
    const uint8_t *mask;
};

/* One per test process. */
static struct watch {
    oct_trainer *t;
    struct follower follower[NODES];
    int64_t bells, tails;             /* labels of channels */
    int64_t whole_bells, whole_tails; /* of tensors */
    int64_t checked;                  /* copies */
    float dy[ELEMENTS];
} watch;

/* --- the oracle's dY and the evidence in it --- */

static struct oct_bn_bwd_apply_args common_args(const struct oct_node *node)
{
    const struct oct_graph *g = watch.t->graph;
    const struct oct_value *y = &g->values[node->in[0]], *out = &g->values[node->out];
    const struct follower *f = &watch.follower[node->index];
    return (struct oct_bn_bwd_apply_args){.rows = (int64_t)y->n * y->h * y->w,
        .channels = y->c,
        .da = out->grad->data,
        .da_dtype = out->grad_dtype,
        .y = y->real->data,
        .y_dtype = y->real_dtype,
        .a = f->a,
        .b = f->b,
        .ix = f->ix,
        .jx = f->jx,
        .relu = strstr(node->name, "downsample") == NULL,
        .mask = f->mask};
}

/* sigma is the standard deviation that the rule asks for, and bound holds. */
static void check_evidence(const struct oct_node *node, const struct norm_reduced *r,
    const struct oct_bn_bwd_apply_args *args, const struct oracle_dai8_evidence *now)
{
    for (int c = 0; c < args->channels; c++) {
        double sum = 0.0, square = 0.0, n = (double)args->rows, ymax = 0.0;
        for (int64_t row = 0; row < args->rows; row++) {
            int64_t i = row * args->channels + c;
            double g = watch.dy[i], y = fabs(oracle_at(args->y, args->y_dtype, i));
            sum += g;
            square += g * g;
            ymax = y > ymax ? y : ymax;
        }
        /* bf16: half a unit in the last place; affine: two roundings of values up to |ix y| + |jx|
         */
        double spread = (double)args->ix[c] * ymax + fabs((double)args->jx[c]);
        double xhat_error = ldexp((double)args->ix[c] * ymax, -9) + ldexp(spread, -23);
        double slack = oracle_dai8_variance_slack(
            args->a[c], args->m1[c], args->m2[c], r->sum_dz2[c] / n, xhat_error);
        double got = (double)r->sigma[c] * (double)r->sigma[c];
        double want = square / n - sum / n * (sum / n);
        cr_assert(fabs(got - want) <= slack, "%s channel %d: variance %g, of the tensor %g +- %g",
            node->name, c, got, want, slack);
        cr_assert(now->gmax[c] <= r->bound[c], "%s channel %d: |dY| %g above its bound %g",
            node->name, c, (double)now->gmax[c], (double)r->bound[c]);
    }
}

/* --- one copy of dY against the oracle --- */

static void start(
    struct oracle_dai8 *rule, const struct oct_policy *policy, const struct oct_range_state *range)
{
    rule->groups = range->count;
    rule->code_max = range->code_max;
    rule->adaptive = policy->clip == OCT_CLIP_TAIL;
    rule->k = policy->k;
    rule->a = policy->a;
    rule->lambda = policy->lambda;
}

static void check_state(
    const char *name, const struct oracle_dai8 *rule, const struct oct_range_state *range)
{
    const float *clip = range->clip->data, *scale = range->scale->data;
    const uint8_t *label = range->label->data;
    for (int i = 0; i < rule->groups; i++) {
        float want = rule->s[i] / (float)rule->code_max;
        cr_assert(clip[i] == rule->s[i] && scale[i] == want,
            "%s entry %d step %lld: clip %a, scale %a, oracle %a, %a", name, i,
            (long long)watch.t->at.step, (double)clip[i], (double)scale[i], (double)rule->s[i],
            (double)want);
        cr_assert_eq(label[i], rule->label[i], "%s entry %d step %lld: label %d, oracle %d", name,
            i, (long long)watch.t->at.step, label[i], rule->label[i]);
        *(rule->groups > 1 ? &watch.bells : &watch.whole_bells) += label[i] == OCT_LABEL_BELL;
        *(rule->groups > 1 ? &watch.tails : &watch.whole_tails) += label[i] == OCT_LABEL_TAIL;
    }
}

static void check_codes(const struct oct_node *node, const char *name,
    const struct oracle_dai8 *rule, const struct oct_buffer *hi, const struct oct_buffer *lo,
    int64_t elements, int channels)
{
    const struct oct_value *y = &watch.t->graph->values[node->in[0]];
    const struct oct_step_state *step = watch.t->graph->step->data;
    bool random = y->pre->layer.role[OCT_ROLE_DY_DW].rounding == OCT_STOCHASTIC;
    uint64_t first = (uint64_t)step->first_sample * (uint64_t)(y->h * y->w * y->c);
    const int8_t *q = hi->data, *low = oct_buffer_data(lo);
    for (int64_t i = 0; i < elements; i++) {
        int byte = random ? (int)oracle_rounding_byte(
                                step->seed, step->step, (uint32_t)node->index, first + (uint64_t)i)
                          : -1;
        int want = oracle_dai8_code(rule, (int)(i % channels), watch.dy[i], byte);
        int got = low ? 128 * q[i] + low[i] : q[i];
        if (got != want) /* an assertion each would take minutes */
            cr_assert_fail("%s element %lld channel %lld step %lld: dY %a, code %d, oracle %d",
                name, (long long)i, (long long)(i % channels), (long long)watch.t->at.step,
                (double)watch.dy[i], got, want);
    }
}

/* What the rule looks at under the policy's refresh. */
static struct oracle_dai8_evidence evidence_for(const struct oct_policy *policy,
    const struct follower *f, const struct oracle_dai8_evidence *now, const struct norm_reduced *r)
{
    struct oracle_dai8_evidence use = *now;
    if (policy->refresh == OCT_REFRESH_EXACT)
        return use;
    if (policy->refresh == OCT_REFRESH_LAST)
        return f->steps == 0 ? use : f->last;
    use = f->last;
    memcpy(use.gmax, r->bound, sizeof r->bound);
    return use;
}

static void check_copy(const struct oct_node *node, int which,
    const struct oracle_dai8_evidence *now, const struct norm_reduced *r)
{
    const struct oct_value *y = &watch.t->graph->values[node->in[0]];
    const struct oct_pre *pre = y->pre;
    const struct oct_policy *policy =
        &pre->layer.role[which == 0 ? OCT_ROLE_DY_DW : OCT_ROLE_DY_DX];
    const struct oct_range_state *range = which == 0 ? &pre->channel_range : &pre->tensor_range;
    struct follower *f = &watch.follower[node->index];
    struct oracle_dai8 *rule = &f->copy[which];
    struct oracle_dai8_evidence use = evidence_for(policy, f, now, r);
    int64_t rows = (int64_t)y->n * y->h * y->w;
    char name[96];

    snprintf(name, sizeof name, "%s (%s)", node->name, which == 0 ? "dW" : "dX");
    start(rule, policy, range);
    oracle_dai8_update(rule, &use, rows, y->c);
    check_state(name, rule, range);
    check_codes(node, name, rule, which == 0 ? pre->dy_channel : pre->dy_tensor,
        which == 0 ? pre->dy_channel_lo : pre->dy_tensor_lo, rows * y->c, y->c);
    watch.checked++;
}

static void check_norm(const struct oct_node *node)
{
    struct oct_graph *g = watch.t->graph;
    struct follower *f = &watch.follower[node->index];
    const struct oct_pre *pre = g->values[node->in[0]].pre;
    struct oct_bn_bwd_apply_args args = common_args(node);
    size_t bytes = 4 * (size_t)args.channels;
    static struct norm_reduced r;
    struct oracle_dai8_evidence now;
    uint32_t flag = 0;

    cr_assert(args.rows * args.channels <= ELEMENTS && args.channels <= CHANNELS);
    norm_reduce(&args, f->xhat_max, g->eps, &r);
    cr_assert(memcmp(r.m1, f->m1, bytes) == 0 && memcmp(r.m2, f->m2, bytes) == 0 &&
                  memcmp(r.bound, f->bound, bytes) == 0 && memcmp(r.sigma, f->sigma, bytes) == 0,
        "%s: m1, m2, bound or sigma differ", node->name);
    args.m1 = r.m1;
    args.m2 = r.m2;
    args.dy = watch.dy;
    args.dy_dtype = OCT_F32;
    args.flag = &flag;
    oracle_bn_bwd_apply(&args, NULL);
    oracle_dai8_measure(watch.dy, args.rows, args.channels, r.sigma, r.sigma_all, &now);
    check_evidence(node, &r, &args, &now);
    if (pre->need_channel)
        check_copy(node, 0, &now, &r);
    if (pre->need_tensor)
        check_copy(node, 1, &now, &r);
    f->last = now;
    f->steps++;
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
        {"xhat_max", offsetof(struct follower, xhat_max)},
        {"mask", offsetof(struct follower, mask)}, {"m1", offsetof(struct follower, m1)},
        {"m2", offsetof(struct follower, m2)}, {"bound", offsetof(struct follower, bound)},
        {"sigma", offsetof(struct follower, sigma)}};
    (void)user, (void)dtype, (void)count;
    if (strcmp(node->type->name, "norm") != 0)
        return;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (strcmp(what, kept[i].what) == 0)
            memcpy((char *)&watch.follower[node->index] + kept[i].offset, &device, sizeof device);
    if (strcmp(what, "dbeta") == 0)
        check_norm(node);
}

static void open_watched(const struct oct_options *o)
{
    cr_assert_eq(oct_trainer_open(o, &watch.t), OCT_OK, "%s", oct_last_error());
    cr_assert_leq(watch.t->graph->node_count, NODES);
    watch.t->observer.tensor = see_tensor;
    oct_cpu_flush_subnormals();
}

static void advance(int steps, double *loss)
{
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(watch.t, &r), OCT_OK, "%s", oct_last_error());
        cr_assert_not(r.flagged);
        if (loss)
            loss[i] = r.loss;
    }
}

static void follow(const struct oct_options *o, int steps)
{
    open_watched(o);
    advance(steps, NULL);
    oct_trainer_close(watch.t);
    cr_assert_gt(watch.checked, 0);
}

/* --- 20 steps in every refresh and rounding --- */

Test(schemes, dai8_bound_nearest)
{
    struct oct_options o = run_options("dai8");
    follow(&o, 20);
    cr_assert(watch.bells > 0 && watch.tails > 0, "%lld bells, %lld inverted T",
        (long long)watch.bells, (long long)watch.tails);
    /* 9 convolutions have two copies, the first has no dX */
    cr_assert_eq(watch.checked, 20 * (2 * 9 - 1), "%lld", (long long)watch.checked);
}

Test(schemes, dai8_bound_stochastic)
{
    struct oct_options o = run_options("dai8");
    o.rounding = "stochastic";
    o.grad_accum_steps = 2;
    follow(&o, 10);
}

Test(schemes, dai8_exact_nearest)
{
    struct oct_options o = run_options("dai8");
    o.refresh = "exact";
    o.first_last = "int8";
    o.act_dtype = "f32";
    follow(&o, 20);
    cr_assert(watch.bells > 0 && watch.tails > 0);
}

Test(schemes, dai8_last_stochastic)
{
    struct oct_options o = run_options("dai8");
    o.refresh = "last";
    o.rounding = "stochastic";
    follow(&o, 20);
}

Test(schemes, dai8_other_constants)
{
    struct oct_options o = run_options("dai8");
    o.scheme_opt = "k=1.2,A=0.5,lambda=0.2,granularity=tensor";
    follow(&o, 20);
    cr_assert(watch.whole_bells > 0 && watch.whole_tails > 0, "%lld bells, %lld inverted T",
        (long long)watch.whole_bells, (long long)watch.whole_tails);
}

Test(schemes, dai8_on_pictures)
{
    struct oct_options o = run_options("dai8");
    o.dataset = "idx";
    o.data = "data/fashion-mnist-15k";
    follow(&o, 20);
    cr_assert(watch.bells > 0 && watch.tails > 0, "%lld bells, %lld inverted T",
        (long long)watch.bells, (long long)watch.tails);
}

Test(schemes, dai8_lambda_0_makes_bells_and_1_inverted_T)
{
    struct oct_options o = run_options("dai8");
    o.refresh = "exact";
    o.scheme_opt = "lambda=0";
    follow(&o, 5);
    cr_assert(watch.tails == 0 && watch.bells > 0, "%lld inverted T", (long long)watch.tails);
    memset(&watch, 0, sizeof watch);
    o.scheme_opt = "lambda=1";
    follow(&o, 5);
    cr_assert(watch.bells == 0 && watch.tails > 0, "%lld bells", (long long)watch.bells);
}

Test(schemes, amax_is_the_rule_without_clipping)
{
    struct oct_options o = run_options("dai8");
    o.scheme = "amax";
    follow(&o, 20);
    cr_assert_eq(watch.bells + watch.tails + watch.whole_bells + watch.whole_tails, 0);
}

static void over_a_checkpoint(const struct oct_options *o, const char *path)
{
    double want[20], got[20];
    open_watched(o);
    advance(20, want);
    oct_trainer_close(watch.t);

    memset(&watch, 0, sizeof watch);
    open_watched(o);
    advance(10, got);
    cr_assert_eq(oct_trainer_save(watch.t, path), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(watch.t);
    open_watched(o); /* the oracle keeps its state, the trainer has it from the file */
    cr_assert_eq(oct_trainer_load(watch.t, path), OCT_OK, "%s", oct_last_error());
    advance(10, got + 10);
    oct_trainer_close(watch.t);
    cr_assert_arr_eq(got, want, sizeof want);
}

Test(schemes, dai8_continues_from_a_checkpoint)
{
    static const char *const refreshes[] = {"bound", "last"};
    char *folder = folder_make();
    for (int i = 0; i < 2; i++) {
        struct oct_options o = run_options("dai8");
        o.refresh = refreshes[i];
        memset(&watch, 0, sizeof watch);
        over_a_checkpoint(&o, folder_path(folder, "a.safetensors"));
    }
    folder_remove(folder);
}

/* --- cosine of the weight gradients, and the other fields of health --- */

static void losses_of(const struct oct_options *o, double loss[20])
{
    cr_assert_eq(oct_trainer_open(o, &watch.t), OCT_OK, "%s", oct_last_error());
    advance(20, loss);
    oct_trainer_close(watch.t);
}

Test(schemes, sampling_changes_no_loss)
{
    static const char *const schemes[] = {"dai8", "amax"};
    for (int i = 0; i < 2; i++) {
        struct oct_options o = run_options("dai8");
        double want[20], got[20];
        o.scheme = schemes[i];
        o.rounding = "stochastic";
        o.grad_accum_steps = 1 + i;
        o.synthetic_images = 512; /* 16 steps an epoch at least */
        losses_of(&o, want);
        o.stats_interval = 3;
        losses_of(&o, got);
        cr_assert_arr_eq(got, want, sizeof want, "%s", schemes[i]);
    }
}

Test(schemes, sampling_allocates_nothing_in_a_step)
{
    struct oct_options o = run_options("dai8");
    o.stats_interval = 2;
    cr_assert_eq(oct_trainer_open(&o, &watch.t), OCT_OK, "%s", oct_last_error());
    advance(1, NULL);
    int64_t before = watch.t->backend->allocations;
    advance(4, NULL);
    cr_assert_eq(watch.t->backend->allocations, before);
    oct_trainer_close(watch.t);
}

static size_t health(struct oct_layer_record rows[NODES])
{
    size_t count = 0;
    cr_assert_eq(oct_health(watch.t, rows, &count), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(count, 10); /* 9 convolutions, 1 linear layer */
    return count;
}

Test(schemes, cosines_are_high_and_only_of_int8_gradients)
{
    static const struct {
        const char *precision, *first_last;
        int int8_wgrad, interval;
        bool inner, edge; /* measured? */
    } cases[] = {{"int8", "int16", 1, 3, true, true}, {"int8", "float", 1, 3, true, false},
        {"int8", "int16", 0, 3, false, false}, {"fp32", "int16", 1, 3, false, false},
        {"bf16", "int16", 1, 3, false, false}, {"int8", "int16", 1, 0, false, false},
        {"int8", "int16", 1, 1000, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = run_options("dai8");
        struct oct_layer_record rows[NODES];
        o.precision = cases[i].precision;
        o.first_last = cases[i].first_last;
        o.int8_wgrad = cases[i].int8_wgrad;
        o.stats_interval = cases[i].interval;
        cr_assert_eq(oct_trainer_open(&o, &watch.t), OCT_OK, "%s", oct_last_error());
        advance(6, NULL);
        size_t count = health(rows);
        for (size_t r = 0; r < count; r++) {
            bool edge = r == 0 || r == count - 1;
            bool measured = edge ? cases[i].edge : cases[i].inner;
            cr_expect_eq(isnan(rows[r].cosine_dw), !measured, "case %zu %s: %g", i, rows[r].layer,
                rows[r].cosine_dw);
            cr_expect(!measured || (rows[r].cosine_dw > 0.98 && rows[r].cosine_dw < 1.0 + 1e-12),
                "case %zu %s: %.9f", i, rows[r].layer, rows[r].cosine_dw);
        }
        health(rows); /* a report takes the samples with it */
        cr_expect(isnan(rows[1].cosine_dw));
        oct_trainer_close(watch.t);
    }
}

/* The cosine of one convolution by the oracle, from the codes of X, dY in float and the int8 dW. */
static double cosine_of(const struct oct_node *node, const float *dy, const float *dw)
{
    const struct oct_conv_shape *v = &node->shape;
    const int8_t *codes = watch.t->graph->values[node->in[0]].codes->data;
    int64_t nx = (int64_t)v->n * v->h * v->w * v->c, nw = (int64_t)v->k * v->r * v->s * v->c;
    int64_t ny = oct_value_elements(&watch.t->graph->values[node->out]);
    double *x = malloc((size_t)nx * sizeof *x), *y = malloc((size_t)ny * sizeof *y);
    double *want = malloc((size_t)nw * sizeof *want), *size = malloc((size_t)nw * sizeof *size);
    double dot = 0.0, a = 0.0, b = 0.0;
    for (int64_t i = 0; i < nx; i++)
        x[i] = codes[i];
    for (int64_t i = 0; i < ny; i++)
        y[i] = (double)dy[i];
    oracle_fconv_wgrad(v, x, y, want, size);
    for (int64_t i = 0; i < nw; i++) {
        dot += want[i] * (double)dw[i];
        a += want[i] * want[i];
        b += (double)dw[i] * (double)dw[i];
    }
    free(x), free(y), free(want), free(size);
    return dot / sqrt(a * b);
}

static double oracle_cosine[NODES];

static void see_cosine(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    see_tensor(user, node, what, dtype, device, count); /* leaves this layer's dY in watch.dy */
    if (strcmp(what, "dw") == 0 && strcmp(node->type->name, "conv") == 0)
        oracle_cosine[node->index] = cosine_of(node, watch.dy, device);
}

/* Both cosines are of vectors whose float entries have a relative error below n 2^-24 of the sum of
 * magnitudes, n = 4096 pixels; a cosine near 1 moves by no more than the angle times that error,
 * and the angle is below 0.2: 0.2 * 4096 * 2^-24 = 5e-5. */
Test(schemes, the_cosine_is_that_of_the_oracle)
{
    struct oct_options o = run_options("dai8");
    struct oct_layer_record rows[NODES];
    size_t r = 0;
    o.stats_interval = 2;
    o.synthetic_size = 8;
    open_watched(&o);
    watch.t->observer.tensor = see_cosine;
    advance(2, NULL);
    health(rows);
    for (int i = 0; i < watch.t->graph->node_count; i++) {
        const struct oct_node *node = &watch.t->graph->nodes[i];
        if (!node->is_product)
            continue;
        double got = rows[r++].cosine_dw, want = oracle_cosine[i];
        cr_expect(strcmp(node->type->name, "conv") != 0 || fabs(got - want) < 5e-5,
            "%s: cosine %.9f, oracle %.9f", node->name, got, want);
    }
    oct_trainer_close(watch.t);
}

static void collect(void *user, const char *line)
{
    strncat(user, line, 8191 - strlen(user));
    strncat(user, "\n", 8191 - strlen(user));
}

Test(schemes, info_says_what_is_published_and_what_is_ours)
{
    static const struct {
        const char *scheme, *says[6];
    } cases[] = {{"dai8", {"AAAI 2021", "[published", "[reconstructed", "lambda 0.3, k 1, A 0.8",
                              "option      lambda="}},
        {"amax", {"not a published system", "option      residual="}},
        {"fp32", {"baseline", "binary32"}}, {"bf16", {"baseline", "bfloat16"}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[8192] = "";
        cr_assert_eq(oct_info(cases[i].scheme, collect, text), OCT_OK, "%s", oct_last_error());
        for (int j = 0; cases[i].says[j]; j++)
            cr_expect(strstr(text, cases[i].says[j]), "'%s' is not in\n%s", cases[i].says[j], text);
    }
}
