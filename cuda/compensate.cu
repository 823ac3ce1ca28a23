/* A trained term at every place of a sample, and its gradients from the codes of dY,
 * summed over the samples. */
#include "backend_check.h"
#include "elementwise.cuh"

enum { PLACES_V = 4 };

/* ---- forward ---- */

template <int V>
OCT_DEVICE_INLINE void load_terms(float (&term)[V], const oct_compensate_args &g, int64_t place)
{
    float alpha[V], mu[V], offset[V];
    load_floats<V>(alpha, OCT_F32, g.alpha, place);
    load_floats<V>(mu, OCT_F32, g.mu, place);
    load_floats<V>(offset, OCT_F32, g.offset, place);
#pragma unroll
    for (int k = 0; k < V; k++)
        term[k] = oct_compensation(alpha[k], mu[k], offset[k]);
}

/* Rows are samples, channels the elements of one: with vectors a thread keeps its places. */
template <int V> OCT_KERNEL compensate_kernel(const oct_compensate_args g)
{
    const int count = (int)g.count;
    walk w = walk_begin<V>(g.samples, count);
    float term[V];
    if (V > 1)
        load_terms<V>(term, g, w.channel);
    for (; walk_is_inside<V>(&w); walk_next<V>(&w, count)) {
        float y[V];
        if (V == 1)
            load_terms<V>(term, g, w.channel);
        load_floats<V>(y, OCT_F32, g.x, w.i);
#pragma unroll
        for (int k = 0; k < V; k++)
            y[k] = y[k] + term[k];
        store_floats<V>(g.y_dtype, g.y, w.i, y);
    }
}

extern "C" enum oct_status oct_cuda_compensate(
    oct_backend *backend, const struct oct_compensate_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const int count = (int)g->count;
    OCT_TRY(oct_check_compensate(g));
    if (count % PLACES_V == 0 && is_aligned(g->x) && is_aligned(g->y) && is_aligned(g->alpha) &&
        is_aligned(g->mu) && is_aligned(g->offset)) {
        const dim3 grid = walk_grid<PLACES_V>(cuda, g->samples, count);
        compensate_kernel<PLACES_V><<<grid, THREADS, 0, cuda->stream>>>(*g);
    } else {
        const dim3 grid = walk_grid<1>(cuda, g->samples, count);
        compensate_kernel<1><<<grid, THREADS, 0, cuda->stream>>>(*g);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- backward ---- */

/* A block has WARP vectors of places; its warps share the samples, and the first adds up what they
 * have found. Sums are integers: their order does not show. */
enum { WARPS = THREADS / WARP };

template <int V>
OCT_DEVICE_INLINE void add_samples(
    int (&sum)[V], const oct_compensate_bwd_args &g, const int8_t *codes, int64_t place)
{
    for (int s = (int)threadIdx.x / WARP; s < g.samples; s += WARPS) {
        const packed<V> p = load_packed<V>(OCT_S8, codes, s * g.count + place);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum[k] += V == 1 ? (int)p.w[0] : (int)(int8_t)(p.w[0] >> (8 * k));
    }
}

template <int V>
OCT_DEVICE_INLINE void put_gradient(float *to, int64_t place, const float (&d)[V], int mode)
{
    float sum[V] = {};
    if (mode == OCT_ACCUMULATE)
        load_floats<V>(sum, OCT_F32, to, place);
#pragma unroll
    for (int k = 0; k < V; k++)
        sum[k] = mode == OCT_ACCUMULATE ? sum[k] + d[k] : d[k];
    store_floats<V>(OCT_F32, to, place, sum);
}

template <int V>
OCT_DEVICE_INLINE void put_gradients(
    const oct_compensate_bwd_args &g, int64_t place, const int64_t (&sum)[V])
{
    const float scale = g.scale[0];
    float d[V], alpha[V], mu[V];
    load_floats<V>(alpha, OCT_F32, g.alpha, place);
    load_floats<V>(mu, OCT_F32, g.mu, place);
#pragma unroll
    for (int k = 0; k < V; k++) {
        d[k] = (float)sum[k] * scale;
        alpha[k] = alpha[k] * d[k];
        mu[k] = mu[k] * d[k];
    }
    put_gradient<V>(g.doffset, place, d, g.mode);
    put_gradient<V>(g.dmu, place, alpha, g.mode);
    put_gradient<V>(g.dalpha, place, mu, g.mode);
}

template <int V> OCT_KERNEL compensate_bwd_kernel(const oct_compensate_bwd_args g)
{
    __shared__ int high[WARPS][WARP][V], low[WARPS][WARP][V];
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    const int64_t place = ((int64_t)blockIdx.x * WARP + lane) * V;
    int hi[V] = {}, lo[V] = {};
    if (place < g.count) {
        add_samples<V>(hi, g, g.dy, place);
        if (g.dy_lo)
            add_samples<V>(lo, g, g.dy_lo, place);
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        high[warp][lane][k] = hi[k];
        low[warp][lane][k] = lo[k];
    }
    __syncthreads();
    if (warp > 0 || place >= g.count)
        return;
    int64_t sum[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
#pragma unroll
        for (int other = 1; other < WARPS; other++) {
            hi[k] += high[other][lane][k];
            lo[k] += low[other][lane][k];
        }
        sum[k] = g.dy_lo ? oct_combine_planes(hi[k], lo[k]) : hi[k];
    }
    put_gradients<V>(g, place, sum);
}

extern "C" enum oct_status oct_cuda_compensate_bwd(
    oct_backend *backend, const struct oct_compensate_bwd_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_compensate_bwd(g));
    const bool aligned = is_aligned(g->dy) && is_aligned(g->dy_lo) && is_aligned(g->alpha) &&
                         is_aligned(g->mu) && is_aligned(g->dalpha) && is_aligned(g->dmu) &&
                         is_aligned(g->doffset);
    const int v = g->count % PLACES_V == 0 && aligned ? PLACES_V : 1;
    const unsigned blocks = (unsigned)((g->count / v + WARP - 1) / WARP);
    if (v > 1)
        compensate_bwd_kernel<PLACES_V><<<blocks, THREADS, 0, cuda->stream>>>(*g);
    else
        compensate_bwd_kernel<1><<<blocks, THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
