/* weight_pack for float operands: f32 master weights KRSC into the layout and type that the
 * products read. Slices: ranges of the packed layout's outermost channel. */
#include "cpu/dnnl.h"
#include "cpu/dnnl_plan.h"

#include <stdlib.h>

enum { SLICES = 16 };

/* TMP0[c][r'][s'][k] = SRC[k][r][s][c] for channels [size[0], size[0] + size[1]), taps reversed:
 * the weights of the forward convolution that computes a dgrad. */
static void rotate(
    const struct oct_dnnl_plan *plan, const struct oct_dnnl_item *item, char *const *at)
{
    enum { BLOCK = 16 };
    const struct oct_conv_shape *v = &plan->key.shape;
    const float *w = (const float *)at[OCT_DNNL_SRC];
    float *out = (float *)at[OCT_DNNL_TMP0];
    int64_t taps = (int64_t)v->r * v->s, c0 = item->size[0], count = item->size[1];

    for (int64_t tap = 0; tap < taps; tap++) {
        for (int64_t k0 = 0; k0 < v->k; k0 += BLOCK) {
            int64_t end = k0 + BLOCK < v->k ? k0 + BLOCK : v->k;
            for (int64_t c = 0; c < count; c++) {
                float *to = out + (c * taps + taps - 1 - tap) * v->k;
                for (int64_t k = k0; k < end; k++)
                    to[k] = w[(k * taps + tap) * v->c + c0 + c];
            }
        }
    }
}

static enum oct_status build(struct oct_dnnl *d, struct oct_dnnl_plan *plan)
{
    const struct oct_conv_shape *v = &plan->key.shape;
    struct oct_dnnl_phase *phase = &plan->phase[0];
    enum oct_dtype dtype = (enum oct_dtype)plan->key.out_dtype;
    bool rotated = oct_dnnl_form_of(v, plan->key.mode) == OCT_DNNL_ROTATED;
    dnnl_memory_desc_t packed;

    OCT_TRY(oct_dnnl_weights_md(d, v, dtype, plan->key.mode, &packed));
    int64_t block = oct_dnnl_first_block(&packed);
    int64_t outer = rotated ? v->c : v->k, inner = rotated ? v->k : v->c;
    int64_t chunk = ((outer + SLICES - 1) / SLICES + block - 1) / block * block;
    int items = (int)((outer + chunk - 1) / chunk);
    int64_t last = outer - (items - 1) * chunk;

    plan->phases = 1;
    plan->pack_bytes = dnnl_memory_desc_get_size(&packed);
    phase->before = rotated ? rotate : NULL;
    OCT_TRY(oct_dnnl_add_items(phase, items));
    for (int kind = 0; kind < (items > 1 && last < chunk ? 2 : 1); kind++) {
        int64_t part = kind == 1 || items == 1 ? last : chunk;
        const dnnl_dims_t dims = {part, inner, v->r, v->s};
        const dnnl_dims_t strides = {v->r * v->s * inner, 1, v->s * inner, inner};
        dnnl_memory_desc_t from, to;
        dnnl_primitive_desc_t desc = NULL;

        OCT_TRY(oct_dnnl_strided(&from, OCT_F32, dims, strides));
        oct_dnnl_part(&packed, part, &to);
        OCT_TRY(oct_dnnl_reorder_desc(d, &from, &to, false, &desc));
        const struct oct_dnnl_bind binds[] = {
            {DNNL_ARG_FROM, rotated ? OCT_DNNL_TMP0 : OCT_DNNL_SRC, &from},
            {DNNL_ARG_TO, OCT_DNNL_OUT, &to}};
        OCT_TRY(oct_dnnl_add_step(d, phase, kind, desc, binds, 2));
    }
    for (int i = 0; i < items; i++) {
        struct oct_dnnl_item *item = &phase->item[i];
        int64_t first = i * chunk;
        item->kind = i == items - 1 && phase->kinds == 2;
        item->offset[OCT_DNNL_SRC] =
            rotated ? 0 : (size_t)(first * v->r * v->s * v->c) * sizeof(float);
        item->offset[OCT_DNNL_OUT] = oct_dnnl_part_offset(&packed, first, oct_dtype_bytes(dtype));
        item->size[0] = first;
        item->size[1] = i == items - 1 ? last : chunk;
    }
    return OCT_OK;
}

/* The batch size does not matter to a pack, so it is not part of its key. */
static struct oct_dnnl_key pack_key(
    const struct oct_conv_shape *shape, enum oct_dtype dtype, int dgrad)
{
    struct oct_dnnl_key key = {.op = OCT_DNNL_PACK,
        .shape = *shape,
        .in_dtype = OCT_F32,
        .out_dtype = (int)dtype,
        .mode = dgrad != 0};
    key.shape.n = 1;
    return key;
}

static enum oct_status plan_pack(struct oct_dnnl *d, const struct oct_conv_shape *shape,
    enum oct_dtype dtype, int dgrad, size_t *bytes)
{
    struct oct_dnnl_key key = pack_key(shape, dtype, dgrad);
    struct oct_dnnl_plan *plan = NULL;

    OCT_TRY(oct_dnnl_check_shape(shape, "weight_pack"));
    if (dtype != OCT_F32 && dtype != OCT_BF16)
        return oct_fail(OCT_UNSUPPORTED, "weight_pack in float: asked for %s, can do f32 and bf16",
            oct_dtype_name(dtype));
    OCT_TRY(oct_dnnl_plan_for(d, &key, build, &plan));
    if (plan->workspace > d->pack_scratch_bytes) {
        char *scratch = aligned_alloc(64, plan->workspace);
        if (!scratch)
            return oct_fail(
                OCT_NOMEM, "no memory for %zu bytes of packing scratch", plan->workspace);
        free(d->pack_scratch);
        d->pack_scratch = scratch;
        d->pack_scratch_bytes = plan->workspace;
    }
    *bytes = plan->pack_bytes;
    return OCT_OK;
}

size_t oct_dnnl_weight_pack_bytes(
    struct oct_cpu *cpu, const struct oct_conv_shape *shape, enum oct_dtype dtype, int dgrad)
{
    size_t bytes = 0;
    return plan_pack(oct_dnnl_of(cpu), shape, dtype, dgrad, &bytes) == OCT_OK ? bytes : 0;
}

static enum oct_status pack(
    struct oct_cpu *cpu, const struct oct_weight_pack_args *args, int dgrad, void *out)
{
    struct oct_dnnl *d = oct_dnnl_of(cpu);
    struct oct_dnnl_key key = pack_key(&args->shape, args->dtype, dgrad);
    struct oct_dnnl_plan *plan = NULL;
    char *const buffers[OCT_DNNL_SHARED] = {[OCT_DNNL_SRC] = (char *)args->w, [OCT_DNNL_OUT] = out};

    OCT_TRY(oct_dnnl_require(d, &key, &plan));
    return oct_dnnl_run(cpu, plan, buffers, d->pack_scratch);
}

enum oct_status oct_dnnl_weight_pack(struct oct_cpu *cpu, const struct oct_weight_pack_args *args)
{
    if (args->fprop)
        OCT_TRY(pack(cpu, args, 0, args->fprop));
    return args->dgrad ? pack(cpu, args, 1, args->dgrad) : OCT_OK;
}
