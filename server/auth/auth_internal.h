/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of this folder share; nobody else includes it. */
#include "auth/auth.h"
#include "base/str.h"
#include "cache/cache.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "crypto/random.h"
#include "db/db.h"

#define AUTH_TOKEN_PREFIX "mlc_"
#define AUTH_SECRET_MAX 64 /* buffer for a token or an invitation, NUL included */
#define AUTH_TOKEN_DEFAULT_S (90LL * 86400) /* a token nobody set an end for */

struct auth {
        struct epoch *epoch;
        struct cache *cache; /* what tokens may */
};

/* "contributor@fraud"; ns "*" is everywhere. */
struct auth_spec {
        unsigned role;
        const char *ns;
};

struct auth_user {
        char id[MLC_ID_MAX];
        char owner[MLC_ID_MAX];
        const char *name; /* NULL once erased */
        bool service;
        bool active;
        bool erased;
};

/* auth.c: rules that several files use */

/* ROLE or ROLE@NS; field names the member at fault. The namespace lies in ctx's arena. */
int auth_spec_parse(struct mlc_ctx *ctx, const char *field, const char *text,
                    struct auth_spec *ret) MLC_CHECK;
/* Fails with MLC_E_FORBIDDEN unless the caller is admin in that namespace. */
int auth_require_admin(struct mlc_ctx *ctx, const char *ns) MLC_CHECK;
/* Appends the leaf of a change to a governed object, whose state after it is read back from
 * auth_state. */
int auth_record(struct mlc_ctx *ctx, struct db_tx *tx, const char *action, const char *kind,
                const char *id, const json_t *before) MLC_CHECK;
/* The same of an object that is new, because of a change that owners signed (NULL: of none). */
int auth_record_new(struct mlc_ctx *ctx, struct db_tx *tx, const char *action, const char *kind,
                    const char *id, const char *change) MLC_CHECK;
/* A fresh secret with its SHA-256. */
void auth_secret_make(const char *prefix, char ret[AUTH_SECRET_MAX], struct mlc_digest *ret_hash);
/* After the roles, status or owner of people changed: MLC_E_CONFLICT when nobody would be admin
 * everywhere. */
int auth_keep_an_admin(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;

/* auth_db.c: statements */

int auth_db_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                  json_t **ret) MLC_CHECK;
/* First column of the only row as JSON; MLC_E_NOT_FOUND naming `what` when there is none. */
int auth_db_json(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_stmt *stmt, const char *key,
                 const char *what, json_t **ret) MLC_CHECK;
/* First column of all rows as a JSON array. */
int auth_db_json_list(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_stmt *stmt,
                      const char *key, json_t **ret) MLC_CHECK;
int auth_db_user_find(struct mlc_ctx *ctx, struct db_tx *tx, const char *id_or_name,
                      struct auth_user *ret) MLC_CHECK;

/* auth_token.c */
struct auth_token_new {
        const char *user;
        const char *scope; /* space-separated, sorted ROLE@NS; "" = all that the user may */
        int64_t expires_s; /* from now; 0 = never */
};
/* Inserts and appends the leaf; the secret is for the caller to show once. */
int auth_token_issue(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_token_new *in,
                     char ret_id[MLC_ID_MAX], char ret_secret[AUTH_SECRET_MAX]) MLC_CHECK;
int auth_token_create(struct mlc_ctx *ctx, const char *for_user, const struct auth_token_new *in,
                      json_t **ret) MLC_CHECK;
int auth_token_list(struct mlc_ctx *ctx, json_t **ret) MLC_CHECK;
int auth_token_revoke(struct mlc_ctx *ctx, const char *id, json_t **ret) MLC_CHECK;
/* Sorts and joins specs that the caller's token may pass on. */
int auth_scope_check(struct mlc_ctx *ctx, const char *const *specs, size_t n,
                     const char **ret) MLC_CHECK;

/* auth_user.c */
struct auth_user_new {
        const char *name;
        bool service;
        const char *owner; /* id or name; NULL for a person */
        const char *const *roles;
        size_t n_roles;
};
/* The user's row, name commitment and leaf. */
int auth_user_insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_user_new *in,
                     const char *owner_id, char ret_id[MLC_ID_MAX]) MLC_CHECK;
/* Whatever owners say; `change` is what they signed, or NULL. One that is held changes nothing. */
int auth_role_insert(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                     const struct auth_spec *spec, const char *change) MLC_CHECK;
int auth_user_create(struct mlc_ctx *ctx, const struct auth_user_new *in, json_t **ret) MLC_CHECK;
int auth_user_invite(struct mlc_ctx *ctx, const char *user, json_t **ret) MLC_CHECK;
int auth_user_set_status(struct mlc_ctx *ctx, const char *user, const char *status,
                         json_t **ret) MLC_CHECK;
int auth_user_erase(struct mlc_ctx *ctx, const char *user, json_t **ret) MLC_CHECK;
int auth_user_get(struct mlc_ctx *ctx, const char *user, json_t **ret) MLC_CHECK;
int auth_user_list(struct mlc_ctx *ctx, const char *after, int64_t limit, json_t **ret_items,
                   const char **ret_last) MLC_CHECK;
/* *ret has `pending` when owners must sign first. */
int auth_role_grant(struct mlc_ctx *ctx, const char *user, const char *spec,
                    json_t **ret) MLC_CHECK;
int auth_role_revoke(struct mlc_ctx *ctx, const char *user, const char *spec,
                     json_t **ret) MLC_CHECK;
int auth_login(struct mlc_ctx *ctx, const char *invite, json_t **ret) MLC_CHECK;

/* auth_key.c */
/* *ret_status: 200 it was there, 201 it is registered, 202 owners must sign first. */
int auth_key_add(struct mlc_ctx *ctx, const char *public_line, const char *proof, int *ret_status,
                 json_t **ret) MLC_CHECK;
/* A new key's row and leaf; `public` is base64. `change` as of auth_role_insert. */
struct auth_key_new {
        const char *user, *type, *public, *fingerprint;
};
int auth_key_insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_key_new *in,
                    const char *change, char ret_id[MLC_ID_MAX]) MLC_CHECK;

/* auth_award.c */

/* Grants the role, or asks those who must sign; that is appended to `pending`. The person's row is
 * held. */
int auth_award_role(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                    const struct auth_spec *spec, json_t *pending) MLC_CHECK;
/* Registers the key, whose id is then in ret_id, or asks: ret_id is "". */
int auth_award_key(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_key_new *in,
                   json_t *pending, char ret_id[MLC_ID_MAX]) MLC_CHECK;
int auth_key_list(struct mlc_ctx *ctx, const char *user, json_t **ret) MLC_CHECK;
int auth_key_revoke(struct mlc_ctx *ctx, const char *id, json_t **ret) MLC_CHECK;

/* auth_cache.c */
int auth_cache_open(struct auth *a, const char *dir, struct mlc_err *err) MLC_CHECK;
void auth_cache_close(struct auth *a);
/* A copy in ctx's arena, NULL when not remembered or outdated. */
int auth_cache_get(struct mlc_ctx *ctx, const struct auth *a, const struct mlc_digest *hash,
                   const struct auth_principal **ret) MLC_CHECK;
/* `epoch` was read before the principal was loaded. */
void auth_cache_put(const struct auth *a, const struct mlc_digest *hash, uint64_t epoch,
                    const struct auth_principal *p);
