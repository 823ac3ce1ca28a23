#include "graph/layers/compensation.h"

static int add_param(struct oct_graph *g, const char *name, const char *suffix,
    const struct oct_value *y, float own_decay)
{
    const int64_t pqk[] = {y->h, y->w, y->c};
    int param = oct_graph_param(g, name, suffix, false, 3, pqk);
    if (param >= 0)
        g->params[param].own_decay = own_decay;
    return param;
}

void oct_compensation_add(
    struct oct_graph *g, const char *name, const struct oct_value *y, struct oct_compensation *self)
{
    const float penalty = g->numerics->compensation, deviation = 1e-3f;
    self->alpha = add_param(g, name, "compensation.alpha", y, 0.0f);
    self->mu = add_param(g, name, "compensation.mu", y, penalty);
    self->offset = add_param(g, name, "compensation.offset", y, penalty);
    oct_graph_initial(g, self->alpha, OCT_INITIAL_CONSTANT, 1.0f);
    oct_graph_initial(g, self->mu, OCT_INITIAL_NORMAL, deviation);
    oct_graph_initial(g, self->offset, OCT_INITIAL_NORMAL, deviation);
}

enum oct_status oct_compensation_check(const struct oct_node *node)
{
    const struct oct_layer_numerics *layer = &node->layer;
    if (!oct_is_int8(layer, layer->wgrad))
        return oct_fail(OCT_UNSUPPORTED,
            "%s: compensation=on trains on the codes of dY, and this layer has none: %s; give "
            "compensation=off or make this layer int8",
            node->name, layer->reason);
    if (layer->role[OCT_ROLE_DY_DW].granularity != OCT_PER_TENSOR)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: compensation sums codes of dY of one scale, here every channel has its own: give "
            "compensation=off",
            node->name);
    return OCT_OK;
}

void oct_compensation_book(
    struct oct_graph *g, const struct oct_node *node, struct oct_compensation *self)
{
    const int moment = oct_forward_moment(node);
    self->product = oct_plan_book(g->plan, 4 * (size_t)oct_value_elements(&g->values[node->out]),
        moment, moment, "%s.product", node->name);
}

enum oct_status oct_compensation_forward(
    struct oct_graph *g, const struct oct_node *node, const struct oct_compensation *self)
{
    const struct oct_value *y = &g->values[node->out];
    const struct oct_compensate_args args = {.samples = y->n,
        .count = oct_value_elements(y) / y->n,
        .x = oct_buffer_data(self->product),
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .alpha = oct_buffer_data(g->params[self->alpha].value),
        .mu = oct_buffer_data(g->params[self->mu].value),
        .offset = oct_buffer_data(g->params[self->offset].value)};
    return g->backend->compensate(g->backend, &args);
}

enum oct_status oct_compensation_backward(struct oct_graph *g, const struct oct_node *node,
    const struct oct_compensation *self, const struct oct_gradient *dy)
{
    const struct oct_value *y = &g->values[node->out];
    const struct oct_param *alpha = &g->params[self->alpha], *mu = &g->params[self->mu];
    const struct oct_param *offset = &g->params[self->offset];
    double begin = oct_op_begin(g);
    const struct oct_compensate_bwd_args args = {.samples = y->n,
        .count = offset->count,
        .dy = oct_buffer_data(dy->channel),
        .dy_lo = oct_buffer_data(dy->channel_lo),
        .scale = oct_buffer_data(dy->channel_range->scale),
        .alpha = oct_buffer_data(alpha->value),
        .mu = oct_buffer_data(mu->value),
        .dalpha = oct_buffer_data(alpha->grad),
        .dmu = oct_buffer_data(mu->grad),
        .doffset = oct_buffer_data(offset->grad),
        .mode = g->grad_mode};

    OCT_TRY(g->backend->compensate_bwd(g->backend, &args));
    oct_op_end(g, node, "compensation", begin);
    oct_trace(g, node, "dalpha", OCT_F32, alpha->grad, alpha->count);
    oct_trace(g, node, "dmu", OCT_F32, mu->grad, mu->count);
    oct_trace(g, node, "doffset", OCT_F32, offset->grad, offset->count);
    return OCT_OK;
}
