/* Integer-only activations: the coefficients from the scales (base/shift.h), and one pass over
 * elements without a float but for the scale of the largest result. */
#include "backend_check.h"
#include "elementwise.cuh"

#include "base/shift.h"

/* ---- shift_finalize ---- */

/* The argument struct with the statistics it points to: kernels take it by value. */
struct shift_job {
    oct_shift_finalize_args args;
    oct_acc_stats acc;
};

OCT_DEVICE_INLINE oct_shift_problem problem_of(const oct_shift_finalize_args &g)
{
    oct_shift_problem p;
    p.has_scale = g.scale != NULL;
    p.has_residual = g.residual_scale != NULL;
    p.window = g.window;
    p.scale = g.scale ? g.scale[0] : 1.0f;
    p.y_unit = g.w_scale ? g.y_scale[0] * g.w_scale[0] : g.y_scale[0];
    p.residual_unit = g.residual_scale ? g.residual_scale[0] : 0.0f;
    p.x_unit = g.x_scale[0];
    return p;
}

/* Every thread makes the coefficients for itself; one writes those of the tensor. */
OCT_KERNEL shift_kernel(const oct_shift_finalize_args g)
{
    const oct_shift_problem problem = problem_of(g);
    const oct_shift_plan plan = oct_shift_plan_of(&problem);
    const int thread = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (thread == 0) {
        g.shift.by[OCT_SHIFT_MULTIPLIER] = plan.multiplier;
        g.shift.by[OCT_SHIFT_Y] = plan.by_y;
        g.shift.by[OCT_SHIFT_RESIDUAL] = plan.by_residual;
        g.shift.by[OCT_SHIFT_RIGHT] = plan.right;
        g.shift.by[OCT_SHIFT_UNIT] = plan.unit;
    }
    for (int c = thread; c < g.channels; c += (int)gridDim.x * THREADS) {
        const float bias = g.bias ? g.bias[g.bias_count == 1 ? 0 : c] : 0.0f;
        g.shift.bias[c] = oct_shift_bias(bias, plan.unit);
        if (!g.a)
            continue;
        g.a[c] = plan.a;
        g.b[c] = 0.0f;
        g.ix[c] = g.result ? problem.x_unit : problem.y_unit;
        g.jx[c] = 0.0f;
    }
}

OCT_KERNEL shift_amax_kernel(const shift_job job)
{
    const oct_shift_finalize_args &g = job.args;
    const int unit = g.shift.by[OCT_SHIFT_UNIT];
    for (int c = blockIdx.x * THREADS + threadIdx.x; c < g.channels; c += gridDim.x * THREADS)
        g.amax[c] = oct_shift_amax(job.acc.min[c], job.acc.max[c], g.shift.bias[c], g.relu, unit);
}

extern "C" enum oct_status oct_cuda_shift_finalize(
    oct_backend *backend, const struct oct_shift_finalize_args *g)
{
    const cudaStream_t stream = oct_cuda_of(backend)->stream;
    OCT_TRY(oct_check_shift_finalize(g));
    const int blocks = (g->channels + THREADS - 1) / THREADS;
    if (g->acc) {
        const shift_job job = {*g, *g->acc};
        shift_amax_kernel<<<blocks, THREADS, 0, stream>>>(job);
    } else {
        shift_kernel<<<blocks, THREADS, 0, stream>>>(*g);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- act_shift ---- */

enum { SHIFT_V = 8 }; /* channels a thread: one byte of the mask */

/* V integers of a tensor of codes or of 32-bit sums. */
template <int V>
OCT_DEVICE_INLINE void load_ints(int32_t (&out)[V], int dtype, const void *x, int64_t i)
{
    if (dtype == OCT_S32) {
        uint32_t w[V];
        load_words<V>(w, (const int32_t *)x + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            out[k] = (int32_t)w[k];
    } else if constexpr (V == 1) {
        out[0] = ((const int8_t *)x)[i];
    } else {
        uint32_t w[V / 4];
        load_words<V / 4>(w, (const int8_t *)x + i);
#pragma unroll
        for (int k = 0; k < V; k++)
            out[k] = (int8_t)(w[k / 4] >> (8 * (k & 3)));
    }
}

/* Bits of V = 8 are a byte of one thread; of V = 1, those of 8 threads. */
template <int V>
OCT_DEVICE_INLINE void store_mask(uint8_t *mask, int64_t i, uint32_t bits, bool live)
{
    if constexpr (V == 1) {
        bits = __ballot_sync(0xffffffffu, live && bits) >> (threadIdx.x % WARP);
        live = live && i % 8 == 0;
    }
    if (live)
        mask[i / 8] = (uint8_t)bits;
}

/* The sums of the vector at i become codes; their signs, and the largest magnitude. */
template <int V, bool RESIDUAL>
OCT_DEVICE_INLINE uint32_t shift_vector(const oct_act_shift_args &g, int64_t i, int channel,
    const int32_t (&by)[OCT_SHIFT_ENTRIES], int32_t *largest)
{
    const int lowest = g.relu ? 0 : -OCT_CODE_MAX;
    int32_t v[V], bias[V], r[V] = {};
    int code[V];
    uint32_t bits = 0;
    load_ints<V>(v, (int)g.y_dtype, g.y, i);
    load_ints<V>(bias, OCT_S32, g.shift.bias, channel);
    if (RESIDUAL)
        load_ints<V>(r, OCT_S8, g.residual, i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        v[k] = oct_align(by[OCT_SHIFT_MULTIPLIER] * v[k], by[OCT_SHIFT_Y]) + bias[k];
        if (RESIDUAL)
            v[k] += oct_align(r[k], by[OCT_SHIFT_RESIDUAL]);
        const int32_t magnitude = v[k] < 0 ? (g.relu ? 0 : -v[k]) : v[k];
        *largest = magnitude > *largest ? magnitude : *largest;
        bits |= (uint32_t)(v[k] > 0) << k;
        code[k] = oct_shift_code(v[k], by[OCT_SHIFT_RIGHT], lowest);
    }
    store_codes<V>(g.x, i, code);
    return bits;
}

template <int V, bool RESIDUAL> OCT_KERNEL act_shift_kernel(const oct_act_shift_args g)
{
    walk w = walk_begin<V>(g.rows, g.channels);
    int32_t by[OCT_SHIFT_ENTRIES], largest = 0;
#pragma unroll
    for (int k = 0; k < OCT_SHIFT_ENTRIES; k++)
        by[k] = g.shift.by[k];
    for (; walk_goes_on<V>(&w); walk_next<V>(&w, g.channels)) {
        const bool live = walk_is_inside<V>(&w);
        uint32_t bits = 0;
        if (live)
            bits = shift_vector<V, RESIDUAL>(g, w.i, w.channel, by, &largest);
        if (g.mask)
            store_mask<V>(g.mask, w.i, bits, live);
    }
    if (!g.amax)
        return;
    const uint32_t of_block = block_max((uint32_t)largest);
    if (threadIdx.x == 0 && of_block > 0) {
        const float amax = (float)(int32_t)of_block * oct_unit_of(by[OCT_SHIFT_UNIT]);
        atomicMax((uint32_t *)g.amax, oct_bits_of_f32(amax));
    }
}

template <int V>
static void act_shift_launch(const struct oct_cuda *cuda, const oct_act_shift_args &g)
{
    const dim3 grid = walk_grid<V>(cuda, g.rows, g.channels);
    if (g.residual)
        act_shift_kernel<V, true><<<grid, THREADS, 0, cuda->stream>>>(g);
    else
        act_shift_kernel<V, false><<<grid, THREADS, 0, cuda->stream>>>(g);
}

extern "C" enum oct_status oct_cuda_act_shift(
    oct_backend *backend, const struct oct_act_shift_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_act_shift(g));
    if (g->amax)
        OCT_CUDA(cudaMemsetAsync(g->amax, 0, sizeof *g->amax, cuda->stream));
    if (g->rows == 0)
        return OCT_OK;
    if (g->channels % SHIFT_V == 0 && is_aligned(g->y) && is_aligned(g->residual) &&
        is_aligned(g->x) && is_aligned(g->shift.bias))
        act_shift_launch<SHIFT_V>(cuda, *g);
    else
        act_shift_launch<1>(cuda, *g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
