/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"
#include "registry/registry.h"
#include "rollout/rollout.h"

int promotion_switch(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion_switch *s)
{
        const char *alias = json_string_value(json_object_get(s->environment, "alias"));
        const char *id = ctx_printf(ctx, "%s/%s", s->environment_name, s->model);
        _cleanup_(json_decref_p) json_t *before = NULL;
        char at[MLC_TIME_MAX];
        int r;

        if (id == NULL)
                return ctx->err.code;
        mlc_time_format(s->at_ms, at);
        r = promotion_state(ctx, tx, "live", id, &before);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_LIVE_SET, NULL, DB_TEXT(s->environment_name),
                           DB_TEXT(s->model), DB_INT(s->version), DB_TEXT(s->digest),
                           DB_TEXT(s->promotion), DB_TEXT(at));
        if (r == 0)
                r = promotion_record(ctx, tx,
                                     &(struct promotion_event){.action = "live.set",
                                                               .kind = "live",
                                                               .id = id,
                                                               .model = s->model,
                                                               .before = before},
                                     NULL);
        if (r == 0 && alias != NULL)
                r = registry_alias_follow(ctx, tx, s->ns, s->name, alias, s->version);
        if (r < 0)
                return r;
        return db_run(tx, SQL_PROMOTION_STALE_MODEL, NULL, DB_TEXT(s->model),
                      DB_TEXT(s->promotion));
}

/* What is live until now becomes `replaced`, or `rolled_back` by a rollback. */
static int replace(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p)
{
        _cleanup_(db_rows_done) struct db_rows back = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct promotion old;
        int r = db_run(tx, SQL_PROMOTION_LIVE_GET, &rows, DB_TEXT(p->environment),
                       DB_TEXT(p->model));

        if (r < 0 || rows.n == 0)
                return r;
        r = promotion_load(ctx, tx, db_text(&rows, 0, 2), true, &old);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_IS_ROLLBACK, &back, DB_TEXT(p->id));
        if (r < 0)
                return r;
        return promotion_move(ctx, tx, &old, db_bool(&back, 0, 0) ? "rolled_back" : "replaced",
                              NULL);
}

static int go_live(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p)
{
        _cleanup_(json_decref_p) json_t *environment = NULL;
        _cleanup_(json_decref_p) json_t *detail = NULL;
        int64_t now = mlc_now_ms();
        char at[MLC_TIME_MAX];
        int r = promotion_environment(ctx, tx, p->environment, &environment);

        if (r == 0)
                r = replace(ctx, tx, p);
        if (r < 0)
                return r;
        mlc_time_format(now, at);
        detail = json_pack("{s:s}", "at", at);
        r = promotion_move(ctx, tx, p, "live", detail);
        if (r < 0)
                return r;
        return promotion_switch(ctx, tx,
                                &(struct promotion_switch){.environment = environment,
                                                           .environment_name = p->environment,
                                                           .model = p->model,
                                                           .ns = p->ns,
                                                           .name = p->name,
                                                           .version = p->version,
                                                           .digest = p->digest,
                                                           .promotion = p->id,
                                                           .at_ms = now});
}

/* Locks in the order that everybody takes them: documents, version, model, promotion. */
static int hold(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, struct promotion *ret)
{
        struct promotion_version v;
        struct mlc_ref model = {0};
        struct promotion p;
        char number[24];
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        if (r == 0)
                r = promotion_load(ctx, tx, id, false, &p);
        if (r == 0)
                r = promotion_model(ctx, "/model", p.model, &model);
        if (r < 0)
                return r;
        (void)snprintf(number, sizeof(number), "%" PRId64, p.version);
        r = promotion_version_find(ctx, tx, &model, number, &v);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(p.model));
        return r < 0 ? r : promotion_load(ctx, tx, id, true, ret);
}

int promotion_still(struct mlc_ctx *ctx, struct db_tx *tx, const char *model)
{
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        (void)ctx;
        return r < 0 ? r : db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(model));
}

/* To a state in which it waits, unless it is in it. */
static int wait_as(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p, const char *state)
{
        return mlc_streq(p->state, state) ? 0 : promotion_move(ctx, tx, p, state, NULL);
}

/* It waits: the windows are closed, the line is stopped, another one rolls out, or one that was
 * asked for earlier goes first. */
static int must_wait(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p,
                     const json_t *environment, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0}, rolling = {0};
        bool closed = false, stopped = false;
        int r = promotion_window_closed(ctx, tx, environment, &closed);

        if (r == 0)
                r = rollout_stopped(tx, p->environment, &stopped);
        if (r == 0 && (closed || stopped))
                r = wait_as(ctx, tx, p, "scheduled");
        if (r == 0 && !closed && !stopped)
                r = db_run(tx, SQL_PROMOTION_EARLIER, &rows, DB_TEXT(p->model),
                           DB_TEXT(p->environment), DB_TEXT(p->id));
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_ROLLING, &rolling, DB_TEXT(p->model),
                           DB_TEXT(p->environment));
        if (r == 0 && !closed && !stopped && rolling.n > 0)
                r = wait_as(ctx, tx, p, "queued");
        if (r < 0)
                return r;
        *ret = closed || stopped || rows.n > 0 || rolling.n > 0;
        return *ret ? db_run(tx, SQL_PROMOTION_LATER, NULL, DB_TEXT(p->id),
                             DB_INT(PROMOTION_WAIT_S))
                    : 0;
}

bool promotion_has_targets(const json_t *environment)
{
        return json_array_size(json_object_get(environment, "targets")) > 0;
}

static int begin(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p,
                 const json_t *environment)
{
        int r = promotion_move(ctx, tx, p, "rolling_out", NULL);

        if (r < 0)
                return r;
        return rollout_begin(ctx, tx,
                             &(struct rollout_in){.promotion = p->id,
                                                  .model = p->model,
                                                  .environment = p->environment,
                                                  .digest = p->digest,
                                                  .version = p->version,
                                                  .document = environment,
                                                  .requested_by = p->requested_by});
}

/* At once, or by a rollout, or later. */
static int take_effect(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p)
{
        _cleanup_(json_decref_p) json_t *environment = NULL;
        bool wait = false;
        int r = promotion_environment(ctx, tx, p->environment, &environment);

        if (r == 0)
                r = must_wait(ctx, tx, p, environment, &wait);
        if (r < 0 || wait)
                return r;
        return promotion_has_targets(environment) ? begin(ctx, tx, p, environment)
                                                  : go_live(ctx, tx, p);
}

static bool is_approved(const struct promotion *p)
{
        return mlc_streq(p->state, "approved") || mlc_streq(p->state, "queued") ||
               mlc_streq(p->state, "scheduled");
}

/* Digests, champion and signatures bind until this moment: all is asked once more. */
static int effect(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct promotion_id *which = userdata;
        _cleanup_(json_decref_p) json_t *rules_json = NULL;
        struct approval_rules rules = {0};
        struct mlc_approval_count count = {0};
        struct promotion p;
        bool same = false;
        int r = hold(ctx, tx, which->id, &p);

        if (r < 0 || !is_approved(&p) || p.expired || mlc_streq(p.version_status, "withdrawn"))
                return r;
        r = promotion_holds(ctx, tx, &p, &same);
        if (r < 0)
                return r;
        if (!same)
                return promotion_again(ctx, tx, &p, "what was judged has changed");
        r = promotion_rules(ctx, tx, &p, &rules_json, &rules);
        rules.hold = true;
        if (r == 0)
                r = approval_count(ctx, tx, &rules, &count);
        if (r < 0)
                return r;
        if (!count.satisfied)
                return promotion_again(ctx, tx, &p, "an approval holds no longer");
        return take_effect(ctx, tx, &p);
}

int promotion_effect(struct mlc_ctx *ctx, const char *id)
{
        return db_tx_retry(ctx, effect, &(struct promotion_id){id});
}

/* --- the ends of a rollout --- */

int promotion_rolled_out(struct mlc_ctx *ctx, struct db_tx *tx, const char *id)
{
        _cleanup_(db_rows_done) struct db_rows back = {0};
        struct promotion p;
        int r = hold(ctx, tx, id, &p);

        if (r == 0 && !mlc_streq(p.state, "rolling_out"))
                r = ctx_fail(ctx, MLC_E_CONFLICT, "promotion '%s' is %s", id, p.state);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_IS_ROLLBACK, &back, DB_TEXT(id));
        if (r == 0 && mlc_streq(p.version_status, "withdrawn") && !db_bool(&back, 0, 0))
                r = ctx_fail(ctx, MLC_E_CONFLICT, "the version of promotion '%s' is withdrawn", id);
        return r < 0 ? r : go_live(ctx, tx, &p);
}

int promotion_rollout_ended(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                            const char *state, const char *why)
{
        _cleanup_(json_decref_p) json_t *detail = json_pack("{s:s?}", "why", why);
        struct promotion p;
        int r = hold(ctx, tx, id, &p);

        if (r == 0 && !mlc_streq(p.state, "rolling_out"))
                r = ctx_fail(ctx, MLC_E_CONFLICT, "promotion '%s' is %s", id, p.state);
        return r < 0 ? r : promotion_move(ctx, tx, &p, state, detail);
}

/* --- the leader's task --- */

static int held_again(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct promotion_id *which = userdata;
        struct promotion p;
        int r = promotion_load(ctx, tx, which->id, true, &p);

        if (r < 0 || !mlc_streq(p.state, "held") || (!p.stale && !p.due))
                return r; /* another leader was faster */
        return promotion_again(ctx, tx, &p, p.stale ? "something arrived" : "its moment came");
}

static int expire(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct promotion_id *which = userdata;
        struct promotion p;
        int r = promotion_load(ctx, tx, which->id, true, &p);

        if (r < 0 || !promotion_is_open(p.state) || !p.expired)
                return r;
        return promotion_move(ctx, tx, &p, "expired", NULL);
}

static int withdraw(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct promotion_id *which = userdata;
        _cleanup_(json_decref_p) json_t *detail =
                json_pack("{s:s}", "why", "the version was withdrawn");
        struct promotion p;
        int r = promotion_load(ctx, tx, which->id, true, &p);

        if (r < 0 || !promotion_is_open(p.state) || !mlc_streq(p.version_status, "withdrawn"))
                return r;
        return promotion_move(ctx, tx, &p, "cancelled", detail);
}

static int step_one(struct mlc_ctx *ctx, const char *id, const char *what)
{
        if (mlc_streq(what, "withdraw"))
                return db_tx_retry(ctx, withdraw, &(struct promotion_id){id});
        if (mlc_streq(what, "expire"))
                return db_tx_retry(ctx, expire, &(struct promotion_id){id});
        if (mlc_streq(what, "evaluate"))
                return db_tx_retry(ctx, held_again, &(struct promotion_id){id});
        if (mlc_streq(what, "compare"))
                return promotion_compare(ctx, id);
        return promotion_effect(ctx, id);
}

/* What failed is not tried again at once. */
static void step_later(struct app *app, const char *id)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        mlc_ctx_init(&ctx, app, PROMOTION_TASK, PROMOTION_JOB_ARENA, 5000);
        r = db_tx_begin(&ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_LATER, NULL, DB_TEXT(id),
                           DB_INT(PROMOTION_RETRY_MS / 1000));
        if (r == 0)
                r = db_tx_commit(&tx);
        if (r < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "promotion.step_later", &ctx.err);
}

int promotion_step(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_DUE, &rows, DB_INT(audit_published_size(ctx->app)));
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++) {
                _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};

                mlc_ctx_init(&one, ctx->app, PROMOTION_TASK, PROMOTION_JOB_ARENA, 30000);
                if (step_one(&one, db_text(&rows, i, 0), db_text(&rows, i, 1)) < 0) {
                        mlc_log_err(MLC_LOG_ERROR, one.trace, "promotion.step_failed", &one.err);
                        step_later(ctx->app, db_text(&rows, i, 0));
                }
        }
        return r;
}
