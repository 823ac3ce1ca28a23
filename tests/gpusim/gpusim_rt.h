/* What a test may ask of gpusim's runtime beyond CUDA: faults to order, calls counted, what is
 * still alive. The same from the environment:
 *   GPUSIM_FAIL=KIND:N          the N-th call of that kind fails (alloc, host, copy, launch, sync,
 *                               create, any)
 *   GPUSIM_STREAMS=eager        work runs when it is enqueued (default)
 *   GPUSIM_STREAMS=random:SEED  work waits, and runs in a random order that events allow
 *   GPUSIM_DEVICES=N            0: no device; default 1
 *   GPUSIM_CAPABILITY=103       what the device says it is; default: GPUSIM_SM
 *   GPUSIM_MULTIPROCESSORS=N    of the device; default: those of a chip with that capability
 *   GPUSIM_MEMORY=BYTES         of the device; default 16 GiB
 *   GPUSIM_LEAKS=0              nothing is said at the end about what was not freed */
#ifndef GPUSIM_RT_H
#define GPUSIM_RT_H

#include <stdint.h>
#include <stdio.h>

enum gpusim_call {
    GPUSIM_CALL_ALLOC,  /* cudaMalloc */
    GPUSIM_CALL_HOST,   /* pinned host memory */
    GPUSIM_CALL_COPY,   /* copies and fills */
    GPUSIM_CALL_LAUNCH, /* kernels and graphs */
    GPUSIM_CALL_SYNC,   /* whatever waits for the device: reports that a kernel failed */
    GPUSIM_CALL_CREATE, /* streams, events, captures, graphs */
    GPUSIM_CALL_ANY,
    GPUSIM_CALLS
};

/* The n-th call of that kind from now on fails, once; 0: none does. */
void gpusim_fail(enum gpusim_call kind, uint64_t n);
/* Calls of that kind so far. */
uint64_t gpusim_calls(enum gpusim_call kind);
/* Device and pinned memory, streams, events and graphs that were made and not freed; one line each
 * into `out` unless it is NULL. */
int gpusim_alive(FILE *out);
/* seed 0: eager. Only while nothing is enqueued. */
void gpusim_set_streams(uint64_t seed);

#endif
