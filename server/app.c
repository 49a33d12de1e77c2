/* SPDX-License-Identifier: Apache-2.0 */
#include "app.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "approval/approval.h"
#include "audit/audit.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "cache/cache.h"
#include "client/call.h"
#include "db/cluster.h"
#include "db/db.h"
#include "gate/gate.h"
#include "gateway/gateway.h"
#include "http/metrics.h"
#include "http/server.h"
#include "http/sink.h"
#include "promotion/promotion.h"
#include "registry/registry.h"
#include "rollout/mirror.h"
#include "rollout/rollout.h"
#include "rollout/rollout_jobs.h"
#include "store/store.h"
#include "work/work.h"

#define TICK_MS 200
#define ARENA_MAX (64 << 20)
#define START_MS 60000
#define DRAIN_MS                                                                                   \
        15000 /* for requests in progress; tasks and PostgreSQL need some of the 30 s too */

/* Starts in this order and stops in reverse; `stop` accepts what never started. */
struct module {
        const char *name;
        int (*start)(struct app *app, struct mlc_err *err);
        void (*stop)(struct app *app);
        enum {
                FOR_SERVE = 1,
                FOR_OTHERS = 2,
                FOR_ALL = 3
        } use; /* `serve`, the other subcommands */
};

/* Asks for the lock of DIR: alone with an embedded cluster, shared among servers of one external
 * database. */
static int lock_dir(struct app *app, struct mlc_err *err)
{
        bool alone = app->config.postgres == NULL;
        char path[4200], pid[32];
        _cleanup_(close_fd) int fd = -1;
        struct mlc_err ignored = {0};
        size_t len = 0;

        (void)snprintf(path, sizeof(path), "%s/lock", app->config.data);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "open", path);
        if (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK)
                        return mlc_fail_errno(err, "lock", path);
                if (mlc_read_full(fd, pid, sizeof(pid) - 1, &len, &ignored) < 0)
                        len = 0;
                pid[len] = '\0';
                return mlc_fail(err, MLC_E_CONFLICT, "another mlctld (process %s) runs on '%s'",
                                len == 0 ? "unknown" : pid, app->config.data);
        }
        if (ftruncate(fd, 0) < 0)
                return mlc_fail_errno(err, "truncate", path);
        if (alone) {
                (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
                if (mlc_write_full(fd, pid, strlen(pid), err) < 0)
                        return err->code;
        }
        app->lock_fd = TAKE_FD(fd);
        return 0;
}

static int serve_lock(struct app *app, struct mlc_err *err)
{
        return lock_dir(app, err);
}

/* The other subcommands work beside a running server, as its guests. */
static int open_lock(struct app *app, struct mlc_err *err)
{
        int r = lock_dir(app, err);

        if (r == MLC_E_CONFLICT) {
                mlc_err_clear(err);
                return 0;
        }
        return r;
}

static void unlock(struct app *app)
{
        if (app->lock_fd >= 0)
                (void)close(app->lock_fd);
        app->lock_fd = -1;
}

static int open_changes(struct app *app, struct mlc_err *err)
{
        return epoch_open(app->config.data, "changes-epoch", &app->changes, err);
}

static void close_changes(struct app *app)
{
        epoch_close(&app->changes);
}

static int start_cluster(struct app *app, struct mlc_err *err)
{
        if (app->config.postgres != NULL)
                return 0;
        return app->lock_fd >= 0 ? db_cluster_start(app, err) : db_cluster_attach(app, err);
}

static int start_admin(struct app *app, struct mlc_err *err)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        bool created = false;
        int r;

        mlc_ctx_init(&ctx, app, "auth.bootstrap", ARENA_MAX, START_MS);
        r = auth_bootstrap(&ctx, &created);
        if (r < 0) {
                *err = ctx.err;
                return r;
        }
        if (created)
                log_info(
                        ctx.trace, "server.admin_created", KV_STR("person", "admin"),
                        KV_STR("token_file", ctx_printf(&ctx, "%s/admin-token", app->config.data)));
        return 0;
}

/* What a replay of the log is compared with. */
static int add_sources(struct app *app, struct mlc_err *err)
{
        (void)err;
        audit_add_sources(app, AUTH_SOURCES, AUTH_N_SOURCES);
        audit_add_sources(app, registry_audit_sources, ARRAY_LEN(registry_audit_sources));
        audit_add_sources(app, gate_audit_sources, GATE_N_SOURCES);
        audit_add_sources(app, approval_audit_sources, APPROVAL_N_SOURCES);
        audit_add_sources(app, promotion_audit_sources, PROMOTION_N_SOURCES);
        audit_add_sources(app, rollout_audit_sources, ROLLOUT_N_SOURCES);
        return 0;
}

/* A document, or evidence, is new: for what waits, and for what is live. */
static int tell_changed(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_news *news)
{
        int r = promotion_changed(ctx, tx, news);

        return r < 0 ? r : rollout_changed(ctx, tx, news);
}

/* What a bundle asks about what is live, and who is told of what changes. */
static int join_gate(struct app *app, struct mlc_err *err)
{
        static const struct gate_hooks hooks = {.live = promotion_live,
                                                .change_open = approval_change_open,
                                                .changing = promotion_changing,
                                                .changed = tell_changed};

        (void)err;
        gate_set_hooks(app, &hooks);
        return 0;
}

static int join_auth(struct app *app, struct mlc_err *err)
{
        static const struct auth_hooks hooks = {.ask = approval_award_ask,
                                                .renew = approval_award_renew};

        (void)err;
        auth_set_hooks(app, &hooks);
        return 0;
}

static int add_promotions(struct app *app, struct mlc_err *err)
{
        (void)err;
        approval_start(app);
        promotion_start(app);
        rollout_start(app);
        return 0;
}

static int start_jobs(struct app *app, struct mlc_err *err)
{
        (void)app;
        (void)err;
        return 0;
}

static int start_mirror(struct app *app, struct mlc_err *err)
{
        return mirror_new(&app->mirror, err);
}

/* Copies of requests: who compares should know how many were left out. */
static void write_mirror_metrics(struct app *app, struct metrics_out *out)
{
        static const struct {
                const char *member, *name, *help;
        } counters[] = {
                {"received", "mlctl_mirror_received_total", "Copies that came."},
                {"dropped", "mlctl_mirror_dropped_total", "Copies not asked again."},
                {"asked", "mlctl_mirror_asked_total", "Copies that a candidate was asked."},
                {"failed", "mlctl_mirror_failed_total", "Copies that a candidate did not answer."},
                {"unanswered", "mlctl_mirror_unanswered_total",
                 "Copies without an answer that stable did not answer, either."},
        };
        _cleanup_(json_decref_p) json_t *totals = mirror_totals(app->mirror);

        for (size_t i = 0; i < ARRAY_LEN(counters); i++)
                metrics_counter(
                        out, counters[i].name, counters[i].help, NULL,
                        (double)json_integer_value(json_object_get(totals, counters[i].member)));
}

static void stop_mirror(struct app *app)
{
        mirror_free(app->mirror);
        app->mirror = NULL;
}

static void take_copy(void *userdata, const char *path, const char *body, size_t len)
{
        mirror_submit(userdata, path, body, len);
}

static void mirror_address_path(const struct app *app, char *ret, size_t size)
{
        (void)snprintf(ret, size, "%s/mirror-address", app->config.data);
}

static int start_mirror_sink(struct app *app, struct mlc_err *err)
{
        const struct http_sink_in in = {.where = app->config.mirror_listen,
                                        .body_max = MIRROR_BODY_MAX,
                                        .take = take_copy,
                                        .userdata = app->mirror,
                                        .not_with = MIRROR_HEADER};
        char address[SINK_ADDRESS_MAX], path[4200], line[SINK_ADDRESS_MAX + 2];
        struct mlc_err ignored = {0};
        bool loopback;
        int r;

        if (in.where == NULL)
                return 0;
        r = http_sink_start(&in, &app->mirror_sink, address, err);
        if (r < 0)
                return mlc_wrap(err, "--mirror-listen");
        log_info(NULL, "mirror.listening", KV_STR("address", address));
        if (mlc_egress_check(NULL, 0, address, &loopback, &ignored) < 0)
                log_warn(NULL, "mirror.open_to_others", KV_STR("address", address),
                         KV_STR("why", "whoever reaches it can send copies; nobody is asked who "
                                       "they are"));
        mirror_address_path(app, path, sizeof(path));
        (void)snprintf(line, sizeof(line), "%s\n", address);
        return mlc_write_file_atomic(path, line, strlen(line), 0644, err);
}

static void stop_mirror_sink(struct app *app)
{
        char path[4200];

        if (app->mirror_sink == NULL)
                return;
        http_sink_stop(app->mirror_sink);
        app->mirror_sink = NULL;
        mirror_address_path(app, path, sizeof(path));
        (void)unlink(path);
}

static int start_hooks(struct app *app, struct mlc_err *err)
{
        (void)err;
        app->hooks.ready[app->hooks.n_ready++] = audit_ready;
        app->hooks.metrics[app->hooks.n_metrics++] = write_mirror_metrics;
        return 0;
}

static void address_path(const struct app *app, char *ret, size_t size)
{
        (void)snprintf(ret, size, "%s/address", app->config.data);
}

static int write_address(struct app *app, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        char path[4200];

        mlc_str_init(&s, 1024);
        mlc_str_addf(&s, "%s\n", http_address(app));
        address_path(app, path, sizeof(path));
        return mlc_write_file_atomic(path, mlc_str_cstr(&s), s.len, 0644, err);
}

/* Of several servers on one DIR only the one that wrote it last removes it. */
static void remove_address(struct app *app)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err ignored = {0};
        char path[4200];
        size_t len;

        if (app->http == NULL)
                return;
        address_path(app, path, sizeof(path));
        if (mlc_read_file(path, 1024, &text, &len, &ignored) == 0 && len > 0 &&
            strncmp(text, http_address(app), len - 1) == 0)
                (void)unlink(path);
}

static void drain(struct app *app)
{
        http_drain(app, DRAIN_MS);
        http_stop(app);
}

static int make_tasks(struct app *app, struct mlc_err *err)
{
        (void)err;
        work_init(app);
        return 0;
}

static const struct module MODULES[] = {
        {"lock", serve_lock, unlock, FOR_SERVE},
        {"lock", open_lock, unlock, FOR_OTHERS},
        {"changes", open_changes, close_changes, FOR_ALL},
        {"registry", registry_start, registry_stop, FOR_ALL},
        {"cluster", start_cluster, db_cluster_stop, FOR_ALL},
        {"db", db_start, db_stop, FOR_ALL},
        {"schema", db_migrate, NULL, FOR_SERVE},
        {"schema", db_migrate_check, NULL, FOR_OTHERS},
        {"tasks", make_tasks, NULL, FOR_SERVE},
        {"auth", auth_start, auth_stop, FOR_ALL},
        {"log", audit_open, audit_close, FOR_SERVE},
        {"log", audit_attach, audit_close, FOR_OTHERS},
        {"sources", add_sources, NULL, FOR_ALL},
        {"gate", join_gate, NULL, FOR_ALL},
        {"awards", join_auth, NULL, FOR_ALL},
        {"admin", start_admin, NULL, FOR_SERVE},
        {"store", store_start, store_stop, FOR_ALL},
        {"sweep", store_sweep_start, NULL, FOR_SERVE},
        {"repositories", registry_repair, NULL, FOR_SERVE},
        {"documents", gate_repair, NULL, FOR_SERVE},
        {"mirror", start_mirror, stop_mirror, FOR_SERVE},
        {"promotions", add_promotions, rollout_jobs_free, FOR_SERVE},
        {"work", work_start, work_stop, FOR_SERVE},
        {"jobs", start_jobs, rollout_jobs_stop, FOR_SERVE},
        {"sequencer", audit_start, audit_stop, FOR_SERVE},
        {"hooks", start_hooks, NULL, FOR_SERVE},
        {"gateway", gateway_start, gateway_stop, FOR_SERVE},
        {"http", http_start, drain, FOR_SERVE},
        {"copies", start_mirror_sink, stop_mirror_sink, FOR_SERVE},
        {"address", write_address, remove_address, FOR_SERVE},
};

static void stop_modules(struct app *app, unsigned use)
{
        for (size_t i = ARRAY_LEN(MODULES); i-- > 0;)
                if ((MODULES[i].use & use) != 0 && MODULES[i].stop != NULL)
                        MODULES[i].stop(app);
}

static int start_modules(struct app *app, unsigned use, struct mlc_err *err)
{
        for (size_t i = 0; i < ARRAY_LEN(MODULES); i++) {
                int64_t start = mlc_monotonic_ms();
                int r = (MODULES[i].use & use) != 0 ? MODULES[i].start(app, err) : 0;

                if (r < 0) {
                        stop_modules(app, use);
                        return r;
                }
                log_debug(NULL, "module.started", KV_STR("name", MODULES[i].name),
                          KV_INT("ms", mlc_monotonic_ms() - start));
        }
        return 0;
}

int app_open(struct app *app, const struct app_config *config, struct mlc_err *err)
{
        *app = (struct app){.config = *config, .lock_fd = -1};
        return start_modules(app, FOR_OTHERS, err);
}

int app_alone(struct app *app, struct mlc_err *err)
{
        if (app->lock_fd < 0 || flock(app->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return mlc_fail(err, MLC_E_CONFLICT, "a server runs on '%s', stop it first",
                                app->config.data);
        return 0;
}

void app_close(struct app *app)
{
        stop_modules(app, FOR_OTHERS);
}

/* Until SIGTERM or SIGINT: looks after the cluster and tells systemd that we live. */
static int main_loop(struct app *app)
{
        struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
        uint64_t watchdog_us = 0;
        int64_t next_ping = 0;
        sigset_t wanted;

        (void)sigemptyset(&wanted);
        (void)sigaddset(&wanted, SIGTERM);
        (void)sigaddset(&wanted, SIGINT);
        (void)sigaddset(&wanted, SIGHUP);
        (void)sd_watchdog_enabled(0, &watchdog_us);
        for (;;) {
                struct mlc_err err = {0};
                int sig = sigtimedwait(&wanted, NULL, &tick);

                if (sig == SIGTERM || sig == SIGINT)
                        return sig;
                if (db_cluster_tend(app, &err) < 0)
                        mlc_log_err(MLC_LOG_ERROR, NULL, "db.cluster_restart", &err);
                mlc_err_clear(&err);
                if (gateway_tend(app, &err) < 0)
                        mlc_log_err(MLC_LOG_ERROR, NULL, "gateway.restart", &err);
                if (watchdog_us > 0 && mlc_monotonic_ms() >= next_ping) {
                        (void)sd_notify(0, "WATCHDOG=1");
                        next_ping = mlc_monotonic_ms() + (int64_t)(watchdog_us / 2000);
                }
        }
}

int app_serve(const struct app_config *config, struct mlc_err *err)
{
        struct app app = {.config = *config, .lock_fd = -1};
        int64_t start = mlc_monotonic_ms();
        sigset_t ending;
        int sig;
        int r;

        (void)sigemptyset(&ending);
        (void)sigaddset(&ending, SIGTERM);
        (void)sigaddset(&ending, SIGINT);
        r = start_modules(&app, FOR_SERVE, err);
        if (r < 0 && sigtimedwait(&ending, NULL, &(struct timespec){0}) > 0) {
                mlc_log_err(MLC_LOG_INFO, NULL, "server.stopped", err);
                mlc_err_clear(err);
                return 0;
        }
        if (r < 0)
                return r;
        log_info(NULL, "server.ready", KV_INT("pid", getpid()),
                 KV_INT("ms", mlc_monotonic_ms() - start));
        (void)sd_notify(0, "READY=1");
        sig = main_loop(&app);
        (void)sd_notify(0, "STOPPING=1");
        log_info(NULL, "server.stopping", KV_INT("signal", sig));
        stop_modules(&app, FOR_SERVE);
        log_info(NULL, "server.stopped", KV_INT("signal", sig));
        return 0;
}
