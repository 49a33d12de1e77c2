/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "base/clock.h"
#include "db/conn.h"

static struct db_step *step_add(struct db_steps *s, int kind)
{
        assert(s->n < DB_STEPS_MAX);
        s->at[s->n].kind = (unsigned)kind;
        return &s->at[s->n++];
}

void db_steps_sql(struct db_steps *s, struct db_conn *c, const char *text)
{
        (void)step_add(s, DB_STEP_QUERY);
        if (PQsendQueryParams(c->pg, text, 0, NULL, NULL, NULL, NULL, 0) != 1)
                s->send_failed = true;
}

void db_steps_sync(struct db_steps *s, struct db_conn *c)
{
        (void)step_add(s, DB_STEP_SYNC);
        if (PQpipelineSync(c->pg) != 1)
                s->send_failed = true;
}

static int lost(struct db_conn *c, struct mlc_err *err, const char *why)
{
        c->broken = true;
        return mlc_fail(err, MLC_E_UNAVAILABLE, "the database %s", why);
}

/* Waits until the socket can be read (or written, when `events` has POLLOUT). */
static int wait_socket(struct db_conn *c, short events, int64_t deadline_ms, struct mlc_err *err)
{
        struct pollfd p = {.fd = PQsocket(c->pg), .events = events};
        int64_t left = deadline_ms - mlc_monotonic_ms();
        int n;

        if (left <= 0)
                return lost(c, err, "did not answer in time");
        n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
        if (n < 0 && errno != EINTR)
                return lost(c, err, "connection cannot be waited for");
        return 0;
}

static int flush(struct db_conn *c, int64_t deadline_ms, struct mlc_err *err)
{
        for (;;) {
                int n = PQflush(c->pg);
                int r;

                if (n < 0)
                        return lost(c, err, "connection was lost");
                if (n == 0)
                        return 0;
                r = wait_socket(c, POLLIN | POLLOUT, deadline_ms, err);
                if (r < 0)
                        return r;
                if (PQconsumeInput(c->pg) != 1)
                        return lost(c, err, "connection was lost");
        }
}

static int next_result(struct db_conn *c, int64_t deadline_ms, PGresult **ret, struct mlc_err *err)
{
        int n_null = 0;

        for (;;) {
                PGresult *res;

                while (PQisBusy(c->pg)) {
                        int r = wait_socket(c, POLLIN, deadline_ms, err);

                        if (r < 0)
                                return r;
                        if (PQconsumeInput(c->pg) != 1)
                                return lost(c, err, "connection was lost");
                }
                res = PQgetResult(c->pg);
                if (PQstatus(c->pg) == CONNECTION_BAD) {
                        PQclear(res);
                        return lost(c, err, "connection was lost");
                }
                if (res != NULL) {
                        *ret = res;
                        return 0;
                }
                if (++n_null >
                    1) /* one ends a query's results, two mean that nothing is under way */
                        return lost(c, err, "gave fewer results than asked for");
        }
}

int db_steps_run(struct db_steps *s, struct db_conn *c, int64_t deadline_ms, struct mlc_err *err)
{
        int r;

        if (s->send_failed)
                return lost(c, err, "connection was lost");
        r = flush(c, deadline_ms, err);
        if (r < 0)
                return r;
        for (int i = 0; i < s->n; i++) {
                r = next_result(c, deadline_ms, &s->at[i].res, err);
                if (r < 0)
                        return r;
                if ((s->at[i].kind == DB_STEP_SYNC) !=
                    (PQresultStatus(s->at[i].res) == PGRES_PIPELINE_SYNC))
                        return lost(c, err, "answered out of step");
        }
        return 0;
}

void db_steps_done(struct db_steps *s)
{
        for (int i = 0; i < s->n; i++) {
                PQclear(s->at[i].res);
                s->at[i].res = NULL;
        }
}

const PGresult *db_steps_error(const struct db_steps *s)
{
        for (int i = 0; i < s->n; i++) {
                ExecStatusType st = PQresultStatus(s->at[i].res);

                if (st == PGRES_FATAL_ERROR || st == PGRES_BAD_RESPONSE)
                        return s->at[i].res;
        }
        return NULL;
}
