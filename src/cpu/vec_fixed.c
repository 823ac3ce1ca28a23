/* Loops of the fixed-point update: the largest gradient of a tensor, then the update itself. */
#include "cpu/vec_fixed.h"

#include "base/rng.h"

enum { BLOCK = 1024 };

void OCT_VEC_NAME(oct_vec_fixed_amax)(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_sgd_fixed_args *a = arg;
    int64_t from = item * OCT_VEC_CHUNK, left = a->count - from;
    int n = left < OCT_VEC_CHUNK ? (int)left : OCT_VEC_CHUNK;
    const float *restrict w = a->w + from, *restrict dw = a->dw + from;
    int32_t amax = 0;
    for (int i = 0; i < n; i++) {
        int32_t magnitude = oct_magnitude(oct_fixed_gradient(w[i], dw[i], a->weight_decay));
        amax = magnitude > amax ? magnitude : amax;
    }
    oct_raise_amax(a->gradient_amax, amax);
}

/* What an item gathers. */
struct tally {
    int32_t amax, largest, momentum, zeros;
};

/* One run of at most BLOCK parameters from index `from`. */
struct run {
    const struct oct_sgd_fixed_args *args;
    struct oct_fixed_rates rates;
    float inverse, range, unit; /* of a gradient's code */
    uint32_t key, increment_key;
    int64_t from;
    int n;
};

/* Bytes of the elements from `from`, a multiple of BLOCK. */
V_INLINE const uint8_t *bytes_of(const struct run *run, uint32_t key, uint32_t *words)
{
    oct_rounding_words(key, (uint64_t)run->from >> 2, (run->n + 3) / 4, words);
    return (const uint8_t *)words;
}

V_INLINE void fixed_run(
    const struct run *run, int normalise, enum oct_increment increment, struct tally *tally)
{
    const struct oct_sgd_fixed_args *a = run->args;
    float *restrict w = a->w + run->from, *restrict momentum = a->momentum + run->from;
    const float *restrict dw = a->dw + run->from;
    uint32_t words[BLOCK / 4], increment_words[BLOCK / 4];
    const uint8_t *random = normalise ? bytes_of(run, run->key, words) : NULL;
    const uint8_t *other = NULL;
    struct oct_fixed_rates rates = run->rates;
    const float unit = run->unit;
    int32_t amax = 0, largest = 0, moving = 0, zeros = 0;

    rates.increment = increment;
    if (increment != OCT_INCREMENT_REAL)
        other = bytes_of(run, run->increment_key, increment_words);
    for (int i = 0; i < run->n; i++) {
        float g = oct_fixed_gradient(w[i], dw[i], rates.weight_decay);
        if (normalise) {
            int code = oct_fixed_code(g, run->inverse, run->range, random[i]);
            int size = code < 0 ? -code : code;
            largest = size > largest ? size : largest;
            zeros += code == 0;
            g = (float)code * unit;
        } else {
            g = oct_on_grid(g, a->gradient_steps);
        }
        oct_fixed_element(
            &w[i], &momentum[i], g, rates, increment == OCT_INCREMENT_REAL ? 0 : other[i]);
        int32_t magnitude = oct_magnitude(w[i]), moved = oct_magnitude(momentum[i]);
        amax = magnitude > amax ? magnitude : amax;
        moving = moved > moving ? moved : moving;
    }
    tally->amax = amax > tally->amax ? amax : tally->amax;
    tally->largest = largest > tally->largest ? largest : tally->largest;
    tally->momentum = moving > tally->momentum ? moving : tally->momentum;
    tally->zeros += zeros;
}

static void fixed_increments(const struct run *run, int normalise, struct tally *tally)
{
    switch (run->rates.increment) {
    case OCT_INCREMENT_CODE:
        fixed_run(run, normalise, OCT_INCREMENT_CODE, tally);
        break;
    case OCT_INCREMENT_GRID:
        fixed_run(run, normalise, OCT_INCREMENT_GRID, tally);
        break;
    case OCT_INCREMENT_REAL:
        fixed_run(run, normalise, OCT_INCREMENT_REAL, tally);
        break;
    }
}

static void raise_count(int64_t *count, int64_t value)
{
    int64_t old = __atomic_load_n(count, __ATOMIC_RELAXED);
    while (old < value &&
           !__atomic_compare_exchange_n(count, &old, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

static void publish(
    const struct oct_sgd_fixed_args *a, const struct tally *tally, float momentum_steps)
{
    if (a->amax)
        oct_raise_amax(a->amax, tally->amax);
    if (!a->counts)
        return;
    float momentum = oct_fixed_steps_of(oct_float_of_magnitude(tally->momentum), momentum_steps);
    raise_count(&a->counts[OCT_FIXED_LARGEST], tally->largest);
    raise_count(&a->counts[OCT_FIXED_MOMENTUM], (int64_t)momentum);
    __atomic_fetch_add(&a->counts[OCT_FIXED_ZEROS], tally->zeros, __ATOMIC_RELAXED);
}

void OCT_VEC_NAME(oct_vec_sgd_fixed)(void *arg, int64_t item, int thread)
{
    (void)thread;
    const struct oct_sgd_fixed_args *a = arg;
    const struct oct_step_state *step = a->step;
    int64_t from = item * OCT_VEC_CHUNK, end = from + OCT_VEC_CHUNK;
    struct tally tally = {0, 0, 0, 0};
    struct run run = {.args = a,
        .unit = 1.0f / a->gradient_steps,
        .rates = {oct_sgd_lr(step->lr, a->lr_factor), a->mu, a->weight_decay, a->momentum_steps,
            a->weight_steps, a->increment,
            a->increment == OCT_INCREMENT_GRID ? a->unit[0] : a->momentum_unit, a->nesterov},
        .key = oct_rounding_key(step->seed, step->step, a->tensor),
        .increment_key = oct_rounding_key(step->seed, step->step, a->tensor + OCT_INCREMENT_BITS)};

    if (a->normalise) {
        run.range = step->gradient_range;
        run.inverse = oct_fixed_inverse(a->gradient_amax[0], run.range);
        if (a->normalise == OCT_NORMALISED_KEPT)
            run.unit = oct_fixed_keep(&run.rates, run.inverse, a->gradient_steps);
    }
    end = end < a->count ? end : a->count;
    for (run.from = from; run.from < end; run.from += run.n) {
        run.n = end - run.from < BLOCK ? (int)(end - run.from) : BLOCK;
        if (a->normalise)
            fixed_increments(&run, 1, &tally);
        else
            fixed_increments(&run, 0, &tally);
    }
    publish(a, &tally, run.rates.momentum_steps);
}
