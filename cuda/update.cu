/* SGD and the moving average of weights, four parameters a thread at a time. Both are predicated on
 * the step's flag, which the kernels read on the device. */
#include "barrier.cuh"

enum { UPDATE_V = 4 };

OCT_KERNEL sgd_amax_kernel(const oct_sgd_args g)
{
    if (g.step->flag == 0)
        g.amax[0] = 0.0f;
}

/* Runs of UPDATE_V parameters by all threads, then the count % UPDATE_V last ones one by one; run
 * without alignment takes all of them one by one. */
struct runs {
    int64_t vectors, count;
};

static runs runs_of(int64_t count, bool aligned)
{
    const runs r = {aligned ? count / UPDATE_V : 0, count};
    return r;
}

template <int V, bool BARRIER>
OCT_DEVICE_INLINE uint32_t sgd_vector(
    const oct_sgd_args &g, const oct_sgd_rates &rates, int64_t i, barrier_tally *tally)
{
    float w[V], momentum[V], dw[V];
    uint32_t amax = 0;
    load_floats<V>(w, OCT_F32, g.w, i);
    load_floats<V>(momentum, OCT_F32, g.momentum, i);
    load_floats<V>(dw, OCT_F32, g.dw, i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        float p = 0.0f;
        if (BARRIER) {
            p = oct_barrier_gradient(w[k], g.barrier.tau, g.step->temperature, g.barrier.lam);
            tally->barrier += oct_fixed_magnitude(p);
            tally->all += oct_fixed_magnitude(dw[k] + p);
        }
        oct_sgd_element(&w[k], &momentum[k], dw[k], rates);
        if (BARRIER)
            w[k] = w[k] - rates.lr * p;
        amax = max(amax, magnitude_of(w[k]));
    }
    store_floats<V>(OCT_F32, g.w, i, w);
    store_floats<V>(OCT_F32, g.momentum, i, momentum);
    return amax;
}

template <bool BARRIER> OCT_KERNEL sgd_kernel(const oct_sgd_args g, const runs r)
{
    if (g.step->flag != 0)
        return;
    const oct_sgd_rates rates = {
        oct_sgd_lr(g.step->lr, g.lr_factor), g.mu, g.weight_decay, g.nesterov};
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * THREADS;
    uint32_t amax = 0;
    barrier_tally tally = {0, 0};
    for (int64_t j = first; j < r.vectors; j += step)
        amax = max(amax, sgd_vector<UPDATE_V, BARRIER>(g, rates, j * UPDATE_V, &tally));
    for (int64_t i = r.vectors * UPDATE_V + first; i < r.count; i += step)
        amax = max(amax, sgd_vector<1, BARRIER>(g, rates, i, &tally));
    if (BARRIER)
        publish_barrier(g.barrier.sums, tally);
    if (!g.amax)
        return;
    amax = block_max(amax);
    if (threadIdx.x == 0 && amax >= MIN_NORMAL_BITS)
        atomicMax((uint32_t *)g.amax, amax);
}

template <int V> OCT_DEVICE_INLINE void ema_vector(const oct_ema_args &g, float rate, int64_t i)
{
    float average[V], value[V];
    load_floats<V>(average, OCT_F32, g.average, i);
    load_floats<V>(value, OCT_F32, g.value, i);
#pragma unroll
    for (int k = 0; k < V; k++)
        average[k] = oct_ema_of(average[k], value[k], rate);
    store_floats<V>(OCT_F32, g.average, i, average);
}

OCT_KERNEL ema_kernel(const oct_ema_args g, const runs r)
{
    if (*g.flag != 0)
        return;
    const float rate = 1.0f - g.decay;
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t j = first; j < r.vectors; j += step)
        ema_vector<UPDATE_V>(g, rate, j * UPDATE_V);
    for (int64_t i = r.vectors * UPDATE_V + first; i < r.count; i += step)
        ema_vector<1>(g, rate, i);
}

/* One thread for each vector and for each of the rest, as far as the device holds them. */
static unsigned update_grid(const struct oct_cuda *cuda, const runs &r)
{
    const int64_t most = (int64_t)cuda->multiprocessors * KERNEL_BLOCKS;
    const int64_t blocks = (r.vectors + (r.count - r.vectors * UPDATE_V) + THREADS - 1) / THREADS;
    return (unsigned)(blocks < most ? blocks : most);
}

extern "C" enum oct_status oct_cuda_sgd(oct_backend *backend, const struct oct_sgd_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const bool aligned = is_aligned(g->w) && is_aligned(g->momentum) && is_aligned(g->dw);
    const runs r = runs_of(g->count, aligned);
    if (g->amax) {
        sgd_amax_kernel<<<1, 1, 0, cuda->stream>>>(*g);
        OCT_CUDA(cudaGetLastError());
    }
    if (g->count < 1)
        return OCT_OK;
    if (g->barrier.lam > 0.0f)
        sgd_kernel<true><<<update_grid(cuda, r), THREADS, 0, cuda->stream>>>(*g, r);
    else
        sgd_kernel<false><<<update_grid(cuda, r), THREADS, 0, cuda->stream>>>(*g, r);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

extern "C" enum oct_status oct_cuda_ema(oct_backend *backend, const struct oct_ema_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const runs r = runs_of(g->count, is_aligned(g->average) && is_aligned(g->value));
    if (g->count < 1)
        return OCT_OK;
    ema_kernel<<<update_grid(cuda, r), THREADS, 0, cuda->stream>>>(*g, r);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
