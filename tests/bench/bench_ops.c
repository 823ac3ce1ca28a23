/* Times the elementwise ops: ns per element and GB/s of the bytes they must move, for tensors of
 * about 1 MB and 25 MB, after checking that the timed loops agree with the plain ones.
 *     build/tests/bench/bench_ops [threads, default 2] */
#include "support/cpu_ops.h"
#include "support/support.h"

#include <stdio.h>
#include <time.h>

enum { REPEATS = 15 };

/* Every op's arguments over tensors of rows x channels. */
struct load {
    int64_t rows;
    int channels;
    enum oct_dtype dtype;
    float *f32[4];
    void *x;
    int8_t *q;
    void *workspace;
    struct oct_step_state step;
    uint32_t flag;
    float clip, scale, inverse;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum oct_status quantise(oct_backend *b, struct load *l, enum oct_rounding rounding)
{
    struct oct_quantise_args a = {.rows = l->rows,
        .rows_per_sample = 1,
        .channels = l->channels,
        .x = l->x,
        .dtype = l->dtype,
        .range = {.inverse = &l->inverse, .count = 1, .code_max = 127},
        .rounding = rounding,
        .tensor = 1,
        .step = &l->step,
        .q = l->q,
        .flag = &l->flag};
    return b->quantise(b, &a);
}

static enum oct_status run_nearest(oct_backend *b, struct load *l)
{
    return quantise(b, l, OCT_NEAREST);
}

static enum oct_status run_stochastic(oct_backend *b, struct load *l)
{
    return quantise(b, l, OCT_STOCHASTIC);
}

static enum oct_status run_channels(oct_backend *b, struct load *l)
{
    struct oct_quantise_args a = {.rows = l->rows,
        .channels = l->channels,
        .x = l->x,
        .dtype = l->dtype,
        .range = {.inverse = l->f32[3], .count = l->channels, .code_max = 127},
        .q = l->q,
        .flag = &l->flag};
    return b->quantise(b, &a);
}

static enum oct_status run_amax(oct_backend *b, struct load *l)
{
    struct oct_channel_stats_args a = {.rows = l->rows,
        .channels = l->channels,
        .x = l->x,
        .dtype = l->dtype,
        .amax = (float *)l->q,
        .workspace = l->workspace,
        .flag = &l->flag};
    return b->channel_stats(b, &a);
}

static enum oct_status run_stats(oct_backend *b, struct load *l)
{
    double *sums = (double *)l->f32[0];
    float *extremes = l->f32[1];
    struct oct_channel_stats_args a = {.rows = l->rows,
        .channels = l->channels,
        .x = l->x,
        .dtype = l->dtype,
        .amax = (float *)l->q,
        .sum = sums,
        .sumsq = sums + l->channels,
        .min = extremes,
        .max = extremes + l->channels,
        .workspace = l->workspace,
        .flag = &l->flag};
    return b->channel_stats(b, &a);
}

static enum oct_status run_count(oct_backend *b, struct load *l)
{
    int64_t *counts = (int64_t *)l->q;
    struct oct_count_above_args a = {.rows = l->rows,
        .channels = l->channels,
        .x = l->x,
        .dtype = l->dtype,
        .threshold = l->f32[3],
        .threshold_all = l->f32[3],
        .count = counts + 1,
        .total = counts,
        .workspace = l->workspace};
    return b->count_above(b, &a);
}

static enum oct_status run_sgd(oct_backend *b, struct load *l)
{
    struct oct_sgd_args a = {.count = l->rows * l->channels,
        .w = l->f32[0],
        .momentum = l->f32[1],
        .dw = l->f32[2],
        .step = &l->step,
        .mu = 0.9f,
        .weight_decay = 1e-4f,
        .amax = &l->scale};
    return b->sgd(b, &a);
}

static enum oct_status run_ema(oct_backend *b, struct load *l)
{
    struct oct_ema_args a = {.count = l->rows * l->channels,
        .average = l->f32[0],
        .value = l->f32[2],
        .decay = 0.999f,
        .flag = &l->flag};
    return b->ema(b, &a);
}

static struct oct_conv_shape pool_shape(const struct load *l)
{
    int side = 32, images = (int)(l->rows / (side * side));
    return (struct oct_conv_shape){images, 1, side, side, l->channels, l->channels, 1, 3, 3, 1, 2,
        2, 0, 1, 1, 1, 1, 1, l->channels};
}

static enum oct_status run_pool(oct_backend *b, struct load *l)
{
    struct oct_pool_args a = {.shape = pool_shape(l),
        .x = l->x,
        .x_dtype = l->dtype,
        .y = l->f32[0],
        .y_dtype = l->dtype,
        .winner = (uint8_t *)l->q};
    return b->pool(b, &a);
}

static enum oct_status run_pool_bwd(oct_backend *b, struct load *l)
{
    struct oct_pool_bwd_args a = {.shape = pool_shape(l),
        .dy = l->f32[0],
        .dy_dtype = l->dtype,
        .winner = (uint8_t *)l->q,
        .dx = l->f32[1],
        .dx_dtype = l->dtype};
    return b->pool_bwd(b, &a);
}

static enum oct_status run_image(oct_backend *b, struct load *l)
{
    struct oct_image_args a = {.rows = l->rows * l->channels / 4,
        .channels = 3,
        .channels_out = 4,
        .image = (uint8_t *)l->q,
        .a = {0.017f, 0.017f, 0.017f},
        .x = l->f32[0],
        .x_dtype = l->dtype};
    return b->image(b, &a);
}

/* Bytes per element: of the dtype, plus fixed ones; `f32_only` ops ignore the dtype. */
static const struct {
    const char *name;
    enum oct_status (*run)(oct_backend *, struct load *);
    int dtype_bytes, fixed_bytes, f32_only;
    const char *output; /* "q" or "f": what the check compares */
} ops[] = {{"quantise nearest", run_nearest, 1, 1, 0, "q"},
    {"quantise stochastic", run_stochastic, 1, 1, 0, "q"},
    {"quantise per channel", run_channels, 1, 1, 0, "q"}, {"amax", run_amax, 1, 0, 0, "q"},
    {"channel_stats", run_stats, 1, 0, 0, "f"}, {"count_above", run_count, 1, 0, 0, "q"},
    {"max pool 3x3/2", run_pool, 1, 0, 0, "f"},
    {"max pool 3x3/2 backward", run_pool_bwd, 1, 0, 0, "f"},
    {"image 3 to 4", run_image, 1, 1, 0, "f"}, {"sgd", run_sgd, 0, 20, 1, "f"},
    {"ema", run_ema, 0, 12, 1, "f"}};

static void open_load(struct load *l, int64_t rows, int channels, enum oct_dtype dtype)
{
    int64_t n = rows * channels;
    *l = (struct load){.rows = rows,
        .channels = channels,
        .dtype = dtype,
        .inverse = 40.0f,
        .step = {.seed = 1, .lr = 0.1f}};
    for (int i = 0; i < 4; i++) {
        l->f32[i] = guard_alloc(sizeof(float) * (size_t)n);
        fill_f32(l->f32[i], n, FILL_RANDOM, (uint64_t)i);
    }
    l->x = guard_alloc(sizeof(float) * (size_t)n);
    if (dtype == OCT_BF16)
        fill_bf16(l->x, n, FILL_RANDOM, 9);
    else
        fill_f32(l->x, n, FILL_RANDOM, 9);
    l->q = guard_alloc((size_t)n * 4);
    memset(l->q, 0, (size_t)n * 4);
    l->workspace = guard_alloc((size_t)(rows / 256 + 1) * 20 * (size_t)channels);
}

static void close_load(struct load *l)
{
    for (int i = 0; i < 4; i++)
        guard_free(l->f32[i]);
    guard_free(l->x);
    guard_free(l->q);
    guard_free(l->workspace);
}

/* The op on plain loops and on those to be timed gives equal bytes. */
static bool agrees(size_t op, oct_backend *timed, enum oct_dtype dtype)
{
    oct_backend *plain = cpu_ops_open(&oct_vec_ops_base, 1);
    struct load l[2];
    for (int side = 0; side < 2; side++) {
        open_load(&l[side], 2048, 80, dtype);
        if (ops[op].run(side ? timed : plain, &l[side]) != OCT_OK)
            printf("%s: %s\n", ops[op].name, oct_last_error());
    }
    bool same =
        *ops[op].output == 'q'
            ? same_tensor(ops[op].name, OCT_S8, l[1].q, l[0].q, 2048 * 80, NULL, 0)
            : same_tensor(ops[op].name, OCT_F32, l[1].f32[0], l[0].f32[0], 2048 * 80, NULL, 0);
    close_load(&l[0]);
    close_load(&l[1]);
    cpu_ops_close(plain);
    return same;
}

static void measure(
    size_t op, oct_backend *backend, int64_t rows, int channels, enum oct_dtype dtype)
{
    struct load l;
    double best = 1e9;
    open_load(&l, rows, channels, dtype);
    for (int i = 0; i < REPEATS; i++) {
        double start = seconds();
        if (ops[op].run(backend, &l) != OCT_OK)
            printf("%s: %s\n", ops[op].name, oct_last_error());
        double t = seconds() - start;
        best = t < best ? t : best;
    }
    double n = (double)(rows * channels);
    double bytes =
        ops[op].dtype_bytes * (double)oct_dtype_bytes(dtype) + (double)ops[op].fixed_bytes;
    printf("%-24s %-5s %6lld x %-4d %8.4f ns/element %7.1f GB/s\n", ops[op].name,
        ops[op].f32_only ? "f32" : oct_dtype_name(dtype), (long long)rows, channels, best * 1e9 / n,
        bytes * n / best * 1e-9);
    close_load(&l);
}

int main(int argc, char **argv)
{
    static const struct {
        int64_t rows;
        int channels;
    } sizes[] = {{4096, 64}, {16384, 16}, {98304, 64}, {24576, 256}};
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    bool wide = cpu_ops_has_avx512();
    oct_backend *backend = cpu_ops_open(wide ? &oct_vec_ops_avx512 : &oct_vec_ops_base, threads);
    printf("%s loops, %d threads, minimum of %d\n", wide ? "avx512" : "base", threads, REPEATS);
    for (size_t op = 0; op < sizeof ops / sizeof ops[0]; op++) {
        for (int d = 0; d < 2; d++) {
            enum oct_dtype dtype = d ? OCT_BF16 : OCT_F32;
            if (d && ops[op].f32_only)
                continue;
            if (!agrees(op, backend, dtype))
                return 1;
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
                measure(op, backend, sizes[s].rows, sizes[s].channels, dtype);
        }
    }
    cpu_ops_close(backend);
    return 0;
}
