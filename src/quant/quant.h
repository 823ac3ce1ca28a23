/* From a statistic to a scale to a quantised tensor: the state of a scale, and the steps that
 * layers take with it. Everything runs on the device; no value is read back. */
#ifndef OCT_QUANT_H
#define OCT_QUANT_H

#include "base/plan.h"
#include "quant/policy.h"

/* A scale's device state. All buffers hold `count` entries and outlive the step. */
struct oct_range_state {
    int count, code_max;
    struct oct_policy policy;
    struct oct_buffer *clip, *scale, *inverse; /* f32 */
    struct oct_buffer *label, *visited;        /* u8 */
    struct oct_buffer *average;                /* f32[1], activations: clip value of evaluation */
    struct oct_buffer *average_scale, *average_inverse, *average_visited;
    struct oct_buffer *share, *distance; /* f32[1], policies that search: the last one's result */
};

/* Books the state of a scale with `count` entries. `averaged`: evaluation uses a moving average. */
void oct_range_book(struct oct_plan *plan, struct oct_range_state *range, int count,
    const struct oct_policy *policy, bool averaged, const char *name);

struct oct_range oct_range_now(const struct oct_range_state *range);

/* The range that a forward pass uses: today's in training, the moving average in evaluation. */
struct oct_range oct_range_for(const struct oct_range_state *range, bool training);

/* clip <- largest of amax[amax_count] (or entry by entry), whatever the policy's rule; an open grid
 * keeps its own. */
enum oct_status oct_range_from_amax(
    oct_backend *backend, const struct oct_range_state *range, const float *amax, int amax_count);

/* Moving average of an activation's clip value, weight 0.1 on the new one. */
enum oct_status oct_range_average(oct_backend *backend, const struct oct_range_state *range);

/* What a clip rule decides by. */
struct oct_range_evidence {
    const float *amax; /* f32[range.count], or f32[amax_count] reduced by max if count is 1 */
    int amax_count;
    const int64_t *above; /* s64[range.count]: elements with |x| > sigma */
    double population;    /* elements behind each count */
    const float *plus;    /* f32[1]: range of a summand, or NULL */
};

/* clip by the policy's rule. */
enum oct_status oct_range_adapt(oct_backend *backend, const struct oct_range_state *range,
    const struct oct_range_evidence *evidence);

/* A tensor whose clip value is to be searched, and where the learning rate's factor goes. */
struct oct_range_search {
    int64_t rows;
    int channels;
    const void *x;
    enum oct_dtype dtype;
    float *lr_factor; /* or NULL */
    void *workspace;  /* OCT_SEARCH_SUMS int64 */
};

/* The share of the evidence's amax that keeps the direction of x best, for a policy that searches:
 * 2^(-j/4), j = 0..15. */
enum oct_status oct_range_search_share(oct_backend *backend, const struct oct_range_state *range,
    const struct oct_range_search *search, const struct oct_range_evidence *evidence);

#endif
