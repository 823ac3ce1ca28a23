/* Integer-only activations: known answers, and the ops against their oracle bit for bit. What
 * convolutions make of the coefficients is in test_conv.c. */
#include "base/shift.h"
#include "oracle/oracle_shift.h"
#include "support/cpu_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { MOST_CHANNELS = 300, MOST = 70000 };
static const int channel_counts[] = {1, 3, 7, 8, 16, 17, 64, 65, 72, MOST_CHANNELS};
enum { CHANNEL_CASES = sizeof channel_counts / sizeof channel_counts[0] };

/* ---- the functions of base/shift.h ---- */

Test(shift, codes_round_half_up_and_clip)
{
    static const struct {
        int v, right, signed_code, relu_code;
    } known[] = {{5, 1, 3, 3}, {-5, 1, -2, 0}, {7, 3, 1, 1}, {3, 3, 0, 0}, {-4, 3, 0, 0},
        {-5, 3, -1, 0}, {2000, 3, 127, 127}, {-2000, 3, -127, 0}, {9, 0, 9, 9}, {9, -3, 72, 72},
        {-9, -3, -72, 0}, {9, -20, 127, 127}, {-1, -20, -127, 0}, {(1 << 30) - 1, 31, 0, 0},
        {1 - (1 << 30), 31, 0, 0}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        cr_expect_eq(oct_shift_code(known[i].v, known[i].right, -127), known[i].signed_code);
        cr_expect_eq(oct_shift_code(known[i].v, known[i].right, 0), known[i].relu_code);
    }
}

/* Every shift there is, near every multiple of half a code, in 32 and in 64 bits. */
Test(shift, codes_equal_their_definition)
{
    for (int right = -OCT_SHIFT_LEFT_MAX; right <= OCT_SHIFT_RIGHT_MAX; right++)
        for (int64_t half = -300; half <= 300; half++)
            for (int64_t near = -1; near <= 1; near++) {
                int64_t v = (right > 0 ? half * ((int64_t)1 << (right - 1)) : half) + near;
                for (int lowest = -127; lowest <= 0; lowest += 127) {
                    int want = oracle_shift_code(v, right, lowest);
                    cr_assert_eq(oct_shift_code64(v, right, lowest), want);
                    if (v > -(1 << 30) && v < 1 << 30)
                        cr_assert_eq(oct_shift_code((int32_t)v, right, lowest), want,
                            "%lld >> %d: %d, not %d", (long long)v, right,
                            oct_shift_code((int32_t)v, right, lowest), want);
                }
            }
}

Test(shift, reals_become_eight_bits_and_an_exponent)
{
    static const struct {
        float x;
        int code, exponent;
    } known[] = {{1.0f, 64, -6}, {0.75f, 96, -7}, {-0.1f, -102, -10}, {3.0f, 96, -5}, {0.0f, 0, 0},
        {1e-38f, 0, 0}, {-64.0f, -64, 0}, {0.505f, 65, -7}, {0.999f, 127, -7}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct oct_scaled fixed = oct_scaled_of(known[i].x);
        cr_expect_eq(fixed.code, known[i].code, "%g: %d", (double)known[i].x, fixed.code);
        cr_expect_eq(fixed.exponent, known[i].exponent);
    }
}

/* The sums of base/shift.h stay below 2^30 at their extremes. */
Test(shift, nothing_overflows)
{
    const int64_t most = (int64_t)1 << 30, bias = OCT_SHIFT_SUM_MAX;
    cr_assert_lt((int64_t)127 * 127 * OCT_SHIFT_MAX_K + bias, most);
    cr_assert_lt(
        (int64_t)127 * 127 * (1 << OCT_ALIGN_MAX) + 127 * (1 << OCT_ALIGN_MAX) + bias, most);
    for (int window = 2; window <= 1 << 15; window++) {
        const struct oct_shift_problem p = {.window = window, .y_unit = 1.0f, .x_unit = 1.0f};
        cr_assert_lt((int64_t)127 * window * oct_shift_plan_of(&p).multiplier + bias, most);
    }
    for (int unit = -60; unit <= 40; unit++) {
        cr_assert_leq(oct_shift_bias(3e9f, unit), OCT_SHIFT_SUM_MAX);
        cr_assert_geq(oct_shift_bias(-1.99f, unit), -OCT_SHIFT_SUM_MAX);
    }
}

/* A block's end with units that differ: 0.5 * 3 + 0.25 + 2 = 3.75 and its neighbours, by hand. */
Test(shift, known_sum)
{
    const struct oct_shift_problem p = {.has_scale = 1,
        .has_residual = 1,
        .scale = 0.5f,
        .y_unit = 0.25f,
        .residual_unit = 0.5f,
        .x_unit = 0.125f};
    const struct oct_shift_plan plan = oct_shift_plan_of(&p);
    cr_assert_eq(plan.multiplier, 64);
    cr_assert_eq(plan.unit, -9);
    cr_assert_eq(plan.by_y, 0);
    cr_assert_eq(plan.by_residual, 8);
    cr_assert_eq(plan.right, 6);
    int v =
        plan.multiplier * 12 + oct_shift_bias(0.25f, plan.unit) + oct_align(4, plan.by_residual);
    cr_assert_eq(v, 768 + 128 + 1024);
    cr_assert_eq(oct_shift_code(v, plan.right, 0), 30); /* 3.75 in eighths */
}

/* ---- shift_finalize ---- */

struct coefficients {
    int32_t by[OCT_SHIFT_ENTRIES], bias[MOST_CHANNELS];
    float a[MOST_CHANNELS], b[MOST_CHANNELS], ix[MOST_CHANNELS], jx[MOST_CHANNELS];
    float amax[MOST_CHANNELS];
};

/* What a case's bits choose. */
struct finalize_inputs {
    float scale, units[4], bias[MOST_CHANNELS];
    int64_t min[MOST_CHANNELS], max[MOST_CHANNELS];
};

static void fill_inputs(struct finalize_inputs *in, int number)
{
    float random[MOST_CHANNELS];
    fill_f32(in->bias, MOST_CHANNELS, FILL_RANDOM, (uint64_t)number);
    fill_f32(&in->scale, 1, number % 19 == 7 ? FILL_ZERO : FILL_RANDOM, (uint64_t)number + 1);
    fill_f32(random, MOST_CHANNELS, FILL_RANDOM, (uint64_t)number + 2);
    for (int i = 0; i < 4; i++) { /* far apart too, and sometimes never set */
        int exponent = (int)oct_mix32((uint32_t)(7 * number + i)) % 13 - 9;
        in->units[i] = number % 23 == i ? 0.0f : ldexpf(1.0f, number % 5 ? exponent : 2 * exponent);
    }
    for (int c = 0; c < MOST_CHANNELS; c++) {
        in->bias[c] *= c % 7 == 3 ? 1e-6f : c % 11 == 5 ? 1e6f : 1.0f;
        in->min[c] = (int64_t)(random[c] * 3000.0f) - (number % 3 ? 2000 : 0);
        in->max[c] = in->min[c] + (int64_t)oct_mix32((uint32_t)(c + number)) % 9000;
    }
}

static struct oct_shift_finalize_args finalize_args(
    struct finalize_inputs *in, struct coefficients *out, int number)
{
    const int channels = channel_counts[number % CHANNEL_CASES], window = number % 6 == 5;
    return (struct oct_shift_finalize_args){.channels = channels,
        .scale = number & 1 && !window ? &in->scale : NULL,
        .bias = number & 2 ? in->bias : NULL,
        .bias_count = number & 4 ? channels : 1,
        .window = window ? 1 + number : 0,
        .relu = number >> 3 & 1,
        .result = number >> 4 & 1,
        .y_scale = &in->units[0],
        .w_scale = number & 32 ? &in->units[1] : NULL,
        .residual_scale = number % 3 == 1 && !window ? &in->units[2] : NULL,
        .x_scale = &in->units[3],
        .shift = {out->by, out->bias},
        .a = number % 7 ? out->a : NULL,
        .b = number % 7 ? out->b : NULL,
        .ix = number % 7 ? out->ix : NULL,
        .jx = number % 7 ? out->jx : NULL};
}

static void expect_same(const struct coefficients *got, const struct coefficients *want, int number)
{
    const int64_t n = MOST_CHANNELS;
    char what[64];
    snprintf(what, sizeof what, "finalize case %d", number);
    cr_assert(same_tensor(what, OCT_S32, got->by, want->by, OCT_SHIFT_ENTRIES, NULL, 0));
    cr_assert(same_tensor(what, OCT_S32, got->bias, want->bias, n, NULL, 0));
    cr_assert(same_tensor(what, OCT_F32, got->a, want->a, n, NULL, 0));
    cr_assert(same_tensor(what, OCT_F32, got->b, want->b, n, NULL, 0));
    cr_assert(same_tensor(what, OCT_F32, got->ix, want->ix, n, NULL, 0));
    cr_assert(same_tensor(what, OCT_F32, got->jx, want->jx, n, NULL, 0));
    cr_assert(same_tensor(what, OCT_F32, got->amax, want->amax, n, NULL, 0));
}

Test(shift, finalize_equals_its_oracle)
{
    static struct finalize_inputs in;
    static struct coefficients got, want;
    EACH_VARIANT(v)
    {
        if (v.threads > 1)
            continue; /* one item */
        for (int number = 0; number < 640; number++) {
            fill_inputs(&in, number);
            memset(&got, 0, sizeof got);
            memset(&want, 0, sizeof want);
            struct oct_shift_finalize_args g = finalize_args(&in, &got, number);
            struct oct_shift_finalize_args w = finalize_args(&in, &want, number);
            cr_assert_eq(v.backend->shift_finalize(v.backend, &g), OCT_OK, "%s", oct_last_error());
            oracle_shift_finalize(&w);
            expect_same(&got, &want, number);
            const struct oct_acc_stats acc = {.min = in.min, .max = in.max};
            g.acc = w.acc = &acc;
            g.amax = got.amax;
            w.amax = want.amax;
            cr_assert_eq(v.backend->shift_finalize(v.backend, &g), OCT_OK, "%s", oct_last_error());
            oracle_shift_finalize(&w);
            expect_same(&got, &want, number);
        }
    }
}

/* ---- act_shift ---- */

struct pass {
    int64_t rows, n;
    int channels, number;
    void *y;
    int8_t *residual;
    int32_t by[OCT_SHIFT_ENTRIES], bias[MOST_CHANNELS];
};

static const int64_t row_counts[] = {1, 3, 17, 65, 230};

static struct pass pass_open(int number)
{
    const enum fill fill = number % 9 == 4 ? FILL_ALTERNATE : FILL_RANDOM;
    struct pass p = {.rows = row_counts[number % 5],
        .channels = channel_counts[number / 5 % CHANNEL_CASES],
        .number = number};
    const bool sums = number % 4 == 3;
    p.n = p.rows * p.channels;
    p.y = guard_alloc((size_t)p.n * (sums ? 4 : 1));
    p.residual = guard_alloc((size_t)p.n);
    fill_s8(p.residual, p.n, fill, (uint64_t)number + 5);
    fill_s8(p.y, p.n, fill, (uint64_t)number);
    for (int64_t i = p.n - 1; sums && i >= 0; i--)
        ((int32_t *)p.y)[i] = 49 * ((int8_t *)p.y)[i];
    p.by[OCT_SHIFT_MULTIPLIER] = sums ? (int)rintf(4194304.0f / 49.0f) : number * 37 % 255 - 127;
    p.by[OCT_SHIFT_Y] = sums ? 0 : number % 16 - (number & 32 ? 12 : 3);
    p.by[OCT_SHIFT_RESIDUAL] = number % 13 - (number & 64 ? 6 : 0);
    p.by[OCT_SHIFT_RIGHT] = sums ? 20 + number % 5 : number % 24 - 3;
    p.by[OCT_SHIFT_UNIT] = number % 30 - 25;
    for (int c = 0; c < p.channels; c++)
        p.bias[c] = (int32_t)(oct_mix32((uint32_t)(c + number)) % 20001) - 10000;
    return p;
}

static void pass_close(struct pass *p)
{
    guard_free(p->y);
    guard_free(p->residual);
}

/* One side's outputs. */
struct written {
    int8_t *x;
    uint8_t *mask;
    float amax;
};

static struct oct_act_shift_args pass_args(struct pass *p, struct written *out)
{
    const bool sums = p->number % 4 == 3;
    return (struct oct_act_shift_args){.rows = p->rows,
        .channels = p->channels,
        .y = p->y,
        .y_dtype = sums ? OCT_S32 : OCT_S8,
        .residual = p->number & 1 && !sums ? p->residual : NULL,
        .shift = {p->by, p->bias},
        .relu = p->number >> 2 & 1,
        .x = out->x,
        .mask = p->number % 3 ? out->mask : NULL,
        .amax = p->number % 5 ? &out->amax : NULL};
}

static void check_pass(const struct cpu_ops_variant *v, int number)
{
    struct pass p = pass_open(number);
    struct written side[2];
    char what[96];
    snprintf(what, sizeof what, "act_shift %s x%d case %d", v->isa, v->threads, number);
    for (int s = 0; s < 2; s++)
        side[s] =
            (struct written){guard_alloc((size_t)p.n), guard_alloc((size_t)(p.n + 7) / 8), 3.0f};
    struct oct_act_shift_args got = pass_args(&p, &side[0]), want = pass_args(&p, &side[1]);
    cr_assert_eq(v->backend->act_shift(v->backend, &got), OCT_OK, "%s: %s", what, oct_last_error());
    oracle_act_shift(&want);
    cr_assert(same_tensor(what, OCT_S8, got.x, want.x, p.n, NULL, 0), "%s", what);
    cr_assert(same_tensor(what, OCT_U8, side[0].mask, side[1].mask, (p.n + 7) / 8, NULL, 0));
    cr_assert_eq(side[0].amax, side[1].amax, "%s: amax %g, not %g", what, (double)side[0].amax,
        (double)side[1].amax);
    for (int s = 0; s < 2; s++) {
        cr_assert(guard_intact(side[s].x, what) && guard_intact(side[s].mask, what));
        guard_free(side[s].x);
        guard_free(side[s].mask);
    }
    pass_close(&p);
}

Test(shift, activation_equals_its_oracle)
{
    EACH_VARIANT(v)
    {
        for (int number = 0; number < 300; number++)
            check_pass(&v, number);
    }
}

Test(shift, what_makes_no_sense_is_refused)
{
    int32_t by[OCT_SHIFT_ENTRIES] = {0}, bias[4] = {0};
    float x[4] = {0};
    int8_t codes[4] = {0};
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        struct oct_shift_finalize_args f = {.channels = 4, .y_scale = x, .x_scale = x};
        cr_expect_eq(ops->shift_finalize(ops, &f), OCT_ARG); /* nowhere to write */
        f.shift = (struct oct_shift){by, bias};
        f.a = x; /* alone */
        cr_expect_eq(ops->shift_finalize(ops, &f), OCT_ARG);
        f.a = NULL;
        f.window = 49;
        f.scale = x;
        cr_expect_eq(ops->shift_finalize(ops, &f), OCT_ARG);
        f.window = 0;
        f.bias = x;
        f.bias_count = 3;
        cr_expect_eq(ops->shift_finalize(ops, &f), OCT_ARG);
        struct oct_act_shift_args p = {.rows = 1,
            .channels = 4,
            .y = codes,
            .y_dtype = OCT_BF16,
            .x = codes,
            .shift = f.shift};
        cr_expect_eq(ops->act_shift(ops, &p), OCT_UNSUPPORTED);
        p.y_dtype = OCT_S32;
        p.residual = codes;
        cr_expect_eq(ops->act_shift(ops, &p), OCT_UNSUPPORTED);
        p.y_dtype = OCT_S8;
        p.x = NULL;
        cr_expect_eq(ops->act_shift(ops, &p), OCT_ARG);
    }
}
