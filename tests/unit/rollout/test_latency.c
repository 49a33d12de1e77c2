/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rollout/latency.h"

static void buckets_hold_what_they_say(void **state)
{
        unsigned before = MLC_LATENCY_FIRST;

        (void)state;
        for (uint64_t us = 11; us < UINT64_C(5000000000); us += 1 + us / 7) {
                unsigned i = mlc_latency_bucket(us);
                double x = (double)us;

                assert_true(i >= before && i < MLC_LATENCY_LAST);
                before = i;
                assert_true(x <= mlc_latency_upper(i) * (1 + 1e-12));
                assert_true(x > mlc_latency_upper(i - 1) * (1 - 1e-12));
                assert_true(fabs(mlc_latency_value(i) - x) <=
                            MLC_LATENCY_ACCURACY * x * (1 + 1e-9));
        }
}

static void ends(void **state)
{
        (void)state;
        assert_int_equal(mlc_latency_bucket(0), MLC_LATENCY_FIRST);
        assert_int_equal(mlc_latency_bucket(MLC_LATENCY_MIN_US), MLC_LATENCY_FIRST);
        assert_int_equal(mlc_latency_bucket(12), 125); /* ln 12 / ln gamma = 124.24 */
        assert_int_equal(mlc_latency_bucket(1000000), 691); /* 690.75 */
        assert_int_equal(mlc_latency_bucket(UINT64_MAX), MLC_LATENCY_LAST);
}

static void quantiles_merge(void **state)
{
        struct mlc_latency a = {0}, b = {0};

        (void)state;
        assert_true(isnan(mlc_latency_quantile(&a, 0.5)));
        for (uint64_t us = 100; us <= 100000; us += 100)
                mlc_latency_add(us % 200 == 0 ? &a : &b, us);
        mlc_latency_merge(&a, &b);
        assert_int_equal(mlc_latency_count(&a), 1000);
        assert_true(fabs(mlc_latency_quantile(&a, 0) - 100) <= 1.0 + 1e-9);
        assert_true(fabs(mlc_latency_quantile(&a, 0.5) - 50000) <= 600);
        assert_true(fabs(mlc_latency_quantile(&a, 0.99) - 99000) <= 1100);
        assert_true(fabs(mlc_latency_quantile(&a, 1) - 100000) <= 1000);
}

static void slower_than(void **state)
{
        struct mlc_latency h = {0};
        uint64_t edge = 51021, above; /* rounded up to the bound of its bucket */

        (void)state;
        for (uint64_t us = 1000; us <= 100000; us += 1000)
                mlc_latency_add(&h, us);
        assert_int_equal(mlc_latency_above(&h, 0), 100);
        assert_int_equal(mlc_latency_above(&h, 1000000), 0);
        above = mlc_latency_above(&h, edge);
        assert_true(above <= 49 && above >= 47); /* at most 2.02 % off the limit */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(buckets_hold_what_they_say),
                cmocka_unit_test(ends),
                cmocka_unit_test(quantiles_merge),
                cmocka_unit_test(slower_than),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
