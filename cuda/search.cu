/* The clip value that keeps a tensor's direction best: integer sums for every candidate, then the
 * choice. Runs every hundred steps or so; each candidate reads the tensor by itself. */
#include "backend_check.h"
#include "elementwise.cuh"

/* Largest of the statistics, by bits: NaN wins and shows. Every thread has the result. */
OCT_DEVICE_INLINE float search_amax(const oct_cosine_search_args &g)
{
    uint32_t largest = oct_bits_of_f32(g.amax[0]);
    for (int i = threadIdx.x; i < g.amax_count; i += THREADS)
        largest = max(largest, oct_bits_of_f32(g.amax[i]));
    return oct_f32_of_bits(block_max(largest));
}

OCT_DEVICE_INLINE bool is_usable(float amax)
{
    return amax > 0.0f && !oct_not_finite(amax);
}

/* *total += the block's sum of signed numbers. */
OCT_DEVICE_INLINE void block_add_signed(int64_t *total, int64_t mine)
{
    __shared__ unsigned long long sum;
    if (threadIdx.x == 0)
        sum = 0;
    __syncthreads();
    atomicAdd(&sum, (unsigned long long)mine);
    __syncthreads();
    if (threadIdx.x == 0)
        atomicAdd((unsigned long long *)total, sum);
    __syncthreads();
}

/* Blocks along y are the candidates; the first of them adds up g^2 as well. */
OCT_KERNEL search_kernel(const oct_cosine_search_args g)
{
    const float amax = search_amax(g);
    const int j = blockIdx.y;
    int64_t g2 = 0, gq = 0, q2 = 0;
    if (!is_usable(amax))
        return;
    const float fine = oct_inverse_of_clip(amax, OCT_CODE16_MAX);
    const float inverse = oct_inverse_of_clip(g.factor[j] * amax, g.code_max);
    const int64_t elements = g.rows * g.channels, step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < elements; i += step) {
        float x[1];
        load_floats<1>(x, g.dtype, g.x, i);
        const int64_t code = oct_quantise(x[0], fine, OCT_CODE16_MAX);
        const int64_t q = oct_quantise(x[0], inverse, g.code_max);
        g2 += code * code;
        gq += code * q;
        q2 += q * q;
    }
    if (j == 0)
        block_add_signed(&g.sums[0], g2);
    block_add_signed(&g.sums[1 + j], gq);
    block_add_signed(&g.sums[1 + OCT_SEARCH_CANDIDATES + j], q2);
}

/* One thread: the first of the smallest distances decides. */
OCT_KERNEL search_choose_kernel(const oct_cosine_search_args g)
{
    double best = 1.0;
    int chosen = -1;
    for (int j = 0; j < g.candidates; j++) {
        const double d =
            oct_cosine_distance(g.sums[0], g.sums[1 + j], g.sums[1 + OCT_SEARCH_CANDIDATES + j]);
        if (d < best) {
            best = d;
            chosen = j;
        }
    }
    if (chosen < 0)
        return;
    const float distance = (float)best;
    g.share[0] = g.factor[chosen];
    g.distance[0] = distance;
    if (g.lr_factor)
        g.lr_factor[0] = oct_deviation_factor(distance, g.alpha, g.beta);
}

extern "C" enum oct_status oct_cuda_cosine_search(
    oct_backend *backend, const struct oct_cosine_search_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_cosine_search(g));
    const int64_t most = (int64_t)cuda->multiprocessors * KERNEL_BLOCKS;
    const int64_t blocks = (g->rows * g->channels + THREADS - 1) / THREADS;
    const dim3 grid((unsigned)(blocks < most ? blocks : most), (unsigned)g->candidates);
    OCT_CUDA(cudaMemsetAsync(g->sums, 0, OCT_SEARCH_SUMS * sizeof *g->sums, cuda->stream));
    search_kernel<<<grid, THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    search_choose_kernel<<<1, 1, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
