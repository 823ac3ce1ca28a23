/* Backward of normalise-and-activate: the reduction over pixels, which adds in row order per
 * channel, and the elementwise apply. See vec_norm.h. */
#include "cpu/vec_norm.h"

#include "base/rng.h"

/* Where the sign of z comes from. */
enum gate { GATE_OPEN, GATE_Z, GATE_MASK };

struct bwd_kind {
    int da, y;
    enum gate gate;
};

V_INLINE struct bwd_kind kind_of(enum oct_dtype da, enum oct_dtype y, int relu, const uint8_t *mask)
{
    struct bwd_kind kind = {(int)da, (int)y, mask ? GATE_MASK : relu ? GATE_Z : GATE_OPEN};
    return kind;
}

enum { SUM_DZ, SUM_DZ_XHAT, SUM_DZ2, MIN_DZ, MAX_DZ };

/* Rows added before the sums go back to memory: 16 rows of all channels stay in the first-level
 * cache and are read in the order of memory. */
enum { WALK_ROWS = 16 };

/* Rows are walked a column of one cache line at a time. From this width on the processor's own
 * prefetching loses track of that (measured: 4 times slower from memory at 256 channels), so the
 * lines of the next walk are asked for by hand. */
enum { PREFETCH_CHANNELS = 128 };

V_INLINE void prefetch(int dtype, const void *x, int64_t i)
{
    __builtin_prefetch((const char *)x + i * (int64_t)oct_dtype_bytes((enum oct_dtype)dtype));
}

/* Rows [row, row + rows) of `vectors` (1 or 2) vectors of channels from c; n channels are left.
 * `ahead` rows of the next walk are to be fetched. */
V_INLINE void reduce_tile(const struct oct_bn_bwd_reduce_args *g, struct bwd_kind kind, int64_t row,
    int rows, int ahead, int c, int vectors, int n, float *sums)
{
    const int64_t stride = oct_norm_stride(g->channels);
    vf sum[2][OCT_NORM_SUMS], a[2], b[2], ix[2], jx[2];

    for (int k = 0; k < vectors; k++) {
        int m = v_lanes_of(n, k), at = c + 16 * k;
        for (int s = 0; s < OCT_NORM_SUMS; s++)
            sum[k][s] = vf_load_f32(sums + s * stride + at, 16);
        ix[k] = vf_load_f32(g->ix + at, m);
        jx[k] = vf_load_f32(g->jx + at, m);
        a[k] = kind.gate == GATE_Z ? vf_load_f32(g->a + at, m) : ix[k];
        b[k] = kind.gate == GATE_Z ? vf_load_f32(g->b + at, m) : jx[k];
    }
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < vectors; k++) {
            int m = v_lanes_of(n, k);
            int64_t i = (row + r) * g->channels + c + 16 * k;
            if (r < ahead) {
                prefetch(kind.da, g->da, i + WALK_ROWS * g->channels);
                prefetch(kind.y, g->y, i + WALK_ROWS * g->channels);
            }
            vf dz = vf_load((enum oct_dtype)kind.da, g->da, i, m);
            vf y = vf_load((enum oct_dtype)kind.y, g->y, i, m);
            vf xhat = vf_affine(y, ix[k], jx[k]);
            if (kind.gate == GATE_Z)
                dz = vf_keep(vf_gt(vf_affine(y, a[k], b[k]), vf_set(0.0f)), dz);
            if (kind.gate == GATE_MASK)
                dz = vf_keep(vm_load_bits(g->mask, i, m), dz);
            sum[k][SUM_DZ] = vf_add(sum[k][SUM_DZ], dz);
            sum[k][SUM_DZ_XHAT] = vf_add(sum[k][SUM_DZ_XHAT], vf_mul(dz, xhat));
            sum[k][SUM_DZ2] = vf_add(sum[k][SUM_DZ2], vf_mul(dz, dz));
            sum[k][MIN_DZ] = vf_min(dz, sum[k][MIN_DZ]);
            sum[k][MAX_DZ] = vf_max(dz, sum[k][MAX_DZ]);
        }
    for (int k = 0; k < vectors; k++)
        for (int s = 0; s < OCT_NORM_SUMS; s++)
            vf_store_f32(sums + s * stride + c + 16 * k, 16, sum[k][s]);
}

V_INLINE void reduce_walk(const struct oct_bn_bwd_reduce_args *args, struct bwd_kind kind,
    int64_t first_row, int rows, float *sums)
{
    const struct oct_bn_bwd_reduce_args g = *args;
    const int64_t stride = oct_norm_stride(g.channels);

    for (int64_t c = 0; c < stride; c++) {
        sums[SUM_DZ * stride + c] = 0.0f;
        sums[SUM_DZ_XHAT * stride + c] = 0.0f;
        sums[SUM_DZ2 * stride + c] = 0.0f;
        sums[MIN_DZ * stride + c] = INFINITY;
        sums[MAX_DZ * stride + c] = -INFINITY;
    }
    for (int r = 0; r < rows; r += WALK_ROWS) {
        int some = rows - r < WALK_ROWS ? rows - r : WALK_ROWS, c = 0;
        int64_t left = g.channels < PREFETCH_CHANNELS ? 0 : g.rows - first_row - r - WALK_ROWS;
        int ahead =
            left > WALK_ROWS ? WALK_ROWS : (int)left; /* past the chunk too: it comes next */
        for (; c + 32 <= g.channels; c += 32)
            reduce_tile(&g, kind, first_row + r, some, ahead, c, 2, 32, sums);
        if (c + 16 <= g.channels) {
            reduce_tile(&g, kind, first_row + r, some, ahead, c, 1, 16, sums);
            c += 16;
        }
        if (c < g.channels)
            reduce_tile(&g, kind, first_row + r, some, ahead, c, 1, g.channels - c, sums);
    }
}

void OCT_VEC_NAME(oct_bwd_reduce)(
    const struct oct_bn_bwd_reduce_args *args, int64_t first_row, int rows, float *sums)
{
    struct bwd_kind kind = kind_of(args->da_dtype, args->y_dtype, args->relu, args->mask);
    int bf16 = kind.da == OCT_BF16 && kind.y == OCT_BF16;
    if (bf16 && kind.gate == GATE_Z)
        reduce_walk(args, (struct bwd_kind){OCT_BF16, OCT_BF16, GATE_Z}, first_row, rows, sums);
    else if (bf16 && kind.gate == GATE_MASK)
        reduce_walk(args, (struct bwd_kind){OCT_BF16, OCT_BF16, GATE_MASK}, first_row, rows, sums);
    else
        reduce_walk(args, kind, first_row, rows, sums);
}

/* Loop-invariant scalars of the apply pass. */
struct apply_consts {
    uint32_t key;
    uint64_t offset; /* number of element 0 in the global batch */
    vf inverse, bound_channel, bound_tensor, sigma_all;
};

struct apply_sums {
    vm not_finite;
    vi saturated[2], above_all;
};

/* Rounding bytes of elements [element, element + 64) of the global batch. */
V_INLINE void random_bytes(uint32_t key, uint64_t element, vi random[4])
{
    uint32_t words[17]; /* one more than 64 elements take: they may begin inside a word */
    oct_rounding_words(key, element >> 2, 17, words);
    const uint8_t *bytes = (const uint8_t *)words + (element & 3);
    for (int k = 0; k < 4; k++)
        random[k] = vi_load_u8(bytes + 16 * k);
}

/* Writes or adds n elements at i. */
V_INLINE void put_values(
    enum oct_dtype dtype, void *to, enum oct_write mode, int64_t i, int n, const vf values[4])
{
    for (int k = 0; k < 4; k++) {
        int m = v_lanes_of(n, k);
        vf out = values[k];
        if (mode == OCT_ACCUMULATE)
            out = vf_add(vf_load(dtype, to, i + 16 * k, m), out);
        vf_store(dtype, to, i + 16 * k, m, out);
    }
}

/* dy of n elements at i; writes dz to the residual branch on the way. */
V_INLINE void apply_values(const struct oct_bn_bwd_apply_args *g, struct bwd_kind kind, int64_t i,
    int64_t channel, int n, vf dy[4])
{
    vf y[4], dz[4];
    for (int k = 0; k < 4; k++) {
        int m = v_lanes_of(n, k);
        int64_t at = i + 16 * k, c = channel + 16 * k;
        dz[k] = vf_load((enum oct_dtype)kind.da, g->da, at, m);
        y[k] = vf_load((enum oct_dtype)kind.y, g->y, at, m);
        if (kind.gate == GATE_Z) {
            vf z = vf_affine(y[k], vf_load_f32(g->a + c, 16), vf_load_f32(g->b + c, 16));
            dz[k] = vf_keep(vf_gt(z, vf_set(0.0f)), dz[k]);
        }
        if (kind.gate == GATE_MASK)
            dz[k] = vf_keep(vm_load_bits(g->mask, at, m), dz[k]);
    }
    if (g->d_residual && g->residual_mask) { /* another gate than the branch's own */
        vf kept[4];
        for (int k = 0; k < 4; k++) {
            int m = v_lanes_of(n, k);
            int64_t at = i + 16 * k;
            kept[k] = vf_keep(vm_load_bits(g->residual_mask, at, m),
                vf_load((enum oct_dtype)kind.da, g->da, at, m));
        }
        put_values(g->d_residual_dtype, g->d_residual, g->d_residual_mode, i, n, kept);
    } else if (g->d_residual) {
        put_values(g->d_residual_dtype, g->d_residual, g->d_residual_mode, i, n, dz);
    }
    for (int k = 0; k < 4; k++) {
        int64_t c = channel + 16 * k;
        vf xhat = vf_affine(y[k], vf_load_f32(g->ix + c, 16), vf_load_f32(g->jx + c, 16));
        vf t = vf_sub(dz[k], vf_load_f32(g->m1 + c, 16));
        vf u = vf_mul(xhat, vf_load_f32(g->m2 + c, 16));
        dy[k] = vf_mul(vf_load_f32(g->a + c, 16), vf_sub(t, u));
    }
}

/* v[4] are the unclamped quotients. One loop per decision: the four vectors of a step run without
 * branches between them. */
V_INLINE void store_codes(int8_t *q, int8_t *q_lo, int64_t i, int n, vf v[4], vf bound,
    const struct oct_range *range, const vi *random, vi *saturated)
{
    vi code[4], lo[4];
    if (saturated)
        for (int k = 0; k < 4; k++)
            *saturated = vi_count(*saturated, vf_gt(vf_abs(v[k]), bound));
    if (q_lo) /* planes must split a clamped code */
        for (int k = 0; k < 4; k++)
            v[k] = vf_clamp(v[k], bound);
    if (range->grid != OCT_GRID_UNIFORM)
        vi_grid_codes(range->grid, v, range->code_max, code);
    else if (random)
        for (int k = 0; k < 4; k++)
            code[k] = vi_codes_stochastic(v[k], bound, random[k]);
    else
        for (int k = 0; k < 4; k++)
            code[k] = vi_codes(v[k], bound);
    if (q_lo) {
        for (int k = 0; k < 4; k++) {
            vi hi = vi_plane_hi(code[k]);
            lo[k] = vi_plane_lo(code[k], hi);
            code[k] = hi;
        }
        vi_store_s8(q_lo + i, n, lo);
    }
    vi_store_s8(q + i, n, code);
}

V_INLINE void apply_codes(const struct oct_bn_bwd_apply_args *g, const struct apply_consts *consts,
    int64_t i, int64_t channel, int n, const vf dy[4], struct apply_sums *sums)
{
    vi bytes[4];
    const vi *random = g->rounding == OCT_STOCHASTIC ? bytes : NULL;
    vf v[4];

    if (random)
        random_bytes(consts->key, consts->offset + (uint64_t)i, bytes);
    if (g->q_channel) {
        for (int k = 0; k < 4; k++)
            v[k] = vf_mul(dy[k], vf_load_f32(g->range_channel.inverse + channel + 16 * k, 16));
        store_codes(g->q_channel, g->q_channel_lo, i, n, v, consts->bound_channel,
            &g->range_channel, random, g->saturated ? &sums->saturated[0] : NULL);
    }
    if (g->q_tensor) {
        for (int k = 0; k < 4; k++)
            v[k] = vf_mul(dy[k], consts->inverse);
        store_codes(g->q_tensor, g->q_tensor_lo, i, n, v, consts->bound_tensor, &g->range_tensor,
            random, g->saturated ? &sums->saturated[1] : NULL);
    }
}

V_INLINE void apply_unit(const struct oct_bn_bwd_apply_args *g, struct bwd_kind kind,
    const struct apply_consts *consts, int64_t i, int64_t channel, int n, struct apply_sums *sums,
    const struct oct_norm_found *found)
{
    vf dy[4];
    apply_values(g, kind, i, channel, n, dy);
    for (int k = 0; k < 4; k++) {
        int m = v_lanes_of(n, k);
        if (m < 16)
            dy[k] = vf_keep(vm_first(m), dy[k]);
        sums->not_finite = vm_or(sums->not_finite, vf_not_finite(dy[k]));
    }
    if (found->channel_amax)
        for (int k = 0; k < 4; k++) {
            float *amax = found->channel_amax + channel + 16 * k;
            vf_store_f32(amax, 16, vf_max(vf_abs(dy[k]), vf_load_f32(amax, 16)));
        }
    if (found->channel_above)
        for (int k = 0; k < 4; k++) {
            uint32_t *above = found->channel_above + channel + 16 * k;
            vf sigma = vf_load_f32(g->sigma + channel + 16 * k, 16);
            vi_store(above, vi_count(vi_load(above), vf_gt(vf_abs(dy[k]), sigma)));
        }
    if (g->above_all)
        for (int k = 0; k < 4; k++)
            sums->above_all = vi_count(sums->above_all, vf_gt(vf_abs(dy[k]), consts->sigma_all));
    if (g->dy)
        put_values(g->dy_dtype, g->dy, g->dy_mode, i, n, dy);
    if (g->q_channel || g->q_tensor)
        apply_codes(g, consts, i, channel, n, dy, sums);
}

V_INLINE void apply_walk(const struct oct_bn_bwd_apply_args *args, struct bwd_kind kind,
    int64_t first, int64_t count, struct oct_norm_found *found)
{
    const struct oct_bn_bwd_apply_args g = *args;
    const int64_t step = OCT_NORM_UNIT % g.channels;
    int64_t channel = first % g.channels, i = first, end = first + count;
    const struct oct_norm_found wide = *found;
    struct apply_sums sums = {vm_none(), {vi_zero(), vi_zero()}, vi_zero()};
    struct apply_consts consts = {0, 0, vf_set(g.q_tensor ? g.range_tensor.inverse[0] : 0.0f),
        vf_set((float)g.range_channel.code_max), vf_set((float)g.range_tensor.code_max),
        vf_set(g.above_all ? g.sigma_all[0] : 0.0f)};

    if (g.rounding == OCT_STOCHASTIC) {
        consts.key = oct_rounding_key(g.step->seed, g.step->step, g.tensor);
        consts.offset =
            (uint64_t)g.step->first_sample * (uint64_t)g.rows_per_sample * (uint64_t)g.channels;
    }
    for (; i + OCT_NORM_UNIT <= end; i += OCT_NORM_UNIT) {
        apply_unit(&g, kind, &consts, i, channel, OCT_NORM_UNIT, &sums, &wide);
        channel += step;
        channel -= channel >= g.channels ? g.channels : 0;
    }
    if (i < end)
        apply_unit(&g, kind, &consts, i, channel, (int)(end - i), &sums, &wide);

    found->not_finite |= (uint32_t)vm_any(sums.not_finite);
    found->saturated[0] += vi_total(sums.saturated[0]);
    found->saturated[1] += vi_total(sums.saturated[1]);
    found->above_all += vi_total(sums.above_all);
}

void OCT_VEC_NAME(oct_bwd_apply)(const struct oct_bn_bwd_apply_args *args, int64_t first,
    int64_t count, struct oct_norm_found *found)
{
    struct bwd_kind kind = kind_of(args->da_dtype, args->y_dtype, args->relu, args->mask);
    int bf16 = kind.da == OCT_BF16 && kind.y == OCT_BF16;
    if (bf16 && kind.gate == GATE_Z)
        apply_walk(args, (struct bwd_kind){OCT_BF16, OCT_BF16, GATE_Z}, first, count, found);
    else if (bf16 && kind.gate == GATE_MASK)
        apply_walk(args, (struct bwd_kind){OCT_BF16, OCT_BF16, GATE_MASK}, first, count, found);
    else
        apply_walk(args, kind, first, count, found);
}
