/* Runs a warp: its lanes together as far as they agree on the way. Lanes that diverge form groups;
 * the group that is furthest behind runs, so that structured code comes together again without any
 * analysis of it. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#include <xmmintrin.h>
#endif

uint32_t gpusim_lanes_true(const void *predicate)
{
#if defined(__SSE2__)
    const __m128i *p = predicate;
    uint32_t bits = 0;
    for (int half = 0; half < 2; half++, p += 4) {
        __m128i low = _mm_packs_epi32(_mm_load_si128(p), _mm_load_si128(p + 1));
        __m128i high = _mm_packs_epi32(_mm_load_si128(p + 2), _mm_load_si128(p + 3));
        bits |= (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high)) << 16 * half;
    }
    return bits;
#else
    uint32_t bits = 0, lane[GPUSIM_LANES];
    memcpy(lane, predicate, sizeof lane);
    for (int l = 0; l < GPUSIM_LANES; l++)
        bits |= (lane[l] & 1) << l;
    return bits;
#endif
}

void gpusim_keep_subnormals(bool keep)
{
#if defined(__SSE2__)
    _mm_setcsr(keep ? 0x1f80 : 0x9fc0);
#else
    (void)keep;
#endif
}

void gpusim_block_fail(struct gpusim_block *b, int error, const char *format, ...)
{
    char what[1024], text[160] = "";
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    const uint32_t *dim = b->launch->block;
    const int thread = b->current ? b->current->index * GPUSIM_LANES + (int)b->lane_hint : 0;
    if (b->inst)
        gpusim_line_text(b->kernel->text, b->inst->line, text, sizeof text);
    gpusim_report("%s: %s\n    block (%u,%u,%u), thread (%u,%u,%u), PTX line %d: %s",
        b->kernel->name, what, b->id[0], b->id[1], b->id[2], (uint32_t)thread % dim[0],
        (uint32_t)thread / dim[0] % dim[1], (uint32_t)thread / (dim[0] * dim[1]),
        b->inst ? b->inst->line : 0, text);
    longjmp(b->stop, error);
}

/* ---- groups of lanes ---- */

static void set_limit(struct gpusim_warp *w)
{
    w->limit = UINT32_MAX;
    for (int i = 0; i < w->pending_count; i++)
        if (w->pending[i].pc >= w->pc) {
            w->limit = w->pending[i].pc;
            return;
        }
}

/* Puts a group among the pending ones, which are in order of pc; equal pcs become one group. */
static void add_pending(struct gpusim_warp *w, uint32_t pc, uint32_t mask, bool waiting)
{
    int at = 0;
    while (at < w->pending_count && w->pending[at].pc < pc)
        at++;
    if (at < w->pending_count && w->pending[at].pc == pc) {
        w->pending[at].mask |= mask;
        w->pending[at].waiting = waiting;
        return;
    }
    memmove(&w->pending[at + 1], &w->pending[at],
        (size_t)(w->pending_count - at) * sizeof w->pending[0]);
    w->pending[at] = (struct gpusim_group){pc, mask, waiting};
    w->pending_count++;
}

/* Makes the lowest group that can run the current one; false if there is none. */
static bool next_group(struct gpusim_warp *w)
{
    for (int i = 0; i < w->pending_count; i++) {
        if (w->pending[i].waiting)
            continue;
        w->pc = w->pending[i].pc;
        w->active = w->pending[i].mask;
        w->pending_count--;
        memmove(&w->pending[i], &w->pending[i + 1],
            (size_t)(w->pending_count - i) * sizeof w->pending[0]);
        set_limit(w);
        return true;
    }
    w->active = 0;
    return false;
}

/* The current group meets the pending one at its pc. */
static void merge(struct gpusim_warp *w)
{
    for (int i = 0; i < w->pending_count; i++)
        if (w->pending[i].pc == w->pc) {
            w->active |= w->pending[i].mask;
            w->pending_count--;
            memmove(&w->pending[i], &w->pending[i + 1],
                (size_t)(w->pending_count - i) * sizeof w->pending[0]);
            break;
        }
    set_limit(w);
}

/* The lanes of `taken` go to `target`, the other active ones to the next instruction. */
static void branch(struct gpusim_warp *w, uint32_t target, uint32_t taken)
{
    if (w->pending_count == 0 && (taken == w->active || taken == 0)) {
        w->pc = taken ? target : w->pc + 1;
        return;
    }
    const uint32_t others = w->active & ~taken, next = w->pc + 1;
    if (taken)
        add_pending(w, target, taken, false);
    if (others)
        add_pending(w, next, others, false);
    next_group(w);
}

static void describe_lanes(const struct gpusim_warp *w, char *out, size_t capacity)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < w->pending_count && n < capacity; i++)
        n += (size_t)snprintf(out + n, capacity - n, "%s lanes %08x at instruction %u",
            i ? "," : "", w->pending[i].mask, w->pending[i].pc);
}

/* The current group must wait for other lanes of its warp; fails if none of them can move. */
static void wait_for_lanes(struct gpusim_block *b, struct gpusim_warp *w, const char *what)
{
    const uint32_t mask = w->active;
    add_pending(w, w->pc, mask, true);
    if (next_group(w))
        return;
    char lanes[300];
    describe_lanes(w, lanes, sizeof lanes);
    b->lane_hint = (uint32_t)__builtin_ctz(mask);
    gpusim_block_fail(b, cudaErrorLaunchFailure,
        "%s: lanes %08x wait for others that never come (live lanes %08x;%s)", what, mask, w->live,
        lanes);
}

/* Lanes whose guard is false pass by an instruction that the others must execute together. */
static void split_off(struct gpusim_warp *w, uint32_t mask)
{
    if (mask != w->active) {
        add_pending(w, w->pc + 1, w->active & ~mask, false);
        w->active = mask;
        set_limit(w);
    }
}

/* True if the lanes that each active lane names are here too and name the same. */
static bool members_present(
    struct gpusim_block *b, struct gpusim_warp *w, uint32_t slot, const char *what)
{
    uint32_t members[GPUSIM_LANES];
    memcpy(members, w->regs + slot, sizeof members);
    for (uint32_t left = w->active; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        const uint32_t named = members[lane];
        b->lane_hint = (uint32_t)lane;
        if (!(named >> lane & 1))
            gpusim_block_fail(b, cudaErrorLaunchFailure,
                "%s: the lane is not in the mask %08x that it gives", what, named);
        if (named & ~w->live)
            gpusim_block_fail(b, cudaErrorLaunchFailure,
                "%s: the mask %08x names lanes %08x that have ended or never were", what, named,
                named & ~w->live);
        if (named & ~w->active) {
            wait_for_lanes(b, w, what);
            return false;
        }
        for (uint32_t peers = named; peers; peers &= peers - 1)
            if (members[__builtin_ctz(peers)] != named)
                gpusim_block_fail(b, cudaErrorLaunchFailure,
                    "%s: lanes %d and %d meet with different masks %08x and %08x", what, lane,
                    __builtin_ctz(peers), named, members[__builtin_ctz(peers)]);
    }
    return true;
}

/* ---- one warp ---- */

/* All lanes of the warp must be here: true once they are. */
static bool whole_warp(struct gpusim_block *b, struct gpusim_warp *w, const char *what)
{
    if (w->active == w->live)
        return true;
    wait_for_lanes(b, w, what);
    return false;
}

static void arrive(struct gpusim_block *b, struct gpusim_warp *w, const struct gpusim_inst *inst)
{
    if (!whole_warp(b, w, "barrier"))
        return;
    const bool reduces = inst->kind == KIND_BARRIER_REDUCE;
    uint32_t id, count;
    memcpy(&id, w->regs + inst->r[reduces ? 1 : 0], sizeof id);
    memcpy(&count, w->regs + inst->r[reduces ? 2 : 1], sizeof count);
    b->lane_hint = (uint32_t)__builtin_ctz(w->live);
    if (id > 15 || count % GPUSIM_LANES || count > (uint32_t)b->warps * GPUSIM_LANES)
        gpusim_block_fail(b, cudaErrorLaunchFailure, "barrier %u of %u threads", id, count);
    if (w->live != w->launched && (b->options.checks & GPUSIM_CHECK_BARRIER))
        gpusim_block_fail(b, cudaErrorLaunchFailure,
            "lanes %08x of the warp have ended without reaching this barrier",
            w->launched & ~w->live);
    w->barrier_id = id;
    w->barrier_count = count;
    if (reduces) {
        w->barrier_true = gpusim_lanes_true(w->regs + inst->r[3]);
        w->barrier_true = (inst->operand_not ? ~w->barrier_true : w->barrier_true) & w->live;
    }
    w->state = WARP_AT_BARRIER;
}

static void end_lanes(struct gpusim_warp *w, uint32_t mask)
{
    w->live &= ~mask;
    const uint32_t rest = w->active & ~mask;
    if (rest)
        add_pending(w, w->pc + 1, rest, false);
    if (next_group(w))
        return;
    if (w->live == 0) {
        w->state = WARP_DONE;
        return;
    }
    /* Those that wait look again who is still there. */
    for (int i = 0; i < w->pending_count; i++)
        w->pending[i].waiting = false;
    next_group(w);
}

static void branch_table(
    struct gpusim_block *b, struct gpusim_warp *w, const struct gpusim_inst *inst, uint32_t mask)
{
    const uint32_t *table = b->kernel->tables + inst->target;
    uint32_t index[GPUSIM_LANES];
    memcpy(index, w->regs + inst->r[0], sizeof index);
    const uint32_t others = w->active & ~mask, next = w->pc + 1;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        b->lane_hint = (uint32_t)lane;
        if (index[lane] >= table[0])
            gpusim_block_fail(
                b, cudaErrorLaunchFailure, "branch table index %u of %u", index[lane], table[0]);
        add_pending(w, table[1 + index[lane]], 1u << lane, false);
    }
    if (others)
        add_pending(w, next, others, false);
    next_group(w);
}

static void check_divisor(
    struct gpusim_block *b, struct gpusim_warp *w, const struct gpusim_inst *inst, uint32_t mask)
{
    const unsigned char *divisor = w->regs + inst->r[2];
    const bool wide = (inst->wide & 2) != 0;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        uint64_t value = 0;
        memcpy(&value, divisor + lane * (wide ? 8 : 4), wide ? 8 : 4);
        if (value == 0) {
            b->lane_hint = (uint32_t)lane;
            gpusim_block_fail(b, cudaErrorLaunchFailure, "integer division by zero");
        }
    }
}

/* Warp-wide instruction: true if it was executed. */
static bool collective(
    struct gpusim_block *b, struct gpusim_warp *w, const struct gpusim_inst *inst, uint32_t mask)
{
    split_off(w, mask);
    switch (inst->kind) {
    case KIND_WARP_BARRIER:
        if (!members_present(b, w, inst->r[0], "bar.warp.sync"))
            return false;
        w->collective += w->active == w->live;
        return true;
    case KIND_SHUFFLE:
        if (!members_present(b, w, inst->r[5], "shfl.sync"))
            return false;
        gpusim_shuffle(b, inst, mask);
        return true;
    case KIND_VOTE:
        if (!members_present(b, w, inst->r[2], "vote.sync"))
            return false;
        gpusim_vote(b, inst, mask);
        return true;
    case KIND_MATCH:
        if (!members_present(b, w, inst->r[3], "match.sync"))
            return false;
        gpusim_match(b, inst, mask);
        return true;
    case KIND_REDUX:
        if (!members_present(b, w, inst->r[2], "redux.sync"))
            return false;
        gpusim_redux(b, inst, mask);
        return true;
    default:
        break;
    }
    const char *what = inst->kind == KIND_MMA ? "mma" : "ldmatrix";
    if (!whole_warp(b, w, what))
        return false;
    if (w->live != UINT32_MAX) {
        b->lane_hint = (uint32_t)__builtin_ctz(w->live);
        gpusim_block_fail(
            b, cudaErrorLaunchFailure, "%s needs all 32 lanes; here are %08x", what, w->live);
    }
    if (inst->kind == KIND_MMA)
        gpusim_mma(b, inst);
    else
        gpusim_ldmatrix(b, inst, mask);
    return true;
}

/* Control flow and what else changes the groups: executes and moves the pc. */
static void execute_control(
    struct gpusim_block *b, struct gpusim_warp *w, const struct gpusim_inst *inst, uint32_t mask)
{
    switch (inst->kind) {
    case KIND_BRANCH:
        branch(w, inst->target, mask);
        return;
    case KIND_BRANCH_TABLE:
        branch_table(b, w, inst, mask);
        return;
    case KIND_EXIT:
        end_lanes(w, mask);
        return;
    case KIND_TRAP:
        if (mask) {
            b->lane_hint = (uint32_t)__builtin_ctz(mask);
            gpusim_block_fail(b, cudaErrorLaunchFailure, "trap");
        }
        w->pc++;
        return;
    case KIND_BARRIER:
    case KIND_BARRIER_REDUCE:
        if (!mask) {
            w->pc++;
            return;
        }
        split_off(w, mask);
        arrive(b, w, inst);
        return;
    default:
        if (!mask || collective(b, w, inst, mask))
            w->pc++;
    }
}

static void execute_memory(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    struct gpusim_warp *w = b->current;
    switch (inst->kind) {
    case KIND_LOAD:
        gpusim_load(b, inst, mask);
        return;
    case KIND_STORE:
        gpusim_store(b, inst, mask);
        return;
    case KIND_ATOMIC:
        gpusim_atomic(b, inst, mask);
        return;
    case KIND_CP_ASYNC:
        gpusim_cp_async(b, inst, mask);
        return;
    case KIND_CP_COMMIT:
        gpusim_cp_commit(b, mask);
        return;
    case KIND_CP_WAIT:
        gpusim_cp_wait(b, inst, mask);
        return;
    case KIND_FENCE:
        gpusim_fence(b, mask);
        return;
    case KIND_ACTIVE_MASK: {
        uint32_t *to = (uint32_t *)(void *)(w->regs + inst->r[0]);
        for (uint32_t left = mask; left; left &= left - 1)
            to[__builtin_ctz(left)] = w->active;
        return;
    }
    default:
        return;
    }
}

void gpusim_run_warp(struct gpusim_block *b, struct gpusim_warp *w, uint64_t budget)
{
    const struct gpusim_inst *code = b->kernel->code;
    uint64_t *executed = b->executed;
    b->current = w;
    for (uint64_t done = 0; done < budget && w->state == WARP_READY; done++) {
        if (w->pc == w->limit)
            merge(w);
        const struct gpusim_inst *inst = code + w->pc;
        uint32_t mask = w->active;
        executed[w->pc]++;
        b->inst = inst;
        if (inst->guard) {
            const uint32_t holds = gpusim_lanes_true(w->regs + inst->guard);
            mask &= inst->guard_not ? ~holds : holds;
        }
        if (inst->init_reads | inst->init_writes)
            gpusim_flow_check(b, inst, mask);
        if (inst->kind >= KIND_BRANCH && inst->kind < KIND_LOAD) {
            execute_control(b, w, inst, mask);
            continue;
        }
        if (mask) {
            if (inst->kind == KIND_ALU) {
                inst->run(inst, w->regs, mask);
            } else if (inst->kind == KIND_ALU_IEEE) {
                gpusim_keep_subnormals(true);
                inst->run(inst, w->regs, mask);
                gpusim_keep_subnormals(false);
            } else if (inst->kind == KIND_DIVIDE) {
                check_divisor(b, w, inst, mask);
                inst->run(inst, w->regs, mask);
            } else {
                execute_memory(b, inst, mask);
            }
        }
        w->pc++;
        if (++w->steps > b->options.max_steps)
            gpusim_block_fail(b, cudaErrorLaunchTimeout, "no end after %llu instructions of a warp",
                (unsigned long long)w->steps);
    }
}
