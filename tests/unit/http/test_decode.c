/* SPDX-License-Identifier: Apache-2.0 */
/* Every constraint of a schema, and what the caller is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "gen/api.h"

static const struct api_operation *operation(const char *id)
{
        for (unsigned i = 0; i < gen_n_operations; i++)
                if (strcmp(gen_operations[i].id, id) == 0)
                        return &gen_operations[i];
        fail_msg("no operation %s", id);
        return NULL;
}

struct decoded {
        struct mlc_arena arena;
        struct mlc_err err;
        struct api_patterns patterns;
        json_t *json;
        struct api_t_create_body body;
};

static int decode(struct decoded *d, const char *text, size_t arena_cap)
{
        const struct api_decoder decoder = {&d->patterns, &d->arena, &d->err};

        *d = (struct decoded){0};
        mlc_arena_init(&d->arena, arena_cap);
        assert_int_equal(api_patterns_init(&d->patterns, gen_patterns, gen_n_patterns, NULL), 0);
        assert_int_equal(mlc_json_parse(text, strlen(text), &d->json, NULL), 0);
        return api_decode_body(&decoder, operation("t_create")->body_schema, d->json, &d->body);
}

static void done(struct decoded *d)
{
        json_decref(d->json);
        api_patterns_done(&d->patterns);
        mlc_arena_done(&d->arena);
}

#define OK "\"name\":\"m\",\"n\":1"

static void test_refusals(void **state)
{
        static const struct {
                const char *text, *field, *message;
        } ROWS[] = {
                {"{}", "/name", "is missing; expected a string"},
                {"{\"name\":\"m\"}", "/n", "is missing; expected an integer"},
                {"{" OK ",\"Name\":1}", "/Name", "'Name' is not known here"},
                {"{" OK ",\"a/b~\\u001b\":1}", "/a~1b~0?", "'a/b~\\x1b' is not known here"},
                {"{\"name\":1,\"n\":1}", "/name", "must be a string"},
                {"{\"name\":null,\"n\":1}", "/name", "must be a string"},
                {"{\"name\":\"M\",\"n\":1}", "/name", NULL},
                {"{\"name\":\"m\",\"n\":1.0}", "/n", "must be an integer"},
                {"{\"name\":\"m\",\"n\":\"1\"}", "/n", "must be an integer"},
                {"{\"name\":\"m\",\"n\":true}", "/n", "must be an integer"},
                {"{\"name\":\"m\",\"n\":-1}", "/n", "must be at least 0"},
                {"{\"name\":\"m\",\"n\":11}", "/n", "must be at most 10"},
                {"{" OK ",\"ratio\":1.5}", "/ratio", "must be at most 1"},
                {"{" OK ",\"ratio\":-0.5}", "/ratio", "must be at least 0"},
                {"{" OK ",\"ratio\":\"0\"}", "/ratio", "must be a number"},
                {"{" OK ",\"on\":1}", "/on", "must be true or false"},
                {"{" OK ",\"note\":\"123456\"}", "/note",
                 "has 6 characters, at most 5 are allowed"},
                {"{" OK ",\"note\":1}", "/note", "must be a string or null"},
                {"{" OK ",\"state\":\"left\"}", "/state", "must be one of: up, down"},
                {"{" OK ",\"state\":null}", "/state", "must be a string"},
                {"{" OK ",\"id\":\"y1\"}", "/id", "must match ^x[0-9]+$"},
                {"{" OK ",\"id\":\"x1\\n\"}", "/id", "must match ^x[0-9]+$"},
                {"{" OK ",\"tags\":\"a\"}", "/tags", "must be an array"},
                {"{" OK ",\"tags\":[\"a\",\"b\",\"c\"]}", "/tags",
                 "has 3 items, at most 2 are allowed"},
                {"{" OK ",\"tags\":[\"a\",\"\"]}", "/tags/1",
                 "has 0 characters, at least 1 are needed"},
                {"{" OK ",\"tags\":[\"a\",null]}", "/tags/1", "must be a string"},
                {"{" OK ",\"labels\":[]}", "/labels", "must be an object"},
                {"{" OK ",\"labels\":{\"a/b\":\"12345\"}}", "/labels/a~1b",
                 "has 5 characters, at most 4 are allowed"},
                {"{" OK ",\"labels\":{\"a\":\"\",\"b\":\"\",\"c\":\"\"}}", "/labels",
                 "has 3 members, at most 2 are allowed"},
                {"{" OK ",\"parts\":[{\"size\":1},{}]}", "/parts/1/size",
                 "is missing; expected an integer"},
                {"{" OK ",\"parts\":[{\"size\":1,\"x\":1}]}", "/parts/0/x",
                 "'x' is not known here"},
                {"{" OK ",\"parts\":[[]]}", "/parts/0", "must be an object"},
                {"{" OK ",\"main\":{\"size\":0}}", "/main/size", "must be at least 1"},
                {"{" OK ",\"main\":{\"size\":1,\"a/b\":\"12345\"}}", "/main/a~1b",
                 "has 5 characters, at most 4 are allowed"},
                {"{" OK ",\"main\":[]}", "/main", "must be an object"},
                {"[]", "", "the body must be a JSON object"},
                {"1", "", "the body must be a JSON object"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                struct decoded d;
                int r = decode(&d, ROWS[i].text, 1 << 20);

                if (r != MLC_E_INVALID || strcmp(d.err.field, ROWS[i].field) != 0 ||
                    (ROWS[i].message != NULL && strcmp(d.err.msg, ROWS[i].message) != 0))
                        fail_msg("%s: %d '%s' '%s'", ROWS[i].text, r, d.err.field, d.err.msg);
                done(&d);
        }
}

static void test_everything(void **state)
{
        struct decoded d;

        (void)state;
        assert_int_equal(
                decode(&d,
                       "{\"name\":\"m\",\"n\":10,\"ratio\":1,\"on\":true,"
                       "\"note\":\"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\",\"state\":\"down\","
                       "\"id\":\"x42\",\"tags\":[\"a\",\"b\"],\"labels\":{\"k\":\"v\"},"
                       "\"parts\":[{\"size\":3},{\"size\":4,\"a/b\":\"z\"}],\"main\":{\"size\":5},"
                       "\"extra\":[1,{\"x\":null}]}",
                       1 << 20),
                0);
        assert_string_equal(d.body.name, "m");
        assert_int_equal(d.body.n, 10);
        assert_true(d.body.has_ratio && d.body.ratio == 1.0);
        assert_true(d.body.has_on && d.body.on);
        assert_int_equal(strlen(d.body.note), 10);
        assert_string_equal(d.body.state, "down");
        assert_string_equal(d.body.id, "x42");
        assert_int_equal(d.body.n_tags, 2);
        assert_string_equal(d.body.tags[1], "b");
        assert_int_equal(d.body.n_labels, 1);
        assert_string_equal(d.body.labels[0].key, "k");
        assert_string_equal(d.body.labels[0].value, "v");
        assert_int_equal(d.body.n_parts, 2);
        assert_int_equal(d.body.parts[1].size, 4);
        assert_string_equal(d.body.parts[1].a_b, "z");
        assert_null(d.body.parts[0].a_b);
        assert_int_equal(d.body.main->size, 5);
        assert_int_equal(json_array_size(d.body.extra), 2);
        done(&d);
}

static void test_absent_and_null(void **state)
{
        struct decoded d;

        (void)state;
        assert_int_equal(decode(&d, "{" OK ",\"note\":null}", 1 << 20), 0);
        assert_null(d.body.note);
        assert_false(d.body.has_ratio || d.body.has_on);
        assert_null(d.body.state);
        assert_null(d.body.main);
        assert_null(d.body.extra);
        assert_int_equal(d.body.n_tags + d.body.n_labels + d.body.n_parts, 0);
        done(&d);
}

static void test_arena_is_a_limit(void **state)
{
        struct decoded d;

        (void)state;
        assert_int_equal(
                decode(&d, "{" OK ",\"parts\":[{\"size\":1},{\"size\":1},{\"size\":1}]}", 32),
                MLC_E_LIMIT);
        assert_int_equal(d.err.code, MLC_E_LIMIT);
        done(&d);
}

static void test_bad_pattern(void **state)
{
        static const char *const BAD[] = {"^ok$", "("};
        struct api_patterns p = {0};
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(api_patterns_init(&p, BAD, 2, &err), MLC_E_INTERNAL);
        assert_non_null(strstr(err.msg, "pattern '('"));
        assert_null(p.re);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals),        cmocka_unit_test(test_everything),
                cmocka_unit_test(test_absent_and_null), cmocka_unit_test(test_arena_is_a_limit),
                cmocka_unit_test(test_bad_pattern),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
