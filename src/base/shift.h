/* Integer-only activations, for host and device: x = code of relu?(scale y + bias (+ residual)), y
 * an accumulator, a sum of codes or a code. Scales are powers of two, so that each is an exponent;
 * numbers are integers times 2^exponent, brought to one unit by shifts. Every sum is below 2^30 in
 * magnitude: |acc| <= 127^2 OCT_SHIFT_MAX_K < 2^29; a window's sum times its multiplier is at most
 * 127 (2^22 + window / 2) < 2^29 for windows up to 2^15; |scale y| 2^12 <= 127^2 2^12 < 2^26; and
 * |bias| <= 2^29. */
#ifndef OCT_SHIFT_H
#define OCT_SHIFT_H

#include "base/numeric.h"

enum {
    OCT_SHIFT_RIGHT_MAX = 31, /* a sum of less than 2^30 shifted by so much is 0 */
    OCT_SHIFT_LEFT_MAX = 20,  /* of a sum clamped to +-127 */
    OCT_ALIGN_MAX = 12,       /* most that the coarser of two summands is shifted to the left */
    OCT_SHIFT_SUM_MAX = 1 << 29,
    OCT_SHIFT_MAX_K = 33285 /* products of +-127 whose sum is below 2^29 */
};

/* Exponent of a power of two. */
OCT_HD int oct_exponent_of(float pow2)
{
    return (int)(oct_bits_of_f32(pow2) >> 23 & 0xffu) - 127;
}

/* 2^exponent, 0 below the smallest normal number. */
OCT_HD float oct_unit_of(int exponent)
{
    return exponent < -126 ? 0.0f : oct_f32_of_bits((uint32_t)(exponent + 127) << 23);
}

/* A real as an 8-bit code with an exponent of its own: x ~ code 2^exponent, 64 <= |code| <= 127, so
 * that powers of two are exact; below 2^-100 it is 0. */
struct oct_scaled {
    int32_t code;
    int exponent; /* 0 where the code is 0 */
};

OCT_HD struct oct_scaled oct_scaled_of(float x)
{
    struct oct_scaled fixed = {0, 0};
    int exponent = oct_exponent_of(fabsf(x)) - 6;
    if (exponent < -106)
        return fixed;
    fixed.code = oct_quantise(x, oct_unit_of(-exponent), OCT_CODE_MAX);
    fixed.exponent = exponent;
    return fixed;
}

/* v 2^by: to the left exactly, to the right floor(v / 2^-by + 1/2). */
OCT_HD int32_t oct_align(int32_t v, int by)
{
    return by >= 0 ? v * ((int32_t)1 << by) : ((v >> (-by - 1)) + 1) >> 1;
}

OCT_HD int32_t oct_clamp_int(int32_t v, int32_t low, int32_t high)
{
    v = v > low ? v : low;
    return v < high ? v : high;
}

/* Code of a sum: floor(v / 2^right + 1/2), clipped to [lowest, 127]; with right < 0 v 2^-right. */
OCT_HD int32_t oct_shift_code(int32_t v, int right, int lowest)
{
    if (right > 0)
        v = ((v >> (right - 1)) + 1) >> 1;
    else
        v = oct_clamp_int(v, -OCT_CODE_MAX, OCT_CODE_MAX) * ((int32_t)1 << -right);
    return oct_clamp_int(v, lowest, OCT_CODE_MAX);
}

/* The same of the sums of two-plane products; as there, the largest shift gives 0. */
OCT_HD int32_t oct_shift_code64(int64_t v, int right, int lowest)
{
    if (right >= OCT_SHIFT_RIGHT_MAX)
        return 0;
    v = right > 0 ? oct_rshift_round(v, right) : v;
    v = v > -128 ? v : -128;
    return oct_shift_code((int32_t)(v < 128 ? v : 128), right < 0 ? right : 0, lowest);
}

/* What an integer-only activation is made from: scales that are powers of two, 0 where they were
 * never set (their codes are 0); a scale and a window of 1 are none. */
struct oct_shift_problem {
    int has_scale, has_residual, window;
    float scale, y_unit, residual_unit, x_unit;
};

struct oct_shift_plan {
    int32_t multiplier;
    int by_y, by_residual, right;
    int unit; /* exponent of the sum's */
    float a;  /* the multiplier's value */
};

OCT_HD struct oct_scaled oct_shift_factor(const struct oct_shift_problem *p)
{
    struct oct_scaled factor = {1, 0};
    if (p->window > 1) {
        factor.code = (int32_t)rintf(4194304.0f / (float)p->window);
        factor.exponent = -22;
    } else if (p->has_scale) {
        factor = oct_scaled_of(p->scale);
    }
    return factor;
}

OCT_HD struct oct_shift_plan oct_shift_plan_of(const struct oct_shift_problem *p)
{
    struct oct_scaled factor = oct_shift_factor(p);
    int of_y = p->y_unit > 0.0f ? oct_exponent_of(p->y_unit) : 0;
    int of_residual = p->residual_unit > 0.0f ? oct_exponent_of(p->residual_unit) : 0;
    struct oct_shift_plan plan = {factor.code, 0, 0, OCT_SHIFT_RIGHT_MAX, 0, 1.0f};

    of_y += factor.exponent;
    plan.unit = of_y;
    if (p->has_residual) {
        int low = of_y < of_residual ? of_y : of_residual;
        int high = of_y < of_residual ? of_residual : of_y;
        plan.unit = low > high - OCT_ALIGN_MAX ? low : high - OCT_ALIGN_MAX;
        plan.by_y = oct_clamp_int(of_y - plan.unit, -OCT_SHIFT_RIGHT_MAX, OCT_ALIGN_MAX);
        plan.by_residual =
            oct_clamp_int(of_residual - plan.unit, -OCT_SHIFT_RIGHT_MAX, OCT_ALIGN_MAX);
    }
    if (p->x_unit > 0.0f)
        plan.right = oct_clamp_int(
            oct_exponent_of(p->x_unit) - plan.unit, -OCT_SHIFT_LEFT_MAX, OCT_SHIFT_RIGHT_MAX);
    if (p->has_scale)
        plan.a = (float)factor.code * oct_unit_of(factor.exponent);
    return plan;
}

/* A bias at the unit 2^unit. 127 2^22 is below OCT_SHIFT_SUM_MAX. */
OCT_HD int32_t oct_shift_bias(float bias, int unit)
{
    struct oct_scaled fixed = oct_scaled_of(bias);
    int by = fixed.exponent - unit;
    if (by > 22)
        return fixed.code > 0 ? OCT_SHIFT_SUM_MAX : fixed.code < 0 ? -OCT_SHIFT_SUM_MAX : 0;
    return oct_align(fixed.code, by > -OCT_SHIFT_RIGHT_MAX ? by : -OCT_SHIFT_RIGHT_MAX);
}

/* Largest |relu?(acc + bias)| of accumulators between two extremes, as a real. */
OCT_HD float oct_shift_amax(int64_t min, int64_t max, int32_t bias, int relu, int unit)
{
    int64_t low = min + bias, high = max + bias;
    low = relu || low > 0 ? 0 : -low;
    high = high > 0 ? high : 0;
    return (float)(low > high ? low : high) * oct_unit_of(unit);
}

#endif
