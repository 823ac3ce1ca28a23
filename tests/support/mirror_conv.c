/* The products of the mirror. */
#include "support/mirror_span.h"

static void bind_operand(struct mirror *m, struct oct_operand *o, int64_t bytes, int channels)
{
    IN(o->data, bytes);
    IN(o->data_lo, bytes);
    IN(o->scale, 4 * (o->scale_per_k ? channels : 1));
}

static enum oct_status mirror_fprop_check(
    oct_backend *table, const struct oct_conv_fprop_args *args, size_t *workspace)
{
    oct_backend *d = mirror_of(table)->device;
    return d->conv_fprop_check(d, args, workspace);
}

static enum oct_status mirror_dgrad_check(
    oct_backend *table, const struct oct_conv_dgrad_args *args, size_t *workspace)
{
    oct_backend *d = mirror_of(table)->device;
    return d->conv_dgrad_check(d, args, workspace);
}

static enum oct_status mirror_wgrad_check(
    oct_backend *table, const struct oct_conv_wgrad_args *args, size_t *workspace)
{
    oct_backend *d = mirror_of(table)->device;
    return d->conv_wgrad_check(d, args, workspace);
}

static size_t mirror_pack_bytes(
    oct_backend *table, const struct oct_conv_shape *shape, enum oct_dtype dtype, int dgrad)
{
    oct_backend *d = mirror_of(table)->device;
    return d->weight_pack_bytes(d, shape, dtype, dgrad);
}

static enum oct_status mirror_fprop(oct_backend *table, const struct oct_conv_fprop_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_conv_fprop_args a = *args;
    struct oct_acc_stats stats;
    const struct oct_conv_shape *v = &a.shape;
    size_t workspace = 0;

    OCT_TRY(m->device->conv_fprop_check(m->device, args, &workspace));
    bind_operand(m, &a.x, oct_conv_x_elements(v) * size_of(a.x.dtype), 1);
    bind_operand(m, &a.w, (int64_t)m->device->weight_pack_bytes(m->device, v, a.w.dtype, 0), v->k);
    IN(a.bias, 4 * v->k);
    IN(a.norm.a, 4 * v->k);
    IN(a.norm.b, 4 * v->k);
    IN(a.norm.lo, 4 * v->k);
    IN(a.norm.hi, 4 * v->k);
    IN(a.norm.inverse, 4);
    IN(a.shift.by, 4 * OCT_SHIFT_ENTRIES);
    IN(a.shift.bias, 4 * v->k);
    OUT(a.y, oct_conv_y_elements(v) * size_of(a.y_dtype));
    if (a.stats) {
        stats = *a.stats;
        a.stats = &stats;
        mirror_bind_stats(m, &stats, v->k);
    }
    SCRATCH(a.workspace, workspace);
    RUN(conv_fprop);
}

static enum oct_status mirror_dgrad(oct_backend *table, const struct oct_conv_dgrad_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_conv_dgrad_args a = *args;
    const struct oct_conv_shape *v = &a.shape;
    size_t workspace = 0;

    OCT_TRY(m->device->conv_dgrad_check(m->device, args, &workspace));
    bind_operand(m, &a.dy, oct_conv_y_elements(v) * size_of(a.dy.dtype), v->k);
    bind_operand(m, &a.w, (int64_t)m->device->weight_pack_bytes(m->device, v, a.w.dtype, 1), v->k);
    OUT(a.dx, oct_conv_x_elements(v) * size_of(a.dx_dtype));
    SCRATCH(a.workspace, workspace);
    RUN(conv_dgrad);
}

static enum oct_status mirror_wgrad(oct_backend *table, const struct oct_conv_wgrad_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_conv_wgrad_args a = *args;
    const struct oct_conv_shape *v = &a.shape;
    size_t workspace = 0;

    OCT_TRY(m->device->conv_wgrad_check(m->device, args, &workspace));
    bind_operand(m, &a.x, oct_conv_x_elements(v) * size_of(a.x.dtype), 1);
    bind_operand(m, &a.dy, oct_conv_y_elements(v) * size_of(a.dy.dtype), v->k);
    OUT(a.dw, 4 * oct_conv_w_elements(v));
    SCRATCH(a.workspace, workspace);
    RUN(conv_wgrad);
}

static enum oct_status mirror_weight_pack(
    oct_backend *table, const struct oct_weight_pack_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_weight_pack_args a = *args;
    int64_t fprop = (int64_t)m->device->weight_pack_bytes(m->device, &a.shape, a.dtype, 0);
    int64_t dgrad = (int64_t)m->device->weight_pack_bytes(m->device, &a.shape, a.dtype, 1);

    IN(a.w, 4 * oct_conv_w_elements(&a.shape));
    mirror_bind_range(m, &a.range, false);
    OUT(a.fprop, fprop);
    OUT(a.fprop_lo, fprop);
    OUT(a.dgrad, dgrad);
    OUT(a.dgrad_lo, dgrad);
    OUT(a.flag, 4);
    RUN(weight_pack);
}

static enum oct_status mirror_stats_clear(
    oct_backend *table, const struct oct_acc_stats *args, int channels)
{
    struct mirror *m = mirror_begin(table);
    struct oct_acc_stats a = *args;
    enum oct_status status;

    mirror_bind_stats(m, &a, channels);
    status = mirror_carry(m);
    if (status == OCT_OK)
        status = m->device->stats_clear(m->device, &a, channels);
    return mirror_finish(m, status);
}

void mirror_install_products(oct_backend *table)
{
    table->conv_fprop_check = mirror_fprop_check;
    table->conv_fprop = mirror_fprop;
    table->conv_dgrad_check = mirror_dgrad_check;
    table->conv_dgrad = mirror_dgrad;
    table->conv_wgrad_check = mirror_wgrad_check;
    table->conv_wgrad = mirror_wgrad;
    table->weight_pack_bytes = mirror_pack_bytes;
    table->weight_pack = mirror_weight_pack;
    table->stats_clear = mirror_stats_clear;
}
