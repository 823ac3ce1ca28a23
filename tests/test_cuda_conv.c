/* The CUDA products in every tile configuration, on the PTX of every target that gpusim runs, under
 * all its checkers: the bits are the oracle's whatever is chosen. test_conv runs the whole case
 * table with the configuration that the shape chooses. */
#include "cuda.h"
#include "gpusim.h"
#include "support/conv_cases.h"
#include "support/conv_check.h"
#include "support/mirror.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

enum { CONFIGURATIONS = 5 };

static void check_tiles(const struct conv_problem *p, int sm, int tile)
{
    const struct oct_backend_options options = {.device = "sim"};
    struct gpusim_options sim = gpusim_options();
    char name[40];
    oct_backend *device, table;
    sim.sm = sm;
    sim.checks = GPUSIM_CHECK_ALL;
    gpusim_set_options(&sim);
    cr_assert_eq(oct_cuda_open(&options, &device), OCT_OK, "%s", oct_last_error());
    struct oct_cuda *cuda = oct_cuda_of(device);
    cr_assert_eq(cuda->arch, sm);
    cuda->tiles = (struct oct_cuda_tiles){tile, tile, tile};
    cuda->multiprocessors = 4; /* so that small problems are split too */
    snprintf(name, sizeof name, "sm_%d tile %d", sm, tile);
    mirror_wrap(&table, device);
    const struct conv_runner runner = {.backend = &table, .name = name};
    conv_check_fprop(&runner, p);
    conv_check_merged(&runner, p);
    conv_check_dgrad(&runner, p);
    conv_check_wgrad(&runner, p);
    cr_assert_str_empty(gpusim_last_report());
    mirror_close(&table);
}

/* 0 is the shape's own choice. */
static void check_shape(int sm, struct oct_conv_shape shape, int planes)
{
    const struct conv_plan plan = {.shape = shape,
        .fill = FILL_RANDOM,
        .x_planes = 1,
        .w_planes = planes,
        .dy_planes = planes,
        .per_k = planes == 1,
        .bias = 1,
        .accumulate = 1,
        .dtype = planes == 1 ? OCT_BF16 : OCT_F32,
        .seed = 700};
    struct conv_problem p;
    conv_problem_make(&p, &plan);
    for (int tile = 0; tile <= CONFIGURATIONS; tile++)
        check_tiles(&p, sm, tile);
    conv_problem_free(&p);
}

static void check_target(int sm)
{
    check_shape(sm, conv_square(1, 9, 32, 80, 3, 2, 1, 1), 1);  /* whole chunks, phases */
    check_shape(sm, conv_square(1, 7, 144, 48, 1, 1, 0, 1), 1); /* 1x1 */
    check_shape(sm, conv_square(1, 8, 20, 36, 3, 1, 1, 1), 1);  /* 4 bytes at a time */
    check_shape(sm, conv_square(1, 9, 5, 24, 5, 2, 2, 1), 1);   /* one byte at a time */
    check_shape(sm, conv_square(2, 11, 3, 32, 7, 2, 3, 1), 2);  /* folded by the stride */
    check_shape(sm, conv_square(1, 10, 3, 20, 3, 1, 1, 1), 1);  /* by the taps of a row */
    check_shape(sm, conv_square(1, 11, 1, 12, 5, 3, 1, 1), 1);  /* by more taps than the stride */
    check_shape(sm, conv_square(2, 6, 16, 16, 3, 1, 1, 2), 2);  /* planes */
    check_shape(sm, conv_square(3, 20, 16, 32, 1, 1, 0, 1), 1); /* wgrad in slices */
}

static void *device_zeros(oct_backend *device, size_t bytes)
{
    void *p = NULL;
    cr_assert_eq(device->alloc(device, bytes, &p), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->clear(device, p, bytes), OCT_OK);
    return p;
}

static struct oct_operand codes(oct_backend *device, size_t bytes, const float *scale)
{
    return (struct oct_operand){
        .dtype = OCT_S8, .planes = 1, .data = device_zeros(device, bytes), .scale = scale};
}

/* One product of a layer on zeros without statistics; the CPU seconds it took. */
static double run_layer(const struct gpusim_options *sim, const struct oct_conv_shape *v,
    bool gradient, struct gpusim_counts *counts)
{
    const struct oct_backend_options options = {.device = "sim"};
    oct_backend *device;
    gpusim_set_options(sim);
    cr_assert_eq(oct_cuda_open(&options, &device), OCT_OK, "%s", oct_last_error());
    float *scale = device_zeros(device, sizeof *scale);
    const struct oct_operand x = codes(device, (size_t)oct_conv_x_elements(v), scale);
    const struct oct_operand dy = codes(device, (size_t)oct_conv_y_elements(v), scale);
    const struct oct_operand w =
        codes(device, device->weight_pack_bytes(device, v, OCT_S8, 0), scale);
    const struct oct_conv_wgrad_args wgrad = {.shape = *v,
        .x = x,
        .dy = dy,
        .dw = device_zeros(device, 4 * (size_t)oct_conv_w_elements(v)),
        .workspace = device_zeros(device, 1 << 22)};
    const struct oct_conv_fprop_args fprop = {.shape = *v,
        .x = x,
        .w = w,
        .y = device_zeros(device, 2 * (size_t)oct_conv_y_elements(v)),
        .y_dtype = OCT_BF16};
    void *all[] = {scale, (void *)(uintptr_t)x.data, (void *)(uintptr_t)dy.data,
        (void *)(uintptr_t)w.data, wgrad.dw, wgrad.workspace, fprop.y};
    cr_assert_eq(device->sync(device), OCT_OK);
    gpusim_clear_counts();
    const clock_t before = clock();
    cr_assert_eq(gradient ? device->conv_wgrad(device, &wgrad) : device->conv_fprop(device, &fprop),
        OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->sync(device), OCT_OK, "%s", oct_last_error());
    const double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
    gpusim_counts_of(NULL, counts);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        device->free(device, all[i]);
    device->close(device);
    return seconds;
}

/* Says how many multiply-adds of a 3x3 layer of 128 channels gpusim makes in a second of its thread
 * under these checks. Only the number of products is judged. */
static void tell_speed(unsigned checks, const char *name)
{
    const struct oct_conv_shape v = conv_square(2, 16, 128, 128, 3, 1, 1, 1);
    struct gpusim_options sim = gpusim_options();
    struct gpusim_counts counts = {0};
    sim.sm = 80;
    sim.checks = checks;
    const double seconds = run_layer(&sim, &v, false, &counts);
    cr_expect_eq(counts.macs, (uint64_t)oct_conv_macs(&v), "every product once, no padding");
    printf(
        "gpusim, sm_80, %s: %.2f GMAC a CPU-second\n", name, (double)counts.macs / seconds / 1e9);
}

Test(cuda_conv, speed_of_the_interpreter)
{
    tell_speed(0, "no checks");
    tell_speed(GPUSIM_CHECK_RACE_SHARED | GPUSIM_CHECK_RACE_GLOBAL, "race checker");
}

/* Shared memory without bank conflicts and whole sectors of global memory: at most 5 % more than
 * the least that the same accesses could take. */
static void check_memory(const struct oct_conv_shape *v, bool gradient)
{
    struct gpusim_options sim = gpusim_options();
    struct gpusim_counts c = {0};
    sim.sm = 80;
    sim.checks = 0;
    sim.count_memory = true;
    run_layer(&sim, v, gradient, &c);
    printf("%dx%d, %d channels to %d, %s: wavefronts %.3f of ideal, sectors %.3f\n", v->r, v->s,
        v->c, v->k, gradient ? "gradient" : "forward",
        (double)c.wavefronts / (double)c.wavefronts_ideal,
        (double)c.sectors / (double)c.sectors_ideal);
    cr_expect_gt(c.wavefronts_ideal, 0u);
    cr_expect_gt(c.sectors_ideal, 0u);
    cr_expect_leq((double)c.wavefronts, 1.05 * (double)c.wavefronts_ideal);
    cr_expect_leq((double)c.sectors, 1.05 * (double)c.sectors_ideal);
}

Test(cuda_conv, memory_is_met_as_it_lies)
{
    const struct oct_conv_shape shapes[] = {conv_square(2, 16, 128, 128, 3, 1, 1, 1),
        conv_square(1, 16, 64, 64, 3, 1, 1, 1), conv_square(1, 16, 256, 64, 1, 1, 0, 1)};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_memory(&shapes[i], false);
        check_memory(&shapes[i], true);
    }
}

Test(cuda_conv, every_tile_sm_80)
{
    check_target(80);
}

Test(cuda_conv, every_tile_sm_75)
{
    check_target(75);
}

Test(cuda_conv, every_tile_sm_90)
{
    check_target(90);
}
