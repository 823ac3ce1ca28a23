/* One warp runs each wrapper of cuda/ptx.cuh on known words: lane l gives words in[l * IN ...] and
 * receives out[l * OUT ...]. */
#ifndef OCT_SELFTEST_WRAPPERS_H
#define OCT_SELFTEST_WRAPPERS_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WRAPPER_LANES = 32,
    WRAPPER_IN = 10,                               /* words a lane is given */
    WRAPPER_OUT = 4,                               /* words a lane gives back */
    WRAPPER_WORDS_IN = WRAPPER_LANES * WRAPPER_IN, /* of a case */
    WRAPPER_WORDS_OUT = WRAPPER_LANES * WRAPPER_OUT
};

enum wrapper {
    WRAP_MMA_S8,         /* in: a[4], b[2], c[4] */
    WRAP_LDMATRIX,       /* in: 4 words that are this lane's 16-byte row */
    WRAP_LDMATRIX_TRANS, /* the same */
    WRAP_PERMUTE_EVEN,   /* in: a, b */
    WRAP_PERMUTE_ODD,
    WRAP_BF16_PAIR,       /* in: two floats; any NaN becomes 7fffffff on the way in */
    WRAP_STORE_SHARED_16, /* in: 4 words; read back by the lane before, round the warp */
    WRAP_STORE_SHARED_4,  /* in: 1 word, likewise */
    WRAP_STORE_SHARED_1,  /* in: 1 word, whose low byte is stored */
    WRAP_LOAD_GLOBAL_16,  /* in: 4 words; odd lanes are not valid and get zeros */
    WRAP_COPY_16,         /* the same through shared memory */
    WRAP_COPY_4,
    WRAP_COPY_1,
    WRAPPERS
};

/* Runs one wrapper; in and out are host memory. */
cudaError_t wrapper_run(enum wrapper which, const uint32_t *in, uint32_t *out);

#ifdef __cplusplus
}
#endif
#endif
