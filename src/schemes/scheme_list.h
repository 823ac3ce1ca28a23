/* The schemes there are, for the registry alone. */
#ifndef OCT_SCHEME_LIST_H
#define OCT_SCHEME_LIST_H

#include "schemes/scheme.h"

extern const struct oct_scheme oct_scheme_fp32;
extern const struct oct_scheme oct_scheme_bf16;
extern const struct oct_scheme oct_scheme_dai8;
extern const struct oct_scheme oct_scheme_amax;

/* Option setters that more than one scheme offers. */
bool oct_option_residual(struct oct_numerics *numerics, const char *value); /* int8|float */

#endif
