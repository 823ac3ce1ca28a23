/* From accumulators to the output of a sweep: the tile goes through shared memory in pieces, so
 * that every thread keeps its columns (scale, bias, statistics) and global accesses are whole
 * rows. */
#ifndef OCT_CONV_EPILOGUE_CUH
#define OCT_CONV_EPILOGUE_CUH

#include "backend.h"
#include "conv_merge.h"
#include "conv_tile.cuh"

#include "base/shift.h"

#include <limits.h>

struct oct_epilogue {
    void *out;
    const float *x_scale, *w_scale, *bias; /* bias may be NULL */
    struct oct_acc_stats stats;            /* sum NULL: none wanted */
    enum oct_dtype dtype;
    enum oct_write mode;
    const struct oct_cuda_merged *merged; /* dtype s8, or NULL */
    struct oct_shift shift;               /* dtype s8 without merged */
    int lowest;
    int w_scale_per_k;
    int rows, columns;    /* of the whole product */
    int grid_h, grid_w;   /* row = (image grid_h + i) grid_w + j */
    int every;            /* rows are the output's pixels in their order */
    int first_h, first_w; /* else pixel (image, first_h + i step_h, first_w + j step_w) */
    int step_h, step_w, out_h, out_w;
};

/* A piece holds one m16 fragment of every warp, or half of one where sums are int64. */
template <class T, class Sum> struct oct_piece {
    enum {
        HALVES = sizeof(Sum) / 4,
        WARP_ROWS = 16 / HALVES,
        ROWS = T::WARPS_M * WARP_ROWS,
        PITCH = T::COLUMNS + 8, /* eight lanes of a fragment column meet different banks */
        BYTES = ROWS * PITCH * (int)sizeof(Sum)
    };
};

/* Of a thread's four columns. */
template <class Sum> struct oct_column_stats {
    int64_t sum[4], sumsq[4];
    Sum min[4], max[4];
};

/* floor(a / 2^h + 1/2) in 32 bits: the inner floor is exact, and its sum with 1 stays in range
 * because |a| <= 127^2 OCT_ACC_MAX_K < 2^31 - 1. */
static __device__ __forceinline__ int64_t oct_rounded(int32_t a, int h)
{
    const int up = h > 0;
    return ((a >> (h - up)) + up) >> up;
}

static __device__ __forceinline__ int64_t oct_rounded(int64_t a, int h)
{
    return oct_rshift_round(a, h);
}

template <class Sum>
static __device__ __forceinline__ void oct_start_stats(oct_column_stats<Sum> *s)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        s->sum[i] = s->sumsq[i] = 0;
        s->min[i] = sizeof(Sum) == 8 ? (Sum)INT64_MAX : (Sum)INT_MAX;
        s->max[i] = sizeof(Sum) == 8 ? (Sum)INT64_MIN : (Sum)INT_MIN;
    }
}

template <class Sum>
static __device__ __forceinline__ void oct_count(
    oct_column_stats<Sum> *s, const Sum v[4], int shift)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int64_t t = oct_rounded(v[i], shift);
        s->sum[i] += v[i];
        s->sumsq[i] += t * t;
        s->min[i] = v[i] < s->min[i] ? v[i] : s->min[i];
        s->max[i] = v[i] > s->max[i] ? v[i] : s->max[i];
    }
}

/* oct_real_of_acc: an int32 converts the same from 32 bits. */
static __device__ __forceinline__ float oct_real_of_sum(int32_t sum, float multiplier)
{
    return (float)sum * multiplier;
}

static __device__ __forceinline__ float oct_real_of_sum(int64_t sum, float multiplier)
{
    return oct_real_of_acc(sum, multiplier);
}

static __device__ __forceinline__ int64_t oct_output_pixel(const oct_epilogue &e, int row)
{
    if (e.every)
        return row;
    const int line = row / e.grid_w, image = line / e.grid_h;
    const int h = e.first_h + (line - image * e.grid_h) * e.step_h;
    const int w = e.first_w + (row - line * e.grid_w) * e.step_w;
    return ((int64_t)image * e.out_h + h) * e.out_w + w;
}

/* What a thread needs for its four neighbouring columns. */
struct oct_four_columns {
    int first;
    float multiplier[4]; /* of codes: integer biases */
};

static __device__ __forceinline__ oct_four_columns oct_load_shift_columns(
    const oct_epilogue &e, int first)
{
    oct_four_columns c;
    c.first = first;
#pragma unroll
    for (int i = 0; i < 4; i++)
        c.multiplier[i] = __int_as_float(first + i < e.columns ? e.shift.bias[first + i] : 0);
    return c;
}

static __device__ __forceinline__ oct_four_columns oct_load_merged_columns(
    const oct_epilogue &e, int first)
{
    oct_four_columns c;
    c.first = first;
#pragma unroll
    for (int i = 0; i < 4; i++)
        c.multiplier[i] = first < e.columns ? e.merged[first / OCT_MERGED_COLUMNS].scale[i] : 0.0f;
    return c;
}

static __device__ __forceinline__ oct_four_columns oct_load_columns(
    const oct_epilogue &e, int first)
{
    if (e.dtype == OCT_S8)
        return e.merged ? oct_load_merged_columns(e, first) : oct_load_shift_columns(e, first);
    oct_four_columns c;
    const float x_scale = e.x_scale[0];
    c.first = first;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool exists = first + i < e.columns;
        c.multiplier[i] = exists ? x_scale * e.w_scale[e.w_scale_per_k ? first + i : 0] : 0.0f;
    }
    return c;
}

/* Four neighbouring bf16 with v added to each. */
static __device__ __forceinline__ void oct_add_bf16(float v[4], const uint2 *old)
{
    const uint2 four = *old;
    const uint32_t bits[4] = {
        four.x << 16, four.x & 0xffff0000u, four.y << 16, four.y & 0xffff0000u};
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = oct_f32_of_bits(bits[i]) + v[i];
}

static __device__ __forceinline__ void oct_write_bf16(
    const oct_epilogue &e, uint16_t *out, float v[4], int exist)
{
    const bool add = e.mode == OCT_ACCUMULATE;
    if (e.columns % 4 == 0) {
        if (add)
            oct_add_bf16(v, (const uint2 *)out);
        *(uint2 *)out = make_uint2(oct_bf16_pair(v[0], v[1]), oct_bf16_pair(v[2], v[3]));
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < exist)
            out[i] = oct_bf16_from_f32(add ? oct_f32_from_bf16(out[i]) + v[i] : v[i]);
    }
}

static __device__ __forceinline__ void oct_write_f32(
    const oct_epilogue &e, float *out, const float v[4], int exist)
{
    const bool add = e.mode == OCT_ACCUMULATE;
    if (e.columns % 4 == 0) {
        const float4 old = add ? *(const float4 *)out : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        *(float4 *)out = add ? make_float4(old.x + v[0], old.y + v[1], old.z + v[2], old.w + v[3])
                             : make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (i < exist)
            out[i] = add ? out[i] + v[i] : v[i];
    }
}

static __device__ __forceinline__ int oct_epilogue_code(int32_t sum, int right, int lowest)
{
    return oct_shift_code(sum, right, lowest);
}

static __device__ __forceinline__ int oct_epilogue_code(int64_t sum, int right, int lowest)
{
    return oct_shift_code64(sum, right, lowest);
}

/* Four codes, a byte each. */
static __device__ __forceinline__ void oct_store_codes(
    const oct_epilogue &e, int first, int64_t at, uint32_t word)
{
    int8_t *out = (int8_t *)e.out + at;
    if (e.columns % 4 == 0) {
        *(uint32_t *)out = word;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (first + i < e.columns)
            out[i] = (int8_t)(word >> 8 * i);
    }
}

/* Integers all the way. */
template <class Sum>
static __device__ __forceinline__ void oct_write_shifted(
    const oct_epilogue &e, const oct_four_columns &c, int64_t at, const Sum *sums)
{
    const int right = e.shift.by[OCT_SHIFT_RIGHT];
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int code =
            oct_epilogue_code(sums[i] + __float_as_int(c.multiplier[i]), right, e.lowest);
        word |= (uint32_t)(code & 0xff) << 8 * i;
    }
    oct_store_codes(e, c.first, at, word);
}

/* Clipped channels. */
template <class Sum>
static __device__ __forceinline__ void oct_write_merged(
    const oct_epilogue &e, const oct_four_columns &c, int64_t at, const Sum *sums)
{
    const oct_cuda_merged *const merged = e.merged + c.first / OCT_MERGED_COLUMNS;
    const uint32_t lo = *(const uint32_t *)merged->lo, hi = *(const uint32_t *)merged->hi;
    uint32_t word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float v = oct_real_of_sum(sums[i], c.multiplier[i]) + merged->offset[i];
        const int code = oct_bn_merged_code(v, (int8_t)(lo >> 8 * i), (int8_t)(hi >> 8 * i));
        word |= (uint32_t)(code & 0xff) << 8 * i;
    }
    oct_store_codes(e, c.first, at, word);
}

/* Four sums of one row to the output. */
template <class Sum>
static __device__ __forceinline__ void oct_write_four(
    const oct_epilogue &e, const oct_four_columns &c, int row, const Sum *sums)
{
    const int64_t at = oct_output_pixel(e, row) * e.columns + c.first;
    if (e.dtype == OCT_S8) {
        if (e.merged)
            oct_write_merged(e, c, at, sums);
        else
            oct_write_shifted(e, c, at, sums);
        return;
    }
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = oct_real_of_sum(sums[i], c.multiplier[i]);
        if (e.bias && c.first + i < e.columns)
            v[i] = v[i] + e.bias[c.first + i];
    }
    if (e.dtype == OCT_BF16)
        oct_write_bf16(e, (uint16_t *)e.out + at, v, e.columns - c.first);
    else
        oct_write_f32(e, (float *)e.out + at, v, e.columns - c.first);
}

/* The output as training has it nearly always: bf16 in whole fours, row after row, no bias. */
struct oct_plain_rows {
    char *out;
    uint32_t row_bytes;
    int left; /* rows from `out` on; 0 where the columns do not exist */
    bool add;
};

static __device__ __forceinline__ bool oct_is_plain(const oct_epilogue &e)
{
    return e.dtype == OCT_BF16 && e.every && e.columns % 4 == 0 && !e.bias;
}

static __device__ __forceinline__ oct_plain_rows oct_plain_rows_of(
    const oct_epilogue &e, int first, int row)
{
    oct_plain_rows p;
    p.row_bytes = 2 * (uint32_t)e.columns;
    p.out = (char *)e.out + ((int64_t)row * e.columns + first) * 2;
    p.left = first < e.columns ? e.rows - row : 0;
    p.add = e.mode == OCT_ACCUMULATE;
    return p;
}

template <class Sum>
static __device__ __forceinline__ void oct_write_plain(
    const oct_plain_rows &p, const oct_four_columns &c, int row, const Sum *sums)
{
    uint2 *const to = (uint2 *)(p.out + (uint64_t)(uint32_t)row * p.row_bytes);
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = oct_real_of_sum(sums[i], c.multiplier[i]);
    if (p.add)
        oct_add_bf16(v, to);
    *to = make_uint2(oct_bf16_pair(v[0], v[1]), oct_bf16_pair(v[2], v[3]));
}

static __device__ __forceinline__ void oct_store_two(int32_t *to, int32_t a, int32_t b)
{
    *(int2 *)to = make_int2(a, b);
}

static __device__ __forceinline__ void oct_store_two(int64_t *to, int64_t a, int64_t b)
{
    *(longlong2 *)to = make_longlong2(a, b);
}

static __device__ __forceinline__ void oct_load_four(int32_t v[4], const int32_t *from)
{
    const int4 four = *(const int4 *)from;
    v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
}

static __device__ __forceinline__ void oct_load_four(int64_t v[4], const int64_t *from)
{
    const longlong2 low = *(const longlong2 *)from, high = *(const longlong2 *)(from + 2);
    v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
}

/* Row of the tile, beyond that of the fragment, that row r of a piece is. A multiple of a pass adds
 * to a smaller r by itself: warp rows divide a pass or are divided by it. */
template <class T, class Sum> static __device__ __forceinline__ int oct_tile_row(int r)
{
    typedef oct_piece<T, Sum> Piece;
    return r / Piece::WARP_ROWS * T::WARP_ROWS + r % Piece::WARP_ROWS;
}

/* Fragments i of all warps to shared memory. */
template <class T, class Sum>
static __device__ __forceinline__ void oct_put_piece(Sum *piece, const Sum (*sums)[4], int half)
{
    typedef oct_piece<T, Sum> Piece;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = warp % T::WARPS_M * Piece::WARP_ROWS + (lane >> 2);
    const int column = warp / T::WARPS_M * T::WARP_COLUMNS + (lane & 3) * 2;
#pragma unroll
    for (int h = half; h < half + 3 - Piece::HALVES; h++) {
        Sum *to = piece + (row + (h - half) * 8) * Piece::PITCH + column;
#pragma unroll
        for (int j = 0; j < T::NJ; j++) {
            oct_store_two(to + j * 8, sums[j][2 * h], sums[j][2 * h + 1]);
        }
    }
}

/* Sum, minimum or maximum over threads: 4 values of each, of its four columns, become 1 of column
 * t % COLUMNS. Thread t writes words 4 t .. 4 t + 3, that is row t / FOURS of a table as wide as
 * the tile; words t, t + 256 .. lie in one column of it. */
template <class Merge>
static __device__ __forceinline__ int64_t oct_gather(
    const int64_t mine[4], int64_t *shared, const Merge &merge)
{
    const int t = threadIdx.x;
    __syncthreads();
    *(longlong2 *)(shared + 4 * t) = make_longlong2(mine[0], mine[1]);
    *(longlong2 *)(shared + 4 * t + 2) = make_longlong2(mine[2], mine[3]);
    __syncthreads();
    int64_t all = shared[t];
#pragma unroll
    for (int i = 1; i < 4; i++)
        all = merge(all, shared[i * OCT_THREADS + t]);
    return all;
}

/* Adds the partial statistics of the threads that share a column, then to the tensor's. */
template <class T, class Sum>
static __device__ __forceinline__ void oct_add_stats(
    const oct_epilogue &e, int first_column, const oct_column_stats<Sum> &mine, int64_t *shared)
{
    const auto add = [](int64_t a, int64_t b) { return a + b; };
    const auto least = [](int64_t a, int64_t b) { return a < b ? a : b; };
    const auto most = [](int64_t a, int64_t b) { return a > b ? a : b; };
    const int64_t min[4] = {mine.min[0], mine.min[1], mine.min[2], mine.min[3]};
    const int64_t max[4] = {mine.max[0], mine.max[1], mine.max[2], mine.max[3]};
    const int t = threadIdx.x;
    int64_t all[4] = {oct_gather(mine.sum, shared, add), oct_gather(mine.sumsq, shared, add),
        oct_gather(min, shared, least), oct_gather(max, shared, most)};
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++)
        shared[i * OCT_THREADS + t] = all[i];
    __syncthreads();
    if (t >= T::COLUMNS || first_column + t >= e.columns)
        return;
#pragma unroll
    for (int u = t + T::COLUMNS; u < OCT_THREADS; u += T::COLUMNS) {
        all[0] += shared[u];
        all[1] += shared[OCT_THREADS + u];
        all[2] = least(all[2], shared[2 * OCT_THREADS + u]);
        all[3] = most(all[3], shared[3 * OCT_THREADS + u]);
    }
    const int k = first_column + t;
    atomicAdd((unsigned long long *)e.stats.sum + k, (unsigned long long)all[0]);
    atomicAdd((unsigned long long *)e.stats.sumsq + k, (unsigned long long)all[1]);
    atomicMin((long long *)e.stats.min + k, (long long)all[2]);
    atomicMax((long long *)e.stats.max + k, (long long)all[3]);
}

/* The whole tile whose first accumulator is (first_row, first_column). The caller has ended all
 * other use of `shared`. A thread has the same four columns of every piece, in every PASS-th row:
 * statistics and output take one read of shared memory. */
template <class T, class Sum>
static __device__ __forceinline__ void oct_finish_tile(const oct_epilogue &e, int first_row,
    int first_column, const Sum (*sums)[T::NJ][4], void *shared)
{
    typedef oct_piece<T, Sum> Piece;
    enum { FOURS = T::COLUMNS / 4, PASS = OCT_THREADS / FOURS, PASSES = Piece::ROWS / PASS };
    static_assert(Piece::ROWS % PASS == 0, "every thread has as many rows of a piece");
    Sum *piece = (Sum *)shared;
    const int t = threadIdx.x, r = t / FOURS, four = t % FOURS * 4;
    const oct_four_columns c = oct_load_columns(e, first_column + four);
    const int row = first_row + oct_tile_row<T, Sum>(r);
    const bool plain = oct_is_plain(e), count = e.stats.sum != NULL;
    const oct_plain_rows rows = oct_plain_rows_of(e, c.first, row);
    oct_column_stats<Sum> stats;
    oct_start_stats(&stats);
#pragma unroll
    for (int i = 0; i < T::MI; i++) {
#pragma unroll
        for (int half = 0; half < Piece::HALVES; half++) {
            const Sum *const from = piece + r * Piece::PITCH + four;
            __syncthreads();
            oct_put_piece<T, Sum>(piece, sums[i], half);
            __syncthreads();
#pragma unroll
            for (int pass = 0; plain && pass < PASSES; pass++) {
                const int at = i * 16 + half * 8 + oct_tile_row<T, Sum>(pass * PASS);
                Sum v[4];
                if (at >= rows.left)
                    continue;
                oct_load_four(v, from + pass * PASS * Piece::PITCH);
                if (count)
                    oct_count(&stats, v, e.stats.shift);
                oct_write_plain(rows, c, at, v);
            }
#pragma unroll 1
            for (int pass = 0; !plain && pass < PASSES; pass++) {
                const int at = i * 16 + half * 8 + oct_tile_row<T, Sum>(pass * PASS);
                Sum v[4];
                if (at >= rows.left)
                    continue;
                oct_load_four(v, from + pass * PASS * Piece::PITCH);
                if (count)
                    oct_count(&stats, v, e.stats.shift);
                oct_write_four(e, c, row + at, v);
            }
        }
    }
    if (e.stats.sum)
        oct_add_stats<T, Sum>(e, first_column, stats, (int64_t *)shared);
}

#endif
