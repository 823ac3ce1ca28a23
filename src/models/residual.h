/* What the residual families share: four stages of blocks, twice as wide and half as large each. */
#ifndef OCT_RESIDUAL_H
#define OCT_RESIDUAL_H

#include "models/models.h"

/* Where a builder stands. */
struct oct_block_at {
    struct oct_graph *g;
    const struct oct_model *model;
    char prefix[32]; /* "layer1.0", "" outside of blocks */
};

struct oct_block_name {
    char text[64];
};

/* prefix.suffix, or suffix alone outside of blocks. */
struct oct_block_name oct_block_name(const struct oct_block_at *at, const char *suffix);

/* A square convolution that keeps the size at stride 1. */
int oct_block_conv(
    const struct oct_block_at *at, int x, const char *suffix, int k, int r, int stride);

/* Appends a block of `width` channels behind x and returns its value. */
typedef int oct_block_builder(const struct oct_block_at *at, int x, int width, int stride);

/* model->blocks of them, the first stage `width` wide; the first block of each other stage has
 * stride 2. Returns the last value. */
int oct_build_stages(
    struct oct_graph *g, int x, const struct oct_model *model, int width, oct_block_builder *block);

#endif
