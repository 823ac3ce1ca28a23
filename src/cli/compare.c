/* octet compare: one table of the same run in several precisions and schemes. */
#include "commands.h"
#include "session.h"
#include "table.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CELLS_MAX (3 * OCT_LIST_MAX)
#define PATH_SIZE 1024

struct cell {
    const char *precision, *scheme; /* scheme "" unless int8 */
    char dir[PATH_SIZE];            /* run folder, "" without --output-dir */
    struct oct_run_info info;
    struct oct_result result;
};

static int is_int8(const struct cell *cell)
{
    return strcmp(cell->precision, "int8") == 0;
}

/* The cells in the order asked for; int8 once per scheme. */
static size_t list_cells(const struct oct_settings *settings, struct cell *cells)
{
    size_t count = 0;

    for (size_t p = 0; p < settings->precisions.count; p++) {
        size_t schemes =
            strcmp(settings->precisions.item[p], "int8") == 0 ? settings->schemes.count : 1;

        for (size_t s = 0; s < schemes && count < CELLS_MAX; s++) {
            struct cell *cell = &cells[count++];

            memset(cell, 0, sizeof *cell);
            cell->precision = settings->precisions.item[p];
            cell->scheme = is_int8(cell) ? settings->schemes.item[s] : "";
        }
    }
    return count;
}

static const struct cell *find_precision(
    const struct cell *cells, size_t count, const char *precision)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(cells[i].precision, precision) == 0)
            return &cells[i];
    }
    return NULL;
}

static int name_folder(const char *parent, struct cell *cell)
{
    int length;

    if (parent == NULL)
        return OCT_EXIT_OK;
    if (mkdir(parent, 0777) != 0 && errno != EEXIST)
        return oct_usage_error(OCT_CMD_COMPARE, "cannot create %s: %s", parent, strerror(errno));
    length = snprintf(cell->dir, sizeof cell->dir, "%s/%s%s%s", parent, cell->precision,
        is_int8(cell) ? "-" : "", cell->scheme);
    if (length >= PATH_SIZE)
        return oct_usage_error(OCT_CMD_COMPARE, "the path of --output-dir is too long");
    return OCT_EXIT_OK;
}

static int run_cell(const struct oct_settings *settings, struct cell *cell)
{
    struct oct_options options = settings->run;
    int code = name_folder(settings->run.output_dir, cell);

    if (code != OCT_EXIT_OK)
        return code;
    options.precision = cell->precision;
    if (is_int8(cell))
        options.scheme = cell->scheme;
    else
        options.scheme_opt = NULL; /* of int8 schemes */
    options.output_dir = cell->dir[0] != '\0' ? cell->dir : NULL;
    fprintf(
        stderr, "octet compare: %s%s%s\n", cell->precision, is_int8(cell) ? " " : "", cell->scheme);
    return oct_session_run(OCT_CMD_COMPARE, &options, stderr, &cell->info, &cell->result);
}

/* Share of all multiply-accumulates of a training step done in int8. */
static double int8_share(const struct oct_run_info *info)
{
    double all = 0, int8 = 0;

    for (int pass = 0; pass < 3; pass++) {
        all += info->macs[pass];
        int8 += info->macs[pass] * info->int8_share[pass];
    }
    return all > 0 ? int8 / all : 0;
}

static void print_table(const struct cell *cells, size_t count, const char *format, FILE *out)
{
    static const struct oct_column columns[] = {{"precision", "precision", 0},
        {"scheme", "scheme", 0}, {"Acc@1", "top1", 1}, {"Acc@5", "top5", 1},
        {"eval loss", "eval_loss", 1}, {"train loss", "train_loss", 1},
        {"s/epoch", "seconds_per_epoch", 1}, {"img/s", "images_per_second", 1},
        {"x fp32", "speedup_vs_fp32", 1}, {"int8 MACs %", "int8_share_percent", 1}};
    const struct cell *fp32 = find_precision(cells, count, "fp32");
    struct oct_table table;

    oct_table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < count; i++) {
        const struct oct_result *r = &cells[i].result;

        if (oct_table_row(&table) != 0)
            break;
        oct_table_cell(&table, "%s", cells[i].precision);
        oct_table_cell(&table, "%s", cells[i].scheme);
        oct_table_cell(&table, "%.2f", r->eval_top1);
        oct_table_cell(&table, "%.2f", r->eval_top5);
        oct_table_cell(&table, "%.4f", r->eval_loss);
        oct_table_cell(&table, "%.4f", r->train_loss);
        if (r->images_per_second > 0) {
            oct_table_cell(
                &table, "%.2f", (double)cells[i].info.train_images / r->images_per_second);
            oct_table_cell(&table, "%.1f", r->images_per_second);
        } else { /* resumed behind its end: nothing was timed */
            oct_table_cell(&table, "%s", "");
            oct_table_cell(&table, "%s", "");
        }
        if (fp32 != NULL && fp32->result.images_per_second > 0 && r->images_per_second > 0)
            oct_table_cell(&table, "%.2f", r->images_per_second / fp32->result.images_per_second);
        else
            oct_table_cell(&table, "%s", "");
        oct_table_cell(&table, "%.1f", 100 * int8_share(&cells[i].info));
    }
    oct_table_print(&table, format, out);
    oct_table_free(&table);
}

static int plot(const struct oct_settings *settings, const struct cell *cells, size_t count)
{
    const char *dirs[CELLS_MAX];
    char path[PATH_SIZE + 16];
    enum oct_status status;

    if (settings->run.output_dir == NULL)
        return OCT_EXIT_OK;
    for (size_t i = 0; i < count; i++)
        dirs[i] = cells[i].dir;
    snprintf(path, sizeof path, "%s/compare.svg", settings->run.output_dir);
    status = oct_plot_curves(dirs, count, path);
    if (status != OCT_OK)
        return oct_library_error(OCT_CMD_COMPARE, status);
    fprintf(stderr, "Saved %s\n", path);
    return OCT_EXIT_OK;
}

static int check_drop(const struct cell *cells, size_t count, double max_drop)
{
    const struct cell *fp32 = find_precision(cells, count, "fp32");
    int code = OCT_EXIT_OK;

    if (max_drop < 0)
        return OCT_EXIT_OK;
    for (size_t i = 0; i < count; i++) {
        double drop = fp32->result.eval_top1 - cells[i].result.eval_top1;

        if (!is_int8(&cells[i]))
            continue;
        fprintf(stderr, "octet compare: int8 %s ends %.2f points %s fp32 (limit %.2f)%s\n",
            cells[i].scheme, drop < 0 ? -drop : drop, drop < 0 ? "above" : "below", max_drop,
            drop > max_drop ? ": too much" : "");
        if (!(drop <= max_drop)) /* a NaN fails too */
            code = OCT_EXIT_FAILURE;
    }
    return code;
}

static int check_settings(
    const struct oct_settings *settings, const struct cell *cells, size_t count)
{
    if (settings->run.data == NULL && strcmp(settings->run.dataset, "synthetic") != 0)
        return oct_usage_error(
            OCT_CMD_COMPARE, "no data; name the folder, or use --dataset synthetic");
    if (settings->run.resume != NULL && strcmp(settings->run.resume, "auto") != 0)
        return oct_usage_error(
            OCT_CMD_COMPARE, "--resume takes only auto here: each run goes on from its own folder");
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (strcmp(cells[i].precision, cells[k].precision) == 0 &&
                strcmp(cells[i].scheme, cells[k].scheme) == 0)
                return oct_usage_error(OCT_CMD_COMPARE, "%s%s%s stands twice in the list",
                    cells[i].precision, is_int8(&cells[i]) ? " " : "", cells[i].scheme);
        }
    }
    if (settings->run.scheme_opt != NULL && !oct_list_has(&settings->precisions, "int8"))
        return oct_usage_error(OCT_CMD_COMPARE, "--scheme-opt needs int8 among --precision");
    if (settings->max_drop >= 0 && (find_precision(cells, count, "fp32") == NULL ||
                                       find_precision(cells, count, "int8") == NULL))
        return oct_usage_error(OCT_CMD_COMPARE, "--max-drop needs fp32 and int8 among --precision");
    return OCT_EXIT_OK;
}

/* Options that one of several schemes does not have are refused before any of them trains. */
static int try_options(const struct oct_settings *settings, const struct cell *cells, size_t count)
{
    for (size_t i = 0; i < count && settings->run.scheme_opt != NULL; i++) {
        struct oct_options options = settings->run;
        oct_trainer *trainer;
        enum oct_status status;

        if (!is_int8(&cells[i]))
            continue;
        options.precision = cells[i].precision;
        options.scheme = cells[i].scheme;
        options.output_dir = options.resume = options.checkpoint = NULL;
        status = oct_trainer_open(&options, &trainer);
        if (status != OCT_OK)
            return oct_library_error(OCT_CMD_COMPARE, status);
        oct_trainer_close(trainer);
    }
    return OCT_EXIT_OK;
}

int oct_cli_compare(const struct oct_settings *settings)
{
    struct cell cells[CELLS_MAX];
    size_t count = list_cells(settings, cells), done = 0;
    int code = check_settings(settings, cells, count), plotted;

    if (code == OCT_EXIT_OK)
        code = try_options(settings, cells, count);
    if (code != OCT_EXIT_OK)
        return code;
    for (; done < count && code == OCT_EXIT_OK; done++)
        code = run_cell(settings, &cells[done]);
    if (code != OCT_EXIT_OK)
        done--; /* the last run did not reach its end */
    if (done > 0)
        print_table(cells, done, settings->format, stdout);
    if (code != OCT_EXIT_OK)
        return code;
    plotted = plot(settings, cells, count);
    code = check_drop(cells, count, settings->max_drop);
    return code != OCT_EXIT_OK ? code : plotted;
}
