#include "oracle/oracle_fconv.h"

#include <math.h>
#include <string.h>

/* Output extent: how many positions the dilated filter takes on the padded input. */
static int extent(int in, int filter, int stride, int pad, int dilation)
{
    int count = 0;
    for (int at = -pad; at + dilation * (filter - 1) < in + pad; at += stride)
        count++;
    return count;
}

/* Called for every product of the convolution: which input, which weight, which output. */
typedef void visitor(void *arg, int64_t x, int64_t w, int64_t y);

/* The products of one output pixel (pixel index y) and one filter tap (r, s). */
static void each_channel(
    const struct oct_conv_shape *v, int64_t x, int64_t y, int tap, visitor *visit, void *arg)
{
    for (int k = 0; k < v->k; k++)
        for (int c = 0; c < v->c; c++)
            visit(arg, x * v->c + c, ((int64_t)k * v->r * v->s + tap) * v->c + c, y * v->k + k);
}

static void each_product(const struct oct_conv_shape *v, visitor *visit, void *arg)
{
    int out_h = extent(v->h, v->r, v->stride_h, v->pad_h, v->dilation_h);
    int out_w = extent(v->w, v->s, v->stride_w, v->pad_w, v->dilation_w);
    for (int64_t y = 0; y < (int64_t)v->n * out_h * out_w; y++) {
        int64_t n = y / out_w / out_h;
        int p = (int)(y / out_w % out_h), q = (int)(y % out_w);
        for (int tap = 0; tap < v->r * v->s; tap++) {
            int h = p * v->stride_h - v->pad_h + tap / v->s * v->dilation_h;
            int w = q * v->stride_w - v->pad_w + tap % v->s * v->dilation_w;
            if (h >= 0 && h < v->h && w >= 0 && w < v->w)
                each_channel(v, (n * v->h + h) * v->w + w, y, tap, visit, arg);
        }
    }
}

struct sums {
    const double *a, *b;
    double *out, *magnitude;
};

static void add(struct sums *t, int64_t out, double product)
{
    t->out[out] += product;
    t->magnitude[out] += fabs(product);
}

static void add_fprop(void *arg, int64_t x, int64_t w, int64_t y)
{
    struct sums *t = arg;
    add(t, y, t->a[x] * t->b[w]);
}

static void add_dgrad(void *arg, int64_t x, int64_t w, int64_t y)
{
    struct sums *t = arg;
    add(t, x, t->a[y] * t->b[w]);
}

static void add_wgrad(void *arg, int64_t x, int64_t w, int64_t y)
{
    struct sums *t = arg;
    add(t, w, t->a[x] * t->b[y]);
}

static void clear(double *out, double *magnitude, int64_t n)
{
    memset(out, 0, (size_t)n * sizeof *out);
    memset(magnitude, 0, (size_t)n * sizeof *magnitude);
}

void oracle_fconv_fprop(const struct oct_conv_shape *v, const double *x, const double *w,
    const double *bias, double *y, double *magnitude)
{
    struct sums t = {x, w, y, magnitude};
    int64_t pixels = (int64_t)v->n * extent(v->h, v->r, v->stride_h, v->pad_h, v->dilation_h) *
                     extent(v->w, v->s, v->stride_w, v->pad_w, v->dilation_w);
    clear(y, magnitude, pixels * v->k);
    each_product(v, add_fprop, &t);
    for (int64_t i = 0; bias && i < pixels * v->k; i++)
        add(&t, i, bias[i % v->k]);
}

void oracle_fconv_dgrad(const struct oct_conv_shape *v, const double *dy, const double *w,
    double *dx, double *magnitude)
{
    struct sums t = {dy, w, dx, magnitude};
    clear(dx, magnitude, (int64_t)v->n * v->h * v->w * v->c);
    each_product(v, add_dgrad, &t);
}

void oracle_fconv_wgrad(const struct oct_conv_shape *v, const double *x, const double *dy,
    double *dw, double *magnitude)
{
    struct sums t = {x, dy, dw, magnitude};
    clear(dw, magnitude, (int64_t)v->k * v->r * v->s * v->c);
    each_product(v, add_wgrad, &t);
}
