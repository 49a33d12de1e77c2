/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/digest.h"

/* Files below a directory that others may write to: no symbolic link is ever followed. */

enum mlc_place_state {
        MLC_PLACE_FREE, /* nothing is there */
        MLC_PLACE_SAME_SIZE, /* a file of that size, whose digest was computed */
        MLC_PLACE_OTHER, /* a file of another size */
};
/* What is at the path (passed mlc_path_check). MLC_E_CONFLICT for a directory, a link or anything
 * else in its way. */
int mlc_place_look(int dir_fd, const char *path, uint64_t size, struct mlc_digest *ret_digest,
                   enum mlc_place_state *ret, struct mlc_err *err) MLC_CHECK;
int mlc_place_digest(int dir_fd, const char *path, struct mlc_digest *ret, uint64_t *ret_size,
                     struct mlc_err *err) MLC_CHECK;

struct mlc_place {
        int from_fd; /* both on one file system */
        const char *from;
        int dir_fd;
        const char *path;
        bool executable; /* gets the execute bits that its read bits allow */
        bool replace; /* an existing file; else MLC_E_CONFLICT */
        bool copy; /* leave `from` where it is */
};
/* Moves or copies a file to its name; directories on the way are made. */
int mlc_place_file(const struct mlc_place *p, struct mlc_err *err) MLC_CHECK;
/* Removes a file or a directory with all that is in it; missing is fine. */
int mlc_place_remove(int dir_fd, const char *name, struct mlc_err *err) MLC_CHECK;
