#include "support/runs.h"

#include <criterion/criterion.h>
#include <string.h>

oct_trainer *run_open(const struct oct_options *options)
{
    oct_trainer *t = NULL;
    cr_assert_eq(oct_trainer_open(options, &t), OCT_OK, "%s: %s", options->model, oct_last_error());
    return t;
}

const char *run_model_of(const char *scheme)
{
    return strcmp(scheme, "wageubn") == 0 ? "preact_resnet8" : "resnet8";
}

void run_steps(oct_trainer *t, int steps, double *loss)
{
    for (int i = 0; i < steps; i++) {
        struct oct_step_result r;
        cr_assert_eq(oct_trainer_step(t, &r), OCT_OK, "step %d: %s", i, oct_last_error());
        cr_assert_not(r.flagged, "step %d was flagged", i);
        loss[i] = r.loss;
    }
}
