/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "http/sink.h"

static void count(void *userdata, const char *path, const char *body, size_t len)
{
        (void)path;
        (void)body;
        (void)len;
        (void)__atomic_fetch_add((int *)userdata, 1, __ATOMIC_SEQ_CST);
}

static struct http_sink *start(int *taken, uint16_t *ret_port)
{
        const struct http_sink_in in = {.where = "127.0.0.1:0",
                                        .body_max = 100,
                                        .take = count,
                                        .userdata = taken,
                                        .not_with = "X-Ours"};
        char address[SINK_ADDRESS_MAX];
        struct http_sink *s = NULL;
        struct mlc_err err = {0};

        assert_int_equal(http_sink_start(&in, &s, address, &err), 0);
        *ret_port = (uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10);
        return s;
}

/* A connection from 127.0.0.`from`. */
static int dial(unsigned from, uint16_t port)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000000U + from)}};
        struct timeval patience = {.tv_sec = 5};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.sin_port = htons(port);
        assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
        return fd;
}

/* Whether it was answered, which takes a head and nothing more. */
static bool ask(int fd, const char *header)
{
        char request[256], answer[512] = "";
        size_t have = 0;

        (void)snprintf(request, sizeof(request),
                       "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n%sContent-Length: 2\r\n"
                       "\r\n{}",
                       header);
        if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
                return false;
        while (strstr(answer, "\r\n\r\n") == NULL) {
                ssize_t n = recv(fd, answer + have, sizeof(answer) - 1 - have, 0);

                if (n <= 0)
                        return false;
                have += (size_t)n;
        }
        assert_memory_equal(answer, "HTTP/1.1 204", 12);
        return true;
}

static void requests_of_ours_are_not_handed_on(void **state)
{
        int taken = 0, fd;
        uint16_t port;
        struct http_sink *s = start(&taken, &port);

        (void)state;
        fd = dial(1, port);
        assert_true(ask(fd, ""));
        assert_true(ask(fd, "x-ours: 1\r\n"));
        assert_true(ask(fd, "X-Ours: \r\n"));
        assert_true(ask(fd, "X-Others: 1\r\n"));
        assert_int_equal(__atomic_load_n(&taken, __ATOMIC_SEQ_CST), 2);
        (void)close(fd);
        http_sink_stop(s);
}

static void one_address_leaves_room_for_others(void **state)
{
        int fds[SINK_ADDRESS_CONNECTIONS_MAX + 1], taken = 0, fd;
        uint16_t port;
        struct http_sink *s = start(&taken, &port);

        (void)state;
        for (size_t i = 0; i < SINK_ADDRESS_CONNECTIONS_MAX; i++) {
                fds[i] = dial(2, port);
                assert_true(ask(fds[i], ""));
        }
        fds[SINK_ADDRESS_CONNECTIONS_MAX] = dial(2, port);
        assert_false(ask(fds[SINK_ADDRESS_CONNECTIONS_MAX], ""));
        fd = dial(3, port);
        assert_true(ask(fd, ""));
        (void)close(fd);
        for (size_t i = 0; i <= SINK_ADDRESS_CONNECTIONS_MAX; i++)
                (void)close(fds[i]);
        http_sink_stop(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_of_ours_are_not_handed_on),
                cmocka_unit_test(one_address_leaves_room_for_others),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
