/* SPDX-License-Identifier: Apache-2.0 */
/* The balancer: endpoints of the variant that was chosen, in turn, those that are up first. */
#include "ngx_gateway.h"

struct peer {
        ngx_http_request_t *request;
        struct gateway_ctx *ctx;
        struct sockaddr_storage
                address; /* all of it zero where unused: connections are found by it */
        ngx_str_t name;
};

static ngx_int_t peer_get(ngx_peer_connection_t *pc, void *data)
{
        struct peer *p = data;
        struct gateway_ctx *ctx = p->ctx;
        const struct gw_address *a;

        pc->cached = 0;
        pc->connection = NULL;
        ctx->endpoint = ctx->stop ? -1
                                  : gw_pick(gateway_shm(p->request), &ctx->choice, ctx->tried,
                                            gateway_now_ms());
        if (ctx->endpoint < 0)
                return NGX_BUSY;
        a = &ctx->choice.endpoints[ctx->endpoint];
        ngx_memzero(&p->address, sizeof(p->address));
        ngx_memcpy(&p->address, a->raw, a->len);
        p->name.data = __extension__(u_char *)(uintptr_t) a->text;
        p->name.len = ngx_strlen(a->text);
        pc->sockaddr = (struct sockaddr *)&p->address;
        pc->socklen = a->len;
        pc->name = &p->name;
        return NGX_OK;
}

/*
 * A connection that was kept and is found closed says nothing about the server, and the same
 * endpoint may be tried with a new one. What was sent is sent again only where the route allows it.
 */
static void peer_free(ngx_peer_connection_t *pc, void *data, ngx_uint_t state)
{
        struct peer *p = data;
        struct gateway_ctx *ctx = p->ctx;
        ngx_http_upstream_t *u = p->request->upstream;
        ngx_connection_t *c = pc->connection;
        int timed_out = c != NULL && (c->read->timedout || c->write->timedout);

        if (pc->tries > 0)
                pc->tries--;
        if (ctx->endpoint < 0)
                return;
        if ((state & NGX_PEER_FAILED) != 0) {
                int stale = pc->cached && !timed_out;

                if (!stale) {
                        ctx->tried |= 1U << ctx->endpoint;
                        gw_endpoint_result(gateway_shm(p->request),
                                           &ctx->choice.endpoints[ctx->endpoint], true,
                                           gateway_now_ms());
                }
                if (u->request_sent && ctx->kind == GATEWAY_INFER && !ctx->choice.route.repeat) {
                        ctx->stop = 1;
                        pc->tries = 0;
                }
        } else if ((state & NGX_PEER_NEXT) != 0) {
                ctx->tried |= 1U << ctx->endpoint; /* it does not have the model */
        } else if (u->headers_in.status_n != 0) {
                gw_endpoint_result(gateway_shm(p->request), &ctx->choice.endpoints[ctx->endpoint],
                                   false, 0);
        }
        ctx->endpoint = -1;
}

#if (NGX_HTTP_SSL)
static ngx_int_t no_session(ngx_peer_connection_t *pc, void *data)
{
        (void)pc;
        (void)data;
        return NGX_OK;
}

static void drop_session(ngx_peer_connection_t *pc, void *data)
{
        (void)pc;
        (void)data;
}
#endif

static ngx_int_t init_peer(ngx_http_request_t *r, ngx_http_upstream_srv_conf_t *us)
{
        struct gateway_ctx *ctx = gateway_ctx(r);
        ngx_peer_connection_t *pc = &r->upstream->peer;
        struct peer *p;

        (void)us;
        if (ctx == NULL || !ctx->chosen) {
                ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                              "the upstream needs \"mlctl_gateway\" in the location");
                return NGX_ERROR;
        }
        p = ngx_palloc(r->pool, sizeof(*p));
        if (p == NULL)
                return NGX_ERROR;
        p->request = r;
        p->ctx = ctx;
        ctx->tried = 0;
        ctx->endpoint = -1;
        ctx->sent = 1;
        ctx->start_us = gateway_now_us();
        pc->data = p;
        pc->get = peer_get;
        pc->free = peer_free;
        pc->tries = ngx_min(ctx->choice.variant.n_endpoints, GW_TRIES_MAX);
#if (NGX_HTTP_SSL)
        pc->set_session = no_session;
        pc->save_session = drop_session;
#endif
        return NGX_OK;
}

static ngx_int_t init_upstream(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
        (void)cf;
        us->peer.init = init_peer;
        return NGX_OK;
}

char *gateway_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
        ngx_http_upstream_srv_conf_t *us =
                ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);
        struct gateway_main *m = ngx_http_conf_get_module_main_conf(cf, ngx_mlctl_gateway_module);
        ngx_http_upstream_server_t *server;

        (void)cmd;
        (void)conf;
        /* the other way round no connection would be kept, with a warning only */
        if (us->peer.init_upstream != NULL)
                return "must be the first directive of the upstream, before \"keepalive\"";
        server = ngx_array_push(us->servers); /* a block without any is refused */
        if (server == NULL)
                return NGX_CONF_ERROR;
        ngx_memzero(server, sizeof(*server));
        us->peer.init_upstream = init_upstream;
        us->flags = NGX_HTTP_UPSTREAM_CREATE;
        m->used = 1;
        return NGX_CONF_OK;
}
