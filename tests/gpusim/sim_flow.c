/* Data flow over a kernel's registers.
 *
 * Unwritten registers: a forward pass finds the registers that every path to an instruction has
 * written. Other reads are checked lane by lane when they happen; few kernels have any. A copy of
 * an unwritten register is no error, its copy is unwritten as well (compilers merge undefined
 * values this way).
 *
 * Slots: nvcc's registers are written once and are many; what the host's caches must hold is what
 * is live. A backward pass finds for each register the stretch of instructions over which it lives;
 * registers whose stretches do not meet share a slot. Lanes may be at different places, but each
 * lane has its own part of a slot and its own path, so what holds for a path holds for a lane. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

struct block {
    int first, last; /* instructions */
    int next[2];     /* blocks behind it, or -1; a branch table has more */
};

struct flow {
    struct gpusim_kernel *kernel;
    struct block *blocks;
    int count;
    int *block_of;       /* by instruction */
    int registers;       /* slots */
    int words;           /* of a set of registers */
    uint64_t *in, *live; /* sets by block */
    uint64_t *passed;    /* the set at one place */
    bool *fixed;         /* special registers and constants: written before the start */
    const bool *wide;    /* 64 bits */
    bool changed;
};

static bool member(const uint64_t *set, int r)
{
    return set[r / 64] >> (r % 64) & 1;
}

static void insert(uint64_t *set, int r)
{
    set[r / 64] |= UINT64_C(1) << (r % 64);
}

static void erase(uint64_t *set, int r)
{
    set[r / 64] &= ~(UINT64_C(1) << (r % 64));
}

static int register_of(uint32_t offset)
{
    return (int)(offset / GPUSIM_SLOT);
}

static bool ends_block(const struct gpusim_inst *inst)
{
    return inst->kind == KIND_BRANCH || inst->kind == KIND_BRANCH_TABLE ||
           inst->kind == KIND_EXIT || inst->kind == KIND_TRAP;
}

static void find_blocks(struct flow *f)
{
    const struct gpusim_kernel *kernel = f->kernel;
    bool *leader = calloc((size_t)kernel->count + 1, sizeof *leader);
    if (!leader)
        return;
    leader[0] = true;
    for (int i = 0; i < kernel->count; i++) {
        const struct gpusim_inst *inst = &kernel->code[i];
        if (!ends_block(inst))
            continue;
        leader[i + 1] = true;
        if (inst->kind == KIND_BRANCH)
            leader[inst->target] = true;
        if (inst->kind == KIND_BRANCH_TABLE)
            for (uint32_t n = 1; n <= kernel->tables[inst->target]; n++)
                leader[kernel->tables[inst->target + n]] = true;
    }
    f->blocks = calloc((size_t)kernel->count + 1, sizeof *f->blocks);
    f->block_of = calloc((size_t)kernel->count + 1, sizeof *f->block_of);
    for (int i = 0; f->blocks && f->block_of && i < kernel->count; i++) {
        if (leader[i])
            f->blocks[f->count++].first = i;
        f->blocks[f->count - 1].last = i;
        f->block_of[i] = f->count - 1;
    }
    free(leader);
}

/* Calls visit for each block that may follow block n. */
static void each_next(struct flow *f, int n, void (*visit)(struct flow *, int from, int to))
{
    const struct gpusim_kernel *kernel = f->kernel;
    const int last = f->blocks[n].last;
    const struct gpusim_inst *inst = &kernel->code[last];
    if (inst->kind == KIND_BRANCH)
        visit(f, n, f->block_of[inst->target]);
    if (inst->kind == KIND_BRANCH_TABLE)
        for (uint32_t i = 1; i <= kernel->tables[inst->target]; i++)
            visit(f, n, f->block_of[kernel->tables[inst->target + i]]);
    if ((!ends_block(inst) || inst->guard) && last + 1 < kernel->count)
        visit(f, n, f->block_of[last + 1]);
}

/* ---- what every path has written ---- */

/* Copies pass on what their source is: mov and, if both sources are written, selp. */
static bool copies(const struct gpusim_inst *inst)
{
    return inst->kind == KIND_ALU && inst->class == GPUSIM_MOVE && inst->writes == 1;
}

static void write_forward(const struct gpusim_inst *inst, uint64_t *set)
{
    bool defined = true;
    if (copies(inst))
        for (int i = 1; i <= inst->reads; i++)
            defined = defined && member(set, register_of(inst->r[i]));
    for (int i = 0; i < inst->writes; i++) {
        const int r = register_of(inst->r[i]);
        if (!defined && !inst->guard)
            erase(set, r);
        else if (defined && !inst->guard)
            insert(set, r);
        else if (!defined)
            erase(set, r);
    }
}

static void meet(struct flow *f, int from, int to)
{
    (void)from;
    uint64_t *in = f->in + (size_t)to * (size_t)f->words;
    for (int i = 0; i < f->words; i++) {
        const uint64_t both = in[i] & f->passed[i];
        f->changed = f->changed || both != in[i];
        in[i] = both;
    }
}

static void mark_reads(struct flow *f, bool *tracked)
{
    struct gpusim_kernel *kernel = f->kernel;
    for (int n = 0; n < f->count; n++) {
        memcpy(f->passed, f->in + (size_t)n * (size_t)f->words, (size_t)f->words * 8);
        for (int i = f->blocks[n].first; i <= f->blocks[n].last; i++) {
            struct gpusim_inst *inst = &kernel->code[i];
            for (int k = inst->writes; k < inst->writes + inst->reads; k++)
                if (!member(f->passed, register_of(inst->r[k]))) {
                    inst->init_reads |= 1u << k;
                    tracked[register_of(inst->r[k])] = true;
                }
            if (inst->guard && !member(f->passed, register_of(inst->guard))) {
                inst->init_reads |= 1u << 31;
                tracked[register_of(inst->guard)] = true;
            }
            write_forward(inst, f->passed);
        }
    }
}

static void find_unwritten(struct flow *f, bool *tracked)
{
    struct gpusim_kernel *kernel = f->kernel;
    memset(f->in, 0xff, (size_t)f->count * (size_t)f->words * 8);
    memset(f->in, 0, (size_t)f->words * 8);
    for (int r = 0; r < f->registers; r++)
        if (f->fixed[r])
            insert(f->in, r);
    do {
        f->changed = false;
        for (int n = 0; n < f->count; n++) {
            memcpy(f->passed, f->in + (size_t)n * (size_t)f->words, (size_t)f->words * 8);
            for (int i = f->blocks[n].first; i <= f->blocks[n].last; i++)
                write_forward(&kernel->code[i], f->passed);
            each_next(f, n, meet);
        }
    } while (f->changed);
    mark_reads(f, tracked);
    for (int i = 0; i < kernel->count; i++) {
        struct gpusim_inst *inst = &kernel->code[i];
        for (int k = 0; k < inst->writes; k++)
            if (tracked[register_of(inst->r[k])] && inst->r[k] != SPECIAL_TRASH * GPUSIM_SLOT) {
                inst->init_writes |= 1u << k;
                kernel->tracks_writes = true;
            }
        kernel->tracks_writes = kernel->tracks_writes || inst->init_reads;
    }
}

void gpusim_flow_check(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    uint32_t *written = b->current->written;
    uint32_t defined = UINT32_MAX, missing = 0;
    if (inst->init_reads >> 31)
        missing = b->current->active & ~written[register_of(inst->guard)];
    for (int k = 0; k < inst->writes + inst->reads; k++) {
        if (!(inst->init_reads >> k & 1))
            continue;
        const uint32_t lanes = written[register_of(inst->r[k])] | ~mask;
        if (copies(inst) && inst->reads == 3) { /* selp looks at one of its sources */
            const uint32_t first = gpusim_lanes_true(b->current->regs + inst->r[3]);
            defined &= k == 1 ? lanes | ~first : k == 2 ? lanes | first : lanes;
        } else {
            defined &= lanes;
        }
    }
    if (!copies(inst))
        missing |= mask & ~defined;
    if (missing && (b->options.checks & GPUSIM_CHECK_INIT)) {
        b->lane_hint = (uint32_t)__builtin_ctz(missing);
        gpusim_block_fail(b, cudaErrorLaunchFailure, "a register is read that nothing has written");
    }
    for (int k = 0; k < inst->writes; k++)
        if (inst->init_writes >> k & 1) {
            uint32_t *lanes = &written[register_of(inst->r[k])];
            *lanes = (*lanes & ~mask) | (mask & defined);
        }
}

/* ---- slots ---- */

static void live_meet(struct flow *f, int from, int to)
{
    uint64_t *out = f->passed;
    const uint64_t *in = f->live + (size_t)to * (size_t)f->words;
    (void)from;
    for (int i = 0; i < f->words; i++)
        out[i] |= in[i];
}

static void read_backward(const struct gpusim_inst *inst, uint64_t *set)
{
    for (int k = 0; k < inst->writes; k++)
        if (!inst->guard)
            erase(set, register_of(inst->r[k]));
    for (int k = inst->writes; k < inst->writes + inst->reads; k++)
        insert(set, register_of(inst->r[k]));
    if (inst->guard)
        insert(set, register_of(inst->guard));
}

struct stretch {
    int from, to; /* instructions, inclusive; from > to: never */
    int r;
};

static void widen(struct stretch *s, int at)
{
    if (at < s->from)
        s->from = at;
    if (at > s->to)
        s->to = at;
}

static void find_live(struct flow *f)
{
    memset(f->live, 0, (size_t)f->count * (size_t)f->words * 8);
    bool again;
    do {
        again = false;
        for (int n = f->count - 1; n >= 0; n--) {
            memset(f->passed, 0, (size_t)f->words * 8);
            each_next(f, n, live_meet);
            for (int i = f->blocks[n].last; i >= f->blocks[n].first; i--)
                read_backward(&f->kernel->code[i], f->passed);
            uint64_t *in = f->live + (size_t)n * (size_t)f->words;
            again = again || memcmp(in, f->passed, (size_t)f->words * 8) != 0;
            memcpy(in, f->passed, (size_t)f->words * 8);
        }
    } while (again);
}

static void find_stretches(struct flow *f, struct stretch *stretch)
{
    for (int n = 0; n < f->count; n++) {
        const uint64_t *in = f->live + (size_t)n * (size_t)f->words;
        memset(f->passed, 0, (size_t)f->words * 8);
        each_next(f, n, live_meet);
        for (int r = 0; r < f->registers; r++) {
            if (member(in, r))
                widen(&stretch[r], f->blocks[n].first);
            if (member(f->passed, r))
                widen(&stretch[r], f->blocks[n].last);
        }
    }
    for (int i = 0; i < f->kernel->count; i++) {
        const struct gpusim_inst *inst = &f->kernel->code[i];
        for (int k = 0; k < inst->writes + inst->reads; k++)
            widen(&stretch[register_of(inst->r[k])], i);
        if (inst->guard)
            widen(&stretch[register_of(inst->guard)], i);
    }
}

static int by_start(const void *a, const void *b)
{
    const struct stretch *x = a, *y = b;
    return x->from != y->from ? (x->from > y->from) - (x->from < y->from) : x->r - y->r;
}

/* Gives each register that is used a slot, new[r]; slots of the two widths are kept apart, so that
 * an instruction's result never overlaps half of an operand. */
static void share_slots(struct flow *f, struct stretch *stretch, const bool *tracked, uint32_t *new)
{
    struct gpusim_kernel *kernel = f->kernel;
    struct {
        int until;
        uint32_t slot;
        bool wide;
    } *pool = calloc((size_t)f->registers + 1, sizeof *pool);
    int pool_count = 0;
    uint32_t next = SPECIAL_COUNT * GPUSIM_SLOT;
    if (!pool)
        return;
    for (int r = 0; r < SPECIAL_COUNT; r++)
        new[r] = (uint32_t)r *GPUSIM_SLOT;
    qsort(stretch, (size_t)f->registers, sizeof *stretch, by_start);
    for (int i = 0; i < f->registers; i++) {
        const struct stretch *s = &stretch[i];
        if (s->r < SPECIAL_COUNT || s->from > s->to)
            continue;
        const bool own = f->fixed[s->r] || tracked[s->r];
        int at = own ? pool_count : 0;
        while (at < pool_count && (pool[at].until >= s->from || pool[at].wide != f->wide[s->r]))
            at++;
        if (at == pool_count) {
            pool[at].slot = next;
            pool[at].wide = f->wide[s->r];
            next += pool[at].wide ? GPUSIM_SLOT64 : GPUSIM_SLOT;
            pool_count++;
        }
        pool[at].until = own ? kernel->count : s->to;
        new[s->r] = pool[at].slot;
    }
    free(pool);
    kernel->regs_bytes = next;
}

static void rename_all(struct gpusim_kernel *kernel, const uint32_t *new)
{
    for (int i = 0; i < kernel->count; i++) {
        struct gpusim_inst *inst = &kernel->code[i];
        for (int k = 0; k < inst->writes + inst->reads; k++)
            inst->r[k] = new[register_of(inst->r[k])];
        if (inst->guard)
            inst->guard = new[register_of(inst->guard)];
    }
    int kept = 0;
    for (int i = 0; i < kernel->constant_count; i++) {
        struct gpusim_constant c = kernel->constants[i];
        c.slot = new[register_of(c.slot)];
        if (c.slot)
            kernel->constants[kept++] = c;
    }
    kernel->constant_count = kept;
}

static void shrink(struct flow *f, const bool *tracked)
{
    struct stretch *stretch = calloc((size_t)f->registers, sizeof *stretch);
    uint32_t *new = calloc((size_t)f->registers, sizeof *new);
    if (stretch && new) {
        for (int r = 0; r < f->registers; r++)
            stretch[r] = (struct stretch){INT32_MAX, -1, r};
        find_live(f);
        find_stretches(f, stretch);
        share_slots(f, stretch, tracked, new);
        rename_all(f->kernel, new);
    }
    free(stretch);
    free(new);
}

bool gpusim_flow_analyse(struct gpusim_kernel *kernel, bool *wide)
{
    struct flow f = {.kernel = kernel, .wide = wide, .registers = register_of(kernel->regs_bytes)};
    f.words = (f.registers + 63) / 64;
    find_blocks(&f);
    const size_t sets = (size_t)(f.count + 1) * (size_t)f.words;
    f.in = calloc(sets, 8);
    f.live = calloc(sets, 8);
    f.fixed = calloc((size_t)f.registers + 1, sizeof *f.fixed);
    f.passed = calloc((size_t)f.words, 8);
    bool *tracked = calloc((size_t)f.registers + 1, sizeof *tracked);
    const bool fine = f.blocks && f.block_of && f.in && f.live && f.fixed && f.passed && tracked;
    if (fine) {
        for (int r = 0; r < SPECIAL_COUNT; r++)
            f.fixed[r] = true;
        for (int i = 0; i < kernel->constant_count; i++) {
            f.fixed[register_of(kernel->constants[i].slot)] = true;
            wide[register_of(kernel->constants[i].slot)] = kernel->constants[i].wide;
        }
        find_unwritten(&f, tracked);
        shrink(&f, tracked);
    }
    free(f.blocks);
    free(f.block_of);
    free(f.in);
    free(f.live);
    free(f.fixed);
    free(f.passed);
    free(tracked);
    return fine;
}
