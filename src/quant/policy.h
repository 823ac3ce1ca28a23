/* What a scheme says about numbers: for every role a tensor plays, how it is represented and how
 * its scale is found. Policies are data; layers read them, kernels never see them. */
#ifndef OCT_POLICY_H
#define OCT_POLICY_H

#include "backend.h"

#include <regex.h>
#include <stdbool.h>

/* Who reads the tensor decides how it is quantised. */
enum oct_role {
    OCT_ROLE_X,        /* activation, operand of fprop and wgrad */
    OCT_ROLE_W_FWD,    /* weight, operand of fprop */
    OCT_ROLE_W_DX,     /* weight, operand of dgrad */
    OCT_ROLE_Y,        /* stored conv output, input of BN */
    OCT_ROLE_RESIDUAL, /* activation as it enters a residual addition */
    OCT_ROLE_DY_DW,    /* error, operand of wgrad */
    OCT_ROLE_DY_DX,    /* error, operand of dgrad */
    OCT_ROLE_DX,       /* error at a conv input, after its consumers are summed; integer: what is
                        * left of it after going through codes */
    OCT_ROLES
};

const char *oct_role_name(enum oct_role role);

enum oct_format {
    OCT_FORMAT_F32,
    OCT_FORMAT_BF16,
    OCT_FORMAT_INT8,
    OCT_FORMAT_INT16 /* two int8 planes, 15 bits */
};

enum oct_granularity { OCT_PER_TENSOR, OCT_PER_CHANNEL };

/* When the statistic behind a clip value is taken. */
enum oct_refresh {
    OCT_REFRESH_EXACT, /* from this very tensor, at the price of a pass where nothing is free */
    OCT_REFRESH_BOUND, /* from an upper bound known before the tensor is made: never clips */
    OCT_REFRESH_LAST   /* from the last step's tensor: clips whenever the magnitude grows */
};

struct oct_policy {
    enum oct_format format;
    enum oct_granularity granularity;
    enum oct_clip_rule clip;
    float k, a, lambda; /* parameters of the clip rule (backend.h) */
    float floor;        /* smallest maximum that counts; 0: any */
    float deviations;   /* W that begins at 0: nor one below so many deviations of He's */
    enum oct_rounding rounding;
    enum oct_refresh refresh;
    enum oct_grid grid;
    enum oct_pow2 pow2;
    /* X: a normalisation clips its channels at beta -+ sigmas |gamma|, and the scale follows from
     * these without a statistic; 0: it does not */
    float sigmas;
    /* Y: declared range of a product's sums, whose overflows are counted; 0: none */
    float limit;
    /* DY, one scale per tensor: every so many steps rule SHARE's share is searched for the best
     * direction, and the learning rate of the weight becomes oct_deviation_factor of what is lost;
     * 0: never */
    int search_period;
    float alpha, beta;
};

/* The log-barrier that holds weights below tau, and activations below tau_a. Its temperature t
 * grows by the epoch. */
enum oct_tau_rule {
    OCT_TAU_SIGMAS, /* tau = width standard deviations of the initial weights, sqrt(2 / fan in) */
    OCT_TAU_TAIL /* products of `width` bounded activations stay below limit: see oct_barrier_tau */
};
struct oct_barrier_policy {
    float lam; /* 0: none */
    /* Activations behind a ReLU, too: a term of the loss, summed over a sample's elements, that
     * holds them below tau_a; lam_a 0: none. */
    float lam_a, tau_a;
    float t0, growth, t_max;
    enum oct_tau_rule rule;
    float width, limit, delta;
};

/* Temperature in an epoch (from 0): min(t0 growth^epoch, t_max). */
float oct_barrier_temperature(const struct oct_barrier_policy *barrier, int epoch);

/* Bound of the weights of a layer that sums `fan_in` products. TAIL, by Hoeffding's inequality: a
 * sum of fan_in independent terms of mean 0, each below tau * width, passes `limit` with a
 * probability of at most delta if tau * width = limit / sqrt(2 fan_in ln(2 / delta)). */
float oct_barrier_tau(const struct oct_barrier_policy *barrier, int64_t fan_in);

/* How parameters move (backend.h, sgd_fixed). Weights whose gradient is an integer product have it
 * normalised; one that is a float product moves by float SGD. */
enum oct_lr_grid {
    OCT_LR_REAL,
    OCT_LR_FIXED, /* multiples of 2^-9 below 1 */
    OCT_LR_POW2   /* the nearest power of two */
};
enum { OCT_UPDATE_PERIODS = 5 };
struct oct_update_policy {
    float gradient_steps; /* grid of gradients; 0: float SGD for all */
    float momentum_steps, weight_steps, initial_steps;
    enum oct_lr_grid lr_grid;
    enum oct_increment increment; /* of weights */
    float momentum_unit;          /* increment CODE */
    bool keeps_magnitude;         /* normalised gradients move weights as far as they are large */
    bool no_momentum;             /* whatever momentum the run asks for */
    bool plain_momentum;          /* not Nesterov's */
    /* codes of normalised gradients are below `range` from `percent` of the run's epochs on */
    struct oct_update_period {
        int percent;
        float range;
    } period[OCT_UPDATE_PERIODS]; /* ascending; range 0: none */
};

/* What stands in the step's state for them. */
float oct_update_range(const struct oct_update_policy *update, int epoch, int epochs);
double oct_update_lr(const struct oct_update_policy *update, double lr);

/* One resolved set of policies: a scheme with its options, before layers differ. */
struct oct_numerics {
    const struct oct_scheme *scheme;
    struct oct_policy role[OCT_ROLES];
    struct oct_barrier_policy barrier;
    struct oct_update_policy update;
    struct oct_bn_rounding norm; /* of normalisations; xhat 0: none */
    float compensation;          /* behind convolutions: L2 of its parameters; 0: there is none */
    enum oct_dtype act_dtype;    /* storage of y, dA and of float operands: f32 or bf16 */
    bool int8_fprop, int8_dgrad, int8_wgrad;
    /* A grid holds numbers that no code stands for: operands go through their grids, remain f32 and
     * are multiplied in float. A CPU device with --simulate only. */
    bool emulated;
    enum oct_format first_last; /* INT8, INT16, or a float format */
    const char *skip_pattern;   /* as given, or NULL */
    regex_t skip;               /* valid if skip_pattern */
};

/* Which of a layer's three products have quantised operands, and in which format these stand. */
struct oct_layer_numerics {
    struct oct_policy role[OCT_ROLES];
    bool fprop, dgrad, wgrad; /* this product's operands are quantised */
    bool emulated;            /* and stay f32: it is no int8 product */
    char reason[96];          /* why a product is not an int8 product, or "" */
};

/* Of the switches above, whether the product of one of them is an int8 product. */
static inline bool oct_is_int8(const struct oct_layer_numerics *layer, bool quantised)
{
    return quantised && !layer->emulated;
}

/* Product settings of layer `name`; `edge` marks the first and the last layer of a network. */
void oct_layer_numerics(const struct oct_numerics *numerics, const char *name, bool edge,
    struct oct_layer_numerics *out);

static inline int oct_format_planes(enum oct_format format)
{
    return format == OCT_FORMAT_INT16 ? 2 : 1;
}

static inline int oct_format_code_max(enum oct_format format)
{
    return format == OCT_FORMAT_INT16 ? OCT_CODE16_MAX : OCT_CODE_MAX;
}

static inline bool oct_format_is_integer(enum oct_format format)
{
    return format == OCT_FORMAT_INT8 || format == OCT_FORMAT_INT16;
}

/* Whether two tensors quantised by these policies from one source are the same bytes. */
bool oct_policy_same(const struct oct_policy *p, const struct oct_policy *q);

/* The factoring rule: a scale may vary only along dimensions that survive the contraction. Checks
 * every role of `layer` and names product, role and dimension of the first violation. */
enum oct_status oct_check_factoring(const struct oct_layer_numerics *layer, const char *name);

#endif
