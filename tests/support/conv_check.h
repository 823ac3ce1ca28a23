/* Runs a convolution problem's products on a backend and asserts that every bit is the oracle's. */
#ifndef OCT_TEST_CONV_CHECK_H
#define OCT_TEST_CONV_CHECK_H

#include "backend.h"
#include "oracle/oracle_norm.h"
#include "oracle/oracle_shift.h"
#include "support/conv_problem.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A backend that takes host pointers (the CPU's, or a mirror), and what to call it. */
struct conv_runner {
    oct_backend *backend;
    const char *name;
    int threads;
};

static inline void conv_describe(char *text, size_t size, const char *op,
    const struct conv_problem *p, const struct conv_runner *on)
{
    const struct oct_conv_shape *v = &p->plan.shape;
    snprintf(text, size,
        "%s %s x%d n%d %dx%dx%d k%d %dx%d stride %dx%d pad %dx%d dilation %dx%d fill %d planes "
        "x%d w%d dy%d per_k %d seed %llu",
        op, on->name, on->threads, v->n, v->h, v->w, v->c, v->k, v->r, v->s, v->stride_h,
        v->stride_w, v->pad_h, v->pad_w, v->dilation_h, v->dilation_w, p->plan.fill,
        p->plan.x_planes, p->plan.w_planes, p->plan.dy_planes, p->plan.per_k,
        (unsigned long long)p->plan.seed);
}

struct conv_pack {
    int8_t *data[2];
};

static inline struct conv_pack conv_make_pack(
    const struct conv_runner *on, const struct conv_problem *p, int dgrad)
{
    const struct conv_plan *q = &p->plan;
    struct conv_pack pack = {{NULL, NULL}};
    uint32_t flag = 0;
    size_t bytes = on->backend->weight_pack_bytes(on->backend, &q->shape, OCT_S8, dgrad);
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
    cr_assert_eq(on->backend->weight_pack(on->backend, &a), OCT_OK);
    cr_assert_eq(flag, 0);
    for (int plane = 0; plane < q->w_planes; plane++)
        cr_assert(guard_intact(pack.data[plane], "weight pack"));
    return pack;
}

static inline void conv_free_pack(struct conv_pack *pack)
{
    guard_free(pack->data[0]);
    guard_free(pack->data[1]);
}

static inline void conv_check_fprop(const struct conv_runner *on, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, oct_conv_p(v), oct_conv_q(v), v->k}, stat_dims[] = {4, v->k};
    char what[300];
    size_t bytes = 0;
    int64_t *stats = guard_alloc(sizeof(int64_t) * 4 * (size_t)v->k);
    const struct oct_acc_stats out = {
        stats, stats + v->k, stats + 2 * v->k, stats + 3 * v->k, p->shift};
    struct conv_pack pack = conv_make_pack(on, p, 0);
    void *y = guard_alloc((size_t)p->y_count * oct_dtype_bytes(q->dtype));
    struct oct_conv_fprop_args a = {.shape = *v,
        .x = {OCT_S8, q->x_planes, p->x[0], p->x[1], &p->x_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, q->per_k},
        .bias = q->bias ? p->bias : NULL,
        .y = y,
        .y_dtype = q->dtype,
        .stats = &out};

    conv_describe(what, sizeof what, "fprop", p, on);
    cr_assert_eq(on->backend->conv_fprop_check(on->backend, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    on->backend->stats_clear(on->backend, &out, v->k);
    for (int k = 0; k < v->k; k++)
        stats[k] += STATS_ADDED;
    cr_assert_eq(on->backend->conv_fprop(on->backend, &a), OCT_OK);
    cr_assert(same_tensor(what, q->dtype, y, p->y, p->y_count, dims, 4));
    strcat(what, " statistics");
    cr_assert(same_tensor(what, OCT_S64, stats, p->stats, 4 * v->k, stat_dims, 2));
    cr_assert(
        guard_intact(y, what) && guard_intact(stats, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(y);
    guard_free(stats);
    conv_free_pack(&pack);
}

/* y in codes, from accumulators and integers alone; one scale of w. */
static inline void conv_check_codes(const struct conv_runner *on, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, oct_conv_p(v), oct_conv_q(v), v->k};
    const int relu = (int)(q->seed >> 3 & 1), largest = v->r * v->s * v->c > 40 ? 9 : 4;
    int32_t by[OCT_SHIFT_ENTRIES] = {[OCT_SHIFT_RIGHT] = largest + 7 * (q->w_planes - 1)};
    int32_t *bias = guard_alloc(4 * (size_t)v->k);
    int8_t *y = guard_alloc((size_t)p->y_count), *want = guard_alloc((size_t)p->y_count);
    struct conv_pack pack = conv_make_pack(on, p, 0);
    struct oct_conv_fprop_args a = {.shape = *v,
        .x = {OCT_S8, q->x_planes, p->x[0], p->x[1], &p->x_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, 0},
        .y = y,
        .y_dtype = OCT_S8,
        .shift = {by, bias},
        .relu = relu};
    char what[300];
    size_t bytes = 0;

    conv_describe(what, sizeof what, "fprop to codes", p, on);
    for (int k = 0; k < v->k; k++)
        bias[k] = (int)(oct_mix32((uint32_t)(k + q->seed)) % 4001) - 2000;
    for (int64_t i = 0; i < p->y_count; i++)
        want[i] = (int8_t)oracle_shift_code(
            p->acc_y[i] + bias[i % v->k], by[OCT_SHIFT_RIGHT], relu ? 0 : -127);
    cr_assert_eq(on->backend->conv_fprop_check(on->backend, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    cr_assert_eq(on->backend->conv_fprop(on->backend, &a), OCT_OK);
    cr_assert(same_tensor(what, OCT_S8, y, want, p->y_count, dims, 4));
    cr_assert(guard_intact(y, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(bias);
    guard_free(y);
    guard_free(want);
    conv_free_pack(&pack);
}

/* a and b of a channel whose first accumulator tells two roundings from one, codes being 1/64: acc
 * scale = e near 3 10^6, where floats are 1/4 apart, and the offset takes fl(e) to the tie next to
 * which e lies on the side that rounds the other way. False where there is none. */
static inline bool conv_tie_of(float acc, float multiplier, float *a, float *b)
{
    const float slope = 3e6f / 64.0f / acc / multiplier;
    const float scale = multiplier * slope * 64.0f;
    const double exact = (double)acc * (double)scale;
    const float product = (float)exact;
    if (!(fabs(exact) < 4e6) || !(fabsf(slope) < 1e30f) || exact == (double)product)
        return false;
    *a = slope;
    *b = ((exact > (double)product ? 0.5f : 1.5f) - product) / 64.0f;
    return true;
}

/* Channels with means and deviations of a few tens of codes: either end clips, most values are
 * between; every fourth has a tie instead, some are NaN. Rows of `channel`: a, b, lo, hi. */
static inline void conv_fill_norm(const struct conv_problem *p, float *channel, float *inverse)
{
    const struct conv_plan *q = &p->plan;
    const int count = q->shape.k;
    *inverse = 64.0f;
    for (int k = 0; k < count; k++) {
        const uint32_t r = oct_mix32((uint32_t)(k + q->seed));
        const float b = (float)(r >> 8 & 0xff) / 255.0f - 0.4f;
        double square = 0.0;
        for (int64_t i = k; i < p->y_count; i += count)
            square += (double)p->acc_y[i] * (double)p->acc_y[i];
        const float multiplier = p->x_scale * p->w_scale[q->per_k ? k : 0];
        const double deviation = (double)multiplier * sqrt(square * count / (double)p->y_count);
        channel[k] = (float)((r & 1 ? -0.8 : 0.6) / (deviation > 1e-30 ? deviation : 1.0));
        channel[count + k] = (r >> 18 & 15) == 5 ? NAN : b;
        channel[2 * count + k] = r & 2 ? 0.0f : b - 1.0f;
        channel[3 * count + k] = b + 1.0f;
        if (r >> 16 & 3 ||
            !conv_tie_of((float)p->acc_y[k], multiplier, &channel[k], &channel[count + k]))
            continue;
        channel[2 * count + k] = -1.0f;
        channel[3 * count + k] = 1.0f;
    }
}

static inline void conv_check_merged(const struct conv_runner *on, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, oct_conv_p(v), oct_conv_q(v), v->k};
    float *a = guard_alloc(4 * sizeof(float) * (size_t)v->k), inverse;
    const float *b = a + v->k, *lo = b + v->k, *hi = lo + v->k;
    int8_t *y = guard_alloc((size_t)p->y_count), *want = guard_alloc((size_t)p->y_count);
    struct conv_pack pack = conv_make_pack(on, p, 0);
    struct oct_conv_fprop_args args = {.shape = *v,
        .x = {OCT_S8, q->x_planes, p->x[0], p->x[1], &p->x_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, q->per_k},
        .y = y,
        .y_dtype = OCT_S8,
        .norm = {a, b, lo, hi, &inverse}};
    char what[300];
    size_t bytes = 0;

    conv_describe(what, sizeof what, "fprop with its norm", p, on);
    conv_fill_norm(p, a, &inverse);
    for (int64_t i = 0; i < p->y_count; i++) {
        const int k = (int)(i % v->k);
        const struct oracle_merged channel = {
            a[k], b[k], lo[k], hi[k], p->x_scale * p->w_scale[q->per_k ? k : 0], inverse};
        want[i] = (int8_t)oracle_merged_code(p->acc_y[i], &channel);
    }
    cr_assert_eq(on->backend->conv_fprop_check(on->backend, &args, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    args.workspace = guard_alloc(bytes);
    cr_assert_eq(on->backend->conv_fprop(on->backend, &args), OCT_OK);
    cr_assert(same_tensor(what, OCT_S8, y, want, p->y_count, dims, 4));
    cr_assert(guard_intact(y, what) && guard_intact(args.workspace, what));
    guard_free(args.workspace);
    guard_free(a);
    guard_free(y);
    guard_free(want);
    conv_free_pack(&pack);
}

static inline void conv_check_dgrad(const struct conv_runner *on, const struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const struct oct_conv_shape *v = &q->shape;
    const int64_t dims[] = {v->n, v->h, v->w, v->c};
    const size_t dx_bytes = (size_t)p->x_count * oct_dtype_bytes(q->dtype);
    char what[300];
    size_t bytes = 0;
    struct conv_pack pack = conv_make_pack(on, p, 1);
    void *dx = guard_alloc(dx_bytes);
    struct oct_conv_dgrad_args a = {.shape = *v,
        .dy = {OCT_S8, q->dy_planes, p->dy[0], p->dy[1], p->dy_scale, 0},
        .w = {OCT_S8, q->w_planes, pack.data[0], pack.data[1], p->w_scale, 0},
        .dx = dx,
        .dx_dtype = q->dtype,
        .mode = q->accumulate ? OCT_ACCUMULATE : OCT_OVERWRITE};

    conv_describe(what, sizeof what, "dgrad", p, on);
    cr_assert_eq(on->backend->conv_dgrad_check(on->backend, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    if (q->accumulate)
        memcpy(dx, p->dx_old, dx_bytes);
    cr_assert_eq(on->backend->conv_dgrad(on->backend, &a), OCT_OK);
    cr_assert(same_tensor(what, q->dtype, dx, p->dx, p->x_count, dims, 4));
    cr_assert(guard_intact(dx, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(dx);
    conv_free_pack(&pack);
}

static inline void conv_check_wgrad(const struct conv_runner *on, const struct conv_problem *p)
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

    conv_describe(what, sizeof what, "wgrad", p, on);
    cr_assert_eq(on->backend->conv_wgrad_check(on->backend, &a, &bytes), OCT_OK, "%s: %s", what,
        oct_last_error());
    a.workspace = guard_alloc(bytes);
    if (q->accumulate)
        memcpy(dw, p->dw_old, (size_t)p->w_count * sizeof(float));
    cr_assert_eq(on->backend->conv_wgrad(on->backend, &a), OCT_OK);
    cr_assert(same_tensor(what, OCT_F32, dw, p->dw, p->w_count, dims, 4));
    cr_assert(guard_intact(dw, what) && guard_intact(a.workspace, what));
    guard_free(a.workspace);
    guard_free(dw);
}

#endif
