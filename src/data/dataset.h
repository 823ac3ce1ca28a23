/* Inside src/data: what the readers of the single formats share. dataset.c finds the folder and
 * the format, dataset_*.c read one format each. Every byte of a file is untrusted: a reader loads
 * it or returns OCT_IO with a line that names the file. */
#ifndef OCT_DATASET_H
#define OCT_DATASET_H

#include "data/data.h"

#include <stddef.h>

enum { OCT_PATH_BYTES = 4096, OCT_MAX_CHANNELS = 4 };

/* Writes folder/name. OCT_ARG if that is longer than OCT_PATH_BYTES. */
enum oct_status oct_data_path(char out[OCT_PATH_BYTES], const char *folder, const char *name);

/* A copy of `facts` with its own images and labels, both zero, for the caller to fill through
 * oct_dataset_images and oct_dataset_labels. Release with oct_dataset_close. */
enum oct_status oct_dataset_create(const struct oct_dataset *facts, struct oct_dataset **out);
uint8_t *oct_dataset_images(struct oct_dataset *dataset);
int32_t *oct_dataset_labels(struct oct_dataset *dataset);

/* Exact sums over pixels, per channel. Start from zero. 2^40 pixels fit. */
struct oct_pixel_sums {
    uint64_t pixels, sum[OCT_MAX_CHANNELS], squares[OCT_MAX_CHANNELS];
};
/* Adds u8[pixels, channels]. */
void oct_pixel_sums_add(
    struct oct_pixel_sums *sums, const uint8_t *x, int64_t pixels, int channels);
/* Mean and standard deviation of x / 255; the deviation is at least one grey level, 1/255. */
void oct_pixel_sums_finish(
    const struct oct_pixel_sums *sums, int channels, double *mean, double *std);

/* `folder` is where the files themselves lie. `name` is "cifar10" or "cifar100". */
enum oct_status oct_cifar_open(
    const char *folder, const char *name, enum oct_split split, struct oct_dataset **out);
enum oct_status oct_idx_open(const char *folder, enum oct_split split, struct oct_dataset **out);
enum oct_status oct_synthetic_open(
    const struct oct_dataset_options *options, struct oct_dataset **out);

/* The first in `folder` of STEM-idxN-ubyte, STEM.idxN-ubyte and the same with .gz, N the rank; e.g.
 * stem "train-images", rank 3. Returns 0 if there is none. */
int oct_idx_find(char path[OCT_PATH_BYTES], const char *folder, const char *stem, int rank);

#endif
