/* Elementwise ops of the CPU backend against their oracles, bit for bit, on both instruction sets
 * and 1, 2, 3 threads, with guards around every output. */
#include "cpu/vec_mu8.h"
#include "oracle/oracle_ops.h"
#include "support/cpu_ops.h"
#include "support/elementwise_cases.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <xmmintrin.h>

/* ---- quantise ---- */

struct quantise_case {
    int shape, fill, per_channel, planes;
    enum oct_dtype dtype;
    enum oct_rounding rounding;
    enum oct_grid grid;
};

static void check_quantise(oct_backend *ops, const char *name, struct quantise_case k)
{
    int64_t rows = shapes[k.shape].rows, n;
    int channels = shapes[k.shape].channels, count = k.per_channel ? channels : 1;
    struct oct_step_state step = {.seed = 0x123456789abcull, .step = 7, .first_sample = 5};
    n = rows * channels;
    void *x = filled(k.dtype, n, fills[k.fill], (uint64_t)(k.shape + 1));
    float *inverse = guard_alloc(sizeof *inverse * (size_t)count);
    fill_f32(inverse, count, FILL_RANDOM, 9);
    for (int c = 0; c < count; c++) /* about a tenth of the codes clip */
        inverse[c] = (fabsf(inverse[c]) + 1.0f) * (k.planes == 2 ? 8000.0f : 60.0f);
    if (n > 20) {
        put_float(x, k.dtype, n / 3, 1e-39f);
        put_float(x, k.dtype, n / 2, -0.0f);
    }
    int8_t *got = guard_alloc((size_t)n), *want = guard_alloc((size_t)n);
    int8_t *got_lo = guard_alloc((size_t)n), *want_lo = guard_alloc((size_t)n);
    int64_t saturated[2] = {10, 10};
    uint32_t flag[2] = {0, 0};
    struct oct_quantise_args a = {.rows = rows,
        .channels = channels,
        .x = x,
        .dtype = k.dtype,
        .range = {.inverse = inverse,
            .count = count,
            .code_max = k.planes == 2 ? 16256 : 127,
            .grid = k.grid},
        .rounding = k.rounding,
        .tensor = 3,
        .step = &step,
        .q = got,
        .flag = &flag[0],
        .q_lo = k.planes == 2 ? got_lo : NULL,
        .saturated = &saturated[0],
        .rows_per_sample = 3};
    cr_assert_eq(ops->quantise(ops, &a), OCT_OK, "%s", oct_last_error());
    a.q = want;
    a.q_lo = k.planes == 2 ? want_lo : NULL;
    a.saturated = &saturated[1];
    a.flag = &flag[1];
    oracle_quantise(&a);
    int64_t dims[] = {rows, channels};
    cr_assert(same_tensor(name, OCT_S8, got, want, n, dims, 2), "%s: %lld x %d fill %d", name,
        (long long)rows, channels, k.fill);
    if (k.planes == 2)
        cr_assert(same_tensor(name, OCT_S8, got_lo, want_lo, n, dims, 2));
    cr_assert(guard_intact(got, name) && guard_intact(got_lo, name));
    cr_assert_eq(saturated[0], saturated[1]);
    cr_assert_eq(flag[0], 0u);
    guard_free(x);
    guard_free(inverse);
    guard_free(got);
    guard_free(want);
    guard_free(got_lo);
    guard_free(want_lo);
}

Test(ops, quantise)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < SHAPES * 16; i++) {
            struct quantise_case k = {.shape = i / 16,
                .fill = i % FILLS,
                .per_channel = i & 1,
                .planes = 1 + (i >> 1 & 1),
                .dtype = i >> 2 & 1 ? OCT_BF16 : OCT_F32,
                .rounding = i >> 3 & 1 ? OCT_STOCHASTIC : OCT_NEAREST};
            char name[96];
            snprintf(name, sizeof name, "quantise %s x%d case %d", v.isa, v.threads, i);
            check_quantise(ops, name, k);
        }
    }
}

/* Every tie between two codes, and those beyond the last one. */
Test(ops, quantise_rounds_ties_to_even)
{
    enum { TIES = 260 };
    float x[TIES], inverse = 64.0f;
    int8_t got[TIES], want[TIES];
    uint32_t flag = 0;
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < TIES; i++)
            x[i] = (float)(2 * i - TIES + 1) / 128.0f;
        for (int count = TIES; count >= TIES - 1; count--) { /* whole vectors, and not */
            struct oct_quantise_args a = {.rows = count,
                .channels = 1,
                .x = x,
                .dtype = OCT_F32,
                .range = {.inverse = &inverse, .count = 1, .code_max = 127},
                .q = got,
                .flag = &flag};
            cr_assert_eq(ops->quantise(ops, &a), OCT_OK, "%s", oct_last_error());
            a.q = want;
            oracle_quantise(&a);
            cr_assert(same_tensor("ties", OCT_S8, got, want, count, NULL, 0));
            cr_assert_eq(got[TIES / 2] % 2, 0);
        }
    }
}

Test(ops, quantise_on_grids)
{
    EACH_VARIANT(v)
    {
        for (int i = 0; i < SHAPES * 12; i++) {
            struct quantise_case k = {.shape = i / 12,
                .fill = i % FILLS,
                .per_channel = i & 1,
                .planes = 1 + (i >> 1 & 1),
                .dtype = i % 3 ? OCT_BF16 : OCT_F32,
                .grid = i >> 2 & 1 ? OCT_GRID_MU8 : OCT_GRID_FLAG};
            char name[96];
            snprintf(name, sizeof name, "quantise %s x%d grid case %d", v.isa, v.threads, i);
            check_quantise(v.backend, name, k);
        }
    }
}

/* Both sides of every step of the mu-law staircase, which the CPU takes from a table. */
Test(ops, quantise_meets_every_step_of_the_mu_law)
{
    enum { STEPS = 128, N = 6 * STEPS };
    float x[N], inverse = 1.0f;
    int8_t got[N], want[N];
    uint32_t flag = 0;
    for (int i = 0; i < N; i++) {
        uint32_t step = oct_bits_of_f32(oct_mu8_threshold[i / 6]);
        float v = oct_f32_of_bits(step + (uint32_t)(i % 3) - 1u);
        x[i] = i % 6 < 3 ? v : -v;
        want[i] = (int8_t)oct_quantise_on(OCT_GRID_MU8, x[i], inverse, 127);
    }
    EACH_VARIANT(v)
    {
        struct oct_quantise_args a = {.rows = N,
            .channels = 1,
            .x = x,
            .dtype = OCT_F32,
            .range = {.inverse = &inverse, .count = 1, .code_max = 127, .grid = OCT_GRID_MU8},
            .q = got,
            .flag = &flag};
        cr_assert_eq(v.backend->quantise(v.backend, &a), OCT_OK, "%s", oct_last_error());
        cr_assert(same_tensor(v.isa, OCT_S8, got, want, N, NULL, 0));
    }
}

/* A batch quantised in pieces, each told its first sample, gives the codes of the whole batch. */
Test(ops, quantise_by_samples)
{
    enum { SAMPLES = 12, PIXELS = 5, CHANNELS = 7, SAMPLE = PIXELS * CHANNELS };
    float x[SAMPLES * SAMPLE], inverse = 40.0f;
    int8_t whole[SAMPLES * SAMPLE], pieces[SAMPLES * SAMPLE];
    fill_f32(x, SAMPLES * SAMPLE, FILL_RANDOM, 1);
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int size = 1; size <= SAMPLES; size++) {
            if (SAMPLES % size)
                continue;
            for (int first = 0; first < SAMPLES; first += size) {
                struct oct_step_state step = {.seed = 1, .first_sample = (uint32_t)first};
                uint32_t flag = 0;
                struct oct_quantise_args a = {.rows = size * PIXELS,
                    .rows_per_sample = PIXELS,
                    .channels = CHANNELS,
                    .x = x + first * SAMPLE,
                    .dtype = OCT_F32,
                    .range = {.inverse = &inverse, .count = 1, .code_max = 127},
                    .rounding = OCT_STOCHASTIC,
                    .step = &step,
                    .q = pieces + first * SAMPLE,
                    .flag = &flag};
                cr_assert_eq(ops->quantise(ops, &a), OCT_OK);
            }
            if (size == 1)
                memcpy(whole, pieces, sizeof whole);
            cr_assert(same_tensor(v.isa, OCT_S8, pieces, whole, SAMPLES * SAMPLE, NULL, 0));
        }
    }
}

static const uint32_t strange[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f810000};

Test(ops, quantise_raises_the_flag)
{
    enum { N = 70000 };
    float *x = filled(OCT_F32, N, FILL_RANDOM, 3), inverse = 1.0f;
    int8_t *got = guard_alloc(N), *want = guard_alloc(N);
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 10; i++) {
            uint32_t flag[2] = {0, 0};
            int at = i * (N - 1) / 9;
            float kept = x[at];
            x[at] = oct_f32_of_bits(strange[i % 5]);
            struct oct_quantise_args a = {.rows = N / 7,
                .channels = 7,
                .x = x,
                .dtype = OCT_F32,
                .range = {.inverse = &inverse, .count = 1, .code_max = 127},
                .q = got,
                .flag = &flag[0]};
            cr_assert_eq(ops->quantise(ops, &a), OCT_OK);
            a.q = want;
            a.flag = &flag[1];
            oracle_quantise(&a);
            x[at] = kept;
            cr_assert_neq(flag[0], 0u, "element %d", at);
            cr_assert(same_tensor(v.isa, OCT_S8, got, want, N, NULL, 0));
        }
    }
    guard_free(x);
    guard_free(got);
    guard_free(want);
}

/* ---- image, loss, update ---- */

Test(ops, image)
{
    static const int64_t rows[] = {1, 3, 7, 16, 17, 64, 65, 257, 4097, 9000};
    uint8_t *u8 = guard_alloc(9000 * 4);
    for (int i = 0; i < 9000 * 4; i++)
        u8[i] = (uint8_t)(i * 31 ^ i >> 8);
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 10 * 8; i++) {
            int channels = i & 1 ? 3 : i & 4 ? 4 : 1;
            int out = i & 2 ? 4 : channels;
            enum oct_dtype dtype = i & 4 ? OCT_BF16 : OCT_F32;
            size_t bytes = (size_t)(rows[i / 8] * out) * oct_dtype_bytes(dtype);
            void *got = guard_alloc(bytes);
            void *want = guard_alloc(bytes);
            struct oct_image_args a = {.rows = rows[i / 8],
                .channels = channels,
                .channels_out = out,
                .image = u8,
                .a = {0.0171f, 0.0175f, 0.0174f, 0.01f},
                .b = {-2.1f, -2.03f, -1.8f, 0.5f},
                .x = got,
                .x_dtype = dtype};
            cr_assert_eq(ops->image(ops, &a), OCT_OK);
            a.x = want;
            oracle_image(&a);
            cr_assert(same_tensor("image", dtype, got, want, rows[i / 8] * out, NULL, 0));
            cr_assert(guard_intact(got, "image"));
            guard_free(got);
            guard_free(want);
        }
    }
    guard_free(u8);
}

/* Against the scalar definition bit for bit, and against softmax in double: exp is within 2^-23
 * of its value, so is their sum's rounding (test_numeric): the log moves by 2^-22; log itself and
 * the differences of logits round values below 2^5 by 2^-20 each, and the loss is made of fewer
 * than eight such: in all below 2^-17. */
static void check_loss(oct_backend *ops, int n, int k, float smoothing, float spread)
{
    int64_t count = (int64_t)n * k;
    float *x = filled(OCT_F32, count, FILL_RANDOM, (uint64_t)(n + k)), *loss[2], *dlogits[2];
    int32_t labels[65];
    uint8_t *top1[2], *top5[2];
    uint32_t flag[2] = {0, 0};
    for (int64_t i = 0; i < count; i++)
        x[i] = rintf(x[i] * 8.0f) * spread / 8.0f; /* coarse: ties happen */
    for (int i = 0; i < n; i++)
        labels[i] = (i * 7 + 3) % k;
    for (int side = 0; side < 2; side++) {
        loss[side] = guard_alloc(sizeof(float) * (size_t)n);
        dlogits[side] = guard_alloc(sizeof(float) * (size_t)count);
        top1[side] = guard_alloc((size_t)n);
        top5[side] = guard_alloc((size_t)n);
        struct oct_loss_args a = {.n = n,
            .k = k,
            .logits = x,
            .labels = labels,
            .smoothing = smoothing,
            .grad_scale = 1.0f / 64.0f,
            .loss = loss[side],
            .top1 = top1[side],
            .top5 = top5[side],
            .dlogits = dlogits[side],
            .flag = &flag[side]};
        if (side)
            oracle_loss(&a);
        else
            cr_assert_eq(ops->loss(ops, &a), OCT_OK);
    }
    int64_t dims[] = {n, k};
    cr_assert(same_tensor("loss", OCT_F32, loss[0], loss[1], n, NULL, 0), "%d x %d", n, k);
    cr_assert(same_tensor("dlogits", OCT_F32, dlogits[0], dlogits[1], count, dims, 2));
    cr_assert(same_tensor("top1", OCT_U8, top1[0], top1[1], n, NULL, 0));
    cr_assert(same_tensor("top5", OCT_U8, top5[0], top5[1], n, NULL, 0));
    cr_assert(guard_intact(loss[0], "loss") && guard_intact(dlogits[0], "dlogits") &&
              guard_intact(top1[0], "top1") && guard_intact(top5[0], "top5"));
    for (int i = 0; i < n; i++) {
        double sum = 0.0, mean = 0.0, bound = 0x1p-17;
        for (int j = 0; j < k; j++) {
            sum += exp((double)x[i * k + j]);
            mean += (double)x[i * k + j] / k;
        }
        double exact = log(sum) - (1.0 - (double)smoothing) * (double)x[i * k + labels[i]] -
                       (double)smoothing * mean;
        if (spread < 4.0f)
            cr_assert(near_tensor("loss", &loss[0][i], &exact, 1, NULL, bound));
    }
    cr_assert_eq(flag[0], 0u);
    guard_free(x);
    for (int side = 0; side < 2; side++) {
        guard_free(loss[side]);
        guard_free(dlogits[side]);
        guard_free(top1[side]);
        guard_free(top5[side]);
    }
}

Test(ops, loss)
{
    static const int classes[] = {1, 2, 3, 5, 7, 10, 64, 65, 100, 1000};
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 20; i++) {
            check_loss(ops, i & 1 ? 65 : 3, classes[i / 2], 0.0f, 1.0f);
            check_loss(ops, 17, classes[i / 2], 0.1f, 1.0f);
            check_loss(ops, 7, classes[i / 2], 0.1f, 60.0f);
        }
    }
}

Test(ops, loss_of_strange_logits)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int at = 0; at < 8; at++) {
            for (int kind = 0; kind < 5; kind++) {
                if (kind == 1)
                    continue; /* -Inf is a class of probability 0 */
                float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
                float loss = 0.0f;
                float dlogits[8];
                int32_t label = 7;
                uint8_t top1 = 9;
                uint8_t top5 = 9;
                uint32_t flag = 0;
                x[at] = oct_f32_of_bits(strange[kind]);
                struct oct_loss_args a = {.n = 1,
                    .k = 8,
                    .logits = x,
                    .labels = &label,
                    .grad_scale = 1.0f,
                    .loss = &loss,
                    .top1 = &top1,
                    .top5 = &top5,
                    .dlogits = dlogits,
                    .flag = &flag};
                cr_assert_eq(ops->loss(ops, &a), OCT_OK);
                cr_assert(oct_not_finite(loss), "logit %d kind %d: loss %g", at, kind, loss);
                cr_assert_neq(flag, 0u);
                cr_assert(top1 == 0 || at == 7);
                if (kind != 0)
                    cr_assert_eq(top1, 0);
            }
        }
    }
}

static const int64_t lengths[] = {1, 3, 7, 16, 17, 64, 65, 257, 65536, 65537, 200000};

Test(ops, sgd)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 11 * 4; i++) {
            int64_t n = lengths[i / 4];
            struct oct_step_state step = {.lr = 0.1f, .flag = i % 4 == 3};
            enum fill how = i & 2 ? FILL_RANDOM : FILL_TINY;
            float amax[2] = {3.0f, 3.0f};
            const float factor = i % 3 == 0 ? 0.0f : 0.1f; /* 0: never set, stands for 1 */
            float *w[2];
            float *m[2];
            float *dw = filled(OCT_F32, n, how, 12);
            for (int side = 0; side < 2; side++) {
                w[side] = filled(OCT_F32, n, FILL_RANDOM, 10);
                m[side] = filled(OCT_F32, n, how, 11);
                for (int64_t j = 0; j < n; j++) { /* products under the smallest normal float */
                    m[side][j] *= how == FILL_TINY ? 1e-17f : 1.0f;
                    w[side][j] *= how == FILL_TINY && j % 2 ? 2e-38f : 1.0f;
                }
                struct oct_sgd_args a = {.count = n,
                    .w = w[side],
                    .momentum = m[side],
                    .dw = dw,
                    .step = &step,
                    .mu = 0.9f,
                    .weight_decay = 5e-4f,
                    .nesterov = i & 1,
                    .lr_factor = i % 5 < 3 ? &factor : NULL,
                    .amax = &amax[side]};
                if (side)
                    oracle_sgd(&a);
                else
                    cr_assert_eq(ops->sgd(ops, &a), OCT_OK);
            }
            cr_assert(same_tensor("w", OCT_F32, w[0], w[1], n, NULL, 0), "case %d", i);
            cr_assert(same_tensor("momentum", OCT_F32, m[0], m[1], n, NULL, 0), "case %d", i);
            cr_assert_eq(amax[0], amax[1]);
            cr_assert(guard_intact(w[0], "w") && guard_intact(m[0], "momentum"));
            for (int side = 0; side < 2; side++) {
                guard_free(w[side]);
                guard_free(m[side]);
            }
            guard_free(dw);
        }
    }
}

/* A factor of the learning rate; a barrier, whose two sums are integers. */
static void check_sgd_extras(oct_backend *ops, int i)
{
    static const float factors[] = {0.0f, 0.1f, 1.0f};
    int64_t n = lengths[i / 6], sums[2][2] = {{5, 7}, {5, 7}};
    struct oct_step_state step = {.lr = 0.1f, .temperature = i & 1 ? 5.0f : 50.0f};
    float amax[2] = {0.0f, 0.0f}, *w[2], *m[2], *dw = filled(OCT_F32, n, FILL_RANDOM, 12);
    float factor = factors[i % 3];
    for (int side = 0; side < 2; side++) {
        w[side] = filled(OCT_F32, n, FILL_RANDOM, 10);
        m[side] = filled(OCT_F32, n, FILL_RANDOM, 11);
        w[side][0] = 0.0f;
        w[side][n - 1] = 2.0f; /* tau itself */
        if (n > 20) {
            w[side][n / 2] = -1e-39f;
            dw[n / 3] = i % 5 ? 100.0f : NAN;
        }
        struct oct_sgd_args a = {.count = n,
            .w = w[side],
            .momentum = m[side],
            .dw = dw,
            .step = &step,
            .mu = 0.9f,
            .weight_decay = 5e-4f,
            .nesterov = i & 1,
            .lr_factor = i & 2 ? &factor : NULL,
            .barrier = {.lam = i & 4 ? 0.01f : 0.0f, .tau = 2.0f, .sums = sums[side]},
            .amax = i % 5 ? &amax[side] : NULL};
        if (side)
            oracle_sgd(&a);
        else
            cr_assert_eq(ops->sgd(ops, &a), OCT_OK);
    }
    cr_assert(same_tensor("w", OCT_F32, w[0], w[1], n, NULL, 0), "case %d", i);
    cr_assert(same_tensor("momentum", OCT_F32, m[0], m[1], n, NULL, 0), "case %d", i);
    cr_assert_eq(amax[0], amax[1]);
    cr_assert(sums[0][0] == sums[1][0] && sums[0][1] == sums[1][1],
        "case %d: sums %lld, %lld, oracle %lld, %lld", i, (long long)sums[0][0],
        (long long)sums[0][1], (long long)sums[1][0], (long long)sums[1][1]);
    cr_assert((i & 4) == 0 || sums[0][0] > 5 || n < 3);
    cr_assert(guard_intact(w[0], "w") && guard_intact(m[0], "momentum"));
    for (int side = 0; side < 2; side++) {
        guard_free(w[side]);
        guard_free(m[side]);
    }
    guard_free(dw);
}

Test(ops, sgd_with_factor_and_barrier)
{
    EACH_VARIANT(v)
    {
        for (int i = 0; i < 11 * 6; i++)
            check_sgd_extras(v.backend, i);
    }
}

Test(ops, ema)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        for (int i = 0; i < 11 * 2; i++) {
            int64_t n = lengths[i / 2];
            uint32_t flag = i & 1;
            float *got = filled(OCT_F32, n, FILL_RANDOM, 13);
            float *want = filled(OCT_F32, n, FILL_RANDOM, 13);
            float *value = filled(OCT_F32, n, FILL_RANDOM, 14);
            struct oct_ema_args a = {
                .count = n, .average = got, .value = value, .decay = 0.999f, .flag = &flag};
            cr_assert_eq(ops->ema(ops, &a), OCT_OK);
            a.average = want;
            oracle_ema(&a);
            cr_assert(same_tensor("average", OCT_F32, got, want, n, NULL, 0));
            cr_assert(guard_intact(got, "average"));
            guard_free(got);
            guard_free(want);
            guard_free(value);
        }
    }
}

/* The caller's float mode is flushed while an op runs and untouched afterwards. */
Test(ops, caller_keeps_its_float_mode)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        float average = 0.0f;
        float value = 1e-38f;
        uint32_t flag = 0;
        struct oct_ema_args a = {
            .count = 1, .average = &average, .value = &value, .decay = 0.5f, .flag = &flag};
        unsigned mode = _mm_getcsr() & 0x8040u;
        cr_assert_eq(mode, 0u);
        cr_assert_eq(ops->ema(ops, &a), OCT_OK);
        cr_assert_eq(oct_bits_of_f32(average), 0u, "1e-38 was not flushed");
        cr_assert_eq(_mm_getcsr() & 0x8040u, 0u);
    }
}

Test(ops, refusals)
{
    EACH_VARIANT(v)
    {
        oct_backend *ops = v.backend;
        struct oct_quantise_args q = {
            .rows = 4, .channels = 4, .dtype = OCT_F32, .range = {.count = 3}};
        cr_assert_eq(ops->quantise(ops, &q), OCT_ARG);
        q.dtype = OCT_S8;
        cr_assert_eq(ops->quantise(ops, &q), OCT_UNSUPPORTED);
        q.rows = 0;
        cr_assert_eq(ops->quantise(ops, &q), OCT_SHAPE);
        q.rows = 4;
        q.dtype = OCT_F32;
        q.rounding = OCT_STOCHASTIC;
        q.range.count = 1;
        q.range.grid = OCT_GRID_MU8;
        cr_assert_eq(ops->quantise(ops, &q), OCT_UNSUPPORTED);
        struct oct_image_args i = {.rows = 1, .channels = 5, .channels_out = 8, .x_dtype = OCT_F32};
        cr_assert_eq(ops->image(ops, &i), OCT_SHAPE);
    }
}
