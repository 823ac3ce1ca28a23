/* Loads, stores, atomics, ldmatrix and cp.async: addresses, bounds, data. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t u16_any __attribute__((may_alias));
typedef int16_t s16_any __attribute__((may_alias));
typedef uint32_t u32_any __attribute__((may_alias));
typedef int32_t s32_any __attribute__((may_alias));
typedef uint64_t u64_any __attribute__((may_alias));

void gpusim_addresses(const struct gpusim_block *b, uint32_t slot, int64_t offset, bool wide,
    bool shared, uint64_t out[GPUSIM_LANES])
{
    const unsigned char *regs = b->current->regs + slot;
    if (slot == 0) {
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            out[lane] = (uint64_t)offset;
    } else if (wide) {
        const u64_any *base = (const u64_any *)(const void *)regs;
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            out[lane] = base[lane] + (uint64_t)offset;
    } else {
        const u32_any *base = (const u32_any *)(const void *)regs;
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            out[lane] = base[lane] + (uint64_t)offset;
    }
    if (shared)
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            out[lane] &= UINT32_MAX;
}

static void check_alignment(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask)
{
    uint64_t bits = 0;
    for (int lane = 0; lane < GPUSIM_LANES; lane++)
        bits |= mask >> lane & 1 ? address[lane] : 0;
    if (!(bits & (bytes - 1)))
        return;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (address[lane] & (bytes - 1)) {
            b->lane_hint = (uint32_t)lane;
            gpusim_block_fail(b, cudaErrorMisalignedAddress, "%u-byte access at %#llx", bytes,
                (unsigned long long)address[lane]);
        }
    }
}

/* Every lane inside [0, limit). */
static void check_range(struct gpusim_block *b, const uint64_t *address, uint32_t bytes,
    uint32_t mask, uint64_t limit, const char *name)
{
    check_alignment(b, address, bytes, mask);
    uint64_t highest = 0;
    for (int lane = 0; lane < GPUSIM_LANES; lane++) {
        const uint64_t a = mask >> lane & 1 ? address[lane] : 0;
        highest = a > highest ? a : highest;
    }
    if (highest < limit && highest + bytes <= limit)
        return;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (address[lane] >= limit || address[lane] + bytes > limit) {
            b->lane_hint = (uint32_t)lane;
            gpusim_block_fail(b, cudaErrorIllegalAddress,
                "%s memory out of bounds: %u bytes at %lld of %llu", name, bytes,
                (long long)address[lane], (unsigned long long)limit);
        }
    }
}

void gpusim_check_shared(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask)
{
    check_range(b, address, bytes, mask, b->shared_bytes, "shared");
}

static bool inside(const struct gpusim_allocation *a, uint64_t low, uint64_t end)
{
    return a && !a->freed && low >= a->start && end <= a->start + a->size;
}

void gpusim_check_global(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask, bool write)
{
    check_alignment(b, address, bytes, mask);
    uint64_t low = UINT64_MAX, high = 0;
    for (int lane = 0; lane < GPUSIM_LANES; lane++) {
        const uint64_t a = address[lane];
        const bool on = mask >> lane & 1;
        low = on && a < low ? a : low;
        high = on && a > high ? a : high;
    }
    if (inside(b->cached, low, high + bytes))
        return;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        const uint64_t a = address[lane];
        if (inside(b->cached, a, a + bytes))
            continue;
        struct gpusim_allocation *found = gpusim_find_allocation(a);
        if (inside(found, a, a + bytes)) {
            b->cached = found;
            continue;
        }
        char where[160];
        gpusim_describe_address(a, where, sizeof where);
        b->lane_hint = (uint32_t)lane;
        gpusim_block_fail(b, cudaErrorIllegalAddress, "global %s of %u bytes out of bounds: %s",
            write ? "write" : "read", bytes, where);
    }
}

/* ---- counting ---- */

static void count_sectors(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask, bool write)
{
    uint64_t sector[5 * GPUSIM_LANES],
        *footprint = write ? &b->memory.footprint_written : &b->memory.footprint_read;
    int count = 0, total = 0;
    for (uint32_t left = mask; left; left &= left - 1) {
        const uint64_t a = address[__builtin_ctz(left)];
        total += (int)bytes;
        for (uint64_t s = a / 32; s <= (a + bytes - 1) / 32; s++) {
            int i = count - 1;
            while (i >= 0 && sector[i] != s)
                i--;
            if (i >= 0)
                continue;
            sector[count++] = s;
            if (!inside(b->cached, s * 32, s * 32 + 1))
                b->cached = gpusim_find_allocation(a);
            *footprint += gpusim_footprint_touch(b->cached, s, write);
        }
    }
    b->memory.sectors += (uint64_t)count;
    b->memory.sectors_ideal += (uint64_t)(total + 31) / 32;
    *(write ? &b->memory.bytes_written : &b->memory.bytes_read) += (uint64_t)total;
}

/* Shared memory has 32 banks of 4 bytes and serves 128 bytes at a time: 4-byte accesses of a whole
 * warp, 8-byte accesses of half of one, 16-byte accesses of a quarter. */
static void count_wavefronts(
    struct gpusim_block *b, const uint64_t *address, uint32_t bytes, uint32_t mask)
{
    const int lanes = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
    for (int first = 0; first < GPUSIM_LANES; first += lanes) {
        uint64_t word[32][32];
        int used[32] = {0}, most = 0;
        for (int lane = first; lane < first + lanes; lane++) {
            if (!(mask >> lane & 1))
                continue;
            for (uint64_t w = address[lane] / 4; w <= (address[lane] + bytes - 1) / 4; w++) {
                const int bank = (int)(w & 31);
                int i = used[bank] - 1;
                while (i >= 0 && word[bank][i] != w)
                    i--;
                if (i < 0)
                    word[bank][used[bank]++] = w;
                if (used[bank] > most)
                    most = used[bank];
            }
        }
        b->memory.wavefronts += (uint64_t)most;
        b->memory.wavefronts_ideal += most > 0;
    }
}

/* ---- where the data lies ---- */

static enum gpusim_space space_of(uint64_t address)
{
    switch (address & GPUSIM_WINDOW_MASK) {
    case GPUSIM_SHARED_WINDOW:
        return SPACE_SHARED;
    case GPUSIM_LOCAL_WINDOW:
        return SPACE_LOCAL;
    case GPUSIM_PARAM_WINDOW:
        return SPACE_PARAM;
    default:
        return SPACE_GLOBAL;
    }
}

/* The address of a lane that takes part; 0 for others, whose registers may hold anything. */
static inline uint64_t place_of(const uint64_t *address, uint32_t mask, int lane)
{
    return mask >> lane & 1 ? address[lane] : 0;
}

/* Checks the lanes of `mask`, all in one space, and gives the host pointer of each. */
static void locate(struct gpusim_block *b, uint64_t *address, enum gpusim_space space,
    uint32_t bytes, uint32_t mask, unsigned how, unsigned char **data)
{
    const bool write = how & GPUSIM_WRITE;
    switch (space) {
    case SPACE_SHARED:
        gpusim_check_shared(b, address, bytes, mask);
        if (b->options.count_memory)
            count_wavefronts(b, address, bytes, mask);
        gpusim_touch_shared(b, address, bytes, mask, how);
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            data[lane] = b->shared + place_of(address, mask, lane);
        return;
    case SPACE_LOCAL:
        check_range(b, address, bytes, mask, b->kernel->local_bytes, "local");
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            data[lane] = b->local + place_of(address, mask, lane) +
                         (size_t)(b->current->index * GPUSIM_LANES + lane) * b->kernel->local_bytes;
        return;
    case SPACE_PARAM:
        check_range(b, address, bytes, mask, (uint64_t)b->kernel->param_bytes, "parameter");
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            data[lane] = b->launch->params + place_of(address, mask, lane);
        return;
    default:
        gpusim_check_global(b, address, bytes, mask, write);
        if (b->options.count_memory)
            count_sectors(b, address, bytes, mask, write);
        gpusim_touch_global(b, address, bytes, mask, how);
        for (int lane = 0; lane < GPUSIM_LANES; lane++)
            data[lane] = (unsigned char *)(uintptr_t)address[lane];
    }
}

/* Calls `move` for each space that the lanes of a generic access point into. */
typedef void move_data(
    struct gpusim_block *, const struct gpusim_inst *, unsigned char **data, uint32_t mask);

static void access_memory(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t slot,
    uint32_t mask, unsigned how, move_data *move)
{
    uint64_t address[GPUSIM_LANES];
    unsigned char *data[GPUSIM_LANES];
    const uint32_t bytes = (uint32_t)inst->size * inst->vec;
    gpusim_addresses(b, slot, inst->offset, inst->wide & 1, inst->space == SPACE_SHARED, address);
    if (inst->space != SPACE_GENERIC) {
        locate(b, address, inst->space, bytes, mask, how, data);
        move(b, inst, data, mask);
        return;
    }
    while (mask) {
        const enum gpusim_space space = space_of(address[__builtin_ctz(mask)]);
        uint32_t part = 0;
        for (uint32_t left = mask; left; left &= left - 1) {
            const int lane = __builtin_ctz(left);
            if (space_of(address[lane]) != space)
                continue;
            part |= 1u << lane;
            if (space != SPACE_GLOBAL)
                address[lane] &= ~GPUSIM_WINDOW_MASK;
        }
        if ((how & GPUSIM_WRITE) && space == SPACE_PARAM)
            gpusim_block_fail(b, cudaErrorIllegalAddress, "a write to the parameters");
        locate(b, address, space, bytes, part, how, data);
        move(b, inst, data, part);
        mask &= ~part;
    }
}

#define MOVE_IN(slot_type, memory_type)                                                            \
    do {                                                                                           \
        slot_type *to = (slot_type *)(void *)(regs + inst->r[v]);                                  \
        if (mask == UINT32_MAX) {                                                                  \
            for (int lane = 0; lane < GPUSIM_LANES; lane++)                                        \
                to[lane] = (slot_type)((const memory_type *)(const void *)data[lane])[v];          \
        } else {                                                                                   \
            for (uint32_t left = mask; left; left &= left - 1) {                                   \
                const int lane = __builtin_ctz(left);                                              \
                to[lane] = (slot_type)((const memory_type *)(const void *)data[lane])[v];          \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void move_in_wide(
    const struct gpusim_inst *inst, unsigned char *regs, unsigned char **data, uint32_t mask, int v)
{
    switch (inst->type) {
    case TYPE_U8:
        MOVE_IN(u64_any, uint8_t);
        return;
    case TYPE_S8:
        MOVE_IN(u64_any, int8_t);
        return;
    case TYPE_U16:
        MOVE_IN(u64_any, u16_any);
        return;
    case TYPE_S16:
        MOVE_IN(u64_any, s16_any);
        return;
    case TYPE_U32:
        MOVE_IN(u64_any, u32_any);
        return;
    case TYPE_S32:
        MOVE_IN(u64_any, s32_any);
        return;
    default:
        MOVE_IN(u64_any, u64_any);
    }
}

static void move_in(
    struct gpusim_block *b, const struct gpusim_inst *inst, unsigned char **data, uint32_t mask)
{
    unsigned char *regs = b->current->regs;
    for (int v = 0; v < inst->vec; v++) {
        if (inst->wide & 2) {
            move_in_wide(inst, regs, data, mask, v);
            continue;
        }
        switch (inst->type) {
        case TYPE_U8:
            MOVE_IN(u32_any, uint8_t);
            break;
        case TYPE_S8:
            MOVE_IN(u32_any, int8_t);
            break;
        case TYPE_U16:
            MOVE_IN(u32_any, u16_any);
            break;
        case TYPE_S16:
            MOVE_IN(u32_any, s16_any);
            break;
        default:
            MOVE_IN(u32_any, u32_any);
        }
    }
}

#define MOVE_OUT(slot_type, memory_type)                                                           \
    do {                                                                                           \
        const slot_type *from = (const slot_type *)(const void *)(regs + inst->r[1 + v]);          \
        for (uint32_t left = mask; left; left &= left - 1) {                                       \
            const int lane = __builtin_ctz(left);                                                  \
            ((memory_type *)(void *)data[lane])[v] = (memory_type)from[lane];                      \
        }                                                                                          \
    } while (0)

static void move_out(
    struct gpusim_block *b, const struct gpusim_inst *inst, unsigned char **data, uint32_t mask)
{
    const unsigned char *regs = b->current->regs;
    for (int v = 0; v < inst->vec; v++) {
        const bool wide = (inst->wide & 2) != 0;
        if (inst->size == 8)
            MOVE_OUT(u64_any, u64_any);
        else if (inst->size == 4 && wide)
            MOVE_OUT(u64_any, u32_any);
        else if (inst->size == 4)
            MOVE_OUT(u32_any, u32_any);
        else if (inst->size == 2 && wide)
            MOVE_OUT(u64_any, u16_any);
        else if (inst->size == 2)
            MOVE_OUT(u32_any, u16_any);
        else if (wide)
            MOVE_OUT(u64_any, uint8_t);
        else
            MOVE_OUT(u32_any, uint8_t);
    }
}

void gpusim_load(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    access_memory(b, inst, inst->r[inst->vec], mask, GPUSIM_READ | inst->how, move_in);
}

void gpusim_store(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    access_memory(b, inst, inst->r[0], mask, GPUSIM_WRITE | inst->how, move_out);
}

/* ---- atomics ---- */

static uint64_t modified(const struct gpusim_inst *inst, uint64_t old, uint64_t x, uint64_t y)
{
    const bool sign = inst->type == TYPE_S32 || inst->type == TYPE_S64;
    const int64_t so = inst->size == 4 ? (int32_t)old : (int64_t)old;
    const int64_t sx = inst->size == 4 ? (int32_t)x : (int64_t)x;
    const bool less = sign ? sx < so : x < old;
    switch (inst->mode) {
    case RMW_ADD:
        return old + x;
    case RMW_MIN:
        return less ? x : old;
    case RMW_MAX:
        return less ? old : x;
    case RMW_AND:
        return old & x;
    case RMW_OR:
        return old | x;
    case RMW_XOR:
        return old ^ x;
    case RMW_EXCHANGE:
        return x;
    case RMW_CAS:
        return old == x ? y : old;
    case RMW_INC:
        return old >= x ? 0 : old + 1;
    default: /* RMW_DEC */
        return old == 0 || old > x ? x : old - 1;
    }
}

/* Other host threads may run blocks that work on the same word. */
static void move_atomic(
    struct gpusim_block *b, const struct gpusim_inst *inst, unsigned char **data, uint32_t mask)
{
    unsigned char *regs = b->current->regs;
    const size_t step = inst->size;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        uint64_t x = 0, y = 0;
        memcpy(&x, regs + inst->r[2] + (size_t)lane * step, step);
        if (inst->mode == RMW_CAS)
            memcpy(&y, regs + inst->r[3] + (size_t)lane * step, step);
        uint64_t before;
        if (step == 4) {
            u32_any *word = (u32_any *)(void *)data[lane];
            uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
            while (!__atomic_compare_exchange_n(word, &old, (uint32_t)modified(inst, old, x, y),
                false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                ;
            before = old;
        } else {
            u64_any *word = (u64_any *)(void *)data[lane];
            uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
            while (!__atomic_compare_exchange_n(
                word, &old, modified(inst, old, x, y), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                ;
            before = old;
        }
        memcpy(regs + inst->r[0] + (size_t)lane * step, &before, step);
    }
}

void gpusim_atomic(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    access_memory(b, inst, inst->r[1], mask, GPUSIM_WRITE | GPUSIM_ATOMIC_ACCESS | GPUSIM_MODIFY,
        move_atomic);
}

/* ---- matrices and asynchronous copies ---- */

/* Row r of matrix n lies at the address that lane 8n + r gives; lane l gets bytes 4(l % 4) .. of
 * row l / 4, or, transposed, the 16-bit elements of column l / 4 in rows 2(l % 4) and the next. */
void gpusim_ldmatrix(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    uint64_t address[GPUSIM_LANES];
    unsigned char *data[GPUSIM_LANES];
    const int lanes = 8 * inst->vec;
    (void)mask;
    gpusim_addresses(b, inst->r[inst->vec], inst->offset, inst->wide & 1, true, address);
    locate(b, address, SPACE_SHARED, 16, lanes == 32 ? UINT32_MAX : (1u << lanes) - 1, GPUSIM_READ,
        data);
    unsigned char rows[4][8][16];
    for (int lane = 0; lane < lanes; lane++)
        memcpy(rows[lane / 8][lane % 8], data[lane], 16);
    for (int n = 0; n < inst->vec; n++) {
        u32_any *to = (u32_any *)(void *)(b->current->regs + inst->r[n]);
        if (!inst->mode) {
            memcpy(to, rows[n], GPUSIM_SLOT);
            continue;
        }
        for (int lane = 0; lane < GPUSIM_LANES; lane++) {
            uint16_t low, high;
            memcpy(&low, &rows[n][2 * (lane % 4)][2 * (lane / 4)], 2);
            memcpy(&high, &rows[n][2 * (lane % 4) + 1][2 * (lane / 4)], 2);
            to[lane] = (uint32_t)high << 16 | low;
        }
    }
}

static struct gpusim_copy *new_copy(struct gpusim_warp *w)
{
    if (w->copy_count == w->copy_capacity) {
        int capacity = w->copy_capacity ? 2 * w->copy_capacity : 16;
        void *more = realloc(w->copies, (size_t)capacity * sizeof *w->copies);
        if (!more)
            return NULL;
        w->copies = more;
        w->copy_capacity = capacity;
    }
    return &w->copies[w->copy_count++];
}

static void touch_sources(
    struct gpusim_block *b, const uint64_t *from, const uint32_t *valid, uint32_t mask)
{
    if (!(b->options.checks & (GPUSIM_CHECK_RACE_GLOBAL | GPUSIM_CHECK_MEMORY)))
        return;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (valid[lane])
            gpusim_touch_global(b, from, valid[lane], 1u << lane, GPUSIM_READ);
    }
}

void gpusim_cp_async(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    struct gpusim_warp *w = b->current;
    struct gpusim_copy *copy = new_copy(w);
    if (!copy)
        gpusim_block_fail(b, cudaErrorMemoryAllocation, "out of host memory");
    uint64_t to[GPUSIM_LANES], from[GPUSIM_LANES];
    uint32_t whole = 0, part = 0;
    gpusim_addresses(b, inst->r[0], inst->offset, inst->wide & 1, true, to);
    gpusim_addresses(b, inst->r[1], inst->offset2, true, false, from);
    memcpy(copy->valid, w->regs + inst->r[2], sizeof copy->valid);
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (copy->valid[lane] > inst->size) {
            b->lane_hint = (uint32_t)lane;
            gpusim_block_fail(b, cudaErrorLaunchFailure, "cp.async of %u bytes with %u valid",
                inst->size, copy->valid[lane]);
        }
        if (copy->valid[lane] == inst->size)
            whole |= 1u << lane;
        else if (copy->valid[lane])
            part |= 1u << lane;
    }
    gpusim_check_shared(b, to, inst->size, mask);
    if (whole)
        gpusim_check_global(b, from, inst->size, whole, false);
    for (uint32_t left = part; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        uint64_t last[GPUSIM_LANES];
        for (int l = 0; l < GPUSIM_LANES; l++)
            last[l] = from[lane] + copy->valid[lane] - 1;
        gpusim_check_global(b, from, 1, 1u << lane, false);
        gpusim_check_global(b, last, 1, 1u << lane, false);
    }
    if (b->options.count_memory) {
        count_wavefronts(b, to, inst->size, mask);
        if (whole | part)
            count_sectors(b, from, inst->size, whole | part, false);
    }
    gpusim_touch_shared(b, to, inst->size, mask, GPUSIM_WRITE);
    touch_sources(b, from, copy->valid, mask);
    gpusim_copy_begins(b, to, inst->size, mask);
    copy->mask = mask;
    copy->size = inst->size;
    copy->inst = inst;
    memcpy(copy->group, w->committed, sizeof copy->group);
    memcpy(copy->from, from, sizeof from);
    for (int lane = 0; lane < GPUSIM_LANES; lane++)
        copy->to[lane] = (uint32_t)to[lane];
}

void gpusim_cp_commit(struct gpusim_block *b, uint32_t mask)
{
    for (uint32_t left = mask; left; left &= left - 1)
        b->current->committed[__builtin_ctz(left)]++;
}

/* wait_group n: all but the last n groups closed so far are there; wait_all (-1): everything is. */
void gpusim_cp_wait(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    struct gpusim_warp *w = b->current;
    int kept = 0;
    for (int i = 0; i < w->copy_count; i++) {
        struct gpusim_copy *copy = &w->copies[i];
        for (uint32_t left = mask & copy->mask; left; left &= left - 1) {
            const int lane = __builtin_ctz(left);
            const int64_t newer = (int64_t)w->committed[lane] - copy->group[lane];
            if (inst->offset >= 0 && newer <= inst->offset)
                continue;
            unsigned char *to = b->shared + copy->to[lane];
            memcpy(to, (const void *)(uintptr_t)copy->from[lane], copy->valid[lane]);
            memset(to + copy->valid[lane], 0, copy->size - copy->valid[lane]);
            copy->mask &= ~(1u << lane);
            gpusim_copy_ends(b, lane, copy->to[lane], copy->size);
        }
        if (copy->mask) {
            if (kept != i)
                w->copies[kept] = *copy;
            kept++;
        }
    }
    w->copy_count = kept;
}
