/* resnet8 for fifty steps: the losses, to the last bit, of the CPU backend. */
#include "selftest.h"

#include <octet.h>
#include <stdio.h>
#include <string.h>

enum { STEPS = 50, SMALL_STEPS = 3 };

static struct oct_options run_of(const char *device, const char *rounding)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 1600;
    o.synthetic_size = 32;
    o.model = "resnet8";
    o.batch_size = 32;
    o.seed = 3;
    o.rounding = rounding;
    o.device = device;
    return o;
}

/* Losses as C99 hexadecimal numbers, which say every bit. */
static json_t *losses_of(const char *device, const char *rounding, int steps, json_t *report)
{
    const struct oct_options o = run_of(device, rounding);
    json_t *losses = json_array();
    oct_trainer *t = NULL;
    enum oct_status status = oct_trainer_open(&o, &t);
    for (int i = 0; i < steps && status == OCT_OK; i++) {
        struct oct_step_result r;
        char text[40];
        status = oct_trainer_step(t, &r);
        snprintf(text, sizeof text, "%a", r.loss);
        if (status == OCT_OK)
            json_array_append_new(losses, json_string(text));
    }
    oct_trainer_close(t);
    if (status == OCT_OK)
        return losses;
    selftest_fail(report, "%s: %s", rounding, oct_last_error());
    json_decref(losses);
    return NULL;
}

static bool compare(const char *rounding, const json_t *got, const json_t *golden, json_t *report)
{
    for (size_t i = 0; i < json_array_size(got); i++) {
        const char *g = json_string_value(json_array_get(got, i));
        const char *w = json_string_value(json_array_get(golden, i));
        if (!w || strcmp(g, w) != 0)
            return selftest_fail(report, "%s: step %zu has loss %s, golden %s", rounding, i, g,
                w ? w : "has no such step");
    }
    return true;
}

bool selftest_training(const struct selftest *s, json_t *report)
{
    static const char *const roundings[] = {"nearest", "stochastic"};
    const int steps = s->small ? SMALL_STEPS : STEPS;
    json_t *golden = s->write ? json_object() : selftest_read(s, "resnet8", report);
    bool passed = golden != NULL;

    for (size_t i = 0; i < 2 && golden; i++) {
        json_t *losses =
            losses_of(s->write ? "cpu" : s->device, roundings[i], s->write ? STEPS : steps, report);
        if (!losses)
            passed = false;
        else if (s->write)
            json_object_set(golden, roundings[i], losses);
        else
            passed = compare(roundings[i], losses, json_object_get(golden, roundings[i]), report) &&
                     passed;
        json_decref(losses);
    }
    if (s->write && passed)
        passed = selftest_save(s, "resnet8", golden, report);
    json_object_set_new(report, "steps", json_integer(steps));
    json_decref(golden);
    return passed;
}
