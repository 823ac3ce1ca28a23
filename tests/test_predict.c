/* Predictions of a step on cards: the frozen table is sound, a layer comes out as by hand, nothing
 * is faster than its roofline, and what cannot be predicted is refused. */
#include "predict/cost.h"
#include "predict/cost_table.h"
#include "predict/predict.h"
#include "support/runs.h"

#include <criterion/criterion.h>
#include <math.h>
#include <octet.h>
#include <stdio.h>
#include <string.h>

/* Operations a clock of a multiprocessor's int8 units. */
static double rate_of(int arch)
{
    return arch == 90 ? 8192.0 : arch == 80 ? 4096.0 : 2048.0;
}

Test(predict, the_frozen_table_agrees_with_itself)
{
    for (size_t i = 0; oct_card_at(i); i++) {
        const struct oct_card *c = oct_card_at(i);
        const double int8 = c->multiprocessors * rate_of(c->arch) * c->clock_ghz * 1e-3;
        /* data sheets give three digits: half of the last one is 0.5 of 130 at worst */
        cr_expect(fabs(int8 / c->peak_tera[OCT_UNIT_INT8] - 1.0) <= 0.5 / 130.0,
            "%s: %g int8 operations by its clock, %g in the table", c->name, int8,
            c->peak_tera[OCT_UNIT_INT8]);
        /* FP16 with FP32 sums: half of the int8 rate, a quarter on GeForce cards */
        const double share = c->peak_tera[OCT_UNIT_FP16] / c->peak_tera[OCT_UNIT_INT8];
        cr_expect(
            fabs(share - 0.5) < 0.002 || fabs(share - 0.25) < 0.002, "%s: %g", c->name, share);
        cr_expect_geq(c->peak_tera[OCT_UNIT_FP16], c->peak_tera[OCT_UNIT_TF32]);
        cr_expect_gt(c->sustained, 0.0);
        cr_expect_leq(c->sustained, 1.0);
        cr_expect_leq(c->reachable_int8, 1.0);
        cr_expect_eq(oct_card_find(c->name), c);
        cr_expect_str_eq(oct_card_name(i), c->name);
    }
    for (int u = 0; u < OCT_UNITS; u++)
        cr_expect_lt(oct_card_assumptions.efficiency[u], 1.0);
    cr_expect_eq(oct_card_assumptions.band_low, 0.30);
    cr_expect_eq(oct_card_assumptions.band_high, 0.60);
}

static oct_backend *open_card(const char *card, const char *unit)
{
    oct_backend *backend = NULL;
    cr_assert_eq(oct_predict_open(card, unit, &backend), OCT_OK, "%s", oct_last_error());
    return backend;
}

/* The 1x1 convolution 256 to 64 at 56x56, batch 256, one of ResNet-50's. */
static struct oct_estimate estimate_layer(oct_backend *backend, enum oct_dtype dtype)
{
    struct oct_conv_fprop_args a = {.shape = oct_conv_pointwise(256, 56, 56, 256, 64),
        .x = {.dtype = dtype, .planes = 1},
        .w = {.dtype = dtype, .planes = 1},
        .y_dtype = dtype == OCT_F32 ? OCT_F32 : OCT_BF16};
    struct oct_estimate e;
    size_t bytes;
    cr_assert_eq(backend->conv_fprop_check(backend, &a, &bytes), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(backend->conv_fprop(backend, &a), OCT_OK, "%s", oct_last_error());
    backend->estimate(backend, &e);
    backend->close(backend);
    return e;
}

/* Sums of a few doubles in another order: 2^-52 each, ten of them. */
static void expect_same(const char *what, double got, double want)
{
    cr_expect(
        fabs(got - want) <= 10.0 * 0x1p-52 * want, "%s: %.17g, by hand %.17g", what, got, want);
}

enum { X = 205520896, Y = 51380224, W = 16384 }; /* elements: 802,816 pixels of 256 and 64 */

Test(predict, a_rival_layer_by_hand)
{
    const struct oct_estimate e = estimate_layer(open_card("a100", NULL), OCT_BF16);
    const double memory = 2.0 * (X + W + Y) / (2039e9 * 0.85), macs = 64.0 * X;
    expect_same("bytes", e.bytes, 2.0 * (X + W + Y));
    expect_same("macs", e.macs, macs);
    /* 26.3 GFLOP take 0.153 ms of FP16 at 55 %, the bytes 0.296 ms: memory bound at any efficiency
     */
    cr_expect_gt(memory, 2.0 * macs / 312e12 / 0.55);
    expect_same("seconds", e.seconds[OCT_ESTIMATE_NOMINAL], memory + 2e-6);
    expect_same("bound", e.bound[OCT_BOUND_MEMORY], memory + 2e-6);
    const struct oct_estimate fma = estimate_layer(open_card("a100", NULL), OCT_F32);
    expect_same("fp32", fma.seconds[OCT_ESTIMATE_NOMINAL], 2.0 * macs / 19.5e12 / 0.80 + 2e-6);
    expect_same("fp32 worst", fma.seconds[OCT_ESTIMATE_WORST], 2.0 * macs / 19.5e12 / 0.30 + 2e-6);
    expect_same("fp32 best", fma.seconds[OCT_ESTIMATE_BEST], 2.0 * macs / 19.5e12 / 0.80 + 2e-6);
    const struct oct_estimate tf32 = estimate_layer(open_card("a100", "tf32"), OCT_F32);
    const double slow = 4.0 * (X + W + Y) / (2039e9 * 0.85), unit = 2.0 * macs / 156e12 / 0.33;
    expect_same("tf32", tf32.seconds[OCT_ESTIMATE_NOMINAL], (slow > unit ? slow : unit) + 2e-6);
}

Test(predict, our_layer_by_hand)
{
    const struct oct_estimate e = estimate_layer(open_card("t4", NULL), OCT_S8);
    const double listed = X + W + 2.0 * Y;
    const double moved = listed * oct_kind_costs[OCT_WORK_FPROP].traffic;
    /* tile 128 x 64: 6272 blocks, 2 a multiprocessor, 80 at a time: 78.4 waves take 79 */
    const double products = 802816.0 / 16.0 * 8.0 * 8.0, filled = 6272.0 / (79.0 * 80.0);
    const double clock = 1.59e9 * 0.65;
    const struct oct_work_launch launch = {.tile = 2, .load = 0};
    struct oct_work_launch whole = launch;
    whole.blocks = 6272.0;
    whole.products = products;
    const double slots = oct_cost_product_slots(&whole, OCT_WORK_FPROP, 75);
    const double issue = slots / (40.0 * clock * 4.0) / filled;
    const double unit = 8192.0 * products / (130e12 * 0.65) / filled / 0.50;
    const double memory = moved / (320e9 * 0.85);
    const double most = fmax(memory, fmax(issue, unit));
    expect_same("listed bytes", e.listed_bytes, listed);
    expect_same("seconds", e.seconds[OCT_ESTIMATE_NOMINAL], most + 2e-6);
    /* 139 instructions of the main loop for 16 products on sm_75 (64 IMMA, four a product) */
    cr_expect_gt(slots, 139.0 / 16.0 * products);
}

/* The cut of any sweep and gradient has a kernel in the table, on every card. */
Test(predict, the_table_has_every_kernel)
{
    static const int channels[] = {1, 3, 4, 16, 20, 64, 256}, outputs[] = {1, 16, 24, 33, 64, 200};
    static const int multiprocessors[] = {1, 40, 132};
    for (size_t card = 0; oct_card_at(card); card++)
        for (int i = 0; i < 7 * 6 * 3 * 2 * 2; i++) {
            struct oct_conv_shape v =
                oct_conv_pointwise(2, 9, 9, channels[i % 7], outputs[i / 7 % 6]);
            const int many = multiprocessors[i / 42 % 3], planes = 1 + i / 126 % 2;
            const struct oct_operand one = {.dtype = OCT_S8, .planes = 1};
            const struct oct_operand two = {.dtype = OCT_S8, .planes = planes};
            struct oct_work_launch launch[OCT_WORK_LAUNCHES];
            v.r = v.s = i / 252 % 2 ? 3 : 1;
            v.pad_h = v.pad_w = v.r / 2;
            const struct oct_conv_fprop_args f = {.shape = v, .x = one, .w = two};
            const struct oct_conv_dgrad_args b = {.shape = v, .dy = one, .w = two};
            const struct oct_conv_wgrad_args g = {.shape = v, .x = one, .dy = two};
            const int arch = oct_card_at(card)->arch;
            cr_expect_eq(oct_work_fprop_launches(&f, many, launch), 1);
            cr_expect_gt(oct_cost_product_slots(launch, OCT_WORK_FPROP, arch), 0.0);
            cr_expect_eq(oct_work_dgrad_launches(&b, many, launch), 1);
            cr_expect_gt(oct_cost_product_slots(launch, OCT_WORK_DGRAD, arch), 0.0);
            cr_expect_eq(oct_work_wgrad_launches(&g, many, launch), planes);
            cr_expect_gt(oct_cost_product_slots(launch, OCT_WORK_WGRAD, arch), 0.0);
            cr_expect_geq(oct_cost_product_blocks(launch, arch), 1);
        }
}

static struct oct_options step_of(const char *device, const char *precision)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 16;
    o.synthetic_size = 64;
    o.model = "resnet50";
    o.batch_size = 16;
    o.precision = precision;
    o.device = device;
    return o;
}

static void check_roofline(const struct oct_card *card, const char *precision, enum oct_unit unit)
{
    char device[40];
    snprintf(device, sizeof device, "model:%s", card->name);
    const struct oct_options o = step_of(device, precision);
    const struct oct_model_row *rows;
    oct_trainer *t = NULL;
    size_t count = 0;
    double macs = 0.0;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s: %s", device, oct_last_error());
    cr_assert_eq(oct_trainer_predict(t, &rows, &count), OCT_OK, "%s", oct_last_error());
    for (size_t i = 0; i < count; i++) {
        const struct oct_model_row *r = &rows[i];
        cr_expect_geq(r->seconds, r->bytes / (card->bandwidth_gb * 1e9), "%s %s %s %s: memory",
            card->name, precision, r->node, r->pass);
        cr_expect_geq(r->seconds, 2.0 * r->macs / (card->peak_tera[unit] * 1e12),
            "%s %s %s %s: products", card->name, precision, r->node, r->pass);
        cr_expect(r->best <= r->seconds && r->seconds <= r->worst, "%s %s %s", precision, r->node,
            r->pass);
        macs += r->macs;
    }
    /* all products of the step: three for each layer, but the first has no dgrad */
    const struct oct_run_info *info = oct_trainer_info(t);
    expect_same("macs", macs, o.batch_size * (info->macs[0] + info->macs[1] + info->macs[2]));
    oct_trainer_close(t);
}

Test(predict, nothing_beats_the_roofline, .timeout = 300)
{
    for (size_t i = 0; oct_card_at(i); i++)
        check_roofline(oct_card_at(i), "int8", OCT_UNIT_INT8);
    check_roofline(oct_card_at(0), "bf16", OCT_UNIT_FP16);
    check_roofline(oct_card_at(0), "fp32", OCT_UNIT_FP32);
}

static void expect_prediction(const char *model, const char *scheme)
{
    struct oct_options o = step_of("model:t4", "int8");
    const struct oct_model_row *rows;
    size_t count = 0;
    oct_trainer *t = NULL;
    o.synthetic_size = 32;
    o.model = model;
    o.scheme = scheme;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s: %s", scheme, oct_last_error());
    cr_assert_eq(oct_trainer_predict(t, &rows, &count), OCT_OK, "%s", oct_last_error());
    cr_expect_gt(count, (size_t)0);
    for (size_t i = 0; i < count; i++)
        cr_expect(rows[i].seconds > 0.0 || strcmp(rows[i].node, "(step)") == 0, "%s, %s: %s %s",
            scheme, model, rows[i].node, rows[i].op);
    oct_trainer_close(t);
}

Test(predict, every_scheme_has_a_price)
{
    for (size_t i = 0; oct_scheme_name(i); i++)
        expect_prediction(run_model_of(oct_scheme_name(i)), oct_scheme_name(i));
    expect_prediction("fixup_resnet8", "dai8");
    expect_prediction("vgg11", "dai8");
}

static void refused(struct oct_options o, enum oct_status status, const char *word)
{
    oct_trainer *t = NULL;
    cr_expect_eq(oct_trainer_open(&o, &t), status, "%s", o.device);
    cr_expect_null(t);
    cr_expect_not_null(strstr(oct_last_error(), word), "'%s' lacks '%s'", oct_last_error(), word);
    cr_expect_null(strchr(oct_last_error(), '\n'));
}

Test(predict, what_cannot_be_predicted_is_refused)
{
    struct oct_options o = step_of("model:v100", "int8");
    refused(o, OCT_ARG, "t4, 2080ti, a100, 3090, 4090, h100");
    refused(step_of("model:", "int8"), OCT_ARG, "t4, 2080ti");
    o = step_of("model:t4", "fp32");
    o.isa = "tf32";
    refused(o, OCT_UNSUPPORTED, "no tf32 unit");
    o.isa = "vnni";
    refused(o, OCT_ARG, "vnni");
    o = step_of("model:t4", "int8");
    o.first_last = "float";
    refused(o, OCT_UNSUPPORTED, "one unit");
}

Test(predict, a_prediction_is_no_training)
{
    const struct oct_options o = step_of("model:t4", "int8");
    struct oct_result result;
    struct oct_eval_result eval;
    const struct oct_profile_row *rows;
    const struct oct_model_row *predicted;
    size_t count;
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s", oct_last_error());
    cr_expect_eq(oct_trainer_run(t, &result), OCT_ARG);
    cr_expect_not_null(strstr(oct_last_error(), "predicts"), "%s", oct_last_error());
    cr_expect_eq(oct_trainer_evaluate(t, &eval), OCT_ARG);
    cr_expect_eq(oct_trainer_profile(t, 1, &rows, &count), OCT_ARG);
    oct_trainer_close(t);
    struct oct_options cpu = step_of("cpu", "int8");
    cpu.model = "resnet8";
    cpu.synthetic_size = 16;
    cpu.threads = 1;
    cr_assert_eq(oct_trainer_open(&cpu, &t), OCT_OK, "%s", oct_last_error());
    cr_expect_eq(oct_trainer_predict(t, &predicted, &count), OCT_ARG);
    oct_trainer_close(t);
}
