#include "oracle/oracle_conv.h"

#include <float.h>
#include <math.h>
#include <string.h>

void oracle_codes(int32_t *codes, const int8_t *hi, const int8_t *lo, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        codes[i] = lo ? 128 * hi[i] + lo[i] : hi[i];
}

void oracle_weight_codes(int32_t *codes, const float *w, int64_t k, int64_t filter,
    const float *inverse, int per_k, int code_max)
{
    for (int64_t i = 0; i < k * filter; i++) {
        float v = w[i] * inverse[per_k ? i / filter : 0];
        codes[i] = 0;
        if (!isfinite(w[i]))
            continue;
        if (v > (float)code_max)
            v = (float)code_max;
        if (v < -(float)code_max)
            v = -(float)code_max;
        codes[i] = (int32_t)nearbyint((double)v);
    }
}

/* One visit per product: x index, w index, y index. */
typedef void visitor(
    int64_t *acc, const int32_t *a, const int32_t *b, int64_t x, int64_t w, int64_t y);

static void visit_all(const struct oct_conv_shape *v, visitor *visit, int64_t *acc,
    const int32_t *a, const int32_t *b)
{
    int p_count = (v->h + 2 * v->pad_h - v->dilation_h * (v->r - 1) - 1) / v->stride_h + 1;
    int q_count = (v->w + 2 * v->pad_w - v->dilation_w * (v->s - 1) - 1) / v->stride_w + 1;
    for (int n = 0; n < v->n; n++)
        for (int p = 0; p < p_count; p++)
            for (int q = 0; q < q_count; q++)
                for (int r = 0; r < v->r; r++)
                    for (int s = 0; s < v->s; s++) {
                        int h = p * v->stride_h - v->pad_h + r * v->dilation_h;
                        int w = q * v->stride_w - v->pad_w + s * v->dilation_w;
                        if (h < 0 || h >= v->h || w < 0 || w >= v->w)
                            continue;
                        for (int k = 0; k < v->k; k++)
                            for (int c = 0; c < v->c; c++)
                                visit(acc, a, b, (((int64_t)n * v->h + h) * v->w + w) * v->c + c,
                                    (((int64_t)k * v->r + r) * v->s + s) * v->c + c,
                                    (((int64_t)n * p_count + p) * q_count + q) * v->k + k);
                    }
}

static void visit_fprop(
    int64_t *acc, const int32_t *a, const int32_t *b, int64_t x, int64_t w, int64_t y)
{
    acc[y] += (int64_t)a[x] * b[w];
}

static void visit_dgrad(
    int64_t *acc, const int32_t *a, const int32_t *b, int64_t x, int64_t w, int64_t y)
{
    acc[x] += (int64_t)a[y] * b[w];
}

static void visit_wgrad(
    int64_t *acc, const int32_t *a, const int32_t *b, int64_t x, int64_t w, int64_t y)
{
    acc[w] += (int64_t)a[x] * b[y];
}

void oracle_conv_fprop(
    int64_t *acc, const struct oct_conv_shape *v, const int32_t *x, const int32_t *w)
{
    int p_count = (v->h + 2 * v->pad_h - v->dilation_h * (v->r - 1) - 1) / v->stride_h + 1;
    int q_count = (v->w + 2 * v->pad_w - v->dilation_w * (v->s - 1) - 1) / v->stride_w + 1;
    memset(acc, 0, sizeof *acc * (size_t)v->n * (size_t)p_count * (size_t)q_count * (size_t)v->k);
    visit_all(v, visit_fprop, acc, x, w);
}

void oracle_conv_dgrad(
    int64_t *acc, const struct oct_conv_shape *v, const int32_t *dy, const int32_t *w)
{
    memset(acc, 0, sizeof *acc * (size_t)v->n * (size_t)v->h * (size_t)v->w * (size_t)v->c);
    visit_all(v, visit_dgrad, acc, dy, w);
}

void oracle_conv_wgrad(
    int64_t *acc, const struct oct_conv_shape *v, const int32_t *x, const int32_t *dy)
{
    memset(acc, 0, sizeof *acc * (size_t)v->k * (size_t)v->r * (size_t)v->s * (size_t)v->c);
    visit_all(v, visit_wgrad, acc, x, dy);
}

static float flushed(float x)
{
    return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x;
}

float oracle_conv_real(int64_t acc, float s, float s2, const float *bias, const float *old)
{
    float multiplier = flushed(flushed(s) * flushed(s2));
    float f = flushed((float)acc * multiplier);
    if (bias)
        f = flushed(f + flushed(*bias));
    if (old)
        f = flushed(flushed(*old) + f);
    return f;
}

int64_t oracle_rshift_round(int64_t a, int h)
{
    /* exact in long double: |a| < 2^63 has 63 bits */
    return (int64_t)floorl(ldexpl((long double)a, -h) + 0.5L);
}
