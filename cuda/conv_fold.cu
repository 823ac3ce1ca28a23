/* Copies of inputs of few channels with pixels of 16 bytes; a thread makes one pixel. */
#include "conv_fold.h"

enum { THREADS = 256 };

struct fold {
    const int8_t *x[2];
    int8_t *to[2];
    int in_h, in_w, channels;
    int stride_h, stride_w, pad_h, pad_w;
    int down, across;
    int h, w, pixels; /* of the copy */
};

static __global__ void __launch_bounds__(THREADS) fold_kernel(const __grid_constant__ fold f)
{
    const int at = blockIdx.x * THREADS + threadIdx.x, plane = blockIdx.y;
    if (at >= f.pixels)
        return;
    const int line = at / f.w, image = line / f.h;
    const int first_h = (line - image * f.h) * f.stride_h - f.pad_h;
    const int first_w = (at - line * f.w) * f.stride_w - f.pad_w;
    const int8_t *x = (plane ? f.x[1] : f.x[0]) + (int64_t)image * f.in_h * f.in_w * f.channels;
    uint32_t word[OCT_GPU_FOLDED / 4] = {0, 0, 0, 0};
    int a = 0, b = 0, c = 0;
#pragma unroll
    for (int i = 0; i < OCT_GPU_FOLDED; i++) {
        const int h = first_h + a, w = first_w + b;
        if (a < f.down && (unsigned)h < (unsigned)f.in_h && (unsigned)w < (unsigned)f.in_w)
            word[i / 4] |= (uint32_t)(uint8_t)x[(h * f.in_w + w) * f.channels + c] << i % 4 * 8;
        if (++c == f.channels) {
            c = 0;
            b++;
        }
        if (b == f.across) {
            b = 0;
            a++;
        }
    }
    uint4 *const to = (uint4 *)(plane ? f.to[1] : f.to[0]);
    to[at] = make_uint4(word[0], word[1], word[2], word[3]);
}

extern "C" enum oct_status oct_cuda_fold(const struct oct_cuda *cuda,
    const struct oct_conv_shape *v, const struct oct_operand *x, void *to,
    struct oct_operand *folded)
{
    const struct oct_gpu_fold cut = oct_gpu_fold_of(v);
    fold f = {};
    f.x[0] = (const int8_t *)x->data;
    f.x[1] = (const int8_t *)x->data_lo;
    f.to[0] = (int8_t *)to;
    f.to[1] = f.to[0] + oct_gpu_fold_bytes(&cut, 1);
    f.in_h = v->h;
    f.in_w = v->w;
    f.channels = v->c;
    f.stride_h = v->stride_h;
    f.stride_w = v->stride_w;
    f.pad_h = v->pad_h;
    f.pad_w = v->pad_w;
    f.down = cut.down;
    f.across = cut.across;
    f.h = cut.shape.h;
    f.w = cut.shape.w;
    f.pixels = v->n * f.h * f.w;
    const dim3 grid((unsigned)((f.pixels + THREADS - 1) / THREADS), (unsigned)x->planes);
    fold_kernel<<<grid, THREADS, 0, cuda->stream>>>(f);
    OCT_CUDA(cudaGetLastError());
    *folded = *x;
    folded->data = f.to[0];
    folded->data_lo = x->planes > 1 ? f.to[1] : NULL;
    return OCT_OK;
}
