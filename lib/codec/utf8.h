/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF. NUL is a valid character. */
bool mlc_utf8_valid(const void *s, size_t len);
/* Length in bytes (1 to 4) of the character at s and its code point, or 0 when it is not valid. */
size_t mlc_utf8_next(const void *s, size_t len, uint32_t *ret);
/*
 * Appends text that came from others in a form that is safe on a terminal: C0 and C1 controls,
 * DEL, bidirectional controls, line and paragraph separators, zero-width and other invisible
 * format characters as \u{HEX}, bytes that are not UTF-8 as \xHH, a backslash as two. Tab and
 * LF are escaped as \t and \n. Check ret with mlc_str_check().
 */
void mlc_utf8_escape_display(const char *s, size_t len, struct mlc_str *ret);
