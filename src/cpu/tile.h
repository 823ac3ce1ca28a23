/* The one microkernel under all int8 products. It adds, to a tile of int32 accumulators that stays
 * in the cache,
 *
 *     acc[i][j] += sum over runs u, d < depth of  A[i * lda + run[u] + d] * B[u][d][j]
 *
 * Forward and backward-data pass A rows of a thread's panel of input pixels and packed weights as
 * B; the weight gradient passes rows of transposed X (one channel each) and interleaved dY as B.
 * Integer sums are exact modulo 2^32, so every kernel gives the same bits. */
#ifndef OCT_TILE_H
#define OCT_TILE_H

#include <stddef.h>
#include <stdint.h>

enum {
    OCT_TILE_COLUMNS = 64,  /* widest column block of any kernel */
    OCT_TILE_MAX_ROWS = 32, /* tallest row tile of any kernel */
    OCT_TILE_OVERREAD = 64  /* bytes after its last run that a kernel may read (and ignore) */
};

/* Consecutive rows of A: row i starts at byte `a` + i * lda. Tiles fill acc one after another. */
struct oct_tile {
    int32_t a;
    int32_t rows;
};

struct oct_tile_gemm {
    const uint8_t *a;
    ptrdiff_t lda;
    const struct oct_tile *tiles;
    int tile_count;
    const int32_t *run;  /* byte offsets, [runs] */
    int runs;            /* 0: acc becomes init */
    int depth;           /* bytes of each run, a multiple of depth_unit */
    const int8_t *b;     /* [runs][depth / group][columns][group] */
    int columns;         /* a multiple of 16, at most max_columns */
    const int32_t *init; /* [columns] to start from, or NULL: add to acc */
    int32_t *acc;        /* [rows of all tiles][columns], 64-byte aligned */
};

struct oct_tile_kernels {
    const char *name;
    int automatic; /* chosen without being named, if available */
    int portable;  /* goes with the elementwise kernels of plain x86-64 */
    int (*available)(void);
    uint8_t flip; /* A holds code ^ flip: 0x80 where the unit wants unsigned bytes;
                   * init then carries -128 * (sum of B over depth) */
    int group;    /* depth bytes kept together in B */
    int depth_unit;
    int max_columns;
    uint8_t max_rows[OCT_TILE_COLUMNS / 16]; /* tallest tile for 16, 32, 48, 64 columns */
    void (*gemm)(const struct oct_tile_gemm *gemm);
    double (*peak)(int64_t rounds); /* products done by a loop without memory accesses, or NULL */
    /* Slow periods. A unit whose speed drops now and then for reasons outside the program has a
     * loop that shows it: `regime` runs it and returns its units of work; one unit takes at most
     * regime_ns while the speed is undisturbed. NULL: the unit has no such periods. */
    int64_t (*regime)(int64_t rounds);
    double regime_ns;
};

extern const struct oct_tile_kernels oct_tile_c, oct_tile_vnni, oct_tile_amx, oct_tile_amx_emulated,
    oct_tile_simulate;

static inline int oct_round_up(int value, int unit)
{
    return (value + unit - 1) / unit * unit;
}

#endif
