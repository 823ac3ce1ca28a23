#include "conv_sweep.h"

/* Backward-data: input row h = phase + stride i receives output row p through filter row r where
 * h + pad = p stride + r dilation. With g = gcd(dilation, stride) such r are r0, r0 + stride / g,
 * ..., and each step to the next one lowers p by dilation / g. Taken from the last to the first,
 * p rises. */
static struct oct_cuda_axis dgrad_axis(
    int in, int out, int filter, int stride, int pad, int dilation, int phase)
{
    int filter_step = 1, first = 0, taps = 0;
    while (filter_step * dilation % stride != 0)
        filter_step++;
    while (first < filter_step && (phase + pad - first * dilation) % stride != 0)
        first++;
    if (first < filter_step && first < filter)
        taps = (filter - 1 - first) / filter_step + 1;
    const int tap_step = filter_step * dilation / stride;
    const int last = first + (taps - 1) * filter_step;
    struct oct_cuda_axis a = {.out = (in - phase + stride - 1) / stride,
        .out_first = phase,
        .out_step = stride,
        .in = out,
        .step = 1,
        .taps = taps,
        .tap_step = tap_step,
        .filter_first = last,
        .filter_step = -filter_step};
    a.origin = taps ? (phase + pad - last * dilation) / stride : 0;
    return a;
}

static struct oct_cuda_axis fprop_axis(
    int in, int out, int filter, int stride, int pad, int dilation)
{
    struct oct_cuda_axis a = {.out = out,
        .out_step = 1,
        .in = in,
        .step = stride,
        .origin = -pad,
        .taps = filter,
        .tap_step = dilation,
        .filter_step = 1};
    return a;
}

/* A stride longer than the image has phases without a pixel; they are not counted. */
static int phases(int stride, int in)
{
    return stride < in ? stride : in;
}

int oct_cuda_sweep_count(const struct oct_conv_shape *v, int dgrad)
{
    return dgrad ? phases(v->stride_h, v->h) * phases(v->stride_w, v->w) : 1;
}

static void make_one(const struct oct_conv_shape *v, int dgrad, int index, struct oct_cuda_sweep *s)
{
    const int p = oct_conv_p(v), q = oct_conv_q(v), across = phases(v->stride_w, v->w);
    *s = (struct oct_cuda_sweep){.images = v->n,
        .channels = dgrad ? v->k : v->c,
        .columns = dgrad ? v->c : v->k,
        .out_h = dgrad ? v->h : p,
        .out_w = dgrad ? v->w : q};
    if (dgrad) {
        s->h = dgrad_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h, index / across);
        s->w = dgrad_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w, index % across);
    } else {
        s->h = fprop_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h);
        s->w = fprop_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w);
    }
    s->depth = (int64_t)s->h.taps * s->w.taps * s->channels;
}

void oct_cuda_sweep_make(
    const struct oct_conv_shape *v, int dgrad, int index, struct oct_cuda_sweep *s)
{
    int64_t packed = 0;
    for (int i = 0; i < index; i++) {
        make_one(v, dgrad, i, s);
        packed += s->columns * oct_cuda_sweep_pitch(s);
    }
    make_one(v, dgrad, index, s);
    s->packed = packed;
}
