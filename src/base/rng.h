/* Counter-based random bits: a function of (key, counter), never of threads, launch shapes or
 * order. Philox4x32-10 (Salmon et al., SC 2011) for data and initialisation; a cheap two-multiply
 * hash for stochastic rounding, where 1/3 of a training step's elements need a byte each. */
#ifndef OCT_RNG_H
#define OCT_RNG_H

#include "base/numeric.h"

struct oct_philox {
    uint32_t v[4];
};

OCT_HD struct oct_philox oct_philox4x32(const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    struct oct_philox out = {{c0, c1, c2, c3}};
    return out;
}

/* What a Philox stream is for; keeps streams of one seed disjoint. */
enum oct_rng_stream { OCT_RNG_INIT = 1, OCT_RNG_SHUFFLE, OCT_RNG_AUGMENT, OCT_RNG_SYNTHETIC };

/* Four words of the stream `stream` of `seed`, at position (hi, lo). */
OCT_HD struct oct_philox oct_random(
    uint64_t seed, enum oct_rng_stream stream, uint32_t major, uint64_t index)
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), major, (uint32_t)stream};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    return oct_philox4x32(counter, key);
}

/* Uniform in [0, 1) on the 24-bit grid. */
OCT_HD float oct_uniform(uint32_t word)
{
    return (float)(word >> 8) * (1.0f / 16777216.0f);
}

OCT_HD uint32_t oct_mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x *= 0x735a2d97u;
    x ^= x >> 15;
    return x;
}

/* Key of one tensor's rounding bits in one step. */
OCT_HD uint32_t oct_rounding_key(uint64_t seed, uint32_t step, uint32_t tensor)
{
    uint32_t k = oct_mix32((uint32_t)seed + 0x9E3779B9u);
    k = oct_mix32(k ^ (uint32_t)(seed >> 32));
    k = oct_mix32(k ^ step);
    return oct_mix32(k ^ (tensor * 0x85EBCA6Bu));
}

/* A Weyl sequence through a mix of two multiplies, the key entering before each: the cheapest of
 * the generators that passed tests/bench/hash_quality.c (docs/numerics.md, Random bits). */
OCT_HD uint32_t oct_rounding_mix(uint32_t weyl, uint32_t second)
{
    uint32_t x = weyl ^ weyl >> 16;
    x = x * 0x21f0aaadu ^ second;
    x ^= x >> 15;
    x *= 0x735a2d97u;
    return x ^ x >> 15;
}

/* Four rounding bytes for elements 4*group .. 4*group+3, the first in the lowest byte; `group`
 * counts in the GLOBAL batch. */
OCT_HD uint32_t oct_rounding_word(uint32_t key, uint64_t group)
{
    return oct_rounding_mix(
        (uint32_t)group * 0x9E3779B9u + key, key * 0x9E3779B9u ^ (uint32_t)(group >> 32));
}

OCT_HD uint32_t oct_rounding_byte(uint32_t key, uint64_t element)
{
    return (oct_rounding_word(key, element >> 2) >> (8 * (element & 3))) & 0xffu;
}

/* words[i] = oct_rounding_word(key, group + i) in a form that compilers vectorise. On a
 * little-endian machine byte j of `words` belongs to element 4*group + j. */
OCT_HD void oct_rounding_words(uint32_t key, uint64_t group, int n, uint32_t *words)
{
    while (n > 0) {
        uint64_t left = 0x100000000u - (uint32_t)group; /* groups with the same upper half */
        int run = left < (uint64_t)n ? (int)left : n;
        uint32_t weyl = (uint32_t)group * 0x9E3779B9u + key;
        uint32_t second = key * 0x9E3779B9u ^ (uint32_t)(group >> 32);
        for (int i = 0; i < run; i++)
            words[i] = oct_rounding_mix(weyl + (uint32_t)i * 0x9E3779B9u, second);
        words += run;
        group += (uint64_t)run;
        n -= run;
    }
}

#endif
