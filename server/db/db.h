/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctx.h"

/*
 * PostgreSQL: a bounded pool of connections, each checked out for one transaction; statements are
 * the generated constants of a capability's .sql file (an ad-hoc string does not compile). Threads:
 * any thread may begin a transaction; a db_tx belongs to the thread that began it. Beginning a
 * second one on a ctx while the first is open is an assert.
 */
struct db; /* the pool, in app->db */
struct db_conn;

/* Opens the pool of app->cluster or of the configured conninfo. MLC_E_UNAVAILABLE. */
int db_start(struct app *app, struct mlc_err *err) MLC_CHECK;
void db_stop(struct app *app); /* no transaction is open any more; idempotent */
/*
 * Brings the schema to this program's: each missing migration in a transaction of its own, in
 * order, one server at a time. MLC_E_CONFLICT when the database is newer than the program or an
 * applied migration was changed.
 */
int db_migrate(struct app *app, struct mlc_err *err) MLC_CHECK;
/* 0 when the database's schema is exactly this program's; changes nothing. */
int db_migrate_check(struct app *app, struct mlc_err *err) MLC_CHECK;

/* Generated from `-- name: NAME` in x.sql as `SQL_NAME` in "gen/x.sql.h". $1..$n are the
 * parameters. */
struct db_stmt {
        const char *name;
        const char *text;
        int n_params;
};

enum db_param_type { DB_T_NULL, DB_T_TEXT, DB_T_INT, DB_T_BYTES, DB_T_BOOL };

struct db_param {
        enum db_param_type type;
        const char *text; /* DB_T_TEXT; NULL is SQL NULL. Also used for json, timestamptz, arrays:
                             cast in SQL */
        const void *bytes;
        size_t len;
        int64_t num;
};

#define DB_TEXT(s) ((struct db_param){.type = DB_T_TEXT, .text = (s)})
#define DB_INT(n) ((struct db_param){.type = DB_T_INT, .num = (int64_t)(n)})
#define DB_BOOL(b) ((struct db_param){.type = DB_T_BOOL, .num = (b)})
#define DB_BYTES(p, n) ((struct db_param){.type = DB_T_BYTES, .bytes = (p), .len = (n)})
#define DB_NULL ((struct db_param){.type = DB_T_NULL})

struct db_tx {
        struct db_conn *conn; /* NULL when not open */
        struct mlc_ctx *ctx;
        bool failed; /* a statement failed: only rollback is possible */
        bool changes; /* what clients see: COMMIT raises app->changes; set by audit_append */
};

/* Owned by the caller: _cleanup_(db_rows_done). Values are read while it lives. */
struct db_rows {
        void *res;
        int n; /* rows */
};

/*
 * Read committed, statement and lock timeouts from ctx->deadline_ms. MLC_E_UNAVAILABLE when no
 * connection is free before the deadline (5 s at most) or PostgreSQL is away. BEGIN itself travels
 * with the first statement, so now() is the time of that one.
 */
int db_tx_begin(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
/* Read-only: without BEGIN, every statement sees its own snapshot and costs one round trip; a write
 * fails. */
int db_tx_begin_read(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
/* Durable when it returns 0. On failure the transaction is gone. MLC_E_CONFLICT on 40001/40P01. */
int db_tx_commit(struct db_tx *tx) MLC_CHECK;
/* Rolls back unless committed and returns the connection; NULL-safe, idempotent; for _cleanup_. */
void db_tx_done(struct db_tx *tx);

/*
 * Runs fn in a transaction and commits it; on a serialization failure or deadlock all of it again,
 * at most six times. fn returns 0 or an error, runs statements on tx, and neither commits nor has
 * effects elsewhere.
 */
typedef int db_tx_fn(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata);
int db_tx_retry(struct mlc_ctx *ctx, db_tx_fn *fn, void *userdata) MLC_CHECK;

/*
 * Runs a statement (prepared once per connection) with exactly stmt->n_params parameters.
 * Unique violations are MLC_E_CONFLICT, check and foreign key violations and raised exceptions
 * MLC_E_CONFLICT with the constraint's name in err.field, all with err.sqlstate; others
 * MLC_E_INTERNAL.
 */
int db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_param *params,
            int n_params, struct db_rows *ret) MLC_CHECK; /* ret may be NULL */
#define db_run(tx, stmt, ret, ...)                                                                 \
        db_exec((tx), &(stmt), (const struct db_param[]){__VA_ARGS__},                             \
                (int)(sizeof((const struct db_param[]){__VA_ARGS__}) / sizeof(struct db_param)),   \
                (ret))
#define db_run0(tx, stmt, ret) db_exec((tx), &(stmt), NULL, 0, (ret))

void db_rows_done(struct db_rows *rows);

/* Columns are counted from 0. A type mismatch or an out-of-range index is an assert. Rows come as
 * text. */
bool db_is_null(const struct db_rows *rows, int row, int col);
const char *db_text(const struct db_rows *rows, int row, int col); /* borrowed; "" for NULL */
int64_t db_int(const struct db_rows *rows, int row, int col);
bool db_bool(const struct db_rows *rows, int row, int col);
/* timestamptz as milliseconds: select it as (extract(epoch from t) * 1000)::bigint. */
/* bytea, decoded into ctx's arena; NULL with *ret_len 0 for NULL. */
int db_bytes(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col, const void **ret,
             size_t *ret_len) MLC_CHECK;
char *db_text_dup(struct mlc_ctx *ctx, const struct db_rows *rows, int row,
                  int col); /* NULL for NULL */

/*
 * Notifications on a connection of its own. Used by one thread. When a call fails, close it and
 * open another: what was notified in between is lost, so whoever listens also polls, slowly.
 */
struct db_listener;
int db_listen_open(struct app *app, const char *channel, struct db_listener **ret,
                   struct mlc_err *err) MLC_CHECK;
/*
 * Waits until a notification, timeout_ms, or until wake_fd (-1: none) can be read. 0 with the
 * payload in ret (truncated to size), or an empty string when there is none.
 */
int db_listen_wait(struct db_listener *l, int wake_fd, int64_t timeout_ms, char *ret, size_t size,
                   struct mlc_err *err) MLC_CHECK;
void db_listen_close(struct db_listener **l); /* for _cleanup_ */

/*
 * A session advisory lock on a connection of its own, for things that one server does at a time. It
 * is lost with the connection: db_lock_check says whether it is still held. Used by one thread.
 */
struct db_lock;
/* 0 with *ret NULL when another holds it. */
int db_lock_try(struct app *app, int64_t key, struct db_lock **ret, struct mlc_err *err) MLC_CHECK;
int db_lock_check(struct db_lock *l, struct mlc_err *err) MLC_CHECK;
void db_lock_release(struct db_lock **l); /* for _cleanup_ */
