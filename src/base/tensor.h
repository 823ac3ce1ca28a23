/* Element types and device tensors. Tensors are contiguous: activations NHWC, weights KRSC. */
#ifndef OCT_TENSOR_H
#define OCT_TENSOR_H

#include <stddef.h>
#include <stdint.h>

enum oct_dtype { OCT_F32, OCT_BF16, OCT_S8, OCT_U8, OCT_S32, OCT_S64, OCT_F64 };

static inline size_t oct_dtype_bytes(enum oct_dtype dtype)
{
    static const uint8_t bytes[] = {4, 2, 1, 1, 4, 8, 8};
    return bytes[dtype];
}

static inline const char *oct_dtype_name(enum oct_dtype dtype)
{
    static const char *const names[] = {"f32", "bf16", "s8", "u8", "s32", "s64", "f64"};
    return names[dtype];
}

#endif
