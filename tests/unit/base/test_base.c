/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/siphash.h"
#include "base/str.h"

static void errors_keep_the_first_message(void **state)
{
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_fail(&err, MLC_E_CONFLICT, "first %d", 1), MLC_E_CONFLICT);
        assert_int_equal(mlc_fail(&err, MLC_E_INVALID, "second"), MLC_E_INVALID);
        assert_string_equal(err.msg, "first 1");
        (void)mlc_wrap(&err, "outer");
        assert_string_equal(err.msg, "outer: first 1");
        assert_int_equal(mlc_error_status(MLC_E_CONFLICT), 409);
        assert_int_equal(mlc_error_from_slug("conflict"), MLC_E_CONFLICT);
        assert_int_equal(mlc_error_status(-9999), 500);
}

static void error_messages_are_printable(void **state)
{
        struct mlc_err err = {0};
        char big[600];

        (void)state;
        (void)mlc_fail_field(&err, MLC_E_INVALID, "/a\xff", "'%s'",
                             "\x1b[31m \xe2\x80\xae \xc3\xa4 \xc3");
        assert_string_equal(err.msg, "'?[31m ??? \xc3\xa4 ?'");
        assert_string_equal(err.field, "/a?");
        mlc_err_clear(&err);
        for (size_t i = 0; i + 1 < sizeof(big); i++)
                big[i] = i % 2 == 0 ? '\xc3' : '\xa4';
        big[sizeof(big) - 1] = '\0';
        (void)mlc_fail(&err, MLC_E_INVALID, "%s", big);
        assert_int_equal(err.msg[sizeof(err.msg) - 2], '?'); /* half a character was cut off */
        (void)mlc_wrap(&err, "%s", "\n");
        assert_true(strncmp(err.msg, " : \xc3\xa4", 5) == 0);
}

static void arena_stops_at_its_cap(void **state)
{
        struct mlc_arena a;
        struct mlc_err err = {0};

        (void)state;
        mlc_arena_init(&a, 64);
        assert_non_null(mlc_arena_alloc(&a, 48, &err));
        assert_null(mlc_arena_alloc(&a, 32, &err));
        assert_int_equal(err.code, MLC_E_LIMIT);
        mlc_err_clear(&err);
        assert_null(mlc_arena_array(&a, SIZE_MAX, 16, &err));
        assert_int_equal(err.code, MLC_E_LIMIT);
        mlc_arena_done(&a);
        assert_string_equal(mlc_arena_strdup(&a, "again", NULL), "again");
        mlc_arena_done(&a);
}

static void str_keeps_what_fits(void **state)
{
        struct mlc_str s;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&s, 4);
        mlc_str_add(&s, "abc");
        mlc_str_add(&s, "de");
        assert_string_equal(mlc_str_cstr(&s), "abc");
        assert_int_equal(mlc_str_check(&s, &err), MLC_E_LIMIT);
        mlc_str_done(&s);
}

static void numbers_are_strict(void **state)
{
        unsigned long long v;

        (void)state;
        assert_true(mlc_parse_u64("18446744073709551615", &v));
        assert_true(v == UINT64_MAX);
        assert_false(mlc_parse_u64("18446744073709551616", &v));
        assert_false(mlc_parse_u64("", &v));
        assert_false(mlc_parse_u64("01", &v));
        assert_false(mlc_parse_u64("+1", &v));
        assert_false(mlc_parse_u64("1 ", &v));
}

static void times_round_trip(void **state)
{
        static const char *const bad[] = {"",
                                          "2026-13-01",
                                          "2025-02-29",
                                          "2026-1-1",
                                          "2026-01-01T25:00:00Z",
                                          "2026-01-01T00:00:00",
                                          "2026-01-01x",
                                          "2026-01-01T00:00:00.Z",
                                          NULL};
        char buf[MLC_TIME_MAX];
        int64_t ms;

        (void)state;
        assert_true(mlc_time_parse("2026-11-24T06:47:36.123456Z", &ms));
        mlc_time_format(ms, buf);
        assert_string_equal(buf, "2026-11-24T06:47:36.123Z");
        assert_true(mlc_time_parse("2026-05-03T02:00:00+02:00", &ms));
        mlc_time_format(ms, buf);
        assert_string_equal(buf, "2026-05-03T00:00:00.000Z");
        mlc_time_format(-1, buf);
        assert_string_equal(buf, "1969-12-31T23:59:59.999Z");
        for (int i = 0; bad[i] != NULL; i++)
                assert_false(mlc_time_parse(bad[i], &ms));
        assert_true(mlc_duration_parse("90s", &ms));
        assert_int_equal(ms, 90000);
        assert_false(mlc_duration_parse("0s", &ms));
        assert_false(mlc_duration_parse("1", &ms));
        assert_false(mlc_duration_parse("99999999999999999999d", &ms));
}

static void map_survives_growth_and_removal(void **state)
{
        static int values[1000];
        struct mlc_map m;
        char key[16];
        size_t pos = 0, n = 0;
        const char *k;
        void *v;

        (void)state;
        mlc_map_init(&m);
        for (int i = 0; i < 1000; i++) {
                (void)snprintf(key, sizeof(key), "k%d", i);
                assert_null(mlc_map_set(&m, key, &values[i]));
        }
        for (int i = 0; i < 1000; i += 2) {
                (void)snprintf(key, sizeof(key), "k%d", i);
                assert_ptr_equal(mlc_map_remove(&m, key), &values[i]);
        }
        for (int i = 0; i < 1000; i++) {
                (void)snprintf(key, sizeof(key), "k%d", i);
                assert_ptr_equal(mlc_map_get(&m, key), i % 2 == 0 ? NULL : &values[i]);
        }
        while (mlc_map_next(&m, &pos, &k, &v))
                n++;
        assert_int_equal(n, 500);
        mlc_map_done(&m, NULL);
}

/* The vectors of the reference implementation: key 00..0f, data 00, 00 01, ... */
static void siphash_has_the_published_values(void **state)
{
        static const uint64_t KEY[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
        unsigned char data[15];

        (void)state;
        for (unsigned i = 0; i < sizeof(data); i++)
                data[i] = (unsigned char)i;
        assert_true(mlc_siphash(KEY, data, 0) == UINT64_C(0x726fdb47dd0e0e31));
        assert_true(mlc_siphash(KEY, data, 1) == UINT64_C(0x74f839c593dc67fd));
        assert_true(mlc_siphash(KEY, data, 8) == UINT64_C(0x93f5f5799a932462));
        assert_true(mlc_siphash(KEY, data, 15) == UINT64_C(0xa129ca6149be45e5));
}

static void maps_hash_in_ways_of_their_own(void **state)
{
        struct mlc_map a, b;
        int one = 1;

        (void)state;
        mlc_map_init(&a);
        mlc_map_init(&b);
        assert_null(mlc_map_get(&a, "k"));
        assert_null(mlc_map_set(&a, "k", &one));
        assert_null(mlc_map_set(&b, "k", &one));
        assert_memory_not_equal(a.seed, b.seed, sizeof(a.seed));
        mlc_map_done(&a, NULL);
        mlc_map_done(&b, NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(errors_keep_the_first_message),
                cmocka_unit_test(error_messages_are_printable),
                cmocka_unit_test(arena_stops_at_its_cap),
                cmocka_unit_test(str_keeps_what_fits),
                cmocka_unit_test(numbers_are_strict),
                cmocka_unit_test(times_round_trip),
                cmocka_unit_test(map_survives_growth_and_removal),
                cmocka_unit_test(siphash_has_the_published_values),
                cmocka_unit_test(maps_hash_in_ways_of_their_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
