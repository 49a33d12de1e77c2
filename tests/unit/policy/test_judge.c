/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include <sys/mman.h>

#include "codec/jcs.h"
#include "crypto/hash.h"
#include "policy/evaluation.h"
#include "policy/policy.h"

#define NOW "2026-11-24T10:00:00.000Z"
#define DAY "2026-11-23T10:00:00Z"
#define MINE "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define THEIRS "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D "d@sha256:3333333333333333333333333333333333333333333333333333333333333333"
#define D2 "d@sha256:4444444444444444444444444444444444444444444444444444444444444444"

/* A record; the tests tell evaluations apart by `salt`. */
static json_t *record_with(const char *manifest, const char *dataset, const char *metrics,
                           const char *examples, int salt)
{
        _cleanup_(json_decref_p) json_t *list = json_of(metrics);
        struct mlc_digest m, s, x, id;
        char submitted[MLC_DIGEST_STR], text[MLC_DIGEST_STR], seed[32];
        struct mlc_err err = {0};

        (void)snprintf(seed, sizeof(seed), "%d", salt);
        mlc_sha256(seed, strlen(seed), &s);
        mlc_digest_format(&s, submitted);
        assert_int_equal(mlc_digest_parse(manifest, &m, &err), 0);
        if (examples != NULL)
                assert_int_equal(mlc_digest_parse(examples, &x, &err), 0);
        mlc_evaluation_id(&m, &s, examples != NULL ? &x : NULL, &id);
        mlc_digest_format(&id, text);
        return json_pack("{s:s, s:s, s:s, s:s?, s:b, s:s, s:[], s:{s:s, s:s, s:s, s:O}}", "id",
                         text, "manifest", manifest, "submitted", submitted, "examples", examples,
                         "withdrawn", 0, "at", NOW, "recomputed", "document", "schema",
                         "evaluation/v1", "dataset", dataset, "evaluated_at", DAY, "metrics", list);
}

static json_t *record(const char *manifest, const char *metrics, int salt)
{
        return record_with(manifest, D, metrics, NULL, salt);
}

static json_t *bundle(const char *checks)
{
        _cleanup_(json_decref_p) json_t *list = json_of(checks), *policy = NULL;
        json_t *version, *b, *check;
        struct mlc_digest d;
        struct mlc_err err = {0};
        char text[MLC_DIGEST_STR];
        size_t i;

        json_array_foreach (list, i, check) {
                json_object_set_new(check, "layer", json_string("Policy/p"));
                if (json_object_get(check, "id") == NULL)
                        json_object_set_new(check, "id", json_sprintf("c%zu", i));
                if (json_object_get(check, "mode") == NULL)
                        json_object_set_new(check, "mode", json_string("enforce"));
        }
        policy = json_pack("{s:O, s:[]}", "checks", list, "approvals");
        assert_int_equal(mlc_policy_digest(policy, &d, &err), 0);
        mlc_digest_format(&d, text);
        version = json_pack("{s:s, s:i, s:s, s:s?, s:{s:[], s:n}, s:{s:s, s:[], s:[]}}", "model",
                            "a/b", "version", 3, "digest", MINE, "card", NULL, "lineage", "dataset",
                            "code", "metadata", "safety", "no_code", "imports", "files");
        b = json_pack("{s:s, s:s, s:o, s:{s:s}, s:s, s:O, s:s, s:[], s:n, s:{s:i}, s:[]}", "schema",
                      "bundle/v1", "now", NOW, "version", version, "environment", "name",
                      "production", "environment_digest", MINE, "policy", policy, "policy_digest",
                      text, "evaluations", "champion", "judged_on", D, 7, "after");
        assert_non_null(b);
        return b;
}

static void add(json_t *b, json_t *rec)
{
        json_array_append_new(json_object_get(b, "evaluations"), rec);
}

static void add_champion(json_t *b, json_t *rec)
{
        if (!json_is_object(json_object_get(b, "champion")))
                json_object_set_new(b, "champion",
                                    json_pack("{s:i, s:s, s:[]}", "version", 2, "digest", THEIRS,
                                              "evaluations"));
        if (rec != NULL)
                json_array_append_new(
                        json_object_get(json_object_get(b, "champion"), "evaluations"), rec);
}

static json_t *judge_with(const json_t *b, const struct mlc_policy_examples *x)
{
        struct mlc_err err = {0};
        json_t *v = NULL;

        if (mlc_policy_judge(b, x, &v, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        return v;
}

static const char *text_at(const json_t *v, const char *key)
{
        const char *s = json_string_value(json_object_get(v, key));

        return s != NULL ? s : "null";
}

static json_t *first(const json_t *verdict)
{
        return json_array_get(json_object_get(verdict, "checks"), 0);
}

static void expect(const json_t *b, const char *verdict, const char *reason)
{
        _cleanup_(json_decref_p) json_t *v = judge_with(b, NULL);

        if (strcmp(text_at(first(v), "verdict"), verdict) != 0 ||
            strstr(text_at(first(v), "reason"), reason) == NULL)
                fail_msg("%s: %s; wanted %s: %s", text_at(first(v), "verdict"),
                         text_at(first(v), "reason"), verdict, reason);
}

#define THRESHOLD                                                                                  \
        "'type':'threshold','metric':'accuracy','dataset':null,'slice':{},'confidence':"           \
        "'0.950000000','minimum_n':1,'unit':null,'at_most':null"
#define AT_LEAST "[{" THRESHOLD ",'bound':'value','at_least':'0.900000000'}]"
#define INTERVAL "[{" THRESHOLD ",'bound':'interval','at_least':'0.900000000'}]"
#define ACC(v, n) "[{'name':'accuracy','value':" v ",'n':" n "}]"

static void thresholds(void **state)
{
        static const struct {
                const char *checks, *metrics, *verdict, *reason;
        } v[] = {
                {AT_LEAST, ACC("0.9", "10"), "pass", "meets the bound"},
                {AT_LEAST, ACC("0.89", "10000"), "fail", "does not meet"},
                {AT_LEAST, "[{'name':'recall','value':1,'n':5}]", "inconclusive", "no evaluation"},
                {AT_LEAST, "[{'name':'accuracy','value':0.95,'n':5,'slice':{'a':'b'}}]",
                 "inconclusive", "no evaluation"},
                {AT_LEAST, "[{'name':'accuracy','value':95,'n':5,'unit':'%'}]", "inconclusive",
                 "no evaluation"},
                {INTERVAL, ACC("0.95", "1000"), "pass", "whole interval"},
                {INTERVAL, ACC("0.95", "100"), "inconclusive", "examples would be needed"},
                {INTERVAL, ACC("0.85", "100"), "fail", "does not meet"},
                {INTERVAL, ACC("0.9", "100"), "inconclusive", "the interval does not"},
                {INTERVAL, ACC("3", "100"), "inconclusive", "no share"},
                {INTERVAL, "[{'name':'accuracy','value':3,'n':9,'interval':[2,4]}]", "pass", ""},
                {INTERVAL,
                 "[{'name':'accuracy','value':3,'n':9,'interval':[2,4],'confidence':0.9}]",
                 "inconclusive", "no share"},
                {"[{'type':'threshold','metric':'latency','dataset':'d','slice':{},'confidence':"
                 "'0.950000000','minimum_n':1,'unit':'ms','at_least':null,'bound':'value',"
                 "'at_most':'20.0000000'}]",
                 "[{'name':'latency','value':20,'unit':'ms','n':5}]", "pass", ""},
                {"[{'type':'threshold','metric':'accuracy','dataset':null,'slice':{'age':'65+'},"
                 "'confidence':'0.950000000','minimum_n':50,'unit':null,'at_least':'0.5','bound':"
                 "'value','at_most':null}]",
                 "[{'name':'accuracy','value':0.2,'n':49,'slice':{'age':'65+'}}]", "inconclusive",
                 "too few examples: 49 of 50"},
                {"[{'type':'threshold','metric':'accuracy','dataset':'other','slice':{},"
                 "'confidence':'0.950000000','minimum_n':1,'unit':null,'at_least':'0.5','bound':"
                 "'value','at_most':null}]",
                 ACC("0.9", "10"), "inconclusive", "no evaluation on other"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *b = bundle(v[i].checks);

                add(b, record(MINE, v[i].metrics, 1));
                expect(b, v[i].verdict, v[i].reason);
        }
}

static void the_worst_decides(void **state)
{
        _cleanup_(json_decref_p) json_t *b = bundle(AT_LEAST), *v = NULL, *w = NULL, *x = NULL;

        (void)state;
        add(b, record(MINE, ACC("0.95", "100"), 1));
        add(b, record(MINE, ACC("0.85", "100"), 2));
        v = judge_with(b, NULL);
        assert_string_equal(text_at(v, "verdict"), "fail");
        assert_string_equal(text_at(first(v), "observed"), "0.850000000");
        assert_true(json_is_true(json_object_get(first(v), "conflict")));
        assert_int_equal(json_integer_value(json_object_get(first(v), "judged_on")), 7);
        assert_int_equal(json_array_size(json_object_get(v, "evidence")), 2);
        /* a withdrawn one counts no more, and is no evidence */
        json_object_set_new(json_array_get(json_object_get(b, "evaluations"), 1), "withdrawn",
                            json_true());
        w = judge_with(b, NULL);
        assert_string_equal(text_at(w, "verdict"), "pass");
        assert_false(json_is_true(json_object_get(first(w), "conflict")));
        assert_int_equal(json_array_size(json_object_get(w, "evidence")), 1);
        /* another digest of the same name: no conflict, but the worst decides */
        add(b, record_with(MINE, D2, ACC("0.5", "100"), NULL, 3));
        x = judge_with(b, NULL);
        assert_string_equal(text_at(x, "verdict"), "fail");
        assert_false(json_is_true(json_object_get(first(x), "conflict")));
        assert_true(json_is_null(json_object_get(first(x), "judged_on")));
}

#define COMPARE(test, margin)                                                                      \
        "[{'type':'compare','metric':'accuracy','dataset':null,'slice':{},'against':'champion',"   \
        "'minimum_n':1,'alpha':'0.0500000000','test':'" test "','margin':'" margin "'}]"

static void comparisons_without_examples(void **state)
{
        static const struct {
                const char *checks, *mine, *theirs, *verdict, *reason;
        } v[] = {
                {COMPARE("non-inferiority", "0.02"), ACC("0.9", "20000"), ACC("0.9", "20000"),
                 "pass", "not worse"},
                {COMPARE("non-inferiority", "0.02"), ACC("0.9", "100"), ACC("0.9", "100"),
                 "inconclusive", "examples would be needed"},
                {COMPARE("non-inferiority", "0.02"), ACC("0.8", "5000"), ACC("0.9", "5000"), "fail",
                 "proven worse"},
                {COMPARE("non-inferiority", "0.02"), ACC("0.86", "100"), ACC("0.9", "100"),
                 "inconclusive", "more examples like these"},
                {COMPARE("superiority", "0.00000000"), ACC("0.95", "5000"), ACC("0.9", "5000"),
                 "pass", "proven better"},
                {COMPARE("superiority", "0.00000000"), ACC("0.9", "5000"), ACC("0.95", "5000"),
                 "fail", "not better"},
                {COMPARE("superiority", "0.00000000"), ACC("0.9", "50"), ACC("0.9", "50"),
                 "inconclusive", "not proven"},
                {COMPARE("superiority", "0.10"), ACC("0.95", "5000"), ACC("0.9", "5000"), "fail",
                 "not better"},
                {COMPARE("non-inferiority", "0.02"), ACC("5", "50"), ACC("4", "50"), "error",
                 "no share"},
                {COMPARE("non-inferiority", "0.02"), ACC("0.9", "50"),
                 "[{'name':'recall','value':1,'n':5}]", "inconclusive", "champion has no"},
                {COMPARE("non-inferiority", "0.02"), "[{'name':'recall','value':1,'n':5}]",
                 ACC("0.9", "50"), "inconclusive", "no evaluation of this version"},
                {COMPARE("non-inferiority", "0.02"),
                 "[{'name':'accuracy','value':0.05,'n':20000,'better':'lower'}]",
                 "[{'name':'accuracy','value':0.05,'n':20000,'better':'lower'}]", "pass", ""},
                {COMPARE("non-inferiority", "0.02"),
                 "[{'name':'accuracy','value':0.15,'n':20000,'better':'lower'}]",
                 "[{'name':'accuracy','value':0.05,'n':20000,'better':'lower'}]", "fail", ""},
                {COMPARE("non-inferiority", "0.02"),
                 "[{'name':'accuracy','value':0.15,'n':20000,'better':'lower'}]", ACC("0.9", "50"),
                 "error", "direction"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *b = bundle(v[i].checks);

                add(b, record(MINE, v[i].mine, 1));
                add_champion(b, record(THEIRS, v[i].theirs, 2));
                expect(b, v[i].verdict, v[i].reason);
        }
}

static void without_champion_it_passes_and_says_so(void **state)
{
        _cleanup_(json_decref_p) json_t *b = bundle(COMPARE("non-inferiority", "0.02"));

        (void)state;
        expect(b, "pass", "no champion");
        add_champion(b, NULL);
        add(b, record(MINE, ACC("0.9", "50"), 1));
        expect(b, "inconclusive", "champion has no evaluation");
}

/* Examples of n rows of which the i-th is right when right(i). */
static void csv(char *ret, size_t n, size_t first_wrong, size_t n_wrong)
{
        size_t at = (size_t)snprintf(ret, 64, "id,label,prediction\n");

        for (size_t i = 0; i < n; i++)
                at += (size_t)snprintf(ret + at, 64, "row%zu,1,%d\n", i,
                                       i < first_wrong || i >= first_wrong + n_wrong);
}

struct files {
        char text[2][8192];
        char digest[2][MLC_DIGEST_STR];
};

static int open_file(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct files *f = userdata;

        for (int i = 0; i < 2; i++) {
                if (strcmp(f->digest[i], digest) != 0)
                        continue;
                *ret_fd = memfd_create("examples", 0);
                assert_true(write(*ret_fd, f->text[i], strlen(f->text[i])) > 0);
                assert_int_equal(lseek(*ret_fd, 0, SEEK_SET), 0);
                return 0;
        }
        return mlc_fail(err, MLC_E_NOT_FOUND, "there is no such blob");
}

static void digest_files(struct files *f)
{
        for (int i = 0; i < 2; i++) {
                struct mlc_digest d;

                mlc_sha256(f->text[i], strlen(f->text[i]), &d);
                mlc_digest_format(&d, f->digest[i]);
        }
}

static json_t *paired_bundle(struct files *f, const char *checks)
{
        json_t *b = bundle(checks);

        add(b, record_with(MINE, D, ACC("0.5", "21"), f->digest[0], 1));
        add_champion(b, record_with(THEIRS, D, ACC("0.5", "21"), f->digest[1], 2));
        return b;
}

/* b = 1, c = 7, n = 21: Tango's interval at 95 % is [-0.5172, -0.0260]; alpha is one-sided. */
static void the_paired_fixture(void **state)
{
        static const char checks[] =
                "[{'type':'compare','metric':'accuracy','dataset':'d','slice':{},'against':"
                "'champion','minimum_n':1,'alpha':'0.0250000000','test':'non-inferiority',"
                "'margin':'0.0200000000'}]";
        struct files f;
        struct mlc_policy_examples x = {open_file, &f};
        _cleanup_(json_decref_p) json_t *b = NULL, *v = NULL;
        json_t *interval;

        (void)state;
        csv(f.text[0], 21, 0, 7); /* wrong in 7 that the champion has right, but for one */
        csv(f.text[1], 21, 20, 1);
        digest_files(&f);
        b = paired_bundle(&f, checks);
        v = judge_with(b, &x);
        assert_string_equal(text_at(first(v), "statistic"), "tango");
        assert_string_equal(text_at(first(v), "observed"), "-0.285714286");
        interval = json_object_get(first(v), "interval");
        assert_memory_equal(json_string_value(json_array_get(interval, 0)), "-0.5172", 7);
        assert_memory_equal(json_string_value(json_array_get(interval, 1)), "-0.0260", 6);
        assert_string_equal(text_at(first(v), "verdict"), "fail");
        assert_string_equal(text_at(v, "champion"), THEIRS);
        assert_int_equal(json_array_size(json_object_get(v, "evidence")), 2);
}

static void paired_superiority_is_exact_below_25(void **state)
{
        static const struct {
                size_t mine, theirs; /* wrong */
                const char *verdict, *statistic;
        } v[] = {
                {0, 5, "pass", "mcnemar-exact"}, /* 1/32 */
                {0, 4, "inconclusive", "mcnemar-exact"}, /* 1/16 */
                {5, 0, "fail", "mcnemar-exact"},
                {4, 0, "inconclusive", "mcnemar-exact"},
                {0, 0, "inconclusive", "mcnemar-exact"},
                {0, 25, "pass", "tango"},
                {25, 0, "fail", "tango"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct files f;
                struct mlc_policy_examples x = {open_file, &f};
                _cleanup_(json_decref_p) json_t *b = NULL, *got = NULL;

                csv(f.text[0], 100, 0, v[i].mine);
                csv(f.text[1], 100, 50, v[i].theirs);
                digest_files(&f);
                b = paired_bundle(&f, COMPARE("superiority", "0.00000000"));
                got = judge_with(b, &x);
                if (strcmp(text_at(first(got), "verdict"), v[i].verdict) != 0 ||
                    strcmp(text_at(first(got), "statistic"), v[i].statistic) != 0)
                        fail_msg("%zu: %s %s", i, text_at(first(got), "verdict"),
                                 text_at(first(got), "statistic"));
        }
}

static void examples_that_lie_are_errors(void **state)
{
        struct files f;
        struct mlc_policy_examples x = {open_file, &f};
        _cleanup_(json_decref_p) json_t *b = NULL, *v = NULL, *w = NULL, *u = NULL;

        (void)state;
        csv(f.text[0], 21, 0, 7);
        csv(f.text[1], 21, 20, 1);
        digest_files(&f);
        b = paired_bundle(&f, COMPARE("non-inferiority", "0.02"));
        f.text[1][30] ^= 1; /* the bytes are not what their digest says */
        v = judge_with(b, &x);
        assert_string_equal(text_at(v, "verdict"), "error");
        assert_non_null(strstr(text_at(first(v), "reason"), "another digest"));
        w = judge_with(b, NULL);
        assert_string_equal(text_at(w, "verdict"), "error");
        /* other ids: each share for itself, and the verdict says so */
        csv(f.text[1], 22, 20, 1);
        digest_files(&f);
        json_decref(b);
        b = paired_bundle(&f, COMPARE("non-inferiority", "0.02"));
        u = judge_with(b, &x);
        assert_string_equal(text_at(first(u), "statistic"), "newcombe");
        assert_non_null(strstr(text_at(first(u), "reason"), "ids of the examples differ"));
}

static void checks_of_the_version(void **state)
{
        static const struct {
                const char *check, *key, *value, *verdict, *reason;
        } v[] = {
                {"[{'type':'lineage','requires':['dataset','code']}]", "lineage",
                 "{'dataset':['d'],'code':'u@c'}", "pass", ""},
                {"[{'type':'lineage','requires':['dataset','code','run']}]", "lineage",
                 "{'dataset':[],'code':null,'run':'x'}", "fail", "dataset, code"},
                {"[{'type':'lineage','requires':['base']}]", "lineage", "{'base':{'ref':'x'}}",
                 "pass", ""},
                {"[{'type':'imports','allow':[]}]", "metadata",
                 "{'safety':'no_code','imports':[],'files':[{'path':'m','safety':'no_code'}]}",
                 "pass", ""},
                {"[{'type':'imports','allow':['sklearn.pipeline.Pipeline']}]", "metadata",
                 "{'safety':'unsafe','imports':[],'files':[{'path':'m','safety':'unsafe',"
                 "'imports':[{'name':'sklearn.pipeline.Pipeline','allowed':false}]}]}",
                 "pass", ""},
                {"[{'type':'imports','allow':['sklearn.pipeline.Pipeline']}]", "metadata",
                 "{'safety':'unsafe','imports':[],'files':[{'path':'m','safety':'unsafe',"
                 "'imports':[{'name':'os.system','allowed':true}]}]}",
                 "fail", "os.system"},
                {"[{'type':'imports','allow':['a.b']}]", "metadata",
                 "{'safety':'unsafe','imports':[],'files':[{'path':'m','safety':'unsafe',"
                 "'imports':[{'module':'a','name':'b'}],'malformed':'x'}]}",
                 "fail", "malformed"},
                {"[{'type':'imports','allow':['a.b']}]", "metadata",
                 "{'safety':'not_verified','imports':[],'files':[{'path':'m','safety':"
                 "'not_verified','imports':[{'module':'a','name':'b'}]}]}",
                 "fail", "not_verified"},
                {"[{'type':'imports','allow':['a.b']}]", "metadata",
                 "{'safety':'not_verified','imports':[],'files':[]}", "fail", "not_verified"},
                {"[{'type':'imports','allow':[]}]", "metadata",
                 "{'safety':'unsafe','imports':[],'files':[{'path':'m','safety':'unsafe'}]}",
                 "fail", "malformed"},
                {"[{'type':'imports','allow':[]}]", "metadata", "null", "fail", "nothing is known"},
                {"[{'type':'card','sections':[]}]", "card", "null", "fail", "no model card"},
                {"[{'type':'card','sections':['Intended use']}]", "card",
                 "'---\\nlicense: mit\\n---\\n# M\\n## Intended use ##\\nYes.\\n'", "pass",
                 "every"},
                {"[{'type':'card','sections':['intended USE']}]", "card",
                 "'Intended use\\n============\\n\\nYes.'", "pass", "every"},
                {"[{'type':'card','sections':['Intended use']}]", "card",
                 "'## Intended use\\n\\n## Limits\\nx'", "fail", "Intended use (empty)"},
                {"[{'type':'card','sections':['Intended use']}]", "card",
                 "'## Intended use\\n### More\\ntext'", "pass", ""},
                {"[{'type':'card','sections':['Intended use','Limits']}]", "card",
                 "'```\\n## Intended use\\nx\\n```\\nIntended use\\n'", "fail",
                 "Intended use, Limits"},
                {"[{'type':'card','sections':['B']}]", "card", "'# B\\nNext\\n====\\ntext'", "fail",
                 "B (empty)"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *b = bundle(v[i].check), *wrapped = NULL;
                char text[1000];

                (void)snprintf(text, sizeof(text), "[%s]", v[i].value);
                wrapped = json_of(text);
                json_object_set(json_object_get(b, "version"), v[i].key,
                                json_array_get(wrapped, 0));
                expect(b, v[i].verdict, v[i].reason);
        }
}

static void freshness_and_after(void **state)
{
        _cleanup_(json_decref_p) json_t *b = bundle("[{'type':'freshness','at_most_ms':172800000,"
                                                    "'dataset':null}]"),
                                        *old = bundle("[{'type':'freshness','at_most_ms':3600000,"
                                                      "'dataset':'d'}]"),
                                        *after = bundle("[{'type':'after','environment':'staging',"
                                                        "'live_for_ms':86400000}]");

        (void)state;
        expect(b, "inconclusive", "no evaluation");
        add(b, record(MINE, ACC("0.9", "1"), 1));
        add(old, record(MINE, ACC("0.9", "1"), 1));
        expect(b, "pass", "");
        expect(old, "inconclusive", "stale");
        /* a date from the future does not make it fresh for longer than since it arrived */
        json_object_set_new(json_array_get(json_object_get(old, "evaluations"), 0), "at",
                            json_string("2026-11-24T08:00:00.000Z"));
        json_object_set_new(
                json_object_get(json_array_get(json_object_get(old, "evaluations"), 0), "document"),
                "evaluated_at", json_string("2027-11-24T08:00:00.000Z"));
        expect(old, "inconclusive", "stale");

        expect(after, "inconclusive", "not live in staging");
        assert_int_equal(mlc_policy_wake_ms(after), 0);
        json_object_set_new(after, "after",
                            json_pack("[{s:s, s:i}]", "environment", "staging", "live_for_ms",
                                      86400000 - 60000));
        expect(after, "inconclusive", "for 60s more");
        assert_true(mlc_policy_wake_ms(after) == 1795514400000 + 60000);
        json_object_set_new(
                after, "after",
                json_pack("[{s:s, s:i}]", "environment", "staging", "live_for_ms", 86400000));
        expect(after, "pass", "long enough");
        assert_int_equal(mlc_policy_wake_ms(after), 0);
}

static void verdicts_combine(void **state)
{
#define ONE(mode, at) "{" THRESHOLD ",'mode':'" mode "','bound':'value','at_least':'" at "'}"
#define NONE "{'type':'lineage','requires':['run']}"
#define OPEN "{'type':'freshness','at_most_ms':1,'dataset':'x'}"
        static const struct {
                const char *checks, *verdict;
        } v[] = {
                {"[]", "pass"},
                {"[" ONE("enforce", "0.5") "]", "pass"},
                {"[" ONE("enforce", "0.5") "," OPEN "]", "inconclusive"},
                {"[" ONE("enforce", "0.5") "," OPEN "," NONE "]", "fail"},
                {"[" ONE("warn", "0.99") "," ONE("observe", "0.99") "]", "pass"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *b = bundle(v[i].checks), *got = NULL;

                add(b, record(MINE, ACC("0.9", "10"), 1));
                got = judge_with(b, NULL);
                assert_string_equal(text_at(got, "verdict"), v[i].verdict);
                assert_true(json_is_null(json_object_get(got, "champion")));
        }
}

static void same_bundle_same_bytes(void **state)
{
        _cleanup_(json_decref_p) json_t *b = bundle("[" ONE("enforce", "0.5") "," OPEN "]"),
                                        *v = NULL, *w = NULL, *other = NULL;
        _cleanup_(mlc_str_done) struct mlc_str one, two;
        struct mlc_err err = {0};
        json_t *list;

        (void)state;
        mlc_str_init(&one, 1u << 20);
        mlc_str_init(&two, 1u << 20);
        add(b, record(MINE, ACC("0.9", "10"), 1));
        add(b, record(MINE, ACC("0.8", "10"), 2));
        v = judge_with(b, NULL);
        other = json_deep_copy(b);
        list = json_object_get(other, "evaluations");
        json_array_append(list, json_array_get(list, 0)); /* another order */
        json_array_remove(list, 0);
        w = judge_with(other, NULL);
        assert_int_equal(mlc_jcs_signed(v, &one, &err), 0);
        assert_int_equal(mlc_jcs_signed(w, &two, &err), 0);
        assert_string_equal(mlc_str_cstr(&one), mlc_str_cstr(&two));
}

static void bundles_that_lie_are_refused(void **state)
{
        static const struct {
                const char *key, *value, *field;
        } v[] = {
                {"schema", "'bundle/v2'", "/schema"},
                {"now", "'soon'", "/now"},
                {"version", "{}", "/version/digest"},
                {"policy", "{'checks':[],'approvals':[],'x':1}", "/policy_digest"},
                {"policy_digest", "'" MINE "'", "/policy_digest"},
                {"evaluations", "{}", "/evaluations"},
                {"evaluations", "[{'id':'" MINE "'}]", "/evaluations/0/manifest"},
                {"champion", "{'digest':'" THEIRS "'}", "/champion/evaluations"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *b = bundle(AT_LEAST), *w = NULL, *got = NULL;
                struct mlc_err err = {0};
                char text[400];

                (void)snprintf(text, sizeof(text), "[%s]", v[i].value);
                w = json_of(text);
                json_object_set(b, v[i].key, json_array_get(w, 0));
                assert_true(mlc_policy_judge(b, NULL, &got, &err) < 0);
                if (strcmp(err.field, v[i].field) != 0)
                        fail_msg("%s: '%s' %s", v[i].key, err.field, err.msg);
        }
}

static void records_that_lie_are_refused(void **state)
{
        _cleanup_(json_decref_p) json_t *b = bundle(AT_LEAST), *c = bundle(AT_LEAST), *got = NULL,
                                        *d = bundle("[{'type':'threshold','metric':'accuracy',"
                                                    "'slice':{},'at_least':'high','confidence':"
                                                    "'0.95'}]");
        struct mlc_err err = {0};
        json_t *rec = record(MINE, ACC("0.9", "10"), 1);

        (void)state;
        json_object_set_new(rec, "submitted", json_string(THEIRS));
        add(b, rec);
        assert_int_equal(mlc_policy_judge(b, NULL, &got, &err), MLC_E_VERIFY);
        mlc_err_clear(&err);
        add(c, record(THEIRS, ACC("0.9", "10"), 1)); /* of another version */
        assert_int_equal(mlc_policy_judge(c, NULL, &got, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_policy_judge(d, NULL, &got, &err), MLC_E_INVALID);
        assert_string_equal(err.field, "/policy/checks/0");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(thresholds),
                cmocka_unit_test(the_worst_decides),
                cmocka_unit_test(comparisons_without_examples),
                cmocka_unit_test(without_champion_it_passes_and_says_so),
                cmocka_unit_test(the_paired_fixture),
                cmocka_unit_test(paired_superiority_is_exact_below_25),
                cmocka_unit_test(examples_that_lie_are_errors),
                cmocka_unit_test(checks_of_the_version),
                cmocka_unit_test(freshness_and_after),
                cmocka_unit_test(verdicts_combine),
                cmocka_unit_test(same_bundle_same_bytes),
                cmocka_unit_test(bundles_that_lie_are_refused),
                cmocka_unit_test(records_that_lie_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
