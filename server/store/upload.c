/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "app.h"
#include "audit/audit.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "store/store_internal.h"
#include "store/writer.h"

#define LOCK_WAIT_MS 2000 /* a broken connection lets go of its upload within that */
#define LOCK_STEP_MS 20
#define RESERVE_MIN (1u << 20) /* shorter ones are not worth it */

struct store_upload {
        struct store *store;
        char id[STORE_UPLOAD_ID_MAX];
        struct store_state st; /* st.offset and st.hash: received, not yet all written */
        int dir_fd, data_fd;
        struct store_writer w;
        bool begun; /* counted in store->held */
        bool sealed; /* linked below blobs/ already: must not be written */
};

static void upload_free(struct store_upload *u)
{
        if (u->begun)
                atomic_fetch_sub(&u->store->held, 1);
        store_writer_done(&u->w);
        if (u->data_fd >= 0)
                (void)close(u->data_fd); /* with it goes the lock */
        if (u->dir_fd >= 0)
                (void)close(u->dir_fd);
        free(u);
}

static void upload_free_p(struct store_upload **u)
{
        if (*u != NULL)
                upload_free(*u);
}

static struct store_upload *upload_new(struct mlc_ctx *ctx)
{
        struct store_upload *u = calloc(1, sizeof(*u));
        struct mlc_sha256 empty;

        if (u == NULL)
                abort();
        mlc_sha256_init(&empty);
        u->store = ctx->app->store;
        u->dir_fd = u->data_fd = -1;
        store_writer_init(&u->w, 0, &empty);
        u->st.hash = empty;
        u->st.hash_valid = true;
        return u;
}

static int save_checkpoint(uint64_t offset, const struct mlc_sha256 *hash, struct mlc_err *err,
                           void *userdata)
{
        const struct store_upload *u = userdata;
        struct store_state st = u->st;

        st.offset = offset;
        st.hash = *hash;
        return store_state_save(u->dir_fd, &st, err);
}

int store_upload_create(struct mlc_ctx *ctx, const char *repo, struct store_upload **ret)
{
        _cleanup_(upload_free_p) struct store_upload *u = NULL;
        int r = audit_writable(ctx);

        assert(ctx->principal != NULL && strlen(repo) < STORE_REPO_MAX);

        if (r < 0)
                return r;
        u = upload_new(ctx);
        mlc_uuid4(u->id);
        (void)snprintf(u->st.user, sizeof(u->st.user), "%s", ctx->principal->user);
        (void)snprintf(u->st.repo, sizeof(u->st.repo), "%s", repo);
        r = store_dir_make(u->store, u->id, &u->dir_fd, &u->data_fd, &ctx->err);
        if (r < 0)
                return r;
        r = store_state_save(u->dir_fd, &u->st, &ctx->err);
        if (r < 0) {
                store_dir_remove(u->store, u->id, u->dir_fd);
                return r;
        }
        *ret = TAKE_PTR(u);
        return 0;
}

static bool id_valid(const char *id)
{
        return strlen(id) == STORE_UPLOAD_ID_MAX - 1 &&
               strspn(id, "0123456789abcdef-") == STORE_UPLOAD_ID_MAX - 1;
}

static int fail_unknown(struct mlc_ctx *ctx)
{
        mlc_err_clear(&ctx->err);
        return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no such upload here, or it has ended");
}

static int wait_lock(struct mlc_ctx *ctx, int fd)
{
        int64_t until = mlc_monotonic_ms() + LOCK_WAIT_MS;

        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return mlc_fail_errno(&ctx->err, "cannot lock", "uploads/…/data");
                if (mlc_monotonic_ms() >= until)
                        return ctx_fail(ctx, MLC_E_CONFLICT,
                                        "another request is still writing this upload");
                mlc_sleep_ms(LOCK_STEP_MS);
        }
        return 0;
}

/* Reads the state under the lock and makes file and state agree. */
static int upload_resume(struct mlc_ctx *ctx, struct store_upload *u, const char *repo)
{
        struct stat st;
        int r;

        if (fstat(u->data_fd, &st) < 0)
                return mlc_fail_errno(&ctx->err, "cannot read", "uploads/…/data");
        if (st.st_nlink == 0) /* finished or cancelled while this request waited */
                return fail_unknown(ctx);
        r = store_state_load(u->dir_fd, &u->st, &ctx->err);
        if (r < 0 || strcmp(u->st.repo, repo) != 0 ||
            strcmp(u->st.user, ctx->principal->user) != 0 || (uint64_t)st.st_size < u->st.offset)
                return fail_unknown(ctx);
        u->sealed = st.st_nlink > 1;
        if (u->sealed && u->st.offset != (uint64_t)st.st_size) {
                u->st.offset = (uint64_t)st.st_size;
                u->st.hash_valid = false;
        }
        if (!u->st.hash_valid) {
                r = store_hash_file(u->data_fd, u->st.offset, &u->st.hash, &ctx->err);
                if (r < 0)
                        return r;
                u->st.hash_valid = true;
        }
        store_writer_done(&u->w);
        store_writer_init(&u->w, u->st.offset, &u->st.hash);
        return 0;
}

int store_upload_open(struct mlc_ctx *ctx, const char *repo, const char *id,
                      struct store_upload **ret)
{
        _cleanup_(upload_free_p) struct store_upload *u = NULL;
        int r;

        if (!id_valid(id))
                return fail_unknown(ctx);
        u = upload_new(ctx);
        (void)snprintf(u->id, sizeof(u->id), "%s", id);
        u->dir_fd =
                openat(u->store->uploads_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (u->dir_fd >= 0)
                u->data_fd = openat(u->dir_fd, "data", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (u->dir_fd >= 0 && u->data_fd < 0 && errno == EACCES) /* sealed */
                u->data_fd = openat(u->dir_fd, "data", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (u->data_fd < 0)
                return fail_unknown(ctx);
        r = wait_lock(ctx, u->data_fd);
        if (r < 0)
                return r;
        r = upload_resume(ctx, u, repo);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(u);
        return 0;
}

const char *store_upload_id(const struct store_upload *u)
{
        return u->id;
}

uint64_t store_upload_offset(const struct store_upload *u)
{
        return u->st.offset;
}

/* Takes the space now, so that a full disk shows before the bytes are sent. */
static int reserve(struct mlc_ctx *ctx, struct store_upload *u, int64_t length)
{
        int r = store_space_check(u->store->uploads_fd, length > 0 ? (uint64_t)length : 0,
                                  &ctx->err);

        if (r < 0 || length < RESERVE_MIN)
                return r;
        if (fallocate(u->data_fd, FALLOC_FL_KEEP_SIZE, (off_t)u->st.offset, (off_t)length) == 0) {
                u->w.reserved = u->st.offset + (uint64_t)length;
                return 0;
        }
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
                return ctx_fail(ctx, MLC_E_NO_SPACE, "not enough free disk space for %lld bytes",
                                (long long)length);
        return 0; /* this file system cannot reserve; each write is checked */
}

int store_upload_begin(struct mlc_ctx *ctx, struct store_upload *u, int64_t length)
{
        int r = audit_writable(ctx);

        assert(!u->begun);

        if (r < 0)
                return r;
        if (u->sealed)
                return ctx_fail(
                        ctx, MLC_E_CONFLICT,
                        "the upload is complete: finish it with its digest and without a body");
        if (atomic_fetch_add(&u->store->held, 1) >= STORE_UPLOADS_MAX) {
                atomic_fetch_sub(&u->store->held, 1);
                return ctx_fail(ctx, MLC_E_UNAVAILABLE, "too many uploads at once");
        }
        u->begun = true;
        u->w.fd = u->data_fd;
        u->w.space_fd = u->store->uploads_fd;
        u->w.checkpoint = save_checkpoint;
        u->w.userdata = u;
        /* what lies beyond the offset was never synced */
        if (ftruncate(u->data_fd, (off_t)u->st.offset) < 0)
                return mlc_fail_errno(&ctx->err, "cannot cut", "uploads/…/data");
        return reserve(ctx, u, length);
}

int store_upload_write(struct mlc_ctx *ctx, struct store_upload *u, const void *data, size_t len)
{
        int r;

        assert(u->begun);

        r = store_writer_add(&u->w, &u->st.hash, data, len, &ctx->err);
        if (r == 0)
                u->st.offset += len;
        return r;
}

/* Everything received is written and durable when it returns 0. */
static int settle(struct store_upload *u, struct mlc_err *err)
{
        int r = store_writer_drain(&u->w, err);

        if (r < 0)
                return r;
        assert(u->w.done == u->st.offset);
        if (u->w.synced == u->w.done)
                return 0;
        if (fdatasync(u->data_fd) < 0)
                return mlc_fail_errno(err, "cannot sync", "uploads/…/data");
        u->w.synced = u->w.done;
        return 0;
}

/* After an error of the disk nobody knows what the file holds: it goes. A full disk leaves what was
 * written. */
static void keep_or_drop(struct store_upload *u, const struct mlc_err *err)
{
        struct mlc_err ignored = {0};

        if (err->code == MLC_E_IO) {
                store_dir_remove(u->store, u->id, u->dir_fd);
                return;
        }
        u->st.offset = u->w.done;
        u->st.hash = u->w.done_hash;
        if (ftruncate(u->data_fd, (off_t)u->st.offset) < 0 || fdatasync(u->data_fd) < 0 ||
            store_state_save(u->dir_fd, &u->st, &ignored) < 0)
                store_dir_remove(u->store, u->id, u->dir_fd);
}

int store_upload_pause(struct mlc_ctx *ctx, struct store_upload *u)
{
        int r = settle(u, &ctx->err);

        if (r == 0 && !u->sealed)
                r = store_state_save(u->dir_fd, &u->st, &ctx->err);
        if (r < 0)
                keep_or_drop(u, &ctx->err);
        upload_free(u);
        return r;
}

void store_upload_abort(struct mlc_ctx *ctx, struct store_upload *u)
{
        struct mlc_err err = {0};
        int r;

        if (u == NULL)
                return;
        r = u->begun ? settle(u, &err) : 0;
        if (r == 0 && u->begun) {
                /* gives back what was reserved and never came */
                if (ftruncate(u->data_fd, (off_t)u->st.offset) < 0)
                        r = mlc_fail_errno(&err, "cannot cut", "uploads/…/data");
                else
                        r = store_state_save(u->dir_fd, &u->st, &err);
        }
        if (r < 0) {
                mlc_log_err(MLC_LOG_WARN, ctx->trace, "store.upload_lost", &err);
                keep_or_drop(u, &err);
        }
        upload_free(u);
}

void store_upload_cancel(struct store_upload *u)
{
        struct mlc_err ignored = {0};

        if (u == NULL)
                return;
        if (store_writer_drain(&u->w, &ignored) < 0)
                mlc_err_clear(&ignored); /* what was not written is not missed */
        store_dir_remove(u->store, u->id, u->dir_fd);
        upload_free(u);
}

/* Present in the repository at COMMIT. Once more when a sweep took the file away between link and
 * lock. */
static int publish(struct mlc_ctx *ctx, struct store_upload *u, const struct mlc_digest *d)
{
        char digest[MLC_DIGEST_STR];
        int r = 0;

        mlc_digest_format(d, digest);
        for (int tries = 0; tries < 2; tries++) {
                _cleanup_(db_tx_done) struct db_tx tx = {0};

                r = store_publish(u->store, u->dir_fd, d, u->st.offset, &ctx->err);
                if (r < 0)
                        return r;
                r = db_tx_begin(ctx, &tx);
                if (r < 0)
                        return r;
                r = store_link_repo(ctx, &tx, u->st.repo, digest);
                if (r == 0)
                        return db_tx_commit(&tx);
                if (r != MLC_E_NOT_FOUND || tries > 0)
                        return r;
                mlc_err_clear(&ctx->err);
        }
        return r;
}

int store_upload_finish(struct mlc_ctx *ctx, struct store_upload *u, const char *digest)
{
        struct mlc_digest want, have;
        struct mlc_sha256 hash;
        struct mlc_err ignored = {0};
        int r = mlc_digest_parse(digest, &want, &ctx->err);

        if (r < 0) {
                store_upload_cancel(u);
                return r;
        }
        r = settle(u, &ctx->err);
        if (r < 0) {
                keep_or_drop(u, &ctx->err);
                upload_free(u);
                return r;
        }
        hash = u->st.hash;
        mlc_sha256_final(&hash, &have);
        if (!mlc_digest_equal(&want, &have)) {
                char got[MLC_DIGEST_STR];

                mlc_digest_format(&have, got);
                store_upload_cancel(u);
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:digest",
                                      "the bytes have the digest %s, not '%s'", got, digest);
        }
        r = publish(ctx, u, &want);
        if (r == 0)
                store_dir_remove(u->store, u->id, u->dir_fd);
        else if (store_state_save(u->dir_fd, &u->st, &ignored) < 0)
                mlc_log_err(MLC_LOG_WARN, ctx->trace, "store.state_lost", &ignored);
        upload_free(u);
        return r;
}
