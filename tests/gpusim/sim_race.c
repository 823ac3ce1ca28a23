/* Shadow memory: who touched which bytes, and whether that is ordered with the others.
 *
 * A cell remembers the last write and the reads since, per 4-byte word; a word touched by a
 * narrower access gets a cell per byte for the rest of the block (shared) or launch (global). Two
 * accesses of one block are ordered if they are of one thread, lie on two sides of a barrier, or
 * are of one warp on two sides of a bar.warp.sync. Two blocks of a launch are ordered by fences and
 * atomics only, which order threads of one block too (sim_release.c); launches are. Atomics may
 * meet atomics. Reads may meet reads.
 *
 * Besides: shared memory that a cp.async still writes must not be touched before its wait, and, if
 * asked for, memory must be written before it is read. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 0xffff };

/* The last plain write, or the last atomic. An atomic must not hide the plain write before it from
 * the atomics of other threads, so they are kept apart. */
struct writing {
    uint64_t block;       /* launch and block; another launch's count as nothing */
    uint32_t epoch, sync; /* sync: bar.warp.sync count of the warp */
    uint32_t thread;
    uint16_t fences; /* the thread had made */
};

struct gpusim_cell {
    struct writing plain, atomic;
    uint64_t read_block;
    uint64_t split; /* the narrow cells count instead */
    uint32_t read_epoch, read_sync;
    uint16_t read_warp, read_lane; /* MANY: of several */
    uint16_t read_fences;          /* the thread had made */
    bool read_blocks;              /* of several */
};

struct toucher {
    uint64_t block;
    uint32_t epoch, sync;
    int warp, lane;
    unsigned how;
    bool global;
    const struct gpusim_block *in;
    uint64_t word; /* global memory: address of the cell */
    uint16_t fences;
};

static bool same_launch(uint64_t a, uint64_t b)
{
    return a >> 32 == b >> 32;
}

/* True if the earlier access by (block, epoch, sync, warp, lane) may happen at the same time. */
static bool unordered(
    const struct toucher *t, uint64_t block, uint32_t epoch, uint32_t sync, int warp, int lane)
{
    if (block != t->block)
        return t->global && same_launch(block, t->block);
    if (epoch != t->epoch)
        return false;
    if (warp != t->warp)
        return true;
    return sync == t->sync && lane != t->lane;
}

static bool ordered_by_fence(const struct toucher *t, struct gpusim_past past)
{
    if (!t->global)
        return false;
    past.word = t->word;
    return gpusim_release_orders(t->in, &past, t->warp * GPUSIM_LANES + t->lane);
}

static bool unordered_write(const struct toucher *t, const struct writing *w, bool atomic)
{
    return w->block &&
           unordered(t, w->block, w->epoch, w->sync, (int)(w->thread / GPUSIM_LANES),
               (int)(w->thread % GPUSIM_LANES)) &&
           !ordered_by_fence(t, (struct gpusim_past){.block = (uint32_t)w->block,
                                    .epoch = w->epoch,
                                    .thread = (int)w->thread,
                                    .fences = w->fences,
                                    .atomic = atomic});
}

static bool read_ordered(const struct gpusim_cell *c, const struct toucher *t)
{
    const bool one = c->read_warp != MANY && c->read_lane != MANY;
    return ordered_by_fence(t, (struct gpusim_past){.block = (uint32_t)c->read_block,
                                   .epoch = c->read_epoch,
                                   .thread = one ? c->read_warp * GPUSIM_LANES + c->read_lane : -1,
                                   .fences = c->read_fences});
}

static const char *conflict(const struct gpusim_cell *c, const struct toucher *t)
{
    const bool write = t->how & GPUSIM_WRITE, atomic = t->how & GPUSIM_ATOMIC_ACCESS;
    if (unordered_write(t, &c->plain, false) || (!atomic && unordered_write(t, &c->atomic, true)))
        return write ? "write after an unordered write" : "read after an unordered write";
    if (!write || !c->read_block)
        return NULL;
    if (c->read_blocks && same_launch(c->read_block, t->block))
        return "write after another block's read";
    if (unordered(t, c->read_block, c->read_epoch, c->read_sync, c->read_warp, c->read_lane) &&
        !read_ordered(c, t))
        return "write after an unordered read";
    return NULL;
}

static void note(struct gpusim_cell *c, const struct toucher *t)
{
    const bool atomic = t->how & GPUSIM_ATOMIC_ACCESS;
    if (t->how & GPUSIM_WRITE) {
        *(atomic ? &c->atomic : &c->plain) = (struct writing){.block = t->block,
            .epoch = t->epoch,
            .sync = t->sync,
            .thread = (uint32_t)(t->warp * GPUSIM_LANES + t->lane),
            .fences = t->fences};
        return;
    }
    if (atomic)
        return;
    const bool other_block = c->read_block != t->block;
    if (other_block || c->read_epoch != t->epoch) {
        c->read_blocks = other_block && t->global && same_launch(c->read_block, t->block)
                             ? true
                             : c->read_blocks && !other_block;
        c->read_block = t->block;
        c->read_epoch = t->epoch;
        c->read_sync = t->sync;
        c->read_warp = (uint16_t)t->warp;
        c->read_lane = (uint16_t)t->lane;
        c->read_fences = t->fences;
    } else if (c->read_warp != t->warp) {
        c->read_warp = MANY;
    } else if (c->read_sync != t->sync) {
        c->read_sync = t->sync;
        c->read_lane = (uint16_t)t->lane;
        c->read_fences = t->fences;
    } else if (c->read_lane != t->lane) {
        c->read_lane = MANY;
    }
}

/* `at`: byte offset inside the memory that the cells describe. */
static const char *touch(
    struct gpusim_shadow *shadow, uint64_t at, uint32_t bytes, struct toucher *t)
{
    const uint64_t key = t->global ? t->block >> 32 : t->block, base = t->word - at;
    for (uint64_t end = at + bytes; at < end;) {
        t->word = base + at / 4 * 4;
        struct gpusim_cell *word = &shadow->words[at / 4];
        const bool whole = at % 4 == 0 && end - at >= 4;
        if (whole && word->split != key) {
            const char *wrong = conflict(word, t);
            if (wrong)
                return wrong;
            note(word, t);
            at += 4;
            continue;
        }
        struct gpusim_cell *narrow = &shadow->bytes[at / 4 * 4];
        if (word->split != key) {
            for (int i = 0; i < 4; i++)
                narrow[i] = *word;
            word->split = key;
        }
        do {
            const char *wrong = conflict(&narrow[at % 4], t);
            if (wrong)
                return wrong;
            note(&narrow[at % 4], t);
            at++;
        } while (at % 4 && at < end);
    }
    return NULL;
}

/* ---- making and dropping shadows ---- */

bool gpusim_shadow_open(struct gpusim_shadow *shadow, uint64_t size, bool race, bool memory)
{
    const uint64_t words = size / 4 + 1;
    if (race && !shadow->words) {
        shadow->words = calloc(words, sizeof *shadow->words);
        shadow->bytes = calloc(words * 4, sizeof *shadow->bytes);
    }
    if (memory && !shadow->written)
        shadow->written = calloc(words * 4, 1);
    return !(race && (!shadow->words || !shadow->bytes)) && !(memory && !shadow->written);
}

void gpusim_shadow_close(struct gpusim_shadow *shadow)
{
    free(shadow->words);
    free(shadow->bytes);
    free(shadow->written);
    memset(shadow, 0, sizeof *shadow);
}

/* ---- hooks of the memory instructions ---- */

static void check_written(struct gpusim_block *b, struct gpusim_shadow *shadow, uint64_t at,
    uint32_t bytes, unsigned how, const char *name)
{
    if ((how & GPUSIM_WRITE) && !(how & GPUSIM_MODIFY)) {
        memset(shadow->written + at, 1, bytes);
        return;
    }
    for (uint32_t i = 0; i < bytes; i++)
        if (!shadow->written[at + i])
            gpusim_block_fail(b, cudaErrorLaunchFailure,
                "%s memory is read that nothing has written: byte %u of %u at offset %llu", name, i,
                bytes, (unsigned long long)at);
}

static struct toucher toucher_of(const struct gpusim_block *b, unsigned how, bool global)
{
    return (struct toucher){.block = (uint64_t)b->launch->serial << 32 | b->number,
        .epoch = (uint32_t)b->barrier_epoch,
        .sync = b->current->collective,
        .warp = b->current->index,
        .how = how,
        .global = global,
        .in = b};
}

/* Words that a cp.async still writes: the copy is not there before its thread has waited. */
static void check_in_flight(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask)
{
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        for (uint64_t w = address[lane] / 4; w <= (address[lane] + bytes - 1) / 4; w++)
            if (b->in_flight[w]) {
                b->lane_hint = (uint32_t)lane;
                gpusim_block_fail(b, cudaErrorLaunchFailure,
                    "shared memory at %llu is used while a cp.async of thread %u still writes it",
                    (unsigned long long)address[lane], b->in_flight[w] - 1u);
            }
    }
}

void gpusim_touch_shared(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask, unsigned how)
{
    struct toucher t = toucher_of(b, how, false);
    if (b->copies_in_flight && !(how & GPUSIM_COPY_DONE))
        check_in_flight(b, address, bytes, mask);
    if (!b->shadow.words && !b->shadow.written)
        return;
    for (uint32_t left = mask; left; left &= left - 1) {
        t.lane = __builtin_ctz(left);
        b->lane_hint = (uint32_t)t.lane;
        if (b->shadow.words) {
            const char *wrong = touch(&b->shadow, address[t.lane], bytes, &t);
            if (wrong)
                gpusim_block_fail(b, cudaErrorLaunchFailure,
                    "race in shared memory: %s, %u bytes at %llu", wrong, bytes,
                    (unsigned long long)address[t.lane]);
        }
        if (b->shadow.written)
            check_written(b, &b->shadow, address[t.lane], bytes, how, "shared");
    }
}

void gpusim_touch_global(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask, unsigned how)
{
    const unsigned checks = b->options.checks;
    const bool race = (checks & GPUSIM_CHECK_RACE_GLOBAL) != 0;
    const bool memory = (checks & GPUSIM_CHECK_MEMORY) != 0;
    if (!race && !memory)
        return;
    struct toucher t = toucher_of(b, how, true);
    for (uint32_t left = mask; left; left &= left - 1) {
        t.lane = __builtin_ctz(left);
        b->lane_hint = (uint32_t)t.lane;
        const uint64_t a = address[t.lane];
        struct gpusim_allocation *in = b->cached;
        if (!in || a < in->start || a >= in->start + in->size)
            in = b->cached = gpusim_find_allocation(a);
        if (race && !gpusim_shadow_open(&in->shadow, in->size, true, false))
            gpusim_block_fail(
                b, cudaErrorMemoryAllocation, "out of host memory for the race checker");
        const uint64_t at = a - in->start;
        t.word = a;
        t.fences = b->fenced ? b->fences[t.warp * GPUSIM_LANES + t.lane].count : 0;
        const char *wrong = race ? touch(&in->shadow, at, bytes, &t) : NULL;
        if (wrong)
            gpusim_block_fail(b, cudaErrorLaunchFailure,
                "race in global memory: %s, %u bytes at %llu of the %llu-byte allocation #%u",
                wrong, bytes, (unsigned long long)at, (unsigned long long)in->size, in->serial);
        if (memory && in->shadow.written)
            check_written(b, &in->shadow, at, bytes, how, "global");
        if (race && (how & GPUSIM_MODIFY))
            gpusim_release_atomic(b, a, bytes, t.lane);
    }
}

void gpusim_mark_written(const void *pointer, size_t size)
{
    const uint64_t address = (uint64_t)(uintptr_t)pointer;
    struct gpusim_allocation *in = gpusim_find_allocation(address);
    if (!in || !in->shadow.written || size > in->size - (address - in->start))
        return;
    memset(in->shadow.written + (address - in->start), 1, size);
}

/* ---- copies in flight ---- */

void gpusim_copy_begins(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask)
{
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        for (uint64_t w = address[lane] / 4; w < (address[lane] + bytes) / 4; w++)
            b->in_flight[w] = (uint16_t)(b->current->index * GPUSIM_LANES + lane + 1);
    }
    b->copies_in_flight += __builtin_popcount(mask);
}

void gpusim_copy_ends(struct gpusim_block *b, int lane, uint32_t at, uint32_t bytes)
{
    uint64_t address[GPUSIM_LANES] = {0};
    address[lane] = at;
    memset(b->in_flight + at / 4, 0, bytes / 4 * sizeof *b->in_flight);
    b->copies_in_flight--;
    gpusim_touch_shared(b, address, bytes, 1u << lane, GPUSIM_WRITE | GPUSIM_COPY_DONE);
}
