/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rollout/bucket.h"

/* XXH32 of these texts, seed 0, as in xxHash's own checks and its ports. */
static void known_hashes(void **state)
{
        (void)state;
        assert_int_equal(mlc_bucket("", 0, "", 0), 0x02cc5d05 % 10000);
        assert_int_equal(mlc_bucket("", 0, "a", 1), 0x550d7456 % 10000);
        assert_int_equal(mlc_bucket("", 0, "abc", 3), 0x32d153ff % 10000);
        assert_int_equal(mlc_bucket("", 0, "Nobody inspects the spammish repetition", 39),
                         0xe2293b2f % 10000);
}

static void salt_and_key_are_one_text(void **state)
{
        (void)state;
        assert_int_equal(mlc_bucket("Nobody inspects ", 16, "the spammish repetition", 23),
                         0xe2293b2f % 10000);
        assert_int_equal(mlc_bucket("abc", 3, NULL, 0), 0x32d153ff % 10000);
        assert_int_equal(mlc_bucket(NULL, 0, "abc", 3), 0x32d153ff % 10000);
}

static void ramps_only_gain(void **state)
{
        static const unsigned shares[] = {0, 1, 100, 1000, 5000, 9999, 10000};
        char key[16];
        unsigned n[7] = {0};

        (void)state;
        for (unsigned user = 0; user < 20000; user++) {
                int len = snprintf(key, sizeof(key), "user-%u", user);
                unsigned bucket = mlc_bucket("r17", 3, key, (size_t)len);
                size_t had = 1;

                assert_true(bucket < MLC_BUCKETS);
                for (size_t i = 0; i < 7; i++) {
                        unsigned weights[2] = {shares[i], MLC_BUCKETS - shares[i]};
                        size_t got = mlc_bucket_variant(bucket, weights, 2);

                        assert_true(got <= had); /* who had the candidate keeps it */
                        had = got;
                        n[i] += got == 0;
                }
        }
        assert_int_equal(n[0], 0);
        assert_int_equal(n[6], 20000);
        /* five standard deviations of a binomial of 20,000 */
        assert_in_range(n[2], 200 - 71, 200 + 71);
        assert_in_range(n[3], 2000 - 212, 2000 + 212);
        assert_in_range(n[4], 10000 - 354, 10000 + 354);
}

static void bounds(void **state)
{
        static const unsigned weights[] = {1, 0, 9998};

        (void)state;
        assert_int_equal(mlc_bucket_variant(0, weights, 3), 0);
        assert_int_equal(mlc_bucket_variant(1, weights, 3), 2);
        assert_int_equal(mlc_bucket_variant(9998, weights, 3), 2);
        assert_int_equal(mlc_bucket_variant(9999, weights, 3), 3);
        assert_int_equal(mlc_bucket_variant(0, weights, 0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(known_hashes),
                cmocka_unit_test(salt_and_key_are_one_text),
                cmocka_unit_test(ramps_only_gain),
                cmocka_unit_test(bounds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
