#include "train/record.h"

#include "train/safetensors.h"
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double points[] = {0.01, 0.1, 0.5, 1.0};
enum { POINTS = sizeof points / sizeof points[0], TENSORS_PER_LAYER = 3 };

struct oct_recorder {
    struct oct_named_tensor *tensor; /* of this step */
    char (*name)[96];
    struct oct_metadata *layer; /* name and geometry */
    char (*geometry)[64];
    size_t tensors, layers, most_layers;
    int64_t left, steps_per_point, steps;
    bool armed;
    enum oct_status status; /* of this step: an observer returns none */
};

static int count_layers(const struct oct_graph *g)
{
    int count = 0;
    for (int i = 0; i < g->node_count; i++)
        count += g->nodes[i].is_product && g->values[g->nodes[i].out].pre;
    return count;
}

enum oct_status oct_record_open(struct oct_trainer *t)
{
    const struct oct_options *o = &t->options;
    int layers = count_layers(t->graph);

    if (o->record_gradients == 0)
        return OCT_OK;
    if (layers == 0)
        return oct_fail(OCT_ARG, "--record-gradients: %s has no convolutions", o->model);
    struct oct_recorder *r = calloc(1, sizeof *r);
    t->recorder = r;
    if (!r)
        return oct_fail(OCT_NOMEM, "no memory to record gradients");
    size_t n = (size_t)layers;
    r->tensor = calloc(TENSORS_PER_LAYER * n, sizeof *r->tensor);
    r->name = calloc(TENSORS_PER_LAYER * n, sizeof *r->name);
    r->layer = calloc(n, sizeof *r->layer);
    r->geometry = calloc(n, sizeof *r->geometry);
    if (!r->tensor || !r->name || !r->layer || !r->geometry)
        return oct_fail(OCT_NOMEM, "no memory to record the gradients of %d layers", layers);
    r->most_layers = n;
    r->left = o->record_gradients;
    r->steps = t->steps_per_epoch * o->epochs;
    r->steps_per_point = (r->left + POINTS * layers - 1) / (POINTS * layers);
    return OCT_OK;
}

static void forget_step(struct oct_recorder *r)
{
    for (size_t i = 0; i < r->tensors; i++)
        free(r->tensor[i].data);
    r->tensors = r->layers = 0;
}

void oct_record_close(struct oct_trainer *t)
{
    struct oct_recorder *r = t->recorder;
    if (!r)
        return;
    forget_step(r);
    free(r->tensor);
    free(r->name);
    free(r->layer);
    free(r->geometry);
    free(r);
    t->recorder = NULL;
}

/* Copies the first images of a device tensor. */
static void record(struct oct_trainer *t, const char *layer, const char *what, int dims,
    const int64_t *dim, const struct oct_buffer *buffer)
{
    struct oct_recorder *r = t->recorder;
    struct oct_named_tensor *tensor = &r->tensor[r->tensors];
    char *name = r->name[r->tensors];

    snprintf(name, sizeof r->name[0], "%s.%s", layer, what);
    *tensor = (struct oct_named_tensor){.name = name, .dtype = OCT_F32, .dims = dims};
    memcpy(tensor->dim, dim, (size_t)dims * sizeof *dim);
    size_t bytes = oct_named_tensor_bytes(tensor);
    tensor->data = malloc(bytes);
    r->tensors++;
    if (!tensor->data)
        r->status = oct_fail(OCT_NOMEM, "no memory to record %s", name);
    else
        r->status = t->backend->download(t->backend, tensor->data, buffer->data, bytes);
}

/* When a weight gradient is there, so are its operands. */
static void see_tensor(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    struct oct_trainer *t = user;
    struct oct_recorder *r = t->recorder;
    const struct oct_graph *g = t->graph;
    const struct oct_conv_shape *v = &node->shape;
    (void)dtype, (void)device, (void)count;

    if (strcmp(what, "dw") != 0 || !g->values[node->out].pre || r->status != OCT_OK ||
        r->left == 0 || r->layers == r->most_layers)
        return;
    const struct oct_value *x = &g->values[node->in[0]], *y = &g->values[node->out];
    int64_t images = v->n < OCT_RECORD_IMAGES ? v->n : OCT_RECORD_IMAGES;
    const int64_t x_dim[] = {images, v->h, v->w, v->c}, w_dim[] = {v->k, v->r, v->s, v->c};
    const int64_t y_dim[] = {images, y->h, y->w, y->c};
    char weight[96];
    const struct oct_buffer *w = NULL;
    snprintf(weight, sizeof weight, "%s.weight", node->name);
    for (int i = 0; i < g->param_count; i++)
        if (strcmp(g->params[i].name, weight) == 0)
            w = g->params[i].value;

    record(t, node->name, "x", 4, x_dim, x->real);
    if (r->status == OCT_OK)
        record(t, node->name, "w", 4, w_dim, w);
    if (r->status == OCT_OK)
        record(t, node->name, "dy", 4, y_dim, y->pre->dy_real);
    snprintf(r->geometry[r->layers], sizeof r->geometry[0], "%d %d %d %d %d", v->stride_h, v->pad_h,
        v->dilation_h, node->edge, node->has_dgrad);
    r->layer[r->layers] = (struct oct_metadata){node->name, r->geometry[r->layers]};
    r->layers++;
    r->left--;
}

/* A point's steps are those that end at its share of the training. */
static bool is_recorded(const struct oct_recorder *r, int64_t step)
{
    for (int i = 0; i < POINTS; i++) {
        int64_t end = (int64_t)llround(points[i] * (double)r->steps);
        end = end < r->steps_per_point ? r->steps_per_point : end;
        if (step >= end - r->steps_per_point && step < end)
            return true;
    }
    return false;
}

void oct_record_arm(struct oct_trainer *t)
{
    struct oct_recorder *r = t->recorder;
    if (!r)
        return;
    r->armed = r->left > 0 && is_recorded(r, t->at.step);
    r->status = OCT_OK;
    t->observer.user = t;
    t->observer.tensor = r->armed ? see_tensor : NULL;
}

enum oct_status oct_record_step(struct oct_trainer *t)
{
    struct oct_recorder *r = t->recorder;
    char path[4096];
    if (!r || !r->armed)
        return OCT_OK;
    r->armed = false;
    t->observer.tensor = NULL;
    enum oct_status status = r->status;
    if (status == OCT_OK) {
        snprintf(path, sizeof path, "%s/gradients-%08lld.safetensors", t->options.output_dir,
            (long long)t->at.step);
        status = oct_safetensors_write(path, r->tensor, r->tensors, r->layer, r->layers);
    }
    forget_step(r);
    return status;
}
