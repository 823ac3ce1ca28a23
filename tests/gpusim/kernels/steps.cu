/* What steps.h says: tests/test_gpusim_rt.c and test_gpusim_capture.c. */
#include "steps.h"

#include <cuda_runtime.h>

namespace
{
__global__ void digit_kernel(int *p, int digit)
{
    *p = 10 * *p + digit;
}

__global__ void add_kernel(int *to, const int *a, int b)
{
    *to = *a + b;
}

__global__ void trap_kernel()
{
    __trap();
}
} // namespace

cudaError_t step_digit(int *p, int digit, cudaStream_t stream)
{
    (void)cudaGetLastError(); /* an earlier call's */
    digit_kernel<<<1, 1, 0, stream>>>(p, digit);
    return cudaPeekAtLastError();
}

cudaError_t step_add(int *to, const int *a, int b, cudaStream_t stream)
{
    (void)cudaGetLastError(); /* an earlier call's */
    add_kernel<<<1, 1, 0, stream>>>(to, a, b);
    return cudaPeekAtLastError();
}

cudaError_t step_trap(cudaStream_t stream)
{
    (void)cudaGetLastError(); /* an earlier call's */
    trap_kernel<<<1, 1, 0, stream>>>();
    return cudaPeekAtLastError();
}
