/* Integer-only activations by definition: exact numbers in double, floor(x + 1/2). They take the
 * ops' argument structs. */
#ifndef ORACLE_SHIFT_H
#define ORACLE_SHIFT_H

#include "backend.h"

/* floor(v / 2^right + 1/2) in [lowest, 127]; 0 from a shift of 31 on */
int oracle_shift_code(int64_t v, int right, int lowest);
void oracle_shift_finalize(const struct oct_shift_finalize_args *args);
void oracle_act_shift(const struct oct_act_shift_args *args);

#endif
