/* Every checker of gpusim catches the kernel planted for it and says nothing about its correct
 * twin. */
#include <criterion/criterion.h>

#include "gpusim_rt.h"
#include "kernels/faults.h"
#include "kernels/registers.h"
#include "ptx_bench.h"

#include <cuda_runtime_api.h>
#include <string.h>

static const struct {
    enum fault fault;
    const char *report;
} planted[] = {{FAULT_BOUNDS, "out of bounds"}, {FAULT_ALIGNMENT, "4-byte access at"},
    {FAULT_SHARED_BOUNDS, "shared memory out of bounds"},
    {FAULT_LOCAL_BOUNDS, "local memory out of bounds"}, {FAULT_READ_RACE, "race in shared memory"},
    {FAULT_REUSE_RACE, "race in shared memory"},
    {FAULT_BYTES_RACE, "write after an unordered write"},
    {FAULT_WARP_RACE, "read after an unordered write"},
    {FAULT_ATOMIC_RACE, "race in shared memory"}, {FAULT_CLEAR_RACE, "race in shared memory"},
    {FAULT_BLOCK_WRITE_RACE, "race in global memory"},
    {FAULT_BLOCK_READ_RACE, "race in global memory"},
    {FAULT_BLOCK_ATOMIC_RACE, "race in global memory"},
    {FAULT_LAST_BLOCK_FENCE, "read after an unordered write"},
    {FAULT_LAST_BLOCK_ORDER, "read after an unordered write"},
    {FAULT_LAST_THREAD, "read after an unordered write"},
    {FAULT_LAST_BLOCK_BARRIER, "read after an unordered write"},
    {FAULT_LAST_BLOCK_COUNTER, "read after an unordered write"},
    {FAULT_LAST_BLOCK_EARLY, "read after an unordered write"},
    {FAULT_BLOCK_CLEAR_RACE, "race in global memory"}, {FAULT_SKIPPED_BARRIER, "warp 3 has ended"},
    {FAULT_EARLY_EXIT, "lanes 00000020 of the warp have ended"},
    {FAULT_DIVERGENT_BARRIER, "barrier: lanes"}, {FAULT_DIVERGENT_SHUFFLE, "shfl.sync"},
    {FAULT_FOREIGN_MASK, "not in the mask 7fffffff"}, {FAULT_SHUFFLE_SOURCE, "from lane 20"},
    {FAULT_UNWRITTEN_SHARED, "shared memory is read that nothing has written"},
    {FAULT_DIVIDE, "division by zero"}, {FAULT_ENDLESS, "no end after"}, {FAULT_TRAP, "trap"},
    {FAULT_LAUNCH_BOUNDS, "launch bounds say 64"}, {FAULT_THREADS, "(1025,1,1) threads"},
    {FAULT_EMPTY_GRID, "grid of (0,1,1)"},
    {FAULT_SHARED_SIZE, "cudaFuncAttributeMaxDynamicSharedMemorySize"}};

static int run(enum fault fault, int bad)
{
    int *p = NULL, *q = NULL;
    cr_assert_eq(cudaMalloc((void **)&p, 512), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&q, 512), cudaSuccess);
    cudaMemset(p, 0, 512);
    const int error = fault_run(fault, p, q, bad);
    const cudaError_t after = cudaDeviceSynchronize();
    cudaFree(p);
    cudaFree(q);
    return error ? error : (int)after;
}

static void use(unsigned checks, enum gpusim_schedule schedule, uint64_t seed)
{
    struct gpusim_options options = gpusim_options();
    options.checks = checks;
    options.schedule = schedule;
    options.seed = seed;
    options.quantum = 7;
    options.max_steps = 100000;
    gpusim_set_options(&options);
}

static void forget(void)
{
    gpusim_reset();
    cudaGetLastError();
}

/* All checkers watch the twins. The one of unwritten memory would come before the one of races. */
static void check_all(enum gpusim_schedule schedule, uint64_t seed)
{
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++) {
        const enum fault fault = planted[i].fault;
        use(GPUSIM_CHECK_ALL, schedule, seed);
        cr_expect_eq(run(fault, 0), 0, "%d: %s", (int)i, gpusim_last_report());
        cr_expect_str_empty(gpusim_last_report(), "%d: %s", (int)i, gpusim_last_report());
        forget();
        if (fault != FAULT_UNWRITTEN_SHARED)
            use(GPUSIM_CHECK_ALL & ~GPUSIM_CHECK_MEMORY, schedule, seed);
        cr_expect_neq(run(fault, 1), 0, "%d is not caught", (int)i);
        cr_expect_not_null(strstr(gpusim_last_report(), planted[i].report), "%d: \"%s\"", (int)i,
            gpusim_last_report());
        forget();
    }
}

Test(gpusim_checks, each_fault_is_caught_and_its_twin_passes)
{
    cr_assert_eq(
        sizeof planted / sizeof *planted, FAULT_COLUMN, "all but the last, which is slow only");
    check_all(GPUSIM_RUN_TO_BARRIER, 1);
}

Test(gpusim_checks, in_any_order_of_warps)
{
    check_all(GPUSIM_ROUND_ROBIN, 1);
    for (uint64_t seed = 1; seed <= 3; seed++)
        check_all(GPUSIM_RANDOM, seed);
}

/* The races leave results as they are: without the checkers nothing is seen. */
Test(gpusim_checks, races_pass_where_nobody_looks)
{
    use(0, GPUSIM_RUN_TO_BARRIER, 1);
    cr_expect_eq(run(FAULT_REUSE_RACE, 1), 0);
    cr_expect_eq(run(FAULT_BLOCK_WRITE_RACE, 1), 0);
    cr_expect_eq(run(FAULT_SKIPPED_BARRIER, 1), 0);
}

Test(gpusim_checks, a_lost_device_stays_lost)
{
    int *p = NULL;
    cr_assert_eq(cudaMalloc((void **)&p, 512), cudaSuccess);
    fault_run(FAULT_TRAP, p, p, 1);
    cr_expect_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    cr_expect_eq(cudaMemset(p, 0, 4), cudaErrorLaunchFailure);
    cr_expect_eq(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
}

Test(gpusim_checks, shared_memory_limits_of_each_architecture)
{
    static const struct {
        int sm, bytes;
    } limits[] = {{75, 64 * 1024}, {80, 163 * 1024}, {90, 227 * 1024}};
    for (int i = 0; i < 3; i++) {
        struct gpusim_options options = gpusim_options();
        options.sm = limits[i].sm;
        gpusim_set_options(&options);
        cr_expect_eq(
            fault_opt_in(limits[i].bytes), 0, "sm_%d: %s", limits[i].sm, gpusim_last_report());
        cr_expect_neq(fault_opt_in(limits[i].bytes + 16), 0, "sm_%d", limits[i].sm);
        gpusim_reset();
        cudaGetLastError();
    }
}

/* A block's warps take their registers by fours: 65,536 / (96 * 32) = 21 warps are 20 that fit. */
Test(gpusim_checks, registers_limit_a_block)
{
    struct gpusim_options options = gpusim_options();
    struct cudaFuncAttributes attributes;
    float *p = NULL;
    cr_assert_eq(cudaMalloc((void **)&p, 1024 * sizeof *p), cudaSuccess);
    cr_assert_eq(cudaMemset(p, 0, 1024 * sizeof *p), cudaSuccess);
    options.sm = 80;
    gpusim_set_options(&options);
    cr_assert_eq(registers_attributes(&attributes), cudaSuccess);
    cr_expect_eq(attributes.numRegs, REGISTERS);
    cr_expect_eq(registers_launch(p, 640), cudaSuccess, "%s", gpusim_last_report());
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
    cr_expect_eq(registers_launch(p, 641), cudaErrorLaunchOutOfResources);
    cr_expect_not_null(strstr(gpusim_last_report(), "641 threads of 96 registers take 73728"), "%s",
        gpusim_last_report());
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess, "a refused launch harms nobody");
    gpusim_reset();
    /* Without machine code for the device nobody knows. */
    options.sm = 75;
    gpusim_set_options(&options);
    cr_expect_eq(registers_launch(p, 1024), cudaSuccess, "%s", gpusim_last_report());
    cudaFree(p);
}

/* A device runs machine code of its own major version that is not newer than itself. */
Test(gpusim_checks, machine_code_of_an_older_device)
{
    struct gpusim_options options = gpusim_options();
    struct cudaFuncAttributes attributes;
    options.sm = 86;
    gpusim_set_options(&options);
    cr_assert_eq(registers_attributes(&attributes), cudaSuccess);
    cr_expect_eq(attributes.numRegs, REGISTERS);
    options.sm = 90;
    gpusim_set_options(&options);
    cr_assert_eq(registers_attributes(&attributes), cudaSuccess);
    cr_expect_neq(attributes.numRegs, REGISTERS);
}

Test(gpusim_checks, a_report_says_where)
{
    int *p = NULL;
    cr_assert_eq(cudaMalloc((void **)&p, 400), cudaSuccess);
    fault_run(FAULT_BOUNDS, p, p, 1);
    cudaDeviceSynchronize();
    const char *report = gpusim_last_report();
    static const char *const parts[] = {"bounds_kernel", "block (1,0,0)", "thread (36,0,0)",
        "PTX line", "ld.global", "0 bytes behind the 400-byte allocation"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        cr_expect_not_null(strstr(report, parts[i]), "no \"%s\" in: %s", parts[i], report);
}

Test(gpusim_checks, freed_memory_is_named)
{
    int *p = NULL, *q = NULL;
    cr_assert_eq(cudaMalloc((void **)&p, 512), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&q, 512), cudaSuccess);
    cudaFree(p);
    fault_run(FAULT_BOUNDS, p, q, 0);
    cr_expect_neq(cudaDeviceSynchronize(), cudaSuccess);
    cr_expect_not_null(
        strstr(gpusim_last_report(), "into the freed 512-byte"), "%s", gpusim_last_report());
}

/* ---- registers ---- */

static bool unwritten(const char *body, uint64_t a, uint64_t want)
{
    const struct ptx_row row = {a, 0, 0, want};
    const int wrong = ptx_check(body, &row, 1);
    cr_expect_leq(wrong, 0, "%s", body);
    return wrong < 0;
}

Test(gpusim_checks, registers_read_before_written)
{
    cr_expect(unwritten("add.s32 %o, %t, %u;", 0, 0), "no path writes it");
    static const char some[] = "setp.eq.s32 %p, %a, 1;\n@%p mov.u32 %u, 7;\nadd.s32 %o, %u, 1;";
    cr_expect(unwritten(some, 0, 0), "this lane has not written it");
    cr_expect_not(unwritten(some, 1, 8), "this lane has");
    static const char copied[] =
        "setp.eq.s32 %p, %a, 1;\n@%p mov.u32 %u, 7;\nmov.u32 %t, %u;\n@!%p mov.u32 %t, 3;\n"
        "add.s32 %o, %t, 1;";
    cr_expect_not(unwritten(copied, 0, 4), "a copy of it is no error");
    cr_expect_not(unwritten(copied, 1, 8));
    static const char carried[] =
        "setp.eq.s32 %p, %a, 1;\n@%p mov.u32 %u, 7;\nmov.u32 %t, %u;\nadd.s32 %o, %t, 1;";
    cr_expect(unwritten(carried, 0, 0), "use of the copy is");
    cr_expect_not(unwritten(carried, 1, 8));
    cr_expect(unwritten("mov.u32 %o, 1;\n@%q mov.u32 %o, 2;", 0, 1), "a guard");
    cr_expect(unwritten("st.global.u32 [%out], %u;\nmov.u32 %o, 1;", 0, 1), "a stored value");
    static const char looped[] = "mov.u32 %o, 0;\nL:\nsetp.eq.s32 %p, %o, 0;\n@%p mov.u32 %t, 5;\n"
                                 "add.s32 %o, %o, %t;\nsetp.lt.s32 %q, %o, 20;\n@%q bra L;";
    cr_expect_not(unwritten(looped, 0, 20), "written in an earlier round");
}

/* Several host threads give the same counts and memory. */
Test(gpusim_checks, host_threads_change_nothing)
{
    int got[2][128];
    for (int n = 0; n < 2; n++) {
        struct gpusim_options options = gpusim_options();
        options.threads = n ? 3 : 1;
        gpusim_set_options(&options);
        int *p = NULL, *q = NULL;
        cudaMalloc((void **)&p, 512);
        cudaMalloc((void **)&q, 512);
        cudaMemset(p, 3, 512);
        cudaMemset(q, 0, 512);
        cr_assert_eq(fault_run(FAULT_BOUNDS, p, q, 0), 0);
        cr_assert_eq(fault_run(FAULT_BLOCK_ATOMIC_RACE, q, p, 0), 0);
        cr_assert_eq(cudaMemcpy(got[n], q, 512, cudaMemcpyDeviceToHost), cudaSuccess);
        cudaFree(p);
        cudaFree(q);
    }
    cr_expect_arr_eq(got[0], got[1], sizeof got[0]);
}

/* Entry names carry a hash of their file: finds the one that holds `part`. */
struct sought {
    const char *part;
    struct gpusim_counts counts;
};

static void find_counts(const char *kernel, const struct gpusim_counts *counts, void *user)
{
    struct sought *sought = user;
    if (strstr(kernel, sought->part))
        sought->counts = *counts;
}

Test(gpusim_checks, counters_count)
{
    struct gpusim_options options = gpusim_options();
    options.count_memory = 1;
    gpusim_set_options(&options);
    cr_assert_eq(run(FAULT_BOUNDS, 0), 0);
    struct sought copy = {.part = "13bounds_kernel"};
    gpusim_each_kernel(find_counts, &copy);
    /* 100 ints each way: three full warps of 4 sectors and one of 16 bytes */
    cr_expect_eq(copy.counts.launches, 1u);
    cr_expect_eq(copy.counts.blocks, 3u);
    cr_expect_eq(copy.counts.bytes_read, 400u);
    cr_expect_eq(copy.counts.bytes_written, 400u);
    cr_expect_eq(copy.counts.sectors, 26u);
    cr_expect_eq(copy.counts.sectors_ideal, 26u);
    cr_expect_eq(copy.counts.instructions[GPUSIM_GLOBAL], 8u);
    cr_assert_eq(run(FAULT_READ_RACE, 0), 0);
    struct sought shared = {.part = "16read_race_kernel"};
    gpusim_each_kernel(find_counts, &shared);
    cr_expect_eq(shared.counts.wavefronts, 8u);
    cr_expect_eq(shared.counts.wavefronts_ideal, 8u);
    cr_expect_eq(shared.counts.instructions[GPUSIM_BARRIER], 4u);
}

/* A column of a 32 x 32 array of words lies in one bank: 32 wavefronts where 1 would do. */
Test(gpusim_checks, bank_conflicts_are_counted)
{
    struct gpusim_options options = gpusim_options();
    options.count_memory = 1;
    gpusim_set_options(&options);
    cr_assert_eq(run(FAULT_COLUMN, 0), 0, "%s", gpusim_last_report());
    struct sought column = {.part = "column_kernel"};
    gpusim_each_kernel(find_counts, &column);
    cr_expect_eq(column.counts.wavefronts, 2u);
    gpusim_clear_counts();
    cr_assert_eq(run(FAULT_COLUMN, 1), 0);
    gpusim_each_kernel(find_counts, &column);
    cr_expect_eq(column.counts.wavefronts, 33u);
    cr_expect_eq(column.counts.wavefronts_ideal, 2u);
}
