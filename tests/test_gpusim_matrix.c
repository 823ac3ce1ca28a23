/* mma, ldmatrix and cp.async in gpusim against the layouts written out as formulas: lane 4 g + q
 * holds, in byte j of register i, row g + 8 (i odd), column 4 q + j + 16 (i / 2) of A; row
 * 4 q + j + 16 i, column g of B; and in element e row g + 8 (e / 2), column 2 q + (e odd) of C. */
#include <criterion/criterion.h>

#include "ptx_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD ".version 9.0\n.target sm_80\n.address_size 64\n"
#define ENTRY                                                                                      \
    ".visible .entry t(.param .u64 p0, .param .u64 p1) {\n.reg .pred %p<4>;\n"                     \
    ".reg .b32 %r<40>;\n.reg .b64 %d<8>;\nld.param.u64 %d0, [p0];\nld.param.u64 %d1, [p1];\n"      \
    "mov.u32 %r0, %tid.x;\n"

static uint32_t state = 12345;
static int8_t code(void)
{
    state = state * 1664525u + 1013904223u;
    return (int8_t)((int)(state >> 16) % 255 - 127);
}

/* Runs `text` on 32 lanes with `words` input words a lane; `out` gets `results` words a lane. */
static int run(const char *text, const uint32_t *in, int words, uint32_t *out, int results)
{
    uint32_t *from = gpusim_alloc(128 * (size_t)words), *to = gpusim_alloc(128 * (size_t)results);
    const uint64_t arguments[8] = {(uint64_t)(uintptr_t)from, (uint64_t)(uintptr_t)to};
    const struct ptx_launch launch = {.text = text, .arguments = arguments, .threads = 32};
    memcpy(from, in, 128 * (size_t)words);
    gpusim_mark_written(from, 128 * (size_t)words);
    const int error = ptx_run(&launch);
    memcpy(out, to, 128 * (size_t)results);
    gpusim_release(from);
    gpusim_release(to);
    return error;
}

/* Lane l reads words in[l * n + i] into %r1.. and writes %r20.. to out[l * m + i]. */
static char *fragment_text(int n, const char *body, int m)
{
    char *text = malloc(8192);
    size_t used = (size_t)snprintf(text, 8192,
        "%smad.wide.u32 %%d0, %%r0, %d, %%d0;\nmad.wide.u32 %%d1, %%r0, %d, %%d1;\n", HEAD ENTRY,
        4 * n, 4 * m);
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(
            text + used, 8192 - used, "ld.global.u32 %%r%d, [%%d0+%d];\n", 1 + i, 4 * i);
    used += (size_t)snprintf(text + used, 8192 - used, "%s\n", body);
    for (int i = 0; i < m; i++)
        used += (size_t)snprintf(
            text + used, 8192 - used, "st.global.u32 [%%d1+%d], %%r%d;\n", 4 * i, 20 + i);
    snprintf(text + used, 8192 - used, "ret;\n}\n");
    return text;
}

struct product {
    int rows, depth;
    int8_t a[16][32], b[32][8];
    int32_t c[16][8];
};

static void fill(struct product *p, int rows, int depth, int32_t start)
{
    p->rows = rows;
    p->depth = depth;
    for (int k = 0; k < 32; k++) {
        for (int i = 0; i < 16; i++)
            p->a[i][k] = code();
        for (int j = 0; j < 8; j++)
            p->b[k][j] = code();
    }
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            p->c[i][j] = start + 1000 * code();
}

static void pack(const struct product *p, uint32_t *in)
{
    const int na = p->rows / 8 * p->depth / 16, nb = p->depth / 16, nc = p->rows / 4;
    uint8_t bytes[4];
    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        uint32_t *to = in + lane * (na + nb + nc);
        for (int i = 0; i < na; i++, to++) {
            const int odd = p->rows == 16 ? i & 1 : 0, half = p->rows == 16 ? i / 2 : i;
            for (int j = 0; j < 4; j++)
                bytes[j] = (uint8_t)p->a[g + 8 * odd][4 * q + j + 16 * half];
            memcpy(to, bytes, 4);
        }
        for (int i = 0; i < nb; i++, to++) {
            for (int j = 0; j < 4; j++)
                bytes[j] = (uint8_t)p->b[4 * q + j + 16 * i][g];
            memcpy(to, bytes, 4);
        }
        for (int e = 0; e < nc; e++)
            *to++ = (uint32_t)p->c[g + 8 * (e / 2)][2 * q + (e & 1)];
    }
}

static void check_product(const struct product *p, const char *body)
{
    const int na = p->rows / 8 * p->depth / 16, nb = p->depth / 16, nc = p->rows / 4;
    uint32_t in[32 * 12], out[32 * 4];
    char *text = fragment_text(na + nb + nc, body, nc);
    pack(p, in);
    cr_assert_eq(run(text, in, na + nb + nc, out, nc), 0, "%s", gpusim_last_report());
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < nc; e++) {
            const int row = lane / 4 + 8 * (e / 2), column = 2 * (lane % 4) + (e & 1);
            int32_t want = p->c[row][column];
            for (int k = 0; k < p->depth; k++)
                want += p->a[row][k] * p->b[k][column];
            cr_expect_eq((int32_t)out[lane * nc + e], want, "row %d column %d", row, column);
        }
    free(text);
}

static const char m16n8k32[] =
    "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r20,%r21,%r22,%r23}, {%r1,%r2,%r3,%r4}, "
    "{%r5,%r6}, {%r7,%r8,%r9,%r10};";
static const char m16n8k16[] =
    "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r20,%r21,%r22,%r23}, {%r1,%r2}, {%r3}, "
    "{%r4,%r5,%r6,%r7};";
static const char m8n8k16[] =
    "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r20,%r21}, {%r1}, {%r2}, {%r3,%r4};";

Test(gpusim_matrix, products)
{
    struct product p;
    for (int n = 0; n < 5; n++) {
        fill(&p, 16, 32, n * 1000);
        check_product(&p, m16n8k32);
        fill(&p, 16, 16, -n);
        check_product(&p, m16n8k16);
        fill(&p, 8, 16, n);
        check_product(&p, m8n8k16);
    }
    fill(&p, 16, 32, 0);
    memset(p.a, 127, sizeof p.a);
    memset(p.b, -127, sizeof p.b);
    check_product(&p, m16n8k32);
}

/* The sources may be written over by the result. */
Test(gpusim_matrix, product_in_place)
{
    struct product p;
    uint32_t in[32 * 10], apart[32 * 4], in_place[32 * 4];
    fill(&p, 16, 32, 5);
    pack(&p, in);
    char *text = fragment_text(10, m16n8k32, 4);
    char *same = fragment_text(10,
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r10,%r9,%r8,%r7}, {%r1,%r2,%r3,%r4}, "
        "{%r5,%r6}, {%r7,%r8,%r9,%r10};\n"
        "mov.u32 %r20, %r10;\nmov.u32 %r21, %r9;\nmov.u32 %r22, %r8;\nmov.u32 %r23, %r7;",
        4);
    cr_assert_eq(run(text, in, 10, apart, 4), 0);
    cr_assert_eq(run(same, in, 10, in_place, 4), 0);
    cr_expect_arr_eq(apart, in_place, sizeof apart);
    free(text);
    free(same);
}

Test(gpusim_matrix, accumulator_overflow_is_an_error)
{
    struct product p;
    uint32_t in[32 * 10], out[32 * 4];
    char *text = fragment_text(10, m16n8k32, 4);
    fill(&p, 16, 32, 0);
    memset(p.a, 127, sizeof p.a);
    memset(p.b, 127, sizeof p.b);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++)
            p.c[i][j] = INT32_MAX - 32 * 127 * 127;
    pack(&p, in);
    cr_expect_eq(
        run(text, in, 10, out, 4), 0, "the largest sum that fits: %s", gpusim_last_report());
    p.c[11][5]++;
    pack(&p, in);
    cr_expect_neq(run(text, in, 10, out, 4), 0);
    cr_expect_not_null(
        strstr(gpusim_last_report(), "overflow: row 11, column 5"), "%s", gpusim_last_report());
    free(text);
    gpusim_reset();
}

/* Each lane brings 16 bytes into shared memory and gives their address, in a scrambled order. */
static void check_ldmatrix(int matrices, bool transposed)
{
    char body[1024];
    static const char *const to[] = {"", "{%r20}", "{%r20,%r21}", "", "{%r20,%r21,%r22,%r23}"};
    snprintf(body, sizeof body,
        ".shared .align 16 .b8 s[512];\nmov.u32 %%r12, s;\n"
        "mul.lo.u32 %%r13, %%r0, 7;\nand.b32 %%r13, %%r13, 31;\nshl.b32 %%r13, %%r13, 4;\n"
        "add.s32 %%r12, %%r12, %%r13;\nst.shared.v4.u32 [%%r12], {%%r1,%%r2,%%r3,%%r4};\n"
        "bar.sync 0;\nldmatrix.sync.aligned.m8n8.x%d%s.shared.b16 %s, [%%r12];",
        matrices, transposed ? ".trans" : "", to[matrices]);
    uint32_t in[32 * 4], out[32 * 4];
    uint8_t rows[32][16];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 16; i++)
            rows[lane][i] = (uint8_t)code();
    memcpy(in, rows, sizeof rows);
    char *text = fragment_text(4, body, matrices);
    cr_assert_eq(run(text, in, 4, out, matrices), 0, "%s", gpusim_last_report());
    for (int lane = 0; lane < 32; lane++)
        for (int n = 0; n < matrices; n++) {
            const int g = lane / 4, q = lane % 4;
            uint8_t want[4];
            for (int j = 0; j < 4; j++)
                want[j] = transposed ? rows[8 * n + 2 * q + j / 2][2 * g + j % 2]
                                     : rows[8 * n + g][4 * q + j];
            cr_expect_arr_eq(
                &out[lane * matrices + n], want, 4, "x%d lane %d matrix %d", matrices, lane, n);
        }
    free(text);
}

Test(gpusim_matrix, ldmatrix)
{
    for (int matrices = 1; matrices <= 4; matrices *= 2) {
        check_ldmatrix(matrices, false);
        check_ldmatrix(matrices, true);
    }
}

/* Bytes beyond the valid ones are zero; a group is there when its wait lets it be. */
Test(gpusim_matrix, cp_async)
{
    static const char body[] =
        ".shared .align 16 .b8 s[1024];\nmov.u32 %r12, s;\nmad.lo.u32 %r12, %r0, 32, %r12;\n"
        "and.b32 %r13, %r0, 15;\n"
        "cp.async.ca.shared.global [%r12], [%d0], 16, %r13;\ncp.async.commit_group;\n"
        "cp.async.ca.shared.global [%r12+16], [%d0], 4;\ncp.async.commit_group;\n"
        "cp.async.wait_group 1;\nld.shared.v4.u32 {%r20,%r21,%r22,%r23}, [%r12];\n"
        "cp.async.wait_group 0;\nld.shared.u32 %r24, [%r12+16];";
    uint32_t in[32 * 4], out[32 * 5];
    for (int i = 0; i < 128; i++)
        in[i] = 0x01010101u * (uint32_t)(i + 1);
    char *text = fragment_text(4, body, 5);
    cr_assert_eq(run(text, in, 4, out, 5), 0, "%s", gpusim_last_report());
    for (int lane = 0; lane < 32; lane++) {
        uint8_t want[16] = {0};
        memcpy(want, &in[4 * lane], (size_t)lane & 15);
        cr_expect_arr_eq(&out[5 * lane], want, 16, "lane %d", lane);
        cr_expect_eq(out[5 * lane + 4], in[4 * lane]);
    }
    free(text);
}

static void expect_report(const char *text, const uint32_t *in, int words, const char *want)
{
    uint32_t out[32 * 8];
    cr_expect_neq(run(text, in, words, out, 1), 0);
    cr_expect_not_null(strstr(gpusim_last_report(), want), "%s", gpusim_last_report());
    gpusim_reset();
}

Test(gpusim_matrix, cp_async_read_too_early_is_an_error)
{
    static const char start[] =
        ".shared .align 16 .b8 s[512];\nmov.u32 %r12, s;\nmad.lo.u32 %r12, %r0, 16, %r12;\n"
        "cp.async.cg.shared.global [%r12], [%d0], 16;\ncp.async.commit_group;\n";
    uint32_t in[128] = {0};
    static const struct {
        const char *rest, *report;
    } cases[] = {{"ld.shared.u32 %r20, [%r12];", "while a cp.async"},
        {"cp.async.wait_group 1;\nld.shared.u32 %r20, [%r12];", "while a cp.async"},
        {"bar.sync 0;\nld.shared.u32 %r20, [s+16];", "while a cp.async"},
        /* waited for by its thread, but no barrier before another's read */
        {"cp.async.wait_all;\nld.shared.u32 %r20, [s+16];", "race in shared memory"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[1024];
        snprintf(body, sizeof body, "%s%s", start, cases[i].rest);
        char *text = fragment_text(4, body, 1);
        expect_report(text, in, 4, cases[i].report);
        free(text);
    }
}

Test(gpusim_matrix, lanes_missing_from_a_matrix_instruction)
{
    static const char body[] =
        "setp.lt.u32 %p0, %r0, 16;\n@%p0 bra L;\n"
        "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r20,%r21}, {%r1}, {%r2}, {%r3,%r4};\n"
        "ret;\nL:\nmov.u32 %r20, 0;";
    uint32_t in[128] = {0};
    char *text = fragment_text(4, body, 1);
    expect_report(text, in, 4, "mma");
    free(text);
}
