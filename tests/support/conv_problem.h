/* A convolution with its operands, and what all three products must make of them by the oracle. */
#ifndef OCT_TEST_CONV_PROBLEM_H
#define OCT_TEST_CONV_PROBLEM_H

#include "base/conv_shape.h"
#include "support/support.h"

enum { STATS_ADDED = 1000 };

struct conv_plan {
    struct oct_conv_shape shape;
    enum fill fill;
    int x_planes, w_planes, dy_planes;
    int per_k; /* scales of w in fprop, of dy in wgrad */
    int bias, accumulate;
    enum oct_dtype dtype; /* of y and dx */
    int extra_shift;      /* of the statistics */
    uint64_t seed;
};

/* A case's tensors and what the products must give. */
struct conv_problem {
    struct conv_plan plan;
    int64_t x_count, w_count, y_count;
    int8_t *x[2], *dy[2];
    float *w, *bias, *inverse, *w_scale, *dy_scale, x_scale;
    int32_t *x_codes, *w_codes, *w_codes_dgrad, *dy_codes;
    int64_t *acc_y, *acc_dx, *acc_dw;
    void *y, *dx, *dx_old;
    float *dw, *dw_old;
    int64_t *stats; /* [4][K] */
    int shift;
};

void conv_problem_make(struct conv_problem *p, const struct conv_plan *plan);
void conv_problem_free(struct conv_problem *p);

#endif
