/* The schemes there are, for the registry alone. */
#ifndef OCT_SCHEME_LIST_H
#define OCT_SCHEME_LIST_H

#include "schemes/scheme.h"

extern const struct oct_scheme oct_scheme_fp32;
extern const struct oct_scheme oct_scheme_bf16;
extern const struct oct_scheme oct_scheme_dai8;
extern const struct oct_scheme oct_scheme_amax;
extern const struct oct_scheme oct_scheme_fqat;
extern const struct oct_scheme oct_scheme_ui8;
extern const struct oct_scheme oct_scheme_logbtq;
extern const struct oct_scheme oct_scheme_wageubn;
extern const struct oct_scheme oct_scheme_eoq;

/* Option setters that more than one scheme offers. */
bool oct_option_residual(struct oct_numerics *numerics, const char *value); /* int8|float */

/* Codes of 8 bits of a power-of-two unit, with a flag of a finer one or without. */
void oct_option_flag(struct oct_policy *policy, bool flag);

/* A number in [low, high]. */
bool oct_option_number(const char *value, float low, float high, float *out);

#endif
