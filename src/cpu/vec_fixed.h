/* The entries of vec_fixed.c for the table in vec_ops.c; see vec_ops.h. */
#ifndef OCT_VEC_FIXED_H
#define OCT_VEC_FIXED_H

#include "cpu/vec_inline.h"
#include "cpu/vec_ops.h"

oct_pool_work OCT_VEC_NAME(oct_vec_fixed_amax), OCT_VEC_NAME(oct_vec_sgd_fixed);

#endif
