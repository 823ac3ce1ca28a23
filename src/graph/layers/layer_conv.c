/* Convolution, and the linear layer, which is a 1x1 convolution of 1x1 images with a bias.
 *   forward   y  = fprop(x, w)
 *   backward  dw = wgrad(x, dy),  dx = dgrad(dy, w)
 * The layer decides nothing about numbers: oct_layer_numerics says which products are integer, and
 * whoever made x and dy (layer_norm.c, layer_linear.c) has quantised them. */
#include "graph/layers/compensation.h"
#include "graph/layers/shift.h"

#include <stdio.h>

struct conv {
    struct oct_product product; /* first: product.c works on it */
    struct oct_compensation compensation;
};

static enum oct_status conv_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_product *self = node->self;
    struct oct_value *x = oct_in(g, node, 0);
    struct oct_pre *pre = oct_out(g, node)->pre;
    const struct oct_layer_numerics *layer = &node->layer;

    OCT_TRY(oct_product_resolve(g, node, x->need_grad));
    if (oct_is_compensated(g))
        OCT_TRY(oct_compensation_check(node));
    pre->layer = *layer;
    pre->integer = oct_is_int8(layer, layer->fprop) && !oct_is_compensated(g);
    pre->merged = pre->integer ? pre->merged : -1;
    *(layer->fprop ? &x->need_codes : &x->need_real) = true;
    *(layer->wgrad ? &x->need_codes : &x->need_real) = true;
    pre->need_channel = layer->wgrad;
    pre->channel_planes = oct_format_planes(layer->role[OCT_ROLE_DY_DW].format);
    pre->need_tensor = layer->dgrad && self->has_dgrad;
    x->grad_on_codes |= pre->need_tensor && oct_format_is_integer(layer->role[OCT_ROLE_DX].format);
    pre->tensor_planes = oct_format_planes(layer->role[OCT_ROLE_DY_DX].format);
    pre->need_real = !layer->wgrad || (self->has_dgrad && !layer->dgrad);
    return OCT_OK;
}

static enum oct_status conv_book(struct oct_graph *g, struct oct_node *node)
{
    struct conv *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *y = oct_out(g, node);
    struct oct_pre *pre = y->pre;
    int moment = oct_forward_moment(node), back = oct_backward_moment(g, node);
    size_t k = (size_t)node->shape.k;

    if (oct_is_integer_only(g)) {
        pre->shifter.amax_count = y->c;
        OCT_TRY(oct_shifter_book(g, node, &pre->shifter, y, OCT_ROLE_Y));
    } else {
        y->real =
            oct_plan_book(g->plan, (size_t)oct_value_elements(y) * oct_dtype_bytes(y->real_dtype),
                moment, moment, "%s.y", node->name);
    }
    if (pre->integer) {
        pre->stats.shift = oct_conv_stats_shift(
            &node->shape, oct_format_code_max(node->layer.role[OCT_ROLE_W_FWD].format));
        pre->stats.sum = oct_plan_book(g->plan, 8 * k, moment, moment, "%s.sum", node->name);
        pre->stats.sumsq = oct_plan_book(g->plan, 8 * k, moment, moment, "%s.sumsq", node->name);
        pre->stats.min = oct_plan_book(g->plan, 8 * k, moment, moment, "%s.min", node->name);
        pre->stats.max = oct_plan_book(g->plan, 8 * k, moment, moment, "%s.max", node->name);
    }
    OCT_TRY(oct_product_book(g, node));
    if (oct_is_compensated(g))
        oct_compensation_book(g, node, &self->compensation);
    pre->w_scale = self->product.w_range.scale;
    oct_plan_use(x->codes, moment);
    oct_plan_use(x->real, moment);
    oct_plan_use(node->layer.wgrad ? x->codes : x->real, back);
    if (self->product.has_dgrad)
        oct_value_write_grad(g, x, node);
    return OCT_OK;
}

static struct oct_operand conv_x(
    const struct oct_graph *g, const struct oct_node *node, bool quantised)
{
    const struct oct_value *x = &g->values[node->in[0]];
    struct oct_operand operand = {.dtype = oct_codes_dtype(g), .planes = 1};
    if (quantised) {
        operand.data = oct_buffer_data(x->codes);
        if (operand.dtype == OCT_S8)
            operand.scale = oct_range_for(&x->range, g->training).scale;
    } else {
        operand.dtype = x->real_dtype;
        operand.data = oct_buffer_data(x->real);
    }
    return operand;
}

static enum oct_status conv_forward(struct oct_graph *g, struct oct_node *node)
{
    const struct conv *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *y = oct_out(g, node);
    struct oct_pre *pre = y->pre;
    struct oct_acc_stats stats = oct_pre_stats(pre);
    bool with_stats = pre->integer && g->training, merged = oct_is_merged(g, pre);
    double begin = oct_op_begin(g);
    struct oct_conv_fprop_args args = {.shape = node->shape,
        .x = conv_x(g, node, node->layer.fprop),
        .w = oct_product_w(g, node, false),
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .stats = with_stats ? &stats : NULL,
        .workspace = oct_plan_workspace_data(g->plan)};

    pre->x_scale = g->training || !x->range.average ? x->range.scale : x->range.average_scale;
    if (oct_is_integer_only(g)) {
        OCT_TRY(oct_shift_conv(g, node, &args));
    } else {
        if (with_stats)
            OCT_TRY(g->backend->stats_clear(g->backend, &stats, y->c));
        if (oct_is_compensated(g)) {
            args.y = oct_buffer_data(self->compensation.product);
            args.y_dtype = OCT_F32;
        }
        if (merged)
            OCT_TRY(oct_norm_merge(g, &g->nodes[pre->merged], &args));
        OCT_TRY(g->backend->conv_fprop(g->backend, &args));
        if (oct_is_compensated(g))
            OCT_TRY(oct_compensation_forward(g, node, &self->compensation));
    }
    oct_op_end(g, node, "fprop", begin);
    if (!merged)
        oct_trace(g, node, "y", y->real_dtype, y->real, oct_value_elements(y));
    oct_trace(g, node, "y_codes", OCT_S8, y->codes, oct_value_elements(y));
    return OCT_OK;
}

static enum oct_status conv_backward(struct oct_graph *g, struct oct_node *node)
{
    const struct conv *self = node->self;
    struct oct_value *x = oct_in(g, node, 0);
    struct oct_pre *pre = oct_out(g, node)->pre;
    struct oct_gradient dy = {.channel = pre->dy_channel,
        .channel_lo = pre->dy_channel_lo,
        .tensor = pre->dy_tensor,
        .tensor_lo = pre->dy_tensor_lo,
        .real = pre->dy_real,
        .real_dtype = g->numerics->act_dtype,
        .channel_range = &pre->channel_range,
        .tensor_range = &pre->tensor_range};

    if (!pre->need_channel) { /* one copy of dY serves both products */
        dy.channel = dy.tensor;
        dy.channel_lo = dy.tensor_lo;
        dy.channel_range = dy.tensor_range;
    }
    if (oct_is_compensated(g))
        OCT_TRY(oct_compensation_backward(g, node, &self->compensation, &dy));
    struct oct_operand wgrad_x = conv_x(g, node, node->layer.wgrad);
    OCT_TRY(oct_product_wgrad(g, node, &wgrad_x, &dy));
    OCT_TRY(oct_product_sample(g, node, &wgrad_x, oct_out(g, node)->pre->dy_sample));
    if (self->product.has_dgrad)
        OCT_TRY(oct_product_dgrad(g, node, &dy, x));
    return OCT_OK;
}

static const struct oct_node_type conv_type = {
    "conv", conv_declare, conv_book, conv_forward, conv_backward, oct_product_prepare};

int oct_add_conv(struct oct_graph *g, int x, const char *name, const struct oct_conv_attr *attr)
{
    if (g->status != OCT_OK)
        return -1;
    const struct oct_value in = g->values[x];
    int dilation = attr->dilation ? attr->dilation : 1;
    struct oct_conv_shape shape = oct_conv_pointwise(in.n, in.h, in.w, in.c, attr->k);
    shape.r = attr->r;
    shape.s = attr->s;
    shape.stride_h = shape.stride_w = attr->stride;
    shape.pad_h = shape.pad_w = attr->pad;
    shape.dilation_h = shape.dilation_w = dilation;
    int p = oct_conv_p(&shape), q = oct_conv_q(&shape);
    if (p < 1 || q < 1) {
        g->status = oct_fail(OCT_SHAPE,
            "%s: a %dx%d filter does not fit into the %dx%d input: use larger images", name,
            attr->r, attr->s, in.h, in.w);
        return -1;
    }
    int y = oct_graph_value(g, OCT_VALUE_PRE, name, in.n, p, q, attr->k);
    struct oct_node *node =
        oct_product_node(g, &conv_type, name, sizeof(struct conv), &shape, x, y);
    if (!node)
        return -1;
    if (oct_is_compensated(g))
        oct_compensation_add(g, name, &g->values[y], &((struct conv *)node->self)->compensation);
    return y;
}
