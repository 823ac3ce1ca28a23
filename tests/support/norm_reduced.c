#include "support/norm_reduced.h"

#include "oracle/oracle_norm.h"

void norm_reduce(const struct oct_bn_bwd_apply_args *apply, const float *xhat_max, float eps,
    struct norm_reduced *out)
{
    struct oct_bn_bwd_reduce_args reduce = {.rows = apply->rows,
        .channels = apply->channels,
        .da = apply->da,
        .da_dtype = apply->da_dtype,
        .y = apply->y,
        .y_dtype = apply->y_dtype,
        .a = apply->a,
        .b = apply->b,
        .ix = apply->ix,
        .jx = apply->jx,
        .relu = apply->relu,
        .mask = apply->mask,
        .sum_dz = out->sum_dz,
        .sum_dz_xhat = out->sum_dz_xhat,
        .sum_dz2 = out->sum_dz2,
        .dz_min = out->dz_min,
        .dz_max = out->dz_max};
    struct oct_bn_bwd_finalize_args finish = {.channels = apply->channels,
        .count = apply->rows,
        .sum_dz = out->sum_dz,
        .sum_dz_xhat = out->sum_dz_xhat,
        .sum_dz2 = out->sum_dz2,
        .dz_min = out->dz_min,
        .dz_max = out->dz_max,
        .xhat_max = xhat_max,
        .a = apply->a,
        .ix = apply->ix,
        .eps = eps,
        .m1 = out->m1,
        .m2 = out->m2,
        .dgamma = out->dgamma,
        .dbeta = out->dbeta,
        .mode = OCT_OVERWRITE,
        .bound = out->bound,
        .sigma = out->sigma,
        .sigma_all = &out->sigma_all};
    oracle_bn_bwd_reduce(&reduce);
    oracle_bn_bwd_finalize(&finish);
}
