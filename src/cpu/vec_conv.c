#include "cpu/vec_conv.h"

#include <immintrin.h>

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

INLINE void finish(const struct oct_conv_epilogue *e, const void *acc, int wide)
{
    if (e->bias)
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

static void finish32(const struct oct_conv_epilogue *e, const int32_t *acc)
{
    finish(e, acc, 0);
}

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

static void add_partial(int64_t *total, const struct oct_conv_partial *p, int rows, int columns)
{
    const int64_t factor = (int64_t)1 << p->shift;
    for (int i = 0; i < rows; i++) {
        const int32_t *acc = p->acc + (int64_t)i * columns;
        for (int k = 0; k < columns; k++)
            total[i * columns + k] += (int32_t)((uint32_t)acc[k] - (uint32_t)p->offset[k]) * factor;
    }
}

/* ---- operands ---- */

static void flip_copy(uint8_t *to, const int8_t *from, int64_t bytes, int flip)
{
    const uint8_t mask = (uint8_t)flip;
    for (int64_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)from[i] ^ mask;
}

/* 16 pixels x 16 channels: four rounds of interleaving the first half of the rows with the second
 * half transpose a 16 x 16 matrix of bytes. */
INLINE void transpose_block(uint8_t *to, int64_t pitch, __m128i row[16], __m128i mask)
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
        _mm_storeu_si128((__m128i *)(void *)(to + i * pitch), _mm_xor_si128(row[i], mask));
}

static void transpose16(
    uint8_t *to, int64_t pitch, const int8_t *const from[16], int channels, int flip)
{
    const __m128i mask = _mm_set1_epi8((char)flip);
    __m128i row[16];
    int c = 0;
    for (; c + 16 <= channels; c += 16) {
        for (int i = 0; i < 16; i++)
            row[i] = _mm_loadu_si128((const __m128i *)(const void *)(from[i] + c));
        transpose_block(to + c * pitch, pitch, row, mask);
    }
    if (c < channels) {
        for (int i = 0; i < 16; i++) {
            row[i] = _mm_setzero_si128();
            for (int j = c; j < channels; j++)
                ((char *)&row[i])[j - c] = from[i][j];
        }
        transpose_block(to + c * pitch, pitch, row, mask);
    }
}

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

static int quantise(int8_t *hi, int8_t *lo, const float *x, int64_t n, float inverse, int code_max)
{
    int bad = 0;
    for (int64_t i = 0; i < n; i++) {
        int not_finite = oct_not_finite(x[i]);
        int q = oct_quantise(not_finite ? 0.0f : x[i], inverse, code_max);
        bad |= not_finite;
        hi[i] = (int8_t)(lo ? oct_plane_hi(q) : q);
        if (lo)
            lo[i] = (int8_t)oct_plane_lo(q);
    }
    return bad;
}

const struct oct_vec_conv JOIN(oct_vec_conv_, OCT_VEC) = {
    .finish32 = finish32,
    .finish64 = finish64,
    .stats32 = stats32,
    .stats64 = stats64,
    .add_plane = add_plane,
    .add_partial = add_partial,
    .flip_copy = flip_copy,
    .transpose16 = transpose16,
    .interleave4 = interleave4,
    .quantise = quantise,
};
