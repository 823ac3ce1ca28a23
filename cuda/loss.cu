/* Softmax cross-entropy, one block a sample. Its two sums run over the classes in their order, in
 * double: one thread each, out of shared memory, while everything else is spread over the block. */
#include "backend_check.h"
#include "elementwise.cuh"

enum { LOSS_THREADS = 128, LOSS_TILE = 512, SUM_THREAD_D = WARP };

/* What the threads of a block share. */
struct loss_shared {
    float e[LOSS_TILE], d[LOSS_TILE];
    float max[LOSS_THREADS];
    int not_below[LOSS_THREADS];
    double sum_e, sum_d;
};

/* The largest logit, as a scan from the first on finds it: NaN only if the first is. */
OCT_DEVICE_INLINE void find_max(loss_shared *shared, const float *x, int k, float label)
{
    float max = -INFINITY;
    int not_below = 0;
    for (int j = threadIdx.x; j < k; j += LOSS_THREADS) {
        max = x[j] > max ? x[j] : max;
        not_below += !(x[j] < label);
    }
    shared->max[threadIdx.x] = max;
    shared->not_below[threadIdx.x] = not_below;
    __syncthreads();
    for (int half = LOSS_THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const float rival = shared->max[threadIdx.x + half];
            shared->max[threadIdx.x] =
                rival > shared->max[threadIdx.x] ? rival : shared->max[threadIdx.x];
            shared->not_below[threadIdx.x] += shared->not_below[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0 && x[0] != x[0])
        shared->max[0] = x[0];
    __syncthreads();
}

OCT_DEVICE_INLINE void add_exponentials(loss_shared *shared, const float *x, int k)
{
    const float max = shared->max[0];
    double sum = 0.0;
    for (int j0 = 0; j0 < k; j0 += LOSS_TILE) {
        const int n = k - j0 < LOSS_TILE ? k - j0 : (int)LOSS_TILE;
        for (int j = threadIdx.x; j < n; j += LOSS_THREADS) {
            shared->d[j] = x[j0 + j] - max;
            shared->e[j] = oct_expf_nonpositive(shared->d[j]);
        }
        __syncthreads();
        if (threadIdx.x == 0 || threadIdx.x == SUM_THREAD_D) {
            const float *terms = threadIdx.x == 0 ? shared->e : shared->d;
            for (int j = 0; j < n; j++)
                sum += (double)terms[j];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0)
        shared->sum_e = sum;
    if (threadIdx.x == SUM_THREAD_D)
        shared->sum_d = sum;
    __syncthreads();
}

static __global__ void __launch_bounds__(LOSS_THREADS) loss_kernel(const oct_loss_args g)
{
    __shared__ loss_shared shared;
    const int64_t sample = blockIdx.x;
    const float *x = g.logits + sample * g.k;
    const int label = g.labels[sample];

    find_max(&shared, x, g.k, x[label]);
    add_exponentials(&shared, x, g.k);
    const float max = shared.max[0], sum = (float)shared.sum_e;
    if (threadIdx.x == 0) {
        const float mean_d = (float)(shared.sum_d / g.k);
        const float value =
            oct_loss_of(oct_logf_from_one(sum), x[label] - max, mean_d, g.smoothing);
        const int rivals = shared.not_below[0] - 1; /* the label itself is not below itself */
        g.loss[sample] = value;
        g.top1[sample] = rivals < 1;
        g.top5[sample] = rivals < (g.k < 5 ? g.k : 5);
        if (g.flag && oct_not_finite(value))
            atomicOr(g.flag, 1u);
    }
    for (int j = threadIdx.x; g.dlogits && j < g.k; j += LOSS_THREADS) {
        const float e = oct_expf_nonpositive(x[j] - max);
        const float target = oct_loss_target(j == label, g.smoothing, g.k);
        g.dlogits[sample * g.k + j] = oct_loss_gradient(e, sum, target, g.grad_scale);
    }
}

extern "C" enum oct_status oct_cuda_loss(oct_backend *backend, const struct oct_loss_args *g)
{
    OCT_TRY(oct_check_loss(g));
    loss_kernel<<<(unsigned)g->n, LOSS_THREADS, 0, oct_cuda_of(backend)->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
