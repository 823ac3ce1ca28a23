/* Random bits: Philox against the published vectors (Random123, kat_vectors), disjoint streams, and
 * the quality of the rounding bytes. */
#include "oracle/oracle_ops.h"
#include "support/hash_stats.h"
#include "support/support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(rng, philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } vectors[] = {{{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
            {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
            {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
    for (int i = 0; i < 3; i++) {
        struct oct_philox got = oct_philox4x32(vectors[i].counter, vectors[i].key);
        for (int j = 0; j < 4; j++)
            cr_expect_eq(got.v[j], vectors[i].answer[j], "vector %d word %d: %08x", i, j, got.v[j]);
    }
}

/* Seed, stream, major and index each reach the counter or the key whole. */
Test(rng, streams_are_disjoint)
{
    struct oct_philox base = oct_random(1, OCT_RNG_INIT, 2, 3);
    struct oct_philox other[] = {oct_random(1 | 1ull << 40, OCT_RNG_INIT, 2, 3),
        oct_random(1, OCT_RNG_SHUFFLE, 2, 3), oct_random(1, OCT_RNG_INIT, 3, 3),
        oct_random(1, OCT_RNG_INIT, 2, 4), oct_random(1, OCT_RNG_INIT, 2, 3 | 1ull << 32)};
    for (int i = 0; i < 5; i++)
        cr_expect_neq(memcmp(&base, &other[i], sizeof base), 0, "change %d", i);
}

Test(rng, uniform_stays_below_one)
{
    cr_expect_eq(oct_uniform(0), 0.0f);
    cr_expect_eq(oct_uniform(0xffffffffu), 1.0f - 0x1p-24f);
}

Test(rng, rounding_bytes_match_the_oracle)
{
    static const uint64_t starts[] = {0, 1, 4093, 0xfffffff9ull, 0x3fffffff0ull, 0xffffffffff0ull};
    for (int s = 0; s < 6; s++) {
        uint32_t key = oct_rounding_key(0x1234567890abcdefull, 77, 5), words[64];
        uint64_t group = starts[s] / 4;
        oct_rounding_words(key, group, 64, words);
        for (uint64_t i = 0; i < 256; i++) {
            uint8_t want =
                (uint8_t)oracle_rounding_byte(0x1234567890abcdefull, 77, 5, 4 * group + i);
            cr_assert_eq(oct_rounding_byte(key, 4 * group + i), want, "element %llu",
                (unsigned long long)(4 * group + i));
            cr_assert_eq(((uint8_t *)words)[i], want, "element %llu of a run",
                (unsigned long long)(4 * group + i));
        }
    }
}

/* 2^26 words over 16 keys. 45 statistics, two figures each: chance alone exceeds 5 sigma in one of
 * 20,000 choices of the generator (the spread's tail is heavier: chi-square with 16 degrees of
 * freedom passes 44.3 in 0.02 %, hence 6). The long run is tests/bench/hash_quality. */
Test(rng, rounding_bytes_are_fair, .timeout = 300)
{
    struct hash_report report;
    hash_measure(hash_fill_octet, 16, 22, &report);
    for (int i = 0; i < report.lines; i++) {
        const struct hash_line *line = &report.line[i];
        cr_expect(line->sigma < 5.0 && line->sigma > -5.0 && line->spread < 6.0,
            "%s: %.2f sigma, spread %.2f", line->name, line->sigma, line->spread);
    }
}

/* Without the Weyl step: what a single mix would have given. */
static void fill_weak(uint32_t key, uint64_t group, int64_t n, uint32_t *words)
{
    for (int64_t i = 0; i < n; i++)
        words[i] = oct_rounding_mix((uint32_t)(group + (uint64_t)i) + key, key * 0x9E3779B9u);
}

Test(rng, a_weak_generator_is_found_out, .timeout = 300)
{
    struct hash_report report;
    hash_measure(fill_weak, 16, 20, &report);
    cr_expect_gt(report.worst, 20.0, "worst %.2f sigma", report.worst);
}
