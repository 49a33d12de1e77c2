/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to open promotions, and to what is live, when documents or evaluations change. */
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"
#include "registry/registry.h"

struct rename {
        const char *environment, *before, *now; /* aliases; NULL for none */
        const char *heir; /* environment that has the one before now, or NULL */
};

static int rename_one(struct mlc_ctx *ctx, struct db_tx *tx, const struct rename *n,
                      const char *model, int64_t version)
{
        struct gate_live live = {0};
        struct mlc_ref m = {0};
        int r = promotion_model(ctx, "/model", model, &m);

        if (r == 0 && n->now != NULL)
                r = registry_alias_move(ctx, tx, m.ns, m.model, n->now, version);
        if (r == 0 && n->heir != NULL)
                r = promotion_live(ctx, tx, n->heir, model, &live);
        if (r == 0 && n->before != NULL && live.number == 0 && (n->now != NULL || n->heir != NULL))
                r = registry_alias_drop(ctx, tx, m.ns, m.model, n->before);
        return r < 0 ? mlc_wrap(&ctx->err, "'%s' is live in '%s', and its alias moves with it",
                                model, n->environment)
                     : 0;
}

/* The alias of an environment is another one: it names what is live from the same COMMIT on. The
 * one before goes, unless what is live in an environment that takes it over has it; without another
 * one it stays, and is free. */
static int rename_alias(struct mlc_ctx *ctx, struct db_tx *tx, struct rename *n)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = n->now != NULL ? gate_alias_claim(ctx, tx, n->environment, n->now) : 0;

        if (r == 0 && n->before != NULL)
                r = gate_alias_environment(ctx, tx, n->before, &n->heir);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_LIVE_OF, &rows, DB_TEXT(n->environment));
        for (int i = 0; r == 0 && i < rows.n; i++)
                r = rename_one(ctx, tx, n, db_text(&rows, i, 0), db_int(&rows, i, 1));
        return r;
}

static int environment_changed(struct mlc_ctx *ctx, struct db_tx *tx, const char *name)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct rename n = {.environment = name};
        struct gate_document d;
        int r = gate_document_get(ctx, tx, "Environment", name, &d);

        if (r == 0)
                r = gate_document_json(ctx, &d, &doc);
        if (r == 0)
                r = promotion_window_check(ctx, tx, doc);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_ALIAS_BEFORE, &rows, DB_TEXT(name));
        if (r < 0)
                return r;
        n.now = json_string_value(json_object_get(doc, "alias"));
        if (rows.n > 0 && db_text(&rows, 0, 0)[0] != '\0')
                n.before = db_text(&rows, 0, 0);
        if (!mlc_streq(n.now, n.before))
                r = rename_alias(ctx, tx, &n);
        return r < 0 ? r : db_run(tx, SQL_PROMOTION_STALE_ENVIRONMENT, NULL, DB_TEXT(name));
}

int promotion_changing(struct mlc_ctx *ctx, struct db_tx *tx)
{
        (void)ctx;
        return db_run0(tx, SQL_PROMOTION_NEWS_LOCK, NULL);
}

int promotion_changed(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_news *news)
{
        int r;

        if (mlc_streq(news->what, "evaluation")) {
                /* a promotion that begins now is either seen here, or sees the evaluation */
                r = db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(news->model));
                return r < 0 ? r
                             : db_run(tx, SQL_PROMOTION_STALE_MODEL, NULL, DB_TEXT(news->model),
                                      DB_TEXT(""));
        }
        r = db_run0(tx, SQL_PROMOTION_NEWS_LOCK, NULL);
        if (r < 0)
                return r;
        if (mlc_streq(news->kind, "Environment"))
                return environment_changed(ctx, tx, news->name);
        if (mlc_streq(news->kind, "Model"))
                return db_run(tx, SQL_PROMOTION_STALE_MODEL, NULL, DB_TEXT(news->name),
                              DB_TEXT(""));
        if (mlc_streq(news->kind, "Policy"))
                return db_run0(tx, SQL_PROMOTION_STALE_ALL, NULL);
        return 0;
}
