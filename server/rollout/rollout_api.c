/* SPDX-License-Identifier: Apache-2.0 */
#include "approval/approval.h"
#include "base/clock.h"
#include "codec/ref.h"
#include "gen/api.h"
#include "gen/rollout.sql.h"
#include "http/http.h"
#include "promotion/promotion.h"
#include "rollout/drift.h"
#include "rollout/rollout_internal.h"

#define PAGE_DEFAULT 100
#define POLL_MS 200

/* --- pages --- */

int api_rollout_list(struct mlc_ctx *ctx, const struct api_rollout_list_req *req,
                     struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array(), *keys = NULL;
        int64_t before = INT64_MAX, limit = req->query.has_limit ? req->query.limit : PAGE_DEFAULT;
        const char *readable = NULL, *cursor = NULL;
        int r = http_cursor_number(ctx, req->query.cursor, &before);

        if (r == 0)
                r = promotion_readable(ctx, &readable);
        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_ROLLOUT_PAGE, &rows, DB_INT(before), DB_TEXT(req->query.model),
                           DB_TEXT(req->query.environment), DB_TEXT(readable),
                           DB_BOOL(req->query.has_active && req->query.active), DB_INT(limit + 1));
        for (int i = 0; r == 0 && i < rows.n && i < limit; i++) {
                json_t *shown = NULL;

                r = rollout_show(ctx, &tx, db_text(&rows, i, 0), &shown);
                if (r == 0)
                        (void)json_array_append_new(items, shown);
        }
        if (r < 0)
                return r;
        if (rows.n > limit) {
                keys = json_pack("[I]", (json_int_t)db_int(&rows, (int)limit - 1, 1));
                cursor = http_cursor_make(ctx, keys);
                if (cursor == NULL)
                        return ctx->err.code;
        }
        http_reply_json(reply, 200,
                        json_pack("{s:o, s:s?}", "items", TAKE_PTR(items), "next", cursor));
        return 0;
}

/* --- one --- */

static int show(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        return r < 0 ? r : rollout_show(ctx, &tx, id, ret);
}

int api_rollout_get(struct mlc_ctx *ctx, const struct api_rollout_get_req *req,
                    struct http_reply *reply)
{
        int64_t until = mlc_monotonic_ms() + http_wait_ms(ctx);
        char etag[MLC_DIGEST_STR];
        json_t *shown = NULL;

        for (;;) {
                int r = show(ctx, req->path.rollout, &shown);

                if (r == 0)
                        r = gate_json_digest(ctx, shown, etag);
                if (r < 0) {
                        json_decref(shown);
                        return r;
                }
                if (!http_not_modified(ctx, etag) || mlc_monotonic_ms() >= until ||
                    http_draining(ctx))
                        break;
                json_decref(shown);
                shown = NULL;
                mlc_sleep_ms(POLL_MS);
        }
        http_reply_etag(reply, etag);
        http_reply_json(reply, 200, shown);
        return 0;
}

int api_rollout_explain(struct mlc_ctx *ctx, const struct api_rollout_explain_req *req,
                        struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        json_t *explained;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = rollout_explained(ctx, &tx, req->path.rollout, &explained);
        if (r == 0)
                http_reply_json(reply, 200, explained);
        return r;
}

static int act(struct mlc_ctx *ctx, const char *id, enum rollout_act what, const char *reason,
               struct http_reply *reply)
{
        json_t *shown;
        int r = rollout_do(ctx, id, &(struct rollout_do){what, reason, 0});

        if (r == 0)
                r = show(ctx, id, &shown);
        if (r == 0)
                http_reply_json(reply, 200, shown);
        return r;
}

int api_rollout_pause(struct mlc_ctx *ctx, const struct api_rollout_pause_req *req,
                      struct http_reply *reply)
{
        return act(ctx, req->path.rollout, ROLLOUT_PAUSE, req->body.reason, reply);
}

int api_rollout_resume(struct mlc_ctx *ctx, const struct api_rollout_resume_req *req,
                       struct http_reply *reply)
{
        return act(ctx, req->path.rollout, ROLLOUT_RESUME, req->body.reason, reply);
}

int api_rollout_abort(struct mlc_ctx *ctx, const struct api_rollout_abort_req *req,
                      struct http_reply *reply)
{
        json_t *shown;
        int r = rollout_do(ctx, req->path.rollout,
                           &(struct rollout_do){ROLLOUT_ABORT, req->body.reason,
                                                req->body.has_over_ms ? req->body.over_ms : 0});

        if (r == 0)
                r = show(ctx, req->path.rollout, &shown);
        if (r == 0)
                http_reply_json(reply, 200, shown);
        return r;
}

int api_rollout_retry(struct mlc_ctx *ctx, const struct api_rollout_retry_req *req,
                      struct http_reply *reply)
{
        return act(ctx, req->path.rollout, ROLLOUT_RETRY, req->body.reason, reply);
}

int api_rollout_advance(struct mlc_ctx *ctx, const struct api_rollout_advance_req *req,
                        struct http_reply *reply)
{
        return act(ctx, req->path.rollout, ROLLOUT_ADVANCE, req->body.reason, reply);
}

/* --- signed approvals of a step --- */

int api_rollout_evidence(struct mlc_ctx *ctx, const struct api_rollout_evidence_req *req,
                         struct http_reply *reply)
{
        json_t *evidence;
        int r = request_evidence(ctx, req->path.rollout, &evidence);

        if (r == 0)
                http_reply_json(reply, 200, evidence);
        return r;
}

int api_rollout_approval_list(struct mlc_ctx *ctx, const struct api_rollout_approval_list_req *req,
                              struct http_reply *reply)
{
        json_t *list;
        int r = request_decisions(ctx, req->path.rollout,
                                  req->query.has_step ? req->query.step : -1, &list);

        if (r == 0)
                http_reply_json(reply, 200, json_pack("{s:o}", "items", list));
        return r;
}

int api_rollout_approval_create(struct mlc_ctx *ctx,
                                const struct api_rollout_approval_create_req *req,
                                struct http_reply *reply)
{
        const struct approval_in in = {req->body.statement, req->body.signature, req->body.reason,
                                       req->body.salt};
        json_t *body;
        int r = request_decide(ctx, req->path.rollout, &in, &body);

        if (r == 0)
                http_reply_json(reply, 201, body);
        return r;
}

/* --- what would be, and what is --- */

int api_rollout_plan_preview(struct mlc_ctx *ctx, const struct api_rollout_plan_preview_req *req,
                             struct http_reply *reply)
{
        const struct preview_in in = {.model = req->body.model,
                                      .version = req->body.version,
                                      .environment = req->body.environment};
        json_t *preview = NULL;
        int r = rollout_preview(ctx, &in, &preview);

        if (r == 0)
                http_reply_json(reply, 200, preview);
        return r;
}

/* Findings about models that the caller may not read are left out. */
static json_t *readable(const struct mlc_ctx *ctx, const json_t *report)
{
        json_t *list = json_array();
        size_t i;
        json_t *finding;

        json_array_foreach (report, i, finding) {
                const char *model = json_string_value(json_object_get(finding, "model"));
                const char *ns = model != NULL ? model : "";
                char name[MLC_NAME_MAX + 1];

                (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(ns, "/"), ns);
                if (model == NULL || auth_may_read(ctx->principal, name))
                        (void)json_array_append(list, finding);
        }
        return list;
}

int api_environment_drift(struct mlc_ctx *ctx, const struct api_environment_drift_req *req,
                          struct http_reply *reply)
{
        _cleanup_(json_decref_p) json_t *report = NULL;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct gate_document d;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = gate_document_get(ctx, &tx, "Environment", req->path.environment, &d);
        db_tx_done(&tx);
        if (r == 0)
                r = drift_environment(ctx, req->path.environment, &report);
        if (r < 0)
                return r;
        http_reply_json(reply, 200,
                        json_pack("{s:s, s:b, s:o}", "environment", req->path.environment, "ok",
                                  drift_clean(report), "instances", readable(ctx, report)));
        return 0;
}

/* --- the line --- */

static int reply_lines(struct mlc_ctx *ctx, struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *items = NULL;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_LINE_SHOWN, &rows);
        if (r == 0)
                r = rollout_parse(ctx, db_text(&rows, 0, 0), &items);
        if (r == 0)
                http_reply_json(reply, 200, json_pack("{s:o}", "items", items));
        return r;
}

int api_line_list(struct mlc_ctx *ctx, const struct api_line_list_req *req,
                  struct http_reply *reply)
{
        (void)req;
        return reply_lines(ctx, reply);
}

int api_line_set(struct mlc_ctx *ctx, const struct api_line_set_req *req, struct http_reply *reply)
{
        const char *environment = req->body.environment != NULL ? req->body.environment : "*";
        int r = rollout_line_set(ctx, environment, req->body.stopped, req->body.reason);

        return r < 0 ? r : reply_lines(ctx, reply);
}
