/* ui8: Unified INT8 training.
 * Feng Zhu, Ruihao Gong, Fengwei Yu, Xianglong Liu, Yanfei Wang, Zhelong Li, Xiuqi Yang, Junjie
 * Yan: "Towards Unified INT8 Training for Convolutional Neural Network", CVPR 2020, arXiv
 * 1912.12607.
 *
 * One symmetric scale per tensor. Direction-sensitive gradient clipping (DSGC): the clip value of
 * dY is the one whose codes keep its direction best,
 *     d(s) = 1 - cos(g, q(g; s)),  s = argmin d,
 * searched every `period` steps. Deviation-counteractive learning rate (DCLRS): what is lost all
 * the same slows the tensor's weight down,
 *     lr <- lr max(exp(-alpha d), beta),  alpha = 20, beta = 0.1
 *
 * Published: the two rules, alpha and beta (third-party notes reproduce the equations); that only
 * convolutions are quantised, the first one and the classifier staying in float (answer of the
 * authors in a talk; here: --first-last float). Recalled: the period of 100 steps. Ours: the search
 * tries 2^(-j/4), j = 0..15, of the maximum and keeps that share until the next one; nearest
 * rounding; amax for X and W; refresh `bound` (shares are of the bound); first and last layer in
 * two planes, whose d is next to 0, unless --first-last says otherwise.
 *
 * Reported by the paper: CIFAR-10 ResNet-20 91.95 % (FP32 92.32 %), MobileNetV2 93.38 %
 * (94.39 %). Ours, with the commands: docs/results.md. */
#include "schemes/scheme_list.h"

static const char *const notes[] = {
    "one symmetric scale per tensor for X, W, dY; all three products int8     [published: notes]",
    "s of dY = argmin of d(s) = 1 - cos(dY, q(dY; s))                         [published: notes]",
    "lr of a weight <- lr max(exp(-20 d), 0.1)                                [published: notes]",
    "first convolution and classifier in float: give --first-last float       [published: talk]",
    "the search comes every 100 steps                                         [reconstructed]",
    "it tries 2^(-j/4), j = 0..15, of |dY|max; the share is kept in between   [ours]",
    "nearest rounding of dY; s of X and W is their amax                       [reconstructed]",
    "without --first-last the first and last layer are int8 in two planes     [ours]",
    "refresh=bound: |dY|max is an upper bound known before the pass           [ours]",
    "'notes' are third-party notes of the paper; docs/schemes.md", NULL};

static bool apply_period(struct oct_numerics *numerics, const char *value)
{
    float steps;
    if (!oct_option_number(value, 1.0f, 1e6f, &steps) || steps != (float)(int)steps)
        return false;
    numerics->role[OCT_ROLE_DY_DW].search_period = (int)steps;
    numerics->role[OCT_ROLE_DY_DX].search_period = (int)steps;
    return true;
}

static bool apply_alpha(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.0f, 1e4f, &numerics->role[OCT_ROLE_DY_DW].alpha) &&
           oct_option_number(value, 0.0f, 1e4f, &numerics->role[OCT_ROLE_DY_DX].alpha);
}

static bool apply_beta(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.001f, 1.0f, &numerics->role[OCT_ROLE_DY_DW].beta) &&
           oct_option_number(value, 0.001f, 1.0f, &numerics->role[OCT_ROLE_DY_DX].beta);
}

static const struct oct_scheme_option options[] = {
    {"period", "1..1000000", "steps between searches of the clip value (default 100)",
        apply_period},
    {"alpha", "0..10000", "how fast lost direction lowers the learning rate (default 20; 0: not)",
        apply_alpha},
    {"beta", "0.001..1", "smallest factor of the learning rate (default 0.1)", apply_beta},
    {"residual", "int8|float", "format of the skip connection (default int8)", oct_option_residual},
    {NULL, NULL, NULL, NULL}};

#define DY                                                                                         \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .clip = OCT_CLIP_SHARE, .a = 1.0f,                              \
        .refresh = OCT_REFRESH_BOUND, .search_period = 100, .alpha = 20.0f, .beta = 0.1f           \
    }

const struct oct_scheme oct_scheme_ui8 = {
    .name = "ui8",
    .paper =
        "Zhu et al., Towards Unified INT8 Training for Convolutional Neural Network, CVPR 2020",
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
            [OCT_ROLE_DY_DW] = DY,
            [OCT_ROLE_DY_DX] = DY,
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_BF16},
        },
};
