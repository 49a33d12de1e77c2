/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include <dirent.h>

#include "base/str.h"

#include "crypto/hash.h"
#include "policy/evaluation.h"

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEAD                                                                                       \
        "{'schema':'evaluation/v1','dataset':'d@sha256:" HEX                                       \
        "','evaluated_at':'2026-11-23T10:00:00Z','metrics':["
#define M(more) HEAD "{'name':'accuracy','value':0.9,'n':10" more "}]}"

static void the_sample_is_read(void **state)
{
        struct mlc_evaluation e;
        struct mlc_err err = {0};
        struct mlc_arena a;
        size_t len;
        _cleanup_(free_p) char *text = sample("valid/evaluation.json", &len);
        _cleanup_(json_decref_p) json_t *doc = NULL;

        (void)state;
        mlc_arena_init(&a, 4u << 20);
        if (mlc_evaluation_parse(text, len, &a, &doc, &e, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        assert_string_equal(e.dataset.name, "fraud/holdout");
        assert_string_equal(e.repository, "https://git.example/fraud");
        assert_int_equal(e.n_metrics, 3);
        assert_true(e.metrics[0].value == 0.951 && e.metrics[0].has_interval);
        assert_true(e.metrics[0].lo == 0.908 && e.metrics[0].hi == 0.977);
        assert_null(e.metrics[0].slice);
        assert_string_equal(json_string_value(json_object_get(e.metrics[1].slice, "age")), "65+");
        assert_string_equal(e.metrics[2].unit, "ms");
        assert_true(e.metrics[2].lower_is_better && !e.metrics[2].has_interval);
        mlc_arena_done(&a);
}

static const struct {
        const char *text, *field;
} BAD[] = {
        {"[]", ""},
        {"{}", "/schema"},
        {M(",'note':1"), "/metrics/0/note"},
        {M(",'slice':5"), "/metrics/0/slice"},
        {M(",'slice':{'age':65}"), "/metrics/0/slice/age"},
        {M(",'slice':{'a/b':''}"), "/metrics/0/slice/a~1b"},
        {M(",'interval':[0.95,0.99]"), "/metrics/0/interval"},
        {M(",'interval':[0.99,0.8]"), "/metrics/0/interval"},
        {M(",'interval':[0.8]"), "/metrics/0/interval"},
        {M(",'interval':[0.8,'x']"), "/metrics/0/interval/1"},
        {M(",'confidence':95"), "/metrics/0/confidence"},
        {M(",'confidence':1"), "/metrics/0/confidence"},
        {M(",'unit':''"), "/metrics/0/unit"},
        {M(",'better':'worse'"), "/metrics/0/better"},
        {HEAD "{'name':'a','value':NaN,'n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','value':-Infinity,'n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','value':1e999,'n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','value':'0.9','n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','value':null,'n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','n':1}]}", "/metrics/0/value"},
        {HEAD "{'name':'a','value':1,'n':1},{'name':'b','value':1,'n':NaN}]}", "/metrics/1/n"},
        {HEAD "{'name':'a','value':1}]}", "/metrics/0/n"},
        {HEAD "{'name':'a','value':1,'n':0}]}", "/metrics/0/n"},
        {HEAD "{'name':'a','value':1,'n':-5}]}", "/metrics/0/n"},
        {HEAD "{'name':'a','value':1,'n':1.5}]}", "/metrics/0/n"},
        {HEAD "{'name':'a','value':1,'n':9999999999999}]}", "/metrics/0/n"},
        {HEAD "{'value':1,'n':1}]}", "/metrics/0/name"},
        {HEAD "{'name':'','value':1,'n':1}]}", "/metrics/0/name"},
        {HEAD "{'name':'a\\u202e','value':1,'n':1}]}", "/metrics/0/name"},
        {HEAD "{'name':'a','value':1,'n':1},{'name':'a','value':2,'n':1,'slice':{}}]}",
         "/metrics/1/name"},
        {HEAD "5]}", "/metrics/0"},
        {HEAD "]}", "/metrics"},
        {"{'schema':'evaluation/v2'}", "/schema"},
        {"{'schema':'evaluation/v1','dataset':'d'}", "/dataset"},
        {"{'schema':'evaluation/v1','dataset':'d@sha256:00'}", "/dataset"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1'}", "/evaluated_at"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':'2026-11-23'}",
         "/evaluated_at"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':'noon'}", "/evaluated_at"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':"
         "'2026-11-23T10:00:00Z'}",
         "/metrics"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':"
         "'2026-11-23T10:00:00Z','code':{'repository':'x'}}",
         "/code/commit"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':"
         "'2026-11-23T10:00:00Z','code':{'repository':'x','commit':'abc'}}",
         "/code/commit"},
        {"{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':"
         "'2026-11-23T10:00:00Z','labels':{'a':1}}",
         "/labels/a"},
        {"{'schema':'evaluation/v1','extra':1}", "/extra"},
        {"{'schema':'evaluation/v1',", ""},
        {"{'schema':'evaluation/v1','schema':'evaluation/v1'}", ""},
};

static void bad_evaluations_are_refused_by_pointer(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
                _cleanup_(free_p) char *text = strdup(BAD[i].text);
                _cleanup_(json_decref_p) json_t *doc = NULL;
                struct mlc_evaluation e;
                struct mlc_err err = {0};
                struct mlc_arena a;

                for (char *p = text; *p != '\0'; p++)
                        if (*p == '\'')
                                *p = '"';
                mlc_arena_init(&a, 4u << 20);
                if (mlc_evaluation_parse(text, strlen(text), &a, &doc, &e, &err) == 0)
                        fail_msg("accepted: %s", text);
                if (strcmp(err.field, BAD[i].field) != 0)
                        fail_msg("%s\nfield '%s' (%s), wanted '%s'", text, err.field, err.msg,
                                 BAD[i].field);
                mlc_arena_done(&a);
        }
}

static void bad_samples_are_refused(void **state)
{
        DIR *dir = opendir(MLC_SOURCE_DIR "/tests/unit/policy/samples/invalid");
        unsigned n = 0;

        (void)state;
        assert_non_null(dir);
        for (struct dirent *f = readdir(dir); f != NULL; f = readdir(dir)) {
                _cleanup_(json_decref_p) json_t *doc = NULL;
                _cleanup_(free_p) char *text = NULL;
                struct mlc_evaluation e;
                struct mlc_err err = {0};
                struct mlc_arena a;
                char name[300];
                size_t len;

                if (!mlc_ends_with(f->d_name, ".json"))
                        continue;
                (void)snprintf(name, sizeof(name), "invalid/%s", f->d_name);
                text = sample(name, &len);
                mlc_arena_init(&a, 4u << 20);
                if (mlc_evaluation_parse(text, len, &a, &doc, &e, &err) == 0)
                        fail_msg("accepted: %s", name);
                assert_true(err.field[0] == '/');
                mlc_arena_done(&a);
                n++;
        }
        (void)closedir(dir);
        assert_true(n > 5);
}

static void the_id_is_over_the_record(void **state)
{
        struct mlc_digest m = {{1}}, s = {{2}}, x = {{3}}, got, want;
        char ms[MLC_DIGEST_STR], ss[MLC_DIGEST_STR], xs[MLC_DIGEST_STR];
        struct mlc_err err = {0};

        (void)state;
        mlc_digest_format(&m, ms);
        mlc_digest_format(&s, ss);
        mlc_digest_format(&x, xs);
        for (int with = 0; with < 2; with++) {
                _cleanup_(json_decref_p) json_t *record =
                        json_pack("{s:s, s:s, s:s?}", "manifest", ms, "submitted", ss, "examples",
                                  with ? xs : NULL);

                mlc_evaluation_id(&m, &s, with ? &x : NULL, &got);
                assert_int_equal(mlc_sha256_json(record, &want, &err), 0);
                assert_true(mlc_digest_equal(&got, &want));
        }
}

static void slices_are_compared(void **state)
{
        _cleanup_(json_decref_p) json_t *a = json_of("{'x':'1','y':'2'}"),
                                        *b = json_of("{'y':'2','x':'1'}"),
                                        *c = json_of("{'x':'1'}"), *none = json_of("{}"),
                                        *d = json_of("{'x':'1','z':'2'}");

        (void)state;
        assert_true(mlc_slice_equal(a, b));
        assert_true(mlc_slice_equal(NULL, none));
        assert_true(mlc_slice_equal(NULL, NULL));
        assert_false(mlc_slice_equal(a, c));
        assert_false(mlc_slice_equal(a, d));
        assert_false(mlc_slice_equal(c, NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_sample_is_read),
                cmocka_unit_test(bad_evaluations_are_refused_by_pointer),
                cmocka_unit_test(bad_samples_are_refused),
                cmocka_unit_test(the_id_is_over_the_record),
                cmocka_unit_test(slices_are_compared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
