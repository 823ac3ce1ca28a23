/* Per-channel statistics and clip values against their oracles, bit for bit, on both instruction
 * sets and 1, 2, 3 threads, with guards around every output. */
#include "oracle/oracle_ops.h"
#include "oracle/oracle_scheme.h"
#include "support/cpu_ops.h"
#include "support/elementwise_cases.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define RANGE(clip_, scale_, inverse_)                                                             \
    {                                                                                              \
        .clip = (clip_), .scale = (scale_), .inverse = (inverse_), .count = 1, .code_max = 127     \
    }

static const uint32_t strange[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f810000};

/* ---- reductions ---- */

static void check_stats(
    oct_backend *ops, const char *name, int shape, enum oct_dtype dtype, enum fill fill, int nan)
{
    int64_t rows = shapes[shape].rows, n = rows * shapes[shape].channels;
    int channels = shapes[shape].channels;
    void *x = filled(dtype, n, fill, (uint64_t)shape + 4);
    if (nan)
        put_float(x, dtype, n * 2 / 3, oct_f32_of_bits(strange[nan % 5]));
    put_float(x, dtype, n / 4, -0.0f);
    uint32_t flag[2] = {0, 0};
    float *f[2][3];
    double *d[2][2];
    size_t bytes = ops->channel_workspace(ops, rows, channels);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 3; i++)
            f[side][i] = guard_alloc(sizeof(float) * (size_t)channels);
        for (int i = 0; i < 2; i++)
            d[side][i] = guard_alloc(sizeof(double) * (size_t)channels);
    }
    struct oct_channel_stats_args a = {.rows = rows,
        .channels = channels,
        .x = x,
        .dtype = dtype,
        .amax = f[0][0],
        .min = f[0][1],
        .max = f[0][2],
        .sum = d[0][0],
        .sumsq = d[0][1],
        .workspace = guard_alloc(bytes),
        .flag = &flag[0]};
    cr_assert_eq(ops->channel_stats(ops, &a), OCT_OK);
    struct oct_channel_stats_args b = {.rows = rows,
        .channels = channels,
        .x = x,
        .dtype = dtype,
        .amax = f[1][0],
        .min = f[1][1],
        .max = f[1][2],
        .sum = d[1][0],
        .sumsq = d[1][1],
        .flag = &flag[1]};
    oracle_channel_stats(&b);
    cr_assert_eq(flag[0], flag[1], "%s", name);
    for (int i = 0; i < 3; i++) {
        cr_assert(same_tensor(name, OCT_F32, f[0][i], f[1][i], channels, NULL, 0), "output %d", i);
        cr_assert(guard_intact(f[0][i], name));
    }
    for (int i = 0; i < 2 && !nan; i++) {
        cr_assert(same_tensor(name, OCT_F64, d[0][i], d[1][i], channels, NULL, 0), "sum %d", i);
        cr_assert(guard_intact(d[0][i], name));
    }
    /* amax alone takes another loop */
    float *alone = guard_alloc(sizeof(float) * (size_t)channels);
    struct oct_channel_stats_args c = {.rows = rows,
        .channels = channels,
        .x = x,
        .dtype = dtype,
        .amax = alone,
        .workspace = a.workspace,
        .flag = &flag[1]};
    cr_assert_eq(ops->channel_stats(ops, &c), OCT_OK);
    cr_assert(same_tensor(name, OCT_F32, alone, f[1][0], channels, NULL, 0));
    cr_assert(guard_intact(alone, name) && guard_intact(a.workspace, name));
    guard_free(alone);
    guard_free(a.workspace);
    guard_free(x);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 3; i++)
            guard_free(f[side][i]);
        for (int i = 0; i < 2; i++)
            guard_free(d[side][i]);
    }
}

Test(stats, channel_stats)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < SHAPES * 8; i++) {
            char name[96];
            snprintf(name, sizeof name, "channel_stats %s x%d case %d", v.isa, v.threads, i);
            int nan = i % 8 == 6 ? i % 5 + 1 : 0;
            check_stats(ops, name, i / 8, i & 1 ? OCT_BF16 : OCT_F32, fills[i % FILLS], nan);
        }
    }
}

Test(stats, channel_sum)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < SHAPES * 2; i++) {
            int64_t rows = shapes[i / 2].rows;
            int channels = shapes[i / 2].channels;
            float *x = filled(OCT_F32, rows * channels, FILL_RANDOM, 5);
            float *got = filled(OCT_F32, channels, FILL_RANDOM, 6);
            float *want = filled(OCT_F32, channels, FILL_RANDOM, 6);
            struct oct_channel_sum_args a = {.rows = rows,
                .channels = channels,
                .x = x,
                .sum = got,
                .mode = i & 1 ? OCT_ACCUMULATE : OCT_OVERWRITE,
                .workspace = guard_alloc(ops->channel_workspace(ops, rows, channels))};
            cr_assert_eq(ops->channel_sum(ops, &a), OCT_OK);
            cr_assert(guard_intact(a.workspace, "workspace") && guard_intact(got, "sum"));
            a.sum = want;
            oracle_channel_sum(&a);
            cr_assert(same_tensor("channel_sum", OCT_F32, got, want, channels, NULL, 0));
            guard_free(a.workspace);
            guard_free(x);
            guard_free(got);
            guard_free(want);
        }
    }
}

Test(stats, count_above)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < SHAPES * 4; i++) {
            int64_t rows = shapes[i / 4].rows;
            int channels = shapes[i / 4].channels;
            enum oct_dtype dtype = i & 1 ? OCT_BF16 : OCT_F32;
            void *x = filled(dtype, rows * channels, i & 2 ? FILL_ALTERNATE : FILL_RANDOM, 7);
            put_float(x, dtype, rows * channels / 2, oct_f32_of_bits(strange[i % 5]));
            float *threshold = filled(OCT_F32, channels, FILL_RANDOM, 8), all = 1.0f;
            int64_t *got = guard_alloc(sizeof *got * (size_t)channels), total[2] = {99, 98};
            int64_t *want = guard_alloc(sizeof *want * (size_t)channels);
            struct oct_count_above_args a = {.rows = rows,
                .channels = channels,
                .x = x,
                .dtype = dtype,
                .threshold = threshold,
                .threshold_all = &all,
                .count = got,
                .total = &total[0],
                .workspace = guard_alloc(ops->channel_workspace(ops, rows, channels))};
            cr_assert_eq(ops->count_above(ops, &a), OCT_OK);
            cr_assert(guard_intact(a.workspace, "workspace") && guard_intact(got, "count"));
            a.count = want;
            a.total = &total[1];
            oracle_count_above(&a);
            cr_assert(same_tensor("count_above", OCT_S64, got, want, channels, NULL, 0));
            cr_assert_eq(total[0], total[1]);
            a.total = NULL;
            cr_assert_eq(ops->count_above(ops, &a), OCT_ARG);
            a.threshold_all = NULL;
            a.count = got;
            cr_assert_eq(ops->count_above(ops, &a), OCT_OK);
            cr_assert(same_tensor("count_above", OCT_S64, got, want, channels, NULL, 0));
            guard_free(a.workspace);
            guard_free(x);
            guard_free(threshold);
            guard_free(got);
            guard_free(want);
        }
    }
}

/* ---- ranges ---- */

/* The vectors of the paper's rule: k = 1, A = .8, s0 = 1: gmax 2, .5, 4 -> 1.8, .76, 3.352. Three
 * steps of a rule with four roundings on values below 4: 3 * 4 * 2^-23 * 2. */
Test(stats, range_update_vectors)
{
    static const float gmax[] = {2.0f, 0.5f, 4.0f};
    static const double clips[] = {1.8, 0.76, 3.352};
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        float clip = 1.0f;
        float scale = 0.0f;
        float inverse = 0.0f;
        uint8_t label = OCT_LABEL_TAIL;
        uint8_t visited = 1;
        int64_t above = 30;
        for (int i = 0; i < 3; i++) {
            struct oct_range_update_args a = {.range = RANGE(&clip, &scale, &inverse),
                .rule = OCT_CLIP_TAIL,
                .k = 1.0f,
                .a = 0.8f,
                .lambda = 0.3f,
                .amax = &gmax[i],
                .amax_count = 1,
                .above = &above,
                .population = 100.0,
                .label = &label,
                .visited = &visited};
            cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
            cr_assert_float_eq(clip, clips[i], 24.0 * 0x1p-23, "step %d: %.9g", i, clip);
            cr_assert_eq(label, OCT_LABEL_TAIL); /* .3 of the elements is not more than .3 */
        }
        above = 31;
        struct oct_range_update_args a = {.range = RANGE(&clip, &scale, &inverse),
            .rule = OCT_CLIP_TAIL,
            .k = 1.0f,
            .a = 0.8f,
            .lambda = 0.3f,
            .amax = &gmax[0],
            .amax_count = 1,
            .above = &above,
            .population = 100.0,
            .label = &label,
            .visited = &visited};
        cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
        cr_assert_eq(label, OCT_LABEL_BELL);
        cr_assert_eq(clip, 2.0f);
        above = 0; /* bell to tail: starts again from amax */
        a.amax = &gmax[2];
        cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
        cr_assert_eq(clip, 4.0f);
    }
}

Test(stats, range_update)
{
    enum { COUNT = 65, STEPS = 40 };
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 30; i++) { /* rule, powers of two, one or many entries */
            int count = i & 1 ? COUNT : 1;
            float plus = 5e-4f;
            float share = 0.0f;
            float clip[2][COUNT] = {{0}};
            float scale[2][COUNT];
            float inverse[2][COUNT];
            float amax[COUNT];
            uint8_t label[2][COUNT] = {{0}};
            uint8_t visited[2][COUNT] = {{0}};
            int64_t above[COUNT];
            for (int step = 0; step < STEPS; step++) {
                fill_f32(amax, COUNT, FILL_RANDOM, (uint64_t)(step * 10 + i));
                for (int c = 0; c < COUNT; c++) {
                    amax[c] = fabsf(amax[c]) * 1e-3f;
                    above[c] = 20 + (step * 7 + c * 3) % 20;
                }
                amax[step % COUNT] = step % 3 ? 0.0f : INFINITY;
                if (step % 10 == 9)
                    memset(amax, 0, sizeof amax);
                amax[3] = step & 1 ? 1e-39f : 2e-38f;
                share = step % 4 ? 0.125f * (float)(step % 4) : 0.0f;
                for (int side = 0; side < 2; side++) {
                    struct oct_range_update_args a = {.range = {.clip = clip[side],
                                                          .scale = scale[side],
                                                          .inverse = inverse[side],
                                                          .count = count,
                                                          .code_max = 127 << 7 * (i / 3 & 1),
                                                          .pow2 = (enum oct_pow2)(i / 10)},
                        .rule = (enum oct_clip_rule)(i / 2 % 5),
                        .plus = i % 3 == 1 ? &plus : NULL,
                        .floor = i % 7 == 2 ? 4e-4f : 0.0f,
                        .share = i % 3 ? &share : NULL,
                        .k = 1.1f,
                        .a = 0.7f,
                        .lambda = 0.3f,
                        .amax = amax,
                        .amax_count = COUNT,
                        .above = above,
                        .population = 100.0,
                        .label = label[side],
                        .visited = visited[side]};
                    if (side)
                        oracle_range_update(&a);
                    else
                        cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
                }
                cr_assert(same_tensor("clip", OCT_F32, clip[0], clip[1], count, NULL, 0));
                cr_assert(same_tensor("scale", OCT_F32, scale[0], scale[1], count, NULL, 0));
                cr_assert(same_tensor("inverse", OCT_F32, inverse[0], inverse[1], count, NULL, 0));
                cr_assert(same_tensor("label", OCT_U8, label[0], label[1], count, NULL, 0));
                cr_assert(same_tensor("visited", OCT_U8, visited[0], visited[1], count, NULL, 0));
            }
        }
    }
}

/* The largest clip values, and those next to a power of two and to its root of two. */
Test(stats, range_update_powers_of_two)
{
    static const uint32_t bits[] = {0x3f800000, 0x3f800001, 0x3f7fffff, 0x3fb504f3, 0x3fb504f4,
        0x7f7fffff, 0x00800000, 0x00800001, 0x399d4952, 0x7f000000, 0x08000000};
    enum { COUNT = sizeof bits / sizeof bits[0] };
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 4; i++) {
            float amax[COUNT];
            float clip[2][COUNT];
            float scale[2][COUNT];
            float inverse[2][COUNT];
            for (int c = 0; c < COUNT; c++)
                amax[c] = oct_f32_of_bits(bits[c]);
            for (int side = 0; side < 2; side++) {
                struct oct_range_update_args a = {
                    .range = {.clip = clip[side],
                        .scale = scale[side],
                        .inverse = inverse[side],
                        .count = COUNT,
                        .code_max = i & 1 ? 16256 : 127,
                        .pow2 = i & 2 ? OCT_POW2_UP : OCT_POW2_NEAREST},
                    .amax = amax,
                    .amax_count = COUNT};
                if (side)
                    oracle_range_update(&a);
                else
                    cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
            }
            cr_assert(same_tensor("scale", OCT_F32, scale[0], scale[1], COUNT, NULL, 0));
            cr_assert(same_tensor("inverse", OCT_F32, inverse[0], inverse[1], COUNT, NULL, 0));
        }
    }
}

Test(stats, a_fixed_clip_value_needs_no_statistic)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        float clip = 0.0f;
        float scale = 0.0f;
        float inverse = 0.0f;
        struct oct_range_update_args a = {
            .range = RANGE(&clip, &scale, &inverse), .rule = OCT_CLIP_FIXED, .a = 0.5f};
        cr_assert_eq(ops->range_update(ops, &a), OCT_OK);
        cr_assert(clip == 0.5f && inverse == 254.0f && scale == 0.5f / 127.0f);
        a.rule = OCT_CLIP_SHARE;
        cr_assert_eq(ops->range_update(ops, &a), OCT_ARG);
        a.amax = &clip;
        a.amax_count = 1;
        a.rule = OCT_CLIP_EMA;
        cr_assert_eq(ops->range_update(ops, &a), OCT_ARG, "EMA without visited");
    }
}

/* ---- the search for a direction ---- */

struct search_result {
    float share, distance, lr_factor;
};

static struct oct_cosine_search_args search_args(
    const void *x, int64_t rows, int channels, struct search_result *out, int64_t *sums)
{
    struct oct_cosine_search_args a = {.rows = rows,
        .channels = channels,
        .x = x,
        .dtype = OCT_F32,
        .code_max = 127,
        .candidates = 16,
        .alpha = 20.0f,
        .beta = 0.1f,
        .share = &out->share,
        .distance = &out->distance,
        .lr_factor = &out->lr_factor,
        .sums = sums};
    for (int j = 0; j < 16; j++)
        a.factor[j] = exp2f(-0.25f * (float)j);
    return a;
}

static void check_search(oct_backend *ops, int shape, int i)
{
    int64_t rows = shapes[shape].rows, n = rows * shapes[shape].channels;
    int channels = shapes[shape].channels;
    enum oct_dtype dtype = i & 1 ? OCT_BF16 : OCT_F32;
    void *x = filled(dtype, n, fills[i % FILLS], (uint64_t)i + 20);
    float *amax = filled(OCT_F32, channels, FILL_RANDOM, 21);
    struct search_result out[2] = {{0.5f, 0.25f, 0.75f}, {0.5f, 0.25f, 0.75f}};
    int64_t *sums = guard_alloc(8 * OCT_SEARCH_SUMS), unused[OCT_SEARCH_SUMS];

    for (int c = 0; c < channels; c++) /* zero: no statistic; below |x|: everything is clipped */
        amax[c] = i % 7 == 6 ? 0.0f : fabsf(amax[c]) + (i % 3 ? 1.0f : 0.0f);
    if (i % 11 == 10)
        amax[channels / 2] = i % 2 ? INFINITY : NAN;
    for (int side = 0; side < 2; side++) {
        struct oct_cosine_search_args a =
            search_args(x, rows, channels, &out[side], side ? unused : sums);
        a.dtype = dtype;
        a.amax = amax;
        a.amax_count = channels;
        a.code_max = i & 2 ? 16256 : 127;
        a.candidates = i & 4 ? 16 : 1 + i % 16;
        if (i & 8)
            a.lr_factor = NULL;
        if (side)
            oracle_cosine_search(&a);
        else
            cr_assert_eq(ops->cosine_search(ops, &a), OCT_OK, "%s", oct_last_error());
    }
    cr_assert(memcmp(&out[0], &out[1], sizeof out[0]) == 0,
        "case %d, %lld x %d: share %g, distance %g, factor %g; oracle %g, %g, %g", i,
        (long long)rows, channels, (double)out[0].share, (double)out[0].distance,
        (double)out[0].lr_factor, (double)out[1].share, (double)out[1].distance,
        (double)out[1].lr_factor);
    cr_assert(guard_intact(sums, "sums"));
    guard_free(sums);
    guard_free(x);
    guard_free(amax);
}

Test(stats, cosine_search_equals_the_oracle)
{
    EACH_VARIANT(v)
    {
        for (int i = 0; i < 3 * SHAPES; i++)
            check_search(v.backend, i % SHAPES, i);
    }
}

/* Laplace and Student-t (3 degrees) samples from a normal one by the inverse of their distribution
 * would need tables; they are made from uniform ones. */
static void fill_distribution(float *x, int n, int which)
{
    for (int i = 0; i < n; i++) {
        double u = (oct_mix32(2u * (uint32_t)i + 1) + 0.5) * 0x1p-32;
        double v = (oct_mix32(2u * (uint32_t)i + 2) + 0.5) * 0x1p-32;
        double normal = sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
        if (which == 0)
            x[i] = (float)normal;
        if (which == 1)
            x[i] = (float)(u < 0.5 ? log(2.0 * u) : -log(2.0 * (1.0 - u)));
        if (which == 2) { /* Bailey's polar form: t = sqrt(k (u^(-2/k) - 1)) cos(2 pi v) */
            double radius = sqrt(3.0 * (pow(u, -2.0 / 3.0) - 1.0));
            x[i] = (float)(radius * cos(6.283185307179586 * v));
        }
    }
}

/* Reference values of 1 - cos at s = amax over 64 x 6272 elements: Gaussian 5.7e-5, Laplace 1.6e-4,
 * Student-t3 2.5e-3. They go with the square of amax, which is a matter of chance: of n Gaussian
 * values 4.3 to 5.5 sigma, of n Laplace values ln n - 2 to ln n + 5 (Gumbel), of n t3 values
 * (Frechet, exponent 3) half to five times the median, 98 % each. */
Test(stats, cosine_search_reference_values)
{
    enum { ROWS = 6272, CHANNELS = 64 };
    static const double low[] = {4e-5, 1e-4, 6e-4}, high[] = {9e-5, 4e-4, 6e-2};
    float *x = guard_alloc(sizeof(float) * ROWS * CHANNELS);
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        if (v.threads > 1)
            continue;
        for (int which = 0; which < 3; which++) {
            float amax = 0.0f;
            int64_t sums[OCT_SEARCH_SUMS];
            struct search_result at_amax;
            struct search_result best;
            fill_distribution(x, ROWS * CHANNELS, which);
            for (int i = 0; i < ROWS * CHANNELS; i++)
                amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
            struct oct_cosine_search_args a = search_args(x, ROWS, CHANNELS, &at_amax, sums);
            a.amax = &amax;
            a.amax_count = 1;
            a.candidates = 1;
            cr_assert_eq(ops->cosine_search(ops, &a), OCT_OK);
            cr_expect(at_amax.distance > low[which] && at_amax.distance < high[which],
                "distribution %d: %g", which, (double)at_amax.distance);
            cr_expect_eq(at_amax.share, 1.0f);
            a = search_args(x, ROWS, CHANNELS, &best, sums);
            a.amax = &amax;
            a.amax_count = 1;
            cr_assert_eq(ops->cosine_search(ops, &a), OCT_OK);
            cr_expect(best.distance <= at_amax.distance);
            cr_expect(best.lr_factor >= at_amax.lr_factor);
        }
    }
    guard_free(x);
}

Test(stats, cosine_search_refuses)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        float x = 1.0f;
        int64_t sums[OCT_SEARCH_SUMS];
        struct search_result out;
        struct oct_cosine_search_args a = search_args(&x, 1, 1, &out, sums);
        cr_assert_eq(ops->cosine_search(ops, &a), OCT_ARG, "no amax");
        a.amax = &x;
        a.amax_count = 1;
        a.candidates = 17;
        cr_assert_eq(ops->cosine_search(ops, &a), OCT_ARG, "17 candidates");
        a.candidates = 16;
        a.dtype = OCT_S8;
        cr_assert_eq(ops->cosine_search(ops, &a), OCT_UNSUPPORTED, "codes");
    }
}
