/* SPDX-License-Identifier: Apache-2.0 */
#include "client/call.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"

static void test_host_and_port(void **state)
{
        static const struct {
                const char *url, *want; /* NULL: refused */
        } cases[] = {
                {"http://Example.TEST", "example.test:80"},
                {"https://example.test/a/b?c=d", "example.test:443"},
                {"http://127.0.0.1:8081/", "127.0.0.1:8081"},
                {"HTTP://[::1]:99", "[::1]:99"},
                {"http://0x7f.1:1", "127.0.0.1:1"},
                {"ftp://example.test", NULL},
                {"file:///etc/passwd", NULL},
                {"example.test:80", NULL},
                {"http://", NULL},
                {"http://user@example.test", NULL},
                {"http://user:word@127.0.0.1:1", NULL},
                {"http://example.test/#x", NULL},
                {"http://exa mple.test", NULL},
                {"http://example.test/\r\nX: y", NULL},
                {"http://127.0.0.1\\@evil.test/", NULL},
                {"http://example.test:70000", NULL},
                {"http://\xc3\xa4.test", NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char got[MLC_HOST_PORT_MAX] = "untouched";
                struct mlc_err err = {0};
                int r = mlc_url_host_port(cases[i].url, got, &err);

                if (cases[i].want == NULL) {
                        if (r != MLC_E_INVALID)
                                fail_msg("'%s' is taken as '%s'", cases[i].url, got);
                        assert_string_equal(got, "untouched");
                } else {
                        assert_int_equal(r, 0);
                        assert_string_equal(got, cases[i].want);
                }
        }
}

static void test_where_it_leads(void **state)
{
        (void)state;
        assert_true(mlc_url_leads_to("http://localhost:8081/x", "127.0.0.1:8081"));
        assert_true(mlc_url_leads_to("http://[::1]:8081", "[::1]:8081"));
        assert_true(mlc_url_leads_to("http://127.0.0.1", "127.0.0.1:80"));
        assert_false(mlc_url_leads_to("http://localhost:8081", "127.0.0.1:8082"));
        assert_false(mlc_url_leads_to("http://localhost:8081", "127.0.0.9:8081"));
        assert_false(mlc_url_leads_to("http://localhost:8081", ""));
        assert_false(mlc_url_leads_to("http://no-such-name.invalid:1", "127.0.0.1:1"));
        assert_false(mlc_url_leads_to("ftp://localhost", "127.0.0.1:21"));
}

static void test_egress(void **state)
{
        static const char *const allow[] = {"Models.example:8080", "[2001:db8::1]:80"};
        static const struct {
                const char *url;
                size_t n_allow;
                int want;
                bool loopback;
        } cases[] = {
                {"http://localhost:1", 0, 0, true},
                {"http://127.9.9.9:1/x", 0, 0, true},
                {"http://[::1]:1", 0, 0, true},
                {"http://localhost.evil.test:1", 0, MLC_E_FORBIDDEN, false},
                {"http://127.0.0.1.evil.test:1", 0, MLC_E_FORBIDDEN, false},
                {"http://128.0.0.1:1", 0, MLC_E_FORBIDDEN, false},
                {"http://169.254.169.254/latest", 0, MLC_E_FORBIDDEN, false},
                {"http://models.example:8080", 0, MLC_E_FORBIDDEN, false},
                {"http://models.EXAMPLE:8080/v2", 2, 0, false},
                {"http://[2001:db8::1]/", 2, 0, false},
                {"http://models.example:8081", 2, MLC_E_FORBIDDEN, false},
                {"http://127.0.0.1:8080", 2, MLC_E_FORBIDDEN, false},
                {"gopher://models.example:8080", 2, MLC_E_INVALID, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct mlc_err err = {0};
                bool loopback = false;

                if (mlc_egress_check(allow, cases[i].n_allow, cases[i].url, &loopback, &err) !=
                    cases[i].want)
                        fail_msg("'%s': %s", cases[i].url, err.msg);
                assert_int_equal(loopback, cases[i].loopback);
        }
}

static void test_egress_entries(void **state)
{
        static const char *const good[] = {"a:1", "models.example:65535", "10.0.0.1:80",
                                           "[::1]:8080", "A.Example:80"};
        static const char *const bad[] = {"",      "a",        "a:",     "a:0",     "a:65536",
                                          "*:80",  "a:80/x",   "u@a:80", "::1:80",  "a b:80",
                                          "a:+80", "http:80 ", "a:80,b", "010.1:80"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                struct mlc_err err = {0};

                assert_int_equal(mlc_egress_entry_check(good[i], &err), 0);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct mlc_err err = {0};

                if (mlc_egress_entry_check(bad[i], &err) != MLC_E_USAGE)
                        fail_msg("'%s' is taken", bad[i]);
        }
}

/* Answers one connection with fixed bytes, after having read a head. */
struct canned {
        int fd;
        const char *reply;
        char request[4096];
        pthread_t thread;
};

static void *serve(void *userdata)
{
        struct canned *c = userdata;
        int fd = accept(c->fd, NULL, NULL);
        size_t n = 0;

        while (n < sizeof(c->request) - 1) {
                ssize_t k = read(fd, c->request + n, sizeof(c->request) - 1 - n);

                if (k <= 0)
                        break;
                n += (size_t)k;
                c->request[n] = '\0';
                if (strstr(c->request, "\r\n\r\n") != NULL)
                        break;
        }
        (void)!write(fd, c->reply, strlen(c->reply));
        (void)close(fd);
        return NULL;
}

static void listen_unix(struct canned *c, const char *path, const char *reply)
{
        struct sockaddr_un sa = {.sun_family = AF_UNIX};

        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
        *c = (struct canned){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), .reply = reply};
        (void)unlink(path);
        assert_int_equal(bind(c->fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(listen(c->fd, 1), 0);
        assert_int_equal(pthread_create(&c->thread, NULL, serve, c), 0);
}

static int call_unix(const char *path, const char *reply, struct canned *c, struct mlc_reply *ret,
                     struct mlc_err *err)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        static const char *const headers[] = {"X-One: 1", NULL};
        const struct mlc_call call = {.method = "PUT",
                                      .url = "http://gateway/v1/table",
                                      .unix_socket = path,
                                      .headers = headers,
                                      .body = "{}",
                                      .body_len = 2,
                                      .timeout_ms = 5000,
                                      .reply_max = 64,
                                      .loopback_only = true};
        int r;

        listen_unix(c, path, reply);
        mlc_caller_new(&caller);
        r = mlc_call(caller, &call, ret, err);
        (void)pthread_join(c->thread, NULL);
        (void)close(c->fd);
        return r;
}

static void test_replies(void **state)
{
        static const struct {
                const char *reply;
                int want; /* negative: error */
                const char *body;
        } cases[] = {
                {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
                {"HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n", 409, ""},
                {"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
                 302, ""},
                {"HTTP/1.1 100 Continue\r\nX-A: no\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
                 "\r\nx",
                 200, "x"},
                {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", MLC_E_UNREACHABLE, NULL},
                {"HTTP/1.1 200 OK\r\nContent-Length: 66\r\n\r\n"
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                 MLC_E_LIMIT, NULL},
                {"SSH-2.0-OpenSSH_9.2\r\n", MLC_E_UNREACHABLE, NULL},
                {"", MLC_E_UNREACHABLE, NULL},
        };
        char dir[] = "/tmp/mlctl-call-XXXXXX", path[64];

        (void)state;
        assert_non_null(mkdtemp(dir));
        (void)snprintf(path, sizeof(path), "%s/s", dir);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct canned c;
                struct mlc_reply reply = {0};
                struct mlc_err err = {0};
                int r = call_unix(path, cases[i].reply, &c, &reply, &err);

                if (cases[i].want < 0) {
                        if (r != cases[i].want)
                                fail_msg("case %zu: %d %s", i, r, err.msg);
                        assert_null(reply.body.data);
                        continue;
                }
                assert_int_equal(r, 0);
                assert_int_equal(reply.status, cases[i].want);
                assert_string_equal(mlc_str_cstr(&reply.body), cases[i].body);
                assert_non_null(strstr(c.request, "PUT /v1/table HTTP/1.1\r\n"));
                assert_non_null(strstr(c.request, "X-One: 1\r\n"));
                assert_non_null(strstr(c.request, "Content-Type: application/json\r\n"));
                assert_null(strstr(c.request, "Authorization"));
                mlc_reply_done(&reply);
        }
        (void)unlink(path);
        (void)rmdir(dir);
}

static void test_headers(void **state)
{
        char dir[] = "/tmp/mlctl-call-XXXXXX", path[64], value[8] = "";
        struct canned c;
        struct mlc_reply reply = {0};
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(mkdtemp(dir));
        (void)snprintf(path, sizeof(path), "%s/s", dir);
        assert_int_equal(call_unix(path,
                                   "HTTP/1.1 200 OK\r\nX-Longer: a\r\nX-LONG: \t 1234567 \r\n"
                                   "X-Empty:\r\nContent-Length: 0\r\n\r\n",
                                   &c, &reply, &err),
                         0);
        assert_true(mlc_reply_header(&reply, "x-long", value, sizeof(value)));
        assert_string_equal(value, "1234567");
        assert_true(mlc_reply_header(&reply, "x-empty", value, sizeof(value)));
        assert_string_equal(value, "");
        assert_false(mlc_reply_header(&reply, "x-long", value, 7));
        assert_false(mlc_reply_header(&reply, "x-lon", value, sizeof(value)));
        mlc_reply_done(&reply);
        (void)unlink(path);
        (void)rmdir(dir);
}

/* A name that means another machine is of no use when only this one is allowed. */
static void test_only_this_machine(void **state)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        struct mlc_call call = {.method = "GET",
                                .url = "http://192.0.2.1:1/",
                                .timeout_ms = 3000,
                                .loopback_only = true};
        struct mlc_reply reply;
        struct mlc_err err = {0};

        (void)state;
        mlc_caller_new(&caller);
        assert_int_equal(mlc_call(caller, &call, &reply, &err), MLC_E_FORBIDDEN);
        mlc_err_clear(&err);
        call.url = "http://127.0.0.1:1/"; /* nobody is there, but it may be asked */
        assert_int_equal(mlc_call(caller, &call, &reply, &err), MLC_E_UNREACHABLE);
        mlc_err_clear(&err);
        call.timeout_ms = 0;
        assert_int_equal(mlc_call(caller, &call, &reply, &err), MLC_E_TIMEOUT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_host_and_port),
                cmocka_unit_test(test_where_it_leads),
                cmocka_unit_test(test_egress),
                cmocka_unit_test(test_egress_entries),
                cmocka_unit_test(test_replies),
                cmocka_unit_test(test_headers),
                cmocka_unit_test(test_only_this_machine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
