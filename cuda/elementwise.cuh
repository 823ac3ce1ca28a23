/* What the passes over NHWC tensors share: packed loads and stores, the walk of a grid over a
 * tensor, and results of a whole block.
 *
 * Every pass exists for V channels a thread (V = 2, 4 or 8: the tensor's channels divide by V and
 * its pointers are aligned; a thread keeps its channels, so their parameters stay in registers)
 * and for one element a thread (V = 1: any channel count, any alignment). A dtype or flag that is a
 * template parameter is one of the combinations a training step spends its time in; ANY reads it
 * from the arguments, so that one more kernel serves all the others with the same bits. */
#ifndef OCT_CUDA_ELEMENTWISE_CUH
#define OCT_CUDA_ELEMENTWISE_CUH

#include "cuda.h"
#include "ptx.cuh"

#include "base/numeric.h"

enum { THREADS = 256, WARP = 32, KERNEL_BLOCKS = 4 };
enum { ANY = -1, NONE = -2 }; /* a dtype from the arguments; no tensor */

/* At least `blocks` blocks on a multiprocessor, which caps the registers: 64 a thread for 4. */
#define OCT_KERNEL_OF(blocks) static __global__ void __launch_bounds__(THREADS, blocks)
#define OCT_KERNEL OCT_KERNEL_OF(KERNEL_BLOCKS)
#define OCT_DEVICE_INLINE static __device__ __forceinline__

/* ---- memory ---- */

template <int WORDS> OCT_DEVICE_INLINE void load_words(uint32_t *w, const void *p)
{
    static_assert(WORDS == 1 || WORDS == 2 || WORDS % 4 == 0, "one to four words, or fours");
    if constexpr (WORDS == 1) {
        w[0] = *(const uint32_t *)p;
    } else if constexpr (WORDS == 2) {
        const uint2 v = *(const uint2 *)p;
        w[0] = v.x;
        w[1] = v.y;
    } else {
#pragma unroll
        for (int k = 0; k < WORDS; k += 4) {
            const uint4 v = ((const uint4 *)p)[k / 4];
            w[k] = v.x;
            w[k + 1] = v.y;
            w[k + 2] = v.z;
            w[k + 3] = v.w;
        }
    }
}

template <int WORDS> OCT_DEVICE_INLINE void store_words(void *p, const uint32_t (&w)[WORDS])
{
    static_assert(WORDS == 1 || WORDS == 2 || WORDS % 4 == 0, "one to four words, or fours");
    if constexpr (WORDS == 1) {
        *(uint32_t *)p = w[0];
    } else if constexpr (WORDS == 2) {
        *(uint2 *)p = make_uint2(w[0], w[1]);
    } else {
#pragma unroll
        for (int k = 0; k < WORDS; k += 4)
            ((uint4 *)p)[k / 4] = make_uint4(w[k], w[k + 1], w[k + 2], w[k + 3]);
    }
}

/* Elements i..i+V-1 of a tensor of f32, bf16 or s8 as they lie in memory; i is a multiple of V. */
template <int V> struct packed {
    uint32_t w[V];
};

template <int V> OCT_DEVICE_INLINE packed<V> load_packed(int dtype, const void *x, int64_t i)
{
    packed<V> p;
    if (dtype == OCT_F32) {
        load_words<V>(p.w, (const float *)x + i);
    } else if (dtype == OCT_BF16) {
        if constexpr (V == 1)
            p.w[0] = ((const uint16_t *)x)[i];
        else
            load_words<V / 2>(p.w, (const uint16_t *)x + i);
    } else {
        if constexpr (V < 4)
            for (int k = 0; k < V; k++)
                p.w[k] = (uint32_t)((const int8_t *)x)[i + k];
        else
            load_words<V / 4>(p.w, (const int8_t *)x + i);
    }
    return p;
}

template <int V> OCT_DEVICE_INLINE void unpack(float (&out)[V], int dtype, const packed<V> &p)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (dtype == OCT_F32)
            out[k] = oct_f32_of_bits(p.w[k]);
        else if (dtype == OCT_BF16)
            out[k] = oct_f32_from_bf16((uint16_t)(p.w[k / 2] >> (16 * (k & 1))));
        else if (V < 4)
            out[k] = (float)(int)p.w[k];
        else
            out[k] = (float)(int8_t)(p.w[k / 4] >> (8 * (k & 3)));
    }
}

template <int V>
OCT_DEVICE_INLINE void load_floats(float (&out)[V], int dtype, const void *x, int64_t i)
{
    unpack<V>(out, dtype, load_packed<V>(dtype, x, i));
}

/* The same backwards, rounding to f32 or bf16. */
template <int V>
OCT_DEVICE_INLINE void store_floats(int dtype, void *x, int64_t i, const float (&value)[V])
{
    if (dtype == OCT_F32) {
        uint32_t w[V];
#pragma unroll
        for (int k = 0; k < V; k++)
            w[k] = oct_bits_of_f32(value[k]);
        store_words<V>((float *)x + i, w);
    } else if constexpr (V == 1) {
        ((uint16_t *)x)[i] = oct_bf16_from_f32(value[0]);
    } else {
        uint32_t w[V / 2];
#pragma unroll
        for (int k = 0; k < V; k += 2)
            w[k / 2] = oct_bf16_from_f32(value[k]) | (uint32_t)oct_bf16_from_f32(value[k + 1])
                                                         << 16;
        store_words<V / 2>((uint16_t *)x + i, w);
    }
}

/* V codes at i. */
template <int V> OCT_DEVICE_INLINE void store_codes(int8_t *q, int64_t i, const int (&code)[V])
{
    if constexpr (V == 1) {
        q[i] = (int8_t)code[0];
    } else if constexpr (V == 2) {
        *(uint16_t *)(q + i) = (uint16_t)((code[0] & 0xff) | (code[1] & 0xff) << 8);
    } else {
        uint32_t w[V / 4];
#pragma unroll
        for (int k = 0; k < V; k += 4)
            w[k / 4] = (uint32_t)(code[k] & 0xff) | (uint32_t)(code[k + 1] & 0xff) << 8 |
                       (uint32_t)(code[k + 2] & 0xff) << 16 | (uint32_t)code[k + 3] << 24;
        store_words<V / 4>(q + i, w);
    }
}

/* V codes that are the low bytes of words. */
template <int V>
OCT_DEVICE_INLINE void store_low_bytes(int8_t *q, int64_t i, const uint32_t (&word)[V])
{
    if constexpr (V == 1) {
        q[i] = (int8_t)word[0];
    } else if constexpr (V == 2) {
        *(uint16_t *)(q + i) = (uint16_t)oct_permute<0x0040>(word[0], word[1]);
    } else {
        uint32_t w[V / 4];
#pragma unroll
        for (int k = 0; k < V; k += 4)
            w[k / 4] = oct_permute<0x5410>(oct_permute<0x0040>(word[k], word[k + 1]),
                oct_permute<0x0040>(word[k + 2], word[k + 3]));
        store_words<V / 4>(q + i, w);
    }
}

/* oct_quantise of V values to codes of one plane, uniform and nearest, in few instructions: minimum
 * and maximum drop NaN for the bound as oct_clampf does, and adding 1.5 2^23 leaves the rounded
 * code in a float's low byte. Counts what is clipped. */
template <int V>
OCT_DEVICE_INLINE void put_nearest_codes(
    int8_t *q, int64_t i, const float (&x)[V], const float (&inverse)[V], uint32_t *saturated)
{
    const float most = (float)OCT_CODE_MAX;
    uint32_t word[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float v = x[k] * inverse[k];
        word[k] = oct_bits_of_f32(fmaxf(fminf(v, most), -most) + 12582912.0f);
        oct_count_above(saturated, fabsf(v), most);
    }
    store_low_bytes<V>(q, i, word);
}

/* 0, or NaN once a value was not finite. */
OCT_DEVICE_INLINE float stain(float stained, float value)
{
    return fmaf(value, 0.0f, stained);
}

OCT_DEVICE_INLINE bool is_stained(float stained)
{
    return stained != stained;
}

/* |x| as an integer that orders like it, NaN above Inf. */
OCT_DEVICE_INLINE uint32_t magnitude_of(float x)
{
    return oct_bits_of_f32(x) & 0x7fffffffu;
}

enum : uint32_t { INF_BITS = 0x7f800000u, MIN_NORMAL_BITS = 0x00800000u };

/* ---- the walk ---- */

/* The vectors that one thread visits: elements i..i+V-1 of `row`, while walk_goes_on. */
struct walk {
    int64_t i;
    uint32_t row, row_step, rows;
    int channel;
    /* V = 1 only */
    int64_t end, step;
    int channel_step;
};

/* V > 1: a block takes whole rows, or with gridDim.y > 1 the gridDim.y-th parts of them; a thread
 * keeps its channels. V = 1: elements in memory order, a warp visits 32 neighbours that begin at a
 * multiple of 32. rows < 2^31. */
template <int V> OCT_DEVICE_INLINE walk walk_begin(int64_t rows, int channels)
{
    walk w;
    w.rows = (uint32_t)rows;
    if constexpr (V == 1) {
        const uint32_t first = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;
        w.i = first;
        w.end = rows * channels;
        w.step = step;
        w.row = first / (uint32_t)channels;
        w.row_step = step / (uint32_t)channels;
        w.channel = (int)(first % (uint32_t)channels);
        w.channel_step = (int)(step % (uint32_t)channels);
    } else {
        const int all = channels / V, lanes = (all + (int)gridDim.y - 1) / (int)gridDim.y;
        const int rows_here = THREADS / lanes, row = (int)threadIdx.x / lanes;
        const int lane = (int)threadIdx.x % lanes + (int)blockIdx.y * lanes;
        w.row_step = gridDim.x * (uint32_t)rows_here;
        w.row = row < rows_here && lane < all ? blockIdx.x * (uint32_t)rows_here + (uint32_t)row
                                              : w.rows;
        w.channel = lane < all ? lane * V : 0;
        w.i = (int64_t)w.row * channels + w.channel;
    }
    return w;
}

template <int V> OCT_DEVICE_INLINE void walk_next(walk *w, int channels)
{
    w->row += w->row_step;
    if constexpr (V == 1) {
        w->i += w->step;
        w->channel += w->channel_step;
        if (w->channel >= channels) {
            w->channel -= channels;
            w->row++;
        }
    } else {
        w->i = (int64_t)w->row * channels + w->channel;
    }
}

template <int V> OCT_DEVICE_INLINE bool walk_is_inside(const walk *w)
{
    return V == 1 ? w->i < w->end : w->row < w->rows;
}

/* V = 1: true as long as any thread of the warp is inside. */
template <int V> OCT_DEVICE_INLINE bool walk_goes_on(const walk *w)
{
    return V == 1 ? (w->i & ~(int64_t)(WARP - 1)) < w->end : walk_is_inside<V>(w);
}

/* Grid of a walk: as many blocks as the device holds at a time (`each` a multiprocessor, which the
 * kernel's launch bounds promise), or fewer if there is less to do. */
template <int V>
static inline dim3 walk_grid(
    const struct oct_cuda *cuda, int64_t rows, int channels, int each = KERNEL_BLOCKS)
{
    int64_t blocks, parts = 1;
    if (V == 1) {
        blocks = (rows * channels + THREADS - 1) / THREADS;
    } else {
        const int all = channels / V;
        parts = (all + THREADS - 1) / THREADS;
        const int64_t rows_here = THREADS / ((all + parts - 1) / parts);
        blocks = (rows + rows_here - 1) / rows_here;
    }
    const int64_t resident = (int64_t)cuda->multiprocessors * each;
    const int64_t most = resident / parts > 1 ? resident / parts : 1;
    blocks = blocks < most ? blocks : most;
    return dim3((unsigned)(blocks > 0 ? blocks : 1), (unsigned)parts);
}

/* ---- results of a block: every thread of it calls these ---- */

OCT_DEVICE_INLINE void block_raise(uint32_t *flag, bool mine)
{
    const int any = __syncthreads_or(mine);
    if (any && flag && threadIdx.x == 0)
        atomicOr(flag, 1u);
}

OCT_DEVICE_INLINE uint32_t warp_sum(uint32_t mine)
{
#pragma unroll
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        mine += __shfl_xor_sync(0xffffffffu, mine, lane);
    return mine;
}

OCT_DEVICE_INLINE uint32_t warp_max(uint32_t mine)
{
#pragma unroll
    for (int lane = WARP / 2; lane > 0; lane /= 2)
        mine = max(mine, __shfl_xor_sync(0xffffffffu, mine, lane));
    return mine;
}

/* *total += the block's sum; a warp's sum fits 32 bits. */
OCT_DEVICE_INLINE void block_add(int64_t *total, uint32_t mine)
{
    __shared__ unsigned long long sum;
    const uint32_t of_warp = warp_sum(mine);
    if (threadIdx.x == 0)
        sum = 0;
    __syncthreads();
    if (of_warp > 0 && threadIdx.x % WARP == 0)
        atomicAdd(&sum, (unsigned long long)of_warp);
    __syncthreads();
    if (threadIdx.x == 0 && sum > 0)
        atomicAdd((unsigned long long *)total, sum);
    __syncthreads();
}

/* The block's maximum, in every thread. */
OCT_DEVICE_INLINE uint32_t block_max(uint32_t mine)
{
    __shared__ uint32_t largest;
    const uint32_t of_warp = warp_max(mine);
    if (threadIdx.x == 0)
        largest = 0;
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        atomicMax(&largest, of_warp);
    __syncthreads();
    const uint32_t result = largest;
    __syncthreads();
    return result;
}

/* ---- host ---- */

/* Gradient of a parameter from a sum over pixels. */
OCT_DEVICE_INLINE void write_gradient(float *to, double sum, enum oct_write mode)
{
    const float value = (float)sum;
    *to = mode == OCT_ACCUMULATE ? *to + value : value;
}

/* Whether V elements of every dtype may be moved at once from where p points. */
static inline int is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

#endif
