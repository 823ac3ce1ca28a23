/* Pooling forward and backward against the oracle, bit for bit, on both instruction sets and 1, 2,
 * 3 threads; refusals; and the identities <pool(x), dy> and sum of dx = sum of dy. */
#include "oracle/oracle_ops.h"
#include "support/cpu_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* n, h, w, c, r, s, stride, pad, dilation */
static const int cases[][9] = {{1, 1, 1, 1, 1, 1, 1, 0, 1}, {3, 7, 5, 3, 3, 3, 2, 1, 1},
    {2, 8, 8, 16, 2, 2, 2, 0, 1}, {1, 17, 16, 17, 3, 3, 1, 1, 1}, {2, 7, 7, 64, 7, 7, 1, 0, 1},
    {1, 9, 9, 65, 3, 2, 3, 1, 1}, {1, 16, 17, 80, 3, 3, 2, 1, 1}, {2, 12, 9, 7, 3, 3, 1, 2, 2},
    {1, 11, 13, 33, 2, 3, 2, 1, 3}, {1, 5, 6, 257, 5, 6, 1, 0, 1}, {4, 8, 8, 100, 8, 8, 1, 0, 1},
    {1, 33, 4, 1, 3, 1, 2, 1, 1}};
enum { CASES = sizeof cases / sizeof cases[0] };

static struct oct_conv_shape shape_of(const int *k)
{
    int r = k[4], s = k[5];
    int pad_h = k[7] < k[8] * (r - 1) + 1 ? k[7] : 0, pad_w = s > 1 ? k[7] : 0;
    return (struct oct_conv_shape){.n = k[0],
        .d = 1,
        .h = k[1],
        .w = k[2],
        .c = k[3],
        .k = k[3],
        .t = 1,
        .r = r,
        .s = s,
        .stride_d = 1,
        .stride_h = k[6],
        .stride_w = k[6],
        .pad_h = pad_h,
        .pad_w = pad_w,
        .dilation_d = 1,
        .dilation_h = k[8],
        .dilation_w = k[8],
        .groups = k[3]};
}

static void check_forward(
    const struct cpu_ops_variant *v, int index, enum oct_dtype dtype, int average, enum fill how)
{
    struct oct_conv_shape shape = shape_of(cases[index]);
    int64_t n = oct_conv_y_elements(&shape);
    enum oct_dtype y_dtype = dtype;
    if (average)
        y_dtype = dtype == OCT_S8 || how == FILL_ALTERNATE ? OCT_F32 : OCT_BF16;
    if (average && dtype == OCT_S8 && how == FILL_ALTERNATE)
        y_dtype = OCT_S32;
    /* several: that of one case may hide how it is divided by the window */
    float scale = 0.037f / (float)(index + (int)how + 1);
    void *x = filled(dtype, oct_conv_x_elements(&shape), how, (uint64_t)index);
    void *got = guard_alloc((size_t)n * oct_dtype_bytes(y_dtype));
    void *want = guard_alloc((size_t)n * oct_dtype_bytes(y_dtype));
    uint8_t *got_winner = guard_alloc((size_t)n), *want_winner = guard_alloc((size_t)n);
    struct oct_pool_args a = {.shape = shape,
        .average = average,
        .x = x,
        .x_dtype = dtype,
        .x_scale = &scale,
        .y = got,
        .y_dtype = y_dtype,
        .winner = average ? NULL : got_winner};
    char name[96];
    snprintf(name, sizeof name, "pool %s x%d case %d %s average %d", v->isa, v->threads, index,
        oct_dtype_name(dtype), average);
    cr_assert_eq(v->backend->pool(v->backend, &a), OCT_OK, "%s: %s", name, oct_last_error());
    a.y = want;
    a.winner = average ? NULL : want_winner;
    oracle_pool(&a);
    int64_t dims[] = {shape.n, oct_conv_p(&shape), oct_conv_q(&shape), shape.k};
    cr_assert(same_tensor(name, y_dtype, got, want, n, dims, 4), "%s", name);
    cr_assert(average || same_tensor(name, OCT_U8, got_winner, want_winner, n, dims, 4));
    cr_assert(guard_intact(got, name) && guard_intact(got_winner, name));
    guard_free(x);
    guard_free(got);
    guard_free(want);
    guard_free(got_winner);
    guard_free(want_winner);
}

Test(pool, forward)
{
    static const enum fill fills[] = {FILL_RANDOM, FILL_ZERO, FILL_ALTERNATE, FILL_TINY};
    static const enum oct_dtype dtypes[] = {OCT_F32, OCT_BF16, OCT_S8};
    EACH_VARIANT(v)
    {
        for (int i = 0; i < CASES * 24; i++)
            check_forward(&v, i / 24, dtypes[i % 3], i / 3 & 1, fills[i / 6 & 3]);
    }
}

static void check_backward(const struct cpu_ops_variant *v, int index, int variant)
{
    struct oct_conv_shape shape = shape_of(cases[index]);
    enum oct_dtype dy_dtype = variant & 1 ? OCT_BF16 : OCT_F32;
    enum oct_dtype dx_dtype = variant & 2 ? OCT_BF16 : OCT_F32;
    int64_t n = oct_conv_x_elements(&shape), outputs = oct_conv_y_elements(&shape);
    int8_t *x = filled(OCT_S8, n, FILL_RANDOM, (uint64_t)index), *y = guard_alloc((size_t)outputs);
    uint8_t *winner = guard_alloc((size_t)outputs);
    struct oct_pool_args forward = {
        .shape = shape, .x = x, .x_dtype = OCT_S8, .y = y, .y_dtype = OCT_S8, .winner = winner};
    oracle_pool(&forward);
    void *dy = filled(dy_dtype, outputs, FILL_RANDOM, 20);
    void *got = filled(dx_dtype, n, FILL_RANDOM, 21), *want = filled(dx_dtype, n, FILL_RANDOM, 21);
    struct oct_pool_bwd_args a = {.shape = shape,
        .average = variant >> 2 & 1,
        .dy = dy,
        .dy_dtype = dy_dtype,
        .winner = winner,
        .dx = got,
        .dx_dtype = dx_dtype,
        .mode = variant >> 3 & 1 ? OCT_ACCUMULATE : OCT_OVERWRITE};
    char name[96];
    snprintf(name, sizeof name, "pool_bwd %s x%d case %d variant %d", v->isa, v->threads, index,
        variant);
    cr_assert_eq(v->backend->pool_bwd(v->backend, &a), OCT_OK, "%s: %s", name, oct_last_error());
    a.dx = want;
    oracle_pool_bwd(&a);
    int64_t dims[] = {shape.n, shape.h, shape.w, shape.c};
    cr_assert(same_tensor(name, dx_dtype, got, want, n, dims, 4), "%s", name);
    cr_assert(guard_intact(got, name));
    guard_free(x);
    guard_free(y);
    guard_free(winner);
    guard_free(dy);
    guard_free(got);
    guard_free(want);
}

Test(pool, backward)
{
    EACH_VARIANT(v)
    {
        for (int i = 0; i < CASES * 16; i++)
            check_backward(&v, i / 16, i % 16);
    }
}

/* <max pool(x), dy> = <x, dx> on integers small enough to be exact in f32. */
Test(pool, adjoint)
{
    EACH_VARIANT(v)
    {
        for (int i = 0; i < CASES; i++) {
            struct oct_conv_shape shape = shape_of(cases[i]);
            int64_t n = oct_conv_x_elements(&shape), m = oct_conv_y_elements(&shape);
            float *x = filled(OCT_F32, n, FILL_RANDOM, 30), *dx = filled(OCT_F32, n, FILL_ZERO, 0);
            float *y = filled(OCT_F32, m, FILL_ZERO, 0), *dy = filled(OCT_F32, m, FILL_RANDOM, 31);
            uint8_t *winner = guard_alloc((size_t)m);
            for (int64_t j = 0; j < n; j++)
                x[j] = rintf(x[j] * 16.0f);
            for (int64_t j = 0; j < m; j++)
                dy[j] = rintf(dy[j] * 16.0f);
            struct oct_pool_args f = {.shape = shape,
                .x = x,
                .x_dtype = OCT_F32,
                .y = y,
                .y_dtype = OCT_F32,
                .winner = winner};
            struct oct_pool_bwd_args b = {.shape = shape,
                .dy = dy,
                .dy_dtype = OCT_F32,
                .winner = winner,
                .dx = dx,
                .dx_dtype = OCT_F32};
            cr_assert_eq(v.backend->pool(v.backend, &f), OCT_OK);
            cr_assert_eq(v.backend->pool_bwd(v.backend, &b), OCT_OK);
            double left = 0.0, right = 0.0;
            for (int64_t j = 0; j < m; j++)
                left += (double)y[j] * (double)dy[j];
            for (int64_t j = 0; j < n; j++)
                right += (double)x[j] * (double)dx[j];
            cr_assert_eq(left, right, "case %d: %g %g", i, left, right);
            guard_free(x);
            guard_free(dx);
            guard_free(y);
            guard_free(dy);
            guard_free(winner);
        }
    }
}

Test(pool, refusals)
{
    EACH_VARIANT(v)
    {
        uint8_t winner[2] = {0};
        struct oct_pool_args a = {
            .shape = shape_of(cases[1]), .x_dtype = OCT_F32, .y_dtype = OCT_BF16};
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.average = 1;
        a.y_dtype = OCT_S32; /* sums are of codes */
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.y_dtype = OCT_BF16; /* codes average to f32 only */
        a.x_dtype = OCT_S8;
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.y_dtype = OCT_S8;
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.shape = shape_of((int[]){1, 400, 400, 1, 400, 400, 1, 0, 1});
        a.y_dtype = OCT_F32; /* 160,000 codes do not add up exactly */
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.shape = shape_of(cases[1]);
        a.average = 0;
        a.x_dtype = OCT_F32;
        a.shape.pad_h = 3; /* the first window is padding only */
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_SHAPE);
        cr_assert(strstr(oct_last_error(), "padding"));
        a.shape = shape_of(cases[1]);
        a.shape.h = 1; /* taps at -1, 1, 3 all miss the only row */
        a.shape.dilation_h = 2;
        a.shape.pad_h = 2;
        a.shape.r = 2;
        a.shape.pad_h = 1;
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_SHAPE);
        a.shape = shape_of((int[]){1, 12, 12, 1, 12, 11, 1, 0, 1});
        a.winner = winner;
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        a.shape = shape_of(cases[1]);
        a.shape.groups = 1;
        cr_assert_eq(v.backend->pool(v.backend, &a), OCT_UNSUPPORTED);
        struct oct_pool_bwd_args b = {.shape = shape_of(cases[1]), .dy_dtype = OCT_S8};
        cr_assert_eq(v.backend->pool_bwd(v.backend, &b), OCT_UNSUPPORTED);
    }
}
