/* Statistics of octet bench and its log line. */
#include "bench.h"
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double percentile(const double *sorted, int count, double share)
{
    double place = share * (count - 1);
    int below = (int)place, above = below + 1 < count ? below + 1 : below;

    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

struct oct_sample_summary oct_sample_summarise(const double *values, int count)
{
    struct oct_sample_summary summary = {0};
    double *sorted = malloc((size_t)count * sizeof *sorted);

    if (sorted == NULL || count == 0)
        goto out;
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_value);
    summary.median = percentile(sorted, count, 0.5);
    summary.minimum = sorted[0];
    if (summary.median > 0)
        summary.spread =
            (percentile(sorted, count, 0.9) - percentile(sorted, count, 0.1)) / 2 / summary.median;
out:
    free(sorted);
    return summary;
}

double oct_bench_ratio(
    const struct oct_bench *bench, const struct oct_contender *a, const struct oct_contender *b)
{
    int rounds = bench->rounds;
    double *ratios = malloc((size_t)rounds * sizeof *ratios);
    double median = 0;

    if (ratios == NULL || rounds == 0)
        goto out;
    for (int i = 0; i < rounds; i++)
        ratios[i] = a->seconds[i] > 0 ? b->seconds[i] / a->seconds[i] : 0;
    median = oct_sample_summarise(ratios, rounds).median;
out:
    free(ratios);
    return median;
}

const struct oct_contender *oct_bench_find(const struct oct_bench *bench, const char *precision)
{
    for (size_t i = 0; i < bench->count; i++) {
        if (strcmp(bench->contender[i].precision, precision) == 0)
            return &bench->contender[i];
    }
    return NULL;
}

static void processor_name(char *out, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];

    snprintf(out, size, "unknown");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    fclose(file);
}

static void write_machine(FILE *file, const struct oct_run_info *info)
{
    struct utsname system;
    char processor[256];
    double load = 0;

    processor_name(processor, sizeof processor);
    fputs("\"machine\": {\"processor\": ", file);
    oct_json_string(file, processor);
    fputs(", \"system\": ", file);
    oct_json_string(file, uname(&system) == 0 ? system.sysname : "unknown");
    if (getloadavg(&load, 1) != 1)
        load = -1;
    fprintf(file,
        ", \"processors\": %ld, \"load\": %.2f}, \"device\": ", sysconf(_SC_NPROCESSORS_ONLN),
        load);
    oct_json_string(file, info->device);
    fputs(", \"isa\": ", file);
    oct_json_string(file, info->isa);
    fputs(", \"libraries\": ", file);
    oct_json_string(file, info->libraries != NULL ? info->libraries : "");
    fprintf(file, ", \"threads\": %d", info->threads);
}

static void write_contender(
    FILE *file, const struct oct_bench *bench, const struct oct_contender *contender)
{
    static const char *const precisions[] = {"fp32", "bf16", "int8"};
    struct oct_sample_summary summary = oct_sample_summarise(contender->seconds, bench->rounds);

    fprintf(file,
        "{\"precision\": \"%s\", \"scheme\": \"%s\", \"config_hash\": \"%016llx\", "
        "\"median_ms\": %.4f, \"min_ms\": %.4f, \"spread_percent\": %.2f, "
        "\"images_per_second\": %.2f, \"flagged_steps\": %d",
        contender->precision, contender->scheme,
        (unsigned long long)oct_trainer_info(contender->trainer)->config_hash, 1e3 * summary.median,
        1e3 * summary.minimum, 100 * summary.spread,
        summary.median > 0 ? bench->batch / summary.median : 0, contender->flagged);
    for (size_t p = 0; p < 3; p++) {
        const struct oct_contender *other = oct_bench_find(bench, precisions[p]);

        if (other != NULL)
            fprintf(
                file, ", \"vs_%s\": %.3f", precisions[p], oct_bench_ratio(bench, contender, other));
    }
    fputc('}', file);
}

int oct_bench_append(const struct oct_bench *bench)
{
    const struct oct_settings *settings = bench->settings;
    FILE *file = fopen(settings->append, "a");
    time_t now = time(NULL);
    struct tm utc;
    char date[32];

    if (file == NULL)
        return oct_usage_error(
            OCT_CMD_BENCH, "cannot append to %s: %s", settings->append, strerror(errno));
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    fprintf(file, "{\"date\": \"%s\", \"commit\": ", date);
    oct_json_string(file, settings->commit != NULL ? settings->commit : "");
    fprintf(file, ", \"version\": \"%s\", ", oct_version());
    write_machine(file, oct_trainer_info(bench->contender[0].trainer));
    fprintf(file,
        ", \"model\": \"%s\", \"batch\": %d, \"rounds\": %d, \"attempted\": %d, "
        "\"probed\": %s, \"warmup\": %d, \"results\": [",
        bench->model, bench->batch, bench->rounds, bench->attempted,
        oct_trainer_unit_slowdown(bench->contender[0].trainer) > 0 ? "true" : "false",
        settings->warmup);
    for (size_t i = 0; i < bench->count; i++) {
        if (i > 0)
            fputs(", ", file);
        write_contender(file, bench, &bench->contender[i]);
    }
    fputs("]}\n", file);
    if (ferror(file) | fclose(file)) {
        fprintf(stderr, "octet bench: cannot write %s: %s\n", settings->append, strerror(errno));
        return OCT_EXIT_FAILURE;
    }
    return OCT_EXIT_OK;
}
