/* The networks of test_models.c on the simulated CUDA device: the losses of the CPU to the last bit
 * under every integer scheme. */
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

TestSuite(sim_models, .init = begin, .timeout = 3000);

enum { STEPS = 3 };

static void losses_of(const struct oct_options *o, double loss[STEPS])
{
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(o, &t), OCT_OK, "%s: %s", o->device, oct_last_error());
    for (int i = 0; i < STEPS; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "step %d: %s", i, oct_last_error());
        cr_assert_not(r.flagged, "step %d was flagged", i);
        loss[i] = r.loss;
    }
    oct_trainer_close(t);
}

static void compare_with(
    const char *model, const char *scheme, const char *scheme_opt, const char *rounding)
{
    double cpu[STEPS], sim[STEPS];
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 64;
    o.synthetic_size = strncmp(model, "lenet5", 6) == 0 ? 28 : 16;
    o.model = model;
    o.scheme = scheme;
    o.scheme_opt = scheme_opt;
    o.rounding = rounding;
    o.batch_size = 4;
    o.seed = 3;
    o.threads = 1;
    o.device = "cpu";
    losses_of(&o, cpu);
    o.device = "sim";
    losses_of(&o, sim);
    for (int i = 0; i < STEPS; i++)
        cr_assert(memcmp(&sim[i], &cpu[i], sizeof sim[i]) == 0,
            "%s %s: losses differ at step %d: sim %.17g, cpu %.17g", model, scheme, i, sim[i],
            cpu[i]);
}

static void compare(const char *model, const char *scheme, const char *rounding)
{
    compare_with(model, scheme, NULL, rounding);
}

static void compare_schemes(const char *model)
{
    for (size_t i = 0; oct_scheme_name(i); i++) {
        const struct oct_scheme *scheme = oct_scheme_find(oct_scheme_name(i));
        if (!run_takes_any_model(scheme->name) && strcmp(model, run_model_of(scheme->name)) != 0)
            continue;
        bool even = scheme->role[OCT_ROLE_DY_DW].grid == OCT_GRID_UNIFORM;
        compare(model, scheme->name, i % 2 && even ? "stochastic" : "nearest");
    }
}

Test(sim_models, lenet5)
{
    compare_schemes("lenet5");
}

/* Evaluation has products of its own: codes of normalised channels. */
Test(sim_models, evaluation)
{
    static const char *const devices[] = {"cpu", "sim"};
    struct oct_eval_result result[2];
    for (int i = 0; i < 2; i++) {
        struct oct_options o;
        struct oct_step_result r;
        oct_trainer *t = NULL;
        oct_options_init(&o);
        o.dataset = "synthetic";
        o.synthetic_images = 64;
        o.synthetic_size = 16;
        o.model = "resnet8";
        o.scheme = "fqat";
        o.batch_size = 8;
        o.seed = 3;
        o.device = devices[i];
        cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s: %s", o.device, oct_last_error());
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(oct_trainer_evaluate(t, &result[i]), OCT_OK, "%s", oct_last_error());
        oct_trainer_close(t);
    }
    cr_assert(memcmp(&result[0].loss, &result[1].loss, sizeof result[0].loss) == 0,
        "cpu %.17g, sim %.17g", result[0].loss, result[1].loss);
    cr_assert_eq(result[0].top1, result[1].top1);
}

Test(sim_models, lenet5_bn)
{
    compare("lenet5_bn", "fqat", "nearest");
}

Test(sim_models, compensation)
{
    compare_with("resnet8", "fqat", "compensation=on", "nearest");
}

Test(sim_models, barrier_on_activations)
{
    compare_with("lenet5_bn", "logbtq", "lam_a=1e-3", "nearest");
}

Test(sim_models, preact_resnet)
{
    compare_schemes("preact_resnet8");
}

Test(sim_models, fixup_resnet)
{
    compare_schemes("fixup_resnet8");
}
