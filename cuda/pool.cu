/* Pooling over NHWC: four channels of one pixel a thread, forward over the outputs, backward over
 * the inputs, which gather the windows that cover them in the order (p, q). */
#include "backend_check.h"
#include "elementwise.cuh"

enum { POOL_V = 4 };

/* Where a pixel number of an [N, H, W] tensor lies. */
struct place {
    int n, h, w;
};

OCT_DEVICE_INLINE place place_of(uint32_t pixel, int h, int w)
{
    const uint32_t line = pixel / (uint32_t)w, image = line / (uint32_t)h;
    const place at = {
        (int)image, (int)(line - image * (uint32_t)h), (int)(pixel - line * (uint32_t)w)};
    return at;
}

/* ---- forward ---- */

template <int V> struct pooled {
    float value[V];
    int winner[V];
};

/* Calls nothing outside the input; the first tap inside starts a maximum, so NaN stays. */
template <int V, bool AVERAGE>
OCT_DEVICE_INLINE pooled<V> pool_window(const oct_pool_args &g, const place &out, int channel)
{
    const oct_conv_shape &v = g.shape;
    pooled<V> best = {};
    bool started = false;
    for (int r = 0; r < v.r; r++) {
        const int h = oct_conv_input_of(out.h, r, v.stride_h, v.pad_h, v.dilation_h);
        if (h < 0 || h >= v.h)
            continue;
        for (int s = 0; s < v.s; s++) {
            const int w = oct_conv_input_of(out.w, s, v.stride_w, v.pad_w, v.dilation_w);
            if (w < 0 || w >= v.w)
                continue;
            float x[V];
            load_floats<V>(
                x, g.x_dtype, g.x, (((int64_t)out.n * v.h + h) * v.w + w) * v.c + channel);
#pragma unroll
            for (int k = 0; k < V; k++) {
                if (AVERAGE) {
                    best.value[k] = best.value[k] + x[k];
                } else if (!started || x[k] > best.value[k]) {
                    best.value[k] = x[k];
                    best.winner[k] = r * v.s + s;
                }
            }
            started = true;
        }
    }
    return best;
}

template <int V, bool AVERAGE> OCT_KERNEL pool_kernel(const oct_pool_args g)
{
    const oct_conv_shape &v = g.shape;
    const int p = oct_conv_p(&v), q = oct_conv_q(&v);
    const bool sums = AVERAGE && g.y_dtype == OCT_S32;
    const float scale = AVERAGE && g.x_dtype == OCT_S8 && !sums ? g.x_scale[0] : 1.0f;
    const float multiplier = scale / (float)(v.r * v.s);
    walk w = walk_begin<V>((int64_t)v.n * p * q, v.c);

    for (; walk_is_inside<V>(&w); walk_next<V>(&w, v.c)) {
        pooled<V> best = pool_window<V, AVERAGE>(g, place_of(w.row, p, q), w.channel);
        if (AVERAGE && !sums) {
#pragma unroll
            for (int k = 0; k < V; k++)
                best.value[k] = best.value[k] * multiplier;
        } else if (!AVERAGE && g.winner) {
            store_codes<V>((int8_t *)g.winner, w.i, best.winner);
        }
        if (!AVERAGE && g.y_dtype == OCT_S8) {
            int code[V];
#pragma unroll
            for (int k = 0; k < V; k++)
                code[k] = (int)best.value[k];
            store_codes<V>((int8_t *)g.y, w.i, code);
        } else if (sums) { /* exact in f32 */
            uint32_t words[V];
#pragma unroll
            for (int k = 0; k < V; k++)
                words[k] = (uint32_t)(int32_t)best.value[k];
            store_words<V>((int32_t *)g.y + w.i, words);
        } else {
            store_floats<V>(g.y_dtype, g.y, w.i, best.value);
        }
    }
}

template <bool AVERAGE> static void pool_launch(const struct oct_cuda *cuda, const oct_pool_args &g)
{
    const oct_conv_shape *v = &g.shape;
    const int64_t rows = oct_conv_y_elements(v) / v->c;
    const bool vectors =
        v->c % POOL_V == 0 && is_aligned(g.x) && is_aligned(g.y) && is_aligned(g.winner);
    if (vectors)
        pool_kernel<POOL_V, AVERAGE>
            <<<walk_grid<POOL_V>(cuda, rows, v->c), THREADS, 0, cuda->stream>>>(g);
    else
        pool_kernel<1, AVERAGE><<<walk_grid<1>(cuda, rows, v->c), THREADS, 0, cuda->stream>>>(g);
}

extern "C" enum oct_status oct_cuda_pool(oct_backend *backend, const struct oct_pool_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_pool(g));
    if (g->average)
        pool_launch<true>(cuda, *g);
    else
        pool_launch<false>(cuda, *g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* ---- backward ---- */

/* The outputs [from, to) along one axis whose windows span input position `at`. */
struct span {
    int from, to;
};

OCT_DEVICE_INLINE span outputs_over(int at, int out, int filter, int stride, int pad, int dilation)
{
    const int reach = at + pad, width = dilation * (filter - 1);
    const int last = (int)((uint32_t)reach / (uint32_t)stride);
    span s = {0, last + 1 < out ? last + 1 : out};
    if (reach > width)
        s.from = (int)((uint32_t)(reach - width + stride - 1) / (uint32_t)stride);
    return s;
}

/* The tap by which output `o` reads position `at`, or -1. */
OCT_DEVICE_INLINE int tap_between(int at, int o, int stride, int pad, int dilation)
{
    const int distance = at + pad - o * stride;
    if (dilation == 1)
        return distance;
    return distance % dilation ? -1 : distance / dilation;
}

/* Adds dy of output pixel `row` to the channels whose maximum came by `tap`, or to all. */
template <int V>
OCT_DEVICE_INLINE void gather(
    const oct_pool_bwd_args &g, int64_t row, int channel, int tap, float (&sum)[V])
{
    const int64_t i = row * g.shape.c + channel;
    float dy[V];
    uint32_t winners = 0;
    load_floats<V>(dy, g.dy_dtype, g.dy, i);
    if (!g.average) {
        if constexpr (V == 1)
            winners = g.winner[i];
        else
            load_words<V / 4>(&winners, g.winner + i);
    }
#pragma unroll
    for (int k = 0; k < V; k++)
        if (g.average || (int)(winners >> (8 * k) & 0xffu) == tap)
            sum[k] = sum[k] + dy[k];
}

template <int V> OCT_KERNEL pool_bwd_kernel(const oct_pool_bwd_args g)
{
    const oct_conv_shape &v = g.shape;
    const int p_count = oct_conv_p(&v), q_count = oct_conv_q(&v);
    const float multiplier = g.average ? 1.0f / (float)(v.r * v.s) : 1.0f;
    walk w = walk_begin<V>((int64_t)v.n * v.h * v.w, v.c);

    for (; walk_is_inside<V>(&w); walk_next<V>(&w, v.c)) {
        const place in = place_of(w.row, v.h, v.w);
        const span ps = outputs_over(in.h, p_count, v.r, v.stride_h, v.pad_h, v.dilation_h);
        const span qs = outputs_over(in.w, q_count, v.s, v.stride_w, v.pad_w, v.dilation_w);
        float sum[V] = {}, old[V] = {};
        for (int p = ps.from; p < ps.to; p++) {
            const int r = tap_between(in.h, p, v.stride_h, v.pad_h, v.dilation_h);
            for (int q = qs.from; q < qs.to && r >= 0; q++) {
                const int s = tap_between(in.w, q, v.stride_w, v.pad_w, v.dilation_w);
                const int64_t row = ((int64_t)in.n * p_count + p) * q_count + q;
                if (s >= 0)
                    gather<V>(g, row, w.channel, r * v.s + s, sum);
            }
        }
        if (g.mode == OCT_ACCUMULATE)
            load_floats<V>(old, g.dx_dtype, g.dx, w.i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float f = sum[k] * multiplier;
            sum[k] = g.mode == OCT_ACCUMULATE ? old[k] + f : f;
        }
        store_floats<V>(g.dx_dtype, g.dx, w.i, sum);
    }
}

extern "C" enum oct_status oct_cuda_pool_bwd(
    oct_backend *backend, const struct oct_pool_bwd_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const oct_conv_shape *v = &g->shape;
    OCT_TRY(oct_check_pool_bwd(g));
    const int64_t rows = oct_conv_x_elements(v) / v->c;
    const bool vectors =
        v->c % POOL_V == 0 && is_aligned(g->dy) && is_aligned(g->dx) && is_aligned(g->winner);
    if (vectors)
        pool_bwd_kernel<POOL_V>
            <<<walk_grid<POOL_V>(cuda, rows, v->c), THREADS, 0, cuda->stream>>>(*g);
    else
        pool_bwd_kernel<1><<<walk_grid<1>(cuda, rows, v->c), THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
