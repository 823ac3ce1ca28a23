/* Slow, obvious versions of the elementwise ops of backend.h, from its comments and
 * docs/numerics.md. They take the same argument structs and share no code with src: every float
 * operation is done in double and rounded once by oracle_fl. */
#ifndef OCT_ORACLE_OPS_H
#define OCT_ORACLE_OPS_H

#include "backend.h"

/* One float operation: nearest float of a double result, subnormals flushed to zero. */
float oracle_fl(double exact);
/* An operand: subnormals count as zero. */
double oracle_in(float x);
/* Element i of an f32, bf16 or s8 tensor. */
double oracle_at(const void *x, enum oct_dtype dtype, int64_t i);
void oracle_put(void *x, enum oct_dtype dtype, int64_t i, float value);
uint16_t oracle_bf16(float x);
/* Nearest integer, ties to even. */
double oracle_rne(double v);
int oracle_code(float x, float inverse, int code_max, int random_byte); /* < 0: nearest */
uint32_t oracle_rounding_byte(uint64_t seed, uint32_t step, uint32_t tensor, uint64_t element);
float oracle_exp(float x);
float oracle_log(float x);

void oracle_quantise(const struct oct_quantise_args *a);
void oracle_regrid(const struct oct_regrid_args *a);
void oracle_barrier_bwd(const struct oct_barrier_bwd_args *a);
void oracle_compensate(const struct oct_compensate_args *a);
void oracle_compensate_bwd(const struct oct_compensate_bwd_args *a);
void oracle_channel_stats(const struct oct_channel_stats_args *a);
void oracle_channel_sum(const struct oct_channel_sum_args *a);
void oracle_count_above(const struct oct_count_above_args *a);
void oracle_range_update(const struct oct_range_update_args *a);
void oracle_pool(const struct oct_pool_args *a);
void oracle_pool_bwd(const struct oct_pool_bwd_args *a);
void oracle_image(const struct oct_image_args *a);
void oracle_loss(const struct oct_loss_args *a);
void oracle_sgd(const struct oct_sgd_args *a);
void oracle_ema(const struct oct_ema_args *a);

#endif
