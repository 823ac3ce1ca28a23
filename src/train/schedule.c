#include "train/schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum oct_status parse_milestones(const char *text, struct oct_schedule *out)
{
    const char *at = text ? text : "";
    while (*at) {
        char *end;
        long epoch = strtol(at, &end, 10);
        int previous = out->milestone_count ? out->milestones[out->milestone_count - 1] : 0;
        if (end == at || (*end && *end != ',') || epoch <= previous || epoch > 1000000 ||
            out->milestone_count == 16)
            return oct_fail(OCT_ARG,
                "--decay-milestones %s: expected up to 16 ascending epochs, as in 80,120", text);
        out->milestones[out->milestone_count++] = (int)epoch;
        at = *end ? end + 1 : end;
    }
    if (out->milestone_count == 0)
        return oct_fail(OCT_ARG, "--sched multistep needs --decay-milestones, as in 80,120");
    return OCT_OK;
}

enum oct_status oct_schedule_open(
    const struct oct_options *options, int64_t steps_per_epoch, struct oct_schedule *out)
{
    struct oct_schedule schedule = {.lr = options->lr,
        .warmup_lr = options->warmup_lr,
        .min_lr = options->min_lr,
        .decay_rate = options->decay_rate,
        .steps_per_epoch = steps_per_epoch,
        .steps = steps_per_epoch * options->epochs,
        .warmup_steps = (int64_t)(options->warmup_epochs * (double)steps_per_epoch),
        .decay_epochs = options->decay_epochs};

    if (strcmp(options->sched, "constant") == 0)
        schedule.kind = OCT_SCHED_CONSTANT;
    else if (strcmp(options->sched, "cosine") == 0)
        schedule.kind = OCT_SCHED_COSINE;
    else if (strcmp(options->sched, "step") == 0)
        schedule.kind = OCT_SCHED_STEP;
    else if (strcmp(options->sched, "multistep") == 0)
        schedule.kind = OCT_SCHED_MULTISTEP;
    else
        return oct_fail(
            OCT_ARG, "--sched %s: use cosine, step, multistep or constant", options->sched);
    if (schedule.kind == OCT_SCHED_MULTISTEP)
        OCT_TRY(parse_milestones(options->decay_milestones, &schedule));
    *out = schedule;
    return OCT_OK;
}

double oct_schedule_lr(const struct oct_schedule *s, int64_t step)
{
    int64_t epoch = s->steps_per_epoch > 0 ? step / s->steps_per_epoch : 0;
    if (step < s->warmup_steps)
        return s->warmup_lr + (s->lr - s->warmup_lr) * (double)step / (double)s->warmup_steps;
    switch (s->kind) {
    case OCT_SCHED_CONSTANT:
        break;
    case OCT_SCHED_COSINE: {
        int64_t span = s->steps - s->warmup_steps;
        double t = span > 0 ? (double)(step - s->warmup_steps) / (double)span : 1.0;
        t = t > 1.0 ? 1.0 : t;
        return s->min_lr + (s->lr - s->min_lr) * 0.5 * (1.0 + cos(3.14159265358979323846 * t));
    }
    case OCT_SCHED_STEP:
        return s->lr * pow(s->decay_rate, (double)(epoch / s->decay_epochs));
    case OCT_SCHED_MULTISTEP: {
        double lr = s->lr;
        for (int i = 0; i < s->milestone_count && epoch >= s->milestones[i]; i++)
            lr *= s->decay_rate;
        return lr;
    }
    }
    return s->lr;
}
