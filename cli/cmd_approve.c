/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "award.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cli.h"
#include "codec/ref.h"
#include "crypto/hash.h"
#include "evidence.h"
#include "promotion.h"
#include "resource.h"
#include "signing.h"
#include "step.h"
#include "textdiff.h"

#define ARENA_MAX ((size_t)64 << 20)

struct decision {
        const char *id, *word; /* "p142", "approve" */
        const char *key;
        struct signing signing;
        struct mlc_arena arena;
};

static void decision_done(struct decision *d)
{
        signing_done(&d->signing);
        mlc_arena_done(&d->arena);
}

static void print_decided(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"approval", "id", OUT_TEXT},
                {"of", "subject", OUT_TEXT},
                {"decision", "decision", OUT_TEXT},
                {"state", "state", OUT_TEXT},
                {"people", "people", OUT_TEXT},
                {"leaf", "leaf_hash", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *shown = json_copy((json_t *)(uintptr_t)j);

        (void)json_object_set_new(shown, "people",
                                  json_sprintf("%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT,
                                               json_integer_value(json_object_get(j, "have")),
                                               json_integer_value(json_object_get(j, "need"))));
        out_fields(cli, shown, fields);
}

static int resource_of(struct cli *cli, const char *base, const char *id, const char *rest,
                       json_t **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str path;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, base);
        mlc_url_encode(&path, id);
        mlc_str_add(&path, rest);
        return mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, ret, &cli->err);
}

/* Signs what was made and shown, and sends it. */
static int decide(struct cli *cli, struct decision *d, const char *base)
{
        _cleanup_(json_decref_p) json_t *body = NULL, *reply = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        char question[96];
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, base);
        mlc_url_encode(&path, d->id);
        mlc_str_add(&path, "/approvals");
        (void)snprintf(question, sizeof(question), "sign: %s %s?", d->word, d->id);
        r = signing_ask(cli, question);
        if (r == 0)
                r = signing_sign(cli, &d->signing, d->key, &body);
        if (r == 0)
                r = signing_post(cli, mlc_str_cstr(&path), body, &reply);
        if (r < 0)
                return r;
        if (cli->output == CLI_TABLE)
                (void)printf("\n");
        out_result(cli, reply, print_decided);
        return 0;
}

static void print_statement(struct cli *cli, const struct mlc_statement *s)
{
        (void)printf("\n%syou sign%s  ", out_bold(cli), out_reset(cli));
        out_text(s->meaning);
        (void)printf("\n");
}

static int decide_promotion(struct cli *cli, struct decision *d)
{
        _cleanup_(json_decref_p) json_t *promotion = NULL, *evidence = NULL;
        struct mlc_statement facts = {
                .decision = d->word, .subject_kind = "promotion", .subject_id = d->id};
        _cleanup_(evidence_seen_done) struct evidence_seen seen = {0};
        struct promotion_decision now;
        int r = promotion_wait(cli, d->id, UNTIL_EVALUATED, mlc_monotonic_ms() + EVALUATING_MS,
                               &now);

        if (r == 0)
                r = promotion_get(cli, d->id, &promotion);
        if (r == 0)
                r = resource_of(cli, "/api/v1/promotions/", d->id, "/evidence", &evidence);
        if (r == 0)
                r = evidence_check(cli, evidence, &d->arena, &facts, &seen);
        if (r == 0)
                r = signing_make(cli, &facts, json_object_get(evidence, "statement"),
                                 json_object_get(evidence, "meanings"), &d->signing);
        if (r < 0)
                return r;
        if (cli->output == CLI_TABLE) {
                evidence_print(cli, promotion, evidence, seen.verdict);
                evidence_print_seen(cli, &seen);
                print_statement(cli, &facts);
        }
        return decide(cli, d, "/api/v1/promotions/");
}

/* The digest of a document as it is shown, or NULL for null. */
static int digest_of(struct cli *cli, const json_t *document, char buf[MLC_DIGEST_STR],
                     const char **ret)
{
        struct mlc_digest d;
        int r;

        *ret = NULL;
        if (!json_is_object(document))
                return 0;
        r = mlc_sha256_json(document, &d, &cli->err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, buf);
        *ret = buf;
        return 0;
}

static void print_change(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"change", "id", OUT_TEXT},       {"document", "document", OUT_TEXT},
                {"of", "environments", OUT_LIST}, {"asked by", "requested_by.name", OUT_TEXT},
                {"expires", "expires", OUT_TIME}, {0},
        };

        if (award_is(json_object_get(j, "after_document"))) {
                award_print(cli, json_object_get(j, "change"),
                            json_object_get(j, "after_document"));
                return;
        }
        out_fields(cli, json_object_get(j, "change"), fields);
        (void)printf("\n");
        textdiff_print(cli, json_object_get(j, "before_document"),
                       json_object_get(j, "after_document"));
}

/* The document's own members say which one it is; the server's word for it must be the same. */
static int name_document(struct cli *cli, const json_t *evidence, struct mlc_str *ret)
{
        const json_t *after = json_object_get(evidence, "after_document");
        const char *said;
        int r = mlc_json_get_str(json_object_get(evidence, "change"), "/change", "document", &said,
                                 &cli->err);

        if (r == 0)
                r = award_document_name(cli,
                                        json_is_object(after)
                                                ? after
                                                : json_object_get(evidence, "before_document"),
                                        ret);
        if (r < 0)
                return r;
        if (strcmp(said, mlc_str_cstr(ret)) != 0)
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server calls the change '%s', but what it shows is '%s'; "
                                "nothing was signed",
                                said, mlc_str_cstr(ret));
        return 0;
}

static int decide_change(struct cli *cli, struct decision *d)
{
        _cleanup_(json_decref_p) json_t *evidence = NULL;
        _cleanup_(mlc_str_done) struct mlc_str document;
        char before[MLC_DIGEST_STR], after[MLC_DIGEST_STR];
        struct mlc_statement facts = {
                .decision = d->word, .subject_kind = "change", .subject_id = d->id};
        int r = resource_of(cli, "/api/v1/changes/", d->id, "/evidence", &evidence);

        mlc_str_init(&document, RESOURCE_PATH_MAX);
        if (r == 0)
                r = name_document(cli, evidence, &document);
        facts.document = mlc_str_cstr(&document);
        if (r == 0)
                r = digest_of(cli, json_object_get(evidence, "before_document"), before,
                              &facts.before);
        if (r == 0)
                r = digest_of(cli, json_object_get(evidence, "after_document"), after,
                              &facts.after);
        if (r == 0)
                r = signing_make(cli, &facts, json_object_get(evidence, "statement"),
                                 json_object_get(evidence, "meanings"), &d->signing);
        if (r < 0)
                return r;
        if (cli->output == CLI_TABLE) {
                print_change(cli, evidence);
                print_statement(cli, &facts);
        }
        return decide(cli, d, "/api/v1/changes/");
}

static int decide_rollout(struct cli *cli, struct decision *d)
{
        _cleanup_(json_decref_p) json_t *rollout = NULL, *evidence = NULL;
        struct mlc_statement facts = {
                .decision = d->word, .subject_kind = "rollout", .subject_id = d->id};
        _cleanup_(evidence_seen_done) struct evidence_seen seen = {0};
        int r = resource_of(cli, "/api/v1/rollouts/", d->id, "", &rollout);

        if (r == 0)
                r = resource_of(cli, "/api/v1/rollouts/", d->id, "/evidence", &evidence);
        if (r == 0)
                r = step_check(cli, evidence, &d->arena, &facts, &seen);
        if (r == 0)
                r = signing_make(cli, &facts, json_object_get(evidence, "statement"),
                                 json_object_get(evidence, "meanings"), &d->signing);
        if (r < 0)
                return r;
        if (cli->output == CLI_TABLE) {
                step_print(cli, rollout, evidence, &facts);
                evidence_print_seen(cli, &seen);
                print_statement(cli, &facts);
        }
        return decide(cli, d, "/api/v1/rollouts/");
}

static int run_decide(struct cli *cli, const char *word)
{
        _cleanup_(decision_done) struct decision d = {.id = cli->args[0], .word = word};
        int r;

        mlc_arena_init(&d.arena, ARENA_MAX);
        d.key = cli_opt(cli, "key");
        d.signing.reason = cli_opt(cli, "reason");
        if (d.key == NULL || d.signing.reason == NULL || d.signing.reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "%s needs --key FILE (your SSH key) and --reason TEXT", word);
        if (strchr("pcr", d.id[0]) == NULL || d.id[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "'%s' is no promotion (p142), change (c5) or rollout (r17); 'mlctl "
                                "inbox' lists what waits for you",
                                d.id);
        r = cli_connect(cli);
        if (r < 0)
                return r;
        if (d.id[0] == 'r')
                return decide_rollout(cli, &d);
        return d.id[0] == 'p' ? decide_promotion(cli, &d) : decide_change(cli, &d);
}

static int run_approve(struct cli *cli)
{
        return run_decide(cli, "approve");
}

static int run_reject(struct cli *cli)
{
        return run_decide(cli, "reject");
}

/* rollback */

/* --to as the API takes it; the model's name may be left out. */
static int read_target(struct cli *cli, const struct mlc_ref *model, char ret[MLC_ALIAS_MAX + 1])
{
        const char *to = cli_opt(cli, "to");
        struct mlc_ref ref;
        int r;

        ret[0] = '\0';
        if (to == NULL)
                return 0;
        if (strchr(to, '/') == NULL) {
                (void)snprintf(ret, MLC_ALIAS_MAX + 1, "%s", to);
                return 0;
        }
        r = mlc_ref_parse(to, &ref, &cli->err);
        if (r < 0)
                return r;
        if (strcmp(ref.ns, model->ns) != 0 || strcmp(ref.model, model->model) != 0)
                return mlc_fail(&cli->err, MLC_E_USAGE, "--to '%s' is a version of another model",
                                to);
        resource_version_name(&ref, ret);
        return 0;
}

static int take(struct cli *cli, const json_t *served, const char *key, const char **ret)
{
        return mlc_json_opt_str(served, "/statement", key, ret, &cli->err);
}

/* What goes back to what, as the server proposes; that it is this model, this environment and the
 * version's own digest is looked at here. */
static int rollback_facts(struct cli *cli, const json_t *body, const json_t *proposal,
                          struct mlc_statement *ret, json_t **ret_version)
{
        const json_t *served = json_object_get(proposal, "statement");
        const char *model = json_string_value(json_object_get(body, "model"));
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        *ret = (struct mlc_statement){.decision = "rollback", .subject_kind = "promotion"};
        ret->model = model;
        ret->environment = json_string_value(json_object_get(body, "environment"));
        r = mlc_json_get_i64(proposal, "", "version", &ret->version, &cli->err);
        if (r == 0)
                r = mlc_json_get_str(json_object_get(served, "subject"), "/statement/subject", "id",
                                     &ret->subject_id, &cli->err);
        if (r == 0)
                r = take(cli, served, "environment_digest", &ret->environment_digest);
        if (r == 0)
                r = take(cli, served, "policy_digest", &ret->policy_digest);
        if (r == 0)
                r = take(cli, served, "verdict_digest", &ret->verdict_digest);
        if (r == 0)
                r = take(cli, served, "from", &ret->from);
        if (r < 0)
                return r;
        mlc_str_addf(&path, "/api/v1/models/%s/versions/%lld", model, (long long)ret->version);
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, ret_version, &cli->err);
        return r < 0 ? r : mlc_json_get_str(*ret_version, "", "digest", &ret->artifact, &cli->err);
}

static int sign_rollback(struct cli *cli, const char *key, json_t *body)
{
        _cleanup_(json_decref_p) json_t *proposal = NULL, *version = NULL, *signed_body = NULL;
        _cleanup_(signing_done) struct signing signing = {0};
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_statement facts;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/rollbacks/statement");
        resource_query(&path, "environment",
                       json_string_value(json_object_get(body, "environment")));
        resource_query(&path, "model", json_string_value(json_object_get(body, "model")));
        resource_query(&path, "to", json_string_value(json_object_get(body, "to")));
        signing.reason = cli_opt(cli, "reason");
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &proposal, &cli->err);
        if (r == 0)
                r = rollback_facts(cli, body, proposal, &facts, &version);
        if (r == 0)
                r = signing_make(cli, &facts, json_object_get(proposal, "statement"),
                                 json_object_get(proposal, "meanings"), &signing);
        if (r < 0)
                return r;
        if (cli->output == CLI_TABLE)
                print_statement(cli, &facts);
        r = signing_ask(cli, "sign the rollback?");
        if (r == 0)
                r = signing_sign(cli, &signing, key, &signed_body);
        if (r == 0)
                (void)json_object_update(body, signed_body);
        return r;
}

static int run_rollback(struct cli *cli)
{
        const char *in = cli_opt(cli, "in"), *reason = cli_opt(cli, "reason");
        _cleanup_(json_decref_p) json_t *body = NULL, *reply = NULL;
        char to[MLC_ALIAS_MAX + 1];
        struct mlc_ref ref;
        int r = mlc_ref_parse_model(cli->args[0], &ref, &cli->err);

        if (r == 0)
                r = read_target(cli, &ref, to);
        if (r < 0)
                return r;
        if (in == NULL || reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "rollback needs --in ENVIRONMENT and --reason TEXT");
        body = json_pack("{s:s, s:o, s:s}", "environment", in, "model",
                         json_sprintf("%s/%s", ref.ns, ref.model), "reason", reason);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "environment or reason is not valid UTF-8");
        if (to[0] != '\0')
                (void)json_object_set_new(body, "to", json_string(to));
        r = cli_connect(cli);
        if (r == 0 && cli_opt(cli, "key") != NULL)
                r = sign_rollback(cli, cli_opt(cli, "key"), body);
        if (r == 0)
                r = signing_post(cli, "/api/v1/rollbacks", body, &reply);
        if (r < 0)
                return r;
        out_result(cli, reply, promotion_print);
        return 0;
}

static const struct cli_option DECIDE_OPTIONS[] = {
        {"key", "FILE", "your SSH key, or its .pub when the agent or a token has it", false},
        {"reason", "TEXT", "why; part of what is signed", false},
        {"yes", NULL, "do not ask", false},
        {0},
};

static const struct cli_option ROLLBACK_OPTIONS[] = {
        {"in", "ENVIRONMENT", "where", false},
        {"to", "REF", "another version than the newest that can come back", false},
        {"reason", "TEXT", "why; it is logged", false},
        {"key", "FILE", "sign it with this SSH key", false},
        {"yes", NULL, "do not ask", false},
        {0},
};

const struct cli_command CMD_APPROVE[] = {
        {"approve", "ID", 1, 1, "sign for a promotion (p142), change (c5) or rollout step (r17)",
         "Fetches the evidence, computes the verdict and the statement here again, and refuses\n"
         "when the server says anything else. Shows what is signed: model, digest, from and to,\n"
         "the checks, the difference to what is live. Asks on a terminal; without one it signs.\n"
         "ssh-keygen signs, so that agents and hardware keys work.",
         DECIDE_OPTIONS, run_approve},
        {"reject", "ID", 1, 1, "sign against a promotion, a change or a rollout's step", NULL,
         DECIDE_OPTIONS, run_reject},
        {"rollback", "NS/MODEL", 1, 1, "bring back a version that was live, at once",
         "Without --to the newest version that was live there before, is not withdrawn and was "
         "not\n"
         "itself rolled back. In a protected environment another version needs --key. Without a\n"
         "key the rollback is not signed, and its log entry says so.",
         ROLLBACK_OPTIONS, run_rollback},
        {0},
};
