/* Geometry of sweeps: which outputs, inputs and taps belong together (cpu_conv.h). */
#include "cpu/cpu_conv.h"

static int gcd(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static struct oct_sweep_axis fprop_axis(
    int in, int out, int taps, int stride, int pad, int dilation)
{
    struct oct_sweep_axis a = {.out = out,
        .out_step = 1,
        .in = in,
        .in_step = 1,
        .origin = -pad,
        .taps = taps,
        .tap_step = 1,
        .step = stride,
        .dilation = dilation};
    if (taps == 1) { /* the panel holds only the inputs that are read */
        a.in_step = stride;
        a.step = 1;
    }
    return a;
}

/* Outputs h = phase + stride * i of dX. Tap r meets them where h + pad - r * dilation is a multiple
 * of the stride: every `apart`-th tap from `first` on, in reverse order so that inputs ascend. */
static struct oct_sweep_axis dgrad_axis(
    int in, int out, int filter, int stride, int pad, int dilation, int phase)
{
    int apart = stride / gcd(stride, dilation), first = 0;
    while (first < filter && first < apart && (phase + pad - first * dilation) % stride != 0)
        first++;
    int met = first < filter && (phase + pad - first * dilation) % stride == 0;
    int taps = met ? (filter - 1 - first) / apart + 1 : 0;
    int distance = apart * dilation / stride;
    struct oct_sweep_axis a = {.out = phase < in ? (in - phase - 1) / stride + 1 : 0,
        .out_first = phase,
        .out_step = stride,
        .in = out,
        .in_step = 1,
        .taps = taps,
        .tap_first = first + apart * (taps - 1),
        .tap_step = -apart,
        .step = 1,
        .dilation = distance};
    if (taps)
        a.origin = (phase + pad - first * dilation) / stride - (taps - 1) * distance;
    return a;
}

/* A pointwise convolution is one long row of pixels. */
static void flatten(struct oct_sweep *s)
{
    const struct oct_sweep_axis *h = &s->h, *w = &s->w;
    if (h->taps != 1 || w->taps != 1 || h->in_step != 1 || w->in_step != 1 || h->origin != 0 ||
        w->origin != 0 || h->in != h->out || w->in != w->out || h->out_step != 1 ||
        w->out_step != 1)
        return;
    s->w.in = s->w.out = s->out_w = s->images * h->out * w->out;
    s->images = s->h.in = s->h.out = s->out_h = 1;
}

static void make_axes(const struct oct_conv_shape *v, int dgrad, int index, struct oct_sweep *s)
{
    const int p = oct_conv_p(v), q = oct_conv_q(v);
    if (!dgrad) {
        s->h = fprop_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h);
        s->w = fprop_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w);
        return;
    }
    s->h = dgrad_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h, index / v->stride_w);
    s->w = dgrad_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w, index % v->stride_w);
}

static int64_t packed_bytes(const struct oct_sweep *s)
{
    int64_t bytes = oct_sweep_matrix_bytes(s) + 4 * oct_sweep_columns16(s);
    return (bytes + 63) / 64 * 64;
}

int oct_sweep_count(const struct oct_conv_shape *v, int dgrad)
{
    return dgrad ? v->stride_h * v->stride_w : 1;
}

void oct_sweep_make(const struct oct_conv_shape *v, const struct oct_tile_kernels *tile, int dgrad,
    int index, struct oct_sweep *out)
{
    int64_t packed = 0;
    for (int i = 0; i <= index; i++) {
        struct oct_sweep s = {.images = v->n,
            .channels = dgrad ? v->k : v->c,
            .columns = dgrad ? v->c : v->k,
            .out_h = dgrad ? v->h : oct_conv_p(v),
            .out_w = dgrad ? v->w : oct_conv_q(v),
            .packed = packed};
        make_axes(v, dgrad, i, &s);
        if (s.h.taps == 0 || s.w.taps == 0)
            s.h.taps = s.w.taps = 0;
        s.row_runs = s.w.taps == 1 || s.w.dilation == 1;
        s.runs = s.row_runs ? s.h.taps : s.h.taps * s.w.taps;
        s.run_bytes = s.channels * (s.row_runs ? s.w.taps : 1);
        s.depth = oct_round_up(s.run_bytes, tile->depth_unit);
        packed += packed_bytes(&s);
        flatten(&s);
        *out = s;
    }
}

size_t oct_sweep_pack_bytes(
    const struct oct_conv_shape *v, const struct oct_tile_kernels *tile, int dgrad)
{
    struct oct_sweep last;
    oct_sweep_make(v, tile, dgrad, oct_sweep_count(v, dgrad) - 1, &last);
    return (size_t)(last.packed + packed_bytes(&last));
}
