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

/* A byte of the folded depth, and the ones behind it. */
struct oct_unfolding {
    int first_r, first_s; /* of the folded tap */
    int a, b, c;

    __device__ __forceinline__ void start(const oct_folded &f, int depth)
    {
        const int tap = depth / OCT_GPU_FOLDED, at = depth - tap * OCT_GPU_FOLDED;
        const int pixel = at / f.c, tap_h = tap / f.taps_w;
        first_r = tap_h * f.down;
        first_s = (tap - tap_h * f.taps_w) * f.across;
        a = pixel / f.across;
        b = pixel - a * f.across;
        c = at - pixel * f.c;
    }

    /* Index in the filter's [r, s, c]; -1: a zero. */
    __device__ __forceinline__ int index(const oct_folded &f) const
    {
        const int r = first_r + a, s = first_s + b;
        return a < f.down && r < f.r && s < f.s ? (r * f.s + s) * f.c + c : -1;
    }

    /* Within the sixteen of one tap. */
    __device__ __forceinline__ void next(const oct_folded &f)
    {
        if (++c == f.c) {
            c = 0;
            b++;
        }
        if (b == f.across) {
            b = 0;
            a++;
        }
    }
};

#endif
