/* Float reductions over pixels in the canonical order: one thread adds the OCT_REDUCE_PIXELS pixels
 * of a chunk one after the other in float, for the channels it owns; a second kernel adds the chunk
 * sums in index order in double. Between them lies a workspace [chunk][word][channels] of 4-byte
 * words, some of them sums, some extremes. */
#ifndef OCT_CUDA_REDUCE_CUH
#define OCT_CUDA_REDUCE_CUH

#include "elementwise.cuh"

enum {
    CHUNK_THREADS = 64, /* few, so that short tensors still fill the device */
    CHUNK_BATCH = 8,    /* rows whose loads are under way at a time */
    MERGE_CHANNELS = 8, /* of a block: one sector of each word */
    MERGE_CHUNKS = 64   /* that lie in shared memory at a time */
};

/* blocks: that a multiprocessor should hold, and so the registers a thread may have. */
#define OCT_CHUNK_KERNEL_OF(blocks) static __global__ void __launch_bounds__(CHUNK_THREADS, blocks)
#define OCT_CHUNK_KERNEL OCT_CHUNK_KERNEL_OF(16)

static inline __host__ __device__ int64_t chunks_of(int64_t rows)
{
    return (rows + OCT_REDUCE_PIXELS - 1) / OCT_REDUCE_PIXELS;
}

/* The chunk and the V channels of a thread; rows = 0 if it has none. */
struct chunk {
    int64_t index, element; /* element: of its first row and channel */
    int rows, channel;
};

template <int V> OCT_DEVICE_INLINE chunk chunk_of_thread(int64_t rows, int channels)
{
    const int all = channels / V, lanes = (all + (int)gridDim.y - 1) / (int)gridDim.y;
    const int lane = (int)threadIdx.x % lanes + (int)blockIdx.y * lanes;
    const int here = CHUNK_THREADS / lanes, slot = (int)threadIdx.x / lanes;
    chunk own;
    own.index = (int64_t)blockIdx.x * here + slot;
    own.channel = lane * V;
    const int64_t first = own.index * OCT_REDUCE_PIXELS, left = rows - first;
    own.element = first * channels + own.channel;
    own.rows = left < OCT_REDUCE_PIXELS ? (int)left : (int)OCT_REDUCE_PIXELS;
    if (slot >= here || lane >= all || left < 0)
        own.rows = 0;
    return own;
}

template <int V> static inline dim3 chunk_grid(int64_t rows, int channels)
{
    const int all = channels / V, parts = (all + CHUNK_THREADS - 1) / CHUNK_THREADS;
    const int64_t here = CHUNK_THREADS / ((all + parts - 1) / parts);
    return dim3((unsigned)((chunks_of(rows) + here - 1) / here), (unsigned)parts);
}

/* V words of a chunk. */
template <int V>
OCT_DEVICE_INLINE void store_chunk_word(
    void *workspace, int64_t words_before, int channels, int channel, const float (&value)[V])
{
    store_floats<V>(OCT_F32, workspace, words_before * channels + channel, value);
}

static inline unsigned merge_blocks(int channels)
{
    return (unsigned)((channels + MERGE_CHANNELS - 1) / MERGE_CHANNELS);
}

/* Adds words first..first+SUMS-1 of all chunks in index order, for the MERGE_CHANNELS channels of
 * this block: the sum of word first + s and channel l ends in thread s MERGE_CHANNELS + l. The
 * block fetches the next chunks while those threads add. */
template <int SUMS, int WORDS>
OCT_DEVICE_INLINE double merge_sums(const void *workspace, int first, int64_t chunks, int channels)
{
    constexpr int TILE = MERGE_CHUNKS * SUMS * MERGE_CHANNELS, EACH = TILE / THREADS;
    static_assert(TILE % THREADS == 0, "every thread fetches the same number of sums");
    __shared__ float tile[TILE];
    const int c0 = (int)blockIdx.x * MERGE_CHANNELS;
    double total = 0.0;
    float next[EACH];

    for (int64_t chunk = -MERGE_CHUNKS; chunk < chunks; chunk += MERGE_CHUNKS) {
        const int64_t ahead = chunk + MERGE_CHUNKS;
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int entry = (int)threadIdx.x + e * THREADS, s = entry / MERGE_CHANNELS % SUMS;
            const int64_t at = ahead + entry / (MERGE_CHANNELS * SUMS);
            const int c = c0 + entry % MERGE_CHANNELS;
            next[e] = at < chunks && c < channels
                          ? ((const float *)workspace)[(at * WORDS + first + s) * channels + c]
                          : 0.0f; /* adding 0 to a sum that began with +0 changes no bit */
        }
        if (chunk >= 0 && threadIdx.x < SUMS * MERGE_CHANNELS) {
#pragma unroll 8
            for (int k = 0; k < MERGE_CHUNKS; k++)
                total += (double)tile[k * SUMS * MERGE_CHANNELS + threadIdx.x];
        }
        __syncthreads();
#pragma unroll
        for (int e = 0; e < EACH; e++)
            tile[threadIdx.x + e * THREADS] = next[e];
        __syncthreads();
    }
    return total;
}

/* The smallest and largest of words `low` and `high` of all chunks; threads l < MERGE_CHANNELS end
 * with those of channel l. -0 and subnormals become +0. */
template <int WORDS>
OCT_DEVICE_INLINE float2 merge_extremes(
    const void *workspace, int low, int high, int64_t chunks, int channels)
{
    enum { WAYS = THREADS / MERGE_CHANNELS };
    __shared__ float2 found[WAYS][MERGE_CHANNELS];
    const int l = (int)threadIdx.x % MERGE_CHANNELS, way = (int)threadIdx.x / MERGE_CHANNELS;
    const int c = (int)blockIdx.x * MERGE_CHANNELS + l;
    float2 best = make_float2(INFINITY, -INFINITY);

    for (int64_t at = way; at < chunks && c < channels; at += WAYS) {
        const float *words = (const float *)workspace + at * WORDS * channels + c;
        const float least = words[low * channels], most = words[high * channels];
        best.x = least < best.x ? least : best.x;
        best.y = most > best.y ? most : best.y;
    }
    found[way][l] = best;
    __syncthreads();
    for (int k = 1; k < WAYS && way == 0; k++) {
        const float2 rival = found[k][l];
        best.x = rival.x < best.x ? rival.x : best.x;
        best.y = rival.y > best.y ? rival.y : best.y;
    }
    return make_float2(best.x + 0.0f, best.y + 0.0f);
}

#endif
