/* SPDX-License-Identifier: Apache-2.0 */
/* Instances that have lost what they had (they were started anew), or that do not answer for it:
 * traffic goes to the others, and what is lost is loaded again. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "client/call.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

#define NAME_MS 3000 /* for one answer */
#define CONFIRM_MS 300 /* one bad answer is none */
#define NAMES_MAX 5000

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* {"environment","target","instance","driver","settings"} */
static struct mlc_serving_call call_of(struct mlc_ctx *ctx, const json_t *in,
                                       const json_t *settings, struct mlc_caller *caller)
{
        return (struct mlc_serving_call){.url = text_of(in, "instance"),
                                         .settings = json_object_get(settings, "serving"),
                                         .environment = text_of(in, "environment"),
                                         .target = text_of(in, "target"),
                                         .egress = serving_egress,
                                         .sign = serving_sign,
                                         .secret = serving_secret,
                                         .userdata = ctx,
                                         .caller = caller};
}

struct watched {
        struct mlc_serving_model m;
        bool doubtful; /* it did not answer for it at the last look */
        const char *address; /* that answered then */
};

static int read_names(struct mlc_ctx *ctx, const json_t *in, struct watched **ret, size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_SERVED_WATCHED_NAMES, &rows,
                           DB_TEXT(text_of(in, "environment")), DB_TEXT(text_of(in, "target")),
                           DB_TEXT(text_of(in, "instance")));
        if (r < 0)
                return r;
        *ret = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(**ret));
        if (*ret == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n && i < NAMES_MAX; i++) {
                struct watched *w = &(*ret)[i];

                *w = (struct watched){.m = {.name = db_text_dup(ctx, &rows, i, 0),
                                            .model = db_text_dup(ctx, &rows, i, 1),
                                            .version = (unsigned long long)db_int(&rows, i, 2),
                                            .digest = db_text_dup(ctx, &rows, i, 3)},
                                      .doubtful = db_bool(&rows, i, 4),
                                      .address = db_text_dup(ctx, &rows, i, 5)};
                if (w->m.name == NULL || w->m.model == NULL || w->m.digest == NULL ||
                    w->address == NULL)
                        return ctx->err.code;
                *ret_n = (size_t)i + 1;
        }
        return 0;
}

struct change {
        const json_t *in;
        const struct watched *w;
        const struct mlc_serving_result *found;
        bool happened;
};

static bool is_lost(const struct mlc_serving_result *found)
{
        return found->outcome == MLC_SERVING_NOT_FOUND || found->outcome == MLC_SERVING_NOT_READY;
}

static int write_change(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct change *c = userdata;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *environment = text_of(c->in, "environment"), *problem = NULL;
        int r = rollout_still(ctx, tx, environment, c->w->m.model);

        if (c->found->outcome != MLC_SERVING_OK) {
                problem = ctx_printf(ctx, "%.900s",
                                     c->found->text[0] != '\0' ? c->found->text : "is not ready");
                if (problem == NULL)
                        return ctx->err.code;
        }
        if (r == 0 && is_lost(c->found))
                r = db_run(tx, SQL_SERVED_LOST, &rows, DB_TEXT(environment),
                           DB_TEXT(text_of(c->in, "target")), DB_TEXT(text_of(c->in, "instance")),
                           DB_TEXT(c->w->m.name), DB_TEXT(problem));
        else if (r == 0)
                r = db_run(tx, SQL_SERVED_DOUBTFUL, &rows, DB_TEXT(environment),
                           DB_TEXT(text_of(c->in, "target")), DB_TEXT(text_of(c->in, "instance")),
                           DB_TEXT(c->w->m.name), DB_TEXT(problem));
        c->happened = rows.n > 0;
        return r < 0 || !c->happened ? r : rollout_follow(ctx, tx, environment, c->w->m.model);
}

static int write_address(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct change *c = userdata;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *environment = text_of(c->in, "environment");
        int r = rollout_still(ctx, tx, environment, c->w->m.model);

        if (r == 0)
                r = db_run(tx, SQL_SERVED_MOVED, &rows, DB_TEXT(environment),
                           DB_TEXT(text_of(c->in, "target")), DB_TEXT(text_of(c->in, "instance")),
                           DB_TEXT(c->w->m.name), DB_TEXT(c->found->peer));
        c->happened = rows.n > 0;
        return r < 0 || !c->happened ? r : rollout_follow(ctx, tx, environment, c->w->m.model);
}

/* Its name leads elsewhere now. */
static int move(struct mlc_ctx *ctx, struct change *c)
{
        int r = db_tx_retry(ctx, write_address, c);

        if (r < 0 || !c->happened)
                return r;
        rollout_wake(ctx);
        log_info(ctx->trace, "serving.moved", KV_STR("instance", text_of(c->in, "instance")),
                 KV_STR("name", c->w->m.name), KV_STR("address", c->found->peer));
        return 0;
}

static int change(struct mlc_ctx *ctx, const json_t *in, const struct watched *w,
                  const struct mlc_serving_result *found)
{
        struct change c = {.in = in, .w = w, .found = found};
        int r = 0;

        if (found->outcome == MLC_SERVING_OK && found->peer[0] != '\0' &&
            !mlc_streq(found->peer, w->address))
                r = move(ctx, &c);
        if (r < 0)
                return r;
        if (found->outcome != MLC_SERVING_OK ? w->doubtful && !is_lost(found) : !w->doubtful)
                return 0;
        c.happened = false;
        r = db_tx_retry(ctx, write_change, &c);
        if (r < 0 || !c.happened)
                return r;
        rollout_wake(ctx);
        if (found->outcome == MLC_SERVING_OK)
                log_info(ctx->trace, "serving.answers_again",
                         KV_STR("instance", text_of(in, "instance")), KV_STR("name", w->m.name));
        else
                log_warn(ctx->trace, is_lost(found) ? "serving.lost" : "serving.silent",
                         KV_STR("instance", text_of(in, "instance")), KV_STR("name", w->m.name),
                         KV_STR("reason", found->text));
        return 0;
}

static void ask(const struct mlc_serving_ops *ops, struct mlc_serving_call *call,
                const struct watched *w, struct mlc_serving_result *ret)
{
        /* of several addresses of a name the same one, as long as it is one of them and answers */
        if (mlc_url_leads_to(call->url, w->address)) {
                call->address = w->address;
                call->deadline_ms = mlc_monotonic_ms() + NAME_MS;
                ops->ready(call, &w->m, ret);
                call->address = NULL;
                if (ret->outcome == MLC_SERVING_OK)
                        return;
        }
        for (int i = 0; i < 2; i++) {
                call->deadline_ms = mlc_monotonic_ms() + NAME_MS;
                ops->ready(call, &w->m, ret);
                if (ret->outcome == MLC_SERVING_OK || w->doubtful)
                        return;
                if (i == 0)
                        mlc_sleep_ms(CONFIRM_MS);
        }
}

static int look(struct mlc_ctx *ctx, const json_t *in)
{
        const struct mlc_serving_ops *ops = mlc_serving_find(text_of(in, "driver"));
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        _cleanup_(json_decref_p) json_t *settings = NULL;
        struct mlc_serving_result found = {0};
        struct mlc_serving_call call;
        struct watched *names = NULL;
        size_t n = 0;
        int r = rollout_parse(ctx, text_of(in, "settings"), &settings);

        if (r == 0)
                r = read_names(ctx, in, &names, &n);
        if (r < 0 || ops == NULL)
                return r;
        mlc_caller_new(&caller);
        call = call_of(ctx, in, settings, caller);
        for (size_t i = 0; r == 0 && i < n && !rollout_jobs_cancelled(ctx->app); i++) {
                /* who does not answer at all is not asked for each name */
                if (i == 0 || found.outcome != MLC_SERVING_UNREACHABLE)
                        ask(ops, &call, &names[i], &found);
                if (!rollout_jobs_cancelled(ctx->app))
                        r = change(ctx, in, &names[i], &found);
        }
        return r;
}

static void job(struct app *app, void *userdata)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};

        mlc_ctx_init(&ctx, app, ROLLOUT_WATCH_TASK, ROLLOUT_JOB_ARENA, 300000);
        if (look(&ctx, userdata) < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "rollout.watch_failed", &ctx.err);
}

static void job_free(void *userdata)
{
        json_decref(userdata);
}

int rollout_watch(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_SERVED_WATCHED, &rows);
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++) {
                json_t *in =
                        json_pack("{s:s, s:s, s:s, s:s, s:s}", "environment", db_text(&rows, i, 0),
                                  "target", db_text(&rows, i, 1), "instance", db_text(&rows, i, 2),
                                  "driver", db_text(&rows, i, 3), "settings", db_text(&rows, i, 4));
                const char *key = ctx_printf(ctx, "watch %s %s %s", db_text(&rows, i, 0),
                                             db_text(&rows, i, 1), db_text(&rows, i, 2));

                if (key == NULL ||
                    !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                        .run = job,
                                                                        .free = job_free,
                                                                        .userdata = in}))
                        json_decref(in);
        }
        return r;
}
