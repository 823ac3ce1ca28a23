#include "train/runlog.h"

#include "base/file.h"
#include "train/runlog_resume.h"
#include "train/tfevents.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <yaml.h>

struct oct_runlog {
    char *dir, *json_path, *csv_path, *curve_path;
    int dir_fd; /* holds the lock that keeps a second process out */
    int json_fd, csv_fd;
    struct oct_tfevents *events;
    double opened;
    int failed;   /* a write failed and was reported */
    int no_curve; /* drawing failed and was reported */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* --- args.yaml --- */

struct yaml_target {
    struct oct_atomic_file file;
    enum oct_status status;
};

static int yaml_write(void *user, unsigned char *data, size_t bytes)
{
    struct yaml_target *target = user;
    target->status = oct_atomic_write(&target->file, data, bytes);
    return target->status == OCT_OK;
}

static int emit_scalar(yaml_emitter_t *emitter, const char *text)
{
    yaml_event_t event;
    /* Any style: plain where YAML allows it, so that numbers stay numbers; else quoted. Left to
     * itself libyaml would write "" as nothing, which reads as null. */
    yaml_scalar_style_t style = *text ? YAML_ANY_SCALAR_STYLE : YAML_SINGLE_QUOTED_SCALAR_STYLE;
    return yaml_scalar_event_initialize(
               &event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1, style) &&
           yaml_emitter_emit(emitter, &event);
}

static int emit_args(yaml_emitter_t *emitter, const struct oct_key_value *args, size_t count)
{
    yaml_event_t event;
    int ok = yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) &&
             yaml_emitter_emit(emitter, &event) &&
             yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) &&
             yaml_emitter_emit(emitter, &event) &&
             yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) &&
             yaml_emitter_emit(emitter, &event);
    for (size_t i = 0; ok && i < count; i++)
        ok = emit_scalar(emitter, args[i].key) &&
             emit_scalar(emitter, args[i].value ? args[i].value : "null");
    return ok && yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event) &&
           yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(emitter, &event) &&
           yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(emitter, &event);
}

static enum oct_status write_args(const struct oct_runlog_options *options)
{
    enum oct_status status = OCT_OK;
    struct yaml_target target = {.file = {.fd = -1}};
    yaml_emitter_t emitter;
    char *path = NULL;
    if (!yaml_emitter_initialize(&emitter))
        return oct_fail(OCT_NOMEM, "no memory to write args.yaml in '%s'", options->dir);
    OCT_OUT(oct_path_join(options->dir, "args.yaml", &path));
    OCT_OUT(oct_atomic_open(&target.file, path));
    yaml_emitter_set_output(&emitter, yaml_write, &target);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1);
    int ok = emit_args(&emitter, options->args, options->args_count);
    OCT_OUT(target.status);
    if (!ok)
        OCT_OUT(oct_fail(OCT_ARG, "cannot write '%s': %s; keys and values must be UTF-8", path,
            emitter.problem ? emitter.problem : "a key or value was refused"));
    OCT_OUT(oct_atomic_commit(&target.file));
out:
    oct_atomic_abandon(&target.file);
    yaml_emitter_delete(&emitter);
    free(path);
    return status;
}

/* --- opening --- */

/* A fresh run must not write over the logs of another one. */
static enum oct_status refuse_existing(const char *path, off_t empty_bytes)
{
    struct stat info;
    if (stat(path, &info) == 0 && info.st_size > empty_bytes)
        return oct_fail(OCT_ARG,
            "'%s' exists: the folder already holds a run; continue it with "
            "--resume auto or choose another folder",
            path);
    return OCT_OK;
}

static enum oct_status lock_folder(struct oct_runlog *log)
{
    log->dir_fd = open(log->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->dir_fd < 0)
        return oct_fail(OCT_IO, "cannot open the folder '%s': %s", log->dir, strerror(errno));
    /* Other errors: a file system without locks; it works, only unguarded. */
    if (flock(log->dir_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return oct_fail(OCT_ARG,
            "another run is writing to '%s'; wait for its end or choose another "
            "folder",
            log->dir);
    oct_runlog_sweep(log->dir);
    return OCT_OK;
}

static enum oct_status open_append(const char *path, int *fd)
{
    *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*fd < 0)
        return oct_fail(OCT_IO, "cannot open '%s' for writing: %s", path, strerror(errno));
    return OCT_OK;
}

static enum oct_status open_files(struct oct_runlog *log, const struct oct_runlog_options *options)
{
    int fresh = options->resume_step < 0;
    OCT_TRY(oct_path_join(log->dir, "log.jsonl", &log->json_path));
    OCT_TRY(oct_path_join(log->dir, "summary.csv", &log->csv_path));
    OCT_TRY(oct_path_join(log->dir, "curve.svg", &log->curve_path));
    if (fresh) {
        OCT_TRY(refuse_existing(log->json_path, 0));
        OCT_TRY(refuse_existing(log->csv_path, (off_t)strlen(OCT_SUMMARY_HEADER)));
    } else {
        OCT_TRY(oct_runlog_cut_json(log->json_path, options->resume_step, options->resume_epoch));
    }
    OCT_TRY(oct_runlog_cut_csv(log->csv_path, fresh ? 0 : options->resume_epoch));
    OCT_TRY(write_args(options));
    OCT_TRY(open_append(log->json_path, &log->json_fd));
    OCT_TRY(open_append(log->csv_path, &log->csv_fd));
    return oct_tfevents_open(log->dir, fresh ? -1 : options->resume_step + 1, &log->events);
}

static void release(struct oct_runlog *log)
{
    int fds[] = {log->json_fd, log->csv_fd, log->dir_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    oct_tfevents_close(log->events);
    free(log->dir);
    free(log->json_path);
    free(log->csv_path);
    free(log->curve_path);
    free(log);
}

enum oct_status oct_runlog_open(const struct oct_runlog_options *options, struct oct_runlog **out)
{
    enum oct_status status = OCT_OK;
    struct oct_runlog *log = calloc(1, sizeof *log);
    if (!log)
        return oct_fail(OCT_NOMEM, "no memory for the log of '%s'", options->dir);
    log->dir_fd = log->json_fd = log->csv_fd = -1;
    log->opened = now();
    log->dir = strdup(options->dir);
    if (!log->dir)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for the log of '%s'", options->dir));
    OCT_OUT(oct_make_folders(log->dir));
    OCT_OUT(lock_folder(log));
    OCT_OUT(open_files(log, options));
    *out = log;
    log = NULL;
out:
    if (log)
        release(log);
    return status;
}

/* --- records --- */

/* JSON knows neither NaN nor Inf. */
static json_t *real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Appends the object, which it takes over, as one line in one write. Reals have 17 digits. */
static enum oct_status append_json(struct oct_runlog *log, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        return oct_fail(OCT_NOMEM, "no memory for a record of '%s'", log->json_path);
    size_t length = strlen(text);
    text[length] = '\n';
    enum oct_status status = oct_write_all(log->json_fd, text, length + 1, log->json_path);
    free(text);
    return status;
}

/* Nine digits hold a float exactly; jansson's digits do not depend on the locale. */
static void csv_real(double value, char text[32])
{
    size_t length = 0;
    json_t *json = isfinite(value) ? json_real(value) : NULL;
    if (json)
        length = json_dumpb(json, text, 31, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    text[length] = '\0';
    json_decref(json);
}

static enum oct_status append_csv(struct oct_runlog *log, const struct oct_epoch_record *record)
{
    char line[256], train[32], eval[32], top1[32], top5[32], lr[32];
    csv_real(record->train_loss, train);
    csv_real(record->eval_loss, eval);
    csv_real(record->eval_top1, top1);
    csv_real(record->eval_top5, top5);
    csv_real(record->lr, lr);
    int length = snprintf(
        line, sizeof line, "%d,%s,%s,%s,%s,%s\n", record->epoch, train, eval, top1, top5, lr);
    return oct_write_all(log->csv_fd, line, (size_t)length, log->csv_path);
}

/* Remembers a failure, so that it is reported once. */
static enum oct_status note(struct oct_runlog *log, enum oct_status status)
{
    log->failed = status != OCT_OK;
    return status;
}

static enum oct_status log_step(struct oct_runlog *log, const struct oct_step_record *record)
{
    json_t *object = json_pack("{s:s, s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "step",
        "step", (json_int_t)record->step, "epoch", record->epoch, "train_loss",
        real(record->train_loss), "lr", real(record->lr), "img_per_s",
        real(record->images_per_second), "data_s", real(record->data_seconds), "step_s",
        real(record->step_seconds), "sat", real(record->saturation));
    OCT_TRY(append_json(log, object));
    const struct oct_scalar scalars[] = {{"train/loss", record->train_loss},
        {"train/lr", record->lr}, {"train/img_per_s", record->images_per_second}};
    return oct_tfevents_write(log->events, record->step, scalars, 3);
}

enum oct_status oct_runlog_step(struct oct_runlog *log, const struct oct_step_record *record)
{
    return log->failed ? OCT_OK : note(log, log_step(log, record));
}

static json_t *layers_json(const struct oct_layer_record *layers, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct oct_layer_record *l = &layers[i];
        json_array_append_new(array,
            json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
                      "s:o, s:o}",
                "layer", l->layer, "int8_share", real(l->int8_share), "saturation_dw",
                real(l->saturation_dw), "saturation_dx", real(l->saturation_dx), "tail_share",
                real(l->tail_share), "clip_over_amax", real(l->clip_over_amax), "cosine_dw",
                real(l->cosine_dw), "channel_clipped", real(l->channel_clipped), "y_overflow",
                real(l->y_overflow), "clip_share", real(l->clip_share), "direction_loss",
                real(l->direction_loss), "lr_factor", real(l->lr_factor), "barrier_share",
                real(l->barrier_share), "activation_barrier_share",
                real(l->activation_barrier_share), "update_code", real(l->update_code),
                "momentum_code", real(l->momentum_code), "update_zeros", real(l->update_zeros)));
    }
    return array;
}

static enum oct_status log_epoch(struct oct_runlog *log, const struct oct_epoch_record *record)
{
    double time = now();
    json_t *object = json_pack(
        "{s:s, s:f, s:f, s:i, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "type",
        "epoch", "timestamp", time, "relative_time", time - log->opened, "epoch", record->epoch,
        "step", (json_int_t)record->step, "flagged_steps", (json_int_t)record->flagged_steps,
        "current_lr", real(record->lr), "train_loss", real(record->train_loss), "eval_loss",
        real(record->eval_loss), "top_1", real(record->eval_top1), "top_5", real(record->eval_top5),
        "train_time", real(record->train_seconds), "val_time", real(record->val_seconds),
        "img_per_s", real(record->images_per_second), "data_share", real(record->data_share),
        "layers", layers_json(record->layers, record->layer_count));
    OCT_TRY(append_json(log, object));
    OCT_TRY(append_csv(log, record));
    const struct oct_scalar scalars[] = {{"eval/loss", record->eval_loss},
        {"eval/top1", record->eval_top1}, {"eval/top5", record->eval_top5}};
    return oct_tfevents_write(log->events, record->step, scalars, 3);
}

/* A missing plot driver is told once and costs the plot, not the records. */
static enum oct_status draw_curve(struct oct_runlog *log)
{
    if (log->no_curve)
        return OCT_OK;
    enum oct_status status = oct_plot_curves((const char *const *)&log->dir, 1, log->curve_path);
    log->no_curve = status != OCT_OK;
    return status;
}

enum oct_status oct_runlog_epoch(struct oct_runlog *log, const struct oct_epoch_record *record)
{
    if (log->failed)
        return OCT_OK;
    OCT_TRY(note(log, log_epoch(log, record)));
    return draw_curve(log);
}

void oct_runlog_close(struct oct_runlog *log)
{
    if (log)
        release(log);
}
