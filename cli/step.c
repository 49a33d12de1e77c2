/* SPDX-License-Identifier: Apache-2.0 */
#include "step.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "layers.h"
#include "resource.h"
#include "rollout.h"
#include "rollout/plan.h"

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int lie(struct cli *cli, const char *what)
{
        return mlc_fail(&cli->err, MLC_E_VERIFY, "the server's evidence contradicts itself: %s",
                        what);
}

/* The digest of `j` as text in the arena, which the server must have said. */
static int digest(struct cli *cli, const json_t *j, const char *said, struct mlc_arena *a,
                  const char **ret)
{
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;
        int r = mlc_sha256_json(j, &d, &cli->err);

        if (r < 0)
                return r;
        mlc_digest_format(&d, text);
        *ret = mlc_arena_strdup(a, text, &cli->err);
        if (*ret == NULL)
                return cli->err.code;
        return mlc_streq(text, said) ? 0 : lie(cli, "its digests");
}

static const json_t *of_kind(const json_t *documents, const char *kind)
{
        const json_t *d;
        size_t i;

        json_array_foreach (documents, i, d)
                if (mlc_streq(text_of(d, "kind"), kind))
                        return d;
        return NULL;
}

/* Steps and checks are those of the model's document, which the statement binds. */
static int check_plan(struct cli *cli, const json_t *plan, const json_t *bundle)
{
        static const char *const same[] = {"model",      "environment", "strategy",   "steps",
                                           "checks",     "ab",          "exposure",   "on_harm",
                                           "on_silence", "deadline_ms", "on_deadline"};
        _cleanup_(json_decref_p) json_t *documents = NULL, *ours = NULL;
        struct mlc_rollout_docs docs = {.environment = json_object_get(bundle, "environment"),
                                        .first = json_is_true(json_object_get(plan, "first")),
                                        .mirrored = true};
        int r = layers_fetch(cli, bundle, &documents);

        if (r < 0)
                return r;
        docs.model = of_kind(documents, "Model");
        r = mlc_rollout_plan(&docs, &ours, &cli->err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(same); i++)
                if (!json_equal(json_object_get(plan, same[i]), json_object_get(ours, same[i])))
                        return lie(cli, "its plan is not what the model's document says");
        return 0;
}

/* All minima are met, and nothing but people is waited for. */
static int check_decision(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                          const char **ret_digest)
{
        const json_t *decision = json_object_get(evidence, "decision");
        _cleanup_(json_decref_p) json_t *ours = NULL;
        int r = rollout_decide_again(cli, evidence, &ours);

        if (r < 0)
                return r;
        if (!mlc_streq(text_of(decision, "decision"), "wait") ||
            json_integer_value(json_object_get(decision, "step")) !=
                    json_integer_value(json_object_get(evidence, "step")))
                return lie(cli, "its decision is not that this step waits for people");
        return digest(cli, ours, text_of(evidence, "decision_digest"), a, ret_digest);
}

static int check_promotion(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                           struct mlc_statement *facts, struct evidence_seen *ret_seen)
{
        _cleanup_(json_decref_p) json_t *promotion = NULL;
        struct mlc_statement of = {0};
        _cleanup_(mlc_str_done) struct mlc_str path;
        const char **places[] = {&facts->model,         &facts->artifact,
                                 &facts->environment,   &facts->environment_digest,
                                 &facts->policy_digest, &facts->verdict_digest,
                                 &facts->from};
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/promotions/");
        mlc_url_encode(&path, text_of(evidence, "promotion") != NULL
                                      ? text_of(evidence, "promotion")
                                      : "?");
        mlc_str_add(&path, "/evidence");
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &promotion, &cli->err);
        if (r == 0)
                r = evidence_check(cli, promotion, a, &of, ret_seen);
        /* the plan of what is first there compares with nothing */
        if (r == 0 && of.from != NULL &&
            json_is_true(json_object_get(json_object_get(evidence, "plan"), "first")))
                return lie(cli, "its plan is of a first version, but another one is live");
        if (r == 0)
                r = check_plan(cli, json_object_get(evidence, "plan"),
                               json_object_get(promotion, "bundle"));
        if (r < 0)
                return r;
        {
                const char *said[] = {
                        of.model,         of.artifact,       of.environment, of.environment_digest,
                        of.policy_digest, of.verdict_digest, of.from};

                for (size_t i = 0; i < ARRAY_LEN(said); i++) {
                        *places[i] =
                                said[i] != NULL ? mlc_arena_strdup(a, said[i], &cli->err) : NULL;
                        if (said[i] != NULL && *places[i] == NULL)
                                return cli->err.code;
                }
        }
        facts->version = of.version;
        return 0;
}

int step_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
               struct mlc_statement *facts, struct evidence_seen *ret_seen)
{
        const json_t *plan = json_object_get(evidence, "plan");
        const char **list = mlc_arena_array(a, 1, sizeof(*list), &cli->err);
        json_int_t step = json_integer_value(json_object_get(evidence, "step"));
        char subject[64];
        int r;

        if (list == NULL)
                return cli->err.code;
        if (!mlc_streq(text_of(evidence, "id"), facts->subject_id) || step < 0)
                return lie(cli, "it is of another rollout");
        (void)snprintf(subject, sizeof(subject), "%s/%" JSON_INTEGER_FORMAT, facts->subject_id,
                       step + 1);
        facts->subject_id = mlc_arena_strdup(a, subject, &cli->err);
        if (facts->subject_id == NULL)
                return cli->err.code;
        r = digest(cli, plan, text_of(evidence, "plan_digest"), a, &facts->plan_digest);
        if (r == 0)
                r = check_decision(cli, evidence, a, &list[0]);
        if (r == 0)
                r = check_promotion(cli, evidence, a, facts, ret_seen);
        if (r < 0)
                return r;
        if (!mlc_streq(text_of(plan, "model"), facts->model) ||
            !mlc_streq(text_of(plan, "environment"), facts->environment))
                return lie(cli, "its plan is of another model or environment");
        facts->evidence = list;
        facts->n_evidence = 1;
        return 0;
}

/* "5 % of requests", "copies of 10 %" */
static json_t *share(const json_t *step)
{
        json_int_t mirror = json_integer_value(json_object_get(step, "mirror"));
        json_int_t weight = json_integer_value(json_object_get(step, "weight"));
        _cleanup_(json_decref_p) json_t *targets = rollout_targets(step);

        if (step == NULL)
                return json_string("live: nothing else serves any more");
        return json_sprintf("%s%g %% of the requests%s%s", mirror > 0 ? "copies of " : "",
                            (double)(mirror > 0 ? mirror : weight) / 100,
                            targets != NULL ? " in " : "",
                            targets != NULL ? json_string_value(targets) : "");
}

void step_print(struct cli *cli, const json_t *rollout, const json_t *evidence,
                const struct mlc_statement *facts)
{
        static const struct out_column fields[] = {
                {"rollout", "id", OUT_TEXT},
                {"model", "model", OUT_TEXT},
                {"version", "version", OUT_TEXT},
                {"digest", "digest", OUT_TEXT},
                {"environment", "environment", OUT_TEXT},
                {"step", "at", OUT_TEXT},
                {"it has now", "now", OUT_TEXT},
                {"and then", "then", OUT_TEXT},
                {"asked by", "requested_by.name", OUT_TEXT},
                {"evidence is", "evidence", OUT_TEXT},
                {0},
        };
        const json_t *steps = json_object_get(json_object_get(evidence, "plan"), "steps");
        size_t i = (size_t)json_integer_value(json_object_get(evidence, "step"));
        _cleanup_(json_decref_p) json_t *view = json_copy((json_t *)(uintptr_t)rollout);

        (void)json_object_set_new(view, "model", json_string(facts->model));
        (void)json_object_set_new(view, "version", json_integer(facts->version));
        (void)json_object_set_new(view, "digest", json_string(facts->artifact));
        (void)json_object_set_new(view, "environment", json_string(facts->environment));
        (void)json_object_set_new(view, "at",
                                  json_sprintf("%zu of %zu", i + 1, json_array_size(steps)));
        (void)json_object_set_new(view, "now", share(json_array_get(steps, i)));
        (void)json_object_set_new(view, "then", share(json_array_get(steps, i + 1)));
        (void)json_object_set_new(view, "evidence", json_string(facts->evidence[0]));
        out_fields(cli, view, fields);
        (void)printf("\n");
        rollout_print_decision(cli, json_object_get(evidence, "decision"));
}
