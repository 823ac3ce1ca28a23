/* The host side of the CUDA backend when the CUDA runtime fails: whichever call it is, the trainer
 * returns one clear line and leaves nothing behind. The backend and gpusim are linked into this
 * program, which opens devices itself: the registry would load a plug-in with another gpusim. */
#include "cuda.h"
#include "gpusim.h"
#include "gpusim_rt.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum oct_status oct_backend_open(const struct oct_backend_options *options, oct_backend **out)
{
    return oct_cuda_open(options, out);
}

void oct_backend_close(oct_backend *backend)
{
    if (backend)
        backend->close(backend);
}

static struct oct_options tiny_run(void)
{
    struct oct_options o;
    oct_options_init(&o);
    o.dataset = "synthetic";
    o.synthetic_images = 16;
    o.synthetic_size = 8;
    o.model = "resnet8";
    o.batch_size = 2;
    o.device = "sim";
    return o;
}

/* Opens, trains two steps (the second is recorded), closes. */
static enum oct_status train(void)
{
    struct oct_options o = tiny_run();
    oct_trainer *t = NULL;
    struct oct_step_result result;
    enum oct_status status = oct_trainer_open(&o, &t);
    for (int i = 0; i < 2 && status == OCT_OK; i++)
        status = oct_trainer_step(t, &result);
    oct_trainer_close(t);
    return status;
}

/* The n-th call of a kind fails. */
static void train_with_fault(enum gpusim_call kind, uint64_t n)
{
    gpusim_fail(kind, n);
    enum oct_status status = train();
    gpusim_fail(kind, 0);
    cr_assert(status == OCT_DEVICE || status == OCT_NOMEM, "fault %d:%llu gave %s", kind,
        (unsigned long long)n, oct_status_name(status));
    cr_assert_gt(
        strlen(oct_last_error()), 10u, "fault %d:%llu says nothing", kind, (unsigned long long)n);
    cr_assert_null(strchr(oct_last_error(), '\n'));
    cr_assert_eq(gpusim_alive(stdout), 0, "fault %d:%llu leaks", kind, (unsigned long long)n);
    gpusim_reset();
}

/* Calls of a kind that one run makes, those while it closes left out: their failure is told to
 * nobody, since everything is over. */
static uint64_t calls_of_a_run(enum gpusim_call kind)
{
    struct oct_options o = tiny_run();
    oct_trainer *t = NULL;
    struct oct_step_result result;
    uint64_t before = gpusim_calls(kind), count;
    cr_assert_eq(oct_trainer_open(&o, &t), OCT_OK, "%s", oct_last_error());
    for (int i = 0; i < 2; i++)
        cr_assert_eq(oct_trainer_step(t, &result), OCT_OK, "%s", oct_last_error());
    count = gpusim_calls(kind) - before;
    oct_trainer_close(t);
    cr_assert_eq(gpusim_alive(stdout), 0, "a run without faults leaks");
    return count;
}

static void every(enum gpusim_call kind, uint64_t dense, uint64_t stride)
{
    uint64_t count = calls_of_a_run(kind);
    cr_assert_gt(count, 0u);
    for (uint64_t n = 1; n <= count; n += n < dense ? 1 : stride)
        train_with_fault(kind, n);
    train_with_fault(kind, count);
}

TestSuite(cuda_faults, .timeout = 300);

Test(cuda_faults, allocation)
{
    every(GPUSIM_CALL_ALLOC, 100, 1);
}

Test(cuda_faults, pinned_memory)
{
    every(GPUSIM_CALL_HOST, 100, 1);
}

Test(cuda_faults, streams_events_and_graphs)
{
    every(GPUSIM_CALL_CREATE, 100, 1);
}

Test(cuda_faults, copies)
{
    every(GPUSIM_CALL_COPY, 20, 17);
}

Test(cuda_faults, launches)
{
    every(GPUSIM_CALL_LAUNCH, 20, 41);
}

Test(cuda_faults, kernels_that_failed)
{
    every(GPUSIM_CALL_SYNC, 10, 7);
}

/* Work that is left in a queue when the trainer closes is waited for. */
Test(cuda_faults, late_streams)
{
    gpusim_set_streams(11);
    cr_assert_eq(train(), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(gpusim_alive(stdout), 0);
    for (uint64_t n = 1; n < 300; n += 60)
        train_with_fault(GPUSIM_CALL_LAUNCH, n);
}
