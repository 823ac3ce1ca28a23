#include "oracle/oracle_norm.h"

#include "oracle/oracle_fixed.h"
#include "oracle/oracle_scheme.h"

#include <math.h>
#include <string.h>

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

static int finite_bits(float x)
{
    return (bits_of(x) >> 23 & 0xff) != 0xff;
}

/* Ties to even, on the upper 16 bits. */
static uint16_t to_bf16(float x)
{
    uint32_t u = bits_of(x), upper = u >> 16, rest = u & 0xffff;
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(upper | 0x40);
    if (rest > 0x8000 || (rest == 0x8000 && (upper & 1)))
        upper++;
    return (uint16_t)upper;
}

static float get(enum oct_dtype dtype, const void *x, int64_t i)
{
    if (dtype == OCT_F32)
        return ((const float *)x)[i];
    if (dtype == OCT_BF16)
        return float_of((uint32_t)((const uint16_t *)x)[i] << 16);
    return (float)((const int8_t *)x)[i];
}

static void put(enum oct_dtype dtype, void *x, int64_t i, float value)
{
    if (dtype == OCT_F32)
        ((float *)x)[i] = value;
    else
        ((uint16_t *)x)[i] = to_bf16(value);
}

static float affine(float y, float a, float b)
{
    float product = a * y;
    float sum = product + b;
    return sum;
}

static int64_t round_even(double x)
{
    double down = floor(x), rest = x - down;
    int64_t q = (int64_t)down;
    return rest > 0.5 || (rest == 0.5 && (q & 1)) ? q + 1 : q;
}

/* Code of x; random < 0: nearest. A NaN has the largest code. Counts |x inverse| > code_max. */
static int code_of(
    float x, float inverse, const struct oct_range *range, int random, int64_t *saturated)
{
    int code_max = range->code_max;
    float v = x * inverse;
    if (fabsf(v) > (float)code_max)
        *saturated += 1;
    if (range->grid != OCT_GRID_UNIFORM)
        return oracle_grid_code(range->grid, x, inverse, code_max);
    if (isnan(v) || v > (float)code_max)
        v = (float)code_max;
    if (v < (float)-code_max)
        v = (float)-code_max;
    if (random < 0)
        return (int)round_even((double)v);
    return (int)floor((double)(round_even(256.0 * (double)v) + random) / 256.0);
}

static void put_code(int8_t *q, int8_t *lo, int64_t i, int code)
{
    if (!lo) {
        q[i] = (int8_t)code;
        return;
    }
    int high = (int)floor((code + 64) / 128.0);
    q[i] = (int8_t)high;
    lo[i] = (int8_t)(code - 128 * high);
}

/* mean, biased variance of channel c, from the definition. */
static void moments(const struct oct_bn_finalize_args *g, int c, double *mean, double *var)
{
    double n = (double)g->count;
    if (!g->training) {
        *mean = g->running_mean[c];
        *var = g->running_var[c];
        return;
    }
    if (g->acc) {
        float m = g->x_scale[0] * (g->w_scale_per_k ? g->w_scale[c] : g->w_scale[0]);
        double average = (double)g->acc->sum[c] / n;
        double square = (double)g->acc->sumsq[c] * pow(4.0, g->acc->shift) / n;
        double spread = square - average * average;
        *mean = average * (double)m;
        *var = (spread < 0.0 ? 0.0 : spread) * (double)m * (double)m;
    } else {
        double average = g->sum[c] / n, spread = g->sumsq[c] / n - average * average;
        *mean = average;
        *var = spread < 0.0 ? 0.0 : spread;
    }
}

/* Tries every value of y from the least to the largest: acc by acc, or the two ends. */
static void extremes(const struct oct_bn_finalize_args *g, int c)
{
    float xhat_max = 0.0f, z_amax = 0.0f;
    int64_t low = g->acc ? g->acc->min[c] : 0, high = g->acc ? g->acc->max[c] : 1;
    for (int64_t acc = low; acc <= high; acc++) {
        float y;
        if (g->acc) {
            float m = g->x_scale[0] * (g->w_scale_per_k ? g->w_scale[c] : g->w_scale[0]);
            y = (float)acc * m;
            if (g->y_dtype == OCT_BF16)
                y = float_of((uint32_t)to_bf16(y) << 16);
        } else {
            y = acc == 0 ? g->y_min[c] : g->y_max[c];
        }
        float xhat = affine(y, g->ix[c], g->jx[c]), z = affine(y, g->a[c], g->b[c]);
        if (g->rounding.xhat > 0.0f)
            z = affine(oracle_on_grid(xhat, g->rounding.xhat), g->gamma_q[c], g->beta_q[c]);
        xhat = fabsf(xhat);
        if (g->relu && !(z > 0.0f))
            z = 0.0f;
        xhat_max = xhat > xhat_max ? xhat : xhat_max;
        z_amax = fabsf(z) > z_amax ? fabsf(z) : z_amax;
    }
    if (g->xhat_max)
        g->xhat_max[c] = xhat_max;
    if (g->z_amax && !g->clip_lo)
        g->z_amax[c] = z_amax;
}

/* beta -+ sigmas |gamma|, with relu not below 0; z_amax is the larger magnitude of the two. */
static void clip_ends(const struct oct_bn_finalize_args *g, int c)
{
    float width = g->sigmas * fabsf(g->gamma[c]);
    float lo = g->beta[c] - width, hi = g->beta[c] + width;
    if (g->relu) {
        lo = lo < 0.0f ? 0.0f : lo;
        hi = hi < 0.0f ? 0.0f : hi;
    }
    g->clip_lo[c] = lo;
    g->clip_hi[c] = hi;
    if (g->z_amax)
        g->z_amax[c] = fmaxf(fabsf(lo), fabsf(hi));
}

static void running(const struct oct_bn_finalize_args *g)
{
    double n = (double)g->count, unbias = g->count > 1 ? n / (n - 1.0) : 1.0;
    for (int c = 0; c < g->channels; c++) {
        double mean, var;
        moments(g, c, &mean, &var);
        if (!finite_bits((float)mean) || !finite_bits((float)(var * unbias)))
            *g->flag = 1;
    }
    for (int c = 0; c < g->channels && !*g->flag; c++) {
        double mean, var;
        moments(g, c, &mean, &var);
        float keep = 1.0f - g->momentum;
        float old_mean = g->running_mean[c] * keep, new_mean = g->momentum * (float)mean;
        float old_var = g->running_var[c] * keep, new_var = g->momentum * (float)(var * unbias);
        g->running_mean[c] = old_mean + new_mean;
        g->running_var[c] = old_var + new_var;
    }
}

void oracle_bn_finalize(const struct oct_bn_finalize_args *g)
{
    for (int c = 0; c < g->channels; c++) {
        double mean, var;
        moments(g, c, &mean, &var);
        double invstd = 1.0 / sqrt(var + (double)g->eps);
        float gamma = g->gamma[c], beta = g->beta[c];
        if (g->rounding.xhat > 0.0f) {
            const struct oct_bn_rounding *steps = &g->rounding;
            gamma = g->gamma_q[c] = oracle_on_grid(gamma, steps->affine);
            beta = g->beta_q[c] = oracle_on_grid(beta, steps->affine);
            mean = oracle_on_grid((float)mean, steps->mean);
            float sd = oracle_on_grid((float)sqrt(var), steps->sd) + 1.0f / steps->sd;
            invstd = 1.0 / (double)sd;
        }
        double slope = (double)gamma * invstd;
        g->a[c] = (float)slope;
        g->b[c] = (float)((double)beta - mean * slope);
        g->ix[c] = (float)invstd;
        g->jx[c] = (float)(-mean * invstd);
        if (g->clip_lo)
            clip_ends(g, c);
        if (g->xhat_max || (g->z_amax && !g->clip_lo))
            extremes(g, c);
    }
    if (g->training)
        running(g);
}

/* Tries every accumulator from the least to the largest, as `extremes` does. */
static float largest_affine(const struct oct_affine_finalize_args *g, int c)
{
    float m = g->x_scale[0] * (g->w_scale_per_k ? g->w_scale[c] : g->w_scale[0]), largest = 0.0f;
    for (int64_t acc = g->acc->min[c]; acc <= g->acc->max[c]; acc++) {
        float y = (float)acc * m;
        if (g->y_dtype == OCT_BF16)
            y = float_of((uint32_t)to_bf16(y) << 16);
        float z = affine(y, g->a[c], g->b[c]);
        if (g->relu && !(z > 0.0f))
            z = 0.0f;
        largest = fabsf(z) > largest ? fabsf(z) : largest;
    }
    return largest;
}

void oracle_affine_finalize(const struct oct_affine_finalize_args *g)
{
    for (int c = 0; c < g->channels; c++) {
        g->a[c] = 1.0f;
        g->b[c] = 0.0f;
        if (g->scale)
            g->a[c] = *g->scale;
        if (g->bias)
            g->b[c] = g->bias_count == g->channels ? g->bias[c] : *g->bias;
        g->ix[c] = 1.0f;
        g->jx[c] = 0.0f;
        if (g->z_amax)
            g->z_amax[c] = largest_affine(g, c);
    }
}

static void add_or_set(float *to, double value, enum oct_write mode)
{
    float rounded = (float)value;
    *to = mode == OCT_ACCUMULATE ? *to + rounded : rounded;
}

void oracle_affine_bwd_finalize(const struct oct_affine_bwd_finalize_args *g)
{
    double bias = 0.0, scale = 0.0, squares = 0.0, n = (double)g->count;
    for (int c = 0; c < g->channels; c++) {
        double a = (double)g->a[c], square = a * a * (g->sum_dz2[c] / n);
        g->m1[c] = 0.0f;
        g->m2[c] = 0.0f;
        bias += g->sum_dz[c];
        scale += g->sum_dz_y[c];
        squares += square;
        if (g->dbias && g->bias_count == g->channels && g->channels > 1)
            add_or_set(g->dbias + c, g->sum_dz[c], g->mode);
        if (g->bound) {
            float low = fabsf(g->a[c] * g->dz_min[c]), high = fabsf(g->a[c] * g->dz_max[c]);
            g->bound[c] = high > low ? high : low;
        }
        if (g->sigma)
            g->sigma[c] = (float)sqrt(square);
    }
    if (g->dbias && g->bias_count == 1)
        add_or_set(g->dbias, bias, g->mode);
    if (g->dscale)
        add_or_set(g->dscale, scale, g->mode);
    if (g->sigma_all)
        g->sigma_all[0] = (float)sqrt(squares / (double)g->channels);
}

void oracle_act_fwd(const struct oct_act_fwd_args *g)
{
    float amax = 0.0f;
    int64_t saturated = 0;
    for (int64_t i = 0; i < g->rows * g->channels; i++) {
        int c = (int)(i % g->channels);
        float z = get(g->y_dtype, g->y, i);
        bool inside = false;
        if (g->y_above)
            g->y_above[0] += fabsf(z) > g->y_limit;
        if (g->xhat_steps > 0.0f)
            z = oracle_on_grid(affine(z, g->ix[c], g->jx[c]), g->xhat_steps);
        if (g->a)
            z = affine(z, g->a[c], g->b[c]);
        if (g->clip_lo) {
            float u = z, lo = g->clip_lo[c], hi = g->clip_hi[c];
            if (!finite_bits(u))
                *g->flag = 1;
            inside = u > lo && u < hi;
            if (g->clipped && (u > hi || (u < lo && lo != 0.0f)))
                g->clipped[0]++;
            z = u > lo ? u : lo; /* NaN: lo */
            z = z > hi ? hi : z;
        }
        if (g->residual) {
            float r = get(g->residual_dtype, g->residual, i);
            if (g->residual_dtype == OCT_S8)
                r = r * g->residual_scale[0];
            z = z + r;
        }
        if (!finite_bits(z))
            *g->flag = 1;
        if (g->relu && !(z > 0.0f))
            z = 0.0f;
        if (g->trunk)
            put(g->trunk_dtype, g->trunk, i, z);
        if (g->mask) {
            if (i % 8 == 0)
                g->mask[i / 8] = 0;
            g->mask[i / 8] |= (uint8_t)((z > 0.0f ? 1 : 0) << (i % 8));
        }
        if (g->inside) {
            inside = inside && (!g->relu || z > 0.0f);
            if (i % 8 == 0)
                g->inside[i / 8] = 0;
            g->inside[i / 8] |= (uint8_t)((inside ? 1 : 0) << (i % 8));
        }
        if (fabsf(z) > amax)
            amax = fabsf(z);
        if (g->x && g->x_dtype == OCT_S8)
            put_code(g->x, NULL, i, code_of(z, g->x_range.inverse[0], &g->x_range, -1, &saturated));
        else if (g->x)
            put(g->x_dtype, g->x, i, z);
    }
    if (g->amax)
        g->amax[0] = amax;
    if (g->saturated)
        g->saturated[0] += saturated;
}

/* da where the mask is set; without one, where z > 0. */
static float gated(float da, float y, float a, float b, int relu, const uint8_t *mask, int64_t i)
{
    int open = 1;
    if (mask)
        open = mask[i / 8] >> (i % 8) & 1;
    else if (relu)
        open = affine(y, a, b) > 0.0f;
    return open ? da : 0.0f;
}

void oracle_bn_bwd_reduce(const struct oct_bn_bwd_reduce_args *g)
{
    for (int c = 0; c < g->channels; c++) {
        double total[3] = {0.0, 0.0, 0.0};
        float low = INFINITY, high = -INFINITY;
        for (int64_t start = 0; start < g->rows; start += 256) {
            float chunk[3] = {0.0f, 0.0f, 0.0f};
            for (int64_t p = start; p < start + 256 && p < g->rows; p++) {
                int64_t i = p * g->channels + c;
                float y = get(g->y_dtype, g->y, i), a = g->relu ? g->a[c] : 0.0f;
                float b = g->relu ? g->b[c] : 0.0f;
                float dz = gated(get(g->da_dtype, g->da, i), y, a, b, g->relu, g->mask, i);
                float xhat = affine(y, g->ix[c], g->jx[c]);
                float product = dz * xhat, square = dz * dz;
                chunk[0] = chunk[0] + dz;
                chunk[1] = chunk[1] + product;
                chunk[2] = chunk[2] + square;
                low = dz < low ? dz : low;
                high = dz > high ? dz : high;
            }
            for (int s = 0; s < 3; s++)
                total[s] = total[s] + (double)chunk[s];
        }
        g->sum_dz[c] = total[0];
        g->sum_dz_xhat[c] = total[1];
        g->sum_dz2[c] = total[2];
        g->dz_min[c] = low == 0.0f ? 0.0f : low;
        g->dz_max[c] = high == 0.0f ? 0.0f : high;
    }
}

void oracle_bn_bwd_finalize(const struct oct_bn_bwd_finalize_args *g)
{
    double n = (double)g->count, all = 0.0;
    for (int c = 0; c < g->channels; c++) {
        double mean1 = g->sum_dz[c] / n, mean2 = g->sum_dz_xhat[c] / n;
        float dgamma = (float)g->sum_dz_xhat[c], dbeta = (float)g->sum_dz[c];
        g->m1[c] = (float)mean1;
        g->m2[c] = (float)mean2;
        g->dgamma[c] = g->mode == OCT_ACCUMULATE ? g->dgamma[c] + dgamma : dgamma;
        g->dbeta[c] = g->mode == OCT_ACCUMULATE ? g->dbeta[c] + dbeta : dbeta;
        if (g->bound) {
            float above = fabsf(g->dz_max[c] - g->m1[c]), below = fabsf(g->dz_min[c] - g->m1[c]);
            float t = above > below ? above : below;
            float u = fabsf(g->m2[c]) * g->xhat_max[c];
            float sum = t + u;
            g->bound[c] = fabsf(g->a[c]) * sum;
        }
        /* a^2 (E dz^2 - m1^2 - m2^2 (1 + eps ix^2)), never below 0 */
        double ix = (double)g->ix[c], extra = (double)g->eps * (ix * ix);
        double spread = g->sum_dz2[c] / n - mean1 * mean1 - mean2 * mean2 * (1.0 + extra);
        double var = (double)g->a[c] * (double)g->a[c] * (spread < 0.0 ? 0.0 : spread);
        if (g->sigma)
            g->sigma[c] = (float)sqrt(var);
        all += var;
    }
    if (g->sigma_all)
        g->sigma_all[0] = (float)sqrt(all / (double)g->channels);
}

static float dy_of(const struct oct_bn_bwd_apply_args *g, int64_t i, int c, float *dz)
{
    float y = get(g->y_dtype, g->y, i), a = g->a[c], b = g->b ? g->b[c] : 0.0f;
    *dz = gated(get(g->da_dtype, g->da, i), y, a, b, g->relu, g->mask, i);
    float xhat = affine(y, g->ix[c], g->jx[c]);
    float t = *dz - g->m1[c], u = xhat * g->m2[c];
    float difference = t - u;
    return a * difference;
}

void oracle_bn_bwd_apply(const struct oct_bn_bwd_apply_args *g, const uint8_t *random)
{
    int64_t saturated[2] = {0, 0}, above_all = 0;
    for (int c = 0; c < g->channels; c++) {
        if (g->amax)
            g->amax[c] = 0.0f;
        if (g->above)
            g->above[c] = 0;
    }
    for (int64_t i = 0; i < g->rows * g->channels; i++) {
        int c = (int)(i % g->channels), byte = g->rounding == OCT_STOCHASTIC ? random[i] : -1;
        float dz, dy = dy_of(g, i, c, &dz);
        if (!finite_bits(dy))
            *g->flag = 1;
        if (g->d_residual) {
            if (g->residual_mask)
                dz = gated(get(g->da_dtype, g->da, i), 0.0f, 0.0f, 0.0f, 1, g->residual_mask, i);
            float old = g->d_residual_mode == OCT_ACCUMULATE
                            ? get(g->d_residual_dtype, g->d_residual, i) + dz
                            : dz;
            put(g->d_residual_dtype, g->d_residual, i, old);
        }
        if (g->dy)
            put(g->dy_dtype, g->dy, i,
                g->dy_mode == OCT_ACCUMULATE ? get(g->dy_dtype, g->dy, i) + dy : dy);
        if (g->amax && fabsf(dy) > g->amax[c])
            g->amax[c] = fabsf(dy);
        if (g->above)
            g->above[c] += fabsf(dy) > g->sigma[c];
        if (g->above_all)
            above_all += fabsf(dy) > g->sigma_all[0];
        if (g->q_channel)
            put_code(g->q_channel, g->q_channel_lo, i,
                code_of(dy, g->range_channel.inverse[g->range_channel.count == 1 ? 0 : c],
                    &g->range_channel, byte, &saturated[0]));
        if (g->q_tensor)
            put_code(g->q_tensor, g->q_tensor_lo, i,
                code_of(dy, g->range_tensor.inverse[0], &g->range_tensor, byte, &saturated[1]));
    }
    if (g->above_all)
        g->above_all[0] = above_all;
    for (int k = 0; k < 2 && g->saturated; k++)
        g->saturated[k] += saturated[k];
}

/* Products of two floats are exact in double, and the double sum of two rounds to the same float as
 * the exact one does (53 >= 2 24 + 2 bits), so that every cast is the one rounding. */
int oracle_merged_code(int64_t acc, const struct oracle_merged *channel)
{
    const float slope = (float)((double)channel->multiplier * channel->a);
    const float scale = (float)((double)slope * channel->inverse);
    const float offset = (float)((double)channel->b * channel->inverse);
    const double lo = (float)((double)channel->lo * channel->inverse);
    const double hi = (float)((double)channel->hi * channel->inverse);
    const float product = (float)((double)(float)acc * scale);
    double v = (float)((double)product + offset);

    v = v != v ? 127.0 : v; /* NaN has the code of the upper bound */
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    v = v > 127.0 ? 127.0 : v;
    v = v < -127.0 ? -127.0 : v;
    const double below = floor(v);
    if (v - below == 0.5)
        return (int)(fmod(below, 2.0) == 0.0 ? below : below + 1.0);
    return (int)(v - below < 0.5 ? below : below + 1.0);
}
