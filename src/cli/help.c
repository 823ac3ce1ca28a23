/* Prints the table of options: --help and --print-config. */
#include "options.h"

#include <string.h>

/* Column where the explanations start. */
#define HELP_COLUMN 30

static const char *placeholder(enum oct_kind kind)
{
    switch (kind) {
    case OCT_KIND_TEXT:
    case OCT_KIND_CHOICE:
        return " NAME";
    case OCT_KIND_LIST:
    case OCT_KIND_NUMBERS:
        return " A,B";
    case OCT_KIND_SWITCH:
        return " on|off";
    case OCT_KIND_FLAG:
        return "";
    default:
        return " N";
    }
}

static void print_option(
    const struct oct_settings *settings, const struct oct_option *option, FILE *out)
{
    char value[OCT_LIST_MAX * OCT_ITEM_MAX], buffer[OCT_ITEM_MAX], letter[] = "    ";
    const char *word;
    int width;

    if (option->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    width = fprintf(out, "  %s--%s%s", letter, option->name, placeholder(option->kind));
    if (width >= HELP_COLUMN) {
        fputc('\n', out);
        width = 0;
    }
    fprintf(out, "%*s%s", HELP_COLUMN - width, "", option->help);
    for (size_t i = 0; (word = oct_option_allowed(option, i, buffer)) != NULL; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : ": ", word);
    oct_option_format(settings, option, value, sizeof value);
    if (value[0] != '\0' && option->kind != OCT_KIND_FLAG)
        fprintf(out, " [%s]", value);
    for (size_t k = 0; k < 3 && option->aliases[k] != NULL; k++)
        fprintf(out, "%s--%s", k > 0 ? ", " : "; also ", option->aliases[k]);
    fputc('\n', out);
}

void oct_options_help(unsigned command, FILE *out)
{
    struct oct_settings settings;
    const char *group = NULL;

    oct_settings_init(&settings, command);
    for (size_t i = 0; i < oct_option_count; i++) {
        const struct oct_option *option = &oct_option_table[i];

        if ((option->commands & command) == 0)
            continue;
        if (option->group != group)
            fprintf(out, "\n%s:\n", option->group);
        group = option->group;
        print_option(&settings, option, out);
    }
    oct_settings_close(&settings);
}

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

void oct_settings_print(const struct oct_settings *settings, unsigned command, FILE *out)
{
    for (size_t i = 0; i < oct_option_count; i++) {
        const struct oct_option *option = &oct_option_table[i];
        char value[4096];

        if ((option->commands & command) == 0 || strcmp(option->name, "config") == 0 ||
            strcmp(option->name, "help") == 0 || strcmp(option->name, "print-config") == 0)
            continue;
        oct_option_format(settings, option, value, sizeof value);
        fprintf(out, "%s: ", option->name);
        if (value[0] == '\0')
            fputs("null", out);
        else if (option->kind <= OCT_KIND_NUMBERS)
            print_quoted(out, value);
        else
            fputs(value, out);
        fputc('\n', out);
    }
}
