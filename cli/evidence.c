/* SPDX-License-Identifier: Apache-2.0 */
#include "evidence.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "judge.h"
#include "policy/decimal.h"
#include "policy/evaluation.h"
#include "policy/policy.h"
#include "resource.h"

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int lie(struct cli *cli, const char *what)
{
        return mlc_fail(&cli->err, MLC_E_VERIFY, "the server's evidence contradicts itself: %s",
                        what);
}

/* A digest in the arena as text. */
static const char *in_arena(struct cli *cli, struct mlc_arena *a, const struct mlc_digest *d)
{
        char text[MLC_DIGEST_STR];

        mlc_digest_format(d, text);
        return mlc_arena_strdup(a, text, &cli->err);
}

/* Each evaluation is of this manifest, and its id is that of what it names. */
static int check_records(struct cli *cli, const json_t *records, const char *manifest)
{
        const json_t *record;
        size_t i;

        json_array_foreach (records, i, record) {
                const char *examples = text_of(record, "examples"), *id = text_of(record, "id");
                struct mlc_digest m, s, x, want;
                char text[MLC_DIGEST_STR];

                if (!mlc_streq(text_of(record, "manifest"), manifest) || id == NULL ||
                    text_of(record, "submitted") == NULL)
                        return lie(cli, "an evaluation is of another version");
                if (mlc_digest_parse(manifest, &m, &cli->err) < 0 ||
                    mlc_digest_parse(text_of(record, "submitted"), &s, &cli->err) < 0 ||
                    (examples != NULL && mlc_digest_parse(examples, &x, &cli->err) < 0))
                        return cli->err.code;
                mlc_evaluation_id(&m, &s, examples != NULL ? &x : NULL, &want);
                mlc_digest_format(&want, text);
                if (strcmp(text, id) != 0)
                        return lie(cli, "an evaluation's id is not that of its content");
        }
        return 0;
}

/* The model's document that the bundle names, for its rollout plan; *ret NULL without one. */
static int model_document(struct cli *cli, const json_t *bundle, json_t **ret)
{
        const json_t *documents = json_object_get(bundle, "documents"), *one;
        _cleanup_(json_decref_p) json_t *whole = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        const char *name = NULL, *digest = NULL;
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;
        size_t i;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        json_array_foreach (documents, i, one)
                if (mlc_streq(text_of(one, "kind"), "Model")) {
                        name = text_of(one, "name");
                        digest = text_of(one, "digest");
                }
        if (name == NULL)
                return 0;
        mlc_str_addf(&path, "/api/v1/documents/Model/%s", name);
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &whole, &cli->err);
        if (r == 0)
                r = mlc_sha256_json(json_object_get(whole, "document"), &d, &cli->err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, text);
        if (!mlc_streq(text, digest))
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server's document 'Model/%s' is not the one of its evidence; "
                                "if it was changed just now, try again",
                                name);
        *ret = json_incref(json_object_get(whole, "document"));
        return 0;
}

static int digests(struct cli *cli, const json_t *bundle, struct mlc_arena *a,
                   struct mlc_statement *ret)
{
        const json_t *environment = json_object_get(bundle, "environment");
        const json_t *policy = json_object_get(bundle, "policy");
        _cleanup_(json_decref_p) json_t *model = NULL;
        struct mlc_digest p, e;
        int r = mlc_policy_digest(policy, &p, &cli->err);

        if (r == 0)
                r = model_document(cli, bundle, &model);
        if (r == 0)
                r = mlc_environment_digest(environment, policy, model, &e, &cli->err);
        if (r < 0)
                return r;
        ret->policy_digest = in_arena(cli, a, &p);
        ret->environment_digest = in_arena(cli, a, &e);
        if (ret->policy_digest == NULL || ret->environment_digest == NULL)
                return cli->err.code;
        if (!mlc_streq(ret->policy_digest, text_of(bundle, "policy_digest")))
                return lie(cli, "policy_digest");
        if (!mlc_streq(ret->environment_digest, text_of(bundle, "environment_digest")))
                return lie(cli, "environment_digest");
        return 0;
}

static int verdict(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                   struct mlc_statement *ret, json_t *ours)
{
        const json_t *ids = json_object_get(ours, "evidence");
        struct mlc_digest d;
        const char **list;
        int r = judge_compare(cli, ours, json_object_get(evidence, "verdict"));

        if (r == 0)
                r = mlc_verdict_digest(ours, &d, &cli->err);
        if (r < 0)
                return r;
        ret->verdict_digest = in_arena(cli, a, &d);
        list = mlc_arena_array(a, json_array_size(ids) + 1, sizeof(*list), &cli->err);
        if (ret->verdict_digest == NULL || list == NULL)
                return cli->err.code;
        if (!mlc_streq(ret->verdict_digest, text_of(evidence, "verdict_digest")))
                return lie(cli, "verdict_digest");
        for (size_t i = 0; i < json_array_size(ids); i++)
                list[i] = json_string_value(json_array_get(ids, i));
        ret->evidence = list;
        ret->n_evidence = json_array_size(ids);
        return 0;
}

int evidence_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                   struct mlc_statement *ret, json_t **ret_verdict)
{
        const json_t *bundle = json_object_get(evidence, "bundle");
        const json_t *version = json_object_get(bundle, "version");
        const json_t *champion = json_object_get(bundle, "champion");
        _cleanup_(json_decref_p) json_t *ours = NULL;
        int r = mlc_json_get_str(version, "/bundle/version", "model", &ret->model, &cli->err);

        if (r == 0)
                r = mlc_json_get_i64(version, "/bundle/version", "version", &ret->version,
                                     &cli->err);
        if (r == 0)
                r = mlc_json_get_str(version, "/bundle/version", "digest", &ret->artifact,
                                     &cli->err);
        if (r == 0)
                r = mlc_json_get_str(json_object_get(bundle, "environment"), "/bundle/environment",
                                     "name", &ret->environment, &cli->err);
        if (r == 0)
                r = check_records(cli, json_object_get(bundle, "evaluations"), ret->artifact);
        if (r == 0 && json_is_object(champion))
                r = check_records(cli, json_object_get(champion, "evaluations"),
                                  text_of(champion, "digest"));
        if (r == 0)
                r = digests(cli, bundle, a, ret);
        if (r == 0)
                r = judge_again(cli, bundle, &ours);
        if (r == 0)
                r = verdict(cli, evidence, a, ret, ours);
        if (r < 0)
                return r;
        ret->from = json_is_object(champion) ? text_of(champion, "digest") : NULL;
        *ret_verdict = TAKE_PTR(ours);
        return 0;
}

/* Difference to the champion */

/* The value of a metric over a whole dataset in a record: recomputed, else as declared. */
static bool value_of(const json_t *record, const char *metric, double *ret)
{
        const json_t *one;
        size_t i;

        json_array_foreach (json_object_get(record, "recomputed"), i, one)
                if (mlc_streq(text_of(one, "name"), metric) &&
                    json_object_size(json_object_get(one, "slice")) == 0 &&
                    text_of(one, "value") != NULL) {
                        *ret = strtod(text_of(one, "value"), NULL);
                        return true;
                }
        json_array_foreach (json_object_get(json_object_get(record, "document"), "metrics"), i, one)
                if (mlc_streq(text_of(one, "name"), metric) &&
                    json_object_size(json_object_get(one, "slice")) == 0) {
                        *ret = json_number_value(json_object_get(one, "value"));
                        return true;
                }
        return false;
}

static void compare_records(const json_t *mine, const json_t *theirs, json_t *rows)
{
        const json_t *metrics = json_object_get(json_object_get(mine, "document"), "metrics"), *m;
        size_t i;

        json_array_foreach (metrics, i, m) {
                const char *name = text_of(m, "name");
                double ours, champion;

                if (name == NULL || json_object_size(json_object_get(m, "slice")) > 0 ||
                    !value_of(mine, name, &ours) || !value_of(theirs, name, &champion))
                        continue;
                (void)json_array_append_new(
                        rows,
                        json_pack("{s:s, s:O?, s:o, s:o, s:o}", "metric", name, "dataset",
                                  json_object_get(json_object_get(mine, "document"), "dataset"),
                                  "champion", json_sprintf("%.6g", champion), "candidate",
                                  json_sprintf("%.6g", ours), "difference",
                                  json_sprintf("%+.6g", ours - champion)));
        }
}

static json_t *differences(const json_t *bundle)
{
        const json_t *mine, *theirs;
        json_t *rows = json_array();
        size_t i, k;

        json_array_foreach (json_object_get(bundle, "evaluations"), i, mine)
                json_array_foreach (
                        json_object_get(json_object_get(bundle, "champion"), "evaluations"), k,
                        theirs) {
                        if (json_is_true(json_object_get(mine, "withdrawn")) ||
                            json_is_true(json_object_get(theirs, "withdrawn")) ||
                            !mlc_streq(text_of(json_object_get(mine, "document"), "dataset"),
                                       text_of(json_object_get(theirs, "document"), "dataset")))
                                continue;
                        compare_records(mine, theirs, rows);
                }
        return rows;
}

static void print_differences(struct cli *cli, const json_t *bundle)
{
        static const struct out_column columns[] = {
                {"METRIC", "metric", OUT_TEXT},   {"CHAMPION", "champion", OUT_TEXT},
                {"THIS", "candidate", OUT_TEXT},  {"DIFFERENCE", "difference", OUT_TEXT},
                {"DATASET", "dataset", OUT_TEXT}, {0},
        };
        _cleanup_(json_decref_p) json_t *rows = differences(bundle);

        if (!json_is_object(json_object_get(bundle, "champion"))) {
                (void)printf("\nnothing is live there now\n");
                return;
        }
        (void)printf("\n%sagainst what is live now%s\n", out_bold(cli), out_reset(cli));
        if (json_array_size(rows) > 0)
                out_table(cli, rows, columns);
        else
                (void)printf("no metric on a dataset that both were evaluated on\n");
}

void evidence_print(struct cli *cli, const json_t *promotion, const json_t *evidence,
                    const json_t *verdict_)
{
        static const struct out_column fields[] = {
                {"model", "model", OUT_TEXT},
                {"version", "version", OUT_TEXT},
                {"digest", "digest", OUT_TEXT},
                {"environment", "environment", OUT_TEXT},
                {"from", "from", OUT_TEXT},
                {"to", "digest", OUT_TEXT},
                {"author", "author", OUT_TEXT},
                {"asked by", "asked", OUT_TEXT},
                {"reason", "reason", OUT_TEXT},
                {"verdict", "verdict", OUT_TEXT},
                {"verdict is", "verdict_digest", OUT_TEXT},
                {0},
        };
        const json_t *bundle = json_object_get(evidence, "bundle");
        const json_t *version = json_object_get(bundle, "version");
        const json_t *champion = json_object_get(bundle, "champion");
        _cleanup_(json_decref_p) json_t *view = json_object();

        (void)json_object_update_missing(view, (json_t *)(uintptr_t)version);
        (void)json_object_set_new(
                view, "environment",
                json_sprintf("%s%s", text_of(verdict_, "environment"),
                             json_is_true(json_object_get(promotion, "protected"))
                                     ? ""
                                     : " (unprotected: no owners sign changes of it)"));
        (void)json_object_set_new(
                view, "from",
                json_is_object(champion)
                        ? json_sprintf("%s (version %" JSON_INTEGER_FORMAT ")",
                                       text_of(champion, "digest"),
                                       json_integer_value(json_object_get(champion, "version")))
                        : json_string("nothing"));
        (void)json_object_set(view, "asked",
                              json_object_get(json_object_get(promotion, "requested_by"), "name"));
        (void)json_object_set(view, "reason", json_object_get(promotion, "reason"));
        (void)json_object_set(view, "verdict", json_object_get(verdict_, "verdict"));
        (void)json_object_set(view, "verdict_digest", json_object_get(evidence, "verdict_digest"));
        out_fields(cli, view, fields);
        (void)printf("\n");
        judge_print_checks(cli, json_object_get(verdict_, "checks"));
        print_differences(cli, bundle);
}
