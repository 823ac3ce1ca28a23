/* Per-channel reductions over NHWC tensors: channel_stats, channel_sum, count_above. A chunk of
 * OCT_REDUCE_PIXELS rows is one item; inside it a block of channels walks the rows with its sums in
 * registers, so each channel adds its pixels sequentially for any vector width. The merges add the
 * chunks in index order in double. */
#include "cpu/vec_reduce.h"

#include <float.h>

enum { WIDE = 64, NARROW = 16 };

/* What a chunk gathers. */
enum what { AMAX, SUM, ALL };

/* Workspace [chunk][word][channels]. */
enum word { W_AMAX, W_SUM, W_SUMSQ, W_MIN, W_MAX };

static void *word_of(void *workspace, int64_t chunk, enum word word, int channels)
{
    return (float *)workspace + (chunk * OCT_STATS_WORDS + word) * channels;
}

/* `width` channels from `c0` on over the rows of one chunk; x is the chunk's first row. */
V_INLINE void stats_block(const void *x, enum oct_dtype dtype, enum what what, int rows,
    int channels, int c0, int width, void *workspace, int64_t chunk)
{
    int32_t amax[WIDE];
    float sum[WIDE], sumsq[WIDE], low[WIDE], high[WIDE];
    for (int l = 0; l < width; l++) {
        amax[l] = 0;
        sum[l] = 0.0f;
        sumsq[l] = 0.0f;
        low[l] = FLT_MAX;
        high[l] = -FLT_MAX;
    }
    for (int r = 0; r < rows; r++) {
        int64_t at = (int64_t)r * channels + c0;
        for (int l = 0; l < width; l++) {
            float v = oct_load(x, dtype, at + l);
            if (what != SUM) {
                int32_t m = oct_magnitude(v);
                amax[l] = m > amax[l] ? m : amax[l];
            }
            if (what != AMAX)
                sum[l] += v;
            if (what == ALL) {
                float square = v * v;
                sumsq[l] += square;
                low[l] = v < low[l] ? v : low[l];
                high[l] = v > high[l] ? v : high[l];
            }
        }
    }
    int32_t *amax_out = (int32_t *)word_of(workspace, chunk, W_AMAX, channels) + c0;
    float *sum_out = (float *)word_of(workspace, chunk, W_SUM, channels) + c0;
    float *sumsq_out = (float *)word_of(workspace, chunk, W_SUMSQ, channels) + c0;
    float *low_out = (float *)word_of(workspace, chunk, W_MIN, channels) + c0;
    float *high_out = (float *)word_of(workspace, chunk, W_MAX, channels) + c0;
    for (int l = 0; l < width; l++) {
        if (what != SUM)
            amax_out[l] = amax[l];
        if (what != AMAX)
            sum_out[l] = sum[l];
        if (what == ALL) {
            sumsq_out[l] = sumsq[l];
            low_out[l] = low[l];
            high_out[l] = high[l];
        }
    }
}

V_INLINE void stats_rows(const void *x, enum oct_dtype dtype, enum what what, int rows,
    int channels, void *workspace, int64_t chunk)
{
    int c = 0;
    for (; c + WIDE <= channels; c += WIDE)
        stats_block(x, dtype, what, rows, channels, c, WIDE, workspace, chunk);
    for (; c + NARROW <= channels; c += NARROW)
        stats_block(x, dtype, what, rows, channels, c, NARROW, workspace, chunk);
    if (c < channels)
        stats_block(x, dtype, what, rows, channels, c, channels - c, workspace, chunk);
}

static int rows_of_chunk(int64_t rows, int64_t chunk)
{
    int64_t left = rows - chunk * OCT_REDUCE_PIXELS;
    return left < OCT_REDUCE_PIXELS ? (int)left : OCT_REDUCE_PIXELS;
}

static const void *first_of_chunk(const void *x, enum oct_dtype dtype, int64_t chunk, int channels)
{
    size_t elements = (size_t)chunk * OCT_REDUCE_PIXELS * (size_t)channels;
    return (const char *)x + elements * oct_dtype_bytes(dtype);
}

/* One channel: its maximum may be taken in any order, so the vector runs along the rows. */
V_INLINE void amax_column(
    const void *x, enum oct_dtype dtype, int rows, void *workspace, int64_t chunk)
{
    int32_t amax = 0;
    for (int r = 0; r < rows; r++) {
        int32_t m = oct_magnitude(oct_load(x, dtype, r));
        amax = m > amax ? m : amax;
    }
    *(int32_t *)word_of(workspace, chunk, W_AMAX, 1) = amax;
}

void OCT_VEC_NAME(oct_vec_stats_chunk)(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const struct oct_channel_stats_args *a = arg;
    const void *x = first_of_chunk(a->x, a->dtype, chunk, a->channels);
    int rows = rows_of_chunk(a->rows, chunk);
    int all = a->sum || a->sumsq || a->min || a->max;
    if (!all && a->channels == 1 && a->dtype == OCT_BF16)
        amax_column(x, OCT_BF16, rows, a->workspace, chunk);
    else if (!all && a->channels == 1)
        amax_column(x, OCT_F32, rows, a->workspace, chunk);
    else if (a->dtype == OCT_BF16 && all)
        stats_rows(x, OCT_BF16, ALL, rows, a->channels, a->workspace, chunk);
    else if (a->dtype == OCT_BF16)
        stats_rows(x, OCT_BF16, AMAX, rows, a->channels, a->workspace, chunk);
    else if (all)
        stats_rows(x, OCT_F32, ALL, rows, a->channels, a->workspace, chunk);
    else
        stats_rows(x, OCT_F32, AMAX, rows, a->channels, a->workspace, chunk);
}

void OCT_VEC_NAME(oct_vec_sum_chunk)(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const struct oct_channel_sum_args *a = arg;
    const void *x = first_of_chunk(a->x, OCT_F32, chunk, a->channels);
    int rows = rows_of_chunk(a->rows, chunk);
    stats_rows(x, OCT_F32, SUM, rows, a->channels, a->workspace, chunk);
}

/* The chunks' sums of one word, added in index order; total[width]. */
V_INLINE void merge_sums(
    void *workspace, enum word word, int64_t chunks, int channels, int c0, int width, double *total)
{
    for (int l = 0; l < width; l++)
        total[l] = 0.0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const float *part = (const float *)word_of(workspace, chunk, word, channels) + c0;
        for (int l = 0; l < width; l++)
            total[l] += (double)part[l];
    }
}

/* W_MIN: the smallest, W_MAX: the largest of the chunks; out[width]. */
V_INLINE void merge_extremes(
    void *workspace, enum word word, int64_t chunks, int channels, int c0, int width, float *out)
{
    float best[OCT_VEC_CHANNELS];
    for (int l = 0; l < width; l++)
        best[l] = word == W_MIN ? FLT_MAX : -FLT_MAX;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const float *part = (const float *)word_of(workspace, chunk, word, channels) + c0;
        for (int l = 0; l < width; l++) {
            int better = word == W_MIN ? part[l] < best[l] : part[l] > best[l];
            best[l] = better ? part[l] : best[l];
        }
    }
    for (int l = 0; l < width; l++)
        out[l] = best[l] + 0.0f; /* -0 and subnormals become +0 */
}

static int width_of_block(int channels, int64_t block)
{
    int left = channels - (int)block * OCT_VEC_CHANNELS;
    return left < OCT_VEC_CHANNELS ? left : OCT_VEC_CHANNELS;
}

static void merge_amax(const struct oct_channel_stats_args *a, int64_t chunks, int c0, int width)
{
    int32_t best[OCT_VEC_CHANNELS] = {0}, any = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int32_t *part =
            (const int32_t *)word_of(a->workspace, chunk, W_AMAX, a->channels) + c0;
        for (int l = 0; l < width; l++)
            best[l] = part[l] > best[l] ? part[l] : best[l];
    }
    for (int l = 0; l < width; l++) {
        any |= best[l] >= OCT_INF_BITS;
        if (a->amax)
            a->amax[c0 + l] = oct_float_of_magnitude(best[l]);
    }
    if (any)
        oct_raise(a->flag);
}

void OCT_VEC_NAME(oct_vec_stats_merge)(void *arg, int64_t block, int thread)
{
    (void)thread;
    const struct oct_channel_stats_args *a = arg;
    int64_t chunks = oct_vec_items(a->rows, OCT_REDUCE_PIXELS);
    int c0 = (int)block * OCT_VEC_CHANNELS, width = width_of_block(a->channels, block);
    merge_amax(a, chunks, c0, width);
    if (a->sum)
        merge_sums(a->workspace, W_SUM, chunks, a->channels, c0, width, a->sum + c0);
    if (a->sumsq)
        merge_sums(a->workspace, W_SUMSQ, chunks, a->channels, c0, width, a->sumsq + c0);
    if (a->min)
        merge_extremes(a->workspace, W_MIN, chunks, a->channels, c0, width, a->min + c0);
    if (a->max)
        merge_extremes(a->workspace, W_MAX, chunks, a->channels, c0, width, a->max + c0);
}

void OCT_VEC_NAME(oct_vec_sum_merge)(void *arg, int64_t block, int thread)
{
    (void)thread;
    const struct oct_channel_sum_args *a = arg;
    double total[OCT_VEC_CHANNELS];
    int64_t chunks = oct_vec_items(a->rows, OCT_REDUCE_PIXELS);
    int c0 = (int)block * OCT_VEC_CHANNELS, width = width_of_block(a->channels, block);
    merge_sums(a->workspace, W_SUM, chunks, a->channels, c0, width, total);
    for (int l = 0; l < width; l++) {
        float f = (float)total[l];
        a->sum[c0 + l] = a->mode == OCT_ACCUMULATE ? a->sum[c0 + l] + f : f;
    }
}

/* Counts of one chunk: words 0 (per channel) and 1 (all) of the workspace, as int32. */
V_INLINE void count_block(const void *x, enum oct_dtype dtype, int rows,
    const struct oct_count_above_args *a, int c0, int width, int64_t chunk)
{
    float limit[WIDE], limit_all = a->threshold_all ? a->threshold_all[0] : INFINITY;
    int32_t above[WIDE], above_all[WIDE];
    for (int l = 0; l < width; l++) {
        limit[l] = a->threshold ? a->threshold[c0 + l] : INFINITY;
        above[l] = 0;
        above_all[l] = 0;
    }
    for (int r = 0; r < rows; r++) {
        int64_t at = (int64_t)r * a->channels + c0;
        for (int l = 0; l < width; l++) {
            float v = fabsf(oct_load(x, dtype, at + l));
            above[l] += v > limit[l];
            above_all[l] += v > limit_all;
        }
    }
    int32_t *out = (int32_t *)word_of(a->workspace, chunk, 0, a->channels) + c0;
    for (int l = 0; l < width; l++) {
        out[l] = above[l];
        out[a->channels + l] = above_all[l];
    }
}

V_INLINE void count_rows(const void *x, enum oct_dtype dtype, int rows,
    const struct oct_count_above_args *a, int64_t chunk)
{
    int c = 0;
    for (; c + WIDE <= a->channels; c += WIDE)
        count_block(x, dtype, rows, a, c, WIDE, chunk);
    for (; c + NARROW <= a->channels; c += NARROW)
        count_block(x, dtype, rows, a, c, NARROW, chunk);
    if (c < a->channels)
        count_block(x, dtype, rows, a, c, a->channels - c, chunk);
}

void OCT_VEC_NAME(oct_vec_count_chunk)(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const struct oct_count_above_args *a = arg;
    const void *x = first_of_chunk(a->x, a->dtype, chunk, a->channels);
    int rows = rows_of_chunk(a->rows, chunk);
    if (a->dtype == OCT_BF16)
        count_rows(x, OCT_BF16, rows, a, chunk);
    else
        count_rows(x, OCT_F32, rows, a, chunk);
}

void OCT_VEC_NAME(oct_vec_count_merge)(void *arg, int64_t block, int thread)
{
    (void)thread;
    const struct oct_count_above_args *a = arg;
    int64_t chunks = oct_vec_items(a->rows, OCT_REDUCE_PIXELS), all = 0;
    int64_t above[OCT_VEC_CHANNELS] = {0};
    int c0 = (int)block * OCT_VEC_CHANNELS, width = width_of_block(a->channels, block);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int32_t *part = (const int32_t *)word_of(a->workspace, chunk, 0, a->channels) + c0;
        for (int l = 0; l < width; l++) {
            above[l] += part[l];
            all += part[a->channels + l];
        }
    }
    if (a->count)
        memcpy(a->count + c0, above, sizeof *above * (size_t)width);
    if (a->total)
        __atomic_fetch_add(a->total, all, __ATOMIC_RELAXED);
}
