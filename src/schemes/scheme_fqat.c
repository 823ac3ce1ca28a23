/* fqat: Fully Quantised INT8 training with a Clipping Batch normalisation, reconstructed.
 * Boyuan Luo, MSc thesis, The Hong Kong Polytechnic University, 2021; where its abstract is silent,
 * Octo, of the same group: "Octo: INT8 Training with Loss-aware Compensation and Backward
 * Quantization for Tiny On-device Learning", USENIX ATC 2021, as its public code has it.
 *
 * Quantiser, uniform and linear, one scale per tensor:
 *     q = clip(rne(127 x / s), -127, 127)
 * Clipping Batch normalisation (CBN): a channel behind a BN has mean beta and standard deviation
 * |gamma|, so its range needs no look at the data:
 *     lo_c = beta_c - z |gamma_c|,  hi_c = beta_c + z |gamma_c|   (with ReLU not below 0)
 *     x = clamp(a y + b, lo_c, hi_c),  s = max over c of max(|lo_c|, |hi_c|)
 *     backward: dz = da where lo_c < a y + b < hi_c, else 0; what was clipped trains no range
 * In evaluation, without a residual, all of it is one multiply-add-clamp on the accumulator
 * (oct_bn_merge); the policy's `sigmas` is all that the layers know of it.
 * Backward operands are clipped to a share of their maximum: s = 0.95 |dY|max.
 *
 * Published (abstract): weights, activations and gradients in INT8 in both directions, uniform
 * linear quantisation, BN and range clipping merged into one function. Octo's code: the share 0.95,
 * nearest rounding backward, and z = 2.576 (99 %) or 1.96 (95 %) as constants beside it.
 * Reconstructed: all formulas of the CBN; symmetric codes. Ours: behind a residual addition the
 * range is the sum of the branch's and the residual's, so that no pass looks for a maximum;
 * refresh `bound`; first and last layer in two planes; Octo's compensation layer is an option, off
 * by default: it learns what a zero point leaves behind, which symmetric codes do not have. Its
 * parameters are [P,Q,K] here; Octo's have the batch as a dimension too.
 *
 * Reported: no figure is public. Ours, with the commands: docs/results.md. */
#include "schemes/scheme_list.h"

#include <string.h>

static const char *const notes[] = {"W, X, dY int8 in all three products, uniform and linear       "
                                    "           [published: abstract]",
    "BN and range clipping are one function (Clipping Batch normalisation)    [published: "
    "abstract]",
    "q = rne(clamp(x, s) * 127 / s), one scale per tensor                     [reconstructed]",
    "a channel is clipped to beta -+ z |gamma|; s of X is the largest end     [reconstructed]",
    "evaluation: BN, clip, quantiser are one multiply-add-clamp in the product [reconstructed]",
    "z 2.576 (99 %); 1.96 is 95 %                                  [published: Octo's constants]",
    "dz = 0 where the channel was clipped; the range itself is not trained    [reconstructed]",
    "dY is clipped to 0.95 of its maximum, nearest rounding        [published: Octo's code]",
    "behind a residual addition s is the sum of both branches' ranges         [ours]",
    "refresh=bound; first and last layer int8 in two planes                   [ours]",
    "compensation=on: y + alpha mu + offset behind every convolution       [published: Octo's "
    "code]",
    "  its parameters are of one sample's shape, L2 0.1; off by default       [ours]",
    "the body of the thesis was not readable; docs/schemes.md", NULL};

static bool apply_z(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.5f, 16.0f, &numerics->role[OCT_ROLE_X].sigmas);
}

static bool apply_clip(struct oct_numerics *numerics, const char *value)
{
    float share;
    if (!oct_option_number(value, 0.01f, 1.0f, &share))
        return false;
    numerics->role[OCT_ROLE_DY_DW].a = share;
    numerics->role[OCT_ROLE_DY_DX].a = share;
    return true;
}

static bool apply_compensation(struct oct_numerics *numerics, const char *value)
{
    const float penalty = 0.1f;
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return false;
    numerics->compensation = strcmp(value, "on") == 0 ? penalty : 0.0f;
    return true;
}

static const struct oct_scheme_option options[] = {
    {"z", "0.5..16", "half width of a channel's range in |gamma| (default 2.576)", apply_z},
    {"clip", "0.01..1", "share of |dY|max that is kept (default 0.95)", apply_clip},
    {"compensation", "on|off", "Octo's trained term behind convolutions (default off)",
        apply_compensation},
    {"residual", "int8|float", "format of the skip connection (default int8)", oct_option_residual},
    {NULL, NULL, NULL, NULL}};

#define DY                                                                                         \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .clip = OCT_CLIP_SHARE, .a = 0.95f,                             \
        .refresh = OCT_REFRESH_BOUND                                                               \
    }

const struct oct_scheme oct_scheme_fqat = {
    .name = "fqat",
    .paper =
        "Luo, MSc thesis, The Hong Kong Polytechnic University, 2021 (reconstructed, with Octo, "
        "USENIX ATC 2021)",
    .notes = notes,
    .integer = true,
    .options = options,
    .role =
        {
            [OCT_ROLE_X] = {.format = OCT_FORMAT_INT8, .sigmas = 2.576f},
            [OCT_ROLE_W_FWD] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_W_DX] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_Y] = {.format = OCT_FORMAT_BF16},
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_DY_DW] = DY,
            [OCT_ROLE_DY_DX] = DY,
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_BF16},
        },
};
