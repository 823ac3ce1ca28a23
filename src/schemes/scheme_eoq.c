/* eoq: full 8-bit training without batch normalisation, reconstructed.
 * Yukuan Yang, Xiaowei Chi, Lei Deng, Tianyi Yan, Feng Gao, Guoqi Li: "Towards Efficient Full 8-bit
 * Integer DNN Online Training on Resource-limited Devices without Batch Normalization",
 * Neurocomputing 2022, arXiv 2105.13890.
 *
 * Published (abstract): Fixup initialisation in place of batch normalisation; weights, activations,
 * errors, gradients and, for the first time, updates in 8-bit integers. No formula of it was
 * readable: what follows is a reconstruction of ours on the functions of the same authors' WAGEUBN
 * code, not the paper's own scheme.
 *
 * Every scale is a power of two, unit(T) = 2^(e - 7), R(T) = 2^rne(log2 max |T|):
 *     W     clip(rne(W / unit), -127, 127), e = ceil(log2 max |W0|), fixed from then on; the
 *           maximum counts as 2^-4 at least, of what begins at 0 as 4 deviations of He's
 *     A     integers alone: floor((scale acc + bias (+ residual)) / 2^shift + 1/2), clipped to
 *           0..127 behind a ReLU; e = ceil(log2 of a moving average of max |A| of earlier steps)
 *     b, scale   8-bit codes with an exponent of their own
 *     E     at a convolution's output, and at its input, where it is summed over its consumers:
 *           E2, 8 bits and a flag of the unit, or E1, without (error=qe1, e1=qe1); units from R(E)
 *     G     n = SR(dr (dW + wd W) / R), |n| < dr, G = n R / dr;  gradient=cq: WAGEUBN's G = n 2^-14
 *     U     Acc = mu Acc + G on steps of 4 R / 128;  cq: of 2^-12; --nesterov: of G + mu Acc
 *           wide:   n_U = SR(Acc / step), |n_U| <= 127; W = W - lr n_U step on 2^-23
 *           strict: W is its code: n_W = clip(n_W - SR(lr Acc / unit), -127, 127)
 *     lr    the nearest power of two
 *
 * Reported by the paper: no figure was readable. Ours, with the commands: docs/results.md. */
#include "schemes/scheme_list.h"

#include <string.h>

static const char *const notes[] = {
    "a reconstruction of ours: no formula of the paper was readable; not EOQ's own scheme",
    "no batch normalisation: Fixup networks only                            [published: abstract]",
    "W, A, E, G and the update U in 8-bit integers                          [published: abstract]",
    "every scale a power of two; W's fixed by its initial maximum, 2^-4 or  [reconstructed]",
    "more, or where it begins at 0 by 4 deviations of He's weights",
    "A by integers and shifts alone, rounded half up; unit from a moving    [reconstructed]",
    "average of its maximum in earlier steps; b, scale 8 bits and an",
    "exponent each; excepted are the image and the logits",
    "E2: dY in 8 bits and a flag, two int8 products for dX and for dW each  [reconstructed]",
    "dX summed, then E2 as well; e1=qe1: 8 bits of one unit                 [ours]",
    "G: n = SR(128 (dW + wd W) / R), |n| < 128, G = n R / 128; gradient=cq  [reconstructed]",
    "forgets R: G = n 2^-14; Acc = mu Acc + G on steps of 4 units of G; lr a", "power of two",
    "update=wide: U = SR(Acc) in 8 bits, W in 24; update=strict: W is 8     [reconstructed]",
    "bits, W - SR(lr Acc) in whole codes",
    "first and last layer int8 in two planes: --first-last int8 for one     [ours]",
    "E1, E2, CQ, the steps of Acc and 24 bits are those of the authors' WAGEUBN code; "
    "docs/schemes.md",
    NULL};

static bool apply_update(struct oct_numerics *numerics, const char *value)
{
    bool strict = strcmp(value, "strict") == 0;
    if (!strict && strcmp(value, "wide") != 0)
        return false;
    numerics->update.increment = strict ? OCT_INCREMENT_GRID : OCT_INCREMENT_CODE;
    return true;
}

static bool apply_gradient(struct oct_numerics *numerics, const char *value)
{
    bool cq = strcmp(value, "cq") == 0;
    if (!cq && strcmp(value, "shift") != 0)
        return false;
    numerics->update.keeps_magnitude = !cq;
    return true;
}

/* Without momentum the gradient's codes are those of the update. */
static bool apply_momentum(struct oct_numerics *numerics, const char *value)
{
    bool none = strcmp(value, "none") == 0;
    if (!none && strcmp(value, "13") != 0)
        return false;
    numerics->update.no_momentum = none;
    numerics->update.momentum_unit = none ? 0x1p-14f : 0x1p-12f;
    return true;
}

static bool apply_lr(struct oct_numerics *numerics, const char *value)
{
    bool real = strcmp(value, "real") == 0;
    if (!real && strcmp(value, "pow2") != 0)
        return false;
    numerics->update.lr_grid = real ? OCT_LR_REAL : OCT_LR_POW2;
    return true;
}

/* With the magnitude kept it costs resolution only; without, it is a part of the rate. */
static bool apply_dr(struct oct_numerics *numerics, const char *value)
{
    static const struct oct_update_period later[] = {{60, 32.0f}, {80, 8.0f}, {90, 2.0f}};
    if (strcmp(value, "schedule") == 0)
        memcpy(&numerics->update.period[1], later, sizeof later);
    return strcmp(value, "schedule") == 0 || strcmp(value, "128") == 0;
}

static bool apply_error(struct oct_numerics *numerics, const char *value)
{
    bool flag = strcmp(value, "qe2") == 0;
    if (!flag && strcmp(value, "qe1") != 0)
        return false;
    oct_option_flag(&numerics->role[OCT_ROLE_DY_DW], flag);
    oct_option_flag(&numerics->role[OCT_ROLE_DY_DX], flag);
    return true;
}

static bool apply_e1(struct oct_numerics *numerics, const char *value)
{
    bool flag = strcmp(value, "qe2") == 0;
    if (!flag && strcmp(value, "qe1") != 0)
        return false;
    oct_option_flag(&numerics->role[OCT_ROLE_DX], flag);
    return true;
}

static bool apply_ema(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.01f, 1.0f, &numerics->role[OCT_ROLE_X].a) &&
           oct_option_number(value, 0.01f, 1.0f, &numerics->role[OCT_ROLE_Y].a);
}

static bool apply_range(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.0f, 100.0f, &numerics->role[OCT_ROLE_W_FWD].deviations) &&
           oct_option_number(value, 0.0f, 100.0f, &numerics->role[OCT_ROLE_W_DX].deviations);
}

static const struct oct_scheme_option options[] = {
    {"update", "wide|strict", "weights in 24 bits, or in 8 (default wide)", apply_update},
    {"gradient", "shift|cq", "its magnitude kept, or lost (default shift)", apply_gradient},
    {"momentum", "13|none", "bits of the momentum; none: --momentum is not used (default 13)",
        apply_momentum},
    {"lr", "pow2|real", "the nearest power of two, or as given (default pow2)", apply_lr},
    {"dr", "128|schedule", "range of the gradient's codes (default 128)", apply_dr},
    {"error", "qe2|qe1", "errors of y in 8 bits with or without a flag (default qe2)", apply_error},
    {"e1", "qe2|qe1", "summed errors in 8 bits with or without a flag (default qe2)", apply_e1},
    {"ema", "0.01..1", "weight of the newest maximum in a scale (default 0.5)", apply_ema},
    {"range", "0..100", "deviations of He's that a weight beginning at 0 has room for (default 4)",
        apply_range},
    {NULL, NULL, NULL, NULL}};

#define CODES                                                                                      \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .clip = OCT_CLIP_EMA, .k = 1.0f, .a = 0.5f,                     \
        .floor = 0.0009765625f, .refresh = OCT_REFRESH_LAST, .pow2 = OCT_POW2_UP                   \
    }
#define WEIGHT                                                                                     \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .clip = OCT_CLIP_EMA, .k = 1.0f, .a = 0.0f, .floor = 0.0625f,   \
        .deviations = 4.0f, .pow2 = OCT_POW2_UP                                                    \
    }
#define ERROR                                                                                      \
    {                                                                                              \
        .format = OCT_FORMAT_INT16, .grid = OCT_GRID_FLAG, .refresh = OCT_REFRESH_BOUND,           \
        .pow2 = OCT_POW2_NEAREST                                                                   \
    }

const struct oct_scheme oct_scheme_eoq = {
    .name = "eoq",
    .paper = "Yang et al., Towards Efficient Full 8-bit Integer DNN Online Training on "
             "Resource-limited Devices without Batch Normalization, Neurocomputing 2022 "
             "(reconstructed)",
    .notes = notes,
    .integer = true,
    .options = options,
    .instead_of_norm = "use fixup_resnet20, fixup_resnet18 or fixup_resnet50",
    .update = {.gradient_steps = 0x1p14f,
        .momentum_steps = 0x1p12f,
        .weight_steps = 0x1p23f,
        .lr_grid = OCT_LR_POW2,
        .increment = OCT_INCREMENT_CODE,
        .momentum_unit = 0x1p-12f,
        .keeps_magnitude = true,
        .period = {{0, 128.0f}}},
    .role =
        {
            [OCT_ROLE_X] = CODES,
            [OCT_ROLE_W_FWD] = WEIGHT,
            [OCT_ROLE_W_DX] = WEIGHT,
            [OCT_ROLE_Y] = CODES,
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_DY_DW] = ERROR,
            [OCT_ROLE_DY_DX] = ERROR,
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_INT16,
                .grid = OCT_GRID_FLAG,
                .pow2 = OCT_POW2_NEAREST},
        },
};
