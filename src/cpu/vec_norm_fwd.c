/* z = relu?(affine(y) (+ residual)) and its outputs, element by element. See vec_norm.h. */
#include "cpu/vec_norm.h"

/* What the compiler must know to make one straight loop; `residual` and `x` are a dtype or NONE.
 * `full`: channels may be clipped, xhat rounded and y counted. */
enum { NONE = -1 };
struct act_kind {
    int y, residual, x, full;
};

struct act_sums {
    vf amax;
    vm not_finite;
    vi saturated, clipped, y_above;
};

/* One vector clipped to its channels' ranges. Lanes beyond n are 0 and must not be counted. */
V_INLINE vf act_clip(
    const struct oct_act_fwd_args *g, int64_t channel, int n, vf u, struct act_sums *sums)
{
    const vf lo = vf_load_f32(g->clip_lo + channel, 16), hi = vf_load_f32(g->clip_hi + channel, 16);
    const vm live = vm_first(n);
    sums->not_finite = vm_or(sums->not_finite, vf_not_finite(vf_keep(live, u)));
    vm above = vf_gt(u, hi), below = vf_gt(lo, u);
    vm moved = vm_or(above, vm_and(below, vm_not(vf_eq(lo, vf_set(0.0f)))));
    sums->clipped = vi_count(sums->clipped, vm_and(moved, live));
    return vf_min(vf_max(u, lo), hi);
}

/* Whether lo < u < hi. */
V_INLINE vm act_inside(const struct oct_act_fwd_args *g, int64_t i, int64_t channel, int n)
{
    const vf lo = vf_load_f32(g->clip_lo + channel, 16), hi = vf_load_f32(g->clip_hi + channel, 16);
    vf u = vf_load(g->y_dtype, g->y, i, n);
    u = vf_affine(u, vf_load_f32(g->a + channel, 16), vf_load_f32(g->b + channel, 16));
    return vm_and(vf_gt(u, lo), vf_gt(hi, u));
}

V_INLINE vf act_value(const struct oct_act_fwd_args *g, struct act_kind kind, int64_t i,
    int64_t channel, int n, struct act_sums *sums)
{
    vf v = vf_load((enum oct_dtype)kind.y, g->y, i, n);
    if (kind.full && g->y_above)
        sums->y_above = vi_count(sums->y_above, vf_gt(vf_abs(v), vf_set(g->y_limit)));
    if (kind.full && g->xhat_steps > 0.0f) {
        v = vf_affine(v, vf_load_f32(g->ix + channel, 16), vf_load_f32(g->jx + channel, 16));
        v = vf_on_grid(v, g->xhat_steps);
    }
    if (g->a)
        v = vf_affine(v, vf_load_f32(g->a + channel, 16), vf_load_f32(g->b + channel, 16));
    if (kind.full && g->clip_lo)
        v = act_clip(g, channel, n, v, sums);
    if (kind.residual == NONE)
        return v;
    vf r = vf_load((enum oct_dtype)kind.residual, g->residual, i, n);
    if (kind.residual == OCT_S8)
        r = vf_mul(r, vf_set(g->residual_scale[0]));
    return vf_add(v, r);
}

V_INLINE void act_codes(
    const struct oct_act_fwd_args *g, int64_t i, int n, const vf z[4], struct act_sums *sums)
{
    vf inverse = vf_set(g->x_range.inverse[0]), bound = vf_set((float)OCT_CODE_MAX);
    vf v[4];
    vi q[4];
    for (int k = 0; k < 4; k++)
        v[k] = vf_mul(z[k], inverse);
    if (g->saturated)
        for (int k = 0; k < 4; k++)
            sums->saturated = vi_count(sums->saturated, vf_gt(vf_abs(v[k]), bound));
    if (g->x_range.grid != OCT_GRID_UNIFORM)
        vi_grid_codes(g->x_range.grid, v, OCT_CODE_MAX, q);
    else
        for (int k = 0; k < 4; k++)
            q[k] = vi_codes(v[k], bound);
    vi_store_s8((int8_t *)g->x + i, n, q);
}

/* n elements at i, the first of which has this channel. */
V_INLINE void act_unit(const struct oct_act_fwd_args *g, struct act_kind kind, int64_t i,
    int64_t channel, int n, struct act_sums *sums)
{
    vf z[4];
    for (int k = 0; k < 4; k++) {
        int m = v_lanes_of(n, k);
        z[k] = act_value(g, kind, i + 16 * k, channel + 16 * k, m, sums);
        if (m < 16)
            z[k] = vf_keep(vm_first(m), z[k]);
        sums->not_finite = vm_or(sums->not_finite, vf_not_finite(z[k]));
        if (g->relu)
            z[k] = vf_max(z[k], vf_set(0.0f));
    }
    if (g->mask)
        for (int k = 0; k < 4; k++)
            vm_store_bits(g->mask, i + 16 * k, v_lanes_of(n, k), vf_gt(z[k], vf_set(0.0f)));
    if (kind.full && g->inside)
        for (int k = 0; k < 4; k++) {
            int m = v_lanes_of(n, k);
            vm inside = act_inside(g, i + 16 * k, channel + 16 * k, m);
            if (g->relu)
                inside = vm_and(inside, vf_gt(z[k], vf_set(0.0f)));
            vm_store_bits(g->inside, i + 16 * k, m, vm_and(inside, vm_first(m)));
        }
    if (g->trunk)
        for (int k = 0; k < 4; k++)
            vf_store(g->trunk_dtype, g->trunk, i + 16 * k, v_lanes_of(n, k), z[k]);
    if (g->amax)
        for (int k = 0; k < 4; k++)
            sums->amax = vf_max(vf_abs(z[k]), sums->amax);
    if (kind.x == OCT_S8)
        act_codes(g, i, n, z, sums);
    else if (kind.x != NONE)
        for (int k = 0; k < 4; k++)
            vf_store((enum oct_dtype)kind.x, g->x, i + 16 * k, v_lanes_of(n, k), z[k]);
}

V_INLINE void act_walk(const struct oct_act_fwd_args *args, struct act_kind kind, int64_t first,
    int64_t count, struct oct_norm_found *found)
{
    const struct oct_act_fwd_args g = *args;
    const int64_t step = OCT_NORM_UNIT % g.channels;
    int64_t channel = first % g.channels, i = first, end = first + count;
    struct act_sums sums = {vf_set(0.0f), vm_none(), vi_zero(), vi_zero(), vi_zero()};
    float amax[16];

    for (; i + OCT_NORM_UNIT <= end; i += OCT_NORM_UNIT) {
        act_unit(&g, kind, i, channel, OCT_NORM_UNIT, &sums);
        channel += step;
        channel -= channel >= g.channels ? g.channels : 0;
    }
    if (i < end)
        act_unit(&g, kind, i, channel, (int)(end - i), &sums);

    vf_store_f32(amax, 16, sums.amax);
    for (int l = 0; l < 16; l++)
        found->amax = amax[l] > found->amax ? amax[l] : found->amax;
    found->not_finite |= (uint32_t)vm_any(sums.not_finite);
    found->saturated[0] += vi_total(sums.saturated);
    found->clipped += vi_total(sums.clipped);
    found->above_all += vi_total(sums.y_above);
}

/* bf16 to codes: the loops that training steps spend their time in. */
V_INLINE void act_to_codes(const struct oct_act_fwd_args *args, int residual, int full,
    int64_t first, int64_t count, struct oct_norm_found *found)
{
    if (residual == NONE)
        act_walk(args, (struct act_kind){OCT_BF16, NONE, OCT_S8, full}, first, count, found);
    else if (residual == OCT_S8)
        act_walk(args, (struct act_kind){OCT_BF16, OCT_S8, OCT_S8, full}, first, count, found);
    else
        act_walk(args, (struct act_kind){OCT_BF16, OCT_BF16, OCT_S8, full}, first, count, found);
}

void OCT_VEC_NAME(oct_act_fwd)(
    const struct oct_act_fwd_args *args, int64_t first, int64_t count, struct oct_norm_found *found)
{
    struct act_kind kind = {(int)args->y_dtype, args->residual ? (int)args->residual_dtype : NONE,
        args->x ? (int)args->x_dtype : NONE,
        args->clip_lo || args->y_above || args->xhat_steps > 0.0f};
    int codes = kind.y == OCT_BF16 && kind.x == OCT_S8 && kind.residual != OCT_F32;
    if (codes && kind.full)
        act_to_codes(args, kind.residual, 1, first, count, found);
    else if (codes)
        act_to_codes(args, kind.residual, 0, first, count, found);
    else
        act_walk(args, kind, first, count, found);
}

const struct oct_vec_norm OCT_VEC_NAME(oct_vec_norm) = {
    OCT_VEC_NAME(oct_act_fwd), OCT_VEC_NAME(oct_bwd_reduce), OCT_VEC_NAME(oct_bwd_apply)};
