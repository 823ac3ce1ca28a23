/* Convolutions of real numbers in double, written from the definitions: the judge of the float
 * products. Every function also gives, per output, the sum of the products' magnitudes, which is
 * what a rounding error bound multiplies. */
#ifndef ORACLE_FCONV_H
#define ORACLE_FCONV_H

#include "base/conv_shape.h"

/* y[n,p,q,k] = bias[k] + sum over r,s,c of x[n, p stride - pad + r dilation, ..., c] w[k,r,s,c];
 * bias may be NULL. */
void oracle_fconv_fprop(const struct oct_conv_shape *v, const double *x, const double *w,
    const double *bias, double *y, double *magnitude);
/* dx[n,h,w,c] = sum over the outputs p,q that read the pixel of dy[n,p,q,k] w[k,r,s,c]. */
void oracle_fconv_dgrad(const struct oct_conv_shape *v, const double *dy, const double *w,
    double *dx, double *magnitude);
/* dw[k,r,s,c] = sum over n,p,q of dy[n,p,q,k] x[n,h,w,c]. */
void oracle_fconv_wgrad(const struct oct_conv_shape *v, const double *x, const double *dy,
    double *dw, double *magnitude);

#endif
