/* What a run shows while it works: a bar on a terminal, one parsable line per interval elsewhere.
 *
 * Lines have the shape that scripts for pytorch/examples parse. In "Time a (b)" a is the last step
 * and b the mean of the epoch; in "Acc@1 a (b)" a is the accuracy of the steps since the line
 * before and b that of the epoch so far. */
#ifndef OCT_CLI_PROGRESS_H
#define OCT_CLI_PROGRESS_H

#include <octet.h>
#include <stdio.h>

struct oct_progress {
    FILE *out; /* lines */
    FILE *bar; /* terminal for the bar, or NULL */
    int bar_shown;
    int epochs;
    int epoch; /* of the sums below; -1: none yet */
    int64_t lines;
    double step_seconds, data_seconds; /* sums over the lines of the epoch */
    int64_t steps_before;              /* step_in_epoch, top1, top5 of the line before */
    double top1_before, top5_before;
};

/* Lines go to `out`; the bar to stderr if that is a terminal. */
void oct_progress_init(struct oct_progress *progress, FILE *out, int epochs);

/* The on_event of struct oct_options; `user` is the progress. */
void oct_progress_event(void *user, const struct oct_event *event);

/* Removes the bar. */
void oct_progress_end(struct oct_progress *progress);

/* The boxed table of settings at the start of a run. */
void oct_progress_box(
    FILE *out, const struct oct_options *options, const struct oct_run_info *info);

/* " * Acc@1 76.52 Acc@5 93.10": the line people grep. */
void oct_progress_accuracy(FILE *out, double top1, double top5);

#endif
