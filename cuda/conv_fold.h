/* The copy that a product of few input channels reads instead (base/gpu_cut.h). */
#ifndef OCT_CUDA_CONV_FOLD_H
#define OCT_CUDA_CONV_FOLD_H

#include "base/gpu_cut.h"
#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills `to`, oct_gpu_fold_bytes of x's planes; *folded is x with the copy's planes. */
enum oct_status oct_cuda_fold(const struct oct_cuda *, const struct oct_conv_shape *,
    const struct oct_operand *x, void *to, struct oct_operand *folded);

#ifdef __cplusplus
}
#endif
#endif
