/* Worker threads fill a ring of batches ahead of the caller. Batch b lies in slot b % slots; which
 * thread fills it cannot show, since every sample's bits come from (seed, epoch, sample). */
#include "base/rng.h"
#include "data/augment.h"
#include "data/data.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_WORKERS = 256, MAX_SLOTS = 4096 };

struct slot {
    uint8_t *images;
    int32_t *labels;
    int64_t filled; /* number of the batch that lies here complete; -1: none */
};

struct oct_loader {
    struct oct_loader_options options;
    struct oct_augment_options augment;
    int64_t batches;
    int64_t *order; /* sample at each position of the epoch */
    struct slot *slots;
    pthread_t *workers;
    int started; /* threads that run */
    double wait_seconds;
    int open_primitives; /* mutex and conditions exist */

    pthread_mutex_t mutex; /* guards what follows and slot.filled */
    pthread_cond_t work;   /* a batch may be filled, or quit */
    pthread_cond_t done;   /* a batch was filled */
    int epoch;             /* -1: never started */
    int64_t claimed;       /* next batch a worker takes */
    int64_t held;          /* oldest batch whose slot is in use: the caller's, or the next one's */
    int64_t next;          /* next batch to hand out */
    int busy;              /* workers filling a batch */
    int quit;
};

/* Fisher-Yates. The product of 64 random bits and i + 1 is uniform to 2^-64 * (i + 1). */
static void make_order(const struct oct_loader *loader, int epoch)
{
    int64_t count = loader->options.dataset->count;
    for (int64_t i = 0; i < count; i++)
        loader->order[i] = i;
    if (!loader->options.shuffle)
        return;
    for (int64_t i = count - 1; i > 0; i--) {
        struct oct_philox bits =
            oct_random(loader->options.seed, OCT_RNG_SHUFFLE, (uint32_t)epoch, (uint64_t)i);
        uint64_t word = (uint64_t)bits.v[1] << 32 | bits.v[0];
        int64_t j = (int64_t)((unsigned __int128)word * (uint64_t)(i + 1) >> 64);
        int64_t keep = loader->order[i];
        loader->order[i] = loader->order[j];
        loader->order[j] = keep;
    }
}

static int64_t samples_in(const struct oct_loader *loader, int64_t batch)
{
    int64_t left = loader->options.dataset->count - batch * loader->options.batch;
    return left < loader->options.batch ? left : loader->options.batch;
}

static void fill_batch(const struct oct_loader *loader, int64_t batch, const struct slot *slot)
{
    const struct oct_dataset *dataset = loader->options.dataset;
    const int shape[3] = {dataset->h, dataset->w, dataset->c};
    int64_t bytes = (int64_t)shape[0] * shape[1] * shape[2];
    int64_t count = samples_in(loader, batch);
    for (int64_t row = 0; row < count; row++) {
        int64_t sample = loader->order[batch * loader->options.batch + row];
        struct oct_augment augment =
            oct_augment_draw(&loader->augment, (uint32_t)loader->epoch, (uint64_t)sample);
        oct_augment_apply(
            augment, dataset->images + sample * bytes, slot->images + row * bytes, shape);
        slot->labels[row] = dataset->labels[sample];
    }
    memset(slot->images + count * bytes, 0, (size_t)((loader->options.batch - count) * bytes));
    for (int64_t row = count; row < loader->options.batch; row++)
        slot->labels[row] = -1;
}

static int can_claim(const struct oct_loader *loader)
{
    return loader->claimed < loader->batches &&
           loader->claimed < loader->held + loader->options.slots;
}

static void *worker_main(void *arg)
{
    struct oct_loader *loader = arg;
    pthread_mutex_lock(&loader->mutex);
    for (;;) {
        while (!loader->quit && !can_claim(loader))
            pthread_cond_wait(&loader->work, &loader->mutex);
        if (loader->quit)
            break;
        int64_t batch = loader->claimed++;
        struct slot *slot = &loader->slots[batch % loader->options.slots];
        loader->busy++;
        pthread_mutex_unlock(&loader->mutex);
        fill_batch(loader, batch, slot); /* epoch and order stay fixed while a worker is busy */
        pthread_mutex_lock(&loader->mutex);
        loader->busy--;
        slot->filled = batch;
        pthread_cond_signal(&loader->done);
    }
    pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

static enum oct_status check_options(const struct oct_loader_options *options)
{
    const struct oct_dataset *dataset = options->dataset;
    int side = dataset->h < dataset->w ? dataset->h : dataset->w;
    if (options->batch < 1)
        return oct_fail(OCT_ARG, "batch size %d is not positive", options->batch);
    if (options->shuffle && options->batch > dataset->count)
        return oct_fail(OCT_ARG,
            "batch size %d is larger than the training split of %lld images; choose a smaller one",
            options->batch, (long long)dataset->count);
    if (options->workers < 1 || options->workers > MAX_WORKERS)
        return oct_fail(
            OCT_ARG, "%d data workers asked for; choose 1 to %d", options->workers, MAX_WORKERS);
    if (options->slots < 0 || options->slots > MAX_SLOTS)
        return oct_fail(
            OCT_ARG, "%d loader slots asked for; choose 0 to %d", options->slots, MAX_SLOTS);
    if (options->crop_padding < 0 || options->crop_padding >= side)
        return oct_fail(OCT_ARG, "crop padding %d does not suit images of %dx%d; choose 0 to %d",
            options->crop_padding, dataset->h, dataset->w, side - 1);
    if (!(options->hflip >= 0 && options->hflip <= 1))
        return oct_fail(OCT_ARG, "flip probability %g is not between 0 and 1", options->hflip);
    return OCT_OK;
}

static enum oct_status allocate(struct oct_loader *loader)
{
    const struct oct_loader_options *options = &loader->options;
    const struct oct_dataset *dataset = options->dataset;
    size_t batch = (size_t)options->batch;
    size_t bytes = (size_t)dataset->h * (size_t)dataset->w * (size_t)dataset->c;
    int complete;
    loader->order = malloc((size_t)dataset->count * sizeof *loader->order);
    loader->workers = malloc((size_t)options->workers * sizeof *loader->workers);
    loader->slots = calloc((size_t)options->slots, sizeof *loader->slots);
    complete = loader->order && loader->workers && loader->slots;
    for (int i = 0; complete && i < options->slots; i++) {
        loader->slots[i].images = calloc(batch, bytes);
        loader->slots[i].labels = calloc(batch, sizeof(int32_t));
        loader->slots[i].filled = -1;
        complete = loader->slots[i].images && loader->slots[i].labels;
    }
    if (!complete)
        return oct_fail(OCT_NOMEM, "no memory for %d batches of %d images of %dx%dx%d",
            options->slots, options->batch, dataset->h, dataset->w, dataset->c);
    return OCT_OK;
}

static enum oct_status start_workers(struct oct_loader *loader)
{
    pthread_mutex_init(&loader->mutex, NULL); /* with default attributes these cannot fail */
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->done, NULL);
    loader->open_primitives = 1;
    for (; loader->started < loader->options.workers; loader->started++) {
        int error = pthread_create(&loader->workers[loader->started], NULL, worker_main, loader);
        if (error)
            return oct_fail(OCT_NOMEM, "data worker %d of %d could not start (%s); ask for fewer",
                loader->started + 1, loader->options.workers, strerror(error));
    }
    return OCT_OK;
}

enum oct_status oct_loader_open(const struct oct_loader_options *options, struct oct_loader **out)
{
    enum oct_status status;
    struct oct_loader *loader;
    int64_t count = options->dataset->count;
    OCT_TRY(check_options(options));
    loader = calloc(1, sizeof *loader);
    if (!loader)
        return oct_fail(OCT_NOMEM, "no memory for a data loader");
    loader->options = *options;
    if (options->slots == 0)
        loader->options.slots = 2 * options->workers + 2;
    loader->augment = (struct oct_augment_options){.seed = options->seed,
        .crop_padding = options->crop_padding,
        .crop_reflect = options->crop_reflect,
        .hflip = options->hflip};
    loader->batches = (options->shuffle ? count : count + options->batch - 1) / options->batch;
    loader->epoch = -1;
    loader->claimed = loader->next = loader->held = loader->batches; /* nothing to do yet */
    OCT_OUT(allocate(loader));
    OCT_OUT(start_workers(loader));
    *out = loader;
    loader = NULL;
out:
    oct_loader_close(loader);
    return status;
}

void oct_loader_close(struct oct_loader *loader)
{
    if (!loader)
        return;
    if (loader->open_primitives) {
        pthread_mutex_lock(&loader->mutex);
        loader->quit = 1;
        pthread_cond_broadcast(&loader->work);
        pthread_mutex_unlock(&loader->mutex);
        for (int i = 0; i < loader->started; i++)
            pthread_join(loader->workers[i], NULL);
        pthread_cond_destroy(&loader->work);
        pthread_cond_destroy(&loader->done);
        pthread_mutex_destroy(&loader->mutex);
    }
    for (int i = 0; loader->slots && i < loader->options.slots; i++) {
        free(loader->slots[i].images);
        free(loader->slots[i].labels);
    }
    free(loader->slots);
    free(loader->workers);
    free(loader->order);
    free(loader);
}

int64_t oct_loader_batches(const struct oct_loader *loader)
{
    return loader->batches;
}

enum oct_status oct_loader_start(struct oct_loader *loader, int epoch, int64_t first)
{
    if (epoch < 0 || first < 0 || first > loader->batches)
        return oct_fail(OCT_ARG, "cannot start epoch %d at batch %lld; an epoch has %lld batches",
            epoch, (long long)first, (long long)loader->batches);
    pthread_mutex_lock(&loader->mutex);
    loader->claimed = loader->batches; /* no new claims; then wait for the old ones */
    while (loader->busy > 0)
        pthread_cond_wait(&loader->done, &loader->mutex);
    if (loader->epoch != epoch)
        make_order(loader, epoch);
    for (int i = 0; i < loader->options.slots; i++)
        loader->slots[i].filled = -1;
    loader->epoch = epoch;
    loader->claimed = loader->held = loader->next = first;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    return OCT_OK;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

enum oct_status oct_loader_next(struct oct_loader *loader, struct oct_batch *batch)
{
    int64_t index = loader->next; /* only start and next, both the caller's, change it */
    struct slot *slot = &loader->slots[index % loader->options.slots];
    if (index >= loader->batches)
        return oct_fail(OCT_ARG, "batch %lld asked for, %s; start an epoch first", (long long)index,
            loader->epoch < 0 ? "none was started" : "the epoch is over");
    pthread_mutex_lock(&loader->mutex);
    loader->held = index; /* the caller gives up the batch before */
    loader->next = index + 1;
    pthread_cond_signal(&loader->work); /* one slot became free: work for one */
    if (slot->filled != index) {
        double began = now();
        while (slot->filled != index)
            pthread_cond_wait(&loader->done, &loader->mutex);
        loader->wait_seconds += now() - began;
    }
    pthread_mutex_unlock(&loader->mutex);
    *batch = (struct oct_batch){.images = slot->images,
        .labels = slot->labels,
        .count = (int)samples_in(loader, index),
        .index = index};
    return OCT_OK;
}

double oct_loader_wait_seconds(const struct oct_loader *loader)
{
    return loader->wait_seconds;
}
