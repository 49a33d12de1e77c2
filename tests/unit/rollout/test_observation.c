/* SPDX-License-Identifier: Apache-2.0 */
/* Items of reports of observations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rollout/observation.h"

static int read_text(struct mlc_arena *a, const char *text, struct observation_item *o,
                     struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *item = NULL;
        int r;

        assert_int_equal(mlc_json_parse(text, strlen(text), &item, err), 0);
        r = observation_read(a, item, "/3", o, err);
        if (r == 0) /* borrowed of the item, which goes */
                o->id = o->environment = o->model = o->route = o->variant = NULL;
        return r;
}

static void test_values(void **state)
{
        static const char *const values[][2] = {
                {"1", "1"},     {"1.0", "1"},     {"\"1\"", "1"},
                {"0.5", "0.5"}, {"true", "true"}, {"\"true\"", "true"},
                {"\"\"", ""},   {"1e3", "1000"},  {"\"caf\u00e9\"", "caf\u00e9"}};
        struct mlc_arena a;
        char text[200];

        (void)state;
        mlc_arena_init(&a, 1 << 20);
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
                struct observation_item o = {0};
                struct mlc_err err = {0};

                (void)snprintf(text, sizeof(text),
                               "{\"id\":\"a\",\"environment\":\"e\",\"route\":\"r\",\"version\":7,"
                               "\"output\":%s,\"time\":\"1970-01-01T00:00:01Z\"}",
                               values[i][0]);
                assert_int_equal(read_text(&a, text, &o, &err), 0);
                assert_string_equal(o.output, values[i][1]);
                assert_null(o.label);
                assert_int_equal(o.version, 7);
                assert_int_equal(o.at_ms, 1000);
        }
        mlc_arena_done(&a);
}

static void test_pointers(void **state)
{
        static const char *const cases[][2] = {
                {"7", "/3"},
                {"{\"environment\":\"e\",\"model\":\"a/b\",\"label\":1}", "/3/id"},
                {"{\"id\":\"a\",\"model\":\"a/b\",\"label\":1}", "/3/environment"},
                {"{\"id\":\"a\",\"environment\":\"e\",\"label\":1}", "/3"},
                {"{\"id\":\"a\",\"environment\":\"e\",\"model\":\"a/b\"}", "/3"},
                {"{\"id\":\"a\",\"environment\":\"e\",\"model\":\"a/b\",\"output\":1}", "/3"},
                {"{\"id\":\"a\",\"environment\":\"e\",\"model\":\"a/b\",\"a/b\":1}", "/3/a~1b"},
        };
        struct mlc_arena a;

        (void)state;
        mlc_arena_init(&a, 1 << 20);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct observation_item o = {0};
                struct mlc_err err = {0};

                assert_int_equal(read_text(&a, cases[i][0], &o, &err), MLC_E_INVALID);
                assert_string_equal(err.field, cases[i][1]);
        }
        mlc_arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_pointers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
