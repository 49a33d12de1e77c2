/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MLC_TIME_MAX 32 /* buffer for any time below, NUL included */

int64_t mlc_now_ms(void); /* wall clock, milliseconds since 1970 UTC */
int64_t mlc_monotonic_ms(void);
void mlc_sleep_ms(int64_t ms);
/* RFC 3339 UTC with milliseconds: 2026-11-24T06:47:36.123Z */
void mlc_time_format(int64_t ms, char ret[MLC_TIME_MAX]);
/* Accepts RFC 3339 with Z or a numeric offset and up to 9 fraction digits, or a bare date (midnight
 * UTC). */
bool mlc_time_parse(const char *s, int64_t *ret_ms);
/* "90s", "15m", "24h", "30d", "2w"; a positive whole number and one unit. Upper limit 10 years. */
bool mlc_duration_parse(const char *s, int64_t *ret_ms);
