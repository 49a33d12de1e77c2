/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "gateway/core/rewrite.h"

static const struct gw_rewrite_rule INFER = {.name_key = "model_name",
                                             .name_from = "f--s--3",
                                             .name_to = "fraud",
                                             .version_key = "model_version",
                                             .version_to = "\"3\"",
                                             .name_needed = true,
                                             .version_added = true};

static void emit(void *userdata, const char *data, size_t len)
{
        mlc_str_addn(userdata, data, len);
}

/* In pieces of `step` bytes. */
static enum gw_rewrite_result run(const char *text, size_t step, struct mlc_str *ret)
{
        size_t len = strlen(text);
        struct gw_rewrite w;

        mlc_str_reset(ret);
        gw_rewrite_init(&w, &INFER);
        for (size_t at = 0; at < len; at += step)
                gw_rewrite_feed(&w, text + at, len - at < step ? len - at : step, emit, ret);
        return gw_rewrite_end(&w);
}

static void becomes(const char *text, const char *want)
{
        _cleanup_(mlc_str_done) struct mlc_str got;

        mlc_str_init(&got, 1 << 20);
        for (size_t step = 1; step <= strlen(text); step++) {
                assert_int_equal(run(text, step, &got), GW_REWRITE_OK);
                assert_string_equal(mlc_str_cstr(&got), want);
        }
}

static void rewrites(void **state)
{
        (void)state;
        becomes("{\"model_name\":\"f--s--3\",\"model_version\":\"v1\",\"outputs\":[1,2]}",
                "{\"model_name\":\"fraud\",\"model_version\":\"3\",\"outputs\":[1,2]}");
        becomes(" { \"model_version\" : null , \"model_name\" : \"f--s--3\" }\n",
                " { \"model_version\" : \"3\" , \"model_name\" : \"fraud\" }\n");
        becomes("{\"model_name\":\"f--s--3\",\"outputs\":[]}",
                "{\"model_name\":\"fraud\",\"outputs\":[],\"model_version\":\"3\"}");
        becomes("{\"model_name\":\"f--s--3\",\"model_version\":{\"a\":[1,\"]}\"]},\"n\":-1.5e3}",
                "{\"model_name\":\"fraud\",\"model_version\":\"3\",\"n\":-1.5e3}");
        /* only members of the outer object, and only names */
        becomes("{\"o\":{\"model_name\":\"x\"},\"t\":\"\\\"model_name\\\":\",\"model_name\":"
                "\"f--s--3\",\"model_version\":1}",
                "{\"o\":{\"model_name\":\"x\"},\"t\":\"\\\"model_name\\\":\",\"model_name\":"
                "\"fraud\",\"model_version\":\"3\"}");
        becomes("{\"model_name\":\"f--s--3\",\"model_version\":NaN,\"x\":true}",
                "{\"model_name\":\"fraud\",\"model_version\":\"3\",\"x\":true}");
}

static void wrong(void **state)
{
        static const char *const texts[] = {
                "{}",
                "{\"model_version\":\"1\"}",
                "{\"model_name\":\"f--s--33\"}",
                "{\"model_name\":\"f--s-\"}",
                "{\"model_name\":\"\"}",
                "{\"model_name\":null}",
                "{\"model_name\":[\"f--s--3\"]}",
                "{\"model_name\":\"f--s--3\\u0000\"}",
                "{\"model_name\":\"f--s--3\",\"model_name\":\"other\"}",
                "{\"model_name\":\"other\",\"model_name\":\"f--s--3\"}",
                "{\"x\":{\"model_name\":\"f--s--3\"}}",
        };
        _cleanup_(mlc_str_done) struct mlc_str got;

        (void)state;
        mlc_str_init(&got, 1 << 20);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                for (size_t step = 1; step <= strlen(texts[i]); step++)
                        if (run(texts[i], step, &got) != GW_REWRITE_WRONG)
                                fail_msg("not wrong: %s", texts[i]);
}

static void bad(void **state)
{
        static const char *const texts[] = {
                "",
                "null",
                "[]",
                "\"model_name\"",
                "<html>",
                "{",
                "{\"model_name\":\"f--s--3\"",
                "{\"model_name\":\"f--s--3\",\"a\":[1}",
                "{\"model_name\":\"f--s--3\",}",
                "{\"model_name\":\"f--s--3\" \"a\":1}",
                "{\"model_name\":\"f--s--3\"}}",
                "{\"model_name\":\"f--s--3\"} x",
                "{\"model_name\":\"f--s--3\",\"a\":\"\n\"}",
                "{\"model_name\":\"f--s--3\",\"a\":}",
                "{\"model_name\":\"f--s--3\",\"a\"}",
                "{\"model_name\":\"f--s--3\",a:1}",
                "{\"model_name\":\"f--s--3\",\"a\":1 2}",
                "{\"model_name\":\"f--s--3\",\"a\":'1'}",
                "{\"model\\u005fname\":\"other\",\"model_name\":\"f--s--3\"}",
        };
        _cleanup_(mlc_str_done) struct mlc_str got;

        (void)state;
        mlc_str_init(&got, 1 << 20);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                for (size_t step = 1; step <= strlen(texts[i]) + 1; step++)
                        if (run(texts[i], step, &got) != GW_REWRITE_BAD)
                                fail_msg("not bad: %s", texts[i]);
}

static void nesting(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str text, got;

        (void)state;
        mlc_str_init(&text, 4096);
        mlc_str_init(&got, 4096);
        mlc_str_add(&text, "{\"model_name\":\"f--s--3\",\"a\":");
        for (int i = 0; i < GW_REWRITE_DEPTH_MAX; i++)
                mlc_str_addc(&text, '[');
        for (int i = 0; i < GW_REWRITE_DEPTH_MAX; i++)
                mlc_str_addc(&text, ']');
        mlc_str_addc(&text, '}');
        assert_int_equal(run(mlc_str_cstr(&text), 7, &got), GW_REWRITE_OK);
        mlc_str_reset(&text);
        mlc_str_add(&text, "{\"a\":");
        for (int i = 0; i <= GW_REWRITE_DEPTH_MAX; i++)
                mlc_str_addc(&text, '[');
        assert_int_equal(run(mlc_str_cstr(&text), 7, &got), GW_REWRITE_BAD);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rewrites),
                cmocka_unit_test(wrong),
                cmocka_unit_test(bad),
                cmocka_unit_test(nesting),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
