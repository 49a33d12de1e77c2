/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctx.h"

/*
 * PostgreSQL: a bounded pool of connections, each checked out for one transaction; statements are the
 * generated constants of a capability's .sql file (an ad-hoc string does not compile). Threads: any thread
 * may begin a transaction; a db_tx belongs to the thread that began it. Beginning a second one on a ctx
 * while the first is open is an assert.
 */
struct db;       /* the pool, in app->db */
struct db_conn;

/* Generated from `-- name: NAME` in x.sql as `SQL_NAME` in "gen/x.sql.h". $1..$n are the parameters. */
struct db_stmt {
        const char *name;
        const char *text;
        int n_params;
};

enum db_param_type { DB_T_NULL, DB_T_TEXT, DB_T_INT, DB_T_BYTES, DB_T_BOOL };

struct db_param {
        enum db_param_type type;
        const char *text;     /* DB_T_TEXT; NULL is SQL NULL. Also used for json, timestamptz, arrays: cast in SQL */
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
        struct db_conn *conn;     /* NULL when not open */
        struct mlc_ctx *ctx;
        bool failed;              /* a statement failed: only rollback is possible */
};

/* Owned by the caller: _cleanup_(db_rows_done). Values are read while it lives. */
struct db_rows {
        void *res;
        int n;     /* rows */
};

/*
 * Read committed, statement and lock timeouts from ctx->deadline_ms. MLC_E_UNAVAILABLE when no connection is
 * free before the deadline or PostgreSQL is away.
 */
int db_tx_begin(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
/* Read-only and (with one statement) no BEGIN round trip: see db_query_one below for the shortest form. */
int db_tx_begin_read(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
/* Durable when it returns 0. On failure the transaction is gone. MLC_E_CONFLICT on 40001/40P01. */
int db_tx_commit(struct db_tx *tx) MLC_CHECK;
/* Rolls back unless committed and returns the connection; NULL-safe, idempotent; for _cleanup_. */
void db_tx_done(struct db_tx *tx);

/*
 * Runs a statement (prepared once per connection) with exactly stmt->n_params parameters.
 * Unique violations are MLC_E_CONFLICT, check and foreign key violations and raised exceptions MLC_E_CONFLICT
 * with the constraint's name in err.field, all with err.sqlstate; others MLC_E_INTERNAL.
 */
int db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_param *params, int n_params,
            struct db_rows *ret) MLC_CHECK;     /* ret may be NULL */
#define db_run(tx, stmt, ret, ...)                                                                 \
        db_exec((tx), &(stmt), (const struct db_param[]){__VA_ARGS__},                             \
                (int)(sizeof((const struct db_param[]){__VA_ARGS__}) / sizeof(struct db_param)),   \
                (ret))
#define db_run0(tx, stmt, ret) db_exec((tx), &(stmt), NULL, 0, (ret))

void db_rows_done(struct db_rows *rows);

/* Columns are counted from 0. A type mismatch or an out-of-range index is an assert. Rows come as text. */
bool db_is_null(const struct db_rows *rows, int row, int col);
const char *db_text(const struct db_rows *rows, int row, int col);     /* borrowed; "" for NULL */
int64_t db_int(const struct db_rows *rows, int row, int col);
bool db_bool(const struct db_rows *rows, int row, int col);
/* timestamptz as milliseconds: select it as (extract(epoch from t) * 1000)::bigint. */
/* bytea, decoded into ctx's arena; NULL with *ret_len 0 for NULL. */
int db_bytes(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col, const void **ret,
             size_t *ret_len) MLC_CHECK;
char *db_text_dup(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col);     /* NULL for NULL */
