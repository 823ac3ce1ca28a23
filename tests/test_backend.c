/* Opening the CPU backend: the table is complete, names are refused with one clear line, the memory
 * group does what it says and is counted. */
#include "cpu/cpu.h"
#include "cpu/vec_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static oct_backend *open_cpu(const char *isa, int threads)
{
    struct oct_backend_options options = {.device = "cpu", .isa = isa, .threads = threads};
    oct_backend *backend = NULL;
    cr_assert_eq(oct_backend_open(&options, &backend), OCT_OK, "%s", oct_last_error());
    return backend;
}

/* From `close` on the table is function pointers only: none may be NULL. */
static void expect_every_entry(const oct_backend *backend)
{
    void *entries[(sizeof *backend - offsetof(oct_backend, close)) / sizeof(void *)];
    memcpy(entries, &backend->close, sizeof entries);
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        cr_expect_not_null(entries[i], "%s: function %zu of struct oct_backend", backend->name, i);
}

Test(backend, every_entry_is_there)
{
    static const char *const devices[] = {"sim", "model:t4"};
    oct_backend *backend;
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        struct oct_backend_options options = {.device = devices[i]};
        if (oct_backend_open(&options, &backend) == OCT_OK) {
            expect_every_entry(backend);
            oct_backend_close(backend);
        } else {
            cr_expect_str_eq(devices[i], "sim", "only a build without nvcc lacks a device");
        }
    }
    backend = open_cpu(NULL, 1);
    expect_every_entry(backend);
    cr_expect_str_eq(backend->name, "cpu");
    cr_expect_neq(backend->isa[0], '\0');
    cr_expect_not_null(backend->ctx);
    cr_expect_eq(backend->threads, 1);
    oct_backend_close(backend);
}

/* Only the AMX unit has slow periods; its probe runs on every thread at once and comes back. */
Test(backend, probes_the_unit_that_has_slow_periods)
{
    for (int threads = 1; threads <= 3; threads++) {
        oct_backend *backend = open_cpu("c", threads);
        cr_expect_eq(backend->slowdown(backend), 0);
        oct_backend_close(backend);
        backend = open_cpu("amx-emulated", threads);
        cr_expect_gt(backend->slowdown(backend), 1, "software tiles as fast as the unit");
        oct_backend_close(backend);
    }
}

Test(backend, refuses_what_it_lacks)
{
    static const char *const devices[] = {"none", "", NULL, "CPU"};
    oct_backend *backend = NULL;
    for (int i = 0; i < 4; i++) {
        struct oct_backend_options options = {.device = devices[i]};
        cr_expect_eq(oct_backend_open(&options, &backend), OCT_DEVICE);
        cr_expect_null(backend);
        cr_expect_not_null(strstr(oct_last_error(), "\"cpu\""), "%s", oct_last_error());
        cr_expect_null(strchr(oct_last_error(), '\n'));
    }
    struct oct_backend_options options = {.device = "cpu", .isa = "z80"};
    cr_expect_neq(oct_backend_open(&options, &backend), OCT_OK);
    cr_expect_null(backend);
    cr_expect_not_null(strstr(oct_last_error(), "z80"), "%s", oct_last_error());
    options = (struct oct_backend_options){.device = "cpu", .threads = -1};
    cr_expect_eq(oct_backend_open(&options, &backend), OCT_ARG);
    oct_backend_close(NULL);
}

/* An option beats the environment, the environment beats the best; "c" also means plain loops. */
Test(backend, chooses_the_instruction_set)
{
    setenv("OCT_ISA", "c", 1);
    oct_backend *backend = open_cpu(NULL, 1);
    cr_expect_str_eq(backend->isa, "c");
    cr_expect_eq(oct_cpu_of(backend)->ops, &oct_vec_ops_base);
    oct_backend_close(backend);
    backend = open_cpu("auto", 1);
    cr_expect_str_eq(backend->isa, "c");
    oct_backend_close(backend);
    setenv("OCT_ISA", "z80", 1);
    backend = open_cpu("c", 1);
    cr_expect_str_eq(backend->isa, "c");
    oct_backend_close(backend);
    struct oct_backend_options options = {.device = "cpu", .threads = 1};
    cr_expect_neq(oct_backend_open(&options, &backend), OCT_OK);
    unsetenv("OCT_ISA");
    backend = open_cpu("auto", 1);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        cr_expect_eq(oct_cpu_of(backend)->ops, &oct_vec_ops_avx512);
    oct_backend_close(backend);
}

Test(backend, uses_the_processors_it_may)
{
    cpu_set_t all, one;
    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    oct_backend *backend = open_cpu(NULL, 0);
    cr_expect_eq(oct_pool_threads(oct_cpu_of(backend)->pool), CPU_COUNT(&all));
    oct_backend_close(backend);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    backend = open_cpu(NULL, 0);
    cr_expect_eq(oct_pool_threads(oct_cpu_of(backend)->pool), 1);
    oct_backend_close(backend);
    backend = open_cpu(NULL, 3);
    cr_expect_eq(oct_pool_threads(oct_cpu_of(backend)->pool), 3);
    cr_expect_eq(backend->threads, 3);
    oct_backend_close(backend);
}

Test(backend, memory)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 5 << 20};
    oct_backend *b = open_cpu(NULL, 1);
    for (int i = 0; i < 7; i++) {
        size_t n = sizes[i];
        uint8_t *host = guard_alloc(n), *back = guard_alloc(n);
        void *x = NULL, *y = NULL;
        int64_t before = b->allocations;
        cr_assert_eq(b->alloc(b, n, &x), OCT_OK);
        cr_assert_eq(b->alloc(b, n, &y), OCT_OK);
        cr_assert_eq((uintptr_t)x % 64, 0u);
        cr_assert_eq(b->allocations, before + 2);
        for (size_t j = 0; j < n; j++)
            host[j] = (uint8_t)(j * 7);
        cr_assert_eq(b->upload(b, x, host, n), OCT_OK);
        cr_assert_eq(b->copy(b, y, x, n), OCT_OK);
        cr_assert_eq(b->clear(b, x, n), OCT_OK);
        cr_assert_eq(b->sync(b), OCT_OK);
        cr_assert_eq(b->download(b, back, y, n), OCT_OK);
        cr_assert(same_tensor("copied", OCT_U8, back, host, (int64_t)n, NULL, 0));
        cr_assert_eq(b->download(b, back, x, n), OCT_OK);
        for (size_t j = 0; j < n; j++)
            cr_assert_eq(back[j], 0);
        cr_assert(guard_intact(back, "download"));
        b->free(b, x);
        b->free(b, y);
        b->free(b, NULL);
        guard_free(host);
        guard_free(back);
    }
    void *none = NULL;
    cr_assert_eq(b->alloc(b, SIZE_MAX / 2, &none), OCT_NOMEM);
    cr_assert_eq(b->alloc(b, SIZE_MAX, &none), OCT_NOMEM);
    cr_assert_null(none);
    oct_backend_close(b);
}
