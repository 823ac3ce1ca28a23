/* Second definitions of what schemes may ask of the ops: grids of codes, powers of two, clip rules,
 * the barrier on weights, the search for a direction. From the comments of backend.h; floats as in
 * oracle_ops.h, one rounding for each operation. */
#ifndef OCT_ORACLE_SCHEME_H
#define OCT_ORACLE_SCHEME_H

#include "backend.h"

#include <stdbool.h>

float oracle_add(float x, float y);
float oracle_sub(float x, float y);
float oracle_mul(float x, float y);
float oracle_over(float x, float y);

/* Nearest code on a grid. */
int oracle_grid_code(enum oct_grid grid, float x, float inverse, int code_max);
/* Mu-law storage code of |v| <= code_max, and the linear code of a storage code. */
int oracle_mu8_storage(float v, int code_max);
int oracle_mu8_linear(int c, int code_max);

/* What is left of x on the grid of a range of one entry. */
float oracle_real_on(const struct oct_range *range, float x);

/* Sets scale[i] and inverse[i] of a range from clip[i]. */
void oracle_range_steps(const struct oct_range *range, int i, bool usable);
/* clip by rules AMAX, SHARE, FIXED; false if `amax` is no statistic. */
bool oracle_next_clip(const struct oct_range_update_args *a, float amax, float *clip);

float oracle_barrier_gradient(float w, float tau, float t, float lam);
void oracle_cosine_search(const struct oct_cosine_search_args *a);

#endif
