/* Batch normalisation, residual addition, ReLU and quantisation in one node, forward and backward.
 *   forward   x  = q(relu?(a y + b (+ residual))),  a = gamma / sd, b = beta - mean gamma / sd
 *   backward  dz = da [z > 0],  dy = a (dz - m1 - xhat m2),  quantised for the products behind it
 * y is never read as f32 and x never written as f32 on the int8 path (design.md section 4). */
#include "graph/graph.h"

#include <stdio.h>

struct norm {
    int gamma, beta; /* parameters [C] */
    bool relu;
    struct oct_buffer *running_mean, *running_var;      /* f32[C] */
    struct oct_buffer *a, *b, *ix, *jx;                 /* f32[C], forward to backward */
    struct oct_buffer *xhat_max, *z_amax, *amax;        /* f32[C], f32[C], f32[1] */
    struct oct_buffer *y_sum, *y_sumsq, *y_min, *y_max; /* statistics of a float product */
    struct oct_buffer *mask;                            /* bits, only behind a residual addition */
    struct oct_buffer *clip_lo, *clip_hi, *inside;      /* f32[C], f32[C], bits: clipped channels */
    struct oct_buffer *sum_dz, *sum_dz_xhat, *sum_dz2, *dz_min, *dz_max;
    struct oct_buffer *m1, *m2, *bound, *sigma, *sigma_all;
    struct oct_buffer *above, *above_all; /* s64[C], s64[1], state */
    struct oct_buffer *dy_searched;       /* act_dtype: dY, in steps that search */
    struct oct_buffer *sums;              /* of the search */
};

static int64_t rows_of(const struct oct_value *value)
{
    return (int64_t)value->n * value->h * value->w;
}

static bool residual_is_codes(const struct oct_graph *g)
{
    return oct_format_is_integer(g->numerics->role[OCT_ROLE_RESIDUAL].format);
}

/* Whether channels are clipped at beta -+ sigmas |gamma|: an output's range is then known before
 * the data. */
static bool clips_channels(const struct oct_graph *g)
{
    return g->numerics->role[OCT_ROLE_X].sigmas > 0.0f;
}

static enum oct_status norm_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *residual = oct_in(g, node, 1);
    if (residual)
        *(residual_is_codes(g) ? &residual->need_codes : &residual->need_real) = true;
    return OCT_OK;
}

static struct oct_buffer *book(struct oct_graph *g, const struct oct_node *node, size_t bytes,
    int first, int last, const char *what)
{
    return oct_plan_book(g->plan, bytes, first, last, "%s.%s", node->name, what);
}

static void book_clip(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    const struct oct_value *out = oct_out(g, node);
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    self->clip_lo = book(g, node, 4 * (size_t)out->c, now, now, "clip_lo");
    self->clip_hi = book(g, node, 4 * (size_t)out->c, now, now, "clip_hi");
    self->inside = book(g, node, ((size_t)oct_value_elements(out) + 7) / 8, now, back, "inside");
}

static void book_forward(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    size_t c = (size_t)out->c, f = 4 * c;
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    self->a = book(g, node, f, now, back, "a");
    self->b = book(g, node, f, now, back, "b");
    self->ix = book(g, node, f, now, back, "ix");
    self->jx = book(g, node, f, now, back, "jx");
    self->xhat_max = book(g, node, f, now, back, "xhat_max");
    self->z_amax = book(g, node, f, now, now, "z_amax");
    self->amax = book(g, node, 4, now, now, "amax");
    if (!y->pre->integer) {
        self->y_sum = book(g, node, 8 * c, now, now, "y_sum");
        self->y_sumsq = book(g, node, 8 * c, now, now, "y_sumsq");
        self->y_min = book(g, node, f, now, now, "y_min");
        self->y_max = book(g, node, f, now, now, "y_max");
    }
    if (node->in[1] >= 0 && self->relu)
        self->mask = book(g, node, ((size_t)oct_value_elements(out) + 7) / 8, now, back, "mask");
    if (clips_channels(g))
        book_clip(g, node);
    if (out->need_codes)
        out->codes = book(g, node, (size_t)oct_value_elements(out), now, now, "codes");
    if (out->need_codes || clips_channels(g)) {
        oct_range_book(
            g->plan, &out->range, 1, &g->numerics->role[OCT_ROLE_X], !clips_channels(g), out->name);
        oct_graph_range_state(g, &out->range, out->name);
    }
    y->pre->forward = book(g, node, 16, OCT_PERSISTENT, 0, "forward_counts");
    if (out->need_real)
        out->real = book(g, node,
            (size_t)oct_value_elements(out) * oct_dtype_bytes(out->real_dtype), now, now, "real");
}

static void book_state(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_pre *pre = oct_in(g, node, 0)->pre;
    const int64_t c = oct_out(g, node)->c, one = 1;

    self->running_mean = book(g, node, 4 * (size_t)c, OCT_PERSISTENT, 0, "running_mean");
    self->running_var = book(g, node, 4 * (size_t)c, OCT_PERSISTENT, 0, "running_var");
    oct_graph_state(g, self->running_mean, OCT_F32, 1, &c, "%s.running_mean", node->name);
    oct_graph_state(g, self->running_var, OCT_F32, 1, &c, "%s.running_var", node->name);
    pre->dy_amax = book(g, node, 4 * (size_t)c, OCT_PERSISTENT, 0, "dy_amax");
    self->above = book(g, node, 8 * (size_t)c, OCT_PERSISTENT, 0, "above");
    self->above_all = book(g, node, 8, OCT_PERSISTENT, 0, "above_all");
    oct_graph_state(g, pre->dy_amax, OCT_F32, 1, &c, "scheme.%s.dy_amax", node->name);
    oct_graph_state(g, self->above, OCT_S64, 1, &c, "scheme.%s.above", node->name);
    oct_graph_state(g, self->above_all, OCT_S64, 1, &one, "scheme.%s.above_all", node->name);
}

/* One form of dY in codes: buffers that live from here to the convolution's backward. */
static void book_error_codes(struct oct_graph *g, struct oct_node *node, const char *what,
    enum oct_role role, int count, struct oct_buffer **hi, struct oct_buffer **lo,
    struct oct_range_state *range)
{
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_node *conv = &g->nodes[y->producer];
    const struct oct_policy *policy = &y->pre->layer.role[role];
    int now = oct_backward_moment(g, node), last = oct_backward_moment(g, conv);
    char name[96];

    snprintf(name, sizeof name, "%s.%s", conv->name, what);
    *hi = oct_plan_book(g->plan, (size_t)oct_value_elements(y), now, last, "%s", name);
    if (policy->format == OCT_FORMAT_INT16)
        *lo = oct_plan_book(g->plan, (size_t)oct_value_elements(y), now, last, "%s.lo", name);
    oct_range_book(g->plan, range, count, policy, false, name);
    oct_graph_range_state(g, range, name);
}

/* Where both products want one scale by the same rules, the two copies would be the same bytes. */
static bool copies_are_equal(const struct oct_pre *pre)
{
    const struct oct_policy *dw = &pre->layer.role[OCT_ROLE_DY_DW];
    const struct oct_policy *dx = &pre->layer.role[OCT_ROLE_DY_DX];
    return pre->need_channel && pre->need_tensor && dw->granularity == OCT_PER_TENSOR &&
           oct_policy_same(dw, dx);
}

/* Memory of a search for the share of a clip value that keeps dY's direction. */
static void book_search(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_pre *pre = y->pre;
    int now = oct_backward_moment(g, node);

    if (!pre->channel_range.share && !pre->tensor_range.share)
        return;
    self->sums = book(g, node, 8 * OCT_SEARCH_SUMS, now, now, "search_sums");
    self->dy_searched =
        book(g, node, (size_t)oct_value_elements(y) * oct_dtype_bytes(g->numerics->act_dtype), now,
            now, "dy_searched");
}

static void book_backward(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    struct oct_pre *pre = y->pre;
    size_t c = (size_t)y->c;
    int now = oct_backward_moment(g, node);

    self->sum_dz = book(g, node, 8 * c, now, now, "sum_dz");
    self->sum_dz_xhat = book(g, node, 8 * c, now, now, "sum_dz_xhat");
    self->sum_dz2 = book(g, node, 8 * c, now, now, "sum_dz2");
    self->dz_min = book(g, node, 4 * c, now, now, "dz_min");
    self->dz_max = book(g, node, 4 * c, now, now, "dz_max");
    self->m1 = book(g, node, 4 * c, now, now, "m1");
    self->m2 = book(g, node, 4 * c, now, now, "m2");
    self->bound = book(g, node, 4 * c, now, now, "bound");
    self->sigma = book(g, node, 4 * c, now, now, "sigma");
    self->sigma_all = book(g, node, 4, now, now, "sigma_all");
    pre->saturated = book(g, node, 16, OCT_PERSISTENT, 0, "saturated");
    if (copies_are_equal(pre))
        pre->need_channel = false;
    if (pre->need_channel) {
        bool per_channel = pre->layer.role[OCT_ROLE_DY_DW].granularity == OCT_PER_CHANNEL;
        book_error_codes(g, node, "dy_dw", OCT_ROLE_DY_DW, per_channel ? y->c : 1, &pre->dy_channel,
            &pre->dy_channel_lo, &pre->channel_range);
    }
    if (pre->need_tensor)
        book_error_codes(g, node, "dy_dx", OCT_ROLE_DY_DX, 1, &pre->dy_tensor, &pre->dy_tensor_lo,
            &pre->tensor_range);
    if (pre->need_real)
        pre->dy_real =
            book(g, node, (size_t)oct_value_elements(y) * oct_dtype_bytes(g->numerics->act_dtype),
                now, oct_backward_moment(g, &g->nodes[y->producer]), "dy");
    if (g->with_samples && pre->layer.wgrad)
        pre->dy_sample = book(g, node, 4 * (size_t)oct_value_elements(y), now,
            oct_backward_moment(g, &g->nodes[y->producer]), "dy_sample");
    book_search(g, node);
    if (residual)
        oct_value_write_grad(g, residual, node);
}

/* A clipped channel's range adds to that of the residual branch, which must have one. */
static enum oct_status check_clip(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;
    const struct oct_value *residual = oct_in(g, node, 1);

    if (!clips_channels(g) || !residual)
        return OCT_OK;
    if (!self->relu)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: clipped channels, a residual and no ReLU: choose another network", node->name);
    if (!residual->range.clip)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: clipped channels need the range of the residual %s, which no normalisation makes: "
            "choose another network",
            node->name, residual->name);
    return OCT_OK;
}

static enum oct_status norm_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    int now = oct_forward_moment(node);

    OCT_TRY(check_clip(g, node));
    oct_plan_use(y->real, oct_backward_moment(g, node));
    oct_plan_use(y->pre->stats.sum, now);
    oct_plan_use(y->pre->stats.sumsq, now);
    oct_plan_use(y->pre->stats.min, now);
    oct_plan_use(y->pre->stats.max, now);
    if (residual)
        oct_plan_use(residual_is_codes(g) ? residual->codes : residual->real, now);
    book_forward(g, node);
    book_state(g, node);
    oct_value_book_grad(g, oct_out(g, node));
    book_backward(g, node);
    oct_plan_workspace(g->plan, g->backend->channel_workspace(g->backend, rows_of(y), y->c));
    oct_plan_workspace(g->plan, g->backend->bn_workspace(g->backend, rows_of(y), y->c));
    return OCT_OK;
}

static enum oct_status finalize(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0);
    struct oct_pre *pre = y->pre;
    struct oct_acc_stats stats = oct_pre_stats(pre);
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct oct_bn_finalize_args args = {.channels = y->c,
        .count = rows_of(y),
        .training = g->training,
        .y_dtype = y->real_dtype,
        .gamma = oct_buffer_data(g->params[self->gamma].value),
        .beta = oct_buffer_data(g->params[self->beta].value),
        .eps = g->eps,
        .momentum = g->bn_momentum,
        .running_mean = oct_buffer_data(self->running_mean),
        .running_var = oct_buffer_data(self->running_var),
        .relu = self->relu,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .ix = oct_buffer_data(self->ix),
        .jx = oct_buffer_data(self->jx),
        .flag = &step->flag};

    if (clips_channels(g)) { /* the branch before a residual is added has no ReLU */
        args.relu = self->relu && node->in[1] < 0;
        args.sigmas = g->numerics->role[OCT_ROLE_X].sigmas;
        args.clip_lo = oct_buffer_data(self->clip_lo);
        args.clip_hi = oct_buffer_data(self->clip_hi);
        args.z_amax = oct_buffer_data(self->z_amax);
    }
    if (g->training) {
        args.xhat_max = oct_buffer_data(self->xhat_max);
        args.z_amax = oct_buffer_data(self->z_amax);
    }
    if (g->training && pre->integer) {
        args.acc = &stats;
        args.x_scale = oct_buffer_data(pre->x_scale);
        args.w_scale = oct_buffer_data(pre->w_scale);
        args.w_scale_per_k = pre->w_scale_per_k;
    } else if (g->training) {
        struct oct_channel_stats_args stat = {.rows = rows_of(y),
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

static struct oct_act_fwd_args act_args(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct oct_act_fwd_args args = {.rows = rows_of(y),
        .channels = y->c,
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .relu = self->relu,
        .clip_lo = oct_buffer_data(self->clip_lo),
        .clip_hi = oct_buffer_data(self->clip_hi),
        .flag = &step->flag};
    if (residual && residual_is_codes(g)) {
        args.residual = oct_buffer_data(residual->codes);
        args.residual_dtype = OCT_S8;
        args.residual_scale = oct_range_for(&residual->range, g->training).scale;
    } else if (residual) {
        args.residual = oct_buffer_data(residual->real);
        args.residual_dtype = residual->real_dtype;
    }
    return args;
}

/* The scale of x before x is made. Without a residual the exact maximum follows from the extremes
 * of y by monotonicity; with one it takes a pass. Clipped channels have a range of their own, to
 * which the residual's adds: no pass, in evaluation too. */
static enum oct_status set_range(
    struct oct_graph *g, struct oct_node *node, const struct oct_act_fwd_args *act)
{
    struct norm *self = node->self;
    struct oct_value *out = oct_out(g, node), *residual = oct_in(g, node, 1);
    struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(self->z_amax), .amax_count = out->c};

    if (clips_channels(g)) {
        if (residual)
            evidence.plus = oct_range_for(&residual->range, g->training).clip;
        return oct_range_adapt(g->backend, &out->range, &evidence);
    }
    if (act->residual) {
        struct oct_act_fwd_args look = *act;
        look.amax = oct_buffer_data(self->amax);
        OCT_TRY(g->backend->act_fwd(g->backend, &look));
        evidence.amax = look.amax;
        evidence.amax_count = 1;
    }
    OCT_TRY(oct_range_adapt(g->backend, &out->range, &evidence));
    return oct_range_average(g->backend, &out->range);
}

/* What a training step writes down beside x. */
static void keep_for_backward(
    struct oct_graph *g, struct oct_node *node, struct oct_act_fwd_args *args)
{
    const struct norm *self = node->self;
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    int64_t *counts = oct_buffer_data(pre->forward);

    args->mask = oct_buffer_data(self->mask);
    args->inside = oct_buffer_data(self->inside);
    if (args->inside)
        args->clipped = &counts[0];
    args->y_limit = pre->layer.role[OCT_ROLE_Y].limit;
    if (args->y_limit > 0.0f)
        args->y_above = &counts[1];
}

static void trace_forward(struct oct_graph *g, const struct oct_node *node)
{
    const struct norm *self = node->self;
    const struct oct_value *out = &g->values[node->out];
    int64_t bits = (oct_value_elements(out) + 7) / 8;

    oct_trace(g, node, "a", OCT_F32, self->a, out->c);
    oct_trace(g, node, "b", OCT_F32, self->b, out->c);
    oct_trace(g, node, "ix", OCT_F32, self->ix, out->c);
    oct_trace(g, node, "jx", OCT_F32, self->jx, out->c);
    oct_trace(g, node, "clip_lo", OCT_F32, self->clip_lo, out->c);
    oct_trace(g, node, "clip_hi", OCT_F32, self->clip_hi, out->c);
    if (g->training) {
        oct_trace(g, node, "xhat_max", OCT_F32, self->xhat_max, out->c);
        oct_trace(g, node, "mask", OCT_U8, self->mask, bits);
        oct_trace(g, node, "inside", OCT_U8, self->inside, bits);
    }
    oct_trace(g, node, "codes", OCT_S8, out->codes, oct_value_elements(out));
    oct_trace(g, node, "real", out->real_dtype, out->real, oct_value_elements(out));
}

static enum oct_status norm_forward(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *out = oct_out(g, node);
    double begin = oct_op_begin(g);
    struct oct_act_fwd_args args;

    OCT_TRY(finalize(g, node));
    args = act_args(g, node);
    if (clips_channels(g) || (out->need_codes && g->training))
        OCT_TRY(set_range(g, node, &args));
    if (out->need_codes) {
        args.x = oct_buffer_data(out->codes);
        args.x_dtype = OCT_S8;
        args.x_range = oct_range_for(&out->range, g->training);
        args.trunk = oct_buffer_data(out->real);
        args.trunk_dtype = out->real_dtype;
    } else {
        args.x = oct_buffer_data(out->real);
        args.x_dtype = out->real_dtype;
    }
    if (g->training)
        keep_for_backward(g, node, &args);
    OCT_TRY(g->backend->act_fwd(g->backend, &args));
    oct_op_end(g, node, "forward", begin);
    trace_forward(g, node);
    return OCT_OK;
}

static enum oct_status reduce(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    struct oct_bn_bwd_reduce_args args = {.rows = rows_of(y),
        .channels = y->c,
        .da = oct_buffer_data(out->grad),
        .da_dtype = out->grad_dtype,
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .ix = oct_buffer_data(self->ix),
        .jx = oct_buffer_data(self->jx),
        .relu = self->relu,
        .mask = oct_buffer_data(self->inside ? self->inside : self->mask),
        .sum_dz = oct_buffer_data(self->sum_dz),
        .sum_dz_xhat = oct_buffer_data(self->sum_dz_xhat),
        .sum_dz2 = oct_buffer_data(self->sum_dz2),
        .dz_min = oct_buffer_data(self->dz_min),
        .dz_max = oct_buffer_data(self->dz_max),
        .workspace = oct_plan_workspace_data(g->plan)};
    OCT_TRY(g->backend->bn_bwd_reduce(g->backend, &args));

    struct oct_bn_bwd_finalize_args finish = {.channels = y->c,
        .count = args.rows,
        .sum_dz = args.sum_dz,
        .sum_dz_xhat = args.sum_dz_xhat,
        .sum_dz2 = args.sum_dz2,
        .dz_min = args.dz_min,
        .dz_max = args.dz_max,
        .a = args.a,
        .xhat_max = oct_buffer_data(self->xhat_max),
        .ix = args.ix,
        .eps = g->eps,
        .m1 = oct_buffer_data(self->m1),
        .m2 = oct_buffer_data(self->m2),
        .dgamma = oct_buffer_data(g->params[self->gamma].grad),
        .dbeta = oct_buffer_data(g->params[self->beta].grad),
        .mode = g->grad_mode,
        .bound = oct_buffer_data(self->bound),
        .sigma = oct_buffer_data(self->sigma),
        .sigma_all = oct_buffer_data(self->sigma_all)};
    return g->backend->bn_bwd_finalize(g->backend, &finish);
}

static struct oct_bn_bwd_apply_args apply_args(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct oct_bn_bwd_apply_args args = {.rows = rows_of(y),
        .channels = y->c,
        .rows_per_sample = (int64_t)y->h * y->w,
        .da = oct_buffer_data(out->grad),
        .da_dtype = out->grad_dtype,
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .ix = oct_buffer_data(self->ix),
        .jx = oct_buffer_data(self->jx),
        .m1 = oct_buffer_data(self->m1),
        .m2 = oct_buffer_data(self->m2),
        .relu = self->relu,
        .mask = oct_buffer_data(self->inside ? self->inside : self->mask),
        .residual_mask = self->inside ? oct_buffer_data(self->mask) : NULL,
        .rounding = y->pre->layer.role[OCT_ROLE_DY_DW].rounding,
        .tensor = (uint32_t)node->index,
        .step = step,
        .workspace = oct_plan_workspace_data(g->plan),
        .flag = &step->flag};
    return args;
}

/* amax of every channel and the counts above sigma: evidence for the clip rules. */
static void gather_evidence(
    const struct norm *self, const struct oct_pre *pre, struct oct_bn_bwd_apply_args *args)
{
    args->amax = oct_buffer_data(pre->dy_amax);
    args->sigma = oct_buffer_data(self->sigma);
    args->sigma_all = oct_buffer_data(self->sigma_all);
    args->above = oct_buffer_data(self->above);
    args->above_all = oct_buffer_data(self->above_all);
}

static struct oct_range_evidence evidence_of(struct oct_graph *g, struct oct_node *node,
    const struct oct_range_state *range, enum oct_role role, bool exact)
{
    struct norm *self = node->self;
    struct oct_value *y = oct_in(g, node, 0);
    const struct oct_pre *pre = y->pre;
    bool bound = !exact && pre->layer.role[role].refresh == OCT_REFRESH_BOUND;
    bool whole = range->count == 1;
    struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(bound ? self->bound : pre->dy_amax),
        .amax_count = y->c,
        .above = oct_buffer_data(whole ? self->above_all : self->above),
        .population = (double)rows_of(y) * (whole ? y->c : 1)};
    return evidence;
}

/* The clip value of one copy of dY, after a search for its share of the maximum if one is due. */
static enum oct_status adapt(struct oct_graph *g, struct oct_node *node,
    const struct oct_range_state *range, enum oct_role role, bool exact)
{
    const struct norm *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    struct oct_range_evidence evidence = evidence_of(g, node, range, role, exact);

    if (range->share && g->search) {
        bool of_weight = role == OCT_ROLE_DY_DW || !y->pre->need_channel;
        struct oct_range_search search = {.rows = rows_of(y),
            .channels = y->c,
            .x = oct_buffer_data(self->dy_searched),
            .dtype = g->numerics->act_dtype,
            .lr_factor = of_weight ? oct_buffer_data(y->pre->lr_factor) : NULL,
            .workspace = oct_buffer_data(self->sums)};
        OCT_TRY(oct_range_search_share(g->backend, range, &search, &evidence));
    }
    return oct_range_adapt(g->backend, range, &evidence);
}

/* dY for a search, in a pass of its own. */
static enum oct_status make_searched(struct oct_graph *g, struct oct_node *node)
{
    const struct norm *self = node->self;
    struct oct_bn_bwd_apply_args args = apply_args(g, node);
    args.dy = oct_buffer_data(self->dy_searched);
    args.dy_dtype = g->numerics->act_dtype;
    return g->backend->bn_bwd_apply(g->backend, &args);
}

/* Clip values of both copies of dY. `exact` makes a pass first that gathers today's evidence. */
static enum oct_status set_error_ranges(struct oct_graph *g, struct oct_node *node, bool exact)
{
    struct norm *self = node->self;
    struct oct_pre *pre = oct_in(g, node, 0)->pre;

    if (exact) {
        struct oct_bn_bwd_apply_args look = apply_args(g, node);
        gather_evidence(self, pre, &look);
        OCT_TRY(g->backend->bn_bwd_apply(g->backend, &look));
    }
    if (self->dy_searched && g->search)
        OCT_TRY(make_searched(g, node));
    if (pre->need_channel)
        OCT_TRY(adapt(g, node, &pre->channel_range, OCT_ROLE_DY_DW, exact));
    if (pre->need_tensor)
        OCT_TRY(adapt(g, node, &pre->tensor_range, OCT_ROLE_DY_DX, exact));
    return OCT_OK;
}

/* `last` has no last step at first: the first step of a run takes the exact way. */
static bool needs_exact(const struct oct_graph *g, const struct oct_pre *pre)
{
    enum oct_role role = pre->need_channel ? OCT_ROLE_DY_DW : OCT_ROLE_DY_DX;
    enum oct_refresh refresh = pre->layer.role[role].refresh;
    return refresh == OCT_REFRESH_EXACT || (refresh == OCT_REFRESH_LAST && g->fresh);
}

static bool wants_evidence(const struct oct_pre *pre)
{
    const struct oct_policy *dw = &pre->layer.role[OCT_ROLE_DY_DW];
    const struct oct_policy *dx = &pre->layer.role[OCT_ROLE_DY_DX];
    return dw->clip == OCT_CLIP_TAIL || dx->clip == OCT_CLIP_TAIL ||
           dw->refresh == OCT_REFRESH_LAST || dx->refresh == OCT_REFRESH_LAST;
}

static enum oct_status apply(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    struct oct_pre *pre = oct_in(g, node, 0)->pre;
    struct oct_value *residual = oct_in(g, node, 1);
    struct oct_bn_bwd_apply_args args = apply_args(g, node);
    bool integer = pre->need_channel || pre->need_tensor;
    bool exact = integer && needs_exact(g, pre);

    if (integer)
        OCT_TRY(set_error_ranges(g, node, exact));
    if (pre->need_channel) {
        args.q_channel = oct_buffer_data(pre->dy_channel);
        args.q_channel_lo = oct_buffer_data(pre->dy_channel_lo);
        args.range_channel = oct_range_now(&pre->channel_range);
    }
    if (pre->need_tensor) {
        args.q_tensor = oct_buffer_data(pre->dy_tensor);
        args.q_tensor_lo = oct_buffer_data(pre->dy_tensor_lo);
        args.range_tensor = oct_range_now(&pre->tensor_range);
    }
    if (integer) {
        args.saturated = oct_buffer_data(pre->saturated);
        if (!exact && wants_evidence(pre))
            gather_evidence(self, pre, &args);
    }
    if (pre->need_real) {
        args.dy = oct_buffer_data(pre->dy_real);
        args.dy_dtype = g->numerics->act_dtype;
    }
    if (residual) {
        args.d_residual = oct_buffer_data(residual->grad);
        args.d_residual_dtype = residual->grad_dtype;
        args.d_residual_mode = oct_value_grad_mode(residual, node);
    }
    return g->backend->bn_bwd_apply(g->backend, &args);
}

/* dY as it was before quantisation, in a pass of its own that has no other output. */
static enum oct_status sample(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    struct oct_bn_bwd_apply_args args = apply_args(g, node);

    args.dy = oct_buffer_data(pre->dy_sample);
    args.dy_dtype = OCT_F32;
    return args.dy ? g->backend->bn_bwd_apply(g->backend, &args) : OCT_OK;
}

static enum oct_status norm_backward(struct oct_graph *g, struct oct_node *node)
{
    struct norm *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_pre *pre = y->pre;
    int64_t elements = oct_value_elements(y);
    double begin = oct_op_begin(g);

    OCT_TRY(reduce(g, node));
    oct_op_end(g, node, "backward reduce", begin);
    begin = oct_op_begin(g);
    OCT_TRY(apply(g, node));
    oct_op_end(g, node, "backward apply", begin);
    if (oct_is_sampled(g))
        OCT_TRY(sample(g, node));
    oct_trace(g, node, "m1", OCT_F32, self->m1, y->c);
    oct_trace(g, node, "m2", OCT_F32, self->m2, y->c);
    oct_trace(g, node, "bound", OCT_F32, self->bound, y->c);
    oct_trace(g, node, "sigma", OCT_F32, self->sigma, y->c);
    oct_trace(g, node, "dgamma", OCT_F32, g->params[self->gamma].grad, y->c);
    oct_trace(g, node, "dbeta", OCT_F32, g->params[self->beta].grad, y->c);
    oct_trace(g, node, "dy_dw", OCT_S8, pre->dy_channel, elements);
    oct_trace(g, node, "dy_dx", OCT_S8, pre->dy_tensor, elements);
    oct_trace(g, node, "dy", g->numerics->act_dtype, pre->dy_real, elements);
    return OCT_OK;
}

static const struct oct_node_type norm_type = {
    "norm", norm_declare, norm_book, norm_forward, norm_backward, NULL};

int oct_add_norm(struct oct_graph *g, int y, const char *name, int residual, bool relu)
{
    if (g->status != OCT_OK)
        return -1;
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
    self->relu = relu;
    self->gamma = oct_graph_param(g, name, "weight", false, 1, &c);
    self->beta = oct_graph_param(g, name, "bias", false, 1, &c);
    return out;
}
