/* Vectors of 16 lanes for the elementwise passes: floats (vf), int32 (vi) and lane masks (vm).
 * Two definitions of each function: AVX-512 intrinsics, and loops over the scalar definitions of
 * numeric.h, which fix the bits. Memory functions take the number n of lanes to touch, 0 to 16;
 * lanes not loaded are 0. Comparisons are false on NaN; v_max and v_min then give b. */
#ifndef OCT_VEC16_H
#define OCT_VEC16_H

#include "base/numeric.h"
#include "base/tensor.h"

#define OCT_VEC_JOIN_(name, isa) name##_##isa
#define OCT_VEC_JOIN(name, isa) OCT_VEC_JOIN_(name, isa)
/* oct_x becomes oct_x_base or oct_x_avx512. */
#define OCT_VEC_NAME(name) OCT_VEC_JOIN(name, OCT_VEC)

#define V_INLINE static inline __attribute__((always_inline))

/* Lanes of vector k of a run of n elements. */
V_INLINE int v_lanes_of(int n, int k)
{
    int m = n - 16 * k;
    return m < 0 ? 0 : m > 16 ? 16 : m;
}

#ifdef __AVX512F__
#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

V_INLINE vm vm_first(int n)
{
    return (vm)((1u << n) - 1u);
}
V_INLINE vm vm_or(vm a, vm b)
{
    return a | b;
}
V_INLINE vm vm_and(vm a, vm b)
{
    return a & b;
}
V_INLINE vm vm_not(vm a)
{
    return (vm)~a;
}
V_INLINE vm vm_none(void)
{
    return 0;
}
V_INLINE int vm_any(vm a)
{
    return a != 0;
}
V_INLINE uint32_t vm_bits(vm a)
{
    return a;
}
V_INLINE vm vm_of_bits(uint32_t bits)
{
    return (vm)bits;
}
V_INLINE vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}
V_INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
V_INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
V_INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
V_INLINE vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
V_INLINE vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
V_INLINE vf vf_abs(vf a)
{
    return _mm512_abs_ps(a);
}
V_INLINE vm vf_gt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
V_INLINE vm vf_eq(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
V_INLINE vm vf_not_finite(vf a)
{
    return _mm512_fpclass_ps_mask(a, 0x99); /* quiet NaN, +Inf, -Inf, signalling NaN */
}
/* a where mask, else 0. */
V_INLINE vf vf_keep(vm mask, vf a)
{
    return _mm512_maskz_mov_ps(mask, a);
}
/* a where mask, else b. */
V_INLINE vf vf_select(vm mask, vf a, vf b)
{
    return _mm512_mask_mov_ps(b, mask, a);
}
/* Nearest integer, ties to even. */
V_INLINE vf vf_rint(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* Codes of v, nearest; vi_store_s8 completes the clamp from below: what does not fit an int32
 * becomes INT32_MIN, saturates to -128 in the packs and is raised to -127 there. */
V_INLINE vi vi_codes(vf v, vf bound)
{
    return _mm512_cvtps_epi32(vf_min(v, bound));
}
/* The same, stochastic: (rne(256 v) + r) >> 8. */
V_INLINE vi vi_codes_stochastic(vf v, vf bound, vi r)
{
    vi t = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_set1_ps(256.0f), vf_min(v, bound)));
    return _mm512_srai_epi32(_mm512_add_epi32(t, r), 8);
}
V_INLINE vi vi_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
V_INLINE vi vi_plane_hi(vi q)
{
    return _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(64)), OCT_PLANE_SHIFT);
}
V_INLINE vi vi_plane_lo(vi q, vi hi)
{
    return _mm512_sub_epi32(q, _mm512_slli_epi32(hi, OCT_PLANE_SHIFT));
}
V_INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
/* counts + 1 where mask. */
V_INLINE vi vi_count(vi counts, vm mask)
{
    return _mm512_mask_add_epi32(counts, mask, counts, _mm512_set1_epi32(1));
}
V_INLINE vm vi_positive(vi a)
{
    return _mm512_cmpgt_epi32_mask(a, _mm512_setzero_si512());
}
V_INLINE vi vi_load(const uint32_t *p)
{
    return _mm512_loadu_si512(p);
}
V_INLINE void vi_store(uint32_t *p, vi a)
{
    _mm512_storeu_si512(p, a);
}

V_INLINE vf vf_load_f32(const float *p, int n)
{
    return n == 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(vm_first(n), p);
}
V_INLINE vf vf_load_bf16(const uint16_t *p, int n)
{
    __m256i half =
        n == 16 ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(vm_first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
V_INLINE vf vf_load_s8(const int8_t *p, int n)
{
    __m128i code =
        n == 16 ? _mm_loadu_si128((const __m128i *)p) : _mm_maskz_loadu_epi8(vm_first(n), p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(code));
}
V_INLINE void vf_store_f32(float *p, int n, vf a)
{
    if (n == 16)
        _mm512_storeu_ps(p, a);
    else
        _mm512_mask_storeu_ps(p, vm_first(n), a);
}
V_INLINE void vf_store_bf16(uint16_t *p, int n, vf a)
{
    vi u = _mm512_castps_si512(a), upper = _mm512_srli_epi32(u, 16);
    vi odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    vi sum = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    vi rounded = _mm512_mask_or_epi32(_mm512_srli_epi32(sum, 16),
        _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), upper, _mm512_set1_epi32(0x40));
    __m256i half = _mm512_cvtepi32_epi16(rounded);
    if (n == 16)
        _mm256_storeu_si256((__m256i *)p, half);
    else
        _mm256_mask_storeu_epi16(p, vm_first(n), half);
}
/* n codes of four vectors, clamped to [-127, 127]. */
V_INLINE void vi_store_s8(int8_t *p, int n, const vi q[4])
{
    __m512i ab = _mm512_packs_epi32(q[0], q[1]), cd = _mm512_packs_epi32(q[2], q[3]);
    /* the packs work inside 128-bit lanes: quad l holds lanes 4l..4l+3 of q[0], q[1], q[2], q[3] */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i codes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab, cd));
    codes = _mm512_max_epi8(codes, _mm512_set1_epi8(-OCT_CODE_MAX));
    if (n == 64)
        _mm512_storeu_si512(p, codes);
    else
        _mm512_mask_storeu_epi8(p, ((__mmask64)1 << n) - 1, codes);
}

#else

typedef struct {
    float v[16];
} vf;
typedef struct {
    int32_t v[16];
} vi;
typedef struct {
    int32_t v[16]; /* 0 or -1 */
} vm;

#define V_EACH for (int l = 0; l < 16; l++)

V_INLINE vm vm_first(int n)
{
    vm r;
    V_EACH r.v[l] = -(l < n);
    return r;
}
V_INLINE vm vm_or(vm a, vm b)
{
    V_EACH a.v[l] |= b.v[l];
    return a;
}
V_INLINE vm vm_and(vm a, vm b)
{
    V_EACH a.v[l] &= b.v[l];
    return a;
}
V_INLINE vm vm_not(vm a)
{
    V_EACH a.v[l] = ~a.v[l];
    return a;
}
V_INLINE vm vm_none(void)
{
    return vm_first(0);
}
V_INLINE int vm_any(vm a)
{
    int32_t any = 0;
    V_EACH any |= a.v[l];
    return any != 0;
}
V_INLINE uint32_t vm_bits(vm a)
{
    uint32_t bits = 0;
    V_EACH bits |= (uint32_t)a.v[l] & (1u << l);
    return bits;
}
V_INLINE vm vm_of_bits(uint32_t bits)
{
    vm r;
    V_EACH r.v[l] = -(int32_t)(bits >> l & 1u);
    return r;
}
V_INLINE vf vf_set(float x)
{
    vf r;
    V_EACH r.v[l] = x;
    return r;
}
V_INLINE vf vf_add(vf a, vf b)
{
    V_EACH a.v[l] = a.v[l] + b.v[l];
    return a;
}
V_INLINE vf vf_sub(vf a, vf b)
{
    V_EACH a.v[l] = a.v[l] - b.v[l];
    return a;
}
V_INLINE vf vf_mul(vf a, vf b)
{
    V_EACH a.v[l] = a.v[l] * b.v[l];
    return a;
}
V_INLINE vf vf_max(vf a, vf b)
{
    V_EACH a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l];
    return a;
}
V_INLINE vf vf_min(vf a, vf b)
{
    V_EACH a.v[l] = a.v[l] < b.v[l] ? a.v[l] : b.v[l];
    return a;
}
V_INLINE vf vf_abs(vf a)
{
    V_EACH a.v[l] = fabsf(a.v[l]);
    return a;
}
V_INLINE vm vf_gt(vf a, vf b)
{
    vm r;
    V_EACH r.v[l] = -(a.v[l] > b.v[l]);
    return r;
}
V_INLINE vm vf_eq(vf a, vf b)
{
    vm r;
    V_EACH r.v[l] = -(a.v[l] == b.v[l]);
    return r;
}
V_INLINE vm vf_not_finite(vf a)
{
    vm r;
    V_EACH r.v[l] = -oct_not_finite(a.v[l]);
    return r;
}
V_INLINE vf vf_keep(vm mask, vf a)
{
    V_EACH a.v[l] = oct_f32_of_bits(oct_bits_of_f32(a.v[l]) & (uint32_t)mask.v[l]);
    return a;
}
V_INLINE vf vf_select(vm mask, vf a, vf b)
{
    V_EACH b.v[l] = mask.v[l] ? a.v[l] : b.v[l];
    return b;
}
V_INLINE vf vf_rint(vf a)
{
    V_EACH a.v[l] = rintf(a.v[l]);
    return a;
}
V_INLINE vi vi_codes(vf v, vf bound)
{
    vi r;
    V_EACH r.v[l] = (int)rintf(oct_clampf(v.v[l], bound.v[l]));
    return r;
}
V_INLINE vi vi_codes_stochastic(vf v, vf bound, vi r)
{
    V_EACH r.v[l] = ((int)rintf(256.0f * oct_clampf(v.v[l], bound.v[l])) + r.v[l]) >> 8;
    return r;
}
V_INLINE vi vi_load_u8(const uint8_t *p)
{
    vi r;
    V_EACH r.v[l] = p[l];
    return r;
}
V_INLINE vi vi_plane_hi(vi q)
{
    V_EACH q.v[l] = oct_plane_hi(q.v[l]);
    return q;
}
V_INLINE vi vi_plane_lo(vi q, vi hi)
{
    V_EACH q.v[l] = q.v[l] - hi.v[l] * (1 << OCT_PLANE_SHIFT);
    return q;
}
V_INLINE vi vi_zero(void)
{
    vi r;
    V_EACH r.v[l] = 0;
    return r;
}
V_INLINE vi vi_count(vi counts, vm mask)
{
    V_EACH counts.v[l] -= mask.v[l];
    return counts;
}
V_INLINE vm vi_positive(vi a)
{
    vm r;
    V_EACH r.v[l] = -(a.v[l] > 0);
    return r;
}
V_INLINE vi vi_load(const uint32_t *p)
{
    vi r;
    V_EACH r.v[l] = (int32_t)p[l];
    return r;
}
V_INLINE void vi_store(uint32_t *p, vi a)
{
    V_EACH p[l] = (uint32_t)a.v[l];
}

V_INLINE vf vf_load_f32(const float *p, int n)
{
    vf r = vf_set(0.0f);
    for (int l = 0; l < n; l++)
        r.v[l] = p[l];
    return r;
}
V_INLINE vf vf_load_bf16(const uint16_t *p, int n)
{
    vf r = vf_set(0.0f);
    for (int l = 0; l < n; l++)
        r.v[l] = oct_f32_from_bf16(p[l]);
    return r;
}
V_INLINE vf vf_load_s8(const int8_t *p, int n)
{
    vf r = vf_set(0.0f);
    for (int l = 0; l < n; l++)
        r.v[l] = (float)p[l];
    return r;
}
V_INLINE void vf_store_f32(float *p, int n, vf a)
{
    for (int l = 0; l < n; l++)
        p[l] = a.v[l];
}
V_INLINE void vf_store_bf16(uint16_t *p, int n, vf a)
{
    for (int l = 0; l < n; l++)
        p[l] = oct_bf16_from_f32(a.v[l]);
}
V_INLINE void vi_store_s8(int8_t *p, int n, const vi q[4])
{
    for (int l = 0; l < n; l++)
        p[l] = (int8_t)q[l >> 4].v[l & 15];
}

#endif

/* The same for both, by the functions above. */

V_INLINE vf vf_affine(vf y, vf a, vf b)
{
    return vf_add(vf_mul(a, y), b);
}
/* Of lanes, as oct_on_grid; steps above 0. */
V_INLINE vf vf_on_grid(vf a, float steps)
{
    return vf_mul(vf_rint(vf_mul(a, vf_set(steps))), vf_set(1.0f / steps));
}
V_INLINE vf vf_clamp(vf a, vf bound)
{
    return vf_max(vf_min(a, bound), vf_sub(vf_set(0.0f), bound));
}
/* Sum of the lanes of counts. */
V_INLINE int64_t vi_total(vi counts)
{
    uint32_t lanes[16];
    int64_t total = 0;
    vi_store(lanes, counts);
    for (int l = 0; l < 16; l++)
        total += lanes[l];
    return total;
}
/* Elements i..i+n-1 of a tensor of f32, bf16 or s8. */
V_INLINE vf vf_load(enum oct_dtype dtype, const void *x, int64_t i, int n)
{
    if (dtype == OCT_BF16)
        return vf_load_bf16((const uint16_t *)x + i, n);
    if (dtype == OCT_S8)
        return vf_load_s8((const int8_t *)x + i, n);
    return vf_load_f32((const float *)x + i, n);
}
V_INLINE void vf_store(enum oct_dtype dtype, void *x, int64_t i, int n, vf a)
{
    if (dtype == OCT_BF16)
        vf_store_bf16((uint16_t *)x + i, n, a);
    else
        vf_store_f32((float *)x + i, n, a);
}
/* Bits i..i+n-1 of a bit array, whatever i. */
V_INLINE vm vm_load_bits(const uint8_t *mask, int64_t i, int n)
{
    uint32_t bits = 0;
    int shift = (int)(i & 7);
    const uint8_t *p = mask + (i >> 3);
    if (shift == 0 && n == 16)
        return vm_of_bits(p[0] | (uint32_t)p[1] << 8);
    for (int byte = 0; 8 * byte < shift + n; byte++)
        bits |= (uint32_t)p[byte] << (8 * byte);
    return vm_of_bits((bits >> shift) & ((1u << n) - 1u));
}
/* Writes n bits at i, a multiple of 16; the rest of the last byte becomes 0. */
V_INLINE void vm_store_bits(uint8_t *mask, int64_t i, int n, vm a)
{
    uint32_t bits = vm_bits(a);
    if (n > 0)
        mask[i >> 3] = (uint8_t)bits;
    if (n > 8)
        mask[(i >> 3) + 1] = (uint8_t)(bits >> 8);
}

#endif
