/* Memory of a network, decided once. Layers book buffers with a lifetime; the planner lays
 * them out so that buffers that live at the same time never overlap; afterwards nothing is
 * allocated. Moments: node i runs forward at moment i and backward at moment 2n-1-i. */
#ifndef OCT_PLAN_H
#define OCT_PLAN_H

#include "base/status.h"

#include <stdbool.h>

enum { OCT_PERSISTENT = -1 }; /* `first` of a buffer that outlives the step (weights, state) */

struct oct_buffer {
    char name[80]; /* node and tensor, for the table */
    size_t bytes;
    int first, last; /* moments, inclusive; OCT_PERSISTENT: always */
    bool kept;       /* by oct_plan_keep */
    size_t offset;
    void *data; /* set by oct_plan_place */
};

struct oct_plan;

enum oct_status oct_plan_open(struct oct_plan **out);
void oct_plan_close(struct oct_plan *plan);

/* Books `bytes`; the result stays valid (and its fields may be widened) until the layout. NULL only
 * when out of memory, which oct_plan_layout then reports. */
struct oct_buffer *oct_plan_book(struct oct_plan *plan, size_t bytes, int first, int last,
    const char *name, ...) __attribute__((format(printf, 5, 6)));

/* A persistent buffer is state: what a step may change and a skipped step must not have changed.
 * All state lies in one piece, with room for a copy of it, so that keeping it is one copy. */
void oct_plan_keep(struct oct_plan *plan, struct oct_buffer *buffer);

/* The state, and where it is kept; valid once placed. */
struct oct_plan_kept {
    void *now, *before;
    size_t bytes;
};
struct oct_plan_kept oct_plan_kept(const struct oct_plan *plan);

/* Extends a buffer's life so that it covers `moment`. */
void oct_plan_use(struct oct_buffer *buffer, int moment);

/* The largest workspace any op asks for; one buffer, live always. */
void oct_plan_workspace(struct oct_plan *plan, size_t bytes);
void *oct_plan_workspace_data(const struct oct_plan *plan);

/* Lays out. Two blocks of memory are wanted, aligned to 64 bytes: what persists, what moves. */
enum oct_status oct_plan_layout(struct oct_plan *plan, size_t *persistent, size_t *transient);

/* Sets every buffer's data inside the two blocks. */
void oct_plan_place(struct oct_plan *plan, void *persistent, void *transient);

/* The layout itself: a pure function of sizes and lifetimes. Sets offsets; returns the total. */
size_t oct_layout_buffers(struct oct_buffer **buffers, size_t count);

/* Bytes of buffers alive both at the end of forward and at the start of backward. */
size_t oct_plan_saved_bytes(const struct oct_plan *plan, int forward_moments);
size_t oct_plan_total_bytes(const struct oct_plan *plan);

/* The node/tensor/bytes/offset table; caller frees. NULL when out of memory. */
char *oct_plan_table(const struct oct_plan *plan, int batch);

static inline void *oct_buffer_data(const struct oct_buffer *buffer)
{
    return buffer ? buffer->data : NULL;
}

#endif
