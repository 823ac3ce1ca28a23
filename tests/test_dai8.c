/* The ops of scheme dai8 on known answers: the quantiser, the moving average, the discriminator,
 * what each granularity costs on synthetic gradients, a label that flips both ways, errors that
 * vanish, and a weight gradient whose sum does not fit into int32. */
#include "backend.h"
#include "cpu/cpu.h"
#include "oracle/oracle_dai8.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static oct_backend *open_backend(const char *isa)
{
    oct_backend *backend = NULL;
    struct oct_backend_options options = {.device = "cpu", .isa = isa, .threads = 1};
    return oct_backend_open(&options, &backend) == OCT_OK ? backend : NULL;
}

static oct_backend *open_any(void)
{
    oct_backend *backend = open_backend(NULL);
    cr_assert(backend, "%s", oct_last_error());
    return backend;
}

/* Uniform in (0, 1). */
static double uniform(uint64_t *state)
{
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return ((double)((x ^ x >> 31) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *state)
{
    double radius = sqrt(-2.0 * log(uniform(state)));
    return radius * cos(6.283185307179586 * uniform(state));
}

static double laplace(uint64_t *state) /* standard deviation sqrt 2 */
{
    double u = uniform(state) - 0.5;
    return (u < 0.0 ? 1.0 : -1.0) * log(1.0 - 2.0 * fabs(u));
}

static double student3(uint64_t *state) /* standard deviation sqrt 3 */
{
    double a = normal(state), b = normal(state), c = normal(state), z = normal(state);
    return z / sqrt((a * a + b * b + c * c) / 3.0);
}

/* A scale's memory. */
enum { CHANNELS = 64 };
struct range_memory {
    float clip[CHANNELS], scale[CHANNELS], inverse[CHANNELS];
    uint8_t label[CHANNELS], visited[CHANNELS];
};

static struct oct_range range_of(struct range_memory *m, int count)
{
    struct oct_range range = {.clip = m->clip,
        .scale = m->scale,
        .inverse = m->inverse,
        .count = count,
        .code_max = OCT_CODE_MAX};
    return range;
}

Test(dai8, quantiser_at_s_2)
{
    static const float x[] = {0.01f, -0.5f, 1.99f, 2.5f, -3.0f};
    static const int8_t want[] = {1, -32, 126, 127, -127};
    oct_backend *backend = open_any();
    struct range_memory m = {0};
    float amax = 2.0f;
    int8_t q[5];
    int64_t clipped = 0;
    uint32_t flag = 0;
    struct oct_range_update_args update = {
        .range = range_of(&m, 1), .rule = OCT_CLIP_AMAX, .amax = &amax, .amax_count = 1};
    struct oct_quantise_args quantise = {.rows = 5,
        .channels = 1,
        .x = x,
        .dtype = OCT_F32,
        .range = range_of(&m, 1),
        .q = q,
        .saturated = &clipped,
        .flag = &flag};
    cr_assert_eq(backend->range_update(backend, &update), OCT_OK);
    cr_assert_eq(backend->quantise(backend, &quantise), OCT_OK);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(q[i], want[i], "x %g: code %d, want %d", (double)x[i], q[i], want[i]);
    cr_expect_eq(clipped, 2);
    oct_backend_close(backend);
}

/* Four roundings a step, each 2^-24 of at most 4, over three steps: 48 2^-24. */
Test(dai8, clip_values_of_an_inverted_t_channel)
{
    static const float gmax[] = {2.0f, 0.5f, 4.0f};
    static const double want[] = {1.8, 0.76, 3.352};
    oct_backend *backend = open_any();
    struct range_memory m = {.clip = {1.0f}, .visited = {1}, .label = {OCT_LABEL_TAIL}};
    int64_t above = 10; /* a share of 0.1 */
    for (int i = 0; i < 3; i++) {
        struct oct_range_update_args update = {.range = range_of(&m, 1),
            .rule = OCT_CLIP_TAIL,
            .k = 1.0f,
            .a = 0.8f,
            .lambda = 0.3f,
            .amax = &gmax[i],
            .amax_count = 1,
            .above = &above,
            .population = 100.0,
            .label = m.label,
            .visited = m.visited};
        cr_assert_eq(backend->range_update(backend, &update), OCT_OK);
        cr_expect(fabs((double)m.clip[0] - want[i]) < 48.0 / 16777216.0, "step %d: %.9g, want %g",
            i, (double)m.clip[0], want[i]);
    }
    oct_backend_close(backend);
}

/* Shares of |g| > sigma with the true sigma are those of the distribution within five binomial
 * standard errors; with the sample's sigma the labels are bell, inverted T, inverted T. */
Test(dai8, discriminator_on_three_distributions)
{
    enum { ROWS = 100000 };
    static double (*const draw[])(uint64_t *) = {normal, laplace, student3};
    static const double sigma[] = {1.0, 1.4142135623730951, 1.7320508075688772};
    static const double share[] = {0.317311, 0.243117, 0.181690};
    static const uint8_t want[] = {OCT_LABEL_BELL, OCT_LABEL_TAIL, OCT_LABEL_TAIL};
    oct_backend *backend = open_any();
    float *x = malloc(ROWS * 3 * sizeof *x), truth[3], measured[3], amax[3] = {1.0f, 1.0f, 1.0f};
    double square[3] = {0};
    uint64_t seed = 11;
    int64_t count[3];
    struct range_memory m = {0};

    for (int i = 0; i < 3 * ROWS; i++) {
        x[i] = (float)draw[i % 3](&seed);
        square[i % 3] += (double)x[i] * (double)x[i];
    }
    for (int c = 0; c < 3; c++) {
        truth[c] = (float)sigma[c];
        measured[c] = (float)sqrt(square[c] / ROWS);
    }
    struct oct_count_above_args above = {.rows = ROWS,
        .channels = 3,
        .x = x,
        .dtype = OCT_F32,
        .threshold = truth,
        .count = count,
        .workspace = malloc(backend->channel_workspace(backend, ROWS, 3))};
    cr_assert_eq(backend->count_above(backend, &above), OCT_OK);
    for (int c = 0; c < 3; c++) {
        double got = (double)count[c] / ROWS;
        double error = sqrt(share[c] * (1.0 - share[c]) / ROWS);
        cr_expect(fabs(got - share[c]) < 5.0 * error, "distribution %d: %g, want %g +- %g", c, got,
            share[c], 5.0 * error);
    }
    above.threshold = measured;
    cr_assert_eq(backend->count_above(backend, &above), OCT_OK);
    struct oct_range_update_args update = {.range = range_of(&m, 3),
        .rule = OCT_CLIP_TAIL,
        .k = 1.0f,
        .a = 0.8f,
        .lambda = 0.3f,
        .amax = amax,
        .amax_count = 3,
        .above = count,
        .population = ROWS,
        .label = m.label,
        .visited = m.visited};
    cr_assert_eq(backend->range_update(backend, &update), OCT_OK);
    for (int c = 0; c < 3; c++)
        cr_expect_eq(m.label[c], want[c], "distribution %d: label %d, share %g", c, m.label[c],
            (double)count[c] / ROWS);
    free(above.workspace);
    free(x);
    oct_backend_close(backend);
}

/* --- what a granularity costs: 64 channels of 6,272 Gaussian errors --- */

enum { SAMPLES = 6272 };

/* 10 log10(signal / error power), dB: measured, and as errors that are uniform over a step of
 * these very scales would have it, of power scale^2 / 12 rounded to nearest and scale^2 / 6 at
 * random. */
struct noise {
    double total, worst, uniform_total, uniform_worst;
};

static struct noise noise_of(
    oct_backend *backend, const float *x, int scales, enum oct_rounding rounding)
{
    struct range_memory m = {0};
    float amax[CHANNELS];
    int8_t *q = malloc(SAMPLES * CHANNELS);
    uint32_t flag = 0;
    struct oct_step_state step = {.seed = 7};
    double signal = 0.0, error = 0.0, worst = 1e9, uniform_error = 0.0, uniform_worst = 1e9;
    struct oct_channel_stats_args stats = {.rows = SAMPLES,
        .channels = CHANNELS,
        .x = x,
        .dtype = OCT_F32,
        .amax = amax,
        .flag = &flag,
        .workspace = malloc(backend->channel_workspace(backend, SAMPLES, CHANNELS))};
    struct oct_range_update_args update = {
        .range = range_of(&m, scales), .rule = OCT_CLIP_AMAX, .amax = amax, .amax_count = CHANNELS};
    struct oct_quantise_args quantise = {.rows = SAMPLES,
        .channels = CHANNELS,
        .rows_per_sample = 196,
        .x = x,
        .dtype = OCT_F32,
        .range = range_of(&m, scales),
        .rounding = rounding,
        .tensor = 1,
        .step = &step,
        .q = q,
        .flag = &flag};
    cr_assert_eq(backend->channel_stats(backend, &stats), OCT_OK);
    cr_assert_eq(backend->range_update(backend, &update), OCT_OK);
    cr_assert_eq(backend->quantise(backend, &quantise), OCT_OK);
    for (int c = 0; c < CHANNELS; c++) {
        double s = 0.0, e = 0.0, scale = (double)m.scale[scales == 1 ? 0 : c];
        double uniform = SAMPLES * scale * scale / (rounding == OCT_NEAREST ? 12.0 : 6.0);
        for (int i = c; i < SAMPLES * CHANNELS; i += CHANNELS) {
            double d = (double)x[i] - (double)q[i] * scale;
            s += (double)x[i] * (double)x[i];
            e += d * d;
        }
        signal += s;
        error += e;
        worst = fmin(worst, s / e);
        uniform_error += uniform;
        uniform_worst = fmin(uniform_worst, s / uniform);
    }
    free(stats.workspace);
    free(q);
    return (struct noise){10.0 * log10(signal / error), 10.0 * log10(worst),
        10.0 * log10(signal / uniform_error), 10.0 * log10(uniform_worst)};
}

/* Channel c has standard deviation exp(spread n_c). */
static float *gaussian_errors(double spread, uint64_t seed)
{
    float *x = malloc(SAMPLES * CHANNELS * sizeof *x);
    for (int c = 0; c < CHANNELS; c++) {
        double sigma = exp(spread * normal(&seed));
        for (int i = c; i < SAMPLES * CHANNELS; i += CHANNELS)
            x[i] = (float)(sigma * normal(&seed));
    }
    return x;
}

/* Five standard deviations, in dB, of the power of `count` errors that are uniform over a step:
 * E e^4 / (E e^2)^2 - 1 is 144 / 80 - 1 rounded to nearest and 36 / 15 - 1 at random. A step is
 * 1/27 of a standard deviation of x at most: no density is more nearly uniform. */
static double five_sigma(enum oct_rounding rounding, double count)
{
    double relative = sqrt((rounding == OCT_NEAREST ? 0.8 : 1.4) / count);
    return 10.0 * log10(1.0 / (1.0 - 5.0 * relative));
}

/* Scales follow the largest sample, M. Its spread (Gumbel's law, pi / sqrt(12 ln 2N)) moves the
 * figures of another draw by 0.46 dB a standard deviation, N = 401,408, and those of two draws
 * against each other by 0.65 dB. This one draw lies within 0.3 dB of the published figures, and
 * within 0.6 dB in its worst channel; it is fixed. */
Test(dai8, noise_of_gaussian_errors)
{
    static const struct {
        int scales;
        enum oct_rounding rounding;
        double total, worst;
    } cases[] = {{1, OCT_NEAREST, 39.0, 38.8}, {1, OCT_STOCHASTIC, 36.0, 35.8},
        {CHANNELS, OCT_NEAREST, 40.9, 39.1}, {CHANNELS, OCT_STOCHASTIC, 37.9, 36.1}};
    oct_backend *backend = open_any();
    float *x = gaussian_errors(0.0, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct noise got = noise_of(backend, x, cases[i].scales, cases[i].rounding);
        cr_expect(fabs(got.total - cases[i].total) < 0.3, "case %zu: %.2f dB, want %.1f", i,
            got.total, cases[i].total);
        cr_expect(fabs(got.worst - cases[i].worst) < 0.6,
            "case %zu: worst channel %.2f dB, "
            "want %.1f",
            i, got.worst, cases[i].worst);
        double total = five_sigma(cases[i].rounding, SAMPLES * CHANNELS);
        double worst = five_sigma(cases[i].rounding, SAMPLES);
        cr_expect(fabs(got.total - got.uniform_total) < total, "case %zu: %.3f dB, want %.3f", i,
            got.total, got.uniform_total);
        cr_expect(fabs(got.worst - got.uniform_worst) < worst,
            "case %zu: worst channel %.3f dB, want %.3f", i, got.worst, got.uniform_worst);
    }
    free(x);
    oct_backend_close(backend);
}

Test(dai8, a_scale_per_channel_saves_the_small_channels)
{
    oct_backend *backend = open_any();
    float *x = gaussian_errors(1.0, 3);
    struct noise tensor = noise_of(backend, x, 1, OCT_NEAREST);
    struct noise channel = noise_of(backend, x, CHANNELS, OCT_NEAREST);
    cr_expect(channel.worst > 38.0 && tensor.worst < 20.0 && channel.total > tensor.total + 5.0,
        "per tensor %.1f dB, worst %.1f; per channel %.1f, worst %.1f", tensor.total, tensor.worst,
        channel.total, channel.worst);
    free(x);
    oct_backend_close(backend);
}

/* --- a sequence of steps --- */

enum { ROWS = 300, COLUMNS = 6, STEPS = 9 };

/* What channel c sees in step i: b(ell), t(ail), 0; and the labels that must result. */
static const char *const shows[COLUMNS] = {
    "bttbbttbt", "ttt00t0bt", "ttttttttt", "bbbbbbbbb", "000000000", "0b0t0t00b"};
static const char *const labels[COLUMNS] = {
    "bttbbttbt", "tttttttbt", "ttttttttt", "bbbbbbbbb", "---------", "-bbtttttb"};

struct sequence {
    oct_backend *backend;
    float dy[ROWS * COLUMNS], zero[ROWS * COLUMNS], one[COLUMNS];
    float sigma[COLUMNS], sigma_all, amax[COLUMNS];
    int64_t above[COLUMNS], above_all, clipped[2];
    struct range_memory channel, tensor;
    int8_t q_channel[ROWS * COLUMNS], q_tensor[ROWS * COLUMNS];
    struct oracle_dai8 rule[2];
    void *workspace;
    uint32_t flag;
};

/* Uniform errors are above sigma in 42 %, one large one among small ones in at most 1 in 20. */
static void draw_errors(struct sequence *s, int step, uint64_t *seed)
{
    double all = 0.0;
    for (int c = 0; c < COLUMNS; c++) {
        double size = 0.1 * (c + 1) * (1.0 + 0.7 * sin(2.0 * step + c)), square = 0.0;
        for (int row = 0; row < ROWS; row++) {
            double g = size * (2.0 * uniform(seed) - 1.0);
            char kind = shows[c][step];
            g *= kind == '0' ? 0.0 : kind == 't' && row % 20 != 0 ? 0.01 : 1.0;
            s->dy[row * COLUMNS + c] = (float)g;
            square += (double)(float)g * (double)(float)g;
        }
        s->sigma[c] = (float)sqrt(square / ROWS);
        all += square;
    }
    s->sigma_all = (float)sqrt(all / (ROWS * COLUMNS));
}

static struct oct_bn_bwd_apply_args identity(struct sequence *s)
{
    struct oct_bn_bwd_apply_args args = {.rows = ROWS,
        .channels = COLUMNS,
        .da = s->dy,
        .da_dtype = OCT_F32,
        .y = s->zero,
        .y_dtype = OCT_F32,
        .a = s->one,
        .b = s->zero,
        .ix = s->zero,
        .jx = s->zero,
        .m1 = s->zero,
        .m2 = s->zero,
        .rows_per_sample = ROWS,
        .workspace = s->workspace,
        .flag = &s->flag};
    return args;
}

static void update(struct sequence *s, struct range_memory *m, int count)
{
    struct oct_range_update_args args = {.range = range_of(m, count),
        .rule = OCT_CLIP_TAIL,
        .k = 1.0f,
        .a = 0.8f,
        .lambda = 0.3f,
        .amax = s->amax,
        .amax_count = COLUMNS,
        .above = count == 1 ? &s->above_all : s->above,
        .population = ROWS * (count == 1 ? COLUMNS : 1),
        .label = m->label,
        .visited = m->visited};
    cr_assert_eq(s->backend->range_update(s->backend, &args), OCT_OK);
}

static void look(struct sequence *s)
{
    struct oct_bn_bwd_apply_args args = identity(s);
    args.amax = s->amax;
    args.sigma = s->sigma;
    args.sigma_all = &s->sigma_all;
    args.above = s->above;
    args.above_all = &s->above_all;
    cr_assert_eq(s->backend->bn_bwd_apply(s->backend, &args), OCT_OK);
}

/* Evidence, clip values, codes; or, `late`, the evidence of the last step for those of this one. */
static void run_step(struct sequence *s, bool late)
{
    struct oct_bn_bwd_apply_args write = identity(s);
    if (!late)
        look(s);
    update(s, &s->channel, COLUMNS);
    update(s, &s->tensor, 1);
    write.q_channel = s->q_channel;
    write.range_channel = range_of(&s->channel, COLUMNS);
    write.q_tensor = s->q_tensor;
    write.range_tensor = range_of(&s->tensor, 1);
    write.saturated = s->clipped;
    cr_assert_eq(s->backend->bn_bwd_apply(s->backend, &write), OCT_OK);
    if (late)
        look(s);
}

static void check_copy(const struct oracle_dai8 *rule, const struct range_memory *m,
    const int8_t *q, const float *dy, int step)
{
    for (int i = 0; i < rule->groups; i++) {
        cr_assert(m->clip[i] == rule->s[i], "entry %d of %d step %d: clip %a, oracle %a", i,
            rule->groups, step, (double)m->clip[i], (double)rule->s[i]);
        cr_assert_eq(m->label[i], rule->label[i], "entry %d of %d step %d", i, rule->groups, step);
    }
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        int want = oracle_dai8_code(rule, i % COLUMNS, dy[i], -1);
        if (q[i] != want)
            cr_assert_fail("scales %d step %d element %d: dY %a, code %d, oracle %d", rule->groups,
                step, i, (double)dy[i], q[i], want);
    }
}

static void check_story(const struct sequence *s, const struct range_memory *before, int step)
{
    for (int c = 0; c < COLUMNS; c++) {
        char now = "-bt"[s->channel.label[c]];
        bool silent = shows[c][step] == '0';
        bool anew = step == 0 || now == 'b' || labels[c][step - 1] != 't';
        cr_assert_eq(now, labels[c][step], "channel %d step %d: label %c", c, step, now);
        if (silent)
            cr_assert_eq(s->channel.clip[c], before->clip[c], "channel %d step %d", c, step);
        else
            cr_assert_eq(s->channel.clip[c] == s->amax[c], anew,
                "channel %d step %d: clip %g of %g", c, step, (double)s->channel.clip[c],
                (double)s->amax[c]);
        for (int row = 0; silent && row < ROWS; row++)
            cr_assert_eq(s->q_channel[row * COLUMNS + c] | s->q_tensor[row * COLUMNS + c], 0);
    }
}

static void follow_sequence(const char *isa, bool late)
{
    struct sequence *s = calloc(1, sizeof *s);
    struct oracle_dai8_evidence seen = {0}; /* late, first step: none, so all codes are 0 */
    uint64_t seed = 5;
    s->backend = open_backend(isa);
    cr_assert(s->backend, "%s", oct_last_error());
    s->workspace = malloc(s->backend->bn_workspace(s->backend, ROWS, COLUMNS));
    for (int copy = 0; copy < 2; copy++)
        s->rule[copy] = (struct oracle_dai8){.groups = copy == 0 ? COLUMNS : 1,
            .code_max = OCT_CODE_MAX,
            .adaptive = 1,
            .k = 1.0f,
            .a = 0.8f,
            .lambda = 0.3f};
    for (int c = 0; c < COLUMNS; c++)
        s->one[c] = 1.0f;
    for (int step = 0; step < STEPS; step++) {
        struct range_memory before = s->channel;
        struct oracle_dai8_evidence last = seen;
        draw_errors(s, step, &seed);
        run_step(s, late);
        oracle_dai8_measure(s->dy, ROWS, COLUMNS, s->sigma, s->sigma_all, &seen);
        for (int copy = 0; copy < 2; copy++)
            oracle_dai8_update(&s->rule[copy], late ? &last : &seen, ROWS, COLUMNS);
        check_copy(&s->rule[0], &s->channel, s->q_channel, s->dy, step);
        check_copy(&s->rule[1], &s->tensor, s->q_tensor, s->dy, step);
        if (!late)
            check_story(s, &before, step);
    }
    cr_assert(s->clipped[0] > 0, "no inverted T channel was clipped");
    cr_assert_eq(s->flag, 0);
    free(s->workspace);
    oct_backend_close(s->backend);
    free(s);
}

Test(dai8, labels_flip_and_errors_vanish)
{
    oct_cpu_flush_subnormals();
    for (int late = 0; late < 2; late++) {
        follow_sequence("c", late);
        follow_sequence(NULL, late);
    }
}

/* --- 200,000 products of 127 * 127 --- */

/* An int32 sum wraps: 3,225,800,000 > 2^31. The exact sum is converted once. */
Test(dai8, weight_gradient_beyond_int32)
{
    static const char *const isas[] = {"c", "vnni", "amx", "amx-emulated", "simulate"};
    const struct oct_conv_shape shape = oct_conv_pointwise(20, 100, 100, 4, 4);
    enum { M = 200000 };
    static int8_t x[M * 4], dy[M * 4];
    float one = 1.0f, dw[16];
    int ran = 0;

    memset(x, 127, sizeof x);
    memset(dy, 127, sizeof dy);
    for (int i = 0; i < M * 4; i += 4)
        dy[i] = -127; /* output channel 0 */
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        oct_backend *backend = open_backend(isas[i]);
        struct oct_conv_wgrad_args args = {.shape = shape,
            .x = {.dtype = OCT_S8, .planes = 1, .data = x, .scale = &one},
            .dy = {.dtype = OCT_S8, .planes = 1, .data = dy, .scale = &one},
            .dw = dw};
        size_t bytes;
        if (!backend)
            continue;
        cr_assert_eq(backend->conv_wgrad_check(backend, &args, &bytes), OCT_OK);
        args.workspace = malloc(bytes + 1);
        cr_assert_eq(backend->conv_wgrad(backend, &args), OCT_OK);
        for (int j = 0; j < 16; j++) {
            float want = (float)(j < 4 ? -3225800000LL : 3225800000LL);
            cr_expect(dw[j] == want, "%s entry %d: %.1f, want %.1f", isas[i], j, (double)dw[j],
                (double)want);
        }
        free(args.workspace);
        oct_backend_close(backend);
        ran++;
    }
    cr_assert_geq(ran, 3); /* c, amx-emulated and simulate run anywhere */
}
