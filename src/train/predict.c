/* A step's rows on a device that predicts: after every op that the observer hears of, the device is
 * asked what it would have cost. */
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

struct oct_prediction {
    struct oct_model_row *rows;
    size_t count, capacity;
    bool failed;
};

static const char *bound_of(const struct oct_estimate *e)
{
    static const char *const names[OCT_BOUNDS] = {"memory", "products", "issue", "launch"};
    int most = 0;
    for (int i = 1; i < OCT_BOUNDS; i++)
        most = e->bound[i] > e->bound[most] ? i : most;
    return names[most];
}

static void predict_op(void *user, const struct oct_node *node, const char *pass, double seconds)
{
    struct oct_trainer *t = user;
    struct oct_prediction *p = t->prediction;
    struct oct_estimate e;

    (void)seconds; /* of the host, which means nothing here */
    t->backend->estimate(t->backend, &e);
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 256;
        struct oct_model_row *grown = realloc(p->rows, capacity * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->rows = grown;
        p->capacity = capacity;
    }
    p->rows[p->count++] = (struct oct_model_row){.node = node ? node->name : "(step)",
        .op = node ? node->type->name : "step",
        .pass = pass,
        .seconds = e.seconds[OCT_ESTIMATE_NOMINAL],
        .best = e.seconds[OCT_ESTIMATE_BEST],
        .worst = e.seconds[OCT_ESTIMATE_WORST],
        .macs = e.macs,
        .bytes = e.bytes,
        .listed_bytes = e.listed_bytes,
        .bound = bound_of(&e),
        .launches = e.launches};
}

enum oct_status oct_trainer_computes(const struct oct_trainer *t)
{
    if (!t->backend->estimate)
        return OCT_OK;
    return oct_fail(OCT_ARG,
        "--device %s computes nothing, it predicts: use it with octet bench, or --device cpu, cuda "
        "or sim",
        t->options.device);
}

void oct_prediction_free(struct oct_trainer *t)
{
    if (t->prediction)
        free(t->prediction->rows);
    free(t->prediction);
    t->prediction = NULL;
}

enum oct_status oct_trainer_predict(
    oct_trainer *t, const struct oct_model_row **rows, size_t *count)
{
    enum oct_status status = OCT_OK;
    struct oct_observer before = t->observer;
    struct oct_step_result result;
    struct oct_estimate rest;

    if (!t->backend->estimate)
        return oct_fail(OCT_ARG,
            "device %s does its work and predicts nothing: use --device model:CARD",
            t->backend->name);
    oct_prediction_free(t);
    t->prediction = calloc(1, sizeof *t->prediction);
    if (!t->prediction)
        return oct_fail(OCT_NOMEM, "no memory for a prediction");
    /* the first step has no statistics of an earlier one and takes passes that later ones do not */
    OCT_OUT(oct_trainer_step(t, &result));
    t->backend->estimate(t->backend, &rest);
    t->observer = (struct oct_observer){.user = t, .op = predict_op};
    OCT_OUT(oct_trainer_step(t, &result));
    predict_op(t, NULL, "rest", 0.0);
    if (t->prediction->failed)
        OCT_OUT(oct_fail(OCT_NOMEM, "no memory for a prediction"));
    *rows = t->prediction->rows;
    *count = t->prediction->count;
out:
    t->observer = before;
    return status;
}
