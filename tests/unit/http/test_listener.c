/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "unit/http/doubles.h"

static int start(void **state)
{
        (void)state;
        doubles_start(64);
        return 0;
}

static int stop(void **state)
{
        (void)state;
        doubles_stop();
        return 0;
}

struct row {
        struct client_request q;
        int status;
        const char *text; /* stands in the head or in the body */
};

#define JSON_TYPE "Content-Type: application/json\r\n"
#define CREATE(b)                                                                                  \
        {                                                                                          \
                "POST", "/api/v1/things", "contributor@a", JSON_TYPE, b                            \
        }

static const struct row TABLE[] = {
        {{"GET", "/open", NULL, NULL, NULL}, 200, "t_open"},
        {{"HEAD", "/open", NULL, NULL, NULL}, 200, "Content-Length: "},
        {{"GET", "/nowhere", NULL, NULL, NULL}, 404, "urn:mlctl:error:not-found"},
        {{"GET", "/open/", NULL, NULL, NULL}, 404, "no such path"},
        {{"DELETE", "/open", NULL, NULL, NULL}, 405, "Allow: GET, HEAD"},
        {{"DELETE", "/api/v1/things/a/x", NULL, NULL, NULL}, 405, "Allow: GET, HEAD, PUT"},
        {{"GET", "/open%", NULL, NULL, NULL}, 400, "bad % escape"},
        {{"GET", "/open%00", NULL, NULL, NULL}, 400, "control character"},
        {{"GET", "/open%ff", NULL, NULL, NULL}, 400, "not UTF-8"},
        {{"GET", "/open?x=1", NULL, NULL, NULL}, 400, "\"parameter\":\"query:x\""},
        {{"GET", "/open", NULL, NULL, "body"}, 400, "takes no body"},
        {{"GET", "/tile/0/x001/x234/067", NULL, NULL, NULL}, 200, "x001/x234/067"},
        {{"GET", "/tile/0/1", NULL, NULL, NULL}, 200, "X-Split: a  Injected: yes\r\n"},
        {{"GET", "/tile/64/1", NULL, NULL, NULL}, 400, "must be at most 63"},
        {{"GET", "/tile/0x1/1", NULL, NULL, NULL}, 400, "path:level"},
        {{"GET", "/tile/0/../1", NULL, NULL, NULL}, 404, "not-found"},

        {{"GET", "/api/v1/things", NULL, NULL, NULL}, 401, "WWW-Authenticate: Bearer"},
        {{"GET", "/api/v1/things", "auditor@a", NULL, NULL}, 200, "limit 0 (none)"},
        {{"GET", "/api/v1/things?limit=7&label=a&label=b", "auditor@a", NULL, NULL},
         200,
         "limit 7 labels 2 a"},
        {{"GET", "/api/v1/things?limit=0", "auditor@a", NULL, NULL}, 400, "must be at least 1"},
        {{"GET", "/api/v1/things?limit=1&limit=2", "auditor@a", NULL, NULL}, 400, "more than once"},
        {{"GET", "/api/v1/things?limit=+1", "auditor@a", NULL, NULL}, 400, "must be an integer"},
        {{"GET", "/api/v1/things?label=a&label=a&label=a&label=a", "auditor@a", NULL, NULL},
         400,
         "has 4 items, at most 3"},
        {{"GET", "/api/v1/things?label=%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4",
          "auditor@a", NULL, NULL},
         200,
         "labels 1"},
        {{"GET", "/api/v1/things?lim%69t=5", "auditor@a", NULL, NULL}, 200, "limit 5"},

        {{"GET", "/api/v1/things/a/x", "evaluator@a", NULL, NULL}, 200, "ETag: \"7\""},
        {{"GET", "/api/v1/things/a/x", "evaluator@b", NULL, NULL}, 404, "namespace 'a' not found"},
        {{"GET", "/api/v1/things/a/x", "evaluator@*", NULL, NULL}, 200, "t_get"},
        {{"GET", "/api/v1/things/A/x", "evaluator@*", NULL, NULL}, 400, "path:namespace"},
        {{"GET", "/api/v1/things/a/missing", "evaluator@a", NULL, NULL},
         404,
         "'missing' not found"},
        {{"GET", "/api/v1/things/a/broken", "evaluator@a", NULL, NULL},
         500,
         "its log has the details"},
        {{"GET", "/api/v1/things/a/x", "evaluator@a", "If-None-Match: W/\"7\"\r\n", NULL},
         304,
         "304"},
        {{"GET", "/api/v1/things/a/all", "auditor@*", NULL, NULL}, 200, "t_all"},
        {{"GET", "/api/v1/things/a/all", "auditor@a", NULL, NULL}, 403, "role auditor in every"},

        {{"PUT", "/api/v1/things/a/x", "contributor@a", NULL, "x"}, 403, "operator or admin"},
        {{"PUT", "/api/v1/things/a/x", "admin@a", NULL, "x"}, 428, "precondition-required"},
        {{"PUT", "/api/v1/things/a/x", "admin@a", "If-Match: \"6\"\r\n", "x"}, 412, "it is now"},
        {{"PUT", "/api/v1/things/a/x", "admin@a", "If-Match: 7\r\n", "x"},
         400,
         "\"header\":\"If-Match\""},
        {{"PUT", "/api/v1/things/a/x", "admin@a", "If-Match: \"6\", \"7\"\r\n", "bytes"},
         200,
         "bytes"},

        {CREATE("{\"name\":\"a\",\"n\":1}"), 201, "\"name\":\"a\""},
        {CREATE("{\"name\":\"a\""), 400, "line 1, column"},
        {CREATE("{\"name\":\"\xff\",\"n\":1}"), 400, "invalid"},
        {CREATE("[]"), 400, "must be a JSON object"},
        {CREATE(""), 400, "a JSON body is needed"},
        {CREATE("{\"name\":\"a\",\"n\":1,\"n\":2}"), 400, "duplicate"},
        {{"POST", "/api/v1/things", "contributor@a", "Content-Type: text/plain\r\n", "{}"},
         415,
         "must be application/json"},
        {{"POST", "/api/v1/things", "contributor@a", NULL, "{}"}, 415, "Content-Type"},
        {{"POST", "/api/v1/things", "auditor@a", JSON_TYPE, "{}"}, 403, "contributor in some"},

        {{"GET", "/v2/", NULL, NULL, NULL}, 401, "\"code\":\"UNAUTHORIZED\""},
        {{"GET", "/v2/", NULL, NULL, NULL}, 401, "WWW-Authenticate: Basic"},
        {{"GET", "/v2/", "auditor@a", NULL, NULL}, 200, "{}"},
        {{"GET", "/v2/a/blobs/x", "auditor@a", NULL, NULL}, 400, "NAME_INVALID"},
        {{"GET", "/v2/a/b/c/blobs/x", "auditor@a", NULL, NULL}, 400, "NAME_INVALID"},
        {{"GET", "/v2/a/B/blobs/x", "auditor@a", NULL, NULL}, 400, "NAME_INVALID"},
        {{"GET", "/v2/b/b/blobs/x", "auditor@a", NULL, NULL}, 404, "NAME_UNKNOWN"},
        {{"GET", "/v2/a/b/blobs/bad", "auditor@a", NULL, NULL}, 400, "DIGEST_INVALID"},
        {{"GET", "/v2/a/b/blobs/x?ns=docker.io", "auditor@a", NULL, NULL}, 200, "abcdef"},
        {{"POST", "/v2/a/b/blobs/uploads/", "auditor@a", NULL, "x"}, 403, "DENIED"},
        {{"POST", "/v2/a/b/blobs/uploads/", "contributor@a", NULL, "x"}, 201, "Location: "},
        {{"POST", "/v2/a/b/blobs/uploads/", "contributor@a", NULL, NULL}, 201, "Location: "},

        {{"GET", "/open", NULL, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", NULL},
         400,
         ""},
        {{"GET", "/open", NULL, "Authorization: a\r\nAuthorization: b\r\n", NULL},
         400,
         "more than once"},
        {{"GET", "/open", NULL, "Transfer-Encoding: gzip\r\n", NULL}, 400, ""},
        {{"GET", "/open", NULL, "Host: y\r\n", NULL}, 400, ""},
};

static void test_table(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(TABLE); i++) {
                struct client_reply r = client_ask(&TABLE[i].q);

                if (r.status != TABLE[i].status ||
                    (strstr(r.head, TABLE[i].text) == NULL &&
                     (r.body == NULL || strstr(r.body, TABLE[i].text) == NULL)))
                        fail_msg("row %zu %s %s %s: expected %d '%s', got %s%s", i,
                                 TABLE[i].q.method, TABLE[i].q.target,
                                 TABLE[i].q.headers != NULL ? TABLE[i].q.headers : "",
                                 TABLE[i].status, TABLE[i].text, r.head,
                                 r.body != NULL ? r.body : "");
                if (r.status >= 500)
                        assert_null(strstr(r.body, "hunter2"));
                client_reply_done(&r);
        }
}

#define BODY "{\"name\":\"a\",\"n\":1}"

static const struct client_request KEYED = {"POST", "/api/v1/things", "contributor@a",
                                            JSON_TYPE "Idempotency-Key: k1\r\n", BODY};

static void test_idempotency(void **state)
{
        static const struct {
                const char *headers, *token, *body;
                int status;
                unsigned long created; /* in all */
                const char *text;
        } ROWS[] = {
                {"Idempotency-Key: k1\r\n", "contributor@a", BODY, 201, 1, "\"made\":1"},
                {"Idempotency-Key: k1\r\n", "contributor@a", BODY, 201, 1,
                 "Idempotency-Replayed: true"},
                {"Idempotency-Key: k1\r\n", "contributor@a", BODY, 201, 1, "\"made\":1"},
                {"Idempotency-Key: k1\r\n", "contributor@a", "{\"name\":\"b\",\"n\":1}", 409, 1,
                 "\"header\":\"Idempotency-Key\""},
                {"Idempotency-Key: k2\r\n", "contributor@a", BODY, 201, 2, "\"made\":2"},
                {"Idempotency-Key: k1\r\n", "contributor@b", BODY, 201, 3, "\"made\":3"},
                {"", "contributor@a", BODY, 201, 4, "\"made\":4"},
                {"Idempotency-Key: \r\n", "contributor@a", BODY, 400, 4, "Idempotency-Key"},
                {"Idempotency-Key: a b\r\n", "contributor@a", BODY, 400, 4, "without blanks"},
                {"Idempotency-Key: a\r\nIdempotency-Key: b\r\n", "contributor@a", BODY, 400, 4,
                 "more than once"},
                {"Idempotency-Key: k1\r\n", "auditor@a", BODY, 403, 4, "contributor"},
                {"Idempotency-Key: k3\r\n", "contributor@a", "{}", 400, 4, "/name"},
                {"Idempotency-Key: k3\r\n", "contributor@a", BODY, 201, 5, "\"made\":5"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                char headers[256];
                struct client_request q = KEYED;
                struct client_reply r;

                (void)snprintf(headers, sizeof(headers), JSON_TYPE "%s", ROWS[i].headers);
                q.headers = headers;
                q.token = ROWS[i].token;
                q.body = ROWS[i].body;
                r = client_ask(&q);
                if (r.status != ROWS[i].status || doubles.created != ROWS[i].created ||
                    (strstr(r.head, ROWS[i].text) == NULL && strstr(r.body, ROWS[i].text) == NULL))
                        fail_msg("row %zu: %lu made, %s%s", i, (unsigned long)doubles.created,
                                 r.head, r.body);
                client_reply_done(&r);
        }
}

/* The same request twice at once: one of them commits, both get its reply. */
static void test_idempotency_race(void **state)
{
        int fds[8];
        char request[512];
        int n = snprintf(request, sizeof(request),
                         "POST /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n"
                         "Authorization: Bearer contributor@a\r\n%s\r\n" BODY,
                         KEYED.headers);
        char first[128] = "";

        (void)state;
        doubles.create_ms = 300;
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
                fds[i] = client_connect(1);
                client_send(fds[i], request, (size_t)n);
        }
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
                struct client_reply r;

                assert_int_equal(client_read(fds[i], false, &r), 201);
                if (first[0] == '\0')
                        (void)snprintf(first, sizeof(first), "%s", r.body);
                assert_string_equal(r.body, first);
                client_reply_done(&r);
                (void)close(fds[i]);
        }
        assert_true(doubles.created > 1); /* they did race */
}

static void test_public(void **state)
{
        const struct client_request q = {"GET", "/api/v1/things/a/all", NULL, NULL, NULL};
        struct client_reply r = client_ask(&q);

        (void)state;
        assert_int_equal(r.status, 401);
        client_reply_done(&r);
        doubles.app.config.public_log = true;
        r = client_ask(&q);
        assert_int_equal(r.status, 200);
        client_reply_done(&r);
}

/* Every reply has the headers that browsers and caches go by, and a trace id. */
static void test_reply_headers(void **state)
{
        const struct client_request q = {"GET", "/nowhere", NULL, NULL, NULL};
        struct client_reply r = client_ask(&q);

        (void)state;
        assert_string_equal(client_header(&r, "Cache-Control"), "no-store");
        assert_string_equal(client_header(&r, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(client_header(&r, "Content-Type"), "application/problem+json");
        assert_non_null(strstr(r.body, client_header(&r, "X-Trace-Id")));
        client_reply_done(&r);
}

static void test_ranges(void **state)
{
        static const struct {
                const char *range, *method;
                int status;
                const char *content_range;
                size_t len;
        } ROWS[] = {
                {"", "GET", 200, NULL, 2048},
                {"Range: bytes=500-1499\r\n", "GET", 206, "bytes 500-1499/2048", 1000},
                {"Range: bytes=500-0\r\n", "GET", 416, "bytes */2048", 0},
                {"Range: bytes=5000-10000\r\n", "GET", 416, "bytes */2048", 0},
                {"Range: bytes=-500\r\n", "HEAD", 206, "bytes 1548-2047/2048", 0},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                const struct client_request q = {ROWS[i].method, "/v2/a/b/blobs/x", "auditor@a",
                                                 ROWS[i].range, NULL};
                struct client_reply r = client_ask(&q);

                assert_int_equal(r.status, ROWS[i].status);
                if (ROWS[i].content_range != NULL)
                        assert_string_equal(client_header(&r, "Content-Range"),
                                            ROWS[i].content_range);
                if (ROWS[i].len > 0)
                        assert_int_equal(r.len, ROWS[i].len);
                if (r.status == 206 && ROWS[i].len > 0)
                        assert_int_equal(r.body[0], 'a' + 500 % 26);
                assert_string_equal(client_header(&r, "Accept-Ranges"), "bytes");
                client_reply_done(&r);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_idempotency, start, stop),
                cmocka_unit_test_setup_teardown(test_idempotency_race, start, stop),
                cmocka_unit_test_setup_teardown(test_public, start, stop),
                cmocka_unit_test_setup_teardown(test_reply_headers, start, stop),
                cmocka_unit_test_setup_teardown(test_ranges, start, stop),
                cmocka_unit_test_setup_teardown(test_table, start, stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
