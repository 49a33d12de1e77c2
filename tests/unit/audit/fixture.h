/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An embedded PostgreSQL and a log in a temporary directory, with a governed kind `thing`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "db/cluster.h"
#include "tlog/verify.h"
#include "work/work.h"

static const struct db_stmt THING_TABLE = {
        "t_table", "create table thing (id text primary key, state jsonb)", 0};
static const struct db_stmt THING_SET = {
        "t_set",
        "insert into thing (id, state) values ($1, $2::jsonb) on conflict (id) do update set state "
        "= excluded.state",
        2};
static const struct db_stmt THING_LIST = {"t_list", "select id, state::text from thing", 0};
static const struct audit_source THING_SOURCE = {"thing", &THING_LIST};

static struct app app;

static void start(void)
{
        struct mlc_err err = {0};

        app.hooks.n_ready = 0;
        if (audit_open(&app, &err) < 0 || audit_start(&app, &err) < 0)
                fail_msg("%s", err.msg);
        audit_add_sources(&app, &THING_SOURCE, 1);
}

static void stop(void)
{
        audit_stop(&app);
        audit_close(&app);
}

static int run_sql(const struct db_stmt *stmt)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        mlc_ctx_init(&ctx, &app, "test", 1 << 20, 30000);
        r = db_tx_begin(&ctx, &tx);
        if (r == 0)
                r = db_exec(&tx, stmt, NULL, 0, NULL);
        return r == 0 ? db_tx_commit(&tx) : r;
}

static int setup(void **state)
{
        static char dir[] = "/tmp/mlctl-test-XXXXXX";
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(mkdtemp(dir));
        app.config.data = dir;
        app.config.db_connections = 8;
        assert_int_equal(git_setup(&err), 0);
        if (db_cluster_start(&app, &err) < 0 || db_start(&app, &err) < 0 ||
            db_migrate(&app, &err) < 0 || run_sql(&THING_TABLE) < 0)
                fail_msg("%s", err.msg);
        work_init(&app);
        if (work_start(&app, &err) < 0)
                fail_msg("%s", err.msg);
        return 0;
}

static int teardown(void **state)
{
        char command[256];

        (void)state;
        stop();
        work_stop(&app);
        db_stop(&app);
        db_cluster_stop(&app);
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", app.config.data);
        return system(command);
}

/* Waits at most 10 s. */
static void wait_published(int64_t size)
{
        for (int i = 0; i < 1000 && audit_published_size(&app) < size; i++)
                mlc_sleep_ms(10);
        assert_true(audit_published_size(&app) >= size);
}

static int append(const char *id, int before, int after)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *b = before == 0 ? NULL : json_pack("{si}", "v", before);
        _cleanup_(json_decref_p) json_t *a = after == 0 ? NULL : json_pack("{si}", "v", after);
        const struct audit_entry e = {
                .action = "thing.set", .kind = "thing", .id = id, .before = b, .after = a};
        char hash[65], text[32];
        int r;

        (void)snprintf(text, sizeof(text), "{\"v\": %d}", after);
        mlc_ctx_init(&ctx, &app, "test", 1 << 20, 30000);
        r = db_tx_begin(&ctx, &tx);
        if (r == 0)
                r = audit_append(&ctx, &tx, &e, hash);
        if (r == 0)
                r = db_run(&tx, THING_SET, NULL, DB_TEXT(id), DB_TEXT(text));
        if (r == 0)
                r = db_tx_commit(&tx);
        if (r == 0)
                assert_int_equal(strlen(hash), 64);
        return r;
}
