/* Backward products in float64, and how far an int8 product is from them. */
#ifndef OCT_ANALYSE_H
#define OCT_ANALYSE_H

#include "base/conv_shape.h"

/* dw[K,R,S,C] and, if not NULL, dx[N,H,W,C], both overwritten, of x, w and dy in f32. */
void oct_float64_gradients(const struct oct_conv_shape *shape, const float *x, const float *w,
    const float *dy, double *dw, double *dx);

/* 10 log10 of |want|^2 / |got - want|^2; infinite if they are equal, NAN if want is 0. */
double oct_snr(const float *got, const double *want, int64_t count);
/* The least SNR of `rows` rows of `count` values; rows that should be 0 do not count. */
double oct_worst_snr(const float *got, const double *want, int rows, int64_t count);
/* Cosine of the angle between the two; NAN if one is 0. */
double oct_cosine(const float *got, const double *want, int64_t count);

#endif
