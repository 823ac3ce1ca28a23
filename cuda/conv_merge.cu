/* Coefficients of a normalisation that a forward product does along: made once, in front of it,
 * because the registers of the product's threads are full of accumulators. */
#include "conv_merge.h"

#include "base/bn.h"

enum { THREADS = 256 };

struct merge {
    oct_conv_norm norm;
    const float *x_scale, *w_scale;
    int w_scale_per_k, columns;
    oct_cuda_merged *to;
};

/* A thread makes one column; those that fill the last four are 0. */
static __global__ void __launch_bounds__(THREADS) merge_kernel(const __grid_constant__ merge m)
{
    const int k = blockIdx.x * THREADS + threadIdx.x;
    const int four = k / OCT_MERGED_COLUMNS, i = k % OCT_MERGED_COLUMNS;
    oct_bn_merged merged = {};
    if (four * OCT_MERGED_COLUMNS >= m.columns)
        return;
    if (k < m.columns) {
        const float multiplier = m.x_scale[0] * m.w_scale[m.w_scale_per_k ? k : 0];
        const oct_bn_clip clip = {m.norm.lo[k], m.norm.hi[k]};
        merged = oct_bn_merge(m.norm.a[k], m.norm.b[k], clip, multiplier, m.norm.inverse[0]);
    }
    m.to[four].scale[i] = merged.scale;
    m.to[four].offset[i] = merged.offset;
    m.to[four].lo[i] = (int8_t)merged.lo;
    m.to[four].hi[i] = (int8_t)merged.hi;
}

extern "C" size_t oct_cuda_merge_bytes(int columns)
{
    return ((size_t)columns + OCT_MERGED_COLUMNS - 1) / OCT_MERGED_COLUMNS *
           sizeof(struct oct_cuda_merged);
}

extern "C" enum oct_status oct_cuda_merge(
    const struct oct_cuda *cuda, const struct oct_conv_fprop_args *a, struct oct_cuda_merged *to)
{
    merge m = {};
    m.norm = a->norm;
    m.x_scale = a->x.scale;
    m.w_scale = a->w.scale;
    m.w_scale_per_k = a->w.scale_per_k;
    m.columns = a->shape.k;
    m.to = to;
    const unsigned blocks = (unsigned)((m.columns + THREADS - 1) / THREADS);
    merge_kernel<<<blocks, THREADS, 0, cuda->stream>>>(m);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
