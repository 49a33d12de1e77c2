/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/str.h"
#include "http/http.h"
#include "http/limits.h"
#include "http/operation.h"
#include "http/router.h"

/*
 * One request on its way through the folder: conn.c fills it from libmicrohttpd, pipeline.c makes a
 * reply of it, conn.c sends that. Belongs to the connection's thread.
 */
struct http;
struct MHD_Connection;

enum reply_kind { REPLY_NONE, REPLY_BYTES, REPLY_JSON, REPLY_FILE, REPLY_STREAM };

struct reply_header {
        const char *name, *value;
};

struct http_reply {
        struct mlc_ctx *ctx;
        int status;
        enum reply_kind kind;
        const char *content_type;
        const void *data; /* REPLY_BYTES */
        size_t len;
        json_t *json; /* REPLY_JSON, owned */
        struct http_file file; /* REPLY_FILE, its descriptor owned; -1 */
        struct http_stream stream; /* REPLY_STREAM */
        struct mlc_str out; /* of its last call */
        size_t sent; /* of out */
        struct reply_header headers[HTTP_REPLY_HEADERS_MAX];
        unsigned n_headers;
        bool failed; /* a header or a copy did not fit the arena */
};

struct http_request {
        struct mlc_ctx ctx; /* first: http.h finds the request by it */
        struct http *http;
        struct MHD_Connection *mhd;
        const char *peer;
        char *uri; /* as sent; malloc'ed */
        const char *method;
        bool head_only;
        int64_t started_ms;

        struct router_target target;
        struct router_match match;
        const struct api_operation *op; /* NULL until routed */
        void *req; /* struct api_OP_req */

        int64_t body_length; /* Content-Length, or -1 */
        bool has_body; /* it has a Content-Length above 0, or is chunked */
        uint64_t received;
        struct mlc_str body; /* JSON and raw */
        json_t *json;
        void *sink; /* API_BODY_STREAM */
        bool sink_open;
        bool holds_poll; /* counts as a long poll */
        int64_t wait_ms; /* of Prefer: wait */
        char request_digest[72]; /* with an Idempotency-Key */
        bool idempotency_raced; /* another request with this key committed first */

        struct http_reply reply;
        bool close; /* the connection cannot be used again */
};

static inline struct http_request *http_request_of(struct mlc_ctx *ctx)
{
        return (struct http_request *)ctx;
}

static inline const struct http_request *http_request_of_const(const struct mlc_ctx *ctx)
{
        return (const struct http_request *)ctx;
}

/* reply.c */
void reply_init(struct http_reply *r, struct mlc_ctx *ctx);
void reply_reset(struct http_reply *r); /* drops the body, keeps the headers */
void reply_done(struct http_reply *r);
/* The body of any reply but a file as text; malloc'ed for JSON (the caller frees *ret_free). */
int reply_render(struct http_reply *r, const void **ret, size_t *ret_len,
                 char **ret_free) MLC_CHECK;

/* problem.c: turns ctx->err into the reply. */
void problem_reply(struct http_request *r);

/* idempotency.c */
/* Looks the key up. *ret true: the reply is filled with the stored one. */
int idempotency_replay(struct http_request *r, bool *ret) MLC_CHECK;
int idempotency_begin(struct http_request *r) MLC_CHECK;

/* pipeline.c, in this order; none fails: what goes wrong becomes the reply. */
void pipeline_head(struct http_request *r);
void pipeline_body(struct http_request *r, const void *data, size_t len);
void pipeline_end(struct http_request *r);
void pipeline_done(struct http_request *r); /* the request is over, sent or not */

/* conn.c: how often a request header stands, and its value. */
/* Whether each is a token (RFC 9110, 5.6.2): "Content-Length " for instance is none. */
bool conn_header_names_valid(const struct http_request *r);
unsigned conn_header_count(const struct http_request *r, const char *name);
