/* Forward and backward-data products: what base/gpu_cut.h calls sweeps. */
#ifndef OCT_CUDA_CONV_SWEEP_H
#define OCT_CUDA_CONV_SWEEP_H

#include "base/gpu_cut.h"
#include "conv_merge.h"
#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What one product asks of its sweeps. */
struct oct_cuda_sweep_args {
    const struct oct_conv_shape *shape;
    int dgrad;
    const struct oct_operand *x, *w; /* x: the tensor that is swept (dY in backward-data) */
    const float *bias;
    void *out;
    enum oct_dtype dtype;
    enum oct_write mode;
    const struct oct_cuda_merged *merged; /* dtype s8, or NULL */
    struct oct_shift shift;               /* dtype s8 without merged */
    int relu;
    const struct oct_acc_stats *stats;
    int tile; /* forced tile configuration, or 0 */
};

/* Launches all sweeps of a product. */
enum oct_status oct_cuda_sweep_run(struct oct_cuda *, const struct oct_cuda_sweep_args *);

#ifdef __cplusplus
}
#endif
#endif
