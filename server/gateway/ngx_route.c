/* SPDX-License-Identifier: Apache-2.0 */
/* Which variant answers is decided once, before the content phase; what came of it is counted at
 * the end. */
#include "core/validate.h"
#include "ngx_gateway.h"

#include <sys/random.h>

#include "rollout/bucket.h"

#define MODELS "/v2/models/"

/* Request ids need to be different, not secret: xorshift128+ of each worker, seeded by the kernel.
 */
static uint64_t seed[2];

void gateway_seed(ngx_cycle_t *cycle)
{
        if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
                ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno, "getrandom() failed");
        seed[0] |= 1;
}

static uint64_t next_random(void)
{
        uint64_t a = seed[0], b = seed[1];

        seed[0] = b;
        a ^= a << 23;
        seed[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
        return seed[1] + b;
}

/* --- context ---------------------------------------------------------------------------------- */

static void keep_context(void *data)
{
        (void)data; /* only marks the context, see gateway_ctx() */
}

struct gateway_ctx *gateway_ctx(ngx_http_request_t *r)
{
        struct gateway_ctx *ctx = ngx_http_get_module_ctx(r, ngx_mlctl_gateway_module);

        if (ctx != NULL || (!r->internal && !r->filter_finalize))
                return ctx;
        /* an internal redirect forgets the contexts: a second choice would count twice */
        for (ngx_pool_cleanup_t *c = r->main->pool->cleanup; c != NULL; c = c->next)
                if (c->handler == keep_context) {
                        ngx_http_set_ctx(r, c->data, ngx_mlctl_gateway_module);
                        return c->data;
                }
        return NULL;
}

static struct gateway_ctx *make_context(ngx_http_request_t *r)
{
        ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(r->pool, 0);
        struct gateway_ctx *ctx = ngx_palloc(r->pool, sizeof(*ctx));
        struct timeval now;

        if (cleanup == NULL || ctx == NULL)
                return NULL;
        /* the choice is large and filled in by whoever sets `chosen` */
        ngx_memzero((u_char *)ctx + sizeof(ctx->choice), sizeof(*ctx) - sizeof(ctx->choice));
        ctx->choice.variant.n_endpoints = 0;
        ngx_gettimeofday(&now);
        ctx->arrived_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_usec;
        cleanup->handler = keep_context;
        cleanup->data = ctx;
        ngx_http_set_ctx(r, ctx, ngx_mlctl_gateway_module);
        return ctx;
}

static ngx_table_elt_t *find_header(ngx_http_request_t *r, const char *name, size_t len)
{
        ngx_list_part_t *part = &r->headers_in.headers.part;
        ngx_table_elt_t *h = part->elts;

        for (ngx_uint_t i = 0;; i++) {
                if (i >= part->nelts) {
                        if (part->next == NULL)
                                return NULL;
                        part = part->next;
                        h = part->elts;
                        i = 0;
                }
                if (h[i].key.len == len &&
                    ngx_strncasecmp(h[i].key.data, __extension__(u_char *)(uintptr_t) name, len) ==
                            0)
                        return &h[i];
        }
}

static int is_id(const ngx_str_t *s)
{
        if (s->len == 0 || s->len > GW_ID_MAX)
                return 0;
        for (size_t i = 0; i < s->len; i++)
                if (s->data[i] <= ' ' || s->data[i] > '~' || s->data[i] == '"' ||
                    s->data[i] == '\\')
                        return 0;
        return 1;
}

static ngx_int_t set_id(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        ngx_table_elt_t *given = find_header(r, "X-Request-Id", sizeof("X-Request-Id") - 1);
        u_char *end;

        if (given != NULL && is_id(&given->value)) {
                ctx->id = given->value;
                return NGX_OK;
        }
        ctx->id.data = ngx_pnalloc(r->pool, 32);
        if (ctx->id.data == NULL)
                return NGX_ERROR;
        end = ngx_snprintf(ctx->id.data, 32, "%016xL%016xL", next_random(), next_random());
        ctx->id.len = (size_t)(end - ctx->id.data);
        return NGX_OK;
}

/* --- choosing --------------------------------------------------------------------------------- */

struct asked {
        ngx_http_request_t *request;
        struct gateway_ctx *ctx;
};

/* Callers without the key are spread by their request's id. */
static size_t key_of(const struct gw_route *route, const char **ret_key, void *userdata)
{
        const struct asked *a = userdata;
        ngx_http_request_t *r = a->request;
        ngx_str_t name = {ngx_strlen(route->key_name),
                          __extension__(u_char *)(uintptr_t) route->key_name};
        ngx_str_t value = ngx_null_string;

        if (route->key == GW_KEY_HEADER) {
                ngx_table_elt_t *h = find_header(r, route->key_name, name.len);

                if (h != NULL)
                        value = h->value;
        } else if (route->key == GW_KEY_COOKIE) {
                (void)ngx_http_parse_multi_header_lines(&r->headers_in.cookies, &name, &value);
        } else if (route->key == GW_KEY_ADDRESS) {
                value = r->connection->addr_text;
        }
        if (value.len == 0)
                value = a->ctx->id;
        *ret_key = (const char *)value.data;
        return value.len;
}

static ngx_int_t set_texts(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        struct gw_choice *c = &ctx->choice;
        const char *suffix = ctx->kind == GATEWAY_INFER   ? "/infer"
                             : ctx->kind == GATEWAY_READY ? "/ready"
                                                          : "";
        size_t model = ngx_strlen(c->variant.model), room = sizeof(MODELS "/infer") + model;
        u_char *text = ngx_pnalloc(r->pool, NGX_INT32_LEN + room);

        if (text == NULL)
                return NGX_ERROR;
        ctx->route_text.data = (u_char *)c->route.name;
        ctx->route_text.len = ngx_strlen(c->route.name);
        ctx->version_text.data = text;
        ctx->version_text.len =
                (size_t)(ngx_snprintf(text, NGX_INT32_LEN, "%uD", c->variant.version) - text);
        r->uri.data = text + NGX_INT32_LEN;
        r->uri.len =
                (size_t)(ngx_snprintf(r->uri.data, room, MODELS "%s%s", c->variant.model, suffix) -
                         r->uri.data);
        r->valid_unparsed_uri = 0; /* the proxy module sends r->uri */
        r->quoted_uri = 0; /* nothing in it needs escapes */
        ngx_str_null(&r->exten);
        return NGX_OK;
}

static ngx_int_t choose(ngx_http_request_t *r, struct gateway_ctx *ctx, ngx_str_t *route)
{
        struct asked a = {r, ctx};
        struct gw_asked asked = {(const char *)route->data, route->len, key_of, &a};
        struct gw_shm *shm = gateway_shm(r);

        if (!gw_choose(shm, &asked, gateway_now_ms(), &ctx->choice)) {
                ctx->error = "no such route";
                return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        if (ctx->choice.variant.n_endpoints == 0) {
                ctx->error = "no version of this route is live";
                return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        if (set_texts(r, ctx) != NGX_OK)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        ctx->chosen = 1;
        if (ctx->kind != GATEWAY_INFER)
                return NGX_OK;
        ctx->counted = 1;
        gw_count_chosen(shm, &ctx->choice);
        ctx->tapped = ctx->choice.route.tap_share > 0 &&
                      mlc_bucket("tap", 3, ctx->id.data, ctx->id.len) < ctx->choice.route.tap_share;
        return NGX_OK;
}

static int ends(const ngx_str_t *s, const char *suffix, size_t len)
{
        return s->len > len && ngx_memcmp(s->data + s->len - len, suffix, len) == 0;
}

/* /v2/models/ROUTE[/infer|/ready] */
static ngx_int_t parse_path(ngx_http_request_t *r, struct gateway_ctx *ctx, ngx_str_t *ret_route)
{
        size_t prefix = sizeof(MODELS) - 1;
        ngx_str_t rest;

        if (r->uri.len <= prefix || ngx_memcmp(r->uri.data, MODELS, prefix) != 0) {
                ctx->error = "no such path";
                return NGX_HTTP_NOT_FOUND;
        }
        rest = (ngx_str_t){r->uri.len - prefix, r->uri.data + prefix};
        ctx->kind = GATEWAY_METADATA;
        if (ends(&rest, "/infer", 6)) {
                ctx->kind = GATEWAY_INFER;
                rest.len -= 6;
        } else if (ends(&rest, "/ready", 6)) {
                ctx->kind = GATEWAY_READY;
                rest.len -= 6;
        }
        if (ngx_strlchr(rest.data, rest.data + rest.len, '/') != NULL) {
                ctx->error = "no such path; the route decides which version answers";
                return NGX_HTTP_NOT_FOUND;
        }
        if (ctx->kind == GATEWAY_INFER ? r->method != NGX_HTTP_POST
                                       : (r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) == 0) {
                ctx->error = "the resource has no such method";
                return NGX_HTTP_NOT_ALLOWED;
        }
        *ret_route = rest;
        return NGX_OK;
}

/* --- validation of the request ---------------------------------------------------------------- */

/* The whole body in one piece, from memory or from the file where nginx put it. */
static ngx_int_t read_body(ngx_http_request_t *r, ngx_str_t *ret)
{
        struct mlc_buf all = {0};
        u_char part[16384];

        for (ngx_chain_t *cl = r->request_body->bufs; cl != NULL; cl = cl->next) {
                ngx_buf_t *b = cl->buf;

                if (ngx_buf_in_memory(b)) {
                        if (gateway_append(r->pool, &all, b->pos, (size_t)(b->last - b->pos)) !=
                            NGX_OK)
                                return NGX_ERROR;
                        continue;
                }
                for (off_t at = b->file_pos; at < b->file_last;) {
                        size_t want = ngx_min(sizeof(part), (size_t)(b->file_last - at));
                        ssize_t n = ngx_read_file(b->file, part, want, at);

                        if (n <= 0 || gateway_append(r->pool, &all, part, (size_t)n) != NGX_OK)
                                return NGX_ERROR;
                        at += n;
                }
        }
        *ret = (ngx_str_t){all.len, all.data};
        return NGX_OK;
}

static int fits_inputs(ngx_http_request_t *r, struct gateway_ctx *ctx, const ngx_str_t *body)
{
        ngx_table_elt_t *h = find_header(r, "Inference-Header-Content-Length",
                                         sizeof("Inference-Header-Content-Length") - 1);
        struct gw_check check;
        size_t json = body->len;
        char why[GW_WHY_MAX];

        if (!gw_choice_check(gateway_shm(r), &ctx->choice, &check)) {
                ctx->gone = 1;
                return 1;
        }
        if (check.mode == GW_VALIDATE_OFF)
                return 1;
        ctx->reject = check.mode == GW_VALIDATE_REJECT;
        if (h != NULL) {
                ngx_int_t n = ngx_atoi(h->value.data, h->value.len);

                json = n >= 0 && (size_t)n <= body->len ? (size_t)n : 0;
        }
        if (gw_validate(check.inputs, check.n_inputs, (const char *)body->data, json, why))
                return 1;
        (void)snprintf(ctx->why, sizeof(ctx->why), "%s", why);
        return 0;
}

static void body_came(ngx_http_request_t *r)
{
        struct gateway_ctx *ctx = gateway_ctx(r);
        ngx_str_t body;

        if (read_body(r, &body) != NGX_OK) {
                ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
                return;
        }
        r->preserve_body = 1;
        ctx->invalid = !fits_inputs(r, ctx, &body);
        r->write_event_handler = ngx_http_core_run_phases;
        ngx_http_core_run_phases(r);
}

static ngx_int_t begin_validation(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        ngx_int_t rc;

        ctx->validated = 1;
        rc = ngx_http_read_client_request_body(r, body_came);
        if (rc >= NGX_HTTP_SPECIAL_RESPONSE)
                return rc;
        ngx_http_finalize_request(r, NGX_DONE);
        return NGX_DONE;
}

/* --- phases ----------------------------------------------------------------------------------- */

static ngx_int_t begin(ngx_http_request_t *r)
{
        struct gateway_ctx *ctx = make_context(r);
        ngx_str_t route;
        ngx_int_t rc;

        if (ctx == NULL || set_id(r, ctx) != NGX_OK)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        rc = parse_path(r, ctx, &route);
        if (rc == NGX_OK)
                rc = choose(r, ctx, &route);
        if (rc != NGX_OK)
                return rc;
        return ctx->counted && ctx->choice.route.validate != GW_VALIDATE_OFF
                       ? begin_validation(r, ctx)
                       : NGX_DECLINED;
}

ngx_int_t gateway_route_handler(ngx_http_request_t *r)
{
        const struct gateway_loc *conf = ngx_http_get_module_loc_conf(r, ngx_mlctl_gateway_module);
        struct gateway_ctx *ctx;

        if (!conf->enabled || r != r->main)
                return NGX_DECLINED;
        ctx = gateway_ctx(r);
        if (ctx == NULL)
                return begin(r);
        if (ctx->gone) {
                ctx->error = "no such route";
                return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        if (ctx->invalid && ctx->reject) {
                ctx->error = ctx->why;
                return NGX_HTTP_BAD_REQUEST;
        }
        return NGX_DECLINED;
}

ngx_int_t gateway_log_handler(ngx_http_request_t *r)
{
        struct gateway_ctx *ctx = gateway_ctx(r);
        struct gw_outcome o = {0};

        if (ctx == NULL || !ctx->counted)
                return NGX_OK;
        if (ctx->end_us == 0)
                ctx->end_us = gateway_now_us();
        if (r->err_status != 0)
                o.status = (unsigned)r->err_status;
        else
                o.status = (unsigned)r->headers_out.status;
        if (ctx->sent && !ctx->filtered) { /* no answer of the server was good enough to look at */
                ctx->timeout |= o.status == NGX_HTTP_GATEWAY_TIME_OUT;
                ctx->upstream_error |= o.status == NGX_HTTP_BAD_GATEWAY;
        }
        o.upstream_error = ctx->upstream_error;
        o.timeout = ctx->timeout;
        o.wrong_version = ctx->wrong_version;
        o.invalid = ctx->invalid;
        o.sent = ctx->sent;
        o.latency_us = ctx->sent ? ctx->end_us - ctx->start_us : 0;
        gw_count_outcome(gateway_shm(r), &ctx->choice, &o);
        if (ctx->tapped && ctx->sent)
                gateway_tap_send(r, ctx);
        return NGX_OK;
}
