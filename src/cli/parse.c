/* Command lines (libpopt) and configuration files (libyaml) become settings. popt only splits the
 * line into options and words; what a value may be is decided by the table of options. */
#include "options.h"

#include <errno.h>
#include <popt.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* An option of the line, in the order given. `value` is owned, NULL for flags. */
struct given {
    const struct oct_option *option;
    const char *name;
    char *value;
    int negated;
};

/* What popt parses with: one entry per name, alias and --no-NAME. */
struct spelling {
    const struct oct_option *option;
    int negated;
    char name[OCT_ITEM_MAX];
};

#define SPELLINGS_MAX 200

struct speller {
    struct poptOption popt[SPELLINGS_MAX + 1];
    struct spelling spelling[SPELLINGS_MAX];
    size_t count;
};

static void add_spelling(
    struct speller *speller, const struct oct_option *option, const char *name, int negated)
{
    struct spelling *spelling = &speller->spelling[speller->count];
    struct poptOption *popt = &speller->popt[speller->count];

    if (speller->count == SPELLINGS_MAX)
        return; /* cannot happen: test_cli counts the table's names */
    spelling->option = option;
    spelling->negated = negated;
    snprintf(spelling->name, sizeof spelling->name, "%s%s", negated ? "no-" : "", name);
    popt->longName = spelling->name;
    if (!negated && strcmp(name, option->name) == 0)
        popt->shortName = option->letter;
    popt->argInfo = option->kind == OCT_KIND_FLAG ? POPT_ARG_NONE : POPT_ARG_STRING;
    speller->count++;
    popt->val = (int)speller->count;
}

static void fill_speller(struct speller *speller, unsigned command)
{
    for (size_t i = 0; i < oct_option_count; i++) {
        const struct oct_option *option = &oct_option_table[i];

        if ((option->commands & command) == 0)
            continue;
        add_spelling(speller, option, option->name, 0);
        if (option->kind == OCT_KIND_FLAG)
            add_spelling(speller, option, option->name, 1);
        for (size_t k = 0; k < 3 && option->aliases[k] != NULL; k++)
            add_spelling(speller, option, option->aliases[k], 0);
    }
}

static int line_error(poptContext context, unsigned command, int code)
{
    const char *bad = poptBadOption(context, POPT_BADOPTION_NOALIAS);
    char name[256];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(bad, "="), bad);
    if (code == POPT_ERROR_BADOPT && strncmp(name, "--", 2) == 0)
        return oct_option_unknown(command, NULL, name + 2);
    if (code == POPT_ERROR_BADOPT)
        return oct_usage_error(command, "unknown option %s; octet %s --help lists them", name,
            oct_command_name(command));
    if (code == POPT_ERROR_NOARG)
        return oct_usage_error(command, "%s needs a value", name);
    return oct_usage_error(command, "%s: %s", name, poptStrerror(code));
}

/* Splits the line. *given gets one entry per option, owned by the caller. */
static int read_line(poptContext context, const struct speller *speller, unsigned command,
    struct given **given, size_t *count)
{
    int code;

    while ((code = poptGetNextOpt(context)) > 0) {
        const struct spelling *spelling = &speller->spelling[code - 1];
        struct given *more = realloc(*given, (*count + 1) * sizeof **given);

        if (more == NULL)
            return OCT_EXIT_FAILURE;
        *given = more;
        more[*count] = (struct given){.option = spelling->option,
            .name = spelling->name,
            .value = poptGetOptArg(context),
            .negated = spelling->negated};
        (*count)++;
    }
    return code == -1 ? OCT_EXIT_OK : line_error(context, command, code);
}

static int apply(struct oct_settings *settings, unsigned command, const struct given *given)
{
    char shown[OCT_ITEM_MAX + 2];
    const char *value = given->value;

    if (value == NULL)
        value = given->negated ? "off" : "on";
    snprintf(shown, sizeof shown, "--%s", given->name);
    return oct_settings_set(settings, command, given->option, shown, value);
}

static int apply_all(
    struct oct_settings *settings, unsigned command, const struct given *given, size_t count)
{
    int code = OCT_EXIT_OK;

    for (size_t i = 0; i < count && code == OCT_EXIT_OK; i++) {
        if (strcmp(given[i].option->name, "config") == 0)
            code = oct_settings_config(settings, command, given[i].value);
    }
    for (size_t i = 0; i < count && code == OCT_EXIT_OK; i++)
        code = apply(settings, command, &given[i]);
    return code;
}

static int apply_folders(struct oct_settings *settings, poptContext context, const char *word)
{
    int code = OCT_EXIT_OK;

    for (; word != NULL && code == OCT_EXIT_OK; word = poptGetArg(context))
        code = oct_settings_add_folder(settings, word);
    return code;
}

static int apply_words(struct oct_settings *settings, unsigned command, poptContext context)
{
    const char *word = poptGetArg(context);
    const struct oct_option *data = oct_option_find(command, "data");

    if (command == OCT_CMD_PLOT)
        return apply_folders(settings, context, word);
    if (word == NULL)
        return OCT_EXIT_OK;
    if (data == NULL)
        return oct_usage_error(
            command, "'%s' is one word too many; this command takes options only", word);
    if (oct_settings_set(settings, command, data, "DIR", word) != OCT_EXIT_OK)
        return OCT_EXIT_FAILURE;
    word = poptGetArg(context);
    if (word != NULL)
        return oct_usage_error(
            command, "'%s' is one word too many; this command takes one folder", word);
    return OCT_EXIT_OK;
}

int oct_settings_parse(struct oct_settings *settings, unsigned command, int argc, char **argv)
{
    struct speller *speller = calloc(1, sizeof *speller);
    struct given *given = NULL;
    size_t count = 0;
    poptContext context = NULL;
    int code = OCT_EXIT_FAILURE;

    if (speller == NULL)
        goto out;
    fill_speller(speller, command);
    context = poptGetContext(NULL, argc, (const char **)argv, speller->popt, POPT_CONTEXT_NO_EXEC);
    if (context == NULL)
        goto out;
    code = read_line(context, speller, command, &given, &count);
    if (code == OCT_EXIT_OK)
        code = apply_all(settings, command, given, count);
    if (code == OCT_EXIT_OK)
        code = apply_words(settings, command, context);
out:
    for (size_t i = 0; i < count; i++)
        free(given[i].value);
    free(given);
    if (context != NULL)
        poptFreeContext(context);
    free(speller);
    return code;
}

/* A flat YAML mapping; a sequence of scalars stands for a comma list. */
struct yaml_reader {
    struct oct_settings *settings;
    unsigned command;
    const char *path;
    const struct oct_option *option; /* whose value comes next, NULL: a key comes next */
    char value[1024];                /* items of the sequence so far */
    int in_sequence;
};

static int yaml_shape(const struct yaml_reader *reader)
{
    return oct_usage_error(
        reader->command, "%s: expected lines of the form `name: value`", reader->path);
}

static int yaml_value(struct yaml_reader *reader, const char *text, int plain)
{
    char shown[OCT_ITEM_MAX + 512];
    const struct oct_option *option = reader->option;

    reader->option = NULL;
    /* null and "" are what NULL strings are written as: leave the default. */
    if (text[0] == '\0' || (plain && (strcmp(text, "null") == 0 || strcmp(text, "~") == 0)))
        return OCT_EXIT_OK;
    snprintf(shown, sizeof shown, "%s: %s", reader->path, option->name);
    return oct_settings_set(reader->settings, reader->command, option, shown, text);
}

static int yaml_key(struct yaml_reader *reader, const char *key)
{
    char name[OCT_ITEM_MAX];

    snprintf(name, sizeof name, "%s", key);
    reader->option = oct_option_find(reader->command, name);
    if (reader->option == NULL)
        return oct_option_unknown(reader->command, reader->path, name);
    if (strcmp(reader->option->name, "config") == 0 || strcmp(reader->option->name, "help") == 0)
        return oct_usage_error(
            reader->command, "%s: key %s cannot stand in a file", reader->path, name);
    return OCT_EXIT_OK;
}

static int yaml_scalar(struct yaml_reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    int plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    size_t used = strlen(reader->value);

    if (reader->option == NULL)
        return yaml_key(reader, text);
    if (!reader->in_sequence)
        return yaml_value(reader, text, plain);
    if (used + strlen(text) + 2 > sizeof reader->value)
        return yaml_shape(reader);
    snprintf(reader->value + used, sizeof reader->value - used, "%s%s", used > 0 ? "," : "", text);
    return OCT_EXIT_OK;
}

static int yaml_event(struct yaml_reader *reader, const yaml_event_t *event, int depth)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return depth == 1 ? yaml_scalar(reader, event) : yaml_shape(reader);
    case YAML_SEQUENCE_START_EVENT:
        if (reader->option == NULL || reader->in_sequence)
            return yaml_shape(reader);
        reader->in_sequence = 1;
        reader->value[0] = '\0';
        return OCT_EXIT_OK;
    case YAML_SEQUENCE_END_EVENT:
        reader->in_sequence = 0;
        return yaml_value(reader, reader->value, 0);
    case YAML_MAPPING_START_EVENT:
        return depth == 1 && reader->option == NULL ? OCT_EXIT_OK : yaml_shape(reader);
    case YAML_ALIAS_EVENT:
        return yaml_shape(reader);
    default:
        return OCT_EXIT_OK;
    }
}

int oct_settings_config(struct oct_settings *settings, unsigned command, const char *path)
{
    struct yaml_reader reader = {.settings = settings, .command = command, .path = path};
    yaml_parser_t parser;
    yaml_event_t event;
    FILE *file = fopen(path, "rb");
    int code = OCT_EXIT_OK, depth = 0, done = 0;

    if (file == NULL)
        return oct_usage_error(command, "cannot read %s: %s", path, strerror(errno));
    if (!yaml_parser_initialize(&parser)) {
        fclose(file);
        return OCT_EXIT_FAILURE;
    }
    yaml_parser_set_input_file(&parser, file);
    while (code == OCT_EXIT_OK && !done) {
        if (!yaml_parser_parse(&parser, &event)) {
            code = oct_usage_error(command, "%s, line %zu: %s", path, parser.problem_mark.line + 1,
                parser.problem != NULL ? parser.problem : "not YAML");
            break;
        }
        depth += event.type == YAML_MAPPING_START_EVENT;
        code = yaml_event(&reader, &event, depth);
        depth -= event.type == YAML_MAPPING_END_EVENT;
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    fclose(file);
    return code;
}
