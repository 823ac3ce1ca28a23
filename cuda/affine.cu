/* What prepares the elementwise passes of an activation without normalisation: its scalars or
 * vectors become vectors, and their gradients come from the sums over pixels. The passes themselves
 * are those of a normalisation (norm_fwd.cu, norm_bwd.cu, norm_apply.cu). */
#include "backend_check.h"
#include "elementwise.cuh"

#include "base/bn.h"

/* The argument struct with the statistics it points to: kernels take it by value. */
struct affine_job {
    oct_affine_finalize_args args;
    oct_acc_stats acc;
};

OCT_KERNEL affine_kernel(const affine_job job)
{
    const oct_affine_finalize_args &g = job.args;
    const int rounded = g.y_dtype == OCT_BF16;
    for (int c = blockIdx.x * THREADS + threadIdx.x; c < g.channels; c += gridDim.x * THREADS) {
        const float a = g.scale ? g.scale[0] : 1.0f;
        const float b = g.bias ? g.bias[g.bias_count == 1 ? 0 : c] : 0.0f;
        g.a[c] = a;
        g.b[c] = b;
        g.ix[c] = 1.0f;
        g.jx[c] = 0.0f;
        if (!g.z_amax)
            continue;
        const float m = g.x_scale[0] * g.w_scale[g.w_scale_per_k ? c : 0];
        const float low = oct_bn_y_of_acc(job.acc.min[c], m, rounded);
        const float high = oct_bn_y_of_acc(job.acc.max[c], m, rounded);
        g.z_amax[c] = oct_bn_affine_max(a, b, low, high, g.relu);
    }
}

extern "C" enum oct_status oct_cuda_affine_finalize(
    oct_backend *backend, const struct oct_affine_finalize_args *g)
{
    OCT_TRY(oct_check_affine_finalize(g));
    affine_job job = {*g, {}};
    if (g->acc)
        job.acc = *g->acc;
    const int blocks = (g->channels + THREADS - 1) / THREADS;
    affine_kernel<<<blocks, THREADS, 0, oct_cuda_of(backend)->stream>>>(job);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}

/* One block. What is added over the channels one thread adds, in their order. */
OCT_KERNEL_OF(1) affine_bwd_kernel(const oct_affine_bwd_finalize_args g)
{
    extern __shared__ double squares[];
    for (int c = threadIdx.x; c < g.channels; c += THREADS) {
        const float a = g.a[c];
        const double square = oct_affine_dy_square(g.sum_dz2[c], g.count, a);
        squares[c] = square;
        g.m1[c] = 0.0f;
        g.m2[c] = 0.0f;
        if (g.dbias && g.bias_count > 1)
            write_gradient(&g.dbias[c], g.sum_dz[c], g.mode);
        if (g.bound)
            g.bound[c] = oct_bn_dy_bound(a, 0.0f, 0.0f, g.dz_min[c], g.dz_max[c], 0.0f);
        if (g.sigma)
            g.sigma[c] = (float)sqrt(square);
    }
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    double all = 0.0, sum_dz = 0.0, sum_dz_y = 0.0;
    for (int c = 0; c < g.channels; c++) {
        all += squares[c];
        sum_dz += g.sum_dz[c];
        sum_dz_y += g.sum_dz_y[c];
    }
    if (g.dbias && g.bias_count == 1)
        write_gradient(g.dbias, sum_dz, g.mode);
    if (g.dscale)
        write_gradient(g.dscale, sum_dz_y, g.mode);
    if (g.sigma_all)
        g.sigma_all[0] = (float)sqrt(all / (double)g.channels);
}

extern "C" enum oct_status oct_cuda_affine_bwd_finalize(
    oct_backend *backend, const struct oct_affine_bwd_finalize_args *g)
{
    OCT_TRY(oct_check_affine_bwd_finalize(g));
    const size_t shared = sizeof(double) * (size_t)g->channels;
    affine_bwd_kernel<<<1, THREADS, shared, oct_cuda_of(backend)->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
