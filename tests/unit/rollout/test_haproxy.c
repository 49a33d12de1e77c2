/* SPDX-License-Identifier: Apache-2.0 */
/* What HAProxy 2.6 prints, and the entries of its map. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rollout/drivers/haproxy.h"

static json_t *parse(const char *text)
{
        struct mlc_err err = {0};
        json_t *j = NULL;

        assert_int_equal(mlc_json_parse(text, strlen(text), &j, &err), 0);
        return j;
}

static void assert_json(const json_t *got, const char *want)
{
        _cleanup_(json_decref_p) json_t *w = parse(want);

        if (!json_equal(got, w)) {
                _cleanup_(free_p) char *text = json_dumps(got, JSON_ENCODE_ANY);

                fail_msg("%s\nis not\n%s", text, want);
        }
}

static void test_map(void **state)
{
        _cleanup_(json_decref_p) json_t *map =
                hap_parse_map("0x55a1 fraud 0|r1|-|0|a--b--2|2|random\n0x55a2 /generation 7\n\n");
        _cleanup_(json_decref_p) json_t *none = hap_parse_map("");

        (void)state;
        assert_json(map, "{\"fraud\":\"0|r1|-|0|a--b--2|2|random\",\"/generation\":\"7\"}");
        assert_int_equal(json_object_size(none), 0);
}

static void test_stat(void **state)
{
        struct mlc_err err = {0};
        _cleanup_(json_decref_p) json_t *all = NULL;
        json_t *untouched = NULL;

        (void)state;
        assert_int_equal(
                hap_parse_stat("# pxname,svname,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,"
                               "req_tot,\n"
                               "f.stable,a,1,1,1,1,1,1,\nf.stable,BACKEND,10,2,3,4,1,20,\n"
                               "http,FRONTEND,9,9,9,9,9,9,\nf.candidate,BACKEND,,,,,,,\n\n",
                               &all, &err),
                0);
        assert_json(all, "{\"f.stable\":[20,10,2,3,4,1],\"f.candidate\":[0,0,0,0,0,0]}");
        assert_int_equal(hap_parse_stat("Unknown command\n", &untouched, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(hap_parse_stat("", &untouched, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(hap_parse_stat("# pxname,svname,hrsp_2xx\n", &untouched, &err),
                         MLC_E_INVALID);
        assert_null(untouched);
}

static void test_servers(void **state)
{
        struct mlc_err err = {0};
        _cleanup_(json_decref_p) json_t *list = NULL;
        json_t *untouched = NULL;

        (void)state;
        assert_int_equal(
                hap_parse_servers("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state "
                                  "srv_admin_state srv_port\n"
                                  "4 f 1 a 127.0.0.1 2 0 8081\n4 f 2 b ::1 0 1 8082\n4 f\n\n",
                                  &list, &err),
                0);
        assert_json(list, "[{\"name\":\"a\",\"address\":\"127.0.0.1:8081\",\"maint\":false},"
                          "{\"name\":\"b\",\"address\":\"[::1]:8082\",\"maint\":true}]");
        assert_int_equal(hap_parse_servers("\n", &untouched, &err), MLC_E_INVALID);
        assert_null(untouched);
}

static void test_entries(void **state)
{
        static const struct {
                const char *route, *want; /* want: NULL when it is refused */
        } cases[] = {
                {"{\"route\":\"f\",\"salt\":\"r1\",\"key\":\"random\",\"variants\":["
                 "{\"name\":\"candidate\",\"weight\":5,\"model\":\"a--b--3\",\"version\":3},"
                 "{\"name\":\"stable\",\"weight\":9995,\"model\":\"a--b--2\",\"version\":2}]}",
                 "5|r1|a--b--3|3|a--b--2|2|random"},
                {"{\"route\":\"f\",\"salt\":\"r1\",\"key\":\"random\",\"variants\":["
                 "{\"name\":\"stable\",\"weight\":10000,\"model\":\"a--b--2\",\"version\":2}]}",
                 "0|r1|-|0|a--b--2|2|random"},
                {"{\"route\":\"f\",\"salt\":\"r1\",\"key\":\"random\",\"variants\":[]}", NULL},
                {"{\"route\":\"/f\",\"salt\":\"r1\",\"key\":\"random\",\"variants\":["
                 "{\"name\":\"stable\",\"model\":\"a\",\"version\":2}]}",
                 NULL},
                {"{\"route\":\"f\",\"salt\":\"r|1\",\"key\":\"random\",\"variants\":["
                 "{\"name\":\"stable\",\"model\":\"a\",\"version\":2}]}",
                 NULL},
                {"{\"route\":\"f\",\"salt\":\"r1\",\"key\":\"header:a;b\",\"variants\":["
                 "{\"name\":\"stable\",\"model\":\"a\",\"version\":2}]}",
                 NULL},
                {"{\"route\":\"f\",\"salt\":\"r1\",\"key\":\"random\",\"variants\":["
                 "{\"name\":\"other\",\"model\":\"a\",\"version\":2}]}",
                 NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                _cleanup_(json_decref_p) json_t *route = parse(cases[i].route);
                _cleanup_(mlc_str_done) struct mlc_str s;
                struct mlc_err err = {0};
                int r;

                mlc_str_init(&s, 1000);
                r = hap_entry(route, &s, &err);
                assert_int_equal(r, cases[i].want != NULL ? 0 : MLC_E_NOT_SUPPORTED);
                if (cases[i].want != NULL)
                        assert_string_equal(mlc_str_cstr(&s), cases[i].want);
        }
}

static void test_banks(void **state)
{
        static const char *const broken[] = {"",
                                             "x",
                                             "b|1|2|1,2,3,4,5,6|0|0",
                                             "b|1|2|1,2,3,4,5|0|0|0,0,0,0,0,0",
                                             "b|1|2|1,2,3,4,5,6,7|0|0|0,0,0,0,0,0",
                                             "b|1|2|1,2,3,4,5,-6|0|0|0,0,0,0,0,0",
                                             "b|1|2|a|0|0|0,0,0,0,0,0"};
        static const char text[] = "12.34|7|3|1,2,3,4,5,6|5|2|9,8,7,6,5,4";
        struct hap_counts now = {{5, 1, 9, 9, 9, 9}}, since;
        struct hap_bank b;
        _cleanup_(mlc_str_done) struct mlc_str s;

        (void)state;
        mlc_str_init(&s, 1000);
        assert_true(hap_bank_read(text, &b));
        assert_string_equal(b.boot, "12.34");
        assert_int_equal(b.generation, 7);
        assert_int_equal(b.before_version, 2);
        hap_bank_write(&b, &s);
        assert_string_equal(mlc_str_cstr(&s), text);
        since = hap_counts_since(&now, &b.base);
        assert_int_equal(since.n[0], 4);
        assert_int_equal(since.n[1], 0); /* went backwards */
        for (size_t i = 0; i < ARRAY_LEN(broken); i++)
                assert_false(hap_bank_read(broken[i], &b));
}

static void test_where(void **state)
{
        struct mlc_err err = {0};
        struct hap h;

        (void)state;
        assert_int_equal(hap_where("unix:/run/a.sock;map=/etc/m.map", &h, &err), 0);
        assert_string_equal(h.socket, "/run/a.sock");
        assert_string_equal(h.map, "/etc/m.map");
        assert_int_equal(hap_where("unix:/run/a.sock", &h, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(hap_where("http://a;map=/m", &h, &err), MLC_E_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_map),     cmocka_unit_test(test_stat),
                cmocka_unit_test(test_servers), cmocka_unit_test(test_entries),
                cmocka_unit_test(test_banks),   cmocka_unit_test(test_where),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
