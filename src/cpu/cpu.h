/* The inside of the CPU backend: its context, the thread pool, and the two tables of kernels that
 * depend on the instruction set. Products go through `tile` (tile_*.c, one file per ISA);
 * elementwise passes through `norm` and `ops` (vec_*.c, the same source compiled per ISA: the
 * float contract makes the bits equal). oct_cpu_* functions are the backend table's entries.
 * An op does all its float arithmetic inside oct_pool_run, which flushes subnormals in every thread
 * that works, the caller's included, and leaves the caller's mode as it was. */
#ifndef OCT_CPU_H
#define OCT_CPU_H

#include "backend.h"

struct oct_pool;

/* Calls work(arg, item, thread) for every item in [0, items), in any order, on all threads; returns
 * when all are done. The items must come from the shape, never from the thread count. */
typedef void oct_pool_work(void *arg, int64_t item, int thread);

enum oct_status oct_pool_open(int threads, struct oct_pool **out);
void oct_pool_close(struct oct_pool *pool);
int oct_pool_threads(const struct oct_pool *pool);
void oct_pool_run(struct oct_pool *pool, int64_t items, oct_pool_work *work, void *arg);

struct oct_tile_kernels; /* src/cpu/tile.h: products */
struct oct_vec_norm;     /* src/cpu/vec_norm.h: normalise and activate */
struct oct_vec_ops;      /* src/cpu/vec_ops.h: quantise, pool, loss, update */
struct oct_vec_conv;     /* src/cpu/vec_conv.h: around the products */

struct oct_cpu {
    oct_backend table; /* first: the backend pointer is the context */
    struct oct_pool *pool;
    const struct oct_tile_kernels *tile;
    const struct oct_vec_norm *norm;
    const struct oct_vec_ops *ops;
    const struct oct_vec_conv *conv;
    void **scratch; /* per thread, of the products (cpu_conv.h) */
    int scratch_count;
    char isa_name[32];
    void *dnnl; /* oneDNN engine, stream and primitive cache */
};

static inline struct oct_cpu *oct_cpu_of(oct_backend *backend)
{
    return (struct oct_cpu *)backend;
}

enum oct_status oct_cpu_open(const char *isa, int threads, oct_backend **out);
void oct_cpu_close(oct_backend *backend);

/* The parts oct_cpu_open is made of. conv: products, `isa` NULL for the best available, sets `tile`
 * and isa_name. *_install fill in the table's entries of one family of ops. */
enum oct_status oct_cpu_conv_open(struct oct_cpu *cpu, const char *isa);
void oct_cpu_conv_close(struct oct_cpu *cpu);
void oct_cpu_conv_install(oct_backend *table);
void oct_cpu_norm_install(oct_backend *table);
void oct_cpu_ops_install(oct_backend *table);
void oct_cpu_shift_install(oct_backend *table);

/* Sets subnormals to zero (FTZ + DAZ) in the calling thread, for good. oct_pool_run does it for
 * as long as it works. */
void oct_cpu_flush_subnormals(void);

#endif
