/* The elementwise work around the products: what happens to a tile of accumulators, and how
 * operands are copied, transposed and quantised into the order of the tile kernels. The same source
 * compiled per ISA (vec_conv.c); equal bits. */
#ifndef OCT_VEC_CONV_H
#define OCT_VEC_CONV_H

#include "backend.h"

/* Integer statistics of one column block, int64[columns] each; the epilogue adds to them. */
struct oct_conv_stats_block {
    int64_t *sum, *sumsq, *min, *max;
    int shift;
    int sum_rows; /* rows whose accumulators can be added in int32 */
};

/* out[i][j] = round(fl(f32(acc[i][j]) * multiplier[j]) (+ bias[j])), or out (+)= that; or, s8,
 * oct_shift_code(acc[i][j] + shift_bias[j], right, lowest); with lo and hi
 * oct_bn_merged_code(fl(fl(f32(acc[i][j]) * multiplier[j]) + bias[j]), lo[j], hi[j]). */
struct oct_conv_epilogue {
    int rows, columns;       /* columns that exist, at most acc_stride */
    int acc_stride;          /* a multiple of 16 */
    const float *multiplier; /* [acc_stride] */
    const float *bias;       /* [acc_stride] or NULL */
    void *out;
    int64_t out_stride;   /* elements between rows */
    enum oct_dtype dtype; /* f32, bf16 or s8 */
    enum oct_write mode;
    const int32_t *lo, *hi;    /* [acc_stride] or both NULL */
    const int32_t *shift_bias; /* [acc_stride] */
    int right, lowest;
};

/* One of the integer sums that make up a weight gradient: rows of acc, from each of which `offset`
 * is taken (see tile.h, flip), times 2^shift. */
struct oct_conv_partial {
    const int32_t *acc;    /* [rows][columns], exact modulo 2^32 */
    const int32_t *offset; /* [columns] */
    int rows, columns, shift;
};

/* out[k * out_stride + i] (+)= fl(f32(total[i][k]) * multiplier[k]), k < valid. */
struct oct_conv_gradient {
    int rows, columns, valid;
    const float *multiplier; /* [columns] */
    float *out;
    int64_t out_stride;
    enum oct_write mode;
};

struct oct_vec_conv {
    void (*finish32)(const struct oct_conv_epilogue *, const int32_t *acc);
    void (*finish64)(const struct oct_conv_epilogue *, const int64_t *acc);
    void (*stats32)(const struct oct_conv_stats_block *, const int32_t *acc, int rows, int columns,
        int acc_stride);
    void (*stats64)(const struct oct_conv_stats_block *, const int64_t *acc, int rows, int columns,
        int acc_stride);
    /* total[i] (+)= acc[i] * 2^shift */
    void (*add_plane)(int64_t *total, const int32_t *acc, int64_t n, int shift, int first);
    /* total[rows][columns] = (clear ? 0 : total) + partial */
    void (*add_partial)(int64_t *total, const struct oct_conv_partial *, int clear);
    /* rows is at most 16 */
    void (*write_gradient)(const struct oct_conv_gradient *, const int64_t *total);
    /* to[i] = from[i] ^ flip */
    void (*flip_copy)(uint8_t *to, const int8_t *from, int64_t bytes, int flip);
    /* to[c * pitch + i] = from[i][c] ^ flip for 64 pixels, c < channels; whole groups of 16 rows
     * of `to` are written. */
    void (*transpose64)(
        uint8_t *to, int64_t pitch, const int8_t *const from[64], int channels, int flip);
    /* to[j * 4 + i] = from[i][j] for 4 rows, j < columns; zero from there to columns_out, a
     * multiple of 16. */
    void (*interleave4)(int8_t *to, const int8_t *const from[4], int columns, int columns_out);
    /* hi[i] (and lo[i] unless NULL) = codes of x[i]; not finite: code 0, returns 1 */
    int (*quantise)(int8_t *hi, int8_t *lo, const float *x, int64_t n, float inverse,
        const struct oct_range *range);
};

extern const struct oct_vec_conv oct_vec_conv_base, oct_vec_conv_avx512;

#endif
