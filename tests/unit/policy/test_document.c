/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include <dirent.h>

#include "base/str.h"
#include "policy/document.h"

#define HEAD "apiVersion: mlctl/v1\n"
#define ENV HEAD "kind: Environment\nname: production\n"
#define POL HEAD "kind: Policy\nname: p\n"
#define CHECK POL "checks:\n  - "
#define MODEL HEAD "kind: Model\nname: a/b\n"

static void good_documents_are_read(void **state)
{
        static const char *const files[] = {"environment", "bare",    "policy",  "quality", "model",
                                            "group",       "drivers", "rollout", "ab"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
                struct mlc_documents d = {0};
                struct mlc_err err = {0};
                struct mlc_arena a;
                char name[64];
                size_t len;
                _cleanup_(free_p) char *text = NULL;

                (void)snprintf(name, sizeof(name), "valid/%s.yaml", files[i]);
                text = sample(name, &len);
                mlc_arena_init(&a, 16u << 20);
                if (mlc_documents_parse(text, len, &a, &d, &err) < 0)
                        fail_msg("%s: %s", name, err.msg);
                assert_int_equal(d.n, 1);
                assert_int_equal(d.items[0].source_len, len);
                mlc_documents_done(&d);
                mlc_arena_done(&a);
        }
}

/* The normalised form of one document, as sorted JSON. */
static char *normal(const char *text)
{
        struct mlc_documents d = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;
        char *ret;

        mlc_arena_init(&a, 16u << 20);
        if (mlc_documents_parse(text, strlen(text), &a, &d, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(d.n, 1);
        ret = json_dumps(d.items[0].json, JSON_COMPACT | JSON_SORT_KEYS);
        mlc_documents_done(&d);
        mlc_arena_done(&a);
        return ret;
}

static void defaults_are_filled_in(void **state)
{
        static const struct {
                const char *text, *json;
        } v[] = {
                {ENV, "{\"after\":[],\"alias\":null,\"apiVersion\":\"mlctl/v1\",\"kind\":"
                      "\"Environment\",\"name\":\"production\",\"owners\":[],\"policy\":null,"
                      "\"targets\":[],\"threshold\":0,\"windows\":{\"allow\":[],\"deny\":[]}}"},
                {CHECK "{id: x, type: threshold, metric: m, at_least: 90%}",
                 "{\"apiVersion\":\"mlctl/v1\",\"approvals\":[],\"checks\":[{\"at_least\":"
                 "\"0.900000000\",\"at_most\":null,\"bound\":\"value\",\"confidence\":"
                 "\"0.950000000\",\"dataset\":null,\"id\":\"x\",\"metric\":\"m\",\"minimum_n\":1,"
                 "\"mode\":\"enforce\",\"slice\":{},\"type\":\"threshold\",\"unit\":null}],"
                 "\"kind\":\"Policy\",\"name\":\"p\"}"},
                {CHECK "{id: x, type: compare, metric: m, slice: {age: 65}, against: champion, "
                       "test: superiority, margin: 0}",
                 "{\"apiVersion\":\"mlctl/v1\",\"approvals\":[],\"checks\":[{\"against\":"
                 "\"champion\",\"alpha\":\"0.0500000000\",\"dataset\":null,\"id\":\"x\","
                 "\"margin\":\"0.00000000\",\"metric\":\"m\",\"minimum_n\":1,\"mode\":\"enforce\","
                 "\"slice\":{\"age\":\"65\"},\"test\":\"superiority\",\"type\":\"compare\"}],"
                 "\"kind\":\"Policy\",\"name\":\"p\"}"},
                {POL "approvals: [{name: r, from: [role:approver], request_ttl: 1h}]",
                 "{\"apiVersion\":\"mlctl/v1\",\"approvals\":[{\"count\":1,\"from\":["
                 "\"role:approver\"],\"name\":\"r\",\"request_ttl_ms\":3600000}],\"checks\":[],"
                 "\"kind\":\"Policy\",\"name\":\"p\"}"},
                {MODEL "rollout: {strategy: canary, steps: [{weight: 0.5%, for: 50ms}]}",
                 "{\"apiVersion\":\"mlctl/v1\",\"kind\":\"Model\",\"labels\":{},\"name\":\"a/b\","
                 "\"owners\":[],\"policy\":null,\"rollout\":{\"checks\":[],\"deadline_ms\":null,"
                 "\"on_harm\":\"rollback\",\"on_lost_control\":\"stable\",\"on_silence\":\"hold\","
                 "\"steps\":[{\"advance\":\"no-harm\",\"for_ms\":50,\"mirror\":null,\"requests\":0,"
                 "\"weight\":\"0.00500000000\"}],\"strategy\":\"canary\"},\"routes\":[]}"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(free_p) char *json = normal(v[i].text);

                assert_string_equal(json, v[i].json);
        }
}

static void same_meaning_same_digest(void **state)
{
        static const char *const pairs[][2] = {
                {CHECK "{id: x, type: threshold, metric: m, at_least: 90%}",
                 "# a comment\n" POL "checks: [{metric: m, type: threshold, at_least: 0.900, id: "
                 "x, mode: enforce, bound: value}]\napprovals: []\n"},
                {ENV "after: [{environment: staging, live_for: 24h}]",
                 ENV "after:\n- live_for: 1d\n  environment: staging\n"},
                {CHECK "{id: x, type: freshness, at_most: 2w}",
                 CHECK "{id: x, type: freshness, at_most: 14d, dataset: null}"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
                _cleanup_(free_p) char *a = normal(pairs[i][0]), *b = normal(pairs[i][1]);

                assert_string_equal(a, b);
        }
}

/* Approvals bind digests: documents that only have keys of before mean the same bytes for ever. */
static void digests_stay(void **state)
{
        static const char *const v[][2] = {
                {"valid/model.yaml",
                 "sha256:ca15cbb6ff03053b24e7232a9b3a8a6b26d963c219bf542047fa61f63b2b2864"},
                {"valid/environment.yaml",
                 "sha256:77495abfbd7c0914b24e8f10864b1dc501fe730cafa91945c888149bad93c6de"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_documents d = {0};
                struct mlc_err err = {0};
                char digest[MLC_DIGEST_STR];
                struct mlc_arena a;
                size_t len;
                _cleanup_(free_p) char *text = sample(v[i][0], &len);

                mlc_arena_init(&a, 16u << 20);
                if (mlc_documents_parse(text, len, &a, &d, &err) < 0)
                        fail_msg("%s", err.msg);
                mlc_digest_format(&d.items[0].digest, digest);
                assert_string_equal(digest, v[i][1]);
                mlc_documents_done(&d);
                mlc_arena_done(&a);
        }
}

static const struct {
        const char *text, *where, *what;
} BAD[] = {
        {"a: [", "line 2, column 1: ", "closing bracket"},
        {"[1]", "line 1, column 1: ", "apiVersion"},
        {"text", "line 1, column 1: ", "apiVersion"},
        {"kind: Policy\nname: p\n", "line 1, column 1: ", "'apiVersion' is missing"},
        {"apiVersion: v2\nkind: Policy\nname: p\n", "line 1, column 1: ", "mlctl/v1"},
        {HEAD "kind: Polisy\nname: p\n", "line 2, column 1: ", "'Polisy'"},
        {HEAD "kind: Namespace\nname: p\n", "line 2, column 1: ", "not supported yet"},
        {HEAD "kind: Policy\n", "line 1, column 1: ", "'name' is missing"},
        {HEAD "kind: Policy\nname: A b\n", "line 3, column 1: ", "lower-case"},
        {HEAD "kind: Policy\nname: 5\n", "line 3, column 1: ", "text is expected"},
        {POL "check: []\n", "line 4, column 1: ", "use apiVersion, kind, name, checks"},
        {POL "checks: {}\n", "line 4, column 1: ", "a list is expected"},
        {POL "checks: [5]\n", "line 4, column 10: ", "a check is"},
        {CHECK "{id: x}", "line 5, column 5: ", "'type' is missing"},
        {CHECK "{type: card}", "line 5, column 5: ", "'id' is missing"},
        {CHECK "{id: X, type: card}", "line 5, column 6: ", "lower-case"},
        {CHECK "{id: x, type: magic}", "line 5, column 13: ", "use one of threshold"},
        {CHECK "{id: x, type: card, mode: loud}", "line 5, column 25: ", "enforce, warn"},
        {CHECK "{id: x, type: card, section: [a]}",
         "line 5, column 25: ", "'section' is not known"},
        {CHECK "{id: x, type: card, sections: [a, a]}", "line 5, column 39: ", "twice"},
        {CHECK "{id: x, type: card}\n  - {id: x, type: card}",
         "line 6, column 6: ", "is there already"},
        {CHECK "{id: x, type: threshold, metric: m}",
         "line 5, column 5: ", "either 'at_least' or 'at_most'"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 1, at_most: 2}",
         "line 5, column 5: ", "either"},
        {CHECK "{id: x, type: threshold, at_least: 1}", "line 5, column 5: ", "'metric'"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: high}",
         "line 5, column 41: ", "0.02 or 2%"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 5 ms}",
         "line 5, column 41: ", "0.02 or 2%"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: .nan}",
         "line 5, column 51: ", "finite"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 1e999}",
         "line 5, column 51: ", "finite"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 0.9, minimum_n: 0}",
         "line 5, column 56: ", "whole number"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 0.9, confidence: 1}",
         "line 5, column 56: ", "below 1"},
        {CHECK "{id: x, type: threshold, metric: m, at_least: 0.9, dataset: 'a@sha256:1'}",
         "line 5, column 56: ", "sha256"},
        {CHECK "{id: x, type: compare, metric: m, against: champion, test: superiority}",
         "line 5, column 5: ", "'margin' is missing"},
        {CHECK "{id: x, type: compare, metric: m, against: champion, test: "
               "non-inferiority}",
         "line 5, column 5: ", "'margin' is missing"},
        {CHECK "{id: x, type: compare, metric: m, against: champion, test: "
               "non-inferiority, margin: -1%}",
         "line 5, column 81: ", "at least 0"},
        {CHECK "{id: x, type: compare, metric: m, against: champion, test: "
               "non-inferiority, margin: 200%}",
         "line 5, column 81: ", "below 1"},
        {CHECK "{id: x, type: compare, metric: m, against: champion, test: "
               "non-inferiority, margin: 1%, alpha: 0.5}",
         "line 5, column 93: ", "below 0.5"},
        {CHECK "{id: x, type: compare, metric: auc, against: champion, test: "
               "non-inferiority, margin: 1%}",
         "line 5, column 28: ", "use a threshold"},
        {CHECK "{id: x, type: compare, metric: m, against: staging, test: "
               "non-inferiority, margin: 1%}",
         "line 5, column 39: ", "champion"},
        {CHECK "{id: x, type: freshness}", "line 5, column 5: ", "'at_most' is missing"},
        {CHECK "{id: x, type: freshness, at_most: 30}", "line 5, column 30: ", "72h"},
        {CHECK "{id: x, type: freshness, at_most: 30 days}", "line 5, column 30: ", "72h"},
        {CHECK "{id: x, type: imports, allow: [pickle]}", "line 5, column 36: ", "module.name"},
        {CHECK "{id: x, type: imports, unsafe: some}", "line 5, column 28: ", "none"},
        {CHECK "{id: x, type: lineage, requires: [luck]}", "line 5, column 39: ", "dataset, code"},
        {POL "approvals: [{name: r, from: [role:approver], count: 0}]",
         "line 4, column 46: ", "whole number"},
        {POL "approvals: [{name: r, from: []}]", "line 4, column 23: ", "who may"},
        {POL "approvals: [{name: r, from: [role:boss]}]", "line 4, column 30: ", "no role 'boss'"},
        {POL "approvals: [{name: r, from: [dana]}]", "line 4, column 30: ", "user:NAME"},
        {POL "approvals: [{name: r, from: [user:a], valid_for: 1d}]",
         "line 4, column 39: ", "not supported yet"},
        {POL "approvals: [{name: r, from: [user:a], standing: true}]",
         "line 4, column 39: ", "not supported yet"},
        {ENV "owners: [user:dana]\n", "line 1, column 1: ", "'threshold' is missing"},
        {ENV "threshold: 1\n", "line 4, column 1: ", "needs owners"},
        {ENV "owners: [user:dana]\nthreshold: 2\n", "line 5, column 1: ", "only 1 owners"},
        {ENV "owners: [user:dana, user:dana]\nthreshold: 2\n", "line 4, column 21: ", "twice"},
        {ENV "alias: latest\n", "line 4, column 1: ", "latest"},
        {ENV "alias: v3\n", "line 4, column 1: ", "version"},
        {ENV "after: [{environment: s, live_for: long}]\n", "line 4, column 26: ", "72h"},
        {ENV "after: [{environment: s}, {environment: s}]\n", "line 4, column 28: ", "already"},
        {ENV "targets: [{name: eu, serving: {driver: oip, instances: [{url: 'ftp://x', "
             "repository: {dir: /a}}]}}]\n",
         "line 4, column 58: ", "http://"},
        {ENV "targets: [{name: eu, serving: {driver: oip, instances: [{url: 'http://x', "
             "repository: {s3: b}}]}}]\n",
         "line 4, column 88: ", "not supported yet"},
        {ENV "targets: [{name: eu, serving: {driver: oip, instances: [{url: 'http://x', "
             "repository: {dir: /a/../b}}]}}]\n",
         "line 4, column 88: ", "absolute"},
        {ENV "windows: {deny: [{schedule: '0 25 * * *', duration: 1h}]}\n",
         "line 4, column 19: ", "five fields"},
        {ENV "windows: {deny: [{schedule: '0 1 * * *'}]}\n",
         "line 4, column 18: ", "'duration' is missing"},
        {ENV "windows: {deny: [{from: 2027-01-01, to: 2026-01-01}]}\n",
         "line 4, column 37: ", "before"},
        {ENV "windows: {deny: [{from: soon, to: 2026-01-01}]}\n",
         "line 4, column 19: ", "2026-12-20"},
        {HEAD "kind: Model\nname: scorer\n", "line 3, column 1: ", "namespace/model"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, mirror: 1%}]}\n",
         "line 4, column 37: ", "either 'mirror' or 'weight'"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 0%}]}\n",
         "line 4, column 38: ", "above 0"},
        {MODEL "rollout: {strategy: fast}\n", "line 4, column 11: ", "canary"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, approvals: [{name: a}]}]}\n",
         "line 4, column 62: ", "'from'"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, approvals: [{name: a, from: "
               "[role:approver]}, {name: a, from: [role:operator]}]}]}\n",
         "line 4, column ", "there already"},
        {ENV "targets: [{name: a, serving: {driver: oip, instances: [{url: 'http://x', repository: "
             "{dir: /a}}]}, traffic: {driver: nginx, control: 'unix:/c'}}, {name: b, serving: "
             "{driver: oip, instances: [{url: 'http://y', repository: {dir: /b}}]}, traffic: "
             "{driver: nginx, control: 'unix:/c'}}]\n",
         "line 4, column ", "the same traffic control"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, targets: []}]}\n",
         "line 4, column ", "leave it out"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, targets: [EU]}]}\n",
         "line 4, column ", "lower-case"},
        {MODEL "rollout: {strategy: canary, steps: [{weight: 5%, checks: [x]}], checks: [{id: y, "
               "type: labels, margin: 1%}]}\n",
         "line 4, column 59: ", "there is no check 'x'"},
        {MODEL "rollout: {strategy: canary, checks: [{id: y, type: error-rate}]}\n",
         "line 4, column 38: ", "'margin' is missing"},
        {MODEL "rollout: {strategy: canary, checks: [{id: y, type: labels, margin: 1%, limit: "
               "1s}]}\n",
         "line 4, column 72: ", "'limit' is not known"},
        {MODEL "rollout: {strategy: ab, checks: [{id: y, type: shadow-agreement, at_least: 1}], "
               "ab: {metric: y, margin: 1%, horizon: 1000}}\n",
         "line 4, column 81: ", "error-rate, slower-than or labels"},
        {MODEL "rollout: {strategy: canary, on_deadline: rollback}\n",
         "line 4, column 29: ", "needs 'deadline'"},
        {ENV "targets: [{name: eu, serving: {driver: webhook, backend: x, instances: [{url: "
             "'http://x'}]}}]\n",
         "line 4, column 49: ", "'backend' is not known"},
        {ENV "targets: [{name: eu, serving: {driver: oip, instances: [{url: 'http://x'}]}}]\n",
         "line 4, column 57: ", "'repository' is missing"},
        {ENV "targets: [{name: eu, serving: {driver: webhook, token: abc, instances: [{url: "
             "'http://x'}]}}]\n",
         "line 4, column 49: ", "keys with values"},
        {MODEL "routes: [{route: r, environments: [p], validate: on}]\n",
         "line 4, column 40: ", "use one of off, flag, reject"},
        {MODEL "routes: [{route: r, environments: [p], key: cookie}]\n",
         "line 4, column 40: ", "header:NAME"},
        {HEAD "kind: Group\nname: g\n", "line 1, column 1: ", "'members' is missing"},
        {HEAD "kind: Group\nname: g\nmembers: [group:h]\n", "line 4, column 11: ", "user:NAME"},
        {POL "---\n" POL, "line 7, column 1: ", "twice"},
        {POL "name: q\n", "line 4, column 1: ", "twice"},
        {POL "labels: ''''\n", "line 4, column 12: ", "in double quotes"},
        {POL "checks: \"\\u202e\"\n", "line 4, column 1: ", "list"},
        {HEAD "kind: Group\nname: g\nmembers: [\"user:a\\u202eb\"]\n",
         "line 4, column 11: ", "invisible"},
};

static void bad_documents_are_refused(void **state)
{
        unsigned n_wrong = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
                struct mlc_documents d = {0};
                struct mlc_err err = {0};
                struct mlc_arena a;
                int r;

                mlc_arena_init(&a, 16u << 20);
                r = mlc_documents_parse(BAD[i].text, strlen(BAD[i].text), &a, &d, &err);
                if (r == 0 || strncmp(err.msg, BAD[i].where, strlen(BAD[i].where)) != 0 ||
                    strstr(err.msg, BAD[i].what) == NULL) {
                        print_message("%s\ngave: %s\nwanted: %s … %s\n", BAD[i].text, err.msg,
                                      BAD[i].where, BAD[i].what);
                        n_wrong++;
                }
                mlc_documents_done(&d);
                mlc_arena_done(&a);
        }
        assert_int_equal(n_wrong, 0);
}

static void several_documents_keep_their_source(void **state)
{
        static const char text[] = "# first\n" POL "---\n" ENV "...\n---\n# nothing\n---\n" MODEL;
        struct mlc_documents d = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;

        (void)state;
        mlc_arena_init(&a, 16u << 20);
        if (mlc_documents_parse(text, strlen(text), &a, &d, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(d.n, 3);
        assert_int_equal(d.items[0].kind, MLC_POLICY);
        assert_string_equal(d.items[1].name, "production");
        assert_string_equal(d.items[2].name, "a/b");
        for (size_t i = 0; i < d.n; i++) {
                struct mlc_documents again = {0};

                if (mlc_documents_parse(d.items[i].source, d.items[i].source_len, &a, &again,
                                        &err) < 0)
                        fail_msg("%s", err.msg);
                assert_int_equal(again.n, 1);
                assert_true(mlc_digest_equal(&again.items[0].digest, &d.items[i].digest));
                mlc_documents_done(&again);
        }
        mlc_documents_done(&d);
        mlc_arena_done(&a);
}

static void bad_samples_are_refused(void **state)
{
        DIR *dir = opendir(MLC_SOURCE_DIR "/tests/unit/policy/samples/invalid");
        unsigned n = 0;

        (void)state;
        assert_non_null(dir);
        for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
                struct mlc_documents d = {0};
                struct mlc_err err = {0};
                struct mlc_arena a;
                char name[300];
                size_t len;
                _cleanup_(free_p) char *text = NULL;

                if (!mlc_ends_with(e->d_name, ".yaml"))
                        continue;
                (void)snprintf(name, sizeof(name), "invalid/%s", e->d_name);
                text = sample(name, &len);
                mlc_arena_init(&a, 16u << 20);
                if (mlc_documents_parse(text, len, &a, &d, &err) == 0)
                        fail_msg("accepted: %s", name);
                mlc_arena_done(&a);
                n++;
        }
        (void)closedir(dir);
        assert_true(n > 10);
}

static void limits_hold(void **state)
{
        struct mlc_documents d = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;
        char *deep = malloc(400), *bomb = malloc(1u << 16);
        size_t n = 0;

        (void)state;
        mlc_arena_init(&a, 64u << 20);
        memset(deep, '[', 200);
        memset(deep + 200, ']', 200);
        assert_true(mlc_documents_parse(deep, 400, &a, &d, &err) < 0);
        mlc_err_clear(&err);
        n += (size_t)snprintf(bomb + n, 100, "a: &a [1,1,1,1,1,1,1,1,1,1]\n");
        for (char c = 'b'; c < 'k'; c++)
                n += (size_t)snprintf(
                        bomb + n, 100, "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c,
                        c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1, c - 1);
        assert_int_equal(mlc_documents_parse(bomb, n, &a, &d, &err), MLC_E_LIMIT);
        free(deep);
        free(bomb);
        mlc_arena_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_documents_are_read),
                cmocka_unit_test(defaults_are_filled_in),
                cmocka_unit_test(same_meaning_same_digest),
                cmocka_unit_test(digests_stay),
                cmocka_unit_test(bad_documents_are_refused),
                cmocka_unit_test(several_documents_keep_their_source),
                cmocka_unit_test(bad_samples_are_refused),
                cmocka_unit_test(limits_hold),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
