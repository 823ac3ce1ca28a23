/* The program, run as a function against a stand-in library. Messages and figures are compared as
 * text: they are what users and scripts read. */
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "support/cli_run.h"
#include "support/fake_octet.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Test(cli, without_command_prints_usage)
{
    cr_expect_eq(octet(""), OCT_EXIT_USAGE);
    expect_in(err_text, "usage: octet COMMAND");
    cr_expect_eq(octet("--help"), OCT_EXIT_OK);
    expect_in(out_text, "compare");
    cr_expect_eq(octet("--version"), OCT_EXIT_OK);
    cr_expect_str_eq(out_text, "octet " OCT_VERSION "\n");
}

Test(cli, unknown_names_get_the_nearest)
{
    refused("trian d", "octet: unknown command trian; did you mean train?");
    refused("zzzzzz", "octet: unknown command zzzzzz; octet --help lists them");
    refused("train d --epoch 3", "octet train: unknown option --epoch; did you mean --epochs?");
    refused("train d --epoch=3", "octet train: unknown option --epoch; did you mean --epochs?");
    refused("train d --bacth-size 3",
        "octet train: unknown option --bacth-size; did you mean --batch-size?");
    refused("train d --frobnicate",
        "octet train: unknown option --frobnicate; octet train --help lists them all");
    refused("train d -Z", "octet train: unknown option -Z; octet train --help lists them");
    refused("eval d --epochs 3",
        "octet eval: unknown option --epochs; it belongs to octet train (see octet eval --help)");
    refused("train d --model resnet2",
        "octet train: --model takes resnet8, resnet20, resnet18, resnet50, not 'resnet2'; did you "
        "mean resnet20?");
    refused("train d --opt adamw", "octet train: --opt takes sgd, not 'adamw'");
    refused("train d --precision int4",
        "octet train: --precision takes fp32, bf16, int8, not 'int4'; did you mean int8?");
    refused("compare d --precision fp32,in8",
        "octet compare: --precision takes fp32, bf16, int8, not 'in8'; did you mean int8?");
    refused("info --scheme dai9",
        "octet info: --scheme takes dai8, amax, not 'dai9'; did you mean dai8?");
}

Test(cli, numbers_are_strict)
{
    refused("train d --epochs 3x",
        "octet train: --epochs takes a whole number from 1 to 1000000, not '3x'");
    refused("train d --epochs 0",
        "octet train: --epochs takes a whole number from 1 to 1000000, not '0'");
    refused("train d -b 1e3",
        "octet train: --batch-size takes a whole number from 1 to 65536, not '1e3'");
    refused("train d --max-steps 99999999999999999999",
        "octet train: --max-steps takes a whole number from 0 to 9000000000000000, not "
        "'99999999999999999999'");
    refused("train d --lr nan", "octet train: --lr takes a number from 0 to 1e+06, not 'nan'");
    refused("train d --lr 0x1p3", "octet train: --lr takes a number from 0 to 1e+06, not '0x1p3'");
    refused("train d --lr 1e999", "octet train: --lr takes a number from 0 to 1e+06, not '1e999'");
    refused("train d --wd -1", "octet train: --wd takes a number from 0 to 1e+06, not '-1'");
    refused("train d --seed -1",
        "octet train: --seed takes a whole number from 0 to 2^64 - 1, not '-1'");
    refused("train d --int8-fwd maybe", "octet train: --int8-fwd takes on or off, not 'maybe'");
    refused("train d --epochs", "octet train: --epochs needs a value");
    refused("train d --output-dir=", "octet train: --output-dir needs a value");
    refused("train d e", "octet train: 'e' is one word too many; this command takes one folder");
    refused("bench e", "octet bench: 'e' is one word too many; this command takes options only");
}

Test(cli, options_reach_the_library)
{
    const struct oct_options *o = &fake.opened[0];

    cr_assert_eq(octet("train DIR -a resnet8 -b 64 --learning-rate 0.25 --wd 5e-4 --smoothing=0.1 "
                       "--nesterov --lr-warmup-epochs 2.5 -j 3 -p 7 --int8-wgrad off --augment off "
                       "--seed 18446744073709551615 --hflip -1 --epochs 1 --max-steps 12345678901 "
                       "--int8-scheme amax --output RUN --resume auto"),
        OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(fake.strings[0], "int8|amax|resnet8|DIR|RUN|auto|-");
    cr_expect_eq(o->batch_size, 64);
    cr_expect_eq(o->lr, 0.25);
    cr_expect_eq(o->weight_decay, 5e-4);
    cr_expect_eq(o->label_smoothing, 0.1);
    cr_expect_eq(o->warmup_epochs, 2.5);
    cr_expect_eq(o->nesterov, 1);
    cr_expect_eq(o->workers, 3);
    cr_expect_eq(o->log_interval, 7);
    cr_expect_eq(o->int8_fwd, 1);
    cr_expect_eq(o->int8_wgrad, 0);
    cr_expect_eq(o->augment, 0);
    cr_expect_eq(o->seed, UINT64_MAX);
    cr_expect_eq(o->max_steps, 12345678901);
    cr_expect_eq(fake.close_count, 1);
}

Test(cli, last_flag_wins_and_flags_can_be_cleared)
{
    cr_assert_eq(octet("train --data-path D --nesterov --no-nesterov -b64 -b 32"), OCT_EXIT_OK);
    cr_expect_eq(fake.opened[0].nesterov, 0);
    cr_expect_eq(fake.opened[0].batch_size, 32);
    expect_in(fake.strings[0], "|D|");
}

Test(cli, no_data_is_said_before_anything_opens)
{
    refused("train", "octet train: no data; name the folder, or use --dataset synthetic");
    refused("compare", "octet compare: no data; name the folder, or use --dataset synthetic");
    refused("eval DIR", "octet eval: no weights; name them with --checkpoint FILE");
}

Test(cli, config_file_below_flags)
{
    char line[256];
    const char *path =
        write_file("# comment\nbatch_size: 16\nepochs: 1\nmodel: \"resnet8\"\n"
                   "output_dir: null\nrounding: ''\nnesterov: true\ndata: FROM_FILE\n");

    snprintf(line, sizeof line, "train -b 8 -c %s", path);
    cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
    cr_expect_eq(fake.opened[0].batch_size, 8);
    cr_expect_eq(fake.opened[0].epochs, 1);
    cr_expect_eq(fake.opened[0].nesterov, 1);
    cr_expect_str_eq(fake.strings[0], "int8|dai8|resnet8|FROM_FILE|-|-|-");
    unlink(path);
}

Test(cli, config_lists)
{
    char line[256];
    const char *path =
        write_file("precision: [fp32, int8]\nscheme: dai8,amax\nepochs: 1\ndataset: synthetic\n");

    snprintf(line, sizeof line, "compare -c %s", path);
    cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
    cr_expect_eq(fake.open_count, 3);
    unlink(path);
}

static void config_refused(const char *yaml, const char *message)
{
    char line[256], full[512];
    const char *path = write_file(yaml);

    snprintf(line, sizeof line, "train d -c %s", path);
    snprintf(full, sizeof full, message, path);
    refused(line, full);
    unlink(path);
}

Test(cli, config_errors)
{
    config_refused("epoch: 3\n", "octet train: %s: unknown key epoch; did you mean epochs?");
    config_refused("epochs: many\n",
        "octet train: %s: epochs takes a whole number from 1 to 1000000, not 'many'");
    config_refused("- 3\n", "octet train: %s: expected lines of the form `name: value`");
    config_refused("text\n", "octet train: %s: expected lines of the form `name: value`");
    config_refused("lr: {a: 1}\n", "octet train: %s: expected lines of the form `name: value`");
    config_refused("config: x\n", "octet train: %s: key config cannot stand in a file");
    config_refused("lr: 'open\n", "octet train: %s, line 2: found unexpected end of stream");
    refused("train d -c /nonexistent",
        "octet train: cannot read /nonexistent: No such file or directory");
}

/* What --print-config prints must mean the same when it is read back. */
Test(cli, printed_config_reads_back)
{
    static const char *const commands[] = {"train", "eval", "compare", "bench"};

    for (size_t i = 0; i < 4; i++) {
        static char first[TEXT_MAX];
        char line[256];
        const char *path;

        snprintf(line, sizeof line, "%s --print-config --wd 0.30000000000000004 --seed 7%s",
            commands[i], i == 1 ? "" : " --lr 0.1");
        if (i == 1 || i == 3)
            snprintf(line, sizeof line, "%s --print-config --seed 7", commands[i]);
        cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
        snprintf(first, sizeof first, "%s", out_text);
        path = write_file(first);
        snprintf(line, sizeof line, "%s --print-config -c %s", commands[i], path);
        cr_assert_eq(octet(line), OCT_EXIT_OK, "%s", err_text);
        cr_expect_str_eq(out_text, first);
        expect_in(out_text, "seed: 7\n");
        unlink(path);
    }
    cr_expect_eq(fake.open_count, 0);
}

Test(cli, every_command_has_help_with_defaults)
{
    cr_expect_eq(octet("train --help"), OCT_EXIT_OK);
    expect_in(out_text, "usage: octet train [DIR] [options]");
    expect_in(out_text, "-b, --batch-size N");
    expect_in(out_text, "images per step [128]");
    expect_in(out_text, "fp32, bf16, int8 [int8]");
    expect_in(out_text, "also --wd");
    cr_expect_eq(octet("eval -h"), OCT_EXIT_OK);
    cr_expect_eq(octet("compare --help"), OCT_EXIT_OK);
    expect_in(out_text, "--max-drop N");
    cr_expect_eq(octet("bench --help"), OCT_EXIT_OK);
    expect_in(out_text, "--append NAME");
    expect_in(out_text, "model:CARD");
    cr_expect_eq(octet("info --help"), OCT_EXIT_OK);
    cr_expect_eq(fake.open_count, 0);
}

/* parse.c has room for 200 spellings per command; letters and names must not clash. */
Test(cli, table_is_sound)
{
    for (unsigned command = 1; command < OCT_CMD_ALL; command <<= 1) {
        size_t spellings = 0;
        char letters[128] = "";

        for (size_t i = 0; i < oct_option_count; i++) {
            const struct oct_option *o = &oct_option_table[i];

            if ((o->commands & command) == 0)
                continue;
            cr_expect_eq(oct_option_find(command, o->name), o, "--%s stands twice", o->name);
            spellings += 1 + (o->kind == OCT_KIND_FLAG);
            for (size_t k = 0; k < 3 && o->aliases[k] != NULL; k++, spellings++)
                cr_expect_eq(oct_option_find(command, o->aliases[k]), o, "--%s", o->aliases[k]);
            cr_expect_lt(strlen(o->name), (size_t)OCT_ITEM_MAX - 3);
            if (o->letter != 0) {
                cr_expect_null(strchr(letters, o->letter), "-%c stands twice", o->letter);
                letters[strlen(letters)] = o->letter;
            }
        }
        cr_expect_leq(spellings, (size_t)200);
    }
    cr_expect_leq(oct_option_count, (size_t)OCT_OPTIONS_MAX);
}

Test(cli, train_prints_parsable_lines)
{
    cr_assert_eq(octet("train DIR --epochs 1 --precision fp32"), OCT_EXIT_OK);
    expect_in(out_text, "| precision        | fp32 ");
    expect_in(out_text,
        "Epoch: [0][ 50/100]  Time 0.400 (0.400)  Data 0.000 (0.000)  Loss 1.5000e+00 (2.0000e+00)"
        "  Acc@1 25.00 (25.00)  Acc@5 60.00 (60.00)  img/s 320.0  lr 0.1  eta 1:02:03  sat 0.0250 "
        "%\n");
    /* (0.4 + 0.8) / 2; the second 50 steps had (50 * 100 - 25 * 50) / 50 = 75 % */
    expect_in(out_text, "Epoch: [0][100/100]  Time 0.800 (0.600)  Data 0.000 (0.000)  Loss "
                        "1.0000e+00 (1.5000e+00)  Acc@1 75.00 (50.00)");
    expect_in(out_text, "\n * Acc@1 76.52 Acc@5 93.10 Loss 9.0000e-01 Time 1.5 best\n");
    expect_in(out_text, "Done: 1 epochs, 100 steps, Acc@1 90.00 (best 91.00), 40.0 s of training, "
                        "320.0 img/s\n");
    cr_expect_str_eq(err_text, "octet: warning: a warning\n");
    cr_expect_null(strstr(out_text, "input-bound"));
}

Test(cli, starving_is_loud)
{
    fake.data_share = 0.4;
    cr_assert_eq(octet("train DIR --epochs 1"), OCT_EXIT_OK);
    expect_in(out_text, "input-bound: 40 % of the step time was spent waiting for images");
}

Test(cli, terminal_gets_a_bar)
{
    struct oct_progress progress;
    struct oct_event event = {.kind = OCT_EVENT_STEP,
        .step_in_epoch = 50,
        .steps_per_epoch = 100,
        .loss_average = 1.25,
        .top1 = 50,
        .lr = 0.1,
        .images_per_second = 640,
        .eta_seconds = 61};
    int terminal = posix_openpt(O_RDWR | O_NOCTTY), slave, kept = dup(STDERR_FILENO);
    ssize_t length;

    cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    cr_assert(slave >= 0);
    dup2(slave, STDERR_FILENO);
    oct_progress_init(&progress, stdout, 3);
    oct_progress_event(&progress, &event);
    dup2(kept, STDERR_FILENO);
    length = read(terminal, out_text, TEXT_MAX - 1);
    cr_assert(length > 0);
    out_text[length] = '\0';
    expect_in(
        out_text, "\r\033[K1/3 [==========>         ] 50/100  loss 1.2500  acc 50.00  lr 0.1  640");
    cr_expect_leq(length, 80 + 4);
}

Test(cli, failure_of_the_library_is_exit_1)
{
    fake.open_status = OCT_IO;
    cr_expect_eq(octet("train DIR"), OCT_EXIT_FAILURE);
    cr_expect_str_eq(err_text, "octet train: asked for this, found that, do so\n");
    fake.open_status = OCT_ARG;
    cr_expect_eq(octet("train DIR"), OCT_EXIT_USAGE);
}

Test(cli, signals_stop_gently_once)
{
    struct sigaction action;

    fake.raise_signal = SIGINT;
    cr_expect_eq(octet("train DIR --epochs 9 --output-dir RUN"), 130);
    cr_expect_eq(fake.stop_count, 1);
    expect_in(out_text, "Stopped by SIGINT after the running step; --resume auto goes on\n");
    sigaction(SIGINT, NULL, &action);
    cr_expect_eq(action.sa_handler, SIG_DFL);
    fake.raise_signal = SIGTERM;
    cr_expect_eq(octet("train DIR --epochs 9"), 143);
    cr_expect_eq(fake.stop_count, 2);
    fake.raise_signal = SIGHUP;
    cr_expect_eq(octet("train DIR --epochs 9"), 129);
    expect_in(out_text, "Stopped by SIGHUP");
    signal(SIGHUP, SIG_IGN); /* as nohup does */
    cr_expect_eq(octet("train DIR --epochs 9"), OCT_EXIT_OK);
    cr_expect_eq(fake.stop_count, 3);
    sigaction(SIGINT, NULL, &action);
    cr_expect_eq(action.sa_handler, SIG_DFL, "a run that ended still catches SIGINT");
}

Test(cli, second_signal_kills, .signal = SIGINT)
{
    fake.raise_signal = 0;
    oct_trainer *trainer;
    struct oct_options options;

    oct_options_init(&options);
    oct_trainer_open(&options, &trainer);
    oct_session_catch(trainer);
    raise(SIGINT);
    cr_assert_eq(fake.stop_count, 1);
    raise(SIGINT);
}

static void made_with(const char *key, const char *value)
{
    size_t i = 0;

    while (fake.setting[i][0] != NULL)
        i++;
    fake.setting[i][0] = key;
    fake.setting[i][1] = value;
}

Test(cli, eval_takes_the_settings_of_the_checkpoint)
{
    made_with("model", "resnet8");
    made_with("precision", "bf16");
    made_with("dataset", "synthetic");
    made_with("scheme_opt", "");
    made_with("batch_size", "7");
    made_with("model_ema", "1");
    made_with("hflip", "-1");
    cr_assert_eq(octet("eval --checkpoint F"), OCT_EXIT_OK, "%s", err_text);
    cr_expect_str_eq(fake.strings[0], "bf16|dai8|resnet8|-|-|-|F");
    cr_expect_eq(fake.opened[0].batch_size, 7);
    cr_expect_eq(fake.opened[0].model_ema, 1);
    cr_assert_eq(octet("eval DIR --checkpoint F --eval-precision fp32 -b 9"), OCT_EXIT_OK);
    cr_expect_str_eq(fake.strings[1], "fp32|dai8|resnet8|DIR|-|-|F");
    cr_expect_eq(fake.opened[1].batch_size, 9);
}

/* Of a run in int8, evaluated in fp32, nothing is left of the scheme's options. */
Test(cli, eval_in_fp32_takes_no_scheme_options)
{
    made_with("model", "resnet8");
    made_with("precision", "int8");
    made_with("dataset", "synthetic");
    made_with("scheme_opt", "k=1");
    cr_assert_eq(octet("eval --checkpoint F"), OCT_EXIT_OK, "%s", err_text);
    cr_expect_not_null(fake.opened[0].scheme_opt);
    cr_assert_eq(octet("eval --checkpoint F --eval-precision fp32"), OCT_EXIT_OK, "%s", err_text);
    cr_expect_null(fake.opened[1].scheme_opt);
    cr_assert_eq(octet("eval --checkpoint F --precision int8"), OCT_EXIT_OK, "%s", err_text);
    cr_expect_not_null(fake.opened[2].scheme_opt);
}

Test(cli, eval_asks_for_what_nobody_says)
{
    cr_expect_eq(octet("eval DIR --checkpoint F"), OCT_EXIT_USAGE);
    cr_expect_eq(octet("eval DIR --checkpoint F --precision int8"), OCT_EXIT_USAGE);
    made_with("model", "resnet1");
    cr_expect_eq(octet("eval DIR --checkpoint F --precision int8"), OCT_EXIT_USAGE);
    expect_in(err_text, "F: model takes");
    cr_expect_eq(octet("eval --checkpoint F --precision int8 -a resnet8"), OCT_EXIT_USAGE);
    expect_in(err_text, "no data");
}

Test(cli, eval_writes_nothing)
{
    cr_assert_eq(octet("eval DIR --checkpoint F --precision int8 -a resnet20"), OCT_EXIT_OK);
    cr_expect_str_eq(fake.strings[0], "int8|dai8|resnet20|DIR|-|-|F");
    expect_in(out_text, " * Acc@1 76.52 Acc@5 93.10 Loss");
    cr_assert_eq(octet("train DIR -e --resume F --output-dir RUN"), OCT_EXIT_OK);
    cr_expect_str_eq(fake.strings[1], "int8|dai8|resnet20|DIR|-|-|F");
    cr_expect_eq(fake.eval_count, 2);
    cr_expect_eq(fake.run_count, 0);
    cr_expect_eq(octet("train DIR -e --resume auto"), OCT_EXIT_USAGE);
}

Test(cli, plan_and_info)
{
    cr_assert_eq(octet("train DIR --plan --output-dir RUN"), OCT_EXIT_OK);
    cr_expect_str_eq(out_text, "node tensor bytes offset\n");
    cr_expect_str_eq(fake.strings[0], "int8|dai8|resnet20|DIR|-|-|-");
    cr_assert_eq(octet("info --scheme amax"), OCT_EXIT_OK);
    cr_expect_str_eq(out_text, "isa vnni\namax\n");
}

Test(cli, percentiles)
{
    const double values[] = {5, 1, 4, 2, 3};
    struct oct_sample_summary summary = oct_sample_summarise(values, 5);

    cr_expect_eq(summary.median, 3);
    cr_expect_eq(summary.minimum, 1);
    /* 10th and 90th percentile lie at places 0.4 and 3.6: 1.4 and 4.6. */
    cr_expect(summary.spread > 0.533 && summary.spread < 0.534);
}

Test(cli, reals_are_finite_and_print_exactly)
{
    static const char *const bad[] = {"", ".", "e5", "inf", "nan", "1e999", "-1e999", " 1", "1 "};
    char text[40];
    double value = 7;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(oct_text_real(bad[i], &value), -1, "'%s' was read as a number", bad[i]);
    cr_expect_eq(value, 7);
    oct_text_from_real(0.1 + 0.2, text, sizeof text);
    cr_expect_str_eq(text, "0.30000000000000004");
    oct_text_from_real(0.1, text, sizeof text);
    cr_expect_str_eq(text, "0.1");
}

Test(cli, distances)
{
    cr_expect_eq(oct_text_distance("", "abc"), 3);
    cr_expect_eq(oct_text_distance("kitten", "sitting"), 3);
    cr_expect_eq(oct_text_distance("ab", "ba"), 1);
    cr_expect_eq(oct_text_distance("same", "same"), 0);
}
