/* dai8: Distribution Adaptive INT8.
 * Kang Zhao, Sida Huang, Pan Pan, Yinghan Li, Yingya Zhang, Zhenyu Gu, Yinghui Xu: "Distribution
 * Adaptive INT8 Quantization for Training CNNs", AAAI 2021, arXiv 2102.04782.
 *
 * Gradient vectorised quantisation (GVQ): X and W have one scale per tensor; dY is quantised twice,
 * with one scale per channel for dW and one per tensor for dX:
 *     dW[c,:] = (s_c sX / 127^2) sum_m q_c(dY)[m,c] q(X)[m,:]
 *     dX[m,:] = (s   sW / 127^2) sum_c q(dY)[m,c]   q(W)[c,:]
 * Magnitude-aware clipping (MCS): a channel whose share of |g| > sigma exceeds lambda is a bell,
 * else an inverted T;
 *     bell:        s = |g|max
 *     inverted T:  s_t = (1 - k A) s_{t-1} + A |g|max_t,    k = 1, A = 0.8, lambda = 0.3
 *
 * Published: the granularities (Fig. 2 of the paper); quantiser, discriminator, recursion and
 * constants as third-party notes of the paper give them. Ours, where the public material is
 * silent: nearest rounding (stochastic by option); amax for X and W, its moving average in
 * evaluation; the tensor-wide copy is clipped by the same rule (the paper's ablation of MCS alone
 * needs it); first and last layer in two planes; refresh `bound`: |g|max is replaced by an upper
 * bound that is known before the tensor is made, and the label follows the last step's count.
 *
 * Reported by the paper: ResNet-50 on ImageNet 76.59 % (FP32 76.50 %), ResNet-20 on CIFAR-10
 * 92.76 %. Ours, with the commands: docs/results.md. */
#include "schemes/scheme_list.h"

#include <string.h>

static const char *const notes[] = {
    "dY has one scale per channel for dW, one per tensor for dX; X, W one     [published: Fig. 2]",
    "q = rne(clamp(x, s) * 127 / s), all three products int8                  [published: notes]",
    "bell if P(|g| > sigma) > lambda, else inverted T                         [published: notes]",
    "bell: s = |g|max; inverted T: s = (1 - k A) s + A |g|max                 [published: notes]",
    "lambda 0.3, k 1, A 0.8                                                   [published: notes]",
    "nearest rounding of dY; s of X and W is their amax                       [reconstructed]",
    "the dX copy of dY is clipped by the same rule, over the whole tensor     [reconstructed]",
    "first and last layer int8 in two planes                                  [ours]",
    "refresh=bound: |g|max is an upper bound known before the pass, and the   [ours]",
    "label follows the last step's count; refresh=exact is the rule itself",
    "'notes' are third-party notes of the paper, whose body was not readable; docs/schemes.md",
    NULL};

static bool set_clip(struct oct_numerics *numerics, enum oct_clip_rule rule)
{
    numerics->role[OCT_ROLE_DY_DW].clip = rule;
    numerics->role[OCT_ROLE_DY_DX].clip = rule;
    return true;
}

static bool apply_clip(struct oct_numerics *numerics, const char *value)
{
    if (strcmp(value, "adaptive") == 0)
        return set_clip(numerics, OCT_CLIP_TAIL);
    if (strcmp(value, "amax") == 0)
        return set_clip(numerics, OCT_CLIP_AMAX);
    return false;
}

static bool apply_granularity(struct oct_numerics *numerics, const char *value)
{
    struct oct_policy *policy = &numerics->role[OCT_ROLE_DY_DW];
    if (strcmp(value, "channel") == 0)
        policy->granularity = OCT_PER_CHANNEL;
    else if (strcmp(value, "tensor") == 0)
        policy->granularity = OCT_PER_TENSOR;
    else
        return false;
    return true;
}

static bool apply_lambda(struct oct_numerics *numerics, const char *value)
{
    float x;
    if (!oct_option_number(value, 0.0f, 1.0f, &x))
        return false;
    numerics->role[OCT_ROLE_DY_DW].lambda = x;
    numerics->role[OCT_ROLE_DY_DX].lambda = x;
    return true;
}

/* 0 < k A <= 1, else the clip value could become negative; checked for the pair by the caller. */
static bool apply_k(struct oct_numerics *numerics, const char *value)
{
    float x;
    if (!oct_option_number(value, 0.01f, 2.0f, &x) || x * numerics->role[OCT_ROLE_DY_DW].a > 1.0f)
        return false;
    numerics->role[OCT_ROLE_DY_DW].k = x;
    numerics->role[OCT_ROLE_DY_DX].k = x;
    return true;
}

static bool apply_a(struct oct_numerics *numerics, const char *value)
{
    float x;
    if (!oct_option_number(value, 0.01f, 1.0f, &x) || x * numerics->role[OCT_ROLE_DY_DW].k > 1.0f)
        return false;
    numerics->role[OCT_ROLE_DY_DW].a = x;
    numerics->role[OCT_ROLE_DY_DX].a = x;
    return true;
}

static const struct oct_scheme_option options[] = {
    {"clip", "adaptive|amax", "magnitude-aware clipping, or none (ablation)", apply_clip},
    {"granularity", "channel|tensor", "scales of dY for dW (ablation: tensor)", apply_granularity},
    {"lambda", "0..1", "share of |g| > sigma above which a channel is a bell", apply_lambda},
    {"k", "0.01..2, k*A <= 1", "decay of the clip value", apply_k},
    {"A", "0.01..1, k*A <= 1", "weight of the new maximum", apply_a},
    {"residual", "int8|float", "format of the skip connection (default int8)", oct_option_residual},
    {NULL, NULL, NULL, NULL}};

const struct oct_scheme oct_scheme_dai8 = {
    .name = "dai8",
    .paper = "Zhao et al., Distribution Adaptive INT8 Quantization for Training CNNs, AAAI 2021",
    .notes = notes,
    .integer = true,
    .options = options,
    .role =
        {
            [OCT_ROLE_X] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_W_FWD] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_W_DX] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_Y] = {.format = OCT_FORMAT_BF16},
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_DY_DW] = {.format = OCT_FORMAT_INT8,
                .granularity = OCT_PER_CHANNEL,
                .clip = OCT_CLIP_TAIL,
                .k = 1.0f,
                .a = 0.8f,
                .lambda = 0.3f,
                .refresh = OCT_REFRESH_BOUND},
            [OCT_ROLE_DY_DX] = {.format = OCT_FORMAT_INT8,
                .clip = OCT_CLIP_TAIL,
                .k = 1.0f,
                .a = 0.8f,
                .lambda = 0.3f,
                .refresh = OCT_REFRESH_BOUND},
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_BF16},
        },
};
