#include "data/augment.h"

#include "base/rng.h"

#include <string.h>

/* Uniform in [0, n): n is a few pixels, so the bias is below n / 2^32. */
static int draw_below(uint32_t word, int n)
{
    return (int)(((uint64_t)word * (uint32_t)n) >> 32);
}

struct oct_augment oct_augment_draw(
    const struct oct_augment_options *options, uint32_t epoch, uint64_t sample)
{
    struct oct_philox bits = oct_random(options->seed, OCT_RNG_AUGMENT, epoch, sample);
    int offsets = 2 * options->crop_padding + 1;
    struct oct_augment draw;
    draw.down = draw_below(bits.v[0], offsets) - options->crop_padding;
    draw.right = draw_below(bits.v[1], offsets) - options->crop_padding;
    draw.flip = oct_uniform(bits.v[2]) < options->hflip;
    return draw;
}

static void mirror_row(const uint8_t *in, uint8_t *out, int pixels, int channels)
{
    for (int x = 0; x < pixels; x++) {
        for (int c = 0; c < channels; c++)
            out[x * channels + c] = in[(pixels - 1 - x) * channels + c];
    }
}

void oct_augment_apply(
    struct oct_augment augment, const uint8_t *in, uint8_t *out, const int shape[3])
{
    int h = shape[0], w = shape[1], c = shape[2];
    size_t row = (size_t)w * (size_t)c;
    int shift = augment.right < 0 ? -augment.right : augment.right;
    int kept = shift < w ? w - shift : 0;
    /* Columns of the crop that lie inside the image, before the flip. */
    int from = augment.right > 0 ? augment.right : 0;
    int to = augment.right < 0 ? shift : 0;
    if (augment.flip)
        to = w - to - kept;

    for (int y = 0; y < h; y++) {
        int source = y + augment.down;
        uint8_t *line = out + (size_t)y * row;
        if (kept < w || source < 0 || source >= h)
            memset(line, 0, row);
        if (kept == 0 || source < 0 || source >= h)
            continue;
        const uint8_t *image = in + (size_t)source * row + (size_t)from * (size_t)c;
        uint8_t *target = line + (size_t)to * (size_t)c;
        if (augment.flip)
            mirror_row(image, target, kept, c);
        else
            memcpy(target, image, (size_t)kept * (size_t)c);
    }
}
