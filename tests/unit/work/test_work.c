/* SPDX-License-Identifier: Apache-2.0 */
/* Leader and tasks of two servers on one real database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "db/cluster.h"
#include "db/db.h"
#include "work/work.h"

static const struct db_stmt NOTIFY = {"t_notify", "SELECT pg_notify('mlctl', $1)", 1};
static const struct db_stmt KILL_LEADER = {
        "t_kill",
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted",
        0};

static struct app one, two;
static atomic_int n_everywhere, n_leader[2], n_gained[2], n_lost[2], n_failing;

static int count_everywhere(struct mlc_ctx *ctx)
{
        (void)ctx;
        atomic_fetch_add(&n_everywhere, 1);
        return 0;
}

static int count_leader(struct mlc_ctx *ctx)
{
        atomic_fetch_add(&n_leader[ctx->app == &two], 1);
        return 0;
}

static int always_fails(struct mlc_ctx *ctx)
{
        atomic_fetch_add(&n_failing, 1);
        return ctx_fail(ctx, MLC_E_INTERNAL, "on purpose");
}

static int on_gained(struct mlc_ctx *ctx)
{
        assert_false(work_is_leader(ctx->app)); /* not before the callback is through */
        atomic_fetch_add(&n_gained[ctx->app == &two], 1);
        return 0;
}

static void on_lost(struct app *app)
{
        atomic_fetch_add(&n_lost[app == &two], 1);
}

static void start(struct app *app)
{
        struct mlc_err err = {0};

        if (db_start(app, &err) < 0)
                fail_msg("%s", err.msg);
        work_init(app);
        work_every(app,
                   &(struct work_task){"test.everywhere", 3600000, 10000, false, count_everywhere});
        work_every(app, &(struct work_task){"test.leader", 20, 10000, true, count_leader});
        work_every(app, &(struct work_task){"test.failing", 20, 10000, false, always_fails});
        work_on_leader(app, on_gained, on_lost);
        assert_int_equal(work_start(app, &err), 0);
}

static void stop(struct app *app)
{
        work_stop(app);
        db_stop(app);
}

/* Waits until *n is at least `least`. */
static void wait_for(atomic_int *n, int least)
{
        int64_t until = mlc_monotonic_ms() + 15000;

        while (atomic_load(n) < least && mlc_monotonic_ms() < until)
                mlc_sleep_ms(5);
        assert_true(atomic_load(n) >= least);
}

static void run(struct app *app, const struct db_stmt *stmt, const char *text)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct db_param p = DB_TEXT(text);

        mlc_ctx_init(&ctx, app, "test", 1 << 20, 10000);
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(db_exec(&tx, stmt, &p, stmt->n_params, NULL), 0);
        assert_int_equal(db_tx_commit(&tx), 0);
}

static void test_one_leads_and_the_other_takes_over(void **state)
{
        int before;

        (void)state;
        start(&one);
        wait_for(&n_leader[0], 3);
        assert_true(work_is_leader(&one));
        assert_int_equal(n_gained[0], 1);
        start(&two);
        wait_for(&n_everywhere, 2);
        mlc_sleep_ms(1500);
        assert_false(work_is_leader(&two));
        assert_int_equal(n_leader[1], 0);
        stop(&one);
        assert_int_equal(n_lost[0], 1);
        wait_for(&n_leader[1], 1);
        assert_true(work_is_leader(&two));
        before = atomic_load(&n_leader[0]);
        mlc_sleep_ms(100);
        assert_int_equal(atomic_load(&n_leader[0]), before); /* nothing runs after work_stop */
}

static void test_failing_task_runs_again(void **state)
{
        (void)state;
        wait_for(&n_failing, atomic_load(&n_failing) + 3);
}

static void test_wake_and_notify(void **state)
{
        int before = atomic_load(&n_everywhere);

        (void)state;
        work_wake(&two, "test.everywhere");
        wait_for(&n_everywhere, before + 1);
        mlc_sleep_ms(200);
        before = atomic_load(&n_everywhere);
        work_wake(&two, "test.unknown");
        mlc_sleep_ms(100);
        assert_int_equal(atomic_load(&n_everywhere), before);
        run(&two, &NOTIFY, "test.everywhere");
        wait_for(&n_everywhere, before + 1);
}

static void test_lock_lost_with_its_connection(void **state)
{
        int gained = atomic_load(&n_gained[1]);

        (void)state;
        run(&two, &KILL_LEADER, NULL);
        wait_for(&n_lost[1], 1);
        wait_for(&n_gained[1], gained + 1); /* nobody else is there: it leads again */
        wait_for(&n_leader[1], atomic_load(&n_leader[1]) + 1);
}

static int setup(void **state)
{
        static char dir[] = "/tmp/mlctl-work-XXXXXX";
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(mkdtemp(dir));
        one.config.data = two.config.data = dir;
        one.config.db_connections = two.config.db_connections = 4;
        if (db_cluster_start(&one, &err) < 0)
                fail_msg("%s", err.msg);
        two.cluster = one.cluster;
        return 0;
}

static int teardown(void **state)
{
        char command[256];

        (void)state;
        stop(&two);
        db_cluster_stop(&one);
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", one.config.data);
        return system(command);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_leads_and_the_other_takes_over),
                cmocka_unit_test(test_failing_task_runs_again),
                cmocka_unit_test(test_wake_and_notify),
                cmocka_unit_test(test_lock_lost_with_its_connection),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
