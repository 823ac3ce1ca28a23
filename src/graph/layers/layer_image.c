/* The network's input: images u8[N,H,W,C] become normalised reals, then codes if a product wants
 * them. */
#include "graph/graph.h"

struct image {
    struct oct_buffer *real; /* f32 or act_dtype [N,H,W,C] */
    enum oct_dtype dtype;
    struct oct_buffer *amax; /* f32[C] */
};

static enum oct_status image_declare(struct oct_graph *g, struct oct_node *node)
{
    (void)g, (void)node;
    return OCT_OK;
}

static enum oct_status image_book(struct oct_graph *g, struct oct_node *node)
{
    struct image *self = node->self;
    struct oct_value *out = oct_out(g, node);
    int64_t elements = oct_value_elements(out);
    int moment = oct_forward_moment(node);

    /* codes are made from f32, whatever dtype float products read */
    self->dtype = out->need_real ? out->real_dtype : OCT_F32;
    self->real = oct_plan_book(g->plan, (size_t)elements * oct_dtype_bytes(self->dtype), moment,
        moment, "%s.real", out->name);
    if (out->need_real)
        out->real = self->real;
    if (!out->need_codes)
        return OCT_OK;
    self->amax =
        oct_plan_book(g->plan, 4 * (size_t)out->c, moment, moment, "%s.channel_amax", out->name);
    out->codes =
        oct_plan_book(g->plan, oct_codes_bytes(g, out), moment, moment, "%s.codes", out->name);
    oct_range_book(g->plan, &out->range, 1, &g->numerics->role[OCT_ROLE_X], true, out->name);
    oct_graph_range_state(g, &out->range, out->name);
    oct_plan_workspace(
        g->plan, g->backend->channel_workspace(g->backend, elements / out->c, out->c));
    return OCT_OK;
}

static enum oct_status image_quantise(struct oct_graph *g, struct oct_node *node)
{
    struct image *self = node->self;
    struct oct_value *out = oct_out(g, node);
    oct_backend *backend = g->backend;
    struct oct_step_state *step = oct_buffer_data(g->step);
    int64_t rows = oct_value_elements(out) / out->c;

    if (g->training) {
        struct oct_channel_stats_args stats = {.rows = rows,
            .channels = out->c,
            .x = oct_buffer_data(self->real),
            .dtype = self->dtype,
            .amax = oct_buffer_data(self->amax),
            .workspace = oct_plan_workspace_data(g->plan),
            .flag = &step->flag};
        OCT_TRY(backend->channel_stats(backend, &stats));
        OCT_TRY(oct_range_from_amax(backend, &out->range, stats.amax, out->c));
        OCT_TRY(oct_range_average(backend, &out->range));
    }
    const struct oct_range range = oct_range_for(&out->range, g->training);
    if (g->numerics->emulated) /* self->real is f32: so is act_dtype */
        return oct_emulate_codes(g, self->real, out->codes, oct_value_elements(out), &range);
    struct oct_quantise_args quantise = {.rows = rows,
        .channels = out->c,
        .x = oct_buffer_data(self->real),
        .dtype = self->dtype,
        .range = range,
        .step = step,
        .q = oct_buffer_data(out->codes),
        .flag = &step->flag};
    return backend->quantise(backend, &quantise);
}

static enum oct_status image_forward(struct oct_graph *g, struct oct_node *node)
{
    struct image *self = node->self;
    struct oct_value *out = oct_out(g, node);
    int64_t elements = oct_value_elements(out);
    double begin = oct_op_begin(g);
    struct oct_image_args args = {.rows = elements / out->c,
        .channels = out->c,
        .channels_out = out->c,
        .image = oct_buffer_data(g->images),
        .x = oct_buffer_data(self->real),
        .x_dtype = self->dtype};

    for (int c = 0; c < out->c; c++) {
        args.a[c] = (float)(1.0 / (255.0 * g->std[c]));
        args.b[c] = (float)(-g->mean[c] / g->std[c]);
    }
    OCT_TRY(g->backend->image(g->backend, &args));
    if (out->need_codes)
        OCT_TRY(image_quantise(g, node));
    oct_op_end(g, node, "forward", begin);
    oct_trace(g, node, "codes", oct_codes_dtype(g), out->codes, elements);
    return OCT_OK;
}

static enum oct_status image_backward(struct oct_graph *g, struct oct_node *node)
{
    (void)g, (void)node; /* images need no gradient */
    return OCT_OK;
}

static const struct oct_node_type image_type = {
    "image", image_declare, image_book, image_forward, image_backward, NULL};

int oct_add_image(struct oct_graph *g, int h, int w, int c)
{
    if (g->status == OCT_OK && (h < 1 || w < 1 || c < 1 || c > 4))
        g->status = oct_fail(OCT_SHAPE, "images of %dx%d with %d channels: need 1 to 4", h, w, c);
    int out = oct_graph_value(g, OCT_VALUE_IMAGE, "image", g->batch, h, w, c);
    oct_graph_node(g, &image_type, "image", sizeof(struct image), -1, -1, out);
    g->input = out;
    return out;
}
