/* Residual networks without normalisation: Zhang, Dauphin, Ma, "Fixup Initialization: Residual
 * Learning Without Normalization", ICLR 2019. Scalar biases b and one scale per block:
 *   basic       y = conv2(relu(conv1(x + b1a) + b1b) + b2a) scale + b2b
 *   bottleneck  y = conv3(relu(conv2(relu(conv1(x + b1a) + b1b) + b2a) + b2b) + b3a) scale + b3b
 *   block       relu(y + shortcut), the shortcut x or a convolution of x + b1a
 * With L blocks in all, the first convolutions of a branch begin at He's deviation (fan out) times
 * L^(-1/2) in basic blocks, L^(-1/4) in bottlenecks; the last one and the classifier begin at 0,
 * biases at 0, scales at 1. The scalars learn at a tenth of the learning rate. Names are those of
 * the authors' code. */
#include "models/model_list.h"
#include "models/residual.h"

#include <math.h>
#include <stdio.h>

/* A convolution whose initial weights are those of He times `factor`. */
static int conv(const struct oct_block_at *at, int x, const char *suffix,
    const struct oct_conv_attr *attr, float factor)
{
    const struct oct_block_name name = oct_block_name(at, suffix);
    int y = oct_add_conv(at->g, x, name.text, attr);
    char weight[80];
    snprintf(weight, sizeof weight, "%s.weight", name.text);
    oct_graph_scale_initial(at->g, weight, factor);
    return y;
}

/* x + a scalar, and ReLU if asked for */
static int shift(const struct oct_block_at *at, int x, const char *bias, bool relu)
{
    const struct oct_affine_attr attr = {
        .owner = at->prefix, .bias = bias, .relu = relu, .decay = true, .lr_factor = 0.1f};
    const struct oct_block_name name = oct_block_name(at, bias);
    return oct_add_affine(at->g, x, name.text, -1, &attr);
}

/* The end of a block. */
static int join(const struct oct_block_at *at, int y, int shortcut, const char *bias)
{
    const struct oct_affine_attr attr = {.owner = at->prefix,
        .bias = bias,
        .scale = "scale",
        .relu = true,
        .decay = true,
        .lr_factor = 0.1f};
    const struct oct_block_name name = oct_block_name(at, bias);
    return oct_add_affine(at->g, y, name.text, shortcut, &attr);
}

static int project(const struct oct_block_at *at, int shifted, int k, int stride)
{
    const struct oct_conv_attr attr = {.k = k, .r = 1, .s = 1, .stride = stride};
    const struct oct_affine_attr none = {0};
    const struct oct_block_name name = oct_block_name(at, "shortcut");
    return oct_add_affine(
        at->g, conv(at, shifted, "downsample", &attr, 1.0f), name.text, -1, &none);
}

/* Factor of the initial deviation inside a branch. */
static float branch_factor(const struct oct_model *model)
{
    int total = 0;
    for (int s = 0; s < 4; s++)
        total += model->blocks[s];
    return (float)pow((double)total, model->bottleneck ? -0.25 : -0.5);
}

static int block(const struct oct_block_at *at, int x, int width, int stride)
{
    const struct oct_conv_attr point = {.k = width, .r = 1, .s = 1, .stride = 1};
    const struct oct_conv_attr step = {.k = width, .r = 3, .s = 3, .stride = stride, .pad = 1};
    const struct oct_conv_attr same = {.k = width, .r = 3, .s = 3, .stride = 1, .pad = 1};
    const struct oct_conv_attr widen = {.k = 4 * width, .r = 1, .s = 1, .stride = 1};
    int out = at->model->bottleneck ? 4 * width : width, shortcut = x, y;
    int shifted = shift(at, x, "bias1a", false);
    float branch = branch_factor(at->model);

    if (at->g->status != OCT_OK)
        return -1;
    if (stride != 1 || at->g->values[x].c != out)
        shortcut = project(at, shifted, out, stride);
    y = conv(at, shifted, "conv1", at->model->bottleneck ? &point : &step, branch);
    y = shift(at, shift(at, y, "bias1b", true), "bias2a", false);
    if (!at->model->bottleneck)
        return join(at, conv(at, y, "conv2", &same, 0.0f), shortcut, "bias2b");
    y = conv(at, y, "conv2", &step, branch);
    y = shift(at, shift(at, y, "bias2b", true), "bias3a", false);
    return join(at, conv(at, y, "conv3", &widen, 0.0f), shortcut, "bias3b");
}

static void classifier(const struct oct_block_at *top, int x, int classes)
{
    struct oct_graph *g = top->g;
    x = oct_add_global_pool(g, x, "avgpool");
    x = shift(top, x, "bias2", false);
    x = oct_add_linear(g, x, "fc", classes);
    oct_graph_scale_initial(g, "fc.weight", 0.0f);
    oct_graph_scale_initial(g, "fc.bias", 0.0f);
    oct_add_loss(g, x);
}

void oct_build_fixup_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    const struct oct_block_at top = {.g = g, .model = model};
    const struct oct_conv_attr stem = {.k = 16, .r = 3, .s = 3, .stride = 1, .pad = 1};
    int x = shift(&top, conv(&top, image, "conv1", &stem, 1.0f), "bias1", true);
    classifier(&top, oct_build_stages(g, x, model, 16, block), classes);
}

void oct_build_fixup_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes)
{
    const struct oct_block_at top = {.g = g, .model = model};
    const struct oct_conv_attr stem = {.k = 64, .r = 7, .s = 7, .stride = 2, .pad = 3};
    int x = shift(&top, conv(&top, image, "conv1", &stem, 1.0f), "bias1", true);
    x = oct_add_max_pool(g, x, "maxpool", 3, 2, 1);
    classifier(&top, oct_build_stages(g, x, model, 64, block), classes);
}
