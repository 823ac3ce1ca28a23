/* octet bench on a device that predicts. */
#ifndef OCT_CLI_BENCH_MODEL_H
#define OCT_CLI_BENCH_MODEL_H

#include "options.h"

/* Whether the settings name a device model:CARD. */
int oct_bench_is_model(const struct oct_settings *settings);

/* Predicts and prints; returns an exit code. */
int oct_bench_model(const struct oct_settings *settings);

#endif
