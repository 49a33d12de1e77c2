/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "app.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "store/store_internal.h"

static int open_dir(const char *data, const char *below, int *ret, struct mlc_err *err)
{
        char path[MLC_PATH_MAX + 32];
        int fd, r;

        (void)snprintf(path, sizeof(path), "%s/%s", data, below);
        r = mlc_mkdirs(path, 0700, err);
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return mlc_fail_errno(err, "cannot open", path);
        *ret = fd;
        return 0;
}

int store_start(struct app *app, struct mlc_err *err)
{
        struct store *s = calloc(1, sizeof(*s));
        int r;

        if (s == NULL)
                abort();
        s->blobs_fd = s->uploads_fd = -1;
        app->store = s;
        r = open_dir(app->config.data, "blobs/sha256", &s->blobs_fd, err);
        if (r == 0)
                r = open_dir(app->config.data, "uploads", &s->uploads_fd, err);
        return r;
}

void store_stop(struct app *app)
{
        struct store *s = TAKE_PTR(app->store);

        if (s == NULL)
                return;
        assert(atomic_load(&s->held) == 0);
        if (s->blobs_fd >= 0)
                (void)close(s->blobs_fd);
        if (s->uploads_fd >= 0)
                (void)close(s->uploads_fd);
        free(s);
}

int store_open_blob(struct mlc_ctx *ctx, const char *digest, int *ret_fd, uint64_t *ret_size)
{
        _cleanup_(close_fd) int fd = -1;
        char name[STORE_BLOB_NAME];
        struct mlc_digest d;
        struct stat st;
        int r = mlc_digest_parse(digest, &d, &ctx->err);

        if (r < 0)
                return r;
        store_blob_name(&d, name);
        fd = openat(ctx->app->store->blobs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return mlc_fail_errno(&ctx->err, "cannot open blob", digest);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return ctx_fail(ctx, MLC_E_IO, "blob '%s' is no regular file", digest);
        *ret_size = (uint64_t)st.st_size;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int store_has(struct mlc_ctx *ctx, struct db_tx *tx, const char *repo, const char *digest,
              int64_t *ret_size)
{
        _cleanup_(db_tx_done) struct db_tx own = {0};
        struct mlc_digest d;
        int r = mlc_digest_parse(digest, &d, &ctx->err);

        if (r < 0)
                return r;
        if (tx == NULL) {
                tx = &own;
                r = db_tx_begin_read(ctx, tx);
                if (r < 0)
                        return r;
        }
        return store_db_repo_size(tx, repo, &d, ret_size);
}

int store_read_bytes(struct mlc_ctx *ctx, const char *digest, size_t max, const char **ret,
                     size_t *ret_len)
{
        _cleanup_(close_fd) int fd = -1;
        struct mlc_digest want, have;
        uint64_t size;
        char *buf;
        int r = mlc_digest_parse(digest, &want, &ctx->err);

        assert(max <= STORE_BYTES_MAX);

        if (r < 0)
                return r;
        r = store_open_blob(ctx, digest, &fd, &size);
        if (r < 0)
                return r;
        if (size > max)
                return ctx_fail(ctx, MLC_E_LIMIT, "blob '%s' is longer than %zu bytes", digest,
                                max);
        buf = ctx_alloc(ctx, (size_t)size + 1);
        if (buf == NULL)
                return ctx->err.code;
        r = mlc_pread_exact(fd, buf, (size_t)size, 0, &ctx->err);
        if (r < 0)
                return r;
        buf[size] = '\0';
        mlc_sha256(buf, (size_t)size, &have);
        if (!mlc_digest_equal(&want, &have))
                return ctx_fail(ctx, MLC_E_VERIFY, "blob '%s' does not have that digest any more",
                                digest);
        *ret = buf;
        *ret_len = (size_t)size;
        return 0;
}

int store_put_bytes(struct mlc_ctx *ctx, const void *bytes, size_t len, struct store_put *ret)
{
        struct store *s = ctx->app->store;
        _cleanup_(close_fd) int dir_fd = -1;
        struct store_put put = {.size = len, .store = s, .data_fd = -1};
        struct mlc_digest d;
        int r;

        assert(len <= STORE_BYTES_MAX);

        mlc_sha256(bytes, len, &d);
        mlc_digest_format(&d, put.digest);
        mlc_uuid4(put.id);
        r = store_space_check(s->uploads_fd, len, &ctx->err);
        if (r < 0)
                return r;
        r = store_dir_make(s, put.id, &dir_fd, &put.data_fd, &ctx->err);
        if (r < 0)
                return r;
        r = store_pwrite_full(put.data_fd, bytes, len, 0, &ctx->err);
        if (r == 0 && fdatasync(put.data_fd) < 0)
                r = mlc_fail_errno(&ctx->err, "cannot sync", "uploads/…/data");
        if (r == 0)
                r = store_publish(s, dir_fd, &d, len, &ctx->err);
        if (r < 0) {
                store_put_done(&put);
                return r;
        }
        *ret = put;
        return 0;
}

void store_put_done(struct store_put *p)
{
        _cleanup_(close_fd) int dir_fd = -1;
        struct store *s = TAKE_PTR(p->store);

        if (s == NULL)
                return;
        dir_fd = openat(s->uploads_fd, p->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        store_dir_remove(s, p->id, dir_fd);
        (void)close(p->data_fd);
        p->data_fd = -1;
}

int store_link_repo(struct mlc_ctx *ctx, struct db_tx *tx, const char *repo, const char *digest)
{
        char name[STORE_BLOB_NAME];
        struct mlc_digest d;
        struct stat st;
        int r = mlc_digest_parse(digest, &d, &ctx->err);

        if (r < 0)
                return r;
        /* the sweep removes files that have no row, under the same lock alone: look only now */
        r = store_db_lock(tx, &d, false);
        if (r < 0)
                return r;
        store_blob_name(&d, name);
        if (fstatat(ctx->app->store->blobs_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return mlc_fail_errno(&ctx->err, "cannot find blob", digest);
        return store_db_insert(tx, repo, &d, (uint64_t)st.st_size);
}

static int readable_somewhere(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_digest *d,
                              bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = store_db_namespaces(tx, d, &rows);

        if (r < 0)
                return r;
        *ret = false;
        for (int i = 0; i < rows.n && !*ret; i++)
                *ret = auth_may_read(ctx->principal, db_text(&rows, i, 0));
        return 0;
}

/* Is it present in `from`, and may the caller know that? */
static int readable_in(struct mlc_ctx *ctx, struct db_tx *tx, const char *from,
                       const struct mlc_digest *d, bool *ret)
{
        const char *slash = strchr(from, '/');
        const char *ns;
        int64_t size;
        int r;

        *ret = false;
        if (slash == NULL)
                return 0;
        ns = mlc_arena_strndup(&ctx->arena, from, (size_t)(slash - from), &ctx->err);
        if (ns == NULL)
                return ctx->err.code;
        if (!auth_may_read(ctx->principal, ns))
                return 0;
        r = store_db_repo_size(tx, from, d, &size);
        if (r == 0)
                *ret = size >= 0;
        return r;
}

int store_mount(struct mlc_ctx *ctx, const char *repo, const char *from, const char *digest,
                bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct mlc_digest d;
        bool found;
        int r = mlc_digest_parse(digest, &d, &ctx->err);

        assert(ctx->principal != NULL);

        if (r < 0)
                return r;
        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = from != NULL ? readable_in(ctx, &tx, from, &d, &found)
                         : readable_somewhere(ctx, &tx, &d, &found);
        if (r < 0)
                return r;
        if (found) {
                r = store_link_repo(ctx, &tx, repo, digest);
                if (r < 0)
                        return r;
        }
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret = found;
        return 0;
}
