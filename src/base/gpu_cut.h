/* How a GPU's products are cut into blocks: cuda/ launches what this says, src/predict/ counts it.
 * Forward and backward-data products are "sweeps": every output pixel of a grid reads input pixels
 * at constant distances. Forward is one sweep; backward-data is one sweep per phase of the stride,
 * with the taps that meet that phase, turned round, so that no zero is inserted or multiplied. The
 * weight gradient is one product whose depth, the pixels, is split over blocks. */
#ifndef OCT_GPU_CUT_H
#define OCT_GPU_CUT_H

#include "base/conv_shape.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    OCT_SWEEP_STEP = 64, /* bytes of depth between two barriers */
    OCT_GPU_SWEEP_TILES = 5,
    OCT_GPU_GRADIENT_TILES = 4,
    OCT_GPU_TILE_NARROW = 3,      /* of gradients whose rows are not whole 16-byte chunks */
    OCT_GPU_STEP_PIXELS = 64,     /* depth of a gradient between two barriers */
    OCT_GPU_WORTHWHILE_STEPS = 16 /* fewer in a split would take longer to add than to make */
};

/* Accumulators of a block by tile: 1, 2, ... */
struct oct_gpu_tile {
    int rows, columns;
};
static const struct oct_gpu_tile oct_gpu_sweep_tiles[OCT_GPU_SWEEP_TILES + 1] = {
    {0, 0}, {128, 128}, {128, 64}, {64, 64}, {128, 32}, {128, 16}};
static const struct oct_gpu_tile oct_gpu_gradient_tiles[OCT_GPU_GRADIENT_TILES + 1] = {
    {0, 0}, {128, 128}, {64, 128}, {64, 64}, {32, 64}};

/* One axis: output i lies at out_first + i out_step of the output tensor and meets tap t at input
 * i step + origin + t tap_step. Tap t is filter row filter_first + t filter_step. */
struct oct_gpu_axis {
    int out, out_first, out_step;
    int in, step, origin;
    int taps, tap_step;
    int filter_first, filter_step;
};

struct oct_gpu_sweep {
    struct oct_gpu_axis h, w;
    int images, channels, columns; /* channels of the tensor that is read, of the one written */
    int out_h, out_w;              /* output tensor */
    int64_t depth;                 /* taps x channels, without padding */
    int64_t packed;                /* where its weights start in a pack, bytes */
};

/* Sweeps of a product, and the i-th. */
int oct_gpu_sweep_count(const struct oct_conv_shape *, int dgrad);
void oct_gpu_sweep_make(
    const struct oct_conv_shape *, int dgrad, int index, struct oct_gpu_sweep *out);

/* A column of packed weights: depth, padded with zeros to whole steps. */
static inline int64_t oct_gpu_sweep_pitch(const struct oct_gpu_sweep *s)
{
    return (s->depth + OCT_SWEEP_STEP - 1) / OCT_SWEEP_STEP * OCT_SWEEP_STEP;
}

/* How the input comes: whole 16-byte chunks without any tap arithmetic, with it; 4 bytes, 1 byte.
 */
enum oct_gpu_load {
    OCT_GPU_LOAD_POINT = 0,
    OCT_GPU_LOAD_16 = 16,
    OCT_GPU_LOAD_4 = 4,
    OCT_GPU_LOAD_1 = 1
};

/* Tile and load of a sweep; `forced` > 0 names a tile, 0 lets the shape choose. */
struct oct_gpu_sweep_cut {
    int tile;
    enum oct_gpu_load load;
};
struct oct_gpu_sweep_cut oct_gpu_sweep_cut(
    const struct oct_gpu_sweep *, int two_planes, int multiprocessors, int forced);

/* An input of few channels (images) is folded: a copy of it has pixels of OCT_GPU_FOLDED bytes,
 * each the channels of `down` x `across` neighbouring pixels, zeros where these lie in the padding.
 * Folded pixel (i, j) begins at input pixel (i stride_h - pad_h, j stride_w - pad_w), so that the
 * product on it has stride 1, no padding, few taps and whole 16-byte chunks: tap (r, s) of the
 * filter is tap (r / down, s / across) of the folded one, there byte ((r % down) across + s %
 * across) c. */
enum { OCT_GPU_FOLDED = 16 };
struct oct_gpu_fold {
    int down, across;            /* 0: the input is read as it is */
    struct oct_conv_shape shape; /* of the product on folded pixels */
};
struct oct_gpu_fold oct_gpu_fold_of(const struct oct_conv_shape *);

/* Bytes of a folded input, all planes. */
size_t oct_gpu_fold_bytes(const struct oct_gpu_fold *, int planes);

/* Bytes of a pack of int8 weights, one plane. */
size_t oct_gpu_pack_bytes(const struct oct_conv_shape *, int dgrad);

struct oct_gpu_gradient_cut {
    int tile, narrow, k_tiles, column_tiles, steps, splits, split_steps;
    int64_t pitch; /* columns of a row of partial sums */
};
struct oct_gpu_gradient_cut oct_gpu_gradient_cut(
    const struct oct_conv_shape *, int multiprocessors, int forced);

/* Bytes of partial sums, for so many pairs of planes: none where one split converts at once, which
 * it does not where the input is folded. */
size_t oct_gpu_gradient_workspace(
    const struct oct_conv_shape *, const struct oct_gpu_gradient_cut *, int pairs);

#ifdef __cplusplus
}
#endif
#endif
