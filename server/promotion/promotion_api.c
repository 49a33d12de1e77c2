/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "codec/json.h"
#include "crypto/hash.h"
#include "gen/api.h"
#include "gen/promotion.sql.h"
#include "http/http.h"
#include "promotion/promotion_internal.h"

#define POLL_MS 150
#define LIMIT(q) ((q).has_limit ? (q).limit : PROMOTION_PAGE_DEFAULT)

static int get_shown(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        return r < 0 ? r : promotion_show(ctx, &tx, id, ret);
}

/* --- pages --- */

/* Steals `items` and `key` (NULL: the last page). */
static int reply_page(struct mlc_ctx *ctx, json_t *items, json_t *key, struct http_reply *reply)
{
        _cleanup_(json_decref_p) json_t *keys = key != NULL ? json_pack("[o]", key) : NULL;
        char *cursor = keys != NULL ? http_cursor_make(ctx, keys) : NULL;

        if (keys != NULL && cursor == NULL) {
                json_decref(items);
                return ctx->err.code;
        }
        http_reply_json(reply, 200, json_pack("{s:o, s:s?}", "items", items, "next", cursor));
        return 0;
}

int api_promotion_list(struct mlc_ctx *ctx, const struct api_promotion_list_req *req,
                       struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array();
        int64_t before = INT64_MAX, limit = LIMIT(req->query);
        const char *readable;
        int r = http_cursor_number(ctx, req->query.cursor, &before);

        if (r == 0)
                r = promotion_readable(ctx, &readable);
        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_PAGE, &rows, DB_INT(before),
                           DB_TEXT(req->query.model), DB_TEXT(req->query.environment),
                           DB_TEXT(req->query.state), DB_TEXT(readable),
                           DB_BOOL(req->query.has_open && req->query.open), DB_INT(limit + 1));
        for (int i = 0; r == 0 && i < rows.n && i < limit; i++) {
                json_t *shown = NULL;

                r = promotion_parse(ctx, db_text(&rows, i, 2), &shown);
                if (r < 0)
                        return r;
                (void)json_array_append_new(items, shown);
                r = promotion_add_waiting(ctx, &tx, shown);
        }
        if (r < 0)
                return r;
        return reply_page(ctx, TAKE_PTR(items),
                          rows.n > limit ? json_integer(db_int(&rows, (int)limit - 1, 0)) : NULL,
                          reply);
}

/* The names of owners, for a list of environments. */
static int owners_of(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *protection = NULL;
        int r = gate_environment_owners(ctx, tx, environment, &protection);

        if (r < 0)
                return r;
        if (!json_is_object(protection)) {
                *ret = json_array();
                return 0;
        }
        return approval_names(ctx, tx, json_object_get(protection, "owners"), ret);
}

int api_environment_list(struct mlc_ctx *ctx, const struct api_environment_list_req *req,
                         struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array();
        const char *after = "", *readable;
        int64_t limit = LIMIT(req->query);
        int r = http_cursor_texts(ctx, req->query.cursor, &after, 1);

        if (r == 0)
                r = promotion_readable(ctx, &readable);
        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_ENVIRONMENTS, &rows, DB_TEXT(after),
                           DB_TEXT(req->query.environment), DB_TEXT(readable),
                           DB_TEXT(req->query.model), DB_INT(limit + 1));
        for (int i = 0; r == 0 && i < rows.n && i < limit; i++) {
                json_t *item = NULL, *owners = NULL;

                r = promotion_parse(ctx, db_text(&rows, i, 0), &item);
                if (r < 0)
                        return r;
                (void)json_array_append_new(items, item);
                r = owners_of(ctx, &tx, db_text(&rows, i, 1), &owners);
                (void)json_object_set_new(item, "owners", owners);
        }
        if (r < 0)
                return r;
        return reply_page(ctx, TAKE_PTR(items),
                          rows.n > limit ? json_string(db_text(&rows, (int)limit - 1, 1)) : NULL,
                          reply);
}

/* --- one --- */

/* The reply of a POST that has just been judged; kept for a retry. */
static int finish(struct mlc_ctx *ctx, const char *id, int status, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = promotion_show(ctx, &tx, id, &shown);
        if (r == 0)
                r = http_idempotent_store(ctx, &tx, status, shown);
        if (r == 0)
                r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(shown);
        return 0;
}

int api_promotion_create(struct mlc_ctx *ctx, const struct api_promotion_create_req *req,
                         struct http_reply *reply)
{
        const struct promotion_in in = {.model = req->body.model,
                                        .version = req->body.version,
                                        .environment = req->body.environment,
                                        .reason = req->body.reason,
                                        .supersede =
                                                req->body.has_supersede && req->body.supersede};
        const char *id;
        bool created;
        json_t *shown;
        int r = promotion_create(ctx, &in, &id, &created);

        if (r == 0 && created)
                r = promotion_judge(ctx, id);
        if (r == 0)
                r = finish(ctx, id, created ? 201 : 200, &shown);
        if (r < 0)
                return r;
        http_reply_json(reply, created ? 201 : 200, shown);
        return 0;
}

int api_promotion_get(struct mlc_ctx *ctx, const struct api_promotion_get_req *req,
                      struct http_reply *reply)
{
        json_t *shown;
        char etag[MLC_DIGEST_STR];
        int r = get_shown(ctx, req->path.promotion, &shown);

        if (r == 0)
                r = gate_json_digest(ctx, shown, etag);
        if (r < 0)
                return r;
        http_reply_etag(reply, etag + strlen("sha256:"));
        http_reply_json(reply, 200, shown);
        return 0;
}

int api_promotion_cancel(struct mlc_ctx *ctx, const struct api_promotion_cancel_req *req,
                         struct http_reply *reply)
{
        json_t *shown;
        int r = promotion_cancel(ctx, req->path.promotion, req->body.reason);

        if (r == 0)
                r = get_shown(ctx, req->path.promotion, &shown);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, shown);
        return 0;
}

int api_promotion_evidence(struct mlc_ctx *ctx, const struct api_promotion_evidence_req *req,
                           struct http_reply *reply)
{
        json_t *evidence;
        int r = promotion_evidence(ctx, req->path.promotion, &evidence);

        if (r < 0)
                return r;
        http_reply_json(reply, 200, evidence);
        return 0;
}

/* --- waiting for a decision --- */

struct standing {
        char state[24], verdict[16], expires[MLC_TIME_MAX]; /* "" for none */
        bool was_live;
};

static int stand(struct mlc_ctx *ctx, const char *id, struct standing *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_PROMOTION_DECISION, &rows, DB_TEXT(id));
        if (r < 0)
                return r;
        if (rows.n == 0 || !auth_may_read(ctx->principal, db_text(&rows, 0, 4)))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no promotion '%s'", id);
        (void)snprintf(ret->state, sizeof(ret->state), "%s", db_text(&rows, 0, 0));
        (void)snprintf(ret->verdict, sizeof(ret->verdict), "%s", db_text(&rows, 0, 1));
        (void)snprintf(ret->expires, sizeof(ret->expires), "%s", db_text(&rows, 0, 2));
        ret->was_live = db_bool(&rows, 0, 3);
        return 0;
}

static bool one_of(const char *state, const char *const *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (mlc_streq(state, list[i]))
                        return true;
        return false;
}

static bool reached(const struct standing *s, const char *until)
{
        static const char *const approved[] = {"approved", "queued", "scheduled", "rolling_out"};

        if (mlc_streq(until, "evaluated"))
                return !mlc_streq(s->state, "evaluating");
        if (s->was_live && !mlc_streq(s->state, "rolled_back"))
                return true;
        return mlc_streq(until, "approved") && one_of(s->state, approved, ARRAY_LEN(approved));
}

/* It ended otherwise, or waits for something that nobody may bring. */
static bool stuck(const struct standing *s)
{
        static const char *const ends[] = {"held",     "rejected",  "rolled_back", "failed",
                                           "replaced", "cancelled", "expired",     "superseded"};

        return one_of(s->state, ends, ARRAY_LEN(ends));
}

int api_promotion_decision(struct mlc_ctx *ctx, const struct api_promotion_decision_req *req,
                           struct http_reply *reply)
{
        int64_t end = mlc_monotonic_ms() + http_wait_ms(ctx);
        const char *until = req->query.until != NULL ? req->query.until : "live";
        struct standing s;

        for (;;) {
                int r = stand(ctx, req->path.promotion, &s);

                if (r < 0)
                        return r;
                if (reached(&s, until) || stuck(&s) || mlc_monotonic_ms() >= end ||
                    http_draining(ctx))
                        break;
                mlc_sleep_ms(POLL_MS);
        }
        http_reply_json(reply, 200,
                        json_pack("{s:b, s:s, s:s?, s:s?}", "ok", reached(&s, until), "state",
                                  s.state, "verdict", s.verdict[0] != '\0' ? s.verdict : NULL,
                                  "expires", s.expires[0] != '\0' ? s.expires : NULL));
        return 0;
}

/* --- approvals --- */

int api_promotion_approval_list(struct mlc_ctx *ctx,
                                const struct api_promotion_approval_list_req *req,
                                struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct promotion p;
        json_t *list;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = promotion_load(ctx, &tx, req->path.promotion, false, &p);
        if (r == 0)
                r = approval_list(ctx, &tx, "promotion", p.id, &list);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, json_pack("{s:o}", "items", list));
        return 0;
}

int api_promotion_approval_create(struct mlc_ctx *ctx,
                                  const struct api_promotion_approval_create_req *req,
                                  struct http_reply *reply)
{
        const struct approval_in in = {req->body.statement, req->body.signature, req->body.reason,
                                       req->body.salt};
        json_t *body;
        int r = promotion_approve(ctx, req->path.promotion, &in, &body);

        if (r < 0)
                return r;
        http_reply_json(reply, 201, body);
        return 0;
}

/* --- rollbacks, inbox --- */

int api_rollback_create(struct mlc_ctx *ctx, const struct api_rollback_create_req *req,
                        struct http_reply *reply)
{
        const struct rollback_in in = {.environment = req->body.environment,
                                       .model = req->body.model,
                                       .to = req->body.to,
                                       .reason = req->body.reason,
                                       .salt = req->body.salt,
                                       .statement = req->body.statement,
                                       .signature = req->body.signature};
        json_t *shown;
        int r = promotion_rollback(ctx, &in, &shown);

        if (r < 0)
                return r;
        http_reply_json(reply, 201, shown);
        return 0;
}

int api_rollback_statement(struct mlc_ctx *ctx, const struct api_rollback_statement_req *req,
                           struct http_reply *reply)
{
        const struct rollback_in in = {.environment = req->query.environment,
                                       .model = req->query.model,
                                       .to = req->query.to};
        json_t *body;
        int r = promotion_rollback_statement(ctx, &in, &body);

        if (r < 0)
                return r;
        http_reply_json(reply, 200, body);
        return 0;
}

int api_inbox_list(struct mlc_ctx *ctx, const struct api_inbox_list_req *req,
                   struct http_reply *reply)
{
        json_t *body;
        int r = promotion_inbox(ctx, &body);

        (void)req;
        if (r < 0)
                return r;
        http_reply_json(reply, 200, body);
        return 0;
}
