/* Whole training runs: equal losses for equal seeds on every instruction set and thread count,
 * exact resumption, no allocation inside a step, every option of the numerics. */
#include "cpu/cpu.h"
#include "support/folder.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STEPS = 20 };

static struct oct_options small_run(void)
{
    struct oct_options o = run_options("dai8");
    o.threads = 2;
    return o;
}

static void losses_of(const struct oct_options *o, double loss[STEPS])
{
    oct_trainer *t = run_open(o);
    run_steps(t, STEPS, loss);
    oct_trainer_close(t);
}

static void expect_equal(const char *what, const double *got, const double *want, int steps)
{
    for (int i = 0; i < steps; i++)
        cr_assert(memcmp(&got[i], &want[i], sizeof got[i]) == 0,
            "%s: losses differ at step %d: %.17g and %.17g", what, i, got[i], want[i]);
}

static bool isa_available(const char *isa)
{
    oct_backend *backend = NULL;
    struct oct_backend_options options = {.device = "cpu", .isa = isa, .threads = 1};
    bool available = oct_backend_open(&options, &backend) == OCT_OK;
    oct_backend_close(backend);
    return available;
}

static void compare_isas(struct oct_options o)
{
    static const char *const isas[] = {"vnni", "amx", "amx-emulated", "simulate"};
    double want[STEPS], got[STEPS];
    o.isa = "c";
    losses_of(&o, want);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        if (!isa_available(isas[i]))
            continue;
        o.isa = isas[i];
        losses_of(&o, got);
        expect_equal(isas[i], got, want, STEPS);
    }
    o.isa = "auto";
    for (int threads = 1; threads <= 3; threads++) {
        o.threads = threads;
        losses_of(&o, got);
        expect_equal("threads", got, want, STEPS);
    }
}

Test(train, every_isa_and_thread_count_gives_the_same_losses)
{
    compare_isas(small_run());
}

Test(train, the_same_with_stochastic_rounding_and_two_parts)
{
    struct oct_options o = small_run();
    o.rounding = "stochastic";
    o.grad_accum_steps = 2;
    o.label_smoothing = 0.1;
    compare_isas(o);
}

Test(train, loss_falls_in_every_precision)
{
    static const char *const precisions[] = {"fp32", "bf16", "int8"};
    for (size_t i = 0; i < 3; i++) {
        struct oct_options o = small_run();
        struct oct_result result;
        o.precision = precisions[i];
        o.epochs = 6;
        oct_trainer *t = run_open(&o);
        cr_assert_eq(oct_trainer_run(t, &result), OCT_OK, "%s", oct_last_error());
        cr_assert_lt(result.train_loss, 1.2, "%s: loss %g after 6 epochs, 2.3 at the start",
            precisions[i], result.train_loss);
        oct_trainer_close(t);
    }
}

/* Every numeric option runs, and changes something or nothing as it should. */
Test(train, numeric_options)
{
    static const struct {
        const char *scheme, *opt, *refresh, *first_last, *act_dtype, *skip;
        int fwd, dgrad, wgrad;
    } cases[] = {
        {"dai8", NULL, "exact", "int16", "bf16", NULL, 1, 1, 1},
        {"dai8", NULL, "last", "int16", "bf16", NULL, 1, 1, 1},
        {"dai8", "clip=amax", NULL, "int8", "bf16", NULL, 1, 1, 1},
        {"dai8", "granularity=tensor", NULL, "int16", "bf16", NULL, 1, 1, 1},
        {"dai8", "lambda=0", NULL, "int16", "bf16", NULL, 1, 1, 1},
        {"dai8", "lambda=1,k=0.9,A=0.5", NULL, "int16", "bf16", NULL, 1, 1, 1},
        {"dai8", "residual=float", NULL, "float", "bf16", NULL, 1, 1, 1},
        {"dai8", NULL, NULL, "int16", "f32", NULL, 1, 1, 1},
        {"dai8", NULL, NULL, "int16", "bf16", "layer2", 1, 1, 1},
        {"dai8", NULL, NULL, "int16", "bf16", NULL, 0, 1, 1},
        {"dai8", NULL, NULL, "int16", "bf16", NULL, 1, 0, 1},
        {"dai8", NULL, NULL, "int16", "bf16", NULL, 1, 1, 0},
        {"amax", NULL, NULL, "int16", "bf16", NULL, 1, 1, 1},
        {"amax", "residual=float", "exact", "int8", "f32", "conv2", 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run();
        double loss[6];
        o.scheme = cases[i].scheme;
        o.scheme_opt = cases[i].opt;
        o.refresh = cases[i].refresh;
        o.first_last = cases[i].first_last;
        o.act_dtype = cases[i].act_dtype;
        o.int8_skip = cases[i].skip;
        o.int8_fwd = cases[i].fwd;
        o.int8_dgrad = cases[i].dgrad;
        o.int8_wgrad = cases[i].wgrad;
        oct_trainer *t = run_open(&o);
        const struct oct_run_info *info = oct_trainer_info(t);
        bool all = !cases[i].skip && cases[i].fwd && cases[i].dgrad && cases[i].wgrad &&
                   strcmp(cases[i].first_last, "float") != 0;
        for (int pass = 0; pass < 3; pass++)
            cr_assert(!all || info->int8_share[pass] > 0.999, "case %zu pass %d: int8 share %g", i,
                pass, info->int8_share[pass]);
        cr_assert(all || strlen(info->not_int8) > 0, "case %zu names no float layer", i);
        run_steps(t, 6, loss);
        cr_assert(isfinite(loss[5]) && loss[5] < 4.0, "case %zu: loss %g", i, loss[5]);
        oct_trainer_close(t);
    }
}

Test(train, a_step_allocates_nothing)
{
    struct oct_options o = small_run();
    double loss[3];
    oct_trainer *t = run_open(&o);
    run_steps(t, 1, loss);
    int64_t before = t->backend->allocations;
    run_steps(t, 3, loss);
    cr_assert_eq(t->backend->allocations, before);
    oct_trainer_close(t);
}

/* Their number goes on in a run that was interrupted. */
static void expect_flagged_steps_kept(oct_trainer *t, const struct oct_options *o)
{
    char folder[] = "/tmp/octet-test-XXXXXX", path[64];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
    oct_trainer *resumed = run_open(o);
    cr_assert_eq(oct_trainer_load(resumed, path), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(resumed->at.flagged_steps, t->at.flagged_steps);
    oct_trainer_close(resumed);
    unlink(path);
    rmdir(folder);
}

/* A step that meets a NaN (here: in the last bias, so that all statistics were already taken)
 * leaves weights, averages and scales as they were, and training goes on once the NaN is gone. */
Test(train, a_flagged_step_changes_nothing)
{
    struct oct_options o = small_run();
    double loss[STEPS];
    struct oct_step_result r;
    const float nan = NAN;
    float bias;
    oct_trainer *t = run_open(&o);
    run_steps(t, 4, loss);
    const struct oct_graph *g = t->graph;
    const struct oct_param *last = &g->params[g->param_count - 1];
    char *persistent = malloc(1 << 20);
    size_t used = 0;
    memcpy(&bias, last->value->data, sizeof bias);
    memcpy(last->value->data, &nan, sizeof nan);
    for (int i = 0; i < g->state_count; i++, used += 4096) {
        cr_assert(used + 4096 <= 1 << 20 && g->states[i].buffer->bytes <= 4096);
        memcpy(persistent + used, g->states[i].buffer->data, g->states[i].buffer->bytes);
    }
    cr_assert_eq(oct_trainer_step(t, &r), OCT_OK);
    cr_assert(r.flagged);
    used = 0;
    for (int i = 0; i < g->state_count; i++, used += 4096)
        cr_assert_eq(
            memcmp(persistent + used, g->states[i].buffer->data, g->states[i].buffer->bytes), 0,
            "%s changed", g->states[i].name);
    memcpy(last->value->data, &bias, sizeof bias);
    run_steps(t, 2, loss);
    free(persistent);
    cr_assert_eq(t->at.flagged_steps, 1);
    expect_flagged_steps_kept(t, &o);
    oct_trainer_close(t);
}

static void resume_in(const char *path, struct oct_options o, int at)
{
    double want[STEPS], got[STEPS];
    losses_of(&o, want);
    oct_trainer *t = run_open(&o);
    run_steps(t, at, got);
    cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(t);

    o.threads = 3; /* another thread count must not matter */
    t = run_open(&o);
    cr_assert_eq(oct_trainer_load(t, path), OCT_OK, "%s", oct_last_error());
    run_steps(t, STEPS - at, got + at);
    expect_equal("resumed", got, want, STEPS);
    oct_trainer_close(t);
    unlink(path);
}

Test(train, resuming_continues_with_equal_bits)
{
    char folder[] = "/tmp/octet-test-XXXXXX", path[64];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    struct oct_options o = small_run(); /* 16 steps an epoch: 7 and 16 are inside and at the end */
    resume_in(path, o, 7);
    resume_in(path, o, 16);
    o.rounding = "stochastic";
    o.refresh = "last";
    o.model_ema = 1;
    resume_in(path, o, 5);
    o.precision = "fp32";
    resume_in(path, o, 9);
    rmdir(folder);
}

Test(train, resuming_with_other_settings_is_refused)
{
    char folder[] = "/tmp/octet-test-XXXXXX", path[64];
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    struct oct_options o = small_run();
    oct_trainer *t = run_open(&o);
    cr_assert_eq(oct_trainer_save(t, path), OCT_OK);
    oct_trainer_close(t);
    o.lr = 0.06;
    t = run_open(&o);
    cr_assert_eq(oct_trainer_load(t, path), OCT_ARG);
    cr_assert(strstr(oct_last_error(), "lr"), "%s", oct_last_error());
    oct_trainer_close(t);
    o.model = "resnet20";
    o.checkpoint = path;
    t = NULL;
    cr_assert_neq(oct_trainer_open(&o, &t), OCT_OK);
    cr_assert(strstr(oct_last_error(), path), "%s", oct_last_error());
    unlink(path);
    rmdir(folder);
}

Test(train, parameter_counts_are_those_of_the_papers_and_torchvision)
{
    static const struct {
        const char *model;
        int classes;
        int64_t parameters;
    } cases[] = {
        {"resnet20", 10, 272474}, /* 269,722 plus two projection shortcuts of 576 and 2,176 */
        {"resnet18", 1000, 11689512},
        {"resnet34", 1000, 21797672},
        {"resnet50", 1000, 25557032},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run();
        o.model = cases[i].model;
        o.synthetic_classes = cases[i].classes;
        o.synthetic_size = 32;
        o.synthetic_images = cases[i].classes; /* one of each at least */
        o.batch_size = 2;
        oct_trainer *t = run_open(&o);
        cr_assert_eq(oct_trainer_info(t)->parameters, cases[i].parameters, "%s: %lld",
            cases[i].model, (long long)oct_trainer_info(t)->parameters);
        oct_trainer_close(t);
    }
}

Test(train, simulation_stands_alone)
{
    struct oct_options o = small_run();
    oct_trainer *t = NULL;
    o.simulate = 1;
    o.device = "sim";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_ARG);
    cr_expect_str_eq(oct_last_error(), "--simulate multiplies in float64 on the CPU, and --device "
                                       "sim was asked for: leave out one of them");
    o.device = "cpu";
    o.isa = "vnni";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_ARG);
    cr_expect(strstr(oct_last_error(), "--isa vnni"), "%s", oct_last_error());
    cr_expect_null(t);
}

Test(train, senseless_options_are_refused_in_one_line)
{
    static const struct {
        const char *precision, *scheme, *opt, *first_last, *refresh, *skip, *says;
    } cases[] = {
        {"int9", "dai8", NULL, "int16", NULL, NULL, "int9"},
        {"int8", "dai9", NULL, "int16", NULL, NULL, "dai8"},
        {"int8", "dai8", "clip", "int16", NULL, NULL, "key=value"},
        {"int8", "dai8", "clip=maybe", "int16", NULL, NULL, "adaptive|amax"},
        {"int8", "dai8", "shrink=1", "int16", NULL, NULL, "shrink"},
        {"int8", "dai8", "k=1.5", "int16", NULL, NULL, "k*A <= 1"},
        {"int8", "dai8", NULL, "int4", NULL, NULL, "int16"},
        {"int8", "dai8", NULL, "int16", "never", NULL, "bound"},
        {"int8", "dai8", NULL, "int16", NULL, "layer[", "layer["},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run();
        oct_trainer *t = NULL;
        o.precision = cases[i].precision;
        o.scheme = cases[i].scheme;
        o.scheme_opt = cases[i].opt;
        o.first_last = cases[i].first_last;
        o.refresh = cases[i].refresh;
        o.int8_skip = cases[i].skip;
        cr_assert_eq(oct_trainer_open(&o, &t), OCT_ARG, "case %zu was accepted", i);
        cr_assert_null(t);
        cr_assert(strstr(oct_last_error(), cases[i].says), "case %zu: %s", i, oct_last_error());
        cr_assert_not(strchr(oct_last_error(), '\n'));
    }
}

static void count_warnings(void *user, const struct oct_event *event)
{
    if (event->kind == OCT_EVENT_WARNING && strstr(event->text, "PLplot"))
        ++*(int *)user;
}

/* A machine without PLplot's driver trains on, without a picture, and says so once. */
Test(train, a_missing_plot_driver_is_a_warning)
{
    char *folder = folder_make();
    int warnings = 0;
    struct oct_options o = small_run();
    o.epochs = 2;
    o.output_dir = folder;
    o.on_event = count_warnings;
    o.user = &warnings;
    setenv("PLPLOT_DRV_DIR", "/no/such/folder", 1);
    oct_trainer *t = run_open(&o);
    struct oct_result result;
    cr_expect(oct_trainer_run(t, &result) == OCT_OK, "%s", oct_last_error());
    oct_trainer_close(t);
    cr_expect(warnings == 1, "%d warnings", warnings);
    cr_expect(result.epochs == 2 && access(folder_path(folder, "curve.svg"), F_OK) != 0);
    folder_remove(folder);
}
