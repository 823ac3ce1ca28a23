/* Every line of inline PTX of the project: one thin wrapper an instruction. Shared-memory addresses
 * are 32-bit offsets into the block's window (oct_shared), so that address arithmetic stays in one
 * register. Fragment layouts, with lane = 4 g + q and byte j of register i:
 *   A (16 x 32): row g + 8 (i odd), column 4 q + j + 16 (i >= 2)
 *   B (32 x 8):  row 4 q + j + 16 i, column g
 *   C (16 x 8):  element e: row g + 8 (e >= 2), column 2 q + (e odd)
 * ldmatrix: matrix n takes its 8 rows of 16 bytes from the addresses of lanes 8 n .. 8 n + 7; lane
 * (g, q) receives bytes 4 q .. 4 q + 3 of row g, or with .trans the 16-bit elements g of rows 2 q
 * and 2 q + 1. */
#ifndef OCT_PTX_CUH
#define OCT_PTX_CUH

#include "base/numeric.h"

/* Copies from global to shared memory that run behind the threads' backs. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define OCT_ASYNC_COPY 1
#else
#define OCT_ASYNC_COPY 0
#endif

static __device__ __forceinline__ uint32_t oct_shared(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* The value, which the compiler then keeps in a register instead of computing it anew in a loop. */
static __device__ __forceinline__ uint32_t oct_keep(uint32_t value)
{
    asm("" : "+r"(value));
    return value;
}

/* Address of element `index` of so many bytes from `base` on. */
static __device__ __forceinline__ const int8_t *oct_element(
    const int8_t *base, uint32_t index, uint32_t bytes)
{
    const int8_t *at;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(at) : "r"(index), "r"(bytes), "l"(base));
    return at;
}

/* c += a b, int8 to int32. Turing has only the 8 x 8 x 16 form: four of it on the same registers.
 */
static __device__ __forceinline__ void oct_mma_s8(
    int32_t c[4], const uint32_t a[4], const uint32_t b[2])
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int depth = 0; depth < 2; depth++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 "
                         "{%0, %1}, {%2}, {%3}, {%0, %1};"
                         : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                         : "r"(a[2 * depth + half]), "r"(b[depth]));
        }
    }
#endif
}

static __device__ __forceinline__ void oct_ldmatrix_x4(uint32_t r[4], uint32_t shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
}

static __device__ __forceinline__ void oct_ldmatrix_x4_trans(uint32_t r[4], uint32_t shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
}

/* The four bytes of {b, a} that the selector's nibbles name. */
template <int SELECTOR>
static __device__ __forceinline__ uint32_t oct_permute(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "n"(SELECTOR));
    return r;
}

/* oct_bf16_from_f32 of two results of arithmetic, the first in the low half. The only NaN among
 * such results is 7fffffff, which the instruction makes 7fff as the formula does. */
static __device__ __forceinline__ uint32_t oct_bf16_pair(float low, float high)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return oct_bf16_from_f32(low) | (uint32_t)oct_bf16_from_f32(high) << 16;
#endif
}

/* Counts a value above a bound, NaN not: a comparison and an addition under its predicate. */
static __device__ __forceinline__ void oct_count_above(uint32_t *count, float value, float bound)
{
    asm("{\n\t.reg .pred above;\n\tsetp.gt.ftz.f32 above, %1, %2;\n\t@above add.u32 %0, %0, 1;\n\t}"
        : "+r"(*count)
        : "f"(value), "f"(bound));
}

static __device__ __forceinline__ void oct_store_shared_16(uint32_t shared, uint4 v)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
                 :
                 : "r"(shared), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

static __device__ __forceinline__ void oct_store_shared_4(uint32_t shared, uint32_t v)
{
    asm volatile("st.shared.b32 [%0], %1;" : : "r"(shared), "r"(v) : "memory");
}

static __device__ __forceinline__ void oct_store_shared_1(uint32_t shared, uint32_t v)
{
    asm volatile("st.shared.b8 [%0], %1;" : : "r"(shared), "r"(v) : "memory");
}

/* 16 bytes, or zeros; nothing is read where `valid` is false. */
static __device__ __forceinline__ uint4 oct_load_global_16(const int8_t *from, bool valid)
{
    uint4 v = make_uint4(0, 0, 0, 0);
    if (valid)
        v = __ldg((const uint4 *)from);
    return v;
}

/* 16 or 4 bytes from global to shared memory, zeros and no read where `valid` is false. Where the
 * hardware can, asynchronously: visible to the issuing thread after oct_copies_wait, to the block
 * after a barrier as well. */
static __device__ __forceinline__ void oct_copy_16(uint32_t shared, const int8_t *from, bool valid)
{
#if OCT_ASYNC_COPY
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
#else
    oct_store_shared_16(shared, oct_load_global_16(from, valid));
#endif
}

static __device__ __forceinline__ void oct_copy_4(uint32_t shared, const int8_t *from, bool valid)
{
#if OCT_ASYNC_COPY
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(shared), "l"(from), "r"(valid ? 4 : 0)
                 : "memory");
#else
    uint32_t v = 0;
    if (valid)
        v = __ldg((const uint32_t *)from);
    oct_store_shared_4(shared, v);
#endif
}

static __device__ __forceinline__ void oct_copy_1(uint32_t shared, const int8_t *from, bool valid)
{
    uint32_t v = 0;
    if (valid)
        v = (uint32_t)__ldg((const uint8_t *)from);
    oct_store_shared_1(shared, v);
}

/* Closes a group of asynchronous copies. */
static __device__ __forceinline__ void oct_copies_commit(void)
{
#if OCT_ASYNC_COPY
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

/* Waits until at most PENDING of this thread's groups are unfinished. */
template <int PENDING> static __device__ __forceinline__ void oct_copies_wait(void)
{
#if OCT_ASYNC_COPY
    asm volatile("cp.async.wait_group %0;" : : "n"(PENDING) : "memory");
#endif
}

#endif
