/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The inside of server/db: nobody else includes it, and nobody else includes libpq. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "ctx.h"
#include "db/db.h"

#define DB_STEPS_MAX 12
#define DB_SERVER_VERSION_MIN 130000

enum conn_state { CONN_EMPTY, CONN_IDLE, CONN_BUSY };

/* A place in the pool. While BUSY it belongs to the thread that checked it out. */
struct db_conn {
        struct db *pool;
        enum conn_state state;
        uint64_t last_used; /* order of release: the warmest goes out first */
        struct mlc_ctx *ctx; /* who holds it */
        PGconn *pg; /* always in pipeline mode, non-blocking */
        struct mlc_map prepared; /* statement name -> its text, as prepared on the server */
        int64_t timeout_ms; /* the session's statement_timeout; 0 = not known */
        bool read_only; /* no BEGIN: every statement is its own read-only transaction */
        bool begun; /* BEGIN was sent and went through */
        bool used; /* a statement went through since checkout */
        bool broken; /* to be closed, not reused */
};

struct db {
        pthread_mutex_t lock;
        pthread_cond_t freed;
        char *conninfo;
        uint64_t n_released;
        int max;
        struct db_conn conns[];
};

/* One message to the server and the one result that it yields. */
struct db_step {
        enum { DB_STEP_QUERY, DB_STEP_PREPARE, DB_STEP_SYNC } kind;
        PGresult *res;
};

struct db_steps {
        struct db_step at[DB_STEPS_MAX];
        int n;
        bool send_failed;
};

/* Opens and sets up a connection, in blocking mode without pipeline. MLC_E_UNAVAILABLE. */
int db_pg_open(const char *conninfo, PGconn **ret, struct mlc_err *err) MLC_CHECK;
void db_pg_close(PGconn **pg); /* for _cleanup_ */
/* A simple query on a connection of its own (not of the pool). ret may be NULL. */
int db_pg_query(PGconn *pg, const char *text, PGresult **ret, struct mlc_err *err) MLC_CHECK;
void db_pg_result_done(PGresult **res); /* for _cleanup_ */

/* Takes a connection out of the pool; until deadline_ms. fresh: opened now, not one that was idle.
 */
int db_checkout(struct mlc_ctx *ctx, bool fresh, struct db_conn **ret) MLC_CHECK;
/* Gives it back, or closes it when it is broken or not idle. */
void db_release(struct db_conn *c);

void db_steps_sql(struct db_steps *s, struct db_conn *c, const char *text);
void db_steps_sync(struct db_steps *s, struct db_conn *c);
/*
 * Flushes and collects one result per step until deadline_ms. Negative when the connection is lost;
 * errors of statements are left in the results.
 */
int db_steps_run(struct db_steps *s, struct db_conn *c, int64_t deadline_ms,
                 struct mlc_err *err) MLC_CHECK;
void db_steps_done(struct db_steps *s); /* for _cleanup_ */
/* The first result that is an error, or NULL. */
const PGresult *db_steps_error(const struct db_steps *s);

/* Fills err from a failed result; returns the code. */
int db_error(struct mlc_err *err, const PGresult *res, const char *what);
