/* Convolution by definition: six loops, int64 sums of integer codes, one conversion to float. */
#ifndef ORACLE_CONV_H
#define ORACLE_CONV_H

#include "base/conv_shape.h"

#include <stdint.h>

/* codes[n] = planes combined: hi, or 128 hi + lo. */
void oracle_codes(int32_t *codes, const int8_t *hi, const int8_t *lo, int64_t n);
/* Codes of weights w[K][filter], clip 1/inverse[k] * code_max; 0 where w is not finite. */
void oracle_weight_codes(int32_t *codes, const float *w, int64_t k, int64_t filter,
    const float *inverse, int per_k, int code_max);

/* acc[N,P,Q,K], acc[N,H,W,C], acc[K,R,S,C] */
void oracle_conv_fprop(
    int64_t *acc, const struct oct_conv_shape *shape, const int32_t *x, const int32_t *w);
void oracle_conv_dgrad(
    int64_t *acc, const struct oct_conv_shape *shape, const int32_t *dy, const int32_t *w);
void oracle_conv_wgrad(
    int64_t *acc, const struct oct_conv_shape *shape, const int32_t *x, const int32_t *dy);

/* (bias or 0 NULL; old value or NULL) fl(fl(f32(acc) fl(s s2)) + bias) added to old. f32 result. */
float oracle_conv_real(int64_t acc, float s, float s2, const float *bias, const float *old);
/* floor(a / 2^h + 1/2) */
int64_t oracle_rshift_round(int64_t a, int h);

#endif
