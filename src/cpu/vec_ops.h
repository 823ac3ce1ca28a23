/* Inner loops of the elementwise ops. Each entry is the work of one pool item and takes the op's
 * argument struct (or the job named below) as `arg`. The sources vec_*.c are compiled once per
 * instruction set, named by OCT_VEC; the float contract makes the bits equal. */
#ifndef OCT_VEC_OPS_H
#define OCT_VEC_OPS_H

#include "cpu/cpu.h"

enum {
    OCT_VEC_CHUNK = 65536,    /* elements per item of sgd and ema */
    OCT_VEC_QUANTISE = 32768, /* elements per item of quantise, whole rows */
    OCT_VEC_CHANNELS = 64,    /* channels per item of a merge */
    OCT_VEC_IMAGE = 4096,     /* pixels per item of image */
    OCT_VEC_PLACES = 256,     /* elements of a sample per item of compensate, all samples */
    OCT_STATS_WORDS = 5       /* f32 per channel and chunk in a workspace */
};

/* Rows per item of quantise. */
static inline int64_t oct_vec_quantise_rows(int channels)
{
    return channels < OCT_VEC_QUANTISE ? OCT_VEC_QUANTISE / channels : 1;
}

static inline int64_t oct_vec_items(int64_t count, int64_t per_item)
{
    return (count + per_item - 1) / per_item;
}

/* cosine_search with a usable amax; sums are clear. */
struct oct_search_job {
    const struct oct_cosine_search_args *args;
    float amax;
};

/* act_shift; largest starts at 0. */
struct oct_shift_job {
    const struct oct_act_shift_args *args;
    int32_t largest; /* magnitude of a sum */
};

struct oct_vec_ops {
    /* Items: chunks of OCT_REDUCE_PIXELS rows, results in the workspace; then the merges, items:
     * blocks of OCT_VEC_CHANNELS channels. arg: oct_channel_stats_args, oct_channel_sum_args,
     * oct_count_above_args. */
    oct_pool_work *stats_chunk, *stats_merge;
    oct_pool_work *sum_chunk, *sum_merge;
    oct_pool_work *count_chunk, *count_merge;
    oct_pool_work *search;      /* items: OCT_VEC_CHUNK elements; arg: oct_search_job */
    oct_pool_work *quantise;    /* items: oct_vec_quantise_rows rows */
    oct_pool_work *regrid;      /* items: OCT_VEC_CHUNK elements */
    oct_pool_work *barrier_bwd; /* items: OCT_VEC_CHUNK elements */
    oct_pool_work *compensate, *compensate_bwd; /* items: OCT_VEC_PLACES elements of a sample */
    oct_pool_work *pool;                        /* items: output rows n * P + p */
    oct_pool_work *pool_bwd;                    /* items: input rows n * H + h */
    oct_pool_work *image;                       /* items: OCT_VEC_IMAGE pixels */
    oct_pool_work *loss;                        /* items: samples */
    oct_pool_work *sgd; /* items: OCT_VEC_CHUNK elements; amax[0] starts at 0 */
    oct_pool_work *ema; /* items: OCT_VEC_CHUNK elements */
    /* items: OCT_VEC_CHUNK elements; gradient_amax[0] starts at 0, then amax[0] */
    oct_pool_work *fixed_amax, *sgd_fixed;
    /* items: OCT_VEC_QUANTISE elements; arg: oct_shift_job */
    oct_pool_work *act_shift;
};

extern const struct oct_vec_ops oct_vec_ops_base, oct_vec_ops_avx512;

#endif
