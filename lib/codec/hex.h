/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Writes 2 * len lower-case digits and a NUL to ret. */
void mlc_hex_encode(const void *data, size_t len, char *ret);
/* True when s is exactly 2 * len lower-case hex digits; only then is ret (len bytes) written. */
bool mlc_hex_decode(const char *s, void *ret, size_t len);
