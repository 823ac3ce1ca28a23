/* What the weight gradient's check asks of its kernels. */
#ifndef OCT_CUDA_CONV_WGRAD_H
#define OCT_CUDA_CONV_WGRAD_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

size_t oct_cuda_wgrad_workspace(const struct oct_cuda *, const struct oct_conv_wgrad_args *);

#ifdef __cplusplus
}
#endif
#endif
