/* AMX: a tile of up to 32 rows x 32 columns is four 16 x 16 accumulators (tiles 0-3), two tiles of
 * A (4, 5) and two of B (6, 7); every load feeds two products. One step is 64 bytes of depth: a
 * shorter one would take as long. Tiles of one column block or at most 16 rows use a part. Rows are
 * split evenly between the two halves, since a product takes as long as its rows. */
#include "cpu/amx_tile.h"
#include "cpu/tile.h"

#ifndef OCT_AMX_EMULATED
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int available(void)
{
#ifdef OCT_AMX_EMULATED
    return 1;
#else
    /* The kernel gives the tile state only to processes that ask for it (once, for all threads). */
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_TILE_BIT = 24, AMX_INT8_BIT = 25 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    return (d >> AMX_TILE_BIT & 1) && (d >> AMX_INT8_BIT & 1) &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#endif
}

static void configure(struct amx_file *f, int upper, int lower)
{
    struct amx_config config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int t = 0; t < AMX_TILES; t++) {
        int is_b = t >= 6, is_lower = t == 2 || t == 3 || t == 5;
        config.row_bytes[t] = AMX_ROW_BYTES;
        config.rows[t] = (uint8_t)(is_b ? AMX_ROWS : is_lower && lower ? lower : upper);
    }
    amx_configure(f, &config);
}

struct step {
    const struct oct_tile_gemm *g;
    const uint8_t *a;
    ptrdiff_t lower; /* bytes of A between the two halves */
    ptrdiff_t b_stride;
};

/* The depth loop of a tile; `halves` and `blocks` (1 or 2) are constants where it is inlined. */
static inline __attribute__((always_inline)) void multiply(
    struct amx_file *f, const struct step *s, int halves, int blocks)
{
    const int8_t *b = s->g->b;
    (void)f;
    for (int u = 0; u < s->g->runs; u++) {
        const uint8_t *a = s->a + s->g->run[u];
        for (int d = 0; d < s->g->depth; d += 64, a += 64, b += 16 * s->b_stride) {
            AMX_LOAD(f, 4, a, s->g->lda);
            AMX_LOAD(f, 6, b, s->b_stride);
            AMX_DOT(f, 0, 4, 6);
            if (blocks == 2) {
                AMX_LOAD(f, 7, b + 64, s->b_stride);
                AMX_DOT(f, 1, 4, 7);
            }
            if (halves == 2) {
                AMX_LOAD(f, 5, a + s->lower, s->g->lda);
                AMX_DOT(f, 2, 5, 6);
            }
            if (halves == 2 && blocks == 2)
                AMX_DOT(f, 3, 5, 7);
        }
    }
}

/* Accumulators start from acc, or from one row of init: a stride of 0 repeats it. */
static inline __attribute__((always_inline)) void run_tile(
    struct amx_file *f, const struct step *s, int32_t *acc, int upper, int halves, int blocks)
{
    const ptrdiff_t stride = 4 * (ptrdiff_t)s->g->columns;
    const int32_t *start = s->g->init ? s->g->init : acc;
    const ptrdiff_t start_stride = s->g->init ? 0 : stride;
    const ptrdiff_t start_lower = s->g->init ? 0 : (ptrdiff_t)upper * s->g->columns;
    int32_t *low = acc + (ptrdiff_t)upper * s->g->columns;
    (void)f;
    AMX_LOAD(f, 0, start, start_stride);
    if (blocks == 2)
        AMX_LOAD(f, 1, start + 16, start_stride);
    if (halves == 2)
        AMX_LOAD(f, 2, start + start_lower, start_stride);
    if (halves == 2 && blocks == 2)
        AMX_LOAD(f, 3, start + start_lower + 16, start_stride);
    multiply(f, s, halves, blocks);
    AMX_STORE(f, 0, acc, stride);
    if (blocks == 2)
        AMX_STORE(f, 1, acc + 16, stride);
    if (halves == 2)
        AMX_STORE(f, 2, low, stride);
    if (halves == 2 && blocks == 2)
        AMX_STORE(f, 3, low + 16, stride);
}

static void gemm(const struct oct_tile_gemm *g)
{
    struct amx_file file;
    int configured = 0;
    int32_t *acc = g->acc;
    for (int t = 0; t < g->tile_count; t++) {
        const int rows = g->tiles[t].rows, halves = rows > AMX_ROWS ? 2 : 1;
        const int upper = halves == 2 ? (rows + 1) / 2 : rows;
        const struct step s = {g, g->a + g->tiles[t].a, upper * g->lda, 4 * (ptrdiff_t)g->columns};
        if (rows != configured)
            configure(&file, upper, rows - upper);
        configured = rows;
        if (halves == 2 && g->columns == 32)
            run_tile(&file, &s, acc, upper, 2, 2);
        else if (halves == 2)
            run_tile(&file, &s, acc, upper, 2, 1);
        else if (g->columns == 32)
            run_tile(&file, &s, acc, upper, 1, 2);
        else
            run_tile(&file, &s, acc, upper, 1, 1);
        acc += (ptrdiff_t)rows * g->columns;
    }
    amx_release(&file); /* a thread that sleeps with live tiles slows its core */
}

/* Tile products that load their operands from the first-level cache: in the slow periods of the
 * unit (docs/performance.md) they take two to three times as long, while other code hardly does. */
static int64_t regime(int64_t rounds)
{
    static const uint8_t zero[AMX_ROWS * AMX_ROW_BYTES] __attribute__((aligned(64)));
    struct amx_file file;
    configure(&file, AMX_ROWS, AMX_ROWS);
    for (int64_t i = 0; i < rounds; i++) {
        AMX_LOAD(&file, 4, zero, AMX_ROW_BYTES);
        AMX_LOAD(&file, 6, zero, AMX_ROW_BYTES);
        AMX_DOT(&file, 0, 4, 6);
        AMX_LOAD(&file, 7, zero, AMX_ROW_BYTES);
        AMX_DOT(&file, 1, 4, 7);
        AMX_LOAD(&file, 5, zero, AMX_ROW_BYTES);
        AMX_DOT(&file, 2, 5, 6);
        AMX_DOT(&file, 3, 5, 7);
    }
    amx_release(&file);
    return 4 * rounds;
}

#ifdef OCT_AMX_EMULATED
const struct oct_tile_kernels oct_tile_amx_emulated = {
    .name = "amx-emulated",
#else
/* 4 x 4 products of 16 x 16 x 64 on four accumulators per round. */
static double peak(int64_t rounds)
{
    struct amx_file file;
    configure(&file, AMX_ROWS, AMX_ROWS);
    for (int64_t i = 0; i < rounds; i++) {
        AMX_DOT(&file, 0, 4, 6);
        AMX_DOT(&file, 1, 4, 7);
        AMX_DOT(&file, 2, 5, 6);
        AMX_DOT(&file, 3, 5, 7);
    }
    amx_release(&file);
    return 4.0 * 16 * 16 * 64 * (double)rounds;
}

const struct oct_tile_kernels oct_tile_amx = {
    .name = "amx",
    .automatic = 1,
    .peak = peak,
#endif
    .available = available,
    .group = 4,
    .depth_unit = 64,
    .max_columns = 32,
    .max_rows = {32, 32},
    .gemm = gemm,
    .regime = regime,
    .regime_ns = 9.5,
};
