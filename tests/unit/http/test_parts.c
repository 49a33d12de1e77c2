/* SPDX-License-Identifier: Apache-2.0 */
/* Cursors, entity tags, ranges and problem documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "http/cursor.h"
#include "http/etag.h"
#include "http/problem.h"
#include "http/range.h"

static void test_cursor(void **state)
{
        const struct cursor_key key = {{1, 2, 3}}, other = {{1, 2, 4}};
        _cleanup_(json_decref_p) json_t *keys = json_pack("[s, I]", "fraud/scorer", (json_int_t)7);
        _cleanup_(mlc_str_done) struct mlc_str text;
        json_t *back = NULL;

        (void)state;
        mlc_str_init(&text, CURSOR_MAX);
        assert_int_equal(cursor_encode(&key, "model_list", keys, &text), 0);
        assert_int_equal(strcspn(text.data, "+/= "), text.len);
        assert_int_equal(cursor_decode(&key, "model_list", text.data, &back), 0);
        assert_true(json_equal(back, keys));
        json_decref(back);
        assert_int_equal(cursor_decode(&key, "user_list", text.data, &back), MLC_E_INVALID);
        assert_int_equal(cursor_decode(&other, "model_list", text.data, &back), MLC_E_INVALID);
        for (size_t i = 0; i < text.len; i++) { /* any changed character is noticed */
                char was = text.data[i];

                text.data[i] = was == 'A' ? 'B' : 'A';
                assert_int_equal(cursor_decode(&key, "model_list", text.data, &back),
                                 MLC_E_INVALID);
                text.data[i] = was;
        }
        assert_int_equal(cursor_decode(&key, "model_list", "", &back), MLC_E_INVALID);
        assert_int_equal(cursor_decode(&key, "model_list", ".", &back), MLC_E_INVALID);
        text.data[text.len - 1] = '\0';
        assert_int_equal(cursor_decode(&key, "model_list", text.data, &back), MLC_E_INVALID);
}

static void test_cursor_has_a_limit(void **state)
{
        const struct cursor_key key = {{0}};
        _cleanup_(json_decref_p) json_t *keys = json_array();
        _cleanup_(mlc_str_done) struct mlc_str text;

        (void)state;
        for (int i = 0; i < 200; i++)
                (void)json_array_append_new(keys, json_string("abc"));
        mlc_str_init(&text, CURSOR_MAX);
        assert_int_equal(cursor_encode(&key, "x", keys, &text), MLC_E_LIMIT);
}

static void test_etag(void **state)
{
        static const struct {
                const char *list;
                bool valid, strong, weak; /* against "7" */
        } ROWS[] = {
                {"\"7\"", true, true, true},
                {"*", true, true, true},
                {" * ", false, false, false},
                {"\"6\", \"7\"", true, true, true},
                {"\"6\",\"77\"", true, false, false},
                {"W/\"7\"", true, false, true},
                {"w/\"7\"", false, false, false},
                {"7", false, false, false},
                {"", false, false, false},
                {"\"7", false, false, false},
                {"\"7\" x", false, true, true},
                {"\"\"", true, false, false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                if (etag_list_valid(ROWS[i].list) != ROWS[i].valid ||
                    etag_list_has(ROWS[i].list, "7", false) != ROWS[i].strong ||
                    etag_list_has(ROWS[i].list, "7", true) != ROWS[i].weak)
                        fail_msg("%s", ROWS[i].list);
                assert_false(etag_list_has(ROWS[i].list, NULL, true));
        }
}

/* The table of the OCI conformance suite first (a blob of 2048 bytes), then RFC 9110, 14.1.2. */
static void test_range(void **state)
{
        static const struct {
                const char *range;
                uint64_t size;
                int result;
                uint64_t off, len;
        } ROWS[] = {
                {"bytes=500-1499", 2048, 1, 500, 1000},
                {"bytes=500-", 2048, 1, 500, 1548},
                {"bytes=-500", 2048, 1, 1548, 500},
                {"bytes=2000-5000", 2048, 1, 2000, 48},
                {"bytes=500-0", 2048, MLC_E_RANGE, 0, 0},
                {"bytes=5000-10000", 2048, MLC_E_RANGE, 0, 0},
                {NULL, 2048, 0, 0, 0},
                {"bytes=0-0", 2048, 1, 0, 1},
                {"bytes=0-2047", 2048, 1, 0, 2048},
                {"bytes=2047-2047", 2048, 1, 2047, 1},
                {"bytes=2048-", 2048, MLC_E_RANGE, 0, 0},
                {"bytes=2048-2048", 2048, MLC_E_RANGE, 0, 0},
                {"bytes=-0", 2048, MLC_E_RANGE, 0, 0},
                {"bytes=-5000", 2048, 1, 0, 2048},
                {"bytes=0-", 0, MLC_E_RANGE, 0, 0},
                {"bytes=-1", 0, MLC_E_RANGE, 0, 0},
                {"bytes=0-99999999999999999999", 2048, 1, 0, 2048},
                {"bytes=99999999999999999999-", 2048, MLC_E_RANGE, 0, 0},
                {"Bytes=1-2", 2048, 1, 1, 2},
                {"bytes=0-1,3-4", 2048, 0, 0, 0},
                {"bytes=", 2048, 0, 0, 0},
                {"bytes=-", 2048, 0, 0, 0},
                {"bytes=a-b", 2048, 0, 0, 0},
                {"bytes=1-2x", 2048, 0, 0, 0},
                {"bytes= 1-2", 2048, 0, 0, 0},
                {"items=1-2", 2048, 0, 0, 0},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                uint64_t off = 0, len = 0;
                int r = range_parse(ROWS[i].range, ROWS[i].size, &off, &len);

                if (r != ROWS[i].result || off != ROWS[i].off || len != ROWS[i].len)
                        fail_msg("%s: %d %llu %llu", ROWS[i].range, r, (unsigned long long)off,
                                 (unsigned long long)len);
        }
}

static void test_problem(void **state)
{
        static const struct {
                int code;
                const char *field, *want; /* the document's errors member, or NULL */
        } ROWS[] = {
                {MLC_E_INVALID, "/labels/tier",
                 "{\"pointer\":\"/labels/tier\",\"detail\":\"why\"}"},
                {MLC_E_INVALID, "query:limit",
                 "{\"parameter\":\"query:limit\",\"detail\":\"why\"}"},
                {MLC_E_INVALID, "path:model", "{\"parameter\":\"path:model\",\"detail\":\"why\"}"},
                {MLC_E_PRECONDITION, "header:If-Match",
                 "{\"header\":\"If-Match\",\"detail\":\"why\"}"},
                {MLC_E_CONFLICT, "alias_version_fk", NULL},
                {MLC_E_NOT_FOUND, "", NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                struct mlc_err err = {0};
                _cleanup_(json_decref_p) json_t *doc = NULL, *want = NULL;
                const json_t *errors;
                char type[80];

                (void)mlc_fail_field(&err, ROWS[i].code, ROWS[i].field, "why");
                doc = problem_json(&err, "0123");
                (void)snprintf(type, sizeof(type), "urn:mlctl:error:%s", mlc_error_slug(err.code));
                assert_string_equal(json_string_value(json_object_get(doc, "type")), type);
                assert_int_equal(json_integer_value(json_object_get(doc, "status")),
                                 mlc_error_status(err.code));
                assert_string_equal(json_string_value(json_object_get(doc, "instance")), "0123");
                assert_string_equal(json_string_value(json_object_get(doc, "detail")), "why");
                errors = json_object_get(doc, "errors");
                assert_int_equal(json_array_size(errors), ROWS[i].want != NULL);
                if (ROWS[i].want != NULL) {
                        want = json_loads(ROWS[i].want, 0, NULL);
                        assert_true(json_equal(json_array_get(errors, 0), want));
                }
        }
}

static void test_problem_hides_what_failed(void **state)
{
        static const int CODES[] = {MLC_E_INTERNAL, MLC_E_IO};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(CODES); i++) {
                struct mlc_err err = {0};
                _cleanup_(json_decref_p) json_t *doc = NULL, *oci = NULL;
                _cleanup_(free_p) char *text = NULL, *oci_text = NULL;

                (void)mlc_fail(&err, CODES[i], "opening '/srv/secret': denied");
                doc = problem_json(&err, "01");
                oci = problem_oci_json(&err, "/v2/a/b/blobs/x", "01");
                text = json_dumps(doc, 0);
                oci_text = json_dumps(oci, 0);
                assert_null(strstr(text, "secret"));
                assert_null(strstr(oci_text, "secret"));
        }
}

static void test_problem_with_bytes(void **state)
{
        struct mlc_err err = {0};
        _cleanup_(json_decref_p) json_t *doc = NULL, *oci = NULL;

        (void)state;
        (void)mlc_fail_field(&err, MLC_E_INVALID, "query:\xff", "bad \xff byte");
        doc = problem_json(&err, "01");
        oci = problem_oci_json(&err, "/v2/", "01");
        assert_non_null(json_object_get(doc, "detail"));
        assert_non_null(json_object_get(oci, "errors"));
}

static void test_oci_codes(void **state)
{
        static const struct {
                int code;
                const char *field, *path, *want;
        } ROWS[] = {
                {MLC_E_NOT_FOUND, "oci:BLOB_UNKNOWN", "/v2/a/b/blobs/x", "BLOB_UNKNOWN"},
                {MLC_E_INVALID, "path:model", "/v2/a/B/blobs/x", "NAME_INVALID"},
                {MLC_E_NOT_FOUND, "", "/v2/a/b/blobs/x", "NAME_UNKNOWN"},
                {MLC_E_UNAUTHENTICATED, "", "/v2/", "UNAUTHORIZED"},
                {MLC_E_FORBIDDEN, "", "/v2/a/b/manifests/1", "DENIED"},
                {MLC_E_LIMIT, "", "/v2/a/b/manifests/1", "SIZE_INVALID"},
                {MLC_E_RANGE, "", "/v2/a/b/blobs/uploads/1", "BLOB_UPLOAD_INVALID"},
                {MLC_E_INVALID, "/layers", "/v2/a/b/manifests/1", "MANIFEST_INVALID"},
                {MLC_E_METHOD, "", "/v2/", "UNSUPPORTED"},
                {MLC_E_UNAVAILABLE, "", "/v2/", "TOOMANYREQUESTS"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                struct mlc_err err = {0};

                (void)mlc_fail_field(&err, ROWS[i].code, ROWS[i].field, "why");
                assert_string_equal(problem_oci_code(&err, ROWS[i].path), ROWS[i].want);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cursor),
                cmocka_unit_test(test_cursor_has_a_limit),
                cmocka_unit_test(test_etag),
                cmocka_unit_test(test_range),
                cmocka_unit_test(test_problem),
                cmocka_unit_test(test_problem_hides_what_failed),
                cmocka_unit_test(test_problem_with_bytes),
                cmocka_unit_test(test_oci_codes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
