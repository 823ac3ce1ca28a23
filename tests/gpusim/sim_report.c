/* Reports, options and counters: what a test may ask for. */
#include "sim_core.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char report[4096];
int gpusim_sticky;

void gpusim_report(const char *format, ...)
{
    char text[sizeof report];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    pthread_mutex_lock(&mutex);
    fprintf(stderr, "gpusim: %s\n", text);
    if (!report[0])
        memcpy(report, text, sizeof report);
    pthread_mutex_unlock(&mutex);
}

const char *gpusim_last_report(void)
{
    return report;
}

void gpusim_reset(void)
{
    report[0] = 0;
    gpusim_sticky = 0;
}

/* ---- options ---- */

static struct gpusim_options options;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static unsigned checks_of(const char *text)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"init", GPUSIM_CHECK_INIT}, {"barrier", GPUSIM_CHECK_BARRIER},
        {"race", GPUSIM_CHECK_RACE_SHARED | GPUSIM_CHECK_RACE_GLOBAL},
        {"race-shared", GPUSIM_CHECK_RACE_SHARED}, {"race-global", GPUSIM_CHECK_RACE_GLOBAL},
        {"memory", GPUSIM_CHECK_MEMORY}, {"all", GPUSIM_CHECK_ALL}, {"none", 0}};
    unsigned checks = 0;
    while (*text) {
        const size_t length = strcspn(text, ",");
        bool known = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (strlen(names[i].name) == length && strncmp(names[i].name, text, length) == 0) {
                checks |= names[i].bit;
                known = true;
            }
        if (!known) {
            fprintf(stderr, "gpusim: GPUSIM_CHECK: unknown check \"%.*s\"\n", (int)length, text);
            abort();
        }
        text += length + (text[length] == ',');
    }
    return checks;
}

/* "run", "robin:QUANTUM" or "random:SEED" */
static void schedule_of(const char *text)
{
    const char *colon = strchr(text, ':');
    if (strcmp(text, "run") == 0) {
        options.schedule = GPUSIM_RUN_TO_BARRIER;
    } else if (strncmp(text, "robin", 5) == 0) {
        options.schedule = GPUSIM_ROUND_ROBIN;
        options.quantum = colon ? atoi(colon + 1) : 1;
    } else if (strncmp(text, "random", 6) == 0) {
        options.schedule = GPUSIM_RANDOM;
        options.seed = colon ? strtoull(colon + 1, NULL, 0) : 1;
    } else {
        fprintf(
            stderr, "gpusim: GPUSIM_SCHEDULE: \"%s\" is not run, robin:N or random:SEED\n", text);
        abort();
    }
    if (options.quantum < 1)
        options.quantum = 1;
}

static void read_environment(void)
{
    const char *sm = getenv("GPUSIM_SM"), *threads = getenv("GPUSIM_THREADS");
    const char *check = getenv("GPUSIM_CHECK"), *schedule = getenv("GPUSIM_SCHEDULE");
    const char *count = getenv("GPUSIM_COUNT");
    options = (struct gpusim_options){.sm = sm ? atoi(sm) : 80,
        .threads = threads && atoi(threads) > 0 ? atoi(threads) : 1,
        .checks = GPUSIM_CHECK_INIT | GPUSIM_CHECK_BARRIER | GPUSIM_CHECK_RACE_SHARED,
        .quantum = 32,
        .max_steps = UINT64_C(1) << 34,
        .seed = 1,
        .count_memory = count && atoi(count)};
    if (check)
        options.checks = checks_of(check);
    if (schedule)
        schedule_of(schedule);
}

struct gpusim_options gpusim_options(void)
{
    pthread_once(&once, read_environment);
    return options;
}

void gpusim_set_options(const struct gpusim_options *wanted)
{
    pthread_once(&once, read_environment);
    options = *wanted;
    if (options.quantum < 1)
        options.quantum = 1;
    if (options.max_steps == 0)
        options.max_steps = UINT64_C(1) << 34;
    if (options.threads < 1)
        options.threads = 1;
}

const char *gpusim_class_name(enum gpusim_class class)
{
    static const char *const names[GPUSIM_CLASSES] = {"integer", "float", "double", "convert",
        "move", "control", "barrier", "global", "shared", "local", "param", "atomic", "ldmatrix",
        "cp.async", "warp", "mma"};
    return class < GPUSIM_CLASSES ? names[class] : "unknown";
}
