/* conv_fprop and conv_dgrad on float operands. Slices: images; rows of an image too where a small
 * batch has too few images (forward kernels only); output channels in a linear layer. */
#include "cpu/dnnl.h"
#include "cpu/dnnl_plan.h"

#include <string.h>

enum {
    SLICES = 16,     /* of one product: fine enough for 8 threads, coarse enough for weights */
    FEW_IMAGES = 8,  /* below this, images are cut into rows */
    MATRIX_COLS = 64 /* at least so many output channels per slice of a linear layer */
};

enum oct_status oct_dnnl_check_shape(const struct oct_conv_shape *v, const char *op)
{
    if (v->groups != 1 || v->d != 1 || v->t != 1 || v->stride_d != 1 || v->pad_d != 0)
        return oct_fail(OCT_UNSUPPORTED,
            "%s in float: groups %d, depth %d, filter depth %d; only groups 1 and "
            "two-dimensional convolutions are built",
            op, v->groups, v->d, v->t);
    if (v->n < 1 || v->h < 1 || v->w < 1 || v->c < 1 || v->k < 1 || v->r < 1 || v->s < 1 ||
        v->stride_h < 1 || v->stride_w < 1 || v->dilation_h < 1 || v->dilation_w < 1 ||
        v->pad_h < 0 || v->pad_w < 0 || oct_conv_p(v) < 1 || oct_conv_q(v) < 1)
        return oct_fail(OCT_SHAPE,
            "%s: x %dx%dx%dx%d with filter %dx%d, stride %d,%d, padding %d,%d, dilation %d,%d has "
            "no output: make the input or the padding larger",
            op, v->n, v->h, v->w, v->c, v->r, v->s, v->stride_h, v->stride_w, v->pad_h, v->pad_w,
            v->dilation_h, v->dilation_w);
    return OCT_OK;
}

enum oct_status oct_dnnl_check_operands(
    const struct oct_operand *a, const struct oct_operand *b, const char *op)
{
    if (a->dtype != b->dtype || (a->dtype != OCT_F32 && a->dtype != OCT_BF16))
        return oct_fail(OCT_UNSUPPORTED,
            "%s in float: operands are %s and %s; both must be f32 or both bf16", op,
            oct_dtype_name(a->dtype), oct_dtype_name(b->dtype));
    if (a->planes != 1 || b->planes != 1)
        return oct_fail(OCT_UNSUPPORTED,
            "%s in float: operands have %d and %d planes; float operands have one", op, a->planes,
            b->planes);
    return OCT_OK;
}

static enum oct_status check_output(enum oct_dtype dtype, const char *op)
{
    if (dtype == OCT_F32 || dtype == OCT_BF16)
        return OCT_OK;
    return oct_fail(OCT_UNSUPPORTED, "%s in float: output %s; it can be f32 or bf16", op,
        oct_dtype_name(dtype));
}

/* OUT[rows, cols] with row stride `ld` = or += TMP0[rows, cols] f32: where oneDNN cannot write the
 * output's type or cannot accumulate. */
static void store_f32(float *out, const float *f, int64_t n, bool accumulate)
{
    if (accumulate)
        for (int64_t i = 0; i < n; i++)
            out[i] = out[i] + f[i];
    else
        memcpy(out, f, (size_t)n * sizeof *f);
}

static void store_bf16(uint16_t *out, const float *f, int64_t n, bool accumulate)
{
    if (accumulate)
        for (int64_t i = 0; i < n; i++)
            out[i] = oct_bf16_from_f32(oct_f32_from_bf16(out[i]) + f[i]);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] = oct_bf16_from_f32(f[i]);
}

static void store_staged(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at)
{
    int64_t rows = item->size[0], cols = item->size[1], ld = item->size[2];
    bool accumulate = plan->key.mode == OCT_ACCUMULATE;
    const float *f = (const float *)at[OCT_DNNL_TMP0];

    for (int64_t row = 0; row < rows; row++) {
        if (plan->key.out_dtype == OCT_BF16)
            store_bf16((uint16_t *)at[OCT_DNNL_OUT] + row * ld, f + row * cols, cols, accumulate);
        else
            store_f32((float *)at[OCT_DNNL_OUT] + row * ld, f + row * cols, cols, accumulate);
    }
}

/* Output of a plan's primitives: the call's buffer, or f32 in TMP0 for store_staged. */
struct destination {
    bool staged;
    enum oct_dnnl_buffer buffer;
    enum oct_dtype dtype;
    bool accumulate; /* by the primitive */
};

static struct destination destination_of(struct oct_dnnl_plan *plan, enum oct_dnnl_form form)
{
    bool accumulate = plan->key.mode == OCT_ACCUMULATE;
    bool staged = (plan->key.in_dtype == OCT_F32 && plan->key.out_dtype == OCT_BF16) ||
                  (form == OCT_DNNL_BACKWARD && accumulate);
    if (staged) {
        plan->phase[0].after = store_staged;
        return (struct destination){true, OCT_DNNL_TMP0, OCT_F32, false};
    }
    return (struct destination){
        false, OCT_DNNL_OUT, (enum oct_dtype)plan->key.out_dtype, accumulate};
}

/* A linear layer: out[n, cols] = in[n, depth] w, cut along cols. w is [K, C] in both directions. */
static enum oct_status build_matrix(struct oct_dnnl *d, struct oct_dnnl_plan *plan)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[0];
    bool dgrad = plan->key.op == OCT_DNNL_DGRAD;
    struct destination to = destination_of(plan, OCT_DNNL_MATRIX);
    enum oct_dtype in = (enum oct_dtype)plan->key.in_dtype;
    int64_t cols = dgrad ? v->c : v->k, depth = dgrad ? v->k : v->c;
    int64_t chunk = (cols + SLICES - 1) / SLICES;
    chunk = chunk < MATRIX_COLS ? MATRIX_COLS : (chunk + 15) / 16 * 16;
    int items = (int)((cols + chunk - 1) / chunk);
    int64_t last = cols - (items - 1) * chunk;

    OCT_TRY(oct_dnnl_add_items(phase, items));
    for (int kind = 0; kind < (items > 1 && last < chunk ? 2 : 1); kind++) {
        dnnl_primitive_desc_t desc = NULL;
        int64_t part = kind == 1 || items == 1 ? last : chunk;
        struct oct_dnnl_matmul m = {.rows = v->n,
            .cols = part,
            .depth = depth,
            .a_strides = {depth, 1},
            .b_strides = {dgrad ? v->c : 1, dgrad ? 1 : v->c},
            .dst_stride = to.staged ? part : cols,
            .operand = in,
            .dst = to.dtype,
            .bias = plan->key.bias,
            .accumulate = to.accumulate};
        OCT_TRY(oct_dnnl_matmul_desc(d, &m, &desc));
        const struct oct_dnnl_bind binds[] = {{DNNL_ARG_SRC, OCT_DNNL_SRC, NULL},
            {DNNL_ARG_WEIGHTS, OCT_DNNL_SECOND, NULL}, {DNNL_ARG_DST, to.buffer, NULL},
            {DNNL_ARG_BIAS, OCT_DNNL_BIAS, NULL}};
        OCT_TRY(oct_dnnl_add_step(d, phase, kind, desc, binds, plan->key.bias ? 4 : 3));
    }
    for (int i = 0; i < items; i++) {
        struct oct_dnnl_item *item = &phase->item[i];
        size_t first = (size_t)(i * chunk);
        item->kind = i == items - 1 && phase->kinds == 2;
        item->offset[OCT_DNNL_SECOND] = first * (size_t)(dgrad ? 1 : v->c) * oct_dtype_bytes(in);
        item->offset[OCT_DNNL_BIAS] = first * sizeof(float);
        item->offset[OCT_DNNL_OUT] = first * oct_dtype_bytes((enum oct_dtype)plan->key.out_dtype);
        item->size[0] = v->n;
        item->size[1] = i == items - 1 ? last : chunk;
        item->size[2] = cols;
    }
    return OCT_OK;
}

/* One slice: images [n0, n0 + n), output rows [p0, p0 + p). */
struct cut {
    int n0, n, p0, p;
};

/* The geometry of a slice of a forward convolution; *h0 is its first input row. */
static struct oct_dnnl_conv slice_of(const struct oct_dnnl_conv *whole, struct cut cut, int *h0)
{
    struct oct_dnnl_conv part = *whole;
    part.n = cut.n;
    *h0 = 0;
    if (cut.p == whole->p)
        return part;
    int lo = cut.p0 * whole->stride[0] - whole->pad_lo[0];
    int hi = (cut.p0 + cut.p - 1) * whole->stride[0] - whole->pad_lo[0] +
             whole->dilation[0] * (whole->r - 1);
    part.p = cut.p;
    part.pad_lo[0] = lo < 0 ? -lo : 0;
    part.pad_hi[0] = hi > whole->h - 1 ? hi - (whole->h - 1) : 0;
    *h0 = lo < 0 ? 0 : lo;
    part.h = (hi > whole->h - 1 ? whole->h - 1 : hi) - *h0 + 1;
    return part;
}

/* Rows per slice, from the shape alone. Not cut: enough images, backward kernels, padding beyond
 * the filter (a slice might then see no input row at all). */
static int rows_per_slice(const struct oct_dnnl_conv *whole)
{
    if (whole->op != OCT_DNNL_FPROP || whole->n >= FEW_IMAGES ||
        whole->pad_lo[0] > whole->dilation[0] * (whole->r - 1))
        return whole->p;
    int slices = (SLICES + whole->n - 1) / whole->n;
    int rows = (whole->p + slices - 1) / slices;
    int least = whole->pad_lo[0] > 2 ? whole->pad_lo[0] : 2; /* only the first sees top padding */
    rows = rows < least ? least : rows;
    return rows > whole->p ? whole->p : rows;
}

/* Finds or makes the kind of a slice's geometry. */
static enum oct_status kind_of(struct oct_dnnl *d, struct oct_dnnl_plan *plan,
    const struct oct_dnnl_conv *part, struct oct_dnnl_conv *known, const struct destination *to,
    int *out)
{
    struct oct_dnnl_phase *phase = &plan->phase[0];
    dnnl_primitive_desc_t desc = NULL;
    bool forward = part->op == OCT_DNNL_FPROP;

    for (int kind = 0; kind < phase->kinds; kind++) {
        if (known[kind].n == part->n && known[kind].h == part->h && known[kind].p == part->p &&
            known[kind].pad_lo[0] == part->pad_lo[0] && known[kind].pad_hi[0] == part->pad_hi[0]) {
            *out = kind;
            return OCT_OK;
        }
    }
    if (phase->kinds == OCT_DNNL_MAX_KINDS)
        return oct_fail(
            OCT_INTERNAL, "a product has more than %d kinds of slices", OCT_DNNL_MAX_KINDS);
    OCT_TRY(oct_dnnl_conv_desc(d, part, &desc));
    const struct oct_dnnl_bind binds[] = {
        {forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, OCT_DNNL_SRC, NULL},
        {DNNL_ARG_WEIGHTS, OCT_DNNL_SECOND, NULL},
        {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, to->buffer, NULL},
        {DNNL_ARG_BIAS, OCT_DNNL_BIAS, NULL}};
    known[phase->kinds] = *part;
    *out = phase->kinds;
    return oct_dnnl_add_step(d, phase, phase->kinds, desc, binds, part->bias ? 4 : 3);
}

static enum oct_status build_conv(struct oct_dnnl *d, struct oct_dnnl_plan *plan)
{
    const struct oct_dnnl_key *key = &plan->key;
    bool dgrad = key->op == OCT_DNNL_DGRAD;
    enum oct_dnnl_form form = oct_dnnl_form_of(&key->shape, dgrad);
    struct destination to = destination_of(plan, form);
    struct oct_dnnl_conv whole = oct_dnnl_conv_of(&key->shape, (enum oct_dnnl_op)key->op);
    struct oct_dnnl_conv known[OCT_DNNL_MAX_KINDS];
    dnnl_memory_desc_t packed;

    OCT_TRY(oct_dnnl_weights_md(d, &key->shape, (enum oct_dtype)key->in_dtype, dgrad, &packed));
    whole.x = whole.y = whole.weights = (enum oct_dtype)key->in_dtype;
    *(dgrad ? &whole.x : &whole.y) = to.dtype;
    whole.packed = &packed;
    whole.bias = key->bias;
    whole.accumulate = to.accumulate;
    if (form == OCT_DNNL_ROTATED)
        whole = oct_dnnl_rotated(&whole);

    bool forward = whole.op == OCT_DNNL_FPROP;
    int images = whole.n < SLICES ? whole.n : SLICES;
    int rows = rows_per_slice(&whole);
    int cuts = (whole.p + rows - 1) / rows;
    size_t in = oct_dtype_bytes((enum oct_dtype)key->in_dtype);
    size_t out = oct_dtype_bytes((enum oct_dtype)key->out_dtype);
    int64_t y_row = (int64_t)whole.q * whole.k, x_row = (int64_t)whole.w * whole.c;

    OCT_TRY(oct_dnnl_add_items(&plan->phase[0], images * cuts));
    for (int i = 0; i < images * cuts; i++) {
        struct oct_dnnl_item *item = &plan->phase[0].item[i];
        int image = i / cuts, p0 = i % cuts * rows, h0 = 0;
        int n0 = (int)((int64_t)whole.n * image / images);
        struct cut cut = {n0, (int)((int64_t)whole.n * (image + 1) / images) - n0, p0,
            p0 + rows > whole.p ? whole.p - p0 : rows};
        struct oct_dnnl_conv part = slice_of(&whole, cut, &h0);
        int64_t x = ((int64_t)n0 * whole.h + h0) * x_row, y = ((int64_t)n0 * whole.p + p0) * y_row;
        OCT_TRY(kind_of(d, plan, &part, known, &to, &item->kind));
        item->offset[OCT_DNNL_SRC] = (size_t)(forward ? x : y) * in;
        item->offset[OCT_DNNL_OUT] = (size_t)(forward ? y : x) * out;
        item->size[0] = 1;
        item->size[1] = forward ? cut.n * part.p * y_row : cut.n * part.h * x_row;
    }
    return OCT_OK;
}

static enum oct_status build(struct oct_dnnl *d, struct oct_dnnl_plan *plan)
{
    plan->phases = 1;
    return oct_dnnl_form_of(&plan->key.shape, plan->key.op == OCT_DNNL_DGRAD) == OCT_DNNL_MATRIX
               ? build_matrix(d, plan)
               : build_conv(d, plan);
}

static struct oct_dnnl_key fprop_key(const struct oct_conv_fprop_args *args)
{
    return (struct oct_dnnl_key){.op = OCT_DNNL_FPROP,
        .shape = args->shape,
        .in_dtype = (int)args->x.dtype,
        .out_dtype = (int)args->y_dtype,
        .mode = OCT_OVERWRITE,
        .bias = args->bias != NULL};
}

static struct oct_dnnl_key dgrad_key(const struct oct_conv_dgrad_args *args, enum oct_write mode)
{
    return (struct oct_dnnl_key){.op = OCT_DNNL_DGRAD,
        .shape = args->shape,
        .in_dtype = (int)args->dy.dtype,
        .out_dtype = (int)args->dx_dtype,
        .mode = (int)mode};
}

enum oct_status oct_dnnl_conv_fprop_check(
    struct oct_cpu *cpu, const struct oct_conv_fprop_args *args, size_t *workspace)
{
    struct oct_dnnl_key key = fprop_key(args);
    struct oct_dnnl_plan *plan = NULL;

    OCT_TRY(oct_dnnl_check_shape(&args->shape, "conv_fprop"));
    OCT_TRY(oct_dnnl_check_operands(&args->x, &args->w, "conv_fprop"));
    OCT_TRY(check_output(args->y_dtype, "conv_fprop"));
    if (args->stats)
        return oct_fail(OCT_UNSUPPORTED,
            "conv_fprop in float has no integer accumulators to take statistics of: pass stats "
            "NULL and use channel_stats");
    OCT_TRY(oct_dnnl_plan_for(oct_dnnl_of(cpu), &key, build, &plan));
    *workspace = plan->workspace;
    return OCT_OK;
}

enum oct_status oct_dnnl_conv_fprop(struct oct_cpu *cpu, const struct oct_conv_fprop_args *args)
{
    struct oct_dnnl_key key = fprop_key(args);
    struct oct_dnnl_plan *plan = NULL;
    char *const buffers[OCT_DNNL_SHARED] = {[OCT_DNNL_SRC] = (char *)args->x.data,
        [OCT_DNNL_SECOND] = (char *)args->w.data,
        [OCT_DNNL_BIAS] = (char *)args->bias,
        [OCT_DNNL_OUT] = args->y};

    OCT_TRY(oct_dnnl_require(oct_dnnl_of(cpu), &key, &plan));
    return oct_dnnl_run(cpu, plan, buffers, args->workspace);
}

enum oct_status oct_dnnl_conv_dgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_dgrad_args *args, size_t *workspace)
{
    size_t bytes = 0;

    OCT_TRY(oct_dnnl_check_shape(&args->shape, "conv_dgrad"));
    OCT_TRY(oct_dnnl_check_operands(&args->dy, &args->w, "conv_dgrad"));
    OCT_TRY(check_output(args->dx_dtype, "conv_dgrad"));
    for (int mode = OCT_OVERWRITE; mode <= OCT_ACCUMULATE; mode++) {
        struct oct_dnnl_key key = dgrad_key(args, (enum oct_write)mode);
        struct oct_dnnl_plan *plan = NULL;
        OCT_TRY(oct_dnnl_plan_for(oct_dnnl_of(cpu), &key, build, &plan));
        bytes = plan->workspace > bytes ? plan->workspace : bytes;
    }
    *workspace = bytes;
    return OCT_OK;
}

enum oct_status oct_dnnl_conv_dgrad(struct oct_cpu *cpu, const struct oct_conv_dgrad_args *args)
{
    struct oct_dnnl_key key = dgrad_key(args, args->mode);
    struct oct_dnnl_plan *plan = NULL;
    char *const buffers[OCT_DNNL_SHARED] = {[OCT_DNNL_SRC] = (char *)args->dy.data,
        [OCT_DNNL_SECOND] = (char *)args->w.data,
        [OCT_DNNL_OUT] = args->dx};

    OCT_TRY(oct_dnnl_require(oct_dnnl_of(cpu), &key, &plan));
    return oct_dnnl_run(cpu, plan, buffers, args->workspace);
}
