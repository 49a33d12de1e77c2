/* SPDX-License-Identifier: Apache-2.0 */
/* bundle.json and statement.json of an export, judged again. */
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "export_verify.h"
#include "judge.h"
#include "layers.h"
#include "policy/evaluation.h"
#include "policy/policy.h"
#include "records.h"

/* A file that is one JSON value in its RFC 8785 form. */
static int load(struct verifying *v, const char *name, json_t **ret, struct mlc_digest *ret_digest)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(free_p) char *text = NULL;
        _cleanup_(mlc_str_done) struct mlc_str again;
        size_t len;
        int r = export_slurp(v, name, &text, &len);

        mlc_str_init(&again, EXPORT_FILE_MAX);
        if (r == 0)
                r = mlc_json_parse(text, len, &j, &v->cli->err);
        if (r == 0)
                r = mlc_jcs(j, &again, &v->cli->err);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        if (again.len != len || memcmp(again.data, text, len) != 0)
                return export_wrong(v, name, "it is not in its canonical form");
        mlc_sha256(text, len, ret_digest);
        *ret = TAKE_PTR(j);
        return 0;
}

static int document(struct records *r, const char *version, const char *id, struct mlc_str *ret,
                    struct mlc_err *err)
{
        struct verifying *v = r->userdata;
        _cleanup_(free_p) char *text = NULL;
        char name[96];
        size_t len;
        int rc;

        (void)version;
        (void)err;
        (void)snprintf(name, sizeof(name), "evaluations/%.64s.json", id + strlen("sha256:"));
        rc = export_slurp(v, name, &text, &len);
        if (rc < 0)
                return rc;
        mlc_str_addn(ret, text, len);
        return mlc_str_check(ret, err);
}

static int check_documents(struct verifying *v)
{
        const json_t *named = json_object_get(v->bundle, "documents");
        _cleanup_(json_decref_p) json_t *documents = json_array();
        int r = 0;

        for (size_t i = 0; r == 0 && i < json_array_size(named); i++) {
                json_t *one = NULL;
                struct mlc_digest d;
                char name[64];

                (void)snprintf(name, sizeof(name), "documents/%zu.json", i + 1);
                r = load(v, name, &one, &d);
                if (r == 0)
                        (void)json_array_append_new(documents, one);
        }
        if (r == 0)
                r = layers_check(v->cli, v->bundle, documents);
        return r < 0 ? mlc_wrap(&v->cli->err, "'bundle.json' and 'documents'") : 0;
}

/* Nothing but the examples that are missing makes ours another. */
static bool lacks_examples(const json_t *ours, const json_t *theirs)
{
        return mlc_streq(export_text(ours, "verdict"), "error") &&
               !mlc_streq(export_text(theirs, "verdict"), "error") &&
               mlc_streq(export_text(ours, "type"), "compare") &&
               json_equal(json_object_get(ours, "id"), json_object_get(theirs, "id")) &&
               json_equal(json_object_get(ours, "mode"), json_object_get(theirs, "mode"));
}

/* Ours with what it could not judge taken from theirs, each noted. */
static json_t *completed(struct verifying *v, const json_t *ours)
{
        json_t *whole = json_deep_copy(ours);
        const json_t *theirs = json_object_get(v->verdict, "checks");
        json_t *checks = json_object_get(whole, "checks"), *check;
        bool any = false;
        size_t i;

        json_array_foreach (checks, i, check) {
                if (!lacks_examples(check, json_array_get(theirs, i)))
                        continue;
                (void)json_array_append_new(v->not_recomputed,
                                            json_sprintf("check '%s': its examples are not here",
                                                         export_text(check, "id")));
                (void)json_array_set(checks, i, json_array_get(theirs, i));
                any = true;
        }
        if (any)
                (void)json_object_set(whole, "verdict", json_object_get(v->verdict, "verdict"));
        return whole;
}

static int judge(struct verifying *v, struct examples *x)
{
        struct records records = {
                .cli = v->cli, .examples = x, .document = document, .may_lack = true};
        _cleanup_(json_decref_p) json_t *ours = NULL, *whole = NULL;
        int r;

        records.userdata = v;
        r = records_check(&records, v->bundle);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'bundle.json' and 'evaluations'");
        r = judge_again(v->cli, v->bundle, x, &ours);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'bundle.json'");
        v->evaluations = records.checked;
        v->recomputed = records.recomputed;
        if (records.left_out > 0) {
                (void)json_array_append_new(
                        v->not_recomputed,
                        json_sprintf("%zu evaluations from their examples, which are not here",
                                     records.left_out));
                whole = completed(v, ours);
        }
        r = judge_compare(v->cli, whole != NULL ? whole : ours, v->verdict);
        return r < 0 ? mlc_wrap(&v->cli->err, "'statement.json' and 'bundle.json'") : 0;
}

/* The bundle is about the version and promotion that the log has. */
static int check_subject(struct verifying *v)
{
        const json_t *version = json_object_get(v->bundle, "version");
        const json_t *p = v->promotion->state;
        const struct {
                const json_t *one, *two;
                const char *name, *what;
        } same[] = {
                {json_object_get(version, "model"), json_object_get(p, "model"), "bundle.json",
                 "it is about another model than the promotion"},
                {json_object_get(version, "version"), json_object_get(p, "version"), "bundle.json",
                 "it is about another version than the promotion"},
                {json_object_get(version, "digest"), json_object_get(p, "digest"), "bundle.json",
                 "it is about another artifact than the promotion"},
                {json_object_get(version, "author"), json_object_get(v->version->state, "author"),
                 "bundle.json", "the version has another author in the log"},
                {json_object_get(json_object_get(v->bundle, "environment"), "name"),
                 json_object_get(p, "environment"), "bundle.json",
                 "it is about another environment than the promotion"},
                {json_object_get(v->bundle, "policy_digest"), json_object_get(p, "policy"),
                 "bundle.json", "the promotion has another policy in the log"},
                {json_object_get(v->bundle, "environment_digest"),
                 json_object_get(p, "environment_digest"), "bundle.json",
                 "the promotion has another environment_digest in the log"},
        };

        for (size_t i = 0; i < ARRAY_LEN(same); i++)
                if (!json_equal(same[i].one, same[i].two))
                        return export_wrong(v, same[i].name, same[i].what);
        return 0;
}

static int check_promotion(struct verifying *v)
{
        const json_t *p = v->promotion->state, *version = v->version->state;

        if (!json_equal(json_object_get(p, "model"), json_object_get(version, "model")) ||
            !json_equal(json_object_get(p, "version"), json_object_get(version, "version")) ||
            !json_equal(json_object_get(p, "digest"), json_object_get(version, "digest")))
                return export_wrong(v, "proofs/version", "the promotion is of another version");
        return 0;
}

int export_check_verdict(struct verifying *v, bool fetch)
{
        const char *want = export_text(v->promotion->state, "verdict");
        char dir[PATH_MAX];
        _cleanup_(examples_done) struct examples x = {.cli = v->cli, .dir = dir};
        struct mlc_digest d, ignored;
        int r = check_promotion(v);

        if (r < 0 || want[0] == '\0') /* a rollback has no verdict */
                return r;
        if (snprintf(dir, sizeof(dir), "%s/examples", v->dir) >= (int)sizeof(dir))
                return mlc_fail(&v->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", v->dir);
        x.model = fetch ? export_text(v->version->state, "model") : NULL;
        r = load(v, "statement.json", &v->verdict, &d);
        if (r < 0)
                return r;
        mlc_digest_format(&d, v->verdict_digest);
        if (strcmp(v->verdict_digest, want) != 0)
                return export_wrong(v, "statement.json", "the promotion has another verdict");
        r = load(v, "bundle.json", &v->bundle, &ignored);
        if (r == 0)
                r = check_subject(v);
        if (r == 0)
                r = check_documents(v);
        return r < 0 ? r : judge(v, &x);
}
