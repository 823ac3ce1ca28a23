/* numeric.h against independent double and integer versions: every tie, every clip edge, every bf16
 * pattern, every two-plane code. */
#include "oracle/oracle_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <fenv.h>
#include <float.h>
#include <math.h>

/* All upper halves with the lower halves around the tie. */
Test(numeric, bf16_of_every_pattern)
{
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t high = 0; high < 0x10000; high++) {
        for (int i = 0; i < 6; i++) {
            float x = oct_f32_of_bits(high << 16 | low[i]);
            cr_assert_eq(oct_bf16_from_f32(x), oracle_bf16(x), "%08x", high << 16 | low[i]);
        }
        float back = oct_f32_from_bf16((uint16_t)high);
        cr_assert_eq(oct_bits_of_f32(back), high << 16);
        if (!isnan(back))
            cr_assert_eq(oct_bf16_from_f32(back), high);
        cr_assert_eq(oct_not_finite(back), !isfinite(back));
    }
}

/* bf16 is the nearest: no neighbour is closer, by exact doubles. */
Test(numeric, bf16_is_nearest)
{
    for (uint32_t i = 0; i < 1u << 20; i++) {
        float x = oct_f32_of_bits(oct_mix32(i));
        if (!isfinite(x) || fabsf(x) > 3.3e38f)
            continue;
        uint16_t b = oct_bf16_from_f32(x);
        double error = fabs((double)oct_f32_from_bf16(b) - (double)x);
        double up = fabs((double)oct_f32_from_bf16((uint16_t)(b + 1)) - (double)x);
        cr_assert(!(up < error), "%a", (double)x);
        if (b & 0x7fff)
            cr_assert(!(fabs((double)oct_f32_from_bf16((uint16_t)(b - 1)) - (double)x) < error));
    }
}

static void check_code(float x, float inverse, int code_max)
{
    int q = oct_quantise(x, inverse, code_max);
    cr_assert_eq(q, oracle_code(x, inverse, code_max, -1), "x %a inverse %a: %d", (double)x,
        (double)inverse, q);
    cr_assert(q >= -code_max && q <= code_max);
    for (int byte = 0; byte < 256; byte += 51) {
        int t = oct_quantise_stochastic(x, inverse, code_max, (uint32_t)byte);
        cr_assert_eq(
            t, oracle_code(x, inverse, code_max, byte), "x %a byte %d: %d", (double)x, byte, t);
        cr_assert(t >= -code_max && t <= code_max);
    }
}

Test(numeric, codes_at_ties_and_edges)
{
    static const int maxima[] = {1, 7, 127, 16256};
    for (int m = 0; m < 4; m++) {
        for (int half = -2 * maxima[m] - 6; half <= 2 * maxima[m] + 6; half++) {
            float x = (float)half * 0.5f;
            check_code(x, 1.0f, maxima[m]);
            check_code(nextafterf(x, -INFINITY), 1.0f, maxima[m]);
            check_code(nextafterf(x, INFINITY), 1.0f, maxima[m]);
        }
        check_code(INFINITY, 1.0f, maxima[m]);
        check_code(-INFINITY, 1.0f, maxima[m]);
        check_code(NAN, 1.0f, maxima[m]);
        check_code(INFINITY, 0.0f, maxima[m]);
        check_code(FLT_MAX, 1e10f, maxima[m]);
        check_code(-0.0f, 1.0f, maxima[m]);
    }
    for (uint32_t i = 0; i < 1u << 16; i++) {
        float x = oct_f32_of_bits((oct_mix32(i) & 0x83ffffffu) + 0x3e000000u);
        check_code(x, 3.7f, 127);
    }
}

/* The code of amax is code_max, and |x - s q| <= s/2 (nearest), < s (stochastic), with the rounding
 * of s, of inverse and of the product: 3 * 2^-24 of at most code_max codes, < 2^-15 s for 127. */
Test(numeric, quantisation_error)
{
    for (uint32_t i = 0; i < 1u << 14; i++) {
        float amax = ldexpf(1.0f + oct_uniform(oct_mix32(i)), (int)(i % 200) - 100);
        float scale = oct_scale_of_clip(amax, 127), inverse = oct_inverse_of_clip(amax, 127);
        cr_assert_eq(scale, (float)((double)amax / 127.0));
        cr_assert_eq(inverse, (float)(127.0 / (double)amax));
        cr_assert_eq(oct_quantise(amax, inverse, 127), 127);
        cr_assert_eq(oct_quantise(-amax, inverse, 127), -127);
        float x = amax * (2.0f * oct_uniform(oct_mix32(i + 77777)) - 1.0f);
        double near = fabs((double)x - (double)scale * oct_quantise(x, inverse, 127));
        cr_assert_leq(
            near, (double)scale * (0.5 + 0x1p-15), "x %a amax %a", (double)x, (double)amax);
        int q = oct_quantise_stochastic(x, inverse, 127, oct_mix32(i) >> 24);
        double any = fabs((double)x - (double)scale * q);
        cr_assert_leq(
            any, (double)scale * (1.0 + 0x1p-15), "x %a amax %a", (double)x, (double)amax);
    }
}

Test(numeric, inverse_of_hardly_anything_is_zero)
{
    cr_expect_eq(oct_inverse_of_clip(0.0f, 127), 0.0f);
    cr_expect_eq(oct_inverse_of_clip(-0.0f, 127), 0.0f);
    cr_expect_eq(oct_inverse_of_clip(1e-37f, 127), 0.0f); /* the quotient overflows */
    cr_expect_eq(oct_inverse_of_clip(1e-38f, 16256), 0.0f);
    cr_expect_eq(oct_inverse_of_clip(INFINITY, 127), 0.0f);
    cr_expect_eq(oct_inverse_of_clip(NAN, 127), 0.0f);
}

/* Integers never move, whatever the byte; the mean over all 256 bytes is the value rounded to
 * 1/256; and over 2^18 draws of the generator the mean is within 5 sigma of that value. */
Test(numeric, stochastic_rounding)
{
    for (int q = -127; q <= 127; q++)
        for (uint32_t byte = 0; byte < 256; byte++)
            cr_assert_eq(oct_quantise_stochastic((float)q, 1.0f, 127, byte), q);
    for (int t = -256 * 3; t <= 256 * 3; t++) {
        int sum = 0;
        for (uint32_t byte = 0; byte < 256; byte++)
            sum += oct_quantise_stochastic((float)t / 256.0f, 1.0f, 127, byte);
        cr_assert_eq(sum, t);
    }
    enum { DRAWS = 1 << 18 };
    static const float values[] = {0.25f, -0.5f, 0.75f, 3.125f, -7.0625f, 126.5f, -126.9f, 0.004f};
    for (int i = 0; i < 8; i++) {
        uint32_t key = oct_rounding_key(3, 4, (uint32_t)i);
        int64_t sum = 0;
        for (uint64_t e = 0; e < DRAWS; e++)
            sum += oct_quantise_stochastic(values[i], 1.0f, 127, oct_rounding_byte(key, e));
        double mean = oracle_rne(256.0 * (double)values[i]) / 256.0;
        double p = mean - floor(mean), sigma = sqrt(p * (1.0 - p) / DRAWS);
        cr_assert_leq(fabs((double)sum / DRAWS - mean), 5.0 * sigma, "value %g: mean %.6f",
            (double)values[i], (double)sum / DRAWS);
    }
}

Test(numeric, two_planes_over_the_whole_range)
{
    for (int q = -OCT_CODE16_MAX; q <= OCT_CODE16_MAX; q++) {
        int hi = oct_plane_hi(q), lo = oct_plane_lo(q);
        cr_assert(hi >= -127 && hi <= 127 && lo >= -64 && lo <= 63, "%d: %d %d", q, hi, lo);
        cr_assert_eq(hi * 128 + lo, q);
        cr_assert_eq(hi, (int)floor((q + 64) / 128.0));
        cr_assert_eq(oct_combine_planes(hi, lo), q);
    }
    cr_assert_eq(oct_combine_planes(INT32_MAX, INT32_MIN), (int64_t)INT32_MAX * 128 + INT32_MIN);
    cr_assert_eq(oct_combine_planes(INT32_MIN, INT32_MIN), (int64_t)INT32_MIN * 129);
}

/* floor(a / 2^h + 1/2) as quotient and remainder. */
Test(numeric, rounding_shift)
{
    for (int h = 0; h < 24; h++) {
        for (uint32_t i = 0; i < 4096; i++) {
            int64_t d = (int64_t)1 << h, a = (int64_t)(int32_t)oct_mix32(i + 4096u * (uint32_t)h);
            if (i < 64)
                a = ((int64_t)i - 32) * (d / 2 > 0 ? d / 2 : 1) + (i & 1); /* ties and around */
            int64_t twice = 2 * a + d, quotient = twice / (2 * d);
            if (twice % (2 * d) < 0)
                quotient--;
            cr_assert_eq(oct_rshift_round(a, h), h ? quotient : a, "%lld >> %d", (long long)a, h);
        }
    }
}

Test(numeric, accumulators_and_affine)
{
    static const int64_t acc[] = {0, 1, -1, 16777217, -16777217, 2147483647, -2147483648ll,
        (int64_t)127 * 127 * 133144, 1ll << 40 | 1, -(1ll << 53) + 1};
    cr_assert_lt((int64_t)127 * 127 * OCT_ACC_MAX_K, (int64_t)INT32_MAX + 1);
    cr_assert_gt((int64_t)127 * 127 * (OCT_ACC_MAX_K + 1), (int64_t)INT32_MAX);
    cr_assert_lt((int64_t)127 * 127 * OCT_WGRAD_CHUNK, (int64_t)INT32_MAX + 1);
    for (int i = 0; i < 10; i++) {
        float m = 0.00123f;
        float want = (float)((double)(float)(double)acc[i] * (double)m);
        cr_assert_eq(oct_real_of_acc(acc[i], m), want, "%lld", (long long)acc[i]);
    }
    for (uint32_t i = 0; i < 1u << 16; i++) {
        float y = oct_uniform(oct_mix32(i)) * 8.0f - 4.0f, a = oct_uniform(oct_mix32(i + 9)) * 2.0f;
        float b = oct_uniform(oct_mix32(i + 99)) - 0.5f;
        float product = (float)((double)a * (double)y);
        cr_assert_eq(oct_affine(y, a, b), (float)((double)product + (double)b), "contracted?");
    }
}

/* The bounds stated in numeric.h, 2^-23.5 = 1.414 * 2^-24, over every 61st float. */
Test(numeric, exp_error)
{
    double worst = 0.0;
    for (uint32_t u = oct_bits_of_f32(0x1p-30f); u < oct_bits_of_f32(87.0f); u += 61) {
        float x = -oct_f32_of_bits(u);
        double exact = exp((double)x), got = (double)oct_expf_nonpositive(x);
        double error = fabs(got - exact) / exact;
        worst = error > worst ? error : worst;
        if (u % 1000 == 0)
            cr_assert_eq(oct_expf_nonpositive(x), oracle_exp(x), "x %a", (double)x);
    }
    cr_log_info("exp: largest relative error %.3g = 2^%.3f\n", worst, log2(worst));
    cr_expect_leq(worst, 0x1.6ap-24, "largest relative error 2^%.3f", log2(worst));
    cr_expect_eq(oct_expf_nonpositive(0.0f), 1.0f);
    cr_expect_eq(oct_expf_nonpositive(-0.0f), 1.0f);
    cr_expect_eq(oct_expf_nonpositive(-87.0f), 0.0f);
    cr_expect_eq(oct_expf_nonpositive(-INFINITY), 0.0f);
    cr_expect_eq(oct_expf_nonpositive(-FLT_MAX), 0.0f);
    cr_expect(isnan(oct_expf_nonpositive(NAN)));
}

Test(numeric, log_error)
{
    double worst = 0.0, absolute = 0.0;
    for (uint32_t u = oct_bits_of_f32(1.0f); u < oct_bits_of_f32(0x1p40f); u += 61) {
        float x = oct_f32_of_bits(u);
        double exact = log((double)x), error = fabs((double)oct_logf_from_one(x) - exact);
        absolute = exact < 1.0 && error > absolute ? error : absolute;
        worst = exact > 0.0 && error / exact > worst ? error / exact : worst;
        if (u % 1000 == 0)
            cr_assert_eq(oct_logf_from_one(x), oracle_log(x), "x %a", (double)x);
    }
    cr_log_info("log: largest relative error %.3g = 2^%.3f, absolute below e 2^%.3f\n", worst,
        log2(worst), log2(absolute));
    cr_expect_leq(worst, 0x1.6ap-24, "largest relative error 2^%.3f", log2(worst));
    cr_expect_eq(oct_logf_from_one(1.0f), 0.0f);
    cr_expect_eq(oct_logf_from_one(INFINITY), INFINITY);
    cr_expect(isnan(oct_logf_from_one(NAN)));
}
