#include "models/residual.h"

#include <stdio.h>

struct oct_block_name oct_block_name(const struct oct_block_at *at, const char *suffix)
{
    struct oct_block_name name;
    snprintf(name.text, sizeof name.text, "%s%s%s", at->prefix, *at->prefix ? "." : "", suffix);
    return name;
}

int oct_block_conv(
    const struct oct_block_at *at, int x, const char *suffix, int k, int r, int stride)
{
    const struct oct_conv_attr attr = {.k = k, .r = r, .s = r, .stride = stride, .pad = r / 2};
    return oct_add_conv(at->g, x, oct_block_name(at, suffix).text, &attr);
}

int oct_build_stages(
    struct oct_graph *g, int x, const struct oct_model *model, int width, oct_block_builder *block)
{
    for (int s = 0; s < 4 && model->blocks[s] > 0; s++) {
        for (int b = 0; b < model->blocks[s]; b++) {
            struct oct_block_at at = {.g = g, .model = model};
            snprintf(at.prefix, sizeof at.prefix, "layer%d.%d", s + 1, b);
            x = block(&at, x, width << s, s > 0 && b == 0 ? 2 : 1);
        }
    }
    return x;
}
