#include "backend_check.h"

#include "base/shift.h"

/* products */

static enum oct_status check_shape(const char *op, const struct oct_conv_shape *v)
{
    if (v->n < 1 || v->h < 1 || v->w < 1 || v->c < 1 || v->k < 1 || v->r < 1 || v->s < 1 ||
        v->stride_h < 1 || v->stride_w < 1 || v->dilation_h < 1 || v->dilation_w < 1 ||
        v->pad_h < 0 || v->pad_w < 0)
        return oct_fail(OCT_SHAPE,
            "%s: input %dx%dx%dx%d, filter %dx%dx%d: extents, strides and dilations must be at "
            "least 1, paddings at least 0",
            op, v->n, v->h, v->w, v->c, v->k, v->r, v->s);
    if (v->d != 1 || v->t != 1)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: depth D=%d T=%d: int8 products are two-dimensional, give 1 and 1", op, v->d, v->t);
    if (v->groups != 1)
        return oct_fail(
            OCT_UNSUPPORTED, "%s: groups=%d: int8 products have 1 group", op, v->groups);
    if (oct_conv_p(v) < 1 || oct_conv_q(v) < 1)
        return oct_fail(OCT_SHAPE, "%s: filter %dx%d does not fit into %dx%d with padding %dx%d",
            op, v->r, v->s, v->h, v->w, v->pad_h, v->pad_w);
    return OCT_OK;
}

static enum oct_status check_operand(
    const char *op, const char *name, const struct oct_operand *x, int per_k_legal)
{
    if (x->dtype != OCT_S8)
        return oct_fail(OCT_UNSUPPORTED, "%s: %s is %s beside an int8 operand: use s8 for both", op,
            name, oct_dtype_name(x->dtype));
    if (x->planes != 1 && x->planes != 2)
        return oct_fail(OCT_ARG, "%s: %s has %d planes: use 1 or 2", op, name, x->planes);
    if (x->scale_per_k && !per_k_legal)
        return oct_fail(OCT_ARG,
            "%s: %s has a scale per output channel, but the product sums over those: use one scale",
            op, name);
    return OCT_OK;
}

static enum oct_status check_output(const char *op, enum oct_dtype dtype)
{
    if (!oct_is_float(dtype))
        return oct_fail(
            OCT_UNSUPPORTED, "%s: output %s: use f32 or bf16", op, oct_dtype_name(dtype));
    return OCT_OK;
}

/* Codes from accumulators: nothing may overflow on the way. */
static enum oct_status check_shift_output(const struct oct_conv_fprop_args *a)
{
    const int64_t products = (int64_t)a->shape.r * a->shape.s * a->shape.c;
    if (a->bias || a->w.scale_per_k)
        return oct_fail(OCT_ARG,
            "conv_fprop: output s8 with a %s: it has an integer bias and one scale of w",
            a->bias ? "float bias" : "scale of w per output channel");
    if (products > OCT_SHIFT_MAX_K)
        return oct_fail(OCT_UNSUPPORTED,
            "conv_fprop: output s8 of sums of %lld products, at most %d: use fewer channels or a "
            "smaller filter",
            (long long)products, OCT_SHIFT_MAX_K);
    return OCT_OK;
}

/* Codes of a normalisation that the product does along. */
static enum oct_status check_norm_output(const struct oct_conv_fprop_args *a)
{
    const struct oct_conv_norm *n = &a->norm;
    if (!n->a || !n->b || !n->lo || !n->hi || !n->inverse)
        return oct_fail(OCT_ARG,
            "conv_fprop: a part of the normalisation is missing: give a, b, lo, hi and inverse, or "
            "none");
    if (a->y_dtype != OCT_S8 || a->bias)
        return oct_fail(OCT_ARG,
            "conv_fprop: a normalisation with output %s%s: it makes s8 and has a bias itself",
            oct_dtype_name(a->y_dtype), a->bias ? " and a bias" : "");
    return OCT_OK;
}

enum oct_status oct_check_conv_fprop(const struct oct_conv_fprop_args *a)
{
    const struct oct_conv_norm *n = &a->norm;
    OCT_TRY(check_shape("conv_fprop", &a->shape));
    OCT_TRY(check_operand("conv_fprop", "x", &a->x, 0));
    OCT_TRY(check_operand("conv_fprop", "w", &a->w, 1));
    if (n->a || n->b || n->lo || n->hi || n->inverse)
        return check_norm_output(a);
    if (a->y_dtype == OCT_S8)
        return check_shift_output(a);
    return check_output("conv_fprop", a->y_dtype);
}

enum oct_status oct_check_conv_dgrad(const struct oct_conv_dgrad_args *a)
{
    OCT_TRY(check_shape("conv_dgrad", &a->shape));
    OCT_TRY(check_operand("conv_dgrad", "dy", &a->dy, 0));
    OCT_TRY(check_operand("conv_dgrad", "w", &a->w, 0));
    return check_output("conv_dgrad", a->dx_dtype);
}

enum oct_status oct_check_conv_wgrad(const struct oct_conv_wgrad_args *a)
{
    OCT_TRY(check_shape("conv_wgrad", &a->shape));
    OCT_TRY(check_operand("conv_wgrad", "x", &a->x, 0));
    return check_operand("conv_wgrad", "dy", &a->dy, 1);
}

/* Codes on a grid of their own are rounded to nearest; some grids have none. */
static enum oct_status check_grid(
    const char *op, const struct oct_range *range, enum oct_rounding rounding)
{
    if (!oct_grid_has_codes(range->grid))
        return oct_fail(
            OCT_UNSUPPORTED, "%s: codes on a grid that has none: leave floats there", op);
    if (range->grid != OCT_GRID_UNIFORM && rounding == OCT_STOCHASTIC)
        return oct_fail(OCT_UNSUPPORTED,
            "%s: stochastic rounding on a grid that is not uniform: round to nearest", op);
    return OCT_OK;
}

enum oct_status oct_check_weight_pack(const struct oct_weight_pack_args *a)
{
    if (a->dgrad && a->range.count > 1)
        return oct_fail(OCT_ARG,
            "weight_pack: %d scales for the backward-data pack, which sums over output channels: "
            "use one scale",
            a->range.count);
    return a->dtype == OCT_S8 ? check_grid("weight_pack", &a->range, OCT_NEAREST) : OCT_OK;
}

/* quantise */

static enum oct_status check_rows(const char *op, int64_t rows, int channels, enum oct_dtype dtype)
{
    if (rows < 1 || rows > INT32_MAX || channels < 1)
        return oct_fail(OCT_SHAPE,
            "%s of %lld rows x %d channels: both must be at least 1, rows under 2^31", op,
            (long long)rows, channels);
    if (!oct_is_float(dtype))
        return oct_fail(OCT_UNSUPPORTED, "%s of %s: give f32 or bf16", op, oct_dtype_name(dtype));
    return OCT_OK;
}

enum oct_status oct_check_quantise(const struct oct_quantise_args *a)
{
    OCT_TRY(check_rows("quantise", a->rows, a->channels, a->dtype));
    if (a->range.count != 1 && a->range.count != a->channels)
        return oct_fail(OCT_ARG, "quantise with %d ranges for %d channels: give 1 or one each",
            a->range.count, a->channels);
    return check_grid("quantise", &a->range, a->rounding);
}

enum oct_status oct_check_regrid(const struct oct_regrid_args *a)
{
    if (!oct_is_float(a->dtype) || a->count < 0)
        return oct_fail(OCT_UNSUPPORTED, "regrid of %lld elements of %s: give f32 or bf16",
            (long long)a->count, oct_dtype_name(a->dtype));
    if (a->range.count != 1 || !a->flag)
        return oct_fail(OCT_ARG, "regrid: %d ranges; it takes one, and a flag", a->range.count);
    return OCT_OK;
}

enum oct_status oct_check_barrier_bwd(const struct oct_barrier_bwd_args *a)
{
    const int codes = a->x_dtype == OCT_S8;
    if (a->count < 1 || !oct_is_float(a->da_dtype) || !(codes || oct_is_float(a->x_dtype)))
        return oct_fail(OCT_UNSUPPORTED,
            "barrier_bwd of %lld elements, x %s, da %s: at least one; x s8, f32 or bf16; da f32 or "
            "bf16",
            (long long)a->count, oct_dtype_name(a->x_dtype), oct_dtype_name(a->da_dtype));
    if (codes && !a->x_scale)
        return oct_fail(OCT_ARG, "barrier_bwd: x is codes and has no x_scale: give one");
    return OCT_OK;
}

static enum oct_status check_samples(const char *op, int samples, int64_t count)
{
    if (samples < 1 || samples > OCT_COMPENSATE_SAMPLES || count < 1 || count > INT32_MAX)
        return oct_fail(OCT_SHAPE,
            "%s of %d samples x %lld elements: 1 to %d samples, 1 to 2^31 - 1 elements", op,
            samples, (long long)count, OCT_COMPENSATE_SAMPLES);
    return OCT_OK;
}

enum oct_status oct_check_compensate(const struct oct_compensate_args *a)
{
    if (!oct_is_float(a->y_dtype))
        return oct_fail(
            OCT_UNSUPPORTED, "compensate to %s: give f32 or bf16", oct_dtype_name(a->y_dtype));
    return check_samples("compensate", a->samples, a->count);
}

enum oct_status oct_check_compensate_bwd(const struct oct_compensate_bwd_args *a)
{
    return check_samples("compensate_bwd", a->samples, a->count);
}

enum oct_status oct_check_channel_stats(const struct oct_channel_stats_args *a)
{
    return check_rows("channel_stats", a->rows, a->channels, a->dtype);
}

enum oct_status oct_check_channel_sum(const struct oct_channel_sum_args *a)
{
    return check_rows("channel_sum", a->rows, a->channels, OCT_F32);
}

enum oct_status oct_check_count_above(const struct oct_count_above_args *a)
{
    OCT_TRY(check_rows("count_above", a->rows, a->channels, a->dtype));
    if (!a->threshold != !a->count || !a->threshold_all != !a->total)
        return oct_fail(OCT_ARG, "count_above: a threshold and its count come together");
    return OCT_OK;
}

enum oct_status oct_check_range_update(const struct oct_range_update_args *a)
{
    int remembers = a->rule == OCT_CLIP_EMA || a->rule == OCT_CLIP_TAIL;
    if (a->range.count < 1 || (!a->amax && a->rule != OCT_CLIP_FIXED))
        return oct_fail(OCT_ARG, "range_update: %d entries, %s amax: give both", a->range.count,
            a->amax ? "an" : "no");
    if ((remembers && !a->visited) || (a->rule == OCT_CLIP_TAIL && (!a->label || !a->above)))
        return oct_fail(OCT_ARG,
            "range_update: the rule keeps state: EMA needs visited, TAIL also label and above");
    return OCT_OK;
}

enum oct_status oct_check_cosine_search(const struct oct_cosine_search_args *a)
{
    OCT_TRY(check_rows("cosine_search", a->rows, a->channels, a->dtype));
    if (a->candidates < 1 || a->candidates > OCT_SEARCH_CANDIDATES)
        return oct_fail(OCT_ARG, "cosine_search of %d candidates: give 1 to %d", a->candidates,
            OCT_SEARCH_CANDIDATES);
    if (!a->amax || a->amax_count < 1 || !a->share || !a->distance || !a->sums)
        return oct_fail(OCT_ARG, "cosine_search needs amax, share, distance and sums");
    return OCT_OK;
}

/* normalise and activate */

static enum oct_status check_pixels(const char *op, int64_t rows, int channels)
{
    if (rows < 0 || rows > INT32_MAX || channels < 1 || channels > OCT_NORM_MAX_CHANNELS)
        return oct_fail(OCT_SHAPE,
            "%s: %lld pixels of %d channels; it takes up to 2^31 - 1 pixels of 1 to %d channels",
            op, (long long)rows, channels, OCT_NORM_MAX_CHANNELS);
    return OCT_OK;
}

static enum oct_status check_float(const char *op, const char *tensor, enum oct_dtype dtype)
{
    if (!oct_is_float(dtype))
        return oct_fail(OCT_UNSUPPORTED, "%s: %s is %s; it can be f32 or bf16", op, tensor,
            oct_dtype_name(dtype));
    return OCT_OK;
}

/* The same where codes are welcome too. */
static enum oct_status check_any(const char *op, const char *tensor, enum oct_dtype dtype)
{
    if (!oct_is_float(dtype) && dtype != OCT_S8)
        return oct_fail(OCT_UNSUPPORTED, "%s: %s is %s; it can be s8, bf16 or f32", op, tensor,
            oct_dtype_name(dtype));
    return OCT_OK;
}

/* 1 or `count` entries for codes in that many planes. */
static enum oct_status check_range(
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

static enum oct_status check_flag(const char *op, const uint32_t *flag)
{
    if (!flag)
        return oct_fail(OCT_ARG, "%s: flag is NULL; give the step's flag", op);
    return OCT_OK;
}

enum oct_status oct_check_bn_finalize(const struct oct_bn_finalize_args *g)
{
    OCT_TRY(check_pixels("bn_finalize", g->count, g->channels));
    if (g->training && (g->count < 1 || !g->flag || (!g->acc && !(g->sum && g->sumsq))))
        return oct_fail(OCT_ARG,
            "bn_finalize: training needs a pixel count of at least 1 (found %lld), a flag, and "
            "statistics (acc, or sum and sumsq)",
            (long long)g->count);
    if ((g->xhat_max || (g->z_amax && !g->clip_lo)) && !g->acc && !(g->y_min && g->y_max))
        return oct_fail(OCT_ARG, "bn_finalize: xhat_max and z_amax need acc, or y_min and y_max");
    if (!g->clip_lo != !g->clip_hi || (g->clip_lo && !(g->sigmas > 0.0f)))
        return oct_fail(OCT_ARG,
            "bn_finalize: a clip has two ends and a width above 0 (found %g): give clip_lo, "
            "clip_hi and sigmas",
            (double)g->sigmas);
    if (g->rounding.xhat > 0.0f &&
        (g->clip_lo || !g->gamma_q || !g->beta_q || !(g->rounding.sd > 0.0f)))
        return oct_fail(OCT_ARG,
            "bn_finalize: rounding needs gamma_q, beta_q and a grid for the deviation, and "
            "excludes a clip");
    return OCT_OK;
}

enum oct_status oct_check_affine_finalize(const struct oct_affine_finalize_args *g)
{
    OCT_TRY(check_pixels("affine_finalize", 0, g->channels));
    if (g->bias && g->bias_count != 1 && g->bias_count != g->channels)
        return oct_fail(OCT_ARG, "affine_finalize: %d biases for %d channels; give 1 or one each",
            g->bias_count, g->channels);
    if (g->z_amax && !(g->acc && g->x_scale && g->w_scale))
        return oct_fail(OCT_ARG, "affine_finalize: z_amax needs acc, x_scale and w_scale");
    return OCT_OK;
}

enum oct_status oct_check_shift_finalize(const struct oct_shift_finalize_args *g)
{
    const char *op = "shift_finalize";
    OCT_TRY(check_pixels(op, 0, g->channels));
    if (!g->shift.by || !g->shift.bias)
        return oct_fail(OCT_ARG, "%s: no coefficients: give shift.by and shift.bias", op);
    if (g->acc)
        return g->amax ? OCT_OK : oct_fail(OCT_ARG, "%s: acc without amax; give both", op);
    if (!g->y_scale || !g->x_scale)
        return oct_fail(OCT_ARG, "%s needs y_scale and x_scale", op);
    if (!g->a != !g->b || !g->a != !g->ix || !g->a != !g->jx)
        return oct_fail(OCT_ARG, "%s: some of a, b, ix and jx; give all or none", op);
    if (g->bias && g->bias_count != 1 && g->bias_count != g->channels)
        return oct_fail(OCT_ARG, "%s: %d biases for %d channels; give 1 or one each", op,
            g->bias_count, g->channels);
    if (g->window < 0 || g->window > 1 << 15 || (g->window > 1 && (g->scale || g->residual_scale)))
        return oct_fail(OCT_ARG,
            "%s: a window of %d: at most 32768, and neither scale nor residual with it", op,
            g->window);
    return OCT_OK;
}

enum oct_status oct_check_act_shift(const struct oct_act_shift_args *g)
{
    const char *op = "act_shift";
    OCT_TRY(check_pixels(op, g->rows, g->channels));
    if (g->y_dtype != OCT_S8 && (g->y_dtype != OCT_S32 || g->residual))
        return oct_fail(OCT_UNSUPPORTED, "%s: y is %s%s; it can be s8, or s32 without a residual",
            op, oct_dtype_name(g->y_dtype), g->residual ? " beside a residual" : "");
    if (!g->y || !g->x || !g->shift.by || !g->shift.bias)
        return oct_fail(OCT_ARG, "%s needs y, x, shift.by and shift.bias", op);
    return OCT_OK;
}

enum oct_status oct_check_act_fwd(const struct oct_act_fwd_args *g)
{
    const char *op = "act_fwd";
    if (g->a)
        OCT_TRY(check_pixels(op, g->rows, g->channels));
    if (g->rows < 0 || g->channels < 1)
        return oct_fail(
            OCT_SHAPE, "%s: %lld pixels of %d channels", op, (long long)g->rows, g->channels);
    if (!g->a != !g->b)
        return oct_fail(OCT_ARG, "%s: one of a and b is missing; give both or neither", op);
    if (!g->clip_lo != !g->clip_hi || (g->clip_lo && !g->a))
        return oct_fail(
            OCT_ARG, "%s: a clip needs clip_lo, clip_hi, a and b; one of them is missing", op);
    if (g->xhat_steps > 0.0f && (g->clip_lo || !g->a || !g->ix || !g->jx))
        return oct_fail(
            OCT_ARG, "%s: a rounded xhat needs ix, jx, a and b, and excludes a clip", op);
    if ((g->inside || g->clipped) && !g->clip_lo)
        return oct_fail(OCT_ARG, "%s: inside and clipped without clip_lo and clip_hi", op);
    OCT_TRY(check_float(op, "y", g->y_dtype));
    if (g->residual)
        OCT_TRY(check_any(op, "the residual", g->residual_dtype));
    if (g->residual && g->residual_dtype == OCT_S8 && !g->residual_scale)
        return oct_fail(OCT_ARG, "%s: an s8 residual needs residual_scale", op);
    if (g->x)
        OCT_TRY(check_any(op, "x", g->x_dtype));
    if (g->x && g->x_dtype == OCT_S8)
        OCT_TRY(check_range(op, &g->x_range, 1, 1));
    if (g->x && g->x_dtype == OCT_S8)
        OCT_TRY(check_grid(op, &g->x_range, OCT_NEAREST));
    if (g->trunk)
        OCT_TRY(check_float(op, "the trunk", g->trunk_dtype));
    return check_flag(op, g->flag);
}

enum oct_status oct_check_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *g)
{
    OCT_TRY(check_pixels("bn_bwd_reduce", g->rows, g->channels));
    OCT_TRY(check_float("bn_bwd_reduce", "da", g->da_dtype));
    return check_any("bn_bwd_reduce", "y", g->y_dtype);
}

enum oct_status oct_check_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *g)
{
    OCT_TRY(check_pixels("bn_bwd_finalize", g->count, g->channels));
    if (g->count < 1)
        return oct_fail(OCT_ARG, "bn_bwd_finalize: no pixels to average over; count must be >= 1");
    if (g->bound && !(g->dz_min && g->dz_max && g->xhat_max))
        return oct_fail(OCT_ARG, "bn_bwd_finalize: bound needs dz_min, dz_max and xhat_max");
    return OCT_OK;
}

enum oct_status oct_check_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *g)
{
    OCT_TRY(check_pixels("affine_bwd_finalize", g->count, g->channels));
    if (g->count < 1)
        return oct_fail(
            OCT_ARG, "affine_bwd_finalize: no pixels to average over; count must be >= 1");
    if (g->dbias && g->bias_count != 1 && g->bias_count != g->channels)
        return oct_fail(OCT_ARG,
            "affine_bwd_finalize: %d biases for %d channels; give 1 or one each", g->bias_count,
            g->channels);
    if (g->bound && !(g->dz_min && g->dz_max))
        return oct_fail(OCT_ARG, "affine_bwd_finalize: bound needs dz_min and dz_max");
    return OCT_OK;
}

enum oct_status oct_check_bn_bwd_apply(const struct oct_bn_bwd_apply_args *g)
{
    const char *op = "bn_bwd_apply";
    OCT_TRY(check_pixels(op, g->rows, g->channels));
    OCT_TRY(check_float(op, "da", g->da_dtype));
    OCT_TRY(check_any(op, "y", g->y_dtype));
    if (g->q_channel)
        OCT_TRY(check_range(op, &g->range_channel, g->channels, g->q_channel_lo ? 2 : 1));
    if (g->q_tensor)
        OCT_TRY(check_range(op, &g->range_tensor, 1, g->q_tensor_lo ? 2 : 1));
    if (g->rounding == OCT_STOCHASTIC && (!g->step || g->rows_per_sample < 1))
        return oct_fail(OCT_ARG,
            "%s: stochastic rounding needs step and rows_per_sample (found %lld)", op,
            (long long)g->rows_per_sample);
    if (g->q_channel)
        OCT_TRY(check_grid(op, &g->range_channel, g->rounding));
    if (g->q_tensor)
        OCT_TRY(check_grid(op, &g->range_tensor, g->rounding));
    if (g->dy)
        OCT_TRY(check_float(op, "dy", g->dy_dtype));
    if (g->d_residual)
        OCT_TRY(check_float(op, "d_residual", g->d_residual_dtype));
    if ((g->above && !g->sigma) || (g->above_all && !g->sigma_all))
        return oct_fail(OCT_ARG, "%s: a count without its threshold; give sigma and sigma_all", op);
    return check_flag(op, g->flag);
}

/* pool, input, loss */

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

enum oct_status oct_check_pool(const struct oct_pool_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    const int codes = a->x_dtype == OCT_S8;
    OCT_TRY(check_windows("pool", v));
    if (!a->average && v->r * v->s > OCT_POOL_TAPS)
        return oct_fail(
            OCT_UNSUPPORTED, "max pool window %dx%d: at most %d taps", v->r, v->s, OCT_POOL_TAPS);
    if (a->average && codes && v->r * v->s > OCT_POOL_CODES)
        return oct_fail(OCT_UNSUPPORTED, "average pool window %dx%d: at most %d codes", v->r, v->s,
            OCT_POOL_CODES);
    int kept = a->y_dtype == a->x_dtype && (codes || oct_is_float(a->x_dtype));
    int averaged = a->y_dtype == OCT_F32   ? codes || oct_is_float(a->x_dtype)
                   : a->y_dtype == OCT_S32 ? codes
                                           : a->y_dtype == OCT_BF16 && oct_is_float(a->x_dtype);
    if (a->average ? !averaged : !kept)
        return oct_fail(OCT_UNSUPPORTED,
            "%s pool from %s to %s: max keeps s8, bf16 or f32; average gives f32, bf16 from "
            "floats, "
            "or s32 from s8",
            a->average ? "average" : "max", oct_dtype_name(a->x_dtype), oct_dtype_name(a->y_dtype));
    return OCT_OK;
}

enum oct_status oct_check_pool_bwd(const struct oct_pool_bwd_args *a)
{
    OCT_TRY(check_windows("pool_bwd", &a->shape));
    OCT_TRY(check_float("pool_bwd", "dy", a->dy_dtype));
    return check_float("pool_bwd", "dx", a->dx_dtype);
}

enum oct_status oct_check_image(const struct oct_image_args *a)
{
    OCT_TRY(check_rows("image", a->rows, a->channels, a->x_dtype));
    if (a->channels > 4 || a->channels_out < a->channels)
        return oct_fail(OCT_SHAPE,
            "image of %d channels to %d: at most 4, and no fewer out than in", a->channels,
            a->channels_out);
    return OCT_OK;
}

enum oct_status oct_check_loss(const struct oct_loss_args *a)
{
    return check_rows("loss", a->n, a->k, OCT_F32);
}

/* update */

enum oct_status oct_check_sgd_fixed(const struct oct_sgd_fixed_args *a)
{
    if (!(a->gradient_steps > 0.0f) || (a->normalise && !a->gradient_amax))
        return oct_fail(OCT_ARG,
            "sgd_fixed needs gradient_steps above 0 (here %g), and gradient_amax to normalise",
            (double)a->gradient_steps);
    if ((a->increment == OCT_INCREMENT_CODE && !(a->momentum_unit > 0.0f)) ||
        (a->increment == OCT_INCREMENT_GRID && !a->unit))
        return oct_fail(OCT_ARG,
            "sgd_fixed: an increment in codes needs its unit: momentum_unit, or the weight's");
    if (a->counts && (!a->normalise || !(a->momentum_steps > 0.0f)))
        return oct_fail(
            OCT_ARG, "sgd_fixed counts codes of normalised gradients and of a momentum on a grid");
    return OCT_OK;
}
