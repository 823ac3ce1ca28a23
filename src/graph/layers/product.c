#include "graph/layers/compensation.h"
#include "schemes/scheme.h"

#include <math.h>
#include <stdio.h>

/* Of initial weights, by the fan out. */
static float he_deviation(const struct oct_conv_shape *shape)
{
    return sqrtf(2.0f / (float)((int64_t)shape->k * shape->r * shape->s));
}

struct oct_node *oct_product_node(struct oct_graph *g, const struct oct_node_type *type,
    const char *name, size_t self_bytes, const struct oct_conv_shape *shape, int x, int y)
{
    const int64_t krsc[] = {shape->k, shape->r, shape->s, shape->c};
    struct oct_node *node = oct_graph_node(g, type, name, self_bytes, x, -1, y);
    if (!node)
        return NULL;
    struct oct_product *self = node->self;
    node->is_product = true;
    node->shape = *shape;
    self->weight = oct_graph_param(g, name, "weight", true, 4, krsc);
    oct_graph_initial(g, self->weight, OCT_INITIAL_NORMAL, he_deviation(shape));
    return self->weight >= 0 ? node : NULL;
}

enum oct_status oct_product_resolve(struct oct_graph *g, struct oct_node *node, bool has_dgrad)
{
    struct oct_product *self = node->self;
    oct_layer_numerics(g->numerics, node->name, node->edge, &node->layer);
    self->has_dgrad = has_dgrad;
    node->has_dgrad = has_dgrad;
    if (oct_is_integer_only(g) && (!node->layer.fprop || !node->layer.wgrad))
        return oct_fail(OCT_UNSUPPORTED,
            "%s: %s, but the forward pass of scheme %s is integer only: leave that option out",
            node->name, node->layer.reason, g->numerics->scheme->name);
    if (g->numerics->update.increment == OCT_INCREMENT_GRID &&
        node->layer.role[OCT_ROLE_W_FWD].format == OCT_FORMAT_INT16)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: weights kept as 8-bit codes, but this layer's have two planes: give --first-last "
            "int8",
            node->name);
    return oct_check_factoring(&node->layer, node->name);
}

static enum oct_dtype operand_dtype(const struct oct_graph *g, bool integer)
{
    return integer ? OCT_S8 : g->numerics->act_dtype;
}

static struct oct_buffer *book_pack(
    struct oct_graph *g, const struct oct_node *node, bool dgrad, bool integer, const char *what)
{
    size_t bytes =
        g->backend->weight_pack_bytes(g->backend, &node->shape, operand_dtype(g, integer), dgrad);
    return oct_plan_book(g->plan, bytes, OCT_PERSISTENT, 0, "%s.%s", node->name, what);
}

static void book_packs(struct oct_graph *g, struct oct_node *node)
{
    struct oct_product *self = node->self;
    const struct oct_layer_numerics *layer = &node->layer;
    struct oct_policy policy = layer->role[OCT_ROLE_W_FWD];
    bool fprop = oct_is_int8(layer, layer->fprop), dgrad = oct_is_int8(layer, layer->dgrad);
    bool wide = policy.format == OCT_FORMAT_INT16;

    if (g->params[self->weight].initial_value == 0.0f) /* no range of its own to begin with */
        policy.floor = fmaxf(policy.floor, policy.deviations * he_deviation(&node->shape));
    oct_range_book(g->plan, &self->w_range, 1, &policy, false, node->name);
    if (policy.clip == OCT_CLIP_EMA)
        oct_graph_range_state(g, &self->w_range, g->params[self->weight].name);
    if (layer->emulated)
        self->w_emulated = oct_plan_book(g->plan, 4 * (size_t)g->params[self->weight].count,
            OCT_PERSISTENT, 0, "%s.w_emulated", node->name);
    self->w_fprop = book_pack(g, node, false, fprop, "w_fprop");
    if (fprop && wide)
        self->w_fprop_lo = book_pack(g, node, false, true, "w_fprop_lo");
    if (!self->has_dgrad)
        return;
    self->w_dgrad = book_pack(g, node, true, dgrad, "w_dgrad");
    if (dgrad && wide)
        self->w_dgrad_lo = book_pack(g, node, true, true, "w_dgrad_lo");
}

static struct oct_operand shape_of_operand(
    const struct oct_graph *g, bool integer, enum oct_format format, int per_k)
{
    struct oct_operand operand = {.dtype = operand_dtype(g, integer), .planes = 1};
    if (integer) {
        operand.planes = oct_format_planes(format);
        operand.scale_per_k = per_k;
    }
    return operand;
}

static struct oct_operand float_operand(enum oct_dtype dtype, const struct oct_buffer *buffer)
{
    struct oct_operand operand = {.dtype = dtype, .planes = 1, .data = oct_buffer_data(buffer)};
    return operand;
}

/* The same product as evaluation has it. */
static enum oct_status check_merged(struct oct_graph *g, const struct oct_conv_fprop_args *fprop)
{
    static const float present = 0.0f;
    struct oct_conv_fprop_args merged = *fprop;
    size_t bytes = 0;

    merged.y_dtype = OCT_S8;
    merged.norm = (struct oct_conv_norm){&present, &present, &present, &present, &present};
    merged.stats = NULL;
    OCT_TRY(g->backend->conv_fprop_check(g->backend, &merged, &bytes));
    oct_plan_workspace(g->plan, bytes);
    return OCT_OK;
}

/* Asks the backend, with pointers unset, whether it can do the three products. */
static enum oct_status check_products(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_product *self = node->self;
    const struct oct_layer_numerics *layer = &node->layer;
    const struct oct_policy *role = layer->role;
    const struct oct_value *x = &g->values[node->in[0]], *y = &g->values[node->out];
    int per_k = role[OCT_ROLE_DY_DW].granularity == OCT_PER_CHANNEL;
    bool biased = y->kind == OCT_VALUE_FEATURES;
    static const float bias_present = 0.0f;
    struct oct_acc_stats stats = {0};
    const enum oct_dtype y_dtype = oct_is_compensated(g) && y->pre ? OCT_F32 : y->real_dtype;
    size_t bytes = 0;

    struct oct_conv_fprop_args fprop = {.shape = node->shape,
        .x = shape_of_operand(g, oct_is_int8(layer, layer->fprop), role[OCT_ROLE_X].format, 0),
        .w = shape_of_operand(g, oct_is_int8(layer, layer->fprop), role[OCT_ROLE_W_FWD].format, 0),
        .bias = biased ? &bias_present : NULL,
        .y_dtype = y->pre && oct_is_integer_only(g) ? OCT_S8 : y_dtype,
        .stats = oct_is_int8(layer, layer->fprop) && !biased ? &stats : NULL};
    OCT_TRY(g->backend->conv_fprop_check(g->backend, &fprop, &bytes));
    oct_plan_workspace(g->plan, bytes);
    if (y->pre && y->pre->merged >= 0)
        OCT_TRY(check_merged(g, &fprop));

    for (int mode = 0; mode < 2; mode++) {
        struct oct_conv_wgrad_args wgrad = {.shape = node->shape,
            .x = shape_of_operand(g, oct_is_int8(layer, layer->wgrad), role[OCT_ROLE_X].format, 0),
            .dy = shape_of_operand(
                g, oct_is_int8(layer, layer->wgrad), role[OCT_ROLE_DY_DW].format, per_k),
            .mode = mode ? OCT_ACCUMULATE : OCT_OVERWRITE};
        OCT_TRY(g->backend->conv_wgrad_check(g->backend, &wgrad, &bytes));
        oct_plan_workspace(g->plan, bytes);
    }

    for (int mode = 0; self->has_dgrad && mode < 2; mode++) {
        struct oct_conv_dgrad_args dgrad = {.shape = node->shape,
            .dy = shape_of_operand(
                g, oct_is_int8(layer, layer->dgrad), role[OCT_ROLE_DY_DX].format, 0),
            .w = shape_of_operand(
                g, oct_is_int8(layer, layer->dgrad), role[OCT_ROLE_W_DX].format, 0),
            .dx_dtype = x->grad_dtype,
            .mode = mode ? OCT_ACCUMULATE : OCT_OVERWRITE};
        OCT_TRY(g->backend->conv_dgrad_check(g->backend, &dgrad, &bytes));
        oct_plan_workspace(g->plan, bytes);
    }
    return OCT_OK;
}

/* The float weight gradient that sampled steps compare with. */
static struct oct_conv_wgrad_args sample_args(
    const struct oct_graph *g, const struct oct_node *node, const struct oct_buffer *dy)
{
    const struct oct_product *self = node->self;
    struct oct_conv_wgrad_args args = {.shape = node->shape,
        .x = float_operand(OCT_F32, self->x_sample),
        .dy = float_operand(OCT_F32, dy),
        .dw = oct_buffer_data(self->dw_sample),
        .mode = OCT_OVERWRITE,
        .workspace = oct_plan_workspace_data(g->plan)};
    return args;
}

static enum oct_status book_sample(struct oct_graph *g, struct oct_node *node)
{
    struct oct_product *self = node->self;
    int back = oct_backward_moment(g, node);
    size_t bytes = 0;

    if (!g->with_samples || !node->layer.wgrad)
        return OCT_OK;
    if (!node->layer.emulated) /* else x is f32 as it is */
        self->x_sample =
            oct_plan_book(g->plan, 4 * (size_t)oct_value_elements(&g->values[node->in[0]]), back,
                back, "%s.x_sample", node->name);
    self->dw_sample = oct_plan_book(
        g->plan, 4 * (size_t)g->params[self->weight].count, back, back, "%s.dw_sample", node->name);
    struct oct_conv_wgrad_args args = sample_args(g, node, NULL);
    OCT_TRY(g->backend->conv_wgrad_check(g->backend, &args, &bytes));
    oct_plan_workspace(g->plan, bytes);
    return OCT_OK;
}

/* What the update needs beside the gradient: a factor of the rate, words of the normalisation, a
 * barrier. */
static void book_update(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_product *self = node->self;
    struct oct_param *weight = &g->params[self->weight];
    const int64_t one = 1;

    if (node->layer.wgrad && node->layer.role[OCT_ROLE_DY_DW].search_period > 0 &&
        g->values[node->out].pre) {
        weight->lr_factor =
            oct_plan_book(g->plan, 4, OCT_PERSISTENT, 0, "%s.lr_factor", weight->name);
        oct_graph_state(
            g, weight->lr_factor, OCT_F32, 1, &one, "scheme.%s.lr_factor", weight->name);
        g->values[node->out].pre->lr_factor = weight->lr_factor;
    }
    weight->moves_in_float = !node->layer.wgrad;
    if (node->layer.wgrad && g->numerics->update.gradient_steps > 0.0f) {
        weight->gradient_amax =
            oct_plan_book(g->plan, 4, OCT_PERSISTENT, 0, "%s.gradient_amax", weight->name);
        weight->codes = oct_plan_book(
            g->plan, 8 * OCT_FIXED_COUNTS, OCT_PERSISTENT, 0, "%s.update_codes", weight->name);
        weight->unit = self->w_range.scale;
    }
    if (g->numerics->barrier.lam > 0.0f) {
        weight->tau =
            oct_barrier_tau(&g->numerics->barrier, weight->count / (int64_t)node->shape.k);
        weight->barrier = oct_plan_book(g->plan, 16, OCT_PERSISTENT, 0, "%s.barrier", weight->name);
    }
}

enum oct_status oct_product_book(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_product *self = node->self;
    book_packs(g, node);
    book_update(g, node);
    OCT_TRY(book_sample(g, node));
    oct_plan_workspace(
        g->plan, g->backend->channel_workspace(g->backend, g->params[self->weight].count, 1));
    return check_products(g, node);
}

struct oct_operand oct_product_w(const struct oct_graph *g, const struct oct_node *node, bool dgrad)
{
    const struct oct_product *self = node->self;
    const struct oct_layer_numerics *layer = &node->layer;
    bool integer = oct_is_int8(layer, dgrad ? layer->dgrad : layer->fprop);
    const struct oct_buffer *lo = dgrad ? self->w_dgrad_lo : self->w_fprop_lo;
    struct oct_operand operand = {.dtype = operand_dtype(g, integer),
        .planes = lo ? 2 : 1,
        .data = oct_buffer_data(dgrad ? self->w_dgrad : self->w_fprop),
        .data_lo = oct_buffer_data(lo)};
    if (integer)
        operand.scale = oct_buffer_data(self->w_range.scale);
    return operand;
}

static struct oct_operand code_operand(const struct oct_layer_numerics *layer,
    const struct oct_buffer *hi, const struct oct_buffer *lo, const struct oct_range_state *range)
{
    if (layer->emulated)
        return float_operand(OCT_F32, hi);
    struct oct_operand operand = {.dtype = OCT_S8,
        .planes = lo ? 2 : 1,
        .data = oct_buffer_data(hi),
        .data_lo = oct_buffer_data(lo),
        .scale = oct_buffer_data(range->scale),
        .scale_per_k = range->count > 1};
    return operand;
}

enum oct_status oct_product_wgrad(struct oct_graph *g, struct oct_node *node,
    const struct oct_operand *x, const struct oct_gradient *dy)
{
    const struct oct_product *self = node->self;
    const struct oct_param *weight = &g->params[self->weight];
    bool quantised = node->layer.wgrad;
    double begin = oct_op_begin(g);
    struct oct_conv_wgrad_args args = {.shape = node->shape,
        .x = *x,
        .dy = quantised ? code_operand(&node->layer, dy->channel, dy->channel_lo, dy->channel_range)
                        : float_operand(dy->real_dtype, dy->real),
        .dw = oct_buffer_data(weight->grad),
        .mode = g->grad_mode,
        .workspace = oct_plan_workspace_data(g->plan)};

    OCT_TRY(g->backend->conv_wgrad(g->backend, &args));
    oct_op_end(g, node, "wgrad", begin);
    oct_trace(g, node, "dw", OCT_F32, weight->grad, weight->count);
    return OCT_OK;
}

/* Codes as numbers: an average over windows of one pixel. */
static enum oct_status numbers_of_codes(
    struct oct_graph *g, const struct oct_node *node, const struct oct_operand *x)
{
    const struct oct_product *self = node->self;
    const struct oct_conv_shape *in = &node->shape;
    struct oct_pool_args args = {.shape = oct_conv_pointwise(in->n, in->h, in->w, in->c, in->c),
        .average = 1,
        .x = x->data,
        .x_dtype = OCT_S8,
        .x_scale = x->scale,
        .y = oct_buffer_data(self->x_sample),
        .y_dtype = OCT_F32};
    args.shape.d = in->d;
    args.shape.groups = in->c;
    return g->backend->pool(g->backend, &args);
}

enum oct_status oct_product_sample(struct oct_graph *g, struct oct_node *node,
    const struct oct_operand *x, const struct oct_buffer *dy)
{
    const struct oct_product *self = node->self;
    const struct oct_param *weight = &g->params[self->weight];

    if (!oct_is_sampled(g) || !self->dw_sample)
        return OCT_OK;
    struct oct_conv_wgrad_args args = sample_args(g, node, dy);
    if (self->x_sample)
        OCT_TRY(numbers_of_codes(g, node, x));
    else
        args.x = *x;
    OCT_TRY(g->backend->conv_wgrad(g->backend, &args));
    g->observer->gradients(g->observer->user, node, weight->grad->data, args.dw, weight->count);
    return OCT_OK;
}

enum oct_status oct_product_dgrad(
    struct oct_graph *g, struct oct_node *node, const struct oct_gradient *dy, struct oct_value *x)
{
    bool quantised = node->layer.dgrad;
    double begin = oct_op_begin(g);
    struct oct_conv_dgrad_args args = {.shape = node->shape,
        .dy = quantised ? code_operand(&node->layer, dy->tensor, dy->tensor_lo, dy->tensor_range)
                        : float_operand(dy->real_dtype, dy->real),
        .w = oct_product_w(g, node, true),
        .dx = oct_buffer_data(x->grad),
        .dx_dtype = x->grad_dtype,
        .mode = oct_value_grad_mode(x, node),
        .workspace = oct_plan_workspace_data(g->plan)};

    OCT_TRY(g->backend->conv_dgrad(g->backend, &args));
    oct_op_end(g, node, "dgrad", begin);
    oct_trace(g, node, "dx", x->grad_dtype, x->grad, oct_value_elements(x));
    return OCT_OK;
}

static enum oct_status pack(
    struct oct_graph *g, struct oct_node *node, bool fprop, bool dgrad, bool integer)
{
    const struct oct_product *self = node->self;
    struct oct_step_state *step = oct_buffer_data(g->step);
    const struct oct_param *weight = &g->params[self->weight];
    struct oct_weight_pack_args args = {.shape = node->shape,
        .w = oct_buffer_data(self->w_emulated ? self->w_emulated : weight->value),
        .dtype = operand_dtype(g, integer),
        .planes = integer && self->w_range.code_max == OCT_CODE16_MAX ? 2 : 1,
        .range = oct_range_now(&self->w_range),
        .fprop = fprop ? oct_buffer_data(self->w_fprop) : NULL,
        .fprop_lo = fprop ? oct_buffer_data(self->w_fprop_lo) : NULL,
        .dgrad = dgrad ? oct_buffer_data(self->w_dgrad) : NULL,
        .dgrad_lo = dgrad ? oct_buffer_data(self->w_dgrad_lo) : NULL,
        .flag = &step->flag};
    return g->backend->weight_pack(g->backend, &args);
}

enum oct_status oct_product_prepare(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_product *self = node->self;
    const struct oct_layer_numerics *layer = &node->layer;
    const struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(g->params[self->weight].amax), .amax_count = 1};
    const struct oct_param *weight = &g->params[self->weight];
    const struct oct_range range = oct_range_now(&self->w_range);
    bool fprop = oct_is_int8(layer, layer->fprop), dgrad = oct_is_int8(layer, layer->dgrad);

    OCT_TRY(oct_range_adapt(g->backend, &self->w_range, &evidence));
    if (self->w_emulated)
        OCT_TRY(oct_emulate_codes(g, weight->value, self->w_emulated, weight->count, &range));
    if (!self->has_dgrad || fprop == dgrad)
        return pack(g, node, true, self->has_dgrad, fprop);
    OCT_TRY(pack(g, node, true, false, fprop));
    return pack(g, node, false, true, dgrad);
}
