/* What a barrier on weights (update.cu) and one on activations (barrier.cu) report. */
#ifndef OCT_CUDA_BARRIER_CUH
#define OCT_CUDA_BARRIER_CUH

#include "elementwise.cuh"

/* Sums for the report of the barrier. */
struct barrier_tally {
    int64_t barrier, all;
};

/* The sums of a block leave it as one atomic a warp. */
OCT_DEVICE_INLINE void publish_barrier(int64_t *sums, barrier_tally tally)
{
    unsigned long long both[2] = {(unsigned long long)tally.barrier, (unsigned long long)tally.all};
#pragma unroll
    for (int s = 0; s < 2; s++) {
#pragma unroll
        for (int lane = WARP / 2; lane > 0; lane /= 2)
            both[s] += __shfl_xor_sync(0xffffffffu, both[s], lane);
        if (threadIdx.x % WARP == 0)
            atomicAdd((unsigned long long *)&sums[s], both[s]);
    }
}

#endif
