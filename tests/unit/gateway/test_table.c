/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "unit/gateway/support.h"

#define HEAD "{\"schema\":\"gateway-table/v1\",\"generation\":1,\"routes\":["
#define ROUTE "\"route\":\"r\",\"protocol\":\"oip\",\"salt\":\"s\",\"key\":\"random\""
#define VARIANT "\"name\":\"a\",\"version\":1,\"model\":\"m\",\"weight\":10000"

static void whole_table(void **state)
{
        static const char text[] = HEAD
                "{\"route\":\"fraud\",\"protocol\":\"oip\",\"salt\":\"r17\","
                "\"key\":\"header:X-User-Id\",\"repeat\":true,\"tap\":{\"share\":100},"
                "\"validate\":{\"mode\":\"flag\",\"inputs\":[{\"name\":\"x y\",\"datatype\":"
                "\"FP32\",\"shape\":[-1,30],\"range\":[-1.5,2]},{\"name\":\"z\",\"datatype\":"
                "\"BYTES\",\"shape\":[1],\"range\":null}]},\"variants\":["
                "{\"name\":\"candidate\",\"version\":3,\"model\":\"f--s--3\",\"weight\":500,"
                "\"endpoints\":[\"127.0.0.1:8081\",\"[::1]:8082\"],\"lease\":true,"
                "\"on_lost_control\":\"hold\",\"error_limit\":50},"
                "{" VARIANT ",\"endpoints\":[\"127.0.0.1:8081\"],\"error_limit\":null,"
                "\"weight\":9500}]},"
                "{\"route\":\"empty\",\"protocol\":\"oip\",\"salt\":\"\",\"key\":\"cookie:sid\","
                "\"tap\":null,\"validate\":null,\"variants\":[]}]}";
        _cleanup_(free_p) struct gw_table *t = malloc(sizeof(*t));
        _cleanup_(free_p) char *copy = strdup(text);
        char *twice = strstr(copy, ",\"weight\":10000"); /* VARIANT's, said again below */
        const struct gw_route *r;
        struct mlc_err err = {0};

        (void)state;
        memmove(twice, twice + 15, strlen(twice + 15) + 1);
        assert_int_equal(gw_table_parse(copy, strlen(copy), t, &err), 0);
        assert_int_equal(t->generation, 1);
        assert_int_equal(t->n_routes, 2);
        assert_int_equal(t->n_addresses, 2); /* the same endpoint is one */
        r = gw_table_route(t, "fraudulent", 5);
        assert_non_null(r);
        assert_true(r->repeat);
        assert_int_equal(r->key, GW_KEY_HEADER);
        assert_string_equal(r->key_name, "X-User-Id");
        assert_int_equal(r->tap_share, 100);
        assert_int_equal(r->validate, GW_VALIDATE_FLAG);
        assert_int_equal(r->n_inputs, 2);
        assert_string_equal(t->inputs[0].name, "x y");
        assert_true(t->inputs[0].ranged && t->inputs[0].lo == -1.5 && t->inputs[0].hi == 2);
        assert_int_equal(t->inputs[0].shape[0], -1);
        assert_false(t->inputs[1].ranged);
        assert_int_equal(t->variants[0].error_limit, 50);
        assert_true(t->variants[0].lease && t->variants[0].hold);
        assert_int_equal(t->variants[1].error_limit, GW_NO_LIMIT);
        assert_false(t->variants[1].lease || t->variants[1].hold);
        assert_int_equal(t->addresses[t->variants[1].endpoints[0]].len, 16);
        assert_string_equal(t->addresses[1].text, "[::1]:8082");
        assert_int_equal(t->addresses[1].len, 28);
        assert_int_equal(gw_table_route(t, "empty", 5)->n_variants, 0);
        assert_null(gw_table_route(t, "frau", 4));
        assert_null(gw_table_route(t, "", 0));
        assert_string_equal(t->text, copy);
}

static void refuses(const char *text, const char *pointer)
{
        struct gw_table *t = malloc(sizeof(*t));
        struct mlc_err err = {0};

        assert_non_null(t);
        if (gw_table_parse(text, strlen(text), t, &err) == 0)
                fail_msg("accepted: %s", text);
        if (!mlc_streq(err.field, pointer))
                fail_msg("%s: at \"%s\", not \"%s\": %s", text, err.field, pointer, err.msg);
        assert_true(err.msg[0] != '\0');
        free(t);
}

static void refusals(void **state)
{
        static const char *const wrong[][2] = {
                {"", ""},
                {"[]", ""},
                {"{\"schema\":\"other\",\"generation\":1,\"routes\":[]}", "/schema"},
                {"{\"schema\":\"gateway-table/v1\",\"generation\":0,\"routes\":[]}", "/generation"},
                {"{\"schema\":\"gateway-table/v1\",\"generation\":1.5,\"routes\":[]}",
                 "/generation"},
                {"{\"schema\":\"gateway-table/v1\",\"generation\":1}", "/routes"},
                {HEAD "7]}", "/routes/0"},
                {HEAD "{" ROUTE "}]}", "/routes/0/variants"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT "}]}]}",
                 "/routes/0/variants/0/endpoints"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[\"a:1\"]}]}]}",
                 "/routes/0/variants/0/endpoints/0"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[\"1.2.3.4:0\"]}]}]}",
                 "/routes/0/variants/0/endpoints/0"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[\"::1:80\"]}]}]}",
                 "/routes/0/variants/0/endpoints/0"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[1]}]}]}",
                 "/routes/0/variants/0/endpoints/0"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[]},{" VARIANT
                      ",\"endpoints\":[]}]}]}",
                 "/routes/0/variants"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT
                      ",\"endpoints\":[],\"error_limit\":-1}]}]}",
                 "/routes/0/variants/0/error_limit"},
                {HEAD "{" ROUTE ",\"variants\":[{" VARIANT
                      ",\"endpoints\":[],\"on_lost_control\":\"x\"}]}]}",
                 "/routes/0/variants/0/on_lost_control"},
                {HEAD "{" ROUTE ",\"variants\":[],\"tap\":{\"share\":10001}}]}",
                 "/routes/0/tap/share"},
                {HEAD "{" ROUTE ",\"variants\":[],\"validate\":{\"mode\":\"x\",\"inputs\":[]}}]}",
                 "/routes/0/validate/mode"},
                {HEAD "{" ROUTE
                      ",\"variants\":[],\"validate\":{\"mode\":\"flag\",\"inputs\":[{\"name\":"
                      "\"x\",\"datatype\":\"FLOAT\",\"shape\":[1]}]}}]}",
                 "/routes/0/validate/inputs/0/datatype"},
                {HEAD "{" ROUTE
                      ",\"variants\":[],\"validate\":{\"mode\":\"flag\",\"inputs\":[{\"name\":"
                      "\"x\",\"datatype\":\"FP32\",\"shape\":[-2]}]}}]}",
                 "/routes/0/validate/inputs/0/shape/0"},
                {HEAD "{" ROUTE
                      ",\"variants\":[],\"validate\":{\"mode\":\"flag\",\"inputs\":[{\"name\":"
                      "\"x\",\"datatype\":\"FP32\",\"shape\":[1],\"range\":[2,1]}]}}]}",
                 "/routes/0/validate/inputs/0/range"},
                {HEAD "{\"route\":\"a b\"}]}", "/routes/0/route"},
                {HEAD "{\"route\":\"a\",\"protocol\":\"v1\"}]}", "/routes/0/protocol"},
                {HEAD "{" ROUTE ",\"variants\":[]},{" ROUTE ",\"variants\":[]}]}",
                 "/routes/1/route"},
                {HEAD "{\"route\":\"a\",\"protocol\":\"oip\",\"salt\":\"s\",\"key\":\"body:x\"}]}",
                 "/routes/0/key"},
                {HEAD
                 "{\"route\":\"a\",\"protocol\":\"oip\",\"salt\":\"s\",\"key\":\"header:a b\"}]}",
                 "/routes/0/key"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
                refuses(wrong[i][0], wrong[i][1]);
}

/* `n` of something, each printed by fmt with its number */
static void many(const char *before, unsigned n, const char *fmt, const char *after, int want)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        _cleanup_(free_p) struct gw_table *t = malloc(sizeof(*t));
        struct mlc_err err = {0};

        mlc_str_init(&s, 8 << 20);
        mlc_str_add(&s, before);
        for (unsigned i = 0; i < n; i++) {
                char number[16];
                const char *at = strchr(fmt, '#');

                (void)snprintf(number, sizeof(number), "%u", i + 1);
                if (i > 0)
                        mlc_str_addc(&s, ',');
                mlc_str_addn(&s, fmt, (size_t)(at - fmt));
                mlc_str_add(&s, number);
                mlc_str_add(&s, at + 1);
        }
        mlc_str_add(&s, after);
        assert_int_equal(gw_table_parse(mlc_str_cstr(&s), s.len, t, &err), want);
}

static void limits(void **state)
{
        static const char route[] =
                "{\"route\":\"r#\",\"protocol\":\"oip\",\"salt\":\"s\",\"key\":\"random\","
                "\"variants\":[]}";
        static const char variants[] =
                HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[]},";
        static const char variant[] = "{\"name\":\"v#\",\"version\":1,\"model\":\"m\",\"weight\":0,"
                                      "\"endpoints\":[]}";
        static const char endpoints[] =
                HEAD "{" ROUTE ",\"variants\":[{" VARIANT ",\"endpoints\":[";

        (void)state;
        many(HEAD, GW_ROUTES_MAX, route, "]}", 0);
        many(HEAD, GW_ROUTES_MAX + 1, route, "]}", MLC_E_LIMIT);
        many(variants, GW_ROUTE_VARIANTS_MAX - 1, variant, "]}]}", 0);
        many(variants, GW_ROUTE_VARIANTS_MAX, variant, "]}]}", MLC_E_LIMIT);
        many(endpoints, GW_ENDPOINTS_MAX, "\"127.0.0.1:#\"", "]}]}]}", 0);
        many(endpoints, GW_ENDPOINTS_MAX + 1, "\"127.0.0.1:#\"", "]}]}]}", MLC_E_LIMIT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whole_table),
                cmocka_unit_test(refusals),
                cmocka_unit_test(limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
