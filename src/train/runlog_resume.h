/* What happens to the files of a run folder when a run is resumed. */
#ifndef OCT_RUNLOG_RESUME_H
#define OCT_RUNLOG_RESUME_H

#include "base/status.h"

#define OCT_SUMMARY_HEADER "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"

/* Rewrites log.jsonl without the records after `step` (steps) and of `epochs` and later (epochs).
 * Step 0 drops what a run wrote before its first checkpoint; OCT_ARG where that is more than an
 * epoch. */
enum oct_status oct_runlog_cut_json(const char *path, int64_t step, int epochs);

/* Removes the temporary files that a killed process left in `dir`. */
void oct_runlog_sweep(const char *dir);

/* Rewrites summary.csv (made if missing) without the rows of `epochs` and later. */
enum oct_status oct_runlog_cut_csv(const char *path, int epochs);

#endif
