/* The parts of the programs selftest-cuda and selftest-sim, which scripts/gpu_selftest runs. Each
 * part prints one JSON object to standard output and returns whether all went well. */
#ifndef OCT_SELFTEST_H
#define OCT_SELFTEST_H

#include "backend.h"

#include <jansson.h>
#include <stdbool.h>

struct selftest {
    const char *device; /* "cuda", "cuda:N", "sim", or "cpu" when golden files are made */
    const char *golden; /* folder of the golden files */
    bool write;         /* make the golden file instead of comparing with it */
    bool small;         /* the reduced form that a simulation can afford */
};

/* Table of devices. */
bool selftest_devices(const struct selftest *, json_t *report);
/* Every wrapper of cuda/ptx.cuh against golden/wrappers.json, whose words come from the formulas
 * that the header states, not from any device. */
bool selftest_wrappers(const struct selftest *, json_t *report);
/* Products of every tile configuration against golden/products.json, made by the CPU backend. */
bool selftest_products(const struct selftest *, json_t *report);
/* Losses of resnet8 against golden/resnet8.json, made by the CPU backend. */
bool selftest_training(const struct selftest *, json_t *report);
/* Time of every kernel, as operations and bytes a second. Not on a simulation. */
bool selftest_rates(const struct selftest *, json_t *report);

/* Golden files: NULL, and the reason in the report, if one cannot be read. */
json_t *selftest_read(const struct selftest *, const char *name, json_t *report);
bool selftest_save(const struct selftest *, const char *name, const json_t *value, json_t *report);
/* Adds a line to the report's "failures"; returns false. */
bool selftest_fail(json_t *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
