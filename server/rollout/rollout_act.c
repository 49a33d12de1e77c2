/* SPDX-License-Identifier: Apache-2.0 */
/* What people do to rollouts. */
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

#define ABORTED "an operator took it back"

struct acting {
        const char *id;
        const struct rollout_do *what;
};

static int allowed(struct mlc_ctx *ctx, const struct rollout *r)
{
        if ((auth_roles(ctx->principal, r->ns) & AUTH_OPERATOR) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "this needs the role operator in namespace '%s'", r->ns);
        return 0;
}

static bool ends(const struct rollout *r)
{
        return !mlc_streq(r->state, "preparing") && !mlc_streq(r->state, "running");
}

static int refuse(struct mlc_ctx *ctx, const struct rollout *r, const char *what)
{
        return ctx_fail(ctx, MLC_E_CONFLICT, "rollout '%s' is %s: %s", r->id, r->state, what);
}

static int pause_it(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, bool pause,
                    const json_t *detail)
{
        if (ends(r))
                return refuse(ctx, r, "it cannot be paused any more");
        if (ramp_going(r))
                return refuse(ctx, r, "it is being taken back");
        return rollout_set(
                ctx, tx, r,
                &(struct rollout_change){.action = pause ? "rollout.pause" : "rollout.resume",
                                         .step = -1,
                                         .paused = pause,
                                         .hold = pause ? "an operator paused it" : NULL,
                                         .detail = detail});
}

static int abort_it(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int64_t over_ms,
                    const json_t *detail)
{
        if (mlc_streq(r->state, "completed"))
                return refuse(ctx, r, "roll back instead");
        if (mlc_streq(r->state, "aborting") || mlc_streq(r->state, "rolled_back") ||
            mlc_streq(r->state, "failed"))
                return 0;
        if (over_ms > 0 && ramp_over(r, over_ms))
                return 0;
        if (over_ms > 0 && ramp_going(r))
                return refuse(ctx, r, "it is being taken back; abort it without a time to hurry");
        if (over_ms > 0 && ramp_can(r))
                return ramp_begin(ctx, tx, r, over_ms, detail);
        return rollout_go_back_for(ctx, tx, r, ABORTED,
                                   json_string_value(json_object_get(detail, "reason")));
}

static int retry(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r)
{
        if (!mlc_streq(r->state, "preparing"))
                return refuse(ctx, r, "nothing is being loaded");
        return db_run(tx, SQL_SERVED_RETRY, NULL, DB_TEXT(r->environment), DB_TEXT(r->model),
                      DB_INT(r->version));
}

static int advance(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const json_t *detail)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *seen;

        if (db_run(tx, SQL_ROLLOUT_WAITS_FOR_PERSON, &rows, DB_TEXT(r->id)) < 0)
                return ctx->err.code;
        if (ramp_going(r))
                return refuse(ctx, r, "it is being taken back");
        if (!mlc_streq(r->state, "running") ||
            (rows.n == 0 && !json_is_true(json_object_get(rollout_step(r, r->step), "wait"))))
                return refuse(ctx, r,
                              request_asked(r)
                                      ? "its step waits for signed approvals (mlctl approve), not "
                                        "for an operator"
                                      : "its step waits for no person");
        (void)json_object_set_new(r->seen, "approved", json_true());
        seen = rollout_text(ctx, r->seen);
        if (seen == NULL)
                return ctx->err.code;
        if (db_run(tx, SQL_ROLLOUT_SEEN, NULL, DB_TEXT(r->id), DB_TEXT(seen)) < 0)
                return ctx->err.code;
        return rollout_set(ctx, tx, r,
                           &(struct rollout_change){.action = "rollout.advance",
                                                    .step = -1,
                                                    .paused = -1,
                                                    .hold = "an operator lets it go on",
                                                    .detail = detail});
}

static int act(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct acting *a = userdata;
        _cleanup_(rollout_done) struct rollout r = {0};
        _cleanup_(json_decref_p) json_t *detail = NULL;
        char reason[72];
        int e = rollout_load(ctx, tx, a->id, true, &r);

        if (e == 0)
                e = allowed(ctx, &r);
        if (e == 0)
                e = audit_commit_pii(ctx, tx, ctx->principal->user, a->what->reason, reason);
        if (e < 0)
                return e;
        detail = json_pack("{s:s}", "reason", reason);
        switch (a->what->act) {
        case ROLLOUT_PAUSE:
        case ROLLOUT_RESUME:
                return pause_it(ctx, tx, &r, a->what->act == ROLLOUT_PAUSE, detail);
        case ROLLOUT_ABORT:
                return abort_it(ctx, tx, &r, a->what->over_ms, detail);
        case ROLLOUT_RETRY:
                return retry(ctx, tx, &r);
        case ROLLOUT_ADVANCE:
                return advance(ctx, tx, &r, detail);
        }
        return 0;
}

int rollout_do(struct mlc_ctx *ctx, const char *id, const struct rollout_do *what)
{
        int e = db_tx_retry(ctx, act, &(struct acting){id, what});

        if (e == 0)
                rollout_wake(ctx);
        return e;
}

/* --- the line --- */

struct line {
        const char *environment, *reason;
        bool stopped;
};

static int set_line(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct line *l = userdata;
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL;
        char reason[72];
        int e = rollout_state(ctx, tx, "line", l->environment, &before);

        if (e == 0 && l->stopped == json_is_true(json_object_get(before, "stopped")))
                return 0;
        if (e == 0)
                e = audit_commit_pii(ctx, tx, ctx->principal->user, l->reason, reason);
        if (e == 0)
                e = db_run(tx, SQL_LINE_SET, NULL, DB_TEXT(l->environment), DB_BOOL(l->stopped),
                           DB_TEXT(ctx->principal->user), DB_TEXT(reason));
        if (e == 0)
                e = rollout_state(ctx, tx, "line", l->environment, &after);
        if (e < 0)
                return e;
        return audit_append(
                ctx, tx,
                &(struct audit_entry){.action = l->stopped ? "line.stop" : "line.release",
                                      .kind = "line",
                                      .id = l->environment,
                                      .before = before,
                                      .after = after},
                NULL);
}

int rollout_line_set(struct mlc_ctx *ctx, const char *environment, bool stopped, const char *reason)
{
        return db_tx_retry(ctx, set_line, &(struct line){environment, reason, stopped});
}
