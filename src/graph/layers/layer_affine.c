/* Activation without normalisation: a bias per channel or one for all, a common scale, residual
 * addition, ReLU and quantisation in one node; any of them may be missing.
 *   forward   x  = q(relu?(a y + b (+ residual))),  a = scale or 1, b = bias or 0
 *   backward  dz = da [z > 0],  dy = a dz,  dbias = sum dz,  dscale = sum dz y
 * It is the normalisation's pass (activation.c, error.c) with a and b from parameters. */
#include "graph/layers/shift.h"
#include "schemes/scheme.h"

struct affine {
    struct oct_activation act; /* first: activation.c and error.c work on it */
    int scale, bias;           /* parameters [1], [1 or C], or -1 */
};

/* A bias and a ReLU at most behind a convolution that writes codes: it does all of that itself. */
static void join_convolution(struct oct_graph *g, struct oct_node *node)
{
    struct affine *self = node->self;
    struct oct_pre *pre = oct_in(g, node, 0)->pre;

    self->act.done = pre && self->scale < 0 && node->in[1] < 0;
    if (!self->act.done)
        return;
    pre->joined = node->index;
    pre->joined_bias = self->bias;
}

static enum oct_status affine_declare(struct oct_graph *g, struct oct_node *node)
{
    struct affine *self = node->self;
    self->act.by_shifts = oct_is_integer_only(g);
    if (self->act.by_shifts) {
        const struct oct_value *y = oct_in(g, node, 0);
        if (!y->pre && g->nodes[y->producer].is_product)
            return oct_fail(OCT_UNSUPPORTED,
                "%s: behind a linear layer, of whose reals scheme %s makes no activation: use a "
                "network with one classifier, e.g. fixup_resnet20",
                node->name, g->numerics->scheme->name);
        join_convolution(g, node);
        self->act.rereads_y = self->act.done ? self->act.relu : self->scale >= 0;
    }
    oct_activation_declare(g, node);
    return OCT_OK;
}

/* Nothing to compute: the result is y, in the memory of y. */
static bool is_y_itself(struct oct_graph *g, const struct oct_node *node)
{
    const struct affine *self = node->self;
    return !self->act.by_shifts && self->scale < 0 && self->bias < 0 && !self->act.relu &&
           node->in[1] < 0 && !oct_out(g, node)->need_codes;
}

static enum oct_status affine_book(struct oct_graph *g, struct oct_node *node)
{
    if (is_y_itself(g, node))
        oct_out(g, node)->real = oct_in(g, node, 0)->real;
    oct_activation_book(g, node);
    return OCT_OK;
}

static struct oct_param *param_at(struct oct_graph *g, int index)
{
    return index >= 0 ? &g->params[index] : NULL;
}

static enum oct_status finalize(struct oct_graph *g, struct oct_node *node, bool with_extremes)
{
    const struct affine *self = node->self;
    const struct oct_activation *act = &self->act;
    const struct oct_param *scale = param_at(g, self->scale), *bias = param_at(g, self->bias);
    const struct oct_value *y = oct_in(g, node, 0);
    struct oct_acc_stats stats;
    struct oct_affine_finalize_args args = {.channels = y->c,
        .scale = scale ? oct_buffer_data(scale->value) : NULL,
        .bias = bias ? oct_buffer_data(bias->value) : NULL,
        .bias_count = bias ? (int)bias->count : 0,
        .relu = act->relu,
        .y_dtype = y->real_dtype,
        .a = oct_buffer_data(act->a),
        .b = oct_buffer_data(act->b),
        .ix = oct_buffer_data(act->ix),
        .jx = oct_buffer_data(act->jx)};

    if (with_extremes) {
        stats = oct_pre_stats(y->pre);
        args.acc = &stats;
        args.x_scale = oct_buffer_data(y->pre->x_scale);
        args.w_scale = oct_buffer_data(y->pre->w_scale);
        args.w_scale_per_k = y->pre->w_scale_per_k;
        args.z_amax = oct_buffer_data(act->z_amax);
    }
    return g->backend->affine_finalize(g->backend, &args);
}

static enum oct_status shift_forward(struct oct_graph *g, struct oct_node *node)
{
    const struct affine *self = node->self;
    const struct oct_shift_params params = {param_at(g, self->scale), param_at(g, self->bias)};
    double begin = oct_op_begin(g);

    if (!self->act.done) {
        OCT_TRY(oct_shift_activation(g, node, &params));
        oct_op_end(g, node, "forward", begin);
    }
    oct_activation_trace(g, node);
    return OCT_OK;
}

static enum oct_status affine_forward(struct oct_graph *g, struct oct_node *node)
{
    if (((const struct affine *)node->self)->act.by_shifts)
        return shift_forward(g, node);
    const struct oct_value *y = oct_in(g, node, 0);
    bool with_extremes = g->training && y->pre && y->pre->integer;
    double begin = oct_op_begin(g);

    OCT_TRY(finalize(g, node, with_extremes));
    if (!is_y_itself(g, node))
        OCT_TRY(oct_activation_pass(g, node, with_extremes));
    oct_op_end(g, node, "forward", begin);
    oct_activation_trace(g, node);
    return OCT_OK;
}

static enum oct_status bwd_finalize(struct oct_graph *g, struct oct_node *node)
{
    const struct affine *self = node->self;
    const struct oct_activation *act = &self->act;
    const struct oct_param *scale = param_at(g, self->scale), *bias = param_at(g, self->bias);
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_affine_bwd_finalize_args args = {.channels = y->c,
        .count = oct_rows_of(y),
        .sum_dz = oct_buffer_data(act->sum_dz),
        .sum_dz_y = oct_buffer_data(act->sum_dz_xhat),
        .sum_dz2 = oct_buffer_data(act->sum_dz2),
        .dz_min = oct_buffer_data(act->dz_min),
        .dz_max = oct_buffer_data(act->dz_max),
        .a = oct_buffer_data(act->a),
        .m1 = oct_buffer_data(act->m1),
        .m2 = oct_buffer_data(act->m2),
        .dscale = scale ? oct_buffer_data(scale->grad) : NULL,
        .dbias = bias ? oct_buffer_data(bias->grad) : NULL,
        .bias_count = bias ? (int)bias->count : 0,
        .mode = g->grad_mode,
        .bound = oct_buffer_data(act->bound),
        .sigma = oct_buffer_data(act->sigma),
        .sigma_all = oct_buffer_data(act->sigma_all)};
    return g->backend->affine_bwd_finalize(g->backend, &args);
}

static enum oct_status affine_backward(struct oct_graph *g, struct oct_node *node)
{
    const struct affine *self = node->self;
    const struct oct_param *scale = param_at(g, self->scale), *bias = param_at(g, self->bias);
    double begin = oct_op_begin(g);

    OCT_TRY(oct_error_reduce(g, node));
    OCT_TRY(bwd_finalize(g, node));
    oct_op_end(g, node, "backward reduce", begin);
    OCT_TRY(oct_error_apply(g, node));
    if (scale)
        oct_trace(g, node, "dscale", OCT_F32, scale->grad, 1);
    if (bias)
        oct_trace(g, node, "dbias", OCT_F32, bias->grad, bias->count);
    return OCT_OK;
}

static const struct oct_node_type affine_type = {
    "affine", affine_declare, affine_book, affine_forward, affine_backward, NULL};

int oct_add_affine(
    struct oct_graph *g, int y, const char *name, int residual, const struct oct_affine_attr *attr)
{
    if (g->status != OCT_OK)
        return -1;
    const struct oct_value in = g->values[y];
    const int64_t one = 1, biases = attr->bias_per_channel ? in.c : 1;
    if (residual >= 0 && oct_value_elements(&g->values[residual]) != oct_value_elements(&in)) {
        g->status = oct_fail(OCT_SHAPE, "%s: the residual %s does not have the shape of %s", name,
            g->values[residual].name, in.name);
        return -1;
    }
    enum oct_value_kind kind = in.kind == OCT_VALUE_FEATURES ? OCT_VALUE_FEATURES : OCT_VALUE_ACT;
    int out = oct_graph_value(g, kind, name, in.n, in.h, in.w, in.c);
    struct oct_node *node =
        oct_graph_node(g, &affine_type, name, sizeof(struct affine), y, residual, out);
    if (!node)
        return -1;
    struct affine *self = node->self;
    self->act.relu = attr->relu;
    self->act.adds_reals = attr->adds_reals;
    self->act.rereads_y = attr->scale || (attr->relu && residual < 0);
    self->scale = self->bias = -1;
    if (attr->bias)
        self->bias = oct_graph_param(g, attr->owner, attr->bias, attr->decay, 1, &biases);
    if (attr->scale)
        self->scale = oct_graph_param(g, attr->owner, attr->scale, attr->decay, 1, &one);
    if (attr->lr_factor > 0.0f && self->bias >= 0)
        oct_graph_lr_factor(g, self->bias, attr->lr_factor);
    if (attr->lr_factor > 0.0f && self->scale >= 0)
        oct_graph_lr_factor(g, self->scale, attr->lr_factor);
    if (self->scale >= 0)
        oct_graph_initial(g, self->scale, OCT_INITIAL_CONSTANT, 1.0f);
    return out;
}
