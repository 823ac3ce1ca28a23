#include "oracle/oracle_dai8.h"

#include <math.h>

/* One float operation each. */
static float times(float x, float y)
{
    return (float)((double)x * (double)y);
}

static float plus(float x, float y)
{
    return (float)((double)x + (double)y);
}

static float over(float x, float y)
{
    return (float)((double)x / (double)y);
}

void oracle_dai8_measure(const float *dy, int64_t rows, int channels, const float *sigma,
    float sigma_all, struct oracle_dai8_evidence *out)
{
    out->above_all = 0;
    for (int c = 0; c < channels; c++) {
        out->gmax[c] = 0.0f;
        out->above[c] = 0;
        for (int64_t row = 0; row < rows; row++) {
            float g = fabsf(dy[row * channels + c]);
            if (g > out->gmax[c])
                out->gmax[c] = g;
            if (g > sigma[c])
                out->above[c]++;
            if (g > sigma_all)
                out->above_all++;
        }
    }
}

/* bell: s = gmax;  inverted T: s = (1 - k A) s + A gmax, started anew where the last step's label
 * was not inverted T. */
static float next_clip(const struct oracle_dai8 *rule, float s, int label, int before, float gmax)
{
    if (!rule->adaptive || label == ORACLE_DAI8_BELL || before != ORACLE_DAI8_TAIL)
        return gmax;
    float keep = plus(1.0f, -times(rule->k, rule->a));
    return plus(times(keep, s), times(rule->a, gmax));
}

void oracle_dai8_update(struct oracle_dai8 *rule, const struct oracle_dai8_evidence *evidence,
    int64_t rows, int channels)
{
    for (int i = 0; i < rule->groups; i++) {
        int whole = rule->groups == 1;
        double n = (double)rows * (whole ? channels : 1);
        double share = (double)(whole ? evidence->above_all : evidence->above[i]) / n;
        float gmax = evidence->gmax[i];
        for (int c = 0; whole && c < channels; c++)
            gmax = evidence->gmax[c] > gmax ? evidence->gmax[c] : gmax;
        rule->live[i] = gmax > 0.0f;
        if (!rule->live[i])
            continue;
        int label = share > (double)rule->lambda ? ORACLE_DAI8_BELL : ORACLE_DAI8_TAIL;
        rule->s[i] = next_clip(rule, rule->s[i], label, rule->label[i], gmax);
        if (rule->adaptive)
            rule->label[i] = (uint8_t)label;
    }
}

int oracle_dai8_code(const struct oracle_dai8 *rule, int c, float g, int random_byte)
{
    int i = rule->groups == 1 ? 0 : c;
    double limit = rule->code_max;
    if (!rule->live[i])
        return 0;
    double v = times(g, over((float)rule->code_max, rule->s[i]));
    v = v > limit ? limit : v < -limit ? -limit : v;
    if (random_byte < 0)
        return (int)nearbyint(v);
    return (int)floor((nearbyint(256.0 * v) + random_byte) / 256.0);
}

/* dY = a (dz - m1 - xhat m2) with xhat of the y that was stored, off by at most e from that of the
 * statistics: |E[xhat]| <= e and |E[xhat^2] - (1 - eps ix^2)| <= 2 e + e^2 (E[xhat^2] <= 1 before).
 * In exact arithmetic the variance is then off by m2^2 (E[xhat^2] - E[xhat]^2 - (1 - eps ix^2)) + 2
 * m1 m2 E[xhat], below m2^2 (2 e + 2 e^2) + 2 |m1 m2| e. The float sums of 256 terms add 256 2^-24
 * of E[dz^2] each, in three sums, and each dY has four roundings: 2^-13 of E[dz^2] covers both. */
double oracle_dai8_variance_slack(
    double a, double m1, double m2, double dz_square, double xhat_error)
{
    double e = xhat_error;
    double square = m2 * m2 * (2.0 * e + 2.0 * e * e) + 2.0 * fabs(m1 * m2) * e;
    return a * a * (square + ldexp(dz_square, -13));
}
