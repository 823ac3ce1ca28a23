/* Whole steps of ResNet-18 on 64x64 images on the simulated CUDA device: losses, weights, momenta
 * and running statistics of the CPU, bit for bit. Three steps: one op by op, one that is recorded,
 * one that replays it. */
#include "support/mirror.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3 };

TestSuite(sim_resnet18, .init = mirror_find_plugins, .timeout = 3000);

static oct_trainer *open_run(const char *device)
{
    struct oct_options o;
    oct_trainer *t = NULL;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 16;
    o.synthetic_size = 64;
    o.model = "resnet18";
    o.batch_size = 4;
    o.seed = 5;
    o.threads = 1;
    o.device = device;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s: %s", device, oct_last_error());
    return t;
}

static void *content_of(oct_trainer *t, const struct oct_buffer *buffer)
{
    void *host = malloc(buffer->bytes);
    cr_assert_not_null(host);
    cr_assert_eq(t->backend->download(t->backend, host, buffer->data, buffer->bytes), OCT_OK, "%s",
        oct_last_error());
    return host;
}

static void expect_same(oct_trainer *sim, const struct oct_buffer *a, oct_trainer *cpu,
    const struct oct_buffer *b, const char *what)
{
    cr_assert_eq(a->bytes, b->bytes, "%s", what);
    void *got = content_of(sim, a), *want = content_of(cpu, b);
    cr_expect(memcmp(got, want, a->bytes) == 0, "%s differs", what);
    free(got);
    free(want);
}

static void expect_same_state(oct_trainer *sim, oct_trainer *cpu)
{
    const struct oct_graph *a = sim->graph, *b = cpu->graph;
    cr_assert_eq(a->param_count, b->param_count);
    cr_assert_eq(a->state_count, b->state_count);
    for (int i = 0; i < a->param_count; i++) {
        const struct oct_param *p = &a->params[i], *q = &b->params[i];
        expect_same(sim, p->value, cpu, q->value, p->name);
        expect_same(sim, p->momentum, cpu, q->momentum, p->name);
    }
    for (int i = 0; i < a->state_count; i++)
        expect_same(sim, a->states[i].buffer, cpu, b->states[i].buffer, a->states[i].name);
}

Test(sim_resnet18, steps_equal_the_cpu)
{
    oct_trainer *sim = open_run("sim"), *cpu = open_run("cpu");
    for (int i = 0; i < STEPS; i++) {
        struct oct_step_result got, want;
        cr_assert_eq(oct_trainer_step(sim, &got), OCT_OK, "%s", oct_last_error());
        cr_assert_eq(oct_trainer_step(cpu, &want), OCT_OK, "%s", oct_last_error());
        cr_assert(memcmp(&got.loss, &want.loss, sizeof got.loss) == 0,
            "losses differ at step %d: sim %.17g, cpu %.17g", i, got.loss, want.loss);
        cr_assert_not(got.flagged);
        expect_same_state(sim, cpu);
    }
    oct_trainer_close(sim);
    oct_trainer_close(cpu);
}
