/* Integer-only activations: where a scheme stores Y as codes, every activation is made by shifts
 * from accumulators or codes, and none exists as a real. A convolution writes codes itself: with
 * the bias and the ReLU of the affine node behind it where that is all the node does, else as they
 * are, for the node to add to. Scales are powers of two that follow the largest results of earlier
 * steps, so that each is known before its tensor; the first step of a run looks first. */
#ifndef OCT_LAYER_SHIFT_H
#define OCT_LAYER_SHIFT_H

#include "graph/layers/activation.h"

/* Books what makes codes of `value` at `node`, and their range by `role`. */
enum oct_status oct_shifter_book(struct oct_graph *g, struct oct_node *node,
    struct oct_shifter *shifter, struct oct_value *value, enum oct_role role);

/* The convolution's forward pass to codes; `args` has its operands. */
enum oct_status oct_shift_conv(
    struct oct_graph *g, struct oct_node *node, struct oct_conv_fprop_args *args);

/* An affine node's, from codes or from sums of codes. */
struct oct_shift_params {
    const struct oct_param *scale, *bias; /* or NULL */
};
enum oct_status oct_shift_activation(
    struct oct_graph *g, struct oct_node *node, const struct oct_shift_params *params);

#endif
