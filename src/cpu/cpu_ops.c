/* The table's entries for quantise, statistics, pooling, input, loss and update: they check,
 * count the pool's items and hand the argument struct to vec_*.c. */
#include "backend_check.h"
#include "cpu/vec_ops.h"

#include <stdlib.h>

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
    OCT_TRY(oct_check_quantise(a));
    int64_t items = oct_vec_items(a->rows, oct_vec_quantise_rows(a->channels));
    run(backend, items, oct_cpu_of(backend)->ops->quantise, a);
    return OCT_OK;
}

static enum oct_status channel_stats(oct_backend *backend, const struct oct_channel_stats_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(oct_check_channel_stats(a));
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->stats_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->stats_merge, a);
    return OCT_OK;
}

static enum oct_status channel_sum(oct_backend *backend, const struct oct_channel_sum_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(oct_check_channel_sum(a));
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->sum_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->sum_merge, a);
    return OCT_OK;
}

static enum oct_status count_above(oct_backend *backend, const struct oct_count_above_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    OCT_TRY(oct_check_count_above(a));
    if (a->total)
        *a->total = 0;
    run(backend, oct_vec_items(a->rows, OCT_REDUCE_PIXELS), ops->count_chunk, a);
    run(backend, oct_vec_items(a->channels, OCT_VEC_CHANNELS), ops->count_merge, a);
    return OCT_OK;
}

static enum oct_status pool(oct_backend *backend, const struct oct_pool_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    OCT_TRY(oct_check_pool(a));
    run(backend, (int64_t)v->n * oct_conv_p(v), oct_cpu_of(backend)->ops->pool, a);
    return OCT_OK;
}

static enum oct_status pool_bwd(oct_backend *backend, const struct oct_pool_bwd_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    OCT_TRY(oct_check_pool_bwd(a));
    run(backend, (int64_t)v->n * v->h, oct_cpu_of(backend)->ops->pool_bwd, a);
    return OCT_OK;
}

static enum oct_status image(oct_backend *backend, const struct oct_image_args *a)
{
    OCT_TRY(oct_check_image(a));
    run(backend, oct_vec_items(a->rows, OCT_VEC_IMAGE), oct_cpu_of(backend)->ops->image, a);
    return OCT_OK;
}

static enum oct_status loss(oct_backend *backend, const struct oct_loss_args *a)
{
    OCT_TRY(oct_check_loss(a));
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
