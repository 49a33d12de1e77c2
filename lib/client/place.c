/* SPDX-License-Identifier: Apache-2.0 */
#include "client/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "crypto/hash.h"

#define READ_SIZE ((size_t)1 << 20)
#define DEPTH_MAX (MLC_PATH_DEPTH_MAX + 4)

static int open_beneath(int dir_fd, const char *path, int flags)
{
        struct open_how how = {
                .flags = (unsigned)(flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK),
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };

        return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
}

static int in_the_way(const char *path, struct mlc_err *err)
{
        return mlc_fail(err, MLC_E_CONFLICT,
                        "at '%s' there is a link, a directory or something else that is no file",
                        path);
}

static int digest_fd(int fd, struct mlc_digest *ret, uint64_t *ret_size, struct mlc_err *err)
{
        _cleanup_(free_p) char *buf = malloc(READ_SIZE);
        struct mlc_sha256 h;
        uint64_t size = 0;
        size_t n;
        int r;

        if (buf == NULL)
                abort();
        mlc_sha256_init(&h);
        do {
                r = mlc_read_full(fd, buf, READ_SIZE, &n, err);
                if (r < 0)
                        return r;
                mlc_sha256_update(&h, buf, n);
                size += n;
        } while (n > 0);
        mlc_sha256_final(&h, ret);
        *ret_size = size;
        return 0;
}

int mlc_place_look(int dir_fd, const char *path, uint64_t size, struct mlc_digest *ret_digest,
                   enum mlc_place_state *ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open_beneath(dir_fd, path, O_RDONLY);
        struct stat st;
        uint64_t read;
        int r;

        if (fd < 0 && errno == ENOENT) {
                *ret = MLC_PLACE_FREE;
                return 0;
        }
        if (fd < 0 && (errno == ELOOP || errno == ENOTDIR || errno == ENXIO))
                return in_the_way(path, err);
        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "open", path);
        if (!S_ISREG(st.st_mode))
                return in_the_way(path, err);
        if ((uint64_t)st.st_size != size) {
                *ret = MLC_PLACE_OTHER;
                return 0;
        }
        r = digest_fd(fd, ret_digest, &read, err);
        if (r < 0)
                return r;
        *ret = MLC_PLACE_SAME_SIZE;
        return 0;
}

int mlc_place_digest(int dir_fd, const char *path, struct mlc_digest *ret, uint64_t *ret_size,
                     struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open_beneath(dir_fd, path, O_RDONLY);

        if (fd < 0)
                return mlc_fail_errno(err, "open", path);
        return digest_fd(fd, ret, ret_size, err);
}

/* Opens the directory that the path's last component is to be in, making what is missing. */
static int open_parent(int dir_fd, const char *path, int *ret, const char **ret_name,
                       struct mlc_err *err)
{
        _cleanup_(close_fd) int at = dup(dir_fd);
        const char *p = path, *slash;

        if (at < 0)
                return mlc_fail_errno(err, "open", path);
        while ((slash = strchr(p, '/')) != NULL) {
                char name[MLC_PATH_COMPONENT_MAX + 1];
                int next;

                if ((size_t)(slash - p) >= sizeof(name))
                        return mlc_fail(err, MLC_E_INVALID, "'%s' is no good path", path);
                memcpy(name, p, (size_t)(slash - p));
                name[slash - p] = '\0';
                if (mkdirat(at, name, 0777) < 0 && errno != EEXIST)
                        return mlc_fail_errno(err, "make the directory of", path);
                next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
                if (next < 0)
                        return in_the_way(path, err);
                (void)close(at);
                at = next;
                p = slash + 1;
        }
        *ret_name = p;
        *ret = TAKE_FD(at);
        return 0;
}

static int copy_beside(const struct mlc_place *p, const char *to, struct mlc_err *err)
{
        _cleanup_(close_fd) int in = open_beneath(p->from_fd, p->from, O_RDONLY), out = -1;
        _cleanup_(free_p) char *buf = malloc(READ_SIZE);
        size_t n;
        int r;

        if (buf == NULL)
                abort();
        if (in < 0)
                return mlc_fail_errno(err, "open", p->from);
        (void)unlinkat(p->from_fd, to, 0);
        out = openat(p->from_fd, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (out < 0)
                return mlc_fail_errno(err, "create", to);
        do {
                r = mlc_read_full(in, buf, READ_SIZE, &n, err);
                if (r == 0)
                        r = mlc_write_full(out, buf, n, err);
                if (r < 0)
                        return r;
        } while (n > 0);
        return 0;
}

static int set_mode(int fd, const char *from, bool executable, struct mlc_err *err)
{
        struct stat st;
        mode_t mode;

        if (fstatat(fd, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return mlc_fail_errno(err, "open", from);
        mode = st.st_mode & 0666;
        if (executable)
                mode |= (mode & 0444) >> 2;
        if (mode != (st.st_mode & 0777) && fchmodat(fd, from, mode, 0) < 0)
                return mlc_fail_errno(err, "set the mode of", from);
        return 0;
}

int mlc_place_file(const struct mlc_place *p, struct mlc_err *err)
{
        static const char copy_name[] = "copy";
        const char *from = p->copy ? copy_name : p->from, *name;
        _cleanup_(close_fd) int parent = -1;
        int r = p->copy ? copy_beside(p, copy_name, err) : 0;

        if (r < 0)
                return r;
        r = set_mode(p->from_fd, from, p->executable, err);
        if (r < 0)
                return r;
        r = open_parent(p->dir_fd, p->path, &parent, &name, err);
        if (r < 0)
                return r;
        if (renameat2(p->from_fd, from, parent, name, p->replace ? 0 : RENAME_NOREPLACE) == 0)
                return 0;
        if (errno == EEXIST)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' appeared meanwhile", p->path);
        if (errno == EISDIR)
                return in_the_way(p->path, err);
        return mlc_fail_errno(err, "write", p->path);
}

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

static int remove_at(int dir_fd, const char *name, unsigned depth, struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *d = NULL;
        struct dirent *e;
        int fd, r;

        if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        if (errno != EISDIR || depth > DEPTH_MAX)
                return mlc_fail_errno(err, "remove", name);
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        d = fd >= 0 ? fdopendir(fd) : NULL;
        if (d == NULL)
                return mlc_fail_errno(err, "open", name);
        while ((e = readdir(d)) != NULL) {
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                r = remove_at(fd, e->d_name, depth + 1, err);
                if (r < 0)
                        return r;
        }
        if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0)
                return mlc_fail_errno(err, "remove", name);
        return 0;
}

int mlc_place_remove(int dir_fd, const char *name, struct mlc_err *err)
{
        return remove_at(dir_fd, name, 0, err);
}
