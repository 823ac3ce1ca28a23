/* `--simulate`: products in float64 on the codes. Sums of products of codes stay below 2^53, so
 * they are exact, and an int8 run must give the bits of this one: an oracle for the integer path
 * that shares none of its arithmetic. */
#include "cpu/tile.h"

static int available(void)
{
    return 1;
}

static void add_row(double *sum, const int8_t *a, const int8_t *b, int depth, int columns)
{
    for (int d = 0; d < depth; d++) {
        double x = a[d];
        for (int j = 0; j < columns; j++)
            sum[j] += x * (double)b[d * columns + j];
    }
}

static void gemm(const struct oct_tile_gemm *g)
{
    int32_t *acc = g->acc;
    double sum[OCT_TILE_COLUMNS];
    for (int t = 0; t < g->tile_count; t++) {
        for (int i = 0; i < g->tiles[t].rows; i++, acc += g->columns) {
            const int8_t *a = (const int8_t *)g->a + g->tiles[t].a + i * g->lda;
            for (int j = 0; j < g->columns; j++)
                sum[j] = (double)(g->init ? g->init[j] : acc[j]);
            for (int u = 0; u < g->runs; u++)
                add_row(sum, a + g->run[u], g->b + (ptrdiff_t)u * g->depth * g->columns, g->depth,
                    g->columns);
            for (int j = 0; j < g->columns; j++)
                acc[j] = (int32_t)sum[j];
        }
    }
}

const struct oct_tile_kernels oct_tile_simulate = {
    .name = "simulate",
    .available = available,
    .group = 1,
    .depth_unit = 1,
    .max_columns = 64,
    .max_rows = {16, 16, 16, 16},
    .gemm = gemm,
};
