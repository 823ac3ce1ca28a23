/* The entries of vec_reduce.c and vec_pool.c for the table in vec_ops.c; see vec_ops.h. */
#ifndef OCT_VEC_REDUCE_H
#define OCT_VEC_REDUCE_H

#include "cpu/vec_inline.h"
#include "cpu/vec_ops.h"

oct_pool_work OCT_VEC_NAME(oct_vec_stats_chunk), OCT_VEC_NAME(oct_vec_stats_merge);
oct_pool_work OCT_VEC_NAME(oct_vec_sum_chunk), OCT_VEC_NAME(oct_vec_sum_merge);
oct_pool_work OCT_VEC_NAME(oct_vec_count_chunk), OCT_VEC_NAME(oct_vec_count_merge);
oct_pool_work OCT_VEC_NAME(oct_vec_pool), OCT_VEC_NAME(oct_vec_pool_bwd);
oct_pool_work OCT_VEC_NAME(oct_vec_act_shift);

#endif
