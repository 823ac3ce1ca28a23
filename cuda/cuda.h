/* The inside of the CUDA backend: its context and the table's entries, one file an op family. Host
 * code is C; kernels and the entries that launch them are in the .cu files. An entry checks what
 * its *_check twin promised, launches on the context's stream and returns; it allocates nothing and
 * waits for nothing, so that a step can be captured in a graph. */
#ifndef OCT_CUDA_H
#define OCT_CUDA_H

#include "backend.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Tile configuration of the products: 0 lets the shape choose, n > 0 forces the n-th. All give the
 * same bits. */
struct oct_cuda_tiles {
    int fprop, dgrad, wgrad;
};

/* Pinned host memory through which uploads and downloads go, so that neither the copy nor the
 * driver waits: a slot is free again when its event has passed. */
enum { OCT_CUDA_SLOTS = 4, OCT_CUDA_SLOT_BYTES = 2 << 20 };
struct oct_cuda_slot {
    void *pinned;
    cudaEvent_t passed;
};

struct oct_cuda {
    oct_backend table; /* first: the backend pointer is the context */
    cudaStream_t stream;
    int device;
    int arch; /* 10 major + minor: 75, 80, 86, ... */
    int multiprocessors;
    struct oct_cuda_tiles tiles;
    char isa_name[16]; /* "sm_80" */
    struct oct_cuda_slot slots[OCT_CUDA_SLOTS];
    int next_slot;
};

static inline struct oct_cuda *oct_cuda_of(oct_backend *backend)
{
    return (struct oct_cuda *)backend;
}

/* cuda_backend.c. options->device: "cuda", "cuda:N" or "sim". */
enum oct_status oct_cuda_open(const struct oct_backend_options *options, oct_backend **out);

/* cuda_memory.c: the memory group of the table and the slots behind it. close: what open has made
 * so far, in any order of failure. */
enum oct_status oct_cuda_memory_open(struct oct_cuda *cuda);
void oct_cuda_memory_close(struct oct_cuda *cuda);
void oct_cuda_memory_install(oct_backend *table);

void oct_cuda_graph_install(oct_backend *table); /* cuda_graph.c */

/* OCT_DEVICE with what was called and CUDA's own words, or OCT_OK. */
enum oct_status oct_cuda_status(cudaError_t error, const char *what);

/* Returns from the function if a runtime call failed; after a launch: OCT_CUDA(cudaGetLastError()).
 */
#define OCT_CUDA(call)                                                                             \
    do {                                                                                           \
        enum oct_status cuda_status_ = oct_cuda_status((call), #call);                             \
        if (cuda_status_ != OCT_OK)                                                                \
            return cuda_status_;                                                                   \
    } while (0)

/* products: conv_entries.c (conv_sweep.cu), conv_wgrad.cu, weight_pack.cu */
enum oct_status oct_cuda_conv_fprop_check(
    oct_backend *, const struct oct_conv_fprop_args *, size_t *workspace);
enum oct_status oct_cuda_conv_fprop(oct_backend *, const struct oct_conv_fprop_args *);
enum oct_status oct_cuda_conv_dgrad_check(
    oct_backend *, const struct oct_conv_dgrad_args *, size_t *workspace);
enum oct_status oct_cuda_conv_dgrad(oct_backend *, const struct oct_conv_dgrad_args *);
enum oct_status oct_cuda_conv_wgrad_check(
    oct_backend *, const struct oct_conv_wgrad_args *, size_t *workspace);
enum oct_status oct_cuda_conv_wgrad(oct_backend *, const struct oct_conv_wgrad_args *);
size_t oct_cuda_weight_pack_bytes(
    oct_backend *, const struct oct_conv_shape *, enum oct_dtype, int dgrad);
enum oct_status oct_cuda_weight_pack(oct_backend *, const struct oct_weight_pack_args *);

/* quantise.cu, stats.cu, range.cu, search.cu */
size_t oct_cuda_channel_workspace(oct_backend *, int64_t rows, int channels);
enum oct_status oct_cuda_quantise(oct_backend *, const struct oct_quantise_args *);
enum oct_status oct_cuda_channel_stats(oct_backend *, const struct oct_channel_stats_args *);
enum oct_status oct_cuda_channel_sum(oct_backend *, const struct oct_channel_sum_args *);
enum oct_status oct_cuda_count_above(oct_backend *, const struct oct_count_above_args *);
enum oct_status oct_cuda_range_update(oct_backend *, const struct oct_range_update_args *);
enum oct_status oct_cuda_cosine_search(oct_backend *, const struct oct_cosine_search_args *);

/* norm_fwd.cu, norm_bwd.cu, norm_apply.cu */
enum oct_status oct_cuda_stats_clear(oct_backend *, const struct oct_acc_stats *, int channels);
enum oct_status oct_cuda_bn_finalize(oct_backend *, const struct oct_bn_finalize_args *);
enum oct_status oct_cuda_act_fwd(oct_backend *, const struct oct_act_fwd_args *);
size_t oct_cuda_bn_workspace(oct_backend *, int64_t rows, int channels);
enum oct_status oct_cuda_bn_bwd_reduce(oct_backend *, const struct oct_bn_bwd_reduce_args *);
enum oct_status oct_cuda_bn_bwd_finalize(oct_backend *, const struct oct_bn_bwd_finalize_args *);
enum oct_status oct_cuda_bn_bwd_apply(oct_backend *, const struct oct_bn_bwd_apply_args *);

/* affine.cu */
enum oct_status oct_cuda_affine_finalize(oct_backend *, const struct oct_affine_finalize_args *);
enum oct_status oct_cuda_affine_bwd_finalize(
    oct_backend *, const struct oct_affine_bwd_finalize_args *);

/* shift.cu */
enum oct_status oct_cuda_shift_finalize(oct_backend *, const struct oct_shift_finalize_args *);
enum oct_status oct_cuda_act_shift(oct_backend *, const struct oct_act_shift_args *);

/* pool.cu, image.cu, loss.cu, update.cu */
enum oct_status oct_cuda_pool(oct_backend *, const struct oct_pool_args *);
enum oct_status oct_cuda_pool_bwd(oct_backend *, const struct oct_pool_bwd_args *);
enum oct_status oct_cuda_image(oct_backend *, const struct oct_image_args *);
enum oct_status oct_cuda_loss(oct_backend *, const struct oct_loss_args *);
enum oct_status oct_cuda_sgd(oct_backend *, const struct oct_sgd_args *);
enum oct_status oct_cuda_regrid(oct_backend *, const struct oct_regrid_args *);
enum oct_status oct_cuda_barrier_bwd(oct_backend *, const struct oct_barrier_bwd_args *);
enum oct_status oct_cuda_compensate(oct_backend *, const struct oct_compensate_args *);
enum oct_status oct_cuda_compensate_bwd(oct_backend *, const struct oct_compensate_bwd_args *);
enum oct_status oct_cuda_sgd_fixed(oct_backend *, const struct oct_sgd_fixed_args *);
enum oct_status oct_cuda_ema(oct_backend *, const struct oct_ema_args *);

#ifdef __cplusplus
}
#endif
#endif
