#include "train/settings.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define FIELD(field_, kind_, bits_)                                                                \
    {                                                                                              \
#field_, OCT_SETTING_##kind_, offsetof(struct oct_options, field_), bits_                  \
    }

static const struct oct_setting settings[] = {
    FIELD(data, TEXT, false),
    FIELD(dataset, TEXT, true),
    FIELD(synthetic_images, INT, true),
    FIELD(synthetic_size, INT, true),
    FIELD(synthetic_classes, INT, true),
    FIELD(workers, INT, false),
    FIELD(augment, INT, true),
    FIELD(crop_padding, INT, true),
    FIELD(crop_padding_mode, TEXT, true),
    FIELD(hflip, DOUBLE, true),
    FIELD(model, TEXT, true),
    FIELD(precision, TEXT, true),
    FIELD(scheme, TEXT, true),
    FIELD(scheme_opt, TEXT, true),
    FIELD(rounding, TEXT, true),
    FIELD(refresh, TEXT, true),
    FIELD(int8_fwd, INT, true),
    FIELD(int8_dgrad, INT, true),
    FIELD(int8_wgrad, INT, true),
    FIELD(int8_skip, TEXT, true),
    FIELD(first_last, TEXT, true),
    FIELD(act_dtype, TEXT, true),
    FIELD(simulate, INT, false),
    FIELD(epochs, INT, true),
    FIELD(batch_size, INT, true),
    FIELD(grad_accum_steps, INT, true),
    FIELD(max_steps, INT64, false),
    FIELD(lr, DOUBLE, true),
    FIELD(momentum, DOUBLE, true),
    FIELD(weight_decay, DOUBLE, true),
    FIELD(label_smoothing, DOUBLE, true),
    FIELD(nesterov, INT, true),
    FIELD(sched, TEXT, true),
    FIELD(warmup_epochs, DOUBLE, true),
    FIELD(warmup_lr, DOUBLE, true),
    FIELD(min_lr, DOUBLE, true),
    FIELD(decay_rate, DOUBLE, true),
    FIELD(decay_epochs, INT, true),
    FIELD(decay_milestones, TEXT, true),
    FIELD(model_ema, INT, true),
    FIELD(model_ema_decay, DOUBLE, true),
    FIELD(seed, UINT64, true),
    FIELD(device, TEXT, false),
    FIELD(isa, TEXT, false),
    FIELD(threads, INT, false),
    FIELD(output_dir, TEXT, false),
    FIELD(resume, TEXT, false),
    FIELD(checkpoint, TEXT, false),
    FIELD(val_interval, INT, false),
    FIELD(checkpoint_hist, INT, false),
    FIELD(recovery_interval, INT64, false),
    FIELD(log_interval, INT, false),
    FIELD(stats_interval, INT, false),
    FIELD(trace_hash, INT, false),
    FIELD(record_gradients, INT, false),
};

const struct oct_setting *oct_setting_at(size_t index)
{
    return index < sizeof settings / sizeof settings[0] ? &settings[index] : NULL;
}

void oct_options_init(struct oct_options *options)
{
    *options = (struct oct_options){.dataset = "auto",
        .synthetic_images = 2048,
        .synthetic_classes = 10,
        .workers = 1,
        .augment = 1,
        .crop_padding = 4,
        .crop_padding_mode = "constant",
        .hflip = -1.0,
        .model = "resnet20",
        .precision = "int8",
        .scheme = oct_scheme_name(0),
        .int8_fwd = 1,
        .int8_dgrad = 1,
        .int8_wgrad = 1,
        .first_last = "int16",
        .act_dtype = "bf16",
        .epochs = 30,
        .batch_size = 128,
        .grad_accum_steps = 1,
        .lr = 0.1,
        .momentum = 0.9,
        .weight_decay = 1e-4,
        .sched = "cosine",
        .warmup_lr = 1e-5,
        .decay_rate = 0.1,
        .decay_epochs = 30,
        .model_ema_decay = 0.9998,
        .seed = 42,
        .device = "cpu",
        .isa = "auto",
        .val_interval = 1,
        .checkpoint_hist = 2,
        .log_interval = 50};
}

void oct_setting_print(
    const struct oct_setting *setting, const struct oct_options *options, char *out, size_t size)
{
    const char *field = (const char *)options + setting->offset;
    switch (setting->kind) {
    case OCT_SETTING_TEXT: {
        const char *text = *(const char *const *)field;
        snprintf(out, size, "%s", text ? text : "");
        break;
    }
    case OCT_SETTING_INT:
        snprintf(out, size, "%d", *(const int *)field);
        break;
    case OCT_SETTING_INT64:
        snprintf(out, size, "%" PRId64, *(const int64_t *)field);
        break;
    case OCT_SETTING_UINT64:
        snprintf(out, size, "%" PRIu64, *(const uint64_t *)field);
        break;
    case OCT_SETTING_DOUBLE:
        snprintf(out, size, "%.17g", *(const double *)field);
        break;
    }
}

static enum oct_status check_range(const char *flag, double value, double low, double high)
{
    if (value >= low && value <= high)
        return OCT_OK;
    return oct_fail(OCT_ARG, "%s %g: expected %g to %g", flag, value, low, high);
}

static enum oct_status check_training(const struct oct_options *o)
{
    OCT_TRY(check_range("--epochs", o->epochs, 1, 1e6));
    OCT_TRY(check_range("--batch-size", o->batch_size, 1, 65536));
    OCT_TRY(check_range("--grad-accum-steps", o->grad_accum_steps, 1, 65536));
    OCT_TRY(check_range("--max-steps", (double)o->max_steps, 0, 1e15));
    OCT_TRY(check_range("--lr", o->lr, 0, 1e6));
    OCT_TRY(check_range("--momentum", o->momentum, 0, 1));
    OCT_TRY(check_range("--weight-decay", o->weight_decay, 0, 1e3));
    OCT_TRY(check_range("--label-smoothing", o->label_smoothing, 0, 0.999));
    OCT_TRY(check_range("--warmup-epochs", o->warmup_epochs, 0, o->epochs));
    OCT_TRY(check_range("--warmup-lr", o->warmup_lr, 0, 1e6));
    OCT_TRY(check_range("--min-lr", o->min_lr, 0, 1e6));
    OCT_TRY(check_range("--decay-rate", o->decay_rate, 0, 1));
    OCT_TRY(check_range("--decay-epochs", o->decay_epochs, 1, 1e6));
    return check_range("--model-ema-decay", o->model_ema_decay, 0, 1);
}

/* Simulation is an instruction set of the CPU. */
static enum oct_status check_simulate(const struct oct_options *o)
{
    if (o->simulate && o->device && strcmp(o->device, "cpu") != 0)
        return oct_fail(OCT_ARG,
            "--simulate multiplies in float64 on the CPU, and --device %s was asked for: leave "
            "out one of them",
            o->device);
    if (o->simulate && o->isa && strcmp(o->isa, "auto") != 0 && strcmp(o->isa, "simulate") != 0)
        return oct_fail(OCT_ARG,
            "--simulate multiplies in float64, and --isa %s was asked for: leave out one of them",
            o->isa);
    return OCT_OK;
}

static enum oct_status check(const struct oct_options *o)
{
    OCT_TRY(check_simulate(o));
    OCT_TRY(check_training(o));
    OCT_TRY(check_range("--synthetic-images", o->synthetic_images, 1, 1e8));
    OCT_TRY(check_range("--synthetic-size", o->synthetic_size, 0, 4096));
    OCT_TRY(check_range("--synthetic-classes", o->synthetic_classes, 2, 100000));
    OCT_TRY(check_range("--workers", o->workers, 1, 256));
    OCT_TRY(check_range("--crop-padding", o->crop_padding, 0, 1024));
    OCT_TRY(check_range("--hflip", o->hflip, -1, 1));
    OCT_TRY(check_range("--threads", o->threads, 0, 1024));
    OCT_TRY(check_range("--val-interval", o->val_interval, 0, 1e6));
    OCT_TRY(check_range("--checkpoint-hist", o->checkpoint_hist, 0, 1e6));
    OCT_TRY(check_range("--recovery-interval", (double)o->recovery_interval, 0, 1e15));
    OCT_TRY(check_range("--log-interval", o->log_interval, 1, 1e9));
    if (o->resume && strcmp(o->resume, "auto") == 0 && !o->output_dir)
        return oct_fail(
            OCT_ARG, "--resume auto looks into --output-dir, which is not set: name the folder");
    if (o->trace_hash && !o->output_dir)
        return oct_fail(
            OCT_ARG, "--trace-hash writes into --output-dir, which is not set: name the folder");
    if (o->resume && o->checkpoint)
        return oct_fail(OCT_ARG, "--resume continues a run and --checkpoint starts one from given "
                                 "weights: give one of them");
    if (o->record_gradients > 0 &&
        (!o->output_dir || !o->precision || strcmp(o->precision, "fp32") != 0 || o->trace_hash))
        return oct_fail(OCT_ARG,
            "--record-gradients records an fp32 run into its folder: use --precision fp32 and "
            "--output-dir, without --trace-hash");
    OCT_TRY(check_range("--record-gradients", o->record_gradients, 0, 1e6));
    return check_range("--stats-interval", o->stats_interval, 0, 1e9);
}

void oct_settings_free(struct oct_options *options)
{
    for (size_t i = 0; oct_setting_at(i); i++) {
        if (settings[i].kind != OCT_SETTING_TEXT)
            continue;
        char **field = (char **)((char *)options + settings[i].offset);
        free(*field);
        *field = NULL;
    }
}

enum oct_status oct_settings_copy(const struct oct_options *from, struct oct_options *out)
{
    struct oct_options copy = *from;
    bool complete = true;

    OCT_TRY(check(from));
    for (size_t i = 0; oct_setting_at(i); i++) {
        if (settings[i].kind != OCT_SETTING_TEXT)
            continue;
        char **field = (char **)((char *)&copy + settings[i].offset);
        if (!*field)
            continue;
        *field = strdup(*field);
        complete = complete && *field;
    }
    if (!complete) {
        oct_settings_free(&copy);
        return oct_fail(OCT_NOMEM, "no memory for the options");
    }
    *out = copy;
    return OCT_OK;
}

uint64_t oct_settings_hash(const struct oct_options *options)
{
    uint64_t hash = 0;
    char value[1024];
    for (size_t i = 0; oct_setting_at(i); i++) {
        if (!settings[i].decides_bits)
            continue;
        oct_setting_print(&settings[i], options, value, sizeof value);
        hash = XXH3_64bits_withSeed(settings[i].key, strlen(settings[i].key) + 1, hash);
        hash = XXH3_64bits_withSeed(value, strlen(value) + 1, hash);
    }
    return hash;
}
