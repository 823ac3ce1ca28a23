/* The device, as its attributes tell; and launches. */
#include "rt.h"

#include <stdlib.h>
#include <string.h>

static int device_count(void)
{
    const char *count = getenv("GPUSIM_DEVICES");
    return count ? atoi(count) : 1;
}

static int capability(void)
{
    const char *wish = getenv("GPUSIM_CAPABILITY");
    return wish ? atoi(wish) : gpusim_options().sm;
}

cudaError_t cudaGetDeviceCount(int *out)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    *out = device_count();
    return rt_return(error ? error : *out > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error && (device < 0 || device >= device_count()))
        error = cudaErrorInvalidDevice;
    return rt_return(error);
}

cudaError_t cudaGetDevice(int *out)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    *out = 0;
    return rt_return(error);
}

/* Figures of the chips that carry each architecture's tensor cores (T4, A100, 3090, 4090, H100). */
static const struct limits {
    int sm, multiprocessors, threads, blocks, shared, l2;
} limits[] = {{75, 40, 1024, 16, 64 << 10, 4 << 20}, {80, 108, 2048, 32, 164 << 10, 40 << 20},
    {86, 82, 1536, 16, 100 << 10, 6 << 20}, {89, 128, 1536, 24, 100 << 10, 72 << 20},
    {90, 132, 2048, 32, 228 << 10, 50 << 20}};

static const struct limits *limits_now(void)
{
    const struct limits *found = &limits[0];
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].sm <= gpusim_options().sm)
            found = &limits[i];
    return found;
}

static int multiprocessors(void)
{
    const char *wish = getenv("GPUSIM_MULTIPROCESSORS");
    return wish ? atoi(wish) : limits_now()->multiprocessors;
}

static bool attribute(enum cudaDeviceAttr what, int *out)
{
    const struct limits *l = limits_now();
    int sm = gpusim_options().sm;
    switch (what) {
    case cudaDevAttrComputeCapabilityMajor:
        *out = capability() / 10;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *out = capability() % 10;
        break;
    case cudaDevAttrMultiProcessorCount:
        *out = multiprocessors();
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *out = l->threads;
        break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
        *out = l->blocks;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *out = l->shared;
        break;
    case cudaDevAttrL2CacheSize:
        *out = l->l2;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
        *out = 1024;
        break;
    case cudaDevAttrMaxBlockDimZ:
        *out = 64;
        break;
    case cudaDevAttrMaxGridDimX:
        *out = 2147483647;
        break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
        *out = 65535;
        break;
    case cudaDevAttrWarpSize:
        *out = 32;
        break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        *out = 65536;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *out = (int)gpusim_shared_limit(sm, false);
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *out = (int)gpusim_shared_limit(sm, true);
        break;
    default:
        return false;
    }
    return true;
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr what, int device)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error && (device < 0 || device >= device_count()))
        error = cudaErrorInvalidDevice;
    if (!error && !attribute(what, out))
        error = rt_misuse(cudaErrorNotSupported, "device attribute %d is not simulated", (int)what);
    return rt_return(error);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    const struct limits *l = limits_now();
    int sm = gpusim_options().sm;
    size_t available = 0;
    if (!error && (device < 0 || device >= device_count()))
        error = cudaErrorInvalidDevice;
    if (error)
        return rt_return(error);
    rt_return(error);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "gpusim sm_%d", capability());
    out->major = capability() / 10;
    out->minor = capability() % 10;
    out->multiProcessorCount = multiprocessors();
    out->warpSize = 32;
    out->maxThreadsPerBlock = 1024;
    out->maxThreadsPerMultiProcessor = l->threads;
    out->maxBlocksPerMultiProcessor = l->blocks;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
    out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = 2147483647;
    out->maxGridSize[1] = out->maxGridSize[2] = 65535;
    out->regsPerBlock = out->regsPerMultiprocessor = 65536;
    out->sharedMemPerBlock = gpusim_shared_limit(sm, false);
    out->sharedMemPerBlockOptin = gpusim_shared_limit(sm, true);
    out->sharedMemPerMultiprocessor = (size_t)l->shared;
    out->l2CacheSize = l->l2;
    out->unifiedAddressing = 1;
    return cudaMemGetInfo(&available, &out->totalGlobalMem);
}

cudaError_t cudaDriverGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- launches ---- */

/* nvcc's own entries have no header: each is declared before it is defined. The arguments of a
 * launch may hold another launch: a stack. */
enum { MOST_PUSHED = 8 };
static _Thread_local struct {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
} pushed[MOST_PUSHED];
static _Thread_local int pushed_count;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream)
{
    if (pushed_count == MOST_PUSHED)
        return 1;
    pushed[pushed_count].grid = grid;
    pushed[pushed_count].block = block;
    pushed[pushed_count].shared = shared;
    pushed[pushed_count++].stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    if (pushed_count == 0)
        return cudaErrorMissingConfiguration;
    pushed_count--;
    *grid = pushed[pushed_count].grid;
    *block = pushed[pushed_count].block;
    *shared = pushed[pushed_count].shared;
    memcpy(stream, &pushed[pushed_count].stream, sizeof(cudaStream_t));
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *function);
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *function)
{
    *out = (cudaKernel_t)(uintptr_t)function;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(
    const void *function, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_LAUNCH);
    struct CUstream_st *stream = rt_stream(handle);
    struct gpusim_function *f = error ? NULL : gpusim_function_of(function);
    const uint32_t blocks[] = {grid.x, grid.y, grid.z}, threads[] = {block.x, block.y, block.z};
    struct gpusim_launch *launch = NULL;
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && !f)
        error = cudaErrorInvalidDeviceFunction;
    if (!error)
        error = (cudaError_t)gpusim_launch_make(f, blocks, threads, args, shared, &launch);
    if (!error) {
        struct rt_op *op = rt_op_new(RT_LAUNCH);
        op->launch = launch;
        error = rt_enqueue(stream, op);
    }
    return rt_return(error);
}

static struct gpusim_kernel *kernel_of(const void *function)
{
    struct gpusim_function *f = gpusim_function_of(function);
    return f ? gpusim_function_kernel(f) : NULL;
}

cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream);
cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream)
{
    return cudaLaunchKernel((const void *)kernel, grid, block, args, shared, stream);
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute what, int value)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct gpusim_kernel *kernel = error ? NULL : kernel_of(function);
    int limit = (int)gpusim_shared_limit(gpusim_options().sm, true);
    if (!error && !kernel)
        error = cudaErrorInvalidDeviceFunction;
    if (!error && what == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value + (int)kernel->static_shared > limit)
            error = rt_misuse(cudaErrorInvalidValue,
                "%s: %d bytes of dynamic shared memory asked for, sm_%d has %d less %u static",
                kernel->name, value, gpusim_options().sm, limit, kernel->static_shared);
        else
            kernel->max_dynamic = value;
    } else if (!error && what != cudaFuncAttributePreferredSharedMemoryCarveout) {
        error = cudaErrorInvalidValue;
    }
    return rt_return(error);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *function)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    struct gpusim_kernel *kernel = error ? NULL : kernel_of(function);
    if (!error && !kernel)
        error = cudaErrorInvalidDeviceFunction;
    if (!error) {
        memset(out, 0, sizeof *out);
        out->sharedSizeBytes = kernel->static_shared;
        out->localSizeBytes = kernel->local_bytes;
        out->maxThreadsPerBlock = kernel->max_threads ? kernel->max_threads : 1024;
        out->numRegs = kernel->sass_registers ? kernel->sass_registers : kernel->registers;
        out->ptxVersion = out->binaryVersion = gpusim_options().sm;
        out->maxDynamicSharedSizeBytes = kernel->max_dynamic;
    }
    return rt_return(error);
}
