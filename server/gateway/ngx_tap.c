/* SPDX-License-Identifier: Apache-2.0 */
/* Sends sampled requests with their answers to the collector: once, never waiting, after the client
 * has its answer. */
#include "ngx_gateway.h"

#include <sys/socket.h>
#include <sys/un.h>

/* of each worker, for all of its life */
static int tap_fd = -1;

void gateway_tap_open(ngx_cycle_t *cycle)
{
        tap_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (tap_fd < 0)
                ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno, "no socket for the tap");
}

/* The request as far as it was kept in memory; a copy, since it may be in pieces. */
static ngx_int_t copy_request(ngx_http_request_t *r, struct mlc_buf *ret, struct mlc_tap *tap)
{
        off_t total = 0;

        if (r->request_body == NULL)
                return NGX_OK;
        for (ngx_chain_t *cl = r->request_body->bufs; cl != NULL; cl = cl->next) {
                ngx_buf_t *b = cl->buf;
                size_t room = MLC_TAP_BODY_MAX - ret->len;

                total += ngx_buf_size(b);
                if (!ngx_buf_in_memory(b)) {
                        tap->flags |= MLC_TAP_REQUEST_MISSING;
                        ret->len = 0;
                        continue;
                }
                if ((size_t)(b->last - b->pos) > room)
                        tap->flags |= MLC_TAP_REQUEST_CUT;
                if (gateway_append(r->pool, ret, b->pos,
                                   ngx_min((size_t)(b->last - b->pos), room)) != NGX_OK)
                        return NGX_ERROR;
        }
        if ((tap->flags & MLC_TAP_REQUEST_MISSING) != 0)
                ret->len = 0;
        tap->request_total = (uint32_t)ngx_min(total, (off_t)UINT32_MAX);
        return NGX_OK;
}

static void part(struct iovec *iov, const void *data, size_t len)
{
        iov->iov_base = __extension__(void *)(uintptr_t) data;
        iov->iov_len = len;
}

static int send_record(const ngx_str_t *path, const struct mlc_tap *tap)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        uint8_t head[MLC_TAP_HEAD];
        struct iovec iov[6];
        struct msghdr msg = {.msg_name = &address,
                             .msg_namelen = sizeof(address),
                             .msg_iov = iov,
                             .msg_iovlen = 6};

        ngx_memcpy(address.sun_path, path->data, path->len); /* checked when configured */
        mlc_tap_head(tap, head);
        part(&iov[0], head, sizeof(head));
        part(&iov[1], tap->route, tap->route_len);
        part(&iov[2], tap->variant, tap->variant_len);
        part(&iov[3], tap->id, tap->id_len);
        part(&iov[4], tap->request, tap->request_len);
        part(&iov[5], tap->reply, tap->reply_len);
        return sendmsg(tap_fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void gateway_tap_send(ngx_http_request_t *r, struct gateway_ctx *ctx)
{
        struct gateway_main *m = ngx_http_get_module_main_conf(r, ngx_mlctl_gateway_module);
        const struct gw_choice *c = &ctx->choice;
        struct gw_shm *shm = gateway_shm(r);
        struct mlc_tap tap = {
                .generation = c->route.banks[0].generation,
                .time_us = ctx->arrived_us,
                .latency_us = ctx->end_us - ctx->start_us,
                .status = (uint32_t)(r->err_status != 0 ? r->err_status : r->headers_out.status),
                .bucket = c->bucket,
                .version = c->variant.version,
                .reply_total = ctx->reply_total,
                .route = c->route.name,
                .route_len = (uint16_t)ngx_strlen(c->route.name),
                .variant = c->variant.name,
                .variant_len = (uint16_t)ngx_strlen(c->variant.name),
                .id = (const char *)ctx->id.data,
                .id_len = (uint16_t)ctx->id.len,
        };
        struct mlc_buf request = {0};
        int sent = 0;

        if (m->tap.len > 0 && tap_fd >= 0 && copy_request(r, &request, &tap) == NGX_OK) {
                tap.request = (const char *)request.data;
                tap.request_len = (uint32_t)request.len;
                tap.reply = (const char *)ctx->reply.data;
                tap.reply_len = (uint32_t)ctx->reply.len;
                if (ctx->reply_total > ctx->reply.len)
                        tap.flags |= MLC_TAP_REPLY_CUT;
                if (ctx->reply_total == 0)
                        tap.flags |= MLC_TAP_REPLY_MISSING;
                sent = send_record(&m->tap, &tap);
        }
        (void)__atomic_fetch_add(sent ? &shm->tap_sent : &shm->tap_dropped, 1, __ATOMIC_RELAXED);
}
