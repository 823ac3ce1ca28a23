/* gpusim runs the PTX that nvcc embedded in a program, on the CPU, behind the CUDA runtime's own
 * ABI: link libgpusim.a instead of cudart. This header is what a test may ask of it beyond CUDA.
 * README.md says how to build a program for it and which environment variables there are. */
#ifndef GPUSIM_H
#define GPUSIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Checks that cost time can be left out; the others are always on. */
enum {
    GPUSIM_CHECK_INIT = 1,        /* reads of registers that nothing has written */
    GPUSIM_CHECK_BARRIER = 2,     /* a barrier that a thread of the block never reaches */
    GPUSIM_CHECK_RACE_SHARED = 4, /* unordered accesses to shared memory */
    GPUSIM_CHECK_RACE_GLOBAL = 8, /* unordered accesses to global memory inside a launch */
    GPUSIM_CHECK_MEMORY = 16,     /* reads of shared or global memory that nothing has written */
    GPUSIM_CHECK_ALL = 31
};

/* In which order the warps of a block take turns. */
enum gpusim_schedule {
    GPUSIM_RUN_TO_BARRIER, /* each warp up to its next barrier */
    GPUSIM_ROUND_ROBIN,    /* `quantum` instructions each, in order */
    GPUSIM_RANDOM          /* a warp and 1..quantum instructions drawn at random */
};

struct gpusim_options {
    int sm;      /* compute capability simulated: 75, 80 or 90 */
    int threads; /* host threads over which blocks are spread */
    unsigned checks;
    enum gpusim_schedule schedule;
    int quantum;
    uint64_t seed;
    uint64_t max_steps; /* instructions of a warp in a block after which it never ends */
    int count_memory;   /* count sectors and wavefronts: costs time */
};

/* The options in force; first read from the environment. */
struct gpusim_options gpusim_options(void);
void gpusim_set_options(const struct gpusim_options *options);

/* The last thing found wrong, one or more lines; "" if nothing was. */
const char *gpusim_last_report(void);
/* Forgets the report and the sticky CUDA error, so that a test may go on after a planted fault. */
void gpusim_reset(void);

/* Classes of warp instructions. */
enum gpusim_class {
    GPUSIM_INTEGER,
    GPUSIM_FLOAT,
    GPUSIM_DOUBLE,
    GPUSIM_CONVERT,
    GPUSIM_MOVE,
    GPUSIM_CONTROL,
    GPUSIM_BARRIER,
    GPUSIM_GLOBAL,
    GPUSIM_SHARED,
    GPUSIM_LOCAL,
    GPUSIM_PARAM,
    GPUSIM_ATOMIC,
    GPUSIM_LDMATRIX,
    GPUSIM_CP_ASYNC,
    GPUSIM_WARP, /* shuffles, votes, warp reductions */
    GPUSIM_MMA,
    GPUSIM_CLASSES
};
const char *gpusim_class_name(enum gpusim_class);

struct gpusim_counts {
    uint64_t launches, blocks;
    uint64_t instructions[GPUSIM_CLASSES]; /* warp instructions issued */
    uint64_t total;                        /* their sum */
    uint64_t macs;                         /* multiply-adds of mma */
    /* with count_memory only */
    uint64_t wavefronts, wavefronts_ideal; /* shared memory, ldmatrix included */
    uint64_t sectors, sectors_ideal;       /* global memory, 32 bytes each */
    uint64_t bytes_read, bytes_written;    /* global memory, as the threads asked */
    /* 32 bytes for every sector of global memory that a launch reads or writes at all, summed over
     * launches: what memory moves if a cache serves every other access of the launch */
    uint64_t footprint_read, footprint_written;
    int ptx_instructions, covered; /* of the kernel's text; executed at least once */
};

/* Counts since the start or the last clear. NULL: all kernels together. 0 if no such kernel. */
int gpusim_counts_of(const char *kernel, struct gpusim_counts *out);
void gpusim_clear_counts(void);
/* Calls `visit` for each kernel launched so far. */
void gpusim_each_kernel(
    void (*visit)(const char *kernel, const struct gpusim_counts *, void *user), void *user);
/* PTX lines of a kernel that no warp has executed, as "line: text" lines into `out`; their count.
 */
int gpusim_uncovered(const char *kernel, char *out, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
