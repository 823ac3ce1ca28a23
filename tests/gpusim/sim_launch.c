/* A launch: its limits, its blocks spread over host threads, its counts collected. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

uint32_t gpusim_shared_limit(int sm, bool opt_in)
{
    if (!opt_in)
        return 48 * 1024;
    switch (sm) {
    case 75:
        return 64 * 1024;
    case 80:
    case 87:
        return 163 * 1024;
    case 90:
    case 100:
        return 227 * 1024;
    default:
        return 99 * 1024;
    }
}

static uint32_t dynamic_start(const struct gpusim_kernel *kernel)
{
    const uint32_t align = kernel->uses_dynamic_align > 16 ? kernel->uses_dynamic_align : 16;
    return kernel->uses_dynamic_align ? (kernel->static_shared + align - 1) / align * align
                                      : kernel->static_shared;
}

/* As hardware checks it: registers go to warps, 256 at a time, and a block's warps are counted by
 * fours, one in each quarter of the multiprocessor. */
static uint64_t block_registers(int registers, uint64_t threads)
{
    const uint64_t warp = ((uint64_t)registers * GPUSIM_LANES + 255) / 256 * 256;
    return warp * ((threads + 4 * GPUSIM_LANES - 1) / (4 * GPUSIM_LANES) * 4);
}

static int check_registers(const struct gpusim_kernel *kernel, uint64_t threads)
{
    enum { PER_BLOCK = 65536 };
    const uint64_t need = block_registers(kernel->sass_registers, threads);
    if (need <= PER_BLOCK)
        return 0;
    gpusim_report("%s: %llu threads of %d registers take %llu, a multiprocessor of sm_%d has %d",
        kernel->name, (unsigned long long)threads, kernel->sass_registers, (unsigned long long)need,
        gpusim_options().sm, PER_BLOCK);
    return cudaErrorLaunchOutOfResources;
}

static int check_limits(const struct gpusim_kernel *kernel, const uint32_t grid[3],
    const uint32_t block[3], size_t dynamic)
{
    const uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    const int sm = gpusim_options().sm;
    if (threads == 0 || threads > 1024 || block[2] > 64 || grid[0] == 0 || grid[1] == 0 ||
        grid[2] == 0 || grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535) {
        gpusim_report("%s: no launch has a grid of (%u,%u,%u) blocks of (%u,%u,%u) threads",
            kernel->name, grid[0], grid[1], grid[2], block[0], block[1], block[2]);
        return cudaErrorInvalidConfiguration;
    }
    if (kernel->max_threads && threads > (uint64_t)kernel->max_threads) {
        gpusim_report("%s: %llu threads a block, its launch bounds say %d", kernel->name,
            (unsigned long long)threads, kernel->max_threads);
        return cudaErrorLaunchOutOfResources;
    }
    const uint64_t shared = dynamic_start(kernel) + (uint64_t)dynamic;
    if (dynamic > (size_t)kernel->max_dynamic && shared > gpusim_shared_limit(sm, false)) {
        gpusim_report("%s: %llu bytes of shared memory; more than %u need "
                      "cudaFuncAttributeMaxDynamicSharedMemorySize, which is %d",
            kernel->name, (unsigned long long)shared, gpusim_shared_limit(sm, false),
            kernel->max_dynamic);
        return cudaErrorInvalidValue;
    }
    if (shared > gpusim_shared_limit(sm, true)) {
        gpusim_report("%s: %llu bytes of shared memory, sm_%d has %u", kernel->name,
            (unsigned long long)shared, sm, gpusim_shared_limit(sm, true));
        return cudaErrorInvalidValue;
    }
    return check_registers(kernel, threads);
}

int gpusim_launch_make(struct gpusim_function *function, const uint32_t grid[3],
    const uint32_t block[3], void *const *arguments, size_t dynamic_shared,
    struct gpusim_launch **out)
{
    struct gpusim_kernel *kernel = gpusim_function_kernel(function);
    if (!kernel)
        return gpusim_sticky = cudaErrorInvalidPtx;
    return gpusim_launch_kernel(kernel, grid, block, arguments, dynamic_shared, out);
}

int gpusim_launch_kernel(struct gpusim_kernel *kernel, const uint32_t grid[3],
    const uint32_t block[3], void *const *arguments, size_t dynamic_shared,
    struct gpusim_launch **out)
{
    static uint32_t serial;
    const int error = check_limits(kernel, grid, block, dynamic_shared);
    if (error)
        return error;
    struct gpusim_launch *launch = calloc(1, sizeof *launch);
    if (!launch || !(launch->params = calloc(1, (size_t)kernel->param_bytes + 8))) {
        free(launch);
        return cudaErrorMemoryAllocation;
    }
    launch->kernel = kernel;
    memcpy(launch->grid, grid, sizeof launch->grid);
    memcpy(launch->block, block, sizeof launch->block);
    launch->dynamic_shared = (uint32_t)dynamic_shared;
    launch->serial = ++serial;
    for (int i = 0; i < kernel->param_count; i++)
        memcpy(launch->params + kernel->params[i].offset, arguments[i], kernel->params[i].size);
    *out = launch;
    return 0;
}

void gpusim_launch_free(struct gpusim_launch *launch)
{
    if (!launch)
        return;
    free(launch->params);
    free(launch);
}

/* ---- blocks ---- */

struct work { /* shared by the host threads of a launch */
    const struct gpusim_launch *launch;
    uint64_t next, blocks;
    int error;
    pthread_mutex_t mutex;
};

static void splat(unsigned char *regs, uint32_t slot, uint32_t value)
{
    uint32_t lanes[GPUSIM_LANES];
    for (int lane = 0; lane < GPUSIM_LANES; lane++)
        lanes[lane] = value;
    memcpy(regs + slot, lanes, sizeof lanes);
}

static void splat64(unsigned char *regs, uint32_t slot, uint64_t value)
{
    uint64_t lanes[GPUSIM_LANES];
    for (int lane = 0; lane < GPUSIM_LANES; lane++)
        lanes[lane] = value;
    memcpy(regs + slot, lanes, sizeof lanes);
}

static void lane_registers(unsigned char *regs, int warp, const uint32_t block[3])
{
    uint32_t value[9][GPUSIM_LANES];
    for (uint32_t lane = 0; lane < GPUSIM_LANES; lane++) {
        const uint32_t thread = (uint32_t)warp * GPUSIM_LANES + lane, one = 1u << lane;
        value[0][lane] = thread % block[0];
        value[1][lane] = thread / block[0] % block[1];
        value[2][lane] = thread / (block[0] * block[1]);
        value[3][lane] = lane;
        value[4][lane] = one;
        value[5][lane] = one - 1;
        value[6][lane] = one - 1 + one;
        value[7][lane] = ~(one - 1 + one);
        value[8][lane] = ~(one - 1);
    }
    static const uint8_t slots[9] = {SPECIAL_TID_X, SPECIAL_TID_Y, SPECIAL_TID_Z, SPECIAL_LANEID,
        SPECIAL_MASK_EQ, SPECIAL_MASK_LT, SPECIAL_MASK_LE, SPECIAL_MASK_GT, SPECIAL_MASK_GE};
    for (int i = 0; i < 9; i++)
        memcpy(regs + slots[i] * GPUSIM_SLOT, value[i], sizeof value[i]);
}

static void fill_registers(const struct gpusim_block *b, unsigned char *regs, int warp)
{
    const struct gpusim_launch *launch = b->launch;
    const uint32_t start = dynamic_start(b->kernel);
    memset(regs, 0xcc, b->kernel->regs_bytes);
    memset(regs, 0, SPECIAL_COUNT * GPUSIM_SLOT);
    lane_registers(regs, warp, launch->block);
    for (int axis = 0; axis < 3; axis++) {
        splat(regs, (SPECIAL_NTID_X + (uint32_t)axis) * GPUSIM_SLOT, launch->block[axis]);
        splat(regs, (SPECIAL_NCTAID_X + (uint32_t)axis) * GPUSIM_SLOT, launch->grid[axis]);
    }
    splat(regs, SPECIAL_WARPID * GPUSIM_SLOT, (uint32_t)warp);
    splat(regs, SPECIAL_NWARPID * GPUSIM_SLOT, (uint32_t)b->warps);
    splat(regs, SPECIAL_DYNAMIC_SIZE * GPUSIM_SLOT, launch->dynamic_shared);
    splat(regs, SPECIAL_TOTAL_SIZE * GPUSIM_SLOT, b->shared_bytes);
    splat(regs, SPECIAL_DYNAMIC_BASE * GPUSIM_SLOT, start);
    splat64(regs, SPECIAL_DYNAMIC_BASE64 * GPUSIM_SLOT, start);
    for (int i = 0; i < b->kernel->constant_count; i++) {
        const struct gpusim_constant *c = &b->kernel->constants[i];
        if (c->wide)
            splat64(regs, c->slot, c->value);
        else
            splat(regs, c->slot, (uint32_t)c->value);
    }
}

static void close_block(struct gpusim_block *b)
{
    for (int i = 0; b->warp && i < b->warps; i++) {
        free(b->warp[i].regs);
        free(b->warp[i].copies);
        free(b->warp[i].written);
    }
    free(b->warp);
    free(b->shared);
    free(b->local);
    free(b->executed);
    free(b->in_flight);
    free(b->fences);
    free(b->acquired);
    gpusim_shadow_close(&b->shadow);
}

static bool open_block(struct gpusim_block *b, const struct gpusim_launch *launch)
{
    const struct gpusim_kernel *kernel = launch->kernel;
    b->launch = launch;
    b->kernel = kernel;
    b->options = gpusim_options();
    b->threads = (int)(launch->block[0] * launch->block[1] * launch->block[2]);
    b->warps = (b->threads + GPUSIM_LANES - 1) / GPUSIM_LANES;
    b->shared_bytes = dynamic_start(kernel) + launch->dynamic_shared;
    b->warp = calloc((size_t)b->warps, sizeof *b->warp);
    b->shared = aligned_alloc(128, ((size_t)b->shared_bytes + 255) / 128 * 128);
    b->local = calloc((size_t)b->warps * GPUSIM_LANES, (size_t)kernel->local_bytes + 1);
    b->executed = calloc((size_t)kernel->count + 1, sizeof *b->executed);
    b->in_flight = calloc((size_t)b->shared_bytes / 4 + 4, sizeof *b->in_flight);
    if (!b->warp || !b->shared || !b->local || !b->executed || !b->in_flight ||
        !gpusim_shadow_open(&b->shadow, b->shared_bytes,
            b->options.checks & GPUSIM_CHECK_RACE_SHARED, b->options.checks & GPUSIM_CHECK_MEMORY))
        return false;
    for (int i = 0; i < b->warps; i++) {
        b->warp[i].index = i;
        b->warp[i].regs = aligned_alloc(128, kernel->regs_bytes);
        if (!b->warp[i].regs)
            return false;
        fill_registers(b, b->warp[i].regs, i);
        if (kernel->tracks_writes) {
            b->warp[i].written =
                calloc(kernel->regs_bytes / GPUSIM_SLOT, sizeof *b->warp[i].written);
            if (!b->warp[i].written)
                return false;
        }
    }
    return true;
}

static void add_to_kernel(struct work *work, const struct gpusim_block *b)
{
    struct gpusim_kernel *kernel = work->launch->kernel;
    struct gpusim_counts *c = &kernel->counts;
    pthread_mutex_lock(&work->mutex);
    for (int i = 0; i < kernel->count; i++)
        kernel->executed[i] += b->executed[i];
    c->wavefronts += b->memory.wavefronts;
    c->wavefronts_ideal += b->memory.wavefronts_ideal;
    c->sectors += b->memory.sectors;
    c->sectors_ideal += b->memory.sectors_ideal;
    c->bytes_read += b->memory.bytes_read;
    c->bytes_written += b->memory.bytes_written;
    c->footprint_read += b->memory.footprint_read;
    c->footprint_written += b->memory.footprint_written;
    pthread_mutex_unlock(&work->mutex);
}

static void set_error(struct work *work, int error)
{
    pthread_mutex_lock(&work->mutex);
    if (!work->error)
        work->error = error;
    work->next = work->blocks;
    pthread_mutex_unlock(&work->mutex);
}

static bool take_block(struct work *work, struct gpusim_block *b)
{
    const uint32_t *grid = work->launch->grid;
    pthread_mutex_lock(&work->mutex);
    const uint64_t n = work->next;
    const bool any = n < work->blocks;
    work->next += any;
    pthread_mutex_unlock(&work->mutex);
    b->number = (uint32_t)n;
    b->id[0] = (uint32_t)(n % grid[0]);
    b->id[1] = (uint32_t)(n / grid[0] % grid[1]);
    b->id[2] = (uint32_t)(n / grid[0] / grid[1]);
    return any;
}

/* The host thread's own float mode, which a kernel changes. */
static unsigned float_mode(void)
{
#if defined(__SSE2__)
    return _mm_getcsr();
#else
    return 0;
#endif
}

static void set_float_mode(unsigned mode)
{
#if defined(__SSE2__)
    _mm_setcsr(mode);
#else
    (void)mode;
#endif
}

static void *run_blocks(void *argument)
{
    struct work *const work = argument;
    struct gpusim_block *const b = calloc(1, sizeof *b);
    const unsigned mode = float_mode();
    if (!b || !open_block(b, work->launch)) {
        gpusim_report("%s: out of host memory", work->launch->kernel->name);
        set_error(work, cudaErrorMemoryAllocation);
    } else {
        const int error = setjmp(b->stop);
        if (error)
            set_error(work, error);
        while (take_block(work, b))
            gpusim_block_run(b);
        set_float_mode(mode);
        add_to_kernel(work, b);
    }
    if (b)
        close_block(b);
    free(b);
    return NULL;
}

int gpusim_launch_run(struct gpusim_launch *launch)
{
    enum { MAX_THREADS = 64 };
    const uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    struct work work = {.launch = launch, .blocks = blocks};
    pthread_t thread[MAX_THREADS];
    int threads = gpusim_options().threads, started = 0;
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    /* The shadow of global memory is not made for several writers. */
    if (gpusim_options().checks & (GPUSIM_CHECK_RACE_GLOBAL | GPUSIM_CHECK_MEMORY))
        threads = 1;
    if ((uint64_t)threads > blocks)
        threads = (int)blocks;
    if (gpusim_options().count_memory && !gpusim_footprints_clear()) {
        gpusim_report("%s: out of host memory", launch->kernel->name);
        return gpusim_sticky = cudaErrorMemoryAllocation;
    }
    pthread_mutex_init(&work.mutex, NULL);
    for (; started < threads - 1; started++)
        if (pthread_create(&thread[started], NULL, run_blocks, &work) != 0)
            break;
    run_blocks(&work);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&work.mutex);
    gpusim_release_forget();
    launch->kernel->counts.launches++;
    launch->kernel->counts.blocks += blocks;
    if (work.error)
        gpusim_sticky = work.error;
    return work.error;
}
