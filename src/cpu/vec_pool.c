/* Pooling over NHWC: one output row (forward) or one input row (backward) per item, channels
 * innermost, 64 or 16 of them in registers over the taps of a window. */
#include "cpu/vec_reduce.h"

enum { WIDE = 4, NARROW = 1 }; /* vectors of 16 channels */

/* The taps [from, to) of a window that lie inside the input along one axis, and what the first of
 * them reads. */
struct taps {
    int from, to, at;
};

/* Divides at the border only: this runs for every output pixel. */
static inline struct taps taps_inside(int start, int in, int filter, int dilation)
{
    struct taps t = {0, filter, start};
    if (start < 0) {
        t.from = (-start + dilation - 1) / dilation;
        t.at = start + t.from * dilation;
    }
    if (start + dilation * (filter - 1) >= in)
        t.to = (in - 1 - start) / dilation + 1; /* start < in: every window meets the input */
    return t;
}

/* The taps of one window that lie inside the input. */
struct window {
    int64_t first; /* element of the first tap, channel 0 */
    struct taps r, s;
    int filter_s;           /* S */
    int64_t r_step, s_step; /* elements between taps */
};

V_INLINE int64_t element_of(const struct window *w, int r, int s)
{
    return w->first + (r - w->r.from) * w->r_step + (s - w->s.from) * w->s_step;
}

/* n channels from c on; y keeps the value of the first maximum; winner may be NULL. */
V_INLINE void max_block(const struct oct_pool_args *a, enum oct_dtype dtype, const struct window *w,
    int c, int n, int vectors, int64_t out)
{
    vf best[WIDE], winner[WIDE];
    vi codes[WIDE];
    for (int k = 0; k < vectors; k++) {
        best[k] = vf_load(dtype, a->x, w->first + c + 16 * k, v_lanes_of(n, k));
        winner[k] = vf_set((float)(w->r.from * w->filter_s + w->s.from));
    }
    for (int r = w->r.from; r < w->r.to; r++) {
        for (int s = w->s.from; s < w->s.to; s++) {
            int64_t at = element_of(w, r, s) + c;
            vf tap = vf_set((float)(r * w->filter_s + s));
            for (int k = 0; k < vectors; k++) {
                vf v = vf_load(dtype, a->x, at + 16 * k, v_lanes_of(n, k));
                vm better = vf_gt(v, best[k]);
                best[k] = vf_select(better, v, best[k]);
                winner[k] = vf_select(better, tap, winner[k]);
            }
        }
    }
    for (int k = 0; k < WIDE; k++)
        codes[k] = vi_codes(k < vectors ? winner[k] : vf_set(0.0f), vf_set(127.0f));
    if (a->winner)
        vi_store_s8((int8_t *)a->winner + out, n, codes);
    for (int k = 0; k < vectors && dtype != OCT_S8; k++)
        vf_store(dtype, a->y, out + 16 * k, v_lanes_of(n, k), best[k]);
    for (int k = 0; k < WIDE && dtype == OCT_S8; k++)
        codes[k] = vi_codes(k < vectors ? best[k] : vf_set(0.0f), vf_set(127.0f));
    if (dtype == OCT_S8)
        vi_store_s8((int8_t *)a->y + out, n, codes);
}

/* n sums of codes as integers. */
V_INLINE void store_sums(int32_t *y, int n, vf sum)
{
    float values[16];
    vf_store_f32(values, 16, sum);
    for (int l = 0; l < n; l++)
        y[l] = (int32_t)values[l];
}

/* Sums of codes are exact in f32: at most OCT_POOL_CODES of them. */
V_INLINE void average_block(const struct oct_pool_args *a, enum oct_dtype dtype,
    const struct window *w, int c, int n, int vectors, int64_t out, float multiplier)
{
    vf sum[WIDE];
    for (int k = 0; k < vectors; k++)
        sum[k] = vf_set(0.0f);
    for (int r = w->r.from; r < w->r.to; r++) {
        for (int s = w->s.from; s < w->s.to; s++) {
            int64_t at = element_of(w, r, s) + c;
            for (int k = 0; k < vectors; k++)
                sum[k] = vf_add(sum[k], vf_load(dtype, a->x, at + 16 * k, v_lanes_of(n, k)));
        }
    }
    for (int k = 0; k < vectors && a->y_dtype == OCT_S32; k++)
        store_sums((int32_t *)a->y + out + 16 * k, v_lanes_of(n, k), sum[k]);
    for (int k = 0; k < vectors && a->y_dtype != OCT_S32; k++)
        vf_store(
            a->y_dtype, a->y, out + 16 * k, v_lanes_of(n, k), vf_mul(sum[k], vf_set(multiplier)));
}

V_INLINE void pool_pixel(const struct oct_pool_args *a, enum oct_dtype dtype,
    const struct window *w, int64_t out, float multiplier)
{
    int channels = a->shape.c;
    for (int c = 0; c < channels;) {
        int left = channels - c, vectors = left >= 16 * WIDE ? WIDE : NARROW;
        int n = left < 16 * vectors ? left : 16 * vectors;
        if (a->average && vectors == WIDE)
            average_block(a, dtype, w, c, 16 * WIDE, WIDE, out + c, multiplier);
        else if (a->average)
            average_block(a, dtype, w, c, n, NARROW, out + c, multiplier);
        else if (vectors == WIDE)
            max_block(a, dtype, w, c, 16 * WIDE, WIDE, out + c);
        else
            max_block(a, dtype, w, c, n, NARROW, out + c);
        c += n;
    }
}

V_INLINE void pool_row(const struct oct_pool_args *a, enum oct_dtype dtype, int64_t row)
{
    const struct oct_conv_shape *v = &a->shape;
    int p_count = oct_conv_p(v), q_count = oct_conv_q(v);
    int64_t n = row / p_count;
    int h = oct_conv_input_of((int)(row % p_count), 0, v->stride_h, v->pad_h, 1);
    const int scaled = dtype == OCT_S8 && a->average && a->y_dtype != OCT_S32;
    float scale = scaled ? a->x_scale[0] : 1.0f;
    struct window w = {.r = taps_inside(h, v->h, v->r, v->dilation_h),
        .filter_s = v->s,
        .r_step = (int64_t)v->dilation_h * v->w * v->c,
        .s_step = (int64_t)v->dilation_w * v->c};
    for (int q = 0; q < q_count; q++) {
        w.s = taps_inside(q * v->stride_w - v->pad_w, v->w, v->s, v->dilation_w);
        w.first = ((n * v->h + w.r.at) * v->w + w.s.at) * v->c;
        pool_pixel(a, dtype, &w, (row * q_count + q) * v->c, scale / (float)(v->r * v->s));
    }
}

void OCT_VEC_NAME(oct_vec_pool)(void *arg, int64_t row, int thread)
{
    (void)thread;
    const struct oct_pool_args *a = arg;
    if (a->x_dtype == OCT_S8)
        pool_row(a, OCT_S8, row);
    else if (a->x_dtype == OCT_BF16)
        pool_row(a, OCT_BF16, row);
    else
        pool_row(a, OCT_F32, row);
}

/* The outputs [from, to) along one axis whose windows span input position `at`. */
struct span {
    int from, to;
};

static struct span outputs_over(int at, int out, int filter, int stride, int pad, int dilation)
{
    int reach = at + pad, width = dilation * (filter - 1), last = reach / stride;
    struct span span = {0, last + 1 < out ? last + 1 : out};
    if (reach > width)
        span.from = (reach - width + stride - 1) / stride;
    return span;
}

/* The tap by which output `o` reads position `at`, or -1. */
static inline int tap_between(int at, int o, int stride, int pad, int dilation)
{
    int distance = at + pad - o * stride;
    if (dilation == 1)
        return distance;
    return distance % dilation ? -1 : distance / dilation;
}

/* One input pixel: image n, row h, column x. */
struct pixel {
    int64_t n;
    int h, x, q_count;
    struct span p, q;
    int64_t element; /* of its channel 0 */
};

/* n channels from c on of one input pixel. */
V_INLINE void bwd_block(const struct oct_pool_bwd_args *a, const struct pixel *t, int c, int n,
    int vectors, float multiplier)
{
    const struct oct_conv_shape *v = &a->shape;
    int64_t first = t->n * oct_conv_p(v);
    vf sum[WIDE];
    for (int k = 0; k < vectors; k++)
        sum[k] = vf_set(0.0f);
    for (int p = t->p.from; p < t->p.to; p++) {
        int r = tap_between(t->h, p, v->stride_h, v->pad_h, v->dilation_h);
        for (int q = r < 0 ? t->q.to : t->q.from; q < t->q.to; q++) {
            int s = tap_between(t->x, q, v->stride_w, v->pad_w, v->dilation_w);
            int64_t at = ((first + p) * t->q_count + q) * v->c + c;
            vf tap = vf_set((float)(r * v->s + s));
            for (int k = 0; k < vectors && s >= 0; k++) {
                int lanes = v_lanes_of(n, k);
                vf dy = vf_load(a->dy_dtype, a->dy, at + 16 * k, lanes);
                if (!a->average) {
                    vf winner = vf_load_s8((const int8_t *)a->winner + at + 16 * k, lanes);
                    dy = vf_keep(vf_eq(winner, tap), dy);
                }
                sum[k] = vf_add(sum[k], dy);
            }
        }
    }
    for (int k = 0; k < vectors; k++) {
        int64_t at = t->element + c + 16 * k;
        vf f = vf_mul(sum[k], vf_set(multiplier));
        if (a->mode == OCT_ACCUMULATE)
            f = vf_add(vf_load(a->dx_dtype, a->dx, at, v_lanes_of(n, k)), f);
        vf_store(a->dx_dtype, a->dx, at, v_lanes_of(n, k), f);
    }
}

/* `a` holds constants in average, dy_dtype, dx_dtype and mode. */
V_INLINE void bwd_row(const struct oct_pool_bwd_args *a, int64_t row)
{
    const struct oct_conv_shape *v = &a->shape;
    int channels = v->c;
    float multiplier = a->average ? 1.0f / (float)(v->r * v->s) : 1.0f;
    struct pixel t = {.n = row / v->h, .h = (int)(row % v->h), .q_count = oct_conv_q(v)};
    t.p = outputs_over(t.h, oct_conv_p(v), v->r, v->stride_h, v->pad_h, v->dilation_h);
    for (t.x = 0; t.x < v->w; t.x++) {
        t.q = outputs_over(t.x, t.q_count, v->s, v->stride_w, v->pad_w, v->dilation_w);
        t.element = (row * v->w + t.x) * channels;
        int c = 0;
        for (; c + 16 * WIDE <= channels; c += 16 * WIDE)
            bwd_block(a, &t, c, 16 * WIDE, WIDE, multiplier);
        for (; c < channels; c += 16 * NARROW)
            bwd_block(a, &t, c, channels - c < 16 ? channels - c : 16, NARROW, multiplier);
    }
}

V_INLINE void bwd_as(
    const struct oct_pool_bwd_args *a, enum oct_dtype dy, enum oct_dtype dx, int64_t row)
{
    struct oct_pool_bwd_args fixed = *a;
    fixed.dy_dtype = dy;
    fixed.dx_dtype = dx;
    bwd_row(&fixed, row);
}

void OCT_VEC_NAME(oct_vec_pool_bwd)(void *arg, int64_t row, int thread)
{
    (void)thread;
    const struct oct_pool_bwd_args *a = arg;
    if (a->dy_dtype == OCT_BF16 && a->dx_dtype == OCT_BF16)
        bwd_as(a, OCT_BF16, OCT_BF16, row);
    else if (a->dy_dtype == OCT_BF16)
        bwd_as(a, OCT_BF16, OCT_F32, row);
    else if (a->dx_dtype == OCT_BF16)
        bwd_as(a, OCT_F32, OCT_BF16, row);
    else
        bwd_as(a, OCT_F32, OCT_F32, row);
}
