/* gpusim's streams run late and in any order that CUDA allows, and in no other; graphs replay what
 * was captured, on what memory then holds. test_gpusim_capture.c has what a capture forbids. */
#include <criterion/criterion.h>

#include "gpusim.h"
#include "gpusim_rt.h"
#include "kernels/steps.h"

#include <cuda_runtime_api.h>
#include <stdbool.h>

enum { SEEDS = 40 };

#define OK(call) cr_assert_eq((call), cudaSuccess, "%s: %s", #call, gpusim_last_report())

static cudaStream_t stream, other;
static cudaEvent_t event;
static int *p, *q, *pinned;

/* The order of streams as the seed says; 0: eager. */
static void open_rig(uint64_t seed, unsigned flags)
{
    gpusim_set_streams(0);
    OK(cudaStreamCreateWithFlags(&stream, flags));
    OK(cudaStreamCreateWithFlags(&other, flags));
    OK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    OK(cudaMalloc((void **)&p, 64));
    OK(cudaMalloc((void **)&q, 64));
    OK(cudaMallocHost((void **)&pinned, 64));
    OK(cudaMemset(p, 0, 64));
    OK(cudaMemset(q, 0, 64));
    gpusim_set_streams(seed);
}

static void close_rig(void)
{
    OK(cudaStreamDestroy(stream));
    OK(cudaStreamDestroy(other));
    OK(cudaEventDestroy(event));
    OK(cudaFree(p));
    OK(cudaFree(q));
    OK(cudaFreeHost(pinned));
    cr_expect_eq(gpusim_alive(stdout), 0);
}

static int value_of(const int *device)
{
    int value = -1;
    OK(cudaMemcpy(&value, device, sizeof value, cudaMemcpyDeviceToHost));
    return value;
}

/* Counts the orders in which a program of several streams ends: bit n, if *p was found to be
 * orders[n]. Anything else fails. */
static unsigned orders_seen(void (*program)(void), unsigned flags, const int *orders, int count)
{
    unsigned seen = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        int at = 0, value;
        open_rig(seed, flags);
        program();
        OK(cudaDeviceSynchronize());
        value = value_of(p);
        while (at < count && orders[at] != value)
            at++;
        cr_expect_lt(at, count, "seed %d: %d", (int)seed, value);
        seen |= 1u << at;
        close_rig();
    }
    return seen;
}

/* ---- streams ---- */

static void two_streams(void)
{
    OK(step_digit(p, 1, stream));
    OK(step_digit(p, 2, stream));
    OK(step_digit(p, 3, other));
}

Test(gpusim_rt, streams_run_in_any_order_but_their_own)
{
    static const int orders[] = {123, 132, 312};
    cr_expect_eq(orders_seen(two_streams, cudaStreamDefault, orders, 3), 7u);
}

static void event_between(void)
{
    OK(step_digit(p, 1, stream));
    OK(cudaEventRecord(event, stream));
    OK(step_digit(q, 2, stream)); /* behind the event: in no order with the other stream */
    OK(cudaStreamWaitEvent(other, event, 0));
    OK(step_digit(p, 3, other));
}

Test(gpusim_rt, an_event_orders_two_streams)
{
    static const int orders[] = {13};
    cr_expect_eq(orders_seen(event_between, cudaStreamNonBlocking, orders, 1), 1u);
}

/* An event stands for its last record before the wait, not for a later one. */
static void event_recorded_again(void)
{
    OK(step_digit(p, 1, stream));
    OK(cudaEventRecord(event, stream));
    OK(cudaStreamWaitEvent(other, event, 0));
    OK(step_digit(p, 2, stream));
    OK(cudaEventRecord(event, stream));
    OK(step_digit(p, 3, other));
}

Test(gpusim_rt, a_later_record_is_not_waited_for)
{
    static const int orders[] = {123, 132};
    cr_expect_eq(orders_seen(event_recorded_again, cudaStreamNonBlocking, orders, 2), 3u);
}

static void legacy_between(void)
{
    OK(step_digit(p, 1, stream));
    OK(step_digit(p, 2, NULL));
    OK(step_digit(p, 3, other));
}

Test(gpusim_rt, the_legacy_stream_orders_streams_that_block)
{
    static const int orders[] = {123, 132, 213, 231, 312, 321};
    cr_expect_eq(orders_seen(legacy_between, cudaStreamDefault, orders, 1), 1u);
    cr_expect_gt(orders_seen(legacy_between, cudaStreamNonBlocking, orders, 6), 1u,
        "streams that do not block ran in the order of the program forty times");
}

/* A pinned source is read when the copy runs, a pageable one when the call is made. */
static void copies(int *source)
{
    *source = 1;
    OK(cudaMemcpyAsync(p, source, 4, cudaMemcpyHostToDevice, stream));
    *source = 2;
}

static void copy_of_pinned(void)
{
    copies(pinned);
}

static void copy_of_pageable(void)
{
    int pageable;
    copies(&pageable);
}

Test(gpusim_rt, sources_of_copies)
{
    static const int orders[] = {1, 2};
    cr_expect_eq(orders_seen(copy_of_pinned, cudaStreamDefault, orders, 2), 3u);
    cr_expect_eq(orders_seen(copy_of_pageable, cudaStreamDefault, orders, 1), 1u);
}

/* ---- graphs ---- */

static void count_call(void *user)
{
    ++*(int *)user;
}

/* *p = *q + 5, twice: a kernel, a copy from pinned memory, a fill, a call of the host. */
static cudaGraphExec_t record_all(int *calls)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    size_t nodes = 0;
    int b = 5;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(step_add(p, q, b, stream));
    b = 77; /* the node took its arguments when it was captured */
    OK(cudaMemcpyAsync(p + 1, pinned, 4, cudaMemcpyHostToDevice, stream));
    OK(cudaMemsetAsync(p + 2, 1, 4, stream));
    OK(cudaLaunchHostFunc(stream, count_call, calls));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphGetNodes(graph, NULL, &nodes));
    cr_expect_eq(nodes, 4u);
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph)); /* what is executed is a copy */
    return exec;
}

static void expect_replay(cudaGraphExec_t exec, cudaStream_t where, int value)
{
    OK(cudaMemcpy(q, &value, 4, cudaMemcpyHostToDevice));
    OK(cudaMemset(p, 0, 64));
    *pinned = 10 * value;
    OK(cudaGraphLaunch(exec, where));
    OK(cudaStreamSynchronize(where));
    cr_expect_eq(value_of(p), value + 5);
    cr_expect_eq(value_of(p + 1), 10 * value);
    cr_expect_eq(value_of(p + 2), 0x01010101);
}

Test(gpusim_rt, a_replay_does_what_was_captured_on_what_is_there_then)
{
    for (uint64_t seed = 0; seed < 4; seed++) {
        int calls = 0;
        open_rig(seed, cudaStreamDefault);
        cudaGraphExec_t exec = record_all(&calls);
        cr_expect_eq(value_of(p) + value_of(p + 2) + calls, 0, "capturing does nothing");
        expect_replay(exec, stream, 3);
        expect_replay(exec, stream, 4);
        expect_replay(exec, other, 5); /* in another stream */
        expect_replay(exec, NULL, 6);  /* in the legacy one */
        cr_expect_eq(calls, 4);
        OK(cudaGraphExecDestroy(exec));
        close_rig();
    }
}

static cudaGraphExec_t record_add(int b)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    OK(step_add(p, q, b, stream));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    return exec;
}

Test(gpusim_rt, handles_that_are_gone)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL, none = NULL;
    open_rig(0, cudaStreamDefault);
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0)); /* an empty graph is one too */
    OK(cudaGraphLaunch(exec, stream));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphExecDestroy(exec));
    cr_expect_eq(cudaGraphDestroy(graph), cudaErrorInvalidValue);
    cr_expect_eq(cudaGraphInstantiate(&none, graph, 0), cudaErrorInvalidValue);
    cr_expect_null(none);
    cr_expect_eq(cudaGraphExecDestroy(exec), cudaErrorInvalidValue);
    cr_expect_eq(cudaGraphLaunch(exec, stream), cudaErrorInvalidValue);
    close_rig();
}

Test(gpusim_rt, an_update_wants_the_same_shape)
{
    cudaGraph_t same = NULL, longer = NULL;
    cudaGraphExecUpdateResultInfo info;
    open_rig(3, cudaStreamDefault);
    cudaGraphExec_t exec = record_add(1);
    for (int n = 0; n < 2; n++) {
        OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        OK(step_add(p, q, 30, stream));
        if (n)
            OK(step_add(p, q, 40, stream));
        OK(cudaStreamEndCapture(stream, n ? &longer : &same));
    }
    OK(cudaGraphLaunch(exec, stream)); /* as it was before the update */
    cr_expect_eq(cudaGraphExecUpdate(exec, longer, &info), cudaErrorGraphExecUpdateFailure);
    cr_expect_eq(info.result, cudaGraphExecUpdateErrorTopologyChanged);
    OK(cudaGraphExecUpdate(exec, same, &info));
    cr_expect_eq(value_of(p), 1);
    OK(cudaGraphLaunch(exec, stream));
    OK(cudaStreamSynchronize(stream));
    cr_expect_eq(value_of(p), 30);
    OK(cudaGraphDestroy(same));
    OK(cudaGraphDestroy(longer));
    OK(cudaGraphExecDestroy(exec));
    close_rig();
}

/* 1, then 2 and 3 in any order, then 4. */
static void replay_fork(void)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    OK(step_digit(p, 1, stream));
    OK(cudaEventRecord(event, stream));
    OK(cudaStreamWaitEvent(other, event, 0));
    OK(step_digit(p, 2, stream));
    OK(step_digit(p, 3, other));
    OK(cudaEventRecord(event, other));
    OK(cudaStreamWaitEvent(stream, event, 0));
    OK(step_digit(p, 4, stream));
    OK(cudaStreamEndCapture(stream, &graph));
    OK(cudaGraphInstantiate(&exec, graph, 0));
    OK(cudaGraphDestroy(graph));
    OK(cudaGraphLaunch(exec, other));
    OK(cudaGraphExecDestroy(exec));
}

Test(gpusim_rt, a_replay_keeps_forks_and_joins)
{
    static const int orders[] = {1234, 1324};
    cr_expect_eq(orders_seen(replay_fork, cudaStreamDefault, orders, 2), 3u);
}

/* Launches of one executable graph come one after the other, whatever their streams. */
static bool second_launch_saw_the_copy(uint64_t seed, bool same)
{
    open_rig(seed, cudaStreamNonBlocking);
    cudaGraphExec_t first = record_add(0), second = same ? first : record_add(0);
    *pinned = 8;
    OK(cudaMemcpyAsync(q, pinned, 4, cudaMemcpyHostToDevice, stream));
    OK(cudaGraphLaunch(first, stream));
    OK(cudaGraphLaunch(second, other));
    OK(cudaMemcpyAsync(pinned + 1, p, 4, cudaMemcpyDeviceToHost, other));
    OK(cudaStreamSynchronize(other));
    bool saw = pinned[1] == 8;
    OK(cudaDeviceSynchronize());
    OK(cudaGraphExecDestroy(first));
    if (!same)
        OK(cudaGraphExecDestroy(second));
    close_rig();
    return saw;
}

Test(gpusim_rt, launches_of_one_graph_are_ordered)
{
    int same = 0, two = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        same += second_launch_saw_the_copy(seed, true);
        two += second_launch_saw_the_copy(seed, false);
    }
    cr_expect_eq(same, SEEDS);
    cr_expect_lt(two, SEEDS, "two graphs are not ordered, but were");
}

/* A device that fails before a graph's turn has come never runs it, and nobody waits for it. */
Test(gpusim_rt, a_graph_behind_a_failure, .timeout = 60)
{
    open_rig(5, cudaStreamDefault);
    cudaGraphExec_t exec = record_add(1);
    OK(step_trap(stream));
    OK(cudaGraphLaunch(exec, stream));
    cr_expect_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    cr_expect_eq(cudaGraphExecDestroy(exec), cudaErrorLaunchFailure);
    gpusim_reset();
    cr_expect_eq(value_of(p), 0);
    close_rig();
}
