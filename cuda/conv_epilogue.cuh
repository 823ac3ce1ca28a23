/* From accumulators to the output of a sweep: the tile goes through shared memory in pieces, so
 * that every thread keeps its columns (scale, bias, statistics) and global accesses are whole
 * rows. */
#ifndef OCT_CONV_EPILOGUE_CUH
#define OCT_CONV_EPILOGUE_CUH

#include "backend.h"
#include "conv_tile.cuh"

#include <limits.h>

struct oct_epilogue {
    void *out;
    const float *x_scale, *w_scale, *bias; /* bias may be NULL */
    struct oct_acc_stats stats;            /* sum NULL: none wanted */
    enum oct_dtype dtype;
    enum oct_write mode;
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

template <class Sum> struct oct_column_stats {
    int64_t sum, sumsq;
    Sum min, max;
};

/* floor(a / 2^h + 1/2) in 32 bits: the inner floor is exact, and its sum with 1 stays in range
 * because |a| <= 127^2 OCT_ACC_MAX_K < 2^31 - 1. */
static __device__ __forceinline__ int64_t oct_rounded(int32_t a, int h)
{
    return h > 0 ? ((a >> (h - 1)) + 1) >> 1 : a;
}

static __device__ __forceinline__ int64_t oct_rounded(int64_t a, int h)
{
    return oct_rshift_round(a, h);
}

template <class Sum>
static __device__ __forceinline__ void oct_count(oct_column_stats<Sum> *s, Sum v, int shift)
{
    const int64_t t = oct_rounded(v, shift);
    s->sum += v;
    s->sumsq += t * t;
    s->min = v < s->min ? v : s->min;
    s->max = v > s->max ? v : s->max;
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
    float multiplier[4], bias[4];
};

static __device__ __forceinline__ oct_four_columns oct_load_columns(
    const oct_epilogue &e, int first)
{
    oct_four_columns c;
    const float x_scale = e.x_scale[0];
    c.first = first;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const bool exists = first + i < e.columns;
        c.multiplier[i] = exists ? x_scale * e.w_scale[e.w_scale_per_k ? first + i : 0] : 0.0f;
        c.bias[i] = exists && e.bias ? e.bias[first + i] : 0.0f;
    }
    return c;
}

static __device__ __forceinline__ void oct_write_bf16(
    const oct_epilogue &e, uint16_t *out, const float v[4], int exist)
{
    const bool vector = e.columns % 4 == 0, add = e.mode == OCT_ACCUMULATE;
    uint16_t r[4] = {0, 0, 0, 0};
    if (vector) {
        const uint2 old = add ? *(const uint2 *)out : make_uint2(0, 0);
        r[0] = (uint16_t)old.x, r[1] = (uint16_t)(old.x >> 16);
        r[2] = (uint16_t)old.y, r[3] = (uint16_t)(old.y >> 16);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (!vector && add && i < exist)
            r[i] = out[i];
        r[i] = oct_bf16_from_f32(add ? oct_f32_from_bf16(r[i]) + v[i] : v[i]);
        if (!vector && i < exist)
            out[i] = r[i];
    }
    if (vector)
        *(uint2 *)out = make_uint2(r[0] | (uint32_t)r[1] << 16, r[2] | (uint32_t)r[3] << 16);
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

/* Four sums of one row to the output. */
template <class Sum>
static __device__ __forceinline__ void oct_write_four(
    const oct_epilogue &e, const oct_four_columns &c, int row, const Sum *sums)
{
    const int64_t at = oct_output_pixel(e, row) * e.columns + c.first;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = oct_real_of_acc(sums[i], c.multiplier[i]);
        if (e.bias)
            v[i] = v[i] + c.bias[i];
    }
    if (e.dtype == OCT_BF16)
        oct_write_bf16(e, (uint16_t *)e.out + at, v, e.columns - c.first);
    else
        oct_write_f32(e, (float *)e.out + at, v, e.columns - c.first);
}

/* Row of the tile that row `r` of piece (i, half) is. */
template <class T, class Sum>
static __device__ __forceinline__ int oct_tile_row(int r, int i, int half)
{
    typedef oct_piece<T, Sum> Piece;
    return r / Piece::WARP_ROWS * T::WARP_ROWS + i * 16 + half * 8 + r % Piece::WARP_ROWS;
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
            to[j * 8] = sums[j][2 * h];
            to[j * 8 + 1] = sums[j][2 * h + 1];
        }
    }
}

/* Adds the partial statistics of the threads that share a column, then to the tensor's. */
template <class T, class Sum>
static __device__ __forceinline__ void oct_add_stats(
    const oct_epilogue &e, int first_column, const oct_column_stats<Sum> &mine, int64_t *shared)
{
    const int t = threadIdx.x;
    __syncthreads();
    shared[t] = mine.sum;
    shared[OCT_THREADS + t] = mine.sumsq;
    shared[2 * OCT_THREADS + t] = mine.min;
    shared[3 * OCT_THREADS + t] = mine.max;
    __syncthreads();
    if (t >= T::COLUMNS || first_column + t >= e.columns)
        return;
    oct_column_stats<int64_t> all = {mine.sum, mine.sumsq, mine.min, mine.max};
#pragma unroll
    for (int u = t + T::COLUMNS; u < OCT_THREADS; u += T::COLUMNS) {
        const int64_t min = shared[2 * OCT_THREADS + u], max = shared[3 * OCT_THREADS + u];
        all.sum += shared[u];
        all.sumsq += shared[OCT_THREADS + u];
        all.min = min < all.min ? min : all.min;
        all.max = max > all.max ? max : all.max;
    }
    const int k = first_column + t;
    atomicAdd((unsigned long long *)e.stats.sum + k, (unsigned long long)all.sum);
    atomicAdd((unsigned long long *)e.stats.sumsq + k, (unsigned long long)all.sumsq);
    atomicMin((long long *)e.stats.min + k, (long long)all.min);
    atomicMax((long long *)e.stats.max + k, (long long)all.max);
}

/* The whole tile whose first accumulator is (first_row, first_column). The caller has ended all
 * other use of `shared`. */
template <class T, class Sum>
static __device__ __forceinline__ void oct_finish_tile(const oct_epilogue &e, int first_row,
    int first_column, const Sum (*sums)[T::NJ][4], void *shared)
{
    typedef oct_piece<T, Sum> Piece;
    enum { FOURS = T::COLUMNS / 4 };
    Sum *piece = (Sum *)shared;
    const int t = threadIdx.x, column = t % T::COLUMNS, four = t % FOURS * 4;
    const oct_four_columns c = oct_load_columns(e, first_column + four);
    oct_column_stats<Sum> stats = {0, 0, sizeof(Sum) == 8 ? (Sum)INT64_MAX : (Sum)INT_MAX,
        sizeof(Sum) == 8 ? (Sum)INT64_MIN : (Sum)INT_MIN};
#pragma unroll
    for (int i = 0; i < T::MI; i++) {
#pragma unroll
        for (int half = 0; half < Piece::HALVES; half++) {
            __syncthreads();
            oct_put_piece<T, Sum>(piece, sums[i], half);
            __syncthreads();
            if (e.stats.sum) {
                for (int r = t / T::COLUMNS; r < Piece::ROWS; r += OCT_THREADS / T::COLUMNS) {
                    if (first_row + oct_tile_row<T, Sum>(r, i, half) < e.rows)
                        oct_count(&stats, piece[r * Piece::PITCH + column], e.stats.shift);
                }
            }
            for (int r = t / FOURS; r < Piece::ROWS; r += OCT_THREADS / FOURS) {
                const int row = first_row + oct_tile_row<T, Sum>(r, i, half);
                if (row < e.rows && c.first < e.columns)
                    oct_write_four(e, c, row, piece + r * Piece::PITCH + four);
            }
        }
    }
    if (e.stats.sum)
        oct_add_stats<T, Sum>(e, first_column, stats, (int64_t *)shared);
}

#endif
