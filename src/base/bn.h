/* The per-channel arithmetic of batch normalisation, for host and device: statistics in double, one
 * conversion to float each, in exactly the order written here. The passes over pixels are in the
 * backends; they compose the functions of numeric.h.
 *
 * Forward   xhat = fl(fl(ix y) + jx),  z = fl(fl(a y) + b)
 * Backward  dy = fl(a fl(fl(dz - m1) - fl(xhat m2))) */
#ifndef OCT_BN_H
#define OCT_BN_H

#include "base/numeric.h"

struct oct_bn_moments {
    double mean, var; /* biased variance, >= 0 */
};

struct oct_bn_affine {
    float a, b, ix, jx;
};

/* From the integer statistics of accumulators acc with y = acc * multiplier:
 * sum = sum acc, sumsq = sum rshift_round(acc, shift)^2. */
OCT_HD struct oct_bn_moments oct_bn_moments_of_acc(
    int64_t sum, int64_t sumsq, int shift, int64_t count, float multiplier)
{
    double n = (double)count, m = (double)multiplier;
    double first = (double)sum / n;
    double second = (double)sumsq * (double)((int64_t)1 << (2 * shift)) / n;
    double var = second - first * first;
    struct oct_bn_moments moments = {first * m, var > 0.0 ? var * m * m : 0.0};
    return moments;
}

OCT_HD struct oct_bn_moments oct_bn_moments_of_sums(double sum, double sumsq, int64_t count)
{
    double n = (double)count, mean = sum / n;
    double var = sumsq / n - mean * mean;
    struct oct_bn_moments moments = {mean, var > 0.0 || var != var ? var : 0.0};
    return moments;
}

OCT_HD struct oct_bn_affine oct_bn_affine_of(
    struct oct_bn_moments moments, float gamma, float beta, float eps)
{
    double invstd = 1.0 / sqrt(moments.var + (double)eps);
    double slope = (double)gamma * invstd;
    struct oct_bn_affine affine = {(float)slope, (float)((double)beta - moments.mean * slope),
        (float)invstd, (float)(-moments.mean * invstd)};
    return affine;
}

/* Grids of a normalisation that computes in fixed point, as steps per unit (oct_on_grid):
 *   mean_q = Q(mean), sd_q = Q(sqrt(var)) + one step, gamma_q = Q(gamma), beta_q = Q(beta)
 *   xhat_q = Q(fl(fl(ix y) + jx)),  z = fl(fl(gamma_q xhat_q) + beta_q)
 * xhat 0: none of this. Backward goes straight through the roundings: with xhat, not xhat_q. */
struct oct_bn_rounding {
    float mean, sd, affine, xhat;
};

/* gamma and beta are on their grid. */
OCT_HD struct oct_bn_affine oct_bn_affine_rounded(
    struct oct_bn_moments moments, float gamma, float beta, struct oct_bn_rounding rounding)
{
    double mean = (double)oct_on_grid((float)moments.mean, rounding.mean);
    float sd = oct_on_grid((float)sqrt(moments.var), rounding.sd) + 1.0f / rounding.sd;
    double invstd = 1.0 / (double)sd, slope = (double)gamma * invstd;
    struct oct_bn_affine affine = {
        (float)slope, (float)((double)beta - mean * slope), (float)invstd, (float)(-mean * invstd)};
    return affine;
}

OCT_HD float oct_bn_xhat_rounded(float y, float ix, float jx, float steps)
{
    return oct_on_grid(oct_affine(y, ix, jx), steps);
}

/* Variance for the running average: n/(n-1) var, and var itself for one pixel. */
OCT_HD float oct_bn_unbiased(double var, int64_t count)
{
    return (float)(count > 1 ? var * ((double)count / (double)(count - 1)) : var);
}

OCT_HD float oct_bn_running(float running, float value, float momentum)
{
    float kept = running * (1.0f - momentum);
    return kept + momentum * value;
}

/* Largest |fl(fl(a y) + b)| over y in [y_min, y_max], with relu the largest relu of it. Rounding is
 * monotonic, so is the map, so its extremes lie at the ends: exact if both ends are attained. */
OCT_HD float oct_bn_affine_max(float a, float b, float y_min, float y_max, int relu)
{
    float low = oct_affine(y_min, a, b), high = oct_affine(y_max, a, b);
    low = relu ? (low > 0.0f ? low : 0.0f) : fabsf(low);
    high = relu ? (high > 0.0f ? high : 0.0f) : fabsf(high);
    return high > low ? high : low;
}

/* y of an accumulator, as the product stores it: as bf16 if `rounded`. */
OCT_HD float oct_bn_y_of_acc(int64_t acc, float multiplier, int rounded)
{
    float y = oct_real_of_acc(acc, multiplier);
    return rounded ? oct_f32_from_bf16(oct_bf16_from_f32(y)) : y;
}

/* Where a channel of mean beta and standard deviation |gamma| is clipped: `sigmas` of them to
 * either side; with relu nothing below 0 is left. */
struct oct_bn_clip {
    float lo, hi;
};

OCT_HD struct oct_bn_clip oct_bn_clip_of(float gamma, float beta, float sigmas, int relu)
{
    float width = sigmas * fabsf(gamma);
    struct oct_bn_clip clip = {beta - width, beta + width};
    if (relu) {
        clip.lo = clip.lo > 0.0f ? clip.lo : 0.0f;
        clip.hi = clip.hi > 0.0f ? clip.hi : 0.0f;
    }
    return clip;
}

OCT_HD float oct_bn_clip_max(struct oct_bn_clip clip)
{
    float low = fabsf(clip.lo), high = fabsf(clip.hi);
    return high > low ? high : low;
}

/* A clipped channel of evaluation, straight from accumulators to one-plane codes: y = acc *
 * multiplier, z = clamp(a y + b, lo, hi) and q = rne(z inverse) as one multiplication, one addition
 * and two bounds, in units of the code:
 *     scale = fl(fl(multiplier a) inverse), offset = fl(b inverse),  lo, hi = code of the end
 *     v = fl(fl(f32(acc) scale) + offset),  q = clamp(rne(v), lo, hi)
 * Rounding is monotonic, so that this is rne(clamp(v, ends)), the order of a training step. Ends
 * that are NaN have the code 127, as everywhere: no code is undefined. */
struct oct_bn_merged {
    float scale, offset;
    int lo, hi;
};

OCT_HD struct oct_bn_merged oct_bn_merge(
    float a, float b, struct oct_bn_clip clip, float multiplier, float inverse)
{
    struct oct_bn_merged merged = {multiplier * a * inverse, b * inverse,
        oct_quantise(clip.lo, inverse, OCT_CODE_MAX), oct_quantise(clip.hi, inverse, OCT_CODE_MAX)};
    return merged;
}

OCT_HD int oct_bn_merged_code(float v, int lo, int hi)
{
    int q = oct_quantise(v, 1.0f, OCT_CODE_MAX);
    q = q > lo ? q : lo;
    return q < hi ? q : hi;
}

/* One element of the input gradient. */
OCT_HD float oct_bn_dy(float dz, float xhat, float a, float m1, float m2)
{
    float t = dz - m1, u = xhat * m2;
    return a * (t - u);
}

/* Upper bound of |dy| as the apply pass computes it, given the extremes of dz and of |xhat| as that
 * pass sees them. No slack is added, and none is needed: with T = max |fl(dz - m1)| (attained at an
 * extreme of dz, since rounding is monotonic) and U = max |fl(xhat m2)| = fl(|m2| xhat_max),
 * |t - u| <= T + U implies fl|t - u| <= fl(T + U) and |dy| = fl(|a| fl|t - u|) <= fl(|a| fl(T +
 * U)), each step by the monotonicity of rounding to nearest (flushing to zero and overflow
 * included). */
OCT_HD float oct_bn_dy_bound(
    float a, float m1, float m2, float dz_min, float dz_max, float xhat_max)
{
    float up = fabsf(dz_max - m1), down = fabsf(dz_min - m1);
    float t = up > down ? up : down;
    float u = fabsf(m2) * xhat_max;
    return fabsf(a) * (t + u);
}

/* Variance of dy in exact arithmetic (its mean is 0): with E[dz] = m1, E[xhat] = 0,
 * E[dz xhat] = m2 and E[xhat^2] = var ix^2 = 1 - eps ix^2,
 *   E[(dz - m1 - xhat m2)^2] = E[dz^2] - m1^2 - m2^2 (1 + eps ix^2), and dy is a times that. */
OCT_HD double oct_bn_dy_variance(
    double sum_dz, double sum_dz_xhat, double sum_dz2, int64_t count, float a, float ix, float eps)
{
    double n = (double)count, m1 = sum_dz / n, m2 = sum_dz_xhat / n;
    double eps_ix2 = (double)eps * ((double)ix * (double)ix);
    double centred = sum_dz2 / n - m1 * m1 - m2 * m2 * (1.0 + eps_ix2);
    return centred > 0.0 || centred != centred ? (double)a * (double)a * centred : 0.0;
}

/* Mean square of dy = a dz over `count` pixels, behind an activation without normalisation. */
OCT_HD double oct_affine_dy_square(double sum_dz2, int64_t count, float a)
{
    return (double)a * (double)a * (sum_dz2 / (double)count);
}

#endif
