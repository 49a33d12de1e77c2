/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "db/db.h"
#include "gen/http.sql.h"
#include "http/request.h"

#define KEY_HEADER "Idempotency-Key"

/* The key as sent: 1 to 128 printable ASCII characters. */
static int check_key(struct http_request *r, const char *key)
{
        size_t len = strlen(key);

        if (conn_header_count(r, KEY_HEADER) > 1)
                return ctx_fail_field(&r->ctx, MLC_E_INVALID, "header:" KEY_HEADER,
                                      "is given more than once");
        for (size_t i = 0; i < len; i++)
                if (key[i] <= 0x20 || key[i] >= 0x7f)
                        len = 0;
        if (len == 0 || len > HTTP_IDEMPOTENCY_KEY_MAX)
                return ctx_fail_field(&r->ctx, MLC_E_INVALID, "header:" KEY_HEADER,
                                      "must be 1 to %d printable characters without blanks",
                                      HTTP_IDEMPOTENCY_KEY_MAX);
        return 0;
}

/* The same key must come with the same request: what it asks for, not how it was sent. */
int idempotency_begin(struct http_request *r)
{
        const char *key = http_header(&r->ctx, KEY_HEADER);
        struct mlc_sha256 h;
        struct mlc_digest d;
        int n;

        if (key == NULL || !r->op->idempotent)
                return 0;
        n = check_key(r, key);
        if (n < 0)
                return n;
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, r->uri, strlen(r->uri) + 1);
        mlc_sha256_update(&h, mlc_str_cstr(&r->body), r->body.len);
        mlc_sha256_final(&h, &d);
        mlc_digest_format(&d, r->request_digest);
        r->ctx.idempotency_key = key;
        return 0;
}

int idempotency_replay(struct http_request *r, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *body;
        json_t *j = NULL;
        int n;

        assert(r->ctx.idempotency_key != NULL && r->ctx.principal != NULL);
        n = db_tx_begin_read(&r->ctx, &tx);
        if (n < 0)
                return n;
        n = db_run(&tx, SQL_HTTP_IDEMPOTENCY_FIND, &rows, DB_TEXT(r->ctx.principal->user),
                   DB_TEXT(r->op->id), DB_TEXT(r->ctx.idempotency_key));
        if (n < 0)
                return n;
        if (rows.n == 0) {
                *ret = false;
                return 0;
        }
        if (strcmp(db_text(&rows, 0, 0), r->request_digest) != 0)
                return ctx_fail_field(&r->ctx, MLC_E_CONFLICT, "header:" KEY_HEADER,
                                      "was used for another request; use a new one");
        body = db_text(&rows, 0, 2);
        n = mlc_json_parse(body, strlen(body), &j, &r->ctx.err);
        if (n < 0)
                return n;
        http_reply_json(&r->reply, (int)db_int(&rows, 0, 1), j);
        http_reply_header(&r->reply, "Idempotency-Replayed", "true");
        *ret = true;
        return 0;
}

int http_idempotent_store(struct mlc_ctx *ctx, struct db_tx *tx, int status, const json_t *body)
{
        struct http_request *r = http_request_of(ctx);
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(free_p) char *text = NULL;
        int n;

        if (ctx->idempotency_key == NULL)
                return 0;
        assert(r->op != NULL && r->op->idempotent);
        text = json_dumps(body, JSON_COMPACT);
        assert(text != NULL);
        n = db_run0(tx, SQL_HTTP_IDEMPOTENCY_EXPIRE, NULL);
        if (n < 0)
                return n;
        n = db_run(tx, SQL_HTTP_IDEMPOTENCY_STORE, &rows, DB_TEXT(ctx->principal->user),
                   DB_TEXT(r->op->id), DB_TEXT(ctx->idempotency_key), DB_TEXT(r->request_digest),
                   DB_INT(status), DB_TEXT(text));
        if (n < 0)
                return n;
        if (rows.n == 1)
                return 0;
        /* The same request is being served twice and the other one has committed; the pipeline
         * answers with its reply once this transaction is rolled back. */
        r->idempotency_raced = true;
        return ctx_fail_field(ctx, MLC_E_CONFLICT, "header:" KEY_HEADER,
                              "another request with this key was faster");
}

int http_idempotent_forget(struct db_tx *tx, const char *user, const char *name)
{
        return db_run(tx, SQL_HTTP_IDEMPOTENCY_FORGET, NULL, DB_TEXT(user), DB_TEXT(name));
}
