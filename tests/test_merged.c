/* Clipped channels in evaluation: the product's accumulators become codes at once. The scalar
 * definition against the chain of passes it stands for; which layers do it, that no y is written
 * there, and that the codes are those of the passes. */
#include "base/bn.h"
#include "oracle/oracle_norm.h"
#include "support/runs.h"
#include "support/support.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the scalar definition ---- */

static int code_of(int64_t acc, const struct oct_bn_merged *m)
{
    return oct_bn_merged_code(oct_real_of_acc(acc, m->scale) + m->offset, m->lo, m->hi);
}

Test(merged, vectors)
{
    /* scale 0.5 0.25 4 = 1/2, offset 6; ends 2.8 and 13.2 in units of the code */
    const struct oct_bn_clip clip = {0.7f, 3.3f};
    const struct oct_bn_merged m = oct_bn_merge(0.25f, 1.5f, clip, 0.5f, 4.0f);
    static const int cases[][2] = {{0, 6}, {1, 6}, {3, 8}, {5, 8}, {7, 10}, {13, 12}, {15, 13},
        {14, 13}, {1000, 13}, {-6, 3}, {-7, 3}, {-1000, 3}}; /* halves go to the even code */
    cr_expect(m.scale == 0.5f && m.offset == 6.0f && m.lo == 3 && m.hi == 13);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(code_of(cases[i][0], &m), cases[i][1], "acc %d: %d", cases[i][0],
            code_of(cases[i][0], &m));
    const struct oct_bn_clip below = {-1.6f, 1.4f}; /* -6.4, 5.6 */
    const struct oct_bn_merged n = oct_bn_merge(-0.25f, 0.0f, below, 0.5f, 4.0f);
    cr_expect(code_of(9, &n) == -4 && code_of(100, &n) == -6 && code_of(-100, &n) == 6);
}

/* acc scale is a little above 8.5 and rounds to it: with two roundings acc scale - 8 is the tie 0.5
 * and has the code 0, a fused multiply-add would see what lies above it and give 1. */
Test(merged, rounds_product_and_sum)
{
    const struct oct_bn_clip clip = {-127.0f, 127.0f};
    int found = 0;
    for (int acc = 3; acc < 4000; acc += 2) {
        const float scale = 8.5f / (float)acc;
        const struct oct_bn_merged m = oct_bn_merge(1.0f, -8.0f, clip, scale, 1.0f);
        if ((double)acc * scale <= 8.5 || (float)acc * scale != 8.5f)
            continue;
        cr_assert_eq(code_of(acc, &m), 0, "acc %d", acc);
        cr_assert_eq((int)rint((double)acc * scale - 8.0), 1);
        found++;
    }
    cr_assert_gt(found, 100);
}

/* The widest channel's end is the clip value itself; fl(end fl(127 / end)) is now and then below
 * 127, where a bound by floor would lose the largest code. */
Test(merged, the_widest_end_has_the_largest_code)
{
    int below = 0;
    for (int i = 1; i <= 20000; i++) {
        const float end = (float)i * 0.0137f;
        const struct oct_steps steps = oct_steps_of_clip(end, OCT_CODE_MAX, OCT_POW2_NONE);
        const struct oct_bn_clip clip = {-end, end};
        const struct oct_bn_merged m = oct_bn_merge(1.0f, 0.0f, clip, 1.0f, steps.inverse);
        cr_assert(m.lo == -127 && m.hi == 127, "end %g", (double)end);
        below += end * steps.inverse < 127.0f;
    }
    cr_assert_gt(below, 100);
}

Test(merged, every_code_is_defined)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, 1.0f};
    for (int i = 0; i < 5 * 5 * 5 * 5; i++) {
        const struct oct_bn_clip clip = {odd[i % 5], odd[i / 5 % 5]};
        const struct oct_bn_merged m =
            oct_bn_merge(odd[i / 25 % 5], odd[i / 125], clip, 1.0f, i & 1 ? 127.0f : 0.0f);
        for (int acc = -100; acc <= 100; acc += 100)
            cr_assert(abs(code_of(acc, &m)) <= OCT_CODE_MAX, "case %d", i);
    }
}

struct channel {
    float a, b, multiplier, inverse;
    struct oct_bn_clip clip;
};

static struct channel random_channel(uint32_t r)
{
    const float width = 0.05f + (float)(r & 0xff) / 100.0f;
    struct channel c = {.a = r & 0x100 ? width : -width,
        .b = (float)(r >> 9 & 0xff) / 64.0f - 2.0f,
        .multiplier = 1.0f / (float)(100 + (r >> 17 & 0xff)),
        .inverse = 127.0f / (2.6f * width + 2.5f)};
    c.clip = oct_bn_clip_of(width, c.b, 2.576f, (int)(r >> 25 & 1));
    return c;
}

/* Against the passes of a training step with y in f32 (y = fl(acc m); u = fl(fl(a y) + b); clamp;
 * code of u). V = (acc m a + b) inverse is exact, T = (|acc m a| + |b|) inverse bounds every term.
 * The passes round acc m, its product with a, the sum, and the product with inverse: 4 2^-24 T, and
 * less than one more for terms of second order. Merged are m a, its product with inverse, with acc,
 * b inverse, and the sum: 5 2^-24 T likewise. Where V is further than 11 2^-24 T from every half,
 * both round to the same code: the ends are rounded alike, and clamping is monotonic. */
Test(merged, equals_the_passes)
{
    int64_t compared = 0, clipped = 0, total = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        const struct channel c = random_channel(oct_mix32(i + 1));
        const struct oct_bn_merged m = oct_bn_merge(c.a, c.b, c.clip, c.multiplier, c.inverse);
        const struct oracle_merged o = {c.a, c.b, c.clip.lo, c.clip.hi, c.multiplier, c.inverse};
        for (int j = 0; j < 200; j++, total++) {
            const int64_t acc = (int)(oct_mix32(i * 200u + (uint32_t)j) % 1001u) - 500;
            float u = oct_affine(oct_real_of_acc(acc, c.multiplier), c.a, c.b);
            const double product = (double)acc * c.multiplier * c.a;
            const double exact = (product + c.b) * c.inverse;
            const double t = (fabs(product) + fabs((double)c.b)) * c.inverse;
            const int got = code_of(acc, &m);
            clipped += u <= c.clip.lo || u >= c.clip.hi;
            u = u > c.clip.lo ? u : c.clip.lo;
            u = u < c.clip.hi ? u : c.clip.hi;
            cr_assert_eq(got, oracle_merged_code(acc, &o));
            if (fabs(exact - floor(exact) - 0.5) <= ldexp(11.0 * t, -24))
                continue;
            cr_assert_eq(got, oct_quantise(u, c.inverse, OCT_CODE_MAX), "acc %d", (int)acc);
            compared++;
        }
    }
    cr_assert(compared > total / 100 * 99 && clipped > total / 20 && clipped < total / 2);
}

/* ---- the graph ---- */

/* What a forward pass asks the backend for. */
static struct {
    enum oct_status (*conv)(oct_backend *, const struct oct_conv_fprop_args *);
    enum oct_status (*act)(oct_backend *, const struct oct_act_fwd_args *);
    int codes, reals; /* outputs of products */
    int passes, residuals;
} seen;

static enum oct_status watch_conv(oct_backend *backend, const struct oct_conv_fprop_args *a)
{
    *(a->y_dtype == OCT_S8 ? &seen.codes : &seen.reals) += 1;
    cr_assert_eq(a->y_dtype == OCT_S8, a->norm.a != NULL);
    return seen.conv(backend, a);
}

static enum oct_status watch_act(oct_backend *backend, const struct oct_act_fwd_args *a)
{
    seen.passes++;
    seen.residuals += a->residual != NULL;
    return seen.act(backend, a);
}

static oct_trainer *open_run(const char *model, const char *scheme, const char *first_last)
{
    struct oct_options o = run_options(scheme);
    o.model = model;
    o.synthetic_size = strcmp(model, "resnet8") == 0 ? 16 : 32;
    o.synthetic_images = 64;
    o.first_last = first_last;
    oct_trainer *t = run_open(&o);
    double loss[2];
    run_steps(t, 2, loss);
    return t;
}

static void forward(oct_trainer *t)
{
    oct_backend *b = t->graph->backend;
    memset(&seen, 0, sizeof seen);
    seen.conv = b->conv_fprop;
    seen.act = b->act_fwd;
    b->conv_fprop = watch_conv;
    b->act_fwd = watch_act;
    t->graph->training = false;
    cr_assert_eq(oct_graph_forward(t->graph), OCT_OK, "%s", oct_last_error());
    b->conv_fprop = seen.conv;
    b->act_fwd = seen.act;
}

/* Products that write codes, and the passes over y that are left: behind residual additions only.
 */
Test(merged, evaluation_has_no_y)
{
    static const struct {
        const char *model, *scheme, *first_last;
        int codes, reals, passes, residuals;
    } cases[] = {
        /* of 9 convolutions 3 are followed by a residual addition; the linear layer has logits */
        {"resnet8", "fqat", "int16", 6, 4, 3, 3},
        /* the first product is a float one, the last one's input becomes bf16 */
        {"resnet8", "fqat", "float", 5, 5, 5, 3}, {"resnet20", "fqat", "int16", 12, 10, 9, 9},
        /* a ReLU and no clip between the linear layers */
        {"lenet5_bn", "fqat", "int16", 3, 2, 1, 0}, {"vgg11", "fqat", "int16", 8, 1, 0, 0},
        {"resnet8", "dai8", "int16", 0, 10, 9, 3}}; /* a moving average decides the scale */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_trainer *t = open_run(cases[i].model, cases[i].scheme, cases[i].first_last);
        forward(t);
        cr_expect(seen.codes == cases[i].codes && seen.reals == cases[i].reals &&
                      seen.passes == cases[i].passes && seen.residuals == cases[i].residuals,
            "%s %s %s: %d products to codes, %d to reals, %d passes, %d with a residual",
            cases[i].model, cases[i].scheme, cases[i].first_last, seen.codes, seen.reals,
            seen.passes, seen.residuals);
        oct_trainer_close(t);
    }
}

/* Evaluation has equal losses on every instruction set; the first layer has two planes. */
Test(merged, evaluation_has_equal_losses_everywhere)
{
    static const char *const isas[] = {"c", "vnni", "amx-emulated", "simulate"};
    double first = 0.0, steps[3];
    int compared = 0;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        struct oct_options o = run_options("fqat");
        struct oct_eval_result result;
        oct_trainer *t = NULL;
        o.isa = isas[i];
        if (oct_trainer_open(&o, &t) != OCT_OK)
            continue; /* not on this machine */
        run_steps(t, 3, steps);
        cr_assert_eq(oct_trainer_evaluate(t, &result), OCT_OK, "%s", oct_last_error());
        first = i == 0 ? result.loss : first;
        cr_assert(memcmp(&result.loss, &first, sizeof first) == 0, "%s: %.17g, c: %.17g", isas[i],
            result.loss, first);
        compared++;
        oct_trainer_close(t);
    }
    cr_assert_geq(compared, 3);
}

/* Codes that the nodes of a network made, one after the other. */
struct codes {
    int8_t *q[64];
    int64_t count[64];
    int nodes;
};

static void keep_codes(void *user, const struct oct_node *node, const char *what,
    enum oct_dtype dtype, const void *device, int64_t count)
{
    struct codes *codes = user;
    (void)node, (void)dtype;
    if (strcmp(what, "codes") != 0)
        return;
    cr_assert_lt(codes->nodes, 64);
    codes->q[codes->nodes] = malloc((size_t)count);
    codes->count[codes->nodes] = count;
    memcpy(codes->q[codes->nodes++], device, (size_t)count);
}

/* The same layers with a pass over a y of f32, as they would be without merging: the first layer's
 * codes differ where rounding meets a half (equals_the_passes: one in 10^4 at most), and by one. */
Test(merged, codes_are_those_of_the_passes)
{
    struct oct_options o = run_options("fqat");
    struct codes codes[2] = {0};
    double loss[2];
    int64_t differ = 0;
    o.act_dtype = "f32";
    oct_trainer *t = run_open(&o);
    run_steps(t, 2, loss);
    for (int apart = 0; apart < 2; apart++) {
        const struct oct_observer observer = {.user = &codes[apart], .tensor = keep_codes};
        for (int i = 0; apart && i < t->graph->value_count; i++)
            if (t->graph->values[i].pre)
                t->graph->values[i].pre->merged = -1;
        t->graph->observer = &observer;
        forward(t);
        cr_assert_eq(seen.codes, apart ? 0 : 6);
    }
    t->graph->observer = NULL;
    cr_assert(codes[0].nodes == codes[1].nodes && codes[0].nodes > 9);
    for (int node = 0; node < 2; node++) /* the image's, then those of the first convolution */
        for (int64_t i = 0; i < codes[0].count[node]; i++) {
            const int by = abs(codes[0].q[node][i] - codes[1].q[node][i]);
            cr_assert_leq(by, node, "node %d, element %lld", node, (long long)i);
            differ += by;
        }
    cr_assert_leq(differ, codes[0].count[1] / 10000 + 1, "%lld codes differ", (long long)differ);
    for (int i = 0; i < 2 * codes[0].nodes; i++)
        free(codes[i % 2].q[i / 2]);
    oct_trainer_close(t);
}
