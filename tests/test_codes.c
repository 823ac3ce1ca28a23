/* Grids of codes, powers of two and the barrier: known answers of the published formulas, and the
 * scalar definitions against a second one. */
#include "backend.h"
#include "base/bn.h"
#include "cpu/vec_mu8.h"
#include "oracle/oracle_scheme.h"
#include "quant/policy.h"
#include "support/mirror.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <math.h>

static long double nearest(long double v)
{
    return rintl(v); /* ties to even; none of the formulas below meets one */
}

/* Mu-law with xmax = 1: storage codes of .001, .01, .1, .5, 1 and the values they stand for. */
Test(codes, mu_law_vectors)
{
    static const float x[] = {0.001f, 0.01f, 0.1f, 0.5f, 1.0f};
    static const int code[] = {5, 29, 75, 111, 127};
    static const double value[] = {0.000957, 0.00999, 0.09975, 0.49531, 1.0};
    for (int i = 0; i < 5; i++) {
        float v = x[i] * 127.0f;
        cr_expect_eq((int)oct_mu8_storage(v, 127), code[i], "x %g", (double)x[i]);
        cr_expect_eq((int)oct_mu8_storage(x[i] * 16256.0f, 16256), code[i], "x %g", (double)x[i]);
        double decoded = (pow(256.0, code[i] / 127.0) - 1.0) / 255.0;
        cr_expect_float_eq(decoded, value[i], 6e-6, "%.9g", decoded); /* the values' last digit */
        /* the linear codes are the nearest to it */
        cr_expect_eq((int)oct_mu8_linear((float)code[i], 127), (int)rint(127.0 * decoded));
        cr_expect_eq((int)oct_mu8_linear((float)code[i], 16256), (int)rint(16256.0 * decoded));
    }
}

/* Every storage code, in both widths, by the formula in 64-bit significands. */
Test(codes, mu_law_linear_codes_are_the_formula)
{
    static const int code_maxs[] = {127, 16256};
    for (int k = 0; k < 2; k++) {
        int before = -1;
        for (int c = 0; c <= 127; c++) {
            long double exact = code_maxs[k] * (powl(256.0L, c / 127.0L) - 1.0L) / 255.0L;
            int got = (int)oct_mu8_linear((float)c, code_maxs[k]);
            cr_expect_eq(got, (int)nearest(exact), "code %d: %d, formula %.6Lf", c, got, exact);
            cr_expect_eq(got, oracle_mu8_linear(c, code_maxs[k]));
            cr_expect(got >= before, "not monotonic at %d", c);
            before = got;
        }
        cr_expect_eq(before, code_maxs[k]);
    }
}

/* Within an interval of equal storage codes v is as near to the middle as the code's rounding says:
 * the error of 127 ln(1 + 255 u) / ln 256 is below 127 * 2^-21 (logarithm, argument and product).
 */
Test(codes, mu_law_storage_codes_are_the_formula)
{
    for (int code_max = 127; code_max <= 16256; code_max *= 128)
        for (int i = 0; i <= 200000; i++) {
            float v = (float)((double)i / 200000.0 * (double)code_max);
            double exact = 127.0 * log1p(255.0 * (double)v / code_max) / log(256.0);
            int got = (int)oct_mu8_storage(v, code_max);
            cr_assert(fabs(got - exact) <= 0.5 + 127.0 * 0x1p-21, "v %a: %d, %.9g", (double)v, got,
                exact);
            cr_assert_eq(got, oracle_mu8_storage(v, code_max), "v %a", (double)v);
        }
}

static void expect_table_code(float v)
{
    for (int sign = 0; sign < 2; sign++) {
        float x = sign ? -v : v;
        int code = vi_mu8_codes(vf_set(x)).v[0];
        cr_assert_eq(code, oct_quantise_on(OCT_GRID_MU8, x, 1.0f, OCT_CODE_MAX), "v %a: %d",
            (double)x, code);
    }
}

/* 64 floats on both sides of every integer and every step of the staircase, a sweep in between (the
 * steps are where the definition has them, not more of them elsewhere), and what is no code. */
Test(codes, mu_law_table_is_the_definition)
{
    for (int b = 0; b < 128; b++) {
        uint32_t edge[2] = {oct_bits_of_f32((float)b), oct_bits_of_f32(oct_mu8_threshold[b])};
        for (int k = 0; k < 2; k++)
            for (uint32_t i = 0; i < 129; i++)
                if (edge[k] + i >= 64)
                    expect_table_code(oct_f32_of_bits(edge[k] + i - 64));
        for (int i = 0; i < 4096; i++)
            expect_table_code((float)b + (float)i / 4096.0f);
    }
    static const float odd[] = {0.0f, 1e-38f, 127.0f, 128.0f, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        expect_table_code(odd[i]);
    cr_expect_eq(
        vi_mu8_codes(vf_set(NAN)).v[0], oct_quantise_on(OCT_GRID_MU8, NAN, 1.0f, OCT_CODE_MAX));
}

Test(codes, every_grid_equals_the_oracle)
{
    static const enum oct_grid grids[] = {OCT_GRID_UNIFORM, OCT_GRID_FLAG, OCT_GRID_MU8};
    static const float strange[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-39f, 127.5f, 128.0f,
        -128.49f, 16256.0f, 16191.9f, 16192.0f, 1e9f};
    for (int g = 0; g < 3; g++)
        for (int code_max = 127; code_max <= 16256; code_max *= 128)
            for (int i = 0; i < 40000; i++) {
                float x = (float)(int32_t)oct_mix32((uint32_t)i) * 0x1p-31f * 1.2f;
                float inverse = (float)code_max;
                if (i < 13) {
                    x = strange[i];
                    inverse = 1.0f;
                }
                int got = oct_quantise_on(grids[g], x, inverse, code_max);
                cr_assert_eq(got, oracle_grid_code(grids[g], x, inverse, code_max),
                    "grid %d, x %a: %d", g, (double)x, got);
                cr_assert(got >= -code_max && got <= code_max);
                int hi = oct_plane_hi(got), lo = oct_plane_lo(got);
                cr_assert(hi >= -127 && hi <= 127 && lo >= -64 && lo <= 63 && 128 * hi + lo == got);
            }
}

/* WAGEUBN's vectors: dy = 3e-4, -1.2e-4, 5e-6, 1e-6, -2e-8, R = 2^-12; QE1 codes 127, -63, 3, 1, 0;
 * QE2 (flag, n) (0,127) (0,-63) (0,3) (1,67) (1,-1), unit of flag 0 128 times that of flag 1. */
Test(codes, shift_and_flag_vectors)
{
    static const float dy[] = {3e-4f, -1.2e-4f, 5e-6f, 1e-6f, -2e-8f};
    static const int one[] = {127, -63, 3, 1, 0};
    static const int two[] = {127 * 128, -63 * 128, 3 * 128, 67, -1};
    static const double value[] = {2.42233e-4, -1.20163e-4, 5.72205e-6, 9.98378e-7, -1.49012e-8};
    cr_assert_eq(oct_pow2_of_clip(3e-4f, OCT_POW2_NEAREST), 0x1p-12f);
    struct oct_steps narrow = oct_steps_of_clip(3e-4f, 127, OCT_POW2_NEAREST);
    struct oct_steps wide = oct_steps_of_clip(3e-4f, 16256, OCT_POW2_NEAREST);
    cr_assert(narrow.scale == 0x1p-19f && narrow.inverse == 0x1p19f);
    cr_assert(wide.scale == 0x1p-26f && wide.inverse == 0x1p26f);
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(oct_quantise_on(OCT_GRID_UNIFORM, dy[i], narrow.inverse, 127), one[i]);
        int code = oct_quantise_on(OCT_GRID_FLAG, dy[i], wide.inverse, 16256);
        cr_expect_eq(code, two[i], "dy %g: %d", (double)dy[i], code);
        double real = (double)wide.scale * code; /* the vectors have six digits */
        cr_expect_float_eq(real, value[i], 5e-6 * fabs(value[i]), "%.9g", real);
    }
}

/* log2 of 2^e m is nearer to e + 1 exactly if m > sqrt(2), which lies between two floats. */
Test(codes, powers_of_two)
{
    for (int e = -126; e <= 127; e++) {
        float p = ldexpf(1.0f, e), next = e < 127 ? ldexpf(1.0f, e + 1) : p;
        for (uint32_t fraction = 0; fraction < 0x800000u; fraction += 0x801u) {
            float clip = oct_f32_of_bits(oct_bits_of_f32(p) | fraction);
            double m = 1.0 + fraction * 0x1p-23;
            cr_assert_eq(oct_pow2_of_clip(clip, OCT_POW2_UP), fraction ? next : p, "%a", clip);
            cr_assert_eq(
                oct_pow2_of_clip(clip, OCT_POW2_NEAREST), m * m > 2.0 ? next : p, "%a", clip);
        }
        cr_assert_eq(oct_pow2_of_clip(ldexpf(1.41421354f, e), OCT_POW2_NEAREST), p);
        cr_assert_eq(oct_pow2_of_clip(ldexpf(1.41421366f, e), OCT_POW2_NEAREST), next);
    }
    struct oct_steps none = oct_steps_of_clip(0.0f, 127, OCT_POW2_UP);
    cr_assert(none.scale == 0.0f && none.inverse == 0.0f);
}

/* psi of the log-barrier extension, for its slope is what the update takes. */
static double psi(double z, double t)
{
    if (z <= -1.0 / (t * t))
        return -log(-z) / t;
    return t * z - log(1.0 / (t * t)) / t + 1.0 / t;
}

/* psi_5 and psi_50 at -1, -.5, -.1, -.01, 0, .1, and their slopes by differences: step h = 1e-6
 * leaves h^2 psi'''/6 < 1e-6 of the slope away from the seam, where the slope's jump in curvature,
 * t^3, adds h t^3 / 2. */
Test(codes, barrier_vectors)
{
    static const double z[] = {-1.0, -0.5, -0.1, -0.01, 0.0, 0.1};
    static const double at5[] = {0.0, 0.1386, 0.4605, 0.7938, 0.8438, 1.3438};
    static const double at50[] = {0.0, 0.0139, 0.0461, 0.0921, 0.1765, 5.1765};
    for (int i = 0; i < 6; i++) {
        cr_expect_float_eq(psi(z[i], 5.0), at5[i], 5.1e-5, "%g", psi(z[i], 5.0));
        cr_expect_float_eq(psi(z[i], 50.0), at50[i], 5.1e-5, "%g", psi(z[i], 50.0));
        for (int k = 0; k < 2; k++) {
            double t = k ? 50.0 : 5.0, h = 1e-6;
            double slope = (psi(z[i] + h, t) - psi(z[i] - h, t)) / (2.0 * h);
            double got = (double)oct_barrier_slope((float)z[i], (float)t);
            cr_expect_float_eq(
                got, slope, 1e-4 * slope + h * t * t * t, "z %g t %g: %g, %g", z[i], t, got, slope);
        }
    }
}

Test(codes, barrier_gradient)
{
    const float tau = 0.25f, lam = 1e-2f;
    cr_expect_eq(oct_barrier_gradient(0.0f, tau, 5.0f, lam), 0.0f);
    /* near 0 an L1 penalty, lam / (t tau); outside lam t, however far: three roundings */
    cr_expect_float_eq(oct_barrier_gradient(1e-20f, tau, 5.0f, lam), 1e-2 / 1.25, 1e-8);
    cr_expect_float_eq(oct_barrier_gradient(-1.0f, tau, 5.0f, lam), -5e-2, 1e-8);
    cr_expect_float_eq(oct_barrier_gradient(100.0f, tau, 50.0f, lam), 0.5, 1e-7);
    for (int i = -400; i <= 400; i++) {
        float w = (float)i * 1e-3f;
        cr_assert_eq(oct_barrier_gradient(w, tau, 5.0f, lam),
            oracle_barrier_gradient(w, tau, 5.0f, lam), "w %g", (double)w);
    }
}

/* The table of tail bounds for R = 1 and activations up to 1, and the schedule. */
Test(codes, barrier_bounds)
{
    static const struct {
        int64_t fan_in;
        float delta;
        double tau;
    } rows[] = {{576, 1e-3f, 0.01069}, {576, 1e-6f, 0.00773}, {576, 1e-9f, 0.00637},
        {1152, 1e-3f, 0.00756}, {2304, 1e-6f, 0.00387}, {4608, 1e-9f, 0.00225}};
    struct oct_barrier_policy barrier = {.lam = 1.0f,
        .t0 = 5.0f,
        .growth = 1.1f,
        .t_max = 50.0f,
        .rule = OCT_TAU_TAIL,
        .width = 1.0f,
        .limit = 1.0f};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        barrier.delta = rows[i].delta;
        double tau = (double)oct_barrier_tau(&barrier, rows[i].fan_in);
        cr_expect_float_eq(
            tau, rows[i].tau, 5.1e-6, "K %lld: %.6f", (long long)rows[i].fan_in, tau);
    }
    barrier.rule = OCT_TAU_SIGMAS;
    barrier.width = 3.0f;
    cr_expect_float_eq((double)oct_barrier_tau(&barrier, 576), 3.0 * sqrt(2.0 / 576.0), 1e-8);
    cr_expect_eq(oct_barrier_temperature(&barrier, 0), 5.0f);
    cr_expect_float_eq((double)oct_barrier_temperature(&barrier, 1), 5.5, 1e-6);
    cr_expect_float_eq((double)oct_barrier_temperature(&barrier, 24), 5.0 * pow(1.1, 24.0), 1e-4);
    cr_expect_eq(oct_barrier_temperature(&barrier, 25), 50.0f); /* 5 * 1.1^25 = 54.2 */
}

Test(codes, learning_rate_factors)
{
    /* 1 - cos of Gaussian, Laplace, Student-t3 errors: .9989, .997, .95, as printed */
    cr_expect_float_eq((double)oct_deviation_factor(5.7e-5f, 20.0f, 0.1f), 0.9989, 5e-5);
    cr_expect_float_eq((double)oct_deviation_factor(1.6e-4f, 20.0f, 0.1f), 0.997, 5e-4);
    cr_expect_float_eq((double)oct_deviation_factor(2.5e-3f, 20.0f, 0.1f), 0.95, 2e-3);
    cr_expect_eq(oct_deviation_factor(1.0f, 20.0f, 0.1f), 0.1f);
    cr_expect_eq(oct_deviation_factor(0.0f, 20.0f, 0.1f), 1.0f);
    cr_expect_eq(oct_deviation_factor(-1e-17f, 20.0f, 0.1f), 1.0f, "rounded below 0");
    cr_expect_eq(oct_cosine_distance(4, 0, 0), 1.0);
    cr_expect_eq(oct_cosine_distance(4, 6, 9), 0.0);
}

/* A Gaussian channel behind a BN is clipped in 1 % (z = 2.576) or 5 % (1.96) of its elements. */
Test(codes, clipped_share_of_a_gaussian)
{
    static const float sigmas[] = {2.576f, 1.96f};
    static const double share[] = {0.01, 0.05};
    for (int k = 0; k < 2; k++) {
        struct oct_bn_clip clip = oct_bn_clip_of(-0.5f, 0.25f, sigmas[k], 0);
        double outside = 0.5 * erfc(((double)clip.hi - 0.25) / 0.5 / sqrt(2.0)) +
                         0.5 * erfc((0.25 - (double)clip.lo) / 0.5 / sqrt(2.0));
        cr_expect_float_eq(outside, share[k], 1e-4, "%g", outside);
        clip = oct_bn_clip_of(0.5f, -0.25f, sigmas[k], 1);
        cr_expect_eq(clip.lo, 0.0f);
        clip = oct_bn_clip_of(0.01f, -0.25f, sigmas[k], 1);
        cr_expect(clip.lo == 0.0f && clip.hi == 0.0f, "a channel that ReLU switches off");
        clip = oct_bn_clip_of(0.125f, 2.0f, sigmas[k], 1);
        cr_expect(clip.lo > 0.0f, "a channel that ReLU does not touch");
    }
}

/* Packed weights are on the grid: products with unit vectors show the codes. */
static void check_pack(oct_backend *b, enum oct_grid grid, int planes)
{
    enum { C = 20, K = 12 };
    const struct oct_conv_shape v = oct_conv_pointwise(1, 1, C, C, K);
    const struct oct_conv_shape back = oct_conv_pointwise(1, 1, K, C, K);
    int code_max = planes == 2 ? 16256 : 127;
    float w[K * C], y[C * K], dx[K * C], one = 1.0f, inverse = (float)code_max / 3.0f;
    int8_t units[C * C] = {0}, k_units[K * K] = {0};
    uint32_t flag = 0;
    void *pack[4], *workspace[2];
    size_t bytes[2];
    fill_f32(w, K * C, FILL_RANDOM, 4);
    for (int i = 0; i < C; i++)
        units[i * C + i] = 1;
    for (int i = 0; i < K; i++)
        k_units[i * K + i] = 1;
    for (int i = 0; i < 4; i++)
        pack[i] = guard_alloc(b->weight_pack_bytes(b, i < 2 ? &v : &back, OCT_S8, i >= 2));
    for (int side = 0; side < 2; side++) {
        struct oct_weight_pack_args a = {.shape = side ? back : v,
            .w = w,
            .dtype = OCT_S8,
            .planes = planes,
            .range = {.inverse = &inverse, .count = 1, .code_max = code_max, .grid = grid},
            .fprop = side ? NULL : pack[0],
            .fprop_lo = side || planes == 1 ? NULL : pack[1],
            .dgrad = side ? pack[2] : NULL,
            .dgrad_lo = side && planes == 2 ? pack[3] : NULL,
            .flag = &flag};
        cr_assert_eq(b->weight_pack(b, &a), OCT_OK, "%s", oct_last_error());
    }
    struct oct_conv_fprop_args f = {.shape = v,
        .x = {OCT_S8, 1, units, NULL, &one, 0},
        .w = {OCT_S8, planes, pack[0], planes == 2 ? pack[1] : NULL, &one, 0},
        .y = y,
        .y_dtype = OCT_F32};
    struct oct_conv_dgrad_args d = {.shape = back,
        .dy = {OCT_S8, 1, k_units, NULL, &one, 0},
        .w = {OCT_S8, planes, pack[2], planes == 2 ? pack[3] : NULL, &one, 0},
        .dx = dx,
        .dx_dtype = OCT_F32};
    cr_assert_eq(b->conv_fprop_check(b, &f, &bytes[0]), OCT_OK);
    cr_assert_eq(b->conv_dgrad_check(b, &d, &bytes[1]), OCT_OK);
    for (int i = 0; i < 2; i++)
        workspace[i] = guard_alloc(bytes[i]);
    f.workspace = workspace[0];
    d.workspace = workspace[1];
    cr_assert(b->conv_fprop(b, &f) == OCT_OK && b->conv_dgrad(b, &d) == OCT_OK);
    for (int k = 0; k < K; k++)
        for (int c = 0; c < C; c++) {
            int want = oracle_grid_code(grid, w[k * C + c], inverse, code_max);
            cr_assert_eq((int)y[c * K + k], want, "grid %d fprop k %d c %d: %g", (int)grid, k, c,
                (double)y[c * K + k]);
            cr_assert_eq((int)dx[k * C + c], want, "grid %d dgrad k %d c %d: %g", (int)grid, k, c,
                (double)dx[k * C + c]);
        }
    for (int i = 0; i < 4; i++)
        guard_free(pack[i]);
    guard_free(workspace[0]);
    guard_free(workspace[1]);
}

Test(codes, packed_weights_are_on_the_grid)
{
    static const char *const isas[] = {"c", "vnni", "amx-emulated", "simulate"};
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        struct oct_backend_options options = {.device = "cpu", .isa = isas[i], .threads = 1};
        oct_backend table, *b = NULL;
        if (mirror_device() && i > 0)
            continue;
        if (mirror_device()) {
            mirror_open(&table);
            b = &table;
        } else if (oct_backend_open(&options, &b) != OCT_OK) {
            continue; /* this processor has no such instructions */
        }
        for (int planes = 1; planes <= 2; planes++) {
            check_pack(b, OCT_GRID_UNIFORM, planes);
            check_pack(b, OCT_GRID_MU8, planes);
        }
        check_pack(b, OCT_GRID_FLAG, 2);
        if (mirror_device())
            mirror_close(&table);
        else
            oct_backend_close(b);
    }
}
