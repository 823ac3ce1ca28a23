#include "predict/work.h"

#include "base/numeric.h"

/* Words of four bytes that a pass keeps per channel and chunk of OCT_REDUCE_PIXELS rows; it writes
 * them once and reads them once. */
enum { REDUCE_WORDS = 5 };

const char *oct_work_kind_name(enum oct_work_kind kind)
{
    static const char *const names[OCT_WORK_KINDS] = {"fprop", "dgrad", "wgrad", "weight_pack",
        "stats_clear", "quantise", "barrier_bwd", "compensate", "compensate_bwd", "channel_stats",
        "channel_sum", "count_above", "range_update", "cosine_search", "bn_finalize",
        "affine_finalize", "act", "act_residual", "act_amax", "shift_finalize", "act_shift",
        "bn_reduce", "bn_reduce_mask", "bn_bwd_finalize", "affine_bwd_finalize", "bn_apply",
        "bn_apply_residual", "pool", "pool_bwd", "image", "loss", "sgd", "ema", "copy"};
    return kind < OCT_WORK_KINDS ? names[kind] : "unknown";
}

static double of_dtype(double elements, enum oct_dtype dtype)
{
    return elements * (double)oct_dtype_bytes(dtype);
}

/* `bytes` if there is such a tensor. */
static double if_there(const void *tensor, double bytes)
{
    return tensor ? bytes : 0.0;
}

static double planes_bytes(const struct oct_operand *o, double elements)
{
    return of_dtype(elements, o->dtype) * (o->planes > 1 ? 2.0 : 1.0);
}

static double written_to(enum oct_write mode, double bytes, double *read)
{
    if (mode == OCT_ACCUMULATE)
        *read += bytes;
    return bytes;
}

/* ---- products ---- */

static double x_count(const struct oct_conv_shape *v)
{
    return (double)oct_conv_x_elements(v);
}

static double y_count(const struct oct_conv_shape *v)
{
    return (double)oct_conv_y_elements(v);
}

static double w_count(const struct oct_conv_shape *v)
{
    return (double)oct_conv_w_elements(v);
}

/* A pack has padding between its columns. */
static double weight_bytes(const struct oct_operand *w, const struct oct_conv_shape *v, int dgrad)
{
    if (w->dtype != OCT_S8)
        return of_dtype(w_count(v), w->dtype);
    return (double)oct_gpu_pack_bytes(v, dgrad) * (w->planes > 1 ? 2.0 : 1.0);
}

/* Pixels of the input that no filter tap meets are not read: a 1x1 filter of stride 2 reads a
 * quarter of them. */
static double met(int in, int out, int filter, int stride, int dilation)
{
    const int taps = dilation == 1 ? filter : 1;
    const double rows = taps >= stride ? in : (double)out * taps;
    return rows < in ? rows : in;
}

static double x_read(const struct oct_conv_shape *v)
{
    return (double)v->n * v->c * met(v->h, oct_conv_p(v), v->r, v->stride_h, v->dilation_h) *
           met(v->w, oct_conv_q(v), v->s, v->stride_w, v->dilation_w);
}

/* An int8 product of few channels copies its input first (base/gpu_cut.h). */
static void add_fold(
    struct oct_work *work, const struct oct_conv_shape *v, const struct oct_operand *x)
{
    const struct oct_gpu_fold fold = oct_gpu_fold_of(v);
    const double bytes = (double)oct_gpu_fold_bytes(&fold, x->planes);
    if (x->dtype != OCT_S8)
        return;
    work->read += bytes;
    work->written += bytes;
    work->folded = bytes / OCT_GPU_FOLDED;
}

struct oct_work oct_work_fprop(const struct oct_conv_fprop_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    struct oct_work work = {.kind = OCT_WORK_FPROP,
        .read = planes_bytes(&a->x, x_read(v)) + weight_bytes(&a->w, v, 0) +
                if_there(a->norm.a, 16.0 * v->k),
        .written = of_dtype(y_count(v), a->y_dtype) + if_there(a->stats, 32.0 * v->k),
        .elements = y_count(v),
        .macs = (double)oct_conv_macs(v),
        .dtype = a->x.dtype};
    add_fold(&work, v, &a->x);
    return work;
}

struct oct_work oct_work_dgrad(const struct oct_conv_dgrad_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    struct oct_work work = {.kind = OCT_WORK_DGRAD,
        .read = planes_bytes(&a->dy, y_count(v)) + weight_bytes(&a->w, v, 1),
        .elements = x_count(v),
        .macs = (double)oct_conv_macs(v),
        .dtype = a->dy.dtype};
    work.written = written_to(a->mode, of_dtype(x_count(v), a->dx_dtype), &work.read);
    return work;
}

struct oct_work oct_work_wgrad(const struct oct_conv_wgrad_args *a, int multiprocessors)
{
    const struct oct_conv_shape *v = &a->shape;
    struct oct_work work = {.kind = OCT_WORK_WGRAD,
        .read = planes_bytes(&a->x, x_read(v)) + planes_bytes(&a->dy, y_count(v)),
        .elements = w_count(v),
        .macs = (double)oct_conv_macs(v),
        .dtype = a->x.dtype};
    work.written = written_to(a->mode, 4.0 * w_count(v), &work.read);
    if (a->x.dtype == OCT_S8) {
        const struct oct_gpu_gradient_cut cut = oct_gpu_gradient_cut(v, multiprocessors, 0);
        const double sums = (double)oct_gpu_gradient_workspace(v, &cut, a->x.planes * a->dy.planes);
        work.read += sums;
        work.written += sums;
        add_fold(&work, v, &a->x);
    }
    return work;
}

static double padded(double count, double unit)
{
    const double whole = (double)(int64_t)((count + unit - 1.0) / unit);
    return whole * unit;
}

/* Blocks, products and outputs of one sweep. */
static struct oct_work_launch sweep_launch(
    const struct oct_gpu_sweep *s, int pairs, int multiprocessors)
{
    const struct oct_gpu_sweep_cut cut = oct_gpu_sweep_cut(s, pairs > 1, multiprocessors, 0);
    const struct oct_gpu_tile tile = oct_gpu_sweep_tiles[cut.tile];
    const double rows = padded((double)s->images * s->h.out * s->w.out, tile.rows);
    const double columns = padded(s->columns, tile.columns);
    return (struct oct_work_launch){.tile = cut.tile,
        .load = cut.load,
        .two_planes = pairs > 1,
        .blocks = rows * columns / tile.rows / tile.columns,
        .products =
            pairs * (rows / 16.0) * (columns / 8.0) * ((double)oct_gpu_sweep_pitch(s) / 32.0),
        .outputs = rows * columns};
}

static int sweep_launches(const struct oct_conv_shape *v, int dgrad, int pairs, int multiprocessors,
    struct oct_work_launch *out)
{
    const int count = oct_gpu_sweep_count(v, dgrad);
    for (int i = 0; i < count && i < OCT_WORK_LAUNCHES; i++) {
        struct oct_gpu_sweep s;
        oct_gpu_sweep_make(v, dgrad, i, &s);
        out[i] = sweep_launch(&s, pairs, multiprocessors);
    }
    return count;
}

int oct_work_fprop_launches(
    const struct oct_conv_fprop_args *a, int multiprocessors, struct oct_work_launch *out)
{
    return sweep_launches(&a->shape, 0, a->x.planes * a->w.planes, multiprocessors, out);
}

int oct_work_dgrad_launches(
    const struct oct_conv_dgrad_args *a, int multiprocessors, struct oct_work_launch *out)
{
    return sweep_launches(&a->shape, 1, a->dy.planes * a->w.planes, multiprocessors, out);
}

int oct_work_wgrad_launches(
    const struct oct_conv_wgrad_args *a, int multiprocessors, struct oct_work_launch *out)
{
    const struct oct_gpu_gradient_cut cut = oct_gpu_gradient_cut(&a->shape, multiprocessors, 0);
    const struct oct_gpu_tile tile = oct_gpu_gradient_tiles[cut.tile];
    const double area = (double)cut.k_tiles * tile.rows * cut.column_tiles * tile.columns;
    const int pairs = a->x.planes * a->dy.planes;
    for (int i = 0; i < pairs; i++)
        out[i] = (struct oct_work_launch){.gradient = 1,
            .tile = cut.tile,
            .narrow = cut.narrow,
            .blocks = (double)cut.k_tiles * cut.column_tiles * cut.splits,
            .products = area / 128.0 * cut.steps * (OCT_GPU_STEP_PIXELS / 32.0),
            .outputs = area * cut.splits};
    return pairs;
}

struct oct_work oct_work_weight_pack(const struct oct_weight_pack_args *a)
{
    const double count = w_count(&a->shape);
    const double bytes = a->dtype == OCT_S8 ? 1.0 : (double)oct_dtype_bytes(a->dtype);
    const double layouts = if_there(a->fprop, 1.0) + if_there(a->dgrad, 1.0);
    /* every layout is made from the master weights by itself */
    return (struct oct_work){.kind = OCT_WORK_WEIGHT_PACK,
        .read = 4.0 * count * layouts,
        .written = count * bytes * (a->planes > 1 ? 2.0 : 1.0) * layouts,
        .elements = count * layouts};
}

/* ---- elementwise passes ---- */

static double reduce_words(int64_t rows, int channels)
{
    return padded((double)rows, OCT_REDUCE_PIXELS) / OCT_REDUCE_PIXELS * channels * 4.0 *
           REDUCE_WORDS;
}

struct oct_work oct_work_stats_clear(int channels)
{
    return (struct oct_work){
        .kind = OCT_WORK_STATS_CLEAR, .written = 32.0 * channels, .elements = channels};
}

struct oct_work oct_work_quantise(const struct oct_quantise_args *a)
{
    const double count = (double)a->rows * a->channels;
    return (struct oct_work){.kind = OCT_WORK_QUANTISE,
        .read = of_dtype(count, a->dtype),
        .written = count * (a->q_lo ? 2.0 : 1.0),
        .elements = count};
}

struct oct_work oct_work_regrid(const struct oct_regrid_args *a)
{
    const double bytes = of_dtype((double)a->count, a->dtype);
    return (struct oct_work){
        .kind = OCT_WORK_QUANTISE, .read = bytes, .written = bytes, .elements = (double)a->count};
}

struct oct_work oct_work_barrier_bwd(const struct oct_barrier_bwd_args *a)
{
    const double count = (double)a->count;
    return (struct oct_work){.kind = OCT_WORK_BARRIER_BWD,
        .read = of_dtype(count, a->x_dtype) + of_dtype(count, a->da_dtype),
        .written = of_dtype(count, a->da_dtype),
        .elements = count};
}

struct oct_work oct_work_compensate(const struct oct_compensate_args *a)
{
    const double count = (double)a->count, all = count * a->samples;
    return (struct oct_work){.kind = OCT_WORK_COMPENSATE,
        .read = 4.0 * all + 12.0 * count,
        .written = of_dtype(all, a->y_dtype),
        .elements = all};
}

struct oct_work oct_work_compensate_bwd(const struct oct_compensate_bwd_args *a)
{
    const double count = (double)a->count, all = count * a->samples;
    struct oct_work work = {.kind = OCT_WORK_COMPENSATE_BWD,
        .read = all + if_there(a->dy_lo, all) + 8.0 * count,
        .elements = all};
    work.written = written_to(a->mode, 12.0 * count, &work.read);
    return work;
}

struct oct_work oct_work_channel_stats(const struct oct_channel_stats_args *a)
{
    const double count = (double)a->rows * a->channels;
    /* an amax alone needs no sums in order, hence no words in between */
    const double words = a->sum || a->sumsq ? reduce_words(a->rows, a->channels) : 0.0;
    return (struct oct_work){.kind = OCT_WORK_CHANNEL_STATS,
        .read = of_dtype(count, a->dtype) + words,
        .written = words,
        .elements = count};
}

struct oct_work oct_work_channel_sum(const struct oct_channel_sum_args *a)
{
    const double count = (double)a->rows * a->channels;
    return (struct oct_work){.kind = OCT_WORK_CHANNEL_SUM, .read = 4.0 * count, .elements = count};
}

struct oct_work oct_work_count_above(const struct oct_count_above_args *a)
{
    const double count = (double)a->rows * a->channels;
    return (struct oct_work){
        .kind = OCT_WORK_COUNT_ABOVE, .read = of_dtype(count, a->dtype), .elements = count};
}

struct oct_work oct_work_range_update(const struct oct_range_update_args *a)
{
    const double count = a->range.count;
    return (struct oct_work){.kind = OCT_WORK_RANGE_UPDATE,
        .read = 4.0 * (count + a->amax_count),
        .written = 12.0 * count,
        .elements = count};
}

/* The candidates share what the cache holds. */
struct oct_work oct_work_cosine_search(const struct oct_cosine_search_args *a)
{
    const double count = (double)a->rows * a->channels;
    return (struct oct_work){.kind = OCT_WORK_COSINE_SEARCH,
        .read = of_dtype(count, a->dtype) + 4.0 * a->amax_count,
        .elements = count * a->candidates};
}

struct oct_work oct_work_bn_finalize(const struct oct_bn_finalize_args *a)
{
    const double c = a->channels;
    return (struct oct_work){
        .kind = OCT_WORK_BN_FINALIZE, .read = 48.0 * c, .written = 32.0 * c, .elements = c};
}

struct oct_work oct_work_affine_finalize(const struct oct_affine_finalize_args *a)
{
    const double c = a->channels;
    return (struct oct_work){.kind = OCT_WORK_AFFINE_FINALIZE,
        .read = if_there(a->z_amax, 16.0 * c) + if_there(a->bias, 4.0 * a->bias_count),
        .written = 16.0 * c + if_there(a->z_amax, 4.0 * c),
        .elements = c};
}

struct oct_work oct_work_act_fwd(const struct oct_act_fwd_args *a)
{
    const double count = (double)a->rows * a->channels;
    const int writes = a->x || a->trunk || a->mask;
    return (struct oct_work){.kind = !writes       ? OCT_WORK_ACT_AMAX
                                     : a->residual ? OCT_WORK_ACT_RESIDUAL
                                                   : OCT_WORK_ACT,
        .read = of_dtype(count, a->y_dtype) + if_there(a->a, 8.0 * a->channels) +
                if_there(a->residual, of_dtype(count, a->residual_dtype)),
        .written = if_there(a->x, of_dtype(count, a->x_dtype)) +
                   if_there(a->trunk, of_dtype(count, a->trunk_dtype)) +
                   if_there(a->mask, count / 8.0),
        .elements = count};
}

struct oct_work oct_work_shift_finalize(const struct oct_shift_finalize_args *a)
{
    const double c = a->channels;
    return (struct oct_work){.kind = OCT_WORK_SHIFT_FINALIZE,
        .read = if_there(a->acc, 20.0 * c) + if_there(a->bias, 4.0 * a->bias_count),
        .written = a->acc ? 4.0 * c : 4.0 * c + if_there(a->a, 16.0 * c),
        .elements = c};
}

struct oct_work oct_work_act_shift(const struct oct_act_shift_args *a)
{
    const double count = (double)a->rows * a->channels;
    return (struct oct_work){.kind = OCT_WORK_ACT_SHIFT,
        .read = of_dtype(count, a->y_dtype) + if_there(a->residual, count) + 4.0 * a->channels,
        .written = count + if_there(a->mask, count / 8.0),
        .elements = count};
}

struct oct_work oct_work_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *a)
{
    const double count = (double)a->rows * a->channels;
    const double words = reduce_words(a->rows, a->channels);
    return (struct oct_work){.kind = a->mask ? OCT_WORK_BN_REDUCE_MASK : OCT_WORK_BN_REDUCE,
        .read = of_dtype(count, a->da_dtype) + of_dtype(count, a->y_dtype) +
                if_there(a->mask, count / 8.0) + 16.0 * a->channels + words,
        .written = 32.0 * a->channels + words,
        .elements = count};
}

struct oct_work oct_work_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *a)
{
    const double c = a->channels;
    return (struct oct_work){
        .kind = OCT_WORK_BN_BWD_FINALIZE, .read = 44.0 * c, .written = 24.0 * c, .elements = c};
}

struct oct_work oct_work_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *a)
{
    const double c = a->channels;
    return (struct oct_work){.kind = OCT_WORK_AFFINE_BWD_FINALIZE,
        .read = 24.0 * c + if_there(a->bound, 12.0 * c),
        .written = 8.0 * c + if_there(a->bound, 4.0 * c) + if_there(a->sigma, 4.0 * c) +
                   if_there(a->dbias, 4.0 * a->bias_count),
        .elements = c};
}

struct oct_work oct_work_bn_bwd_apply(const struct oct_bn_bwd_apply_args *a)
{
    const double count = (double)a->rows * a->channels;
    struct oct_work work = {.kind = a->d_residual ? OCT_WORK_BN_APPLY_RESIDUAL : OCT_WORK_BN_APPLY,
        .read = of_dtype(count, a->da_dtype) + of_dtype(count, a->y_dtype) +
                if_there(a->mask, count / 8.0) + 24.0 * a->channels +
                if_there(a->q_channel, 4.0 * a->range_channel.count) +
                if_there(a->sigma, 4.0 * a->channels),
        .written = if_there(a->above, 8.0 * a->channels) + if_there(a->amax, 4.0 * a->channels) +
                   if_there(a->q_channel, count) + if_there(a->q_channel_lo, count) +
                   if_there(a->q_tensor, count) + if_there(a->q_tensor_lo, count) +
                   if_there(a->dy, of_dtype(count, a->dy_dtype)),
        .elements = count};
    if (a->d_residual)
        work.written +=
            written_to(a->d_residual_mode, of_dtype(count, a->d_residual_dtype), &work.read);
    return work;
}

/* ---- the rest ---- */

struct oct_work oct_work_pool(const struct oct_pool_args *a)
{
    return (struct oct_work){.kind = OCT_WORK_POOL,
        .read = of_dtype(x_count(&a->shape), a->x_dtype),
        .written =
            of_dtype(y_count(&a->shape), a->y_dtype) + if_there(a->winner, y_count(&a->shape)),
        .elements = y_count(&a->shape)};
}

struct oct_work oct_work_pool_bwd(const struct oct_pool_bwd_args *a)
{
    struct oct_work work = {.kind = OCT_WORK_POOL_BWD,
        .read = of_dtype(y_count(&a->shape), a->dy_dtype) + if_there(a->winner, y_count(&a->shape)),
        .elements = x_count(&a->shape)};
    work.written = written_to(a->mode, of_dtype(x_count(&a->shape), a->dx_dtype), &work.read);
    return work;
}

struct oct_work oct_work_image(const struct oct_image_args *a)
{
    const double rows = (double)a->rows;
    return (struct oct_work){.kind = OCT_WORK_IMAGE,
        .read = rows * a->channels,
        .written = of_dtype(rows * a->channels_out, a->x_dtype),
        .elements = rows * a->channels_out};
}

struct oct_work oct_work_loss(const struct oct_loss_args *a)
{
    const double count = (double)a->n * a->k;
    return (struct oct_work){.kind = OCT_WORK_LOSS,
        .read = 4.0 * count + 4.0 * a->n,
        .written = if_there(a->dlogits, 4.0 * count) + 6.0 * a->n,
        .elements = count};
}

struct oct_work oct_work_sgd(const struct oct_sgd_args *a)
{
    const double count = (double)a->count;
    return (struct oct_work){
        .kind = OCT_WORK_SGD, .read = 12.0 * count, .written = 8.0 * count, .elements = count};
}

/* Normalised gradients are looked at first. */
struct oct_work oct_work_sgd_fixed(const struct oct_sgd_fixed_args *a)
{
    const double count = (double)a->count;
    return (struct oct_work){.kind = OCT_WORK_SGD,
        .read = (a->normalise ? 20.0 : 12.0) * count,
        .written = 8.0 * count,
        .elements = count};
}

struct oct_work oct_work_ema(const struct oct_ema_args *a)
{
    const double count = (double)a->count;
    return (struct oct_work){
        .kind = OCT_WORK_EMA, .read = 8.0 * count, .written = 4.0 * count, .elements = count};
}

struct oct_work oct_work_copy(size_t bytes)
{
    return (struct oct_work){.kind = OCT_WORK_COPY,
        .read = (double)bytes,
        .written = (double)bytes,
        .elements = (double)bytes};
}
