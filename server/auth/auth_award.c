/* SPDX-License-Identifier: Apache-2.0 */
/* Roles and keys that owners of protected environments may have to sign for. */
#include "auth/auth_internal.h"

#include <stdio.h>
#include <string.h>

#include "app.h"
#include "base/cleanup.h"
#include "crypto/sshkey.h"
#include "gen/auth.sql.h"

void auth_set_hooks(struct app *app, const struct auth_hooks *hooks)
{
        app->auth_hooks = hooks;
}

static const struct auth_hooks *hooks_of(const struct mlc_ctx *ctx)
{
        static const struct auth_hooks none = {0};

        return ctx->app->auth_hooks != NULL ? ctx->app->auth_hooks : &none;
}

/* --- documents --- */

static int keys_of(struct mlc_ctx *ctx, struct db_tx *tx, const char *user, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *list;
        int r = db_run(tx, SQL_AUTH_KEYS_HELD, &rows, DB_TEXT(user));

        (void)ctx;
        if (r < 0)
                return r;
        list = json_array();
        for (int i = 0; i < rows.n; i++)
                (void)json_array_append_new(list, json_string(db_text(&rows, i, 0)));
        *ret = list;
        return 0;
}

/* With the keys that the person has now: a grant is to them, not to who holds others. */
static int role_document(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                         const struct auth_spec *spec, json_t **ret)
{
        json_t *keys;
        int r = keys_of(ctx, tx, user, &keys);

        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:s, s:s, s:s, s:o}", "kind", "Role", "user", user, "role",
                         auth_role_name(spec->role), "namespace", spec->ns, "keys", keys);
        return 0;
}

static const char *text_of(const json_t *document, const char *key)
{
        const char *text = json_string_value(json_object_get(document, key));

        return text != NULL ? text : "";
}

static int bad_document(struct mlc_ctx *ctx)
{
        return ctx_fail(ctx, MLC_E_INVALID, "this is no grant of a role or key");
}

static int key_of(struct mlc_ctx *ctx, const json_t *document, struct mlc_sshkey *ret,
                  char ret_fingerprint[MLC_SSHKEY_FP])
{
        struct mlc_err why = {0};
        const char *line =
                ctx_printf(ctx, "%s %s", text_of(document, "type"), text_of(document, "public"));

        if (line == NULL)
                return ctx->err.code;
        if (mlc_sshkey_parse(line, ret, &why) < 0)
                return bad_document(ctx);
        mlc_sshkey_fingerprint(ret, ret_fingerprint);
        return 0;
}

int auth_award_read(struct mlc_ctx *ctx, const json_t *document, struct auth_award *ret)
{
        struct auth_award a = {.kind = text_of(document, "kind"),
                               .user = text_of(document, "user"),
                               .document = document};
        char fingerprint[MLC_SSHKEY_FP];
        struct mlc_sshkey key;
        int r = 0;

        if (mlc_streq(a.kind, "Role")) {
                a.name = ctx_printf(ctx, "%s/%s@%s", a.user, text_of(document, "role"),
                                    text_of(document, "namespace"));
        } else if (mlc_streq(a.kind, "Key")) {
                r = key_of(ctx, document, &key, fingerprint);
                if (r == 0)
                        a.name = ctx_printf(ctx, "%s/%s", a.user, fingerprint);
        } else {
                r = bad_document(ctx);
        }
        if (r < 0)
                return r;
        if (a.name == NULL)
                return ctx->err.code;
        *ret = a;
        return 0;
}

static int spec_of(struct mlc_ctx *ctx, const struct auth_award *a, struct auth_spec *ret)
{
        return auth_spec_parse(ctx, "", strchr(a->name, '/') + 1, ret);
}

/* --- asking --- */

static int ask(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *document, json_t *pending,
               bool *ret_asked)
{
        struct auth_award a;
        json_t *item = NULL;
        int r = 0;

        *ret_asked = false;
        if (hooks_of(ctx)->ask == NULL)
                return 0;
        r = auth_award_read(ctx, document, &a);
        if (r == 0)
                r = hooks_of(ctx)->ask(ctx, tx, &a, &item);
        if (r < 0 || item == NULL)
                return r;
        (void)json_array_append_new(pending, item);
        *ret_asked = true;
        return 0;
}

static int role_held(struct db_tx *tx, const char *user, const struct auth_spec *spec, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_AUTH_ROLE_HELD, &rows, DB_TEXT(user),
                       DB_TEXT(auth_role_name(spec->role)), DB_TEXT(spec->ns));

        *ret = rows.n > 0;
        return r;
}

int auth_award_role(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                    const struct auth_spec *spec, json_t *pending)
{
        _cleanup_(json_decref_p) json_t *document = NULL;
        bool held = false, asked = false;
        int r = role_held(tx, user, spec, &held);

        if (r < 0 || held)
                return r;
        r = role_document(ctx, tx, user, spec, &document);
        if (r == 0)
                r = ask(ctx, tx, document, pending, &asked);
        if (r < 0 || asked)
                return r;
        return auth_role_insert(ctx, tx, user, spec, NULL);
}

static int renew(struct mlc_ctx *ctx, struct db_tx *tx, const char *user, json_t *pending)
{
        return hooks_of(ctx)->renew != NULL ? hooks_of(ctx)->renew(ctx, tx, user, pending) : 0;
}

int auth_award_key(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_key_new *in,
                   json_t *pending, char ret_id[MLC_ID_MAX])
{
        _cleanup_(json_decref_p) json_t *document =
                json_pack("{s:s, s:s, s:s, s:s}", "kind", "Key", "user", in->user, "type", in->type,
                          "public", in->public);
        bool asked = false;
        int r = ask(ctx, tx, document, pending, &asked);

        if (r < 0 || asked)
                return r;
        r = auth_key_insert(ctx, tx, in, NULL, ret_id);
        return r < 0 ? r : renew(ctx, tx, in->user, pending);
}

/* --- what was signed --- */

int auth_award_hold(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a)
{
        struct auth_user u;

        return auth_db_user_find(ctx, tx, a->user, &u);
}

int auth_award_renew(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     json_t **ret)
{
        struct auth_spec spec;
        int r;

        if (!mlc_streq(a->kind, "Role")) {
                *ret = json_incref((json_t *)(uintptr_t)a->document);
                return 0;
        }
        r = spec_of(ctx, a, &spec);
        return r < 0 ? r : role_document(ctx, tx, a->user, &spec, ret);
}

static int role_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     const struct auth_user *u)
{
        _cleanup_(json_decref_p) json_t *now = NULL;
        struct auth_spec spec;
        bool held = false;
        int r = spec_of(ctx, a, &spec);

        if (r < 0)
                return r;
        if (u->service && spec.role == AUTH_APPROVER)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' is a service, which never approves",
                                a->user);
        r = role_held(tx, a->user, &spec, &held);
        if (r == 0)
                r = role_document(ctx, tx, a->user, &spec, &now);
        if (r < 0)
                return r;
        if (held)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' holds the role already", a->user);
        if (!json_equal(now, (json_t *)(uintptr_t)a->document))
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "the keys of '%s' have changed since it was asked for; grant the "
                                "role again",
                                a->user);
        return 0;
}

static int key_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                    const struct auth_user *u)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_AUTH_KEY_BY_PUBLIC, &rows, DB_TEXT(text_of(a->document, "public")));

        if (r < 0)
                return r;
        if (u->service)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' is a service, which has no keys",
                                a->user);
        if (rows.n > 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "the key is registered already, to '%s'",
                                db_text(&rows, 0, 1));
        return 0;
}

int auth_award_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a)
{
        struct auth_user u;
        int r = auth_db_user_find(ctx, tx, a->user, &u);

        if (r < 0)
                return r;
        if (!u.active)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' is disabled or erased", a->user);
        return mlc_streq(a->kind, "Role") ? role_fits(ctx, tx, a, &u) : key_fits(ctx, tx, a, &u);
}

static int apply_role(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                      const char *change)
{
        struct auth_spec spec;
        int r = spec_of(ctx, a, &spec);

        return r < 0 ? r : auth_role_insert(ctx, tx, a->user, &spec, change);
}

static int apply_key(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     const char *change)
{
        _cleanup_(json_decref_p) json_t *pending = json_array();
        struct auth_key_new in = {.user = a->user, .public = text_of(a->document, "public")};
        char fingerprint[MLC_SSHKEY_FP], id[MLC_ID_MAX];
        struct mlc_sshkey key;
        int r = key_of(ctx, a->document, &key, fingerprint);

        if (r < 0)
                return r;
        in.type = mlc_sshkey_type_name(key.type);
        in.fingerprint = fingerprint;
        r = auth_key_insert(ctx, tx, &in, change, id);
        return r < 0 ? r : renew(ctx, tx, a->user, pending);
}

int auth_award_apply(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     const char *change)
{
        int r = auth_award_fits(ctx, tx, a);

        if (r < 0)
                return r;
        return mlc_streq(a->kind, "Role") ? apply_role(ctx, tx, a, change)
                                          : apply_key(ctx, tx, a, change);
}
