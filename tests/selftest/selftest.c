/* selftest-cuda and selftest-sim: one part of the GPU self-test each call.
 * usage: selftest-DEVICE PART [--device NAME] [--golden FOLDER] [--small] [--write] */
#include "selftest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct part {
    const char *name;
    bool (*run)(const struct selftest *, json_t *report);
} parts[] = {{"devices", selftest_devices}, {"wrappers", selftest_wrappers},
    {"products", selftest_products}, {"training", selftest_training}, {"rates", selftest_rates}};

bool selftest_fail(json_t *report, const char *format, ...)
{
    json_t *failures = json_object_get(report, "failures");
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!failures) {
        failures = json_array();
        json_object_set_new(report, "failures", failures);
    }
    json_array_append_new(failures, json_string(text));
    return false;
}

static void golden_path(const struct selftest *s, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s.json", s->golden, name);
}

json_t *selftest_read(const struct selftest *s, const char *name, json_t *report)
{
    char path[1024];
    json_error_t error;
    golden_path(s, name, path, sizeof path);
    json_t *value = json_load_file(path, 0, &error);
    if (!value)
        selftest_fail(report, "cannot read %s: %s (line %d)", path, error.text, error.line);
    return value;
}

bool selftest_save(const struct selftest *s, const char *name, const json_t *value, json_t *report)
{
    char path[1024];
    golden_path(s, name, path, sizeof path);
    if (json_dump_file(value, path, JSON_INDENT(1) | JSON_SORT_KEYS) == 0)
        return true;
    return selftest_fail(report, "cannot write %s", path);
}

static int usage(void)
{
    fprintf(stderr, "usage: selftest PART [--device NAME] [--golden FOLDER] [--small] [--write]\n"
                    "PART: devices, wrappers, products, training, rates\n");
    return 2;
}

static bool parse(int argc, char **argv, struct selftest *s)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0)
            s->small = true;
        else if (strcmp(argv[i], "--write") == 0)
            s->write = true;
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            s->device = argv[++i];
        else if (strcmp(argv[i], "--golden") == 0 && i + 1 < argc)
            s->golden = argv[++i];
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct selftest s = {.device = "cuda", .golden = "tests/golden"};
    if (argc < 2 || !parse(argc, argv, &s))
        return usage();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0)
            continue;
        json_t *report = json_object();
        const bool passed = report && parts[i].run(&s, report);
        json_object_set_new(report, "passed", json_boolean(passed));
        json_dumpf(report, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
        putchar('\n');
        json_decref(report);
        return passed ? 0 : 1;
    }
    return usage();
}
