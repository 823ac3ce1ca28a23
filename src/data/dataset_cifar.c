/* CIFAR-10 and CIFAR-100, binary version: records of one or two label bytes and three planes of
 * 32x32 bytes (red, green, blue), nothing else in the file. */
#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SIDE = 32, PIXELS = SIDE * SIDE, CHANNELS = 3, MAX_FILES = 5, MAX_LABELS = 2 };

struct cifar_format {
    const char *name;
    const char *files[2][MAX_FILES]; /* by split, NULL after the last */
    int labels;                      /* label bytes of a record; the last is the class */
    int label_limit[MAX_LABELS];
    double mean[CHANNELS], std[CHANNELS]; /* published, of the training split */
};

static const struct cifar_format formats[] = {
    {"cifar10",
        {{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
             "data_batch_5.bin"},
            {"test_batch.bin"}},
        1, {10}, {0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}},
    {"cifar100", {{"train.bin"}, {"test.bin"}}, 2, {20, 100}, {0.5071, 0.4865, 0.4409},
        {0.2673, 0.2564, 0.2762}},
};

struct cifar_file {
    char path[OCT_PATH_BYTES];
    FILE *stream;
    int64_t records;
};

static enum oct_status open_file(const struct cifar_format *format, const char *folder,
    const char *name, struct cifar_file *file)
{
    int record = format->labels + CHANNELS * PIXELS;
    struct stat info;
    OCT_TRY(oct_data_path(file->path, folder, name));
    file->stream = fopen(file->path, "rb");
    if (!file->stream || fstat(fileno(file->stream), &info) != 0)
        return oct_fail(OCT_IO, "%s: %s; %s needs this file, unpack the archive again", file->path,
            strerror(errno), format->name);
    if (!S_ISREG(info.st_mode) || info.st_size == 0 || info.st_size % record != 0)
        return oct_fail(OCT_IO,
            "%s holds %lld bytes, expected a multiple of %d (one %s record); "
            "the file is damaged or of another format, download it again",
            file->path, (long long)info.st_size, record, format->name);
    file->records = info.st_size / record;
    return OCT_OK;
}

/* Three planes to interleaved pixels. */
static void interleave(const uint8_t *planes, uint8_t *image)
{
    for (int i = 0; i < PIXELS; i++) {
        for (int c = 0; c < CHANNELS; c++)
            image[i * CHANNELS + c] = planes[c * PIXELS + i];
    }
}

static enum oct_status read_file(
    const struct cifar_format *format, struct cifar_file *file, uint8_t *images, int32_t *labels)
{
    uint8_t record[MAX_LABELS + CHANNELS * PIXELS];
    size_t bytes = (size_t)format->labels + CHANNELS * PIXELS;
    for (int64_t i = 0; i < file->records; i++) {
        if (fread(record, bytes, 1, file->stream) != 1)
            return oct_fail(OCT_IO, "%s: reading record %lld of %lld failed (%s); try again",
                file->path, (long long)i, (long long)file->records,
                ferror(file->stream) ? strerror(errno) : "the file has become shorter");
        for (int j = 0; j < format->labels; j++) {
            if (record[j] >= format->label_limit[j])
                return oct_fail(OCT_IO,
                    "%s: record %lld has label %d, expected 0 to %d; "
                    "the file is damaged or of another format, download it again",
                    file->path, (long long)i, record[j], format->label_limit[j] - 1);
        }
        labels[i] = record[format->labels - 1];
        interleave(record + format->labels, images + i * CHANNELS * PIXELS);
    }
    return OCT_OK;
}

static const struct cifar_format *format_of(const char *name)
{
    return &formats[strcmp(name, "cifar100") == 0];
}

enum oct_status oct_cifar_open(
    const char *folder, const char *name, enum oct_split split, struct oct_dataset **out)
{
    const struct cifar_format *format = format_of(name);
    const char *const *names = format->files[split];
    struct cifar_file files[MAX_FILES] = {0};
    struct oct_dataset facts = {.name = format->name,
        .h = SIDE,
        .w = SIDE,
        .c = CHANNELS,
        .classes = format->label_limit[format->labels - 1]};
    struct oct_dataset *dataset = NULL;
    enum oct_status status;
    int64_t done = 0;

    memcpy(facts.mean, format->mean, sizeof format->mean);
    memcpy(facts.std, format->std, sizeof format->std);
    for (int i = 0; i < MAX_FILES && names[i]; i++) {
        OCT_OUT(open_file(format, folder, names[i], &files[i]));
        facts.count += files[i].records;
    }
    OCT_OUT(oct_dataset_create(&facts, &dataset));
    for (int i = 0; i < MAX_FILES && names[i]; i++) {
        OCT_OUT(read_file(format, &files[i], oct_dataset_images(dataset) + done * CHANNELS * PIXELS,
            oct_dataset_labels(dataset) + done));
        done += files[i].records;
    }
    *out = dataset;
    dataset = NULL;
out:
    oct_dataset_close(dataset);
    for (int i = 0; i < MAX_FILES; i++) {
        if (files[i].stream)
            fclose(files[i].stream);
    }
    return status;
}
