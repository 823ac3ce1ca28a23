/* The inside of gpusim: a kernel as decoded instructions, the state of a block under execution, and
 * the entries of the parts. Names: kernel = decoded text, launch = kernel with its arguments,
 * block = one block being executed by one host thread. */
#ifndef GPUSIM_SIM_CORE_H
#define GPUSIM_SIM_CORE_H

#include "gpusim.h"

#include <setjmp.h>
#include <stdbool.h>

enum { GPUSIM_LANES = 32, GPUSIM_MAX_OPERANDS = 15 };

/* A register is 32 lanes of 4 or 8 bytes inside its warp's register file; an operand is the byte
 * offset of one. Immediates and special registers are registers too, filled before the start. */
enum { GPUSIM_SLOT = 4 * GPUSIM_LANES, GPUSIM_SLOT64 = 8 * GPUSIM_LANES };

/* Special registers, the first slots of every register file. */
enum gpusim_special {
    SPECIAL_NONE, /* no operand */
    SPECIAL_NONE_HIGH,
    SPECIAL_TRASH, /* a result nobody wants */
    SPECIAL_TRASH_HIGH,
    SPECIAL_TID_X,
    SPECIAL_TID_Y,
    SPECIAL_TID_Z,
    SPECIAL_NTID_X,
    SPECIAL_NTID_Y,
    SPECIAL_NTID_Z,
    SPECIAL_CTAID_X,
    SPECIAL_CTAID_Y,
    SPECIAL_CTAID_Z,
    SPECIAL_NCTAID_X,
    SPECIAL_NCTAID_Y,
    SPECIAL_NCTAID_Z,
    SPECIAL_LANEID,
    SPECIAL_WARPID,
    SPECIAL_NWARPID,
    SPECIAL_MASK_EQ,
    SPECIAL_MASK_LT,
    SPECIAL_MASK_LE,
    SPECIAL_MASK_GT,
    SPECIAL_MASK_GE,
    SPECIAL_DYNAMIC_SIZE,
    SPECIAL_TOTAL_SIZE,
    SPECIAL_DYNAMIC_BASE, /* where the dynamic shared array starts */
    SPECIAL_DYNAMIC_BASE64,
    SPECIAL_DYNAMIC_BASE64_HIGH,
    SPECIAL_COUNT
};

enum gpusim_kind {
    KIND_ALU,      /* run(): lane by lane, no side effect */
    KIND_ALU_IEEE, /* the same with subnormals kept */
    KIND_DIVIDE,   /* integer division: a zero divisor is an error; wide & 2: 64 bits */
    /* those that move the pc themselves */
    KIND_BRANCH,
    KIND_BRANCH_TABLE,
    KIND_EXIT,
    KIND_TRAP,
    KIND_BARRIER,
    KIND_BARRIER_REDUCE,
    KIND_WARP_BARRIER,
    KIND_LDMATRIX,
    KIND_SHUFFLE,
    KIND_VOTE,
    KIND_MATCH,
    KIND_REDUX,
    KIND_MMA,
    /* memory and the rest */
    KIND_LOAD,
    KIND_STORE,
    KIND_ATOMIC,
    KIND_CP_ASYNC,
    KIND_CP_COMMIT,
    KIND_CP_WAIT,
    KIND_ACTIVE_MASK,
    KIND_FENCE,
    KIND_NOP
};

enum gpusim_space {
    SPACE_GENERIC,
    SPACE_GLOBAL,
    SPACE_SHARED,
    SPACE_LOCAL,
    SPACE_PARAM,
    SPACE_CONST
};

enum gpusim_type { TYPE_U8, TYPE_S8, TYPE_U16, TYPE_S16, TYPE_U32, TYPE_S32, TYPE_U64, TYPE_S64 };

/* Modifiers of the kinds above; each uses those it needs. */
enum { SHUFFLE_IDX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_BFLY };
enum { VOTE_BALLOT, VOTE_ANY, VOTE_ALL, VOTE_UNI };
enum gpusim_rmw {
    RMW_ADD,
    RMW_MIN,
    RMW_MAX,
    RMW_AND,
    RMW_OR,
    RMW_XOR,
    RMW_EXCHANGE,
    RMW_CAS,
    RMW_INC,
    RMW_DEC
};
enum { MMA_8816, MMA_16816, MMA_16832 };

struct gpusim_inst;
struct gpusim_block;
typedef void gpusim_alu(const struct gpusim_inst *, unsigned char *regs, uint32_t mask);

struct gpusim_inst {
    gpusim_alu *run;
    int64_t offset, offset2;         /* of the address operands */
    uint32_t r[GPUSIM_MAX_OPERANDS]; /* operands; what stands where: sim_decode.c */
    uint32_t guard;                  /* predicate; 0: none */
    uint32_t target;                 /* branch: instruction index; table: index into tables */
    uint32_t init_reads;             /* bit i: r[i] may be read before it is written */
    uint32_t init_writes;            /* bit i: r[i] is a register whose writes are recorded */
    int line;                        /* of the PTX text */
    uint8_t kind, class, space, type;
    uint8_t size, vec;     /* memory: bytes per element, elements */
    uint8_t wide;          /* memory: bit 0 address has 64 bits, bit 1 the data registers have */
    uint8_t mode;          /* shuffle, vote, atomic, mma, ldmatrix trans */
    uint8_t guard_not;     /* execute where the guard is false */
    uint8_t operand_not;   /* the predicate source is negated */
    uint8_t how;           /* memory: GPUSIM_ATOMIC_ACCESS for volatile and relaxed accesses */
    uint8_t reads, writes; /* operands: r[0..writes) are written, r[writes..writes+reads) read */
};

struct gpusim_param {
    uint32_t offset, size;
};

struct gpusim_constant {
    uint64_t value;
    uint32_t slot; /* offset in the register file */
    bool wide;
};

struct gpusim_kernel {
    char *name;
    const char *text; /* of its module, for messages */
    struct gpusim_inst *code;
    int count, capacity;
    struct gpusim_param *params;
    int param_count, param_bytes;
    struct gpusim_constant *constants;
    int constant_count;
    uint32_t *tables; /* targets of brx.idx: count, then indices */
    int table_words;
    uint32_t regs_bytes;
    bool tracks_writes; /* some register may be read before it is written */
    int registers;      /* most 32-bit registers live at once, a lower bound of what ptxas needs */
    int sass_registers; /* a thread's, if there is machine code for this device; 0: not known */
    uint32_t static_shared, local_bytes;
    uint32_t uses_dynamic_align; /* 0: no dynamic shared array */
    int max_threads;             /* .maxntid, or 0 */
    int max_dynamic;             /* cudaFuncAttributeMaxDynamicSharedMemorySize */
    struct gpusim_counts counts;
    uint64_t *executed; /* per instruction */
};

/* PTX of one translation unit. */
struct gpusim_module;
struct gpusim_module *gpusim_module_open(const char *text, size_t length);
void gpusim_module_close(struct gpusim_module *);
/* Decodes an entry; NULL with the reason in `error`. */
struct gpusim_kernel *gpusim_module_kernel(
    struct gpusim_module *, const char *name, char *error, size_t capacity);
/* Address of a .global or .const variable. */
void *gpusim_module_variable(struct gpusim_module *, const char *name, size_t *size);
void gpusim_kernel_free(struct gpusim_kernel *);
/* The text of a line of PTX, without its leading blanks, into `out`. */
void gpusim_line_text(const char *text, int line, char *out, size_t capacity);

/* Registers of a kernel in an ELF image of machine code (sim_cubin.c). 0: it does not say. */
int gpusim_cubin_registers(const void *image, size_t bytes, const char *kernel);

/* Spellings of lane-by-lane instructions, one table per instruction set of the host. */
struct gpusim_alu_entry {
    const char *spelling;
    const char *operands; /* destination, ':', sources: w 32 bits, d 64 bits, p predicate */
    gpusim_alu *run;
    uint8_t class;
    uint8_t kind;
};
const struct gpusim_alu_entry *gpusim_alu_find(const char *spelling);

/* What the text says about its registers before it runs (sim_flow.c): marks the instructions that
 * may read a register before anything wrote it, and lets registers that are never needed at the
 * same time share a slot. `wide` says per slot whether a 64-bit register starts there. False: out
 * of memory. */
bool gpusim_flow_analyse(struct gpusim_kernel *, bool *wide);
/* At run time, for marked instructions: fails if a lane reads what it has not written. */
void gpusim_flow_check(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);

/* ---- execution ---- */
struct gpusim_launch {
    struct gpusim_kernel *kernel;
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared;
    uint32_t serial; /* number of the launch */
    unsigned char *params;
};

struct gpusim_group {
    uint32_t pc, mask;
    bool waiting; /* for the other lanes of a collective */
};

struct gpusim_copy { /* cp.async in flight, of the lanes in mask */
    uint32_t mask;
    uint32_t size;
    uint32_t group[GPUSIM_LANES];
    uint32_t to[GPUSIM_LANES];
    uint32_t valid[GPUSIM_LANES];
    uint64_t from[GPUSIM_LANES];
    const struct gpusim_inst *inst;
};

enum gpusim_warp_state { WARP_READY, WARP_AT_BARRIER, WARP_DONE };

struct gpusim_warp {
    unsigned char *regs;
    int index;
    enum gpusim_warp_state state;
    uint32_t launched, live; /* lanes; live: not yet exited */
    uint32_t pc, active;     /* the group that runs */
    uint32_t limit;          /* pc where it meets the next group */
    int pending_count;
    struct gpusim_group pending[GPUSIM_LANES];
    uint32_t collective;    /* counts warp-wide synchronisations, for the race checker */
    uint32_t barrier_count; /* threads expected by the barrier it waits at; 0: all */
    uint32_t barrier_id;
    uint32_t barrier_true;            /* lanes whose predicate holds, for a barrier that reduces */
    uint64_t steps;                   /* instructions in this block */
    uint32_t committed[GPUSIM_LANES]; /* cp.async groups closed so far */
    struct gpusim_copy *copies;
    int copy_count, copy_capacity;
    uint32_t *written; /* lanes written, per slot; NULL: the kernel needs no such check */
};

struct gpusim_memory_counts {
    uint64_t wavefronts, wavefronts_ideal, sectors, sectors_ideal, bytes_read, bytes_written;
    uint64_t footprint_read, footprint_written;
};

/* What the checkers know about a piece of memory (sim_race.c). */
struct gpusim_cell;
struct gpusim_shadow {
    struct gpusim_cell *words, *bytes; /* races; NULL: not asked for */
    unsigned char *written;            /* one byte per byte; NULL: not asked for */
};
/* How memory is touched. */
enum {
    GPUSIM_READ = 0,
    GPUSIM_WRITE = 1,
    GPUSIM_ATOMIC_ACCESS = 2,
    GPUSIM_COPY_DONE = 4, /* a cp.async arrives */
    GPUSIM_MODIFY = 8     /* a write that reads first */
};

/* Fences of a thread, for the race checker (sim_release.c): all, those before its last barrier, and
 * the barrier epoch of the last. */
struct gpusim_fences {
    uint16_t count, settled;
    uint32_t epoch;
};
/* An atomic of this block on a word that others had released. */
struct gpusim_acquire {
    uint64_t word;
    uint32_t bytes, epoch;
    int thread;
    int releases; /* so far */
};

struct gpusim_block {
    const struct gpusim_launch *launch;
    const struct gpusim_kernel *kernel;
    struct gpusim_options options;
    uint32_t id[3];
    uint32_t number; /* linear block number */
    int threads, warps;
    struct gpusim_warp *warp;
    struct gpusim_warp *current;
    const struct gpusim_inst *inst; /* the one being executed */
    uint32_t lane_hint;             /* lane an error is about, if inside a lane loop */
    unsigned char *shared;
    uint32_t shared_bytes;
    unsigned char *local; /* local_bytes per thread */
    uint64_t barrier_epoch;
    uint64_t *executed;
    struct gpusim_memory_counts memory;
    struct gpusim_shadow shadow; /* of shared memory */
    uint16_t *in_flight; /* per word of shared memory: thread + 1 whose cp.async writes it */
    int copies_in_flight;
    struct gpusim_fences *fences; /* per thread; NULL: none so far */
    bool fenced;                  /* this block has fenced */
    struct gpusim_acquire *acquired;
    int acquired_count, acquired_capacity;
    struct gpusim_allocation *cached; /* last allocation found */
    uint64_t random;
    jmp_buf stop;
};

/* Runs all blocks of a launch. 0, or the cudaError of what was found wrong (report is set). */
int gpusim_launch_run(struct gpusim_launch *);
void gpusim_block_run(struct gpusim_block *);
void gpusim_block_fail(struct gpusim_block *, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Addresses of the operand in `slot` for all lanes. */
void gpusim_addresses(const struct gpusim_block *, uint32_t slot, int64_t offset, bool wide,
    bool shared, uint64_t out[GPUSIM_LANES]);
/* Fails for the first lane of `mask` whose access is misaligned or out of bounds. */
void gpusim_check_shared(
    struct gpusim_block *, const uint64_t *address, uint32_t bytes, uint32_t mask);
void gpusim_check_global(
    struct gpusim_block *, const uint64_t *address, uint32_t bytes, uint32_t mask, bool write);

/* Executes a memory instruction for the lanes of `mask` (sim_memory.c). */
void gpusim_load(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_store(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_atomic(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_ldmatrix(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_cp_async(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_cp_commit(struct gpusim_block *, uint32_t mask);
void gpusim_cp_wait(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);

/* Executes up to `budget` instructions of a warp that is ready (sim_exec.c). */
void gpusim_run_warp(struct gpusim_block *, struct gpusim_warp *, uint64_t budget);
/* Subnormals: kept or flushed, as operands and results, by this host thread. */
void gpusim_keep_subnormals(bool keep);

/* Bits of the lanes whose predicate holds. */
uint32_t gpusim_lanes_true(const void *predicate);

/* Warp-wide operations (sim_warp.c). */
void gpusim_shuffle(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_vote(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_match(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_redux(struct gpusim_block *, const struct gpusim_inst *, uint32_t mask);
void gpusim_mma(struct gpusim_block *, const struct gpusim_inst *);

/* ---- checkers (sim_race.c) ----
 * The lanes of `mask` touch `bytes` each; the accesses are in bounds. */
bool gpusim_shadow_open(struct gpusim_shadow *, uint64_t size, bool race, bool memory);
void gpusim_shadow_close(struct gpusim_shadow *);
void gpusim_touch_shared(
    struct gpusim_block *, const uint64_t *address, uint32_t bytes, uint32_t mask, unsigned how);
void gpusim_touch_global(
    struct gpusim_block *, const uint64_t *address, uint32_t bytes, uint32_t mask, unsigned how);
void gpusim_copy_begins(
    struct gpusim_block *, const uint64_t *address, uint32_t bytes, uint32_t mask);
void gpusim_copy_ends(struct gpusim_block *, int lane, uint32_t at, uint32_t bytes);
/* The host has written these bytes of device memory. */
void gpusim_mark_written(const void *, size_t size);

/* ---- order by fences and atomics (sim_release.c) ---- */
/* An earlier access by another thread of this launch. */
struct gpusim_past {
    uint32_t block, epoch;
    int thread;      /* -1: several */
    uint16_t fences; /* the thread had made when it accessed */
    bool atomic;
    uint64_t word;
};
void gpusim_release_start(struct gpusim_block *); /* the next block begins */
void gpusim_fence(struct gpusim_block *, uint32_t mask);
/* A lane's atomic on global memory: releases to later ones, acquires from earlier ones. */
void gpusim_release_atomic(struct gpusim_block *, uint64_t word, uint32_t bytes, int lane);
/* True if the earlier access is ordered before what this thread does now. */
bool gpusim_release_orders(const struct gpusim_block *, const struct gpusim_past *past, int thread);
void gpusim_release_forget(void); /* the launch is over */

/* ---- device memory (sim_alloc.c) ---- */
struct gpusim_allocation {
    uint64_t start, size;
    uint32_t serial;
    bool freed;
    unsigned char *base; /* of the host block, guard bytes included */
    struct gpusim_shadow shadow;
    unsigned char *touched; /* bits of sectors read, then written, by the present launch; or NULL */
};
void *gpusim_alloc(size_t size);
/* False: not the start of a live allocation. */
bool gpusim_release(void *);
struct gpusim_allocation *gpusim_find_allocation(uint64_t address);
/* "12 bytes after the 4096-byte allocation #3" and the like. */
void gpusim_describe_address(uint64_t address, char *out, size_t capacity);
/* Bytes in live allocations. */
size_t gpusim_allocated(void);
/* Forgets what launches have touched; false: out of memory. */
bool gpusim_footprints_clear(void);

/* sim_footprint.c: the same of one allocation, and its bits. */
bool gpusim_footprint_clear(struct gpusim_allocation *);
void gpusim_footprint_close(struct gpusim_allocation *);
uint64_t gpusim_footprint_touch(struct gpusim_allocation *, uint64_t sector, bool write);

/* True if [address, address + size) lies inside one live allocation. */
bool gpusim_is_allocated(const void *address, size_t size);

/* Generic addresses of shared and local memory and of the parameters. */
#define GPUSIM_SHARED_WINDOW UINT64_C(0x7e00000000000000)
#define GPUSIM_LOCAL_WINDOW UINT64_C(0x7d00000000000000)
#define GPUSIM_PARAM_WINDOW UINT64_C(0x7c00000000000000)
#define GPUSIM_WINDOW_MASK UINT64_C(0xffff000000000000)

/* ---- reports (sim_report.c) ---- */
/* Prints a line to stderr and keeps it for gpusim_last_report; the first after a reset stays. */
void gpusim_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern int gpusim_sticky; /* cudaError that every call returns from now on, or 0 */

/* ---- registered kernels (sim_fatbin.c) ---- */
struct gpusim_function;
/* By the host function, or by the handle that __cudaGetKernel gave; NULL if neither. */
struct gpusim_function *gpusim_function_of(const void *handle);
/* The decoded kernel for the compute capability in force; NULL with a report if there is no PTX for
 * it or it cannot be executed. */
struct gpusim_kernel *gpusim_function_kernel(struct gpusim_function *);
const char *gpusim_function_name(const struct gpusim_function *);
/* Device address of a registered variable; NULL if there is none. */
void *gpusim_variable_of(const void *host, size_t *size);

/* A launch with a copy of its arguments, its configuration checked: 0, or a cudaError with a
 * report. gpusim_launch_run executes it; gpusim_launch_free forgets it. */
int gpusim_launch_make(struct gpusim_function *, const uint32_t grid[3], const uint32_t block[3],
    void *const *arguments, size_t dynamic_shared, struct gpusim_launch **out);
int gpusim_launch_kernel(struct gpusim_kernel *, const uint32_t grid[3], const uint32_t block[3],
    void *const *arguments, size_t dynamic_shared, struct gpusim_launch **out);
void gpusim_launch_free(struct gpusim_launch *);

/* Shared memory one block may have: without and with opt-in. */
uint32_t gpusim_shared_limit(int sm, bool opt_in);

#endif
