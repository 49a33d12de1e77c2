/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include "codec/json.h"

#define CURSOR_KEY_LEN 32
#define CURSOR_MAX 512 /* characters; the contract's maxLength of `cursor` */

/*
 * base64url(JSON {"k":[...]}) "." base64url(first 16 bytes of HMAC-SHA-256). The MAC covers `scope`
 * too, so that a cursor of one list is nothing to another.
 */
struct cursor_key {
        unsigned char b[CURSOR_KEY_LEN];
};

int cursor_encode(const struct cursor_key *key, const char *scope, const json_t *keys,
                  struct mlc_str *ret) MLC_CHECK;
/* The caller owns *ret_keys, an array. MLC_E_INVALID when the text was not made by cursor_encode.
 */
int cursor_decode(const struct cursor_key *key, const char *scope, const char *text,
                  json_t **ret_keys) MLC_CHECK;
