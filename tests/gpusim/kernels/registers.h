/* A kernel that ptxas gives exactly REGISTERS registers, with machine code for sm_80 only. */
#ifndef GPUSIM_REGISTERS_H
#define GPUSIM_REGISTERS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { REGISTERS = 96 };

/* One block; p has room for a float a thread. The error of the launch. */
cudaError_t registers_launch(float *p, int threads);
cudaError_t registers_attributes(struct cudaFuncAttributes *out);

#ifdef __cplusplus
}
#endif
#endif
