/* How lane-by-lane instructions are written: one loop over 32 lanes that the compiler vectorises,
 * and a blend where only some lanes take part. Included by the sim_alu_*.c files, which are
 * compiled once per instruction set of the host (OCT_VEC). */
#ifndef GPUSIM_SIM_ALU_H
#define GPUSIM_SIM_ALU_H

#include "sim_core.h"

#include <math.h>
#include <string.h>

#define GPUSIM_PASTE_(a, b) a##_##b
#define GPUSIM_PASTE(a, b) GPUSIM_PASTE_(a, b)
#ifndef OCT_VEC
#define OCT_VEC base
#endif
/* NAME_base or NAME_avx512 */
#define GPUSIM_VEC(name) GPUSIM_PASTE(name, OCT_VEC)

/* What lies in a slot (S_) and what an operand of the type is (V_). Registers are untyped memory.
 */
typedef uint32_t gpusim_u32 __attribute__((may_alias));
typedef uint64_t gpusim_u64 __attribute__((may_alias));
typedef float gpusim_f32 __attribute__((may_alias));
typedef double gpusim_f64 __attribute__((may_alias));
#define S_u8 gpusim_u32
#define S_s8 gpusim_u32
#define S_u16 gpusim_u32
#define S_s16 gpusim_u32
#define S_u32 gpusim_u32
#define S_s32 gpusim_u32
#define S_u64 gpusim_u64
#define S_s64 gpusim_u64
#define S_f32 gpusim_f32
#define S_f64 gpusim_f64
#define S_pred gpusim_u32
#define V_u8 uint8_t
#define V_s8 int8_t
#define V_u16 uint16_t
#define V_s16 int16_t
#define V_u32 uint32_t
#define V_s32 int32_t
#define V_u64 uint64_t
#define V_s64 int64_t
#define V_f32 float
#define V_f64 double
#define V_pred uint32_t

/* Lanes do not depend on each other, which lets the compiler use vectors. clang's pragma for it
 * warns of every loop that has no use for them. */
#ifdef __clang__
#define GPUSIM_INDEPENDENT
#else
#define GPUSIM_INDEPENDENT _Pragma("GCC ivdep")
#endif
#define GPUSIM_EACH_LANE GPUSIM_INDEPENDENT for (int lane = 0; lane < GPUSIM_LANES; lane++)

/* Moves the lanes of `mask` from `from` to `to`. */
static inline void gpusim_blend32(void *to, const void *from, uint32_t mask)
{
    gpusim_u32 *t = to;
    const gpusim_u32 *f = from;
    GPUSIM_EACH_LANE
    t[lane] = mask >> lane & 1 ? f[lane] : t[lane];
}

static inline void gpusim_blend64(void *to, const void *from, uint32_t mask)
{
    gpusim_u64 *t = to;
    const gpusim_u64 *f = from;
    GPUSIM_EACH_LANE
    t[lane] = mask >> lane & 1 ? f[lane] : t[lane];
}

#define GPUSIM_AT(type, n) ((type *)(void *)(regs + inst->r[n]))
#define GPUSIM_ALU(name)                                                                           \
    static void name(const struct gpusim_inst *inst, unsigned char *regs, uint32_t mask)
/* Declares out: the destination itself if every lane takes part. */
#define GPUSIM_BEGIN(td)                                                                           \
    S_##td partial[GPUSIM_LANES] __attribute__((aligned(64)));                                     \
    S_##td *out = mask == UINT32_MAX ? GPUSIM_AT(S_##td, 0) : partial;
#define GPUSIM_END                                                                                 \
    if (out == partial) {                                                                          \
        if (sizeof *out == 8)                                                                      \
            gpusim_blend64(GPUSIM_AT(void, 0), partial, mask);                                     \
        else                                                                                       \
            gpusim_blend32(GPUSIM_AT(void, 0), partial, mask);                                     \
    }

/* Functions of one, two and three operands a, b, c; td, ta, ... are names of types. */
#define ALU1(name, td, ta, expression)                                                             \
    GPUSIM_ALU(name)                                                                               \
    {                                                                                              \
        GPUSIM_BEGIN(td)                                                                           \
        const S_##ta *pa = GPUSIM_AT(S_##ta, 1);                                                   \
        GPUSIM_EACH_LANE                                                                           \
        {                                                                                          \
            const V_##ta a = (V_##ta)pa[lane];                                                     \
            out[lane] = (S_##td)(expression);                                                      \
        }                                                                                          \
        GPUSIM_END                                                                                 \
    }
#define ALU2(name, td, ta, tb, expression)                                                         \
    GPUSIM_ALU(name)                                                                               \
    {                                                                                              \
        GPUSIM_BEGIN(td)                                                                           \
        const S_##ta *pa = GPUSIM_AT(S_##ta, 1);                                                   \
        const S_##tb *pb = GPUSIM_AT(S_##tb, 2);                                                   \
        GPUSIM_EACH_LANE                                                                           \
        {                                                                                          \
            const V_##ta a = (V_##ta)pa[lane];                                                     \
            const V_##tb b = (V_##tb)pb[lane];                                                     \
            out[lane] = (S_##td)(expression);                                                      \
        }                                                                                          \
        GPUSIM_END                                                                                 \
    }
#define ALU3(name, td, ta, tb, tc, expression)                                                     \
    GPUSIM_ALU(name)                                                                               \
    {                                                                                              \
        GPUSIM_BEGIN(td)                                                                           \
        const S_##ta *pa = GPUSIM_AT(S_##ta, 1);                                                   \
        const S_##tb *pb = GPUSIM_AT(S_##tb, 2);                                                   \
        const S_##tc *pc = GPUSIM_AT(S_##tc, 3);                                                   \
        GPUSIM_EACH_LANE                                                                           \
        {                                                                                          \
            const V_##ta a = (V_##ta)pa[lane];                                                     \
            const V_##tb b = (V_##tb)pb[lane];                                                     \
            const V_##tc c = (V_##tc)pc[lane];                                                     \
            out[lane] = (S_##td)(expression);                                                      \
        }                                                                                          \
        GPUSIM_END                                                                                 \
    }

/* Ends a setp: `truth` holds 0 or ~0 per lane. r[0] = truth OP source, r[1] = !truth OP source
 * (unless nobody wants it); the source predicate is r[4] with mode 1 and, 2 or, 3 xor. */
static inline void gpusim_finish_setp(
    const struct gpusim_inst *inst, unsigned char *regs, uint32_t mask, const uint32_t *truth)
{
    uint32_t first[GPUSIM_LANES], second[GPUSIM_LANES];
    const gpusim_u32 *source = GPUSIM_AT(gpusim_u32, 4);
    const uint32_t flip = inst->operand_not ? UINT32_MAX : 0;
    for (int lane = 0; lane < GPUSIM_LANES; lane++) {
        uint32_t c = source[lane] ^ flip, t = truth[lane];
        switch (inst->mode) {
        case 1:
            first[lane] = t & c;
            second[lane] = ~t & c;
            break;
        case 2:
            first[lane] = t | c;
            second[lane] = ~t | c;
            break;
        case 3:
            first[lane] = t ^ c;
            second[lane] = ~t ^ c;
            break;
        default:
            first[lane] = t;
            second[lane] = ~t;
        }
    }
    gpusim_blend32(GPUSIM_AT(void, 0), first, mask);
    if (inst->r[1] != SPECIAL_TRASH * GPUSIM_SLOT)
        gpusim_blend32(GPUSIM_AT(void, 1), second, mask);
}

#define SETP(name, t, condition)                                                                   \
    GPUSIM_ALU(name)                                                                               \
    {                                                                                              \
        uint32_t truth[GPUSIM_LANES] __attribute__((aligned(64)));                                 \
        const S_##t *pa = GPUSIM_AT(S_##t, 2);                                                     \
        const S_##t *pb = GPUSIM_AT(S_##t, 3);                                                     \
        GPUSIM_EACH_LANE                                                                           \
        {                                                                                          \
            const V_##t a = (V_##t)pa[lane], b = (V_##t)pb[lane];                                  \
            truth[lane] = (condition) ? UINT32_MAX : 0;                                            \
        }                                                                                          \
        if (inst->mode == 0 && mask == UINT32_MAX && inst->r[1] == SPECIAL_TRASH * GPUSIM_SLOT)    \
            memcpy(GPUSIM_AT(void, 0), truth, sizeof truth);                                       \
        else                                                                                       \
            gpusim_finish_setp(inst, regs, mask, truth);                                           \
    }

#endif
