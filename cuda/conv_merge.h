/* A normalisation with clipped channels that a forward product does along (base/bn.h). */
#ifndef OCT_CUDA_CONV_MERGE_H
#define OCT_CUDA_CONV_MERGE_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Its coefficients, of four columns: what one thread of an epilogue has. */
enum { OCT_MERGED_COLUMNS = 4 };
struct oct_cuda_merged {
    float scale[OCT_MERGED_COLUMNS], offset[OCT_MERGED_COLUMNS];
    int8_t lo[OCT_MERGED_COLUMNS], hi[OCT_MERGED_COLUMNS], unused[8];
};

size_t oct_cuda_merge_bytes(int columns);
/* Fills `to`, oct_cuda_merge_bytes of the product's columns. */
enum oct_status oct_cuda_merge(
    const struct oct_cuda *, const struct oct_conv_fprop_args *, struct oct_cuda_merged *to);

#ifdef __cplusplus
}
#endif
#endif
