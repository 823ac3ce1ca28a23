/* safetensors files: named host tensors plus string metadata. The one reader is strict and treats
 * every file as hostile; the one writer is atomic: temporary file, fsync, rename, fsync of the
 * folder. The writer adds "octet.checksum" (XXH3-64 of the data section and a hash of the other
 * metadata) to the metadata and the reader, where it is present, verifies it. */
#ifndef OCT_SAFETENSORS_H
#define OCT_SAFETENSORS_H

#include "base/status.h"
#include "base/tensor.h"

enum { OCT_MAX_DIMS = 5 };

struct oct_named_tensor {
    const char *name;
    enum oct_dtype dtype;
    int dims;
    int64_t dim[OCT_MAX_DIMS];
    void *data; /* host memory, oct_named_tensor_bytes */
};

struct oct_metadata {
    const char *key, *value;
};

size_t oct_named_tensor_bytes(const struct oct_named_tensor *tensor);

/* Writes all tensors; nothing of an existing file at `path` is lost if anything fails. */
enum oct_status oct_safetensors_write(const char *path, const struct oct_named_tensor *tensors,
    size_t count, const struct oct_metadata *metadata, size_t metadata_count);

struct oct_safetensors;

/* Reads and checks the whole file. Failures name the file and what is wrong with it. */
enum oct_status oct_safetensors_open(const char *path, struct oct_safetensors **out);
void oct_safetensors_close(struct oct_safetensors *file);

/* NULL if absent. The result lives as long as `file`. */
const struct oct_named_tensor *oct_safetensors_find(
    const struct oct_safetensors *file, const char *name);
const char *oct_safetensors_metadata(const struct oct_safetensors *file, const char *key);
size_t oct_safetensors_count(const struct oct_safetensors *file);
const struct oct_named_tensor *oct_safetensors_at(const struct oct_safetensors *file, size_t i);

#endif
