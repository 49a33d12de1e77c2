/* SPDX-License-Identifier: Apache-2.0 */
/* Connections outside the pool: notifications and session locks. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "db/conn.h"
#include "gen/db.sql.h"

#define CHECK_TIMEOUT_MS 5000

struct db_listener {
        PGconn *pg;
};

struct db_lock {
        PGconn *pg;
};

int db_listen_open(struct app *app, const char *channel, struct db_listener **ret,
                   struct mlc_err *err)
{
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        char text[96];
        int r;

        for (const char *p = channel; *p != '\0'; p++)
                assert((*p >= 'a' && *p <= 'z') || *p == '_');
        assert(strlen(channel) < 64);
        r = db_pg_open(app->db->conninfo, &pg, err);
        if (r < 0)
                return r;
        (void)snprintf(text, sizeof(text), "LISTEN %s", channel);
        r = db_pg_query(pg, text, NULL, err);
        if (r < 0)
                return r;
        *ret = calloc(1, sizeof(**ret));
        if (*ret == NULL)
                abort();
        (*ret)->pg = TAKE_PTR(pg);
        return 0;
}

int db_listen_wait(struct db_listener *l, int wake_fd, int64_t timeout_ms, char *ret, size_t size,
                   struct mlc_err *err)
{
        struct pollfd p[2] = {
                {.fd = PQsocket(l->pg), .events = POLLIN},
                {.fd = wake_fd, .events = POLLIN},
        };
        PGnotify *n = PQnotifies(l->pg);

        if (n == NULL) {
                if (poll(p, 2, timeout_ms > 60000 ? 60000 : (int)timeout_ms) < 0 && errno != EINTR)
                        return mlc_fail_errno(err, "wait for", "notifications");
                if (p[0].revents != 0 && PQconsumeInput(l->pg) != 1)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "the connection for notifications was lost");
                n = PQnotifies(l->pg);
        }
        (void)snprintf(ret, size, "%s", n == NULL ? "" : n->extra);
        PQfreemem(n);
        return 0;
}

void db_listen_close(struct db_listener **l)
{
        struct db_listener *gone = TAKE_PTR(*l);

        if (gone == NULL)
                return;
        db_pg_close(&gone->pg);
        free(gone);
}

int db_lock_try(struct app *app, int64_t key, struct db_lock **ret, struct mlc_err *err)
{
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        _cleanup_(db_pg_result_done) PGresult *res = NULL;
        char text[24];
        const char *const values[] = {text};
        int r;

        r = db_pg_open(app->db->conninfo, &pg, err);
        if (r < 0)
                return r;
        (void)snprintf(text, sizeof(text), "%" PRId64, key);
        res = PQexecParams(pg, SQL_DB_LOCK_TRY.text, 1, NULL, values, NULL, NULL, 0);
        if (PQresultStatus(res) != PGRES_TUPLES_OK)
                return db_error(err, res, SQL_DB_LOCK_TRY.name);
        if (!mlc_streq(PQgetvalue(res, 0, 0), "t")) {
                *ret = NULL;
                return 0;
        }
        *ret = calloc(1, sizeof(**ret));
        if (*ret == NULL)
                abort();
        (*ret)->pg = TAKE_PTR(pg);
        return 0;
}

/* Asks the server with a limit of time: a connection that hangs counts as lost. */
int db_lock_check(struct db_lock *l, struct mlc_err *err)
{
        struct pollfd p = {.fd = PQsocket(l->pg), .events = POLLIN};
        PGresult *res;
        bool ok = true;

        if (PQsendQuery(l->pg, SQL_DB_LOCK_HELD.text) != 1)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "the connection that holds the lock was lost");
        while (PQisBusy(l->pg)) {
                if (poll(&p, 1, CHECK_TIMEOUT_MS) == 0 || PQconsumeInput(l->pg) != 1)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "the connection that holds the lock was lost");
        }
        while ((res = PQgetResult(l->pg)) != NULL) {
                ok = ok && PQresultStatus(res) == PGRES_TUPLES_OK;
                PQclear(res);
        }
        if (!ok)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "the connection that holds the lock was lost");
        return 0;
}

void db_lock_release(struct db_lock **l)
{
        struct db_lock *gone = TAKE_PTR(*l);

        if (gone == NULL)
                return;
        db_pg_close(&gone->pg);
        free(gone);
}
