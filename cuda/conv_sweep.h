/* Forward and backward-data products are "sweeps": every output pixel of a grid reads input pixels
 * at constant distances. Forward is one sweep; backward-data is one sweep per phase of the stride,
 * with the taps that meet that phase, turned round, so that no zero is inserted or multiplied. */
#ifndef OCT_CUDA_CONV_SWEEP_H
#define OCT_CUDA_CONV_SWEEP_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OCT_SWEEP_STEP = 64 }; /* bytes of depth between two barriers */

/* One axis: output i lies at out_first + i out_step of the output tensor and meets tap t at input
 * i step + origin + t tap_step. Tap t is filter row filter_first + t filter_step. */
struct oct_cuda_axis {
    int out, out_first, out_step;
    int in, step, origin;
    int taps, tap_step;
    int filter_first, filter_step;
};

struct oct_cuda_sweep {
    struct oct_cuda_axis h, w;
    int images, channels, columns; /* channels of the tensor that is read, of the one written */
    int out_h, out_w;              /* output tensor */
    int64_t depth;                 /* taps x channels, without padding */
    int64_t packed;                /* where its weights start in a pack, bytes */
};

/* Sweeps of a product, and the i-th. */
int oct_cuda_sweep_count(const struct oct_conv_shape *, int dgrad);
void oct_cuda_sweep_make(
    const struct oct_conv_shape *, int dgrad, int index, struct oct_cuda_sweep *out);

/* A column of packed weights: depth, padded with zeros to whole steps. */
static inline int64_t oct_cuda_sweep_pitch(const struct oct_cuda_sweep *s)
{
    return (s->depth + OCT_SWEEP_STEP - 1) / OCT_SWEEP_STEP * OCT_SWEEP_STEP;
}

/* What one product asks of its sweeps. */
struct oct_cuda_sweep_args {
    const struct oct_conv_shape *shape;
    int dgrad;
    const struct oct_operand *x, *w; /* x: the tensor that is swept (dY in backward-data) */
    const float *bias;
    void *out;
    enum oct_dtype dtype;
    enum oct_write mode;
    const struct oct_acc_stats *stats;
    int tile; /* forced tile configuration, or 0 */
};

/* Launches all sweeps of a product. */
enum oct_status oct_cuda_sweep_run(struct oct_cuda *, const struct oct_cuda_sweep_args *);

#ifdef __cplusplus
}
#endif
#endif
