/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "approval/approval_internal.h"
#include "gen/approval.sql.h"
#include "http/http.h"

/* --- rows --- */

int change_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                struct change *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct change c = {0};
        const char **const texts[] = {&c.id,   &c.kind,   &c.name,  &c.before,       &c.after,
                                      &c.yaml, &c.normal, &c.state, &c.requested_by, &c.expires};
        const char *user = ctx->principal != NULL ? ctx->principal->user : "";
        int r = lock ? db_run(tx, SQL_CHANGE_LOCK, &rows, DB_TEXT(id), DB_TEXT(user))
                     : db_run(tx, SQL_CHANGE_READ, &rows, DB_TEXT(id), DB_TEXT(user));

        if (r < 0)
                return r;
        for (size_t i = 0; rows.n > 0 && i < ARRAY_LEN(texts); i++) {
                *texts[i] = db_text_dup(ctx, &rows, 0, (int)i);
                if (*texts[i] == NULL && !db_is_null(&rows, 0, (int)i))
                        return ctx->err.code;
        }
        /* who shall sign it may read it, whatever else they may read */
        if (rows.n > 0 && ctx->principal != NULL && mlc_streq(c.kind, "Model") &&
            !db_bool(&rows, 0, (int)ARRAY_LEN(texts) + 1)) {
                const char *slash = strchr(c.name, '/');
                const char *ns = slash == NULL
                                         ? c.name
                                         : ctx_printf(ctx, "%.*s", (int)(slash - c.name), c.name);

                if (ns == NULL)
                        return ctx->err.code;
                if (!auth_may_read(ctx->principal, ns))
                        return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no change '%s'", id);
        }
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no change '%s'", id);
        c.expired = db_bool(&rows, 0, (int)ARRAY_LEN(texts));
        *ret = c;
        return 0;
}

static struct gate_change document_of(const struct change *c, const json_t *detail)
{
        return (struct gate_change){.kind = c->kind,
                                    .name = c->name,
                                    .before = c->before,
                                    .after = c->after,
                                    .yaml = c->yaml,
                                    .normal = c->normal,
                                    .author = c->requested_by,
                                    .detail = detail};
}

void change_statement(struct mlc_ctx *ctx, const struct change *c, const char *document,
                      struct mlc_statement *ret)
{
        *ret = (struct mlc_statement){.subject_kind = "change",
                                      .subject_id = c->id,
                                      .document = document,
                                      .before = c->before,
                                      .after = c->after,
                                      .role = "owner",
                                      .expires = c->expires,
                                      .log = audit_origin(ctx->app)};
}

/* A new state, with its leaf. `before` NULL: the row is new. */
static int record(struct mlc_ctx *ctx, struct db_tx *tx, const char *action, const char *id,
                  const json_t *before, const json_t *detail)
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        struct audit_entry e = {
                .action = action, .kind = "change", .id = id, .before = before, .detail = detail};
        int r = approval_state(ctx, tx, "change", id, &after);

        if (r < 0)
                return r;
        e.after = after;
        return audit_append(ctx, tx, &e, NULL);
}

static int move(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, const char *state,
                const json_t *detail)
{
        static const struct {
                const char *state, *action;
        } actions[] = {{"applied", "change.apply"},
                       {"rejected", "change.reject"},
                       {"superseded", "change.supersede"},
                       {"expired", "change.expire"},
                       {"cancelled", "change.cancel"}};
        _cleanup_(json_decref_p) json_t *before = NULL;
        const char *action = NULL;
        int r = approval_state(ctx, tx, "change", id, &before);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(actions); i++)
                if (mlc_streq(actions[i].state, state))
                        action = actions[i].action;
        r = db_run(tx, SQL_CHANGE_MOVE, NULL, DB_TEXT(id), DB_TEXT(state));
        if (r < 0)
                return r;
        return record(ctx, tx, action, id, before, detail);
}

/* --- whose signatures it needs: one rule for each environment, counted apart --- */

/* The protections as they are now, each as rules: [[{name, from, count}]…]. */
static int change_rules(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *protection = NULL;
        _cleanup_(json_decref_p) json_t *list = json_array();
        const struct gate_change doc = document_of(c, NULL);
        size_t i, k;
        const json_t *p, *owner;
        int r = change_is_award(c) ? change_award_protection(ctx, tx, c, &protection)
                                   : gate_protection(ctx, tx, &doc, &protection);

        if (r < 0)
                return r;
        json_array_foreach (protection, i, p) {
                json_t *from = json_array();

                json_array_foreach (json_object_get(p, "owners"), k, owner) {
                        const char *who = ctx_printf(ctx, "user:%s", json_string_value(owner));

                        if (who == NULL) {
                                json_decref(from);
                                return ctx->err.code;
                        }
                        (void)json_array_append_new(from, json_string(who));
                }
                (void)json_array_append_new(list, json_pack("[{s:O, s:o, s:O}]", "name",
                                                            json_object_get(p, "environment"),
                                                            "from", from, "count",
                                                            json_object_get(p, "threshold")));
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static struct approval_rules rules_of(const struct change *c, const json_t *rules)
{
        return (struct approval_rules){
                .subject_kind = "change", .subject_id = c->id, .rules = rules};
}

struct tally {
        int need, have;
        bool satisfied;
        bool hold; /* in: this decides, who counts goes on to until COMMIT */
        json_t *waiting; /* NULL: not asked for; appended to */
};

static int tally(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c, const json_t *rules,
                 struct tally *ret)
{
        struct tally t = {.satisfied = json_array_size(rules) > 0,
                          .hold = ret->hold,
                          .waiting = ret->waiting};
        size_t i;
        const json_t *one;

        json_array_foreach (rules, i, one) {
                struct approval_rules in = rules_of(c, one);
                struct mlc_approval_count count = {0};
                _cleanup_(json_decref_p) json_t *waiting = NULL;
                int r;

                in.hold = t.hold;
                r = approval_count(ctx, tx, &in, &count);
                if (r == 0 && t.waiting != NULL)
                        r = approval_waiting(ctx, tx, &in, &waiting);
                if (r < 0)
                        return r;
                t.need += (int)count.rules[0].need;
                t.have += (int)(count.rules[0].have < count.rules[0].need ? count.rules[0].have
                                                                          : count.rules[0].need);
                t.satisfied = t.satisfied && count.satisfied;
                if (t.waiting != NULL)
                        (void)json_array_extend(t.waiting, waiting);
        }
        *ret = t;
        return 0;
}

static int may_sign(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c,
                    const json_t *rules, bool *ret)
{
        size_t i;
        const json_t *one;

        *ret = false;
        json_array_foreach (rules, i, one) {
                const struct approval_rules in = rules_of(c, one);
                int rule = -1;
                int r = approval_may(ctx, tx, &in, ctx->principal->user, &rule);

                if (r < 0)
                        return r;
                *ret = *ret || rule >= 0;
        }
        return 0;
}

int change_show(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        _cleanup_(json_decref_p) json_t *rules = NULL;
        _cleanup_(json_decref_p) json_t *waiting = json_array();
        struct tally t = {.waiting = waiting};
        bool pending = mlc_streq(c->state, "pending");
        int r = db_run(tx, SQL_CHANGE_SHOWN, &rows, DB_TEXT(c->id));

        if (r == 0)
                r = approval_parse(ctx, db_text(&rows, 0, 0), &shown);
        if (r == 0 && pending)
                r = change_rules(ctx, tx, c, &rules);
        if (r == 0 && pending)
                r = tally(ctx, tx, c, rules, &t);
        if (r < 0)
                return r;
        if (!pending) {
                size_t i;
                const json_t *a;

                t.need = (int)json_integer_value(json_object_get(shown, "need"));
                json_array_foreach (json_object_get(shown, "approvals"), i, a)
                        t.have += mlc_streq(json_string_value(json_object_get(a, "decision")),
                                            "approve");
        }
        (void)json_object_set_new(shown, "need", json_integer(t.need));
        (void)json_object_set_new(shown, "have", json_integer(t.have));
        (void)json_object_set(shown, "waiting_for", waiting);
        *ret = TAKE_PTR(shown);
        return 0;
}

/* --- opening --- */

static json_t *pending_item(const struct gate_change *c, const char *id, int need)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:i}", "id", id, "kind", c->kind, "name",
                         c->name, "digest", c->after, "before", c->before, "need", need);
}

static int insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                  const json_t *protection, int need, const char **ret_id)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(free_p) char *text = json_dumps(protection, JSON_COMPACT);
        const char *id;
        int r = db_run0(tx, SQL_CHANGE_NEXT_ID, &rows);

        if (r < 0)
                return r;
        id = db_text_dup(ctx, &rows, 0, 0);
        if (id == NULL)
                return ctx->err.code;
        r = db_run(tx, SQL_CHANGE_INSERT, NULL, DB_TEXT(id), DB_TEXT(c->kind), DB_TEXT(c->name),
                   DB_TEXT(c->before), DB_TEXT(c->after), DB_TEXT(c->yaml), DB_TEXT(c->normal),
                   DB_TEXT(text), DB_INT(need), DB_TEXT(c->author));
        if (r < 0)
                return r;
        *ret_id = id;
        return record(ctx, tx, "change.create", id, NULL, NULL);
}

int approval_change_open(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                         const json_t *protection, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *id = NULL;
        int need = 0;
        size_t i;
        const json_t *p;
        int r = db_run(tx, SQL_CHANGE_SERIAL, NULL, DB_TEXT(c->kind), DB_TEXT(c->name));

        if (r == 0)
                r = db_run(tx, SQL_CHANGE_PENDING, &rows, DB_TEXT(c->kind), DB_TEXT(c->name));
        if (r < 0)
                return r;
        json_array_foreach (protection, i, p)
                need += (int)json_integer_value(json_object_get(p, "threshold"));
        if (rows.n > 0 && mlc_streq(db_text(&rows, 0, 1), c->after) &&
            mlc_streq(db_is_null(&rows, 0, 2) ? NULL : db_text(&rows, 0, 2), c->before)) {
                *ret = pending_item(c, db_text(&rows, 0, 0), (int)db_int(&rows, 0, 3));
                return 0;
        }
        if (rows.n > 0)
                r = move(ctx, tx, db_text(&rows, 0, 0), "superseded", NULL);
        if (r == 0)
                r = insert(ctx, tx, c, protection, need, &id);
        if (r < 0)
                return r;
        *ret = pending_item(c, id, need);
        return 0;
}

/* --- deciding --- */

struct decision {
        const char *id;
        const struct approval_in *in;
        json_t *reply;
        bool applied;
};

/* The change's leaf comes first: who reads the log in order knows why the next one may be. */
static int apply(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *detail = json_pack("{s:s}", "change", c->id);
        const struct gate_change doc = document_of(c, detail);
        int r = move(ctx, tx, c->id, "applied", NULL);

        if (r < 0)
                return r;
        return change_is_award(c) ? change_apply_award(ctx, tx, c)
                                  : gate_document_put(ctx, tx, &doc);
}

static int require_pending(struct mlc_ctx *ctx, const struct change *c)
{
        if (!mlc_streq(c->state, "pending"))
                return ctx_fail(ctx, MLC_E_CONFLICT, "change '%s' is %s, it waits for nobody",
                                c->id, c->state);
        if (c->expired)
                return ctx_fail(ctx, MLC_E_CONFLICT, "change '%s' has expired; apply it again",
                                c->id);
        return 0;
}

/* After the signature is stored: what becomes of the change. */
static int settle(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c,
                  const struct approval_signed *s, struct decision *d, struct tally *ret)
{
        _cleanup_(json_decref_p) json_t *rules = NULL;
        int r = change_rules(ctx, tx, c, &rules);

        if (r == 0)
                r = tally(ctx, tx, c, rules, ret);
        if (r < 0)
                return r;
        if (mlc_streq(s->s.decision, "reject"))
                return move(ctx, tx, c->id, "rejected", NULL);
        if (!ret->satisfied)
                return 0;
        d->applied = true;
        return apply(ctx, tx, c);
}

static int check_owner(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *rules = NULL;
        bool may = false;
        int r = change_rules(ctx, tx, c, &rules);

        if (r < 0)
                return r;
        if (json_array_size(rules) == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "nobody needs to sign '%s/%s' any more; %s it again", c->kind,
                                c->name, change_is_award(c) ? "ask for" : "apply");
        r = may_sign(ctx, tx, c, rules, &may);
        if (r < 0)
                return r;
        if (!may)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "only owners of the protected environment sign change '%s'", c->id);
        return 0;
}

static int decide(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct decision *d = userdata;
        struct change c;
        struct mlc_statement expect;
        struct approval_signed s;
        struct tally t = {.hold = true};
        const char *document;
        char id[24], leaf[65];
        int r = change_load(ctx, tx, d->id, false, &c);

        d->applied = false;
        json_decref(d->reply);
        d->reply = NULL;
        if (r == 0)
                r = change_hold(ctx, tx, &c);
        if (r == 0)
                r = change_load(ctx, tx, d->id, true, &c);
        if (r == 0)
                r = require_pending(ctx, &c);
        if (r == 0)
                r = check_owner(ctx, tx, &c);
        if (r < 0)
                return r;
        document = ctx_printf(ctx, "%s/%s", c.kind, c.name);
        if (document == NULL)
                return ctx->err.code;
        change_statement(ctx, &c, document, &expect);
        r = approval_verify(ctx, tx, d->in, &expect, &s);
        if (r == 0 && mlc_streq(s.s.decision, "approve"))
                r = change_fits(ctx, tx, &c);
        if (r == 0)
                r = approval_store(ctx, tx, &s, NULL, id, leaf);
        if (r == 0)
                r = settle(ctx, tx, &c, &s, d, &t);
        if (r == 0)
                r = change_load(ctx, tx, d->id, false, &c);
        if (r < 0)
                return r;
        d->reply = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s}", "id", id, "subject", d->id,
                             "decision", s.s.decision, "state", c.state, "need", t.need, "have",
                             t.have, "leaf_hash", leaf);
        return http_idempotent_store(ctx, tx, 201, d->reply);
}

int change_approve(struct mlc_ctx *ctx, const char *id, const struct approval_in *in, json_t **ret)
{
        struct decision d = {.id = id, .in = in};
        int r = db_tx_retry(ctx, decide, &d);

        if (r < 0) {
                json_decref(d.reply);
                return r;
        }
        if (d.applied) {
                auth_changed(ctx->app);
                gate_documents_published(ctx);
        }
        *ret = d.reply;
        return 0;
}

/* --- the other ends --- */

int change_cancel(struct mlc_ctx *ctx, const char *id, const char *reason, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *detail = NULL;
        char commitment[72];
        struct change c;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = change_load(ctx, &tx, id, true, &c);
        if (r < 0)
                return r;
        if (!mlc_streq(c.requested_by, ctx->principal->user) &&
            (auth_roles(ctx->principal, "*") & AUTH_ADMIN) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "only who asked for change '%s' or an admin cancels it", id);
        if (!mlc_streq(c.state, "cancelled")) {
                r = require_pending(ctx, &c);
                if (r == 0)
                        r = audit_commit_pii(ctx, &tx, ctx->principal->user, reason, commitment);
                if (r < 0)
                        return r;
                detail = json_pack("{s:s}", "reason", commitment);
                r = move(ctx, &tx, id, "cancelled", detail);
        }
        if (r == 0)
                r = change_load(ctx, &tx, id, false, &c);
        if (r == 0)
                r = change_show(ctx, &tx, &c, ret);
        if (r == 0)
                r = db_tx_commit(&tx);
        return r;
}

static int expire_one(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct change c;
        int r = change_load(ctx, tx, userdata, true, &c);

        if (r < 0 || !mlc_streq(c.state, "pending") || !c.expired)
                return r;
        return move(ctx, tx, c.id, "expired", NULL);
}

int change_expire(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_CHANGE_DUE, &rows);
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++) {
                char *id = db_text_dup(ctx, &rows, i, 0);

                r = id == NULL ? ctx->err.code : db_tx_retry(ctx, expire_one, id);
        }
        return r;
}

/* --- inbox --- */

static int inbox_item(struct mlc_ctx *ctx, const struct db_rows *rows, int i, const struct tally *t,
                      json_t *items)
{
        const char *id = db_text(rows, i, 0);
        json_t *who, *person = NULL, *item;
        int r = approval_parse(ctx, db_text(rows, i, 4), &who);

        if (r < 0)
                return r;
        if (!mlc_streq(db_text(rows, i, 8), "null"))
                r = approval_parse(ctx, db_text(rows, i, 8), &person);
        if (r < 0) {
                json_decref(who);
                return r;
        }
        item = json_pack("{s:s, s:s, s:n, s:n, s:s, s:o, s:s, s:i, s:i, s:o, s:n, s:s, s:s, s:o, "
                         "s:o*}",
                         "kind", "change", "id", id, "model", "version", "environment",
                         db_text(rows, i, 7), "document",
                         json_sprintf("%s/%s", db_text(rows, i, 1), db_text(rows, i, 2)), "rule",
                         "owners", "need", t->need, "have", t->have, "requested_by", who, "reason",
                         "created", db_text(rows, i, 5), "expires", db_text(rows, i, 6), "url",
                         json_sprintf("/api/v1/changes/%s", id), "person", person);
        (void)json_array_append_new(items, item);
        return 0;
}

int approval_inbox(struct mlc_ctx *ctx, struct db_tx *tx, json_t *items)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_CHANGE_PENDING_ALL, &rows, DB_TEXT(ctx->principal->user));

        for (int i = 0; r == 0 && i < rows.n; i++) {
                _cleanup_(json_decref_p) json_t *rules = NULL;
                struct tally t = {0};
                struct change c;
                bool may = false;

                r = change_load(ctx, tx, db_text(&rows, i, 0), false, &c);
                if (r == MLC_E_NOT_FOUND) {
                        mlc_err_clear(&ctx->err);
                        r = 0;
                        continue;
                }
                if (r == 0)
                        r = change_rules(ctx, tx, &c, &rules);
                if (r == 0)
                        r = may_sign(ctx, tx, &c, rules, &may);
                if (r == 0 && may)
                        r = tally(ctx, tx, &c, rules, &t);
                if (r == 0 && may)
                        r = inbox_item(ctx, &rows, i, &t, items);
        }
        return r;
}
