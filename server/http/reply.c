/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/cleanup.h"
#include "http/conn.h"
#include "http/request.h"

void reply_init(struct http_reply *r, struct mlc_ctx *ctx)
{
        *r = (struct http_reply){.ctx = ctx, .file = {.fd = -1}};
}

void reply_reset(struct http_reply *r)
{
        json_decref(TAKE_PTR(r->json));
        if (r->file.fd >= 0)
                (void)close(TAKE_FD(r->file.fd));
        if (r->kind == REPLY_STREAM) {
                mlc_str_done(&r->out);
                if (r->stream.done != NULL)
                        r->stream.done(r->stream.userdata);
        }
        r->kind = REPLY_NONE;
        r->data = NULL;
        r->len = 0;
        r->content_type = NULL;
}

void reply_done(struct http_reply *r)
{
        if (r->ctx != NULL)
                reply_reset(r);
}

void http_reply_json(struct http_reply *r, int status, json_t *steal_body)
{
        assert(steal_body != NULL);
        reply_reset(r);
        r->status = status;
        r->kind = REPLY_JSON;
        r->json = steal_body;
        r->content_type = "application/json";
}

void http_reply_borrowed(struct http_reply *r, int status, const char *content_type,
                         const void *data, size_t len)
{
        reply_reset(r);
        r->status = status;
        r->kind = REPLY_BYTES;
        r->content_type = content_type;
        r->data = data;
        r->len = len;
}

void http_reply_bytes(struct http_reply *r, int status, const char *content_type, const void *data,
                      size_t len)
{
        char *own = mlc_arena_alloc(&r->ctx->arena, len, NULL);

        r->failed |= own == NULL;
        if (own != NULL && len > 0)
                memcpy(own, data, len);
        http_reply_borrowed(r, status, content_type, own, own != NULL ? len : 0);
}

void http_reply_file(struct http_reply *r, int status, const char *content_type,
                     const struct http_file *file)
{
        reply_reset(r);
        r->status = status;
        r->kind = REPLY_FILE;
        r->content_type = content_type;
        r->file = *file;
}

void http_reply_empty(struct http_reply *r, int status)
{
        reply_reset(r);
        r->status = status;
}

int http_reply_stream(struct mlc_ctx *ctx, struct http_reply *r, const struct http_stream *stream)
{
        struct http_request *request = http_request_of(ctx);

        reply_reset(r);
        r->status = 200;
        r->kind = REPLY_STREAM;
        r->content_type = stream->content_type;
        r->stream = *stream;
        r->sent = 0;
        mlc_str_init(&r->out, HTTP_STREAM_MAX);
        if (!request->holds_poll && !http_poll_begin(request->http))
                return ctx_fail(ctx, MLC_E_UNAVAILABLE, "too many requests are waiting");
        request->holds_poll = true;
        return 0;
}

/* A header cannot be split: line ends and other control characters become blanks. */
void http_reply_header(struct http_reply *r, const char *name, const char *value)
{
        char *copy = mlc_arena_strdup(&r->ctx->arena, value, NULL);

        if (copy == NULL || r->n_headers == HTTP_REPLY_HEADERS_MAX) {
                r->failed = true;
                return;
        }
        for (char *c = copy; *c != '\0'; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = ' ';
        r->headers[r->n_headers++] = (struct reply_header){.name = name, .value = copy};
}

int reply_render(struct http_reply *r, const void **ret, size_t *ret_len, char **ret_free)
{
        assert(r->kind != REPLY_FILE && r->kind != REPLY_STREAM);
        if (r->kind != REPLY_JSON) {
                *ret = r->data;
                *ret_len = r->len;
                return 0;
        }
        *ret_free = json_dumps(r->json, JSON_COMPACT | JSON_ENCODE_ANY);
        if (*ret_free == NULL)
                return MLC_E_INTERNAL;
        *ret = *ret_free;
        *ret_len = strlen(*ret_free);
        return 0;
}
