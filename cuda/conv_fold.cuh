/* Inputs of few channels as copies with pixels of 16 bytes (base/gpu_cut.h): products on them take
 * the same way as any other. */
#ifndef OCT_CUDA_CONV_FOLD_CUH
#define OCT_CUDA_CONV_FOLD_CUH

#include "base/gpu_cut.h"

/* Where the depth of a folded product comes from. */
struct oct_folded {
    int down, across; /* 0: not folded */
    int r, s, c;      /* of the filter as the caller has it */
    int taps_w;       /* of the folded one */
};

static inline oct_folded oct_folded_of(const struct oct_conv_shape *v)
{
    const struct oct_gpu_fold fold = oct_gpu_fold_of(v);
    oct_folded f = {fold.down, fold.across, v->r, v->s, v->c, fold.shape.s};
    return f;
}

/* Index in a filter's [r, s, c] of byte `depth` of the folded depth; -1: a zero. */
static __device__ __forceinline__ int oct_unfold(const oct_folded &f, int depth)
{
    const int tap = depth / OCT_GPU_FOLDED, at = depth - tap * OCT_GPU_FOLDED;
    const int pixel = at / f.c, a = pixel / f.across, tap_h = tap / f.taps_w;
    const int r = tap_h * f.down + a;
    const int s = (tap - tap_h * f.taps_w) * f.across + pixel - a * f.across;
    return a < f.down && r < f.r && s < f.s ? (r * f.s + s) * f.c + at - pixel * f.c : -1;
}

#endif
