#include "models/model_list.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static const struct oct_model registry[] = {
    {"resnet8", 32, 3, oct_build_resnet_cifar, {1, 1, 1}, false},
    {"resnet20", 32, 3, oct_build_resnet_cifar, {3, 3, 3}, false},
    {"resnet32", 32, 3, oct_build_resnet_cifar, {5, 5, 5}, false},
    {"resnet44", 32, 3, oct_build_resnet_cifar, {7, 7, 7}, false},
    {"resnet56", 32, 3, oct_build_resnet_cifar, {9, 9, 9}, false},
    {"resnet18", 224, 3, oct_build_resnet_imagenet, {2, 2, 2, 2}, false},
    {"resnet34", 224, 3, oct_build_resnet_imagenet, {3, 4, 6, 3}, false},
    {"resnet50", 224, 3, oct_build_resnet_imagenet, {3, 4, 6, 3}, true},
    {"lenet5", 28, 1, oct_build_lenet5, {0}, false},
    {"lenet5_bn", 28, 1, oct_build_lenet5_bn, {0}, false},
    {"vgg11", 32, 3, oct_build_vgg11, {0}, false},
    {"preact_resnet8", 32, 3, oct_build_preact_cifar, {1, 1, 1}, false},
    {"preact_resnet20", 32, 3, oct_build_preact_cifar, {3, 3, 3}, false},
    {"preact_resnet18", 224, 3, oct_build_preact_imagenet, {2, 2, 2, 2}, false},
    {"preact_resnet50", 224, 3, oct_build_preact_imagenet, {3, 4, 6, 3}, true},
    {"fixup_resnet8", 32, 3, oct_build_fixup_cifar, {1, 1, 1}, false},
    {"fixup_resnet20", 32, 3, oct_build_fixup_cifar, {3, 3, 3}, false},
    {"fixup_resnet18", 224, 3, oct_build_fixup_imagenet, {2, 2, 2, 2}, false},
    {"fixup_resnet50", 224, 3, oct_build_fixup_imagenet, {3, 4, 6, 3}, true},
};

const struct oct_model *oct_model_at(size_t index)
{
    return index < sizeof registry / sizeof registry[0] ? &registry[index] : NULL;
}

const struct oct_model *oct_model_find(const char *name)
{
    for (size_t i = 0; oct_model_at(i); i++)
        if (strcmp(oct_model_at(i)->name, name) == 0)
            return oct_model_at(i);
    return NULL;
}

const char *oct_model_name(size_t index)
{
    const struct oct_model *model = oct_model_at(index);
    return model ? model->name : NULL;
}

enum oct_status oct_model_build(
    const struct oct_model *model, struct oct_graph *g, int h, int w, int c, int classes)
{
    int image = oct_add_image(g, h, w, c);
    model->build(g, image, model, classes);
    return oct_graph_plan(g);
}

/* Standard normal pair of two random words (Box-Muller, in double). */
static void normal_pair(uint32_t u, uint32_t v, float out[2])
{
    double radius = sqrt(-2.0 * log(((double)u + 0.5) / 4294967296.0));
    double angle = 2.0 * 3.14159265358979323846 * ((double)v + 0.5) / 4294967296.0;
    out[0] = (float)(radius * cos(angle));
    out[1] = (float)(radius * sin(angle));
}

static void fill_normal(float *w, int64_t count, float sd, uint64_t seed, uint32_t tensor)
{
    for (int64_t i = 0; i < count; i += 4) {
        struct oct_philox r = oct_random(seed, OCT_RNG_INIT, tensor, (uint64_t)i / 4);
        float z[4];
        normal_pair(r.v[0], r.v[1], z);
        normal_pair(r.v[2], r.v[3], z + 2);
        for (int j = 0; j < 4 && i + j < count; j++)
            w[i + j] = sd * z[j];
    }
}

static void fill_uniform(float *w, int64_t count, float bound, uint64_t seed, uint32_t tensor)
{
    for (int64_t i = 0; i < count; i++) {
        struct oct_philox r = oct_random(seed, OCT_RNG_INIT, tensor, (uint64_t)i / 4);
        w[i] = bound * (2.0f * oct_uniform(r.v[i % 4]) - 1.0f);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static void initial_values(const struct oct_graph *g, int index, uint64_t seed, float *w)
{
    const struct oct_param *param = &g->params[index];
    float value = param->initial_value;

    if (param->initial == OCT_INITIAL_UNIFORM && value != 0.0f)
        fill_uniform(w, param->count, value, seed, (uint32_t)index);
    else if (param->initial == OCT_INITIAL_NORMAL && value != 0.0f)
        fill_normal(w, param->count, value, seed, (uint32_t)index);
    else
        for (int64_t i = 0; i < param->count; i++)
            w[i] = value;
    for (int64_t i = 0; i < param->count; i++)
        w[i] = oct_on_grid(w[i], g->numerics->update.initial_steps);
}

static enum oct_status upload_ones(struct oct_graph *g, const struct oct_state *state, float *w)
{
    for (int64_t i = 0; i < state->dim[0]; i++)
        w[i] = 1.0f;
    return g->backend->upload(
        g->backend, state->buffer->data, w, sizeof(float) * (size_t)state->dim[0]);
}

enum oct_status oct_model_initialise(struct oct_graph *g, uint64_t seed)
{
    enum oct_status status = OCT_OK;
    int64_t largest = 1;
    float *w = NULL;

    for (int i = 0; i < g->param_count; i++)
        largest = g->params[i].count > largest ? g->params[i].count : largest;
    w = malloc(sizeof(float) * (size_t)largest);
    if (!w)
        return oct_fail(OCT_NOMEM, "no memory for initial weights");
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        size_t bytes = sizeof(float) * (size_t)param->count;
        initial_values(g, i, seed, w);
        OCT_OUT(g->backend->upload(g->backend, param->value->data, w, bytes));
        if (param->initial_lr_factor > 0.0f)
            OCT_OUT(g->backend->upload(
                g->backend, param->lr_factor->data, &param->initial_lr_factor, sizeof(float)));
        if (param->average)
            OCT_OUT(g->backend->upload(g->backend, param->average->data, w, bytes));
    }
    for (int i = 0; i < g->state_count; i++)
        if (ends_with(g->states[i].name, ".running_var"))
            OCT_OUT(upload_ones(g, &g->states[i], w));
out:
    free(w);
    return status;
}
