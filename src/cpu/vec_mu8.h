/* Mu-law codes of many values by table. oct_quantise_on(OCT_GRID_MU8, v, 1, 127) is a staircase of
 * 63 levels in |v|, with at most one step between an integer and the next: between b and b + 1 at
 * oct_mu8_threshold[b] (b + 1 where there is none), and on from b oct_mu8_code[b]. So a code costs
 * two look-ups and a comparison in place of a logarithm and an exponential; test_codes holds both
 * against the definition, on both sides of every step. */
#ifndef OCT_VEC_MU8_H
#define OCT_VEC_MU8_H

#include "cpu/vec16.h"

static const float oct_mu8_threshold[128] = {0x1.ed6d66p-2f, 0x1.78f51ap+0f, 0x1.469186p+1f,
    0x1.bb779ap+1f, 0x1.1b9bbcp+2f, 0x1.57cff2p+2f, 0x1.9f813ep+2f, 0x1.de1e1cp+2f, 0x1.12bf2ap+3f,
    0x1.2d45bp+3f, 0x1.4a37dep+3f, 0x1.69ce3ap+3f, 0x1.8c467cp+3f, 0x1.b1e3fap+3f, 0x1.c5f75cp+3f,
    0x1.f0d88ap+3f, 0x1.03dda6p+4f, 0x1.1c4e64p+4f, 0x1.2959bp+4f, 0x1.36fa14p+4f, 0x1.453618p+4f,
    0x1.5414ccp+4f, 0x1.639d58p+4f, 0x1.73d77p+4f, 0x1.84cad2p+4f, 0x1.967ffap+4f, 0x1.a8ff6p+4f,
    0x1.bc522ep+4f, 0x1.dp+4f, 0x1.d081b2p+4f, 0x1.e597e4p+4f, 0x1.fb9efp+4f, 0x1.08p+5f,
    0x1.0950dep+5f, 0x1.1555bp+5f, 0x1.2p+5f, 0x1.21e3dap+5f, 0x1.2f016ep+5f, 0x1.38p+5f,
    0x1.3cb4e6p+5f, 0x1.48p+5f, 0x1.4b04dep+5f, 0x1.58p+5f, 0x1.59f866p+5f, 0x1.68p+5f,
    0x1.6996b4p+5f, 0x1.78p+5f, 0x1.79e78ep+5f, 0x1.88p+5f, 0x1.8af2acp+5f, 0x1.98p+5f,
    0x1.9cc0aap+5f, 0x1.a8p+5f, 0x1.af59ecp+5f, 0x1.b8p+5f, 0x1.cp+5f, 0x1.c2c7d8p+5f, 0x1.dp+5f,
    0x1.d713ap+5f, 0x1.ep+5f, 0x1.e8p+5f, 0x1.ec475ep+5f, 0x1.f8p+5f, 0x1p+6f, 0x1.0136a4p+6f,
    0x1.08p+6f, 0x1.0cp+6f, 0x1.0cc82ap+6f, 0x1.14p+6f, 0x1.18p+6f, 0x1.18dddp+6f, 0x1.2p+6f,
    0x1.24p+6f, 0x1.257d92p+6f, 0x1.2cp+6f, 0x1.3p+6f, 0x1.32ad88p+6f, 0x1.38p+6f, 0x1.3cp+6f,
    0x1.4p+6f, 0x1.407432p+6f, 0x1.48p+6f, 0x1.4cp+6f, 0x1.4ed834p+6f, 0x1.54p+6f, 0x1.58p+6f,
    0x1.5cp+6f, 0x1.5de0bp+6f, 0x1.64p+6f, 0x1.68p+6f, 0x1.6cp+6f, 0x1.6d94e2p+6f, 0x1.74p+6f,
    0x1.78p+6f, 0x1.7cp+6f, 0x1.7dfc8cp+6f, 0x1.84p+6f, 0x1.88p+6f, 0x1.8cp+6f, 0x1.8f1f94p+6f,
    0x1.94p+6f, 0x1.98p+6f, 0x1.9cp+6f, 0x1.ap+6f, 0x1.a10684p+6f, 0x1.a8p+6f, 0x1.acp+6f,
    0x1.bp+6f, 0x1.b3b9d6p+6f, 0x1.b8p+6f, 0x1.bcp+6f, 0x1.cp+6f, 0x1.c4p+6f, 0x1.c742fap+6f,
    0x1.ccp+6f, 0x1.dp+6f, 0x1.d4p+6f, 0x1.d8p+6f, 0x1.dbab24p+6f, 0x1.ep+6f, 0x1.e4p+6f,
    0x1.e8p+6f, 0x1.ecp+6f, 0x1.fp+6f, 0x1.f0fca6p+6f, 0x1.f8p+6f, 0x1.fcp+6f, 0x1p+7};
static const uint16_t oct_mu8_code[128] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
    17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 28, 30, 31, 32, 32, 34, 35, 35, 37, 39, 39, 40,
    40, 42, 42, 44, 44, 46, 46, 48, 48, 50, 50, 53, 53, 55, 55, 55, 58, 58, 60, 60, 60, 63, 63, 63,
    66, 66, 66, 69, 69, 69, 72, 72, 72, 75, 75, 75, 78, 78, 78, 78, 82, 82, 82, 86, 86, 86, 86, 89,
    89, 89, 89, 93, 93, 93, 93, 98, 98, 98, 98, 102, 102, 102, 102, 102, 107, 107, 107, 107, 111,
    111, 111, 111, 111, 116, 116, 116, 116, 116, 122, 122, 122, 122, 122, 122, 127, 127, 127};

/* oct_quantise_on(OCT_GRID_MU8, v, 1, OCT_CODE_MAX) of each lane. */
#ifdef __AVX512F__
V_INLINE vf vf_look_up(vi index, const float *table)
{
    vf part[4];
    for (int i = 0; i < 4; i++)
        part[i] = _mm512_permutex2var_ps(
            _mm512_loadu_ps(table + 32 * i), index, _mm512_loadu_ps(table + 32 * i + 16));
    vm odd = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
    vm upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
    return vf_select(upper, vf_select(odd, part[3], part[2]), vf_select(odd, part[1], part[0]));
}

/* The index is below 128, so that the odd 16-bit lanes look up entry 0, to be dropped. */
V_INLINE vi vi_look_up(vi index, const uint16_t *table)
{
    vi part[2];
    for (int i = 0; i < 2; i++)
        part[i] = _mm512_permutex2var_epi16(
            _mm512_loadu_si512(table + 64 * i), index, _mm512_loadu_si512(table + 64 * i + 32));
    vm upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(64));
    return _mm512_and_si512(
        _mm512_mask_mov_epi32(part[0], upper, part[1]), _mm512_set1_epi32(0xffff));
}

V_INLINE vi vi_mu8_codes(vf v)
{
    v = vf_clamp(v, vf_set((float)OCT_CODE_MAX));
    vf magnitude = vf_abs(v);
    vi step = _mm512_cvttps_epi32(magnitude);
    vm above = _mm512_cmp_ps_mask(magnitude, vf_look_up(step, oct_mu8_threshold), _CMP_GE_OQ);
    vi code = vi_look_up(vi_count(step, above), oct_mu8_code);
    return _mm512_mask_sub_epi32(code, vf_gt(vf_set(0.0f), v), vi_zero(), code);
}
#else
V_INLINE vi vi_mu8_codes(vf v)
{
    vi code;
    for (int l = 0; l < 16; l++) {
        float clamped = oct_clampf(v.v[l], (float)OCT_CODE_MAX), magnitude = fabsf(clamped);
        int step = (int)magnitude;
        int c = oct_mu8_code[step + (magnitude >= oct_mu8_threshold[step])];
        code.v[l] = clamped < 0.0f ? -c : c;
    }
    return code;
}
#endif

#endif
