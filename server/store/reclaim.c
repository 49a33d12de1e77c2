/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "app.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/map.h"
#include "codec/hex.h"
#include "store/reclaim.h"
#include "store/store_internal.h"
#include "work/work.h"

#define MAKING_MS 60000LL /* a directory so young may still be in the making */
#define ORPHAN_MS 3600000LL
#define SWEEP_ARENA (64u << 10)

static int64_t age_ms(const struct timespec *t)
{
        return mlc_now_ms() - ((int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000);
}

int store_open_dir(int at, const char *name, DIR **ret, struct mlc_err *err)
{
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

        if (d == NULL) {
                int r = mlc_fail_errno(err, "cannot open", name);

                if (fd >= 0)
                        (void)close(fd);
                return r;
        }
        *ret = d;
        return 0;
}

const char *store_next_name(DIR *d)
{
        const struct dirent *e;

        while ((e = readdir(d)) != NULL)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        return e->d_name;
        return NULL;
}

/* Unlinks a blob that has no row; `only` names the file it must be, NULL any. */
static int remove_orphan(struct mlc_ctx *ctx, const struct mlc_digest *d, const struct stat *only)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct store *s = ctx->app->store;
        char name[STORE_BLOB_NAME];
        struct stat st;
        int64_t size;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = store_db_lock(&tx, d, true);
        if (r == 0)
                r = store_db_size(&tx, d, &size);
        if (r < 0)
                return r;
        store_blob_name(d, name);
        if (size < 0 && fstatat(s->blobs_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            (only == NULL ? st.st_nlink == 1
                          : st.st_ino == only->st_ino && st.st_dev == only->st_dev) &&
            unlinkat(s->blobs_fd, name, 0) == 0)
                log_info(ctx->trace, "store.orphan_removed", KV_STR("file", name));
        return db_tx_commit(&tx);
}

/* Is this upload over? Resumable ones live for days; temporary links of a crash are over at once.
 */
static bool upload_over(int dir_fd, const struct stat *dir, int64_t making_ms)
{
        struct mlc_err ignored = {0};
        struct store_state state;
        struct stat st;

        if (fstatat(dir_fd, "state", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            store_state_load(dir_fd, &state, &ignored) == 0)
                return age_ms(&st.st_mtim) > STORE_UPLOAD_LIFE_MS;
        return age_ms(&dir->st_mtim) >= making_ms;
}

/* The data of an ended upload may be a blob already. */
static int remove_linked(struct mlc_ctx *ctx, int data_fd, const struct stat *st)
{
        struct mlc_sha256 h;
        struct mlc_digest d;
        int r = store_hash_file(data_fd, (uint64_t)st->st_size, &h, &ctx->err);

        if (r < 0)
                return r;
        mlc_sha256_final(&h, &d);
        return remove_orphan(ctx, &d, st);
}

static int sweep_upload(struct mlc_ctx *ctx, const char *id, int64_t making_ms, int *kept)
{
        struct store *s = ctx->app->store;
        _cleanup_(close_fd) int data_fd = -1;
        _cleanup_(close_fd) int dir_fd = -1;
        struct stat dir, data = {0};
        int r;

        dir_fd = openat(s->uploads_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir_fd < 0 || fstat(dir_fd, &dir) < 0)
                return 0; /* gone meanwhile, or not ours */
        *kept += 1;
        if (!upload_over(dir_fd, &dir, making_ms))
                return 0;
        data_fd = openat(dir_fd, "data", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (data_fd >= 0) {
                if (flock(data_fd, LOCK_EX | LOCK_NB) < 0 || fstat(data_fd, &data) < 0)
                        return 0; /* held by a request */
                if (data.st_nlink > 1) {
                        r = remove_linked(ctx, data_fd, &data);
                        if (r < 0)
                                return r;
                }
        }
        store_dir_remove(s, id, dir_fd);
        *kept -= 1;
        return 0;
}

static int sweep_uploads(struct mlc_ctx *ctx, int64_t making_ms)
{
        struct store *s = ctx->app->store;
        _cleanup_(store_close_dir) DIR *dir = NULL;
        const char *name;
        int kept = 0;
        int r = store_open_dir(s->uploads_fd, ".", &dir, &ctx->err);

        if (r < 0)
                return r;
        while ((name = store_next_name(dir)) != NULL) {
                r = sweep_upload(ctx, name, making_ms, &kept);
                if (r < 0)
                        return r;
        }
        atomic_store(&s->kept, kept);
        return 0;
}

static int rows_of_fan(struct mlc_ctx *ctx, unsigned byte, struct mlc_map *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = store_db_blobs_between(&tx, byte, &rows);
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++)
                (void)mlc_map_set(ret, db_text(&rows, i, 0), ret);
        return 0;
}

static int sweep_fan(struct mlc_ctx *ctx, DIR *dir, const struct mlc_map *rows)
{
        const char *name;
        int r;

        while ((name = store_next_name(dir)) != NULL) {
                struct mlc_digest d;
                struct stat st;

                if (mlc_map_get(rows, name) != NULL || !mlc_hex_decode(name, d.b, sizeof(d.b)) ||
                    fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_nlink != 1 ||
                    age_ms(&st.st_ctim) < ORPHAN_MS)
                        continue;
                r = remove_orphan(ctx, &d, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int sweep_blobs(struct mlc_ctx *ctx)
{
        for (unsigned byte = 0; byte < 256; byte++) {
                _cleanup_(store_close_dir) DIR *dir = NULL;
                struct mlc_map rows;
                char fan[3];
                int r;

                (void)snprintf(fan, sizeof(fan), "%02x", byte);
                r = store_open_dir(ctx->app->store->blobs_fd, fan, &dir, &ctx->err);
                if (r == MLC_E_NOT_FOUND) {
                        mlc_err_clear(&ctx->err);
                        continue;
                }
                if (r < 0)
                        return r;
                mlc_map_init(&rows);
                r = rows_of_fan(ctx, byte, &rows);
                if (r == 0)
                        r = sweep_fan(ctx, dir, &rows);
                mlc_map_done(&rows, NULL);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int sweep(struct mlc_ctx *ctx)
{
        int r = sweep_uploads(ctx, MAKING_MS);

        return r < 0 ? r : sweep_blobs(ctx);
}

int store_sweep_start(struct app *app, struct mlc_err *err)
{
        static const struct work_task task = {
                .name = "store.sweep",
                .interval_ms = 3600000,
                .timeout_ms = 3600000,
                .leader_only = true,
                .run = sweep,
        };
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        int r;

        work_every(app, &task);
        mlc_ctx_init(&ctx, app, "store.sweep", SWEEP_ARENA, 60000);
        /* with an embedded cluster nobody else can be at work on this DIR */
        r = sweep_uploads(&ctx, app->config.postgres == NULL ? 0 : MAKING_MS);
        if (r < 0)
                *err = ctx.err;
        return r;
}
