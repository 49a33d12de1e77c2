/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "config.h"

static char dir[] = "/tmp/mlctl-config-XXXXXX";

static int setup(void **state)
{
        (void)state;
        return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
        char path[64];

        (void)state;
        (void)snprintf(path, sizeof(path), "%s/conf", dir);
        (void)unlink(path);
        return rmdir(dir);
}

static int clear(void **state)
{
        static const char *const names[] = {"MLCTL_DATA",   "MLCTL_LISTEN", "MLCTL_POSTGRES",
                                            "MLCTL_ORIGIN", "MLCTL_PUBLIC", "MLCTL_DB_CONNECTIONS",
                                            "MLCTL_CONFIG"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                (void)unsetenv(names[i]);
        return 0;
}

#define READ(c, a, err, ...) read_all((c), (a), (err), (const char *[]){"serve", __VA_ARGS__, NULL})

static int read_all(struct app_config *c, struct config_args *a, struct mlc_err *err,
                    const char **argv)
{
        char *copy[32];
        int n = 0;

        for (; argv[n] != NULL; n++)
                copy[n] = strdup(argv[n]);
        copy[n] = NULL;
        int r = config_read(n, copy, false, c, a, err);

        while (n > 0)
                free(copy[--n]);
        return r;
}

static const char *write_file(const char *text)
{
        static char path[64];
        struct mlc_err err = {0};

        (void)snprintf(path, sizeof(path), "%s/conf", dir);
        assert_int_equal(mlc_write_file_atomic(path, text, strlen(text), 0600, &err), 0);
        return path;
}

static void test_defaults(void **state)
{
        _cleanup_(config_done) struct app_config c = {0};
        struct config_args a;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(READ(&c, &a, &err, "--data", dir), 0);
        assert_string_equal(c.data, dir);
        assert_string_equal(c.listen, "127.0.0.1:8080");
        assert_null(c.postgres);
        assert_null(c.origin);
        assert_false(c.public_log);
        assert_int_equal(c.max_connections, 512);
        assert_int_equal(c.db_connections, 16);
}

static void test_precedence(void **state)
{
        _cleanup_(config_done) struct app_config c = {0};
        struct config_args a;
        struct mlc_err err = {0};
        const char *file =
                write_file("# settings\n\n listen = a:1 \norigin=from = file\npublic = true\r\n"
                           "db-connections = 5");

        (void)state;
        (void)setenv("MLCTL_LISTEN", "b:2", 1);
        (void)setenv("MLCTL_DB_CONNECTIONS", "6", 1);
        (void)setenv("MLCTL_ORIGIN", "", 1); /* an empty one is none */
        assert_int_equal(READ(&c, &a, &err, "--listen=c:3", "--config", file, "--data", dir), 0);
        assert_string_equal(c.listen, "c:3");
        assert_int_equal(c.db_connections, 6);
        assert_string_equal(c.origin, "from = file");
        assert_true(c.public_log);
}

static void test_switch_and_positional(void **state)
{
        _cleanup_(config_done) struct app_config c = {0};
        struct config_args a;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(READ(&c, &a, &err, "one", "--public", "--data", dir, "--", "--two"), 0);
        assert_true(c.public_log);
        assert_int_equal(a.n_positional, 2);
}

static void test_lists(void **state)
{
        _cleanup_(config_done) struct app_config c = {0}, d = {0};
        struct config_args a;
        struct mlc_err err = {0};
        const char *file = write_file("serving-root = /srv/a\nserving-root = /srv/b, c\n"
                                      "egress-allow = models.example:8080\n");

        (void)state;
        (void)setenv("MLCTL_EGRESS_ALLOW", "a.example:1, [::1]:2", 1);
        assert_int_equal(READ(&c, &a, &err, "--config", file, "--data", dir), 0);
        assert_int_equal(c.serving_roots.n, 2);
        assert_string_equal(c.serving_roots.items[0], "/srv/a");
        assert_string_equal(c.serving_roots.items[1], "/srv/b, c");
        assert_int_equal(c.egress_allow.n, 2); /* the environment's, not the file's too */
        assert_string_equal(c.egress_allow.items[0], "a.example:1");
        assert_string_equal(c.egress_allow.items[1], "[::1]:2");
        assert_int_equal(READ(&d, &a, &err, "--config", file, "--data", dir, "--serving-root=/x",
                              "--serving-root", "/y"),
                         0);
        assert_int_equal(d.serving_roots.n, 2);
        assert_string_equal(d.serving_roots.items[0], "/x");
        assert_string_equal(d.serving_roots.items[1], "/y");
        (void)unsetenv("MLCTL_EGRESS_ALLOW");
}

static void test_refusals(void **state)
{
        static const struct {
                const char *args[4];
                const char *file, *says;
        } cases[] = {
                {{"--listen", "a:1"}, NULL, "--data DIR is missing"},
                {{"--data"}, NULL, "--data needs DIR"},
                {{"--data", ""}, NULL, "--data is empty"},
                {{"--nope"}, NULL, "unknown option '--nope', see mlctld --help"},
                {{"--dat", "x"}, NULL, "unknown option '--dat', see mlctld --help"},
                {{"--public=maybe"}, NULL, "--public is true or false, not 'maybe'"},
                {{"--db-connections", "1"},
                 NULL,
                 "--db-connections is a number from 2 to 256, not '1'"},
                {{"--db-connections", "9x"},
                 NULL,
                 "--db-connections is a number from 2 to 256, not '9x'"},
                {{"--serving-root", "srv"}, NULL, "--serving-root: 'srv' is no absolute path"},
                {{"--serving-root", "/srv/../etc"}, NULL, "is no absolute path without '..'"},
                {{"--egress-allow", "example"}, NULL, "--egress-allow: 'example' is not HOST:PORT"},
                {{"--egress-allow", "http://x:1"}, NULL, "'http://x:1' is not HOST:PORT"},
                {{NULL}, "listen a:1\n", ":1: expected name = value"},
                {{NULL}, "\nlisten = a:1\nnope = 1\n", ":3: no setting is called 'nope'"},
                {{NULL}, "config = other\n", ":1: no setting is called 'config'"},
                {{NULL},
                 "max-connections = 1\n",
                 ":1: max-connections is a number from 8 to 65536, not '1'"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct app_config c = {0};
                struct config_args a;
                struct mlc_err err = {0};

                if (cases[i].file != NULL)
                        (void)setenv("MLCTL_CONFIG", write_file(cases[i].file), 1);
                assert_int_equal(READ(&c, &a, &err, cases[i].args[0], cases[i].args[1]),
                                 MLC_E_USAGE);
                if (strstr(err.msg, cases[i].says) == NULL)
                        fail_msg("case %zu: %s", i, err.msg);
                assert_null(c.data);
                (void)unsetenv("MLCTL_CONFIG");
        }
}

static void test_missing_file_is_usage(void **state)
{
        struct app_config c = {0};
        struct config_args a;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(READ(&c, &a, &err, "--data", dir, "--config", "/nonexistent/conf"),
                         MLC_E_USAGE);
        assert_non_null(strstr(err.msg, "/nonexistent/conf"));
}

static void test_help_and_man_name_every_option(void **state)
{
        _cleanup_(free_p) char *help = NULL, *man = NULL;
        size_t n;
        FILE *f = open_memstream(&help, &n);

        (void)state;
        config_print_help(f);
        (void)fclose(f);
        f = open_memstream(&man, &n);
        config_print_man(f);
        (void)fclose(f);
        assert_non_null(strstr(help, "--db-connections N"));
        assert_non_null(strstr(help, "[MLCTL_DB_CONNECTIONS]"));
        assert_non_null(strstr(man, ".It Fl Fl db-connections Ar N"));
        assert_non_null(strstr(man, ".Ev MLCTL_CONFIG"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_defaults, clear),
                cmocka_unit_test_setup(test_precedence, clear),
                cmocka_unit_test_setup(test_switch_and_positional, clear),
                cmocka_unit_test_setup(test_lists, clear),
                cmocka_unit_test_setup(test_refusals, clear),
                cmocka_unit_test_setup(test_missing_file_is_usage, clear),
                cmocka_unit_test_setup(test_help_and_man_name_every_option, clear),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
