/* Building and planning of a network. Running it: executor.c. */
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum oct_status oct_graph_open(oct_backend *backend, const struct oct_numerics *numerics,
    struct oct_comm *comm, int batch, struct oct_graph **out)
{
    enum oct_status status = OCT_OK;
    struct oct_graph *g = calloc(1, sizeof *g);
    if (!g)
        return oct_fail(OCT_NOMEM, "no memory for a network");
    g->backend = backend;
    g->numerics = numerics;
    g->comm = comm;
    g->batch = batch;
    g->input = g->logits = -1;
    g->eps = 1e-5f;
    g->bn_momentum = 0.1f;
    g->fresh = true;
    for (int c = 0; c < 4; c++)
        g->std[c] = 1.0;
    OCT_OUT(oct_plan_open(&g->plan));
    *out = g;
    return OCT_OK;
out:
    oct_graph_close(g);
    return status;
}

void oct_graph_close(struct oct_graph *g)
{
    if (!g)
        return;
    for (int i = 0; i < g->node_count; i++)
        free(g->nodes[i].self);
    for (int i = 0; i < g->value_count; i++)
        free(g->values[i].pre);
    if (g->transient)
        g->backend->free(g->backend, g->transient);
    if (g->persistent)
        g->backend->free(g->backend, g->persistent);
    oct_plan_close(g->plan);
    free(g->nodes);
    free(g->values);
    free(g->params);
    free(g->states);
    free(g);
}

/* Grows `*array` so that one more element fits; false (and a sticky failure) if it cannot. */
static bool grow(struct oct_graph *g, void **array, int count, int *capacity, size_t size)
{
    if (g->status != OCT_OK)
        return false;
    if (count < *capacity)
        return true;
    int wanted = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*array, (size_t)wanted * size);
    if (!grown) {
        g->status = oct_fail(OCT_NOMEM, "no memory for the network");
        return false;
    }
    *array = grown;
    *capacity = wanted;
    return true;
}

int oct_graph_value(
    struct oct_graph *g, enum oct_value_kind kind, const char *name, int n, int h, int w, int c)
{
    if (!grow(g, (void **)&g->values, g->value_count, &g->value_capacity, sizeof *g->values))
        return -1;
    struct oct_value *value = &g->values[g->value_count];
    *value = (struct oct_value){.kind = kind,
        .n = n,
        .h = h,
        .w = w,
        .c = c,
        .producer = g->node_count,
        .last_consumer = -1,
        .need_grad = kind != OCT_VALUE_IMAGE,
        .real_dtype = kind == OCT_VALUE_FEATURES ? OCT_F32 : g->numerics->act_dtype,
        .grad_dtype = kind == OCT_VALUE_FEATURES ? OCT_F32 : g->numerics->act_dtype};
    snprintf(value->name, sizeof value->name, "%s", name);
    if (kind == OCT_VALUE_PRE) {
        value->pre = calloc(1, sizeof *value->pre);
        if (value->pre)
            value->pre->joined = value->pre->joined_bias = value->pre->merged = -1;
        else
            g->status = oct_fail(OCT_NOMEM, "no memory for the network");
    }
    return g->value_count++;
}

struct oct_node *oct_graph_node(struct oct_graph *g, const struct oct_node_type *type,
    const char *name, size_t self_bytes, int in0, int in1, int out)
{
    if (!grow(g, (void **)&g->nodes, g->node_count, &g->node_capacity, sizeof *g->nodes))
        return NULL;
    struct oct_node *node = &g->nodes[g->node_count];
    *node = (struct oct_node){.type = type, .index = g->node_count, .in = {in0, in1}, .out = out};
    snprintf(node->name, sizeof node->name, "%s", name);
    node->self = calloc(1, self_bytes ? self_bytes : 1);
    if (!node->self) {
        g->status = oct_fail(OCT_NOMEM, "no memory for node %s", name);
        return NULL;
    }
    for (int i = 0; i < 2; i++)
        if (node->in[i] >= 0)
            g->values[node->in[i]].last_consumer = node->index;
    g->node_count++;
    return node;
}

int oct_graph_param(struct oct_graph *g, const char *node, const char *suffix, bool decay, int dims,
    const int64_t *dim)
{
    if (!grow(g, (void **)&g->params, g->param_count, &g->param_capacity, sizeof *g->params))
        return -1;
    struct oct_param *param = &g->params[g->param_count];
    *param = (struct oct_param){.dims = dims, .count = 1, .decay = decay};
    for (int i = 0; i < dims; i++) {
        param->dim[i] = dim[i];
        param->count *= dim[i];
    }
    snprintf(param->name, sizeof param->name, "%s%s%s", node, *node ? "." : "", suffix);
    size_t bytes = 4 * (size_t)param->count;
    param->value = oct_plan_book(g->plan, bytes, OCT_PERSISTENT, 0, "%s", param->name);
    param->momentum = oct_plan_book(g->plan, bytes, OCT_PERSISTENT, 0, "%s.mom", param->name);
    param->grad = oct_plan_book(g->plan, bytes, OCT_PERSISTENT, 0, "%s.grad", param->name);
    param->amax = oct_plan_book(g->plan, 4, OCT_PERSISTENT, 0, "%s.amax", param->name);
    if (g->with_average)
        param->average = oct_plan_book(g->plan, bytes, OCT_PERSISTENT, 0, "%s.ema", param->name);
    return g->param_count++;
}

void oct_graph_initial(struct oct_graph *g, int param, enum oct_initial initial, float value)
{
    if (g->status != OCT_OK)
        return;
    g->params[param].initial = initial;
    g->params[param].initial_value = value;
}

void oct_graph_lr_factor(struct oct_graph *g, int param, float factor)
{
    if (g->status != OCT_OK)
        return;
    struct oct_param *p = &g->params[param];
    p->lr_factor = oct_plan_book(g->plan, 4, OCT_PERSISTENT, 0, "%s.lr_factor", p->name);
    p->initial_lr_factor = factor;
}

void oct_graph_scale_initial(struct oct_graph *g, const char *name, float factor)
{
    for (int i = 0; i < g->param_count; i++)
        if (strcmp(g->params[i].name, name) == 0) {
            g->params[i].initial_value *= factor;
            return;
        }
    if (g->status == OCT_OK)
        g->status = oct_fail(OCT_INTERNAL, "there is no parameter %s to initialise", name);
}

void oct_graph_state(struct oct_graph *g, struct oct_buffer *buffer, enum oct_dtype dtype, int dims,
    const int64_t *dim, const char *name, ...)
{
    if (!buffer ||
        !grow(g, (void **)&g->states, g->state_count, &g->state_capacity, sizeof *g->states))
        return;
    struct oct_state *state = &g->states[g->state_count++];
    *state = (struct oct_state){.dtype = dtype, .dims = dims, .buffer = buffer};
    for (int i = 0; i < dims; i++)
        state->dim[i] = dim[i];
    va_list args;
    va_start(args, name);
    vsnprintf(state->name, sizeof state->name, name, args);
    va_end(args);
    oct_plan_keep(g->plan, buffer);
}

void oct_graph_range_state(
    struct oct_graph *g, const struct oct_range_state *range, const char *name)
{
    const int64_t count = range->count, one = 1;
    oct_graph_state(g, range->clip, OCT_F32, 1, &count, "scheme.%s.clip", name);
    oct_graph_state(g, range->label, OCT_U8, 1, &count, "scheme.%s.label", name);
    oct_graph_state(g, range->visited, OCT_U8, 1, &count, "scheme.%s.visited", name);
    oct_graph_state(g, range->share, OCT_F32, 1, &one, "scheme.%s.share", name);
    oct_graph_state(g, range->distance, OCT_F32, 1, &one, "scheme.%s.distance", name);
    oct_graph_state(g, range->average, OCT_F32, 1, &one, "scheme.%s.average", name);
    oct_graph_state(g, range->average_scale, OCT_F32, 1, &one, "scheme.%s.average_scale", name);
    oct_graph_state(g, range->average_inverse, OCT_F32, 1, &one, "scheme.%s.average_inverse", name);
    oct_graph_state(g, range->average_visited, OCT_U8, 1, &one, "scheme.%s.average_visited", name);
}

int64_t oct_value_elements(const struct oct_value *value)
{
    return (int64_t)value->n * value->h * value->w * value->c;
}

/* A gradient that goes through codes before its value's producer reads it. */
static void book_codes_of_grad(struct oct_graph *g, struct oct_value *value, int moment)
{
    char name[96];
    if (!value->grad_on_codes)
        return;
    snprintf(name, sizeof name, "%s.grad", value->name);
    value->grad_amax =
        oct_plan_book(g->plan, 4 * (size_t)value->c, moment, moment, "%s.grad_amax", value->name);
    value->grad_saturated =
        oct_plan_book(g->plan, 8, OCT_PERSISTENT, 0, "%s.grad_saturated", value->name);
    oct_range_book(g->plan, &value->grad_range, 1, &g->numerics->role[OCT_ROLE_DX], false, name);
    oct_plan_workspace(g->plan,
        g->backend->channel_workspace(g->backend, oct_value_elements(value) / value->c, value->c));
}

void oct_value_book_grad(struct oct_graph *g, struct oct_value *value)
{
    if (!value->need_grad || value->last_consumer < 0)
        return;
    int moment = oct_backward_moment(g, &g->nodes[value->producer]);
    value->grad = oct_plan_book(g->plan,
        (size_t)oct_value_elements(value) * oct_dtype_bytes(value->grad_dtype), moment, moment,
        "%s.grad", value->name);
    book_codes_of_grad(g, value, moment);
}

void oct_value_write_grad(struct oct_graph *g, struct oct_value *value, struct oct_node *node)
{
    oct_plan_use(value->grad, oct_backward_moment(g, node));
}

/* Backward visits nodes from the last to the first: the last consumer writes, the others add. */
enum oct_write oct_value_grad_mode(const struct oct_value *value, const struct oct_node *node)
{
    return value->last_consumer == node->index ? OCT_OVERWRITE : OCT_ACCUMULATE;
}

struct oct_acc_stats oct_pre_stats(const struct oct_pre *pre)
{
    struct oct_acc_stats stats = {.sum = oct_buffer_data(pre->stats.sum),
        .sumsq = oct_buffer_data(pre->stats.sumsq),
        .min = oct_buffer_data(pre->stats.min),
        .max = oct_buffer_data(pre->stats.max),
        .shift = pre->stats.shift};
    return stats;
}

/* The first and the last product of a network may be held at higher precision. */
static void mark_edges(struct oct_graph *g)
{
    struct oct_node *first = NULL, *last = NULL;
    for (int i = 0; i < g->node_count; i++) {
        if (!g->nodes[i].is_product)
            continue;
        first = first ? first : &g->nodes[i];
        last = &g->nodes[i];
    }
    if (first)
        first->edge = last->edge = true;
}

static enum oct_status allocate(struct oct_graph *g, size_t bytes, const char *what, void **out)
{
    oct_backend *backend = g->backend;
    if (bytes == 0)
        return OCT_OK;
    if (backend->alloc(backend, bytes, out) != OCT_OK)
        return oct_fail(OCT_NOMEM,
            "%s need %.1f MiB at batch size %d, which device %s does not have: use a smaller "
            "--batch-size",
            what, (double)bytes / 1048576.0, g->batch, backend->name);
    return backend->clear(backend, *out, bytes);
}

static void book_batch(struct oct_graph *g)
{
    const struct oct_value *image = &g->values[g->input];
    size_t n = (size_t)g->batch;
    int last = 2 * g->node_count;

    g->step =
        oct_plan_book(g->plan, sizeof(struct oct_step_state), OCT_PERSISTENT, 0, "step state");
    /* images and labels stay for the whole step, so that a flagged one can be looked at again */
    g->images = oct_plan_book(g->plan, (size_t)oct_value_elements(image), 0, last, "images");
    g->labels = oct_plan_book(g->plan, 4 * n, 0, last, "labels");
    g->loss = oct_plan_book(g->plan, 4 * n, 0, last, "loss");
    g->top1 = oct_plan_book(g->plan, n, 0, last, "top1");
    g->top5 = oct_plan_book(g->plan, n, 0, last, "top5");
}

enum oct_status oct_graph_plan(struct oct_graph *g)
{
    size_t persistent = 0, transient = 0;

    OCT_TRY(g->status);
    if (g->input < 0 || g->logits < 0)
        return oct_fail(OCT_INTERNAL, "a network needs an image and a loss");
    mark_edges(g);
    book_batch(g);
    for (int i = g->node_count - 1; i >= 0; i--) /* consumers before producers */
        OCT_TRY(g->nodes[i].type->declare(g, &g->nodes[i]));
    for (int i = 0; i < g->node_count; i++)
        OCT_TRY(g->nodes[i].type->book(g, &g->nodes[i]));
    OCT_TRY(g->status);
    OCT_TRY(oct_plan_layout(g->plan, &persistent, &transient));
    OCT_TRY(allocate(g, persistent, "weights and state", &g->persistent));
    OCT_TRY(allocate(g, transient, "activations", &g->transient));
    oct_plan_place(g->plan, g->persistent, g->transient);
    return OCT_OK;
}
