/* What the oracles' reduction of one normalisation's backward pass leaves. */
#ifndef OCT_TEST_NORM_REDUCED_H
#define OCT_TEST_NORM_REDUCED_H

#include "backend.h"

enum { NORM_REDUCED_CHANNELS = 64 };

struct norm_reduced {
    double sum_dz[NORM_REDUCED_CHANNELS], sum_dz_xhat[NORM_REDUCED_CHANNELS];
    double sum_dz2[NORM_REDUCED_CHANNELS];
    float dz_min[NORM_REDUCED_CHANNELS], dz_max[NORM_REDUCED_CHANNELS];
    float m1[NORM_REDUCED_CHANNELS], m2[NORM_REDUCED_CHANNELS];
    float dgamma[NORM_REDUCED_CHANNELS], dbeta[NORM_REDUCED_CHANNELS];
    float bound[NORM_REDUCED_CHANNELS], sigma[NORM_REDUCED_CHANNELS], sigma_all;
};

/* `apply` is the pass that would follow; its da, y, coefficients, ReLU and mask are read. */
void norm_reduce(const struct oct_bn_bwd_apply_args *apply, const float *xhat_max, float eps,
    struct norm_reduced *out);

#endif
