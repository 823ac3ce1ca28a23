/* Network builders: each appends nodes to a graph, no arithmetic. Parameter names and counts of
 * the ImageNet networks are torchvision's. */
#ifndef OCT_MODELS_H
#define OCT_MODELS_H

#include "graph/graph.h"

struct oct_model {
    const char *name;
    int image_size; /* of the data set the network was made for */
    int channels;
    void (*build)(struct oct_graph *g, int image, const struct oct_model *model, int classes);
    int blocks[4]; /* residual blocks per stage */
    bool bottleneck;
};

const struct oct_model *oct_model_at(size_t index);       /* NULL at the end */
const struct oct_model *oct_model_find(const char *name); /* NULL if unknown */

/* Builds the whole network, from image to loss, and plans its memory. */
enum oct_status oct_model_build(
    const struct oct_model *model, struct oct_graph *g, int h, int w, int c, int classes);

/* Initial weights from `seed`: convolutions normal with variance 2 / (K R S) (He, fan out), the
 * classifier uniform in +-1/sqrt(C), BN 1 and 0, running statistics 0 and 1. */
enum oct_status oct_model_initialise(struct oct_graph *g, uint64_t seed);

#endif
