/* Quantises f32 KRSC weights into what the tile kernels read (cpu_conv.h): per column block
 * [run][depth / group][columns][group], and per column the start value that undoes the unsigned
 * offset of the other operand. Columns and depth that pad are zero. */
#include "cpu/cpu_conv.h"

#include <string.h>

struct job {
    struct oct_cpu *cpu;
    const struct oct_weight_pack_args *args;
    struct oct_sweep sweep;
    int dgrad;
    int8_t *out[2];
};

/* Depth index `d` of run `run` is one filter tap and one input channel of the sweep. */
struct place {
    int r, s, channel;
};

static struct place place_of(const struct oct_sweep *v, int run, int d)
{
    int th = v->row_runs ? run : run / v->w.taps;
    int tw = v->row_runs ? d / v->channels : run % v->w.taps;
    struct place at = {
        v->h.tap_first + th * v->h.tap_step, v->w.tap_first + tw * v->w.tap_step, d % v->channels};
    return at;
}

static const float *weight_at(const struct job *j, int k, struct place at, int c)
{
    const struct oct_conv_shape *v = &j->args->shape;
    return j->args->w + (((int64_t)k * v->r + at.r) * v->s + at.s) * v->c + c;
}

static void quantise_row(const struct job *j, int8_t *const code[2], const float *w, int n, int k)
{
    const struct oct_range *range = &j->args->range;
    int bad = j->cpu->conv->quantise(code[0], j->args->planes > 1 ? code[1] : NULL, w, n,
        range->inverse[range->count > 1 ? k : 0], range);
    if (bad)
        __atomic_store_n(j->args->flag, 1, __ATOMIC_RELAXED);
}

/* Backward: a depth step is one (tap, k); its columns are contiguous channels of the filter. */
static void pack_depth_dgrad(const struct job *j, int first, int columns, int run, int d)
{
    const struct oct_sweep *v = &j->sweep;
    const int group = j->cpu->tile->group, exist = v->columns - first;
    const int n = exist < columns ? exist : columns;
    int8_t row[2][4][OCT_TILE_COLUMNS] = {0};
    for (int i = 0; i < group && d + i < v->run_bytes; i++) {
        struct place at = place_of(v, run, d + i);
        int8_t *const code[2] = {row[0][i], row[1][i]};
        quantise_row(j, code, weight_at(j, at.channel, at, first), n, at.channel);
    }
    for (int plane = 0; plane < j->args->planes; plane++) {
        const int8_t *const rows[4] = {row[plane][0], row[plane][1], row[plane][2], row[plane][3]};
        int8_t *to = j->out[plane] + v->packed + (int64_t)first * v->runs * v->depth +
                     ((int64_t)run * v->depth + d) * columns;
        if (group == 4)
            j->cpu->conv->interleave4(to, rows, columns, columns);
        else
            memcpy(to, rows[0], (size_t)columns);
    }
}

/* Forward: a column is one k; the depth of a run is contiguous in KRSC. */
static void pack_column_fprop(const struct job *j, int first, int columns, int run, int column)
{
    enum { PART = 256 };
    const struct oct_sweep *v = &j->sweep;
    const int group = j->cpu->tile->group;
    for (int d = 0; d < v->depth; d += PART) {
        int8_t code[2][PART] = {0};
        int8_t *const codes[2] = {code[0], code[1]};
        const int part = v->depth - d < PART ? v->depth - d : PART;
        const int exist = v->run_bytes - d < part ? v->run_bytes - d : part;
        if (first + column < v->columns && exist > 0)
            quantise_row(j, codes, weight_at(j, first + column, place_of(v, run, 0), 0) + d, exist,
                first + column);
        for (int plane = 0; plane < j->args->planes; plane++) {
            int8_t *to = j->out[plane] + v->packed + (int64_t)first * v->runs * v->depth +
                         ((int64_t)run * v->depth + d) * columns + column * group;
            if (group == 4) /* a copy of known size is one move */
                for (int i = 0; i < part; i += 4)
                    memcpy(to + (int64_t)i * columns, code[plane] + i, 4);
            else
                for (int i = 0; i < part; i++)
                    to[(int64_t)i * columns] = code[plane][i];
        }
    }
}

/* init[j] = -flip * (sum of the column's weights), 0 for kernels that read signed codes: minus what
 * the kernel itself makes of a row of code 0. */
static void pack_init(
    const struct job *j, int plane, int first, int columns, struct oct_conv_scratch *scratch)
{
    static const int32_t zeros[OCT_TILE_COLUMNS] = {0}, run[1] = {0};
    static const struct oct_tile row = {0, 1};
    const struct oct_sweep *v = &j->sweep;
    int8_t *pack = j->out[plane] + v->packed;
    int32_t *init = (int32_t *)(void *)(pack + oct_sweep_matrix_bytes(v)) + first;
    const struct oct_tile_gemm g = {.a = scratch->panel,
        .tiles = &row,
        .tile_count = 1,
        .run = run,
        .runs = 1,
        .depth = v->runs * v->depth,
        .b = pack + (int64_t)first * v->runs * v->depth,
        .columns = columns,
        .init = zeros,
        .acc = scratch->acc};
    memset(scratch->panel, j->cpu->tile->flip, (size_t)g.depth);
    j->cpu->tile->gemm(&g);
    for (int i = 0; i < columns; i++)
        init[i] = (int32_t)(0u - (uint32_t)scratch->acc[i]);
}

static void pack_columns(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const struct oct_sweep *v = &j->sweep;
    const int first = (int)item * j->cpu->tile->max_columns;
    const int rest = oct_sweep_columns16(v) - first;
    const int columns = rest < j->cpu->tile->max_columns ? rest : j->cpu->tile->max_columns;
    for (int run = 0; run < v->runs; run++) {
        for (int d = 0; j->dgrad && d < v->depth; d += j->cpu->tile->group)
            pack_depth_dgrad(j, first, columns, run, d);
        for (int i = 0; !j->dgrad && i < columns; i++)
            pack_column_fprop(j, first, columns, run, i);
    }
    for (int plane = 0; plane < j->args->planes; plane++)
        pack_init(j, plane, first, columns, j->cpu->scratch[thread]);
}

void oct_pack_run(struct oct_cpu *cpu, const struct oct_weight_pack_args *a)
{
    for (int dgrad = 0; dgrad < 2; dgrad++) {
        struct job j = {.cpu = cpu,
            .args = a,
            .dgrad = dgrad,
            .out = {dgrad ? a->dgrad : a->fprop, dgrad ? a->dgrad_lo : a->fprop_lo}};
        for (int i = 0; j.out[0] && i < oct_sweep_count(&a->shape, dgrad); i++) {
            oct_sweep_make(&a->shape, cpu->tile, dgrad, i, &j.sweep);
            int blocks = (j.sweep.columns + cpu->tile->max_columns - 1) / cpu->tile->max_columns;
            oct_pool_run(cpu->pool, blocks, pack_columns, &j);
        }
    }
}
