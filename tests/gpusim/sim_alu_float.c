/* Floating point, lane by lane. The host thread flushes subnormals (FTZ and DAZ) while a kernel
 * runs: that is what .ftz means. Instructions without .ftz, and all of f64, are KIND_ALU_IEEE and
 * run with subnormals kept. There are no .approx instructions here on purpose: their results are
 * not defined to the bit. */
#include "sim_alu.h"

/* The GPU's one NaN of f32. f64 keeps what the host makes of it. */
static inline float canonical(float v)
{
    const uint32_t bits = 0x7fffffff;
    float nan;
    memcpy(&nan, &bits, sizeof nan);
    return v == v ? v : nan;
}

/* The larger or smaller; a number wins over NaN and -0 is below +0. */
static inline float smaller32(float a, float b)
{
    float least = a < b ? a : a > b ? b : signbit(a) ? a : b;
    return canonical(a != a ? b : b != b ? a : least);
}
static inline float larger32(float a, float b)
{
    float most = a > b ? a : a < b ? b : signbit(a) ? b : a;
    return canonical(a != a ? b : b != b ? a : most);
}
static inline double smaller64(double a, double b)
{
    double least = a < b ? a : a > b ? b : signbit(a) ? a : b;
    return a != a ? b : b != b ? a : least;
}
static inline double larger64(double a, double b)
{
    double most = a > b ? a : a < b ? b : signbit(a) ? b : a;
    return a != a ? b : b != b ? a : most;
}

/* Adding zero flushes a subnormal where subnormals are flushed, and nowhere else. (A product by one
 * the compiler would drop.) */
static inline float flushed(float v)
{
    return copysignf(v + 0.0f, v);
}

ALU2(add_f32, f32, f32, f32, canonical(a + b))
ALU2(sub_f32, f32, f32, f32, canonical(a - b))
ALU2(mul_f32, f32, f32, f32, canonical(a *b))
ALU3(fma_f32, f32, f32, f32, f32, canonical(fmaf(a, b, c)))
ALU2(div_f32, f32, f32, f32, canonical(a / b))
ALU1(rcp_f32, f32, f32, canonical(1.0f / a))
ALU1(sqrt_f32, f32, f32, canonical(sqrtf(a)))
ALU2(min_f32, f32, f32, f32, smaller32(flushed(a), flushed(b)))
ALU2(max_f32, f32, f32, f32, larger32(flushed(a), flushed(b)))
ALU1(abs_f32, f32, f32, fabsf(flushed(a)))
ALU1(neg_f32, f32, f32, -flushed(a))
ALU2(copysign_f32, f32, f32, f32, copysignf(b, a))
ALU2(add_sat_f32, f32, f32, f32, fminf(fmaxf(a + b, 0.0f), 1.0f))
ALU2(mul_sat_f32, f32, f32, f32, fminf(fmaxf(a *b, 0.0f), 1.0f))

ALU2(add_f64, f64, f64, f64, a + b)
ALU2(sub_f64, f64, f64, f64, a - b)
ALU2(mul_f64, f64, f64, f64, a *b)
ALU3(fma_f64, f64, f64, f64, f64, fma(a, b, c))
ALU2(div_f64, f64, f64, f64, a / b)
ALU1(rcp_f64, f64, f64, 1.0 / a)
ALU1(sqrt_f64, f64, f64, sqrt(a))
ALU2(min_f64, f64, f64, f64, smaller64(a, b))
ALU2(max_f64, f64, f64, f64, larger64(a, b))
ALU1(abs_f64, f64, f64, fabs(a))
ALU1(neg_f64, f64, f64, -a)
ALU2(copysign_f64, f64, f64, f64, copysign(b, a))

#define COMPARE(t)                                                                                 \
    SETP(setp_eq_##t, t, a == b)                                                                   \
    SETP(setp_ne_##t, t, a<b || a> b)                                                              \
    SETP(setp_lt_##t, t, a < b)                                                                    \
    SETP(setp_le_##t, t, a <= b)                                                                   \
    SETP(setp_gt_##t, t, a > b)                                                                    \
    SETP(setp_ge_##t, t, a >= b)                                                                   \
    SETP(setp_equ_##t, t, !(a < b || a > b))                                                       \
    SETP(setp_neu_##t, t, a != b)                                                                  \
    SETP(setp_ltu_##t, t, !(a >= b))                                                               \
    SETP(setp_leu_##t, t, !(a > b))                                                                \
    SETP(setp_gtu_##t, t, !(a <= b))                                                               \
    SETP(setp_geu_##t, t, !(a < b))                                                                \
    SETP(setp_num_##t, t, a == a && b == b)                                                        \
    SETP(setp_nan_##t, t, a != a || b != b)
COMPARE(f32)
COMPARE(f64)

/* Tests of one operand look at the bits: r[0] truth, r[2] operand, as setp has them. */
#define TESTP(name, t, condition) SETP(testp_##name, t, ((void)b, condition))
#define BELOW_INF32(a) (((a)&0x7fffffffu) < 0x7f800000u)
#define BELOW_INF64(a) (((a) << 1) < UINT64_C(0x7ff0000000000000) << 1)
TESTP(finite_f32, u32, BELOW_INF32(a))
TESTP(infinite_f32, u32, (a & 0x7fffffffu) == 0x7f800000u)
TESTP(number_f32, u32, (a & 0x7fffffffu) <= 0x7f800000u)
TESTP(notanumber_f32, u32, (a & 0x7fffffffu) > 0x7f800000u)
TESTP(normal_f32, u32, BELOW_INF32(a) && (a & 0x7f800000u))
TESTP(subnormal_f32, u32, !(a & 0x7f800000u) && (a & 0x7fffffu))
TESTP(finite_f64, u64, BELOW_INF64(a))
TESTP(infinite_f64, u64, a << 1 == UINT64_C(0x7ff0000000000000) << 1)
TESTP(number_f64, u64, a << 1 <= UINT64_C(0x7ff0000000000000) << 1)
TESTP(notanumber_f64, u64, a << 1 > UINT64_C(0x7ff0000000000000) << 1)

#define F(spelling, operands, function) {spelling, operands, function, GPUSIM_FLOAT, KIND_ALU},
#define K(spelling, operands, function) {spelling, operands, function, GPUSIM_FLOAT, KIND_ALU_IEEE},
#define D(spelling, operands, function)                                                            \
    {spelling, operands, function, GPUSIM_DOUBLE, KIND_ALU_IEEE},
/* f32 with and without .ftz, with .rn written or left out */
#define BOTH(stem, operands, function)                                                             \
    F(stem ".ftz.f32", operands, function) K(stem ".f32", operands, function)
#define ROUNDED(stem, operands, function)                                                          \
    BOTH(stem, operands, function) BOTH(stem ".rn", operands, function)
#define COMPARISONS(c)                                                                             \
    BOTH("setp." #c, "q:ww", setp_##c##_f32) D("setp." #c ".f64", "q:dd", setp_##c##_f64)

const struct gpusim_alu_entry GPUSIM_VEC(gpusim_float_table)[] = {ROUNDED("add", "w:ww",
    add_f32) ROUNDED("sub", "w:ww", sub_f32) ROUNDED("mul", "w:ww", mul_f32) BOTH("fma.rn", "w:www",
    fma_f32) BOTH("mad.rn", "w:www", fma_f32) BOTH("div.rn", "w:ww", div_f32) BOTH("rcp.rn", "w:w",
    rcp_f32) BOTH("sqrt.rn", "w:w", sqrt_f32) BOTH("min", "w:ww", min_f32) BOTH("max", "w:ww",
    max_f32) BOTH("abs", "w:w", abs_f32) BOTH("neg", "w:w", neg_f32) K("copysign.f32", "w:ww",
    copysign_f32) F("add.ftz.sat.f32", "w:ww", add_sat_f32) F("mul.ftz.sat.f32", "w:ww",
    mul_sat_f32) D("add.f64", "d:dd", add_f64) D("add.rn.f64", "d:dd", add_f64) D("sub.f64", "d:dd",
    sub_f64) D("sub.rn.f64", "d:dd", sub_f64) D("mul.f64", "d:dd", mul_f64) D("mul.rn.f64", "d:dd",
    mul_f64) D("fma.rn.f64", "d:ddd", fma_f64) D("mad.rn.f64", "d:ddd", fma_f64)
        D("div.rn.f64", "d:dd", div_f64) D("rcp.rn.f64", "d:d", rcp_f64) D(
            "sqrt.rn.f64", "d:d", sqrt_f64) D("min.f64", "d:dd", min_f64)
            D("max.f64", "d:dd", max_f64) D("abs.f64", "d:d", abs_f64) D("neg.f64", "d:d", neg_f64)
                D("copysign.f64", "d:dd", copysign_f64) COMPARISONS(eq) COMPARISONS(ne) COMPARISONS(
                    lt) COMPARISONS(le) COMPARISONS(gt) COMPARISONS(ge) COMPARISONS(equ)
                    COMPARISONS(neu) COMPARISONS(ltu) COMPARISONS(leu) COMPARISONS(gtu) COMPARISONS(
                        geu) COMPARISONS(num) COMPARISONS(nan) K("testp.finite.f32", "q:w",
                        testp_finite_f32) K("testp.infinite.f32", "q:w", testp_infinite_f32)
                        K("testp.number.f32", "q:w", testp_number_f32) K("testp.notanumber.f32",
                            "q:w", testp_notanumber_f32) K("testp.normal.f32", "q:w",
                            testp_normal_f32) K("testp.subnormal.f32", "q:w", testp_subnormal_f32)
                            D("testp.finite.f64", "q:d", testp_finite_f64)
                                D("testp.infinite.f64", "q:d", testp_infinite_f64)
                                    D("testp.number.f64", "q:d", testp_number_f64)
                                        D("testp.notanumber.f64", "q:d", testp_notanumber_f64){
                                            NULL, NULL, NULL, 0, 0}};
