/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/clock.h"
#include "gen/rollout.sql.h"
#include "promotion/promotion.h"
#include "rollout/measure.h"
#include "rollout/observation.h"
#include "rollout/rollout_internal.h"
#include "work/work.h"

void rollout_start(struct app *app)
{
        rollout_jobs_init(app);
        work_on_leader(app, NULL, rollout_lost);
        work_every(app, &(struct work_task){.name = ROLLOUT_TASK,
                                            .interval_ms = ROLLOUT_TASK_MS,
                                            .timeout_ms = 60000,
                                            .leader_only = true,
                                            .run = rollout_tick});
        work_every(app, &(struct work_task){.name = ROLLOUT_GATEWAY_TASK,
                                            .interval_ms = ROLLOUT_GATEWAY_MS,
                                            .timeout_ms = 60000,
                                            .leader_only = true,
                                            .run = rollout_gateways});
        work_every(app, &(struct work_task){.name = ROLLOUT_SERVE_TASK,
                                            .interval_ms = ROLLOUT_SERVE_MS,
                                            .timeout_ms = 600000,
                                            .leader_only = true,
                                            .run = rollout_serve});
        work_every(app, &(struct work_task){.name = ROLLOUT_WATCH_TASK,
                                            .interval_ms = ROLLOUT_WATCH_MS,
                                            .timeout_ms = 60000,
                                            .leader_only = true,
                                            .run = rollout_watch});
        work_every(app, &(struct work_task){.name = ROLLOUT_DRIFT_TASK,
                                            .interval_ms = ROLLOUT_DRIFT_MS,
                                            .timeout_ms = 600000,
                                            .leader_only = true,
                                            .run = rollout_drift});
        work_every(app, &(struct work_task){.name = OBSERVATION_TASK,
                                            .interval_ms = OBSERVATION_TASK_MS,
                                            .timeout_ms = 60000,
                                            .leader_only = true,
                                            .run = observation_forget});
        work_every(app, &(struct work_task){.name = MEASURE_TASK,
                                            .interval_ms = MEASURE_TASK_MS,
                                            .timeout_ms = 300000,
                                            .leader_only = true,
                                            .run = measure_run});
}

void rollout_wake(struct mlc_ctx *ctx)
{
        work_wake(ctx->app, ROLLOUT_SERVE_TASK);
        work_wake(ctx->app, ROLLOUT_TASK);
        work_wake(ctx->app, ROLLOUT_GATEWAY_TASK);
}

int rollout_stopped(struct db_tx *tx, const char *environment, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_LINE_STOPPED, &rows, DB_TEXT(environment));

        if (r < 0)
                return r;
        *ret = rows.n > 0;
        return 0;
}

/* --- beginning --- */

struct beginning {
        const struct rollout_in *in;
        const char *id, *plan, *from_digest;
        int64_t from_version;
        char plan_digest[MLC_DIGEST_STR];
};

static int read_live(struct mlc_ctx *ctx, struct db_tx *tx, struct beginning *b)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_ROLLOUT_LIVE, &rows, DB_TEXT(b->in->environment),
                       DB_TEXT(b->in->model));

        if (r < 0 || rows.n == 0)
                return r;
        b->from_version = db_int(&rows, 0, 0);
        b->from_digest = db_text_dup(ctx, &rows, 0, 1);
        return b->from_digest != NULL ? 0 : ctx->err.code;
}

static int make_plan(struct mlc_ctx *ctx, struct db_tx *tx, struct beginning *b)
{
        _cleanup_(json_decref_p) json_t *plan = NULL;
        int r = rollout_plan(ctx, tx, b->in, b->from_version == 0, &plan);

        if (r == 0)
                r = gate_json_digest(ctx, plan, b->plan_digest);
        if (r < 0)
                return r;
        b->plan = rollout_text(ctx, plan);
        return b->plan != NULL ? 0 : ctx->err.code;
}

static int refuse_second(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout_in *in)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_ROLLOUT_FIND_ACTIVE, &rows, DB_TEXT(in->model),
                       DB_TEXT(in->environment));

        if (r < 0 || rows.n == 0)
                return r;
        return ctx_fail(ctx, MLC_E_CONFLICT, "rollout '%s' of '%s' goes on in '%s'",
                        db_text(&rows, 0, 0), in->model, in->environment);
}

static int insert(struct mlc_ctx *ctx, struct db_tx *tx, struct beginning *b)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const struct rollout_in *in = b->in;
        int r = db_run0(tx, SQL_ROLLOUT_NEXT_ID, &rows);

        if (r < 0)
                return r;
        b->id = db_text_dup(ctx, &rows, 0, 0);
        if (b->id == NULL)
                return ctx->err.code;
        return db_run(tx, SQL_ROLLOUT_INSERT, NULL, DB_TEXT(b->id), DB_TEXT(in->promotion),
                      DB_TEXT(in->model), DB_TEXT(in->environment), DB_INT(in->version),
                      DB_TEXT(in->digest), DB_INT(b->from_version), DB_TEXT(b->from_digest),
                      DB_TEXT(b->plan), DB_TEXT(b->plan_digest), DB_TEXT(in->requested_by));
}

static int record_new(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r)
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        int e = rollout_state(ctx, tx, "rollout", r->id, &after);

        if (e < 0)
                return e;
        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = "rollout.create",
                                                  .kind = "rollout",
                                                  .id = r->id,
                                                  .after = after,
                                                  .model = r->model},
                            NULL);
}

int rollout_begin(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout_in *in)
{
        _cleanup_(rollout_done) struct rollout rollout = {0};
        struct beginning b = {.in = in};
        int r = refuse_second(ctx, tx, in);

        if (r == 0)
                r = read_live(ctx, tx, &b);
        if (r == 0)
                r = make_plan(ctx, tx, &b);
        if (r == 0)
                r = insert(ctx, tx, &b);
        if (r == 0)
                r = rollout_load(ctx, tx, b.id, true, &rollout);
        if (r == 0)
                r = record_new(ctx, tx, &rollout);
        return r < 0 ? r : served_want(ctx, tx, &rollout, in->document);
}

/* --- going on --- */

int rollout_barred(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, const char **ret)
{
        _cleanup_(json_decref_p) json_t *environment = NULL;
        struct gate_document d;
        bool stopped = false, closed = false;
        int e = rollout_stopped(tx, r->environment, &stopped);

        if (e == 0)
                e = gate_document_get(ctx, tx, "Environment", r->environment, &d);
        if (e == 0)
                e = gate_document_json(ctx, &d, &environment);
        if (e == 0)
                e = promotion_window_closed(ctx, tx, environment, &closed);
        *ret = stopped ? "the line is stopped" : closed ? "its windows are closed" : NULL;
        return e;
}

/* --- going back --- */

int rollout_go_back(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const char *why)
{
        return rollout_go_back_for(ctx, tx, r, why, NULL);
}

int rollout_go_back_for(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const char *why,
                        const char *reason)
{
        _cleanup_(json_decref_p) json_t *detail =
                json_pack("{s:{s:i, s:i}, s:s, s:s*}", "weights", "before",
                          rollout_weight(r, r->step), "after", 0, "why", why, "reason", reason);
        struct rollout next = *r;
        int e;

        if (mlc_streq(r->state, "aborting"))
                return 0;
        next.state = "aborting";
        rollout_detail_targets(detail, r, &next);
        if (mlc_streq(r->state, "preparing"))
                (void)json_object_set_new(r->seen, "failed", json_true());
        e = request_end(ctx, tx, r, "void");
        if (e < 0)
                return e;
        e = rollout_set(ctx, tx, r,
                        &(struct rollout_change){.action = "rollout.abort",
                                                 .state = "aborting",
                                                 .step = -1,
                                                 .paused = 0,
                                                 .outcome = why,
                                                 .detail = detail});
        return e < 0 ? e : split_rollout(ctx, tx, r, 0);
}

int rollout_withdrawn(struct db_tx *tx, const struct rollout *r, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_ROLLOUT_WITHDRAWN, &rows, DB_TEXT(r->promotion));

        if (e < 0)
                return e;
        *ret = rows.n > 0 && (!rollout_is_back(r) || mlc_streq(r->state, "preparing"));
        return 0;
}

int rollout_cut(struct mlc_ctx *ctx, struct db_tx *tx, const char *model, const char *environment,
                const char *why, const char **ret_promotion)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(rollout_done) struct rollout r = {0};
        int e = db_run(tx, SQL_ROLLOUT_FIND_ACTIVE, &rows, DB_TEXT(model), DB_TEXT(environment));

        *ret_promotion = NULL;
        if (e < 0 || rows.n == 0)
                return e;
        e = rollout_load(ctx, tx, db_text(&rows, 0, 0), true, &r);
        if (e == 0)
                e = rollout_go_back(ctx, tx, &r, why);
        if (e == 0)
                e = rollout_set(ctx, tx, &r,
                                &(struct rollout_change){.action = "rollout.end",
                                                         .state = "rolled_back",
                                                         .step = -1,
                                                         .paused = 0});
        if (e == 0)
                e = served_release(tx, &r, r.version);
        if (e == 0)
                *ret_promotion = r.promotion;
        return e;
}
