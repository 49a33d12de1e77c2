/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mlctl/error.h"

/*
 * A copy of one request and its answer, as the gateway sends it in one datagram to the collector's
 * unix socket: a fixed head of little-endian numbers, then the texts without terminators.
 *
 *    0 "MLCT" · 4 u16 layout (1) · 6 u16 flags · 8 u64 generation of the counters' bank
 *   16 u64 time of arrival, us since 1970 · 24 u64 latency, us · 32 u32 status · 36 u32 bucket
 *   40 u32 version · 44 u32 request bytes before cutting · 48 u32 the same of the answer
 *   52 u32 request here · 56 u32 answer here · 60 u16 route · 62 u16 variant · 64 u16 request id
 *   66 u16 zero · 68 route, variant, request id, request, answer
 */
#define MLC_TAP_MAGIC "MLCT"
#define MLC_TAP_LAYOUT 1
#define MLC_TAP_HEAD 68
#define MLC_TAP_BODY_MAX 65536 /* of each of the two; what is longer is cut */
#define MLC_TAP_NAME_MAX 255
#define MLC_TAP_MAX (MLC_TAP_HEAD + 3 * MLC_TAP_NAME_MAX + 2 * MLC_TAP_BODY_MAX)

enum mlc_tap_flags {
        MLC_TAP_REQUEST_CUT = 1,
        MLC_TAP_REPLY_CUT = 2,
        MLC_TAP_REQUEST_MISSING = 4, /* was not kept in memory */
        MLC_TAP_REPLY_MISSING = 8, /* there was none, or it was not from the server */
};

struct mlc_tap {
        uint64_t generation, time_us, latency_us;
        uint32_t status, bucket, version;
        uint32_t request_total, reply_total;
        uint16_t flags; /* enum mlc_tap_flags */
        uint16_t route_len, variant_len, id_len;
        uint32_t request_len, reply_len;
        const char *route, *variant, *id, *request, *reply; /* not terminated */
};

/* Only the head; the texts follow it in the order above. Lengths within the limits (asserted). */
void mlc_tap_head(const struct mlc_tap *tap, uint8_t ret[MLC_TAP_HEAD]);
/* Texts are borrowed from `data`. MLC_E_INVALID for anything but one whole record. */
int mlc_tap_parse(const void *data, size_t len, struct mlc_tap *ret, struct mlc_err *err) MLC_CHECK;
