/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-load PORT CLIENTS SECONDS PATH ACKS: moves aliases as fast as CLIENTS connections on
 * loopback let it. The token comes from the environment (TOKEN). Client i moves the alias PATH i
 * between versions 1 and 2, by compare-and-set on a connection that is kept; each must name version
 * 1 at first, and does at the end. One thread: it waits far more than it works. ACKS gets one line
 * for each reply 200: client, monotonic nanoseconds. One line of JSON on standard output.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define SAMPLES_MAX (1u << 20)
#define REPLY_MAX 8192

struct client {
        int fd;
        unsigned id;
        unsigned now; /* the version that the alias names */
        int64_t sent_ns;
        size_t len;
        char reply[REPLY_MAX];
};

struct load {
        const char *path, *token;
        int epoll;
        unsigned running;
        int64_t end_ns;
        FILE *acks;
        unsigned n, failed;
        int64_t latency_ns[SAMPLES_MAX];
};

static void fail(const char *what)
{
        perror(what);
        exit(1);
}

static int64_t now_ns(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void send_move(const struct load *l, struct client *c)
{
        char text[1024];
        int n = snprintf(text, sizeof(text),
                         "PUT %s%u HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n"
                         "If-Match: \"%u\"\r\nContent-Type: application/json\r\n"
                         "Content-Length: 13\r\n\r\n{\"version\":%u}",
                         l->path, c->id, l->token, c->now, 3 - c->now);

        if (n < 0 || n >= (int)sizeof(text))
                fail("request");
        c->len = 0;
        c->sent_ns = now_ns();
        if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
                fail("send");
}

static void open_client(struct load *l, struct client *c, unsigned id, unsigned port)
{
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        int on = 1;

        c->id = id;
        c->now = 1;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                fail("connect");
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
                fail("epoll_ctl");
}

/* Whether the reply is whole; its length is given, never chunked. */
static bool whole(const struct client *c)
{
        const char *body = strstr(c->reply, "\r\n\r\n"), *length;

        if (body == NULL)
                return false;
        length = strcasestr(c->reply, "\r\nContent-Length:");
        if (length == NULL || length > body)
                fail("a reply without length");
        return c->len >= (size_t)(body + 4 - c->reply) + strtoul(length + 17, NULL, 10);
}

static void take_reply(struct load *l, struct client *c)
{
        int64_t at = now_ns();

        if (strncmp(c->reply, "HTTP/1.1 200", 12) == 0) {
                if (l->n == SAMPLES_MAX)
                        fail("too many samples");
                l->latency_ns[l->n++] = at - c->sent_ns;
                (void)fprintf(l->acks, "%u %lld\n", c->id, (long long)at);
                c->now = 3 - c->now;
        } else if (l->failed++ == 0) {
                (void)fprintf(stderr, "%s\n", c->reply);
        }
        /* every client ends where it began, so that another run can follow */
        if (at < l->end_ns || (c->now != 1 && l->failed == 0))
                send_move(l, c);
        else
                l->running--;
}

static void on_readable(struct load *l, struct client *c)
{
        ssize_t n = recv(c->fd, c->reply + c->len, sizeof(c->reply) - 1 - c->len, 0);

        if (n <= 0)
                fail("the server closed a connection");
        c->len += (size_t)n;
        c->reply[c->len] = '\0';
        if (whole(c))
                take_reply(l, c);
}

static int by_value(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static double percentile_ms(const struct load *l, double p)
{
        return l->n == 0 ? 0 : (double)l->latency_ns[(size_t)(p * (l->n - 1))] / 1e6;
}

int main(int argc, char **argv)
{
        static struct client clients[CLIENTS_MAX];
        static struct load l;
        struct epoll_event events[CLIENTS_MAX];
        int64_t start;
        double seconds;

        if (argc != 6 || getenv("TOKEN") == NULL)
                return 2;
        l.running = (unsigned)strtoul(argv[2], NULL, 10);
        if (l.running < 1 || l.running > CLIENTS_MAX)
                return 2;
        l.path = argv[4];
        l.token = getenv("TOKEN");
        l.acks = fopen(argv[5], "we");
        l.epoll = epoll_create1(EPOLL_CLOEXEC);
        if (l.acks == NULL || l.epoll < 0)
                fail(argv[5]);
        for (unsigned i = 0; i < l.running; i++)
                open_client(&l, &clients[i], i, (unsigned)strtoul(argv[1], NULL, 10));
        start = now_ns();
        l.end_ns = start + (int64_t)(1e9 * strtod(argv[3], NULL));
        for (unsigned i = 0, n = l.running; i < n; i++)
                send_move(&l, &clients[i]);
        while (l.running > 0) {
                int n = epoll_wait(l.epoll, events, CLIENTS_MAX, 10000);

                if (n <= 0)
                        fail("no reply within 10 s");
                for (int i = 0; i < n; i++)
                        on_readable(&l, events[i].data.ptr);
        }
        seconds = (double)(now_ns() - start) / 1e9;
        qsort(l.latency_ns, l.n, sizeof(l.latency_ns[0]), by_value);
        (void)printf("{\"requests\":%u,\"failed\":%u,\"seconds\":%.6f,\"rate\":%.3f,"
                     "\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n",
                     l.n, l.failed, seconds, l.n / seconds, percentile_ms(&l, 0.5),
                     percentile_ms(&l, 0.99));
        return fclose(l.acks) == 0 && l.failed == 0 ? 0 : 1;
}
