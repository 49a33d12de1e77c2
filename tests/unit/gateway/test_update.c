/* SPDX-License-Identifier: Apache-2.0 */
/* A table that is made from the one before is the table that the whole text means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "unit/gateway/support.h"

#define HEAD "{\"generation\":1,\"routes\":["
#define TAIL "],\"schema\":\"gateway-table/v1\"}"
#define ROUTE(name, more, variants)                                                                \
        "{\"key\":\"random\",\"protocol\":\"oip\",\"route\":\"" name "\",\"salt\":\"s\"" more      \
        ",\"variants\":[" variants "]}"
#define VARIANT(name, weight, endpoints)                                                           \
        "{\"endpoints\":[" endpoints "],\"model\":\"m\",\"name\":\"" name "\",\"version\":1,"      \
        "\"weight\":" weight "}"
#define INPUTS                                                                                     \
        ",\"validate\":{\"mode\":\"flag\",\"inputs\":[{\"name\":\"}\\\"{\",\"datatype\":\"FP32\"," \
        "\"shape\":[-1,3],\"range\":[0,1]},{\"name\":\"b\",\"datatype\":\"BYTES\",\"shape\":[1]}]" \
        "}"
#define A ROUTE("a", "", VARIANT("stable", "10000", "\"10.0.0.1:80\",\"10.0.0.2:80\""))
#define A_OTHER                                                                                    \
        ROUTE("a", "",                                                                             \
              VARIANT("new", "100", "\"10.0.0.3:80\"") "," VARIANT("stable", "9900",               \
                                                                   "\"10.0.0.1:80\""))
#define B ROUTE("b", INPUTS, VARIANT("stable", "10000", "\"10.0.0.2:80\",\"[::1]:80\""))
#define B_OTHER ROUTE("b", INPUTS, VARIANT("stable", "10000", "\"[0::1]:80\",\"10.0.0.1:81\""))
#define C ROUTE("c", INPUTS ",\"repeat\":true", "")
#define D ROUTE("d", ",\"tap\":{\"share\":100}", VARIANT("stable", "10000", ""))

static const char *const texts[] = {
        HEAD A "," B "," C "," D TAIL,
        HEAD A_OTHER "," B "," C "," D TAIL,
        HEAD A "," B_OTHER "," C "," D TAIL,
        HEAD D "," B "," A TAIL, /* another order */
        HEAD "\n\t" B "\r\n , " C "\n" TAIL " \n", /* space */
        HEAD C TAIL,
        HEAD TAIL,
        HEAD D "," A_OTHER TAIL,
        "{\"schema\":\"gateway-table/v1\",\"generation\":7,\"routes\" : [" B "," A "]}",
        "{\"rout\\u0065s\":[" B "," A "],\"schema\":\"gateway-table/v1\",\"generation\":7}",
        /* what is refused */
        HEAD A "," A TAIL,
        HEAD A "," B "," A_OTHER TAIL,
        HEAD A "," B ",{}" TAIL,
        HEAD A "," B ",7" TAIL,
        HEAD A "," B "," TAIL,
        HEAD "," A TAIL,
        HEAD A B TAIL,
        HEAD A "}," B TAIL,
        HEAD A "," B ROUTE("x", "", "") TAIL,
        HEAD A "," B TAIL "x",
        HEAD A "," B "]}",
        HEAD A "," B "],\"routes\":[],\"schema\":\"gateway-table/v1\"}",
        HEAD A "," B "],\"schema\":\"gateway-table/v1\",\"schema\":\"gateway-table/v1\"}",
        HEAD A "," B "],\"schema\":\"gateway-table/v1\",\"more\":[" A "]}",
        HEAD A "," B ",{\"routes\":[" A "]}" TAIL,
        HEAD A "," ROUTE("c", "", VARIANT("v", "9", "")) TAIL,
        HEAD A "," ROUTE("c", "", VARIANT("v", "10000", "\"nowhere:80\"")) TAIL,
        HEAD A "," ROUTE("c", ",\"salt\":\"t\"", "") TAIL,
        HEAD A "," ROUTE("c", ",\"tap\":{\"share\":1]", "") TAIL,
        HEAD A "," ROUTE("c\\", "", "") TAIL,
        HEAD A "," ROUTE("c\xff", "", "") TAIL,
        "[" HEAD A TAIL "]",
        "[\"routes\":[" A "]]",
        "}{\"routes\":[" A "]}",
        "{\"x\":\"\\\"routes\\\":[\",\"routes\":[" A TAIL,
        "{\"generation\":0,\"routes\":[" A "," B TAIL,
        "{\"generation\":1,\"routes\":{\"routes\":[" A "]}}",
        "{\"routes\":[" A,
        "{\"routes\":[{\"a\":\"",
        "",
};

/* The table that a text means, the caller's; NULL when it means none. */
static struct gw_table *parsed(const char *text)
{
        struct gw_table *t = malloc(sizeof(*t));
        struct mlc_err err = {0};

        assert_non_null(t);
        if (gw_table_parse(text, strlen(text), t, &err) == 0)
                return t;
        free(t);
        return NULL;
}

static void after_each_other(void **state)
{
        unsigned tables = 0;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                _cleanup_(free_p) struct gw_table *old = parsed(texts[i]);

                if (old == NULL)
                        continue;
                tables++;
                for (size_t j = 0; j < ARRAY_LEN(texts); j++)
                        if (!update_agrees(texts[j], strlen(texts[j]), old))
                                fail_msg("%s after %s", texts[j], texts[i]);
        }
        assert_int_equal(tables, 10);
}

/* One byte changed, taken out or put in, anywhere. */
static void one_byte_is_different(void **state)
{
        static const char bytes[] = "{}[],:\"\\ 0x\n";
        _cleanup_(free_p) struct gw_table *old = parsed(texts[0]);
        size_t len = strlen(texts[1]);
        char *text = malloc(len + 2);

        (void)state;
        assert_non_null(old);
        for (size_t at = 0; at < len; at++) {
                char byte = bytes[at % (sizeof(bytes) - 1)];

                memcpy(text, texts[1], len + 1);
                text[at] = byte;
                assert_true(update_agrees(text, len, old));
                memcpy(text, texts[1], at);
                memcpy(text + at, texts[1] + at + 1, len - at);
                assert_true(update_agrees(text, len - 1, old));
                memcpy(text + at, texts[1] + at, len - at + 1);
                memmove(text + at + 1, text + at, len - at + 1);
                text[at] = byte;
                assert_true(update_agrees(text, len + 1, old));
        }
        free(text);
}

/* n routes r0 … from `first` on with an endpoint each; every `step`th has another weight */
static char *many(unsigned first, unsigned n, unsigned step)
{
        struct mlc_str s;

        mlc_str_init(&s, 4 << 20);
        mlc_str_add(&s, HEAD);
        for (unsigned i = first; i < first + n; i++) {
                unsigned weight = i % step == 0 ? 17 : 100;

                mlc_str_addf(&s,
                             "%s{\"key\":\"random\",\"protocol\":\"oip\",\"route\":\"r%u\","
                             "\"salt\":\"s\",\"variants\":["
                             "{\"endpoints\":[\"10.1.%u.%u:80\"],\"model\":\"m\",\"name\":\"n\","
                             "\"version\":2,\"weight\":%u},"
                             "{\"endpoints\":[\"10.1.0.1:81\"],\"model\":\"m\",\"name\":\"o\","
                             "\"version\":1,\"weight\":%u}]}",
                             i > first ? "," : "", i, i / 200, i % 200, weight, 10000 - weight);
        }
        mlc_str_add(&s, TAIL);
        return mlc_str_take(&s);
}

static void many_routes(void **state)
{
        static const struct {
                unsigned first, n, step;
        } next[] = {{0, 600, 7},     {0, 600, 1},    {0, 600, 601},           {3, 600, 50},
                    {300, 600, 601}, {0, 1, 601},    {0, GW_ROUTES_MAX, 601}, {600, 424, 601},
                    {424, 600, 601}, {0, 1025, 601}, /* too many */
                    {600, 1023, 601}};
        _cleanup_(free_p) char *first = many(0, 600, 601);
        _cleanup_(free_p) struct gw_table *old = parsed(first);

        (void)state;
        assert_non_null(old);
        assert_int_equal(old->routes[0].text_at, strlen(HEAD));
        for (size_t i = 0; i < ARRAY_LEN(next); i++) {
                _cleanup_(free_p) char *text = many(next[i].first, next[i].n, next[i].step);

                assert_true(update_agrees(text, strlen(text), old));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(after_each_other),
                cmocka_unit_test(one_byte_is_different),
                cmocka_unit_test(many_routes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
