/* Normalisations and activations of the mirror. */
#include "support/mirror_span.h"

/* The statistics `from`, in a copy that may be changed; NULL: there are none. */
static const struct oct_acc_stats *bind_acc(
    struct mirror *m, const struct oct_acc_stats *from, struct oct_acc_stats *copy, int channels)
{
    if (!from)
        return NULL;
    *copy = *from;
    mirror_bind_stats(m, copy, channels);
    return copy;
}

static enum oct_status mirror_bn_finalize(
    oct_backend *table, const struct oct_bn_finalize_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_bn_finalize_args a = *args;
    struct oct_acc_stats acc;
    const int f = 4 * a.channels, d = 8 * a.channels;

    a.acc = bind_acc(m, a.acc, &acc, a.channels);
    IN(a.x_scale, 4);
    IN(a.w_scale, a.w_scale_per_k ? f : 4);
    IN(a.sum, d);
    IN(a.sumsq, d);
    IN(a.y_min, f);
    IN(a.y_max, f);
    IN(a.gamma, f);
    IN(a.beta, f);
    OUT(a.running_mean, f);
    OUT(a.running_var, f);
    OUT(a.a, f);
    OUT(a.b, f);
    OUT(a.ix, f);
    OUT(a.jx, f);
    OUT(a.xhat_max, f);
    OUT(a.z_amax, f);
    OUT(a.clip_lo, f);
    OUT(a.clip_hi, f);
    OUT(a.gamma_q, f);
    OUT(a.beta_q, f);
    OUT(a.flag, 4);
    RUN(bn_finalize);
}

static enum oct_status mirror_act_fwd(oct_backend *table, const struct oct_act_fwd_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_act_fwd_args a = *args;
    int64_t n = a.rows * a.channels;

    IN(a.y, n * size_of(a.y_dtype));
    IN(a.a, 4 * a.channels);
    IN(a.b, 4 * a.channels);
    IN(a.ix, 4 * a.channels);
    IN(a.jx, 4 * a.channels);
    IN(a.residual, n * size_of(a.residual_dtype));
    IN(a.residual_scale, 4);
    mirror_bind_range(m, &a.x_range, false);
    OUT(a.x, n * size_of(a.x_dtype));
    OUT(a.trunk, n * size_of(a.trunk_dtype));
    OUT(a.mask, (n + 7) / 8);
    IN(a.clip_lo, 4 * a.channels);
    IN(a.clip_hi, 4 * a.channels);
    OUT(a.inside, (n + 7) / 8);
    OUT(a.clipped, 8);
    OUT(a.y_above, 8);
    OUT(a.amax, 4);
    OUT(a.saturated, 8);
    OUT(a.flag, 4);
    RUN(act_fwd);
}

static size_t mirror_bn_workspace(oct_backend *table, int64_t rows, int channels)
{
    oct_backend *d = mirror_of(table)->device;
    return d->bn_workspace(d, rows, channels);
}

static enum oct_status mirror_bn_bwd_reduce(
    oct_backend *table, const struct oct_bn_bwd_reduce_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_bn_bwd_reduce_args a = *args;
    const int f = 4 * a.channels, d = 8 * a.channels;
    int64_t n = a.rows * a.channels;

    IN(a.da, n * size_of(a.da_dtype));
    IN(a.y, n * size_of(a.y_dtype));
    IN(a.a, f);
    IN(a.b, f);
    IN(a.ix, f);
    IN(a.jx, f);
    IN(a.mask, (n + 7) / 8);
    OUT(a.sum_dz, d);
    OUT(a.sum_dz_xhat, d);
    OUT(a.sum_dz2, d);
    OUT(a.dz_min, f);
    OUT(a.dz_max, f);
    SCRATCH(a.workspace, m->device->bn_workspace(m->device, a.rows, a.channels));
    RUN(bn_bwd_reduce);
}

static enum oct_status mirror_bn_bwd_finalize(
    oct_backend *table, const struct oct_bn_bwd_finalize_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_bn_bwd_finalize_args a = *args;
    const int f = 4 * a.channels, d = 8 * a.channels;

    IN(a.sum_dz, d);
    IN(a.sum_dz_xhat, d);
    IN(a.sum_dz2, d);
    IN(a.dz_min, f);
    IN(a.dz_max, f);
    IN(a.xhat_max, f);
    IN(a.a, f);
    IN(a.ix, f);
    OUT(a.m1, f);
    OUT(a.m2, f);
    OUT(a.dgamma, f);
    OUT(a.dbeta, f);
    OUT(a.bound, f);
    OUT(a.sigma, f);
    OUT(a.sigma_all, 4);
    RUN(bn_bwd_finalize);
}

static enum oct_status mirror_affine_finalize(
    oct_backend *table, const struct oct_affine_finalize_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_affine_finalize_args a = *args;
    struct oct_acc_stats acc;
    const int f = 4 * a.channels;

    a.acc = bind_acc(m, a.acc, &acc, a.channels);
    IN(a.scale, 4);
    IN(a.bias, 4 * a.bias_count);
    IN(a.x_scale, 4);
    IN(a.w_scale, a.w_scale_per_k ? f : 4);
    OUT(a.a, f);
    OUT(a.b, f);
    OUT(a.ix, f);
    OUT(a.jx, f);
    OUT(a.z_amax, f);
    RUN(affine_finalize);
}

static enum oct_status mirror_shift_finalize(
    oct_backend *table, const struct oct_shift_finalize_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_shift_finalize_args a = *args;
    struct oct_acc_stats acc;
    const int f = 4 * a.channels;

    a.acc = bind_acc(m, a.acc, &acc, a.channels);
    IN(a.scale, 4);
    IN(a.bias, 4 * a.bias_count);
    IN(a.y_scale, 4);
    IN(a.w_scale, 4);
    IN(a.residual_scale, 4);
    IN(a.x_scale, 4);
    OUT(a.shift.by, 4 * OCT_SHIFT_ENTRIES);
    OUT(a.shift.bias, f);
    OUT(a.a, f);
    OUT(a.b, f);
    OUT(a.ix, f);
    OUT(a.jx, f);
    OUT(a.amax, f);
    RUN(shift_finalize);
}

static enum oct_status mirror_act_shift(oct_backend *table, const struct oct_act_shift_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_act_shift_args a = *args;
    int64_t n = a.rows * a.channels;

    IN(a.y, n * size_of(a.y_dtype));
    IN(a.residual, n);
    IN(a.shift.by, 4 * OCT_SHIFT_ENTRIES);
    IN(a.shift.bias, 4 * a.channels);
    OUT(a.x, n);
    OUT(a.mask, (n + 7) / 8);
    OUT(a.amax, 4);
    RUN(act_shift);
}

static enum oct_status mirror_affine_bwd_finalize(
    oct_backend *table, const struct oct_affine_bwd_finalize_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_affine_bwd_finalize_args a = *args;
    const int f = 4 * a.channels, d = 8 * a.channels;

    IN(a.sum_dz, d);
    IN(a.sum_dz_y, d);
    IN(a.sum_dz2, d);
    IN(a.dz_min, f);
    IN(a.dz_max, f);
    IN(a.a, f);
    OUT(a.m1, f);
    OUT(a.m2, f);
    OUT(a.dscale, 4);
    OUT(a.dbias, 4 * a.bias_count);
    OUT(a.bound, f);
    OUT(a.sigma, f);
    OUT(a.sigma_all, 4);
    RUN(affine_bwd_finalize);
}

static void bind_apply_inputs(struct mirror *m, struct oct_bn_bwd_apply_args *a)
{
    const int f = 4 * a->channels;
    int64_t n = a->rows * a->channels;

    IN(a->da, n * size_of(a->da_dtype));
    IN(a->y, n * size_of(a->y_dtype));
    IN(a->a, f);
    IN(a->b, f);
    IN(a->ix, f);
    IN(a->jx, f);
    IN(a->m1, f);
    IN(a->m2, f);
    IN(a->mask, (n + 7) / 8);
    IN(a->residual_mask, (n + 7) / 8);
    mirror_bind_range(m, &a->range_channel, false);
    mirror_bind_range(m, &a->range_tensor, false);
    IN(a->step, sizeof *a->step);
    IN(a->sigma, f);
    IN(a->sigma_all, 4);
}

static enum oct_status mirror_bn_bwd_apply(
    oct_backend *table, const struct oct_bn_bwd_apply_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_bn_bwd_apply_args a = *args;
    int64_t n = a.rows * a.channels;

    bind_apply_inputs(m, &a);
    OUT(a.q_channel, n);
    OUT(a.q_channel_lo, n);
    OUT(a.q_tensor, n);
    OUT(a.q_tensor_lo, n);
    OUT(a.dy, n * size_of(a.dy_dtype));
    OUT(a.d_residual, n * size_of(a.d_residual_dtype));
    OUT(a.above, 8 * a.channels);
    OUT(a.above_all, 8);
    OUT(a.amax, 4 * a.channels);
    OUT(a.saturated, 16);
    SCRATCH(a.workspace, m->device->bn_workspace(m->device, a.rows, a.channels));
    OUT(a.flag, 4);
    RUN(bn_bwd_apply);
}

void mirror_install_norms(oct_backend *table)
{
    table->bn_finalize = mirror_bn_finalize;
    table->act_fwd = mirror_act_fwd;
    table->bn_workspace = mirror_bn_workspace;
    table->bn_bwd_reduce = mirror_bn_bwd_reduce;
    table->bn_bwd_finalize = mirror_bn_bwd_finalize;
    table->affine_finalize = mirror_affine_finalize;
    table->shift_finalize = mirror_shift_finalize;
    table->act_shift = mirror_act_shift;
    table->affine_bwd_finalize = mirror_affine_bwd_finalize;
    table->bn_bwd_apply = mirror_bn_bwd_apply;
}
