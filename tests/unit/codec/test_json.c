/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "support/vectors.h"

static json_t *parse(const char *text)
{
        struct mlc_err err = {0};
        json_t *j = NULL;

        if (mlc_json_parse(text, strlen(text), &j, &err) < 0)
                fail_msg("%s", err.msg);
        return j;
}

static void parse_refuses(void **state)
{
        static const struct {
                const char *text, *says;
        } v[] = {
                {"{\"a\":1,\"a\":2}", "duplicate"},
                {"{\"a\":1} x", "line 1, column 9"},
                {"", "line 1"},
                {"{\n\"a\":\n!}", "line 3, column 1"},
                {"\"\xff\"", "line 1"},
                {"{\"a\\u0000b\":1}", "line 1"},
                {"[1e999]", "line 1"},
                {"[9223372036854775808]", "line 1"},
        };
        char deep[6000];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_err err = {0};
                json_t *j = NULL;

                assert_int_equal(mlc_json_parse(v[i].text, strlen(v[i].text), &j, &err),
                                 MLC_E_INVALID);
                assert_null(j);
                if (strstr(err.msg, v[i].says) == NULL)
                        fail_msg("'%s' does not say '%s'", err.msg, v[i].says);
        }
        memset(deep, '[', sizeof(deep));
        {
                struct mlc_err err = {0};
                json_t *j = NULL;

                assert_int_equal(mlc_json_parse(deep, sizeof(deep), &j, &err), MLC_E_INVALID);
                assert_non_null(strstr(err.msg, "depth"));
        }
}

static void members_name_the_field(void **state)
{
        _cleanup_(json_decref_p) json_t *j =
                parse("{\"s\":\"x\",\"i\":3,\"b\":true,\"o\":{},\"a\":[],\"n\":null,\"r\":1.5,"
                      "\"a/b~c\":1}");
        struct mlc_err err = {0};
        const char *s = "default";
        int64_t i = 7;
        double d = 0;
        bool b = false;
        json_t *o = NULL;

        (void)state;
        assert_int_equal(mlc_json_get_str(j, "", "s", &s, &err), 0);
        assert_string_equal(s, "x");
        assert_int_equal(mlc_json_get_i64(j, "", "i", &i, &err), 0);
        assert_int_equal(i, 3);
        assert_int_equal(mlc_json_get_num(j, "", "i", &d, &err), 0);
        assert_true(d == 3.0);
        assert_int_equal(mlc_json_get_num(j, "", "r", &d, &err), 0);
        assert_true(d == 1.5);
        assert_int_equal(mlc_json_get_bool(j, "", "b", &b, &err), 0);
        assert_true(b);
        assert_int_equal(mlc_json_get_obj(j, "", "o", &o, &err), 0);
        assert_true(json_is_object(o));
        assert_int_equal(mlc_json_get_arr(j, "", "a", &o, &err), 0);
        assert_true(json_is_array(o));
        assert_int_equal(mlc_json_opt_i64(j, "", "n", &i, &err), 0);
        assert_int_equal(mlc_json_opt_i64(j, "", "absent", &i, &err), 0);
        assert_int_equal(i, 3);
        assert_int_equal(mlc_json_get_str(j, "/x/0", "a/b~c", &s, &err), MLC_E_INVALID);
        assert_string_equal(err.field, "/x/0/a~1b~0c");
        assert_string_equal(err.msg, "'a/b~c' must be a string, not an integer");
        mlc_err_clear(&err);
        assert_int_equal(mlc_json_get_str(j, "", "absent", &s, &err), MLC_E_INVALID);
        assert_string_equal(err.field, "/absent");
        mlc_err_clear(&err);
        assert_int_equal(mlc_json_get_i64(j, "", "n", &i, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_json_opt_bool(j, "", "i", &b, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_json_get_i64(j, "", "r", &i, &err), MLC_E_INVALID);
        assert_string_equal(s, "x");
        mlc_err_clear(&err);
        assert_int_equal(mlc_json_get_i64(o, "/a", "r", &i, &err), MLC_E_INVALID);
        assert_string_equal(err.field, "/a");
}

static void unknown_members_are_named(void **state)
{
        _cleanup_(json_decref_p) json_t *j = parse("{\"name\":1,\"nmae\":2}");
        static const char *const all[] = {"name", "nmae", NULL}, *const one[] = {"name", NULL};
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_json_only(j, "", all, &err), 0);
        assert_int_equal(mlc_json_only(j, "/m", one, &err), MLC_E_INVALID);
        assert_string_equal(err.field, "/m/nmae");
}

static void pointer_is_cut_not_overrun(void **state)
{
        char ret[MLC_JSON_POINTER_MAX], key[300];

        (void)state;
        memset(key, '/', sizeof(key) - 1);
        key[sizeof(key) - 1] = '\0';
        mlc_json_pointer(ret, "/at", key);
        assert_true(strlen(ret) < sizeof(ret));
        mlc_json_pointer(ret, key, "k");
        assert_int_equal(strlen(ret), sizeof(ret) - 1);
}

static void jcs_of_real(uint64_t bits, const char *want)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        _cleanup_(json_decref_p) json_t *j = NULL;
        struct mlc_err err = {0};
        double v;

        memcpy(&v, &bits, sizeof(v));
        j = json_real(v);
        mlc_str_init(&s, 64);
        assert_int_equal(mlc_jcs(j, &s, &err), 0);
        assert_string_equal(mlc_str_cstr(&s), want);
        assert_int_equal(mlc_jcs_signed(j, &s, &err), MLC_E_INVALID);
}

/* RFC 8785 appendix B */
static void jcs_numbers(void **state)
{
        static const struct {
                uint64_t bits;
                const char *text;
        } v[] = {
                {0x0000000000000000, "0"},
                {0x8000000000000000, "0"},
                {0x0000000000000001, "5e-324"},
                {0x8000000000000001, "-5e-324"},
                {0x7fefffffffffffff, "1.7976931348623157e+308"},
                {0xffefffffffffffff, "-1.7976931348623157e+308"},
                {0x4340000000000000, "9007199254740992"},
                {0xc340000000000000, "-9007199254740992"},
                {0x4430000000000000, "295147905179352830000"},
                {0x44b52d02c7e14af5, "9.999999999999997e+22"},
                {0x44b52d02c7e14af6, "1e+23"},
                {0x44b52d02c7e14af7, "1.0000000000000001e+23"},
                {0x444b1ae4d6e2ef4e, "999999999999999700000"},
                {0x444b1ae4d6e2ef4f, "999999999999999900000"},
                {0x444b1ae4d6e2ef50, "1e+21"},
                {0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"},
                {0x3eb0c6f7a0b5ed8d, "0.000001"},
                {0x41b3de4355555553, "333333333.3333332"},
                {0x41b3de4355555554, "333333333.33333325"},
                {0x41b3de4355555555, "333333333.3333333"},
                {0x41b3de4355555556, "333333333.3333334"},
                {0x41b3de4355555557, "333333333.33333343"},
                {0xbecbf647612f3696, "-0.0000033333333333333333"},
                {0x43143ff3c1cb0959, "1424953923781206.2"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
                jcs_of_real(v[i].bits, v[i].text);
}

static void jcs_texts(void **state)
{
        /* the order of UTF-16 units differs from that of bytes in the second: U+1F602, U+FB33 */
        static const char *const v[][2] = {
                {"{ \"b\" : [ 1 , -2, true,null , {} ,[] ], \"a\":false }",
                 "{\"a\":false,\"b\":[1,-2,true,null,{},[]]}"},
                {"{\"\\ufb33\":1,\"\\ud83d\\ude02\":2,\"\\u20ac\":3,\"a\":4,\"\":5,\"aa\":6}",
                 "{\"\":5,\"a\":4,\"aa\":6,\"\xe2\x82\xac\":3,\"\xf0\x9f\x98\x82\":2,"
                 "\"\xef\xac\xb3\":1}"},
                {"\"\\u20ac$\\u000F\\u000aA'\\u0042\\u0022\\u005c\\\\\\\"\\/\\b\\f\\r\\t\\u007f\"",
                 "\"\xe2\x82\xac$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\\b\\f\\r\\t\x7f\""},
                {"[9007199254740991,-9007199254740991]", "[9007199254740991,-9007199254740991]"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *j = parse(v[i][0]);
                _cleanup_(mlc_str_done) struct mlc_str s;
                struct mlc_err err = {0};

                mlc_str_init(&s, 256);
                assert_int_equal(mlc_jcs_signed(j, &s, &err), 0);
                assert_string_equal(mlc_str_cstr(&s), v[i][1]);
        }
}

static void jcs_refuses(void **state)
{
        _cleanup_(json_decref_p) json_t *big = parse("[9007199254740992]"), *deep = json_array(),
                                        *text = parse("\"four\"");
        _cleanup_(mlc_str_done) struct mlc_str s;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&s, 1024);
        assert_int_equal(mlc_jcs(big, &s, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        for (int i = 0; i < MLC_JCS_DEPTH_MAX + 1; i++) {
                json_t *outer = json_array();

                assert_int_equal(json_array_append_new(outer, deep), 0);
                deep = outer;
        }
        assert_int_equal(mlc_jcs(deep, &s, &err), MLC_E_LIMIT);
        mlc_err_clear(&err);
        mlc_str_done(&s);
        mlc_str_init(&s, 5);
        assert_int_equal(mlc_jcs(text, &s, &err), MLC_E_LIMIT);
}

/* cyberphone/json-canonicalization testdata: input gives output */
static void jcs_published_files(void **state)
{
        static const char *const names[] = {"arrays",  "french", "structures",
                                            "unicode", "values", "weird"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                _cleanup_(free_p) char *in = NULL, *out = NULL;
                _cleanup_(json_decref_p) json_t *j = NULL;
                _cleanup_(mlc_str_done) struct mlc_str s;
                struct mlc_err err = {0};
                char rel[64];
                size_t n_in, n_out;

                (void)snprintf(rel, sizeof(rel), "jcs/input/%s.json", names[i]);
                in = vector_read(rel, &n_in);
                (void)snprintf(rel, sizeof(rel), "jcs/output/%s.json", names[i]);
                out = vector_read(rel, &n_out);
                assert_int_equal(mlc_json_parse(in, n_in, &j, &err), 0);
                mlc_str_init(&s, 1u << 16);
                assert_int_equal(mlc_jcs(j, &s, &err), 0);
                assert_int_equal(s.len, n_out);
                assert_memory_equal(s.data, out, n_out);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parse_refuses),
                cmocka_unit_test(members_name_the_field),
                cmocka_unit_test(unknown_members_are_named),
                cmocka_unit_test(pointer_is_cut_not_overrun),
                cmocka_unit_test(jcs_numbers),
                cmocka_unit_test(jcs_texts),
                cmocka_unit_test(jcs_refuses),
                cmocka_unit_test(jcs_published_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
