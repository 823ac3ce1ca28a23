/* Kernels whose order can be read from what they leave: one thread each. */
#ifndef GPUSIM_STEPS_H
#define GPUSIM_STEPS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Each returns the launch's error. */
cudaError_t step_digit(int *p, int digit, cudaStream_t stream);          /* *p = 10 * *p + digit */
cudaError_t step_add(int *to, const int *a, int b, cudaStream_t stream); /* *to = *a + b */
cudaError_t step_trap(cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
