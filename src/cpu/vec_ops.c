/* Elementwise loops: quantise, regrid, compensate, barriers, image, loss, sgd, ema. Reductions are
 * in vec_reduce.c, pooling in vec_pool.c, updates in fixed point in vec_fixed.c. */
#include "cpu/vec_fixed.h"
#include "cpu/vec_reduce.h"

#include "base/rng.h"

enum { BLOCK = 1024, LOSS_BLOCK = 64, GRID_BLOCK = 64 };

/* One run of at most BLOCK elements of a tensor to be quantised. */
struct run {
    const void *x;
    const float *inverse; /* one per element */
    int n, code_max;
    enum oct_grid grid;
    uint32_t key;
    uint64_t element; /* global index of the first element: keys the random bytes */
    int8_t *q, *q_lo;
    int32_t clipped, not_finite;
};

V_INLINE void quantise_run(
    struct run *run, enum oct_dtype dtype, enum oct_rounding rounding, int planes)
{
    uint32_t words[BLOCK / 4 + 1];
    const uint8_t *random = (const uint8_t *)words + (run->element & 3);
    const float *inverse = run->inverse;
    int8_t *restrict q_hi = run->q, *restrict q_lo = run->q_lo;
    int32_t clipped = 0, magnitude = 0;
    int code_max = run->code_max;
    float limit = (float)code_max;

    if (rounding == OCT_STOCHASTIC)
        oct_rounding_words(
            run->key, run->element >> 2, ((int)(run->element & 3) + run->n + 3) / 4, words);
    for (int i = 0; i < run->n; i++) {
        float x = oct_load(run->x, dtype, i);
        int32_t m = oct_magnitude(x);
        magnitude = m > magnitude ? m : magnitude;
        clipped += fabsf(x * inverse[i]) > limit;
        int q = rounding == OCT_STOCHASTIC
                    ? oct_quantise_stochastic(x, inverse[i], code_max, random[i])
                    : oct_quantise(x, inverse[i], code_max);
        q_hi[i] = (int8_t)(planes == 2 ? oct_plane_hi(q) : q);
        if (planes == 2)
            q_lo[i] = (int8_t)oct_plane_lo(q);
    }
    run->clipped += clipped;
    run->not_finite |= magnitude >= OCT_INF_BITS;
}

V_INLINE void quantise_as(struct run *run, enum oct_dtype dtype, enum oct_rounding rounding)
{
    if (run->q_lo)
        quantise_run(run, dtype, rounding, 2);
    else
        quantise_run(run, dtype, rounding, 1);
}

/* A grid that is not uniform. */
static void quantise_grid(struct run *run, enum oct_dtype dtype)
{
    int32_t clipped = 0, magnitude = 0, code[GRID_BLOCK];
    float v[GRID_BLOCK];
    for (int i0 = 0; i0 < run->n; i0 += GRID_BLOCK) {
        int n = run->n - i0 < GRID_BLOCK ? run->n - i0 : GRID_BLOCK;
        for (int i = 0; i < n; i++) {
            float x = oct_load(run->x, dtype, i0 + i);
            int32_t m = oct_magnitude(x);
            magnitude = m > magnitude ? m : magnitude;
            v[i] = x * run->inverse[i0 + i];
            clipped += fabsf(v[i]) > (float)run->code_max;
        }
        oct_grid_codes(run->grid, v, n, run->code_max, code);
        for (int i = 0; i < n; i++)
            run->q[i0 + i] = (int8_t)(run->q_lo ? oct_plane_hi(code[i]) : code[i]);
        for (int i = 0; run->q_lo && i < n; i++)
            run->q_lo[i0 + i] = (int8_t)oct_plane_lo(code[i]);
    }
    run->clipped += clipped;
    run->not_finite |= magnitude >= OCT_INF_BITS;
}

static void quantise_block(struct run *run, enum oct_dtype dtype, enum oct_rounding rounding)
{
    if (run->grid != OCT_GRID_UNIFORM)
        quantise_grid(run, dtype);
    else if (dtype == OCT_BF16 && rounding == OCT_STOCHASTIC)
        quantise_as(run, OCT_BF16, OCT_STOCHASTIC);
    else if (dtype == OCT_BF16)
        quantise_as(run, OCT_BF16, OCT_NEAREST);
    else if (rounding == OCT_STOCHASTIC)
        quantise_as(run, OCT_F32, OCT_STOCHASTIC);
    else
        quantise_as(run, OCT_F32, OCT_NEAREST);
}

/* Spreads the multipliers over a run: one value, or those of several short rows. Returns the
 * length of the pattern, a multiple of `channels` unless there is one multiplier. */
static int spread_inverse(const struct oct_quantise_args *a, float *pattern)
{
    int period = a->range.count == 1 ? 1 : a->channels;
    int length = BLOCK / period * period;
    for (int i = 0; i < length; i++)
        pattern[i] = a->range.inverse[i < period ? i : i % period];
    return length;
}

static void quantise(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_quantise_args *a = arg;
    float pattern[BLOCK];
    int64_t per_item = oct_vec_quantise_rows(a->channels);
    int64_t first = item * per_item * a->channels;
    int64_t end = (item + 1) * per_item * a->channels;
    int64_t total = a->rows * a->channels;
    int wide = a->range.count > 1 && a->channels > BLOCK; /* rows longer than a run */
    int length = wide ? BLOCK : spread_inverse(a, pattern);
    struct run run = {.code_max = a->range.code_max, .grid = a->range.grid, .inverse = pattern};
    uint64_t base = 0;

    if (a->rounding == OCT_STOCHASTIC) {
        run.key = oct_rounding_key(a->step->seed, a->step->step, a->tensor);
        base = (uint64_t)a->step->first_sample * (uint64_t)(a->rows_per_sample * a->channels);
    }
    end = end < total ? end : total;
    for (int64_t i = first; i < end; i += run.n) {
        int64_t left = end - i;
        if (wide) {
            int c = (int)(i % a->channels);
            left = a->channels - c < left ? a->channels - c : left;
            run.inverse = a->range.inverse + c;
        }
        run.n = left < length ? (int)left : length;
        run.x = (const char *)a->x + (size_t)i * oct_dtype_bytes(a->dtype);
        run.q = a->q + i;
        run.q_lo = a->q_lo ? a->q_lo + i : NULL;
        run.element = base + (uint64_t)i;
        quantise_block(&run, a->dtype, a->rounding);
    }
    if (run.not_finite)
        oct_raise(a->flag);
    if (a->saturated && run.clipped)
        __atomic_fetch_add(a->saturated, run.clipped, __ATOMIC_RELAXED);
}

V_INLINE void regrid_run(
    const struct oct_regrid_args *a, enum oct_dtype dtype, enum oct_grid grid, int64_t from, int n)
{
    void *x = (char *)a->x + (size_t)from * oct_dtype_bytes(dtype);
    const float inverse = a->range.inverse[0], scale = a->range.scale[0];
    const int code_max = a->range.code_max;
    int32_t clipped = 0, magnitude = 0;
    for (int i = 0; i < n; i++) {
        float v = oct_load(x, dtype, i);
        int32_t m = oct_magnitude(v);
        magnitude = m > magnitude ? m : magnitude;
        clipped += fabsf(v * inverse) > (float)code_max;
        oct_store(
            x, dtype, i, oct_real_of_code(oct_quantise_on(grid, v, inverse, code_max), scale));
    }
    if (magnitude >= OCT_INF_BITS)
        oct_raise(a->flag);
    if (a->saturated)
        __atomic_fetch_add(a->saturated, (int64_t)clipped, __ATOMIC_RELAXED);
}

static void regrid_codes(const struct oct_regrid_args *a, int64_t from, int n)
{
    if (a->dtype == OCT_BF16 && a->range.grid == OCT_GRID_FLAG)
        regrid_run(a, OCT_BF16, OCT_GRID_FLAG, from, n);
    else if (a->dtype == OCT_BF16)
        regrid_run(a, OCT_BF16, OCT_GRID_UNIFORM, from, n);
    else if (a->range.grid == OCT_GRID_FLAG)
        regrid_run(a, OCT_F32, OCT_GRID_FLAG, from, n);
    else
        regrid_run(a, OCT_F32, OCT_GRID_UNIFORM, from, n);
}

/* Other grids, as the definition has them; of mu-law numbers each is made once, not for each
 * element.
 */
static void regrid_numbers(const struct oct_regrid_args *a, int64_t from, int n)
{
    void *x = (char *)a->x + (size_t)from * oct_dtype_bytes(a->dtype);
    const struct oct_steps steps = {a->range.scale[0], a->range.inverse[0]};
    const float clip = a->range.clip[0];
    const int code_max = a->range.code_max, mu_law = a->range.grid == OCT_GRID_MU8_NUMBER;
    float number[OCT_CODE_MAX + 1];
    int64_t clipped = 0;
    for (int c = 0; mu_law && c <= OCT_CODE_MAX; c++)
        number[c] = clip * oct_mu8_number(c);
    for (int i = 0; i < n; i++) {
        float real, value = oct_load(x, a->dtype, i), v = value * steps.inverse;
        if (oct_not_finite(value))
            oct_raise(a->flag);
        clipped += fabsf(v) > (float)code_max;
        if (mu_law) {
            v = oct_clampf(v, (float)code_max);
            real = number[(int)oct_mu8_storage(fabsf(v), code_max)];
            real = v < 0.0f ? 0.0f - real : real;
        } else {
            real = oct_real_on(a->range.grid, value, steps, clip, code_max);
        }
        oct_store(x, a->dtype, i, real);
    }
    if (a->saturated && a->range.grid != OCT_GRID_OPEN)
        __atomic_fetch_add(a->saturated, clipped, __ATOMIC_RELAXED);
}

static void regrid(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_regrid_args *a = arg;
    int64_t from = item * OCT_VEC_CHUNK, left = a->count - from;
    int n = left < OCT_VEC_CHUNK ? (int)left : OCT_VEC_CHUNK;
    if (a->range.grid == OCT_GRID_UNIFORM || a->range.grid == OCT_GRID_FLAG)
        regrid_codes(a, from, n);
    else
        regrid_numbers(a, from, n);
}

V_INLINE void compensate_run(
    const struct oct_compensate_args *a, enum oct_dtype dtype, int64_t from, int n)
{
    float term[OCT_VEC_PLACES];
    for (int i = 0; i < n; i++)
        term[i] = oct_compensation(a->alpha[from + i], a->mu[from + i], a->offset[from + i]);
    for (int s = 0; s < a->samples; s++) {
        const float *x = a->x + s * a->count + from;
        void *y = (char *)a->y + (size_t)(s * a->count + from) * oct_dtype_bytes(dtype);
        for (int i = 0; i < n; i++)
            oct_store(y, dtype, i, x[i] + term[i]);
    }
}

static void compensate(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_compensate_args *a = arg;
    int64_t from = item * OCT_VEC_PLACES, left = a->count - from;
    int n = left < OCT_VEC_PLACES ? (int)left : OCT_VEC_PLACES;
    if (a->y_dtype == OCT_BF16)
        compensate_run(a, OCT_BF16, from, n);
    else
        compensate_run(a, OCT_F32, from, n);
}

/* `n` elements of each sample; samples are `stride` apart. */
V_INLINE void add_samples(
    int32_t *restrict sum, const int8_t *q, int samples, int64_t stride, int n)
{
    for (int s = 0; s < samples; s++) {
        const int8_t *restrict row = q + s * stride;
        for (int i = 0; i < n; i++)
            sum[i] += row[i];
    }
}

V_INLINE void write_gradients(float *restrict to, const float *restrict from, int n, int accumulate)
{
    for (int i = 0; i < n; i++)
        to[i] = accumulate ? to[i] + from[i] : from[i];
}

static void compensate_bwd(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_compensate_bwd_args *a = arg;
    const int64_t from = item * OCT_VEC_PLACES, left = a->count - from;
    const int n = left < OCT_VEC_PLACES ? (int)left : OCT_VEC_PLACES;
    const int accumulate = a->mode == OCT_ACCUMULATE;
    const float *restrict alpha = a->alpha + from, *restrict mu = a->mu + from;
    int32_t hi[OCT_VEC_PLACES] = {0}, lo[OCT_VEC_PLACES] = {0};
    float d[OCT_VEC_PLACES], alpha_d[OCT_VEC_PLACES], mu_d[OCT_VEC_PLACES];

    add_samples(hi, a->dy + from, a->samples, a->count, n);
    if (a->dy_lo)
        add_samples(lo, a->dy_lo + from, a->samples, a->count, n);
    for (int i = 0; i < n; i++) {
        const float sum = (float)(a->dy_lo ? oct_combine_planes(hi[i], lo[i]) : hi[i]);
        d[i] = sum * a->scale[0];
        alpha_d[i] = alpha[i] * d[i];
        mu_d[i] = mu[i] * d[i];
    }
    write_gradients(a->doffset + from, d, n, accumulate);
    write_gradients(a->dmu + from, alpha_d, n, accumulate);
    write_gradients(a->dalpha + from, mu_d, n, accumulate);
}

/* sum g q and sum q^2 of one candidate over n elements, g the fine codes. */
V_INLINE void search_candidate(
    const float *x, const int32_t *g, int n, float inverse, int code_max, int64_t *gq, int64_t *q2)
{
    int64_t both = 0, square = 0;
    for (int i = 0; i < n; i++) {
        int64_t q = oct_quantise(x[i], inverse, code_max);
        both += q * g[i];
        square += q * q;
    }
    *gq += both;
    *q2 += square;
}

static void search(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_search_job *job = arg;
    const struct oct_cosine_search_args *a = job->args;
    int64_t end = a->rows * a->channels, first = item * OCT_VEC_CHUNK;
    int64_t sums[OCT_SEARCH_SUMS] = {0};
    float fine = oct_inverse_of_clip(job->amax, OCT_CODE16_MAX), x[BLOCK];
    int32_t g[BLOCK];

    end = first + OCT_VEC_CHUNK < end ? first + OCT_VEC_CHUNK : end;
    for (int64_t at = first; at < end; at += BLOCK) {
        int n = end - at < BLOCK ? (int)(end - at) : BLOCK;
        for (int i = 0; i < n; i++) {
            x[i] = oct_load(a->x, a->dtype, at + i);
            g[i] = oct_quantise(x[i], fine, OCT_CODE16_MAX);
            sums[0] += (int64_t)g[i] * g[i];
        }
        for (int j = 0; j < a->candidates; j++)
            search_candidate(x, g, n, oct_inverse_of_clip(a->factor[j] * job->amax, a->code_max),
                a->code_max, &sums[1 + j], &sums[1 + OCT_SEARCH_CANDIDATES + j]);
    }
    for (int k = 0; k < OCT_SEARCH_SUMS; k++)
        __atomic_fetch_add(&a->sums[k], sums[k], __ATOMIC_RELAXED);
}

V_INLINE void image_rows(
    const struct oct_image_args *a, enum oct_dtype dtype, int in, int out, int64_t from, int64_t to)
{
    float slope[4], offset[4];
    const uint8_t *restrict image_in = a->image;
    void *restrict x = a->x;
    memcpy(slope, a->a, sizeof slope);
    memcpy(offset, a->b, sizeof offset);
    for (int64_t row = from; row < to; row++) {
        for (int c = 0; c < in; c++) {
            float v = oct_affine((float)image_in[row * in + c], slope[c], offset[c]);
            oct_store(x, dtype, row * out + c, v);
        }
        for (int c = in; c < out; c++)
            oct_store(x, dtype, row * out + c, 0.0f);
    }
}

static void image(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_image_args *a = arg;
    int64_t from = item * OCT_VEC_IMAGE, to = from + OCT_VEC_IMAGE;
    to = to < a->rows ? to : a->rows;
    if (a->x_dtype == OCT_BF16 && a->channels == 3 && a->channels_out == 4)
        image_rows(a, OCT_BF16, 3, 4, from, to);
    else if (a->x_dtype == OCT_BF16)
        image_rows(a, OCT_BF16, a->channels, a->channels_out, from, to);
    else if (a->channels == 3 && a->channels_out == 3)
        image_rows(a, OCT_F32, 3, 3, from, to);
    else if (a->channels == 3 && a->channels_out == 4)
        image_rows(a, OCT_F32, 3, 4, from, to);
    else
        image_rows(a, OCT_F32, a->channels, a->channels_out, from, to);
}

/* d_j = fl(x_j - max), e_j = exp(d_j) of up to LOSS_BLOCK classes from j0 on. */
V_INLINE int exponentials(const float *x, float max, int j0, int k, float *d, float *e)
{
    int n = k - j0 < LOSS_BLOCK ? k - j0 : LOSS_BLOCK;
    for (int l = 0; l < n; l++) {
        d[l] = x[j0 + l] - max;
        e[l] = oct_expf_nonpositive(d[l]);
    }
    return n;
}

static void loss_gradient(
    const struct oct_loss_args *a, const float *x, float max, float sum, int label, float *out)
{
    float d[LOSS_BLOCK], e[LOSS_BLOCK];
    float off = oct_loss_target(0, a->smoothing, a->k);
    float on = oct_loss_target(1, a->smoothing, a->k);
    for (int j0 = 0; j0 < a->k; j0 += LOSS_BLOCK) {
        int n = exponentials(x, max, j0, a->k, d, e);
        for (int l = 0; l < n; l++) {
            float target = j0 + l == label ? on : off;
            out[j0 + l] = oct_loss_gradient(e[l], sum, target, a->grad_scale);
        }
    }
}

static void loss(void *arg, int64_t sample, int thread)
{
    (void)thread;
    const struct oct_loss_args *a = arg;
    const float *x = a->logits + sample * a->k;
    int label = a->labels[sample], not_below = 0;
    float d[LOSS_BLOCK], e[LOSS_BLOCK], max = x[0];
    double sum_e = 0.0, sum_d = 0.0;

    for (int j = 0; j < a->k; j++) {
        max = x[j] > max ? x[j] : max;
        not_below += !(x[j] < x[label]);
    }
    for (int j0 = 0; j0 < a->k; j0 += LOSS_BLOCK) {
        int n = exponentials(x, max, j0, a->k, d, e);
        for (int l = 0; l < n; l++) {
            sum_e += (double)e[l];
            sum_d += (double)d[l];
        }
    }
    float sum = (float)sum_e, mean_d = (float)(sum_d / a->k);
    float value = oct_loss_of(oct_logf_from_one(sum), x[label] - max, mean_d, a->smoothing);
    a->loss[sample] = value;
    a->top1[sample] = not_below - 1 < 1; /* the label itself is among the not below */
    a->top5[sample] = not_below - 1 < (a->k < 5 ? a->k : 5);
    if (oct_not_finite(value))
        oct_raise(a->flag);
    if (a->dlogits)
        loss_gradient(a, x, max, sum, label, a->dlogits + sample * a->k);
}

V_INLINE int32_t sgd_run(const struct oct_sgd_args *a, int64_t from, int n, int nesterov)
{
    float *restrict w = a->w + from, *restrict momentum = a->momentum + from;
    const float *restrict dw = a->dw + from;
    const struct oct_sgd_rates rates = {
        oct_sgd_lr(a->step->lr, a->lr_factor), a->mu, a->weight_decay, nesterov};
    int32_t amax = 0;
    for (int i = 0; i < n; i++) {
        oct_sgd_element(&w[i], &momentum[i], dw[i], rates);
        int32_t magnitude = oct_magnitude(w[i]);
        amax = magnitude > amax ? magnitude : amax;
    }
    return amax;
}

/* Sums of magnitudes, in loops that are vectorised. */
V_INLINE int64_t sum_magnitudes(const float *restrict x, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += oct_fixed_magnitude(x[i]);
    return sum;
}

static int32_t sgd_barrier_run(const struct oct_sgd_args *a, int64_t from, int n)
{
    float *restrict w = a->w + from, *restrict momentum = a->momentum + from;
    const float *restrict dw = a->dw + from;
    const struct oct_sgd_rates rates = {
        oct_sgd_lr(a->step->lr, a->lr_factor), a->mu, a->weight_decay, a->nesterov};
    const float t = a->step->temperature, tau = a->barrier.tau, lam = a->barrier.lam;
    float p[BLOCK], sum[BLOCK];
    int32_t amax = 0;

    for (int i = 0; i < n; i++) {
        p[i] = oct_barrier_gradient(w[i], tau, t, lam);
        sum[i] = dw[i] + p[i];
    }
    for (int i = 0; i < n; i++) {
        oct_sgd_element(&w[i], &momentum[i], dw[i], rates);
        w[i] = w[i] - rates.lr * p[i];
        int32_t magnitude = oct_magnitude(w[i]);
        amax = magnitude > amax ? magnitude : amax;
    }
    __atomic_fetch_add(&a->barrier.sums[0], sum_magnitudes(p, n), __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->barrier.sums[1], sum_magnitudes(sum, n), __ATOMIC_RELAXED);
    return amax;
}

V_INLINE void load_block(float *restrict to, enum oct_dtype dtype, const void *from, int n)
{
    if (dtype == OCT_S8)
        for (int i = 0; i < n; i++)
            to[i] = (float)((const int8_t *)from)[i];
    else if (dtype == OCT_BF16)
        for (int i = 0; i < n; i++)
            to[i] = oct_load(from, OCT_BF16, i);
    else
        for (int i = 0; i < n; i++)
            to[i] = oct_load(from, OCT_F32, i);
}

V_INLINE void store_block(void *to, enum oct_dtype dtype, const float *restrict from, int n)
{
    if (dtype == OCT_BF16)
        for (int i = 0; i < n; i++)
            oct_store(to, OCT_BF16, i, from[i]);
    else
        for (int i = 0; i < n; i++)
            oct_store(to, OCT_F32, i, from[i]);
}

/* Loops of their own for every width of element: together they are not vectorised. */
static void barrier_bwd(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_barrier_bwd_args *a = arg;
    const float t = a->step->temperature, tau = a->barrier.tau, lam = a->barrier.lam;
    const float scale = a->x_dtype == OCT_S8 ? a->x_scale[0] : 1.0f;
    const int64_t left = a->count - item * OCT_VEC_CHUNK, first = item * OCT_VEC_CHUNK;
    const int64_t end = first + (left < OCT_VEC_CHUNK ? left : OCT_VEC_CHUNK);
    int64_t barrier = 0, all = 0;

    for (int64_t from = first; from < end; from += BLOCK) {
        const int n = end - from < BLOCK ? (int)(end - from) : BLOCK;
        void *da = (char *)a->da + (size_t)from * oct_dtype_bytes(a->da_dtype);
        float x[BLOCK], sum[BLOCK];
        load_block(x, a->x_dtype, (const char *)a->x + from * (int)oct_dtype_bytes(a->x_dtype), n);
        load_block(sum, a->da_dtype, da, n);
        for (int i = 0; i < n; i++)
            x[i] = oct_barrier_gradient(x[i] * scale, tau, t, lam);
        for (int i = 0; i < n; i++)
            sum[i] = sum[i] + x[i];
        barrier += sum_magnitudes(x, n);
        all += sum_magnitudes(sum, n);
        store_block(da, a->da_dtype, sum, n);
    }
    if (!a->barrier.sums)
        return;
    __atomic_fetch_add(&a->barrier.sums[0], barrier, __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->barrier.sums[1], all, __ATOMIC_RELAXED);
}

static void sgd(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_sgd_args *a = arg;
    int64_t from = item * OCT_VEC_CHUNK, left = a->count - from;
    int n = left < OCT_VEC_CHUNK ? (int)left : OCT_VEC_CHUNK;
    int32_t amax = 0;
    if (a->barrier.lam > 0.0f)
        for (int i = 0; i < n; i += BLOCK) {
            int32_t of_block = sgd_barrier_run(a, from + i, n - i < BLOCK ? n - i : BLOCK);
            amax = of_block > amax ? of_block : amax;
        }
    else
        amax = a->nesterov ? sgd_run(a, from, n, 1) : sgd_run(a, from, n, 0);
    if (a->amax)
        oct_raise_amax(a->amax, amax);
}

static void ema(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_ema_args *a = arg;
    int64_t from = item * OCT_VEC_CHUNK, left = a->count - from;
    int n = left < OCT_VEC_CHUNK ? (int)left : OCT_VEC_CHUNK;
    float *restrict average = a->average + from;
    const float *restrict value = a->value + from;
    float rate = 1.0f - a->decay;
    for (int i = 0; i < n; i++)
        average[i] = oct_ema_of(average[i], value[i], rate);
}

const struct oct_vec_ops OCT_VEC_NAME(oct_vec_ops) = {
    .stats_chunk = OCT_VEC_NAME(oct_vec_stats_chunk),
    .stats_merge = OCT_VEC_NAME(oct_vec_stats_merge),
    .sum_chunk = OCT_VEC_NAME(oct_vec_sum_chunk),
    .sum_merge = OCT_VEC_NAME(oct_vec_sum_merge),
    .count_chunk = OCT_VEC_NAME(oct_vec_count_chunk),
    .count_merge = OCT_VEC_NAME(oct_vec_count_merge),
    .search = search,
    .quantise = quantise,
    .regrid = regrid,
    .barrier_bwd = barrier_bwd,
    .compensate = compensate,
    .compensate_bwd = compensate_bwd,
    .pool = OCT_VEC_NAME(oct_vec_pool),
    .pool_bwd = OCT_VEC_NAME(oct_vec_pool_bwd),
    .image = image,
    .loss = loss,
    .sgd = sgd,
    .ema = ema,
    .act_shift = OCT_VEC_NAME(oct_vec_act_shift),
    .fixed_amax = OCT_VEC_NAME(oct_vec_fixed_amax),
    .sgd_fixed = OCT_VEC_NAME(oct_vec_sgd_fixed),
};
