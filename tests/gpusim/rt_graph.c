/* Stream capture and graphs. A captured operation becomes a node that comes after the last nodes of
 * its stream; an event recorded in a captured stream carries the order to the stream that waits for
 * it, which then is captured too. Stricter than CUDA: host memory of a captured copy is pinned. */
#include "rt.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static struct CUgraph_st *graph_new(void)
{
    struct CUgraph_st *graph = must(calloc(1, sizeof *graph));
    graph->next = rt.graphs;
    rt.graphs = graph;
    return graph;
}

static void graph_empty(struct CUgraph_st *graph)
{
    for (int i = 0; i < graph->count; i++) {
        rt_op_free(graph->nodes[i].op);
        free(graph->nodes[i].after);
    }
    free(graph->nodes);
    free(graph);
}

static bool is_graph(const struct CUgraph_st *graph)
{
    for (const struct CUgraph_st *g = rt.graphs; g; g = g->next)
        if (g == graph)
            return true;
    return false;
}

static bool is_exec(const struct CUgraphExec_st *exec)
{
    for (const struct CUgraphExec_st *g = rt.execs; g; g = g->next)
        if (g == exec)
            return true;
    return false;
}

static void graph_free(struct CUgraph_st *graph)
{
    for (struct CUgraph_st **at = &rt.graphs; *at; at = &(*at)->next)
        if (*at == graph) {
            *at = graph->next;
            break;
        }
    graph_empty(graph);
}

static int graph_add(struct CUgraph_st *graph, struct rt_op *op, const int *after, int after_count)
{
    if (graph->count == graph->capacity) {
        graph->capacity = graph->capacity ? 2 * graph->capacity : 64;
        graph->nodes = must(realloc(graph->nodes, (size_t)graph->capacity * sizeof *graph->nodes));
    }
    struct rt_node *node = &graph->nodes[graph->count];
    *node = (struct rt_node){.op = op, .after_count = after_count};
    if (after_count > 0) {
        node->after = must(malloc((size_t)after_count * sizeof *after));
        memcpy(node->after, after, (size_t)after_count * sizeof *after);
    }
    for (int i = 0; i < after_count; i++)
        graph->nodes[after[i]].awaited = true;
    return graph->count++;
}

/* ---- capture ---- */

static void set_tail(struct CUstream_st *stream, int node)
{
    stream->tail = must(realloc(stream->tail, sizeof *stream->tail));
    stream->tail[0] = node;
    stream->tail_count = node >= 0;
}

static void join(struct CUstream_st *stream, struct rt_capture *capture)
{
    stream->capture = capture;
    stream->tail_count = 0;
}

/* Streams and events forget the capture. */
static void capture_end(struct rt_capture *capture)
{
    for (struct CUstream_st *s = rt.streams; s; s = s->next)
        if (s->capture == capture) {
            s->capture = NULL;
            s->tail_count = 0;
        }
    for (struct CUevent_st *e = rt.events; e; e = e->next)
        if (e->capture == capture)
            e->capture = NULL;
    for (size_t i = 0; i < sizeof rt.captures / sizeof rt.captures[0]; i++)
        if (rt.captures[i] == capture)
            rt.captures[i] = NULL;
    free(capture);
}

void rt_capture_break(struct rt_capture *capture)
{
    capture->invalid = true;
}

void rt_capture_drop(struct rt_capture *capture)
{
    graph_free(capture->graph);
    capture_end(capture);
}

cudaError_t rt_capture_op(struct CUstream_st *stream, struct rt_op *op)
{
    struct rt_capture *capture = stream->capture;
    cudaError_t error = capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (!error && op->kind == RT_COPY && op->copy.staged) {
        rt_capture_break(capture);
        error = rt_misuse(cudaErrorStreamCaptureUnsupported,
            "a captured copy of %zu bytes reads or writes host memory that is not pinned",
            op->copy.bytes);
    }
    if (!error && op->kind == RT_GRAPH) {
        rt_capture_break(capture);
        error = rt_misuse(cudaErrorStreamCaptureUnsupported,
            "a graph is launched in a stream that is being captured");
    }
    if (error)
        rt_op_free(op);
    else
        set_tail(stream, graph_add(capture->graph, op, stream->tail, stream->tail_count));
    return error;
}

/* The event stands behind everything the stream has captured: one node gathers it. */
cudaError_t rt_capture_event(struct CUstream_st *stream, struct CUevent_st *event)
{
    struct rt_capture *capture = stream->capture;
    if (capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (stream->tail_count != 1)
        set_tail(stream,
            graph_add(capture->graph, rt_op_new(RT_NOTHING), stream->tail, stream->tail_count));
    event->capture = capture;
    event->node = stream->tail[0];
    return cudaSuccess;
}

cudaError_t rt_capture_wait(struct CUstream_st *stream, struct CUevent_st *event)
{
    struct rt_capture *capture = event->capture;
    if (stream->capture && stream->capture->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (!capture) {
        rt_capture_break(stream->capture);
        return rt_misuse(cudaErrorStreamCaptureIsolation,
            "a captured stream waits for an event that was not recorded in this capture");
    }
    if (stream->capture && stream->capture != capture) {
        rt_capture_break(capture);
        rt_capture_break(stream->capture);
        return rt_misuse(cudaErrorStreamCaptureMerge, "two captures meet in one stream");
    }
    if (capture->invalid)
        return cudaErrorInvalidValue;
    if (stream == &rt.legacy) {
        rt_capture_break(capture);
        return rt_misuse(cudaErrorStreamCaptureImplicit,
            "the legacy default stream waits for an event of a capture");
    }
    if (!stream->capture)
        join(stream, capture);
    stream->tail =
        must(realloc(stream->tail, (size_t)(stream->tail_count + 1) * sizeof *stream->tail));
    stream->tail[stream->tail_count++] = event->node;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_CREATE);
    struct CUstream_st *stream = rt_stream(handle);
    size_t slot = 0, slots = sizeof rt.captures / sizeof rt.captures[0];
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && stream == &rt.legacy)
        error = rt_misuse(
            cudaErrorStreamCaptureUnsupported, "the legacy default stream cannot be captured");
    if (!error && stream->capture)
        error = rt_misuse(cudaErrorIllegalState, "the stream is being captured already");
    while (slot < slots && rt.captures[slot])
        slot++;
    if (!error && slot == slots)
        error = cudaErrorNotSupported;
    if (error)
        return rt_return(error);
    struct rt_capture *capture = must(calloc(1, sizeof *capture));
    capture->graph = graph_new();
    capture->origin = stream;
    capture->mode = mode;
    capture->thread = (unsigned long)pthread_self();
    rt.captures[slot] = capture;
    join(stream, capture);
    return rt_return(cudaSuccess);
}

/* Nodes that nothing comes after, besides the origin's last ones, are work of a stream that never
 * came back. */
static bool is_joined(const struct rt_capture *capture)
{
    const struct CUstream_st *origin = capture->origin;
    for (int i = 0; i < origin->tail_count; i++)
        capture->graph->nodes[origin->tail[i]].awaited = true;
    for (int i = 0; i < capture->graph->count; i++)
        if (!capture->graph->nodes[i].awaited)
            return false;
    return true;
}

/* Whether this call may end the capture of this stream at all; if not, it goes on. */
static cudaError_t check_end(const struct CUstream_st *stream)
{
    const struct rt_capture *capture = stream ? stream->capture : NULL;
    if (!stream)
        return cudaErrorInvalidResourceHandle;
    if (!capture)
        return rt_misuse(cudaErrorIllegalState, "the stream is not being captured");
    if (capture->origin != stream)
        return rt_misuse(cudaErrorStreamCaptureUnmatched,
            "a capture ends in another stream than the one it began in");
    if (capture->mode != cudaStreamCaptureModeRelaxed &&
        capture->thread != (unsigned long)pthread_self())
        return rt_misuse(cudaErrorStreamCaptureWrongThread,
            "a capture ends in another thread than the one it began in");
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY), refused = check_end(rt_stream(handle));
    *out = NULL;
    if (refused)
        return rt_return(error ? error : refused);
    struct rt_capture *capture = rt_stream(handle)->capture;
    if (!error && capture->invalid)
        error = cudaErrorStreamCaptureInvalidated;
    if (!error && !is_joined(capture))
        error = rt_misuse(cudaErrorStreamCaptureUnjoined,
            "work captured in another stream is not waited for before the capture ends");
    if (error) {
        rt_capture_drop(capture);
    } else {
        *out = capture->graph;
        capture_end(capture);
    }
    return rt_return(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *out)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && stream == &rt.legacy && rt_legacy_blocked())
        error = cudaErrorStreamCaptureImplicit; /* asking breaks nothing */
    if (!error)
        *out = !stream->capture           ? cudaStreamCaptureStatusNone
               : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                          : cudaStreamCaptureStatusActive;
    return rt_return(error);
}

/* ---- graphs ---- */

static struct CUgraph_st *graph_copy(const struct CUgraph_st *graph)
{
    struct CUgraph_st *copy = must(calloc(1, sizeof *copy));
    for (int i = 0; i < graph->count; i++)
        graph_add(copy, rt_op_copy(graph->nodes[i].op), graph->nodes[i].after,
            graph->nodes[i].after_count);
    return copy;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_CREATE);
    (void)flags;
    if (!error && !is_graph(graph))
        error = cudaErrorInvalidValue;
    if (error)
        return rt_return(error);
    struct CUgraphExec_st *exec = must(calloc(1, sizeof *exec));
    exec->graph = graph_copy(graph);
    exec->next = rt.execs;
    rt.execs = exec;
    *out = exec;
    return rt_return(cudaSuccess);
}

/* In an order that the nodes' edges allow, drawn at random unless streams are eager. */
void rt_graph_run(struct CUgraphExec_st *exec)
{
    const struct CUgraph_st *graph = exec->graph;
    bool *done = must(calloc((size_t)graph->count + 1, sizeof *done));
    int *ready = must(calloc((size_t)graph->count + 1, sizeof *ready));
    for (int left = graph->count; left > 0; left--) {
        int count = 0;
        for (int i = 0; i < graph->count && (count == 0 || rt.random); i++) {
            bool free_now = !done[i];
            for (int j = 0; free_now && j < graph->nodes[i].after_count; j++)
                free_now = done[graph->nodes[i].after[j]];
            if (free_now)
                ready[count++] = i;
        }
        int node = ready[count > 1 ? rt_draw((uint64_t)count) : 0];
        if (!gpusim_sticky)
            rt_op_run(graph->nodes[node].op);
        done[node] = true;
    }
    free(done);
    free(ready);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_LAUNCH);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && !is_exec(exec))
        error = cudaErrorInvalidValue;
    if (!error) {
        struct rt_op *op = rt_op_new(RT_GRAPH);
        op->graph.exec = exec;
        op->graph.turn = exec->launched++;
        error = rt_enqueue(stream, op);
    }
    return rt_return(error);
}

static void finish(struct CUgraphExec_st *exec)
{
    while (exec->retired < exec->launched)
        rt_drain(NULL);
}

static bool same_node(const struct rt_node *a, const struct rt_node *b)
{
    return a->op->kind == b->op->kind && a->after_count == b->after_count &&
           memcmp(a->after ? a->after : &a->after_count, b->after ? b->after : &b->after_count,
               (size_t)a->after_count * sizeof *a->after) == 0 &&
           (a->op->kind != RT_LAUNCH || a->op->launch->kernel == b->op->launch->kernel);
}

cudaError_t cudaGraphExecUpdate(
    cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_CREATE);
    if (!error && (!is_exec(exec) || !is_graph(graph)))
        error = cudaErrorInvalidValue;
    if (error)
        return rt_return(error);
    bool same = exec->graph->count == graph->count;
    for (int i = 0; same && i < graph->count; i++)
        same = same_node(&exec->graph->nodes[i], &graph->nodes[i]);
    memset(info, 0, sizeof *info);
    info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!same)
        return rt_return(cudaErrorGraphExecUpdateFailure);
    finish(exec);
    graph_empty(exec->graph);
    exec->graph = graph_copy(graph);
    return rt_return(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!is_graph(graph))
        return rt_return(error ? error : cudaErrorInvalidValue);
    graph_free(graph);
    return rt_return(error);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY), refused = rt_unsafe(false);
    if (refused || !is_exec(exec))
        return rt_return(error ? error : refused ? refused : cudaErrorInvalidValue);
    finish(exec);
    for (struct CUgraphExec_st **at = &rt.execs; *at; at = &(*at)->next)
        if (*at == exec) {
            *at = exec->next;
            break;
        }
    graph_empty(exec->graph);
    free(exec);
    return rt_return(error);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error && (!is_graph(graph) || nodes)) /* the count only */
        error = cudaErrorInvalidValue;
    if (!error)
        *count = (size_t)graph->count;
    return rt_return(error);
}
