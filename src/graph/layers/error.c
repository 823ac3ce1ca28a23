/* The error behind an activation, quantised for the products that wait for it: evidence, clip
 * values, codes. See activation.h. */
#include "graph/layers/activation.h"

#include <assert.h>
#include <stdio.h>

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
    *hi = oct_plan_book(g->plan, oct_codes_bytes(g, y), now, last, "%s", name);
    if (policy->format == OCT_FORMAT_INT16 && !g->numerics->emulated)
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
    struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_pre *pre = y->pre;
    size_t bytes = (size_t)oct_value_elements(y) * oct_dtype_bytes(g->numerics->act_dtype);
    int now = oct_backward_moment(g, node);

    if (!pre->channel_range.share && !pre->tensor_range.share)
        return;
    self->sums = oct_node_book(g, node, 8 * OCT_SEARCH_SUMS, now, now, "search_sums");
    self->dy_searched = oct_node_book(g, node, bytes, now, now, "dy_searched");
}

/* What the products before y ask for, from here to their backward. */
static void book_operands(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_value *y = oct_in(g, node, 0);
    struct oct_pre *pre = y->pre;
    size_t elements = (size_t)oct_value_elements(y);
    int now = oct_backward_moment(g, node), last = oct_backward_moment(g, &g->nodes[y->producer]);

    pre->saturated = oct_node_book(g, node, 16, OCT_PERSISTENT, 0, "saturated");
    if (copies_are_equal(pre))
        pre->need_channel = false;
    assert(!pre->layer.emulated || !pre->need_channel || !pre->need_tensor); /* has one form */
    if (pre->need_channel) {
        bool per_channel = pre->layer.role[OCT_ROLE_DY_DW].granularity == OCT_PER_CHANNEL;
        book_error_codes(g, node, "dy_dw", OCT_ROLE_DY_DW, per_channel ? y->c : 1, &pre->dy_channel,
            &pre->dy_channel_lo, &pre->channel_range);
    }
    if (pre->need_tensor)
        book_error_codes(g, node, "dy_dx", OCT_ROLE_DY_DX, 1, &pre->dy_tensor, &pre->dy_tensor_lo,
            &pre->tensor_range);
    if (pre->need_real)
        pre->dy_real = oct_node_book(
            g, node, elements * oct_dtype_bytes(g->numerics->act_dtype), now, last, "dy");
    if (g->with_samples && pre->layer.wgrad)
        pre->dy_sample = oct_node_book(g, node, 4 * elements, now, last, "dy_sample");
    book_search(g, node);
}

/* Evidence that the clip rules keep from step to step. */
static void book_state(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    struct oct_pre *pre = oct_in(g, node, 0)->pre;
    const int64_t c = oct_out(g, node)->c, one = 1;

    pre->dy_amax = oct_node_book(g, node, 4 * (size_t)c, OCT_PERSISTENT, 0, "dy_amax");
    self->above = oct_node_book(g, node, 8 * (size_t)c, OCT_PERSISTENT, 0, "above");
    self->above_all = oct_node_book(g, node, 8, OCT_PERSISTENT, 0, "above_all");
    oct_graph_state(g, pre->dy_amax, OCT_F32, 1, &c, "scheme.%s.dy_amax", node->name);
    oct_graph_state(g, self->above, OCT_S64, 1, &c, "scheme.%s.above", node->name);
    oct_graph_state(g, self->above_all, OCT_S64, 1, &one, "scheme.%s.above_all", node->name);
}

void oct_error_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    size_t c = (size_t)y->c;
    int now = oct_backward_moment(g, node);

    self->sum_dz = oct_node_book(g, node, 8 * c, now, now, "sum_dz");
    self->sum_dz_xhat = oct_node_book(g, node, 8 * c, now, now, "sum_dz_xhat");
    self->sum_dz2 = oct_node_book(g, node, 8 * c, now, now, "sum_dz2");
    self->dz_min = oct_node_book(g, node, 4 * c, now, now, "dz_min");
    self->dz_max = oct_node_book(g, node, 4 * c, now, now, "dz_max");
    self->m1 = oct_node_book(g, node, 4 * c, now, now, "m1");
    self->m2 = oct_node_book(g, node, 4 * c, now, now, "m2");
    self->bound = oct_node_book(g, node, 4 * c, now, now, "bound");
    self->sigma = oct_node_book(g, node, 4 * c, now, now, "sigma");
    self->sigma_all = oct_node_book(g, node, 4, now, now, "sigma_all");
    if (y->pre) {
        book_state(g, node);
        book_operands(g, node);
    } else {
        oct_value_write_grad(g, y, node);
    }
    if (residual)
        oct_value_write_grad(g, residual, node);
}

/* y as the passes read it. Where nothing depends on it they read da in its place, so that y need
 * not live until backward. */
struct reread {
    const void *data;
    enum oct_dtype dtype;
};

static struct reread reread_y(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    struct reread read = {oct_buffer_data(y->real), y->real_dtype};
    if (self->by_shifts) /* of a convolution that did everything: those of the result */
        read = (struct reread){oct_buffer_data(y->codes), OCT_S8};
    if (!self->rereads_y)
        read = (struct reread){oct_buffer_data(out->grad), out->grad_dtype};
    return read;
}

/* The gradient of the activation, once its consumers have summed it up. */
static enum oct_status add_barrier(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_barrier_policy *barrier = &g->numerics->barrier;
    const struct oct_value *out = oct_out(g, node);
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    struct oct_barrier_bwd_args args = {.count = oct_value_elements(out),
        .x = oct_buffer_data(out->need_codes ? out->codes : out->real),
        .x_dtype = out->need_codes ? oct_codes_dtype(g) : out->real_dtype,
        .da = oct_buffer_data(out->grad),
        .da_dtype = out->grad_dtype,
        .barrier = {.lam = barrier->lam_a * g->grad_scale,
            .tau = barrier->tau_a,
            .sums = pre ? oct_buffer_data(pre->barrier) : NULL},
        .step = oct_buffer_data(g->step)};
    if (args.x_dtype == OCT_S8)
        args.x_scale = oct_range_now(&out->range).scale;
    OCT_TRY(g->backend->barrier_bwd(g->backend, &args));
    oct_trace(g, node, "grad", out->grad_dtype, out->grad, args.count);
    return OCT_OK;
}

enum oct_status oct_error_reduce(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    struct reread read = reread_y(g, node);
    struct oct_bn_bwd_reduce_args args = {.rows = oct_rows_of(y),
        .channels = y->c,
        .da = oct_buffer_data(out->grad),
        .da_dtype = out->grad_dtype,
        .y = read.data,
        .y_dtype = read.dtype,
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
    if (self->barred)
        OCT_TRY(add_barrier(g, node));
    return g->backend->bn_bwd_reduce(g->backend, &args);
}

static struct oct_bn_bwd_apply_args apply_args(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct reread read = reread_y(g, node);
    struct oct_bn_bwd_apply_args args = {.rows = oct_rows_of(y),
        .channels = y->c,
        .rows_per_sample = (int64_t)y->h * y->w,
        .da = oct_buffer_data(out->grad),
        .da_dtype = out->grad_dtype,
        .y = read.data,
        .y_dtype = read.dtype,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .ix = oct_buffer_data(self->ix),
        .jx = oct_buffer_data(self->jx),
        .m1 = oct_buffer_data(self->m1),
        .m2 = oct_buffer_data(self->m2),
        .relu = self->relu,
        .mask = oct_buffer_data(self->inside ? self->inside : self->mask),
        .residual_mask = self->inside ? oct_buffer_data(self->mask) : NULL,
        .rounding = y->pre ? y->pre->layer.role[OCT_ROLE_DY_DW].rounding : OCT_NEAREST,
        .tensor = (uint32_t)node->index,
        .step = step,
        .workspace = oct_plan_workspace_data(g->plan),
        .flag = &step->flag};
    return args;
}

/* amax of every channel and the counts above sigma: evidence for the clip rules. */
static void gather_evidence(const struct oct_activation *self, const struct oct_pre *pre,
    struct oct_bn_bwd_apply_args *args)
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
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    const struct oct_pre *pre = y->pre;
    bool bound = !exact && pre->layer.role[role].refresh == OCT_REFRESH_BOUND;
    bool whole = range->count == 1;
    struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(bound ? self->bound : pre->dy_amax),
        .amax_count = y->c,
        .above = oct_buffer_data(whole ? self->above_all : self->above),
        .population = (double)oct_rows_of(y) * (whole ? y->c : 1)};
    return evidence;
}

/* The clip value of one copy of dY, after a search for its share of the maximum if one is due. */
static enum oct_status adapt(struct oct_graph *g, struct oct_node *node,
    const struct oct_range_state *range, enum oct_role role, bool exact)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = oct_in(g, node, 0);
    struct oct_range_evidence evidence = evidence_of(g, node, range, role, exact);

    if (range->share && g->search) {
        bool of_weight = role == OCT_ROLE_DY_DW || !y->pre->need_channel;
        struct oct_range_search search = {.rows = oct_rows_of(y),
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
    const struct oct_activation *self = node->self;
    struct oct_bn_bwd_apply_args args = apply_args(g, node);
    args.dy = oct_buffer_data(self->dy_searched);
    args.dy_dtype = g->numerics->act_dtype;
    return g->backend->bn_bwd_apply(g->backend, &args);
}

/* Clip values of both copies of dY. `exact` makes a pass first that gathers today's evidence. */
static enum oct_status set_error_ranges(struct oct_graph *g, struct oct_node *node, bool exact)
{
    const struct oct_activation *self = node->self;
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

/* Where emulated codes of dy are, and their range. */
static struct oct_buffer *emulated_error(
    const struct oct_pre *pre, const struct oct_range_state **range)
{
    *range = pre->need_channel ? &pre->channel_range : &pre->tensor_range;
    return pre->need_channel ? pre->dy_channel : pre->dy_tensor;
}

/* What apply has left there goes through its grid. */
static enum oct_status emulate_error(struct oct_graph *g, const struct oct_value *y)
{
    const struct oct_pre *pre = y->pre;
    const struct oct_range_state *state;
    const struct oct_reals dy = {emulated_error(pre, &state), OCT_F32, oct_value_elements(y)};
    const struct oct_range range = oct_range_now(state);
    int64_t *saturated = oct_buffer_data(pre->saturated);
    return oct_put_on_grid(g, &dy, &range, &saturated[pre->need_channel ? 0 : 1]);
}

/* Codes of dy for its two products, each with a scale set before. */
static enum oct_status quantise_error(
    struct oct_graph *g, struct oct_node *node, struct oct_bn_bwd_apply_args *args)
{
    const struct oct_activation *self = node->self;
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    bool exact = needs_exact(g, pre);

    OCT_TRY(set_error_ranges(g, node, exact));
    if (!exact && wants_evidence(pre))
        gather_evidence(self, pre, args);
    if (pre->layer.emulated) {
        const struct oct_range_state *range;
        args->dy = oct_buffer_data(emulated_error(pre, &range));
        args->dy_dtype = OCT_F32;
        return OCT_OK;
    }
    if (pre->need_channel) {
        args->q_channel = oct_buffer_data(pre->dy_channel);
        args->q_channel_lo = oct_buffer_data(pre->dy_channel_lo);
        args->range_channel = oct_range_now(&pre->channel_range);
    }
    if (pre->need_tensor) {
        args->q_tensor = oct_buffer_data(pre->dy_tensor);
        args->q_tensor_lo = oct_buffer_data(pre->dy_tensor_lo);
        args->range_tensor = oct_range_now(&pre->tensor_range);
    }
    args->saturated = oct_buffer_data(pre->saturated);
    return OCT_OK;
}

static enum oct_status apply(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    const struct oct_pre *pre = y->pre;
    struct oct_bn_bwd_apply_args args = apply_args(g, node);

    if (pre && (pre->need_channel || pre->need_tensor))
        OCT_TRY(quantise_error(g, node, &args));
    if (!pre) {
        args.dy = oct_buffer_data(y->grad);
        args.dy_dtype = y->grad_dtype;
        args.dy_mode = oct_value_grad_mode(y, node);
    } else if (pre->need_real) {
        args.dy = oct_buffer_data(pre->dy_real);
        args.dy_dtype = g->numerics->act_dtype;
    }
    if (residual) {
        args.d_residual = oct_buffer_data(residual->grad);
        args.d_residual_dtype = residual->grad_dtype;
        args.d_residual_mode = oct_value_grad_mode(residual, node);
    }
    OCT_TRY(g->backend->bn_bwd_apply(g->backend, &args));
    return pre && pre->layer.emulated ? emulate_error(g, y) : OCT_OK;
}

/* dY as it was before quantisation, in a pass of its own that has no other output. */
static enum oct_status sample(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    struct oct_bn_bwd_apply_args args = apply_args(g, node);

    args.dy = pre ? oct_buffer_data(pre->dy_sample) : NULL;
    args.dy_dtype = OCT_F32;
    return args.dy ? g->backend->bn_bwd_apply(g->backend, &args) : OCT_OK;
}

static void trace(struct oct_graph *g, const struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *y = &g->values[node->in[0]];
    const struct oct_pre *pre = y->pre;
    int64_t elements = oct_value_elements(y);

    oct_trace(g, node, "m1", OCT_F32, self->m1, y->c);
    oct_trace(g, node, "m2", OCT_F32, self->m2, y->c);
    oct_trace(g, node, "bound", OCT_F32, self->bound, y->c);
    oct_trace(g, node, "sigma", OCT_F32, self->sigma, y->c);
    if (!pre) {
        oct_trace(g, node, "dy", y->grad_dtype, y->grad, elements);
        return;
    }
    oct_trace(g, node, "dy_dw", oct_codes_dtype(g), pre->dy_channel, elements);
    oct_trace(g, node, "dy_dx", oct_codes_dtype(g), pre->dy_tensor, elements);
    oct_trace(g, node, "dy", g->numerics->act_dtype, pre->dy_real, elements);
}

enum oct_status oct_error_apply(struct oct_graph *g, struct oct_node *node)
{
    double begin = oct_op_begin(g);

    OCT_TRY(apply(g, node));
    oct_op_end(g, node, "backward apply", begin);
    if (oct_is_sampled(g))
        OCT_TRY(sample(g, node));
    trace(g, node);
    return OCT_OK;
}
