/* Training augmentation of one u8 image: crop out of a padded copy, horizontal flip. */
#ifndef OCT_AUGMENT_H
#define OCT_AUGMENT_H

#include <stdint.h>

/* Output pixel (y, x) is input pixel (y + down, x + right), x mirrored before that if `flip`.
 * Outside the image it is 0, or with `reflect` the pixel as far inside of the border pixel as it is
 * outside. |down| and |right| are at most the padding, which is less than the image's sides. */
struct oct_augment {
    int down, right, flip, reflect;
};

struct oct_augment_options {
    uint64_t seed;
    int crop_padding;
    int crop_reflect;
    double hflip; /* probability */
};

/* The draw of one sample: a function of (seed, epoch, number of the image in the data set) only,
 * so batch size, order and worker count cannot show. */
struct oct_augment oct_augment_draw(
    const struct oct_augment_options *options, uint32_t epoch, uint64_t sample);

/* out[h, w, c] from in[h, w, c]; they do not overlap. */
void oct_augment_apply(
    struct oct_augment augment, const uint8_t *in, uint8_t *out, const int shape[3]);

#endif
