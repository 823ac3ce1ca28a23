/* The int8 convolution products against the int64 oracle, bit for bit, on every instruction set
 * this CPU has (and the emulated and simulated ones), with 1, 2 and 3 threads; or on the one device
 * under test, for which the first instruction set then stands. */
#include "base/shift.h"
#include "cpu/cpu.h"
#include "cpu/tile.h"
#include "support/conv_cases.h"
#include "support/conv_check.h"
#include "support/conv_problem.h"
#include "support/mirror.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const isas[] = {"c", "vnni", "amx", "amx-emulated", "simulate"};

/* NULL where there is no such instruction set. */
static struct oct_cpu *open_cpu(const char *isa, int threads)
{
    struct oct_cpu *cpu = calloc(1, sizeof *cpu);
    for (size_t i = 0; cpu && isa && mirror_device() && i < sizeof isas / sizeof isas[0]; i++) {
        if (strcmp(isa, isas[i]) != 0)
            continue;
        if (i == 0)
            mirror_open(&cpu->table);
        else
            free(cpu);
        return i == 0 ? cpu : NULL;
    }
    if (!cpu || oct_pool_open(threads, &cpu->pool) != OCT_OK)
        abort();
    if (oct_cpu_conv_open(cpu, isa) != OCT_OK) {
        oct_pool_close(cpu->pool);
        free(cpu);
        return NULL;
    }
    oct_cpu_conv_install(&cpu->table);
    return cpu;
}

static void close_cpu(struct oct_cpu *cpu)
{
    if (cpu->pool) {
        oct_cpu_conv_close(cpu);
        oct_pool_close(cpu->pool);
    } else {
        mirror_close(&cpu->table);
    }
    free(cpu);
}

static struct conv_runner runner_of(struct oct_cpu *cpu)
{
    struct conv_runner r = {.backend = &cpu->table, .name = cpu->table.isa};
    if (cpu->pool) {
        r.name = cpu->isa_name;
        r.threads = oct_pool_threads(cpu->pool);
    }
    return r;
}

static void check_all(struct oct_cpu *cpu, const struct conv_problem *p)
{
    const struct conv_runner runner = runner_of(cpu);
    conv_check_fprop(&runner, p);
    const struct oct_conv_shape *v = &p->plan.shape;
    if (!p->plan.per_k && v->r * v->s * v->c <= OCT_SHIFT_MAX_K)
        conv_check_codes(&runner, p);
    else
        conv_check_merged(&runner, p);
    conv_check_dgrad(&runner, p);
    conv_check_wgrad(&runner, p);
}

/* Every instruction set, 1 to 3 threads. */
static void check_plan(const struct conv_plan *plan)
{
    struct conv_problem p;
    conv_problem_make(&p, plan);
    oct_cpu_flush_subnormals();
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        for (int threads = 1; threads <= (mirror_device() ? 1 : 3); threads++) {
            struct oct_cpu *cpu = open_cpu(isas[i], threads);
            if (!cpu)
                continue;
            check_all(cpu, &p);
            close_cpu(cpu);
        }
    }
    conv_problem_free(&p);
}

/* The choices that do not belong to the shape vary with the number of the case. */
static void check_shape(struct oct_conv_shape shape, uint64_t number)
{
    const struct conv_plan plan = {.shape = shape,
        .fill = FILL_RANDOM,
        .x_planes = 1,
        .w_planes = 1,
        .dy_planes = 1,
        .per_k = number & 1,
        .bias = number >> 1 & 1,
        .accumulate = number >> 2 & 1,
        .dtype = number >> 1 & 1 ? OCT_F32 : OCT_BF16,
        .extra_shift = (int)(number % 3),
        .seed = 1000 * number};
    check_plan(&plan);
}

Test(conv, channel_sizes)
{
    static const int sizes[] = {1, 3, 7, 16, 17, 64, 65};
    uint64_t number = 0;
    for (int i = 0; i < 7; i++) {
        for (int k = 0; k < 7; k++, number++)
            check_shape(conv_square(2, 5, sizes[i], sizes[k], 3, 1, 1, 1), number);
    }
}

Test(conv, image_sizes)
{
    static const int sizes[] = {1, 3, 7, 16, 17, 64, 65};
    for (int i = 0; i < 7; i++) {
        struct oct_conv_shape v = conv_square(3, 7, 5, 20, 3, 1, 1, 1);
        v.w = sizes[i];
        check_shape(v, 60 + (uint64_t)i);
        v = conv_square(1, 3, 4, 8, 1, 1, 0, 1);
        v.h = sizes[i];
        v.w = 65;
        check_shape(v, 70 + (uint64_t)i);
    }
    check_shape(conv_square(1, 300, 3, 6, 3, 1, 1, 1), 68); /* more than a block per row */
}

Test(conv, filters_strides_paddings)
{
    static const int filters[] = {1, 3, 5, 7}, pads[] = {0, 1, 3};
    uint64_t number = 80;
    for (int f = 0; f < 4; f++)
        for (int p = 0; p < 3; p++)
            for (int stride = 1; stride <= 3; stride++)
                for (int dilation = 1; dilation <= 2; dilation++, number++)
                    check_shape(
                        conv_square(2, 13, 6, 9, filters[f], stride, pads[p], dilation), number);
}

Test(conv, axes_differ)
{
    struct oct_conv_shape v = conv_square(3, 9, 10, 18, 3, 1, 1, 1);
    v.w = 14, v.s = 2, v.stride_w = 3, v.pad_w = 2, v.dilation_h = 2;
    check_shape(v, 200);
    v.r = 1, v.s = 5, v.stride_h = 2, v.stride_w = 1, v.pad_h = 0, v.dilation_w = 3, v.pad_w = 7;
    check_shape(v, 201);
    v = conv_square(2, 6, 3, 5, 4, 4, 6, 3); /* stride shares no factor with the dilation */
    check_shape(v, 202);
    v = conv_square(2, 8, 3, 5, 3, 4, 5, 2); /* it does: phases without taps */
    check_shape(v, 203);
    /* a row of the weight gradient's grid ends in halo that the next row does not begin with */
    check_shape(conv_square(2, 6, 3, 5, 2, 2, 1, 3), 205);
    v = conv_square(5, 2, 4, 4, 1, 1, 3, 1); /* more halo than image */
    check_shape(v, 204);
    /* no output reads the last rows and columns; whole chunks of channels, one tap of a phase */
    check_shape(conv_square(2, 6, 16, 32, 3, 2, 0, 1), 206);
}

static int draw(uint64_t *at, int low, int high)
{
    struct oct_philox bits = oct_random(1, OCT_RNG_SYNTHETIC, 12, (*at)++);
    return low + (int)(bits.v[0] % (uint32_t)(high - low + 1));
}

Test(conv, random_shapes)
{
    uint64_t at = 0;
    for (uint64_t number = 210; number < 270;) {
        struct oct_conv_shape v = conv_square(1, 1, 1, 1, 1, 1, 0, 1);
        v.n = draw(&at, 1, 4), v.h = draw(&at, 1, 12), v.w = draw(&at, 1, 12);
        v.c = draw(&at, 1, 9), v.k = draw(&at, 1, 9);
        v.r = draw(&at, 1, 5), v.s = draw(&at, 1, 5);
        v.stride_h = draw(&at, 1, 4), v.stride_w = draw(&at, 1, 4);
        v.pad_h = draw(&at, 0, 4), v.pad_w = draw(&at, 0, 4);
        v.dilation_h = draw(&at, 1, 4), v.dilation_w = draw(&at, 1, 4);
        if (oct_conv_p(&v) > 0 && oct_conv_q(&v) > 0)
            check_shape(v, number++);
    }
}

Test(conv, fills_and_planes)
{
    static const enum fill fills[] = {
        FILL_RANDOM, FILL_ZERO, FILL_MAX, FILL_ALTERNATE, FILL_OUTLIER, FILL_TINY};
    for (unsigned i = 0; i < 24; i++) {
        const struct conv_plan plan = {
            .shape = conv_square(2, 6, 20, 36, 3, 1 + (int)(i & 1), 1, 1),
            .fill = fills[i % 6],
            .x_planes = 1 + (int)(i >> 2 & 1),
            .w_planes = 1 + (int)(i >> 1 & 1),
            .dy_planes = 1 + (int)(i & 1),
            .per_k = i >> 3 & 1,
            .bias = i & 1,
            .accumulate = i >> 1 & 1,
            .dtype = i & 4 ? OCT_F32 : OCT_BF16,
            .extra_shift = (int)(i % 5),
            .seed = 300 + i};
        check_plan(&plan);
    }
}

/* Five and ten steps of 64 products for every pair of planes. */
Test(conv, planes_of_whole_chunks)
{
    struct conv_plan plan = {.shape = conv_square(1, 6, 32, 64, 3, 1, 1, 1),
        .fill = FILL_RANDOM,
        .x_planes = 1,
        .w_planes = 2,
        .dy_planes = 2,
        .dtype = OCT_F32,
        .seed = 350};
    check_plan(&plan);
}

Test(conv, resnet_layers)
{
    const struct oct_conv_shape shapes[] = {conv_square(2, 32, 3, 16, 3, 1, 1, 1),
        conv_square(2, 32, 16, 16, 3, 1, 1, 1), conv_square(2, 16, 32, 32, 3, 1, 1, 1),
        conv_square(3, 8, 64, 64, 3, 1, 1, 1), conv_square(1, 16, 32, 64, 3, 2, 1, 1),
        conv_square(1, 30, 3, 64, 7, 2, 3, 1), conv_square(1, 14, 64, 128, 1, 2, 0, 1),
        conv_square(2, 7, 256, 64, 1, 1, 0, 1), conv_square(1, 7, 128, 96, 3, 1, 1, 1)};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_shape(shapes[i], 400 + i);
}

Test(conv, linear)
{
    check_shape(conv_square(37, 1, 65, 10, 1, 1, 0, 1), 420);
    check_shape(conv_square(1, 1, 512, 100, 1, 1, 0, 1), 421);
    check_shape(conv_square(300, 1, 16, 17, 1, 1, 0, 1), 422);
}

/* Weight gradients sum over more pixels than an int32 accumulator holds products of 127 * 127:
 * 3 * 300 * 300 = 270,000, so that half of them are still more. Forward and backward-data reach
 * their largest legal sums elsewhere. */
Test(conv, wgrad_beyond_int32)
{
    const struct conv_plan plan = {.shape = conv_square(3, 300, 1, 1, 1, 1, 0, 1),
        .fill = FILL_MAX,
        .x_planes = 1,
        .w_planes = 1,
        .dy_planes = 1,
        .dtype = OCT_F32,
        .seed = 500};
    const int64_t most = (int64_t)INT32_MAX / (127 * 127);
    cr_assert_gt(oct_conv_y_elements(&plan.shape), 2 * most);
    check_plan(&plan);
}

/* More rewritten pixels than the weight gradient keeps at a time: it goes by groups of images. */
Test(conv, wgrad_in_groups_of_images)
{
    const struct conv_plan plan = {.shape = conv_square(33, 260, 1, 1, 1, 1, 0, 1),
        .fill = FILL_RANDOM,
        .x_planes = 1,
        .w_planes = 1,
        .dy_planes = 1,
        .accumulate = 1,
        .dtype = OCT_BF16,
        .seed = 520};
    struct conv_problem p;
    conv_problem_make(&p, &plan);
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        struct oct_cpu *cpu = open_cpu(isas[i], 2);
        if (!cpu)
            continue;
        const struct conv_runner runner = runner_of(cpu);
        conv_check_wgrad(&runner, &p);
        close_cpu(cpu);
    }
    conv_problem_free(&p);
}

Test(conv, largest_reduction)
{
    struct conv_plan plan = {.shape = conv_square(1, 1, OCT_ACC_MAX_K, 2, 1, 1, 0, 1),
        .fill = FILL_MAX,
        .x_planes = 1,
        .w_planes = 1,
        .dy_planes = 1,
        .dtype = OCT_F32,
        .seed = 510};
    check_plan(&plan);
    plan.shape.n = 80; /* sums of accumulators leave int32, also those of two of them */
    check_plan(&plan);
    plan.extra_shift = 14; /* half a step of the statistics is more than the accumulator has left */
    check_plan(&plan);
}

/* Values small enough for f32 to be exact: <y, dy> = <x, dx> = <w, dw>, without an oracle. */
static void check_adjoint(const char *isa, struct oct_conv_shape v)
{
    struct oct_cpu *cpu = open_cpu(isa, 2);
    const float one = 1.0f;
    uint32_t flag = 0;
    int64_t xn = oct_conv_x_elements(&v), wn = oct_conv_w_elements(&v),
            yn = oct_conv_y_elements(&v), sum[3] = {0, 0, 0};
    size_t bytes[3];
    if (!cpu)
        return;
    int8_t *x = guard_alloc((size_t)xn), *dy = guard_alloc((size_t)yn);
    float *w = guard_alloc((size_t)wn * 4), *y = guard_alloc((size_t)yn * 4),
          *dx = guard_alloc((size_t)xn * 4), *dw = guard_alloc((size_t)wn * 4);
    oct_backend *b = &cpu->table;
    fill_s8(x, xn, FILL_RANDOM, 1);
    fill_s8(dy, yn, FILL_RANDOM, 2);
    for (int64_t i = 0; i < wn; i++)
        w[i] = (float)(i * 7919 % 255 - 127);
    void *fprop = guard_alloc(b->weight_pack_bytes(b, &v, OCT_S8, 0));
    void *dgrad = guard_alloc(b->weight_pack_bytes(b, &v, OCT_S8, 1));
    struct oct_weight_pack_args pack = {.shape = v,
        .w = w,
        .dtype = OCT_S8,
        .planes = 1,
        .range = {.inverse = (float *)&one, .count = 1, .code_max = 127},
        .fprop = fprop,
        .dgrad = dgrad,
        .flag = &flag};
    struct oct_operand xo = {OCT_S8, 1, x, NULL, &one, 0}, dyo = {OCT_S8, 1, dy, NULL, &one, 0},
                       wf = {OCT_S8, 1, fprop, NULL, &one, 0},
                       wd = {OCT_S8, 1, dgrad, NULL, &one, 0};
    struct oct_conv_fprop_args f = {.shape = v, .x = xo, .w = wf, .y = y, .y_dtype = OCT_F32};
    struct oct_conv_dgrad_args d = {.shape = v, .dy = dyo, .w = wd, .dx = dx, .dx_dtype = OCT_F32};
    struct oct_conv_wgrad_args g = {.shape = v, .x = xo, .dy = dyo, .dw = dw};
    cr_assert_eq(b->conv_fprop_check(b, &f, &bytes[0]), OCT_OK);
    cr_assert_eq(b->conv_dgrad_check(b, &d, &bytes[1]), OCT_OK);
    cr_assert_eq(b->conv_wgrad_check(b, &g, &bytes[2]), OCT_OK);
    f.workspace = guard_alloc(bytes[0]);
    d.workspace = guard_alloc(bytes[1]);
    g.workspace = guard_alloc(bytes[2]);
    cr_assert(b->weight_pack(b, &pack) == OCT_OK && b->conv_fprop(b, &f) == OCT_OK &&
              b->conv_dgrad(b, &d) == OCT_OK && b->conv_wgrad(b, &g) == OCT_OK);
    for (int64_t i = 0; i < yn; i++)
        sum[0] += (int64_t)y[i] * dy[i];
    for (int64_t i = 0; i < xn; i++)
        sum[1] += (int64_t)dx[i] * x[i];
    for (int64_t i = 0; i < wn; i++)
        sum[2] += (int64_t)dw[i] * (int64_t)w[i];
    cr_assert(sum[0] == sum[1] && sum[0] == sum[2], "%s: %lld %lld %lld", isa, (long long)sum[0],
        (long long)sum[1], (long long)sum[2]);
    cr_assert_neq(sum[0], 0);
    void *all[] = {x, dy, w, y, dx, dw, fprop, dgrad, f.workspace, d.workspace, g.workspace};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        guard_free(all[i]);
    close_cpu(cpu);
}

Test(conv, adjoint)
{
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        check_adjoint(isas[i], conv_square(2, 9, 12, 24, 3, 1, 1, 1));
        check_adjoint(isas[i], conv_square(2, 10, 12, 24, 3, 2, 1, 1));
        check_adjoint(isas[i], conv_square(1, 15, 5, 8, 7, 2, 3, 1));
    }
}

static void expect_refusal(struct oct_cpu *cpu, struct oct_conv_shape v, const char *word)
{
    const float one = 1.0f;
    size_t bytes;
    struct oct_operand o = {OCT_S8, 1, NULL, NULL, &one, 0};
    struct oct_conv_fprop_args a = {.shape = v, .x = o, .w = o, .y_dtype = OCT_BF16};
    cr_assert_neq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_OK);
    cr_assert(strstr(oct_last_error(), word), "'%s' does not name '%s'", oct_last_error(), word);
}

Test(conv, refusals_name_what_was_asked)
{
    struct oct_cpu *cpu = open_cpu("c", 1);
    const float one = 1.0f;
    size_t bytes;
    struct oct_conv_shape v = conv_square(1, 8, 4, 4, 3, 1, 1, 1);
    v.groups = 4;
    expect_refusal(cpu, v, "groups=4");
    v.groups = 1, v.d = 2;
    expect_refusal(cpu, v, "D=2");
    expect_refusal(cpu, conv_square(1, 2, 4, 4, 5, 1, 0, 1), "does not fit");
    expect_refusal(cpu, conv_square(1, 1, OCT_ACC_MAX_K + 1, 4, 1, 1, 0, 1), "133145 products");
    expect_refusal(cpu, conv_square(1, 8, 0, 4, 1, 1, 0, 1), "at least 1");

    v = conv_square(1, 8, 4, 4, 3, 1, 1, 1);
    struct oct_conv_dgrad_args a = {.shape = v,
        .dy = {OCT_S8, 1, NULL, NULL, &one, 1},
        .w = {OCT_S8, 1, NULL, NULL, &one, 0},
        .dx_dtype = OCT_BF16};
    cr_assert_eq(cpu->table.conv_dgrad_check(&cpu->table, &a, &bytes), OCT_ARG);
    cr_assert(strstr(oct_last_error(), "dy has a scale per output channel"));
    close_cpu(cpu);
}

Test(conv, refuses_a_normalisation_that_makes_no_sense)
{
    struct oct_cpu *cpu = open_cpu("c", 1);
    const float one = 1.0f;
    const struct oct_operand o = {OCT_S8, 1, NULL, NULL, &one, 0};
    const struct oct_conv_fprop_args whole = {.shape = conv_square(1, 8, 4, 4, 3, 1, 1, 1),
        .x = o,
        .w = o,
        .y_dtype = OCT_S8,
        .norm = {&one, &one, &one, &one, &one}};
    struct oct_conv_fprop_args a = whole;
    size_t bytes;
    cr_assert_eq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_OK);
    a.norm.inverse = NULL;
    cr_assert_eq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_ARG);
    cr_assert(strstr(oct_last_error(), "part of the normalisation"), "%s", oct_last_error());
    a = whole;
    a.y_dtype = OCT_BF16;
    cr_assert_eq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_ARG);
    cr_assert(strstr(oct_last_error(), "with output bf16"), "%s", oct_last_error());
    a = whole;
    a.bias = &one;
    cr_assert_eq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_ARG);
    cr_assert(strstr(oct_last_error(), "and a bias"), "%s", oct_last_error());
    close_cpu(cpu);
}

Test(conv, unknown_isa_lists_what_there_is)
{
    cr_assert_null(open_cpu("sse9", 1));
    cr_assert(strstr(oct_last_error(), "sse9") && strstr(oct_last_error(), "simulate"));
    struct oct_cpu *cpu = open_cpu(NULL, 1);
    cr_assert_not_null(cpu);
    cr_assert(cpu->tile->automatic);
    close_cpu(cpu);
}

Test(conv, weight_that_is_not_finite_raises_the_flag)
{
    struct oct_cpu *cpu = open_cpu("c", 2);
    const struct oct_conv_shape v = conv_square(1, 4, 5, 6, 3, 1, 1, 1);
    float w[6 * 3 * 3 * 5] = {0}, inverse = 1.0f;
    uint32_t flag = 0;
    void *pack = guard_alloc(cpu->table.weight_pack_bytes(&cpu->table, &v, OCT_S8, 0));
    struct oct_weight_pack_args a = {.shape = v,
        .w = w,
        .dtype = OCT_S8,
        .planes = 1,
        .range = {.inverse = &inverse, .count = 1, .code_max = 127},
        .fprop = pack,
        .flag = &flag};
    cr_assert_eq(cpu->table.weight_pack(&cpu->table, &a), OCT_OK);
    cr_assert_eq(flag, 0);
    w[3] = w[100] = NAN;
    cr_assert_eq(cpu->table.weight_pack(&cpu->table, &a), OCT_OK);
    cr_assert_neq(flag, 0);
    guard_free(pack);
    close_cpu(cpu);
}
