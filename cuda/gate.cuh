/* dz = z > 0 ? da : 0 and where the sign of z comes from. */
#ifndef OCT_CUDA_GATE_CUH
#define OCT_CUDA_GATE_CUH

#include "elementwise.cuh"

enum gate { GATE_OPEN, GATE_Z, GATE_MASK };

static inline __host__ __device__ enum gate gate_of(int relu, const uint8_t *mask)
{
    return mask ? GATE_MASK : relu ? GATE_Z : GATE_OPEN;
}

/* Bits of the elements from i on, lowest first, up to the end of i's byte. */
OCT_DEVICE_INLINE uint32_t mask_bits(const uint8_t *mask, int64_t i)
{
    return (uint32_t)mask[(uint64_t)i / 8] >> ((uint32_t)i & 7);
}

OCT_DEVICE_INLINE float gate_dz(
    enum gate gate, float da, float y, float a, float b, uint32_t mask_bit)
{
    if (gate == GATE_Z)
        return oct_affine(y, a, b) > 0.0f ? da : 0.0f;
    return gate == GATE_OPEN || mask_bit ? da : 0.0f;
}

#endif
