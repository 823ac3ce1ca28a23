/* Weight gradient on int8. Both operands are rewritten once with pixels along the depth of the
 * product, on one grid on which every filter tap is a shift of the linear pixel index:
 *
 *   X   [plane][phase][channel][position]      phase = (row, column) modulo the stride
 *   dY  [plane][column block][position / group][columns][group], zero at positions without output
 *
 * Rows of the grid are `pitch` apart; what a shifted tap reads past the end of a row is the left
 * halo of the next, so that neighbouring rows (and images) share one halo. dW[tap][c][k] is then
 * the tile product of X rows at the tap's shift with dY. Positions are cut into slices, each exact
 * in int32, added as integers; batches whose rewritten form would be large go in groups of images.
 */
#include "cpu/cpu_conv.h"

#include <string.h>

enum {
    GROUP_BYTES = 64 << 20,   /* rewritten operands of one group of images */
    PARTIAL_BYTES = 32 << 20, /* slices beyond one, all together */
    CHUNK = 256,              /* positions per visit of a tile: 16 KB of dY in L1 */
    ENOUGH_ITEMS = 32,
    FEWEST_POSITIONS = 1024, /* of a slice */
    TILE_BYTES = 192 << 10,  /* accumulators of one item, in L2 */
    PACK_POSITIONS = 256,
    REDUCE_ROWS = 16,
    MAX_PAIRS = 4
};

struct axis {
    int in, out, taps, stride, pad, dilation;
    int pitch;
};

struct job {
    struct oct_cpu *cpu;
    const struct oct_conv_wgrad_args *args;
    struct axis h, w;
    int channels, channels16, columns, columns16, taps;
    int group_images;    /* of the largest group */
    int64_t length, lda; /* of the largest group: positions, bytes of an X row */
    int slices, channel_blocks, block_channels, column_blocks;
    int64_t rows; /* of a partial sum: taps * channels, and the offset row */
    size_t x_bytes, dy_bytes, partial_bytes; /* of one plane; of one plane; of one pair's slice */
    uint8_t *x, *offset_row;                 /* parts of the workspace */
    int8_t *dy, *zero_row;
    int32_t *partial;
    int64_t *total; /* [rows][columns16], with several groups */
    /* the group of images being worked on */
    int first_image, images, last;
    int64_t positions; /* a multiple of 64 */
};

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Grid indices of one phase that hold input: [first, end); the rest is halo. No tap reads a phase
 * that is not `used`. */
struct span {
    int first, end, used;
};

static struct span phase_span(const struct axis *a, int phase)
{
    struct span s = {0, 0, 0};
    int reach = -1; /* last index a tap of this phase reads */
    for (int t = 0; t < a->taps; t++) {
        if (t * a->dilation % a->stride == phase)
            reach = a->out - 1 + t * a->dilation / a->stride;
    }
    if (reach < 0)
        return s;
    s.used = 1;
    s.first = a->pad > phase ? ceil_div(a->pad - phase, a->stride) : 0;
    s.end = a->pad + a->in > phase ? ceil_div(a->pad + a->in - phase, a->stride) : 0;
    s.end = s.end < reach + 1 ? s.end : reach + 1;
    if (s.end <= s.first)
        s.first = s.end = 0;
    return s;
}

/* Smallest distance of rows at which reading past the end of a row meets halo only. */
static struct axis make_axis(int in, int out, int taps, int stride, int pad, int dilation)
{
    struct axis a = {in, out, taps, stride, pad, dilation, out};
    for (int t = 0; t < taps; t++) {
        struct span s = phase_span(&a, t * dilation % stride);
        if (s.end > s.first) {
            a.pitch = larger(a.pitch, s.end);
            a.pitch = larger(a.pitch, out + t * dilation / stride - s.first);
        }
    }
    return a;
}

static int64_t largest_shift(const struct job *j)
{
    return (int64_t)((j->h.taps - 1) * j->h.dilation / j->h.stride) * j->w.pitch +
           (j->w.taps - 1) * j->w.dilation / j->w.stride;
}

static int64_t group_positions(const struct job *j, int images)
{
    return ((int64_t)images * j->h.pitch * j->w.pitch + 63) / 64 * 64;
}

static void plan_blocks(struct job *j)
{
    const int most = j->cpu->tile->max_columns;
    const int columns = j->columns16 < most ? j->columns16 : most;
    const int pairs = j->args->x.planes * j->args->dy.planes;
    int channels = TILE_BYTES / (4 * columns * j->taps);
    channels = larger(channels < 512 ? channels : 512, 16);
    j->column_blocks = ceil_div(j->columns16, most);
    j->channel_blocks = ceil_div(j->channels, channels);
    j->block_channels = ceil_div(j->channels, j->channel_blocks);
    j->channel_blocks = ceil_div(j->channels, j->block_channels);
    j->rows = (int64_t)j->taps * j->channels + 1;
    j->partial_bytes = (size_t)(j->rows * j->columns16) * sizeof(int32_t);

    int64_t slices = ceil_div(ENOUGH_ITEMS, j->column_blocks * j->channel_blocks);
    int64_t fewest = (j->length + OCT_WGRAD_CHUNK - 1) / OCT_WGRAD_CHUNK;
    int64_t worthwhile = j->length / FEWEST_POSITIONS;
    int64_t affordable = PARTIAL_BYTES / (int64_t)(j->partial_bytes * (size_t)pairs);
    slices = slices < worthwhile ? slices : worthwhile;
    slices = slices < affordable ? slices : affordable;
    j->slices = (int)(slices > fewest ? slices : fewest);
}

static void plan(struct job *j, struct oct_cpu *cpu, const struct oct_conv_wgrad_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    *j = (struct job){.cpu = cpu,
        .args = a,
        .channels = v->c,
        .columns = v->k,
        .channels16 = oct_round_up(v->c, 16),
        .columns16 = oct_round_up(v->k, 16),
        .taps = v->r * v->s};
    j->h = make_axis(v->h, oct_conv_p(v), v->r, v->stride_h, v->pad_h, v->dilation_h);
    j->w = make_axis(v->w, oct_conv_q(v), v->s, v->stride_w, v->pad_w, v->dilation_w);

    const int64_t phases = (int64_t)v->stride_h * v->stride_w;
    const int64_t per_position =
        a->x.planes * phases * j->channels16 + (int64_t)a->dy.planes * j->columns16;
    const int64_t per_image = (int64_t)j->h.pitch * j->w.pitch * per_position;
    int64_t images = per_image > 0 ? GROUP_BYTES / per_image : v->n;
    images = images < 1 ? 1 : images < v->n ? images : v->n;
    j->group_images = ceil_div(v->n, ceil_div(v->n, (int)images));
    j->length = group_positions(j, j->group_images);
    j->lda = (j->length + largest_shift(j) + OCT_TILE_OVERREAD + 63) / 64 * 64;
    if (j->lda / 64 % 2 == 0)
        j->lda += 64; /* rows a power of two apart would share cache sets */
    j->x_bytes = (size_t)(phases * j->channels16 * j->lda);
    j->dy_bytes = (size_t)(j->columns16 * j->length);
    plan_blocks(j);
}

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

/* Divides the workspace (NULL: only counts); returns its bytes. */
static size_t place_parts(struct job *j, char *workspace)
{
    const size_t x_planes = (size_t)j->args->x.planes, dy_planes = (size_t)j->args->dy.planes;
    size_t used = 0;
    size_t x = take(&used, x_planes * j->x_bytes);
    size_t offset_row = take(&used, (size_t)j->lda);
    size_t dy = take(&used, dy_planes * j->dy_bytes);
    size_t zero_row = take(&used, (size_t)larger(j->channels, j->columns));
    size_t partial = take(&used, x_planes * dy_planes * (size_t)j->slices * j->partial_bytes);
    size_t total = take(&used, j->group_images < j->args->shape.n ? 2 * j->partial_bytes : 0);
    if (workspace) {
        j->x = (uint8_t *)workspace + x;
        j->offset_row = (uint8_t *)workspace + offset_row;
        j->dy = (int8_t *)workspace + dy;
        j->zero_row = (int8_t *)workspace + zero_row;
        j->partial = (int32_t *)(void *)(workspace + partial);
        j->total = (int64_t *)(void *)(workspace + total);
    }
    return used;
}

/* ---- rewriting the operands ---- */

/* A walk over grid positions. */
struct cursor {
    int image, i, k;
};

static struct cursor cursor_at(const struct job *j, int64_t position)
{
    const int64_t row = position / j->w.pitch;
    struct cursor c = {
        (int)(row / j->h.pitch), (int)(row % j->h.pitch), (int)(position % j->w.pitch)};
    return c;
}

static void advance(const struct job *j, struct cursor *c)
{
    if (++c->k < j->w.pitch)
        return;
    c->k = 0;
    if (++c->i < j->h.pitch)
        return;
    c->i = 0;
    c->image++;
}

/* Item: PACK_POSITIONS positions of one phase of one plane of X, all channels. */
static void pack_x(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const int64_t ranges = (j->lda + PACK_POSITIONS - 1) / PACK_POSITIONS;
    const int64_t begin = item % ranges * PACK_POSITIONS;
    const int64_t end = begin + PACK_POSITIONS < j->lda ? begin + PACK_POSITIONS : j->lda;
    const int64_t phases = (int64_t)j->h.stride * j->w.stride;
    const int phase = (int)(item / ranges % phases), plane = (int)(item / ranges / phases);
    const int phase_h = phase / j->w.stride, phase_w = phase % j->w.stride;
    const struct span h = phase_span(&j->h, phase_h), w = phase_span(&j->w, phase_w);
    const int8_t *x = plane ? j->args->x.data_lo : j->args->x.data;
    uint8_t *to = j->x + (size_t)plane * j->x_bytes + phase * j->channels16 * j->lda;
    struct cursor at = cursor_at(j, begin);

    (void)thread;
    if (!h.used || !w.used)
        return;
    if (h.end == h.first || w.end == w.first) {
        for (int c = 0; c < j->channels16; c++)
            memset(to + c * j->lda + begin, j->cpu->tile->flip, (size_t)(end - begin));
        return;
    }
    for (int64_t position = begin; position < end; position += 16) {
        const int8_t *from[16];
        for (int n = 0; n < 16; n++, advance(j, &at)) {
            int64_t row = at.i * j->h.stride + phase_h - j->h.pad;
            int64_t column = at.k * j->w.stride + phase_w - j->w.pad;
            from[n] = j->zero_row;
            if (at.image < j->images && at.i >= h.first && at.i < h.end && at.k >= w.first &&
                at.k < w.end)
                from[n] = x + (((int64_t)(j->first_image + at.image) * j->h.in + row) * j->w.in +
                                  column) *
                                  j->channels;
        }
        j->cpu->conv->transpose16(to + position, j->lda, from, j->channels, j->cpu->tile->flip);
    }
}

/* Item: PACK_POSITIONS positions of one plane of dY, all columns. */
static void pack_dy(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const int most = j->cpu->tile->max_columns, group = j->cpu->tile->group;
    const int64_t ranges = (j->positions + PACK_POSITIONS - 1) / PACK_POSITIONS;
    const int64_t begin = item % ranges * PACK_POSITIONS;
    const int64_t end =
        begin + PACK_POSITIONS < j->positions ? begin + PACK_POSITIONS : j->positions;
    const int plane = (int)(item / ranges);
    const int8_t *dy = plane ? j->args->dy.data_lo : j->args->dy.data;
    int8_t *to = j->dy + (size_t)plane * j->dy_bytes;
    struct cursor at = cursor_at(j, begin);

    (void)thread;
    for (int64_t position = begin; position < end; position += group) {
        const int8_t *from[4];
        int exist[4];
        for (int n = 0; n < group; n++, advance(j, &at)) {
            exist[n] = at.image < j->images && at.i < j->h.out && at.k < j->w.out;
            from[n] =
                exist[n]
                    ? dy + (((int64_t)(j->first_image + at.image) * j->h.out + at.i) * j->w.out +
                               at.k) *
                               j->columns
                    : j->zero_row;
        }
        for (int first = 0; first < j->columns16; first += most) {
            const int columns = j->columns16 - first < most ? j->columns16 - first : most;
            const int real = j->columns - first < columns ? j->columns - first : columns;
            int8_t *out = to + first * j->positions + position * columns;
            const int8_t *const rows[4] = {from[0] + (exist[0] ? first : 0),
                group > 1 ? from[1] + (exist[1] ? first : 0) : NULL,
                group > 1 ? from[2] + (exist[2] ? first : 0) : NULL,
                group > 1 ? from[3] + (exist[3] ? first : 0) : NULL};
            if (group == 4) {
                j->cpu->conv->interleave4(out, rows, real, columns);
            } else {
                memcpy(out, rows[0], (size_t)real);
                memset(out + real, 0, (size_t)(columns - real));
            }
        }
    }
}

/* ---- the product ---- */

static int make_tiles(
    const struct job *j, int first, int channels, int columns, struct oct_tile *tiles)
{
    const int parts = ceil_div(channels, j->cpu->tile->max_rows[columns / 16 - 1]);
    for (int t = 0, c = 0; t < parts; t++) {
        tiles[t].a = (int32_t)((first + c) * j->lda);
        tiles[t].rows = (channels - c) / (parts - t);
        c += tiles[t].rows;
    }
    return parts;
}

struct region {
    int first_channel, channels, first_column, columns;
    int64_t begin, end; /* positions */
};

static int64_t tap_shift(const struct job *j, int tap, int *phase)
{
    int r = tap / j->w.taps * j->h.dilation, s = tap % j->w.taps * j->w.dilation;
    *phase = r % j->h.stride * j->w.stride + s % j->w.stride;
    return (int64_t)(r / j->h.stride) * j->w.pitch + s / j->w.stride;
}

/* Adds the products of one chunk of positions to all taps of a region, and to the offset row. */
static void multiply_chunk(const struct job *j, const struct region *v, struct oct_tile_gemm *g,
    const uint8_t *x, int32_t *partial, int64_t position)
{
    const struct oct_tile row = {0, 1};
    const struct oct_tile *tiles = g->tiles;
    const int tile_count = g->tile_count;
    for (int tap = 0; tap < j->taps; tap++) {
        int phase;
        int64_t shift = tap_shift(j, tap, &phase);
        g->a = x + phase * j->channels16 * j->lda + shift + position;
        g->acc = partial + ((int64_t)tap * j->channels + v->first_channel) * v->columns;
        j->cpu->tile->gemm(g);
    }
    if (v->first_channel == 0) {
        g->a = j->offset_row;
        g->acc = partial + (j->rows - 1) * v->columns;
        g->tiles = &row;
        g->tile_count = 1;
        j->cpu->tile->gemm(g);
        g->tiles = tiles;
        g->tile_count = tile_count;
    }
}

static struct region region_of(const struct job *j, int64_t item)
{
    const int most = j->cpu->tile->max_columns;
    struct region v;
    const int64_t slice = item / ((int64_t)j->channel_blocks * j->column_blocks);
    v.first_channel = (int)(item / j->column_blocks % j->channel_blocks) * j->block_channels;
    v.channels = j->channels - v.first_channel < j->block_channels ? j->channels - v.first_channel
                                                                   : j->block_channels;
    v.first_column = (int)(item % j->column_blocks) * most;
    v.columns = j->columns16 - v.first_column < most ? j->columns16 - v.first_column : most;
    v.begin = j->positions / 64 * slice / j->slices * 64;
    v.end = j->positions / 64 * (slice + 1) / j->slices * 64;
    return v;
}

/* Item: one block of output channels (columns), one of input channels, one slice of positions. */
static void multiply(void *job, int64_t item, int thread)
{
    static const int32_t zeros[OCT_TILE_COLUMNS] = {0}, run[1] = {0};
    const struct job *j = job;
    struct oct_conv_scratch *scratch = j->cpu->scratch[thread];
    const struct region v = region_of(j, item);
    const int64_t slice = item / ((int64_t)j->channel_blocks * j->column_blocks);
    struct oct_tile_gemm g = {
        .lda = j->lda, .tiles = scratch->tiles, .run = run, .runs = 1, .columns = v.columns};

    g.tile_count = make_tiles(j, v.first_channel, v.channels, v.columns, scratch->tiles);
    for (int pair = 0; pair < j->args->x.planes * j->args->dy.planes; pair++) {
        const size_t xp = (size_t)(pair / j->args->dy.planes);
        const size_t dp = (size_t)(pair % j->args->dy.planes);
        int32_t *partial = j->partial +
                           (pair * j->slices + slice) * (int64_t)(j->partial_bytes / 4) +
                           v.first_column * j->rows;
        g.init = zeros;
        /* a slice without positions still has to become zero: one visit of depth 0 */
        for (int64_t p = v.begin; p < v.end || g.init; p += CHUNK) {
            g.depth = (int)(v.end - p < CHUNK ? v.end - p : CHUNK);
            g.b = j->dy + dp * j->dy_bytes + v.first_column * j->positions + p * v.columns;
            multiply_chunk(j, &v, &g, j->x + xp * j->x_bytes, partial, p);
            g.init = NULL;
        }
    }
}

/* ---- integer sums to the gradient ---- */

static void write_rows(const struct job *j, const int64_t *total, int64_t first_row, int rows,
    int first_column, int columns)
{
    const struct oct_operand *x = &j->args->x, *dy = &j->args->dy;
    const int64_t filter = j->rows - 1;
    for (int k = 0; k < columns && first_column + k < j->columns; k++) {
        const float m = x->scale[0] * dy->scale[dy->scale_per_k ? first_column + k : 0];
        float *out = j->args->dw + (first_column + k) * filter + first_row;
        for (int i = 0; i < rows; i++) {
            float f = (float)total[i * columns + k] * m;
            out[i] = j->args->mode == OCT_ACCUMULATE ? out[i] + f : f;
        }
    }
}

/* Item: REDUCE_ROWS rows (tap, c) of one column block, all slices and pairs of planes. */
static void reduce(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const int most = j->cpu->tile->max_columns, x_planes = j->args->x.planes;
    const int dy_planes = j->args->dy.planes;
    const int first_column = (int)(item % j->column_blocks) * most;
    const int columns = j->columns16 - first_column < most ? j->columns16 - first_column : most;
    const int64_t first_row = item / j->column_blocks * REDUCE_ROWS;
    const int64_t left = j->rows - 1 - first_row;
    const int rows = (int)(left < REDUCE_ROWS ? left : REDUCE_ROWS);
    int64_t *scratch = ((struct oct_conv_scratch *)j->cpu->scratch[thread])->total;
    int64_t *total = scratch;

    if (j->group_images < j->args->shape.n)
        total = j->total + first_column * j->rows + first_row * columns;
    if (total == scratch || j->first_image == 0)
        memset(total, 0, (size_t)(rows * columns) * sizeof *total);
    for (int pair = 0; pair < x_planes * dy_planes; pair++) {
        const int shift =
            OCT_PLANE_SHIFT * (x_planes - 1 - pair / dy_planes + dy_planes - 1 - pair % dy_planes);
        for (int slice = 0; slice < j->slices; slice++) {
            const int32_t *acc = j->partial +
                                 (pair * j->slices + slice) * (int64_t)(j->partial_bytes / 4) +
                                 first_column * j->rows;
            struct oct_conv_partial part = {
                acc + first_row * columns, acc + (j->rows - 1) * columns, shift};
            j->cpu->conv->add_partial(total, &part, rows, columns);
        }
    }
    if (j->last)
        write_rows(j, total, first_row, rows, first_column, columns);
}

void oct_wgrad_run(struct oct_cpu *cpu, const struct oct_conv_wgrad_args *a)
{
    struct job j;
    plan(&j, cpu, a);
    place_parts(&j, a->workspace);
    memset(j.offset_row, cpu->tile->flip, (size_t)j.lda);
    memset(j.zero_row, 0, (size_t)larger(j.channels, j.columns));

    const int64_t x_items = (int64_t)a->x.planes * j.h.stride * j.w.stride *
                            ((j.lda + PACK_POSITIONS - 1) / PACK_POSITIONS);
    const int64_t row_blocks = (j.rows - 1 + REDUCE_ROWS - 1) / REDUCE_ROWS;
    for (; j.first_image < a->shape.n; j.first_image += j.group_images) {
        const int left = a->shape.n - j.first_image;
        j.images = left < j.group_images ? left : j.group_images;
        j.last = left <= j.group_images;
        j.positions = group_positions(&j, j.images);
        oct_pool_run(cpu->pool, x_items, pack_x, &j);
        oct_pool_run(cpu->pool,
            a->dy.planes * ((j.positions + PACK_POSITIONS - 1) / PACK_POSITIONS), pack_dy, &j);
        oct_pool_run(
            cpu->pool, (int64_t)j.slices * j.channel_blocks * j.column_blocks, multiply, &j);
        oct_pool_run(cpu->pool, row_blocks * j.column_blocks, reduce, &j);
    }
}

enum oct_status oct_wgrad_check(
    struct oct_cpu *cpu, const struct oct_conv_wgrad_args *a, size_t *bytes)
{
    struct job j;
    plan(&j, cpu, a);
    if (j.channels16 * j.lda > INT32_MAX)
        return oct_fail(OCT_UNSUPPORTED,
            "conv_wgrad: one image of %d x %d x %d is too large for 32-bit offsets", a->shape.h,
            a->shape.w, a->shape.c);
    *bytes = place_parts(&j, NULL);
    return OCT_OK;
}
