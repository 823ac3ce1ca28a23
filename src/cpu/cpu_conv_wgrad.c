/* Weight gradient on int8. Both operands are rewritten once with pixels along the depth of the
 * product:
 *
 *   X   [plane][view][channel][position]
 *   dY  [plane][column block][position / group][columns][group], zero at positions without output
 *
 * Positions are output pixels, on a grid whose rows may be longer than the output's. Along each
 * axis the taps are reached in one of two ways. Shift: one view per phase of the stride, a tap is a
 * shift of the position; what it reads past the end of a row is the left halo of the next row, so
 * that neighbouring rows (and images) share one halo. Gather: one view per tap, more rewriting but
 * no halo to multiply. The cheaper one is taken. dW[tap][c][k] is then the tile product of a view's
 * rows with dY. Positions are cut into slices, each exact in int32, added as integers; batches
 * whose rewritten form would be large go in groups of images. */
#include "cpu/cpu_conv.h"

#include <string.h>

enum {
    GROUP_BYTES = 64 << 20,   /* rewritten operands of one group of images */
    PARTIAL_BYTES = 32 << 20, /* slices beyond one, all together */
    CHUNK = 512,              /* positions per visit of a tile: 32 KB of dY */
    ENOUGH_ITEMS = 32,
    FEWEST_POSITIONS = 1024, /* of a slice */
    TILE_BYTES = 128 << 10,  /* accumulators of one item, in L2 */
    PACK_POSITIONS = 256,
    REDUCE_ROWS = 16
};

struct axis {
    int in, out, taps, stride, pad, dilation;
    int gather;
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

static int axis_views(const struct axis *a)
{
    return a->gather ? a->taps : a->stride;
}

/* The view that tap t reads, shifted by axis_shift, and the padded input position of its index 0.
 */
static int axis_view(const struct axis *a, int t)
{
    return a->gather ? t : t * a->dilation % a->stride;
}

static int axis_shift(const struct axis *a, int t)
{
    return a->gather ? 0 : t * a->dilation / a->stride;
}

static int view_origin(const struct axis *a, int view)
{
    return a->gather ? view * a->dilation : view;
}

/* Grid indices of a view that hold input: [first, end); the rest is halo. No tap reads a view that
 * is not `used`. */
struct span {
    int first, end, used;
};

static struct span view_span(const struct axis *a, int view)
{
    const int origin = view_origin(a, view);
    struct span s = {0, 0, 0};
    int reach = -1; /* last index a tap of this view reads */
    for (int t = 0; t < a->taps; t++) {
        if (axis_view(a, t) == view)
            reach = a->out - 1 + axis_shift(a, t);
    }
    if (reach < 0)
        return s;
    s.used = 1;
    s.first = a->pad > origin ? ceil_div(a->pad - origin, a->stride) : 0;
    s.end = a->pad + a->in > origin ? ceil_div(a->pad + a->in - origin, a->stride) : 0;
    s.end = s.end < reach + 1 ? s.end : reach + 1;
    if (s.end <= s.first)
        s.first = s.end = 0;
    return s;
}

/* The pitch is the smallest distance of rows at which reading past the end of one meets halo. */
static struct axis make_axis(
    int in, int out, int taps, int stride, int pad, int dilation, int gather)
{
    struct axis a = {in, out, taps, stride, pad, dilation, gather, out};
    for (int t = 0; t < taps; t++) {
        struct span s = view_span(&a, axis_view(&a, t));
        if (s.end > s.first) {
            a.pitch = larger(a.pitch, s.end);
            a.pitch = larger(a.pitch, out + axis_shift(&a, t) - s.first);
        }
    }
    return a;
}

/* Time of one image and channel in units of about a clock: a byte rewritten takes PACK_COST of the
 * time of 256 products. */
static double axes_cost(const struct axis *h, const struct axis *w, int columns)
{
    const double PACK_COST = 0.2;
    return (double)h->pitch * w->pitch *
           ((double)h->taps * w->taps * columns / 256.0 +
               PACK_COST * axis_views(h) * axis_views(w));
}

static void choose_axes(struct job *j, const struct oct_conv_shape *v)
{
    double best = 0.0;
    for (int way = 0; way < 4; way++) {
        struct axis h =
            make_axis(v->h, oct_conv_p(v), v->r, v->stride_h, v->pad_h, v->dilation_h, way >> 1);
        struct axis w =
            make_axis(v->w, oct_conv_q(v), v->s, v->stride_w, v->pad_w, v->dilation_w, way & 1);
        double cost = axes_cost(&h, &w, j->columns16);
        if (way == 0 || cost < best) {
            best = cost;
            j->h = h;
            j->w = w;
        }
    }
}

static int64_t views(const struct job *j)
{
    return (int64_t)axis_views(&j->h) * axis_views(&j->w);
}

static int64_t largest_shift(const struct job *j)
{
    return (int64_t)axis_shift(&j->h, j->h.taps - 1) * j->w.pitch +
           axis_shift(&j->w, j->w.taps - 1);
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
    choose_axes(j, v);

    const int64_t per_position =
        a->x.planes * views(j) * j->channels16 + (int64_t)a->dy.planes * j->columns16;
    const int64_t per_image = (int64_t)j->h.pitch * j->w.pitch * per_position;
    int64_t images = per_image > 0 ? GROUP_BYTES / per_image : v->n;
    images = images < 1 ? 1 : images < v->n ? images : v->n;
    j->group_images = ceil_div(v->n, ceil_div(v->n, (int)images));
    j->length = group_positions(j, j->group_images);
    j->lda = (j->length + largest_shift(j) + OCT_TILE_OVERREAD + 63) / 64 * 64;
    if (j->lda / 64 % 2 == 0)
        j->lda += 64; /* rows a power of two apart would share cache sets */
    j->x_bytes = (size_t)(views(j) * j->channels16 * j->lda);
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
    size_t zero_row = take(&used, (size_t)larger(j->channels16, j->columns16));
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

/* A tensor on the grid, and a walk over its positions. */
struct walk {
    const int8_t *tensor;
    int64_t start;             /* element of grid index (0, 0), which may lie outside */
    int64_t image, row, pixel; /* strides */
    struct span h, w;
    int at_image, at_row, at_column;
};

static void start_walk(const struct job *j, struct walk *walk, int64_t position)
{
    const int64_t row = position / j->w.pitch;
    walk->at_image = (int)(row / j->h.pitch);
    walk->at_row = (int)(row % j->h.pitch);
    walk->at_column = (int)(position % j->w.pitch);
}

static void next_row(const struct job *j, struct walk *walk)
{
    walk->at_column = 0;
    if (++walk->at_row == j->h.pitch) {
        walk->at_row = 0;
        walk->at_image++;
    }
}

/* from[] = addresses of the next `count` pixels; halo is the zero row. */
static void take_pixels(const struct job *j, struct walk *k, int count, const int8_t **from)
{
    for (int n = 0; n < count;) {
        const int row_exists =
            k->at_image < j->images && k->at_row >= k->h.first && k->at_row < k->h.end;
        const int inside = row_exists && k->at_column >= k->w.first && k->at_column < k->w.end;
        const int8_t *pixel = j->zero_row;
        int end = j->w.pitch;
        if (inside) {
            end = k->w.end;
            pixel = k->tensor + (k->start + k->at_image * k->image + k->at_row * k->row +
                                    k->at_column * k->pixel);
        } else if (row_exists && k->at_column < k->w.first) {
            end = k->w.first;
        }
        end = end - k->at_column < count - n ? end : k->at_column + count - n;
        for (; k->at_column < end; k->at_column++, n++) {
            from[n] = pixel;
            pixel += inside ? k->pixel : 0;
        }
        if (k->at_column == j->w.pitch)
            next_row(j, k);
    }
}

static struct walk view_of_x(const struct job *j, int view, int plane)
{
    const int views_w = axis_views(&j->w);
    const int64_t channels = j->channels, row = j->w.in * channels, image = j->h.in * row;
    struct walk walk = {.tensor = plane ? j->args->x.data_lo : j->args->x.data,
        .image = image,
        .row = j->h.stride * row,
        .pixel = j->w.stride * channels,
        .h = view_span(&j->h, view / views_w),
        .w = view_span(&j->w, view % views_w)};
    walk.start = j->first_image * image + (view_origin(&j->h, view / views_w) - j->h.pad) * row +
                 (view_origin(&j->w, view % views_w) - j->w.pad) * channels;
    return walk;
}

static struct walk whole_dy(const struct job *j, int plane)
{
    const int64_t pixel = j->columns, row = j->w.out * pixel, image = j->h.out * row;
    struct walk walk = {.tensor = plane ? j->args->dy.data_lo : j->args->dy.data,
        .start = j->first_image * image,
        .image = image,
        .row = row,
        .pixel = pixel,
        .h = {0, j->h.out, 1},
        .w = {0, j->w.out, 1}};
    return walk;
}

/* Item: PACK_POSITIONS positions of one view of one plane of X, all channels. */
static void pack_x(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const int64_t ranges = (j->lda + PACK_POSITIONS - 1) / PACK_POSITIONS;
    const int64_t begin = item % ranges * PACK_POSITIONS;
    const int64_t end = begin + PACK_POSITIONS < j->lda ? begin + PACK_POSITIONS : j->lda;
    const int view = (int)(item / ranges % views(j)), plane = (int)(item / ranges / views(j));
    uint8_t *to = j->x + (size_t)plane * j->x_bytes + view * j->channels16 * j->lda;
    struct walk walk = view_of_x(j, view, plane);

    (void)thread;
    if (!walk.h.used || !walk.w.used)
        return;
    start_walk(j, &walk, begin);
    for (int64_t position = begin; position < end; position += 64) {
        const int8_t *from[64];
        take_pixels(j, &walk, 64, from);
        j->cpu->conv->transpose64(to + position, j->lda, from, j->channels, j->cpu->tile->flip);
    }
}

/* 64 pixels of dY to one column block. */
static void pack_dy_block(
    const struct job *j, int8_t *to, const int8_t *const from[64], int first, int columns)
{
    const int group = j->cpu->tile->group;
    const int exist = j->columns - first < columns ? j->columns - first : columns;
    for (int n = 0; n < 64; n += group, to += group * columns) {
        if (group == 4) {
            const int8_t *const rows[4] = {
                from[n] + first, from[n + 1] + first, from[n + 2] + first, from[n + 3] + first};
            j->cpu->conv->interleave4(to, rows, exist, columns);
        } else {
            memcpy(to, from[n] + first, (size_t)exist);
            memset(to + exist, 0, (size_t)(columns - exist));
        }
    }
}

/* Item: PACK_POSITIONS positions of one plane of dY, all columns. */
static void pack_dy(void *job, int64_t item, int thread)
{
    const struct job *j = job;
    const int most = j->cpu->tile->max_columns;
    const int64_t ranges = (j->positions + PACK_POSITIONS - 1) / PACK_POSITIONS;
    const int64_t begin = item % ranges * PACK_POSITIONS;
    const int64_t end =
        begin + PACK_POSITIONS < j->positions ? begin + PACK_POSITIONS : j->positions;
    const int plane = (int)(item / ranges);
    int8_t *to = j->dy + (size_t)plane * j->dy_bytes;
    struct walk walk = whole_dy(j, plane);

    (void)thread;
    start_walk(j, &walk, begin);
    for (int64_t position = begin; position < end; position += 64) {
        const int8_t *from[64];
        take_pixels(j, &walk, 64, from);
        for (int first = 0; first < j->columns16; first += most) {
            const int columns = j->columns16 - first < most ? j->columns16 - first : most;
            pack_dy_block(j, to + first * j->positions + position * columns, from, first, columns);
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

static int64_t tap_shift(const struct job *j, int tap, int *view)
{
    const int r = tap / j->w.taps, s = tap % j->w.taps;
    *view = axis_view(&j->h, r) * axis_views(&j->w) + axis_view(&j->w, s);
    return (int64_t)axis_shift(&j->h, r) * j->w.pitch + axis_shift(&j->w, s);
}

/* Adds the products of one chunk of positions to all taps of a region, and to the offset row. */
static void multiply_chunk(const struct job *j, const struct region *v, struct oct_tile_gemm *g,
    const uint8_t *x, int32_t *partial, int64_t position)
{
    const struct oct_tile row = {0, 1};
    const struct oct_tile *tiles = g->tiles;
    const int tile_count = g->tile_count;
    for (int tap = 0; tap < j->taps; tap++) {
        int view;
        int64_t shift = tap_shift(j, tap, &view);
        g->a = x + view * j->channels16 * j->lda + shift + position;
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

    const int64_t visits = larger((int)((v.end - v.begin + CHUNK - 1) / CHUNK), 1);
    const int64_t chunk = ((v.end - v.begin + visits - 1) / visits + 63) / 64 * 64;

    g.tile_count = make_tiles(j, v.first_channel, v.channels, v.columns, scratch->tiles);
    for (int pair = 0; pair < j->args->x.planes * j->args->dy.planes; pair++) {
        const size_t xp = (size_t)(pair / j->args->dy.planes);
        const size_t dp = (size_t)(pair % j->args->dy.planes);
        int32_t *partial = j->partial +
                           (pair * j->slices + slice) * (int64_t)(j->partial_bytes / 4) +
                           v.first_column * j->rows;
        g.init = zeros;
        /* a slice without positions still has to become zero: one visit of depth 0 */
        for (int64_t p = v.begin; p < v.end || g.init; p += chunk) {
            g.depth = (int)(v.end - p < chunk ? v.end - p : chunk);
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
    float multiplier[OCT_TILE_COLUMNS];
    struct oct_conv_gradient g = {.rows = rows,
        .columns = columns,
        .multiplier = multiplier,
        .out = j->args->dw + first_column * (j->rows - 1) + first_row,
        .out_stride = j->rows - 1,
        .mode = j->args->mode};
    g.valid = j->columns - first_column < columns ? j->columns - first_column : columns;
    for (int k = 0; k < columns; k++)
        multiplier[k] =
            k < g.valid ? x->scale[0] * dy->scale[dy->scale_per_k ? first_column + k : 0] : 0.0f;
    j->cpu->conv->write_gradient(&g, total);
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
    const int one_group = j->group_images >= j->args->shape.n;
    int64_t *total = one_group ? ((struct oct_conv_scratch *)j->cpu->scratch[thread])->total
                               : j->total + first_column * j->rows + first_row * columns;

    for (int part = 0; part < x_planes * dy_planes * j->slices; part++) {
        const int pair = part / j->slices;
        const int32_t *acc =
            j->partial + part * (int64_t)(j->partial_bytes / 4) + first_column * j->rows;
        const struct oct_conv_partial p = {.acc = acc + first_row * columns,
            .offset = acc + (j->rows - 1) * columns,
            .rows = rows,
            .columns = columns,
            .shift = OCT_PLANE_SHIFT *
                     (x_planes - 1 - pair / dy_planes + dy_planes - 1 - pair % dy_planes)};
        j->cpu->conv->add_partial(total, &p, part == 0 && j->first_image == 0);
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
    memset(j.zero_row, 0, (size_t)larger(j.channels16, j.columns16));

    const int64_t x_items =
        a->x.planes * views(&j) * ((j.lda + PACK_POSITIONS - 1) / PACK_POSITIONS);
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
