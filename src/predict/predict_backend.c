/* The table of a device that predicts: every op adds what it would cost to an estimate. */
#include "predict/predict.h"

#include "backend_check.h"
#include "predict/cost.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WORK_WORDS = 5 }; /* of a reduction in chunks: a channel and chunk has so many */

struct predict {
    oct_backend table; /* first: the backend pointer is the context */
    const struct oct_card *card;
    bool unit_known; /* set by the first product */
    enum oct_unit unit;
    struct oct_estimate estimate;
    char isa_name[24];
};

static struct predict *predict_of(oct_backend *backend)
{
    return (struct predict *)backend;
}

/* ---- memory: a reserved range of addresses whose first page holds its length ---- */

enum { HEAD = 4096 };

static enum oct_status predict_alloc(oct_backend *backend, size_t bytes, void **out)
{
    const size_t length = bytes + 2 * HEAD;
    char *base = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || mprotect(base, HEAD, PROT_READ | PROT_WRITE) != 0)
        return oct_fail(OCT_NOMEM, "no addresses for %zu bytes: use a smaller batch", bytes);
    memcpy(base, &length, sizeof length);
    backend->allocations++;
    *out = base + HEAD;
    return OCT_OK;
}

static void predict_free(oct_backend *backend, void *p)
{
    size_t length;
    if (!p)
        return;
    memcpy(&length, (char *)p - HEAD, sizeof length);
    munmap((char *)p - HEAD, length);
    backend->allocations++;
}

static enum oct_status predict_upload(
    oct_backend *backend, void *device, const void *host, size_t bytes)
{
    (void)backend, (void)device, (void)host, (void)bytes; /* the loader's copy is not modelled */
    return OCT_OK;
}

static enum oct_status predict_download(
    oct_backend *backend, void *host, const void *device, size_t bytes)
{
    (void)backend, (void)device;
    memset(host, 0, bytes);
    return OCT_OK;
}

static enum oct_status predict_clear(oct_backend *backend, void *device, size_t bytes)
{
    (void)backend, (void)device, (void)bytes; /* no step clears memory but by stats_clear */
    return OCT_OK;
}

static enum oct_status predict_sync(oct_backend *backend)
{
    (void)backend;
    return OCT_OK;
}

/* ---- ops ---- */

static enum oct_status add(oct_backend *backend, struct oct_work work)
{
    struct predict *p = predict_of(backend);
    oct_cost_add(&p->estimate, p->card, p->unit, &work, NULL, 0);
    return OCT_OK;
}

static enum oct_status predict_copy(oct_backend *backend, void *to, const void *from, size_t bytes)
{
    (void)to, (void)from;
    return add(backend, oct_work_copy(bytes));
}

#define PREDICT(op)                                                                                \
    static enum oct_status predict_##op(oct_backend *backend, const struct oct_##op##_args *a)     \
    {                                                                                              \
        return add(backend, oct_work_##op(a));                                                     \
    }
PREDICT(weight_pack)
PREDICT(quantise)
PREDICT(regrid)
PREDICT(barrier_bwd)
PREDICT(compensate)
PREDICT(compensate_bwd)
PREDICT(channel_stats)
PREDICT(channel_sum)
PREDICT(count_above)
PREDICT(range_update)
PREDICT(cosine_search)
PREDICT(bn_finalize)
PREDICT(affine_finalize)
PREDICT(act_fwd)
PREDICT(shift_finalize)
PREDICT(act_shift)
PREDICT(bn_bwd_reduce)
PREDICT(bn_bwd_finalize)
PREDICT(affine_bwd_finalize)
PREDICT(bn_bwd_apply)
PREDICT(pool)
PREDICT(pool_bwd)
PREDICT(image)
PREDICT(loss)
PREDICT(sgd)
PREDICT(sgd_fixed)
PREDICT(ema)

static enum oct_status predict_stats_clear(
    oct_backend *backend, const struct oct_acc_stats *stats, int channels)
{
    (void)stats;
    return add(backend, oct_work_stats_clear(channels));
}

/* The first product decides which of the card's units does all of them. */
static enum oct_status take_unit(oct_backend *backend, enum oct_dtype dtype)
{
    static const char *const names[OCT_UNITS] = {"int8", "fp16", "tf32", "fp32"};
    struct predict *p = predict_of(backend);
    const enum oct_unit unit = dtype == OCT_S8                             ? OCT_UNIT_INT8
                               : dtype == OCT_BF16                         ? OCT_UNIT_FP16
                               : p->unit_known && p->unit == OCT_UNIT_TF32 ? OCT_UNIT_TF32
                                                                           : OCT_UNIT_FP32;
    if (p->unit_known && unit != p->unit)
        return oct_fail(OCT_UNSUPPORTED,
            "device %s: products on %s and on %s in one step: the model knows steps of one unit "
            "only, leave out --first-last float and --int8-skip",
            p->table.name, names[p->unit], names[unit]);
    if (p->card->peak_tera[unit] <= 0)
        return oct_fail(OCT_UNSUPPORTED, "device %s: the card has no %s unit of its own",
            p->table.name, names[unit]);
    p->unit_known = true;
    p->unit = unit;
    snprintf(p->isa_name, sizeof p->isa_name, "sm_%d %s", p->card->arch, names[unit]);
    return OCT_OK;
}

static enum oct_status predict_conv_fprop_check(
    oct_backend *backend, const struct oct_conv_fprop_args *a, size_t *workspace)
{
    *workspace = 0;
    OCT_TRY(take_unit(backend, a->x.dtype));
    if (a->x.dtype != OCT_S8)
        return OCT_OK;
    OCT_TRY(oct_check_conv_fprop(a));
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    *workspace = oct_gpu_fold_bytes(&fold, a->x.planes);
    return OCT_OK;
}

static enum oct_status predict_conv_dgrad_check(
    oct_backend *backend, const struct oct_conv_dgrad_args *a, size_t *workspace)
{
    *workspace = 0;
    OCT_TRY(take_unit(backend, a->dy.dtype));
    return a->dy.dtype == OCT_S8 ? oct_check_conv_dgrad(a) : OCT_OK;
}

static enum oct_status predict_conv_wgrad_check(
    oct_backend *backend, const struct oct_conv_wgrad_args *a, size_t *workspace)
{
    const int multiprocessors = predict_of(backend)->card->multiprocessors;
    *workspace = 0;
    OCT_TRY(take_unit(backend, a->x.dtype));
    if (a->x.dtype != OCT_S8)
        return OCT_OK;
    OCT_TRY(oct_check_conv_wgrad(a));
    const struct oct_gpu_gradient_cut cut = oct_gpu_gradient_cut(&a->shape, multiprocessors, 0);
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    *workspace = oct_gpu_gradient_workspace(&a->shape, &cut, a->x.planes * a->dy.planes) +
                 oct_gpu_fold_bytes(&fold, a->x.planes);
    return OCT_OK;
}

/* An op of `count` launches, as the backend for GPUs would make them. */
static enum oct_status add_product(oct_backend *backend, const struct oct_work *work,
    const struct oct_work_launch *launches, int count)
{
    struct predict *p = predict_of(backend);
    if (count > OCT_WORK_LAUNCHES)
        return oct_fail(OCT_UNSUPPORTED, "device %s: %d launches for one product, the model has %d",
            p->table.name, count, OCT_WORK_LAUNCHES);
    oct_cost_add(&p->estimate, p->card, p->unit, work, launches, work->dtype == OCT_S8 ? count : 0);
    return OCT_OK;
}

static enum oct_status predict_conv_fprop(oct_backend *backend, const struct oct_conv_fprop_args *a)
{
    struct oct_work_launch launches[OCT_WORK_LAUNCHES];
    const struct oct_work work = oct_work_fprop(a);
    return add_product(backend, &work, launches,
        oct_work_fprop_launches(a, predict_of(backend)->card->multiprocessors, launches));
}

static enum oct_status predict_conv_dgrad(oct_backend *backend, const struct oct_conv_dgrad_args *a)
{
    struct oct_work_launch launches[OCT_WORK_LAUNCHES];
    const struct oct_work work = oct_work_dgrad(a);
    return add_product(backend, &work, launches,
        oct_work_dgrad_launches(a, predict_of(backend)->card->multiprocessors, launches));
}

static enum oct_status predict_conv_wgrad(oct_backend *backend, const struct oct_conv_wgrad_args *a)
{
    struct oct_work_launch launches[OCT_WORK_LAUNCHES];
    const int multiprocessors = predict_of(backend)->card->multiprocessors;
    const struct oct_work work = oct_work_wgrad(a, multiprocessors);
    return add_product(
        backend, &work, launches, oct_work_wgrad_launches(a, multiprocessors, launches));
}

static size_t predict_pack_bytes(
    oct_backend *backend, const struct oct_conv_shape *v, enum oct_dtype dtype, int dgrad)
{
    (void)backend;
    return dtype == OCT_S8 ? oct_gpu_pack_bytes(v, dgrad)
                           : (size_t)oct_conv_w_elements(v) * oct_dtype_bytes(dtype);
}

static size_t predict_workspace(oct_backend *backend, int64_t rows, int channels)
{
    (void)backend;
    return (size_t)((rows + OCT_REDUCE_PIXELS - 1) / OCT_REDUCE_PIXELS) * (size_t)channels * 4 *
           WORK_WORDS;
}

static void predict_estimate(oct_backend *backend, struct oct_estimate *out)
{
    struct predict *p = predict_of(backend);
    *out = p->estimate;
    p->estimate = (struct oct_estimate){0};
}

static void predict_close(oct_backend *backend)
{
    free(predict_of(backend));
}

static void install(oct_backend *t)
{
    t->estimate = predict_estimate;
    t->close = predict_close;
    t->alloc = predict_alloc;
    t->free = predict_free;
    t->upload = predict_upload;
    t->download = predict_download;
    t->copy = predict_copy;
    t->clear = predict_clear;
    t->sync = predict_sync;
    t->conv_fprop_check = predict_conv_fprop_check;
    t->conv_fprop = predict_conv_fprop;
    t->conv_dgrad_check = predict_conv_dgrad_check;
    t->conv_dgrad = predict_conv_dgrad;
    t->conv_wgrad_check = predict_conv_wgrad_check;
    t->conv_wgrad = predict_conv_wgrad;
    t->weight_pack_bytes = predict_pack_bytes;
    t->weight_pack = predict_weight_pack;
    t->stats_clear = predict_stats_clear;
    t->channel_workspace = predict_workspace;
    t->quantise = predict_quantise;
    t->regrid = predict_regrid;
    t->barrier_bwd = predict_barrier_bwd;
    t->compensate = predict_compensate;
    t->compensate_bwd = predict_compensate_bwd;
    t->channel_stats = predict_channel_stats;
    t->channel_sum = predict_channel_sum;
    t->count_above = predict_count_above;
    t->range_update = predict_range_update;
    t->cosine_search = predict_cosine_search;
    t->bn_finalize = predict_bn_finalize;
    t->affine_finalize = predict_affine_finalize;
    t->act_fwd = predict_act_fwd;
    t->shift_finalize = predict_shift_finalize;
    t->act_shift = predict_act_shift;
    t->bn_workspace = predict_workspace;
    t->bn_bwd_reduce = predict_bn_bwd_reduce;
    t->bn_bwd_finalize = predict_bn_bwd_finalize;
    t->affine_bwd_finalize = predict_affine_bwd_finalize;
    t->bn_bwd_apply = predict_bn_bwd_apply;
    t->pool = predict_pool;
    t->pool_bwd = predict_pool_bwd;
    t->image = predict_image;
    t->loss = predict_loss;
    t->sgd = predict_sgd;
    t->sgd_fixed = predict_sgd_fixed;
    t->ema = predict_ema;
}

enum oct_status oct_predict_open(const char *name, const char *unit, oct_backend **out)
{
    const struct oct_card *card = oct_card_find(name);
    const bool tf32 = unit && strcmp(unit, "tf32") == 0;

    if (!card)
        return oct_fail_unknown("card after model:", name, oct_card_name);
    if (unit && strcmp(unit, "auto") != 0 && !tf32)
        return oct_fail(OCT_ARG,
            "--isa %s: a device model:CARD has no instruction sets, leave the option out", unit);
    if (tf32 && card->peak_tera[OCT_UNIT_TF32] <= 0)
        return oct_fail(
            OCT_UNSUPPORTED, "device model:%s: the card has no tf32 unit of its own", card->name);
    struct predict *p = calloc(1, sizeof *p);
    if (!p)
        return oct_fail(OCT_NOMEM, "no memory for the device model:%s", card->name);
    p->card = card;
    p->unit_known = tf32;
    p->unit = tf32 ? OCT_UNIT_TF32 : OCT_UNIT_INT8;
    snprintf(p->isa_name, sizeof p->isa_name, "sm_%d", card->arch);
    p->table.name = card->text;
    p->table.isa = p->isa_name;
    p->table.ctx = p;
    install(&p->table);
    *out = &p->table;
    return OCT_OK;
}
