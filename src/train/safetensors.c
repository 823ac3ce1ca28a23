#include "train/safetensors_format.h"

#include "base/file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *const oct_st_dtype_names[] = {"F32", "BF16", "I8", "U8", "I32", "I64", "F64"};

bool oct_st_bytes(enum oct_dtype dtype, int dims, const int64_t *dim, int64_t *bytes)
{
    int64_t total = (int64_t)oct_dtype_bytes(dtype);
    bool fits = true;
    for (int i = 0; i < dims; i++) {
        /* An earlier dimension of 0 must not hide a negative one behind it. */
        if (dim[i] < 0 || __builtin_mul_overflow(total, dim[i], &total))
            fits = false;
    }
    *bytes = total;
    return fits;
}

bool oct_st_name_ok(const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    }
    return length >= 1 && length <= OCT_ST_MAX_NAME && strcmp(name, OCT_ST_METADATA) != 0;
}

size_t oct_named_tensor_bytes(const struct oct_named_tensor *tensor)
{
    int64_t bytes = 0;
    oct_st_bytes(tensor->dtype, tensor->dims, tensor->dim, &bytes);
    return (size_t)bytes;
}

/* Adds one tensor's entry to the header and advances *offset (bytes into the data section). */
static enum oct_status add_tensor(
    json_t *header, const struct oct_named_tensor *tensor, int64_t *offset)
{
    int64_t bytes, end;
    if (!tensor->name || !oct_st_name_ok(tensor->name))
        return oct_fail(OCT_ARG,
            "tensor name '%.300s' cannot be saved; a name has 1 to %d bytes, no "
            "control characters, and is not %s",
            tensor->name ? tensor->name : "", OCT_ST_MAX_NAME, OCT_ST_METADATA);
    if (json_object_get(header, tensor->name))
        return oct_fail(OCT_ARG, "two tensors are named '%s'; names must differ", tensor->name);
    if (tensor->dims < 0 || tensor->dims > OCT_MAX_DIMS ||
        !oct_st_bytes(tensor->dtype, tensor->dims, tensor->dim, &bytes) ||
        __builtin_add_overflow(*offset, bytes, &end))
        return oct_fail(OCT_SHAPE,
            "tensor '%s' has %d dimensions and an impossible size; at most %d "
            "dimensions and 2^63 - 1 bytes",
            tensor->name, tensor->dims, OCT_MAX_DIMS);
    json_t *shape = json_array();
    for (int i = 0; i < tensor->dims; i++)
        json_array_append_new(shape, json_integer(tensor->dim[i]));
    json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", oct_st_dtype_names[tensor->dtype],
        "shape", shape, "data_offsets", (json_int_t)*offset, (json_int_t)end);
    if (json_object_set_new(header, tensor->name, entry) != 0)
        return oct_fail(
            OCT_ARG, "tensor name '%s' is not valid UTF-8 (or memory is short)", tensor->name);
    *offset = end;
    return OCT_OK;
}

static enum oct_status add_metadata(
    json_t *header, const struct oct_metadata *metadata, size_t count)
{
    json_t *map = json_object();
    if (json_object_set_new(header, OCT_ST_METADATA, map) != 0)
        return oct_fail(OCT_NOMEM, "no memory for a safetensors header");
    for (size_t i = 0; i < count; i++) {
        const char *key = metadata[i].key;
        if (strcmp(key, OCT_ST_CHECKSUM) == 0 || json_object_get(map, key))
            return oct_fail(
                OCT_ARG, "metadata key '%s' is given twice or is the writer's own", key);
        if (json_object_set_new(map, key, json_string(metadata[i].value)) != 0)
            return oct_fail(OCT_ARG, "metadata '%s' is not valid UTF-8 (or memory is short)", key);
    }
    return OCT_OK;
}

uint64_t oct_st_metadata_hash(const json_t *map)
{
    const char *key;
    json_t *value;
    uint64_t sum = 0;
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(key, OCT_ST_CHECKSUM) == 0 || !text)
            continue;
        uint64_t seed = XXH3_64bits(key, strlen(key) + 1);
        sum ^= XXH3_64bits_withSeed(text, strlen(text) + 1, seed);
    }
    return sum;
}

/* Over the tensors' data, then the metadata there is so far. */
static enum oct_status add_checksum(
    json_t *header, const struct oct_named_tensor *tensors, size_t count)
{
    json_t *map = json_object_get(header, OCT_ST_METADATA);
    uint64_t metadata = oct_st_metadata_hash(map);
    char hex[OCT_ST_HEX];
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return oct_fail(OCT_NOMEM, "no memory for the checksum of a safetensors file");
    XXH3_64bits_reset(state);
    for (size_t i = 0; i < count; i++)
        XXH3_64bits_update(state, tensors[i].data, oct_named_tensor_bytes(&tensors[i]));
    if (metadata != 0)
        XXH3_64bits_update(state, &metadata, sizeof metadata);
    snprintf(hex, sizeof hex, "%016" PRIx64, (uint64_t)XXH3_64bits_digest(state));
    XXH3_freeState(state);
    if (json_object_set_new(map, OCT_ST_CHECKSUM, json_string(hex)) != 0)
        return oct_fail(OCT_NOMEM, "no memory for a safetensors header");
    return OCT_OK;
}

/* Length prefix and JSON, padded with spaces so that the data section starts 64-aligned. */
static enum oct_status write_header(
    struct oct_atomic_file *file, const char *path, const json_t *header)
{
    enum oct_status status = OCT_OK;
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text)
        return oct_fail(OCT_NOMEM, "no memory for the header of '%s'", path);
    size_t length = strlen(text);
    size_t padding = (OCT_ST_ALIGN - (OCT_ST_PREFIX + length) % OCT_ST_ALIGN) % OCT_ST_ALIGN;
    if (length + padding > OCT_ST_MAX_HEADER)
        OCT_OUT(oct_fail(OCT_ARG, "the header of '%s' would have %zu bytes; the format allows %d",
            path, length + padding, OCT_ST_MAX_HEADER));
    unsigned char prefix[OCT_ST_PREFIX];
    for (int i = 0; i < OCT_ST_PREFIX; i++)
        prefix[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    char spaces[OCT_ST_ALIGN];
    memset(spaces, ' ', sizeof spaces);
    OCT_OUT(oct_atomic_write(file, prefix, sizeof prefix));
    OCT_OUT(oct_atomic_write(file, text, length));
    OCT_OUT(oct_atomic_write(file, spaces, padding));
out:
    free(text);
    return status;
}

enum oct_status oct_safetensors_write(const char *path, const struct oct_named_tensor *tensors,
    size_t count, const struct oct_metadata *metadata, size_t metadata_count)
{
    enum oct_status status = OCT_OK;
    struct oct_atomic_file file = {.fd = -1};
    int64_t offset = 0;
    json_t *header = json_object();
    if (!header)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for the header of '%s'", path));
    /* The entries first: they prove the sizes that the checksum relies on. */
    for (size_t i = 0; i < count; i++)
        OCT_OUT(add_tensor(header, &tensors[i], &offset));
    OCT_OUT(add_metadata(header, metadata, metadata_count));
    OCT_OUT(add_checksum(header, tensors, count));

    OCT_OUT(oct_atomic_open(&file, path));
    OCT_OUT(write_header(&file, path, header));
    for (size_t i = 0; i < count; i++)
        OCT_OUT(oct_atomic_write(&file, tensors[i].data, oct_named_tensor_bytes(&tensors[i])));
    OCT_OUT(oct_atomic_commit(&file));
out:
    oct_atomic_abandon(&file);
    json_decref(header);
    return status;
}
