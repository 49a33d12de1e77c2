/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/archive.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#define COPY_SIZE 65536

/*
 * Opens the folder that `path` names below root_fd, making what is missing. One component at a time
 * with O_NOFOLLOW: since the components are checked (no "..", no '/'), this cannot leave root_fd,
 * with or without openat2, and whatever others do to the tree meanwhile.
 */
static int open_folder(int root_fd, const char *path, size_t len, int *ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int at = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
        char name[MLC_PATH_COMPONENT_MAX + 1];

        if (at < 0)
                return mlc_fail_errno(err, "open", path);
        for (size_t i = 0, n; i < len; i += n + 1) {
                const char *slash = memchr(path + i, '/', len - i);
                int fd;

                n = slash != NULL ? (size_t)(slash - path) - i : len - i;
                assert(n > 0 && n < sizeof(name));
                memcpy(name, path + i, n);
                name[n] = '\0';
                if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
                        return mlc_fail_errno(err, "make folder", path);
                fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "a part of '%s' exists and is not a folder", path);
                if (fd < 0)
                        return mlc_fail_errno(err, "open folder", path);
                (void)close(at);
                at = fd;
        }
        *ret = TAKE_FD(at);
        return 0;
}

static int write_file(struct mlc_archive *ar, int fd, const char *path, struct mlc_err *err)
{
        char buf[COPY_SIZE];
        size_t n;

        for (;;) {
                int r = mlc_archive_read(ar, buf, sizeof(buf), &n, err);

                if (r < 0)
                        return r;
                if (n == 0)
                        return 0;
                r = mlc_write_full(fd, buf, n, err);
                if (r < 0)
                        return mlc_wrap(err, "unpack '%s'", path);
        }
}

static int extract_one(struct mlc_archive *ar, int root_fd, const struct mlc_archive_item *item,
                       struct mlc_err *err)
{
        const char *slash = strrchr(item->path, '/');
        const char *name = slash != NULL ? slash + 1 : item->path;
        size_t folder_len = item->directory ? strlen(item->path)
                            : slash != NULL ? (size_t)(slash - item->path)
                                            : 0;
        _cleanup_(close_fd) int folder = -1, fd = -1;
        int r = open_folder(root_fd, item->path, folder_len, &folder, err);

        if (r < 0 || item->directory)
                return r;
        fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    item->executable ? 0755 : 0644);
        if (fd < 0 && errno == EEXIST)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' exists already", item->path);
        if (fd < 0)
                return mlc_fail_errno(err, "create", item->path);
        return write_file(ar, fd, item->path, err);
}

int mlc_archive_extract(struct mlc_archive *ar, int root_fd, struct mlc_err *err)
{
        struct mlc_archive_item item;
        bool more;

        for (;;) {
                int r = mlc_archive_next(ar, &item, &more, err);

                if (r < 0 || !more)
                        return r;
                r = extract_one(ar, root_fd, &item, err);
                if (r < 0)
                        return r;
        }
}
