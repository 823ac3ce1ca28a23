/* One optimiser step, and evaluation. */
#include "train/record.h"
#include "train/trainer.h"

#include <string.h>

enum { FLAGGED_LIMIT = 20 }; /* skipped updates in a row after which a run is given up */

enum oct_status oct_trainer_start_epoch(struct oct_trainer *t)
{
    t->loader_started = true;
    return oct_loader_start(
        t->train_loader, t->at.epoch, t->at.step_in_epoch * t->options.grad_accum_steps);
}

static enum oct_status upload_batch(struct oct_trainer *t, const struct oct_batch *batch)
{
    struct oct_graph *g = t->graph;
    size_t n = (size_t)g->batch;
    size_t image = (size_t)t->train->h * (size_t)t->train->w * (size_t)t->train->c;

    for (size_t i = 0; i < n; i++) /* rows beyond the data get a legal label and are not counted */
        t->labels[i] = batch->labels[i] < 0 ? 0 : batch->labels[i];
    OCT_TRY(g->backend->upload(g->backend, g->images->data, batch->images, n * image));
    return g->backend->upload(g->backend, g->labels->data, t->labels, n * sizeof *t->labels);
}

/* Loss and hits of the present batch, summed in sample order in double. */
static enum oct_status read_results(
    struct oct_trainer *t, int count, double *loss, int64_t *top1, int64_t *top5)
{
    struct oct_graph *g = t->graph;
    size_t n = (size_t)count;
    OCT_TRY(g->backend->download(g->backend, t->loss, g->loss->data, n * sizeof *t->loss));
    OCT_TRY(g->backend->download(g->backend, t->top1, g->top1->data, n));
    OCT_TRY(g->backend->download(g->backend, t->top5, g->top5->data, n));
    for (size_t i = 0; i < n; i++) {
        *loss += t->loss[i];
        *top1 += t->top1[i];
        *top5 += t->top5[i];
    }
    return OCT_OK;
}

static enum oct_status set_step(struct oct_trainer *t, double lr, int64_t first_sample)
{
    struct oct_graph *g = t->graph;
    struct oct_step_state state = {.seed = t->options.seed,
        .step = (uint32_t)t->at.step,
        .lr = (float)lr,
        .temperature = oct_barrier_temperature(&t->numerics.barrier, t->at.epoch),
        .gradient_range = oct_update_range(&t->numerics.update, t->at.epoch, t->options.epochs),
        .first_sample = (uint32_t)first_sample};
    struct oct_step_state *device = g->step->data;
    if (first_sample != 0) /* a flag raised by an earlier part of the step stays */
        return g->backend->upload(
            g->backend, &device->first_sample, &state.first_sample, sizeof state.first_sample);
    return g->backend->upload(g->backend, device, &state, sizeof state);
}

/* The device's work of one part of a step; the last part also updates. */
static enum oct_status enqueue_part(struct oct_trainer *t, bool first, bool last)
{
    const struct oct_options *o = &t->options;
    struct oct_graph *g = t->graph;

    if (first) {
        double begin = oct_op_begin(g);
        OCT_TRY(oct_graph_keep_states(g));
        oct_op_end(g, NULL, "keep states", begin);
    }
    OCT_TRY(oct_graph_forward(g));
    OCT_TRY(oct_graph_backward(g));
    if (!last)
        return OCT_OK;
    OCT_TRY(oct_graph_reduce_gradients(g));
    const struct oct_optimiser optimiser = {
        (float)o->momentum, (float)o->weight_decay, o->nesterov != 0};
    OCT_TRY(oct_graph_update(g, &optimiser));
    return o->model_ema ? oct_graph_average(g, (float)o->model_ema_decay) : OCT_OK;
}

static enum oct_status record_part(struct oct_trainer *t, bool first, bool last, void **recording)
{
    oct_backend *backend = t->graph->backend;
    OCT_TRY(backend->record(backend));
    enum oct_status status = enqueue_part(t, first, last);
    if (status == OCT_OK)
        return backend->recorded(backend, 1, recording);
    char cause[1024];
    snprintf(cause, sizeof cause, "%s", oct_last_error());
    (void)backend->recorded(backend, 0, NULL);
    return oct_fail(status, "%s", cause);
}

/* Every step enqueues the same ops on the same memory: a device that can replays them as one. Not
 * the first step, which has no statistics of an earlier one, not the rare ones that search clip
 * values, and not while somebody watches. */
static enum oct_status run_part(struct oct_trainer *t, bool first, bool last)
{
    struct oct_graph *g = t->graph;
    const struct oct_observer *watch = &t->observer;
    void **recording = &t->recordings[2 * first + last];

    if (!g->backend->record || g->fresh || g->search || watch->tensor || watch->gradients ||
        watch->op)
        return enqueue_part(t, first, last);
    if (!*recording)
        OCT_TRY(record_part(t, first, last, recording));
    return g->backend->replay(g->backend, *recording);
}

void oct_recordings_forget(struct oct_trainer *t)
{
    for (size_t i = 0; i < sizeof t->recordings / sizeof t->recordings[0]; i++) {
        if (t->recordings[i])
            t->backend->forget(t->backend, t->recordings[i]);
        t->recordings[i] = NULL;
    }
}

static enum oct_status run_parts(struct oct_trainer *t, struct oct_step_outcome *out)
{
    struct oct_graph *g = t->graph;
    const int parts = t->options.grad_accum_steps;
    const int period = t->numerics.role[OCT_ROLE_DY_DW].search_period;
    g->training = true;
    g->search = period > 0 && t->at.step % period == 0;
    for (int part = 0; part < parts; part++) {
        struct oct_batch batch;
        OCT_TRY(oct_loader_next(t->train_loader, &batch));
        OCT_TRY(upload_batch(t, &batch));
        OCT_TRY(set_step(t, out->lr, (int64_t)part * g->batch));
        g->grad_mode = part == 0 ? OCT_OVERWRITE : OCT_ACCUMULATE;
        oct_samples_arm(t, part == 0);
        g->observer = &t->observer;
        OCT_TRY(run_part(t, part == 0, part == parts - 1));
        OCT_TRY(read_results(t, batch.count, &out->loss, &out->top1, &out->top5));
        out->images += batch.count;
    }
    return OCT_OK;
}

static enum oct_status check_flag(struct oct_trainer *t, struct oct_step_outcome *out)
{
    struct oct_graph *g = t->graph;
    struct oct_step_state state;
    char what[256], text[512];

    OCT_TRY(g->backend->download(g->backend, &state, g->step->data, sizeof state));
    out->flagged = state.flag != 0;
    t->flagged_in_a_row = out->flagged ? t->flagged_in_a_row + 1 : 0;
    if (!out->flagged)
        return OCT_OK;
    oct_diagnose(t, what, sizeof what);
    OCT_TRY(oct_graph_restore_states(g));
    g->fresh = true; /* this step's statistics are no evidence for the next one */
    snprintf(text, sizeof text, "step %lld: non-finite value in %s; the update was skipped",
        (long long)t->at.step, what);
    oct_emit(t, (struct oct_event){.kind = OCT_EVENT_WARNING, .step = t->at.step, .text = text});
    if (t->flagged_in_a_row >= FLAGGED_LIMIT)
        return oct_fail(OCT_NUMERIC,
            "step %lld: %d updates in a row were skipped, non-finite value in %s: use a smaller "
            "--lr or more --warmup-epochs",
            (long long)t->at.step, FLAGGED_LIMIT, what);
    return OCT_OK;
}

enum oct_status oct_trainer_advance(struct oct_trainer *t, struct oct_step_outcome *out)
{
    const double lr = oct_schedule_lr(&t->schedule, t->at.step);
    struct oct_step_outcome result = {.lr = oct_update_lr(&t->numerics.update, lr)};
    double begin = oct_seconds(), waited = oct_loader_wait_seconds(t->train_loader);

    if (!t->loader_started)
        OCT_TRY(oct_trainer_start_epoch(t));
    oct_record_arm(t);
    OCT_TRY(run_parts(t, &result));
    OCT_TRY(oct_record_step(t));
    OCT_TRY(check_flag(t, &result));
    oct_trace_step(t);
    result.loss /= (double)result.images;
    result.data_seconds = oct_loader_wait_seconds(t->train_loader) - waited;
    result.seconds = oct_seconds() - begin;

    t->at.step++;
    t->at.step_in_epoch++;
    t->steps_counted++;
    t->at.flagged_steps += result.flagged;
    t->at.loss_sum += result.loss;
    t->at.top1_sum += (double)result.top1;
    t->at.top5_sum += (double)result.top5;
    t->at.images += result.images;
    t->at.train_seconds += result.seconds;
    *out = result;
    return OCT_OK;
}

/* Evaluation sees the averaged weights where there are some: value and average change places. */
static enum oct_status swap_average(struct oct_trainer *t)
{
    struct oct_graph *g = t->graph;
    if (!t->options.model_ema)
        return OCT_OK;
    for (int i = 0; i < g->param_count; i++) {
        void *value = g->params[i].value->data;
        g->params[i].value->data = g->params[i].average->data;
        g->params[i].average->data = value;
    }
    return oct_graph_prepare(g);
}

static enum oct_status evaluate(struct oct_trainer *t, struct oct_eval_result *out)
{
    struct oct_graph *g = t->graph;
    double loss = 0.0;
    int64_t top1 = 0, top5 = 0, images = 0;

    g->training = false;
    g->observer = NULL;
    OCT_TRY(oct_loader_start(t->val_loader, 0, 0));
    for (int64_t i = 0; i < oct_loader_batches(t->val_loader); i++) {
        struct oct_batch batch;
        OCT_TRY(oct_loader_next(t->val_loader, &batch));
        OCT_TRY(upload_batch(t, &batch));
        OCT_TRY(oct_graph_forward(g));
        OCT_TRY(read_results(t, batch.count, &loss, &top1, &top5));
        images += batch.count;
    }
    out->loss = loss / (double)images;
    out->top1 = 100.0 * (double)top1 / (double)images;
    out->top5 = 100.0 * (double)top5 / (double)images;
    out->images = images;
    return OCT_OK;
}

enum oct_status oct_trainer_evaluate(oct_trainer *t, struct oct_eval_result *result)
{
    struct oct_eval_result out = {0};
    double begin = oct_seconds();
    enum oct_status status;

    OCT_TRY(oct_trainer_computes(t));
    OCT_TRY(swap_average(t));
    status = evaluate(t, &out);
    OCT_TRY(swap_average(t));
    OCT_TRY(status);
    out.seconds = oct_seconds() - begin;
    *result = out;
    return OCT_OK;
}

double oct_trainer_unit_slowdown(oct_trainer *t)
{
    return t->backend->slowdown ? t->backend->slowdown(t->backend) : 0;
}

/* The next epoch begins where the last one ended. */
static void wrap_epoch(struct oct_trainer *t)
{
    if (t->at.step_in_epoch < t->steps_per_epoch)
        return;
    t->at.epoch++;
    t->at.step_in_epoch = 0;
    t->loader_started = false;
}

enum oct_status oct_trainer_step(oct_trainer *t, struct oct_step_result *result)
{
    struct oct_step_outcome outcome;
    wrap_epoch(t);
    OCT_TRY(oct_trainer_advance(t, &outcome));
    *result = (struct oct_step_result){.step = t->at.step,
        .loss = outcome.loss,
        .top1 = 100.0 * (double)outcome.top1 / (double)outcome.images,
        .flagged = outcome.flagged,
        .seconds = outcome.seconds,
        .data_seconds = outcome.data_seconds};
    return OCT_OK;
}
