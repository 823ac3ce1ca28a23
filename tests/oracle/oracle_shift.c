#include "oracle/oracle_shift.h"

#include <math.h>

/* Every number here is an integer below 2^53 times a power of two: double has no rounding error. */

static double half_up(double x)
{
    return floor(x + 0.5);
}

static double between(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

int oracle_shift_code(int64_t v, int right, int lowest)
{
    if (right >= 31)
        return 0;
    return (int)between(half_up(ldexp((double)v, -right)), lowest, 127.0);
}

/* x as an integer of magnitude 64 to 127 times a power of two. */
static double fixed(double x, int *exponent)
{
    int e = 0;
    frexp(x, &e); /* |x| in [2^(e - 1), 2^e) */
    *exponent = 0;
    if (x == 0.0 || e - 1 < -100)
        return 0.0;
    *exponent = e - 7;
    return between(nearbyint(ldexp(x, 7 - e)), -127.0, 127.0);
}

static int exponent_of(float unit)
{
    int e = 0;
    return unit > 0.0f ? frexpf(unit, &e) == 0.5f ? e - 1 : e : 0;
}

static int within(int x, int low, int high)
{
    return x < low ? low : x > high ? high : x;
}

static void sums_unit(const struct oct_shift_finalize_args *g, int of_y, int *unit, int by[2])
{
    *unit = of_y;
    by[0] = by[1] = 0;
    if (!g->residual_scale)
        return;
    int of_residual = exponent_of(g->residual_scale[0]);
    int low = of_y < of_residual ? of_y : of_residual;
    int high = of_y + of_residual - low;
    *unit = high - low > 12 ? high - 12 : low;
    by[0] = within(of_y - *unit, -31, 12);
    by[1] = within(of_residual - *unit, -31, 12);
}

static int32_t integer_bias(const struct oct_shift_finalize_args *g, int c, int unit)
{
    int e = 0;
    double most = ldexp(1.0, 29), code = 0.0;
    if (g->bias)
        code = fixed((double)g->bias[g->bias_count == 1 ? 0 : c], &e);
    if (code != 0.0 && e - unit > 22)
        return (int32_t)(code > 0.0 ? most : -most);
    int by = e - unit < -31 ? -31 : e - unit;
    return (int32_t)half_up(ldexp(code, by));
}

static void find_amax(const struct oct_shift_finalize_args *g)
{
    for (int c = 0; c < g->channels; c++) {
        double low = (double)g->acc->min[c] + g->shift.bias[c], high;
        high = (double)g->acc->max[c] + g->shift.bias[c];
        double largest = high > 0.0 ? high : 0.0;
        if (!g->relu && -low > largest)
            largest = -low;
        g->amax[c] = (float)largest * (float)ldexp(1.0, g->shift.by[OCT_SHIFT_UNIT]);
    }
}

void oracle_shift_finalize(const struct oct_shift_finalize_args *g)
{
    float uy = g->w_scale ? g->y_scale[0] * g->w_scale[0] : g->y_scale[0];
    double factor = 1.0;
    int e = 0, unit, by[2];

    if (g->acc) {
        find_amax(g);
        return;
    }
    if (g->scale)
        factor = fixed((double)g->scale[0], &e);
    if (g->window > 1) {
        factor = nearbyint((double)(float)(4194304.0 / g->window));
        e = -22;
    }
    sums_unit(g, exponent_of(uy) + e, &unit, by);
    g->shift.by[OCT_SHIFT_MULTIPLIER] = (int32_t)factor;
    g->shift.by[OCT_SHIFT_Y] = by[0];
    g->shift.by[OCT_SHIFT_RESIDUAL] = by[1];
    g->shift.by[OCT_SHIFT_RIGHT] =
        g->x_scale[0] > 0.0f ? within(exponent_of(g->x_scale[0]) - unit, -20, 31) : 31;
    g->shift.by[OCT_SHIFT_UNIT] = unit;
    for (int c = 0; c < g->channels; c++) {
        g->shift.bias[c] = integer_bias(g, c, unit);
        if (!g->a)
            continue;
        g->a[c] = g->scale ? (float)ldexp(factor, e) : 1.0f;
        g->b[c] = g->jx[c] = 0.0f;
        g->ix[c] = g->result ? g->x_scale[0] : uy;
    }
}

static double moved(double v, int by)
{
    return half_up(ldexp(v, by));
}

void oracle_act_shift(const struct oct_act_shift_args *a)
{
    const int32_t *by = a->shift.by;
    double largest = 0.0;
    for (int64_t i = 0; i < a->rows * a->channels; i++) {
        double y = a->y_dtype == OCT_S8 ? ((const int8_t *)a->y)[i] : ((const int32_t *)a->y)[i];
        double v = moved(by[OCT_SHIFT_MULTIPLIER] * y, by[OCT_SHIFT_Y]);
        v += a->shift.bias[i % a->channels];
        if (a->residual)
            v += moved(a->residual[i], by[OCT_SHIFT_RESIDUAL]);
        if (a->mask && i % 8 == 0)
            a->mask[i / 8] = 0;
        if (a->mask && v > 0.0)
            a->mask[i / 8] |= (uint8_t)(1u << (i % 8));
        double size = a->relu && v < 0.0 ? 0.0 : fabs(v);
        largest = size > largest ? size : largest;
        a->x[i] = (int8_t)oracle_shift_code((int64_t)v, by[OCT_SHIFT_RIGHT], a->relu ? 0 : -127);
    }
    if (a->amax)
        a->amax[0] = (float)largest * (float)ldexp(1.0, by[OCT_SHIFT_UNIT]);
}
