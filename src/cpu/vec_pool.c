/* Pooling over NHWC: one output row (forward) or one input row (backward) per item, channels
 * innermost in blocks that stay in registers over the taps of a window. */
#include "cpu/vec_reduce.h"

enum { WIDE = 64, NARROW = 16 };

/* The taps of one window that lie inside the input. */
struct window {
    int64_t first;              /* element of tap (r0, s0), channel 0 */
    int r0, r1, s0, s1, taps_s; /* taps [r0, r1) x [s0, s1); S */
    int64_t r_step, s_step;     /* elements between taps */
};

/* The taps [*from, *to) of a window that starts at `start` and stay inside [0, in). */
static void clip_taps(int start, int in, int filter, int dilation, int *from, int *to)
{
    *from = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int last = (in - 1 - start) / dilation; /* start < in: every window meets the input */
    *to = last + 1 < filter ? last + 1 : filter;
}

static struct window window_of(const struct oct_conv_shape *v, int64_t n, int p, int q)
{
    struct window w = {.taps_s = v->s};
    int h = oct_conv_input_of(p, 0, v->stride_h, v->pad_h, 1);
    int x = oct_conv_input_of(q, 0, v->stride_w, v->pad_w, 1);
    clip_taps(h, v->h, v->r, v->dilation_h, &w.r0, &w.r1);
    clip_taps(x, v->w, v->s, v->dilation_w, &w.s0, &w.s1);
    w.r_step = (int64_t)v->dilation_h * v->w * v->c;
    w.s_step = (int64_t)v->dilation_w * v->c;
    int64_t row = n * v->h + h + w.r0 * v->dilation_h;
    w.first = (row * v->w + x + w.s0 * v->dilation_w) * v->c;
    return w;
}

/* y keeps the bits of the first maximum; winner may be NULL. */
OCT_INLINE void max_block(const void *x, enum oct_dtype dtype, const struct window *w, int c0,
    int width, void *y, uint8_t *winner)
{
    float best[WIDE];
    int32_t tap_of[WIDE];
    int first_tap = w->r0 * w->taps_s + w->s0;
    for (int l = 0; l < width; l++) {
        best[l] = oct_load(x, dtype, w->first + c0 + l);
        tap_of[l] = first_tap;
    }
    for (int r = w->r0; r < w->r1; r++) {
        for (int s = w->s0; s < w->s1; s++) {
            int64_t at = w->first + (r - w->r0) * w->r_step + (s - w->s0) * w->s_step + c0;
            int tap = r * w->taps_s + s;
            for (int l = 0; l < width; l++) {
                float v = oct_load(x, dtype, at + l);
                int better = v > best[l];
                best[l] = better ? v : best[l];
                tap_of[l] = better ? tap : tap_of[l];
            }
        }
    }
    for (int l = 0; l < width; l++) {
        if (dtype == OCT_S8)
            ((int8_t *)y)[c0 + l] = (int8_t)best[l];
        else if (dtype == OCT_BF16)
            ((uint16_t *)y)[c0 + l] = (uint16_t)(oct_bits_of_f32(best[l]) >> 16);
        else
            ((float *)y)[c0 + l] = best[l];
        if (winner)
            winner[c0 + l] = (uint8_t)tap_of[l];
    }
}

OCT_INLINE void average_block(const void *x, enum oct_dtype dtype, const struct window *w, int c0,
    int width, float multiplier, void *y, enum oct_dtype y_dtype)
{
    float sum[WIDE];
    int32_t codes[WIDE];
    for (int l = 0; l < width; l++) {
        sum[l] = 0.0f;
        codes[l] = 0;
    }
    for (int r = w->r0; r < w->r1; r++) {
        for (int s = w->s0; s < w->s1; s++) {
            int64_t at = w->first + (r - w->r0) * w->r_step + (s - w->s0) * w->s_step + c0;
            for (int l = 0; l < width; l++) {
                if (dtype == OCT_S8)
                    codes[l] += ((const int8_t *)x)[at + l];
                else
                    sum[l] += oct_load(x, dtype, at + l);
            }
        }
    }
    for (int l = 0; l < width; l++) {
        float total = dtype == OCT_S8 ? (float)codes[l] : sum[l];
        oct_store(y, y_dtype, c0 + l, total * multiplier);
    }
}

/* One block of channels of one output pixel, max or average. */
OCT_INLINE void pool_block(const struct oct_pool_args *a, enum oct_dtype dtype,
    const struct window *w, int c0, int width, float multiplier, void *y, uint8_t *winner)
{
    if (!a->average)
        max_block(a->x, dtype, w, c0, width, y, winner);
    else if (a->y_dtype == OCT_BF16)
        average_block(a->x, dtype, w, c0, width, multiplier, y, OCT_BF16);
    else
        average_block(a->x, dtype, w, c0, width, multiplier, y, OCT_F32);
}

OCT_INLINE void pool_row(const struct oct_pool_args *a, enum oct_dtype dtype, int64_t row)
{
    const struct oct_conv_shape *v = &a->shape;
    int p_count = oct_conv_p(v), q_count = oct_conv_q(v);
    float scale = dtype == OCT_S8 && a->average ? a->x_scale[0] : 1.0f;
    float multiplier = scale / (float)(v->r * v->s);
    for (int q = 0; q < q_count; q++) {
        struct window w = window_of(v, row / p_count, (int)(row % p_count), q);
        int64_t pixel = (row * q_count + q) * v->c;
        void *y = (char *)a->y + (size_t)pixel * oct_dtype_bytes(a->y_dtype);
        uint8_t *winner = a->winner ? a->winner + pixel : NULL;
        int c = 0;
        for (; c + WIDE <= v->c; c += WIDE)
            pool_block(a, dtype, &w, c, WIDE, multiplier, y, winner);
        for (; c + NARROW <= v->c; c += NARROW)
            pool_block(a, dtype, &w, c, NARROW, multiplier, y, winner);
        if (c < v->c)
            pool_block(a, dtype, &w, c, v->c - c, multiplier, y, winner);
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

/* The outputs [*from, *to) along one axis whose windows span input position `at`. */
static void covering(
    int at, int out, int filter, int stride, int pad, int dilation, int *from, int *to)
{
    int reach = at + pad, span = dilation * (filter - 1);
    int last = reach / stride;
    *from = reach <= span ? 0 : (reach - span + stride - 1) / stride;
    *to = last + 1 < out ? last + 1 : out;
}

/* The tap by which output `o` reads position `at`, or -1. */
static int tap_of_window(int at, int o, int stride, int pad, int dilation)
{
    int distance = at + pad - o * stride;
    return distance % dilation ? -1 : distance / dilation;
}

/* Input pixel (h, x) of image n. */
struct target {
    int64_t n;
    int h, x, p0, p1, q0, q1;
};

OCT_INLINE void bwd_block(const struct oct_pool_bwd_args *a, enum oct_dtype dy_dtype,
    enum oct_dtype dx_dtype, const struct target *t, int c0, int width)
{
    const struct oct_conv_shape *v = &a->shape;
    int p_count = oct_conv_p(v), q_count = oct_conv_q(v);
    float sum[WIDE];
    for (int l = 0; l < width; l++)
        sum[l] = 0.0f;
    for (int p = t->p0; p < t->p1; p++) {
        int r = tap_of_window(t->h, p, v->stride_h, v->pad_h, v->dilation_h);
        for (int q = r < 0 ? t->q1 : t->q0; q < t->q1; q++) {
            int s = tap_of_window(t->x, q, v->stride_w, v->pad_w, v->dilation_w);
            if (s < 0)
                continue;
            int64_t at = ((t->n * p_count + p) * q_count + q) * v->c + c0;
            int tap = r * v->s + s;
            for (int l = 0; l < width; l++) {
                float dy = oct_load(a->dy, dy_dtype, at + l);
                sum[l] += a->average || a->winner[at + l] == tap ? dy : 0.0f;
            }
        }
    }
    float multiplier = a->average ? 1.0f / (float)(v->r * v->s) : 1.0f;
    int64_t at = ((t->n * v->h + t->h) * v->w + t->x) * v->c + c0;
    for (int l = 0; l < width; l++) {
        float f = sum[l] * multiplier;
        if (a->mode == OCT_ACCUMULATE)
            f = oct_load(a->dx, dx_dtype, at + l) + f;
        oct_store(a->dx, dx_dtype, at + l, f);
    }
}

OCT_INLINE void bwd_row(const struct oct_pool_bwd_args *a, enum oct_dtype dy_dtype,
    enum oct_dtype dx_dtype, int64_t row)
{
    const struct oct_conv_shape *v = &a->shape;
    struct target t = {.n = row / v->h, .h = (int)(row % v->h)};
    covering(t.h, oct_conv_p(v), v->r, v->stride_h, v->pad_h, v->dilation_h, &t.p0, &t.p1);
    for (t.x = 0; t.x < v->w; t.x++) {
        covering(t.x, oct_conv_q(v), v->s, v->stride_w, v->pad_w, v->dilation_w, &t.q0, &t.q1);
        int c = 0;
        for (; c + WIDE <= v->c; c += WIDE)
            bwd_block(a, dy_dtype, dx_dtype, &t, c, WIDE);
        for (; c + NARROW <= v->c; c += NARROW)
            bwd_block(a, dy_dtype, dx_dtype, &t, c, NARROW);
        if (c < v->c)
            bwd_block(a, dy_dtype, dx_dtype, &t, c, v->c - c);
    }
}

void OCT_VEC_NAME(oct_vec_pool_bwd)(void *arg, int64_t row, int thread)
{
    (void)thread;
    const struct oct_pool_bwd_args *a = arg;
    if (a->dy_dtype == OCT_BF16 && a->dx_dtype == OCT_BF16)
        bwd_row(a, OCT_BF16, OCT_BF16, row);
    else if (a->dy_dtype == OCT_BF16)
        bwd_row(a, OCT_BF16, OCT_F32, row);
    else if (a->dx_dtype == OCT_BF16)
        bwd_row(a, OCT_F32, OCT_BF16, row);
    else
        bwd_row(a, OCT_F32, OCT_F32, row);
}
