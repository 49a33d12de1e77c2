/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/digest.h"
#include "ctx.h"
#include "db/db.h"

/*
 * Content-addressed blobs on disk and the uploads that make them. Bytes are shared by all
 * repositories, their presence is not: a blob exists for a repository only once it was uploaded,
 * mounted or linked there. `repo` is "namespace/model" everywhere; `digest` is "sha256:<64 hex>"
 * (MLC_E_INVALID otherwise). Rights are the caller's business, except where said. Any thread; an
 * upload belongs to the thread that holds it.
 */
struct store;
struct app;

#define STORE_UPLOAD_ID_MAX 37 /* a UUID, NUL included */
#define STORE_BYTES_MAX (16u << 20) /* longest blob for store_put_bytes and store_read_bytes */
#define STORE_UPLOADS_MAX 64 /* written at once by one server; above it MLC_E_UNAVAILABLE */
#define STORE_UPLOAD_LIFE_MS                                                                       \
        (7 * 86400000LL) /* an upload that nobody touched for so long is removed */

/* Makes the directories below app->config.data, and app->store. Needs no database. */
int store_start(struct app *app, struct mlc_err *err) MLC_CHECK;
void store_stop(struct app *app); /* no upload may be open; idempotent */
/*
 * For `serve`, after db and work_init, before requests: removes what unfinished uploads of a crash
 * left behind, and has it done hourly, together with uploads past their life and blobs without a
 * row. Safe beside running uploads and other servers on the same DIR.
 */
int store_sweep_start(struct app *app, struct mlc_err *err) MLC_CHECK;

/* --- reading --- */

/*
 * Open for reading, O_CLOEXEC; the caller owns *ret_fd. Does not ask whether a repository has it
 * (store_has). MLC_E_NOT_FOUND when the store has no such file.
 */
int store_open_blob(struct mlc_ctx *ctx, const char *digest, int *ret_fd,
                    uint64_t *ret_size) MLC_CHECK;
/*
 * *ret_size: the size of the blob when it is present in this repository, -1 when it is not. tx
 * NULL: a transaction of its own.
 */
int store_has(struct mlc_ctx *ctx, struct db_tx *tx, const char *repo, const char *digest,
              int64_t *ret_size) MLC_CHECK;
/*
 * A whole small blob in ctx's arena, NUL-terminated (not counted). MLC_E_LIMIT when longer than
 * max, MLC_E_VERIFY when the bytes do not match the digest.
 */
int store_read_bytes(struct mlc_ctx *ctx, const char *digest, size_t max, const char **ret,
                     size_t *ret_len) MLC_CHECK;

/* --- small blobs that the server has in memory: manifests, configs, cards --- */

/*
 * Durable on disk when it returns 0, but belongs to no repository until store_link_repo() commits.
 * Call it before the transaction begins. _cleanup_(store_put_done) after commit or failure: until
 * then a temporary link accounts for the file, so that a crash in between leaves nothing
 * unexplained.
 */
struct store_put {
        char digest[MLC_DIGEST_STR];
        uint64_t size;
        struct store *store;
        char id[STORE_UPLOAD_ID_MAX];
        int data_fd; /* holds the lock of the temporary link */
};
int store_put_bytes(struct mlc_ctx *ctx, const void *bytes, size_t len,
                    struct store_put *ret) MLC_CHECK;
void store_put_done(struct store_put *p); /* idempotent */
/*
 * Makes a blob that is on disk present in the repository, in the caller's transaction. Nothing
 * happens when it is already. MLC_E_NOT_FOUND when the file is not there.
 */
int store_link_repo(struct mlc_ctx *ctx, struct db_tx *tx, const char *repo,
                    const char *digest) MLC_CHECK;
/*
 * Mount: links the blob when the repository `from` has it, or with from NULL when any repository
 * has it that ctx->principal may read; *ret false when none has. Checks the right to read itself.
 * Commits itself.
 */
int store_mount(struct mlc_ctx *ctx, const char *repo, const char *from, const char *digest,
                bool *ret) MLC_CHECK;

/* --- uploads --- */

/*
 * An upload that is held by this request: nobody else can write it. It belongs to the user who made
 * it and to one repository; for others it does not exist.
 */
struct store_upload;

int store_upload_create(struct mlc_ctx *ctx, const char *repo, struct store_upload **ret) MLC_CHECK;
/* MLC_E_NOT_FOUND; MLC_E_CONFLICT when another request still writes it after two seconds. */
int store_upload_open(struct mlc_ctx *ctx, const char *repo, const char *id,
                      struct store_upload **ret) MLC_CHECK;
const char *store_upload_id(const struct store_upload *u);
uint64_t store_upload_offset(const struct store_upload *u); /* bytes received so far */
/*
 * Before the first write: `length` bytes will come, or -1. MLC_E_NO_SPACE when free space would
 * fall under max(1 GiB, 5 %); MLC_E_CONFLICT when the upload is already sealed by a finish that
 * failed late.
 */
int store_upload_begin(struct mlc_ctx *ctx, struct store_upload *u, int64_t length) MLC_CHECK;
/* Hashes here and hands over to a writer thread; at most two buffers of 1 MiB are held. */
int store_upload_write(struct mlc_ctx *ctx, struct store_upload *u, const void *data,
                       size_t len) MLC_CHECK;
/* The calls below end the hold, whatever they return. */
/* Syncs, remembers offset and hash state: the upload goes on later. */
int store_upload_pause(struct mlc_ctx *ctx, struct store_upload *u) MLC_CHECK;
/*
 * The whole blob is there: checks the digest, makes it durable and present in the repository,
 * commits. MLC_E_INVALID on query:digest when the digest differs; the upload is then gone.
 */
int store_upload_finish(struct mlc_ctx *ctx, struct store_upload *u, const char *digest) MLC_CHECK;
/* The connection broke: keeps what can be kept. Swallows its errors (logs them). NULL-safe. */
void store_upload_abort(struct mlc_ctx *ctx, struct store_upload *u);
/* Removes the upload. NULL-safe. */
void store_upload_cancel(struct store_upload *u);

/*
 * `mlctld backup`: copies every blob that has a row from another DIR into this one. MLC_E_NOT_FOUND
 * when one is missing there.
 */
int store_copy_blobs(struct mlc_ctx *ctx, const char *from_dir) MLC_CHECK;

/* --- `mlctld check` --- */

/*
 * Re-hashes every blob that has a row and looks for files below blobs/ that nothing accounts for.
 * *ret_what is NULL when all is well, else one sentence in ctx's arena that names the first thing
 * wrong. A negative return means that the check itself could not be done.
 */
int store_check(struct mlc_ctx *ctx, const char **ret_what) MLC_CHECK;
