/* Running a planned network: forward, backward, update, and the hooks of those who watch. */
#include "graph/graph.h"

#include <stdio.h>
#include <time.h>

enum oct_status oct_graph_forward(struct oct_graph *g)
{
    for (int i = 0; i < g->node_count; i++)
        OCT_TRY(g->nodes[i].type->forward(g, &g->nodes[i]));
    return OCT_OK;
}

enum oct_status oct_graph_backward(struct oct_graph *g)
{
    for (int i = g->node_count - 1; i >= 0; i--)
        OCT_TRY(g->nodes[i].type->backward(g, &g->nodes[i]));
    g->fresh = false;
    return OCT_OK;
}

enum oct_status oct_graph_reduce_gradients(struct oct_graph *g)
{
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        OCT_TRY(g->comm->all_reduce(g->comm, oct_buffer_data(param->grad), param->count, OCT_F32,
            OCT_REDUCE_SUM, param->name));
    }
    return OCT_OK;
}

static enum oct_status prepare_nodes(struct oct_graph *g)
{
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].type->prepare)
            OCT_TRY(g->nodes[i].type->prepare(g, &g->nodes[i]));
    return OCT_OK;
}

enum oct_status oct_graph_update(
    struct oct_graph *g, float momentum, float weight_decay, bool nesterov)
{
    double begin = oct_op_begin(g);
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        struct oct_sgd_args args = {.count = param->count,
            .w = oct_buffer_data(param->value),
            .momentum = oct_buffer_data(param->momentum),
            .dw = oct_buffer_data(param->grad),
            .step = oct_buffer_data(g->step),
            .mu = momentum,
            .weight_decay = param->decay ? weight_decay : 0.0f,
            .nesterov = nesterov,
            .lr_factor = oct_buffer_data(param->lr_factor),
            .amax = oct_buffer_data(param->amax)};
        if (param->barrier) {
            args.barrier.lam = g->numerics->barrier.lam;
            args.barrier.tau = param->tau;
            args.barrier.sums = oct_buffer_data(param->barrier);
        }
        OCT_TRY(g->backend->sgd(g->backend, &args));
    }
    oct_op_end(g, NULL, "sgd", begin);
    begin = oct_op_begin(g);
    OCT_TRY(prepare_nodes(g));
    oct_op_end(g, NULL, "weight packs", begin);
    return OCT_OK;
}

enum oct_status oct_graph_keep_states(struct oct_graph *g)
{
    const struct oct_plan_kept kept = oct_plan_kept(g->plan);
    return kept.bytes ? g->backend->copy(g->backend, kept.before, kept.now, kept.bytes) : OCT_OK;
}

enum oct_status oct_graph_restore_states(struct oct_graph *g)
{
    const struct oct_plan_kept kept = oct_plan_kept(g->plan);
    return kept.bytes ? g->backend->copy(g->backend, kept.now, kept.before, kept.bytes) : OCT_OK;
}

enum oct_status oct_graph_average(struct oct_graph *g, float decay)
{
    const struct oct_step_state *step = oct_buffer_data(g->step);
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        struct oct_ema_args args = {.count = param->count,
            .average = oct_buffer_data(param->average),
            .value = oct_buffer_data(param->value),
            .decay = decay,
            .flag = &step->flag};
        OCT_TRY(g->backend->ema(g->backend, &args));
    }
    return OCT_OK;
}

enum oct_status oct_graph_prepare(struct oct_graph *g)
{
    oct_backend *backend = g->backend;
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        /* one "channel": the largest magnitude of the whole parameter */
        struct oct_channel_stats_args args = {.rows = param->count,
            .channels = 1,
            .x = oct_buffer_data(param->value),
            .dtype = OCT_F32,
            .amax = oct_buffer_data(param->amax),
            .workspace = oct_plan_workspace_data(g->plan),
            .flag = &((struct oct_step_state *)oct_buffer_data(g->step))->flag};
        OCT_TRY(backend->channel_stats(backend, &args));
    }
    return prepare_nodes(g);
}

void oct_trace(struct oct_graph *g, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const struct oct_buffer *buffer, int64_t count)
{
    if (g->observer && g->observer->tensor && buffer)
        g->observer->tensor(g->observer->user, node, what, dtype, buffer->data, count);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double oct_op_begin(const struct oct_graph *g)
{
    return g->observer && g->observer->op ? now() : 0.0;
}

void oct_op_end(
    const struct oct_graph *g, const struct oct_node *node, const char *pass, double begin)
{
    if (!g->observer || !g->observer->op)
        return;
    g->backend->sync(g->backend);
    g->observer->op(g->observer->user, node, pass, now() - begin);
}
