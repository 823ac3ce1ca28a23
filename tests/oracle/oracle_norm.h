/* Slow, obvious forms of the normalise-and-activate ops, written from backend.h: the unfused chain,
 * one element and one step at a time, with their own conversions. They take the ops' argument
 * structs, read no workspace, and equal the ops bit for bit when subnormals are flushed
 * (oct_cpu_flush_subnormals in the calling thread). */
#ifndef OCT_ORACLE_NORM_H
#define OCT_ORACLE_NORM_H

#include "backend.h"

void oracle_bn_finalize(const struct oct_bn_finalize_args *args);
void oracle_affine_finalize(const struct oct_affine_finalize_args *args);
void oracle_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *args);
void oracle_act_fwd(const struct oct_act_fwd_args *args);
void oracle_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *args);
void oracle_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *args);
/* random[rows * channels]: the rounding byte of each element (stochastic only). */
void oracle_bn_bwd_apply(const struct oct_bn_bwd_apply_args *args, const uint8_t *random);

/* Code of an accumulator behind a normalisation with clipped channels: the multiplications and the
 * addition each rounded once, then clamped, then rounded to the nearest code, ties to even. */
struct oracle_merged {
    float a, b, lo, hi, multiplier, inverse;
};
int oracle_merged_code(int64_t acc, const struct oracle_merged *channel);

#endif
