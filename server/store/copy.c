/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "store/store_internal.h"

#define COPY_CHUNK (64u << 20)

/* Durable under its name, or not there. */
static int copy_file(int from_fd, int to_dir, const char *name, struct mlc_err *err)
{
        _cleanup_(close_fd) int to = -1;
        char temporary[STORE_BLOB_NAME + 8];
        ssize_t n;

        (void)snprintf(temporary, sizeof(temporary), "%s.copy", name);
        to = openat(to_dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0400);
        if (to < 0)
                return mlc_fail_errno(err, "cannot make", temporary);
        while ((n = copy_file_range(from_fd, NULL, to, NULL, COPY_CHUNK, 0)) > 0)
                continue;
        if (n < 0 || fdatasync(to) < 0 || renameat(to_dir, temporary, to_dir, name) < 0)
                return mlc_fail_errno(err, "cannot copy", name);
        return 0;
}

static int copy_blob(struct mlc_ctx *ctx, const char *from_dir, const char *hex)
{
        struct store *s = ctx->app->store;
        char name[STORE_BLOB_NAME], path[4200];
        _cleanup_(close_fd) int from = -1;
        struct mlc_digest d;
        struct stat st;

        if (!mlc_hex_decode(hex, d.b, sizeof(d.b)))
                return ctx_fail(ctx, MLC_E_INTERNAL, "'%s' is no digest", hex);
        store_blob_name(&d, name);
        (void)snprintf(path, sizeof(path), "%.2s", hex);
        if (mkdirat(s->blobs_fd, path, 0700) < 0 && errno != EEXIST)
                return mlc_fail_errno(&ctx->err, "cannot make", path);
        if (fstatat(s->blobs_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                return 0;
        (void)snprintf(path, sizeof(path), "%s/blobs/sha256/%.2s/%s", from_dir, hex, hex);
        from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (from < 0)
                return mlc_fail_errno(&ctx->err, "cannot read", path);
        return copy_file(from, s->blobs_fd, name, &ctx->err);
}

static int copy_fan(struct mlc_ctx *ctx, const char *from_dir, unsigned byte)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = store_db_blobs_between(&tx, byte, &rows);
        db_tx_done(&tx);
        for (int i = 0; i < rows.n && r == 0; i++)
                r = copy_blob(ctx, from_dir, db_text(&rows, i, 0));
        return r;
}

int store_copy_blobs(struct mlc_ctx *ctx, const char *from_dir)
{
        int r = 0;

        for (unsigned byte = 0; byte < 256 && r == 0; byte++)
                r = copy_fan(ctx, from_dir, byte);
        return r;
}
