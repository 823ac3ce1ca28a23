/* Backward of normalise-and-activate: reduce, finalize and apply against the unfused oracle, bit
 * for bit; the bound and the analytic sigma against dy itself; the chain against finite
 * differences. */
#include "oracle/oracle_norm.h"
#include "support/norm_rig.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>

struct bwd_case {
    int64_t rows;
    int channels;
    enum fill fill;
    uint64_t seed;
};

/* Around the 256 pixels of a chunk, the 16 rows of a walk, 16 and 32 and 64 channels. */
static struct bwd_case cases[] = {
    {1, 1, FILL_RANDOM, 1},
    {3, 7, FILL_RANDOM, 2},
    {7, 3, FILL_ALTERNATE, 3},
    {16, 16, FILL_RANDOM, 4},
    {17, 17, FILL_OUTLIER, 5},
    {64, 64, FILL_RANDOM, 6},
    {65, 65, FILL_RANDOM, 7},
    {257, 1, FILL_RANDOM, 8},
    {257, 64, FILL_TINY, 9},
    {300, 24, FILL_ZERO, 10},
    {3000, 17, FILL_RANDOM, 11},
    {49, 2048, FILL_RANDOM, 12},
    {5, 2047, FILL_MAX, 13},
    {3136, 32, FILL_RANDOM, 14},
    {2, 4096, FILL_RANDOM, 15},
    {1025, 48, FILL_RANDOM, 16},
};

/* Inputs of the three backward ops, as one layer would have them. */
struct layer {
    int64_t rows, n;
    int channels, relu;
    enum oct_dtype da_dtype, y_dtype;
    void *da, *y;
    uint8_t *mask; /* NULL: recompute */
    uint8_t *other_mask;
    float *a, *b, *ix, *jx, *m1, *m2, *sigma, *inverse;
};

static float *channel_values(int channels, uint64_t seed)
{
    float *x = guard_alloc((size_t)channels * sizeof *x);
    fill_f32(x, channels, FILL_RANDOM, seed);
    return x;
}

static void *values(enum oct_dtype dtype, int64_t n, enum fill how, uint64_t seed)
{
    void *x = guard_alloc((size_t)n * oct_dtype_bytes(dtype));
    if (dtype == OCT_BF16)
        fill_bf16(x, n, how, seed);
    else if (dtype == OCT_S8)
        fill_s8(x, n, how, seed);
    else
        fill_f32(x, n, how, seed);
    return x;
}

enum { OPEN, GATE_Z, GATE_MASK, MASK_ALONE }; /* the last: a mask without a ReLU */

static struct layer layer_open(const struct bwd_case *c, int da, int y, int gate)
{
    struct layer l = {.rows = c->rows,
        .n = c->rows * c->channels,
        .channels = c->channels,
        .relu = gate != OPEN,
        .da_dtype = (enum oct_dtype)da,
        .y_dtype = (enum oct_dtype)y};
    l.da = values(l.da_dtype, l.n, c->fill, c->seed + 100);
    l.y = values(l.y_dtype, l.n, c->fill == FILL_TINY ? FILL_RANDOM : c->fill, c->seed + 200);
    if (c->fill == FILL_ZERO) /* of both signs: the sign byte is the element's last */
        for (int64_t i = 0; i < l.n; i += 5)
            ((uint8_t *)l.da)[(size_t)(i + 1) * oct_dtype_bytes(l.da_dtype) - 1] = 0x80;
    l.a = channel_values(c->channels, c->seed + 1);
    l.b = channel_values(c->channels, c->seed + 2);
    l.ix = channel_values(c->channels, c->seed + 3);
    l.jx = channel_values(c->channels, c->seed + 4);
    l.m1 = channel_values(c->channels, c->seed + 5);
    l.m2 = channel_values(c->channels, c->seed + 6);
    l.sigma = channel_values(c->channels, c->seed + 7);
    l.inverse = channel_values(c->channels, c->seed + 8);
    for (int i = 0; i < c->channels; i++) {
        l.sigma[i] = fabsf(l.sigma[i]);
        l.inverse[i] = i % 11 == 5 ? 0.0f : fabsf(l.inverse[i]) * 100.0f;
    }
    l.other_mask = guard_alloc((size_t)((l.n + 7) / 8));
    for (int64_t i = 0; i < (l.n + 7) / 8; i++)
        l.other_mask[i] = (uint8_t)oct_mix32((uint32_t)(i + 77));
    if (gate == MASK_ALONE)
        l.relu = 0;
    if (gate >= GATE_MASK) {
        l.mask = guard_alloc((size_t)((l.n + 7) / 8));
        for (int64_t i = 0; i < (l.n + 7) / 8; i++)
            l.mask[i] = (uint8_t)oct_mix32((uint32_t)(i + (int64_t)c->seed));
    }
    return l;
}

static void layer_close(struct layer *l)
{
    void *all[] = {l->da, l->y, l->mask, l->other_mask, l->a, l->b, l->ix, l->jx, l->m1, l->m2,
        l->sigma, l->inverse};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guard_free(all[i]);
}

static void print_case(const struct bwd_case *c, const char *what, int a, int b, int gate)
{
    printf("rows %lld, channels %d, fill %d, seed %llu; da %d, y %d, gate %d: %s\n",
        (long long)c->rows, c->channels, c->fill, (unsigned long long)c->seed, a, b, gate, what);
}

static struct oct_bn_bwd_reduce_args reduce_args(const struct layer *l, struct outputs *outs)
{
    return (struct oct_bn_bwd_reduce_args){.rows = l->rows,
        .channels = l->channels,
        .da = l->da,
        .da_dtype = l->da_dtype,
        .y = l->y,
        .y_dtype = l->y_dtype,
        .a = l->a,
        .b = l->b,
        .ix = l->ix,
        .jx = l->jx,
        .relu = l->relu,
        .mask = l->mask,
        .sum_dz = output_ptr(outs, "sum_dz"),
        .sum_dz_xhat = output_ptr(outs, "sum_dz_xhat"),
        .sum_dz2 = output_ptr(outs, "sum_dz2"),
        .dz_min = output_ptr(outs, "dz_min"),
        .dz_max = output_ptr(outs, "dz_max")};
}

static bool reduce_case(const struct bwd_case *c, int da, int y, int gate)
{
    bool same = true;
    struct outputs outs = {0};
    struct layer l = layer_open(c, da, y, gate);
    output_add(&outs, "sum_dz", OCT_F64, c->channels, true);
    output_add(&outs, "sum_dz_xhat", OCT_F64, c->channels, true);
    output_add(&outs, "sum_dz2", OCT_F64, c->channels, true);
    output_add(&outs, "dz_min", OCT_F32, c->channels, true);
    output_add(&outs, "dz_max", OCT_F32, c->channels, true);
    oct_cpu_flush_subnormals();
    struct oct_bn_bwd_reduce_args g = reduce_args(&l, &outs);
    oracle_bn_bwd_reduce(&g);
    outs.use_got = true;
    for (int run = 0; run < RIG_ISAS * RIG_THREADS && same; run++) {
        struct oct_cpu cpu;
        if (!norm_rig_open(run / RIG_THREADS, run % RIG_THREADS + 1, &cpu))
            continue;
        outputs_reset(&outs);
        g = reduce_args(&l, &outs);
        g.workspace = guard_alloc(cpu.table.bn_workspace(&cpu.table, c->rows, c->channels));
        same = cpu.table.bn_bwd_reduce(&cpu.table, &g) == OCT_OK &&
               outputs_same(&outs, c->channels) && guard_intact(g.workspace, "workspace");
        if (!same)
            print_case(c, run < RIG_THREADS ? "reduce, base" : "reduce, avx512", da, y, gate);
        guard_free(g.workspace);
        norm_rig_close(&cpu);
    }
    outputs_free(&outs);
    layer_close(&l);
    return same;
}

ParameterizedTestParameters(norm_bwd, reduce_equals_the_oracle)
{
    return cr_make_param_array(struct bwd_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(struct bwd_case *c, norm_bwd, reduce_equals_the_oracle, .timeout = 120)
{
    for (int gate = OPEN; gate <= MASK_ALONE; gate++) {
        cr_expect(reduce_case(c, OCT_BF16, OCT_BF16, gate));
        cr_expect(reduce_case(c, OCT_F32, OCT_F32, gate));
        cr_expect(reduce_case(c, OCT_F32, OCT_BF16, gate));
        cr_expect(reduce_case(c, OCT_BF16, OCT_S8, gate));
    }
}

/* Which outputs of apply are wanted, and how. */
struct apply_variant {
    int da, y, gate;
    int q_channel, q_tensor; /* planes, 0: not wanted */
    int stochastic, dy, d_residual, accumulate, statistics;
    enum oct_grid grid;
    int residual_mask;
};

static struct oct_bn_bwd_apply_args apply_args(
    const struct layer *l, const struct apply_variant *v, const struct outputs *outs)
{
    return (struct oct_bn_bwd_apply_args){.rows = l->rows,
        .channels = l->channels,
        .da = l->da,
        .da_dtype = l->da_dtype,
        .y = l->y,
        .y_dtype = l->y_dtype,
        .a = l->a,
        .b = l->b,
        .ix = l->ix,
        .jx = l->jx,
        .m1 = l->m1,
        .m2 = l->m2,
        .relu = l->relu,
        .mask = l->mask,
        .residual_mask = v->residual_mask ? l->other_mask : NULL,
        .q_channel = output_ptr(outs, "q_channel"),
        .q_channel_lo = output_ptr(outs, "channel_lo"),
        .range_channel = {.inverse = l->inverse,
            .count = v->d_residual == 2 ? 1 : l->channels,
            .code_max = v->q_channel == 2 ? 16256 : 127,
            .grid = v->grid},
        .q_tensor = output_ptr(outs, "q_tensor"),
        .q_tensor_lo = output_ptr(outs, "tensor_lo"),
        .range_tensor = {.inverse = l->inverse,
            .count = 1,
            .code_max = v->q_tensor == 2 ? 16256 : 127,
            .grid = v->grid},
        .rounding = v->stochastic ? OCT_STOCHASTIC : OCT_NEAREST,
        .tensor = 12,
        .dy = output_ptr(outs, "dy"),
        .dy_dtype = v->dy == 1 ? OCT_BF16 : OCT_F32,
        .dy_mode = v->accumulate ? OCT_ACCUMULATE : OCT_OVERWRITE,
        .d_residual = output_ptr(outs, "d_residual"),
        .d_residual_dtype = v->d_residual == 1 ? OCT_BF16 : OCT_F32,
        .d_residual_mode = v->accumulate ? OCT_ACCUMULATE : OCT_OVERWRITE,
        .sigma = l->sigma,
        .sigma_all = l->sigma,
        .above = output_ptr(outs, "above"),
        .above_all = output_ptr(outs, "above_all"),
        .amax = output_ptr(outs, "amax"),
        .saturated = output_ptr(outs, "saturated"),
        .flag = output_ptr(outs, "flag")};
}

/* An output that may be added to. */
static void add_gradient(struct outputs *outs, const char *name, enum oct_dtype dtype, int64_t n)
{
    void *old = output_add(outs, name, dtype, n, true);
    if (old && dtype == OCT_BF16)
        fill_bf16(old, n, FILL_RANDOM, 900);
    else if (old)
        fill_f32(old, n, FILL_RANDOM, 901);
}

static void apply_outputs(
    const struct layer *l, const struct apply_variant *v, struct outputs *outs)
{
    enum oct_dtype residual = v->d_residual == 1 ? OCT_BF16 : OCT_F32;
    output_add(outs, "q_channel", OCT_S8, v->q_channel ? l->n : 0, true);
    output_add(outs, "channel_lo", OCT_S8, v->q_channel == 2 ? l->n : 0, true);
    output_add(outs, "q_tensor", OCT_S8, v->q_tensor ? l->n : 0, true);
    output_add(outs, "tensor_lo", OCT_S8, v->q_tensor == 2 ? l->n : 0, true);
    add_gradient(outs, "dy", v->dy == 1 ? OCT_BF16 : OCT_F32, v->dy ? l->n : 0);
    add_gradient(outs, "d_residual", residual, v->d_residual ? l->n : 0);
    output_add(outs, "above", OCT_S64, v->statistics ? l->channels : 0, true);
    output_add(outs, "above_all", OCT_S64, v->statistics ? 1 : 0, true);
    output_add(outs, "amax", OCT_F32, v->statistics ? l->channels : 0, true);
    output_add(outs, "saturated", OCT_S64, v->statistics ? 2 : 0, false);
    output_add(outs, "flag", OCT_S32, 1, false);
}

static uint8_t *rounding_bytes(
    const struct oct_step_state *step, uint32_t tensor, uint64_t first, int64_t n)
{
    uint32_t key = oct_rounding_key(step->seed, step->step, tensor);
    uint8_t *bytes = guard_alloc((size_t)n);
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)oct_rounding_byte(key, first + (uint64_t)i);
    return bytes;
}

static bool apply_case(
    const struct bwd_case *c, const struct apply_variant *v, const uint32_t *poison)
{
    bool same = true;
    struct outputs outs = {0};
    struct layer l = layer_open(c, v->da, v->y, v->gate);
    /* one case starts close to the counter's carry out of 32 bits */
    int64_t per_sample = c->seed == 11 ? ((int64_t)1 << 32) : 7;
    struct oct_step_state step = {.seed = c->seed, .step = 9, .first_sample = 3};
    if (c->seed == 14) { /* 4 * 2^32 - 64 elements, 32 channels: the carry lies inside a run */
        step.first_sample = 1;
        per_sample = ((int64_t)1 << 29) - 1;
    }
    uint8_t *random = rounding_bytes(
        &step, 12, (uint64_t)step.first_sample * (uint64_t)per_sample * (uint64_t)c->channels, l.n);
    if (poison && v->da == OCT_BF16)
        ((uint16_t *)l.da)[l.n / 2] = (uint16_t)(*poison >> 16);
    else if (poison)
        memcpy((float *)l.da + l.n / 2, poison, sizeof *poison);
    apply_outputs(&l, v, &outs);
    oct_cpu_flush_subnormals();
    for (int run = -1; run < RIG_ISAS * RIG_THREADS && same; run++) {
        struct oct_cpu cpu;
        if (run >= 0 && !norm_rig_open(run / RIG_THREADS, run % RIG_THREADS + 1, &cpu))
            continue;
        outs.use_got = run >= 0;
        outputs_reset(&outs);
        struct oct_bn_bwd_apply_args g = apply_args(&l, v, &outs);
        g.rows_per_sample = per_sample;
        g.step = v->stochastic ? &step : NULL;
        if (run < 0) {
            oracle_bn_bwd_apply(&g, random);
            continue;
        }
        g.workspace = guard_alloc(cpu.table.bn_workspace(&cpu.table, c->rows, c->channels));
        same = cpu.table.bn_bwd_apply(&cpu.table, &g) == OCT_OK &&
               outputs_same(&outs, c->channels) && guard_intact(g.workspace, "workspace");
        if (same && poison && *g.flag == 0) {
            printf("a value that is not finite raised no flag\n");
            same = false;
        }
        if (!same)
            print_case(c, oct_last_error(), v->da, v->y, v->gate);
        guard_free(g.workspace);
        norm_rig_close(&cpu);
    }
    outputs_free(&outs);
    guard_free(random);
    layer_close(&l);
    return same;
}

ParameterizedTestParameters(norm_bwd, apply_equals_the_oracle)
{
    return cr_make_param_array(struct bwd_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(struct bwd_case *c, norm_bwd, apply_equals_the_oracle, .timeout = 120)
{
    static const struct apply_variant variants[] = {
        {OCT_BF16, OCT_BF16, GATE_Z, 1, 1, 1, 0, 0, 0, 0, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_Z, 1, 1, 0, 0, 0, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_MASK, 1, 1, 1, 0, 1, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_MASK, 2, 1, 1, 1, 1, 1, 0, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, OPEN, 2, 2, 1, 2, 0, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_F32, OCT_F32, GATE_Z, 0, 0, 0, 2, 2, 1, 0, OCT_GRID_UNIFORM, 0},
        {OCT_F32, OCT_BF16, GATE_MASK, 0, 2, 0, 0, 2, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_F32, OPEN, 1, 0, 1, 1, 0, 0, 0, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_Z, 2, 1, 1, 0, 2, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, OPEN, 1, 1, 0, 0, 1, 1, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_MASK, 1, 1, 0, 0, 0, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_BF16, OCT_BF16, GATE_MASK, 1, 1, 0, 0, 1, 0, 1, OCT_GRID_MU8, 1},
        {OCT_BF16, OCT_BF16, GATE_Z, 0, 1, 0, 0, 0, 0, 1, OCT_GRID_MU8, 0},
        {OCT_BF16, OCT_BF16, MASK_ALONE, 2, 2, 0, 2, 2, 1, 0, OCT_GRID_FLAG, 1},
        {OCT_F32, OCT_F32, GATE_Z, 2, 1, 0, 0, 1, 1, 1, OCT_GRID_MU8, 1},
        {OCT_BF16, OCT_BF16, GATE_MASK, 0, 1, 1, 0, 1, 1, 0, OCT_GRID_UNIFORM, 1},
        {OCT_BF16, OCT_S8, GATE_Z, 0, 2, 0, 0, 0, 0, 1, OCT_GRID_FLAG, 0},
        {OCT_BF16, OCT_S8, GATE_MASK, 0, 1, 0, 0, 1, 1, 1, OCT_GRID_UNIFORM, 0},
    };
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)
        cr_expect(apply_case(c, &variants[v], NULL), "variant %zu", v);
}

Test(norm_bwd, apply_flags_what_is_not_finite)
{
    static const uint32_t poisons[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc10000u};
    static const struct apply_variant variants[] = {
        {OCT_BF16, OCT_BF16, OPEN, 1, 1, 1, 0, 0, 0, 1, OCT_GRID_UNIFORM, 0},
        {OCT_F32, OCT_BF16, OPEN, 2, 1, 0, 1, 1, 0, 1, OCT_GRID_UNIFORM, 0},
    };
    for (int p = 0; p < 4; p++)
        for (int v = 0; v < 2; v++) {
            const struct bwd_case odd = {257, 17, FILL_RANDOM, 50}, last = {1, 1, FILL_RANDOM, 51};
            cr_expect(apply_case(&odd, &variants[v], &poisons[p]));
            cr_expect(apply_case(&last, &variants[v], &poisons[p]));
        }
}

/* The chain of a layer in training, on float statistics. */
enum { CHAIN_ROWS = 600, CHAIN_CHANNELS = 17, CHAIN = CHAIN_ROWS * CHAIN_CHANNELS };

struct chain {
    float y[CHAIN], da[CHAIN], dy[CHAIN], gamma[CHAIN_CHANNELS], beta[CHAIN_CHANNELS];
    float a[CHAIN_CHANNELS], b[CHAIN_CHANNELS], ix[CHAIN_CHANNELS], jx[CHAIN_CHANNELS];
    float m1[CHAIN_CHANNELS], m2[CHAIN_CHANNELS], dgamma[CHAIN_CHANNELS], dbeta[CHAIN_CHANNELS];
    float dz_min[CHAIN_CHANNELS], dz_max[CHAIN_CHANNELS], xhat_max[CHAIN_CHANNELS];
    float bound[CHAIN_CHANNELS], sigma[CHAIN_CHANNELS], amax[CHAIN_CHANNELS], sigma_all;
    double sum_dz[CHAIN_CHANNELS], sum_dz_xhat[CHAIN_CHANNELS], sum_dz2[CHAIN_CHANNELS];
    uint32_t flag;
    int rows, relu;
    float eps;
};

static void chain_finalize(struct oct_cpu *cpu, struct chain *t)
{
    double sum[CHAIN_CHANNELS] = {0}, sumsq[CHAIN_CHANNELS] = {0};
    float low[CHAIN_CHANNELS], high[CHAIN_CHANNELS], mean[CHAIN_CHANNELS] = {0};
    float var[CHAIN_CHANNELS] = {0};
    for (int i = 0; i < t->rows * CHAIN_CHANNELS; i++) {
        int c = i % CHAIN_CHANNELS;
        float y = t->y[i];
        sum[c] += (double)y;
        sumsq[c] += (double)y * (double)y;
        low[c] = i == c || y < low[c] ? y : low[c];
        high[c] = i == c || y > high[c] ? y : high[c];
    }
    const struct oct_bn_finalize_args g = {.channels = CHAIN_CHANNELS,
        .count = t->rows,
        .training = 1,
        .sum = sum,
        .sumsq = sumsq,
        .y_min = low,
        .y_max = high,
        .gamma = t->gamma,
        .beta = t->beta,
        .eps = t->eps,
        .momentum = 0.1f,
        .running_mean = mean,
        .running_var = var,
        .relu = t->relu,
        .a = t->a,
        .b = t->b,
        .ix = t->ix,
        .jx = t->jx,
        .xhat_max = t->xhat_max,
        .flag = &t->flag};
    cr_assert_eq(cpu->table.bn_finalize(&cpu->table, &g), OCT_OK);
}

static void chain_run(struct oct_cpu *cpu, struct chain *t)
{
    void *workspace = guard_alloc(cpu->table.bn_workspace(&cpu->table, t->rows, CHAIN_CHANNELS));
    chain_finalize(cpu, t);
    const struct oct_bn_bwd_reduce_args r = {.rows = t->rows,
        .channels = CHAIN_CHANNELS,
        .da = t->da,
        .y = t->y,
        .a = t->a,
        .b = t->b,
        .ix = t->ix,
        .jx = t->jx,
        .relu = t->relu,
        .sum_dz = t->sum_dz,
        .sum_dz_xhat = t->sum_dz_xhat,
        .sum_dz2 = t->sum_dz2,
        .dz_min = t->dz_min,
        .dz_max = t->dz_max,
        .workspace = workspace};
    const struct oct_bn_bwd_finalize_args f = {.channels = CHAIN_CHANNELS,
        .count = t->rows,
        .sum_dz = t->sum_dz,
        .sum_dz_xhat = t->sum_dz_xhat,
        .sum_dz2 = t->sum_dz2,
        .dz_min = t->dz_min,
        .dz_max = t->dz_max,
        .xhat_max = t->xhat_max,
        .a = t->a,
        .ix = t->ix,
        .eps = t->eps,
        .m1 = t->m1,
        .m2 = t->m2,
        .dgamma = t->dgamma,
        .dbeta = t->dbeta,
        .bound = t->bound,
        .sigma = t->sigma,
        .sigma_all = &t->sigma_all};
    const struct oct_bn_bwd_apply_args p = {.rows = t->rows,
        .channels = CHAIN_CHANNELS,
        .da = t->da,
        .y = t->y,
        .a = t->a,
        .b = t->b,
        .ix = t->ix,
        .jx = t->jx,
        .m1 = t->m1,
        .m2 = t->m2,
        .relu = t->relu,
        .dy = t->dy,
        .amax = t->amax,
        .workspace = workspace,
        .flag = &t->flag};
    cr_assert_eq(cpu->table.bn_bwd_reduce(&cpu->table, &r), OCT_OK);
    cr_assert_eq(cpu->table.bn_bwd_finalize(&cpu->table, &f), OCT_OK);
    cr_assert_eq(cpu->table.bn_bwd_apply(&cpu->table, &p), OCT_OK);
    guard_free(workspace);
}

static void chain_fill(struct chain *t, uint64_t seed, float da_scale, float y_scale)
{
    fill_f32(t->y, CHAIN, FILL_RANDOM, seed);
    fill_f32(t->da, CHAIN, FILL_RANDOM, seed + 1);
    fill_f32(t->gamma, CHAIN_CHANNELS, FILL_RANDOM, seed + 2);
    fill_f32(t->beta, CHAIN_CHANNELS, FILL_RANDOM, seed + 3);
    for (int i = 0; i < CHAIN; i++) {
        t->y[i] *= y_scale;
        t->da[i] *= da_scale;
    }
    t->flag = 0;
}

Test(norm_bwd, the_bound_holds_at_every_scale, .timeout = 120)
{
    static struct chain t;
    struct oct_cpu cpu;
    int attained = 0;
    cr_assert(norm_rig_open(0, 1, &cpu));
    for (int i = 0; i < 3000; i++) {
        uint32_t r = oct_mix32((uint32_t)i + 77);
        t.rows = 1 + (int)(r % 90);
        t.relu = (int)(r >> 8 & 1);
        t.eps = 1e-5f;
        chain_fill(&t, (uint64_t)i * 10, ldexpf(1.0f, (int)(r >> 9 & 127) - 64),
            ldexpf(1.0f, (int)(r >> 16 & 63) - 31));
        if (i % 3 == 0) /* few distinct values: the extremes of dz and xhat meet in one element */
            for (int j = 0; j < CHAIN; j++) {
                t.y[j] = copysignf(1.0f, t.y[j]);
                t.da[j] = j % 5 ? t.y[j] : -t.y[j];
            }
        chain_run(&cpu, &t);
        for (int c = 0; c < CHAIN_CHANNELS; c++) {
            attained += t.amax[c] == t.bound[c] && t.amax[c] > 0.0f;
            cr_expect(t.amax[c] <= t.bound[c], "case %d, channel %d: |dy| %.9g over bound %.9g", i,
                c, (double)t.amax[c], (double)t.bound[c]);
        }
    }
    cr_expect(attained > 0, "no case reached its bound: the test is too easy");
    printf("bound reached exactly in %d of %d channels\n", attained, 3000 * CHAIN_CHANNELS);
    norm_rig_close(&cpu);
}

Test(norm_bwd, the_bound_is_tight_and_sigma_is_right_on_normal_data)
{
    static struct chain t;
    struct oct_cpu cpu;
    double worst = 0.0, sum = 0.0;
    int alive = 0;
    cr_assert(norm_rig_open(0, 1, &cpu));
    for (int i = 0; i < 40; i++) {
        double all = 0.0, slack_all = 0.0;
        t.rows = CHAIN_ROWS;
        t.relu = i & 1;
        t.eps = i & 2 ? 0.1f : 1e-5f; /* a large eps makes the term with it visible */
        chain_fill(&t, (uint64_t)i * 10 + 5, 1e-3f, 1.0f);
        chain_run(&cpu, &t);
        for (int c = 0; c < CHAIN_CHANNELS; c++) {
            double ratio = (double)t.bound[c] / (double)t.amax[c], square = 0.0;
            if (t.amax[c] > 0.0f) { /* else no z of this channel is positive */
                worst = ratio > worst ? ratio : worst;
                sum += ratio;
                alive++;
            }
            for (int p = 0; p < t.rows; p++)
                square +=
                    (double)t.dy[p * CHAIN_CHANNELS + c] * (double)t.dy[p * CHAIN_CHANNELS + c];
            square /= t.rows;
            /* Each sum over 256 pixels in float errs by gamma(256) of the sum of magnitudes; by
             * Cauchy every term of the variance is at most E[dz^2], and m1^2 and m2^2 double their
             * error: (1 + 2 + 2) gamma. dy itself: six roundings of terms of that size each. The
             * mean of xhat is 0 to a few roundings, times 2 m1 m2. */
            double scale = (double)t.a[c] * (double)t.a[c] * t.sum_dz2[c] / t.rows;
            double slack = scale * (5.0 * 256.0 + 64.0) * 0x1p-24;
            double got = (double)t.sigma[c] * (double)t.sigma[c];
            cr_expect(fabs(got - square) <= slack, "case %d, channel %d: sigma^2 %.9g, found %.9g",
                i, c, got, square);
            all += square / CHAIN_CHANNELS;
            slack_all += slack / CHAIN_CHANNELS;
        }
        double got = (double)t.sigma_all * (double)t.sigma_all;
        cr_expect(fabs(got - all) <= slack_all, "sigma_all^2 %.9g, found %.9g", got, all);
    }
    printf("bound / amax: mean %.3f, largest %.3f\n", sum / alive, worst);
    cr_expect(worst < 1.6 && alive > 30 * CHAIN_CHANNELS);
    norm_rig_close(&cpu);
}

/* sum over pixels of da relu(BN(y)) for one channel, in double. */
static double loss_of(const double *y, const struct chain *t, int c)
{
    double mean = 0.0, var = 0.0, loss = 0.0;
    for (int p = 0; p < t->rows; p++)
        mean += y[p] / t->rows;
    for (int p = 0; p < t->rows; p++)
        var += (y[p] - mean) * (y[p] - mean) / t->rows;
    for (int p = 0; p < t->rows; p++) {
        double z = (double)t->gamma[c] * (y[p] - mean) / sqrt(var + (double)t->eps);
        z += (double)t->beta[c];
        if (z > 0.0 || !t->relu)
            loss += z * (double)t->da[p * CHAIN_CHANNELS + c];
    }
    return loss;
}

Test(norm_bwd, the_chain_is_the_derivative)
{
    static struct chain t;
    struct oct_cpu cpu;
    double y[CHAIN_ROWS];
    const double h = 1e-5;
    cr_assert(norm_rig_open(0, 1, &cpu));
    for (int i = 0; i < 6; i++) {
        t.rows = 40;
        t.relu = i & 1;
        t.eps = i & 2 ? 0.5f : 1e-5f;
        chain_fill(&t, (uint64_t)i * 10 + 7000, 1.0f, 1.0f);
        chain_run(&cpu, &t);
        for (int c = 0; c < CHAIN_CHANNELS; c++)
            for (int p = 0; p < t.rows; p++) {
                for (int q = 0; q < t.rows; q++)
                    y[q] = (double)t.y[q * CHAIN_CHANNELS + c];
                y[p] += h;
                double up = loss_of(y, &t, c);
                y[p] -= 2.0 * h;
                double slope = (up - loss_of(y, &t, c)) / (2.0 * h);
                double got = (double)t.dy[p * CHAIN_CHANNELS + c];
                /* dy is a sum of three terms of at most |a| (|dz| + |m1| + |xhat m2|), under 40
                 * here, with a few dozen roundings of 2^-24: 1e-4. The difference quotient errs by
                 * h^2 f'''/6 and by 1e-14 / h: below 1e-7. */
                cr_expect(fabs(got - slope) < 1e-4, "case %d, pixel %d, channel %d: %.9g, %.9g", i,
                    p, c, got, slope);
            }
    }
    norm_rig_close(&cpu);
}

Test(norm_bwd, finalize_equals_the_oracle)
{
    static struct chain t;
    static const char *const names[] = {"m1", "m2", "dgamma", "dbeta", "bound", "sigma"};
    struct oct_cpu cpu;
    cr_assert(norm_rig_open(0, 1, &cpu));
    for (int i = 0; i < 20; i++) {
        struct outputs outs = {0};
        t.rows = 1 + 7 * i;
        t.relu = i & 1;
        t.eps = 1e-3f;
        chain_fill(&t, (uint64_t)i, 1.0f, 1.0f);
        chain_run(&cpu, &t); /* gives the sums */
        /* those of few rows are floats, those of many need a double */
        for (int c = 0; c < CHAIN_CHANNELS; c++) {
            t.sum_dz[c] *= 1.0 + 0x1.6p-26;
            t.sum_dz_xhat[c] *= 1.0 + 0x1.6p-26;
            t.sum_dz2[c] *= 1.0 + 0x1.6p-26;
        }
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++)
            fill_f32(output_add(&outs, names[k], OCT_F32, CHAIN_CHANNELS, true), CHAIN_CHANNELS,
                FILL_RANDOM, k);
        output_add(&outs, "sigma_all", OCT_F32, 1, true);
        for (int got = 0; got < 2; got++) {
            outs.use_got = got;
            outputs_reset(&outs);
            const struct oct_bn_bwd_finalize_args g = {.channels = CHAIN_CHANNELS,
                .count = t.rows,
                .sum_dz = t.sum_dz,
                .sum_dz_xhat = t.sum_dz_xhat,
                .sum_dz2 = t.sum_dz2,
                .dz_min = t.dz_min,
                .dz_max = t.dz_max,
                .xhat_max = t.xhat_max,
                .a = t.a,
                .ix = t.ix,
                .eps = t.eps,
                .m1 = output_ptr(&outs, "m1"),
                .m2 = output_ptr(&outs, "m2"),
                .dgamma = output_ptr(&outs, "dgamma"),
                .dbeta = output_ptr(&outs, "dbeta"),
                .mode = i & 2 ? OCT_ACCUMULATE : OCT_OVERWRITE,
                .bound = output_ptr(&outs, "bound"),
                .sigma = output_ptr(&outs, "sigma"),
                .sigma_all = output_ptr(&outs, "sigma_all")};
            if (got)
                cr_expect_eq(cpu.table.bn_bwd_finalize(&cpu.table, &g), OCT_OK);
            else
                oracle_bn_bwd_finalize(&g);
        }
        cr_expect(outputs_same(&outs, CHAIN_CHANNELS), "rows %d, relu %d", t.rows, t.relu);
        outputs_free(&outs);
    }
    norm_rig_close(&cpu);
}
