/* Learning curves: training loss and evaluation top-1 by epoch of one or several runs. */
#include "train/jsonl.h"
#include "train/plot.h"

#include "base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 160 };

enum quantity { LOSS, TOP1, QUANTITIES };

/* One quantity of one run over the epochs completed. */
struct points {
    struct oct_plot_line line;
    size_t room;
};

struct series {
    struct points of[QUANTITIES];
    double epochs; /* completed */
    char label[LABEL];
};

static double number(const json_t *object, const char *key)
{
    const json_t *json = json_object_get(object, key);
    return json_is_number(json) ? json_number_value(json) : NAN;
}

static enum oct_status add_point(struct points *p, double x, double y)
{
    struct oct_plot_line *line = &p->line;
    if (line->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        double *grown_x = realloc(line->x, room * sizeof *line->x);
        if (grown_x)
            line->x = grown_x;
        double *grown_y = realloc(line->y, room * sizeof *line->y);
        if (grown_y)
            line->y = grown_y;
        if (!grown_x || !grown_y)
            return oct_fail(OCT_NOMEM, "no memory for a learning curve");
        p->room = room;
    }
    line->x[line->count] = x;
    line->y[line->count++] = y;
    return OCT_OK;
}

/* A loss that is not finite is a gap; a missing top-1 is an epoch without evaluation, no gap. */
static enum oct_status add_record(void *user, const char *line, const json_t *object)
{
    struct series *s = user;
    const char *type = json_string_value(json_object_get(object, "type"));
    (void)line;
    if (!type || strcmp(type, "epoch") != 0)
        return OCT_OK;
    double top1 = number(object, "top_1");
    s->epochs = number(object, "epoch") + 1;
    if (!isfinite(s->epochs))
        return oct_fail(OCT_IO, "an epoch record of '%s' has no epoch", s->label);
    OCT_TRY(add_point(&s->of[LOSS], s->epochs, number(object, "train_loss")));
    return isfinite(top1) ? add_point(&s->of[TOP1], s->epochs, top1) : OCT_OK;
}

/* The end of the folder's path, in UTF-8 that PLplot and XML accept: '#' doubled (PLplot's escape),
 * the rest that they would refuse as '?'. */
static void set_label(struct series *s, const char *dir)
{
    enum { KEPT = 56 };
    size_t length = strlen(dir), n = 0;
    while (length > 1 && dir[length - 1] == '/')
        length--;
    const char *from = length > KEPT ? dir + length - KEPT : dir;
    while (from > dir && ((unsigned char)*from & 0xc0) == 0x80)
        from++;
    json_t *utf8 = json_stringn(from, (size_t)(dir + length - from));
    if (from > dir)
        n = (size_t)snprintf(s->label, LABEL, "...");
    for (; from < dir + length; from++) {
        unsigned char c = (unsigned char)*from;
        s->label[n++] = c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8) ? '?' : *from;
        if (c == '#')
            s->label[n++] = '#';
    }
    s->label[n] = '\0';
    json_decref(utf8);
}

static enum oct_status load_series(struct series *s, const char *dir)
{
    char *path;
    set_label(s, dir);
    OCT_TRY(oct_path_join(dir, "log.jsonl", &path));
    enum oct_status status = oct_jsonl_read(path, 0, add_record, s);
    free(path);
    return status;
}

static void free_series(struct series *s, size_t count)
{
    for (size_t i = 0; s && i < count; i++) {
        for (int q = 0; q < QUANTITIES; q++) {
            free(s[i].of[q].line.x);
            free(s[i].of[q].line.y);
        }
    }
    free(s);
}

/* Loss starts at 0; top-1 spans the multiples of 10 around its values. */
static void value_range(
    const struct series *s, size_t count, enum quantity q, double *low, double *high)
{
    double min = INFINITY, max = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct oct_plot_line *p = &s[i].of[q].line;
        for (size_t k = 0; k < p->count; k++) {
            if (isfinite(p->y[k])) {
                min = fmin(min, p->y[k]);
                max = fmax(max, p->y[k]);
            }
        }
    }
    if (q == LOSS) {
        *low = fmin(min < 0 ? 1.05 * min : 0, 0);
        *high = max > 0 ? 1.05 * max : 1;
    } else {
        *low = isfinite(min) ? fmax(10 * floor(min / 10), 0) : 0;
        *high = isfinite(max) ? fmin(10 * floor(max / 10) + 10, 100) : 100;
        if (*low >= *high)
            *low = *high - 10;
    }
}

/* "runs/a: epoch 30, loss 0.1344, top-1 92.20 %", each as last measured. */
static void describe(const struct series *s, char *text, size_t room)
{
    const struct oct_plot_line *loss = &s->of[LOSS].line, *top1 = &s->of[TOP1].line;
    size_t n = (size_t)snprintf(text, room, "%s: ", s->label);
    if (loss->count == 0) {
        snprintf(text + n, room - n, "no epoch yet");
        return;
    }
    n += (size_t)snprintf(text + n, room - n, "epoch %.0f, loss ", s->epochs);
    n += (size_t)snprintf(text + n, room - n, "%.4g", loss->y[loss->count - 1]);
    if (top1->count > 0)
        snprintf(text + n, room - n, ", top-1 %.2f %%", top1->y[top1->count - 1]);
}

static enum oct_status write_curves(const struct series *s, size_t count, const char *path)
{
    enum { TEXT = LABEL + 120 };
    enum oct_status status = OCT_OK;
    struct oct_plot plot = {.lines = count,
        .panel = {[LOSS] = {.title = "Training loss", .y_axis = "loss (nats per image)"},
            [TOP1] = {.title = "Evaluation top-1", .y_axis = "top-1 (%)"}}};
    struct oct_plot_line *lines = calloc(QUANTITIES * count, sizeof *lines);
    char(*text)[TEXT] = calloc(count, sizeof *text);
    const char **texts = calloc(count, sizeof *texts);

    if (!lines || !text || !texts)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for a learning curve"));
    for (size_t i = 0; i < count; i++) {
        describe(&s[i], text[i], TEXT);
        texts[i] = text[i];
    }
    plot.text = texts;
    for (int q = 0; q < QUANTITIES; q++) {
        struct oct_plot_panel *panel = &plot.panel[q];
        panel->x_axis = "epoch";
        panel->right = 1;
        panel->line = lines + (size_t)q * count;
        for (size_t i = 0; i < count; i++) {
            lines[(size_t)q * count + i] = s[i].of[q].line;
            panel->right = fmax(panel->right, s[i].epochs);
        }
        value_range(s, count, (enum quantity)q, &panel->low, &panel->high);
    }
    OCT_OUT(oct_plot_write(&plot, path));
out:
    free(lines);
    free(text);
    free(texts);
    return status;
}

enum oct_status oct_plot_curves(const char *const *run_dirs, size_t count, const char *path)
{
    enum oct_status status = OCT_OK;
    size_t epochs = 0;
    if (count < 1 || count > 100)
        return oct_fail(OCT_ARG, "a plot of %zu runs was asked for; 1 to 100 can be drawn", count);
    struct series *s = calloc(count, sizeof *s);
    if (!s)
        return oct_fail(OCT_NOMEM, "no memory for a learning curve");
    for (size_t i = 0; i < count; i++) {
        OCT_OUT(load_series(&s[i], run_dirs[i]));
        epochs += s[i].of[LOSS].line.count;
    }
    if (epochs == 0)
        OCT_OUT(oct_fail(OCT_ARG, "no epoch is logged in '%s'%s; there is nothing to draw yet",
            run_dirs[0], count > 1 ? " and the other folders" : ""));
    OCT_OUT(write_curves(s, count, path));
out:
    free_series(s, count);
    return status;
}
