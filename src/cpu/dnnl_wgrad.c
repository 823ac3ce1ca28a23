/* conv_wgrad on float operands. The sum over pixels is cut into pixel ranges, whose partial sums
 * are added in the order of the ranges, and dw into parts of its output channels; the shape decides
 * how much of which. Most 1x1 filters are matrix products dy^T x, the others oneDNN's convolution.
 */
#include "cpu/dnnl.h"
#include "cpu/dnnl_plan.h"

#include <string.h>

enum {
    SLICES = 8,    /* fewer than a forward product: here each one costs something */
    CHANNELS = 64, /* at least so many output channels per part */
    ROWS = 64,     /* at least so many pixels per range of a matrix product */
    FINISH_ITEMS = 16
};

/* How a weight gradient is cut. */
struct cutting {
    bool matrix;       /* a matrix product dy^T x */
    bool gather;       /* x is first copied densely: 1x1 with a stride */
    bool blocked;      /* x and dy are first put into oneDNN's blocked layout */
    int ranges, parts; /* of pixels (images where not dense), of output channels */
    int64_t units;     /* what ranges divide: pixels or images */
    int64_t k;         /* output channels per part */
    int64_t dw;        /* elements of dw */
};

/* oneDNN's NHWC kernel for strided f32 gradients is up to 1.8x slower than the blocked one, more
 * than the change of layout costs. */
static bool prefers_blocked(const struct oct_dnnl_key *key)
{
    const struct oct_conv_shape *v = &key->shape;
    return key->in_dtype == OCT_F32 && (v->stride_h > 1 || v->stride_w > 1) && v->c % 16 == 0 &&
           v->k % 16 == 0;
}

/* A 1x1 gradient is a matrix product, but that is up to 1.4x slower than oneDNN's convolution in
 * bf16 where there are few input channels (and many pixels). */
static bool prefers_matrix(const struct oct_dnnl_key *key)
{
    const struct oct_conv_shape *v = &key->shape;
    bool one = v->r == 1 && v->s == 1 && v->pad_h == 0 && v->pad_w == 0;
    return one && !(key->in_dtype == OCT_BF16 && v->c <= 64 && v->h * v->w > 1);
}

/* What a cutting costs beside the products, in relative time: a range writes and adds a partial
 * dw, a part reads x again (and transposes it, in bf16). Measured on Zen 5: about 0.5 ns per
 * element of dw, 0.75 ns per element of x in bf16, 0.1 ns in f32. */
static double cost_of(const struct oct_dnnl_key *key, const struct cutting *c)
{
    double x = (double)oct_conv_x_elements(&key->shape) * (key->in_dtype == OCT_BF16 ? 0.75 : 0.1);
    return 0.5 * (double)c->dw * c->ranges + x * c->parts;
}

/* The cheapest cutting with the most slices, up to SLICES. */
static struct cutting cutting_of(const struct oct_dnnl_key *key)
{
    const struct oct_conv_shape *v = &key->shape;
    struct cutting c = {.ranges = 1, .parts = 1, .dw = oct_conv_w_elements(v)};

    c.matrix = prefers_matrix(key);
    c.gather = c.matrix && (v->stride_h > 1 || v->stride_w > 1);
    c.blocked = !c.matrix && prefers_blocked(key);
    c.units = c.matrix && !c.gather ? oct_conv_y_elements(v) / v->k : v->n;

    struct cutting best = c;
    int block = c.matrix ? 1 : 16; /* of channels, in oneDNN's layout of dw */
    int64_t units = c.matrix && !c.gather ? c.units / ROWS : c.units;
    for (c.ranges = 1; c.ranges <= SLICES && (c.ranges == 1 || c.ranges <= units); c.ranges *= 2) {
        for (c.parts = 1; c.ranges * c.parts <= SLICES; c.parts *= 2) {
            if (c.parts > 1 && (v->k % (c.parts * block) != 0 || v->k / c.parts < CHANNELS))
                break;
            int slices = c.ranges * c.parts, most = best.ranges * best.parts;
            if (slices > most || (slices == most && cost_of(key, &c) < cost_of(key, &best)))
                best = c;
        }
    }
    best.k = v->k / best.parts;
    return best;
}

/* First unit of a range; range `ranges` is the end. */
static int64_t range_start(const struct cutting *c, int64_t range)
{
    return c->units * range / c->ranges;
}

/* PARTIAL[0] += PARTIAL[1], PARTIAL[2], ... in order: size = {elements, ranges, distance between
 * ranges in elements}. */
static void add_partials(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at)
{
    float *sum = (float *)at[OCT_DNNL_PARTIAL];
    (void)plan;
    for (int64_t range = 1; range < item->size[1]; range++) {
        const float *next = sum + range * item->size[2];
        for (int64_t i = 0; i < item->size[0]; i++)
            sum[i] = sum[i] + next[i];
    }
}

/* The same, then dw (+)= the sum, whose layout is dw's. */
static void add_partials_to_dw(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at)
{
    const float *sum = (const float *)at[OCT_DNNL_PARTIAL];
    float *dw = (float *)at[OCT_DNNL_OUT];
    bool accumulate = plan->key.mode == OCT_ACCUMULATE;

    add_partials(plan, item, at);
    for (int64_t i = 0; i < item->size[0]; i++)
        dw[i] = accumulate ? dw[i] + sum[i] : sum[i];
}

/* Copies the strided NHWC view of an operand into TMP in the layout `to`. */
static enum oct_status add_copy(struct oct_dnnl *d, struct oct_dnnl_phase *phase, int kind,
    enum oct_dtype dtype, const dnnl_dims_t dims, const dnnl_dims_t strides,
    const dnnl_memory_desc_t *to, enum oct_dnnl_buffer from_buffer, enum oct_dnnl_buffer to_buffer)
{
    dnnl_memory_desc_t from;
    dnnl_primitive_desc_t desc = NULL;

    OCT_TRY(oct_dnnl_strided(&from, dtype, dims, strides));
    OCT_TRY(oct_dnnl_reorder_desc(d, &from, to, false, &desc));
    const struct oct_dnnl_bind binds[] = {
        {DNNL_ARG_FROM, from_buffer, &from}, {DNNL_ARG_TO, to_buffer, to}};
    return oct_dnnl_add_step(d, phase, kind, desc, binds, 2);
}

/* TMP0[n,p,q,c]: the pixels of size[0] images of x that a 1x1 filter with a stride reads. oneDNN
 * takes no view of them where the last stride reaches beyond the image. */
static void gather(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    size_t pixel = (size_t)v->c * oct_dtype_bytes((enum oct_dtype)plan->key.in_dtype);
    char *to = at[OCT_DNNL_TMP0];

    for (int64_t n = 0; n < item->size[0]; n++) {
        for (int p = 0; p < oct_conv_p(v); p++) {
            int64_t row = (n * v->h + (int64_t)p * v->stride_h) * v->w;
            for (int q = 0; q < oct_conv_q(v); q++, to += pixel)
                memcpy(
                    to, at[OCT_DNNL_SRC] + (size_t)(row + (int64_t)q * v->stride_w) * pixel, pixel);
        }
    }
}

static enum oct_status add_matrix_kind(struct oct_dnnl *d, struct oct_dnnl_plan *plan,
    const struct cutting *c, int kind, int64_t units)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[0];
    enum oct_dtype dtype = (enum oct_dtype)plan->key.in_dtype;
    int64_t pq = (int64_t)oct_conv_p(v) * oct_conv_q(v);
    int64_t depth = c->gather ? units * pq : units;
    bool direct = c->ranges == 1;
    dnnl_primitive_desc_t desc = NULL;

    if (c->gather) {
        phase->before = gather;
        oct_dnnl_need_tmp(phase, OCT_DNNL_TMP0, (size_t)(depth * v->c) * oct_dtype_bytes(dtype));
    }
    struct oct_dnnl_matmul m = {.rows = c->k,
        .cols = v->c,
        .depth = depth,
        .a_strides = {1, v->k},
        .b_strides = {v->c, 1},
        .dst_stride = v->c,
        .operand = dtype,
        .dst = OCT_F32,
        .accumulate = direct && plan->key.mode == OCT_ACCUMULATE};
    OCT_TRY(oct_dnnl_matmul_desc(d, &m, &desc));
    const struct oct_dnnl_bind binds[] = {{DNNL_ARG_SRC, OCT_DNNL_SECOND, NULL},
        {DNNL_ARG_WEIGHTS, c->gather ? OCT_DNNL_TMP0 : OCT_DNNL_SRC, NULL},
        {DNNL_ARG_DST, direct ? OCT_DNNL_OUT : OCT_DNNL_PARTIAL, NULL}};
    return oct_dnnl_add_step(d, phase, kind, desc, binds, 3);
}

/* dw (+)= the sum of `count` output channels, which lies in `buffer` in oneDNN's layout `from`. */
static enum oct_status add_store(struct oct_dnnl *d, struct oct_dnnl_plan *plan, int phase,
    int kind, const dnnl_memory_desc_t *from, enum oct_dnnl_buffer buffer, int64_t count)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    const dnnl_dims_t dims = {count, v->c, v->r, v->s};
    const dnnl_dims_t strides = {(int64_t)v->r * v->s * v->c, 1, (int64_t)v->s * v->c, v->c};
    dnnl_memory_desc_t to;
    dnnl_primitive_desc_t desc = NULL;

    OCT_TRY(oct_dnnl_strided(&to, OCT_F32, dims, strides));
    OCT_TRY(oct_dnnl_reorder_desc(d, from, &to, plan->key.mode == OCT_ACCUMULATE, &desc));
    const struct oct_dnnl_bind binds[] = {
        {DNNL_ARG_FROM, buffer, from}, {DNNL_ARG_TO, OCT_DNNL_OUT, &to}};
    return oct_dnnl_add_step(d, &plan->phase[phase], kind, desc, binds, 2);
}

/* *partial: layout of the part of dw that a kind writes, set by kind 0. */
static enum oct_status add_conv_kind(struct oct_dnnl *d, struct oct_dnnl_plan *plan,
    const struct cutting *c, int kind, int64_t images, dnnl_memory_desc_t *partial)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[0];
    struct oct_dnnl_conv part = oct_dnnl_conv_of(v, OCT_DNNL_WGRAD);
    enum oct_dtype dtype = (enum oct_dtype)plan->key.in_dtype;
    dnnl_primitive_desc_t desc = NULL;

    part.n = (int)images;
    part.k = (int)c->k;
    part.x = part.y = dtype;
    part.weights = OCT_F32;
    part.blocked = c->blocked;
    part.packed = kind > 0 ? partial : NULL; /* all ranges share one layout */
    OCT_TRY(oct_dnnl_conv_desc(d, &part, &desc));
    dnnl_memory_desc_t x = *dnnl_primitive_desc_query_md(desc, dnnl_query_src_md, 0);
    dnnl_memory_desc_t dy = *dnnl_primitive_desc_query_md(desc, dnnl_query_diff_dst_md, 0);
    *partial = *dnnl_primitive_desc_query_md(desc, dnnl_query_diff_weights_md, 0);

    enum oct_status status = OCT_OK;
    if (c->blocked) {
        const dnnl_dims_t dims = {images, v->c, v->h, v->w};
        const dnnl_dims_t strides = {(int64_t)v->h * v->w * v->c, 1, (int64_t)v->w * v->c, v->c};
        OCT_OUT(add_copy(d, phase, kind, dtype, dims, strides, &x, OCT_DNNL_SRC, OCT_DNNL_TMP0));
    }
    if (c->blocked || c->parts > 1) {
        const dnnl_dims_t dims = {images, c->k, part.p, part.q};
        const dnnl_dims_t strides = {
            (int64_t)part.p * part.q * v->k, 1, (int64_t)part.q * v->k, v->k};
        OCT_OUT(
            add_copy(d, phase, kind, dtype, dims, strides, &dy, OCT_DNNL_SECOND, OCT_DNNL_TMP1));
    }
    const struct oct_dnnl_bind binds[] = {
        {DNNL_ARG_SRC, c->blocked ? OCT_DNNL_TMP0 : OCT_DNNL_SRC, NULL},
        {DNNL_ARG_DIFF_DST, c->blocked || c->parts > 1 ? OCT_DNNL_TMP1 : OCT_DNNL_SECOND, NULL},
        {DNNL_ARG_DIFF_WEIGHTS, c->ranges == 1 ? OCT_DNNL_TMP2 : OCT_DNNL_PARTIAL, NULL}};
    OCT_TRY(oct_dnnl_add_step(d, phase, kind, desc, binds, 3));
    return c->ranges == 1 ? add_store(d, plan, 0, kind, partial, OCT_DNNL_TMP2, c->k) : OCT_OK;
out:
    dnnl_primitive_desc_destroy(desc);
    return status;
}

/* Items of the product: [parts][ranges]; partial sums lie in the same order, `bytes` each. */
static enum oct_status add_product_items(
    struct oct_dnnl_plan *plan, const struct cutting *c, size_t bytes)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[0];
    size_t in = oct_dtype_bytes((enum oct_dtype)plan->key.in_dtype);
    bool pixels = c->matrix && !c->gather;
    int64_t x_unit = pixels ? v->c : (int64_t)v->h * v->w * v->c;
    int64_t y_unit = pixels ? v->k : (int64_t)oct_conv_p(v) * oct_conv_q(v) * v->k;
    int64_t longest = (c->units + c->ranges - 1) / c->ranges;

    OCT_TRY(oct_dnnl_add_items(phase, c->ranges * c->parts));
    for (int i = 0; i < phase->items; i++) {
        struct oct_dnnl_item *item = &phase->item[i];
        int part = i / c->ranges, range = i % c->ranges;
        int64_t start = range_start(c, range);
        item->size[0] = range_start(c, range + 1) - start;
        item->kind = item->size[0] < longest;
        item->offset[OCT_DNNL_SRC] = (size_t)(start * x_unit) * in;
        item->offset[OCT_DNNL_SECOND] = (size_t)(start * y_unit + part * c->k) * in;
        item->offset[OCT_DNNL_PARTIAL] = (size_t)i * bytes;
        item->offset[OCT_DNNL_OUT] = (size_t)(part * (c->dw / c->parts)) * sizeof(float);
    }
    return OCT_OK;
}

/* dw (+)= the partial sums of a matrix product: equal shares of each part. */
static enum oct_status build_matrix_finish(struct oct_dnnl_plan *plan, const struct cutting *c)
{
    struct oct_dnnl_phase *phase = &plan->phase[1];
    int64_t share = c->dw / c->parts;
    int chunks = (FINISH_ITEMS + c->parts - 1) / c->parts;

    plan->phases = 2;
    phase->after = add_partials_to_dw;
    OCT_TRY(oct_dnnl_add_items(phase, c->parts * chunks));
    for (int i = 0; i < phase->items; i++) {
        struct oct_dnnl_item *item = &phase->item[i];
        int64_t part = i / chunks, chunk = i % chunks;
        int64_t first = share * chunk / chunks;
        item->offset[OCT_DNNL_PARTIAL] = (size_t)(part * c->ranges * share + first) * sizeof(float);
        item->offset[OCT_DNNL_OUT] = (size_t)(part * share + first) * sizeof(float);
        item->size[0] = share * (chunk + 1) / chunks - first;
        item->size[1] = c->ranges;
        item->size[2] = share;
    }
    return OCT_OK;
}

/* The same for a convolution, whose partial sums are in oneDNN's layout: chunks of channels are
 * added there and then put into dw's. */
static enum oct_status build_conv_finish(struct oct_dnnl *d, struct oct_dnnl_plan *plan,
    const struct cutting *c, const dnnl_memory_desc_t *partial)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[1];
    size_t bytes = dnnl_memory_desc_get_size(partial);
    int64_t block = oct_dnnl_first_block(partial), row = (int64_t)v->r * v->s * v->c;
    int wanted = (FINISH_ITEMS + c->parts - 1) / c->parts;
    int64_t chunk = ((c->k + wanted - 1) / wanted + block - 1) / block * block;
    int chunks = (int)((c->k + chunk - 1) / chunk);
    int64_t last = c->k - (chunks - 1) * chunk;

    plan->phases = 2;
    phase->before = add_partials;
    OCT_TRY(oct_dnnl_add_items(phase, c->parts * chunks));
    for (int kind = 0; kind < (chunks > 1 && last < chunk ? 2 : 1); kind++) {
        int64_t count = kind == 1 || chunks == 1 ? last : chunk;
        dnnl_memory_desc_t from;
        oct_dnnl_part(partial, count, &from);
        OCT_TRY(add_store(d, plan, 1, kind, &from, OCT_DNNL_PARTIAL, count));
    }
    for (int i = 0; i < phase->items; i++) {
        struct oct_dnnl_item *item = &phase->item[i];
        int64_t part = i / chunks, first = i % chunks * chunk;
        bool is_last = i % chunks == chunks - 1;
        size_t start = oct_dnnl_part_offset(partial, first, sizeof(float));
        size_t end = is_last ? bytes : oct_dnnl_part_offset(partial, first + chunk, sizeof(float));
        item->kind = is_last && phase->kinds == 2;
        item->offset[OCT_DNNL_PARTIAL] = (size_t)(part * c->ranges) * bytes + start;
        item->offset[OCT_DNNL_OUT] = (size_t)((part * c->k + first) * row) * sizeof(float);
        item->size[0] = (int64_t)((end - start) / sizeof(float));
        item->size[1] = c->ranges;
        item->size[2] = (int64_t)(bytes / sizeof(float));
    }
    return OCT_OK;
}

static enum oct_status build(struct oct_dnnl *d, struct oct_dnnl_plan *plan)
{
    struct cutting c = cutting_of(&plan->key);
    int64_t longest = (c.units + c.ranges - 1) / c.ranges;
    dnnl_memory_desc_t partial;
    size_t bytes = (size_t)(c.dw / c.parts) * sizeof(float);

    plan->phases = 1;
    for (int kind = 0; kind < (c.units % c.ranges ? 2 : 1); kind++) {
        if (c.matrix)
            OCT_TRY(add_matrix_kind(d, plan, &c, kind, longest - kind));
        else
            OCT_TRY(add_conv_kind(d, plan, &c, kind, longest - kind, &partial));
    }
    if (!c.matrix)
        bytes = dnnl_memory_desc_get_size(&partial);
    OCT_TRY(add_product_items(plan, &c, bytes));
    if (c.ranges == 1)
        return OCT_OK;
    plan->partial_bytes = (size_t)(c.ranges * c.parts) * bytes;
    return c.matrix ? build_matrix_finish(plan, &c) : build_conv_finish(d, plan, &c, &partial);
}

static struct oct_dnnl_key wgrad_key(const struct oct_conv_wgrad_args *args, enum oct_write mode)
{
    return (struct oct_dnnl_key){.op = OCT_DNNL_WGRAD,
        .shape = args->shape,
        .in_dtype = (int)args->x.dtype,
        .out_dtype = OCT_F32,
        .mode = (int)mode};
}

enum oct_status oct_dnnl_conv_wgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_wgrad_args *args, size_t *workspace)
{
    size_t bytes = 0;

    OCT_TRY(oct_dnnl_check_shape(&args->shape, "conv_wgrad"));
    OCT_TRY(oct_dnnl_check_operands(&args->x, &args->dy, "conv_wgrad"));
    for (int mode = OCT_OVERWRITE; mode <= OCT_ACCUMULATE; mode++) {
        struct oct_dnnl_key key = wgrad_key(args, (enum oct_write)mode);
        struct oct_dnnl_plan *plan = NULL;
        OCT_TRY(oct_dnnl_plan_for(oct_dnnl_of(cpu), &key, build, &plan));
        bytes = plan->workspace > bytes ? plan->workspace : bytes;
    }
    *workspace = bytes;
    return OCT_OK;
}

enum oct_status oct_dnnl_conv_wgrad(struct oct_cpu *cpu, const struct oct_conv_wgrad_args *args)
{
    struct oct_dnnl_key key = wgrad_key(args, args->mode);
    struct oct_dnnl_plan *plan = NULL;
    char *const buffers[OCT_DNNL_SHARED] = {[OCT_DNNL_SRC] = (char *)args->x.data,
        [OCT_DNNL_SECOND] = (char *)args->dy.data,
        [OCT_DNNL_OUT] = (char *)args->dw};

    OCT_TRY(oct_dnnl_require(oct_dnnl_of(cpu), &key, &plan));
    return oct_dnnl_run(cpu, plan, buffers, args->workspace);
}
