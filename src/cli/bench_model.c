/* octet bench --device model:CARD: what a model of a card says of a step. Nothing is measured, and
 * every heading says so. */
#include "bench_model.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

enum { CONTENDERS = 3 + OCT_LIST_MAX };

/* One precision on one of the card's units; int8 runs are ours, the others are rivals. */
struct contender {
    const char *unit, *precision, *scheme;
    double seconds, best, worst, bytes, listed;
    double bound[4]; /* seconds by bound, in the order of `bounds` */
    int64_t device_bytes;
    int launches;
};
static const char *const bounds[4] = {"memory", "products", "issue", "launch"};

struct prediction {
    const struct oct_settings *settings;
    const char *network;
    int batch;
    struct contender contender[CONTENDERS];
    size_t count;
    struct oct_table *table;
};

static const struct oct_column step_columns[] = {{"network", "network", 0}, {"device", "device", 0},
    {"precision", "precision", 0}, {"scheme", "scheme", 0}, {"batch", "batch", 1},
    {"model ms/step", "model_ms", 1}, {"model ms, best", "model_ms_best", 1},
    {"model ms, worst", "model_ms_worst", 1}, {"model img/s", "model_images_per_second", 1},
    {"model x fp32", "model_vs_fp32", 1}, {"band", "model_vs_fp32_band", 0},
    {"model x tf32", "model_vs_tf32", 1}, {"band", "model_vs_tf32_band", 0},
    {"model x fp16", "model_vs_fp16", 1}, {"band", "model_vs_fp16_band", 0},
    {"model GB/step", "model_gb", 1}, {"model bound", "model_bound", 0}, {"kernels", "kernels", 1},
    {"plan GiB", "plan_gib", 1}};

static const struct oct_column layer_columns[] = {{"network", "network", 0},
    {"device", "device", 0}, {"precision", "precision", 0}, {"scheme", "scheme", 0},
    {"batch", "batch", 1}, {"node", "node", 0}, {"op", "op", 0}, {"pass", "pass", 0},
    {"model ms", "model_ms", 1}, {"model ms, best", "model_ms_best", 1},
    {"model ms, worst", "model_ms_worst", 1}, {"model % of step", "model_percent", 1},
    {"model MB", "model_mb", 1}, {"listed MB", "listed_mb", 1}, {"GMAC", "gmac", 1},
    {"model bound", "model_bound", 0}, {"kernels", "kernels", 1}};

int oct_bench_is_model(const struct oct_settings *settings)
{
    return settings->run.device != NULL && strncmp(settings->run.device, "model:", 6) == 0;
}

static int start_row(const struct prediction *p, const struct contender *c)
{
    if (oct_table_row(p->table) != 0)
        return OCT_EXIT_FAILURE;
    oct_table_cell(p->table, "%s", p->network);
    oct_table_cell(p->table, "%s", p->settings->run.device);
    oct_table_cell(p->table, "%s", c->unit);
    oct_table_cell(p->table, "%s", c->scheme);
    oct_table_cell(p->table, "%d", p->batch);
    return OCT_EXIT_OK;
}

static int add_layer(
    const struct prediction *p, const struct contender *c, const struct oct_model_row *row)
{
    if (start_row(p, c) != OCT_EXIT_OK)
        return OCT_EXIT_FAILURE;
    oct_table_cell(p->table, "%s", row->node);
    oct_table_cell(p->table, "%s", row->op);
    oct_table_cell(p->table, "%s", row->pass);
    oct_table_cell(p->table, "%.4f", 1e3 * row->seconds);
    oct_table_cell(p->table, "%.4f", 1e3 * row->best);
    oct_table_cell(p->table, "%.4f", 1e3 * row->worst);
    oct_table_cell(p->table, "%.1f", c->seconds > 0 ? 100 * row->seconds / c->seconds : 0);
    oct_table_cell(p->table, "%.3f", row->bytes / 1e6);
    oct_table_cell(p->table, "%.3f", row->listed_bytes / 1e6);
    oct_table_cell(p->table, "%.4f", row->macs / 1e9);
    oct_table_cell(p->table, "%s", row->bound);
    oct_table_cell(p->table, "%d", row->launches);
    return OCT_EXIT_OK;
}

static void sum_rows(struct contender *c, const struct oct_model_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        c->seconds += rows[i].seconds;
        c->best += rows[i].best;
        c->worst += rows[i].worst;
        c->bytes += rows[i].bytes;
        c->listed += rows[i].listed_bytes;
        c->launches += rows[i].launches;
        for (size_t k = 0; k < 4; k++)
            c->bound[k] += strcmp(rows[i].bound, bounds[k]) == 0 ? rows[i].seconds : 0;
    }
}

static struct oct_options options_of(const struct prediction *p, const struct contender *c)
{
    struct oct_options options = p->settings->run;

    options.model = p->network;
    options.batch_size = p->batch;
    options.precision = c->precision;
    options.isa = strcmp(c->unit, "tf32") == 0 ? "tf32" : "auto";
    if (c->scheme[0] != '\0')
        options.scheme = c->scheme;
    else
        options.scheme_opt = NULL;       /* of int8 schemes */
    options.synthetic_images = p->batch; /* one step is an epoch: images are not the point */
    options.epochs = 4;
    return options;
}

/* Opens the contender's trainer and asks what its step would cost. A unit that the card does not
 * have is left out and said so: *there is then 0. */
static int predict(struct prediction *p, struct contender *c, int *there)
{
    struct oct_options options = options_of(p, c);
    const struct oct_model_row *rows;
    oct_trainer *trainer = NULL;
    int code = OCT_EXIT_OK;
    size_t count;
    enum oct_status status = oct_trainer_open(&options, &trainer);

    *there = status == OCT_OK;
    if (status == OCT_UNSUPPORTED && strcmp(c->unit, "tf32") == 0) {
        fprintf(stderr, "octet bench: left out: %s\n", oct_last_error());
        return OCT_EXIT_OK;
    }
    if (status == OCT_OK)
        status = oct_trainer_predict(trainer, &rows, &count);
    if (status != OCT_OK) {
        code = oct_library_error(OCT_CMD_BENCH, status);
    } else {
        sum_rows(c, rows, count);
        c->device_bytes = oct_trainer_info(trainer)->device_bytes;
        for (size_t i = 0; i < count && p->settings->layers && code == OCT_EXIT_OK; i++)
            code = add_layer(p, c, &rows[i]);
    }
    oct_trainer_close(trainer);
    return code;
}

static int add_contender(
    struct prediction *p, const char *unit, const char *precision, const char *scheme)
{
    struct contender *c = &p->contender[p->count];
    int there, code;

    if (p->count == CONTENDERS)
        return oct_usage_error(OCT_CMD_BENCH, "at most %d contenders at once", CONTENDERS);
    *c = (struct contender){.unit = unit, .precision = precision, .scheme = scheme};
    code = predict(p, c, &there);
    p->count += there != 0;
    return code;
}

/* fp32 is two rivals where the card has a TF32 unit; bf16 stands for FP16, which moves the same
 * bytes. */
static int add_precision(struct prediction *p, const char *precision)
{
    const struct oct_list *schemes = &p->settings->schemes;
    int code = OCT_EXIT_OK;

    if (strcmp(precision, "bf16") == 0)
        return add_contender(p, "fp16", precision, "");
    if (strcmp(precision, "fp32") == 0) {
        code = add_contender(p, "fp32", precision, "");
        return code == OCT_EXIT_OK ? add_contender(p, "tf32", precision, "") : code;
    }
    for (size_t s = 0; s < schemes->count && code == OCT_EXIT_OK; s++)
        code = add_contender(p, "int8", precision, schemes->item[s]);
    return code;
}

static const struct contender *find(const struct prediction *p, const char *unit)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->contender[i].unit, unit) == 0)
            return &p->contender[i];
    }
    return NULL;
}

/* How many times faster `c` is, nominally; and from its worst against the other's best to its best
 * against the other's worst. */
static void add_ratio(
    const struct prediction *p, const struct contender *c, const struct contender *other)
{
    if (other == NULL || other == c) {
        oct_table_cell(p->table, "%s", other == c ? "1.00" : "");
        oct_table_cell(p->table, "%s", "");
        return;
    }
    oct_table_cell(p->table, "%.2f", other->seconds / c->seconds);
    oct_table_cell(p->table, "%.2f..%.2f", other->best / c->worst, other->worst / c->best);
}

static int add_step(const struct prediction *p, const struct contender *c)
{
    size_t most = 0;

    if (start_row(p, c) != OCT_EXIT_OK)
        return OCT_EXIT_FAILURE;
    for (size_t i = 1; i < 4; i++)
        most = c->bound[i] > c->bound[most] ? i : most;
    oct_table_cell(p->table, "%.2f", 1e3 * c->seconds);
    oct_table_cell(p->table, "%.2f", 1e3 * c->best);
    oct_table_cell(p->table, "%.2f", 1e3 * c->worst);
    oct_table_cell(p->table, "%.0f", p->batch / c->seconds);
    add_ratio(p, c, find(p, "fp32"));
    add_ratio(p, c, find(p, "tf32"));
    add_ratio(p, c, find(p, "fp16"));
    oct_table_cell(p->table, "%.2f", c->bytes / 1e9);
    oct_table_cell(p->table, "%s %.0f %%", bounds[most], 100 * c->bound[most] / c->seconds);
    oct_table_cell(p->table, "%d", c->launches);
    oct_table_cell(p->table, "%.1f", (double)c->device_bytes / (1 << 30));
    return OCT_EXIT_OK;
}

static int predict_network(
    const struct oct_settings *settings, size_t index, struct oct_table *table)
{
    const struct oct_list *batches = &settings->batch_sizes;
    struct prediction p = {
        .settings = settings, .network = settings->models.item[index], .table = table};
    int code = OCT_EXIT_OK;

    p.batch = atoi(batches->item[batches->count == 1 ? 0 : index]);
    for (size_t i = 0; i < settings->precisions.count && code == OCT_EXIT_OK; i++)
        code = add_precision(&p, settings->precisions.item[i]);
    for (size_t i = 0; i < p.count && !settings->layers && code == OCT_EXIT_OK; i++)
        code = add_step(&p, &p.contender[i]);
    return code;
}

int oct_bench_model(const struct oct_settings *settings)
{
    const struct oct_column *columns = settings->layers ? layer_columns : step_columns;
    size_t count = settings->layers ? sizeof layer_columns / sizeof *layer_columns
                                    : sizeof step_columns / sizeof *step_columns;
    struct oct_table table;
    int code = OCT_EXIT_OK;

    if (settings->append != NULL)
        return oct_usage_error(
            OCT_CMD_BENCH, "--append records measurements; %s has none", settings->run.device);
    oct_table_init(&table, columns, count);
    for (size_t i = 0; i < settings->models.count && code == OCT_EXIT_OK; i++)
        code = predict_network(settings, i, &table);
    if (table.row_count > 0 && strcmp(settings->format, "md") == 0)
        printf("%s: a model, nothing here was measured. Best and worst: product units at 60 and "
               "30 %% of their peak (docs/cuda.md).\n\n",
            settings->run.device);
    if (table.row_count > 0)
        oct_table_print(&table, settings->format, stdout);
    oct_table_free(&table);
    return code;
}
