/* What the reader and the writer of safetensors files share. */
#ifndef OCT_SAFETENSORS_FORMAT_H
#define OCT_SAFETENSORS_FORMAT_H

#include "train/safetensors.h"

#include <jansson.h>
#include <stdbool.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is little-endian");

enum {
    OCT_ST_PREFIX = 8,                 /* bytes of the header's length */
    OCT_ST_MAX_HEADER = 100 * 1000000, /* the format's own limit */
    OCT_ST_MAX_NAME = 255,
    OCT_ST_ALIGN = 64, /* of the data section in the file, of tensors in memory */
    OCT_ST_HEX = 17    /* the checksum as text, with its final 0 */
};

#define OCT_ST_METADATA "__metadata__"
#define OCT_ST_CHECKSUM "octet.checksum"

/* Name in the file of each enum oct_dtype. */
extern const char *const oct_st_dtype_names[OCT_F64 + 1];

/* False if a dimension is negative or the size in bytes does not fit into int64. */
bool oct_st_bytes(enum oct_dtype dtype, int dims, const int64_t *dim, int64_t *bytes);

/* Hash of all metadata but the checksum itself, in no order: the exclusive or of XXH3-64 over
 * "key\0value\0" of each entry. 0 for no entries; `map` may be NULL. */
uint64_t oct_st_metadata_hash(const json_t *map);

/* 1 to 255 bytes, no control characters, not the metadata's name. */
bool oct_st_name_ok(const char *name);

#endif
