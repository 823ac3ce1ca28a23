/* Max pooling on codes (or reals), and the global average that turns the last activation into f32
 * features. Codes keep their scale: a maximum of codes is the code of the maximum. */
#include "graph/graph.h"

struct pool {
    struct oct_conv_shape shape;
    struct oct_buffer *winner; /* u8 of the output's shape, max only */
};

static enum oct_status max_pool_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    x->need_codes |= out->need_codes;
    x->need_real |= out->need_real;
    return OCT_OK;
}

static enum oct_status max_pool_book(struct oct_graph *g, struct oct_node *node)
{
    struct pool *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    size_t elements = (size_t)oct_value_elements(out);
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    self->winner = oct_plan_book(g->plan, elements, now, back, "%s.winner", node->name);
    if (out->need_codes) {
        out->codes =
            oct_plan_book(g->plan, oct_codes_bytes(g, out), now, now, "%s.codes", node->name);
        out->range = x->range;
        oct_plan_use(x->codes, now);
    }
    if (out->need_real) {
        out->real = oct_plan_book(
            g->plan, elements * oct_dtype_bytes(out->real_dtype), now, now, "%s.real", node->name);
        oct_plan_use(x->real, now);
    }
    oct_value_book_grad(g, out);
    oct_value_write_grad(g, x, node);
    return OCT_OK;
}

static enum oct_status max_pool_forward(struct oct_graph *g, struct oct_node *node)
{
    struct pool *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    double begin = oct_op_begin(g);
    struct oct_pool_args args = {.shape = self->shape, .winner = oct_buffer_data(self->winner)};

    if (out->need_codes) {
        args.x = oct_buffer_data(x->codes);
        args.y = oct_buffer_data(out->codes);
        args.x_dtype = args.y_dtype = oct_codes_dtype(g);
        OCT_TRY(g->backend->pool(g->backend, &args));
    }
    if (out->need_real) { /* where both exist, the finer one names the winners */
        args.x = oct_buffer_data(x->real);
        args.y = oct_buffer_data(out->real);
        args.x_dtype = args.y_dtype = out->real_dtype;
        OCT_TRY(g->backend->pool(g->backend, &args));
    }
    oct_op_end(g, node, "forward", begin);
    oct_trace(g, node, "codes", oct_codes_dtype(g), out->codes, oct_value_elements(out));
    oct_trace(g, node, "real", out->real_dtype, out->real, oct_value_elements(out));
    return OCT_OK;
}

static enum oct_status pool_backward(struct oct_graph *g, struct oct_node *node, bool average)
{
    struct pool *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    double begin = oct_op_begin(g);
    struct oct_pool_bwd_args args = {.shape = self->shape,
        .average = average,
        .dy = oct_buffer_data(out->grad),
        .dy_dtype = out->grad_dtype,
        .winner = oct_buffer_data(self->winner),
        .dx = oct_buffer_data(x->grad),
        .dx_dtype = x->grad_dtype,
        .mode = oct_value_grad_mode(x, node)};
    OCT_TRY(g->backend->pool_bwd(g->backend, &args));
    oct_op_end(g, node, "backward", begin);
    oct_trace(g, node, "dx", x->grad_dtype, x->grad, oct_value_elements(x));
    return OCT_OK;
}

static enum oct_status max_pool_backward(struct oct_graph *g, struct oct_node *node)
{
    return pool_backward(g, node, false);
}

static enum oct_status global_pool_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *x = oct_in(g, node, 0);
    if (oct_is_integer_only(g))
        x->need_codes = true;
    /* read whatever form is there anyway; codes if nobody else asks */
    if (!x->need_codes && !x->need_real)
        *(g->numerics->int8_fprop ? &x->need_codes : &x->need_real) = true;
    return OCT_OK;
}

static enum oct_status global_pool_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    int now = oct_forward_moment(node);

    out->real = oct_plan_book(
        g->plan, 4 * (size_t)oct_value_elements(out), now, now, "%s.features", node->name);
    if (oct_is_integer_only(g)) { /* sums of codes */
        out->real_dtype = OCT_S32;
        out->window = x->h * x->w;
        out->range = x->range;
    }
    oct_plan_use(x->need_codes ? x->codes : x->real, now);
    oct_value_book_grad(g, out);
    oct_value_write_grad(g, x, node);
    return OCT_OK;
}

static enum oct_status global_pool_forward(struct oct_graph *g, struct oct_node *node)
{
    struct pool *self = node->self;
    struct oct_value *x = oct_in(g, node, 0), *out = oct_out(g, node);
    double begin = oct_op_begin(g);
    struct oct_pool_args args = {.shape = self->shape,
        .average = 1,
        .x = oct_buffer_data(x->need_codes ? x->codes : x->real),
        .x_dtype = x->need_codes ? oct_codes_dtype(g) : x->real_dtype,
        .y = oct_buffer_data(out->real),
        .y_dtype = out->real_dtype};
    if (x->need_codes)
        args.x_scale = oct_range_for(&x->range, g->training).scale;
    OCT_TRY(g->backend->pool(g->backend, &args));
    oct_op_end(g, node, "forward", begin);
    oct_trace(g, node, "features", out->real_dtype, out->real, oct_value_elements(out));
    return OCT_OK;
}

static enum oct_status global_pool_backward(struct oct_graph *g, struct oct_node *node)
{
    return pool_backward(g, node, true);
}

static const struct oct_node_type max_pool_type = {
    "max_pool", max_pool_declare, max_pool_book, max_pool_forward, max_pool_backward, NULL};
static const struct oct_node_type global_pool_type = {"global_pool", global_pool_declare,
    global_pool_book, global_pool_forward, global_pool_backward, NULL};

static struct oct_conv_shape pool_shape(
    const struct oct_value *in, int r, int s, int stride, int pad)
{
    struct oct_conv_shape shape = oct_conv_pointwise(in->n, in->h, in->w, in->c, in->c);
    shape.r = r;
    shape.s = s;
    shape.stride_h = shape.stride_w = stride;
    shape.pad_h = shape.pad_w = pad;
    shape.groups = in->c;
    return shape;
}

int oct_add_max_pool(struct oct_graph *g, int x, const char *name, int window, int stride, int pad)
{
    if (g->status != OCT_OK)
        return -1;
    const struct oct_value in = g->values[x];
    struct oct_conv_shape shape = pool_shape(&in, window, window, stride, pad);
    int p = oct_conv_p(&shape), q = oct_conv_q(&shape);
    if (p < 1 || q < 1 || 2 * pad > window) {
        g->status = oct_fail(OCT_SHAPE, "%s: a %dx%d window with padding %d does not suit %dx%d",
            name, window, window, pad, in.h, in.w);
        return -1;
    }
    int out = oct_graph_value(g, OCT_VALUE_ACT, name, in.n, p, q, in.c);
    struct oct_node *node =
        oct_graph_node(g, &max_pool_type, name, sizeof(struct pool), x, -1, out);
    if (!node)
        return -1;
    ((struct pool *)node->self)->shape = shape;
    return out;
}

int oct_add_global_pool(struct oct_graph *g, int x, const char *name)
{
    if (g->status != OCT_OK)
        return -1;
    const struct oct_value in = g->values[x];
    int out = oct_graph_value(g, OCT_VALUE_FEATURES, name, in.n, 1, 1, in.c);
    struct oct_node *node =
        oct_graph_node(g, &global_pool_type, name, sizeof(struct pool), x, -1, out);
    if (!node)
        return -1;
    ((struct pool *)node->self)->shape = pool_shape(&in, in.h, in.w, 1, 0);
    return out;
}
