/* Normalise and activate on the CPU: the table's entries. Per-channel finishing is base/bn.h, one
 * item; passes over pixels are cut into items by the shape and run by the kernels of vec_norm.h.
 * All float arithmetic happens inside oct_pool_run (cpu.h). What items find is merged by maxima,
 * integer sums, or in index order. */
#include "base/bn.h"
#include "cpu/vec_norm.h"

#include <stdatomic.h>

enum {
    ITEM_ELEMENTS = 32768, /* of an elementwise pass: a few microseconds, a multiple of the unit */
    GROUP_CHANNELS = 64    /* channels that one item of a reduction's second stage merges */
};

/* Per-channel array readable up to channels + 63 (vec_norm.h), in `buffer` where that needs a copy.
 */
struct wide {
    float at[OCT_NORM_MAX_CHANNELS + OCT_NORM_UNIT];
};

static const float *widen(const float *values, int channels, struct wide *buffer)
{
    if (!values || channels % OCT_NORM_UNIT == 0)
        return values;
    for (int j = 0, c = 0; j < channels + OCT_NORM_UNIT; j++) {
        buffer->at[j] = values[c];
        c = c + 1 < channels ? c + 1 : 0;
    }
    return buffer->at;
}

static const float *widen_range(const struct oct_range *range, int channels, struct wide *buffer)
{
    if (range->count == channels)
        return widen(range->inverse, channels, buffer);
    for (int j = 0; j < channels + OCT_NORM_UNIT; j++)
        buffer->at[j] = range->inverse[0];
    return buffer->at;
}

/* Results of all items of a pass. */
struct found {
    atomic_uint amax; /* bits: floats >= 0 order like their bits */
    atomic_uint not_finite;
    atomic_int_fast64_t saturated[2];
    atomic_int_fast64_t above_all, clipped;
};

static void merge(struct found *all, const struct oct_norm_found *item)
{
    uint32_t bits = oct_bits_of_f32(item->amax), seen = atomic_load(&all->amax);
    while (bits > seen && !atomic_compare_exchange_weak(&all->amax, &seen, bits))
        continue;
    if (item->not_finite)
        atomic_store(&all->not_finite, 1);
    for (int k = 0; k < 2; k++)
        if (item->saturated[k])
            atomic_fetch_add(&all->saturated[k], item->saturated[k]);
    if (item->above_all)
        atomic_fetch_add(&all->above_all, item->above_all);
    if (item->clipped)
        atomic_fetch_add(&all->clipped, item->clipped);
}

static int64_t items_of(int64_t elements)
{
    return (elements + ITEM_ELEMENTS - 1) / ITEM_ELEMENTS;
}

/* bn_finalize */

static struct oct_bn_moments moments_of(const struct oct_bn_finalize_args *g, int c)
{
    if (!g->training)
        return (struct oct_bn_moments){(double)g->running_mean[c], (double)g->running_var[c]};
    if (!g->acc)
        return oct_bn_moments_of_sums(g->sum[c], g->sumsq[c], g->count);
    float m = g->x_scale[0] * g->w_scale[g->w_scale_per_k ? c : 0];
    return oct_bn_moments_of_acc(g->acc->sum[c], g->acc->sumsq[c], g->acc->shift, g->count, m);
}

/* New running statistics, unless this step is flagged. */
static void update_running(const struct oct_bn_finalize_args *g)
{
    int finite = 1;
    for (int c = 0; c < g->channels; c++) {
        struct oct_bn_moments moments = moments_of(g, c);
        finite &= !oct_not_finite((float)moments.mean);
        finite &= !oct_not_finite(oct_bn_unbiased(moments.var, g->count));
    }
    *g->flag |= !finite;
    if (*g->flag)
        return;
    for (int c = 0; c < g->channels; c++) {
        struct oct_bn_moments moments = moments_of(g, c);
        float mean = (float)moments.mean, var = oct_bn_unbiased(moments.var, g->count);
        g->running_mean[c] = oct_bn_running(g->running_mean[c], mean, g->momentum);
        g->running_var[c] = oct_bn_running(g->running_var[c], var, g->momentum);
    }
}

/* z = fl(fl(a x) + b) with x = y, or x = xhat on its grid. */
struct slope {
    float a, b;
};

static void find_extremes(const struct oct_bn_finalize_args *g, int c, struct slope affine)
{
    float low, high;
    if (g->acc) {
        float m = g->x_scale[0] * g->w_scale[g->w_scale_per_k ? c : 0];
        low = oct_bn_y_of_acc(g->acc->min[c], m, g->y_dtype == OCT_BF16);
        high = oct_bn_y_of_acc(g->acc->max[c], m, g->y_dtype == OCT_BF16);
    } else {
        low = g->y_min[c];
        high = g->y_max[c];
    }
    if (g->xhat_max)
        g->xhat_max[c] = oct_bn_affine_max(g->ix[c], g->jx[c], low, high, 0);
    if (g->rounding.xhat > 0.0f) { /* rounding is monotonic: the extremes stay at the ends */
        low = oct_bn_xhat_rounded(low, g->ix[c], g->jx[c], g->rounding.xhat);
        high = oct_bn_xhat_rounded(high, g->ix[c], g->jx[c], g->rounding.xhat);
    }
    if (g->z_amax && !g->clip_lo)
        g->z_amax[c] = oct_bn_affine_max(affine.a, affine.b, low, high, g->relu);
}

/* What a clipped channel is known for before its y is there. */
static void find_clip(const struct oct_bn_finalize_args *g, int c)
{
    struct oct_bn_clip clip = oct_bn_clip_of(g->gamma[c], g->beta[c], g->sigmas, g->relu);
    g->clip_lo[c] = clip.lo;
    g->clip_hi[c] = clip.hi;
    if (g->z_amax)
        g->z_amax[c] = oct_bn_clip_max(clip);
}

static struct slope find_affine(const struct oct_bn_finalize_args *g, int c)
{
    struct oct_bn_affine affine;
    struct slope last;
    if (g->rounding.xhat > 0.0f) {
        last.a = g->gamma_q[c] = oct_on_grid(g->gamma[c], g->rounding.affine);
        last.b = g->beta_q[c] = oct_on_grid(g->beta[c], g->rounding.affine);
        affine = oct_bn_affine_rounded(moments_of(g, c), last.a, last.b, g->rounding);
    } else {
        affine = oct_bn_affine_of(moments_of(g, c), g->gamma[c], g->beta[c], g->eps);
        last.a = affine.a;
        last.b = affine.b;
    }
    g->a[c] = affine.a;
    g->b[c] = affine.b;
    g->ix[c] = affine.ix;
    g->jx[c] = affine.jx;
    return last;
}

static void finalize_work(void *args, int64_t item, int thread)
{
    const struct oct_bn_finalize_args *g = args;
    (void)item, (void)thread;
    for (int c = 0; c < g->channels; c++) {
        struct slope last = find_affine(g, c);
        if (g->clip_lo)
            find_clip(g, c);
        if (g->xhat_max || (g->z_amax && !g->clip_lo))
            find_extremes(g, c, last);
    }
    if (g->training)
        update_running(g);
}

static enum oct_status bn_finalize(oct_backend *backend, const struct oct_bn_finalize_args *g)
{
    struct oct_bn_finalize_args args = *g;
    OCT_TRY(oct_check_bn_finalize(g));
    oct_pool_run(oct_cpu_of(backend)->pool, 1, finalize_work, &args);
    return OCT_OK;
}

/* affine_finalize, affine_bwd_finalize */

static void affine_work(void *args, int64_t item, int thread)
{
    const struct oct_affine_finalize_args *g = args;
    const int rounded = g->y_dtype == OCT_BF16;
    (void)item, (void)thread;
    for (int c = 0; c < g->channels; c++) {
        g->a[c] = g->scale ? g->scale[0] : 1.0f;
        g->b[c] = g->bias ? g->bias[g->bias_count == 1 ? 0 : c] : 0.0f;
        g->ix[c] = 1.0f;
        g->jx[c] = 0.0f;
        if (!g->z_amax)
            continue;
        float m = g->x_scale[0] * g->w_scale[g->w_scale_per_k ? c : 0];
        g->z_amax[c] =
            oct_bn_affine_max(g->a[c], g->b[c], oct_bn_y_of_acc(g->acc->min[c], m, rounded),
                oct_bn_y_of_acc(g->acc->max[c], m, rounded), g->relu);
    }
}

static enum oct_status affine_finalize(
    oct_backend *backend, const struct oct_affine_finalize_args *g)
{
    struct oct_affine_finalize_args args = *g;
    OCT_TRY(oct_check_affine_finalize(g));
    oct_pool_run(oct_cpu_of(backend)->pool, 1, affine_work, &args);
    return OCT_OK;
}

static void write_gradient(float *to, double sum, enum oct_write mode)
{
    float value = (float)sum;
    *to = mode == OCT_ACCUMULATE ? *to + value : value;
}

static void affine_bwd_work(void *args, int64_t item, int thread)
{
    const struct oct_affine_bwd_finalize_args *g = args;
    double square = 0.0, sum_dz = 0.0, sum_dz_y = 0.0;
    (void)item, (void)thread;

    for (int c = 0; c < g->channels; c++) {
        double v = oct_affine_dy_square(g->sum_dz2[c], g->count, g->a[c]);
        g->m1[c] = g->m2[c] = 0.0f;
        square += v;
        sum_dz += g->sum_dz[c];
        sum_dz_y += g->sum_dz_y[c];
        if (g->dbias && g->bias_count > 1)
            write_gradient(&g->dbias[c], g->sum_dz[c], g->mode);
        if (g->bound)
            g->bound[c] = oct_bn_dy_bound(g->a[c], 0.0f, 0.0f, g->dz_min[c], g->dz_max[c], 0.0f);
        if (g->sigma)
            g->sigma[c] = (float)sqrt(v);
    }
    if (g->dbias && g->bias_count == 1)
        write_gradient(g->dbias, sum_dz, g->mode);
    if (g->dscale)
        write_gradient(g->dscale, sum_dz_y, g->mode);
    if (g->sigma_all)
        g->sigma_all[0] = (float)sqrt(square / (double)g->channels);
}

static enum oct_status affine_bwd_finalize(
    oct_backend *backend, const struct oct_affine_bwd_finalize_args *g)
{
    struct oct_affine_bwd_finalize_args args = *g;
    OCT_TRY(oct_check_affine_bwd_finalize(g));
    oct_pool_run(oct_cpu_of(backend)->pool, 1, affine_bwd_work, &args);
    return OCT_OK;
}

/* act_fwd */

struct act_job {
    struct oct_act_fwd_args args;
    const struct oct_vec_norm *norm;
    int64_t elements;
    struct found found;
};

static void act_work(void *job_, int64_t item, int thread)
{
    struct act_job *job = job_;
    struct oct_norm_found found = {0};
    int64_t first = item * ITEM_ELEMENTS, left = job->elements - first;
    (void)thread;
    job->norm->act_fwd(&job->args, first, left < ITEM_ELEMENTS ? left : ITEM_ELEMENTS, &found);
    merge(&job->found, &found);
}

static enum oct_status act_fwd(oct_backend *backend, const struct oct_act_fwd_args *g)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    struct act_job job = {.args = *g, .norm = cpu->norm, .elements = g->rows * g->channels};
    struct wide a, b, lo, hi, ix, jx;

    OCT_TRY(oct_check_act_fwd(g));
    if (g->a) {
        job.args.a = widen(g->a, g->channels, &a);
        job.args.b = widen(g->b, g->channels, &b);
        job.args.ix = widen(g->ix, g->channels, &ix);
        job.args.jx = widen(g->jx, g->channels, &jx);
        job.args.clip_lo = widen(g->clip_lo, g->channels, &lo);
        job.args.clip_hi = widen(g->clip_hi, g->channels, &hi);
    } else {
        job.args.channels = OCT_NORM_UNIT; /* nothing depends on the channel */
    }
    oct_pool_run(cpu->pool, items_of(job.elements), act_work, &job);

    *g->flag |= atomic_load(&job.found.not_finite);
    if (g->amax)
        g->amax[0] = oct_f32_of_bits(atomic_load(&job.found.amax));
    if (g->saturated)
        g->saturated[0] += atomic_load(&job.found.saturated[0]);
    if (g->clipped)
        g->clipped[0] += atomic_load(&job.found.clipped);
    if (g->y_above)
        g->y_above[0] += atomic_load(&job.found.above_all);
    return OCT_OK;
}

/* bn_bwd_reduce */

static int64_t chunks_of(int64_t rows)
{
    return (rows + OCT_REDUCE_PIXELS - 1) / OCT_REDUCE_PIXELS;
}

static int64_t wide_length(int channels)
{
    return oct_norm_stride(channels) + OCT_NORM_UNIT;
}

static size_t bn_workspace(oct_backend *backend, int64_t rows, int channels)
{
    int64_t threads = oct_pool_threads(oct_cpu_of(backend)->pool);
    int64_t reduce = chunks_of(rows) * OCT_NORM_SUMS * oct_norm_stride(channels);
    int64_t apply = threads * 2 * wide_length(channels);
    return sizeof(float) * (size_t)(reduce > apply ? reduce : apply);
}

struct reduce_job {
    const struct oct_bn_bwd_reduce_args *args;
    const struct oct_vec_norm *norm;
};

static void reduce_work(void *job_, int64_t item, int thread)
{
    const struct reduce_job *job = job_;
    const struct oct_bn_bwd_reduce_args *g = job->args;
    int64_t first = item * OCT_REDUCE_PIXELS, left = g->rows - first;
    (void)thread;
    job->norm->bwd_reduce(g, first, (int)(left < OCT_REDUCE_PIXELS ? left : OCT_REDUCE_PIXELS),
        (float *)g->workspace + item * OCT_NORM_SUMS * oct_norm_stride(g->channels));
}

/* Adds the chunks of GROUP_CHANNELS channels in index order. */
static void merge_chunks_work(void *job_, int64_t item, int thread)
{
    const struct oct_bn_bwd_reduce_args *g = ((const struct reduce_job *)job_)->args;
    const int64_t stride = oct_norm_stride(g->channels), first = item * GROUP_CHANNELS;
    const int64_t left = g->channels - first;
    const int n = (int)(left < GROUP_CHANNELS ? left : GROUP_CHANNELS);
    double sum[3][GROUP_CHANNELS] = {{0}};
    float low[GROUP_CHANNELS], high[GROUP_CHANNELS];
    (void)thread;

    for (int c = 0; c < n; c++) {
        low[c] = INFINITY;
        high[c] = -INFINITY;
    }
    for (int64_t chunk = 0; chunk < chunks_of(g->rows); chunk++) {
        const float *part = (const float *)g->workspace + chunk * OCT_NORM_SUMS * stride + first;
        for (int s = 0; s < 3; s++)
            for (int c = 0; c < n; c++)
                sum[s][c] += (double)part[s * stride + c];
        for (int c = 0; c < n; c++) {
            float l = part[3 * stride + c], h = part[4 * stride + c];
            low[c] = l < low[c] ? l : low[c];
            high[c] = h > high[c] ? h : high[c];
        }
    }
    for (int c = 0; c < n; c++) {
        g->sum_dz[first + c] = sum[0][c];
        g->sum_dz_xhat[first + c] = sum[1][c];
        g->sum_dz2[first + c] = sum[2][c];
        g->dz_min[first + c] = low[c] + 0.0f; /* of -0 and +0 the first met would win: make it +0 */
        g->dz_max[first + c] = high[c] + 0.0f;
    }
}

static enum oct_status bn_bwd_reduce(oct_backend *backend, const struct oct_bn_bwd_reduce_args *g)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    struct reduce_job job = {g, cpu->norm};
    int64_t groups = (g->channels + GROUP_CHANNELS - 1) / GROUP_CHANNELS;

    OCT_TRY(oct_check_bn_bwd_reduce(g));
    oct_pool_run(cpu->pool, chunks_of(g->rows), reduce_work, &job);
    oct_pool_run(cpu->pool, groups, merge_chunks_work, &job);
    return OCT_OK;
}

/* bn_bwd_finalize */

static void bwd_finalize_work(void *args, int64_t item, int thread)
{
    const struct oct_bn_bwd_finalize_args *g = args;
    double n = (double)g->count, variance = 0.0;
    (void)item, (void)thread;

    for (int c = 0; c < g->channels; c++) {
        g->m1[c] = (float)(g->sum_dz[c] / n);
        g->m2[c] = (float)(g->sum_dz_xhat[c] / n);
        write_gradient(&g->dgamma[c], g->sum_dz_xhat[c], g->mode);
        write_gradient(&g->dbeta[c], g->sum_dz[c], g->mode);
        if (g->bound)
            g->bound[c] = oct_bn_dy_bound(
                g->a[c], g->m1[c], g->m2[c], g->dz_min[c], g->dz_max[c], g->xhat_max[c]);
        if (g->sigma || g->sigma_all) {
            double v = oct_bn_dy_variance(g->sum_dz[c], g->sum_dz_xhat[c], g->sum_dz2[c], g->count,
                g->a[c], g->ix[c], g->eps);
            variance += v;
            if (g->sigma)
                g->sigma[c] = (float)sqrt(v);
        }
    }
    if (g->sigma_all)
        g->sigma_all[0] = (float)sqrt(variance / (double)g->channels);
}

static enum oct_status bn_bwd_finalize(
    oct_backend *backend, const struct oct_bn_bwd_finalize_args *g)
{
    struct oct_bn_bwd_finalize_args args = *g;
    OCT_TRY(oct_check_bn_bwd_finalize(g));
    oct_pool_run(oct_cpu_of(backend)->pool, 1, bwd_finalize_work, &args);
    return OCT_OK;
}

/* bn_bwd_apply */

struct apply_job {
    struct oct_bn_bwd_apply_args args;
    const struct oct_vec_norm *norm;
    int64_t elements;
    struct found found;
};

static float *channel_amax(const struct oct_bn_bwd_apply_args *g, int thread)
{
    return (float *)g->workspace + (int64_t)thread * 2 * wide_length(g->channels);
}

static uint32_t *channel_above(const struct oct_bn_bwd_apply_args *g, int thread)
{
    return (uint32_t *)(channel_amax(g, thread) + wide_length(g->channels));
}

static void apply_work(void *job_, int64_t item, int thread)
{
    struct apply_job *job = job_;
    const struct oct_bn_bwd_apply_args *g = &job->args;
    int64_t first = item * ITEM_ELEMENTS, left = job->elements - first;
    struct oct_norm_found found = {.channel_amax = g->amax ? channel_amax(g, thread) : NULL,
        .channel_above = g->above ? channel_above(g, thread) : NULL};
    job->norm->bwd_apply(g, first, left < ITEM_ELEMENTS ? left : ITEM_ELEMENTS, &found);
    merge(&job->found, &found);
}

static void merge_channels(const struct oct_bn_bwd_apply_args *g, int threads)
{
    for (int c = 0; c < g->channels; c++) {
        if (g->amax)
            g->amax[c] = 0.0f;
        if (g->above)
            g->above[c] = 0;
    }
    for (int thread = 0; thread < threads; thread++)
        for (int j = 0, c = 0; j < g->channels + OCT_NORM_UNIT; j++) {
            float amax = channel_amax(g, thread)[j];
            if (g->amax)
                g->amax[c] = amax > g->amax[c] ? amax : g->amax[c];
            if (g->above)
                g->above[c] += channel_above(g, thread)[j];
            c = c + 1 < g->channels ? c + 1 : 0;
        }
}

static enum oct_status bn_bwd_apply(oct_backend *backend, const struct oct_bn_bwd_apply_args *g)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    struct apply_job job = {.args = *g, .norm = cpu->norm, .elements = g->rows * g->channels};
    const int threads = oct_pool_threads(cpu->pool), c = g->channels;
    struct wide wide[8];

    OCT_TRY(oct_check_bn_bwd_apply(g));
    job.args.a = widen(g->a, c, &wide[0]);
    job.args.b = widen(g->b, c, &wide[1]);
    job.args.ix = widen(g->ix, c, &wide[2]);
    job.args.jx = widen(g->jx, c, &wide[3]);
    job.args.m1 = widen(g->m1, c, &wide[4]);
    job.args.m2 = widen(g->m2, c, &wide[5]);
    job.args.sigma = widen(g->sigma, c, &wide[6]);
    if (g->q_channel)
        job.args.range_channel.inverse = (float *)widen_range(&g->range_channel, c, &wide[7]);
    if (g->amax || g->above)
        memset(g->workspace, 0, sizeof(float) * 2 * (size_t)(threads * wide_length(c)));
    oct_pool_run(cpu->pool, items_of(job.elements), apply_work, &job);

    *g->flag |= atomic_load(&job.found.not_finite);
    if (g->amax || g->above)
        merge_channels(g, threads);
    if (g->above_all)
        g->above_all[0] = atomic_load(&job.found.above_all);
    for (int k = 0; k < 2 && g->saturated; k++)
        g->saturated[k] += atomic_load(&job.found.saturated[k]);
    return OCT_OK;
}

void oct_cpu_norm_install(oct_backend *backend)
{
    backend->bn_finalize = bn_finalize;
    backend->affine_finalize = affine_finalize;
    backend->act_fwd = act_fwd;
    backend->bn_workspace = bn_workspace;
    backend->bn_bwd_reduce = bn_bwd_reduce;
    backend->bn_bwd_finalize = bn_bwd_finalize;
    backend->affine_bwd_finalize = affine_bwd_finalize;
    backend->bn_bwd_apply = bn_bwd_apply;
}
