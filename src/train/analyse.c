/* octet analyse: recorded operands (record.h) through the backend's own ranges, quantisers and
 * products, as a scheme's policies say, against float64. One layer at a time; the clip values of a
 * layer live from recorded step to recorded step, as they would in training. */
#include "train/analyse.h"

#include "schemes/scheme.h"
#include "train/analyse_trial.h"
#include "train/safetensors.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 256, MOST_TRIALS = 64 };

/* A scheme, or an ablation of one: the same policies with one thing changed. */
struct trial {
    char name[64];
    struct oct_numerics numerics;
};

struct analysis {
    oct_backend *backend;
    const struct oct_options *options;
    void (*row)(void *user, const struct oct_analysis_row *row);
    void *user;
    struct oct_safetensors *file[MOST_STEPS];
    int64_t step[MOST_STEPS];
    size_t steps;
    struct trial trial[MOST_TRIALS];
    size_t trials;
};

/* --- trials --- */

static enum oct_status add_trial(struct analysis *a, const char *scheme, const char *change)
{
    const struct oct_options *o = a->options;
    const struct oct_numerics_request request = {.precision = "int8",
        .scheme = scheme,
        .rounding = o->rounding,
        .first_last = o->first_last,
        .act_dtype = o->act_dtype,
        .int8_fprop = true,
        .int8_dgrad = true,
        .int8_wgrad = true};
    struct trial *trial = &a->trial[a->trials];

    if (a->trials == MOST_TRIALS)
        return oct_fail(OCT_INTERNAL, "more than %d schemes and ablations", MOST_TRIALS);
    OCT_TRY(oct_numerics_open(&request, &trial->numerics));
    struct oct_policy *dw = &trial->numerics.role[OCT_ROLE_DY_DW];
    struct oct_policy *dx = &trial->numerics.role[OCT_ROLE_DY_DX];
    const struct oct_policy was[2] = {*dw, *dx};
    if (strcmp(change, "per tensor") == 0)
        dw->granularity = OCT_PER_TENSOR;
    else if (strcmp(change, "per channel") == 0 && dw->search_period == 0)
        dw->granularity = OCT_PER_CHANNEL; /* a search wants one scale */
    else if (strcmp(change, "unclipped") == 0) {
        dw->clip = dx->clip = OCT_CLIP_AMAX;
        dw->search_period = dx->search_period = 0;
    }
    bool same =
        was[0].granularity == dw->granularity && was[0].clip == dw->clip && was[1].clip == dx->clip;
    if (*change && same) {
        oct_numerics_close(&trial->numerics);
        return OCT_OK;
    }
    snprintf(trial->name, sizeof trial->name, "%s%s%s", scheme, *change ? ", " : "", change);
    a->trials++;
    return OCT_OK;
}

static enum oct_status list_trials(struct analysis *a)
{
    static const char *const changes[] = {"", "per tensor", "per channel", "unclipped"};
    for (size_t i = 0; oct_scheme_name(i); i++)
        for (size_t j = 0; j < sizeof changes / sizeof changes[0]; j++)
            OCT_TRY(add_trial(a, oct_scheme_name(i), changes[j]));
    return OCT_OK;
}

/* --- recorded tensors --- */

static enum oct_status open_files(struct analysis *a)
{
    enum oct_status status = OCT_OK;
    char pattern[4096];
    glob_t found;

    if (!a->options->output_dir)
        return oct_fail(OCT_ARG, "no run folder: name one that train --record-gradients wrote");
    snprintf(pattern, sizeof pattern, "%s/gradients-*.safetensors", a->options->output_dir);
    if (glob(pattern, 0, NULL, &found) != 0)
        return oct_fail(OCT_IO,
            "%s: no such files: record them with octet train --precision fp32 "
            "--record-gradients 200 --output-dir DIR",
            pattern);
    for (size_t i = 0; i < found.gl_pathc && i < MOST_STEPS; i++) { /* sorted: steps ascend */
        const char *number = strrchr(found.gl_pathv[i], '-') + 1;
        a->step[i] = strtoll(number, NULL, 10);
        OCT_OUT(oct_safetensors_open(found.gl_pathv[i], &a->file[i]));
        a->steps = i + 1;
    }
out:
    globfree(&found);
    return status;
}

static const struct oct_named_tensor *tensor_of(
    const struct oct_safetensors *file, const char *layer, const char *what)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", layer, what);
    const struct oct_named_tensor *tensor = oct_safetensors_find(file, name);
    return tensor && tensor->dims == 4 && tensor->dtype == OCT_F32 ? tensor : NULL;
}

/* The layer as file `index` has it; *there false if it was not recorded in that step. */
static enum oct_status find_subject(
    const struct analysis *a, size_t index, const char *layer, struct oct_subject *out, bool *there)
{
    const struct oct_safetensors *file = a->file[index];
    const struct oct_named_tensor *x = tensor_of(file, layer, "x");
    const struct oct_named_tensor *w = tensor_of(file, layer, "w");
    const struct oct_named_tensor *dy = tensor_of(file, layer, "dy");
    const char *text = oct_safetensors_metadata(file, layer);
    struct oct_subject found = {0};
    int stride, pad, dilation;

    *there = x != NULL;
    if (!*there)
        return OCT_OK;
    if (!w || !dy || !text ||
        sscanf(text, "%d %d %d %d %d", &stride, &pad, &dilation, &found.edge, &found.dgrad) != 5)
        return oct_fail(OCT_IO, "step %lld: layer %s is not whole: record it again",
            (long long)a->step[index], layer);
    struct oct_conv_shape *v = &found.shape;
    *v = oct_conv_pointwise(
        (int)x->dim[0], (int)x->dim[1], (int)x->dim[2], (int)x->dim[3], (int)w->dim[0]);
    v->r = (int)w->dim[1];
    v->s = (int)w->dim[2];
    v->stride_h = v->stride_w = stride;
    v->pad_h = v->pad_w = pad;
    v->dilation_h = v->dilation_w = dilation;
    if (stride < 1 || pad < 0 || dilation < 1 || w->dim[3] != v->c || dy->dim[0] != v->n ||
        dy->dim[1] != oct_conv_p(v) || dy->dim[2] != oct_conv_q(v) || dy->dim[3] != v->k)
        return oct_fail(OCT_IO, "step %lld: the shapes of layer %s contradict each other",
            (long long)a->step[index], layer);
    snprintf(found.name, sizeof found.name, "%s", layer);
    found.x = x->data;
    found.w = w->data;
    found.dy = dy->data;
    found.dw = malloc(sizeof(double) * (size_t)oct_conv_w_elements(v));
    found.dx = found.dgrad ? malloc(sizeof(double) * (size_t)oct_conv_x_elements(v)) : NULL;
    *out = found;
    if (!found.dw || (found.dgrad && !found.dx))
        return oct_fail(OCT_NOMEM, "no memory for the float64 gradients of %s", layer);
    oct_float64_gradients(v, found.x, found.w, found.dy, found.dw, found.dx);
    return OCT_OK;
}

static void free_subject(struct oct_subject *s)
{
    free(s->dw);
    free(s->dx);
    s->dw = s->dx = NULL;
}

static enum oct_status measure(const struct analysis *a, const struct trial *trial,
    struct oct_trial *bench, const struct oct_subject *s, int64_t step)
{
    struct oct_analysis_row row = {.scheme = trial->name, .layer = s->name, .step = step};
    if (!bench->plan)
        return OCT_OK;
    OCT_TRY(oct_trial_measure(bench, s, step, a->options->seed, &row));
    a->row(a->user, &row);
    return OCT_OK;
}

/* All trials with one layer, in the order of the recorded steps. */
static enum oct_status analyse_layer(const struct analysis *a, const char *layer)
{
    enum oct_status status = OCT_OK;
    struct oct_subject s = {0};
    struct oct_trial bench[MOST_TRIALS] = {0};
    bool opened = false, there;

    for (size_t i = 0; i < a->steps; i++) {
        OCT_OUT(find_subject(a, i, layer, &s, &there));
        if (!there)
            continue;
        for (size_t j = 0; j < a->trials && !opened; j++)
            OCT_OUT(oct_trial_open(&bench[j], a->backend, &a->trial[j].numerics, &s));
        opened = true;
        for (size_t j = 0; j < a->trials; j++)
            OCT_OUT(measure(a, &a->trial[j], &bench[j], &s, a->step[i]));
        free_subject(&s);
    }
out:
    free_subject(&s);
    for (size_t j = 0; j < a->trials; j++)
        oct_trial_close(&bench[j]);
    return status;
}

static enum oct_status analyse_layers(const struct analysis *a)
{
    char layer[96];
    for (size_t i = 0; i < oct_safetensors_count(a->file[0]); i++) {
        const char *name = oct_safetensors_at(a->file[0], i)->name, *dot = strrchr(name, '.');
        if (!dot || strcmp(dot, ".x") != 0)
            continue;
        snprintf(layer, sizeof layer, "%.*s", (int)(dot - name), name);
        OCT_TRY(analyse_layer(a, layer));
    }
    return OCT_OK;
}

enum oct_status oct_analyse(const struct oct_options *options,
    void (*row)(void *user, const struct oct_analysis_row *row), void *user)
{
    enum oct_status status = OCT_OK;
    bool automatic = !options->isa || strcmp(options->isa, "auto") == 0;
    const struct oct_backend_options device = {.device = options->device,
        .isa = automatic ? NULL : options->isa,
        .threads = options->threads};
    struct analysis *a = calloc(1, sizeof *a);

    if (!a)
        return oct_fail(OCT_NOMEM, "no memory for the analysis");
    a->options = options;
    a->row = row;
    a->user = user;
    OCT_OUT(open_files(a));
    OCT_OUT(list_trials(a));
    OCT_OUT(oct_backend_open(&device, &a->backend));
    OCT_OUT(analyse_layers(a));
out:
    for (size_t i = 0; i < a->trials; i++)
        oct_numerics_close(&a->trial[i].numerics);
    for (size_t i = 0; i < MOST_STEPS; i++)
        oct_safetensors_close(a->file[i]);
    oct_backend_close(a->backend);
    free(a);
    return status;
}
