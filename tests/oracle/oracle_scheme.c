#include "oracle/oracle_scheme.h"

#include "oracle/oracle_ops.h"

#include <math.h>
#include <stdlib.h>

float oracle_add(float x, float y)
{
    return oracle_fl(oracle_in(x) + oracle_in(y));
}

float oracle_sub(float x, float y)
{
    return oracle_fl(oracle_in(x) - oracle_in(y));
}

float oracle_mul(float x, float y)
{
    return oracle_fl(oracle_in(x) * oracle_in(y));
}

float oracle_over(float x, float y)
{
    return oracle_fl(oracle_in(x) / oracle_in(y));
}

int oracle_mu8_storage(float v, int code_max)
{
    float per_code = code_max == 127 ? 2.00787402f : 1.56865157e-2f; /* 255 / code_max */
    float log = oracle_log(oracle_add(1.0f, oracle_mul(v, per_code)));
    return (int)oracle_rne(oracle_mul(log, 22.9027838f)); /* 127 / ln 256 */
}

int oracle_mu8_linear(int c, int code_max)
{
    float per_unit = code_max == 127 ? 4.98039216e-1f : 63.7490196f; /* code_max / 255 */
    float below = oracle_mul((float)(c - 127), 4.36628145e-2f);      /* ln 256 / 127 */
    float power = oracle_mul(256.0f, oracle_exp(below));
    return (int)oracle_rne(oracle_mul(oracle_sub(power, 1.0f), per_unit));
}

int oracle_grid_code(enum oct_grid grid, float x, float inverse, int code_max)
{
    float v = oracle_mul(x, inverse), limit = (float)code_max;
    if (isnan(v) || v > limit)
        v = limit;
    if (v < -limit)
        v = -limit;
    if (grid == OCT_GRID_UNIFORM)
        return (int)oracle_rne(v);
    if (grid == OCT_GRID_FLAG && fabsf(v) >= 128.0f)
        return 128 * (int)oracle_rne((double)v / 128.0);
    if (grid == OCT_GRID_FLAG)
        return (int)oracle_rne(v);
    int linear = oracle_mu8_linear(oracle_mu8_storage(fabsf(v), code_max), code_max);
    return v < 0.0f ? -linear : linear;
}

float oracle_real_on(const struct oct_range *range, float x)
{
    const float v = oracle_mul(x, range->inverse[0]), limit = (float)range->code_max;
    if (range->grid == OCT_GRID_OPEN)
        return oracle_mul((float)oracle_rne(v), range->scale[0]) + 0.0f;
    if (range->grid != OCT_GRID_MU8_NUMBER) {
        int code = oracle_grid_code(range->grid, x, range->inverse[0], range->code_max);
        return oracle_mul((float)code, range->scale[0]);
    }
    float bounded = isnan(v) || fabsf(v) > limit ? limit : fabsf(v);
    int c = oracle_mu8_storage(bounded, range->code_max);
    float number = (float)((powl(256.0L, c / 127.0L) - 1.0L) / 255.0L);
    return c == 0 ? 0.0f : copysignf(oracle_mul(range->clip[0], number), isnan(v) ? 1.0f : v);
}

/* By the definition, in exact arithmetic: with clip = m 2^e, 1/2 <= m < 1, the logarithm is nearer
 * to e than to e - 1 exactly if m^2 > 1/2, and no power of two but 2^(e-1) lies at m = 1/2. */
static double power_beside(float clip, enum oct_pow2 pow2)
{
    int e;
    double m = frexp(clip, &e);
    bool up = pow2 == OCT_POW2_UP ? m > 0.5 : m * m > 0.5;
    e = up ? e : e - 1;
    return ldexp(1.0, e < 127 ? e : 127);
}

void oracle_range_steps(const struct oct_range *range, int i, bool usable)
{
    float clip = range->clip[i], top = (float)range->code_max, inverse;
    if (range->pow2 != OCT_POW2_NONE && oracle_in(clip) > 0.0) {
        double p = power_beside(clip, range->pow2), span = range->code_max == 127 ? 128 : 16384;
        range->scale[i] = oracle_fl(p / span);
        inverse = oracle_fl(span / p);
    } else {
        range->scale[i] = oracle_over(clip, top);
        inverse = oracle_over(top, clip);
    }
    range->inverse[i] = usable && oracle_in(clip) > 0.0 && isfinite(inverse) ? inverse : 0.0f;
}

bool oracle_next_clip(const struct oct_range_update_args *a, float amax, float *clip)
{
    if (a->rule == OCT_CLIP_FIXED) {
        *clip = a->a;
        return true;
    }
    if (!isfinite(amax) || !(oracle_in(amax) > 0.0))
        return false;
    if (a->rule == OCT_CLIP_AMAX)
        *clip = amax;
    if (a->rule == OCT_CLIP_SHARE)
        *clip = oracle_mul(a->share && *a->share > 0.0f ? *a->share : a->a, amax);
    return true;
}

float oracle_barrier_gradient(float w, float tau, float t, float lam)
{
    float z = oracle_sub(fabsf(w), tau), slope = t;
    if (oracle_in(w) == 0.0)
        return 0.0f;
    if (z <= oracle_over(-1.0f, oracle_mul(t, t)))
        slope = oracle_over(-1.0f, oracle_mul(t, z));
    float size = oracle_mul(lam, slope);
    return w > 0.0f ? size : -size;
}

void oracle_cosine_search(const struct oct_cosine_search_args *a)
{
    float amax = a->amax[0];
    double best = 1.0;
    int chosen = -1;
    for (int i = 1; i < a->amax_count; i++)
        amax = isnan(a->amax[i]) || a->amax[i] > amax ? a->amax[i] : amax;
    for (int j = 0; j < a->candidates && isfinite(amax) && oracle_in(amax) > 0.0; j++) {
        long double g2 = 0, gq = 0, q2 = 0; /* 64 bits: exact integers */
        float fine = oracle_over(16256.0f, amax);
        float inverse = oracle_over((float)a->code_max, oracle_mul(a->factor[j], amax));
        for (int64_t i = 0; i < a->rows * a->channels; i++) {
            float x = (float)oracle_at(a->x, a->dtype, i);
            int g = oracle_grid_code(OCT_GRID_UNIFORM, x, isfinite(fine) ? fine : 0.0f, 16256);
            int q = oracle_grid_code(
                OCT_GRID_UNIFORM, x, isfinite(inverse) ? inverse : 0.0f, a->code_max);
            g2 += (long double)g * g;
            gq += (long double)g * q;
            q2 += (long double)q * q;
        }
        double d = g2 * q2 > 0 ? 1.0 - (double)gq / (sqrt((double)g2) * sqrt((double)q2)) : 1.0;
        d = d < 0.0 ? 0.0 : d;
        if (d < best) {
            best = d;
            chosen = j;
        }
    }
    if (chosen < 0)
        return;
    *a->share = a->factor[chosen];
    *a->distance = (float)best;
    if (!a->lr_factor)
        return;
    float exponent = oracle_mul(-a->alpha, *a->distance);
    float factor = oracle_exp(exponent < 0.0f ? exponent : 0.0f);
    *a->lr_factor = factor > a->beta ? factor : a->beta;
}
