/* Operations and bytes a second of the kernels, by the device's own clock, beside the peaks of the
 * frozen table (src/predict/card.c) where the card is in it. */
#include "cuda.h"
#include "predict/card.h"
#include "predict/work.h"
#include "selftest.h"
#include "support/conv_cases.h"

#include <string.h>

enum { WARM_UP = 3, REPEATS = 20, BATCH = 64, BUFFERS = 8 };
enum { ROWS = BATCH * 56 * 56, CHANNELS = 128 };

/* Device memory that every op finds its tensors in, all zeros. */
struct bench {
    oct_backend *device;
    const struct oct_card *card; /* NULL: not in the table */
    json_t *rows, *report;
    unsigned char *buffer[BUFFERS];
    size_t bytes;
    bool passed;
};

static const struct conv_layer layers[] = {{1, 64, 64, 56, 3, 1}, {1, 256, 64, 56, 1, 1},
    {1, 64, 256, 56, 1, 1}, {1, 128, 128, 28, 3, 1}, {1, 256, 256, 14, 3, 1},
    {1, 1024, 256, 14, 1, 1}, {1, 512, 512, 7, 3, 1}};

/* The card of the table that the device's name speaks of. */
static const struct oct_card *find_card(const char *device_name)
{
    static const struct {
        const char *in_name, *card;
    } known[] = {{"Tesla T4", "t4"}, {"2080 Ti", "2080ti"}, {"A100", "a100"}, {"RTX 3090", "3090"},
        {"RTX 4090", "4090"}, {"H100", "h100"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strstr(device_name, known[i].in_name))
            return oct_card_find(known[i].card);
    return NULL;
}

typedef enum oct_status operation(oct_backend *, const void *args);

/* Seconds of one run of the op; negative, and the reason in the report, if it fails. */
static double time_op(struct bench *b, const char *name, operation *run, const void *args)
{
    cudaStream_t stream = oct_cuda_of(b->device)->stream;
    cudaEvent_t begin = NULL, end = NULL;
    enum oct_status status = OCT_OK;
    float ms = 0;
    double seconds = -1;
    if (cudaEventCreate(&begin) != cudaSuccess || cudaEventCreate(&end) != cudaSuccess)
        goto out;
    for (int i = 0; i < WARM_UP && status == OCT_OK; i++)
        status = run(b->device, args);
    if (status != OCT_OK || cudaEventRecord(begin, stream) != cudaSuccess)
        goto out;
    for (int i = 0; i < REPEATS && status == OCT_OK; i++)
        status = run(b->device, args);
    if (status == OCT_OK && cudaEventRecord(end, stream) == cudaSuccess &&
        cudaEventSynchronize(end) == cudaSuccess &&
        cudaEventElapsedTime(&ms, begin, end) == cudaSuccess)
        seconds = 1e-3 * (double)ms / REPEATS;
out:
    if (seconds <= 0)
        b->passed = selftest_fail(b->report, "%s: %s", name,
            status != OCT_OK ? oct_last_error() : cudaGetErrorString(cudaGetLastError()));
    (void)cudaEventDestroy(begin);
    (void)cudaEventDestroy(end);
    return seconds;
}

static void add_row(
    struct bench *b, const char *name, int tile, const struct oct_work *work, double seconds)
{
    const double tera = 2e-12 * work->macs / seconds;
    const double giga = 1e-9 * (work->read + work->written) / seconds;
    json_t *row = json_pack("{s:s, s:i, s:f, s:f, s:f}", "kernel", name, "tile", tile,
        "microseconds", 1e6 * seconds, "tera_op_a_second", tera, "giga_byte_a_second", giga);
    if (b->card) {
        json_object_set_new(
            row, "percent_of_int8_peak", json_real(100 * tera / b->card->peak_tera[OCT_UNIT_INT8]));
        json_object_set_new(
            row, "percent_of_bandwidth", json_real(100 * giga / b->card->bandwidth_gb));
    }
    json_array_append_new(b->rows, row);
}

static enum oct_status run_fprop(oct_backend *d, const void *args)
{
    return d->conv_fprop(d, args);
}

static enum oct_status run_dgrad(oct_backend *d, const void *args)
{
    return d->conv_dgrad(d, args);
}

static enum oct_status run_wgrad(oct_backend *d, const void *args)
{
    return d->conv_wgrad(d, args);
}

static enum oct_status run_act(oct_backend *d, const void *args)
{
    return d->act_fwd(d, args);
}

static enum oct_status run_reduce(oct_backend *d, const void *args)
{
    return d->bn_bwd_reduce(d, args);
}

static enum oct_status run_apply(oct_backend *d, const void *args)
{
    return d->bn_bwd_apply(d, args);
}

static enum oct_status run_sgd(oct_backend *d, const void *args)
{
    return d->sgd(d, args);
}

static void time_layer(struct bench *b, const struct conv_layer *layer, int tile)
{
    const struct oct_conv_shape v = conv_of_layer(layer, BATCH);
    const float *scale = (const float *)b->buffer[6];
    int64_t *sums = (int64_t *)b->buffer[7];
    const struct oct_acc_stats acc = {sums, sums + v.k, sums + 2 * v.k, sums + 3 * v.k, 0};
    const struct oct_operand x = {
        .dtype = OCT_S8, .planes = 1, .data = b->buffer[0], .scale = scale};
    struct oct_operand w = x, dy = x;
    char name[96];
    w.data = b->buffer[1];
    dy.data = b->buffer[2];
    const struct oct_conv_fprop_args f = {
        .shape = v, .x = x, .w = w, .y = b->buffer[3], .y_dtype = OCT_BF16, .stats = &acc};
    const struct oct_conv_dgrad_args g = {
        .shape = v, .dy = dy, .w = w, .dx = b->buffer[3], .dx_dtype = OCT_BF16};
    const struct oct_conv_wgrad_args h = {
        .shape = v, .x = x, .dy = dy, .dw = (float *)b->buffer[4], .workspace = b->buffer[5]};
    const struct oct_work work[3] = {oct_work_fprop(&f), oct_work_dgrad(&g),
        oct_work_wgrad(&h, oct_cuda_of(b->device)->multiprocessors)};
    operation *const run[3] = {run_fprop, run_dgrad, run_wgrad};
    const void *args[3] = {&f, &g, &h};
    oct_cuda_of(b->device)->tiles = (struct oct_cuda_tiles){tile, tile, tile};
    for (int i = 0; i < 3; i++) {
        if (i == 2 && tile > OCT_GPU_GRADIENT_TILES)
            continue;
        snprintf(name, sizeof name, "%s %dx%d, %d to %d, %dx%d", oct_work_kind_name(work[i].kind),
            v.r, v.s, v.c, v.k, v.h, v.w);
        const double seconds = time_op(b, name, run[i], args[i]);
        if (seconds > 0)
            add_row(b, name, tile, &work[i], seconds);
    }
}

static struct oct_range range_of(const struct bench *b, int count)
{
    float *values = (float *)b->buffer[6];
    return (struct oct_range){.clip = values,
        .scale = values + CHANNELS,
        .inverse = values + 2 * CHANNELS,
        .count = count,
        .code_max = OCT_CODE_MAX};
}

static void time_elementwise(struct bench *b)
{
    float *values = (float *)b->buffer[6];
    double *sums = (double *)b->buffer[7];
    const struct oct_act_fwd_args act = {.rows = ROWS,
        .channels = CHANNELS,
        .y = b->buffer[0],
        .y_dtype = OCT_BF16,
        .a = values,
        .b = values,
        .relu = 1,
        .x = b->buffer[2],
        .x_dtype = OCT_S8,
        .x_range = range_of(b, 1),
        .flag = (uint32_t *)b->buffer[4]};
    const struct oct_bn_bwd_reduce_args reduce = {.rows = ROWS,
        .channels = CHANNELS,
        .da = b->buffer[1],
        .da_dtype = OCT_BF16,
        .y = b->buffer[0],
        .y_dtype = OCT_BF16,
        .a = values,
        .b = values,
        .ix = values,
        .jx = values,
        .relu = 1,
        .sum_dz = sums,
        .sum_dz_xhat = sums + CHANNELS,
        .sum_dz2 = sums + 2 * CHANNELS,
        .dz_min = (float *)(sums + 3 * CHANNELS),
        .dz_max = (float *)(sums + 4 * CHANNELS),
        .workspace = b->buffer[5]};
    const struct oct_bn_bwd_apply_args apply = {.rows = ROWS,
        .channels = CHANNELS,
        .da = b->buffer[1],
        .da_dtype = OCT_BF16,
        .y = b->buffer[0],
        .y_dtype = OCT_BF16,
        .a = values,
        .b = values,
        .ix = values,
        .jx = values,
        .m1 = values,
        .m2 = values,
        .relu = 1,
        .q_channel = (int8_t *)b->buffer[2],
        .range_channel = range_of(b, CHANNELS),
        .q_tensor = (int8_t *)b->buffer[3],
        .range_tensor = range_of(b, 1),
        .workspace = b->buffer[5],
        .flag = (uint32_t *)b->buffer[4]};
    const struct oct_sgd_args sgd = {.count = (int64_t)ROWS * CHANNELS / 2,
        .w = (float *)b->buffer[0],
        .momentum = (float *)b->buffer[1],
        .dw = (float *)b->buffer[2],
        .step = (const struct oct_step_state *)b->buffer[7],
        .mu = 0.9f};
    const struct oct_work work[] = {oct_work_act_fwd(&act), oct_work_bn_bwd_reduce(&reduce),
        oct_work_bn_bwd_apply(&apply), oct_work_sgd(&sgd)};
    operation *const run[] = {run_act, run_reduce, run_apply, run_sgd};
    const void *args[] = {&act, &reduce, &apply, &sgd};
    for (int i = 0; i < 4; i++) {
        const char *name = oct_work_kind_name(work[i].kind);
        const double seconds = time_op(b, name, run[i], args[i]);
        if (seconds > 0)
            add_row(b, name, 0, &work[i], seconds);
    }
}

static bool open_buffers(struct bench *b)
{
    oct_backend *d = b->device;
    b->bytes = (size_t)4 * ROWS * CHANNELS;
    for (int i = 0; i < BUFFERS; i++) {
        void *p = NULL;
        if (d->alloc(d, b->bytes, &p) != OCT_OK || d->clear(d, p, b->bytes) != OCT_OK)
            return selftest_fail(b->report, "%s", oct_last_error());
        b->buffer[i] = p;
    }
    return true;
}

static void time_all(struct bench *b)
{
    struct cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, oct_cuda_of(b->device)->device) == cudaSuccess)
        b->card = find_card(p.name);
    json_object_set_new(
        b->report, "peaks_of", json_string(b->card ? b->card->text : "unknown card"));
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        for (int tile = 0; tile <= OCT_GPU_SWEEP_TILES; tile++)
            time_layer(b, &layers[i], tile);
    time_elementwise(b);
}

bool selftest_rates(const struct selftest *s, json_t *report)
{
    const struct oct_backend_options options = {.device = s->device};
    struct bench b = {.rows = json_array(), .report = report, .passed = true};
    json_object_set_new(report, "rates", b.rows);
    if (strncmp(s->device, "sim", 3) == 0)
        return selftest_fail(report, "a simulation has no speed worth a figure");
    if (oct_cuda_open(&options, &b.device) != OCT_OK)
        return selftest_fail(report, "%s", oct_last_error());
    b.passed = open_buffers(&b);
    if (b.passed)
        time_all(&b);
    for (int i = 0; i < BUFFERS; i++)
        if (b.buffer[i])
            b.device->free(b.device, b.buffer[i]);
    b.device->close(b.device);
    return b.passed;
}
