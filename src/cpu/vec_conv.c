#include "cpu/vec_conv.h"

#include "base/bn.h"
#include "base/shift.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* ---- tiles of accumulators to outputs ---- */

INLINE float read_float(const void *x, int64_t i, enum oct_dtype dtype)
{
    return dtype == OCT_BF16 ? oct_f32_from_bf16(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

INLINE void write_float(void *x, int64_t i, enum oct_dtype dtype, float value)
{
    if (dtype == OCT_BF16)
        ((uint16_t *)x)[i] = oct_bf16_from_f32(value);
    else
        ((float *)x)[i] = value;
}

/* `columns` and the choices are constants where this is inlined, so that a row of 16 columns is a
 * few vector instructions. */
INLINE void finish_columns(const struct oct_conv_epilogue *e, const void *acc, int wide, int first,
    int columns, enum oct_dtype dtype, enum oct_write mode, int with_bias)
{
    for (int i = 0; i < e->rows; i++) {
        const int64_t from = (int64_t)i * e->acc_stride + first, to = i * e->out_stride + first;
        for (int j = 0; j < columns; j++) {
            float f = wide ? (float)((const int64_t *)acc)[from + j]
                           : (float)((const int32_t *)acc)[from + j];
            f = f * e->multiplier[first + j];
            if (with_bias)
                f = f + e->bias[first + j];
            if (mode == OCT_ACCUMULATE)
                f = read_float(e->out, to + j, dtype) + f;
            write_float(e->out, to + j, dtype, f);
        }
    }
}

INLINE void finish_groups(const struct oct_conv_epilogue *e, const void *acc, int wide,
    enum oct_dtype dtype, enum oct_write mode, int with_bias)
{
    int first = 0;
    for (; first + 16 <= e->columns; first += 16)
        finish_columns(e, acc, wide, first, 16, dtype, mode, with_bias);
    if (first < e->columns)
        finish_columns(e, acc, wide, first, e->columns - first, dtype, mode, with_bias);
}

/* Integers all the way. */
INLINE void shift_columns(
    const struct oct_conv_epilogue *e, const void *acc, int wide, int first, int columns)
{
    const int right = e->right, lowest = e->lowest;
    const int32_t *restrict bias = e->shift_bias + first;
    for (int i = 0; i < e->rows; i++) {
        const int64_t from = (int64_t)i * e->acc_stride + first;
        const int64_t *restrict acc64 = (const int64_t *)acc + from;
        const int32_t *restrict acc32 = (const int32_t *)acc + from;
        int8_t *restrict out = (int8_t *)e->out + i * e->out_stride + first;
        for (int j = 0; j < columns; j++)
            out[j] = (int8_t)(wide ? oct_shift_code64(acc64[j] + bias[j], right, lowest)
                                   : oct_shift_code(acc32[j] + bias[j], right, lowest));
    }
}

INLINE void shift_groups(const struct oct_conv_epilogue *e, const void *acc, int wide)
{
    int first = 0;
    for (; first + 16 <= e->columns; first += 16)
        shift_columns(e, acc, wide, first, 16);
    if (first < e->columns)
        shift_columns(e, acc, wide, first, e->columns - first);
}

/* Clipped channels. */
INLINE void merged_columns(
    const struct oct_conv_epilogue *e, const void *acc, int wide, int first, int columns)
{
    const float *restrict scale = e->multiplier + first, *restrict offset = e->bias + first;
    const int32_t *restrict lo = e->lo + first, *restrict hi = e->hi + first;
    for (int i = 0; i < e->rows; i++) {
        const int64_t from = (int64_t)i * e->acc_stride + first;
        const int64_t *restrict acc64 = (const int64_t *)acc + from;
        const int32_t *restrict acc32 = (const int32_t *)acc + from;
        int8_t *restrict out = (int8_t *)e->out + i * e->out_stride + first;
        for (int j = 0; j < columns; j++) {
            float f = wide ? (float)acc64[j] : (float)acc32[j];
            f = f * scale[j] + offset[j];
            out[j] = (int8_t)oct_bn_merged_code(f, lo[j], hi[j]);
        }
    }
}

INLINE void merged_groups(const struct oct_conv_epilogue *e, const void *acc, int wide)
{
    int first = 0;
    for (; first + 16 <= e->columns; first += 16)
        merged_columns(e, acc, wide, first, 16);
    if (first < e->columns)
        merged_columns(e, acc, wide, first, e->columns - first);
}

INLINE void finish(const struct oct_conv_epilogue *e, const void *acc, int wide)
{
    if (e->lo)
        merged_groups(e, acc, wide);
    else if (e->dtype == OCT_S8)
        shift_groups(e, acc, wide);
    else if (e->bias)
        finish_groups(e, acc, wide, e->dtype, e->mode, 1);
    else if (e->dtype == OCT_BF16 && e->mode == OCT_OVERWRITE)
        finish_groups(e, acc, wide, OCT_BF16, OCT_OVERWRITE, 0);
    else if (e->dtype == OCT_BF16)
        finish_groups(e, acc, wide, OCT_BF16, OCT_ACCUMULATE, 0);
    else if (e->mode == OCT_OVERWRITE)
        finish_groups(e, acc, wide, OCT_F32, OCT_OVERWRITE, 0);
    else
        finish_groups(e, acc, wide, OCT_F32, OCT_ACCUMULATE, 0);
}

#ifdef __AVX512BW__
/* The conversion of numeric.h, still in the high halves of the lanes. */
INLINE __m512i bf16_high(__m512 f)
{
    const __m512i u = _mm512_castps_si512(f), one = _mm512_set1_epi32(1);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000));
}

INLINE __m512 bf16_load(const uint16_t *x)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)x));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* bf16 without bias, 32 (or 16) columns at a time: the output of nearly every layer. */
INLINE void finish_bf16(
    const struct oct_conv_epilogue *e, const int32_t *acc, int first, int wide, int accumulate)
{
    const __m512 m0 = _mm512_loadu_ps(e->multiplier + first);
    const __m512 m1 = wide ? _mm512_loadu_ps(e->multiplier + first + 16) : m0;
    const __m512i high_halves = _mm512_add_epi16(_mm512_set1_epi32(0x00030001),
        _mm512_mullo_epi32(_mm512_set1_epi32(0x00040004),
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
    uint16_t *out = (uint16_t *)e->out + first;
    acc += first;
    for (int i = 0; i < e->rows; i++, acc += e->acc_stride, out += e->out_stride) {
        __m512 f0 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(acc)), m0), f1 = f0;
        if (wide)
            f1 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(acc + 16)), m1);
        if (accumulate) {
            f0 = _mm512_add_ps(bf16_load(out), f0);
            f1 = wide ? _mm512_add_ps(bf16_load(out + 16), f1) : f0;
        }
        __m512i packed = _mm512_permutex2var_epi16(
            bf16_high(f0), high_halves, wide ? bf16_high(f1) : bf16_high(f0));
        if (wide)
            _mm512_storeu_si512(out, packed);
        else
            _mm256_storeu_si256((__m256i *)(void *)out, _mm512_castsi512_si256(packed));
    }
}

/* oct_bn_merged_code of 16 columns. Of NaN the minimum is its second operand, the bound. */
INLINE void merged_16(const struct oct_conv_epilogue *e, const int32_t *acc, int first)
{
    const __m512 scale = _mm512_loadu_ps(e->multiplier + first);
    const __m512 offset = _mm512_loadu_ps(e->bias + first);
    const __m512 most = _mm512_set1_ps(OCT_CODE_MAX), least = _mm512_set1_ps(-OCT_CODE_MAX);
    const __m512i lo = _mm512_loadu_si512(e->lo + first), hi = _mm512_loadu_si512(e->hi + first);
    int8_t *out = (int8_t *)e->out + first;
    acc += first;
    for (int i = 0; i < e->rows; i++, acc += e->acc_stride, out += e->out_stride) {
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(acc)), scale);
        v = _mm512_max_ps(_mm512_min_ps(_mm512_add_ps(v, offset), most), least);
        __m512i q = _mm512_min_epi32(_mm512_max_epi32(_mm512_cvtps_epi32(v), lo), hi);
        _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(q));
    }
}

static void merged32(const struct oct_conv_epilogue *e, const int32_t *acc)
{
    int first = 0;
    for (; first + 16 <= e->columns; first += 16)
        merged_16(e, acc, first);
    if (first < e->columns)
        merged_columns(e, acc, 0, first, e->columns - first);
}

static void finish32(const struct oct_conv_epilogue *e, const int32_t *acc)
{
    int first = 0;
    if (e->lo) {
        merged32(e, acc);
        return;
    }
    if (e->bias || e->dtype != OCT_BF16) {
        finish(e, acc, 0);
        return;
    }
    for (; first + 16 <= e->columns;) {
        const int wide = first + 32 <= e->columns, add = e->mode == OCT_ACCUMULATE;
        if (wide && add)
            finish_bf16(e, acc, first, 1, 1);
        else if (wide)
            finish_bf16(e, acc, first, 1, 0);
        else if (add)
            finish_bf16(e, acc, first, 0, 1);
        else
            finish_bf16(e, acc, first, 0, 0);
        first += wide ? 32 : 16;
    }
    if (first < e->columns)
        finish_columns(e, acc, 0, first, e->columns - first, OCT_BF16, e->mode, 0);
}
#else
static void finish32(const struct oct_conv_epilogue *e, const int32_t *acc)
{
    finish(e, acc, 0);
}
#endif

static void finish64(const struct oct_conv_epilogue *e, const int64_t *acc)
{
    finish(e, acc, 1);
}

/* ---- integer statistics ---- */

static void stats64(
    const struct oct_conv_stats_block *s, const int64_t *acc, int rows, int columns, int acc_stride)
{
    for (int i = 0; i < rows; i++, acc += acc_stride) {
        for (int j = 0; j < columns; j++) {
            int64_t rounded = oct_rshift_round(acc[j], s->shift);
            s->sum[j] += acc[j];
            s->sumsq[j] += rounded * rounded;
            s->min[j] = acc[j] < s->min[j] ? acc[j] : s->min[j];
            s->max[j] = acc[j] > s->max[j] ? acc[j] : s->max[j];
        }
    }
}

#ifdef __AVX512F__
/* 16 columns: sums stay in int32 for as many rows as cannot overflow, squares of the even and the
 * odd columns in int64 (one vpmuldq each). floor(a / 2^h + 1/2) = (a >> h) + bit h-1 of a. */
INLINE void stats_16(const struct oct_conv_stats_block *s, const int32_t *acc, int rows, int first,
    int columns, int acc_stride, int shifted)
{
    const __mmask16 valid = (__mmask16)(columns < 16 ? (1u << columns) - 1 : 0xffffu);
    const __m128i shift = _mm_cvtsi32_si128(s->shift), shift1 = _mm_cvtsi32_si128(s->shift - 1);
    const __m512i one = _mm512_set1_epi32(1);
    __m512i min = _mm512_set1_epi32(INT32_MAX), max = _mm512_set1_epi32(INT32_MIN);
    __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
    int64_t square[16];
    int32_t lane[3][16];

    for (int i = 0; i < rows;) {
        const int stop = rows - i > s->sum_rows ? i + s->sum_rows : rows;
        __m512i sum = _mm512_setzero_si512();
        for (; i < stop; i++) {
            __m512i a = _mm512_loadu_si512(acc + (int64_t)i * acc_stride);
            sum = _mm512_add_epi32(sum, a);
            min = _mm512_min_epi32(min, a);
            max = _mm512_max_epi32(max, a);
            if (shifted)
                a = _mm512_add_epi32(
                    _mm512_sra_epi32(a, shift), _mm512_and_si512(_mm512_srl_epi32(a, shift1), one));
            even = _mm512_add_epi64(even, _mm512_mul_epi32(a, a));
            a = _mm512_srli_epi64(a, 32);
            odd = _mm512_add_epi64(odd, _mm512_mul_epi32(a, a));
        }
        _mm512_storeu_si512(lane[0], sum);
        for (int j = 0; j < columns; j++)
            s->sum[first + j] += lane[0][j];
    }
    _mm512_mask_storeu_epi32(lane[1], valid, min);
    _mm512_mask_storeu_epi32(lane[2], valid, max);
    _mm512_storeu_si512(square, even);
    _mm512_storeu_si512(square + 8, odd);
    for (int j = 0; j < columns; j++) {
        int k = first + j;
        s->sumsq[k] += square[(j & 1) * 8 + j / 2];
        s->min[k] = lane[1][j] < s->min[k] ? lane[1][j] : s->min[k];
        s->max[k] = lane[2][j] > s->max[k] ? lane[2][j] : s->max[k];
    }
}

static void stats32(
    const struct oct_conv_stats_block *s, const int32_t *acc, int rows, int columns, int acc_stride)
{
    for (int first = 0; first < columns; first += 16) {
        int count = columns - first < 16 ? columns - first : 16;
        if (s->shift)
            stats_16(s, acc + first, rows, first, count, acc_stride, 1);
        else
            stats_16(s, acc + first, rows, first, count, acc_stride, 0);
    }
}
#else
static void stats32(
    const struct oct_conv_stats_block *s, const int32_t *acc, int rows, int columns, int acc_stride)
{
    for (int i = 0; i < rows; i++, acc += acc_stride) {
        for (int j = 0; j < columns; j++) {
            int64_t a = acc[j], rounded = oct_rshift_round(a, s->shift);
            s->sum[j] += a;
            s->sumsq[j] += rounded * rounded;
            s->min[j] = a < s->min[j] ? a : s->min[j];
            s->max[j] = a > s->max[j] ? a : s->max[j];
        }
    }
}
#endif

/* ---- planes and partial sums ---- */

static void add_plane(int64_t *total, const int32_t *acc, int64_t n, int shift, int first)
{
    const int64_t factor = (int64_t)1 << shift;
    for (int64_t i = 0; i < n; i++)
        total[i] = (first ? 0 : total[i]) + acc[i] * factor;
}

INLINE void add_partial_rows(int64_t *total, const struct oct_conv_partial *p, int clear)
{
    const int64_t factor = (int64_t)1 << p->shift;
    for (int i = 0; i < p->rows; i++, total += p->columns) {
        const int32_t *acc = p->acc + (int64_t)i * p->columns;
        for (int k = 0; k < p->columns; k++)
            total[k] = (clear ? 0 : total[k]) +
                       (int32_t)((uint32_t)acc[k] - (uint32_t)p->offset[k]) * factor;
    }
}

static void add_partial(int64_t *total, const struct oct_conv_partial *p, int clear)
{
    if (clear)
        add_partial_rows(total, p, 1);
    else
        add_partial_rows(total, p, 0);
}

/* Four columns: their 16 rows become 16 neighbouring floats of each. */
INLINE void write_columns(const struct oct_conv_gradient *g, const float f[16][64], int k, int rows)
{
    for (int i = 0; i < rows; i += 4) {
        __m128 a = _mm_loadu_ps(&f[i][k]), b = _mm_loadu_ps(&f[i + 1][k]);
        __m128 c = _mm_loadu_ps(&f[i + 2][k]), d = _mm_loadu_ps(&f[i + 3][k]);
        float *out = g->out + k * g->out_stride + i;
        _MM_TRANSPOSE4_PS(a, b, c, d);
        if (g->mode == OCT_ACCUMULATE) {
            a = _mm_add_ps(_mm_loadu_ps(out), a);
            b = _mm_add_ps(_mm_loadu_ps(out + g->out_stride), b);
            c = _mm_add_ps(_mm_loadu_ps(out + 2 * g->out_stride), c);
            d = _mm_add_ps(_mm_loadu_ps(out + 3 * g->out_stride), d);
        }
        _mm_storeu_ps(out, a);
        _mm_storeu_ps(out + g->out_stride, b);
        _mm_storeu_ps(out + 2 * g->out_stride, c);
        _mm_storeu_ps(out + 3 * g->out_stride, d);
    }
}

static void write_gradient(const struct oct_conv_gradient *g, const int64_t *total)
{
    float f[16][64];
    int k = 0;
    for (int i = 0; i < g->rows; i++) {
        for (int j = 0; j < g->columns; j++)
            f[i][j] = (float)total[(int64_t)i * g->columns + j] * g->multiplier[j];
    }
    for (; k + 4 <= g->valid && g->rows == 16; k += 4)
        write_columns(g, f, k, 16);
    for (; k < g->valid; k++) {
        for (int i = 0; i < g->rows; i++) {
            float *out = g->out + k * g->out_stride + i;
            *out = g->mode == OCT_ACCUMULATE ? *out + f[i][k] : f[i][k];
        }
    }
}

/* ---- operands ---- */

static void flip_copy(uint8_t *to, const int8_t *from, int64_t bytes, int flip)
{
    const uint8_t mask = (uint8_t)flip;
    for (int64_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)from[i] ^ mask;
}

/* 16 x 16 bytes are transposed by four rounds of interleaving the first half of the rows with the
 * second half. AVX512 does four such blocks side by side: lane l of row i is pixel 16 l + i. */
#ifdef __AVX512BW__
INLINE __m512i load_lanes(const int8_t *const from[64], int i, int c, __mmask16 mask)
{
    __m512i row = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(mask, from[i] + c));
    row = _mm512_inserti32x4(row, _mm_maskz_loadu_epi8(mask, from[i + 16] + c), 1);
    row = _mm512_inserti32x4(row, _mm_maskz_loadu_epi8(mask, from[i + 32] + c), 2);
    return _mm512_inserti32x4(row, _mm_maskz_loadu_epi8(mask, from[i + 48] + c), 3);
}

static void transpose64(
    uint8_t *to, int64_t pitch, const int8_t *const from[64], int channels, int flip)
{
    const __m512i xor = _mm512_set1_epi8((char)flip);
    for (int c = 0; c < channels; c += 16, to += 16 * pitch) {
        const int left = channels - c;
        const __mmask16 mask = (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffffu);
        __m512i row[16], next[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            row[i] = load_lanes(from, i, c, mask);
#pragma GCC unroll 4
        for (int round = 0; round < 4; round++) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                next[2 * i] = _mm512_unpacklo_epi8(row[i], row[i + 8]);
                next[2 * i + 1] = _mm512_unpackhi_epi8(row[i], row[i + 8]);
            }
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                row[i] = next[i];
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(to + i * pitch, _mm512_xor_si512(row[i], xor));
    }
}
#else
INLINE void transpose16(uint8_t *to, int64_t pitch, __m128i row[16], int flip)
{
    for (int round = 0; round < 4; round++) {
        __m128i next[16];
        for (int i = 0; i < 8; i++) {
            next[2 * i] = _mm_unpacklo_epi8(row[i], row[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(row[i], row[i + 8]);
        }
        for (int i = 0; i < 16; i++)
            row[i] = next[i];
    }
    for (int i = 0; i < 16; i++)
        _mm_storeu_si128(
            (__m128i *)(void *)(to + i * pitch), _mm_xor_si128(row[i], _mm_set1_epi8((char)flip)));
}

static void transpose64(
    uint8_t *to, int64_t pitch, const int8_t *const from[64], int channels, int flip)
{
    for (int c = 0; c < channels; c += 16, to += 16 * pitch) {
        const int count = channels - c < 16 ? channels - c : 16;
        for (int lane = 0; lane < 64; lane += 16) {
            __m128i row[16];
            for (int i = 0; i < 16; i++) {
                int8_t pixel[16] = {0};
                memcpy(pixel, from[lane + i] + c, (size_t)count);
                memcpy(&row[i], pixel, sizeof pixel);
            }
            transpose16(to + lane, pitch, row, flip);
        }
    }
}
#endif

static void interleave4(int8_t *to, const int8_t *const from[4], int columns, int columns_out)
{
    int j = 0;
    for (; j + 16 <= columns; j += 16) {
        __m128i row[4];
        for (int i = 0; i < 4; i++)
            row[i] = _mm_loadu_si128((const __m128i *)(const void *)(from[i] + j));
        __m128i ab = _mm_unpacklo_epi8(row[0], row[1]), AB = _mm_unpackhi_epi8(row[0], row[1]);
        __m128i cd = _mm_unpacklo_epi8(row[2], row[3]), CD = _mm_unpackhi_epi8(row[2], row[3]);
        __m128i *out = (__m128i *)(void *)(to + 4 * j);
        _mm_storeu_si128(out, _mm_unpacklo_epi16(ab, cd));
        _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab, cd));
        _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(AB, CD));
        _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(AB, CD));
    }
    for (; j < columns_out; j++) {
        for (int i = 0; i < 4; i++)
            to[4 * j + i] = j < columns ? from[i][j] : (int8_t)0;
    }
}

/* Outputs do not overlap: the compiler need not check. */
INLINE int quantise_plane(enum oct_grid grid, int8_t *restrict q, const float *restrict x,
    int64_t n, float inverse, int code_max)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int not_finite = oct_not_finite(x[i]);
        q[i] = (int8_t)oct_quantise_on(grid, not_finite ? 0.0f : x[i], inverse, code_max);
        bad |= not_finite;
    }
    return bad;
}

INLINE int quantise_planes(enum oct_grid grid, int8_t *restrict hi, int8_t *restrict lo,
    const float *restrict x, int64_t n, float inverse, int code_max)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int not_finite = oct_not_finite(x[i]);
        int q = oct_quantise_on(grid, not_finite ? 0.0f : x[i], inverse, code_max);
        bad |= not_finite;
        hi[i] = (int8_t)oct_plane_hi(q);
        lo[i] = (int8_t)oct_plane_lo(q);
    }
    return bad;
}

INLINE int quantise_on(enum oct_grid grid, int8_t *hi, int8_t *lo, const float *x, int64_t n,
    float inverse, int code_max)
{
    return lo ? quantise_planes(grid, hi, lo, x, n, inverse, code_max)
              : quantise_plane(grid, hi, x, n, inverse, code_max);
}

static int quantise(
    int8_t *hi, int8_t *lo, const float *x, int64_t n, float inverse, const struct oct_range *range)
{
    if (range->grid == OCT_GRID_UNIFORM)
        return quantise_on(OCT_GRID_UNIFORM, hi, lo, x, n, inverse, range->code_max);
    if (range->grid == OCT_GRID_FLAG)
        return quantise_on(OCT_GRID_FLAG, hi, lo, x, n, inverse, range->code_max);
    return quantise_on(OCT_GRID_MU8, hi, lo, x, n, inverse, range->code_max);
}

const struct oct_vec_conv JOIN(oct_vec_conv_, OCT_VEC) = {
    .finish32 = finish32,
    .finish64 = finish64,
    .stats32 = stats32,
    .stats64 = stats64,
    .add_plane = add_plane,
    .add_partial = add_partial,
    .write_gradient = write_gradient,
    .flip_copy = flip_copy,
    .transpose64 = transpose64,
    .interleave4 = interleave4,
    .quantise = quantise,
};
