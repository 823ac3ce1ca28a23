#include "cuda_check.h"

int oct_cuda_is_float(enum oct_dtype dtype)
{
    return dtype == OCT_F32 || dtype == OCT_BF16;
}

enum oct_status oct_cuda_check_shape(const char *op, int64_t rows, int64_t least, int channels)
{
    if (rows < least || rows > INT32_MAX || channels < 1 || channels > OCT_CUDA_MAX_CHANNELS)
        return oct_fail(OCT_SHAPE,
            "%s: %lld pixels of %d channels; this backend takes %lld to 2^31 - 1 pixels of 1 to "
            "%d channels",
            op, (long long)rows, channels, (long long)least, OCT_CUDA_MAX_CHANNELS);
    return OCT_OK;
}

enum oct_status oct_cuda_check_float(const char *op, const char *tensor, enum oct_dtype dtype)
{
    if (!oct_cuda_is_float(dtype))
        return oct_fail(OCT_UNSUPPORTED, "%s: %s is %s; it can be f32 or bf16", op, tensor,
            oct_dtype_name(dtype));
    return OCT_OK;
}

enum oct_status oct_cuda_check_rows(
    const char *op, int64_t rows, int channels, enum oct_dtype dtype)
{
    if (rows < 1 || rows > INT32_MAX || channels < 1)
        return oct_fail(OCT_SHAPE,
            "%s of %lld rows x %d channels: both must be at least 1, rows under 2^31", op,
            (long long)rows, channels);
    if (!oct_cuda_is_float(dtype))
        return oct_fail(OCT_UNSUPPORTED, "%s of %s: give f32 or bf16", op, oct_dtype_name(dtype));
    return OCT_OK;
}

enum oct_status oct_cuda_check_range(
    const char *op, const struct oct_range *range, int count, int planes)
{
    int code_max = planes == 2 ? OCT_CODE16_MAX : OCT_CODE_MAX;
    if (!range->inverse || (range->count != 1 && range->count != count) ||
        range->code_max != code_max)
        return oct_fail(OCT_ARG,
            "%s: range of %d entries, largest code %d; codes in %d plane(s) need 1 or %d entries, "
            "%d",
            op, range->count, range->code_max, planes, count, code_max);
    return OCT_OK;
}

enum oct_status oct_cuda_check_flag(const char *op, const uint32_t *flag)
{
    if (!flag)
        return oct_fail(OCT_ARG, "%s: flag is NULL; give the step's flag", op);
    return OCT_OK;
}

enum oct_status oct_cuda_check_finalize(const struct oct_bn_finalize_args *g)
{
    OCT_TRY(oct_cuda_check_shape("bn_finalize", g->count, 0, g->channels));
    if (g->training && (g->count < 1 || !g->flag || (!g->acc && !(g->sum && g->sumsq))))
        return oct_fail(OCT_ARG,
            "bn_finalize: training needs a pixel count of at least 1 (found %lld), a flag, and "
            "statistics (acc, or sum and sumsq)",
            (long long)g->count);
    if ((g->xhat_max || g->z_amax) && !g->acc && !(g->y_min && g->y_max))
        return oct_fail(OCT_ARG, "bn_finalize: xhat_max and z_amax need acc, or y_min and y_max");
    return OCT_OK;
}

enum oct_status oct_cuda_check_act(const struct oct_act_fwd_args *g)
{
    const char *op = "act_fwd";
    if (g->a)
        OCT_TRY(oct_cuda_check_shape(op, g->rows, 0, g->channels));
    if (g->rows < 0 || g->channels < 1)
        return oct_fail(
            OCT_SHAPE, "%s: %lld pixels of %d channels", op, (long long)g->rows, g->channels);
    if (!g->a != !g->b)
        return oct_fail(OCT_ARG, "%s: one of a and b is missing; give both or neither", op);
    OCT_TRY(oct_cuda_check_float(op, "y", g->y_dtype));
    if (g->residual && g->residual_dtype != OCT_S8)
        OCT_TRY(oct_cuda_check_float(op, "the residual, unless s8,", g->residual_dtype));
    if (g->residual && g->residual_dtype == OCT_S8 && !g->residual_scale)
        return oct_fail(OCT_ARG, "%s: an s8 residual needs residual_scale", op);
    if (g->x && g->x_dtype != OCT_S8)
        OCT_TRY(oct_cuda_check_float(op, "x, unless s8,", g->x_dtype));
    if (g->x && g->x_dtype == OCT_S8)
        OCT_TRY(oct_cuda_check_range(op, &g->x_range, 1, 1));
    if (g->trunk)
        OCT_TRY(oct_cuda_check_float(op, "the trunk", g->trunk_dtype));
    return oct_cuda_check_flag(op, g->flag);
}

enum oct_status oct_cuda_check_bwd_finalize(const struct oct_bn_bwd_finalize_args *g)
{
    OCT_TRY(oct_cuda_check_shape("bn_bwd_finalize", g->count, 0, g->channels));
    if (g->count < 1)
        return oct_fail(OCT_ARG, "bn_bwd_finalize: no pixels to average over; count must be >= 1");
    if (g->bound && !(g->dz_min && g->dz_max && g->xhat_max))
        return oct_fail(OCT_ARG, "bn_bwd_finalize: bound needs dz_min, dz_max and xhat_max");
    return OCT_OK;
}

enum oct_status oct_cuda_check_apply(const struct oct_bn_bwd_apply_args *g)
{
    const char *op = "bn_bwd_apply";
    OCT_TRY(oct_cuda_check_shape(op, g->rows, 0, g->channels));
    OCT_TRY(oct_cuda_check_float(op, "da", g->da_dtype));
    OCT_TRY(oct_cuda_check_float(op, "y", g->y_dtype));
    if (g->q_channel)
        OCT_TRY(oct_cuda_check_range(op, &g->range_channel, g->channels, g->q_channel_lo ? 2 : 1));
    if (g->q_tensor)
        OCT_TRY(oct_cuda_check_range(op, &g->range_tensor, 1, g->q_tensor_lo ? 2 : 1));
    if (g->rounding == OCT_STOCHASTIC && (!g->step || g->rows_per_sample < 1))
        return oct_fail(OCT_ARG,
            "%s: stochastic rounding needs step and rows_per_sample (found %lld)", op,
            (long long)g->rows_per_sample);
    if (g->dy)
        OCT_TRY(oct_cuda_check_float(op, "dy", g->dy_dtype));
    if (g->d_residual)
        OCT_TRY(oct_cuda_check_float(op, "d_residual", g->d_residual_dtype));
    if ((g->above && !g->sigma) || (g->above_all && !g->sigma_all))
        return oct_fail(OCT_ARG, "%s: a count without its threshold; give sigma and sigma_all", op);
    return oct_cuda_check_flag(op, g->flag);
}

static enum oct_status check_windows(const char *op, const struct oct_conv_shape *v)
{
    if (v->k != v->c || v->groups != v->c || v->d != 1 || v->t != 1)
        return oct_fail(OCT_UNSUPPORTED,
            "%s with C %d, K %d, groups %d, D %d, T %d: pooling keeps channels apart (K = groups = "
            "C) and has two dimensions (D = T = 1)",
            op, v->c, v->k, v->groups, v->d, v->t);
    if (oct_conv_p(v) < 1 || oct_conv_q(v) < 1 || !oct_conv_windows_meet_input(v))
        return oct_fail(OCT_SHAPE,
            "%s window %dx%d, padding %d,%d over %dx%d: a window lies entirely in the padding", op,
            v->r, v->s, v->pad_h, v->pad_w, v->h, v->w);
    if (oct_conv_x_elements(v) / v->c > INT32_MAX || oct_conv_y_elements(v) / v->c > INT32_MAX)
        return oct_fail(OCT_SHAPE, "%s: %d images of %dx%d are more than 2^31 - 1 pixels", op, v->n,
            v->h, v->w);
    return OCT_OK;
}

enum oct_status oct_cuda_check_pool(const struct oct_pool_args *g)
{
    const struct oct_conv_shape *v = &g->shape;
    const int codes = g->x_dtype == OCT_S8;
    OCT_TRY(check_windows("pool", v));
    if (!g->average && v->r * v->s > OCT_POOL_TAPS)
        return oct_fail(
            OCT_UNSUPPORTED, "max pool window %dx%d: at most %d taps", v->r, v->s, OCT_POOL_TAPS);
    if (g->average && codes && v->r * v->s > OCT_POOL_CODES)
        return oct_fail(OCT_UNSUPPORTED, "average pool window %dx%d: at most %d codes", v->r, v->s,
            OCT_POOL_CODES);
    int kept = g->y_dtype == g->x_dtype && (codes || oct_cuda_is_float(g->x_dtype));
    int averaged = g->y_dtype == OCT_F32 ? codes || oct_cuda_is_float(g->x_dtype)
                                         : g->y_dtype == OCT_BF16 && oct_cuda_is_float(g->x_dtype);
    if (g->average ? !averaged : !kept)
        return oct_fail(OCT_UNSUPPORTED,
            "%s pool from %s to %s: max keeps s8, bf16 or f32; average gives f32, or bf16 from "
            "floats",
            g->average ? "average" : "max", oct_dtype_name(g->x_dtype), oct_dtype_name(g->y_dtype));
    return OCT_OK;
}

enum oct_status oct_cuda_check_pool_bwd(const struct oct_pool_bwd_args *g)
{
    OCT_TRY(check_windows("pool_bwd", &g->shape));
    OCT_TRY(oct_cuda_check_float("pool_bwd", "dy", g->dy_dtype));
    return oct_cuda_check_float("pool_bwd", "dx", g->dx_dtype);
}
