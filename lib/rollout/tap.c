/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/tap.h"

#include <assert.h>
#include <string.h>

static void put(uint8_t *at, uint64_t v, size_t n)
{
        for (size_t i = 0; i < n; i++)
                at[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get(const uint8_t *at, size_t n)
{
        uint64_t v = 0;

        for (size_t i = n; i-- > 0;)
                v = v << 8 | at[i];
        return v;
}

void mlc_tap_head(const struct mlc_tap *tap, uint8_t ret[MLC_TAP_HEAD])
{
        assert(tap->route_len <= MLC_TAP_NAME_MAX && tap->variant_len <= MLC_TAP_NAME_MAX &&
               tap->id_len <= MLC_TAP_NAME_MAX);
        assert(tap->request_len <= MLC_TAP_BODY_MAX && tap->reply_len <= MLC_TAP_BODY_MAX);
        memcpy(ret, MLC_TAP_MAGIC, 4);
        put(ret + 4, MLC_TAP_LAYOUT, 2);
        put(ret + 6, tap->flags, 2);
        put(ret + 8, tap->generation, 8);
        put(ret + 16, tap->time_us, 8);
        put(ret + 24, tap->latency_us, 8);
        put(ret + 32, tap->status, 4);
        put(ret + 36, tap->bucket, 4);
        put(ret + 40, tap->version, 4);
        put(ret + 44, tap->request_total, 4);
        put(ret + 48, tap->reply_total, 4);
        put(ret + 52, tap->request_len, 4);
        put(ret + 56, tap->reply_len, 4);
        put(ret + 60, tap->route_len, 2);
        put(ret + 62, tap->variant_len, 2);
        put(ret + 64, tap->id_len, 2);
        put(ret + 66, 0, 2);
}

static const char *take(const uint8_t **at, size_t len)
{
        const char *r = (const char *)*at;

        *at += len;
        return r;
}

int mlc_tap_parse(const void *data, size_t len, struct mlc_tap *ret, struct mlc_err *err)
{
        const uint8_t *at = data;
        struct mlc_tap t;

        if (len < MLC_TAP_HEAD || memcmp(at, MLC_TAP_MAGIC, 4) != 0)
                return mlc_fail(err, MLC_E_INVALID, "no record of the gateway's tap");
        if (get(at + 4, 2) != MLC_TAP_LAYOUT)
                return mlc_fail(err, MLC_E_INVALID, "a tap record of layout %u is not supported",
                                (unsigned)get(at + 4, 2));
        t = (struct mlc_tap){
                .flags = (uint16_t)get(at + 6, 2),
                .generation = get(at + 8, 8),
                .time_us = get(at + 16, 8),
                .latency_us = get(at + 24, 8),
                .status = (uint32_t)get(at + 32, 4),
                .bucket = (uint32_t)get(at + 36, 4),
                .version = (uint32_t)get(at + 40, 4),
                .request_total = (uint32_t)get(at + 44, 4),
                .reply_total = (uint32_t)get(at + 48, 4),
                .request_len = (uint32_t)get(at + 52, 4),
                .reply_len = (uint32_t)get(at + 56, 4),
                .route_len = (uint16_t)get(at + 60, 2),
                .variant_len = (uint16_t)get(at + 62, 2),
                .id_len = (uint16_t)get(at + 64, 2),
        };
        if (t.request_len > MLC_TAP_BODY_MAX || t.reply_len > MLC_TAP_BODY_MAX ||
            len != (size_t)MLC_TAP_HEAD + t.route_len + t.variant_len + t.id_len + t.request_len +
                            t.reply_len)
                return mlc_fail(err, MLC_E_INVALID, "a tap record's lengths do not add up");
        at += MLC_TAP_HEAD;
        t.route = take(&at, t.route_len);
        t.variant = take(&at, t.variant_len);
        t.id = take(&at, t.id_len);
        t.request = take(&at, t.request_len);
        t.reply = take(&at, t.reply_len);
        *ret = t;
        return 0;
}
