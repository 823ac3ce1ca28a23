/* THE scalar definitions of octet's arithmetic, for host and device. Every backend computes what
 * these functions compute, bit for bit; docs/numerics.md derives them. Compiled without
 * contraction (multiply then add, two roundings) and with subnormals flushed to zero.
 *
 * Code:  real = s * q, symmetric, q in [-127, 127]; -128 is never produced. */
#ifndef OCT_NUMERIC_H
#define OCT_NUMERIC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define OCT_HD static __host__ __device__ __forceinline__
#else
#define OCT_HD static inline
#endif

enum {
    OCT_CODE_MAX = 127,
    OCT_PLANE_SHIFT = 7,       /* two-plane code = (hi << 7) + lo, both planes int8 */
    OCT_CODE16_MAX = 127 << 7, /* 16256: largest two-plane code whose planes stay in range */
    OCT_ACC_MAX_K = 133144,    /* products of +-127 that an int32 accumulator holds */
    OCT_WGRAD_CHUNK = 131072,  /* rows per int32 accumulation of a weight gradient */
    OCT_REDUCE_PIXELS = 256    /* pixels a float reduction adds sequentially before going double */
};

/* How codes lie between 0 and code_max; v = fl(x inverse), clamped. */
enum oct_grid {
    OCT_GRID_UNIFORM, /* code = rne(v) */
    OCT_GRID_FLAG,    /* two planes: rne(v) below 128, from there on 128 rne(v / 128) */
    OCT_GRID_MU8,     /* the code next to the mu-law code of v (oct_mu8_linear) */
    /* Numbers that no int8 operand holds (oct_real_on): they stay floats, rounded to nearest. */
    OCT_GRID_OPEN,      /* uniform, and v is not clamped */
    OCT_GRID_MU8_NUMBER /* what the mu-law code of v stands for: clip oct_mu8_number(c) */
};

/* Whether a grid is one of codes. */
OCT_HD int oct_grid_has_codes(enum oct_grid grid)
{
    return grid != OCT_GRID_OPEN && grid != OCT_GRID_MU8_NUMBER;
}

/* Whether a scale is any number or a power of two. */
enum oct_pow2 {
    OCT_POW2_NONE,
    OCT_POW2_NEAREST, /* 2^rne(log2 clip) */
    OCT_POW2_UP       /* 2^ceil(log2 clip) */
};

OCT_HD uint32_t oct_bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

OCT_HD float oct_f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* bf16 by the integer formula, ties to even. NaN keeps its sign and becomes quiet. */
OCT_HD uint16_t oct_bf16_from_f32(float x)
{
    uint32_t u = oct_bits_of_f32(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

OCT_HD float oct_f32_from_bf16(uint16_t b)
{
    return oct_f32_of_bits((uint32_t)b << 16);
}

/* True for NaN and +-Inf, without relying on the compiler's float semantics. */
OCT_HD int oct_not_finite(float x)
{
    return (oct_bits_of_f32(x) & 0x7f800000u) == 0x7f800000u;
}

/* Step between codes for a clip value: s = fl(amax / max). */
OCT_HD float oct_scale_of_clip(float clip, int code_max)
{
    return clip / (float)code_max;
}

/* Multiplier that quantises: fl(max / amax); 0 where amax is 0 (or so small that the quotient
 * overflows), so that all codes are 0. */
OCT_HD float oct_inverse_of_clip(float clip, int code_max)
{
    float inverse = (float)code_max / clip;
    return clip > 0.0f && !oct_not_finite(inverse) ? inverse : 0.0f;
}

/* The power of two beside a clip value > 0, at most 2^127, from its bits: log2 of a significand is
 * above 1/2 exactly if its fraction bits are above those of sqrt(2), which is no float. */
OCT_HD float oct_pow2_of_clip(float clip, enum oct_pow2 pow2)
{
    uint32_t u = oct_bits_of_f32(clip), exponent = u >> 23;
    exponent += (u & 0x7fffffu) > (pow2 == OCT_POW2_UP ? 0u : 0x3504f3u);
    return oct_f32_of_bits((exponent < 254u ? exponent : 254u) << 23);
}

/* Scale and multiplier of a range. With a power of two p the step is p / 128, of two-plane codes
 * p / 16384, and the multiplier its exact reciprocal. */
struct oct_steps {
    float scale, inverse;
};

OCT_HD struct oct_steps oct_steps_of_clip(float clip, int code_max, enum oct_pow2 pow2)
{
    struct oct_steps steps = {
        oct_scale_of_clip(clip, code_max), oct_inverse_of_clip(clip, code_max)};
    if (pow2 != OCT_POW2_NONE && clip > 0.0f) {
        float p = oct_pow2_of_clip(clip, pow2), span = code_max == OCT_CODE_MAX ? 128.0f : 16384.0f;
        steps.scale = p / span;
        steps.inverse = oct_not_finite(span / p) ? 0.0f : span / p;
    }
    return steps;
}

/* NaN becomes bound, so that its code is defined: the flag, not the code, tells of it. */
OCT_HD float oct_clampf(float v, float bound)
{
    v = v < bound ? v : bound;
    return v > -bound ? v : -bound;
}

/* Nearest code, ties to even: clamp, then round. */
OCT_HD int oct_quantise(float x, float inverse, int code_max)
{
    return (int)rintf(oct_clampf(x * inverse, (float)code_max));
}

/* Stochastic code: t = rne(256 v), q = (t + r) >> 8 with a uniform byte r. Integers never move.
 * (Arithmetic shift: floor division.) */
OCT_HD int oct_quantise_stochastic(float x, float inverse, int code_max, uint32_t random_byte)
{
    float v = oct_clampf(x * inverse, (float)code_max);
    int t = (int)rintf(256.0f * v);
    return (t + (int)random_byte) >> 8;
}

/* The number a code stands for: code 0 is +0. Adding 0 says so once more: gcc 12 with AVX-512 turns
 * the way to an integer and back into a rounding of floats, which keeps -0. */
OCT_HD float oct_real_of_code(int q, float scale)
{
    return (float)q * scale + 0.0f;
}

/* Planes of a two-plane code q in [-16256, 16256]: q = (hi << 7) + lo, lo in [-64, 63]. */
OCT_HD int oct_plane_hi(int q)
{
    return (q + 64) >> OCT_PLANE_SHIFT;
}

OCT_HD int oct_plane_lo(int q)
{
    return q - oct_plane_hi(q) * (1 << OCT_PLANE_SHIFT);
}

/* Exact combination of the accumulations of the two planes of one operand. */
OCT_HD int64_t oct_combine_planes(int32_t hi, int32_t lo)
{
    return (int64_t)hi * (1 << OCT_PLANE_SHIFT) + lo;
}

/* floor(a / 2^h + 1/2). */
OCT_HD int64_t oct_rshift_round(int64_t a, int h)
{
    return h > 0 ? (a + ((int64_t)1 << (h - 1))) >> h : a;
}

/* Products of operand scales come first (one rounding), then the accumulator is scaled (one
 * rounding for the conversion, one for the product). */
OCT_HD float oct_real_of_acc(int64_t acc, float multiplier)
{
    return (float)acc * multiplier;
}

/* BN: z = fl(fl(a * y) + b). */
OCT_HD float oct_affine(float y, float a, float b)
{
    float product = a * y;
    return product + b;
}

/* exp(x) for x <= 0 (softmax after subtracting the maximum): 2^n * p(r), degree-6 polynomial,
 * relative error below 2^-23.5 (measured: 2^-23.57). Result 0 from -87 down. */
OCT_HD float oct_expf_nonpositive(float x)
{
    if (!(x > -87.0f))
        return x == x ? 0.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f; /* ln 2 in two parts: the first product is exact */
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    return p * oct_f32_of_bits((uint32_t)((int32_t)n + 127) << 23);
}

/* ln(x) for x >= 1 (sum of exponentials whose largest is 1), relative error below 2^-23.5
 * (measured: 2^-23.57); NaN and Inf pass through. */
OCT_HD float oct_logf_from_one(float x)
{
    if (oct_not_finite(x))
        return x;
    uint32_t u = oct_bits_of_f32(x);
    int e = (int)(u >> 23) - 126;
    float m = oct_f32_of_bits((u & 0x007fffffu) | 0x3f000000u); /* [0.5, 1) */
    if (m < 0.707106781f) {
        e -= 1;
        m = m + m;
    }
    m = m - 1.0f;
    float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float y = m * z * p;
    y = y + (float)e * -2.12194440e-4f;
    y = y - 0.5f * z;
    y = m + y;
    return y + (float)e * 0.693359375f;
}

/* Mu-law, mu = 255: the storage code c in [0, 127] of a magnitude v in [0, code_max],
 * c = rne(127 ln(1 + 255 v / code_max) / ln 256). */
OCT_HD float oct_mu8_storage(float v, int code_max)
{
    float u = v * (code_max == OCT_CODE_MAX ? 2.00787402f : 1.56865157e-2f);
    return rintf(oct_logf_from_one(1.0f + u) * 22.9027838f);
}

/* The linear code that stands for it in products: rne(code_max (256^(c / 127) - 1) / 255). */
OCT_HD float oct_mu8_linear(float c, int code_max)
{
    float power = 256.0f * oct_expf_nonpositive((c - 127.0f) * 4.36628145e-2f);
    return rintf((power - 1.0f) * (code_max == OCT_CODE_MAX ? 4.98039216e-1f : 63.7490196f));
}

/* The number in [0, 1] that it stands for: the float nearest (256^(c / 127) - 1) / 255. Squares of
 * 256^(1 / 127) in double are good to 2^-45; that this decides all 128 floats is tested. */
OCT_HD float oct_mu8_number(int c)
{
    double power = 1.0, square = 1.0446300614125956;
    for (; c > 0; c >>= 1) {
        power = c & 1 ? power * square : power;
        square = square * square;
    }
    return (float)((power - 1.0) / 255.0);
}

/* Code on any grid of codes, nearest. */
OCT_HD int oct_quantise_on(enum oct_grid grid, float x, float inverse, int code_max)
{
    float v = oct_clampf(x * inverse, (float)code_max);
    if (grid == OCT_GRID_UNIFORM)
        return (int)rintf(v);
    if (grid == OCT_GRID_FLAG)
        return (int)(fabsf(v) >= 128.0f ? 128.0f * rintf(v * 0.0078125f) : rintf(v));
    float linear = oct_mu8_linear(oct_mu8_storage(fabsf(v), code_max), code_max);
    return (int)copysignf(linear, v);
}

/* What is left of x after it went through any grid, as a float; clip is the range's. */
OCT_HD float oct_real_on(
    enum oct_grid grid, float x, struct oct_steps steps, float clip, int code_max)
{
    if (grid == OCT_GRID_OPEN)
        return rintf(x * steps.inverse) * steps.scale + 0.0f;
    if (grid == OCT_GRID_MU8_NUMBER) {
        float v = oct_clampf(x * steps.inverse, (float)code_max);
        float number = clip * oct_mu8_number((int)oct_mu8_storage(fabsf(v), code_max));
        return v < 0.0f ? 0.0f - number : number;
    }
    return oct_real_of_code(oct_quantise_on(grid, x, steps.inverse, code_max), steps.scale);
}

/* Whether a tensor is a bell: the share of its elements above sigma exceeds lambda. */
OCT_HD int oct_clip_is_bell(int64_t above, float lambda, double population)
{
    return (double)above > (double)lambda * population;
}

/* Moving average of clip values: fl(fl(fl(1 - fl(k a)) clip) + fl(a amax)). */
OCT_HD float oct_clip_average(float clip, float amax, float k, float a)
{
    float kept = (1.0f - k * a) * clip;
    return kept + a * amax;
}

/* Loss of one sample from L = ln(sum of exponentials), d = its label's logit and the mean of all
 * logits, both less the largest. */
OCT_HD float oct_loss_of(float log_sum, float d_label, float d_mean, float smoothing)
{
    float value = log_sum - d_label;
    if (!(smoothing > 0.0f))
        return value;
    float even = log_sum - d_mean;
    return (1.0f - smoothing) * value + smoothing * even;
}

/* Target probability of one of k classes. */
OCT_HD float oct_loss_target(int is_label, float smoothing, int k)
{
    float off = smoothing / (float)k;
    return is_label ? (1.0f - smoothing) + off : off;
}

OCT_HD float oct_loss_gradient(float e, float sum, float target, float grad_scale)
{
    return (e / sum - target) * grad_scale;
}

struct oct_sgd_rates {
    float lr, mu, weight_decay;
    int nesterov;
};

/* The learning rate of one tensor; a factor that was never set is 0 and counts as 1. */
OCT_HD float oct_sgd_lr(float lr, const float *factor)
{
    return factor && factor[0] > 0.0f ? lr * factor[0] : lr;
}

/* One parameter and its momentum, in place. */
OCT_HD void oct_sgd_element(float *w, float *momentum, float dw, struct oct_sgd_rates rates)
{
    float g = dw + rates.weight_decay * *w;
    float m = rates.mu * *momentum + g;
    float d = rates.nesterov ? g + rates.mu * m : m;
    *momentum = m;
    *w = *w - rates.lr * d;
}

/* x on the grid of multiples of 1 / steps, ties to even; steps is a power of two, 0: x itself. */
OCT_HD float oct_on_grid(float x, float steps)
{
    return steps > 0.0f ? rintf(x * steps) * (1.0f / steps) : x;
}

/* A learning rate on the grid of 2^-9, below 1. */
OCT_HD float oct_lr_on_grid(float lr)
{
    return oct_clampf(oct_on_grid(lr, 512.0f), 511.0f / 512.0f);
}

/* How a parameter moves with its momentum a, in fixed point. */
enum oct_increment {
    OCT_INCREMENT_REAL, /* lr d, d = a or g + mu a (Nesterov) */
    OCT_INCREMENT_CODE, /* lr n unit, n = the stochastic code of d in [-127, 127] */
    OCT_INCREMENT_GRID  /* w = n unit stays a code n in [-127, 127]: n -= stochastic code of lr d */
};

struct oct_fixed_rates {
    float lr, mu, weight_decay;
    float momentum_steps, weight_steps; /* grids, oct_on_grid */
    enum oct_increment increment;
    float unit; /* of the increment's code */
    int nesterov;
};

/* Gradient of one parameter, weight decay inside. */
OCT_HD float oct_fixed_gradient(float w, float dw, float weight_decay)
{
    return dw + weight_decay * w;
}

/* Multiplier of a gradient whose codes lie in +-(range - 1): range / R, R the power of two nearest
 * its largest magnitude; 0 where there is none. range is a power of two, so no rounding occurs. */
OCT_HD float oct_fixed_inverse(float amax, float range)
{
    float inverse;
    if (!(amax > 0.0f) || oct_not_finite(amax))
        return 0.0f;
    inverse = range / oct_pow2_of_clip(amax, OCT_POW2_NEAREST);
    return oct_not_finite(inverse) ? 0.0f : inverse;
}

OCT_HD int oct_fixed_code(float g, float inverse, float range, uint32_t random_byte)
{
    int n = oct_quantise_stochastic(g, inverse, (int)range - 1, random_byte);
    return inverse > 0.0f ? n : 0;
}

/* For normalised gradients that keep their magnitude: the unit of a code, range / R of them
 * being 1. The momentum's grid and the increment's code are as many of it as without. */
OCT_HD float oct_fixed_keep(struct oct_fixed_rates *rates, float inverse, float gradient_steps)
{
    float factor = gradient_steps / inverse; /* a power of two, as all here */
    if (!(inverse > 0.0f))
        return 1.0f / gradient_steps;
    rates->momentum_steps = rates->momentum_steps / factor;
    if (rates->increment == OCT_INCREMENT_CODE)
        rates->unit = rates->unit * factor;
    return 1.0f / inverse;
}

/* A magnitude in steps of its grid, for reports: 2^24 stands for all above. */
OCT_HD float oct_fixed_steps_of(float magnitude, float steps)
{
    return oct_clampf(magnitude * steps, 16777216.0f);
}

/* One parameter and its momentum, in place; g is on its grid. */
OCT_HD void oct_fixed_element(
    float *w, float *momentum, float g, struct oct_fixed_rates rates, uint32_t random_byte)
{
    float a = rates.mu * *momentum + g, d = rates.nesterov ? g + rates.mu * a : a;
    *momentum = oct_on_grid(a, rates.momentum_steps);
    if (rates.increment == OCT_INCREMENT_GRID) {
        float inverse = 1.0f / rates.unit;
        int n = oct_quantise(*w, inverse, OCT_CODE_MAX) -
                oct_quantise_stochastic(rates.lr * d, inverse, 2 * OCT_CODE_MAX, random_byte);
        n = n < -OCT_CODE_MAX ? -OCT_CODE_MAX : n > OCT_CODE_MAX ? OCT_CODE_MAX : n;
        *w = rates.unit > 0.0f ? (float)n * rates.unit : *w;
        return;
    }
    if (rates.increment == OCT_INCREMENT_CODE)
        d = (float)oct_quantise_stochastic(d, 1.0f / rates.unit, OCT_CODE_MAX, random_byte) *
            rates.unit;
    *w = oct_on_grid(*w - rates.lr * d, rates.weight_steps);
}

/* Slope of the log-barrier extension at z (Kervadec et al.): -1 / (t z) for z <= -1/t^2, else t. */
OCT_HD float oct_barrier_slope(float z, float t)
{
    return z <= -1.0f / (t * t) ? -1.0f / (t * z) : t;
}

/* Gradient of lam psi_t(|w| - tau): it draws w towards 0, the stronger the closer |w| is to tau. */
OCT_HD float oct_barrier_gradient(float w, float tau, float t, float lam)
{
    float slope = lam * oct_barrier_slope(fabsf(w) - tau, t);
    return w > 0.0f ? slope : w < 0.0f ? -slope : 0.0f;
}

/* A magnitude in units of 2^-32, so that sums of them have no order; 16 and above count as 16. */
OCT_HD int64_t oct_fixed_magnitude(float x)
{
    float bounded = fabsf(x) < 16.0f ? fabsf(x) : 16.0f;
    return (int64_t)(bounded * 4294967296.0f);
}

/* Direction lost by codes q of a tensor g: 1 - cos, from integer sums, not below 0 where rounding
 * would have it so; 1 without a direction. */
OCT_HD double oct_cosine_distance(int64_t g2, int64_t gq, int64_t q2)
{
    double norm = sqrt((double)g2) * sqrt((double)q2);
    double distance = norm > 0.0 ? 1.0 - (double)gq / norm : 1.0;
    return distance > 0.0 ? distance : 0.0;
}

/* Factor of the learning rate for a distance d >= 0: max(exp(-alpha d), beta). */
OCT_HD float oct_deviation_factor(float distance, float alpha, float beta)
{
    float exponent = -alpha * distance;
    float factor = oct_expf_nonpositive(exponent < 0.0f ? exponent : 0.0f);
    return factor > beta ? factor : beta;
}

/* What a trained compensation adds to a convolution's output. */
OCT_HD float oct_compensation(float alpha, float mu, float offset)
{
    return alpha * mu + offset;
}

/* average + rate (value - average), rate = fl(1 - decay). */
OCT_HD float oct_ema_of(float average, float value, float rate)
{
    return average + rate * (value - average);
}

#endif
