/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of `mlctld check` share. */
#include "audit/audit_internal.h"
#include "base/map.h"

#define CHECK_LOGS_MAX 16

/* One log: the present one, or an archived predecessor. */
struct check_log {
        int64_t log_id;
        char origin[MLC_KEY_NAME_MAX + 1];
        struct mlc_vkey vkeys[MLC_REPLAY_KEYS_MAX];
        size_t n_vkeys;
        char dir[AUDIT_PATH_MAX];
        uint64_t rows; /* entries in the database */
        uint64_t agreed; /* of those, the ones that the files hold too */
        struct mlc_digest root; /* over them, as the head or the successor's first leaf says */
        struct audit_state state; /* the present log's */
        struct mlc_checkpoint cp; /* published; size 0: none */
        char *note; /* its bytes, malloc'ed; NULL: none */
};

struct check {
        struct mlc_ctx *ctx;
        struct audit *a;
        struct db_tx tx; /* the snapshot of the database */
        struct mlc_replay *replay;
        struct mlc_tlog_finding finding;
        struct check_log logs[CHECK_LOGS_MAX]; /* oldest first; the last is the present one */
        size_t n_logs;
        char **files; /* below log/, as listed under the lock; malloc'ed */
        size_t n_files;
        struct mlc_map
                tail; /* path -> struct check_file: what a crash may have left half written */
        struct audit_rows rows; /* a window of the rows */
        uint64_t rows_from;
        int64_t n_anchors, n_objects;
        char anchor_ref[GIT_OID_STR]; /* before the snapshot; empty: none then */
};

struct check_file {
        size_t len;
        char data[];
};

/* Sets the finding; MLC_E_VERIFY. */
#define check_found(c, index, ...)                                                                 \
        mlc_tlog_found(&(c)->finding, (index), &(c)->ctx->err, __VA_ARGS__)

/* The row of the log; rows are read in windows, in order. MLC_E_NOT_FOUND. */
int check_row(struct check *c, const struct check_log *log, uint64_t index,
              struct mlc_tlog_row *ret) MLC_CHECK;

/* check_log.c: hashes, tiles, rows, checkpoints and the replay of one log. */
int check_one_log(struct check *c, struct check_log *log) MLC_CHECK;
/* check_files.c: lists DIR/log (under the lock), and later accounts for each file. */
int check_list_files(struct check *c) MLC_CHECK;
int check_files(struct check *c) MLC_CHECK;
/* check_anchors.c. The reference is read before the snapshot, so that it is at most one behind. */
void check_anchor_ref(struct check *c);
int check_anchors(struct check *c) MLC_CHECK;
