#include "quant/policy.h"

#include <math.h>
#include <stdio.h>

const char *oct_role_name(enum oct_role role)
{
    static const char *const names[OCT_ROLES] = {
        "X", "W_FWD", "W_DX", "Y", "RESIDUAL", "DY_DW", "DY_DX", "DX"};
    return names[role];
}

static void keep_float(struct oct_layer_numerics *layer, const char *reason)
{
    layer->fprop = layer->dgrad = layer->wgrad = layer->emulated = false;
    snprintf(layer->reason, sizeof layer->reason, "%s", reason);
}

/* Two planes stand for W and dY; X keeps one plane, whose rounding error is that of its 8-bit
 * source. */
static void widen(struct oct_layer_numerics *layer)
{
    static const enum oct_role wide[] = {
        OCT_ROLE_W_FWD, OCT_ROLE_W_DX, OCT_ROLE_DY_DW, OCT_ROLE_DY_DX};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        layer->role[wide[i]].format = OCT_FORMAT_INT16;
}

void oct_layer_numerics(const struct oct_numerics *numerics, const char *name, bool edge,
    struct oct_layer_numerics *out)
{
    struct oct_layer_numerics layer = {.fprop = numerics->int8_fprop,
        .dgrad = numerics->int8_dgrad,
        .wgrad = numerics->int8_wgrad,
        .emulated = numerics->emulated};
    for (int i = 0; i < OCT_ROLES; i++)
        layer.role[i] = numerics->role[i];

    if (!layer.fprop || !layer.dgrad || !layer.wgrad)
        snprintf(layer.reason, sizeof layer.reason, "%s%s%sswitched off",
            layer.fprop ? "" : "fprop ", layer.dgrad ? "" : "dgrad ", layer.wgrad ? "" : "wgrad ");
    else if (layer.emulated)
        snprintf(layer.reason, sizeof layer.reason, "emulated in float, --scheme-opt");
    if (edge && !oct_format_is_integer(numerics->first_last))
        keep_float(&layer, "first or last layer, --first-last float");
    else if (edge && numerics->first_last == OCT_FORMAT_INT16)
        widen(&layer);
    if (numerics->skip_pattern && regexec(&numerics->skip, name, 0, NULL, 0) == 0)
        keep_float(&layer, "--int8-skip");
    if (!numerics->int8_fprop && !numerics->int8_dgrad && !numerics->int8_wgrad)
        keep_float(&layer, "float precision");
    *out = layer;
}

enum oct_status oct_check_factoring(const struct oct_layer_numerics *layer, const char *name)
{
    static const struct {
        enum oct_role role;
        const char *product, *contracts;
    } forbidden[] = {
        {OCT_ROLE_X, "fprop and wgrad", "C"},
        {OCT_ROLE_W_DX, "dgrad", "K"},
        {OCT_ROLE_DY_DX, "dgrad", "K"},
    };
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        const struct oct_policy *policy = &layer->role[forbidden[i].role];
        if (oct_format_is_integer(policy->format) && policy->granularity == OCT_PER_CHANNEL)
            return oct_fail(OCT_UNSUPPORTED,
                "%s: operand %s of %s has a scale per channel, but the product sums over %s: "
                "use one scale per tensor",
                name, oct_role_name(forbidden[i].role), forbidden[i].product,
                forbidden[i].contracts);
    }
    return OCT_OK;
}

bool oct_policy_same(const struct oct_policy *p, const struct oct_policy *q)
{
    return p->format == q->format && p->granularity == q->granularity && p->clip == q->clip &&
           p->k == q->k && p->a == q->a && p->lambda == q->lambda && p->floor == q->floor &&
           p->deviations == q->deviations && p->rounding == q->rounding &&
           p->refresh == q->refresh && p->grid == q->grid && p->pow2 == q->pow2 &&
           p->search_period == q->search_period;
}

float oct_barrier_temperature(const struct oct_barrier_policy *barrier, int epoch)
{
    double t = (double)barrier->t0;
    for (int i = 0; i < epoch && t < (double)barrier->t_max; i++)
        t *= (double)barrier->growth;
    return (float)(t < (double)barrier->t_max ? t : (double)barrier->t_max);
}

float oct_barrier_tau(const struct oct_barrier_policy *barrier, int64_t fan_in)
{
    double n = (double)fan_in;
    if (barrier->rule == OCT_TAU_SIGMAS)
        return (float)((double)barrier->width * sqrt(2.0 / n));
    double spread = sqrt(2.0 * n * log(2.0 / (double)barrier->delta));
    return (float)((double)barrier->limit / (spread * (double)barrier->width));
}

float oct_update_range(const struct oct_update_policy *update, int epoch, int epochs)
{
    float range = update->period[0].range;
    for (int i = 1; i < OCT_UPDATE_PERIODS && update->period[i].range > 0.0f; i++)
        if ((int64_t)100 * epoch >= (int64_t)update->period[i].percent * epochs)
            range = update->period[i].range;
    return range;
}

double oct_update_lr(const struct oct_update_policy *update, double lr)
{
    switch (update->lr_grid) {
    case OCT_LR_FIXED:
        return (double)oct_lr_on_grid((float)lr);
    case OCT_LR_POW2:
        return lr > 0.0 ? (double)oct_pow2_of_clip((float)lr, OCT_POW2_NEAREST) : 0.0;
    case OCT_LR_REAL:
        break;
    }
    return lr;
}
