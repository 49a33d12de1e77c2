/* SPDX-License-Identifier: Apache-2.0 */
#include "client/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct variable {
        const char *name, *value;
};

/* Stands for the environment: a list that ends with a NULL name. */
static const char *lookup(void *userdata, const char *name)
{
        for (const struct variable *v = userdata; v->name != NULL; v++)
                if (strcmp(v->name, name) == 0)
                        return v->value;
        return NULL;
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static void test_github(void **state)
{
        struct variable env[] = {
                {"GITHUB_ACTIONS", "true"},   {"GITHUB_SERVER_URL", "https://ghe.example"},
                {"GITHUB_REPOSITORY", "a/b"}, {"GITHUB_SHA", COMMIT},
                {"GITHUB_RUN_ID", "12"},      {"GITHUB_RUN_ATTEMPT", "3"},
                {"GITHUB_ACTOR", "mona"},     {NULL, NULL},
        };
        struct mlc_origin o;

        (void)state;
        mlc_origin_detect(lookup, env, false, &o);
        assert_string_equal(o.code, "https://ghe.example/a/b@" COMMIT);
        assert_string_equal(o.run, "https://ghe.example/a/b/actions/runs/12/attempts/3");
        assert_string_equal(o.actor, "mona");
        assert_string_equal(o.code_from, "GitHub");
        assert_string_equal(o.run_from, "GitHub");
        assert_false(o.dirty);
        env[1].value = "";
        env[5].value = "";
        mlc_origin_detect(lookup, env, false, &o);
        assert_string_equal(o.code, "https://github.com/a/b@" COMMIT);
        assert_string_equal(o.run, "https://github.com/a/b/actions/runs/12/attempts/1");
}

static void test_gitlab(void **state)
{
        struct variable env[] = {
                {"GITLAB_CI", "true"},
                {"CI_PROJECT_URL", "https://gitlab-ci-token:secret@gl.example/a/b"},
                {"CI_COMMIT_SHA", COMMIT},
                {"CI_JOB_URL", "https://gl.example/a/b/-/jobs/1"},
                {"CI_PIPELINE_URL", "https://gl.example/a/b/-/pipelines/2"},
                {"GITLAB_USER_LOGIN", "tanuki"},
                {NULL, NULL},
        };
        struct mlc_origin o;

        (void)state;
        mlc_origin_detect(lookup, env, false, &o);
        assert_string_equal(o.code, "https://gl.example/a/b@" COMMIT);
        assert_string_equal(o.run, "https://gl.example/a/b/-/jobs/1");
        assert_string_equal(o.actor, "tanuki");
        env[3].value = NULL;
        mlc_origin_detect(lookup, env, false, &o);
        assert_string_equal(o.run, "https://gl.example/a/b/-/pipelines/2");
}

static void test_what_is_not_believed(void **state)
{
        struct variable env[] = {
                {"GITHUB_ACTIONS", "true"},
                {"GITHUB_REPOSITORY", "a/b"},
                {"GITHUB_SHA", "main"},
                {"GITHUB_ACTOR", "two\nlines"},
                {NULL, NULL},
        };
        struct variable none[] = {{"GITHUB_ACTIONS", "no"}, {"GITLAB_CI", ""}, {NULL, NULL}};
        struct mlc_origin o;

        (void)state;
        mlc_origin_detect(lookup, env, false, &o);
        assert_string_equal(o.code, "");
        assert_null(o.code_from);
        assert_string_equal(o.run, "");
        assert_string_equal(o.actor, "");
        mlc_origin_detect(lookup, none, false, &o);
        assert_string_equal(o.code, "");
        assert_string_equal(o.run, "");
}

static void test_urls(void **state)
{
        static const char *const cases[][2] = {
                {"https://u:p@h.example/x.git", "https://h.example/x.git"},
                {"https://u@h.example:8443/x", "https://h.example:8443/x"},
                {"https://u:p@ss@h.example/x", "https://h.example/x"},
                {"https://h.example/x@y", "https://h.example/x@y"},
                {"ssh://git@h.example/x", "ssh://h.example/x"},
                {"git@h.example:x/y.git", "git@h.example:x/y.git"},
                {"https://h.example", "https://h.example"},
                {"https://u:p@h.example?q=@", "https://h.example?q=@"},
        };
        char out[64], tiny[8];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_true(mlc_origin_clean_url(cases[i][0], out, sizeof(out)));
                assert_string_equal(out, cases[i][1]);
        }
        assert_false(mlc_origin_clean_url("", out, sizeof(out)));
        assert_false(mlc_origin_clean_url("https://h/\x1b[2J", out, sizeof(out)));
        assert_false(mlc_origin_clean_url("https://h/ x", out, sizeof(out)));
        assert_false(mlc_origin_clean_url("https://h.example", tiny, sizeof(tiny)));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_github),
                cmocka_unit_test(test_gitlab),
                cmocka_unit_test(test_what_is_not_believed),
                cmocka_unit_test(test_urls),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
