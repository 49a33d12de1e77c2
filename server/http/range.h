/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/*
 * One byte range (RFC 9110, 14.1.2) against a size: 1 with the part, 0 when the whole is to be sent
 * (no range, another unit, several ranges), MLC_E_RANGE when it does not fit or ends before it
 * begins.
 */
int range_parse(const char *range, uint64_t size, uint64_t *ret_off, uint64_t *ret_len);
