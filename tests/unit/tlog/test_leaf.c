/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tlog/leaf.h"

#define LEAF                                                                                       \
        "{\"action\":\"alias.set\",\"actor\":\"u7f3a\",\"after\":"                                 \
        "\"sha256:015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862\","             \
        "\"before\":null,\"detail\":{},\"id\":\"fraud/scorer:champion\",\"kind\":\"alias\","       \
        "\"log\":\"example.org/log\",\"state\":{\"a\":1},"                                         \
        "\"time\":\"2026-11-24T06:47:36.123Z\",\"type\":\"urn:mlctl:leaf:v1\"}"

static void the_leaf_has_one_form(void **state)
{
        _cleanup_(json_decref_p) json_t *after = json_pack("{si}", "a", 1);
        const struct mlc_leaf_in in = {.origin = "example.org/log",
                                       .actor = "u7f3a",
                                       .action = "alias.set",
                                       .kind = "alias",
                                       .id = "fraud/scorer:champion",
                                       .time_ms = 1795502856123,
                                       .after = after};
        _cleanup_(mlc_leaf_done) struct mlc_leaf leaf = {0};
        struct mlc_str s;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&s, 1 << 17);
        if (mlc_leaf_build(&in, &s, &err) < 0)
                fail_msg("%s %s", err.field, err.msg);
        assert_string_equal(s.data, LEAF);
        assert_int_equal(mlc_leaf_parse(s.data, s.len, &leaf, &err), 0);
        assert_string_equal(leaf.id, in.id);
        assert_int_equal(leaf.time_ms, in.time_ms);
        assert_false(leaf.has_before);
        assert_true(leaf.has_after);
        assert_int_equal(json_integer_value(json_object_get(leaf.state, "a")), 1);
        mlc_str_done(&s);
}

/* One replacement in the good leaf each. */
static void what_is_not_a_leaf_is_refused(void **state)
{
        static const struct {
                const char *from, *to;
        } cases[] = {
                {"alias.set", "alias"},
                {"alias.set", "Alias.set"},
                {"alias.set", "alias.set.x"},
                {"alias.set", ".set"},
                {"alias.set", "alias."},
                {"u7f3a", ""},
                {"u7f3a", "u7f3a b"},
                {"sha256:0", "sha256:1"},
                {"sha256:0", "SHA256:0"},
                {"\"before\":null", "\"before\":1"},
                {"\"before\":null", "\"before\":\"sha256:00\""},
                {"\"detail\":{}", "\"detail\":null"},
                {"\"detail\":{}", "\"detail\":{\"x\":1.5}"},
                {"\"detail\":{}", "\"detail\":{\"b\":1,\"a\":1}"},
                {"\"detail\":{}", "\"detail\":{\"a\":1,\"a\":1}"},
                {"\"detail\":{}", "\"detail\": {}"},
                {"fraud/scorer:champion", "fraud scorer"},
                {"fraud/scorer:champion", "fraud/\\u0001"},
                {"fraud/scorer:champion", "fr\xc3\xa4ud"},
                {"\"kind\":\"alias\"", "\"kind\":\"\""},
                {"\"kind\":\"alias\",", ""},
                {"{\"a\":1}", "null"},
                {"{\"a\":1}", "{\"a\":2}"},
                {"{\"a\":1}", "[1]"},
                {"36.123Z", "36Z"},
                {"36.123Z", "36.1230Z"},
                {"36.123Z", "36.123+00:00"},
                {"2026-11-24", "2026-13-24"},
                {"leaf:v1", "leaf:v2"},
                {"}", "},"},
                {"\"type\"", "\"typo\""},
                {"\"time\"", "\"teim\":1,\"time\""},
                {"example.org/log", ""},
        };
        struct mlc_leaf leaf;
        struct mlc_str s;
        struct mlc_err err = {0};
        const char *at;

        (void)state;
        mlc_str_init(&s, 1 << 17);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                at = strstr(LEAF, cases[i].from);
                assert_non_null(at);
                mlc_str_reset(&s);
                mlc_str_addn(&s, LEAF, (size_t)(at - LEAF));
                mlc_str_add(&s, cases[i].to);
                mlc_str_add(&s, at + strlen(cases[i].from));
                mlc_err_clear(&err);
                if (mlc_leaf_parse(s.data, s.len, &leaf, &err) != MLC_E_INVALID)
                        fail_msg("accepted %s -> %s", cases[i].from, cases[i].to);
        }
        for (size_t n = 0; n < strlen(LEAF); n++) {
                mlc_err_clear(&err);
                assert_int_equal(mlc_leaf_parse(LEAF, n, &leaf, &err), MLC_E_INVALID);
        }
        mlc_str_done(&s);
}

static void a_leaf_has_a_largest_size(void **state)
{
        char *big = calloc(1, 70000);
        json_t *detail;
        struct mlc_leaf_in in = {.origin = "o",
                                 .actor = "system",
                                 .action = "a.b",
                                 .kind = "k",
                                 .id = "i",
                                 .time_ms = 0};
        struct mlc_str s;
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(big);
        memset(big, 'x', 65535);
        detail = json_pack("{ss}", "x", big);
        in.detail = detail;
        mlc_str_init(&s, 1 << 20);
        assert_int_equal(mlc_leaf_build(&in, &s, &err), MLC_E_LIMIT);
        mlc_str_done(&s);
        json_decref(detail);
        free(big);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_leaf_has_one_form),
                cmocka_unit_test(what_is_not_a_leaf_is_refused),
                cmocka_unit_test(a_leaf_has_a_largest_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
