/* The training state as a safetensors file: weights under torchvision's names and in its layout
 * (K,C,R,S), "optim.*", "ema.*", "scheme.*", and where training stands in the metadata. */
#include "train/safetensors.h"
#include "train/trainer.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A checkpoint while it is being put together. */
struct draft {
    struct oct_named_tensor *tensors;
    char (*names)[128];
    size_t count, capacity;
    struct oct_metadata metadata[192];
    char (*values)[1024];
    char (*keys)[64];
    size_t metadata_count;
};

static enum oct_status draft_open(const struct oct_graph *g, struct draft *d)
{
    *d = (struct draft){0};
    d->capacity = 3 * (size_t)g->param_count + (size_t)g->state_count;
    d->tensors = calloc(d->capacity, sizeof *d->tensors);
    d->names = calloc(d->capacity, sizeof *d->names);
    d->values = calloc(192, sizeof *d->values);
    d->keys = calloc(192, sizeof *d->keys);
    if (!d->tensors || !d->names || !d->values || !d->keys)
        return oct_fail(OCT_NOMEM, "no memory for a checkpoint");
    return OCT_OK;
}

static void draft_close(struct draft *d)
{
    for (size_t i = 0; d->tensors && i < d->count; i++)
        free(d->tensors[i].data);
    free(d->tensors);
    free(d->names);
    free(d->values);
    free(d->keys);
}

/* K,R,S,C <-> K,C,R,S of 4-byte elements. */
static void krsc_to_kcrs(const uint32_t *from, uint32_t *to, const int64_t krsc[4])
{
    int64_t rs = krsc[1] * krsc[2], c = krsc[3];
    for (int64_t k = 0; k < krsc[0]; k++)
        for (int64_t i = 0; i < rs; i++)
            for (int64_t j = 0; j < c; j++)
                to[(k * c + j) * rs + i] = from[(k * rs + i) * c + j];
}

static void kcrs_to_krsc(const uint32_t *from, uint32_t *to, const int64_t krsc[4])
{
    int64_t rs = krsc[1] * krsc[2], c = krsc[3];
    for (int64_t k = 0; k < krsc[0]; k++)
        for (int64_t i = 0; i < rs; i++)
            for (int64_t j = 0; j < c; j++)
                to[(k * rs + i) * c + j] = from[(k * c + j) * rs + i];
}

/* Shape of a parameter as torchvision has it: a linear layer's weight has two dimensions. */
static void file_shape(const struct oct_param *param, struct oct_named_tensor *out)
{
    const int64_t *d = param->dim;
    out->dims = param->dims;
    memcpy(out->dim, d, sizeof param->dim);
    if (param->dims != 4)
        return;
    bool linear = strcmp(param->name, "fc.weight") == 0;
    out->dims = linear ? 2 : 4;
    const int64_t kcrs[4] = {d[0], d[3], d[1], d[2]};
    memcpy(out->dim, kcrs, sizeof kcrs);
}

static enum oct_status add_param(struct oct_trainer *t, struct draft *d, const char *prefix,
    const char *suffix, const struct oct_param *param, const struct oct_buffer *buffer)
{
    struct oct_named_tensor *tensor = &d->tensors[d->count];
    size_t bytes = 4 * (size_t)param->count;
    uint32_t *data = malloc(bytes), *turned = NULL;

    if (!data)
        return oct_fail(OCT_NOMEM, "no memory for a checkpoint");
    tensor->data = data;
    snprintf(d->names[d->count], sizeof d->names[0], "%s%s%s", prefix, param->name, suffix);
    tensor->name = d->names[d->count];
    tensor->dtype = OCT_F32;
    file_shape(param, tensor);
    d->count++;
    OCT_TRY(t->backend->download(t->backend, data, buffer->data, bytes));
    if (param->dims != 4)
        return OCT_OK;
    turned = malloc(bytes);
    if (!turned)
        return oct_fail(OCT_NOMEM, "no memory for a checkpoint");
    krsc_to_kcrs(data, turned, param->dim);
    free(data);
    tensor->data = turned;
    return OCT_OK;
}

static enum oct_status add_state(
    struct oct_trainer *t, struct draft *d, const struct oct_state *state)
{
    struct oct_named_tensor *tensor = &d->tensors[d->count];
    tensor->name = state->name;
    tensor->dtype = state->dtype;
    tensor->dims = state->dims;
    memcpy(tensor->dim, state->dim, sizeof state->dim);
    size_t bytes = oct_named_tensor_bytes(tensor);
    tensor->data = malloc(bytes ? bytes : 1);
    if (!tensor->data)
        return oct_fail(OCT_NOMEM, "no memory for a checkpoint");
    d->count++;
    return t->backend->download(t->backend, tensor->data, state->buffer->data, bytes);
}

static char *add_metadata(struct draft *d, const char *prefix, const char *key)
{
    size_t i = d->metadata_count++;
    snprintf(d->keys[i], sizeof d->keys[0], "%s%s", prefix, key);
    d->metadata[i] = (struct oct_metadata){d->keys[i], d->values[i]};
    return d->values[i];
}

static void add_integer(struct draft *d, const char *key, int64_t value)
{
    snprintf(add_metadata(d, "octet.", key), sizeof d->values[0], "%" PRId64, value);
}

/* Hexadecimal floats keep every bit. */
static void add_double(struct draft *d, const char *key, double value)
{
    snprintf(add_metadata(d, "octet.", key), sizeof d->values[0], "%a", value);
}

static void describe(const struct oct_trainer *t, struct draft *d)
{
    const struct oct_position *at = &t->at;
    snprintf(add_metadata(d, "", "format"), sizeof d->values[0], "pt");
    snprintf(add_metadata(d, "octet.", "version"), sizeof d->values[0], "%s", OCT_VERSION);
    add_integer(d, "step", at->step);
    add_integer(d, "epoch", at->epoch);
    add_integer(d, "step_in_epoch", at->step_in_epoch);
    add_integer(d, "images", at->images);
    add_integer(d, "flagged_steps", at->flagged_steps);
    add_double(d, "loss_sum", at->loss_sum);
    add_double(d, "top1_sum", at->top1_sum);
    add_double(d, "top5_sum", at->top5_sum);
    add_double(d, "best_top1", at->best_top1);
    add_double(d, "train_seconds", at->train_seconds);
    add_integer(d, "classes", t->train->classes);
    add_integer(d, "fresh", t->graph->fresh);
    for (size_t i = 0; oct_setting_at(i); i++)
        oct_setting_print(oct_setting_at(i), &t->options,
            add_metadata(d, "octet.arg.", oct_setting_at(i)->key), sizeof d->values[0]);
}

enum oct_status oct_checkpoint_save(struct oct_trainer *t, const char *path)
{
    enum oct_status status = OCT_OK;
    const struct oct_graph *g = t->graph;
    struct draft d;

    OCT_OUT(draft_open(g, &d));
    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        OCT_OUT(add_param(t, &d, "", "", param, param->value));
        OCT_OUT(add_param(t, &d, "optim.", ".momentum", param, param->momentum));
        if (param->average)
            OCT_OUT(add_param(t, &d, "ema.", "", param, param->average));
    }
    for (int i = 0; i < g->state_count; i++)
        OCT_OUT(add_state(t, &d, &g->states[i]));
    describe(t, &d);
    OCT_OUT(oct_safetensors_write(path, d.tensors, d.count, d.metadata, d.metadata_count));
out:
    draft_close(&d);
    return status;
}

static enum oct_status check_tensor(
    const char *path, const struct oct_named_tensor *want, const struct oct_named_tensor *found)
{
    char shapes[2][128] = {"", ""};
    const struct oct_named_tensor *const both[2] = {want, found};
    bool same = want->dims == found->dims && want->dtype == found->dtype &&
                memcmp(want->dim, found->dim, sizeof want->dim[0] * (size_t)want->dims) == 0;
    if (same)
        return OCT_OK;
    for (int i = 0; i < 2; i++) {
        size_t used =
            (size_t)snprintf(shapes[i], sizeof shapes[i], "%s", oct_dtype_name(both[i]->dtype));
        for (int j = 0; j < both[i]->dims && used < sizeof shapes[i]; j++)
            used += (size_t)snprintf(shapes[i] + used, sizeof shapes[i] - used, "%s%lld",
                j ? "x" : " ", (long long)both[i]->dim[j]);
    }
    return oct_fail(OCT_SHAPE,
        "%s: tensor %s is %s, this network wants %s: use the model, data set and scheme of the "
        "checkpoint",
        path, want->name, shapes[1], shapes[0]);
}

/* Uploads tensor `name` of the file if it is there; *found says so. */
static enum oct_status load_param(struct oct_trainer *t, const struct oct_safetensors *file,
    const char *path, const char *name, const struct oct_param *param,
    const struct oct_buffer *buffer, bool *found)
{
    enum oct_status status = OCT_OK;
    const struct oct_named_tensor *tensor = oct_safetensors_find(file, name);
    struct oct_named_tensor want = {.name = name, .dtype = OCT_F32};
    size_t bytes = 4 * (size_t)param->count;
    uint32_t *turned = NULL;

    *found = tensor != NULL;
    if (!tensor)
        return OCT_OK;
    file_shape(param, &want);
    OCT_TRY(check_tensor(path, &want, tensor));
    if (param->dims != 4)
        return t->backend->upload(t->backend, buffer->data, tensor->data, bytes);
    turned = malloc(bytes);
    if (!turned)
        return oct_fail(OCT_NOMEM, "no memory to load %s", path);
    kcrs_to_krsc(tensor->data, turned, param->dim);
    OCT_OUT(t->backend->upload(t->backend, buffer->data, turned, bytes));
out:
    free(turned);
    return status;
}

static enum oct_status missing(const char *path, const char *name)
{
    return oct_fail(
        OCT_IO, "%s: tensor %s is missing: this is not a checkpoint of this network", path, name);
}

static enum oct_status load_params(
    struct oct_trainer *t, const struct oct_safetensors *file, const char *path, bool weights_only)
{
    const struct oct_graph *g = t->graph;
    char name[128];
    bool found;

    for (int i = 0; i < g->param_count; i++) {
        const struct oct_param *param = &g->params[i];
        OCT_TRY(load_param(t, file, path, param->name, param, param->value, &found));
        if (!found)
            return missing(path, param->name);
        if (param->average) {
            snprintf(name, sizeof name, "ema.%s", param->name);
            OCT_TRY(load_param(t, file, path, name, param, param->average, &found));
            if (!found)
                OCT_TRY(load_param(t, file, path, param->name, param, param->average, &found));
        }
        if (weights_only)
            continue;
        snprintf(name, sizeof name, "optim.%s.momentum", param->name);
        OCT_TRY(load_param(t, file, path, name, param, param->momentum, &found));
        if (!found)
            return missing(path, name);
    }
    return OCT_OK;
}

static enum oct_status load_states(
    struct oct_trainer *t, const struct oct_safetensors *file, const char *path, bool weights_only)
{
    const struct oct_graph *g = t->graph;
    for (int i = 0; i < g->state_count; i++) {
        const struct oct_state *state = &g->states[i];
        const struct oct_named_tensor *tensor = oct_safetensors_find(file, state->name);
        bool scheme = strncmp(state->name, "scheme.", 7) == 0;
        struct oct_named_tensor want = {
            .name = state->name, .dtype = state->dtype, .dims = state->dims};
        memcpy(want.dim, state->dim, sizeof state->dim);
        if (!tensor && weights_only && scheme)
            continue; /* weights of another precision: the scales find themselves anew */
        if (!tensor)
            return missing(path, state->name);
        OCT_TRY(check_tensor(path, &want, tensor));
        OCT_TRY(t->backend->upload(
            t->backend, state->buffer->data, tensor->data, oct_named_tensor_bytes(tensor)));
    }
    return OCT_OK;
}

static enum oct_status number(
    const struct oct_safetensors *file, const char *path, const char *key, double *out)
{
    char name[64], *end;
    snprintf(name, sizeof name, "octet.%s", key);
    const char *text = oct_safetensors_metadata(file, name);
    if (!text)
        return oct_fail(OCT_IO,
            "%s: metadata %s is missing: the file holds weights, not a training state: use "
            "--checkpoint to start from them",
            path, name);
    *out = strtod(text, &end);
    if (end == text || *end)
        return oct_fail(OCT_IO, "%s: metadata %s is '%s', not a number", path, name, text);
    return OCT_OK;
}

static enum oct_status load_position(
    const struct oct_safetensors *file, const char *path, struct oct_position *out, double *fresh)
{
    double step = 0, epoch = 0, step_in_epoch = 0, images = 0, flagged = 0;
    struct oct_position at = {0};
    OCT_TRY(number(file, path, "step", &step));
    OCT_TRY(number(file, path, "epoch", &epoch));
    OCT_TRY(number(file, path, "step_in_epoch", &step_in_epoch));
    OCT_TRY(number(file, path, "images", &images));
    OCT_TRY(number(file, path, "loss_sum", &at.loss_sum));
    OCT_TRY(number(file, path, "top1_sum", &at.top1_sum));
    OCT_TRY(number(file, path, "top5_sum", &at.top5_sum));
    OCT_TRY(number(file, path, "best_top1", &at.best_top1));
    OCT_TRY(number(file, path, "train_seconds", &at.train_seconds));
    OCT_TRY(number(file, path, "fresh", fresh));
    if (oct_safetensors_metadata(file, "octet.flagged_steps")) /* older files have none */
        OCT_TRY(number(file, path, "flagged_steps", &flagged));
    if (!(step >= 0 && step < 1e15 && epoch >= 0 && epoch < 1e9 && step_in_epoch >= 0 &&
            step_in_epoch <= step && images >= 0 && images < 1e15 && flagged >= 0 &&
            flagged <= step_in_epoch))
        return oct_fail(OCT_IO, "%s: its position in training makes no sense", path);
    at.step = (int64_t)step;
    at.epoch = (int)epoch;
    at.step_in_epoch = (int64_t)step_in_epoch;
    at.images = (int64_t)images;
    at.flagged_steps = (int64_t)flagged;
    *out = at;
    return OCT_OK;
}

/* A resumed run must compute what the interrupted one would have computed. */
static enum oct_status check_settings(
    const struct oct_trainer *t, const struct oct_safetensors *file, const char *path)
{
    for (size_t i = 0; oct_setting_at(i); i++) {
        const struct oct_setting *setting = oct_setting_at(i);
        char key[96], now[1024];
        snprintf(key, sizeof key, "octet.arg.%s", setting->key);
        oct_setting_print(setting, &t->options, now, sizeof now);
        const char *then = oct_safetensors_metadata(file, key);
        if (setting->decides_bits && (!then || strcmp(then, now) != 0))
            return oct_fail(OCT_ARG,
                "%s was made with %s '%s', this run has '%s': give the same options to continue "
                "it, or --checkpoint to start a new run from its weights",
                path, setting->key, then ? then : "(unknown)", now);
    }
    return OCT_OK;
}

static bool has_place(const struct oct_graph *g, const char *name)
{
    static const char *const others[] = {"optim.", "ema.", "scheme."}; /* of other options, too */
    static const char counter[] = ".num_batches_tracked";              /* torch's */
    const size_t length = strlen(name), end = sizeof counter - 1;

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strncmp(name, others[i], strlen(others[i])) == 0)
            return true;
    if (length > end && strcmp(name + length - end, counter) == 0)
        return true;
    for (int i = 0; i < g->param_count; i++)
        if (strcmp(name, g->params[i].name) == 0)
            return true;
    for (int i = 0; i < g->state_count; i++)
        if (strcmp(name, g->states[i].name) == 0)
            return true;
    return false;
}

/* Parameters that were trained and would be dropped make another network of it. */
static enum oct_status check_rest(
    const struct oct_trainer *t, const struct oct_safetensors *file, const char *path)
{
    for (size_t i = 0; i < oct_safetensors_count(file); i++) {
        const char *name = oct_safetensors_at(file, i)->name;
        if (!has_place(t->graph, name))
            return oct_fail(OCT_IO,
                "%s: tensor %s has no place in this network: give the model and the --scheme-opt "
                "that the file was made with",
                path, name);
    }
    return OCT_OK;
}

enum oct_status oct_checkpoint_load(struct oct_trainer *t, const char *path, bool weights_only)
{
    enum oct_status status = OCT_OK;
    struct oct_safetensors *file = NULL;
    struct oct_position at = t->at;
    double fresh = 1.0;

    OCT_TRY(oct_safetensors_open(path, &file));
    if (!weights_only) {
        OCT_OUT(check_settings(t, file, path));
        OCT_OUT(load_position(file, path, &at, &fresh));
    }
    OCT_OUT(check_rest(t, file, path));
    OCT_OUT(load_params(t, file, path, weights_only));
    OCT_OUT(load_states(t, file, path, weights_only));
    OCT_OUT(oct_graph_prepare(t->graph));
    t->at = at;
    t->graph->fresh = fresh != 0.0;
    t->loader_started = false;
out:
    oct_safetensors_close(file);
    return status;
}

enum oct_status oct_trainer_save(oct_trainer *t, const char *path)
{
    return oct_checkpoint_save(t, path);
}

enum oct_status oct_trainer_load(oct_trainer *t, const char *path)
{
    return oct_checkpoint_load(t, path, false);
}

enum oct_status oct_checkpoint_settings(
    const char *path, void (*setting)(void *user, const char *key, const char *value), void *user)
{
    struct oct_safetensors *file = NULL;

    OCT_TRY(oct_safetensors_open(path, &file));
    for (size_t i = 0; oct_setting_at(i); i++) {
        char name[96];
        snprintf(name, sizeof name, "octet.arg.%s", oct_setting_at(i)->key);
        const char *text = oct_safetensors_metadata(file, name);
        if (text)
            setting(user, oct_setting_at(i)->key, text);
    }
    oct_safetensors_close(file);
    return OCT_OK;
}

struct found {
    char path[4096];
    double step;
};

static int newest_first(const void *a_, const void *b_)
{
    const struct found *a = a_, *b = b_;
    if (a->step != b->step)
        return a->step > b->step ? -1 : 1;
    return strcmp(a->path, b->path);
}

static bool named(const char *name, const char *prefix)
{
    size_t n = strlen(name), m = strlen(".safetensors");
    return strncmp(name, prefix, strlen(prefix)) == 0 && n > m &&
           strcmp(name + n - m, ".safetensors") == 0;
}

static void warn_of_last_error(struct oct_trainer *t)
{
    oct_emit(t, (struct oct_event){.kind = OCT_EVENT_WARNING, .text = oct_last_error()});
}

/* The checkpoints of a folder that can be read, newest first; *out is the caller's to free.
 * *refused counts the others. */
static enum oct_status list_checkpoints(
    struct oct_trainer *t, const char *dir, struct found **out, size_t *count, size_t *refused)
{
    static const char *const prefixes[] = {"last", "recovery-", "checkpoint-"};
    struct found *list = NULL;
    size_t n = 0;
    struct dirent *entry;
    DIR *folder = opendir(dir);

    *out = NULL;
    *count = 0;
    *refused = 0;
    if (!folder)
        return OCT_OK; /* no folder yet: nothing to resume */
    while ((entry = readdir(folder))) {
        struct found item;
        struct oct_safetensors *file = NULL;
        bool wanted = false;
        for (int i = 0; i < 3; i++)
            wanted = wanted || named(entry->d_name, prefixes[i]);
        if (!wanted)
            continue;
        snprintf(item.path, sizeof item.path, "%s/%s", dir, entry->d_name);
        enum oct_status status = oct_safetensors_open(item.path, &file);
        if (status == OCT_OK)
            status = number(file, item.path, "step", &item.step);
        oct_safetensors_close(file);
        if (status != OCT_OK) {
            warn_of_last_error(t);
            ++*refused;
            continue;
        }
        struct found *grown = realloc(list, (n + 1) * sizeof *list);
        if (!grown) {
            free(list);
            closedir(folder);
            return oct_fail(OCT_NOMEM, "no memory to look for checkpoints in %s", dir);
        }
        list = grown;
        list[n++] = item;
    }
    closedir(folder);
    if (n > 1)
        qsort(list, n, sizeof *list, newest_first);
    *out = list;
    *count = n;
    return OCT_OK;
}

enum oct_status oct_checkpoint_resume_newest(struct oct_trainer *t, bool *found)
{
    const char *dir = t->options.output_dir;
    enum oct_status status = OCT_OK;
    struct found *list;
    size_t count, refused;

    *found = false;
    OCT_TRY(list_checkpoints(t, dir, &list, &count, &refused));
    for (size_t i = 0; i < count && !*found; i++) {
        status = oct_checkpoint_load(t, list[i].path, false);
        *found = status == OCT_OK;
        if (status == OCT_ARG) /* made with other options: an older one would be too */
            goto out;
        if (status != OCT_OK)
            warn_of_last_error(t);
    }
    if (!*found && count + refused > 0)
        OCT_OUT(oct_fail(OCT_IO,
            "none of the %zu checkpoints in '%s' can be used, see the warnings: choose another "
            "folder to start anew",
            count + refused, dir));
out:
    free(list);
    return status;
}

static int by_number(const void *a_, const void *b_)
{
    const char *a = *(char *const *)a_, *b = *(char *const *)b_;
    size_t n = strlen(a), m = strlen(b);
    return n != m ? (n < m ? -1 : 1) : strcmp(a, b); /* longer numbers are larger */
}

void oct_checkpoint_prune(const char *dir, const char *prefix, int keep)
{
    char *names[512];
    int count = 0;
    struct dirent *entry;
    DIR *folder = opendir(dir);

    if (!folder)
        return;
    while ((entry = readdir(folder)) && count < 512)
        if (named(entry->d_name, prefix) && (names[count] = strdup(entry->d_name)))
            count++;
    closedir(folder);
    qsort(names, (size_t)count, sizeof names[0], by_number);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (i < count - keep)
            unlink(path);
        free(names[i]);
    }
}
