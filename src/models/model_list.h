/* The builders there are, for the registry alone. */
#ifndef OCT_MODEL_LIST_H
#define OCT_MODEL_LIST_H

#include "models/models.h"

void oct_build_resnet_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_resnet_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);

void oct_build_lenet5(struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_lenet5_bn(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_vgg11(struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_preact_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_preact_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_fixup_cifar(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);
void oct_build_fixup_imagenet(
    struct oct_graph *g, int image, const struct oct_model *model, int classes);

#endif
