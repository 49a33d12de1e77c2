/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/sshkey.h"
#include "crypto/sshsig.h"
#include "gen/auth.sql.h"

#define PROOF_NAMESPACE "key-proof@mlctl"

/* The proof binds the key to this log and this person, so that it serves nowhere else. */
static int check_proof(struct mlc_ctx *ctx, const struct mlc_sshkey *key, const char *fingerprint,
                       const char *proof)
{
        const char *text = ctx_printf(ctx, "mlctl key proof v1\nlog %s\nuser %s\nkey %s\n",
                                      audit_origin(ctx->app), ctx->principal->user, fingerprint);
        struct mlc_sshsig_result sig;
        struct mlc_err why = {0};

        if (text == NULL)
                return ctx->err.code;
        if (mlc_sshsig_verify(proof, strlen(proof),
                              &(struct mlc_sshsig_message){PROOF_NAMESPACE, text, strlen(text)},
                              &sig, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/proof", "the proof does not verify: %s",
                                      why.msg);
        if (!mlc_sshkey_equal(key, &sig.key))
                return ctx_fail_field(ctx, MLC_E_INVALID, "/proof",
                                      "the proof was made with another key");
        return 0;
}

/* The same key of the same person again is no change; anybody else's, or a revoked one, is refused.
 */
static int find_registered(struct mlc_ctx *ctx, struct db_tx *tx, const char *public_b64,
                           const char **ret_id)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_AUTH_KEY_BY_PUBLIC, &rows, DB_TEXT(public_b64));

        if (r < 0)
                return r;
        *ret_id = NULL;
        if (rows.n == 0)
                return 0;
        if (!mlc_streq(db_text(&rows, 0, 1), ctx->principal->user))
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/public",
                                      "the key belongs to another person");
        if (db_bool(&rows, 0, 2))
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/public",
                                      "the key was revoked; make a new one");
        *ret_id = db_text_dup(ctx, &rows, 0, 0);
        return *ret_id != NULL ? 0 : ctx->err.code;
}

int auth_key_insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_key_new *in,
                    const char *change, char ret_id[MLC_ID_MAX])
{
        int r;

        mlc_random_id('k', ret_id);
        r = db_run(tx, SQL_AUTH_KEY_INSERT, NULL, DB_TEXT(ret_id), DB_TEXT(in->user),
                   DB_TEXT(in->type), DB_TEXT(in->public), DB_TEXT(in->fingerprint));
        if (r < 0)
                return r;
        return auth_record_new(ctx, tx, "key.add", "key", ret_id, change);
}

static int public_base64(struct mlc_ctx *ctx, const struct mlc_sshkey *key, const char **ret)
{
        struct mlc_str b64;

        mlc_str_init(&b64, 2 * MLC_SSHKEY_BLOB_MAX);
        mlc_base64_encode(MLC_BASE64_STD, key->blob, key->len, &b64);
        *ret = ctx_strdup(ctx, mlc_str_cstr(&b64));
        mlc_str_done(&b64);
        return *ret != NULL ? 0 : ctx->err.code;
}

/* Parses the line and checks that its private half signed the proof. */
static int accept_key(struct mlc_ctx *ctx, const char *public_line, const char *proof,
                      struct mlc_sshkey *ret)
{
        char fingerprint[MLC_SSHKEY_FP];
        struct mlc_err why = {0};

        if (ctx->principal->service)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "a service has no keys; its owner registers their own");
        if (mlc_sshkey_parse(public_line, ret, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/public", "%s", why.msg);
        mlc_sshkey_fingerprint(ret, fingerprint);
        return check_proof(ctx, ret, fingerprint, proof);
}

/* The person's row is held: their keys are the same ones until COMMIT. */
static int add_in_tx(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_key_new *in,
                     int *ret_status, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *json = NULL, *pending = json_array();
        const char *existing;
        char id[MLC_ID_MAX] = "";
        int status = 200, r = find_registered(ctx, tx, in->public, &existing);

        if (r < 0)
                return r;
        if (existing == NULL) {
                r = auth_award_key(ctx, tx, in, pending, id);
                status = id[0] != '\0' ? 201 : 202;
        }
        if (r == 0 && status != 202)
                r = auth_db_json(ctx, tx, &SQL_AUTH_KEY_JSON, existing != NULL ? existing : id,
                                 "key", &json);
        if (r < 0)
                return r;
        if (status == 202)
                json = json_pack("{s:s, s:s, s:s, s:s}", "user", in->user, "type", in->type,
                                 "public", in->public, "fingerprint", in->fingerprint);
        if (json_array_size(pending) > 0)
                (void)json_object_set(json, "pending", pending);
        *ret_status = status;
        *ret = TAKE_PTR(json);
        return 0;
}

int auth_key_add(struct mlc_ctx *ctx, const char *public_line, const char *proof, int *ret_status,
                 json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *json = NULL;
        struct auth_key_new in = {.user = ctx->principal->user};
        char fingerprint[MLC_SSHKEY_FP];
        struct auth_user self;
        struct mlc_sshkey key;
        int status = 0, r = accept_key(ctx, public_line, proof, &key);

        if (r == 0)
                r = public_base64(ctx, &key, &in.public);
        if (r < 0)
                return r;
        mlc_sshkey_fingerprint(&key, fingerprint);
        in.type = mlc_sshkey_type_name(key.type);
        in.fingerprint = fingerprint;
        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = auth_db_user_find(ctx, &tx, in.user, &self);
        if (r == 0)
                r = add_in_tx(ctx, &tx, &in, &status, &json);
        if (r == 0)
                r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_status = status;
        *ret = TAKE_PTR(json);
        return 0;
}

int auth_key_list(struct mlc_ctx *ctx, const char *user, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct auth_user u;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = auth_db_user_find(ctx, &tx, user != NULL ? user : ctx->principal->user, &u);
        if (r < 0)
                return r;
        return auth_db_json_list(ctx, &tx, &SQL_AUTH_KEY_LIST, u.id, ret);
}

static int revoke_in_tx(struct mlc_ctx *ctx, struct db_tx *tx, const char *id)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *before = NULL;
        int r = db_run(tx, SQL_AUTH_KEY_FIND, &rows, DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0 || (!mlc_streq(db_text(&rows, 0, 0), ctx->principal->user) &&
                            (auth_roles(ctx->principal, "*") & AUTH_ADMIN) == 0))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "you have no key '%s'", id);
        if (db_bool(&rows, 0, 1))
                return 0;
        r = auth_db_state(ctx, tx, "key", id, &before);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_AUTH_KEY_REVOKE, NULL, DB_TEXT(id));
        if (r < 0)
                return r;
        return auth_record(ctx, tx, "key.revoke", "key", id, before);
}

int auth_key_revoke(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *json = NULL;
        int r = db_tx_begin(ctx, &tx);

        if (r < 0)
                return r;
        r = revoke_in_tx(ctx, &tx, id);
        if (r < 0)
                return r;
        r = auth_db_json(ctx, &tx, &SQL_AUTH_KEY_JSON, id, "key", &json);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(json);
        return 0;
}
