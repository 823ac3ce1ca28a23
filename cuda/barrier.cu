/* The log-barrier on activations: its gradient is added to theirs, in place. */
#include "backend_check.h"
#include "barrier.cuh"

enum { BARRIER_V = 4 };

template <int V>
OCT_DEVICE_INLINE void barrier_vector(
    const oct_barrier_bwd_args &g, float scale, int64_t i, barrier_tally *tally)
{
    float x[V], da[V];
    load_floats<V>(x, g.x_dtype, g.x, i);
    load_floats<V>(da, g.da_dtype, g.da, i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float value = g.x_dtype == OCT_S8 ? x[k] * scale : x[k];
        const float p =
            oct_barrier_gradient(value, g.barrier.tau, g.step->temperature, g.barrier.lam);
        da[k] = da[k] + p;
        tally->barrier += oct_fixed_magnitude(p);
        tally->all += oct_fixed_magnitude(da[k]);
    }
    store_floats<V>(g.da_dtype, g.da, i, da);
}

/* `vectors` vectors by all threads, then what is left one by one. */
OCT_KERNEL barrier_kernel(const oct_barrier_bwd_args g, int64_t vectors)
{
    const float scale = g.x_dtype == OCT_S8 ? g.x_scale[0] : 1.0f;
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * THREADS;
    barrier_tally tally = {0, 0};
    for (int64_t j = first; j < vectors; j += step)
        barrier_vector<BARRIER_V>(g, scale, j * BARRIER_V, &tally);
    for (int64_t i = vectors * BARRIER_V + first; i < g.count; i += step)
        barrier_vector<1>(g, scale, i, &tally);
    if (g.barrier.sums)
        publish_barrier(g.barrier.sums, tally);
}

extern "C" enum oct_status oct_cuda_barrier_bwd(
    oct_backend *backend, const struct oct_barrier_bwd_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_barrier_bwd(g));
    const int64_t vectors = is_aligned(g->x) && is_aligned(g->da) ? g->count / BARRIER_V : 0;
    const int64_t threads = vectors + (g->count - vectors * BARRIER_V);
    const int64_t blocks = (threads + THREADS - 1) / THREADS;
    const int64_t most = (int64_t)cuda->multiprocessors * KERNEL_BLOCKS;
    barrier_kernel<<<(unsigned)(blocks < most ? blocks : most), THREADS, 0, cuda->stream>>>(
        *g, vectors);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
