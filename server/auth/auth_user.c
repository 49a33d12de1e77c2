/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "gen/auth.sql.h"
#include "http/http.h"

static int role_id(struct mlc_ctx *ctx, const char *user, const struct auth_spec *spec,
                   const char **ret)
{
        *ret = ctx_printf(ctx, "%s/%s@%s", user, auth_role_name(spec->role), spec->ns);
        return *ret != NULL ? 0 : ctx->err.code;
}

int auth_role_insert(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                     const struct auth_spec *spec, const char *change)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *id;
        int r = db_run(tx, SQL_AUTH_ROLE_INSERT, &rows, DB_TEXT(user),
                       DB_TEXT(auth_role_name(spec->role)), DB_TEXT(spec->ns));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return 0;
        r = role_id(ctx, user, spec, &id);
        if (r < 0)
                return r;
        return auth_record_new(ctx, tx, "role.grant", "role", id, change);
}

static int role_remove(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                       const struct auth_spec *spec)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *before = NULL;
        const char *id;
        int r = role_id(ctx, user, spec, &id);

        if (r < 0)
                return r;
        r = auth_db_state(ctx, tx, "role", id, &before);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_ROLE_DELETE, &rows, DB_TEXT(user),
                   DB_TEXT(auth_role_name(spec->role)), DB_TEXT(spec->ns));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "user '%s' does not hold role '%s@%s'", user,
                                auth_role_name(spec->role), spec->ns);
        return auth_record(ctx, tx, "role.revoke", "role", id, before);
}

int auth_user_insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user_new *in,
                     const char *owner_id, char ret_id[MLC_ID_MAX])
{
        char commitment[72];
        int r;

        mlc_random_id('u', ret_id);
        r = audit_commit_pii(ctx, tx, ret_id, in->name, commitment);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_USER_INSERT, NULL, DB_TEXT(ret_id),
                   DB_TEXT(in->service ? "service" : "person"), DB_TEXT(owner_id),
                   DB_TEXT(in->name), DB_TEXT(commitment));
        if (r == MLC_E_CONFLICT) {
                mlc_err_clear(&ctx->err);
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/name", "the name '%s' is taken",
                                      in->name);
        }
        if (r < 0)
                return r;
        return auth_record(ctx, tx, "user.create", "user", ret_id, NULL);
}

/* What a user may not be given: approver to services, and what the caller does not administer. */
static int check_grant(struct mlc_ctx *ctx, const char *field, bool service,
                       const struct auth_spec *spec)
{
        if (service && spec->role == AUTH_APPROVER)
                return ctx_fail_field(ctx, MLC_E_INVALID, field, "a service never approves");
        return auth_require_admin(ctx, spec->ns);
}

static int grant_all(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user_new *in,
                     const char *user, json_t *pending)
{
        for (size_t i = 0; i < in->n_roles; i++) {
                struct auth_spec spec;
                char field[32];
                int r;

                (void)snprintf(field, sizeof(field), "/roles/%zu", i);
                r = auth_spec_parse(ctx, field, in->roles[i], &spec);
                if (r < 0)
                        return r;
                r = check_grant(ctx, field, in->service, &spec);
                if (r < 0)
                        return r;
                r = auth_award_role(ctx, tx, user, &spec, pending);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int find_owner(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user_new *in,
                      struct auth_user *ret)
{
        int r;

        if (!in->service && in->owner == NULL)
                return 0;
        if (!in->service)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/owner", "only a service has an owner");
        if (in->owner == NULL)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/owner",
                                      "a service needs an owner: the person who answers for it");
        r = auth_db_user_find(ctx, tx, in->owner, ret);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                return ctx_fail_field(ctx, MLC_E_INVALID, "/owner", "there is no user '%s'",
                                      in->owner);
        }
        if (r < 0)
                return r;
        if (ret->service || !ret->active)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/owner", "'%s' is not an active person",
                                      in->owner);
        return 0;
}

/* A person's invitation; the secret is added to `user` after COMMIT by the caller. */
static int invite_set(struct db_tx *tx, const char *user, char ret_secret[AUTH_SECRET_MAX],
                      json_t *json)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct mlc_digest hash;
        int r;

        auth_secret_make("inv_", ret_secret, &hash);
        r = db_run(tx, SQL_AUTH_INVITE_SET, &rows, DB_TEXT(user), DB_BYTES(hash.b, sizeof(hash.b)));
        if (r < 0)
                return r;
        (void)json_object_set_new(json, "invite_expires", json_string(db_text(&rows, 0, 0)));
        return 0;
}

static int first_token(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                       char ret_secret[AUTH_SECRET_MAX], json_t *json)
{
        const struct auth_token_new t = {
                .user = user, .scope = "", .expires_s = AUTH_TOKEN_DEFAULT_S};
        _cleanup_(json_decref_p) json_t *token = NULL;
        char id[MLC_ID_MAX];
        int r = auth_token_issue(ctx, tx, &t, id, ret_secret);

        if (r < 0)
                return r;
        r = auth_db_json(ctx, tx, &SQL_AUTH_TOKEN_JSON, id, "token", &token);
        if (r < 0)
                return r;
        (void)json_object_set_new(json, "token_id", json_string(id));
        (void)json_object_set(json, "token_expires", json_object_get(token, "expires"));
        return 0;
}

static void add_pending(json_t *user, json_t *pending)
{
        if (json_array_size(pending) > 0)
                (void)json_object_set(user, "pending", pending);
}

int auth_user_create(struct mlc_ctx *ctx, const struct auth_user_new *in, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *user = NULL, *pending = json_array();
        char id[MLC_ID_MAX], secret[AUTH_SECRET_MAX];
        struct auth_user owner = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = find_owner(ctx, &tx, in, &owner);
        if (r < 0)
                return r;
        r = auth_user_insert(ctx, &tx, in, in->service ? owner.id : NULL, id);
        if (r < 0)
                return r;
        r = grant_all(ctx, &tx, in, id, pending);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_USER_JSON, id, "user", &user);
        if (r < 0)
                return r;
        add_pending(user, pending);
        r = in->service ? first_token(ctx, &tx, id, secret, user)
                        : invite_set(&tx, id, secret, user);
        if (r < 0)
                return r;
        r = http_idempotent_store(ctx, &tx, 201, user);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        (void)json_object_set_new(user, in->service ? "token" : "invite", json_string(secret));
        *ret = TAKE_PTR(user);
        return 0;
}

int auth_user_invite(struct mlc_ctx *ctx, const char *who, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *user = NULL;
        char secret[AUTH_SECRET_MAX];
        struct auth_user u;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = auth_db_user_find(ctx, &tx, who, &u);
        if (r < 0)
                return r;
        if (u.service || !u.active)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' is not an active person", who);
        r = auth_db_json(ctx, &tx, &SQL_AUTH_USER_JSON, u.id, "user", &user);
        if (r < 0)
                return r;
        r = invite_set(&tx, u.id, secret, user);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        (void)json_object_set_new(user, "invite", json_string(secret));
        *ret = TAKE_PTR(user);
        return 0;
}

int auth_login(struct mlc_ctx *ctx, const char *invite, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *token = NULL;
        struct auth_token_new t = {.scope = "", .expires_s = AUTH_TOKEN_DEFAULT_S};
        struct auth_principal *self = ctx_alloc(ctx, sizeof(*self));
        char id[MLC_ID_MAX], secret[AUTH_SECRET_MAX];
        struct mlc_digest hash;
        struct auth_user u;
        int r;

        if (self == NULL)
                return ctx->err.code;
        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        mlc_sha256(invite, strlen(invite), &hash);
        r = db_run(&tx, SQL_AUTH_INVITE_USE, &rows, DB_BYTES(hash.b, sizeof(hash.b)));
        if (r < 0)
                return r;
        if (rows.n == 0 || !db_bool(&rows, 0, 1))
                return ctx_fail_field(
                        ctx, MLC_E_UNAUTHENTICATED, "/invite",
                        "the invitation is unknown, used or expired; ask an admin for a new one");
        r = auth_db_user_find(ctx, &tx, db_text(&rows, 0, 0), &u);
        if (r < 0)
                return r;
        if (!u.active)
                return ctx_fail_field(ctx, MLC_E_UNAUTHENTICATED, "/invite",
                                      "the person is disabled");
        (void)snprintf(self->user, sizeof(self->user), "%s", u.id);
        ctx->principal = self; /* the leaf's actor is the person, not nobody */
        t.user = u.id;
        r = auth_token_issue(ctx, &tx, &t, id, secret);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_TOKEN_JSON, id, "token", &token);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        (void)json_object_set_new(token, "token", json_string(secret));
        *ret = TAKE_PTR(token);
        return 0;
}

/* Status, erasure */

static int set_status(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user *u,
                      const char *status)
{
        _cleanup_(json_decref_p) json_t *before = NULL;
        bool activate = mlc_streq(status, "active");
        int r;

        if (u->erased)
                return ctx_fail(ctx, MLC_E_GONE, "'%s' was erased", u->id);
        if (u->active == activate)
                return 0;
        r = auth_db_state(ctx, tx, "user", u->id, &before);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_USER_SET_STATUS, NULL, DB_TEXT(u->id), DB_TEXT(status));
        if (r < 0)
                return r;
        r = auth_record(ctx, tx, activate ? "user.enable" : "user.disable", "user", u->id, before);
        if (r < 0)
                return r;
        return auth_keep_an_admin(ctx, tx);
}

static int erase(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user *u)
{
        _cleanup_(json_decref_p) json_t *before = NULL;
        int r;

        if (u->erased)
                return 0;
        r = auth_db_state(ctx, tx, "user", u->id, &before);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_USER_ERASE, NULL, DB_TEXT(u->id));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_INVITE_DROP, NULL, DB_TEXT(u->id));
        if (r < 0)
                return r;
        r = http_idempotent_forget(tx, u->id, u->name);
        if (r < 0)
                return r;
        r = audit_erase_pii(ctx, tx, u->id);
        if (r < 0)
                return r;
        r = auth_record(ctx, tx, "user.erase", "user", u->id, before);
        if (r < 0)
                return r;
        return auth_keep_an_admin(ctx, tx);
}

enum change { CHANGE_STATUS, CHANGE_ERASE, CHANGE_GRANT, CHANGE_REVOKE };

struct asked {
        enum change what;
        const char *arg;
        json_t *pending; /* of a grant; appended to */
};

static int apply_change(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user *u,
                        const struct asked *a)
{
        enum change what = a->what;
        const char *arg = a->arg;
        const char *field = what == CHANGE_GRANT ? "/role" : "path:role";
        struct auth_spec spec;
        int r;

        if (what == CHANGE_STATUS)
                return set_status(ctx, tx, u, arg);
        if (what == CHANGE_ERASE)
                return erase(ctx, tx, u);
        r = auth_spec_parse(ctx, field, arg, &spec);
        if (r < 0)
                return r;
        if (what == CHANGE_GRANT) {
                r = check_grant(ctx, field, u->service, &spec);
                if (r < 0)
                        return r;
                if (u->erased)
                        return ctx_fail(ctx, MLC_E_GONE, "'%s' was erased", u->id);
                return auth_award_role(ctx, tx, u->id, &spec, a->pending);
        }
        r = auth_require_admin(ctx, spec.ns);
        if (r < 0)
                return r;
        r = role_remove(ctx, tx, u->id, &spec);
        if (r < 0)
                return r;
        return auth_keep_an_admin(ctx, tx);
}

/* One transaction around a change to one user; replies with the user as it is afterwards. */
static int change_user(struct mlc_ctx *ctx, const char *who, enum change what, const char *arg,
                       json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *user = NULL, *pending = json_array();
        struct auth_user u;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = auth_db_user_find(ctx, &tx, who, &u);
        if (r < 0)
                return r;
        r = apply_change(ctx, &tx, &u, &(struct asked){what, arg, pending});
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_USER_JSON, u.id, "user", &user);
        if (r < 0)
                return r;
        add_pending(user, pending);
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        auth_changed(ctx->app);
        *ret = TAKE_PTR(user);
        return 0;
}

int auth_user_set_status(struct mlc_ctx *ctx, const char *user, const char *status, json_t **ret)
{
        return change_user(ctx, user, CHANGE_STATUS, status, ret);
}

int auth_user_erase(struct mlc_ctx *ctx, const char *user, json_t **ret)
{
        return change_user(ctx, user, CHANGE_ERASE, NULL, ret);
}

int auth_role_grant(struct mlc_ctx *ctx, const char *user, const char *spec, json_t **ret)
{
        return change_user(ctx, user, CHANGE_GRANT, spec, ret);
}

int auth_role_revoke(struct mlc_ctx *ctx, const char *user, const char *spec, json_t **ret)
{
        return change_user(ctx, user, CHANGE_REVOKE, spec, ret);
}

int auth_user_get(struct mlc_ctx *ctx, const char *user, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r < 0)
                return r;
        return auth_db_json(ctx, &tx, &SQL_AUTH_USER_JSON, user, "user", ret);
}

int auth_user_list(struct mlc_ctx *ctx, const char *after, int64_t limit, json_t **ret_items,
                   const char **ret_last)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array();
        const char *last = NULL;
        int n, r = db_tx_begin_read(ctx, &tx);

        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUTH_USER_PAGE, &rows, DB_TEXT(after), DB_INT(limit + 1));
        if (r < 0)
                return r;
        n = rows.n > limit ? (int)limit : rows.n;
        for (int i = 0; i < n; i++) {
                const char *text = db_text(&rows, i, 0);
                json_t *one;

                r = mlc_json_parse(text, strlen(text), &one, &ctx->err);
                if (r < 0)
                        return r;
                (void)json_array_append_new(items, one);
        }
        if (rows.n > limit) {
                last = db_text_dup(ctx, &rows, n - 1, 1);
                if (last == NULL)
                        return ctx->err.code;
        }
        *ret_items = TAKE_PTR(items);
        *ret_last = last;
        return 0;
}
