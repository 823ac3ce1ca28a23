/* Opens the CPU backend: thread pool, instruction set, oneDNN, the table; its memory group; and the
 * probe of a product unit that has slow periods.
 * Device memory is host memory, and every op has finished when it returns. */
#include "cpu/cpu.h"
#include "cpu/dnnl.h"
#include "cpu/tile.h"
#include "cpu/vec_norm.h"
#include "cpu/vec_ops.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

static enum oct_status cpu_alloc(oct_backend *backend, size_t bytes, void **out)
{
    size_t alignment = bytes >= 2 * (size_t)HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    size_t rounded = (bytes / alignment + 1) * alignment;
    void *p = bytes < SIZE_MAX - HUGE_PAGE ? aligned_alloc(alignment, rounded) : NULL;
    if (!p)
        return oct_fail(OCT_NOMEM, "no memory for %zu bytes: use a smaller batch or model", bytes);
    if (alignment == HUGE_PAGE)
        (void)madvise(p, rounded, MADV_HUGEPAGE); /* only a hint: fewer TLB misses */
    __atomic_fetch_add(&backend->allocations, 1, __ATOMIC_RELAXED);
    *out = p;
    return OCT_OK;
}

static void cpu_free(oct_backend *backend, void *p)
{
    __atomic_fetch_add(&backend->allocations, 1, __ATOMIC_RELAXED);
    free(p);
}

static enum oct_status cpu_upload(
    oct_backend *backend, void *device, const void *host, size_t bytes)
{
    (void)backend;
    memmove(device, host, bytes);
    return OCT_OK;
}

static enum oct_status cpu_clear(oct_backend *backend, void *device, size_t bytes)
{
    (void)backend;
    memset(device, 0, bytes);
    return OCT_OK;
}

static enum oct_status cpu_sync(oct_backend *backend)
{
    (void)backend;
    return OCT_OK;
}

struct regime_probe {
    const struct oct_tile_kernels *tile;
    int threads;
    int arrived; /* atomic */
    double worst[64];
};

/* Every thread waits for all others, so that each runs one item and all run at once. */
static void probe_regime(void *probe_, int64_t item, int thread)
{
    enum { WARM_UP = 1000, ROUNDS = 1500 }; /* about 30 and 50 microseconds */
    struct regime_probe *probe = probe_;
    struct timespec begin, end;
    (void)thread;
    __atomic_fetch_add(&probe->arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&probe->arrived, __ATOMIC_ACQUIRE) < probe->threads)
        sched_yield();
    probe->tile->regime(WARM_UP);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    int64_t units = probe->tile->regime(ROUNDS);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns = 1e9 * (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec);
    probe->worst[item] = ns / (double)units / probe->tile->regime_ns;
}

static double cpu_slowdown(oct_backend *backend)
{
    struct oct_cpu *cpu = oct_cpu_of(backend);
    struct regime_probe probe = {.tile = cpu->tile, .threads = oct_pool_threads(cpu->pool)};
    double worst = 0;
    if (!cpu->tile->regime)
        return 0;
    if (probe.threads > (int)(sizeof probe.worst / sizeof probe.worst[0]))
        probe.threads = (int)(sizeof probe.worst / sizeof probe.worst[0]);
    oct_pool_run(cpu->pool, probe.threads, probe_regime, &probe);
    for (int i = 0; i < probe.threads; i++)
        worst = probe.worst[i] > worst ? probe.worst[i] : worst;
    return worst;
}

/* Processors this process may use. */
static int processors(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? count : 1;
}

/* The instruction set that was asked for by option or environment; NULL: the best available. */
static const char *requested_isa(const char *isa)
{
    if (!isa || strcmp(isa, "auto") == 0)
        isa = getenv("OCT_ISA");
    return isa && *isa && strcmp(isa, "auto") != 0 ? isa : NULL;
}

/* Elementwise loops: the wide ones unless the plain instruction set was asked for. */
static void choose_vectors(struct oct_cpu *cpu, const char *isa)
{
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               !(isa && strcmp(isa, "c") == 0);
    cpu->ops = wide ? &oct_vec_ops_avx512 : &oct_vec_ops_base;
    cpu->norm = wide ? &oct_vec_norm_avx512 : &oct_vec_norm_base;
}

static void install(oct_backend *table)
{
    table->close = oct_cpu_close;
    table->alloc = cpu_alloc;
    table->free = cpu_free;
    table->upload = cpu_upload;
    table->download = cpu_upload;
    table->copy = cpu_upload;
    table->clear = cpu_clear;
    table->sync = cpu_sync;
    table->slowdown = cpu_slowdown;
    oct_cpu_conv_install(table);
    oct_cpu_ops_install(table);
    oct_cpu_norm_install(table);
    oct_cpu_shift_install(table);
}

enum oct_status oct_cpu_open(const char *isa, int threads, oct_backend **out)
{
    enum oct_status status = OCT_OK;
    struct oct_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return oct_fail(OCT_NOMEM, "no memory for the CPU backend");
    isa = requested_isa(isa);
    OCT_OUT(oct_pool_open(threads == 0 ? processors() : threads, &cpu->pool));
    choose_vectors(cpu, isa);
    OCT_OUT(oct_cpu_conv_open(cpu, isa));
    OCT_OUT(oct_dnnl_open(cpu));
    cpu->table.name = "cpu";
    cpu->table.isa = cpu->isa_name;
    cpu->table.threads = oct_pool_threads(cpu->pool);
    cpu->table.ctx = cpu;
    install(&cpu->table);
    *out = &cpu->table;
    return OCT_OK;
out:
    oct_cpu_close(&cpu->table);
    return status;
}

void oct_cpu_close(oct_backend *backend)
{
    if (!backend)
        return;
    struct oct_cpu *cpu = oct_cpu_of(backend);
    oct_dnnl_close(cpu);
    oct_cpu_conv_close(cpu);
    oct_pool_close(cpu->pool);
    free(cpu);
}
