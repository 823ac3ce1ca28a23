/* Second definition of the update in fixed point, from the comments of backend.h. */
#ifndef OCT_ORACLE_FIXED_H
#define OCT_ORACLE_FIXED_H

#include "backend.h"

/* Nearest multiple of 1 / steps, ties to even; steps 0: x. */
float oracle_on_grid(float x, float steps);
void oracle_sgd_fixed(const struct oct_sgd_fixed_args *a);

#endif
