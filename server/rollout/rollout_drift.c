/* SPDX-License-Identifier: Apache-2.0 */
/* What instances really have, against what they shall have. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "client/parallel.h"
#include "codec/hex.h"
#include "gen/rollout.sql.h"
#include "rollout/drift.h"
#include "rollout/rollout_internal.h"

#define ASK_MS 15000 /* for one instance */
#define RETIRED_MAX 20 /* names taken down last that are asked for */

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* An instance with its names. */
struct instance {
        const char *target, *url, *driver;
        json_t *settings; /* owned: {"serving","instance"} */
        json_t *found; /* owned */
        struct drift_expected *expected;
        size_t n_expected;
        struct mlc_serving_model *retired;
        size_t n_retired;
};

static void add_name(struct instance *in, const struct mlc_serving_model *m, const char *state,
                     const char *tree)
{
        struct drift_expected *e;

        if (mlc_streq(state, "gone")) {
                if (in->n_retired < RETIRED_MAX)
                        in->retired[in->n_retired++] = *m;
                return;
        }
        e = &in->expected[in->n_expected++];
        *e = (struct drift_expected){.model = *m, .optional = !mlc_streq(state, "ready")};
        e->unknown = !mlc_hex_decode(tree, e->tree.b, sizeof(e->tree.b));
}

static int read_names(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                      const char *settings, struct instance *in)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_DRIFT_SERVED, &rows, DB_TEXT(environment), DB_TEXT(in->target),
                       DB_TEXT(in->url), DB_TEXT(in->driver), DB_TEXT(settings));

        if (r < 0)
                return r;
        in->expected = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*in->expected));
        in->retired = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*in->retired));
        if (in->expected == NULL || in->retired == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                const struct mlc_serving_model m = {.name = db_text_dup(ctx, &rows, i, 0),
                                                    .model = db_text_dup(ctx, &rows, i, 1),
                                                    .version =
                                                            (unsigned long long)db_int(&rows, i, 2),
                                                    .digest = db_text_dup(ctx, &rows, i, 3)};

                if (m.name == NULL || m.model == NULL || m.digest == NULL)
                        return ctx->err.code;
                add_name(in, &m, db_text(&rows, i, 4), db_text(&rows, i, 5));
        }
        return rollout_parse(ctx, settings, &in->settings);
}

static int read_instances(struct mlc_ctx *ctx, const char *environment, struct instance **ret,
                          size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_DRIFT_INSTANCES, &rows, DB_TEXT(environment));
        if (r < 0)
                return r;
        *ret = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(**ret));
        if (*ret == NULL)
                return ctx->err.code;
        for (int i = 0; r == 0 && i < rows.n; i++) {
                struct instance *in = &(*ret)[i];

                *in = (struct instance){.target = db_text_dup(ctx, &rows, i, 0),
                                        .url = db_text_dup(ctx, &rows, i, 1),
                                        .driver = db_text_dup(ctx, &rows, i, 2)};
                *ret_n = (size_t)i + 1;
                if (in->target == NULL || in->url == NULL || in->driver == NULL)
                        return ctx->err.code;
                r = read_names(ctx, &tx, environment, db_text(&rows, i, 3), in);
        }
        return r;
}

static int ask_instance(struct mlc_ctx *ctx, const char *environment, struct instance *i)
{
        const json_t *serving = json_object_get(i->settings, "serving");
        const char *repository = text_of(
                json_object_get(json_object_get(i->settings, "instance"), "repository"), "dir");
        const struct mat_place place = serving_place(ctx->app, repository);
        const struct mlc_serving_call call = {.url = i->url,
                                              .settings = serving,
                                              .environment = environment,
                                              .target = i->target,
                                              .deadline_ms = mlc_monotonic_ms() + ASK_MS,
                                              .egress = serving_egress,
                                              .sign = serving_sign,
                                              .secret = serving_secret,
                                              .userdata = ctx};
        const struct drift_in in = {.ops = mlc_serving_find(i->driver),
                                    .call = &call,
                                    .place = repository != NULL ? &place : NULL,
                                    .expected = i->expected,
                                    .n_expected = i->n_expected,
                                    .retired = i->retired,
                                    .n_retired = i->n_retired};
        struct drift_seen seen;
        int r;

        if (in.ops == NULL)
                return ctx_fail(ctx, MLC_E_NOT_SUPPORTED, "there is no serving driver '%s'",
                                i->driver);
        r = drift_look(&in, &ctx->arena, &seen, &ctx->err);
        if (r < 0)
                return r;
        i->found = drift_compare(&in, &seen);
        return 0;
}

struct asking {
        const struct mlc_ctx *ctx; /* of whoever asked */
        const char *environment;
        struct instance *instances;
};

static int ask_one(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        const struct asking *a = userdata;
        int r;

        (void)worker;
        mlc_ctx_init(&ctx, a->ctx->app, a->ctx->operation, ROLLOUT_JOB_ARENA, ASK_MS);
        memcpy(ctx.trace, a->ctx->trace, sizeof(ctx.trace));
        r = ask_instance(&ctx, a->environment, &a->instances[i]);
        if (r < 0)
                *err = ctx.err;
        return r;
}

int drift_environment(struct mlc_ctx *ctx, const char *environment, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *report = json_array();
        struct instance *instances = NULL;
        size_t n = 0;
        int r = read_instances(ctx, environment, &instances, &n);
        struct asking a = {.ctx = ctx, .environment = environment, .instances = instances};

        /* side by side: those that hang delay what is found of the others by one of their times */
        if (r == 0)
                r = mlc_parallel_run(&(struct mlc_parallel){.run = ask_one,
                                                            .userdata = &a,
                                                            .n = n,
                                                            .threads = MLC_PARALLEL_MAX},
                                     &ctx->err);
        for (size_t i = 0; i < n; i++) {
                if (r == 0 && json_array_extend(report, instances[i].found) < 0)
                        r = ctx_fail(ctx, MLC_E_INTERNAL, "a report cannot be written");
                json_decref(instances[i].found);
                json_decref(instances[i].settings);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(report);
        return 0;
}

/* --- the leader's task --- */

static int remember(struct mlc_ctx *ctx, const char *environment, const json_t *report)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *text = rollout_text(ctx, report);
        bool clean = drift_clean(report);
        int r;

        if (text == NULL)
                return ctx->err.code;
        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_DRIFT_SET, &rows, DB_TEXT(environment), DB_BOOL(clean),
                           DB_TEXT(text));
        if (r == 0)
                r = db_tx_commit(&tx);
        if (r == 0 && db_bool(&rows, 0, 0) && !clean)
                log_warn(ctx->trace, "serving.drift", KV_STR("environment", environment),
                         KV_STR("report", text));
        return r;
}

static void job(struct app *app, void *userdata)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r;

        mlc_ctx_init(&ctx, app, ROLLOUT_DRIFT_TASK, ROLLOUT_JOB_ARENA, 300000);
        r = drift_environment(&ctx, userdata, &report);
        if (r == 0)
                r = remember(&ctx, userdata, report);
        if (r < 0)
                mlc_log_err(MLC_LOG_ERROR, ctx.trace, "rollout.drift_failed", &ctx.err);
}

int rollout_drift(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_DRIFT_ENVIRONMENTS, &rows);
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++) {
                const char *key = ctx_printf(ctx, "drift %s", db_text(&rows, i, 0));
                char *environment = strdup(db_text(&rows, i, 0));

                if (key == NULL || environment == NULL ||
                    !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                        .run = job,
                                                                        .free = free,
                                                                        .userdata = environment}))
                        free(environment);
        }
        return r;
}
