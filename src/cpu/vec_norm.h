/* Inner kernels of the normalise-and-activate passes (vec_norm_fwd.c, vec_norm_bwd.c), compiled
 * once per instruction set; cpu_norm.c cuts tensors into items for them.
 *
 * The elementwise kernels walk linear elements [first, first + count) in units of 64 and so never
 * see rows; first is a multiple of 64. For that, every per-channel parameter must be readable at
 * [0, channels + 63], entry j being channel j % channels ("wide"). Channel counts that divide by 64
 * need no copy: a unit then never crosses a row. */
#ifndef OCT_VEC_NORM_H
#define OCT_VEC_NORM_H

#include "backend_check.h"
#include "cpu/cpu.h"
#include "cpu/vec_inline.h"

enum {
    OCT_NORM_UNIT = 64,
    OCT_NORM_SUMS = 5 /* arrays of a reduction's chunk: dz, dz xhat, dz^2, min, max */
};

/* What one item found. Maxima and integer counts: any order of merging gives the same. */
struct oct_norm_found {
    float amax;
    uint32_t not_finite;
    int64_t saturated[2]; /* x; or the copies per channel and per tensor */
    int64_t above_all;    /* |dy| above sigma; |y| above its limit */
    int64_t clipped;
    float *channel_amax;     /* wide, of this thread; NULL: not wanted */
    uint32_t *channel_above; /* wide, of this thread; NULL: not wanted */
};

/* Floats between the arrays of a reduction's chunk. */
static inline int64_t oct_norm_stride(int channels)
{
    return ((int64_t)channels + 15) / 16 * 16;
}

struct oct_vec_norm {
    void (*act_fwd)(const struct oct_act_fwd_args *args, int64_t first, int64_t count,
        struct oct_norm_found *found);
    /* sums f32[OCT_NORM_SUMS][stride] of rows [first_row, first_row + rows), in row order. */
    void (*bwd_reduce)(
        const struct oct_bn_bwd_reduce_args *args, int64_t first_row, int rows, float *sums);
    void (*bwd_apply)(const struct oct_bn_bwd_apply_args *args, int64_t first, int64_t count,
        struct oct_norm_found *found);
};

extern const struct oct_vec_norm oct_vec_norm_base, oct_vec_norm_avx512;

#ifdef OCT_VEC
/* Codes of four vectors of quotients on a grid that is not uniform. */
__attribute__((unused, noinline)) static void vi_grid_codes(
    enum oct_grid grid, const vf v[4], int code_max, vi code[4])
{
    float x[OCT_NORM_UNIT];
    int32_t q[OCT_NORM_UNIT];
    if (grid == OCT_GRID_MU8 && code_max == OCT_CODE_MAX) {
        for (int k = 0; k < 4; k++)
            code[k] = vi_mu8_codes(v[k]);
        return;
    }
    for (int k = 0; k < 4; k++)
        vf_store_f32(x + 16 * k, 16, v[k]);
    oct_grid_codes(grid, x, OCT_NORM_UNIT, code_max, q);
    for (int k = 0; k < 4; k++)
        code[k] = vi_load((const uint32_t *)q + 16 * k);
}

void OCT_VEC_NAME(oct_act_fwd)(const struct oct_act_fwd_args *args, int64_t first, int64_t count,
    struct oct_norm_found *found);
void OCT_VEC_NAME(oct_bwd_reduce)(
    const struct oct_bn_bwd_reduce_args *args, int64_t first_row, int rows, float *sums);
void OCT_VEC_NAME(oct_bwd_apply)(const struct oct_bn_bwd_apply_args *args, int64_t first,
    int64_t count, struct oct_norm_found *found);
#endif

#endif
