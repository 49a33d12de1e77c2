/* SPDX-License-Identifier: Apache-2.0 */
/* Signed approvals of steps: who is asked when, what they sign, and what follows. */
#include <inttypes.h>

#include "approval/approval.h"
#include "gen/rollout.sql.h"
#include "http/http.h"
#include "promotion/promotion.h"
#include "rollout/rollout_internal.h"

#define REQUEST_MARGIN_S 10 /* the leaf of what follows is later than the look; also in the SQL */

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static const json_t *rules_of(const struct rollout *r)
{
        return json_object_get(rollout_step(r, r->step), "approvals");
}

bool request_asked(const struct rollout *r)
{
        return json_array_size(rules_of(r)) > 0;
}

/* "r17/2": steps are counted from 1 where people see them. */
static const char *subject_of(struct mlc_ctx *ctx, const struct rollout *r, int64_t step)
{
        return ctx_printf(ctx, "%s/%" PRId64, r->id, step + 1);
}

/* What a statement about the present step says, and who counts for it. */
static int facts(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 struct mlc_statement *ret, struct approval_rules *ret_rules)
{
        struct approval_rules rules = {.subject_kind = "rollout", .rules = rules_of(r)};
        struct mlc_statement s = {0};
        int e = promotion_of_step(ctx, tx, r->promotion, &s, &rules);

        if (e < 0)
                return e;
        rules.subject_id = subject_of(ctx, r, r->step);
        if (rules.subject_id == NULL)
                return ctx->err.code;
        s.subject_kind = "rollout";
        s.subject_id = rules.subject_id;
        *ret = s;
        *ret_rules = rules;
        return 0;
}

static int statement(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                     const struct request *q, struct mlc_statement *ret)
{
        struct approval_rules unused;
        char plan[MLC_DIGEST_STR];
        const char **evidence;
        int e = facts(ctx, tx, r, ret, &unused);

        if (e == 0)
                e = gate_json_digest(ctx, r->plan, plan);
        evidence = e == 0 ? ctx_alloc(ctx, sizeof(*evidence)) : NULL;
        if (evidence == NULL)
                return ctx->err.code;
        evidence[0] = q->evidence;
        ret->evidence = evidence;
        ret->n_evidence = 1;
        ret->plan_digest = ctx_strdup(ctx, plan);
        ret->expires = q->expires;
        return ret->plan_digest != NULL ? 0 : ctx->err.code;
}

/* --- the request --- */

static int count(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, bool hold,
                 struct request *q)
{
        struct approval_rules rules;
        struct mlc_approval_count c = {0};
        struct mlc_statement unused;
        int e = facts(ctx, tx, r, &unused, &rules);

        rules.hold = hold;
        /* what signed an expired one has expired with it */
        rules.margin_s = q->expired ? -APPROVAL_EXPIRES_MS / 1000 : REQUEST_MARGIN_S;
        if (e == 0)
                e = approval_count(ctx, tx, &rules, &c);
        if (e < 0)
                return e;
        q->need = q->have = 0;
        for (size_t i = 0; i < c.n_rules; i++) {
                q->need += (int)c.rules[i].need;
                q->have += (int)c.rules[i].have;
        }
        q->signed_off = c.satisfied;
        return 0;
}

static int read_row(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                    struct request *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct request q = {0};
        int e = db_run(tx, SQL_REQUEST_READ, &rows, DB_TEXT(r->id), DB_INT(r->step));

        if (e < 0)
                return e;
        if (rows.n > 0) {
                q.state = db_text_dup(ctx, &rows, 0, 0);
                q.evidence = db_text_dup(ctx, &rows, 0, 1);
                q.expires = db_text_dup(ctx, &rows, 0, 2);
                if (q.state == NULL || q.evidence == NULL ||
                    (q.expires == NULL && !db_is_null(&rows, 0, 2)))
                        return ctx->err.code;
                q.open = mlc_streq(q.state, "open");
                q.expired = q.open && db_bool(&rows, 0, 3);
        }
        *ret = q;
        return 0;
}

int request_read(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 struct request *ret)
{
        int e;

        *ret = (struct request){0};
        if (!request_asked(r))
                return 0;
        e = read_row(ctx, tx, r, ret);
        return e < 0 || !ret->open ? e : count(ctx, tx, r, true, ret);
}

static int record(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                  const char *action, const json_t *before)
{
        const char *id = subject_of(ctx, r, r->step);
        _cleanup_(json_decref_p) json_t *after = NULL;
        int e = id == NULL ? ctx->err.code : rollout_state(ctx, tx, "request", id, &after);

        if (e < 0)
                return e;
        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = action,
                                                  .kind = "request",
                                                  .id = id,
                                                  .before = before,
                                                  .after = after,
                                                  .model = r->model},
                            NULL);
}

/* The shortest of the rules; 0: none of them has one. */
static int64_t request_ttl(const json_t *rules)
{
        const json_t *rule;
        int64_t least = 0;
        size_t i;

        json_array_foreach (rules, i, rule) {
                int64_t ttl = json_integer_value(json_object_get(rule, "request_ttl_ms"));

                if (ttl > 0 && (least == 0 || ttl < least))
                        least = ttl;
        }
        return least;
}

int request_open(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 const json_t *decision, bool *ret_later)
{
        _cleanup_(json_decref_p) json_t *before = NULL;
        const char *id = subject_of(ctx, r, r->step), *stats, *inputs, *text;
        char evidence[MLC_DIGEST_STR];
        struct request q;
        int e = id == NULL ? ctx->err.code : read_row(ctx, tx, r, &q);

        if (e < 0 || q.open)
                return e;
        if (ret_later != NULL && mlc_streq(q.state, "void")) {
                *ret_later = true;
                return 0;
        }
        e = rollout_state(ctx, tx, "request", id, &before);
        if (e == 0)
                e = gate_json_digest(ctx, decision, evidence);
        if (e < 0)
                return e;
        stats = rollout_text(ctx, r->stats);
        inputs = rollout_text(ctx, json_object_get(r->seen, "inputs"));
        text = rollout_text(ctx, decision);
        if (stats == NULL || inputs == NULL || text == NULL)
                return ctx->err.code;
        e = db_run(tx, SQL_REQUEST_OPEN, NULL, DB_TEXT(r->id), DB_INT(r->step), DB_TEXT(evidence),
                   DB_TEXT(text), DB_TEXT(stats), DB_TEXT(inputs),
                   DB_INT(request_ttl(rules_of(r))));
        return e < 0 ? e : record(ctx, tx, r, "request.open", before);
}

int request_end(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, const char *state)
{
        const char *id = subject_of(ctx, r, r->step);
        const char *action = ctx_printf(ctx, "request.%s", state);
        _cleanup_(json_decref_p) json_t *before = NULL;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e;

        if (!request_asked(r))
                return 0;
        if (id == NULL || action == NULL)
                return ctx->err.code;
        e = rollout_state(ctx, tx, "request", id, &before);
        if (e == 0)
                e = db_run(tx, SQL_REQUEST_END, &rows, DB_TEXT(r->id), DB_INT(r->step),
                           DB_TEXT(state));
        if (e < 0 || rows.n == 0)
                return e;
        e = record(ctx, tx, r, action, before);
        if (e == 0 && (mlc_streq(state, "void") || mlc_streq(state, "expired")))
                e = approval_void(ctx, tx, "rollout", id, r->model);
        return e;
}

int request_expire(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                   const struct request *q, bool *ret_changed)
{
        bool anew = r->paused || q->signed_off;
        const char *why = ctx_printf(ctx, "nobody approved step %d in time", r->step + 1);

        if (why == NULL || request_end(ctx, tx, r, anew ? "void" : "expired") < 0)
                return ctx->err.code;
        if (anew)
                return 0;
        *ret_changed = true;
        return rollout_go_back(ctx, tx, r, why);
}

/* --- showing --- */

int request_show(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, json_t *shown)
{
        json_t *approval = json_object_get(shown, "approval"), *waiting = NULL;
        struct approval_rules rules;
        struct mlc_statement unused;
        struct request q = {0};
        int e;

        if (!json_is_object(approval))
                return 0;
        e = facts(ctx, tx, r, &unused, &rules);
        if (e == 0)
                e = count(ctx, tx, r, false, &q);
        if (e == 0 && mlc_streq(text_of(approval, "state"), "open"))
                e = approval_waiting(ctx, tx, &rules, &waiting);
        if (e < 0)
                return e;
        (void)json_object_set_new(approval, "need", json_integer(q.need));
        (void)json_object_set_new(approval, "have", json_integer(q.have));
        if (waiting != NULL)
                (void)json_object_set_new(approval, "waiting_for", waiting);
        return 0;
}

static int inbox_item(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_rows *rows, int i,
                      json_t *items)
{
        _cleanup_(rollout_done) struct rollout r = {0};
        struct mlc_approval_count c = {0};
        struct approval_rules rules;
        struct mlc_statement unused;
        json_t *who;
        int rule = -1;
        int e = rollout_peek(ctx, tx, db_text(rows, i, 0), &r);

        if (e == 0)
                e = facts(ctx, tx, &r, &unused, &rules);
        if (e == 0)
                e = approval_may(ctx, tx, &rules, ctx->principal->user, &rule);
        if (e < 0 || rule < 0)
                return e;
        e = approval_count(ctx, tx, &rules, &c);
        if (e == 0)
                e = rollout_parse(ctx, db_text(rows, i, 2), &who);
        if (e < 0)
                return e;
        (void)json_array_append_new(
                items,
                json_pack("{s:s, s:s, s:s, s:I, s:s, s:n, s:s, s:i, s:i, s:o, s:s?, s:s, s:s?, "
                          "s:o, s:b}",
                          "kind", "rollout", "id", r.id, "model", r.model, "version",
                          (json_int_t)r.version, "environment", r.environment, "document", "rule",
                          c.rules[rule].name, "need", (int)c.rules[rule].need, "have",
                          (int)c.rules[rule].have, "requested_by", who, "reason",
                          db_is_null(rows, i, 3) ? NULL : db_text(rows, i, 3), "created",
                          db_text(rows, i, 4), "expires",
                          db_is_null(rows, i, 5) ? NULL : db_text(rows, i, 5), "url",
                          json_sprintf("/api/v1/rollouts/%s", r.id), "protected",
                          db_bool(rows, i, 6)));
        return 0;
}

int rollout_inbox(struct mlc_ctx *ctx, struct db_tx *tx, const char *readable, json_t *items)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_REQUEST_AWAITING, &rows, DB_TEXT(ctx->principal->user),
                       DB_TEXT(readable));

        for (int i = 0; e == 0 && i < rows.n; i++)
                e = inbox_item(ctx, tx, &rows, i, items);
        return e;
}

int request_decisions(struct mlc_ctx *ctx, const char *id, int64_t step, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(rollout_done) struct rollout r = {0};
        const char *subject;
        int e = db_tx_begin_read(ctx, &tx);

        if (e == 0)
                e = rollout_load(ctx, &tx, id, false, &r);
        if (e < 0)
                return e;
        subject = subject_of(ctx, &r, step >= 0 ? step : r.step);
        return subject == NULL ? ctx->err.code : approval_list(ctx, &tx, "rollout", subject, ret);
}

/* --- deciding --- */

static int require_open(struct mlc_ctx *ctx, const struct rollout *r, const struct request *q)
{
        if (!mlc_streq(r->state, "running") || !q->open)
                return ctx_fail(ctx, MLC_E_CONFLICT, "rollout '%s' waits for no approval now",
                                r->id);
        if (q->expired)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "the request for approvals of rollout '%s' has expired", r->id);
        return 0;
}

int request_evidence(struct mlc_ctx *ctx, const char *id, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(rollout_done) struct rollout r = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *evidence = NULL, *proposal, *meanings;
        struct mlc_statement expect;
        struct request q = {0};
        int e = db_tx_begin(ctx, &tx);

        if (e == 0)
                e = rollout_load(ctx, &tx, id, false, &r);
        if (e == 0)
                e = read_row(ctx, &tx, &r, &q);
        if (e == 0)
                e = require_open(ctx, &r, &q);
        if (e == 0)
                e = statement(ctx, &tx, &r, &q, &expect);
        if (e == 0)
                e = db_run(&tx, SQL_REQUEST_EVIDENCE, &rows, DB_TEXT(id), DB_INT(r.step));
        if (e == 0)
                e = rollout_parse(ctx, db_text(&rows, 0, 0), &evidence);
        if (e == 0)
                e = approval_template(ctx, &tx, &expect, &proposal, &meanings);
        if (e < 0) {
                json_decref(evidence);
                return e;
        }
        (void)json_object_set_new(evidence, "weight", json_integer(rollout_weight(&r, r.step)));
        (void)json_object_set_new(evidence, "statement", proposal);
        (void)json_object_set_new(evidence, "meanings", meanings);
        *ret = evidence;
        return 0;
}

struct deciding {
        const char *id;
        const struct approval_in *in;
        json_t *reply;
};

/* One rejection takes it back, as an abort does; the reason is with the signature. */
static int settle(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const char *decision,
                  struct request *q)
{
        const char *why = ctx_printf(ctx, "step %d was rejected", r->step + 1);
        int e = count(ctx, tx, r, true, q);

        if (e < 0 || !mlc_streq(decision, "reject"))
                return e;
        if (why == NULL)
                return ctx->err.code;
        e = request_end(ctx, tx, r, "rejected");
        return e < 0 ? e : rollout_go_back(ctx, tx, r, why);
}

static int decide(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct deciding *d = userdata;
        _cleanup_(rollout_done) struct rollout r = {0};
        struct mlc_statement expect, unused;
        struct approval_rules rules = {0};
        struct approval_signed s;
        struct request q = {0};
        char id[24], leaf[65], of[64];
        int e = rollout_load(ctx, tx, d->id, true, &r);

        json_decref(d->reply);
        d->reply = NULL;
        (void)snprintf(of, sizeof(of), "rollout '%s'", d->id);
        if (e == 0)
                e = read_row(ctx, tx, &r, &q);
        if (e == 0)
                e = require_open(ctx, &r, &q);
        if (e == 0)
                e = facts(ctx, tx, &r, &unused, &rules);
        if (e == 0)
                e = promotion_may_decide(ctx, tx, r.promotion, &rules, of);
        if (e == 0)
                e = statement(ctx, tx, &r, &q, &expect);
        if (e == 0)
                e = approval_verify(ctx, tx, d->in, &expect, &s);
        if (e == 0)
                e = promotion_decision_fits(ctx, tx, r.promotion, s.s.decision);
        if (e == 0)
                e = approval_store(ctx, tx, &s, r.model, id, leaf);
        if (e == 0)
                e = settle(ctx, tx, &r, s.s.decision, &q);
        if (e < 0)
                return e;
        d->reply = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "id", id, "subject", r.id,
                             "decision", s.s.decision, "state", r.state, "need", q.need, "have",
                             q.have, "leaf_hash", leaf);
        return http_idempotent_store(ctx, tx, 201, d->reply);
}

int request_decide(struct mlc_ctx *ctx, const char *id, const struct approval_in *in, json_t **ret)
{
        struct deciding d = {.id = id, .in = in};
        int e = db_tx_retry(ctx, decide, &d);

        if (e < 0) {
                json_decref(d.reply);
                return e;
        }
        rollout_wake(ctx);
        *ret = d.reply;
        return 0;
}
