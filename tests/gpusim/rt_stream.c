/* Streams and events: queues of operations, and the order in which they may run. */
#include "rt.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rt_state rt = {.legacy = {.blocking = true}};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

/* ---- operations ---- */

struct rt_op *rt_op_new(enum rt_kind kind)
{
    struct rt_op *op = must(calloc(1, sizeof *op));
    op->kind = kind;
    return op;
}

static void event_release(struct CUevent_st *event)
{
    event->waiting--;
    if (!event->destroyed || event->waiting > 0)
        return;
    for (struct CUevent_st **at = &rt.events; *at; at = &(*at)->next)
        if (*at == event) {
            *at = event->next;
            break;
        }
    free(event);
}

void rt_op_free(struct rt_op *op)
{
    if (op->kind == RT_LAUNCH)
        gpusim_launch_free(op->launch);
    if (op->kind == RT_COPY)
        free(op->copy.staged);
    if (op->kind == RT_RECORD || op->kind == RT_WAIT)
        event_release(op->event.event);
    if (op->kind == RT_GRAPH)
        op->graph.exec->retired++;
    free(op);
}

static struct gpusim_launch *launch_copy(const struct gpusim_launch *launch)
{
    size_t bytes = (size_t)launch->kernel->param_bytes;
    struct gpusim_launch *copy = must(malloc(sizeof *copy));
    *copy = *launch;
    copy->params = must(calloc(1, bytes + 8));
    memcpy(copy->params, launch->params, bytes);
    return copy;
}

/* Graphs hold launches, copies, fills, host calls and empty nodes only. */
struct rt_op *rt_op_copy(const struct rt_op *op)
{
    struct rt_op *copy = must(malloc(sizeof *copy));
    *copy = *op;
    copy->next = NULL;
    if (op->kind == RT_LAUNCH)
        copy->launch = launch_copy(op->launch);
    return copy;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void rt_op_run(struct rt_op *op)
{
    int error = 0;
    switch (op->kind) {
    case RT_LAUNCH:
        error = gpusim_launch_run(op->launch);
        break;
    case RT_COPY:
        memmove(op->copy.to, op->copy.staged ? op->copy.staged : op->copy.from, op->copy.bytes);
        gpusim_mark_written(op->copy.to, op->copy.bytes);
        break;
    case RT_FILL:
        memset(op->fill.to, op->fill.value, op->fill.bytes);
        gpusim_mark_written(op->fill.to, op->fill.bytes);
        break;
    case RT_RECORD:
        op->event.event->passed = op->event.version;
        op->event.event->time = now();
        break;
    case RT_HOST:
        op->host.call(op->host.user);
        break;
    case RT_GRAPH:
        rt_graph_run(op->graph.exec);
        break;
    case RT_WAIT:
    case RT_NOTHING:
        break;
    }
    if (error)
        rt_device_failed((cudaError_t)error);
}

/* ---- order ---- */

/* True if an operation older than `number` waits in a blocking stream (`legacy`: in the legacy
 * one). */
static bool older_waits(bool legacy, uint64_t number)
{
    if (legacy)
        return rt.legacy.first && rt.legacy.first->number < number;
    for (const struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s->blocking && s->first && s->first->number < number)
            return true;
    return false;
}

static bool is_ready(const struct CUstream_st *stream)
{
    const struct rt_op *op = stream->first;
    if (!op)
        return false;
    if (op->kind == RT_WAIT && op->event.event->passed < op->event.version)
        return false;
    if (op->kind == RT_GRAPH && op->graph.exec->retired < op->graph.turn)
        return false;
    return !stream->blocking || !older_waits(stream != &rt.legacy, op->number);
}

static void run_first(struct CUstream_st *stream)
{
    struct rt_op *op = stream->first;
    stream->first = op->next;
    if (!stream->first)
        stream->last = NULL;
    /* A device that failed does nothing more; but who waits for an event must not wait for ever. */
    if (!gpusim_sticky || op->kind == RT_RECORD)
        rt_op_run(op);
    rt_op_free(op);
}

/* Runs one operation that may run; false if there is none. */
static bool run_some(void)
{
    struct CUstream_st *ready[64];
    int count = 0;
    if (is_ready(&rt.legacy))
        ready[count++] = &rt.legacy;
    for (struct CUstream_st *s = rt.streams; s && count < 64; s = s->next)
        if (is_ready(s))
            ready[count++] = s;
    if (count == 0)
        return false;
    run_first(ready[count > 1 ? rt_draw((uint64_t)count) : 0]);
    return true;
}

static bool is_pending(const struct CUstream_st *stream)
{
    if (stream)
        return stream->first != NULL;
    for (const struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s->first)
            return true;
    return rt.legacy.first != NULL;
}

void rt_drain(struct CUstream_st *stream)
{
    while (is_pending(stream))
        if (!run_some())
            abort(); /* a wait names an event recorded before it: there is always a first one */
}

void rt_drain_event(struct CUevent_st *event)
{
    while (event->passed < event->recorded)
        if (!run_some())
            abort();
}

bool rt_legacy_blocked(void)
{
    for (const struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s->blocking && s->capture)
            return true;
    return false;
}

cudaError_t rt_legacy_use(void)
{
    if (!rt_legacy_blocked())
        return cudaSuccess;
    for (struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s->blocking && s->capture)
            rt_capture_break(s->capture);
    return rt_misuse(cudaErrorStreamCaptureImplicit,
        "the legacy default stream is used while a blocking stream is being captured");
}

cudaError_t rt_enqueue(struct CUstream_st *stream, struct rt_op *op)
{
    if (stream->capture)
        return rt_capture_op(stream, op);
    cudaError_t error = stream == &rt.legacy ? rt_legacy_use() : cudaSuccess;
    if (error) {
        rt_op_free(op);
        return error;
    }
    op->number = ++rt.numbers;
    if (stream->last)
        stream->last->next = op;
    else
        stream->first = op;
    stream->last = op;
    if (rt.random == 0)
        rt_drain(NULL);
    else
        for (uint64_t n = rt_draw(4); n > 0 && rt_draw(2) == 0; n--)
            (void)run_some();
    return cudaSuccess;
}

void gpusim_set_streams(uint64_t seed)
{
    rt_drain(NULL);
    rt.random = seed ? rt_seed(seed) : 0;
}

/* ---- streams ---- */

struct CUstream_st *rt_stream(cudaStream_t stream)
{
    if (!stream || stream == cudaStreamLegacy)
        return &rt.legacy;
    for (struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s == stream)
            return s;
    return NULL;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_CREATE);
    if (error)
        return rt_return(error);
    struct CUstream_st *stream = must(calloc(1, sizeof *stream));
    stream->blocking = !(flags & cudaStreamNonBlocking);
    stream->next = rt.streams;
    rt.streams = stream;
    *out = stream;
    return rt_return(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct CUstream_st *stream = handle ? rt_stream(handle) : NULL;
    if (!stream || stream == &rt.legacy)
        return rt_return(error ? error : cudaErrorInvalidResourceHandle);
    if (stream->capture && stream->capture->origin == stream)
        rt_capture_drop(stream->capture);
    rt_drain(stream);
    for (struct CUstream_st **at = &rt.streams; *at; at = &(*at)->next)
        if (*at == stream) {
            *at = stream->next;
            break;
        }
    free(stream->tail);
    free(stream);
    return rt_return(error);
}

/* Neither a captured stream nor, by the captures' modes, another one may be waited for or asked. */
static cudaError_t check_wait(struct CUstream_st *stream)
{
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    if (stream->capture) {
        rt_capture_break(stream->capture);
        return rt_misuse(cudaErrorStreamCaptureUnsupported,
            "a stream that is being captured is waited for or asked whether it is done");
    }
    cudaError_t error = stream == &rt.legacy ? rt_legacy_use() : cudaSuccess;
    return error ? error : rt_unsafe(false);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_SYNC);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error)
        error = check_wait(stream);
    if (!error) {
        rt_drain(stream);
        error = rt_waited();
    }
    return rt_return(error);
}

cudaError_t cudaStreamQuery(cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error)
        error = check_wait(stream);
    if (!error) {
        (void)run_some();
        error = stream->first ? cudaErrorNotReady : rt_waited();
    }
    return rt_return(error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_SYNC);
    if (!error)
        error = rt_unsafe(true);
    if (!error) {
        rt_drain(NULL);
        error = rt_waited();
    }
    return rt_return(error);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t call, void *user)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_LAUNCH);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && (!stream || !call))
        error = cudaErrorInvalidValue;
    if (!error) {
        struct rt_op *op = rt_op_new(RT_HOST);
        op->host.call = call;
        op->host.user = user;
        error = rt_enqueue(stream, op);
    }
    return rt_return(error);
}

/* ---- events ---- */

bool rt_is_event(const struct CUevent_st *event)
{
    for (const struct CUevent_st *e = rt.events; e; e = e->next)
        if (e == event)
            return !e->destroyed;
    return false;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_CREATE);
    if (error)
        return rt_return(error);
    struct CUevent_st *event = must(calloc(1, sizeof *event));
    event->flags = flags;
    event->next = rt.events;
    rt.events = event;
    *out = event;
    return rt_return(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!rt_is_event(event))
        return rt_return(error ? error : cudaErrorInvalidResourceHandle);
    event->destroyed = true;
    event->waiting++;
    event_release(event);
    return rt_return(error);
}

static struct rt_op *event_op(enum rt_kind kind, struct CUevent_st *event, uint64_t version)
{
    struct rt_op *op = rt_op_new(kind);
    op->event.event = event;
    op->event.version = version;
    event->waiting++;
    return op;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && (!stream || !rt_is_event(event)))
        error = cudaErrorInvalidResourceHandle;
    if (!error && stream->capture) {
        error = rt_capture_event(stream, event);
    } else if (!error) {
        event->capture = NULL;
        error = rt_enqueue(stream, event_op(RT_RECORD, event, ++event->recorded));
    }
    return rt_return(error);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct CUstream_st *stream = rt_stream(handle);
    (void)flags;
    if (!error && (!stream || !rt_is_event(event)))
        error = cudaErrorInvalidResourceHandle;
    if (!error && (stream->capture || event->capture))
        error = rt_capture_wait(stream, event);
    else if (!error)
        error = rt_enqueue(stream, event_op(RT_WAIT, event, event->recorded));
    return rt_return(error);
}

/* An event of a capture will never pass. */
static cudaError_t check_event(struct CUevent_st *event)
{
    if (!rt_is_event(event))
        return cudaErrorInvalidResourceHandle;
    if (!event->capture)
        return cudaSuccess;
    rt_capture_break(event->capture);
    return rt_misuse(cudaErrorCapturedEvent,
        "an event that was last recorded in a captured stream is waited for or asked for");
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_SYNC);
    if (!error)
        error = check_event(event);
    if (!error)
        error = rt_unsafe(false);
    if (!error) {
        rt_drain_event(event);
        error = rt_waited();
    }
    return rt_return(error);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error)
        error = check_event(event);
    if (!error)
        error = rt_unsafe(false);
    if (!error) {
        (void)run_some();
        error = event->passed < event->recorded ? cudaErrorNotReady : rt_waited();
    }
    return rt_return(error);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error)
        error = check_event(start);
    if (!error)
        error = check_event(end);
    if (!error && ((start->flags | end->flags) & cudaEventDisableTiming || !start->recorded ||
                      !end->recorded))
        error = cudaErrorInvalidResourceHandle;
    if (!error && (start->passed < start->recorded || end->passed < end->recorded))
        error = cudaErrorNotReady;
    if (!error)
        *ms = (float)(1e3 * (end->time - start->time));
    return rt_return(error);
}

/* ---- what is left ---- */

static int count_list(FILE *out, const char *what, int count)
{
    if (out && count > 0)
        fprintf(out, "gpusim: %d %s%s not freed\n", count, what, count == 1 ? "" : "s");
    return count;
}

int gpusim_alive(FILE *out)
{
    int streams = 0, events = 0, graphs = 0, execs = 0;
    for (const struct CUstream_st *s = rt.streams; s; s = s->next)
        streams++;
    for (const struct CUevent_st *e = rt.events; e; e = e->next)
        events += !e->destroyed;
    for (const struct CUgraph_st *g = rt.graphs; g; g = g->next)
        graphs++;
    for (const struct CUgraphExec_st *g = rt.execs; g; g = g->next)
        execs++;
    return rt_pinned_alive(out) + count_list(out, "stream", streams) +
           count_list(out, "event", events) + count_list(out, "graph", graphs) +
           count_list(out, "executable graph", execs);
}
