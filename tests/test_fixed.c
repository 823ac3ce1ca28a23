/* The update in fixed point and regrid: known answers, and every variant against its oracle bit for
 * bit. */
#include "oracle/oracle_fixed.h"
#include "oracle/oracle_ops.h"
#include "backend_check.h"
#include "support/cpu_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>

static const int64_t lengths[] = {1, 3, 7, 16, 17, 64, 65, 257, 1027, 66563};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

/* ---- the functions of numeric.h ---- */

Test(fixed, learning_rates_lie_on_their_grid)
{
    static const float lr[] = {0.05f, 0.006f, 0.003f, 0.0015f, 0.0009f, 2.0f};
    static const float steps[] = {26.0f, 3.0f, 2.0f, 1.0f, 0.0f, 511.0f};
    for (int i = 0; i < 6; i++)
        cr_assert_eq(oct_lr_on_grid(lr[i]), steps[i] / 512.0f, "%g", (double)lr[i]);
}

/* The gradient's normalisation: five gradients, the largest 2^-11.7, before rounding. */
Test(fixed, gradients_are_normalised_by_a_power_of_two)
{
    static const float g[] = {3e-4f, -1.2e-4f, 5e-6f, 1e-6f, -2e-8f};
    static const double wanted[] = {157.286, -62.915, 2.621, 0.524, -0.0105};
    float inverse = oct_fixed_inverse(3e-4f, 128.0f);
    cr_assert_eq(inverse, 128.0f * 4096.0f);
    for (int i = 0; i < 5; i++) /* the figures have three to four decimals */
        cr_assert_float_eq((double)(g[i] * inverse), wanted[i], 5e-4);
    for (uint32_t byte = 0; byte < 256; byte++) {
        cr_assert_eq(oct_fixed_code(g[0], inverse, 128.0f, byte), 127);
        int n = oct_fixed_code(g[1], inverse, 128.0f, byte);
        cr_assert(n == -62 || n == -63);
    }
    cr_assert_eq(127.0f / 16384.0f, 7.75146484375e-3f);
}

/* A code of 64 in 128 is half of the power of two beside the largest gradient; four units of it
 * are one of the momentum, as on the fixed grids. */
Test(fixed, magnitudes_can_be_kept)
{
    const float inverse = oct_fixed_inverse(3e-4f, 128.0f);
    struct oct_fixed_rates rates = {
        .increment = OCT_INCREMENT_CODE, .momentum_steps = 0x1p12f, .unit = 0x1p-12f};
    cr_assert_eq(64.0f * oct_fixed_keep(&rates, inverse, 0x1p14f), 0.5f * 0x1p-12f);
    cr_assert_eq(rates.momentum_steps, 0x1p17f);
    cr_assert_eq(rates.unit, 0x1p-17f);
    cr_assert_eq(oct_fixed_keep(&rates, 0.0f, 0x1p14f), 0x1p-14f);
    cr_assert_eq(rates.unit, 0x1p-17f);
}

/* Over all 256 bytes the mean code is rne(256 v) / 256 exactly. */
Test(fixed, codes_are_unbiased)
{
    for (int i = -300; i <= 300; i++) {
        float v = (float)i * 0.0137f;
        int sum = 0;
        for (uint32_t byte = 0; byte < 256; byte++)
            sum += oct_fixed_code(v, 1.0f, 128.0f, byte);
        cr_assert_eq(sum, (int)rintf(256.0f * v));
    }
}

/* 2^-9 times 2^-14 is the last of a weight's 24 bits: no update is lost to rounding. */
Test(fixed, one_step_of_rate_and_gradient_is_one_bit_of_the_weight)
{
    const struct oct_fixed_rates rates = {
        .lr = 0x1p-9f, .mu = 0.25f, .momentum_steps = 0x1p12f, .weight_steps = 0x1p23f};
    for (int k = -511; k <= 511; k++) {
        float w = (float)k * 0x1p-9f + 0x1p-23f, momentum = 0.0f, before = w;
        oct_fixed_element(&w, &momentum, 0x1p-14f, rates, 0);
        cr_assert_eq(before - w, 0x1p-23f);
        cr_assert_eq(momentum, 0.0f); /* a quarter of its grid */
    }
    float w = 0.5f, momentum = 3.0f * 0x1p-12f; /* a quarter of the momentum is 3 2^-14 */
    oct_fixed_element(&w, &momentum, 0.0f, rates, 0);
    cr_assert_eq(0.5f - w, 3.0f * 0x1p-23f);
    cr_assert_eq(momentum, 0x1p-12f);
}

/* A weight that is a code of 8 bits moves by whole codes and stays inside. */
Test(fixed, weights_on_a_grid_stay_on_it)
{
    const struct oct_fixed_rates rates = {
        .lr = 0.5f, .increment = OCT_INCREMENT_GRID, .unit = 0x1p-7f};
    for (uint32_t byte = 0; byte < 256; byte++) {
        float w = 126.0f * 0x1p-7f, momentum = 0.0f;
        oct_fixed_element(&w, &momentum, -0.1f, rates, byte); /* 6.4 codes up */
        cr_assert_eq(w, 127.0f * 0x1p-7f);
        w = 0.0f;
        oct_fixed_element(&w, &momentum, -0.1f, rates, byte);
        cr_assert(w == 6.0f * 0x1p-7f || w == 7.0f * 0x1p-7f);
    }
}

/* ---- the op ---- */

struct fixed_case {
    int64_t n;
    enum oct_normalise normalise;
    int bits; /* choose the other settings */
    enum oct_increment increment;
};

struct side {
    float *w, *momentum, amax, gradient_amax;
    int64_t counts[OCT_FIXED_COUNTS];
};

static float *scaled(int64_t n, enum fill how, uint64_t seed, float factor)
{
    float *x = filled(OCT_F32, n, how, seed);
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
    return x;
}

static float *gradients(const struct fixed_case *k)
{
    static const enum fill fills[] = {FILL_RANDOM, FILL_TINY, FILL_OUTLIER, FILL_ZERO};
    float *dw = scaled(k->n, fills[k->bits & 3], 12, k->bits & 4 ? 3e-4f : 30.0f);
    if (k->bits == 8)
        dw[k->n / 2] = NAN;
    if (k->bits == 9)
        dw[k->n / 2] = -INFINITY;
    return dw;
}

static void run_case(oct_backend *ops, const struct fixed_case *k)
{
    float *dw = gradients(k), unit = k->bits == 11 ? 0.0f : 0x1p-7f;
    const float factor = k->bits & 1 ? 0.5f : 0.0f;
    const struct oct_step_state step = {.seed = 0x123456789abcull,
        .step = 7,
        .lr = 26.0f / 512.0f,
        .gradient_range = k->bits & 2 ? 128.0f : 2.0f,
        .flag = k->bits == 10};
    struct side sides[2];
    for (int s = 0; s < 2; s++) {
        struct side *side = &sides[s];
        *side = (struct side){.w = scaled(k->n, FILL_RANDOM, 10, 0.2f),
            .momentum = scaled(k->n, FILL_RANDOM, 11, 0.01f),
            .amax = 3.0f,
            .counts = {1, 2, 3}};
        struct oct_sgd_fixed_args a = {.count = k->n,
            .w = side->w,
            .momentum = side->momentum,
            .dw = dw,
            .step = &step,
            .tensor = 77,
            .mu = 0.25f,
            .nesterov = k->bits >> 1 & 1,
            .weight_decay = k->bits & 4 ? 1e-4f : 0.0f,
            .lr_factor = k->bits & 8 ? &factor : NULL,
            .normalise = k->normalise,
            .gradient_steps = 0x1p14f,
            .momentum_steps = k->bits == 7 ? 0.0f : 0x1p12f,
            .weight_steps = k->bits == 7 ? 0.0f : 0x1p23f,
            .increment = k->increment,
            .momentum_unit = 0x1p-12f,
            .unit = k->increment == OCT_INCREMENT_GRID ? &unit : NULL,
            .gradient_amax = &side->gradient_amax,
            .counts = k->normalise && k->bits != 7 ? side->counts : NULL,
            .amax = k->bits & 1 ? &side->amax : NULL};
        if (s)
            oracle_sgd_fixed(&a);
        else
            cr_assert_eq(ops->sgd_fixed(ops, &a), OCT_OK, "%s", oct_last_error());
    }
    const struct side *got = &sides[0], *want = &sides[1];
    cr_assert(same_tensor("w", OCT_F32, got->w, want->w, k->n, NULL, 0));
    cr_assert(same_tensor("momentum", OCT_F32, got->momentum, want->momentum, k->n, NULL, 0));
    cr_assert(
        same_tensor("largest", OCT_F32, &got->gradient_amax, &want->gradient_amax, 1, NULL, 0));
    if (k->bits != 8 && k->bits != 9) /* max of NaN is no number */
        cr_assert_eq(got->amax, want->amax);
    for (int i = 0; i < OCT_FIXED_COUNTS; i++)
        cr_assert_eq(got->counts[i], want->counts[i], "count %d: %lld, oracle %lld", i,
            (long long)got->counts[i], (long long)want->counts[i]);
    cr_assert(guard_intact(got->w, "w") && guard_intact(got->momentum, "momentum"));
    for (int s = 0; s < 2; s++) {
        guard_free(sides[s].w);
        guard_free(sides[s].momentum);
    }
    guard_free(dw);
}

Test(fixed, op_equals_its_oracle)
{
    static const enum oct_increment increments[] = {
        OCT_INCREMENT_REAL, OCT_INCREMENT_CODE, OCT_INCREMENT_GRID};
    EACH_VARIANT(v)
    {
        for (int i = 0; i < LENGTHS * 12; i++) {
            struct fixed_case k = {.n = lengths[i / 12],
                .bits = i % 12,
                .normalise = (enum oct_normalise)(i % 3),
                .increment = increments[i % 7 % 3]};
            run_case(v.backend, &k);
            k.normalise = k.normalise ? OCT_NOT_NORMALISED : OCT_NORMALISED;
            run_case(v.backend, &k);
        }
    }
}

/* A tensor goes through codes in place, or through numbers that have none. */
static void check_regrid(const struct cpu_ops_variant *v, enum oct_grid grid, int i)
{
    static const enum fill fills[] = {FILL_RANDOM, FILL_ZERO, FILL_OUTLIER, FILL_TINY};
    int64_t n = lengths[i / 8], saturated[2] = {5, 5};
    enum oct_dtype dtype = i & 1 ? OCT_F32 : OCT_BF16;
    int code_max = grid == OCT_GRID_FLAG ? 16256 : 127;
    /* a tenth of the elements or so clip */
    float clip = 1.0f, scale = grid == OCT_GRID_FLAG ? 0x1p-14f : 0x1p-7f, inverse = 1.0f / scale;
    uint32_t flag[2] = {0, 0};
    void *x[2];
    for (int side = 0; side < 2; side++) {
        x[side] = filled(dtype, n, fills[i / 2 % 4], 10);
        if (i % 8 == 7)
            ((float *)x[side])[n / 2] = -INFINITY;
        struct oct_regrid_args a = {.count = n,
            .x = x[side],
            .dtype = dtype,
            .range = {&clip, &scale, &inverse, 1, code_max, grid, OCT_POW2_NONE},
            .saturated = i % 3 ? &saturated[side] : NULL,
            .flag = &flag[side]};
        if (side)
            oracle_regrid(&a);
        else
            cr_assert_eq(v->backend->regrid(v->backend, &a), OCT_OK, "%s", oct_last_error());
    }
    cr_assert(same_tensor("x", dtype, x[0], x[1], n, NULL, 0), "grid %d case %d", (int)grid, i);
    cr_assert(saturated[0] == saturated[1] && flag[0] == flag[1], "grid %d case %d", (int)grid, i);
    cr_assert(guard_intact(x[0], "x"));
    guard_free(x[0]);
    guard_free(x[1]);
}

Test(fixed, regrid_equals_its_oracle)
{
    static const enum oct_grid grids[] = {
        OCT_GRID_UNIFORM, OCT_GRID_FLAG, OCT_GRID_MU8, OCT_GRID_OPEN, OCT_GRID_MU8_NUMBER};
    EACH_VARIANT(v)
    {
        for (int g = 0; g < (mirror_device() ? 2 : 5); g++) /* the others are the CPU's alone */
            for (int i = 0; i < (g ? LENGTHS * 8 - 6 : LENGTHS * 8); i++) /* slow oracles */
                check_regrid(&v, grids[g], i);
    }
}

/* Codes cannot be made where a grid has none. */
Test(fixed, grids_without_codes_make_none)
{
    static const enum oct_grid grids[] = {OCT_GRID_OPEN, OCT_GRID_MU8_NUMBER, OCT_GRID_MU8};
    for (int g = 0; g < 3; g++) {
        const enum oct_status want = g < 2 ? OCT_UNSUPPORTED : OCT_OK;
        float one = 1.0f;
        uint32_t flag = 0;
        int8_t q;
        const struct oct_range range = {&one, &one, &one, 1, 127, grids[g], OCT_POW2_NONE};
        const struct oct_quantise_args quantise = {
            .rows = 1, .channels = 1, .x = &one, .range = range, .q = &q, .flag = &flag};
        const struct oct_act_fwd_args act = {.rows = 1,
            .channels = 1,
            .y = &one,
            .x = &q,
            .x_dtype = OCT_S8,
            .x_range = range,
            .flag = &flag};
        const struct oct_weight_pack_args pack = {
            .shape = oct_conv_pointwise(1, 1, 1, 1, 1), .dtype = OCT_S8, .range = range};
        cr_expect_eq(oct_check_quantise(&quantise), want);
        cr_expect_eq(oct_check_act_fwd(&act), want);
        cr_expect_eq(oct_check_weight_pack(&pack), want);
        if (g < 2)
            cr_expect(strstr(oct_last_error(), "a grid that has none"), "%s", oct_last_error());
    }
}

Test(fixed, arguments_that_make_no_sense_are_refused)
{
    const struct oct_step_state step = {.lr = 0.1f};
    struct oct_sgd_fixed_args a = {
        .step = &step, .normalise = OCT_NORMALISED, .gradient_steps = 0x1p14f};
    EACH_VARIANT(v)
    {
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_ARG); /* no gradient_amax */
        a.normalise = OCT_NOT_NORMALISED;
        a.increment = OCT_INCREMENT_CODE; /* no unit */
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_ARG);
        a.increment = OCT_INCREMENT_GRID;
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_ARG);
        a.increment = OCT_INCREMENT_REAL;
        a.gradient_steps = 0.0f;
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_ARG);
        a.gradient_steps = 0x1p14f;
        int64_t counts[OCT_FIXED_COUNTS] = {0};
        a.counts = counts; /* of no normalised gradient */
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_ARG);
        a.counts = NULL;
        cr_assert_eq(v.backend->sgd_fixed(v.backend, &a), OCT_OK);
        uint32_t flag = 0;
        float scale = 1.0f;
        struct oct_regrid_args r = {.dtype = OCT_S8,
            .range = {.scale = &scale, .inverse = &scale, .count = 1, .code_max = 127},
            .flag = &flag};
        cr_assert_eq(v.backend->regrid(v.backend, &r), OCT_UNSUPPORTED);
        r.dtype = OCT_F32;
        r.range.count = 2;
        cr_assert_eq(v.backend->regrid(v.backend, &r), OCT_ARG);
        r.range.count = 1;
        r.range.grid = OCT_GRID_MU8;
        r.range.clip = &scale;
        cr_assert_eq(v.backend->regrid(v.backend, &r), mirror_device() ? OCT_UNSUPPORTED : OCT_OK);
        a.normalise = OCT_NORMALISED;
    }
}
