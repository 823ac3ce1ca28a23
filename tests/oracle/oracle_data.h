/* Slow, obvious versions of what src/data computes. */
#ifndef OCT_ORACLE_DATA_H
#define OCT_ORACLE_DATA_H

#include <stdint.h>

struct oracle_crop {
    int h, w, c, padding;
    int top, left; /* corner of the crop in the padded image, 0 to 2 * padding */
    int flip;
    int reflect;
};

/* Pads in[h, w, c] on all sides, with zeros or with its own rows and columns in reverse order, the
 * border ones left out (3 2 | 1 2 3 | 2 1), cuts h x w at (top, left), mirrors the result. */
void oracle_augment(const struct oracle_crop *crop, const uint8_t *in, uint8_t *out);

/* Mean and population standard deviation of x / 255 of one channel of u8[pixels, channels], in two
 * passes. */
void oracle_mean_std(
    const uint8_t *x, int64_t pixels, int channels, int channel, double *mean, double *std);

#endif
