/* Helpers of loops that compilers vectorise well by themselves; vec16.h serves the others. A
 * function that takes `dtype` is inlined with a constant, so that each type gets its own loop. */
#ifndef OCT_VEC_INLINE_H
#define OCT_VEC_INLINE_H

#include "cpu/vec_mu8.h"

/* Element i of an f32, bf16 or s8 tensor as a float. */
V_INLINE float oct_load(const void *x, enum oct_dtype dtype, int64_t i)
{
    if (dtype == OCT_S8)
        return (float)((const int8_t *)x)[i];
    return dtype == OCT_BF16 ? oct_f32_from_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* Element i of an f32 or bf16 tensor becomes round(value). */
V_INLINE void oct_store(void *x, enum oct_dtype dtype, int64_t i, float value)
{
    if (dtype == OCT_BF16)
        ((uint16_t *)x)[i] = oct_bf16_from_f32(value);
    else
        ((float *)x)[i] = value;
}

/* |x| as an integer that orders like it; NaN above Inf. */
V_INLINE int32_t oct_magnitude(float x)
{
    return (int32_t)(oct_bits_of_f32(x) & 0x7fffffffu);
}

#define OCT_INF_BITS 0x7f800000
#define OCT_MIN_NORMAL_BITS 0x00800000

/* The float of a magnitude; subnormals are zero. */
V_INLINE float oct_float_of_magnitude(int32_t magnitude)
{
    return magnitude < OCT_MIN_NORMAL_BITS ? 0.0f : oct_f32_of_bits((uint32_t)magnitude);
}

/* *amax = max(*amax, the float of magnitude), by bits, from any thread. */
V_INLINE void oct_raise_amax(float *amax, int32_t magnitude)
{
    float mine = oct_float_of_magnitude(magnitude), old;
    __atomic_load(amax, &old, __ATOMIC_RELAXED);
    while (oct_magnitude(old) < magnitude &&
           !__atomic_compare_exchange(amax, &old, &mine, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

/* Codes of n values on a grid that is not uniform; there is room for n rounded up to 16 of them.
 * One copy for all loops that may need it: theirs stay as they are. */
__attribute__((unused, noinline)) static void oct_grid_codes(
    enum oct_grid grid, const float *v, int n, int code_max, int32_t *code)
{
    if (grid == OCT_GRID_MU8 && code_max == OCT_CODE_MAX)
        for (int i = 0; i < n; i += 16)
            vi_store((uint32_t *)code + i, vi_mu8_codes(vf_load_f32(v + i, v_lanes_of(n - i, 0))));
    else if (grid == OCT_GRID_MU8)
        for (int i = 0; i < n; i++)
            code[i] = oct_quantise_on(OCT_GRID_MU8, v[i], 1.0f, code_max);
    else
        for (int i = 0; i < n; i++)
            code[i] = oct_quantise_on(OCT_GRID_FLAG, v[i], 1.0f, code_max);
}

V_INLINE void oct_raise(uint32_t *flag)
{
    if (flag)
        __atomic_fetch_or(flag, 1u, __ATOMIC_RELAXED);
}

#endif
