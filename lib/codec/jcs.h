/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "codec/json.h"

#define MLC_JCS_INT_MAX 9007199254740991LL /* 2^53 - 1, the largest exact integer of RFC 8785 */
#define MLC_JCS_DEPTH_MAX 128

/*
 * Appends RFC 8785 (JSON canonicalization scheme): members sorted by UTF-16 code units, minimal
 * escapes, numbers as ECMAScript prints them. Integers beyond MLC_JCS_INT_MAX are refused
 * (MLC_E_INVALID), nesting beyond MLC_JCS_DEPTH_MAX is MLC_E_LIMIT, as is passing ret's cap.
 * On failure ret may hold a part.
 */
int mlc_jcs(const json_t *j, struct mlc_str *ret, struct mlc_err *err) MLC_CHECK;
/* The same for what is signed: numbers that are not integers are refused; write those as decimal
 * strings. */
int mlc_jcs_signed(const json_t *j, struct mlc_str *ret, struct mlc_err *err) MLC_CHECK;
