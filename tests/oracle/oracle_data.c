#include "oracle/oracle_data.h"

#include <math.h>
#include <stdlib.h>

void oracle_augment(const struct oracle_crop *crop, const uint8_t *in, uint8_t *out)
{
    int h = crop->h, w = crop->w, c = crop->c, p = crop->padding;
    int wide = w + 2 * p;
    uint8_t *padded = calloc((size_t)(h + 2 * p) * (size_t)wide * (size_t)c, 1);
    if (!padded)
        abort();
    for (int y = -p; y < h + p; y++) {
        for (int x = -p; x < wide - p; x++) {
            int row = y < 0 ? -y : y, column = x < 0 ? -x : x;
            row = row > h - 1 ? h - 1 - (row - (h - 1)) : row;
            column = column > w - 1 ? w - 1 - (column - (w - 1)) : column;
            int inside = row == y && column == x;
            for (int k = 0; k < c && (inside || crop->reflect); k++)
                padded[((y + p) * wide + x + p) * c + k] = in[(row * w + column) * c + k];
        }
    }
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            int column = crop->flip ? w - 1 - x : x;
            for (int k = 0; k < c; k++)
                out[(y * w + x) * c + k] =
                    padded[((y + crop->top) * wide + column + crop->left) * c + k];
        }
    }
    free(padded);
}

void oracle_mean_std(
    const uint8_t *x, int64_t pixels, int channels, int channel, double *mean, double *std)
{
    long double sum = 0, squares = 0;
    for (int64_t i = 0; i < pixels; i++)
        sum += x[i * channels + channel] / 255.0L;
    long double m = sum / (long double)pixels;
    for (int64_t i = 0; i < pixels; i++) {
        long double d = x[i * channels + channel] / 255.0L - m;
        squares += d * d;
    }
    *mean = (double)m;
    *std = (double)sqrtl(squares / (long double)pixels);
}
