/* Scheme dai8 for one convolution, written from its description (docs/schemes.md): which channels
 * are bells, at what value each is clipped, and the codes that follow. Needs subnormals flushed
 * like the ops it judges (oct_cpu_flush_subnormals in the calling thread). */
#ifndef ORACLE_DAI8_H
#define ORACLE_DAI8_H

#include <stdint.h>

enum { ORACLE_DAI8_CHANNELS = 512 };
enum { ORACLE_DAI8_BELL = 1, ORACLE_DAI8_TAIL = 2 }; /* labels; 0: none yet */

/* One copy of dY. */
struct oracle_dai8 {
    int groups; /* scales: one per channel, or 1 */
    int code_max;
    int adaptive; /* 0: s = |g|max in every step */
    float k, a, lambda;
    /* state */
    float s[ORACLE_DAI8_CHANNELS];
    uint8_t label[ORACLE_DAI8_CHANNELS];
    uint8_t live[ORACLE_DAI8_CHANNELS]; /* 0: all errors of this step are 0 */
};

/* What the rule decides by. */
struct oracle_dai8_evidence {
    float gmax[ORACLE_DAI8_CHANNELS];    /* per channel */
    int64_t above[ORACLE_DAI8_CHANNELS]; /* |g| > sigma, per channel */
    int64_t above_all;                   /* |g| > sigma_all */
};

/* From dy[rows, channels], sigma[channels] and sigma_all. */
void oracle_dai8_measure(const float *dy, int64_t rows, int channels, const float *sigma,
    float sigma_all, struct oracle_dai8_evidence *out);
/* Labels and clip values of the next tensor of rows x channels. */
void oracle_dai8_update(struct oracle_dai8 *rule, const struct oracle_dai8_evidence *evidence,
    int64_t rows, int channels);
/* Code of g in channel c; random_byte < 0: nearest. */
int oracle_dai8_code(const struct oracle_dai8 *rule, int c, float g, int random_byte);
/* Largest difference between the analytic variance of dY and E[dY^2] - E[dY]^2 of the tensor that
 * is made from a rounded y: see the definition. */
double oracle_dai8_variance_slack(
    double a, double m1, double m2, double dz_square, double xhat_error);

#endif
