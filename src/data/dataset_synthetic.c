/* Pictures made of random bits, for tests and first steps without any file. Every class has a
 * smooth pattern per channel: a grid of 4x4 random values, interpolated. A picture is its class's
 * pattern at a contrast of its own, under strong noise: one pixel tells nearly nothing about the
 * class, the whole picture tells it. Integers only, so the bits are the same on every machine. */
#include "base/rng.h"
#include "data/dataset.h"

#include <stdlib.h>

enum {
    GRID = 4, /* GRID * GRID bytes are one block of random bits */
    BLOCK = 16,
    MAX_SYNTHETIC_SIDE = 1024,
    MAX_CLASSES = 1000,
    VAL_DIVISOR = 4 /* the validation split is this much smaller */
};

/* `major` of the random streams; the splits' streams follow each other. */
enum { MAJOR_PATTERN, MAJOR_NOISE, MAJOR_CONTRAST = MAJOR_NOISE + 2 };

static int random_byte(const struct oct_philox *block, int i)
{
    return (int)(block->v[i / 4] >> (8 * (i % 4)) & 0xffu);
}

/* Position of a pixel on the grid: cell and the share of its right neighbour, in 1/256. */
static void grid_position(int x, int size, int *cell, int *share)
{
    int position = size > 1 ? x * (GRID - 1) * 256 / (size - 1) : 0;
    *cell = position / 256 < GRID - 2 ? position / 256 : GRID - 2;
    *share = position - *cell * 256;
}

/* pattern[classes, size, size, channels], values -128 to 127. */
static void make_patterns(const struct oct_dataset_options *options, int8_t *pattern)
{
    int size = options->size, channels = options->channels;
    for (int k = 0; k < options->classes * channels; k++) {
        struct oct_philox grid =
            oct_random(options->seed, OCT_RNG_SYNTHETIC, MAJOR_PATTERN, (uint64_t)k);
        int8_t *plane = pattern + (int64_t)(k / channels) * size * size * channels + k % channels;
        for (int y = 0; y < size; y++) {
            int row, down, column, right;
            grid_position(y, size, &row, &down);
            for (int x = 0; x < size; x++) {
                grid_position(x, size, &column, &right);
                int corner = row * GRID + column;
                int top = random_byte(&grid, corner) * (256 - right) +
                          random_byte(&grid, corner + 1) * right;
                int bottom = random_byte(&grid, corner + GRID) * (256 - right) +
                             random_byte(&grid, corner + GRID + 1) * right;
                int value = (top * (256 - down) + bottom * down) / 65536;
                plane[((int64_t)y * size + x) * channels] = (int8_t)(value - 128);
            }
        }
    }
}

/* Image `index` of a split, u8[size, size, channels]; its class is index % classes. */
static void make_image(const struct oct_dataset_options *options, enum oct_split split,
    int64_t index, const int8_t *patterns, uint8_t *image)
{
    int64_t bytes = (int64_t)options->size * options->size * options->channels;
    int64_t blocks = (bytes + BLOCK - 1) / BLOCK;
    const int8_t *pattern = patterns + index % options->classes * bytes;
    struct oct_philox draw = oct_random(
        options->seed, OCT_RNG_SYNTHETIC, MAJOR_CONTRAST + (uint32_t)split, (uint64_t)index);
    int contrast = 64 + random_byte(&draw, 0) / 2; /* in 1/256: a quarter to three quarters */
    struct oct_philox noise = {{0}};
    for (int64_t i = 0; i < bytes; i++) {
        if (i % BLOCK == 0)
            noise = oct_random(options->seed, OCT_RNG_SYNTHETIC, MAJOR_NOISE + (uint32_t)split,
                (uint64_t)(index * blocks + i / BLOCK));
        int value = 128 + pattern[i] * contrast / 256 +
                    (random_byte(&noise, (int)(i % BLOCK)) - 128) * 3 / 4;
        image[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

static enum oct_status check_options(const struct oct_dataset_options *options)
{
    if (options->size < 1 || options->size > MAX_SYNTHETIC_SIDE || options->channels < 1 ||
        options->channels > OCT_MAX_CHANNELS || options->classes < 1 ||
        options->classes > MAX_CLASSES || options->images < options->classes)
        return oct_fail(OCT_ARG,
            "synthetic data of %d images, %d pixels a side, %d channels, %d classes was asked for; "
            "choose 1 to %d pixels, 1 to %d channels, 1 to %d classes, at least one image a class",
            options->images, options->size, options->channels, options->classes, MAX_SYNTHETIC_SIDE,
            OCT_MAX_CHANNELS, MAX_CLASSES);
    return OCT_OK;
}

static int64_t split_count(const struct oct_dataset_options *options)
{
    int64_t quarter = options->images / VAL_DIVISOR;
    if (options->split == OCT_TRAIN)
        return options->images;
    return quarter > options->classes ? quarter : options->classes;
}

enum oct_status oct_synthetic_open(
    const struct oct_dataset_options *options, struct oct_dataset **out)
{
    OCT_TRY(check_options(options));
    int64_t bytes = (int64_t)options->size * options->size * options->channels;
    struct oct_dataset facts = {.name = "synthetic",
        .count = split_count(options),
        .h = options->size,
        .w = options->size,
        .c = options->channels,
        .classes = options->classes};
    struct oct_dataset *dataset;
    enum oct_status status = OCT_OK;
    struct oct_pixel_sums sums = {0};
    int8_t *patterns = malloc((size_t)(options->classes * bytes));
    uint8_t *scratch = malloc((size_t)bytes);
    if (!patterns || !scratch) {
        status = oct_fail(OCT_NOMEM, "no memory for %d patterns of %lld bytes (synthetic data)",
            options->classes, (long long)bytes);
        goto out;
    }
    OCT_OUT(oct_dataset_create(&facts, &dataset));
    make_patterns(options, patterns);
    /* Mean and deviation are the training split's, so its images are made for either split. */
    for (int64_t i = 0; i < options->images; i++) {
        uint8_t *image =
            options->split == OCT_TRAIN ? oct_dataset_images(dataset) + i * bytes : scratch;
        make_image(options, OCT_TRAIN, i, patterns, image);
        oct_pixel_sums_add(&sums, image, bytes / options->channels, options->channels);
    }
    oct_pixel_sums_finish(&sums, options->channels, dataset->mean, dataset->std);
    for (int64_t i = 0; i < facts.count; i++) {
        if (options->split == OCT_VAL)
            make_image(options, OCT_VAL, i, patterns, oct_dataset_images(dataset) + i * bytes);
        oct_dataset_labels(dataset)[i] = (int32_t)(i % options->classes);
    }
    *out = dataset;
out:
    free(patterns);
    free(scratch);
    return status;
}
