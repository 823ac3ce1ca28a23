/* Residual networks. ImageNet form: He et al., CVPR 2016, v1.5 (the stride of a bottleneck sits in
 * its 3x3 convolution), as in torchvision. CIFAR form: section 4.2 of the same paper, with 6n+2
 * layers of 16, 32, 64 channels and projection shortcuts (option B), so that every shortcut is a
 * product. */
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

static int norm(struct stage *at, int y, const char *suffix, int residual, bool relu)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", at->prefix, suffix);
    return oct_add_norm(at->g, y, name, residual, relu);
}

/* A projected shortcut comes before the main branch, so its result waits while the branch runs; in
 * backward the main branch writes the gradient of the block's input first and the shortcut adds. */
static int block(struct stage *at, int x, int width, int stride)
{
    struct oct_graph *g = at->g;
    int out = at->bottleneck ? 4 * width : width;
    int skip = x, y;

    if (g->status != OCT_OK)
        return -1;
    if (stride != 1 || g->values[x].c != out) {
        skip = conv(at, x, "downsample.0", out, 1, stride);
        skip = norm(at, skip, "downsample.1", -1, false);
    }
    if (!at->bottleneck) {
        y = norm(at, conv(at, x, "conv1", width, 3, stride), "bn1", -1, true);
        return norm(at, conv(at, y, "conv2", width, 3, 1), "bn2", skip, true);
    }
    y = norm(at, conv(at, x, "conv1", width, 1, 1), "bn1", -1, true);
    y = norm(at, conv(at, y, "conv2", width, 3, stride), "bn2", -1, true);
    return norm(at, conv(at, y, "conv3", out, 1, 1), "bn3", skip, true);
}

static int stages(struct oct_graph *g, int x, const struct oct_model *model, int width)
{
    for (int s = 0; s < 4 && model->blocks[s] > 0; s++) {
        for (int b = 0; b < model->blocks[s]; b++) {
            struct stage at = {.g = g, .bottleneck = model->bottleneck};
            snprintf(at.prefix, sizeof at.prefix, "layer%d.%d", s + 1, b);
            x = block(&at, x, width << s, s > 0 && b == 0 ? 2 : 1);
        }
    }
    return x;
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
    classifier(g, stages(g, x, model, 16), classes);
}

void oct_build_resnet_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    struct oct_conv_attr stem = {.k = 64, .r = 7, .s = 7, .stride = 2, .pad = 3};
    int x = oct_add_norm(g, oct_add_conv(g, image, "conv1", &stem), "bn1", -1, true);
    x = oct_add_max_pool(g, x, "maxpool", 3, 2, 1);
    classifier(g, stages(g, x, model, 64), classes);
}
