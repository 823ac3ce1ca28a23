/* Backward of normalise-and-activate up to the scales: the sums and extremes of dz over the pixels,
 * and what follows from them per channel. The pass that makes dy is in norm_apply.cu. */
#include "backend_check.h"
#include "gate.cuh"
#include "reduce.cuh"

#include "base/bn.h"

enum { REDUCE_V = 2 };
enum { SUM_DZ, SUM_DZ_XHAT, SUM_DZ2, MIN_DZ, MAX_DZ, WORDS };

extern "C" size_t oct_cuda_bn_workspace(oct_backend *, int64_t rows, int channels)
{
    return sizeof(float) * WORDS * (size_t)chunks_of(rows) * (size_t)channels;
}

/* ---- bn_bwd_reduce ---- */

template <int V> struct reduce_sums {
    float dz[V], dz_xhat[V], dz2[V], low[V], high[V];
};

template <int V> struct reduce_channels {
    float a[V], b[V], ix[V], jx[V];
};

template <int V>
OCT_DEVICE_INLINE void reduce_row(reduce_sums<V> *sums, const reduce_channels<V> &channels,
    enum gate gate, float (&dz)[V], const float (&y)[V], uint32_t bits)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float xhat = oct_affine(y[k], channels.ix[k], channels.jx[k]);
        const float d = gate_dz(gate, dz[k], y[k], channels.a[k], channels.b[k], bits >> k & 1u);
        sums->dz[k] = sums->dz[k] + d;
        sums->dz_xhat[k] = sums->dz_xhat[k] + d * xhat;
        sums->dz2[k] = sums->dz2[k] + d * d;
        sums->low[k] = d < sums->low[k] ? d : sums->low[k];
        sums->high[k] = d > sums->high[k] ? d : sums->high[k];
    }
}

/* `count` rows from element i on, all loads first. */
template <int V, int DA, int Y, int COUNT>
OCT_DEVICE_INLINE void reduce_rows(reduce_sums<V> *sums, const reduce_channels<V> &channels,
    const oct_bn_bwd_reduce_args &g, enum gate gate, int64_t i)
{
    float dz[COUNT][V], y[COUNT][V];
    uint32_t bits[COUNT];
#pragma unroll
    for (int r = 0; r < COUNT; r++) {
        const int64_t at = i + (int64_t)r * g.channels;
        load_floats<V>(dz[r], DA == ANY ? (int)g.da_dtype : DA, g.da, at);
        load_floats<V>(y[r], Y == ANY ? (int)g.y_dtype : Y, g.y, at);
        bits[r] = gate == GATE_MASK ? mask_bits(g.mask, at) : 0;
    }
#pragma unroll
    for (int r = 0; r < COUNT; r++)
        reduce_row<V>(sums, channels, gate, dz[r], y[r], bits[r]);
}

template <int V, int DA, int Y, int GATE>
OCT_CHUNK_KERNEL reduce_kernel(const oct_bn_bwd_reduce_args g)
{
    const enum gate gate = GATE == ANY ? gate_of(g.relu, g.mask) : (enum gate)GATE;
    const chunk own = chunk_of_thread<V>(g.rows, g.channels);
    reduce_channels<V> channels = {};
    reduce_sums<V> sums;

    if (own.rows == 0)
        return;
    load_floats<V>(channels.ix, OCT_F32, g.ix, own.channel);
    load_floats<V>(channels.jx, OCT_F32, g.jx, own.channel);
    if (gate == GATE_Z) {
        load_floats<V>(channels.a, OCT_F32, g.a, own.channel);
        load_floats<V>(channels.b, OCT_F32, g.b, own.channel);
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        sums.dz[k] = sums.dz_xhat[k] = sums.dz2[k] = 0.0f;
        sums.low[k] = INFINITY;
        sums.high[k] = -INFINITY;
    }
    constexpr int BATCH = DA == ANY ? CHUNK_BATCH / 2 : CHUNK_BATCH; /* of f32 twice the words */
    int64_t i = own.element;
    int r = 0;
    for (; r + BATCH <= own.rows; r += BATCH, i += (int64_t)BATCH * g.channels)
        reduce_rows<V, DA, Y, BATCH>(&sums, channels, g, gate, i);
    for (; r < own.rows; r++, i += g.channels)
        reduce_rows<V, DA, Y, 1>(&sums, channels, g, gate, i);

    const int64_t before = own.index * WORDS;
    store_chunk_word<V>(g.workspace, before + SUM_DZ, g.channels, own.channel, sums.dz);
    store_chunk_word<V>(g.workspace, before + SUM_DZ_XHAT, g.channels, own.channel, sums.dz_xhat);
    store_chunk_word<V>(g.workspace, before + SUM_DZ2, g.channels, own.channel, sums.dz2);
    store_chunk_word<V>(g.workspace, before + MIN_DZ, g.channels, own.channel, sums.low);
    store_chunk_word<V>(g.workspace, before + MAX_DZ, g.channels, own.channel, sums.high);
}

OCT_KERNEL reduce_merge_kernel(const oct_bn_bwd_reduce_args g)
{
    const int64_t chunks = chunks_of(g.rows);
    const double total = merge_sums<3, WORDS>(g.workspace, SUM_DZ, chunks, g.channels);
    const float2 extremes = merge_extremes<WORDS>(g.workspace, MIN_DZ, MAX_DZ, chunks, g.channels);
    const int s = (int)threadIdx.x / MERGE_CHANNELS;
    const int c = (int)blockIdx.x * MERGE_CHANNELS + (int)threadIdx.x % MERGE_CHANNELS;

    if (s > SUM_DZ2 || c >= g.channels)
        return;
    double *const sums = s == SUM_DZ ? g.sum_dz : s == SUM_DZ_XHAT ? g.sum_dz_xhat : g.sum_dz2;
    sums[c] = total;
    if (s == 0) {
        g.dz_min[c] = extremes.x;
        g.dz_max[c] = extremes.y;
    }
}

static bool reduce_is_aligned(const oct_bn_bwd_reduce_args *g)
{
    return g->channels % REDUCE_V == 0 && is_aligned(g->da) && is_aligned(g->y) &&
           is_aligned(g->a) && is_aligned(g->b) && is_aligned(g->ix) && is_aligned(g->jx) &&
           is_aligned(g->workspace);
}

static void reduce_launch(const oct_bn_bwd_reduce_args &g, cudaStream_t stream)
{
    const bool bf16 = g.da_dtype == OCT_BF16 && g.y_dtype == OCT_BF16;
    const enum gate gate = gate_of(g.relu, g.mask);
    if (!reduce_is_aligned(&g)) {
        const dim3 single = chunk_grid<1>(g.rows, g.channels);
        reduce_kernel<1, ANY, ANY, ANY><<<single, CHUNK_THREADS, 0, stream>>>(g);
        return;
    }
    const dim3 grid = chunk_grid<REDUCE_V>(g.rows, g.channels);
    if (bf16 && gate == GATE_Z) {
        reduce_kernel<REDUCE_V, OCT_BF16, OCT_BF16, GATE_Z><<<grid, CHUNK_THREADS, 0, stream>>>(g);
    } else if (bf16 && gate == GATE_MASK) {
        reduce_kernel<REDUCE_V, OCT_BF16, OCT_BF16, GATE_MASK>
            <<<grid, CHUNK_THREADS, 0, stream>>>(g);
    } else if (bf16) {
        reduce_kernel<REDUCE_V, OCT_BF16, OCT_BF16, GATE_OPEN>
            <<<grid, CHUNK_THREADS, 0, stream>>>(g);
    } else {
        reduce_kernel<REDUCE_V, ANY, ANY, ANY><<<grid, CHUNK_THREADS, 0, stream>>>(g);
    }
}

extern "C" enum oct_status oct_cuda_bn_bwd_reduce(
    oct_backend *backend, const struct oct_bn_bwd_reduce_args *g)
{
    const cudaStream_t stream = oct_cuda_of(backend)->stream;
    OCT_TRY(oct_check_bn_bwd_reduce(g));
    if (g->rows > 0)
        reduce_launch(*g, stream);
    OCT_CUDA(cudaGetLastError());
    reduce_merge_kernel<<<merge_blocks(g->channels), THREADS, 0, stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- bn_bwd_finalize ---- */

/* Variance of dy in one channel, after everything else of that channel is written. */
OCT_DEVICE_INLINE double finalize_channel(const oct_bn_bwd_finalize_args &g, int c)
{
    const double n = (double)g.count, sum_dz = g.sum_dz[c], sum_dz_xhat = g.sum_dz_xhat[c];
    const float m1 = (float)(sum_dz / n), m2 = (float)(sum_dz_xhat / n), a = g.a[c];

    g.m1[c] = m1;
    g.m2[c] = m2;
    write_gradient(&g.dgamma[c], sum_dz_xhat, g.mode);
    write_gradient(&g.dbeta[c], sum_dz, g.mode);
    if (g.bound)
        g.bound[c] = oct_bn_dy_bound(a, m1, m2, g.dz_min[c], g.dz_max[c], g.xhat_max[c]);
    if (!g.sigma && !g.sigma_all)
        return 0.0;
    const double variance =
        oct_bn_dy_variance(sum_dz, sum_dz_xhat, g.sum_dz2[c], g.count, a, g.ix[c], g.eps);
    if (g.sigma)
        g.sigma[c] = (float)sqrt(variance);
    return variance;
}

/* One block; the channels' variances are added in their order by one thread. */
OCT_KERNEL_OF(1) bwd_finalize_kernel(const oct_bn_bwd_finalize_args g)
{
    extern __shared__ double variances[];
    for (int c = threadIdx.x; c < g.channels; c += THREADS)
        variances[c] = finalize_channel(g, c);
    __syncthreads();
    if (!g.sigma_all || threadIdx.x > 0)
        return;
    double all = 0.0;
    for (int c = 0; c < g.channels; c++)
        all += variances[c];
    g.sigma_all[0] = (float)sqrt(all / (double)g.channels);
}

extern "C" enum oct_status oct_cuda_bn_bwd_finalize(
    oct_backend *backend, const struct oct_bn_bwd_finalize_args *g)
{
    OCT_TRY(oct_check_bn_bwd_finalize(g));
    const size_t shared = sizeof(double) * (size_t)g->channels;
    bwd_finalize_kernel<<<1, THREADS, shared, oct_cuda_of(backend)->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
