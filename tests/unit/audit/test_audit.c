/* SPDX-License-Identifier: Apache-2.0 */
/* The log against a real PostgreSQL: append, sequence, publish, and what a start makes of other
 * stores. */
#include <pthread.h>

#include "unit/audit/fixture.h"

#define WRITERS 4
#define WRITES 300

static int lone = 2; /* entries of that name; the tests before the crash make two */

static int row_of(void *userdata, uint64_t index, struct mlc_tlog_row *ret, struct mlc_err *err)
{
        struct mlc_ctx *ctx = userdata;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        const struct audit_range range = {1, index, index + 1};
        struct audit_rows rows;
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = audit_db_leaves(ctx, &tx, &range, &rows);
        if (r < 0) {
                *err = ctx->err;
                return r;
        }
        *ret = rows.row[0];
        return 0;
}

static struct mlc_replay *replay;
static uint64_t things; /* leaves of the tests; others are the log's own */

static int fold(void *userdata, uint64_t index, const struct mlc_tlog_row *row, struct mlc_err *err)
{
        (void)userdata;
        things += memmem(row->leaf, row->len, "thing.set", 9) != NULL;
        return mlc_replay_leaf(replay, index, row->leaf, row->len, err);
}

/* Files, rows and replay agree; gives the number of the tests' leaves. */
static uint64_t verify(void)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        struct mlc_tlog_verify v = {.src = mlc_tlog_source_dir(app.audit->dir),
                                    .keys = {app.audit->keys.vkey, app.audit->keys.n},
                                    .row = row_of,
                                    .rows_to = UINT64_MAX,
                                    .leaf = fold,
                                    .userdata = &ctx};
        struct mlc_tlog_finding f;
        struct mlc_checkpoint cp;
        struct mlc_err err = {0};

        mlc_ctx_init(&ctx, &app, "test", 64 << 20, 60000);
        mlc_replay_free(&replay);
        replay = mlc_replay_new();
        things = 0;
        if (mlc_tlog_verify(&v, &cp, &f, &err) < 0)
                fail_msg("%s", err.msg);
        mlc_replay_free(&replay);
        return things;
}

/* Until that many are under the checkpoint, at most 10 s. Anchors add leaves of their own. */
static void wait_things(uint64_t n)
{
        for (int i = 0; i < 200 && verify() < n; i++)
                mlc_sleep_ms(50);
        assert_int_equal(things, n);
}

static void the_first_start_founds_the_log(void **state)
{
        const char *origin;

        (void)state;
        start();
        origin = audit_origin(&app);
        assert_non_null(strstr(origin, "/log-"));
        wait_published(1);
        assert_int_equal(verify(), 0);
}

static void *writer(void *arg)
{
        char id[32];

        for (int i = 0; i < WRITES; i++) {
                (void)snprintf(id, sizeof(id), "w%d/%d", (int)(intptr_t)arg, i);
                if (append(id, 0, i + 1) < 0)
                        return arg;
        }
        return NULL;
}

static void nothing_is_lost_under_concurrent_writers(void **state)
{
        pthread_t t[WRITERS];
        void *failed;

        (void)state;
        for (intptr_t i = 0; i < WRITERS; i++)
                assert_int_equal(pthread_create(&t[i], NULL, writer, (void *)i), 0);
        for (int i = 0; i < WRITERS; i++) {
                assert_int_equal(pthread_join(t[i], &failed), 0);
                assert_null(failed);
        }
        wait_things(WRITERS * WRITES);
}

static void an_isolated_write_is_published_soon(void **state)
{
        int64_t from;
        int64_t size = audit_published_size(&app);

        (void)state;
        mlc_sleep_ms(600);
        from = mlc_monotonic_ms();
        assert_int_equal(append("lone", 0, 1), 0);
        wait_published(size + 1);
        assert_true(mlc_monotonic_ms() - from < 450);
}

static void a_restart_goes_on(void **state)
{
        (void)state;
        stop();
        start();
        assert_int_equal(append("lone", 1, 2), 0);
        wait_things(WRITERS * WRITES + 2);
}

static void copy(const char *from, const char *to)
{
        char a[256], b[256];
        char *data;
        size_t len;
        struct mlc_err err = {0};

        (void)snprintf(a, sizeof(a), "%s/log/%s", app.config.data, from);
        (void)snprintf(b, sizeof(b), "%s/log/%s", app.config.data, to);
        if (mlc_read_file(a, 1 << 20, &data, &len, &err) < 0 ||
            mlc_write_file_atomic(b, data, len, 0600, &err) < 0)
                fail_msg("%s", err.msg);
        free(data);
}

static void append_lone(void)
{
        assert_int_equal(append("lone", lone, lone + 1), 0);
        lone++;
        wait_things(WRITERS * WRITES + (uint64_t)lone);
}

/* The second line of a checkpoint. */
static uint64_t published_size(const char *file)
{
        _cleanup_(free_p) char *data = NULL;
        struct mlc_err err = {0};
        unsigned long long size;
        char path[256];
        char *line;
        size_t len;

        (void)snprintf(path, sizeof(path), "%s/log/%s", app.config.data, file);
        assert_int_equal(mlc_read_file(path, 1 << 20, &data, &len, &err), 0);
        line = strchr(data, '\n');
        assert_non_null(line);
        line[1 + strcspn(line + 1, "\n")] = '\0';
        assert_true(mlc_parse_u64(line + 1, &size));
        return size;
}

/* As after a crash between signing and publishing: one batch behind. An anchor's entry that falls
 * in between makes it two, so again then. */
static void a_batch_that_a_crash_left_out_is_finished(void **state)
{
        bool one_behind = false;

        (void)state;
        while (!one_behind) {
                _cleanup_(audit_state_done) struct audit_state s = {0};
                struct mlc_err err = {0};
                char dir[256];

                copy("checkpoint", "../checkpoint.old");
                append_lone();
                stop();
                (void)snprintf(dir, sizeof(dir), "%s/log", app.config.data);
                assert_int_equal(audit_state_read(dir, &s, &err), 0);
                one_behind = s.previous == published_size("../checkpoint.old");
                if (one_behind)
                        copy("../checkpoint.old", "checkpoint");
                start();
        }
        wait_things(WRITERS * WRITES + (uint64_t)lone);
}

static void expect_read_only(const char *why)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;

        mlc_ctx_init(&ctx, &app, "test", 1 << 20, 1000);
        start();
        assert_int_equal(audit_ready(&ctx), MLC_E_READ_ONLY);
        if (strstr(ctx.err.msg, why) == NULL)
                fail_msg("'%s' instead of '%s'", ctx.err.msg, why);
        assert_int_equal(append("never", 0, 1), MLC_E_READ_ONLY);
        stop();
}

static void older_files_and_databases_make_it_read_only(void **state)
{
        _cleanup_(audit_state_done) struct audit_state s = {0};
        char dir[256];
        struct mlc_err err = {0};

        (void)state;
        (void)snprintf(dir, sizeof(dir), "%s/log", app.config.data);
        append_lone();
        stop();
        copy("checkpoint", "../checkpoint.new");
        copy("state", "../state.new");
        /* two batches behind */
        copy("../checkpoint.old", "checkpoint");
        expect_read_only("log is older than its signing state");
        copy("../checkpoint.new", "checkpoint");
        /* the database lacks what was signed */
        assert_int_equal(audit_state_read(dir, &s, &err), 0);
        s.cp.size++;
        assert_int_equal(audit_state_write(dir, &s, &err), 0);
        expect_read_only("database is older than the log");
        /* it holds something else */
        s.cp.size--;
        s.cp.root.b[3] ^= 1;
        assert_int_equal(audit_state_write(dir, &s, &err), 0);
        expect_read_only("another history");
        copy("../checkpoint.old", "state");
        expect_read_only("damaged");
        (void)snprintf(dir, sizeof(dir), "%s/log/state", app.config.data);
        assert_int_equal(unlink(dir), 0);
        expect_read_only("log is older than its signing state");
        copy("../state.new", "state");
        start();
        append_lone();
}

static void the_name_is_fixed(void **state)
{
        struct mlc_err err = {0};

        (void)state;
        stop();
        app.config.origin = "example.org/other";
        assert_int_equal(audit_open(&app, &err), MLC_E_USAGE);
        assert_null(app.audit);
        app.config.origin = NULL;
        start();
}

static void personal_values_can_be_erased(void **state)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        char a[72], b[72];
        const char *value;

        (void)state;
        mlc_ctx_init(&ctx, &app, "test", 1 << 20, 10000);
        assert_int_equal(db_tx_begin(&ctx, &tx), 0);
        assert_int_equal(audit_commit_pii(&ctx, &tx, "u1", "Dana", a), 0);
        assert_int_equal(audit_commit_pii(&ctx, &tx, "u2", "Dana", b), 0);
        assert_string_not_equal(a, b);
        assert_int_equal(audit_reveal_pii(&ctx, &tx, a, &value), 0);
        assert_string_equal(value, "Dana");
        assert_int_equal(audit_erase_pii(&ctx, &tx, "u1"), 0);
        assert_int_equal(audit_reveal_pii(&ctx, &tx, a, &value), 0);
        assert_null(value);
        assert_int_equal(audit_reveal_pii(&ctx, &tx, b, &value), 0);
        assert_non_null(value);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_start_founds_the_log),
                cmocka_unit_test(nothing_is_lost_under_concurrent_writers),
                cmocka_unit_test(an_isolated_write_is_published_soon),
                cmocka_unit_test(a_restart_goes_on),
                cmocka_unit_test(a_batch_that_a_crash_left_out_is_finished),
                cmocka_unit_test(older_files_and_databases_make_it_read_only),
                cmocka_unit_test(the_name_is_fixed),
                cmocka_unit_test(personal_values_can_be_erased),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
