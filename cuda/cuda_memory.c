/* The memory group of the CUDA backend. Everything is ordered on the one compute stream; only
 * `download` and `sync` wait for it. */
#include "cuda.h"

#include <string.h>

enum oct_status oct_cuda_memory_open(struct oct_cuda *cuda)
{
    for (int i = 0; i < OCT_CUDA_SLOTS; i++) {
        struct oct_cuda_slot *slot = &cuda->slots[i];
        OCT_CUDA(cudaEventCreateWithFlags(&slot->passed, cudaEventDisableTiming));
        OCT_CUDA(cudaHostAlloc(&slot->pinned, OCT_CUDA_SLOT_BYTES, cudaHostAllocDefault));
    }
    return OCT_OK;
}

void oct_cuda_memory_close(struct oct_cuda *cuda)
{
    for (int i = 0; i < OCT_CUDA_SLOTS; i++) {
        struct oct_cuda_slot *slot = &cuda->slots[i];
        if (slot->pinned)
            cudaFreeHost(slot->pinned);
        if (slot->passed)
            cudaEventDestroy(slot->passed);
        *slot = (struct oct_cuda_slot){0};
    }
}

/* The next slot, once what it last carried has passed. */
static enum oct_status take_slot(struct oct_cuda *cuda, struct oct_cuda_slot **out)
{
    struct oct_cuda_slot *slot = &cuda->slots[cuda->next_slot];
    OCT_CUDA(cudaEventSynchronize(slot->passed));
    cuda->next_slot = (cuda->next_slot + 1) % OCT_CUDA_SLOTS;
    *out = slot;
    return OCT_OK;
}

static enum oct_status cuda_alloc(oct_backend *backend, size_t bytes, void **out)
{
    void *p = NULL;
    OCT_CUDA(cudaSetDevice(oct_cuda_of(backend)->device));
    if (bytes > 0)
        OCT_CUDA(cudaMalloc(&p, bytes));
    backend->allocations++;
    *out = p;
    return OCT_OK;
}

static void cuda_free(oct_backend *backend, void *p)
{
    backend->allocations++;
    if (p)
        cudaFree(p);
}

static enum oct_status cuda_upload(
    oct_backend *backend, void *device, const void *host, size_t bytes)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    /* A step begins with an upload: from here on its thread launches on the right device. */
    OCT_CUDA(cudaSetDevice(cuda->device));
    for (size_t at = 0; at < bytes; at += OCT_CUDA_SLOT_BYTES) {
        size_t n = bytes - at < OCT_CUDA_SLOT_BYTES ? bytes - at : OCT_CUDA_SLOT_BYTES;
        struct oct_cuda_slot *slot;
        OCT_TRY(take_slot(cuda, &slot));
        memcpy(slot->pinned, (const char *)host + at, n);
        OCT_CUDA(cudaMemcpyAsync(
            (char *)device + at, slot->pinned, n, cudaMemcpyHostToDevice, cuda->stream));
        OCT_CUDA(cudaEventRecord(slot->passed, cuda->stream));
    }
    return OCT_OK;
}

/* One slot is copied out while the next one fills. */
static enum oct_status cuda_download(
    oct_backend *backend, void *host, const void *device, size_t bytes)
{
    struct oct_cuda *cuda = oct_cuda_of(backend);
    struct oct_cuda_slot *filling = NULL, *full = NULL;
    size_t filling_at = 0, full_at = 0, filling_bytes = 0, full_bytes = 0;

    OCT_CUDA(cudaSetDevice(cuda->device));
    for (size_t at = 0; at < bytes || filling;) {
        full = filling, full_at = filling_at, full_bytes = filling_bytes;
        filling = NULL;
        if (at < bytes) {
            size_t n = bytes - at < OCT_CUDA_SLOT_BYTES ? bytes - at : OCT_CUDA_SLOT_BYTES;
            OCT_TRY(take_slot(cuda, &filling));
            OCT_CUDA(cudaMemcpyAsync(filling->pinned, (const char *)device + at, n,
                cudaMemcpyDeviceToHost, cuda->stream));
            OCT_CUDA(cudaEventRecord(filling->passed, cuda->stream));
            filling_at = at;
            filling_bytes = n;
            at += n;
        }
        if (full) {
            OCT_CUDA(cudaEventSynchronize(full->passed));
            memcpy((char *)host + full_at, full->pinned, full_bytes);
        }
    }
    return OCT_OK;
}

static enum oct_status cuda_copy(oct_backend *backend, void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        OCT_CUDA(cudaMemcpyAsync(
            to, from, bytes, cudaMemcpyDeviceToDevice, oct_cuda_of(backend)->stream));
    return OCT_OK;
}

static enum oct_status cuda_clear(oct_backend *backend, void *device, size_t bytes)
{
    if (bytes > 0)
        OCT_CUDA(cudaMemsetAsync(device, 0, bytes, oct_cuda_of(backend)->stream));
    return OCT_OK;
}

static enum oct_status cuda_sync(oct_backend *backend)
{
    OCT_CUDA(cudaStreamSynchronize(oct_cuda_of(backend)->stream));
    return OCT_OK;
}

void oct_cuda_memory_install(oct_backend *table)
{
    table->alloc = cuda_alloc;
    table->free = cuda_free;
    table->upload = cuda_upload;
    table->download = cuda_download;
    table->copy = cuda_copy;
    table->clear = cuda_clear;
    table->sync = cuda_sync;
}
