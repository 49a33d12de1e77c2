/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "gen/promotion.sql.h"
#include "http/http.h"
#include "promotion/promotion_internal.h"
#include "work/work.h"

void promotion_start(struct app *app)
{
        work_every(app, &(struct work_task){.name = PROMOTION_TASK,
                                            .interval_ms = PROMOTION_STEP_MS,
                                            .timeout_ms = 60000,
                                            .leader_only = true,
                                            .run = promotion_step});
        work_every(app, &(struct work_task){.name = PROMOTION_JUDGE_TASK,
                                            .interval_ms = PROMOTION_STEP_MS,
                                            .timeout_ms = 600000,
                                            .leader_only = true,
                                            .run = promotion_judge_task});
        work_on_leader(app, promotion_lead, NULL);
}

struct creation {
        const struct promotion_in *in;
        struct mlc_ref model;
        const char *repo;
        const char *id;
        bool created;
};

/* The open promotion of this version, or the live one: asking again changes nothing. */
static int find_same(struct mlc_ctx *ctx, struct db_tx *tx, const struct creation *c,
                     const struct promotion_version *v, const char **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_OF_VERSION, &rows, DB_TEXT(c->repo),
                       DB_TEXT(c->in->environment), DB_INT(v->number));

        if (r < 0)
                return r;
        *ret = NULL;
        if (rows.n == 0)
                return 0;
        *ret = db_text_dup(ctx, &rows, 0, 0);
        return *ret != NULL ? 0 : ctx->err.code;
}

/* What another version has open gives way, or keeps this one out. */
static int make_way(struct mlc_ctx *ctx, struct db_tx *tx, const struct creation *c,
                    const char *new_id)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *detail = json_pack("{s:s}", "superseded_by", new_id);
        struct promotion other;
        int r = db_run(tx, SQL_PROMOTION_JUDGED_NOW, &rows, DB_TEXT(c->repo),
                       DB_TEXT(c->in->environment));

        if (r < 0 || rows.n == 0)
                return r;
        if (!c->in->supersede)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/version",
                                      "promotion '%s' of version %" PRId64
                                      " is open for '%s': cancel it, wait, or supersede it",
                                      db_text(&rows, 0, 0), db_int(&rows, 0, 1),
                                      c->in->environment);
        r = promotion_load(ctx, tx, db_text(&rows, 0, 0), true, &other);
        return r < 0 ? r : promotion_move(ctx, tx, &other, "superseded", detail);
}

static int insert(struct mlc_ctx *ctx, struct db_tx *tx, struct creation *c,
                  const struct promotion_version *v)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char reason[72];
        int r = db_run0(tx, SQL_PROMOTION_NEXT_ID, &rows);

        if (r < 0)
                return r;
        c->id = db_text_dup(ctx, &rows, 0, 0);
        if (c->id == NULL)
                return ctx->err.code;
        r = make_way(ctx, tx, c, c->id);
        if (r == 0)
                r = audit_commit_pii(ctx, tx, ctx->principal->user, c->in->reason, reason);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_INSERT, NULL, DB_TEXT(c->id), DB_INT(v->id),
                           DB_TEXT(c->repo), DB_INT(v->number), DB_TEXT(v->digest),
                           DB_TEXT(c->in->environment), DB_TEXT(ctx->principal->user),
                           DB_TEXT(reason));
        if (r < 0)
                return r;
        c->created = true;
        return promotion_record(ctx, tx,
                                &(struct promotion_event){.action = "promotion.create",
                                                          .kind = "promotion",
                                                          .id = c->id,
                                                          .model = c->repo},
                                NULL);
}

static int create(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct creation *c = userdata;
        _cleanup_(json_decref_p) json_t *environment = NULL;
        struct promotion_version v;
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        c->created = false;
        if (r == 0)
                r = promotion_version_find(ctx, tx, &c->model, c->in->version, &v);
        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(c->repo));
        if (r == 0)
                r = promotion_environment(ctx, tx, c->in->environment, &environment);
        if (r < 0)
                return r;
        if (mlc_streq(v.status, "withdrawn"))
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/version",
                                      "version '%s:%" PRId64
                                      "' is withdrawn: it is promoted nowhere",
                                      c->repo, v.number);
        r = find_same(ctx, tx, c, &v, &c->id);
        if (r < 0 || c->id != NULL)
                return r;
        return insert(ctx, tx, c, &v);
}

int promotion_create(struct mlc_ctx *ctx, const struct promotion_in *in, const char **ret_id,
                     bool *ret_created)
{
        struct creation c = {.in = in};
        int r = promotion_model(ctx, "/model", in->model, &c.model);

        if (r < 0)
                return r;
        if (!auth_may_read(ctx->principal, c.model.ns))
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/model", "there is no model '%s'",
                                      in->model);
        if ((auth_roles(ctx->principal, c.model.ns) & (AUTH_CONTRIBUTOR | AUTH_OPERATOR)) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "promoting models of '%s' needs the role contributor or operator "
                                "there",
                                c.model.ns);
        c.repo = ctx_printf(ctx, "%s/%s", c.model.ns, c.model.model);
        if (c.repo == NULL)
                return ctx->err.code;
        r = db_tx_retry(ctx, create, &c);
        if (r < 0)
                return r;
        *ret_id = c.id;
        *ret_created = c.created;
        return 0;
}

/* --- cancelling --- */

struct cancelling {
        const char *id, *reason;
};

static int cancel(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct cancelling *c = userdata;
        _cleanup_(json_decref_p) json_t *detail = NULL;
        struct promotion p;
        char reason[72];
        int r = promotion_load(ctx, tx, c->id, true, &p);

        if (r < 0)
                return r;
        if (!mlc_streq(p.requested_by, ctx->principal->user) &&
            (auth_roles(ctx->principal, p.ns) & AUTH_OPERATOR) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "only who asked for promotion '%s' or an operator cancels it",
                                c->id);
        if (mlc_streq(p.state, "cancelled"))
                return 0;
        if (!promotion_is_open(p.state))
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "promotion '%s' is %s: it cannot be cancelled%s", c->id, p.state,
                                mlc_streq(p.state, "live") ? ", roll back instead" : "");
        r = audit_commit_pii(ctx, tx, ctx->principal->user, c->reason, reason);
        if (r < 0)
                return r;
        detail = json_pack("{s:s}", "reason", reason);
        return promotion_move(ctx, tx, &p, "cancelled", detail);
}

int promotion_cancel(struct mlc_ctx *ctx, const char *id, const char *reason)
{
        return db_tx_retry(ctx, cancel, &(struct cancelling){id, reason});
}
