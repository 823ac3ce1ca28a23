/* A stand-in for the functions of octet.h: records calls and produces plausible events, so that
 * the program is tested without a network being trained. */
#include "support/fake_octet.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_octet fake = {.int8_top1 = 89.5};

struct oct_trainer {
    struct oct_options options;
    struct oct_run_info info;
    int index, steps, stop;
};

const char *oct_last_error(void)
{
    return "asked for this, found that, do so";
}

const char *oct_version(void)
{
    return OCT_VERSION;
}

void oct_options_init(struct oct_options *options)
{
    memset(options, 0, sizeof *options);
    options->dataset = "auto";
    options->synthetic_images = 2048;
    options->synthetic_classes = 10;
    options->workers = 1;
    options->augment = 1;
    options->crop_padding = 4;
    options->hflip = -1;
    options->model = "resnet20";
    options->precision = "int8";
    options->scheme = "dai8";
    options->int8_fwd = options->int8_dgrad = options->int8_wgrad = 1;
    options->first_last = "int16";
    options->act_dtype = "bf16";
    options->epochs = 2;
    options->batch_size = 128;
    options->grad_accum_steps = 1;
    options->lr = 0.1;
    options->momentum = 0.9;
    options->weight_decay = 1e-4;
    options->sched = "cosine";
    options->decay_rate = 0.1;
    options->decay_epochs = 30;
    options->model_ema_decay = 0.9998;
    options->seed = 42;
    options->device = "cpu";
    options->isa = "auto";
    options->val_interval = 1;
    options->checkpoint_hist = 2;
    options->log_interval = 50;
}

static const char *or_dash(const char *text)
{
    return text != NULL ? text : "-";
}

enum oct_status oct_trainer_open(const struct oct_options *options, oct_trainer **out)
{
    oct_trainer *trainer;
    int index = fake.open_count;

    if (fake.open_status != OCT_OK)
        return fake.open_status;
    if (index == FAKE_TRAINERS)
        return OCT_INTERNAL;
    fake.opened[index] = *options;
    snprintf(fake.strings[index], sizeof fake.strings[index], "%s|%s|%s|%s|%s|%s|%s",
        options->precision, options->scheme, options->model, or_dash(options->data),
        or_dash(options->output_dir), or_dash(options->resume), or_dash(options->checkpoint));
    fake.open_count++;
    trainer = calloc(1, sizeof *trainer);
    trainer->options = *options;
    trainer->index = index;
    trainer->info = (struct oct_run_info){.device = "fake",
        .isa = "vnni",
        .libraries = "none",
        .threads = 2,
        .dataset = "synthetic",
        .train_images = 1000,
        .val_images = 100,
        .height = 32,
        .width = 32,
        .channels = 3,
        .classes = 10,
        .parameters = 272474,
        .steps_per_epoch = 100,
        .macs = {40e6, 40e6, 40e6},
        .not_int8 = "",
        .two_plane = "",
        .saved_bytes = 3 << 20,
        .device_bytes = 5 << 20,
        .config_hash = 0xabcdef};
    if (strcmp(options->precision, "int8") == 0) {
        trainer->info.int8_share[0] = 1;
        trainer->info.int8_share[1] = 0.5;
        trainer->info.int8_share[2] = 0.75;
    }
    *out = trainer;
    return OCT_OK;
}

void oct_trainer_close(oct_trainer *trainer)
{
    fake.close_count += trainer != NULL;
    free(trainer);
}

const struct oct_run_info *oct_trainer_info(const oct_trainer *trainer)
{
    return &trainer->info;
}

const char *oct_trainer_plan(const oct_trainer *trainer)
{
    (void)trainer;
    return "node tensor bytes offset\n";
}

static double seconds_of(const oct_trainer *trainer)
{
    if (strcmp(trainer->options.precision, "fp32") == 0)
        return 0.4;
    return strcmp(trainer->options.precision, "bf16") == 0 ? 0.2 : 0.1;
}

static void send(oct_trainer *trainer, struct oct_event event)
{
    if (trainer->options.on_event != NULL)
        trainer->options.on_event(trainer->options.user, &event);
}

static void run_epoch(oct_trainer *trainer, int epoch)
{
    double seconds = seconds_of(trainer);

    for (int64_t step = 50; step <= 100; step += 50)
        send(trainer, (struct oct_event){.kind = OCT_EVENT_STEP,
                          .step = epoch * 100 + step,
                          .epoch = epoch,
                          .step_in_epoch = step,
                          .steps_per_epoch = 100,
                          .loss = 2.0 - 0.01 * (double)step,
                          .loss_average = 2.5 - 0.01 * (double)step,
                          .top1 = (double)step / 2,
                          .top5 = 60,
                          .step_seconds = step == 50 ? seconds : 2 * seconds,
                          .data_seconds = fake.data_share * (step == 50 ? seconds : 2 * seconds),
                          .images_per_second = 128 / seconds,
                          .lr = 0.1,
                          .eta_seconds = 3723,
                          .saturation = 0.00025});
    send(trainer, (struct oct_event){.kind = OCT_EVENT_EVAL,
                      .epoch = epoch,
                      .top1 = 76.52,
                      .top5 = 93.1,
                      .eval_loss = 0.9,
                      .eval_seconds = 1.5,
                      .is_best = epoch == 0});
    send(trainer, (struct oct_event){.kind = OCT_EVENT_EPOCH,
                      .epoch = epoch,
                      .loss_average = 1.5,
                      .step_seconds = 100 * seconds,
                      .data_seconds = fake.data_share * 100 * seconds,
                      .images_per_second = 128 / seconds});
}

enum oct_status oct_trainer_run(oct_trainer *trainer, struct oct_result *result)
{
    int epoch = 0, int8 = strcmp(trainer->options.precision, "int8") == 0;

    fake.run_count++;
    send(trainer, (struct oct_event){.kind = OCT_EVENT_START});
    send(trainer, (struct oct_event){.kind = OCT_EVENT_WARNING, .text = "a warning"});
    for (; epoch < trainer->options.epochs && !trainer->stop; epoch++) {
        run_epoch(trainer, epoch);
        if (fake.raise_signal != 0)
            raise(fake.raise_signal);
    }
    if (trainer->options.output_dir != NULL)
        send(trainer, (struct oct_event){.kind = OCT_EVENT_CHECKPOINT, .text = "last"});
    *result = (struct oct_result){.steps = 100 * epoch,
        .epochs = epoch,
        .train_loss = 0.5,
        .eval_loss = 0.7,
        .eval_top1 = int8 ? fake.int8_top1 : 90,
        .eval_top5 = 99,
        .best_top1 = 91,
        .train_seconds = 100 * epoch * seconds_of(trainer),
        .images_per_second = 128 / seconds_of(trainer),
        .interrupted = trainer->stop};
    return OCT_OK;
}

enum oct_status oct_trainer_step(oct_trainer *trainer, struct oct_step_result *result)
{
    size_t used = strlen(fake.steps);
    int step = trainer->steps++;

    if (used + 1 < sizeof fake.steps)
        fake.steps[used] = (char)('a' + trainer->index);
    /* Every round is slower than the one before, for all: only ratios inside a round agree. */
    *result = (struct oct_step_result){.step = step, .seconds = seconds_of(trainer) * (1 + step)};
    return OCT_OK;
}

double oct_trainer_unit_slowdown(oct_trainer *trainer)
{
    (void)trainer;
    return fake.slow_probes-- > 0 ? 2.5 : 0.9;
}

enum oct_status oct_trainer_evaluate(oct_trainer *trainer, struct oct_eval_result *result)
{
    (void)trainer;
    fake.eval_count++;
    *result = (struct oct_eval_result){
        .loss = 0.9, .top1 = 76.52, .top5 = 93.1, .images = 100, .seconds = 1.5};
    return OCT_OK;
}

enum oct_status oct_trainer_profile(
    oct_trainer *trainer, int steps, const struct oct_profile_row **rows, size_t *count)
{
    static const struct oct_profile_row profile[] = {
        {"conv1", "conv", "fprop", 0.003, 6e9, 1}, {"bn1", "bn", "forward", 0.001, 0, 0}};

    (void)trainer;
    (void)steps;
    *rows = profile;
    *count = 2;
    return OCT_OK;
}

enum oct_status oct_checkpoint_settings(
    const char *path, void (*setting)(void *user, const char *key, const char *value), void *user)
{
    (void)path;
    for (size_t i = 0; i < 8 && fake.setting[i][0] != NULL; i++)
        setting(user, fake.setting[i][0], fake.setting[i][1]);
    return OCT_OK;
}

/* int8 twice as fast as tf32 and fp16, four times as fast as fp32. */
enum oct_status oct_trainer_predict(
    oct_trainer *trainer, const struct oct_model_row **rows, size_t *count)
{
    static struct oct_model_row made[2];
    const int int8 = strcmp(trainer->options.precision, "int8") == 0;
    const int fma = strcmp(trainer->options.precision, "fp32") == 0 &&
                    strcmp(trainer->options.isa, "tf32") != 0;
    const double unit = int8 ? 1e-3 : fma ? 4e-3 : 2e-3;

    made[0] = (struct oct_model_row){.node = "conv1",
        .op = "conv",
        .pass = "fprop",
        .seconds = 3 * unit,
        .best = 2 * unit,
        .worst = 5 * unit,
        .macs = 6e9,
        .bytes = 4e9,
        .listed_bytes = 3.9e9,
        .bound = "products",
        .launches = 2};
    made[1] = (struct oct_model_row){.node = "bn1",
        .op = "norm",
        .pass = "forward",
        .seconds = unit,
        .best = unit,
        .worst = unit,
        .bytes = 1e9,
        .listed_bytes = 1e9,
        .bound = "memory",
        .launches = 1};
    *rows = made;
    *count = 2;
    return OCT_OK;
}

void oct_trainer_stop(oct_trainer *trainer)
{
    fake.stop_count++;
    trainer->stop = 1;
}

enum oct_status oct_info(const char *scheme, void (*line)(void *user, const char *text), void *user)
{
    line(user, "isa vnni");
    if (scheme != NULL)
        line(user, scheme);
    return OCT_OK;
}

const char *oct_model_name(size_t index)
{
    static const char *const names[] = {"resnet8", "resnet20", "resnet18", "resnet50"};

    return index < 4 ? names[index] : NULL;
}

const char *oct_card_name(size_t index)
{
    return index == 0 ? "a100" : NULL;
}

const char *oct_scheme_name(size_t index)
{
    static const char *const names[] = {"dai8", "amax"};

    return index < 2 ? names[index] : NULL;
}

enum oct_status oct_analyse(const struct oct_options *options,
    void (*row)(void *user, const struct oct_analysis_row *row), void *user)
{
    /* two layers; one scale per tensor is worse in the first */
    static const struct oct_analysis_row rows[] = {
        {"dai8", "conv1", 1, 30, 40, 0.999, NAN, 0.5, 0.001},
        {"dai8, per tensor", "conv1", 1, 10, 35, 0.99, NAN, NAN, 0},
        {"dai8", "conv2", 1, 20, 40, 0.999, 0.99, 0.5, 0.001},
        {"dai8, per tensor", "conv2", 1, 21, 35, 0.99, 0.98, NAN, 0}};

    if (strstr(options->output_dir, "empty") != NULL)
        return OCT_IO;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        row(user, &rows[i]);
    return OCT_OK;
}

enum oct_status oct_plot_curves(const char *const *run_dirs, size_t count, const char *path)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++)
        used +=
            (size_t)snprintf(fake.plotted + used, sizeof fake.plotted - used, "%s ", run_dirs[i]);
    snprintf(fake.plotted + used, sizeof fake.plotted - used, "%s", path);
    return OCT_OK;
}

enum oct_status oct_plot_analysis(
    const struct oct_analysis_row *rows, size_t count, const char *path)
{
    (void)rows;
    snprintf(fake.plotted, sizeof fake.plotted, "%zu rows to %s", count, path);
    return OCT_OK;
}
