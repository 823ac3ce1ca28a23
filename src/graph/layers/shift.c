#include "graph/layers/shift.h"

enum oct_status oct_shifter_book(struct oct_graph *g, struct oct_node *node,
    struct oct_shifter *shifter, struct oct_value *value, enum oct_role role)
{
    const int64_t count = shifter->amax_count, one = 1;
    int now = oct_forward_moment(node);

    value->codes = oct_plan_book(
        g->plan, (size_t)oct_value_elements(value), now, now, "%s.codes", value->name);
    oct_range_book(g->plan, &value->range, 1, &g->numerics->role[role], false, value->name);
    oct_graph_range_state(g, &value->range, value->name);
    oct_graph_state(g, value->range.scale, OCT_F32, 1, &one, "scheme.%s.scale", value->name);
    shifter->by = oct_node_book(g, node, 4 * OCT_SHIFT_ENTRIES, now, now, "shift_by");
    shifter->bias = oct_node_book(g, node, 4 * (size_t)value->c, now, now, "shift_bias");
    shifter->amax = oct_node_book(g, node, 4 * (size_t)count, OCT_PERSISTENT, 0, "shift_amax");
    oct_graph_state(g, shifter->amax, OCT_F32, 1, &count, "scheme.%s.amax", value->name);
    return g->status;
}

static struct oct_shift shift_of(const struct oct_shifter *shifter)
{
    struct oct_shift shift = {
        .by = oct_buffer_data(shifter->by), .bias = oct_buffer_data(shifter->bias)};
    return shift;
}

/* The scale of codes that are about to be made. */
static enum oct_status adapt(
    struct oct_graph *g, const struct oct_shifter *shifter, const struct oct_value *value)
{
    const struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(shifter->amax), .amax_count = shifter->amax_count};
    return oct_range_adapt(g->backend, &value->range, &evidence);
}

/* ---- convolutions ---- */

/* With bias and ReLU of the affine node that is written along, if there is one. */
static struct oct_shift_finalize_args conv_coefficients(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_value *y = oct_out(g, node);
    const struct oct_pre *pre = y->pre;
    struct oct_shift_finalize_args args = {.channels = y->c,
        .result = 1,
        .y_scale = oct_buffer_data(pre->x_scale),
        .w_scale = oct_buffer_data(pre->w_scale),
        .x_scale = oct_buffer_data(y->range.scale),
        .shift = shift_of(&pre->shifter)};
    if (pre->joined < 0)
        return args;
    const struct oct_activation *act = g->nodes[pre->joined].self;
    args.a = oct_buffer_data(act->a);
    args.b = oct_buffer_data(act->b);
    args.ix = oct_buffer_data(act->ix);
    args.jx = oct_buffer_data(act->jx);
    args.relu = act->relu;
    if (pre->joined_bias >= 0) {
        args.bias = oct_buffer_data(g->params[pre->joined_bias].value);
        args.bias_count = (int)g->params[pre->joined_bias].count;
    }
    return args;
}

static enum oct_status conv_once(
    struct oct_graph *g, struct oct_node *node, struct oct_conv_fprop_args *args)
{
    struct oct_shift_finalize_args coefficients = conv_coefficients(g, node);
    const struct oct_value *y = oct_out(g, node);
    const struct oct_acc_stats stats = oct_pre_stats(y->pre);

    OCT_TRY(g->backend->shift_finalize(g->backend, &coefficients));
    args->y = oct_buffer_data(y->codes);
    args->y_dtype = OCT_S8;
    args->shift = coefficients.shift;
    args->relu = coefficients.relu;
    args->stats = g->training ? &stats : NULL;
    if (!g->training)
        return g->backend->conv_fprop(g->backend, args);
    OCT_TRY(g->backend->stats_clear(g->backend, &stats, y->c));
    OCT_TRY(g->backend->conv_fprop(g->backend, args));
    coefficients.acc = &stats;
    coefficients.amax = oct_buffer_data(y->pre->shifter.amax);
    return g->backend->shift_finalize(g->backend, &coefficients);
}

enum oct_status oct_shift_conv(
    struct oct_graph *g, struct oct_node *node, struct oct_conv_fprop_args *args)
{
    const struct oct_value *y = oct_out(g, node);
    if (g->training && g->fresh) /* the largest result of an earlier step: there is none */
        OCT_TRY(conv_once(g, node, args));
    if (g->training)
        OCT_TRY(adapt(g, &y->pre->shifter, y));
    return conv_once(g, node, args);
}

/* ---- activations that are not a convolution's ---- */

static enum oct_status activate_once(
    struct oct_graph *g, struct oct_node *node, const struct oct_shift_params *params)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    const struct oct_value *out = oct_out(g, node);
    const struct oct_shift_finalize_args coefficients = {.channels = y->c,
        .scale = params->scale ? oct_buffer_data(params->scale->value) : NULL,
        .bias = params->bias ? oct_buffer_data(params->bias->value) : NULL,
        .bias_count = params->bias ? (int)params->bias->count : 0,
        .window = y->window,
        .relu = self->relu,
        .y_scale = oct_range_for(&y->range, g->training).scale,
        .residual_scale = residual ? oct_range_for(&residual->range, g->training).scale : NULL,
        .x_scale = oct_buffer_data(out->range.scale),
        .shift = shift_of(&self->shifter),
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .ix = oct_buffer_data(self->ix),
        .jx = oct_buffer_data(self->jx)};
    const struct oct_act_shift_args pass = {.rows = oct_rows_of(y),
        .channels = y->c,
        .y = oct_buffer_data(y->window ? y->real : y->codes),
        .y_dtype = y->window ? OCT_S32 : OCT_S8,
        .residual = residual ? oct_buffer_data(residual->codes) : NULL,
        .shift = coefficients.shift,
        .relu = self->relu,
        .x = oct_buffer_data(out->codes),
        .mask = g->training ? oct_buffer_data(self->mask) : NULL,
        .amax = g->training ? oct_buffer_data(self->shifter.amax) : NULL};

    OCT_TRY(g->backend->shift_finalize(g->backend, &coefficients));
    return g->backend->act_shift(g->backend, &pass);
}

enum oct_status oct_shift_activation(
    struct oct_graph *g, struct oct_node *node, const struct oct_shift_params *params)
{
    const struct oct_activation *self = node->self;
    if (g->training && g->fresh)
        OCT_TRY(activate_once(g, node, params));
    if (g->training)
        OCT_TRY(adapt(g, &self->shifter, oct_out(g, node)));
    return activate_once(g, node, params);
}
