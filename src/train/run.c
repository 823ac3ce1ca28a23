/* The training loop: epochs of steps, evaluation, logs, checkpoints. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum oct_status save_as(struct oct_trainer *t, const char *name)
{
    char path[4096];
    if (!t->options.output_dir)
        return OCT_OK;
    snprintf(path, sizeof path, "%s/%s.safetensors", t->options.output_dir, name);
    OCT_TRY(oct_checkpoint_save(t, path));
    oct_emit(t,
        (struct oct_event){
            .kind = OCT_EVENT_CHECKPOINT, .step = t->at.step, .epoch = t->at.epoch, .text = path});
    return OCT_OK;
}

static enum oct_status save_recovery(struct oct_trainer *t)
{
    char name[64];
    int64_t every = t->options.recovery_interval;
    if (every == 0 || t->at.step_in_epoch % every != 0)
        return OCT_OK;
    snprintf(name, sizeof name, "recovery-%d-%lld", t->at.epoch, (long long)t->at.step);
    OCT_TRY(save_as(t, name));
    if (t->options.output_dir)
        oct_checkpoint_prune(t->options.output_dir, "recovery-", 2);
    return OCT_OK;
}

static struct oct_event step_event(
    const struct oct_trainer *t, const struct oct_step_outcome *outcome)
{
    const struct oct_position *at = &t->at;
    double images = at->images > 0 ? (double)at->images : 1.0;
    double per_step = at->train_seconds / (double)at->step_in_epoch;
    int64_t all = t->steps_per_epoch * t->options.epochs;
    int64_t end =
        t->options.max_steps > 0 && t->options.max_steps < all ? t->options.max_steps : all;
    struct oct_event event = {.kind = OCT_EVENT_STEP,
        .step = at->step,
        .epoch = at->epoch,
        .step_in_epoch = at->step_in_epoch,
        .steps_per_epoch = t->steps_per_epoch,
        .loss = outcome->loss,
        .loss_average = at->loss_sum / (double)at->step_in_epoch,
        .top1 = 100.0 * at->top1_sum / images,
        .top5 = 100.0 * at->top5_sum / images,
        .step_seconds = outcome->seconds,
        .data_seconds = outcome->data_seconds,
        .images_per_second = (double)outcome->images / outcome->seconds,
        .lr = outcome->lr,
        .eta_seconds = per_step * (double)(end - at->step)};
    return event;
}

/* Share of gradient codes that were clipped since the last call. */
static enum oct_status sample_saturation(struct oct_trainer *t, double *share)
{
    int64_t clipped;
    OCT_TRY(oct_saturation(t, &clipped));
    *share = t->elements_since > 0
                 ? (double)(clipped - t->saturated_before) / (double)t->elements_since
                 : 0.0;
    t->saturated_before = clipped;
    t->elements_since = 0;
    return OCT_OK;
}

/* What the log cannot write is told once; training goes on, and checkpoints stop it if they fail.
 */
static void go_on_without_log(struct oct_trainer *t, enum oct_status status)
{
    if (status != OCT_OK)
        oct_emit(t, (struct oct_event){
                        .kind = OCT_EVENT_WARNING, .step = t->at.step, .text = oct_last_error()});
}

static enum oct_status report_step(struct oct_trainer *t, const struct oct_step_outcome *outcome)
{
    struct oct_event event;
    if (t->at.step_in_epoch != 1 && t->at.step_in_epoch != t->steps_per_epoch &&
        t->at.step % t->options.log_interval != 0)
        return OCT_OK;
    event = step_event(t, outcome);
    OCT_TRY(sample_saturation(t, &event.saturation));
    oct_emit(t, event);
    if (!t->log)
        return OCT_OK;
    struct oct_step_record record = {.step = event.step,
        .epoch = event.epoch,
        .train_loss = event.loss,
        .lr = event.lr,
        .images_per_second = event.images_per_second,
        .data_seconds = event.data_seconds,
        .step_seconds = event.step_seconds,
        .saturation = event.saturation};
    go_on_without_log(t, oct_runlog_step(t->log, &record));
    return OCT_OK;
}

static bool out_of_steps(const struct oct_trainer *t)
{
    return t->options.max_steps > 0 && t->at.step >= t->options.max_steps;
}

/* Steps until the epoch, the step limit or the user ends it. */
static enum oct_status run_steps(struct oct_trainer *t, struct oct_result *result)
{
    while (t->at.step_in_epoch < t->steps_per_epoch && !t->stop && !out_of_steps(t)) {
        struct oct_step_outcome outcome;
        OCT_TRY(oct_trainer_advance(t, &outcome));
        result->train_seconds += outcome.seconds;
        result->data_seconds += outcome.data_seconds;
        result->images_per_second += (double)outcome.images; /* divided at the end */
        t->elements_since += t->codes_per_step;
        OCT_TRY(report_step(t, &outcome));
        if (t->at.step_in_epoch < t->steps_per_epoch)
            OCT_TRY(save_recovery(t));
    }
    return OCT_OK;
}

static enum oct_status log_epoch(
    struct oct_trainer *t, const struct oct_eval_result *eval, double data_seconds)
{
    enum oct_status status = OCT_OK;
    const struct oct_position *at = &t->at;
    size_t count = 0;
    struct oct_layer_record *layers = NULL;
    struct oct_epoch_record record = {.epoch = at->epoch,
        .step = at->step,
        .train_loss = at->loss_sum / (double)at->step_in_epoch,
        .eval_loss = eval->loss,
        .eval_top1 = eval->top1,
        .eval_top5 = eval->top5,
        .lr = oct_schedule_lr(&t->schedule, at->step - 1),
        .train_seconds = at->train_seconds,
        .val_seconds = eval->seconds,
        .images_per_second = (double)at->images / at->train_seconds,
        .data_share = data_seconds / at->train_seconds,
        .flagged_steps = at->flagged_steps};

    if (!t->log)
        return OCT_OK;
    layers = calloc((size_t)t->graph->node_count, sizeof *layers);
    if (!layers)
        return oct_fail(OCT_NOMEM, "no memory for the health of the layers");
    OCT_OUT(oct_health(t, layers, &count));
    record.layers = layers;
    record.layer_count = count;
    go_on_without_log(t, oct_runlog_epoch(t->log, &record));
out:
    free(layers);
    return status;
}

static void next_epoch(struct oct_trainer *t)
{
    struct oct_position *at = &t->at;
    at->epoch++;
    at->step_in_epoch = 0;
    at->loss_sum = at->top1_sum = at->top5_sum = at->train_seconds = 0.0;
    at->images = at->flagged_steps = 0;
    t->loader_started = false;
}

/* What the files of a whole epoch make superfluous. */
static void prune_epoch(const struct oct_trainer *t)
{
    if (!t->options.output_dir)
        return;
    oct_checkpoint_prune(t->options.output_dir, "checkpoint-", t->options.checkpoint_hist);
    oct_checkpoint_prune(t->options.output_dir, "recovery-", 0);
}

static enum oct_status save_epoch(struct oct_trainer *t, bool is_best)
{
    char name[64];
    if (is_best)
        OCT_TRY(save_as(t, "model_best"));
    snprintf(name, sizeof name, "checkpoint-%d", t->at.epoch - 1);
    if (t->options.checkpoint_hist > 0)
        OCT_TRY(save_as(t, name));
    OCT_TRY(save_as(t, "last"));
    prune_epoch(t);
    return OCT_OK;
}

static bool evaluation_due(const struct oct_trainer *t)
{
    int done = t->at.epoch + 1, every = t->options.val_interval;
    return done == t->options.epochs || (every > 0 && done % every == 0);
}

static void keep_evaluation(struct oct_result *result, const struct oct_eval_result *eval)
{
    result->eval_loss = eval->loss;
    result->eval_top1 = eval->top1;
    result->eval_top5 = eval->top5;
}

/* Evaluates and says so; *event is what was said. */
static enum oct_status evaluate(
    struct oct_trainer *t, bool can_be_best, struct oct_eval_result *eval, struct oct_event *event)
{
    OCT_TRY(oct_trainer_evaluate(t, eval));
    event->kind = OCT_EVENT_EVAL;
    event->eval_loss = eval->loss;
    event->top1 = eval->top1;
    event->top5 = eval->top5;
    event->eval_seconds = eval->seconds;
    event->is_best = can_be_best && eval->top1 > t->at.best_top1;
    oct_emit(t, *event);
    return OCT_OK;
}

static enum oct_status end_epoch(
    struct oct_trainer *t, struct oct_result *result, double data_seconds)
{
    struct oct_eval_result eval = {.loss = NAN, .top1 = NAN, .top5 = NAN};
    struct oct_event event = {.step = t->at.step, .epoch = t->at.epoch};
    bool is_best;

    result->train_loss = t->at.loss_sum / (double)t->at.step_in_epoch;
    if (evaluation_due(t))
        OCT_TRY(evaluate(t, true, &eval, &event));
    keep_evaluation(result, &eval);
    is_best = event.is_best;
    if (is_best)
        t->at.best_top1 = eval.top1;
    OCT_TRY(log_epoch(t, &eval, data_seconds));
    event.kind = OCT_EVENT_EPOCH;
    event.loss_average = result->train_loss;
    event.step_seconds = t->at.train_seconds;
    event.data_seconds = data_seconds;
    event.images_per_second = (double)t->at.images / t->at.train_seconds;
    next_epoch(t);
    OCT_TRY(save_epoch(t, is_best));
    oct_emit(t, event);
    return OCT_OK;
}

/* Where the present weights have not been evaluated: --max-steps ended inside an epoch or before
 * one with an evaluation, or a finished run was resumed. Leaves the best epoch as it is, which a
 * resumed run must find as an uninterrupted one would. */
static enum oct_status evaluate_end(struct oct_trainer *t, struct oct_result *result)
{
    struct oct_eval_result eval;
    struct oct_event event = {.step = t->at.step, .epoch = t->at.epoch};

    if ((!isnan(result->eval_top1) && t->at.step_in_epoch == 0) || t->stop)
        return OCT_OK;
    OCT_TRY(evaluate(t, false, &eval, &event));
    keep_evaluation(result, &eval);
    if (eval.top1 > result->best_top1)
        result->best_top1 = eval.top1;
    return OCT_OK;
}

static enum oct_status finish(struct oct_trainer *t, struct oct_result *result)
{
    result->steps = t->at.step;
    result->epochs = t->at.epoch;
    result->best_top1 = t->at.best_top1;
    result->interrupted = t->stop != 0;
    if (result->train_seconds > 0.0)
        result->images_per_second /= result->train_seconds;
    if (t->at.step_in_epoch > 0) /* ended inside an epoch */
        return save_as(t, "last");
    prune_epoch(t); /* again: the process that saved the epoch may have died before it could */
    return OCT_OK;
}

enum oct_status oct_trainer_run(oct_trainer *t, struct oct_result *out)
{
    struct oct_result result = {.eval_loss = NAN, .eval_top1 = NAN, .eval_top5 = NAN};

    OCT_TRY(oct_trainer_computes(t));
    oct_emit(t, (struct oct_event){.kind = OCT_EVENT_START,
                    .step = t->at.step,
                    .epoch = t->at.epoch,
                    .step_in_epoch = t->at.step_in_epoch,
                    .steps_per_epoch = t->steps_per_epoch});
    while (t->at.epoch < t->options.epochs && !t->stop && !out_of_steps(t)) {
        double waited = result.data_seconds;
        OCT_TRY(run_steps(t, &result));
        if (t->at.step_in_epoch < t->steps_per_epoch)
            break;
        OCT_TRY(end_epoch(t, &result, result.data_seconds - waited));
    }
    OCT_TRY(finish(t, &result));
    OCT_TRY(evaluate_end(t, &result));
    *out = result;
    return OCT_OK;
}
