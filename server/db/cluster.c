/* SPDX-License-Identifier: Apache-2.0 */
#include "db/cluster.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "db/cluster_priv.h"

#define READY_MS_MAX 300000 /* recovery after a crash may take a while */
#define FAST_MS 20000 /* how long a fast shutdown may take before an immediate one */
#define RESTART_MS 1000
#define OTHER_CONNECTIONS 20 /* leader lock, notifications, migrations, an operator's psql */

/* Copies s with `escape` before each character of `special`. */
static void quote(const char *s, const char *special, char escape, struct mlc_str *out)
{
        for (; *s != '\0'; s++) {
                if (strchr(special, *s) != NULL)
                        mlc_str_addc(out, escape);
                mlc_str_addc(out, *s);
        }
}

static void make_conninfo(struct db_cluster *c)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, sizeof(c->conninfo) - 1);
        mlc_str_add(&s, "host='");
        quote(c->socket_dir, "'\\", '\\', &s);
        mlc_str_add(&s, "' port=" CLUSTER_PORT
                        " user=mlctl dbname=mlctl sslmode=disable gssencmode=disable");
        (void)snprintf(c->conninfo, sizeof(c->conninfo), "%s", mlc_str_cstr(&s));
}

static int spawn(struct db_cluster *c, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str sockets;
        char postgres[300], hba[CLUSTER_PATH_MAX + 40], ident[CLUSTER_PATH_MAX + 40],
                connections[64];

        /* a list of directories: quoted, so that a comma or blank in the path is part of it */
        mlc_str_init(&sockets, sizeof(c->conninfo));
        mlc_str_add(&sockets, "unix_socket_directories=\"");
        quote(c->socket_dir, "\"", '"', &sockets);
        mlc_str_addc(&sockets, '"');
        (void)snprintf(postgres, sizeof(postgres), "%s/postgres", c->bin);
        (void)snprintf(hba, sizeof(hba), "hba_file=%s/hba", c->dir);
        (void)snprintf(ident, sizeof(ident), "ident_file=%s/ident", c->dir);
        (void)snprintf(connections, sizeof(connections), "max_connections=%d", c->max_connections);
        const char *const argv[] = {postgres,
                                    "-D",
                                    c->data,
                                    "-p",
                                    CLUSTER_PORT,
                                    "-c",
                                    "listen_addresses=",
                                    "-c",
                                    mlc_str_cstr(&sockets),
                                    "-c",
                                    "unix_socket_permissions=0700",
                                    "-c",
                                    hba,
                                    "-c",
                                    ident,
                                    "-c",
                                    connections,
                                    "-c",
                                    "logging_collector=off",
                                    "-c",
                                    "log_destination=stderr",
                                    "-c",
                                    "cluster_name=mlctl",
                                    NULL};

        c->started_ms = mlc_monotonic_ms();
        return cluster_spawn(c, argv, -1, &c->pid, err);
}

static int wait_ready(struct db_cluster *c, struct mlc_err *err)
{
        int64_t until = mlc_monotonic_ms() + READY_MS_MAX;
        char status[16], words[256];

        while (mlc_monotonic_ms() < until) {
                if (waitpid(c->pid, NULL, WNOHANG) == c->pid) {
                        c->pid = 0;
                        cluster_last_words(c, words, sizeof(words));
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "PostgreSQL did not start: %s (see '%s/log')", words,
                                        c->dir);
                }
                cluster_status(c, status, sizeof(status));
                if (mlc_streq(status, "ready"))
                        return 0;
                mlc_sleep_ms(5);
        }
        return mlc_fail(err, MLC_E_UNAVAILABLE,
                        "PostgreSQL did not get ready in time (see '%s/log')", c->dir);
}

static int start(struct db_cluster *c, const struct app *app, struct mlc_err *err)
{
        int r;

        c->inherited_fd = -1;
        c->max_connections = (int)app->config.db_connections + OTHER_CONNECTIONS;
        r = cluster_account(c, err);
        if (r < 0)
                return r;
        r = cluster_directories(c, app->config.data, err);
        if (r < 0)
                return r;
        r = cluster_stop_stray(c, err);
        if (r < 0)
                return r;
        r = cluster_prepare(c, err);
        if (r < 0)
                return r;
        make_conninfo(c);
        r = spawn(c, err);
        if (r < 0)
                return r;
        return wait_ready(c, err);
}

int db_cluster_start(struct app *app, struct mlc_err *err)
{
        int64_t begin = mlc_monotonic_ms();
        int r;

        assert(app->cluster == NULL);
        app->cluster = calloc(1, sizeof(*app->cluster));
        if (app->cluster == NULL)
                abort();
        r = start(app->cluster, app, err);
        if (r < 0) {
                db_cluster_stop(app);
                return r;
        }
        log_info(NULL, "db.cluster_ready", KV_INT("pid", app->cluster->pid),
                 KV_INT("ms", mlc_monotonic_ms() - begin));
        return 0;
}

int db_cluster_attach(struct app *app, struct mlc_err *err)
{
        struct db_cluster *c = calloc(1, sizeof(*c));
        int r;

        assert(app->cluster == NULL);
        if (c == NULL)
                abort();
        c->attached = true;
        app->cluster = c;
        r = cluster_account(c, err);
        if (r == 0) {
                cluster_paths(c, app->config.data);
                r = cluster_running_socket(c, err);
        }
        if (r < 0) {
                db_cluster_stop(app);
                return r;
        }
        make_conninfo(c);
        return 0;
}

static bool ended_within(struct db_cluster *c, int64_t ms)
{
        int64_t until = mlc_monotonic_ms() + ms;

        for (;;) {
                pid_t got = waitpid(c->pid, NULL, WNOHANG);

                if (got == c->pid || (got < 0 && errno == ECHILD))
                        return true;
                if (mlc_monotonic_ms() >= until)
                        return false;
                mlc_sleep_ms(5);
        }
}

void db_cluster_stop(struct app *app)
{
        struct db_cluster *c = TAKE_PTR(app->cluster);

        if (c == NULL)
                return;
        if (c->pid > 0) {
                (void)kill(c->pid, SIGINT);
                if (!ended_within(c, FAST_MS)) {
                        log_warn(NULL, "db.cluster_slow",
                                 KV_STR("advice", "stopping without a checkpoint"));
                        (void)kill(c->pid, SIGQUIT);
                        (void)ended_within(c, FAST_MS / 4);
                }
        }
        if (c->own_socket_dir)
                (void)rmdir(c->socket_dir);
        free(c);
}

int db_cluster_tend(struct app *app, struct mlc_err *err)
{
        struct db_cluster *c = app->cluster;
        char words[256];
        int status = 0;

        if (c == NULL || c->attached)
                return 0;
        if (c->pid > 0 && waitpid(c->pid, &status, WNOHANG) == c->pid) {
                c->pid = 0;
                cluster_last_words(c, words, sizeof(words));
                log_error(NULL, "db.cluster_ended", KV_INT("status", status),
                          KV_STR("last", words));
        }
        if (c->pid > 0 || mlc_monotonic_ms() < c->started_ms + RESTART_MS)
                return 0;
        return spawn(c, err);
}

const char *db_cluster_conninfo(const struct db_cluster *c)
{
        return c->conninfo;
}
