/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/path.h"
#include "mlctl/error.h"

/*
 * Tar layers. The writer is our own (POSIX.1-1988 ustar with POSIX.1-2001 pax headers where ustar
 * has no room), so that its bytes do not depend on a library's version: same entries, same bytes.
 * The reader is libarchive's, behind the rules below; nothing else in the tree includes libarchive.
 */

struct mlc_archive_sink {
        int (*write)(void *userdata, const void *buf, size_t len, struct mlc_err *err);
        void *userdata;
};

struct mlc_archive_file {
        const char *path; /* in the archive; passes mlc_path_check */
        int fd; /* read from offset 0 with pread; -1: open `source` instead */
        const char *source; /* opened with O_NOFOLLOW, must be a regular file; used when fd is -1 */
        uint64_t size; /* bytes; MLC_E_CONFLICT when the file turns out shorter or longer */
        bool executable; /* mode 0755, else 0644 */
};

/* What mlc_archive_write will produce, in bytes. */
int mlc_archive_size(const struct mlc_archive_file *files, size_t n, uint64_t *ret,
                     struct mlc_err *err) MLC_CHECK;
/*
 * Writes a tar of regular files in byte order of their paths, whatever the order given: mtime 0,
 * uid and gid 0, no names, no directories. Same paths and contents, same bytes. Two equal paths are
 * MLC_E_INVALID.
 */
int mlc_archive_write(const struct mlc_archive_file *files, size_t n,
                      const struct mlc_archive_sink *sink, struct mlc_err *err) MLC_CHECK;

struct mlc_archive_source {
        /* Up to len bytes; *ret_len 0 at the end. */
        int (*read)(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err);
        void *userdata;
};

struct mlc_archive_limits {
        uint64_t entries; /* 0: 100,000 */
        uint64_t bytes; /* of all files together; 0: 1 TiB */
        uint64_t ratio; /* output ÷ input, counted from 1 MiB of output on; 0: 200 */
};

struct mlc_archive_item {
        const char *path; /* valid until the next call on the reader */
        bool directory;
        bool executable;
        uint64_t size; /* as the header says; more or fewer bytes are MLC_E_INVALID */
};

struct mlc_archive;

/*
 * Opens a tar (ustar, pax, GNU), plain or in gzip or zstd. `source` and
 * `limits` (may be NULL) are copied; what source->userdata points to, or the fd, must outlive the
 * reader. Not thread-safe. Free with mlc_archive_free.
 */
int mlc_archive_open(const struct mlc_archive_source *source,
                     const struct mlc_archive_limits *limits, struct mlc_archive **ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_archive_open_fd(int fd, const struct mlc_archive_limits *limits, struct mlc_archive **ret,
                        struct mlc_err *err) MLC_CHECK;
void mlc_archive_free(struct mlc_archive *ar);
void mlc_archive_freep(struct mlc_archive **ar); /* for _cleanup_ */
/*
 * The next entry; *ret_more false at the end (then *ret is untouched). What is left of the entry
 * before is skipped, and counted. Refuses with MLC_E_INVALID: paths that fail mlc_path_check, two
 * entries whose paths are equal after mlc_path_fold or of which one is a file and a parent of the
 * other, links, devices, FIFOs, sparse files, damaged archives; with MLC_E_LIMIT: what passes the
 * limits. After a failure only mlc_archive_free may be called.
 */
int mlc_archive_next(struct mlc_archive *ar, struct mlc_archive_item *ret, bool *ret_more,
                     struct mlc_err *err) MLC_CHECK;
/* Up to len bytes of the current file; *ret_len 0 at its end. */
int mlc_archive_read(struct mlc_archive *ar, void *buf, size_t len, size_t *ret_len,
                     struct mlc_err *err) MLC_CHECK;
/*
 * Writes every entry below the directory root_fd: directories 0755, files 0644 or 0755, never
 * through a symbolic link, never over an existing file (MLC_E_CONFLICT). Existing directories are
 * used. On failure what was written stays.
 */
int mlc_archive_extract(struct mlc_archive *ar, int root_fd, struct mlc_err *err) MLC_CHECK;
