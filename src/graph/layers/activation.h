/* What nodes of the form x = q(relu?(a y + b (+ residual))) share: layer_norm.c, whose a and b
 * normalise, and layer_affine.c, where they are parameters. Forward: activation.c. Backward, the
 * error dy = a ((dz - m1) - xhat m2) in every form that is asked for: error.c.
 *
 * y is what a product made (OCT_VALUE_PRE: dy is quantised for that product) or any other value
 * (dy is added to its gradient). */
#ifndef OCT_ACTIVATION_H
#define OCT_ACTIVATION_H

#include "graph/graph.h"

/* Begins the own struct of such a node. */
struct oct_activation {
    bool relu;
    bool adds_reals; /* the residual is read as reals, whatever format the scheme gives residuals */
    bool rereads_y;  /* backward needs y: for xhat, or for the sign of z */
    bool by_shifts;  /* integer only (shift.h) */
    bool done;       /* by_shifts: the convolution before it has done everything */
    bool barred;     /* a barrier holds x: its gradient is added to that of x */
    bool clips;      /* channels are clipped at clip_lo and clip_hi: z_amax is known before y is */
    struct oct_shifter shifter; /* by_shifts, unless done */
    bool rounds; /* xhat, gamma and beta are rounded; the sign of z goes through the mask */
    struct oct_buffer *a, *b, *ix, *jx;  /* f32[C], forward to backward */
    struct oct_buffer *gamma_q, *beta_q; /* f32[C], where they are rounded */
    struct oct_buffer *z_amax, *amax;    /* f32[C], f32[1] */
    struct oct_buffer *mask;             /* bits of z > 0, only behind a residual addition */
    struct oct_buffer *clip_lo, *clip_hi, *inside; /* f32[C], f32[C], bits: clipped channels */
    struct oct_buffer *sum_dz, *sum_dz_xhat, *sum_dz2, *dz_min, *dz_max;
    struct oct_buffer *m1, *m2, *bound, *sigma, *sigma_all;
    struct oct_buffer *above, *above_all; /* s64[C], s64[1], state */
    struct oct_buffer *dy_searched;       /* act_dtype: dY, in steps that search */
    struct oct_buffer *sums;              /* of the search */
};

static inline int64_t oct_rows_of(const struct oct_value *value)
{
    return (int64_t)value->n * value->h * value->w;
}

struct oct_buffer *oct_node_book(struct oct_graph *g, const struct oct_node *node, size_t bytes,
    int first, int last, const char *what);

/* What the node needs of y and of the residual. */
void oct_activation_declare(struct oct_graph *g, struct oct_node *node);
/* Everything above except the statistics that lead to a and b; x, its scale and its gradient. */
void oct_activation_book(struct oct_graph *g, struct oct_node *node);
/* The pass over y. `amax_known`: z_amax holds the largest |z| per channel, not counting a residual;
 * else a pass finds it where x needs a scale. */
enum oct_status oct_activation_pass(struct oct_graph *g, struct oct_node *node, bool amax_known);
/* Clipped channels: the scale of x from their ends and the residual's range, before x is made. */
enum oct_status oct_activation_clip_range(struct oct_graph *g, struct oct_node *node);
void oct_activation_trace(struct oct_graph *g, const struct oct_node *node);

/* layer_norm.c: makes the coefficients of normalisation `node` and gives them to the convolution
 * before it, with the codes to write in place of y. */
enum oct_status oct_norm_merge(
    struct oct_graph *g, struct oct_node *node, struct oct_conv_fprop_args *args);

/* error.c */
void oct_error_book(struct oct_graph *g, struct oct_node *node);
/* Sums and extremes of dz per channel. */
enum oct_status oct_error_reduce(struct oct_graph *g, struct oct_node *node);
/* dy, once m1, m2, bound and sigma are known: for the products behind y or into y's gradient, and
 * dz into the residual's. */
enum oct_status oct_error_apply(struct oct_graph *g, struct oct_node *node);

#endif
