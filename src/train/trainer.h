/* The trainer: device, network, data and run folder of one training run, and where it stands. */
#ifndef OCT_TRAINER_H
#define OCT_TRAINER_H

#include "data/data.h"
#include "graph/graph.h"
#include "models/models.h"
#include "schemes/scheme.h"
#include "train/runlog.h"
#include "train/schedule.h"
#include "train/settings.h"

#include <signal.h>
#include <stdio.h>

/* Where training stands: everything a resumed run needs besides device memory. */
struct oct_position {
    int64_t step; /* optimiser steps done */
    int epoch;    /* the epoch in progress */
    int64_t step_in_epoch;
    double loss_sum;           /* over the epoch's steps so far */
    double top1_sum, top5_sum; /* correct images so far */
    int64_t images;            /* seen this epoch */
    double best_top1;          /* -1: none */
    double train_seconds;      /* of the epoch so far */
    int64_t flagged_steps;     /* of this epoch: their updates were skipped */
};

struct oct_trainer {
    struct oct_options options; /* own copies of strings */
    struct oct_numerics numerics;
    oct_backend *backend;
    struct oct_graph *graph;
    struct oct_dataset *train, *val;
    struct oct_loader *train_loader, *val_loader;
    struct oct_schedule schedule;
    struct oct_runlog *log;
    struct oct_position at;
    bool loader_started;
    int64_t steps_per_epoch;
    int flagged_in_a_row;
    volatile sig_atomic_t stop;

    float *loss; /* host copies of the batch's results */
    uint8_t *top1, *top5;
    int32_t *labels;

    FILE *trace;
    struct oct_observer observer;
    struct oct_profile *profile;
    struct oct_prediction *prediction;
    void *recordings[4];           /* of the parts of a step (step.c), on devices that can replay */
    struct oct_samples *samples;   /* of weight gradients; NULL: none are taken */
    struct oct_recorder *recorder; /* of operands (record.h); NULL: none */

    struct oct_run_info info;
    char *plan_table, *not_int8, *two_plane, libraries[128];
    int64_t codes_per_step;                   /* quantised errors that one step makes */
    int64_t saturated_before, elements_since; /* of those codes, for the events */
    int64_t steps_counted;                    /* steps whose clipped codes are counted so far */
};

/* What one optimiser step did. */
struct oct_step_outcome {
    double loss; /* mean over the images */
    int64_t top1, top5, images;
    bool flagged;
    double lr, seconds, data_seconds;
};

/* step.c: the next optimiser step; evaluation over the whole validation set. */
enum oct_status oct_trainer_advance(struct oct_trainer *t, struct oct_step_outcome *out);
enum oct_status oct_trainer_start_epoch(struct oct_trainer *t);

/* checkpoint.c: the training state as a safetensors file. */
enum oct_status oct_checkpoint_save(struct oct_trainer *t, const char *path);
/* `weights_only`: parameters, running statistics and scheme state, but not where training stands.
 */
enum oct_status oct_checkpoint_load(struct oct_trainer *t, const char *path, bool weights_only);
/* Finds and loads the newest usable checkpoint of the run folder; *found false if there is none.
 * Damaged files are skipped with a warning event. */
enum oct_status oct_checkpoint_resume_newest(struct oct_trainer *t, bool *found);
/* Removes all but the newest `keep` files <prefix>*.safetensors. */
void oct_checkpoint_prune(const char *dir, const char *prefix, int keep);

void oct_recordings_forget(struct oct_trainer *t);

/* watch.c: what can be seen of a step. Weight gradients are sampled if health is logged anywhere
 * and the device has the float product to compare with; asked for by --stats-interval, it must. */
enum oct_status oct_samples_wanted(const struct oct_trainer *t, bool *wanted);
enum oct_status oct_samples_open(struct oct_trainer *t);
void oct_samples_free(struct oct_trainer *t);
/* Prepares the observer for the next part of a step. */
void oct_samples_arm(struct oct_trainer *t, bool first_part);
enum oct_status oct_trace_open(struct oct_trainer *t);
void oct_trace_step(struct oct_trainer *t);
/* Names the first tensor of the present batch that holds a non-finite value. */
void oct_diagnose(struct oct_trainer *t, char *out, size_t size);
/* Health of every product's error codes; rows[] has node_count entries; returns how many. */
enum oct_status oct_health(struct oct_trainer *t, struct oct_layer_record *rows, size_t *count);
/* Clipped codes and all codes of the errors so far. */
enum oct_status oct_saturation(struct oct_trainer *t, int64_t *clipped);

void oct_profile_free(struct oct_trainer *t);

/* predict.c. computes: OCT_OK, or on a device that only predicts why there is nothing to run. */
enum oct_status oct_trainer_computes(const struct oct_trainer *t);
void oct_prediction_free(struct oct_trainer *t);

void oct_emit(struct oct_trainer *t, struct oct_event event);
double oct_seconds(void);

#endif
