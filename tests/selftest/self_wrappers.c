/* Devices, and the wrappers of cuda/ptx.cuh. What a wrapper must give is computed here from the
 * layouts that the PTX manual defines, in the plainest way; the words are stored as golden. */
#include "selftest.h"
#include "wrappers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[WRAPPERS] = {"mma_s8", "ldmatrix_x4", "ldmatrix_x4_trans",
    "permute_even", "permute_odd", "bf16_pair", "store_shared_16", "store_shared_4",
    "store_shared_1", "load_global_16", "copy_16", "copy_4", "copy_1"};

/* ---- devices ---- */

static int attribute(enum cudaDeviceAttr which, int device)
{
    int value = 0;
    if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess)
        return -1;
    return value;
}

static json_t *describe(int device)
{
    struct cudaDeviceProp p;
    size_t free_bytes = 0, all = 0;
    char arch[16];
    if (cudaSetDevice(device) != cudaSuccess || cudaGetDeviceProperties(&p, device) != cudaSuccess)
        return NULL;
    (void)cudaMemGetInfo(&free_bytes, &all);
    snprintf(arch, sizeof arch, "%d.%d", p.major, p.minor);
    return json_pack("{s:i, s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:i, s:i}", "index", device, "name",
        p.name, "compute_capability", arch, "multiprocessors", p.multiProcessorCount, "clock_khz",
        attribute(cudaDevAttrClockRate, device), "memory_clock_khz",
        attribute(cudaDevAttrMemoryClockRate, device), "memory_gib",
        (double)p.totalGlobalMem / 1073741824.0, "free_gib", (double)free_bytes / 1073741824.0,
        "shared_kib_a_multiprocessor", (int)(p.sharedMemPerMultiprocessor / 1024), "l2_kib",
        p.l2CacheSize / 1024);
}

bool selftest_devices(const struct selftest *s, json_t *report)
{
    int count = 0, driver = 0, runtime = 0;
    json_t *devices = json_array();
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)s;
    json_object_set_new(report, "devices", devices);
    if (error != cudaSuccess || count == 0)
        return selftest_fail(report, "no CUDA device: %s",
            error == cudaSuccess ? "the runtime counts 0" : cudaGetErrorString(error));
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    json_object_set_new(report, "driver", json_integer(driver));
    json_object_set_new(report, "runtime", json_integer(runtime));
    for (int i = 0; i < count; i++) {
        json_t *one = describe(i);
        if (!one)
            return selftest_fail(report, "device %d does not say what it is", i);
        json_array_append_new(devices, one);
    }
    return true;
}

/* ---- wrappers ---- */

/* Words that look random and never change. */
static void make_input(uint32_t *in)
{
    uint32_t x = 0x9e3779b9u;
    for (int i = 0; i < WRAPPER_WORDS_IN; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        in[i] = x;
    }
}

static int byte_of(const uint32_t *words, int byte)
{
    const int value = (int)(words[byte / 4] >> (8 * (byte % 4)) & 0xff);
    return value >= 128 ? value - 256 : value;
}

/* lane = 4 g + q. A: row g + 8 (i odd), column 4 q + j + 16 (i >= 2) is byte j of register i; B:
 * row 4 q + j + 16 i, column g; C: row g + 8 (e >= 2), column 2 q + (e odd). */
static void expect_mma(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane++) {
        const int g = lane / 4, q = lane % 4;
        for (int e = 0; e < 4; e++) {
            const int row = g + (e >= 2 ? 8 : 0), column = 2 * q + e % 2;
            uint32_t sum = in[lane * WRAPPER_IN + 6 + e];
            for (int k = 0; k < 32; k++) {
                const int of_a = row % 8 * 4 + k % 16 / 4, a_register = row / 8 + k / 16 * 2;
                const int of_b = column * 4 + k % 16 / 4, b_register = k / 16;
                const int a = byte_of(in + of_a * WRAPPER_IN, 4 * a_register + k % 4);
                const int b = byte_of(in + of_b * WRAPPER_IN + 4, 4 * b_register + k % 4);
                sum += (uint32_t)(a * b);
            }
            out[lane * WRAPPER_OUT + e] = sum;
        }
    }
}

/* Matrix n has the rows of lanes 8 n to 8 n + 7. Plain: lane (g, q) gets bytes 4 q to 4 q + 3 of
 * row g; transposed: the 16-bit elements g of rows 2 q (low half) and 2 q + 1. */
static void expect_matrix(const uint32_t *in, uint32_t *out, bool transposed)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane++) {
        const int g = lane / 4, q = lane % 4;
        for (int n = 0; n < 4; n++) {
            const uint32_t *row = in + (8 * n + g) * 4;
            const uint32_t *low = in + (8 * n + 2 * q) * 4, *high = low + 4;
            const int shift = 16 * (g % 2);
            out[lane * WRAPPER_OUT + n] =
                transposed ? (low[g / 2] >> shift & 0xffff) | (high[g / 2] >> shift & 0xffff) << 16
                           : row[q];
        }
    }
}

static void expect_permute(const uint32_t *in, uint32_t *out, int first)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane++) {
        const uint32_t *pair = in + lane * 4;
        for (int i = 0; i < 4; i++) /* bytes first, first + 2, ... of the eight of a and b */
            out[lane * WRAPPER_OUT] |= (uint32_t)(byte_of(pair, first + 2 * i) & 0xff) << (8 * i);
    }
}

/* The upper half of a float, plus one if the lower half is above its middle or at it and the upper
 * one odd; subnormal floats are not flushed. */
static uint32_t expect_bf16(uint32_t bits)
{
    const uint32_t upper = bits >> 16, lower = bits & 0xffff;
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return upper + (lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1));
}

static void expect_bf16_pair(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane++)
        out[lane * WRAPPER_OUT] = expect_bf16(in[lane * 4]) | expect_bf16(in[lane * 4 + 1]) << 16;
}

/* What lane l reads is the row of lane l - 1: `bytes` at `at` of a row that held `before`; copies
 * bring zeros where the source is not valid. */
static void expect_row(const uint32_t *in, uint32_t *out, int at, int bytes, bool copy)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane++) {
        const int owner = (lane + WRAPPER_LANES - 1) % WRAPPER_LANES;
        unsigned char row[16];
        memset(row, copy ? 0xff : 0, sizeof row);
        for (int i = 0; i < bytes; i++)
            row[at + i] = copy && owner % 2 ? 0 : (unsigned char)byte_of(in + owner * 4, i);
        for (int i = 0; i < 16; i++)
            out[lane * WRAPPER_OUT + i / 4] |= (uint32_t)row[i] << (8 * (i % 4));
    }
}

static void expect_load(const uint32_t *in, uint32_t *out)
{
    for (int lane = 0; lane < WRAPPER_LANES; lane += 2)
        memcpy(out + lane * WRAPPER_OUT, in + lane * 4, 16);
}

static void expect(enum wrapper which, const uint32_t *in, uint32_t *out)
{
    memset(out, 0, WRAPPER_WORDS_OUT * sizeof *out);
    switch (which) {
    case WRAP_MMA_S8:
        expect_mma(in, out);
        break;
    case WRAP_LDMATRIX:
    case WRAP_LDMATRIX_TRANS:
        expect_matrix(in, out, which == WRAP_LDMATRIX_TRANS);
        break;
    case WRAP_PERMUTE_EVEN:
    case WRAP_PERMUTE_ODD:
        expect_permute(in, out, which == WRAP_PERMUTE_ODD);
        break;
    case WRAP_BF16_PAIR:
        expect_bf16_pair(in, out);
        break;
    case WRAP_LOAD_GLOBAL_16:
        expect_load(in, out);
        break;
    case WRAP_STORE_SHARED_16:
    case WRAP_COPY_16:
        expect_row(in, out, 0, 16, which == WRAP_COPY_16);
        break;
    case WRAP_STORE_SHARED_4:
        expect_row(in, out, 4, 4, false);
        break;
    case WRAP_COPY_4:
        expect_row(in, out, 8, 4, true);
        break;
    case WRAP_STORE_SHARED_1:
        expect_row(in, out, 3, 1, false);
        break;
    default:
        expect_row(in, out, 5, 1, true);
    }
}

static json_t *words_json(const uint32_t *words)
{
    json_t *list = json_array();
    char text[WRAPPER_OUT * 9 + 1];
    for (int lane = 0; lane < WRAPPER_LANES; lane++) {
        for (int i = 0; i < WRAPPER_OUT; i++)
            snprintf(text + 9 * i, sizeof text - 9 * (size_t)i, "%08x%s",
                words[lane * WRAPPER_OUT + i], i + 1 < WRAPPER_OUT ? " " : "");
        json_array_append_new(list, json_string(text));
    }
    return list;
}

static bool write_wrappers(const struct selftest *s, json_t *report)
{
    uint32_t in[WRAPPER_WORDS_IN], out[WRAPPER_WORDS_OUT];
    json_t *golden = json_object();
    make_input(in);
    for (int i = 0; i < WRAPPERS; i++) {
        expect((enum wrapper)i, in, out);
        json_object_set_new(golden, names[i], words_json(out));
    }
    const bool saved = selftest_save(s, "wrappers", golden, report);
    json_decref(golden);
    return saved;
}

static bool check_wrapper(int which, const uint32_t *in, const json_t *golden, json_t *report)
{
    uint32_t out[WRAPPER_WORDS_OUT];
    bool same = true;
    const cudaError_t error = wrapper_run((enum wrapper)which, in, out);
    if (error != cudaSuccess)
        return selftest_fail(report, "%s: %s", names[which], cudaGetErrorString(error));
    json_t *got = words_json(out), *want = json_object_get(golden, names[which]);
    for (int lane = 0; lane < WRAPPER_LANES && same; lane++) {
        const char *g = json_string_value(json_array_get(got, (size_t)lane));
        const char *w = json_string_value(json_array_get(want, (size_t)lane));
        same = w && strcmp(g, w) == 0;
        if (!same)
            selftest_fail(report, "%s: lane %d gave %s, golden %s", names[which], lane, g,
                w ? w : "has no such line");
    }
    json_decref(got);
    return same;
}

bool selftest_wrappers(const struct selftest *s, json_t *report)
{
    uint32_t in[WRAPPER_WORDS_IN];
    bool passed = true;
    if (s->write)
        return write_wrappers(s, report);
    json_t *golden = selftest_read(s, "wrappers", report);
    if (!golden)
        return false;
    make_input(in);
    for (int i = 0; i < WRAPPERS; i++)
        passed = check_wrapper(i, in, golden, report) && passed;
    json_object_set_new(report, "wrappers", json_integer(WRAPPERS));
    json_decref(golden);
    return passed;
}
