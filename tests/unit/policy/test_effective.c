/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include "base/str.h"
#include "codec/yaml.h"
#include "policy/decimal.h"
#include "policy/document.h"
#include "policy/policy.h"

/* The normalised form of YAML (of one document). */
static json_t *normal(const char *text)
{
        struct mlc_yaml y = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;
        json_t *ret = NULL;

        mlc_arena_init(&a, 8u << 20);
        if (mlc_yaml_parse(text, strlen(text), &a, &y, &err) < 0 ||
            mlc_document_normalise(y.docs[0].json, &ret, &err) < 0)
                fail_msg("%s", err.msg);
        mlc_yaml_done(&y);
        mlc_arena_done(&a);
        return ret;
}

#define HEAD "apiVersion: mlctl/v1\n"
#define ENV                                                                                        \
        HEAD "kind: Environment\nname: production\nalias: champion\n"                              \
             "after: [{environment: staging, live_for: 1h}]\n"
#define BASE                                                                                       \
        HEAD "kind: Policy\nname: base\nchecks: [{id: card, type: card}]\n"                        \
             "approvals: [{name: risk, from: [role:approver]}]\n"
#define MODEL HEAD "kind: Model\nname: a/b\npolicy: own\n"

static void layers_are_added(void **state)
{
        _cleanup_(json_decref_p) json_t *env = normal(ENV), *base = normal(BASE),
                                        *model = normal(MODEL),
                                        *own = normal(HEAD "kind: Policy\nname: own\nchecks: [{id: "
                                                           "fresh, type: freshness, at_most: 1d}]"),
                                        *got = NULL;
        struct mlc_policy_layers l = {env, base, model, own};
        struct mlc_err err = {0};
        json_t *checks;

        (void)state;
        assert_int_equal(mlc_policy_effective(&l, &got, &err), 0);
        checks = json_object_get(got, "checks");
        assert_int_equal(json_array_size(checks), 3);
#define AT(i, key) json_string_value(json_object_get(json_array_get(checks, i), key))
        assert_string_equal(AT(0, "id"), "card");
        assert_string_equal(AT(0, "layer"), "Policy/base");
        assert_string_equal(AT(1, "layer"), "Policy/own");
        assert_string_equal(AT(2, "id"), "after:staging");
        assert_string_equal(AT(2, "layer"), "Environment/production");
        assert_int_equal(json_array_size(json_object_get(got, "approvals")), 1);
        /* the documents themselves are as they were */
        assert_null(json_object_get(json_array_get(json_object_get(base, "checks"), 0), "layer"));
}

static void redefining_is_refused(void **state)
{
        static const char *const own[] = {
                HEAD "kind: Policy\nname: own\nchecks: [{id: card, type: card, sections: []}]",
                HEAD "kind: Policy\nname: own\napprovals: [{name: risk, from: [user:me]}]",
        };
        _cleanup_(json_decref_p) json_t *env = normal(ENV), *base = normal(BASE);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(own); i++) {
                _cleanup_(json_decref_p) json_t *mine = normal(own[i]), *got = NULL;
                struct mlc_policy_layers l = {env, base, NULL, mine};
                struct mlc_err err = {0};

                assert_int_equal(mlc_policy_effective(&l, &got, &err), MLC_E_CONFLICT);
                assert_non_null(strstr(err.msg, "Policy/base"));
        }
}

/* the same policy named twice, read twice */
static void one_policy_for_both(void **state)
{
        _cleanup_(json_decref_p) json_t *env = normal(ENV), *base = normal(BASE),
                                        *again = normal(BASE), *one = NULL, *two = NULL;
        struct mlc_policy_layers l = {env, base, NULL, again};
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_policy_effective(&l, &two, &err), 0);
        l.model_policy = NULL;
        assert_int_equal(mlc_policy_effective(&l, &one, &err), 0);
        assert_true(json_equal(one, two));
}

static void digests_bind_what_they_should(void **state)
{
        _cleanup_(json_decref_p)
                json_t *env = normal(ENV),
                       *base = normal(BASE), *got = NULL,
                       *moved = normal(ENV "windows: {deny: [{from: 2026-12-20, to: "
                                           "2027-01-04}]}\n"),
                       *renamed = normal(HEAD "kind: Environment\nname: "
                                              "production\nalias: best\n"),
                       *model = normal(MODEL "rollout: {strategy: none}\n"),
                       *other = normal(MODEL "rollout: {strategy: canary}\n"),
                       *labels = normal(MODEL "labels: {a: b}\nrollout: {strategy: "
                                              "none}\n");
        struct mlc_policy_layers l = {.environment = env, .environment_policy = base};
        struct mlc_digest d[6];
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_policy_effective(&l, &got, &err), 0);
        assert_int_equal(mlc_environment_digest(env, got, model, &d[0], &err), 0);
        assert_int_equal(mlc_environment_digest(moved, got, labels, &d[1], &err), 0);
        assert_int_equal(mlc_environment_digest(renamed, got, model, &d[2], &err), 0);
        assert_int_equal(mlc_environment_digest(env, got, other, &d[3], &err), 0);
        assert_int_equal(mlc_environment_digest(env, got, NULL, &d[4], &err), 0);
        assert_true(mlc_digest_equal(&d[0], &d[1]));
        for (size_t i = 2; i < 5; i++)
                assert_false(mlc_digest_equal(&d[0], &d[i]));
        json_object_set_new(json_array_get(json_object_get(got, "approvals"), 0), "count",
                            json_integer(9));
        assert_int_equal(mlc_environment_digest(env, got, model, &d[5], &err), 0);
        assert_false(mlc_digest_equal(&d[0], &d[5]));
}

static void hopeless_checks_are_known(void **state)
{
        static const struct {
                const char *check;
                int64_t n;
                bool paired, possible, warned;
        } v[] = {
                {"{id: x, type: threshold, metric: m, at_least: 0.99}", 5, false, true, false},
                {"{id: x, type: threshold, metric: m, at_least: 0.99, minimum_n: 6}", 5, false,
                 false, true},
                {"{id: x, type: threshold, metric: m, at_least: 0.99, bound: interval}", 100, false,
                 false, true},
                {"{id: x, type: threshold, metric: m, at_least: 0.99, bound: interval}", 1000,
                 false, true, false},
                {"{id: x, type: threshold, metric: m, at_most: 1%, bound: interval}", 100, false,
                 false, true},
                {"{id: x, type: compare, metric: m, against: champion, test: non-inferiority, "
                 "margin: 2%}",
                 100, false, true, true},
                {"{id: x, type: compare, metric: m, against: champion, test: non-inferiority, "
                 "margin: 2%}",
                 50, true, true, true},
                {"{id: x, type: compare, metric: m, against: champion, test: non-inferiority, "
                 "margin: 2%}",
                 5000, true, true, false},
                {"{id: x, type: compare, metric: m, against: champion, test: non-inferiority, "
                 "margin: 2%}",
                 200000, false, true, false},
                {"{id: x, type: compare, metric: m, against: champion, test: superiority, "
                 "margin: 90%}",
                 10, true, false, true},
                {"{id: x, type: card}", 0, false, true, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                char text[300];
                _cleanup_(json_decref_p) json_t *policy = NULL;
                struct mlc_feasible_in in = {v[i].n, -1, -1, v[i].paired};
                struct mlc_feasible f;

                (void)snprintf(text, sizeof(text), HEAD "kind: Policy\nname: p\nchecks: [%s]",
                               v[i].check);
                policy = normal(text);
                mlc_policy_feasible(json_array_get(json_object_get(policy, "checks"), 0), &in, &f);
                if (f.possible != v[i].possible || (f.reason[0] != '\0') != v[i].warned)
                        fail_msg("%s at %lld: %s", v[i].check, (long long)v[i].n, f.reason);
                if (v[i].warned && f.n_needed > 0)
                        assert_true(f.n_needed > v[i].n);
        }
}

static void decimals_have_nine_digits(void **state)
{
        static const struct {
                double d;
                const char *text;
        } v[] = {{0.951, "0.951000000"},     {12.5, "12.5000000"},
                 {0, "0.00000000"},          {-0.0, "0.00000000"},
                 {1, "1.00000000"},          {1e-5, "1.00000000e-05"},
                 {123456789, "123456789"},   {-0.285714285714, "-0.285714286"},
                 {1e300, "1.00000000e+300"}, {0.02, "0.0200000000"}};
        char text[MLC_DECIMAL_MAX];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                mlc_decimal(v[i].d, text);
                assert_string_equal(text, v[i].text);
                mlc_decimal(mlc_decimal_value(text), text);
                assert_string_equal(text, v[i].text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(layers_are_added),
                cmocka_unit_test(redefining_is_refused),
                cmocka_unit_test(one_policy_for_both),
                cmocka_unit_test(digests_bind_what_they_should),
                cmocka_unit_test(hopeless_checks_are_known),
                cmocka_unit_test(decimals_have_nine_digits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
