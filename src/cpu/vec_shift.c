/* The integer-only activation: no float but the scale of the largest result. */
#include "cpu/vec_reduce.h"

#include "base/shift.h"

enum { UNIT = 64 }; /* elements at a time: eight bytes of the mask */

/* v 2^by; the direction is a constant where this is inlined. */
V_INLINE int32_t aligned(int32_t v, int by, int left)
{
    return left ? v * ((int32_t)1 << by) : oct_align(v, by);
}

/* Bit k of the mask: v[k] > 0. */
V_INLINE void store_gate(uint8_t *mask, int32_t *v, int n)
{
    uint16_t bits[UNIT / 16];
    for (int k = n; k < UNIT; k++)
        v[k] = 0;
    for (int k = 0; k < UNIT / 16; k++)
        bits[k] = (uint16_t)vm_bits(vi_positive(vi_load((const uint32_t *)v + 16 * k)));
    memcpy(mask, bits, (size_t)(n + 7) / 8);
}

/* Codes of n elements from i on, bias[k] that of element i + k. Returns the largest magnitude. */
V_INLINE int32_t shift_unit(const struct oct_act_shift_args *a, const int32_t *by,
    const int32_t *bias, int64_t i, int n, int left, int has_residual)
{
    const int lowest = a->relu ? 0 : -OCT_CODE_MAX, right = by[OCT_SHIFT_RIGHT];
    const int32_t below = a->relu ? 0 : -1;
    const int8_t *restrict y8 = a->y, *restrict r = a->residual;
    const int32_t *restrict y32 = a->y;
    int8_t *restrict x = a->x;
    int32_t largest = 0, v[UNIT];

    for (int k = 0; k < n; k++) {
        int32_t y = a->y_dtype == OCT_S8 ? y8[i + k] : y32[i + k];
        v[k] = aligned(by[OCT_SHIFT_MULTIPLIER] * y, by[OCT_SHIFT_Y], left) + bias[k];
    }
    for (int k = 0; has_residual && k < n; k++)
        v[k] += aligned(r[i + k], by[OCT_SHIFT_RESIDUAL], left);
    for (int k = 0; k < n; k++) {
        int32_t negative = -v[k] & below; /* what counts of a sum below 0: nothing with a ReLU */
        int32_t magnitude = v[k] > negative ? v[k] : negative;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (right > 0) /* a loop for each direction: with the branch inside none is vectorised */
        for (int k = 0; k < n; k++)
            x[i + k] = (int8_t)oct_shift_code(v[k], right, lowest);
    else
        for (int k = 0; k < n; k++)
            x[i + k] = (int8_t)oct_shift_code(v[k], right, lowest);
    if (a->mask)
        store_gate(a->mask + i / 8, v, n);
    return largest;
}

V_INLINE int32_t shift_form(const struct oct_act_shift_args *a, const int32_t *by,
    const int32_t *bias, int64_t i, int n, int left)
{
    if (n == UNIT && a->residual)
        return shift_unit(a, by, bias, i, UNIT, left, 1);
    if (n == UNIT)
        return shift_unit(a, by, bias, i, UNIT, left, 0);
    return shift_unit(a, by, bias, i, n, left, a->residual != NULL);
}

/* The biases of 64 elements from channel c on. */
static const int32_t *bias_from(const struct oct_act_shift_args *a, int c, int32_t *buffer)
{
    if (c + UNIT <= a->channels)
        return a->shift.bias + c;
    for (int k = 0; k < UNIT; k++) {
        buffer[k] = a->shift.bias[c];
        c = c + 1 < a->channels ? c + 1 : 0;
    }
    return buffer;
}

void OCT_VEC_NAME(oct_vec_act_shift)(void *arg, int64_t item, int thread)
{
    (void)thread;
    struct oct_shift_job *job = arg;
    const struct oct_act_shift_args *a = job->args;
    const int64_t first = item * OCT_VEC_QUANTISE, total = a->rows * a->channels;
    const int64_t end = first + OCT_VEC_QUANTISE < total ? first + OCT_VEC_QUANTISE : total;
    const int periodic = UNIT % a->channels == 0;
    int32_t by[OCT_SHIFT_ENTRIES], buffer[UNIT], largest = 0;
    const int32_t *bias = NULL;

    memcpy(by, a->shift.by, sizeof by);
    const int left = by[OCT_SHIFT_Y] >= 0 && by[OCT_SHIFT_RESIDUAL] >= 0;
    for (int64_t i = first; i < end; i += UNIT) {
        int n = end - i < UNIT ? (int)(end - i) : UNIT;
        if (!bias || !periodic)
            bias = bias_from(a, (int)(i % a->channels), buffer);
        int32_t mine = left ? shift_form(a, by, bias, i, n, 1) : shift_form(a, by, bias, i, n, 0);
        largest = mine > largest ? mine : largest;
    }
    int32_t seen = __atomic_load_n(&job->largest, __ATOMIC_RELAXED);
    while (largest > seen && !__atomic_compare_exchange_n(&job->largest, &seen, largest, 0,
                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}
