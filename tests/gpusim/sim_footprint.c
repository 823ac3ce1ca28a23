/* Which sectors of global memory a launch touches at all, however often: what memory has to move
 * if a cache serves the rest. One bit a sector, for reads and for writes. */
#include "sim_core.h"

#include <stdlib.h>
#include <string.h>

enum { SECTOR = 32 };

static size_t map_bytes(const struct gpusim_allocation *a)
{
    return (size_t)(a->size / SECTOR / 8 + 1);
}

/* Before a launch: nothing is touched yet. */
bool gpusim_footprint_clear(struct gpusim_allocation *a)
{
    if (!a->touched)
        a->touched = malloc(2 * map_bytes(a));
    if (a->touched)
        memset(a->touched, 0, 2 * map_bytes(a));
    return a->touched != NULL;
}

void gpusim_footprint_close(struct gpusim_allocation *a)
{
    free(a->touched);
    a->touched = NULL;
}

/* Bytes of the sector if this is its first touch of the launch, else 0. */
uint64_t gpusim_footprint_touch(struct gpusim_allocation *a, uint64_t sector, bool write)
{
    const uint64_t first = a->start / SECTOR, bit = sector - first;
    unsigned char *byte = a->touched + (write ? map_bytes(a) : 0) + bit / 8;
    const unsigned char mask = (unsigned char)(1u << (bit & 7));
    if (__atomic_load_n(byte, __ATOMIC_RELAXED) & mask)
        return 0;
    return __atomic_fetch_or(byte, mask, __ATOMIC_RELAXED) & mask ? 0 : SECTOR;
}
