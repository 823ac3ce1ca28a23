/* What registers.h says: more values live at once than the limit allows. */
#include "registers.h"

#include <cuda_runtime.h>

namespace
{
__global__ void __maxnreg__(REGISTERS) hungry_kernel(float *p)
{
    float value[2 * REGISTERS];
    value[0] = p[threadIdx.x];
#pragma unroll
    for (int i = 1; i < 2 * REGISTERS; i++) /* each needs the one before: none is made anew */
        value[i] = value[i - 1] * value[i - 1] + 1.0f;
    float sum = 0.0f;
#pragma unroll
    for (int i = 2 * REGISTERS - 1; i >= 0; i--) /* last comes first: all must be kept */
        sum = sum * value[i] + value[i];
    p[threadIdx.x] = sum;
}
} // namespace

cudaError_t registers_launch(float *p, int threads)
{
    hungry_kernel<<<1, threads>>>(p);
    return cudaGetLastError();
}

cudaError_t registers_attributes(struct cudaFuncAttributes *out)
{
    return cudaFuncGetAttributes(out, hungry_kernel);
}
