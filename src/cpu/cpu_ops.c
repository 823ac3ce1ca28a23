/* The table's entries for quantise, statistics, pooling, input, loss and update: they check what
 * would break a loop, count the pool's items and hand the argument struct to vec_*.c. */
#include "cpu/vec_ops.h"

#include <stdlib.h>

static int is_float(enum oct_dtype dtype)
{
    return dtype == OCT_F32 || dtype == OCT_BF16;
}

static enum oct_status check_rows(const char *op, int64_t rows, int channels, enum oct_dtype dtype)
{
    if (rows < 1 || channels < 1)
        return oct_fail(OCT_SHAPE, "%s of %lld rows x %d channels: both must be at least 1", op,
            (long long)rows, channels);
    if (!is_float(dtype))
        return oct_fail(OCT_UNSUPPORTED, "%s of %s: give f32 or bf16", op, oct_dtype_name(dtype));
    return OCT_OK;
}

/* The pool's work takes its argument struct as void *; no item writes to it. */
static void run(oct_backend *backend, int64_t items, oct_pool_work *work, const void *args)
{
    oct_pool_run(oct_cpu_of(backend)->pool, items, work, (void *)(uintptr_t)args);
}

static size_t channel_workspace(oct_backend *backend, int64_t rows, int channels)
{
    (void)backend;
    int64_t chunks = oct_vec_items(rows, OCT_REDUCE_PIXELS);
    return (size_t)chunks * OCT_STATS_WORDS * sizeof(float) * (size_t)channels;
}

static enum oct_status quantise(oct_backend *backend, const struct oct_quantise_args *a)
{
    OCT_TRY(check_rows("quantise", a->rows, a->channels, a->dtype));
    if (a->range.count != 1 && a->range.count != a->channels)
        return oct_fail(OCT_ARG, "quantise with %d ranges for %d channels: give 1 or one each",
            a->range.count, a->channels);
    int64_t items = oct_vec_items(a->rows, oct_vec_quantise_rows(a->channels));
    run(backend, items, oct_cpu_of(backend)->ops->quantise, a);
    return OCT_OK;
}

static enum oct_status channel_stats(oct_backend *backend, const struct oct_channel_stats_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(check_rows("channel_stats", a->rows, a->channels, a->dtype));
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->stats_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->stats_merge, a);
    return OCT_OK;
}

static enum oct_status channel_sum(oct_backend *backend, const struct oct_channel_sum_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(check_rows("channel_sum", a->rows, a->channels, OCT_F32));
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->sum_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->sum_merge, a);
    return OCT_OK;
}

static enum oct_status count_above(oct_backend *backend, const struct oct_count_above_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(check_rows("count_above", a->rows, a->channels, a->dtype));
    if (!a->threshold != !a->count || !a->threshold_all != !a->total)
        return oct_fail(OCT_ARG, "count_above: a threshold and its count come together");
    if (a->total)
        *a->total = 0;
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->count_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->count_merge, a);
    return OCT_OK;
}

static enum oct_status check_pool(const char *op, const struct oct_conv_shape *v)
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
    return OCT_OK;
}

static enum oct_status pool(oct_backend *backend, const struct oct_pool_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    OCT_TRY(check_pool("pool", v));
    if (!a->average && v->r * v->s > OCT_POOL_TAPS)
        return oct_fail(
            OCT_UNSUPPORTED, "max pool window %dx%d: at most %d taps", v->r, v->s, OCT_POOL_TAPS);
    if (a->average && a->x_dtype == OCT_S8 && v->r * v->s > OCT_POOL_CODES)
        return oct_fail(OCT_UNSUPPORTED, "average pool window %dx%d: at most %d codes", v->r, v->s,
            OCT_POOL_CODES);
    int kept = a->y_dtype == a->x_dtype && (a->x_dtype == OCT_S8 || is_float(a->x_dtype));
    int averaged = a->y_dtype == OCT_F32 ? a->x_dtype == OCT_S8 || is_float(a->x_dtype)
                                         : a->y_dtype == OCT_BF16 && is_float(a->x_dtype);
    if (a->average ? !averaged : !kept)
        return oct_fail(OCT_UNSUPPORTED,
            "%s pool from %s to %s: max keeps s8, bf16 or f32; average gives f32, or bf16 from "
            "floats",
            a->average ? "average" : "max", oct_dtype_name(a->x_dtype), oct_dtype_name(a->y_dtype));
    run(backend, (int64_t)v->n * oct_conv_p(v), oct_cpu_of(backend)->ops->pool, a);
    return OCT_OK;
}

static enum oct_status pool_bwd(oct_backend *backend, const struct oct_pool_bwd_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    OCT_TRY(check_pool("pool_bwd", v));
    if (!is_float(a->dy_dtype) || !is_float(a->dx_dtype))
        return oct_fail(OCT_UNSUPPORTED, "pool_bwd from %s to %s: give f32 or bf16",
            oct_dtype_name(a->dy_dtype), oct_dtype_name(a->dx_dtype));
    run(backend, (int64_t)v->n * v->h, oct_cpu_of(backend)->ops->pool_bwd, a);
    return OCT_OK;
}

static enum oct_status image(oct_backend *backend, const struct oct_image_args *a)
{
    OCT_TRY(check_rows("image", a->rows, a->channels, a->x_dtype));
    if (a->channels > 4 || a->channels_out < a->channels)
        return oct_fail(OCT_SHAPE,
            "image of %d channels to %d: at most 4, and no fewer out than in", a->channels,
            a->channels_out);
    run(backend, oct_vec_items(a->rows, OCT_VEC_IMAGE), oct_cpu_of(backend)->ops->image, a);
    return OCT_OK;
}

static enum oct_status loss(oct_backend *backend, const struct oct_loss_args *a)
{
    OCT_TRY(check_rows("loss", a->n, a->k, OCT_F32));
    run(backend, a->n, oct_cpu_of(backend)->ops->loss, a);
    return OCT_OK;
}

static enum oct_status sgd(oct_backend *backend, const struct oct_sgd_args *a)
{
    if (a->step->flag)
        return OCT_OK;
    if (a->amax)
        *a->amax = 0.0f;
    run(backend, oct_vec_items(a->count, OCT_VEC_CHUNK), oct_cpu_of(backend)->ops->sgd, a);
    return OCT_OK;
}

static enum oct_status ema(oct_backend *backend, const struct oct_ema_args *a)
{
    if (*a->flag)
        return OCT_OK;
    run(backend, oct_vec_items(a->count, OCT_VEC_CHUNK), oct_cpu_of(backend)->ops->ema, a);
    return OCT_OK;
}

/* The clip value of one entry; false if this step has no usable statistic. */
static int next_clip(const struct oct_range_update_args *a, int i, float amax, float *clip)
{
    if (!(amax > 0.0f) || oct_not_finite(amax))
        return 0;
    int restart = a->rule == OCT_CLIP_AMAX || !a->visited[i];
    if (a->rule == OCT_CLIP_TAIL) {
        int bell = oct_clip_is_bell(a->above[i], a->lambda, a->population);
        restart |= bell || a->label[i] != OCT_LABEL_TAIL;
        a->label[i] = bell ? OCT_LABEL_BELL : OCT_LABEL_TAIL;
    }
    if (a->rule != OCT_CLIP_AMAX)
        a->visited[i] = 1;
    *clip = restart ? amax : oct_clip_average(*clip, amax, a->k, a->a);
    return 1;
}

static void range_update_all(void *arg, int64_t item, int thread)
{
    (void)item, (void)thread;
    const struct oct_range_update_args *a = arg;
    const struct oct_range *range = &a->range;
    for (int i = 0; i < range->count; i++) {
        float amax = a->amax[i];
        for (int j = 1; range->count == 1 && j < a->amax_count; j++) {
            uint32_t rival = oct_bits_of_f32(a->amax[j]); /* by bits: NaN wins and shows */
            amax = rival > oct_bits_of_f32(amax) ? a->amax[j] : amax;
        }
        int usable = next_clip(a, i, amax, &range->clip[i]);
        float inverse = oct_inverse_of_clip(range->clip[i], range->code_max);
        range->scale[i] = oct_scale_of_clip(range->clip[i], range->code_max);
        range->inverse[i] = usable ? inverse : 0.0f;
    }
}

static enum oct_status range_update(oct_backend *backend, const struct oct_range_update_args *a)
{
    run(backend, 1, range_update_all, a);
    return OCT_OK;
}

void oct_cpu_ops_install(oct_backend *table)
{
    table->channel_workspace = channel_workspace;
    table->quantise = quantise;
    table->channel_stats = channel_stats;
    table->channel_sum = channel_sum;
    table->count_above = count_above;
    table->range_update = range_update;
    table->pool = pool;
    table->pool_bwd = pool_bwd;
    table->image = image;
    table->loss = loss;
    table->sgd = sgd;
    table->ema = ema;
}
