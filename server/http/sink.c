/* SPDX-License-Identifier: Apache-2.0 */
#include "http/sink.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "http/listener.h"

#define POOL_SIZE 32768 /* of a connection: request line, headers, a piece of the body */

struct http_sink {
        struct http_sink_in in;
        struct MHD_Daemon *daemon;
        struct MHD_Response *nothing;
        bool told; /* that something was not handed on */
};

/* A request that is coming in. */
struct coming {
        char *body; /* malloc'ed */
        size_t len, room;
        bool usable;
};

static bool has(struct MHD_Connection *mhd, const char *header)
{
        return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, header) != NULL;
}

static bool hand_on(struct http_sink *s, struct MHD_Connection *mhd, const char *path)
{
        if (s->in.not_with == NULL || !has(mhd, s->in.not_with))
                return true;
        if (!s->told)
                log_warn(NULL, "copies.own_request", KV_STR("header", s->in.not_with),
                         KV_STR("path", path));
        s->told = true;
        return false;
}

static void append(const struct http_sink *s, struct coming *c, const char *data, size_t len)
{
        if (!c->usable || len > s->in.body_max - c->len) {
                c->usable = false;
                return;
        }
        if (c->len + len > c->room) {
                size_t room = 2 * (c->len + len);
                char *more = realloc(c->body, room);

                if (more == NULL)
                        abort();
                c->body = more;
                c->room = room;
        }
        memcpy(c->body + c->len, data, len);
        c->len += len;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **con_cls)
{
        struct http_sink *s = cls;
        struct coming *c = *con_cls;

        (void)version;
        if (c == NULL) {
                c = calloc(1, sizeof(*c));
                if (c == NULL)
                        abort();
                c->usable = mlc_streq(method, "POST") && !has(mhd, "Content-Encoding") &&
                            !has(mhd, "Inference-Header-Content-Length");
                *con_cls = c;
                return MHD_YES;
        }
        if (*size > 0) {
                append(s, c, data, *size);
                *size = 0;
                return MHD_YES;
        }
        if (hand_on(s, mhd, url))
                s->in.take(s->in.userdata, url, c->usable ? c->body : NULL, c->usable ? c->len : 0);
        return MHD_queue_response(mhd, MHD_HTTP_NO_CONTENT, s->nothing);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
        struct coming *c = *con_cls;

        (void)cls;
        (void)mhd;
        (void)why;
        *con_cls = NULL;
        if (c != NULL)
                free(c->body);
        free(c);
}

int http_sink_start(const struct http_sink_in *in, struct http_sink **ret,
                    char ret_address[SINK_ADDRESS_MAX], struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        struct http_sink *s;
        int r = http_listen(in->where, &fd, ret_address, err);

        static_assert(SINK_ADDRESS_MAX == HTTP_ADDRESS_MAX, "one kind of address");
        if (r < 0)
                return r;
        s = calloc(1, sizeof(*s));
        if (s == NULL)
                abort();
        s->in = *in;
        s->nothing = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (s->nothing != NULL)
                s->daemon = MHD_start_daemon(
                        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
                        on_request, s, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                        (unsigned)SINK_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                        (unsigned)SINK_ADDRESS_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                        (size_t)POOL_SIZE, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SINK_IDLE_S,
                        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_STRICT_FOR_CLIENT,
                        1, MHD_OPTION_END);
        if (s->daemon == NULL) {
                r = mlc_fail(err, MLC_E_INTERNAL, "starting the listener of copies: %s",
                             strerror(errno));
                http_sink_stop(s);
                return r;
        }
        fd = -1; /* the daemon's */
        *ret = s;
        return 0;
}

void http_sink_stop(struct http_sink *s)
{
        if (s == NULL)
                return;
        if (s->daemon != NULL)
                MHD_stop_daemon(s->daemon);
        if (s->nothing != NULL)
                MHD_destroy_response(s->nothing);
        free(s);
}
