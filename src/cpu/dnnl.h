/* Float convolutions, given to oneDNN: f32 and bf16 operands of the products. */
#ifndef OCT_CPU_DNNL_H
#define OCT_CPU_DNNL_H

#include "cpu/cpu.h"

enum oct_status oct_dnnl_conv_fprop(struct oct_cpu *, const struct oct_conv_fprop_args *);
enum oct_status oct_dnnl_conv_fprop_check(
    struct oct_cpu *, const struct oct_conv_fprop_args *, size_t *workspace);
enum oct_status oct_dnnl_conv_dgrad(struct oct_cpu *, const struct oct_conv_dgrad_args *);
enum oct_status oct_dnnl_conv_dgrad_check(
    struct oct_cpu *, const struct oct_conv_dgrad_args *, size_t *workspace);
enum oct_status oct_dnnl_conv_wgrad(struct oct_cpu *, const struct oct_conv_wgrad_args *);
enum oct_status oct_dnnl_conv_wgrad_check(
    struct oct_cpu *, const struct oct_conv_wgrad_args *, size_t *workspace);
enum oct_status oct_dnnl_weight_pack(struct oct_cpu *, const struct oct_weight_pack_args *);
size_t oct_dnnl_weight_pack_bytes(
    struct oct_cpu *, const struct oct_conv_shape *, enum oct_dtype, int dgrad);

#endif
