/* The meaning of PTX instructions in gpusim against values worked out by hand. Floats are written
 * as their bits: 3f800000 is 1, 40000000 is 2, 7f800000 infinity, 00000001 the least subnormal. */
#include <criterion/criterion.h>

#include "ptx_bench.h"

#define CHECK(body, ...)                                                                           \
    cr_expect_eq(ptx_check(body, (const struct ptx_row[]){__VA_ARGS__},                            \
                     sizeof((const struct ptx_row[]){__VA_ARGS__}) / sizeof(struct ptx_row)),      \
        0, "%s", body)
#define M UINT32_MAX

Test(gpusim_ops, add_and_subtract)
{
    CHECK("add.s32 %o, %a, %b;", {1, 2, 0, 3}, {M, 1, 0, 0}, {0x7fffffff, 1, 0, 0x80000000});
    CHECK("sub.u32 %o, %a, %b;", {1, 2, 0, M}, {7, 7, 0, 0});
    CHECK("add.s64 %O, %A, %B;", {0xffffffff, 1, 0, 0x100000000}, {UINT64_MAX, 1, 0, 0});
    CHECK("sub.s64 %O, %A, %B;", {0, 1, 0, UINT64_MAX});
    CHECK("cvt.u16.u32 %h, %a;\ncvt.u16.u32 %k, %b;\nadd.s16 %h, %h, %k;\ncvt.u32.u16 %o, %h;",
        {0xffff, 2, 0, 1}, {0x7fff, 1, 0, 0x8000});
    CHECK("add.s32 %o, %a, -5;", {3, 0, 0, 0xfffffffe});
}

Test(gpusim_ops, multiply)
{
    CHECK("mul.lo.s32 %o, %a, %b;", {3, 5, 0, 15}, {0x10000, 0x10000, 0, 0}, {M, M, 0, 1});
    CHECK("mul.hi.u32 %o, %a, %b;", {0x10000, 0x10000, 0, 1}, {M, M, 0, 0xfffffffe});
    CHECK("mul.hi.s32 %o, %a, %b;", {M, 1, 0, M}, {M, M, 0, 0}, {0x80000000, 2, 0, M});
    CHECK("mul.wide.s32 %O, %a, %b;", {M, 2, 0, (uint64_t)-2},
        {0x80000000, 0x80000000, 0, 1ull << 62});
    CHECK("mul.wide.u32 %O, %a, %b;", {M, M, 0, 0xfffffffe00000001});
    CHECK("mul.lo.s64 %O, %A, %B;", {1ull << 32, 1ull << 31, 0, 1ull << 63},
        {UINT64_MAX, 3, 0, (uint64_t)-3});
    CHECK("mul.hi.u64 %O, %A, %B;", {1ull << 63, 4, 0, 2},
        {UINT64_MAX, UINT64_MAX, 0, UINT64_MAX - 1});
    CHECK("mul.hi.s64 %O, %A, %B;", {UINT64_MAX, 4, 0, UINT64_MAX}, {UINT64_MAX, UINT64_MAX, 0, 0});
    CHECK("mad.lo.s32 %o, %a, %b, %c;", {3, 5, 7, 22}, {M, 5, 7, 2});
    CHECK("mad.lo.s64 %O, %A, %B, %C;", {3, 5, 7, 22});
    CHECK("mad.wide.s32 %O, %a, %b, %C;", {M, 2, 1, UINT64_MAX},
        {4, 4, 1ull << 40, (1ull << 40) + 16});
    CHECK("mad.wide.u32 %O, %a, %b, %C;", {M, 2, 1, 0x1ffffffff});
    CHECK("mad.hi.u32 %o, %a, %b, %c;", {M, M, 3, 1});
    CHECK("cvt.u16.u32 %h, %a;\ncvt.u16.u32 %k, %b;\nmul.wide.s16 %o, %h, %k;",
        {0xffff, 3, 0, 0xfffffffd});
    CHECK("cvt.u16.u32 %h, %a;\ncvt.u16.u32 %k, %b;\nmul.wide.u16 %o, %h, %k;",
        {0xffff, 0xffff, 0, 0xfffe0001});
}

Test(gpusim_ops, divide)
{
    CHECK("div.s32 %o, %a, %b;", {7, 2, 0, 3}, {(uint32_t)-7, 2, 0, (uint32_t)-3},
        {0x80000000, M, 0, 0x80000000});
    CHECK("rem.s32 %o, %a, %b;", {7, 2, 0, 1}, {(uint32_t)-7, 2, 0, M}, {7, (uint32_t)-2, 0, 1},
        {0x80000000, M, 0, 0});
    CHECK("div.u32 %o, %a, %b;", {M, 2, 0, 0x7fffffff});
    CHECK("rem.u32 %o, %a, %b;", {M, 10, 0, 5});
    CHECK("div.s64 %O, %A, %B;", {(uint64_t)-7, 2, 0, (uint64_t)-3},
        {1ull << 63, UINT64_MAX, 0, 1ull << 63});
    CHECK("rem.u64 %O, %A, %B;", {UINT64_MAX, 10, 0, 5});
}

Test(gpusim_ops, least_and_most)
{
    CHECK("min.s32 %o, %a, %b;", {1, M, 0, M}, {3, 2, 0, 2});
    CHECK("max.s32 %o, %a, %b;", {1, M, 0, 1});
    CHECK("min.u32 %o, %a, %b;", {1, M, 0, 1});
    CHECK("max.u64 %O, %A, %B;", {1, UINT64_MAX, 0, UINT64_MAX});
    CHECK("min.s64 %O, %A, %B;", {1, UINT64_MAX, 0, UINT64_MAX});
    CHECK("abs.s32 %o, %a;", {(uint32_t)-5, 0, 0, 5}, {5, 0, 0, 5}, {0x80000000, 0, 0, 0x80000000});
    CHECK("neg.s32 %o, %a;", {5, 0, 0, (uint32_t)-5});
    CHECK("neg.s64 %O, %A;", {5, 0, 0, (uint64_t)-5});
    CHECK("sad.u32 %o, %a, %b, %c;", {3, 10, 1, 8}, {10, 3, 1, 8});
}

Test(gpusim_ops, logic)
{
    CHECK("and.b32 %o, %a, %b;", {12, 10, 0, 8});
    CHECK("or.b64 %O, %A, %B;", {12ull << 32, 10, 0, (12ull << 32) | 10});
    CHECK("xor.b32 %o, %a, %b;", {12, 10, 0, 6});
    CHECK("not.b64 %O, %A;", {0, 0, 0, UINT64_MAX});
    CHECK("cnot.b32 %o, %a;", {0, 0, 0, 1}, {4, 0, 0, 0});
    /* 0x96: exclusive or of three; 0xe8: majority; 0xca: a ? b : c */
    CHECK("lop3.b32 %o, %a, %b, %c, 0x96;", {1, 3, 5, 7}, {M, 0, M, 0});
    CHECK("lop3.b32 %o, %a, %b, %c, 0xe8;", {3, 5, 6, 7}, {8, 0, 8, 8}, {8, 0, 0, 0});
    CHECK("lop3.b32 %o, %a, %b, %c, 0xca;", {0xff00, 0x1234, 0xabcd, 0x12cd});
    CHECK("lop3.b32 %o, %a, %b, %c, 0x02;", {0xf0, 0xcc, 0xaa, 0x02});
}

Test(gpusim_ops, shifts)
{
    CHECK("shl.b32 %o, %a, %b;", {1, 31, 0, 0x80000000}, {1, 32, 0, 0}, {1, M, 0, 0});
    CHECK("shl.b64 %O, %A, %b;", {1, 63, 0, 1ull << 63}, {1, 64, 0, 0});
    CHECK("shr.u32 %o, %a, %b;", {0x80000000, 31, 0, 1}, {M, 32, 0, 0});
    CHECK(
        "shr.s32 %o, %a, %b;", {0x80000000, 31, 0, M}, {0x80000000, 32, 0, M}, {M >> 1, 200, 0, 0});
    CHECK("shr.s64 %O, %A, %b;", {1ull << 63, 64, 0, UINT64_MAX}, {1ull << 40, 8, 0, 1ull << 32});
    CHECK("shr.u64 %O, %A, %b;", {1ull << 63, 63, 0, 1}, {1ull << 63, 99, 0, 0});
    CHECK("shf.l.wrap.b32 %o, %a, %b, %c;", {0x80000000, 1, 1, 3}, {5, 7, 32, 7});
    CHECK("shf.r.wrap.b32 %o, %a, %b, %c;", {2, 1, 1, 0x80000001}, {5, 7, 32, 5});
    CHECK("shf.l.clamp.b32 %o, %a, %b, %c;", {5, 7, 32, 5}, {5, 7, 77, 5});
    CHECK("shf.r.clamp.b32 %o, %a, %b, %c;", {5, 7, 32, 7}, {5, 7, 0, 5});
}

Test(gpusim_ops, bits)
{
    CHECK("popc.b32 %o, %a;", {M, 0, 0, 32}, {5, 0, 0, 2});
    CHECK("popc.b64 %o, %A;", {UINT64_MAX, 0, 0, 64});
    CHECK("clz.b32 %o, %a;", {0, 0, 0, 32}, {1, 0, 0, 31}, {M, 0, 0, 0});
    CHECK("clz.b64 %o, %A;", {0, 0, 0, 64}, {1ull << 40, 0, 0, 23});
    CHECK("brev.b32 %o, %a;", {1, 0, 0, 0x80000000}, {0x12345678, 0, 0, 0x1e6a2c48});
    CHECK("brev.b64 %O, %A;", {1, 0, 0, 1ull << 63});
    CHECK("bfind.u32 %o, %a;", {0, 0, 0, M}, {0x1000, 0, 0, 12});
    CHECK("bfind.s32 %o, %a;", {M, 0, 0, M}, {0xfffffff0, 0, 0, 3});
    CHECK("bfind.shiftamt.u32 %o, %a;", {0x1000, 0, 0, 19});
    CHECK("bfe.u32 %o, %a, %b, %c;", {0xabcd1234, 8, 8, 0x12}, {M, 28, 8, 15}, {M, 3, 0, 0},
        {M, 40, 4, 0});
    CHECK("bfe.s32 %o, %a, %b, %c;", {0xf00, 8, 4, M}, {0x700, 8, 4, 7},
        {0x80000000, 28, 8, 0xfffffff8}, {0x80000000, 40, 4, M});
    CHECK("bfe.u64 %O, %A, %b, %c;", {0xabcdull << 40, 40, 16, 0xabcd});
    CHECK("bfe.s64 %O, %A, %b, %c;", {0xfull << 60, 60, 4, UINT64_MAX});
    CHECK("bfi.b32 %o, %a, %b, 8, 8;", {0xab, M, 0, 0xffffabff}, {0xfff, 0, 0, 0xff00});
    CHECK("bfi.b32 %o, %a, %b, 28, 8;", {0xff, 0, 0, 0xf0000000});
    CHECK("bfi.b32 %o, %a, %b, 32, 8;", {0xff, 7, 0, 7});
    CHECK("bfi.b64 %O, %A, %B, 32, 32;", {5, 7, 0, (5ull << 32) | 7});
    CHECK("prmt.b32 %o, %a, %b, 0x6420;", {0x33221100, 0x77665544, 0, 0x66442200});
    CHECK("prmt.b32 %o, %a, %b, 0x7531;", {0x33221100, 0x77665544, 0, 0x77553311});
    CHECK("prmt.b32 %o, %a, %b, %c;", {0x80ff7f01, 0, 0xba98, 0xffff0000},
        {0x80ff7f01, 0, 0xffff0123, 0x017fff80});
    CHECK("dp4a.s32.s32 %o, %a, %b, %c;", {0xff02fd04, 0x01010101, 10, 12},
        {0x80808080, 0x80808080, 0, 65536});
    CHECK("dp4a.u32.u32 %o, %a, %b, %c;", {0xff000000, 0xff000000, 1, 65026});
}

Test(gpusim_ops, moves_and_selection)
{
    CHECK("mov.b64 %O, {%a, %b};", {1, 2, 0, (2ull << 32) | 1});
    CHECK("mov.b64 {%t, %u}, %A;\nsub.s32 %o, %u, %t;", {(9ull << 32) | 4, 0, 0, 5});
    CHECK("cvt.u16.u32 %h, %a;\ncvt.u16.u32 %k, %b;\nmov.b32 %o, {%h, %k};",
        {0x1111, 0x2222, 0, 0x22221111});
    CHECK("mov.b32 {%h, %k}, %a;\ncvt.u32.u16 %o, %k;", {0x12345678, 0, 0, 0x1234});
    CHECK("setp.lt.s32 %p, %a, %b;\nselp.b32 %o, 7, %c, %p;", {M, 1, 9, 7}, {2, 1, 9, 9});
    CHECK("setp.ne.s64 %p, %A, 0;\nselp.b64 %O, %B, %C, %p;", {1ull << 50, 5, 6, 5}, {0, 5, 6, 6});
    CHECK("slct.b32.s32 %o, %a, %b, %c;", {1, 2, 0, 1}, {1, 2, M, 2});
    CHECK("mov.u32 %o, 0f3F800000;", {0, 0, 0, 0x3f800000});
    CHECK("mov.f64 %O, 0d3FF0000000000000;", {0, 0, 0, 0x3ff0000000000000});
    CHECK("mov.pred %p, 1;\nselp.u32 %o, 1, 0, %p;", {0, 0, 0, 1});
    CHECK("{\n.reg .b32 %a;\nmov.u32 %a, 3;\n}\nmov.u32 %o, %a;", {8, 0, 0, 8});
}

Test(gpusim_ops, integer_comparisons)
{
    CHECK("setp.lt.u32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {1, M, 0, 1}, {M, 1, 0, 0},
        {1, 1, 0, 0});
    CHECK("setp.hs.u32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {1, M, 0, 0}, {M, 1, 0, 1},
        {1, 1, 0, 1});
    CHECK("setp.ge.s32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {1, M, 0, 1}, {M, 1, 0, 0});
    CHECK("setp.gt.s64 %p, %A, %B;\nselp.u32 %o, 1, 0, %p;", {0, UINT64_MAX, 0, 1});
    CHECK("setp.le.u64 %p, %A, %B;\nselp.u32 %o, 1, 0, %p;", {0, UINT64_MAX, 0, 1});
    CHECK("setp.eq.s32 %p|%q, %a, %b;\nselp.u32 %o, 1, 0, %p;\nselp.u32 %t, 2, 0, %q;\nor.b32 %o, "
          "%o, %t;",
        {4, 4, 0, 1}, {4, 5, 0, 2});
    CHECK("setp.ne.s32 %q, %c, 0;\nsetp.lt.and.s32 %p, %a, %b, %q;\nselp.u32 %o, 1, 0, %p;",
        {1, 2, 1, 1}, {1, 2, 0, 0}, {2, 1, 1, 0});
    CHECK("setp.ne.s32 %q, %c, 0;\nsetp.lt.or.s32 %p, %a, %b, !%q;\nselp.u32 %o, 1, 0, %p;",
        {2, 1, 0, 1}, {2, 1, 1, 0});
    CHECK("setp.ne.s32 %q, %c, 0;\nsetp.lt.xor.s32 %p, %a, %b, %q;\nselp.u32 %o, 1, 0, %p;",
        {1, 2, 1, 0}, {1, 2, 0, 1});
    CHECK("setp.ne.s32 %p, %a, 0;\nsetp.ne.s32 %q, %b, 0;\nxor.pred %p, %p, %q;\nnot.pred %p, "
          "%p;\nselp.u32 %o, 1, 0, %p;",
        {1, 1, 0, 1}, {1, 0, 0, 0});
}

Test(gpusim_ops, float_arithmetic_is_ieee)
{
    CHECK("add.f32 %o, %a, %b;",
        {0x3f800000, 0x33800000, 0, 0x3f800000}, /* 1 + 2^-24: tie to even */
        {0x3f800001, 0x33800000, 0, 0x3f800002}, {0x7f800000, 0xff800000, 0, 0x7fffffff},
        {0x80000000, 0, 0, 0});
    CHECK("mul.rn.f32 %o, %a, %b;", {0x3f800001, 0x3f800001, 0, 0x3f800002},
        {0x7f7fffff, 0x40000000, 0, 0x7f800000});
    /* (1 + 2^-23)^2 - 1: fused keeps the 2^-46 */
    CHECK("fma.rn.f32 %o, %a, %b, %c;", {0x3f800001, 0x3f800001, 0xbf800002, 0x28800000});
    CHECK("mul.f32 %t, %a, %b;\nadd.f32 %o, %t, %c;", {0x3f800001, 0x3f800001, 0xbf800002, 0});
    CHECK("div.rn.f32 %o, %a, %b;", {0x3f800000, 0x40400000, 0, 0x3eaaaaab}, {0, 0, 0, 0x7fffffff},
        {0x3f800000, 0x80000000, 0, 0xff800000});
    CHECK("rcp.rn.f32 %o, %a;", {0x40400000, 0, 0, 0x3eaaaaab});
    CHECK("sqrt.rn.f32 %o, %a;", {0x40000000, 0, 0, 0x3fb504f3}, {0xbf800000, 0, 0, 0x7fffffff},
        {0x80000000, 0, 0, 0x80000000});
    CHECK("abs.f32 %o, %a;", {0xc0000000, 0, 0, 0x40000000});
    CHECK("neg.f32 %o, %a;", {0, 0, 0, 0x80000000});
    CHECK("copysign.f32 %o, %a, %b;", {0x80000000, 0x40000000, 0, 0xc0000000});
    CHECK("min.f32 %o, %a, %b;", {0x7fc00000, 0x3f800000, 0, 0x3f800000},
        {0, 0x80000000, 0, 0x80000000}, {0x7fc00000, 0xffc00000, 0, 0x7fffffff});
    CHECK("max.f32 %o, %a, %b;", {0x3f800000, 0x7fc00000, 0, 0x3f800000}, {0x80000000, 0, 0, 0},
        {0xbf800000, 0x80000000, 0, 0x80000000});
}

Test(gpusim_ops, ftz_flushes_operands_and_results)
{
    CHECK("add.ftz.f32 %o, %a, %b;", {1, 0, 0, 0}, {0x80000001, 0x80000001, 0, 0x80000000},
        {0x00800000, 0x80800001, 0, 0x80000000});
    CHECK("add.f32 %o, %a, %b;", {1, 0, 0, 1}, {0x00800000, 0x80800001, 0, 0x80000001},
        {0x007fffff, 1, 0, 0x00800000});
    CHECK("mul.ftz.f32 %o, %a, %b;", {0x00800000, 0x3f000000, 0, 0}, {0x00400000, 0x7f000000, 0, 0},
        {0x80800000, 0x3f000000, 0, 0x80000000});
    CHECK("mul.f32 %o, %a, %b;", {0x00800000, 0x3f000000, 0, 0x00400000});
    CHECK("fma.rn.ftz.f32 %o, %a, %b, %c;", {0x00800000, 0x3f000000, 0, 0}, {0, 0, 1, 0});
    CHECK("div.rn.ftz.f32 %o, %a, %b;", {0x00800000, 0x40000000, 0, 0}, {1, 1, 0, 0x7fffffff},
        {0x3f800000, 1, 0, 0x7f800000});
    CHECK("sqrt.rn.ftz.f32 %o, %a;", {1, 0, 0, 0});
    CHECK("min.ftz.f32 %o, %a, %b;", {1, 2, 0, 0}, {0x80000002, 1, 0, 0x80000000});
    CHECK("max.ftz.f32 %o, %a, %b;", {1, 0, 0, 0});
    CHECK("abs.ftz.f32 %o, %a;", {0x80000001, 0, 0, 0});
    CHECK("neg.ftz.f32 %o, %a;", {0x00000001, 0, 0, 0x80000000});
    CHECK("setp.eq.ftz.f32 %p, %a, 0f00000000;\nselp.u32 %o, 1, 0, %p;", {1, 0, 0, 1});
    CHECK("setp.eq.f32 %p, %a, 0f00000000;\nselp.u32 %o, 1, 0, %p;", {1, 0, 0, 0});
    CHECK("add.f64 %O, %A, %B;", {1, 1, 0, 2},
        {0x0010000000000000, 0x8010000000000001, 0, 0x8000000000000001});
}

Test(gpusim_ops, double_arithmetic)
{
    CHECK("add.f64 %O, %A, %B;", {0x3ff0000000000000, 0x3ca0000000000000, 0, 0x3ff0000000000000});
    CHECK("mul.f64 %O, %A, %B;", {0x4008000000000000, 0x4000000000000000, 0, 0x4018000000000000});
    CHECK("sub.f64 %O, %A, %B;", {0x4008000000000000, 0x4000000000000000, 0, 0x3ff0000000000000});
    CHECK("fma.rn.f64 %O, %A, %B, %C;",
        {0x3ff0000000000001, 0x3ff0000000000001, 0xbff0000000000002, 0x3970000000000000});
    CHECK(
        "div.rn.f64 %O, %A, %B;", {0x3ff0000000000000, 0x4008000000000000, 0, 0x3fd5555555555555});
    CHECK("rcp.rn.f64 %O, %A;", {0x4008000000000000, 0, 0, 0x3fd5555555555555});
    CHECK("sqrt.rn.f64 %O, %A;", {0x4000000000000000, 0, 0, 0x3ff6a09e667f3bcd});
    CHECK("max.f64 %O, %A, %B;", {0x7ff8000000000000, 0x3ff0000000000000, 0, 0x3ff0000000000000});
    CHECK("abs.f64 %O, %A;", {0x8000000000000000, 0, 0, 0});
    CHECK("neg.f64 %O, %A;", {0, 0, 0, 0x8000000000000000});
    CHECK("setp.gt.f64 %p, %A, %B;\nselp.u32 %o, 1, 0, %p;",
        {0x4000000000000000, 0x3ff0000000000000, 0, 1}, {0x7ff8000000000000, 0, 0, 0});
}

Test(gpusim_ops, float_comparisons_and_nan)
{
    const struct ptx_row ordered[] = {{0x3f800000, 0x40000000, 0, 1},
        {0x40000000, 0x3f800000, 0, 0}, {0x7fc00000, 0x3f800000, 0, 0}};
    const struct ptx_row either[] = {{0x3f800000, 0x40000000, 0, 1}, {0x40000000, 0x3f800000, 0, 0},
        {0x7fc00000, 0x3f800000, 0, 1}};
    cr_expect_eq(ptx_check("setp.lt.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", ordered, 3), 0);
    cr_expect_eq(ptx_check("setp.le.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", ordered, 3), 0);
    cr_expect_eq(ptx_check("setp.ltu.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", either, 3), 0);
    cr_expect_eq(ptx_check("setp.leu.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", either, 3), 0);
    CHECK("setp.eq.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0, 0x80000000, 0, 1},
        {0x7fc00000, 0x7fc00000, 0, 0});
    CHECK("setp.ne.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0, 0x80000000, 0, 0},
        {0x7fc00000, 0, 0, 0}, {0, 1, 0, 1});
    CHECK("setp.neu.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 1});
    CHECK("setp.equ.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 1}, {0, 1, 0, 0});
    CHECK("setp.gtu.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 1},
        {0x40000000, 0, 0, 1}, {0, 0, 0, 0});
    CHECK("setp.geu.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 1}, {0, 0, 0, 1},
        {0xbf800000, 0, 0, 0});
    CHECK("setp.num.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 0}, {0, 0, 0, 1});
    CHECK("setp.nan.f32 %p, %a, %b;\nselp.u32 %o, 1, 0, %p;", {0x7fc00000, 0, 0, 1}, {0, 0, 0, 0});
    CHECK("testp.finite.f32 %p, %a;\nselp.u32 %o, 1, 0, %p;", {0x7f800000, 0, 0, 0},
        {0x7f7fffff, 0, 0, 1});
    CHECK("testp.notanumber.f32 %p, %a;\nselp.u32 %o, 1, 0, %p;", {0x7f800000, 0, 0, 0},
        {0xffc00000, 0, 0, 1});
    CHECK("testp.subnormal.f32 %p, %a;\nselp.u32 %o, 1, 0, %p;", {1, 0, 0, 1}, {0, 0, 0, 0},
        {0x00800000, 0, 0, 0});
}

Test(gpusim_ops, integer_conversions)
{
    CHECK("cvt.s64.s32 %O, %a;", {M, 0, 0, UINT64_MAX});
    CHECK("cvt.u64.u32 %O, %a;", {M, 0, 0, M});
    CHECK("cvt.u32.u64 %o, %A;", {0x1234567890, 0, 0, 0x34567890});
    CHECK("cvt.s32.s8 %o, %a;", {0x80, 0, 0, 0xffffff80}, {0x17f, 0, 0, 0x7f});
    CHECK("cvt.u32.u8 %o, %a;", {0x1ff, 0, 0, 0xff});
    CHECK("cvt.s8.s32 %o, %a;", {0x1ff, 0, 0, M});
    CHECK("cvt.u16.u32 %o, %a;", {0x12345, 0, 0, 0x2345});
    CHECK("cvt.s64.s16 %O, %a;", {0x8000, 0, 0, 0xffffffffffff8000});
    CHECK("cvt.s64.s32 %O, %A;", {0x180000000, 0, 0, 0xffffffff80000000}); /* a wider register */
    CHECK("cvt.sat.s8.s32 %o, %a;", {200, 0, 0, 127}, {(uint32_t)-200, 0, 0, (uint32_t)-128},
        {5, 0, 0, 5});
    CHECK("cvt.sat.u8.s32 %o, %a;", {300, 0, 0, 255}, {(uint32_t)-1, 0, 0, 0});
    CHECK(
        "cvt.sat.s32.s64 %o, %A;", {1ull << 40, 0, 0, 0x7fffffff}, {1ull << 63, 0, 0, 0x80000000});
}

Test(gpusim_ops, float_to_integer_rounds_and_saturates)
{
    CHECK("cvt.rni.s32.f32 %o, %a;", {0x3f000000, 0, 0, 0}, {0x3fc00000, 0, 0, 2},
        {0x40200000, 0, 0, 2}, {0xbfc00000, 0, 0, (uint32_t)-2}, {0x7f800000, 0, 0, 0x7fffffff},
        {0xff800000, 0, 0, 0x80000000}, {0x7fc00000, 0, 0, 0});
    CHECK("cvt.rzi.s32.f32 %o, %a;", {0x3ff33333, 0, 0, 1}, {0xbff33333, 0, 0, M},
        {0x4f000000, 0, 0, 0x7fffffff}, {0xcf000000, 0, 0, 0x80000000});
    CHECK("cvt.rmi.s32.f32 %o, %a;", {0xbf800001, 0, 0, (uint32_t)-2});
    CHECK("cvt.rpi.s32.f32 %o, %a;", {0x3f800001, 0, 0, 2});
    CHECK("cvt.rzi.u32.f32 %o, %a;", {0xbf800000, 0, 0, 0}, {0x4f800000, 0, 0, M},
        {0x4f7fffff, 0, 0, 0xffffff00});
    CHECK("cvt.rni.s8.f32 %o, %a;", {0x43000000, 0, 0, 127}, {0xc3960000, 0, 0, (uint32_t)-128});
    CHECK("cvt.rzi.s64.f32 %O, %a;", {0x5f000000, 0, 0, INT64_MAX}, {0xbf800000, 0, 0, UINT64_MAX},
        {0x7fc00000, 0, 0, 1ull << 63});
    CHECK("cvt.rzi.s32.f64 %o, %A;", {0x41dfffffffc00000, 0, 0, 0x7fffffff},
        {0x41e0000000000000, 0, 0, 0x7fffffff}, {0x7ff8000000000000, 0, 0, 0x80000000});
    CHECK("cvt.rni.s64.f64 %O, %A;", {0x43e0000000000000, 0, 0, INT64_MAX},
        {0x4004000000000000, 0, 0, 2});
    CHECK("cvt.rzi.u64.f64 %O, %A;", {0x43f0000000000000, 0, 0, UINT64_MAX},
        {0xbff0000000000000, 0, 0, 0});
    CHECK("cvt.rpi.ftz.s32.f32 %o, %a;", {1, 0, 0, 0});
    CHECK("cvt.rpi.s32.f32 %o, %a;", {1, 0, 0, 1});
}

Test(gpusim_ops, to_float)
{
    CHECK("cvt.rn.f32.s32 %o, %a;", {0x01000001, 0, 0, 0x4b800000}, {0x01000003, 0, 0, 0x4b800002},
        {M, 0, 0, 0xbf800000});
    CHECK("cvt.rn.f32.u32 %o, %a;", {M, 0, 0, 0x4f800000});
    CHECK("cvt.rn.f32.s64 %o, %A;", {UINT64_MAX, 0, 0, 0xbf800000},
        {(1ull << 40) + (1 << 16) + 1, 0, 0, 0x53800001},
        {(1ull << 40) + (1 << 16), 0, 0, 0x53800000});
    CHECK("cvt.rn.f32.u64 %o, %A;", {UINT64_MAX, 0, 0, 0x5f800000});
    CHECK("cvt.rn.f64.s64 %O, %A;", {(1ull << 53) + 1, 0, 0, 0x4340000000000000},
        {(1ull << 53) + 3, 0, 0, 0x4340000000000002});
    CHECK("cvt.rn.f64.u32 %O, %a;", {M, 0, 0, 0x41efffffffe00000});
    CHECK("cvt.rn.f32.s8 %o, %a;", {0xff, 0, 0, 0xbf800000});
    CHECK("cvt.rn.bf16x2.f32 %o, %a, %b;", {0x3f800000, 0x40000000, 0, 0x3f804000},
        {0x3f808000, 0x3f818000, 0, 0x3f803f82}, {0x3f808001, 0x7f7fffff, 0, 0x3f817f80},
        {0xff800000, 0x7fc00001, 0, 0xff807fff}, {0x80000001, 0x00018000, 0, 0x80000002});
    CHECK("cvt.rn.f32.f64 %o, %A;", {0x3ff0000010000000, 0, 0, 0x3f800000},
        {0x3ff0000030000000, 0, 0, 0x3f800002}, {0x36a0000000000000, 0, 0, 1});
    CHECK("cvt.rn.ftz.f32.f64 %o, %A;", {0x36a0000000000000, 0, 0, 0},
        {0xb6a0000000000000, 0, 0, 0x80000000});
    CHECK("cvt.f64.f32 %O, %a;", {0x3fc00000, 0, 0, 0x3ff8000000000000},
        {1, 0, 0, 0x36a0000000000000});
    CHECK("cvt.ftz.f64.f32 %O, %a;", {0x3fc00000, 0, 0, 0x3ff8000000000000}, {1, 0, 0, 0});
    CHECK("cvt.rni.f32.f32 %o, %a;", {0x40200000, 0, 0, 0x40000000}, {0xbf000000, 0, 0, 0x80000000},
        {0x7fc00000, 0, 0, 0x7fffffff});
    CHECK("cvt.rmi.f32.f32 %o, %a;", {0xbf000000, 0, 0, 0xbf800000});
    CHECK("cvt.rpi.f32.f32 %o, %a;", {0x3f000000, 0, 0, 0x3f800000});
    CHECK("cvt.rzi.f32.f32 %o, %a;", {0xbff33333, 0, 0, 0xbf800000});
    CHECK("cvt.sat.f32.f32 %o, %a;", {0xbf000000, 0, 0, 0}, {0x40000000, 0, 0, 0x3f800000},
        {0x7fc00000, 0, 0, 0}, {0x3f000000, 0, 0, 0x3f000000});
}

Test(gpusim_ops, what_is_not_exact_or_not_known_is_refused)
{
    cr_expect(ptx_refused("rcp.approx.f32 %o, %a;"));
    cr_expect(ptx_refused("ex2.approx.ftz.f32 %o, %a;"));
    cr_expect(ptx_refused("add.s32.foo %o, %a, %b;"));
    cr_expect(ptx_refused("add.cc.u32 %o, %a, %b;"));
    cr_expect(ptx_refused("atom.global.add.f32 %o, [%A], %b;"));
    cr_expect(ptx_refused("ld.global.zz.u32 %o, [%A];"));
    cr_expect(ptx_refused("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32 "
                          "{%o,%t,%a,%b},{%a,%a,%a,%a},{%b,%b},{%c,%c,%c,%c};"));
    cr_expect(ptx_refused("mov.u32 %o, %clock;"));
    cr_expect(ptx_refused("bra nowhere;"));
    cr_expect(ptx_refused("call foo;"));
    cr_expect(ptx_refused("add.s32 %O, %a, %b;"));
    cr_expect_not(ptx_refused("add.s32 %o, %a, %b;"));
}

Test(gpusim_ops, control_flow_diverges_and_meets)
{
    CHECK("setp.lt.s32 %p, %a, 3;\n@%p bra L1;\nmov.u32 %o, 10;\nbra L2;\nL1:\nmov.u32 %o, "
          "20;\nL2:\nadd.s32 %o, %o, %b;",
        {1, 1, 0, 21}, {5, 2, 0, 12}, {2, 3, 0, 23}, {9, 4, 0, 14});
    CHECK("mov.u32 %o, 0;\nL0:\nadd.s32 %o, %o, %b;\nsub.s32 %a, %a, 1;\nsetp.gt.s32 %p, %a, "
          "0;\n@%p bra L0;\nactivemask.b32 %t;\nmad.lo.s32 %o, %t, 1000, %o;",
        {3, 5, 0, 15015}, {1, 2, 0, 15002}, {7, 1, 0, 15007}, {2, 2, 0, 15004});
    CHECK("mov.u32 %o, 1;\nsetp.eq.s32 %p, %a, 0;\n@%p add.s32 %o, %o, 5;\n@!%p add.s32 %o, %o, 7;",
        {0, 0, 0, 6}, {1, 0, 0, 8});
    CHECK("ts: .branchtargets A, B, C;\nbrx.idx %a, ts;\nA:\nmov.u32 %o, 1;\nbra.uni "
          "E;\nB:\nmov.u32 %o, 2;\nbra.uni E;\nC:\nmov.u32 %o, 3;\nE:",
        {2, 0, 0, 3}, {0, 0, 0, 1}, {1, 0, 0, 2}, {2, 0, 0, 3});
    CHECK("st.global.u64 [%out], %B;\nsetp.eq.s32 %p, %a, 0;\n@%p exit;\nmov.u32 %o, 9;",
        {0, 77, 0, 77}, {1, 77, 0, 9});
}

Test(gpusim_ops, votes_shuffles_and_reductions)
{
    CHECK("setp.ne.s32 %p, %a, 0;\nvote.sync.ballot.b32 %o, %p, 15;", {1, 0, 0, 5}, {0, 0, 0, 5},
        {1, 0, 0, 5}, {0, 0, 0, 5});
    CHECK("setp.ne.s32 %p, %a, 0;\nvote.sync.any.pred %q, %p, 3;\nselp.u32 %o, 1, 0, %q;",
        {0, 0, 0, 1}, {1, 0, 0, 1});
    CHECK("setp.ne.s32 %p, %a, 0;\nvote.sync.all.pred %q, !%p, 3;\nselp.u32 %o, 1, 0, %q;",
        {0, 0, 0, 1}, {0, 0, 0, 1});
    CHECK("setp.ne.s32 %p, %a, 0;\nvote.sync.uni.pred %q, %p, 3;\nselp.u32 %o, 1, 0, %q;",
        {1, 0, 0, 0}, {0, 0, 0, 0});
    CHECK("shfl.sync.bfly.b32 %o, %a, 1, 31, 15;", {10, 0, 0, 11}, {11, 0, 0, 10}, {12, 0, 0, 13},
        {13, 0, 0, 12});
    CHECK("shfl.sync.up.b32 %o|%p, %a, 1, 0, 7;\n@!%p add.s32 %o, %o, 100;", {10, 0, 0, 110},
        {11, 0, 0, 10}, {12, 0, 0, 11});
    CHECK("shfl.sync.down.b32 %o|%p, %a, 1, 2, 7;\n@!%p add.s32 %o, %o, 100;", {10, 0, 0, 11},
        {11, 0, 0, 12}, {12, 0, 0, 112});
    CHECK("shfl.sync.idx.b32 %o, %a, %b, 31, 7;", {10, 2, 0, 12}, {11, 0, 0, 10}, {12, 1, 0, 11});
    /* segments of two lanes: c = 0x1e1f, segment mask 30 */
    CHECK("shfl.sync.idx.b32 %o, %a, 0, 0x1e1f, 15;", {10, 0, 0, 10}, {11, 0, 0, 10},
        {12, 0, 0, 12}, {13, 0, 0, 12});
    CHECK("match.any.sync.b32 %o, %a, 15;", {5, 0, 0, 9}, {6, 0, 0, 6}, {6, 0, 0, 6}, {5, 0, 0, 9});
    CHECK("match.all.sync.b32 %o|%p, %a, 3;\n@%p add.s32 %o, %o, 100;", {5, 0, 0, 103},
        {5, 0, 0, 103});
    CHECK("redux.sync.add.s32 %o, %a, 7;", {1, 0, 0, 6}, {2, 0, 0, 6}, {3, 0, 0, 6});
    CHECK("redux.sync.min.s32 %o, %a, 7;", {1, 0, 0, M}, {M, 0, 0, M}, {3, 0, 0, M});
    CHECK("redux.sync.max.u32 %o, %a, 7;", {1, 0, 0, M}, {M, 0, 0, M}, {3, 0, 0, M});
    CHECK("redux.sync.xor.b32 %o, %a, 3;", {5, 0, 0, 6}, {3, 0, 0, 6});
    CHECK("mov.u32 %o, %lanemask_lt;", {0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 3});
    CHECK("mov.u32 %o, %lanemask_ge;", {0, 0, 0, M}, {0, 0, 0, M - 1});
}

Test(gpusim_ops, memory_of_every_width)
{
    CHECK("st.global.u64 [%out], %A;\nld.global.s8 %o, [%out+1];", {0x80ff, 0, 0, 0xffffff80});
    CHECK("st.global.u64 [%out], %A;\nld.global.u8 %o, [%out+1];", {0x80ff, 0, 0, 0x80});
    CHECK("st.global.u64 [%out], %A;\nld.global.s16 %o, [%out+2];", {0x8001ffff, 0, 0, 0xffff8001});
    CHECK("st.global.u64 [%out], %A;\nst.global.u8 [%out+3], %b;\nld.global.u64 %O, [%out];",
        {0x1122334455667788, 0xab, 0, 0x11223344ab667788});
    CHECK("st.global.v2.u32 [%out], {%a, %b};\nld.global.nc.u64 %O, [%out];",
        {1, 2, 0, (2ull << 32) | 1});
    CHECK("ld.global.v2.u32 {%t, %o}, [%in];", {(6ull << 32) | 5, 0, 0, 6});
    CHECK("ld.global.v2.u64 {%T, %O}, [%in];", {0, 7, 8, 7});
    CHECK("ld.global.s32 %O, [%in];", {M, 0, 0, UINT64_MAX});
}

Test(gpusim_ops, shared_local_and_generic_memory)
{
    CHECK(".shared .align 16 .b8 s[128];\nmov.u32 %t, s;\nmov.u32 %u, %laneid;\nmad.lo.s32 %t, %u, "
          "4, %t;\nst.shared.u32 [%t], %a;\nld.shared.u32 %o, [%t];",
        {5, 0, 0, 5}, {6, 0, 0, 6});
    CHECK(".local .align 8 .b8 d[16];\nmov.u64 %T, d;\ncvta.local.u64 %T, %T;\nst.u32 [%T+4], "
          "%a;\nld.local.u32 %o, [d+4];",
        {5, 0, 0, 5}, {6, 0, 0, 6});
    CHECK(".shared .align 16 .b8 s[128];\nmov.u64 %T, s;\ncvta.shared.u64 %T, %T;\nmov.u32 %u, "
          "%laneid;\nmad.wide.u32 %T, %u, 4, %T;\nst.u32 [%T], %a;\ncvta.to.shared.u64 %T, "
          "%T;\nld.shared.u32 %o, [%T];",
        {5, 0, 0, 5}, {6, 0, 0, 6});
    /* lanes of one generic load in two spaces */
    CHECK(".shared .align 16 .b8 s[16];\nsetp.eq.s32 %p, %b, 0;\n@%p st.shared.u32 [s], "
          "42;\nbar.warp.sync 3;\nmov.u64 %T, "
          "s;\ncvta.shared.u64 %T, %T;\nselp.b64 %T, %T, %in, %p;\nld.u32 "
          "%o, [%T];",
        {5, 0, 0, 42}, {6, 1, 0, 6});
}

Test(gpusim_ops, atomics)
{
    CHECK("st.global.u32 [%out], %b;\natom.global.add.u32 %o, [%out], %a;\nld.global.u32 %t, "
          "[%out];\nmad.lo.s32 %o, %t, 100, %o;",
        {3, 4, 0, 704});
    CHECK(
        "st.global.u32 [%out], %b;\natom.global.min.s32 %o, [%out], %a;\nld.global.u32 %o, [%out];",
        {M, 4, 0, M}, {9, 4, 0, 4});
    CHECK(
        "st.global.u32 [%out], %b;\natom.global.max.u32 %o, [%out], %a;\nld.global.u32 %o, [%out];",
        {M, 4, 0, M});
    CHECK("st.global.u32 [%out], %b;\natom.global.cas.b32 %o, [%out], %a, %c;\nld.global.u32 %o, "
          "[%out];",
        {4, 4, 9, 9}, {3, 4, 9, 4});
    CHECK("st.global.u32 [%out], %b;\natom.global.exch.b32 %o, [%out], %a;", {1, 4, 0, 4});
    CHECK("st.global.u32 [%out], %b;\nred.global.or.b32 [%out], %a;\nld.global.u32 %o, [%out];",
        {3, 4, 0, 7});
    CHECK(
        "st.global.u32 [%out], %b;\natom.global.inc.u32 %t, [%out], %a;\nld.global.u32 %o, [%out];",
        {4, 4, 0, 0}, {5, 4, 0, 5});
    CHECK(
        "st.global.u32 [%out], %b;\natom.global.dec.u32 %t, [%out], %a;\nld.global.u32 %o, [%out];",
        {4, 0, 0, 4}, {4, 3, 0, 2}, {4, 9, 0, 4});
    CHECK(
        "st.global.u64 [%out], %B;\natom.global.add.u64 %T, [%out], %A;\nld.global.u64 %O, [%out];",
        {1, 0xffffffff, 0, 1ull << 32});
    CHECK(
        "st.global.u64 [%out], %B;\natom.global.max.s64 %T, [%out], %A;\nld.global.u64 %O, [%out];",
        {UINT64_MAX, 5, 0, 5});
    CHECK(".shared .align 4 .b8 s[4];\nmov.u32 %t, 0;\nsetp.eq.s32 %p, %b, 0;\n@%p st.shared.u32 "
          "[s], %t;\nbar.sync 0;\natom.shared.add.u32 %t, [s], %a;\nbar.sync 0;\nld.shared.u32 %o, "
          "[s];",
        {3, 0, 0, 12}, {4, 1, 0, 12}, {5, 2, 0, 12});
}

Test(gpusim_ops, barriers_that_reduce)
{
    CHECK("setp.ne.s32 %p, %a, 0;\nbar.red.popc.u32 %o, 0, %p;", {1, 0, 0, 2}, {0, 0, 0, 2},
        {7, 0, 0, 2});
    CHECK("setp.ne.s32 %p, %a, 0;\nbar.red.and.pred %q, 0, %p;\nselp.u32 %o, 1, 0, %q;",
        {1, 0, 0, 0}, {0, 0, 0, 0});
    CHECK("setp.ne.s32 %p, %a, 0;\nbar.red.or.pred %q, 0, %p;\nselp.u32 %o, 1, 0, %q;",
        {1, 0, 0, 1}, {0, 0, 0, 1});
}
