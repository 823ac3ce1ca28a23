/* The eight AMX operations that tile_amx.c uses, as intrinsics, or, under OCT_AMX_EMULATED, as
 * exact arithmetic on a tile file in memory: the same kernel source can then be tested on any CPU.
 *
 * GCC 12 declares _tile_loadconfig as reading 8 bytes, and _tile_loadd and _tile_stored as touching
 * no memory: without the barriers here it drops or moves the stores that fill those bytes. */
#ifndef OCT_AMX_TILE_H
#define OCT_AMX_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { AMX_ROWS = 16, AMX_ROW_BYTES = 64, AMX_TILES = 8 };

/* Palette 1. Layout fixed by the architecture. */
struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

#ifdef OCT_AMX_EMULATED

struct amx_file {
    struct amx_config config;
    uint8_t tile[AMX_TILES][AMX_ROWS][AMX_ROW_BYTES];
};

static inline void amx_configure(struct amx_file *f, const struct amx_config *config)
{
    f->config = *config;
    memset(f->tile, 0, sizeof f->tile);
}

static inline void amx_load(struct amx_file *f, int t, const void *base, ptrdiff_t stride)
{
    for (int i = 0; i < f->config.rows[t]; i++)
        memcpy(f->tile[t][i], (const char *)base + i * stride, f->config.row_bytes[t]);
}

static inline void amx_store(struct amx_file *f, int t, void *base, ptrdiff_t stride)
{
    for (int i = 0; i < f->config.rows[t]; i++)
        memcpy((char *)base + i * stride, f->tile[t][i], f->config.row_bytes[t]);
}

/* acc[m][n] += sum over k, i of a[m][4k + i] * b[k][4n + i], modulo 2^32 */
static inline void amx_dot(struct amx_file *f, int acc, int a, int b)
{
    for (int m = 0; m < f->config.rows[acc]; m++) {
        uint32_t sum[AMX_ROW_BYTES / 4];
        memcpy(sum, f->tile[acc][m], sizeof sum);
        for (int k = 0; k < f->config.row_bytes[a] / 4; k++) {
            const int8_t *x = (const int8_t *)f->tile[a][m] + 4 * k;
            const int8_t *y = (const int8_t *)f->tile[b][k];
            for (int n = 0; n < f->config.row_bytes[acc] / 4; n++)
                sum[n] += (uint32_t)(x[0] * y[4 * n] + x[1] * y[4 * n + 1] + x[2] * y[4 * n + 2] +
                                     x[3] * y[4 * n + 3]);
        }
        memcpy(f->tile[acc][m], sum, sizeof sum);
    }
}

static inline void amx_release(struct amx_file *f)
{
    (void)f;
}

#define AMX_LOAD(f, t, base, stride) amx_load(f, t, base, stride)
#define AMX_STORE(f, t, base, stride) amx_store(f, t, base, stride)
#define AMX_DOT(f, acc, a, b) amx_dot(f, acc, a, b)

#else

#include <immintrin.h>

struct amx_file {
    int unused;
};

#define AMX_BARRIER() __asm__ volatile("" : : : "memory")

static inline void amx_configure(struct amx_file *f, const struct amx_config *config)
{
    (void)f;
    AMX_BARRIER();
    _tile_loadconfig(config);
}

static inline void amx_release(struct amx_file *f)
{
    (void)f;
    _tile_release();
}

/* Macros: tile numbers are part of the instruction. */
#define AMX_LOAD(f, t, base, stride)                                                               \
    do {                                                                                           \
        (void)(f);                                                                                 \
        AMX_BARRIER();                                                                             \
        _tile_loadd(t, base, stride);                                                              \
    } while (0)
#define AMX_STORE(f, t, base, stride)                                                              \
    do {                                                                                           \
        (void)(f);                                                                                 \
        _tile_stored(t, base, stride);                                                             \
        AMX_BARRIER();                                                                             \
    } while (0)
#define AMX_DOT(f, acc, a, b)                                                                      \
    do {                                                                                           \
        (void)(f);                                                                                 \
        _tile_dpbssd(acc, a, b);                                                                   \
    } while (0)

#endif
#endif
