/* Compares generators for stochastic rounding: quality (hash_stats.h) and cost. The cheapest that
 * passes is the one in rng.h; docs/numerics.md, "Random bits", holds the figures.
 *     build/tests/bench/hash_quality [log2 of the number of words, default 26] */
#include "base/rng.h"
#include "support/hash_stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Two full mixes: four multiplies. */
static void fill_double_mix(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
    for (int64_t i = 0; i < n; i++)
        words[i] = oct_mix32(oct_mix32((uint32_t)group + (uint32_t)i + key) ^ second);
}

/* One mix, the key entering before each multiply: two multiplies. */
static void fill_keyed_mix(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)group + (uint32_t)i + key;
        x ^= x >> 16;
        x = x * 0x21f0aaadu ^ second;
        x ^= x >> 15;
        x *= 0x735a2d97u;
        words[i] = x ^ x >> 15;
    }
}

/* The same over a Weyl sequence: a loop adds where a single draw multiplies. */
static void fill_weyl_mix(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
    uint32_t weyl = (uint32_t)group * 0x9E3779B9u + key;
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = weyl + (uint32_t)i * 0x9E3779B9u;
        x ^= x >> 16;
        x = x * 0x21f0aaadu ^ second;
        x ^= x >> 15;
        x *= 0x735a2d97u;
        words[i] = x ^ x >> 15;
    }
}

/* Three multiplies, the key entering twice. */
static void fill_triple_mix(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)group + (uint32_t)i + key;
        x ^= x >> 17;
        x *= 0xed5ad4bbu;
        x ^= x >> 11;
        x = x * 0xac4c1b51u ^ second;
        x ^= x >> 15;
        x *= 0x31848babu;
        words[i] = x ^ x >> 14;
    }
}

/* One multiply. */
static void fill_single_multiply(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
    for (int64_t i = 0; i < n; i++) {
        uint32_t x = (uint32_t)group + (uint32_t)i + key;
        x ^= x >> 16;
        x = x * 0x21f0aaadu ^ second;
        words[i] = x ^ x >> 15;
    }
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double ns_per_element(hash_fill *fill)
{
    static uint32_t words[4096];
    double best = 1e9;
    for (int trial = 0; trial < 200; trial++) {
        double start = seconds();
        for (int i = 0; i < 16; i++)
            fill((uint32_t)trial, (uint64_t)i, 4096, words);
        double ns = (seconds() - start) * 1e9 / (16.0 * 4096.0 * 4.0);
        best = ns < best ? ns : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        hash_fill *fill;
    } candidates[] = {{"octet (rng.h)", hash_fill_octet}, {"two mixes", fill_double_mix},
        {"triple mix", fill_triple_mix}, {"weyl mix", fill_weyl_mix}, {"keyed mix", fill_keyed_mix},
        {"single multiply", fill_single_multiply}};
    int log2_words = argc > 1 ? atoi(argv[1]) : 26;
    int log2_key = log2_words > 30 ? log2_words - 6 : log2_words - 4; /* 64 or 16 keys */
    if (log2_key < 14 || log2_words > 40) {
        fprintf(stderr, "usage: hash_quality [18..40]\n");
        return 2;
    }
    for (size_t c = 0; c < sizeof candidates / sizeof candidates[0]; c++) {
        struct hash_report report;
        hash_measure(candidates[c].fill, 1 << (log2_words - log2_key), log2_key, &report);
        printf("%-24s 2^%d words, %.4f ns/element, worst %.2f sigma over %d statistics\n",
            candidates[c].name, log2_words, ns_per_element(candidates[c].fill), report.worst,
            report.lines);
        for (int i = 0; i < report.lines; i++) {
            const struct hash_line *line = &report.line[i];
            if (line->sigma > 3.0 || line->sigma < -3.0 || line->spread > 3.0)
                printf(
                    "    %-32s %8.2f sigma, spread %8.2f\n", line->name, line->sigma, line->spread);
        }
        fflush(stdout);
    }
    return 0;
}
