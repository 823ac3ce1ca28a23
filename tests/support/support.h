/* Shared by tests and benches: reproducible data, guarded buffers, comparers that name the first
 * difference. test_self.c plants errors that each of these must catch. */
#ifndef OCT_TEST_SUPPORT_H
#define OCT_TEST_SUPPORT_H

#include "base/numeric.h"
#include "base/rng.h"
#include "base/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory of `bytes`, 64-byte aligned, filled with 0xA5, with 64 known bytes before and after. */
void *guard_alloc(size_t bytes);
/* True if the bytes around `p` are unchanged; else prints which one changed. Aborts on a pointer
 * that guard_alloc did not return. */
bool guard_intact(const void *p, const char *name);
void guard_free(void *p);

/* How a tensor is filled. */
enum fill {
    FILL_RANDOM, /* codes: uniform in [-127, 127]; floats: roughly normal, sd 1 */
    FILL_ZERO,
    FILL_MAX,       /* +127, or +1 */
    FILL_ALTERNATE, /* +-127, or +-1 */
    FILL_OUTLIER,   /* zero but one large value */
    FILL_TINY       /* floats near 1e-20; codes in {-1, 0, 1} */
};

void fill_s8(int8_t *x, int64_t n, enum fill how, uint64_t seed);
void fill_f32(float *x, int64_t n, enum fill how, uint64_t seed);
void fill_bf16(uint16_t *x, int64_t n, enum fill how, uint64_t seed);
/* Guarded memory for n elements of dtype s8, bf16 or f32, filled. */
void *filled(enum oct_dtype dtype, int64_t n, enum fill how, uint64_t seed);
/* x[i] = value, truncated where x is bf16. */
void put_float(void *x, enum oct_dtype dtype, int64_t i, float value);

/* Bitwise equality of got[n] and want[n], but that one NaN is as good as another (docs/numerics.md,
 * Flag); prints `what`, the first differing index, split into
 * coordinates by dims (rank values; NULL: linear), both values and the bits. */
bool same_tensor(const char *what, enum oct_dtype dtype, const void *got, const void *want,
    int64_t n, const int64_t *dims, int rank);

/* |got - want| <= bound[i] (or bound_all where bound is NULL), NaN never passes. */
bool near_tensor(const char *what, const float *got, const double *want, int64_t n,
    const double *bound, double bound_all);

#endif
