/* One function per command, each in the file of its name; they return exit codes. */
#ifndef OCT_CLI_COMMANDS_H
#define OCT_CLI_COMMANDS_H

#include "options.h"

int oct_cli_train(const struct oct_settings *settings);
int oct_cli_eval(const struct oct_settings *settings);
int oct_cli_compare(const struct oct_settings *settings);
int oct_cli_bench(const struct oct_settings *settings);
int oct_cli_analyse(const struct oct_settings *settings);
int oct_cli_plot(const struct oct_settings *settings);
int oct_cli_info(const struct oct_settings *settings);

/* `octet eval` and `octet train --evaluate`: one evaluation, nothing is written. */
int oct_cli_evaluate(unsigned command, const struct oct_options *options);

/* The program; main calls it, tests too. */
int octet_main(int argc, char **argv);

#endif
