/* Residual networks with pre-activation: He et al., "Identity Mappings in Deep Residual Networks",
 * ECCV 2016. BN and ReLU stand before each convolution; what the blocks add up, the trunk, is never
 * normalised nor quantised. A projection takes the block's first activation. Names are those of the
 * post-activation networks (model_resnet.c); the BN in front of the pooling is called bn.
 *
 * An addition is an affine node: branch + trunk, reals. */
#include "models/models.h"
#include "models/model_list.h"

#include <stdio.h>

struct stage {
    struct oct_graph *g;
    char prefix[32]; /* "layer1.0" */
    bool bottleneck;
};

static int conv(struct stage *at, int x, const char *suffix, int k, int r, int stride)
{
    char name[64];
    struct oct_conv_attr attr = {.k = k, .r = r, .s = r, .stride = stride, .pad = r / 2};
    snprintf(name, sizeof name, "%s.%s", at->prefix, suffix);
    return oct_add_conv(at->g, x, name, &attr);
}

static int activation(struct stage *at, int x, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", at->prefix, suffix);
    return oct_add_norm(at->g, x, name, -1, true);
}

/* A convolution's result as (a part of) the trunk; trunk -1: its beginning. */
static int sum(struct stage *at, int y, int trunk, const char *suffix)
{
    char name[64];
    const struct oct_affine_attr reals = {.adds_reals = true};
    snprintf(name, sizeof name, "%s%s%s", at->prefix, *at->prefix ? "." : "", suffix);
    return oct_add_affine(at->g, y, name, trunk, &reals);
}

static int block(struct stage *at, int trunk, int width, int stride)
{
    int out = at->bottleneck ? 4 * width : width;
    int x = activation(at, trunk, "bn1"), y;

    if (at->g->status != OCT_OK)
        return -1;
    if (stride != 1 || at->g->values[trunk].c != out)
        trunk = sum(at, conv(at, x, "downsample.0", out, 1, stride), -1, "downsample");
    if (!at->bottleneck) {
        y = activation(at, conv(at, x, "conv1", width, 3, stride), "bn2");
        return sum(at, conv(at, y, "conv2", width, 3, 1), trunk, "add");
    }
    y = activation(at, conv(at, x, "conv1", width, 1, 1), "bn2");
    y = activation(at, conv(at, y, "conv2", width, 3, stride), "bn3");
    return sum(at, conv(at, y, "conv3", out, 1, 1), trunk, "add");
}

static int stages(struct oct_graph *g, int trunk, const struct oct_model *model, int width)
{
    for (int s = 0; s < 4 && model->blocks[s] > 0; s++) {
        for (int b = 0; b < model->blocks[s]; b++) {
            struct stage at = {.g = g, .bottleneck = model->bottleneck};
            snprintf(at.prefix, sizeof at.prefix, "layer%d.%d", s + 1, b);
            trunk = block(&at, trunk, width << s, s > 0 && b == 0 ? 2 : 1);
        }
    }
    return trunk;
}

static void classifier(struct oct_graph *g, int trunk, int classes)
{
    int x = oct_add_norm(g, trunk, "bn", -1, true);
    x = oct_add_global_pool(g, x, "avgpool");
    x = oct_add_linear(g, x, "fc", classes);
    oct_add_loss(g, x);
}

void oct_build_preact_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    struct stage at = {.g = g};
    struct oct_conv_attr stem = {.k = 16, .r = 3, .s = 3, .stride = 1, .pad = 1};
    int trunk = sum(&at, oct_add_conv(g, image, "conv1", &stem), -1, "stem");
    classifier(g, stages(g, trunk, model, 16), classes);
}

void oct_build_preact_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    struct stage at = {.g = g};
    struct oct_conv_attr stem = {.k = 64, .r = 7, .s = 7, .stride = 2, .pad = 3};
    int trunk = sum(&at, oct_add_conv(g, image, "conv1", &stem), -1, "stem");
    trunk = oct_add_max_pool(g, trunk, "maxpool", 3, 2, 1);
    classifier(g, stages(g, trunk, model, 64), classes);
}
