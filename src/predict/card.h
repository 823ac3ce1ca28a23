/* The cards that can be predicted: one frozen table. Nothing in it was measured by this project. */
#ifndef OCT_PREDICT_CARD_H
#define OCT_PREDICT_CARD_H

#include <octet.h> /* oct_card_name */
#include <stddef.h>

/* Units that do products, in the order of the peaks below. */
enum oct_unit { OCT_UNIT_INT8, OCT_UNIT_FP16, OCT_UNIT_TF32, OCT_UNIT_FP32, OCT_UNITS };

struct oct_card {
    const char *name; /* "a100" */
    const char *text; /* "NVIDIA A100 SXM 80 GB" */
    int arch;         /* whose machine code runs: 75, 80, ... */
    int multiprocessors;
    double clock_ghz;
    double sustained;            /* share of that clock held under load */
    double peak_tera[OCT_UNITS]; /* 10^12 operations a second, dense, at clock_ghz; 0: no such unit
                                  */
    double reachable_int8;       /* share of the int8 peak that mma.sync, which we use, can reach */
    double bandwidth_gb;         /* 10^9 bytes a second */
    double memory_gib;
};

/* Assumptions that hold for every card. */
struct oct_card_assumptions {
    double efficiency[OCT_UNITS]; /* of a unit's peak, nominal */
    double band_low, band_high;   /* efficiencies of the band that is always given */
    double bandwidth;             /* share of the peak that passes reach */
    double launch_seconds;        /* between two kernels of a recorded step */
    int issue_slots;              /* a multiprocessor can issue so many warp instructions a clock */
};
extern const struct oct_card_assumptions oct_card_assumptions;

const struct oct_card *oct_card_at(size_t index);
const struct oct_card *oct_card_find(const char *name);

#endif
