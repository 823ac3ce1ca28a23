#include "oracle/oracle_fixed.h"

#include "oracle/oracle_ops.h"
#include "oracle/oracle_scheme.h"

#include <math.h>
#include <stdlib.h>

float oracle_on_grid(float x, float steps)
{
    if (steps == 0.0f || !isfinite(x))
        return x;
    double n = oracle_rne(oracle_mul(x, steps));
    return oracle_mul((float)(n == 0.0 ? copysign(0.0, x) : n), oracle_over(1.0f, steps));
}

static float gradient(const struct oct_sgd_fixed_args *a, int64_t i)
{
    return oracle_add(a->dw[i], oracle_mul(a->weight_decay, a->w[i]));
}

/* NaN counts above infinity. */
static float largest_gradient(const struct oct_sgd_fixed_args *a)
{
    float largest = 0.0f;
    for (int64_t i = 0; i < a->count; i++) {
        float g = fabsf(gradient(a, i));
        if (!isnan(largest) && (isnan(g) || g > largest))
            largest = g;
    }
    return largest;
}

/* range over the power of two that is nearest in the logarithm: m 2^e is nearer to 2^e than to
 * 2^(e - 1) exactly if m^2 > 1/2. */
static float multiplier(float largest, float range)
{
    int e;
    double m = frexp(largest, &e);
    if (!(largest > 0.0f) || isinf(largest))
        return 0.0f;
    e = m * m > 0.5 ? e : e - 1;
    float inverse = oracle_fl(range / ldexp(1.0, e < 127 ? e : 127));
    return isfinite(inverse) ? inverse : 0.0f;
}

static int random_byte(const struct oct_sgd_fixed_args *a, uint32_t tensor, int64_t i)
{
    return (int)oracle_rounding_byte(a->step->seed, a->step->step, tensor, (uint64_t)i);
}

/* What a code of the gradient stands for, in units of 1 / gradient_steps. */
static float kept(const struct oct_sgd_fixed_args *a, float inverse)
{
    return a->normalise == OCT_NORMALISED_KEPT && inverse > 0.0f
               ? oracle_over(a->gradient_steps, inverse)
               : 1.0f;
}

/* `factor`: of the momentum's grid and of its codes. */
static void move(const struct oct_sgd_fixed_args *a, int64_t i, float g, float factor)
{
    float lr = a->step->lr;
    float unit =
        a->increment == OCT_INCREMENT_GRID ? *a->unit : oracle_mul(a->momentum_unit, factor);
    float moment = oracle_add(oracle_mul(a->mu, a->momentum[i]), g);
    float d = a->nesterov ? oracle_add(g, oracle_mul(a->mu, moment)) : moment;
    int byte = random_byte(a, a->tensor + (1u << 30), i);

    if (a->lr_factor && *a->lr_factor > 0.0f)
        lr = oracle_mul(lr, *a->lr_factor);
    a->momentum[i] = oracle_on_grid(moment, oracle_over(a->momentum_steps, factor));
    if (a->increment == OCT_INCREMENT_GRID && unit > 0.0f) {
        float inverse = oracle_over(1.0f, unit);
        int code = oracle_code(a->w[i], inverse, 127, -1) -
                   oracle_code(oracle_mul(lr, d), inverse, 254, byte);
        code = code > 127 ? 127 : code < -127 ? -127 : code;
        a->w[i] = oracle_mul((float)code, unit);
        return;
    }
    if (a->increment == OCT_INCREMENT_GRID)
        return;
    if (a->increment == OCT_INCREMENT_CODE)
        d = oracle_mul((float)oracle_code(d, oracle_over(1.0f, unit), 127, byte), unit);
    a->w[i] = oracle_on_grid(oracle_sub(a->w[i], oracle_mul(lr, d)), a->weight_steps);
}

void oracle_sgd_fixed(const struct oct_sgd_fixed_args *a)
{
    float inverse = 0.0f, range = a->step->gradient_range;
    double amax = 0.0;

    if (a->step->flag)
        return;
    if (a->normalise) {
        *a->gradient_amax = largest_gradient(a);
        inverse = multiplier(*a->gradient_amax, range);
    }
    for (int64_t i = 0; i < a->count; i++) {
        float g = gradient(a, i);
        int n = 0;
        if (a->normalise && inverse > 0.0f)
            n = oracle_code(g, inverse, (int)range - 1, random_byte(a, a->tensor, i));
        if (a->normalise)
            g = oracle_mul((float)n,
                kept(a, inverse) == 1.0f ? 1.0f / a->gradient_steps : oracle_over(1.0f, inverse));
        else
            g = oracle_on_grid(g, a->gradient_steps);
        move(a, i, g, kept(a, inverse));
        amax = fmax(amax, fabs((double)a->w[i]));
        if (!a->counts)
            continue;
        double momentum_steps = (double)oracle_over(a->momentum_steps, kept(a, inverse));
        double steps = fmin(fabs((double)a->momentum[i]) * momentum_steps, 0x1p24);
        a->counts[OCT_FIXED_LARGEST] = (int64_t)fmax((double)a->counts[OCT_FIXED_LARGEST], abs(n));
        a->counts[OCT_FIXED_MOMENTUM] = (int64_t)fmax((double)a->counts[OCT_FIXED_MOMENTUM], steps);
        a->counts[OCT_FIXED_ZEROS] += n == 0;
    }
    if (a->amax)
        *a->amax = (float)amax;
}
