#include "wrappers.h"

#include "ptx.cuh"

enum { ROW = 16 }; /* bytes of a lane in shared memory */

static __device__ __forceinline__ void put_words(uint32_t *to, uint4 v)
{
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
    to[3] = v.w;
}

static __device__ __forceinline__ uint4 words_of(const uint32_t *from)
{
    return make_uint4(from[0], from[1], from[2], from[3]);
}

/* The row of the lane before: what another thread has stored. */
static __device__ __forceinline__ const uint32_t *neighbour(const unsigned char *rows, int lane)
{
    return (const uint32_t *)(rows + (lane + WRAPPER_LANES - 1) % WRAPPER_LANES * ROW);
}

static __device__ __forceinline__ void run_matrix(
    int which, const uint32_t *in, uint32_t *out, unsigned char *rows, int lane)
{
    uint32_t r[4];
    oct_store_shared_16(oct_shared(rows + lane * ROW), words_of(in));
    __syncthreads();
    if (which == WRAP_LDMATRIX)
        oct_ldmatrix_x4(r, oct_shared(rows + lane * ROW));
    else
        oct_ldmatrix_x4_trans(r, oct_shared(rows + lane * ROW));
    put_words(out, make_uint4(r[0], r[1], r[2], r[3]));
}

/* Stores of 16, 4 and 1 bytes into a row of zeros. */
static __device__ __forceinline__ void run_store(
    int which, const uint32_t *in, uint32_t *out, unsigned char *rows, int lane)
{
    const uint32_t row = oct_shared(rows + lane * ROW);
    oct_store_shared_16(row, make_uint4(0, 0, 0, 0));
    if (which == WRAP_STORE_SHARED_16)
        oct_store_shared_16(row, words_of(in));
    else if (which == WRAP_STORE_SHARED_4)
        oct_store_shared_4(row + 4, in[0]);
    else
        oct_store_shared_1(row + 3, in[0]);
    __syncthreads();
    put_words(out, words_of(neighbour(rows, lane)));
}

/* Copies from global memory of 16, 4 and 1 bytes; only even lanes' source is valid. */
static __device__ __forceinline__ void run_copy(
    int which, const uint32_t *in, uint32_t *out, unsigned char *rows, int lane)
{
    const uint32_t row = oct_shared(rows + lane * ROW);
    const int8_t *from = (const int8_t *)in;
    const bool valid = lane % 2 == 0;
    oct_store_shared_16(row, make_uint4(~0u, ~0u, ~0u, ~0u));
    __syncthreads();
    if (which == WRAP_COPY_16)
        oct_copy_16(row, from, valid);
    else if (which == WRAP_COPY_4)
        oct_copy_4(row + 8, from, valid);
    else
        oct_copy_1(row + 5, from, valid);
    oct_copies_commit();
    oct_copies_wait<0>();
    __syncthreads();
    put_words(out, words_of(neighbour(rows, lane)));
}

static __device__ __forceinline__ void run_mma(const uint32_t *in, uint32_t *out)
{
    int32_t c[4];
    for (int i = 0; i < 4; i++)
        c[i] = (int32_t)in[6 + i];
    oct_mma_s8(c, in, in + 4);
    for (int i = 0; i < 4; i++)
        out[i] = (uint32_t)c[i];
}

static __device__ __forceinline__ float number(uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u ? __uint_as_float(0x7fffffffu)
                                              : __uint_as_float(bits);
}

static __global__ void wrapper_kernel(int which, const uint32_t *in, uint32_t *out)
{
    __shared__ __align__(128) unsigned char rows[WRAPPER_LANES * ROW];
    const int lane = (int)threadIdx.x;
    in += lane * (which == WRAP_MMA_S8 ? WRAPPER_IN : 4); /* rows of 16 bytes are aligned */
    out += lane * WRAPPER_OUT;
    put_words(out, make_uint4(0, 0, 0, 0));
    if (which == WRAP_MMA_S8)
        run_mma(in, out);
    else if (which == WRAP_LDMATRIX || which == WRAP_LDMATRIX_TRANS)
        run_matrix(which, in, out, rows, lane);
    else if (which == WRAP_PERMUTE_EVEN)
        out[0] = oct_permute<0x6420>(in[0], in[1]);
    else if (which == WRAP_PERMUTE_ODD)
        out[0] = oct_permute<0x7531>(in[0], in[1]);
    else if (which == WRAP_BF16_PAIR)
        out[0] = oct_bf16_pair(number(in[0]), number(in[1]));
    else if (which == WRAP_LOAD_GLOBAL_16)
        put_words(out, oct_load_global_16((const int8_t *)in, lane % 2 == 0));
    else if (which >= WRAP_COPY_16)
        run_copy(which, in, out, rows, lane);
    else
        run_store(which, in, out, rows, lane);
}

extern "C" cudaError_t wrapper_run(enum wrapper which, const uint32_t *in, uint32_t *out)
{
    uint32_t *device = NULL;
    cudaError_t error =
        cudaMalloc((void **)&device, (WRAPPER_WORDS_IN + WRAPPER_WORDS_OUT) * sizeof *device);
    if (error != cudaSuccess)
        return error;
    uint32_t *const device_out = device + WRAPPER_WORDS_IN;
    error = cudaMemcpy(device, in, WRAPPER_WORDS_IN * sizeof *in, cudaMemcpyHostToDevice);
    if (error == cudaSuccess) {
        wrapper_kernel<<<1, WRAPPER_LANES>>>(which, device, device_out);
        error = cudaGetLastError();
    }
    if (error == cudaSuccess)
        error =
            cudaMemcpy(out, device_out, WRAPPER_WORDS_OUT * sizeof *out, cudaMemcpyDeviceToHost);
    const cudaError_t freed = cudaFree(device);
    return error == cudaSuccess ? freed : error;
}
