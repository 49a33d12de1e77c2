/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes to the client. An answer up to mlctl_gateway_buffer is kept until all of it has been
 * checked, so that one of a wrong version becomes a 502; a longer one streams from there on, and is
 * cut off when it turns out wrong.
 */
#include "ngx_gateway.h"

/* nginx chains its filters by such variables of each module */
static ngx_http_output_header_filter_pt next_header;
static ngx_http_output_body_filter_pt next_body;

static ngx_int_t add_header(ngx_http_request_t *r, const char *name, const ngx_str_t *value)
{
        ngx_table_elt_t *h = ngx_list_push(&r->headers_out.headers);

        if (h == NULL)
                return NGX_ERROR;
        h->hash = 1;
        h->key.data = __extension__(u_char *)(uintptr_t) name;
        h->key.len = ngx_strlen(name);
        h->value = *value;
        return NGX_OK;
}

static ngx_int_t add_headers(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        ngx_str_t variant;

        if (add_header(r, "X-Request-Id", &ctx->id) != NGX_OK)
                return NGX_ERROR;
        if (!ctx->chosen)
                return NGX_OK;
        variant.data = (u_char *)ctx->choice.variant.name;
        variant.len = ngx_strlen(variant.data);
        if (add_header(r, "X-Mlctl-Variant", &variant) != NGX_OK)
                return NGX_ERROR;
        return add_header(r, "X-Mlctl-Version", &ctx->version_text);
}

static ngx_table_elt_t *find_out(ngx_http_request_t *r, const char *name, size_t len)
{
        for (ngx_list_part_t *part = &r->headers_out.headers.part; part != NULL;
             part = part->next) {
                ngx_table_elt_t *h = part->elts;

                for (ngx_uint_t i = 0; i < part->nelts; i++)
                        if (h[i].hash != 0 && h[i].key.len == len &&
                            ngx_strncasecmp(h[i].key.data, __extension__(u_char *)(uintptr_t) name,
                                            len) == 0)
                                return &h[i];
        }
        return NULL;
}

static void set_length(ngx_http_request_t *r, off_t length)
{
        ngx_http_clear_content_length(r);
        ngx_http_clear_accept_ranges(r);
        ngx_http_clear_etag(r);
        ngx_http_clear_last_modified(r);
        r->headers_out.content_length_n = length; /* -1: chunked */
}

/* The answer becomes JSON of ours; `text` needs no escapes except for quotes and backslashes. */
static ngx_int_t replace(ngx_http_request_t *r, struct gateway_ctx *ctx, const char *text)
{
        ngx_int_t rc = NGX_OK;

        ctx->out.len = 0;
        rc |= gateway_append(r->pool, &ctx->out, "{\"error\":\"", 10);
        for (; *text != '\0'; text++) {
                if (*text == '"' || *text == '\\')
                        rc |= gateway_append(r->pool, &ctx->out, "\\", 1);
                rc |= gateway_append(r->pool, &ctx->out, text, 1);
        }
        rc |= gateway_append(r->pool, &ctx->out, "\"}\n", 3);
        ctx->replaced = 1;
        ngx_str_set(&r->headers_out.content_type, "application/json");
        r->headers_out.content_type_len = r->headers_out.content_type.len;
        r->headers_out.content_type_lowcase = NULL;
        ngx_str_null(&r->headers_out.charset);
        set_length(r, (off_t)ctx->out.len);
        return rc == NGX_OK ? NGX_OK : NGX_ERROR;
}

static ngx_int_t replace_status(ngx_http_request_t *r, struct gateway_ctx *ctx, ngx_uint_t status,
                                const char *text)
{
        r->headers_out.status = status;
        r->headers_out.status_line.len = 0;
        return replace(r, ctx, text);
}

/* Pages of nginx itself: errors of ours and of the way to the server. */
static ngx_int_t replace_page(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        const char *text = ctx->error;

        if (text == NULL && r->err_status == NGX_HTTP_GATEWAY_TIME_OUT)
                text = "the model server did not answer in time";
        else if (text == NULL && r->err_status == NGX_HTTP_BAD_GATEWAY)
                text = "the model server cannot be reached or broke off";
        else if (text == NULL && r->err_status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE)
                text = "the request is too large";
        else if (text == NULL)
                text = "the gateway cannot answer this request";
        return replace(r, ctx, text);
}

/* --- header ----------------------------------------------------------------------------------- */

static void begin_check(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        static const char name[] = "Inference-Header-Content-Length";
        struct gw_rewrite_rule rule = {.name_from = ctx->choice.variant.model,
                                       .name_to = ctx->choice.route.name,
                                       .name_needed = true};
        ngx_table_elt_t *h = find_out(r, name, sizeof(name) - 1);
        size_t len = ctx->version_text.len;
        char *version = ngx_pnalloc(r->pool, len + 5);
        ngx_int_t json;

        if (version == NULL) {
                ctx->upstream_error = 1; /* ends as an answer that is not whole */
                return;
        }
        (void)ngx_sprintf((u_char *)version, ctx->kind == GATEWAY_INFER ? "\"%V\"%Z" : "[\"%V\"]%Z",
                          &ctx->version_text);
        rule.version_to = version;
        rule.version_added = ctx->kind == GATEWAY_INFER;
        rule.name_key = ctx->kind == GATEWAY_INFER ? "model_name" : "name";
        rule.version_key = ctx->kind == GATEWAY_INFER ? "model_version" : "versions";
        gw_rewrite_init(&ctx->rewrite, &rule);
        ctx->checking = 1;
        if (h == NULL || ctx->kind != GATEWAY_INFER)
                return;
        json = ngx_atoi(h->value.data, h->value.len);
        ctx->binary = 1;
        ctx->json_left = json > 0 ? (size_t)json : 0;
}

static ngx_int_t answer_header(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        ngx_uint_t status = r->headers_out.status;

        if (ctx->kind == GATEWAY_READY && !r->header_only) {
                ctx->out.len = 0;
                if (gateway_append(r->pool, &ctx->out, "{\"name\":\"", 9) != NGX_OK ||
                    gateway_append(r->pool, &ctx->out, ctx->route_text.data, ctx->route_text.len) !=
                            NGX_OK ||
                    gateway_append(r->pool, &ctx->out,
                                   status == NGX_HTTP_OK ? "\",\"ready\":true}\n"
                                                         : "\",\"ready\":false}\n",
                                   status == NGX_HTTP_OK ? 16 : 17) != NGX_OK)
                        return NGX_ERROR;
                ctx->replaced = 1;
                ngx_str_set(&r->headers_out.content_type, "application/json");
                r->headers_out.content_type_len = r->headers_out.content_type.len;
                set_length(r, (off_t)ctx->out.len);
                return next_header(r);
        }
        if (status == NGX_HTTP_NOT_FOUND && ctx->kind != GATEWAY_READY) {
                ctx->upstream_error = 1;
                if (replace_status(r, ctx, NGX_HTTP_BAD_GATEWAY,
                                   "the model server has not loaded this version") != NGX_OK)
                        return NGX_ERROR;
                return next_header(r);
        }
        if (status < 200 || status > 299 || r->header_only)
                return next_header(r);
        begin_check(r, ctx);
        if (!ctx->checking)
                return NGX_ERROR;
        r->main_filter_need_in_memory = 1;
        return NGX_OK; /* the header waits for the body */
}

static ngx_int_t header_filter(ngx_http_request_t *r)
{
        struct gateway_ctx *ctx = gateway_ctx(r);

        if (ctx == NULL || r != r->main)
                return next_header(r);
        if (add_headers(r, ctx) != NGX_OK)
                return NGX_ERROR;
        if (r->err_status != 0) {
                ctx->checking = 0;
                if (replace_page(r, ctx) != NGX_OK)
                        return NGX_ERROR;
                return next_header(r);
        }
        ctx->filtered = 1;
        if (!ctx->sent)
                return next_header(r);
        if (ctx->tapped)
                r->main_filter_need_in_memory = 1;
        return answer_header(r, ctx);
}

/* --- body ------------------------------------------------------------------------------------- */

static ngx_int_t send_out(ngx_http_request_t *r, struct gateway_ctx *ctx, int last)
{
        ngx_buf_t *b = ngx_calloc_buf(r->pool);
        ngx_chain_t out = {.buf = b};

        if (b == NULL)
                return NGX_ERROR;
        b->pos = ctx->out.data;
        b->last = ctx->out.data + ctx->out.len;
        b->memory = ctx->out.len > 0;
        b->last_buf = last != 0;
        b->last_in_chain = 1;
        b->flush = !b->memory && !b->last_buf;
        return next_body(r, &out);
}

struct collector {
        ngx_http_request_t *r;
        struct gateway_ctx *ctx;
        ngx_int_t rc;
};

static void collect(void *userdata, const char *data, size_t len)
{
        struct collector *c = userdata;

        if (c->rc == NGX_OK)
                c->rc = gateway_append(c->r->pool, &c->ctx->out, data, len);
}

/* The JSON is over and tensors follow: its new length is known now. */
static ngx_int_t end_json(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        static const char name[] = "Inference-Header-Content-Length";
        ngx_table_elt_t *h = find_out(r, name, sizeof(name) - 1);
        u_char *text = ngx_pnalloc(r->pool, NGX_SIZE_T_LEN);

        if (h == NULL || text == NULL)
                return NGX_ERROR;
        h->value.data = text;
        h->value.len = (size_t)(ngx_sprintf(text, "%uz", ctx->out.len) - text);
        return NGX_OK;
}

static void copy_for_tap(ngx_http_request_t *r, struct gateway_ctx *ctx, const ngx_buf_t *b)
{
        size_t len = (size_t)(b->last - b->pos), room = MLC_TAP_BODY_MAX - ctx->reply.len;

        ctx->reply_total =
                len > UINT32_MAX - ctx->reply_total ? UINT32_MAX : ctx->reply_total + (uint32_t)len;
        if (gateway_append(r->pool, &ctx->reply, b->pos, ngx_min(len, room)) != NGX_OK)
                ctx->tapped = 0;
}

/* Appends to ctx->out what the piece becomes. */
static ngx_int_t feed(ngx_http_request_t *r, struct gateway_ctx *ctx, const u_char *data,
                      size_t len)
{
        struct collector c = {r, ctx, NGX_OK};
        size_t json = len;

        if (ctx->binary && json > ctx->json_left)
                json = ctx->json_left;
        if (json > 0) {
                gw_rewrite_feed(&ctx->rewrite, (const char *)data, json, collect, &c);
                if (ctx->binary) {
                        ctx->json_left -= json;
                        if (ctx->json_left == 0 && end_json(r, ctx) != NGX_OK)
                                return NGX_ERROR;
                }
        }
        if (c.rc == NGX_OK && json < len)
                c.rc = gateway_append(r->pool, &ctx->out, data + json, len - json);
        return c.rc;
}

/* Of the whole answer, or of what is known so far; GW_REWRITE_OK: nothing is wrong with it. */
static enum gw_rewrite_result verdict(const struct gateway_ctx *ctx, int last)
{
        if (last)
                return ctx->json_left > 0 ? GW_REWRITE_BAD : gw_rewrite_end(&ctx->rewrite);
        if (!gw_rewrite_failed(&ctx->rewrite))
                return GW_REWRITE_OK;
        return ctx->rewrite.bad ? GW_REWRITE_BAD : GW_REWRITE_WRONG;
}

static ngx_int_t refuse(ngx_http_request_t *r, struct gateway_ctx *ctx,
                        enum gw_rewrite_result result)
{
        const char *text = "the model server's answer is not whole, or no JSON";
        ngx_int_t rc;

        ctx->checking = 0;
        if (result == GW_REWRITE_WRONG) {
                text = "another version answered than was asked";
                ctx->wrong_version = 1;
        } else {
                ctx->upstream_error = 1;
        }
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "mlctl gateway: route %V, variant \"%s\", version %V: %s", &ctx->route_text,
                      ctx->choice.variant.name, &ctx->version_text, text);
        if (ctx->streaming)
                return NGX_ERROR; /* part of it has gone: break off */
        if (replace_status(r, ctx, NGX_HTTP_BAD_GATEWAY, text) != NGX_OK)
                return NGX_ERROR;
        ctx->replaced_sent = 1;
        rc = next_header(r);
        if (rc == NGX_ERROR || rc > NGX_OK)
                return rc;
        return send_out(r, ctx, 1);
}

/* Header and what has been kept; nothing more is known to be wrong. */
static ngx_int_t release(ngx_http_request_t *r, struct gateway_ctx *ctx, int last)
{
        ngx_int_t rc;

        if (!ctx->streaming) {
                set_length(r, last ? (off_t)ctx->out.len : -1);
                rc = next_header(r);
                if (rc == NGX_ERROR || rc > NGX_OK)
                        return rc;
                ctx->streaming = 1;
        }
        if (last)
                ctx->checking = 0;
        rc = ctx->out.len > 0 || last ? send_out(r, ctx, last) : next_body(r, NULL);
        ngx_memzero(&ctx->out, sizeof(ctx->out)); /* nginx may still be sending it */
        return rc;
}

/* The server broke off: nginx says so only by a flush after the last of its data. */
static int broke_off(ngx_http_request_t *r, const ngx_buf_t *b)
{
        const ngx_event_pipe_t *p = r->upstream == NULL ? NULL : r->upstream->pipe;

        return b->flush && !b->last_buf && p != NULL &&
               (p->upstream_error || (p->upstream_eof && !p->upstream_done && p->length != -1));
}

static ngx_int_t check_body(ngx_http_request_t *r, struct gateway_ctx *ctx, ngx_chain_t *in)
{
        const struct gateway_loc *conf = ngx_http_get_module_loc_conf(r, ngx_mlctl_gateway_module);
        enum gw_rewrite_result result;
        int last = 0;

        for (ngx_chain_t *cl = in; cl != NULL; cl = cl->next) {
                ngx_buf_t *b = cl->buf;

                if (ngx_buf_in_memory(b) && b->last > b->pos) {
                        if (ctx->tapped)
                                copy_for_tap(r, ctx, b);
                        if (feed(r, ctx, b->pos, (size_t)(b->last - b->pos)) != NGX_OK)
                                return NGX_ERROR;
                        b->pos = b->last;
                }
                if (broke_off(r, b))
                        return refuse(r, ctx, GW_REWRITE_BAD);
                if (b->last_buf)
                        last = 1;
        }
        if (last)
                ctx->end_us = gateway_now_us();
        result = verdict(ctx, last);
        if (result != GW_REWRITE_OK)
                return refuse(r, ctx, result);
        if (last || ctx->streaming)
                return release(r, ctx, last);
        /* with tensors the header waits for the length of the JSON */
        if (ctx->out.len > conf->buffer && ctx->json_left > 0)
                return refuse(r, ctx, GW_REWRITE_BAD);
        if (ctx->out.len > conf->buffer)
                return release(r, ctx, 0);
        return NGX_OK;
}

/* Takes what comes and sends ours, once. */
static ngx_int_t replace_body(ngx_http_request_t *r, struct gateway_ctx *ctx, ngx_chain_t *in)
{
        int last = 0;

        for (ngx_chain_t *cl = in; cl != NULL; cl = cl->next) {
                if (ctx->tapped && ctx->filtered && ngx_buf_in_memory(cl->buf))
                        copy_for_tap(r, ctx, cl->buf);
                if (ngx_buf_in_memory(cl->buf))
                        cl->buf->pos = cl->buf->last;
                if (cl->buf->in_file)
                        cl->buf->file_pos = cl->buf->file_last;
                last |= cl->buf->last_buf;
        }
        if (ctx->end_us == 0)
                ctx->end_us = gateway_now_us();
        if (ctx->replaced_sent)
                return next_body(r, NULL);
        if (!last)
                return NGX_OK;
        ctx->replaced_sent = 1;
        return send_out(r, ctx, 1);
}

static ngx_int_t body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
        struct gateway_ctx *ctx = gateway_ctx(r);

        if (ctx == NULL || r != r->main || in == NULL)
                return next_body(r, in);
        if (ctx->replaced)
                return replace_body(r, ctx, in);
        if (ctx->checking)
                return check_body(r, ctx, in);
        for (ngx_chain_t *cl = in; cl != NULL; cl = cl->next) {
                if (ctx->tapped && ctx->sent && ngx_buf_in_memory(cl->buf))
                        copy_for_tap(r, ctx, cl->buf);
                if (cl->buf->last_buf && ctx->end_us == 0)
                        ctx->end_us = gateway_now_us();
        }
        return next_body(r, in);
}

ngx_int_t gateway_filter_init(ngx_conf_t *cf)
{
        (void)cf;
        next_header = ngx_http_top_header_filter;
        ngx_http_top_header_filter = header_filter;
        next_body = ngx_http_top_body_filter;
        ngx_http_top_body_filter = body_filter;
        return NGX_OK;
}
