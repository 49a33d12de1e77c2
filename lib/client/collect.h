/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/digest.h"
#include "mlctl/error.h"

#define MLC_FILES_MAX 100000 /* files of one artifact */

/* A file that is going to be part of an artifact. */
struct mlc_file {
        char *path; /* in the artifact; passed mlc_path_check */
        char *source; /* where it is, without symbolic links */
        uint64_t size;
        bool executable;
};

struct mlc_files {
        struct mlc_file *list; /* sorted by path */
        size_t n;
        uint64_t bytes;
};

/*
 * Files and directories as they were named on a command line. Of a directory, paths are relative to
 * it, and it is walked; a relative file keeps its path, an absolute one its base name. Symbolic
 * links are read through when they stay below the directory given (for a file: below the working
 * directory, or the file's own for an absolute one), or always with `follow`. MLC_E_INVALID for
 * links that leave, ".." in a path, sockets, devices, pipes, paths that two files share (also when
 * they differ in case only), names that no artifact can hold; MLC_E_LIMIT above MLC_FILES_MAX;
 * MLC_E_NOT_FOUND. *ret is freed with mlc_files_done.
 */
int mlc_files_collect(const char *const *args, size_t n, bool follow, struct mlc_files *ret,
                      struct mlc_err *err) MLC_CHECK;
void mlc_files_done(struct mlc_files *files); /* for _cleanup_ */
