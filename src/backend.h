/* The device interface: one table of functions, one op each, the same table for every device.
 * Kernels know shapes and numbers, never papers; layers and schemes call this table and nothing
 * below it. All pointers named in argument structs are device pointers unless said otherwise.
 *
 * Contract of every op (docs/add-a-kernel.md):
 *  - enqueues work and returns; allocates nothing, synchronises nothing, prints nothing;
 *  - computes what numeric.h says, bit for bit, for any thread count and instruction set;
 *  - reductions in a product's epilogue are integer; reductions in an elementwise pass are float in
 *    one canonical order: per channel, OCT_REDUCE_PIXELS consecutive linear pixels are added
 *    sequentially in float, the chunk sums are then added in index order in double;
 *  - outputs with `mode` overwrite or accumulate in bf16/f32: new = round(f32(old) + f);
 *  - a non-finite value met by a quantising op sets *flag to a nonzero value (OR).
 * "rows" is the number of pixels N*H*W of an NHWC tensor, "channels" its innermost dimension. */
#ifndef OCT_BACKEND_H
#define OCT_BACKEND_H

#include "base/bn.h"
#include "base/conv_shape.h"
#include "base/numeric.h"
#include "base/status.h"
#include "base/tensor.h"

enum oct_write { OCT_OVERWRITE, OCT_ACCUMULATE };
enum oct_rounding { OCT_NEAREST, OCT_STOCHASTIC };

/* What a step needs from outside. Lives in device memory; written by the host before a step. */
struct oct_step_state {
    uint64_t seed;
    uint32_t step;
    float lr;
    uint32_t flag;         /* set by ops: non-finite value met; the update is predicated on 0 */
    uint32_t first_sample; /* global number of the batch's first sample inside the step */
    float temperature;     /* t of barriers, where there are some */
    float gradient_range; /* fixed-point updates: codes of gradients are below it, a power of two */
};

/* Clip values of a quantised tensor, [count] f32 each: count is 1 or the number of channels. */
struct oct_range {
    float *clip;    /* largest representable magnitude */
    float *scale;   /* real value of one code, fl(clip / code_max) */
    float *inverse; /* fl(code_max / clip), 0 where clip is 0 */
    int count;
    int code_max;       /* 127, or 16256 for two planes */
    enum oct_grid grid; /* which codes there are; other grids than UNIFORM round to nearest */
    enum oct_pow2 pow2; /* scale = p / 128 (two planes p / 16384), inverse 1 / scale, where p is a
                         * power of two beside clip (oct_pow2_of_clip) */
};

/* Operand of a product. Float operands have planes = 1 and scale = NULL. */
struct oct_operand {
    enum oct_dtype dtype; /* OCT_S8, OCT_F32 or OCT_BF16 */
    int planes;           /* s8: 1, or 2 with code = (hi << OCT_PLANE_SHIFT) + lo */
    const void *data;     /* one plane, or the high plane */
    const void *data_lo;  /* low plane or NULL */
    const float *scale;   /* f32[1], or f32[K] if scale_per_k */
    int scale_per_k;      /* legal for w in fprop and dy in wgrad only */
};

/* Integer statistics of a product's int32/int64 accumulators, per output channel, int64[K] each.
 * The op adds (min/max: combines) into them; the caller clears with `stats_clear`. */
struct oct_acc_stats {
    int64_t *sum;   /* sum acc */
    int64_t *sumsq; /* sum rshift_round(acc, shift)^2 */
    int64_t *min;
    int64_t *max;
    int shift; /* oct_conv_stats_shift */
};

/* Integer-only coefficients on the device, made by shift_finalize. */
enum oct_shift_entry {
    OCT_SHIFT_MULTIPLIER, /* of y */
    OCT_SHIFT_Y,          /* then y, and the residual, are aligned by this (oct_align) */
    OCT_SHIFT_RESIDUAL,
    OCT_SHIFT_RIGHT, /* the sum's shift to its code (oct_shift_code) */
    OCT_SHIFT_UNIT,  /* exponent of the sum's unit */
    OCT_SHIFT_ENTRIES
};
struct oct_shift {
    int32_t *by;   /* s32[OCT_SHIFT_ENTRIES] */
    int32_t *bias; /* s32[channels], at the sum's unit */
};

/* A normalisation with clipped channels, of a product that writes its codes. */
struct oct_conv_norm {
    const float *a, *b, *lo, *hi; /* f32[K]; all NULL: there is none */
    const float *inverse;         /* f32[1], of the codes */
};

/* y[N,P,Q,K] = conv(x[N,H,W,C], w[K,R,S,C]) (+ bias[K]); y f32 or bf16, or from s8 s8.
 * s8: multiplier m_k = fl(sx * sw_k); y = round_y(fl(f32(acc) * m_k) (+ bias_k)).
 * y s8: y = oct_shift_code(acc + shift.bias_k, shift.by[RIGHT], relu ? 0 : -127), no float; with
 * norm.a y = oct_bn_merged_code(fl(fl(f32(acc) scale) + offset), lo, hi) with these four from
 * oct_bn_merge(a_k, b_k, {lo_k, hi_k}, m_k, inverse).
 * w.data is what weight_pack produced (s8) or KRSC f32/bf16. */
struct oct_conv_fprop_args {
    struct oct_conv_shape shape;
    struct oct_operand x, w;
    const float *bias; /* f32[K] or NULL */
    void *y;
    enum oct_dtype y_dtype;
    struct oct_conv_norm norm;         /* y s8 only: in place of shift and relu */
    struct oct_shift shift;            /* y s8 only */
    int relu;                          /* y s8 only */
    const struct oct_acc_stats *stats; /* s8 only, or NULL */
    void *workspace;
};

/* dx[N,H,W,C] = conv_transpose(dy[N,P,Q,K], w), multiplier m = fl(sdy * sw). */
struct oct_conv_dgrad_args {
    struct oct_conv_shape shape;
    struct oct_operand dy, w;
    void *dx;
    enum oct_dtype dx_dtype;
    enum oct_write mode;
    void *workspace;
};

/* dw[K,R,S,C] f32 = sum over pixels of dy (x) x, exact integer sum, one conversion;
 * multiplier m_k = fl(sx * sdy_k). */
struct oct_conv_wgrad_args {
    struct oct_conv_shape shape;
    struct oct_operand x, dy;
    float *dw;
    enum oct_write mode;
    void *workspace;
};

/* Quantises master weights and writes every layout the products read. Codes are nearest,
 * q = oct_quantise_on(grid, w, inverse[k or 0], code_max), the same for both packs. */
struct oct_weight_pack_args {
    struct oct_conv_shape shape;
    const float *w;       /* KRSC */
    enum oct_dtype dtype; /* of the operands to make: s8, f32, bf16 */
    int planes;
    struct oct_range range; /* s8 only; scales already set */
    void *fprop, *fprop_lo; /* weight_pack_bytes each; lo planes NULL unless planes = 2 */
    void *dgrad, *dgrad_lo; /* NULL: not needed (first layer) */
    uint32_t *flag;
};

/* Plain quantisation of x[rows, channels] f32/bf16 to s8 codes (one or two planes): q =
 * oct_quantise_on(grid, x, inverse, code_max) or oct_quantise_stochastic with the byte of element
 * step->first_sample * rows_per_sample * channels + i, i the index inside x. */
struct oct_quantise_args {
    int64_t rows;
    int64_t rows_per_sample; /* stochastic: pixels of one sample */
    int channels;
    const void *x;
    enum oct_dtype dtype;
    struct oct_range range; /* count 1 or channels */
    enum oct_rounding rounding;
    uint32_t tensor;                   /* id that keys the rounding bits */
    const struct oct_step_state *step; /* stochastic: seed, step, first_sample; else NULL */
    int8_t *q, *q_lo;                  /* q_lo NULL: one plane */
    int64_t *saturated; /* [1] += codes at +-code_max whose |v| exceeded it; or NULL */
    uint32_t *flag;
};

/* x = round(oct_real_on(grid, x, ...)) in place: what is left of a tensor that has gone through
 * codes, fl(f32(q) scale) with q = oct_quantise_on(grid, x, inverse, code_max), or through a grid
 * that has none. Other grids than UNIFORM and FLAG are the CPU's alone: accuracy studies in float.
 */
struct oct_regrid_args {
    int64_t count;
    void *x;
    enum oct_dtype dtype;   /* f32 or bf16 */
    struct oct_range range; /* count 1 */
    int64_t *saturated;     /* [1] += elements clamped because |v| exceeded code_max; or NULL */
    uint32_t *flag;
};

/* A trained term at every place of a sample: y = round(fl(x + fl(fl(alpha_i mu_i) + offset_i))), i
 * the element inside its sample of `count`. x is not rounded before: a bf16 x would swallow a small
 * term. */
struct oct_compensate_args {
    int samples;
    int64_t count;                    /* below 2^31 */
    const float *x;                   /* [samples, count] */
    void *y;                          /* [samples, count]; may be x if f32 */
    enum oct_dtype y_dtype;           /* f32 or bf16 */
    const float *alpha, *mu, *offset; /* f32[count] each */
};

/* Gradients of its parameters from dY's codes: d_i = fl(f32(sum over the samples of code_i)
 * scale), the sum exact; doffset (+)= d, dmu (+)= fl(alpha d), dalpha (+)= fl(mu d). */
enum { OCT_COMPENSATE_SAMPLES = 1 << 24 }; /* at most: sums of a plane fit 32 bits */
struct oct_compensate_bwd_args {
    int samples;
    int64_t count;
    const int8_t *dy, *dy_lo; /* codes, [samples, count]; dy_lo NULL: one plane */
    const float *scale;       /* f32[1] */
    const float *alpha, *mu;  /* f32[count] each */
    float *dalpha, *dmu, *doffset;
    enum oct_write mode;
};

/* Per-channel statistics of x[rows, channels] f32/bf16; any output may be NULL. Overwrites.
 * amax, f32[channels]: the largest |x| by its bits, so that NaN counts above Inf and shows. min,
 * max, f32[channels]: by `x < min`, so that NaN is skipped. A zero of either sign or a subnormal is
 * reported as +0. sum of x and sumsq of fl(x x), f64[channels]: canonical order. */
struct oct_channel_stats_args {
    int64_t rows;
    int channels;
    const void *x;
    enum oct_dtype dtype;
    float *amax, *min, *max;
    double *sum, *sumsq;
    void *workspace; /* channel_workspace(rows, channels) bytes */
    uint32_t *flag;
};

/* count[c] = number of |x[.,c]| > threshold[c], NULL with its threshold if not wanted;
 * total[0] = number of |x| > threshold_all[0], likewise. Overwrites; NaN is not above. */
struct oct_count_above_args {
    int64_t rows;
    int channels;
    const void *x;
    enum oct_dtype dtype;
    const float *threshold, *threshold_all;
    int64_t *count, *total;
    void *workspace;
};

/* Clip values, element by element over [range.count], from amax (+ plus, fl), or floor if that is
 * larger and amax is finite:
 *   rule AMAX : clip = amax
 *   rule SHARE: clip = fl(a amax), or fl(share[0] amax) where share is given and share[0] > 0
 *   rule FIXED: clip = a, whatever amax is
 *   rule EMA  : clip = amax at the first visit, else fl(fl(fl(1 - fl(k a)) clip) + fl(a amax))
 *   rule TAIL : label = above > lambda * population ? bell : tail (compared in double)
 *               bell: clip = amax; tail: EMA, restarted from amax unless the label was tail before
 * Then scale and inverse are set (oct_steps_of_clip). An amax that is 0 or not finite leaves clip,
 * label and visited as they are and sets inverse = 0, so that this step's codes are 0 (a tensor
 * with NaN or Inf has raised its flag where it was read). */
enum oct_clip_rule { OCT_CLIP_AMAX, OCT_CLIP_EMA, OCT_CLIP_TAIL, OCT_CLIP_SHARE, OCT_CLIP_FIXED };
enum oct_tail_label { OCT_LABEL_NONE, OCT_LABEL_BELL, OCT_LABEL_TAIL };

struct oct_range_update_args {
    struct oct_range range; /* clip is state */
    enum oct_clip_rule rule;
    float k, a, lambda;
    const float *amax; /* f32[count], or f32[amax_count] reduced by max if count 1 */
    int amax_count;
    const float *plus;    /* f32[1]: range of a summand, or NULL */
    float floor;          /* smallest maximum that counts; 0: any */
    const float *share;   /* SHARE: f32[1] on the device in place of a, or NULL */
    const int64_t *above; /* TAIL: elements with |x| > sigma, int64[count] */
    double population;    /* TAIL: elements per entry */
    uint8_t *label;       /* TAIL: u8[count], state */
    uint8_t *visited;     /* EMA, TAIL: u8[count], state */
};

/* The clip value that keeps the direction of x[rows, channels] best. With S = largest of amax,
 * clip_j = fl(factor[j] S), q_j the code of x at clip_j and g = oct_quantise(x, fl(16256 / S),
 * 16256): d_j = oct_cosine_distance(sum g^2, sum g q_j, sum q_j^2), all sums integer. The smallest
 * d_j, the first of equal ones, decides: share = factor[j], distance = f32(d_j), lr_factor =
 * oct_deviation_factor(distance, alpha, beta). An S that is 0 or not finite, or no d_j below 1,
 * leaves all three as they are. */
enum { OCT_SEARCH_CANDIDATES = 16 };
struct oct_cosine_search_args {
    int64_t rows;
    int channels;
    const void *x;
    enum oct_dtype dtype;
    const float *amax; /* f32[amax_count] */
    int amax_count;
    int code_max;
    int candidates;
    float factor[OCT_SEARCH_CANDIDATES]; /* 0 < factor <= 1 */
    float alpha, beta;
    float *share, *distance, *lr_factor; /* f32[1] each; lr_factor may be NULL */
    int64_t *sums;                       /* int64[OCT_SEARCH_SUMS], scratch */
};
enum { OCT_SEARCH_SUMS = 1 + 2 * OCT_SEARCH_CANDIDATES }; /* g^2; then g q_j; then q_j^2 */

/* Finishes BN statistics in double and prepares the elementwise passes; the order of every
 * operation is that of base/bn.h (docs/numerics.md, BN).
 * Training: n = count; mean = S1/n * m, var = (S2 4^h/n - (S1/n)^2) m^2 (integer statistics) or
 * from sum/sumsq (float), biased; with the float values v = f32(mean) and f32(n/(n-1) var) (n = 1:
 * var), running = fl(fl(running fl(1-momentum)) + fl(momentum v)).
 * Evaluation: mean, var = running.  invstd = 1/sqrt(var + eps);
 * a = f32(gamma invstd), b = f32(beta - mean gamma invstd), ix = f32(invstd),
 * jx = f32(-mean invstd).
 * Running statistics stay as they are if *flag is or becomes set: a non-finite mean or var sets it.
 * xhat_max and z_amax need the extremes of y (from acc, or y_min and y_max), in evaluation too.
 * With clip_lo and clip_hi the channel is clipped (oct_bn_clip_of), which needs no extremes, and
 * z_amax = max(|lo|, |hi|) is a bound that holds before y is there.
 * With rounding the parts come from their grids (oct_bn_affine_rounded; eps has no part in it) and
 * z_amax is exact for z = fl(fl(gamma_q xhat_q) + beta_q). */
struct oct_bn_finalize_args {
    int channels;
    int64_t count;
    int training;
    const struct oct_acc_stats *acc; /* integer statistics, or NULL */
    const float *x_scale, *w_scale;  /* m_k = fl(sx * sw[k or 0]) of those */
    int w_scale_per_k;
    const double *sum, *sumsq;  /* float statistics */
    const float *y_min, *y_max; /* float statistics: extremes of y */
    enum oct_dtype y_dtype;     /* rounding that y went through */
    const float *gamma, *beta;  /* f32[channels] */
    float eps, momentum;
    float *running_mean, *running_var;
    int relu;
    float *a, *b, *ix, *jx; /* f32[channels] each */
    float *xhat_max;        /* f32[channels]: exact max |ix y + jx|, or NULL */
    float *z_amax;          /* f32[channels]: exact max |relu?(a y + b)|, or NULL */
    float sigmas;           /* width of the clip, and its two ends, f32[channels] or NULL */
    float *clip_lo, *clip_hi;
    struct oct_bn_rounding rounding; /* xhat 0: none; excludes a clip */
    float *gamma_q, *beta_q;         /* rounding: f32[channels] each */
    uint32_t *flag;
};

/* What bn_finalize is to a normalisation, for an activation whose coefficients are parameters:
 * a[c] = scale[0], 1 without scale; b[c] = bias[c], bias[0] if bias_count is 1, 0 without bias;
 * ix = 1 and jx = 0, so that "xhat" of the backward passes is y itself.
 * z_amax[c] = max |relu?(a y + b)|, exact, from the extremes of acc; NULL: not wanted. */
struct oct_affine_finalize_args {
    int channels;
    const float *scale; /* f32[1] or NULL */
    const float *bias;  /* f32[bias_count] or NULL */
    int bias_count;     /* 1 or channels */
    int relu;
    const struct oct_acc_stats *acc; /* for z_amax */
    const float *x_scale, *w_scale;  /* m_k = fl(sx * sw[k or 0]) */
    int w_scale_per_k;
    enum oct_dtype y_dtype; /* rounding that y went through */
    float *a, *b, *ix, *jx; /* f32[channels] each */
    float *z_amax;          /* f32[channels] or NULL */
};

/* Coefficients of an activation that is integer only: x = code of relu?(scale y + bias (+
 * residual)) with y of unit uy = fl(y_scale w_scale) (w_scale NULL: y_scale) and powers of two
 * throughout. f = oct_scaled_of(scale), or 1 2^0 without scale, or rne(2^22 / window) 2^-22 with
 * window > 1; the sum's unit 2^c: c = e(uy) + e(f); with a residual, whose unit is ur, c =
 * max(min(c, e(ur)), max(c, e(ur)) - OCT_ALIGN_MAX); by[MULTIPLIER] = f's code; by[Y], by[RESIDUAL]
 * = what aligns them to c, not below -31; bias_k = oct_scaled_of(bias_k) aligned to c, within
 * +-OCT_SHIFT_SUM_MAX; by[RIGHT] = e(x_scale) - c within [-OCT_SHIFT_LEFT_MAX,
 * OCT_SHIFT_RIGHT_MAX]; by[UNIT] = c. An x_scale of 0 makes all codes 0 (by[MULTIPLIER], by[RIGHT],
 * bias 0, 31, 0). A uy or ur of 0 has codes of 0 and counts as 1. For the backward passes, whose y
 * is then y's codes: a = f's value (window: 1), b = 0, ix = uy, jx = 0. `result`: their y is the
 * codes of x, whose unit is x_scale: ix = x_scale. acc: amax[c] = max |relu?(acc + bias_c)| 2^c,
 * with the coefficients in `shift` as they are; then nothing else is computed. */
struct oct_shift_finalize_args {
    int channels;
    const float *scale; /* f32[1] or NULL */
    const float *bias;  /* f32[bias_count] or NULL */
    int bias_count;     /* 1 or channels */
    int window;         /* y is a sum over so many; 0: it is none */
    int relu, result;
    const float *y_scale, *w_scale, *residual_scale; /* f32[1]; the last two may be NULL */
    const float *x_scale;                            /* f32[1] */
    struct oct_shift shift;
    float *a, *b, *ix, *jx;          /* f32[channels] each, or all NULL */
    const struct oct_acc_stats *acc; /* min and max only, or NULL */
    float *amax;                     /* f32[channels], with acc */
};

/* x = oct_shift_code(v, by[RIGHT], relu ? 0 : -127), v = oct_align(by[MULTIPLIER] y, by[Y]) +
 * bias_c (+ oct_align(residual, by[RESIDUAL])): no float. mask as in act_fwd, of v > 0. amax = max
 * |relu?(v)| 2^by[UNIT]. Outputs overwrite. */
struct oct_act_shift_args {
    int64_t rows;
    int channels;
    const void *y;
    enum oct_dtype y_dtype; /* s8, or s32 below 2^23 in magnitude without a residual */
    const int8_t *residual; /* or NULL */
    struct oct_shift shift;
    int relu;
    int8_t *x;
    uint8_t *mask; /* or NULL */
    float *amax;   /* f32[1] or NULL */
};

/* x = quantise(relu?(clip?(affine(y, a, b)) (+ residual))).  One op of every scheme's forward pass.
 * u = fl(fl(a y) + b), or with xhat_steps fl(fl(a xhat_q) + b) where xhat_q =
 * oct_bn_xhat_rounded(y, ix, jx, xhat_steps); with clip_lo and clip_hi (which need a and b) v = u >
 * lo ? u : lo, then v = v < hi ? v : hi, else v = u; v = fl(v + r), r = the residual or
 * fl(f32(code) residual_scale); *flag is set if u or v is not finite; z = relu ? (v > 0 ? v : 0) :
 * v; trunk, mask and amax from z; then x = nearest code of z, or z rounded to x_dtype. Any output
 * may be NULL: with x, trunk and mask NULL only amax is computed. y, residual and outputs do not
 * overlap. */
struct oct_act_fwd_args {
    int64_t rows;
    int channels;
    const void *y;
    enum oct_dtype y_dtype;        /* f32 or bf16 */
    const float *a, *b;            /* f32[channels], or NULL: identity */
    const float *ix, *jx;          /* f32[channels]; xhat_steps only */
    float xhat_steps;              /* 0: none; excludes a clip */
    const void *residual;          /* [rows, channels] or NULL */
    enum oct_dtype residual_dtype; /* s8 (with residual_scale f32[1]), bf16 or f32 */
    const float *residual_scale;
    int relu;
    void *x; /* s8, bf16 or f32, or NULL */
    enum oct_dtype x_dtype;
    struct oct_range x_range;       /* s8: count 1 */
    void *trunk;                    /* copy of the unquantised result, or NULL */
    enum oct_dtype trunk_dtype;     /* bf16 or f32 */
    uint8_t *mask;                  /* bit (i & 7) of byte i >> 3 = (z > 0), or NULL */
    const float *clip_lo, *clip_hi; /* f32[channels], or NULL */
    uint8_t *inside;                /* bits: lo < u < hi, and with relu z > 0; or NULL */
    int64_t *clipped;   /* [1] += elements with u > hi, or u < lo where lo is not 0; or NULL */
    float y_limit;      /* declared range of y */
    int64_t *y_above;   /* [1] += elements with |y| > y_limit, or NULL */
    float *amax;        /* f32[1] = max |result|, or NULL */
    int64_t *saturated; /* [1] += codes with |fl(z inverse)| > 127, or NULL */
    uint32_t *flag;
};

/* First backward pass of BN(+residual)+ReLU: dz = da where the bit of `mask` is set, else 0. With
 * mask NULL, dz = z > 0 ? da : 0, z recomputed from y, or relu = 0: dz = da.  Canonical sums per
 * channel of dz, fl(dz xhat), fl(dz dz). The extremes ignore NaN; a zero among them is +0. */
struct oct_bn_bwd_reduce_args {
    int64_t rows;
    int channels;
    const void *da;
    enum oct_dtype da_dtype;
    const void *y;
    enum oct_dtype y_dtype; /* f32, bf16, or s8: y is the code */
    const float *a, *b, *ix, *jx;
    int relu;
    const uint8_t *mask;
    double *sum_dz, *sum_dz_xhat, *sum_dz2; /* f64[channels] */
    float *dz_min, *dz_max;                 /* f32[channels] */
    void *workspace;                        /* bn_workspace(rows, channels) bytes */
};

/* m1 = f32(sum dz / n), m2 = f32(sum dz xhat / n), dgamma (+)= sum dz xhat, dbeta (+)= sum dz;
 * bound[c] = fl(|a| fl(max(|fl(dz_max - m1)|, |fl(dz_min - m1)|) + fl(|m2| xhat_max))), never below
 * the largest |dy| that bn_bwd_apply computes (proof: base/bn.h);
 * sigma[c] = analytic standard deviation of dy, sigma_all = that of the whole tensor. */
struct oct_bn_bwd_finalize_args {
    int channels;
    int64_t count;
    const double *sum_dz, *sum_dz_xhat, *sum_dz2;
    const float *dz_min, *dz_max, *xhat_max; /* needed for bound only */
    const float *a, *ix;
    float eps; /* of bn_finalize */
    float *m1, *m2;
    float *dgamma, *dbeta;
    enum oct_write mode;
    float *bound;             /* f32[channels] or NULL */
    float *sigma, *sigma_all; /* f32[channels], f32[1], or NULL */
};

/* What bn_bwd_finalize is to a normalisation, behind affine_finalize: m1 = m2 = 0, so dy = a dz;
 * dscale (+)= f32(sum over channels, in order, of sum dz y); dbias[c] (+)= f32(sum dz), with
 * bias_count 1 f32(sum over channels, in order); bound[c] = fl(|a| max(|dz_min|, |dz_max|)), which
 * is max |dy|; sigma[c] = root mean square of dy (about 0, where a channel's mean need not be),
 * sigma_all = that of the whole tensor. */
struct oct_affine_bwd_finalize_args {
    int channels;
    int64_t count;
    const double *sum_dz, *sum_dz_y, *sum_dz2;
    const float *dz_min, *dz_max; /* needed for bound only */
    const float *a;
    float *m1, *m2;
    float *dscale; /* f32[1] or NULL */
    float *dbias;  /* f32[bias_count] or NULL */
    int bias_count;
    enum oct_write mode;
    float *bound;             /* f32[channels] or NULL */
    float *sigma, *sigma_all; /* f32[channels], f32[1], or NULL */
};

/* Second backward pass: dy = a ((dz - m1) - xhat m2), written as any of: s8 codes per channel (dW
 * operand), s8 codes per tensor (dX operand), float. Optionally passes dz on to the residual
 * branch, and gathers what the clip rules of this or the next step need.
 * Element order inside the formula: t = fl(dz - m1); u = fl(xhat m2); dy = fl(a fl(t - u)).
 * Element i takes the rounding byte first_sample * rows_per_sample * channels + i. */
struct oct_bn_bwd_apply_args {
    int64_t rows;
    int channels;
    const void *da;
    enum oct_dtype da_dtype;
    const void *y;
    enum oct_dtype y_dtype; /* f32, bf16, or s8: y is the code */
    const float *a, *b, *ix, *jx, *m1, *m2;
    int relu;
    const uint8_t *mask;
    const uint8_t *residual_mask;     /* that of the residual branch's dz; NULL: the same dz */
    int8_t *q_channel, *q_channel_lo; /* with range_channel (count = channels or 1), or NULL */
    struct oct_range range_channel;
    int8_t *q_tensor, *q_tensor_lo; /* with range_tensor (count = 1), or NULL */
    struct oct_range range_tensor;
    enum oct_rounding rounding;
    uint32_t tensor;                   /* keys the rounding bits, the same for both copies */
    int64_t rows_per_sample;           /* stochastic: pixels of one sample */
    const struct oct_step_state *step; /* stochastic only */
    void *dy;                          /* float output or NULL */
    enum oct_dtype dy_dtype;
    enum oct_write dy_mode;
    void *d_residual; /* dz for the residual branch, or NULL */
    enum oct_dtype d_residual_dtype;
    enum oct_write d_residual_mode;
    const float *sigma, *sigma_all; /* thresholds of the counts, or NULL */
    int64_t *above, *above_all;     /* int64[channels], int64[1]: = number of |dy| > sigma */
    float *amax;                    /* f32[channels] = max |dy|, or NULL */
    int64_t *saturated;             /* [2] += clipped codes of the two copies, or NULL */
    void *workspace;                /* bn_workspace(rows, channels) bytes */
    uint32_t *flag;
};

/* Pooling over NHWC; a window with no pixel of the input in it is refused (plan time:
 * oct_conv_windows_meet_input). Max: padding never wins; codes and floats keep their value.
 * Average: padding counts as zeros; sum over the window in (r, s) order in f32 (of codes exact, and
 * OCT_POOL_CODES of them at most), then y = fl(sum * fl(scale / window)), scale = 1 for floats,
 * window = R S; or, of codes, y s32 = sum. */
enum { OCT_POOL_TAPS = 128, OCT_POOL_CODES = (1 << 24) / OCT_CODE_MAX };
struct oct_pool_args {
    struct oct_conv_shape shape; /* k = c, groups = c; r, s window */
    int average;                 /* 0: max; 1: average, padding counted */
    const void *x;
    enum oct_dtype x_dtype;
    const float *x_scale; /* s8 average only, f32[1] */
    void *y;              /* max: x_dtype; average: f32, bf16 from floats, or s32 from codes */
    enum oct_dtype y_dtype;
    uint8_t *winner; /* max: tap r*S+s of the first maximum, u8[N,P,Q,C],
                      * R S <= OCT_POOL_TAPS; or NULL */
};

/* dx[h,w] gathers its windows in (p, q) order in f32: the sum of dy whose winner is this pixel, or
 * fl(sum of dy * fl(1 / window)); then overwrites or accumulates. */
struct oct_pool_bwd_args {
    struct oct_conv_shape shape;
    int average;
    const void *dy;
    enum oct_dtype dy_dtype;
    const uint8_t *winner;
    void *dx;
    enum oct_dtype dx_dtype;
    enum oct_write mode;
};

/* Softmax cross-entropy with label smoothing over logits f32[N, K], forward and gradient.
 * d_j = fl(x_j - max); S = f32(sum of oct_expf_nonpositive(d_j), in double, in class order);
 * p_j = fl(e_j / S); L = oct_logf_from_one(S); off = fl(smoothing / K); target = off, or
 * fl(fl(1 - smoothing) + off) at the label; dlogits = fl(fl(p - target) * grad_scale);
 * loss = fl(L - d_label); with smoothing > 0 fl(fl(fl(1 - smoothing) * loss) +
 * fl(smoothing * fl(L - f32(sum of d_j in double / K)))).
 * top1, top5 u8[N]: 1 if fewer than 1, min(5, K) other logits are not below the label's: ties and
 * NaN count against the label. Labels i32[N] in [0, K) are the caller's promise. */
struct oct_loss_args {
    int n, k;
    const float *logits;
    const int32_t *labels;
    float smoothing, grad_scale;
    float *loss;
    uint8_t *top1, *top5;
    float *dlogits; /* NULL in evaluation */
    uint32_t *flag; /* raised by a loss that is not finite; or NULL */
};

/* Log-barrier that holds |w| below tau: gradient p = oct_barrier_gradient(w, tau, t, lam), t =
 * step->temperature. sums[0] += sum of |p|, sums[1] += sum of |fl(dw + p)| (oct_fixed_magnitude).
 */
struct oct_barrier {
    float lam, tau; /* lam 0: none */
    int64_t *sums;  /* [2] */
};

/* The same for activations: da = round(fl(da + p)) in place, p = oct_barrier_gradient(x, tau, t,
 * lam), x the activation whose gradient da is. sums may be NULL; lam has the mean over the batch in
 * it. */
struct oct_barrier_bwd_args {
    int64_t count;
    const void *x;
    enum oct_dtype x_dtype; /* f32, bf16, or s8 with x_scale */
    const float *x_scale;   /* f32[1] */
    void *da;
    enum oct_dtype da_dtype; /* f32 or bf16 */
    struct oct_barrier barrier;
    const struct oct_step_state *step; /* temperature */
};

/* SGD over one parameter tensor, skipped as a whole (amax too) if step->flag != 0:
 * g = fl(dw + fl(wd w)); m = fl(fl(mu m) + g); w = fl(w - fl(lr d)), d = m, or fl(g + fl(mu m)).
 * lr is fl(step->lr lr_factor[0]) where lr_factor is given and lr_factor[0] > 0. With a barrier
 * p is taken at the old w and w = fl(w - fl(lr p)) follows, past the momentum. */
struct oct_sgd_args {
    int64_t count;
    float *w, *momentum;
    const float *dw;
    const struct oct_step_state *step; /* lr, flag */
    float mu, weight_decay;
    int nesterov;
    const float *lr_factor; /* f32[1] or NULL */
    struct oct_barrier barrier;
    float *amax; /* f32[1] = max |w| afterwards, or NULL */
};

/* SGD in fixed point over one parameter tensor, skipped as a whole if step->flag != 0.
 * g = fl(dw + fl(wd w)). With `normalise`, n = oct_fixed_code(g, oct_fixed_inverse(A, range),
 * range) with A = max |g| over the tensor, range = step->gradient_range: an A that is 0 or not
 * finite gives codes 0; OCT_NORMALISED_KEPT: G = n R / range keeps its magnitude, and
 * the momentum's grid and code follow (oct_fixed_keep). Else n = rne(fl(g gradient_steps)). Then G
 * = n / gradient_steps and oct_fixed_element: a = fl(fl(mu m) + G), m = a on its grid; d = a or,
 * with nesterov, fl(G + fl(mu a)), for CODE in its stochastic code times the unit; w = fl(w - fl(lr
 * d)) on its grid. For GRID w is n_w unit[0] and becomes (n_w - stochastic code of fl(lr d) /
 * unit[0]) unit[0], |n_w| <= 127; unit[0] = 0: stays. Grids are multiples of 1 / steps, powers of
 * two; 0: any value. lr as in sgd. Gradient codes take the rounding bytes of `tensor`, increments
 * those of `tensor` + OCT_INCREMENT_BITS, both element by element of the parameter. */
enum { OCT_INCREMENT_BITS = 1 << 30 };
enum oct_normalise { OCT_NOT_NORMALISED, OCT_NORMALISED, OCT_NORMALISED_KEPT };
enum { OCT_FIXED_LARGEST, OCT_FIXED_MOMENTUM, OCT_FIXED_ZEROS, OCT_FIXED_COUNTS };
struct oct_sgd_fixed_args {
    int64_t count;
    float *w, *momentum;
    const float *dw;
    const struct oct_step_state *step; /* seed, step, lr, gradient_range, flag */
    uint32_t tensor;
    float mu, weight_decay;
    int nesterov;
    const float *lr_factor; /* f32[1] or NULL */
    enum oct_normalise normalise;
    float gradient_steps, momentum_steps, weight_steps;
    enum oct_increment increment;
    float momentum_unit;  /* CODE: unit, a power of two */
    const float *unit;    /* GRID: f32[1], a power of two */
    float *gradient_amax; /* f32[1] = A; normalise only */
    /* normalise: [LARGEST] = max(it, |n|), [MOMENTUM] = max(it, |m| momentum_steps), [ZEROS] +=
     * codes n that are 0; or NULL */
    int64_t *counts;
    float *amax; /* f32[1] = max |w| afterwards, or NULL */
};

/* average = fl(average + fl(fl(1 - decay) * fl(value - average))), skipped if *flag != 0. */
struct oct_ema_args {
    int64_t count;
    float *average;
    const float *value;
    float decay;
    const uint32_t *flag;
};

/* Images of a batch: u8[N,H,W,C] to f32 (x/255 - mean_c) / std_c as fl(fl(x a_c) + b_c); the
 * channels are padded with zeros to channels_out. */
struct oct_image_args {
    int64_t rows;
    int channels, channels_out;
    const uint8_t *image;
    float a[4], b[4];
    void *x;
    enum oct_dtype x_dtype; /* f32 or bf16 */
};

/* sum over rows of x[rows, channels] f32 in canonical order, e.g. the gradient of a bias. */
struct oct_channel_sum_args {
    int64_t rows;
    int channels;
    const float *x;
    float *sum;
    enum oct_write mode;
    void *workspace;
};

/* What a device that computes nothing but predicts another (src/predict) says of the ops enqueued
 * since it was last asked: a model, never a measurement. */
enum { OCT_ESTIMATE_NOMINAL, OCT_ESTIMATE_BEST, OCT_ESTIMATE_WORST, OCT_ESTIMATE_TIMES };
enum oct_bound {
    OCT_BOUND_MEMORY,
    OCT_BOUND_PRODUCTS, /* the unit that multiplies */
    OCT_BOUND_ISSUE,    /* warp instructions */
    OCT_BOUND_LAUNCH,   /* the time between two kernels */
    OCT_BOUNDS
};

struct oct_estimate {
    double seconds[OCT_ESTIMATE_TIMES]; /* at the nominal, best and worst efficiency of products */
    double bound[OCT_BOUNDS];           /* of the nominal seconds, by what bounds the op */
    double listed_bytes;                /* each tensor of an op once */
    double bytes;                       /* as memory moves them */
    double macs;
    int launches;
};

struct oct_backend;
typedef struct oct_backend oct_backend;

struct oct_backend {
    const char *name; /* "cpu", "cuda", "sim" */
    const char *isa;  /* kernels chosen: "amx", "vnni", "c", "sm_80", ... */
    int threads;      /* host threads that do the work; 0: none of ours */
    void *ctx;
    int64_t allocations; /* calls of alloc and free so far: must not move during a step */

    /* Recording, NULL where the device has none: what is enqueued between record and recorded is
     * not run but kept, and replay enqueues all of it at once. recorded always ends the recording;
     * with `keep` 0 it throws it away. Nothing may be allocated, uploaded, downloaded or waited for
     * in between. */
    enum oct_status (*record)(oct_backend *);
    enum oct_status (*recorded)(oct_backend *, int keep, void **recording);
    enum oct_status (*replay)(oct_backend *, void *recording);
    void (*forget)(oct_backend *, void *recording);

    /* Time of a short probe of the product unit on every thread, the slowest thread's, over the
     * time of an undisturbed unit: above 1, timings taken now mean little. 0, or no function: the
     * unit has no slow periods. */
    double (*slowdown)(oct_backend *);

    /* Only a device that predicts has it: what the ops since the last call would cost. */
    void (*estimate)(oct_backend *, struct oct_estimate *out);

    void (*close)(oct_backend *); /* by oct_backend_close */

    /* memory: 64-byte aligned device memory. `host` may be reused when upload returns; download
     * waits for the device. */
    enum oct_status (*alloc)(oct_backend *, size_t bytes, void **out);
    void (*free)(oct_backend *, void *);
    enum oct_status (*upload)(oct_backend *, void *device, const void *host, size_t bytes);
    enum oct_status (*download)(oct_backend *, void *host, const void *device, size_t bytes);
    enum oct_status (*copy)(oct_backend *, void *to, const void *from, size_t bytes);
    enum oct_status (*clear)(oct_backend *, void *device, size_t bytes);
    enum oct_status (*sync)(oct_backend *);

    /* products; *_check says at plan time, with the reason, whether the backend can do it and how
     * much workspace it needs (pointers in args are not read) */
    enum oct_status (*conv_fprop_check)(
        oct_backend *, const struct oct_conv_fprop_args *, size_t *);
    enum oct_status (*conv_fprop)(oct_backend *, const struct oct_conv_fprop_args *);
    enum oct_status (*conv_dgrad_check)(
        oct_backend *, const struct oct_conv_dgrad_args *, size_t *);
    enum oct_status (*conv_dgrad)(oct_backend *, const struct oct_conv_dgrad_args *);
    enum oct_status (*conv_wgrad_check)(
        oct_backend *, const struct oct_conv_wgrad_args *, size_t *);
    enum oct_status (*conv_wgrad)(oct_backend *, const struct oct_conv_wgrad_args *);
    size_t (*weight_pack_bytes)(
        oct_backend *, const struct oct_conv_shape *, enum oct_dtype, int dgrad);
    enum oct_status (*weight_pack)(oct_backend *, const struct oct_weight_pack_args *);
    enum oct_status (*stats_clear)(oct_backend *, const struct oct_acc_stats *, int channels);

    /* quantise */
    /* bytes of `workspace`: five 4-byte words per channel and OCT_REDUCE_PIXELS rows */
    size_t (*channel_workspace)(oct_backend *, int64_t rows, int channels);
    enum oct_status (*quantise)(oct_backend *, const struct oct_quantise_args *);
    enum oct_status (*regrid)(oct_backend *, const struct oct_regrid_args *);
    enum oct_status (*channel_stats)(oct_backend *, const struct oct_channel_stats_args *);
    enum oct_status (*channel_sum)(oct_backend *, const struct oct_channel_sum_args *);
    enum oct_status (*count_above)(oct_backend *, const struct oct_count_above_args *);
    enum oct_status (*range_update)(oct_backend *, const struct oct_range_update_args *);
    enum oct_status (*cosine_search)(oct_backend *, const struct oct_cosine_search_args *);

    /* normalise and activate */
    enum oct_status (*compensate)(oct_backend *, const struct oct_compensate_args *);
    enum oct_status (*compensate_bwd)(oct_backend *, const struct oct_compensate_bwd_args *);
    enum oct_status (*bn_finalize)(oct_backend *, const struct oct_bn_finalize_args *);
    enum oct_status (*affine_finalize)(oct_backend *, const struct oct_affine_finalize_args *);
    enum oct_status (*act_fwd)(oct_backend *, const struct oct_act_fwd_args *);
    enum oct_status (*shift_finalize)(oct_backend *, const struct oct_shift_finalize_args *);
    enum oct_status (*act_shift)(oct_backend *, const struct oct_act_shift_args *);
    size_t (*bn_workspace)(oct_backend *, int64_t rows, int channels); /* of reduce and apply */
    enum oct_status (*barrier_bwd)(oct_backend *, const struct oct_barrier_bwd_args *);
    enum oct_status (*bn_bwd_reduce)(oct_backend *, const struct oct_bn_bwd_reduce_args *);
    enum oct_status (*bn_bwd_finalize)(oct_backend *, const struct oct_bn_bwd_finalize_args *);
    enum oct_status (*affine_bwd_finalize)(
        oct_backend *, const struct oct_affine_bwd_finalize_args *);
    enum oct_status (*bn_bwd_apply)(oct_backend *, const struct oct_bn_bwd_apply_args *);

    /* pool, input, loss */
    enum oct_status (*pool)(oct_backend *, const struct oct_pool_args *);
    enum oct_status (*pool_bwd)(oct_backend *, const struct oct_pool_bwd_args *);
    enum oct_status (*image)(oct_backend *, const struct oct_image_args *);
    enum oct_status (*loss)(oct_backend *, const struct oct_loss_args *);

    /* update */
    enum oct_status (*sgd)(oct_backend *, const struct oct_sgd_args *);
    enum oct_status (*sgd_fixed)(oct_backend *, const struct oct_sgd_fixed_args *);
    enum oct_status (*ema)(oct_backend *, const struct oct_ema_args *);
};

struct oct_backend_options {
    const char *device; /* "cpu", "cuda", "cuda:N", "sim", "model:CARD" */
    /* cpu; NULL: best available; else "amx", "vnni", "c", ...; model: "tf32": f32 products on that
     * unit */
    const char *isa;
    int threads; /* 0: all processors this process may use */
};

/* Opens a device by name. Fails with the reason if it is not there; never falls back to another. */
enum oct_status oct_backend_open(const struct oct_backend_options *, oct_backend **out);
void oct_backend_close(oct_backend *);

#endif
