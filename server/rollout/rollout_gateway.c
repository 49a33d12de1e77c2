/* SPDX-License-Identifier: Apache-2.0 */
/* Brings gateways up to the rows, and renews leases. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "gen/rollout.sql.h"
#include "rollout/drivers/traffic.h"
#include "rollout/rollout_internal.h"
#include "work/work.h"

struct gateway {
        const char *control, *driver;
        int64_t generation, applied;
        bool leased; /* a rollout that goes on has a split there */
};

/* A gateway checks requests against so many inputs in all (server/gateway/core/table.h); routes
 * beyond are not checked, rather than none of them changed. */
#define INPUTS_MAX 2048

static void bound_inputs(const char *control, json_t *entry, size_t *total)
{
        const json_t *inputs = json_object_get(json_object_get(entry, "validate"), "inputs");
        size_t n = json_array_size(inputs);

        if (n <= INPUTS_MAX - *total) {
                *total += n;
                return;
        }
        log_warn(NULL, "rollout.inputs_left_out", KV_STR("control", control),
                 KV_STR("route", json_string_value(json_object_get(entry, "route"))));
        (void)json_object_set_new(entry, "validate", json_null());
}

/* {"schema","generation","routes":[…]}, the caller's. */
static int table_of(struct mlc_ctx *ctx, struct db_tx *tx, const char *control, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *routes = json_array();
        size_t inputs = 0;
        int r = db_run(tx, SQL_GATEWAY_TABLE, &rows, DB_TEXT(control));

        if (r == 0 && rows.n == 0)
                r = ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no gateway '%s'", control);
        for (int i = 0; r == 0 && i < rows.n && !db_is_null(&rows, i, 1); i++) {
                json_t *entry = NULL;

                r = rollout_parse(ctx, db_text(&rows, i, 1), &entry);
                if (r < 0)
                        break;
                bound_inputs(control, entry, &inputs);
                (void)json_array_append_new(routes, entry);
        }
        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:I, s:o}", "schema", "gateway-table/v1", "generation",
                         (json_int_t)db_int(&rows, 0, 0), "routes", TAKE_PTR(routes));
        return *ret != NULL ? 0 : ctx_fail(ctx, MLC_E_INTERNAL, "a table cannot be written");
}

static int read_table(struct mlc_ctx *ctx, const char *control, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        return r < 0 ? r : table_of(ctx, &tx, control, ret);
}

/* A gateway that is ahead has seen another database: our next generation is above its. */
static int raise_above(struct mlc_ctx *ctx, const char *control, int64_t in_force)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_GATEWAY_RAISE_TO, &rows, DB_TEXT(control), DB_INT(in_force));
        return r < 0 ? r : db_tx_commit(&tx);
}

static int write_applied(struct mlc_ctx *ctx, const char *control, int64_t generation)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_GATEWAY_APPLIED, NULL, DB_TEXT(control), DB_INT(generation));
        return r < 0 ? r : db_tx_commit(&tx);
}

/* Puts the table unless it is in force; *ret is the generation that is, afterwards. */
static int bring_up(struct mlc_ctx *ctx, const struct traffic_ops *ops, const struct gateway *g,
                    int64_t *ret)
{
        _cleanup_(json_decref_p) json_t *table = NULL;
        int64_t in_force = 0, wanted;
        int r = ops->in_force(g->control, &in_force, &ctx->err);

        if (r < 0)
                return r;
        if (in_force == g->generation) {
                *ret = in_force;
                return 0;
        }
        if (in_force > g->generation)
                return raise_above(ctx, g->control, in_force);
        r = read_table(ctx, g->control, &table);
        if (r < 0)
                return r;
        wanted = json_integer_value(json_object_get(table, "generation"));
        r = ops->put(g->control, table, &ctx->err);
        if (r == 0)
                r = ops->in_force(g->control, &in_force, &ctx->err);
        if (r == 0 && in_force != wanted)
                r = ctx_fail(ctx, MLC_E_CONFLICT,
                             "gateway '%s' took generation %" PRId64 " and has %" PRId64
                             " in force",
                             g->control, wanted, in_force);
        if (r < 0)
                return r;
        *ret = in_force;
        return 0;
}

static int tend(struct mlc_ctx *ctx, const struct gateway *g)
{
        const struct traffic_ops *ops = traffic_find(g->driver);
        int64_t in_force = 0;
        int r;

        if (ops == NULL)
                return ctx_fail(ctx, MLC_E_NOT_SUPPORTED, "there is no traffic driver '%s'",
                                g->driver);
        r = bring_up(ctx, ops, g, &in_force);
        if (r == 0 && in_force > g->applied) {
                r = write_applied(ctx, g->control, in_force);
                work_wake(ctx->app, ROLLOUT_TASK);
        }
        if (r == 0 && in_force > 0 && g->leased && ops->lease != NULL)
                r = ops->lease(g->control, in_force, ROLLOUT_LEASE_MS, &ctx->err);
        return r;
}

static void note_problem(struct mlc_ctx *ctx, const struct gateway *g)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx other = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};

        mlc_log_err(MLC_LOG_WARN, ctx->trace, "rollout.gateway_failed", &ctx->err);
        mlc_ctx_init(&other, ctx->app, ROLLOUT_GATEWAY_TASK, ROLLOUT_JOB_ARENA, 5000);
        if (db_tx_begin(&other, &tx) == 0 &&
            db_run(&tx, SQL_GATEWAY_PROBLEM, NULL, DB_TEXT(g->control), DB_TEXT(ctx->err.msg)) ==
                    0 &&
            db_tx_commit(&tx) == 0)
                return;
        mlc_log_err(MLC_LOG_ERROR, other.trace, "rollout.gateway_failed", &other.err);
}

/* --- each gateway in a job of its own: one that hangs delays no other --- */

static int list(struct mlc_ctx *ctx, struct gateway **ret, size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct gateway *g;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_GATEWAY_LIST, &rows);
        if (r < 0)
                return r;
        g = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*g));
        if (g == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                g[i] = (struct gateway){.control = db_text_dup(ctx, &rows, i, 0),
                                        .driver = db_text_dup(ctx, &rows, i, 1),
                                        .generation = db_int(&rows, i, 2),
                                        .applied = db_int(&rows, i, 3),
                                        .leased = db_bool(&rows, i, 5)};
                if (g[i].control == NULL || g[i].driver == NULL)
                        return ctx->err.code;
        }
        *ret = g;
        *ret_n = (size_t)rows.n;
        return 0;
}

static void tend_job(struct app *app, void *userdata)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        struct gateway *gateways;
        size_t n = 0;

        mlc_ctx_init(&ctx, app, ROLLOUT_GATEWAY_TASK, ROLLOUT_JOB_ARENA, 15000);
        if (list(&ctx, &gateways, &n) < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "rollout.gateway_failed", &ctx.err);
        for (size_t i = 0; i < n; i++)
                if (mlc_streq(gateways[i].control, userdata) && work_is_leader(app) &&
                    tend(&ctx, &gateways[i]) < 0)
                        note_problem(&ctx, &gateways[i]);
}

int rollout_gateways(struct mlc_ctx *ctx)
{
        struct gateway *gateways;
        size_t n;
        int r = list(ctx, &gateways, &n);

        for (size_t i = 0; r == 0 && i < n; i++) {
                const char *key = ctx_printf(ctx, "tend %s", gateways[i].control);
                char *control = strdup(gateways[i].control);

                if (key == NULL || control == NULL ||
                    !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                        .again = true,
                                                                        .run = tend_job,
                                                                        .free = free,
                                                                        .userdata = control}))
                        free(control);
        }
        return r;
}

struct question {
        char *control, *driver;
        json_t *routes;
};

static void question_free(void *userdata)
{
        struct question *q = userdata;

        free(q->control);
        free(q->driver);
        json_decref(q->routes);
        free(q);
}

static void ask_job(struct app *app, void *userdata)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        struct question *q = userdata;
        json_t *stats = NULL;

        mlc_ctx_init(&ctx, app, ROLLOUT_TASK, ROLLOUT_JOB_ARENA, 10000);
        if (gateway_stats(&ctx, &(struct gateway_ask){q->control, q->driver, q->routes}, &stats) <
            0)
                stats = json_string(ctx.err.msg);
        rollout_jobs_answer(app, q->control, stats);
}

static void ask(struct mlc_ctx *ctx, const struct gateway *g, const struct db_rows *watched)
{
        const char *key = ctx_printf(ctx, "ask %s", g->control);
        struct question *q = calloc(1, sizeof(*q));

        if (q == NULL)
                abort();
        q->control = strdup(g->control);
        q->driver = strdup(g->driver);
        q->routes = json_array();
        for (int i = 0; i < watched->n; i++)
                if (mlc_streq(db_text(watched, i, 0), g->control))
                        (void)json_array_append_new(q->routes, json_string(db_text(watched, i, 1)));
        if (key == NULL || q->control == NULL || q->driver == NULL || q->routes == NULL ||
            !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                .run = ask_job,
                                                                .free = question_free,
                                                                .userdata = q}))
                question_free(q);
}

static int read_watched(struct mlc_ctx *ctx, struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        return r < 0 ? r : db_run0(&tx, SQL_GATEWAY_WATCHED, ret);
}

int gateways_ask(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows watched = {0};
        struct gateway *gateways;
        size_t n;
        int r = list(ctx, &gateways, &n);

        if (r == 0)
                r = read_watched(ctx, &watched);
        for (size_t i = 0; r == 0 && i < n; i++)
                if (gateways[i].leased)
                        ask(ctx, &gateways[i], &watched);
        return r;
}

int gateway_stats(struct mlc_ctx *ctx, const struct gateway_ask *q, json_t **ret)
{
        const struct traffic_ops *ops = traffic_find(q->driver);

        if (ops == NULL)
                return ctx_fail(ctx, MLC_E_NOT_SUPPORTED, "there is no traffic driver '%s'",
                                q->driver);
        return ops->stats(q->control, q->routes, ret, &ctx->err);
}
