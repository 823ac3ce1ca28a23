/* Inside of the int8 products. Forward and backward-data are "sweeps": output pixels that read an
 * input panel at constant distances. Forward is one sweep; backward-data is one sweep per phase of
 * the stride, with the taps that meet that phase, turned round. */
#ifndef OCT_CPU_CONV_H
#define OCT_CPU_CONV_H

#include "cpu/cpu.h"
#include "cpu/tile.h"
#include "cpu/vec_conv.h"

enum {
    OCT_BLOCK_ACC = 256 * 64,  /* most accumulators a thread holds: output pixels x columns */
    OCT_BLOCK_PIXELS = 1024,   /* the same with the fewest columns */
    OCT_PANEL_BYTES = 1 << 20, /* most input a thread copies for them */
    OCT_MAX_RUNS = 4096
};

/* One axis of a sweep. Output i lies at out_first + i * out_step of the output tensor. Panel
 * position j holds input origin + j * in_step (j counted from output 0); output i and tap t meet at
 * panel position i * step + t * dilation; tap t is filter row tap_first + t * tap_step. */
struct oct_sweep_axis {
    int out, out_first, out_step;
    int in, in_step, origin;
    int taps, tap_first, tap_step;
    int step, dilation;
};

struct oct_sweep {
    int images;
    struct oct_sweep_axis h, w;
    int channels, columns;      /* of the input panel and of the output */
    int out_h, out_w;           /* output tensor */
    int runs, run_bytes, depth; /* contiguous input bytes per output; depth is padded */
    int row_runs;               /* a run is a row of taps (dilation 1), not one tap */
    int64_t packed;             /* where its weights start in a pack: [depth of all runs] per
                                 * column, column blocks one after another, then int32 init */
};

struct oct_conv_scratch {
    uint8_t panel[OCT_PANEL_BYTES + 4096];
    int32_t acc[OCT_BLOCK_ACC];
    int64_t total[OCT_BLOCK_ACC];
    struct oct_tile tiles[OCT_BLOCK_PIXELS];
    int32_t run[OCT_MAX_RUNS];
};

int oct_sweep_count(const struct oct_conv_shape *shape, int dgrad);
void oct_sweep_make(const struct oct_conv_shape *shape, const struct oct_tile_kernels *tile,
    int dgrad, int index, struct oct_sweep *out);
/* Bytes of one plane of packed weights. */
size_t oct_sweep_pack_bytes(
    const struct oct_conv_shape *shape, const struct oct_tile_kernels *tile, int dgrad);

static inline int oct_sweep_columns16(const struct oct_sweep *s)
{
    return oct_round_up(s->columns, 16);
}

static inline int64_t oct_sweep_matrix_bytes(const struct oct_sweep *s)
{
    return (int64_t)oct_sweep_columns16(s) * s->runs * s->depth;
}

/* Panel positions that `count` consecutive outputs read. */
static inline int oct_axis_extent(const struct oct_sweep_axis *a, int count)
{
    return a->taps ? (count - 1) * a->step + (a->taps - 1) * a->dilation + 1 : 0;
}

/* What one product asks of its sweeps; pointers are not read by oct_sweep_check. */
struct oct_sweep_args {
    const struct oct_conv_shape *shape;
    int dgrad;
    const struct oct_operand *x, *w; /* x: the tensor that is swept (dY in backward-data) */
    const float *bias;
    void *out;
    enum oct_dtype dtype;
    enum oct_write mode;
    struct oct_conv_norm norm; /* dtype s8 */
    struct oct_shift shift;    /* dtype s8 without norm */
    int relu;
    const struct oct_acc_stats *stats;
    void *workspace;
};

enum oct_status oct_sweep_check(struct oct_cpu *cpu, const struct oct_sweep_args *, size_t *bytes);
void oct_sweep_run(struct oct_cpu *cpu, const struct oct_sweep_args *);

enum oct_status oct_wgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_wgrad_args *, size_t *bytes);
void oct_wgrad_run(struct oct_cpu *cpu, const struct oct_conv_wgrad_args *);

void oct_pack_run(struct oct_cpu *cpu, const struct oct_weight_pack_args *);

#endif
