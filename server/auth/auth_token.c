/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/base64.h"
#include "crypto/hash.h"
#include "gen/auth.sql.h"
#include "http/http.h"

#define SECRET_LEN_MAX 256 /* what a client may send as a token */
#define SCOPE_ALL "*all*"

/* Identity */

/* The secret inside "Bearer SECRET" or "Basic base64(user:SECRET)". */
static int secret_of(struct mlc_ctx *ctx, const char *authorization, const char **ret)
{
        struct mlc_str plain;
        const char *colon;
        int r = 0;

        if (strlen(authorization) > 2 * SECRET_LEN_MAX)
                return ctx_fail_field(ctx, MLC_E_UNAUTHENTICATED, "header:Authorization",
                                      "the header is too long");
        if (strncasecmp(authorization, "Bearer ", 7) == 0) {
                *ret = authorization + 7;
                return 0;
        }
        if (strncasecmp(authorization, "Basic ", 6) != 0)
                return ctx_fail_field(
                        ctx, MLC_E_UNAUTHENTICATED, "header:Authorization",
                        "neither 'Bearer TOKEN' nor 'Basic' with the token as password");
        mlc_str_init(&plain, 2 * SECRET_LEN_MAX);
        if (mlc_base64_decode(MLC_BASE64_STD, authorization + 6, strlen(authorization + 6), &plain,
                              NULL) < 0 ||
            memchr(mlc_str_cstr(&plain), '\0', plain.len) != NULL ||
            (colon = strchr(mlc_str_cstr(&plain), ':')) == NULL) {
                r = ctx_fail_field(ctx, MLC_E_UNAUTHENTICATED, "header:Authorization",
                                   "what follows 'Basic' is not base64 of USER:TOKEN");
        } else {
                *ret = ctx_strdup(ctx, colon + 1);
                if (*ret == NULL)
                        r = ctx->err.code;
        }
        mlc_str_done(&plain);
        return r;
}

/* "role@ns" is covered by a scope ("*all*", or space-separated specs where "role@*" covers every
 * namespace). */
static bool scope_covers(const char *scope, const char *role, const char *ns)
{
        size_t n_role = strlen(role), n_ns = strlen(ns);

        if (strcmp(scope, SCOPE_ALL) == 0)
                return true;
        for (const char *p = scope; *p != '\0';) {
                size_t n = strcspn(p, " ");

                if (n > n_role && memcmp(p, role, n_role) == 0 && p[n_role] == '@') {
                        const char *in = p + n_role + 1;
                        size_t n_in = n - n_role - 1;

                        if ((n_in == 1 && in[0] == '*') ||
                            (n_in == n_ns && memcmp(in, ns, n_ns) == 0))
                                return true;
                }
                p += n + (p[n] == ' ');
        }
        return false;
}

/* A grant everywhere under a scope of single namespaces counts in those. */
static void add_scoped(struct auth_grant *grants, unsigned *n, const char *scope, const char *role)
{
        size_t n_role = strlen(role);

        for (const char *p = scope; *p != '\0';) {
                size_t len = strcspn(p, " ");

                if (len > n_role && memcmp(p, role, n_role) == 0 && p[n_role] == '@')
                        grants[(*n)++] = (struct auth_grant){.ns = p + n_role + 1,
                                                             .roles = auth_role_parse(role)};
                p += len + (p[len] == ' ');
        }
}

static size_t count_specs(const char *scope)
{
        size_t n = 1;

        for (const char *p = scope; *p != '\0'; p++)
                n += *p == ' ';
        return n;
}

/* Cuts the text after each spec of a scope that grants point into; done last, it destroys the
 * scope. */
static void split_scope(char *scope)
{
        for (; *scope != '\0'; scope++)
                if (*scope == ' ')
                        *scope = '\0';
}

static int load_grants(struct mlc_ctx *ctx, const struct db_rows *rows, struct auth_principal *p)
{
        char *scope = db_text_dup(ctx, rows, 0, 7);
        struct auth_grant *grants;
        unsigned n = 0;

        if (scope == NULL)
                return ctx->err.code;
        grants = mlc_arena_array(&ctx->arena, (size_t)rows->n + 6 * count_specs(scope),
                                 sizeof(*grants), &ctx->err);
        if (grants == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows->n; i++) {
                const char *role = db_text(rows, i, 8);
                char *ns;

                if (db_is_null(rows, i, 8))
                        continue;
                ns = db_text_dup(ctx, rows, i, 9);
                if (ns == NULL)
                        return ctx->err.code;
                if (scope_covers(scope, role, ns))
                        grants[n++] = (struct auth_grant){.ns = ns, .roles = auth_role_parse(role)};
                else if (strcmp(ns, "*") == 0)
                        add_scoped(grants, &n, scope, role);
        }
        if (strcmp(scope, SCOPE_ALL) != 0)
                split_scope(scope);
        p->grants = grants;
        p->n_grants = n;
        return 0;
}

static int load_principal(struct mlc_ctx *ctx, const struct mlc_digest *hash,
                          const struct auth_principal **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct auth_principal *p = ctx_alloc(ctx, sizeof(*p));
        int r;

        if (p == NULL)
                return ctx->err.code;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUTH_TOKEN_BY_HASH, &rows, DB_BYTES(hash->b, sizeof(hash->b)));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED, "the token is not known here");
        if (db_bool(&rows, 0, 5))
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED, "the token was revoked");
        if (!db_bool(&rows, 0, 6))
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED,
                                "the token's user, or the owner of that service, is disabled");
        (void)snprintf(p->token, sizeof(p->token), "%s", db_text(&rows, 0, 0));
        (void)snprintf(p->user, sizeof(p->user), "%s", db_text(&rows, 0, 1));
        (void)snprintf(p->owner, sizeof(p->owner), "%s", db_text(&rows, 0, 2));
        p->service = db_bool(&rows, 0, 3);
        p->token_expires = db_int(&rows, 0, 4);
        r = load_grants(ctx, &rows, p);
        if (r < 0)
                return r;
        *ret = p;
        return 0;
}

int auth_identify(struct mlc_ctx *ctx, const char *authorization, const struct auth_principal **ret)
{
        const struct auth *auth = ctx->app->auth;
        const struct auth_principal *p;
        const char *secret = NULL;
        struct mlc_digest hash;
        uint64_t epoch;
        int r;

        if (authorization == NULL)
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED,
                                "no token was sent; log in, or set MLCTL_TOKEN");
        r = secret_of(ctx, authorization, &secret);
        if (r < 0)
                return r;
        mlc_sha256(secret, strlen(secret), &hash);
        epoch = epoch_now(auth->epoch);
        r = auth_cache_get(ctx, auth, &hash, &p);
        if (r < 0)
                return r;
        if (p == NULL) {
                r = load_principal(ctx, &hash, &p);
                if (r < 0)
                        return r;
                assert(p != NULL);
                auth_cache_put(auth, &hash, epoch, p);
        }
        if (p->token_expires != 0 && p->token_expires <= mlc_now_ms())
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED,
                                "the token has expired; log in again or create a new one");
        *ret = p;
        return 0;
}

/* Tokens */

int auth_token_issue(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_token_new *in,
                     char ret_id[MLC_ID_MAX], char ret_secret[AUTH_SECRET_MAX])
{
        struct mlc_digest hash;
        int r;

        mlc_random_id('t', ret_id);
        auth_secret_make(AUTH_TOKEN_PREFIX, ret_secret, &hash);
        r = db_run(tx, SQL_AUTH_TOKEN_INSERT, NULL, DB_TEXT(ret_id), DB_TEXT(in->user),
                   DB_BYTES(hash.b, sizeof(hash.b)), DB_TEXT(in->scope),
                   in->expires_s > 0 ? DB_INT(in->expires_s) : DB_NULL);
        if (r < 0)
                return r;
        return auth_record(ctx, tx, "token.create", "token", ret_id, NULL);
}

static int compare_specs(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int auth_scope_check(struct mlc_ctx *ctx, const char *const *specs, size_t n, const char **ret)
{
        const char **sorted = mlc_arena_array(&ctx->arena, n + 1, sizeof(*sorted), &ctx->err);
        const char *text = "";

        if (sorted == NULL)
                return ctx->err.code;
        for (size_t i = 0; i < n; i++) {
                struct auth_spec spec;
                char field[32];
                int r;

                (void)snprintf(field, sizeof(field), "/scope/%zu", i);
                r = auth_spec_parse(ctx, field, specs[i], &spec);
                if (r < 0)
                        return r;
                if ((auth_roles(ctx->principal, spec.ns) & spec.role) == 0)
                        return ctx_fail_field(
                                ctx, MLC_E_FORBIDDEN, field,
                                "your own token does not hold '%s', so it cannot pass it on",
                                specs[i]);
                sorted[i] = ctx_printf(ctx, "%s@%s", auth_role_name(spec.role), spec.ns);
                if (sorted[i] == NULL)
                        return ctx->err.code;
        }
        qsort(sorted, n, sizeof(*sorted), compare_specs);
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && strcmp(sorted[i], sorted[i - 1]) == 0)
                        continue;
                text = ctx_printf(ctx, "%s%s%s", text, i > 0 ? " " : "", sorted[i]);
                if (text == NULL)
                        return ctx->err.code;
        }
        *ret = text;
        return 0;
}

/* A narrowed token, asked for one without scope, passes on what it holds itself. */
static int inherit_scope(struct mlc_ctx *ctx, struct db_tx *tx, const char **ret)
{
        _cleanup_(json_decref_p) json_t *own = NULL;
        const json_t *scope;
        const char *text = "", *spec;
        size_t i;
        json_t *v;
        int r = auth_db_state(ctx, tx, "token", ctx->principal->token, &own);

        if (r < 0)
                return r;
        scope = json_object_get(own, "scope");
        json_array_foreach (scope, i, v) {
                spec = json_string_value(v);
                text = ctx_printf(ctx, "%s%s%s", text, i > 0 ? " " : "", spec);
                if (text == NULL)
                        return ctx->err.code;
        }
        *ret = text;
        return 0;
}

static int token_target(struct mlc_ctx *ctx, struct db_tx *tx, const char *for_user,
                        const char **ret_user)
{
        struct auth_user u;
        int r;

        if (for_user == NULL) {
                *ret_user = ctx->principal->user;
                return 0;
        }
        r = auth_db_user_find(ctx, tx, for_user, &u);
        if (r < 0)
                return r;
        if (strcmp(u.id, ctx->principal->user) != 0 && strcmp(u.owner, ctx->principal->user) != 0)
                return ctx_fail_field(ctx, MLC_E_FORBIDDEN, "/user",
                                      "nobody makes a token for another person; only the owner of "
                                      "service '%s' may",
                                      for_user);
        *ret_user = ctx_strdup(ctx, u.id);
        return *ret_user != NULL ? 0 : ctx->err.code;
}

int auth_token_create(struct mlc_ctx *ctx, const char *for_user, const struct auth_token_new *in,
                      json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *token = NULL;
        char id[MLC_ID_MAX], secret[AUTH_SECRET_MAX];
        struct auth_token_new t = *in;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = token_target(ctx, &tx, for_user, &t.user);
        if (r < 0)
                return r;
        if (t.scope[0] == '\0') {
                r = inherit_scope(ctx, &tx, &t.scope);
                if (r < 0)
                        return r;
        }
        r = auth_token_issue(ctx, &tx, &t, id, secret);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_TOKEN_JSON, id, "token", &token);
        if (r < 0)
                return r;
        r = http_idempotent_store(ctx, &tx, 201, token);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        (void)json_object_set_new(token, "token", json_string(secret));
        *ret = TAKE_PTR(token);
        return 0;
}

int auth_token_list(struct mlc_ctx *ctx, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r < 0)
                return r;
        return auth_db_json_list(ctx, &tx, &SQL_AUTH_TOKEN_LIST, ctx->principal->user, ret);
}

static int revoke_in_tx(struct mlc_ctx *ctx, struct db_tx *tx, const char *id)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *before = NULL;
        bool mine;
        int r = db_run(tx, SQL_AUTH_TOKEN_OWNER, &rows, DB_TEXT(id));

        if (r < 0)
                return r;
        mine = rows.n == 1 && (mlc_streq(db_text(&rows, 0, 0), ctx->principal->user) ||
                               mlc_streq(db_text(&rows, 0, 1), ctx->principal->user));
        if (rows.n == 0 || (!mine && (auth_roles(ctx->principal, "*") & AUTH_ADMIN) == 0))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "you have no token '%s'", id);
        if (db_bool(&rows, 0, 2))
                return 0;
        r = auth_db_state(ctx, tx, "token", id, &before);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_TOKEN_REVOKE, NULL, DB_TEXT(id));
        if (r < 0)
                return r;
        return auth_record(ctx, tx, "token.revoke", "token", id, before);
}

int auth_token_revoke(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *token = NULL;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = revoke_in_tx(ctx, &tx, id);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_TOKEN_JSON, id, "token", &token);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        auth_changed(ctx->app);
        *ret = TAKE_PTR(token);
        return 0;
}
