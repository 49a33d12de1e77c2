/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#define MLC_ID_MAX 16 /* buffer for any short id, NUL included */
#define MLC_UUID_STR 37

/* From the kernel; aborts when that fails, since nothing safe could follow. */
void mlc_random_bytes(void *ret, size_t len);
/* A kind letter and 12 hex digits: "u7f3a9c2e4b1d". 48 random bits: the caller's unique index
 * decides, and it retries. */
void mlc_random_id(char kind, char ret[MLC_ID_MAX]);
/* RFC 9562 version 4, lower case. */
void mlc_uuid4(char ret[MLC_UUID_STR]);
