/* SPDX-License-Identifier: Apache-2.0 */
#include "gen/promotion.sql.h"
#include "http/http.h"
#include "promotion/promotion_internal.h"

/* Nobody approves what they made or asked for, nor what a service of theirs did. */
static int excluded(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                    struct approval_rules *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char **people;
        int r = db_run(tx, SQL_PROMOTION_EXCLUDED, &rows, DB_TEXT(id));

        if (r < 0)
                return r;
        people = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*people));
        if (people == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                people[i] = db_text_dup(ctx, &rows, i, 0);
                if (people[i] == NULL)
                        return ctx->err.code;
        }
        ret->excluded = people;
        ret->n_excluded = (size_t)rows.n;
        return 0;
}

int promotion_rules(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                    json_t **ret_rules, struct approval_rules *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *rules = NULL;
        int r = db_run(tx, SQL_PROMOTION_RULES, &rows, DB_TEXT(p->id));

        if (r == 0)
                r = promotion_parse(ctx, db_text(&rows, 0, 0), &rules);
        if (r < 0)
                return r;
        *ret = (struct approval_rules){
                .subject_kind = "promotion", .subject_id = p->id, .ns = p->ns, .rules = rules};
        r = excluded(ctx, tx, p->id, ret);
        if (r < 0)
                return r;
        *ret_rules = TAKE_PTR(rules);
        return 0;
}

int promotion_statement(struct mlc_ctx *ctx, const struct promotion *p, struct mlc_statement *ret)
{
        _cleanup_(json_decref_p) json_t *verdict = NULL;
        const json_t *evidence, *id;
        const char **ids;
        size_t i;
        int r = promotion_parse(ctx, p->verdict, &verdict);

        if (r < 0)
                return r;
        evidence = json_object_get(verdict, "evidence");
        ids = ctx_alloc(ctx, (json_array_size(evidence) + 1) * sizeof(*ids));
        if (ids == NULL)
                return ctx->err.code;
        json_array_foreach (evidence, i, id) {
                ids[i] = ctx_strdup(ctx, json_string_value(id));
                if (ids[i] == NULL)
                        return ctx->err.code;
        }
        *ret = (struct mlc_statement){.subject_kind = "promotion",
                                      .subject_id = p->id,
                                      .model = p->model,
                                      .version = p->version,
                                      .artifact = p->digest,
                                      .environment = p->environment,
                                      .environment_digest = p->environment_digest,
                                      .policy_digest = p->policy_digest,
                                      .verdict_digest = p->verdict_digest,
                                      .evidence = ids,
                                      .n_evidence = json_array_size(evidence),
                                      .from = p->from,
                                      .role = "approver",
                                      .expires = p->expires,
                                      .log = audit_origin(ctx->app)};
        return 0;
}

struct decision {
        const char *id;
        const struct approval_in *in;
        json_t *reply;
};

static int require_waiting(struct mlc_ctx *ctx, const struct promotion *p)
{
        if (!mlc_streq(p->state, "awaiting_approval"))
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "promotion '%s' is %s: it waits for no approval", p->id, p->state);
        if (p->expired)
                return ctx_fail(ctx, MLC_E_CONFLICT, "promotion '%s' has expired", p->id);
        if (p->stale)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "what promotion '%s' was judged on is changing: look at its "
                                "evidence again in a moment",
                                p->id);
        if (mlc_streq(p->version_status, "withdrawn"))
                return ctx_fail(ctx, MLC_E_CONFLICT, "the version of promotion '%s' is withdrawn",
                                p->id);
        return 0;
}

/* Why somebody does not count, as they should hear it. */
static int require_counting(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                            const struct approval_rules *rules, const char *of)
{
        const char *me = ctx->principal->user;
        int rule = -1;
        int r;

        if (ctx->principal->service)
                return ctx_fail(ctx, MLC_E_FORBIDDEN, "a service never approves");
        if (mlc_streq(me, p->requested_by))
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "you asked for promotion '%s': others decide about it", p->id);
        for (size_t i = 0; i < rules->n_excluded; i++)
                if (mlc_streq(me, rules->excluded[i]))
                        return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                        "you or a service of yours made this version or asked for "
                                        "promotion '%s': others decide about it",
                                        p->id);
        r = approval_may(ctx, tx, rules, me, &rule);
        if (r < 0)
                return r;
        if (rule < 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN, "no approval rule of %s asks for you", of);
        return 0;
}

int promotion_may_decide(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                         const struct approval_rules *rules, const char *of)
{
        struct promotion p;
        int r = promotion_load(ctx, tx, id, false, &p);

        return r < 0 ? r : require_counting(ctx, tx, &p, rules, of);
}

int promotion_decision_fits(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                            const char *decision)
{
        struct promotion p;
        int r = promotion_load(ctx, tx, id, false, &p);

        if (r == 0 && mlc_streq(p.version_status, "withdrawn") && !mlc_streq(decision, "reject"))
                r = ctx_fail(ctx, MLC_E_CONFLICT, "the version of promotion '%s' is withdrawn", id);
        return r;
}

int promotion_of_step(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                      struct mlc_statement *ret, struct approval_rules *ret_rules)
{
        struct promotion p;
        int r = promotion_load(ctx, tx, id, false, &p);

        if (r < 0)
                return r;
        *ret = (struct mlc_statement){.model = p.model,
                                      .version = p.version,
                                      .artifact = p.digest,
                                      .environment = p.environment,
                                      .environment_digest = p.environment_digest,
                                      .policy_digest = p.policy_digest,
                                      .verdict_digest = p.verdict_digest,
                                      .from = p.from,
                                      .role = "approver",
                                      .log = audit_origin(ctx->app)};
        ret_rules->ns = p.ns;
        return excluded(ctx, tx, id, ret_rules);
}

struct tally {
        int need, have;
};

static int settle(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p,
                  const struct approval_rules *rules, const char *decision, struct tally *ret)
{
        struct mlc_approval_count count = {0};
        int r = approval_count(ctx, tx, rules, &count);

        if (r < 0)
                return r;
        *ret = (struct tally){0};
        for (size_t i = 0; i < count.n_rules; i++) {
                ret->need += (int)count.rules[i].need;
                ret->have += (int)count.rules[i].have;
        }
        if (mlc_streq(decision, "reject"))
                return promotion_move(ctx, tx, p, "rejected", NULL);
        return count.satisfied ? promotion_move(ctx, tx, p, "approved", NULL) : 0;
}

static int decide(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct decision *d = userdata;
        _cleanup_(json_decref_p) json_t *rules_json = NULL;
        struct approval_rules rules = {0};
        struct mlc_statement expect;
        struct approval_signed s;
        struct promotion p;
        struct tally t = {0};
        char id[24], leaf[65], of[64];
        int r = promotion_load(ctx, tx, d->id, true, &p);

        json_decref(d->reply);
        d->reply = NULL;
        if (r == 0)
                r = require_waiting(ctx, &p);
        if (r == 0)
                r = promotion_rules(ctx, tx, &p, &rules_json, &rules);
        rules.hold = true;
        (void)snprintf(of, sizeof(of), "promotion '%s'", d->id);
        if (r == 0)
                r = require_counting(ctx, tx, &p, &rules, of);
        if (r == 0)
                r = promotion_statement(ctx, &p, &expect);
        if (r == 0)
                r = approval_verify(ctx, tx, d->in, &expect, &s);
        if (r == 0)
                r = approval_store(ctx, tx, &s, p.model, id, leaf);
        if (r == 0)
                r = settle(ctx, tx, &p, &rules, s.s.decision, &t);
        if (r < 0)
                return r;
        d->reply = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "id", id, "subject", p.id,
                             "decision", s.s.decision, "state", p.state, "need", t.need, "have",
                             t.have, "leaf_hash", leaf);
        return http_idempotent_store(ctx, tx, 201, d->reply);
}

int promotion_approve(struct mlc_ctx *ctx, const char *id, const struct approval_in *in,
                      json_t **ret)
{
        struct decision d = {.id = id, .in = in};
        int r = db_tx_retry(ctx, decide, &d);

        if (r < 0) {
                json_decref(d.reply);
                return r;
        }
        *ret = d.reply;
        return 0;
}
