#include "train/analyse.h"

#include <math.h>
#include <string.h>

/* What one element of dy, channel k of pixel (p, q), adds. */
struct spread {
    const struct oct_conv_shape *shape;
    const float *x, *w; /* of this image, of all K */
    double *dw, *dx;
};

static void spread_one(const struct spread *at, int p, int q, int k, double dy)
{
    const struct oct_conv_shape *v = at->shape;
    for (int r = 0; r < v->r; r++) {
        int h = p * v->stride_h - v->pad_h + r * v->dilation_h;
        for (int s = 0; s < v->s && h >= 0 && h < v->h; s++) {
            int column = q * v->stride_w - v->pad_w + s * v->dilation_w;
            if (column < 0 || column >= v->w)
                continue;
            int64_t i = ((int64_t)h * v->w + column) * v->c;
            int64_t j = (((int64_t)k * v->r + r) * v->s + s) * v->c;
            for (int c = 0; c < v->c; c++)
                at->dw[j + c] += dy * (double)at->x[i + c];
            for (int c = 0; c < v->c && at->dx; c++)
                at->dx[i + c] += dy * (double)at->w[j + c];
        }
    }
}

void oct_float64_gradients(const struct oct_conv_shape *v, const float *x, const float *w,
    const float *dy, double *dw, double *dx)
{
    const int64_t image = (int64_t)v->h * v->w * v->c;
    const int p_count = oct_conv_p(v), q_count = oct_conv_q(v);

    memset(dw, 0, sizeof *dw * (size_t)((int64_t)v->k * v->r * v->s * v->c));
    if (dx)
        memset(dx, 0, sizeof *dx * (size_t)(v->n * image));
    for (int n = 0; n < v->n; n++) {
        const struct spread at = {v, x + n * image, w, dw, dx ? dx + n * image : NULL};
        for (int p = 0; p < p_count; p++)
            for (int q = 0; q < q_count; q++)
                for (int k = 0; k < v->k; k++, dy++)
                    if (*dy != 0.0f)
                        spread_one(&at, p, q, k, (double)*dy);
    }
}

double oct_snr(const float *got, const double *want, int64_t count)
{
    double signal = 0.0, noise = 0.0;
    for (int64_t i = 0; i < count; i++) {
        double error = (double)got[i] - want[i];
        signal += want[i] * want[i];
        noise += error * error;
    }
    return signal > 0.0 ? 10.0 * log10(signal / noise) : (double)NAN;
}

double oct_worst_snr(const float *got, const double *want, int rows, int64_t count)
{
    double worst = (double)NAN;
    for (int row = 0; row < rows; row++) {
        double snr = oct_snr(got + row * count, want + row * count, count);
        if (!isnan(snr) && !(snr >= worst))
            worst = snr;
    }
    return worst;
}

double oct_cosine(const float *got, const double *want, int64_t count)
{
    double dot = 0.0, a = 0.0, b = 0.0;
    for (int64_t i = 0; i < count; i++) {
        dot += (double)got[i] * want[i];
        a += (double)got[i] * (double)got[i];
        b += want[i] * want[i];
    }
    return a > 0.0 && b > 0.0 ? dot / sqrt(a * b) : (double)NAN;
}
