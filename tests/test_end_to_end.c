/* The program with the real library: whole commands, their files, and what they refuse. */
#include "support/folder.h"
#include "support/program.h"
#include "train/safetensors.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* 4 steps an epoch, 2 epochs: a run of some hundredths of a second. */
#define SMALL                                                                                      \
    " --dataset synthetic --model resnet8 --synthetic-size 16 --synthetic-images 64"               \
    " --batch-size 16 --epochs 2 "

TestSuite(end_to_end, .init = program_begin, .fini = program_end, .timeout = 300);

#define expect_code(want, ...)                                                                     \
    do {                                                                                           \
        int code_ = program_run(__VA_ARGS__);                                                      \
        cr_assert_eq(                                                                              \
            code_, want, "exit code %d, out: %s\nerr: %s", code_, program_out, program_err);       \
    } while (0)

/* Records of a type in a log.jsonl; every line must parse. */
static int count_records(const char *path, const char *type)
{
    FILE *file = fopen(path, "r");
    char line[65536];
    int count = 0;

    cr_assert_not_null(file, "%s", path);
    while (fgets(line, sizeof line, file)) {
        json_t *object = json_loads(line, 0, NULL);
        cr_assert(json_is_object(object), "%s: %s", path, line);
        count += strcmp(json_string_value(json_object_get(object, "type")), type) == 0;
        json_decref(object);
    }
    fclose(file);
    return count;
}

static void expect_same_file(const char *a, const char *b)
{
    size_t bytes[2];
    char *text[2] = {file_read(a, &bytes[0]), file_read(b, &bytes[1])};

    cr_assert_gt(bytes[0], 0, "%s is empty", a);
    cr_assert(
        bytes[0] == bytes[1] && memcmp(text[0], text[1], bytes[0]) == 0, "%s is not %s", a, b);
    free(text[0]);
    free(text[1]);
}

Test(end_to_end, run_folder_is_complete)
{
    static const char *const files[] = {"args.yaml", "log.jsonl", "summary.csv", "curve.svg",
        "last.safetensors", "model_best.safetensors", "checkpoint-0.safetensors",
        "checkpoint-1.safetensors"};
    static const char *const precisions[] = {"fp32", "bf16", "int8"};

    for (size_t p = 0; p < 3; p++) {
        const char *dir = precisions[p];
        char *text;

        expect_code(0, "train" SMALL "--precision %s --output-dir %s", dir, dir);
        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
            cr_expect_eq(access(folder_path(dir, files[i]), R_OK), 0, "%s", files[i]);
        cr_expect_eq(folder_count(dir, "events.out.tfevents."), 1);
        cr_expect_eq(folder_count(dir, ""), 9);
        cr_expect_eq(count_records(folder_path(dir, "log.jsonl"), "step"), 4);
        cr_expect_eq(count_records(folder_path(dir, "log.jsonl"), "epoch"), 2);
        text = file_read(folder_path(dir, "summary.csv"), NULL);
        cr_expect_not_null(strstr(text, "\n1,"), "%s", text);
        free(text);
        text = file_read(folder_path(dir, "curve.svg"), NULL);
        cr_expect_not_null(strstr(text, "</svg>"));
        free(text);
    }
}

Test(end_to_end, args_yaml_repeats_a_run)
{
    expect_code(0, "train" SMALL "--label-smoothing 0.1 --lr 0.07 --output-dir a");
    expect_code(0, "train -c a/args.yaml --output-dir b");
    cr_expect(program_same_tensors("a/last.safetensors", "b/last.safetensors"));
}

/* ` * Acc@1 ... Loss ...` of a run's end and of `octet eval` on its checkpoint: equal texts. */
static void expect_eval_repeats(const char *options)
{
    char want[256];

    expect_code(0, "train" SMALL "--output-dir run %s", options);
    snprintf(want, sizeof want, "%s", program_line(" * Acc@1", " Time"));
    cr_assert_neq(want[0], '\0');
    expect_code(0, "eval --checkpoint run/last.safetensors --threads 3");
    cr_expect_str_eq(program_line(" * Acc@1", " Time"), want, "%s: %s, trained: %s", options,
        program_line(" * Acc@1", " Time"), want);
    expect_code(0, "eval --checkpoint run/last.safetensors --eval-precision fp32");
    program_expect_out("images in fp32");
    cr_assert_eq(system("rm -r run"), 0);
}

Test(end_to_end, eval_repeats_the_accuracy_of_the_run)
{
    expect_eval_repeats("--precision int8");
    expect_eval_repeats("--precision int8 --model-ema --model-ema-decay 0.5 --label-smoothing 0.1");
    expect_eval_repeats("--scheme amax --first-last int8 --act-dtype f32 --rounding stochastic");
    expect_eval_repeats("--precision fp32 --synthetic-size 17 --seed 9");
    expect_eval_repeats("--precision bf16 --synthetic-classes 3 --max-steps 6");
}

/* Evaluated or trained on without them, it would be another network. */
Test(end_to_end, parameters_without_a_place_are_refused)
{
    static const char place[] = "tensor conv1.compensation.alpha has no place in this network";
    static const char *const others[] = {"--scheme fqat", "--precision fp32", "--scheme-opt z=2"};

    expect_code(0, "train" SMALL "--scheme fqat --scheme-opt compensation=on --output-dir run");
    expect_code(0, "eval --checkpoint run/last.safetensors");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        expect_code(1, "eval --checkpoint run/last.safetensors %s", others[i]);
        program_expect_err(place);
    }
    expect_code(1, "train" SMALL "--scheme fqat --checkpoint run/last.safetensors");
    program_expect_err(place);
}

Test(end_to_end, runs_on_images_of_a_folder)
{
    char *data = realpath("/proc/self/exe", NULL), *build;

    cr_assert_not_null(data);
    build = strstr(data, "/build/");
    cr_assert_not_null(build, "the test lies in %s, not below a build folder", data);
    *build = '\0';
    expect_code(0,
        "train %s/data/fashion-mnist-15k --model resnet8 --batch-size 16 --max-steps 3"
        " --output-dir run",
        data);
    program_expect_out("idx, ");
    program_expect_out(" images of 28x28x1, 10 classes");
    expect_code(0, "eval --checkpoint run/last.safetensors");
    free(data);
}

Test(end_to_end, stops_on_a_signal_and_goes_on_with_the_same_bits)
{
    static const char line[] = "train" SMALL "--synthetic-images 2048 --log-interval 5";
    char arguments[512];

    expect_code(0, "%s --output-dir whole", line);
    snprintf(arguments, sizeof arguments, "%s --output-dir cut", line);
    cr_assert_eq(program_run_and_signal(SIGTERM, "Epoch: [0]", arguments), 143, "%s", program_err);
    program_expect_out("Stopped by SIGTERM");
    cr_expect_eq(count_records("cut/log.jsonl", "epoch"), 0, "the signal came too late");
    expect_code(0, "%s --output-dir cut --resume auto --threads 3", line);
    cr_expect(program_same_tensors("whole/last.safetensors", "cut/last.safetensors"));
    cr_expect(program_same_tensors("whole/model_best.safetensors", "cut/model_best.safetensors"));
    expect_same_file("whole/summary.csv", "cut/summary.csv");
}

Test(end_to_end, resume_behind_the_end_evaluates_again)
{
    char want[256];

    expect_code(0, "train" SMALL "--output-dir run");
    snprintf(want, sizeof want, "%s", program_line(" * Acc@1", " Time"));
    cr_assert_eq(system("cp run/last.safetensors run/recovery-1-7.safetensors"), 0);
    expect_code(0, "train" SMALL "--output-dir run --resume auto");
    cr_expect_eq(folder_count("run", "recovery-"), 0, "left by a kill behind the last save");
    cr_expect_str_eq(program_line(" * Acc@1", " Time"), want);
    cr_expect_eq(count_records("run/log.jsonl", "epoch"), 2);
}

Test(end_to_end, max_steps_ends_inside_an_epoch)
{
    char want[256];

    expect_code(0, "train" SMALL "--output-dir whole");
    expect_code(0, "train" SMALL "--output-dir cut --max-steps 2");
    cr_expect_neq(program_line(" * Acc@1", " Time")[0], '\0', "%s", program_out);
    cr_expect_null(strstr(program_out, "best -"), "%s", program_out);
    program_expect_out("Done: 0 epochs, 2 steps");
    expect_code(0, "train" SMALL "--output-dir cut --resume auto --max-steps 5");
    program_expect_out("Done: 1 epochs, 5 steps");
    snprintf(want, sizeof want, "%s", program_line(" * Acc@1", " Time"));
    expect_code(0, "eval --checkpoint cut/last.safetensors");
    cr_expect_str_eq(program_line(" * Acc@1", " Time"), want, "an evaluation of other weights");
    expect_code(0, "train" SMALL "--output-dir cut --resume auto");
    cr_expect(program_same_tensors("whole/last.safetensors", "cut/last.safetensors"));
}

Test(end_to_end, traces_agree_on_instruction_sets_and_threads)
{
    static const char *const contenders[] = {
        "vnni --threads 1", "vnni --threads 3", "c --threads 3", "amx-emulated --threads 1"};

    expect_code(0, "train" SMALL "--trace-hash --isa c --threads 1 --output-dir want");
    for (size_t i = 0; i < sizeof contenders / sizeof *contenders; i++) {
        char path[64];
        int code = program_run(
            "train" SMALL "--trace-hash --isa %s --output-dir run%zu", contenders[i], i);

        if (code != 0) /* another CPU */
            program_expect_err("is not available on this CPU");
        if (code != 0)
            continue;
        snprintf(path, sizeof path, "run%zu/trace.txt", i);
        expect_same_file("want/trace.txt", path);
    }
}

static void expect_training(const char *settings, const char *precision)
{
    int code = program_run(
        "train" SMALL "--threads 2 --max-steps 2 %s --precision %s", settings, precision);

    cr_expect_eq(
        code, 0, "%s --precision %s: exit code %d: %s", settings, precision, code, program_err);
    cr_expect_neq(program_line(" * Acc@1", " Time")[0], '\0', "%s", program_out);
    cr_expect_null(strstr(program_out, "nan"), "%s %s: %s", settings, precision, program_out);
}

Test(end_to_end, every_setting_trains)
{
    static const char *const settings[] = {"--synthetic-size 7", "--synthetic-size 17",
        "--synthetic-size 33", "--synthetic-size 1 --crop-padding 0", "--synthetic-classes 2",
        "--synthetic-classes 1000 --synthetic-images 1000", "--batch-size 1", "--batch-size 64",
        "--threads 1 --batch-size 3", "--threads 9 --workers 4", "--grad-accum-steps 2",
        "--label-smoothing 0.1 --nesterov", "--model-ema", "--model-ema --grad-accum-steps 3",
        "--no-model-ema --augment off --hflip 1 --warmup-epochs 1",
        "--sched multistep --decay-milestones 1"};
    static const char *const precisions[] = {"fp32", "bf16", "int8"};
    static const char *const mixed[] = {"int8 --first-last float",
        "int8 --int8-fwd off --int8-skip layer2", "int8 --int8-dgrad off --scheme amax",
        "int8 --int8-wgrad off --act-dtype f32 --rounding stochastic"};

    for (size_t s = 0; s < sizeof settings / sizeof *settings; s++) {
        for (size_t p = 0; p < 3; p++)
            expect_training(settings[s], precisions[p]);
        expect_training(settings[s], mixed[s % 4]);
    }
    for (size_t m = 0; m < 4; m++)
        expect_training("--grad-accum-steps 2 --synthetic-size 9", mixed[m]);
}

Test(end_to_end, compare_makes_table_and_picture)
{
    expect_code(
        0, "compare" SMALL "--precision fp32,bf16,int8 --scheme dai8,amax --output-dir run");
    program_expect_out("| int8 ");
    cr_expect_eq(access("run/compare.svg", R_OK), 0);
    cr_expect_eq(count_records("run/int8-amax/log.jsonl", "epoch"), 2);
    expect_code(0, "compare" SMALL "--precision fp32,int8 --output-dir run --resume auto -o json");
}

Test(end_to_end, bench_and_info)
{
    static const char line[] = "bench --model resnet8 --synthetic-size 16 --batch-size 8 -r 2";
    json_t *rows;

    expect_code(0, "%s", line);
    program_expect_out("int8");
    expect_code(0, "%s --layers --precision int8", line);
    program_expect_out("layer1");
    expect_code(0, "%s -o json --append log.jsonl", line);
    rows = json_loads(program_out, 0, NULL);
    cr_expect_not_null(rows, "%s", program_out);
    json_decref(rows);
    cr_expect_eq(access("log.jsonl", R_OK), 0);
    expect_code(0, "info --scheme amax");
    program_expect_out("amax");
}

struct refusal {
    int code;
    const char *arguments, *message;
};

Test(end_to_end, refuses_with_the_reason)
{
    static const struct refusal refusals[] = {
        {2, "trian", "did you mean train?"},
        {2, "train", "no data; name the folder"},
        {2, "train" SMALL "--lrr 1", "did you mean --lr?"},
        {2, "train" SMALL "--epochs 0", "--epochs takes a whole number from 1"},
        {2, "train" SMALL "--epochs 1e99", "--epochs takes a whole number from 1"},
        {2, "train" SMALL "--lr nan", "--lr takes a number"},
        {2, "train" SMALL "--batch-size 65", "larger than the training split of 64 images"},
        {2, "train" SMALL "--grad-accum-steps 5", "use a smaller batch"},
        {2, "train" SMALL "--synthetic-size 3", "crop padding 4"},
        {2, "train" SMALL "--int8-skip [", "--int8-skip '['"},
        {2, "train" SMALL "--scheme-opt foo=1", "no option 'foo'"},
        {2, "train" SMALL "--resume auto", "--output-dir, which is not set"},
        {2, "train" SMALL "--trace-hash", "--output-dir, which is not set"},
        {2, "train" SMALL "--sched multistep", "needs --decay-milestones"},
        {1, "train" SMALL "--isa none", "it has: "},
        {1, "train" SMALL "--device none", "there are \"cpu\""},
        {1, "train absent", "data folder absent: No such file"},
        {1, "train empty", "holds nothing"},
        {1, "train file", "is not a folder"},
        {1, "train" SMALL "--resume absent", "cannot open 'absent'"},
        {1, "train" SMALL "--checkpoint file", "'file' has 0 bytes"},
        {1, "train" SMALL "--output-dir file/run", "'file' is a file"},
        {1, "train" SMALL "--output-dir /proc/run", "cannot create the folder '/proc/run'"},
        {1, "eval --checkpoint absent", "cannot open 'absent'"},
        {2, "compare" SMALL "--precision fp32,fp32", "fp32 stands twice"},
        {2, "compare" SMALL "--resume file", "--resume takes only auto"},
        {2, "info --scheme none", "--scheme takes dai8"},
    };

    cr_assert_eq(system("mkdir empty && : >file"), 0);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        int code = program_run("%s", refusals[i].arguments);
        cr_expect_eq(code, refusals[i].code, "octet %s: exit code %d: %s", refusals[i].arguments,
            code, program_err);
        cr_expect_not_null(strstr(program_err, refusals[i].message), "octet %s: '%s', not '%s'",
            refusals[i].arguments, program_err, refusals[i].message);
    }
}

Test(end_to_end, one_run_a_folder)
{
    expect_code(0, "train" SMALL "--output-dir run");
    expect_code(2, "train" SMALL "--output-dir run");
    program_expect_err("already holds a run");
    expect_code(2, "train" SMALL "--lr 0.3 --output-dir run --resume auto");
    program_expect_err("was made with lr");
    expect_code(2, "train" SMALL "--model resnet20 --resume run/last.safetensors");
    program_expect_err("was made with model 'resnet8'");
    expect_code(1, "train" SMALL "--model resnet20 --checkpoint run/last.safetensors");
    program_expect_err("this is not a checkpoint of this network");
    expect_code(1, "train" SMALL "--synthetic-classes 7 --checkpoint run/last.safetensors");
    program_expect_err("this network wants");
}

Test(end_to_end, a_run_that_diverges_names_layer_and_step)
{
    for (int int8 = 0; int8 < 2; int8++) {
        expect_code(1, "train" SMALL "--epochs 40 --lr 1e6 --precision %s --output-dir run%d",
            int8 ? "int8" : "fp32", int8);
        program_expect_err("octet: warning: step 2: non-finite value in the statistics of layer ");
        program_expect_err("20 updates in a row were skipped");
    }
    /* before there is an epoch to draw */
    expect_code(1, "train" SMALL "--synthetic-images 512 --lr 1e6 --output-dir run2");
    program_expect_err("octet train: step ");
    program_expect_err("20 updates in a row were skipped");
}

/* Damages the newest checkpoints of a finished run and resumes it. */
static void damage(const char *name, int way)
{
    struct oct_metadata foreign = {"format", "pt"};
    size_t bytes;
    char *data = file_read(name, &bytes);

    data[bytes - 100] ^= 4;
    if (way == 0)
        file_write(name, data, bytes);
    else if (way == 1)
        file_write(name, data, bytes / 2);
    else
        cr_assert_eq(oct_safetensors_write(name, NULL, 0, &foreign, 1), OCT_OK);
    free(data);
}

Test(end_to_end, a_damaged_checkpoint_gives_way_to_the_one_before)
{
    expect_code(0, "train" SMALL "--output-dir whole");
    for (int way = 0; way < 3; way++) {
        expect_code(0, "train" SMALL "--output-dir run");
        damage("run/last.safetensors", way);
        expect_code(0, "train" SMALL "--output-dir run --resume auto");
        program_expect_err("octet: warning: ");
        program_expect_out("Done: 2 epochs, 8 steps");
        damage("run/checkpoint-1.safetensors", way);
        expect_code(0, "train" SMALL "--output-dir run --resume auto");
        program_expect_out("Epoch: [1] done");
        cr_expect(program_same_tensors("whole/last.safetensors", "run/last.safetensors"));
        cr_expect_eq(count_records("run/log.jsonl", "epoch"), 2);

        damage("run/last.safetensors", way);
        expect_code(way < 2 ? 1 : 2, "train" SMALL "--resume run/last.safetensors");
        expect_code(1, "eval --checkpoint run/last.safetensors --precision int8 --model resnet8"
                       " --dataset synthetic --batch-size 16 --synthetic-images 64");
        damage("run/checkpoint-0.safetensors", way);
        damage("run/checkpoint-1.safetensors", way);
        expect_code(1, "train" SMALL "--output-dir run --resume auto");
        program_expect_err("none of the 3 checkpoints in 'run' can be used");
        cr_assert_eq(system("rm -r run"), 0);
    }
}

Test(end_to_end, a_run_that_died_before_its_first_checkpoint_starts_again)
{
    expect_code(0, "train" SMALL "--epochs 1 --output-dir run");
    expect_code(0, "train" SMALL "--epochs 1 --output-dir whole");
    cr_assert_eq(system("rm run/*.safetensors && : >run/last.safetensors.tmp.77"), 0);
    expect_code(0, "train" SMALL "--epochs 1 --output-dir run --resume auto");
    cr_expect(program_same_tensors("whole/last.safetensors", "run/last.safetensors"));
    cr_expect_eq(count_records("run/log.jsonl", "epoch"), 1);
    cr_expect_eq(access("run/last.safetensors.tmp.77", F_OK), -1, "a leftover stays");
    expect_code(0, "train" SMALL "--output-dir long");
    cr_assert_eq(system("rm long/*.safetensors"), 0);
    expect_code(2, "train" SMALL "--output-dir long --resume auto");
    program_expect_err("whose checkpoints are gone");
    cr_expect_eq(count_records("long/log.jsonl", "epoch"), 2);
}

Test(end_to_end, full_disk_ends_the_run_and_keeps_what_was_saved)
{
    struct rlimit limit;

    expect_code(0, "train" SMALL "--output-dir whole");
    expect_code(0, "train" SMALL "--output-dir run --max-steps 4");
    expect_code(0, "train" SMALL "--output-dir run --max-steps 6 --resume auto");
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 200000;
    signal(SIGXFSZ, SIG_IGN); /* the program inherits both */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_code(1, "train" SMALL "--output-dir run --resume auto");
    program_expect_err(".safetensors");
    cr_expect_eq(folder_count("run", "last.safetensors.tmp"), 0);
    cr_expect_eq(folder_count("run", "model_best.safetensors.tmp"), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_code(0, "train" SMALL "--output-dir run --resume auto");
    cr_expect(program_same_tensors("whole/last.safetensors", "run/last.safetensors"));
}

Test(end_to_end, a_full_standard_output_is_a_failure)
{
    expect_code(0, "info");
    expect_code(1, "info >/dev/full 2>err.txt #");
    program_expect_err("cannot write to the standard output");
}
