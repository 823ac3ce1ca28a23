/* What CUDA forbids while a stream is captured fails in gpusim with CUDA's error, breaks the
 * capture and does nothing else; what is allowed leaves the capture whole. The errors are those of
 * the runtime's documentation (driver_types.h, cudaThreadExchangeStreamCaptureMode, the programming
 * guide's "Prohibited and Unhandled Operations"). test_gpusim_rt.c has replays and streams. */
#include <criterion/criterion.h>

#include "gpusim.h"
#include "gpusim_rt.h"
#include "kernels/steps.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <string.h>

static const enum cudaStreamCaptureMode modes[] = {
    cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed};
enum { MODES = sizeof modes / sizeof modes[0] };

#define OK(call) cr_assert_eq((call), cudaSuccess, "%s: %s", #call, gpusim_last_report())

/* Two streams, events of both kinds, memory, and a graph made earlier. */
struct rig {
    cudaStream_t stream, other;
    cudaEvent_t captured, plain; /* recorded in `stream` and before the capture */
    int *p, *q, *fresh, host;
    void *pinned, *pinned_fresh;
    cudaGraphExec_t exec;
};

static cudaGraph_t record_digit(cudaStream_t stream, int *p, int digit)
{
    cudaGraph_t graph = NULL;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    OK(step_digit(p, digit, stream));
    OK(cudaStreamEndCapture(stream, &graph));
    return graph;
}

static struct rig rig_open(unsigned flags)
{
    struct rig r = {0};
    OK(cudaStreamCreateWithFlags(&r.stream, flags));
    OK(cudaStreamCreateWithFlags(&r.other, flags));
    OK(cudaEventCreate(&r.captured));
    OK(cudaEventCreate(&r.plain));
    OK(cudaEventRecord(r.plain, r.other));
    OK(cudaMalloc((void **)&r.p, 64));
    OK(cudaMalloc((void **)&r.q, 64));
    OK(cudaHostAlloc(&r.pinned, 64, cudaHostAllocDefault));
    OK(cudaMemset(r.p, 0, 64));
    cudaGraph_t graph = record_digit(r.other, r.p, 1);
    OK(cudaGraphInstantiate(&r.exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    return r;
}

/* Whatever a refused call was to free must still be there. */
static void rig_close(struct rig *r)
{
    if (r->exec)
        OK(cudaGraphExecDestroy(r->exec));
    if (r->pinned)
        OK(cudaFreeHost(r->pinned));
    OK(cudaFreeHost(r->pinned_fresh));
    OK(cudaFree(r->p));
    OK(cudaFree(r->q));
    OK(cudaFree(r->fresh));
    OK(cudaEventDestroy(r->captured));
    OK(cudaEventDestroy(r->plain));
    OK(cudaStreamDestroy(r->stream));
    OK(cudaStreamDestroy(r->other));
    cr_expect_eq(gpusim_alive(stdout), 0);
    gpusim_reset();
}

static enum cudaStreamCaptureStatus status_of(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    OK(cudaStreamIsCapturing(stream, &status));
    return status;
}

static void begin(struct rig *r, enum cudaStreamCaptureMode mode)
{
    OK(cudaStreamBeginCapture(r->stream, mode));
    OK(step_digit(r->p, 2, r->stream));
    OK(cudaEventRecord(r->captured, r->stream));
}

/* The capture ends with an error and no graph, and the stream is usable again. */
static void expect_broken(const struct rig *r, cudaError_t error, const char *what)
{
    cudaGraph_t graph = NULL;
    cr_expect_eq(status_of(r->stream), cudaStreamCaptureStatusInvalidated, "%s", what);
    cr_expect_eq(step_digit(r->p, 3, r->stream), cudaErrorStreamCaptureInvalidated, "%s", what);
    cr_expect_eq(cudaStreamEndCapture(r->stream, &graph), error, "%s", what);
    cr_expect_null(graph, "%s", what);
    cr_expect_eq(status_of(r->stream), cudaStreamCaptureStatusNone, "%s", what);
    OK(step_digit(r->p, 3, r->stream));
    OK(cudaStreamSynchronize(r->stream));
}

static void expect_whole(const struct rig *r, size_t nodes, const char *what)
{
    cudaGraph_t graph = NULL;
    size_t count = 0;
    cr_expect_eq(status_of(r->stream), cudaStreamCaptureStatusActive, "%s", what);
    cr_assert_eq(
        cudaStreamEndCapture(r->stream, &graph), cudaSuccess, "%s: %s", what, gpusim_last_report());
    OK(cudaGraphGetNodes(graph, NULL, &count));
    cr_expect_eq(count, nodes, "%s: %zu nodes", what, count);
    OK(cudaGraphDestroy(graph));
}

/* ---- what no mode allows ---- */

static cudaError_t sync_captured_stream(struct rig *r)
{
    return cudaStreamSynchronize(r->stream);
}

static cudaError_t query_captured_stream(struct rig *r)
{
    return cudaStreamQuery(r->stream);
}

static cudaError_t sync_device(struct rig *r)
{
    (void)r;
    return cudaDeviceSynchronize();
}

static cudaError_t sync_captured_event(struct rig *r)
{
    return cudaEventSynchronize(r->captured);
}

static cudaError_t query_captured_event(struct rig *r)
{
    return cudaEventQuery(r->captured);
}

static cudaError_t time_captured_event(struct rig *r)
{
    float ms;
    return cudaEventElapsedTime(&ms, r->plain, r->captured);
}

static cudaError_t wait_for_event_from_outside(struct rig *r)
{
    return cudaStreamWaitEvent(r->stream, r->plain, 0);
}

static cudaError_t launch_graph(struct rig *r)
{
    return cudaGraphLaunch(r->exec, r->stream);
}

static cudaError_t copy_pageable(struct rig *r)
{
    return cudaMemcpyAsync(r->p, &r->host, 4, cudaMemcpyHostToDevice, r->stream);
}

static cudaError_t wait_in_legacy_stream(struct rig *r)
{
    return cudaStreamWaitEvent(cudaStreamLegacy, r->captured, 0);
}

struct call {
    const char *name;
    cudaError_t (*make)(struct rig *);
    cudaError_t error;
};

static const struct call forbidden[] = {
    {"stream synchronize", sync_captured_stream, cudaErrorStreamCaptureUnsupported},
    {"stream query", query_captured_stream, cudaErrorStreamCaptureUnsupported},
    {"device synchronize", sync_device, cudaErrorStreamCaptureUnsupported},
    {"event synchronize", sync_captured_event, cudaErrorCapturedEvent},
    {"event query", query_captured_event, cudaErrorCapturedEvent},
    {"event elapsed time", time_captured_event, cudaErrorCapturedEvent},
    {"wait for an event from outside", wait_for_event_from_outside,
        cudaErrorStreamCaptureIsolation},
    {"graph launch", launch_graph, cudaErrorStreamCaptureUnsupported},
    {"pageable copy", copy_pageable, cudaErrorStreamCaptureUnsupported},
    {"wait in the legacy stream", wait_in_legacy_stream, cudaErrorStreamCaptureImplicit}};

static void expect_refused(struct rig *r, enum cudaStreamCaptureMode mode, const struct call *call)
{
    begin(r, mode);
    cr_expect_eq(call->make(r), call->error, "mode %d: %s", (int)mode, call->name);
    cr_expect_eq(cudaGetLastError(), call->error, "%s", call->name);
    expect_broken(r, cudaErrorStreamCaptureInvalidated, call->name);
}

Test(gpusim_capture, what_no_mode_allows)
{
    for (unsigned flags = 0; flags <= cudaStreamNonBlocking; flags++) {
        struct rig r = rig_open(flags);
        for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++)
            for (int m = 0; m < MODES; m++)
                expect_refused(&r, modes[m], &forbidden[i]);
        rig_close(&r);
    }
}

/* ---- what only a relaxed capture allows ---- */

static cudaError_t allocate(struct rig *r)
{
    return cudaMalloc((void **)&r->fresh, 64);
}

static cudaError_t release(struct rig *r)
{
    cudaError_t error = cudaFree(r->q);
    if (!error)
        r->q = NULL;
    return error;
}

static cudaError_t allocate_pinned(struct rig *r)
{
    return cudaMallocHost(&r->pinned_fresh, 64);
}

static cudaError_t release_pinned(struct rig *r)
{
    cudaError_t error = cudaFreeHost(r->pinned);
    if (!error)
        r->pinned = NULL;
    return error;
}

static cudaError_t sync_other_stream(struct rig *r)
{
    return cudaStreamSynchronize(r->other);
}

static cudaError_t query_other_stream(struct rig *r)
{
    return cudaStreamQuery(r->other);
}

static cudaError_t query_plain_event(struct rig *r)
{
    return cudaEventQuery(r->plain);
}

static cudaError_t sync_plain_event(struct rig *r)
{
    return cudaEventSynchronize(r->plain);
}

static cudaError_t copy_and_wait(struct rig *r)
{
    return cudaMemcpy(&r->host, r->p, 4, cudaMemcpyDeviceToHost);
}

static cudaError_t destroy_exec(struct rig *r)
{
    cudaError_t error = cudaGraphExecDestroy(r->exec);
    if (!error)
        r->exec = NULL;
    return error;
}

static const struct call unsafe[] = {{"malloc", allocate, cudaErrorStreamCaptureUnsupported},
    {"free", release, cudaErrorStreamCaptureUnsupported},
    {"malloc of pinned memory", allocate_pinned, cudaErrorStreamCaptureUnsupported},
    {"free of pinned memory", release_pinned, cudaErrorStreamCaptureUnsupported},
    {"another stream's synchronize", sync_other_stream, cudaErrorStreamCaptureUnsupported},
    {"another stream's query", query_other_stream, cudaErrorStreamCaptureUnsupported},
    {"another event's query", query_plain_event, cudaErrorStreamCaptureUnsupported},
    {"another event's synchronize", sync_plain_event, cudaErrorStreamCaptureUnsupported},
    {"memcpy", copy_and_wait, cudaErrorStreamCaptureUnsupported},
    {"graph destroy", destroy_exec, cudaErrorStreamCaptureUnsupported}};

/* The streams do not block, or memcpy would fail for another reason. */
Test(gpusim_capture, what_only_a_relaxed_capture_allows)
{
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++) {
        struct rig r = rig_open(cudaStreamNonBlocking);
        expect_refused(&r, cudaStreamCaptureModeGlobal, &unsafe[i]);
        expect_refused(&r, cudaStreamCaptureModeThreadLocal, &unsafe[i]);
        begin(&r, cudaStreamCaptureModeRelaxed);
        cr_expect_eq(
            unsafe[i].make(&r), cudaSuccess, "%s: %s", unsafe[i].name, gpusim_last_report());
        expect_whole(&r, 1, unsafe[i].name);
        rig_close(&r);
    }
}

struct elsewhere {
    struct rig *rig;
    const struct call *call;
    cudaError_t error;
};

static void *call_elsewhere(void *user)
{
    struct elsewhere *e = user;
    e->error = e->call->make(e->rig);
    return NULL;
}

static cudaError_t in_another_thread(struct rig *r, const struct call *call)
{
    struct elsewhere e = {.rig = r, .call = call};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, call_elsewhere, &e), 0);
    pthread_join(thread, NULL);
    return e.error;
}

/* Only a global capture concerns other threads; the device as a whole is everybody's. */
Test(gpusim_capture, other_threads)
{
    static const struct call whole = {"", sync_device, cudaErrorStreamCaptureUnsupported};
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++) {
        struct rig r = rig_open(cudaStreamNonBlocking);
        begin(&r, cudaStreamCaptureModeGlobal);
        cr_expect_eq(in_another_thread(&r, &unsafe[i]), unsafe[i].error, "%s", unsafe[i].name);
        expect_broken(&r, cudaErrorStreamCaptureInvalidated, unsafe[i].name);
        begin(&r, cudaStreamCaptureModeThreadLocal);
        cr_expect_eq(in_another_thread(&r, &unsafe[i]), cudaSuccess, "%s", unsafe[i].name);
        expect_whole(&r, 1, unsafe[i].name);
        begin(&r, cudaStreamCaptureModeThreadLocal);
        cr_expect_eq(in_another_thread(&r, &whole), whole.error);
        expect_broken(&r, cudaErrorStreamCaptureInvalidated, "device synchronize");
        rig_close(&r);
    }
}

/* ---- the legacy default stream ---- */

static cudaError_t legacy_launch(struct rig *r)
{
    return step_digit(r->q, 4, NULL);
}

static cudaError_t legacy_fill(struct rig *r)
{
    return cudaMemset(r->q, 0, 4);
}

static cudaError_t legacy_copy(struct rig *r)
{
    return cudaMemcpyAsync(r->q, r->pinned, 4, cudaMemcpyHostToDevice, cudaStreamLegacy);
}

static cudaError_t legacy_record(struct rig *r)
{
    return cudaEventRecord(r->plain, NULL);
}

static cudaError_t legacy_sync(struct rig *r)
{
    (void)r;
    return cudaStreamSynchronize(NULL);
}

static cudaError_t legacy_query(struct rig *r)
{
    (void)r;
    return cudaStreamQuery(NULL);
}

static const struct call legacy[] = {{"launch", legacy_launch, cudaErrorStreamCaptureImplicit},
    {"memset", legacy_fill, cudaErrorStreamCaptureImplicit},
    {"asynchronous copy", legacy_copy, cudaErrorStreamCaptureImplicit},
    {"event record", legacy_record, cudaErrorStreamCaptureImplicit},
    {"synchronize", legacy_sync, cudaErrorStreamCaptureImplicit},
    {"query", legacy_query, cudaErrorStreamCaptureImplicit},
    {"memcpy", copy_and_wait, cudaErrorStreamCaptureImplicit}};

Test(gpusim_capture, the_legacy_stream_and_a_blocking_one)
{
    struct rig r = rig_open(cudaStreamDefault);
    enum cudaStreamCaptureStatus status;
    for (size_t i = 0; i < sizeof legacy / sizeof legacy[0]; i++)
        for (int m = 0; m < MODES; m++)
            expect_refused(&r, modes[m], &legacy[i]);
    begin(&r, cudaStreamCaptureModeGlobal);
    cr_expect_eq(cudaStreamIsCapturing(NULL, &status), cudaErrorStreamCaptureImplicit);
    expect_whole(&r, 1, "asking the legacy stream breaks nothing");
    rig_close(&r);
}

Test(gpusim_capture, the_legacy_stream_and_one_that_does_not_block)
{
    struct rig r = rig_open(cudaStreamNonBlocking);
    enum { NO_WAITING = 4 }; /* the first of the table */
    for (size_t i = 0; i < NO_WAITING; i++)
        for (int m = 0; m < MODES; m++) {
            begin(&r, modes[m]);
            cr_expect_eq(
                legacy[i].make(&r), cudaSuccess, "%s: %s", legacy[i].name, gpusim_last_report());
            cr_expect_eq(status_of(NULL), cudaStreamCaptureStatusNone);
            expect_whole(&r, 1, legacy[i].name);
        }
    rig_close(&r);
}

/* ---- beginnings and ends ---- */

Test(gpusim_capture, beginnings)
{
    struct rig r = rig_open(cudaStreamDefault);
    for (int m = 0; m < MODES; m++) {
        cr_expect_eq(cudaStreamBeginCapture(NULL, modes[m]), cudaErrorStreamCaptureUnsupported);
        begin(&r, modes[m]);
        cr_expect_eq(cudaStreamBeginCapture(r.stream, modes[m]), cudaErrorIllegalState);
        OK(cudaStreamWaitEvent(r.other, r.captured, 0));
        cr_expect_eq(cudaStreamBeginCapture(r.other, modes[m]), cudaErrorIllegalState);
        expect_whole(&r, 1, "a second beginning");
        begin(&r, modes[m]);
        cr_expect_eq(cudaStreamQuery(r.stream), cudaErrorStreamCaptureUnsupported);
        cr_expect_eq(cudaStreamBeginCapture(r.stream, modes[m]), cudaErrorIllegalState);
        expect_broken(&r, cudaErrorStreamCaptureInvalidated, "a beginning in a broken capture");
    }
    rig_close(&r);
}

static cudaError_t end_here(struct rig *r)
{
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture(r->stream, &graph);
    if (graph)
        OK(cudaGraphDestroy(graph));
    return error;
}

Test(gpusim_capture, ends)
{
    static const struct call end = {"end", end_here, cudaErrorStreamCaptureWrongThread};
    struct rig r = rig_open(cudaStreamDefault);
    cudaGraph_t graph = NULL;
    for (int m = 0; m < MODES; m++) {
        bool relaxed = modes[m] == cudaStreamCaptureModeRelaxed;
        cr_expect_eq(cudaStreamEndCapture(r.stream, &graph), cudaErrorIllegalState);
        begin(&r, modes[m]);
        cr_expect_eq(cudaStreamEndCapture(r.other, &graph), cudaErrorIllegalState);
        OK(cudaStreamWaitEvent(r.other, r.captured, 0));
        cr_expect_eq(cudaStreamEndCapture(r.other, &graph), cudaErrorStreamCaptureUnmatched);
        cr_expect_null(graph);
        expect_whole(&r, 1, "an end in another stream");
        begin(&r, modes[m]);
        cr_expect_eq(in_another_thread(&r, &end), relaxed ? cudaSuccess : end.error);
        if (!relaxed)
            expect_whole(&r, 1, "an end in another thread");
    }
    rig_close(&r);
}

/* ---- forks and joins ---- */

static void expect_unjoined(const struct rig *r, const char *what)
{
    cudaGraph_t graph = NULL;
    cr_expect_eq(
        cudaStreamEndCapture(r->stream, &graph), cudaErrorStreamCaptureUnjoined, "%s", what);
    cr_expect_null(graph);
    cr_expect_eq(status_of(r->stream), cudaStreamCaptureStatusNone);
    cr_expect_eq(status_of(r->other), cudaStreamCaptureStatusNone);
}

static void fork_to(const struct rig *r, cudaStream_t side)
{
    OK(cudaStreamWaitEvent(side, r->captured, 0));
    OK(step_digit(r->q, 5, side));
}

static void join_from(const struct rig *r, cudaStream_t side)
{
    OK(cudaEventRecord(r->captured, side));
    OK(cudaStreamWaitEvent(r->stream, r->captured, 0));
}

Test(gpusim_capture, forks_must_be_joined)
{
    struct rig r = rig_open(cudaStreamDefault);
    begin(&r, cudaStreamCaptureModeGlobal);
    fork_to(&r, r.other);
    cr_expect_eq(status_of(r.other), cudaStreamCaptureStatusActive);
    expect_unjoined(&r, "never joined");
    begin(&r, cudaStreamCaptureModeGlobal);
    fork_to(&r, r.other);
    join_from(&r, r.other);
    OK(step_digit(r.q, 6, r.other));
    expect_unjoined(&r, "more work after it was joined");
    begin(&r, cudaStreamCaptureModeGlobal);
    fork_to(&r, r.other);
    join_from(&r, r.other);
    expect_whole(&r, 2, "joined");
    cr_expect_eq(status_of(r.other), cudaStreamCaptureStatusNone);
    rig_close(&r);
}

/* A fork of a fork may come back by way of its parent or straight to the origin. */
Test(gpusim_capture, forks_of_forks)
{
    for (int straight = 0; straight < 2; straight++) {
        struct rig r = rig_open(cudaStreamDefault);
        cudaStream_t third;
        OK(cudaStreamCreate(&third));
        begin(&r, cudaStreamCaptureModeThreadLocal);
        fork_to(&r, r.other);
        OK(cudaEventRecord(r.captured, r.other));
        fork_to(&r, third);
        OK(cudaEventRecord(r.captured, third));
        OK(cudaStreamWaitEvent(straight ? r.stream : r.other, r.captured, 0));
        if (!straight)
            OK(step_digit(r.q, 7, r.other));
        join_from(&r, r.other);
        expect_whole(&r, straight ? 3 : 4, "a fork of a fork");
        OK(cudaStreamDestroy(third));
        rig_close(&r);
    }
}

Test(gpusim_capture, two_captures_do_not_meet)
{
    struct rig r = rig_open(cudaStreamDefault);
    cudaGraph_t graph = NULL;
    for (int m = 0; m < MODES; m++) {
        begin(&r, modes[m]);
        OK(cudaStreamBeginCapture(r.other, modes[m]));
        cr_expect_eq(cudaStreamWaitEvent(r.other, r.captured, 0), cudaErrorStreamCaptureMerge);
        cr_expect_eq(status_of(r.other), cudaStreamCaptureStatusInvalidated);
        cr_expect_eq(cudaStreamEndCapture(r.other, &graph), cudaErrorStreamCaptureInvalidated);
        cr_expect_eq(cudaStreamWaitEvent(r.other, r.captured, 0), cudaErrorInvalidValue,
            "a stream joins a broken capture");
        cr_expect_eq(status_of(r.other), cudaStreamCaptureStatusNone);
        expect_broken(&r, cudaErrorStreamCaptureInvalidated, "merged");
    }
    rig_close(&r);
}

/* Captures of two streams that have nothing to do with each other. */
Test(gpusim_capture, two_captures_side_by_side)
{
    struct rig r = rig_open(cudaStreamDefault);
    cudaGraph_t graph = NULL;
    begin(&r, cudaStreamCaptureModeGlobal);
    OK(cudaStreamBeginCapture(r.other, cudaStreamCaptureModeGlobal));
    OK(step_digit(r.q, 1, r.other));
    OK(cudaStreamEndCapture(r.other, &graph));
    OK(cudaGraphDestroy(graph));
    expect_whole(&r, 1, "side by side");
    rig_close(&r);
}

Test(gpusim_capture, streams_destroyed_while_captured)
{
    struct rig r = rig_open(cudaStreamDefault);
    for (int joined = 0; joined < 2; joined++) {
        cudaStream_t side;
        OK(cudaStreamCreate(&side));
        begin(&r, cudaStreamCaptureModeGlobal);
        fork_to(&r, side);
        if (joined)
            join_from(&r, side);
        OK(cudaStreamDestroy(side));
        if (joined)
            expect_whole(&r, 2, "a side stream destroyed after it was joined");
        else
            expect_unjoined(&r, "a side stream destroyed before it was joined");
    }
    cudaStream_t origin;
    OK(cudaStreamCreate(&origin));
    OK(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal));
    OK(cudaEventRecord(r.captured, origin));
    fork_to(&r, r.other);
    OK(cudaStreamDestroy(origin)); /* the capture ends with it */
    cr_expect_eq(status_of(r.other), cudaStreamCaptureStatusNone);
    OK(cudaDeviceSynchronize());
    rig_close(&r);
}
