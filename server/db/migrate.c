/* SPDX-License-Identifier: Apache-2.0 */
#include "db/migrations.h"

#include <inttypes.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "db/cluster.h"
#include "db/conn.h"
#include "gen/db.sql.h"

#define MIGRATE_LOCK 0x6d6c63746c000001 /* "mlctl", 1: one server migrates at a time */

static int query(PGconn *pg, const struct db_stmt *stmt, const char *const *values, PGresult **ret,
                 struct mlc_err *err)
{
        _cleanup_(db_pg_result_done) PGresult *res =
                PQexecParams(pg, stmt->text, stmt->n_params, NULL, values, NULL, NULL, 0);
        ExecStatusType st = PQresultStatus(res);

        if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
                return db_error(err, res, stmt->name);
        if (ret != NULL)
                *ret = TAKE_PTR(res);
        return 0;
}

static int lock(PGconn *pg, struct mlc_err *err)
{
        char key[24];
        const char *const values[] = {key};
        int r;

        (void)snprintf(key, sizeof(key), "%" PRId64, (int64_t)MIGRATE_LOCK);
        r = db_pg_query(pg, "SET lock_timeout = '120s'", NULL, err);
        if (r < 0)
                return r;
        r = query(pg, &SQL_DB_LOCK_WAIT, values, NULL, err);
        if (r < 0)
                return mlc_wrap(err, "waiting for another server that changes the schema");
        return db_pg_query(pg, "SET lock_timeout = '30s'", NULL, err);
}

/* Compares what was applied with what this program has; the number of those applied. */
static int compare(PGconn *pg, int *ret_applied, struct mlc_err *err)
{
        _cleanup_(db_pg_result_done) PGresult *res = NULL;
        int r, n;

        r = query(pg, &SQL_DB_MIGRATION_LIST, NULL, &res, err);
        if (r < 0)
                return r;
        n = PQntuples(res);
        for (int i = 0; i < n; i++) {
                const struct db_migration *m = &gen_migrations[i];
                const char *version = PQgetvalue(res, i, 0), *name = PQgetvalue(res, i, 1);
                char ours[16];

                if (i >= gen_n_migrations)
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "the database is newer than this program: it has migration "
                                        "%s '%s', install "
                                        "the mlctld that made it or a newer one",
                                        version, name);
                (void)snprintf(ours, sizeof(ours), "%d", m->version);
                if (!mlc_streq(ours, version) || !mlc_streq(m->name, name))
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "the database is of another program: it has migration %s "
                                        "'%s' where this "
                                        "one has %d '%s'",
                                        version, name, m->version, m->name);
                if (!mlc_streq(m->sha256, PQgetvalue(res, i, 2)))
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "migration %d '%s' was changed after it was applied to "
                                        "this database",
                                        m->version, m->name);
        }
        *ret_applied = n;
        return 0;
}

static int apply_in_transaction(PGconn *pg, const struct db_migration *m, struct mlc_err *err)
{
        char version[16];
        const char *const values[] = {version, m->name, m->sha256};
        int r;

        (void)snprintf(version, sizeof(version), "%d", m->version);
        r = db_pg_query(pg, m->text, NULL, err);
        if (r < 0)
                return r;
        return query(pg, &SQL_DB_MIGRATION_INSERT, values, NULL, err);
}

static int apply(PGconn *pg, const struct db_migration *m, struct mlc_err *err)
{
        int64_t start = mlc_monotonic_ms();
        int r;

        r = db_pg_query(pg, "BEGIN READ WRITE", NULL, err);
        if (r < 0)
                return r;
        r = apply_in_transaction(pg, m, err);
        if (r < 0) /* the connection is closed by the caller, and with it the transaction */
                return mlc_wrap(err, "migration %d '%s'", m->version, m->name);
        r = db_pg_query(pg, "COMMIT", NULL, err);
        if (r < 0)
                return r;
        log_info(NULL, "db.migrated", KV_INT("version", m->version), KV_STR("name", m->name),
                 KV_INT("ms", mlc_monotonic_ms() - start));
        return 0;
}

int db_migrate(struct app *app, struct mlc_err *err)
{
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        int applied = 0;
        int r;

        r = db_pg_open(app->db->conninfo, &pg, err);
        if (r < 0)
                return r;
        r = lock(pg, err);
        if (r < 0)
                return r;
        r = query(pg, &SQL_DB_MIGRATION_TABLE, NULL, NULL, err);
        if (r < 0)
                return r;
        r = compare(pg, &applied, err);
        if (r < 0)
                return r;
        for (int i = applied; i < gen_n_migrations; i++) {
                r = apply(pg, &gen_migrations[i], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int db_migrate_check(struct app *app, struct mlc_err *err)
{
        _cleanup_(db_pg_close) PGconn *pg = NULL;
        _cleanup_(db_pg_result_done) PGresult *res = NULL;
        int applied = 0;
        int r;

        r = db_pg_open(app->db->conninfo, &pg, err);
        if (r < 0)
                return r;
        r = query(pg, &SQL_DB_MIGRATION_TABLE_EXISTS, NULL, &res, err);
        if (r < 0)
                return r;
        if (mlc_streq(PQgetvalue(res, 0, 0), "t")) {
                r = compare(pg, &applied, err);
                if (r < 0)
                        return r;
        }
        if (applied < gen_n_migrations)
                return mlc_fail(err, MLC_E_CONFLICT,
                                "the database is older than this program: start the server once to "
                                "bring it to "
                                "migration %d",
                                gen_migrations[gen_n_migrations - 1].version);
        return 0;
}
