/* Loss-aware compensation behind a convolution, before its normalisation (Octo, USENIX ATC 2021):
 *   forward   y = product + alpha mu + offset, parameters [P,Q,K], the same for every sample
 *   backward  doffset = sum over the batch of dY's codes times their scale,
 *             dmu = alpha doffset, dalpha = mu doffset, dy passes unchanged
 * mu and offset have an L2 penalty of their own. A term per channel would be removed by the
 * normalisation; these differ from place to place. Statistics of y are then those of its reals. */
#ifndef OCT_COMPENSATION_H
#define OCT_COMPENSATION_H

#include "graph/layers/product.h"

struct oct_compensation {
    int alpha, mu, offset;      /* parameters; read only where oct_is_compensated */
    struct oct_buffer *product; /* f32: what the term is added to, before it is rounded */
};

static inline bool oct_is_compensated(const struct oct_graph *g)
{
    return g->numerics->compensation > 0.0f;
}

/* Parameters behind convolution `name` with output y. */
void oct_compensation_add(struct oct_graph *g, const char *name, const struct oct_value *y,
    struct oct_compensation *self);
/* The gradients come from codes of dY in one scale: refuses a layer that has none, or more. */
enum oct_status oct_compensation_check(const struct oct_node *node);
void oct_compensation_book(
    struct oct_graph *g, const struct oct_node *node, struct oct_compensation *self);
/* y from the product. */
enum oct_status oct_compensation_forward(
    struct oct_graph *g, const struct oct_node *node, const struct oct_compensation *self);
enum oct_status oct_compensation_backward(struct oct_graph *g, const struct oct_node *node,
    const struct oct_compensation *self, const struct oct_gradient *dy);

#endif
