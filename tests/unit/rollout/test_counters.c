/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rollout/rollout_internal.h"

/* What a gateway says of its candidate. */
static json_t *stats(int ok, int refused, int failed, int rejected, int invalid)
{
        json_t *bank = json_pack("{s:i, s:s, s:{s:i, s:i, s:i, s:i}, s:i, s:i, s:i, s:{s:[]}}",
                                 "generation", 5, "variant", "candidate", "status", "2xx", ok,
                                 "3xx", 0, "4xx", refused, "5xx", failed, "rejected", rejected,
                                 "invalid", invalid, "errors", failed, "latency", "buckets");

        return json_pack("{s:s, s:[{s:s, s:[o]}]}", "boot", "b1", "routes", "route", "fraud",
                         "variants", bank);
}

/* Adds what is new; the candidate's arm of the epoch, borrowed from increments. */
static const json_t *fold(struct rollout *r, json_t *now, json_t *increments)
{
        json_t *routes = json_pack("{s:{s:s}}", "fraud", "key", "random");
        const struct counters_in in = {.control = "c", .stats = now, .routes = routes};
        struct mlc_ctx ctx = {0};

        assert_int_equal(counters_fold(&ctx, r, &in, increments), 0);
        json_decref(now);
        json_decref(routes);
        return json_object_get(
                json_object_get(json_object_get(json_object_get(increments, "5"), "arms"),
                                "candidate"),
                "requests");
}

static void what_was_not_sent_is_no_data(void **state)
{
        struct rollout r = {.seen = json_pack("{s:{s:{s:{s:i, s:i, s:i}}}}", "weights", "c", "5",
                                              "epoch", 5, "weight", 1000, "step", 0)};
        json_t *first = json_object(), *second = json_object();

        (void)state;
        assert_null(fold(&r, stats(0, 60, 0, 60, 60), first));
        assert_int_equal(json_integer_value(
                                 json_object_get(json_object_get(r.seen, "invalid"), "candidate")),
                         60);
        /* 10 answers, among them 2 that the server refused and 1 error, and 40 turned away */
        assert_int_equal(json_integer_value(fold(&r, stats(7, 102, 1, 100, 105), second)), 10);
        json_decref(first);
        json_decref(second);
        json_decref(r.seen);
}

static void delays_double_up_to_a_minute(void **state)
{
        static const int64_t seconds[] = {1, 2, 4, 8, 16, 32, 64, 64, 64};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(seconds); i++)
                assert_int_equal(rollout_retry_ms((int64_t)i), 1000 * seconds[i]);
        assert_int_equal(rollout_retry_ms(INT64_MAX), 64000);
}

static void names_are_whole(void **state)
{
        json_t *array = json_pack("[s, i, s]", "staging", 1, "prod");

        (void)state;
        assert_true(rollout_names(array, "prod"));
        assert_false(rollout_names(array, "pro"));
        assert_false(rollout_names(array, "1"));
        assert_false(rollout_names(NULL, "prod"));
        json_decref(array);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_not_sent_is_no_data),
                cmocka_unit_test(delays_double_up_to_a_minute),
                cmocka_unit_test(names_are_whole),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
