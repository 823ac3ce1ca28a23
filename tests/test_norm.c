/* Forward normalise-and-activate: bn_finalize and act_fwd against the unfused oracle, bit for bit,
 * for both instruction sets and 1, 2, 3 threads. test_norm_bwd.c has the backward ops. */
#include "oracle/oracle_norm.h"
#include "support/norm_rig.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>

struct norm_case {
    int64_t rows;
    int channels;
    enum fill fill;
    uint64_t seed;
};

/* Tails of 64 elements, wide parameters (channels that do not divide 64), one and several items. */
static struct norm_case cases[] = {
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
};

/* Runs the op with every instruction set and thread count; outputs must equal the oracle's. */
static bool act_agrees(struct oct_act_fwd_args *g, struct outputs *outs)
{
    bool same = true;
    oct_cpu_flush_subnormals();
    for (int run = -1; run < RIG_ISAS * RIG_THREADS && same; run++) {
        struct oct_cpu cpu;
        int isa = run / RIG_THREADS, threads = run % RIG_THREADS + 1;
        if (run >= 0 && !norm_rig_open(isa, threads, &cpu))
            continue;
        outs->use_got = run >= 0;
        outputs_reset(outs);
        g->x = output_ptr(outs, "x");
        g->trunk = output_ptr(outs, "trunk");
        g->mask = output_ptr(outs, "mask");
        g->amax = output_ptr(outs, "amax");
        g->saturated = output_ptr(outs, "saturated");
        g->inside = output_ptr(outs, "inside");
        g->clipped = output_ptr(outs, "clipped");
        g->y_above = output_ptr(outs, "y_above");
        g->flag = output_ptr(outs, "flag");
        if (run < 0) {
            oracle_act_fwd(g);
            continue;
        }
        same = cpu.table.act_fwd(&cpu.table, g) == OCT_OK && outputs_same(outs, g->channels);
        if (!same)
            printf("isa %d, %d threads: %s\n", isa, threads, oct_last_error());
        norm_rig_close(&cpu);
    }
    return same;
}

enum { NO_TENSOR = -1 };
struct act_variant {
    int y, residual, x, affine, relu, extras;
    int clip; /* channels are clipped; 2: and y is counted; 3: xhat is rounded instead */
    enum oct_grid grid;
};

static void round_xhat(struct oct_act_fwd_args *g, const float *ix, const float *jx)
{
    g->ix = ix;
    g->jx = jx;
    g->xhat_steps = 128.0f;
}

static bool act_case(const struct norm_case *c, struct act_variant v, const uint32_t *poison)
{
    int64_t n = c->rows * c->channels;
    float clip = 1.5f, scale = 0.01f;
    float inverse = oct_inverse_of_clip(c->fill == FILL_TINY ? clip * 1e-20f : clip, 127);
    struct outputs outs = {0};
    struct oct_act_fwd_args g = {.rows = c->rows,
        .channels = c->channels,
        .relu = v.relu,
        .y_dtype = (enum oct_dtype)v.y,
        .x_dtype = v.x < 0 ? OCT_S8 : (enum oct_dtype)v.x,
        .residual_dtype = v.residual < 0 ? OCT_S8 : (enum oct_dtype)v.residual,
        .residual_scale = &scale,
        .trunk_dtype = v.relu ? OCT_BF16 : OCT_F32,
        .x_range = {.inverse = &inverse, .count = 1, .code_max = 127, .grid = v.grid},
        .y_limit = 1.25f};
    void *y = filled(g.y_dtype, n, c->fill, c->seed);
    void *residual = filled(g.residual_dtype, n, c->fill, c->seed + 100);
    float *a = filled(OCT_F32, c->channels, FILL_RANDOM, c->seed + 200);
    float *b = filled(OCT_F32, c->channels, c->fill, c->seed + 300);
    float *lo = filled(OCT_F32, c->channels, FILL_RANDOM, c->seed + 400);
    float *hi = filled(OCT_F32, c->channels, FILL_RANDOM, c->seed + 500);

    for (int k = 0; k < c->channels; k++) { /* a third begin at 0, some are empty */
        lo[k] = k % 3 ? lo[k] - 0.5f : 0.0f;
        hi[k] = k % 11 == 10 ? lo[k] : lo[k] + fabsf(hi[k]) + 0.5f;
    }
    if (poison && v.y == OCT_F32)
        memcpy((float *)y + n / 2, poison, sizeof *poison);
    else if (poison)
        ((uint16_t *)y)[n / 2] = (uint16_t)(*poison >> 16);
    g.y = y;
    g.residual = v.residual < 0 ? NULL : residual;
    g.a = v.affine ? a : NULL;
    g.b = v.affine ? b : NULL;
    output_add(&outs, "x", g.x_dtype, v.x < 0 ? 0 : n, true);
    output_add(&outs, "trunk", g.trunk_dtype, v.extras ? n : 0, true);
    output_add(&outs, "mask", OCT_U8, v.extras ? (n + 7) / 8 : 0, true);
    output_add(&outs, "amax", OCT_F32, v.extras || v.x < 0 ? 1 : 0, true);
    output_add(&outs, "saturated", OCT_S64, v.extras ? 1 : 0, false);
    bool clipped = v.clip == 1 || v.clip == 2;
    g.clip_lo = clipped ? lo : NULL;
    g.clip_hi = clipped ? hi : NULL;
    if (v.clip == 3)
        round_xhat(&g, hi, lo);
    output_add(&outs, "inside", OCT_U8, clipped ? (n + 7) / 8 : 0, true);
    output_add(&outs, "clipped", OCT_S64, clipped ? 1 : 0, false);
    output_add(&outs, "y_above", OCT_S64, v.clip == 2 ? 1 : 0, false);
    output_add(&outs, "flag", OCT_S32, 1, false);
    bool same = act_agrees(&g, &outs);
    if (same && poison && *(uint32_t *)output_ptr(&outs, "flag") == 0) {
        printf("a value that is not finite raised no flag\n");
        same = false;
    }
    if (!same)
        printf("rows %lld, channels %d, fill %d, seed %llu; y %d, residual %d, x %d, affine %d, "
               "relu %d, extras %d, clip %d, grid %d\n",
            (long long)c->rows, c->channels, c->fill, (unsigned long long)c->seed, v.y, v.residual,
            v.x, v.affine, v.relu, v.extras, v.clip, (int)v.grid);
    outputs_free(&outs);
    guard_free(y);
    guard_free(residual);
    guard_free(a);
    guard_free(b);
    guard_free(lo);
    guard_free(hi);
    return same;
}

ParameterizedTestParameters(norm, act_equals_the_oracle)
{
    return cr_make_param_array(struct norm_case, cases, sizeof cases / sizeof cases[0]);
}

ParameterizedTest(struct norm_case *c, norm, act_equals_the_oracle, .timeout = 120)
{
    static const struct act_variant variants[] = {
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 1, 0, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 0, 1, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_S8, OCT_S8, 1, 1, 1, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_BF16, OCT_S8, 1, 1, 1, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_BF16, OCT_BF16, 0, 1, 0, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_F32, NO_TENSOR, 1, 1, 0, 0, OCT_GRID_UNIFORM},
        {OCT_F32, NO_TENSOR, OCT_S8, 1, 1, 1, 0, OCT_GRID_UNIFORM},
        {OCT_F32, OCT_F32, OCT_F32, 1, 0, 0, 0, OCT_GRID_UNIFORM},
        {OCT_F32, OCT_S8, OCT_BF16, 0, 1, 1, 0, OCT_GRID_UNIFORM},
        {OCT_F32, NO_TENSOR, NO_TENSOR, 0, 0, 0, 0, OCT_GRID_UNIFORM},
        {OCT_F32, NO_TENSOR, OCT_S8, 0, 0, 1, 0, OCT_GRID_UNIFORM},
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 1, 0, 1, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_S8, OCT_S8, 1, 1, 1, 2, OCT_GRID_UNIFORM},
        {OCT_BF16, OCT_BF16, OCT_S8, 1, 0, 1, 1, OCT_GRID_MU8},
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 0, 1, 2, OCT_GRID_UNIFORM},
        {OCT_F32, OCT_F32, OCT_F32, 1, 1, 1, 1, OCT_GRID_UNIFORM},
        {OCT_F32, NO_TENSOR, OCT_S8, 1, 1, 0, 2, OCT_GRID_MU8},
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 1, 1, 0, OCT_GRID_MU8},
        {OCT_BF16, NO_TENSOR, OCT_S8, 1, 1, 1, 3, OCT_GRID_UNIFORM},
        {OCT_F32, OCT_BF16, OCT_S8, 1, 0, 1, 3, OCT_GRID_UNIFORM},
    };
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)
        cr_expect(act_case(c, variants[v], NULL), "variant %zu", v);
}

/* Every tie between two codes, and those beyond the last one; in whole vectors, and not. */
Test(norm, act_rounds_ties_to_even)
{
    enum { TIES = 264 };
    float y[TIES], inverse = 64.0f;
    for (int i = 0; i < TIES; i++)
        y[i] = (float)(2 * i - TIES + 1) / 128.0f;
    for (int channels = 8; channels > 0; channels -= 7) {
        struct outputs outs = {0};
        struct oct_act_fwd_args g = {.rows = channels == 8 ? TIES / 8 : TIES - 1,
            .channels = channels,
            .y = y,
            .y_dtype = OCT_F32,
            .x_dtype = OCT_S8,
            .x_range = {.inverse = &inverse, .count = 1, .code_max = 127}};
        output_add(&outs, "x", OCT_S8, g.rows * channels, true);
        static const char *const unwanted[] = {
            "trunk", "mask", "amax", "inside", "clipped", "y_above"};
        for (size_t i = 0; i < sizeof unwanted / sizeof unwanted[0]; i++)
            output_add(&outs, unwanted[i], OCT_U8, 0, true);
        output_add(&outs, "saturated", OCT_S64, 1, false);
        output_add(&outs, "flag", OCT_S32, 1, false);
        cr_expect(act_agrees(&g, &outs));
        outputs_free(&outs);
    }
}

Test(norm, act_flags_what_is_not_finite)
{
    static const uint32_t poisons[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc10000u};
    for (size_t p = 0; p < sizeof poisons / sizeof poisons[0]; p++)
        for (size_t i = 0; i < 3; i++) {
            const struct norm_case c = {i == 0 ? 3 : 257, i == 2 ? 64 : 17, FILL_RANDOM, 40 + i};
            for (int relu = 0; relu < 2; relu++) {
                cr_expect(act_case(&c,
                    (struct act_variant){
                        OCT_BF16, OCT_S8, OCT_S8, 1, relu, 1, (int)p % 3, OCT_GRID_UNIFORM},
                    &poisons[p]));
                cr_expect(act_case(&c,
                    (struct act_variant){
                        OCT_F32, NO_TENSOR, OCT_BF16, 0, relu, 1, 0, OCT_GRID_UNIFORM},
                    &poisons[p]));
            }
        }
}

/* bn_finalize */

struct finalize_inputs {
    int64_t sum[300], sumsq[300], min[300], max[300];
    double fsum[300], fsumsq[300];
    float w_scale[300], gamma[300], beta[300], y_min[300], y_max[300];
};

/* Statistics that some data could have: `count` accumulators per channel. */
static void make_statistics(
    struct finalize_inputs *in, int channels, int64_t count, int shift, uint64_t seed)
{
    fill_f32(in->w_scale, channels, FILL_RANDOM, seed);
    fill_f32(in->gamma, channels, FILL_RANDOM, seed + 1);
    fill_f32(in->beta, channels, FILL_RANDOM, seed + 2);
    for (int c = 0; c < channels; c++) {
        float *values = guard_alloc((size_t)count * sizeof *values);
        fill_f32(values, count, c == 3 ? FILL_ZERO : FILL_RANDOM, seed + 3 + (uint64_t)c);
        in->w_scale[c] = fabsf(in->w_scale[c]) * 1e-3f;
        in->sum[c] = in->sumsq[c] = 0;
        in->fsum[c] = in->fsumsq[c] = 0.0;
        in->min[c] = INT64_MAX;
        in->max[c] = INT64_MIN;
        for (int64_t i = 0; i < count; i++) {
            int64_t acc = (int64_t)(values[i] * 5000.0f) + 1000 * (c % 5);
            int64_t part = oct_rshift_round(acc, shift);
            in->sum[c] += acc;
            in->sumsq[c] += part * part;
            in->min[c] = acc < in->min[c] ? acc : in->min[c];
            in->max[c] = acc > in->max[c] ? acc : in->max[c];
            in->fsum[c] += (double)values[i];
            in->fsumsq[c] += (double)values[i] * (double)values[i];
            in->y_min[c] = i == 0 || values[i] < in->y_min[c] ? values[i] : in->y_min[c];
            in->y_max[c] = i == 0 || values[i] > in->y_max[c] ? values[i] : in->y_max[c];
        }
        guard_free(values);
    }
}

static void bind_finalize(struct oct_bn_finalize_args *g, const struct outputs *outs)
{
    g->a = output_ptr(outs, "a");
    g->b = output_ptr(outs, "b");
    g->ix = output_ptr(outs, "ix");
    g->jx = output_ptr(outs, "jx");
    g->xhat_max = output_ptr(outs, "xhat_max");
    g->z_amax = output_ptr(outs, "z_amax");
    g->clip_lo = g->sigmas > 0.0f ? output_ptr(outs, "clip_lo") : NULL;
    g->clip_hi = g->sigmas > 0.0f ? output_ptr(outs, "clip_hi") : NULL;
    g->gamma_q = output_ptr(outs, "gamma_q");
    g->beta_q = output_ptr(outs, "beta_q");
    g->running_mean = output_ptr(outs, "running_mean");
    g->running_var = output_ptr(outs, "running_var");
    g->flag = output_ptr(outs, "flag");
}

static bool finalize_agrees(struct oct_bn_finalize_args *g, uint64_t seed, uint32_t flag_before)
{
    static const char *const names[] = {"a", "b", "ix", "jx", "xhat_max", "z_amax", "clip_lo",
        "clip_hi", "gamma_q", "beta_q", "running_mean", "running_var"};
    struct outputs outs = {0};
    struct oct_cpu cpu;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        float *initial = output_add(&outs, names[i], OCT_F32, g->channels, true);
        fill_f32(initial, g->channels, FILL_RANDOM, seed + 500 + i);
        for (int c = 0; c < g->channels; c++)
            initial[c] = fabsf(initial[c]);
    }
    *(uint32_t *)output_add(&outs, "flag", OCT_S32, 1, false) = flag_before;
    norm_rig_open(0, 1, &cpu);
    outputs_reset(&outs);
    bind_finalize(g, &outs);
    oracle_bn_finalize(g);
    outs.use_got = true;
    outputs_reset(&outs);
    bind_finalize(g, &outs);
    bool same = cpu.table.bn_finalize(&cpu.table, g) == OCT_OK && outputs_same(&outs, g->channels);
    if (!same)
        printf("channels %d, count %lld, training %d, shift %d, relu %d, seed %llu: %s\n",
            g->channels, (long long)g->count, g->training, g->acc ? g->acc->shift : -1, g->relu,
            (unsigned long long)seed, oct_last_error());
    norm_rig_close(&cpu);
    outputs_free(&outs);
    return same;
}

Test(norm, finalize_equals_the_oracle)
{
    static struct finalize_inputs in;
    static const int channel_counts[] = {1, 7, 17, 64, 300};
    static const int64_t counts[] = {1, 2, 100, 1000};
    for (int i = 0; i < 5 * 4 * 8; i++) {
        int channels = channel_counts[i % 5], option = i / 20;
        int64_t count = counts[i / 5 % 4];
        float x_scale = 0.02f;
        struct oct_acc_stats acc = {in.sum, in.sumsq, in.min, in.max, option & 1 ? 4 : 0};
        struct oct_bn_finalize_args g = {.channels = channels,
            .count = count,
            .training = option < 6,
            .acc = option & 2 ? NULL : &acc,
            .x_scale = &x_scale,
            .w_scale = in.w_scale,
            .w_scale_per_k = option & 1,
            .sum = in.fsum,
            .sumsq = in.fsumsq,
            .y_min = in.y_min,
            .y_max = in.y_max,
            .y_dtype = option & 1 ? OCT_BF16 : OCT_F32,
            .gamma = in.gamma,
            .beta = in.beta,
            .eps = 1e-5f,
            .momentum = 0.1f,
            .relu = option & 1};
        make_statistics(&in, channels, count, acc.shift, (uint64_t)i * 1000);
        cr_expect(finalize_agrees(&g, (uint64_t)i * 1000, 0));
        cr_expect(finalize_agrees(&g, (uint64_t)i * 1000, 1));
        g.sigmas = i & 1 ? 2.576f : 0.25f;
        cr_expect(finalize_agrees(&g, (uint64_t)i * 1000, 0));
        g.sigmas = 0.0f;
        g.rounding = (struct oct_bn_rounding){0x1p15f, 0x1p15f, 0x1p7f, i & 1 ? 0x1p7f : 0x1p15f};
        cr_expect(finalize_agrees(&g, (uint64_t)i * 1000, 0));
    }
}

Test(norm, a_variance_that_is_not_finite_flags_and_keeps_the_running_statistics)
{
    static const double bad[] = {NAN, INFINITY, 1e300};
    for (int i = 0; i < 3; i++) {
        double sum[2] = {1.0, 0.0}, sumsq[2] = {4.0, bad[i]};
        float ones[2] = {1.0f, 1.0f}, out[4][2], mean[2] = {3.0f, 4.0f}, var[2] = {5.0f, 6.0f};
        uint32_t flag = 0;
        struct oct_cpu cpu;
        struct oct_bn_finalize_args g = {.channels = 2,
            .count = 10,
            .training = 1,
            .sum = sum,
            .sumsq = sumsq,
            .gamma = ones,
            .beta = ones,
            .eps = 1e-5f,
            .momentum = 0.1f,
            .running_mean = mean,
            .running_var = var,
            .a = out[0],
            .b = out[1],
            .ix = out[2],
            .jx = out[3],
            .flag = &flag};
        norm_rig_open(0, 1, &cpu);
        cr_expect_eq(cpu.table.bn_finalize(&cpu.table, &g), OCT_OK);
        cr_expect_neq(flag, 0u);
        cr_expect(mean[0] == 3.0f && mean[1] == 4.0f && var[0] == 5.0f && var[1] == 6.0f);
        norm_rig_close(&cpu);
    }
}

Test(norm, refuses_what_it_cannot_do)
{
    struct oct_cpu cpu;
    static const float ones[4097]; /* as many as are asked for, if only to be refused */
    static uint16_t y[4097];
    static int8_t x[4097];
    float one = 1.0f;
    uint32_t flag = 0;
    norm_rig_open(0, 1, &cpu);
    const struct oct_act_fwd_args good = {.rows = 1,
        .channels = 1,
        .y = y,
        .y_dtype = OCT_BF16,
        .x = x,
        .x_dtype = OCT_S8,
        .x_range = {.inverse = &one, .count = 1, .code_max = 127},
        .flag = &flag};
    struct oct_act_fwd_args g = good;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_OK);
    g.a = ones;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG);
    g.b = ones;
    g.channels = 4097;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_SHAPE);
    g = good;
    g.x_range.code_max = 16256;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG);
    g = good;
    g.y_dtype = OCT_S8;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_UNSUPPORTED);
    g = good;
    g.clip_lo = g.clip_hi = ones;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG, "clip without a and b");
    g.a = g.b = ones;
    g.clip_hi = NULL;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG, "half a clip");
    g = good;
    g.xhat_steps = 128.0f;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG, "a rounded xhat without ix and jx");
    g.a = g.b = g.ix = g.jx = ones;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_OK);
    g.clip_lo = g.clip_hi = ones;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG, "a rounded xhat and a clip");
    g = good;
    g.inside = (uint8_t *)x;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG, "inside of no clip");
    g = good;
    g.flag = NULL;
    cr_expect_eq(cpu.table.act_fwd(&cpu.table, &g), OCT_ARG);
    const struct oct_bn_finalize_args none = {.channels = 1, .count = 0, .training = 1};
    cr_expect_eq(cpu.table.bn_finalize(&cpu.table, &none), OCT_ARG);
    cr_expect(strlen(oct_last_error()) > 20);
    norm_rig_close(&cpu);
}
