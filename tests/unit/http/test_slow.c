/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that are slow, many, or send what is refused: others must not notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "http/limits.h"
#include "http/server.h"
#include "http/watch.h"
#include "unit/http/doubles.h"

#define CAP 64
#define TRICKLERS 200

static int start(void **state)
{
        (void)state;
        doubles_start(CAP);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        doubles_stop();
        return 0;
}

static void ask_open(void)
{
        const struct client_request q = {"GET", "/open", NULL, NULL, NULL};
        struct client_reply r = client_ask(&q);

        assert_int_equal(r.status, 200);
        client_reply_done(&r);
}

/* More clients than the cap, each with half a head: a stranger is served at once, every time. */
static void test_tricklers(void **state)
{
        int fds[TRICKLERS];
        int64_t started, slowest = 0;

        (void)state;
        for (unsigned i = 0; i < TRICKLERS; i++) {
                fds[i] = client_connect(i % 2 == 0 ? 1 : 9);
                client_send(fds[i], "GET /open HT", 12);
                if (i % 20 == 19) {
                        started = mlc_monotonic_ms();
                        ask_open();
                        if (mlc_monotonic_ms() - started > slowest)
                                slowest = mlc_monotonic_ms() - started;
                }
        }
        for (unsigned round = 0; round < 20; round++) {
                for (unsigned i = 0; i < TRICKLERS; i++)
                        client_send(fds[i], "T", 1);
                started = mlc_monotonic_ms();
                ask_open();
                if (mlc_monotonic_ms() - started > slowest)
                        slowest = mlc_monotonic_ms() - started;
        }
        for (unsigned i = 0; i < TRICKLERS; i++)
                (void)close(fds[i]);
        assert_true(slowest < 1000);
}

/* Active requests above the soft cap are told to come back; nobody is reset. */
static void test_full(void **state)
{
        static const char CREATE[] = "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n"
                                     "Authorization: Bearer contributor@a\r\n"
                                     "Content-Type: application/json\r\nContent-Length: 18\r\n\r\n"
                                     "{\"name\":\"a\",\"n\":1}";
        int fds[CAP];
        unsigned served = 0, refused = 0;

        (void)state;
        doubles.create_ms = 700;
        for (unsigned i = 0; i < CAP - 4; i++) {
                fds[i] = client_connect(1);
                client_send(fds[i], CREATE, sizeof(CREATE) - 1);
        }
        for (unsigned i = 0; i < CAP - 4; i++) {
                struct client_reply r;

                (void)client_read(fds[i], false, &r);
                served += r.status == 201;
                if (r.status == 503) {
                        refused++;
                        assert_string_equal(client_header(&r, "Retry-After"), "1");
                        assert_string_equal(client_header(&r, "Connection"), "close");
                        assert_non_null(strstr(r.body, "urn:mlctl:error:unavailable"));
                }
                client_reply_done(&r);
                (void)close(fds[i]);
        }
        assert_int_equal(served + refused, CAP - 4);
        assert_int_equal(served, CAP - CAP / 8);
        ask_open();
}

/* One address with many requests is refused while others are served. */
static void test_crowded(void **state)
{
        static const char CREATE[] = "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n"
                                     "Authorization: Bearer contributor@a\r\n"
                                     "Content-Type: application/json\r\nContent-Length: 18\r\n\r\n"
                                     "{\"name\":\"a\",\"n\":1}";
        int fds[CAP / 2 + 2];
        struct client_reply r;
        const unsigned n = CAP / 2 + 2;
        unsigned refused = 0;

        (void)state;
        doubles.create_ms = 2000;
        for (unsigned i = 0; i < n; i++) {
                fds[i] = client_connect(7);
                client_send(fds[i], CREATE, sizeof(CREATE) - 1);
                mlc_sleep_ms(5); /* its head has arrived: it does not wait any more */
        }
        ask_open();
        for (unsigned i = 0; i < n; i++) {
                assert_int_not_equal(client_read(fds[i], false, &r), 0);
                refused += r.status == 429;
                client_reply_done(&r);
                (void)close(fds[i]);
        }
        assert_int_equal(refused, 2);
        ask_open();
}

static void upload(int fd, size_t len, const char *more)
{
        char head[512];
        int n = snprintf(head, sizeof(head),
                         "POST /v2/a/b/blobs/uploads/%s HTTP/1.1\r\nHost: x\r\n"
                         "Authorization: Bearer contributor@a\r\nContent-Length: %zu\r\n\r\n",
                         more, len);

        client_send(fd, head, (size_t)n);
}

static void test_streams(void **state)
{
        static char block[1 << 20];
        int fd = client_connect(1);
        struct client_reply r;

        (void)state;
        upload(fd, sizeof(block) * 8, "");
        for (int i = 0; i < 8; i++)
                client_send(fd, block, sizeof(block));
        assert_int_equal(client_read(fd, false, &r), 201);
        client_reply_done(&r);
        assert_int_equal(doubles.upload_bytes, sizeof(block) * 8);
        upload(fd, 3, ""); /* the connection is kept */
        client_send(fd, "abc", 3);
        assert_int_equal(client_read(fd, false, &r), 201);
        client_reply_done(&r);
        (void)close(fd);
        assert_int_equal(doubles.uploads_done, 2);
        assert_int_equal(doubles.uploads_aborted, 0);
}

/* The refusal arrives although the client goes on sending for long. */
static void test_early_replies(void **state)
{
        static char block[1 << 20];
        struct client_reply r;
        int fd = client_connect(1);

        (void)state;
        upload(fd, sizeof(block) * 16, "?digest=bad");
        for (int i = 0; i < 4; i++)
                client_send(fd, block, sizeof(block));
        assert_int_equal(client_read(fd, false, &r), 400);
        assert_non_null(strstr(r.body, "DIGEST_INVALID"));
        assert_string_equal(client_header(&r, "Connection"), "close");
        client_reply_done(&r);
        (void)close(fd);
        assert_int_equal(doubles.uploads_opened, 0);

        doubles.upload_fails = true;
        fd = client_connect(1);
        upload(fd, sizeof(block) * 16, "");
        for (int i = 0; i < 4; i++)
                client_send(fd, block, sizeof(block));
        assert_int_equal(client_read(fd, false, &r), 507);
        client_reply_done(&r);
        (void)close(fd);
        for (int i = 0; i < 100 && doubles.uploads_aborted == 0; i++)
                mlc_sleep_ms(20);
        assert_int_equal(doubles.uploads_aborted, 1);
        assert_int_equal(doubles.uploads_done, 0);
}

static void test_client_goes_away(void **state)
{
        int fd = client_connect(1);

        (void)state;
        upload(fd, 1000, "");
        client_send(fd, "abc", 3);
        mlc_sleep_ms(50);
        (void)close(fd);
        for (int i = 0; i < 100 && doubles.uploads_aborted == 0; i++)
                mlc_sleep_ms(20);
        assert_int_equal(doubles.uploads_aborted, 1);
}

static void test_body_caps(void **state)
{
        static const char CHUNKED[] = "POST /api/v1/things HTTP/1.1\r\nHost: x\r\n"
                                      "Authorization: Bearer contributor@a\r\n"
                                      "Content-Type: application/json\r\n"
                                      "Transfer-Encoding: chunked\r\n\r\n";
        static char chunk[65536 + 16];
        struct client_reply r;
        int fd = client_connect(1), n;

        (void)state;
        client_send(fd, CHUNKED, sizeof(CHUNKED) - 1);
        n = snprintf(chunk, sizeof(chunk), "10000\r\n");
        memset(chunk + n, ' ', 65536);
        memcpy(chunk + n + 65536, "\r\n", 2);
        for (int i = 0; i < 20; i++)
                client_send(fd, chunk, (size_t)n + 65538);
        assert_int_equal(client_read(fd, false, &r), 413);
        assert_non_null(strstr(r.body, "larger than 1048576 bytes"));
        client_reply_done(&r);
        (void)close(fd);

        fd = client_connect(1); /* refused by its Content-Length alone, nothing was sent */
        n = snprintf(chunk, sizeof(chunk),
                     "PUT /api/v1/things/a/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                     "Authorization: Bearer admin@a\r\nContent-Length: 100001\r\n\r\n");
        client_send(fd, chunk, (size_t)n);
        assert_int_equal(client_read(fd, false, &r), 413);
        client_reply_done(&r);
        (void)close(fd);
}

/* A small refused body is read, so that the connection lives on. */
static void test_connection_survives_refusals(void **state)
{
        static const char BAD[] = "PUT /api/v1/things/a/x HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Length: 5\r\n\r\nabcde";
        static const char GOOD[] = "GET /open HTTP/1.1\r\nHost: x\r\n\r\n";
        int fd = client_connect(1);
        struct client_reply r;

        (void)state;
        for (int i = 0; i < 3; i++) {
                client_send(fd, BAD, sizeof(BAD) - 1);
                assert_int_equal(client_read(fd, false, &r), 401);
                client_reply_done(&r);
                client_send(fd, GOOD, sizeof(GOOD) - 1);
                assert_int_equal(client_read(fd, false, &r), 200);
                client_reply_done(&r);
        }
        (void)close(fd);
}

static void test_read_only_log(void **state)
{
        const struct client_request get = {"GET", "/open", NULL, NULL, NULL};
        const struct client_request put = {"PUT", "/api/v1/things/a/x", "admin@a", NULL, "x"};
        struct client_reply r;

        (void)state;
        doubles.log_read_only = true;
        r = client_ask(&put);
        assert_int_equal(r.status, 503);
        assert_non_null(strstr(r.body, "urn:mlctl:error:read-only"));
        assert_non_null(strstr(r.body, "database is older than the log"));
        assert_null(client_header(&r, "Retry-After"));
        client_reply_done(&r);
        r = client_ask(&get);
        assert_int_equal(r.status, 200);
        client_reply_done(&r);
}

/* Draining ends long polls and idle connections, and lets a request in progress finish. */
static void test_drain(void **state)
{
        static const char POLL[] = "GET /api/v1/things HTTP/1.1\r\nHost: x\r\nPrefer: wait=30\r\n"
                                   "Authorization: Bearer auditor@a\r\n\r\n";
        int polling = client_connect(1), idle = client_connect(1);
        int64_t started = mlc_monotonic_ms();
        struct client_reply r;

        (void)state;
        client_send(polling, POLL, sizeof(POLL) - 1);
        mlc_sleep_ms(100);
        http_drain(&doubles.app, 5000);
        assert_int_equal(client_read(polling, false, &r), 200);
        assert_string_equal(client_header(&r, "Connection"), "close");
        client_reply_done(&r);
        assert_int_equal(client_read(idle, false, &r), 0);
        client_reply_done(&r);
        assert_true(mlc_monotonic_ms() - started < 3000);
        (void)close(polling);
        (void)close(idle);
}

/* ---- the watch alone, with times of our own ---- */

struct pair {
        int server, client;
        struct watch_conn *c;
};

static struct pair watched(struct watch *w)
{
        struct pair p;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        p.server = fds[0];
        p.client = fds[1];
        p.c = watch_add(w, p.server, NULL);
        return p;
}

static void drop(struct watch *w, struct pair *p)
{
        watch_remove(w, p->c);
        (void)close(p->server);
        (void)close(p->client);
}

static void test_watch_head(void **state)
{
        const struct watch_limits limits = {.soft = 8, .hard = 10, .per_address = 4};
        struct watch w;
        struct pair p;
        int64_t now = mlc_monotonic_ms();

        (void)state;
        watch_init(&w, &limits);
        p = watched(&w);
        watch_sweep(&w, now + HTTP_HEAD_MS_MAX - 100);
        assert_false(p.c->cut);
        watch_sweep(&w, now + HTTP_HEAD_MS_MAX + 200);
        assert_true(p.c->cut);
        assert_int_equal(w.cut_head, 1);
        drop(&w, &p);
        watch_done(&w);
}

static void test_watch_body_rate(void **state)
{
        const struct watch_limits limits = {.soft = 8, .hard = 10, .per_address = 4};
        struct watch w;
        struct pair fast, slow, server_slow;
        int64_t now = mlc_monotonic_ms();

        (void)state;
        watch_init(&w, &limits);
        fast = watched(&w);
        slow = watched(&w);
        server_slow = watched(&w);
        assert_int_equal(watch_head(&w, fast.c), WATCH_SERVE);
        assert_int_equal(watch_head(&w, slow.c), WATCH_SERVE);
        assert_int_equal(watch_head(&w, server_slow.c), WATCH_SERVE);
        for (int s = 0; s <= 300; s++) {
                (void)atomic_fetch_add(&fast.c->received, 1030);
                (void)atomic_fetch_add(&slow.c->received, 1010);
                atomic_store(&server_slow.c->busy, s % 5 == 0);
                watch_sweep(&w, now + s * 1000);
                if (s < 60)
                        assert_false(slow.c->cut);
        }
        assert_true(slow.c->cut);
        assert_false(fast.c->cut);
        assert_false(server_slow.c->cut);
        drop(&w, &fast);
        drop(&w, &slow);
        drop(&w, &server_slow);
        watch_done(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_tricklers, start, stop),
                cmocka_unit_test_setup_teardown(test_full, start, stop),
                cmocka_unit_test_setup_teardown(test_crowded, start, stop),
                cmocka_unit_test_setup_teardown(test_streams, start, stop),
                cmocka_unit_test_setup_teardown(test_early_replies, start, stop),
                cmocka_unit_test_setup_teardown(test_client_goes_away, start, stop),
                cmocka_unit_test_setup_teardown(test_body_caps, start, stop),
                cmocka_unit_test_setup_teardown(test_connection_survives_refusals, start, stop),
                cmocka_unit_test_setup_teardown(test_read_only_log, start, stop),
                cmocka_unit_test_setup_teardown(test_drain, start, stop),
                cmocka_unit_test(test_watch_head),
                cmocka_unit_test(test_watch_body_rate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
