/* The comparers themselves: each must catch a planted error, and must pass without one. */
#include "support/support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static const enum oct_dtype dtypes[] = {
    OCT_F32, OCT_BF16, OCT_S8, OCT_U8, OCT_S32, OCT_S64, OCT_F64};

Test(self, guards_see_each_byte)
{
    for (size_t bytes = 0; bytes < 200; bytes += 13) {
        uint8_t *p = guard_alloc(bytes);
        cr_assert_eq((uintptr_t)p % 64, 0u);
        memset(p, 7, bytes);
        cr_assert(guard_intact(p, "untouched"));
        for (int i = 1; i <= 64; i++) {
            p[-i] ^= 1;
            cr_assert_not(guard_intact(p, "planted before"));
            p[-i] ^= 1;
            p[bytes + (size_t)i - 1] ^= 0x80;
            cr_assert_not(guard_intact(p, "planted after"));
            p[bytes + (size_t)i - 1] ^= 0x80;
        }
        cr_assert(guard_intact(p, "restored"));
        guard_free(p);
    }
    guard_free(NULL);
}

/* One flipped bit anywhere in any element of any type. */
Test(self, same_tensor_sees_one_bit)
{
    enum { N = 12 };
    int64_t dims[] = {3, 4};
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        uint8_t got[N * 8] = {0}, want[N * 8] = {0};
        size_t size = oct_dtype_bytes(dtypes[d]);
        cr_assert(same_tensor("equal", dtypes[d], got, want, N, dims, 2));
        for (size_t bit = 0; bit < N * size * 8; bit++) {
            got[bit / 8] ^= (uint8_t)(1u << bit % 8);
            cr_assert_not(same_tensor("planted", dtypes[d], got, want, N, dims, 2), "bit %zu", bit);
            got[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

Test(self, same_tensor_is_exact)
{
    float got[] = {0.0f, NAN}, want[] = {-0.0f, NAN};
    cr_assert_not(same_tensor("signed zero", OCT_F32, got, want, 1, NULL, 0));
    cr_assert(same_tensor("equal NaN", OCT_F32, got + 1, want + 1, 1, NULL, 0));
    got[1] = oct_f32_of_bits(0xffc12345u);
    cr_assert(same_tensor("another NaN", OCT_F32, got + 1, want + 1, 1, NULL, 0));
    cr_assert_not(same_tensor("NaN for a number", OCT_F32, got + 1, want, 1, NULL, 0));
    cr_assert_not(same_tensor("a number for NaN", OCT_F32, want, got + 1, 1, NULL, 0));
    cr_assert(same_tensor("beyond n", OCT_F32, got, want, 0, NULL, 0));
}

Test(self, near_tensor)
{
    float got[] = {1.0f, 2.0f, 3.0f};
    double want[] = {1.0, 2.0, 3.0}, bound[] = {0.0, 0.25, 0.0};
    cr_assert(near_tensor("equal", got, want, 3, NULL, 0.0));
    got[1] = 2.25f;
    cr_assert(near_tensor("at the bound", got, want, 3, bound, 0.0));
    cr_assert(near_tensor("at the bound", got, want, 3, NULL, 0.25));
    got[1] = nextafterf(2.25f, 3.0f);
    cr_assert_not(near_tensor("planted", got, want, 3, bound, 0.0));
    cr_assert_not(near_tensor("planted", got, want, 3, NULL, 0.25));
    got[1] = NAN;
    cr_assert_not(near_tensor("NaN", got, want, 3, NULL, INFINITY));
    got[1] = 2.0f;
    want[2] = NAN;
    cr_assert_not(near_tensor("NaN expected", got, want, 3, NULL, INFINITY));
    want[2] = 3.0;
    got[2] = INFINITY;
    cr_assert_not(near_tensor("Inf", got, want, 3, NULL, 1e300));
}

/* Fills give what they promise. */
Test(self, fills)
{
    enum { N = 4096 };
    int8_t codes[N];
    float x[N];
    fill_s8(codes, N, FILL_RANDOM, 1);
    int low = 0, high = 0;
    for (int i = 0; i < N; i++) {
        low = codes[i] < low ? codes[i] : low;
        high = codes[i] > high ? codes[i] : high;
    }
    cr_expect(low == -127 && high == 127, "%d %d", low, high);
    fill_f32(x, N, FILL_RANDOM, 1);
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < N; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    /* 5 sigma of the mean and of the mean square of 4096 draws of variance 1, kurtosis below 3 */
    cr_expect_leq(fabs(sum / N), 5.0 / 64.0);
    cr_expect_leq(fabs(squares / N - 1.0), 5.0 * sqrt(2.0) / 64.0);
    fill_f32(x, N, FILL_OUTLIER, 1);
    for (int i = 0; i < N; i++)
        cr_assert_eq(x[i], i == N / 2 ? -1000.0f : 0.0f);
}
