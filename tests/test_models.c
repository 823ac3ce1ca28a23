/* The networks beside the residual networks with BN (test_train.c): parameter counts, names and
 * initial values, equal losses on every instruction set under every integer scheme, learning in
 * every precision, resumption. Their gradients: test_graph.c; on the simulated GPU:
 * test_sim_models.c. */
#include "support/folder.h"
#include "support/runs.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 5 };

static struct oct_options small_run(const char *model)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 128;
    o.model = model;
    o.synthetic_size = strncmp(model, "lenet5", 6) == 0 ? 28 : 16;
    o.batch_size = 8;
    o.lr = 0.02;
    o.seed = 3;
    o.threads = 2;
    return o;
}

static void losses_of(const struct oct_options *o, int steps, double *loss)
{
    oct_trainer *t = run_open(o);
    run_steps(t, steps, loss);
    oct_trainer_close(t);
}

static void expect_equal(
    const struct oct_options *o, const char *what, const double *got, const double *want, int steps)
{
    for (int i = 0; i < steps; i++)
        cr_assert(memcmp(&got[i], &want[i], sizeof got[i]) == 0,
            "%s %s, %s: losses differ at step %d: %.17g and %.17g", o->model, o->scheme, what, i,
            got[i], want[i]);
}

/* --- what the builders make --- */

Test(models, parameter_counts)
{
    static const struct {
        const char *model;
        int size, classes;
        int64_t parameters;
    } cases[] = {
        /* 6 x 25 + 6, 16 x 150 + 16, 120 x 400 + 120, 84 x 120 + 84, 10 x 84 + 10 */
        {"lenet5", 28, 10, 61706},
        /* scale and shift of 6, 16 and 120 channels in place of their biases */
        {"lenet5_bn", 28, 10, 61706 + 6 + 16 + 120},
        /* the known 9,231,114 less the 2,752 biases in front of BN */
        {"vgg11", 32, 10, 9228362},
        /* resnet20's 272,474: BN of 16 less 32, of the shortcuts 64 + 128 less; the first BN of a
         * widening block has its input's width, 32 + 64 less; 128 more in front of the pooling */
        {"preact_resnet20", 32, 10, 272474 - 32 - 192 - 96 + 128},
        {"preact_resnet18", 64, 1000, 11689512 - 128 - 1792 - 896 + 1024},
        {"preact_resnet50", 64, 1000, 25557032 - 128 - 7680 - 3968 + 4096},
        /* those of the networks with BN, less BN's, plus 5 (bottleneck 7) a block and 2 */
        {"fixup_resnet20", 32, 10, 272474 - 1568 + 9 * 5 + 2},
        {"fixup_resnet18", 64, 1000, 11689512 - 9600 + 8 * 5 + 2},
        {"fixup_resnet50", 64, 1000, 25557032 - 53120 + 16 * 7 + 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run(cases[i].model);
        o.synthetic_classes = cases[i].classes;
        o.synthetic_size = cases[i].size;
        o.synthetic_images = cases[i].classes; /* one of each at least */
        o.batch_size = 2;
        oct_trainer *t = run_open(&o);
        int64_t found = oct_trainer_info(t)->parameters;
        cr_expect_eq(found, cases[i].parameters, "%s: %lld parameters, not %lld", cases[i].model,
            (long long)found, (long long)cases[i].parameters);
        oct_trainer_close(t);
    }
}

static const struct oct_param *param_of(const oct_trainer *t, const char *name)
{
    for (int i = 0; i < t->graph->param_count; i++)
        if (strcmp(t->graph->params[i].name, name) == 0)
            return &t->graph->params[i];
    cr_assert_fail("%s has no parameter %s", t->options.model, name);
    return NULL;
}

Test(models, names)
{
    static const struct {
        const char *model, *names[6];
    } cases[] = {
        {"lenet5", {"conv1.weight", "conv2.bias", "fc1.bias", "fc2.weight", "fc3.bias"}},
        {"lenet5_bn",
            {"conv1.weight", "bn1.weight", "bn2.bias", "bn3.weight", "fc1.weight", "fc3.bias"}},
        {"vgg11", {"features.0.weight", "features.1.bias", "features.25.weight",
                      "features.26.weight", "classifier.weight", "classifier.bias"}},
        {"preact_resnet8", {"conv1.weight", "layer1.0.bn1.weight", "layer2.0.downsample.0.weight",
                               "layer3.0.conv2.weight", "bn.bias", "fc.weight"}},
        {"fixup_resnet8", {"bias1", "layer1.0.bias1a", "layer2.0.downsample.weight",
                              "layer3.0.scale", "layer3.0.bias2b", "bias2"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run(cases[i].model);
        o.synthetic_size = 32;
        oct_trainer *t = run_open(&o);
        for (int j = 0; j < 6 && cases[i].names[j]; j++)
            param_of(t, cases[i].names[j]);
        oct_trainer_close(t);
    }
}

/* Mean square of a parameter's values against a standard deviation. n squares of a normal variable
 * have a relative deviation of sqrt(2 / n); 5 of those never happen by chance. */
static void expect_deviation(const oct_trainer *t, const char *name, double deviation)
{
    const struct oct_param *param = param_of(t, name);
    const float *w = param->value->data;
    double square = 0.0, n = (double)param->count, want = deviation * deviation;
    for (int64_t i = 0; i < param->count; i++)
        square += (double)w[i] * w[i];
    cr_expect(fabs(square / n - want) <= 5.0 * sqrt(2.0 / n) * want,
        "%s: mean square %g, expected %g", name, square / n, want);
}

static void expect_constant(const oct_trainer *t, const char *name, float value)
{
    const struct oct_param *param = param_of(t, name);
    const float *w = param->value->data;
    for (int64_t i = 0; i < param->count; i++)
        cr_assert_eq(w[i], value, "%s begins at %g", name, (double)w[i]);
}

Test(models, fixup_begins_as_its_paper_says)
{
    struct oct_options o = small_run("fixup_resnet20");
    oct_trainer *t = run_open(&o);
    expect_deviation(t, "conv1.weight", sqrt(2.0 / (16 * 9)));
    expect_deviation(t, "layer1.2.conv1.weight", sqrt(2.0 / (16 * 9)) * pow(9.0, -0.5));
    expect_deviation(t, "layer3.0.conv1.weight", sqrt(2.0 / (64 * 9)) * pow(9.0, -0.5));
    expect_deviation(t, "layer3.0.downsample.weight", sqrt(2.0 / 64));
    expect_constant(t, "layer1.2.conv2.weight", 0.0f);
    expect_constant(t, "layer1.2.bias1a", 0.0f);
    expect_constant(t, "layer1.2.scale", 1.0f);
    expect_constant(t, "fc.weight", 0.0f);
    expect_constant(t, "fc.bias", 0.0f);
    oct_trainer_close(t);

    o.model = "fixup_resnet50";
    o.synthetic_size = 64;
    o.batch_size = 2;
    t = run_open(&o);
    expect_deviation(t, "layer2.1.conv1.weight", sqrt(2.0 / 128) * pow(16.0, -0.25));
    expect_deviation(t, "layer2.1.conv2.weight", sqrt(2.0 / (128 * 9)) * pow(16.0, -0.25));
    expect_constant(t, "layer2.1.conv3.weight", 0.0f);
    oct_trainer_close(t);
}

Test(models, images_that_do_not_suit_are_refused)
{
    struct oct_options o = small_run("vgg11"); /* five poolings of 16x16 */
    oct_trainer *t = NULL;
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_SHAPE);
    cr_expect(strstr(oct_last_error(), "2x2 window"), "%s", oct_last_error());
    o = small_run("lenet5");
    o.synthetic_size = 8;
    cr_expect_eq(oct_trainer_open(&o, &t), OCT_SHAPE);
    cr_expect_null(t);
}

/* --- bits --- */

static bool isa_available(const char *isa)
{
    oct_backend *backend = NULL;
    struct oct_backend_options options = {.device = "cpu", .isa = isa, .threads = 1};
    bool available = oct_backend_open(&options, &backend) == OCT_OK;
    oct_backend_close(backend);
    return available;
}

static void compare_isas(struct oct_options o, int steps)
{
    static const char *const isas[] = {"vnni", "amx-emulated", "simulate"};
    double want[STEPS], got[STEPS];
    o.isa = "c";
    losses_of(&o, steps, want);
    o.threads = 3;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        if (!isa_available(isas[i]))
            continue;
        o.isa = isas[i];
        losses_of(&o, steps, got);
        expect_equal(&o, isas[i], got, want, steps);
    }
}

/* Only evenly spaced codes can be rounded stochastically. */
static bool rounds_stochastically(const char *scheme)
{
    return oct_scheme_find(scheme)->role[OCT_ROLE_DY_DW].grid == OCT_GRID_UNIFORM;
}

/* Every integer scheme, with what it does by itself and with what moves the error's scales. */
static void compare_schemes(const char *model)
{
    for (size_t i = 0; oct_scheme_name(i); i++) {
        struct oct_options o = small_run(model);
        o.scheme = oct_scheme_name(i);
        if (!run_takes_any_model(o.scheme) && strcmp(model, run_model_of(o.scheme)) != 0)
            continue;
        compare_isas(o, STEPS);
        o.rounding = rounds_stochastically(o.scheme) ? "stochastic" : "nearest";
        o.refresh = "exact";
        o.grad_accum_steps = 2;
        compare_isas(o, 3);
    }
}

Test(models, lenet5_has_equal_losses_everywhere, .timeout = 600)
{
    compare_schemes("lenet5");
}

/* Clipped channels, the largest of them pooled. */
Test(models, lenet5_bn_has_equal_losses_everywhere, .timeout = 600)
{
    struct oct_options o = small_run("lenet5_bn");
    o.scheme = "fqat";
    compare_isas(o, STEPS);
}

Test(models, preact_resnet_has_equal_losses_everywhere, .timeout = 600)
{
    compare_schemes("preact_resnet8");
}

Test(models, fixup_resnet_has_equal_losses_everywhere, .timeout = 600)
{
    compare_schemes("fixup_resnet8");
}

Test(models, vgg11_has_equal_losses_everywhere, .timeout = 600)
{
    struct oct_options o = small_run("vgg11");
    o.synthetic_size = 32;
    o.batch_size = 2;
    compare_isas(o, 2);
}

/* Reals where codes are the default, and the other way round. */
Test(models, numeric_options)
{
    static const char *const models[] = {"lenet5", "preact_resnet8", "fixup_resnet8"};
    static const struct {
        const char *opt, *first_last, *act_dtype;
        int fwd, dgrad, wgrad;
    } cases[] = {{"residual=float", "float", "bf16", 1, 1, 1}, {NULL, "int8", "f32", 1, 1, 1},
        {NULL, "int16", "bf16", 0, 1, 1}, {NULL, "int16", "bf16", 1, 0, 1},
        {NULL, "int16", "bf16", 1, 1, 0}};
    for (size_t i = 0; i < 3 * sizeof cases / sizeof cases[0]; i++) {
        struct oct_options o = small_run(models[i % 3]);
        double loss[STEPS];
        o.scheme_opt = cases[i / 3].opt;
        o.first_last = cases[i / 3].first_last;
        o.act_dtype = cases[i / 3].act_dtype;
        o.int8_fwd = cases[i / 3].fwd;
        o.int8_dgrad = cases[i / 3].dgrad;
        o.int8_wgrad = cases[i / 3].wgrad;
        losses_of(&o, STEPS, loss);
        cr_expect(isfinite(loss[STEPS - 1]) && loss[STEPS - 1] < 4.0, "%s case %zu: loss %g",
            o.model, i / 3, loss[STEPS - 1]);
    }
}

/* --- learning, resuming --- */

/* After the first step, without momentum: w = w0 - fl(fl(lr factor) (g + decay w0)). */
static void expect_first_step(const oct_trainer *t, const char *name, float before, float factor)
{
    const struct oct_param *param = param_of(t, name);
    const struct oct_step_state *step = t->graph->step->data;
    const float *w = param->value->data, *grad = param->grad->data;
    float rate = step->lr * factor;
    float decayed = param->decay ? (float)t->options.weight_decay * before : 0.0f;
    float g = grad[0] + decayed, moved = rate * g;
    cr_expect_neq(grad[0], 0.0f, "%s has no gradient", name);
    cr_expect_eq(
        w[0], before - moved, "%s: %a, expected %a", name, (double)w[0], (double)(before - moved));
}

Test(models, scalars_of_fixup_learn_at_a_tenth_of_the_rate)
{
    struct oct_options o = small_run("fixup_resnet8");
    double loss[2];
    o.precision = "fp32";
    oct_trainer *t = run_open(&o);
    run_steps(t, 1, loss); /* the classifier leaves 0 */
    cr_expect_eq(*(float *)param_of(t, "bias2")->value->data, 0.0f);
    float stem = ((float *)param_of(t, "fc.bias")->value->data)[0];
    cr_expect_neq(stem, 0.0f);
    float *momentum = param_of(t, "fc.bias")->momentum->data;
    momentum[0] = 0.0f;
    run_steps(t, 1, loss);
    expect_first_step(t, "bias2", 0.0f, 0.1f);
    expect_first_step(t, "layer3.0.bias2b", 0.0f, 0.1f);
    expect_first_step(t, "fc.bias", stem, 1.0f);
    oct_trainer_close(t);
}

static void learn(const char *model, double lr, int epochs, double limit)
{
    static const char *const precisions[] = {"fp32", "int8", "bf16"};
    for (size_t i = 0; i < 3; i++) {
        struct oct_options o = small_run(model);
        struct oct_result result;
        o.precision = precisions[i];
        o.synthetic_images = 256;
        o.batch_size = 16;
        o.epochs = epochs;
        o.lr = lr;
        oct_trainer *t = run_open(&o);
        cr_assert_eq(oct_trainer_run(t, &result), OCT_OK, "%s", oct_last_error());
        cr_expect_lt(result.train_loss, limit, "%s %s: loss %g after %d epochs, 2.3 at the start",
            model, precisions[i], result.train_loss, epochs);
        oct_trainer_close(t);
    }
}

Test(models, lenet5_learns)
{
    learn("lenet5", 0.02, 6, 1.5);
}

Test(models, preact_resnet_learns)
{
    learn("preact_resnet8", 0.05, 6, 1.5);
}

Test(models, fixup_resnet_learns)
{
    learn("fixup_resnet8", 0.1, 12, 1.7); /* begins with nothing but a stem and no classifier */
}

Test(models, resuming_continues_with_equal_bits)
{
    static const char *const models[] = {"lenet5", "preact_resnet8", "fixup_resnet8"};
    enum { BEFORE = 2 };
    char *folder = folder_make(), path[300];
    snprintf(path, sizeof path, "%s/a.safetensors", folder);
    for (size_t i = 0; i < 3; i++) {
        struct oct_options o = small_run(models[i]);
        double want[STEPS], got[STEPS];
        losses_of(&o, STEPS, want);
        oct_trainer *t = run_open(&o);
        run_steps(t, BEFORE, got);
        cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
        oct_trainer_close(t);
        t = run_open(&o);
        cr_assert_eq(oct_trainer_load(t, path), OCT_OK, "%s", oct_last_error());
        run_steps(t, STEPS - BEFORE, got + BEFORE);
        oct_trainer_close(t);
        expect_equal(&o, "resumed", got, want, STEPS);
    }
    folder_remove(folder);
}
