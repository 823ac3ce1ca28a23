/* The loader: order, augmentation, and that neither workers nor restarts can be seen. */
#include "data/augment.h"
#include "data/data.h"
#include "oracle/oracle_data.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

TestSuite(loader, .timeout = 120);

/* Random images of h x w x c; the label is the image's number. */
static struct oct_dataset *make_dataset(int count, int h, int w, int c)
{
    struct oct_dataset *dataset = calloc(1, sizeof *dataset);
    size_t bytes = (size_t)count * (size_t)(h * w * c);
    uint8_t *images = malloc(bytes);
    int32_t *labels = malloc((size_t)count * sizeof *labels);
    for (size_t i = 0; i < bytes; i++) {
        struct oct_philox word = oct_random(77, OCT_RNG_INIT, 0, i);
        images[i] = (uint8_t)(1 + word.v[0] % 255); /* never 0, so padding can be told apart */
    }
    for (int i = 0; i < count; i++)
        labels[i] = i;
    *dataset = (struct oct_dataset){.name = "test",
        .count = count,
        .h = h,
        .w = w,
        .c = c,
        .classes = count,
        .images = images,
        .labels = labels};
    return dataset;
}

static struct oct_loader *open_loader(struct oct_loader_options options)
{
    struct oct_loader *loader = NULL;
    cr_assert_eq(oct_loader_open(&options, &loader), OCT_OK, "%s", oct_last_error());
    return loader;
}

static void start(struct oct_loader *loader, int epoch, int64_t first)
{
    cr_assert_eq(oct_loader_start(loader, epoch, first), OCT_OK, "%s", oct_last_error());
}

static struct oct_batch next(struct oct_loader *loader)
{
    struct oct_batch batch;
    cr_assert_eq(oct_loader_next(loader, &batch), OCT_OK, "%s", oct_last_error());
    return batch;
}

/* Labels of the rest of the epoch, in order of delivery. Returns how many. */
static int64_t read_order(struct oct_loader *loader, int64_t first, int32_t *labels)
{
    int64_t count = 0;
    for (int64_t i = first; i < oct_loader_batches(loader); i++) {
        struct oct_batch batch = next(loader);
        cr_assert_eq(batch.index, i);
        memcpy(labels + count, batch.labels, (size_t)batch.count * sizeof *labels);
        count += batch.count;
    }
    return count;
}

Test(loader, an_epoch_is_a_permutation_of_its_seed_and_number)
{
    enum { COUNT = 103 };
    struct oct_dataset *dataset = make_dataset(COUNT, 2, 2, 1);
    struct oct_loader_options options = {
        .dataset = dataset, .batch = 1, .workers = 2, .seed = 9, .shuffle = 1};
    struct oct_loader *loader = open_loader(options);
    int32_t first[COUNT], second[COUNT], again[COUNT], other[COUNT];
    int seen[COUNT] = {0}, in_place = 0;
    start(loader, 0, 0);
    cr_assert_eq(read_order(loader, 0, first), COUNT);
    start(loader, 1, 0);
    read_order(loader, 0, second);
    start(loader, 0, 0);
    read_order(loader, 0, again);
    options.seed = 10;
    struct oct_loader *reseeded = open_loader(options);
    start(reseeded, 0, 0);
    read_order(reseeded, 0, other);
    for (int i = 0; i < COUNT; i++) {
        seen[first[i]]++;
        in_place += first[i] == i;
    }
    for (int i = 0; i < COUNT; i++)
        cr_assert_eq(seen[i], 1, "sample %d came %d times", i, seen[i]);
    cr_assert(in_place < 10, "%d of %d samples did not move", in_place, COUNT);
    cr_assert_eq(memcmp(first, again, sizeof first), 0);
    cr_assert_neq(memcmp(first, second, sizeof first), 0);
    cr_assert_neq(memcmp(first, other, sizeof first), 0);
    oct_loader_close(loader);
    oct_loader_close(reseeded);
    oct_dataset_close(dataset);
}

Test(loader, every_order_is_equally_likely)
{
    /* 4! = 24 orders over 2400 epochs: 100 each. Chi-square with 23 degrees of freedom exceeds
     * 58.6 with probability 6e-5; the seed is fixed. */
    enum { COUNT = 4, EPOCHS = 2400 };
    struct oct_dataset *dataset = make_dataset(COUNT, 1, 1, 1);
    struct oct_loader *loader = open_loader((struct oct_loader_options){
        .dataset = dataset, .batch = COUNT, .workers = 1, .seed = 3, .shuffle = 1});
    int counts[256] = {0};
    double chi = 0;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        start(loader, epoch, 0);
        struct oct_batch batch = next(loader);
        int code = 0;
        for (int i = 0; i < COUNT; i++)
            code = 4 * code + batch.labels[i];
        counts[code]++;
    }
    for (int code = 0; code < 256; code++)
        chi += counts[code] ? (counts[code] - 100) * (counts[code] - 100) / 100.0 : 0;
    cr_assert(chi < 58.6, "chi-square %.1f", chi);
    oct_loader_close(loader);
    oct_dataset_close(dataset);
}

/* All bytes and labels of an epoch from batch `first` on. */
static uint8_t *record_epoch(
    struct oct_loader_options options, int epoch, int64_t first, size_t *bytes)
{
    const struct oct_dataset *dataset = options.dataset;
    struct oct_loader *loader = open_loader(options);
    size_t images = (size_t)options.batch * (size_t)(dataset->h * dataset->w * dataset->c);
    size_t labels = (size_t)options.batch * sizeof(int32_t);
    int64_t batches = oct_loader_batches(loader);
    *bytes = (size_t)(batches - first) * (images + labels);
    uint8_t *record = malloc(*bytes), *end = record;
    start(loader, epoch, first);
    for (int64_t i = first; i < batches; i++) {
        struct oct_batch batch = next(loader);
        memcpy(end, batch.images, images);
        memcpy(end + images, batch.labels, labels);
        end += images + labels;
    }
    oct_loader_close(loader);
    return record;
}

Test(loader, workers_slots_and_restarts_cannot_be_seen)
{
    struct oct_dataset *dataset = make_dataset(250, 9, 7, 3);
    struct oct_loader_options options = {.dataset = dataset,
        .batch = 8,
        .workers = 1,
        .seed = 4,
        .shuffle = 1,
        .crop_padding = 3,
        .hflip = 0.5};
    size_t bytes, other_bytes;
    uint8_t *want = record_epoch(options, 2, 0, &bytes);
    for (int workers = 1; workers <= 3; workers++) {
        for (int slots = 0; slots <= 3; slots++) {
            options.workers = workers;
            options.slots = slots;
            uint8_t *got = record_epoch(options, 2, 0, &other_bytes);
            cr_assert(bytes == other_bytes && memcmp(want, got, bytes) == 0, "%d workers, %d slots",
                workers, slots);
            free(got);
            uint8_t *rest = record_epoch(options, 2, 17, &other_bytes);
            cr_assert(memcmp(want + bytes - other_bytes, rest, other_bytes) == 0,
                "restart at 17 with %d workers, %d slots", workers, slots);
            free(rest);
        }
    }
    free(want);
    oct_dataset_close(dataset);
}

Test(loader, start_drops_what_was_being_prepared)
{
    /* Large batches, so that workers are in the middle of one when the next start comes. */
    enum { BATCH = 64, BATCHES = 4, ORDER = BATCH * BATCHES };
    struct oct_dataset *dataset = make_dataset(ORDER, 48, 48, 3);
    struct oct_loader *loader = open_loader((struct oct_loader_options){
        .dataset = dataset, .batch = BATCH, .workers = 3, .seed = 1, .shuffle = 1, .hflip = 0.5});
    int32_t order[3][ORDER];
    for (int epoch = 0; epoch < 3; epoch++) {
        start(loader, epoch, 0);
        read_order(loader, 0, order[epoch]);
    }
    for (int i = 0; i < 1000; i++) {
        int epoch = i % 3, first = i % BATCHES;
        start(loader, (epoch + 1) % 3, first);
        nanosleep(&(struct timespec){.tv_nsec = 1000 * (i % 100)}, NULL);
        start(loader, epoch, first);
        struct oct_batch batch = next(loader);
        cr_assert_eq(memcmp(batch.labels, order[epoch] + first * BATCH, sizeof(int32_t) * BATCH), 0,
            "epoch %d batch %d", epoch, first);
    }
    oct_loader_close(loader);
    oct_dataset_close(dataset);
}

Test(loader, a_batch_stays_until_the_next_call)
{
    struct oct_dataset *dataset = make_dataset(400, 6, 6, 3);
    struct oct_loader *loader = open_loader((struct oct_loader_options){
        .dataset = dataset, .batch = 4, .workers = 3, .slots = 2, .seed = 1, .crop_padding = 2});
    uint8_t copy[4 * 108];
    start(loader, 0, 0);
    for (int i = 0; i < 100; i++) {
        struct oct_batch batch = next(loader);
        memcpy(copy, batch.images, sizeof copy);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* the workers run ahead */
        cr_assert_eq(memcmp(copy, batch.images, sizeof copy), 0, "batch %d changed", i);
    }
    oct_loader_close(loader);
    oct_dataset_close(dataset);
}

Test(loader, evaluation_keeps_order_and_fills_the_last_batch)
{
    struct oct_dataset *dataset = make_dataset(10, 3, 5, 2);
    struct oct_loader *loader = open_loader(
        (struct oct_loader_options){.dataset = dataset, .batch = 4, .workers = 2, .seed = 1});
    cr_assert_eq(oct_loader_batches(loader), 3);
    for (int repeat = 0; repeat < 2; repeat++) {
        start(loader, repeat, 0);
        for (int b = 0; b < 3; b++) {
            struct oct_batch batch = next(loader);
            cr_assert_eq(batch.count, b < 2 ? 4 : 2);
            for (int i = 0; i < batch.count; i++)
                cr_assert_eq(batch.labels[i], 4 * b + i);
            cr_assert_eq(
                memcmp(batch.images, dataset->images + b * 120, (size_t)batch.count * 30), 0);
            for (int i = batch.count; i < 4; i++)
                cr_assert_eq(batch.labels[i], -1);
            for (int i = batch.count * 30; i < 120; i++)
                cr_assert_eq(batch.images[i], 0);
        }
    }
    oct_loader_close(loader);
    oct_dataset_close(dataset);
}

Test(loader, crop_and_flip_equal_the_oracle)
{
    static const int shapes[][4] = {
        {7, 9, 3, 4}, {28, 28, 1, 4}, {3, 3, 4, 2}, {1, 1, 1, 0}, {32, 32, 3, 4}, {5, 2, 2, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        const int *shape = shapes[s];
        int p = shape[3];
        size_t bytes = (size_t)(shape[0] * shape[1] * shape[2]);
        struct oct_dataset *one = make_dataset(1, shape[0], shape[1], shape[2]);
        uint8_t *got = guard_alloc(bytes), *want = guard_alloc(bytes);
        for (int n = 0; n < (2 * p + 1) * (2 * p + 1) * 4; n++) {
            struct oracle_crop crop = {shape[0], shape[1], shape[2], p, n / 4 % (2 * p + 1),
                n / 4 / (2 * p + 1), n % 2, n / 2 % 2};
            struct oct_augment augment = {crop.top - p, crop.left - p, crop.flip, crop.reflect};
            oracle_augment(&crop, one->images, want);
            oct_augment_apply(augment, one->images, got, shape);
            cr_assert(same_tensor("crop", OCT_U8, got, want, (int64_t)bytes, NULL, 0),
                "shape %zu down %d right %d flip %d reflect %d", s, augment.down, augment.right,
                crop.flip, crop.reflect);
        }
        cr_assert(guard_intact(got, "crop"));
        guard_free(got);
        guard_free(want);
        oct_dataset_close(one);
    }
}

/* Which crop the image of a batch row is, as a number below 2 * (2 * padding + 1)^2; -1: none. */
static int find_crop(const struct oct_dataset *dataset, int sample, int padding, const uint8_t *row)
{
    int side = 2 * padding + 1, bytes = dataset->h * dataset->w * dataset->c;
    uint8_t *want = malloc((size_t)bytes);
    int found = -1;
    for (int n = 0; n < 2 * side * side && found < 0; n++) {
        struct oracle_crop crop = {
            dataset->h, dataset->w, dataset->c, padding, n / 2 / side, n / 2 % side, n % 2, 0};
        oracle_augment(&crop, dataset->images + (int64_t)sample * bytes, want);
        found = memcmp(want, row, (size_t)bytes) == 0 ? n : -1;
    }
    free(want);
    return found;
}

Test(loader, draws_are_uniform_and_belong_to_the_sample)
{
    /* 18 outcomes (3 x 3 crops, flip or not) over 1800 rows: 100 each. Chi-square with 17 degrees
     * of freedom exceeds 50 with probability 4e-5; the seed is fixed. Batch sizes 8 and 25 must
     * draw the same for each image. */
    enum { COUNT = 200, EPOCHS = 9 };
    struct oct_dataset *dataset = make_dataset(COUNT, 5, 5, 3);
    struct oct_loader_options options = {
        .dataset = dataset, .workers = 1, .seed = 8, .shuffle = 1, .crop_padding = 1, .hflip = 0.5};
    int counts[18] = {0}, draws[2][EPOCHS][COUNT];
    double chi = 0;
    for (int run = 0; run < 2; run++) {
        options.batch = run ? 25 : 8;
        struct oct_loader *loader = open_loader(options);
        for (int epoch = 0; epoch < EPOCHS; epoch++) {
            start(loader, epoch, 0);
            for (int64_t b = 0; b < oct_loader_batches(loader); b++) {
                struct oct_batch batch = next(loader);
                for (int i = 0; i < batch.count; i++) {
                    int sample = batch.labels[i];
                    int crop = find_crop(dataset, sample, 1, batch.images + i * 75);
                    cr_assert(crop >= 0, "epoch %d sample %d is no crop", epoch, sample);
                    draws[run][epoch][sample] = crop;
                    counts[crop] += run;
                }
            }
        }
        oct_loader_close(loader);
    }
    cr_assert_eq(memcmp(draws[0], draws[1], sizeof draws[0]), 0, "batch size shows in the draws");
    cr_assert_neq(memcmp(draws[0][0], draws[0][1], sizeof draws[0][0]), 0, "epochs draw alike");
    for (int i = 0; i < 18; i++)
        chi += (counts[i] - 100) * (counts[i] - 100) / 100.0;
    cr_assert(chi < 50, "chi-square %.1f", chi);
    oct_dataset_close(dataset);
}

Test(loader, flip_probability_zero_and_one)
{
    for (uint64_t sample = 0; sample < 1000; sample++) {
        struct oct_augment_options never = {.seed = 1, .hflip = 0},
                                   always = {.seed = 1, .hflip = 1};
        cr_assert_eq(oct_augment_draw(&never, 0, sample).flip, 0);
        cr_assert_eq(oct_augment_draw(&always, 0, sample).flip, 1);
    }
}

Test(loader, refuses_senseless_options)
{
    struct oct_dataset *dataset = make_dataset(10, 6, 4, 3);
    const struct oct_loader_options good = {.dataset = dataset, .batch = 4, .workers = 1};
    struct oct_loader_options cases[9];
    for (int i = 0; i < 9; i++)
        cases[i] = good;
    cases[0].batch = 0;
    cases[1].workers = 0;
    cases[2].workers = 100000;
    cases[3].slots = -1;
    cases[4].crop_padding = -1;
    cases[5].crop_padding = 4;
    cases[6].hflip = -0.1;
    cases[7].hflip = NAN;
    cases[8].batch = 11;
    cases[8].shuffle = 1;
    for (int i = 0; i < 9; i++) {
        struct oct_loader *loader = NULL;
        cr_assert_eq(oct_loader_open(&cases[i], &loader), OCT_ARG, "case %d", i);
        cr_assert_null(loader);
    }
    oct_dataset_close(dataset);
}

Test(loader, calls_out_of_order_are_refused)
{
    struct oct_dataset *dataset = make_dataset(10, 2, 2, 1);
    struct oct_loader *loader = open_loader(
        (struct oct_loader_options){.dataset = dataset, .batch = 5, .workers = 1, .shuffle = 1});
    struct oct_batch batch;
    cr_assert_eq(oct_loader_next(loader, &batch), OCT_ARG);
    cr_assert_eq(oct_loader_start(loader, -1, 0), OCT_ARG);
    cr_assert_eq(oct_loader_start(loader, 0, -1), OCT_ARG);
    cr_assert_eq(oct_loader_start(loader, 0, 3), OCT_ARG);
    start(loader, 0, 1);
    next(loader);
    cr_assert_eq(oct_loader_next(loader, &batch), OCT_ARG);
    start(loader, 0, 2); /* nothing left, but well formed: a checkpoint at the end of an epoch */
    cr_assert_eq(oct_loader_next(loader, &batch), OCT_ARG);
    oct_loader_close(loader);
    oct_loader_close(NULL);
    oct_dataset_close(dataset);
}

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Prints a rate and asserts none. */
Test(loader, throughput)
{
    struct oct_dataset *dataset = make_dataset(10000, 32, 32, 3);
    for (int workers = 1; workers <= 2; workers++) {
        struct oct_loader *loader = open_loader((struct oct_loader_options){.dataset = dataset,
            .batch = 128,
            .workers = workers,
            .seed = 1,
            .shuffle = 1,
            .crop_padding = 4,
            .hflip = 0.5});
        double began = seconds(CLOCK_MONOTONIC), worked = seconds(CLOCK_PROCESS_CPUTIME_ID);
        int64_t images = 0;
        for (int epoch = 0; epoch < 4; epoch++) {
            start(loader, epoch, 0);
            for (int64_t b = 0; b < oct_loader_batches(loader); b++)
                images += next(loader).count;
        }
        double wall = seconds(CLOCK_MONOTONIC) - began;
        printf(
            "loader: %d workers, %.0f images/s of 32x32x3, %.0f per CPU second, waited %.0f %%\n",
            workers, (double)images / wall,
            (double)images / (seconds(CLOCK_PROCESS_CPUTIME_ID) - worked),
            100 * oct_loader_wait_seconds(loader) / wall);
        cr_assert(oct_loader_wait_seconds(loader) <= wall);
        oct_loader_close(loader);
    }
    oct_dataset_close(dataset);
}
