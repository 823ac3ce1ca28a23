/* Opening and closing a trainer. Steps: step.c; the loop: run.c. */
#include "base/file.h"
#include "train/record.h"
#include "train/trainer.h"

#include <dnnl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double oct_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void oct_emit(struct oct_trainer *t, struct oct_event event)
{
    if (t->options.on_event)
        t->options.on_event(t->options.user, &event);
}

const char *oct_version(void)
{
    return OCT_VERSION;
}

static enum oct_status open_numerics(struct oct_trainer *t)
{
    const struct oct_options *o = &t->options;
    struct oct_numerics_request request = {.precision = o->precision,
        .scheme = o->scheme ? o->scheme : "",
        .scheme_opt = o->scheme_opt,
        .rounding = o->rounding,
        .refresh = o->refresh,
        .first_last = o->first_last,
        .act_dtype = o->act_dtype,
        .skip = o->int8_skip,
        .int8_fprop = o->int8_fwd,
        .int8_dgrad = o->int8_dgrad,
        .int8_wgrad = o->int8_wgrad,
        .simulate = o->simulate || (o->isa && strcmp(o->isa, "simulate") == 0)};
    OCT_TRY(oct_numerics_open(&request, &t->numerics));
    if (o->nesterov && t->numerics.update.plain_momentum)
        return oct_fail(OCT_UNSUPPORTED,
            "--nesterov: scheme %s updates with plain momentum: leave it out",
            t->numerics.scheme->name);
    return OCT_OK;
}

static enum oct_status open_backend(struct oct_trainer *t)
{
    const struct oct_options *o = &t->options;
    bool automatic = !o->isa || strcmp(o->isa, "auto") == 0;
    struct oct_backend_options options = {.device = o->device,
        .isa = o->simulate ? "simulate"
               : automatic ? NULL
                           : o->isa,
        .threads = o->threads};
    return oct_backend_open(&options, &t->backend);
}

static enum oct_status open_data(struct oct_trainer *t, const struct oct_model *model)
{
    const struct oct_options *o = &t->options;
    struct oct_dataset_options options = {.data = o->data,
        .dataset = o->dataset,
        .split = OCT_TRAIN,
        .images = o->synthetic_images,
        .size = o->synthetic_size ? o->synthetic_size : model->image_size,
        .channels = model->channels,
        .classes = o->synthetic_classes,
        .seed = o->seed};
    OCT_TRY(oct_dataset_open(&options, &t->train));
    options.split = OCT_VAL;
    return oct_dataset_open(&options, &t->val);
}

static enum oct_status open_loaders(struct oct_trainer *t)
{
    const struct oct_options *o = &t->options;
    double flip = o->hflip >= 0.0 ? o->hflip : t->train->c == 3 ? 0.5 : 0.0;
    bool reflect = o->crop_padding_mode && strcmp(o->crop_padding_mode, "reflect") == 0;
    struct oct_loader_options train = {.dataset = t->train,
        .batch = o->batch_size,
        .workers = o->workers,
        .seed = o->seed,
        .shuffle = 1,
        .crop_padding = o->augment ? o->crop_padding : 0,
        .crop_reflect = reflect,
        .hflip = o->augment ? flip : 0.0};
    struct oct_loader_options val = {
        .dataset = t->val, .batch = o->batch_size, .workers = o->workers, .seed = o->seed};

    if (o->crop_padding_mode && !reflect && strcmp(o->crop_padding_mode, "constant") != 0)
        return oct_fail(
            OCT_ARG, "crop padding mode '%s': use constant or reflect", o->crop_padding_mode);
    OCT_TRY(oct_loader_open(&train, &t->train_loader));
    OCT_TRY(oct_loader_open(&val, &t->val_loader));
    t->steps_per_epoch = oct_loader_batches(t->train_loader) / o->grad_accum_steps;
    if (t->steps_per_epoch < 1)
        return oct_fail(OCT_ARG,
            "%lld training images do not fill one step of --batch-size %d x --grad-accum-steps "
            "%d: use a smaller batch",
            (long long)t->train->count, o->batch_size, o->grad_accum_steps);
    return oct_schedule_open(o, t->steps_per_epoch, &t->schedule);
}

static enum oct_status open_graph(struct oct_trainer *t, const struct oct_model *model)
{
    const struct oct_options *o = &t->options;
    struct oct_graph *g;

    OCT_TRY(oct_graph_open(t->backend, &t->numerics, oct_comm_self(), o->batch_size, &t->graph));
    g = t->graph;
    g->with_average = o->model_ema;
    OCT_TRY(oct_samples_wanted(t, &g->with_samples));
    for (int c = 0; c < t->train->c && c < 4; c++) {
        g->mean[c] = t->train->mean[c];
        g->std[c] = t->train->std[c];
    }
    OCT_TRY(oct_model_build(model, g, t->train->h, t->train->w, t->train->c, t->train->classes));
    OCT_TRY(oct_model_initialise(g, o->seed));
    g->label_smoothing = (float)o->label_smoothing;
    g->grad_scale = 1.0f / (float)((int64_t)o->batch_size * o->grad_accum_steps);
    return oct_graph_prepare(g);
}

static enum oct_status allocate_host(struct oct_trainer *t)
{
    size_t n = (size_t)t->options.batch_size;
    t->loss = calloc(n, sizeof *t->loss);
    t->top1 = calloc(n, 1);
    t->top5 = calloc(n, 1);
    t->labels = calloc(n, sizeof *t->labels);
    if (!t->loss || !t->top1 || !t->top5 || !t->labels)
        return oct_fail(OCT_NOMEM, "no memory for the results of a batch of %zu", n);
    return OCT_OK;
}

/* Appends "name (reason); " for nodes that `pick` selects. */
static char *list_nodes(const struct oct_graph *g, bool two_plane)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    for (int i = 0; i < g->node_count; i++) {
        const struct oct_node *node = &g->nodes[i];
        if (!node->is_product)
            continue;
        if (two_plane && oct_is_int8(&node->layer, node->layer.fprop) &&
            node->layer.role[OCT_ROLE_W_FWD].format == OCT_FORMAT_INT16)
            fprintf(out, "%s; ", node->name);
        if (!two_plane && node->layer.reason[0])
            fprintf(out, "%s (%s); ", node->name, node->layer.reason);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void count_macs(struct oct_trainer *t)
{
    const struct oct_graph *g = t->graph;
    struct oct_run_info *info = &t->info;
    double integer[3] = {0};

    for (int i = 0; i < g->node_count; i++) {
        const struct oct_node *node = &g->nodes[i];
        if (!node->is_product)
            continue;
        double macs = (double)oct_conv_macs(&node->shape) / g->batch;
        const bool done[3] = {true, node->has_dgrad, true};
        const struct oct_layer_numerics *layer = &node->layer;
        const bool is_int[3] = {oct_is_int8(layer, layer->fprop), oct_is_int8(layer, layer->dgrad),
            oct_is_int8(layer, layer->wgrad)};
        for (int pass = 0; pass < 3; pass++) {
            info->macs[pass] += done[pass] ? macs : 0.0;
            integer[pass] += done[pass] && is_int[pass] ? macs : 0.0;
        }
    }
    for (int pass = 0; pass < 3; pass++)
        info->int8_share[pass] = info->macs[pass] > 0 ? integer[pass] / info->macs[pass] : 0.0;
    for (int i = 0; i < g->param_count; i++)
        info->parameters += g->params[i].count;
    for (int i = 0; i < g->value_count; i++) {
        const struct oct_pre *pre = g->values[i].pre;
        if (pre)
            t->codes_per_step += (pre->need_channel + pre->need_tensor) *
                                 oct_value_elements(&g->values[i]) * t->options.grad_accum_steps;
    }
}

static enum oct_status describe(struct oct_trainer *t)
{
    const dnnl_version_t *dnnl = dnnl_version();
    struct oct_run_info *info = &t->info;

    t->not_int8 = list_nodes(t->graph, false);
    t->two_plane = list_nodes(t->graph, true);
    t->plan_table = oct_plan_table(t->graph->plan, t->graph->batch);
    if (!t->not_int8 || !t->two_plane || !t->plan_table)
        return oct_fail(OCT_NOMEM, "no memory for the description of the run");
    snprintf(t->libraries, sizeof t->libraries, "oneDNN %d.%d.%d", dnnl->major, dnnl->minor,
        dnnl->patch);
    info->device = t->backend->name;
    info->isa = t->backend->isa;
    info->libraries = t->libraries;
    info->threads = t->backend->threads;
    info->dataset = t->train->name;
    info->train_images = t->train->count;
    info->val_images = t->val->count;
    info->height = t->train->h;
    info->width = t->train->w;
    info->channels = t->train->c;
    info->classes = t->train->classes;
    info->steps_per_epoch = t->steps_per_epoch;
    info->not_int8 = strcmp(t->options.precision, "int8") == 0 ? t->not_int8 : "";
    info->two_plane = t->two_plane;
    info->saved_bytes = (int64_t)oct_plan_saved_bytes(t->graph->plan, t->graph->node_count);
    info->device_bytes = (int64_t)oct_plan_total_bytes(t->graph->plan);
    info->config_hash = oct_settings_hash(&t->options);
    count_macs(t);
    return OCT_OK;
}

static enum oct_status open_start(struct oct_trainer *t, bool *resumed)
{
    const struct oct_options *o = &t->options;
    *resumed = false;
    if (o->checkpoint)
        return oct_checkpoint_load(t, o->checkpoint, true);
    if (!o->resume)
        return OCT_OK;
    if (strcmp(o->resume, "auto") == 0)
        return oct_checkpoint_resume_newest(t, resumed);
    *resumed = true;
    return oct_checkpoint_load(t, o->resume, false);
}

/* A run killed before its first checkpoint left logs too: `auto` starts it again from step 0. */
static enum oct_status open_log(struct oct_trainer *t, bool resumed)
{
    bool automatic = t->options.resume && strcmp(t->options.resume, "auto") == 0;
    struct oct_key_value args[128];
    char values[128][1024];
    size_t count = 0;

    for (; oct_setting_at(count) && count < 128; count++) {
        oct_setting_print(oct_setting_at(count), &t->options, values[count], sizeof values[0]);
        args[count] = (struct oct_key_value){oct_setting_at(count)->key, values[count]};
    }
    struct oct_runlog_options options = {.dir = t->options.output_dir,
        .args = args,
        .args_count = count,
        .resume_step = resumed || automatic ? t->at.step : -1,
        .resume_epoch = t->at.epoch};
    return oct_runlog_open(&options, &t->log);
}

static enum oct_status open_files(struct oct_trainer *t)
{
    bool resumed = false;
    if (t->options.output_dir)
        OCT_TRY(oct_make_folders(t->options.output_dir));
    OCT_TRY(open_start(t, &resumed));
    if (!t->options.output_dir)
        return OCT_OK;
    OCT_TRY(open_log(t, resumed));
    OCT_TRY(oct_record_open(t));
    return t->options.trace_hash ? oct_trace_open(t) : OCT_OK;
}

enum oct_status oct_trainer_open(const struct oct_options *options, oct_trainer **out)
{
    enum oct_status status = OCT_OK;
    const struct oct_model *model;
    struct oct_trainer *t = calloc(1, sizeof *t);

    if (!t)
        return oct_fail(OCT_NOMEM, "no memory for a trainer");
    OCT_OUT(oct_settings_copy(options, &t->options));
    t->at.best_top1 = -1.0;
    model = oct_model_find(t->options.model ? t->options.model : "");
    if (!model)
        OCT_OUT(
            oct_fail_unknown("model", t->options.model ? t->options.model : "", oct_model_name));
    OCT_OUT(open_numerics(t));
    OCT_OUT(open_backend(t));
    OCT_OUT(open_data(t, model));
    OCT_OUT(open_loaders(t));
    OCT_OUT(open_graph(t, model));
    OCT_OUT(allocate_host(t));
    OCT_OUT(oct_samples_open(t));
    OCT_OUT(describe(t));
    OCT_OUT(open_files(t));
    *out = t;
    return OCT_OK;
out:
    oct_trainer_close(t);
    return status;
}

void oct_trainer_close(oct_trainer *t)
{
    if (!t)
        return;
    if (t->trace)
        fclose(t->trace);
    oct_profile_free(t);
    oct_prediction_free(t);
    oct_samples_free(t);
    oct_record_close(t);
    oct_runlog_close(t->log);
    free(t->plan_table);
    free(t->not_int8);
    free(t->two_plane);
    free(t->loss);
    free(t->top1);
    free(t->top5);
    free(t->labels);
    oct_loader_close(t->val_loader);
    oct_loader_close(t->train_loader);
    oct_recordings_forget(t);
    oct_graph_close(t->graph);
    oct_dataset_close(t->val);
    oct_dataset_close(t->train);
    oct_backend_close(t->backend);
    oct_numerics_close(&t->numerics);
    oct_settings_free(&t->options);
    free(t);
}

const struct oct_run_info *oct_trainer_info(const oct_trainer *t)
{
    return &t->info;
}

const char *oct_trainer_plan(const oct_trainer *t)
{
    return t->plan_table;
}

void oct_trainer_stop(oct_trainer *t)
{
    t->stop = 1;
}
