/* Order between the blocks of a launch, for the race checker: a thread of block A writes, fences
 * and works on a word with an atomic; block B's atomic on that word comes later and finds it. Then
 * what stood before the fence is ordered before what B does behind its atomic: in the thread that
 * made it at once, in the others behind a barrier. This is how the last block of a grid may read
 * what all others left.
 *
 * What stands before a fence: the thread's own accesses, and those of the whole block before the
 * last barrier; a thread's fence counts for another thread's atomic if a barrier lies between. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

struct release {
    uint64_t word; /* address of the atomic */
    uint32_t bytes;
    uint32_t block;
    uint32_t fence_epoch; /* of the thread's last fence; all the block did before it stands */
    uint16_t thread, fences;
    uint16_t *settled; /* per thread of the block: fences before its last barrier */
};

/* Of the launch that runs; the race checker runs one block after the other. */
static struct {
    struct release *item;
    int count, capacity;
} releases;

static uint32_t settled_fences(const struct gpusim_fences *f, uint32_t epoch)
{
    return f->epoch < epoch ? f->count : f->settled;
}

static void out_of_memory(struct gpusim_block *b)
{
    gpusim_block_fail(b, cudaErrorMemoryAllocation, "out of host memory for the race checker");
}

void gpusim_fence(struct gpusim_block *b, uint32_t mask)
{
    const uint32_t epoch = (uint32_t)b->barrier_epoch;
    if (!(b->options.checks & GPUSIM_CHECK_RACE_GLOBAL))
        return;
    if (!b->fences && !(b->fences = calloc((size_t)b->warps * GPUSIM_LANES, sizeof *b->fences)))
        out_of_memory(b);
    b->fenced = true;
    for (uint32_t left = mask; left; left &= left - 1) {
        struct gpusim_fences *f =
            &b->fences[b->current->index * GPUSIM_LANES + __builtin_ctz(left)];
        f->settled = (uint16_t)settled_fences(f, epoch);
        f->epoch = epoch;
        f->count += f->count < UINT16_MAX;
    }
}

void gpusim_release_start(struct gpusim_block *b)
{
    if (b->fenced)
        memset(b->fences, 0, (size_t)b->warps * GPUSIM_LANES * sizeof *b->fences);
    b->fenced = false;
    b->acquired_count = 0;
}

static bool overlaps(uint64_t a, uint32_t a_bytes, uint64_t b, uint32_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

static void acquire(struct gpusim_block *b, uint64_t word, uint32_t bytes, int thread)
{
    bool any = false;
    for (int i = 0; i < releases.count && !any; i++)
        any = overlaps(releases.item[i].word, releases.item[i].bytes, word, bytes);
    if (!any)
        return;
    if (b->acquired_count == b->acquired_capacity) {
        const int capacity = b->acquired_capacity ? 2 * b->acquired_capacity : 32;
        void *more = realloc(b->acquired, (size_t)capacity * sizeof *b->acquired);
        if (!more)
            out_of_memory(b);
        b->acquired = more;
        b->acquired_capacity = capacity;
    }
    b->acquired[b->acquired_count++] = (struct gpusim_acquire){.word = word,
        .bytes = bytes,
        .epoch = (uint32_t)b->barrier_epoch,
        .thread = thread,
        .releases = releases.count};
}

static struct release *new_release(struct gpusim_block *b)
{
    if (releases.count == releases.capacity) {
        const int capacity = releases.capacity ? 2 * releases.capacity : 64;
        void *more = realloc(releases.item, (size_t)capacity * sizeof *releases.item);
        if (!more)
            out_of_memory(b);
        releases.item = more;
        releases.capacity = capacity;
    }
    uint16_t *settled = calloc((size_t)b->warps * GPUSIM_LANES, sizeof *settled);
    if (!settled)
        out_of_memory(b);
    releases.item[releases.count] = (struct release){.settled = settled};
    return &releases.item[releases.count++];
}

static void release(struct gpusim_block *b, uint64_t word, uint32_t bytes, int thread)
{
    const uint32_t epoch = (uint32_t)b->barrier_epoch;
    const struct gpusim_fences *mine = &b->fences[thread];
    struct release *r = new_release(b);
    r->word = word;
    r->bytes = bytes;
    r->block = b->number;
    r->thread = (uint16_t)thread;
    r->fences = mine->count;
    r->fence_epoch = mine->count ? mine->epoch : 0;
    for (int i = 0; i < b->warps * GPUSIM_LANES; i++)
        r->settled[i] = (uint16_t)settled_fences(&b->fences[i], epoch);
}

void gpusim_release_atomic(struct gpusim_block *b, uint64_t word, uint32_t bytes, int lane)
{
    const int thread = b->current->index * GPUSIM_LANES + lane;
    if (releases.count)
        acquire(b, word, bytes, thread);
    if (b->fenced)
        release(b, word, bytes, thread);
}

static bool covers(const struct release *r, const struct gpusim_past *past)
{
    if (past->atomic && overlaps(past->word, 4, r->word, r->bytes))
        return true; /* the atomic itself, or one before it */
    if (r->fences && past->epoch < r->fence_epoch)
        return true;
    if (past->thread < 0)
        return false;
    return past->fences < r->settled[past->thread] ||
           (past->thread == r->thread && past->fences < r->fences);
}

bool gpusim_release_orders(const struct gpusim_block *b, const struct gpusim_past *past, int thread)
{
    const uint32_t epoch = (uint32_t)b->barrier_epoch;
    for (int i = 0; i < b->acquired_count; i++) {
        const struct gpusim_acquire *a = &b->acquired[i];
        if (a->thread != thread && a->epoch == epoch)
            continue;
        for (int j = 0; j < a->releases; j++) {
            const struct release *r = &releases.item[j];
            if (r->block == past->block && overlaps(r->word, r->bytes, a->word, a->bytes) &&
                covers(r, past))
                return true;
        }
    }
    return false;
}

void gpusim_release_forget(void)
{
    for (int i = 0; i < releases.count; i++)
        free(releases.item[i].settled);
    releases.count = 0;
}
