#include "support/conv_problem.h"

#include "oracle/oracle_conv.h"
#include "oracle/oracle_ops.h"

#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static void *zeros(int64_t n, size_t size)
{
    return must(calloc((size_t)(n ? n : 1), size));
}

static void fill_planes(int8_t *x[2], int planes, int64_t n, enum fill how, uint64_t seed)
{
    x[0] = guard_alloc((size_t)n);
    fill_s8(x[0], n, how, seed);
    x[1] = NULL;
    if (planes == 1)
        return;
    x[1] = guard_alloc((size_t)n);
    fill_s8(x[1], n, how, seed + 50);
    for (int64_t i = 0; i < n; i++) /* low planes lie in [-64, 63] */
        x[1][i] = (int8_t)((x[1][i] + 128) / 2 - 64);
}

static void fill_scales(struct conv_problem *p)
{
    const int k = p->plan.shape.k, tiny = p->plan.fill == FILL_TINY;
    p->x_scale = tiny ? 1e-25f : 0.0123f;
    p->w_scale = zeros(k, sizeof(float));
    p->dy_scale = zeros(k, sizeof(float));
    p->inverse = zeros(k, sizeof(float));
    p->bias = zeros(k, sizeof(float));
    fill_f32(p->bias, k, FILL_RANDOM, p->plan.seed + 7);
    for (int i = 0; i < k; i++) {
        int code_max = p->plan.w_planes == 2 ? OCT_CODE16_MAX : OCT_CODE_MAX;
        float clip = p->plan.fill == FILL_RANDOM ? 2.5f + 0.1f * (float)(i % 7) : 1.0f;
        p->inverse[i] = (float)code_max / clip;
        p->w_scale[i] = (tiny ? 1e-12f : 1.0f) / p->inverse[i];
        p->dy_scale[i] = (tiny ? 1e-16f : 1e-3f) * (float)(1 + i % 5);
    }
}

static void make_stats(struct conv_problem *p)
{
    const int k_count = p->plan.shape.k;
    double squares = 0.0;
    for (p->shift = 0;; p->shift++) {
        squares = 0.0;
        for (int64_t i = 0; i < p->y_count; i++) {
            double a = fabs((double)p->acc_y[i]) / (double)(1ll << p->shift) + 1.0;
            squares += a * a;
        }
        if (squares < 4e18)
            break;
    }
    p->shift += p->plan.extra_shift;
    p->stats = zeros(4 * k_count, sizeof(int64_t));
    for (int k = 0; k < k_count; k++) {
        p->stats[k] = STATS_ADDED;
        p->stats[2 * k_count + k] = INT64_MAX;
        p->stats[3 * k_count + k] = INT64_MIN;
    }
    for (int64_t i = 0; i < p->y_count; i++) {
        int64_t k = i % k_count, a = p->acc_y[i], t = oracle_rshift_round(a, p->shift);
        p->stats[k] += a;
        p->stats[k_count + k] += t * t;
        if (a < p->stats[2 * k_count + k])
            p->stats[2 * k_count + k] = a;
        if (a > p->stats[3 * k_count + k])
            p->stats[3 * k_count + k] = a;
    }
}

static void put(void *to, enum oct_dtype dtype, int64_t i, float value)
{
    if (dtype == OCT_BF16)
        ((uint16_t *)to)[i] = oracle_bf16(value);
    else
        ((float *)to)[i] = value;
}

static void make_expected(struct conv_problem *p)
{
    const struct conv_plan *q = &p->plan;
    const size_t size = oct_dtype_bytes(q->dtype);
    p->y = zeros(p->y_count, size);
    p->dx = zeros(p->x_count, size);
    p->dx_old = zeros(p->x_count, size);
    p->dw = zeros(p->w_count, sizeof(float));
    p->dw_old = zeros(p->w_count, sizeof(float));
    if (q->dtype == OCT_BF16)
        fill_bf16(p->dx_old, p->x_count, FILL_RANDOM, q->seed + 8);
    else
        fill_f32(p->dx_old, p->x_count, FILL_RANDOM, q->seed + 8);
    fill_f32(p->dw_old, p->w_count, FILL_RANDOM, q->seed + 9);
    for (int64_t i = 0; i < p->y_count; i++) {
        int64_t k = i % q->shape.k;
        put(p->y, q->dtype, i,
            oracle_conv_real(p->acc_y[i], p->x_scale, p->w_scale[q->per_k ? k : 0],
                q->bias ? &p->bias[k] : NULL, NULL));
    }
    for (int64_t i = 0; i < p->x_count; i++) {
        float old = q->dtype == OCT_BF16 ? oct_f32_from_bf16(((uint16_t *)p->dx_old)[i])
                                         : ((float *)p->dx_old)[i];
        put(p->dx, q->dtype, i,
            oracle_conv_real(
                p->acc_dx[i], p->dy_scale[0], p->w_scale[0], NULL, q->accumulate ? &old : NULL));
    }
    for (int64_t i = 0; i < p->w_count; i++) {
        int64_t k = i / (p->w_count / q->shape.k);
        p->dw[i] = oracle_conv_real(p->acc_dw[i], p->x_scale, p->dy_scale[q->per_k ? k : 0], NULL,
            q->accumulate ? &p->dw_old[i] : NULL);
    }
}

void conv_problem_make(struct conv_problem *p, const struct conv_plan *plan)
{
    const struct oct_conv_shape *v = &plan->shape;
    const int64_t filter = (int64_t)v->r * v->s * v->c;
    const int code_max = plan->w_planes == 2 ? OCT_CODE16_MAX : OCT_CODE_MAX;
    memset(p, 0, sizeof *p);
    p->plan = *plan;
    p->x_count = oct_conv_x_elements(v);
    p->w_count = oct_conv_w_elements(v);
    p->y_count = oct_conv_y_elements(v);
    fill_planes(p->x, plan->x_planes, p->x_count, plan->fill, plan->seed + 1);
    fill_planes(p->dy, plan->dy_planes, p->y_count, plan->fill, plan->seed + 2);
    p->w = guard_alloc((size_t)p->w_count * sizeof(float));
    fill_f32(p->w, p->w_count, plan->fill, plan->seed + 3);
    fill_scales(p);
    p->x_codes = zeros(p->x_count, 4);
    p->w_codes = zeros(p->w_count, 4);
    p->w_codes_dgrad = zeros(p->w_count, 4);
    p->dy_codes = zeros(p->y_count, 4);
    oracle_codes(p->x_codes, p->x[0], p->x[1], p->x_count);
    oracle_codes(p->dy_codes, p->dy[0], p->dy[1], p->y_count);
    oracle_weight_codes(p->w_codes, p->w, v->k, filter, p->inverse, plan->per_k, code_max);
    oracle_weight_codes(p->w_codes_dgrad, p->w, v->k, filter, p->inverse, 0, code_max);
    p->acc_y = zeros(p->y_count, 8);
    p->acc_dx = zeros(p->x_count, 8);
    p->acc_dw = zeros(p->w_count, 8);
    oracle_conv_fprop(p->acc_y, v, p->x_codes, p->w_codes);
    oracle_conv_dgrad(p->acc_dx, v, p->dy_codes, p->w_codes_dgrad);
    oracle_conv_wgrad(p->acc_dw, v, p->x_codes, p->dy_codes);
    make_stats(p);
    make_expected(p);
}

void conv_problem_free(struct conv_problem *p)
{
    void *plain[] = {p->bias, p->inverse, p->w_scale, p->dy_scale, p->x_codes, p->w_codes,
        p->w_codes_dgrad, p->dy_codes, p->acc_y, p->acc_dx, p->acc_dw, p->y, p->dx, p->dx_old,
        p->dw, p->dw_old, p->stats};
    void *guarded[] = {p->x[0], p->x[1], p->dy[0], p->dy[1], p->w};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        free(plain[i]);
    for (size_t i = 0; i < sizeof guarded / sizeof guarded[0]; i++)
        guard_free(guarded[i]);
}
