/* The three products of every tile configuration: one hash an output, the same for every device and
 * tile. The golden hashes come from the CPU backend, which the oracles judge. */
#include "cuda.h"
#include "selftest.h"
#include "support/conv_cases.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { TILE_CHOICES = 6, BUFFERS = 20 };

struct product_case {
    const char *name;
    int n, size, c, k, filter, stride, pad, planes;
    bool small; /* part of the reduced form */
};

static const struct product_case cases[] = {
    {"3x3 stride 2", 1, 9, 32, 80, 3, 2, 1, 1, true},
    {"1x1", 1, 7, 144, 48, 1, 1, 0, 1, true},
    {"4 bytes at a time", 1, 8, 20, 36, 3, 1, 1, 1, true},
    {"1 byte at a time", 1, 9, 3, 24, 5, 2, 2, 1, true},
    {"two planes", 2, 6, 16, 16, 3, 1, 1, 2, true},
    {"wgrad in slices", 3, 20, 16, 32, 1, 1, 0, 1, true},
    {"1 pixel, 1 channel", 1, 1, 1, 1, 1, 1, 0, 1, true},
    {"ResNet-50 3x3, 64", 8, 56, 64, 64, 3, 1, 1, 1, false},
    {"ResNet-50 1x1, 256 to 64", 8, 56, 256, 64, 1, 1, 0, 1, false},
    {"ResNet-50 3x3 stride 2, 128", 8, 56, 128, 128, 3, 2, 1, 1, false},
    {"ResNet-50 shortcut, 512 to 1024", 8, 28, 512, 1024, 1, 2, 0, 1, false},
    {"ResNet-50 3x3, 512", 8, 7, 512, 512, 3, 1, 1, 1, false},
    {"ResNet-50 stem in two planes", 8, 224, 3, 64, 7, 2, 3, 2, false},
    {"wgrad of 3.2 million pixels", 64, 224, 16, 32, 1, 1, 0, 1, false},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* A case's tensors on a device, freed together. */
struct tensors {
    oct_backend *device;
    void *made[BUFFERS];
    int count;
    enum oct_status status; /* sticky */
};

static void *make(struct tensors *t, size_t bytes, const void *content)
{
    void *p = NULL;
    if (t->status == OCT_OK && t->count == BUFFERS)
        t->status = oct_fail(OCT_INTERNAL, "a case with more than %d tensors", BUFFERS);
    if (t->status == OCT_OK)
        t->status = t->device->alloc(t->device, bytes ? bytes : 64, &p);
    if (t->status != OCT_OK)
        return NULL;
    t->made[t->count++] = p;
    t->status = content ? t->device->upload(t->device, p, content, bytes)
                        : t->device->clear(t->device, p, bytes ? bytes : 64);
    return p;
}

static void *make_codes(struct tensors *t, int64_t n, uint64_t seed)
{
    int8_t *codes = malloc((size_t)n);
    fill_s8(codes, n, FILL_RANDOM, seed);
    void *p = make(t, (size_t)n, codes);
    free(codes);
    return p;
}

/* A low plane lies in [-64, 63]. */
static void *make_low(struct tensors *t, int64_t n, uint64_t seed)
{
    int8_t *codes = malloc((size_t)n);
    fill_s8(codes, n, FILL_RANDOM, seed);
    for (int64_t i = 0; i < n; i++)
        codes[i] = (int8_t)((codes[i] + 128) / 2 - 64);
    void *p = make(t, (size_t)n, codes);
    free(codes);
    return p;
}

static void make_operands(struct tensors *t, const struct product_case *c,
    const struct oct_conv_shape *v, struct oct_operand *x, struct oct_operand *dy)
{
    const float scales[2] = {0.0123f, 1e-3f};
    const float *scale = make(t, sizeof scales, scales);
    *x = (struct oct_operand){.dtype = OCT_S8,
        .planes = 1,
        .data = make_codes(t, oct_conv_x_elements(v), 11),
        .scale = scale};
    *dy = (struct oct_operand){.dtype = OCT_S8,
        .planes = c->planes,
        .data = make_codes(t, oct_conv_y_elements(v), 12),
        .data_lo = c->planes > 1 ? make_low(t, oct_conv_y_elements(v), 13) : NULL,
        .scale = scale ? scale + 1 : NULL};
}

/* Both packs of weights, and the operands that read them. */
static void make_weights(struct tensors *t, const struct product_case *c,
    const struct oct_conv_shape *v, struct oct_operand w[2])
{
    const float code_max = c->planes > 1 ? OCT_CODE16_MAX : OCT_CODE_MAX;
    const float range[3] = {2.5f, 2.5f / code_max, code_max / 2.5f};
    const int64_t n = oct_conv_w_elements(v);
    float *master = malloc((size_t)n * sizeof *master), *scale = make(t, sizeof range, range);
    fill_f32(master, n, FILL_RANDOM, 14);
    for (int i = 0; i < 2; i++) {
        const size_t bytes = t->device->weight_pack_bytes(t->device, v, OCT_S8, i);
        void *high = make(t, bytes, NULL), *low = c->planes > 1 ? make(t, bytes, NULL) : NULL;
        w[i] = (struct oct_operand){.dtype = OCT_S8,
            .planes = c->planes,
            .data = high,
            .data_lo = low,
            .scale = scale ? scale + 1 : NULL};
    }
    const struct oct_weight_pack_args pack = {.shape = *v,
        .w = make(t, (size_t)n * sizeof *master, master),
        .dtype = OCT_S8,
        .planes = c->planes,
        .range = {.clip = scale,
            .scale = scale ? scale + 1 : NULL,
            .inverse = scale ? scale + 2 : NULL,
            .count = 1,
            .code_max = (int)code_max},
        .fprop = (void *)w[0].data,
        .fprop_lo = (void *)w[0].data_lo,
        .dgrad = (void *)w[1].data,
        .dgrad_lo = (void *)w[1].data_lo,
        .flag = make(t, 4, NULL)};
    if (t->status == OCT_OK)
        t->status = t->device->weight_pack(t->device, &pack);
    free(master);
}

static uint64_t hash_of(struct tensors *t, const void *tensor, size_t bytes)
{
    void *host = malloc(bytes);
    uint64_t hash = 0;
    if (t->status == OCT_OK)
        t->status = t->device->download(t->device, host, tensor, bytes);
    if (t->status == OCT_OK)
        hash = XXH3_64bits(host, bytes);
    free(host);
    return hash;
}

/* `bytes` is what the check that gave `checked` has set. */
static void *workspace(struct tensors *t, enum oct_status checked, const size_t *bytes)
{
    t->status = t->status == OCT_OK ? checked : t->status;
    return make(t, *bytes, NULL);
}

/* Hashes of y with its statistics, dx and dw. */
static void run_products(struct tensors *t, const struct product_case *c, uint64_t hash[3])
{
    oct_backend *d = t->device;
    const struct oct_conv_shape v =
        conv_square(c->n, c->size, c->c, c->k, c->filter, c->stride, c->pad, 1);
    const size_t y = 2 * (size_t)oct_conv_y_elements(&v), x = 2 * (size_t)oct_conv_x_elements(&v);
    const size_t dw = 4 * (size_t)oct_conv_w_elements(&v), stats = 32 * (size_t)v.k;
    struct oct_operand in, dy, w[2];
    size_t bytes = 0;
    make_operands(t, c, &v, &in, &dy);
    make_weights(t, c, &v, w);
    char *out = make(t, y + stats + 64, NULL);
    int64_t *sums = (int64_t *)(out + (y + 7) / 8 * 8);
    const struct oct_acc_stats acc = {sums, sums + v.k, sums + 2 * v.k, sums + 3 * v.k,
        oct_conv_stats_shift(&v, c->planes > 1 ? OCT_CODE16_MAX : OCT_CODE_MAX)};
    struct oct_conv_fprop_args f = {
        .shape = v, .x = in, .w = w[0], .y = out, .y_dtype = OCT_BF16, .stats = &acc};
    struct oct_conv_dgrad_args b = {
        .shape = v, .dy = dy, .w = w[1], .dx = make(t, x, NULL), .dx_dtype = OCT_BF16};
    struct oct_conv_wgrad_args g = {.shape = v, .x = in, .dy = dy, .dw = make(t, dw, NULL)};
    if (t->status != OCT_OK)
        return;
    f.workspace = workspace(t, d->conv_fprop_check(d, &f, &bytes), &bytes);
    b.workspace = workspace(t, d->conv_dgrad_check(d, &b, &bytes), &bytes);
    g.workspace = workspace(t, d->conv_wgrad_check(d, &g, &bytes), &bytes);
    if (t->status == OCT_OK)
        t->status = d->stats_clear(d, &acc, v.k);
    if (t->status == OCT_OK)
        t->status = d->conv_fprop(d, &f);
    if (t->status == OCT_OK)
        t->status = d->conv_dgrad(d, &b);
    if (t->status == OCT_OK)
        t->status = d->conv_wgrad(d, &g);
    hash[0] = hash_of(t, out, (y + 7) / 8 * 8 + stats);
    hash[1] = hash_of(t, b.dx, x);
    hash[2] = hash_of(t, g.dw, dw);
}

static bool run_case(
    oct_backend *device, const struct product_case *c, uint64_t hash[3], json_t *report)
{
    struct tensors t = {.device = device};
    run_products(&t, c, hash);
    for (int i = 0; i < t.count; i++)
        device->free(device, t.made[i]);
    return t.status == OCT_OK || selftest_fail(report, "%s: %s", c->name, oct_last_error());
}

static bool compare_case(const struct product_case *c, int tile, const uint64_t hash[3],
    const json_t *golden, json_t *report)
{
    static const char *const products[] = {"fprop", "dgrad", "wgrad"};
    const json_t *list = json_object_get(golden, c->name);
    bool same = true;
    for (size_t i = 0; i < 3; i++) {
        const char *want = json_string_value(json_array_get(list, i));
        char got[17];
        snprintf(got, sizeof got, "%016llx", (unsigned long long)hash[i]);
        if (!want || strcmp(want, got) != 0)
            same = selftest_fail(report, "%s, %s, tile %d: hash %s, golden %s", c->name,
                products[i], tile, got, want ? want : "has none");
    }
    return same;
}

static bool compare_all(
    const struct selftest *s, oct_backend *device, const json_t *golden, json_t *report)
{
    bool passed = true;
    int done = 0;
    for (int i = 0; i < CASES; i++) {
        for (int tile = 0; tile < TILE_CHOICES && (cases[i].small || !s->small); tile++) {
            uint64_t hash[3] = {0};
            oct_cuda_of(device)->tiles = (struct oct_cuda_tiles){tile, tile, tile};
            if (s->small)
                oct_cuda_of(device)->multiprocessors = 4; /* so that small problems are split */
            passed = run_case(device, &cases[i], hash, report) &&
                     compare_case(&cases[i], tile, hash, golden, report) && passed;
            done++;
        }
    }
    json_object_set_new(report, "cases_x_tiles", json_integer(done));
    return passed;
}

static bool write_all(const struct selftest *s, oct_backend *device, json_t *report)
{
    json_t *golden = json_object();
    bool made = true;
    for (int i = 0; i < CASES && made; i++) {
        uint64_t hash[3] = {0};
        char text[3][17];
        made = run_case(device, &cases[i], hash, report);
        for (int k = 0; k < 3; k++)
            snprintf(text[k], sizeof text[k], "%016llx", (unsigned long long)hash[k]);
        json_object_set_new(
            golden, cases[i].name, json_pack("[s, s, s]", text[0], text[1], text[2]));
    }
    made = made && selftest_save(s, "products", golden, report);
    json_decref(golden);
    return made;
}

bool selftest_products(const struct selftest *s, json_t *report)
{
    const struct oct_backend_options options = {.device = s->write ? "cpu" : s->device};
    oct_backend *device = NULL;
    json_t *golden = s->write ? NULL : selftest_read(s, "products", report);
    bool passed = false;
    if (!s->write && !golden)
        return false;
    const enum oct_status status =
        s->write ? oct_backend_open(&options, &device) : oct_cuda_open(&options, &device);
    if (status != OCT_OK)
        passed = selftest_fail(report, "%s", oct_last_error());
    else if (s->write)
        passed = write_all(s, device, report);
    else
        passed = compare_all(s, device, golden, report);
    if (device)
        device->close(device);
    json_decref(golden);
    return passed;
}
