/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rollout/support.h"

static json_t *step(const json_t *plan, size_t i)
{
        return json_array_get(json_object_get(plan, "steps"), i);
}

static size_t n_steps(const json_t *plan)
{
        return json_array_size(json_object_get(plan, "steps"));
}

/* ids joined by blanks */
static void assert_ids(const json_t *list, const char *want)
{
        char got[512] = "";
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                (void)snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s",
                               i > 0 ? " " : "",
                               json_is_string(v) ? json_string_value(v) : text(v, "id"));
        assert_string_equal(got, want);
}

static void defaults(void **state)
{
        static const struct {
                const char *strategy, *checks;
                int weights[4], mirror;
                size_t n;
        } v[] = {
                {"shadow", "errors agreement", {0, 10000}, 1000, 2},
                {"canary", "errors", {500, 2500, 5000, 10000}, 0, 4},
                {"blue-green", "", {10000}, 0, 1},
                {"ab", "errors", {5000, 10000}, 0, 2},
                {"none", "", {10000}, 0, 1},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                char model[256];
                _cleanup_(json_decref_p) json_t *plan = NULL;

                (void)snprintf(model, sizeof(model), ROLLOUT("{'strategy':'%s'}"), v[i].strategy);
                plan = plan_of(model);
                assert_int_equal(n_steps(plan), v[i].n);
                for (size_t j = 0; j < v[i].n; j++)
                        assert_int_equal(number(step(plan, j), "weight"), v[i].weights[j]);
                assert_int_equal(number(step(plan, 0), "mirror"), v[i].mirror);
                assert_ids(json_object_get(plan, "checks"), v[i].checks);
                assert_ids(json_object_get(step(plan, v[i].n - 1), "needs"), "");
                assert_string_equal(text(plan, "on_harm"), "rollback");
                assert_string_equal(text(plan, "on_deadline"), "pause");
        }
        {
                _cleanup_(json_decref_p) json_t *plan = plan_in(NO_ENV, NULL, false);

                assert_string_equal(text(plan, "strategy"), "none");
        }
        {
                _cleanup_(json_decref_p) json_t *plan = plan_of(ROLLOUT("{'strategy':'ab'}"));

                assert_string_equal(text(json_object_get(plan, "ab"), "metric"), "errors");
                assert_int_equal(number(json_object_get(plan, "ab"), "horizon"), 10000);
        }
}

#define FULL                                                                                       \
        ROLLOUT("{'strategy':'canary','steps':[{'mirror':'10%','requests':2000,'for':'10m'},{"     \
                "'weight':'5%','requests':1000,'for':'10m'},{'weight':'0.001%',"                   \
                "'checks':['errors','truth'],'wait':'person'},{'weight':'50%','labels':10,"        \
                "'advance':'proven'}],'checks':[{'id':'errors','type':'error-rate','margin':"      \
                "'0.5%','alpha':0.04},{'id':'slow','type':'slower-than','limit':'50ms','margin':"  \
                "'1%'},{'id':'outputs','type':'prediction-distribution'},{'id':'agreement','type'" \
                ":'shadow-agreement','at_least':'97%'},{'id':'truth','type':'labels','margin':"    \
                "'1%','mode':'enforce'},{'id':'tail','type':'latency','margin':'10%','mode':"      \
                "'warn'},{'id':'q','type':'promql','query':'up','at_least':1}],'exposure':'1%',"   \
                "'deadline':'2h','on_deadline':'rollback'}")

static void documents_become_steps(void **state)
{
        _cleanup_(json_decref_p) json_t *plan = plan_of(FULL);
        const json_t *checks = json_object_get(plan, "checks");

        (void)state;
        assert_int_equal(n_steps(plan), 5); /* all traffic in the end */
        assert_int_equal(number(step(plan, 4), "weight"), 10000);
        assert_int_equal(number(step(plan, 2), "weight"), 1); /* above 0 stays above 0 */
        assert_int_equal(number(step(plan, 1), "for_ms"), 600000);
        assert_true(json_is_true(json_object_get(step(plan, 2), "wait")));
        assert_ids(json_object_get(step(plan, 0), "checks"),
                   "errors slow outputs agreement truth tail q");
        assert_ids(json_object_get(step(plan, 0), "needs"), "errors outputs agreement q");
        assert_ids(json_object_get(step(plan, 1), "needs"), "errors slow outputs agreement q");
        assert_ids(json_object_get(step(plan, 2), "checks"), "errors truth");
        assert_ids(json_object_get(step(plan, 2), "needs"), "errors truth");
        assert_ids(json_object_get(step(plan, 3), "needs"),
                   "errors slow outputs agreement truth q");
        assert_ids(json_object_get(step(plan, 4), "needs"), "q");
        /* five that enforce by a test share alpha; what only warns has its own */
        assert_string_equal(text(json_array_get(checks, 0), "alpha_harm"), "0.00800000000");
        assert_string_equal(text(json_array_get(checks, 1), "alpha_harm"), "0.0100000000");
        assert_string_equal(text(json_array_get(checks, 5), "alpha_harm"), "0.0500000000");
        assert_null(json_object_get(json_array_get(checks, 6), "alpha_harm"));
        assert_string_equal(text(plan, "exposure"), "0.0100000000");
        assert_int_equal(number(plan, "deadline_ms"), 7200000);
        assert_string_equal(text(plan, "on_deadline"), "rollback");
        assert_string_equal(text(plan, "source"), "http://127.0.0.1:9090");
}

static void same_documents_same_plan(void **state)
{
        _cleanup_(json_decref_p) json_t *a = plan_of(FULL), *b = plan_of(FULL);

        (void)state;
        assert_true(json_equal(a, b));
}

static void the_first_version_has_nothing_beside_it(void **state)
{
        _cleanup_(json_decref_p) json_t *plan = plan_in(NO_ENV, FULL, true);

        (void)state;
        assert_int_equal(n_steps(plan), 1);
        assert_int_equal(number(step(plan, 0), "weight"), 10000);
        assert_ids(json_object_get(plan, "checks"), "q");
        assert_ids(json_object_get(step(plan, 0), "checks"), "q"); /* its harm counts */
        assert_ids(json_object_get(step(plan, 0), "needs"), ""); /* but it is not waited for */
}

static void what_cannot_be_is_refused(void **state)
{
        static const struct {
                const char *environment, *model, *field;
        } v[] = {
                {NO_ENV,
                 ROLLOUT("{'strategy':'canary','steps':[{'weight':'5%'},{'weight':'50%',"
                         "'checks':['no']}]}"),
                 "/rollout/steps/1/checks/0"},
                {"{'apiVersion':'mlctl/v1','kind':'Environment','name':'p'}",
                 ROLLOUT("{'strategy':'canary','checks':[{'id':'q','type':'promql','query':'up',"
                         "'at_least':1}]}"),
                 "/rollout/checks/0"},
                {"{'apiVersion':'mlctl/v1','kind':'Environment','name':'p','targets':[{'name':'eu',"
                 "'serving':{'driver':'webhook','instances':[{'url':'http://x'}]},'traffic':{"
                 "'driver':'haproxy','control':'unix:/a','map':'/b'}}]}",
                 ROLLOUT("{'strategy':'canary','checks':[{'id':'s','type':'slower-than','limit':"
                         "'50ms','margin':'1%'}]}"),
                 "/rollout/checks/0"},
                {NO_ENV,
                 ROLLOUT("{'strategy':'ab','checks':[{'id':'x','type':'shadow-agreement',"
                         "'at_least':'90%'}]}"),
                 "/rollout/ab"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *env = document(v[i].environment),
                                                *m = document(v[i].model);
                struct mlc_rollout_docs docs = {.model = m, .environment = env};
                struct mlc_err err = {0};
                json_t *plan = NULL;

                assert_int_equal(mlc_rollout_plan(&docs, &plan, &err), MLC_E_INVALID);
                assert_null(plan);
                assert_string_equal(err.field, v[i].field);
        }
}

#define TWO                                                                                        \
        "{'apiVersion':'mlctl/v1','kind':'Environment','name':'production','targets':[{'name':"    \
        "'eu','serving':{'driver':'oip','instances':[{'url':'http://x','repository':{'dir':'/a'}"  \
        "}]}},{'name':'us','serving':{'driver':'oip','instances':[{'url':'http://y','repository':" \
        "{'dir':'/b'}}]}}]}"

static void waves(void **state)
{
        static const struct {
                const char *steps, *field; /* NULL: it suits */
        } v[] = {
                {"{'weight':'5%','targets':['eu']},{'weight':'100%'}", NULL},
                {"{'weight':'100%','targets':['eu']},{'weight':'100%','targets':['us']}", NULL},
                {"{'weight':'100%','targets':['eu']},{'weight':'50%'},{'weight':'100%','targets':"
                 "['us','eu']}",
                 NULL},
                {"{'weight':'5%','targets':['eu']},{'weight':'50%','targets':['us']}", NULL},
                {"{'weight':'5%','targets':['eu','asia']},{'weight':'100%'}",
                 "/rollout/steps/0/targets/1"},
                {"{'weight':'5%','targets':['eu']},{'weight':'100%','targets':['us']}",
                 "/rollout/steps/1"},
                {"{'weight':'100%','targets':['eu']}", "/rollout/steps/0"},
                {"{'mirror':'5%','targets':['eu']},{'weight':'100%','targets':['us']}",
                 "/rollout/steps/1"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *env = document(TWO), *m = NULL, *plan = NULL;
                struct mlc_err err = {0}, again = {0};
                struct mlc_rollout_docs docs;
                char model[1024];
                int r;

                (void)snprintf(model, sizeof(model), ROLLOUT("{'strategy':'canary','steps':[%s]}"),
                               v[i].steps);
                m = document(model);
                docs = (struct mlc_rollout_docs){.model = m, .environment = env};
                r = mlc_rollout_plan(&docs, &plan, &err);
                assert_int_equal(r, v[i].field == NULL ? 0 : MLC_E_INVALID);
                assert_int_equal(mlc_rollout_suits(&docs, &again), r);
                if (r < 0) {
                        assert_string_equal(err.field, v[i].field);
                        assert_string_equal(again.field, v[i].field);
                        continue;
                }
                assert_int_equal(json_array_size(json_object_get(plan, "targets")), 2);
                docs.first = true; /* nothing is compared, all at once */
                json_decref(plan);
                plan = NULL;
                assert_int_equal(mlc_rollout_plan(&docs, &plan, &err), 0);
                assert_null(json_object_get(plan, "targets"));
                assert_null(json_object_get(step(plan, 0), "targets"));
        }
}

static void targets_stay_where_they_are(void **state)
{
        _cleanup_(json_decref_p) json_t *plan = plan_in(
                TWO,
                ROLLOUT("{'strategy':'canary','steps':[{'weight':'5%','targets':['eu']},{'weight':"
                        "'50%','targets':['eu']},{'weight':'5%','targets':['us']},{'weight':"
                        "'60%'}]}"),
                false);
        static const int eu[] = {0, 1, 1, 3, 4}, us[] = {-1, -1, 2, 3, 4};

        (void)state;
        assert_int_equal(n_steps(plan), 5);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(mlc_rollout_step_of(plan, i, "eu"), eu[i]);
                assert_int_equal(mlc_rollout_step_of(plan, i, "us"), us[i]);
        }
        assert_int_equal(mlc_rollout_step_of(plan, -1, "eu"), -1);
}

/* What HAProxy would leave out is refused as soon as somebody writes it down. */
static void what_suits(void **state)
{
        static const char haproxy[] =
                "{'apiVersion':'mlctl/v1','kind':'Environment','name':'production','targets':[{"
                "'name':'eu','serving':{'driver':'webhook','instances':[{'url':'http://x'}]},"
                "'traffic':{'driver':'haproxy','control':'unix:/a','map':'/b'}}]}";
        static const struct {
                const char *model, *field; /* NULL: it suits */
        } v[] = {
                {ROLLOUT("{'strategy':'canary'}"), NULL},
                {ROLLOUT("{'strategy':'canary','checks':[{'id':'q','type':'promql','query':'up',"
                         "'at_least':1}]}"),
                 NULL},
                {ROLLOUT("{'strategy':'shadow'}"), "/rollout/steps"},
                {ROLLOUT("{'strategy':'canary','steps':[{'mirror':'5%'},{'weight':'50%'}]}"),
                 "/rollout/steps"},
                {ROLLOUT("{'strategy':'canary','checks':[{'id':'e','type':'error-rate','margin':"
                         "'1%'},{'id':'l','type':'latency','margin':'1%'}]}"),
                 "/rollout/checks/1"},
                {ROLLOUT("{'strategy':'canary','checks':[{'id':'d','type':"
                         "'prediction-distribution'}]}"),
                 "/rollout/checks/0"},
                {"{'apiVersion':'mlctl/v1','kind':'Model','name':'a/b','routes':[{'route':'s',"
                 "'environments':['staging'],'validate':'flag'},{'route':'r','environments':["
                 "'production'],'validate':'off'}]}",
                 NULL},
                {"{'apiVersion':'mlctl/v1','kind':'Model','name':'a/b','routes':[{'route':'r',"
                 "'environments':['production'],'validate':'flag'}]}",
                 "/routes/0/validate"},
        };
        _cleanup_(json_decref_p) json_t *bare = document(haproxy), *nginx = document(NO_ENV);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *m = document(v[i].model);
                struct mlc_rollout_docs docs = {.model = m, .environment = nginx};
                struct mlc_err err = {0};

                assert_int_equal(mlc_rollout_suits(&docs, &err), 0);
                docs.environment = bare;
                assert_int_equal(mlc_rollout_suits(&docs, &err),
                                 v[i].field != NULL ? MLC_E_INVALID : 0);
                assert_string_equal(err.field, v[i].field != NULL ? v[i].field : "");
        }
}

/* Where a proxy mirrors requests, agreement can be had behind HAProxy; nothing else can. */
static void what_copies_suit(void **state)
{
        static const struct {
                const char *model;
                int code;
        } v[] = {
                {ROLLOUT("{'strategy':'shadow'}"), 0},
                {ROLLOUT("{'strategy':'canary','steps':[{'mirror':'5%'},{'weight':'50%'}],"
                         "'checks':[{'id':'s','type':'shadow-agreement','at_least':'90%'}]}"),
                 0},
                {ROLLOUT("{'strategy':'shadow','checks':[{'id':'d','type':"
                         "'prediction-distribution'}]}"),
                 MLC_E_INVALID},
                {ROLLOUT("{'strategy':'shadow','checks':[{'id':'l','type':'latency','margin':"
                         "'1%'}]}"),
                 MLC_E_INVALID},
        };
        _cleanup_(json_decref_p) json_t *haproxy = document(
                "{'apiVersion':'mlctl/v1','kind':'Environment','name':'production','targets':[{"
                "'name':'eu','serving':{'driver':'webhook','instances':[{'url':'http://x'}]},"
                "'traffic':{'driver':'haproxy','control':'unix:/a','map':'/b'}}]}");

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *m = document(v[i].model), *plan = NULL;
                struct mlc_rollout_docs docs = {
                        .model = m, .environment = haproxy, .mirrored = true};
                struct mlc_err err = {0};

                assert_int_equal(mlc_rollout_suits(&docs, &err), v[i].code);
                err = (struct mlc_err){0};
                assert_int_equal(mlc_rollout_plan(&docs, &plan, &err), v[i].code);
        }
}

static json_t *expect(const json_t *plan, double requests, double labels)
{
        struct mlc_rollout_rate rate = {requests, labels, -1, -1};
        struct mlc_err err = {0};
        json_t *ret = NULL;

        assert_int_equal(mlc_rollout_expect(plan, &rate, &ret, &err), 0);
        return ret;
}

static void times_are_foretold(void **state)
{
        _cleanup_(json_decref_p) json_t *plan = plan_of(
                ROLLOUT("{'strategy':'canary','steps':[{'mirror':'10%','requests':2000},{'weight':"
                        "'5%','requests':100,'for':'10m'},{'weight':'50%','advance':'proven',"
                        "'wait':'person'},{'weight':'100%'}],'checks':[{'id':'errors','type':"
                        "'error-rate','margin':'0.1%'}]}"));
        _cleanup_(json_decref_p) json_t *at = expect(plan, 100, 0), *unknown = expect(plan, 0, 0);
        const json_t *first = json_array_get(at, 0), *third = json_array_get(at, 2);

        (void)state;
        assert_int_equal(json_array_size(at), 4);
        assert_string_equal(text(first, "decided_by"), "requests");
        assert_int_equal(number(first, "expected_ms"), 200000); /* 2000 at 10 a second */
        assert_string_equal(text(json_array_get(at, 1), "decided_by"), "for");
        assert_int_equal(number(json_array_get(at, 1), "expected_ms"), 600000);
        assert_string_equal(text(third, "decided_by"), "check");
        assert_string_equal(text(third, "check"), "errors");
        assert_true(json_is_true(json_object_get(third, "person")));
        /* 7.65 * 0.01 * 0.99 / 0.001^2 units, of which 1000 + 2850 are there */
        assert_in_range(number(third, "samples"), 140000, 150000);
        assert_string_equal(text(json_array_get(at, 3), "decided_by"), "nothing");
        assert_int_equal(number(json_array_get(at, 3), "expected_ms"), 0);
        assert_true(json_is_null(json_object_get(json_array_get(unknown, 0), "expected_ms")));
        assert_non_null(strstr(text(first, "text"), "copies of 10 %"));
}

/* Half of healthy rollouts should be over by then: the forecast is of the same test. */
static void exposure_is_foretold(void **state)
{
        _cleanup_(json_decref_p) json_t *plan = plan_of(
                ROLLOUT("{'strategy':'canary','steps':[{'weight':'5%'},{'weight':'100%'}],'checks':"
                        "[{'id':'errors','type':'error-rate','margin':'1%'}],'exposure':'0.5%'}"));
        _cleanup_(json_decref_p) json_t *at = expect(plan, 100, 0);

        (void)state;
        assert_string_equal(text(json_array_get(at, 0), "decided_by"), "check");
        assert_in_range(number(json_array_get(at, 0), "samples"), 3100, 3300);
}

/* The example of the manual is a document, and a plan can be made of it. */
static void the_manual_is_right(void **state)
{
        FILE *f = fopen(MLC_SOURCE_DIR "/docs/rollouts.md", "rb");
        _cleanup_(free_p) char *page = calloc(1, 1u << 20);
        struct mlc_documents d = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;
        char *begin, *end;

        (void)state;
        assert_non_null(f);
        assert_true(fread(page, 1, (1u << 20) - 1, f) > 0);
        (void)fclose(f);
        begin = strstr(page, "```yaml\n");
        assert_non_null(begin);
        begin += strlen("```yaml\n");
        end = strstr(begin, "```");
        assert_non_null(end);
        mlc_arena_init(&a, 16u << 20);
        if (mlc_documents_parse(begin, (size_t)(end - begin), &a, &d, &err) < 0)
                fail_msg("%s", err.msg);
        {
                _cleanup_(json_decref_p) json_t *env = document(NO_ENV);
                struct mlc_rollout_docs docs = {.model = d.items[0].json, .environment = env};
                _cleanup_(json_decref_p) json_t *plan = NULL;

                assert_int_equal(mlc_rollout_plan(&docs, &plan, &err), 0);
                assert_int_equal(n_steps(plan), 4);
        }
        mlc_documents_done(&d);
        mlc_arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(defaults),
                cmocka_unit_test(documents_become_steps),
                cmocka_unit_test(same_documents_same_plan),
                cmocka_unit_test(the_first_version_has_nothing_beside_it),
                cmocka_unit_test(what_cannot_be_is_refused),
                cmocka_unit_test(waves),
                cmocka_unit_test(targets_stay_where_they_are),
                cmocka_unit_test(what_suits),
                cmocka_unit_test(what_copies_suit),
                cmocka_unit_test(times_are_foretold),
                cmocka_unit_test(exposure_is_foretold),
                cmocka_unit_test(the_manual_is_right),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
