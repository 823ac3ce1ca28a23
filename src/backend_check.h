/* What every device refuses alike: arguments that break the contract of backend.h, each with one
 * line that says what was asked, what was found and what to do. Limits of one device are its own
 * affair. Products: the int8 ones; float products have other rules. */
#ifndef OCT_BACKEND_CHECK_H
#define OCT_BACKEND_CHECK_H

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Channels of a normalise or activate pass: a device keeps some words for each close by. */
enum { OCT_NORM_MAX_CHANNELS = 4096 };

static inline int oct_is_float(enum oct_dtype dtype)
{
    return dtype == OCT_F32 || dtype == OCT_BF16;
}

enum oct_status oct_check_conv_fprop(const struct oct_conv_fprop_args *args);
enum oct_status oct_check_conv_dgrad(const struct oct_conv_dgrad_args *args);
enum oct_status oct_check_conv_wgrad(const struct oct_conv_wgrad_args *args);
enum oct_status oct_check_weight_pack(const struct oct_weight_pack_args *args);

enum oct_status oct_check_quantise(const struct oct_quantise_args *args);
enum oct_status oct_check_regrid(const struct oct_regrid_args *args);
enum oct_status oct_check_barrier_bwd(const struct oct_barrier_bwd_args *args);
enum oct_status oct_check_compensate(const struct oct_compensate_args *args);
enum oct_status oct_check_compensate_bwd(const struct oct_compensate_bwd_args *args);
enum oct_status oct_check_channel_stats(const struct oct_channel_stats_args *args);
enum oct_status oct_check_channel_sum(const struct oct_channel_sum_args *args);
enum oct_status oct_check_count_above(const struct oct_count_above_args *args);
enum oct_status oct_check_range_update(const struct oct_range_update_args *args);
enum oct_status oct_check_cosine_search(const struct oct_cosine_search_args *args);

enum oct_status oct_check_bn_finalize(const struct oct_bn_finalize_args *args);
enum oct_status oct_check_act_fwd(const struct oct_act_fwd_args *args);
enum oct_status oct_check_shift_finalize(const struct oct_shift_finalize_args *args);
enum oct_status oct_check_act_shift(const struct oct_act_shift_args *args);
enum oct_status oct_check_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *args);
enum oct_status oct_check_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *args);
enum oct_status oct_check_affine_finalize(const struct oct_affine_finalize_args *args);
enum oct_status oct_check_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *args);
enum oct_status oct_check_bn_bwd_apply(const struct oct_bn_bwd_apply_args *args);

enum oct_status oct_check_pool(const struct oct_pool_args *args);
enum oct_status oct_check_pool_bwd(const struct oct_pool_bwd_args *args);
enum oct_status oct_check_image(const struct oct_image_args *args);
enum oct_status oct_check_loss(const struct oct_loss_args *args);

enum oct_status oct_check_sgd_fixed(const struct oct_sgd_fixed_args *args);

#ifdef __cplusplus
}
#endif
#endif
