/* The CUDA runtime API that programs call, on host memory. Streams are eager: work is done when it
 * is enqueued. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#undef cudaGetDeviceProperties

static cudaError_t last; /* not sticky: cudaGetLastError clears it */

struct CUevent_st {
    double seconds;
    bool recorded;
};

struct CUstream_st {
    unsigned flags;
};

static cudaError_t done(cudaError_t error)
{
    if (gpusim_sticky)
        error = (cudaError_t)gpusim_sticky;
    if (error != cudaSuccess)
        last = error;
    return error;
}

static cudaError_t invalid(const char *what)
{
    gpusim_report("%s", what);
    return done(cudaErrorInvalidValue);
}

/* ---- launches ---- */

struct configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};
enum { MAX_NESTED = 8 };
static _Thread_local struct configuration pushed[MAX_NESTED];
static _Thread_local int pushed_count;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream)
{
    if (pushed_count == MAX_NESTED)
        return 1;
    pushed[pushed_count++] = (struct configuration){grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    if (pushed_count == 0)
        return done(cudaErrorMissingConfiguration);
    const struct configuration *c = &pushed[--pushed_count];
    *grid = c->grid;
    *block = c->block;
    *shared = c->shared;
    memcpy(stream, &c->stream, sizeof c->stream);
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(
    const void *handle, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream)
{
    (void)stream;
    if (gpusim_sticky)
        return done(cudaSuccess);
    struct gpusim_function *function = gpusim_function_of(handle);
    if (!function)
        return done(cudaErrorInvalidDeviceFunction);
    struct gpusim_launch *launch = NULL;
    const uint32_t g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
    int error = gpusim_launch_make(function, g, b, arguments, shared, &launch);
    if (!error)
        error = gpusim_launch_run(launch);
    gpusim_launch_free(launch);
    return done((cudaError_t)error);
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
    size_t shared, cudaStream_t stream);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments,
    size_t shared, cudaStream_t stream)
{
    return cudaLaunchKernel((const void *)kernel, grid, block, arguments, shared, stream);
}

cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host);
cudaError_t __cudaGetKernel(cudaKernel_t *out, const void *host)
{
    *out = (cudaKernel_t)(void *)gpusim_function_of(host);
    return *out ? cudaSuccess : done(cudaErrorInvalidDeviceFunction);
}

static struct gpusim_kernel *kernel_of(const void *handle)
{
    struct gpusim_function *function = gpusim_function_of(handle);
    return function ? gpusim_function_kernel(function) : NULL;
}

cudaError_t cudaFuncSetAttribute(const void *handle, enum cudaFuncAttribute attribute, int value)
{
    struct gpusim_kernel *kernel = kernel_of(handle);
    if (!kernel)
        return done(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return done(cudaSuccess);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0)
        return invalid("cudaFuncSetAttribute: gpusim knows the dynamic shared size only");
    if (kernel->static_shared + (uint32_t)value > gpusim_shared_limit(gpusim_options().sm, true)) {
        gpusim_report("%s: %d bytes of dynamic shared memory, sm_%d has %u in all", kernel->name,
            value, gpusim_options().sm, gpusim_shared_limit(gpusim_options().sm, true));
        return done(cudaErrorInvalidValue);
    }
    kernel->max_dynamic = value;
    return done(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *handle)
{
    const struct gpusim_kernel *kernel = kernel_of(handle);
    if (!kernel)
        return done(cudaErrorInvalidDeviceFunction);
    memset(out, 0, sizeof *out);
    out->sharedSizeBytes = kernel->static_shared;
    out->localSizeBytes = kernel->local_bytes;
    out->maxThreadsPerBlock = kernel->max_threads ? kernel->max_threads : 1024;
    out->numRegs = kernel->registers;
    out->ptxVersion = out->binaryVersion = gpusim_options().sm;
    out->maxDynamicSharedSizeBytes =
        kernel->max_dynamic ? kernel->max_dynamic : 48 * 1024 - (int)kernel->static_shared;
    return done(cudaSuccess);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **out, size_t size)
{
    if (gpusim_sticky)
        return done(cudaSuccess);
    *out = size ? gpusim_alloc(size) : NULL;
    return done(*out || !size ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *pointer)
{
    if (pointer && !gpusim_release(pointer))
        return invalid("cudaFree of what cudaMalloc did not give, or of memory already freed");
    return done(cudaSuccess);
}

cudaError_t cudaMallocHost(void **out, size_t size)
{
    *out = aligned_alloc(256, (size + 255) / 256 * 256);
    return done(*out ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *pointer)
{
    free(pointer);
    return done(cudaSuccess);
}

/* Device sides of a copy must lie inside one allocation. */
static const char *copy_error(
    const void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
    const bool to_device = gpusim_find_allocation((uint64_t)(uintptr_t)to) != NULL;
    const bool from_device = gpusim_find_allocation((uint64_t)(uintptr_t)from) != NULL;
    const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (size == 0)
        return NULL;
    if (kind != cudaMemcpyDefault && (to_device != wants_to || from_device != wants_from))
        return "cudaMemcpy: a pointer is not of the kind that the direction says";
    if (to_device && !gpusim_is_allocated(to, size))
        return "cudaMemcpy writes behind the end of an allocation";
    if (from_device && !gpusim_is_allocated(from, size))
        return "cudaMemcpy reads behind the end of an allocation";
    return NULL;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
    if (gpusim_sticky)
        return done(cudaSuccess);
    const char *wrong = copy_error(to, from, size, kind);
    if (wrong)
        return invalid(wrong);
    memmove(to, from, size);
    return done(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy(to, from, size, kind);
}

cudaError_t cudaMemset(void *to, int value, size_t size)
{
    if (gpusim_sticky)
        return done(cudaSuccess);
    if (size && !gpusim_is_allocated(to, size))
        return invalid("cudaMemset outside of an allocation");
    memset(to, value, size);
    return done(cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream)
{
    (void)stream;
    return cudaMemset(to, value, size);
}

cudaError_t cudaMemcpyToSymbol(
    const void *symbol, const void *from, size_t count, size_t offset, enum cudaMemcpyKind kind)
{
    size_t size = 0;
    unsigned char *to = gpusim_variable_of(symbol, &size);
    if (!to || offset > size || count > size - offset)
        return done(cudaErrorInvalidSymbol);
    return cudaMemcpy(to + offset, from, count, kind);
}

cudaError_t cudaGetSymbolAddress(void **out, const void *symbol)
{
    size_t size = 0;
    *out = gpusim_variable_of(symbol, &size);
    return done(*out ? cudaSuccess : cudaErrorInvalidSymbol);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = (size_t)16 << 30;
    *free_bytes = *total_bytes - gpusim_allocated();
    return done(cudaSuccess);
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return done(cudaErrorMemoryAllocation);
    (*out)->flags = flags;
    return done(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return done(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return done(cudaSuccess);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    (void)stream;
    return done(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    return done(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    return done(*out ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return done(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    struct timespec now;
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    event->recorded = true;
    return done(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return done(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    (void)event;
    return done(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    if (!start->recorded || !end->recorded)
        return done(cudaErrorInvalidResourceHandle);
    *milliseconds = (float)(1e3 * (end->seconds - start->seconds));
    return done(cudaSuccess);
}

/* ---- device and errors ---- */

cudaError_t cudaDeviceSynchronize(void)
{
    return done(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return done(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return done(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? done(cudaSuccess) : done(cudaErrorInvalidDevice);
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return done(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return done(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    if (device != 0)
        return done(cudaErrorInvalidDevice);
    const int sm = gpusim_options().sm;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "gpusim sm_%d (PTX on the CPU)", sm);
    out->totalGlobalMem = (size_t)16 << 30;
    out->sharedMemPerBlock = gpusim_shared_limit(sm, false);
    out->sharedMemPerBlockOptin = gpusim_shared_limit(sm, true);
    out->sharedMemPerMultiprocessor = gpusim_shared_limit(sm, true) + (sm == 75 ? 0 : 1024);
    out->regsPerBlock = out->regsPerMultiprocessor = 65536;
    out->warpSize = GPUSIM_LANES;
    out->maxThreadsPerBlock = 1024;
    out->maxThreadsPerMultiProcessor = sm == 75 ? 1024 : sm == 80 || sm >= 90 ? 2048 : 1536;
    out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
    out->maxThreadsDim[2] = 64;
    out->maxGridSize[0] = INT32_MAX;
    out->maxGridSize[1] = out->maxGridSize[2] = 65535;
    out->major = sm / 10;
    out->minor = sm % 10;
    out->multiProcessorCount = 4;
    out->concurrentKernels = out->unifiedAddressing = 1;
    out->memoryBusWidth = 256;
    return done(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess)
        return error;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        break;
    case cudaDevAttrMaxRegistersPerBlock:
        *value = p.regsPerBlock;
        break;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        break;
    case cudaDevAttrL2CacheSize:
        *value = 4 << 20;
        break;
    default:
        return invalid("cudaDeviceGetAttribute: an attribute that gpusim does not have");
    }
    return done(cudaSuccess);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = gpusim_sticky ? (cudaError_t)gpusim_sticky : last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return gpusim_sticky ? (cudaError_t)gpusim_sticky : last;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {{cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
        "invalid configuration argument"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorMissingConfiguration, "cudaErrorMissingConfiguration",
        "__global__ function call is not configured"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
        "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
        "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"}};

const char *cudaGetErrorString(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return errors[i].text;
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t error)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].error == error)
            return errors[i].name;
    return "unrecognized error code";
}
