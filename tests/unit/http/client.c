/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "http/server.h"
#include "unit/http/doubles.h"

#define WAIT_MS 20000

int client_connect(unsigned n)
{
        const char *port = strrchr(http_address(&doubles.app), ':') + 1;
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
        struct sockaddr_in from = {.sin_family = AF_INET};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

        assert(fd >= 0);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        from.sin_addr.s_addr = htonl(0x7f000000 + n);
        assert(bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0);
        assert(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        return fd;
}

void client_send(int fd, const char *text, size_t len)
{
        while (len > 0) {
                ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

                if (n <= 0)
                        return; /* the server closed; what it said before is still to be read */
                text += n;
                len -= (size_t)n;
        }
}

/* -1 at the end of the stream or when nothing came for long. */
static int next_byte(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        unsigned char c;

        if (poll(&p, 1, WAIT_MS) <= 0 || recv(fd, &c, 1, 0) != 1)
                return -1;
        return c;
}

int client_read(int fd, bool head_only, struct client_reply *ret)
{
        const char *value;
        size_t n = 0;
        int c;

        *ret = (struct client_reply){0};
        while (n < sizeof(ret->head) - 1 && (c = next_byte(fd)) >= 0) {
                ret->head[n++] = (char)c;
                if (n >= 4 && memcmp(ret->head + n - 4, "\r\n\r\n", 4) == 0)
                        break;
        }
        if (n < 12 || strncmp(ret->head, "HTTP/1.1 ", 9) != 0)
                return 0;
        ret->status = (int)strtol(ret->head + 9, NULL, 10);
        if (ret->status == 100)
                return client_read(fd, head_only, ret);
        value = client_header(ret, "Content-Length");
        ret->len = value != NULL && !head_only ? strtoul(value, NULL, 10) : 0;
        ret->body = calloc(1, ret->len + 1);
        for (size_t i = 0; i < ret->len; i++) {
                c = next_byte(fd);
                if (c < 0)
                        return 0;
                ret->body[i] = (char)c;
        }
        return ret->status;
}

void client_reply_done(struct client_reply *r)
{
        free(r->body);
        r->body = NULL;
}

const char *client_header(const struct client_reply *r, const char *name)
{
        static char value[1024];

        for (const char *line = strstr(r->head, "\r\n"); line != NULL && line[2] != '\r';
             line = strstr(line + 2, "\r\n")) {
                size_t n = strlen(name);

                if (strncasecmp(line + 2, name, n) != 0 || line[2 + n] != ':')
                        continue;
                (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(line + n + 4, "\r"),
                               line + n + 4);
                return value;
        }
        return NULL;
}

struct client_reply client_ask(const struct client_request *q)
{
        int fd = client_connect(1);
        struct client_reply r;
        char head[16384];
        int n = snprintf(head, sizeof(head), "%s %s HTTP/1.1\r\nHost: x\r\n%s%s%s%s", q->method,
                         q->target, q->token != NULL ? "Authorization: Bearer " : "",
                         q->token != NULL ? q->token : "", q->token != NULL ? "\r\n" : "",
                         q->headers != NULL ? q->headers : "");

        assert(n > 0 && (size_t)n < sizeof(head) - 64);
        if (q->body != NULL)
                n += snprintf(head + n, sizeof(head) - (size_t)n, "Content-Length: %zu\r\n",
                              strlen(q->body));
        n += snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
        client_send(fd, head, (size_t)n);
        if (q->body != NULL)
                client_send(fd, q->body, strlen(q->body));
        (void)client_read(fd, strcmp(q->method, "HEAD") == 0, &r);
        (void)close(fd);
        return r;
}
