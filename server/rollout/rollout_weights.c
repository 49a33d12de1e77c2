/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers that want to know get the weights of each split that a gateway has in force. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

#define DUE_MAX 200
#define INSTANCE_JOBS 4 /* at once, for one instance */
#define CALL_MS 10000

struct telling {
        json_t *row; /* owned: texts of the columns before the generation */
        json_t *settings, *entry; /* owned */
        int64_t generation, tries;
};

static void telling_free(void *userdata)
{
        struct telling *t = userdata;

        json_decref(t->row);
        json_decref(t->settings);
        json_decref(t->entry);
        free(t);
}

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* {"route","generation","weights":[{"name","version","weight"}…]}, the caller's. */
static json_t *weights_of(const struct telling *t)
{
        json_t *list = json_array();
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(t->entry, "variants"), i, v)
                (void)json_array_append_new(list, json_pack("{s:O, s:O, s:O}", "name",
                                                            json_object_get(v, "model"), "version",
                                                            json_object_get(v, "version"), "weight",
                                                            json_object_get(v, "weight")));
        return json_pack("{s:s, s:I, s:o}", "route", text_of(t->row, "route"), "generation",
                         (json_int_t)t->generation, "weights", list);
}

static bool cancelled(void *userdata)
{
        const struct mlc_ctx *ctx = userdata;

        return rollout_jobs_cancelled(ctx->app);
}

static void tell(struct mlc_ctx *ctx, const struct telling *t, struct mlc_serving_result *ret)
{
        const json_t *serving = json_object_get(t->settings, "serving");
        const struct mlc_serving_ops *ops = mlc_serving_find(text_of(serving, "driver"));
        _cleanup_(json_decref_p) json_t *weights = weights_of(t);
        const struct mlc_serving_call call = {.url = text_of(t->row, "instance"),
                                              .settings = serving,
                                              .environment = text_of(t->row, "environment"),
                                              .target = text_of(t->row, "target"),
                                              .deadline_ms = mlc_monotonic_ms() + CALL_MS,
                                              .egress = serving_egress,
                                              .cancelled = cancelled,
                                              .sign = serving_sign,
                                              .secret = serving_secret,
                                              .userdata = ctx};

        if (ops != NULL && ops->weights != NULL)
                ops->weights(&call, weights, ret);
}

static int write_result(struct mlc_ctx *ctx, const struct telling *t,
                        const struct mlc_serving_result *result)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        const char *problem = NULL;
        int r;

        if (result->outcome != MLC_SERVING_OK) {
                problem = result->text[0] != '\0' ? result->text
                                                  : mlc_serving_outcome_name(result->outcome);
                log_warn(ctx->trace, "rollout.weights_failed",
                         KV_STR("instance", text_of(t->row, "instance")),
                         KV_STR("route", text_of(t->row, "route")), KV_STR("why", problem));
        }
        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_WEIGHTS_TOLD, NULL, DB_TEXT(text_of(t->row, "environment")),
                           DB_TEXT(text_of(t->row, "target")), DB_TEXT(text_of(t->row, "instance")),
                           DB_TEXT(text_of(t->row, "control")), DB_TEXT(text_of(t->row, "route")),
                           DB_INT(t->generation), DB_TEXT(problem),
                           DB_INT(rollout_retry_ms(t->tries)));
        return r < 0 ? r : db_tx_commit(&tx);
}

static void work(struct app *app, void *userdata)
{
        const struct telling *t = userdata;
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        struct mlc_serving_result result = {0};

        mlc_ctx_init(&ctx, app, ROLLOUT_SERVE_TASK, ROLLOUT_JOB_ARENA, 2 * CALL_MS);
        tell(&ctx, t, &result);
        if (result.outcome != MLC_SERVING_OK && rollout_jobs_cancelled(app))
                return; /* the next leader tells it */
        if (write_result(&ctx, t, &result) < 0)
                mlc_log_err(MLC_LOG_ERROR, ctx.trace, "rollout.weights_failed", &ctx.err);
}

static int read_row(struct mlc_ctx *ctx, const struct db_rows *rows, int i, struct telling *t)
{
        static const char *const keys[] = {"environment", "target", "instance", "control", "route"};
        int r;

        t->row = json_object();
        for (size_t c = 0; c < ARRAY_LEN(keys); c++)
                (void)json_object_set_new(t->row, keys[c], json_string(db_text(rows, i, (int)c)));
        t->generation = db_int(rows, i, 5);
        t->tries = db_int(rows, i, 8);
        r = rollout_parse(ctx, db_text(rows, i, 6), &t->entry);
        return r < 0 ? r : rollout_parse(ctx, db_text(rows, i, 7), &t->settings);
}

static int begin(struct mlc_ctx *ctx, const struct db_rows *rows, int i)
{
        struct telling *t = calloc(1, sizeof(*t));
        const char *key = NULL, *group = NULL;
        int r;

        if (t == NULL)
                abort();
        r = read_row(ctx, rows, i, t);
        if (r == 0)
                key = ctx_printf(ctx, "weights %s %s %s", text_of(t->row, "instance"),
                                 text_of(t->row, "control"), text_of(t->row, "route"));
        if (key != NULL) /* not that of loads, which may take long */
                group = ctx_printf(ctx, "weights %s", text_of(t->row, "instance"));
        if (group == NULL ||
            !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                .group = group,
                                                                .group_max = INSTANCE_JOBS,
                                                                .run = work,
                                                                .free = telling_free,
                                                                .userdata = t}))
                telling_free(t);
        return r < 0 ? r : group != NULL ? 0 : ctx->err.code;
}

int weights_tell(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_WEIGHTS_DUE, &rows, DB_INT(DUE_MAX));
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++)
                r = begin(ctx, &rows, i);
        return r;
}
