#include "base/gpu_cut.h"

/* Backward-data: input row h = phase + stride i receives output row p through filter row r where
 * h + pad = p stride + r dilation. With g = gcd(dilation, stride) such r are r0, r0 + stride / g,
 * ..., and each step to the next one lowers p by dilation / g. Taken from the last to the first,
 * p rises. */
static struct oct_gpu_axis dgrad_axis(
    int in, int out, int filter, int stride, int pad, int dilation, int phase)
{
    int filter_step = 1, first = 0, taps = 0;
    while (filter_step * dilation % stride != 0)
        filter_step++;
    while (first < filter_step && (phase + pad - first * dilation) % stride != 0)
        first++;
    if (first < filter_step && first < filter)
        taps = (filter - 1 - first) / filter_step + 1;
    const int tap_step = filter_step * dilation / stride;
    const int last = first + (taps - 1) * filter_step;
    struct oct_gpu_axis a = {.out = (in - phase + stride - 1) / stride,
        .out_first = phase,
        .out_step = stride,
        .in = out,
        .step = 1,
        .taps = taps,
        .tap_step = tap_step,
        .filter_first = last,
        .filter_step = -filter_step};
    a.origin = taps ? (phase + pad - last * dilation) / stride : 0;
    return a;
}

static struct oct_gpu_axis fprop_axis(
    int in, int out, int filter, int stride, int pad, int dilation)
{
    struct oct_gpu_axis a = {.out = out,
        .out_step = 1,
        .in = in,
        .step = stride,
        .origin = -pad,
        .taps = filter,
        .tap_step = dilation,
        .filter_step = 1};
    return a;
}

/* A stride longer than the image has phases without a pixel; they are not counted. */
static int phases(int stride, int in)
{
    return stride < in ? stride : in;
}

int oct_gpu_sweep_count(const struct oct_conv_shape *v, int dgrad)
{
    return dgrad ? phases(v->stride_h, v->h) * phases(v->stride_w, v->w) : 1;
}

/* Columns of an input of stride 2 and more are folded by the stride, rows as well; where the taps
 * of a row fit beside each other, by those: fewer, fuller chunks. */
struct oct_gpu_fold oct_gpu_fold_of(const struct oct_conv_shape *v)
{
    struct oct_gpu_fold f = {.down = v->stride_h, .shape = *v};
    const int row = v->stride_h * v->c;
    f.across = (int64_t)row * v->s <= OCT_GPU_FOLDED && v->s > v->stride_w ? v->s : v->stride_w;
    if (v->c % OCT_GPU_FOLDED == 0 || (int64_t)row * f.across > OCT_GPU_FOLDED ||
        v->dilation_h != 1 || v->dilation_w != 1) {
        f.down = f.across = 0;
        return f;
    }
    f.shape.r = (v->r - 1) / f.down + 1;
    f.shape.s = (v->s - 1) / f.across + 1;
    f.shape.h = oct_conv_p(v) + f.shape.r - 1;
    f.shape.w = oct_conv_q(v) + f.shape.s - 1;
    f.shape.c = OCT_GPU_FOLDED;
    f.shape.stride_h = f.shape.stride_w = 1;
    f.shape.pad_h = f.shape.pad_w = 0;
    return f;
}

size_t oct_gpu_fold_bytes(const struct oct_gpu_fold *f, int planes)
{
    return f->down ? (size_t)planes * (size_t)oct_conv_x_elements(&f->shape) : 0;
}

static void make_one(const struct oct_conv_shape *v, int dgrad, int index, struct oct_gpu_sweep *s)
{
    const int p = oct_conv_p(v), q = oct_conv_q(v), across = phases(v->stride_w, v->w);
    *s = (struct oct_gpu_sweep){.images = v->n,
        .channels = dgrad ? v->k : v->c,
        .columns = dgrad ? v->c : v->k,
        .out_h = dgrad ? v->h : p,
        .out_w = dgrad ? v->w : q};
    if (dgrad) {
        s->h = dgrad_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h, index / across);
        s->w = dgrad_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w, index % across);
    } else {
        s->h = fprop_axis(v->h, p, v->r, v->stride_h, v->pad_h, v->dilation_h);
        s->w = fprop_axis(v->w, q, v->s, v->stride_w, v->pad_w, v->dilation_w);
    }
    s->depth = (int64_t)s->h.taps * s->w.taps * s->channels;
}

void oct_gpu_sweep_make(
    const struct oct_conv_shape *v, int dgrad, int index, struct oct_gpu_sweep *s)
{
    const struct oct_gpu_fold fold = oct_gpu_fold_of(v);
    int64_t packed = 0;
    if (!dgrad)
        v = &fold.shape;
    for (int i = 0; i < index; i++) {
        make_one(v, dgrad, i, s);
        packed += s->columns * oct_gpu_sweep_pitch(s);
    }
    make_one(v, dgrad, index, s);
    s->packed = packed;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* The widest tile that the columns fill; with few pixels a smaller one, so that every
 * multiprocessor has a block. */
static int widest_tile(int64_t pixels, int columns, int multiprocessors)
{
    const int64_t rows = ceil_div(pixels, 128);
    if (columns <= 16)
        return 5;
    if (columns <= 32)
        return 4;
    if (columns > 64 && rows * ceil_div(columns, 128) >= multiprocessors)
        return 1;
    return rows * ceil_div(columns, 64) >= multiprocessors ? 2 : 3;
}

/* Narrow inputs and sums of planes have fewer tiles of their own: large ones would hold too much in
 * registers or fetch too little at a time. */
static int tile_of_load(enum oct_gpu_load load, int two_planes, int tile)
{
    if (two_planes)
        return 4;
    if (load == OCT_GPU_LOAD_POINT || load == OCT_GPU_LOAD_16)
        return tile;
    return tile <= 2 ? 2 : 4;
}

static enum oct_gpu_load load_of(const struct oct_gpu_sweep *s, int two_planes)
{
    const int one_tap = s->h.taps * s->w.taps == 1 && s->h.origin == 0 && s->w.origin == 0 &&
                        (s->h.out - 1) * s->h.step < s->h.in &&
                        (s->w.out - 1) * s->w.step < s->w.in;
    if (s->channels % 16 == 0)
        return one_tap && !two_planes ? OCT_GPU_LOAD_POINT : OCT_GPU_LOAD_16;
    return s->channels % 4 == 0 && !two_planes ? OCT_GPU_LOAD_4 : OCT_GPU_LOAD_1;
}

size_t oct_gpu_pack_bytes(const struct oct_conv_shape *v, int dgrad)
{
    struct oct_gpu_sweep last;
    oct_gpu_sweep_make(v, dgrad, oct_gpu_sweep_count(v, dgrad) - 1, &last);
    return (size_t)(last.packed + last.columns * oct_gpu_sweep_pitch(&last));
}

struct oct_gpu_sweep_cut oct_gpu_sweep_cut(
    const struct oct_gpu_sweep *s, int two_planes, int multiprocessors, int forced)
{
    const int64_t pixels = (int64_t)s->images * s->h.out * s->w.out;
    struct oct_gpu_sweep_cut cut = {.load = load_of(s, two_planes)};
    const int tile = forced > 0 && forced <= OCT_GPU_SWEEP_TILES
                         ? forced
                         : widest_tile(pixels, s->columns, multiprocessors);
    cut.tile = tile_of_load(cut.load, two_planes, tile);
    return cut;
}

static int gradient_tile(const struct oct_conv_shape *v, int columns)
{
    if (v->k <= 32)
        return 4;
    if (columns <= 64)
        return 3;
    return v->k <= 64 ? 2 : 1;
}

/* Splits until every multiprocessor has two blocks, but not so short that writing sums takes longer
 * than making them. */
struct oct_gpu_gradient_cut oct_gpu_gradient_cut(
    const struct oct_conv_shape *v, int multiprocessors, int forced)
{
    const int64_t pixels = (int64_t)v->n * oct_conv_p(v) * oct_conv_q(v);
    const struct oct_gpu_fold fold = oct_gpu_fold_of(v);
    const int columns = fold.shape.r * fold.shape.s * fold.shape.c;
    struct oct_gpu_gradient_cut cut = {.narrow = v->k % 16 != 0 || fold.shape.c % 16 != 0};
    cut.tile = cut.narrow                                       ? OCT_GPU_TILE_NARROW
               : forced > 0 && forced <= OCT_GPU_GRADIENT_TILES ? forced
                                                                : gradient_tile(v, columns);
    cut.k_tiles = (int)ceil_div(v->k, oct_gpu_gradient_tiles[cut.tile].rows);
    cut.column_tiles = (int)ceil_div(columns, oct_gpu_gradient_tiles[cut.tile].columns);
    cut.steps = (int)ceil_div(pixels, OCT_GPU_STEP_PIXELS);
    int splits =
        (int)ceil_div(2 * (int64_t)multiprocessors, (int64_t)cut.k_tiles * cut.column_tiles);
    if (splits > cut.steps / OCT_GPU_WORTHWHILE_STEPS)
        splits = cut.steps / OCT_GPU_WORTHWHILE_STEPS;
    if (splits < 1)
        splits = 1;
    cut.split_steps = (int)ceil_div(cut.steps, splits);
    if (cut.split_steps > OCT_WGRAD_CHUNK / OCT_GPU_STEP_PIXELS)
        cut.split_steps = OCT_WGRAD_CHUNK / OCT_GPU_STEP_PIXELS;
    cut.splits = (int)ceil_div(cut.steps, cut.split_steps);
    cut.pitch = (columns + 3) / 4 * (int64_t)4;
    return cut;
}

size_t oct_gpu_gradient_workspace(
    const struct oct_conv_shape *v, const struct oct_gpu_gradient_cut *cut, int pairs)
{
    const size_t parts = (size_t)pairs * (size_t)cut->splits;
    return parts > 1 || oct_gpu_fold_of(v).down
               ? parts * (size_t)v->k * (size_t)cut->pitch * sizeof(int32_t)
               : 0;
}
