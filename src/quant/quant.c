#include "quant/quant.h"

#include <math.h>

/* Weight of the newest clip value in the moving average that evaluation uses (algorithms.md 2.6:
 * EMA 0.9). */
static const float average_weight = 0.1f;

void oct_range_book(struct oct_plan *plan, struct oct_range_state *range, int count,
    const struct oct_policy *policy, bool averaged, const char *name)
{
    size_t n = (size_t)count;
    range->count = count;
    range->code_max = oct_format_code_max(policy->format);
    range->policy = *policy;
    range->clip = oct_plan_book(plan, 4 * n, OCT_PERSISTENT, 0, "%s.clip", name);
    range->scale = oct_plan_book(plan, 4 * n, OCT_PERSISTENT, 0, "%s.scale", name);
    range->inverse = oct_plan_book(plan, 4 * n, OCT_PERSISTENT, 0, "%s.inverse", name);
    range->label = oct_plan_book(plan, n, OCT_PERSISTENT, 0, "%s.label", name);
    range->visited = oct_plan_book(plan, n, OCT_PERSISTENT, 0, "%s.visited", name);
    if (policy->search_period > 0) {
        range->share = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "%s.share", name);
        range->distance = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "%s.distance", name);
    }
    if (!averaged)
        return;
    range->average = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "%s.average", name);
    range->average_scale = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "%s.average_scale", name);
    range->average_inverse = oct_plan_book(plan, 4, OCT_PERSISTENT, 0, "%s.average_inverse", name);
    range->average_visited = oct_plan_book(plan, 1, OCT_PERSISTENT, 0, "%s.average_visited", name);
}

struct oct_range oct_range_now(const struct oct_range_state *range)
{
    struct oct_range out = {.clip = oct_buffer_data(range->clip),
        .scale = oct_buffer_data(range->scale),
        .inverse = oct_buffer_data(range->inverse),
        .count = range->count,
        .code_max = range->code_max,
        .grid = range->policy.grid,
        .pow2 = range->policy.pow2};
    return out;
}

struct oct_range oct_range_for(const struct oct_range_state *range, bool training)
{
    struct oct_range out = oct_range_now(range);
    if (!training && range->average) {
        out.clip = oct_buffer_data(range->average);
        out.scale = oct_buffer_data(range->average_scale);
        out.inverse = oct_buffer_data(range->average_inverse);
    }
    return out;
}

enum oct_status oct_range_from_amax(
    oct_backend *backend, const struct oct_range_state *range, const float *amax, int amax_count)
{
    const bool open = range->policy.grid == OCT_GRID_OPEN; /* nothing to clip at, but a unit */
    struct oct_range_update_args args = {.range = oct_range_now(range),
        .rule = open ? OCT_CLIP_FIXED : OCT_CLIP_AMAX,
        .a = range->policy.a,
        .amax = amax,
        .amax_count = amax_count};
    return backend->range_update(backend, &args);
}

enum oct_status oct_range_average(oct_backend *backend, const struct oct_range_state *range)
{
    struct oct_range_update_args args = {.range = oct_range_for(range, false),
        .rule = OCT_CLIP_EMA,
        .k = 1.0f,
        .a = average_weight,
        .amax = oct_buffer_data(range->clip),
        .amax_count = 1,
        .visited = oct_buffer_data(range->average_visited)};
    return backend->range_update(backend, &args);
}

enum oct_status oct_range_adapt(oct_backend *backend, const struct oct_range_state *range,
    const struct oct_range_evidence *evidence)
{
    const struct oct_policy *policy = &range->policy;
    struct oct_range_update_args args = {.range = oct_range_now(range),
        .rule = policy->clip,
        .k = policy->k,
        .a = policy->a,
        .lambda = policy->lambda,
        .amax = evidence->amax,
        .amax_count = evidence->amax_count,
        .above = evidence->above,
        .population = evidence->population,
        .plus = evidence->plus,
        .floor = policy->floor,
        .share = oct_buffer_data(range->share),
        .label = oct_buffer_data(range->label),
        .visited = oct_buffer_data(range->visited)};
    return backend->range_update(backend, &args);
}

enum oct_status oct_range_search_share(oct_backend *backend, const struct oct_range_state *range,
    const struct oct_range_search *search, const struct oct_range_evidence *evidence)
{
    static const float quarters[] = {1.0f, 0.840896415f, 0.707106781f, 0.594603558f};
    struct oct_cosine_search_args args = {.rows = search->rows,
        .channels = search->channels,
        .x = search->x,
        .dtype = search->dtype,
        .amax = evidence->amax,
        .amax_count = evidence->amax_count,
        .code_max = range->code_max,
        .candidates = OCT_SEARCH_CANDIDATES,
        .alpha = range->policy.alpha,
        .beta = range->policy.beta,
        .share = oct_buffer_data(range->share),
        .distance = oct_buffer_data(range->distance),
        .lr_factor = search->lr_factor,
        .sums = search->workspace};
    for (int j = 0; j < OCT_SEARCH_CANDIDATES; j++)
        args.factor[j] = ldexpf(quarters[j % 4], -(j / 4));
    return backend->cosine_search(backend, &args);
}
