/* SPDX-License-Identifier: Apache-2.0 */
/* What Prometheus answers, by its documentation and by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rollout/measure.h"

#define NOW_MS 1435781460000

static enum measure_outcome outcome(int status, const char *body, struct measure_value *v)
{
        measure_read(
                &(struct measure_reply){
                        .status = status, .body = body, .len = strlen(body), .now_ms = NOW_MS},
                v);
        assert_true((v->outcome == MEASURE_VALUE) == (v->value[0] != '\0'));
        assert_true((v->outcome == MEASURE_VALUE) == (v->problem[0] == '\0'));
        return v->outcome;
}

#define VECTOR(items)                                                                              \
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[" items "]}}"
#define SERIES(value) "{\"metric\":{\"job\":\"a\"},\"value\":[1435781451.781,\"" value "\"]}"

static void test_values(void **state)
{
        static const char *const numbers[][2] = {{"1", "1"},
                                                 {"-0.25", "-0.25"},
                                                 {"1e-7", "1e-07"},
                                                 {"12345678901", "1.23456789e+10"}};
        char body[300];
        struct measure_value v;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
                (void)snprintf(body, sizeof(body), VECTOR(SERIES("%s")), numbers[i][0]);
                assert_int_equal(outcome(200, body, &v), MEASURE_VALUE);
                assert_string_equal(v.value, numbers[i][1]);
        }
        assert_int_equal(outcome(200,
                                 "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\","
                                 "\"result\":[1435781451.781,\"7\"]}}",
                                 &v),
                         MEASURE_VALUE);
        assert_string_equal(v.value, "7");
}

static void test_not_known(void **state)
{
        static const struct {
                int status;
                const char *body;
                enum measure_outcome want;
        } cases[] = {
                {200, VECTOR(""), MEASURE_EMPTY},
                {200, VECTOR(SERIES("NaN")), MEASURE_NAN},
                {200, VECTOR(SERIES("+Inf")), MEASURE_NAN},
                {200, VECTOR(SERIES("-Inf")), MEASURE_NAN},
                {200, VECTOR(SERIES("1") "," SERIES("2")), MEASURE_SEVERAL},
                {200, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}",
                 MEASURE_REFUSED},
                {200, "{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":[]}}",
                 MEASURE_REFUSED},
                {400, "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse\"}",
                 MEASURE_REFUSED},
                {422, "{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"many\"}",
                 MEASURE_REFUSED},
                {503, "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"slow\"}",
                 MEASURE_UNAVAILABLE},
                {502, "<html>", MEASURE_UNAVAILABLE},
                {404, "404 page not found", MEASURE_UNAVAILABLE},
                {302, "", MEASURE_UNAVAILABLE},
                {200, "", MEASURE_GARBAGE},
                {200, "<html>", MEASURE_GARBAGE},
                {200, "[]", MEASURE_GARBAGE},
                {200, "{\"status\":\"error\"}", MEASURE_GARBAGE},
                {200, "{\"status\":\"success\"}", MEASURE_GARBAGE},
                {200, VECTOR("{\"value\":[1435781339,\"1\"]}"), MEASURE_OLD},
                {200, VECTOR("{\"value\":[1435781581,\"1\"]}"), MEASURE_OLD},
                {200, VECTOR("{\"value\":[0,\"1\"]}"), MEASURE_OLD},
                {200, VECTOR("{\"value\":[\"1435781460\",\"1\"]}"), MEASURE_GARBAGE},
                {200, VECTOR("{\"metric\":{}}"), MEASURE_GARBAGE},
                {200, VECTOR("{\"value\":[1]}"), MEASURE_GARBAGE},
                {200, VECTOR("{\"value\":[1,2]}"), MEASURE_GARBAGE},
                {200, VECTOR(SERIES("")), MEASURE_GARBAGE},
                {200, VECTOR(SERIES("1x")), MEASURE_GARBAGE},
                {200, VECTOR(SERIES(" 1")), MEASURE_GARBAGE},
        };
        struct measure_value v;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                assert_int_equal(outcome(cases[i].status, cases[i].body, &v), cases[i].want);
}

/* What a server says is shown to people, in one line of a bounded length. */
static void test_words(void **state)
{
        char body[4096];
        struct measure_value v;

        (void)state;
        (void)snprintf(body, sizeof(body), "{\"error\":\"%s\"}", "a\\u001b[31m\\nb\\u202ec");
        assert_int_equal(outcome(400, body, &v), MEASURE_REFUSED);
        assert_string_equal(v.problem, "Prometheus refuses the query: a?[31m?b?c");
        (void)snprintf(body, sizeof(body), "{\"error\":\"%03000d\"}", 1);
        assert_int_equal(outcome(503, body, &v), MEASURE_UNAVAILABLE);
        assert_true(strlen(v.problem) < MEASURE_TEXT_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_not_known),
                cmocka_unit_test(test_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
