/* SPDX-License-Identifier: Apache-2.0 */
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"
#include "rollout/rollout.h"

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* --- what a promotion waits for --- */

static void waiting_evidence(const json_t *checks, json_t *list)
{
        size_t i;
        const json_t *c;

        json_array_foreach (checks, i, c) {
                const char *v = text_of(c, "verdict");
                json_int_t need = json_integer_value(json_object_get(c, "n_needed"));
                json_int_t have = json_integer_value(json_object_get(c, "n"));

                if (!mlc_streq(text_of(c, "mode"), "enforce") ||
                    (!mlc_streq(v, "inconclusive") && !mlc_streq(v, "error")))
                        continue;
                (void)json_array_append_new(
                        list, json_pack("{s:s, s:O, s:I, s:I, s:[]}", "kind", "evidence", "rule",
                                        json_object_get(c, "id"), "need", need > 0 ? need : 1,
                                        "have", have, "eligible"));
        }
}

static int waiting_people(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *rules_json = NULL;
        struct approval_rules rules;
        struct promotion p;
        int r = promotion_load(ctx, tx, id, false, &p);

        if (r == 0)
                r = promotion_rules(ctx, tx, &p, &rules_json, &rules);
        return r < 0 ? r : approval_waiting(ctx, tx, &rules, ret);
}

int promotion_add_waiting(struct mlc_ctx *ctx, struct db_tx *tx, json_t *shown)
{
        const char *state = text_of(shown, "state");
        _cleanup_(json_decref_p) json_t *list = NULL;
        int r = 0;

        if (mlc_streq(state, "awaiting_approval"))
                r = waiting_people(ctx, tx, text_of(shown, "id"), &list);
        if (r < 0)
                return r;
        if (list == NULL)
                list = json_array();
        if (mlc_streq(state, "held"))
                waiting_evidence(json_object_get(shown, "checks"), list);
        if (mlc_streq(state, "scheduled"))
                (void)json_array_append_new(list, json_pack("{s:s, s:n, s:i, s:i, s:[]}", "kind",
                                                            "window", "rule", "need", 1, "have", 0,
                                                            "eligible"));
        if (mlc_streq(state, "approved"))
                (void)json_array_append_new(list, json_pack("{s:s, s:n, s:i, s:i, s:[]}", "kind",
                                                            "checkpoint", "rule", "need", 1, "have",
                                                            0, "eligible"));
        (void)json_object_set(shown, "waiting_for", list);
        return 0;
}

int promotion_show(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        int r = db_run(tx, SQL_PROMOTION_SHOW, &rows, DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0 ||
            (ctx->principal != NULL && !auth_may_read(ctx->principal, db_text(&rows, 0, 0))))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no promotion '%s'", id);
        r = promotion_parse(ctx, db_text(&rows, 0, 1), &shown);
        if (r == 0)
                r = promotion_add_waiting(ctx, tx, shown);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(shown);
        return 0;
}

/* --- evidence --- */

int promotion_evidence(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *bundle = NULL;
        _cleanup_(json_decref_p) json_t *verdict = NULL;
        json_t *statement, *meanings;
        struct mlc_statement expect;
        struct promotion p;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = promotion_load(ctx, &tx, id, false, &p);
        if (r < 0)
                return r;
        if (p.verdict[0] == '\0' || mlc_streq(p.state, "evaluating"))
                return ctx_fail(ctx, MLC_E_CONFLICT, "promotion '%s' is %s: there is no verdict%s",
                                id, p.state, p.verdict[0] == '\0' ? "" : " that holds yet");
        if (p.policy_digest == NULL)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "promotion '%s' could not be judged: there is no evidence", id);
        r = db_run(&tx, SQL_PROMOTION_BUNDLE, &rows, DB_TEXT(id));
        if (r == 0)
                r = promotion_parse(ctx, db_text(&rows, 0, 0), &bundle);
        if (r == 0)
                r = promotion_parse(ctx, p.verdict, &verdict);
        if (r == 0)
                r = promotion_statement(ctx, &p, &expect);
        if (r == 0)
                r = approval_template(ctx, &tx, &expect, &statement, &meanings);
        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:O, s:O, s:s, s:o, s:o}", "id", p.id, "bundle", bundle, "verdict",
                         verdict, "verdict_digest", p.verdict_digest, "statement", statement,
                         "meanings", meanings);
        return 0;
}

/* --- inbox --- */

static int inbox_item(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_rows *rows, int i,
                      json_t *items)
{
        _cleanup_(json_decref_p) json_t *rules_json = NULL;
        _cleanup_(json_decref_p) json_t *who = NULL;
        struct approval_rules rules;
        struct mlc_approval_count count = {0};
        struct promotion p;
        int rule = -1;
        int r = promotion_load(ctx, tx, db_text(rows, i, 0), false, &p);

        if (r == 0)
                r = promotion_rules(ctx, tx, &p, &rules_json, &rules);
        if (r == 0)
                r = approval_may(ctx, tx, &rules, ctx->principal->user, &rule);
        if (r < 0 || rule < 0)
                return r;
        r = approval_count(ctx, tx, &rules, &count);
        if (r == 0)
                r = promotion_parse(ctx, db_text(rows, i, 4), &who);
        if (r < 0)
                return r;
        (void)json_array_append_new(
                items,
                json_pack("{s:s, s:s, s:s, s:I, s:s, s:n, s:s, s:i, s:i, s:O, s:s?, s:s, s:s?, "
                          "s:o, s:b}",
                          "kind", "promotion", "id", p.id, "model", p.model, "version",
                          (json_int_t)p.version, "environment", p.environment, "document", "rule",
                          count.rules[rule].name, "need", (int)count.rules[rule].need, "have",
                          (int)count.rules[rule].have, "requested_by", who, "reason",
                          db_is_null(rows, i, 5) ? NULL : db_text(rows, i, 5), "created",
                          db_text(rows, i, 6), "expires",
                          db_is_null(rows, i, 7) ? NULL : db_text(rows, i, 7), "url",
                          json_sprintf("/api/v1/promotions/%s", p.id), "protected",
                          db_bool(rows, i, 8)));
        return 0;
}

int promotion_inbox(struct mlc_ctx *ctx, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *items = json_array();
        const char *readable;
        int r = promotion_readable(ctx, &readable);

        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0 && !ctx->principal->service)
                r = db_run(&tx, SQL_PROMOTION_AWAITING, &rows, DB_TEXT(ctx->principal->user),
                           DB_TEXT(readable));
        for (int i = 0; r == 0 && i < rows.n; i++)
                r = inbox_item(ctx, &tx, &rows, i, items);
        if (r == 0 && !ctx->principal->service)
                r = rollout_inbox(ctx, &tx, readable, items);
        if (r == 0 && !ctx->principal->service)
                r = approval_inbox(ctx, &tx, items);
        if (r < 0)
                return r;
        *ret = json_pack("{s:O}", "items", items);
        return 0;
}
