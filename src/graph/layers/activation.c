#include "graph/layers/shift.h"

struct oct_buffer *oct_node_book(struct oct_graph *g, const struct oct_node *node, size_t bytes,
    int first, int last, const char *what)
{
    return oct_plan_book(g->plan, bytes, first, last, "%s.%s", node->name, what);
}

static bool residual_is_codes(const struct oct_graph *g, const struct oct_activation *self)
{
    return self->by_shifts ||
           (!self->adds_reals &&
               oct_format_is_integer(g->numerics->role[OCT_ROLE_RESIDUAL].format));
}

void oct_activation_declare(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    struct oct_value *out = oct_out(g, node);
    if (self->by_shifts)
        y->need_codes = oct_out(g, node)->need_codes = true;
    else if (!y->pre)
        y->need_real = true;
    if (residual)
        *(residual_is_codes(g, self) ? &residual->need_codes : &residual->need_real) = true;
    if (out->kind == OCT_VALUE_FEATURES && !self->by_shifts)
        out->need_real = true;
}

static void book_clip(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    const struct oct_value *out = oct_out(g, node);
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    self->clip_lo = oct_node_book(g, node, 4 * (size_t)out->c, now, now, "clip_lo");
    self->clip_hi = oct_node_book(g, node, 4 * (size_t)out->c, now, now, "clip_hi");
    self->inside =
        oct_node_book(g, node, ((size_t)oct_value_elements(out) + 7) / 8, now, back, "inside");
}

/* Codes by shifts. Those of a convolution that did everything are the result. */
static void book_shifted(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *out = oct_out(g, node);
    int now = oct_forward_moment(node);

    oct_plan_use(
        y->window ? y->real : y->codes, self->rereads_y ? oct_backward_moment(g, node) : now);
    if (self->done) { /* the convolution also makes the coefficients of backward */
        struct oct_buffer *const made[] = {self->a, self->b, self->ix, self->jx};
        for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
            oct_plan_use(made[i], oct_forward_moment(&g->nodes[y->producer]));
        out->codes = y->codes;
        out->range = y->range;
    } else {
        self->shifter.amax_count = 1;
        oct_shifter_book(g, node, &self->shifter, out, OCT_ROLE_X);
    }
    oct_value_book_grad(g, out);
}

static void book_result(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    struct oct_value *out = oct_out(g, node);
    size_t elements = (size_t)oct_value_elements(out);
    int now = oct_forward_moment(node);

    if (out->need_codes)
        out->codes = oct_node_book(g, node, oct_codes_bytes(g, out), now, now, "codes");
    if (out->need_codes || self->clips) {
        oct_range_book(
            g->plan, &out->range, 1, &g->numerics->role[OCT_ROLE_X], !self->clips, out->name);
        oct_graph_range_state(g, &out->range, out->name);
    }
    if (out->need_real && !out->real)
        out->real =
            oct_node_book(g, node, elements * oct_dtype_bytes(out->real_dtype), now, now, "real");
    oct_value_book_grad(g, out);
}

/* Backward reads x again. */
static void book_barrier(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    const struct oct_value *out = oct_out(g, node);
    struct oct_pre *pre = oct_in(g, node, 0)->pre;

    self->barred = g->numerics->barrier.lam_a > 0.0f && self->relu && !self->by_shifts;
    if (!self->barred)
        return;
    oct_plan_use(out->need_codes ? out->codes : out->real, oct_backward_moment(g, node));
    if (pre)
        pre->barrier = oct_node_book(g, node, 16, OCT_PERSISTENT, 0, "barrier");
}

void oct_activation_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_activation *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    size_t elements = (size_t)oct_value_elements(y), f = 4 * (size_t)y->c;
    int now = oct_forward_moment(node), back = oct_backward_moment(g, node);

    if (!self->by_shifts)
        oct_plan_use(y->real, self->rereads_y ? back : now);
    if (y->pre) {
        oct_plan_use(y->pre->stats.sum, now);
        oct_plan_use(y->pre->stats.sumsq, now);
        oct_plan_use(y->pre->stats.min, now);
        oct_plan_use(y->pre->stats.max, now);
    }
    if (residual)
        oct_plan_use(residual_is_codes(g, self) ? residual->codes : residual->real, now);
    self->a = oct_node_book(g, node, f, now, back, "a");
    self->b = oct_node_book(g, node, f, now, back, "b");
    self->ix = oct_node_book(g, node, f, now, back, "ix");
    self->jx = oct_node_book(g, node, f, now, back, "jx");
    self->z_amax = oct_node_book(g, node, f, now, now, "z_amax");
    self->amax = oct_node_book(g, node, 4, now, now, "amax");
    if (self->relu && (residual || self->rounds || (self->by_shifts && !self->done)))
        self->mask = oct_node_book(g, node, (elements + 7) / 8, now, back, "mask");
    if (self->clips)
        book_clip(g, node);
    if (self->rounds) {
        self->gamma_q = oct_node_book(g, node, f, now, now, "gamma_q");
        self->beta_q = oct_node_book(g, node, f, now, now, "beta_q");
    }
    if (y->pre)
        y->pre->forward = oct_node_book(g, node, 16, OCT_PERSISTENT, 0, "forward_counts");
    if (self->by_shifts)
        book_shifted(g, node);
    else
        book_result(g, node);
    book_barrier(g, node);
    oct_error_book(g, node);
    oct_plan_workspace(g->plan, g->backend->channel_workspace(g->backend, oct_rows_of(y), y->c));
    oct_plan_workspace(g->plan, g->backend->bn_workspace(g->backend, oct_rows_of(y), y->c));
}

static struct oct_act_fwd_args act_args(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    struct oct_value *y = oct_in(g, node, 0), *residual = oct_in(g, node, 1);
    struct oct_step_state *step = oct_buffer_data(g->step);
    struct oct_act_fwd_args args = {.rows = oct_rows_of(y),
        .channels = y->c,
        .y = oct_buffer_data(y->real),
        .y_dtype = y->real_dtype,
        .a = oct_buffer_data(self->a),
        .b = oct_buffer_data(self->b),
        .relu = self->relu,
        .clip_lo = oct_buffer_data(self->clip_lo),
        .clip_hi = oct_buffer_data(self->clip_hi),
        .flag = &step->flag};
    if (self->rounds) {
        args.a = oct_buffer_data(self->gamma_q);
        args.b = oct_buffer_data(self->beta_q);
        args.ix = oct_buffer_data(self->ix);
        args.jx = oct_buffer_data(self->jx);
        args.xhat_steps = g->numerics->norm.xhat;
    }
    if (residual && residual_is_codes(g, self)) {
        args.residual = oct_buffer_data(residual->codes);
        args.residual_dtype = oct_codes_dtype(g);
        args.residual_scale = oct_range_for(&residual->range, g->training).scale;
    } else if (residual) {
        args.residual = oct_buffer_data(residual->real);
        args.residual_dtype = residual->real_dtype;
    }
    return args;
}

/* A range of their own, to which the residual's adds: no pass, in evaluation too. */
enum oct_status oct_activation_clip_range(struct oct_graph *g, struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *out = oct_out(g, node), *residual = oct_in(g, node, 1);
    const struct oct_range_evidence evidence = {.amax = oct_buffer_data(self->z_amax),
        .amax_count = out->c,
        .plus = residual ? oct_range_for(&residual->range, g->training).clip : NULL};
    return oct_range_adapt(g->backend, &out->range, &evidence);
}

/* The scale of x before x is made. Without a residual the exact maximum follows from the extremes
 * of y by monotonicity, where they are known; else it takes a pass. */
static enum oct_status set_range(
    struct oct_graph *g, struct oct_node *node, const struct oct_act_fwd_args *act, bool amax_known)
{
    const struct oct_activation *self = node->self;
    struct oct_value *out = oct_out(g, node);
    struct oct_range_evidence evidence = {
        .amax = oct_buffer_data(self->z_amax), .amax_count = out->c};

    if (self->clips)
        return oct_activation_clip_range(g, node);
    if (act->residual || !amax_known) {
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
    const struct oct_activation *self = node->self;
    const struct oct_pre *pre = oct_in(g, node, 0)->pre;
    int64_t *counts = pre ? oct_buffer_data(pre->forward) : NULL;

    args->mask = oct_buffer_data(self->mask);
    args->inside = oct_buffer_data(self->inside);
    if (!pre)
        return;
    if (args->inside)
        args->clipped = &counts[0];
    args->y_limit = pre->layer.role[OCT_ROLE_Y].limit;
    if (args->y_limit > 0.0f)
        args->y_above = &counts[1];
}

enum oct_status oct_activation_pass(struct oct_graph *g, struct oct_node *node, bool amax_known)
{
    const struct oct_activation *self = node->self;
    struct oct_value *out = oct_out(g, node);
    struct oct_act_fwd_args args = act_args(g, node);

    if (self->clips || (out->need_codes && g->training))
        OCT_TRY(set_range(g, node, &args, amax_known));
    if (out->need_codes) {
        args.x = oct_buffer_data(out->codes);
        args.x_dtype = oct_codes_dtype(g);
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
    if (!out->need_codes || !g->numerics->emulated)
        return OCT_OK;
    const struct oct_reals emulated = {out->codes, OCT_F32, oct_value_elements(out)};
    return oct_put_on_grid(g, &emulated, &args.x_range, NULL);
}

void oct_activation_trace(struct oct_graph *g, const struct oct_node *node)
{
    const struct oct_activation *self = node->self;
    const struct oct_value *out = &g->values[node->out];
    int64_t elements = oct_value_elements(out);

    oct_trace(g, node, "a", OCT_F32, self->a, out->c);
    oct_trace(g, node, "b", OCT_F32, self->b, out->c);
    oct_trace(g, node, "ix", OCT_F32, self->ix, out->c);
    oct_trace(g, node, "jx", OCT_F32, self->jx, out->c);
    oct_trace(g, node, "clip_lo", OCT_F32, self->clip_lo, out->c);
    oct_trace(g, node, "clip_hi", OCT_F32, self->clip_hi, out->c);
    if (g->training) {
        oct_trace(g, node, "mask", OCT_U8, self->mask, (elements + 7) / 8);
        oct_trace(g, node, "inside", OCT_U8, self->inside, (elements + 7) / 8);
    }
    oct_trace(g, node, "codes", oct_codes_dtype(g), out->codes, elements);
    oct_trace(g, node, "real", out->real_dtype, out->real, elements);
}
