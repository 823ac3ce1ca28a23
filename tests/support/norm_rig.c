#include "support/norm_rig.h"

#include "cpu/vec_norm.h"
#include "support/mirror.h"

#include <stdio.h>
#include <stdlib.h>

bool norm_rig_open(int isa, int threads, struct oct_cpu *out)
{
    memset(out, 0, sizeof *out);
    if (mirror_device()) {
        if (isa == 0 && threads == 1)
            mirror_open(&out->table);
        return isa == 0 && threads == 1;
    }
    if (isa == 1 && !(__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl")))
        return false;
    if (oct_pool_open(threads, &out->pool) != OCT_OK)
        abort();
    out->norm = isa == 1 ? &oct_vec_norm_avx512 : &oct_vec_norm_base;
    oct_cpu_norm_install(&out->table);
    oct_cpu_flush_subnormals();
    return true;
}

void norm_rig_close(struct oct_cpu *cpu)
{
    if (cpu->pool)
        oct_pool_close(cpu->pool);
    else
        mirror_close(&cpu->table);
}

void *output_add(
    struct outputs *outs, const char *name, enum oct_dtype dtype, int64_t n, bool garbage)
{
    size_t bytes = (size_t)n * oct_dtype_bytes(dtype);
    if (outs->count == RIG_OUTPUTS)
        abort();
    struct output *output = &outs->at[outs->count++];
    *output = (struct output){name, dtype, n, NULL, NULL, NULL};
    if (n == 0)
        return NULL;
    output->initial = guard_alloc(bytes);
    output->want = guard_alloc(bytes);
    output->got = guard_alloc(bytes);
    if (!garbage)
        memset(output->initial, 0, bytes);
    return output->initial;
}

void *output_ptr(const struct outputs *outs, const char *name)
{
    for (int i = 0; i < outs->count; i++)
        if (strcmp(outs->at[i].name, name) == 0)
            return outs->use_got ? outs->at[i].got : outs->at[i].want;
    abort();
}

void outputs_reset(struct outputs *outs)
{
    for (int i = 0; i < outs->count; i++) {
        struct output *output = &outs->at[i];
        if (output->n > 0)
            memcpy(outs->use_got ? output->got : output->want, output->initial,
                (size_t)output->n * oct_dtype_bytes(output->dtype));
    }
}

bool outputs_same(const struct outputs *outs, int channels)
{
    bool same = true;
    for (int i = 0; i < outs->count; i++) {
        const struct output *o = &outs->at[i];
        const int64_t dims[] = {o->n / channels, channels};
        int rank = o->n > channels && o->n % channels == 0 ? 2 : 0;
        if (o->n == 0)
            continue;
        same &= same_tensor(o->name, o->dtype, o->got, o->want, o->n, rank ? dims : NULL, rank);
        same &= guard_intact(o->got, o->name);
    }
    return same;
}

void outputs_free(struct outputs *outs)
{
    for (int i = 0; i < outs->count; i++) {
        guard_free(outs->at[i].initial);
        guard_free(outs->at[i].want);
        guard_free(outs->at[i].got);
    }
    outs->count = 0;
}
