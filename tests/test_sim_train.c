/* Whole training runs on the simulated CUDA device: the losses of the CPU to the last bit, for
 * both roundings, with and without recorded steps; checkpoints that change device; refusals. */
#include "support/folder.h"
#include "support/mirror.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void begin(void)
{
    mirror_find_plugins();
    setenv("GPUSIM_THREADS", "2", 0);
}

TestSuite(sim_train, .init = begin, .timeout = 3000);

static struct oct_options small_run(const char *device)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 128;
    o.synthetic_size = 16;
    o.model = "resnet8";
    o.batch_size = 8;
    o.seed = 3;
    o.threads = 1;
    o.device = device;
    return o;
}

static void losses_of(struct oct_options o, const char *device, int steps, double *loss)
{
    o.device = device;
    oct_trainer *t = run_open(&o);
    run_steps(t, steps, loss);
    oct_trainer_close(t);
}

static void expect_equal(const char *what, const double *got, const double *want, int steps)
{
    for (int i = 0; i < steps; i++)
        cr_assert(memcmp(&got[i], &want[i], sizeof got[i]) == 0,
            "%s: losses differ at step %d: sim %.17g, cpu %.17g", what, i, got[i], want[i]);
}

/* The default configuration, 50 steps. */
static void compare_fifty(const char *rounding)
{
    enum { STEPS = 50, ENDS = 5 };
    double cpu[STEPS], sim[STEPS], first = 0.0, last = 0.0;
    struct oct_options o = small_run("cpu");
    o.synthetic_images = 1600;
    o.synthetic_size = 32;
    o.batch_size = 32;
    o.rounding = rounding;
    losses_of(o, "cpu", STEPS, cpu);
    losses_of(o, "sim", STEPS, sim);
    expect_equal(rounding, sim, cpu, STEPS);
    for (int i = 0; i < ENDS; i++) {
        first += sim[i];
        last += sim[STEPS - 1 - i];
    }
    cr_assert_lt(last, 0.9 * first, "the loss went from %g to %g", first / ENDS, last / ENDS);
}

Test(sim_train, fifty_steps_round_to_nearest)
{
    compare_fifty("nearest");
}

Test(sim_train, fifty_steps_round_stochastically)
{
    compare_fifty("stochastic");
}

/* Every kind of recording: first and last part, neither, and one part that is both; averages. */
Test(sim_train, parts_of_a_step_recorded_or_not)
{
    enum { STEPS = 4 };
    double cpu[STEPS], sim[STEPS];
    for (int parts = 1; parts <= 3; parts += 2) {
        struct oct_options o = small_run("cpu");
        o.grad_accum_steps = parts;
        o.model_ema = 1;
        o.label_smoothing = 0.1;
        losses_of(o, "cpu", STEPS, cpu);
        losses_of(o, "sim", STEPS, sim);
        expect_equal("recorded", sim, cpu, STEPS);
        setenv("OCT_CUDA_GRAPHS", "off", 1);
        losses_of(o, "sim", STEPS, sim);
        unsetenv("OCT_CUDA_GRAPHS");
        expect_equal("op by op", sim, cpu, STEPS);
    }
}

/* Streams that run late and in random order change nothing if every wait is there. */
Test(sim_train, late_streams)
{
    enum { STEPS = 3 };
    double cpu[STEPS], sim[STEPS];
    setenv("GPUSIM_STREAMS", "random:7", 1);
    losses_of(small_run("cpu"), "cpu", STEPS, cpu);
    losses_of(small_run("cpu"), "sim", STEPS, sim);
    expect_equal("random streams", sim, cpu, STEPS);
}

/* Losses of one cell of the matrix below; false if this processor cannot. */
static bool cell(const char *scheme, const char *isa, int steps, double *loss)
{
    bool sim = strcmp(isa, "cuda") == 0;
    struct oct_options o = small_run(sim ? "sim" : "cpu");
    oct_trainer *t = NULL;
    o.scheme = scheme;
    o.model = run_model_of(scheme);
    o.isa = sim ? NULL : isa;
    if (oct_trainer_open(&o, &t) != OCT_OK) {
        cr_expect(strcmp(isa, "vnni") == 0 && !__builtin_cpu_supports("avx512vnni"), "%s on %s: %s",
            scheme, isa, oct_last_error());
        return false;
    }
    run_steps(t, steps, loss);
    oct_trainer_close(t);
    return true;
}

/* Every scheme there is on every kind of kernel, five steps; an empty cell fails. */
Test(sim_train, every_scheme_runs_everywhere)
{
    enum { STEPS = 5 };
    static const char *const isas[] = {"c", "vnni", "amx-emulated", "cuda"};
    fprintf(stderr, "scheme   c    vnni amx  cuda\n");
    for (size_t s = 0; oct_scheme_name(s); s++) {
        double want[STEPS], got[STEPS];
        fprintf(stderr, "%-8s", oct_scheme_name(s));
        for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
            bool ran = cell(oct_scheme_name(s), isas[i], STEPS, i == 0 ? want : got);
            bool same = ran && (i == 0 || memcmp(got, want, sizeof want) == 0);
            fprintf(stderr, " %-4s", !ran ? "-" : same ? "ok" : "BAD");
            cr_expect(!ran || same, "%s: losses on c and %s differ", oct_scheme_name(s), isas[i]);
        }
        fprintf(stderr, "\n");
    }
}

/* The clip value is searched in steps 0 and 3, which are enqueued op by op; those between are one
 * recording. */
Test(sim_train, a_search_between_recorded_steps)
{
    enum { STEPS = 5 };
    double cpu[STEPS], sim[STEPS];
    struct oct_options o = small_run("cpu");
    o.scheme = "ui8";
    o.scheme_opt = "period=3";
    losses_of(o, "cpu", STEPS, cpu);
    losses_of(o, "sim", STEPS, sim);
    expect_equal("search", sim, cpu, STEPS);
}

/* The range of the gradients' codes and the rate change from epoch to epoch; the recording stays.
 */
Test(sim_train, fixed_point_ranges_between_recorded_steps)
{
    enum { STEPS = 20 };
    double cpu[STEPS], sim[STEPS];
    struct oct_options o = small_run("cpu");
    o.scheme = "wageubn";
    o.model = "preact_resnet8";
    o.synthetic_images = 16; /* two steps an epoch: ranges 128, 32, 8, 2 */
    o.epochs = 10;
    o.momentum = 0.25;
    losses_of(o, "cpu", STEPS, cpu);
    losses_of(o, "sim", STEPS, sim);
    expect_equal("fixed point", sim, cpu, STEPS);
}

static void change_device(const char *from, const char *to)
{
    enum { BEFORE = 3, AFTER = 3 };
    double want[BEFORE + AFTER], got[BEFORE + AFTER];
    struct oct_options o = small_run(from);
    char *folder = folder_make(), path[300];

    losses_of(o, "cpu", BEFORE + AFTER, want);
    snprintf(path, sizeof path, "%s/state.safetensors", folder);
    oct_trainer *t = run_open(&o);
    run_steps(t, BEFORE, got);
    cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
    oct_trainer_close(t);
    o.device = to;
    t = run_open(&o);
    cr_assert_eq(oct_trainer_load(t, path), OCT_OK, "%s", oct_last_error());
    run_steps(t, AFTER, got + BEFORE);
    oct_trainer_close(t);
    expect_equal(to, got, want, BEFORE + AFTER);
    folder_remove(folder);
}

Test(sim_train, a_checkpoint_changes_device)
{
    change_device("cpu", "sim");
    change_device("sim", "cpu");
}

Test(sim_train, a_step_allocates_nothing)
{
    struct oct_options o = small_run("sim");
    double loss[4];
    oct_trainer *t = run_open(&o);
    int64_t before = t->backend->allocations;
    run_steps(t, 4, loss);
    cr_assert_eq(t->backend->allocations, before);
    oct_trainer_close(t);
}

static void expect_refusal(
    const char *device, const char *variable, const char *value, const char *word)
{
    struct oct_options o = small_run(device);
    oct_trainer *t = NULL;
    if (variable)
        setenv(variable, value, 1);
    cr_expect_neq(oct_trainer_open(&o, &t), OCT_OK, "%s with %s=%s was opened", device,
        variable ? variable : "", value);
    cr_expect_null(t);
    cr_expect_not_null(
        strstr(oct_last_error(), word), "'%s' does not say '%s'", oct_last_error(), word);
    cr_expect_null(strchr(oct_last_error(), '\n'));
    if (variable)
        unsetenv(variable);
}

Test(sim_train, devices_that_are_refused)
{
    expect_refusal("sim:1", NULL, "", "1 CUDA device");
    expect_refusal("sim:-1", NULL, "", "number");
    expect_refusal("sim:1x", NULL, "", "number");
    expect_refusal("simulated", NULL, "", "unknown device");
    expect_refusal("sim", "GPUSIM_DEVICES", "0", "no CUDA device");
    expect_refusal("sim", "GPUSIM_CAPABILITY", "70", "Turing");
    expect_refusal("sim", "GPUSIM_CAPABILITY", "103", "B300");
    expect_refusal("sim", "GPUSIM_MEMORY", "100000", "smaller --batch-size");
    expect_refusal("sim", "OCT_PLUGIN_PATH", "/nowhere", "/nowhere");
}

Test(sim_train, what_the_device_cannot_do_is_refused_with_the_reason)
{
    struct oct_options o = small_run("sim");
    oct_trainer *t = NULL;
    o.precision = "fp32";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_UNSUPPORTED);
    cr_expect_not_null(strstr(oct_last_error(), "f32"), "%s", oct_last_error());
    o = small_run("sim");
    o.isa = "vnni";
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_ARG);
    cr_expect_not_null(strstr(oct_last_error(), "vnni"), "%s", oct_last_error());
    o = small_run("sim");
    o.stats_interval = 5; /* compares with a float product */
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_UNSUPPORTED);
    cr_expect_null(t);
}
