/* What the entries refuse before they launch, each with one line that says what to do. */
#ifndef OCT_CUDA_CHECK_H
#define OCT_CUDA_CHECK_H

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Channels of a pass that keeps a word or two per channel in shared memory. */
enum { OCT_CUDA_MAX_CHANNELS = 4096 };

int oct_cuda_is_float(enum oct_dtype dtype);
/* rows from `least` to 2^31 - 1, channels from 1 to OCT_CUDA_MAX_CHANNELS. */
enum oct_status oct_cuda_check_shape(const char *op, int64_t rows, int64_t least, int channels);
/* The same from one row on and for any number of channels, of a float tensor. */
enum oct_status oct_cuda_check_rows(
    const char *op, int64_t rows, int channels, enum oct_dtype dtype);
enum oct_status oct_cuda_check_float(const char *op, const char *tensor, enum oct_dtype dtype);
/* 1 or `count` entries for codes in that many planes. */
enum oct_status oct_cuda_check_range(
    const char *op, const struct oct_range *range, int count, int planes);
enum oct_status oct_cuda_check_flag(const char *op, const uint32_t *flag);

enum oct_status oct_cuda_check_finalize(const struct oct_bn_finalize_args *args);
enum oct_status oct_cuda_check_act(const struct oct_act_fwd_args *args);
enum oct_status oct_cuda_check_bwd_finalize(const struct oct_bn_bwd_finalize_args *args);
enum oct_status oct_cuda_check_apply(const struct oct_bn_bwd_apply_args *args);
enum oct_status oct_cuda_check_pool(const struct oct_pool_args *args);
enum oct_status oct_cuda_check_pool_bwd(const struct oct_pool_bwd_args *args);

#ifdef __cplusplus
}
#endif
#endif
