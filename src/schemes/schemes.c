/* The ordered registry, and the resolution of a user's request into policies. */
#include "schemes/scheme_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct oct_scheme *const registry[] = {&oct_scheme_dai8, &oct_scheme_ui8,
    &oct_scheme_fqat, &oct_scheme_logbtq, &oct_scheme_wageubn, &oct_scheme_eoq, &oct_scheme_amax,
    &oct_scheme_fp32, &oct_scheme_bf16};

const struct oct_scheme *oct_scheme_at(size_t index)
{
    return index < sizeof registry / sizeof registry[0] ? registry[index] : NULL;
}

const struct oct_scheme *oct_scheme_find(const char *name)
{
    for (size_t i = 0; oct_scheme_at(i); i++)
        if (strcmp(oct_scheme_at(i)->name, name) == 0)
            return oct_scheme_at(i);
    return NULL;
}

const char *oct_scheme_name(size_t index)
{
    for (size_t i = 0; oct_scheme_at(i); i++)
        if (oct_scheme_at(i)->integer && index-- == 0)
            return oct_scheme_at(i)->name;
    return NULL;
}

bool oct_option_residual(struct oct_numerics *numerics, const char *value)
{
    if (strcmp(value, "int8") == 0)
        numerics->role[OCT_ROLE_RESIDUAL].format = OCT_FORMAT_INT8;
    else if (strcmp(value, "float") == 0)
        numerics->role[OCT_ROLE_RESIDUAL].format = OCT_FORMAT_BF16;
    else
        return false;
    return true;
}

void oct_option_flag(struct oct_policy *policy, bool flag)
{
    policy->format = flag ? OCT_FORMAT_INT16 : OCT_FORMAT_INT8;
    policy->grid = flag ? OCT_GRID_FLAG : OCT_GRID_UNIFORM;
}

bool oct_option_number(const char *value, float low, float high, float *out)
{
    char *end;
    float x = strtof(value, &end);
    if (*value == 0 || *end != 0 || !(x >= low && x <= high))
        return false;
    *out = x;
    return true;
}

/* Grids that are not uniform have nearest rounding only. */
static enum oct_status check_rounding(const struct oct_numerics *numerics)
{
    for (int i = 0; i < OCT_ROLES; i++)
        if (numerics->role[i].rounding == OCT_STOCHASTIC &&
            numerics->role[i].grid != OCT_GRID_UNIFORM)
            return oct_fail(OCT_UNSUPPORTED,
                "--rounding stochastic: the codes of %s in scheme %s are not evenly spaced: use "
                "nearest",
                oct_role_name((enum oct_role)i), numerics->scheme->name);
    return OCT_OK;
}

/* What no code holds is emulated in float. */
static enum oct_status check_emulated(
    const struct oct_numerics *numerics, const struct oct_numerics_request *request)
{
    const char *scheme = numerics->scheme->name, *option = request->scheme_opt;
    if (!numerics->emulated)
        return OCT_OK;
    if (!request->simulate)
        return oct_fail(OCT_UNSUPPORTED,
            "scheme %s with --scheme-opt %s: no int8 code holds its operands, they are emulated in "
            "float: add --simulate, on --device cpu",
            scheme, option);
    if (numerics->act_dtype != OCT_F32)
        return oct_fail(OCT_UNSUPPORTED,
            "scheme %s with --scheme-opt %s: emulated operands are f32, --act-dtype bf16 was asked "
            "for: give --act-dtype f32",
            scheme, option);
    if (!numerics->int8_fprop || !numerics->int8_dgrad || !numerics->int8_wgrad)
        return oct_fail(OCT_UNSUPPORTED,
            "scheme %s with --scheme-opt %s emulates all three products of a layer: leave "
            "--int8-fwd, --int8-dgrad and --int8-wgrad on, or use --int8-skip",
            scheme, option);
    for (int i = 0; i < OCT_ROLES; i++)
        if (numerics->role[i].rounding == OCT_STOCHASTIC)
            return oct_fail(OCT_UNSUPPORTED,
                "scheme %s with --scheme-opt %s: emulated operands are rounded to nearest: leave "
                "--rounding stochastic out",
                scheme, option);
    return OCT_OK;
}

static enum oct_status find_scheme(
    const struct oct_numerics_request *request, const struct oct_scheme **out)
{
    const char *precision = request->precision;
    bool integer = strcmp(precision, "int8") == 0;
    const struct oct_scheme *scheme = oct_scheme_find(integer ? request->scheme : precision);
    if (integer && (!scheme || !scheme->integer))
        return oct_fail_unknown("scheme", request->scheme, oct_scheme_name);
    if (!scheme || scheme->integer != integer)
        return oct_fail(
            OCT_ARG, "unknown precision '%s': use fp32, bf16 or int8", request->precision);
    *out = scheme;
    return OCT_OK;
}

/* Index of `value` in the NULL-terminated `names`, or -1. */
static int choice(const char *value, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(value, names[i]) == 0)
            return i;
    return -1;
}

static enum oct_status apply_option(struct oct_numerics *numerics, char *pair)
{
    const struct oct_scheme *scheme = numerics->scheme;
    char *value = strchr(pair, '=');
    if (!value)
        return oct_fail(OCT_ARG, "scheme option '%s' has no value: write key=value", pair);
    *value++ = 0;
    for (const struct oct_scheme_option *o = scheme->options; o && o->key; o++) {
        if (strcmp(o->key, pair) != 0)
            continue;
        if (!o->apply(numerics, value))
            return oct_fail(OCT_ARG, "scheme %s: option %s=%s: expected %s", scheme->name, pair,
                value, o->values);
        return OCT_OK;
    }
    return oct_fail(OCT_ARG, "scheme %s has no option '%s': see octet info --scheme %s",
        scheme->name, pair, scheme->name);
}

static enum oct_status apply_options(struct oct_numerics *numerics, const char *text)
{
    enum oct_status status = OCT_OK;
    char *copy = NULL, *rest = NULL;
    if (!text || !*text)
        return OCT_OK;
    copy = strdup(text);
    if (!copy)
        return oct_fail(OCT_NOMEM, "no memory for scheme options");
    for (char *pair = strtok_r(copy, ",", &rest); pair; pair = strtok_r(NULL, ",", &rest))
        OCT_OUT(apply_option(numerics, pair));
out:
    free(copy);
    return status;
}

static enum oct_status apply_common(
    struct oct_numerics *numerics, const struct oct_numerics_request *request)
{
    static const char *const roundings[] = {"nearest", "stochastic", NULL};
    static const char *const refreshes[] = {"exact", "bound", "last", NULL};
    static const char *const edges[] = {"float", "int8", "int16", NULL};
    static const char *const dtypes[] = {"f32", "bf16", NULL};
    static const enum oct_role errors[] = {OCT_ROLE_DY_DW, OCT_ROLE_DY_DX};
    int rounding = request->rounding ? choice(request->rounding, roundings) : -2;
    int refresh = request->refresh ? choice(request->refresh, refreshes) : -2;
    int edge = choice(request->first_last, edges);
    int dtype = choice(request->act_dtype, dtypes);

    if (rounding == -1)
        return oct_fail(OCT_ARG, "--rounding %s: use nearest or stochastic", request->rounding);
    if (refresh == -1)
        return oct_fail(OCT_ARG, "--refresh %s: use exact, bound or last", request->refresh);
    if (edge < 0)
        return oct_fail(OCT_ARG, "--first-last %s: use int8, int16 or float", request->first_last);
    if (dtype < 0)
        return oct_fail(OCT_ARG, "--act-dtype %s: use bf16 or f32", request->act_dtype);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (rounding >= 0)
            numerics->role[errors[i]].rounding = (enum oct_rounding)rounding;
        if (refresh >= 0)
            numerics->role[errors[i]].refresh = (enum oct_refresh)refresh;
    }
    numerics->act_dtype = dtype == 0 ? OCT_F32 : OCT_BF16;
    numerics->first_last = edge == 0   ? OCT_FORMAT_BF16
                           : edge == 1 ? OCT_FORMAT_INT8
                                       : OCT_FORMAT_INT16;
    return OCT_OK;
}

enum oct_status oct_numerics_open(
    const struct oct_numerics_request *request, struct oct_numerics *out)
{
    struct oct_numerics numerics = {0};

    OCT_TRY(find_scheme(request, &numerics.scheme));
    memcpy(numerics.role, numerics.scheme->role, sizeof numerics.role);
    numerics.int8_fprop = request->int8_fprop;
    numerics.int8_dgrad = request->int8_dgrad;
    numerics.int8_wgrad = request->int8_wgrad;
    OCT_TRY(apply_common(&numerics, request));
    if (!numerics.scheme->integer) {
        numerics.int8_fprop = numerics.int8_dgrad = numerics.int8_wgrad = false;
        numerics.act_dtype =
            numerics.role[OCT_ROLE_X].format == OCT_FORMAT_F32 ? OCT_F32 : OCT_BF16;
    }
    numerics.barrier = numerics.scheme->barrier;
    numerics.update = numerics.scheme->update;
    numerics.norm = numerics.scheme->norm;
    OCT_TRY(apply_options(&numerics, request->scheme_opt));
    OCT_TRY(check_rounding(&numerics));
    for (int i = 0; i < OCT_ROLES; i++)
        numerics.emulated |= !oct_grid_has_codes(numerics.role[i].grid);
    OCT_TRY(check_emulated(&numerics, request));
    if (request->skip) {
        int code = regcomp(&numerics.skip, request->skip, REG_EXTENDED | REG_NOSUB);
        if (code != 0) {
            char why[128];
            regerror(code, &numerics.skip, why, sizeof why);
            return oct_fail(OCT_ARG, "--int8-skip '%s': %s", request->skip, why);
        }
        numerics.skip_pattern = request->skip;
    }
    *out = numerics;
    return OCT_OK;
}

void oct_numerics_close(struct oct_numerics *numerics)
{
    if (numerics->skip_pattern)
        regfree(&numerics->skip);
    numerics->skip_pattern = NULL;
}
