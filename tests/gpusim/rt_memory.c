/* Device memory, pinned host memory, copies and fills. */
#include "rt.h"

#include <stdlib.h>
#include <string.h>

struct pinned {
    void *start;
    size_t bytes;
    bool registered; /* the program's own memory, pinned later */
    struct pinned *next;
};
static struct pinned *pins;

static size_t device_total(void)
{
    const char *bytes = getenv("GPUSIM_MEMORY");
    return bytes ? (size_t)strtoull(bytes, NULL, 10) : (size_t)16 << 30;
}

/* ---- device memory ---- */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    cudaError_t error = rt_enter_unsafe(GPUSIM_CALL_ALLOC);
    if (!error && bytes > device_total() - gpusim_allocated())
        error = cudaErrorMemoryAllocation;
    if (!error && bytes == 0)
        *out = NULL;
    if (error || bytes == 0)
        return rt_return(error);
    void *p = gpusim_alloc(bytes);
    if (!p)
        return rt_return(cudaErrorMemoryAllocation);
    *out = p;
    return rt_return(cudaSuccess);
}

cudaError_t cudaFree(void *p)
{
    cudaError_t error = rt_enter(p ? GPUSIM_CALL_SYNC : GPUSIM_CALL_ANY);
    cudaError_t refused = p ? rt_unsafe(false) : cudaSuccess;
    if (!p || refused)
        return rt_return(error ? error : refused);
    rt_drain(NULL); /* freeing waits for the device */
    if (!gpusim_release(p))
        return rt_return(rt_misuse(cudaErrorInvalidValue,
            "cudaFree of %p, which no cudaMalloc returned or which is free", p));
    return rt_return(error ? error : rt_waited());
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    if (!error) {
        *total = device_total();
        *available = *total - gpusim_allocated();
    }
    return rt_return(error);
}

/* ---- pinned host memory ---- */

static void pin(void *start, size_t bytes, bool registered)
{
    struct pinned *p = malloc(sizeof *p);
    if (!p)
        abort();
    *p = (struct pinned){start, bytes, registered, pins};
    pins = p;
}

bool rt_is_pinned(const void *p, size_t bytes)
{
    for (const struct pinned *pinned = pins; pinned; pinned = pinned->next)
        if ((const char *)p >= (const char *)pinned->start &&
            (const char *)p + bytes <= (const char *)pinned->start + pinned->bytes)
            return true;
    return false;
}

int rt_pinned_alive(FILE *out)
{
    int count = 0;
    for (const struct pinned *p = pins; p; p = p->next, count++)
        if (out)
            fprintf(out, "gpusim: %zu bytes of pinned memory not freed\n", p->bytes);
    if (out && gpusim_allocated() > 0)
        fprintf(out, "gpusim: %zu bytes of device memory not freed\n", gpusim_allocated());
    return count + (gpusim_allocated() > 0);
}

static bool unpin(void *start, bool registered)
{
    for (struct pinned **at = &pins; *at; at = &(*at)->next)
        if ((*at)->start == start && (*at)->registered == registered) {
            struct pinned *gone = *at;
            *at = gone->next;
            free(gone);
            return true;
        }
    return false;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    cudaError_t error = rt_enter_unsafe(GPUSIM_CALL_HOST);
    (void)flags;
    if (error)
        return rt_return(error);
    void *p = aligned_alloc(4096, (bytes / 4096 + 1) * 4096);
    if (!p)
        return rt_return(cudaErrorMemoryAllocation);
    memset(p, 0xEE, bytes);
    pin(p, bytes, false);
    *out = p;
    return rt_return(cudaSuccess);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    cudaError_t error = rt_enter(p ? GPUSIM_CALL_SYNC : GPUSIM_CALL_ANY);
    cudaError_t refused = p ? rt_unsafe(false) : cudaSuccess;
    if (!p || refused)
        return rt_return(error ? error : refused);
    rt_drain(NULL);
    if (!unpin(p, false))
        return rt_return(rt_misuse(cudaErrorInvalidValue,
            "cudaFreeHost of %p, which no cudaHostAlloc returned or which is free", p));
    free(p);
    return rt_return(error ? error : rt_waited());
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    cudaError_t error = rt_enter_unsafe(GPUSIM_CALL_HOST);
    (void)flags;
    if (!error)
        pin(p, bytes, true);
    return rt_return(error);
}

cudaError_t cudaHostUnregister(void *p)
{
    cudaError_t error = rt_enter_unsafe(GPUSIM_CALL_SYNC);
    if (!error) {
        rt_drain(NULL);
        error = unpin(p, true) ? rt_waited() : cudaErrorInvalidValue;
    }
    return rt_return(error);
}

/* ---- copies ---- */

enum side { DEVICE, PINNED, PAGEABLE };

static enum side side_of(const void *p, size_t bytes)
{
    if (gpusim_find_allocation((uint64_t)(uintptr_t)p))
        return DEVICE;
    return rt_is_pinned(p, bytes) ? PINNED : PAGEABLE;
}

/* The whole range must lie in one live allocation. */
static cudaError_t check_device(const void *p, size_t bytes, const char *what)
{
    char where[256];
    if (gpusim_is_allocated(p, bytes))
        return cudaSuccess;
    gpusim_describe_address((uint64_t)(uintptr_t)p, where, sizeof where);
    return rt_misuse(cudaErrorInvalidValue, "%s of %zu bytes at %s", what, bytes, where);
}

static cudaError_t check_copy(
    const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    static const bool to_device[] = {false, true, false, true};
    static const bool from_device[] = {false, false, true, true};
    if (kind == cudaMemcpyDefault) {
        bool d = side_of(to, bytes) == DEVICE, s = side_of(from, bytes) == DEVICE;
        kind = d ? (s ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                 : (s ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
    }
    if ((unsigned)kind > cudaMemcpyDeviceToDevice)
        return cudaErrorInvalidValue;
    cudaError_t error = to_device[kind] ? check_device(to, bytes, "copy to") : cudaSuccess;
    if (!error && from_device[kind])
        error = check_device(from, bytes, "copy from");
    if (!error && !to_device[kind] && side_of(to, bytes) == DEVICE)
        error =
            rt_misuse(cudaErrorInvalidValue, "copy to %p, which is device memory, as to host", to);
    if (!error && !from_device[kind] && side_of(from, bytes) == DEVICE)
        error = rt_misuse(
            cudaErrorInvalidValue, "copy from %p, which is device memory, as from host", from);
    return error;
}

/* A pageable source is read before the call returns, a pageable target has been written then. */
static cudaError_t enqueue_copy(
    struct CUstream_st *stream, void *to, const void *from, size_t bytes, bool wait)
{
    struct rt_op *op = rt_op_new(RT_COPY);
    bool pageable = side_of(from, bytes) == PAGEABLE || side_of(to, bytes) == PAGEABLE;
    op->copy = (struct rt_copy){.to = to, .from = from, .bytes = bytes};
    if (side_of(from, bytes) == PAGEABLE || (pageable && stream->capture)) {
        op->copy.staged = malloc(bytes + 1);
        if (!op->copy.staged)
            abort();
        if (!stream->capture)
            memcpy(op->copy.staged, from, bytes);
    }
    cudaError_t error = rt_enqueue(stream, op);
    if (!error && (wait || side_of(to, bytes) == PAGEABLE)) {
        rt_drain(stream);
        error = rt_waited();
    }
    return error;
}

cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_COPY);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && bytes > 0)
        error = check_copy(to, from, bytes, kind);
    if (!error && bytes > 0)
        error = enqueue_copy(stream, to, from, bytes, false);
    return rt_return(error);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_COPY);
    if (!error)
        error = rt_legacy_use();
    if (!error)
        error = rt_unsafe(false); /* it waits */
    if (!error && bytes > 0)
        error = check_copy(to, from, bytes, kind);
    if (!error && bytes > 0)
        error = enqueue_copy(&rt.legacy, to, from, bytes, true);
    return rt_return(error);
}

static cudaError_t enqueue_fill(struct CUstream_st *stream, void *to, int value, size_t bytes)
{
    cudaError_t error = check_device(to, bytes, "fill");
    if (error)
        return error;
    struct rt_op *op = rt_op_new(RT_FILL);
    op->fill = (struct rt_fill){to, value, bytes};
    return rt_enqueue(stream, op);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t handle)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_COPY);
    struct CUstream_st *stream = rt_stream(handle);
    if (!error && !stream)
        error = cudaErrorInvalidResourceHandle;
    if (!error && bytes > 0)
        error = enqueue_fill(stream, to, value, bytes);
    return rt_return(error);
}

cudaError_t cudaMemset(void *to, int value, size_t bytes)
{
    return cudaMemsetAsync(to, value, bytes, NULL);
}

/* ---- variables ---- */

cudaError_t cudaGetSymbolAddress(void **out, const void *symbol)
{
    cudaError_t error = rt_enter(GPUSIM_CALL_ANY);
    size_t size = 0;
    void *p = error ? NULL : gpusim_variable_of(symbol, &size);
    if (!error && !p)
        error = cudaErrorInvalidSymbol;
    if (!error)
        *out = p;
    return rt_return(error);
}

cudaError_t cudaMemcpyToSymbol(
    const void *symbol, const void *from, size_t count, size_t offset, enum cudaMemcpyKind kind)
{
    size_t size = 0;
    unsigned char *to = gpusim_variable_of(symbol, &size);
    if (!to || offset > size || count > size - offset)
        return cudaErrorInvalidSymbol;
    return cudaMemcpy(to + offset, from, count, kind);
}
