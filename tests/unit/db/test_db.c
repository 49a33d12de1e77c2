/* SPDX-License-Identifier: Apache-2.0 */
/* The database layer against a real PostgreSQL, the embedded one, in a temporary directory. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "db/cluster.h"
#include "db/cluster_priv.h"
#include "db/db.h"

static const struct db_stmt CREATE = {"t_create",
                                      "CREATE TABLE t (id bigint PRIMARY KEY, s text, b bytea, ok "
                                      "boolean, n bigint CONSTRAINT n_small CHECK (n < 100))",
                                      0};
static const struct db_stmt INSERT = {
        "t_insert", "INSERT INTO t (id, s, b, ok, n) VALUES ($1, $2, $3, $4, $5) RETURNING id", 5};
static const struct db_stmt SELECT = {"t_select", "SELECT id, s, b, ok, n FROM t WHERE id = $1", 1};
static const struct db_stmt COUNT = {"t_count", "SELECT count(*) FROM t", 0};
static const struct db_stmt UPDATE = {"t_update", "UPDATE t SET n = n + 1 WHERE id = $1", 1};
static const struct db_stmt SLEEP = {"t_sleep", "SELECT pg_sleep($1::float8)", 1};
static const struct db_stmt RAISE = {"t_raise", "SELECT 1 / $1::int", 1};
static const struct db_stmt PID = {"t_pid", "SELECT pg_backend_pid()", 0};
static const struct db_stmt KILL = {"t_kill",
                                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                                    "pid <> pg_backend_pid() AND datname = 'mlctl'",
                                    0};
static const struct db_stmt NOTIFY = {"t_notify", "SELECT pg_notify('mlctl', $1)", 1};
static const struct db_stmt SUPER = {
        "t_super", "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user",
        0};
static const struct db_stmt BIG = {"t_big", "SELECT $1::bytea", 1};

static struct app app;

static void begin_ctx(struct mlc_ctx *ctx, int64_t timeout_ms)
{
        mlc_ctx_init(ctx, &app, "test", 64 << 20, timeout_ms);
}

static int setup(void **state)
{
        static char dir[] = "/tmp/mlctl-test-XXXXXX";
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(mkdtemp(dir));
        app.config.data = dir;
        app.config.db_connections = 4;
        if (db_cluster_start(&app, &err) < 0 || db_start(&app, &err) < 0)
                fail_msg("%s", err.msg);
        return 0;
}

static int teardown(void **state)
{
        char command[256];

        (void)state;
        db_stop(&app);
        db_cluster_stop(&app);
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", app.config.data);
        return system(command);
}

static void test_roundtrip(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0}, read = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        static const unsigned char bytes[] = {0, 1, 0xff, '\\', 'x', 0};
        const void *got;
        size_t len;

        (void)state;
        begin_ctx(&ctx, 30000);
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(db_run0(&tx, CREATE, NULL), 0);
        assert_int_equal(db_run(&tx, INSERT, NULL, DB_INT(-7), DB_TEXT("ü' \\"),
                                DB_BYTES(bytes, sizeof(bytes)), DB_BOOL(true), DB_NULL),
                         0);
        assert_int_equal(db_run(&tx, INSERT, NULL, DB_INT(INT64_MAX), DB_TEXT(NULL),
                                DB_BYTES(NULL, 0), DB_BOOL(false), DB_INT(5)),
                         0);
        assert_int_equal(db_tx_commit(&tx), 0);
        assert_null(tx.conn);

        assert_int_equal(db_tx_begin_read(&ctx, &read), 0);
        assert_int_equal(db_run(&read, SELECT, &rows, DB_INT(-7)), 0);
        assert_int_equal(rows.n, 1);
        assert_int_equal(db_int(&rows, 0, 0), -7);
        assert_string_equal(db_text(&rows, 0, 1), "ü' \\");
        assert_int_equal(db_bytes(&ctx, &rows, 0, 2, &got, &len), 0);
        assert_int_equal(len, sizeof(bytes));
        assert_memory_equal(got, bytes, len);
        assert_true(db_bool(&rows, 0, 3));
        assert_true(db_is_null(&rows, 0, 4));
        assert_null(db_text_dup(&ctx, &rows, 0, 4));
        db_rows_done(&rows);
        assert_int_equal(db_run(&read, SELECT, &rows, DB_INT(INT64_MAX)), 0);
        assert_true(db_is_null(&rows, 0, 1));
        assert_false(db_is_null(&rows, 0, 2));
        assert_int_equal(db_bytes(&ctx, &rows, 0, 2, &got, &len), 0);
        assert_int_equal(len, 0);
        assert_non_null(got);
}

static void test_role_is_no_superuser(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};

        (void)state;
        begin_ctx(&ctx, 30000);
        assert_int_equal(db_tx_begin_read(&ctx, &tx), 0);
        assert_int_equal(db_run0(&tx, SUPER, &rows), 0);
        assert_false(db_bool(&rows, 0, 0));
}

static int64_t count(void)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};

        begin_ctx(&ctx, 30000);
        assert_int_equal(db_tx_begin_read(&ctx, &tx), 0);
        if (db_run0(&tx, COUNT, &rows) < 0)
                fail_msg("%s", ctx.err.msg);
        return db_int(&rows, 0, 0);
}

static int insert(struct mlc_ctx *ctx, int64_t id, int64_t n, bool commit)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = db_run(&tx, INSERT, NULL, DB_INT(id), DB_TEXT("x"), DB_NULL, DB_NULL, DB_INT(n));
        if (r < 0) {
                assert_true(tx.failed);
                return r;
        }
        return commit ? db_tx_commit(&tx) : 0;
}

static void test_errors(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        int64_t before = count();

        (void)state;
        begin_ctx(&ctx, 30000);
        assert_int_equal(insert(&ctx, 100, 1, false), 0); /* rolled back */
        assert_int_equal(count(), before);
        assert_int_equal(insert(&ctx, 100, 1, true), 0);
        assert_int_equal(count(), before + 1);
        assert_int_equal(insert(&ctx, 100, 1, true), MLC_E_CONFLICT);
        assert_string_equal(ctx.err.sqlstate, "23505");
        assert_string_equal(ctx.err.field, "t_pkey");
        mlc_err_clear(&ctx.err);
        assert_int_equal(insert(&ctx, 101, 1000, true), MLC_E_CONFLICT);
        assert_string_equal(ctx.err.sqlstate, "23514");
        assert_string_equal(ctx.err.field, "n_small");
        mlc_err_clear(&ctx.err);
        assert_int_equal(count(), before + 1);
        {
                _cleanup_(db_tx_done) struct db_tx tx = {0};

                assert_int_equal(db_tx_begin(&ctx, &tx), 0);
                assert_int_equal(db_run(&tx, RAISE, NULL, DB_INT(0)), MLC_E_INTERNAL);
                assert_string_equal(ctx.err.sqlstate, "22012");
        }
        mlc_err_clear(&ctx.err);
        { /* a read cannot write, though there is no BEGIN */
                _cleanup_(db_tx_done) struct db_tx tx = {0};

                assert_int_equal(db_tx_begin_read(&ctx, &tx), 0);
                assert_int_equal(db_run(&tx, UPDATE, NULL, DB_INT(100)), MLC_E_INTERNAL);
                assert_string_equal(ctx.err.sqlstate, "25006");
        }
}

static void test_deadline(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int64_t start = mlc_monotonic_ms();

        (void)state;
        begin_ctx(&ctx, 700);
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(db_run(&tx, SLEEP, NULL, DB_TEXT("20")), MLC_E_UNAVAILABLE);
        db_tx_done(&tx);
        assert_true(mlc_monotonic_ms() - start < 2500);
        mlc_err_clear(&ctx.err);
        assert_int_equal(db_tx_begin(&ctx, &tx), MLC_E_UNAVAILABLE); /* no time is left */
        (void)count();
}

static void test_pool_is_bounded(void **state)
{
        struct mlc_ctx ctx[5];
        struct db_tx tx[5] = {{0}};
        int64_t start;

        (void)state;
        for (int i = 0; i < 4; i++) {
                begin_ctx(&ctx[i], 30000);
                assert_int_equal(db_tx_begin(&ctx[i], &tx[i]), 0);
                assert_int_equal(db_run0(&tx[i], PID, NULL), 0);
        }
        start = mlc_monotonic_ms();
        begin_ctx(&ctx[4], 300);
        assert_int_equal(db_tx_begin(&ctx[4], &tx[4]), MLC_E_UNAVAILABLE);
        assert_in_range(mlc_monotonic_ms() - start, 250, 1500);
        for (int i = 0; i < 5; i++) {
                db_tx_done(&tx[i]);
                mlc_ctx_done(&ctx[i]);
        }
}

static int64_t backend_pid(struct mlc_ctx *ctx)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};

        assert_int_equal(db_tx_begin_read(ctx, &tx), 0);
        assert_int_equal(db_run0(&tx, PID, &rows), 0);
        return db_int(&rows, 0, 0);
}

/* Idle connections that the server closed are replaced without the caller seeing it; open
 * transactions fail. */
static void test_connections_lost(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx, other;
        _cleanup_(db_tx_done) struct db_tx tx = {0}, open = {0};
        int64_t pid;

        (void)state;
        begin_ctx(&ctx, 30000);
        begin_ctx(&other, 30000);
        pid = backend_pid(&ctx);
        assert_int_equal(db_tx_begin(&other, &open), 0);
        assert_int_equal(db_run0(&open, PID, NULL), 0);
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(db_run0(&tx, KILL, NULL), 0);
        db_tx_done(&tx);
        assert_int_equal(db_run0(&open, PID, NULL), MLC_E_UNAVAILABLE);
        db_tx_done(&open);
        for (int i = 0; i < 8; i++)
                (void)count();
        assert_int_equal(kill((pid_t)backend_pid(&ctx), 0), 0);
        (void)pid;
}

static void test_large_value(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(free_p) unsigned char *big = malloc(8 << 20);
        const void *got;
        size_t len;

        (void)state;
        for (size_t i = 0; i < 8 << 20; i++)
                big[i] = (unsigned char)(i * 31 + i / 251);
        begin_ctx(&ctx, 30000);
        assert_int_equal(db_tx_begin_read(&ctx, &tx), 0);
        assert_int_equal(db_run(&tx, BIG, &rows, DB_BYTES(big, 8 << 20)), 0);
        assert_int_equal(db_bytes(&ctx, &rows, 0, 0, &got, &len), 0);
        assert_int_equal(len, 8 << 20);
        assert_memory_equal(got, big, len);
}

static const struct db_stmt LOCK_ROW = {"t_lock", "UPDATE t SET n = n WHERE id = $1", 1};

struct pair {
        int64_t first, second;
        int r, attempts;
        pthread_barrier_t *both;
};

static int two_rows(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct pair *p = userdata;
        int r;

        (void)ctx;
        r = db_run(tx, LOCK_ROW, NULL, DB_INT(p->first));
        if (r < 0)
                return r;
        if (p->attempts++ == 0) /* both hold one row and want the other's */
                (void)pthread_barrier_wait(p->both);
        return db_run(tx, UPDATE, NULL, DB_INT(p->second));
}

static void *run_pair(void *arg)
{
        struct pair *p = arg;
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;

        begin_ctx(&ctx, 30000);
        p->r = db_tx_retry(&ctx, two_rows, p);
        return NULL;
}

static void test_deadlock_is_retried(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        pthread_barrier_t both;
        struct pair a = {.first = 200, .second = 201, .both = &both},
                    b = {.first = 201, .second = 200, .both = &both};
        pthread_t thread;

        (void)state;
        begin_ctx(&ctx, 30000);
        assert_int_equal(insert(&ctx, 200, 0, true), 0);
        assert_int_equal(insert(&ctx, 201, 0, true), 0);
        (void)pthread_barrier_init(&both, NULL, 2);
        assert_int_equal(pthread_create(&thread, NULL, run_pair, &a), 0);
        (void)run_pair(&b);
        (void)pthread_join(thread, NULL);
        (void)pthread_barrier_destroy(&both);
        assert_int_equal(a.r, 0);
        assert_int_equal(b.r, 0);
        assert_int_equal(a.attempts + b.attempts,
                         3); /* one of the two was chosen as victim, once */
}

static void test_listen(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_listen_close) struct db_listener *l = NULL;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct mlc_err err = {0};
        char payload[32];

        (void)state;
        begin_ctx(&ctx, 30000);
        assert_int_equal(db_listen_open(&app, "mlctl", &l, &err), 0);
        assert_int_equal(db_listen_wait(l, -1, 10, payload, sizeof(payload), &err), 0);
        assert_string_equal(payload, "");
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(db_run(&tx, NOTIFY, NULL, DB_TEXT("audit.sequence")), 0);
        assert_int_equal(db_tx_commit(&tx), 0);
        assert_int_equal(db_listen_wait(l, -1, 5000, payload, sizeof(payload), &err), 0);
        assert_string_equal(payload, "audit.sequence");
}

static void test_lock(void **state)
{
        _cleanup_(db_lock_release) struct db_lock *a = NULL, *b = NULL;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(db_lock_try(&app, 42, &a, &err), 0);
        assert_non_null(a);
        assert_int_equal(db_lock_try(&app, 42, &b, &err), 0);
        assert_null(b);
        assert_int_equal(db_lock_check(a, &err), 0);
        db_lock_release(&a);
        for (int i = 0; i < 100 && b == NULL; i++) {
                assert_int_equal(db_lock_try(&app, 42, &b, &err), 0);
                mlc_sleep_ms(10);
        }
        assert_non_null(b);
}

static void test_migrate(void **state)
{
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(db_migrate_check(&app, &err), MLC_E_CONFLICT);
        mlc_err_clear(&err);
        if (db_migrate(&app, &err) < 0)
                fail_msg("%s", err.msg);
        assert_int_equal(db_migrate(&app, &err), 0); /* nothing to do */
        assert_int_equal(db_migrate_check(&app, &err), 0);
}

/* The postmaster is killed: it is started again, and statements go through. Last, as it takes the
 * lock's time. */
static void test_postmaster_killed(void **state)
{
        pid_t old = app.cluster->pid;
        int64_t until = mlc_monotonic_ms() + 30000;
        int r = -1;

        (void)state;
        assert_int_equal(kill(old, SIGKILL), 0);
        while ((r < 0 || app.cluster->pid == old) && mlc_monotonic_ms() < until) {
                _cleanup_(mlc_ctx_done) struct mlc_ctx once;
                _cleanup_(db_tx_done) struct db_tx tx = {0};
                struct mlc_err err = {0};

                assert_int_equal(db_cluster_tend(&app, &err), 0);
                begin_ctx(&once, 1000);
                r = db_tx_begin(&once, &tx);
                if (r == 0)
                        r = db_run0(&tx, COUNT, NULL);
                mlc_sleep_ms(20);
        }
        assert_int_equal(r, 0);
        assert_int_not_equal(app.cluster->pid, old);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_roundtrip),       cmocka_unit_test(test_role_is_no_superuser),
                cmocka_unit_test(test_errors),          cmocka_unit_test(test_deadline),
                cmocka_unit_test(test_pool_is_bounded), cmocka_unit_test(test_connections_lost),
                cmocka_unit_test(test_large_value),     cmocka_unit_test(test_deadlock_is_retried),
                cmocka_unit_test(test_listen),          cmocka_unit_test(test_lock),
                cmocka_unit_test(test_migrate),         cmocka_unit_test(test_postmaster_killed),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
