/* What convolution and linear layer share: a weight with its scale and packs, and the three
 * products. */
#ifndef OCT_PRODUCT_H
#define OCT_PRODUCT_H

#include "graph/graph.h"

struct oct_product {
    int weight;     /* parameter [K,R,S,C] */
    bool has_dgrad; /* false for the first layer: images need no gradient */
    struct oct_range_state w_range;
    struct oct_buffer *w_fprop, *w_fprop_lo; /* packs */
    struct oct_buffer *w_dgrad, *w_dgrad_lo;
    struct oct_buffer *w_emulated; /* f32: the weight on its grid, where codes are emulated */
    struct oct_buffer *x_sample, *dw_sample; /* f32, in sampled steps */
};

/* The error dY in every form that was made. */
struct oct_gradient {
    struct oct_buffer *channel, *channel_lo; /* codes for wgrad, s8 or emulated */
    struct oct_buffer *tensor, *tensor_lo;   /* codes for dgrad, likewise */
    struct oct_buffer *real;
    enum oct_dtype real_dtype;
    const struct oct_range_state *channel_range, *tensor_range;
};

/* Appends a node with a weight of shape.k x shape.r x shape.s x shape.c. Its own struct begins with
 * a struct oct_product and has self_bytes. */
struct oct_node *oct_product_node(struct oct_graph *g, const struct oct_node_type *type,
    const char *name, size_t self_bytes, const struct oct_conv_shape *shape, int x, int y);

/* Resolves the layer's numerics and checks them. */
enum oct_status oct_product_resolve(struct oct_graph *g, struct oct_node *node, bool has_dgrad);

/* Books weight scale and packs, asks the backend about the products, books their workspace. */
enum oct_status oct_product_book(struct oct_graph *g, struct oct_node *node);

/* The weight as an operand: the pack of fprop or of dgrad. */
struct oct_operand oct_product_w(
    const struct oct_graph *g, const struct oct_node *node, bool dgrad);

/* dw (+)= dy (x) x, with x as the layer keeps it (codes or reals, as node->layer.wgrad says). */
enum oct_status oct_product_wgrad(struct oct_graph *g, struct oct_node *node,
    const struct oct_operand *x, const struct oct_gradient *dy);
/* In a sampled step: shows the observer the int8 dw just made and float wgrad(x, dy), x the same
 * codes as numbers, dy f32. */
enum oct_status oct_product_sample(struct oct_graph *g, struct oct_node *node,
    const struct oct_operand *x, const struct oct_buffer *dy);
/* dx (+)= dgrad(dy, w), into x's gradient. */
enum oct_status oct_product_dgrad(
    struct oct_graph *g, struct oct_node *node, const struct oct_gradient *dy, struct oct_value *x);

/* Scale and packs from the master weight. */
enum oct_status oct_product_prepare(struct oct_graph *g, struct oct_node *node);

#endif
