/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/cache.h"

static const struct cache_limits LIMITS = {
        .entries = 3, .bytes = 1000, .value = 400, .ttl_ms = 60000};
static struct app app;
static char dir[64];

static int setup(void **state)
{
        (void)state;
        (void)snprintf(dir, sizeof(dir), "/tmp/mlc-cache-XXXXXX");
        return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
        char path[128];

        (void)state;
        (void)snprintf(path, sizeof(path), "%s/epoch", dir);
        return unlink(path) == 0 && rmdir(dir) == 0 ? 0 : -1;
}

static struct epoch *open_epoch(void)
{
        struct mlc_err err = {0};
        struct epoch *e = NULL;

        assert_int_equal(epoch_open(dir, "epoch", &e, &err), 0);
        return e;
}

/* What is remembered under key is `want`, or nothing when that is NULL. */
static bool holds(struct cache *c, const char *key, const char *want)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        void *got = &ctx;
        size_t len = 12345;

        mlc_ctx_init(&ctx, &app, "test", 1 << 20, 1000);
        assert_int_equal(cache_get(&ctx, c, key, &got, &len), 0);
        if (want == NULL)
                return got == NULL && len == 0;
        return got != NULL && len == strlen(want) && memcmp(got, want, len) == 0;
}

static void put(struct cache *c, const char *key, const char *value, uint64_t epoch)
{
        cache_put(c, key, &(struct cache_value){value, strlen(value), epoch});
}

static void test_kept_until_raised(void **state)
{
        _cleanup_(epoch_close) struct epoch *e = open_epoch(), *other = open_epoch();
        _cleanup_(cache_free) struct cache *c = cache_new(e, &LIMITS);

        (void)state;
        assert_true(holds(c, "a", NULL));
        put(c, "a", "one", epoch_now(e));
        put(c, "b", "", epoch_now(e));
        assert_true(holds(c, "a", "one"));
        assert_true(holds(c, "b", ""));
        put(c, "a", "two", epoch_now(e));
        assert_true(holds(c, "a", "two"));
        epoch_raise(other); /* another server on this DIR */
        assert_int_equal(epoch_now(e), epoch_now(other));
        assert_true(holds(c, "a", NULL));
        assert_true(holds(c, "b", NULL));
        put(c, "a", "three", epoch_now(e));
        assert_true(holds(c, "a", "three"));
        epoch_raise(e);
        assert_true(holds(c, "a", NULL));
}

/* What was read before a change must not come back after it. */
static void test_read_before_the_change(void **state)
{
        _cleanup_(epoch_close) struct epoch *e = open_epoch();
        _cleanup_(cache_free) struct cache *c = cache_new(e, &LIMITS);
        uint64_t before = epoch_now(e);

        (void)state;
        epoch_raise(e);
        put(c, "a", "old", before);
        assert_true(holds(c, "a", NULL));
        put(c, "a", "new", epoch_now(e));
        put(c, "a", "old", before);
        assert_true(holds(c, "a", "new"));
}

static void test_limits(void **state)
{
        _cleanup_(epoch_close) struct epoch *e = open_epoch();
        _cleanup_(cache_free) struct cache *c = cache_new(e, &LIMITS);
        char big[402];

        (void)state;
        memset(big, 'x', sizeof(big) - 1);
        big[401] = '\0';
        put(c, "big", big, epoch_now(e)); /* one byte too long */
        assert_true(holds(c, "big", NULL));
        big[400] = '\0';
        put(c, "1", big, epoch_now(e));
        put(c, "2", big, epoch_now(e));
        assert_true(holds(c, "1", big));
        assert_true(holds(c, "2", big));
        put(c, "3", big, epoch_now(e)); /* 1000 bytes do not hold three */
        assert_true(holds(c, "1", NULL));
        assert_true(holds(c, "2", NULL));
        assert_true(holds(c, "3", big));
        for (int i = 0; i < 100; i++)
                put(c, "3", big, epoch_now(e)); /* in place of the same */
        put(c, "4", big, epoch_now(e));
        assert_true(holds(c, "3", big));
        put(c, "5", "", epoch_now(e));
        assert_true(holds(c, "5", ""));
        put(c, "6", "", epoch_now(e)); /* a fourth entry */
        assert_true(holds(c, "3", NULL));
        assert_true(holds(c, "5", NULL));
        assert_true(holds(c, "6", ""));
}

static void test_time(void **state)
{
        _cleanup_(epoch_close) struct epoch *e = open_epoch();
        const struct cache_limits brief = {
                .entries = 3, .bytes = 1000, .value = 400, .ttl_ms = 200};
        _cleanup_(cache_free) struct cache *c = cache_new(e, &brief);

        (void)state;
        put(c, "a", "one", epoch_now(e));
        mlc_sleep_ms(210);
        assert_true(holds(c, "a", NULL));
        put(c, "a", "two", epoch_now(e));
        assert_true(holds(c, "a", "two"));
}

static void test_arena_full(void **state)
{
        _cleanup_(epoch_close) struct epoch *e = open_epoch();
        _cleanup_(cache_free) struct cache *c = cache_new(e, &LIMITS);
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        char text[301];
        void *got = &ctx;
        size_t len = 7;

        (void)state;
        memset(text, 'x', 300);
        text[300] = '\0';
        put(c, "a", text, epoch_now(e));
        mlc_ctx_init(&ctx, &app, "test", 100, 1000);
        assert_int_equal(cache_get(&ctx, c, "a", &got, &len), MLC_E_LIMIT);
        assert_ptr_equal(got, &ctx); /* untouched */
        assert_int_equal(len, 7);
        assert_true(holds(c, "a", text));
}

static void test_no_directory(void **state)
{
        struct mlc_err err = {0};
        struct epoch *e = NULL;

        (void)state;
        assert_true(epoch_open(dir, "none/epoch", &e, &err) < 0);
        assert_null(e);
        assert_non_null(strstr(err.msg, "none/epoch"));
        epoch_close(&e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kept_until_raised),
                cmocka_unit_test(test_read_before_the_change),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_time),
                cmocka_unit_test(test_arena_full),
                cmocka_unit_test(test_no_directory),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
