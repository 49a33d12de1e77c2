/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of promotions: verdicts again from their bundles, approvals, and what is live. */
#include <stdarg.h>

#include "crypto/hash.h"
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"

#define ONE_ARENA (256u << 20)
#define ONE_MS 3600000

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
        C_SEQ,
        C_BUNDLE,
        C_VERDICT,
        C_VERDICT_DIGEST,
        C_DIGEST,
        C_ROLLBACK,
        C_APPROVED,
        C_POLICY,
        C_ENVIRONMENT,
        C_SIGNED
};

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* What the verdict is about is what the row is about. */
static void check_subject(const struct check *c, const struct db_rows *rows, const json_t *verdict)
{
        const struct {
                const char *member;
                int col;
        } same[] = {{"digest", C_DIGEST},
                    {"policy_digest", C_POLICY},
                    {"environment_digest", C_ENVIRONMENT}};

        for (size_t i = 0; i < ARRAY_LEN(same); i++)
                if (!mlc_streq(text_of(verdict, same[i].member), db_text(rows, 0, same[i].col)))
                        say(c, "promotion '%s': its verdict is about another %s",
                            db_text(rows, 0, C_ID), same[i].member);
}

static void check_approvals(const struct check *c, const struct db_rows *rows, const json_t *bundle,
                            const json_t *verdict)
{
        const json_t *rules = json_object_get(json_object_get(bundle, "policy"), "approvals");
        json_int_t need = 0;
        size_t i;
        const json_t *rule;

        if (!db_bool(rows, 0, C_APPROVED) || db_bool(rows, 0, C_ROLLBACK))
                return;
        if (!mlc_streq(text_of(verdict, "verdict"), "pass"))
                say(c, "promotion '%s': was approved, but its verdict is not pass",
                    db_text(rows, 0, C_ID));
        json_array_foreach (rules, i, rule)
                need += json_integer_value(json_object_get(rule, "count"));
        if (db_int(rows, 0, C_SIGNED) < need)
                say(c, "promotion '%s': was approved with %d signatures of people, %d are needed",
                    db_text(rows, 0, C_ID), (int)db_int(rows, 0, C_SIGNED), (int)need);
}

static int check_verdict(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows)
{
        _cleanup_(json_decref_p) json_t *bundle = NULL;
        _cleanup_(json_decref_p) json_t *verdict = NULL;
        _cleanup_(json_decref_p) json_t *again = NULL;
        char digest[MLC_DIGEST_STR];
        const char *id = db_text(rows, 0, C_ID);
        bool judged = db_text(rows, 0, C_BUNDLE)[0] != '\0';
        int r = promotion_parse(ctx, db_text(rows, 0, C_VERDICT), &verdict);

        if (r == 0 && judged)
                r = promotion_parse(ctx, db_text(rows, 0, C_BUNDLE), &bundle);
        if (r == 0)
                r = gate_json_digest(ctx, verdict, digest);
        if (r < 0)
                return r;
        if (!mlc_streq(digest, db_text(rows, 0, C_VERDICT_DIGEST)))
                say(c, "promotion '%s': its verdict differs from its digest", id);
        if (judged || !mlc_streq(text_of(verdict, "verdict"), "error"))
                check_subject(c, rows, verdict);
        check_approvals(c, rows, bundle, verdict);
        if (mlc_streq(text_of(verdict, "verdict"), "error"))
                return 0; /* what could not be read then may be readable now */
        r = gate_judge(ctx, bundle, &again);
        if (r == 0)
                r = gate_json_digest(ctx, again, digest);
        if (r == 0 && !mlc_streq(digest, db_text(rows, 0, C_VERDICT_DIGEST)))
                say(c, "promotion '%s': its evidence gives another verdict", id);
        return r;
}

/* The one after *seq, in a ctx of its own; *ret_more false when there is none. */
static int check_next(struct mlc_ctx *ctx, const struct check *c, int64_t *seq, bool *ret_more)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r;

        mlc_ctx_init(&one, ctx->app, ctx->operation, ONE_ARENA, ONE_MS);
        r = db_tx_begin_read(&one, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_CHECK_PROMOTIONS, &rows, DB_INT(*seq));
        db_tx_done(&tx);
        *ret_more = r == 0 && rows.n > 0;
        if (*ret_more) {
                *seq = db_int(&rows, 0, C_SEQ);
                if (db_text(&rows, 0, C_VERDICT)[0] != '\0')
                        r = check_verdict(&one, c, &rows);
        }
        if (r == MLC_E_INVALID || r == MLC_E_NOT_FOUND || r == MLC_E_VERIFY) {
                say(c, "promotion '%s': %s", db_text(&rows, 0, C_ID), one.err.msg);
                r = 0;
        }
        if (r < 0)
                ctx->err = one.err;
        return r;
}

static int report_rows(struct mlc_ctx *ctx, const struct check *c, const struct db_stmt *stmt)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, *stmt, &rows);
        for (int i = 0; r == 0 && i < rows.n; i++)
                say(c, "%s", db_text(&rows, i, 0));
        return r;
}

int promotion_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                    void *userdata)
{
        const struct check c = {report, userdata};
        int64_t seq = 0;
        bool more = true;
        int r = report_rows(ctx, &c, &SQL_CHECK_LIVE);

        if (r == 0)
                r = report_rows(ctx, &c, &SQL_CHECK_LIVE_ALIASES);
        if (r == 0)
                r = report_rows(ctx, &c, &SQL_CHECK_PROMOTION_LEAVES);
        while (r == 0 && more)
                r = check_next(ctx, &c, &seq, &more);
        return r;
}
