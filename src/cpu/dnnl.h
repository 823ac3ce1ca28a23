/* The float products of the CPU backend (f32 and bf16 operands), computed by oneDNN. Each product
 * is cut into slices that come from the shape; each slice is one single-threaded oneDNN primitive
 * run by our own pool, because an OpenMP team spinning beside the pool costs up to half of both.
 *
 * Activations stay NHWC. Weights are read in the layout that oneDNN's kernel prefers, which
 * weight_pack writes and which does not depend on the batch size.
 *
 * A *_check call builds and keeps everything its product needs, for both write modes, and reports
 * the bytes of workspace; the product itself then only looks the plan up. A plan belongs to (op,
 * shape, dtypes, whether there is a bias): pass check a non-NULL bias where the call will have one.
 * The workspace depends on the number of threads; the bits do not. */
#ifndef OCT_CPU_DNNL_H
#define OCT_CPU_DNNL_H

#include "cpu/cpu.h"

/* Sets cpu->dnnl; cpu->pool must be open. Close accepts a cpu that was never opened. */
enum oct_status oct_dnnl_open(struct oct_cpu *cpu);
void oct_dnnl_close(struct oct_cpu *cpu);

/* The entries of the backend table (backend.h) for operands of type OCT_F32 and OCT_BF16.
 * Check: OCT_UNSUPPORTED or OCT_SHAPE with the reason; `workspace` in bytes, 64-byte aligned
 * memory expected. Call: OCT_INTERNAL if the same arguments were never checked. */
enum oct_status oct_dnnl_conv_fprop_check(
    struct oct_cpu *cpu, const struct oct_conv_fprop_args *args, size_t *workspace);
enum oct_status oct_dnnl_conv_fprop(struct oct_cpu *cpu, const struct oct_conv_fprop_args *args);
enum oct_status oct_dnnl_conv_dgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_dgrad_args *args, size_t *workspace);
enum oct_status oct_dnnl_conv_dgrad(struct oct_cpu *cpu, const struct oct_conv_dgrad_args *args);
enum oct_status oct_dnnl_conv_wgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_wgrad_args *args, size_t *workspace);
enum oct_status oct_dnnl_conv_wgrad(struct oct_cpu *cpu, const struct oct_conv_wgrad_args *args);

/* Bytes of one pack, and the plan for writing it; 0 on failure (oct_last_error says why). Both
 * fprop and dgrad packs of a shape may be used with any batch size n. */
size_t oct_dnnl_weight_pack_bytes(
    struct oct_cpu *cpu, const struct oct_conv_shape *shape, enum oct_dtype dtype, int dgrad);
enum oct_status oct_dnnl_weight_pack(struct oct_cpu *cpu, const struct oct_weight_pack_args *args);

#endif
