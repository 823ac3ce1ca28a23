/* Integer, logic, compare and move instructions, lane by lane. */
#include "sim_alu.h"

#define ARITHMETIC(t, u)                                                                           \
    ALU2(add_##t, t, u, u, a + b)                                                                  \
    ALU2(sub_##t, t, u, u, a - b)                                                                  \
    ALU2(mul_lo_##t, t, u, u, a *b)                                                                \
    ALU3(mad_lo_##t, t, u, u, u, a *b + c)                                                         \
    ALU2(min_##t, t, t, t, a < b ? a : b)                                                          \
    ALU2(max_##t, t, t, t, a > b ? a : b)
/* 16-bit operands widen to int: as uint32_t the products cannot overflow. */
#define ARITHMETIC16(t, u)                                                                         \
    ALU2(add_##t, t, u, u, a + b)                                                                  \
    ALU2(sub_##t, t, u, u, a - b)                                                                  \
    ALU2(mul_lo_##t, t, u, u, (uint32_t)a *b)                                                      \
    ALU3(mad_lo_##t, t, u, u, u, (uint32_t)a *b + c)                                               \
    ALU2(min_##t, t, t, t, a < b ? a : b)                                                          \
    ALU2(max_##t, t, t, t, a > b ? a : b)
ARITHMETIC16(u16, u16)
ARITHMETIC16(s16, u16)
ARITHMETIC(u32, u32)
ARITHMETIC(s32, u32)
ARITHMETIC(u64, u64)
ARITHMETIC(s64, u64)

ALU2(mul_hi_u16, u16, u16, u16, (uint32_t)a *b >> 16)
ALU2(mul_hi_s16, s16, s16, s16, a *b >> 16)
ALU2(mul_hi_u32, u32, u32, u32, (uint64_t)a *b >> 32)
ALU2(mul_hi_s32, s32, s32, s32, (int64_t)a *b >> 32)
ALU2(mul_hi_u64, u64, u64, u64, (unsigned __int128)a *b >> 64)
ALU2(mul_hi_s64, s64, s64, s64, (__int128)a *b >> 64)
ALU3(mad_hi_u32, u32, u32, u32, u32, ((uint64_t)a * b >> 32) + c)
ALU3(mad_hi_s32, s32, s32, s32, u32, (uint32_t)((int64_t)a *b >> 32) + c)
ALU2(mul_wide_u16, u32, u16, u16, (uint32_t)a *b)
ALU2(mul_wide_s16, u32, s16, s16, a *b)
ALU2(mul_wide_u32, u64, u32, u32, (uint64_t)a *b)
ALU2(mul_wide_s32, u64, s32, s32, (int64_t)a *b)
ALU3(mad_wide_u16, u32, u16, u16, u32, (uint32_t)a *b + c)
ALU3(mad_wide_s16, u32, s16, s16, u32, (uint32_t)(a *b) + c)
ALU3(mad_wide_u32, u64, u32, u32, u64, (uint64_t)a *b + c)
ALU3(mad_wide_s32, u64, s32, s32, u64, (uint64_t)((int64_t)a *b) + c)
ALU2(mul24_lo_u32, u32, u32, u32, (a & 0xffffff) * (b & 0xffffff))
ALU3(sad_u32, u32, u32, u32, u32, (a > b ? a - b : b - a) + c)
ALU3(sad_s32, u32, s32, s32, u32,
    (a > b ? (uint32_t)a - (uint32_t)b : (uint32_t)b - (uint32_t)a) + c)

/* A zero divisor was reported before; the most negative number by -1 wraps. */
#define DIVISION_U(t)                                                                              \
    ALU2(div_##t, t, t, t, b ? a / b : 0)                                                          \
    ALU2(rem_##t, t, t, t, b ? a % b : 0)
#define DIVISION_S(t, u)                                                                           \
    ALU2(div_##t, t, t, t, b == 0 ? 0 : b == -1 ? (V_##t)(0 - (V_##u)a) : a / b)                   \
    ALU2(rem_##t, t, t, t, b == 0 || b == -1 ? 0 : a % b)
DIVISION_U(u16)
DIVISION_U(u32)
DIVISION_U(u64)
DIVISION_S(s16, u16)
DIVISION_S(s32, u32)
DIVISION_S(s64, u64)

#define SIGNED(t, u)                                                                               \
    ALU1(neg_##t, t, u, 0 - a)                                                                     \
    ALU1(abs_##t, t, t, a < 0 ? (V_##t)(0 - (V_##u)a) : a)
SIGNED(s16, u16)
SIGNED(s32, u32)
SIGNED(s64, u64)

#define LOGIC(t)                                                                                   \
    ALU2(and_##t, t, t, t, a &b)                                                                   \
    ALU2(or_##t, t, t, t, a | b)                                                                   \
    ALU2(xor_##t, t, t, t, a ^ b)                                                                  \
    ALU1(not_##t, t, t, ~a)                                                                        \
    ALU1(mov_##t, t, t, a)                                                                         \
    ALU3(selp_##t, t, t, t, pred, c ? a : b)
LOGIC(u32)
LOGIC(u64)
ALU1(cnot_u32, u32, u32, a == 0)
ALU1(cnot_u64, u64, u64, a == 0)
ALU3(slct_u32_s32, u32, u32, u32, s32, c >= 0 ? a : b)
ALU3(slct_u64_s32, u64, u64, u64, s32, c >= 0 ? a : b)
ALU3(slct_u32_f32, u32, u32, u32, f32, c >= 0 ? a : b)

ALU2(shl_u16, u16, u16, u32, b < 16 ? (uint32_t)a << b : 0)
ALU2(shl_u32, u32, u32, u32, b < 32 ? a << b : 0)
ALU2(shl_u64, u64, u64, u32, b < 64 ? a << b : 0)
ALU2(shr_u16, u16, u16, u32, b < 16 ? a >> b : 0)
ALU2(shr_u32, u32, u32, u32, b < 32 ? a >> b : 0)
ALU2(shr_u64, u64, u64, u32, b < 64 ? a >> b : 0)
ALU2(shr_s16, s16, s16, u32, a >> (b < 16 ? b : 15))
ALU2(shr_s32, s32, s32, u32, a >> (b < 32 ? b : 31))
ALU2(shr_s64, s64, s64, u32, a >> (b < 64 ? b : 63))

static inline uint32_t funnel(uint32_t low, uint32_t high, uint32_t n, int left)
{
    uint64_t both = (uint64_t)high << 32 | low;
    return (uint32_t)(left ? both << n >> 32 : both >> n);
}
ALU3(shf_l_wrap, u32, u32, u32, u32, funnel(a, b, c & 31, 1))
ALU3(shf_r_wrap, u32, u32, u32, u32, funnel(a, b, c & 31, 0))
ALU3(shf_l_clamp, u32, u32, u32, u32, funnel(a, b, c < 32 ? c : 32, 1))
ALU3(shf_r_clamp, u32, u32, u32, u32, funnel(a, b, c < 32 ? c : 32, 0))

ALU1(popc_u32, u32, u32, __builtin_popcount(a))
ALU1(popc_u64, u32, u64, __builtin_popcountll(a))
ALU1(clz_u32, u32, u32, a ? __builtin_clz(a) : 32)
ALU1(clz_u64, u32, u64, a ? __builtin_clzll(a) : 64)

static inline uint64_t reverse_bits(uint64_t v)
{
    v = (v >> 1 & UINT64_C(0x5555555555555555)) | (v & UINT64_C(0x5555555555555555)) << 1;
    v = (v >> 2 & UINT64_C(0x3333333333333333)) | (v & UINT64_C(0x3333333333333333)) << 2;
    v = (v >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (v & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    return __builtin_bswap64(v);
}
ALU1(brev_u32, u32, u32, reverse_bits(a) >> 32)
ALU1(brev_u64, u64, u64, reverse_bits(a))

/* Position of the highest bit that differs from the sign; all ones if there is none. */
static inline uint32_t find_high(uint64_t v, int width, int shift_amount)
{
    if (v == 0)
        return UINT32_MAX;
    uint32_t position = 63u - (uint32_t)__builtin_clzll(v);
    return shift_amount ? (uint32_t)width - 1 - position : position;
}
ALU1(bfind_u32, u32, u32, find_high(a, 32, 0))
ALU1(bfind_u64, u32, u64, find_high(a, 64, 0))
ALU1(bfind_s32, u32, s32, find_high((uint32_t)(a < 0 ? ~a : a), 32, 0))
ALU1(bfind_s64, u32, s64, find_high((uint64_t)(a < 0 ? ~a : a), 64, 0))
ALU1(bfind_shift_u32, u32, u32, find_high(a, 32, 1))
ALU1(bfind_shift_s32, u32, s32, find_high((uint32_t)(a < 0 ? ~a : a), 32, 1))
ALU1(bfind_shift_u64, u32, u64, find_high(a, 64, 1))

/* Bits [start, start + length) of a; what lies beyond the width, or beyond the field, is the sign
 * (the field's highest bit inside the word) or 0. */
static inline uint64_t extract(
    uint64_t a, uint32_t start, uint32_t length, uint32_t width, int sign)
{
    start &= 0xff;
    length &= 0xff;
    if (length == 0)
        return 0;
    uint32_t top = start + length - 1 < width - 1 ? start + length - 1 : width - 1;
    uint64_t fill = sign && (a >> top & 1) ? UINT64_MAX : 0;
    uint32_t inside = start < width ? width - start : 0;
    if (inside > length)
        inside = length;
    uint64_t low = inside == 0 ? 0 : inside >= 64 ? UINT64_MAX : (UINT64_C(1) << inside) - 1;
    uint64_t field = start < 64 ? a >> start : 0;
    return (field & low) | (fill & ~low);
}
ALU3(bfe_u32, u32, u32, u32, u32, extract(a, b, c, 32, 0))
ALU3(bfe_s32, u32, u32, u32, u32, extract(a, b, c, 32, 1))
ALU3(bfe_u64, u64, u64, u32, u32, extract(a, b, c, 64, 0))
ALU3(bfe_s64, u64, u64, u32, u32, extract(a, b, c, 64, 1))

static inline uint64_t insert(
    uint64_t a, uint64_t b, uint32_t start, uint32_t length, uint32_t width)
{
    start &= 0xff;
    length &= 0xff;
    if (start >= width || length == 0)
        return b;
    uint64_t field = length >= 64 ? UINT64_MAX : (UINT64_C(1) << length) - 1;
    return (b & ~(field << start)) | (a & field) << start;
}
#define INSERT(name, t, width)                                                                     \
    GPUSIM_ALU(name)                                                                               \
    {                                                                                              \
        GPUSIM_BEGIN(t)                                                                            \
        const S_##t *pa = GPUSIM_AT(S_##t, 1), *pb = GPUSIM_AT(S_##t, 2);                          \
        const gpusim_u32 *start = GPUSIM_AT(gpusim_u32, 3), *length = GPUSIM_AT(gpusim_u32, 4);    \
        GPUSIM_EACH_LANE                                                                           \
        out[lane] = (S_##t)insert(pa[lane], pb[lane], start[lane], length[lane], width);           \
        GPUSIM_END                                                                                 \
    }
INSERT(bfi_u32, u32, 32)
INSERT(bfi_u64, u64, 64)

/* Selector nibble: which of the eight bytes of {b, a}; its bit 3: that byte's sign, eight times. */
static inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int n = 0; n < 4; n++) {
        uint32_t nibble = selector >> 4 * n & 15;
        uint32_t byte = (uint32_t)(bytes >> 8 * (nibble & 7)) & 0xff;
        uint32_t sign = byte & 0x80 ? 0xff : 0;
        result |= (nibble & 8 ? sign : byte) << 8 * n;
    }
    return result;
}
ALU3(prmt_b32, u32, u32, u32, u32, permute(a, b, c))

/* r[4] is the truth table: bit 4a + 2b + c. */
GPUSIM_ALU(lop3_b32)
{
    GPUSIM_BEGIN(u32)
    const gpusim_u32 *pa = GPUSIM_AT(gpusim_u32, 1), *pb = GPUSIM_AT(gpusim_u32, 2);
    const gpusim_u32 *pc = GPUSIM_AT(gpusim_u32, 3), *table = GPUSIM_AT(gpusim_u32, 4);
    uint32_t t[8];
    for (int n = 0; n < 8; n++)
        t[n] = table[0] >> n & 1 ? UINT32_MAX : 0;
    GPUSIM_EACH_LANE
    {
        uint32_t a = pa[lane], b = pb[lane], c = pc[lane];
        uint32_t low = (~b & ((~c & t[0]) | (c & t[1]))) | (b & ((~c & t[2]) | (c & t[3])));
        uint32_t high = (~b & ((~c & t[4]) | (c & t[5]))) | (b & ((~c & t[6]) | (c & t[7])));
        out[lane] = (~a & low) | (a & high);
    }
    GPUSIM_END
}

#define DOT4(name, ta, tb)                                                                         \
    static inline uint32_t name##_lane(uint32_t a, uint32_t b, uint32_t c)                         \
    {                                                                                              \
        for (int n = 0; n < 4; n++)                                                                \
            c += (uint32_t)((int32_t)(ta)(a >> 8 * n) * (int32_t)(tb)(b >> 8 * n));                \
        return c;                                                                                  \
    }                                                                                              \
    ALU3(name, u32, u32, u32, u32, name##_lane(a, b, c))
DOT4(dp4a_s_s, int8_t, int8_t)
DOT4(dp4a_u_u, uint8_t, uint8_t)
DOT4(dp4a_s_u, int8_t, uint8_t)
DOT4(dp4a_u_s, uint8_t, int8_t)

/* Halves and wholes. */
ALU2(pack_b64, u64, u32, u32, (uint64_t)b << 32 | a)
ALU2(pack_b32, u32, u16, u16, (uint32_t)b << 16 | a)
GPUSIM_ALU(unpack_b64)
{
    uint32_t low[GPUSIM_LANES], high[GPUSIM_LANES];
    const gpusim_u64 *from = GPUSIM_AT(gpusim_u64, 2);
    GPUSIM_EACH_LANE
    {
        low[lane] = (uint32_t)from[lane];
        high[lane] = (uint32_t)(from[lane] >> 32);
    }
    gpusim_blend32(GPUSIM_AT(void, 0), low, mask);
    gpusim_blend32(GPUSIM_AT(void, 1), high, mask);
}
GPUSIM_ALU(unpack_b32)
{
    uint32_t low[GPUSIM_LANES], high[GPUSIM_LANES];
    const gpusim_u32 *from = GPUSIM_AT(gpusim_u32, 2);
    GPUSIM_EACH_LANE
    {
        low[lane] = from[lane] & 0xffff;
        high[lane] = from[lane] >> 16;
    }
    gpusim_blend32(GPUSIM_AT(void, 0), low, mask);
    gpusim_blend32(GPUSIM_AT(void, 1), high, mask);
}

/* Addresses of a space as generic addresses and back; r[2] is the space's window. */
ALU2(cvta, u64, u64, u64, a + b)
ALU2(cvta_to, u64, u64, u64, a - b)

#define COMPARE(t)                                                                                 \
    SETP(setp_lt_##t, t, a < b)                                                                    \
    SETP(setp_le_##t, t, a <= b)                                                                   \
    SETP(setp_gt_##t, t, a > b)                                                                    \
    SETP(setp_ge_##t, t, a >= b)
#define COMPARE_EQUAL(t)                                                                           \
    SETP(setp_eq_##t, t, a == b)                                                                   \
    SETP(setp_ne_##t, t, a != b)
COMPARE(u16)
COMPARE(s16)
COMPARE(u32)
COMPARE(s32)
COMPARE(u64)
COMPARE(s64)
COMPARE_EQUAL(u16)
COMPARE_EQUAL(u32)
COMPARE_EQUAL(u64)

#define I(spelling, operands, function) {spelling, operands, function, GPUSIM_INTEGER, KIND_ALU},
#define M(spelling, operands, function) {spelling, operands, function, GPUSIM_MOVE, KIND_ALU},
#define V(spelling, operands, function) {spelling, operands, function, GPUSIM_INTEGER, KIND_DIVIDE},
#define INTEGER_TYPE(t, o)                                                                         \
    I("add." #t, o ":" o o, add_##t)                                                               \
    I("sub." #t, o ":" o o, sub_##t)                                                               \
    I("mul.lo." #t, o ":" o o, mul_lo_##t)                                                         \
    I("mad.lo." #t, o ":" o o o, mad_lo_##t)                                                       \
    I("min." #t, o ":" o o, min_##t)                                                               \
    I("max." #t, o ":" o o, max_##t)                                                               \
    I("mul.hi." #t, o ":" o o, mul_hi_##t)                                                         \
    V("div." #t, o ":" o o, div_##t)                                                               \
    V("rem." #t, o ":" o o, rem_##t)                                                               \
    I("shr." #t, o ":" o "w", shr_##t)                                                             \
    I("setp.lt." #t, "q:" o o, setp_lt_##t)                                                        \
    I("setp.le." #t, "q:" o o, setp_le_##t)                                                        \
    I("setp.gt." #t, "q:" o o, setp_gt_##t)                                                        \
    I("setp.ge." #t, "q:" o o, setp_ge_##t)
#define UNSIGNED_TYPE(t, o)                                                                        \
    I("setp.lo." #t, "q:" o o, setp_lt_##t)                                                        \
    I("setp.ls." #t, "q:" o o, setp_le_##t)                                                        \
    I("setp.hi." #t, "q:" o o, setp_gt_##t)                                                        \
    I("setp.hs." #t, "q:" o o, setp_ge_##t)
#define SIGNED_TYPE(t, o)                                                                          \
    I("neg." #t, o ":" o, neg_##t)                                                                 \
    I("abs." #t, o ":" o, abs_##t)
/* b, s, u and f spellings of what has one meaning for all of them */
#define ANY(n, u, o)                                                                               \
    I("setp.eq.s" #n, "q:" o o, setp_eq_##u)                                                       \
    I("setp.ne.s" #n, "q:" o o, setp_ne_##u)                                                       \
    I("setp.eq.u" #n, "q:" o o, setp_eq_##u)                                                       \
    I("setp.ne.u" #n, "q:" o o, setp_ne_##u)                                                       \
    I("setp.eq.b" #n, "q:" o o, setp_eq_##u)                                                       \
    I("setp.ne.b" #n, "q:" o o, setp_ne_##u)
#define ANY_SLOT(n, u, o)                                                                          \
    I("and.b" #n, o ":" o o, and_##u)                                                              \
    I("or.b" #n, o ":" o o, or_##u)                                                                \
    I("xor.b" #n, o ":" o o, xor_##u)                                                              \
    I("not.b" #n, o ":" o, not_##u)                                                                \
    M("mov.b" #n, o ":" o, mov_##u)                                                                \
    M("mov.u" #n, o ":" o, mov_##u)                                                                \
    M("mov.s" #n, o ":" o, mov_##u)                                                                \
    M("selp.b" #n, o ":" o o "p", selp_##u)                                                        \
    M("selp.u" #n, o ":" o o "p", selp_##u)                                                        \
    M("selp.s" #n, o ":" o o "p", selp_##u)

const struct gpusim_alu_entry GPUSIM_VEC(gpusim_int_table)[] = {INTEGER_TYPE(u16, "w") INTEGER_TYPE(
    s16, "w") INTEGER_TYPE(u32, "w") INTEGER_TYPE(s32, "w") INTEGER_TYPE(u64, "d") INTEGER_TYPE(s64,
    "d") UNSIGNED_TYPE(u16, "w") UNSIGNED_TYPE(u32, "w") UNSIGNED_TYPE(u64, "d") SIGNED_TYPE(s16,
    "w") SIGNED_TYPE(s32, "w") SIGNED_TYPE(s64, "d") ANY(16, u16, "w") ANY(32, u32, "w") ANY(64,
    u64, "d") ANY_SLOT(16, u32, "w") ANY_SLOT(32, u32, "w") ANY_SLOT(64, u64, "d") M("mov.f32",
    "w:w", mov_u32) M("mov.f64", "d:d", mov_u64) M("mov.pred", "p:p", mov_u32) M("selp.f32",
    "w:wwp", selp_u32) M("selp.f64", "d:ddp", selp_u64) I("and.pred", "p:pp", and_u32) I("or.pred",
    "p:pp", or_u32) I("xor.pred", "p:pp", xor_u32) I("not.pred", "p:p", not_u32) I("cnot.b32",
    "w:w", cnot_u32) I("cnot.b64", "d:d", cnot_u64) I("slct.b32.s32",
    "w:www", slct_u32_s32) I("slct.u32.s32", "w:www", slct_u32_s32) I("slct.s32.s32",
    "w:www", slct_u32_s32) I("slct.f32.s32", "w:www", slct_u32_s32) I("slct.b64.s32", "d:ddw",
    slct_u64_s32) I("slct.ftz.f32.f32", "w:www", slct_u32_f32)
        I("shl.b16", "w:ww", shl_u16) I("shl.b32", "w:ww", shl_u32) I("shl.b64", "d:dw", shl_u64) I(
            "shr.b16", "w:ww", shr_u16) I("shr.b32", "w:ww", shr_u32) I("shr.b64", "d:dw",
            shr_u64) I("mul.wide.u16", "w:ww", mul_wide_u16) I("mul.wide.s16", "w:ww",
            mul_wide_s16) I("mul.wide.u32", "d:ww",
            mul_wide_u32) I("mul.wide.s32", "d:ww", mul_wide_s32)
            I("mad.wide.u16", "w:www", mad_wide_u16) I("mad.wide.s16", "w:www", mad_wide_s16)
                I("mad.wide.u32", "d:wwd", mad_wide_u32) I("mad.wide.s32", "d:wwd", mad_wide_s32) I(
                    "mad.hi.u32", "w:www", mad_hi_u32) I("mad.hi.s32", "w:www",
                    mad_hi_s32) I("mul24.lo.u32", "w:ww", mul24_lo_u32) I("sad.u32", "w:www",
                    sad_u32) I("sad.s32", "w:www", sad_s32) I("shf.l.wrap.b32", "w:www", shf_l_wrap)
                    I("shf.r.wrap.b32", "w:www", shf_r_wrap) I("shf.l.clamp.b32", "w:www",
                        shf_l_clamp) I("shf.r.clamp.b32", "w:www", shf_r_clamp) I("popc.b32",
                        "w:w", popc_u32) I("popc.b64", "w:d", popc_u64) I("clz.b32", "w:w", clz_u32)
                        I("clz.b64", "w:d", clz_u64) I("brev.b32", "w:w", brev_u32) I("brev.b64",
                            "d:d", brev_u64) I("bfind.u32", "w:w", bfind_u32) I("bfind.s32", "w:w",
                            bfind_s32) I("bfind.u64", "w:d", bfind_u64) I("bfind.s64", "w:d",
                            bfind_s64) I("bfind.shiftamt.u32", "w:w", bfind_shift_u32)
                            I("bfind.shiftamt.s32", "w:w", bfind_shift_s32) I("bfind.shiftamt.u64",
                                "w:d", bfind_shift_u64) I("bfe.u32", "w:www", bfe_u32)
                                I("bfe.s32", "w:www", bfe_s32) I("bfe.u64", "d:dww", bfe_u64) I(
                                    "bfe.s64", "d:dww", bfe_s64) I("bfi.b32", "w:wwww", bfi_u32)
                                    I("bfi.b64", "d:ddww", bfi_u64) I("prmt.b32", "w:www", prmt_b32)
                                        I("lop3.b32", "w:wwww", lop3_b32) I("dp4a.s32.s32", "w:www",
                                            dp4a_s_s) I("dp4a.u32.u32", "w:www", dp4a_u_u)
                                            I("dp4a.s32.u32", "w:www", dp4a_s_u)
                                                I("dp4a.u32.s32", "w:www", dp4a_u_s)
    /* spellings the decoder makes up */
    M("pack.b64", "d:ww", pack_b64) M("pack.b32", "w:ww", pack_b32)
        M("unpack.b64", "ww:d", unpack_b64) M("unpack.b32", "ww:w", unpack_b32)
            I("cvta", "d:dd", cvta) I("cvta.to", "d:dd", cvta_to){NULL, NULL, NULL, 0, 0}};
