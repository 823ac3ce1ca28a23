/* barrier_bwd: every variant against its oracle bit for bit. */
#include "oracle/oracle_ops.h"
#include "support/cpu_ops.h"
#include "support/support.h"

#include <criterion/criterion.h>

static const int64_t lengths[] = {1, 3, 7, 16, 17, 64, 65, 257, 65537};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

/* Activations on either side of tau, at it, and 0. */
static void check(oct_backend *ops, int64_t n, enum oct_dtype x_dtype, enum oct_dtype da_dtype)
{
    const struct oct_step_state step = {.temperature = 5.0f};
    const float scale = 0.03125f;
    int64_t sums[2][2] = {{5, 7}, {5, 7}};
    void *x = filled(x_dtype, n, FILL_RANDOM, 50), *da[2];
    if (x_dtype == OCT_S8) {
        ((int8_t *)x)[0] = 64; /* 2, which is tau */
        ((int8_t *)x)[n / 2] = 0;
    } else {
        put_float(x, x_dtype, 0, 2.0f);
        put_float(x, x_dtype, n / 2, n > 20 ? -1e-39f : 0.0f);
    }
    for (int side = 0; side < 2; side++) {
        da[side] = filled(da_dtype, n, FILL_RANDOM, 51);
        const struct oct_barrier_bwd_args a = {.count = n,
            .x = x,
            .x_dtype = x_dtype,
            .x_scale = x_dtype == OCT_S8 ? &scale : NULL,
            .da = da[side],
            .da_dtype = da_dtype,
            .barrier = {.lam = 0.01f, .tau = 2.0f, .sums = n % 2 ? sums[side] : NULL},
            .step = &step};
        if (side)
            oracle_barrier_bwd(&a);
        else
            cr_assert_eq(ops->barrier_bwd(ops, &a), OCT_OK, "%s", oct_last_error());
    }
    cr_assert(same_tensor("da", da_dtype, da[0], da[1], n, NULL, 0), "x %s, n %lld",
        oct_dtype_name(x_dtype), (long long)n);
    cr_assert(sums[0][0] == sums[1][0] && sums[0][1] == sums[1][1]);
    cr_assert((sums[0][0] == 5) == (n % 2 == 0 || n == 1), "n %lld", (long long)n);
    cr_assert(guard_intact(da[0], "da"));
    guard_free(x);
    guard_free(da[0]);
    guard_free(da[1]);
}

Test(barrier, equals_its_oracle)
{
    static const enum oct_dtype x[] = {OCT_S8, OCT_F32, OCT_BF16}, da[] = {OCT_BF16, OCT_F32};
    EACH_VARIANT(v)
    {
        for (int i = 0; i < LENGTHS * 6; i++)
            check(v.backend, lengths[i / 6], x[i % 3], da[i % 2]);
    }
}

Test(barrier, refusals)
{
    float one = 1.0f;
    struct oct_barrier_bwd_args a = {.count = 1, .x = &one, .x_dtype = OCT_S8, .da = &one};
    a.da_dtype = OCT_F32;
    EACH_VARIANT(v)
    {
        cr_expect_eq(v.backend->barrier_bwd(v.backend, &a), OCT_ARG); /* no scale */
        a.x_dtype = OCT_S32;
        cr_expect_eq(v.backend->barrier_bwd(v.backend, &a), OCT_UNSUPPORTED);
        a.x_dtype = OCT_F32;
        a.count = 0;
        cr_expect_eq(v.backend->barrier_bwd(v.backend, &a), OCT_UNSUPPORTED);
        a.count = 1;
        a.da_dtype = OCT_S8;
        cr_expect_eq(v.backend->barrier_bwd(v.backend, &a), OCT_UNSUPPORTED);
        a.da_dtype = OCT_F32;
        a.x_dtype = OCT_S8;
    }
}
