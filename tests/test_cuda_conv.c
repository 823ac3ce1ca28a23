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

static void expect_ideal(const char *kernel, const struct gpusim_counts *counts, void *user)
{
    int *seen = user;
    if (counts->macs == 0)
        return;
    ++*seen;
    cr_expect(counts->wavefronts <= 1.05 * (double)counts->wavefronts_ideal,
        "%s: %.3f of the wavefronts that its accesses of shared memory need", kernel,
        (double)counts->wavefronts / (double)counts->wavefronts_ideal);
    cr_expect(counts->sectors <= 1.05 * (double)counts->sectors_ideal,
        "%s: %.3f of the sectors that its accesses of global memory need", kernel,
        (double)counts->sectors / (double)counts->sectors_ideal);
}

/* Shared memory without bank conflicts and whole sectors of global memory, for the layers that a
 * network has: 3x3 and 1x1 filters, 64 and more channels, and a stem that is folded. */
Test(cuda_conv, memory_is_met_as_it_lies)
{
    const struct oct_conv_shape shapes[] = {conv_square(1, 16, 64, 64, 3, 1, 1, 1),
        conv_square(1, 16, 64, 128, 1, 1, 0, 1), conv_square(1, 32, 3, 64, 7, 2, 3, 1)};
    int seen = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct gpusim_options sim = gpusim_options();
        struct conv_problem p;
        const struct conv_plan plan = {.shape = shapes[i],
            .fill = FILL_RANDOM,
            .x_planes = 1,
            .w_planes = 1,
            .dy_planes = 1,
            .per_k = 1,
            .dtype = OCT_BF16,
            .seed = 701};
        sim.count_memory = true;
        gpusim_set_options(&sim);
        gpusim_clear_counts();
        conv_problem_make(&p, &plan);
        check_tiles(&p, 80, 0);
        conv_problem_free(&p);
        gpusim_each_kernel(expect_ideal, &seen);
    }
    cr_expect_geq(seen, 9);
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
