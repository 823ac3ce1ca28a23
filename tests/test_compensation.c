/* compensate and compensate_bwd: every variant against its oracle bit for bit. */
#include "base/rng.h"
#include "oracle/oracle_ops.h"
#include "support/cpu_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

struct job {
    int samples, planes;
    int64_t count;
    enum oct_dtype dtype;
    enum oct_write mode;
};

static const struct job jobs[] = {{1, 1, 1, OCT_F32, OCT_OVERWRITE},
    {3, 2, 7, OCT_BF16, OCT_ACCUMULATE}, {16, 1, 17, OCT_F32, OCT_ACCUMULATE},
    {7, 1, 64, OCT_BF16, OCT_OVERWRITE}, {5, 2, 512, OCT_F32, OCT_OVERWRITE},
    {9, 2, 516, OCT_BF16, OCT_ACCUMULATE}, {65, 1, 1027, OCT_BF16, OCT_OVERWRITE},
    {2, 1, 40000, OCT_F32, OCT_ACCUMULATE}, {300, 2, 20, OCT_F32, OCT_OVERWRITE}};

static void check_compensate(oct_backend *ops, const struct job *k)
{
    const int64_t n = k->samples * k->count;
    float *param[3], *x = filled(OCT_F32, n, FILL_OUTLIER, 33);
    void *y[2];
    for (int i = 0; i < 3; i++)
        param[i] = filled(OCT_F32, k->count, FILL_RANDOM, 30 + (uint64_t)i);
    param[0][k->count / 2] = 1e-39f;
    for (int side = 0; side < 2; side++) {
        y[side] = filled(k->dtype, n, FILL_ZERO, 0);
        const struct oct_compensate_args a = {
            k->samples, k->count, x, y[side], k->dtype, param[0], param[1], param[2]};
        if (side)
            oracle_compensate(&a);
        else
            cr_assert_eq(ops->compensate(ops, &a), OCT_OK, "%s", oct_last_error());
    }
    cr_assert(same_tensor("y", k->dtype, y[0], y[1], n, NULL, 0), "%d x %lld", k->samples,
        (long long)k->count);
    cr_assert(guard_intact(y[0], "y"));
    for (int i = 0; i < 3; i++)
        guard_free(param[i]);
    guard_free(x);
    guard_free(y[0]);
    guard_free(y[1]);
}

static void check_compensate_bwd(oct_backend *ops, const struct job *k)
{
    const int64_t n = k->samples * k->count;
    const float scale = 0.37f;
    int8_t *hi = filled(OCT_S8, n, FILL_RANDOM, 40), *lo = filled(OCT_S8, n, FILL_RANDOM, 41);
    float *alpha = filled(OCT_F32, k->count, FILL_RANDOM, 42);
    float *mu = filled(OCT_F32, k->count, FILL_RANDOM, 43), *gradient[2][3];
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < 3; i++)
            gradient[side][i] = filled(OCT_F32, k->count, FILL_RANDOM, 44 + (uint64_t)i);
        const struct oct_compensate_bwd_args a = {k->samples, k->count, hi,
            k->planes == 2 ? lo : NULL, &scale, alpha, mu, gradient[side][0], gradient[side][1],
            gradient[side][2], k->mode};
        if (side)
            oracle_compensate_bwd(&a);
        else
            cr_assert_eq(ops->compensate_bwd(ops, &a), OCT_OK, "%s", oct_last_error());
    }
    for (int i = 0; i < 3; i++) {
        cr_assert(
            same_tensor("gradient", OCT_F32, gradient[0][i], gradient[1][i], k->count, NULL, 0),
            "%d: %d x %lld", i, k->samples, (long long)k->count);
        cr_assert(guard_intact(gradient[0][i], "gradient"));
        guard_free(gradient[0][i]);
        guard_free(gradient[1][i]);
    }
    guard_free(hi);
    guard_free(lo);
    guard_free(alpha);
    guard_free(mu);
}

Test(compensation, equals_its_oracle)
{
    EACH_VARIANT(v)
    {
        for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
            check_compensate(v.backend, &jobs[i]);
            check_compensate_bwd(v.backend, &jobs[i]);
        }
    }
}

/* As large as sums of two planes get; the sum is rounded once. */
Test(compensation, sums_are_exact)
{
    enum { SAMPLES = 3000 };
    static int8_t hi[SAMPLES], lo[SAMPLES];
    const float scale = 1.0f, one = 1.0f;
    float d[3];
    memset(hi, 127, sizeof hi);
    memset(lo, 63, sizeof lo);
    lo[0] = 62;
    EACH_VARIANT(v)
    {
        const struct oct_compensate_bwd_args a = {
            SAMPLES, 1, hi, lo, &scale, &one, &one, &d[0], &d[1], &d[2], OCT_OVERWRITE};
        cr_assert_eq(v.backend->compensate_bwd(v.backend, &a), OCT_OK, "%s", oct_last_error());
        cr_expect(d[0] == 48956999.0f && d[1] == d[0] && d[2] == d[0], "%.9g", (double)d[0]);
    }
}

/* A term far below the last bit of a bf16 y arrives in the mean: x is not rounded before. |y| < 4,
 * so that its steps are 2^-6 at most and a rounding error's deviation 2^-6 / sqrt(12); 6 of the
 * mean's. */
Test(compensation, reaches_bf16_in_the_mean)
{
    enum { SAMPLES = 65536 };
    static float x[SAMPLES];
    static uint16_t y[SAMPLES];
    const float term = 1e-3f, one = 1.0f, zero = 0.0f;
    for (int i = 0; i < SAMPLES; i++)
        x[i] = (float)oct_mix32((uint32_t)i + 1) / 4294967296.0f * 7.9f - 3.95f;
    EACH_VARIANT(v)
    {
        double mean = 0.0;
        const struct oct_compensate_args a = {SAMPLES, 1, x, y, OCT_BF16, &one, &term, &zero};
        cr_assert_eq(v.backend->compensate(v.backend, &a), OCT_OK, "%s", oct_last_error());
        for (int i = 0; i < SAMPLES; i++)
            mean += ((double)oct_f32_from_bf16(y[i]) - (double)x[i]) / SAMPLES;
        cr_expect_lt(fabs(mean - 1e-3), 6.0 / 64.0 / sqrt(12.0 * SAMPLES), "mean %g", mean);
    }
}

Test(compensation, refusals)
{
    const struct oct_compensate_args cases[] = {{.samples = 0, .count = 4, .y_dtype = OCT_F32},
        {.samples = OCT_COMPENSATE_SAMPLES + 1, .count = 4, .y_dtype = OCT_F32},
        {.samples = 1, .count = 0, .y_dtype = OCT_F32},
        {.samples = 1, .count = 1ll << 31, .y_dtype = OCT_F32}};
    EACH_VARIANT(v)
    {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const struct oct_compensate_bwd_args bwd = {
                .samples = cases[i].samples, .count = cases[i].count};
            cr_expect_eq(v.backend->compensate(v.backend, &cases[i]), OCT_SHAPE, "case %zu", i);
            cr_expect_eq(v.backend->compensate_bwd(v.backend, &bwd), OCT_SHAPE, "case %zu", i);
        }
        const struct oct_compensate_args codes = {.samples = 1, .count = 1, .y_dtype = OCT_S8};
        cr_expect_eq(v.backend->compensate(v.backend, &codes), OCT_UNSUPPORTED);
    }
}
