/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "gen/api.h"
#include "gen/auth.sql.h"
#include "http/http.h"

#define EXPIRY_WARNING_MS (INT64_C(14) * 86400000)
#define PAGE_DEFAULT 100

/* Replies with what a rule gave, or passes its failure on. */
static int reply_json(struct http_reply *reply, int r, int status, json_t *json)
{
        if (r < 0)
                return r;
        http_reply_json(reply, status, json);
        return 0;
}

static json_t *held_roles(const struct auth_principal *p)
{
        json_t *list = json_array();

        for (unsigned i = 0; i < p->n_grants; i++)
                for (unsigned role = 1; role <= AUTH_ADMIN; role <<= 1)
                        if ((p->grants[i].roles & role) != 0)
                                (void)json_array_append_new(
                                        list, strcmp(p->grants[i].ns, "*") == 0
                                                      ? json_string(auth_role_name(role))
                                                      : json_sprintf("%s@%s", auth_role_name(role),
                                                                     p->grants[i].ns));
        return list;
}

/* "in 3 days", "in 5 hours", "in 40 minutes" */
static json_t *expiry_warning(const struct auth_principal *p, int64_t left_ms)
{
        static const struct {
                int64_t ms;
                const char *unit;
        } units[] = {{86400000, "days"}, {3600000, "hours"}, {60000, "minutes"}};
        size_t u = 0;

        while (u + 1 < sizeof(units) / sizeof(units[0]) && left_ms < 2 * units[u].ms)
                u++;
        return json_sprintf("the token %s expires in %" PRId64
                            " %s; make a new one with 'mlctl token create'",
                            p->token, left_ms / units[u].ms, units[u].unit);
}

static json_t *warnings(const struct auth_principal *p)
{
        json_t *list = json_array();
        int64_t left = p->token_expires - mlc_now_ms();

        if (p->token_expires != 0 && left < EXPIRY_WARNING_MS)
                (void)json_array_append_new(list, expiry_warning(p, left));
        return list;
}

int api_whoami(struct mlc_ctx *ctx, const struct api_whoami_req *req, struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *user = NULL, *token = NULL;
        const struct auth_principal *p = ctx->principal;
        int r = db_tx_begin_read(ctx, &tx);

        (void)req;
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_USER_JSON, p->user, "user", &user);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_TOKEN_JSON, p->token, "token", &token);
        if (r < 0)
                return r;
        http_reply_json(reply, 200,
                        json_pack("{s:O, s:o, s:O, s:s, s:o}", "user", user, "roles", held_roles(p),
                                  "token", token, "origin", audit_origin(ctx->app), "warnings",
                                  warnings(p)));
        return 0;
}

int api_login(struct mlc_ctx *ctx, const struct api_login_req *req, struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_login(ctx, req->body.invite, &json);

        return reply_json(reply, r, 201, json);
}

int api_user_list(struct mlc_ctx *ctx, const struct api_user_list_req *req,
                  struct http_reply *reply)
{
        _cleanup_(json_decref_p) json_t *items = NULL;
        const char *after = "", *last, *next = NULL;
        int r;

        r = http_cursor_texts(ctx, req->query.cursor, &after, 1);
        if (r < 0)
                return r;
        r = auth_user_list(ctx, after, req->query.has_limit ? req->query.limit : PAGE_DEFAULT,
                           &items, &last);
        if (r < 0)
                return r;
        if (last != NULL) {
                _cleanup_(json_decref_p) json_t *from = json_pack("[s]", last);

                next = http_cursor_make(ctx, from);
                if (next == NULL)
                        return ctx->err.code;
        }
        http_reply_json(reply, 200, json_pack("{s:O, s:s?}", "items", items, "next", next));
        return 0;
}

int api_user_create(struct mlc_ctx *ctx, const struct api_user_create_req *req,
                    struct http_reply *reply)
{
        const struct auth_user_new in = {
                .name = req->body.name,
                .service = mlc_streq(req->body.kind, "service"),
                .owner = req->body.owner,
                .roles = req->body.roles,
                .n_roles = req->body.n_roles,
        };
        json_t *json = NULL;
        int r = auth_user_create(ctx, &in, &json);

        return reply_json(reply, r, 201, json);
}

int api_user_get(struct mlc_ctx *ctx, const struct api_user_get_req *req, struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_user_get(ctx, req->path.user, &json);

        return reply_json(reply, r, 200, json);
}

int api_user_invite(struct mlc_ctx *ctx, const struct api_user_invite_req *req,
                    struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_user_invite(ctx, req->path.user, &json);

        return reply_json(reply, r, 201, json);
}

int api_user_status(struct mlc_ctx *ctx, const struct api_user_status_req *req,
                    struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_user_set_status(ctx, req->path.user, req->body.status, &json);

        return reply_json(reply, r, 200, json);
}

int api_user_erase(struct mlc_ctx *ctx, const struct api_user_erase_req *req,
                   struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_user_erase(ctx, req->path.user, &json);

        return reply_json(reply, r, 200, json);
}

int api_role_grant(struct mlc_ctx *ctx, const struct api_role_grant_req *req,
                   struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_role_grant(ctx, req->path.user, req->body.role, &json);
        bool pending = r == 0 && json_object_get(json, "pending") != NULL;

        return reply_json(reply, r, pending ? 202 : 200, json);
}

int api_role_revoke(struct mlc_ctx *ctx, const struct api_role_revoke_req *req,
                    struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_role_revoke(ctx, req->path.user, req->path.role, &json);

        return reply_json(reply, r, 200, json);
}

int api_token_list(struct mlc_ctx *ctx, const struct api_token_list_req *req,
                   struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_token_list(ctx, &json);

        (void)req;
        return reply_json(reply, r, 200, json);
}

int api_token_create(struct mlc_ctx *ctx, const struct api_token_create_req *req,
                     struct http_reply *reply)
{
        struct auth_token_new in = {
                .expires_s = req->body.has_expires_in ? req->body.expires_in : AUTH_TOKEN_DEFAULT_S,
        };
        json_t *json = NULL;
        int r = auth_scope_check(ctx, req->body.scope, req->body.n_scope, &in.scope);

        if (r < 0)
                return r;
        r = auth_token_create(ctx, req->body.user, &in, &json);
        return reply_json(reply, r, 201, json);
}

int api_token_revoke(struct mlc_ctx *ctx, const struct api_token_revoke_req *req,
                     struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_token_revoke(ctx, req->path.token, &json);

        return reply_json(reply, r, 200, json);
}

int api_key_list(struct mlc_ctx *ctx, const struct api_key_list_req *req, struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_key_list(ctx, req->query.user, &json);

        return reply_json(reply, r, 200, json);
}

int api_key_add(struct mlc_ctx *ctx, const struct api_key_add_req *req, struct http_reply *reply)
{
        json_t *json = NULL;
        int status = 200;
        int r = auth_key_add(ctx, req->body.public, req->body.proof, &status, &json);

        return reply_json(reply, r, status, json);
}

int api_key_revoke(struct mlc_ctx *ctx, const struct api_key_revoke_req *req,
                   struct http_reply *reply)
{
        json_t *json = NULL;
        int r = auth_key_revoke(ctx, req->path.key, &json);

        return reply_json(reply, r, 200, json);
}
