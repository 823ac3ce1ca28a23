/* octet: training of convolutional networks with 8-bit integers.
 *
 * The library in one page. Fill a struct oct_options (oct_options_init gives every default), open
 * a trainer, run it. A trainer owns everything: device, network, data, run folder. Whatever can
 * fail returns an oct_status; on failure outputs are untouched and oct_last_error() holds one line
 * that says what was asked, what was found and what to do. Nothing in this library prints or
 * exits; progress arrives through `on_event`. Functions of one trainer are called from one thread
 * at a time; different trainers are independent. All strings passed in are borrowed for the call.
 *
 *     #include <octet.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         struct oct_options options;
 *         oct_trainer *trainer = NULL;
 *         struct oct_result result;
 *
 *         oct_options_init(&options);
 *         options.dataset = "synthetic";
 *         options.model = "resnet8";
 *         options.precision = "int8";
 *         options.scheme = "dai8";
 *         options.epochs = 1;
 *         options.max_steps = 10;
 *         if (oct_trainer_open(&options, &trainer) != OCT_OK ||
 *             oct_trainer_run(trainer, &result) != OCT_OK) {
 *             fprintf(stderr, "%s\n", oct_last_error());
 *             oct_trainer_close(trainer);
 *             return 1;
 *         }
 *         printf("top-1 %.2f %%\n", result.eval_top1);
 *         oct_trainer_close(trainer);
 *         return 0;
 *     }
 */
#ifndef OCTET_H
#define OCTET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OCT_VERSION "0.1.0"

#if defined(__GNUC__)
#define OCT_API __attribute__((visibility("default")))
#else
#define OCT_API
#endif

enum oct_status {
    OCT_OK,
    OCT_ARG,         /* an option or argument makes no sense */
    OCT_SHAPE,       /* tensor or image sizes do not fit */
    OCT_UNSUPPORTED, /* well formed, but not available here; the message says why */
    OCT_NOMEM,
    OCT_IO,     /* file missing, damaged, unwritable, disk full */
    OCT_DEVICE, /* device missing or failed */
    OCT_COMM,
    OCT_NUMERIC,     /* NaN or Inf met; the message names layer and step */
    OCT_INTERRUPTED, /* stopped by oct_trainer_stop; state was saved */
    OCT_INTERNAL     /* a defect of this library */
};

/* The calling thread's last failure, one line. Valid until the next failure in this thread. */
OCT_API const char *oct_last_error(void);
OCT_API const char *oct_status_name(enum oct_status status);
OCT_API const char *oct_version(void);

typedef struct oct_trainer oct_trainer;

enum oct_event_kind {
    OCT_EVENT_START,
    OCT_EVENT_STEP,
    OCT_EVENT_EVAL,
    OCT_EVENT_EPOCH,
    OCT_EVENT_CHECKPOINT,
    OCT_EVENT_WARNING
};

/* What happened. Fields that do not belong to `kind` are 0 or NULL. */
struct oct_event {
    enum oct_event_kind kind;
    int64_t step;                           /* optimiser steps done since the start of training */
    int epoch;                              /* 0-based */
    int64_t step_in_epoch, steps_per_epoch; /* steps of the epoch done, and all */
    double loss, loss_average;              /* mean over the batch; running mean of the epoch */
    double top1, top5; /* STEP: running per cent of the epoch; EVAL: per cent */
    /* STEP: of this step, EPOCH: of all its steps; data: time of that spent waiting for images */
    double step_seconds, data_seconds;
    double images_per_second;
    double lr;
    double eta_seconds;
    double eval_loss, eval_seconds;
    double saturation; /* share of gradient codes that were clipped, since the last event */
    int is_best;
    const char *text; /* CHECKPOINT: path; WARNING: message */
};

/* Everything a run is made of. Strings may be NULL where a default is named. */
struct oct_options {
    /* data */
    const char *data;    /* folder of CIFAR-10/100 binary files or IDX files */
    const char *dataset; /* "auto", "cifar10", "cifar100", "idx", "synthetic" */
    int synthetic_images, synthetic_size, synthetic_classes; /* 2048, 0: the model's, 10 */
    int workers;                                             /* data threads; 1 */
    int augment;                   /* 1: crop with padding, and flip where it makes sense */
    int crop_padding;              /* 4 */
    const char *crop_padding_mode; /* "constant": black, "reflect": mirrored at the border pixel */
    double hflip;                  /* probability; < 0: 0.5 for colour images, 0 for grey */

    /* network and arithmetic */
    const char *model;                    /* "resnet8|20|32|44|56", "resnet18|34|50" */
    const char *precision;                /* "fp32", "bf16", "int8" */
    const char *scheme;                   /* "dai8", "ui8", "fqat", "logbtq", "amax"; int8 only */
    const char *scheme_opt;               /* "key=value,..." */
    const char *rounding;                 /* "nearest", "stochastic"; NULL: the scheme's */
    const char *refresh;                  /* "exact", "bound", "last"; NULL: the scheme's */
    int int8_fwd, int8_dgrad, int8_wgrad; /* 1: this product in int8 */
    const char *int8_skip;                /* regular expression of layers kept in float, or NULL */
    const char *first_last;               /* "int8", "int16", "float" */
    const char *act_dtype;                /* storage of y and dA in int8 runs: "bf16", "f32" */
    int simulate;                         /* float64 products on the codes */

    /* optimisation */
    int epochs, batch_size, grad_accum_steps;
    int64_t max_steps; /* stop after so many optimiser steps in all; 0: no limit */
    double lr, momentum, weight_decay, label_smoothing;
    int nesterov;
    const char *sched; /* "cosine", "step", "multistep", "constant" */
    double warmup_epochs, warmup_lr, min_lr, decay_rate;
    int decay_epochs;             /* step: every so many epochs */
    const char *decay_milestones; /* multistep: "80,120" */
    int model_ema;
    double model_ema_decay;
    uint64_t seed;

    /* device */
    /* "cpu", "cuda", "cuda:N", "sim": the latter's kernels on the CPU, or "model:CARD": computes
     * nothing, predicts the time of a step (oct_trainer_predict) */
    const char *device;
    const char *isa; /* "auto", "amx", "vnni", "c", ...; also by OCT_ISA; model:CARD: "tf32" */
    int threads;     /* 0: all */

    /* run folder */
    const char *output_dir;    /* NULL: no files are written */
    const char *resume;        /* NULL, "auto" (newest usable in output_dir), or a file */
    const char *checkpoint;    /* weights (and scheme state) to start from, or NULL */
    int val_interval;          /* epochs between evaluations; 1; 0: only at the end */
    int checkpoint_hist;       /* checkpoint-<epoch> files kept; 2 */
    int64_t recovery_interval; /* steps between recovery checkpoints inside an epoch; 0: none */
    int log_interval;          /* steps between STEP events; 50 */
    int stats_interval;        /* steps between samples of gradient health; 0: once an epoch */
    int trace_hash;            /* 1: trace.txt gets a 64-bit hash of every tensor per node */
    int record_gradients;      /* fp32: errors recorded in all, for oct_analyse; 0: none */

    void (*on_event)(void *user, const struct oct_event *event);
    void *user;
};

/* Sets every field to its default. Call before setting fields. */
OCT_API void oct_options_init(struct oct_options *options);

/* Facts of an opened trainer. Strings live as long as the trainer. */
struct oct_run_info {
    const char *device, *isa, *libraries;
    int threads;
    const char *dataset;
    int64_t train_images, val_images;
    int height, width, channels, classes;
    int64_t parameters, steps_per_epoch;
    double macs[3];        /* multiply-accumulates per image: fprop, dgrad, wgrad */
    double int8_share[3];  /* share of those done in int8 (two-plane layers counted) */
    const char *not_int8;  /* "layer (reason); ..." or "" */
    const char *two_plane; /* layers with two-plane operands, or "" */
    int64_t saved_bytes;   /* saved for backward, whole batch, from the plan */
    int64_t device_bytes;  /* all device memory of the plan */
    uint64_t config_hash;
};

struct oct_step_result {
    int64_t step;
    double loss;
    double top1;         /* per cent of this batch */
    int flagged;         /* a non-finite value was met; the update was skipped */
    double seconds;      /* of the whole call, waiting for the batch included */
    double data_seconds; /* of them waiting for the batch */
};

struct oct_eval_result {
    double loss, top1, top5; /* mean; per cent */
    int64_t images;
    double seconds;
};

struct oct_result {
    int64_t steps;
    int epochs;                                        /* completed */
    double train_loss;                                 /* mean of the last epoch */
    double eval_loss, eval_top1, eval_top5, best_top1; /* evaluated in the run's own precision */
    double train_seconds;                              /* sum over epochs, evaluation excluded */
    double data_seconds;
    double images_per_second;
    int interrupted;
};

/* One row of a profile: time and work of one node in one pass. */
struct oct_profile_row {
    const char *node, *op, *pass; /* "layer1.0.conv1", "conv", "fprop|dgrad|wgrad|forward|..." */
    double seconds;               /* minimum over the profiled steps */
    double macs;                  /* of the whole batch, 0 for elementwise ops */
    int int8;
};

/* One row of a prediction: what a model of a card, not a measurement, says of one node in one pass.
 */
struct oct_model_row {
    const char *node, *op, *pass;
    double seconds;      /* at the nominal efficiency of the card's product units */
    double best, worst;  /* seconds at the best and worst efficiency of the band */
    double macs;         /* of the whole batch, 0 for elementwise ops */
    double bytes;        /* that the card's memory moves */
    double listed_bytes; /* of them the plan's own list: each tensor of an op once */
    const char *bound;   /* what most of the time is: "memory", "products", "issue", "launch" */
    int launches;
};

/* Opens device, data, model and run folder; resumes if asked. On success the caller owns *out. */
OCT_API enum oct_status oct_trainer_open(const struct oct_options *options, oct_trainer **out);

/* Closes in reverse; accepts NULL. */
OCT_API void oct_trainer_close(oct_trainer *trainer);

OCT_API const struct oct_run_info *oct_trainer_info(const oct_trainer *trainer);

/* The node/tensor/bytes/offset table of the memory plan, as text owned by the trainer. */
OCT_API const char *oct_trainer_plan(const oct_trainer *trainer);

/* Trains until options.epochs (or max_steps), evaluating, logging and saving on the way. After
 * oct_trainer_stop it finishes the step, saves and returns OCT_OK with result.interrupted. */
OCT_API enum oct_status oct_trainer_run(oct_trainer *trainer, struct oct_result *result);

/* One optimiser step on the next batch of the training set. Writes no files. */
OCT_API enum oct_status oct_trainer_step(oct_trainer *trainer, struct oct_step_result *result);

/* How slow the unit under the int8 products is at this moment: the time of a probe of some 50
 * microseconds on every compute thread, the slowest thread's, over that of an undisturbed unit.
 * Timings taken while it is above 1 mean little. 0: this device's unit has no slow periods. */
OCT_API double oct_trainer_unit_slowdown(oct_trainer *trainer);

/* Evaluates on the validation set, in the trainer's precision. */
OCT_API enum oct_status oct_trainer_evaluate(oct_trainer *trainer, struct oct_eval_result *result);

/* Times `steps` training steps node by node; *rows is owned by the trainer until the next call. */
OCT_API enum oct_status oct_trainer_profile(
    oct_trainer *trainer, int steps, const struct oct_profile_row **rows, size_t *count);

/* What a step would cost by the model of the card, on a trainer opened on a device "model:CARD";
 * OCT_ARG on others. *rows is owned by the trainer until the next call. */
OCT_API enum oct_status oct_trainer_predict(
    oct_trainer *trainer, const struct oct_model_row **rows, size_t *count);

/* Saves or loads a checkpoint (safetensors). Loading replaces the whole training state. */
OCT_API enum oct_status oct_trainer_save(oct_trainer *trainer, const char *path);
OCT_API enum oct_status oct_trainer_load(oct_trainer *trainer, const char *path);

/* Calls `setting` for every setting that a checkpoint tells of the run that wrote it: `key` is a
 * field of struct oct_options, e.g. "model", "precision", "scheme"; `value` its text, valid during
 * the call. A file of bare weights tells none. */
OCT_API enum oct_status oct_checkpoint_settings(
    const char *path, void (*setting)(void *user, const char *key, const char *value), void *user);

/* Asks a running trainer to stop after the present step. Async-signal-safe. */
OCT_API void oct_trainer_stop(oct_trainer *trainer);

/* How well a scheme, or an ablation of it, does one recorded layer's backward products. */
struct oct_analysis_row {
    const char *scheme, *layer; /* "dai8", "dai8, per tensor" */
    int64_t step;
    double snr_dw_worst, snr_dw; /* dB, of dY's error: the worst output channel, the whole dW */
    double cosine_dw, cosine_dx; /* with float64 products of unquantised operands; NAN: no dX */
    double tail_share;           /* channels labelled inverted T; NAN: no labels */
    double clipped_share;        /* of the codes of dY for dW */
};

/* Measures every integer scheme on what a run with options.record_gradients left in
 * options.output_dir; calls `row` for each. Deterministic. */
OCT_API enum oct_status oct_analyse(const struct oct_options *options,
    void (*row)(void *user, const struct oct_analysis_row *row), void *user);

/* Calls `line` for every line of the report of `octet info`: CPU features, kernels, probed peaks,
 * libraries; with `scheme` the scheme's source, equations, and what is published or reconstructed.
 */
OCT_API enum oct_status oct_info(
    const char *scheme, void (*line)(void *user, const char *text), void *user);

/* Names the program accepts, in order, NULL at the end of the list. */
OCT_API const char *oct_model_name(size_t index);
OCT_API const char *oct_scheme_name(size_t index);
OCT_API const char *oct_card_name(size_t index); /* after "model:" */

/* Writes what oct_analyse measured as one SVG: by layer, mean over the recorded steps, the SNR of
 * the worst channel of dW and the cosine error of dW, of every scheme and of those per tensor. */
OCT_API enum oct_status oct_plot_analysis(
    const struct oct_analysis_row *rows, size_t count, const char *path);

/* Writes the learning curve of the log.jsonl files of `count` run folders as one SVG. */
OCT_API enum oct_status oct_plot_curves(
    const char *const *run_dirs, size_t count, const char *path);

#ifdef __cplusplus
}
#endif

#endif
