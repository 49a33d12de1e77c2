/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "gen/registry.sql.h"
#include "http/http.h"
#include "promotion/promotion.h"
#include "registry/registry_internal.h"

static json_t *state_json(const struct registry_name *name, const char *alias,
                          const struct registry_alias_state *s)
{
        if (s->number == 0)
                return NULL;
        return json_pack("{s:s, s:s, s:I, s:s}", "model", name->repo, "alias", alias, "version",
                         (json_int_t)s->number, "digest", s->digest);
}

/* The present state, held until the transaction ends. */
static int lock(struct mlc_ctx *ctx, struct db_tx *tx, int64_t model_id, const char *alias,
                struct registry_alias_state *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_alias_state s = {0};
        int r;

        (void)ctx;
        r = db_run(tx, SQL_ALIAS_LOCK, &rows, DB_INT(model_id), DB_TEXT(alias));
        if (r < 0)
                return r;
        if (rows.n > 0) {
                s.number = db_int(&rows, 0, 0);
                (void)snprintf(s.digest, sizeof(s.digest), "%s", db_text(&rows, 0, 1));
        }
        *ret = s;
        return 0;
}

/* What is recorded of a change: leaf and history, which name the same moment. */
struct change {
        const struct registry_name *name;
        const char *alias;
        int64_t model_id;
        struct registry_alias_state before, after;
};

static int record_change(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *before = state_json(c->name, c->alias, &c->before);
        _cleanup_(json_decref_p) json_t *after = state_json(c->name, c->alias, &c->after);
        _cleanup_(json_decref_p) json_t *detail = NULL;
        struct audit_entry e = {.action = after != NULL ? "alias.set" : "alias.delete",
                                .kind = "alias",
                                .before = before,
                                .after = after,
                                .model = c->name->repo};
        char at[MLC_TIME_MAX], leaf[65];
        int r;

        mlc_time_format(mlc_now_ms(), at);
        detail = json_pack("{s:s}", "at", at);
        e.detail = detail;
        e.id = ctx_printf(ctx, "%s:%s", c->name->repo, c->alias);
        if (e.id == NULL)
                return ctx->err.code;
        r = audit_append(ctx, tx, &e, leaf);
        if (r < 0)
                return r;
        return db_run(tx, SQL_ALIAS_HISTORY_INSERT, NULL, DB_INT(c->model_id), DB_TEXT(c->alias),
                      c->after.number > 0 ? DB_INT(c->after.number) : DB_NULL, DB_TEXT(at),
                      DB_TEXT(ctx->principal != NULL ? ctx->principal->user : "system"),
                      DB_TEXT(leaf));
}

/* If-Match compares version numbers; moving needs it, making does not. */
static int check_match(struct mlc_ctx *ctx, const struct registry_alias_state *s, bool moving)
{
        char value[24];

        (void)snprintf(value, sizeof(value), "%" PRId64, s->number);
        return http_if_match(ctx, s->number > 0 ? value : NULL, moving);
}

static int share_version(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_alias_in *in,
                         struct change *c)
{
        const struct registry_name *name = in->name;
        int64_t number = in->number;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run(tx, SQL_VERSION_SHARE, &rows, DB_TEXT(name->ns), DB_TEXT(name->model),
                   DB_INT(number));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/version",
                                      "version '%s:%" PRId64 "' does not exist", name->repo,
                                      number);
        if (in->mode != REGISTRY_IF_LIVE && strcmp(db_text(&rows, 0, 2), "withdrawn") == 0)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/version",
                                      "version '%s:%" PRId64
                                      "' is withdrawn: no alias can be set to it",
                                      name->repo, number);
        c->model_id = db_int(&rows, 0, 0);
        c->after.number = number;
        (void)snprintf(c->after.digest, sizeof(c->after.digest), "%s", db_text(&rows, 0, 1));
        return 0;
}

/* Makes it where there was none; *ret_made false when somebody else just did. */
static int insert(struct db_tx *tx, const struct change *c, bool *ret_made)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run(tx, SQL_ALIAS_INSERT, &rows, DB_INT(c->model_id), DB_TEXT(c->alias),
                   DB_INT(c->after.number));
        if (r < 0)
                return r;
        *ret_made = rows.n > 0;
        return 0;
}

int registry_alias_set_tx(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_alias_in *in,
                          struct registry_alias_state *ret_before,
                          struct registry_alias_state *ret_now)
{
        struct change c = {.name = in->name, .alias = in->alias};
        bool made = false;
        int r;

        r = share_version(ctx, tx, in, &c);
        if (r < 0)
                return r;
        r = lock(ctx, tx, c.model_id, in->alias, &c.before);
        if (r < 0)
                return r;
        if (c.before.number == 0) {
                if (in->mode == REGISTRY_IF_MATCH) {
                        r = check_match(ctx, &c.before, false);
                        if (r < 0)
                                return r;
                }
                r = insert(tx, &c, &made);
                if (r < 0)
                        return r;
                if (!made) {
                        r = lock(ctx, tx, c.model_id, in->alias, &c.before);
                        if (r < 0)
                                return r;
                }
        }
        if (!made) {
                if (in->mode == REGISTRY_IF_MATCH) {
                        r = check_match(ctx, &c.before, c.before.number != in->number);
                        if (r < 0)
                                return r;
                }
                if (c.before.number == in->number) {
                        *ret_before = c.before;
                        *ret_now = c.after;
                        return 0;
                }
                r = db_run(tx, SQL_ALIAS_UPDATE, NULL, DB_INT(c.model_id), DB_TEXT(in->alias),
                           DB_INT(in->number));
                if (r < 0)
                        return r;
        }
        r = record_change(ctx, tx, &c);
        if (r < 0)
                return r;
        *ret_before = c.before;
        *ret_now = c.after;
        return 0;
}

int registry_alias_set(struct mlc_ctx *ctx, const struct registry_name *name, const char *alias,
                       int64_t number, struct registry_alias_state *ret_now, bool *ret_created)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_alias_state before, now;
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = promotion_alias_free(ctx, &tx, alias);
        if (r < 0)
                return r;
        r = registry_alias_set_tx(
                ctx, &tx, &(struct registry_alias_in){name, alias, number, REGISTRY_IF_MATCH},
                &before, &now);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_now = now;
        *ret_created = before.number == 0;
        return 0;
}

int registry_alias_move(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                        const char *alias, int64_t number)
{
        struct registry_alias_state before, now;
        struct registry_name name;
        int r = registry_name_make(ctx, ns, model, &name);

        if (r < 0)
                return r;
        return registry_alias_set_tx(
                ctx, tx, &(struct registry_alias_in){&name, alias, number, REGISTRY_IF_ANY},
                &before, &now);
}

int registry_alias_follow(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                          const char *alias, int64_t number)
{
        struct registry_alias_state before, now;
        struct registry_name name;
        int r = registry_name_make(ctx, ns, model, &name);

        if (r < 0)
                return r;
        return registry_alias_set_tx(
                ctx, tx, &(struct registry_alias_in){&name, alias, number, REGISTRY_IF_LIVE},
                &before, &now);
}

static int delete (struct mlc_ctx *ctx, struct db_tx *tx, struct change *c)
{
        int r = db_run(tx, SQL_ALIAS_DELETE, NULL, DB_INT(c->model_id), DB_TEXT(c->alias));

        return r < 0 ? r : record_change(ctx, tx, c);
}

int registry_alias_drop(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                        const char *alias)
{
        struct registry_name name;
        struct change c = {.name = &name, .alias = alias};
        int64_t versions;
        int r = registry_name_make(ctx, ns, model, &name);

        if (r == 0)
                r = registry_db_model_find(ctx, tx, &name, &c.model_id, &versions);
        if (r == 0)
                r = lock(ctx, tx, c.model_id, alias, &c.before);
        if (r < 0 || c.before.number == 0)
                return r;
        return delete (ctx, tx, &c);
}

int registry_alias_delete(struct mlc_ctx *ctx, const struct registry_name *name, const char *alias)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct change c = {.name = name, .alias = alias};
        int64_t versions;
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = promotion_alias_free(ctx, &tx, alias);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, name, &c.model_id, &versions);
        if (r < 0)
                return r;
        r = lock(ctx, &tx, c.model_id, alias, &c.before);
        if (r < 0)
                return r;
        if (c.before.number == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "alias '%s:%s' does not exist", name->repo,
                                alias);
        r = check_match(ctx, &c.before, false);
        if (r < 0)
                return r;
        r = delete (ctx, &tx, &c);
        return r < 0 ? r : db_tx_commit(&tx);
}
