/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <inttypes.h>
#include <sys/random.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "cache/cache.h"
#include "db/conn.h"

#define PARAMS_MAX 64
#define GRACE_MS 500 /* the server's own timeout comes first and has the better message */
#define COMMIT_MS_MIN                                                                              \
        10000 /* a COMMIT that was sent is waited for, else nobody knows how it ended */
#define ROLLBACK_MS 2000
#define ATTEMPTS_MAX 6

/* Session timeouts come in steps, so that they are set anew rarely and without a round trip of
 * their own. */
static int64_t timeout_step(int64_t left_ms)
{
        static const int64_t steps[] = {1000, 2000, 5000, 10000, 30000, 60000, 300000, 1800000};

        for (size_t i = 0; i < ARRAY_LEN(steps); i++)
                if (left_ms <= steps[i])
                        return steps[i];
        return 12 * 3600 * 1000;
}

static int begin(struct mlc_ctx *ctx, struct db_tx *tx, bool read_only)
{
        struct db_conn *c;
        int r;

        assert(tx->conn == NULL);
        r = db_checkout(ctx, false, &c);
        if (r < 0)
                return r;
        c->read_only = read_only;
        *tx = (struct db_tx){.conn = c, .ctx = ctx};
        return 0;
}

int db_tx_begin(struct mlc_ctx *ctx, struct db_tx *tx)
{
        return begin(ctx, tx, false);
}

int db_tx_begin_read(struct mlc_ctx *ctx, struct db_tx *tx)
{
        return begin(ctx, tx, true);
}

static void add_timeouts(struct db_steps *s, struct db_conn *c, int64_t ms)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "SET statement_timeout = %" PRId64, ms);
        db_steps_sql(s, c, text);
        (void)snprintf(text, sizeof(text), "SET lock_timeout = %" PRId64, ms / 4 * 3);
        db_steps_sql(s, c, text);
        db_steps_sync(s, c); /* so that a later ROLLBACK does not take it back */
}

/* True when the server has this very statement under its name already. */
static bool is_prepared(struct db_conn *c, const struct db_stmt *stmt)
{
        const char *text = mlc_map_get(&c->prepared, stmt->name);

        assert(text == NULL || mlc_streq(text, stmt->text)); /* two statements of one name */
        return text != NULL;
}

static void add_prepare(struct db_steps *s, struct db_conn *c, const struct db_stmt *stmt)
{
        assert(s->n < DB_STEPS_MAX);
        s->at[s->n++].kind = DB_STEP_PREPARE;
        if (PQsendPrepare(c->pg, stmt->name, stmt->text, 0, NULL) != 1)
                s->send_failed = true;
}

static void add_execute(struct db_steps *s, struct db_conn *c, const struct db_stmt *stmt,
                        const struct db_param *params)
{
        const char *values[PARAMS_MAX];
        int lengths[PARAMS_MAX], formats[PARAMS_MAX];
        char numbers[PARAMS_MAX][24];

        for (int i = 0; i < stmt->n_params; i++) {
                const struct db_param *p = &params[i];

                values[i] = NULL;
                lengths[i] = 0;
                formats[i] = p->type == DB_T_BYTES;
                if (p->type == DB_T_TEXT) {
                        values[i] = p->text;
                } else if (p->type == DB_T_BOOL) {
                        values[i] = p->num != 0 ? "t" : "f";
                } else if (p->type == DB_T_INT) {
                        (void)snprintf(numbers[i], sizeof(numbers[i]), "%" PRId64, p->num);
                        values[i] = numbers[i];
                } else if (p->type == DB_T_BYTES) {
                        assert(p->len <= INT32_MAX && (p->bytes != NULL || p->len == 0));
                        values[i] = p->bytes == NULL ? "" : p->bytes;
                        lengths[i] = (int)p->len;
                }
        }
        assert(s->n < DB_STEPS_MAX);
        s->at[s->n++].kind = DB_STEP_QUERY;
        if (PQsendQueryPrepared(c->pg, stmt->name, stmt->n_params, values, lengths, formats, 0) !=
            1)
                s->send_failed = true;
}

/* What a lost or confused connection shows in the results. */
static bool is_fatal(const PGresult *e)
{
        const char *state = PQresultErrorField(e, PG_DIAG_SQLSTATE);

        return state == NULL || mlc_starts_with(state, "57P") || mlc_starts_with(state, "08") ||
               mlc_streq(state, "26000") /* the statement is not there */ ||
               mlc_streq(state, "0A000") /* its plan is of an older schema */;
}

/* BEGIN, Parse (the first time) and Execute in one round trip. The caller owns *s. */
static int execute(struct db_tx *tx, const struct db_stmt *stmt, const struct db_param *params,
                   struct db_steps *s, int *ret_result)
{
        struct db_conn *c = tx->conn;
        int64_t left = tx->ctx->deadline_ms - mlc_monotonic_ms();
        int begin_at = -1, prepare_at = -1, result_at;
        const PGresult *e;
        int r;

        if (left <= 0)
                return ctx_fail(tx->ctx, MLC_E_UNAVAILABLE, "no time is left to ask the database");
        if (timeout_step(left) != c->timeout_ms)
                add_timeouts(s, c, timeout_step(left));
        if (!c->read_only && !c->begun) {
                begin_at = s->n;
                db_steps_sql(s, c, "BEGIN READ WRITE");
        }
        if (!is_prepared(c, stmt)) {
                prepare_at = s->n;
                add_prepare(s, c, stmt);
        }
        result_at = s->n;
        add_execute(s, c, stmt, params);
        db_steps_sync(s, c);
        r = db_steps_run(s, c, tx->ctx->deadline_ms + GRACE_MS, &tx->ctx->err);
        if (r < 0)
                return r;
        c->timeout_ms = timeout_step(left);
        if (begin_at >= 0 && PQresultStatus(s->at[begin_at].res) == PGRES_COMMAND_OK)
                c->begun = true;
        if (prepare_at >= 0 && PQresultStatus(s->at[prepare_at].res) == PGRES_COMMAND_OK)
                (void)mlc_map_set(&c->prepared, stmt->name,
                                  __extension__(void *)(uintptr_t) stmt->text);
        e = db_steps_error(s);
        if (e != NULL) {
                c->broken = c->broken || is_fatal(e);
                return db_error(&tx->ctx->err, e, stmt->name);
        }
        *ret_result = result_at;
        return 0;
}

/*
 * A connection that was lost before anything happened on it (PostgreSQL was restarted while it lay
 * idle) is replaced by a new one, once.
 */
static int replace(struct db_tx *tx)
{
        bool read_only = tx->conn->read_only;
        struct mlc_ctx *ctx = tx->ctx;
        int r;

        mlc_err_clear(&ctx->err);
        db_release(TAKE_PTR(tx->conn));
        r = db_checkout(ctx, true, &tx->conn);
        if (r < 0)
                return r;
        tx->conn->read_only = read_only;
        return 0;
}

int db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_param *params,
            int n_params, struct db_rows *ret)
{
        _cleanup_(db_steps_done) struct db_steps s = {0};
        bool had_error = tx->ctx->err.code != 0;
        int at = 0;
        int r;

        assert(!tx->failed);
        assert(tx->conn != NULL && n_params == stmt->n_params && n_params <= PARAMS_MAX);
        r = execute(tx, stmt, params, &s, &at);
        if (r < 0 && tx->conn->broken && !tx->conn->used && !had_error &&
            mlc_monotonic_ms() < tx->ctx->deadline_ms) {
                db_steps_done(&s);
                s = (struct db_steps){0};
                r = replace(tx);
                if (r == 0)
                        r = execute(tx, stmt, params, &s, &at);
        }
        if (r < 0) {
                tx->failed = true;
                return r;
        }
        tx->conn->used = true;
        if (ret != NULL) {
                ret->n = PQntuples(s.at[at].res);
                ret->res = TAKE_PTR(s.at[at].res);
        }
        return 0;
}

int db_tx_commit(struct db_tx *tx)
{
        _cleanup_(db_steps_done) struct db_steps s = {0};
        struct db_conn *c = tx->conn;
        int64_t until = mlc_monotonic_ms() + COMMIT_MS_MIN;
        const PGresult *e;
        int r;

        assert(c != NULL && !tx->failed);
        if (!c->begun) { /* reads only, or nothing at all */
                db_tx_done(tx);
                return 0;
        }
        db_steps_sql(&s, c, "COMMIT");
        db_steps_sync(&s, c);
        r = db_steps_run(&s, c, until > tx->ctx->deadline_ms ? until : tx->ctx->deadline_ms,
                         &tx->ctx->err);
        if (r < 0) {
                (void)mlc_wrap(&tx->ctx->err, "whether the change was saved is not known");
        } else if ((e = db_steps_error(&s)) != NULL) {
                c->broken = c->broken || is_fatal(e);
                r = db_error(&tx->ctx->err, e, "commit");
        } else if (!mlc_streq(PQcmdStatus(s.at[0].res), "COMMIT")) {
                r = ctx_fail(tx->ctx, MLC_E_INTERNAL, "commit of a failed transaction");
        }
        c->begun = false;
        if (tx->changes && tx->ctx->app->changes != NULL) /* also when nobody knows how it ended */
                epoch_raise(tx->ctx->app->changes);
        db_tx_done(tx);
        return r;
}

void db_tx_done(struct db_tx *tx)
{
        struct db_conn *c;

        if (tx == NULL || tx->conn == NULL)
                return;
        c = TAKE_PTR(tx->conn);
        if (c->begun && !c->broken) {
                _cleanup_(db_steps_done) struct db_steps s = {0};
                struct mlc_err ignored = {0};

                db_steps_sql(&s, c, "ROLLBACK");
                db_steps_sync(&s, c);
                if (db_steps_run(&s, c, mlc_monotonic_ms() + ROLLBACK_MS, &ignored) < 0)
                        c->broken = true;
        }
        db_release(c);
}

static void pause_before_retry(int attempt)
{
        unsigned char dice = 0;

        (void)!getrandom(&dice, 1, 0);
        mlc_sleep_ms((1 << attempt) + dice % (8 << attempt));
}

int db_tx_retry(struct mlc_ctx *ctx, db_tx_fn *fn, void *userdata)
{
        for (int attempt = 0;; attempt++) {
                _cleanup_(db_tx_done) struct db_tx tx = {0};
                int r;

                r = db_tx_begin(ctx, &tx);
                if (r < 0)
                        return r;
                r = fn(ctx, &tx, userdata);
                if (r == 0)
                        r = db_tx_commit(&tx);
                if (r == 0)
                        return 0;
                db_tx_done(&tx);
                if (attempt + 1 >= ATTEMPTS_MAX || (!mlc_streq(ctx->err.sqlstate, "40001") &&
                                                    !mlc_streq(ctx->err.sqlstate, "40P01")))
                        return r;
                mlc_err_clear(&ctx->err);
                pause_before_retry(attempt);
        }
}
