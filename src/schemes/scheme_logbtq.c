/* logbtq: log-barrier tail-bounded quantisation, reconstructed.
 * "Log-barrier tail-bounded quantization", submission to ICLR 2021 (OpenReview), of which abstract,
 * keywords and the first lines were readable. The barrier is that of Kervadec, Dolz, Yuan,
 * Desrosiers, Granger, Ben Ayed: "Constrained Deep Networks: Lagrangian Optimization via
 * Log-Barrier Extensions", arXiv 1904.04205.
 *
 * A term of the loss holds every weight softly below tau, so that sums stay in a declared range:
 *     psi_t(z) = -ln(-z) / t  for z <= -1/t^2,  else t z - ln(1/t^2) / t + 1/t
 *     w <- w - lr lam sign(w) psi_t'(|w| - tau),  psi_t' = -1/(t z) or t
 *     t = min(t0 growth^epoch, 50)
 * Numbers are stored in MU8, an 8-bit mu-law code (mu = 255):
 *     c = rne(127 sign(x) ln(1 + 255 |x|/s) / ln 256)
 * A code is not linear: products take the int8 code next to it, rne(127 (256^(c/127) - 1) / 255),
 * or with product=planes the 15-bit code next to it for W and dY, two int8 planes. product=exact,
 * under --simulate alone, multiplies the numbers that mu-law codes stand for, as floats:
 *     x = sign(c) s (256^(|c|/127) - 1) / 255
 *
 * Published (abstract): a log-barrier term that constrains and sparsifies, the aim that sums do not
 * overflow, MU8. Reconstructed: every formula above but psi, which is the cited one; its t0 and
 * growth are those of that work's code. Ours: the term is summed over weights, not averaged, with
 * lam 1e-4, and applied past the momentum; tau = 3 sqrt(2 / fan in) (option tau=tail: Hoeffding's
 * bound); the range R of a product's sums is declared, its overflows are counted, nothing is cut;
 * the term on activations (lam_a, off by default) likewise, over a sample; linear products; float
 * master weights; refresh `bound`; first and last layer in two planes.
 *
 * Reported: no figure is public. Ours, with the commands: docs/results.md. */
#include "schemes/scheme_list.h"

#include <string.h>

static const char *const notes[] = {"log-barrier term on the weights, so that sums rarely overflow "
                                    "           [published: abstract]",
    "numbers are stored in 8-bit mu-law codes (MU8)                           [published: "
    "abstract]",
    "psi_t(z) = -ln(-z)/t for z <= -1/t^2, else its tangent       [published: Kervadec et al.]",
    "t0 5, times 1.1 an epoch, at most 50                         [published: Kervadec et al.]",
    "w -= lr lam sign(w) psi_t'(|w| - tau), summed over weights, lam 1e-4     [ours]",
    "tau = 3 sqrt(2 / fan in); tau=tail: R / (width sqrt(2 K ln(2/delta)))    [reconstructed]",
    "c = rne(127 ln(1 + 255 |x|/s) / ln 256), s = amax                        [reconstructed]",
    "products take the linear int8 code next to c; product=planes: 15 bits    [ours]",
    "for W and dY. An error of half a linear code is then added to that of c",
    "product=exact: what c stands for, s (256^(c/127) - 1) / 255, in float    [reconstructed]",
    "products on the CPU; no int8 product, --simulate --act-dtype f32 only",
    "overflow: elements of y with |y| > R, counted and not cut, R 16          [reconstructed]",
    "da += lam_a psi_t'(a - tau_a) / batch behind ReLUs, summed over a sample  [reconstructed]",
    "lam_a 0 (off) and tau_a 3 by default; float master weights               [ours]",
    "the body of the paper was not readable; docs/schemes.md", NULL};

static bool apply_lam(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.0f, 10.0f, &numerics->barrier.lam);
}

static bool apply_lam_a(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.0f, 0.1f, &numerics->barrier.lam_a);
}

static bool apply_tau_a(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.01f, 1000.0f, &numerics->barrier.tau_a);
}

static bool apply_t0(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.1f, 50.0f, &numerics->barrier.t0);
}

static bool apply_growth(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 1.0f, 10.0f, &numerics->barrier.growth);
}

static bool apply_tau(struct oct_numerics *numerics, const char *value)
{
    if (strcmp(value, "sigmas") == 0)
        numerics->barrier.rule = OCT_TAU_SIGMAS;
    else if (strcmp(value, "tail") == 0)
        numerics->barrier.rule = OCT_TAU_TAIL;
    else
        return false;
    return true;
}

static bool apply_width(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 0.01f, 1000.0f, &numerics->barrier.width);
}

static bool apply_delta(struct oct_numerics *numerics, const char *value)
{
    return oct_option_number(value, 1e-30f, 0.5f, &numerics->barrier.delta);
}

static bool apply_range(struct oct_numerics *numerics, const char *value)
{
    float limit;
    if (!oct_option_number(value, 1e-3f, 1e6f, &limit))
        return false;
    numerics->barrier.limit = limit;
    numerics->role[OCT_ROLE_Y].limit = limit;
    return true;
}

static bool apply_product(struct oct_numerics *numerics, const char *value)
{
    static const enum oct_role operands[] = {
        OCT_ROLE_X, OCT_ROLE_W_FWD, OCT_ROLE_W_DX, OCT_ROLE_DY_DW, OCT_ROLE_DY_DX};
    bool wide = strcmp(value, "planes") == 0, exact = strcmp(value, "exact") == 0;
    if (!wide && !exact && strcmp(value, "linear") != 0)
        return false;
    for (size_t i = 0; i < sizeof operands / sizeof operands[0]; i++) {
        struct oct_policy *policy = &numerics->role[operands[i]];
        bool widened = wide && operands[i] != OCT_ROLE_X;
        policy->format = widened ? OCT_FORMAT_INT16 : OCT_FORMAT_INT8;
        policy->grid = exact ? OCT_GRID_MU8_NUMBER : OCT_GRID_MU8;
    }
    return true;
}

static const struct oct_scheme_option options[] = {
    {"lam", "0..10", "weight of the barrier (default 1e-4; 0: none)", apply_lam},
    {"lam_a", "0..0.1", "weight of the barrier on activations (default 0: none)", apply_lam_a},
    {"tau_a", "0.01..1000", "bound of activations (default 3)", apply_tau_a},
    {"t0", "0.1..50", "temperature of the first epoch (default 5)", apply_t0},
    {"growth", "1..10", "factor of the temperature from epoch to epoch (default 1.1)",
        apply_growth},
    {"tau", "sigmas|tail", "bound from the initial deviation, or from the tail bound", apply_tau},
    {"width", "0.01..1000", "tau=sigmas: deviations (default 3); tau=tail: bound of activations",
        apply_width},
    {"delta", "1e-30..0.5", "tau=tail: probability of an overflow (default 1e-6)", apply_delta},
    {"R", "0.001..1000000", "declared range of a product's sums (default 16)", apply_range},
    {"product", "linear|planes|exact",
        "int8 codes, 15-bit ones for W and dY, or in float (--simulate)", apply_product},
    {"residual", "int8|float", "format of the skip connection (default int8)", oct_option_residual},
    {NULL, NULL, NULL, NULL}};

#define MU8                                                                                        \
    {                                                                                              \
        .format = OCT_FORMAT_INT8, .grid = OCT_GRID_MU8, .refresh = OCT_REFRESH_BOUND              \
    }

const struct oct_scheme oct_scheme_logbtq = {
    .name = "logbtq",
    .paper = "Log-barrier tail-bounded quantization, submission to ICLR 2021 (reconstructed)",
    .notes = notes,
    .integer = true,
    .options = options,
    .barrier = {.lam = 1e-4f,
        .tau_a = 3.0f,
        .t0 = 5.0f,
        .growth = 1.1f,
        .t_max = 50.0f,
        .rule = OCT_TAU_SIGMAS,
        .width = 3.0f,
        .limit = 16.0f,
        .delta = 1e-6f},
    .role =
        {
            [OCT_ROLE_X] = MU8,
            [OCT_ROLE_W_FWD] = MU8,
            [OCT_ROLE_W_DX] = MU8,
            [OCT_ROLE_Y] = {.format = OCT_FORMAT_BF16, .limit = 16.0f},
            [OCT_ROLE_RESIDUAL] = {.format = OCT_FORMAT_INT8},
            [OCT_ROLE_DY_DW] = MU8,
            [OCT_ROLE_DY_DX] = MU8,
            [OCT_ROLE_DX] = {.format = OCT_FORMAT_BF16},
        },
};
