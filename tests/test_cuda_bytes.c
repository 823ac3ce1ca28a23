/* The elementwise passes of a training step move the bytes of the plan and no more: what gpusim
 * counts for 2 K rows less what it counts for K rows, per element. The difference leaves out what
 * does not grow with the tensor: parameters of the channels, results of a block. */
#include "cuda.h"
#include "gpusim.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { ROWS = 2048, CHANNELS = 64, ELEMENTS = 2 * ROWS * CHANNELS, PARAMS = 12 };

/* Device memory that every pass finds its tensors in, all zeros. */
struct tensors {
    void *da, *y, *codes[2], *residual, *mask, *workspace;
    float *channel[PARAMS]; /* f32[CHANNELS] or doubles of half as many arrays */
    double *sums;           /* f64[3][CHANNELS] */
    int64_t *counts;        /* s64[CHANNELS + 3] */
    uint32_t *flag;
};

static oct_backend *device;
static struct tensors t;

static void *zeros(size_t bytes)
{
    void *p = NULL;
    cr_assert_eq(device->alloc(device, bytes, &p), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->clear(device, p, bytes), OCT_OK);
    return p;
}

static void begin(void)
{
    const struct oct_backend_options wanted = {.device = "sim"};
    struct gpusim_options options = gpusim_options();
    options.count_memory = 1;
    gpusim_set_options(&options);
    cr_assert_eq(oct_cuda_open(&wanted, &device), OCT_OK, "%s", oct_last_error());
    oct_cuda_of(device)->multiprocessors = 2; /* so that K rows already fill the device */
    t.da = zeros(4 * ELEMENTS);
    t.y = zeros(4 * ELEMENTS);
    t.residual = zeros(4 * ELEMENTS);
    t.mask = zeros(ELEMENTS / 8);
    t.workspace = zeros(device->bn_workspace(device, 2 * ROWS, CHANNELS));
    for (int i = 0; i < 2; i++)
        t.codes[i] = zeros(ELEMENTS);
    for (int i = 0; i < PARAMS; i++)
        t.channel[i] = zeros(4 * CHANNELS);
    t.sums = zeros(8 * 3 * CHANNELS);
    t.counts = zeros(8 * (CHANNELS + 3));
    t.flag = zeros(4);
}

static void end(void)
{
    void *all[] = {t.da, t.y, t.residual, t.mask, t.workspace, t.codes[0], t.codes[1], t.sums,
        t.counts, t.flag};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        device->free(device, all[i]);
    for (int i = 0; i < PARAMS; i++)
        device->free(device, t.channel[i]);
    device->close(device);
}

TestSuite(cuda_bytes, .init = begin, .fini = end, .timeout = 300);

typedef enum oct_status pass(int64_t rows, int variant);

static struct gpusim_counts count_pass(pass *run, int64_t rows, int variant)
{
    struct gpusim_counts counts = {0};
    gpusim_clear_counts();
    cr_assert_eq(run(rows, variant), OCT_OK, "%s", oct_last_error());
    cr_assert_eq(device->sync(device), OCT_OK, "%s", oct_last_error());
    gpusim_counts_of(NULL, &counts);
    return counts;
}

struct planned {
    double read, written; /* bytes per element that the threads ask for */
    double touched;       /* of them different ones, read and written */
};

/* Bytes per element, exactly; sectors within 5 % of what the bytes need. */
static void expect_bytes(const char *what, pass *run, int variant, struct planned plan)
{
    const double read = plan.read, written = plan.written;
    const double elements = (double)ROWS * CHANNELS;
    struct gpusim_counts one = count_pass(run, ROWS, variant);
    struct gpusim_counts two = count_pass(run, 2 * ROWS, variant);
    double got_read = (double)(two.bytes_read - one.bytes_read) / elements;
    double got_written = (double)(two.bytes_written - one.bytes_written) / elements;
    double sectors = (double)(two.sectors - one.sectors);
    double ideal = (double)(two.sectors_ideal - one.sectors_ideal);
    printf("%-40s %7.4f read %7.4f written, sectors %.3f of ideal\n", what, got_read, got_written,
        sectors / ideal);
    cr_expect_eq(got_read, read, "%s: %g bytes read per element, planned %g", what, got_read, read);
    cr_expect_eq(got_written, written, "%s: %g bytes written per element, planned %g", what,
        got_written, written);
    double touched = (double)(two.footprint_read - one.footprint_read + two.footprint_written -
                              one.footprint_written) /
                     elements;
    cr_expect_eq(touched, plan.touched, "%s: %g different bytes per element, planned %g", what,
        touched, plan.touched);
    cr_expect_leq(sectors, 1.05 * ideal, "%s: %g sectors, %g would do", what, sectors, ideal);
}

static struct oct_range range_of(int count)
{
    return (struct oct_range){
        .inverse = t.channel[8], .scale = t.channel[9], .count = count, .code_max = 127};
}

enum { PLAIN, RESIDUAL };

static enum oct_status act(int64_t rows, int variant)
{
    struct oct_act_fwd_args g = {.rows = rows,
        .channels = CHANNELS,
        .y = t.y,
        .y_dtype = OCT_BF16,
        .a = t.channel[0],
        .b = t.channel[1],
        .relu = 1,
        .x = t.codes[0],
        .x_dtype = OCT_S8,
        .x_range = range_of(1),
        .flag = t.flag};
    if (variant == RESIDUAL) {
        g.residual = t.codes[1];
        g.residual_dtype = OCT_S8;
        g.residual_scale = t.channel[9];
        g.mask = t.mask;
    }
    return device->act_fwd(device, &g);
}

static enum oct_status reduce(int64_t rows, int variant)
{
    const struct oct_bn_bwd_reduce_args g = {.rows = rows,
        .channels = CHANNELS,
        .da = t.da,
        .da_dtype = OCT_BF16,
        .y = t.y,
        .y_dtype = OCT_BF16,
        .a = t.channel[0],
        .b = t.channel[1],
        .ix = t.channel[2],
        .jx = t.channel[3],
        .relu = 1,
        .mask = variant == RESIDUAL ? t.mask : NULL,
        .sum_dz = t.sums,
        .sum_dz_xhat = t.sums + CHANNELS,
        .sum_dz2 = t.sums + 2 * CHANNELS,
        .dz_min = t.channel[4],
        .dz_max = t.channel[5],
        .workspace = t.workspace};
    return device->bn_bwd_reduce(device, &g);
}

/* Both copies of dY with the evidence for the clip rules, as dai8 wants them. */
static enum oct_status apply(int64_t rows, int variant)
{
    struct oct_bn_bwd_apply_args g = {.rows = rows,
        .channels = CHANNELS,
        .da = t.da,
        .da_dtype = OCT_BF16,
        .y = t.y,
        .y_dtype = OCT_BF16,
        .a = t.channel[0],
        .b = t.channel[1],
        .ix = t.channel[2],
        .jx = t.channel[3],
        .m1 = t.channel[4],
        .m2 = t.channel[5],
        .relu = 1,
        .q_channel = t.codes[0],
        .range_channel = range_of(CHANNELS),
        .q_tensor = t.codes[1],
        .range_tensor = range_of(1),
        .sigma = t.channel[6],
        .sigma_all = t.channel[6],
        .above = t.counts,
        .above_all = t.counts + CHANNELS,
        .saturated = t.counts + CHANNELS + 1,
        .amax = t.channel[7],
        .workspace = t.workspace,
        .flag = t.flag};
    if (variant == RESIDUAL) {
        g.mask = t.mask;
        g.d_residual = t.residual;
        g.d_residual_dtype = OCT_BF16;
    }
    return device->bn_bwd_apply(device, &g);
}

Test(cuda_bytes, passes_move_the_planned_bytes)
{
    /* y; codes */
    expect_bytes("act_fwd", act, PLAIN, (struct planned){2.0, 1.0, 3.0});
    /* y, codes of the residual; codes, a bit of the mask */
    expect_bytes("act_fwd, residual", act, RESIDUAL, (struct planned){3.0, 1.125, 4.125});
    /* da, y, and per chunk of 256 pixels four parameters, then five words there and back */
    expect_bytes("bn_bwd_reduce", reduce, PLAIN,
        (struct planned){4.0 + 36.0 / 256.0, 20.0 / 256.0, 4.0 + 40.0 / 256.0});
    /* two parameters, and for each pair of channels a byte of the mask, from the cache but once */
    expect_bytes("bn_bwd_reduce, mask", reduce, RESIDUAL,
        (struct planned){4.5 + 28.0 / 256.0, 20.0 / 256.0, 4.125 + 40.0 / 256.0});
    /* da, y; two copies of codes */
    expect_bytes("bn_bwd_apply", apply, PLAIN, (struct planned){4.0, 2.0, 6.0});
    /* a byte of the mask for four channels; dz in bf16 */
    expect_bytes("bn_bwd_apply, residual", apply, RESIDUAL, (struct planned){4.25, 4.0, 8.125});
}
