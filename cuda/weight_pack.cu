/* Quantises f32 KRSC weights into what the sweeps read (conv_sweep.h): for every output channel of
 * the sweep its depth (tap, channel), padded with zeros. */
#include "conv_sweep.h"

#include "backend_check.h"
#include "conv_fold.cuh"

struct pack {
    const float *w;
    const float *inverse;
    int per_k, code_max;
    enum oct_grid grid;
    int8_t *out[2]; /* high or only plane, low plane or NULL */
    uint32_t *flag;
    int k, r, s, c;
    oct_gpu_sweep sweep;
    oct_folded folded;
    int64_t pitch;
};

/* A weight that is not finite raises the flag and becomes 0. */
static __device__ __forceinline__ int quantise(const pack &p, float w, int k, bool *bad)
{
    const bool not_finite = oct_not_finite(w);
    *bad |= not_finite;
    const float inverse = p.inverse[p.per_k ? k : 0];
    return oct_quantise_on(p.grid, not_finite ? 0.0f : w, inverse, p.code_max);
}

static __device__ __forceinline__ uint32_t plane_byte(const pack &p, int plane, int q)
{
    return (uint8_t)(!p.out[1] ? q : plane ? oct_plane_lo(q) : oct_plane_hi(q));
}

enum { THREADS = 256 };

/* Forward: KRSC is the order that is wanted, or that of folded pixels. A thread makes four bytes.
 */
static __global__ void __launch_bounds__(THREADS) pack_fprop_kernel(const __grid_constant__ pack p)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, words = p.pitch / 4;
    const int k = (int)(at / words);
    const int64_t d = (at - k * words) * 4;
    bool bad = false;
    uint32_t word[2] = {0, 0};
    oct_unfolding at_fold = {};
    if (k >= p.k)
        return;
    if (p.folded.down)
        at_fold.start(p.folded, (int)d);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (d + i >= p.sweep.depth)
            break;
        const int64_t from = p.folded.down ? at_fold.index(p.folded) : d + i;
        at_fold.next(p.folded);
        if (from < 0)
            continue;
        const int q = quantise(p, p.w[(int64_t)k * p.r * p.s * p.c + from], k, &bad);
        word[0] |= plane_byte(p, 0, q) << 8 * i;
        word[1] |= plane_byte(p, 1, q) << 8 * i;
    }
    *(uint32_t *)(p.out[0] + at * 4) = word[0];
    if (p.out[1])
        *(uint32_t *)(p.out[1] + at * 4) = word[1];
    if (bad)
        atomicOr(p.flag, 1u);
}

/* Backward: for one tap, a matrix k x c turned round through shared memory, CORNER x CORNER at a
 * time. Blocks along z are the taps of the phase; the one after the last clears the padding. */
enum { CORNER = 32 };

static __device__ __forceinline__ void clear_padding(const pack &p)
{
    const int c = blockIdx.x * CORNER + threadIdx.x % CORNER;
    if (blockIdx.y > 0 || c >= p.c)
        return;
    for (int64_t d = p.sweep.depth + threadIdx.x / CORNER; d < p.pitch; d += THREADS / CORNER) {
        p.out[0][c * p.pitch + d] = 0;
        if (p.out[1])
            p.out[1][c * p.pitch + d] = 0;
    }
}

static __global__ void __launch_bounds__(THREADS) pack_dgrad_kernel(const __grid_constant__ pack p)
{
    __shared__ int corner[CORNER][CORNER + 1];
    const int tap = blockIdx.z, lane = threadIdx.x % CORNER, first = threadIdx.x / CORNER;
    const int first_c = blockIdx.x * CORNER, first_k = blockIdx.y * CORNER;
    bool bad = false;
    if (tap == p.sweep.h.taps * p.sweep.w.taps) {
        clear_padding(p);
        return;
    }
    const int u = tap / p.sweep.w.taps, v = tap - u * p.sweep.w.taps;
    const int r = p.sweep.h.filter_first + u * p.sweep.h.filter_step;
    const int s = p.sweep.w.filter_first + v * p.sweep.w.filter_step;
    for (int i = first; i < CORNER; i += THREADS / CORNER) {
        const int k = first_k + i, c = first_c + lane;
        if (k < p.k && c < p.c)
            corner[i][lane] =
                quantise(p, p.w[(((int64_t)k * p.r + r) * p.s + s) * p.c + c], k, &bad);
    }
    __syncthreads();
    for (int i = first; i < CORNER; i += THREADS / CORNER) {
        const int k = first_k + lane, c = first_c + i;
        if (k >= p.k || c >= p.c)
            continue;
        const int64_t at = c * p.pitch + (int64_t)tap * p.k + k;
        p.out[0][at] = (int8_t)plane_byte(p, 0, corner[lane][i]);
        if (p.out[1])
            p.out[1][at] = (int8_t)plane_byte(p, 1, corner[lane][i]);
    }
    if (bad)
        atomicOr(p.flag, 1u);
}

static unsigned blocks(int64_t items, int each)
{
    return (unsigned)((items + each - 1) / each);
}

/* The pack of one sweep. */
static pack make_pack(const struct oct_weight_pack_args *a, int dgrad, int index)
{
    pack p = {};
    oct_gpu_sweep_make(&a->shape, dgrad, index, &p.sweep);
    p.w = a->w;
    p.inverse = a->range.inverse;
    p.per_k = a->range.count > 1;
    p.code_max = a->range.code_max;
    p.grid = a->range.grid;
    p.out[0] = (int8_t *)(dgrad ? a->dgrad : a->fprop) + p.sweep.packed;
    if (a->planes > 1)
        p.out[1] = (int8_t *)(dgrad ? a->dgrad_lo : a->fprop_lo) + p.sweep.packed;
    p.folded = oct_folded_of(&a->shape);
    p.flag = a->flag;
    p.k = a->shape.k;
    p.r = a->shape.r;
    p.s = a->shape.s;
    p.c = a->shape.c;
    p.pitch = oct_gpu_sweep_pitch(&p.sweep);
    return p;
}

extern "C" enum oct_status oct_cuda_weight_pack(
    oct_backend *backend, const struct oct_weight_pack_args *a)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    if (a->dtype != OCT_S8)
        return oct_fail(OCT_UNSUPPORTED,
            "weight_pack: %s weights: the cuda backend has int8 products only",
            oct_dtype_name(a->dtype));
    OCT_TRY(oct_check_weight_pack(a));
    if (a->fprop) {
        const pack p = make_pack(a, 0, 0);
        pack_fprop_kernel<<<blocks(p.k * (p.pitch / 4), THREADS), THREADS, 0, cuda->stream>>>(p);
        OCT_CUDA(cudaGetLastError());
    }
    for (int i = 0; a->dgrad && i < oct_gpu_sweep_count(&a->shape, 1); i++) {
        const pack p = make_pack(a, 1, i);
        const int taps = p.sweep.h.taps * p.sweep.w.taps;
        const dim3 grid(
            blocks(p.c, CORNER), blocks(p.k, CORNER), (unsigned)(taps + (p.pitch > p.sweep.depth)));
        if (grid.z == 0)
            continue;
        pack_dgrad_kernel<<<grid, THREADS, 0, cuda->stream>>>(p);
        OCT_CUDA(cudaGetLastError());
    }
    return OCT_OK;
}

extern "C" size_t oct_cuda_weight_pack_bytes(
    oct_backend *backend, const struct oct_conv_shape *v, enum oct_dtype dtype, int dgrad)
{
    (void)backend;
    (void)dtype;
    return oct_gpu_pack_bytes(v, dgrad);
}
