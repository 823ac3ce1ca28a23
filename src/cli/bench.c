/* octet bench: the precisions of a model step in turn, in one process. */
#include "bench.h"
#include "bench_model.h"
#include "commands.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

/* Rounds run at most, per round that is wanted, to find that many undisturbed ones. */
enum { ATTEMPTS = 4 };

static int open_contender(const struct oct_bench *bench, const char *precision, const char *scheme,
    struct oct_contender *contender)
{
    struct oct_options options = bench->settings->run;
    enum oct_status status;

    contender->precision = precision;
    contender->scheme = scheme;
    contender->seconds = calloc((size_t)bench->settings->rounds, sizeof *contender->seconds);
    if (contender->seconds == NULL) {
        fprintf(stderr, "octet bench: out of memory\n");
        return OCT_EXIT_FAILURE;
    }
    options.model = bench->model;
    options.batch_size = bench->batch;
    options.precision = precision;
    if (scheme[0] != '\0')
        options.scheme = scheme;
    else
        options.scheme_opt = NULL; /* of int8 schemes */
    if (options.synthetic_images == 0)
        options.synthetic_images = 8 * bench->batch;
    /* An epoch has one step at least, so the schedule cannot end before the rounds do. */
    options.epochs = bench->settings->warmup + (ATTEMPTS + 1) * bench->settings->rounds + 1;
    fprintf(stderr, "octet bench: opening %s, batch %d, %s %s\n", bench->model, bench->batch,
        precision, scheme);
    status = oct_trainer_open(&options, &contender->trainer);
    return status == OCT_OK ? OCT_EXIT_OK : oct_library_error(OCT_CMD_BENCH, status);
}

static int open_all(struct oct_bench *bench)
{
    const struct oct_settings *settings = bench->settings;

    for (size_t p = 0; p < settings->precisions.count; p++) {
        const char *precision = settings->precisions.item[p];
        int int8 = strcmp(precision, "int8") == 0;

        for (size_t s = 0; s < (int8 ? settings->schemes.count : 1); s++) {
            int code;

            if (bench->count == OCT_CONTENDERS_MAX)
                return oct_usage_error(
                    OCT_CMD_BENCH, "at most %d contenders at once", OCT_CONTENDERS_MAX);
            bench->count++;
            code = open_contender(bench, precision, int8 ? settings->schemes.item[s] : "",
                &bench->contender[bench->count - 1]);
            if (code != OCT_EXIT_OK)
                return code;
        }
    }
    return OCT_EXIT_OK;
}

static void close_all(struct oct_bench *bench)
{
    while (bench->count > 0) {
        struct oct_contender *contender = &bench->contender[--bench->count];

        oct_trainer_close(contender->trainer);
        free(contender->seconds);
    }
}

/* Whether the product unit runs at its full speed, or has no slow periods. */
static int undisturbed(const struct oct_bench *bench)
{
    return oct_trainer_unit_slowdown(bench->contender[0].trainer) <= 1;
}

/* One step of every contender, in turn. With round >= 0 the times are kept there, and *good tells
 * whether the unit was undisturbed before and after every step. */
static int step_all(struct oct_bench *bench, int round, int *good)
{
    *good = round >= 0 && undisturbed(bench);
    for (size_t i = 0; i < bench->count; i++) {
        struct oct_contender *contender = &bench->contender[i];
        struct oct_step_result step;
        enum oct_status status = oct_trainer_step(contender->trainer, &step);

        if (status != OCT_OK)
            return oct_library_error(OCT_CMD_BENCH, status);
        if (round >= 0) {
            contender->seconds[round] = step.seconds;
            contender->flagged += step.flagged != 0;
            *good = *good && undisturbed(bench);
        }
    }
    return OCT_EXIT_OK;
}

static const struct oct_column step_columns[] = {{"model", "model", 0},
    {"precision", "precision", 0}, {"scheme", "scheme", 0}, {"batch", "batch", 1},
    {"ms/step", "median_ms", 1}, {"min ms", "min_ms", 1}, {"+- %", "spread_percent", 1},
    {"img/s", "images_per_second", 1}, {"x fp32", "vs_fp32", 1}, {"x bf16", "vs_bf16", 1},
    {"x int8", "vs_int8", 1}, {"isa", "isa", 0}, {"threads", "threads", 1},
    {"configuration", "config_hash", 0}};

/* A new row, begun with what every table says of a contender. */
static int start_row(
    struct oct_table *table, const struct oct_bench *bench, const struct oct_contender *contender)
{
    if (oct_table_row(table) != 0)
        return OCT_EXIT_FAILURE;
    oct_table_cell(table, "%s", bench->model);
    oct_table_cell(table, "%s", contender->precision);
    oct_table_cell(table, "%s", contender->scheme);
    oct_table_cell(table, "%d", bench->batch);
    return OCT_EXIT_OK;
}

/* The figures of a contender, or nothing where no round counts. */
static void add_figures(
    struct oct_table *table, const struct oct_bench *bench, const struct oct_contender *contender)
{
    static const char *const precisions[] = {"fp32", "bf16", "int8"};
    struct oct_sample_summary summary = oct_sample_summarise(contender->seconds, bench->rounds);

    for (int i = 0; i < 7 && bench->rounds == 0; i++)
        oct_table_cell(table, "%s", "");
    if (bench->rounds == 0)
        return;
    oct_table_cell(table, "%.3f", 1e3 * summary.median);
    oct_table_cell(table, "%.3f", 1e3 * summary.minimum);
    oct_table_cell(table, "%.1f", 100 * summary.spread);
    oct_table_cell(table, "%.1f", summary.median > 0 ? bench->batch / summary.median : 0);
    for (size_t p = 0; p < 3; p++) {
        const struct oct_contender *other = oct_bench_find(bench, precisions[p]);

        if (other != NULL)
            oct_table_cell(table, "%.2f", oct_bench_ratio(bench, contender, other));
        else
            oct_table_cell(table, "%s", "");
    }
}

static int add_step_row(
    struct oct_table *table, const struct oct_bench *bench, const struct oct_contender *contender)
{
    const struct oct_run_info *info = oct_trainer_info(contender->trainer);

    if (start_row(table, bench, contender) != OCT_EXIT_OK)
        return OCT_EXIT_FAILURE;
    add_figures(table, bench, contender);
    oct_table_cell(table, "%s", info->isa);
    oct_table_cell(table, "%d", info->threads);
    oct_table_cell(table, "%016llx", (unsigned long long)info->config_hash);
    if (contender->flagged > 0)
        fprintf(stderr, "octet bench: %s %s: %d of %d steps met a non-finite value\n", bench->model,
            contender->precision, contender->flagged, bench->attempted);
    return OCT_EXIT_OK;
}

static int time_steps(struct oct_bench *bench, struct oct_table *table)
{
    int code = OCT_EXIT_OK, wanted = bench->settings->rounds, good;

    while (bench->rounds < wanted && bench->attempted < ATTEMPTS * wanted && code == OCT_EXIT_OK) {
        code = step_all(bench, bench->rounds, &good);
        bench->rounds += good;
        bench->attempted++;
    }
    if (code == OCT_EXIT_OK && bench->rounds < wanted)
        fprintf(stderr,
            "octet bench: %s: the product unit was undisturbed in %d of %d rounds, %d were asked "
            "for%s\n",
            bench->model, bench->rounds, bench->attempted, wanted,
            bench->rounds == 0 ? ": not measured; try again when the machine is quiet" : "");
    for (size_t i = 0; i < bench->count && code == OCT_EXIT_OK; i++)
        code = add_step_row(table, bench, &bench->contender[i]);
    if (code == OCT_EXIT_OK && bench->settings->append != NULL)
        code = oct_bench_append(bench);
    return code;
}

static const struct oct_column layer_columns[] = {{"model", "model", 0},
    {"precision", "precision", 0}, {"scheme", "scheme", 0}, {"batch", "batch", 1},
    {"node", "node", 0}, {"op", "op", 0}, {"pass", "pass", 0}, {"ms", "min_ms", 1},
    {"% of step", "percent", 1}, {"GMAC", "gmac", 1}, {"GMAC/s", "gmac_per_second", 1},
    {"int8", "int8", 1}};

static int time_layers(struct oct_bench *bench, struct oct_table *table)
{
    for (size_t i = 0; i < bench->count; i++) {
        const struct oct_contender *contender = &bench->contender[i];
        const struct oct_profile_row *rows;
        size_t count;
        double total = 0;
        enum oct_status status =
            oct_trainer_profile(contender->trainer, bench->settings->rounds, &rows, &count);

        if (status != OCT_OK)
            return oct_library_error(OCT_CMD_BENCH, status);
        for (size_t k = 0; k < count; k++)
            total += rows[k].seconds;
        for (size_t k = 0; k < count; k++) {
            if (start_row(table, bench, contender) != OCT_EXIT_OK)
                return OCT_EXIT_FAILURE;
            oct_table_cell(table, "%s", rows[k].node);
            oct_table_cell(table, "%s", rows[k].op);
            oct_table_cell(table, "%s", rows[k].pass);
            oct_table_cell(table, "%.4f", 1e3 * rows[k].seconds);
            oct_table_cell(table, "%.1f", total > 0 ? 100 * rows[k].seconds / total : 0);
            oct_table_cell(table, "%.4f", rows[k].macs / 1e9);
            oct_table_cell(
                table, "%.1f", rows[k].seconds > 0 ? rows[k].macs / 1e9 / rows[k].seconds : 0);
            oct_table_cell(table, "%d", rows[k].int8 != 0);
        }
    }
    return OCT_EXIT_OK;
}

static int bench_model(const struct oct_settings *settings, size_t index, struct oct_table *table)
{
    const struct oct_list *batches = &settings->batch_sizes;
    struct oct_bench bench = {.settings = settings, .model = settings->models.item[index]};
    int code, good;

    bench.batch = atoi(batches->item[batches->count == 1 ? 0 : index]);
    code = open_all(&bench);
    for (int i = 0; i < settings->warmup && code == OCT_EXIT_OK; i++)
        code = step_all(&bench, -1, &good);
    if (code == OCT_EXIT_OK)
        code = settings->layers ? time_layers(&bench, table) : time_steps(&bench, table);
    close_all(&bench);
    return code;
}

int oct_cli_bench(const struct oct_settings *settings)
{
    const struct oct_column *columns = settings->layers ? layer_columns : step_columns;
    size_t count = settings->layers ? sizeof layer_columns / sizeof *layer_columns
                                    : sizeof step_columns / sizeof *step_columns;
    struct oct_table table;
    int code = OCT_EXIT_OK;

    if (settings->batch_sizes.count != 1 && settings->batch_sizes.count != settings->models.count)
        return oct_usage_error(OCT_CMD_BENCH, "--batch-size names %zu sizes for %zu models",
            settings->batch_sizes.count, settings->models.count);
    if (settings->run.scheme_opt != NULL && !oct_list_has(&settings->precisions, "int8"))
        return oct_usage_error(OCT_CMD_BENCH, "--scheme-opt needs int8 among --precision");
    if (oct_bench_is_model(settings))
        return oct_bench_model(settings);
    if (settings->layers && settings->append != NULL)
        return oct_usage_error(OCT_CMD_BENCH, "--append records whole steps; leave --layers out");
    oct_table_init(&table, columns, count);
    for (size_t i = 0; i < settings->models.count && code == OCT_EXIT_OK; i++)
        code = bench_model(settings, i, &table);
    if (table.row_count > 0)
        oct_table_print(&table, settings->format, stdout);
    oct_table_free(&table);
    return code;
}
