/* A CPU backend with the elementwise ops only, on a chosen instruction set and thread count. */
#ifndef OCT_TEST_CPU_OPS_H
#define OCT_TEST_CPU_OPS_H

#include "cpu/vec_ops.h"
#include "support/mirror.h"

#include <stdbool.h>
#include <stdlib.h>

static inline bool cpu_ops_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static inline oct_backend *cpu_ops_open(const struct oct_vec_ops *ops, int threads)
{
    struct oct_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu || oct_pool_open(threads, &cpu->pool) != OCT_OK)
        abort();
    cpu->ops = ops;
    oct_cpu_ops_install(&cpu->table);
    oct_cpu_shift_install(&cpu->table);
    return &cpu->table;
}

static inline void cpu_ops_close(oct_backend *backend)
{
    if (oct_cpu_of(backend)->pool)
        oct_pool_close(oct_cpu_of(backend)->pool);
    else
        mirror_close(backend);
    free(oct_cpu_of(backend));
}

/* Variants to run: plain and AVX-512 loops on 1, 2 and 3 threads; or the one device under test. */
struct cpu_ops_variant {
    int index;
    const char *isa;
    int threads;
    oct_backend *backend; /* NULL: no more */
};

static inline oct_backend *cpu_ops_open_mirror(void)
{
    struct oct_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        abort();
    mirror_open(&cpu->table);
    return &cpu->table;
}

static inline struct cpu_ops_variant cpu_ops_variant(int index)
{
    if (mirror_device())
        return (struct cpu_ops_variant){.index = index,
            .isa = mirror_device(),
            .backend = index == 0 ? cpu_ops_open_mirror() : NULL};
    bool wide = index >= 3, some = index < 6 && (!wide || cpu_ops_has_avx512());
    const struct oct_vec_ops *ops = wide ? &oct_vec_ops_avx512 : &oct_vec_ops_base;
    return (struct cpu_ops_variant){.index = index,
        .isa = wide ? "avx512" : "base",
        .threads = index % 3 + 1,
        .backend = some ? cpu_ops_open(ops, index % 3 + 1) : NULL};
}

static inline struct cpu_ops_variant cpu_ops_next(struct cpu_ops_variant v)
{
    cpu_ops_close(v.backend);
    return cpu_ops_variant(v.index + 1);
}

#define EACH_VARIANT(v)                                                                            \
    for (struct cpu_ops_variant v = cpu_ops_variant(0); v.backend; v = cpu_ops_next(v))

#endif
