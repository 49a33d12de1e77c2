/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "base/str.h"
#include "base/utf8.h"

/*
 * Appends text that came from others in a form that is safe on a terminal: C0 and C1 controls,
 * DEL, bidirectional controls, line and paragraph separators, zero-width and other invisible
 * format characters as \u{HEX}, bytes that are not UTF-8 as \xHH, a backslash as two. Tab and
 * LF are escaped as \t and \n. Check ret with mlc_str_check().
 */
void mlc_utf8_escape_display(const char *s, size_t len, struct mlc_str *ret);
