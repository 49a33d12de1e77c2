/* SPDX-License-Identifier: Apache-2.0 */
#include "approval/approval_internal.h"
#include "gen/api.h"
#include "gen/approval.sql.h"
#include "http/http.h"

#define LIMIT(q) ((q).has_limit ? (q).limit : APPROVAL_PAGE_DEFAULT)

int api_change_list(struct mlc_ctx *ctx, const struct api_change_list_req *req,
                    struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array();
        _cleanup_(json_decref_p) json_t *keys = NULL;
        int64_t before = INT64_MAX, limit = LIMIT(req->query);
        const char *readable, *next = NULL;
        int r = http_cursor_number(ctx, req->query.cursor, &before);

        if (r == 0)
                r = approval_readable(ctx, &readable);
        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_CHANGE_PAGE, &rows, DB_INT(before), DB_TEXT(req->query.state),
                           DB_TEXT(req->query.environment), DB_INT(limit + 1), DB_TEXT(readable),
                           DB_TEXT(ctx->principal->user));
        for (int i = 0; r == 0 && i < rows.n && i < limit; i++) {
                struct change c;
                json_t *shown;

                r = change_load(ctx, &tx, db_text(&rows, i, 0), false, &c);
                if (r == 0)
                        r = change_show(ctx, &tx, &c, &shown);
                if (r == 0)
                        (void)json_array_append_new(items, shown);
        }
        if (r < 0)
                return r;
        if (rows.n > limit) {
                keys = json_pack("[I]", (json_int_t)db_int(&rows, (int)limit - 1, 1));
                next = http_cursor_make(ctx, keys);
                if (next == NULL)
                        return ctx->err.code;
        }
        http_reply_json(reply, 200, json_pack("{s:O, s:s?}", "items", items, "next", next));
        return 0;
}

/* The change with both documents; what a new one replaces is the newest version while it waits. */
static int whole(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *shown = NULL;
        _cleanup_(json_decref_p) json_t *after = NULL;
        _cleanup_(json_decref_p) json_t *before = NULL;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *before_yaml = NULL;
        int r = change_show(ctx, tx, c, &shown);

        if (r == 0)
                r = approval_parse(ctx, c->normal, &after);
        if (r == 0 && c->before != NULL)
                r = db_run(tx, SQL_CHANGE_BEFORE, &rows, DB_TEXT(c->kind), DB_TEXT(c->name),
                           DB_TEXT(c->before));
        if (r == 0 && rows.n > 0) {
                before_yaml = db_text(&rows, 0, 0);
                r = approval_parse(ctx, db_text(&rows, 0, 1), &before);
        }
        if (r < 0)
                return r;
        *ret = json_pack("{s:O, s:O?, s:O, s:s?, s:s}", "change", shown, "before_document", before,
                         "after_document", after, "before_yaml", before_yaml, "after_yaml",
                         c->yaml);
        return 0;
}

int api_change_get(struct mlc_ctx *ctx, const struct api_change_get_req *req,
                   struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *body = NULL;
        char etag[MLC_DIGEST_STR];
        struct change c;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = change_load(ctx, &tx, req->path.change, false, &c);
        if (r == 0)
                r = whole(ctx, &tx, &c, &body);
        if (r == 0)
                r = gate_json_digest(ctx, body, etag);
        if (r < 0)
                return r;
        http_reply_etag(reply, etag + strlen("sha256:"));
        http_reply_json(reply, 200, TAKE_PTR(body));
        return 0;
}

int api_change_evidence(struct mlc_ctx *ctx, const struct api_change_evidence_req *req,
                        struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *body = NULL;
        json_t *statement, *meanings;
        struct mlc_statement expect;
        const char *document;
        struct change c;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = change_load(ctx, &tx, req->path.change, false, &c);
        if (r < 0)
                return r;
        if (!mlc_streq(c.state, "pending"))
                return ctx_fail(ctx, MLC_E_CONFLICT, "change '%s' is %s, it waits for nobody", c.id,
                                c.state);
        document = ctx_printf(ctx, "%s/%s", c.kind, c.name);
        if (document == NULL)
                return ctx->err.code;
        r = whole(ctx, &tx, &c, &body);
        if (r < 0)
                return r;
        change_statement(ctx, &c, document, &expect);
        r = approval_template(ctx, &tx, &expect, &statement, &meanings);
        if (r < 0)
                return r;
        (void)json_object_set_new(body, "statement", statement);
        (void)json_object_set_new(body, "meanings", meanings);
        http_reply_json(reply, 200, TAKE_PTR(body));
        return 0;
}

int api_change_approval_list(struct mlc_ctx *ctx, const struct api_change_approval_list_req *req,
                             struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct change c;
        json_t *list;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = change_load(ctx, &tx, req->path.change, false, &c);
        if (r == 0)
                r = approval_list(ctx, &tx, "change", c.id, &list);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, json_pack("{s:o}", "items", list));
        return 0;
}

int api_change_approval_create(struct mlc_ctx *ctx,
                               const struct api_change_approval_create_req *req,
                               struct http_reply *reply)
{
        const struct approval_in in = {req->body.statement, req->body.signature, req->body.reason,
                                       req->body.salt};
        json_t *body;
        int r = change_approve(ctx, req->path.change, &in, &body);

        if (r < 0)
                return r;
        http_reply_json(reply, 201, body);
        return 0;
}

int api_change_cancel(struct mlc_ctx *ctx, const struct api_change_cancel_req *req,
                      struct http_reply *reply)
{
        json_t *shown;
        int r = change_cancel(ctx, req->path.change, req->body.reason, &shown);

        if (r < 0)
                return r;
        http_reply_json(reply, 200, shown);
        return 0;
}
