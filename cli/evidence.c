/* SPDX-License-Identifier: Apache-2.0 */
#include "evidence.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/ref.h"
#include "judge.h"
#include "layers.h"
#include "policy/decimal.h"
#include "policy/policy.h"
#include "records.h"
#include "standing.h"

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

/* What layers_check has computed again is the bundle's own. */
static int digests(struct cli *cli, const json_t *bundle, struct mlc_statement *ret)
{
        _cleanup_(json_decref_p) json_t *documents = NULL;
        int r = layers_fetch(cli, bundle, &documents);

        if (r == 0)
                r = layers_check(cli, bundle, documents);
        if (r < 0)
                return r;
        ret->policy_digest = text_of(bundle, "policy_digest");
        ret->environment_digest = text_of(bundle, "environment_digest");
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

static int parts(struct cli *cli, const json_t *bundle, struct examples *x, struct records *ret)
{
        const char *model = text_of(json_object_get(bundle, "version"), "model");
        struct mlc_ref ref;
        int r = mlc_ref_parse_model(model != NULL ? model : "", &ref, &cli->err);

        if (r < 0)
                return r;
        x->cli = cli;
        x->model = model;
        *ret = (struct records){.cli = cli, .examples = x, .document = records_fetch};
        ret->userdata = (void *)(uintptr_t)model;
        return records_check(ret, bundle);
}

void evidence_seen_done(struct evidence_seen *seen)
{
        json_decref(seen->verdict);
        seen->verdict = NULL;
}

int evidence_judge(struct cli *cli, const json_t *bundle, struct evidence_seen *ret)
{
        json_t *ours = NULL;
        _cleanup_(examples_done) struct examples x = {.cli = cli};
        struct records records = {0};
        int r = parts(cli, bundle, &x, &records);

        if (r == 0)
                r = judge_again(cli, bundle, &x, &ours);
        if (r < 0)
                return r;
        *ret = (struct evidence_seen){records.checked, records.recomputed, records.left_out, ours};
        return 0;
}

int evidence_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                   struct mlc_statement *ret, struct evidence_seen *ret_seen)
{
        const json_t *bundle = json_object_get(evidence, "bundle");
        const json_t *version = json_object_get(bundle, "version");
        const json_t *champion = json_object_get(bundle, "champion");
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
                r = standing_check(cli, bundle);
        if (r == 0)
                r = digests(cli, bundle, ret);
        if (r == 0)
                r = evidence_judge(cli, bundle, ret_seen);
        if (r == 0)
                r = verdict(cli, evidence, a, ret, ret_seen->verdict);
        if (r < 0)
                return r;
        ret->from = json_is_object(champion) ? text_of(champion, "digest") : NULL;
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

void evidence_print_seen(struct cli *cli, const struct evidence_seen *seen)
{
        (void)printf("\n%schecked here%s  verdict, policy and environment; %zu evaluation%s as "
                     "submitted",
                     out_bold(cli), out_reset(cli), seen->evaluations,
                     seen->evaluations == 1 ? "" : "s");
        if (seen->recomputed > 0)
                (void)printf(", %zu of them computed again from examples", seen->recomputed);
        if (seen->left_out > 0)
                (void)printf("; not the examples of %zu, which are too large", seen->left_out);
        (void)printf("\n");
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
