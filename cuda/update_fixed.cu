/* SGD in fixed point, four parameters a thread at a time: the largest gradient of the tensor where
 * it is normalised, then the update. Predicated on the step's flag, like sgd. */
#include "backend_check.h"
#include "elementwise.cuh"

#include "base/rng.h"

enum { FIXED_V = 4 }; /* one word of rounding bytes */

/* Groups of FIXED_V parameters; those of a group are moved at once if `aligned` and all there. */
struct groups {
    int64_t count;
    bool aligned;
};

OCT_DEVICE_INLINE int inside_of(const groups &r, int64_t i)
{
    return r.count - i < FIXED_V ? (int)(r.count - i) : FIXED_V;
}

/* Parameters i..i+FIXED_V-1; those beyond the end read as 0. */
OCT_DEVICE_INLINE void load_group(float (&out)[FIXED_V], const groups &r, const float *x, int64_t i)
{
    const int inside = inside_of(r, i);
    if (r.aligned && inside == FIXED_V) {
        load_floats<FIXED_V>(out, OCT_F32, x, i);
        return;
    }
#pragma unroll
    for (int k = 0; k < FIXED_V; k++)
        out[k] = k < inside ? x[i + k] : 0.0f;
}

OCT_DEVICE_INLINE void store_group(
    const groups &r, float *x, int64_t i, const float (&value)[FIXED_V])
{
    const int inside = inside_of(r, i);
    if (r.aligned && inside == FIXED_V) {
        store_floats<FIXED_V>(OCT_F32, x, i, value);
        return;
    }
#pragma unroll
    for (int k = 0; k < FIXED_V; k++)
        if (k < inside)
            x[i + k] = value[k];
}

OCT_KERNEL fixed_clear_kernel(const oct_sgd_fixed_args g)
{
    if (g.step->flag != 0)
        return;
    if (g.normalise)
        g.gradient_amax[0] = 0.0f;
    if (g.amax)
        g.amax[0] = 0.0f;
}

OCT_DEVICE_INLINE void publish_amax(float *amax, uint32_t mine)
{
    const uint32_t largest = block_max(mine);
    if (threadIdx.x == 0 && largest >= MIN_NORMAL_BITS)
        atomicMax((uint32_t *)amax, largest);
}

OCT_KERNEL fixed_amax_kernel(const oct_sgd_fixed_args g, const groups r)
{
    if (g.step->flag != 0)
        return;
    const int64_t step = (int64_t)gridDim.x * THREADS * FIXED_V;
    uint32_t amax = 0;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * FIXED_V; i < r.count;
         i += step) {
        float w[FIXED_V], dw[FIXED_V];
        load_group(w, r, g.w, i);
        load_group(dw, r, g.dw, i);
#pragma unroll
        for (int k = 0; k < FIXED_V; k++)
            amax = max(amax, magnitude_of(oct_fixed_gradient(w[k], dw[k], g.weight_decay)));
    }
    publish_amax(g.gradient_amax, amax);
}

/* What a thread needs beside its parameters, and what it gathers. */
struct fixed_state {
    oct_fixed_rates rates;
    float inverse, range, unit;
    uint32_t key, increment_key;
    uint32_t amax, largest, momentum, zeros;
};

OCT_DEVICE_INLINE fixed_state fixed_state_of(const oct_sgd_fixed_args &g)
{
    fixed_state s = {};
    s.rates = {oct_sgd_lr(g.step->lr, g.lr_factor), g.mu, g.weight_decay, g.momentum_steps,
        g.weight_steps, g.increment,
        g.increment == OCT_INCREMENT_GRID ? g.unit[0] : g.momentum_unit, g.nesterov};
    s.unit = 1.0f / g.gradient_steps;
    s.key = oct_rounding_key(g.step->seed, g.step->step, g.tensor);
    s.increment_key = oct_rounding_key(g.step->seed, g.step->step, g.tensor + OCT_INCREMENT_BITS);
    if (g.normalise) {
        s.range = g.step->gradient_range;
        s.inverse = oct_fixed_inverse(g.gradient_amax[0], s.range);
        if (g.normalise == OCT_NORMALISED_KEPT)
            s.unit = oct_fixed_keep(&s.rates, s.inverse, g.gradient_steps);
    }
    return s;
}

template <bool NORMALISE>
OCT_DEVICE_INLINE void fixed_group(
    const oct_sgd_fixed_args &g, const groups &r, int64_t i, fixed_state *s)
{
    const int inside = inside_of(r, i);
    const uint32_t word = NORMALISE ? oct_rounding_word(s->key, (uint64_t)i >> 2) : 0;
    const uint32_t other = oct_rounding_word(s->increment_key, (uint64_t)i >> 2);
    float w[FIXED_V], momentum[FIXED_V], dw[FIXED_V];
    load_group(w, r, g.w, i);
    load_group(momentum, r, g.momentum, i);
    load_group(dw, r, g.dw, i);
#pragma unroll
    for (int k = 0; k < FIXED_V; k++) {
        float gradient = oct_fixed_gradient(w[k], dw[k], s->rates.weight_decay);
        if (NORMALISE) {
            const uint32_t byte = (word >> (8 * k)) & 0xffu;
            const int code = oct_fixed_code(gradient, s->inverse, s->range, byte);
            s->largest = max(s->largest, (uint32_t)(code < 0 ? -code : code));
            s->zeros += k < inside && code == 0;
            gradient = (float)code * s->unit;
        } else {
            gradient = oct_on_grid(gradient, g.gradient_steps);
        }
        oct_fixed_element(&w[k], &momentum[k], gradient, s->rates, (other >> (8 * k)) & 0xffu);
        s->amax = max(s->amax, k < inside ? magnitude_of(w[k]) : 0u);
        s->momentum = max(s->momentum, k < inside ? magnitude_of(momentum[k]) : 0u);
    }
    store_group(r, g.w, i, w);
    store_group(r, g.momentum, i, momentum);
}

OCT_DEVICE_INLINE void publish_counts(const oct_sgd_fixed_args &g, const fixed_state &s)
{
    const uint32_t largest = block_max(s.largest), momentum = block_max(s.momentum);
    block_add(&g.counts[OCT_FIXED_ZEROS], s.zeros);
    if (threadIdx.x != 0)
        return;
    const float magnitude = oct_f32_of_bits(momentum < MIN_NORMAL_BITS ? 0u : momentum);
    atomicMax((unsigned long long *)&g.counts[OCT_FIXED_LARGEST], (unsigned long long)largest);
    atomicMax((unsigned long long *)&g.counts[OCT_FIXED_MOMENTUM],
        (unsigned long long)oct_fixed_steps_of(magnitude, s.rates.momentum_steps));
}

template <bool NORMALISE> OCT_KERNEL fixed_kernel(const oct_sgd_fixed_args g, const groups r)
{
    if (g.step->flag != 0)
        return;
    const int64_t step = (int64_t)gridDim.x * THREADS * FIXED_V;
    fixed_state s = fixed_state_of(g);
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * FIXED_V; i < r.count;
         i += step)
        fixed_group<NORMALISE>(g, r, i, &s);
    if (g.amax)
        publish_amax(g.amax, s.amax);
    if (g.counts)
        publish_counts(g, s);
}

extern "C" enum oct_status oct_cuda_sgd_fixed(
    oct_backend *backend, const struct oct_sgd_fixed_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const groups r = {g->count, is_aligned(g->w) && is_aligned(g->momentum) && is_aligned(g->dw)};
    const int64_t most = (int64_t)cuda->multiprocessors * KERNEL_BLOCKS;
    const int64_t blocks = (g->count + THREADS * FIXED_V - 1) / (THREADS * FIXED_V);
    const unsigned grid = (unsigned)(blocks < most ? blocks : most);

    OCT_TRY(oct_check_sgd_fixed(g));
    if (g->normalise || g->amax) {
        fixed_clear_kernel<<<1, 1, 0, cuda->stream>>>(*g);
        OCT_CUDA(cudaGetLastError());
    }
    if (g->count < 1)
        return OCT_OK;
    if (g->normalise) {
        fixed_amax_kernel<<<grid, THREADS, 0, cuda->stream>>>(*g, r);
        OCT_CUDA(cudaGetLastError());
        fixed_kernel<true><<<grid, THREADS, 0, cuda->stream>>>(*g, r);
    } else {
        fixed_kernel<false><<<grid, THREADS, 0, cuda->stream>>>(*g, r);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
