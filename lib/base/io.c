/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

int mlc_fail_errno(struct mlc_err *err, const char *what, const char *path)
{
        int e = errno, code = MLC_E_IO;

        if (e == ENOENT)
                code = MLC_E_NOT_FOUND;
        else if (e == ENOSPC || e == EDQUOT)
                code = MLC_E_NO_SPACE;
        return mlc_fail(err, code, "%s '%s': %s", what, path, strerror(e));
}

int mlc_read_full(int fd, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        size_t n = 0;

        while (n < len) {
                ssize_t k = read(fd, (char *)buf + n, len - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return mlc_fail_errno(err, "read", "descriptor");
                if (k == 0)
                        break;
                n += (size_t)k;
        }
        *ret_len = n;
        return 0;
}

int mlc_pread_exact(int fd, void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        size_t n = 0;

        while (n < len) {
                ssize_t k = pread(fd, (char *)buf + n, len - n, (off_t)(off + n));

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return mlc_fail_errno(err, "read", "descriptor");
                if (k == 0)
                        return mlc_fail(err, MLC_E_IO, "file ends at byte %llu, %zu more expected",
                                        (unsigned long long)(off + n), len - n);
                n += (size_t)k;
        }
        return 0;
}

int mlc_write_full(int fd, const void *buf, size_t len, struct mlc_err *err)
{
        size_t n = 0;

        while (n < len) {
                ssize_t k = write(fd, (const char *)buf + n, len - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return mlc_fail_errno(err, "write", "descriptor");
                n += (size_t)k;
        }
        return 0;
}

int mlc_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_(free_p) char *buf = NULL;
        struct stat st;
        size_t n, size;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "open", path);
        if (st.st_size > 0 && (unsigned long long)st.st_size > max)
                return mlc_fail(err, MLC_E_LIMIT, "'%s' is longer than %zu bytes", path, max);
        size = S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : max + 1;
        buf = malloc(size + 1);
        if (buf == NULL)
                abort();
        r = mlc_read_full(fd, buf, size, &n, err);
        if (r < 0)
                return mlc_wrap(err, "'%s'", path);
        if (n > max)
                return mlc_fail(err, MLC_E_LIMIT, "'%s' is longer than %zu bytes", path, max);
        buf[n] = '\0';
        *ret = TAKE_PTR(buf);
        *ret_len = n;
        return 0;
}

int mlc_fsync_dir(const char *dir, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return mlc_fail_errno(err, "open", dir);
        if (fsync(fd) < 0)
                return mlc_fail_errno(err, "fsync", dir);
        return 0;
}

static int parent_of(const char *path, char ret[PATH_MAX], struct mlc_err *err)
{
        const char *slash = strrchr(path, '/');
        size_t n = slash != NULL ? (size_t)(slash - path) : 1;

        if (n >= PATH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", path);
        if (slash == NULL)
                path = ".";
        else if (n == 0)
                n = 1;
        memcpy(ret, path, n);
        ret[n] = '\0';
        return 0;
}

int mlc_fsync_parent(const char *path, struct mlc_err *err)
{
        char dir[PATH_MAX];
        int r = parent_of(path, dir, err);

        return r < 0 ? r : mlc_fsync_dir(dir, err);
}

static int write_and_sync(const char *tmp, const void *buf, size_t len, mode_t mode,
                          struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        int r;

        if (fd < 0)
                return mlc_fail_errno(err, "create", tmp);
        r = mlc_write_full(fd, buf, len, err);
        if (r < 0)
                return mlc_wrap(err, "'%s'", tmp);
        if (fdatasync(fd) < 0)
                return mlc_fail_errno(err, "fdatasync", tmp);
        if (close(TAKE_FD(fd)) < 0)
                return mlc_fail_errno(err, "close", tmp);
        return 0;
}

int mlc_write_file_atomic(const char *path, const void *buf, size_t len, mode_t mode,
                          struct mlc_err *err)
{
        char tmp[PATH_MAX];
        int r;

        if (snprintf(tmp, sizeof(tmp), "%s.tmp%d", path, (int)getpid()) >= (int)sizeof(tmp))
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", path);
        (void)unlink(tmp);
        r = write_and_sync(tmp, buf, len, mode, err);
        if (r == 0 && rename(tmp, path) < 0)
                r = mlc_fail_errno(err, "rename", tmp);
        if (r < 0) {
                (void)unlink(tmp);
                return r;
        }
        return mlc_fsync_parent(path, err);
}

int mlc_mkdirs(const char *dir, mode_t mode, struct mlc_err *err)
{
        char path[PATH_MAX];
        size_t n = strlen(dir);

        if (n >= sizeof(path))
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
        memcpy(path, dir, n + 1);
        for (char *p = path + 1;; p++) {
                char c = *p;
                int r;

                if (c != '/' && c != '\0')
                        continue;
                *p = '\0';
                if (mkdir(path, mode) == 0) {
                        r = mlc_fsync_parent(path, err);
                        if (r < 0)
                                return r;
                } else if (errno != EEXIST) {
                        return mlc_fail_errno(err, "mkdir", path);
                }
                *p = c;
                if (c == '\0')
                        return 0;
        }
}
