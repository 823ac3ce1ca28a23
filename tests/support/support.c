#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };
static const uint64_t MAGIC = 0x6f637465745f6f6bull;

struct guard_head {
    uint64_t magic, bytes;
    void *base;
};

void *guard_alloc(size_t bytes)
{
    size_t total = sizeof(struct guard_head) + 64 + GUARD + bytes + GUARD;
    uint8_t *base = aligned_alloc(64, (total + 127) / 64 * 64);
    if (!base)
        abort();
    uint8_t *p = base + 64 + GUARD; /* head in the first line, guard in the second */
    struct guard_head head = {MAGIC, bytes, base};
    memcpy(base, &head, sizeof head);
    memset(p - GUARD, 0xC3, GUARD);
    memset(p, 0xA5, bytes);
    memset(p + bytes, 0x3C, GUARD);
    return p;
}

static struct guard_head head_of(const void *p)
{
    struct guard_head head;
    memcpy(&head, (const uint8_t *)p - GUARD - 64, sizeof head);
    if (head.magic != MAGIC)
        abort();
    return head;
}

bool guard_intact(const void *p, const char *name)
{
    struct guard_head head = head_of(p);
    const uint8_t *bytes = p;
    for (int i = 1; i <= GUARD; i++) {
        if (bytes[-i] != 0xC3) {
            printf("%s: byte %d before the buffer was overwritten\n", name, i);
            return false;
        }
    }
    for (int i = 0; i < GUARD; i++) {
        if (bytes[head.bytes + (size_t)i] != 0x3C) {
            printf("%s: byte %d after the buffer was overwritten\n", name, i);
            return false;
        }
    }
    return true;
}

void guard_free(void *p)
{
    if (p)
        free(head_of(p).base);
}

static uint32_t word(uint64_t seed, uint64_t i)
{
    return oct_random(seed, OCT_RNG_SYNTHETIC, 77, i >> 2).v[i & 3];
}

void fill_s8(int8_t *x, int64_t n, enum fill how, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t r = word(seed, (uint64_t)i);
        switch (how) {
        case FILL_RANDOM:
            x[i] = (int8_t)((int)(r % 255) - 127);
            break;
        case FILL_ZERO:
        case FILL_OUTLIER:
            x[i] = 0;
            break;
        case FILL_MAX:
            x[i] = 127;
            break;
        case FILL_ALTERNATE:
            x[i] = i & 1 ? -127 : 127;
            break;
        case FILL_TINY:
            x[i] = (int8_t)((int)(r % 3) - 1);
            break;
        }
    }
    if (how == FILL_OUTLIER && n > 0)
        x[n / 2] = -127;
}

static float float_of(enum fill how, int64_t i, int64_t n, uint64_t seed)
{
    uint32_t r = word(seed, (uint64_t)i);
    /* sum of four uniform bytes, centred and scaled to unit variance */
    float g = ((float)((r & 255) + (r >> 8 & 255) + (r >> 16 & 255) + (r >> 24)) - 510.0f) / 147.8f;
    switch (how) {
    case FILL_ZERO:
        return 0.0f;
    case FILL_MAX:
        return 1.0f;
    case FILL_ALTERNATE:
        return i & 1 ? -1.0f : 1.0f;
    case FILL_OUTLIER:
        return i == n / 2 ? -1000.0f : 0.0f;
    case FILL_TINY:
        return g * 1e-20f;
    case FILL_RANDOM:
        break;
    }
    return g;
}

void fill_f32(float *x, int64_t n, enum fill how, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = float_of(how, i, n, seed);
}

void fill_bf16(uint16_t *x, int64_t n, enum fill how, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = oct_bf16_from_f32(float_of(how, i, n, seed));
}

void *filled(enum oct_dtype dtype, int64_t n, enum fill how, uint64_t seed)
{
    void *x = guard_alloc((size_t)n * oct_dtype_bytes(dtype));
    if (dtype == OCT_S8)
        fill_s8(x, n, how, seed);
    else if (dtype == OCT_BF16)
        fill_bf16(x, n, how, seed);
    else
        fill_f32(x, n, how, seed);
    return x;
}

void put_float(void *x, enum oct_dtype dtype, int64_t i, float value)
{
    if (dtype == OCT_BF16)
        ((uint16_t *)x)[i] = (uint16_t)(oct_bits_of_f32(value) >> 16);
    else
        ((float *)x)[i] = value;
}

static double value_at(enum oct_dtype dtype, const void *data, int64_t i, uint64_t *bits)
{
    *bits = 0;
    memcpy(bits, (const char *)data + (size_t)i * oct_dtype_bytes(dtype), oct_dtype_bytes(dtype));
    switch (dtype) {
    case OCT_F32:
        return ((const float *)data)[i];
    case OCT_BF16:
        return oct_f32_from_bf16(((const uint16_t *)data)[i]);
    case OCT_S8:
        return ((const int8_t *)data)[i];
    case OCT_U8:
        return ((const uint8_t *)data)[i];
    case OCT_S32:
        return ((const int32_t *)data)[i];
    case OCT_S64:
        return (double)((const int64_t *)data)[i];
    case OCT_F64:
        return ((const double *)data)[i];
    }
    return 0.0;
}

static void print_coordinates(int64_t i, const int64_t *dims, int rank)
{
    int64_t at[8] = {0};
    if (!dims || rank > 8) {
        printf("[%lld]", (long long)i);
        return;
    }
    for (int d = rank - 1; d >= 0; d--) {
        at[d] = i % dims[d];
        i /= dims[d];
    }
    for (int d = 0; d < rank; d++)
        printf("%s%lld%s", d ? "," : "[", (long long)at[d], d == rank - 1 ? "]" : "");
}

bool same_tensor(const char *what, enum oct_dtype dtype, const void *got, const void *want,
    int64_t n, const int64_t *dims, int rank)
{
    size_t size = oct_dtype_bytes(dtype);
    for (int64_t i = 0; i < n; i++) {
        if (memcmp((const char *)got + (size_t)i * size, (const char *)want + (size_t)i * size,
                size) == 0)
            continue;
        uint64_t got_bits, want_bits;
        double g = value_at(dtype, got, i, &got_bits), w = value_at(dtype, want, i, &want_bits);
        if (isnan(g) && isnan(w))
            continue;
        printf("%s: first difference at ", what);
        print_coordinates(i, dims, rank);
        printf(": got %.17g (0x%llx), expected %.17g (0x%llx)\n", g, (unsigned long long)got_bits,
            w, (unsigned long long)want_bits);
        return false;
    }
    return true;
}

bool near_tensor(const char *what, const float *got, const double *want, int64_t n,
    const double *bound, double bound_all)
{
    for (int64_t i = 0; i < n; i++) {
        double limit = bound ? bound[i] : bound_all;
        double error = fabs((double)got[i] - want[i]);
        if (error <= limit)
            continue;
        printf("%s: [%lld] got %.9g, expected %.17g, error %.3g over the bound %.3g\n", what,
            (long long)i, (double)got[i], want[i], error, limit);
        return false;
    }
    return true;
}
