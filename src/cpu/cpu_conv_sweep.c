/* Forward and backward-data on int8: work items are blocks of output pixels times groups of column
 * blocks. A thread copies the input of its block into its panel once, with the halo written there,
 * and then, per block of up to 64 columns, walks the packed weights in pieces that stay in L1. */
#include "cpu/cpu_conv.h"

#include <string.h>

enum {
    SOFT_PANEL_BYTES = 192 << 10,
    PIECE_BYTES = 20 << 10, /* packed weights used again and again from L1 */
    ENOUGH_ITEMS = 16
};

struct job {
    struct oct_cpu *cpu;
    const struct oct_sweep_args *args;
    struct oct_sweep sweep;
    int pixels_w, pixels_h, images; /* of one block */
    int blocks_w, blocks_h, blocks_n;
    int column_blocks, column_groups;
    int64_t row_bytes, image_bytes, plane_bytes; /* of the panel */
    int64_t *stats;                              /* [threads][4][columns16] or NULL */
};

/* The block an item works on. */
struct block {
    int image, images, p, rows, q, columns; /* first and count of images, rows, pixels of a row */
    int pixels;
};

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

static int64_t panel_bytes(const struct oct_sweep *s, int pixels_w, int pixels_h, int images)
{
    int64_t row = (int64_t)oct_axis_extent(&s->w, pixels_w) * s->channels;
    return (row + 63) / 64 * 64 * oct_axis_extent(&s->h, pixels_h) * images;
}

/* Largest even split of `total` into blocks of at most `most`. */
static int even_block(int total, int most)
{
    return ceil_div(total, ceil_div(total, most));
}

/* Fewer columns leave room for more pixels. */
static int columns_of_blocks(const struct job *j)
{
    const int columns16 = oct_sweep_columns16(&j->sweep);
    return columns16 < OCT_TILE_COLUMNS ? columns16 : OCT_TILE_COLUMNS;
}

static void choose_blocks(struct job *j, int planes)
{
    const struct oct_sweep *s = &j->sweep;
    const int most = OCT_BLOCK_ACC / columns_of_blocks(j), target = most / 4 * 3;
    int w = s->w.out, h = 1, n = 1;
    if (w > most)
        w = oct_round_up(even_block(w, target), 12);
    while (w > 1 && planes * panel_bytes(s, w, 1, 1) > OCT_PANEL_BYTES)
        w = (w + 1) / 2;
    if (w == s->w.out) {
        h = clamp(target / w, 1, s->h.out);
        while (h > 1 && planes * panel_bytes(s, w, h, 1) > SOFT_PANEL_BYTES)
            h--;
        h = even_block(s->h.out, h);
    }
    if (w == s->w.out && h == s->h.out) {
        n = clamp(target / (w * h), 1, s->images);
        while (n > 1 && planes * panel_bytes(s, w, h, n) > SOFT_PANEL_BYTES)
            n--;
        n = even_block(s->images, n);
    }
    j->pixels_w = w;
    j->pixels_h = h;
    j->images = n;
    j->blocks_w = ceil_div(s->w.out, w);
    j->blocks_h = ceil_div(s->h.out, h);
    j->blocks_n = ceil_div(s->images, n);
    j->row_bytes = panel_bytes(s, w, 1, 1) / (s->h.taps ? oct_axis_extent(&s->h, 1) : 1);
    j->image_bytes = j->row_bytes * oct_axis_extent(&s->h, h);
    j->plane_bytes = j->image_bytes * n;
}

static void plan_job(struct job *j, struct oct_cpu *cpu, const struct oct_sweep_args *a, int index)
{
    j->cpu = cpu;
    j->args = a;
    oct_sweep_make(a->shape, cpu->tile, a->dgrad, index, &j->sweep);
    if (j->sweep.w.out == 0 || j->sweep.h.out == 0) {
        j->blocks_w = j->blocks_h = j->blocks_n = 0;
        return;
    }
    choose_blocks(j, a->x->planes);
    int blocks = j->blocks_w * j->blocks_h * j->blocks_n;
    j->column_blocks = ceil_div(j->sweep.columns, cpu->tile->max_columns);
    j->column_groups = clamp(ceil_div(ENOUGH_ITEMS, blocks), 1, j->column_blocks);
}

/* One row of the panel: `extent` positions from input position `first` of a row of `a->in`. */
static void fill_row(const struct job *j, uint8_t *to, const int8_t *row, int first, int extent)
{
    const struct oct_sweep_axis *a = &j->sweep.w;
    const int64_t channels = j->sweep.channels;
    const int flip = j->cpu->tile->flip;
    if (a->in_step == 1) {
        int begin = clamp(-first, 0, extent), end = clamp(a->in - first, begin, extent);
        memset(to, flip, (size_t)(begin * channels));
        j->cpu->conv->flip_copy(to + begin * channels, row + (first + begin) * channels,
            (end - begin) * channels, flip);
        memset(to + end * channels, flip, (size_t)((extent - end) * channels));
        return;
    }
    for (int i = 0; i < extent; i++, to += channels) {
        int at = first + i * a->in_step;
        if (at >= 0 && at < a->in)
            j->cpu->conv->flip_copy(to, row + at * channels, channels, flip);
        else
            memset(to, flip, (size_t)channels);
    }
}

static void fill_panel(const struct job *j, const struct block *b, const int8_t *x, uint8_t *panel)
{
    const struct oct_sweep_axis *h = &j->sweep.h, *w = &j->sweep.w;
    const int64_t channels = j->sweep.channels;
    const int extent_h = oct_axis_extent(h, b->rows), extent_w = oct_axis_extent(w, b->columns);
    const int first_h = h->origin + b->p * h->step * h->in_step;
    const int first_w = w->origin + b->q * w->step * w->in_step;
    for (int n = 0; n < b->images; n++) {
        const int8_t *image = x + (int64_t)(b->image + n) * h->in * w->in * channels;
        for (int i = 0; i < extent_h; i++) {
            int at = first_h + i * h->in_step;
            uint8_t *to = panel + n * j->image_bytes + i * j->row_bytes;
            if (at >= 0 && at < h->in)
                fill_row(j, to, image + (int64_t)at * w->in * channels, first_w, extent_w);
            else
                memset(to, j->cpu->tile->flip, (size_t)(extent_w * channels));
        }
    }
}

/* Splits every row of the block into tiles of even heights. */
static int make_tiles(const struct job *j, const struct block *b, int columns, struct oct_tile *out)
{
    const struct oct_sweep *s = &j->sweep;
    const int parts = ceil_div(b->columns, j->cpu->tile->max_rows[columns / 16 - 1]);
    int count = 0;
    for (int n = 0; n < b->images; n++) {
        for (int p = 0; p < b->rows; p++) {
            int64_t row = n * j->image_bytes + p * s->h.step * j->row_bytes;
            for (int t = 0, q = 0; t < parts; t++, count++) {
                out[count].a = (int32_t)(row + (int64_t)q * s->w.step * s->channels);
                out[count].rows = (b->columns - q) / (parts - t);
                q += out[count].rows;
            }
        }
    }
    return count;
}

static void make_runs(const struct job *j, int32_t *run)
{
    const struct oct_sweep *s = &j->sweep;
    const int across = s->row_runs ? 1 : s->w.taps;
    for (int u = 0; u < s->runs; u++)
        run[u] = (int32_t)(u / across * s->h.dilation * j->row_bytes +
                           u % across * s->w.dilation * s->channels);
}

/* acc = all runs of one panel plane times one column block of weights, in pieces: several short
 * runs at a time, or a long run in parts. */
static void multiply(const struct job *j, struct oct_tile_gemm *g, const int8_t *b,
    const int32_t *init, const int32_t *run)
{
    const struct oct_sweep *s = &j->sweep;
    const int unit = j->cpu->tile->depth_unit;
    const int most = PIECE_BYTES / g->columns;
    const int runs = clamp(most / (s->depth ? s->depth : 1), 1, s->runs);
    const int part = s->depth <= most ? s->depth : oct_round_up(even_block(s->depth, most), unit);
    const uint8_t *a = g->a;

    g->init = init;
    if (s->runs == 0) {
        g->runs = 0;
        j->cpu->tile->gemm(g);
    }
    for (int u = 0; u < s->runs; u += runs) {
        for (int d = 0; d < s->depth; d += part) {
            g->a = a + d;
            g->run = run + u;
            g->runs = s->runs - u < runs ? s->runs - u : runs;
            g->depth = s->depth - d < part ? s->depth - d : part;
            g->b = b + ((int64_t)u * s->depth + d) * g->columns;
            j->cpu->tile->gemm(g);
            g->init = NULL;
        }
    }
    g->a = a;
}

/* What differs from column to column. */
struct columns {
    float multiplier[OCT_TILE_COLUMNS], bias[OCT_TILE_COLUMNS];
    int32_t lo[OCT_TILE_COLUMNS], hi[OCT_TILE_COLUMNS], shift_bias[OCT_TILE_COLUMNS];
};

/* Column i of a block is channel k. */
static void merge_column(const struct oct_conv_norm *n, struct columns *out, int i, int k)
{
    const struct oct_bn_clip clip = {n->lo[k], n->hi[k]};
    const struct oct_bn_merged merged =
        oct_bn_merge(n->a[k], n->b[k], clip, out->multiplier[i], n->inverse[0]);
    out->multiplier[i] = merged.scale;
    out->bias[i] = merged.offset;
    out->lo[i] = merged.lo;
    out->hi[i] = merged.hi;
}

/* A column block's, with zeros for the columns that pad it. */
static void load_columns(const struct job *j, int first, int count, struct columns *out)
{
    const struct oct_sweep_args *a = j->args;
    const int codes = a->dtype == OCT_S8 && !a->norm.a;
    for (int i = 0; i < count; i++) {
        int k = first + i, exists = k < j->sweep.columns;
        out->multiplier[i] =
            exists && !codes ? a->x->scale[0] * a->w->scale[a->w->scale_per_k ? k : 0] : 0.0f;
        out->bias[i] = exists && a->bias ? a->bias[k] : 0.0f;
        out->shift_bias[i] = exists && codes ? a->shift.bias[k] : 0;
        if (exists && a->norm.a)
            merge_column(&a->norm, out, i, k);
    }
}

/* Writes the accumulators of a block, as few stretches of evenly spaced pixels as there are. */
static void write_block(const struct job *j, const struct block *b, int first, int columns,
    const int32_t *acc, const int64_t *total)
{
    const struct oct_sweep *s = &j->sweep;
    struct columns of;
    const int rows = b->images * b->rows;
    struct oct_conv_epilogue e = {.columns = clamp(s->columns - first, 0, columns),
        .acc_stride = columns,
        .multiplier = of.multiplier,
        .bias = j->args->bias || j->args->norm.a ? of.bias : NULL,
        .lo = j->args->norm.a ? of.lo : NULL,
        .hi = j->args->norm.a ? of.hi : NULL,
        .shift_bias = of.shift_bias,
        .right = j->args->shift.by ? j->args->shift.by[OCT_SHIFT_RIGHT] : 0,
        .lowest = j->args->relu ? 0 : -OCT_CODE_MAX,
        .out_stride = (int64_t)s->columns * s->w.out_step,
        .dtype = j->args->dtype,
        .mode = j->args->mode};
    const int64_t apart = (int64_t)b->columns * s->w.out_step;
    int64_t expected = 0, start = 0;

    load_columns(j, first, columns, &of);
    for (int i = 0; i <= rows; i++) {
        int64_t image = b->image + i / b->rows;
        int64_t h = s->h.out_first + (int64_t)(b->p + i % b->rows) * s->h.out_step;
        int64_t pixel =
            (image * s->out_h + h) * s->out_w + s->w.out_first + (int64_t)b->q * s->w.out_step;
        if (i == 0)
            start = expected = pixel;
        if (i == rows || pixel != expected) {
            int64_t skip = (int64_t)(i * b->columns - e.rows) * columns;
            e.out = (char *)j->args->out +
                    (start * s->columns + first) * (int64_t)oct_dtype_bytes(e.dtype);
            if (total)
                j->cpu->conv->finish64(&e, total + skip);
            else
                j->cpu->conv->finish32(&e, acc + skip);
            start = pixel;
            e.rows = 0;
        }
        e.rows += b->columns;
        expected = pixel + apart;
    }
}

static void add_stats(const struct job *j, const struct block *b, int first, int columns,
    int thread, const int32_t *acc, const int64_t *total)
{
    const int columns16 = oct_sweep_columns16(&j->sweep);
    int64_t *part = j->stats + (int64_t)thread * 4 * columns16 + first;
    const int64_t largest =
        (int64_t)OCT_CODE_MAX * OCT_CODE_MAX * j->sweep.runs * j->sweep.run_bytes;
    struct oct_conv_stats_block s = {.sum = part,
        .sumsq = part + columns16,
        .min = part + 2 * columns16,
        .max = part + 3 * columns16,
        .shift = j->args->stats->shift,
        .sum_rows = (int)(INT32_MAX / largest)};
    const int exist = clamp(j->sweep.columns - first, 0, columns);
    if (total)
        j->cpu->conv->stats64(&s, total, b->pixels, exist, columns);
    else
        j->cpu->conv->stats32(&s, acc, b->pixels, exist, columns);
}

static void run_columns(const struct job *j, const struct block *b, int first, int columns,
    struct oct_conv_scratch *scratch, int thread)
{
    const struct oct_sweep *s = &j->sweep;
    const struct oct_operand *x = j->args->x, *w = j->args->w;
    const int8_t *const weights[2] = {w->data, w->data_lo};
    const int planes = x->planes * w->planes;
    struct oct_tile_gemm g = {.lda = (ptrdiff_t)s->w.step * s->channels,
        .tiles = scratch->tiles,
        .columns = columns,
        .acc = scratch->acc};

    g.tile_count = make_tiles(j, b, columns, scratch->tiles);
    for (int pair = 0; pair < planes; pair++) {
        int xp = pair / w->planes, wp = pair % w->planes;
        const int8_t *pack = weights[wp] + s->packed;
        const int32_t *init = (const int32_t *)(const void *)(pack + oct_sweep_matrix_bytes(s));
        g.a = scratch->panel + xp * j->plane_bytes;
        multiply(j, &g, pack + (int64_t)first * s->runs * s->depth, init + first, scratch->run);
        if (planes > 1)
            j->cpu->conv->add_plane(scratch->total, scratch->acc, (int64_t)b->pixels * columns,
                OCT_PLANE_SHIFT * (x->planes - 1 - xp + w->planes - 1 - wp), pair == 0);
    }
    const int64_t *total = planes > 1 ? scratch->total : NULL;
    write_block(j, b, first, columns, scratch->acc, total);
    if (j->stats)
        add_stats(j, b, first, columns, thread, scratch->acc, total);
}

static struct block block_of(const struct job *j, int64_t index)
{
    const struct oct_sweep *s = &j->sweep;
    struct block b;
    b.q = (int)(index % j->blocks_w) * j->pixels_w;
    index /= j->blocks_w;
    b.p = (int)(index % j->blocks_h) * j->pixels_h;
    b.image = (int)(index / j->blocks_h) * j->images;
    b.columns = clamp(s->w.out - b.q, 0, j->pixels_w);
    b.rows = clamp(s->h.out - b.p, 0, j->pixels_h);
    b.images = clamp(s->images - b.image, 0, j->images);
    b.pixels = b.columns * b.rows * b.images;
    return b;
}

static void run_item(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    struct oct_conv_scratch *scratch = j->cpu->scratch[thread];
    const int most = j->cpu->tile->max_columns, group = (int)(item % j->column_groups);
    const int begin = j->column_blocks * group / j->column_groups;
    const int end = j->column_blocks * (group + 1) / j->column_groups;
    const struct block b = block_of(j, item / j->column_groups);
    const int8_t *const x[2] = {j->args->x->data, j->args->x->data_lo};

    for (int plane = 0; plane < j->args->x->planes && j->sweep.runs; plane++)
        fill_panel(j, &b, x[plane], scratch->panel + plane * j->plane_bytes);
    make_runs(j, scratch->run);
    for (int i = begin; i < end; i++)
        run_columns(j, &b, i * most, clamp(oct_sweep_columns16(&j->sweep) - i * most, 16, most),
            scratch, thread);
}

static size_t stats_bytes(const struct oct_cpu *cpu, const struct oct_sweep *s)
{
    return (size_t)oct_pool_threads(cpu->pool) * 4 * (size_t)oct_sweep_columns16(s) *
           sizeof(int64_t);
}

static void clear_stats(int64_t *part, int threads, int columns16)
{
    for (int t = 0; t < threads; t++, part += 4 * columns16) {
        for (int k = 0; k < columns16; k++) {
            part[k] = part[columns16 + k] = 0;
            part[2 * columns16 + k] = INT64_MAX;
            part[3 * columns16 + k] = INT64_MIN;
        }
    }
}

static void merge_stats(
    const struct oct_acc_stats *to, const int64_t *part, int threads, int columns, int columns16)
{
    for (int t = 0; t < threads; t++, part += 4 * columns16) {
        for (int k = 0; k < columns; k++) {
            int64_t min = part[2 * columns16 + k], max = part[3 * columns16 + k];
            to->sum[k] += part[k];
            to->sumsq[k] += part[columns16 + k];
            to->min[k] = min < to->min[k] ? min : to->min[k];
            to->max[k] = max > to->max[k] ? max : to->max[k];
        }
    }
}

void oct_sweep_run(struct oct_cpu *cpu, const struct oct_sweep_args *a)
{
    const int threads = oct_pool_threads(cpu->pool);
    for (int i = 0; i < oct_sweep_count(a->shape, a->dgrad); i++) {
        struct job j = {0};
        plan_job(&j, cpu, a, i);
        j.stats = a->stats ? a->workspace : NULL;
        const int columns16 = oct_sweep_columns16(&j.sweep);
        if (j.stats)
            clear_stats(j.stats, threads, columns16);
        oct_pool_run(cpu->pool, (int64_t)j.blocks_w * j.blocks_h * j.blocks_n * j.column_groups,
            run_item, &j);
        if (j.stats)
            merge_stats(a->stats, j.stats, threads, j.sweep.columns, columns16);
    }
}

enum oct_status oct_sweep_check(struct oct_cpu *cpu, const struct oct_sweep_args *a, size_t *bytes)
{
    const char *op = a->dgrad ? "conv_dgrad" : "conv_fprop";
    size_t most = 0;
    for (int i = 0; i < oct_sweep_count(a->shape, a->dgrad); i++) {
        struct job j = {0};
        plan_job(&j, cpu, a, i);
        const int64_t products = (int64_t)j.sweep.runs * j.sweep.run_bytes;
        if (products > OCT_ACC_MAX_K)
            return oct_fail(OCT_UNSUPPORTED,
                "%s: sums of %lld products, an int32 accumulator holds %d: use fewer channels or "
                "a smaller filter",
                op, (long long)products, OCT_ACC_MAX_K);
        if (j.sweep.runs > OCT_MAX_RUNS || j.plane_bytes * a->x->planes > OCT_PANEL_BYTES)
            return oct_fail(OCT_UNSUPPORTED,
                "%s: the input of one output pixel spans %lld bytes and %d runs, at most %d and %d "
                "fit: use a smaller filter or dilation",
                op, (long long)j.plane_bytes * a->x->planes, j.sweep.runs, OCT_PANEL_BYTES,
                OCT_MAX_RUNS);
        most = stats_bytes(cpu, &j.sweep);
    }
    *bytes = a->dgrad ? 0 : most;
    return OCT_OK;
}
