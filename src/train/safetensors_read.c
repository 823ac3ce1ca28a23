/* The strict reader. Nothing of the file is believed before it is checked: every sum and product
 * is checked for overflow, and memory is bounded by the size of the file. */
#include "train/safetensors_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

struct oct_safetensors {
    struct oct_named_tensor *tensors; /* in the order of their data; names live in `header` */
    size_t count;
    json_t *header;
    void *data; /* every tensor at a multiple of OCT_ST_ALIGN */
};

struct extent {
    int64_t begin, end; /* bytes into the data section */
    size_t order;       /* of the entry in the header; makes the sort stable */
    struct oct_named_tensor tensor;
};

struct reader {
    const char *path;
    int fd;
    int64_t file_bytes, data_bytes;
    json_t *header;
    struct extent *extents; /* sorted by begin */
    size_t count;
    void *data;
    XXH3_state_t *checksum;
};

/* Opens a regular file; O_NONBLOCK keeps a named pipe from blocking us before fstat sees it. */
static enum oct_status open_file(struct reader *r)
{
    struct stat info;
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (r->fd < 0 || fstat(r->fd, &info) != 0)
        return oct_fail(OCT_IO, "cannot open '%s': %s", r->path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return oct_fail(
            OCT_IO, "'%s' is not a regular file; a safetensors file is expected", r->path);
    r->file_bytes = info.st_size;
    return OCT_OK;
}

static enum oct_status read_exactly(struct reader *r, void *to, size_t bytes)
{
    char *at = to;
    while (bytes > 0) {
        ssize_t n = read(r->fd, at, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return oct_fail(OCT_IO, "cannot read '%s': %s", r->path, strerror(errno));
        if (n == 0)
            return oct_fail(OCT_IO, "'%s' became shorter while it was read; %zu bytes are missing",
                r->path, bytes);
        at += n;
        bytes -= (size_t)n;
    }
    return OCT_OK;
}

static enum oct_status read_header(struct reader *r)
{
    enum oct_status status = OCT_OK;
    unsigned char prefix[OCT_ST_PREFIX];
    char *text = NULL;
    json_error_t error;
    uint64_t length = 0;
    if (r->file_bytes < OCT_ST_PREFIX + 2)
        return oct_fail(OCT_IO, "'%s' has %" PRId64 " bytes; a safetensors file has at least %d",
            r->path, r->file_bytes, OCT_ST_PREFIX + 2);
    OCT_TRY(read_exactly(r, prefix, sizeof prefix));
    for (int i = OCT_ST_PREFIX - 1; i >= 0; i--)
        length = length << 8 | prefix[i];
    uint64_t most = (uint64_t)r->file_bytes - OCT_ST_PREFIX;
    most = most < OCT_ST_MAX_HEADER ? most : OCT_ST_MAX_HEADER;
    if (length < 2 || length > most)
        return oct_fail(OCT_IO,
            "'%s': header of %" PRIu64 " bytes announced, expected 2 to %" PRIu64
            "; the file is cut off or no safetensors file",
            r->path, length, most);
    r->data_bytes = r->file_bytes - OCT_ST_PREFIX - (int64_t)length;
    text = malloc(length);
    if (!text)
        return oct_fail(OCT_NOMEM, "no memory for the header of '%s'", r->path);
    OCT_OUT(read_exactly(r, text, length));
    if (text[0] != '{')
        OCT_OUT(oct_fail(OCT_IO, "'%s': the header starts with byte 0x%02x, expected '{'", r->path,
            (unsigned char)text[0]));
    r->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!r->header)
        OCT_OUT(oct_fail(OCT_IO, "'%s': the header is not the expected JSON: %.100s, at byte %d",
            r->path, error.text, error.position));
out:
    free(text);
    return status;
}

static enum oct_status check_metadata(const struct reader *r, const json_t *metadata)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return oct_fail(OCT_IO, "'%s': %s is not an object of strings", r->path, OCT_ST_METADATA);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return oct_fail(OCT_IO, "'%s': metadata '%.100s' is not a string", r->path, key);
    }
    return OCT_OK;
}

static enum oct_status parse_dtype(
    const struct reader *r, const char *name, const json_t *json, enum oct_dtype *dtype)
{
    const char *text = json_string_value(json);
    if (!text)
        return oct_fail(OCT_IO, "'%s': tensor '%s' has no dtype string", r->path, name);
    for (int i = 0; i <= OCT_F64; i++) {
        if (strcmp(text, oct_st_dtype_names[i]) == 0) {
            *dtype = (enum oct_dtype)i;
            return OCT_OK;
        }
    }
    return oct_fail(OCT_UNSUPPORTED,
        "'%s': tensor '%s' has dtype %.20s; octet reads F32, BF16, I8, "
        "U8, I32, I64, F64: convert the file",
        r->path, name, text);
}

static enum oct_status parse_shape(
    const struct reader *r, const char *name, const json_t *json, struct oct_named_tensor *tensor)
{
    if (!json_is_array(json))
        return oct_fail(OCT_IO, "'%s': tensor '%s' has no shape array", r->path, name);
    size_t dims = json_array_size(json);
    if (dims > OCT_MAX_DIMS)
        return oct_fail(OCT_UNSUPPORTED,
            "'%s': tensor '%s' has %zu dimensions; octet reads at most %d", r->path, name, dims,
            OCT_MAX_DIMS);
    for (size_t i = 0; i < dims; i++) {
        const json_t *dim = json_array_get(json, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return oct_fail(OCT_IO, "'%s': tensor '%s': dimension %zu is not an integer >= 0",
                r->path, name, i);
        tensor->dim[i] = json_integer_value(dim);
    }
    tensor->dims = (int)dims;
    return OCT_OK;
}

static enum oct_status parse_tensor(
    const struct reader *r, const char *name, const json_t *json, struct extent *extent)
{
    struct oct_named_tensor *tensor = &extent->tensor;
    int64_t bytes;
    if (!oct_st_name_ok(name))
        return oct_fail(OCT_IO,
            "'%s': tensor name '%.300s' is refused; expected 1 to %d bytes without "
            "control characters",
            r->path, name, OCT_ST_MAX_NAME);
    if (!json_is_object(json) || json_object_size(json) != 3)
        return oct_fail(OCT_IO, "'%s': tensor '%s' is not an object of dtype, shape, data_offsets",
            r->path, name);
    tensor->name = name;
    OCT_TRY(parse_dtype(r, name, json_object_get(json, "dtype"), &tensor->dtype));
    OCT_TRY(parse_shape(r, name, json_object_get(json, "shape"), tensor));
    const json_t *offsets = json_object_get(json, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return oct_fail(
            OCT_IO, "'%s': tensor '%s' has no data_offsets of two integers", r->path, name);
    extent->begin = json_integer_value(begin);
    extent->end = json_integer_value(end);
    if (extent->begin < 0 || extent->end < extent->begin || extent->end > r->data_bytes)
        return oct_fail(OCT_IO,
            "'%s': tensor '%s' spans bytes %" PRId64 " to %" PRId64 " of a data "
            "section of %" PRId64,
            r->path, name, extent->begin, extent->end, r->data_bytes);
    if (!oct_st_bytes(tensor->dtype, tensor->dims, tensor->dim, &bytes))
        return oct_fail(OCT_IO, "'%s': tensor '%s': its shape times %zu bytes exceeds 2^63 - 1",
            r->path, name, oct_dtype_bytes(tensor->dtype));
    if (bytes != extent->end - extent->begin)
        return oct_fail(OCT_IO,
            "'%s': tensor '%s' spans %" PRId64 " bytes, its shape and dtype need %" PRId64, r->path,
            name, extent->end - extent->begin, bytes);
    return OCT_OK;
}

static int by_begin(const void *left, const void *right)
{
    const struct extent *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Fills r->extents and checks that together they cover the data section exactly. */
static enum oct_status parse_header(struct reader *r)
{
    const char *name;
    json_t *json;
    r->extents = calloc(json_object_size(r->header) + 1, sizeof *r->extents);
    if (!r->extents)
        return oct_fail(OCT_NOMEM, "no memory for the tensors of '%s'", r->path);
    json_object_foreach(r->header, name, json)
    {
        if (strcmp(name, OCT_ST_METADATA) == 0) {
            OCT_TRY(check_metadata(r, json));
            continue;
        }
        r->extents[r->count].order = r->count;
        OCT_TRY(parse_tensor(r, name, json, &r->extents[r->count]));
        r->count++;
    }
    qsort(r->extents, r->count, sizeof *r->extents, by_begin);
    int64_t covered = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct extent *extent = &r->extents[i];
        if (extent->begin != covered)
            return oct_fail(OCT_IO,
                "'%s': tensor '%s' starts at byte %" PRId64 " of the data section, "
                "expected %" PRId64 ": a %s",
                r->path, extent->tensor.name, extent->begin, covered,
                extent->begin < covered ? "overlap" : "hole");
        covered = extent->end;
    }
    if (covered != r->data_bytes)
        return oct_fail(OCT_IO,
            "'%s': the tensors end at byte %" PRId64 " of a data section of %" PRId64, r->path,
            covered, r->data_bytes);
    return OCT_OK;
}

static int64_t aligned(int64_t bytes)
{
    return (bytes + OCT_ST_ALIGN - 1) / OCT_ST_ALIGN * OCT_ST_ALIGN;
}

/* The data section follows in the file in the order of the extents, without a gap. */
static enum oct_status read_data(struct reader *r)
{
    int64_t total = OCT_ST_ALIGN, at = 0;
    for (size_t i = 0; i < r->count; i++)
        total += aligned(r->extents[i].end - r->extents[i].begin);
    r->data = aligned_alloc(OCT_ST_ALIGN, (size_t)total);
    r->checksum = XXH3_createState();
    if (!r->data || !r->checksum)
        return oct_fail(OCT_NOMEM, "no memory for the %" PRId64 " bytes of '%s'", total, r->path);
    XXH3_64bits_reset(r->checksum);
    for (size_t i = 0; i < r->count; i++) {
        struct extent *extent = &r->extents[i];
        size_t bytes = (size_t)(extent->end - extent->begin);
        extent->tensor.data = (char *)r->data + at;
        OCT_TRY(read_exactly(r, extent->tensor.data, bytes));
        XXH3_64bits_update(r->checksum, extent->tensor.data, bytes);
        at += aligned((int64_t)bytes);
    }
    return OCT_OK;
}

static enum oct_status verify_checksum(const struct reader *r)
{
    const json_t *map = json_object_get(r->header, OCT_ST_METADATA);
    const json_t *json = json_object_get(map, OCT_ST_CHECKSUM);
    uint64_t metadata = oct_st_metadata_hash(map);
    char found[OCT_ST_HEX];
    if (!json)
        return OCT_OK;
    if (metadata != 0)
        XXH3_64bits_update(r->checksum, &metadata, sizeof metadata);
    snprintf(found, sizeof found, "%016" PRIx64, (uint64_t)XXH3_64bits_digest(r->checksum));
    if (strcmp(json_string_value(json), found) != 0)
        return oct_fail(OCT_IO,
            "'%s': the content has checksum %s, its metadata says %.40s; the file is "
            "damaged: use another copy",
            r->path, found, json_string_value(json));
    return OCT_OK;
}

/* Hands the checked parts over to *out. */
static enum oct_status build(struct reader *r, struct oct_safetensors **out)
{
    struct oct_safetensors *file = malloc(sizeof *file);
    struct oct_named_tensor *tensors = malloc((r->count + 1) * sizeof *tensors);
    if (!file || !tensors) {
        free(file);
        free(tensors);
        return oct_fail(OCT_NOMEM, "no memory for the tensors of '%s'", r->path);
    }
    for (size_t i = 0; i < r->count; i++)
        tensors[i] = r->extents[i].tensor;
    *file = (struct oct_safetensors){tensors, r->count, r->header, r->data};
    r->header = NULL;
    r->data = NULL;
    *out = file;
    return OCT_OK;
}

enum oct_status oct_safetensors_open(const char *path, struct oct_safetensors **out)
{
    enum oct_status status = OCT_OK;
    struct reader r = {.path = path, .fd = -1};
    OCT_OUT(open_file(&r));
    OCT_OUT(read_header(&r));
    OCT_OUT(parse_header(&r));
    OCT_OUT(read_data(&r));
    OCT_OUT(verify_checksum(&r));
    OCT_OUT(build(&r, out));
out:
    if (r.fd >= 0)
        close(r.fd);
    XXH3_freeState(r.checksum);
    free(r.extents);
    free(r.data);
    json_decref(r.header);
    return status;
}

void oct_safetensors_close(struct oct_safetensors *file)
{
    if (!file)
        return;
    free(file->tensors);
    free(file->data);
    json_decref(file->header);
    free(file);
}

const struct oct_named_tensor *oct_safetensors_find(
    const struct oct_safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    }
    return NULL;
}

const char *oct_safetensors_metadata(const struct oct_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, OCT_ST_METADATA), key));
}

size_t oct_safetensors_count(const struct oct_safetensors *file)
{
    return file->count;
}

const struct oct_named_tensor *oct_safetensors_at(const struct oct_safetensors *file, size_t i)
{
    return i < file->count ? &file->tensors[i] : NULL;
}
