/* Clip values from this step's evidence, on the device: the discriminator, the clip rules and the
 * scales that follow. The host reads none of it. */
#include "backend_check.h"
#include "elementwise.cuh"

/* The clip value of one entry; false if this step has no usable statistic. */
OCT_DEVICE_INLINE bool next_clip(const oct_range_update_args &g, int i, float amax, float *clip)
{
    if (g.rule == OCT_CLIP_FIXED) {
        *clip = g.a;
        return true;
    }
    if (amax < g.floor)
        amax = g.floor;
    if (!(amax > 0.0f) || oct_not_finite(amax))
        return false;
    if (g.rule == OCT_CLIP_SHARE) {
        *clip = (g.share && g.share[0] > 0.0f ? g.share[0] : g.a) * amax;
        return true;
    }
    bool restart = g.rule == OCT_CLIP_AMAX || !g.visited[i];
    if (g.rule == OCT_CLIP_TAIL) {
        const bool bell = oct_clip_is_bell(g.above[i], g.lambda, g.population);
        restart |= bell || g.label[i] != OCT_LABEL_TAIL;
        g.label[i] = bell ? OCT_LABEL_BELL : OCT_LABEL_TAIL;
    }
    if (g.rule != OCT_CLIP_AMAX)
        g.visited[i] = 1;
    *clip = restart ? amax : oct_clip_average(*clip, amax, g.k, g.a);
    return true;
}

OCT_DEVICE_INLINE void update_entry(const oct_range_update_args &g, int i, float amax)
{
    float clip = g.range.clip[i];
    if (g.plus)
        amax = amax + g.plus[0];
    const bool usable = next_clip(g, i, amax, &clip);
    const oct_steps steps = oct_steps_of_clip(clip, g.range.code_max, g.range.pow2);
    g.range.clip[i] = clip;
    g.range.scale[i] = steps.scale;
    g.range.inverse[i] = usable ? steps.inverse : 0.0f;
}

/* One block. A single entry takes the largest of the maxima, by bits: NaN wins and shows. */
OCT_KERNEL range_kernel(const oct_range_update_args g)
{
    if (g.range.count > 1) {
        for (int i = threadIdx.x; i < g.range.count; i += THREADS)
            update_entry(g, i, g.amax ? g.amax[i] : 0.0f);
        return;
    }
    uint32_t largest = g.amax ? oct_bits_of_f32(g.amax[0]) : 0;
    for (int i = threadIdx.x; g.amax && i < g.amax_count; i += THREADS)
        largest = max(largest, oct_bits_of_f32(g.amax[i]));
    largest = block_max(largest);
    if (threadIdx.x == 0)
        update_entry(g, 0, oct_f32_of_bits(largest));
}

extern "C" enum oct_status oct_cuda_range_update(
    oct_backend *backend, const struct oct_range_update_args *g)
{
    OCT_TRY(oct_check_range_update(g));
    range_kernel<<<1, THREADS, 0, oct_cuda_of(backend)->stream>>>(*g);
    OCT_CUDA(cudaGetLastError());
    return OCT_OK;
}
