/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The inside of server/audit; nobody else includes it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "app.h"
#include "audit/audit.h"
#include "crypto/note.h"
#include "git/git.h"
#include "tlog/replay.h"
#include "tlog/source.h"
#include "tlog/verify.h"

#define AUDIT_PATH_MAX 4096
#define AUDIT_BATCH_MAX 4096 /* rows of one sequencing transaction, see audit_sequence */
#define AUDIT_KIND_ANCHOR "anchor"
#define AUDIT_REASON_MAX 256
#define AUDIT_POLL_MS 100 /* between looks at an outbox that was empty */
#define AUDIT_PUBLISH_MS 500 /* between checkpoints under load */

/* The log's keys, oldest first; the last one signs commits, all of them sign checkpoints. */
struct audit_keys {
        size_t n;
        struct mlc_signer signer[MLC_REPLAY_KEYS_MAX];
        struct mlc_vkey vkey[MLC_REPLAY_KEYS_MAX];
};

struct audit {
        struct app *app;
        char dir[AUDIT_PATH_MAX]; /* DIR/log */
        char origin[MLC_KEY_NAME_MAX + 1];
        int64_t log_id;
        struct audit_keys keys;
        struct audit_source sources[AUDIT_SOURCES_MAX];
        size_t n_sources;
        atomic_bool read_only;
        char reason[AUDIT_REASON_MAX]; /* written once, before read_only is set */
        pthread_mutex_t lock; /* reason, stop, nudged */
        pthread_cond_t wake;
        pthread_t thread;
        bool started;
        bool stop;
        bool nudged; /* something was appended by this process */
};

/* Stops all writing in this process, for good; the first reason stays. Logs it. */
void audit_halt(struct audit *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* keys.c */

/* A new key in DIR/keys/server.key, kept from an earlier start that did not get further. */
int audit_keys_create(const char *data, struct mlc_signer *ret, struct mlc_err *err) MLC_CHECK;
/* Finds the private half of each verifier key below DIR/keys. MLC_E_NOT_FOUND names what is
 * missing. */
int audit_keys_load(const char *data, const json_t *vkeys, struct audit_keys *ret,
                    struct mlc_err *err) MLC_CHECK;
/* "HOSTNAME/log-<8 hex of the key>". */
int audit_default_origin(const struct mlc_signer *key, char ret[MLC_KEY_NAME_MAX + 1],
                         struct mlc_err *err) MLC_CHECK;
/* {"keys":[…],"predecessor":…}: the governed object of kind `log`. */
json_t *audit_log_state(const struct mlc_vkey *vkeys, size_t n, const char *predecessor);
/* A new key under a name of its own; after COMMIT it takes the place of server.key. */
int audit_keys_next(const char *data, struct mlc_signer *ret, struct mlc_err *err) MLC_CHECK;
int audit_keys_promote(const char *data, const struct mlc_signer *old,
                       const struct mlc_signer *next, struct mlc_err *err) MLC_CHECK;
/* A checkpoint signed by all keys, malloc'ed. */
int audit_keys_sign(const struct audit_keys *keys, const struct mlc_checkpoint *cp, char **ret_note,
                    struct mlc_err *err) MLC_CHECK;
/* Appends the first n commit keys as lines of an allowed signers file, namespace git. */
void audit_commit_signers(const struct audit_keys *keys, size_t n, struct mlc_str *ret);
void audit_keys_done(struct audit_keys *keys);

/* state.c */

/* The signing state, DIR/log/state: what was signed last, by which leader. */
struct audit_state {
        int64_t log_id, epoch;
        struct mlc_checkpoint cp;
        uint64_t previous; /* size signed before this one */
        char *note; /* malloc'ed; "" before the first checkpoint */
};

/* Takes the flock on DIR/log/lock, waiting; the descriptor holds it. Makes the directory. */
int audit_files_lock(const char *dir, int *ret_fd, struct mlc_err *err) MLC_CHECK;
/* MLC_E_NOT_FOUND; MLC_E_VERIFY when it is damaged. */
int audit_state_read(const char *dir, struct audit_state *ret, struct mlc_err *err) MLC_CHECK;
/* Under the lock. */
int audit_state_write(const char *dir, const struct audit_state *s, struct mlc_err *err) MLC_CHECK;
void audit_state_done(struct audit_state *s); /* for _cleanup_ */

struct audit_file {
        const char *path; /* below DIR/log */
        const void *data;
        size_t len;
};
/* Durable; under the lock. Replaces an existing file. */
int audit_file_replace(const char *dir, const struct audit_file *f, struct mlc_err *err) MLC_CHECK;
/* Durable; under the lock. An existing file must have the same bytes: MLC_E_VERIFY otherwise. */
int audit_file_create(const char *dir, const struct audit_file *f, struct mlc_err *err) MLC_CHECK;

/* audit_db.c */

struct audit_head {
        int64_t log_id, epoch;
        struct mlc_digest root;
        struct mlc_merkle_frontier frontier; /* its size is the head's */
};
struct audit_origin_row {
        int64_t log_id;
        char origin[MLC_KEY_NAME_MAX + 1];
        json_t *state; /* owned by the caller */
};
/* The newest log; MLC_E_NOT_FOUND before the first start. */
int audit_db_origin(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_origin_row *ret) MLC_CHECK;
int audit_db_origin_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_origin_row *row) MLC_CHECK;
int audit_db_origin_update(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_origin_row *row) MLC_CHECK;
int audit_db_head(struct mlc_ctx *ctx, struct db_tx *tx, bool lock,
                  struct audit_head *ret) MLC_CHECK;
int audit_db_head_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                         const struct audit_head *h) MLC_CHECK;
int audit_db_head_update(struct mlc_ctx *ctx, struct db_tx *tx,
                         const struct audit_head *h) MLC_CHECK;
int audit_db_outbox_any(struct mlc_ctx *ctx, struct db_tx *tx, bool *ret) MLC_CHECK;
/* Moves outbox rows into the log from head->frontier.size on and folds them into *head. */
int audit_db_sequence(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_head *head,
                      int64_t *ret_n) MLC_CHECK;
struct audit_range {
        int64_t log_id;
        uint64_t from, to; /* entries from..to-1 */
};
#define AUDIT_ROWS_MAX 256
struct audit_rows {
        size_t n;
        struct mlc_tlog_row row[AUDIT_ROWS_MAX]; /* leaves in ctx's arena */
};
/* The first rows of the range, at most AUDIT_ROWS_MAX; MLC_E_NOT_FOUND when the first is missing.
 */
int audit_db_leaves(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_range *range,
                    struct audit_rows *ret) MLC_CHECK;
int audit_db_checkpoint_insert(struct mlc_ctx *ctx, struct db_tx *tx, int64_t log_id,
                               const struct audit_state *s) MLC_CHECK;
struct audit_outbox_row {
        struct audit_entry entry; /* actor set */
        int64_t time_ms;
        struct mlc_str leaf;
        struct mlc_digest hash;
};
int audit_db_outbox_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_outbox_row *row) MLC_CHECK;

/* audit_search.c: what the API reads */

/* An entry as found; strings in ctx's arena. */
struct audit_found {
        int64_t log_id, index;
        const char *leaf_hash, *time, *actor, *action, *kind, *id, *model, *leaf;
};
struct audit_filter {
        const char *actor, *action, *model, *kind, *id, *since, *until; /* NULL: any */
        int64_t before_log, before_index; /* below this position */
        int64_t limit;
};
/* Newest first, as far as ctx->principal may read; at most filter->limit, into ret. */
int audit_search(struct mlc_ctx *ctx, const struct audit_filter *filter, struct audit_found *ret,
                 size_t *ret_n) MLC_CHECK;
/* MLC_E_NOT_FOUND also when the principal may not read it. */
int audit_entry_at(struct mlc_ctx *ctx, int64_t log_id, int64_t index,
                   struct audit_found *ret) MLC_CHECK;
/* Where the leaf stands; MLC_E_NOT_FOUND, *ret_waiting when it is in the outbox. */
int audit_index_of(struct mlc_ctx *ctx, const char *leaf_hash, int64_t *ret_log, int64_t *ret_index,
                   bool *ret_waiting) MLC_CHECK;
/* The .tlog-proof of an entry in ctx's arena; NULL while the checkpoint does not cover it. */
int audit_prove(struct mlc_ctx *ctx, int64_t log_id, int64_t index, const char **ret) MLC_CHECK;
/* Writes the JSON lines of GET /api/v1/audit/state to a file without a name; the caller owns it. */
int audit_state_lines(struct mlc_ctx *ctx, int *ret_fd, uint64_t *ret_len) MLC_CHECK;
/* DIR/log, or that of a predecessor. */
void audit_log_dir(const struct audit *a, int64_t log_id, char ret[AUDIT_PATH_MAX]);

/* publish.c */

/* A signed commit that names a checkpoint. */
struct audit_anchor {
        char oid[GIT_OID_STR], parent[GIT_OID_STR]; /* "" when there is none */
        int64_t log_id;
        struct mlc_checkpoint cp;
};

/* The leader's view: the database head, the signing state, the files. */
struct audit_leader {
        struct audit *a;
        int64_t epoch;
        struct audit_head head;
        struct audit_state state;
        struct mlc_tiler tiler; /* what the files hold */
        struct mlc_str bundle; /* entries since the last full one */
        int64_t published_ms; /* monotonic time of the last checkpoint */
        struct audit_anchor anchor; /* the last one; its root is not loaded */
        int64_t anchored_ms;
};
struct audit_leader *audit_leader_new(struct audit *a);
void audit_leader_free(struct audit_leader **l);
/*
 * Takes over: compares all stores, fences earlier leaders by a new epoch, finishes what a crash
 * left out. What does not fit halts the log (audit_halt) and gives MLC_E_READ_ONLY.
 */
int audit_leader_recover(struct mlc_ctx *ctx, struct audit_leader *l) MLC_CHECK;
/* One transaction; *ret_n rows were sequenced. MLC_E_PRECONDITION when another leader took over. */
int audit_leader_sequence(struct mlc_ctx *ctx, struct audit_leader *l, int64_t *ret_n) MLC_CHECK;
/* Signs and publishes what was sequenced. MLC_E_PRECONDITION when another leader took over. */
int audit_leader_publish(struct mlc_ctx *ctx, struct audit_leader *l) MLC_CHECK;

/* anchors.c */

#define AUDIT_ANCHOR_REF "refs/heads/audit"
void audit_anchor_path(const struct app *app, char ret[AUDIT_PATH_MAX]);
int audit_anchor_message(const struct mlc_checkpoint *cp, struct mlc_str *ret,
                         struct mlc_err *err) MLC_CHECK;
/* The files of the commit; borrowed from note and signers. */
void audit_anchor_files(const char *note, const struct mlc_str *signers, struct git_file ret[2]);
json_t *audit_anchor_state(const struct audit_anchor *a);
int audit_db_anchor_last(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_anchor *ret) MLC_CHECK;
bool audit_anchor_due(const struct audit_leader *l);
int audit_leader_anchor(struct mlc_ctx *ctx, struct audit_leader *l) MLC_CHECK;
/* Size of this log at the newest anchor in git, 0 when there is none. */
int audit_anchor_newest(const struct app *app, uint64_t *ret_size, struct mlc_err *err) MLC_CHECK;

/* boot.c */

/* Compares head, state and checkpoint file without changing anything; reasons go to audit_halt. */
int audit_compare(struct audit *a, const struct audit_head *head, const struct audit_state *s,
                  struct mlc_err *err) MLC_CHECK;
/* The published checkpoint; size 0 when there is none yet. */
int audit_published(const struct audit *a, struct mlc_checkpoint *ret,
                    struct mlc_err *err) MLC_CHECK;

/* sequencer.c */
void *audit_sequencer_main(void *audit);
