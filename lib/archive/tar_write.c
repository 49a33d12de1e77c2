/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/archive.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

/* POSIX.1-1988 ustar header block; every number is octal text. */
struct ustar {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag;
        char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8];
        char prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == 512, "a tar block is 512 bytes");

#define BLOCK ((uint64_t)512)
#define USTAR_SIZE_MAX UINT64_C(077777777777)
#define COPY_SIZE ((size_t)256 * 1024)
#define END_SIZE (2 * BLOCK)

static const char ZEROS[END_SIZE];

static uint64_t padding(uint64_t size)
{
        return (BLOCK - size % BLOCK) % BLOCK;
}

static bool is_ascii(const char *s)
{
        for (; *s != '\0'; s++)
                if ((unsigned char)*s >= 0x80)
                        return false;
        return true;
}

/* Splits at a '/', so that name and prefix fit into their fields; false when none does. */
static bool split(const char *path, const char **ret_name, size_t *ret_prefix_len)
{
        size_t len = strlen(path);

        *ret_name = path;
        *ret_prefix_len = 0;
        if (len <= sizeof(((struct ustar *)0)->name))
                return true;
        /* the leftmost slash that leaves a short enough name: one answer, whoever computes it */
        for (const char *p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/')) {
                size_t left = (size_t)(p - path);

                if (left > sizeof(((struct ustar *)0)->prefix))
                        return false;
                if (len - left - 1 <= sizeof(((struct ustar *)0)->name)) {
                        *ret_name = p + 1;
                        *ret_prefix_len = left;
                        return true;
                }
        }
        return false;
}

static void pax_record(struct mlc_str *s, const char *key, const char *value)
{
        size_t body = strlen(key) + strlen(value) + 3; /* ' ', '=', LF */
        size_t len = body + 1, digits;

        /* the length counts its own digits */
        for (;;) {
                digits = (size_t)snprintf(NULL, 0, "%zu", len);
                if (body + digits == len)
                        break;
                len = body + digits;
        }
        mlc_str_addf(s, "%zu %s=%s\n", len, key, value);
}

/* The pax records that this file needs; empty when ustar has room for all. */
static void pax_records(const struct mlc_archive_file *f, struct mlc_str *s)
{
        const char *name;
        size_t prefix;
        char text[24];

        if (!is_ascii(f->path) || !split(f->path, &name, &prefix))
                pax_record(s, "path", f->path);
        if (f->size > USTAR_SIZE_MAX) {
                (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)f->size);
                pax_record(s, "size", text);
        }
}

static void fill_header(struct ustar *h, char type, uint64_t size, bool executable)
{
        char text[16];
        unsigned sum = 0;

        memcpy(h->mode, executable ? "0000755" : "0000644", 8);
        memcpy(h->uid, "0000000", 8);
        memcpy(h->gid, "0000000", 8);
        (void)snprintf(text, sizeof(text), "%011llo",
                       (unsigned long long)(size > USTAR_SIZE_MAX ? 0 : size));
        memcpy(h->size, text, sizeof(h->size));
        memcpy(h->mtime, "00000000000", sizeof(h->mtime));
        h->typeflag = type;
        memcpy(h->magic, "ustar", 6);
        memcpy(h->version, "00", 2);
        memcpy(h->devmajor, "0000000", 8);
        memcpy(h->devminor, "0000000", 8);
        memset(h->chksum, ' ', sizeof(h->chksum));
        for (size_t i = 0; i < sizeof(*h); i++)
                sum += ((const unsigned char *)h)[i];
        (void)snprintf(text, sizeof(text), "%06o", sum);
        memcpy(h->chksum, text, 7); /* six digits, NUL; the last byte stays a space */
}

static int put(const struct mlc_archive_sink *sink, const void *buf, size_t len,
               struct mlc_err *err)
{
        return len == 0 ? 0 : sink->write(sink->userdata, buf, len, err);
}

static int put_headers(const struct mlc_archive_file *f, const struct mlc_archive_sink *sink,
                       struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str pax = {0};
        struct ustar h = {0};
        const char *name;
        size_t prefix;
        int r;

        mlc_str_init(&pax, MLC_PATH_MAX + 128);
        pax_records(f, &pax);
        r = mlc_str_check(&pax, err);
        if (r < 0)
                return r;
        if (pax.len > 0) {
                memcpy(h.name, "pax", 3);
                fill_header(&h, 'x', pax.len, false);
                r = put(sink, &h, sizeof(h), err);
                if (r < 0)
                        return r;
                r = put(sink, pax.data, pax.len, err);
                if (r < 0)
                        return r;
                r = put(sink, ZEROS, padding(pax.len), err);
                if (r < 0)
                        return r;
                memset(&h, 0, sizeof(h));
        }
        if (is_ascii(f->path) && split(f->path, &name, &prefix)) {
                memcpy(h.name, name, strlen(name));
                memcpy(h.prefix, f->path, prefix);
        } else {
                memcpy(h.name, "pax", 3); /* the record before has the path */
        }
        fill_header(&h, '0', f->size, f->executable);
        return put(sink, &h, sizeof(h), err);
}

static int open_source(const struct mlc_archive_file *f, int *ret, struct mlc_err *err)
{
        struct stat st;
        int fd = open(f->source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0)
                return mlc_fail_errno(err, "open", f->source);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                (void)close(fd);
                return mlc_fail(err, MLC_E_INVALID, "'%s' is not a regular file", f->source);
        }
        *ret = fd;
        return 0;
}

/* What pread gives, begun again when a signal came: bytes, 0 at the end, -1 with errno. */
static ssize_t read_some(int fd, void *buf, size_t len, uint64_t off)
{
        ssize_t n;

        do
                n = pread(fd, buf, len, (off_t)off);
        while (n < 0 && errno == EINTR);
        return n;
}

static int put_content(const struct mlc_archive_file *f, char *buf,
                       const struct mlc_archive_sink *sink, struct mlc_err *err)
{
        _cleanup_(close_fd) int opened = -1;
        uint64_t off = 0;
        ssize_t n;
        int fd = f->fd, r;

        if (fd < 0) {
                r = open_source(f, &opened, err);
                if (r < 0)
                        return r;
                fd = opened;
        }
        while (off < f->size) {
                uint64_t want = f->size - off;

                n = read_some(fd, buf, want < COPY_SIZE ? (size_t)want : COPY_SIZE, off);
                if (n < 0)
                        return mlc_fail_errno(err, "read", f->path);
                if (n == 0)
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "'%s' became shorter while it was read", f->path);
                r = put(sink, buf, (size_t)n, err);
                if (r < 0)
                        return r;
                off += (uint64_t)n;
        }
        n = read_some(fd, buf, 1, off);
        if (n < 0)
                return mlc_fail_errno(err, "read", f->path);
        if (n != 0)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' became longer while it was read",
                                f->path);
        return put(sink, ZEROS, padding(f->size), err);
}

static int by_path(const void *a, const void *b)
{
        const struct mlc_archive_file *const *x = a, *const *y = b;

        return strcmp((*x)->path, (*y)->path);
}

static int sort(const struct mlc_archive_file *files, size_t n,
                const struct mlc_archive_file ***ret, struct mlc_err *err)
{
        _cleanup_(free_p) const struct mlc_archive_file **order = calloc(n + 1, sizeof(*order));
        int r;

        if (order == NULL)
                abort();
        for (size_t i = 0; i < n; i++) {
                r = mlc_path_check(files[i].path, err);
                if (r < 0)
                        return r;
                order[i] = &files[i];
        }
        if (n > 1)
                qsort(order, n, sizeof(*order), by_path);
        for (size_t i = 1; i < n; i++)
                if (strcmp(order[i - 1]->path, order[i]->path) == 0)
                        return mlc_fail(err, MLC_E_INVALID, "path '%s' is there twice",
                                        order[i]->path);
        *ret = TAKE_PTR(order);
        return 0;
}

int mlc_archive_size(const struct mlc_archive_file *files, size_t n, uint64_t *ret,
                     struct mlc_err *err)
{
        uint64_t total = END_SIZE;

        for (size_t i = 0; i < n; i++) {
                _cleanup_(mlc_str_done) struct mlc_str pax = {0};
                uint64_t one = BLOCK;
                int r = mlc_path_check(files[i].path, err);

                if (r < 0)
                        return r;
                mlc_str_init(&pax, MLC_PATH_MAX + 128);
                pax_records(&files[i], &pax);
                if (pax.len > 0)
                        one += BLOCK + pax.len + padding(pax.len);
                if (files[i].size > INT64_MAX - BLOCK ||
                    __builtin_add_overflow(total, one + files[i].size + padding(files[i].size),
                                           &total))
                        return mlc_fail(err, MLC_E_LIMIT, "'%s' is too large for an archive",
                                        files[i].path);
        }
        *ret = total;
        return 0;
}

int mlc_archive_write(const struct mlc_archive_file *files, size_t n,
                      const struct mlc_archive_sink *sink, struct mlc_err *err)
{
        _cleanup_(free_p) const struct mlc_archive_file **order = NULL;
        _cleanup_(free_p) char *buf = malloc(COPY_SIZE);
        int r;

        if (buf == NULL)
                abort();
        r = sort(files, n, &order, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = put_headers(order[i], sink, err);
                if (r < 0)
                        return r;
                r = put_content(order[i], buf, sink, err);
                if (r < 0)
                        return r;
        }
        return put(sink, ZEROS, END_SIZE, err);
}
