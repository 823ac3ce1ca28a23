#include "support/mirror_span.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mirror *mirror_begin(oct_backend *table)
{
    struct mirror *m = mirror_of(table);
    m->count = 0;
    return m;
}

void mirror_bind(struct mirror *m, void *field, int64_t bytes, bool in, bool out)
{
    struct span span = {.field = field, .in = in, .out = out};
    memcpy(&span.host, field, sizeof span.host);
    if (!span.host || bytes <= 0)
        return;
    if (m->count == MOST_SPANS)
        abort();
    span.bytes = (size_t)bytes;
    for (int i = 0; i < m->count && !span.shared; i++) {
        struct span *earlier = &m->spans[i];
        if (earlier->host != span.host || earlier->shared)
            continue;
        earlier->bytes = earlier->bytes > span.bytes ? earlier->bytes : span.bytes;
        earlier->in |= in;
        earlier->out |= out;
        span.shared = true;
    }
    m->spans[m->count++] = span;
}

enum oct_status mirror_carry(struct mirror *m)
{
    oct_backend *d = m->device;
    for (int i = 0; i < m->count; i++) {
        struct span *span = &m->spans[i];
        for (int j = 0; span->shared && j < i; j++)
            if (m->spans[j].host == span->host)
                span->device = m->spans[j].device;
        if (!span->shared)
            OCT_TRY(d->alloc(d, span->bytes, &span->device));
        if (!span->shared && span->in)
            OCT_TRY(d->upload(d, span->device, span->host, span->bytes));
        memcpy(span->field, &span->device, sizeof span->device);
    }
    return OCT_OK;
}

enum oct_status mirror_finish(struct mirror *m, enum oct_status status)
{
    oct_backend *d = m->device;
    for (int i = 0; i < m->count; i++) {
        struct span *span = &m->spans[i];
        if (span->shared || !span->device)
            continue;
        if (status == OCT_OK && span->out)
            status = d->download(d, span->host, span->device, span->bytes);
        d->free(d, span->device);
    }
    if (status == OCT_OK)
        status = d->sync(d);
    return status;
}

void mirror_bind_stats(struct mirror *m, struct oct_acc_stats *stats, int channels)
{
    OUT(stats->sum, 8 * channels);
    OUT(stats->sumsq, 8 * channels);
    OUT(stats->min, 8 * channels);
    OUT(stats->max, 8 * channels);
}

void mirror_bind_range(struct mirror *m, struct oct_range *range, bool out)
{
    mirror_bind(m, &range->clip, 4 * range->count, true, out);
    mirror_bind(m, &range->scale, 4 * range->count, true, out);
    mirror_bind(m, &range->inverse, 4 * range->count, true, out);
}

/* ---- quantise ---- */

static size_t mirror_channel_workspace(oct_backend *table, int64_t rows, int channels)
{
    oct_backend *d = mirror_of(table)->device;
    return d->channel_workspace(d, rows, channels);
}

static enum oct_status mirror_quantise(oct_backend *table, const struct oct_quantise_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_quantise_args a = *args;
    int64_t n = a.rows * a.channels;

    IN(a.x, n * size_of(a.dtype));
    mirror_bind_range(m, &a.range, false);
    IN(a.step, sizeof *a.step);
    OUT(a.q, n);
    OUT(a.q_lo, n);
    OUT(a.saturated, 8);
    OUT(a.flag, 4);
    RUN(quantise);
}

static enum oct_status mirror_regrid(oct_backend *table, const struct oct_regrid_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_regrid_args a = *args;

    OUT(a.x, a.count * size_of(a.dtype));
    IN(a.range.scale, 4);
    IN(a.range.inverse, 4);
    OUT(a.saturated, 8);
    OUT(a.flag, 4);
    RUN(regrid);
}

static enum oct_status mirror_barrier_bwd(
    oct_backend *table, const struct oct_barrier_bwd_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_barrier_bwd_args a = *args;

    IN(a.x, a.count * size_of(a.x_dtype));
    IN(a.x_scale, 4);
    OUT(a.da, a.count * size_of(a.da_dtype));
    IN(a.step, sizeof *a.step);
    OUT(a.barrier.sums, 16);
    RUN(barrier_bwd);
}

static enum oct_status mirror_compensate(oct_backend *table, const struct oct_compensate_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_compensate_args a = *args;

    IN(a.x, 4 * a.samples * a.count);
    OUT(a.y, a.samples * a.count * size_of(a.y_dtype));
    IN(a.alpha, 4 * a.count);
    IN(a.mu, 4 * a.count);
    IN(a.offset, 4 * a.count);
    RUN(compensate);
}

static enum oct_status mirror_compensate_bwd(
    oct_backend *table, const struct oct_compensate_bwd_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_compensate_bwd_args a = *args;

    IN(a.dy, a.samples * a.count);
    IN(a.dy_lo, a.samples * a.count);
    IN(a.scale, 4);
    IN(a.alpha, 4 * a.count);
    IN(a.mu, 4 * a.count);
    OUT(a.dalpha, 4 * a.count);
    OUT(a.dmu, 4 * a.count);
    OUT(a.doffset, 4 * a.count);
    RUN(compensate_bwd);
}

static enum oct_status mirror_channel_stats(
    oct_backend *table, const struct oct_channel_stats_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_channel_stats_args a = *args;

    IN(a.x, a.rows * a.channels * size_of(a.dtype));
    OUT(a.amax, 4 * a.channels);
    OUT(a.min, 4 * a.channels);
    OUT(a.max, 4 * a.channels);
    OUT(a.sum, 8 * a.channels);
    OUT(a.sumsq, 8 * a.channels);
    SCRATCH(a.workspace, m->device->channel_workspace(m->device, a.rows, a.channels));
    OUT(a.flag, 4);
    RUN(channel_stats);
}

static enum oct_status mirror_channel_sum(
    oct_backend *table, const struct oct_channel_sum_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_channel_sum_args a = *args;

    IN(a.x, a.rows * a.channels * 4);
    OUT(a.sum, 4 * a.channels);
    SCRATCH(a.workspace, m->device->channel_workspace(m->device, a.rows, a.channels));
    RUN(channel_sum);
}

static enum oct_status mirror_count_above(
    oct_backend *table, const struct oct_count_above_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_count_above_args a = *args;

    IN(a.x, a.rows * a.channels * size_of(a.dtype));
    IN(a.threshold, 4 * a.channels);
    IN(a.threshold_all, 4);
    OUT(a.count, 8 * a.channels);
    OUT(a.total, 8);
    SCRATCH(a.workspace, m->device->channel_workspace(m->device, a.rows, a.channels));
    RUN(count_above);
}

static enum oct_status mirror_range_update(
    oct_backend *table, const struct oct_range_update_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_range_update_args a = *args;
    int count = a.range.count;

    mirror_bind_range(m, &a.range, true);
    IN(a.amax, 4 * (count == 1 ? a.amax_count : count));
    IN(a.plus, 4);
    IN(a.share, 4);
    IN(a.above, 8 * count);
    OUT(a.label, count);
    OUT(a.visited, count);
    RUN(range_update);
}

static enum oct_status mirror_cosine_search(
    oct_backend *table, const struct oct_cosine_search_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_cosine_search_args a = *args;

    IN(a.x, a.rows * a.channels * size_of(a.dtype));
    IN(a.amax, 4 * a.amax_count);
    OUT(a.share, 4);
    OUT(a.distance, 4);
    OUT(a.lr_factor, 4);
    OUT(a.sums, 8 * OCT_SEARCH_SUMS);
    RUN(cosine_search);
}

/* ---- pool, input, loss, update ---- */

static enum oct_status mirror_pool(oct_backend *table, const struct oct_pool_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_pool_args a = *args;

    IN(a.x, oct_conv_x_elements(&a.shape) * size_of(a.x_dtype));
    IN(a.x_scale, 4);
    OUT(a.y, oct_conv_y_elements(&a.shape) * size_of(a.y_dtype));
    OUT(a.winner, oct_conv_y_elements(&a.shape));
    RUN(pool);
}

static enum oct_status mirror_pool_bwd(oct_backend *table, const struct oct_pool_bwd_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_pool_bwd_args a = *args;

    IN(a.dy, oct_conv_y_elements(&a.shape) * size_of(a.dy_dtype));
    IN(a.winner, oct_conv_y_elements(&a.shape));
    OUT(a.dx, oct_conv_x_elements(&a.shape) * size_of(a.dx_dtype));
    RUN(pool_bwd);
}

static enum oct_status mirror_image(oct_backend *table, const struct oct_image_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_image_args a = *args;

    IN(a.image, a.rows * a.channels);
    OUT(a.x, a.rows * a.channels_out * size_of(a.x_dtype));
    RUN(image);
}

static enum oct_status mirror_loss(oct_backend *table, const struct oct_loss_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_loss_args a = *args;
    int64_t n = a.n;

    IN(a.logits, 4 * n * a.k);
    IN(a.labels, 4 * n);
    OUT(a.loss, 4 * n);
    OUT(a.top1, n);
    OUT(a.top5, n);
    OUT(a.dlogits, 4 * n * a.k);
    OUT(a.flag, 4);
    RUN(loss);
}

static enum oct_status mirror_sgd(oct_backend *table, const struct oct_sgd_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_sgd_args a = *args;

    OUT(a.w, 4 * a.count);
    OUT(a.momentum, 4 * a.count);
    IN(a.dw, 4 * a.count);
    IN(a.step, sizeof *a.step);
    IN(a.lr_factor, 4);
    OUT(a.barrier.sums, 16);
    OUT(a.amax, 4);
    RUN(sgd);
}

static enum oct_status mirror_sgd_fixed(oct_backend *table, const struct oct_sgd_fixed_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_sgd_fixed_args a = *args;

    OUT(a.w, 4 * a.count);
    OUT(a.momentum, 4 * a.count);
    IN(a.dw, 4 * a.count);
    IN(a.step, sizeof *a.step);
    IN(a.lr_factor, 4);
    IN(a.unit, 4);
    OUT(a.gradient_amax, 4);
    OUT(a.counts, 8 * OCT_FIXED_COUNTS);
    OUT(a.amax, 4);
    RUN(sgd_fixed);
}

static enum oct_status mirror_ema(oct_backend *table, const struct oct_ema_args *args)
{
    struct mirror *m = mirror_begin(table);
    struct oct_ema_args a = *args;

    OUT(a.average, 4 * a.count);
    IN(a.value, 4 * a.count);
    IN(a.flag, 4);
    RUN(ema);
}

/* ---- opening ---- */

static const oct_backend ops = {.name = "mirror",
    .channel_workspace = mirror_channel_workspace,
    .quantise = mirror_quantise,
    .regrid = mirror_regrid,
    .barrier_bwd = mirror_barrier_bwd,
    .compensate = mirror_compensate,
    .compensate_bwd = mirror_compensate_bwd,
    .channel_stats = mirror_channel_stats,
    .channel_sum = mirror_channel_sum,
    .count_above = mirror_count_above,
    .range_update = mirror_range_update,
    .cosine_search = mirror_cosine_search,
    .pool = mirror_pool,
    .pool_bwd = mirror_pool_bwd,
    .image = mirror_image,
    .loss = mirror_loss,
    .sgd = mirror_sgd,
    .sgd_fixed = mirror_sgd_fixed,
    .ema = mirror_ema};

const char *mirror_device(void)
{
    const char *device = getenv("OCT_TEST_DEVICE");
    return device && *device && strcmp(device, "cpu") != 0 ? device : NULL;
}

void mirror_find_plugins(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return;
    path[length] = 0;
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = 0;
    }
    setenv("OCT_PLUGIN_PATH", path, 0);
}

void mirror_wrap(oct_backend *table, oct_backend *device)
{
    struct mirror *m = calloc(1, sizeof *m);
    if (!m)
        abort();
    m->device = device;
    *table = ops;
    mirror_install_products(table);
    mirror_install_norms(table);
    table->isa = device->isa;
    table->ctx = m;
}

void mirror_open(oct_backend *table)
{
    bool self = strcmp(mirror_device(), "mirror") == 0;
    struct oct_backend_options options = {.device = self ? "cpu" : mirror_device()};
    oct_backend *device;

    mirror_find_plugins();
    if (oct_backend_open(&options, &device) != OCT_OK) {
        fprintf(stderr, "OCT_TEST_DEVICE: %s\n", oct_last_error());
        abort();
    }
    mirror_wrap(table, device);
}

void mirror_close(oct_backend *table)
{
    struct mirror *m = mirror_of(table);
    oct_backend_close(m->device);
    free(m);
}
