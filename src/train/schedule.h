/* Learning-rate schedules: a pure function of the step, computed on the host in double and stored
 * once per step as f32. */
#ifndef OCT_SCHEDULE_H
#define OCT_SCHEDULE_H

#include "base/status.h"

struct oct_schedule {
    enum { OCT_SCHED_CONSTANT, OCT_SCHED_COSINE, OCT_SCHED_STEP, OCT_SCHED_MULTISTEP } kind;
    double lr, warmup_lr, min_lr, decay_rate;
    int64_t steps_per_epoch, steps, warmup_steps;
    int decay_epochs;
    int milestones[16], milestone_count; /* epochs, ascending */
};

/* From the options' sched, lr, warmup_*, min_lr, decay_*; refuses what makes no sense. */
enum oct_status oct_schedule_open(
    const struct oct_options *options, int64_t steps_per_epoch, struct oct_schedule *out);

/* Learning rate of optimiser step `step` (0-based).
 * Warm-up: linear from warmup_lr to lr over the first warmup_steps. Cosine: from the end of the
 * warm-up to the last step, min_lr + (lr - min_lr) (1 + cos(pi t)) / 2. Step, multistep:
 * lr decay_rate^n after n decays. */
double oct_schedule_lr(const struct oct_schedule *schedule, int64_t step);

#endif
