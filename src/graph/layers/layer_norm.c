/* Batch normalisation, residual addition, ReLU and quantisation in one node, forward and backward.
 *   forward   x  = q(relu?(a y + b (+ residual))),  a = gamma / sd, b = beta - mean gamma / sd
 *   backward  dz = da [z > 0],  dy = a (dz - m1 - xhat m2),  quantised for the products behind it
 * y is never read as f32 and x never written as f32 on the int8 path (design.md section 4). */
#include "graph/layers/activation.h"
#include "schemes/scheme.h"

struct norm {
    struct oct_activation act;                     /* first: activation.c and error.c work on it */
    int gamma, beta;                               /* parameters [C] */
    struct oct_buffer *running_mean, *running_var; /* f32[C] */
    struct oct_buffer *xhat_max;                   /* f32[C], forward to backward */
    struct oct_buffer *y_sum, *y_sumsq, *y_min, *y_max; /* statistics of reals */
};

/* The statistics of y came with it, from a product's accumulators. */
static bool has_integer_statistics(const struct oct_value *y)
{
    return y->pre && y->pre->integer;
}

/* Clipped channels have a range that neither y nor a running value decides: in evaluation the
 * product's accumulators can become x's codes at once, if nothing else is made of them. */
static bool can_be_merged(struct oct_graph *g, const struct oct_node *node)
{
    const struct norm *self = node->self;
    const struct oct_value *out = oct_out(g, node);
    return self->act.clips && g->numerics->role[OCT_ROLE_X].grid == OCT_GRID_UNIFORM &&
           node->in[1] < 0 && oct_in(g, node, 0)->pre && out->need_codes && !out->need_real;
}

static enum oct_status norm_declare(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    self->act.clips = g->numerics->role[OCT_ROLE_X].sigmas > 0.0f;
    self->act.rounds = g->numerics->norm.xhat > 0.0f;
    oct_activation_declare(g, node);
    if (can_be_merged(g, node))
        oct_in(g, node, 0)->pre->merged = node->index;
    return OCT_OK;
}

/* A clipped channel's range adds to that of the residual branch, which must have one. */
static enum oct_status check_clip(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;
    const struct oct_value *residual = oct_in(g, node, 1);

    if (!self->act.clips || !residual)
        return OCT_OK;
    if (!self->act.relu)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: clipped channels, a residual and no ReLU: choose another network", node->name);
    if (!residual->range.clip)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: clipped channels need the range of the residual %s, which no normalisation makes: "
            "choose another network",
            node->name, residual->name);
    return OCT_OK;
}

/* What a product that does the node's work fills. */
static void book_merged(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *act = node->self;
    struct oct_buffer *const made[] = {act->a, act->b, act->ix, act->jx, act->z_amax, act->clip_lo,
        act->clip_hi, oct_out(g, node)->codes};
    const int moment = oct_forward_moment(&g->nodes[oct_in(g, node, 0)->producer]);
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        oct_plan_use(made[i], moment);
}

static enum oct_status norm_book(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    const int64_t c = y->c;
    size_t f = 4 * (size_t)c;
    int now = oct_forward_moment(node);

    OCT_TRY(check_clip(g, node));
    oct_activation_book(g, node);
    if (y->pre && y->pre->merged >= 0)
        book_merged(g, node);
    self->xhat_max = oct_node_book(g, node, f, now, oct_backward_moment(g, node), "xhat_max");
    if (!has_integer_statistics(y)) {
        self->y_sum = oct_node_book(g, node, 2 * f, now, now, "y_sum");
        self->y_sumsq = oct_node_book(g, node, 2 * f, now, now, "y_sumsq");
        self->y_min = oct_node_book(g, node, f, now, now, "y_min");
        self->y_max = oct_node_book(g, node, f, now, now, "y_max");
    }
    self->running_mean = oct_node_book(g, node, f, OCT_PERSISTENT, 0, "running_mean");
    self->running_var = oct_node_book(g, node, f, OCT_PERSISTENT, 0, "running_var");
    oct_graph_state(g, self->running_mean, OCT_F32, 1, &c, "%s.running_mean", node->name);
    oct_graph_state(g, self->running_var, OCT_F32, 1, &c, "%s.running_var", node->name);
    return OCT_OK;
}

/* Channels that are clipped, or computed in fixed point. */
static void add_forms(
    struct oct_graph *g, const struct oct_node *node, struct oct_bn_finalize_args *args)
{
    const struct oct_activation *act = node->self;
    if (act->clips) { /* the branch before a residual is added has no ReLU */
        args->relu = act->relu && node->in[1] < 0;
        args->sigmas = g->numerics->role[OCT_ROLE_X].sigmas;
        args->clip_lo = oct_buffer_data(act->clip_lo);
        args->clip_hi = oct_buffer_data(act->clip_hi);
        args->z_amax = oct_buffer_data(act->z_amax);
    }
    if (act->rounds) {
        args->rounding = g->numerics->norm;
        args->gamma_q = oct_buffer_data(act->gamma_q);
        args->beta_q = oct_buffer_data(act->beta_q);
    }
}

static enum oct_status finalize(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    const struct oct_activation *act = &self->act;
    struct oct_value *y = oct_in(g, node, 0);
    struct oct_acc_stats stats;
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct oct_bn_finalize_args args = {.channels = y->c,
        .count = oct_rows_of(y),
        .training = g->training,
        .y_dtype = y->real_dtype,
        .gamma = oct_buffer_data(g->params[self->gamma].value),
        .beta = oct_buffer_data(g->params[self->beta].value),
        .eps = g->eps,
        .momentum = g->bn_momentum,
        .running_mean = oct_buffer_data(self->running_mean),
        .running_var = oct_buffer_data(self->running_var),
        .relu = act->relu,
        .a = oct_buffer_data(act->a),
        .b = oct_buffer_data(act->b),
        .ix = oct_buffer_data(act->ix),
        .jx = oct_buffer_data(act->jx),
        .flag = &step->flag};

    add_forms(g, node, &args);
    if (g->training) {
        args.xhat_max = oct_buffer_data(self->xhat_max);
        args.z_amax = oct_buffer_data(act->z_amax);
    }
    if (g->training && has_integer_statistics(y)) {
        stats = oct_pre_stats(y->pre);
        args.acc = &stats;
        args.x_scale = oct_buffer_data(y->pre->x_scale);
        args.w_scale = oct_buffer_data(y->pre->w_scale);
        args.w_scale_per_k = y->pre->w_scale_per_k;
    } else if (g->training) {
        struct oct_channel_stats_args stat = {.rows = oct_rows_of(y),
            .channels = y->c,
            .x = oct_buffer_data(y->real),
            .dtype = y->real_dtype,
            .min = oct_buffer_data(self->y_min),
            .max = oct_buffer_data(self->y_max),
            .sum = oct_buffer_data(self->y_sum),
            .sumsq = oct_buffer_data(self->y_sumsq),
            .workspace = oct_plan_workspace_data(g->plan),
            .flag = &step->flag};
        OCT_TRY(g->backend->channel_stats(g->backend, &stat));
        args.sum = stat.sum;
        args.sumsq = stat.sumsq;
        args.y_min = stat.min;
        args.y_max = stat.max;
    }
    return g->backend->bn_finalize(g->backend, &args);
}

enum oct_status oct_norm_merge(
    struct oct_graph *g, struct oct_node *node, struct oct_conv_fprop_args *args)
{
    const struct oct_activation *act = node->self;
    const struct oct_value *out = oct_out(g, node);

    OCT_TRY(finalize(g, node));
    OCT_TRY(oct_activation_clip_range(g, node));
    args->y = oct_buffer_data(out->codes);
    args->y_dtype = OCT_S8;
    args->norm = (struct oct_conv_norm){.a = oct_buffer_data(act->a),
        .b = oct_buffer_data(act->b),
        .lo = oct_buffer_data(act->clip_lo),
        .hi = oct_buffer_data(act->clip_hi),
        .inverse = oct_range_for(&out->range, g->training).inverse};
    return OCT_OK;
}

static enum oct_status norm_forward(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;

    if (!oct_is_merged(g, oct_in(g, node, 0)->pre)) {
        double begin = oct_op_begin(g);
        OCT_TRY(finalize(g, node));
        OCT_TRY(oct_activation_pass(g, node, true));
        oct_op_end(g, node, "forward", begin);
    }
    oct_activation_trace(g, node);
    if (g->training)
        oct_trace(g, node, "xhat_max", OCT_F32, self->xhat_max, oct_in(g, node, 0)->c);
    return OCT_OK;
}

static enum oct_status bwd_finalize(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;
    const struct oct_activation *act = &self->act;
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_bn_bwd_finalize_args args = {.channels = y->c,
        .count = oct_rows_of(y),
        .sum_dz = oct_buffer_data(act->sum_dz),
        .sum_dz_xhat = oct_buffer_data(act->sum_dz_xhat),
        .sum_dz2 = oct_buffer_data(act->sum_dz2),
        .dz_min = oct_buffer_data(act->dz_min),
        .dz_max = oct_buffer_data(act->dz_max),
        .a = oct_buffer_data(act->a),
        .xhat_max = oct_buffer_data(self->xhat_max),
        .ix = oct_buffer_data(act->ix),
        .eps = act->rounds ? 0.0f : g->eps, /* a rounded deviation has none */
        .m1 = oct_buffer_data(act->m1),
        .m2 = oct_buffer_data(act->m2),
        .dgamma = oct_buffer_data(g->params[self->gamma].grad),
        .dbeta = oct_buffer_data(g->params[self->beta].grad),
        .mode = g->grad_mode,
        .bound = oct_buffer_data(act->bound),
        .sigma = oct_buffer_data(act->sigma),
        .sigma_all = oct_buffer_data(act->sigma_all)};
    return g->backend->bn_bwd_finalize(g->backend, &args);
}

static enum oct_status norm_backward(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;
    int channels = oct_in(g, node, 0)->c;
    double begin = oct_op_begin(g);

    OCT_TRY(oct_error_reduce(g, node));
    OCT_TRY(bwd_finalize(g, node));
    oct_op_end(g, node, "backward reduce", begin);
    OCT_TRY(oct_error_apply(g, node));
    oct_trace(g, node, "dgamma", OCT_F32, g->params[self->gamma].grad, channels);
    oct_trace(g, node, "dbeta", OCT_F32, g->params[self->beta].grad, channels);
    return OCT_OK;
}

static const struct oct_node_type norm_type = {
    "norm", norm_declare, norm_book, norm_forward, norm_backward, NULL};

int oct_add_norm(struct oct_graph *g, int y, const char *name, int residual, bool relu)
{
    if (g->status != OCT_OK)
        return -1;
    if (g->numerics->scheme && g->numerics->scheme->instead_of_norm) {
        g->status = oct_fail(OCT_UNSUPPORTED, "%s: scheme %s has no batch normalisation; %s", name,
            g->numerics->scheme->name, g->numerics->scheme->instead_of_norm);
        return -1;
    }
    const struct oct_value in = g->values[y];
    const int64_t c = in.c;
    if (residual >= 0 && oct_value_elements(&g->values[residual]) != oct_value_elements(&in)) {
        g->status = oct_fail(OCT_SHAPE, "%s: the residual %s does not have the shape of %s", name,
            g->values[residual].name, in.name);
        return -1;
    }
    int out = oct_graph_value(g, OCT_VALUE_ACT, name, in.n, in.h, in.w, in.c);
    struct oct_node *node =
        oct_graph_node(g, &norm_type, name, sizeof(struct norm), y, residual, out);
    if (!node)
        return -1;
    struct norm *self = node->self;
    self->act.relu = relu;
    self->act.rereads_y = true;
    self->gamma = oct_graph_param(g, name, "weight", false, 1, &c);
    oct_graph_initial(g, self->gamma, OCT_INITIAL_CONSTANT, 1.0f);
    self->beta = oct_graph_param(g, name, "bias", false, 1, &c);
    return out;
}
