/* What the lanes of a warp do together: shuffles, votes, reductions and the matrix product. */
#include "sim_core.h"

#include <cuda_runtime_api.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef uint32_t u32_any __attribute__((may_alias));

static u32_any *slot_of(const struct gpusim_block *b, uint32_t slot)
{
    return (u32_any *)(void *)(b->current->regs + slot);
}

/* Source lane and whether it lies inside the segment, from the clamp operand c: its low five bits
 * are the bound, bits 8..12 the mask of the segment. */
void gpusim_shuffle(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    const u32_any *a = slot_of(b, inst->r[2]), *distance = slot_of(b, inst->r[3]);
    const u32_any *clamp = slot_of(b, inst->r[4]), *members = slot_of(b, inst->r[5]);
    uint32_t value[GPUSIM_LANES] = {0}, valid[GPUSIM_LANES] = {0};
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        const int by = (int)(distance[lane] & 31), bound = (int)(clamp[lane] & 31);
        const int segment = (int)(clamp[lane] >> 8 & 31);
        const int last = (lane & segment) | (bound & ~segment);
        const int first = lane & segment;
        int from = lane;
        bool inside;
        switch (inst->mode) {
        case SHUFFLE_UP:
            from = lane - by;
            inside = from >= last;
            break;
        case SHUFFLE_DOWN:
            from = lane + by;
            inside = from <= last;
            break;
        case SHUFFLE_BFLY:
            from = lane ^ by;
            inside = from <= last;
            break;
        default:
            from = first | (by & ~segment);
            inside = from <= last;
        }
        if (!inside)
            from = lane;
        if (!(members[lane] >> from & 1)) {
            b->lane_hint = (uint32_t)lane;
            gpusim_block_fail(b, cudaErrorLaunchFailure,
                "shfl.sync from lane %d, which is not in the mask %08x", from, members[lane]);
        }
        value[lane] = a[from];
        valid[lane] = inside ? UINT32_MAX : 0;
    }
    u32_any *to = slot_of(b, inst->r[0]), *predicate = slot_of(b, inst->r[1]);
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        to[lane] = value[lane];
        predicate[lane] = valid[lane];
    }
}

void gpusim_vote(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    uint32_t truth = gpusim_lanes_true(b->current->regs + inst->r[1]);
    const u32_any *members = slot_of(b, inst->r[2]);
    uint32_t result[GPUSIM_LANES];
    if (inst->operand_not)
        truth = ~truth;
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        const uint32_t named = members[lane], those = truth & named;
        const bool all = those == named;
        switch (inst->mode) {
        case VOTE_BALLOT:
            result[lane] = those;
            break;
        case VOTE_ANY:
            result[lane] = those ? UINT32_MAX : 0;
            break;
        case VOTE_ALL:
            result[lane] = all ? UINT32_MAX : 0;
            break;
        default:
            result[lane] = all || !those ? UINT32_MAX : 0;
        }
    }
    u32_any *to = slot_of(b, inst->r[0]);
    for (uint32_t left = mask; left; left &= left - 1)
        to[__builtin_ctz(left)] = result[__builtin_ctz(left)];
}

void gpusim_match(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    const u32_any *members = slot_of(b, inst->r[3]);
    const size_t bytes = inst->wide & 2 ? 8 : 4;
    uint64_t value[GPUSIM_LANES] = {0};
    uint32_t equal[GPUSIM_LANES] = {0}, all[GPUSIM_LANES] = {0};
    for (int lane = 0; lane < GPUSIM_LANES; lane++)
        memcpy(&value[lane], b->current->regs + inst->r[2] + (size_t)lane * bytes, bytes);
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        for (uint32_t peers = members[lane]; peers; peers &= peers - 1) {
            const int peer = __builtin_ctz(peers);
            equal[lane] |= (uint32_t)(value[peer] == value[lane]) << peer;
        }
        all[lane] = equal[lane] == members[lane] ? UINT32_MAX : 0;
        if (inst->mode == 1)
            equal[lane] &= all[lane];
    }
    u32_any *to = slot_of(b, inst->r[0]), *predicate = slot_of(b, inst->r[1]);
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        to[lane] = equal[lane];
        predicate[lane] = all[lane];
    }
}

static uint32_t reduced(const struct gpusim_inst *inst, uint32_t x, uint32_t y)
{
    const bool less = inst->type == TYPE_S32 ? (int32_t)x < (int32_t)y : x < y;
    switch (inst->mode) {
    case RMW_ADD:
        return x + y;
    case RMW_MIN:
        return less ? x : y;
    case RMW_MAX:
        return less ? y : x;
    case RMW_AND:
        return x & y;
    case RMW_OR:
        return x | y;
    default:
        return x ^ y;
    }
}

void gpusim_redux(struct gpusim_block *b, const struct gpusim_inst *inst, uint32_t mask)
{
    const u32_any *value = slot_of(b, inst->r[1]), *members = slot_of(b, inst->r[2]);
    uint32_t result[GPUSIM_LANES] = {0};
    for (uint32_t left = mask; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        uint32_t peers = members[lane];
        uint32_t sum = value[__builtin_ctz(peers)];
        for (peers &= peers - 1; peers; peers &= peers - 1)
            sum = reduced(inst, sum, value[__builtin_ctz(peers)]);
        result[lane] = sum;
    }
    u32_any *to = slot_of(b, inst->r[0]);
    for (uint32_t left = mask; left; left &= left - 1)
        to[__builtin_ctz(left)] = result[__builtin_ctz(left)];
}

/* ---- mma ----
 * With lane l = 4 g + q, byte j of register i of A is row g + 8 (i odd), column 4q + j + 16 (i /
 * 2); of B it is row 4q + j + 16 i, column g; element e of C is row g + 8 (e / 2), column 2q + (e
 * odd). So a register of A, as it lies in memory, is an 8 x 16 matrix by rows, a register of B the
 * same of its transpose, and a pair of C registers an 8 x 8 matrix with even and odd columns apart.
 */

/* sum[g][n] += a[g][.] . b[n][.] over 16 columns. */
#if defined(__SSE2__)
static void multiply(const void *a, const void *b, int32_t sum[8][8])
{
    int16_t left[8][16], right[8][16];
    int32_t pairs[8][8] __attribute__((aligned(16)));
    const __m128i zero = _mm_setzero_si128();
    for (int row = 0; row < 8; row++) {
        __m128i x = _mm_load_si128((const __m128i *)a + row);
        __m128i y = _mm_load_si128((const __m128i *)b + row);
        __m128i xs = _mm_cmpgt_epi8(zero, x), ys = _mm_cmpgt_epi8(zero, y);
        _mm_storeu_si128((__m128i *)&left[row][0], _mm_unpacklo_epi8(x, xs));
        _mm_storeu_si128((__m128i *)&left[row][8], _mm_unpackhi_epi8(x, xs));
        _mm_storeu_si128((__m128i *)&right[row][0], _mm_unpacklo_epi8(y, ys));
        _mm_storeu_si128((__m128i *)&right[row][8], _mm_unpackhi_epi8(y, ys));
    }
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 8; k++)
            memcpy(&pairs[k][n], &right[n][2 * k], 4);
    for (int g = 0; g < 8; g++) {
        __m128i low = _mm_loadu_si128((__m128i *)&sum[g][0]);
        __m128i high = _mm_loadu_si128((__m128i *)&sum[g][4]);
        for (int k = 0; k < 8; k++) {
            int32_t pair;
            memcpy(&pair, &left[g][2 * k], 4);
            const __m128i both = _mm_set1_epi32(pair);
            low = _mm_add_epi32(low, _mm_madd_epi16(both, _mm_load_si128((__m128i *)&pairs[k][0])));
            high =
                _mm_add_epi32(high, _mm_madd_epi16(both, _mm_load_si128((__m128i *)&pairs[k][4])));
        }
        _mm_storeu_si128((__m128i *)&sum[g][0], low);
        _mm_storeu_si128((__m128i *)&sum[g][4], high);
    }
}
#else
static void multiply(const void *a, const void *b, int32_t sum[8][8])
{
    const int8_t *left = a, *right = b;
    for (int g = 0; g < 8; g++)
        for (int n = 0; n < 8; n++)
            for (int k = 0; k < 16; k++)
                sum[g][n] += left[16 * g + k] * right[16 * n + k];
}
#endif

/* result = c + sum; the accumulator must not leave int32. Written by the caller once all operands
 * are read: a result may take the place of an operand. */
static void accumulate(struct gpusim_block *b, const uint32_t *c, const int32_t sum[8][8], int row,
    uint32_t result[2][GPUSIM_LANES])
{
    const int32_t *flat = &sum[0][0];
    for (int odd = 0; odd < 2; odd++) {
        const u32_any *from = slot_of(b, c[odd]);
        uint32_t over = 0;
        for (int lane = 0; lane < GPUSIM_LANES; lane++) {
            const uint32_t x = from[lane], y = (uint32_t)flat[2 * lane + odd], z = x + y;
            over |= (x ^ z) & (y ^ z);
            result[odd][lane] = z;
        }
        for (int lane = 0; over >> 31 && lane < GPUSIM_LANES; lane++) {
            const int64_t exact = (int64_t)(int32_t)from[lane] + flat[2 * lane + odd];
            b->lane_hint = (uint32_t)lane;
            if (exact != (int32_t)exact)
                gpusim_block_fail(b, cudaErrorLaunchFailure,
                    "int32 accumulator overflow: row %d, column %d: %d + %d", row + lane / 4,
                    2 * (lane % 4) + odd, (int32_t)from[lane], flat[2 * lane + odd]);
        }
    }
}

void gpusim_mma(struct gpusim_block *b, const struct gpusim_inst *inst)
{
    const unsigned char *regs = b->current->regs;
    const uint32_t *r = inst->r;
    int32_t upper[8][8] = {{0}}, lower[8][8] = {{0}};
    uint32_t result[4][GPUSIM_LANES];
    int results = 4;
    switch (inst->mode) {
    case MMA_8816: /* d 0-1, a 2, b 3, c 4-5 */
        multiply(regs + r[2], regs + r[3], upper);
        accumulate(b, r + 4, upper, 0, result);
        results = 2;
        break;
    case MMA_16816: /* d 0-3, a 4-5, b 6, c 7-10 */
        multiply(regs + r[4], regs + r[6], upper);
        multiply(regs + r[5], regs + r[6], lower);
        accumulate(b, r + 7, upper, 0, result);
        accumulate(b, r + 9, lower, 8, result + 2);
        break;
    default: /* d 0-3, a 4-7, b 8-9, c 10-13 */
        multiply(regs + r[4], regs + r[8], upper);
        multiply(regs + r[6], regs + r[9], upper);
        multiply(regs + r[5], regs + r[8], lower);
        multiply(regs + r[7], regs + r[9], lower);
        accumulate(b, r + 10, upper, 0, result);
        accumulate(b, r + 12, lower, 8, result + 2);
    }
    for (int i = 0; i < results; i++)
        memcpy(slot_of(b, r[i]), result[i], sizeof result[i]);
}
