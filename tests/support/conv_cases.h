/* Convolution shapes that the tests verify and the bench times. */
#ifndef OCT_TEST_CONV_CASES_H
#define OCT_TEST_CONV_CASES_H

#include "base/conv_shape.h"

/* Square images and filters, stride and dilation; groups 1. */
static inline struct oct_conv_shape conv_square(
    int n, int size, int c, int k, int filter, int stride, int pad, int dilation)
{
    struct oct_conv_shape v = oct_conv_pointwise(n, size, size, c, k);
    v.r = v.s = filter;
    v.stride_h = v.stride_w = stride;
    v.pad_h = v.pad_w = pad;
    v.dilation_h = v.dilation_w = dilation;
    return v;
}

struct conv_layer {
    int count; /* how often the network has it */
    int c, k, size, filter, stride;
};

/* Distinct layers of the networks, without the linear one; padding filter / 2. */
static const struct conv_layer conv_resnet20[] = {{1, 3, 16, 32, 3, 1}, {6, 16, 16, 32, 3, 1},
    {1, 16, 32, 32, 3, 2}, {5, 32, 32, 16, 3, 1}, {1, 32, 64, 16, 3, 2}, {5, 64, 64, 8, 3, 1}};

static const struct conv_layer conv_resnet18[] = {{1, 3, 64, 224, 7, 2}, {4, 64, 64, 56, 3, 1},
    {1, 64, 128, 56, 3, 2}, {3, 128, 128, 28, 3, 1}, {1, 64, 128, 56, 1, 2},
    {1, 128, 256, 28, 3, 2}, {3, 256, 256, 14, 3, 1}, {1, 128, 256, 28, 1, 2},
    {1, 256, 512, 14, 3, 2}, {3, 512, 512, 7, 3, 1}, {1, 256, 512, 14, 1, 2}};

static const struct conv_layer conv_resnet50[] = {{1, 3, 64, 224, 7, 2}, {1, 64, 64, 56, 1, 1},
    {3, 64, 64, 56, 3, 1}, {4, 64, 256, 56, 1, 1}, {2, 256, 64, 56, 1, 1}, {1, 256, 128, 56, 1, 1},
    {1, 128, 128, 56, 3, 2}, {4, 128, 512, 28, 1, 1}, {1, 256, 512, 56, 1, 2},
    {3, 512, 128, 28, 1, 1}, {3, 128, 128, 28, 3, 1}, {1, 512, 256, 28, 1, 1},
    {1, 256, 256, 28, 3, 2}, {6, 256, 1024, 14, 1, 1}, {1, 512, 1024, 28, 1, 2},
    {5, 1024, 256, 14, 1, 1}, {5, 256, 256, 14, 3, 1}, {1, 1024, 512, 14, 1, 1},
    {1, 512, 512, 14, 3, 2}, {3, 512, 2048, 7, 1, 1}, {1, 1024, 2048, 14, 1, 2},
    {2, 2048, 512, 7, 1, 1}, {2, 512, 512, 7, 3, 1}};

static inline struct oct_conv_shape conv_of_layer(const struct conv_layer *l, int n)
{
    return conv_square(n, l->size, l->c, l->k, l->filter, l->stride, l->filter / 2, 1);
}

#endif
