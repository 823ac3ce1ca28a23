/* IDX files (MNIST, Fashion-MNIST and their kin), plain or gzip: zlib reads both, told apart by
 * their first bytes. A header of big-endian words (0x00000800 + rank, then the dimensions) and u8
 * data, row by row, nothing else. */
#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum {
    MAX_RANK = 3,
    MAX_SIDE = 4096,
    MAX_DEFLATE_RATIO = 1032, /* no deflate stream expands more */
    READ_BYTES = 1 << 20
};

struct idx_array {
    char path[OCT_PATH_BYTES];
    int rank;
    int64_t dim[MAX_RANK], bytes; /* bytes: product of dim */
    uint8_t *data;                /* u8[dim], owned */
};

int oct_idx_find(char path[OCT_PATH_BYTES], const char *folder, const char *stem, int rank)
{
    static const char separators[] = "-.";
    static const char *const suffixes[] = {"", ".gz"};
    struct stat info;
    for (int i = 0; i < 4; i++) {
        int length = snprintf(path, OCT_PATH_BYTES, "%s/%s%cidx%d-ubyte%s", folder, stem,
            separators[i % 2], rank, suffixes[i / 2]);
        if (length < OCT_PATH_BYTES && stat(path, &info) == 0)
            return 1;
    }
    return 0;
}

/* What zlib says went wrong, without the path it puts before; NULL if nothing did. */
static const char *zlib_complaint(gzFile file, const char *path)
{
    int code = 0;
    const char *why = gzerror(file, &code);
    size_t prefix = strlen(path);
    if (code == Z_OK)
        return NULL;
    if (code == Z_ERRNO)
        return strerror(errno);
    return strncmp(why, path, prefix) == 0 ? why + prefix + strlen(": ") : why;
}

/* Reads exactly `bytes`; whatever stops it earlier is a failure. */
static enum oct_status read_exactly(gzFile file, const char *path, uint8_t *out, int64_t bytes)
{
    for (int64_t done = 0; done < bytes;) {
        int64_t left = bytes - done;
        int got = gzread(file, out + done, (unsigned)(left < READ_BYTES ? left : READ_BYTES));
        if (got <= 0) {
            const char *why = zlib_complaint(file, path);
            return oct_fail(OCT_IO,
                "%s ends or is damaged after %lld of %lld bytes (%s); download it again", path,
                (long long)done, (long long)bytes, why ? why : "end of file");
        }
        done += got;
    }
    return OCT_OK;
}

static enum oct_status read_header(gzFile file, struct idx_array *array)
{
    uint8_t head[4 + 4 * MAX_RANK];
    OCT_TRY(read_exactly(file, array->path, head, 4));
    if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != array->rank)
        return oct_fail(OCT_IO,
            "%s starts with %02x%02x%02x%02x, expected 0000080%d (IDX, bytes, %d dimensions); "
            "it is not the file its name says",
            array->path, head[0], head[1], head[2], head[3], array->rank, array->rank);
    OCT_TRY(read_exactly(file, array->path, head + 4, 4 * array->rank));
    array->bytes = 1;
    for (int i = 0; i < array->rank; i++) {
        const uint8_t *word = head + 4 + 4 * i;
        int64_t limit = i == 0 ? INT32_MAX : MAX_SIDE;
        int64_t dim = (int64_t)word[0] << 24 | word[1] << 16 | word[2] << 8 | word[3];
        if (dim < 1 || dim > limit)
            return oct_fail(OCT_IO,
                "%s: dimension %d is %lld, expected 1 to %lld; the file is damaged, "
                "download it again",
                array->path, i, (long long)dim, (long long)limit);
        array->dim[i] = dim;
        array->bytes *= dim; /* at most 2^31 * 2^12 * 2^12 */
    }
    return OCT_OK;
}

/* Before memory is taken for what the header announces: can the file hold it? */
static enum oct_status check_size(gzFile file, const struct idx_array *array, int64_t disk_bytes)
{
    int64_t header = 4 + 4 * array->rank;
    int plain = gzdirect(file);
    int64_t most = plain ? disk_bytes - header : disk_bytes * MAX_DEFLATE_RATIO;
    if (array->bytes > most || (plain && array->bytes < most))
        return oct_fail(OCT_IO,
            "%s announces %lld bytes of data, the file of %lld bytes %s %lld; it is damaged or "
            "cut short, download it again",
            array->path, (long long)array->bytes, (long long)disk_bytes,
            plain ? "holds" : "can expand to at most", (long long)most);
    return OCT_OK;
}

/* Reading past the data makes zlib compare the checksum at the end of a gzip file. */
static enum oct_status check_end(gzFile file, const char *path)
{
    uint8_t extra;
    int got = gzread(file, &extra, 1);
    const char *why = zlib_complaint(file, path);
    if (got > 0)
        return oct_fail(OCT_IO,
            "%s holds more data than its header announces; it is damaged, download it again", path);
    if (why)
        return oct_fail(OCT_IO, "%s is damaged at its end (%s); download it again", path, why);
    return OCT_OK;
}

static enum oct_status read_array(
    const char *folder, const char *stem, int rank, struct idx_array *array)
{
    enum oct_status status;
    struct stat info;
    gzFile file = NULL;

    array->rank = rank;
    if (!oct_idx_find(array->path, folder, stem, rank))
        return oct_fail(OCT_IO,
            "%s: found none of %s-idx%d-ubyte, %s.idx%d-ubyte, with or without .gz; "
            "an IDX data set needs it",
            folder, stem, rank, stem, rank);
    if (stat(array->path, &info) != 0 || !S_ISREG(info.st_mode))
        return oct_fail(OCT_IO, "%s is not a regular file; put the IDX file there", array->path);
    file = gzopen(array->path, "rb");
    if (!file)
        return oct_fail(OCT_IO, "%s: %s; make it readable", array->path, strerror(errno));
    OCT_OUT(read_header(file, array));
    OCT_OUT(check_size(file, array, info.st_size));
    array->data = malloc((size_t)array->bytes);
    if (!array->data) {
        status = oct_fail(
            OCT_NOMEM, "no memory for the %lld bytes of %s", (long long)array->bytes, array->path);
        goto out;
    }
    OCT_OUT(read_exactly(file, array->path, array->data, array->bytes));
    OCT_OUT(check_end(file, array->path));
out:
    gzclose(file);
    return status;
}

/* One split's two files. */
struct idx_pair {
    struct idx_array images, labels;
};

static enum oct_status read_pair(const char *folder, const char *split, struct idx_pair *pair)
{
    char stem[32];
    snprintf(stem, sizeof stem, "%s-images", split);
    OCT_TRY(read_array(folder, stem, 3, &pair->images));
    snprintf(stem, sizeof stem, "%s-labels", split);
    OCT_TRY(read_array(folder, stem, 1, &pair->labels));
    if (pair->images.dim[0] != pair->labels.dim[0])
        return oct_fail(OCT_IO,
            "%s has %lld images, %s has %lld labels; the two files do not belong together",
            pair->images.path, (long long)pair->images.dim[0], pair->labels.path,
            (long long)pair->labels.dim[0]);
    return OCT_OK;
}

static int count_classes(const struct idx_array *labels)
{
    int largest = 0;
    for (int64_t i = 0; i < labels->bytes; i++) {
        if (labels->data[i] > largest)
            largest = labels->data[i];
    }
    return largest + 1;
}

/* The validation split must look like the training split: same picture size, no new classes. */
static enum oct_status check_pair(
    const struct idx_pair *train, const struct idx_pair *pair, int classes)
{
    const int64_t *want = train->images.dim, *got = pair->images.dim;
    if (want[1] != got[1] || want[2] != got[2])
        return oct_fail(OCT_IO,
            "%s has images of %lldx%lld, %s of %lldx%lld; the files do not belong together",
            pair->images.path, (long long)got[1], (long long)got[2], train->images.path,
            (long long)want[1], (long long)want[2]);
    for (int64_t i = 0; i < pair->labels.bytes; i++) {
        if (pair->labels.data[i] >= classes)
            return oct_fail(OCT_IO,
                "%s: label %d of image %lld does not occur in the training split (labels 0 to %d); "
                "the file is damaged or of another data set",
                pair->labels.path, pair->labels.data[i], (long long)i, classes - 1);
    }
    return OCT_OK;
}

enum oct_status oct_idx_open(const char *folder, enum oct_split split, struct oct_dataset **out)
{
    struct idx_pair pairs[2] = {0}; /* by split */
    const struct idx_pair *chosen = &pairs[split];
    const struct idx_array *images = &pairs[OCT_TRAIN].images;
    struct oct_dataset facts = {.name = "idx", .c = 1};
    struct oct_pixel_sums sums = {0};
    struct oct_dataset *dataset;
    enum oct_status status;

    /* Mean, deviation and class count are the training split's, so it is always read. */
    OCT_OUT(read_pair(folder, "train", &pairs[OCT_TRAIN]));
    facts.h = (int)images->dim[1];
    facts.w = (int)images->dim[2];
    facts.classes = count_classes(&pairs[OCT_TRAIN].labels);
    oct_pixel_sums_add(&sums, images->data, images->bytes, 1);
    oct_pixel_sums_finish(&sums, 1, facts.mean, facts.std);
    if (split == OCT_VAL) {
        OCT_OUT(read_pair(folder, "t10k", &pairs[OCT_VAL]));
        OCT_OUT(check_pair(&pairs[OCT_TRAIN], &pairs[OCT_VAL], facts.classes));
    }
    facts.count = chosen->images.dim[0];
    OCT_OUT(oct_dataset_create(&facts, &dataset));
    memcpy(oct_dataset_images(dataset), chosen->images.data, (size_t)chosen->images.bytes);
    for (int64_t i = 0; i < facts.count; i++)
        oct_dataset_labels(dataset)[i] = chosen->labels.data[i];
    *out = dataset;
out:
    for (int i = 0; i < 2; i++) {
        free(pairs[i].images.data);
        free(pairs[i].labels.data);
    }
    return status;
}
