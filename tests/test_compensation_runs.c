/* fqat with compensation=on in a network: what it adds to, what its gradients are made of, how its
 * parameters move, and what evaluation does. */
#include "oracle/oracle_ops.h"
#include "support/followed.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { CONVOLUTIONS = 9 }; /* of resnet8 */

/* What a step asks the backend for, in order. */
static struct {
    oct_backend device; /* its functions */
    const void *y;      /* of the last product, then of its compensation */
    const void *dy, *dy_lo;
    const float *scale;
    int fprops, compensated, merged, bwd, wgrads;
    double largest; /* of the gradients of offsets */
} seen;

static enum oct_status watch_fprop(oct_backend *backend, const struct oct_conv_fprop_args *a)
{
    seen.y = a->y;
    seen.fprops++;
    seen.merged += a->norm.a != NULL;
    return seen.device.conv_fprop(backend, a);
}

static enum oct_status watch_compensate(oct_backend *backend, const struct oct_compensate_args *a)
{
    cr_expect_eq(a->x, seen.y, "not the output of the product before it");
    seen.y = a->y;
    seen.compensated++;
    return seen.device.compensate(backend, a);
}

/* The statistics of normalisation number `compensated` are those of what was compensated. */
static enum oct_status watch_stats(oct_backend *backend, const struct oct_channel_stats_args *a)
{
    if (a->sum)
        cr_expect_eq(a->x, seen.y);
    return seen.device.channel_stats(backend, a);
}

static enum oct_status watch_bwd(oct_backend *backend, const struct oct_compensate_bwd_args *a)
{
    enum oct_status status = seen.device.compensate_bwd(backend, a);
    seen.bwd++;
    seen.dy = a->dy;
    seen.dy_lo = a->dy_lo;
    seen.scale = a->scale;
    for (int64_t i = 0; i < a->count; i++)
        seen.largest = fmax(seen.largest, fabs((double)a->doffset[i]));
    return status;
}

static enum oct_status watch_wgrad(oct_backend *backend, const struct oct_conv_wgrad_args *a)
{
    if (seen.wgrads++ > 0) /* the linear layer's comes first */
        cr_expect(a->dy.data == seen.dy && a->dy.data_lo == seen.dy_lo && a->dy.scale == seen.scale,
            "weight gradient %d has another dY", seen.wgrads);
    return seen.device.conv_wgrad(backend, a);
}

static void watch(oct_backend *backend)
{
    memset(&seen, 0, sizeof seen);
    seen.device = *backend;
    backend->conv_fprop = watch_fprop;
    backend->conv_wgrad = watch_wgrad;
    backend->compensate = watch_compensate;
    backend->compensate_bwd = watch_bwd;
    backend->channel_stats = watch_stats;
}

static struct oct_options options(void)
{
    struct oct_options o = run_options("fqat");
    o.scheme_opt = "compensation=on";
    return o;
}

Test(compensation_runs, a_step_and_an_evaluation)
{
    const struct oct_options o = options();
    struct oct_step_result step;
    oct_trainer *t = run_open(&o);
    watch(t->graph->backend);
    cr_assert_eq(oct_trainer_step(t, &step), OCT_OK, "%s", oct_last_error());
    cr_expect(seen.fprops == CONVOLUTIONS + 1 && seen.compensated == CONVOLUTIONS &&
                  seen.bwd == CONVOLUTIONS && seen.wgrads == CONVOLUTIONS + 1,
        "%d products, %d compensated, %d and %d backward", seen.fprops, seen.compensated,
        seen.wgrads, seen.bwd);
    cr_expect_gt(seen.largest, 1e-6);
    t->graph->training = false;
    cr_assert_eq(oct_graph_forward(t->graph), OCT_OK, "%s", oct_last_error());
    cr_expect_eq(seen.compensated, 2 * CONVOLUTIONS);
    cr_expect_eq(seen.merged, 0, "compensation has no part in merged evaluation");
    oct_trainer_close(t);
}

static bool ends_with(const char *name, const char *end)
{
    return strlen(name) > strlen(end) && strcmp(name + strlen(name) - strlen(end), end) == 0;
}

/* mu and offset decay by 0.1, alpha by nothing, whatever weight decay the run has. */
Test(compensation_runs, parameters_have_a_decay_of_their_own)
{
    static struct kept_params kept;
    static const struct oct_optimiser optimiser = {.momentum = 0.9f, .weight_decay = 0.01f};
    const struct oct_options o = options();
    struct oct_step_result step;
    oct_trainer *t = run_open(&o);
    int checked[2] = {0, 0};
    cr_assert_eq(oct_trainer_step(t, &step), OCT_OK, "%s", oct_last_error());
    const struct oct_graph *g = t->graph;
    kept_params_take(&kept, g);
    cr_assert_eq(oct_graph_update(t->graph, &optimiser), OCT_OK, "%s", oct_last_error());
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *p = &g->params[i];
        const bool decays = !ends_with(p->name, ".alpha");
        const struct oct_sgd_args a = {.count = p->count,
            .w = kept.w[i],
            .momentum = kept.momentum[i],
            .dw = p->grad->data,
            .step = g->step->data,
            .mu = 0.9f,
            .weight_decay = decays ? 0.1f : 0.0f};
        if (!strstr(p->name, ".compensation."))
            continue;
        oracle_sgd(&a);
        kept_params_expect(&kept, g, i);
        checked[decays]++;
    }
    cr_expect(checked[0] == CONVOLUTIONS && checked[1] == 2 * CONVOLUTIONS);
    oct_trainer_close(t);
}

/* They begin as published: alpha 1, mu and offset about 1e-3 of either sign. */
Test(compensation_runs, initial_values)
{
    const struct oct_options o = options();
    oct_trainer *t = run_open(&o);
    for (int i = 0; i < t->graph->param_count; i++) {
        const struct oct_param *p = &t->graph->params[i];
        const float *w = p->value->data;
        double sum = 0.0, square = 0.0;
        if (!strstr(p->name, ".compensation."))
            continue;
        cr_expect_eq(p->dims, 3);
        for (int64_t j = 0; j < p->count; j++) {
            sum += (double)w[j];
            square += (double)w[j] * (double)w[j];
        }
        const double mean = sum / (double)p->count, deviation = sqrt(square / (double)p->count);
        if (ends_with(p->name, ".alpha"))
            cr_expect(mean == 1.0 && deviation == 1.0, "%s", p->name);
        else /* 6 standard errors, of the mean and of the deviation, of at least 1024 values */
            cr_expect(fabs(mean) < 6e-3 / sqrt((double)p->count) &&
                          fabs(deviation - 1e-3) < 6e-3 / sqrt(2.0 * (double)p->count),
                "%s: mean %g, deviation %g", p->name, mean, deviation);
    }
    oct_trainer_close(t);
}

static double losses(const struct oct_options *o, double *loss, int steps)
{
    struct oct_eval_result result;
    oct_trainer *t = run_open(o);
    run_steps(t, steps, loss);
    cr_assert_eq(oct_trainer_evaluate(t, &result), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(t);
    return result.loss;
}

/* On every instruction set and number of threads, with gradients of two batches added up. */
Test(compensation_runs, equal_bits_everywhere)
{
    enum { STEPS = 5 };
    static const char *const isas[] = {"c", "vnni", "amx-emulated", "simulate"};
    double want[STEPS], got[STEPS], eval = 0.0;
    struct oct_options o = options();
    o.grad_accum_steps = 2;
    for (int i = 0; i < 4; i++) {
        if (i == 1 && !__builtin_cpu_supports("avx512vnni"))
            continue;
        o.isa = isas[i];
        o.threads = 1 + i % 3;
        const double loss = losses(&o, i ? got : want, STEPS);
        eval = i ? eval : loss;
        cr_expect(i == 0 || memcmp(got, want, sizeof want) == 0, "%s: other losses", isas[i]);
        cr_expect(loss == eval, "%s: %.17g, c: %.17g", isas[i], loss, eval);
    }
}

Test(compensation_runs, needs_codes_of_the_error)
{
    struct oct_options o = options();
    oct_trainer *t = NULL;
    o.first_last = "float";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_UNSUPPORTED);
    cr_expect(strstr(oct_last_error(), "conv1: compensation=on"), "%s", oct_last_error());
    cr_expect_null(strchr(oct_last_error(), '\n'));
}
