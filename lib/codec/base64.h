/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* RFC 4648: the standard alphabet with padding, or the URL alphabet without (as in JWS). */
enum mlc_base64 { MLC_BASE64_STD, MLC_BASE64_URL };

/* Appends to ret; check it with mlc_str_check(). */
void mlc_base64_encode(enum mlc_base64 kind, const void *data, size_t len, struct mlc_str *ret);
/*
 * Strict: no white space, the right padding, unused bits zero, so that each byte string has one
 * text. Appends the bytes to ret, whose cap is the limit; MLC_E_INVALID or MLC_E_LIMIT, ret
 * unchanged then.
 */
int mlc_base64_decode(enum mlc_base64 kind, const char *s, size_t len, struct mlc_str *ret,
                      struct mlc_err *err) MLC_CHECK;
/* The same into a buffer of exactly ret_len bytes; false (ret untouched) on any other length. */
bool mlc_base64_decode_exact(enum mlc_base64 kind, const char *s, size_t len, void *ret,
                             size_t ret_len);
