#include "oracle/oracle_ops.h"

#include "oracle/oracle_scheme.h"

#include <float.h>
#include <math.h>
#include <string.h>

float oracle_fl(double exact)
{
    /* tiny after rounding to 24 bits: flushed */
    if (fabs(exact) < (double)FLT_MIN * (1.0 - 0x1p-25))
        return signbit(exact) ? -0.0f : 0.0f;
    return (float)exact;
}

double oracle_in(float x)
{
    if (x != 0.0f && fabsf(x) < FLT_MIN)
        return signbit(x) ? -0.0 : 0.0;
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static float raw_at(const void *x, enum oct_dtype dtype, int64_t i)
{
    switch (dtype) {
    case OCT_F32:
        return ((const float *)x)[i];
    case OCT_BF16:
        return float_of((uint32_t)((const uint16_t *)x)[i] << 16);
    default:
        return ((const int8_t *)x)[i];
    }
}

double oracle_at(const void *x, enum oct_dtype dtype, int64_t i)
{
    return oracle_in(raw_at(x, dtype, i));
}

/* Picks the nearer of the two neighbours among bf16 values; the even one in a tie. */
uint16_t oracle_bf16(float x)
{
    uint32_t u = bits_of(x);
    uint16_t down = (uint16_t)(u >> 16);
    if (isnan(x))
        return down | 0x40;
    uint32_t rest = u & 0xffff;
    if (rest > 0x8000 || (rest == 0x8000 && (down & 1)))
        return down + 1;
    return down;
}

void oracle_put(void *x, enum oct_dtype dtype, int64_t i, float value)
{
    if (dtype == OCT_BF16)
        ((uint16_t *)x)[i] = oracle_bf16(value);
    else
        ((float *)x)[i] = value;
}

double oracle_rne(double v)
{
    double low = floor(v), rest = v - low;
    if (rest > 0.5 || (rest == 0.5 && fmod(low, 2.0) != 0.0))
        return low + 1.0;
    return low;
}

int oracle_code(float x, float inverse, int code_max, int random_byte)
{
    double v = oracle_fl(oracle_in(x) * oracle_in(inverse));
    if (isnan(v) || v > code_max)
        v = code_max;
    if (v < -code_max)
        v = -code_max;
    if (random_byte < 0)
        return (int)oracle_rne(v);
    return (int)floor((oracle_rne(256.0 * v) + random_byte) / 256.0);
}

static uint32_t mix(uint32_t x)
{
    x = (x ^ (x >> 16)) * 569420461u;
    x = (x ^ (x >> 15)) * 1935289751u;
    return x ^ (x >> 15);
}

uint32_t oracle_rounding_byte(uint64_t seed, uint32_t step, uint32_t tensor, uint64_t element)
{
    uint32_t key = mix((uint32_t)(seed % 0x100000000u) + 2654435769u);
    key = mix(key ^ (uint32_t)(seed / 0x100000000u));
    key = mix(key ^ step);
    key = mix(key ^ (tensor * 2246822507u));
    uint64_t group = element / 4;
    uint32_t x = (uint32_t)(group % 0x100000000u) * 2654435769u + key;
    uint32_t second = (key * 2654435769u) ^ (uint32_t)(group / 0x100000000u);
    x = ((x ^ (x >> 16)) * 569420461u) ^ second;
    x = (x ^ (x >> 15)) * 1935289751u;
    x = x ^ (x >> 15);
    for (uint64_t lane = element % 4; lane > 0; lane--)
        x /= 256;
    return x % 256;
}

float oracle_exp(float x)
{
    static const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
        4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    if (isnan(x))
        return x;
    if (x <= -87.0f)
        return 0.0f;
    float n = (float)oracle_rne(oracle_mul(x, 1.44269504f));
    float r = oracle_sub(x, oracle_mul(n, 0.693359375f));
    r = oracle_sub(r, oracle_mul(n, -2.12194440e-4f));
    float p = c[0];
    for (int i = 1; i < 6; i++)
        p = oracle_add(oracle_mul(p, r), c[i]);
    p = oracle_add(oracle_add(oracle_mul(p, oracle_mul(r, r)), r), 1.0f);
    return oracle_fl(p * ldexp(1.0, (int)n));
}

float oracle_log(float x)
{
    static const float c[] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f,
        -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
        3.3333331174e-1f};
    int e;
    if (!isfinite(x))
        return x;
    float m = frexpf(x, &e);
    if (m < 0.707106781f) {
        e--;
        m = 2.0f * m;
    }
    m = oracle_sub(m, 1.0f);
    float z = oracle_mul(m, m), p = c[0];
    for (int i = 1; i < 9; i++)
        p = oracle_add(oracle_mul(p, m), c[i]);
    float y = oracle_mul(oracle_mul(m, z), p);
    y = oracle_add(y, oracle_mul((float)e, -2.12194440e-4f));
    y = oracle_sub(y, oracle_mul(0.5f, z));
    y = oracle_add(m, y);
    return oracle_add(y, oracle_mul((float)e, 0.693359375f));
}

void oracle_quantise(const struct oct_quantise_args *a)
{
    for (int64_t i = 0; i < a->rows * a->channels; i++) {
        float x = raw_at(a->x, a->dtype, i);
        float inverse = a->range.inverse[a->range.count == 1 ? 0 : i % a->channels];
        int byte = -1;
        if (a->rounding == OCT_STOCHASTIC) {
            uint64_t sample = (uint64_t)a->rows_per_sample * (uint64_t)a->channels;
            byte = (int)oracle_rounding_byte(a->step->seed, a->step->step, a->tensor,
                a->step->first_sample * sample + (uint64_t)i);
        }
        int q = a->range.grid != OCT_GRID_UNIFORM
                    ? oracle_grid_code(a->range.grid, x, inverse, a->range.code_max)
                    : oracle_code(x, inverse, a->range.code_max, byte);
        if (a->q_lo) {
            int hi = (int)floor((q + 64) / 128.0);
            a->q[i] = (int8_t)hi;
            a->q_lo[i] = (int8_t)(q - 128 * hi);
        } else {
            a->q[i] = (int8_t)q;
        }
        if (!isfinite(x))
            *a->flag |= 1;
        float v = oracle_mul(x, inverse);
        if (a->saturated && fabsf(v) > (float)a->range.code_max)
            ++*a->saturated;
    }
}

/* The canonical sum of channel c: of x, or of its squares. */
static double canonical_sum(
    const void *x, enum oct_dtype dtype, int64_t rows, int channels, int c, int squares)
{
    double total = 0.0;
    for (int64_t chunk = 0; chunk < rows; chunk += 256) {
        float sum = 0.0f;
        for (int64_t row = chunk; row < rows && row < chunk + 256; row++) {
            float v = raw_at(x, dtype, row * channels + c);
            sum = oracle_add(sum, squares ? oracle_mul(v, v) : v);
        }
        total += (double)sum;
    }
    return total;
}

void oracle_regrid(const struct oct_regrid_args *a)
{
    const float inverse = a->range.inverse[0];
    for (int64_t i = 0; i < a->count; i++) {
        float x = raw_at(a->x, a->dtype, i);
        if (!isfinite(x))
            *a->flag |= 1;
        if (a->saturated && a->range.grid != OCT_GRID_OPEN)
            *a->saturated += fabs(oracle_fl(oracle_in(x) * oracle_in(inverse))) > a->range.code_max;
        oracle_put(a->x, a->dtype, i, oracle_real_on(&a->range, x));
    }
}

void oracle_compensate(const struct oct_compensate_args *a)
{
    for (int64_t i = 0; i < a->samples * a->count; i++) {
        const int64_t place = i % a->count;
        const float term = oracle_add(oracle_mul(a->alpha[place], a->mu[place]), a->offset[place]);
        oracle_put(a->y, a->y_dtype, i, oracle_add(a->x[i], term));
    }
}

void oracle_compensate_bwd(const struct oct_compensate_bwd_args *a)
{
    for (int64_t i = 0; i < a->count; i++) {
        int64_t sum = 0;
        for (int64_t at = i; at < a->samples * a->count; at += a->count)
            sum += a->dy_lo ? 128 * (int64_t)a->dy[at] + a->dy_lo[at] : a->dy[at];
        const float d = oracle_mul((float)sum, a->scale[0]);
        const float wanted[] = {oracle_mul(a->mu[i], d), oracle_mul(a->alpha[i], d), d};
        float *const to[] = {&a->dalpha[i], &a->dmu[i], &a->doffset[i]};
        for (int k = 0; k < 3; k++)
            *to[k] = a->mode == OCT_ACCUMULATE ? oracle_add(*to[k], wanted[k]) : wanted[k];
    }
}

void oracle_channel_stats(const struct oct_channel_stats_args *a)
{
    for (int c = 0; c < a->channels; c++) {
        double amax = 0.0, low = FLT_MAX, high = -FLT_MAX;
        uint32_t nan = 0; /* the largest magnitude among NaNs */
        for (int64_t row = 0; row < a->rows; row++) {
            float x = raw_at(a->x, a->dtype, row * a->channels + c);
            double v = oracle_in(x);
            if (!isfinite(x))
                *a->flag |= 1;
            if (isnan(x)) {
                nan = (bits_of(x) & 0x7fffffff) > nan ? bits_of(x) & 0x7fffffff : nan;
                continue;
            }
            amax = fmax(amax, fabs(v));
            low = fmin(low, v);
            high = fmax(high, v);
        }
        if (a->amax)
            a->amax[c] = nan ? float_of(nan) : (float)amax;
        if (a->min)
            a->min[c] = (float)low == 0.0f ? 0.0f : (float)low;
        if (a->max)
            a->max[c] = (float)high == 0.0f ? 0.0f : (float)high;
        if (a->sum)
            a->sum[c] = canonical_sum(a->x, a->dtype, a->rows, a->channels, c, 0);
        if (a->sumsq)
            a->sumsq[c] = canonical_sum(a->x, a->dtype, a->rows, a->channels, c, 1);
    }
}

void oracle_channel_sum(const struct oct_channel_sum_args *a)
{
    for (int c = 0; c < a->channels; c++) {
        float f = (float)canonical_sum(a->x, OCT_F32, a->rows, a->channels, c, 0);
        a->sum[c] = a->mode == OCT_ACCUMULATE ? oracle_add(a->sum[c], f) : f;
    }
}

void oracle_count_above(const struct oct_count_above_args *a)
{
    if (a->total)
        *a->total = 0;
    for (int c = 0; c < a->channels; c++) {
        if (a->count)
            a->count[c] = 0;
        for (int64_t row = 0; row < a->rows; row++) {
            double v = fabs(oracle_at(a->x, a->dtype, row * a->channels + c));
            if (a->count && v > oracle_in(a->threshold[c]))
                a->count[c]++;
            if (a->total && v > oracle_in(a->threshold_all[0]))
                ++*a->total;
        }
    }
}

/* The rules that remember: EMA, TAIL. */
static void remembered_clip(const struct oct_range_update_args *a, int i, float amax)
{
    float kept = oracle_mul(oracle_sub(1.0f, oracle_mul(a->k, a->a)), a->range.clip[i]);
    float ema = oracle_add(kept, oracle_mul(a->a, amax));
    if (a->rule == OCT_CLIP_EMA) {
        a->range.clip[i] = a->visited[i] ? ema : amax;
    } else if ((double)a->above[i] > (double)a->lambda * a->population) {
        a->range.clip[i] = amax;
        a->label[i] = OCT_LABEL_BELL;
    } else {
        int going_on = a->visited[i] && a->label[i] == OCT_LABEL_TAIL;
        a->range.clip[i] = going_on ? ema : amax;
        a->label[i] = OCT_LABEL_TAIL;
    }
    a->visited[i] = 1;
}

void oracle_range_update(const struct oct_range_update_args *a)
{
    for (int i = 0; i < a->range.count; i++) {
        float amax = a->amax ? a->amax[i] : 0.0f;
        for (int j = 0; a->range.count == 1 && j < a->amax_count; j++)
            if (isnan(a->amax[j]) || a->amax[j] > amax)
                amax = a->amax[j];
        if (a->plus)
            amax = oracle_add(amax, *a->plus);
        if (a->floor > amax) /* never below; NaN stays */
            amax = a->floor;
        bool usable = oracle_next_clip(a, amax, &a->range.clip[i]);
        if (usable && (a->rule == OCT_CLIP_EMA || a->rule == OCT_CLIP_TAIL))
            remembered_clip(a, i, amax);
        oracle_range_steps(&a->range, i, usable);
    }
}

static int out_extent(int in, int filter, int stride, int pad, int dilation)
{
    int count = 0;
    while (count * stride + dilation * (filter - 1) < in + 2 * pad)
        count++;
    return count;
}

void oracle_pool(const struct oct_pool_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    int p_count = out_extent(v->h, v->r, v->stride_h, v->pad_h, v->dilation_h);
    int q_count = out_extent(v->w, v->s, v->stride_w, v->pad_w, v->dilation_w);
    for (int n = 0; n < v->n; n++)
        for (int p = 0; p < p_count; p++)
            for (int q = 0; q < q_count; q++)
                for (int c = 0; c < v->c; c++) {
                    int64_t out = (((int64_t)n * p_count + p) * q_count + q) * v->c + c;
                    int64_t best = -1, codes = 0;
                    int best_tap = 0;
                    float sum = 0.0f;
                    for (int tap = 0; tap < v->r * v->s; tap++) {
                        int h = p * v->stride_h - v->pad_h + tap / v->s * v->dilation_h;
                        int w = q * v->stride_w - v->pad_w + tap % v->s * v->dilation_w;
                        if (h < 0 || h >= v->h || w < 0 || w >= v->w)
                            continue;
                        int64_t i = (((int64_t)n * v->h + h) * v->w + w) * v->c + c;
                        if (best < 0 ||
                            oracle_at(a->x, a->x_dtype, i) > oracle_at(a->x, a->x_dtype, best)) {
                            best = i;
                            best_tap = tap;
                        }
                        if (a->x_dtype == OCT_S8)
                            codes += ((const int8_t *)a->x)[i];
                        else
                            sum = oracle_add(sum, raw_at(a->x, a->x_dtype, i));
                    }
                    size_t size = oct_dtype_bytes(a->y_dtype);
                    if (!a->average) {
                        memcpy((char *)a->y + (size_t)out * size,
                            (const char *)a->x + (size_t)best * size, size);
                        if (a->winner)
                            a->winner[out] = (uint8_t)best_tap;
                        continue;
                    }
                    if (a->y_dtype == OCT_S32) {
                        ((int32_t *)a->y)[out] = (int32_t)codes;
                        continue;
                    }
                    float scale = a->x_dtype == OCT_S8 ? a->x_scale[0] : 1.0f;
                    float total = a->x_dtype == OCT_S8 ? (float)codes : sum;
                    oracle_put(a->y, a->y_dtype, out,
                        oracle_mul(total, oracle_over(scale, (float)(v->r * v->s))));
                }
}

/* Which tap of output `o` reads input `at`; -1: none. */
static int tap_reading(int at, int o, int filter, int stride, int pad, int dilation)
{
    for (int tap = 0; tap < filter; tap++)
        if (o * stride - pad + tap * dilation == at)
            return tap;
    return -1;
}

void oracle_pool_bwd(const struct oct_pool_bwd_args *a)
{
    const struct oct_conv_shape *v = &a->shape;
    int p_count = out_extent(v->h, v->r, v->stride_h, v->pad_h, v->dilation_h);
    int q_count = out_extent(v->w, v->s, v->stride_w, v->pad_w, v->dilation_w);
    for (int64_t i = 0; i < (int64_t)v->n * v->h * v->w * v->c; i++) {
        int c = (int)(i % v->c), w = (int)(i / v->c % v->w), h = (int)(i / v->c / v->w % v->h);
        int64_t n = i / v->c / v->w / v->h;
        float sum = 0.0f;
        for (int p = 0; p < p_count; p++)
            for (int q = 0; q < q_count; q++) {
                int r = tap_reading(h, p, v->r, v->stride_h, v->pad_h, v->dilation_h);
                int s = tap_reading(w, q, v->s, v->stride_w, v->pad_w, v->dilation_w);
                int64_t o = ((n * p_count + p) * q_count + q) * v->c + c;
                if (r >= 0 && s >= 0 && (a->average || a->winner[o] == r * v->s + s))
                    sum = oracle_add(sum, raw_at(a->dy, a->dy_dtype, o));
            }
        float f = a->average ? oracle_mul(sum, oracle_over(1.0f, (float)(v->r * v->s))) : sum;
        if (a->mode == OCT_ACCUMULATE)
            f = oracle_add(raw_at(a->dx, a->dx_dtype, i), f);
        oracle_put(a->dx, a->dx_dtype, i, f);
    }
}

void oracle_image(const struct oct_image_args *a)
{
    for (int64_t row = 0; row < a->rows; row++)
        for (int c = 0; c < a->channels_out; c++) {
            float v = 0.0f;
            if (c < a->channels)
                v = oracle_add(oracle_mul(a->image[row * a->channels + c], a->a[c]), a->b[c]);
            oracle_put(a->x, a->x_dtype, row * a->channels_out + c, v);
        }
}

void oracle_loss(const struct oct_loss_args *a)
{
    for (int n = 0; n < a->n; n++) {
        const float *x = a->logits + (int64_t)n * a->k;
        int label = a->labels[n], rivals = 0;
        float max = x[0];
        double sum_e = 0.0, sum_d = 0.0;
        for (int j = 1; j < a->k; j++)
            if (x[j] > max)
                max = x[j];
        for (int j = 0; j < a->k; j++) {
            sum_e += (double)oracle_exp(oracle_sub(x[j], max));
            sum_d += (double)oracle_sub(x[j], max);
            rivals += j != label && !(x[j] < x[label]);
        }
        float sum = (float)sum_e, log_sum = oracle_log(sum);
        float loss = oracle_sub(log_sum, oracle_sub(x[label], max));
        if (a->smoothing > 0.0f) {
            float even = oracle_sub(log_sum, (float)(sum_d / a->k));
            loss = oracle_add(
                oracle_mul(oracle_sub(1.0f, a->smoothing), loss), oracle_mul(a->smoothing, even));
        }
        a->loss[n] = loss;
        a->top1[n] = rivals < 1;
        a->top5[n] = rivals < (a->k < 5 ? a->k : 5);
        if (a->flag && !isfinite(loss))
            *a->flag |= 1;
        for (int j = 0; a->dlogits && j < a->k; j++) {
            float off = oracle_over(a->smoothing, (float)a->k);
            float target = j == label ? oracle_add(oracle_sub(1.0f, a->smoothing), off) : off;
            float p = oracle_over(oracle_exp(oracle_sub(x[j], max)), sum);
            a->dlogits[(int64_t)n * a->k + j] = oracle_mul(oracle_sub(p, target), a->grad_scale);
        }
    }
}

/* Units of 2^-32, from 16 on cut. */
static int64_t fixed(float x)
{
    return (int64_t)ldexp(fabsf(x) < 16.0f ? fabs(oracle_in(x)) : 16.0, 32);
}

void oracle_sgd(const struct oct_sgd_args *a)
{
    double amax = 0.0;
    float lr = a->step->lr;
    if (a->step->flag)
        return;
    if (a->lr_factor && *a->lr_factor > 0.0f)
        lr = oracle_mul(lr, *a->lr_factor);
    for (int64_t i = 0; i < a->count; i++) {
        float p = 0.0f;
        if (a->barrier.lam > 0.0f) {
            p = oracle_barrier_gradient(
                a->w[i], a->barrier.tau, a->step->temperature, a->barrier.lam);
            a->barrier.sums[0] += fixed(p);
            a->barrier.sums[1] += fixed(oracle_add(a->dw[i], p));
        }
        float g = oracle_add(a->dw[i], oracle_mul(a->weight_decay, a->w[i]));
        float m = oracle_add(oracle_mul(a->mu, a->momentum[i]), g);
        float d = a->nesterov ? oracle_add(g, oracle_mul(a->mu, m)) : m;
        a->momentum[i] = m;
        a->w[i] = oracle_sub(a->w[i], oracle_mul(lr, d));
        if (a->barrier.lam > 0.0f)
            a->w[i] = oracle_sub(a->w[i], oracle_mul(lr, p));
        amax = fmax(amax, fabs((double)a->w[i]));
    }
    if (a->amax)
        *a->amax = (float)amax;
}

void oracle_barrier_bwd(const struct oct_barrier_bwd_args *a)
{
    for (int64_t i = 0; i < a->count; i++) {
        const float x = a->x_dtype == OCT_S8
                            ? oracle_mul((float)((const int8_t *)a->x)[i], *a->x_scale)
                            : raw_at(a->x, a->x_dtype, i);
        const float p =
            oracle_barrier_gradient(x, a->barrier.tau, a->step->temperature, a->barrier.lam);
        const float sum = oracle_add(raw_at(a->da, a->da_dtype, i), p);
        if (a->barrier.sums) {
            a->barrier.sums[0] += fixed(p);
            a->barrier.sums[1] += fixed(sum);
        }
        oracle_put(a->da, a->da_dtype, i, sum);
    }
}

void oracle_ema(const struct oct_ema_args *a)
{
    if (*a->flag)
        return;
    for (int64_t i = 0; i < a->count; i++)
        a->average[i] = oracle_add(a->average[i],
            oracle_mul(oracle_sub(1.0f, a->decay), oracle_sub(a->value[i], a->average[i])));
}
