/* The table's entries for quantise, statistics, pooling, input, loss and update: they check,
 * count the pool's items and hand the argument struct to vec_*.c. */
#include "backend_check.h"
#include "cpu/vec_ops.h"

#include <stdlib.h>
#include <string.h>

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

static enum oct_status regrid(oct_backend *backend, const struct oct_regrid_args *a)
{
    OCT_TRY(oct_check_regrid(a));
    run(backend, oct_vec_items(a->count, OCT_VEC_CHUNK), oct_cpu_of(backend)->ops->regrid, a);
    return OCT_OK;
}

static enum oct_status compensate(oct_backend *backend, const struct oct_compensate_args *a)
{
    OCT_TRY(oct_check_compensate(a));
    run(backend, oct_vec_items(a->count, OCT_VEC_PLACES), oct_cpu_of(backend)->ops->compensate, a);
    return OCT_OK;
}

static enum oct_status compensate_bwd(oct_backend *backend, const struct oct_compensate_bwd_args *a)
{
    OCT_TRY(oct_check_compensate_bwd(a));
    run(backend, oct_vec_items(a->count, OCT_VEC_PLACES), oct_cpu_of(backend)->ops->compensate_bwd,
        a);
    return OCT_OK;
}

static enum oct_status barrier_bwd(oct_backend *backend, const struct oct_barrier_bwd_args *a)
{
    OCT_TRY(oct_check_barrier_bwd(a));
    run(backend, oct_vec_items(a->count, OCT_VEC_CHUNK), oct_cpu_of(backend)->ops->barrier_bwd, a);
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

static enum oct_status sgd_fixed(oct_backend *backend, const struct oct_sgd_fixed_args *a)
{
    const struct oct_vec_ops *ops = oct_cpu_of(backend)->ops;
    int64_t items = oct_vec_items(a->count, OCT_VEC_CHUNK);
    OCT_TRY(oct_check_sgd_fixed(a));
    if (a->step->flag)
        return OCT_OK;
    if (a->normalise) {
        *a->gradient_amax = 0.0f;
        run(backend, items, ops->fixed_amax, a);
    }
    if (a->amax)
        *a->amax = 0.0f;
    run(backend, items, ops->sgd_fixed, a);
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
    if (a->rule == OCT_CLIP_FIXED) {
        *clip = a->a;
        return 1;
    }
    if (amax < a->floor)
        amax = a->floor;
    if (!(amax > 0.0f) || oct_not_finite(amax))
        return 0;
    if (a->rule == OCT_CLIP_SHARE) {
        *clip = (a->share && a->share[0] > 0.0f ? a->share[0] : a->a) * amax;
        return 1;
    }
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

/* By bits: NaN wins and shows. */
static float largest_of(const float *amax, int count)
{
    float largest = amax[0];
    for (int j = 1; j < count; j++)
        largest = oct_bits_of_f32(amax[j]) > oct_bits_of_f32(largest) ? amax[j] : largest;
    return largest;
}

static void range_update_all(void *arg, int64_t item, int thread)
{
    (void)item, (void)thread;
    const struct oct_range_update_args *a = arg;
    const struct oct_range *range = &a->range;
    for (int i = 0; i < range->count; i++) {
        float amax = 0.0f;
        if (a->amax)
            amax = range->count == 1 ? largest_of(a->amax, a->amax_count) : a->amax[i];
        if (a->plus)
            amax = amax + a->plus[0];
        int usable = next_clip(a, i, amax, &range->clip[i]);
        struct oct_steps steps = oct_steps_of_clip(range->clip[i], range->code_max, range->pow2);
        range->scale[i] = steps.scale;
        range->inverse[i] = usable ? steps.inverse : 0.0f;
    }
}

static enum oct_status range_update(oct_backend *backend, const struct oct_range_update_args *a)
{
    OCT_TRY(oct_check_range_update(a));
    run(backend, 1, range_update_all, a);
    return OCT_OK;
}

/* The first of the smallest distances decides. */
static void search_choose(void *arg, int64_t item, int thread)
{
    const struct oct_cosine_search_args *a = arg;
    double best = 1.0;
    int chosen = -1;
    (void)item, (void)thread;
    for (int j = 0; j < a->candidates; j++) {
        double d =
            oct_cosine_distance(a->sums[0], a->sums[1 + j], a->sums[1 + OCT_SEARCH_CANDIDATES + j]);
        if (d < best) {
            best = d;
            chosen = j;
        }
    }
    if (chosen < 0)
        return;
    a->share[0] = a->factor[chosen];
    a->distance[0] = (float)best;
    if (a->lr_factor)
        a->lr_factor[0] = oct_deviation_factor(a->distance[0], a->alpha, a->beta);
}

static enum oct_status cosine_search(oct_backend *backend, const struct oct_cosine_search_args *a)
{
    OCT_TRY(oct_check_cosine_search(a));
    struct oct_search_job job = {.args = a, .amax = largest_of(a->amax, a->amax_count)};
    memset(a->sums, 0, OCT_SEARCH_SUMS * sizeof *a->sums);
    if (!(job.amax > 0.0f) || oct_not_finite(job.amax))
        return OCT_OK;
    run(backend, oct_vec_items(a->rows * a->channels, OCT_VEC_CHUNK),
        oct_cpu_of(backend)->ops->search, &job);
    run(backend, 1, search_choose, a);
    return OCT_OK;
}

void oct_cpu_ops_install(oct_backend *table)
{
    table->channel_workspace = channel_workspace;
    table->quantise = quantise;
    table->regrid = regrid;
    table->compensate = compensate;
    table->compensate_bwd = compensate_bwd;
    table->barrier_bwd = barrier_bwd;
    table->channel_stats = channel_stats;
    table->channel_sum = channel_sum;
    table->count_above = count_above;
    table->range_update = range_update;
    table->cosine_search = cosine_search;
    table->pool = pool;
    table->pool_bwd = pool_bwd;
    table->image = image;
    table->loss = loss;
    table->sgd = sgd;
    table->sgd_fixed = sgd_fixed;
    table->ema = ema;
}
