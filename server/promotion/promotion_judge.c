/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/hash.h"
#include "gen/promotion.sql.h"
#include "policy/policy.h"
#include "promotion/promotion_internal.h"

#define RETRY_MAX_MS 3600000LL

/* --- basis: what of a bundle decides, without the moment --- */

/* [[id, withdrawn]…] of records. */
static json_t *evaluation_list(const json_t *records)
{
        json_t *list = json_array();
        size_t i;
        const json_t *e;

        json_array_foreach (records, i, e)
                (void)json_array_append_new(list, json_pack("[O, O]", json_object_get(e, "id"),
                                                            json_object_get(e, "withdrawn")));
        return list;
}

/* Whether some check compares with what is live. */
static bool compares(const json_t *bundle)
{
        const json_t *checks = json_object_get(json_object_get(bundle, "policy"), "checks");
        size_t i;
        const json_t *c;

        json_array_foreach (checks, i, c)
                if (json_is_string(json_object_get(c, "against")))
                        return true;
        return false;
}

int promotion_basis(struct mlc_ctx *ctx, const json_t *bundle, char ret[MLC_DIGEST_STR])
{
        const json_t *version = json_object_get(bundle, "version");
        const json_t *champion = json_object_get(bundle, "champion");
        _cleanup_(json_decref_p) json_t *against = NULL;
        _cleanup_(json_decref_p) json_t *basis = NULL;

        if (compares(bundle) && json_is_object(champion))
                against = json_pack("{s:O, s:o}", "digest", json_object_get(champion, "digest"),
                                    "evaluations",
                                    evaluation_list(json_object_get(champion, "evaluations")));
        basis = json_pack(
                "{s:O, s:O, s:O, s:o, s:O?}", "digest", json_object_get(version, "digest"),
                "policy", json_object_get(bundle, "policy_digest"), "environment",
                json_object_get(bundle, "environment_digest"), "evaluations",
                evaluation_list(json_object_get(bundle, "evaluations")), "champion", against);
        if (basis == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "a bundle lacks what a verdict binds");
        return gate_json_digest(ctx, basis, ret);
}

/* --- evaluating --- */

int promotion_bundle_now(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                         json_t **ret)
{
        char version[24];

        (void)snprintf(version, sizeof(version), "%" PRId64, p->version);
        return gate_bundle(ctx, tx,
                           &(struct gate_subject){.ns = p->ns,
                                                  .model = p->name,
                                                  .version = version,
                                                  .environment = p->environment,
                                                  .now_ms = mlc_now_ms()},
                           ret);
}

int promotion_holds(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p, bool *ret)
{
        _cleanup_(json_decref_p) json_t *bundle = NULL;
        char basis[MLC_DIGEST_STR];
        int r = promotion_bundle_now(ctx, tx, p, &bundle);

        if (r == 0)
                r = promotion_basis(ctx, bundle, basis);
        if (r < 0)
                return r;
        *ret = mlc_streq(basis, p->basis);
        return 0;
}

struct judgement {
        struct promotion p;
        json_t *bundle; /* owned; NULL: it could not be read, the verdict is error */
        json_t *verdict; /* owned */
};

static void judgement_done(struct judgement *j)
{
        json_decref(j->bundle);
        json_decref(j->verdict);
}

static int read_bundle(struct mlc_ctx *ctx, const char *id, struct judgement *j)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = promotion_load(ctx, &tx, id, false, &j->p);
        if (r < 0 || !mlc_streq(j->p.state, "evaluating"))
                return r;
        return promotion_bundle_now(ctx, &tx, &j->p, &j->bundle);
}

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* The shortest time that a rule gives, from when it was asked for; NULL: no rule does. */
static int expires_at(struct mlc_ctx *ctx, const struct judgement *j, const char **ret)
{
        const json_t *rules = json_object_get(json_object_get(j->bundle, "policy"), "approvals");
        json_int_t ttl = 0;
        char text[MLC_TIME_MAX];
        size_t i;
        const json_t *rule;

        if (j->bundle == NULL) {
                *ret = j->p.expires;
                return 0;
        }
        json_array_foreach (rules, i, rule) {
                json_int_t t = json_integer_value(json_object_get(rule, "request_ttl_ms"));

                if (t > 0 && (ttl == 0 || t < ttl))
                        ttl = t;
        }
        *ret = NULL;
        if (ttl == 0)
                return 0;
        mlc_time_format(j->p.created_ms + ttl, text);
        *ret = ctx_strdup(ctx, text);
        return *ret != NULL ? 0 : ctx->err.code;
}

static const char *state_after(const struct judgement *j)
{
        const json_t *rules = json_object_get(json_object_get(j->bundle, "policy"), "approvals");
        const char *v = text_of(j->verdict, "verdict");

        if (mlc_streq(v, "pass"))
                return json_array_size(rules) > 0 ? "awaiting_approval" : "approved";
        return mlc_streq(v, "fail") ? "rejected" : "held";
}

/* When a held one is looked at again by itself; 0: only when something arrives. */
static int64_t retry_at(const struct judgement *j)
{
        int64_t wake = j->bundle != NULL ? mlc_policy_wake_ms(j->bundle) : 0;
        int64_t delay = PROMOTION_RETRY_MS;

        if (!mlc_streq(text_of(j->verdict, "verdict"), "error"))
                return wake;
        for (int64_t i = 0; i < j->p.retries && delay < RETRY_MAX_MS; i++)
                delay *= 2;
        delay = mlc_now_ms() + (delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS);
        return wake > 0 && wake < delay ? wake : delay;
}

static int write_verdict(struct mlc_ctx *ctx, struct db_tx *tx, struct judgement *j,
                         const char *state)
{
        char digest[MLC_DIGEST_STR], basis[MLC_DIGEST_STR];
        const char *bundle = j->bundle != NULL ? promotion_text(ctx, j->bundle) : NULL, *expires;
        const char *verdict = promotion_text(ctx, j->verdict);
        const char *v = text_of(j->verdict, "verdict");
        int64_t retry = mlc_streq(state, "held") ? retry_at(j) : 0;
        int r;

        if (verdict == NULL || (j->bundle != NULL && bundle == NULL))
                return ctx->err.code;
        r = gate_json_digest(ctx, j->verdict, digest);
        if (r == 0 && bundle != NULL)
                r = promotion_basis(ctx, j->bundle, basis);
        if (r == 0)
                r = expires_at(ctx, j, &expires);
        if (r < 0)
                return r;
        return db_run(tx, SQL_PROMOTION_JUDGED, NULL, DB_TEXT(j->p.id), DB_TEXT(state),
                      DB_TEXT(bundle), DB_TEXT(verdict), DB_TEXT(digest),
                      DB_TEXT(text_of(j->bundle, "policy_digest")),
                      DB_TEXT(text_of(j->bundle, "environment_digest")),
                      DB_TEXT(text_of(json_object_get(j->bundle, "champion"), "digest")),
                      DB_TEXT(bundle != NULL ? basis : NULL), DB_TEXT(expires),
                      retry > 0 ? DB_INT(retry) : DB_NULL,
                      DB_INT(mlc_streq(v, "error") ? j->p.retries + 1 : 0));
}

static const char *action_of(const char *state)
{
        if (mlc_streq(state, "held"))
                return "promotion.hold";
        if (mlc_streq(state, "rejected"))
                return "promotion.reject";
        return mlc_streq(state, "approved") ? "promotion.approve" : "promotion.pass";
}

static int record_verdict(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct judgement *j = userdata;
        _cleanup_(json_decref_p) json_t *before = NULL;
        _cleanup_(json_decref_p) json_t *detail = NULL;
        const char *state = state_after(j);
        struct promotion now;
        char leaf[65];
        int r = promotion_load(ctx, tx, j->p.id, true, &now);

        if (r < 0 || !mlc_streq(now.state, "evaluating") || now.round != j->p.round)
                return r;
        r = promotion_state(ctx, tx, "promotion", now.id, &before);
        if (r == 0)
                r = write_verdict(ctx, tx, j, state);
        if (r < 0)
                return r;
        detail = json_pack("{s:s}", "verdict", text_of(j->verdict, "verdict"));
        r = promotion_record(ctx, tx,
                             &(struct promotion_event){.action = action_of(state),
                                                       .kind = "promotion",
                                                       .id = now.id,
                                                       .model = now.model,
                                                       .before = before,
                                                       .detail = detail},
                             leaf);
        if (r < 0)
                return r;
        return db_run(tx, SQL_PROMOTION_VERDICT_LEAF, NULL, DB_TEXT(now.id), DB_TEXT(leaf));
}

/* Nobody has it any more: the leader judges it after so many seconds. */
static int unclaim(struct mlc_ctx *ctx, const char *id, int64_t seconds)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_UNCLAIM, NULL, DB_TEXT(id), DB_INT(seconds));
        return r < 0 ? r : db_tx_commit(&tx);
}

static int judge(struct mlc_ctx *ctx, const char *id)
{
        _cleanup_(judgement_done) struct judgement j = {0};
        int r = read_bundle(ctx, id, &j);

        if (r == 0 && j.bundle == NULL)
                return 0;
        if (r == 0)
                r = gate_judge(ctx, j.bundle, &j.verdict);
        return r < 0 ? r : db_tx_retry(ctx, record_verdict, &j);
}

int promotion_judge(struct mlc_ctx *ctx, const char *id)
{
        int r = judge(ctx, id);

        if (r == 0)
                return 0;
        mlc_log_err(MLC_LOG_WARN, ctx->trace, "promotion.judge_failed", &ctx->err);
        mlc_err_clear(&ctx->err);
        return unclaim(ctx, id, 0);
}

/* --- what cannot be judged --- */

static json_t *error_verdict(const struct promotion *p, const char *why)
{
        char now[MLC_TIME_MAX];
        json_t *check =
                json_pack("{s:s, s:s, s:s, s:s, s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:s, s:b, s:n}",
                          "id", "evaluation", "layer", "mlctld", "type", "evaluation", "mode",
                          "enforce", "verdict", "error", "observed", "required", "interval", "n",
                          "n_needed", "statistic", "reason", why, "conflict", 0, "judged_on");

        mlc_time_format(mlc_now_ms(), now);
        return json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:n, s:n, s:n, s:n, s:[], s:s, s:[o]}",
                         "schema", "verdict/v1", "verdict", "error", "model", p->model, "version",
                         (json_int_t)p->version, "digest", p->digest, "environment", p->environment,
                         "protected", "environment_digest", "policy_digest", "champion", "evidence",
                         "now", now, "checks", check);
}

struct failure {
        const char *id, *why;
};

static int record_failure(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct failure *f = userdata;
        _cleanup_(judgement_done) struct judgement j = {0};
        int r = promotion_load(ctx, tx, f->id, true, &j.p);

        if (r < 0 || !mlc_streq(j.p.state, "evaluating"))
                return r;
        j.verdict = error_verdict(&j.p, f->why);
        return record_verdict(ctx, tx, &j);
}

/* The leader's own attempt failed. What only lasts until the database is back is no verdict. */
static void give_up(struct app *app, const char *id, const struct mlc_err *why)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        int r = why->code;

        mlc_ctx_init(&ctx, app, PROMOTION_JUDGE_TASK, PROMOTION_JOB_ARENA, 30000);
        mlc_log_err(MLC_LOG_ERROR, ctx.trace, "promotion.judge_failed", why);
        if (why->code != MLC_E_UNAVAILABLE && why->code != MLC_E_TIMEOUT &&
            why->sqlstate[0] == '\0')
                r = db_tx_retry(&ctx, record_failure, &(struct failure){id, why->msg});
        if (r < 0) {
                mlc_err_clear(&ctx.err);
                r = unclaim(&ctx, id, PROMOTION_RETRY_MS / 1000);
        }
        if (r < 0)
                mlc_log_err(MLC_LOG_ERROR, ctx.trace, "promotion.judge_failed", &ctx.err);
}

/* --- again --- */

int promotion_again(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p, const char *why)
{
        _cleanup_(json_decref_p) json_t *detail = NULL;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = approval_void(ctx, tx, "promotion", p->id, p->model);

        if (r < 0)
                return r;
        if (!mlc_streq(p->state, "held") && !mlc_streq(p->state, "awaiting_approval")) {
                r = db_run(tx, SQL_PROMOTION_OTHER_JUDGED, &rows, DB_TEXT(p->model),
                           DB_TEXT(p->environment), DB_TEXT(p->id));
                if (r < 0)
                        return r;
        }
        if (rows.n > 0) {
                detail = json_pack("{s:s, s:s}", "why", why, "superseded_by", db_text(&rows, 0, 0));
                return promotion_move(ctx, tx, p, "superseded", detail);
        }
        detail = json_pack("{s:s}", "why", why);
        return promotion_move(ctx, tx, p, "evaluating", detail);
}

static int compare(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct promotion_id *which = userdata;
        struct promotion p;
        bool same = false;
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        if (r == 0)
                r = promotion_load(ctx, tx, which->id, false, &p);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(p.model));
        if (r == 0)
                r = promotion_load(ctx, tx, which->id, true, &p);
        if (r < 0 || !p.stale || !promotion_is_open(p.state) || mlc_streq(p.state, "evaluating"))
                return r;
        if (mlc_streq(p.state, "held"))
                return promotion_again(ctx, tx, &p, "something arrived");
        r = promotion_holds(ctx, tx, &p, &same);
        if (r < 0)
                return r;
        if (same)
                return db_run(tx, SQL_PROMOTION_FRESH, NULL, DB_TEXT(p.id));
        return promotion_again(ctx, tx, &p, "what was judged has changed");
}

int promotion_compare(struct mlc_ctx *ctx, const char *id)
{
        return db_tx_retry(ctx, compare, &(struct promotion_id){id});
}

static int claim(struct mlc_ctx *ctx, const char *id, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_CLAIM, &rows, DB_TEXT(id));
        *ret = r == 0 && rows.n > 0;
        return r < 0 ? r : db_tx_commit(&tx);
}

/* In a ctx of its own, so that one bundle's memory is not the next one's. */
static void judge_claimed(struct mlc_ctx *ctx, const char *id)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};
        bool mine = false;
        int r;

        mlc_ctx_init(&one, ctx->app, PROMOTION_JUDGE_TASK, PROMOTION_JOB_ARENA, 300000);
        r = claim(&one, id, &mine);
        if (r == 0 && mine)
                r = judge(&one, id);
        if (r < 0)
                give_up(ctx->app, id, &one.err);
}

int promotion_lead(struct mlc_ctx *ctx)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_PROMOTION_UNCLAIM_ALL, NULL);
        return r < 0 ? r : db_tx_commit(&tx);
}

int promotion_judge_task(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_PROMOTION_UNJUDGED, &rows);
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++)
                judge_claimed(ctx, db_text(&rows, i, 0));
        return r;
}
