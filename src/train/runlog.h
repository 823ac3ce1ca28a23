/* The files of a run folder that people and scripts read: log.jsonl, summary.csv, args.yaml,
 * TensorBoard events, curve.svg (docs/files.md has every field). A resumed run appends; records
 * beyond the resumed step (written by the run that died) are cut off first, so every step and epoch
 * stands once. For that, log an epoch before its checkpoint is saved. */
#ifndef OCT_RUNLOG_H
#define OCT_RUNLOG_H

#include "base/status.h"

#include <stdint.h>

struct oct_runlog;

struct oct_key_value {
    const char *key, *value;
};

struct oct_runlog_options {
    const char *dir;                  /* created if missing, with its parents */
    const struct oct_key_value *args; /* resolved settings, written as args.yaml */
    size_t args_count;
    int64_t resume_step; /* -1: a fresh run (existing logs are an error); 0: one that died early */
    int resume_epoch;    /* epochs completed at resume_step */
};

struct oct_step_record {
    int64_t step;
    int epoch;
    double train_loss; /* printed with 17 significant digits */
    double lr, images_per_second, data_seconds, step_seconds, saturation;
};

/* Health of one layer over the epoch, for log.jsonl. NaN: not measured. */
struct oct_layer_record {
    const char *layer;
    double int8_share, saturation_dw, saturation_dx, tail_share, clip_over_amax, cosine_dw;
    double channel_clipped, y_overflow;           /* shares of the elements of y */
    double clip_share, direction_loss, lr_factor; /* of the last search on dY */
    double barrier_share;                         /* of the weight's gradient */
    double activation_barrier_share;              /* of that of the activation behind y */
    double update_code, momentum_code;            /* largest codes of fixed-point updates */
    double update_zeros;                          /* share of gradient codes that are 0 */
};

struct oct_epoch_record {
    int epoch; /* 0-based */
    int64_t step;
    double train_loss, eval_loss, eval_top1, eval_top5, lr;
    double train_seconds, val_seconds, images_per_second, data_share;
    int64_t flagged_steps; /* updates that were skipped */
    const struct oct_layer_record *layers;
    size_t layer_count;
};

/* OCT_ARG: a fresh run in a folder that has logs, or another process writes to the folder. */
enum oct_status oct_runlog_open(const struct oct_runlog_options *options, struct oct_runlog **out);

/* One record; NaN and Inf are written as null. A failure (disk full) is returned by the call that
 * met it; from then on records are dropped and OCT_OK is returned, so that a caller who trains on
 * is told once and no torn line is written over. Where only curve.svg fails, the call says so once
 * and records go on. */
enum oct_status oct_runlog_step(struct oct_runlog *log, const struct oct_step_record *record);
enum oct_status oct_runlog_epoch(struct oct_runlog *log, const struct oct_epoch_record *record);
/* Closes; accepts NULL. Every epoch has drawn its curve.svg, and the last error stays. */
void oct_runlog_close(struct oct_runlog *log);

#endif
