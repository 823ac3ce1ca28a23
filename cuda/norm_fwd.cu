/* Forward of normalise-and-activate: bn_finalize, one block over the channels, and act_fwd, one
 * pass over the pixels that reads y (and the residual) once and writes every output. */
#include "backend_check.h"
#include "elementwise.cuh"

#include "base/bn.h"

#include <limits.h>

/* ---- stats_clear ---- */

OCT_KERNEL clear_kernel(const oct_acc_stats stats, int channels)
{
    for (int c = blockIdx.x * THREADS + threadIdx.x; c < channels; c += gridDim.x * THREADS) {
        stats.sum[c] = 0;
        stats.sumsq[c] = 0;
        stats.min[c] = LLONG_MAX;
        stats.max[c] = LLONG_MIN;
    }
}

extern "C" enum oct_status oct_cuda_stats_clear(
    oct_backend *backend, const struct oct_acc_stats *stats, int channels)
{
    const int blocks = (channels + THREADS - 1) / THREADS;
    if (channels < 1)
        return OCT_OK;
    clear_kernel<<<blocks, THREADS, 0, oct_cuda_of(backend)->stream>>>(*stats, channels);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- bn_finalize ---- */

/* The argument struct with the statistics it points to: kernels take it by value. */
struct finalize_job {
    oct_bn_finalize_args args;
    oct_acc_stats acc;
};

OCT_DEVICE_INLINE float multiplier_of(const oct_bn_finalize_args &g, int c)
{
    return g.x_scale[0] * g.w_scale[g.w_scale_per_k ? c : 0];
}

OCT_DEVICE_INLINE oct_bn_moments moments_of(const finalize_job &job, int c)
{
    const oct_bn_finalize_args &g = job.args;
    if (!g.training) {
        const oct_bn_moments running = {(double)g.running_mean[c], (double)g.running_var[c]};
        return running;
    }
    if (!g.acc)
        return oct_bn_moments_of_sums(g.sum[c], g.sumsq[c], g.count);
    return oct_bn_moments_of_acc(
        job.acc.sum[c], job.acc.sumsq[c], job.acc.shift, g.count, multiplier_of(g, c));
}

/* z = fl(fl(last.x t) + last.y) with t = y, or xhat on its grid. */
OCT_DEVICE_INLINE void find_extremes(
    const finalize_job &job, const oct_bn_affine &affine, float2 last, int c)
{
    const oct_bn_finalize_args &g = job.args;
    float low, high;
    if (g.acc) {
        const float multiplier = multiplier_of(g, c);
        low = oct_bn_y_of_acc(job.acc.min[c], multiplier, g.y_dtype == OCT_BF16);
        high = oct_bn_y_of_acc(job.acc.max[c], multiplier, g.y_dtype == OCT_BF16);
    } else {
        low = g.y_min[c];
        high = g.y_max[c];
    }
    if (g.xhat_max)
        g.xhat_max[c] = oct_bn_affine_max(affine.ix, affine.jx, low, high, 0);
    if (g.rounding.xhat > 0.0f) { /* rounding is monotonic: the extremes stay at the ends */
        low = oct_bn_xhat_rounded(low, affine.ix, affine.jx, g.rounding.xhat);
        high = oct_bn_xhat_rounded(high, affine.ix, affine.jx, g.rounding.xhat);
    }
    if (g.z_amax && !g.clip_lo)
        g.z_amax[c] = oct_bn_affine_max(last.x, last.y, low, high, g.relu);
}

/* What a clipped channel is known for before its y is there. */
OCT_DEVICE_INLINE void find_clip(const oct_bn_finalize_args &g, int c)
{
    const oct_bn_clip clip = oct_bn_clip_of(g.gamma[c], g.beta[c], g.sigmas, g.relu);
    g.clip_lo[c] = clip.lo;
    g.clip_hi[c] = clip.hi;
    if (g.z_amax)
        g.z_amax[c] = oct_bn_clip_max(clip);
}

/* One block: the running statistics wait for the verdict over all channels. */
OCT_KERNEL_OF(1) finalize_kernel(const finalize_job job)
{
    const oct_bn_finalize_args &g = job.args;
    const uint32_t flagged = g.training ? *g.flag : 0;
    bool strange = false;

    for (int c = threadIdx.x; c < g.channels; c += THREADS) {
        const oct_bn_moments moments = moments_of(job, c);
        const bool rounds = g.rounding.xhat > 0.0f;
        const float gamma = rounds ? oct_on_grid(g.gamma[c], g.rounding.affine) : g.gamma[c];
        const float beta = rounds ? oct_on_grid(g.beta[c], g.rounding.affine) : g.beta[c];
        const oct_bn_affine affine = rounds
                                         ? oct_bn_affine_rounded(moments, gamma, beta, g.rounding)
                                         : oct_bn_affine_of(moments, gamma, beta, g.eps);
        float2 last = make_float2(affine.a, affine.b);
        if (rounds) {
            g.gamma_q[c] = last.x = gamma;
            g.beta_q[c] = last.y = beta;
        }
        g.a[c] = affine.a;
        g.b[c] = affine.b;
        g.ix[c] = affine.ix;
        g.jx[c] = affine.jx;
        if (g.clip_lo)
            find_clip(g, c);
        if (g.xhat_max || (g.z_amax && !g.clip_lo))
            find_extremes(job, affine, last, c);
        if (g.training) {
            strange |= oct_not_finite((float)moments.mean);
            strange |= oct_not_finite(oct_bn_unbiased(moments.var, g.count));
        }
    }
    if (!g.training)
        return;
    const int any = __syncthreads_or(strange);
    if (any && threadIdx.x == 0)
        *g.flag = flagged | 1u;
    if (any || flagged)
        return;
    for (int c = threadIdx.x; c < g.channels; c += THREADS) {
        const oct_bn_moments moments = moments_of(job, c);
        const float var = oct_bn_unbiased(moments.var, g.count);
        g.running_mean[c] = oct_bn_running(g.running_mean[c], (float)moments.mean, g.momentum);
        g.running_var[c] = oct_bn_running(g.running_var[c], var, g.momentum);
    }
}

extern "C" enum oct_status oct_cuda_bn_finalize(
    oct_backend *backend, const struct oct_bn_finalize_args *g)
{
    finalize_job job = {*g, {}};
    OCT_TRY(oct_check_bn_finalize(g));
    if (g->acc)
        job.acc = *g->acc;
    finalize_kernel<<<1, THREADS, 0, oct_cuda_of(backend)->stream>>>(job);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- act_fwd ---- */

enum { ACT_V = 8 }; /* channels a thread: 16 bytes of bf16, 8 of codes, one byte of the mask */

/* FULL kernels know clips of channels, a rounded xhat, a count of y and grids; two blocks leave
 * them 128 registers. The others stay as small as they are without. */
constexpr int act_blocks(bool full)
{
    return full ? 2 : KERNEL_BLOCKS;
}

template <int V, bool FULL> struct act_channels {
    float a[V], b[V];
};

/* A channel is clipped to [p, q], or has xhat = p y + q rounded. */
template <int V> struct act_channels<V, true> {
    float a[V], b[V], p[V], q[V];
};

template <int V, bool FULL>
OCT_DEVICE_INLINE void load_act_channels(
    act_channels<V, FULL> *channels, const oct_act_fwd_args &g, int channel)
{
    if (!g.a)
        return;
    load_floats<V>(channels->a, OCT_F32, g.a, channel);
    load_floats<V>(channels->b, OCT_F32, g.b, channel);
    if constexpr (FULL) {
        if (g.clip_lo) {
            load_floats<V>(channels->p, OCT_F32, g.clip_lo, channel);
            load_floats<V>(channels->q, OCT_F32, g.clip_hi, channel);
        } else if (g.xhat_steps > 0.0f) {
            load_floats<V>(channels->p, OCT_F32, g.ix, channel);
            load_floats<V>(channels->q, OCT_F32, g.jx, channel);
        }
    }
}

/* What a thread found. */
struct act_tally {
    float amax, stained;
    uint32_t saturated, clipped, y_above;
};

/* u clipped to its channel's range; the bit says whether it was inside. */
OCT_DEVICE_INLINE float act_clip(float u, float lo, float hi, uint32_t *inside, act_tally *tally)
{
    tally->stained = stain(tally->stained, u);
    tally->clipped += u > hi || (u < lo && lo != 0.0f);
    *inside = u > lo && u < hi;
    const float raised = u > lo ? u : lo;
    return raised < hi ? raised : hi;
}

/* z of the vector at i; its sign bits go to the mask by the caller. */
template <int V, int Y, int RESIDUAL, bool FULL>
OCT_DEVICE_INLINE uint32_t act_values(float (&z)[V], const oct_act_fwd_args &g, int64_t i,
    const act_channels<V, FULL> &channels, float residual_scale, act_tally *tally)
{
    const int residual_dtype = RESIDUAL == ANY ? (int)g.residual_dtype : RESIDUAL;
    float r[V] = {};
    uint32_t bits = 0;

    load_floats<V>(z, Y == ANY ? (int)g.y_dtype : Y, g.y, i);
    if (RESIDUAL != NONE && g.residual)
        load_floats<V>(r, residual_dtype, g.residual, i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        uint32_t inside = 0;
        if (FULL && g.y_above)
            tally->y_above += fabsf(z[k]) > g.y_limit;
        if constexpr (FULL) {
            if (g.xhat_steps > 0.0f)
                z[k] = oct_bn_xhat_rounded(z[k], channels.p[k], channels.q[k], g.xhat_steps);
        }
        if (g.a)
            z[k] = oct_affine(z[k], channels.a[k], channels.b[k]);
        if constexpr (FULL) {
            if (g.clip_lo)
                z[k] = act_clip(z[k], channels.p[k], channels.q[k], &inside, tally);
        }
        if (RESIDUAL != NONE && g.residual)
            z[k] = z[k] + (residual_dtype == OCT_S8 ? r[k] * residual_scale : r[k]);
        tally->stained = stain(tally->stained, z[k]);
        if (g.relu)
            z[k] = z[k] > 0.0f ? z[k] : 0.0f;
        bits |= (inside && (!g.relu || z[k] > 0.0f) ? 1u : 0u) << k;
    }
    return bits;
}

/* Bits of V = 8 are a byte of one thread; of V = 1, those of 8 threads. */
template <int V>
OCT_DEVICE_INLINE void store_bits(uint8_t *mask, int64_t i, uint32_t bits, bool live)
{
    if constexpr (V == 1) {
        bits = __ballot_sync(0xffffffffu, live && bits) >> (threadIdx.x % WARP);
        live = live && i % 8 == 0;
    }
    if (live)
        mask[i / 8] = (uint8_t)bits;
}

template <int V> OCT_DEVICE_INLINE uint32_t sign_bits(const float (&z)[V])
{
    uint32_t bits = 0;
#pragma unroll
    for (int k = 0; k < V; k++)
        bits |= (uint32_t)(z[k] > 0.0f) << k;
    return bits;
}

template <int V>
OCT_DEVICE_INLINE void put_grid_codes(
    const oct_act_fwd_args &g, int64_t i, const float (&z)[V], float inverse, act_tally *tally)
{
    int code[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        code[k] = oct_quantise_on(g.x_range.grid, z[k], inverse, OCT_CODE_MAX);
        oct_count_above(&tally->saturated, fabsf(z[k] * inverse), (float)OCT_CODE_MAX);
    }
    store_codes<V>((int8_t *)g.x, i, code);
}

template <int V, int X, bool FULL>
OCT_DEVICE_INLINE void act_outputs(
    const oct_act_fwd_args &g, int64_t i, const float (&z)[V], float inverse, act_tally *tally)
{
    if (g.trunk)
        store_floats<V>(g.trunk_dtype, g.trunk, i, z);
    if (X == NONE || (X == ANY && !g.x))
        return;
    if (X == OCT_S8 || g.x_dtype == OCT_S8) {
        float inverses[V];
#pragma unroll
        for (int k = 0; k < V; k++)
            inverses[k] = inverse;
        if (FULL && g.x_range.grid != OCT_GRID_UNIFORM)
            put_grid_codes<V>(g, i, z, inverse, tally);
        else
            put_nearest_codes<V>((int8_t *)g.x, i, z, inverses, &tally->saturated);
    } else {
        store_floats<V>(g.x_dtype, g.x, i, z);
    }
}

template <int V, int Y, int RESIDUAL, int X, bool FULL = false>
OCT_KERNEL_OF(act_blocks(FULL))
act_kernel(const oct_act_fwd_args g)
{
    act_tally tally = {0.0f, 0.0f, 0, 0, 0};
    act_channels<V, FULL> channels = {};
    walk w = walk_begin<V>(g.rows, g.channels);
    const bool codes = g.x && g.x_dtype == OCT_S8;
    const float inverse = X == OCT_S8 || codes ? g.x_range.inverse[0] : 0.0f;
    const bool scaled = RESIDUAL == OCT_S8 || (RESIDUAL == ANY && g.residual && g.residual_scale);
    const float residual_scale = scaled ? g.residual_scale[0] : 1.0f;

    if (V > 1)
        load_act_channels<V, FULL>(&channels, g, w.channel);
    for (; walk_goes_on<V>(&w); walk_next<V>(&w, g.channels)) {
        const bool live = walk_is_inside<V>(&w);
        float z[V] = {};
        uint32_t inside = 0;
        if (live) {
            if (V == 1)
                load_act_channels<V, FULL>(&channels, g, w.channel);
            inside = act_values<V, Y, RESIDUAL, FULL>(z, g, w.i, channels, residual_scale, &tally);
            act_outputs<V, X, FULL>(g, w.i, z, inverse, &tally);
        }
        if (g.mask)
            store_bits<V>(g.mask, w.i, sign_bits<V>(z), live);
        if (FULL && g.inside)
            store_bits<V>(g.inside, w.i, inside, live);
        if (g.amax) {
#pragma unroll
            for (int k = 0; k < V; k++)
                tally.amax = fmaxf(tally.amax, fabsf(z[k])); /* NaN does not count */
        }
    }
    block_raise(g.flag, is_stained(tally.stained));
    if (g.amax) {
        const uint32_t bits = block_max(oct_bits_of_f32(tally.amax));
        if (threadIdx.x == 0 && bits > 0)
            atomicMax((uint32_t *)g.amax, bits);
    }
    if (g.saturated)
        block_add(g.saturated, tally.saturated);
    if (FULL && g.clipped)
        block_add(g.clipped, tally.clipped);
    if (FULL && g.y_above)
        block_add(g.y_above, tally.y_above);
}

/* Without a and b nothing depends on the channel: one long row of vectors. */
static void flatten(oct_act_fwd_args *g)
{
    const int64_t elements = g->rows * g->channels;
    g->channels = elements % ACT_V == 0 ? (int)ACT_V : 1;
    g->rows = elements / g->channels;
}

static bool act_is_aligned(const oct_act_fwd_args *g)
{
    return g->channels % ACT_V == 0 && is_aligned(g->y) && is_aligned(g->a) && is_aligned(g->b) &&
           is_aligned(g->residual) && is_aligned(g->x) && is_aligned(g->trunk) &&
           is_aligned(g->clip_lo) && is_aligned(g->clip_hi) &&
           (!(g->xhat_steps > 0.0f) || (is_aligned(g->ix) && is_aligned(g->jx)));
}

static void act_launch_full(const struct oct_cuda *cuda, const oct_act_fwd_args &g)
{
    const int blocks = act_blocks(true);
    if (act_is_aligned(&g)) {
        const dim3 grid = walk_grid<ACT_V>(cuda, g.rows, g.channels, blocks);
        act_kernel<ACT_V, ANY, ANY, ANY, true><<<grid, THREADS, 0, cuda->stream>>>(g);
    } else {
        const dim3 grid = walk_grid<1>(cuda, g.rows, g.channels, blocks);
        act_kernel<1, ANY, ANY, ANY, true><<<grid, THREADS, 0, cuda->stream>>>(g);
    }
}

static void act_launch(const struct oct_cuda *cuda, const oct_act_fwd_args &g)
{
    const bool codes = g.y_dtype == OCT_BF16 && g.x && g.x_dtype == OCT_S8;
    const bool on_grid = g.x && g.x_dtype == OCT_S8 && g.x_range.grid != OCT_GRID_UNIFORM;
    if (g.clip_lo || g.y_above || on_grid || g.xhat_steps > 0.0f) {
        act_launch_full(cuda, g);
        return;
    }
    if (!act_is_aligned(&g)) {
        const dim3 grid = walk_grid<1>(cuda, g.rows, g.channels);
        act_kernel<1, ANY, ANY, ANY><<<grid, THREADS, 0, cuda->stream>>>(g);
        return;
    }
    const dim3 grid = walk_grid<ACT_V>(cuda, g.rows, g.channels);
    if (g.y_dtype == OCT_BF16 && g.residual && g.residual_dtype == OCT_S8 && !g.x)
        act_kernel<ACT_V, OCT_BF16, OCT_S8, NONE><<<grid, THREADS, 0, cuda->stream>>>(g);
    else if (codes && !g.residual)
        act_kernel<ACT_V, OCT_BF16, NONE, OCT_S8><<<grid, THREADS, 0, cuda->stream>>>(g);
    else if (codes && g.residual_dtype == OCT_S8)
        act_kernel<ACT_V, OCT_BF16, OCT_S8, OCT_S8><<<grid, THREADS, 0, cuda->stream>>>(g);
    else if (codes && g.residual_dtype == OCT_BF16)
        act_kernel<ACT_V, OCT_BF16, OCT_BF16, OCT_S8><<<grid, THREADS, 0, cuda->stream>>>(g);
    else
        act_kernel<ACT_V, ANY, ANY, ANY><<<grid, THREADS, 0, cuda->stream>>>(g);
}

extern "C" enum oct_status oct_cuda_act_fwd(oct_backend *backend, const struct oct_act_fwd_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    oct_act_fwd_args args = *g;

    OCT_TRY(oct_check_act_fwd(g));
    if (g->amax)
        OCT_CUDA(cudaMemsetAsync(g->amax, 0, sizeof *g->amax, cuda->stream));
    if (g->rows == 0)
        return OCT_OK;
    if (!g->a)
        flatten(&args);
    if (args.rows > INT32_MAX)
        return oct_fail(OCT_SHAPE,
            "act_fwd: %lld pixels of %d channels are more than the cuda backend takes: use a "
            "smaller batch",
            (long long)g->rows, g->channels);
    act_launch(cuda, args);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
