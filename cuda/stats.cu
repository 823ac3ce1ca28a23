/* Statistics per channel: channel_stats, channel_sum, count_above. Sums go through the chunks of
 * reduce.cuh; maxima and counts have no order and go through one pass with integer atomics. */
#include "backend_check.h"
#include "reduce.cuh"

#include <float.h>

enum { AMAX_V = 4, CHUNK_V = 2 };
enum { W_SUM, W_SUMSQ, W_MIN, W_MAX, W_AMAX, STATS_WORDS };

extern "C" size_t oct_cuda_channel_workspace(oct_backend *, int64_t rows, int channels)
{
    return sizeof(float) * STATS_WORDS * (size_t)chunks_of(rows) * (size_t)channels;
}

OCT_DEVICE_INLINE float float_of_magnitude(uint32_t magnitude)
{
    return magnitude < MIN_NORMAL_BITS ? 0.0f : oct_f32_of_bits(magnitude);
}

/* ---- amax alone ---- */

/* `whole`: all elements are of one channel, in rows of AMAX_V for the sake of the loads. */
struct amax_job {
    oct_channel_stats_args args;
    int whole;
};

OCT_DEVICE_INLINE void raise_amax(float *amax, uint32_t magnitude)
{
    if (amax && magnitude >= MIN_NORMAL_BITS)
        atomicMax((uint32_t *)amax, magnitude);
}

template <int V>
OCT_DEVICE_INLINE void share_amax(uint32_t *shared, int channel, uint32_t (&amax)[V])
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (amax[k] > 0)
            atomicMax(&shared[channel + k], amax[k]);
        amax[k] = 0;
    }
}

template <int V> OCT_KERNEL amax_kernel(const amax_job job)
{
    extern __shared__ uint32_t shared[];
    const oct_channel_stats_args &g = job.args;
    walk w = walk_begin<V>(g.rows, g.channels);
    const int channel = w.channel;
    uint32_t amax[V] = {};
    bool strange = false;

    for (int c = threadIdx.x; !job.whole && c < g.channels; c += THREADS)
        shared[c] = 0;
    __syncthreads();
    for (; walk_is_inside<V>(&w); walk_next<V>(&w, g.channels)) {
        float x[V];
        load_floats<V>(x, g.dtype, g.x, w.i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            amax[k] = max(amax[k], magnitude_of(x[k]));
            strange |= oct_not_finite(x[k]);
        }
        if (V == 1 && !job.whole)
            share_amax<V>(shared, w.channel, amax);
    }
    block_raise(g.flag, strange);
    if (job.whole) {
#pragma unroll
        for (int k = 1; k < V; k++)
            amax[0] = max(amax[0], amax[k]);
        const uint32_t largest = block_max(amax[0]);
        if (threadIdx.x == 0)
            raise_amax(g.amax, largest);
        return;
    }
    share_amax<V>(shared, V > 1 ? channel : 0, amax);
    __syncthreads();
    for (int c = threadIdx.x; g.amax && c < g.channels; c += THREADS)
        raise_amax(&g.amax[c], shared[c]);
}

static enum oct_status amax_only(const struct oct_cuda *cuda, const oct_channel_stats_args &g)
{
    amax_job job = {g, g.channels == 1};
    if (g.amax)
        OCT_CUDA(cudaMemsetAsync(g.amax, 0, sizeof *g.amax * (size_t)g.channels, cuda->stream));
    if (job.whole && g.rows % AMAX_V == 0) {
        job.args.channels = AMAX_V;
        job.args.rows = g.rows / AMAX_V;
    }
    const size_t shared = job.whole ? 0 : sizeof(uint32_t) * (size_t)g.channels;
    if (job.args.channels % AMAX_V == 0 && is_aligned(g.x)) {
        const dim3 grid = walk_grid<AMAX_V>(cuda, job.args.rows, job.args.channels);
        amax_kernel<AMAX_V><<<grid, THREADS, shared, cuda->stream>>>(job);
    } else {
        const dim3 grid = walk_grid<1>(cuda, job.args.rows, job.args.channels);
        amax_kernel<1><<<grid, THREADS, shared, cuda->stream>>>(job);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- chunks: sums, extremes and amax ---- */

template <int V> struct stats_sums {
    float sum[V], sumsq[V], low[V], high[V];
    uint32_t amax[V];
};

template <int V, bool ALL> OCT_DEVICE_INLINE void stats_row(stats_sums<V> *own, const float (&x)[V])
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        own->sum[k] = own->sum[k] + x[k];
        if (ALL) {
            own->sumsq[k] = own->sumsq[k] + x[k] * x[k];
            own->low[k] = x[k] < own->low[k] ? x[k] : own->low[k];
            own->high[k] = x[k] > own->high[k] ? x[k] : own->high[k];
            own->amax[k] = max(own->amax[k], magnitude_of(x[k]));
        }
    }
}

template <int V, bool ALL>
OCT_DEVICE_INLINE void stats_chunk(
    stats_sums<V> *sums, const chunk &own, int dtype, const void *tensor, int channels)
{
    int64_t i = own.element;
    int r = 0;
    for (; r + CHUNK_BATCH <= own.rows; r += CHUNK_BATCH) {
        packed<V> x[CHUNK_BATCH];
#pragma unroll
        for (int k = 0; k < CHUNK_BATCH; k++, i += channels)
            x[k] = load_packed<V>(dtype, tensor, i);
#pragma unroll
        for (int k = 0; k < CHUNK_BATCH; k++) {
            float values[V];
            unpack<V>(values, dtype, x[k]);
            stats_row<V, ALL>(sums, values);
        }
    }
    for (; r < own.rows; r++, i += channels) {
        float values[V];
        load_floats<V>(values, dtype, tensor, i);
        stats_row<V, ALL>(sums, values);
    }
}

template <int V, bool ALL> OCT_CHUNK_KERNEL stats_kernel(const oct_channel_stats_args g)
{
    const chunk own = chunk_of_thread<V>(g.rows, g.channels);
    const int words = ALL ? (int)STATS_WORDS : 1;
    stats_sums<V> sums;

    if (own.rows == 0)
        return;
#pragma unroll
    for (int k = 0; k < V; k++) {
        sums.sum[k] = sums.sumsq[k] = 0.0f;
        sums.low[k] = FLT_MAX;
        sums.high[k] = -FLT_MAX;
        sums.amax[k] = 0;
    }
    stats_chunk<V, ALL>(&sums, own, g.dtype, g.x, g.channels);
    const int64_t before = own.index * words;
    store_chunk_word<V>(g.workspace, before + W_SUM, g.channels, own.channel, sums.sum);
    if (ALL) {
        float amax[V];
#pragma unroll
        for (int k = 0; k < V; k++)
            amax[k] = oct_f32_of_bits(sums.amax[k]);
        store_chunk_word<V>(g.workspace, before + W_SUMSQ, g.channels, own.channel, sums.sumsq);
        store_chunk_word<V>(g.workspace, before + W_MIN, g.channels, own.channel, sums.low);
        store_chunk_word<V>(g.workspace, before + W_MAX, g.channels, own.channel, sums.high);
        store_chunk_word<V>(g.workspace, before + W_AMAX, g.channels, own.channel, amax);
    }
}

/* The largest word W_AMAX of all chunks by bits, in threads l < MERGE_CHANNELS. */
OCT_DEVICE_INLINE uint32_t merge_amax(const void *workspace, int64_t chunks, int channels)
{
    enum { WAYS = THREADS / MERGE_CHANNELS };
    __shared__ uint32_t largest[MERGE_CHANNELS];
    const int l = (int)threadIdx.x % MERGE_CHANNELS, way = (int)threadIdx.x / MERGE_CHANNELS;
    const int c = (int)blockIdx.x * MERGE_CHANNELS + l;
    uint32_t amax = 0;
    if (way == 0)
        largest[l] = 0;
    __syncthreads();
    for (int64_t at = way; at < chunks && c < channels; at += WAYS)
        amax = max(amax, ((const uint32_t *)workspace)[(at * STATS_WORDS + W_AMAX) * channels + c]);
    atomicMax(&largest[l], amax);
    __syncthreads();
    return largest[l];
}

OCT_KERNEL stats_merge_kernel(const oct_channel_stats_args g)
{
    const int64_t chunks = chunks_of(g.rows);
    const double total = merge_sums<2, STATS_WORDS>(g.workspace, W_SUM, chunks, g.channels);
    const float2 extremes =
        merge_extremes<STATS_WORDS>(g.workspace, W_MIN, W_MAX, chunks, g.channels);
    const uint32_t amax = merge_amax(g.workspace, chunks, g.channels);
    const int s = (int)threadIdx.x / MERGE_CHANNELS;
    const int c = (int)blockIdx.x * MERGE_CHANNELS + (int)threadIdx.x % MERGE_CHANNELS;

    block_raise(g.flag, s == 0 && c < g.channels && amax >= INF_BITS);
    if (c >= g.channels)
        return;
    if (s == 0 && g.sum)
        g.sum[c] = total;
    if (s == 1 && g.sumsq)
        g.sumsq[c] = total;
    if (s == 0 && g.min)
        g.min[c] = extremes.x;
    if (s == 0 && g.max)
        g.max[c] = extremes.y;
    if (s == 0 && g.amax)
        g.amax[c] = float_of_magnitude(amax);
}

template <bool ALL> static void stats_launch(const oct_channel_stats_args &g, cudaStream_t stream)
{
    if (g.channels % CHUNK_V == 0 && is_aligned(g.x) && is_aligned(g.workspace))
        stats_kernel<CHUNK_V, ALL>
            <<<chunk_grid<CHUNK_V>(g.rows, g.channels), CHUNK_THREADS, 0, stream>>>(g);
    else
        stats_kernel<1, ALL><<<chunk_grid<1>(g.rows, g.channels), CHUNK_THREADS, 0, stream>>>(g);
}

extern "C" enum oct_status oct_cuda_channel_stats(
    oct_backend *backend, const struct oct_channel_stats_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_channel_stats(g));
    const bool sums = g->sum || g->sumsq || g->min || g->max;
    if (!sums && g->channels <= OCT_NORM_MAX_CHANNELS)
        return amax_only(cuda, *g);
    stats_launch<true>(*g, cuda->stream);
    OCT_CUDA(cudaGetLastError());
    stats_merge_kernel<<<merge_blocks(g->channels), THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- channel_sum ---- */

OCT_KERNEL sum_merge_kernel(const oct_channel_sum_args g)
{
    const double total = merge_sums<1, 1>(g.workspace, 0, chunks_of(g.rows), g.channels);
    const int c = (int)blockIdx.x * MERGE_CHANNELS + (int)threadIdx.x;
    if (threadIdx.x >= MERGE_CHANNELS || c >= g.channels)
        return;
    const float sum = (float)total;
    g.sum[c] = g.mode == OCT_ACCUMULATE ? g.sum[c] + sum : sum;
}

extern "C" enum oct_status oct_cuda_channel_sum(
    oct_backend *backend, const struct oct_channel_sum_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_channel_sum(g));
    oct_channel_stats_args stats = {};
    stats.rows = g->rows;
    stats.channels = g->channels;
    stats.x = g->x;
    stats.dtype = OCT_F32;
    stats.workspace = g->workspace;
    stats_launch<false>(stats, cuda->stream);
    OCT_CUDA(cudaGetLastError());
    sum_merge_kernel<<<merge_blocks(g->channels), THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- count_above ---- */

/* Counts go to shared memory first, unless there are too many channels for that. */
template <int V>
OCT_DEVICE_INLINE void put_counts(
    const oct_count_above_args &g, uint32_t *shared, int channel, uint32_t (&count)[V])
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (count[k] > 0 && g.channels <= OCT_NORM_MAX_CHANNELS)
            atomicAdd(&shared[channel + k], count[k]);
        else if (count[k] > 0)
            atomicAdd((unsigned long long *)&g.count[channel + k], (unsigned long long)count[k]);
        count[k] = 0;
    }
}

template <int V> OCT_KERNEL count_kernel(const oct_count_above_args g)
{
    extern __shared__ uint32_t shared[];
    walk w = walk_begin<V>(g.rows, g.channels);
    const int channel = w.channel;
    const float limit_all = g.total ? g.threshold_all[0] : INFINITY;
    const bool gather = g.count && g.channels <= OCT_NORM_MAX_CHANNELS;
    uint32_t count[V] = {}, all = 0;
    float limit[V] = {};

    for (int c = threadIdx.x; gather && c < g.channels; c += THREADS)
        shared[c] = 0;
    __syncthreads();
    if (g.count)
        load_floats<V>(limit, OCT_F32, g.threshold, w.channel);
    for (; walk_is_inside<V>(&w); walk_next<V>(&w, g.channels)) {
        float x[V];
        load_floats<V>(x, g.dtype, g.x, w.i);
        if (V == 1 && g.count)
            load_floats<V>(limit, OCT_F32, g.threshold, w.channel);
#pragma unroll
        for (int k = 0; k < V; k++) {
            count[k] += g.count && fabsf(x[k]) > limit[k];
            all += fabsf(x[k]) > limit_all;
        }
        if (V == 1)
            put_counts<V>(g, shared, w.channel, count);
    }
    if (V > 1)
        put_counts<V>(g, shared, channel, count);
    if (g.total)
        block_add(g.total, all);
    __syncthreads();
    for (int c = threadIdx.x; gather && c < g.channels; c += THREADS)
        if (shared[c] > 0)
            atomicAdd((unsigned long long *)&g.count[c], (unsigned long long)shared[c]);
}

extern "C" enum oct_status oct_cuda_count_above(
    oct_backend *backend, const struct oct_count_above_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const bool gather = g->count && g->channels <= OCT_NORM_MAX_CHANNELS;
    OCT_TRY(oct_check_count_above(g));
    if (g->count)
        OCT_CUDA(
            cudaMemsetAsync(g->count, 0, sizeof *g->count * (size_t)g->channels, cuda->stream));
    if (g->total)
        OCT_CUDA(cudaMemsetAsync(g->total, 0, sizeof *g->total, cuda->stream));
    const size_t shared = gather ? sizeof(uint32_t) * (size_t)g->channels : 0;
    if (g->channels % AMAX_V == 0 && is_aligned(g->x) && is_aligned(g->threshold)) {
        const dim3 grid = walk_grid<AMAX_V>(cuda, g->rows, g->channels);
        count_kernel<AMAX_V><<<grid, THREADS, shared, cuda->stream>>>(*g);
    } else {
        const dim3 grid = walk_grid<1>(cuda, g->rows, g->channels);
        count_kernel<1><<<grid, THREADS, shared, cuda->stream>>>(*g);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
