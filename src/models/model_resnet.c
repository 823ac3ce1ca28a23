/* Residual networks. ImageNet form: He et al., CVPR 2016, v1.5 (the stride of a bottleneck sits in
 * its 3x3 convolution), as in torchvision. CIFAR form: section 4.2 of the same paper, with 6n+2
 * layers of 16, 32, 64 channels and projection shortcuts (option B), so that every shortcut is a
 * product. */
#include "models/model_list.h"
#include "models/residual.h"

static int norm(const struct oct_block_at *at, int y, const char *suffix, int residual, bool relu)
{
    return oct_add_norm(at->g, y, oct_block_name(at, suffix).text, residual, relu);
}

/* A projected shortcut comes before the main branch, so its result waits while the branch runs; in
 * backward the main branch writes the gradient of the block's input first and the shortcut adds. */
static int block(const struct oct_block_at *at, int x, int width, int stride)
{
    struct oct_graph *g = at->g;
    int out = at->model->bottleneck ? 4 * width : width;
    int skip = x, y;

    if (g->status != OCT_OK)
        return -1;
    if (stride != 1 || g->values[x].c != out) {
        skip = oct_block_conv(at, x, "downsample.0", out, 1, stride);
        skip = norm(at, skip, "downsample.1", -1, false);
    }
    if (!at->model->bottleneck) {
        y = norm(at, oct_block_conv(at, x, "conv1", width, 3, stride), "bn1", -1, true);
        return norm(at, oct_block_conv(at, y, "conv2", width, 3, 1), "bn2", skip, true);
    }
    y = norm(at, oct_block_conv(at, x, "conv1", width, 1, 1), "bn1", -1, true);
    y = norm(at, oct_block_conv(at, y, "conv2", width, 3, stride), "bn2", -1, true);
    return norm(at, oct_block_conv(at, y, "conv3", out, 1, 1), "bn3", skip, true);
}

static void classifier(struct oct_graph *g, int x, int classes)
{
    x = oct_add_global_pool(g, x, "avgpool");
    x = oct_add_linear(g, x, "fc", classes);
    oct_add_loss(g, x);
}

void oct_build_resnet_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    struct oct_conv_attr stem = {.k = 16, .r = 3, .s = 3, .stride = 1, .pad = 1};
    int x = oct_add_norm(g, oct_add_conv(g, image, "conv1", &stem), "bn1", -1, true);
    classifier(g, oct_build_stages(g, x, model, 16, block), classes);
}

void oct_build_resnet_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    struct oct_conv_attr stem = {.k = 64, .r = 7, .s = 7, .stride = 2, .pad = 3};
    int x = oct_add_norm(g, oct_add_conv(g, image, "conv1", &stem), "bn1", -1, true);
    x = oct_add_max_pool(g, x, "maxpool", 3, 2, 1);
    classifier(g, oct_build_stages(g, x, model, 64, block), classes);
}
