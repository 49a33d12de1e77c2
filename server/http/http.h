/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/json.h"
#include "ctx.h"

/*
 * What a handler fills. Nothing is sent before the handler returns; on a negative return the
 * pipeline turns ctx->err into a problem document (or, for /v2/, an OCI errors document) and
 * ignores the reply's body, but keeps headers that were added.
 */
struct http_reply;

void http_reply_json(struct http_reply *r, int status, json_t *steal_body);
/* The bytes are copied into the request's arena. */
void http_reply_bytes(struct http_reply *r, int status, const char *content_type, const void *data,
                      size_t len);
/* The bytes are borrowed until the reply is sent: of the arena, or static. */
void http_reply_borrowed(struct http_reply *r, int status, const char *content_type,
                         const void *data, size_t len);

struct http_file {
        int fd; /* taken */
        uint64_t off, len;
};

/* Sends part of a file (sendfile). */
void http_reply_file(struct http_reply *r, int status, const char *content_type,
                     const struct http_file *file);
void http_reply_empty(struct http_reply *r, int status);
/*
 * A 200 whose body goes on until the client leaves, the server stops, or `next` fails. `next` runs
 * in the connection's thread after the handler has returned: it appends what is new to `out`
 * (empty: nothing), and may block for a second at most. ctx and its arena live on, so what is
 * needed for one call alone belongs elsewhere. `done` (may be NULL) is called once, at the end,
 * also when this fails: MLC_E_UNAVAILABLE when as many wait as may.
 */
struct http_stream {
        const char *content_type;
        int (*next)(struct mlc_ctx *ctx, void *userdata, struct mlc_str *out);
        void (*done)(void *userdata);
        void *userdata;
};
int http_reply_stream(struct mlc_ctx *ctx, struct http_reply *r,
                      const struct http_stream *stream) MLC_CHECK;
/* Copied. Later values of the same name are added, not replaced. */
void http_reply_header(struct http_reply *r, const char *name, const char *value);

/* Request headers beyond what the contract decodes; NULL when absent. Borrowed until the request
 * ends. */
const char *http_header(const struct mlc_ctx *ctx, const char *name);
bool http_is_head(const struct mlc_ctx *ctx);
const char *http_peer(const struct mlc_ctx *ctx); /* address, for logs and caps */

/*
 * An operation marked `x-body: stream` gets its body pushed, in the connection's thread, before its
 * handler runs. Generated prototypes, all in the capability's x_api.c: int  api_OP_open(ctx, req,
 * void **ret_sink)               identity, permission and head are decoded already; a failure is
 * answered without reading the body int  api_OP_write(ctx, void *sink, const void *data, size_t
 * len)     data is borrowed for the call void api_OP_abort(ctx, void *sink) the client went away or
 * was too slow, or write failed int  api_OP(ctx, req, void *sink, reply)                  the whole
 * body was written; owns the sink Exactly one of api_OP_abort and api_OP is called for each sink.
 */
int64_t http_body_length(const struct mlc_ctx *ctx); /* Content-Length, or -1 when chunked */

/* `Prefer: wait=N` of an operation with x-wait in milliseconds, at most a minute; 0 without. */
int64_t http_wait_ms(const struct mlc_ctx *ctx);
/* True once the server is stopping: whoever waits looks at least once a second, and answers with
 * what is. */
bool http_draining(const struct mlc_ctx *ctx);

/*
 * A file of `size` bytes, or the part of it that a Range header with one range asks for: 206 with
 * Content-Range, or MLC_E_RANGE (416) when it does not fit. If-Range counts when http_reply_etag()
 * was called before. Takes the descriptor in any case.
 */
int http_reply_file_ranged(struct mlc_ctx *ctx, struct http_reply *r, const char *content_type,
                           int fd, uint64_t size) MLC_CHECK;

/* ETags: strong, quoted by these calls. If-Match / If-None-Match are compared by http_if_match().
 */
void http_reply_etag(struct http_reply *r, const char *value);
/*
 * 0 when If-Match matches `value` (or is absent and not `required`); MLC_E_PRECONDITION (412) when
 * it does not; MLC_E_PRECONDITION_REQUIRED (428) when it is absent and required. value NULL: the
 * resource does not exist.
 */
int http_if_match(struct mlc_ctx *ctx, const char *value, bool required) MLC_CHECK;
/* True when If-None-Match has the value: a GET may answer 304 (http_reply_empty) right away; with
 * an ETag in its 200 it becomes one anyway. */
bool http_not_modified(const struct mlc_ctx *ctx, const char *value);

/*
 * Called by rules of creating POSTs just before COMMIT: stores status and body under
 * ctx->idempotency_key in the same transaction, so that a retry gets the same reply. No-op without
 * a key. Secrets must not be in `body`.
 */
struct db_tx;
int http_idempotent_store(struct mlc_ctx *ctx, struct db_tx *tx, int status,
                          const json_t *body) MLC_CHECK;
/* For erasure: drops the stored replies to this user, and all that hold their id or name. */
int http_idempotent_forget(struct db_tx *tx, const char *user, const char *name) MLC_CHECK;

/* Opaque cursors: {"k":[...]} signed with the server's cursor key; MLC_E_INVALID on field
 * query:cursor. */
char *http_cursor_make(struct mlc_ctx *ctx, const json_t *keys);
int http_cursor_read(struct mlc_ctx *ctx, const char *cursor, json_t **ret_keys) MLC_CHECK;
/* A cursor of one number, or of n texts (in the arena). NULL, the first page: `ret` stays as it
 * is. */
int http_cursor_number(struct mlc_ctx *ctx, const char *cursor, int64_t *ret) MLC_CHECK;
int http_cursor_texts(struct mlc_ctx *ctx, const char *cursor, const char **ret,
                      size_t n) MLC_CHECK;
