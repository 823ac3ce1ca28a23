/* Plain quantisation to one or two planes of codes: images and the gradient of the logits; and
 * regrid, which leaves the numbers that codes stand for. The other large tensors are quantised by
 * the passes that make them (norm_fwd.cu, norm_apply.cu). */
#include "backend_check.h"
#include "elementwise.cuh"

#include "base/rng.h"

enum { QUANTISE_V = 4 };

template <int V>
OCT_DEVICE_INLINE void load_inverse(float (&inverse)[V], const oct_range &range, int channel)
{
#pragma unroll
    for (int k = 0; k < V; k++)
        inverse[k] = range.inverse[range.count == 1 ? 0 : channel + k];
}

/* Rounding bytes of the vector at i, lowest first. */
template <int V>
OCT_DEVICE_INLINE uint32_t rounding_word(const oct_quantise_args &g, uint32_t key, int64_t i)
{
    const uint64_t element =
        (uint64_t)g.step->first_sample * (uint64_t)(g.rows_per_sample * g.channels) + (uint64_t)i;
    return oct_rounding_word(key, element >> 2) >> (8 * (uint32_t)(element & 3));
}

template <int V>
OCT_DEVICE_INLINE void quantise_vector(const oct_quantise_args &g, int64_t i, const float (&x)[V],
    const float (&inverse)[V], uint32_t key, uint32_t *saturated)
{
    const int code_max = g.range.code_max;
    const bool stochastic = g.rounding == OCT_STOCHASTIC;
    const uint32_t word = stochastic ? rounding_word<V>(g, key, i) : 0;
    int code[V];
    if (!stochastic && !g.q_lo && g.range.grid == OCT_GRID_UNIFORM && code_max == OCT_CODE_MAX) {
        put_nearest_codes<V>(g.q, i, x, inverse, saturated);
        return;
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        const uint32_t byte = (word >> (8 * k)) & 0xffu;
        code[k] = stochastic ? oct_quantise_stochastic(x[k], inverse[k], code_max, byte)
                             : oct_quantise_on(g.range.grid, x[k], inverse[k], code_max);
        oct_count_above(saturated, fabsf(x[k] * inverse[k]), (float)code_max);
    }
    if (g.q_lo) {
        int lo[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            lo[k] = oct_plane_lo(code[k]);
            code[k] = oct_plane_hi(code[k]);
        }
        store_codes<V>(g.q_lo, i, lo);
    }
    store_codes<V>(g.q, i, code);
}

template <int V> OCT_KERNEL quantise_kernel(const oct_quantise_args g)
{
    walk w = walk_begin<V>(g.rows, g.channels);
    const uint32_t key =
        g.rounding == OCT_STOCHASTIC ? oct_rounding_key(g.step->seed, g.step->step, g.tensor) : 0;
    uint32_t saturated = 0;
    float stained = 0.0f;
    float inverse[V];

    load_inverse<V>(inverse, g.range, w.channel);
    for (; walk_is_inside<V>(&w); walk_next<V>(&w, g.channels)) {
        float x[V];
        load_floats<V>(x, g.dtype, g.x, w.i);
        if (V == 1)
            load_inverse<V>(inverse, g.range, w.channel);
#pragma unroll
        for (int k = 0; k < V; k++)
            stained = stain(stained, x[k]);
        quantise_vector<V>(g, w.i, x, inverse, key, &saturated);
    }
    block_raise(g.flag, is_stained(stained));
    if (g.saturated)
        block_add(g.saturated, saturated);
}

/* One multiplier for all elements: the channels do not matter, but to the rounding bytes, of which
 * four elements share a word only if the tensor's place in the batch allows it. */
static void flatten(oct_quantise_args *g)
{
    const int64_t elements = g->rows * g->channels;
    if (g->range.count != 1 || g->rounding == OCT_STOCHASTIC || elements % QUANTISE_V != 0)
        return;
    g->channels = QUANTISE_V;
    g->rows = elements / QUANTISE_V;
}

extern "C" enum oct_status oct_cuda_quantise(
    oct_backend *backend, const struct oct_quantise_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    oct_quantise_args args = *g;

    OCT_TRY(oct_check_quantise(g));
    flatten(&args);
    if (args.channels % QUANTISE_V == 0 && is_aligned(g->x) && is_aligned(g->q) &&
        is_aligned(g->q_lo)) {
        const dim3 grid = walk_grid<QUANTISE_V>(cuda, args.rows, args.channels);
        quantise_kernel<QUANTISE_V><<<grid, THREADS, 0, cuda->stream>>>(args);
    } else {
        const dim3 grid = walk_grid<1>(cuda, args.rows, args.channels);
        quantise_kernel<1><<<grid, THREADS, 0, cuda->stream>>>(args);
    }
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- regrid ---- */

enum { REGRID_V = 8 };

template <oct_grid GRID, int V>
OCT_DEVICE_INLINE void regrid_vector(const oct_regrid_args &g, int64_t i, float inverse,
    float scale, uint32_t *saturated, bool *strange)
{
    float x[V];
    load_floats<V>(x, g.dtype, g.x, i);
#pragma unroll
    for (int k = 0; k < V; k++) {
        *strange |= oct_not_finite(x[k]);
        *saturated += fabsf(x[k] * inverse) > (float)g.range.code_max;
        x[k] = oct_real_of_code(oct_quantise_on(GRID, x[k], inverse, g.range.code_max), scale);
    }
    store_floats<V>(g.dtype, g.x, i, x);
}

/* `vectors` vectors by all threads, then what is left one by one. */
template <oct_grid GRID> OCT_KERNEL regrid_kernel(const oct_regrid_args g, int64_t vectors)
{
    const float inverse = g.range.inverse[0], scale = g.range.scale[0];
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t step = (int64_t)gridDim.x * THREADS;
    uint32_t saturated = 0;
    bool strange = false;
    for (int64_t j = first; j < vectors; j += step)
        regrid_vector<GRID, REGRID_V>(g, j * REGRID_V, inverse, scale, &saturated, &strange);
    for (int64_t i = vectors * REGRID_V + first; i < g.count; i += step)
        regrid_vector<GRID, 1>(g, i, inverse, scale, &saturated, &strange);
    block_raise(g.flag, strange);
    if (g.saturated)
        block_add(g.saturated, saturated);
}

extern "C" enum oct_status oct_cuda_regrid(oct_backend *backend, const struct oct_regrid_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_regrid(g));
    if (g->range.grid != OCT_GRID_UNIFORM && g->range.grid != OCT_GRID_FLAG)
        return oct_fail(OCT_UNSUPPORTED,
            "regrid on a mu-law grid or one without an end: emulated in float, on the CPU only");
    const int64_t vectors = is_aligned(g->x) ? g->count / REGRID_V : 0;
    const int64_t threads = vectors + (g->count - vectors * REGRID_V);
    const int64_t blocks = (threads + THREADS - 1) / THREADS;
    const int64_t most = (int64_t)cuda->multiprocessors * KERNEL_BLOCKS;
    if (g->count < 1)
        return OCT_OK;
    const unsigned count = (unsigned)(blocks < most ? blocks : most);
    if (g->range.grid == OCT_GRID_FLAG)
        regrid_kernel<OCT_GRID_FLAG><<<count, THREADS, 0, cuda->stream>>>(*g, vectors);
    else
        regrid_kernel<OCT_GRID_UNIFORM><<<count, THREADS, 0, cuda->stream>>>(*g, vectors);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
