#include "base/plan.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 256 };

struct oct_plan {
    struct oct_buffer **buffers;
    size_t count, capacity;
    struct oct_buffer *workspace;
    struct oct_buffer *before; /* copy of the state, or NULL: there is none */
    void *state;
    bool out_of_memory;
    size_t persistent_bytes, transient_bytes;
};

enum oct_status oct_plan_open(struct oct_plan **out)
{
    struct oct_plan *plan = calloc(1, sizeof *plan);
    if (!plan)
        return oct_fail(OCT_NOMEM, "no memory for a memory plan");
    *out = plan;
    return OCT_OK;
}

void oct_plan_close(struct oct_plan *plan)
{
    if (!plan)
        return;
    for (size_t i = 0; i < plan->count; i++)
        free(plan->buffers[i]);
    free(plan->buffers);
    free(plan);
}

static bool reserve(struct oct_plan *plan)
{
    if (plan->count < plan->capacity)
        return true;
    size_t capacity = plan->capacity ? 2 * plan->capacity : 256;
    struct oct_buffer **grown = realloc(plan->buffers, capacity * sizeof(struct oct_buffer *));
    if (!grown)
        return false;
    plan->buffers = grown;
    plan->capacity = capacity;
    return true;
}

struct oct_buffer *oct_plan_book(
    struct oct_plan *plan, size_t bytes, int first, int last, const char *name, ...)
{
    struct oct_buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer || !reserve(plan)) {
        free(buffer);
        plan->out_of_memory = true;
        return NULL;
    }
    va_list args;
    va_start(args, name);
    vsnprintf(buffer->name, sizeof buffer->name, name, args);
    va_end(args);
    buffer->bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    buffer->first = first;
    buffer->last = last;
    plan->buffers[plan->count++] = buffer;
    return buffer;
}

void oct_plan_keep(struct oct_plan *plan, struct oct_buffer *buffer)
{
    if (!plan->before)
        plan->before = oct_plan_book(plan, 0, OCT_PERSISTENT, 0, "state before the step");
    buffer->kept = true;
}

struct oct_plan_kept oct_plan_kept(const struct oct_plan *plan)
{
    if (!plan->before)
        return (struct oct_plan_kept){0};
    return (struct oct_plan_kept){
        .now = plan->state, .before = plan->before->data, .bytes = plan->before->bytes};
}

void oct_plan_use(struct oct_buffer *buffer, int moment)
{
    if (!buffer || buffer->first == OCT_PERSISTENT)
        return;
    if (moment < buffer->first)
        buffer->first = moment;
    if (moment > buffer->last)
        buffer->last = moment;
}

void oct_plan_workspace(struct oct_plan *plan, size_t bytes)
{
    if (!plan->workspace)
        plan->workspace = oct_plan_book(plan, 0, 0, INT_MAX, "workspace");
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (plan->workspace && plan->workspace->bytes < bytes)
        plan->workspace->bytes = bytes;
}

void *oct_plan_workspace_data(const struct oct_plan *plan)
{
    return oct_buffer_data(plan->workspace);
}

static int larger_first(const void *a_, const void *b_)
{
    const struct oct_buffer *a = *(struct oct_buffer *const *)a_;
    const struct oct_buffer *b = *(struct oct_buffer *const *)b_;
    if (a->bytes != b->bytes)
        return a->bytes > b->bytes ? -1 : 1;
    if (a->first != b->first)
        return a->first - b->first;
    return strcmp(a->name, b->name);
}

static bool alive_together(const struct oct_buffer *a, const struct oct_buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset at which `buffer` touches none of the `placed` ones that live with it. */
static size_t lowest_gap(const struct oct_buffer *buffer, struct oct_buffer **placed, size_t count)
{
    size_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = 0; i < count; i++) {
            const struct oct_buffer *other = placed[i];
            if (!alive_together(buffer, other) || offset >= other->offset + other->bytes ||
                other->offset >= offset + buffer->bytes)
                continue;
            offset = other->offset + other->bytes;
            moved = true;
        }
    }
    return offset;
}

size_t oct_layout_buffers(struct oct_buffer **buffers, size_t count)
{
    size_t total = 0;
    qsort(buffers, count, sizeof(struct oct_buffer *), larger_first);
    for (size_t i = 0; i < count; i++) {
        buffers[i]->offset = lowest_gap(buffers[i], buffers, i);
        size_t end = buffers[i]->offset + buffers[i]->bytes;
        if (end > total)
            total = end;
    }
    return total;
}

/* Persistent buffers one after another: the state first, in one piece, then the others. */
static size_t lay_out_persistent(struct oct_plan *plan)
{
    size_t offset = 0;
    for (int others = 0; others < 2; others++) {
        for (size_t i = 0; i < plan->count; i++) {
            struct oct_buffer *buffer = plan->buffers[i];
            if (buffer->first != OCT_PERSISTENT || buffer->kept == (others == 1))
                continue;
            buffer->offset = offset;
            offset += buffer->bytes;
        }
        if (others == 0 && plan->before)
            plan->before->bytes = offset;
    }
    return offset;
}

enum oct_status oct_plan_layout(struct oct_plan *plan, size_t *persistent, size_t *transient)
{
    struct oct_buffer **moving = malloc((plan->count + 1) * sizeof(struct oct_buffer *));
    size_t moving_count = 0;

    if (plan->out_of_memory || !moving) {
        free(moving);
        return oct_fail(OCT_NOMEM, "no memory for the memory plan");
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->buffers[i]->first != OCT_PERSISTENT)
            moving[moving_count++] = plan->buffers[i];
    }
    plan->persistent_bytes = lay_out_persistent(plan);
    plan->transient_bytes = oct_layout_buffers(moving, moving_count);
    free(moving);
    *persistent = plan->persistent_bytes;
    *transient = plan->transient_bytes;
    return OCT_OK;
}

void oct_plan_place(struct oct_plan *plan, void *persistent, void *transient)
{
    plan->state = persistent;
    for (size_t i = 0; i < plan->count; i++) {
        struct oct_buffer *buffer = plan->buffers[i];
        char *base = buffer->first == OCT_PERSISTENT ? persistent : transient;
        buffer->data = base + buffer->offset;
    }
}

size_t oct_plan_saved_bytes(const struct oct_plan *plan, int forward_moments)
{
    size_t saved = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const struct oct_buffer *buffer = plan->buffers[i];
        if (buffer != plan->workspace && buffer->first != OCT_PERSISTENT &&
            buffer->first < forward_moments && buffer->last >= forward_moments)
            saved += buffer->bytes;
    }
    return saved;
}

size_t oct_plan_total_bytes(const struct oct_plan *plan)
{
    return plan->persistent_bytes + plan->transient_bytes;
}

char *oct_plan_table(const struct oct_plan *plan, int batch)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fprintf(out, "%-44s %12s %12s %7s %7s\n", "node / tensor", "bytes", "offset", "first", "last");
    for (size_t i = 0; i < plan->count; i++) {
        const struct oct_buffer *b = plan->buffers[i];
        if (b->first == OCT_PERSISTENT)
            fprintf(out, "%-44s %12zu %12zu  always\n", b->name, b->bytes, b->offset);
        else
            fprintf(out, "%-44s %12zu %12zu %7d %7d\n", b->name, b->bytes, b->offset, b->first,
                b->last == INT_MAX ? -1 : b->last);
    }
    fprintf(out,
        "weights and state %zu bytes, activations %zu bytes at batch %d (%.2f MiB/image)\n",
        plan->persistent_bytes, plan->transient_bytes, batch,
        (double)plan->transient_bytes / batch / 1048576.0);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
