/* Kernels that offend on demand. */
#ifndef GPUSIM_FAULTS_H
#define GPUSIM_FAULTS_H

#ifdef __cplusplus
extern "C" {
#endif

enum fault {
    FAULT_BOUNDS,
    FAULT_ALIGNMENT,
    FAULT_SHARED_BOUNDS,
    FAULT_LOCAL_BOUNDS,
    FAULT_READ_RACE,
    FAULT_REUSE_RACE,
    FAULT_BYTES_RACE,
    FAULT_WARP_RACE,
    FAULT_ATOMIC_RACE,
    FAULT_CLEAR_RACE,
    FAULT_BLOCK_WRITE_RACE,
    FAULT_BLOCK_READ_RACE,
    FAULT_BLOCK_ATOMIC_RACE,
    FAULT_LAST_BLOCK_FENCE,
    FAULT_LAST_BLOCK_ORDER,
    FAULT_LAST_THREAD,
    FAULT_LAST_BLOCK_BARRIER,
    FAULT_LAST_BLOCK_COUNTER,
    FAULT_LAST_BLOCK_EARLY,
    FAULT_BLOCK_CLEAR_RACE,
    FAULT_SKIPPED_BARRIER,
    FAULT_EARLY_EXIT,
    FAULT_DIVERGENT_BARRIER,
    FAULT_DIVERGENT_SHUFFLE,
    FAULT_FOREIGN_MASK,
    FAULT_SHUFFLE_SOURCE,
    FAULT_UNWRITTEN_SHARED,
    FAULT_DIVIDE,
    FAULT_ENDLESS,
    FAULT_TRAP,
    FAULT_LAUNCH_BOUNDS,
    FAULT_THREADS,
    FAULT_EMPTY_GRID,
    FAULT_SHARED_SIZE,
    FAULT_COLUMN /* no error, but slow: every lane in one bank */
};

/* Launches the kernel on two pieces of 128 ints of device memory; the cudaError of the launch. */
int fault_run(enum fault fault, int *p, int *q, int bad);
/* Asks for that much dynamic shared memory and launches with it. */
int fault_opt_in(int bytes);

#ifdef __cplusplus
}
#endif
#endif
