/* What the three products have in common: tiles of a block, swizzled shared memory and the pipeline
 * that keeps it filled. A block has 256 threads = 8 warps; a tile is ROWS x COLUMNS accumulators.
 */
#ifndef OCT_CONV_TILE_CUH
#define OCT_CONV_TILE_CUH

#include "ptx.cuh"

enum { OCT_THREADS = 256, OCT_WARPS = 8 };

/* Stages of shared memory in flight. Turing has 64 KB of it for two blocks, and stages through
 * registers instead. */
enum { OCT_STAGES_STAGED = 2, OCT_STAGES_ASYNC = 3 };
enum { OCT_STAGES = OCT_ASYNC_COPY ? OCT_STAGES_ASYNC : OCT_STAGES_STAGED };

static inline int oct_stages_of(int arch)
{
    return arch >= 80 ? OCT_STAGES_ASYNC : OCT_STAGES_STAGED;
}

/* WARPS_M warps share the rows, the others the columns. */
template <int ROWS_, int COLUMNS_, int WARPS_M_> struct oct_tile {
    enum {
        ROWS = ROWS_,
        COLUMNS = COLUMNS_,
        WARPS_M = WARPS_M_,
        WARPS_N = OCT_WARPS / WARPS_M_,
        WARP_ROWS = ROWS / WARPS_M,
        WARP_COLUMNS = COLUMNS / WARPS_N,
        MI = WARP_ROWS / 16,  /* m16 fragments of a warp */
        NJ = WARP_COLUMNS / 8 /* n8 fragments of a warp */
    };
    static_assert(MI >= 1 && NJ % 2 == 0, "ldmatrix.x4 feeds one m16 or two n8 fragments");
};

/* Shared-memory rows of CHUNKS x 16 bytes, the chunks of neighbouring rows exchanged such that the
 * eight 16-byte accesses of a wavefront (a row's chunks, or one chunk of eight rows) meet all
 * banks. */
template <int CHUNKS> static __device__ __forceinline__ int oct_swizzle(int row, int chunk)
{
    static_assert(CHUNKS == 2 || CHUNKS == 4 || CHUNKS == 8, "rows of 32, 64 or 128 bytes");
    return row * CHUNKS * 16 + ((chunk ^ (row / (8 / CHUNKS) & (CHUNKS - 1))) << 4);
}

/* Runs `steps` of loader and multiplier over a ring of stages at `shared`. Every call of the loader
 * brings its next step:
 *   issue(stage)            starts copies, asynchronous or at once
 *   fetch<operand>(), stash<operand>(stage)   the same through registers, operand 0 and then 1, so
 *                           that few registers are held
 * The multiplier takes a stage in two slices.
 * One barrier a step suffices: it ends the reads of the stage that is filled next, and, with the
 * wait before it, the writes of the one that is read next. */
template <int STAGE_BYTES, bool STAGED, class Loader, class Multiply>
static __device__ __forceinline__ void oct_pipeline(
    uint32_t shared, int steps, Loader &loader, const Multiply &multiply)
{
#if OCT_ASYNC_COPY
    uint32_t fill = 0;
#pragma unroll
    for (int s = 0; s < OCT_STAGES - 1; s++) {
        if (s < steps)
            loader.issue(shared + fill);
        oct_copies_commit();
        fill += STAGE_BYTES;
    }
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        oct_copies_wait<OCT_STAGES - 2>();
        __syncthreads();
        if (step + OCT_STAGES - 1 < steps)
            loader.issue(shared + fill);
        oct_copies_commit();
        /* the stage filled next is the one read now: the next barrier lies between */
        fill = fill == (OCT_STAGES - 1) * STAGE_BYTES ? 0 : fill + STAGE_BYTES;
        multiply(shared + fill, 0);
        multiply(shared + fill, 1);
    }
    oct_copies_wait<0>();
#else
    uint32_t read = shared, fill = shared + STAGE_BYTES;
    if (steps > 0)
        loader.issue(shared);
    __syncthreads();
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        const bool more = step + 1 < steps, through = STAGED && more;
        if (!STAGED && more)
            loader.issue(fill);
        if (through)
            loader.template fetch<0>();
        multiply(read, 0);
        if (through) {
            loader.template stash<0>(fill);
            loader.template fetch<1>();
        }
        multiply(read, 1);
        if (through)
            loader.template stash<1>(fill);
        __syncthreads();
        const uint32_t other = read;
        read = fill;
        fill = other;
    }
#endif
}

#endif
