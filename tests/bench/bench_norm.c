/* Times the normalise-and-activate kernels: ns per element and GB/s of what they must read and
 * write, beside a copy. Every kernel is first verified against the oracle on these very shapes'
 * channels.
 *   bench_norm [THREADS [base|avx512 [PART-OF-A-NAME]]] */
#include "oracle/oracle_norm.h"
#include "support/norm_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bench {
    struct oct_cpu cpu;
    int64_t rows, n;
    int channels;
    uint16_t *y, *da, *residual16, *d_residual;
    int8_t *residual8, *x, *q_channel, *q_tensor;
    uint8_t *mask;
    float *params[8]; /* a, b, ix, jx, m1, m2, inverse, sigma */
    float inverse, scale;
    double *sums[3];
    float *extremes[2];
    int64_t *above, above_all;
    float *amax;
    void *workspace;
    struct oct_step_state step;
    uint32_t flag;
};

static void *bench_values(int64_t n, uint64_t seed)
{
    uint16_t *x = guard_alloc((size_t)n * sizeof *x);
    int64_t some = n < 100003 ? n : 100003; /* the generator is slow: repeat a prime length */
    fill_bf16(x, some, FILL_RANDOM, seed);
    for (int64_t i = some; i < n; i++)
        x[i] = x[i - some];
    return x;
}

static void bench_open(struct bench *b, int64_t rows, int channels)
{
    size_t n = (size_t)rows * (size_t)channels;
    b->rows = rows;
    b->channels = channels;
    b->n = (int64_t)n;
    b->y = bench_values(b->n, 1);
    b->da = bench_values(b->n, 2);
    b->residual16 = bench_values(b->n, 3);
    b->d_residual = guard_alloc(2 * n);
    b->residual8 = guard_alloc(n);
    for (size_t i = 0; i < n; i++)
        b->residual8[i] = (int8_t)(b->residual16[i] >> 9);
    b->x = guard_alloc(n);
    b->q_channel = guard_alloc(n);
    b->q_tensor = guard_alloc(n);
    b->mask = guard_alloc((n + 7) / 8);
    for (int i = 0; i < 8; i++) {
        b->params[i] = guard_alloc(sizeof(float) * (size_t)channels);
        fill_f32(b->params[i], channels, FILL_RANDOM, 10 + (uint64_t)i);
    }
    for (int c = 0; c < channels; c++) {
        b->params[6][c] = 40.0f;
        b->params[7][c] = 1.5f;
    }
    b->inverse = 40.0f;
    b->scale = 0.02f;
    for (int i = 0; i < 3; i++)
        b->sums[i] = guard_alloc(sizeof(double) * (size_t)channels);
    for (int i = 0; i < 2; i++)
        b->extremes[i] = guard_alloc(sizeof(float) * (size_t)channels);
    b->above = guard_alloc(sizeof(int64_t) * (size_t)channels);
    b->amax = guard_alloc(sizeof(float) * (size_t)channels);
    b->workspace = guard_alloc(b->cpu.table.bn_workspace(&b->cpu.table, rows, channels));
    b->step = (struct oct_step_state){.seed = 1, .step = 2};
}

static void bench_close(struct bench *b)
{
    void *all[] = {b->y, b->da, b->residual16, b->d_residual, b->residual8, b->x, b->q_channel,
        b->q_tensor, b->mask, b->sums[0], b->sums[1], b->sums[2], b->extremes[0], b->extremes[1],
        b->above, b->amax, b->workspace};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guard_free(all[i]);
    for (int i = 0; i < 8; i++)
        guard_free(b->params[i]);
}

enum { ORACLE = 1 };

static void do_act(struct bench *b, int oracle, int residual, int block)
{
    const struct oct_act_fwd_args g = {.rows = b->rows,
        .channels = b->channels,
        .y = b->y,
        .y_dtype = OCT_BF16,
        .a = b->params[0],
        .b = b->params[1],
        .residual = residual == OCT_S8     ? (const void *)b->residual8
                    : residual == OCT_BF16 ? (const void *)b->residual16
                                           : NULL,
        .residual_dtype = (enum oct_dtype)residual,
        .residual_scale = &b->scale,
        .relu = 1,
        .x = b->x,
        .x_dtype = OCT_S8,
        .x_range = {.inverse = &b->inverse, .count = 1, .code_max = 127},
        .mask = block ? b->mask : NULL,
        .trunk = NULL,
        .amax = block ? b->amax : NULL,
        .flag = &b->flag};
    if (oracle)
        oracle_act_fwd(&g);
    else if (b->cpu.table.act_fwd(&b->cpu.table, &g) != OCT_OK)
        abort();
}

static void act_plain(struct bench *b, int oracle)
{
    do_act(b, oracle, OCT_F32, 0);
}

static void act_residual8(struct bench *b, int oracle)
{
    do_act(b, oracle, OCT_S8, 1);
}

static void act_residual16(struct bench *b, int oracle)
{
    do_act(b, oracle, OCT_BF16, 1);
}

static void do_reduce(struct bench *b, int oracle, const uint8_t *mask)
{
    const struct oct_bn_bwd_reduce_args g = {.rows = b->rows,
        .channels = b->channels,
        .da = b->da,
        .da_dtype = OCT_BF16,
        .y = b->y,
        .y_dtype = OCT_BF16,
        .a = b->params[0],
        .b = b->params[1],
        .ix = b->params[2],
        .jx = b->params[3],
        .relu = 1,
        .mask = mask,
        .sum_dz = b->sums[0],
        .sum_dz_xhat = b->sums[1],
        .sum_dz2 = b->sums[2],
        .dz_min = b->extremes[0],
        .dz_max = b->extremes[1],
        .workspace = b->workspace};
    if (oracle)
        oracle_bn_bwd_reduce(&g);
    else if (b->cpu.table.bn_bwd_reduce(&b->cpu.table, &g) != OCT_OK)
        abort();
}

static void reduce_z(struct bench *b, int oracle)
{
    do_reduce(b, oracle, NULL);
}

static void reduce_mask(struct bench *b, int oracle)
{
    do_reduce(b, oracle, b->mask);
}

static void do_apply(struct bench *b, int oracle, int stochastic, int statistics, int block)
{
    struct oct_bn_bwd_apply_args g = {.rows = b->rows,
        .channels = b->channels,
        .da = b->da,
        .da_dtype = OCT_BF16,
        .y = b->y,
        .y_dtype = OCT_BF16,
        .a = b->params[0],
        .b = b->params[1],
        .ix = b->params[2],
        .jx = b->params[3],
        .m1 = b->params[4],
        .m2 = b->params[5],
        .relu = 1,
        .mask = block ? b->mask : NULL,
        .q_channel = b->q_channel,
        .range_channel = {.inverse = b->params[6], .count = b->channels, .code_max = 127},
        .q_tensor = b->q_tensor,
        .range_tensor = {.inverse = &b->inverse, .count = 1, .code_max = 127},
        .rounding = stochastic ? OCT_STOCHASTIC : OCT_NEAREST,
        .rows_per_sample = 1,
        .step = &b->step,
        .d_residual = block ? b->d_residual : NULL,
        .d_residual_dtype = OCT_BF16,
        .workspace = b->workspace,
        .flag = &b->flag};
    if (statistics) {
        g.sigma = g.sigma_all = b->params[7];
        g.above = b->above;
        g.above_all = &b->above_all;
        g.amax = b->amax;
    }
    if (oracle) {
        uint8_t *random = guard_alloc((size_t)b->n);
        uint32_t key = oct_rounding_key(b->step.seed, b->step.step, g.tensor);
        for (int64_t i = 0; i < b->n; i++)
            random[i] = (uint8_t)oct_rounding_byte(key, (uint64_t)i);
        oracle_bn_bwd_apply(&g, random);
        guard_free(random);
    } else if (b->cpu.table.bn_bwd_apply(&b->cpu.table, &g) != OCT_OK) {
        abort();
    }
}

static void apply_nearest(struct bench *b, int oracle)
{
    do_apply(b, oracle, 0, 0, 0);
}

static void apply_stochastic(struct bench *b, int oracle)
{
    do_apply(b, oracle, 1, 0, 0);
}

static void apply_statistics(struct bench *b, int oracle)
{
    do_apply(b, oracle, 1, 1, 0);
}

static void apply_block(struct bench *b, int oracle)
{
    do_apply(b, oracle, 1, 1, 1);
}

struct copy {
    char *to;
    const char *from;
    int64_t bytes;
};

static void copy_work(void *copy_, int64_t item, int thread)
{
    const struct copy *copy = copy_;
    int64_t first = item * 65536, left = copy->bytes - first;
    (void)thread;
    memcpy(copy->to + first, copy->from + first, (size_t)(left < 65536 ? left : 65536));
}

static void copy_bf16(struct bench *b, int oracle)
{
    struct copy copy = {(char *)b->d_residual, (const char *)b->y, 2 * b->n};
    if (oracle)
        memcpy(b->d_residual, b->y, 2 * (size_t)b->n);
    else
        oct_pool_run(b->cpu.pool, (copy.bytes + 65535) / 65536, copy_work, &copy);
}

/* A hash of everything a kernel may have written. */
static uint64_t hash_of(const struct bench *b)
{
    size_t n = (size_t)b->n, c = (size_t)b->channels;
    const struct {
        const void *p;
        size_t bytes;
    } parts[] = {{b->x, n}, {b->q_channel, n}, {b->q_tensor, n}, {b->mask, (n + 7) / 8},
        {b->d_residual, 2 * n}, {b->sums[0], 8 * c}, {b->sums[1], 8 * c}, {b->sums[2], 8 * c},
        {b->extremes[0], 4 * c}, {b->extremes[1], 4 * c}, {b->above, 8 * c}, {b->amax, 4 * c},
        {&b->above_all, 8}};
    uint64_t hash = 14695981039346656037ull;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (size_t k = 0; k < parts[i].bytes; k++)
            hash = (hash ^ ((const uint8_t *)parts[i].p)[k]) * 1099511628211ull;
    return hash;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct bench *, int oracle);
        double bytes; /* read and written per element */
    } kernels[] = {{"copy bf16", copy_bf16, 4}, {"act: y", act_plain, 3},
        {"act: y, s8 residual, mask, amax", act_residual8, 4.125},
        {"act: y, bf16 residual, mask, amax", act_residual16, 5.125}, {"reduce: z", reduce_z, 4},
        {"reduce: mask", reduce_mask, 4.125}, {"apply: nearest", apply_nearest, 6},
        {"apply: stochastic", apply_stochastic, 6},
        {"apply: stochastic, statistics", apply_statistics, 6},
        {"apply: the same, mask, d_residual", apply_block, 8.125}};
    static const int64_t shapes[][2] = {{8192, 64}, {2048, 256}, {200704, 64}, {50176, 256}};
    int threads = argc > 1 ? atoi(argv[1]) : 2, bad = 0;
    int isa = argc > 2 && strcmp(argv[2], "base") == 0 ? 0 : 1;
    static struct bench b;
    double times[200];

    if (!norm_rig_open(isa, threads, &b.cpu)) {
        printf("this processor lacks AVX-512; try: bench_norm %d base\n", threads);
        return 1;
    }
    printf("%s, %d threads; ns per element: least, median; GB/s at the median\n",
        isa ? "avx512" : "base", threads);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        bench_open(&b, shapes[s][0], (int)shapes[s][1]);
        for (size_t k = 0; k < sizeof kernels / sizeof kernels[0]; k++) {
            if (argc > 3 && !strstr(kernels[k].name, argv[3]))
                continue;
            if (shapes[s][0] < 10000) { /* the large ones are the same code */
                kernels[k].run(&b, 0);
                uint64_t got = hash_of(&b);
                kernels[k].run(&b, ORACLE);
                if (got != hash_of(&b)) {
                    printf("%s differs from the oracle\n", kernels[k].name);
                    bad = 1;
                    continue;
                }
            }
            int count = 0;
            for (double end = now() + 0.5; count < 10 || (now() < end && count < 200); count++) {
                double start = now();
                kernels[k].run(&b, 0);
                times[count] = (now() - start) * 1e9 / (double)b.n;
            }
            qsort(times, (size_t)count, sizeof times[0], by_size);
            printf("%7lld x %3d  %-36s %6.4f %6.4f %7.1f\n", (long long)b.rows, b.channels,
                kernels[k].name, times[0], times[count / 2], kernels[k].bytes / times[count / 2]);
        }
        bench_close(&b);
    }
    norm_rig_close(&b.cpu);
    return bad;
}
