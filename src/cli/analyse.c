/* octet analyse: one line per scheme and ablation, and every measurement in a CSV file. */
#include "commands.h"
#include "table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRIALS_MAX = 64 };

/* What one scheme or ablation did over all layers and steps. */
struct trial {
    char name[64];
    size_t rows, with_dx, with_labels;
    double worst_sum, snr_sum, dw_sum, dx_sum, tail_sum, clipped_sum;
    double worst_least;
    size_t compared, above; /* against the same scheme per tensor: cells, cells that are better */
};

struct analysis {
    struct oct_analysis_row *rows; /* strings owned */
    size_t count, capacity;
    struct trial trials[TRIALS_MAX];
    size_t trial_count;
    int out_of_memory;
};

static void keep_row(void *user, const struct oct_analysis_row *row)
{
    struct analysis *a = user;

    if (a->count == a->capacity) {
        size_t capacity = a->capacity != 0 ? 2 * a->capacity : 1024;
        struct oct_analysis_row *rows = realloc(a->rows, capacity * sizeof *rows);

        if (rows == NULL) {
            a->out_of_memory = 1;
            return;
        }
        a->rows = rows;
        a->capacity = capacity;
    }
    a->rows[a->count] = *row;
    a->rows[a->count].scheme = strdup(row->scheme);
    a->rows[a->count].layer = strdup(row->layer);
    if (a->rows[a->count].scheme == NULL || a->rows[a->count].layer == NULL)
        a->out_of_memory = 1;
    a->count++;
}

static void free_rows(struct analysis *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free((char *)a->rows[i].scheme);
        free((char *)a->rows[i].layer);
    }
    free(a->rows);
}

static struct trial *trial_of(struct analysis *a, const char *name)
{
    for (size_t i = 0; i < a->trial_count; i++) {
        if (strcmp(a->trials[i].name, name) == 0)
            return &a->trials[i];
    }
    if (a->trial_count == TRIALS_MAX)
        return NULL;
    struct trial *trial = &a->trials[a->trial_count++];
    snprintf(trial->name, sizeof trial->name, "%s", name);
    trial->worst_least = INFINITY;
    return trial;
}

/* The same scheme's ablation with one scale per tensor, in this layer and step; NULL: there is
 * none, because the scheme has no other. */
static const struct oct_analysis_row *per_tensor(
    const struct analysis *a, const struct oct_analysis_row *row)
{
    size_t length = strlen(row->scheme);

    for (size_t i = 0; i < a->count; i++) {
        const struct oct_analysis_row *other = &a->rows[i];

        if (other->step == row->step && strcmp(other->layer, row->layer) == 0 &&
            strncmp(other->scheme, row->scheme, length) == 0 &&
            strcmp(other->scheme + length, ", per tensor") == 0)
            return other;
    }
    return NULL;
}

static void add_row(struct analysis *a, const struct oct_analysis_row *row)
{
    struct trial *trial = trial_of(a, row->scheme);
    const struct oct_analysis_row *tensor;

    if (trial == NULL || isnan(row->snr_dw_worst))
        return;
    trial->rows++;
    trial->worst_sum += row->snr_dw_worst;
    trial->snr_sum += row->snr_dw;
    trial->dw_sum += 1 - row->cosine_dw;
    trial->clipped_sum += row->clipped_share;
    if (row->snr_dw_worst < trial->worst_least)
        trial->worst_least = row->snr_dw_worst;
    if (!isnan(row->cosine_dx)) {
        trial->dx_sum += 1 - row->cosine_dx;
        trial->with_dx++;
    }
    if (!isnan(row->tail_share)) {
        trial->tail_sum += row->tail_share;
        trial->with_labels++;
    }
    if (strchr(row->scheme, ',') != NULL)
        return;
    tensor = per_tensor(a, row);
    if (tensor != NULL) {
        trial->compared++;
        trial->above += row->snr_dw_worst > tensor->snr_dw_worst;
    }
}

/* Layers of `trial` whose worst channel is better, in the mean over the steps, than with one scale
 * per tensor; *layers is how many there are. */
static size_t better_layers(const struct analysis *a, const char *trial, size_t *layers)
{
    size_t better = 0;

    *layers = 0;
    for (size_t i = 0; i < a->count; i++) {
        const char *layer = a->rows[i].layer;
        double gain = 0;
        size_t first = i;

        for (size_t k = 0; k < a->count; k++) {
            const struct oct_analysis_row *row = &a->rows[k], *tensor;

            if (strcmp(row->scheme, trial) != 0 || strcmp(row->layer, layer) != 0)
                continue;
            first = k < first ? k : first;
            tensor = per_tensor(a, row);
            if (tensor != NULL && !isnan(row->snr_dw_worst) && !isnan(tensor->snr_dw_worst))
                gain += row->snr_dw_worst - tensor->snr_dw_worst;
        }
        if (first < i || strcmp(a->rows[i].scheme, trial) != 0)
            continue; /* counted where it came first */
        ++*layers;
        better += gain > 0;
    }
    return better;
}

static void mean_cell(struct oct_table *table, const char *format, double sum, size_t count)
{
    if (count > 0)
        oct_table_cell(table, format, sum / (double)count);
    else
        oct_table_cell(table, "%s", "");
}

static void print_trials(const struct analysis *a, const char *format, FILE *out)
{
    static const struct oct_column columns[] = {{"scheme", "scheme", 0}, {"tensors", "tensors", 1},
        {"worst channel dB, mean", "worst_channel_snr_db", 1},
        {"least", "least_worst_channel_snr_db", 1}, {"dW dB", "snr_dw_db", 1},
        {"1 - cos dW", "one_minus_cosine_dw", 1}, {"1 - cos dX", "one_minus_cosine_dx", 1},
        {"inverted T", "tail_share", 1}, {"clipped", "clipped_share", 1}};
    struct oct_table table;

    oct_table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < a->trial_count; i++) {
        const struct trial *t = &a->trials[i];

        if (oct_table_row(&table) != 0)
            break;
        oct_table_cell(&table, "%s", t->name);
        oct_table_cell(&table, "%zu", t->rows);
        mean_cell(&table, "%.2f", t->worst_sum, t->rows);
        mean_cell(&table, "%.2f", t->worst_least, 1);
        mean_cell(&table, "%.2f", t->snr_sum, t->rows);
        mean_cell(&table, "%.3e", t->dw_sum, t->rows);
        mean_cell(&table, "%.3e", t->dx_sum, t->with_dx);
        mean_cell(&table, "%.3f", t->tail_sum, t->with_labels);
        mean_cell(&table, "%.2e", t->clipped_sum, t->rows);
    }
    oct_table_print(&table, format, out);
    oct_table_free(&table);
}

static int write_rows(const struct analysis *a, const char *path)
{
    FILE *out = fopen(path, "w");
    int failed;

    if (out == NULL) {
        fprintf(stderr, "octet analyse: cannot write %s\n", path);
        return OCT_EXIT_FAILURE;
    }
    fputs("scheme,layer,step,snr_dw_worst,snr_dw,cosine_dw,cosine_dx,tail_share,clipped_share\n",
        out);
    for (size_t i = 0; i < a->count; i++) {
        const struct oct_analysis_row *r = &a->rows[i];

        fprintf(out, "\"%s\",%s,%lld,%.6g,%.6g,%.9g,%.9g,%.6g,%.6g\n", r->scheme, r->layer,
            (long long)r->step, r->snr_dw_worst, r->snr_dw, r->cosine_dw, r->cosine_dx,
            r->tail_share, r->clipped_share);
    }
    failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        fprintf(stderr, "octet analyse: cannot write %s\n", path);
        return OCT_EXIT_FAILURE;
    }
    fprintf(stderr, "Saved %s\n", path);
    return OCT_EXIT_OK;
}

static int report(const struct oct_settings *settings, struct analysis *a)
{
    char path[4096];

    for (size_t i = 0; i < a->count; i++)
        add_row(a, &a->rows[i]);
    print_trials(a, settings->format, stdout);
    for (size_t i = 0; i < a->trial_count; i++) {
        const struct trial *t = &a->trials[i];

        if (t->compared > 0) {
            size_t layers, better = better_layers(a, t->name, &layers);

            fprintf(stderr,
                "%s: a scale per channel raises the worst channel's SNR of dW over one per tensor "
                "in %zu of %zu layers (mean over steps), in %.1f %% of %zu tensors\n",
                t->name, better, layers, 100.0 * (double)t->above / (double)t->compared,
                t->compared);
        }
    }
    snprintf(path, sizeof path, "%s/analysis.csv", settings->run.data);
    if (write_rows(a, path) != OCT_EXIT_OK)
        return OCT_EXIT_FAILURE;
    snprintf(path, sizeof path, "%s/analysis.svg", settings->run.data);
    enum oct_status status = oct_plot_analysis(a->rows, a->count, path);
    if (status != OCT_OK)
        return oct_library_error(OCT_CMD_ANALYSE, status);
    fprintf(stderr, "Saved %s\n", path);
    return OCT_EXIT_OK;
}

int oct_cli_analyse(const struct oct_settings *settings)
{
    struct oct_options options = settings->run;
    struct analysis analysis = {0};
    enum oct_status status;
    int code;

    if (settings->run.data == NULL)
        return oct_usage_error(
            OCT_CMD_ANALYSE, "no run folder; name one that octet train --record-gradients wrote");
    options.output_dir = settings->run.data;
    status = oct_analyse(&options, keep_row, &analysis);
    if (status != OCT_OK)
        code = oct_library_error(OCT_CMD_ANALYSE, status);
    else if (analysis.out_of_memory) {
        fputs("octet analyse: no memory for the measurements\n", stderr);
        code = OCT_EXIT_FAILURE;
    } else
        code = report(settings, &analysis);
    free_rows(&analysis);
    return code;
}
