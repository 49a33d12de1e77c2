/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check`: everything, in one snapshot of the database beside the files as they were then.
 */
#include "audit/check.h"

#include <assert.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "gen/audit.sql.h"

static void check_done(struct check *c)
{
        db_tx_done(&c->tx);
        mlc_replay_free(&c->replay);
        for (size_t i = 0; i < c->n_logs; i++) {
                free(c->logs[i].note);
                audit_state_done(&c->logs[i].state);
        }
        for (size_t i = 0; i < c->n_files; i++)
                free(c->files[i]);
        free(c->files);
        mlc_map_done(&c->tail, free);
        free(c);
}

static void check_donep(struct check **c)
{
        if (*c != NULL)
                check_done(*c);
}

/* Keys as the rows of audit_origin say; the replay derives them from leaves and compares. */
static int load_keys(struct check *c, struct check_log *log, const char *state_json)
{
        _cleanup_(json_decref_p) json_t *state = json_loads(state_json, 0, NULL);
        const json_t *keys = json_object_get(state, "keys");
        const char *text;

        log->n_vkeys = json_array_size(keys);
        if (log->n_vkeys == 0 || log->n_vkeys > MLC_REPLAY_KEYS_MAX)
                return check_found(c, 0, "the database lists no keys of the log");
        for (size_t i = 0; i < log->n_vkeys; i++) {
                text = json_string_value(json_array_get(keys, i));
                if (mlc_vkey_parse(text == NULL ? "" : text, &log->vkeys[i], &c->ctx->err) < 0)
                        return check_found(c, 0, "a key of the log in the database was changed");
        }
        return 0;
}

/* The published checkpoint: its bytes, and that it is signed. */
static int load_checkpoint(struct check *c, struct check_log *log)
{
        const struct mlc_vkeys keys = {log->vkeys, log->n_vkeys};
        char path[AUDIT_PATH_MAX + 16];
        struct mlc_err err = {0};
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/checkpoint", log->dir);
        r = mlc_read_file(path, MLC_NOTE_MAX, &log->note, &len, &err);
        if (r == MLC_E_NOT_FOUND)
                return 0;
        if (r < 0)
                return mlc_fail(&c->ctx->err, r, "%s", err.msg);
        if (strlen(log->note) != len ||
            mlc_tlog_open_checkpoint(log->note, len, &keys, &log->cp, &err) < 0)
                return check_found(c, log->rows, "the checkpoint: %s",
                                   err.code == 0 ? "it holds a NUL" : err.msg);
        return 0;
}

/* For naming what is wrong when there are not as many rows as the head says. */
static uint64_t first_missing(struct check *c, uint64_t size)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const struct check_log *log = &c->logs[c->n_logs - 1];

        if (db_run(&c->tx, SQL_AUDIT_FIRST_MISSING, &rows, DB_INT(log->log_id),
                   DB_INT((int64_t)size)) < 0 ||
            rows.n == 0)
                return log->rows;
        return (uint64_t)db_int(&rows, 0, 0);
}

static int load_logs(struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct audit_head head;
        int r;

        r = audit_db_head(c->ctx, &c->tx, false, &head);
        if (r == 0)
                r = db_run0(&c->tx, SQL_AUDIT_ORIGINS, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0 || rows.n > CHECK_LOGS_MAX)
                return check_found(c, 0, "the database holds %d logs", rows.n);
        for (int i = 0; i < rows.n; i++) {
                struct check_log *log = &c->logs[c->n_logs++];

                log->log_id = db_int(&rows, i, 0);
                (void)snprintf(log->origin, sizeof(log->origin), "%s", db_text(&rows, i, 1));
                audit_log_dir(c->a, log->log_id, log->dir);
                log->rows = (uint64_t)db_int(&rows, i, 3);
                r = load_keys(c, log, db_text(&rows, i, 2));
                if (r == 0)
                        r = load_checkpoint(c, log);
                if (r < 0)
                        return r;
        }
        if (c->logs[c->n_logs - 1].log_id != head.log_id ||
            c->logs[c->n_logs - 1].rows != head.frontier.size)
                return check_found(c, first_missing(c, head.frontier.size),
                                   "the database has %" PRIu64
                                   " rows of the log, its head says %" PRIu64,
                                   c->logs[c->n_logs - 1].rows, head.frontier.size);
        c->logs[c->n_logs - 1].root = head.root;
        c->logs[c->n_logs - 1].agreed = c->logs[c->n_logs - 1].cp.size;
        return 0;
}

static int load_state(struct check *c)
{
        struct check_log *log = &c->logs[c->n_logs - 1];
        int r;

        r = audit_state_read(c->a->dir, &log->state, &c->ctx->err);
        if (r == MLC_E_NOT_FOUND)
                return check_found(c, log->rows, "the signing state 'log/state' is missing");
        if (r == MLC_E_VERIFY)
                return check_found(c, log->rows, "%s", c->ctx->err.msg);
        if (r < 0)
                return r;
        if (!mlc_streq(log->state.cp.origin, log->origin) || log->state.log_id != log->log_id)
                return check_found(c, log->rows, "the signing state is of another log");
        if (log->cp.size > log->state.cp.size)
                return check_found(c, log->state.cp.size,
                                   "the signing state is older than the log");
        if (log->cp.size < log->state.previous)
                return check_found(c, log->cp.size, "log is older than its signing state");
        if (log->cp.size == log->state.cp.size && log->note != NULL &&
            !mlc_streq(log->state.note, log->note))
                return check_found(c, log->cp.size,
                                   "the checkpoint is not the one that was signed");
        return 0;
}

/* Files and database as of one moment: nobody publishes while the lock is held. */
static int take_snapshot(struct check *c)
{
        _cleanup_(close_fd) int lock = -1;
        int r;

        r = audit_files_lock(c->a->dir, &lock, &c->ctx->err);
        if (r < 0)
                return r;
        check_anchor_ref(c);
        r = db_tx_begin(c->ctx, &c->tx);
        if (r < 0)
                return r;
        r = db_run0(&c->tx, SQL_AUDIT_SNAPSHOT, NULL);
        if (r == 0)
                r = load_logs(c);
        if (r == 0)
                r = load_state(c);
        if (r == 0)
                r = check_list_files(c);
        return r;
}

/* The successor's first leaf, which may still wait to be sequenced. */
static int first_leaf(struct check *c, const struct check_log *next, struct mlc_leaf *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct mlc_tlog_row row = {0};
        int r;

        c->rows.n = 0;
        r = check_row(c, next, 0, &row);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&c->ctx->err);
                r = db_run0(&c->tx, SQL_AUDIT_OUTBOX_LIST, &rows);
                if (r == 0 && rows.n == 0)
                        return check_found(c, 0, "log '%s' has no first leaf", next->origin);
                if (r == 0)
                        r = db_bytes(c->ctx, &rows, 0, 0, &row.leaf, &row.len);
        }
        if (r < 0)
                return r;
        if (mlc_leaf_parse(row.leaf, row.len, ret, &c->ctx->err) < 0)
                return check_found(c, 0, "the first leaf of log '%s' is none", next->origin);
        c->rows.n = 0;
        return 0;
}

/* What the successor's first leaf says of the rows that it carries over. */
static int carried(struct check *c, struct check_log *old, const struct check_log *next)
{
        _cleanup_(mlc_leaf_done) struct mlc_leaf leaf = {0};
        const char *root;
        int64_t size, agreed;
        int r;

        r = first_leaf(c, next, &leaf);
        if (r < 0)
                return r;
        if (mlc_json_get_i64(leaf.detail, "/detail", "carried_size", &size, &c->ctx->err) < 0 ||
            mlc_json_get_str(leaf.detail, "/detail", "carried_root", &root, &c->ctx->err) < 0 ||
            mlc_json_get_i64(leaf.detail, "/detail", "agreed_size", &agreed, &c->ctx->err) < 0 ||
            mlc_digest_parse(root, &old->root, &c->ctx->err) < 0)
                return check_found(c, 0, "the first leaf does not say what was carried over");
        if ((uint64_t)size != old->rows)
                return check_found(
                        c, 0, "%" PRIu64 " rows of log %" PRId64 " were carried over, not %" PRId64,
                        old->rows, old->log_id, size);
        if (agreed < 0 || agreed > size || (uint64_t)agreed > old->cp.size)
                return check_found(c, 0, "the first leaf says what cannot be of log %" PRId64,
                                   old->log_id);
        old->agreed = (uint64_t)agreed;
        return 0;
}

static int check_logs(struct check *c)
{
        int r;

        for (size_t i = 0; i < c->n_logs; i++) {
                if (i + 1 < c->n_logs) {
                        r = carried(c, &c->logs[i], &c->logs[i + 1]);
                        if (r < 0)
                                return r;
                }
                r = check_one_log(c, &c->logs[i]);
                if (r < 0)
                        return r;
                if (i + 1 < c->n_logs)
                        mlc_replay_succeed(c->replay);
        }
        return 0;
}

/* Leaves that are not sequenced yet belong to the state already. */
static int replay_outbox(struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        uint64_t size = c->logs[c->n_logs - 1].rows;
        struct mlc_digest hash;
        const void *leaf, *want;
        size_t len, want_len;
        int r;

        r = db_run0(&c->tx, SQL_AUDIT_OUTBOX_LIST, &rows);
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                mlc_arena_done(&c->ctx->arena);
                r = db_bytes(c->ctx, &rows, i, 0, &leaf, &len);
                if (r == 0)
                        r = db_bytes(c->ctx, &rows, i, 1, &want, &want_len);
                if (r < 0)
                        return r;
                mlc_merkle_leaf(leaf, len, &hash);
                if (want_len != sizeof(hash.b) || memcmp(want, hash.b, want_len) != 0)
                        return check_found(c, size,
                                           "a leaf that waits to be sequenced was changed");
                r = mlc_replay_leaf(c->replay, size + (uint64_t)i, leaf, len, &c->ctx->err);
                if (r == MLC_E_VERIFY)
                        return check_found(c, size, "%s", c->ctx->err.msg);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int replay_state(struct check *c)
{
        int r;

        for (size_t s = 0; s < c->a->n_sources; s++) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};
                const char *kind = c->a->sources[s].kind;

                mlc_replay_kind(c->replay, kind);
                r = db_exec(&c->tx, c->a->sources[s].list, NULL, 0, &rows);
                if (r < 0)
                        return r;
                for (int i = 0; i < rows.n; i++)
                        mlc_replay_row(c->replay, kind, db_text(&rows, i, 0), db_text(&rows, i, 1));
                c->n_objects += rows.n;
        }
        return mlc_replay_finish(c->replay, c->logs[c->n_logs - 1].rows, &c->finding, &c->ctx->err);
}

/* The derived table that `audit log` searches says what the leaves say. */
static int check_search(struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run0(&c->tx, SQL_AUDIT_SEARCH_DIFFERS, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0)
                return 0;
        return check_found(c, (uint64_t)db_int(&rows, 0, 0),
                           "entry %" PRId64 " is searched for by other words than its leaf has",
                           db_int(&rows, 0, 0));
}

/* What stands behind the commitments is what was committed to, and names are still those. */
static int check_pii(struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run0(&c->tx, SQL_AUDIT_PII_DIFFERS, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0)
                return 0;
        return check_found(c, c->logs[c->n_logs - 1].rows,
                           "the value behind the commitment '%s' was changed",
                           db_text(&rows, 0, 0));
}

static int check_all(struct check *c)
{
        static int (*const steps[])(struct check *) = {take_snapshot, check_logs,   replay_outbox,
                                                       replay_state,  check_search, check_pii,
                                                       check_anchors, check_files};
        int r = 0;

        for (size_t i = 0; i < ARRAY_LEN(steps) && r == 0; i++)
                r = steps[i](c);
        db_tx_done(&c->tx);
        return r;
}

struct parts {
        struct check *c;
        const char *name;
        int n;
};

/* The first thing wrong in a part that no leaf's index names. */
static void part_report(void *userdata, const char *what)
{
        struct parts *p = userdata;

        if (p->n++ == 0)
                (void)check_found(p->c, p->c->logs[p->c->n_logs - 1].rows, "%s: %s", p->name, what);
}

static int check_parts(struct check *c, const struct audit_check_part *parts, size_t n)
{
        int r;

        for (size_t i = 0; i < n; i++) {
                struct parts p = {.c = c, .name = parts[i].name};

                r = parts[i].run(c->ctx, part_report, &p);
                if (p.n > 0)
                        return MLC_E_VERIFY;
                if (r < 0)
                        return r;
        }
        return 0;
}

int audit_check(struct mlc_ctx *ctx, const struct audit_check_part *parts, size_t n, json_t **ret)
{
        _cleanup_(check_donep) struct check *c = calloc(1, sizeof(*c));
        const struct check_log *log;
        int64_t start = mlc_monotonic_ms();
        char root[MLC_DIGEST_STR];
        int r;

        if (c == NULL)
                abort();
        c->ctx = ctx;
        c->a = ctx->app->audit;
        c->replay = mlc_replay_new();
        mlc_map_init(&c->tail);
        r = check_all(c);
        if (r == 0)
                r = check_parts(c, parts, n);
        if (r == MLC_E_VERIFY) {
                mlc_err_clear(&ctx->err);
                *ret = json_pack("{sb,sI,ss}", "ok", 0, "index", (json_int_t)c->finding.index,
                                 "what", c->finding.what);
                return 0;
        }
        if (r < 0)
                return r;
        log = &c->logs[c->n_logs - 1];
        mlc_digest_format(&log->cp.root, root);
        *ret = json_pack("{sb,ss,sI,ss,sI,sI,sI,sI}", "ok", 1, "origin", log->origin, "size",
                         (json_int_t)log->cp.size, "root", root, "entries", (json_int_t)log->rows,
                         "objects", (json_int_t)c->n_objects, "anchors", (json_int_t)c->n_anchors,
                         "ms", (json_int_t)(mlc_monotonic_ms() - start));
        return 0;
}
