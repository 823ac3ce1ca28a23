/* Statistics of the random bytes of stochastic rounding. A generator is judged by what rounding
 * can feel: mean and histogram of each byte lane, correlation between lanes, between elements at
 * the lags of neighbouring pixels, channels and rows, in 2-D patches, between the keys of
 * neighbouring steps and tensors, and agreement of single bits. */
#ifndef OCT_TEST_HASH_STATS_H
#define OCT_TEST_HASH_STATS_H

#include <stdint.h>

/* words[i] = word of `group + i` under `key`: bytes of elements 4*(group+i) .. 4*(group+i)+3. */
typedef void hash_fill(uint32_t key, uint64_t group, int64_t n, uint32_t *words);

/* One line of the result: `sigma` is the pooled statistic over all keys in standard deviations of
 * an ideal generator, `spread` the chi-square of the single keys' statistics, also in standard
 * deviations (it catches correlations whose sign differs from key to key). */
struct hash_line {
    char name[48];
    double sigma, spread;
};

enum { HASH_MAX_LINES = 128 };

struct hash_report {
    int lines;
    struct hash_line line[HASH_MAX_LINES];
    double worst; /* largest |sigma| or spread */
};

/* Draws `keys` * 2^log2_words words: keys of 4 tensors in keys/4 consecutive steps. */
void hash_measure(hash_fill *fill, int keys, int log2_words, struct hash_report *out);

/* oct_rounding_word, the generator in use. */
void hash_fill_octet(uint32_t key, uint64_t group, int64_t n, uint32_t *words);

#endif
