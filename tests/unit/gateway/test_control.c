/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "codec/json.h"
#include "gateway/core/control.h"
#include "unit/gateway/support.h"

struct fixture {
        char dir[64];
        struct gw_control control;
        struct gw_reply reply;
};

static int begin(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/mlc-gateway-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        f->control.shm = new_shm();
        f->control.dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        f->control.file = "table.json";
        assert_true(f->control.dir_fd >= 0);
        *state = f;
        return 0;
}

static int end(void **state)
{
        struct fixture *f = *state;

        (void)unlinkat(f->control.dir_fd, "table.json", 0);
        (void)close(f->control.dir_fd);
        (void)rmdir(f->dir);
        mlc_str_done(&f->reply.body);
        free(f->control.shm);
        free(f);
        return 0;
}

static int call(struct fixture *f, const char *method, const char *path, const char *body)
{
        struct gw_request q = {method, path, body, strlen(body)};

        mlc_str_done(&f->reply.body);
        gw_control_handle(&f->control, &q, &f->reply);
        return f->reply.status;
}

static json_t *document(struct fixture *f)
{
        struct mlc_err err = {0};
        json_t *root = NULL;

        if (mlc_json_parse(mlc_str_cstr(&f->reply.body), f->reply.body.len, &root, &err) < 0)
                fail_msg("%s: %s", err.msg, mlc_str_cstr(&f->reply.body));
        return root;
}

static void table_and_file(void **state)
{
        struct fixture *f = *state;
        _cleanup_(free_p) char *first = table_text(5, 100, ",\"lease\":true"),
                               *second = table_text(6, 200, ""), *other = table_text(5, 300, "");
        _cleanup_(json_decref_p) json_t *got = NULL;
        struct gw_control again = f->control;
        struct mlc_err err = {0};

        assert_int_equal(call(f, "GET", "/v1/table", ""), 404);
        assert_int_equal(call(f, "PUT", "/v1/table", first), 200);
        assert_string_equal(mlc_str_cstr(&f->reply.body), "{\"generation\":5}\n");
        assert_int_equal(call(f, "PUT", "/v1/table", first), 200);
        assert_int_equal(call(f, "PUT", "/v1/table", other), 409);
        assert_int_equal(call(f, "PUT", "/v1/table", second), 200);
        assert_int_equal(call(f, "PUT", "/v1/table", first), 409);
        assert_int_equal(call(f, "PUT", "/v1/table", "{\"schema\":1}"), 422);
        assert_int_equal(call(f, "GET", "/v1/table", ""), 200);
        got = document(f);
        assert_int_equal(json_integer_value(json_object_get(got, "generation")), 6);
        assert_int_equal(json_object_size(json_object_get(got, "leases")), 0);

        again.shm = new_shm(); /* a start */
        assert_int_equal(gw_control_load(&again, &err), 0);
        assert_int_equal(gw_shm_table(again.shm)->generation, 6);
        assert_string_equal(gw_shm_table(again.shm)->text, second);
        free(again.shm);
}

static void lease(void **state)
{
        struct fixture *f = *state;
        _cleanup_(free_p) char *text = table_text(5, 100, ",\"lease\":true");
        _cleanup_(json_decref_p) json_t *got = NULL;
        int64_t left;

        assert_int_equal(call(f, "POST", "/v1/lease", "{\"generation\":0,\"ms\":1}"), 409);
        assert_int_equal(call(f, "PUT", "/v1/table", text), 200);
        assert_int_equal(call(f, "POST", "/v1/lease", "{\"generation\":4,\"ms\":1}"), 409);
        assert_int_equal(call(f, "POST", "/v1/lease", "{\"generation\":5,\"ms\":9000}"), 200);
        assert_int_equal(call(f, "POST", "/v1/lease", "{\"generation\":5}"), 422);
        assert_int_equal(call(f, "POST", "/v1/lease", "{\"generation\":5,\"ms\":3600001}"), 422);
        assert_int_equal(call(f, "GET", "/v1/table", ""), 200);
        got = document(f);
        left = json_integer_value(json_object_get(json_object_get(got, "leases"), "fraud"));
        assert_in_range(left, 1, 9000);
}

static void files_that_are_wrong(void **state)
{
        static const char *const texts[] = {"", "{", "{\"schema\":\"gateway-table/v1\"}"};
        struct fixture *f = *state;
        struct mlc_err err = {0};

        assert_int_equal(gw_control_load(&f->control, &err), 0); /* none: fine */
        assert_int_equal(gw_shm_table(f->control.shm)->generation, 0);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                int fd =
                        openat(f->control.dir_fd, "table.json", O_WRONLY | O_CREAT | O_TRUNC, 0600);

                assert_int_equal(write(fd, texts[i], strlen(texts[i])), strlen(texts[i]));
                (void)close(fd);
                mlc_err_clear(&err);
                assert_int_equal(gw_control_load(&f->control, &err), MLC_E_INVALID);
                assert_int_equal(gw_shm_table(f->control.shm)->generation, 0);
        }
}

static void statistics(void **state)
{
        struct fixture *f = *state;
        _cleanup_(free_p) char *text = table_text(5, 0, "");
        _cleanup_(json_decref_p) json_t *got = NULL;
        struct gw_outcome o = {.status = 200, .sent = true, .latency_us = 1000000};
        struct gw_asked asked = {"fraud", 5, key_is_text, text};
        const json_t *one;
        struct gw_choice c;

        assert_int_equal(call(f, "PUT", "/v1/table", text), 200);
        assert_true(gw_choose(f->control.shm, &asked, 0, &c));
        gw_count_chosen(f->control.shm, &c);
        gw_count_outcome(f->control.shm, &c, &o);
        assert_int_equal(call(f, "GET", "/v1/stats", ""), 200);
        got = document(f);
        one = json_object_get(json_array_get(json_object_get(got, "routes"), 0), "variants");
        one = json_array_get(one, 1);
        assert_string_equal(json_string_value(json_object_get(one, "variant")), "stable");
        assert_int_equal(json_integer_value(json_object_get(one, "requests")), 1);
        one = json_object_get(json_object_get(one, "latency"), "buckets");
        assert_int_equal(json_array_size(one), 1);
        assert_int_equal(json_integer_value(json_array_get(json_array_get(one, 0), 0)), 691);
        assert_int_equal(call(f, "GET", "/metrics", ""), 200);
        assert_non_null(strstr(mlc_str_cstr(&f->reply.body),
                               "mlctl_gateway_latency_seconds_bucket{route=\"fraud\",variant="
                               "\"stable\",version=\"2\",generation=\"5\",le=\"1\"} 1\n"));
        assert_non_null(strstr(mlc_str_cstr(&f->reply.body), "le=\"0.5\"} 0\n"));
        assert_int_equal(call(f, "PUT", "/v1/stats", ""), 405);
        assert_int_equal(call(f, "GET", "/v1", ""), 404);
}

static size_t n_routes(struct fixture *f, const char *body)
{
        _cleanup_(json_decref_p) json_t *got = NULL;

        assert_int_equal(call(f, "POST", "/v1/stats", body), 200);
        got = document(f);
        assert_true(json_is_array(json_object_get(got, "tripped")));
        return json_array_size(json_object_get(got, "routes"));
}

static void statistics_of_some(void **state)
{
        struct fixture *f = *state;
        _cleanup_(free_p) char *text = table_text(5, 10000, ",\"error_limit\":0");
        _cleanup_(json_decref_p) json_t *got = NULL, *lease = NULL;
        struct gw_asked asked = {"fraud", 5, key_is_text, text};
        struct gw_outcome o = {.status = 500};
        struct gw_choice c;

        assert_int_equal(n_routes(f, "{\"routes\":[\"fraud\"]}"), 0);
        assert_int_equal(call(f, "GET", "/v1/lease", ""), 404);
        assert_int_equal(call(f, "PUT", "/v1/table", text), 200);
        assert_int_equal(n_routes(f, "{\"routes\":[\"fraud\",\"fraud\"]}"), 1);
        assert_int_equal(n_routes(f, "{\"routes\":[\"frau\",\"\",7,null]}"), 0);
        assert_int_equal(n_routes(f, "{\"routes\":[]}"), 0);
        assert_int_equal(call(f, "POST", "/v1/stats", "{}"), 422);
        assert_int_equal(call(f, "POST", "/v1/stats", "[]"), 422);
        assert_int_equal(call(f, "POST", "/v1/stats", "{\"routes\":[],\"x\":1}"), 422);
        assert_true(gw_choose(f->control.shm, &asked, 0, &c));
        gw_count_chosen(f->control.shm, &c);
        gw_count_outcome(f->control.shm, &c, &o);
        assert_int_equal(call(f, "GET", "/v1/stats", ""), 200);
        got = document(f);
        assert_int_equal(json_array_size(json_object_get(got, "tripped")), 1);
        assert_int_equal(json_array_size(json_object_get(got, "routes")), 1);
        assert_int_equal(call(f, "GET", "/v1/lease", ""), 200);
        lease = document(f);
        assert_int_equal(json_integer_value(json_object_get(lease, "generation")), 5);
        assert_in_range(json_integer_value(json_object_get(lease, "ms")), 1, GW_LEASE_MS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(table_and_file, begin, end),
                cmocka_unit_test_setup_teardown(lease, begin, end),
                cmocka_unit_test_setup_teardown(files_that_are_wrong, begin, end),
                cmocka_unit_test_setup_teardown(statistics, begin, end),
                cmocka_unit_test_setup_teardown(statistics_of_some, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
