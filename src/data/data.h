/* Data sets held in memory as u8 images, and the loader that turns them into batches ahead of the
 * training step. A batch depends on (seed, epoch, batch number) only, never on worker count. */
#ifndef OCT_DATA_H
#define OCT_DATA_H

#include "base/status.h"

#include <stdint.h>

struct oct_dataset {
    const char *name; /* "cifar10", "cifar100", "idx", "synthetic" */
    int64_t count;
    int h, w, c, classes;
    const uint8_t *images;  /* u8[count, h, w, c], owned */
    const int32_t *labels;  /* s32[count], owned */
    double mean[4], std[4]; /* per channel, of x / 255; std >= 1/255 */
};

enum oct_split { OCT_TRAIN, OCT_VAL };

struct oct_dataset_options {
    const char *data;    /* folder; NULL for synthetic */
    const char *dataset; /* "auto" or NULL, "cifar10", "cifar100", "idx", "synthetic" */
    enum oct_split split;
    /* synthetic only; `images` counts the training split, the validation split has a quarter as
     * many, but at least one image a class */
    int images, size, channels, classes;
    uint64_t seed;
};

/* Loads a split. "auto" looks at the files of the folder: data_batch_1.bin (CIFAR-10), train.bin
 * (CIFAR-100), train-images*-ubyte[.gz] (IDX); the CIFAR files may also lie one level deeper, in
 * the folder of their archive. Mean and std are the published ones for CIFAR and are computed from
 * the training split for IDX and synthetic, whichever split is asked for. OCT_IO: files missing,
 * damaged or not belonging together; OCT_ARG: unknown data set, no folder, or files of two. */
enum oct_status oct_dataset_open(
    const struct oct_dataset_options *options, struct oct_dataset **out);
void oct_dataset_close(struct oct_dataset *dataset);

struct oct_loader_options {
    const struct oct_dataset *dataset; /* borrowed for the loader's life */
    int batch;
    int workers; /* >= 1 threads */
    int slots;   /* batches prepared ahead; 0: 2 * workers + 2 */
    uint64_t seed;
    int shuffle;      /* training: permutation of (seed, epoch); drops the last short batch */
    int crop_padding; /* 0: none */
    int crop_reflect; /* the padding mirrors the image at its border pixels; 0: black */
    double hflip;     /* probability */
};

struct oct_batch {
    const uint8_t *images; /* u8[batch, h, w, c]; rows from `count` on are zero */
    const int32_t *labels; /* s32[batch]; -1 from `count` on */
    int count;
    int64_t index; /* batch number inside the epoch */
};

struct oct_loader;

enum oct_status oct_loader_open(const struct oct_loader_options *options, struct oct_loader **out);
void oct_loader_close(struct oct_loader *loader);

int64_t oct_loader_batches(const struct oct_loader *loader); /* per epoch */

/* Starts delivering epoch `epoch` from batch `first` on; drops what was being prepared. */
enum oct_status oct_loader_start(struct oct_loader *loader, int epoch, int64_t first);

/* The next batch, waiting for it if needed; OCT_ARG at the end of the epoch is a caller's mistake.
 * *batch stays valid until the next call of next, start or close. */
enum oct_status oct_loader_next(struct oct_loader *loader, struct oct_batch *batch);

/* Seconds `next` has spent waiting since the loader was opened. */
double oct_loader_wait_seconds(const struct oct_loader *loader);

#endif
