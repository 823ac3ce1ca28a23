/* Kernels that offend if `bad` is set and are right otherwise: tests/test_gpusim_checks.c. Most
 * offences leave the result as it is. */
#include "faults.h"

#include <cuda_runtime.h>

namespace
{
__device__ int bar[64];

__global__ void bounds_kernel(const int *in, int *out, int n, int bad)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (bad || i < n)
        out[i] = in[i];
}

__global__ void alignment_kernel(int *p, int bad)
{
    *(int *)((char *)p + (bad ? 2 : 4)) = 1;
}

__global__ void shared_bounds_kernel(int *out, int bad)
{
    extern __shared__ int s[];
    s[threadIdx.x + (bad ? 1 : 0)] = (int)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void local_bounds_kernel(int *out, int bad)
{
    int a[8];
    for (int i = 0; i < 8; i++)
        a[i] = i * out[0];
    out[0] = a[out[1] + (bad ? 8 : 0)];
}

/* One thread's data is read by another; the barrier is missing. */
__global__ void read_race_kernel(int *out, int bad)
{
    __shared__ int s[128];
    s[threadIdx.x] = (int)threadIdx.x;
    if (!bad)
        __syncthreads();
    out[threadIdx.x] = s[127 - threadIdx.x];
}

/* The barrier before the buffer is used again is missing. */
__global__ void reuse_race_kernel(int *out, int bad)
{
    __shared__ int s[128];
    int sum = 0;
    for (int round = 0; round < 4; round++) {
        s[threadIdx.x] = round;
        __syncthreads();
        sum += s[127 - threadIdx.x];
        if (!bad)
            __syncthreads();
    }
    out[threadIdx.x] = sum;
}

__global__ void bytes_race_kernel(signed char *out, int bad)
{
    __shared__ signed char s[256];
    s[threadIdx.x + (bad && threadIdx.x == 7 ? 1 : 0)] = (signed char)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

/* Lanes of one warp exchange without __syncwarp. */
__global__ void warp_race_kernel(int *out, int bad)
{
    __shared__ volatile int s[32];
    s[threadIdx.x] = (int)threadIdx.x;
    if (!bad)
        __syncwarp();
    out[threadIdx.x] = ((int *)s)[31 - threadIdx.x];
}

__global__ void atomic_race_kernel(int *out, int bad)
{
    __shared__ int s;
    if (threadIdx.x == 0)
        s = 0;
    __syncthreads();
    if (bad)
        s = s + 1;
    else
        atomicAdd(&s, 1);
    __syncthreads();
    if (threadIdx.x == 0)
        *out = s;
}

__global__ void block_write_race_kernel(int *out, int bad)
{
    out[bad ? 0 : blockIdx.x] = 1;
}

__global__ void block_read_race_kernel(int *data, int bad)
{
    const int mine = (int)(blockIdx.x * 32 + threadIdx.x);
    const int from = bad ? (int)((blockIdx.x ^ 1) * 32 + threadIdx.x) : mine;
    const int value = data[from];
    data[mine] = value;
}

__global__ void clear_race_kernel(int *out, int bad)
{
    __shared__ int s;
    if (threadIdx.x == 0)
        s = 0;
    if (!bad)
        __syncthreads();
    atomicAdd(&s, 1);
    __syncthreads();
    if (threadIdx.x == 0)
        *out = s;
}

__global__ void block_atomic_race_kernel(int *out, int bad)
{
    atomicMax(out, (int)blockIdx.x);
    if (bad && threadIdx.x == 0 && blockIdx.x == 1)
        *out = 5;
}

/* The last block of the grid adds what all blocks left; *count is 0 again at its end. */
__device__ void add_up(const int *parts, int *sum)
{
    int mine = 0;
    for (unsigned i = threadIdx.x; i < gridDim.x * blockDim.x; i += blockDim.x)
        mine += parts[i];
    atomicAdd(sum, mine);
}

/* Every thread fences what it wrote; then one counts the block. */
__global__ void last_block_kernel(unsigned *count, int *parts, int *sum, enum fault fault, int bad)
{
    __shared__ bool last;
    const bool no_fence = bad && fault == FAULT_LAST_BLOCK_FENCE;
    const bool late_fence = bad && fault == FAULT_LAST_BLOCK_ORDER;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = (int)threadIdx.x;
    if (!no_fence && !late_fence)
        __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
        if (late_fence)
            __threadfence();
    }
    __syncthreads();
    if (last)
        add_up(parts, sum);
}

/* Every thread counts itself; the last thread of all adds alone. */
__global__ void last_thread_kernel(unsigned *count, int *parts, int *sum, int bad)
{
    const unsigned threads = gridDim.x * blockDim.x;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = (int)threadIdx.x;
    if (!bad || threadIdx.x != 3)
        __threadfence();
    if (atomicInc(count, threads - 1) != threads - 1)
        return;
    for (unsigned i = 0; i < threads; i++)
        *sum += parts[i];
}

/* One thread fences for all, behind a barrier, and counts with an add; the last block clears. */
__global__ void last_barrier_kernel(
    unsigned *count, int *parts, int *sum, enum fault fault, int bad)
{
    __shared__ bool last;
    const bool other = bad && fault == FAULT_LAST_BLOCK_COUNTER;
    const bool early = bad && fault == FAULT_LAST_BLOCK_EARLY;
    const bool highest = blockIdx.x == gridDim.x - 1;
    parts[blockIdx.x * blockDim.x + threadIdx.x] = (int)threadIdx.x;
    if (!bad || other || early)
        __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        if (other) /* the first block's word is not the others' */
            atomicAdd(count + (blockIdx.x == 0), 1u);
        last = other ? highest : atomicAdd(count, 1u) == gridDim.x - 1;
    }
    if (!early) /* or the others go on before the one has counted */
        __syncthreads();
    if (early ? !highest : !last)
        return;
    add_up(parts, sum);
    if (threadIdx.x == 0)
        *count = 0;
}

__global__ void block_clear_race_kernel(int *out, int bad)
{
    if (bad && threadIdx.x == 0 && blockIdx.x == 0)
        *out = 0;
    __syncthreads();
    atomicMax(out, (int)blockIdx.x);
}

__global__ void skipped_barrier_kernel(int *out, int bad)
{
    if (!bad || threadIdx.x < 96)
        __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void early_exit_kernel(int *out, int bad)
{
    if (bad && threadIdx.x == 5)
        return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void divergent_barrier_kernel(int *out, int bad)
{
    if (threadIdx.x % 2 == 0 || !bad) {
        __syncthreads();
        out[threadIdx.x] = 1;
    } else {
        __syncthreads();
        out[threadIdx.x] = 2;
    }
}

__global__ void divergent_shuffle_kernel(int *out, int bad)
{
    const unsigned mask = bad ? 0xffffffffu : 0x0000ffffu;
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_xor_sync(mask, (int)threadIdx.x, 1);
}

__global__ void foreign_mask_kernel(int *out, int bad)
{
    out[threadIdx.x] = (int)__ballot_sync(bad ? 0x7fffffffu : 0xffffffffu, 1);
}

__global__ void shuffle_source_kernel(int *out, int bad)
{
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_sync(0x0000ffffu, (int)threadIdx.x, bad ? 20 : 3);
}

__global__ void unwritten_shared_kernel(int *out, int bad)
{
    __shared__ int s[64];
    if (!bad || threadIdx.x < 63)
        s[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void divide_kernel(int *out, int bad)
{
    out[0] = out[1] / (bad ? out[2] : 3);
}

__global__ void endless_kernel(int *out, int bad)
{
    while (bad && ((volatile int *)out)[0] == 0)
        ;
    out[1] = 1;
}

__global__ void trap_kernel(int *out, int bad)
{
    if (bad && threadIdx.x == 3)
        __trap();
    out[threadIdx.x] = 1;
}

__global__ void column_kernel(int *out, int bad)
{
    __shared__ int s[32 * 32];
    s[threadIdx.x * (bad ? 32 : 1)] = (int)threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = s[0];
}

__global__ void __launch_bounds__(64) bounded_kernel(int *out)
{
    out[threadIdx.x] = bar[threadIdx.x & 63];
}

void launch_race(enum fault fault, int *p, int *q, int bad)
{
    switch (fault) {
    case FAULT_READ_RACE:
        read_race_kernel<<<1, 128>>>(q, bad);
        break;
    case FAULT_REUSE_RACE:
        reuse_race_kernel<<<1, 128>>>(q, bad);
        break;
    case FAULT_BYTES_RACE:
        bytes_race_kernel<<<1, 128>>>((signed char *)q, bad);
        break;
    case FAULT_WARP_RACE:
        warp_race_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_ATOMIC_RACE:
        atomic_race_kernel<<<1, 64>>>(q, bad);
        break;
    case FAULT_CLEAR_RACE:
        clear_race_kernel<<<1, 64>>>(q, bad);
        break;
    case FAULT_BLOCK_WRITE_RACE:
        block_write_race_kernel<<<4, 1>>>(q, bad);
        break;
    case FAULT_BLOCK_READ_RACE:
        block_read_race_kernel<<<2, 32>>>(p, bad);
        break;
    case FAULT_BLOCK_ATOMIC_RACE:
        block_atomic_race_kernel<<<3, 32>>>(p, bad);
        break;
    case FAULT_BLOCK_CLEAR_RACE:
        block_clear_race_kernel<<<3, 32>>>(p, bad);
        break;
    case FAULT_LAST_BLOCK_FENCE:
    case FAULT_LAST_BLOCK_ORDER:
        last_block_kernel<<<3, 32>>>((unsigned *)p, q, p + 8, fault, bad);
        break;
    case FAULT_LAST_THREAD:
        last_thread_kernel<<<3, 8>>>((unsigned *)p, q, p + 8, bad);
        break;
    case FAULT_LAST_BLOCK_BARRIER:
    case FAULT_LAST_BLOCK_COUNTER:
    case FAULT_LAST_BLOCK_EARLY:
        last_barrier_kernel<<<3, 40>>>((unsigned *)p, q, p + 8, fault, bad);
        break;
    default:
        break;
    }
}
} // namespace

int fault_run(enum fault fault, int *p, int *q, int bad)
{
    switch (fault) {
    case FAULT_BOUNDS:
        bounds_kernel<<<3, 64>>>(p, q, 100, bad);
        break;
    case FAULT_ALIGNMENT:
        alignment_kernel<<<1, 1>>>(p, bad);
        break;
    case FAULT_SHARED_BOUNDS:
        shared_bounds_kernel<<<1, 64, 256>>>(q, bad);
        break;
    case FAULT_LOCAL_BOUNDS:
        local_bounds_kernel<<<1, 1>>>(p, bad);
        break;
    case FAULT_SKIPPED_BARRIER:
        skipped_barrier_kernel<<<1, 128>>>(q, bad);
        break;
    case FAULT_EARLY_EXIT:
        early_exit_kernel<<<1, 64>>>(q, bad);
        break;
    case FAULT_DIVERGENT_BARRIER:
        divergent_barrier_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_DIVERGENT_SHUFFLE:
        divergent_shuffle_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_FOREIGN_MASK:
        foreign_mask_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_SHUFFLE_SOURCE:
        shuffle_source_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_UNWRITTEN_SHARED:
        unwritten_shared_kernel<<<1, 64>>>(q, bad);
        break;
    case FAULT_DIVIDE:
        divide_kernel<<<1, 1>>>(p, bad);
        break;
    case FAULT_ENDLESS:
        endless_kernel<<<1, 1>>>(p, bad);
        break;
    case FAULT_TRAP:
        trap_kernel<<<1, 32>>>(q, bad);
        break;
    case FAULT_LAUNCH_BOUNDS:
        bounded_kernel<<<1, bad ? 96 : 64>>>(q);
        break;
    case FAULT_THREADS:
        bounds_kernel<<<1, bad ? 1025 : 128>>>(p, q, 0, 0);
        break;
    case FAULT_EMPTY_GRID:
        bounds_kernel<<<bad ? 0 : 1, 128>>>(p, q, 0, 0);
        break;
    case FAULT_SHARED_SIZE:
        shared_bounds_kernel<<<1, 64, 48 * 1024 + (bad ? 16 : 0)>>>(q, 0);
        break;
    case FAULT_COLUMN:
        column_kernel<<<1, 32>>>(q, bad);
        break;
    default:
        launch_race(fault, p, q, bad);
        break;
    }
    return (int)cudaGetLastError();
}

int fault_opt_in(int bytes)
{
    int error = (int)cudaFuncSetAttribute(
        shared_bounds_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error)
        return error;
    float *p = nullptr;
    cudaMalloc(&p, 4096);
    shared_bounds_kernel<<<1, 64, (size_t)bytes>>>((int *)p, 0);
    error = (int)cudaGetLastError();
    cudaFree(p);
    return error;
}
