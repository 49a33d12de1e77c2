/* SPDX-License-Identifier: Apache-2.0 */
#include "http/early.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "http/request.h"

#define HEAD_MAX 16384

static const char *reason(int status)
{
        return status >= 500 ? "Server Error" : "Refused";
}

static bool wait_for(int fd, short events, int64_t until_ms)
{
        struct pollfd p = {.fd = fd, .events = events};
        int64_t left = until_ms - mlc_monotonic_ms();

        return left > 0 && poll(&p, 1, (int)left) > 0;
}

static bool send_all(int fd, const char *data, size_t len, int64_t until_ms)
{
        while (len > 0) {
                ssize_t n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n > 0) {
                        data += n;
                        len -= (size_t)n;
                } else if (n < 0 && errno != EINTR &&
                           (errno != EAGAIN || !wait_for(fd, POLLOUT, until_ms))) {
                        return false;
                }
        }
        return true;
}

static void discard(int fd, int64_t until_ms)
{
        char buf[16384];

        while (wait_for(fd, POLLIN, until_ms)) {
                ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

                if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
                        return;
        }
}

void early_send(struct http_request *r, int fd)
{
        _cleanup_(mlc_str_done) struct mlc_str text = {0};
        _cleanup_(free_p) char *own = NULL;
        int64_t until_ms = mlc_monotonic_ms() + HTTP_LINGER_MS_MAX;
        const void *data = NULL;
        size_t len = 0;

        if (r->reply.kind == REPLY_FILE || r->reply.kind == REPLY_STREAM ||
            reply_render(&r->reply, &data, &len, &own) < 0)
                return;
        mlc_str_init(&text, HEAD_MAX);
        mlc_str_addf(&text, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\nConnection: close\r\n",
                     r->reply.status, reason(r->reply.status), len);
        if (r->reply.content_type != NULL)
                mlc_str_addf(&text, "Content-Type: %s\r\n", r->reply.content_type);
        for (unsigned i = 0; i < r->reply.n_headers; i++)
                mlc_str_addf(&text, "%s: %s\r\n", r->reply.headers[i].name,
                             r->reply.headers[i].value);
        mlc_str_add(&text, "\r\n");
        if (mlc_str_check(&text, NULL) < 0 || !send_all(fd, text.data, text.len, until_ms) ||
            !send_all(fd, data, len, until_ms))
                return;
        (void)shutdown(fd, SHUT_WR);
        discard(fd, until_ms);
}
