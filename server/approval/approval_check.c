/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of signed decisions: each statement and signature again. */
#include <stdarg.h>

#include "approval/approval_internal.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"
#include "gen/approval.sql.h"

#define BATCH_ARENA (64u << 20)
#define BATCH_MS 3600000

struct check {
        void (*report)(void *userdata, const char *what);
        void *userdata;
};

__attribute__((format(printf, 2, 3))) static void say(const struct check *c, const char *fmt, ...)
{
        char what[1024];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        c->report(c->userdata, what);
}

enum {
        C_ID,
        C_KIND,
        C_SUBJECT,
        C_DECISION,
        C_SIGNER,
        C_STATEMENT,
        C_DIGEST,
        C_SIGNATURE,
        C_SIGNATURE_DIGEST,
        C_PUBLIC,
        C_KEY_USER,
        C_KEY_TYPE,
        C_NONCE,
        C_ROLE,
        C_REASON,
        C_SEQ,
        C_EXPIRES
};

static bool has_digest(const char *text, const char *digest)
{
        char s[MLC_DIGEST_STR];
        struct mlc_digest d;

        mlc_sha256(text, strlen(text), &d);
        mlc_digest_format(&d, s);
        return mlc_streq(s, digest);
}

/* The first column that says something else than the statement; NULL when none does. */
static const char *other_column(const struct db_rows *rows, int i, const struct mlc_statement *s)
{
        const struct {
                const char *name, *said;
                int col;
        } columns[] = {{"subject", s->subject_kind, C_KIND},
                       {"subject", s->subject_id, C_SUBJECT},
                       {"decision", s->decision, C_DECISION},
                       {"signer", s->signer, C_SIGNER},
                       {"signer", s->signer, C_KEY_USER},
                       {"nonce", s->nonce, C_NONCE},
                       {"role", s->role, C_ROLE},
                       {"expires", s->expires, C_EXPIRES},
                       {"reason_commitment", s->reason_commitment, C_REASON}};

        for (size_t k = 0; k < ARRAY_LEN(columns); k++)
                if (!mlc_streq(columns[k].said, db_text(rows, i, columns[k].col)))
                        return columns[k].name;
        return NULL;
}

static int check_signature(struct mlc_ctx *ctx, const struct db_rows *rows, int i,
                           struct mlc_err *why)
{
        struct mlc_sshsig_result *sig = ctx_alloc(ctx, sizeof(*sig));
        struct mlc_sshkey *key = ctx_alloc(ctx, sizeof(*key));
        const char *line =
                ctx_printf(ctx, "%s %s", db_text(rows, i, C_KEY_TYPE), db_text(rows, i, C_PUBLIC));
        const char *text = db_text(rows, i, C_STATEMENT), *armour = db_text(rows, i, C_SIGNATURE);
        int r;

        if (sig == NULL || key == NULL || line == NULL)
                return ctx->err.code;
        r = mlc_sshkey_parse(line, key, why);
        if (r == 0)
                r = mlc_sshsig_verify(
                        armour, strlen(armour),
                        &(struct mlc_sshsig_message){MLC_STATEMENT_NAMESPACE, text, strlen(text)},
                        sig, why);
        if (r < 0)
                return 0;
        if (!mlc_sshkey_equal(key, &sig->key))
                (void)mlc_fail(why, MLC_E_VERIFY, "another key made the signature");
        return 0;
}

static int check_one(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows, int i)
{
        const char *id = db_text(rows, i, C_ID), *text = db_text(rows, i, C_STATEMENT), *column;
        struct mlc_statement s;
        struct mlc_err why = {0};
        int r;

        if (!has_digest(text, db_text(rows, i, C_DIGEST)))
                say(c, "approval '%s': its statement differs from its digest", id);
        if (!has_digest(db_text(rows, i, C_SIGNATURE), db_text(rows, i, C_SIGNATURE_DIGEST)))
                say(c, "approval '%s': its signature differs from its digest", id);
        if (mlc_statement_parse(text, strlen(text), &ctx->arena, &s, &why) < 0) {
                say(c, "approval '%s': %s", id, why.msg);
                return 0;
        }
        column = other_column(rows, i, &s);
        if (column != NULL)
                say(c, "approval '%s': its row names another %s than its statement", id, column);
        r = check_signature(ctx, rows, i, &why);
        if (r == 0 && why.code != 0)
                say(c, "approval '%s': %s", id, why.msg);
        return r;
}

/* From after *seq on; *ret_n rows were read. In a ctx of its own. */
static int check_batch(struct mlc_ctx *ctx, const struct check *c, int64_t *seq, int *ret_n)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        mlc_ctx_init(&one, ctx->app, ctx->operation, BATCH_ARENA, BATCH_MS);
        r = db_tx_begin_read(&one, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_CHECK_APPROVALS, &rows, DB_INT(*seq));
        for (int i = 0; r == 0 && i < rows.n; i++) {
                r = check_one(&one, c, &rows, i);
                *seq = db_int(&rows, i, C_SEQ);
        }
        *ret_n = rows.n;
        if (r < 0)
                ctx->err = one.err;
        return r;
}

static int report_rows(struct mlc_ctx *ctx, const struct check *c, const struct db_stmt *stmt,
                       const char *what)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, *stmt, &rows);
        for (int i = 0; r == 0 && i < rows.n; i++)
                say(c, "'%s' %s", db_text(&rows, i, 0), what);
        return r;
}

int approval_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                   void *userdata)
{
        const struct check c = {report, userdata};
        int64_t seq = 0;
        int n = 1, r = 0;

        while (r == 0 && n > 0)
                r = check_batch(ctx, &c, &seq, &n);
        if (r == 0)
                r = report_rows(ctx, &c, &SQL_CHECK_APPROVAL_LEAVES,
                                "has not the leaf that its row names");
        if (r == 0)
                r = report_rows(ctx, &c, &SQL_CHECK_CHANGES,
                                "was applied, but no version of its "
                                "document has its digest");
        return r < 0 ? r : approval_guard_check(ctx, report, userdata);
}
