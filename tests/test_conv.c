/* The int8 convolution products against the int64 oracle, bit for bit, on every instruction set
 * this CPU has (and the emulated and simulated ones), with 1, 2 and 3 threads; or on the one device
 * under test, for which the first instruction set then stands. */
#include "cpu/cpu.h"
#include "cpu/tile.h"
#include "support/conv_cases.h"
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

static void describe(char *text, size_t size, const char *op, const struct conv_problem *p,
    const struct oct_cpu *cpu)
{
    const struct oct_conv_shape *v = &p->plan.shape;
    snprintf(text, size,
        "%s %s x%d n%d %dx%dx%d k%d %dx%d stride %dx%d pad %dx%d dilation %dx%d fill %d planes "
        "x%d w%d dy%d per_k %d seed %llu",
        op, cpu->pool ? cpu->isa_name : cpu->table.isa, cpu->pool ? oct_pool_threads(cpu->pool) : 0,
        v->n, v->h, v->w, v->c, v->k, v->r, v->s, v->stride_h, v->stride_w, v->pad_h, v->pad_w,
        v->dilation_h, v->dilation_w, p->plan.fill, p->plan.x_planes, p->plan.w_planes,
        p->plan.dy_planes, p->plan.per_k, (unsigned long long)p->plan.seed);
}

struct pack {
    int8_t *data[2];
};

static struct pack make_pack(struct oct_cpu *cpu, const struct conv_problem *p, int dgrad)
{
    const struct conv_plan *q = &p->plan;
    struct pack pack = {{NULL, NULL}};
    uint32_t flag = 0;
    size_t bytes = cpu->table.weight_pack_bytes(&cpu->table, &q->shape, OCT_S8, dgrad);
    for (int plane = 0; plane < q->w_planes; plane++)
        pack.data[plane] = guard_alloc(bytes);
    struct oct_weight_pack_args a = {.shape = q->shape,
        .w = p->w,
        .dtype = OCT_S8,
        .planes = q->w_planes,
        .flag = &flag,
        .range = {.scale = p->w_scale,
            .inverse = p->inverse,
            .count = q->per_k && !dgrad ? q->shape.k : 1,
            .code_max = q->w_planes == 2 ? OCT_CODE16_MAX : OCT_CODE_MAX}};
    *(dgrad ? &a.dgrad : &a.fprop) = pack.data[0];
    *(dgrad ? &a.dgrad_lo : &a.fprop_lo) = pack.data[1];
    cr_assert_eq(cpu->table.weight_pack(&cpu->table, &a), OCT_OK);
    cr_assert_eq(flag, 0);
    for (int plane = 0; plane < q->w_planes; plane++)
        cr_assert(guard_intact(pack.data[plane], "weight pack"));
    return pack;
}

static void free_pack(struct pack *pack)
{
    guard_free(pack->data[0]);
    guard_free(pack->data[1]);
}

static void check_fprop(struct oct_cpu *cpu, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, oct_conv_p(v), oct_conv_q(v), v->k}, stat_dims[] = {4, v->k};
    char what[300];
    size_t bytes = 0;
    int64_t *stats = guard_alloc(sizeof(int64_t) * 4 * (size_t)v->k);
    const struct oct_acc_stats out = {
        stats, stats + v->k, stats + 2 * v->k, stats + 3 * v->k, p->shift};
    struct pack pack = make_pack(cpu, p, 0);
    void *y = guard_alloc((size_t)p->y_count * oct_dtype_bytes(q->dtype));
    struct oct_conv_fprop_args a = {.shape = *v,
        .x = {OCT_S8, q->x_planes, p->x[0], p->x[1], &p->x_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, q->per_k},
        .bias = q->bias ? p->bias : NULL,
        .y = y,
        .y_dtype = q->dtype,
        .stats = &out};

    describe(what, sizeof what, "fprop", p, cpu);
    cr_assert_eq(cpu->table.conv_fprop_check(&cpu->table, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    cpu->table.stats_clear(&cpu->table, &out, v->k);
    for (int k = 0; k < v->k; k++)
        stats[k] += STATS_ADDED;
    cr_assert_eq(cpu->table.conv_fprop(&cpu->table, &a), OCT_OK);
    cr_assert(same_tensor(what, q->dtype, y, p->y, p->y_count, dims, 4));
    strcat(what, " statistics");
    cr_assert(same_tensor(what, OCT_S64, stats, p->stats, 4 * v->k, stat_dims, 2));
    cr_assert(
        guard_intact(y, what) && guard_intact(stats, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(y);
    guard_free(stats);
    free_pack(&pack);
}

static void check_dgrad(struct oct_cpu *cpu, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, v->h, v->w, v->c};
    const size_t dx_bytes = (size_t)p->x_count * oct_dtype_bytes(q->dtype);
    char what[300];
    size_t bytes = 0;
    struct pack pack = make_pack(cpu, p, 1);
    void *dx = guard_alloc(dx_bytes);
    struct oct_conv_dgrad_args a = {.shape = *v,
        .dy = {OCT_S8, q->dy_planes, p->dy[0], p->dy[1], p->dy_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, 0},
        .dx = dx,
        .dx_dtype = q->dtype,
        .mode = q->accumulate ? OCT_ACCUMULATE : OCT_OVERWRITE};

    describe(what, sizeof what, "dgrad", p, cpu);
    cr_assert_eq(cpu->table.conv_dgrad_check(&cpu->table, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    if (q->accumulate)
        memcpy(dx, p->dx_old, dx_bytes);
    cr_assert_eq(cpu->table.conv_dgrad(&cpu->table, &a), OCT_OK);
    cr_assert(same_tensor(what, q->dtype, dx, p->dx, p->x_count, dims, 4));
    cr_assert(guard_intact(dx, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(dx);
    free_pack(&pack);
}

static void check_wgrad(struct oct_cpu *cpu, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->k, v->r, v->s, v->c};
    char what[300];
    size_t bytes = 0;
    float *dw = guard_alloc((size_t)p->w_count * sizeof(float));
    struct oct_conv_wgrad_args a = {.shape = *v,
        .x = {OCT_S8, q->x_planes, p->x[0], p->x[1], &p->x_scale, 0},
        .dy = {OCT_S8, q->dy_planes, p->dy[0], p->dy[1], p->dy_scale, q->per_k},
        .dw = dw,
        .mode = q->accumulate ? OCT_ACCUMULATE : OCT_OVERWRITE};

    describe(what, sizeof what, "wgrad", p, cpu);
    cr_assert_eq(cpu->table.conv_wgrad_check(&cpu->table, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    if (q->accumulate)
        memcpy(dw, p->dw_old, (size_t)p->w_count * sizeof(float));
    cr_assert_eq(cpu->table.conv_wgrad(&cpu->table, &a), OCT_OK);
    cr_assert(same_tensor(what, OCT_F32, dw, p->dw, p->w_count, dims, 4));
    cr_assert(guard_intact(dw, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(dw);
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
            check_fprop(cpu, &p);
            check_dgrad(cpu, &p);
            check_wgrad(cpu, &p);
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
 * 2 * 300 * 300 = 180,000. Forward and backward-data reach their largest legal sums elsewhere. */
Test(conv, wgrad_beyond_int32)
{
    const struct conv_plan plan = {.shape = conv_square(2, 300, 1, 1, 1, 1, 0, 1),
        .fill = FILL_MAX,
        .x_planes = 1,
        .w_planes = 1,
        .dy_planes = 1,
        .dtype = OCT_F32,
        .seed = 500};
    const int64_t most = (int64_t)INT32_MAX / (127 * 127);
    cr_assert_gt(oct_conv_y_elements(&plan.shape), most);
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
        check_wgrad(cpu, &p);
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
    plan.shape.n = 5; /* sums of accumulators leave int32 */
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
    w[100] = NAN;
    cr_assert_eq(cpu->table.weight_pack(&cpu->table, &a), OCT_OK);
    cr_assert_neq(flag, 0);
    guard_free(pack);
    close_cpu(cpu);
}
