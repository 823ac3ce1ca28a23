/* A network: nodes in order of execution, the values between them, parameters and state.
 * Building appends (order of calls = order of execution; backward is the same array in reverse);
 * planning books all memory; afterwards forward, backward and update only enqueue backend ops.
 * Next to read: layers/layer_conv.c, then layers/layer_norm.c. */
#ifndef OCT_GRAPH_H
#define OCT_GRAPH_H

#include "comm/comm.h"
#include "base/plan.h"
#include "quant/quant.h"

enum oct_value_kind {
    OCT_VALUE_IMAGE,   /* network input */
    OCT_VALUE_ACT,     /* activation X: int8 codes and/or reals of act_dtype */
    OCT_VALUE_PRE,     /* product output Y before normalisation: reals of act_dtype */
    OCT_VALUE_FEATURES /* f32 vector per image: pooled features, logits */
};

struct oct_value {
    char name[64];
    enum oct_value_kind kind;
    int n, h, w, c;
    int producer;      /* node */
    int last_consumer; /* node that writes the gradient first; -1: none */
    bool need_codes, need_real, need_grad;

    struct oct_buffer *codes;     /* oct_codes_dtype[n,h,w,c] */
    struct oct_range_state range; /* of codes, one per tensor */
    struct oct_buffer *real;
    enum oct_dtype real_dtype; /* s32: sums of `window` codes of that range */
    int window;
    struct oct_buffer *grad;
    enum oct_dtype grad_dtype;
    bool grad_on_codes; /* grad goes through codes once it is summed up */
    struct oct_range_state grad_range;
    struct oct_buffer *grad_amax, *grad_saturated; /* f32[c]; s64[1], for reports */

    struct oct_pre *pre; /* OCT_VALUE_PRE only */
};

/* What makes codes by shifts: its coefficients (struct oct_shift), and the largest result of the
 * last step. */
struct oct_shifter {
    struct oct_buffer *by, *bias; /* s32 */
    struct oct_buffer *amax;      /* f32[amax_count], state */
    int amax_count;
};

/* What passes between a convolution and the normalisation behind it, besides y itself. */
struct oct_pre {
    bool integer; /* y comes from int32 accumulators, `stats` are theirs */
    struct oct_acc_stats_buffers {
        struct oct_buffer *sum, *sumsq, *min, *max;
        int shift;
    } stats;
    struct oct_buffer *x_scale, *w_scale;
    int w_scale_per_k;

    /* y in codes: the convolution also does the work of node `joined`, an affine one with no more
     * than a bias (parameter `joined_bias`, or -1) and a ReLU; -1: of none */
    struct oct_shifter shifter;
    int joined, joined_bias;
    /* in evaluation y does not exist: the convolution also does the work of this normalisation,
     * whose range no statistic decides, and writes its codes; -1: it does not */
    int merged;

    /* the error dY in the forms its two products ask for */
    bool need_channel, need_tensor, need_real;
    int channel_planes, tensor_planes;
    struct oct_buffer *dy_channel, *dy_channel_lo, *dy_tensor, *dy_tensor_lo, *dy_real;
    struct oct_range_state channel_range, tensor_range;
    struct oct_layer_numerics layer; /* of the convolution */
    struct oct_buffer *saturated;    /* s64[2]: clipped codes of the two copies, for reports */
    struct oct_buffer *dy_amax;      /* f32[K]: largest |dY| per channel, where it was gathered */
    struct oct_buffer *dy_sample;    /* f32: dY before quantisation, in sampled steps */
    struct oct_buffer *forward;      /* s64[2]: elements of a clipped channel that were clipped;
                                      * of y beyond its declared range; for reports */
    struct oct_buffer *barrier;      /* s64[2]: sums of the barrier on the activation, or NULL */
    struct oct_buffer *lr_factor;    /* f32[1] of the weight, where dY is searched; or NULL */
};

/* How a parameter begins. */
enum oct_initial {
    OCT_INITIAL_CONSTANT, /* the value itself */
    OCT_INITIAL_NORMAL,   /* standard deviation */
    OCT_INITIAL_UNIFORM   /* bound of either side */
};

struct oct_param {
    char name[72]; /* torchvision's */
    enum oct_initial initial;
    float initial_value;
    int dims;
    int64_t dim[4], count;
    bool decay;      /* weight decay applies */
    float own_decay; /* else this does, whatever the run's is; 0: none */
    struct oct_buffer *value, *momentum, *grad, *average; /* f32[count]; average: EMA or NULL */
    struct oct_buffer *amax;                              /* f32[1]: max |value|, or NULL */
    struct oct_buffer *lr_factor;                         /* f32[1], state, or NULL */
    float initial_lr_factor;                              /* what lr_factor begins at */
    struct oct_buffer *barrier; /* s64[2]: sums for reports, where a barrier holds it; or NULL */
    float tau;                  /* of the barrier */
    /* the update in fixed point: */
    bool moves_in_float;              /* not this one: its gradient is a float product */
    struct oct_buffer *gradient_amax; /* f32[1], where the gradient is normalised; or NULL */
    struct oct_buffer *codes;         /* s64[OCT_FIXED_COUNTS] of it, for reports */
    struct oct_buffer *unit;          /* f32[1] of the weight's codes */
};

/* Device memory that a checkpoint stores besides parameters. */
struct oct_state {
    char name[96];
    enum oct_dtype dtype;
    int dims;
    int64_t dim[4];
    struct oct_buffer *buffer;
};

struct oct_node;
struct oct_graph;

struct oct_node_type {
    const char *name;
    /* declares what representations of its inputs the node needs */
    enum oct_status (*declare)(struct oct_graph *, struct oct_node *);
    /* books outputs, state and workspace; marks inputs as used */
    enum oct_status (*book)(struct oct_graph *, struct oct_node *);
    enum oct_status (*forward)(struct oct_graph *, struct oct_node *);
    enum oct_status (*backward)(struct oct_graph *, struct oct_node *);
    /* after parameters changed: remakes what is derived from them; may be NULL */
    enum oct_status (*prepare)(struct oct_graph *, struct oct_node *);
};

struct oct_node {
    const struct oct_node_type *type;
    char name[64];
    int index;
    int in[2]; /* values, -1: none */
    int out;
    void *self; /* the type's own struct, owned by the graph */
    /* for reports */
    struct oct_conv_shape shape; /* of products; macs 0 for other nodes */
    bool is_product, edge, has_dgrad;
    struct oct_layer_numerics layer;
};

/* Called after each node with every tensor it made, or around its ops. All may be NULL. */
struct oct_observer {
    void *user;
    void (*tensor)(void *user, const struct oct_node *node, const char *what, enum oct_dtype dtype,
        const void *device, int64_t count);
    void (*op)(void *user, const struct oct_node *node, const char *pass, double seconds);
    /* An int8 weight gradient, and the float product of the same X with the unquantised dY; f32
     * [count], device. Costs the pass over dY, the float product and their time, and changes no
     * other tensor. Needs graph->with_samples. */
    void (*gradients)(void *user, const struct oct_node *node, const void *dw, const void *dw_float,
        int64_t count);
};

struct oct_graph {
    oct_backend *backend;
    const struct oct_numerics *numerics;
    struct oct_comm *comm;
    struct oct_plan *plan;
    void *persistent, *transient; /* the two blocks of device memory */
    struct oct_node *nodes;
    struct oct_value *values;
    struct oct_param *params;
    struct oct_state *states;
    int node_count, value_count, param_count, state_count;
    int node_capacity, value_capacity, param_capacity, state_capacity;
    enum oct_status status; /* sticky while building */

    int batch;
    int input, logits; /* values */
    float eps, bn_momentum;
    bool with_average;      /* parameters get an EMA buffer */
    bool with_samples;      /* memory for observer->gradients is booked */
    double mean[4], std[4]; /* normalisation of the images */

    struct oct_buffer *step;               /* struct oct_step_state */
    struct oct_buffer *images;             /* u8[batch,h,w,c] */
    struct oct_buffer *labels;             /* s32[batch] */
    struct oct_buffer *loss, *top1, *top5; /* f32, u8, u8 [batch] */

    /* set by the trainer before each pass */
    bool training;
    bool fresh;               /* no earlier step's statistics exist yet */
    bool search;              /* shares of clip values are searched in this step */
    enum oct_write grad_mode; /* overwrite on the first of several accumulated batches */
    float label_smoothing, grad_scale;
    const struct oct_observer *observer;
};

enum oct_status oct_graph_open(oct_backend *backend, const struct oct_numerics *numerics,
    struct oct_comm *comm, int batch, struct oct_graph **out);
void oct_graph_close(struct oct_graph *graph);

/* --- building: each returns the id of the value it makes; failures stick in graph->status --- */

struct oct_conv_attr {
    int k, r, s, stride, pad, dilation; /* dilation 0 means 1 */
};
int oct_add_image(struct oct_graph *g, int h, int w, int c);
int oct_add_conv(struct oct_graph *g, int x, const char *name, const struct oct_conv_attr *attr);
/* relu?(bn(y) (+ residual)); residual -1: none */
int oct_add_norm(struct oct_graph *g, int y, const char *name, int residual, bool relu);
/* Any of bias, scale, residual and ReLU may be missing. y is any value. */
struct oct_affine_attr {
    const char *owner;     /* parameters are called OWNER.BIAS, or BIAS if owner is "" */
    const char *bias;      /* NULL: none */
    const char *scale;     /* one multiplier of all y; NULL: none */
    bool bias_per_channel; /* else one bias for all */
    bool relu, decay;      /* decay: weight decay applies to bias and scale */
    float lr_factor;       /* on the learning rate of bias and scale; 0: 1 */
    bool adds_reals;       /* the residual is read unquantised, whatever the scheme says */
};
/* relu?(scale y + bias (+ residual)); residual -1: none */
int oct_add_affine(
    struct oct_graph *g, int y, const char *name, int residual, const struct oct_affine_attr *attr);
int oct_add_max_pool(struct oct_graph *g, int x, const char *name, int window, int stride, int pad);
int oct_add_global_pool(struct oct_graph *g, int x, const char *name);
int oct_add_linear(struct oct_graph *g, int x, const char *name, int k);
int oct_add_loss(struct oct_graph *g, int logits);

/* --- planning and running --- */
enum oct_status oct_graph_plan(struct oct_graph *g);
enum oct_status oct_graph_forward(struct oct_graph *g);
enum oct_status oct_graph_backward(struct oct_graph *g);
enum oct_status oct_graph_reduce_gradients(struct oct_graph *g);
/* SGD over all parameters, then everything derived from them. */
struct oct_optimiser {
    float momentum, weight_decay;
    bool nesterov;
};
enum oct_status oct_graph_update(struct oct_graph *g, const struct oct_optimiser *optimiser);
/* Running statistics and scales before a step, and back again if the step was flagged: it then has
 * changed no weight, scale or average. */
enum oct_status oct_graph_keep_states(struct oct_graph *g);
enum oct_status oct_graph_restore_states(struct oct_graph *g);
enum oct_status oct_graph_average(struct oct_graph *g, float decay);
/* max |w| of every weight, scales, packs: after initialisation or loading. */
enum oct_status oct_graph_prepare(struct oct_graph *g);

/* --- for layers --- */
static inline int oct_forward_moment(const struct oct_node *node)
{
    return node->index;
}

static inline int oct_backward_moment(const struct oct_graph *g, const struct oct_node *node)
{
    return 2 * g->node_count - 1 - node->index;
}

int oct_graph_value(
    struct oct_graph *g, enum oct_value_kind kind, const char *name, int n, int h, int w, int c);
struct oct_node *oct_graph_node(struct oct_graph *g, const struct oct_node_type *type,
    const char *name, size_t self_bytes, int in0, int in1, int out);
/* NODE.SUFFIX, or SUFFIX if node is ""; begins at 0. */
int oct_graph_param(struct oct_graph *g, const char *node, const char *suffix, bool decay, int dims,
    const int64_t *dim);
void oct_graph_initial(struct oct_graph *g, int param, enum oct_initial initial, float value);
/* A factor on the parameter's learning rate. */
void oct_graph_lr_factor(struct oct_graph *g, int param, float factor);
/* Multiplies the initial values of the parameter of that name; 0: they are 0. */
void oct_graph_scale_initial(struct oct_graph *g, const char *name, float factor);
void oct_graph_state(struct oct_graph *g, struct oct_buffer *buffer, enum oct_dtype dtype, int dims,
    const int64_t *dim, const char *name, ...) __attribute__((format(printf, 6, 7)));
void oct_graph_range_state(
    struct oct_graph *g, const struct oct_range_state *range, const char *name);
int64_t oct_value_elements(const struct oct_value *value);
/* Books grad of a value (by its producer) and marks a consumer's write. */
void oct_value_book_grad(struct oct_graph *g, struct oct_value *value);
void oct_value_write_grad(struct oct_graph *g, struct oct_value *value, struct oct_node *node);
enum oct_write oct_value_grad_mode(const struct oct_value *value, const struct oct_node *node);
struct oct_acc_stats oct_pre_stats(const struct oct_pre *pre);

/* f32 or bf16 numbers become what is left of them on the range's grid, in place. */
struct oct_reals {
    struct oct_buffer *buffer;
    enum oct_dtype dtype;
    int64_t count;
};
enum oct_status oct_put_on_grid(struct oct_graph *g, const struct oct_reals *x,
    const struct oct_range *range, int64_t *saturated);
/* Emulated codes: a copy of f32 numbers, on the grid. */
enum oct_status oct_emulate_codes(struct oct_graph *g, const struct oct_buffer *from,
    struct oct_buffer *to, int64_t count, const struct oct_range *range);

static inline bool oct_is_sampled(const struct oct_graph *g)
{
    return g->observer && g->observer->gradients;
}

void oct_trace(struct oct_graph *g, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const struct oct_buffer *buffer, int64_t count);
double oct_op_begin(const struct oct_graph *g);
void oct_op_end(
    const struct oct_graph *g, const struct oct_node *node, const char *pass, double begin);

static inline struct oct_value *oct_in(struct oct_graph *g, const struct oct_node *node, int i)
{
    return node->in[i] >= 0 ? &g->values[node->in[i]] : NULL;
}

/* How codes are stored: where they are emulated, as f32 numbers on their grid. */
static inline enum oct_dtype oct_codes_dtype(const struct oct_graph *g)
{
    return g->numerics->emulated ? OCT_F32 : OCT_S8;
}

static inline size_t oct_codes_bytes(const struct oct_graph *g, const struct oct_value *value)
{
    return (size_t)oct_value_elements(value) * oct_dtype_bytes(oct_codes_dtype(g));
}

/* Whether the forward pass is integer only: y in codes, no activation in reals (layers/shift.h). */
static inline bool oct_is_integer_only(const struct oct_graph *g)
{
    return oct_format_is_integer(g->numerics->role[OCT_ROLE_Y].format);
}

/* Whether this pass makes no y: node pre->merged is done by the product. */
static inline bool oct_is_merged(const struct oct_graph *g, const struct oct_pre *pre)
{
    return pre && pre->merged >= 0 && !g->training;
}

static inline struct oct_value *oct_out(struct oct_graph *g, const struct oct_node *node)
{
    return &g->values[node->out];
}

#endif
