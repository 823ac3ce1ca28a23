/* For tests: small PTX kernels given as text. */
#ifndef GPUSIM_PTX_BENCH_H
#define GPUSIM_PTX_BENCH_H

#include "sim_core.h"

/* Runs the entry `t` of `text` (head included) with one block unless `grid` says more; parameters
 * are 64-bit values. 0, or the cudaError. A text that cannot be decoded gives -1 and leaves its
 * reason as the report. */
struct ptx_launch {
    const char *text;
    const uint64_t *arguments;
    uint32_t threads, grid, dynamic_shared;
};
int ptx_run(const struct ptx_launch *);

/* One lane's operands and result. In the body they are %a %b %c (32 bits, the low halves) or %A %B
 * %C (64 bits); the result is %o or, if the body names it, %O. Also there: %p %q (predicates), %t
 * %u (32 bits), %T (64 bits), %h %k (16 bits). */
struct ptx_row {
    uint64_t a, b, c, want;
};
/* Runs `body` on a lane for each row; returns the number of wrong rows and prints them;
 * -1 if the launch fails. */
int ptx_check(const char *body, const struct ptx_row *rows, int count);
/* True if the body is refused when it is decoded. */
bool ptx_refused(const char *body);

#endif
