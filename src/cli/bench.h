/* What octet bench measures, and how it reports it. */
#ifndef OCT_CLI_BENCH_H
#define OCT_CLI_BENCH_H

#include "options.h"

#define OCT_CONTENDERS_MAX 20

/* One precision (and scheme) of a model. */
struct oct_contender {
    const char *precision, *scheme; /* scheme "" unless int8 */
    oct_trainer *trainer;
    double *seconds; /* [rounds] of a step, waiting for images included */
    int flagged;     /* timed steps that met a non-finite value */
};

struct oct_bench {
    const struct oct_settings *settings;
    const char *model;
    int batch;
    struct oct_contender contender[OCT_CONTENDERS_MAX];
    size_t count;
    int rounds;    /* kept: no probe of the product unit found it slow */
    int attempted; /* rounds run to get them */
};

/* Median, minimum, and half the distance between the 10th and 90th percentile over the median. */
struct oct_sample_summary {
    double median, minimum, spread;
};
struct oct_sample_summary oct_sample_summarise(const double *values, int count);

/* Median over rounds of how many times faster `a` is than `b` inside a round; 0 if it has none. */
double oct_bench_ratio(
    const struct oct_bench *bench, const struct oct_contender *a, const struct oct_contender *b);

/* The first contender of a precision, or NULL. */
const struct oct_contender *oct_bench_find(const struct oct_bench *bench, const char *precision);

/* Appends one JSON line of the model's figures to settings->append. Returns an exit code. */
int oct_bench_append(const struct oct_bench *bench);

#endif
