/* wageubn: fixed point everywhere, with power-of-two scales.
 * Yukuan Yang, Lei Deng, Shuang Wu, Tianyi Yan, Yuan Xie, Guoqi Li: "Training high-performance and
 * large-scale deep neural networks with full 8-bit integers", Neural Networks 125, 2020, arXiv
 * 1909.02384.
 *
 * With Q(x, k) = rne(x 2^(k-1)) / 2^(k-1) and R(x) = 2^rne(log2 max |x|):
 *     weights       Q(w, 8) clipped to codes +-127
 *     BN            mean Q(., 16), deviation Q(., 16) + 2^-15, xhat Q(., 8), gamma, beta Q(., 8)
 *     errors        at a convolution's output E2: 8 bits and a flag of the unit,
 *                       e = n R / 128, |n| = 1..127, or below that n R / 2^14, |n| = 0..127
 *                   at its input E1, summed over its consumers: e = n R / 128, |n| <= 127
 *     gradients     CQ: n = stochastic integer of dr (dW + wd W) / R, |n| <= dr - 1, G = n / 2^14
 *                   of gamma, beta, biases: Q(., 15)
 *     momentum      Q(mu M + G, 13);  learning rate on the grid 2^-9
 *     weights       Q(W - lr M, 24), begun at Q(W, 16)
 *
 * CQ throws the magnitude of a layer's gradient away: only directions and relative sizes are left,
 * and lr and dr set the step. dr is 128, from 60 % of the run on 32, then 8 (80 %) and 2 (90 %).
 *
 * Published: the authors' TensorFlow code has all of this, except where the notes say so. There the
 * activations are Q(x, 8) unclipped, codes of up to 11 bits; a product of 8-bit integers needs a
 * scale, so a layer's activations have a power of two of their own here, the one nearest to a
 * moving average of their maximum. activations=fraction, under --simulate alone, is the published
 * reading: all operands are then floats on their grids. E2 codes are a two-plane operand, so dX and
 * dW are two int8 products each. Backward goes straight through the roundings of BN with the
 * unrounded xhat.
 *
 * The paper's nets are pre-activation ResNet-18, 34, 50 on ImageNet. Ours, with the commands:
 * docs/results.md. */
#include "schemes/scheme_list.h"

#include <string.h>

static const char *const notes[] = {
    "W = Q(W, 8), codes +-127 of unit 2^-7; first 7x7 and last layer in float [published: code]",
    "here the first and last layer are int8 in two planes: --first-last float [ours]",
    "BN: mean, deviation Q(., 16), xhat, gamma, beta Q(., 8)                  [published: code]",
    "X: Q(X, 8), not clipped; here codes 0..127 of a power-of-two unit per    [ours]",
    "layer, from a moving average of its maximum",
    "activations=fraction: X = rne(X 2^7) 2^-7, not clipped, in float         [published: code]",
    "products on the CPU; no int8 product, --simulate --act-dtype f32 only",
    "E2: dY in 8 bits and a flag, two int8 products for dX and for dW each    [published: code]",
    "E1: dX summed, then 8 bits of a power-of-two unit                        [published: code]",
    "CQ: n = SR(dr g / R), |n| < dr, G = n 2^-14; dr 128, 32, 8, 2 at 0, 60,  [published: code]",
    "80, 90 % of the run; momentum Q(., 13), W Q(., 24), lr on 2^-9",
    "backward of BN with the unrounded xhat; running averages of octet        [ours]",
    "the paper trained with --lr 0.05 --momentum 0.25 --weight-decay 1e-4, batch 64, lr times",
    "0.12, 0.06, 0.03 at 30, 60, 80 % of 100 epochs; momentum above 0.75 wears out 13 bits",
    "docs/schemes.md", NULL};

static bool apply_e2(struct oct_numerics *numerics, const char *value)
{
    bool flag = strcmp(value, "flag") == 0;
    if (!flag && strcmp(value, "plain") != 0)
        return false;
    oct_option_flag(&numerics->role[OCT_ROLE_DY_DW], flag);
    oct_option_flag(&numerics->role[OCT_ROLE_DY_DX], flag);
    return true;
}

static bool apply_xhat(struct oct_numerics *numerics, const char *value)
{
    if (strcmp(value, "8") != 0 && strcmp(value, "16") != 0)
        return false;
    numerics->norm.xhat = strcmp(value, "8") == 0 ? 0x1p7f : 0x1p15f;
    return true;
}

static bool apply_dr(struct oct_numerics *numerics, const char *value)
{
    if (strcmp(value, "schedule") != 0 && strcmp(value, "128") != 0)
        return false;
    if (strcmp(value, "128") == 0)
        numerics->update.period[1].range = 0.0f;
    return true;
}

/* `fraction`: multiples of 2^-7 without an end, of which no int8 code holds those from 1 on. */
static bool apply_activations(struct oct_numerics *numerics, const char *value)
{
    struct oct_policy *x = &numerics->role[OCT_ROLE_X];
    if (strcmp(value, "exponent") == 0)
        *x = oct_scheme_wageubn.role[OCT_ROLE_X];
    else if (strcmp(value, "fraction") == 0)
        *x = (struct oct_policy){.format = OCT_FORMAT_INT8,
            .grid = OCT_GRID_OPEN,
            .clip = OCT_CLIP_FIXED,
            .a = 1.0f,
            .pow2 = OCT_POW2_NEAREST};
    else
        return false;
    return true;
}

static const struct oct_scheme_option options[] = {
    {"activations", "exponent|fraction",
        "X in 7 bits of a unit per layer, or unclipped on 2^-7 in float (--simulate)",
        apply_activations},
    {"e2", "flag|plain", "errors in 8 bits with or without the flag (default flag)", apply_e2},
    {"xhat", "8|16", "bits of the normalised activation (default 8)", apply_xhat},
    {"dr", "schedule|128", "range of the gradient's codes (default schedule)", apply_dr},
    {NULL, NULL, NULL, NULL}};

#define WEIGHT                                                                                     \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .clip = OCT_CLIP_FIXED, .a = 1.0f, .pow2 = OCT_POW2_NEAREST     \
    }
#define E2                                                                                         \
    {                                                                                              \
        .format = OCT_FORMAT_INT16, .grid = OCT_GRID_FLAG, .pow2 = OCT_POW2_NEAREST                \
    }

const struct oct_scheme oct_scheme_wageubn = {
    .name = "wageubn",
    .paper = "Yang et al., Training high-performance and large-scale deep neural networks with "
             "full 8-bit integers, Neural Networks 2020",
    .notes = notes,
    .integer = true,
    .options = options,
    .update = {.gradient_steps = 0x1p14f,
        .momentum_steps = 0x1p12f,
        .weight_steps = 0x1p23f,
        .initial_steps = 0x1p15f,
        .lr_grid = OCT_LR_FIXED,
        .plain_momentum = true,
        .period = {{0, 128.0f}, {60, 32.0f}, {80, 8.0f}, {90, 2.0f}}},
    .norm = {.mean = 0x1p15f, .sd = 0x1p15f, .affine = 0x1p7f, .xhat = 0x1p7f},
    .role =
        {
            [OCT_ROLE_X] = {.format = OCT_FORMAT_INT8,
                .clip = OCT_CLIP_EMA,
                .k = 1.0f,
                .a = 0.1f,
                .pow2 = OCT_POW2_NEAREST},
            [OCT_ROLE_W_FWD] = WEIGHT,
            [OCT_ROLE_W_DX] = WEIGHT,
            [OCT_ROLE_Y] = {.format = OCT_FORMAT_BF16},
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_BF16},
            [OCT_ROLE_DY_DW] = E2,
            [OCT_ROLE_DY_DX] = E2,
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_INT8, .pow2 = OCT_POW2_NEAREST},
        },
};
