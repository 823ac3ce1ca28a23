/* What the oneDNN products share: plans, made once per (op, shape, dtypes, mode), of slices that
 * the pool runs. A phase is a list of items (slices) run in any order; an item names its kind (the
 * primitives, shared by all slices of equal geometry) and where its buffers start. */
#ifndef OCT_CPU_DNNL_PLAN_H
#define OCT_CPU_DNNL_PLAN_H

#include "cpu/cpu.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>

/* Buffers of an item. The first group starts at a pointer of the call plus the item's offset; the
 * TMP group is private to the thread. */
enum oct_dnnl_buffer {
    OCT_DNNL_SRC,    /* x; dy in dgrad; master weights in a pack */
    OCT_DNNL_SECOND, /* packed weights; dy in wgrad */
    OCT_DNNL_BIAS,
    OCT_DNNL_OUT,
    OCT_DNNL_PARTIAL, /* wgrad: partial sums in the workspace */
    OCT_DNNL_SHARED,  /* number of buffers above */
    OCT_DNNL_TMP0 = OCT_DNNL_SHARED,
    OCT_DNNL_TMP1,
    OCT_DNNL_TMP2,
    OCT_DNNL_SCRATCHPAD,
    OCT_DNNL_BUFFERS
};

enum { OCT_DNNL_MAX_ARGS = 5, OCT_DNNL_MAX_STEPS = 4, OCT_DNNL_MAX_KINDS = 6 };

struct oct_dnnl_step {
    dnnl_primitive_t primitive;
    int args;
    int arg[OCT_DNNL_MAX_ARGS]; /* DNNL_ARG_* */
    int buffer[OCT_DNNL_MAX_ARGS];
    dnnl_memory_t *memory; /* [threads][OCT_DNNL_MAX_ARGS] */
};

/* Primitives run one after the other; none: the item is all hook. */
struct oct_dnnl_kind {
    int steps;
    struct oct_dnnl_step step[OCT_DNNL_MAX_STEPS];
};

struct oct_dnnl_item {
    int kind;
    size_t offset[OCT_DNNL_SHARED]; /* bytes */
    int64_t size[3];                /* for the hooks */
};

struct oct_dnnl_plan;
/* Our own loop before or after an item's primitives; `at` holds the item's buffers. */
typedef void oct_dnnl_hook(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at);

struct oct_dnnl_phase {
    struct oct_dnnl_kind kind[OCT_DNNL_MAX_KINDS];
    int kinds;
    struct oct_dnnl_item *item;
    int items;
    size_t tmp_bytes[OCT_DNNL_BUFFERS - OCT_DNNL_SHARED];
    oct_dnnl_hook *before, *after;
};

enum oct_dnnl_op { OCT_DNNL_FPROP, OCT_DNNL_DGRAD, OCT_DNNL_WGRAD, OCT_DNNL_PACK };

/* Only ints, compared as bytes. */
struct oct_dnnl_key {
    int op;
    struct oct_conv_shape shape;
    int in_dtype, out_dtype;
    int mode; /* enum oct_write; pack: dgrad */
    int bias;
};

struct oct_dnnl_plan {
    struct oct_dnnl_plan *next;
    struct oct_dnnl_key key;
    struct oct_dnnl_phase phase[2];
    int phases;
    size_t partial_bytes; /* of the workspace's first part */
    size_t workspace;     /* all of it */
    size_t pack_bytes;
};

struct oct_dnnl {
    dnnl_engine_t engine;
    int threads;
    dnnl_stream_t *stream; /* [threads] */
    struct oct_dnnl_plan *plans;
    char *pack_scratch; /* workspace of packs, the largest of all plans */
    size_t pack_scratch_bytes;
    dnnl_primitive_attr_t attr[2]; /* user scratchpad; the same and dst += result */
};

/* Geometry of one slice in oneDNN's terms: a forward convolution from x to y and its adjoints. */
struct oct_dnnl_conv {
    enum oct_dnnl_op op; /* FPROP, DGRAD (backward data), WGRAD */
    int n, c, h, w, k, p, q, r, s;
    int stride[2], dilation[2], pad_lo[2], pad_hi[2];
    enum oct_dtype x, weights, y;
    bool blocked; /* x and y in the layout oneDNN likes, else NHWC */
    bool bias, accumulate;
    const dnnl_memory_desc_t *packed; /* layout of the weights, or NULL: oneDNN chooses */
};

/* How a product reads its weights. */
enum oct_dnnl_form {
    OCT_DNNL_MATRIX,  /* linear layer: KC, as it is; matmul */
    OCT_DNNL_FORWARD, /* forward convolution */
    OCT_DNNL_ROTATED, /* dgrad of stride 1 as a forward convolution: C,R,S,K, taps reversed */
    OCT_DNNL_BACKWARD /* oneDNN's backward-data */
};

struct oct_dnnl_bind {
    int arg;
    enum oct_dnnl_buffer buffer;
    const dnnl_memory_desc_t *md; /* NULL: asked from the primitive */
};

static inline struct oct_dnnl *oct_dnnl_of(const struct oct_cpu *cpu)
{
    return cpu->dnnl;
}

static inline dnnl_data_type_t oct_dnnl_type(enum oct_dtype dtype)
{
    return dtype == OCT_BF16 ? dnnl_bf16 : dnnl_f32;
}

/* OCT_OK, or a failure that names `what` and oneDNN's status. */
enum oct_status oct_dnnl_status(dnnl_status_t status, const char *what);

/* The kept plan of a key or NULL. */
struct oct_dnnl_plan *oct_dnnl_find(const struct oct_dnnl *d, const struct oct_dnnl_key *key);
/* OCT_INTERNAL where oct_dnnl_find has none. */
enum oct_status oct_dnnl_require(
    const struct oct_dnnl *d, const struct oct_dnnl_key *key, struct oct_dnnl_plan **out);

/* Finds the plan of a key or makes it with `build`, under one OpenMP thread. */
typedef enum oct_status oct_dnnl_builder(struct oct_dnnl *d, struct oct_dnnl_plan *plan);
enum oct_status oct_dnnl_plan_for(struct oct_dnnl *d, const struct oct_dnnl_key *key,
    oct_dnnl_builder *build, struct oct_dnnl_plan **out);

/* Refuses what these products cannot do, with the reason. */
enum oct_status oct_dnnl_check_shape(const struct oct_conv_shape *v, const char *op);
enum oct_status oct_dnnl_check_operands(
    const struct oct_operand *a, const struct oct_operand *b, const char *op);

/* Whole-batch geometry of a shape; dgrad and wgrad have the same one. Types are left unset. */
struct oct_dnnl_conv oct_dnnl_conv_of(const struct oct_conv_shape *v, enum oct_dnnl_op op);
/* The forward convolution from dy to dx that equals the dgrad of a stride-1 `conv`; its weights are
 * C,R,S,K with reversed taps. */
struct oct_dnnl_conv oct_dnnl_rotated(const struct oct_dnnl_conv *conv);
enum oct_status oct_dnnl_conv_desc(
    struct oct_dnnl *d, const struct oct_dnnl_conv *conv, dnnl_primitive_desc_t *out);
/* dst[rows, cols] (+)= a[rows, depth] b[depth, cols] (+ bias[cols]), each with its strides. */
struct oct_dnnl_matmul {
    int64_t rows, cols, depth;
    int64_t a_strides[2], b_strides[2], dst_stride;
    enum oct_dtype operand, dst;
    bool bias, accumulate;
};
enum oct_status oct_dnnl_matmul_desc(
    struct oct_dnnl *d, const struct oct_dnnl_matmul *matmul, dnnl_primitive_desc_t *out);
enum oct_status oct_dnnl_reorder_desc(struct oct_dnnl *d, const dnnl_memory_desc_t *from,
    const dnnl_memory_desc_t *to, bool accumulate, dnnl_primitive_desc_t *out);
/* dims (N,C,H,W order) with explicit strides in elements. */
enum oct_status oct_dnnl_strided(dnnl_memory_desc_t *md, enum oct_dtype dtype,
    const dnnl_dims_t dims, const dnnl_dims_t strides);

/* Form and layout of the packed weights of a product, for any batch size. */
enum oct_dnnl_form oct_dnnl_form_of(const struct oct_conv_shape *v, int dgrad);
enum oct_status oct_dnnl_weights_md(struct oct_dnnl *d, const struct oct_conv_shape *v,
    enum oct_dtype dtype, int dgrad, dnnl_memory_desc_t *out);
/* The layout `whole` restricted to `count` entries of its first dimension, which must be its
 * outermost; count is a multiple of oct_dnnl_first_block(whole) or reaches the end. */
void oct_dnnl_part(const dnnl_memory_desc_t *whole, int64_t count, dnnl_memory_desc_t *out);
int64_t oct_dnnl_first_block(const dnnl_memory_desc_t *md);
/* Bytes from the start of `whole` to entry `first` of its first dimension. */
size_t oct_dnnl_part_offset(const dnnl_memory_desc_t *whole, int64_t first, size_t element);

/* Makes the primitive of `desc` (which it destroys in any case) the next step of a kind. */
enum oct_status oct_dnnl_add_step(struct oct_dnnl *d, struct oct_dnnl_phase *phase, int kind,
    dnnl_primitive_desc_t desc, const struct oct_dnnl_bind *binds, int count);
enum oct_status oct_dnnl_add_items(struct oct_dnnl_phase *phase, int items);
/* Room for `bytes` in each thread's TMP buffer. */
void oct_dnnl_need_tmp(struct oct_dnnl_phase *phase, enum oct_dnnl_buffer buffer, size_t bytes);

/* Runs all phases. shared[OCT_DNNL_SHARED]: the call's pointers, PARTIAL is set from workspace. */
enum oct_status oct_dnnl_run(
    struct oct_cpu *cpu, const struct oct_dnnl_plan *plan, char *const *shared, char *workspace);

#endif
