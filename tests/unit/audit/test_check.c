/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` against a log that is tampered with, one thing after the other. */
#include <sys/stat.h>

#include "git/git.h"
#include "unit/audit/fixture.h"

#define THINGS 300

static json_t *check(void)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        json_t *verdict = NULL;

        mlc_ctx_init(&ctx, &app, "test", 64 << 20, 120000);
        if (audit_check(&ctx, NULL, 0, &verdict) < 0)
                fail_msg("%s", ctx.err.msg);
        return verdict;
}

static void expect_ok(void)
{
        _cleanup_(json_decref_p) json_t *v = check();

        if (!json_is_true(json_object_get(v, "ok")))
                fail_msg("%s", json_string_value(json_object_get(v, "what")));
}

/* index < 0: any */
static void expect_bad(int64_t index, const char *what)
{
        _cleanup_(json_decref_p) json_t *v = check();
        const char *said = json_string_value(json_object_get(v, "what"));

        if (!json_is_false(json_object_get(v, "ok")))
                fail_msg("not found: %s", what);
        if (strstr(said, what) == NULL)
                fail_msg("'%s' instead of '%s'", said, what);
        if (index >= 0)
                assert_int_equal(json_integer_value(json_object_get(v, "index")), index);
}

static void a_good_log_passes(void **state)
{
        char id[16];

        (void)state;
        start();
        for (int i = 0; i < THINGS; i++) {
                (void)snprintf(id, sizeof(id), "t%d", i);
                assert_int_equal(append(id, 0, 1), 0);
                if (i % 100 == 50)
                        expect_ok(); /* while the leader works */
        }
        wait_published(THINGS + 1);
        mlc_sleep_ms(1200);
        expect_ok();
        audit_stop(&app);
        expect_ok();
}

static int64_t log_size(void)
{
        _cleanup_(json_decref_p) json_t *v = check();

        return json_integer_value(json_object_get(v, "entries"));
}

static void path_of(const char *name, char ret[512])
{
        (void)snprintf(ret, 512, "%s/%s", app.config.data, name);
}

static void flip(const char *path, size_t at)
{
        FILE *f = fopen(path, "r+b");
        int c;

        assert_non_null(f);
        (void)fseek(f, (long)at, SEEK_SET);
        c = fgetc(f);
        (void)fseek(f, (long)at, SEEK_SET);
        (void)fputc(c ^ 1, f);
        (void)fclose(f);
}

static void flipped_files_are_named(void **state)
{
        static const struct {
                const char *name;
                size_t at;
                int64_t index;
                const char *what;
        } cases[] = {
                {"log/tile/0/000", 33, 1, "entry 1 "},
                {"log/tile/1/000.p/1", 0, 0, "tile/1/000"},
                {"log/tile/entries/000", 700, -1, "entry"},
                {"log/checkpoint", 3, -1, "checkpoint"},
                {"log/state", 30, -1, "signing state"},
        };
        char path[512];

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                path_of(cases[i].name, path);
                flip(path, cases[i].at);
                expect_bad(cases[i].index, cases[i].what);
                flip(path, cases[i].at);
        }
        expect_ok();
}

static void files_that_nothing_accounts_for_are_named(void **state)
{
        static const char *const names[] = {"log/extra",           "log/tile/0/001.p/299",
                                            "log/tile/0/x001/000", "log/tile/2/000.p/1",
                                            "log/archive/1/state", "log/tile/entries/005"};
        char path[512], *slash;
        struct mlc_err err = {0};

        (void)state;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                path_of(names[i], path);
                slash = strrchr(path, '/');
                *slash = '\0';
                assert_int_equal(mlc_mkdirs(path, 0700, &err), 0);
                *slash = '/';
                assert_int_equal(mlc_write_file_atomic(path, "x", 1, 0600, &err), 0);
                expect_bad(-1, names[i] + 4);
                assert_int_equal(unlink(path), 0);
        }
        path_of("log/lock", path);
        assert_int_equal(mlc_write_file_atomic(path, "x", 1, 0600, &err), 0);
        expect_bad(-1, "lock");
        assert_int_equal(truncate(path, 0), 0);
        expect_ok();
}

static int run_text(const char *text)
{
        static char names[200][8];
        static int n;
        struct db_stmt stmt = {.name = names[n], .text = text};

        assert_true(n < 200);
        (void)snprintf(names[n], sizeof(names[n]), "x%d", n);
        n++;
        return run_sql(&stmt);
}

/* An attacker with the database: triggers off, then the statement, then back. */
static void tamper(const char *text, const char *undo, int64_t index, const char *what)
{
        static const char *const open[] = {"alter table audit_log disable trigger all",
                                           "alter table audit_checkpoint disable trigger all",
                                           "alter table audit_anchor disable trigger all",
                                           "alter table audit_outbox disable trigger all",
                                           "grant all on audit_log, audit_checkpoint, "
                                           "audit_anchor, audit_outbox to current_user"};

        for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
                assert_int_equal(run_text(open[i]), 0);
        if (run_text(text) < 0)
                fail_msg("%s", text);
        expect_bad(index, what);
        if (run_text(undo) < 0)
                fail_msg("%s", undo);
        expect_ok();
}

static void tampered_rows_are_named(void **state)
{
        int64_t size = log_size();

        (void)state;
        tamper("update audit_log set leaf = overlay(leaf placing '\\x7a' from 40) where idx = 20",
               "update audit_log l set leaf = s.leaf from saved s where l.idx = s.idx", 20,
               "row of entry 20");
        tamper("update audit_log set leaf_hash = sha256('x') where idx = 21",
               "update audit_log l set leaf_hash = s.leaf_hash from saved s where l.idx = s.idx",
               21, "row of entry 21");
        tamper("delete from audit_log where idx = 150",
               "insert into audit_log select * from saved where idx = 150", -1, "rows of the log");
        tamper("update thing set state = '{\"v\": 2}' where id = 't7'",
               "update thing set state = '{\"v\": 1}' where id = 't7'", -1, "thing 't7'");
        tamper("insert into thing values ('evil', '{}')", "delete from thing where id = 'evil'",
               size, "thing 'evil'");
        tamper("delete from thing where id = 't8'", "insert into thing values ('t8', '{\"v\": 1}')",
               -1, "thing 't8'");
        tamper("update audit_search set actor = 'u1' where idx = 3",
               "update audit_search set actor = 'system' where idx = 3", 3, "entry 3");
        tamper("update audit_origin set state = jsonb_set(state, '{predecessor}', '\"x\"')",
               "update audit_origin set state = jsonb_set(state, '{predecessor}', 'null')", 0,
               "log '");
        tamper("update audit_checkpoint set root = sha256('x') where size = (select max(size) from "
               "audit_checkpoint)",
               "update audit_checkpoint c set root = s.root from saved_checkpoint s where s.size = "
               "c.size",
               -1, "checkpoint");
        tamper("update audit_anchor set bytes = bytes || '\\x00'",
               "update audit_anchor set bytes = substr(bytes, 1, length(bytes) - 1)", -1, "anchor");
        tamper("insert into audit_outbox (leaf, leaf_hash, actor, action, kind, object_id, time) "
               "values ('{}', sha256('x'), 'a', 'b.c', 'd', 'e', now())",
               "delete from audit_outbox", size, "waits");
}

static void triggers_are_a_seat_belt(void **state)
{
        static const struct db_stmt update = {"t_u", "update audit_log set seq_at = now()", 0},
                                    delete = {"t_d", "delete from audit_log", 0},
                                    save = {"t_s", "create table saved as select * from audit_log",
                                            0},
                                    save2 = {"t_s2",
                                             "create table saved_checkpoint as select * from "
                                             "audit_checkpoint",
                                             0};

        (void)state;
        assert_true(run_sql(&update) < 0);
        assert_true(run_sql(&delete) < 0);
        assert_int_equal(run_sql(&save), 0);
        assert_int_equal(run_sql(&save2), 0);
}

static void tampered_anchors_are_named(void **state)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        char path[512], oid[GIT_OID_STR], object[600];
        struct mlc_err err = {0};

        (void)state;
        path_of("git/audit.git", path);
        assert_int_equal(git_repo_open(path, false, &repo, &err), 0);
        assert_int_equal(git_ref_get(repo, AUDIT_ANCHOR_REF, oid, &err), 0);
        assert_int_equal(git_ref_set(repo, "refs/heads/other", oid, NULL, &err), 0);
        expect_bad(-1, "refs/heads/other");
        (void)snprintf(object, sizeof(object), "%s/refs/heads/other", path);
        assert_int_equal(unlink(object), 0);
        (void)snprintf(object, sizeof(object), "%s/objects/%.2s/%s", path, oid, oid + 2);
        assert_int_equal(chmod(object, 0600), 0);
        flip(object, 20);
        expect_bad(-1, "audit.git");
        flip(object, 20);
        expect_ok();
}

/* Between signing and publishing: tiles may be there or not, nothing is wrong. */
static void a_crash_is_no_tampering(void **state)
{
        char checkpoint[512], saved[512], *old;
        struct mlc_err err = {0};
        size_t len;

        (void)state;
        path_of("log/checkpoint", checkpoint);
        path_of("checkpoint.saved", saved);
        assert_int_equal(mlc_read_file(checkpoint, 65536, &old, &len, &err), 0);
        audit_close(&app);
        start();
        assert_int_equal(append("late", 0, 1), 0);
        wait_published(log_size());
        audit_stop(&app);
        expect_ok();
        assert_int_equal(mlc_write_file_atomic(checkpoint, old, len, 0600, &err), 0);
        expect_ok();
        path_of("log/next", saved);
        assert_int_equal(mlc_write_file_atomic(saved, "half", 4, 0600, &err), 0);
        expect_ok();
        free(old);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_good_log_passes),
                cmocka_unit_test(flipped_files_are_named),
                cmocka_unit_test(files_that_nothing_accounts_for_are_named),
                cmocka_unit_test(triggers_are_a_seat_belt),
                cmocka_unit_test(tampered_rows_are_named),
                cmocka_unit_test(tampered_anchors_are_named),
                cmocka_unit_test(a_crash_is_no_tampering),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
