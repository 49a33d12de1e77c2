/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "db/cluster.h"
#include "db/conn.h"

#define CHECKOUT_MS_MAX 5000
#define POOL_MAX 256

/* client_encoding and time zone decide how values look as text; reads need no BEGIN because the
 * session's default is read-only (BEGIN READ WRITE overrides it), so that a write without a
 * transaction fails. */
static const char SETUP[] =
        "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET bytea_output = 'hex';"
        "SET standard_conforming_strings = on; SET client_min_messages = warning;"
        "SET default_transaction_isolation = 'read committed';"
        "SET idle_in_transaction_session_timeout = '5min'";
/* a backend whose client has gone stops working for it (PostgreSQL 14 and newer) */
static const char SETUP_14[] = "SET client_connection_check_interval = '2s'";
static const char SETUP_POOL[] = "SET default_transaction_read_only = on";

static void ignore_notice(void *arg, const PGresult *res)
{
        (void)arg;
        (void)res;
}

void db_pg_close(PGconn **pg)
{
        if (*pg != NULL)
                PQfinish(*pg);
        *pg = NULL;
}

void db_pg_result_done(PGresult **res)
{
        PQclear(*res);
        *res = NULL;
}

int db_pg_query(PGconn *pg, const char *text, PGresult **ret, struct mlc_err *err)
{
        _cleanup_(db_pg_result_done) PGresult *res = PQexec(pg, text);
        ExecStatusType st = PQresultStatus(res);

        if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
                return db_error(err, res, "database command failed");
        if (ret != NULL)
                *ret = TAKE_PTR(res);
        return 0;
}

/* libpq's messages have several lines and end in one; ours are one */
static void one_line(char *s)
{
        size_t n = strlen(s);

        while (n > 0 && (s[n - 1] == '\n' || s[n - 1] == ' '))
                s[--n] = '\0';
        for (; *s != '\0'; s++)
                if (*s == '\n' || *s == '\t')
                        *s = ' ';
}

int db_pg_open(const char *conninfo, PGconn **ret, struct mlc_err *err)
{
        static const char *const keys[] = {"connect_timeout", "application_name", "dbname",
                                           "client_encoding", NULL};
        const char *const values[] = {"10", "mlctld", conninfo, "UTF8", NULL};
        _cleanup_(db_pg_close) PGconn *pg = PQconnectdbParams(keys, values, 1);
        char why[256];
        int r;

        if (PQstatus(pg) != CONNECTION_OK) {
                (void)snprintf(why, sizeof(why), "%s", PQerrorMessage(pg));
                one_line(why);
                return mlc_fail(err, MLC_E_UNAVAILABLE, "cannot connect to the database: %s", why);
        }
        if (PQserverVersion(pg) < DB_SERVER_VERSION_MIN)
                return mlc_fail(
                        err, MLC_E_UNAVAILABLE,
                        "the database server is PostgreSQL %d, version 13 or newer is needed",
                        PQserverVersion(pg) / 10000);
        (void)PQsetNoticeReceiver(pg, ignore_notice, NULL);
        r = db_pg_query(pg, SETUP, NULL, err);
        if (r < 0)
                return r;
        if (PQserverVersion(pg) >= 140000) {
                r = db_pg_query(pg, SETUP_14, NULL, err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(pg);
        return 0;
}

static void conn_close(struct db_conn *c)
{
        db_pg_close(&c->pg);
        mlc_map_done(&c->prepared, NULL);
}

static int conn_open(struct db_conn *c, struct mlc_err *err)
{
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        int r;

        r = db_pg_open(c->pool->conninfo, &pg, err);
        if (r < 0)
                return r;
        r = db_pg_query(pg, SETUP_POOL, NULL, err);
        if (r < 0)
                return r;
        if (PQsetnonblocking(pg, 1) != 0 || PQenterPipelineMode(pg) != 1)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "the database connection has no pipeline mode");
        mlc_map_init(&c->prepared);
        c->timeout_ms = 0;
        c->pg = TAKE_PTR(pg);
        return 0;
}

/* An idle connection has nothing to read, unless the server said goodbye. */
static bool conn_alive(struct db_conn *c)
{
        struct pollfd p = {.fd = PQsocket(c->pg), .events = POLLIN};

        if (poll(&p, 1, 0) == 0)
                return true;
        return PQconsumeInput(c->pg) == 1 && PQstatus(c->pg) == CONNECTION_OK;
}

static struct db_conn *best(struct db *db, bool fresh)
{
        struct db_conn *idle = NULL, *empty = NULL;

        for (int i = 0; i < db->max; i++) {
                struct db_conn *c = &db->conns[i];

                if (c->state == CONN_IDLE && (idle == NULL || c->last_used > idle->last_used))
                        idle = c;
                if (c->state == CONN_EMPTY && empty == NULL)
                        empty = c;
        }
        if (fresh && empty != NULL)
                return empty;
        return idle != NULL ? idle : empty;
}

static struct timespec at_ms(int64_t ms)
{
        return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
}

/* Takes a place of the pool, waiting for one; NULL when the deadline passes. */
static struct db_conn *take(struct db *db, struct mlc_ctx *ctx, bool fresh)
{
        int64_t until = mlc_monotonic_ms() + CHECKOUT_MS_MAX;
        struct timespec ts = at_ms(ctx->deadline_ms < until ? ctx->deadline_ms : until);
        struct db_conn *c;
        int w = 0;

        (void)pthread_mutex_lock(&db->lock);
        for (int i = 0; i < db->max;
             i++) /* a second transaction while the first is open: deadlock of the pool */
                assert(db->conns[i].state != CONN_BUSY || db->conns[i].ctx != ctx);
        while ((c = best(db, fresh)) == NULL && w != ETIMEDOUT)
                w = pthread_cond_timedwait(&db->freed, &db->lock, &ts);
        if (c != NULL) {
                c->state = CONN_BUSY;
                c->ctx = ctx;
        }
        (void)pthread_mutex_unlock(&db->lock);
        return c;
}

static void put(struct db_conn *c, enum conn_state state)
{
        struct db *db = c->pool;

        (void)pthread_mutex_lock(&db->lock);
        c->state = state;
        c->ctx = NULL;
        c->last_used = ++db->n_released;
        (void)pthread_cond_signal(&db->freed);
        (void)pthread_mutex_unlock(&db->lock);
}

int db_checkout(struct mlc_ctx *ctx, bool fresh, struct db_conn **ret)
{
        struct db_conn *c;
        int r;

        if (mlc_monotonic_ms() >= ctx->deadline_ms)
                return ctx_fail(ctx, MLC_E_UNAVAILABLE, "no time is left to ask the database");
        c = take(ctx->app->db, ctx, fresh);
        if (c == NULL)
                return ctx_fail(ctx, MLC_E_UNAVAILABLE,
                                "all database connections are busy, try again");
        c->begun = c->used = c->broken = false;
        if (c->pg != NULL && (fresh || !conn_alive(c)))
                conn_close(c);
        if (c->pg == NULL) {
                r = conn_open(c, &ctx->err);
                if (r < 0) {
                        put(c, CONN_EMPTY);
                        return r;
                }
        }
        *ret = c;
        return 0;
}

void db_release(struct db_conn *c)
{
        if (!c->broken && PQtransactionStatus(c->pg) == PQTRANS_IDLE) {
                put(c, CONN_IDLE);
                return;
        }
        conn_close(c);
        put(c, CONN_EMPTY);
}

static struct db *pool_new(const char *conninfo, int max)
{
        struct db *db = calloc(1, sizeof(*db) + (size_t)max * sizeof(struct db_conn));
        pthread_condattr_t attr;

        if (db == NULL)
                abort();
        db->max = max;
        db->conninfo = strdup(conninfo);
        if (db->conninfo == NULL)
                abort();
        for (int i = 0; i < max; i++)
                db->conns[i].pool = db;
        (void)pthread_mutex_init(&db->lock, NULL);
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&db->freed, &attr);
        (void)pthread_condattr_destroy(&attr);
        return db;
}

int db_start(struct app *app, struct mlc_err *err)
{
        const char *conninfo =
                app->cluster != NULL ? db_cluster_conninfo(app->cluster) : app->config.postgres;
        int64_t max = app->config.db_connections;
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        int r;

        assert(app->db == NULL && conninfo != NULL && max > 0 && max <= POOL_MAX);
        r = db_pg_open(conninfo, &pg, err);
        if (r < 0)
                return r;
        if (mlc_streq(PQparameterStatus(pg, "is_superuser"), "on"))
                log_warn(NULL, "db.superuser", KV_STR("user", PQuser(pg)),
                         KV_STR("advice",
                                "give mlctld a role that owns its database and is no superuser"));
        app->db = pool_new(conninfo, (int)max);
        return 0;
}

void db_stop(struct app *app)
{
        struct db *db = TAKE_PTR(app->db);

        if (db == NULL)
                return;
        for (int i = 0; i < db->max; i++) {
                assert(db->conns[i].state != CONN_BUSY);
                conn_close(&db->conns[i]);
        }
        (void)pthread_cond_destroy(&db->freed);
        (void)pthread_mutex_destroy(&db->lock);
        free(db->conninfo);
        free(db);
}
