/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mlctl/error.h"

/* All of them retry EINTR and report MLC_E_IO (MLC_E_NOT_FOUND for a missing file, MLC_E_NO_SPACE
 * for ENOSPC and EDQUOT) with the path in the message. */

int mlc_read_full(int fd, void *buf, size_t len, size_t *ret_len, struct mlc_err *err) MLC_CHECK;
int mlc_pread_exact(int fd, void *buf, size_t len, uint64_t off, struct mlc_err *err) MLC_CHECK;
int mlc_write_full(int fd, const void *buf, size_t len, struct mlc_err *err) MLC_CHECK;
/* Whole file, malloc'ed and NUL-terminated (the NUL is not counted); MLC_E_LIMIT when longer than
 * max. */
int mlc_read_file(const char *path, size_t max, char **ret, size_t *ret_len,
                  struct mlc_err *err) MLC_CHECK;
/* Temporary file beside it, fdatasync, rename, fsync of the directory. */
int mlc_write_file_atomic(const char *path, const void *buf, size_t len, mode_t mode,
                          struct mlc_err *err) MLC_CHECK;
int mlc_fsync_dir(const char *dir, struct mlc_err *err) MLC_CHECK;
int mlc_fsync_parent(const char *path, struct mlc_err *err) MLC_CHECK;
/* mkdir -p; each directory that was made is fsynced into its parent. */
int mlc_mkdirs(const char *dir, mode_t mode, struct mlc_err *err) MLC_CHECK;
/* Sets err from errno: "WHAT 'PATH': strerror". Returns the code. */
int mlc_fail_errno(struct mlc_err *err, const char *what, const char *path);
