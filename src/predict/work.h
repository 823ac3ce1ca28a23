/* What an op of backend.h has to do, as numbers: the bytes it must move (each tensor once), its
 * products as a GPU's blocks make them, its elements. A step's sum of these is the plan's byte
 * list. Nothing here knows a card. */
#ifndef OCT_PREDICT_WORK_H
#define OCT_PREDICT_WORK_H

#include "backend.h"
#include "base/gpu_cut.h"

/* Kinds of work that cost differently an element. */
enum oct_work_kind {
    OCT_WORK_FPROP,
    OCT_WORK_DGRAD,
    OCT_WORK_WGRAD,
    OCT_WORK_WEIGHT_PACK,
    OCT_WORK_STATS_CLEAR,
    OCT_WORK_QUANTISE,
    OCT_WORK_BARRIER_BWD,
    OCT_WORK_COMPENSATE,
    OCT_WORK_COMPENSATE_BWD,
    OCT_WORK_CHANNEL_STATS,
    OCT_WORK_CHANNEL_SUM,
    OCT_WORK_COUNT_ABOVE,
    OCT_WORK_RANGE_UPDATE,
    OCT_WORK_COSINE_SEARCH,
    OCT_WORK_BN_FINALIZE,
    OCT_WORK_AFFINE_FINALIZE,
    OCT_WORK_ACT,
    OCT_WORK_ACT_RESIDUAL,
    OCT_WORK_ACT_AMAX, /* looks for the largest result and writes nothing else */
    OCT_WORK_SHIFT_FINALIZE,
    OCT_WORK_ACT_SHIFT,
    OCT_WORK_BN_REDUCE,
    OCT_WORK_BN_REDUCE_MASK,
    OCT_WORK_BN_BWD_FINALIZE,
    OCT_WORK_AFFINE_BWD_FINALIZE,
    OCT_WORK_BN_APPLY,
    OCT_WORK_BN_APPLY_RESIDUAL,
    OCT_WORK_POOL,
    OCT_WORK_POOL_BWD,
    OCT_WORK_IMAGE,
    OCT_WORK_LOSS,
    OCT_WORK_SGD,
    OCT_WORK_EMA,
    OCT_WORK_COPY,
    OCT_WORK_KINDS
};

const char *oct_work_kind_name(enum oct_work_kind);

struct oct_work {
    enum oct_work_kind kind;
    double read, written; /* bytes */
    double elements;      /* of the tensor that the op passes over */
    double macs;          /* multiply-adds of the layer, once, whatever the planes */
    double folded;        /* pixels of the copy that an int8 product of few channels reads, or 0 */
    enum oct_dtype dtype; /* of the operands of a product */
};

/* One launch of an int8 product: what its blocks do. */
struct oct_work_launch {
    int gradient; /* tile of a weight gradient, else of a sweep */
    int tile, load, narrow, two_planes;
    double blocks;
    double products; /* 16 x 8 x 32 multiply-adds, padding included */
    double outputs;  /* accumulators that the epilogues handle, padding included */
};
enum { OCT_WORK_LAUNCHES = 64 };

/* Launches of an int8 product on a device of so many multiprocessors; their count. Strides of more
 * than eight have more than OCT_WORK_LAUNCHES sweeps: those beyond are dropped from `out`, and the
 * count says so. */
int oct_work_fprop_launches(
    const struct oct_conv_fprop_args *, int multiprocessors, struct oct_work_launch *out);
int oct_work_dgrad_launches(
    const struct oct_conv_dgrad_args *, int multiprocessors, struct oct_work_launch *out);
int oct_work_wgrad_launches(
    const struct oct_conv_wgrad_args *, int multiprocessors, struct oct_work_launch *out);

/* wgrad: int8 sums of several splits go to memory and back. */
struct oct_work oct_work_fprop(const struct oct_conv_fprop_args *);
struct oct_work oct_work_dgrad(const struct oct_conv_dgrad_args *);
struct oct_work oct_work_wgrad(const struct oct_conv_wgrad_args *, int multiprocessors);
struct oct_work oct_work_weight_pack(const struct oct_weight_pack_args *);
struct oct_work oct_work_stats_clear(int channels);
struct oct_work oct_work_quantise(const struct oct_quantise_args *);
struct oct_work oct_work_regrid(const struct oct_regrid_args *);
struct oct_work oct_work_barrier_bwd(const struct oct_barrier_bwd_args *);
struct oct_work oct_work_compensate(const struct oct_compensate_args *);
struct oct_work oct_work_compensate_bwd(const struct oct_compensate_bwd_args *);
struct oct_work oct_work_channel_stats(const struct oct_channel_stats_args *);
struct oct_work oct_work_channel_sum(const struct oct_channel_sum_args *);
struct oct_work oct_work_count_above(const struct oct_count_above_args *);
struct oct_work oct_work_range_update(const struct oct_range_update_args *);
struct oct_work oct_work_cosine_search(const struct oct_cosine_search_args *);
struct oct_work oct_work_bn_finalize(const struct oct_bn_finalize_args *);
struct oct_work oct_work_affine_finalize(const struct oct_affine_finalize_args *);
struct oct_work oct_work_act_fwd(const struct oct_act_fwd_args *);
struct oct_work oct_work_shift_finalize(const struct oct_shift_finalize_args *);
struct oct_work oct_work_act_shift(const struct oct_act_shift_args *);
struct oct_work oct_work_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *);
struct oct_work oct_work_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *);
struct oct_work oct_work_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *);
struct oct_work oct_work_bn_bwd_apply(const struct oct_bn_bwd_apply_args *);
struct oct_work oct_work_pool(const struct oct_pool_args *);
struct oct_work oct_work_pool_bwd(const struct oct_pool_bwd_args *);
struct oct_work oct_work_image(const struct oct_image_args *);
struct oct_work oct_work_loss(const struct oct_loss_args *);
struct oct_work oct_work_sgd(const struct oct_sgd_args *);
struct oct_work oct_work_sgd_fixed(const struct oct_sgd_fixed_args *);
struct oct_work oct_work_ema(const struct oct_ema_args *);
struct oct_work oct_work_copy(size_t bytes);

#endif
