/* The finishing ops of an activation without normalisation, affine_finalize and
 * affine_bwd_finalize, against the oracle, bit for bit; what they refuse. The passes over pixels
 * are those of a normalisation: test_norm.c, test_norm_bwd.c. */
#include "oracle/oracle_norm.h"
#include "support/norm_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { CHANNELS = 300 };
enum { NONE, SCALAR, PER_CHANNEL }; /* biases */

static const int channel_counts[] = {1, 3, 7, 16, 17, 64, 65, CHANNELS};
static const size_t channel_cases = sizeof channel_counts / sizeof channel_counts[0];

static int bias_count(int kind, int channels)
{
    return kind == PER_CHANNEL ? channels : 1;
}

/* --- forward --- */

struct forward_case {
    int channels, bias, scale, relu, z_amax, per_k;
    enum oct_dtype y_dtype;
    uint64_t seed;
};

struct forward_inputs {
    float bias[CHANNELS], w_scale[CHANNELS], scale, x_scale;
    int64_t min[CHANNELS], max[CHANNELS];
    struct oct_acc_stats acc;
};

static void fill_forward(struct forward_inputs *in, const struct forward_case *k)
{
    float ends[2 * CHANNELS];
    fill_f32(in->bias, k->channels, FILL_RANDOM, k->seed);
    fill_f32(in->w_scale, k->channels, FILL_RANDOM, k->seed + 1);
    fill_f32(&in->scale, 1, FILL_RANDOM, k->seed + 2);
    fill_f32(ends, 2 * k->channels, FILL_RANDOM, k->seed + 3);
    in->x_scale = 0.02f;
    for (int c = 0; c < k->channels; c++) {
        int64_t p = (int64_t)(ends[2 * c] * 3000.0f), q = (int64_t)(ends[2 * c + 1] * 3000.0f);
        in->min[c] = p < q ? p : q;
        in->max[c] = p < q ? q : p;
        in->w_scale[c] = fabsf(in->w_scale[c]) * 1e-2f;
    }
    in->acc = (struct oct_acc_stats){.min = in->min, .max = in->max};
}

static struct oct_affine_finalize_args forward_args(
    const struct forward_case *k, struct forward_inputs *in, const struct outputs *outs)
{
    return (struct oct_affine_finalize_args){.channels = k->channels,
        .scale = k->scale ? &in->scale : NULL,
        .bias = k->bias != NONE ? in->bias : NULL,
        .bias_count = bias_count(k->bias, k->channels),
        .relu = k->relu,
        .acc = k->z_amax ? &in->acc : NULL,
        .x_scale = k->z_amax ? &in->x_scale : NULL,
        .w_scale = k->z_amax ? in->w_scale : NULL,
        .w_scale_per_k = k->per_k,
        .y_dtype = k->y_dtype,
        .a = output_ptr(outs, "a"),
        .b = output_ptr(outs, "b"),
        .ix = output_ptr(outs, "ix"),
        .jx = output_ptr(outs, "jx"),
        .z_amax = output_ptr(outs, "z_amax")};
}

static bool forward_agrees(const struct forward_case *k)
{
    static const char *const names[] = {"a", "b", "ix", "jx"};
    static struct forward_inputs in;
    struct outputs outs = {0};
    struct oct_cpu cpu;
    fill_forward(&in, k);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        output_add(&outs, names[i], OCT_F32, k->channels, true);
    output_add(&outs, "z_amax", OCT_F32, k->z_amax ? k->channels : 0, true);
    norm_rig_open(0, 1, &cpu);
    oct_cpu_flush_subnormals();
    outputs_reset(&outs);
    struct oct_affine_finalize_args g = forward_args(k, &in, &outs);
    oracle_affine_finalize(&g);
    outs.use_got = true;
    outputs_reset(&outs);
    g = forward_args(k, &in, &outs);
    bool same =
        cpu.table.affine_finalize(&cpu.table, &g) == OCT_OK && outputs_same(&outs, k->channels);
    if (!same)
        printf("channels %d, bias %d, scale %d, relu %d, z_amax %d, seed %llu: %s\n", k->channels,
            k->bias, k->scale, k->relu, k->z_amax, (unsigned long long)k->seed, oct_last_error());
    norm_rig_close(&cpu);
    outputs_free(&outs);
    return same;
}

Test(affine, finalize_equals_the_oracle)
{
    for (size_t i = 0; i < channel_cases * 3 * 8; i++) {
        int bits = (int)(i / (channel_cases * 3));
        const struct forward_case k = {.channels = channel_counts[i % channel_cases],
            .bias = (int)(i / channel_cases % 3),
            .scale = bits & 1,
            .relu = bits >> 1 & 1,
            .z_amax = bits != 5,
            .per_k = bits >> 2 & 1,
            .y_dtype = bits & 4 ? OCT_F32 : OCT_BF16,
            .seed = 10 * i};
        cr_expect(forward_agrees(&k));
    }
}

/* --- backward --- */

struct backward_case {
    int channels, bias, scale, evidence;
    enum oct_write mode;
    int64_t count;
    uint64_t seed;
};

struct backward_inputs {
    double sum_dz[CHANNELS], sum_dz_y[CHANNELS], sum_dz2[CHANNELS];
    float dz_min[CHANNELS], dz_max[CHANNELS], a[CHANNELS];
};

static void fill_backward(struct backward_inputs *in, const struct backward_case *k)
{
    float random[4 * CHANNELS], scale;
    fill_f32(random, 4 * k->channels, FILL_RANDOM, k->seed);
    fill_f32(&scale, 1, FILL_RANDOM, k->seed + 1);
    for (int c = 0; c < k->channels; c++) {
        const float *r = random + 4 * c;
        bool dead = c % 13 == 5;
        in->sum_dz[c] = dead ? 0.0 : (double)r[0] * 100.0 + (double)r[1] * 1e-7;
        in->sum_dz_y[c] = dead ? 0.0 : (double)r[1] * 30.0 + (double)r[2] * 1e-8;
        in->sum_dz2[c] = dead ? 0.0 : fabs((double)r[2]) * 10.0;
        in->dz_min[c] = dead ? 0.0f : -fabsf(r[3]);
        in->dz_max[c] = dead ? 0.0f : fabsf(r[0]);
        in->a[c] = k->scale ? scale : 1.0f;
    }
}

static struct oct_affine_bwd_finalize_args backward_args(
    const struct backward_case *k, const struct backward_inputs *in, const struct outputs *outs)
{
    return (struct oct_affine_bwd_finalize_args){.channels = k->channels,
        .count = k->count,
        .sum_dz = in->sum_dz,
        .sum_dz_y = in->sum_dz_y,
        .sum_dz2 = in->sum_dz2,
        .dz_min = in->dz_min,
        .dz_max = in->dz_max,
        .a = in->a,
        .m1 = output_ptr(outs, "m1"),
        .m2 = output_ptr(outs, "m2"),
        .dscale = output_ptr(outs, "dscale"),
        .dbias = output_ptr(outs, "dbias"),
        .bias_count = bias_count(k->bias, k->channels),
        .mode = k->mode,
        .bound = output_ptr(outs, "bound"),
        .sigma = output_ptr(outs, "sigma"),
        .sigma_all = output_ptr(outs, "sigma_all")};
}

static void backward_outputs(const struct backward_case *k, struct outputs *outs)
{
    int c = k->channels, biases = k->bias == NONE ? 0 : bias_count(k->bias, c);
    output_add(outs, "m1", OCT_F32, c, true);
    output_add(outs, "m2", OCT_F32, c, true);
    float *scale = output_add(outs, "dscale", OCT_F32, k->scale ? 1 : 0, true);
    float *bias = output_add(outs, "dbias", OCT_F32, biases, true);
    if (scale)
        fill_f32(scale, 1, FILL_RANDOM, k->seed + 2);
    if (bias)
        fill_f32(bias, biases, FILL_RANDOM, k->seed + 3);
    output_add(outs, "bound", OCT_F32, k->evidence ? c : 0, true);
    output_add(outs, "sigma", OCT_F32, k->evidence ? c : 0, true);
    output_add(outs, "sigma_all", OCT_F32, k->evidence ? 1 : 0, true);
}

static bool backward_agrees(const struct backward_case *k)
{
    static struct backward_inputs in;
    struct outputs outs = {0};
    struct oct_cpu cpu;
    fill_backward(&in, k);
    backward_outputs(k, &outs);
    norm_rig_open(0, 1, &cpu);
    oct_cpu_flush_subnormals();
    outputs_reset(&outs);
    struct oct_affine_bwd_finalize_args g = backward_args(k, &in, &outs);
    oracle_affine_bwd_finalize(&g);
    outs.use_got = true;
    outputs_reset(&outs);
    g = backward_args(k, &in, &outs);
    bool same =
        cpu.table.affine_bwd_finalize(&cpu.table, &g) == OCT_OK && outputs_same(&outs, k->channels);
    if (!same)
        printf("channels %d, bias %d, scale %d, evidence %d, mode %d, seed %llu: %s\n", k->channels,
            k->bias, k->scale, k->evidence, (int)k->mode, (unsigned long long)k->seed,
            oct_last_error());
    norm_rig_close(&cpu);
    outputs_free(&outs);
    return same;
}

Test(affine, bwd_finalize_equals_the_oracle)
{
    static const int64_t counts[] = {1, 7, 3136};
    for (size_t i = 0; i < channel_cases * 3 * 8; i++) {
        int bits = (int)(i / (channel_cases * 3));
        const struct backward_case k = {.channels = channel_counts[i % channel_cases],
            .bias = (int)(i / channel_cases % 3),
            .scale = bits & 1,
            .evidence = bits >> 1 & 1,
            .mode = bits & 4 ? OCT_ACCUMULATE : OCT_OVERWRITE,
            .count = counts[i % 3],
            .seed = 10 * i};
        cr_expect(backward_agrees(&k));
    }
}

Test(affine, what_makes_no_sense_is_refused)
{
    struct oct_cpu cpu;
    float x[4] = {0};
    norm_rig_open(0, 1, &cpu);
    const struct oct_affine_finalize_args biases = {.channels = 4, .bias = x, .bias_count = 2},
                                          amax = {.channels = 4, .z_amax = x};
    const struct oct_affine_bwd_finalize_args empty = {.channels = 4, .count = 0},
                                              bound = {.channels = 4, .count = 1, .bound = x},
                                              gradient = {.channels = 4,
                                                  .count = 1,
                                                  .dbias = x,
                                                  .bias_count = 3};
    cr_expect_eq(cpu.table.affine_finalize(&cpu.table, &biases), OCT_ARG);
    cr_expect_eq(cpu.table.affine_finalize(&cpu.table, &amax), OCT_ARG);
    cr_expect_eq(cpu.table.affine_bwd_finalize(&cpu.table, &empty), OCT_ARG);
    cr_expect_eq(cpu.table.affine_bwd_finalize(&cpu.table, &bound), OCT_ARG);
    cr_expect_eq(cpu.table.affine_bwd_finalize(&cpu.table, &gradient), OCT_ARG);
    norm_rig_close(&cpu);
}
