/* One option at a time: find it, set it from text, format it. */
#include "options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *oct_command_name(unsigned command)
{
    switch (command) {
    case OCT_CMD_TRAIN:
        return "train";
    case OCT_CMD_EVAL:
        return "eval";
    case OCT_CMD_COMPARE:
        return "compare";
    case OCT_CMD_BENCH:
        return "bench";
    case OCT_CMD_ANALYSE:
        return "analyse";
    case OCT_CMD_PLOT:
        return "plot";
    default:
        return "info";
    }
}

int oct_usage_error(unsigned command, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "octet %s: ", oct_command_name(command));
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return OCT_EXIT_USAGE;
}

int oct_library_error(unsigned command, enum oct_status status)
{
    fprintf(stderr, "octet %s: %s\n", oct_command_name(command), oct_last_error());
    return status == OCT_ARG ? OCT_EXIT_USAGE : OCT_EXIT_FAILURE;
}

void oct_settings_init(struct oct_settings *settings, unsigned command)
{
    memset(settings, 0, sizeof *settings);
    oct_options_init(&settings->run);
    settings->optimiser = "sgd";
    settings->format = "md";
    settings->figure = "curves.svg";
    settings->max_drop = -1;
    settings->rounds = 10;
    settings->warmup = 2;
    if (settings->run.model != NULL)
        oct_list_parse(settings->run.model, &settings->models);
    if (settings->run.scheme != NULL)
        oct_list_parse(settings->run.scheme, &settings->schemes);
    oct_list_parse(
        command == OCT_CMD_COMPARE ? "fp32,int8" : "fp32,bf16,int8", &settings->precisions);
    if (command == OCT_CMD_BENCH) {
        settings->run.dataset = "synthetic";
        settings->run.synthetic_images = 0;
        snprintf(settings->batch_sizes.item[0], OCT_ITEM_MAX, "%d", settings->run.batch_size);
        settings->batch_sizes.count = 1;
    }
}

void oct_settings_close(struct oct_settings *settings)
{
    for (size_t i = 0; i < settings->owned_count; i++)
        free(settings->owned[i]);
    free(settings->owned);
    free(settings->folders);
    settings->owned = NULL;
    settings->owned_count = 0;
    settings->folders = NULL;
    settings->folder_count = 0;
}

/* '_' counts as '-', so that the keys of args.yaml are option names. */
static int same_name(const char *name, const char *asked)
{
    for (; *name != '\0' || *asked != '\0'; name++, asked++) {
        if (*name != (*asked == '_' ? '-' : *asked))
            return 0;
    }
    return 1;
}

const struct oct_option *oct_option_find(unsigned command, const char *name)
{
    for (size_t i = 0; i < oct_option_count; i++) {
        const struct oct_option *option = &oct_option_table[i];

        if ((option->commands & command) == 0)
            continue;
        if (same_name(option->name, name))
            return option;
        for (size_t k = 0; k < 3 && option->aliases[k] != NULL; k++) {
            if (same_name(option->aliases[k], name))
                return option;
        }
    }
    return NULL;
}

int oct_option_unknown(unsigned command, const char *file, const char *name)
{
    struct oct_nearest nearest = {.asked = name};
    const char *own = oct_command_name(command), *dashes = file == NULL ? "--" : "";
    char asked[256];

    snprintf(asked, sizeof asked, "%s%s%s%s", file == NULL ? "" : file,
        file == NULL ? "unknown option " : ": unknown key ", dashes, name);
    for (size_t i = 0; i < oct_option_count; i++) {
        const struct oct_option *option = &oct_option_table[i];

        if ((option->commands & command) == 0)
            continue;
        oct_nearest_try(&nearest, option->name);
        for (size_t k = 0; k < 3 && option->aliases[k] != NULL; k++)
            oct_nearest_try(&nearest, option->aliases[k]);
    }
    for (unsigned other = 1; other < OCT_CMD_ALL; other <<= 1) {
        if (oct_option_find(other, name) != NULL)
            return oct_usage_error(command, "%s; it belongs to octet %s (see octet %s --help)",
                asked, oct_command_name(other), own);
    }
    if (nearest.best != NULL)
        return oct_usage_error(command, "%s; did you mean %s%s?", asked, dashes, nearest.best);
    return oct_usage_error(command, "%s; octet %s --help lists them all", asked, own);
}

const char *oct_option_allowed(
    const struct oct_option *option, size_t index, char buffer[OCT_ITEM_MAX])
{
    const char *word = option->allowed;

    if (word == NULL)
        return NULL;
    if (strcmp(word, "@model") == 0)
        return oct_model_name(index);
    if (strcmp(word, "@scheme") == 0)
        return oct_scheme_name(index);
    for (; index > 0; index--) {
        word = strchr(word, '|');
        if (word == NULL)
            return NULL;
        word++;
    }
    snprintf(buffer, OCT_ITEM_MAX, "%.*s", (int)strcspn(word, "|"), word);
    return buffer;
}

static int check_word(
    unsigned command, const struct oct_option *option, const char *shown, const char *word)
{
    char buffer[OCT_ITEM_MAX], best[OCT_ITEM_MAX] = "", words[512] = "";
    struct oct_nearest nearest = {.asked = word};
    const char *candidate;

    for (size_t i = 0; (candidate = oct_option_allowed(option, i, buffer)) != NULL; i++) {
        size_t used = strlen(words);

        if (strcmp(candidate, word) == 0)
            return OCT_EXIT_OK;
        snprintf(words + used, sizeof words - used, "%s%s", i > 0 ? ", " : "", candidate);
        nearest.best = best[0] != '\0' ? best : NULL;
        oct_nearest_try(&nearest, candidate);
        if (nearest.best == candidate)
            snprintf(best, sizeof best, "%s", candidate);
    }
    if (best[0] != '\0')
        return oct_usage_error(
            command, "%s takes %s, not '%s'; did you mean %s?", shown, words, word, best);
    return oct_usage_error(command, "%s takes %s, not '%s'", shown, words, word);
}

static int set_text(struct oct_settings *settings, const char **field, const char *text)
{
    char **owned = realloc(settings->owned, (settings->owned_count + 1) * sizeof *owned);
    char *copy = strdup(text);

    if (owned != NULL)
        settings->owned = owned;
    if (owned == NULL || copy == NULL) {
        free(copy);
        fprintf(stderr, "octet: out of memory\n");
        return OCT_EXIT_FAILURE;
    }
    settings->owned[settings->owned_count++] = copy;
    *field = copy;
    return OCT_EXIT_OK;
}

int oct_settings_add_folder(struct oct_settings *settings, const char *text)
{
    const char **folders =
        realloc(settings->folders, (settings->folder_count + 1) * sizeof *folders);

    if (folders == NULL) {
        fprintf(stderr, "octet: out of memory\n");
        return OCT_EXIT_FAILURE;
    }
    settings->folders = folders;
    return set_text(settings, &folders[settings->folder_count++], text);
}

static int integer_in_range(unsigned command, const struct oct_option *option, const char *shown,
    const char *text, long long *out)
{
    if (oct_text_integer(text, out) != 0 || (double)*out < option->least ||
        (double)*out > option->most)
        return oct_usage_error(command, "%s takes a whole number from %.0f to %.0f, not '%s'",
            shown, option->least, option->most, text);
    return OCT_EXIT_OK;
}

static int set_list(unsigned command, const struct oct_option *option, const char *shown,
    const char *text, struct oct_list *field)
{
    struct oct_list list;
    long long number;

    if (oct_list_parse(text, &list) != 0)
        return oct_usage_error(command, "%s takes a comma list of at most %d words, not '%s'",
            shown, OCT_LIST_MAX, text);
    for (size_t i = 0; i < list.count; i++) {
        int code = option->kind == OCT_KIND_LIST
                       ? check_word(command, option, shown, list.item[i])
                       : integer_in_range(command, option, shown, list.item[i], &number);

        if (code != OCT_EXIT_OK)
            return code;
    }
    *field = list;
    return OCT_EXIT_OK;
}

static int set_switch(unsigned command, const char *shown, const char *text, int *field)
{
    static const char *const words[] = {"off", "on", "false", "true", "no", "yes", "0", "1"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            *field = (int)(i & 1);
            return OCT_EXIT_OK;
        }
    }
    return oct_usage_error(command, "%s takes on or off, not '%s'", shown, text);
}

static int set_number(void *field, unsigned command, const struct oct_option *option,
    const char *shown, const char *text)
{
    long long integer;
    unsigned long long natural;
    double real;

    if (option->kind == OCT_KIND_UINT64) {
        if (oct_text_unsigned(text, &natural) != 0)
            return oct_usage_error(
                command, "%s takes a whole number from 0 to 2^64 - 1, not '%s'", shown, text);
        *(uint64_t *)field = natural;
        return OCT_EXIT_OK;
    }
    if (option->kind == OCT_KIND_REAL) {
        if (oct_text_real(text, &real) != 0 || real < option->least || real > option->most)
            return oct_usage_error(command, "%s takes a number from %g to %g, not '%s'", shown,
                option->least, option->most, text);
        *(double *)field = real;
        return OCT_EXIT_OK;
    }
    if (integer_in_range(command, option, shown, text, &integer) != OCT_EXIT_OK)
        return OCT_EXIT_USAGE;
    if (option->kind == OCT_KIND_INT64)
        *(int64_t *)field = integer;
    else
        *(int *)field = (int)integer;
    return OCT_EXIT_OK;
}

static int set_value(struct oct_settings *settings, unsigned command,
    const struct oct_option *option, const char *shown, const char *text)
{
    void *field = (char *)settings + option->offset;

    switch (option->kind) {
    case OCT_KIND_CHOICE:
        if (check_word(command, option, shown, text) != OCT_EXIT_OK)
            return OCT_EXIT_USAGE;
        return set_text(settings, field, text);
    case OCT_KIND_TEXT:
        if (text[0] == '\0')
            return oct_usage_error(command, "%s needs a value", shown);
        return set_text(settings, field, text);
    case OCT_KIND_LIST:
    case OCT_KIND_NUMBERS:
        return set_list(command, option, shown, text, field);
    case OCT_KIND_SWITCH:
    case OCT_KIND_FLAG:
        return set_switch(command, shown, text, field);
    default:
        return set_number(field, command, option, shown, text);
    }
}

int oct_settings_set(struct oct_settings *settings, unsigned command,
    const struct oct_option *option, const char *shown, const char *text)
{
    int code = set_value(settings, command, option, shown, text);

    if (code == OCT_EXIT_OK)
        settings->given[option - oct_option_table] = 1;
    return code;
}

int oct_settings_given(const struct oct_settings *settings, const char *name)
{
    for (size_t i = 0; i < oct_option_count; i++) {
        if (settings->given[i] && same_name(oct_option_table[i].name, name))
            return 1;
    }
    return 0;
}

static void format_list(const struct oct_list *list, char *out, size_t size)
{
    size_t used = 0;

    for (size_t i = 0; i < list->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? "," : "", list->item[i]);
}

void oct_option_format(
    const struct oct_settings *settings, const struct oct_option *option, char *out, size_t size)
{
    const void *field = (const char *)settings + option->offset;
    const char *text;

    out[0] = '\0';
    switch (option->kind) {
    case OCT_KIND_TEXT:
    case OCT_KIND_CHOICE:
        text = *(const char *const *)field;
        snprintf(out, size, "%s", text != NULL ? text : "");
        break;
    case OCT_KIND_LIST:
    case OCT_KIND_NUMBERS:
        format_list(field, out, size);
        break;
    case OCT_KIND_INT:
        snprintf(out, size, "%d", *(const int *)field);
        break;
    case OCT_KIND_INT64:
        snprintf(out, size, "%lld", (long long)*(const int64_t *)field);
        break;
    case OCT_KIND_UINT64:
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case OCT_KIND_REAL:
        oct_text_from_real(*(const double *)field, out, size);
        break;
    case OCT_KIND_SWITCH:
    case OCT_KIND_FLAG:
        snprintf(out, size, "%s", *(const int *)field ? "on" : "off");
        break;
    }
}
