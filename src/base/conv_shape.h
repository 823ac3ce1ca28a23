/* Geometry of a convolution in the notation of the field (docs/notation.md): input N,D,H,W,C,
 * filter K,T,R,S, output O,P,Q. Two-dimensional layers have D = T = O = 1. */
#ifndef OCT_CONV_SHAPE_H
#define OCT_CONV_SHAPE_H

#include "base/numeric.h"

struct oct_conv_shape {
    int n, d, h, w, c; /* input  */
    int k, t, r, s;    /* filter */
    int stride_d, stride_h, stride_w;
    int pad_d, pad_h, pad_w;
    int dilation_d, dilation_h, dilation_w;
    int groups;
};

/* A 1x1 filter on c channels, k of them out: stride 1, no padding, one group. What a caller's
 * convolution has otherwise it sets afterwards. */
OCT_HD struct oct_conv_shape oct_conv_pointwise(int n, int h, int w, int c, int k)
{
    struct oct_conv_shape v;
    v.n = n, v.d = 1, v.h = h, v.w = w, v.c = c;
    v.k = k, v.t = 1, v.r = 1, v.s = 1;
    v.stride_d = v.stride_h = v.stride_w = 1;
    v.pad_d = v.pad_h = v.pad_w = 0;
    v.dilation_d = v.dilation_h = v.dilation_w = 1;
    v.groups = 1;
    return v;
}

OCT_HD int oct_conv_extent(int in, int filter, int stride, int pad, int dilation)
{
    int span = in + 2 * pad - dilation * (filter - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

OCT_HD int oct_conv_p(const struct oct_conv_shape *v)
{
    return oct_conv_extent(v->h, v->r, v->stride_h, v->pad_h, v->dilation_h);
}

OCT_HD int oct_conv_q(const struct oct_conv_shape *v)
{
    return oct_conv_extent(v->w, v->s, v->stride_w, v->pad_w, v->dilation_w);
}

/* The input row (or column) that filter tap `tap` of output `out` reads; may lie outside. */
OCT_HD int oct_conv_input_of(int out, int tap, int stride, int pad, int dilation)
{
    return out * stride - pad + tap * dilation;
}

/* Whether every window along one axis holds at least one input pixel. */
OCT_HD int oct_conv_axis_meets_input(int in, int out, int filter, int stride, int pad, int dilation)
{
    for (int o = 0; o < out; o++) {
        int met = 0;
        for (int tap = 0; tap < filter; tap++) {
            int at = oct_conv_input_of(o, tap, stride, pad, dilation);
            met |= at >= 0 && at < in;
        }
        if (!met)
            return 0;
    }
    return 1;
}

/* Whether every window holds at least one input pixel, which pooling demands. */
OCT_HD int oct_conv_windows_meet_input(const struct oct_conv_shape *v)
{
    return oct_conv_axis_meets_input(
               v->h, oct_conv_p(v), v->r, v->stride_h, v->pad_h, v->dilation_h) &&
           oct_conv_axis_meets_input(
               v->w, oct_conv_q(v), v->s, v->stride_w, v->pad_w, v->dilation_w);
}

OCT_HD int64_t oct_conv_x_elements(const struct oct_conv_shape *v)
{
    return (int64_t)v->n * v->h * v->w * v->c;
}

OCT_HD int64_t oct_conv_y_elements(const struct oct_conv_shape *v)
{
    return (int64_t)v->n * oct_conv_p(v) * oct_conv_q(v) * v->k;
}

OCT_HD int64_t oct_conv_w_elements(const struct oct_conv_shape *v)
{
    return (int64_t)v->k * v->r * v->s * (v->c / v->groups);
}

/* Multiply-accumulates of one pass; all three passes do the same number. */
OCT_HD int64_t oct_conv_macs(const struct oct_conv_shape *v)
{
    return oct_conv_y_elements(v) * v->r * v->s * (v->c / v->groups);
}

/* Right shift h of the BN statistics: the smallest h for which the sum of squares of
 * rshift_round(acc, h) over all output pixels cannot overflow int64 (docs/numerics.md). */
OCT_HD int oct_conv_stats_shift(const struct oct_conv_shape *v, int w_code_max)
{
    double acc = (double)OCT_CODE_MAX * w_code_max * v->r * v->s * (v->c / v->groups);
    double pixels = (double)v->n * oct_conv_p(v) * oct_conv_q(v);
    int h = 0;
    /* |rshift_round(acc, h)| <= acc / 2^h + 1 */
    for (double a = acc + 1.0; a * a * pixels >= 4.6e18; a = a / 2.0 + 1.0)
        h++;
    return h;
}

#endif
