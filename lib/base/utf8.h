/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF. NUL is a valid character. */
bool mlc_utf8_valid(const void *s, size_t len);
/* Length in bytes (1 to 4) of the character at s and its code point, or 0 when it is not valid. */
size_t mlc_utf8_next(const void *s, size_t len, uint32_t *ret);
/* Characters that move a terminal's cursor, reorder what follows, or cannot be seen: controls,
 * bidirectional and other format characters, separators of lines. */
bool mlc_utf8_unsafe(uint32_t c);
