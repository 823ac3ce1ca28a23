/* Finds the function of a spelling, compiled for the best instruction set this host has. */
#include "sim_core.h"

#include <pthread.h>
#include <string.h>

extern const struct gpusim_alu_entry gpusim_int_table_base[], gpusim_int_table_avx512[];
extern const struct gpusim_alu_entry gpusim_float_table_base[], gpusim_float_table_avx512[];
extern const struct gpusim_alu_entry gpusim_convert_table_base[], gpusim_convert_table_avx512[];

enum { BUCKETS = 4096 };
static const struct gpusim_alu_entry *bucket[BUCKETS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t hash_of(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static void add_table(const struct gpusim_alu_entry *table)
{
    for (const struct gpusim_alu_entry *e = table; e->spelling; e++) {
        uint32_t at = hash_of(e->spelling) % BUCKETS;
        while (bucket[at])
            at = (at + 1) % BUCKETS;
        bucket[at] = e;
    }
}

static bool host_has_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

static void fill(void)
{
    const bool wide = host_has_avx512();
    add_table(wide ? gpusim_int_table_avx512 : gpusim_int_table_base);
    add_table(wide ? gpusim_float_table_avx512 : gpusim_float_table_base);
    add_table(wide ? gpusim_convert_table_avx512 : gpusim_convert_table_base);
}

const struct gpusim_alu_entry *gpusim_alu_find(const char *spelling)
{
    pthread_once(&once, fill);
    for (uint32_t at = hash_of(spelling) % BUCKETS; bucket[at]; at = (at + 1) % BUCKETS)
        if (strcmp(bucket[at]->spelling, spelling) == 0)
            return bucket[at];
    return NULL;
}
