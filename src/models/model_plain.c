/* Networks without residual connections.
 *
 * LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
 * recognition", 1998, with ReLU and max pooling. Its first fully connected layer sees the whole
 * 5x5 map and is a convolution here, as in the paper, so that no tensor changes its layout. Of the
 * two forms one has biases, the other a BN behind each of the three convolutions instead.
 *
 * VGG-11: Simonyan and Zisserman, ICLR 2015, with BN, in the form for 32x32 images: the features of
 * torchvision's vgg11_bn under its names, one linear classifier. The convolutions have no bias: BN
 * subtracts it again. */
#include "models/models.h"
#include "models/model_list.h"

#include <stdio.h>

/* y + its layer's bias, ReLU */
static int relu_of(struct oct_graph *g, int y, const char *name, const char *layer)
{
    const struct oct_affine_attr attr = {
        .owner = layer, .bias = "bias", .bias_per_channel = true, .relu = true};
    return oct_add_affine(g, y, name, -1, &attr);
}

/* A convolution, its bias or BN, and ReLU. */
static int lenet_layer(
    struct oct_graph *g, int x, int index, const struct oct_conv_attr *attr, bool with_bn)
{
    static const char *const conv[] = {"conv1", "conv2", "fc1"};
    static const char *const relu[] = {"relu1", "relu2", "relu3"};
    static const char *const bn[] = {"bn1", "bn2", "bn3"};
    int y = oct_add_conv(g, x, conv[index], attr);
    return with_bn ? oct_add_norm(g, y, bn[index], -1, true)
                   : relu_of(g, y, relu[index], conv[index]);
}

static void build_lenet(struct oct_graph *g, int image, int classes, bool with_bn)
{
    const struct oct_affine_attr relu = {.relu = true};
    /* images of 28x28 get the border that those of 32x32 have */
    int pad = g->status == OCT_OK && g->values[image].h < 32 ? 2 : 0;
    struct oct_conv_attr conv1 = {.k = 6, .r = 5, .s = 5, .stride = 1, .pad = pad};
    struct oct_conv_attr conv2 = {.k = 16, .r = 5, .s = 5, .stride = 1};

    int x = lenet_layer(g, image, 0, &conv1, with_bn);
    x = oct_add_max_pool(g, x, "pool1", 2, 2, 0);
    x = lenet_layer(g, x, 1, &conv2, with_bn);
    x = oct_add_max_pool(g, x, "pool2", 2, 2, 0);
    if (g->status != OCT_OK)
        return;
    struct oct_conv_attr fc1 = {.k = 120, .r = g->values[x].h, .s = g->values[x].w, .stride = 1};
    x = lenet_layer(g, x, 2, &fc1, with_bn);
    x = oct_add_global_pool(g, x, "flatten");
    x = oct_add_linear(g, x, "fc2", 84);
    x = oct_add_affine(g, x, "relu4", -1, &relu);
    x = oct_add_linear(g, x, "fc3", classes);
    oct_add_loss(g, x);
}

void oct_build_lenet5(struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    (void)model;
    build_lenet(g, image, classes, false);
}

void oct_build_lenet5_bn(struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    (void)model;
    build_lenet(g, image, classes, true);
}

void oct_build_vgg11(struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    enum { POOL = 0 };
    static const int plan[] = {64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL};
    int x = image, index = 0; /* torchvision counts convolution, BN, ReLU and pooling as layers */
    char name[64];
    (void)model;

    for (size_t i = 0; i < sizeof plan / sizeof plan[0]; i++) {
        const struct oct_conv_attr conv = {.k = plan[i], .r = 3, .s = 3, .stride = 1, .pad = 1};
        snprintf(name, sizeof name, "features.%d", index++);
        if (plan[i] == POOL) {
            x = oct_add_max_pool(g, x, name, 2, 2, 0);
            continue;
        }
        x = oct_add_conv(g, x, name, &conv);
        snprintf(name, sizeof name, "features.%d", index);
        x = oct_add_norm(g, x, name, -1, true);
        index += 2;
    }
    x = oct_add_global_pool(g, x, "avgpool");
    x = oct_add_linear(g, x, "classifier", classes);
    oct_add_loss(g, x);
}
