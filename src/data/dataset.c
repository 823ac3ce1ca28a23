#include "data/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum oct_status oct_data_path(char out[OCT_PATH_BYTES], const char *folder, const char *name)
{
    int length = snprintf(out, OCT_PATH_BYTES, "%s/%s", folder, name);
    if (length < 0 || length >= OCT_PATH_BYTES)
        return oct_fail(OCT_ARG, "path of %s is longer than %d bytes; use a shorter data folder",
            name, OCT_PATH_BYTES - 1);
    return OCT_OK;
}

enum oct_status oct_dataset_create(const struct oct_dataset *facts, struct oct_dataset **out)
{
    int64_t image = (int64_t)facts->h * facts->w * facts->c;
    struct oct_dataset *dataset = malloc(sizeof *dataset);
    uint8_t *images = calloc((size_t)facts->count, (size_t)image);
    int32_t *labels = calloc((size_t)facts->count, sizeof *labels);
    if (!dataset || !images || !labels) {
        free(dataset);
        free(images);
        free(labels);
        return oct_fail(OCT_NOMEM, "no memory for %lld images of %dx%dx%d (%s data set)",
            (long long)facts->count, facts->h, facts->w, facts->c, facts->name);
    }
    *dataset = *facts;
    dataset->images = images;
    dataset->labels = labels;
    *out = dataset;
    return OCT_OK;
}

/* The members are const for users of the data set; the memory itself came from calloc above. */
uint8_t *oct_dataset_images(struct oct_dataset *dataset)
{
    return (uint8_t *)dataset->images;
}

int32_t *oct_dataset_labels(struct oct_dataset *dataset)
{
    return (int32_t *)dataset->labels;
}

void oct_dataset_close(struct oct_dataset *dataset)
{
    if (!dataset)
        return;
    free(oct_dataset_images(dataset));
    free(oct_dataset_labels(dataset));
    free(dataset);
}

void oct_pixel_sums_add(struct oct_pixel_sums *sums, const uint8_t *x, int64_t pixels, int channels)
{
    for (int c = 0; c < channels; c++) {
        uint64_t sum = 0, squares = 0;
        for (int64_t i = 0; i < pixels; i++) {
            uint32_t value = x[i * channels + c];
            sum += value;
            squares += value * value;
        }
        sums->sum[c] += sum;
        sums->squares[c] += squares;
    }
    sums->pixels += (uint64_t)pixels;
}

void oct_pixel_sums_finish(
    const struct oct_pixel_sums *sums, int channels, double *mean, double *std)
{
    double n = (double)sums->pixels;
    for (int c = 0; c < channels; c++) {
        /* n * sum(x^2) - sum(x)^2 exactly, in 128 bits: no cancellation. */
        unsigned __int128 spread = (unsigned __int128)sums->pixels * sums->squares[c] -
                                   (unsigned __int128)sums->sum[c] * sums->sum[c];
        double deviation = sqrt((double)spread) / n;
        mean[c] = (double)sums->sum[c] / n / 255.0;
        std[c] = fmax(deviation, 1.0) / 255.0;
    }
}

/* How a format is recognised in a folder. */
struct format {
    const char *name, *marker; /* marker NULL: the IDX file names */
    const char *subfolder;     /* of the unpacked archive, or NULL */
};

static const struct format formats[] = {
    {"cifar10", "data_batch_1.bin", "cifar-10-batches-bin"},
    {"cifar100", "train.bin", "cifar-100-binary"},
    {"idx", NULL, NULL},
};
enum { FORMATS = sizeof formats / sizeof formats[0] };

static const char looked_for[] =
    "data_batch_1.bin (CIFAR-10 binary), train.bin (CIFAR-100 binary), "
    "train-images-idx3-ubyte[.gz] (IDX), here or in cifar-10-batches-bin, cifar-100-binary";

static int has_marker(const struct format *format, const char *folder)
{
    char path[OCT_PATH_BYTES];
    struct stat info;
    if (!format->marker)
        return oct_idx_find(path, folder, "train-images", 3);
    return snprintf(path, sizeof path, "%s/%s", folder, format->marker) < OCT_PATH_BYTES &&
           stat(path, &info) == 0;
}

/* Where the files of a format lie: the data folder itself, or the archive's folder inside it. */
struct found {
    const struct format *format;
    char folder[OCT_PATH_BYTES];
};

static enum oct_status find_in(
    const struct oct_dataset_options *options, int inside, struct found *found)
{
    const char *wanted = options->dataset;
    for (int i = 0; i < FORMATS; i++) {
        const struct format *format = &formats[i];
        char folder[OCT_PATH_BYTES];
        if (strcmp(wanted, "auto") != 0 && strcmp(wanted, format->name) != 0)
            continue;
        if (inside && !format->subfolder)
            continue;
        if (inside)
            OCT_TRY(oct_data_path(folder, options->data, format->subfolder));
        else
            snprintf(folder, sizeof folder, "%s", options->data);
        if (!has_marker(format, folder))
            continue;
        if (found->format)
            return oct_fail(OCT_ARG,
                "data folder %s holds both %s and %s files; name one of them as the data set",
                options->data, found->format->name, format->name);
        found->format = format;
        memcpy(found->folder, folder, sizeof folder);
    }
    return OCT_OK;
}

static enum oct_status find_files(const struct oct_dataset_options *options, struct found *found)
{
    struct stat info;
    if (!options->data)
        return oct_fail(OCT_ARG,
            "data set \"%s\" needs a data folder and none was given; name one, "
            "or choose the data set \"synthetic\"",
            options->dataset);
    if (stat(options->data, &info) != 0)
        return oct_fail(OCT_IO, "data folder %s: %s; give a folder with %s", options->data,
            strerror(errno), looked_for);
    if (!S_ISDIR(info.st_mode))
        return oct_fail(
            OCT_IO, "data folder %s is not a folder; give one with %s", options->data, looked_for);
    OCT_TRY(find_in(options, 0, found));
    if (!found->format)
        OCT_TRY(find_in(options, 1, found));
    if (!found->format)
        return oct_fail(OCT_IO,
            "data folder %s holds nothing for data set \"%s\"; looked for %s; "
            "scripts/fetch-cifar10 downloads CIFAR-10",
            options->data, options->dataset, looked_for);
    return OCT_OK;
}

static int is_known(const char *dataset)
{
    for (int i = 0; i < FORMATS; i++) {
        if (strcmp(dataset, formats[i].name) == 0)
            return 1;
    }
    return strcmp(dataset, "auto") == 0;
}

enum oct_status oct_dataset_open(const struct oct_dataset_options *given, struct oct_dataset **out)
{
    struct oct_dataset_options options = *given;
    struct found found = {0};
    if (!options.dataset)
        options.dataset = "auto";
    if (strcmp(options.dataset, "synthetic") == 0)
        return oct_synthetic_open(&options, out);
    if (!is_known(options.dataset))
        return oct_fail(OCT_ARG,
            "unknown data set \"%s\"; known are auto, cifar10, cifar100, idx, synthetic",
            options.dataset);
    OCT_TRY(find_files(&options, &found));
    if (!found.format->marker)
        return oct_idx_open(found.folder, options.split, out);
    return oct_cifar_open(found.folder, found.format->name, options.split, out);
}
