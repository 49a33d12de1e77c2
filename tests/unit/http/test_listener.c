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

static const struct row ROWS[] = {
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
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                struct client_reply r = client_ask(&ROWS[i].q);

                if (r.status != ROWS[i].status ||
                    (strstr(r.head, ROWS[i].text) == NULL &&
                     (r.body == NULL || strstr(r.body, ROWS[i].text) == NULL)))
                        fail_msg("row %zu %s %s %s: expected %d '%s', got %s%s", i,
                                 ROWS[i].q.method, ROWS[i].q.target,
                                 ROWS[i].q.headers != NULL ? ROWS[i].q.headers : "", ROWS[i].status,
                                 ROWS[i].text, r.head, r.body != NULL ? r.body : "");
                if (r.status >= 500)
                        assert_null(strstr(r.body, "hunter2"));
                client_reply_done(&r);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_table, start, stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
