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
    draw.reflect = options->crop_reflect;
    return draw;
}

static void mirror_row(const uint8_t *in, uint8_t *out, int pixels, int channels)
{
    for (int x = 0; x < pixels; x++) {
        for (int c = 0; c < channels; c++)
            out[x * channels + c] = in[(pixels - 1 - x) * channels + c];
    }
}

/* Where a row or column outside [0, n) comes from. */
static int reflect(int i, int n)
{
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

/* The columns of an output line that come from outside of the image. `line` is one of the image, or
 * NULL: black. */
static void pad_line(
    const struct oct_augment *augment, const uint8_t *line, uint8_t *out, int w, int c)
{
    int shift = augment->right < 0 ? -augment->right : augment->right;
    int first = augment->right < 0 ? 0 : w - shift;
    for (int x = first; x < first + shift; x++) {
        uint8_t *pixel = out + (augment->flip ? w - 1 - x : x) * c;
        if (line)
            memcpy(pixel, line + reflect(x + augment->right, w) * c, (size_t)c);
        else
            memset(pixel, 0, (size_t)c);
    }
}

void oct_augment_apply(
    struct oct_augment augment, const uint8_t *in, uint8_t *out, const int shape[3])
{
    int h = shape[0], w = shape[1], c = shape[2];
    size_t row = (size_t)w * (size_t)c;
    int kept = w - (augment.right < 0 ? -augment.right : augment.right);
    /* Columns of the crop that lie inside the image, before the flip. */
    int from = augment.right > 0 ? augment.right : 0;
    int to = augment.right < 0 ? -augment.right : 0;
    if (augment.flip)
        to = w - to - kept;

    for (int y = 0; y < h; y++) {
        int source = augment.reflect ? reflect(y + augment.down, h) : y + augment.down;
        uint8_t *line = out + (size_t)y * row;
        if (source < 0 || source >= h) {
            memset(line, 0, row);
            continue;
        }
        const uint8_t *image = in + (size_t)source * row;
        if (augment.flip)
            mirror_row(image + from * c, line + to * c, kept, c);
        else
            memcpy(line + to * c, image + from * c, (size_t)kept * (size_t)c);
        pad_line(&augment, augment.reflect ? image : NULL, line, w, c);
    }
}
