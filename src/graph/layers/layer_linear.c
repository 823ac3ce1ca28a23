/* Linear layer, hidden or the classifier: y = x w^T + bias on f32 features. As a product it is a
 * 1x1 convolution of 1x1 images; unlike a convolution it has no normalisation behind it that would
 * quantise its operands, so it does so itself, from exact maxima. */
#include "graph/layers/activation.h"
#include "graph/layers/product.h"
#include "schemes/scheme.h"

#include <math.h>
#include <stdio.h>

struct linear {
    struct oct_product product; /* first: product.c works on it */
    int bias;                   /* parameter [K] */
    struct oct_buffer *x_codes, *x_amax;
    struct oct_range_state x_range;
    struct oct_buffer *x_real, *dy_real; /* act_dtype copies for float products, if not f32 */
    struct oct_buffer *dy_channel, *dy_channel_lo, *dy_tensor, *dy_tensor_lo, *dy_amax;
    struct oct_range_state channel_range, tensor_range;
};

static enum oct_status linear_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *x = oct_in(g, node, 0);
    if (oct_is_integer_only(g))
        x->need_codes = true;
    return oct_product_resolve(g, node, x->need_grad);
}

static void book_range(struct oct_graph *g, const struct oct_node *node,
    struct oct_range_state *range, int count, const struct oct_policy *policy, bool averaged,
    const char *what)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", node->name, what);
    oct_range_book(g->plan, range, count, policy, averaged, name);
    oct_graph_range_state(g, range, name);
}

static void book_input(struct oct_graph *g, struct oct_node *node)
{
    struct linear *self = node->self;
    const struct oct_value *x = oct_in(g, node, 0);
    size_t elements = (size_t)oct_value_elements(x);
    bool integer = node->layer.fprop || node->layer.wgrad;
    bool real = !node->layer.fprop || !node->layer.wgrad;
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    if (oct_is_integer_only(g)) { /* an activation has made them */
        oct_plan_use(x->codes, back);
        return;
    }
    if (integer) {
        self->x_codes = oct_node_book(g, node, oct_codes_bytes(g, x), now, back, "x_codes");
        self->x_amax = oct_node_book(g, node, 4 * (size_t)x->c, now, now, "x_amax");
        book_range(g, node, &self->x_range, 1, &node->layer.role[OCT_ROLE_X], true, "x");
    }
    if (real && g->numerics->act_dtype != OCT_F32)
        self->x_real = oct_node_book(g, node, 2 * elements, now, back, "x_real");
    oct_plan_use(x->real, real && !self->x_real ? back : now);
    oct_plan_workspace(g->plan, g->backend->channel_workspace(g->backend, x->n, x->c));
}

static void book_error(struct oct_graph *g, struct oct_node *node)
{
    struct linear *self = node->self;
    const struct oct_layer_numerics *layer = &node->layer;
    const struct oct_value *y = oct_out(g, node);
    const struct oct_policy *dw = &layer->role[OCT_ROLE_DY_DW];
    const struct oct_policy *dx = &layer->role[OCT_ROLE_DY_DX];
    size_t elements = (size_t)oct_value_elements(y), codes = oct_codes_bytes(g, y);
    int back = oct_backward_moment(g, node);

    self->dy_amax = oct_node_book(g, node, 4 * (size_t)y->c, back, back, "dy_amax");
    if (layer->wgrad) {
        bool per_channel = dw->granularity == OCT_PER_CHANNEL;
        self->dy_channel = oct_node_book(g, node, codes, back, back, "dy_dw");
        if (dw->format == OCT_FORMAT_INT16 && !layer->emulated)
            self->dy_channel_lo = oct_node_book(g, node, elements, back, back, "dy_dw_lo");
        book_range(g, node, &self->channel_range, per_channel ? y->c : 1, dw, false, "dy_dw");
    }
    if (layer->dgrad) {
        self->dy_tensor = oct_node_book(g, node, codes, back, back, "dy_dx");
        if (dx->format == OCT_FORMAT_INT16 && !layer->emulated)
            self->dy_tensor_lo = oct_node_book(g, node, elements, back, back, "dy_dx_lo");
        book_range(g, node, &self->tensor_range, 1, dx, false, "dy_dx");
    }
    if ((!layer->wgrad || !layer->dgrad) && g->numerics->act_dtype != OCT_F32)
        self->dy_real = oct_node_book(g, node, 2 * elements, back, back, "dy_real");
    oct_plan_workspace(g->plan, g->backend->channel_workspace(g->backend, y->n, y->c));
}

static enum oct_status linear_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *x = oct_in(g, node, 0), *y = oct_out(g, node);
    int now = oct_forward_moment(node);

    if (oct_is_integer_only(g) && !x->codes)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: no activation in codes before it, as scheme %s needs: use fixup_resnet20",
            node->name, g->numerics->scheme->name);

    y->real = oct_node_book(g, node, 4 * (size_t)oct_value_elements(y), now, now, "logits");
    oct_value_book_grad(g, y);
    book_input(g, node);
    book_error(g, node);
    oct_value_write_grad(g, x, node);
    return oct_product_book(g, node);
}

/* rounds f32[rows, channels] to the dtype of float products: an activation without coefficients */
static enum oct_status convert(struct oct_graph *g, const struct oct_buffer *from,
    const struct oct_buffer *to, int rows, int channels)
{
    struct oct_act_fwd_args args = {.rows = rows,
        .channels = channels,
        .y = oct_buffer_data(from),
        .y_dtype = OCT_F32,
        .x = oct_buffer_data(to),
        .x_dtype = g->numerics->act_dtype,
        .flag = &((struct oct_step_state *)oct_buffer_data(g->step))->flag};
    return g->backend->act_fwd(g->backend, &args);
}

static enum oct_status channel_amax(struct oct_graph *g, const struct oct_buffer *x, int rows,
    int channels, const struct oct_buffer *amax)
{
    struct oct_channel_stats_args args = {.rows = rows,
        .channels = channels,
        .x = oct_buffer_data(x),
        .dtype = OCT_F32,
        .amax = oct_buffer_data(amax),
        .workspace = oct_plan_workspace_data(g->plan),
        .flag = &((struct oct_step_state *)oct_buffer_data(g->step))->flag};
    return g->backend->channel_stats(g->backend, &args);
}

static enum oct_status quantise_input(struct oct_graph *g, struct oct_node *node)
{
    struct linear *self = node->self;
    const struct oct_value *x = oct_in(g, node, 0);
    struct oct_step_state *step = oct_buffer_data(g->step);

    if (g->training) {
        OCT_TRY(channel_amax(g, x->real, x->n, x->c, self->x_amax));
        OCT_TRY(
            oct_range_from_amax(g->backend, &self->x_range, oct_buffer_data(self->x_amax), x->c));
        OCT_TRY(oct_range_average(g->backend, &self->x_range));
    }
    const struct oct_range range = oct_range_for(&self->x_range, g->training);
    if (node->layer.emulated)
        return oct_emulate_codes(g, x->real, self->x_codes, oct_value_elements(x), &range);
    struct oct_quantise_args args = {.rows = x->n,
        .channels = x->c,
        .rows_per_sample = 1,
        .x = oct_buffer_data(x->real),
        .dtype = OCT_F32,
        .range = range,
        .step = step,
        .q = oct_buffer_data(self->x_codes),
        .flag = &step->flag};
    return g->backend->quantise(g->backend, &args);
}

static struct oct_operand linear_x(
    const struct oct_graph *g, const struct oct_node *node, bool integer)
{
    const struct linear *self = node->self;
    const struct oct_value *x = &g->values[node->in[0]];
    struct oct_operand operand = {.dtype = OCT_S8, .planes = 1};
    if (oct_is_integer_only(g)) {
        operand.data = oct_buffer_data(x->codes);
        operand.scale = oct_range_for(&x->range, g->training).scale;
    } else if (integer) {
        operand.dtype = oct_codes_dtype(g);
        operand.data = oct_buffer_data(self->x_codes);
        if (operand.dtype == OCT_S8)
            operand.scale = oct_range_for(&self->x_range, g->training).scale;
    } else {
        operand.dtype = g->numerics->act_dtype;
        operand.data = oct_buffer_data(self->x_real ? self->x_real : x->real);
    }
    return operand;
}

static enum oct_status linear_forward(struct oct_graph *g, struct oct_node *node)
{
    struct linear *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *y = oct_out(g, node);
    double begin = oct_op_begin(g);

    if (self->x_codes)
        OCT_TRY(quantise_input(g, node));
    if (self->x_real)
        OCT_TRY(convert(g, x->real, self->x_real, x->n, x->c));
    struct oct_conv_fprop_args args = {.shape = node->shape,
        .x = linear_x(g, node, node->layer.fprop),
        .w = oct_product_w(g, node, false),
        .bias = oct_buffer_data(g->params[self->bias].value),
        .y = oct_buffer_data(y->real),
        .y_dtype = OCT_F32,
        .workspace = oct_plan_workspace_data(g->plan)};
    OCT_TRY(g->backend->conv_fprop(g->backend, &args));
    oct_op_end(g, node, "fprop", begin);
    oct_trace(g, node, "logits", OCT_F32, y->real, oct_value_elements(y));
    return OCT_OK;
}

static enum oct_status quantise_error(struct oct_graph *g, struct oct_node *node,
    const struct oct_range_state *state, enum oct_role role, struct oct_buffer *hi,
    const struct oct_buffer *lo)
{
    const struct linear *self = node->self;
    const struct oct_value *y = oct_out(g, node);
    struct oct_step_state *step = oct_buffer_data(g->step);
    const struct oct_range range = oct_range_now(state);
    OCT_TRY(oct_range_from_amax(g->backend, state, oct_buffer_data(self->dy_amax), y->c));
    if (node->layer.emulated)
        return oct_emulate_codes(g, y->grad, hi, oct_value_elements(y), &range);
    struct oct_quantise_args args = {.rows = y->n,
        .channels = y->c,
        .rows_per_sample = 1,
        .x = oct_buffer_data(y->grad),
        .dtype = OCT_F32,
        .range = range,
        .rounding = node->layer.role[role].rounding,
        .tensor = (uint32_t)node->index,
        .step = step,
        .q = oct_buffer_data(hi),
        .q_lo = oct_buffer_data(lo),
        .flag = &step->flag};
    return g->backend->quantise(g->backend, &args);
}

static enum oct_status make_error_operands(
    struct oct_graph *g, struct oct_node *node, struct oct_gradient *dy)
{
    struct linear *self = node->self;
    const struct oct_value *y = oct_out(g, node);

    OCT_TRY(channel_amax(g, y->grad, y->n, y->c, self->dy_amax));
    if (self->dy_channel)
        OCT_TRY(quantise_error(
            g, node, &self->channel_range, OCT_ROLE_DY_DW, self->dy_channel, self->dy_channel_lo));
    if (self->dy_tensor)
        OCT_TRY(quantise_error(
            g, node, &self->tensor_range, OCT_ROLE_DY_DX, self->dy_tensor, self->dy_tensor_lo));
    if (self->dy_real)
        OCT_TRY(convert(g, y->grad, self->dy_real, y->n, y->c));
    *dy = (struct oct_gradient){.channel = self->dy_channel,
        .channel_lo = self->dy_channel_lo,
        .tensor = self->dy_tensor,
        .tensor_lo = self->dy_tensor_lo,
        .real = self->dy_real ? self->dy_real : y->grad,
        .real_dtype = g->numerics->act_dtype,
        .channel_range = &self->channel_range,
        .tensor_range = &self->tensor_range};
    return OCT_OK;
}

static enum oct_status linear_backward(struct oct_graph *g, struct oct_node *node)
{
    struct linear *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *y = oct_out(g, node);
    struct oct_gradient dy;
    struct oct_operand wgrad_x = linear_x(g, node, node->layer.wgrad);

    OCT_TRY(make_error_operands(g, node, &dy));
    struct oct_channel_sum_args bias = {.rows = y->n,
        .channels = y->c,
        .x = oct_buffer_data(y->grad),
        .sum = oct_buffer_data(g->params[self->bias].grad),
        .mode = g->grad_mode,
        .workspace = oct_plan_workspace_data(g->plan)};
    OCT_TRY(g->backend->channel_sum(g->backend, &bias));
    OCT_TRY(oct_product_wgrad(g, node, &wgrad_x, &dy));
    OCT_TRY(oct_product_sample(g, node, &wgrad_x, y->grad));
    return oct_product_dgrad(g, node, &dy, x);
}

static const struct oct_node_type linear_type = {
    "linear", linear_declare, linear_book, linear_forward, linear_backward, oct_product_prepare};

int oct_add_linear(struct oct_graph *g, int x, const char *name, int k)
{
    if (g->status != OCT_OK)
        return -1;
    const struct oct_value in = g->values[x];
    const int64_t classes = k;
    const struct oct_conv_shape shape = oct_conv_pointwise(in.n, 1, 1, in.c, k);
    const float bound = 1.0f / sqrtf((float)in.c);
    int y = oct_graph_value(g, OCT_VALUE_FEATURES, name, in.n, 1, 1, k);
    struct oct_node *node =
        oct_product_node(g, &linear_type, name, sizeof(struct linear), &shape, x, y);
    if (!node)
        return -1;
    struct linear *self = node->self;
    self->bias = oct_graph_param(g, name, "bias", false, 1, &classes);
    oct_graph_initial(g, self->product.weight, OCT_INITIAL_UNIFORM, bound);
    oct_graph_initial(g, self->bias, OCT_INITIAL_UNIFORM, bound);
    return y;
}
