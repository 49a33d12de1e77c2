/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "codec/base64.h"
#include "codec/ref.h"
#include "crypto/hash.h"
#include "gen/auth.sql.h"

static const struct {
        unsigned role;
        const char *name;
} ROLES[] = {
        {AUTH_CONTRIBUTOR, "contributor"}, {AUTH_EVALUATOR, "evaluator"},
        {AUTH_APPROVER, "approver"},       {AUTH_OPERATOR, "operator"},
        {AUTH_AUDITOR, "auditor"},         {AUTH_ADMIN, "admin"},
};

unsigned auth_role_parse(const char *name)
{
        for (unsigned i = 0; i < ARRAY_LEN(ROLES); i++)
                if (strcmp(ROLES[i].name, name) == 0)
                        return ROLES[i].role;
        return 0;
}

const char *auth_role_name(unsigned role)
{
        for (unsigned i = 0; i < ARRAY_LEN(ROLES); i++)
                if (ROLES[i].role == role)
                        return ROLES[i].name;
        assert(!"one role");
        return "";
}

unsigned auth_roles(const struct auth_principal *p, const char *ns)
{
        unsigned roles = 0;

        for (unsigned i = 0; i < p->n_grants; i++)
                if (strcmp(p->grants[i].ns, "*") == 0 || strcmp(p->grants[i].ns, ns) == 0)
                        roles |= p->grants[i].roles;
        return roles;
}

bool auth_may_read(const struct auth_principal *p, const char *ns)
{
        return auth_roles(p, ns) != 0;
}

bool auth_holds_somewhere(const struct auth_principal *p, unsigned roles)
{
        for (unsigned i = 0; i < p->n_grants; i++)
                if ((p->grants[i].roles & roles) != 0)
                        return true;
        return false;
}

int auth_spec_parse(struct mlc_ctx *ctx, const char *field, const char *text, struct auth_spec *ret)
{
        struct mlc_err why = {0};
        const char *at = strchr(text, '@');
        struct auth_spec spec = {.ns = "*"};
        char *name = mlc_arena_strndup(&ctx->arena, text,
                                       at != NULL ? (size_t)(at - text) : strlen(text), &ctx->err);

        if (name == NULL)
                return ctx->err.code;
        spec.role = auth_role_parse(name);
        if (spec.role == 0)
                return ctx_fail_field(
                        ctx, MLC_E_INVALID, field,
                        "'%s' is no role; roles are contributor, evaluator, approver, operator, "
                        "auditor, admin",
                        name);
        if (at != NULL && strcmp(at + 1, "*") != 0) {
                if (mlc_namespace_check(at + 1, &why) < 0)
                        return ctx_fail_field(ctx, MLC_E_INVALID, field, "%s", why.msg);
                spec.ns = ctx_strdup(ctx, at + 1);
                if (spec.ns == NULL)
                        return ctx->err.code;
        }
        *ret = spec;
        return 0;
}

int auth_require_admin(struct mlc_ctx *ctx, const char *ns)
{
        if ((auth_roles(ctx->principal, ns) & AUTH_ADMIN) != 0)
                return 0;
        if (strcmp(ns, "*") == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN, "role admin everywhere is needed");
        return ctx_fail(ctx, MLC_E_FORBIDDEN, "role admin in namespace '%s' is needed", ns);
}

int auth_record_new(struct mlc_ctx *ctx, struct db_tx *tx, const char *action, const char *kind,
                    const char *id, const char *change)
{
        _cleanup_(json_decref_p) json_t *after = NULL, *detail = NULL;
        int r = auth_db_state(ctx, tx, kind, id, &after);

        if (r < 0)
                return r;
        detail = change != NULL ? json_pack("{s:s}", "change", change) : json_object();
        return audit_append(
                ctx, tx,
                &(struct audit_entry){
                        .action = action, .kind = kind, .id = id, .after = after, .detail = detail},
                NULL);
}

int auth_record(struct mlc_ctx *ctx, struct db_tx *tx, const char *action, const char *kind,
                const char *id, const json_t *before)
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        int r = auth_db_state(ctx, tx, kind, id, &after);

        if (r < 0)
                return r;
        return audit_append(
                ctx, tx,
                &(struct audit_entry){
                        .action = action, .kind = kind, .id = id, .before = before, .after = after},
                NULL);
}

void auth_secret_make(const char *prefix, char ret[AUTH_SECRET_MAX], struct mlc_digest *ret_hash)
{
        unsigned char bytes[32];
        struct mlc_str text;

        mlc_random_bytes(bytes, sizeof(bytes));
        mlc_str_init(&text, AUTH_SECRET_MAX - 1);
        mlc_str_add(&text, prefix);
        mlc_base64_encode(MLC_BASE64_URL, bytes, sizeof(bytes), &text);
        while (text.len > 0 && text.data[text.len - 1] == '=')
                text.data[--text.len] = '\0';
        assert(!text.over);
        (void)snprintf(ret, AUTH_SECRET_MAX, "%s", mlc_str_cstr(&text));
        mlc_sha256(text.data, text.len, ret_hash);
        mlc_str_done(&text);
}

int auth_keep_an_admin(struct mlc_ctx *ctx, struct db_tx *tx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_AUTH_ADMINS_LOCK, &rows);

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "nobody would be admin everywhere any more; grant that role to "
                                "another person first");
        return 0;
}

/* Start-up and the first admin */

int auth_start(struct app *app, struct mlc_err *err)
{
        struct auth *a = calloc(1, sizeof(*a));
        int r;

        if (a == NULL)
                abort();
        r = auth_cache_open(a, app->config.data, err);
        if (r < 0) {
                free(a);
                return r;
        }
        app->auth = a;
        return 0;
}

void auth_stop(struct app *app)
{
        if (app->auth == NULL)
                return;
        auth_cache_close(app->auth);
        free(app->auth);
        app->auth = NULL;
}

void auth_changed(struct app *app)
{
        epoch_raise(app->auth->epoch);
}

static int write_admin_token(struct mlc_ctx *ctx, const char *secret)
{
        char *path = ctx_printf(ctx, "%s/admin-token", ctx->app->config.data);
        char *line = ctx_printf(ctx, "%s\n", secret);

        if (path == NULL || line == NULL)
                return ctx->err.code;
        return mlc_write_file_atomic(path, line, strlen(line), 0600, &ctx->err);
}

static int bootstrap_admin(struct mlc_ctx *ctx, struct db_tx *tx)
{
        const struct auth_spec everywhere = {.role = AUTH_ADMIN, .ns = "*"};
        char user[MLC_ID_MAX], token[MLC_ID_MAX], secret[AUTH_SECRET_MAX];
        int r = auth_user_insert(ctx, tx, &(struct auth_user_new){.name = "admin"}, NULL, user);

        if (r < 0)
                return r;
        r = auth_role_insert(ctx, tx, user, &everywhere, NULL);
        if (r < 0)
                return r;
        r = auth_token_issue(ctx, tx, &(struct auth_token_new){.user = user, .scope = ""}, token,
                             secret);
        if (r < 0)
                return r;
        return write_admin_token(ctx, secret);
}

int auth_bootstrap(struct mlc_ctx *ctx, bool *ret_created)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        bool empty;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = db_run0(&tx, SQL_AUTH_BOOTSTRAP_LOCK, NULL);
        if (r < 0)
                return r;
        r = db_run0(&tx, SQL_AUTH_USER_COUNT, &rows);
        if (r < 0)
                return r;
        empty = db_int(&rows, 0, 0) == 0;
        if (empty) {
                r = bootstrap_admin(ctx, &tx);
                if (r < 0)
                        return mlc_wrap(&ctx->err, "make the first admin");
        }
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_created = empty;
        return 0;
}

int auth_admin_token(struct mlc_ctx *ctx, const char **ret_token)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char id[MLC_ID_MAX], secret[AUTH_SECRET_MAX], *user, *token;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = db_run0(&tx, SQL_AUTH_ADMINS_LOCK, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "no active person is admin everywhere");
        user = db_text_dup(ctx, &rows, 0, 0);
        if (user == NULL)
                return ctx->err.code;
        r = auth_token_issue(ctx, &tx, &(struct auth_token_new){.user = user, .scope = ""}, id,
                             secret);
        if (r < 0)
                return r;
        token = ctx_strdup(ctx, secret);
        if (token == NULL)
                return ctx->err.code;
        r = write_admin_token(ctx, secret);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_token = token;
        return 0;
}
