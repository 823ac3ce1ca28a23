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

enum oct_status oct_put_on_grid(struct oct_graph *g, const struct oct_reals *x,
    const struct oct_range *range, int64_t *saturated)
{
    struct oct_step_state *step = oct_buffer_data(g->step);
    const struct oct_regrid_args args = {.count = x->count,
        .x = oct_buffer_data(x->buffer),
        .dtype = x->dtype,
        .range = *range,
        .saturated = saturated,
        .flag = &step->flag};
    return g->backend->regrid(g->backend, &args);
}

enum oct_status oct_emulate_codes(struct oct_graph *g, const struct oct_buffer *from,
    struct oct_buffer *to, int64_t count, const struct oct_range *range)
{
    const struct oct_reals copy = {to, OCT_F32, count};
    OCT_TRY(g->backend->copy(
        g->backend, oct_buffer_data(to), oct_buffer_data(from), 4 * (size_t)count));
    return oct_put_on_grid(g, &copy, range, NULL);
}

/* The summed gradient becomes what its codes stand for, at this step's largest magnitude. */
static enum oct_status put_grad_on_codes(
    struct oct_graph *g, const struct oct_node *node, const struct oct_value *value)
{
    struct oct_step_state *step = oct_buffer_data(g->step);
    const struct oct_reals grad = {value->grad, value->grad_dtype, oct_value_elements(value)};
    const struct oct_channel_stats_args stats = {.rows = grad.count / value->c,
        .channels = value->c,
        .x = oct_buffer_data(value->grad),
        .dtype = value->grad_dtype,
        .amax = oct_buffer_data(value->grad_amax),
        .workspace = oct_plan_workspace_data(g->plan),
        .flag = &step->flag};
    const struct oct_range_evidence evidence = {.amax = stats.amax, .amax_count = value->c};
    const struct oct_range range = oct_range_now(&value->grad_range);
    double begin = oct_op_begin(g);

    OCT_TRY(g->backend->channel_stats(g->backend, &stats));
    OCT_TRY(oct_range_adapt(g->backend, &value->grad_range, &evidence));
    OCT_TRY(oct_put_on_grid(g, &grad, &range, oct_buffer_data(value->grad_saturated)));
    oct_op_end(g, node, "gradient codes", begin);
    oct_trace(g, node, "grad", grad.dtype, grad.buffer, grad.count);
    return OCT_OK;
}

static enum oct_status backward_node(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_value *out = node->out >= 0 ? &g->values[node->out] : NULL;
    if (out && out->grad_on_codes)
        OCT_TRY(put_grad_on_codes(g, node, out));
    return node->type->backward(g, node);
}

enum oct_status oct_graph_backward(struct oct_graph *g)
{
    for (int i = g->node_count - 1; i >= 0; i--)
        OCT_TRY(backward_node(g, &g->nodes[i]));
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

static float decay_of(const struct oct_param *param, const struct oct_optimiser *optimiser)
{
    return param->decay ? optimiser->weight_decay : param->own_decay;
}

static enum oct_status update_float(
    struct oct_graph *g, const struct oct_param *param, const struct oct_optimiser *optimiser)
{
    struct oct_sgd_args args = {.count = param->count,
        .w = oct_buffer_data(param->value),
        .momentum = oct_buffer_data(param->momentum),
        .dw = oct_buffer_data(param->grad),
        .step = oct_buffer_data(g->step),
        .mu = optimiser->momentum,
        .weight_decay = decay_of(param, optimiser),
        .nesterov = optimiser->nesterov,
        .lr_factor = oct_buffer_data(param->lr_factor),
        .amax = oct_buffer_data(param->amax)};
    if (param->barrier) {
        args.barrier.lam = g->numerics->barrier.lam;
        args.barrier.tau = param->tau;
        args.barrier.sums = oct_buffer_data(param->barrier);
    }
    return g->backend->sgd(g->backend, &args);
}

/* Gradients of weights are normalised, those of normalisations and biases only rounded. */
static enum oct_status update_fixed(
    struct oct_graph *g, const struct oct_param *param, const struct oct_optimiser *optimiser)
{
    const struct oct_update_policy *policy = &g->numerics->update;
    const bool weight = param->gradient_amax;
    const enum oct_normalise normalise = !weight                   ? OCT_NOT_NORMALISED
                                         : policy->keeps_magnitude ? OCT_NORMALISED_KEPT
                                                                   : OCT_NORMALISED;
    struct oct_sgd_fixed_args args = {.count = param->count,
        .w = oct_buffer_data(param->value),
        .momentum = oct_buffer_data(param->momentum),
        .dw = oct_buffer_data(param->grad),
        .step = oct_buffer_data(g->step),
        .tensor = (uint32_t)(g->node_count + (param - g->params)), /* nodes have those below */
        .mu = policy->no_momentum ? 0.0f : optimiser->momentum,
        .nesterov = optimiser->nesterov,
        .weight_decay = decay_of(param, optimiser),
        .lr_factor = oct_buffer_data(param->lr_factor),
        .normalise = normalise,
        .gradient_steps = policy->gradient_steps,
        .momentum_steps = policy->momentum_steps,
        .weight_steps = policy->weight_steps,
        .increment = weight ? policy->increment : OCT_INCREMENT_REAL,
        .momentum_unit = policy->momentum_unit,
        .unit = oct_buffer_data(param->unit),
        .gradient_amax = oct_buffer_data(param->gradient_amax),
        .counts = oct_buffer_data(param->codes),
        .amax = oct_buffer_data(param->amax)};
    return g->backend->sgd_fixed(g->backend, &args);
}

enum oct_status oct_graph_update(struct oct_graph *g, const struct oct_optimiser *optimiser)
{
    const bool fixed = g->numerics->update.gradient_steps > 0.0f;
    double begin = oct_op_begin(g);
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        if (fixed && !param->moves_in_float)
            OCT_TRY(update_fixed(g, param, optimiser));
        else
            OCT_TRY(update_float(g, param, optimiser));
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
