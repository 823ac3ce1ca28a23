/* What tests share that follow a run step by step beside an oracle. */
#ifndef OCT_TEST_FOLLOWED_H
#define OCT_TEST_FOLLOWED_H

#include "train/trainer.h"

enum { FOLLOWED_PARAMS = 64 };

/* Parameters and momenta, copied from a CPU run before a step; an oracle then moves the copies. */
struct kept_params {
    float *w[FOLLOWED_PARAMS], *momentum[FOLLOWED_PARAMS];
};
void kept_params_take(struct kept_params *kept, const struct oct_graph *g);
/* The copies of parameter `index` equal what the run made of it. */
void kept_params_expect(const struct kept_params *kept, const struct oct_graph *g, int index);

struct followed_run {
    oct_trainer **trainer;                    /* that the two functions work on */
    void (*open)(const struct oct_options *); /* a trainer, watched; forgets no earlier one */
    void (*advance)(int steps, double *loss);
    void (*forget)(void); /* all that the oracle remembers */
};

/* 20 steps; then, from a new beginning, 10 steps, a checkpoint and 10 more in a new trainer, in
 * which the oracle goes on: the same losses. */
void follow_over_checkpoint(const struct followed_run *run, const struct oct_options *o);

#endif
