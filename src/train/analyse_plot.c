/* The figure of octet analyse: what dY's codes do to dW, layer by layer. */
#include "train/plot.h"

#include <octet.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum panel { WORST_SNR, COSINE_ERROR };
enum { MOST_LINES = 24, MOST_LAYERS = 512, TEXT = 160 };

struct figure {
    const char *layer[MOST_LAYERS];
    const char *scheme[MOST_LINES];
    size_t layers, lines;
    double sum[OCT_PLOT_PANELS][MOST_LINES][MOST_LAYERS];
    int count[MOST_LINES][MOST_LAYERS];
    double x[MOST_LAYERS];
    struct oct_plot_line line[OCT_PLOT_PANELS][MOST_LINES];
    char text[MOST_LINES][TEXT];
    const char *texts[MOST_LINES];
};

/* *place is the index of `name`, appended if it is new. */
static enum oct_status place_of(
    const char **names, size_t *count, size_t most, const char *name, size_t *place)
{
    for (*place = 0; *place < *count; ++*place) {
        if (strcmp(names[*place], name) == 0)
            return OCT_OK;
    }
    if (*count == most)
        return oct_fail(OCT_UNSUPPORTED, "no room for '%s' in a figure of %d lines over %d layers",
            name, MOST_LINES, MOST_LAYERS);
    names[(*count)++] = name;
    return OCT_OK;
}

/* Schemes as they are, and with one scale per tensor: more lines could not be told apart. */
static int is_drawn(const char *scheme)
{
    const char *change = strchr(scheme, ',');
    return !change || strcmp(change, ", per tensor") == 0;
}

static enum oct_status add_row(struct figure *f, const struct oct_analysis_row *row)
{
    size_t line, layer;

    if (!is_drawn(row->scheme) || !isfinite(row->snr_dw_worst) || isnan(row->cosine_dw))
        return OCT_OK;
    OCT_TRY(place_of(f->scheme, &f->lines, MOST_LINES, row->scheme, &line));
    OCT_TRY(place_of(f->layer, &f->layers, MOST_LAYERS, row->layer, &layer));
    f->sum[WORST_SNR][line][layer] += row->snr_dw_worst;
    f->sum[COSINE_ERROR][line][layer] += 1 - row->cosine_dw;
    f->count[line][layer]++;
    return OCT_OK;
}

/* Sums become means, cosine errors their logarithms; `low` and `high` get what they span. */
static void finish_panel(struct figure *f, int side, struct oct_plot_panel *panel)
{
    double low = INFINITY, high = -INFINITY;

    for (size_t i = 0; i < f->lines; i++) {
        double *y = f->sum[side][i];
        for (size_t k = 0; k < f->layers; k++) {
            y[k] = f->count[i][k] ? y[k] / f->count[i][k] : NAN;
            if (side == COSINE_ERROR)
                y[k] = y[k] > 0 ? log10(y[k]) : NAN;
            if (isfinite(y[k])) {
                low = fmin(low, y[k]);
                high = fmax(high, y[k]);
            }
        }
        f->line[side][i] = (struct oct_plot_line){f->x, y, f->layers};
    }
    double step = side == WORST_SNR ? 5 : 0.5;
    panel->low = isfinite(low) ? step * floor(low / step) : 0;
    panel->high = isfinite(high) ? step * (floor(high / step) + 1) : step;
    panel->right = (double)f->layers;
    panel->x_axis = "layer, from the input on";
    panel->line = f->line[side];
}

/* "dai8: worst channel 18.80 dB, 1 - cos dW 9.9e-04", means over the layers. */
static void describe(struct figure *f, size_t line)
{
    double snr = 0, error = 0;
    int layers = 0;

    for (size_t k = 0; k < f->layers; k++) {
        if (f->count[line][k] == 0)
            continue;
        snr += f->sum[WORST_SNR][line][k] / f->count[line][k];
        error += f->sum[COSINE_ERROR][line][k] / f->count[line][k];
        layers++;
    }
    snprintf(f->text[line], TEXT, "%s: worst channel %.2f dB, 1 - cos dW %.2e", f->scheme[line],
        snr / layers, error / layers);
    f->texts[line] = f->text[line];
}

enum oct_status oct_plot_analysis(
    const struct oct_analysis_row *rows, size_t count, const char *path)
{
    struct figure *f = calloc(1, sizeof *f);
    struct oct_plot plot = {
        .panel = {[WORST_SNR] = {.title = "Worst channel of dW", .y_axis = "SNR (dB)"},
            [COSINE_ERROR] = {.title = "Direction of dW", .y_axis = "log10(1 - cosine)"}}};

    enum oct_status status = OCT_OK;

    if (!f)
        return oct_fail(OCT_NOMEM, "no memory for a figure");
    for (size_t i = 0; i < count; i++)
        OCT_OUT(add_row(f, &rows[i]));
    if (f->lines == 0)
        OCT_OUT(oct_fail(OCT_ARG, "nothing was measured; there is nothing to draw"));
    for (size_t i = 0; i < f->lines; i++)
        describe(f, i);
    for (size_t k = 0; k < f->layers; k++)
        f->x[k] = (double)k + 1;
    for (int side = 0; side < OCT_PLOT_PANELS; side++)
        finish_panel(f, side, &plot.panel[side]);
    plot.lines = f->lines;
    plot.text = f->texts;
    OCT_OUT(oct_plot_write(&plot, path));
out:
    free(f);
    return status;
}
