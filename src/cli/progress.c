#include "progress.h"

#include "text.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A step that waits longer than this share of its time for images is worth a word. */
#define INPUT_BOUND 0.2

void oct_progress_init(struct oct_progress *progress, FILE *out, int epochs)
{
    memset(progress, 0, sizeof *progress);
    progress->out = out;
    progress->bar = isatty(STDERR_FILENO) ? stderr : NULL;
    progress->epochs = epochs;
    progress->epoch = -1;
}

void oct_progress_end(struct oct_progress *progress)
{
    if (progress->bar_shown) {
        fputs("\r\033[K", progress->bar);
        fflush(progress->bar);
    }
    progress->bar_shown = 0;
}

static int terminal_width(FILE *terminal)
{
    struct winsize size;

    if (ioctl(fileno(terminal), TIOCGWINSZ, &size) != 0 || size.ws_col < 40)
        return 80;
    return size.ws_col;
}

static void draw_bar(struct oct_progress *progress, const struct oct_event *event)
{
    enum { CELLS = 20 };
    char line[256], eta[32], cells[CELLS + 1];
    int64_t total = event->steps_per_epoch > 0 ? event->steps_per_epoch : 1;
    int full = (int)(event->step_in_epoch * CELLS / total);

    for (int i = 0; i < CELLS; i++)
        cells[i] = i < full ? '=' : i == full ? '>' : ' ';
    cells[CELLS] = '\0';
    oct_text_duration(event->eta_seconds, eta, sizeof eta);
    snprintf(line, sizeof line,
        "%d/%d [%s] %lld/%lld  loss %.4f  acc %.2f  lr %.3g  %.0f img/s  eta %s", event->epoch + 1,
        progress->epochs, cells, (long long)event->step_in_epoch, (long long)event->steps_per_epoch,
        event->loss_average, event->top1, event->lr, event->images_per_second, eta);
    fprintf(progress->bar, "\r\033[K%.*s", terminal_width(progress->bar) - 1, line);
    fflush(progress->bar);
    progress->bar_shown = 1;
}

/* Mean over the steps since the line before, from two running means of the epoch. */
static double since(double mean, int64_t steps, double mean_before, int64_t steps_before)
{
    if (steps <= steps_before || steps_before == 0)
        return mean;
    return (mean * (double)steps - mean_before * (double)steps_before) /
           (double)(steps - steps_before);
}

static int decimal_width(int64_t value)
{
    int width = 1;

    for (; value >= 10; value /= 10)
        width++;
    return width;
}

static void print_step(struct oct_progress *progress, const struct oct_event *event)
{
    char eta[32];
    int64_t steps = event->step_in_epoch;

    oct_text_duration(event->eta_seconds, eta, sizeof eta);
    fprintf(progress->out,
        "Epoch: [%d][%*lld/%lld]  Time %.3f (%.3f)  Data %.3f (%.3f)  Loss %.4e (%.4e)  "
        "Acc@1 %.2f (%.2f)  Acc@5 %.2f (%.2f)  img/s %.1f  lr %.4g  eta %s",
        event->epoch, decimal_width(event->steps_per_epoch), (long long)steps,
        (long long)event->steps_per_epoch, event->step_seconds,
        progress->step_seconds / (double)progress->lines, event->data_seconds,
        progress->data_seconds / (double)progress->lines, event->loss, event->loss_average,
        since(event->top1, steps, progress->top1_before, progress->steps_before), event->top1,
        since(event->top5, steps, progress->top5_before, progress->steps_before), event->top5,
        event->images_per_second, event->lr, eta);
    if (event->saturation > 0)
        fprintf(progress->out, "  sat %.4f %%", 100 * event->saturation);
    fputc('\n', progress->out);
    fflush(progress->out);
}

static void on_step(struct oct_progress *progress, const struct oct_event *event)
{
    if (event->epoch != progress->epoch) {
        progress->epoch = event->epoch;
        progress->lines = 0;
        progress->step_seconds = progress->data_seconds = 0;
        progress->steps_before = 0;
    }
    progress->lines++;
    progress->step_seconds += event->step_seconds;
    progress->data_seconds += event->data_seconds;
    if (progress->bar != NULL)
        draw_bar(progress, event);
    else
        print_step(progress, event);
    progress->steps_before = event->step_in_epoch;
    progress->top1_before = event->top1;
    progress->top5_before = event->top5;
}

static void on_epoch(struct oct_progress *progress, const struct oct_event *event)
{
    double share = event->step_seconds > 0 ? event->data_seconds / event->step_seconds : 0;

    oct_progress_end(progress);
    fprintf(progress->out, "Epoch: [%d] done  Loss %.4e  img/s %.1f\n", event->epoch,
        event->loss_average, event->images_per_second);
    if (share > INPUT_BOUND)
        fprintf(progress->out,
            "input-bound: %.0f %% of the step time was spent waiting for images; raise --workers\n",
            100 * share);
    fflush(progress->out);
}

void oct_progress_accuracy(FILE *out, double top1, double top5)
{
    fprintf(out, " * Acc@1 %.2f Acc@5 %.2f", top1, top5);
}

void oct_progress_event(void *user, const struct oct_event *event)
{
    struct oct_progress *progress = user;

    switch (event->kind) {
    case OCT_EVENT_START:
        break;
    case OCT_EVENT_STEP:
        on_step(progress, event);
        break;
    case OCT_EVENT_EPOCH:
        on_epoch(progress, event);
        break;
    case OCT_EVENT_EVAL:
        oct_progress_end(progress);
        oct_progress_accuracy(progress->out, event->top1, event->top5);
        fprintf(progress->out, " Loss %.4e Time %.1f%s\n", event->eval_loss, event->eval_seconds,
            event->is_best ? " best" : "");
        fflush(progress->out);
        break;
    case OCT_EVENT_CHECKPOINT:
        oct_progress_end(progress);
        fprintf(progress->out, "Saved %s\n", event->text);
        fflush(progress->out);
        break;
    case OCT_EVENT_WARNING:
        oct_progress_end(progress);
        fprintf(stderr, "octet: warning: %s\n", event->text);
        break;
    }
}

/* Values wider than this make their row stick out; nothing is cut off. */
enum { KEY_WIDTH = 16, VALUE_WIDTH = 60 };

static void box_rule(FILE *out)
{
    fputc('+', out);
    for (int i = 0; i < KEY_WIDTH + 2; i++)
        fputc('-', out);
    fputc('+', out);
    for (int i = 0; i < VALUE_WIDTH + 2; i++)
        fputc('-', out);
    fputs("+\n", out);
}

static void box_row(FILE *out, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void box_row(FILE *out, const char *key, const char *format, ...)
{
    char value[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    fprintf(out, "| %-*s | %-*s |\n", KEY_WIDTH, key, VALUE_WIDTH, value);
}

static void box_int8(FILE *out, const struct oct_options *options, const struct oct_run_info *info)
{
    box_row(out, "scheme", "%s%s%s", options->scheme, options->scheme_opt != NULL ? " " : "",
        options->scheme_opt != NULL ? options->scheme_opt : "");
    box_row(out, "first and last", "%s", options->first_last);
    box_row(out, "int8 share", "forward %.1f %%, input grad. %.1f %%, weight grad. %.1f %%",
        100 * info->int8_share[0], 100 * info->int8_share[1], 100 * info->int8_share[2]);
    if (info->two_plane != NULL && info->two_plane[0] != '\0')
        box_row(out, "two planes", "%s", info->two_plane);
    if (info->not_int8 != NULL && info->not_int8[0] != '\0')
        box_row(out, "not int8", "%s", info->not_int8);
}

void oct_progress_box(FILE *out, const struct oct_options *options, const struct oct_run_info *info)
{
    char saved[32], device[32];

    oct_text_bytes((double)info->saved_bytes, saved, sizeof saved);
    oct_text_bytes((double)info->device_bytes, device, sizeof device);
    box_rule(out);
    box_row(out, "octet", "%s", oct_version());
    if (info->threads > 0)
        box_row(out, "device", "%s, %s, %d thread%s", info->device, info->isa, info->threads,
            info->threads == 1 ? "" : "s");
    else
        box_row(out, "device", "%s, %s", info->device, info->isa);
    box_row(out, "libraries", "%s", info->libraries != NULL ? info->libraries : "");
    box_row(out, "data", "%s, %lld + %lld images of %dx%dx%d, %d classes", info->dataset,
        (long long)info->train_images, (long long)info->val_images, info->height, info->width,
        info->channels, info->classes);
    box_row(out, "model", "%s, %lld parameters, %.1f MMAC forward", options->model,
        (long long)info->parameters, info->macs[0] / 1e6);
    box_row(out, "precision", "%s", options->precision);
    if (strcmp(options->precision, "int8") == 0)
        box_int8(out, options, info);
    box_row(out, "batch", "%d x %d accumulated", options->batch_size, options->grad_accum_steps);
    box_row(out, "steps", "%d epochs of %lld", options->epochs, (long long)info->steps_per_epoch);
    box_row(out, "learning rate", "%g, %s, momentum %g, weight decay %g", options->lr,
        options->sched, options->momentum, options->weight_decay);
    box_row(out, "memory", "%s, of them %s saved for backward", device, saved);
    box_row(out, "seed", "%llu", (unsigned long long)options->seed);
    box_row(out, "configuration", "%016llx", (unsigned long long)info->config_hash);
    box_row(out, "run folder", "%s", options->output_dir != NULL ? options->output_dir : "none");
    box_rule(out);
    fflush(out);
}
