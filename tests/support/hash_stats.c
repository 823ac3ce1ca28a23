#include "support/hash_stats.h"

#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BLOCK = 1 << 14,         /* words measured at a time */
    MAX_LAG = 1 << 16,       /* elements */
    TAIL = MAX_LAG / 4 + 64, /* words read beyond the block by lagged statistics */
    MAX_STATS = HASH_MAX_LINES
};

/* Element lags: neighbours, then channels and rows of common NHWC widths. */
static const int lags[] = {1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
    7 * 512, 14 * 256, 56 * 64, 32 * 16, 28 * 128, 65536};
/* Row widths of the 2-D patches: 16 pixels of 1, 3, 16, 64, 256 channels. */
static const int widths[] = {16, 48, 256, 1024, 4096};
static const int bit_lags[] = {1, 4, 64}; /* words */
/* Keys compared at the same position: next tensor, next step. */
static const int key_steps[] = {1, 4};

enum {
    LAGS = sizeof lags / sizeof lags[0],
    WIDTHS = sizeof widths / sizeof widths[0],
    BIT_LAGS = sizeof bit_lags / sizeof bit_lags[0],
    KEY_STEPS = sizeof key_steps / sizeof key_steps[0]
};

/* One statistic: a sum with expectation 0 and variance `variance` per draw, or (chi) a chi-square
 * whose single keys are already in standard deviations. */
struct stat {
    double pooled, squares; /* sum of sums; sum of z^2 over keys */
    int keys;
    double draws, variance;
};

struct bench_state {
    struct stat stat[MAX_STATS];
    char name[MAX_STATS][48];
    int count;
};

static void add(struct bench_state *s, const char *name, double sum, double draws, double variance)
{
    int i = 0;
    while (i < s->count && strcmp(s->name[i], name) != 0)
        i++;
    if (i == s->count) {
        if (i == MAX_STATS)
            abort();
        snprintf(s->name[i], sizeof s->name[i], "%s", name);
        s->count++;
    }
    struct stat *t = &s->stat[i];
    t->pooled += sum;
    t->squares += sum * sum / (draws * variance);
    t->keys++;
    t->draws += draws;
    t->variance = variance;
}

/* What one key accumulates. Bytes are centred as 2 b - 255, odd integers of variance 21845. */
struct key_sums {
    int64_t mean[4], pair[6], lag[LAGS], patch[WIDTHS], other[KEY_STEPS];
    int64_t histogram[4][256], joint[2][256], bits[BIT_LAGS][32];
};

static const double VARIANCE = (65536.0 - 1.0) / 3.0;

static int64_t dot(const int16_t *x, const int16_t *y, int64_t n)
{
    int64_t total = 0;
    for (int64_t i = 0; i < n; i += 1024) { /* |sum| <= 1024 * 255^2 stays in int32 */
        int32_t sum = 0;
        for (int64_t j = i; j < i + 1024; j++)
            sum += x[j] * y[j];
        total += sum;
    }
    return total;
}

static int64_t patch_sum(const int16_t *x, int width, int64_t n)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (int64_t)(x[i] * x[i + 1]) * (x[i + width] * x[i + width + 1]);
    return sum;
}

static void centre(const uint32_t *words, int64_t n, int16_t *x)
{
    const uint8_t *bytes = (const uint8_t *)words; /* little endian: element order */
    for (int64_t i = 0; i < n; i++)
        x[i] = (int16_t)(2 * bytes[i] - 255);
}

static void lanes(const uint32_t *words, struct key_sums *k)
{
    int64_t mean[4] = {0}, pair[6] = {0};
    for (int i = 0; i < BLOCK; i++) {
        int v[4], p = 0;
        for (int a = 0; a < 4; a++) {
            int byte = words[i] >> (8 * a) & 255;
            k->histogram[a][byte]++;
            v[a] = 2 * byte - 255;
            mean[a] += v[a];
            for (int b = 0; b < a; b++)
                pair[p++] += v[a] * v[b];
        }
        k->joint[0][(words[i] >> 28) * 16 + (words[i + 1] >> 28)]++;
        k->joint[1][(words[i] >> 4 & 15) * 16 + (words[i + 1] >> 4 & 15)]++;
    }
    for (int a = 0; a < 4; a++)
        k->mean[a] += mean[a];
    for (int p = 0; p < 6; p++)
        k->pair[p] += pair[p];
}

static void bit_agreement(const uint32_t *words, struct key_sums *k)
{
    for (int l = 0; l < BIT_LAGS; l++) {
        for (int bit = 0; bit < 32; bit++) {
            int32_t ones = 0;
            for (int i = 0; i < BLOCK; i++)
                ones += (int32_t)((words[i] ^ words[i + bit_lags[l]]) >> bit & 1);
            k->bits[l][bit] += 2 * ones - BLOCK;
        }
    }
}

static void report_key(struct bench_state *s, const struct key_sums *k, double words)
{
    char name[48];
    for (int a = 0, p = 0; a < 4; a++) {
        snprintf(name, sizeof name, "mean of lane %d", a);
        add(s, name, (double)k->mean[a], words, VARIANCE);
        double chi = 0.0;
        for (int b = 0; b < 256; b++) {
            double e = words / 256.0, d = (double)k->histogram[a][b] - e;
            chi += d * d / e;
        }
        snprintf(name, sizeof name, "chi-square of lane %d", a);
        add(s, name, chi - 255.0, 1.0, 2.0 * 255.0);
        for (int b = 0; b < a; b++, p++) {
            snprintf(name, sizeof name, "lanes %d and %d", b, a);
            add(s, name, (double)k->pair[p], words, VARIANCE * VARIANCE);
        }
    }
    for (int l = 0; l < LAGS; l++) {
        snprintf(name, sizeof name, "lag %d", lags[l]);
        add(s, name, (double)k->lag[l], 4.0 * words, VARIANCE * VARIANCE);
    }
    for (int w = 0; w < WIDTHS; w++) {
        snprintf(name, sizeof name, "2x2 patch, rows of %d", widths[w]);
        add(s, name, (double)k->patch[w], 4.0 * words, pow(VARIANCE, 4.0));
    }
    for (int o = 0; o < KEY_STEPS; o++) {
        snprintf(name, sizeof name, key_steps[o] == 1 ? "next tensor" : "next step");
        add(s, name, (double)k->other[o], 4.0 * words, VARIANCE * VARIANCE);
    }
    for (int j = 0; j < 2; j++) {
        double chi = 0.0;
        for (int b = 0; b < 256; b++) {
            double e = words / 256.0, d = (double)k->joint[j][b] - e;
            chi += d * d / e;
        }
        snprintf(name, sizeof name, "joint chi-square, %s nibble", j ? "low" : "high");
        add(s, name, chi - 255.0, 1.0, 2.0 * 255.0);
    }
    for (int l = 0; l < BIT_LAGS; l++) {
        double chi = 0.0;
        for (int bit = 0; bit < 32; bit++)
            chi += (double)k->bits[l][bit] * (double)k->bits[l][bit] / words;
        snprintf(name, sizeof name, "32 bits at word lag %d", bit_lags[l]);
        add(s, name, chi - 32.0, 1.0, 2.0 * 32.0);
    }
}

static uint32_t key_of(int index)
{
    return oct_rounding_key(1, (uint32_t)(index / 4), (uint32_t)(index % 4));
}

void hash_measure(hash_fill *fill, int keys, int log2_words, struct hash_report *out)
{
    struct bench_state *s = calloc(1, sizeof *s);
    struct key_sums *k = malloc(sizeof *k);
    uint32_t *words = malloc(sizeof *words * (BLOCK + TAIL));
    int16_t *x = malloc(sizeof *x * 4 * (BLOCK + TAIL)), *y = malloc(sizeof *y * 4 * BLOCK);
    if (!s || !k || !words || !x || !y)
        abort();
    int64_t total = (int64_t)1 << log2_words;
    for (int key = 0; key < keys; key++) {
        memset(k, 0, sizeof *k);
        for (int64_t at = 0; at < total; at += BLOCK) {
            for (int o = 0; o < KEY_STEPS; o++) {
                fill(key_of(key + key_steps[o]), (uint64_t)at, BLOCK, words);
                centre(words, 4 * BLOCK, y);
                fill(key_of(key), (uint64_t)at, BLOCK + TAIL, words);
                centre(words, 4 * (BLOCK + TAIL), x);
                k->other[o] += dot(x, y, 4 * BLOCK);
            }
            lanes(words, k);
            bit_agreement(words, k);
            for (int l = 0; l < LAGS; l++)
                k->lag[l] += dot(x, x + lags[l], 4 * BLOCK);
            for (int w = 0; w < WIDTHS; w++)
                k->patch[w] += patch_sum(x, widths[w], 4 * BLOCK);
        }
        report_key(s, k, (double)total);
    }
    memset(out, 0, sizeof *out);
    out->lines = s->count;
    for (int i = 0; i < s->count; i++) {
        const struct stat *t = &s->stat[i];
        struct hash_line *line = &out->line[i];
        memcpy(line->name, s->name[i], sizeof line->name);
        line->sigma = t->pooled / sqrt(t->draws * t->variance);
        line->spread = (t->squares - t->keys) / sqrt(2.0 * t->keys);
        out->worst = fmax(out->worst, fmax(fabs(line->sigma), line->spread));
    }
    free(s);
    free(k);
    free(words);
    free(x);
    free(y);
}

void hash_fill_octet(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    oct_rounding_words(key, group, (int)n, words);
}
