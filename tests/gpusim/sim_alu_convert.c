/* cvt. An integer result narrower than its register is extended by its own sign. A float becomes
 * an integer by the named rounding, then saturates; NaN becomes 0, or the lowest bit pattern with
 * only the top bit set where source or result has 64 bits. */
#include "sim_alu.h"

#define NARROW(tag, td, ta) ALU1(cvt_##td##_##ta, tag, ta, (V_##td)a)
#define FROM_EACH_INTEGER(macro, tag, td)                                                          \
    macro(tag, td, u8) macro(tag, td, s8) macro(tag, td, u16) macro(tag, td, s16)                  \
        macro(tag, td, u32) macro(tag, td, s32) macro(tag, td, u64) macro(tag, td, s64)
/* Destination slots: 32 bits (extended as int or unsigned) or 64. */
FROM_EACH_INTEGER(NARROW, u32, u8)
FROM_EACH_INTEGER(NARROW, u32, s8)
FROM_EACH_INTEGER(NARROW, u32, u16)
FROM_EACH_INTEGER(NARROW, u32, s16)
FROM_EACH_INTEGER(NARROW, u32, u32)
FROM_EACH_INTEGER(NARROW, u32, s32)
FROM_EACH_INTEGER(NARROW, u64, u64)
FROM_EACH_INTEGER(NARROW, u64, s64)

/* Saturating: the value as a 128-bit integer, held between the ends of the type. */
static inline int64_t held(__int128 v, __int128 low, __int128 high)
{
    return (int64_t)(v < low ? low : v > high ? high : v);
}
#define SATURATE(td, low, high)                                                                    \
    ALU1(sat_##td##_u32, u32, u32, (V_##td)held(a, low, high))                                     \
    ALU1(sat_##td##_s32, u32, s32, (V_##td)held(a, low, high))                                     \
    ALU1(sat_##td##_u64, u32, u64, (V_##td)held(a, low, high))                                     \
    ALU1(sat_##td##_s64, u32, s64, (V_##td)held(a, low, high))
SATURATE(u8, 0, UINT8_MAX)
SATURATE(s8, INT8_MIN, INT8_MAX)
SATURATE(u16, 0, UINT16_MAX)
SATURATE(s16, INT16_MIN, INT16_MAX)
SATURATE(u32, 0, UINT32_MAX)
SATURATE(s32, INT32_MIN, INT32_MAX)

/* Float to integer. `high` is the first double above the range. */
#define LIMIT(name, type, low, high, most, nan32)                                                  \
    static inline type name(double v, int from64)                                                  \
    {                                                                                              \
        double safe = v > (low) ? v : (low);                                                       \
        safe = safe < (high) ? safe : 0.0;                                                         \
        type result = (type)safe;                                                                  \
        result = v >= (high) ? (type)(most) : result;                                              \
        type nan = from64 || sizeof(type) == 8 ? (type)(UINT64_C(1) << (8 * sizeof(type) - 1))     \
                                               : (type)(nan32);                                    \
        return v == v ? result : nan;                                                              \
    }
LIMIT(limit_u8, uint8_t, 0.0, 256.0, UINT8_MAX, 0)
LIMIT(limit_s8, int8_t, -128.0, 128.0, INT8_MAX, 0)
LIMIT(limit_u16, uint16_t, 0.0, 65536.0, UINT16_MAX, 0)
LIMIT(limit_s16, int16_t, -32768.0, 32768.0, INT16_MAX, 0)
LIMIT(limit_u32, uint32_t, 0.0, 4294967296.0, UINT32_MAX, 0)
LIMIT(limit_s32, int32_t, -2147483648.0, 2147483648.0, INT32_MAX, 0)
LIMIT(limit_u64, uint64_t, 0.0, 18446744073709551616.0, UINT64_MAX, 0)
LIMIT(limit_s64, int64_t, -9223372036854775808.0, 9223372036854775808.0, INT64_MAX, 0)

#define ROUND_ONE(mode, round, td, tag)                                                            \
    ALU1(cvt_##mode##_##td##_f32, tag, f32, limit_##td(round((double)a), 0))                       \
    ALU1(cvt_##mode##_##td##_f64, tag, f64, limit_##td(round(a), 1))
#define ROUND_EACH(td, tag)                                                                        \
    ROUND_ONE(rni, rint, td, tag)                                                                  \
    ROUND_ONE(rzi, trunc, td, tag)                                                                 \
    ROUND_ONE(rmi, floor, td, tag)                                                                 \
    ROUND_ONE(rpi, ceil, td, tag)
ROUND_EACH(u8, u32)
ROUND_EACH(s8, u32)
ROUND_EACH(u16, u32)
ROUND_EACH(s16, u32)
ROUND_EACH(u32, u32)
ROUND_EACH(s32, u32)
ROUND_EACH(u64, u64)
ROUND_EACH(s64, u64)

/* Integer to float, nearest. */
#define TO_FLOAT(td, ta) ALU1(cvt_rn_##td##_##ta, td, ta, (V_##td)a)
#define TO_FLOATS(ta) TO_FLOAT(f32, ta) TO_FLOAT(f64, ta)
TO_FLOATS(u8)
TO_FLOATS(s8)
TO_FLOATS(u16)
TO_FLOATS(s16)
TO_FLOATS(u32)
TO_FLOATS(s32)
TO_FLOATS(u64)
TO_FLOATS(s64)

/* Float to float; adding zero flushes where that is on. NaN becomes the GPU's. */
static inline float tidy(float v)
{
    const uint32_t bits = 0x7fffffff;
    float nan;
    memcpy(&nan, &bits, sizeof nan);
    return v == v ? copysignf(v + 0.0f, v) : nan;
}
ALU1(cvt_f32_f64, f32, f64, tidy((float)a))
ALU1(cvt_f64_f32, f64, f32, (double)a)
ALU1(round_rni_f32, f32, f32, tidy(rintf(a)))
ALU1(round_rzi_f32, f32, f32, tidy(truncf(a)))
ALU1(round_rmi_f32, f32, f32, tidy(floorf(a)))
ALU1(round_rpi_f32, f32, f32, tidy(ceilf(a)))
ALU1(round_rni_f64, f64, f64, rint(a))
ALU1(round_rzi_f64, f64, f64, trunc(a))
ALU1(round_rmi_f64, f64, f64, floor(a))
ALU1(round_rpi_f64, f64, f64, ceil(a))
ALU1(sat_f32, f32, f32, a > 0.0f ? (a < 1.0f ? tidy(a) : 1.0f) : 0.0f)
ALU1(same_f32, f32, f32, tidy(a))

/* bf16: nearest, ties to even; NaN is 0x7fff. */
static inline uint32_t bf16_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return v == v ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : 0x7fff;
}
static inline float of_bf16(uint32_t b)
{
    float v;
    b <<= 16;
    memcpy(&v, &b, sizeof v);
    return v;
}
ALU1(cvt_bf16_f32, u32, f32, bf16_of(a))
ALU1(cvt_f32_bf16, f32, u16, of_bf16(a))
ALU2(cvt_bf16x2_f32, u32, f32, f32, bf16_of(a) << 16 | bf16_of(b))

#define C(spelling, operands, function) {spelling, operands, function, GPUSIM_CONVERT, KIND_ALU},
#define K(spelling, operands, function)                                                            \
    {spelling, operands, function, GPUSIM_CONVERT, KIND_ALU_IEEE},
#define E_NARROW(o, td, ta, oa) C("cvt." #td "." #ta, o ":" oa, cvt_##td##_##ta)
#define E_FROM_INTEGERS(o, td)                                                                     \
    E_NARROW(o, td, u8, "x")                                                                       \
    E_NARROW(o, td, s8, "x")                                                                       \
    E_NARROW(o, td, u16, "x")                                                                      \
    E_NARROW(o, td, s16, "x")                                                                      \
    E_NARROW(o, td, u32, "x")                                                                      \
    E_NARROW(o, td, s32, "x") E_NARROW(o, td, u64, "d") E_NARROW(o, td, s64, "d")
#define E_SATURATE(td)                                                                             \
    C("cvt.sat." #td ".u32", "w:x", sat_##td##_u32)                                                \
    C("cvt.sat." #td ".s32", "w:x", sat_##td##_s32)                                                \
    C("cvt.sat." #td ".u64", "w:d", sat_##td##_u64)                                                \
    C("cvt.sat." #td ".s64", "w:d", sat_##td##_s64)
#define E_ROUND(mode, td, o)                                                                       \
    C("cvt." #mode ".ftz." #td ".f32", o ":w", cvt_##mode##_##td##_f32)                            \
    K("cvt." #mode "." #td ".f32", o ":w", cvt_##mode##_##td##_f32)                                \
    C("cvt." #mode ".ftz.sat." #td ".f32", o ":w", cvt_##mode##_##td##_f32)                        \
    K("cvt." #mode ".sat." #td ".f32", o ":w", cvt_##mode##_##td##_f32)                            \
    K("cvt." #mode "." #td ".f64", o ":d", cvt_##mode##_##td##_f64)
#define E_ROUND_EACH(td, o)                                                                        \
    E_ROUND(rni, td, o) E_ROUND(rzi, td, o) E_ROUND(rmi, td, o) E_ROUND(rpi, td, o)
#define E_TO_FLOAT(ta, oa)                                                                         \
    C("cvt.rn.f32." #ta, "w:" oa, cvt_rn_f32_##ta) K("cvt.rn.f64." #ta, "d:" oa, cvt_rn_f64_##ta)
#define E_ROUND_FLOAT(mode)                                                                        \
    C("cvt." #mode ".ftz.f32.f32", "w:w", round_##mode##_f32)                                      \
    K("cvt." #mode ".f32.f32", "w:w", round_##mode##_f32)                                          \
    K("cvt." #mode ".f64.f64", "d:d", round_##mode##_f64)

const struct gpusim_alu_entry GPUSIM_VEC(gpusim_convert_table)[] = {
    E_FROM_INTEGERS("w", u8) E_FROM_INTEGERS("w", s8) E_FROM_INTEGERS("w", u16) E_FROM_INTEGERS(
        "w", s16) E_FROM_INTEGERS("w", u32) E_FROM_INTEGERS("w", s32) E_FROM_INTEGERS("d",
        u64) E_FROM_INTEGERS("d", s64) E_SATURATE(u8) E_SATURATE(s8) E_SATURATE(u16) E_SATURATE(s16)
        E_SATURATE(u32) E_SATURATE(s32) E_ROUND_EACH(u8, "w") E_ROUND_EACH(s8, "w") E_ROUND_EACH(
            u16, "w") E_ROUND_EACH(s16, "w") E_ROUND_EACH(u32, "w") E_ROUND_EACH(s32, "w")
            E_ROUND_EACH(u64, "d") E_ROUND_EACH(s64, "d") E_TO_FLOAT(u8, "x") E_TO_FLOAT(s8, "x")
                E_TO_FLOAT(u16, "x") E_TO_FLOAT(s16, "x") E_TO_FLOAT(u32, "x") E_TO_FLOAT(s32, "x")
                    E_TO_FLOAT(u64, "d") E_TO_FLOAT(s64, "d") E_ROUND_FLOAT(rni) E_ROUND_FLOAT(
                        rzi) E_ROUND_FLOAT(rmi) E_ROUND_FLOAT(rpi) C("cvt.rn.ftz.f32.f64", "w:d",
                        cvt_f32_f64) K("cvt.rn.f32.f64", "w:d", cvt_f32_f64) C("cvt.ftz.f64.f32",
                        "d:w", cvt_f64_f32) K("cvt.f64.f32", "d:w", cvt_f64_f32)
                        C("cvt.ftz.sat.f32.f32", "w:w", sat_f32) K("cvt.sat.f32.f32", "w:w",
                            sat_f32) C("cvt.ftz.f32.f32", "w:w", same_f32) K("cvt.rn.bf16.f32",
                            "w:w", cvt_bf16_f32) K("cvt.rn.bf16x2.f32", "w:ww", cvt_bf16x2_f32)
                            K("cvt.f32.bf16", "w:w", cvt_f32_bf16){NULL, NULL, NULL, 0, 0}};
