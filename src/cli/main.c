/* octet COMMAND ...: finds the command, parses its options, runs it. */
#include "commands.h"

#include <string.h>

struct command {
    unsigned bit;
    int (*run)(const struct oct_settings *settings);
    const char *arguments;
    const char *purpose;
    const char *details;
};

static const struct command commands[] = {
    {OCT_CMD_TRAIN, oct_cli_train, "[DIR] [options]", "train a network",
        "DIR holds CIFAR-10/100 binary files or IDX files (MNIST, Fashion-MNIST).\n"
        "The first SIGINT, SIGTERM or SIGHUP ends the running step, saves, and exits with 128 + "
        "its number."},
    {OCT_CMD_EVAL, oct_cli_eval, "[DIR] --checkpoint FILE [options]", "evaluate a checkpoint",
        "What is not given - network, arithmetic, data - is that of the run that wrote FILE."},
    {OCT_CMD_COMPARE, oct_cli_compare, "[DIR] [options]",
        "train the same network in several precisions and print one table",
        "Runs share seed, initial weights, order of images and settings. With --output-dir each\n"
        "run gets a folder of its own there, and compare.svg shows the curves."},
    {OCT_CMD_BENCH, oct_cli_bench, "[options]", "time training steps of several precisions in turn",
        "All precisions of a model live in one process and step in turn on synthetic images, so\n"
        "that a slow moment of the machine meets all of them. A ratio is the median over rounds\n"
        "of the ratio inside a round."},
    {OCT_CMD_ANALYSE, oct_cli_analyse, "RUN_DIR [options]",
        "how well every int8 scheme does the backward products of a recorded run",
        "RUN_DIR is the folder of an fp32 run with --record-gradients. Every integer scheme and "
        "its\n"
        "ablations are measured against float64 products; RUN_DIR/analysis.csv has each\n"
        "measurement, the table their means, RUN_DIR/analysis.svg those by layer."},
    {OCT_CMD_PLOT, oct_cli_plot, "RUN_DIR ... [options]",
        "learning curves of several runs in one figure",
        "Each RUN_DIR is the --output-dir of a run, finished or not."},
    {OCT_CMD_INFO, oct_cli_info, "[--scheme NAME]", "what this machine and this build offer", ""},
};
static const size_t command_count = sizeof commands / sizeof *commands;

static void print_usage(FILE *out)
{
    fputs("octet trains convolutional networks with 8-bit integer arithmetic.\n\n"
          "usage: octet COMMAND [arguments]\n\n",
        out);
    for (size_t i = 0; i < command_count; i++)
        fprintf(out, "  %-9s %s\n", oct_command_name(commands[i].bit), commands[i].purpose);
    fputs("\noctet COMMAND --help explains a command; octet --version names the version.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 or 143 stopped by a signal after "
          "saving.\n",
        out);
}

static int print_command_help(const struct command *command)
{
    printf("usage: octet %s %s\n\n%s%s%s\n", oct_command_name(command->bit), command->arguments,
        command->purpose, command->details[0] != '\0' ? "\n\n" : "", command->details);
    oct_options_help(command->bit, stdout);
    return OCT_EXIT_OK;
}

static int unknown_command(const char *name)
{
    struct oct_nearest nearest = {.asked = name};

    for (size_t i = 0; i < command_count; i++)
        oct_nearest_try(&nearest, oct_command_name(commands[i].bit));
    if (nearest.best != NULL)
        fprintf(stderr, "octet: unknown command %s; did you mean %s?\n", name, nearest.best);
    else
        fprintf(stderr, "octet: unknown command %s; octet --help lists them\n", name);
    return OCT_EXIT_USAGE;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct oct_settings settings;
    int code;

    oct_settings_init(&settings, command->bit);
    code = oct_settings_parse(&settings, command->bit, argc, argv);
    if (code == OCT_EXIT_OK) {
        if (settings.help)
            code = print_command_help(command);
        else if (settings.print_config)
            oct_settings_print(&settings, command->bit, stdout);
        else
            code = command->run(&settings);
    }
    oct_settings_close(&settings);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "octet %s: cannot write to the standard output\n",
            oct_command_name(command->bit));
        return OCT_EXIT_FAILURE;
    }
    return code;
}

int octet_main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return OCT_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return OCT_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("octet %s\n", oct_version());
        return OCT_EXIT_OK;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(argv[1], oct_command_name(commands[i].bit)) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    }
    return unknown_command(argv[1]);
}
