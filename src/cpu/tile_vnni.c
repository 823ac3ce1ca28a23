/* AVX512-VNNI: vpdpbusd adds four products of unsigned A and signed B bytes per int32 lane. A tile
 * is rows x nv registers of accumulators; one step of depth 4 loads nv registers of B and one
 * broadcast dword per row of A. The instruction is written as inline assembly because GCC 12
 * otherwise copies accumulators around it. */
#include "cpu/tile.h"

#include <immintrin.h>

/* Four codes of a row of A, at any address. */
typedef int32_t four_codes __attribute__((may_alias, aligned(1)));

#define INLINE static inline __attribute__((always_inline))

static int available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

#define DOT(acc, a, b) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b))

/* Up to 24 accumulators by name: an array would live in memory. X(index) for all of them. */
#define ACC_8(X, a, b, c, d, e, f, g, h) X(a) X(b) X(c) X(d) X(e) X(f) X(g) X(h)
#define ALL_ACC(X)                                                                                 \
    ACC_8(X, 0, 1, 2, 3, 4, 5, 6, 7)                                                               \
    ACC_8(X, 8, 9, 10, 11, 12, 13, 14, 15)                                                         \
    ACC_8(X, 16, 17, 18, 19, 20, 21, 22, 23)

/* In assembly, or GCC 12 loads the registers of B again for every row. */
INLINE __m512i load_b(const int8_t *at)
{
    __m512i b;
    __asm__("vmovdqu8 %1, %0" : "=v"(b) : "m"(*(const four_codes(*)[16])at));
    return b;
}

/* One row tile. `rows` and `nv` are constants where this is inlined. Four rows share one pointer,
 * so that 16 of them need few registers. */
INLINE void tile(const struct oct_tile_gemm *g, const uint8_t *a, int32_t *acc, int rows, int nv)
{
    const int8_t *b = g->b;
    const ptrdiff_t lda = g->lda, lda3 = 3 * g->lda;
#define DECLARE(n) __m512i s##n = _mm512_setzero_si512();
    ALL_ACC(DECLARE)
#undef DECLARE
#define START(n)                                                                                   \
    if (n < rows * nv)                                                                             \
        s##n = _mm512_loadu_si512(g->init + 16 * (n % nv));
#define RESUME(n)                                                                                  \
    if (n < rows * nv)                                                                             \
        s##n = _mm512_loadu_si512(acc + 16 * n);
    if (g->init) {
        ALL_ACC(START)
    } else {
        ALL_ACC(RESUME)
    }
#undef START
#undef RESUME
    for (int u = 0; u < g->runs; u++) {
        const uint8_t *p0 = a + g->run[u], *p4 = p0 + 4 * lda, *p8 = p4 + 4 * lda,
                      *p12 = p8 + 4 * lda;
        for (int d = 0; d < g->depth; d += 4, b += 64 * nv) {
            const __m512i b0 = load_b(b), b1 = nv > 1 ? load_b(b + 64) : b0,
                          b2 = nv > 2 ? load_b(b + 128) : b0, b3 = nv > 3 ? load_b(b + 192) : b0;
            __m512i x = b0;
#define ROW_POINTER(row) ((row) < 4 ? p0 : (row) < 8 ? p4 : (row) < 12 ? p8 : p12)
#define ROW_OFFSET(row)                                                                            \
    (((row)&3) == 0 ? 0 : ((row)&3) == 1 ? lda : ((row)&3) == 2 ? 2 * lda : lda3)
#define B_REGISTER(v) ((v) == 0 ? b0 : (v) == 1 ? b1 : (v) == 2 ? b2 : b3)
#define STEP(n)                                                                                    \
    if (n < rows * nv) {                                                                           \
        if (n % nv == 0)                                                                           \
            __asm__("vpbroadcastd %1, %0"                                                          \
                    : "=v"(x)                                                                      \
                    : "m"(*(const four_codes *)(ROW_POINTER(n / nv) + ROW_OFFSET(n / nv))));       \
        DOT(s##n, x, B_REGISTER(n % nv));                                                          \
    }
            ALL_ACC(STEP)
#undef STEP
            p0 += 4, p4 += 4, p8 += 4, p12 += 4;
        }
    }
#define STORE(n)                                                                                   \
    if (n < rows * nv)                                                                             \
        _mm512_storeu_si512(acc + 16 * n, s##n);
    ALL_ACC(STORE)
#undef STORE
}

typedef void tile_function(const struct oct_tile_gemm *, const uint8_t *, int32_t *);

#define TILE(rows, nv)                                                                             \
    static __attribute__((noinline)) void tile_##rows##x##nv(                                      \
        const struct oct_tile_gemm *g, const uint8_t *a, int32_t *acc)                             \
    {                                                                                              \
        tile(g, a, acc, rows, nv);                                                                 \
    }
#define NAME(rows, nv) tile_##rows##x##nv,
#define ROWS_4(X, nv) X(1, nv) X(2, nv) X(3, nv) X(4, nv)
#define ROWS_6(X, nv) ROWS_4(X, nv) X(5, nv) X(6, nv)
#define ROWS_8(X, nv) ROWS_6(X, nv) X(7, nv) X(8, nv)
#define ROWS_12(X, nv) ROWS_8(X, nv) X(9, nv) X(10, nv) X(11, nv) X(12, nv)
#define ROWS_16(X, nv) ROWS_12(X, nv) X(13, nv) X(14, nv) X(15, nv) X(16, nv)

ROWS_16(TILE, 1)
ROWS_12(TILE, 2)
ROWS_8(TILE, 3)
ROWS_6(TILE, 4)

static void gemm(const struct oct_tile_gemm *g)
{
    static tile_function *const tiles[4][16] = {
        {ROWS_16(NAME, 1)}, {ROWS_12(NAME, 2)}, {ROWS_8(NAME, 3)}, {ROWS_6(NAME, 4)}};
    tile_function *const *by_rows = tiles[g->columns / 16 - 1];
    int32_t *acc = g->acc;
    for (int t = 0; t < g->tile_count; t++) {
        by_rows[g->tiles[t].rows - 1](g, g->a + g->tiles[t].a, acc);
        acc += (ptrdiff_t)g->tiles[t].rows * g->columns;
    }
}

/* 24 independent chains: more than two units of latency 4 or 5 can hold. */
static double peak(int64_t rounds)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
#define DECLARE(n) __m512i s##n = _mm512_setzero_si512();
#define STEP(n) DOT(s##n, a, b);
#define USE(n) __asm__ volatile("" : : "v"(s##n));
    ALL_ACC(DECLARE)
    for (int64_t r = 0; r < rounds; r++) {
        ALL_ACC(STEP)
    }
    ALL_ACC(USE)
#undef DECLARE
#undef STEP
#undef USE
    return 24.0 * 64.0 * (double)rounds;
}

const struct oct_tile_kernels oct_tile_vnni = {
    .name = "vnni",
    .automatic = 1,
    .available = available,
    .flip = 0x80,
    .group = 4,
    .depth_unit = 4,
    .max_columns = 64,
    .max_rows = {16, 12, 8, 6},
    .gemm = gemm,
    .peak = peak,
};
