/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "store/store_internal.h"

#define SPACE_FLOOR_MIN (1ULL << 30)
#define HASH_STEP (256u << 10)

void store_blob_name(const struct mlc_digest *d, char ret[STORE_BLOB_NAME])
{
        char hex[65];

        mlc_hex_encode(d->b, sizeof(d->b), hex);
        (void)snprintf(ret, STORE_BLOB_NAME, "%.2s/%s", hex, hex);
}

uint64_t store_space_floor(uint64_t total)
{
        uint64_t part = total / 20;

        return part > SPACE_FLOOR_MIN ? part : SPACE_FLOOR_MIN;
}

int store_space_check(int fd, uint64_t need, struct mlc_err *err)
{
        struct statvfs v;
        uint64_t avail, floor;

        if (fstatvfs(fd, &v) < 0)
                return mlc_fail_errno(err, "cannot read the free space of", "uploads");
        avail = (uint64_t)v.f_bavail * v.f_frsize;
        floor = store_space_floor((uint64_t)v.f_blocks * v.f_frsize);
        if (avail < floor || avail - floor < need)
                return mlc_fail(
                        err, MLC_E_NO_SPACE,
                        "not enough free disk space: %llu bytes are to come, %llu are free, %llu "
                        "must stay free",
                        (unsigned long long)need, (unsigned long long)avail,
                        (unsigned long long)floor);
        return 0;
}

int store_pwrite_full(int fd, const void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        const unsigned char *p = buf;

        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, (off_t)off);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return mlc_fail_errno(err, "cannot write", "uploads/…/data");
                p += n;
                off += (uint64_t)n;
                len -= (size_t)n;
        }
        return 0;
}

/* blobs/sha256/ab, made when it is missing. */
static int open_fan(struct store *s, const char name[STORE_BLOB_NAME], int *ret,
                    struct mlc_err *err)
{
        char fan[3] = {name[0], name[1], '\0'};
        int fd = openat(s->blobs_fd, fan, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT) {
                if (mkdirat(s->blobs_fd, fan, 0700) < 0 && errno != EEXIST)
                        return mlc_fail_errno(err, "cannot make", name);
                if (fsync(s->blobs_fd) < 0)
                        return mlc_fail_errno(err, "cannot sync", "blobs/sha256");
                fd = openat(s->blobs_fd, fan, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        if (fd < 0)
                return mlc_fail_errno(err, "cannot open", name);
        *ret = fd;
        return 0;
}

static int link_blob(int dir_fd, int fan_fd, const char *file, uint64_t size, struct mlc_err *err)
{
        struct stat st;

        if (linkat(dir_fd, "data", fan_fd, file, 0) == 0)
                return 0;
        if (errno != EEXIST)
                return mlc_fail_errno(err, "cannot link", file);
        if (fstatat(fan_fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            (uint64_t)st.st_size == size)
                return 0;
        /* damaged: our bytes take its place */
        if (linkat(dir_fd, "data", dir_fd, "whole", 0) < 0 && errno != EEXIST)
                return mlc_fail_errno(err, "cannot link", file);
        if (renameat(dir_fd, "whole", fan_fd, file) < 0)
                return mlc_fail_errno(err, "cannot replace", file);
        return 0;
}

int store_publish(struct store *s, int dir_fd, const struct mlc_digest *d, uint64_t size,
                  struct mlc_err *err)
{
        _cleanup_(close_fd) int fan_fd = -1;
        char name[STORE_BLOB_NAME];
        int r;

        store_blob_name(d, name);
        if (fchmodat(dir_fd, "data", 0400, 0) < 0)
                return mlc_fail_errno(err, "cannot protect", name);
        r = open_fan(s, name, &fan_fd, err);
        if (r < 0)
                return r;
        r = link_blob(dir_fd, fan_fd, name + 3, size, err);
        if (r < 0)
                return r;
        /* also when the file was there already: whoever made it may not have come this far yet */
        if (fsync(fan_fd) < 0)
                return mlc_fail_errno(err, "cannot sync", name);
        return 0;
}

int store_dir_make(struct store *s, const char *id, int *ret_dir_fd, int *ret_data_fd,
                   struct mlc_err *err)
{
        _cleanup_(close_fd) int dir_fd = -1;
        _cleanup_(close_fd) int data_fd = -1;

        if (atomic_load(&s->kept) >= STORE_KEPT_MAX)
                return mlc_fail(err, MLC_E_TOO_MANY, "too many unfinished uploads");
        if (mkdirat(s->uploads_fd, id, 0700) < 0)
                return mlc_fail_errno(err, "cannot make", "uploads/…");
        atomic_fetch_add(&s->kept, 1);
        dir_fd = openat(s->uploads_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd >= 0)
                data_fd = openat(dir_fd, "data", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (data_fd < 0 || flock(data_fd, LOCK_EX | LOCK_NB) < 0) {
                int r = mlc_fail_errno(err, "cannot make", "uploads/…/data");

                store_dir_remove(s, id, dir_fd);
                return r;
        }
        *ret_dir_fd = TAKE_FD(dir_fd);
        *ret_data_fd = TAKE_FD(data_fd);
        return 0;
}

void store_dir_remove(struct store *s, const char *id, int dir_fd)
{
        /* the data last: while it is there, a sweep can tell whose blob it is linked to */
        static const char *const files[] = {"state", "state.new", "whole", "data"};

        if (dir_fd >= 0)
                for (size_t i = 0; i < ARRAY_LEN(files); i++)
                        (void)unlinkat(dir_fd, files[i], 0);
        if (unlinkat(s->uploads_fd, id, AT_REMOVEDIR) == 0)
                atomic_fetch_sub(&s->kept, 1);
}

int store_hash_file(int fd, uint64_t len, struct mlc_sha256 *ret, struct mlc_err *err)
{
        _cleanup_(free_p) unsigned char *buf = malloc(HASH_STEP);
        struct mlc_sha256 h;
        uint64_t off = 0;

        if (buf == NULL)
                abort();
        mlc_sha256_init(&h);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        while (off < len) {
                size_t want = len - off < HASH_STEP ? (size_t)(len - off) : HASH_STEP;
                int r = mlc_pread_exact(fd, buf, want, off, err);

                if (r < 0)
                        return r;
                mlc_sha256_update(&h, buf, want);
                off += want;
        }
        *ret = h;
        return 0;
}
