/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rollout/tap.h"

static const struct mlc_tap TAP = {.generation = 0x0102030405060708,
                                   .time_us = 1700000000000000,
                                   .latency_us = 1234,
                                   .status = 200,
                                   .bucket = 9999,
                                   .version = 3,
                                   .request_total = 70000,
                                   .reply_total = 4,
                                   .flags = MLC_TAP_REQUEST_CUT,
                                   .route_len = 5,
                                   .variant_len = 6,
                                   .id_len = 2,
                                   .request_len = 3,
                                   .reply_len = 4};
static const char TEXTS[] = "fraudstableid{1}[2,]";

static size_t make(uint8_t ret[200])
{
        mlc_tap_head(&TAP, ret);
        memcpy(ret + MLC_TAP_HEAD, TEXTS, 20);
        return MLC_TAP_HEAD + 20;
}

static void round_trip(void **state)
{
        uint8_t data[200];
        size_t len = make(data);
        struct mlc_err err = {0};
        struct mlc_tap got;

        (void)state;
        assert_memory_equal(data, "MLCT\x01\x00\x01\x00\x08\x07\x06\x05\x04\x03\x02\x01", 16);
        assert_int_equal(mlc_tap_parse(data, len, &got, &err), 0);
        assert_int_equal(got.generation, TAP.generation);
        assert_int_equal(got.time_us, TAP.time_us);
        assert_int_equal(got.latency_us, 1234);
        assert_int_equal(got.status, 200);
        assert_int_equal(got.bucket, 9999);
        assert_int_equal(got.version, 3);
        assert_int_equal(got.request_total, 70000);
        assert_int_equal(got.flags, MLC_TAP_REQUEST_CUT);
        assert_memory_equal(got.route, "fraud", got.route_len);
        assert_memory_equal(got.variant, "stable", got.variant_len);
        assert_memory_equal(got.id, "id", got.id_len);
        assert_memory_equal(got.request, "{1}", got.request_len);
        assert_memory_equal(got.reply, "[2,]", got.reply_len);
}

static void anything_else_is_refused(void **state)
{
        uint8_t data[200] = {0};
        size_t len = make(data);
        struct mlc_err err = {0};
        struct mlc_tap got;

        (void)state;
        for (size_t n = 0; n < sizeof(data); n++) {
                mlc_err_clear(&err);
                if (n != len)
                        assert_int_equal(mlc_tap_parse(data, n, &got, &err), MLC_E_INVALID);
        }
        data[4] = 2;
        mlc_err_clear(&err);
        assert_int_equal(mlc_tap_parse(data, len, &got, &err), MLC_E_INVALID);
        (void)make(data);
        data[0] = 'X';
        assert_int_equal(mlc_tap_parse(data, len, &got, &err), MLC_E_INVALID);
        (void)make(data);
        memset(data + 52, 0xff, 8); /* lengths whose sum would overflow 32 bits */
        assert_int_equal(mlc_tap_parse(data, len, &got, &err), MLC_E_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(round_trip),
                cmocka_unit_test(anything_else_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
