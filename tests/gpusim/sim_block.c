/* Runs one block: its warps in turn, barriers between them. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

static int threads_waiting(const struct gpusim_block *b, uint32_t id)
{
    int n = 0;
    for (int i = 0; i < b->warps; i++)
        if (b->warp[i].state == WARP_AT_BARRIER && b->warp[i].barrier_id == id)
            n += GPUSIM_LANES;
    return n;
}

static void stuck(struct gpusim_block *b)
{
    char who[600];
    size_t n = 0;
    for (int i = 0; i < b->warps && n < sizeof who; i++) {
        const struct gpusim_warp *w = &b->warp[i];
        if (w->state == WARP_DONE)
            n += (size_t)snprintf(who + n, sizeof who - n, "\n    warp %d has ended", i);
        else
            n += (size_t)snprintf(who + n, sizeof who - n,
                "\n    warp %d waits at barrier %u, PTX line %d", i, w->barrier_id,
                b->kernel->code[w->pc].line);
    }
    for (int i = 0; i < b->warps; i++)
        if (b->warp[i].state == WARP_AT_BARRIER) {
            b->current = &b->warp[i];
            b->lane_hint = 0;
            b->inst = &b->kernel->code[b->current->pc];
        }
    gpusim_block_fail(b, cudaErrorLaunchFailure, "a barrier that not all threads reach:%s", who);
}

static void reduce_barrier(struct gpusim_block *b, uint32_t id)
{
    uint32_t count = 0, threads = 0;
    for (int i = 0; i < b->warps; i++) {
        const struct gpusim_warp *w = &b->warp[i];
        if (w->state == WARP_AT_BARRIER && w->barrier_id == id) {
            count += (uint32_t)__builtin_popcount(w->barrier_true);
            threads += (uint32_t)__builtin_popcount(w->live);
        }
    }
    for (int i = 0; i < b->warps; i++) {
        struct gpusim_warp *w = &b->warp[i];
        const struct gpusim_inst *inst = &b->kernel->code[w->pc];
        if (w->state != WARP_AT_BARRIER || w->barrier_id != id || inst->kind != KIND_BARRIER_REDUCE)
            continue;
        const uint32_t truth = inst->mode == 1 ? count == threads : count > 0;
        const uint32_t value = inst->mode == 0 ? count : truth ? UINT32_MAX : 0;
        uint32_t *to = (uint32_t *)(void *)(w->regs + inst->r[0]);
        for (uint32_t left = w->active; left; left &= left - 1)
            to[__builtin_ctz(left)] = value;
    }
}

/* Lets the warps go whose barrier is complete; false if there is none. */
static bool release(struct gpusim_block *b)
{
    bool any = false;
    for (uint32_t id = 0; id < 16; id++) {
        const int waiting = threads_waiting(b, id);
        if (!waiting)
            continue;
        int expected = 0, ended = 0;
        for (int i = 0; i < b->warps; i++) {
            ended += b->warp[i].state == WARP_DONE;
            if (b->warp[i].state == WARP_AT_BARRIER && b->warp[i].barrier_id == id)
                expected = (int)b->warp[i].barrier_count;
        }
        const bool all = expected == 0;
        if (all)
            expected =
                (b->warps - (b->options.checks & GPUSIM_CHECK_BARRIER ? 0 : ended)) * GPUSIM_LANES;
        if (waiting < expected)
            continue;
        reduce_barrier(b, id);
        for (int i = 0; i < b->warps; i++)
            if (b->warp[i].state == WARP_AT_BARRIER && b->warp[i].barrier_id == id) {
                b->warp[i].state = WARP_READY;
                b->warp[i].pc++;
            }
        b->barrier_epoch += expected == b->warps * GPUSIM_LANES || all;
        any = true;
    }
    return any;
}

static uint64_t next_random(struct gpusim_block *b)
{
    uint64_t x = b->random += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* One turn of the warps that are ready; false if none is. */
static bool turn(struct gpusim_block *b)
{
    int ready = 0;
    for (int i = 0; i < b->warps; i++)
        ready += b->warp[i].state == WARP_READY;
    if (!ready)
        return false;
    if (b->options.schedule == GPUSIM_RANDOM) {
        int chosen = (int)(next_random(b) % (uint64_t)ready);
        const uint64_t budget = 1 + next_random(b) % (uint64_t)b->options.quantum;
        for (int i = 0; i < b->warps; i++)
            if (b->warp[i].state == WARP_READY && chosen-- == 0) {
                gpusim_run_warp(b, &b->warp[i], budget);
                return true;
            }
    }
    for (int i = 0; i < b->warps; i++)
        if (b->warp[i].state == WARP_READY)
            gpusim_run_warp(b, &b->warp[i],
                b->options.schedule == GPUSIM_ROUND_ROBIN ? (uint64_t)b->options.quantum
                                                          : UINT64_MAX);
    return true;
}

static void start_warp(struct gpusim_block *b, struct gpusim_warp *w)
{
    const int left = b->threads - w->index * GPUSIM_LANES;
    w->launched = left >= GPUSIM_LANES ? UINT32_MAX : (1u << left) - 1;
    w->live = w->active = w->launched;
    w->state = WARP_READY;
    w->pc = 0;
    w->limit = UINT32_MAX;
    w->pending_count = 0;
    w->copy_count = 0;
    w->steps = 0;
    if (w->written)
        memset(w->written, 0, b->kernel->regs_bytes / GPUSIM_SLOT * sizeof *w->written);
    memset(w->committed, 0, sizeof w->committed);
    for (int axis = 0; axis < 3; axis++) {
        uint32_t *to = (uint32_t *)(void *)(w->regs + (SPECIAL_CTAID_X + axis) * GPUSIM_SLOT);
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            to[lane] = b->id[axis];
    }
}

void gpusim_block_run(struct gpusim_block *b)
{
    memset(b->shared, 0xcd, b->shared_bytes);
    if (b->shadow.written)
        memset(b->shadow.written, 0, b->shared_bytes);
    if (b->copies_in_flight)
        memset(b->in_flight, 0, (b->shared_bytes / 4 + 1) * sizeof *b->in_flight);
    b->copies_in_flight = 0;
    gpusim_release_start(b);
    for (int i = 0; i < b->warps; i++)
        start_warp(b, &b->warp[i]);
    b->random = b->options.seed ^ (uint64_t)b->number << 32 ^ b->launch->serial;
    gpusim_keep_subnormals(false);
    while (turn(b) || release(b))
        ;
    for (int i = 0; i < b->warps; i++)
        if (b->warp[i].state != WARP_DONE)
            stuck(b);
}
