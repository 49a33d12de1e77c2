/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlctl/error.h"

struct app;
struct mlc_ctx;
struct metrics_out;
struct auth_hooks;
struct gate_hooks;

#define APP_HOOKS_MAX 16

/*
 * What modules offer to /readyz and /metrics: registered by app.c while it starts (one thread,
 * before http_start), called from any thread afterwards.
 */
struct app_hooks {
        /* 0, or negative with the reason in ctx->err: the server is not ready, and /readyz shows
         * the reason */
        int (*ready[APP_HOOKS_MAX])(struct mlc_ctx *ctx);
        unsigned n_ready;
        /* writes the module's metrics, see http/metrics.h */
        void (*metrics[APP_HOOKS_MAX])(struct app *app, struct metrics_out *out);
        unsigned n_metrics;
};

/* A setting that may be given several times. */
struct app_texts {
        const char **items;
        size_t n;
        bool stale; /* while reading: of a source that the present one replaces */
};

/* The settings of `mlctld serve`; one option table (server/config.c) makes them from flags,
 * environment and file. */
struct app_config {
        const char *data; /* DIR, absolute */
        const char *listen; /* HOST:PORT */
        const char *postgres; /* conninfo, or NULL for the embedded cluster */
        const char *gateway; /* HOST:PORT, or NULL for none */
        const char *mirror_listen; /* HOST:PORT for copies of requests, or NULL for none */
        const char *origin; /* NULL: the default or the one fixed at first start */
        const char *reason; /* `log succeed`: why */
        bool public_log; /* --public */
        int64_t max_connections; /* hard cap of connections */
        int64_t db_connections; /* size of the pool */
        struct app_texts serving_roots; /* --serving-root: absolute paths */
        struct app_texts egress_allow; /* --egress-allow: HOST:PORT; see client/call.h */
};

/*
 * The composition root: modules in the order in which they start; each is opaque to the others and
 * reached by its own header's functions, which take ctx (ctx->app->MODULE). Only app.c creates and
 * destroys them.
 */
struct app {
        struct app_config config;
        int lock_fd; /* DIR/lock; -1 when another server holds it and we are its guest */
        struct db_cluster *cluster; /* embedded PostgreSQL, or NULL */
        struct epoch *changes; /* raised by every COMMIT of a change with a leaf */
        struct db *db;
        struct auth *auth;
        struct audit *audit;
        struct store *store;
        struct registry *registry;
        struct work *work; /* leader lock, timers, LISTEN */
        struct http *http;
        struct gateway *gateway; /* embedded nginx, or NULL */
        const struct auth_hooks *auth_hooks; /* see auth/auth.h; NULL: none */
        struct mirror *mirror; /* copies of requests, see rollout/mirror.h */
        struct http_sink *mirror_sink; /* takes copies of requests, see http/sink.h; or NULL */
        struct rollout_jobs *rollout_jobs; /* calls that may hang, see rollout/rollout_jobs.h */
        const struct gate_hooks *gate_hooks; /* see gate/gate.h; NULL: none */
        struct app_hooks hooks;
};

/*
 * mlctld serve: from the lock of DIR to the end, in the main thread with its signals blocked.
 * Returns after SIGTERM or SIGINT and a drain; negative when the start is refused, with one clear
 * line in err.
 */
int app_serve(const struct app_config *config, struct mlc_err *err) MLC_CHECK;

/*
 * For the other subcommands: database (the cluster of a server that runs on DIR, else started
 * here), schema checked, the modules loaded without their threads. app_close undoes it and stops
 * what was started here; idempotent.
 */
int app_open(struct app *app, const struct app_config *config, struct mlc_err *err) MLC_CHECK;
void app_close(struct app *app);
/* After app_open: MLC_E_CONFLICT while a server runs on DIR; none can start until app_close. */
int app_alone(struct app *app, struct mlc_err *err) MLC_CHECK;
