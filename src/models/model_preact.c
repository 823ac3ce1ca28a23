/* Residual networks with pre-activation: He et al., "Identity Mappings in Deep Residual Networks",
 * ECCV 2016. BN and ReLU stand before each convolution; what the blocks add up, the trunk, is never
 * normalised nor quantised. A projection takes the block's first activation. Names are those of the
 * post-activation networks (model_resnet.c); the BN in front of the pooling is called bn.
 *
 * An addition is an affine node: branch + trunk, reals. */
#include "models/model_list.h"
#include "models/residual.h"

static int activation(const struct oct_block_at *at, int x, const char *suffix)
{
    return oct_add_norm(at->g, x, oct_block_name(at, suffix).text, -1, true);
}

/* A convolution's result as (a part of) the trunk; trunk -1: its beginning. */
static int sum(const struct oct_block_at *at, int y, int trunk, const char *suffix)
{
    const struct oct_affine_attr reals = {.adds_reals = true};
    return oct_add_affine(at->g, y, oct_block_name(at, suffix).text, trunk, &reals);
}

static int block(const struct oct_block_at *at, int trunk, int width, int stride)
{
    int out = at->model->bottleneck ? 4 * width : width;
    int x = activation(at, trunk, "bn1"), y;

    if (at->g->status != OCT_OK)
        return -1;
    if (stride != 1 || at->g->values[trunk].c != out)
        trunk = sum(at, oct_block_conv(at, x, "downsample.0", out, 1, stride), -1, "downsample");
    if (!at->model->bottleneck) {
        y = activation(at, oct_block_conv(at, x, "conv1", width, 3, stride), "bn2");
        return sum(at, oct_block_conv(at, y, "conv2", width, 3, 1), trunk, "add");
    }
    y = activation(at, oct_block_conv(at, x, "conv1", width, 1, 1), "bn2");
    y = activation(at, oct_block_conv(at, y, "conv2", width, 3, stride), "bn3");
    return sum(at, oct_block_conv(at, y, "conv3", out, 1, 1), trunk, "add");
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
    const struct oct_block_at at = {.g = g, .model = model};
    struct oct_conv_attr stem = {.k = 16, .r = 3, .s = 3, .stride = 1, .pad = 1};
    int trunk = sum(&at, oct_add_conv(g, image, "conv1", &stem), -1, "stem");
    classifier(g, oct_build_stages(g, trunk, model, 16, block), classes);
}

void oct_build_preact_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    const struct oct_block_at at = {.g = g, .model = model};
    struct oct_conv_attr stem = {.k = 64, .r = 7, .s = 7, .stride = 2, .pad = 3};
    int trunk = sum(&at, oct_add_conv(g, image, "conv1", &stem), -1, "stem");
    trunk = oct_add_max_pool(g, trunk, "maxpool", 3, 2, 1);
    classifier(g, oct_build_stages(g, trunk, model, 64, block), classes);
}
