/* Weight gradient straight from NHWC bytes: dW[k][tap, c] is a product whose depth, the pixels, is
 * the slow axis of both operands, while the tensor cores want four of them in a register. ldmatrix
 * .trans brings channel pairs of two pixels to a lane and a byte permute sorts them; the pixels of
 * a slice come out in an order that is the same for both operands, so the sum is the same. Taps and
 * channels are one axis of columns: few channels waste nothing. Blocks along y take slices of the
 * pixels that int32 holds; their sums are added in int64 by a second kernel, which converts. */
#include "conv_wgrad.h"

#include "base/gpu_cut.h"
#include "conv_fold.cuh"
#include "conv_fold.h"
#include "conv_tile.cuh"

enum { STEP_PIXELS = OCT_GPU_STEP_PIXELS };

struct gradient {
    const int8_t *x, *dy;
    int images, in_h, in_w, channels; /* of x */
    int out_h, out_w, k;              /* of dy */
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, taps_w;
    int columns; /* taps x channels */
    int pixels, steps, split_steps;
    int column_tiles;
    int bytes_x, bytes_dy;         /* of a copy, in the narrow kernel */
    int pass_n, pass_h, pass_w;    /* pixels between two copies of a thread, decomposed */
    int64_t step_dy;               /* the wide kernels' step of STEP_PIXELS, in bytes of dY */
    int step_line, step_h, step_w; /* and in lines and columns of x */
    int end_h, end_w;              /* what outputs come to in x, where h and w start anew */
    int32_t *partial;              /* [split][k][pitch], or NULL: one split, convert at once */
    int64_t pitch;
    const float *x_scale, *dy_scale;
    int dy_scale_per_k;
    float *dw;
    enum oct_write mode;
};

/* A thread's part in bringing BYTES bytes of each of a step's pixels, COPY at a time. */
template <int BYTES, int COPY> struct share {
    enum {
        PIECES = BYTES / COPY,
        ROWS = OCT_THREADS / PIECES,
        PER_PASS = ROWS < STEP_PIXELS ? ROWS : STEP_PIXELS,
        COUNT = STEP_PIXELS / PER_PASS
    };

    static __device__ __forceinline__ int column()
    {
        return threadIdx.x % PIECES * COPY;
    }

    static __device__ __forceinline__ int row()
    {
        return threadIdx.x / PIECES;
    }

    static __device__ __forceinline__ bool mine()
    {
        return ROWS <= STEP_PIXELS || row() < STEP_PIXELS;
    }

    static __device__ __forceinline__ uint32_t target(int pass)
    {
        return oct_swizzle<BYTES / 16>(row() + pass * PER_PASS, column() >> 4) + (column() & 15);
    }

    static __device__ __forceinline__ void copy(
        uint32_t stage, int pass, const int8_t *from, bool valid)
    {
        if (COPY == 16)
            oct_copy_16(stage + target(pass), from, valid);
        else if (COPY == 4)
            oct_copy_4(stage + target(pass), from, valid);
        else
            oct_copy_1(stage + target(pass), from, valid);
    }
};

/* dY: pixel after pixel, one column. */
struct dy_walk {
    const int8_t *from;
    int pixel;
    bool exists;

    template <class Share>
    __device__ __forceinline__ void start(const gradient &p, int first_pixel, int first_k)
    {
        const int k = first_k + Share::column();
        pixel = first_pixel + Share::row();
        from = p.dy + (int64_t)pixel * p.k + k;
        exists = k < p.k && Share::mine();
    }

    __device__ __forceinline__ bool valid(const gradient &p) const
    {
        return exists && pixel < p.pixels;
    }

    template <class Share> __device__ __forceinline__ void next(const gradient &p)
    {
        pixel += Share::PER_PASS;
        from += (int64_t)Share::PER_PASS * p.k;
    }

    template <class Share> __device__ __forceinline__ void issue(const gradient &p, uint32_t stage)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; i++) {
            if (Share::mine())
                Share::copy(stage, i, from, valid(p));
            next<Share>(p);
        }
    }
};

/* X under one tap and channel: the input pixels that meet output pixels (n, h, w) in turn. */
struct x_walk {
    const int8_t *x; /* with the channel added */
    int tap_h, tap_w;
    int n, h, w;

    template <class Share>
    __device__ __forceinline__ void start(const gradient &p, int first_pixel, int first_column)
    {
        const int column = first_column + Share::column(), tap = column / p.channels;
        const int r = tap / p.taps_w, pixel = first_pixel + Share::row();
        const int line = pixel / p.out_w;
        x = p.x + (column - tap * p.channels);
        tap_h = r * p.dilation_h - p.pad_h;
        tap_w = (tap - r * p.taps_w) * p.dilation_w - p.pad_w;
        w = pixel - line * p.out_w;
        n = line / p.out_h;
        h = line - n * p.out_h;
        if (column >= p.columns || !Share::mine())
            tap_h = INT32_MIN / 2; /* meets nothing */
    }

    __device__ __forceinline__ bool source(const gradient &p, const int8_t **from) const
    {
        const int at_h = h * p.stride_h + tap_h, at_w = w * p.stride_w + tap_w;
        *from = x + (int64_t)((n * p.in_h + at_h) * p.in_w + at_w) * p.channels;
        return (unsigned)at_h < (unsigned)p.in_h && (unsigned)at_w < (unsigned)p.in_w &&
               n < p.images;
    }

    __device__ __forceinline__ void next(const gradient &p)
    {
        w += p.pass_w;
        h += p.pass_h;
        n += p.pass_n;
        if (w >= p.out_w) {
            w -= p.out_w;
            h++;
        }
        if (h >= p.out_h) {
            h -= p.out_h;
            n++;
        }
    }

    template <class Share> __device__ __forceinline__ void issue(const gradient &p, uint32_t stage)
    {
#pragma unroll
        for (int i = 0; i < Share::COUNT; i++) {
            const int8_t *from;
            const bool valid = source(p, &from);
            if (Share::mine())
                Share::copy(stage, i, from, valid);
            next(p);
        }
    }
};

/* Where both channel numbers are multiples of 16, a thread brings COUNT 16-byte chunks of one pixel
 * a step, half a row of shared memory apart. Rows and columns that do not exist take the last ones'
 * bytes: their sums are nobody's, and nothing has to be asked in the loop. */
template <int BYTES> struct chunks {
    enum { PER_ROW = BYTES < 64 ? BYTES / 16 : 4, COUNT = BYTES / 16 / PER_ROW };

    static __device__ __forceinline__ bool mine()
    {
        return PER_ROW == 4 || threadIdx.x < PER_ROW * STEP_PIXELS;
    }

    static __device__ __forceinline__ int row()
    {
        return threadIdx.x / PER_ROW;
    }

    /* Odd rows begin with the other half, so that eight threads meet all banks. */
    static __device__ __forceinline__ int chunk(int i)
    {
        return threadIdx.x % PER_ROW + (COUNT == 2 ? ((row() + i) & 1) * PER_ROW : 0);
    }

    static __device__ __forceinline__ int column(int i, int first, int end)
    {
        return min(first + chunk(i) * 16, end - 16);
    }

    /* Of the first chunk; the second lies in the other half of the row. */
    static __device__ __forceinline__ uint32_t target()
    {
        return oct_keep(oct_swizzle<BYTES / 16>(row(), chunk(0)));
    }
};

template <int BYTES> struct dy_chunks {
    typedef chunks<BYTES> Chunks;
    enum { COUNT = Chunks::COUNT };
    const int8_t *from[COUNT];

    __device__ __forceinline__ void start(const gradient &p, int first_pixel, int first_k)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            from[i] = p.dy + (int64_t)(first_pixel + Chunks::row()) * p.k +
                      Chunks::column(i, first_k, p.k);
    }

    /* left: pixels of the tensor from that of the thread's chunks of X on. */
    __device__ __forceinline__ bool source(
        const gradient &, int i, int left, const int8_t **at) const
    {
        *at = from[i];
        return left > (Chunks::PER_ROW == 4 ? 0 : Chunks::row() - (int)threadIdx.x / 4);
    }

    __device__ __forceinline__ void next(const gradient &p)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            from[i] += p.step_dy;
    }
};

/* The input pixel of an output pixel (n, h, w) at tap 0 without padding, moved by STEP_PIXELS
 * output pixels a step; a chunk's tap adds to it. */
template <int BYTES> struct x_chunks {
    typedef chunks<BYTES> Chunks;
    enum { COUNT = Chunks::COUNT };
    static_assert(Chunks::PER_ROW == 4, "left counts from these rows");
    const int8_t *from[COUNT]; /* of pixel 0, tap and channel added: possibly outside */
    int tap_h[COUNT], tap_w[COUNT];
    int line, h, w; /* line: n in_h */

    __device__ __forceinline__ void start(const gradient &p, int first_pixel, int first_column)
    {
        const int pixel = first_pixel + Chunks::row(), row = pixel / p.out_w, n = row / p.out_h;
        line = n * p.in_h;
        h = (row - n * p.out_h) * p.stride_h;
        w = (pixel - row * p.out_w) * p.stride_w;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int column = Chunks::column(i, first_column, p.columns),
                      tap = column / p.channels;
            const int r = tap / p.taps_w;
            tap_h[i] = r * p.dilation_h - p.pad_h;
            tap_w[i] = (tap - r * p.taps_w) * p.dilation_w - p.pad_w;
            from[i] = p.x + ((int64_t)tap_h[i] * p.in_w + tap_w[i]) * p.channels +
                      (column - tap * p.channels);
        }
    }

    __device__ __forceinline__ bool source(
        const gradient &p, int i, int left, const int8_t **at) const
    {
        *at = oct_element(from[i], (uint32_t)((line + h) * p.in_w + w), (uint32_t)p.channels);
        return (unsigned)(h + tap_h[i]) < (unsigned)p.in_h &&
               (unsigned)(w + tap_w[i]) < (unsigned)p.in_w && left > 0;
    }

    __device__ __forceinline__ void next(const gradient &p)
    {
        line += p.step_line;
        h += p.step_h;
        w += p.step_w;
        if (w >= p.end_w) {
            w -= p.end_w;
            h += p.stride_h;
        }
        if (h >= p.end_h) {
            h -= p.end_h;
            line += p.in_h;
        }
    }
};

/* Both operands in 16-byte copies. */
template <class T> struct wide_pixels {
    enum { STAGED = 1, X_AT = T::ROWS * STEP_PIXELS };
    typedef dy_chunks<T::ROWS> Dy;
    typedef x_chunks<T::COLUMNS> X;
    const gradient &p;
    Dy dy;
    X x;
    uint32_t to_dy, to_x;
    int left;
    uint4 held[(int)Dy::COUNT > (int)X::COUNT ? Dy::COUNT : X::COUNT];

    __device__ __forceinline__ wide_pixels(
        const gradient &g, int first_pixel, int first_k, int first_column)
        : p(g)
    {
        dy.start(p, first_pixel, first_k);
        x.start(p, first_pixel, first_column);
        to_dy = Dy::Chunks::target();
        to_x = T::ROWS == T::COLUMNS ? to_dy : X::Chunks::target();
        left = p.pixels - first_pixel - X::Chunks::row();
    }

    template <class Operand> __device__ __forceinline__ void copy(Operand &operand, uint32_t to)
    {
#pragma unroll
        for (int i = 0; i < Operand::COUNT; i++) {
            const int8_t *from;
            const bool valid = operand.source(p, i, left, &from);
            if (Operand::Chunks::mine())
                oct_copy_16(to ^ i * 64, from, valid);
        }
        operand.next(p);
    }

    template <class Operand> __device__ __forceinline__ void take(Operand &operand)
    {
#pragma unroll
        for (int i = 0; i < Operand::COUNT; i++) {
            const int8_t *from;
            const bool valid = operand.source(p, i, left, &from);
            held[i] = oct_load_global_16(from, valid && Operand::Chunks::mine());
        }
        operand.next(p);
    }

    template <class Operand> __device__ __forceinline__ void put(uint32_t to) const
    {
#pragma unroll
        for (int i = 0; i < Operand::COUNT; i++) {
            if (Operand::Chunks::mine())
                oct_store_shared_16(to ^ i * 64, held[i]);
        }
    }

    __device__ __forceinline__ void issue(uint32_t stage)
    {
        copy(dy, stage + to_dy);
        copy(x, stage + X_AT + to_x);
        left -= STEP_PIXELS;
    }

    template <int OPERAND> __device__ __forceinline__ void fetch()
    {
        if (OPERAND == 0) {
            take(dy);
        } else {
            take(x);
            left -= STEP_PIXELS;
        }
    }

    template <int OPERAND> __device__ __forceinline__ void stash(uint32_t stage)
    {
        if (OPERAND == 0)
            put<Dy>(stage + to_dy);
        else
            put<X>(stage + X_AT + to_x);
    }
};

/* Channels of which 16 do not divide the number: copies of 16, 4 or 1 byte, for each operand what
 * its own channels allow. */
template <class T> struct narrow_pixels {
    enum { STAGED = 0, X_AT = T::ROWS * STEP_PIXELS };
    const gradient &p;
    dy_walk dy;
    x_walk x;

    __device__ __forceinline__ narrow_pixels(
        const gradient &g, int first_pixel, int first_k, int first_column)
        : p(g)
    {
        if (p.bytes_dy == 16)
            dy.start<share<T::ROWS, 16>>(p, first_pixel, first_k);
        else if (p.bytes_dy == 4)
            dy.start<share<T::ROWS, 4>>(p, first_pixel, first_k);
        else
            dy.start<share<T::ROWS, 1>>(p, first_pixel, first_k);
        if (p.bytes_x == 16)
            x.start<share<T::COLUMNS, 16>>(p, first_pixel, first_column);
        else if (p.bytes_x == 4)
            x.start<share<T::COLUMNS, 4>>(p, first_pixel, first_column);
        else
            x.start<share<T::COLUMNS, 1>>(p, first_pixel, first_column);
    }

    __device__ __forceinline__ void issue(uint32_t stage)
    {
        if (p.bytes_dy == 16)
            dy.issue<share<T::ROWS, 16>>(p, stage);
        else if (p.bytes_dy == 4)
            dy.issue<share<T::ROWS, 4>>(p, stage);
        else
            dy.issue<share<T::ROWS, 1>>(p, stage);
        if (p.bytes_x == 16)
            x.issue<share<T::COLUMNS, 16>>(p, stage + X_AT);
        else if (p.bytes_x == 4)
            x.issue<share<T::COLUMNS, 4>>(p, stage + X_AT);
        else
            x.issue<share<T::COLUMNS, 1>>(p, stage + X_AT);
    }

    template <int OPERAND> __device__ __forceinline__ void fetch()
    {
    }

    template <int OPERAND> __device__ __forceinline__ void stash(uint32_t)
    {
    }
};

/* A slice of a stage, 32 pixels, to the accumulators. A lane gets pixels 8 i + 2 q and the next
 * of channels 2 g and 2 g + 1 in register i; selector EVEN takes channel 2 g of two registers, ODD
 * the other. Row g of an A fragment is then channel 2 g, row g + 8 channel 2 g + 1; a pair of B
 * fragments has the even and the odd columns of sixteen. */
enum { EVEN = 0x6420, ODD = 0x7531 };

template <class T> struct pixel_multiplier {
    int32_t (&acc)[T::MI][T::NJ][4];
    uint32_t a, b; /* this lane's pixel of slice 0 in its warp's first chunk */

    __device__ __forceinline__ pixel_multiplier(int32_t (&sums)[T::MI][T::NJ][4]) : acc(sums)
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        a = oct_swizzle<T::ROWS / 16>(lane, warp % T::WARPS_M * T::MI);
        b = T::ROWS * STEP_PIXELS +
            oct_swizzle<T::COLUMNS / 16>(lane, warp / T::WARPS_M * (T::NJ / 2));
    }

    __device__ __forceinline__ void operator()(uint32_t stage, int slice) const
    {
        uint32_t fa[T::MI][4], fb[T::NJ][2], t[4];
#pragma unroll
        for (int i = 0; i < T::MI; i++) {
            /* a warp's first chunk is a multiple of MI: the others differ in the low bits */
            oct_ldmatrix_x4_trans(t, stage + (a ^ i * 16) + slice * 32 * T::ROWS);
            fa[i][0] = oct_permute<EVEN>(t[0], t[1]);
            fa[i][1] = oct_permute<ODD>(t[0], t[1]);
            fa[i][2] = oct_permute<EVEN>(t[2], t[3]);
            fa[i][3] = oct_permute<ODD>(t[2], t[3]);
        }
#pragma unroll
        for (int j = 0; j < T::NJ; j += 2) {
            oct_ldmatrix_x4_trans(t, stage + (b ^ j * 8) + slice * 32 * T::COLUMNS);
            fb[j][0] = oct_permute<EVEN>(t[0], t[1]);
            fb[j][1] = oct_permute<EVEN>(t[2], t[3]);
            fb[j + 1][0] = oct_permute<ODD>(t[0], t[1]);
            fb[j + 1][1] = oct_permute<ODD>(t[2], t[3]);
        }
#pragma unroll
        for (int i = 0; i < T::MI; i++) {
#pragma unroll
            for (int j = 0; j < T::NJ; j++)
                oct_mma_s8(acc[i][j], fa[i], fb[j]);
        }
    }
};

/* Four neighbouring sums of one k to the gradient. */
template <class Sum>
static __device__ __forceinline__ void write_gradient(
    const gradient &p, int k, int column, const Sum v[4])
{
    const float multiplier = p.x_scale[0] * p.dy_scale[p.dy_scale_per_k ? k : 0];
    const bool add = p.mode == OCT_ACCUMULATE;
    float *to = p.dw + (int64_t)k * p.columns + column;
    float f[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        f[i] = oct_real_of_acc(v[i], multiplier);
    if (p.columns % 4 == 0) {
        const float4 old = add ? *(const float4 *)to : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        *(float4 *)to = add ? make_float4(old.x + f[0], old.y + f[1], old.z + f[2], old.w + f[3])
                            : make_float4(f[0], f[1], f[2], f[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (column + i < p.columns)
            to[i] = add ? to[i] + f[i] : f[i];
    }
}

template <class T>
static __device__ __forceinline__ void write_tile(
    const gradient &p, int first_k, int first_column, const int32_t (&acc)[T::MI][T::NJ][4])
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int k0 = first_k + warp % T::WARPS_M * T::WARP_ROWS + (lane >> 2) * 2;
    const int column0 = first_column + warp / T::WARPS_M * T::WARP_COLUMNS + (lane & 3) * 4;
#pragma unroll
    for (int i = 0; i < T::MI; i++) {
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            const int k = k0 + i * 16 + odd;
#pragma unroll
            for (int j = 0; j < T::NJ; j += 2) {
                const int column = column0 + j * 8;
                const int32_t v[4] = {acc[i][j][2 * odd], acc[i][j + 1][2 * odd],
                    acc[i][j][2 * odd + 1], acc[i][j + 1][2 * odd + 1]};
                if (k >= p.k || column >= p.columns)
                    continue;
                if (p.partial)
                    *(int4 *)(p.partial + (blockIdx.y * (int64_t)p.k + k) * p.pitch + column) =
                        make_int4(v[0], v[1], v[2], v[3]);
                else
                    write_gradient(p, k, column, v);
            }
        }
    }
}

template <class T, class Loader>
static __global__ void __launch_bounds__(OCT_THREADS, 2)
    gradient_kernel(const __grid_constant__ gradient p)
{
    extern __shared__ __align__(128) unsigned char shared[];
    const int k_tile = blockIdx.x / p.column_tiles;
    const int first_k = k_tile * T::ROWS;
    const int first_column = (blockIdx.x - k_tile * p.column_tiles) * T::COLUMNS;
    const int first_step = blockIdx.y * p.split_steps;
    const int left = p.steps - first_step, steps = left < p.split_steps ? left : p.split_steps;
    int32_t acc[T::MI][T::NJ][4] = {};
    const pixel_multiplier<T> multiply(acc);
    Loader loader(p, first_step * STEP_PIXELS, first_k, first_column);
    oct_pipeline<(T::ROWS + T::COLUMNS) * STEP_PIXELS, Loader::STAGED>(
        oct_shared(shared), steps, loader, multiply);
    write_tile<T>(p, first_k, first_column, acc);
}

/* The partial sums of up to four pairs of planes to the gradient. */
struct reduction {
    gradient g;
    oct_folded folded;
    int splits, pairs;
    int shift[4];
};

/* The same of a folded input: what stands for no weight is dropped. */
static __device__ __forceinline__ void write_folded(
    const reduction &r, int k, int column, const int64_t v[4])
{
    const gradient &p = r.g;
    const float multiplier = p.x_scale[0] * p.dy_scale[p.dy_scale_per_k ? k : 0];
    const int64_t row = (int64_t)k * r.folded.r * r.folded.s * r.folded.c;
    oct_unfolding place;
    place.start(r.folded, column);
#pragma unroll
    for (int i = 0; i < 4; i++, place.next(r.folded)) {
        const int at = place.index(r.folded);
        if (at < 0)
            continue;
        float *const to = p.dw + row + at;
        const float f = oct_real_of_acc(v[i], multiplier);
        *to = p.mode == OCT_ACCUMULATE ? *to + f : f;
    }
}

static __global__ void __launch_bounds__(OCT_THREADS)
    reduce_kernel(const __grid_constant__ reduction r)
{
    const int64_t stride = r.g.k * r.g.pitch;
    const int k = (int)blockIdx.x, column = ((int)blockIdx.y * OCT_THREADS + threadIdx.x) * 4;
    int64_t total[4] = {0, 0, 0, 0};
    if (column >= r.g.pitch)
        return;
    const int32_t *from = r.g.partial + k * r.g.pitch + column;
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
        for (int split = 0; pair < r.pairs && split < r.splits; split++, from += stride) {
            const int4 v = *(const int4 *)from;
            total[0] += (int64_t)v.x << r.shift[pair];
            total[1] += (int64_t)v.y << r.shift[pair];
            total[2] += (int64_t)v.z << r.shift[pair];
            total[3] += (int64_t)v.w << r.shift[pair];
        }
    }
    if (r.folded.down)
        write_folded(r, k, column, total);
    else
        write_gradient(r.g, k, column, total);
}

/* ---- host ---- */

typedef oct_tile<128, 128, 2> tile1;
typedef oct_tile<64, 128, 2> tile2;
typedef oct_tile<64, 64, 2> tile3;
typedef oct_tile<32, 64, 2> tile4;

static int ceil_div(int64_t a, int64_t b)
{
    return (int)((a + b - 1) / b);
}

static int copy_bytes(int channels)
{
    return channels % 16 == 0 ? 16 : channels % 4 == 0 ? 4 : 1;
}

typedef struct oct_gpu_gradient_cut cut_of_gradient;

static cut_of_gradient make_cut(const struct oct_cuda *cuda, const struct oct_conv_shape *v)
{
    return oct_gpu_gradient_cut(v, cuda->multiprocessors, cuda->tiles.wgrad);
}

static int pairs_of(const struct oct_conv_wgrad_args *a)
{
    return a->x.planes * a->dy.planes;
}

extern "C" size_t oct_cuda_wgrad_workspace(
    const struct oct_cuda *cuda, const struct oct_conv_wgrad_args *a)
{
    const cut_of_gradient cut = make_cut(cuda, &a->shape);
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    return oct_gpu_gradient_workspace(&a->shape, &cut, pairs_of(a)) +
           oct_gpu_fold_bytes(&fold, a->x.planes);
}

template <class T, class Loader>
static enum oct_status launch(
    const struct oct_cuda *cuda, const cut_of_gradient *cut, gradient *p, int x_copy)
{
    const int bytes = oct_stages_of(cuda->arch) * (T::ROWS + T::COLUMNS) * STEP_PIXELS;
    const int pass = OCT_THREADS * x_copy / T::COLUMNS, lines = pass / p->out_w;
    const dim3 grid((unsigned)(cut->k_tiles * cut->column_tiles), (unsigned)cut->splits);
    p->step_dy = (int64_t)STEP_PIXELS * p->k;
    p->step_w = STEP_PIXELS % p->out_w * p->stride_w;
    p->step_h = STEP_PIXELS / p->out_w % p->out_h * p->stride_h;
    p->step_line = STEP_PIXELS / p->out_w / p->out_h * p->in_h;
    p->end_w = p->out_w * p->stride_w;
    p->end_h = p->out_h * p->stride_h;
    p->pass_w = pass % p->out_w;
    p->pass_h = lines % p->out_h;
    p->pass_n = lines / p->out_h;
    gradient_kernel<T, Loader><<<grid, OCT_THREADS, bytes, cuda->stream>>>(*p);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

static enum oct_status launch_pair(
    const struct oct_cuda *cuda, const cut_of_gradient *cut, gradient *p)
{
    if (cut->narrow)
        return launch<tile3, narrow_pixels<tile3>>(cuda, cut, p, p->bytes_x);
    if (cut->tile == 1)
        return launch<tile1, wide_pixels<tile1>>(cuda, cut, p, 16);
    if (cut->tile == 2)
        return launch<tile2, wide_pixels<tile2>>(cuda, cut, p, 16);
    if (cut->tile == 3)
        return launch<tile3, wide_pixels<tile3>>(cuda, cut, p, 16);
    return launch<tile4, wide_pixels<tile4>>(cuda, cut, p, 16);
}

static gradient make_gradient(const struct oct_conv_wgrad_args *a, const cut_of_gradient *cut)
{
    const struct oct_gpu_fold fold = oct_gpu_fold_of(&a->shape);
    const struct oct_conv_shape *v = &fold.shape;
    gradient p = {};
    p.images = v->n;
    p.in_h = v->h;
    p.in_w = v->w;
    p.channels = v->c;
    p.out_h = oct_conv_p(v);
    p.out_w = oct_conv_q(v);
    p.k = v->k;
    p.stride_h = v->stride_h;
    p.stride_w = v->stride_w;
    p.pad_h = v->pad_h;
    p.pad_w = v->pad_w;
    p.dilation_h = v->dilation_h;
    p.dilation_w = v->dilation_w;
    p.taps_w = v->s;
    p.columns = v->r * v->s * v->c;
    p.pixels = p.images * p.out_h * p.out_w;
    p.steps = cut->steps;
    p.split_steps = cut->split_steps;
    p.column_tiles = cut->column_tiles;
    p.bytes_x = copy_bytes(v->c);
    p.bytes_dy = copy_bytes(v->k);
    p.pitch = cut->pitch;
    p.x_scale = a->x.scale;
    p.dy_scale = a->dy.scale;
    p.dy_scale_per_k = a->dy.scale_per_k;
    p.dw = a->dw;
    p.mode = a->mode;
    return p;
}

extern "C" enum oct_status oct_cuda_conv_wgrad(
    oct_backend *backend, const struct oct_conv_wgrad_args *a)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    const cut_of_gradient cut = make_cut(cuda, &a->shape);
    const int64_t part = a->shape.k * cut.pitch;
    const size_t partial_bytes = oct_gpu_gradient_workspace(&a->shape, &cut, pairs_of(a));
    struct oct_operand x = a->x;
    reduction r = {};
    r.g = make_gradient(a, &cut);
    r.folded = oct_folded_of(&a->shape);
    r.splits = cut.splits;
    r.pairs = pairs_of(a);
    int32_t *const partial = partial_bytes ? (int32_t *)a->workspace : NULL;
    if (r.folded.down) /* behind the partial sums, which are whole 16-byte chunks */
        OCT_TRY(oct_cuda_fold(cuda, &a->shape, &a->x, (char *)a->workspace + partial_bytes, &x));
    for (int pair = 0; pair < r.pairs; pair++) {
        const int of_x = pair / a->dy.planes, of_dy = pair % a->dy.planes;
        r.g.x = (const int8_t *)(of_x ? x.data_lo : x.data);
        r.g.dy = (const int8_t *)(of_dy ? a->dy.data_lo : a->dy.data);
        r.g.partial = partial ? partial + pair * cut.splits * part : NULL;
        r.shift[pair] = OCT_PLANE_SHIFT * (a->x.planes - 1 - of_x + a->dy.planes - 1 - of_dy);
        OCT_TRY(launch_pair(cuda, &cut, &r.g));
    }
    if (!partial)
        return OCT_OK;
    r.g.partial = partial;
    const dim3 grid((unsigned)a->shape.k, (unsigned)ceil_div(cut.pitch / 4, OCT_THREADS));
    reduce_kernel<<<grid, OCT_THREADS, 0, cuda->stream>>>(r);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
