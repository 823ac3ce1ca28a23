#include "support/op_watch.h"

#include <string.h>

static struct op_watch *watch_of(oct_backend *backend)
{
    return (struct op_watch *)backend;
}

static enum oct_status tell(struct op_watch *w, struct oct_work work)
{
    w->after(w->user, &work);
    return OCT_OK;
}

#define WATCH_CALL(name, work_of)                                                                  \
    static enum oct_status watch_##name(oct_backend *backend, const struct oct_##name##_args *a)   \
    {                                                                                              \
        struct op_watch *w = watch_of(backend);                                                    \
        if (!w->skip)                                                                              \
            OCT_TRY(w->device->name(w->device, a));                                                \
        return tell(w, work_of);                                                                   \
    }
#define WATCH(name) WATCH_CALL(name, oct_work_##name(a))
WATCH_CALL(conv_fprop, oct_work_fprop(a))
WATCH_CALL(conv_dgrad, oct_work_dgrad(a))
WATCH_CALL(conv_wgrad, oct_work_wgrad(a, w->multiprocessors))
WATCH(weight_pack)
WATCH(quantise)
WATCH(regrid)
WATCH(barrier_bwd)
WATCH(compensate)
WATCH(compensate_bwd)
WATCH(channel_stats)
WATCH(channel_sum)
WATCH(count_above)
WATCH(range_update)
WATCH(cosine_search)
WATCH(bn_finalize)
WATCH(affine_finalize)
WATCH(act_fwd)
WATCH(shift_finalize)
WATCH(act_shift)
WATCH(bn_bwd_reduce)
WATCH(bn_bwd_finalize)
WATCH(affine_bwd_finalize)
WATCH(bn_bwd_apply)
WATCH(pool)
WATCH(pool_bwd)
WATCH(image)
WATCH(loss)
WATCH(sgd)
WATCH(sgd_fixed)
WATCH(ema)

#define WATCH_CHECK(name)                                                                          \
    static enum oct_status watch_##name##_check(                                                   \
        oct_backend *backend, const struct oct_##name##_args *a, size_t *workspace)                \
    {                                                                                              \
        oct_backend *device = watch_of(backend)->device;                                           \
        return device->name##_check(device, a, workspace);                                         \
    }
WATCH_CHECK(conv_fprop)
WATCH_CHECK(conv_dgrad)
WATCH_CHECK(conv_wgrad)

static enum oct_status watch_stats_clear(
    oct_backend *backend, const struct oct_acc_stats *stats, int channels)
{
    struct op_watch *w = watch_of(backend);
    if (!w->skip)
        OCT_TRY(w->device->stats_clear(w->device, stats, channels));
    return tell(w, oct_work_stats_clear(channels));
}

static size_t watch_pack_bytes(
    oct_backend *backend, const struct oct_conv_shape *v, enum oct_dtype dtype, int dgrad)
{
    oct_backend *device = watch_of(backend)->device;
    return device->weight_pack_bytes(device, v, dtype, dgrad);
}

static size_t watch_channel_workspace(oct_backend *backend, int64_t rows, int channels)
{
    oct_backend *device = watch_of(backend)->device;
    return device->channel_workspace(device, rows, channels);
}

static size_t watch_bn_workspace(oct_backend *backend, int64_t rows, int channels)
{
    oct_backend *device = watch_of(backend)->device;
    return device->bn_workspace(device, rows, channels);
}

static enum oct_status watch_alloc(oct_backend *backend, size_t bytes, void **out)
{
    oct_backend *device = watch_of(backend)->device;
    return device->alloc(device, bytes, out);
}

static void watch_free(oct_backend *backend, void *p)
{
    oct_backend *device = watch_of(backend)->device;
    device->free(device, p);
}

static enum oct_status watch_upload(oct_backend *backend, void *to, const void *from, size_t bytes)
{
    oct_backend *device = watch_of(backend)->device;
    return device->upload(device, to, from, bytes);
}

static enum oct_status watch_clear(oct_backend *backend, void *to, size_t bytes)
{
    oct_backend *device = watch_of(backend)->device;
    return device->clear(device, to, bytes);
}

void op_watch_open(struct op_watch *w)
{
    oct_backend *t = &w->table;
    memset(t, 0, sizeof *t);
    t->name = "watched";
    t->isa = w->device->isa;
    t->alloc = watch_alloc;
    t->free = watch_free;
    t->upload = watch_upload;
    t->clear = watch_clear;
    t->conv_fprop_check = watch_conv_fprop_check;
    t->conv_fprop = watch_conv_fprop;
    t->conv_dgrad_check = watch_conv_dgrad_check;
    t->conv_dgrad = watch_conv_dgrad;
    t->conv_wgrad_check = watch_conv_wgrad_check;
    t->conv_wgrad = watch_conv_wgrad;
    t->weight_pack_bytes = watch_pack_bytes;
    t->weight_pack = watch_weight_pack;
    t->stats_clear = watch_stats_clear;
    t->channel_workspace = watch_channel_workspace;
    t->quantise = watch_quantise;
    t->regrid = watch_regrid;
    t->barrier_bwd = watch_barrier_bwd;
    t->compensate = watch_compensate;
    t->compensate_bwd = watch_compensate_bwd;
    t->channel_stats = watch_channel_stats;
    t->channel_sum = watch_channel_sum;
    t->count_above = watch_count_above;
    t->range_update = watch_range_update;
    t->cosine_search = watch_cosine_search;
    t->bn_finalize = watch_bn_finalize;
    t->affine_finalize = watch_affine_finalize;
    t->act_fwd = watch_act_fwd;
    t->bn_workspace = watch_bn_workspace;
    t->shift_finalize = watch_shift_finalize;
    t->act_shift = watch_act_shift;
    t->bn_bwd_reduce = watch_bn_bwd_reduce;
    t->bn_bwd_finalize = watch_bn_bwd_finalize;
    t->affine_bwd_finalize = watch_affine_bwd_finalize;
    t->bn_bwd_apply = watch_bn_bwd_apply;
    t->pool = watch_pool;
    t->pool_bwd = watch_pool_bwd;
    t->image = watch_image;
    t->loss = watch_loss;
    t->sgd = watch_sgd;
    t->sgd_fixed = watch_sgd_fixed;
    t->ema = watch_ema;
}
