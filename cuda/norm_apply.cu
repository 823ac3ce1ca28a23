/* The second backward pass of normalise-and-activate, the largest elementwise item of a step: reads
 * da and y once and writes both int8 copies of dy, with dz for the residual branch and what the
 * clip rules need. Counts and maxima per channel gather in registers, then in shared memory, and
 * leave a block as one integer atomic a channel. */
#include "backend_check.h"
#include "gate.cuh"

#include "base/bn.h"
#include "base/rng.h"

/* Four channels a thread make one word of codes and of rounding bytes. The kernel of all other
 * combinations has registers for the parameters of two. */
enum { HOT_V = 4, ANY_V = 2, APPLY_BLOCKS = 3, FULL_BLOCKS = 2 };

/* What the kernel is told beside the arguments. */
struct apply_job {
    oct_bn_bwd_apply_args args;
    int channel_statistics;   /* amax or above are wanted: shared memory holds both */
    uint64_t sample_elements; /* of one sample, for the rounding bytes */
};

/* Parameters of a thread's channels. */
template <int V> struct apply_channels {
    float a[V], b[V], ix[V], jx[V], m1[V], m2[V], inverse[V], sigma[V];
};

/* The same for every element. */
struct apply_consts {
    uint32_t key;
    float inverse, sigma_all;
};

template <int V> struct apply_tally {
    uint32_t saturated[2], above_all, above[V];
    float amax[V], stained;
};

template <int V>
OCT_DEVICE_INLINE void load_apply_channels(
    apply_channels<V> *p, const oct_bn_bwd_apply_args &g, enum gate gate, int channel)
{
    load_floats<V>(p->a, OCT_F32, g.a, channel);
    if (gate == GATE_Z)
        load_floats<V>(p->b, OCT_F32, g.b, channel);
    load_floats<V>(p->ix, OCT_F32, g.ix, channel);
    load_floats<V>(p->jx, OCT_F32, g.jx, channel);
    load_floats<V>(p->m1, OCT_F32, g.m1, channel);
    load_floats<V>(p->m2, OCT_F32, g.m2, channel);
#pragma unroll
    for (int k = 0; k < V; k++)
        p->sigma[k] = INFINITY; /* nothing is above */
    if (g.above)
        load_floats<V>(p->sigma, OCT_F32, g.sigma, channel);
    if (!g.q_channel)
        return;
    const bool single = g.range_channel.count == 1;
#pragma unroll
    for (int k = 0; k < V; k++)
        p->inverse[k] = g.range_channel.inverse[single ? 0 : channel + k];
}

OCT_DEVICE_INLINE apply_consts apply_consts_of(const oct_bn_bwd_apply_args &g)
{
    apply_consts consts = {0, 0.0f, 0.0f};
    if (g.q_tensor)
        consts.inverse = g.range_tensor.inverse[0];
    if (g.above_all)
        consts.sigma_all = g.sigma_all[0];
    if (g.rounding == OCT_STOCHASTIC)
        consts.key = oct_rounding_key(g.step->seed, g.step->step, g.tensor);
    return consts;
}

/* Rounding bytes of a vector, lowest first; nearest rounding takes none. */
struct rounding_bytes {
    bool stochastic;
    uint32_t word;
};

/* Codes of dy at i, in one or two planes, on any grid if there is one. */
template <int V, bool PLANES, bool GRID>
OCT_DEVICE_INLINE void put_codes(int8_t *q, int8_t *q_lo, int64_t i, const float (&dy)[V],
    const float (&inverse)[V], enum oct_grid grid, rounding_bytes random, uint32_t *saturated)
{
    const int code_max = PLANES && q_lo ? (int)OCT_CODE16_MAX : (int)OCT_CODE_MAX;
    int code[V];
    if (!PLANES && !GRID && !random.stochastic) {
        put_nearest_codes<V>(q, i, dy, inverse, saturated);
        return;
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        const uint32_t byte = (random.word >> (8 * k)) & 0xffu;
        if (random.stochastic)
            code[k] = oct_quantise_stochastic(dy[k], inverse[k], code_max, byte);
        else if (GRID)
            code[k] = oct_quantise_on(grid, dy[k], inverse[k], code_max);
        else
            code[k] = oct_quantise(dy[k], inverse[k], code_max);
        oct_count_above(saturated, fabsf(dy[k] * inverse[k]), (float)code_max);
    }
    if (PLANES && q_lo) {
        int lo[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            lo[k] = oct_plane_lo(code[k]);
            code[k] = oct_plane_hi(code[k]);
        }
        store_codes<V>(q_lo, i, lo);
    }
    store_codes<V>(q, i, code);
}

template <int V, bool HOT, bool FULL>
OCT_DEVICE_INLINE void apply_codes(const apply_job &job, const apply_consts &consts,
    const apply_channels<V> &channels, int64_t i, const float (&dy)[V], apply_tally<V> *tally)
{
    const oct_bn_bwd_apply_args &g = job.args;
    rounding_bytes random = {g.rounding == OCT_STOCHASTIC, 0};
    float inverse[V];

    if (!HOT && !g.q_channel && !g.q_tensor)
        return;
    if (random.stochastic) {
        const uint64_t first = g.step->first_sample * job.sample_elements;
        const uint64_t element = first + (uint64_t)i;
        random.word = oct_rounding_word(consts.key, element >> 2);
        if (V < 4)
            random.word >>= 8 * (uint32_t)(element & 3);
    }
    if (HOT || g.q_channel)
        put_codes<V, !HOT, FULL>(g.q_channel, g.q_channel_lo, i, dy, channels.inverse,
            g.range_channel.grid, random, &tally->saturated[0]);
#pragma unroll
    for (int k = 0; k < V; k++)
        inverse[k] = consts.inverse;
    if (HOT || g.q_tensor)
        put_codes<V, !HOT, FULL>(g.q_tensor, g.q_tensor_lo, i, dy, inverse, g.range_tensor.grid,
            random, &tally->saturated[1]);
}

/* Writes or adds the vector at i. */
template <int V>
OCT_DEVICE_INLINE void put_values(
    enum oct_dtype dtype, void *to, enum oct_write mode, int64_t i, const float (&values)[V])
{
    float out[V] = {};
    if (mode == OCT_ACCUMULATE)
        load_floats<V>(out, dtype, to, i);
#pragma unroll
    for (int k = 0; k < V; k++)
        out[k] = mode == OCT_ACCUMULATE ? out[k] + values[k] : values[k];
    store_floats<V>(dtype, to, i, out);
}

/* The same where a mask of its own gates the residual branch's dz. */
template <int V>
OCT_DEVICE_INLINE void put_masked_residual(
    const oct_bn_bwd_apply_args &g, int64_t i, const float (&da)[V])
{
    const uint32_t bits = mask_bits(g.residual_mask, i);
    float dz[V];
#pragma unroll
    for (int k = 0; k < V; k++)
        dz[k] = bits >> k & 1u ? da[k] : 0.0f;
    if (g.d_residual)
        put_values<V>(g.d_residual_dtype, g.d_residual, g.d_residual_mode, i, dz);
}

/* Everything that becomes of the vector at i, whose da and y are loaded. */
template <int V, bool HOT, bool FULL>
OCT_DEVICE_INLINE void apply_vector(const apply_job &job, enum gate gate,
    const apply_consts &consts, const apply_channels<V> &channels, int64_t i, float (&dz)[V],
    const float (&y)[V], apply_tally<V> *tally)
{
    const oct_bn_bwd_apply_args &g = job.args;
    const uint32_t bits = gate == GATE_MASK ? mask_bits(g.mask, i) : 0;
    float dy[V];

    if (FULL && g.residual_mask)
        put_masked_residual<V>(g, i, dz);
#pragma unroll
    for (int k = 0; k < V; k++) {
        dz[k] = gate_dz(gate, dz[k], y[k], channels.a[k], channels.b[k], bits >> k & 1u);
        const float xhat = oct_affine(y[k], channels.ix[k], channels.jx[k]);
        dy[k] = oct_bn_dy(dz[k], xhat, channels.a[k], channels.m1[k], channels.m2[k]);
        tally->stained = stain(tally->stained, dy[k]);
        oct_count_above(&tally->above_all, fabsf(dy[k]), consts.sigma_all);
    }
    if (g.d_residual && !(FULL && g.residual_mask))
        put_values<V>(g.d_residual_dtype, g.d_residual, g.d_residual_mode, i, dz);
    if (job.channel_statistics) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            tally->amax[k] = fmaxf(tally->amax[k], fabsf(dy[k])); /* NaN does not count */
            oct_count_above(&tally->above[k], fabsf(dy[k]), channels.sigma[k]);
        }
    }
    if (!HOT && g.dy)
        put_values<V>(g.dy_dtype, g.dy, g.dy_mode, i, dy);
    apply_codes<V, HOT, FULL>(job, consts, channels, i, dy, tally);
}

/* What a thread found in its channels goes to shared memory, amax[channels], above[channels]. */
template <int V>
OCT_DEVICE_INLINE void share_channels(
    uint32_t *shared, int channels, int channel, apply_tally<V> *tally)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (tally->amax[k] > 0.0f)
            atomicMax(&shared[channel + k], oct_bits_of_f32(tally->amax[k]));
        if (tally->above[k] > 0)
            atomicAdd(&shared[channels + channel + k], tally->above[k]);
        tally->amax[k] = 0.0f;
        tally->above[k] = 0;
    }
}

OCT_DEVICE_INLINE void publish_channels(const oct_bn_bwd_apply_args &g, const uint32_t *shared)
{
    __syncthreads();
    for (int c = threadIdx.x; c < g.channels; c += THREADS) {
        if (g.amax && shared[c] > 0)
            atomicMax((uint32_t *)&g.amax[c], shared[c]);
        if (g.above && shared[g.channels + c] > 0)
            atomicAdd(
                (unsigned long long *)&g.above[c], (unsigned long long)shared[g.channels + c]);
    }
}

template <int V>
OCT_DEVICE_INLINE void publish_tally(const oct_bn_bwd_apply_args &g, const apply_tally<V> &tally)
{
    block_raise(g.flag, is_stained(tally.stained));
    if (g.above_all)
        block_add(g.above_all, tally.above_all);
    if (g.saturated) {
        block_add(&g.saturated[0], tally.saturated[0]);
        block_add(&g.saturated[1], tally.saturated[1]);
    }
}

/* Vector after vector, the loads of the next under way while one is worked on. */
template <int V, int DTYPE, bool HOT, bool FULL>
OCT_DEVICE_INLINE void apply_vectors(const apply_job &job, enum gate gate,
    const apply_consts &consts, const apply_channels<V> &channels, walk w, apply_tally<V> *tally)
{
    const oct_bn_bwd_apply_args &g = job.args;
    const int da_dtype = DTYPE == ANY ? (int)g.da_dtype : DTYPE;
    const int y_dtype = DTYPE == ANY ? (int)g.y_dtype : DTYPE;
    packed<V> da = {}, y = {};
    bool inside = walk_is_inside<V>(&w);

    if (inside) {
        da = load_packed<V>(da_dtype, g.da, w.i);
        y = load_packed<V>(y_dtype, g.y, w.i);
    }
    while (inside) {
        const int64_t i = w.i;
        float dz[V], y_now[V];
        unpack<V>(dz, da_dtype, da);
        unpack<V>(y_now, y_dtype, y);
        walk_next<V>(&w, g.channels);
        inside = walk_is_inside<V>(&w);
        if (inside) {
            da = load_packed<V>(da_dtype, g.da, w.i);
            y = load_packed<V>(y_dtype, g.y, w.i);
        }
        apply_vector<V, HOT, FULL>(job, gate, consts, channels, i, dz, y_now, tally);
    }
}

/* One element after the other, each with its channel's parameters. */
template <int V, bool FULL>
OCT_DEVICE_INLINE void apply_singles(const apply_job &job, enum gate gate,
    const apply_consts &consts, uint32_t *shared, walk w, apply_tally<V> *tally)
{
    const oct_bn_bwd_apply_args &g = job.args;
    apply_channels<V> channels = {};
    for (; walk_is_inside<V>(&w); walk_next<V>(&w, g.channels)) {
        float dz[V], y[V];
        load_floats<V>(dz, g.da_dtype, g.da, w.i);
        load_floats<V>(y, g.y_dtype, g.y, w.i);
        load_apply_channels<V>(&channels, g, gate, w.channel);
        apply_vector<V, false, FULL>(job, gate, consts, channels, w.i, dz, y, tally);
        if (job.channel_statistics)
            share_channels<V>(shared, g.channels, w.channel, tally);
    }
}

/* HOT: bf16 tensors, both copies in one plane and no float copy. Three blocks leave 80 registers
 * for the parameters of four channels. FULL: grids, and a mask of the residual branch; two blocks
 * leave 128 registers. */
template <int V, int DTYPE, int GATE, bool HOT, bool FULL = false>
OCT_KERNEL_OF(FULL ? FULL_BLOCKS : APPLY_BLOCKS)
apply_kernel(const apply_job job)
{
    extern __shared__ uint32_t shared[];
    const oct_bn_bwd_apply_args &g = job.args;
    const enum gate gate = GATE == ANY ? gate_of(g.relu, g.mask) : (enum gate)GATE;
    const apply_consts consts = apply_consts_of(g);
    apply_tally<V> tally = {};
    const walk w = walk_begin<V>(g.rows, g.channels);

    for (int c = threadIdx.x; job.channel_statistics && c < 2 * g.channels; c += THREADS)
        shared[c] = 0;
    __syncthreads();
    if constexpr (V == 1) {
        apply_singles<V, FULL>(job, gate, consts, shared, w, &tally);
    } else {
        apply_channels<V> channels = {};
        load_apply_channels<V>(&channels, g, gate, w.channel);
        apply_vectors<V, DTYPE, HOT, FULL>(job, gate, consts, channels, w, &tally);
        if (job.channel_statistics)
            share_channels<V>(shared, g.channels, w.channel, &tally);
    }
    if (job.channel_statistics)
        publish_channels(g, shared);
    publish_tally<V>(g, tally);
}

static bool apply_is_aligned(const oct_bn_bwd_apply_args *g, int v)
{
    const void *const all[] = {g->da, g->y, g->a, g->b, g->ix, g->jx, g->m1, g->m2, g->q_channel,
        g->q_channel_lo, g->q_tensor, g->q_tensor_lo, g->dy, g->d_residual, g->sigma};
    bool aligned = g->channels % v == 0;
    for (const void *p : all)
        aligned = aligned && is_aligned(p);
    return aligned;
}

static void apply_launch_full(const struct oct_cuda *cuda, const apply_job &job, size_t shared)
{
    const oct_bn_bwd_apply_args &g = job.args;
    if (apply_is_aligned(&g, HOT_V)) {
        const dim3 grid = walk_grid<HOT_V>(cuda, g.rows, g.channels, FULL_BLOCKS);
        apply_kernel<HOT_V, ANY, ANY, false, true><<<grid, THREADS, shared, cuda->stream>>>(job);
    } else {
        const dim3 grid = walk_grid<1>(cuda, g.rows, g.channels, FULL_BLOCKS);
        apply_kernel<1, ANY, ANY, false, true><<<grid, THREADS, shared, cuda->stream>>>(job);
    }
}

static void apply_launch(const struct oct_cuda *cuda, const apply_job &job)
{
    const oct_bn_bwd_apply_args &g = job.args;
    const size_t shared = job.channel_statistics ? 2 * sizeof(uint32_t) * (size_t)g.channels : 0;
    const bool hot = g.da_dtype == OCT_BF16 && g.y_dtype == OCT_BF16 && g.q_channel && g.q_tensor &&
                     !g.q_channel_lo && !g.q_tensor_lo && !g.dy;
    const enum gate gate = gate_of(g.relu, g.mask);
    const bool on_grid = (g.q_channel && g.range_channel.grid != OCT_GRID_UNIFORM) ||
                         (g.q_tensor && g.range_tensor.grid != OCT_GRID_UNIFORM);
    if (on_grid || g.residual_mask) {
        apply_launch_full(cuda, job, shared);
        return;
    }
    if (hot && apply_is_aligned(&g, HOT_V)) {
        const dim3 grid = walk_grid<HOT_V>(cuda, g.rows, g.channels, APPLY_BLOCKS);
        if (gate == GATE_Z)
            apply_kernel<HOT_V, OCT_BF16, GATE_Z, true>
                <<<grid, THREADS, shared, cuda->stream>>>(job);
        else if (gate == GATE_MASK)
            apply_kernel<HOT_V, OCT_BF16, GATE_MASK, true>
                <<<grid, THREADS, shared, cuda->stream>>>(job);
        else
            apply_kernel<HOT_V, OCT_BF16, GATE_OPEN, true>
                <<<grid, THREADS, shared, cuda->stream>>>(job);
    } else if (apply_is_aligned(&g, ANY_V)) {
        const dim3 pairs = walk_grid<ANY_V>(cuda, g.rows, g.channels, APPLY_BLOCKS);
        apply_kernel<ANY_V, ANY, ANY, false><<<pairs, THREADS, shared, cuda->stream>>>(job);
    } else {
        const dim3 singles = walk_grid<1>(cuda, g.rows, g.channels, APPLY_BLOCKS);
        apply_kernel<1, ANY, ANY, false><<<singles, THREADS, shared, cuda->stream>>>(job);
    }
}

extern "C" enum oct_status oct_cuda_bn_bwd_apply(
    oct_backend *backend, const struct oct_bn_bwd_apply_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const size_t channels = (size_t)(g->channels > 0 ? g->channels : 0);

    OCT_TRY(oct_check_bn_bwd_apply(g));
    if (g->amax)
        OCT_CUDA(cudaMemsetAsync(g->amax, 0, channels * sizeof *g->amax, cuda->stream));
    if (g->above)
        OCT_CUDA(cudaMemsetAsync(g->above, 0, channels * sizeof *g->above, cuda->stream));
    if (g->above_all)
        OCT_CUDA(cudaMemsetAsync(g->above_all, 0, sizeof *g->above_all, cuda->stream));
    if (g->rows == 0)
        return OCT_OK;
    const apply_job job = {
        *g, g->amax || g->above, (uint64_t)g->rows_per_sample * (uint64_t)g->channels};
    apply_launch(cuda, job);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
