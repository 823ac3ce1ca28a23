/* A training scheme: one paper, one file. Data first (a policy per role, its options, what is
 * published and what is reconstructed), hooks second. The registry is an ordered array
 * (schemes.c); a scheme's name appears nowhere outside this folder. */
#ifndef OCT_SCHEME_H
#define OCT_SCHEME_H

#include "quant/policy.h"

struct oct_scheme_option {
    const char *key;
    const char *values; /* what is accepted, for help and error messages */
    const char *text;
    /* Applies `value`; false if it is not one of `values`. */
    bool (*apply)(struct oct_numerics *numerics, const char *value);
};

struct oct_scheme {
    const char *name;
    const char *paper;           /* authors, title, venue, year; NULL for float precisions */
    const char *const *notes;    /* lines of `octet info --scheme`, NULL-terminated: the
                                    equations, what is published, what is reconstructed */
    const char *instead_of_norm; /* what to use in place of a network with batch normalisation,
                                  * where the scheme has none; else NULL */
    bool integer;                /* selectable under --precision int8 */
    struct oct_policy role[OCT_ROLES];
    struct oct_barrier_policy barrier;       /* on the weights; lam 0: none */
    struct oct_update_policy update;         /* all 0: float SGD */
    struct oct_bn_rounding norm;             /* all 0: float normalisation */
    const struct oct_scheme_option *options; /* ends with key NULL; may be NULL */
};

const struct oct_scheme *oct_scheme_at(size_t index);       /* registry order, NULL at the end */
const struct oct_scheme *oct_scheme_find(const char *name); /* NULL if unknown */

/* What a user asks for; strings as in struct oct_options. */
struct oct_numerics_request {
    const char *precision, *scheme, *scheme_opt, *rounding, *refresh;
    const char *first_last, *act_dtype, *skip;
    bool int8_fprop, int8_dgrad, int8_wgrad;
    bool simulate; /* --simulate: numbers without codes may be emulated */
};

/* Resolves names and options. Refuses unknown ones with what there is. */
enum oct_status oct_numerics_open(
    const struct oct_numerics_request *request, struct oct_numerics *out);
void oct_numerics_close(struct oct_numerics *numerics);

#endif
