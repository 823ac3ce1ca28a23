/* Device memory: host memory with a register of what is allocated, guard bytes around each piece
 * and a pattern inside, so that nothing starts with zeros by accident. */
#include "sim_core.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256, GUARD_BYTE = 0xa5, FRESH_BYTE = 0xff, REMEMBERED = 64 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct gpusim_allocation **live; /* by address */
static int live_count, live_capacity;
static struct gpusim_allocation freed[REMEMBERED]; /* for messages */
static uint32_t serial;
static size_t total;

static int first_above(uint64_t address)
{
    int low = 0, high = live_count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (live[middle]->start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *gpusim_alloc(size_t size)
{
    const size_t body = (size + GUARD - 1) / GUARD * GUARD;
    struct gpusim_allocation *a = calloc(1, sizeof *a);
    unsigned char *base = body < size ? NULL : aligned_alloc(GUARD, body + 2 * GUARD);
    if (!a || !base) {
        free(a);
        free(base);
        return NULL;
    }
    memset(base, GUARD_BYTE, GUARD);
    memset(base + GUARD, FRESH_BYTE, size);
    memset(base + GUARD + size, GUARD_BYTE, body - size + GUARD);
    a->base = base;
    a->start = (uint64_t)(uintptr_t)(base + GUARD);
    a->size = size;
    if (!gpusim_shadow_open(
            &a->shadow, size, false, gpusim_options().checks & GPUSIM_CHECK_MEMORY)) {
        free(a);
        free(base);
        return NULL;
    }
    pthread_mutex_lock(&mutex);
    a->serial = ++serial;
    total += size;
    if (live_count == live_capacity) {
        live_capacity = live_capacity ? 2 * live_capacity : 64;
        live = realloc(live, (size_t)live_capacity * sizeof(*live));
        if (!live)
            abort();
    }
    const int at = first_above(a->start);
    memmove(live + at + 1, live + at, (size_t)(live_count - at) * sizeof(*live));
    live[at] = a;
    live_count++;
    pthread_mutex_unlock(&mutex);
    return base + GUARD;
}

/* Guard bytes: the host reached past a pointer (kernels cannot). */
static void check_guards(const struct gpusim_allocation *a)
{
    const unsigned char *behind = a->base + GUARD + a->size;
    for (int i = 0; i < GUARD; i++)
        if (a->base[i] != GUARD_BYTE || behind[i] != GUARD_BYTE) {
            gpusim_report("host code wrote past the ends of the %llu-byte allocation #%u",
                (unsigned long long)a->size, a->serial);
            return;
        }
}

bool gpusim_release(void *pointer)
{
    pthread_mutex_lock(&mutex);
    const uint64_t address = (uint64_t)(uintptr_t)pointer;
    const int at = first_above(address) - 1;
    struct gpusim_allocation *a = at >= 0 && live[at]->start == address ? live[at] : NULL;
    if (a) {
        live_count--;
        memmove(live + at, live + at + 1, (size_t)(live_count - at) * sizeof(*live));
        total -= a->size;
        freed[a->serial % REMEMBERED] = *a;
    }
    pthread_mutex_unlock(&mutex);
    if (!a)
        return false;
    check_guards(a);
    gpusim_shadow_close(&a->shadow);
    gpusim_footprint_close(a);
    free(a->base);
    free(a);
    return true;
}

struct gpusim_allocation *gpusim_find_allocation(uint64_t address)
{
    pthread_mutex_lock(&mutex);
    const int at = first_above(address) - 1;
    struct gpusim_allocation *a = at >= 0 ? live[at] : NULL;
    pthread_mutex_unlock(&mutex);
    return a && address - a->start < a->size ? a : NULL;
}

bool gpusim_is_allocated(const void *pointer, size_t size)
{
    const uint64_t address = (uint64_t)(uintptr_t)pointer;
    const struct gpusim_allocation *a = gpusim_find_allocation(address);
    return a && size <= a->size && address - a->start <= a->size - size;
}

bool gpusim_footprints_clear(void)
{
    bool done = true;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < live_count; i++)
        done = gpusim_footprint_clear(live[i]) && done;
    pthread_mutex_unlock(&mutex);
    return done;
}

size_t gpusim_allocated(void)
{
    return total;
}

void gpusim_describe_address(uint64_t address, char *out, size_t capacity)
{
    pthread_mutex_lock(&mutex);
    const int at = first_above(address) - 1;
    const struct gpusim_allocation *below = at >= 0 ? live[at] : NULL;
    const struct gpusim_allocation *above = at + 1 < live_count ? live[at + 1] : NULL;
    const char *kind = NULL;
    uint64_t distance = 0;
    const struct gpusim_allocation *near = below;
    for (int i = 0; i < REMEMBERED && !kind; i++)
        if (freed[i].size && address - freed[i].start < freed[i].size &&
            !(below && address - below->start < below->size)) {
            near = &freed[i];
            distance = address - near->start;
            kind = "into the freed";
        }
    if (!kind && below && address - below->start < below->size) {
        distance = address - below->start;
        kind = "into the";
    } else if (!kind && below &&
               (!above || address - below->start - below->size < above->start - address)) {
        distance = address - below->start - below->size;
        kind = "behind the";
    } else if (!kind && above) {
        near = above;
        distance = above->start - address;
        kind = "before the";
    }
    if (kind)
        snprintf(out, capacity, "%#llx, %llu bytes %s %llu-byte allocation #%u",
            (unsigned long long)address, (unsigned long long)distance, kind,
            (unsigned long long)near->size, near->serial);
    else
        snprintf(out, capacity, "%#llx, nothing is allocated", (unsigned long long)address);
    pthread_mutex_unlock(&mutex);
}
