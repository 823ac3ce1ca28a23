/* The inside of gpusim's runtime: streams are queues of operations; an operation runs when its turn
 * has come by the rules of CUDA, at once (eager) or late and in random order. */
#ifndef GPUSIM_RT_INSIDE_H
#define GPUSIM_RT_INSIDE_H

#include "gpusim_rt.h"
#include "sim_core.h"

#include <cuda_runtime_api.h>

enum rt_kind { RT_LAUNCH, RT_COPY, RT_FILL, RT_RECORD, RT_WAIT, RT_HOST, RT_GRAPH, RT_NOTHING };

struct rt_copy {
    void *to;
    const void *from;
    size_t bytes;
    void *staged; /* pageable source, copied when the call was made */
};

struct rt_fill {
    void *to;
    int value;
    size_t bytes;
};

struct rt_op {
    enum rt_kind kind;
    uint64_t number; /* order of enqueueing over all streams */
    union {
        struct gpusim_launch *launch; /* owned */
        struct rt_copy copy;
        struct rt_fill fill;
        struct {
            struct CUevent_st *event;
            uint64_t version;
        } event;
        struct {
            cudaHostFn_t call;
            void *user;
        } host;
        struct {
            struct CUgraphExec_st *exec;
            uint64_t turn; /* launches of an executable graph run one after the other */
        } graph;
    };
    struct rt_op *next;
};

/* A graph: operations, each after those named in `after`. */
struct rt_node {
    struct rt_op *op;
    int *after, after_count;
    bool awaited; /* another node or the end comes after it */
};

struct CUgraph_st {
    struct rt_node *nodes;
    int count, capacity;
    struct CUgraph_st *next; /* list of all */
};

struct CUgraphExec_st {
    struct CUgraph_st *graph;
    uint64_t launched, retired; /* launches so far, and those that are over */
    struct CUgraphExec_st *next;
};

struct rt_capture {
    struct CUgraph_st *graph;
    struct CUstream_st *origin;
    enum cudaStreamCaptureMode mode;
    unsigned long thread;
    bool invalid;
};

struct CUevent_st {
    unsigned flags;
    uint64_t recorded, passed; /* counts of records enqueued and run */
    double time;
    int waiting; /* operations that name it */
    bool destroyed;
    struct rt_capture *capture; /* last recorded in this capture, */
    int node;                   /* after this node */
    struct CUevent_st *next;
};

struct CUstream_st {
    struct rt_op *first, *last;
    bool blocking; /* takes part in the order of the legacy default stream */
    struct rt_capture *capture;
    int *tail, tail_count; /* nodes that the next captured operation comes after */
    struct CUstream_st *next;
};

struct rt_state {
    struct CUstream_st legacy, *streams;
    struct CUevent_st *events;
    struct CUgraph_st *graphs;
    struct CUgraphExec_st *execs;
    struct rt_capture *captures[16];
    uint64_t numbers; /* of operations */
    uint64_t random;  /* 0: eager */
};
extern struct rt_state rt;

/* Every entry of the API begins with one of these and returns its result through rt_return. 0, or
 * the error that the call must return without doing anything. */
cudaError_t rt_enter(enum gpusim_call kind);
/* For calls that are not safe while this thread, or any, captures, as the captures' modes say. */
cudaError_t rt_enter_unsafe(enum gpusim_call kind);
/* What makes these calls unsafe: breaks the captures that forbid them; with `whole_device` every
 * capture does, whatever its mode. */
cudaError_t rt_unsafe(bool whole_device);
cudaError_t rt_return(cudaError_t error);
/* An error found while an operation ran. With eager streams every later call returns it, otherwise
 * the next one that waits and all after that. */
void rt_device_failed(cudaError_t error);
/* After waiting: the device's error, if there is one. */
cudaError_t rt_waited(void);
/* One line for the report, and `error`. */
cudaError_t rt_misuse(cudaError_t error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A state to draw from, not 0: neighbouring seeds must not draw alike. */
uint64_t rt_seed(uint64_t seed);
uint64_t rt_draw(uint64_t below);

/* NULL, cudaStreamLegacy: the legacy default stream. NULL if there is no such stream. */
struct CUstream_st *rt_stream(cudaStream_t stream);
bool rt_is_event(const struct CUevent_st *event);
struct rt_op *rt_op_new(enum rt_kind kind);
void rt_op_free(struct rt_op *op);
struct rt_op *rt_op_copy(const struct rt_op *op);
void rt_op_run(struct rt_op *op);
/* The legacy default stream cannot be used while a blocking stream is captured; use breaks that. */
bool rt_legacy_blocked(void);
cudaError_t rt_legacy_use(void);
/* Takes the operation: into the stream's queue, or into the graph that is being captured. */
cudaError_t rt_enqueue(struct CUstream_st *stream, struct rt_op *op);
/* Runs until the stream's queue is empty; NULL: all queues. */
void rt_drain(struct CUstream_st *stream);
void rt_drain_event(struct CUevent_st *event);

/* rt_graph.c */
cudaError_t rt_capture_op(struct CUstream_st *stream, struct rt_op *op);
cudaError_t rt_capture_event(struct CUstream_st *stream, struct CUevent_st *event);
cudaError_t rt_capture_wait(struct CUstream_st *stream, struct CUevent_st *event);
void rt_capture_break(struct rt_capture *capture);
/* Ends the capture and frees its graph. */
void rt_capture_drop(struct rt_capture *capture);
void rt_graph_run(struct CUgraphExec_st *exec);

/* rt_memory.c */
bool rt_is_pinned(const void *p, size_t bytes);
int rt_pinned_alive(FILE *out);
#endif
