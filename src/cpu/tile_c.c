/* Products in plain C, for every CPU. Two products of codes in [-127, 127] fit int16, so pairs of
 * depth steps are added there before they are widened: half of the widening for compilers that
 * vectorise this. */
#include "cpu/tile.h"

static int available(void)
{
    return 1;
}

static void row_pair(int32_t *acc, const int8_t *b, int columns, int a0, int a1)
{
    for (int j = 0; j < columns; j++)
        acc[j] += (int16_t)((int16_t)(a0 * b[j]) + (int16_t)(a1 * b[columns + j]));
}

static void row_of_run(int32_t *acc, const int8_t *a, const int8_t *b, int depth, int columns)
{
    int d = 0;
    for (; d + 1 < depth; d += 2)
        row_pair(acc, b + d * columns, columns, a[d], a[d + 1]);
    if (d < depth) {
        for (int j = 0; j < columns; j++)
            acc[j] += a[d] * b[d * columns + j];
    }
}

static void gemm(const struct oct_tile_gemm *g)
{
    int32_t *acc = g->acc;
    for (int t = 0; t < g->tile_count; t++) {
        for (int i = 0; i < g->tiles[t].rows; i++, acc += g->columns) {
            const int8_t *a = (const int8_t *)g->a + g->tiles[t].a + i * g->lda;
            for (int j = 0; g->init && j < g->columns; j++)
                acc[j] = g->init[j];
            for (int u = 0; u < g->runs; u++)
                row_of_run(acc, a + g->run[u], g->b + (ptrdiff_t)u * g->depth * g->columns,
                    g->depth, g->columns);
        }
    }
}

const struct oct_tile_kernels oct_tile_c = {
    .name = "c",
    .automatic = 1,
    .portable = 1,
    .available = available,
    .group = 1,
    .depth_unit = 1,
    .max_columns = 64,
    .max_rows = {16, 16, 16, 16},
    .gemm = gemm,
};
