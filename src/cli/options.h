/* The settings of every command and the one table that describes them: used for parsing, --help,
 * configuration files, --print-config and the suggestion of the nearest name. */
#ifndef OCT_CLI_OPTIONS_H
#define OCT_CLI_OPTIONS_H

#include "text.h"

#include <octet.h>
#include <stdio.h>

/* Exit codes of the program; a stopped run exits with 128 + the signal's number. */
enum oct_exit { OCT_EXIT_OK, OCT_EXIT_FAILURE, OCT_EXIT_USAGE };

enum oct_command_bit {
    OCT_CMD_TRAIN = 1,
    OCT_CMD_EVAL = 2,
    OCT_CMD_COMPARE = 4,
    OCT_CMD_BENCH = 8,
    OCT_CMD_INFO = 16,
    OCT_CMD_ANALYSE = 32,
    OCT_CMD_PLOT = 64,
    OCT_CMD_ALL = 127
};

enum { OCT_OPTIONS_MAX = 128 }; /* rows of oct_option_table at most; test_cli counts them */

struct oct_settings {
    struct oct_options run;
    const char *optimiser; /* "sgd" */
    int evaluate;          /* train: evaluate and stop */
    int plan;              /* print the memory plan and stop */
    int print_config;
    const char *scheme_asked;                                 /* info */
    struct oct_list models, batch_sizes, precisions, schemes; /* compare, bench */
    double max_drop;                                          /* compare: points; < 0: no limit */
    const char *format;                                       /* "md", "csv", "json", "jsonl" */
    int rounds, warmup, layers;                               /* bench */
    const char *append, *commit;                              /* bench */
    const char **folders;                                     /* plot */
    size_t folder_count;
    const char *figure; /* plot */
    const char *config;
    int help;
    char **owned; /* strings that the pointers above refer to */
    size_t owned_count;
    unsigned char given[OCT_OPTIONS_MAX]; /* 1 where the user set that row of oct_option_table */
};

enum oct_kind {
    OCT_KIND_TEXT,    /* const char * */
    OCT_KIND_CHOICE,  /* const char *, one of `allowed` */
    OCT_KIND_LIST,    /* struct oct_list, each of `allowed` */
    OCT_KIND_NUMBERS, /* struct oct_list of integers in [least, most] */
    OCT_KIND_INT,     /* int in [least, most] */
    OCT_KIND_INT64,   /* int64_t in [least, most] */
    OCT_KIND_UINT64,  /* uint64_t */
    OCT_KIND_REAL,    /* double in [least, most] */
    OCT_KIND_SWITCH,  /* int, takes on or off */
    OCT_KIND_FLAG     /* int, takes no value; --no-NAME clears it */
};

struct oct_option {
    const char *name;
    char letter; /* 0: none */
    const char *aliases[3];
    const char *group; /* heading in --help */
    enum oct_kind kind;
    size_t offset;       /* in struct oct_settings */
    const char *allowed; /* "a|b|c"; "@model", "@scheme": the library's list */
    double least, most;
    unsigned commands; /* OCT_CMD_* that take it */
    const char *help;
};

extern const struct oct_option oct_option_table[];
extern const size_t oct_option_count;

/* Defaults of `command`. Close with oct_settings_close. */
void oct_settings_init(struct oct_settings *settings, unsigned command);
void oct_settings_close(struct oct_settings *settings);

/* Parses the arguments behind the command's name: configuration files first, then flags, which
 * override them; a positional DIR becomes run.data, those of plot become folders. Returns
 * OCT_EXIT_OK, or prints one line and returns OCT_EXIT_USAGE. */
int oct_settings_parse(struct oct_settings *settings, unsigned command, int argc, char **argv);

/* Applies a YAML file of `name: value` lines. */
int oct_settings_config(struct oct_settings *settings, unsigned command, const char *path);

/* Sets one option from its text. `shown` is the name as the user wrote it, for messages.
 * `text` is copied. */
int oct_settings_set(struct oct_settings *settings, unsigned command,
    const struct oct_option *option, const char *shown, const char *text);

/* Appends to `folders`; `text` is copied. */
int oct_settings_add_folder(struct oct_settings *settings, const char *text);

/* 1 if oct_settings_set has set the option called `name`, 0 if it has its default. */
int oct_settings_given(const struct oct_settings *settings, const char *name);

/* The option called `name` (or by an alias), '_' counting as '-'; NULL if `command` has none. */
const struct oct_option *oct_option_find(unsigned command, const char *name);

/* Prints that `command` has no option `name` (of a line, or a key of `file`), with the nearest name
 * or the command that has it; returns OCT_EXIT_USAGE. */
int oct_option_unknown(unsigned command, const char *file, const char *name);

/* The value as text that oct_settings_set reads back as the same; "" for NULL and empty lists. */
void oct_option_format(
    const struct oct_settings *settings, const struct oct_option *option, char *out, size_t size);

/* The nth allowed word of CHOICE and LIST, NULL behind the last; `buffer` holds it. */
const char *oct_option_allowed(
    const struct oct_option *option, size_t index, char buffer[OCT_ITEM_MAX]);

/* Options of a command, grouped, with values and defaults. */
void oct_options_help(unsigned command, FILE *out);

/* All settings of a command as YAML, as --config reads them. */
void oct_settings_print(const struct oct_settings *settings, unsigned command, FILE *out);

const char *oct_command_name(unsigned command);

/* Prints `octet COMMAND: message` to stderr and returns OCT_EXIT_USAGE. */
int oct_usage_error(unsigned command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints `octet COMMAND: last error of the library`; returns OCT_EXIT_FAILURE, or OCT_EXIT_USAGE
 * where the library refused an argument. */
int oct_library_error(unsigned command, enum oct_status status);

#endif
