/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "codec/hex.h"
#include "store/reclaim.h"
#include "store/store_internal.h"

/* Sets *ret_what and stops the caller's loop. */
#define SAY(ctx, ret_what, ...) (*(ret_what) = ctx_printf((ctx), __VA_ARGS__))

static const char *shown(struct mlc_ctx *ctx, const char *name)
{
        char buf[300];

        mlc_text_escape(name, strlen(name), buf, sizeof(buf));
        return ctx_strdup(ctx, buf);
}

/* The digest of a file; false when it is not there or no regular file. */
static int hash_blob(struct mlc_ctx *ctx, const char *name, struct mlc_digest *ret, struct stat *st,
                     bool *ret_there)
{
        _cleanup_(close_fd) int fd = -1;
        struct mlc_sha256 h;
        int r;

        *ret_there = false;
        fd = openat(ctx->app->store->blobs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && (errno == ENOENT || errno == ELOOP))
                return 0;
        if (fd < 0)
                return mlc_fail_errno(&ctx->err, "cannot open", name);
        if (fstat(fd, st) < 0)
                return mlc_fail_errno(&ctx->err, "cannot read", name);
        if (!S_ISREG(st->st_mode))
                return 0;
        r = store_hash_file(fd, (uint64_t)st->st_size, &h, &ctx->err);
        if (r < 0)
                return r;
        mlc_sha256_final(&h, ret);
        *ret_there = true;
        return 0;
}

static int check_row(struct mlc_ctx *ctx, const struct mlc_digest *want, int64_t size,
                     const char **ret_what)
{
        char name[STORE_BLOB_NAME], digest[MLC_DIGEST_STR];
        struct mlc_digest have;
        struct stat st;
        bool there;
        int r;

        store_blob_name(want, name);
        mlc_digest_format(want, digest);
        r = hash_blob(ctx, name, &have, &st, &there);
        if (r < 0)
                return r;
        if (!there)
                SAY(ctx, ret_what, "blob '%s' is missing from blobs/", digest);
        else if (!mlc_digest_equal(want, &have))
                SAY(ctx, ret_what, "blob '%s' was changed: its bytes have another digest", digest);
        else if (st.st_size != size)
                SAY(ctx, ret_what,
                    "the row of blob '%s' was changed: it says %lld bytes, the file has %lld",
                    digest, (long long)size, (long long)st.st_size);
        return 0;
}

/* One page of rows; *after moves on, *ret_end at the last. */
static int check_page(struct mlc_ctx *ctx, struct mlc_digest *after, bool first, bool *ret_end,
                      const char **ret_what)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;
        {
                _cleanup_(db_tx_done) struct db_tx tx = {0};

                r = db_tx_begin_read(ctx, &tx);
                if (r == 0)
                        r = store_db_blobs_after(&tx, first ? NULL : after, &rows);
                if (r < 0)
                        return r;
        }
        for (int i = 0; i < rows.n && *ret_what == NULL; i++) {
                if (!mlc_hex_decode(db_text(&rows, i, 0), after->b, sizeof(after->b)))
                        return ctx_fail(ctx, MLC_E_INTERNAL,
                                        "a digest of table 'blob' cannot be read");
                r = check_row(ctx, after, db_int(&rows, i, 1), ret_what);
                if (r < 0)
                        return r;
        }
        *ret_end = rows.n == 0;
        return 0;
}

/* Does an unfinished upload hold these very bytes? In a copied DIR the link may have become a file
 * of its own. */
static int in_upload(struct mlc_ctx *ctx, const struct stat *st, const struct mlc_digest *d,
                     bool *ret)
{
        _cleanup_(store_close_dir) DIR *dir = NULL;
        const char *id;
        int r = store_open_dir(ctx->app->store->uploads_fd, ".", &dir, &ctx->err);

        if (r < 0)
                return r;
        *ret = false;
        while (!*ret && (id = store_next_name(dir)) != NULL) {
                _cleanup_(close_fd) int fd = -1;
                char path[300];
                struct mlc_digest have;
                struct mlc_sha256 h;
                struct stat up;

                (void)snprintf(path, sizeof(path), "%s/data", id);
                fd = openat(dirfd(dir), path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                if (fd < 0 || fstat(fd, &up) < 0 || up.st_size != st->st_size)
                        continue;
                if (up.st_ino == st->st_ino && up.st_dev == st->st_dev) {
                        *ret = true;
                        break;
                }
                r = store_hash_file(fd, (uint64_t)up.st_size, &h, &ctx->err);
                if (r < 0)
                        return r;
                mlc_sha256_final(&h, &have);
                *ret = mlc_digest_equal(&have, d);
        }
        return 0;
}

static int has_row(struct mlc_ctx *ctx, const struct mlc_digest *d, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int64_t size;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = store_db_size(&tx, d, &size);
        if (r == 0)
                *ret = size >= 0;
        return r;
}

static int check_file(struct mlc_ctx *ctx, const char *fan, const char *name, const char **ret_what)
{
        char path[STORE_BLOB_NAME];
        struct mlc_digest d, have;
        struct stat st;
        bool ok;
        int r;

        if (!mlc_hex_decode(name, d.b, sizeof(d.b)) || strncmp(name, fan, 2) != 0) {
                SAY(ctx, ret_what, "file 'blobs/sha256/%s/%s' is accounted for by nothing", fan,
                    shown(ctx, name));
                return 0;
        }
        r = has_row(ctx, &d, &ok);
        if (r < 0 || ok)
                return r; /* its bytes were checked with the row */
        store_blob_name(&d, path);
        r = hash_blob(ctx, path, &have, &st, &ok);
        if (r == 0 && ok)
                r = in_upload(ctx, &st, &have, &ok);
        if (r == 0 && !ok)
                SAY(ctx, ret_what, "file 'blobs/sha256/%s' is accounted for by nothing", path);
        return r;
}

static bool fan_name(const char *name)
{
        return strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2;
}

static int check_fan(struct mlc_ctx *ctx, const char *fan, const char **ret_what)
{
        _cleanup_(store_close_dir) DIR *dir = NULL;
        const char *name;
        int r;

        if (!fan_name(fan)) {
                SAY(ctx, ret_what, "'blobs/sha256/%s' is accounted for by nothing",
                    shown(ctx, fan));
                return 0;
        }
        r = store_open_dir(ctx->app->store->blobs_fd, fan, &dir, &ctx->err);
        while (r == 0 && *ret_what == NULL && (name = store_next_name(dir)) != NULL)
                r = check_file(ctx, fan, name, ret_what);
        return r;
}

static int check_files(struct mlc_ctx *ctx, const char **ret_what)
{
        _cleanup_(store_close_dir) DIR *top = NULL;
        _cleanup_(store_close_dir) DIR *dir = NULL;
        const char *name;
        int r = store_open_dir(ctx->app->store->blobs_fd, "..", &top, &ctx->err);

        if (r == 0)
                r = store_open_dir(ctx->app->store->blobs_fd, ".", &dir, &ctx->err);
        if (r < 0)
                return r;
        while (*ret_what == NULL && (name = store_next_name(top)) != NULL)
                if (strcmp(name, "sha256") != 0)
                        SAY(ctx, ret_what, "'blobs/%s' is accounted for by nothing",
                            shown(ctx, name));
        while (r == 0 && *ret_what == NULL && (name = store_next_name(dir)) != NULL)
                r = check_fan(ctx, name, ret_what);
        return r;
}

int store_check(struct mlc_ctx *ctx, const char **ret_what)
{
        const char *what = NULL;
        struct mlc_digest after = {{0}};
        bool end = false;
        int r = 0;

        for (bool first = true; r == 0 && what == NULL && !end; first = false)
                r = check_page(ctx, &after, first, &end, &what);
        if (r == 0 && what == NULL)
                r = check_files(ctx, &what);
        if (r < 0)
                return r;
        if (ctx->err.code != 0)
                return ctx->err.code; /* the sentence did not fit into the arena */
        *ret_what = what;
        return 0;
}
