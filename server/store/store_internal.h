/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "codec/digest.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "db/db.h"
#include "mlctl/error.h"
#include "store/store.h"

/* What the files of this folder share. Nobody else includes it. */

#define STORE_REPO_MAX 202 /* "namespace/model", NUL included */
#define STORE_KEPT_MAX 10000 /* upload directories at most; above it MLC_E_TOO_MANY */
#define STORE_BLOB_NAME (2 + 1 + 64 + 1) /* "ab/<64 hex>" and NUL */

struct store {
        int blobs_fd; /* DIR/blobs/sha256 */
        int uploads_fd; /* DIR/uploads */
        atomic_int held; /* uploads being written by this server */
        atomic_int kept; /* upload directories; counted anew by each reclaim */
};

/* --- files.c: names, space, links; no database --- */

void store_blob_name(const struct mlc_digest *d, char ret[STORE_BLOB_NAME]);
/* Bytes that must stay free on a file system of `total` bytes: max(1 GiB, 5 %). */
uint64_t store_space_floor(uint64_t total);
/* MLC_E_NO_SPACE when `need` more bytes would leave less than the floor. */
int store_space_check(int fd, uint64_t need, struct mlc_err *err) MLC_CHECK;
int store_pwrite_full(int fd, const void *buf, size_t len, uint64_t off,
                      struct mlc_err *err) MLC_CHECK;
/*
 * Gives the synced file `data` of the directory its name below blobs/, durably. A file that is
 * there already stays, unless its size differs: then it is damaged and is replaced.
 */
int store_publish(struct store *s, int dir_fd, const struct mlc_digest *d, uint64_t size,
                  struct mlc_err *err) MLC_CHECK;
/* Makes uploads/<id>/data, locked; the caller owns the descriptors. MLC_E_TOO_MANY above the cap.
 */
int store_dir_make(struct store *s, const char *id, int *ret_dir_fd, int *ret_data_fd,
                   struct mlc_err *err) MLC_CHECK;
/* Removes uploads/<id> with all that it may hold. Errors are of no consequence: the sweep comes. */
void store_dir_remove(struct store *s, const char *id, int dir_fd);
/* SHA-256 of the first `len` bytes of a file; *ret is ready for more. MLC_E_IO when it is shorter.
 */
int store_hash_file(int fd, uint64_t len, struct mlc_sha256 *ret, struct mlc_err *err) MLC_CHECK;

/* --- state.c: uploads/<id>/state --- */

/*
 * Text, one JSON object: {"v":1,"user":"u…","repo":"ns/model","offset":N,"hash":"<hex>"}. `hash` is
 * the exported SHA-256 state after `offset` bytes, all of which were synced before the state was
 * written.
 */
#define STORE_STATE_MAX 1024
struct store_state {
        char user[MLC_ID_MAX];
        char repo[STORE_REPO_MAX];
        uint64_t offset;
        struct mlc_sha256 hash;
        bool hash_valid; /* false: hash the file again */
};
/* malloc'ed text. */
int store_state_encode(const struct store_state *st, char **ret, struct mlc_err *err) MLC_CHECK;
/* MLC_E_INVALID for anything else than the above; an unusable hash only clears hash_valid. */
int store_state_parse(const char *text, size_t len, struct store_state *ret,
                      struct mlc_err *err) MLC_CHECK;
int store_state_load(int dir_fd, struct store_state *ret, struct mlc_err *err) MLC_CHECK;
/* Replaces the file by rename. */
int store_state_save(int dir_fd, const struct store_state *st, struct mlc_err *err) MLC_CHECK;

/* --- store_db.c --- */

/* -1 when absent. */
int store_db_repo_size(struct db_tx *tx, const char *repo, const struct mlc_digest *d,
                       int64_t *ret) MLC_CHECK;
int store_db_size(struct db_tx *tx, const struct mlc_digest *d, int64_t *ret) MLC_CHECK;
int store_db_lock(struct db_tx *tx, const struct mlc_digest *d, bool exclusive) MLC_CHECK;
int store_db_insert(struct db_tx *tx, const char *repo, const struct mlc_digest *d,
                    uint64_t size) MLC_CHECK;
int store_db_namespaces(struct db_tx *tx, const struct mlc_digest *d,
                        struct db_rows *ret) MLC_CHECK;
/* Pages of (hex, size) in the order of digests; NULL for the first. */
int store_db_blobs_after(struct db_tx *tx, const struct mlc_digest *after,
                         struct db_rows *ret) MLC_CHECK;
/* Rows (hex) whose digest begins with this byte. */
int store_db_blobs_between(struct db_tx *tx, unsigned first_byte, struct db_rows *ret) MLC_CHECK;
