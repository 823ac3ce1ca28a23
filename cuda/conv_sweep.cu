/* Forward and backward-data products: an implicit GEMM of output pixels x output channels over the
 * depth (tap, channel). Four ways to bring the input: whole 16-byte chunks where the channels are a
 * multiple of 16, without any tap arithmetic for 1x1 filters; else 4 bytes or 1 at a time,
 * flattened over taps and channels so that the tensor cores see no padding but the last step's. */
#include "conv_sweep.h"

#include "conv_epilogue.cuh"

struct sweep {
    const int8_t *x[2], *w[2];
    int planes_x, planes_w;
    int in_h, in_w, channels;
    int step_h, step_w, origin_h, origin_w;
    int tap_step_h, tap_step_w, taps_w, span_w; /* span_w = taps_w tap_step_w */
    int steps;
    int next_channel, next_w, next_h; /* OCT_SWEEP_STEP as (channels, columns, rows of taps) */
    int64_t pitch;                    /* of packed weights */
    int column_tiles;
    oct_epilogue e;
};

enum load_way {
    LOAD_POINT = OCT_GPU_LOAD_POINT,
    LOAD_16 = OCT_GPU_LOAD_16,
    LOAD_4 = OCT_GPU_LOAD_4,
    LOAD_1 = OCT_GPU_LOAD_1
};

/* Where an output pixel meets tap 0. A pixel that does not exist meets nothing. */
struct place {
    int64_t at; /* address, possibly outside of the tensor */
    int h, w;
};

static __device__ __forceinline__ place locate(const sweep &p, const int8_t *x, int row)
{
    place at;
    const int line = row / p.e.grid_w, image = line / p.e.grid_h;
    at.h = (line - image * p.e.grid_h) * p.step_h + p.origin_h;
    at.w = (row - line * p.e.grid_w) * p.step_w + p.origin_w;
    at.at = (int64_t)x + (((int64_t)image * p.in_h + at.h) * p.in_w + at.w) * p.channels;
    if (row >= p.e.rows)
        at.h = INT_MIN / 2;
    return at;
}

/* A thread's column of the depth: one tap and channel, moved by OCT_SWEEP_STEP a step. */
struct depth_walk {
    int channel, h, w;

    __device__ __forceinline__ void start(const sweep &p, int depth)
    {
        const int tap = depth / p.channels;
        channel = depth - tap * p.channels;
        h = tap / p.taps_w;
        w = (tap - h * p.taps_w) * p.tap_step_w;
        h *= p.tap_step_h;
    }

    /* From tap 0, channel 0: never negative. */
    __device__ __forceinline__ uint32_t offset(const sweep &p) const
    {
        return (uint32_t)((h * p.in_w + w) * p.channels + channel);
    }

    __device__ __forceinline__ bool meets(const sweep &p, const place &at) const
    {
        return (unsigned)(at.h + h) < (unsigned)p.in_h && (unsigned)(at.w + w) < (unsigned)p.in_w;
    }

    __device__ __forceinline__ void next(const sweep &p)
    {
        channel += p.next_channel;
        w += p.next_w;
        h += p.next_h;
        if (channel >= p.channels) {
            channel -= p.channels;
            w += p.tap_step_w;
        }
        if (w >= p.span_w) {
            w -= p.span_w;
            h += p.tap_step_h;
        }
    }
};

/* Rows of the weights: packed, so that a step is 64 bytes further along. Columns that do not exist
 * take the last one's weights: their sums are nobody's, and nothing has to be asked in the loop. */
template <class T> struct weight_rows {
    enum { PER_PASS = OCT_THREADS / 4, COUNT = (T::COLUMNS + PER_PASS - 1) / PER_PASS };
    static_assert(COUNT <= 2, "one or two rows a thread");
    const int8_t *from;
    uint32_t beyond; /* bytes from the first row to the second */
    uint32_t to;

    __device__ __forceinline__ void start(const sweep &p, const int8_t *w, int first_column)
    {
        const int row = threadIdx.x >> 2, chunk = threadIdx.x & 3;
        to = oct_keep(oct_swizzle<4>(row, chunk));
        const int last = p.e.columns - 1, column = min(first_column + row, last);
        from = w + column * p.pitch + chunk * 16;
        beyond = (uint32_t)((min(first_column + row + PER_PASS, last) - column) * p.pitch);
    }

    __device__ __forceinline__ const int8_t *source(int i) const
    {
        return i ? from + beyond : from;
    }

    /* Whether the thread has a row: all have where the columns fill a pass. */
    __device__ __forceinline__ bool mine() const
    {
        return T::COLUMNS >= PER_PASS || threadIdx.x < 4 * T::COLUMNS;
    }

    __device__ __forceinline__ uint32_t target(uint32_t stage, int i) const
    {
        return stage + to + (T::ROWS + i * PER_PASS) * OCT_SWEEP_STEP;
    }

    __device__ __forceinline__ void next()
    {
        from += OCT_SWEEP_STEP;
    }

    __device__ __forceinline__ void issue(uint32_t stage)
    {
        if (mine()) {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                oct_copy_16(target(stage, i), source(i), true);
        }
        next();
    }
};

/* Input in 16-byte chunks: a thread has one chunk of every 64th row. */
template <class T, load_way LOAD> struct chunk_depth {
    enum { STAGED = 1, PER_PASS = OCT_THREADS / 4, COUNT = T::ROWS / PER_PASS, TABLE = 0 };
    const sweep &p;
    place row[COUNT];
    depth_walk walk;
    weight_rows<T> weights;
    uint4 held[COUNT > (int)weight_rows<T>::COUNT ? (int)COUNT : (int)weight_rows<T>::COUNT];

    __device__ __forceinline__ chunk_depth(const sweep &sweep_of, void *) : p(sweep_of)
    {
    }

    __device__ __forceinline__ void start(
        const int8_t *x, const int8_t *w, int first_row, int first_column)
    {
        const int at = threadIdx.x >> 2, chunk = threadIdx.x & 3;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            row[i] = locate(p, x, first_row + at + i * PER_PASS);
        walk.start(p, chunk * 16);
        if (LOAD == LOAD_POINT)
            walk.channel = chunk * 16;
        weights.start(p, w, first_column);
    }

    /* The chunk of the weights with the same number lies in the same place of its rows. */
    __device__ __forceinline__ uint32_t target(uint32_t stage, int i) const
    {
        return stage + weights.to + i * PER_PASS * OCT_SWEEP_STEP;
    }

    __device__ __forceinline__ bool source(int i, const int8_t **from) const
    {
        if (LOAD == LOAD_POINT) {
            *from = (const int8_t *)(row[i].at + (uint32_t)walk.channel);
            return row[i].h >= 0 && walk.channel < p.channels;
        }
        *from = (const int8_t *)(row[i].at + walk.offset(p));
        return walk.meets(p, row[i]);
    }

    __device__ __forceinline__ void next()
    {
        if (LOAD == LOAD_POINT)
            walk.channel += OCT_SWEEP_STEP;
        else
            walk.next(p);
    }

    __device__ __forceinline__ void issue(uint32_t stage)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int8_t *from;
            const bool valid = source(i, &from);
            oct_copy_16(target(stage, i), from, valid);
        }
        next();
        weights.issue(stage);
    }

    template <int OPERAND> __device__ __forceinline__ void fetch()
    {
        if (OPERAND == 0) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                const int8_t *from;
                const bool valid = source(i, &from);
                held[i] = oct_load_global_16(from, valid);
            }
            next();
        } else {
#pragma unroll
            for (int i = 0; i < weights.COUNT; i++)
                held[i] = oct_load_global_16(weights.source(i), weights.mine());
            weights.next();
        }
    }

    template <int OPERAND> __device__ __forceinline__ void stash(uint32_t stage)
    {
        if (OPERAND == 0) {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                oct_store_shared_16(target(stage, i), held[i]);
        } else if (weights.mine()) {
#pragma unroll
            for (int i = 0; i < weights.COUNT; i++)
                oct_store_shared_16(weights.target(stage, i), held[i]);
        }
    }
};

/* Input in pieces of LOAD bytes: a thread has one column of the depth in many rows, whose places
 * lie in shared memory. */
template <class T, load_way LOAD> struct narrow_depth {
    enum {
        STAGED = 0,
        PIECES = OCT_SWEEP_STEP / LOAD,
        PER_PASS = OCT_THREADS / PIECES,
        TABLE = T::ROWS * (int)sizeof(place)
    };
    const sweep &p;
    place *table;
    depth_walk walk;
    weight_rows<T> weights;

    __device__ __forceinline__ narrow_depth(const sweep &sweep_of, void *places)
        : p(sweep_of), table((place *)places)
    {
    }

    __device__ __forceinline__ void start(
        const int8_t *x, const int8_t *w, int first_row, int first_column)
    {
        if (threadIdx.x < T::ROWS)
            table[threadIdx.x] = locate(p, x, first_row + threadIdx.x);
        __syncthreads();
        walk.start(p, threadIdx.x % PIECES * LOAD);
        weights.start(p, w, first_column);
    }

    __device__ __forceinline__ void issue(uint32_t stage)
    {
        const int column = threadIdx.x % PIECES * LOAD;
        const uint32_t offset = walk.offset(p);
#pragma unroll 8
        for (int r = threadIdx.x / PIECES; r < T::ROWS; r += PER_PASS) {
            const place at = table[r];
            const uint32_t to = stage + oct_swizzle<4>(r, column >> 4) + (column & 15);
            const int8_t *from = (const int8_t *)(at.at + offset);
            if (LOAD == LOAD_4)
                oct_copy_4(to, from, walk.meets(p, at));
            else
                oct_copy_1(to, from, walk.meets(p, at));
        }
        walk.next(p);
        weights.issue(stage);
    }

    template <int OPERAND> __device__ __forceinline__ void fetch()
    {
    }

    template <int OPERAND> __device__ __forceinline__ void stash(uint32_t)
    {
    }
};

template <class T, load_way LOAD> struct loader_of {
    typedef narrow_depth<T, LOAD> type;
};
template <class T> struct loader_of<T, LOAD_16> {
    typedef chunk_depth<T, LOAD_16> type;
};
template <class T> struct loader_of<T, LOAD_POINT> {
    typedef chunk_depth<T, LOAD_POINT> type;
};

/* A slice of a stage, 32 bytes of depth, to the accumulators. */
template <class T> struct depth_multiplier {
    int32_t (&acc)[T::MI][T::NJ][4];
    uint32_t a, b; /* this lane's rows in a stage */

    __device__ __forceinline__ depth_multiplier(int32_t (&sums)[T::MI][T::NJ][4]) : acc(sums)
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int row = warp % T::WARPS_M * T::WARP_ROWS + (lane & 15);
        const int column = warp / T::WARPS_M * T::WARP_COLUMNS + (lane & 7) + (lane >> 4) * 8;
        a = oct_swizzle<4>(row, lane >> 4);
        b = T::ROWS * OCT_SWEEP_STEP + oct_swizzle<4>(column, lane >> 3 & 1);
    }

    __device__ __forceinline__ void operator()(uint32_t stage, int slice) const
    {
        /* a slice is chunks 2 slice, 2 slice + 1: bit 5 of a swizzled address */
        const uint32_t from_a = stage + (a ^ slice * 32), from_b = stage + (b ^ slice * 32);
        uint32_t fa[T::MI][4], fb[T::NJ / 2][4];
#pragma unroll
        for (int i = 0; i < T::MI; i++)
            oct_ldmatrix_x4(fa[i], from_a + i * 16 * OCT_SWEEP_STEP);
#pragma unroll
        for (int j = 0; j < T::NJ / 2; j++)
            oct_ldmatrix_x4(fb[j], from_b + j * 16 * OCT_SWEEP_STEP);
#pragma unroll
        for (int i = 0; i < T::MI; i++) {
#pragma unroll
            for (int j = 0; j < T::NJ; j++)
                oct_mma_s8(acc[i][j], fa[i], fb[j / 2] + j % 2 * 2);
        }
    }
};

template <class T, class Sum>
static __device__ __forceinline__ void add_shifted(
    Sum (&total)[T::MI][T::NJ][4], int32_t (&acc)[T::MI][T::NJ][4], int shift)
{
#pragma unroll
    for (int i = 0; i < T::MI; i++) {
#pragma unroll
        for (int j = 0; j < T::NJ; j++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                total[i][j][n] += (Sum)acc[i][j][n] << shift;
                acc[i][j][n] = 0;
            }
        }
    }
}

template <class T> struct sweep_bytes {
    enum { STAGE = (T::ROWS + T::COLUMNS) * OCT_SWEEP_STEP };
};

/* Blocks on a multiprocessor that the registers leave room for. Left alone the compiler gives a
 * small tile a few more than four blocks have, for the epilogue alone; on sm_75 they are needed. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
enum { SMALL_TILE_BLOCKS = 4 };
#else
enum { SMALL_TILE_BLOCKS = 2 };
#endif
template <class T> struct sweep_blocks {
    enum { LEAST = T::ROWS == 64 || T::COLUMNS == 16 ? SMALL_TILE_BLOCKS : 2 };
};

/* Sum is int32 for one plane of each operand, int64 where planes have to be combined. */
template <class T, load_way LOAD, class Sum>
static __global__ void __launch_bounds__(OCT_THREADS, sweep_blocks<T>::LEAST)
    sweep_kernel(const __grid_constant__ sweep p)
{
    extern __shared__ __align__(128) unsigned char shared[];
    typedef typename loader_of<T, LOAD>::type Loader;
    enum { STAGE = sweep_bytes<T>::STAGE };
    const int row_tile = blockIdx.x / p.column_tiles;
    const int first_row = row_tile * T::ROWS;
    const int first_column = (blockIdx.x - row_tile * p.column_tiles) * T::COLUMNS;
    int32_t acc[T::MI][T::NJ][4] = {};
    const depth_multiplier<T> multiply(acc);
    Loader loader(p, shared + OCT_STAGES * STAGE);

    if (sizeof(Sum) == 4) {
        loader.start(p.x[0], p.w[0], first_row, first_column);
        oct_pipeline<STAGE, Loader::STAGED>(oct_shared(shared), p.steps, loader, multiply);
        oct_finish_tile<T, int32_t>(p.e, first_row, first_column, acc, shared);
    } else {
        Sum total[T::MI][T::NJ][4] = {};
#pragma unroll 1
        for (int pair = 0; pair < p.planes_x * p.planes_w; pair++) {
            const int of_x = pair / p.planes_w, of_w = pair - of_x * p.planes_w;
            loader.start(of_x ? p.x[1] : p.x[0], of_w ? p.w[1] : p.w[0], first_row, first_column);
            oct_pipeline<STAGE, Loader::STAGED>(oct_shared(shared), p.steps, loader, multiply);
            add_shifted<T, Sum>(
                total, acc, OCT_PLANE_SHIFT * (p.planes_x - 1 - of_x + p.planes_w - 1 - of_w));
            __syncthreads();
        }
        oct_finish_tile<T, Sum>(p.e, first_row, first_column, total, shared);
    }
}

/* ---- host ---- */

static int larger(int a, int b)
{
    return a > b ? a : b;
}

template <class T, load_way LOAD, class Sum>
static enum oct_status launch(const struct oct_cuda *cuda, sweep *p)
{
    const int stages = oct_stages_of(cuda->arch) * sweep_bytes<T>::STAGE;
    const int staging = stages + loader_of<T, LOAD>::type::TABLE;
    const int stats = 4 * OCT_THREADS * (int)sizeof(int64_t);
    const int bytes = larger(larger(staging, oct_piece<T, Sum>::BYTES), stats);
    const int64_t row_tiles = ((int64_t)p->e.rows + T::ROWS - 1) / T::ROWS;
    p->column_tiles = (p->e.columns + T::COLUMNS - 1) / T::COLUMNS;
    sweep_kernel<T, LOAD, Sum>
        <<<(unsigned)(row_tiles * p->column_tiles), OCT_THREADS, bytes, cuda->stream>>>(*p);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

typedef enum oct_status launcher(const struct oct_cuda *, sweep *);
typedef oct_tile<128, 128, 2> tile1;
typedef oct_tile<128, 64, 4> tile2;
typedef oct_tile<64, 64, 2> tile3;
typedef oct_tile<128, 32, 8> tile4;
typedef oct_tile<128, 16, 8> tile5;

/* By load and tile; the cut names no other. */
static launcher *const point[OCT_GPU_SWEEP_TILES] = {launch<tile1, LOAD_POINT, int32_t>,
    launch<tile2, LOAD_POINT, int32_t>, launch<tile3, LOAD_POINT, int32_t>,
    launch<tile4, LOAD_POINT, int32_t>, launch<tile5, LOAD_POINT, int32_t>};
static launcher *const chunk[OCT_GPU_SWEEP_TILES] = {launch<tile1, LOAD_16, int32_t>,
    launch<tile2, LOAD_16, int32_t>, launch<tile3, LOAD_16, int32_t>,
    launch<tile4, LOAD_16, int32_t>, launch<tile5, LOAD_16, int32_t>};

static launcher *choose_launcher(const struct oct_gpu_sweep_cut *cut, int two_planes)
{
    if (two_planes)
        return cut->load == OCT_GPU_LOAD_16 ? launch<tile4, LOAD_16, int64_t>
                                            : launch<tile4, LOAD_1, int64_t>;
    if (cut->load == OCT_GPU_LOAD_POINT)
        return point[cut->tile - 1];
    if (cut->load == OCT_GPU_LOAD_16)
        return chunk[cut->tile - 1];
    if (cut->load == OCT_GPU_LOAD_4)
        return cut->tile == 2 ? launch<tile2, LOAD_4, int32_t> : launch<tile4, LOAD_4, int32_t>;
    return cut->tile == 2 ? launch<tile2, LOAD_1, int32_t> : launch<tile4, LOAD_1, int32_t>;
}

/* OCT_SWEEP_STEP bytes of depth as taps and channels. */
static void split_step(const struct oct_gpu_sweep *s, sweep *p)
{
    const int taps_w = larger(s->w.taps, 1), taps = OCT_SWEEP_STEP / s->channels;
    p->next_channel = OCT_SWEEP_STEP % s->channels;
    p->next_w = taps % taps_w * s->w.tap_step;
    p->next_h = taps / taps_w * s->h.tap_step;
}

static oct_epilogue make_epilogue(
    const struct oct_gpu_sweep *s, const struct oct_cuda_sweep_args *a)
{
    oct_epilogue e = {};
    e.out = a->out;
    e.x_scale = a->x->scale;
    e.w_scale = a->w->scale;
    e.w_scale_per_k = a->w->scale_per_k;
    e.bias = a->bias;
    if (a->stats)
        e.stats = *a->stats;
    e.dtype = a->dtype;
    e.mode = a->mode;
    e.merged = a->merged;
    e.shift = a->shift;
    e.lowest = a->relu ? 0 : -OCT_CODE_MAX;
    e.rows = s->images * s->h.out * s->w.out;
    e.columns = s->columns;
    e.grid_h = s->h.out;
    e.grid_w = s->w.out;
    e.every = s->h.out_step == 1 && s->w.out_step == 1;
    e.first_h = s->h.out_first;
    e.first_w = s->w.out_first;
    e.step_h = s->h.out_step;
    e.step_w = s->w.out_step;
    e.out_h = s->out_h;
    e.out_w = s->out_w;
    return e;
}

static enum oct_status run_one(
    const struct oct_cuda *cuda, const struct oct_gpu_sweep *s, const struct oct_cuda_sweep_args *a)
{
    sweep p = {};
    for (int plane = 0; plane < 2; plane++) {
        p.x[plane] = (const int8_t *)(plane ? a->x->data_lo : a->x->data);
        p.w[plane] = (const int8_t *)(plane ? a->w->data_lo : a->w->data);
        if (p.w[plane])
            p.w[plane] += s->packed;
    }
    p.planes_x = a->x->planes;
    p.planes_w = a->w->planes;
    p.in_h = s->h.in;
    p.in_w = s->w.in;
    p.channels = s->channels;
    p.step_h = s->h.step;
    p.step_w = s->w.step;
    p.origin_h = s->h.origin;
    p.origin_w = s->w.origin;
    p.tap_step_h = s->h.tap_step;
    p.tap_step_w = s->w.tap_step;
    p.taps_w = larger(s->w.taps, 1);
    p.span_w = p.taps_w * s->w.tap_step;
    p.pitch = oct_gpu_sweep_pitch(s);
    p.steps = (int)(p.pitch / OCT_SWEEP_STEP);
    split_step(s, &p);
    p.e = make_epilogue(s, a);
    const int two_planes = a->x->planes * a->w->planes > 1;
    const struct oct_gpu_sweep_cut cut =
        oct_gpu_sweep_cut(s, two_planes, cuda->multiprocessors, a->tile);
    return choose_launcher(&cut, two_planes)(cuda, &p);
}

enum oct_status oct_cuda_sweep_run(struct oct_cuda *cuda, const struct oct_cuda_sweep_args *a)
{
    for (int i = 0; i < oct_gpu_sweep_count(a->shape, a->dgrad); i++) {
        struct oct_gpu_sweep s;
        oct_gpu_sweep_make(a->shape, a->dgrad, i, &s);
        OCT_TRY(run_one(cuda, &s, a));
    }
    return OCT_OK;
}
