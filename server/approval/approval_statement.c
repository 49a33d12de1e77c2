/* SPDX-License-Identifier: Apache-2.0 */
#include "approval/approval_internal.h"
#include "base/clock.h"
#include "codec/base64.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "crypto/sshsig.h"
#include "gen/approval.sql.h"

#define NO_REASON "sha256:0000000000000000000000000000000000000000000000000000000000000000"
#define NONCE_BYTES 16

static const char *const DECISIONS[] = {"approve", "reject", "rollback"};

static bool decision_fits(const struct mlc_statement *expect, const char *decision)
{
        return expect->decision != NULL
                       ? mlc_streq(expect->decision, decision)
                       : mlc_streq(decision, "approve") || mlc_streq(decision, "reject");
}

/* The caller's name as it was committed; a service signs nothing. */
static int signer_commitment(struct mlc_ctx *ctx, struct db_tx *tx, const char **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_APPROVAL_SIGNER, &rows, DB_TEXT(ctx->principal->user));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN, "the caller is not active");
        *ret = db_text_dup(ctx, &rows, 0, 0);
        return *ret != NULL ? 0 : ctx->err.code;
}

int approval_template(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_statement *expect,
                      json_t **ret, json_t **ret_meanings)
{
        struct mlc_statement s = *expect;
        char time[MLC_TIME_MAX], expires[MLC_TIME_MAX], nonce[2 * NONCE_BYTES + 1];
        unsigned char random[NONCE_BYTES];
        _cleanup_(mlc_str_done) struct mlc_str text;
        _cleanup_(json_decref_p) json_t *statement = NULL;
        _cleanup_(json_decref_p) json_t *meanings = json_object();
        int64_t now = mlc_now_ms();
        int r;

        mlc_str_init(&text, MLC_STATEMENT_MAX);
        r = signer_commitment(ctx, tx, &s.signer_name_commitment);
        if (r < 0)
                return r;
        mlc_time_format(now, time);
        mlc_time_format(now + APPROVAL_EXPIRES_MS, expires);
        mlc_random_bytes(random, sizeof(random));
        mlc_hex_encode(random, sizeof(random), nonce);
        s.decision = expect->decision != NULL ? expect->decision : "approve";
        s.meaning = mlc_statement_meaning(s.subject_kind, s.document, s.decision);
        s.signer = ctx->principal->user;
        s.reason_commitment = NO_REASON;
        s.time = time;
        s.expires = expect->expires != NULL ? expect->expires : expires;
        s.nonce = nonce;
        s.log = audit_origin(ctx->app);
        r = mlc_statement_build(&s, &text, &ctx->err);
        if (r < 0)
                return r;
        r = mlc_json_parse(mlc_str_cstr(&text), text.len, &statement, &ctx->err);
        if (r < 0)
                return r;
        (void)json_object_del(statement, "decision");
        (void)json_object_del(statement, "meaning");
        (void)json_object_del(statement, "reason_commitment");
        for (size_t i = 0; i < ARRAY_LEN(DECISIONS); i++) {
                const char *meaning =
                        mlc_statement_meaning(s.subject_kind, s.document, DECISIONS[i]);

                if (meaning != NULL && decision_fits(expect, DECISIONS[i]))
                        (void)json_object_set_new(meanings, DECISIONS[i], json_string(meaning));
        }
        *ret = TAKE_PTR(statement);
        *ret_meanings = TAKE_PTR(meanings);
        return 0;
}

static int bad_statement(struct mlc_ctx *ctx, const char *member, const char *why)
{
        return ctx_fail_field(ctx, MLC_E_VERIFY, "/statement",
                              "the statement's member '%s' %s; nothing was recorded", member, why);
}

static int check_times(struct mlc_ctx *ctx, const struct mlc_statement *s,
                       const struct mlc_statement *expect)
{
        int64_t now = mlc_now_ms(), time, expires;

        if (!mlc_time_parse(s->time, &time) || !mlc_time_parse(s->expires, &expires))
                return bad_statement(ctx, "time", "is no time");
        if (time < now - APPROVAL_TIME_MS || time > now + APPROVAL_TIME_MS)
                return bad_statement(ctx, "time", "is more than 15 minutes away; sign again");
        if (expect->expires != NULL && !mlc_streq(expect->expires, s->expires))
                return bad_statement(ctx, "expires", "is not when the request expires");
        if (expires <= now)
                return bad_statement(ctx, "expires", "has passed");
        if (expires > time + APPROVAL_EXPIRES_MS && expect->expires == NULL)
                return bad_statement(ctx, "expires", "is more than 30 days away");
        return 0;
}

/* Every member that is not the signer's to choose is what we would say now. */
static int check_members(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_statement *s,
                         const struct mlc_statement *expect)
{
        struct mlc_statement want = *expect;
        const char *commitment, *member;
        int r = signer_commitment(ctx, tx, &commitment);

        if (r < 0)
                return r;
        want.log = audit_origin(ctx->app);
        member = mlc_statement_differs(s, &want);
        if (member != NULL)
                return bad_statement(ctx, member, "is not what is asked for here");
        if (!mlc_streq(s->signer, ctx->principal->user))
                return bad_statement(ctx, "signer", "is not the caller");
        if (!mlc_streq(s->signer_name_commitment, commitment))
                return bad_statement(ctx, "signer_name_commitment", "is not the signer's");
        if (!decision_fits(expect, s->decision))
                return bad_statement(ctx, "decision", "does not fit what it is about");
        if (!mlc_streq(s->meaning,
                       mlc_statement_meaning(s->subject_kind, s->document, s->decision)))
                return bad_statement(ctx, "meaning", "is not that of the decision");
        if (!mlc_streq(s->role, expect->role))
                return bad_statement(ctx, "role", "is not the one that decides here");
        return check_times(ctx, s, expect);
}

static int check_reason(struct mlc_ctx *ctx, const struct approval_in *in, const char *commitment)
{
        unsigned char salt[32];
        struct mlc_sha256 h;
        struct mlc_digest d;
        char text[MLC_DIGEST_STR];

        if (strlen(in->salt) != 64 || !mlc_hex_decode(in->salt, salt, sizeof(salt)))
                return ctx_fail_field(ctx, MLC_E_INVALID, "/salt", "the salt is 64 hex digits");
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, salt, sizeof(salt));
        mlc_sha256_update(&h, in->reason, strlen(in->reason));
        mlc_sha256_final(&h, &d);
        mlc_digest_format(&d, text);
        if (!mlc_streq(text, commitment))
                return bad_statement(ctx, "reason_commitment",
                                     "is not that of the reason and its salt");
        return 0;
}

/* The signature, by a key of the caller that holds. */
static int check_signature(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_in *in,
                           char ret_key[16])
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(mlc_str_done) struct mlc_str b64;
        struct mlc_sshsig_message m = {MLC_STATEMENT_NAMESPACE, in->statement,
                                       strlen(in->statement)};
        struct mlc_sshsig_result *sig = ctx_alloc(ctx, sizeof(*sig));
        struct mlc_err why = {0};
        int r;

        mlc_str_init(&b64, (size_t)2 * MLC_SSHKEY_BLOB_MAX);
        if (sig == NULL)
                return ctx->err.code;
        if (mlc_sshsig_verify(in->signature, strlen(in->signature), &m, sig, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_VERIFY, "/signature",
                                      "the signature does not hold: %s", why.msg);
        if (sig->is_webauthn)
                return ctx_fail_field(ctx, MLC_E_VERIFY, "/signature",
                                      "signatures made by a browser are not accepted");
        mlc_base64_encode(MLC_BASE64_STD, sig->key.blob, sig->key.len, &b64);
        r = db_run(tx, SQL_APPROVAL_KEY_SHARE, &rows, DB_TEXT(ctx->principal->user),
                   DB_TEXT(mlc_str_cstr(&b64)));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_VERIFY, "/signature",
                                      "the key that signed is none of yours, or was revoked; "
                                      "register one with mlctl key add");
        (void)snprintf(ret_key, 16, "%s", db_text(&rows, 0, 0));
        return 0;
}

static void digest_text(const char *text, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;

        mlc_sha256(text, strlen(text), &d);
        mlc_digest_format(&d, ret);
}

int approval_verify(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_in *in,
                    const struct mlc_statement *expect, struct approval_signed *ret)
{
        struct approval_signed s = {.in = in};
        struct mlc_err why = {0};
        int r;

        if (ctx->principal->service)
                return ctx_fail(ctx, MLC_E_FORBIDDEN, "a service never approves");
        if (mlc_statement_parse(in->statement, strlen(in->statement), &ctx->arena, &s.s, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_VERIFY, "/statement",
                                      "the statement is not one to sign: %s%s%s", why.field,
                                      why.field[0] != '\0' ? ": " : "", why.msg);
        r = check_members(ctx, tx, &s.s, expect);
        if (r < 0)
                return r;
        r = check_reason(ctx, in, s.s.reason_commitment);
        if (r < 0)
                return r;
        r = check_signature(ctx, tx, in, s.key);
        if (r < 0)
                return r;
        digest_text(in->statement, s.digest);
        digest_text(in->signature, s.signature_digest);
        *ret = s;
        return 0;
}

/* The state that approval_state would show. */
static json_t *state_of(struct mlc_ctx *ctx, const struct approval_signed *s)
{
        const char *subject = ctx_printf(ctx, "%s:%s", s->s.subject_kind, s->s.subject_id);

        if (subject == NULL)
                return NULL;
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "subject", subject,
                         "decision", s->s.decision, "signer", s->s.signer, "key", s->key, "role",
                         s->s.role, "statement", s->digest, "signature", s->signature_digest,
                         "expires", s->s.expires, "void", 0);
}

static int why_not_inserted(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_signed *s)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_APPROVAL_NONCE_USED, &rows, DB_TEXT(s->s.nonce));

        if (r < 0)
                return r;
        if (rows.n > 0)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/statement",
                                      "this statement was used already: its nonce is known");
        return ctx_fail(ctx, MLC_E_CONFLICT, "you have decided about '%s' already",
                        s->s.subject_id);
}

int approval_store(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_signed *s,
                   const char *model, char ret_id[24], char ret_leaf[65])
{
        _cleanup_(db_rows_done) struct db_rows id = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *state = state_of(ctx, s);
        _cleanup_(json_decref_p) json_t *detail =
                json_pack("{s:s, s:s, s:s}", "reason", s->s.reason_commitment, "statement",
                          s->in->statement, "signature", s->in->signature);
        struct audit_entry e = {.action = "approval.create",
                                .kind = "approval",
                                .after = state,
                                .detail = detail,
                                .model = model};
        int r = db_run0(tx, SQL_APPROVAL_NEXT_ID, &id);

        if (r < 0)
                return r;
        if (state == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the state of an approval is not UTF-8");
        e.id = db_text(&id, 0, 0);
        r = audit_append(ctx, tx, &e, ret_leaf);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_APPROVAL_REASON_INSERT, NULL, DB_TEXT(s->s.reason_commitment),
                   DB_TEXT(s->s.signer), DB_TEXT(s->in->salt), DB_TEXT(s->in->reason));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_APPROVAL_INSERT, &rows, DB_TEXT(e.id), DB_TEXT(s->s.subject_kind),
                   DB_TEXT(s->s.subject_id), DB_TEXT(s->s.decision), DB_TEXT(s->s.signer),
                   DB_TEXT(s->key), DB_TEXT(s->in->statement), DB_TEXT(s->digest),
                   DB_TEXT(s->in->signature), DB_TEXT(s->signature_digest), DB_TEXT(s->s.role),
                   DB_TEXT(s->s.reason_commitment), DB_TEXT(s->s.nonce), DB_TEXT(s->s.time),
                   DB_TEXT(s->s.expires), DB_TEXT(ret_leaf));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return why_not_inserted(ctx, tx, s);
        (void)snprintf(ret_id, 24, "%s", e.id);
        return 0;
}
