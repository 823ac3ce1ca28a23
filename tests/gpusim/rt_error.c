/* How calls fail: as ordered by a test, by misuse, or because the device failed earlier. */
#include "rt.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local cudaError_t last_error;
static _Thread_local int depth; /* entries this thread is in */
static bool told;               /* the device's failure has been returned by a call that waits */
static uint64_t calls[GPUSIM_CALLS], fail_at[GPUSIM_CALLS];

static const char *const call_names[GPUSIM_CALLS] = {
    "alloc", "host", "copy", "launch", "sync", "create", "any"};

/* What an ordered failure of each kind looks like. */
static const cudaError_t ordered[GPUSIM_CALLS] = {cudaErrorMemoryAllocation,
    cudaErrorMemoryAllocation, cudaErrorInvalidValue, cudaErrorLaunchOutOfResources,
    cudaErrorLaunchFailure, cudaErrorMemoryAllocation, cudaErrorUnknown};

static void say_leaks(void)
{
    const char *wish = getenv("GPUSIM_LEAKS");
    if (!wish || strcmp(wish, "0") != 0)
        (void)gpusim_alive(stderr);
}

static void read_environment(void)
{
    const char *fail = getenv("GPUSIM_FAIL"), *streams = getenv("GPUSIM_STREAMS");
    for (int kind = 0; fail && kind < GPUSIM_CALLS; kind++) {
        size_t length = strlen(call_names[kind]);
        if (strncmp(fail, call_names[kind], length) == 0 && fail[length] == ':')
            fail_at[kind] = strtoull(fail + length + 1, NULL, 10);
    }
    if (streams && strncmp(streams, "random:", 7) == 0)
        rt.random = rt_seed(strtoull(streams + 7, NULL, 10));
    atexit(say_leaks);
}

void gpusim_fail(enum gpusim_call kind, uint64_t n)
{
    fail_at[kind] = n ? calls[kind] + n : 0;
}

uint64_t gpusim_calls(enum gpusim_call kind)
{
    return calls[kind];
}

static bool must_fail(enum gpusim_call kind)
{
    bool now = ++calls[kind] == fail_at[kind];
    if (now)
        fail_at[kind] = 0;
    return now;
}

cudaError_t rt_enter(enum gpusim_call kind)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_environment);
    pthread_mutex_lock(&lock);
    depth++;
    if (!gpusim_sticky)
        told = false;
    bool any = must_fail(GPUSIM_CALL_ANY);
    if (kind != GPUSIM_CALL_ANY && (must_fail(kind) || any)) {
        if (kind == GPUSIM_CALL_SYNC)
            rt_device_failed(ordered[kind]);
        else
            return ordered[kind];
    }
    return gpusim_sticky && told ? (cudaError_t)gpusim_sticky : cudaSuccess;
}

static bool forbids_unsafe(const struct rt_capture *capture)
{
    return capture->mode == cudaStreamCaptureModeGlobal ||
           (capture->mode == cudaStreamCaptureModeThreadLocal &&
               capture->thread == (unsigned long)pthread_self());
}

cudaError_t rt_unsafe(bool whole_device)
{
    bool forbidden = false;
    for (size_t i = 0; i < sizeof rt.captures / sizeof rt.captures[0]; i++) {
        struct rt_capture *capture = rt.captures[i];
        if (!capture || !(whole_device || forbids_unsafe(capture)))
            continue;
        rt_capture_break(capture);
        forbidden = true;
    }
    if (!forbidden)
        return cudaSuccess;
    return rt_misuse(cudaErrorStreamCaptureUnsupported,
        "a call that allocates, frees or waits was made while a stream was being captured");
}

cudaError_t rt_enter_unsafe(enum gpusim_call kind)
{
    cudaError_t error = rt_enter(kind);
    return error ? error : rt_unsafe(false);
}

cudaError_t rt_return(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    if (--depth < 0)
        abort();
    pthread_mutex_unlock(&lock);
    return error;
}

void rt_device_failed(cudaError_t error)
{
    if (!gpusim_sticky)
        gpusim_sticky = (int)error;
    told |= rt.random == 0; /* eager work is over before the next call: it may tell already */
}

cudaError_t rt_waited(void)
{
    told |= gpusim_sticky != 0;
    return (cudaError_t)gpusim_sticky;
}

cudaError_t rt_misuse(cudaError_t error, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    gpusim_report("%s", text);
    return error;
}

uint64_t rt_seed(uint64_t seed)
{
    seed = (seed ^ seed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    seed = (seed ^ seed >> 27) * UINT64_C(0x94d049bb133111eb);
    return (seed ^ seed >> 31) | 1;
}

uint64_t rt_draw(uint64_t below)
{
    rt.random = rt.random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (rt.random >> 33) % below;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = gpusim_sticky && told ? (cudaError_t)gpusim_sticky : cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

static const struct {
    cudaError_t error;
    const char *name, *text;
} names[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
        "invalid configuration argument"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorMissingConfiguration, "cudaErrorMissingConfiguration",
        "__global__ function call is not configured"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
        "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
        "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
        "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorIllegalInstruction, "cudaErrorIllegalInstruction",
        "an illegal instruction was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
        "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
        "no kernel image is available for execution on the device"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
        "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
        "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
        "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
        "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
        "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
        "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
        "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
        "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
        "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
        "the graph update was not performed because it included changes which violated "
        "constraints specific to instantiated graph update"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

static size_t find_name(cudaError_t error)
{
    size_t last = sizeof names / sizeof names[0] - 1;
    for (size_t i = 0; i < last; i++)
        if (names[i].error == error)
            return i;
    return last;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return names[find_name(error)].name;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return names[find_name(error)].text;
}
