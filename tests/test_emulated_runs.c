/* Runs whose operands are emulated in float, around their steps: refusals, reports, checkpoints,
 * other networks. The steps: test_emulated.c. */
#include "support/folder.h"
#include "support/runs.h"
#include "train/runlog.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static struct oct_options mu_law_run(void)
{
    return run_emulated_options("logbtq", "product=exact");
}

static struct oct_options fraction_run(void)
{
    return run_emulated_options("wageubn", "activations=fraction");
}

typedef struct oct_options (*run_fn)(void);
static const run_fn runs[] = {mu_law_run, fraction_run};

static void expect_refusal(const struct oct_options *o, const char *fragment)
{
    oct_trainer *t = NULL;
    cr_expect_neq(oct_trainer_open(o, &t), OCT_OK, "'%s' is missing", fragment);
    cr_expect_null(t);
    cr_expect(strstr(oct_last_error(), fragment), "no '%s' in: %s", fragment, oct_last_error());
    cr_expect(!strchr(oct_last_error(), '\n'), "%s", oct_last_error());
}

Test(emulated_runs, what_it_cannot_do_is_refused_in_one_line)
{
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = runs[i]();
        o.simulate = 0;
        expect_refusal(&o, "add --simulate, on --device cpu");
        o.isa = "c";
        expect_refusal(&o, "add --simulate");
        o.isa = NULL;
        o.device = "sim";
        expect_refusal(&o, "add --simulate, on --device cpu");
        o = runs[i]();
        o.device = "cuda";
        expect_refusal(&o, "--device cuda");
        o.device = "cpu";
        o.isa = "vnni";
        expect_refusal(&o, "--isa vnni");
        o = runs[i]();
        o.act_dtype = "bf16";
        expect_refusal(&o, "give --act-dtype f32");
        o = runs[i]();
        o.int8_dgrad = 0;
        expect_refusal(&o, "leave --int8-fwd, --int8-dgrad and --int8-wgrad on");
        o = runs[i]();
        o.rounding = "stochastic";
        expect_refusal(&o, "stochastic");
    }
    struct oct_options plain = fraction_run();
    plain.scheme_opt = "activations=fraction,e2=plain";
    plain.rounding = "stochastic";
    expect_refusal(&plain, "leave --rounding stochastic out");
}

/* --isa simulate is what --simulate stands for. */
Test(emulated_runs, the_instruction_set_may_be_named)
{
    struct oct_options o = mu_law_run();
    o.simulate = 0;
    o.isa = "simulate";
    oct_trainer_close(run_open(&o));
}

static void expect_no_int8(oct_trainer *t)
{
    const struct oct_run_info *info = oct_trainer_info(t);
    struct oct_layer_record rows[64];
    size_t count = 0;
    for (int pass = 0; pass < 3; pass++)
        cr_expect_eq(info->int8_share[pass], 0.0);
    cr_expect(strstr(info->not_int8, "layer1.0.conv1 (emulated in float"), "%s", info->not_int8);
    cr_expect_str_eq(info->two_plane, "");
    cr_assert_eq(oct_health(t, rows, &count), OCT_OK, "%s", oct_last_error());
    cr_expect_eq(count, 10);
    for (size_t i = 0; i < count; i++)
        cr_expect_eq(rows[i].int8_share, 0.0, "%s", rows[i].layer);
}

/* Reports count no int8 product, the profile neither, and X is saved with four bytes. */
Test(emulated_runs, reports_are_honest)
{
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = runs[i]();
        const struct oct_profile_row *rows;
        size_t count;
        oct_trainer *t = run_open(&o);
        expect_no_int8(t);
        cr_assert_eq(oct_trainer_profile(t, 1, &rows, &count), OCT_OK, "%s", oct_last_error());
        for (size_t r = 0; r < count; r++)
            cr_expect_eq(rows[r].int8, 0, "%s %s", rows[r].node, rows[r].pass);
        int64_t emulated = oct_trainer_info(t)->saved_bytes;
        oct_trainer_close(t);

        o.scheme_opt = NULL;
        t = run_open(&o);
        cr_expect_eq(oct_trainer_info(t)->int8_share[0], 1.0);
        cr_expect_gt(emulated, oct_trainer_info(t)->saved_bytes);
        oct_trainer_close(t);
    }
}

/* Layers that other options keep in float stay there, unquantised. */
Test(emulated_runs, layers_may_be_left_out)
{
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = runs[i]();
        double loss[2];
        o.first_last = "float";
        o.int8_skip = "layer2";
        oct_trainer *t = run_open(&o);
        const char *not_int8 = oct_trainer_info(t)->not_int8;
        cr_expect(strstr(not_int8, "conv1 (first or last layer"), "%s", not_int8);
        cr_expect(strstr(not_int8, "layer2.0.conv1 (--int8-skip)"), "%s", not_int8);
        cr_expect(strstr(not_int8, "layer3.0.conv1 (emulated in float"), "%s", not_int8);
        run_steps(t, 2, loss);
        cr_expect(isfinite(loss[1]));
        oct_trainer_close(t);
    }
}

/* dW of sampled steps against that of the unquantised dY: X is the same in both, so that a mu-law
 * code's 2 % and 8 bits with a flag leave the direction. */
Test(emulated_runs, directions_are_sampled)
{
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = runs[i]();
        struct oct_layer_record rows[64];
        double loss;
        size_t count;
        o.stats_interval = 1;
        oct_trainer *t = run_open(&o);
        run_steps(t, 1, &loss);
        cr_assert_eq(oct_health(t, rows, &count), OCT_OK, "%s", oct_last_error());
        for (size_t r = 0; r < count; r++)
            cr_expect(rows[r].cosine_dw > 0.99 && rows[r].cosine_dw < 1.0, "%s: %.9g",
                rows[r].layer, rows[r].cosine_dw);
        oct_trainer_close(t);
    }
}

/* A run over a checkpoint, and its evaluation, are those without. */
Test(emulated_runs, checkpoints_hold_all)
{
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = runs[i]();
        char *folder = folder_make();
        const char *path = folder_path(folder, "a.safetensors");
        struct oct_eval_result whole, again;
        double one[6], other[6];

        oct_trainer *t = run_open(&o);
        run_steps(t, 3, one);
        cr_assert_eq(oct_trainer_save(t, path), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(oct_trainer_evaluate(t, &whole), OCT_OK, "%s", oct_last_error());
        run_steps(t, 3, one + 3);
        oct_trainer_close(t);
        t = run_open(&o);
        cr_assert_eq(oct_trainer_load(t, path), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(oct_trainer_evaluate(t, &again), OCT_OK, "%s", oct_last_error());
        cr_expect(whole.loss == again.loss && whole.top1 == again.top1);
        run_steps(t, 3, other + 3);
        cr_expect_arr_eq(one + 3, other + 3, 3 * sizeof *one);
        oct_trainer_close(t);
        folder_remove(folder);
    }
}

/* One per test process. */
static struct watch {
    oct_trainer *t;
    int maxima;
} watch;

/* Of windows of 3x3 with stride 2 and padding 1, as in resnet18. */
static void see_maximum(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    (void)user;
    if (strcmp(node->type->name, "max_pool") != 0 || strcmp(what, "codes") != 0)
        return;
    const struct oct_value *x = &watch.t->graph->values[node->in[0]];
    const struct oct_value *out = &watch.t->graph->values[node->out];
    const float *in = oct_buffer_data(x->codes), *got = device;
    cr_assert_eq(dtype, OCT_F32);
    for (int64_t i = 0; i < count; i++) {
        int c = (int)(i % out->c), q = (int)(i / out->c % out->w);
        int p = (int)(i / out->c / out->w % out->h), n = (int)(i / out->c / out->w / out->h);
        float most = -INFINITY;
        for (int tap = 0; tap < 9; tap++) {
            int h = 2 * p - 1 + tap / 3, w = 2 * q - 1 + tap % 3;
            if (h >= 0 && h < x->h && w >= 0 && w < x->w)
                most = fmaxf(most, in[((int64_t)(n * x->h + h) * x->w + w) * x->c + c]);
        }
        if (got[i] != most)
            cr_assert_fail(
                "element %lld: %a, maximum %a", (long long)i, (double)got[i], (double)most);
    }
    watch.maxima++;
}

/* Networks with a maximum over windows, and with biases instead of normalisation. */
Test(emulated_runs, other_networks_train)
{
    static const char *const models[] = {"fixup_resnet8", "resnet18"};
    for (size_t i = 0; i < 2; i++) {
        struct oct_options o = mu_law_run();
        double loss[2];
        o.model = models[i];
        o.synthetic_size = 32;
        o.batch_size = 2;
        watch.t = run_open(&o);
        watch.t->observer.tensor = see_maximum;
        run_steps(watch.t, 2, loss);
        cr_expect(isfinite(loss[1]), "%s: %g", models[i], loss[1]);
        cr_expect_eq(watch.maxima, i == 0 ? 0 : 2);
        oct_trainer_close(watch.t);
    }
}
