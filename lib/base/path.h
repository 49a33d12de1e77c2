/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "mlctl/error.h"

#define MLC_PATH_MAX 4096 /* bytes, NUL not counted */
#define MLC_PATH_DEPTH_MAX 64 /* components */
#define MLC_PATH_COMPONENT_MAX 255

/*
 * The one rule for paths inside an artifact or an archive: valid UTF-8 (shortest form, no
 * surrogates), relative, components separated by single '/', none of them empty, "." or "..", no
 * backslash, no control character (C0, DEL, C1); within the
 * limits above. MLC_E_INVALID says which part of the rule; the path itself is shown
 * escaped.
 */
int mlc_path_check(const char *path, struct mlc_err *err) MLC_CHECK;

/* Copies at most size-1 bytes, replacing what is not printable ASCII by \xNN; for error messages.
 */
void mlc_text_escape(const char *s, size_t len, char *ret, size_t size);
/*
 * The key under which two paths collide on a file system that ignores case: simple lower case for
 * ASCII, Latin-1, Latin Extended-A, Greek and Cyrillic; other letters are kept. Nothing is composed
 * or decomposed. `ret` has room for strlen(path) + 1 bytes; the key is never longer. The path has
 * passed mlc_path_check.
 */
void mlc_path_fold(const char *path, char *ret);
