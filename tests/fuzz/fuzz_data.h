/* What the fuzz targets of the data readers demand of a folder that may hold anything: each split
 * loads into a data set that keeps its promises, or is refused with a line. */
#ifndef OCT_FUZZ_DATA_H
#define OCT_FUZZ_DATA_H

#include "data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fuzz_require(int condition, const char *promise)
{
    if (!condition) {
        fprintf(stderr, "broken promise: %s (last message: %s)\n", promise, oct_last_error());
        abort();
    }
}

/* Reads every byte, so that the address sanitizer sees a short buffer. */
static void fuzz_check_dataset(const struct oct_dataset *dataset)
{
    int64_t bytes = dataset->count * dataset->h * dataset->w * dataset->c;
    double sum = 0;
    fuzz_require(dataset->count > 0 && bytes > 0 && dataset->c <= 4, "positive sizes");
    for (int64_t i = 0; i < bytes; i++)
        sum += dataset->images[i];
    fuzz_require(sum <= 255.0 * (double)bytes, "bytes");
    for (int64_t i = 0; i < dataset->count; i++)
        fuzz_require(
            dataset->labels[i] >= 0 && dataset->labels[i] < dataset->classes, "labels in range");
    for (int c = 0; c < dataset->c; c++) {
        fuzz_require(dataset->mean[c] >= 0 && dataset->mean[c] <= 1, "mean");
        fuzz_require(dataset->std[c] >= 1 / 255.0 && dataset->std[c] <= 1, "std");
    }
}

static void fuzz_open_splits(const char *folder)
{
    for (int split = OCT_TRAIN; split <= OCT_VAL; split++) {
        struct oct_dataset_options options = {
            .data = folder, .dataset = "auto", .split = (enum oct_split)split};
        struct oct_dataset *dataset = NULL;
        enum oct_status status = oct_dataset_open(&options, &dataset);
        if (status == OCT_OK) {
            fuzz_check_dataset(dataset);
        } else {
            fuzz_require(!dataset, "output untouched on failure");
            fuzz_require(status == OCT_IO || status == OCT_NOMEM, "files fail with OCT_IO");
            fuzz_require(strstr(oct_last_error(), folder) != NULL, "the message names the file");
        }
        oct_dataset_close(dataset);
    }
}

#endif
