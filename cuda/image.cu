/* Images: u8 to normalised f32 or bf16, one element of the result a thread. */
#include "backend_check.h"
#include "elementwise.cuh"

OCT_KERNEL image_kernel(const oct_image_args g)
{
    for (walk w = walk_begin<1>(g.rows, g.channels_out); walk_is_inside<1>(&w);
         walk_next<1>(&w, g.channels_out)) {
        float x[1] = {0.0f};
        if (w.channel < g.channels) {
            const uint8_t pixel = g.image[(int64_t)w.row * g.channels + w.channel];
            /* selects, since an index would put the arguments into local memory */
            const float a = w.channel < 2 ? (w.channel == 0 ? g.a[0] : g.a[1])
                                          : (w.channel == 2 ? g.a[2] : g.a[3]);
            const float b = w.channel < 2 ? (w.channel == 0 ? g.b[0] : g.b[1])
                                          : (w.channel == 2 ? g.b[2] : g.b[3]);
            x[0] = oct_affine((float)pixel, a, b);
        }
        store_floats<1>(g.x_dtype, g.x, w.i, x);
    }
}

extern "C" enum oct_status oct_cuda_image(oct_backend *backend, const struct oct_image_args *g)
{
    const struct oct_cuda *cuda = oct_cuda_of(backend);
    OCT_TRY(oct_check_image(g));
    const dim3 grid = walk_grid<1>(cuda, g->rows, g->channels_out);
    image_kernel<<<grid, THREADS, 0, cuda->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
