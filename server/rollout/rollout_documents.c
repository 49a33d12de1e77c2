/* SPDX-License-Identifier: Apache-2.0 */
/* What is live follows its documents: routes and instances that came, changed or went. */
#include "gen/rollout.sql.h"
#include "promotion/promotion.h"
#include "rollout/rollout_internal.h"

/* Of one that is live without a rollout that goes on; that one follows at its end. */
struct settled {
        const char *environment, *model, *digest;
        int64_t version;
};

/* What stands for it as far as splits and instances ask. */
static int stand_in(struct mlc_ctx *ctx, const struct settled *s, struct rollout *ret)
{
        char *ns = ctx_strdup(ctx, s->model), *slash = ns != NULL ? strchr(ns, '/') : NULL;

        if (slash == NULL)
                return ctx->err.code < 0 ? ctx->err.code
                                         : ctx_fail(ctx, MLC_E_INTERNAL, "no model is live");
        *slash = '\0';
        *ret = (struct rollout){.id = "live",
                                .model = s->model,
                                .ns = ns,
                                .name = slash + 1,
                                .environment = s->environment,
                                .digest = s->digest,
                                .version = s->version};
        return 0;
}

static int instances(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r)
{
        _cleanup_(json_decref_p) json_t *environment = NULL;
        struct gate_document d;
        int e = gate_document_get(ctx, tx, "Environment", r->environment, &d);

        if (e == 0)
                e = gate_document_json(ctx, &d, &environment);
        if (e == 0)
                e = served_want(ctx, tx, r, environment);
        return e < 0 ? e : served_leave(ctx, tx, r, environment);
}

/* Of an environment, a model, or one model in one environment. */
static int follow(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment, const char *model,
                  bool with_instances)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_ROLLOUT_SETTLED, &rows, DB_TEXT(environment), DB_TEXT(model),
                       DB_BOOL(!with_instances));

        for (int i = 0; e == 0 && i < rows.n; i++) {
                const struct settled s = {.environment = db_text_dup(ctx, &rows, i, 0),
                                          .model = db_text_dup(ctx, &rows, i, 1),
                                          .version = db_int(&rows, i, 2),
                                          .digest = db_text_dup(ctx, &rows, i, 3)};
                struct rollout r;

                if (s.environment == NULL || s.model == NULL || s.digest == NULL)
                        return ctx->err.code;
                e = stand_in(ctx, &s, &r);
                if (e == 0 && with_instances)
                        e = instances(ctx, tx, &r);
                if (e == 0)
                        e = split_settle(ctx, tx, &r, s.version);
        }
        return e;
}

int rollout_settle(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_ROLLOUT_LIVE, &rows, DB_TEXT(r->environment), DB_TEXT(r->model));

        if (e < 0)
                return e;
        return rows.n == 0 ? split_settle(ctx, tx, r, 0)
                           : follow(ctx, tx, r->environment, r->model, true);
}

int rollout_still(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment, const char *model)
{
        int e = promotion_still(ctx, tx, model);

        return e < 0 ? e
                     : db_run(tx, SQL_ROLLOUT_LOCK_ACTIVE, NULL, DB_TEXT(model),
                              DB_TEXT(environment));
}

int rollout_follow(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                   const char *model)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(rollout_done) struct rollout r = {0};
        int e = db_run(tx, SQL_ROLLOUT_FIND_ACTIVE, &rows, DB_TEXT(model), DB_TEXT(environment));

        if (e == 0 && rows.n > 0)
                e = rollout_load(ctx, tx, db_text(&rows, 0, 0), true, &r);
        if (e < 0)
                return e;
        if (r.id == NULL || mlc_streq(r.state, "preparing"))
                return follow(ctx, tx, environment, model, false);
        return split_rollout(ctx, tx, &r, rollout_weight(&r, r.step));
}

int rollout_changed(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_news *news)
{
        if (!mlc_streq(news->what, "document"))
                return 0;
        if (mlc_streq(news->kind, "Environment"))
                return follow(ctx, tx, news->name, NULL, true);
        return mlc_streq(news->kind, "Model") ? follow(ctx, tx, NULL, news->name, true) : 0;
}
