/* Softmax cross-entropy: forward gives loss and accuracy per sample and, in training, the gradient
 * of the logits at once. */
#include "graph/graph.h"

static enum oct_status loss_declare(struct oct_graph *g, struct oct_node *node)
{
    (void)g, (void)node;
    return OCT_OK;
}

static enum oct_status loss_book(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *logits = oct_in(g, node, 0);
    oct_plan_use(logits->real, oct_forward_moment(node));
    oct_value_write_grad(g, logits, node);
    oct_plan_use(logits->grad, oct_forward_moment(node));
    return OCT_OK;
}

static enum oct_status loss_forward(struct oct_graph *g, struct oct_node *node)
{
    struct oct_value *logits = oct_in(g, node, 0);
    struct oct_step_state *step = oct_buffer_data(g->step);
    double begin = oct_op_begin(g);
    struct oct_loss_args args = {.n = logits->n,
        .k = logits->c,
        .logits = oct_buffer_data(logits->real),
        .labels = oct_buffer_data(g->labels),
        .smoothing = g->training ? g->label_smoothing : 0.0f,
        .grad_scale = g->grad_scale,
        .loss = oct_buffer_data(g->loss),
        .top1 = oct_buffer_data(g->top1),
        .top5 = oct_buffer_data(g->top5),
        .dlogits = g->training ? oct_buffer_data(logits->grad) : NULL,
        .flag = g->training ? &step->flag : NULL};
    OCT_TRY(g->backend->loss(g->backend, &args));
    oct_op_end(g, node, "forward", begin);
    oct_trace(g, node, "loss", OCT_F32, g->loss, logits->n);
    if (g->training)
        oct_trace(g, node, "dlogits", OCT_F32, logits->grad, oct_value_elements(logits));
    return OCT_OK;
}

static enum oct_status loss_backward(struct oct_graph *g, struct oct_node *node)
{
    (void)g, (void)node; /* the gradient was written in forward */
    return OCT_OK;
}

static const struct oct_node_type loss_type = {
    "loss", loss_declare, loss_book, loss_forward, loss_backward, NULL};

int oct_add_loss(struct oct_graph *g, int logits)
{
    if (g->status != OCT_OK)
        return -1;
    int out = oct_graph_value(g, OCT_VALUE_FEATURES, "loss", g->batch, 1, 1, 1);
    g->values[out].need_grad = false;
    oct_graph_node(g, &loss_type, "loss", 0, logits, -1, out);
    g->logits = logits;
    return out;
}
