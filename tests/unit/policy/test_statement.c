/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include "policy/statement.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const char *const EVIDENCE[] = {A, B};

static struct mlc_statement promotion(void)
{
        return (struct mlc_statement){
                .decision = "approve",
                .meaning = "I have seen the evidence and take responsibility",
                .subject_kind = "promotion",
                .subject_id = "p142",
                .model = "fraud/scorer",
                .version = 3,
                .artifact = A,
                .environment = "production",
                .environment_digest = A,
                .policy_digest = A,
                .verdict_digest = A,
                .evidence = EVIDENCE,
                .n_evidence = 2,
                .from = NULL,
                .role = "approver",
                .signer = "u7f3a",
                .signer_name_commitment = A,
                .reason_commitment = B,
                .time = "2026-11-24T10:00:00.000Z",
                .expires = "2026-11-27T10:00:00.000Z",
                .nonce = "0123456789abcdef0123456789abcdef",
                .log = "host/log-12345678",
        };
}

static struct mlc_statement change(void)
{
        struct mlc_statement s = promotion();

        s.subject_kind = "change";
        s.subject_id = "c5";
        s.model = s.artifact = s.environment = s.environment_digest = s.policy_digest = NULL;
        s.verdict_digest = NULL;
        s.version = 0;
        s.n_evidence = 0;
        s.document = "Environment/production";
        s.before = NULL;
        s.after = B;
        s.role = "owner";
        return s;
}

static struct mlc_statement rollout(void)
{
        struct mlc_statement s = promotion();

        s.subject_kind = "rollout";
        s.subject_id = "r17/2";
        s.plan_digest = B;
        s.n_evidence = 1;
        return s;
}

static char *built(const struct mlc_statement *s)
{
        struct mlc_str text;
        struct mlc_err err = {0};

        mlc_str_init(&text, MLC_STATEMENT_MAX);
        if (mlc_statement_build(s, &text, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        return mlc_str_take(&text);
}

static void the_form_is_fixed(void **state)
{
        struct mlc_statement p = promotion(), c = change();
        _cleanup_(free_p) char *one = built(&p), *two = built(&c);

        (void)state;
        assert_string_equal(
                one,
                "{\"artifact\":\"" A "\",\"conditions\":[],\"decision\":\"approve\","
                "\"environment\":\"production\",\"environment_digest\":\"" A "\",\"evidence\":"
                "[\"" A "\",\"" B "\"],\"expires\":\"2026-11-27T10:00:00.000Z\",\"from\":null,"
                "\"log\":\"host/log-12345678\",\"meaning\":\"I have seen the evidence and take "
                "responsibility\",\"model\":\"fraud/scorer\",\"nonce\":"
                "\"0123456789abcdef0123456789abcdef\",\"policy_digest\":\"" A
                "\",\"reason_commitment\":\"" B "\",\"role\":\"approver\",\"signer\":\"u7f3a\","
                "\"signer_name_commitment\":\"" A "\",\"subject\":{\"id\":\"p142\",\"kind\":"
                "\"promotion\"},\"time\":\"2026-11-24T10:00:00.000Z\",\"type\":"
                "\"urn:mlctl:approval:v1\",\"verdict_digest\":\"" A "\",\"version\":3}");
        assert_string_equal(
                two, "{\"after\":\"" B "\",\"before\":null,\"conditions\":[],\"decision\":"
                     "\"approve\",\"document\":\"Environment/production\",\"expires\":"
                     "\"2026-11-27T10:00:00.000Z\",\"log\":\"host/log-12345678\",\"meaning\":"
                     "\"I have seen the evidence and take responsibility\",\"nonce\":"
                     "\"0123456789abcdef0123456789abcdef\",\"reason_commitment\":\"" B
                     "\",\"role\":\"owner\",\"signer\":\"u7f3a\",\"signer_name_commitment\":\"" A
                     "\",\"subject\":{\"id\":\"c5\",\"kind\":\"change\"},\"time\":"
                     "\"2026-11-24T10:00:00.000Z\",\"type\":\"urn:mlctl:approval:v1\"}");
}

static void what_is_built_is_parsed(void **state)
{
        const struct mlc_statement in[] = {promotion(), change(), rollout()};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(in); i++) {
                _cleanup_(free_p) char *text = built(&in[i]), *again = NULL;
                struct mlc_statement got;
                struct mlc_err err = {0};
                struct mlc_arena a;

                mlc_arena_init(&a, 1u << 20);
                if (mlc_statement_parse(text, strlen(text), &a, &got, &err) < 0)
                        fail_msg("%s: %s", err.field, err.msg);
                again = built(&got);
                assert_string_equal(text, again);
                assert_null(mlc_statement_differs(&in[i], &got));
                mlc_arena_done(&a);
        }
}

static void a_step_has_one_name(void **state)
{
        static const char *const ids[] = {"r17",    "r17/",   "r/2",   "r17/0",
                                          "r17/02", "r017/2", "p17/2", "r17/2/",
                                          "r17/2a", "r17//2", "/2",    "r17/-1"};
        _cleanup_(free_p) char *text = NULL;
        struct mlc_statement s = rollout();

        (void)state;
        text = built(&s);
        assert_non_null(strstr(text, "\"plan_digest\":\"" B "\""));
        assert_non_null(strstr(text, "\"subject\":{\"id\":\"r17/2\",\"kind\":\"rollout\"}"));
        for (size_t i = 0; i < ARRAY_LEN(ids) + 4; i++) {
                _cleanup_(mlc_str_done) struct mlc_str out;
                struct mlc_err err = {0};

                mlc_str_init(&out, MLC_STATEMENT_MAX);
                s = rollout();
                if (i < ARRAY_LEN(ids))
                        s.subject_id = ids[i];
                else if (i == ARRAY_LEN(ids))
                        s.plan_digest = NULL;
                else if (i == ARRAY_LEN(ids) + 1)
                        s.n_evidence = 2;
                else if (i == ARRAY_LEN(ids) + 2)
                        s.decision = "rollback";
                else
                        s.verdict_digest = NULL;
                assert_int_equal(mlc_statement_build(&s, &out, &err), MLC_E_INVALID);
        }
        s = promotion();
        s.plan_digest = B;
        {
                _cleanup_(mlc_str_done) struct mlc_str out;
                struct mlc_err err = {0};

                mlc_str_init(&out, MLC_STATEMENT_MAX);
                assert_int_equal(mlc_statement_build(&s, &out, &err), MLC_E_INVALID);
        }
}

static int parse(const char *text, struct mlc_err *err)
{
        struct mlc_statement got;
        struct mlc_arena a;
        int r;

        mlc_arena_init(&a, 1u << 20);
        r = mlc_statement_parse(text, strlen(text), &a, &got, err);
        mlc_arena_done(&a);
        return r;
}

/* Text with the first `from` replaced; free() it. */
static char *edited(const char *text, const char *from, const char *to)
{
        const char *at = strstr(text, from);
        char *out = malloc(strlen(text) + strlen(to) + 1);

        if (at == NULL)
                fail_msg("no %s in %s", from, text);
        memcpy(out, text, (size_t)(at - text));
        memcpy(out + (at - text), to, strlen(to));
        memcpy(out + (at - text) + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
        return out;
}

static void any_other_spelling_is_refused(void **state)
{
        static const char *const v[][2] = {
                {"{\"artifact\":", "{\"aa\":1,\"artifact\":"},
                {"\"version\":3}", "\"version\":3,\"z\":null}"},
                {"\"version\":3}", "\"version\":3.0}"},
                {"\"version\":3}", "\"version\":3} "},
                {"\"version\":3}", "\"version\":\"3\"}"},
                {"\"version\":3}", "\"version\":4,\"version\":3}"},
                {",\"version\":3}", "}"},
                {",\"from\":null", ""},
                {"\"from\":null,", ""},
                {"\"conditions\":[],", ""},
                {"\"conditions\":[]", "\"conditions\":[\"only on monday\"]"},
                {"\"conditions\":[]", "\"conditions\":null"},
                {"\"model\":", "\"document\":\"x\",\"model\":"},
                {"\"decision\":", " \"decision\":"},
                {"fraud", "\\u0066raud"},
                {"\"kind\":\"promotion\"", "\"kind\":\"promotion\",\"extra\":1"},
                {"\"id\":\"p142\",\"kind\":\"promotion\"",
                 "\"kind\":\"promotion\",\"id\":\"p142\""},
                {"\"kind\":\"promotion\"", "\"kind\":\"change\""},
                {"\"id\":\"p142\"", "\"id\":\"c142\""},
                {"urn:mlctl:approval:v1", "urn:mlctl:approval:v2"},
                {"\"approve\"", "\"approved\""},
                {"10:00:00.000Z\",\"type", "10:00:00Z\",\"type"},
                {"10:00:00.000Z\",\"type", "10:00:00.000+00:00\",\"type"},
                {"[\"" A "\",\"" B "\"]", "[\"" B "\",\"" A "\"]"},
                {"[\"" A "\",\"" B "\"]", "[\"" A "\",\"" A "\"]"},
                {"[\"" A "\",\"" B "\"]", "[]x"},
                {"\"verdict_digest\":\"" A "\"", "\"verdict_digest\":null"},
                {"\"role\":\"approver\"", "\"role\":\"admin\""},
                {"u7f3a", "U7f3a"},
                {"host/log", "host/\\u202elog"},
        };
        struct mlc_statement s = promotion();
        _cleanup_(free_p) char *text = built(&s);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(free_p) char *other = edited(text, v[i][0], v[i][1]);
                struct mlc_err err = {0};

                if (parse(other, &err) == 0)
                        fail_msg("accepted: %s", other);
        }
}

static void bad_members_are_named(void **state)
{
        struct mlc_statement bad[] = {promotion(), promotion(), promotion(), promotion(),
                                      promotion(), promotion(), change(),    change(),
                                      change(),    promotion()};
        static const char *const fields[] = {"/nonce",    "/expires", "/model",    "/version",
                                             "/artifact", "/meaning", "/decision", "/after",
                                             "/model",    "/document"};

        (void)state;
        bad[0].nonce = "short";
        bad[1].expires = bad[1].time;
        bad[2].model = "scorer";
        bad[3].version = 0;
        bad[4].artifact = "sha256:x";
        bad[5].meaning = "";
        bad[6].decision = "rollback";
        bad[7].after = NULL;
        bad[8].model = "a/b";
        bad[9].document = "Environment/production";
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                _cleanup_(mlc_str_done) struct mlc_str text;
                struct mlc_err err = {0};

                mlc_str_init(&text, MLC_STATEMENT_MAX);
                assert_int_equal(mlc_statement_build(&bad[i], &text, &err), MLC_E_INVALID);
                assert_string_equal(err.field, fields[i]);
        }
}

static void a_rollback_needs_no_verdict(void **state)
{
        struct mlc_statement s = promotion();
        struct mlc_err err = {0};
        _cleanup_(free_p) char *text = NULL;

        (void)state;
        s.decision = "rollback";
        s.role = "operator";
        s.verdict_digest = NULL;
        s.n_evidence = 0;
        text = built(&s);
        assert_int_equal(parse(text, &err), 0);
}

static void differences_are_named(void **state)
{
        static const char *const other[] = {A};
        struct mlc_statement a = promotion(), b[6];
        static const char *const names[] = {"subject",  "version",       "verdict_digest",
                                            "evidence", "policy_digest", NULL};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(b); i++)
                b[i] = promotion();
        b[0].subject_id = "p143";
        b[1].version = 4;
        b[2].verdict_digest = B;
        b[3].evidence = other;
        b[3].n_evidence = 1;
        b[4].policy_digest = B;
        b[5].nonce = "fedcba9876543210";
        b[5].signer = "u1";
        for (size_t i = 0; i < ARRAY_LEN(b); i++) {
                const char *name = mlc_statement_differs(&a, &b[i]);

                assert_true((name == NULL) == (names[i] == NULL));
                if (name != NULL)
                        assert_string_equal(name, names[i]);
        }
}

static void meanings_go_with_decisions(void **state)
{
        static const char *const kinds[] = {"Environment/production", "Role/u7f3a/approver@fraud",
                                            "Key/u7f3a/k1", NULL};

        (void)state;
        assert_string_equal(mlc_statement_meaning("change", kinds[0], "approve"),
                            "I approve that this document takes effect");
        for (size_t i = 0; kinds[i] != NULL; i++)
                for (size_t k = 0; k <= i; k++) {
                        const char *one = mlc_statement_meaning("change", kinds[i], "approve");
                        const char *two = mlc_statement_meaning("change", kinds[k], "reject");

                        assert_true(strlen(one) <= 300 && strlen(two) <= 300);
                        assert_string_not_equal(one, two);
                        if (i != k)
                                assert_string_not_equal(
                                        one, mlc_statement_meaning("change", kinds[k], "approve"));
                }
        assert_non_null(mlc_statement_meaning("promotion", NULL, "approve"));
        assert_non_null(mlc_statement_meaning("promotion", NULL, "rollback"));
        assert_null(mlc_statement_meaning("change", kinds[1], "rollback"));
        assert_null(mlc_statement_meaning("promotion", NULL, NULL));
        assert_null(mlc_statement_meaning(NULL, NULL, "approve"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_form_is_fixed),
                cmocka_unit_test(what_is_built_is_parsed),
                cmocka_unit_test(a_step_has_one_name),
                cmocka_unit_test(any_other_spelling_is_refused),
                cmocka_unit_test(bad_members_are_named),
                cmocka_unit_test(a_rollback_needs_no_verdict),
                cmocka_unit_test(differences_are_named),
                cmocka_unit_test(meanings_go_with_decisions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
