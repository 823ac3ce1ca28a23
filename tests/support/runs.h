/* Training runs of tests: opening one, making steps. Failures abort the test. */
#ifndef OCT_TEST_RUNS_H
#define OCT_TEST_RUNS_H

#include <octet.h>

#include <stdbool.h>

/* The caller closes it. */
oct_trainer *run_open(const struct oct_options *options);
/* The small network that a scheme is tried on: resnet8, or of the family that its paper trains. */
const char *run_model_of(const char *scheme);
/* Whether it can train networks with normalisation or more than one classifier. */
bool run_takes_any_model(const char *scheme);
/* A run of a few seconds: run_model_of(scheme) in int8 on 256 synthetic images of 16x16, batch 16,
 * 4 epochs, lr 0.05, seed 3, one thread. */
struct oct_options run_options(const char *scheme);
/* Such a run whose operands are emulated in float, on batches of 8. */
struct oct_options run_emulated_options(const char *scheme, const char *scheme_opt);
/* loss[steps]; a flagged step is a failure. */
void run_steps(oct_trainer *t, int steps, double *loss);

/* `path` is a whole SVG of finite numbers that shows the text `fragment`. */
void expect_svg(const char *path, const char *fragment);

#endif
