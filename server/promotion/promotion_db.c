/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/jcs.h"
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"

const struct audit_source promotion_audit_sources[PROMOTION_N_SOURCES] = {
        {"promotion", &SQL_PROMOTION_STATES_PROMOTION},
        {"live", &SQL_PROMOTION_STATES_LIVE},
};

int promotion_parse(struct mlc_ctx *ctx, const char *text, json_t **ret)
{
        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

const char *promotion_text(struct mlc_ctx *ctx, const json_t *j)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, GATE_BUNDLE_MAX * 2);
        if (mlc_jcs(j, &s, &ctx->err) < 0)
                return NULL;
        return ctx_strdup(ctx, mlc_str_cstr(&s));
}

int promotion_readable(struct mlc_ctx *ctx, const char **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        const struct auth_principal *p = ctx->principal;

        mlc_str_init(&s, 1u << 20);
        mlc_str_addc(&s, '{');
        for (unsigned i = 0; i < p->n_grants; i++) {
                if (p->grants[i].roles == 0)
                        continue;
                if (mlc_streq(p->grants[i].ns, "*")) {
                        *ret = NULL;
                        return 0;
                }
                mlc_str_addf(&s, "%s%s", s.len > 1 ? "," : "", p->grants[i].ns);
        }
        mlc_str_addc(&s, '}');
        if (mlc_str_check(&s, &ctx->err) < 0)
                return ctx->err.code;
        *ret = ctx_strdup(ctx, s.data);
        return *ret != NULL ? 0 : ctx->err.code;
}

bool promotion_is_open(const char *state)
{
        static const char *const open[] = {"evaluating", "held",   "awaiting_approval",
                                           "approved",   "queued", "scheduled"};

        for (size_t i = 0; i < ARRAY_LEN(open); i++)
                if (mlc_streq(open[i], state))
                        return true;
        return false;
}

int promotion_model(struct mlc_ctx *ctx, const char *field, const char *model, struct mlc_ref *ret)
{
        struct mlc_err why = {0};

        if (mlc_ref_parse_model(model, ret, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, field, "%s", why.msg);
        return 0;
}

/* Splits the model for roles and documents; hides what the caller may not read. */
static int split_model(struct mlc_ctx *ctx, struct promotion *p)
{
        char *ns = ctx_strdup(ctx, p->model), *slash;

        if (ns == NULL)
                return ctx->err.code;
        slash = strchr(ns, '/');
        if (slash == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "promotion '%s' is of no model", p->id);
        *slash = '\0';
        p->ns = ns;
        p->name = slash + 1;
        if (ctx->principal != NULL && !auth_may_read(ctx->principal, ns))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no promotion '%s'", p->id);
        return 0;
}

/* By the clock after the lock was waited for: what came too late does not count. */
static int read_moments(struct db_tx *tx, struct promotion *p)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_MOMENTS, &rows, DB_TEXT(p->id));

        if (r < 0)
                return r;
        p->expired = rows.n > 0 && db_bool(&rows, 0, 0);
        p->due = rows.n > 0 && db_bool(&rows, 0, 1);
        return 0;
}

int promotion_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                   struct promotion *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct promotion p = {0};
        const struct {
                const char **text;
                int col;
        } texts[] = {{&p.id, 0},
                     {&p.model, 1},
                     {&p.digest, 4},
                     {&p.environment, 5},
                     {&p.state, 6},
                     {&p.requested_by, 7},
                     {&p.verdict_digest, 10},
                     {&p.policy_digest, 11},
                     {&p.environment_digest, 12},
                     {&p.from, 13},
                     {&p.basis, 14},
                     {&p.expires, 15},
                     {&p.version_status, 16},
                     {&p.author, 17},
                     {&p.verdict, 19},
                     {&p.outcome, 22}};
        int r = lock ? db_run(tx, SQL_PROMOTION_LOCK, &rows, DB_TEXT(id))
                     : db_run(tx, SQL_PROMOTION_READ, &rows, DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no promotion '%s'", id);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                *texts[i].text = db_text_dup(ctx, &rows, 0, texts[i].col);
                if (*texts[i].text == NULL && !db_is_null(&rows, 0, texts[i].col))
                        return ctx->err.code;
        }
        p.version_id = db_int(&rows, 0, 2);
        p.version = db_int(&rows, 0, 3);
        p.round = db_int(&rows, 0, 8);
        p.stale = db_bool(&rows, 0, 9);
        p.expired = db_bool(&rows, 0, 18);
        p.retries = db_int(&rows, 0, 20);
        p.created_ms = db_int(&rows, 0, 21);
        r = split_model(ctx, &p);
        if (r == 0 && lock && promotion_is_open(p.state))
                r = read_moments(tx, &p);
        if (r < 0)
                return r;
        *ret = p;
        return 0;
}

int promotion_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                    json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_STATE_GET, &rows, DB_TEXT(kind), DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0) {
                *ret = NULL;
                return 0;
        }
        return promotion_parse(ctx, db_text(&rows, 0, 0), ret);
}

int promotion_record(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion_event *e,
                     char ret_leaf[65])
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        int r = promotion_state(ctx, tx, e->kind, e->id, &after);

        if (r < 0)
                return r;
        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = e->action,
                                                  .kind = e->kind,
                                                  .id = e->id,
                                                  .before = e->before,
                                                  .after = after,
                                                  .detail = e->detail,
                                                  .model = e->model},
                            ret_leaf);
}

/* What a leaf calls the way to a state. */
static const char *action_to(const char *state)
{
        static const struct {
                const char *state, *action;
        } actions[] = {
                {"evaluating", "promotion.evaluate"},    {"held", "promotion.hold"},
                {"awaiting_approval", "promotion.pass"}, {"approved", "promotion.approve"},
                {"rejected", "promotion.reject"},        {"live", "promotion.live"},
                {"replaced", "promotion.replace"},       {"rolled_back", "promotion.roll_back"},
                {"cancelled", "promotion.cancel"},       {"expired", "promotion.expire"},
                {"superseded", "promotion.supersede"},   {"scheduled", "promotion.schedule"}};

        for (size_t i = 0; i < ARRAY_LEN(actions); i++)
                if (mlc_streq(actions[i].state, state))
                        return actions[i].action;
        return "promotion.change";
}

int promotion_move(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p, const char *state,
                   const json_t *detail)
{
        _cleanup_(json_decref_p) json_t *before = NULL;
        const char *other = json_string_value(json_object_get(detail, "superseded_by"));
        const char *at = json_string_value(json_object_get(detail, "at"));
        int r = promotion_state(ctx, tx, "promotion", p->id, &before);

        if (r == 0)
                r = db_run(tx, SQL_PROMOTION_MOVE, NULL, DB_TEXT(p->id), DB_TEXT(state),
                           DB_TEXT(other), DB_TEXT(at));
        if (r < 0)
                return r;
        p->state = state;
        return promotion_record(ctx, tx,
                                &(struct promotion_event){.action = action_to(state),
                                                          .kind = "promotion",
                                                          .id = p->id,
                                                          .model = p->model,
                                                          .before = before,
                                                          .detail = detail},
                                NULL);
}

/* "7", "v7", "latest" as numbers (0: the newest); false for an alias or a digest. */
static bool reference_number(const char *reference, int64_t *ret)
{
        unsigned long long n;

        if (mlc_streq(reference, "latest")) {
                *ret = 0;
                return true;
        }
        if (!mlc_parse_u64(reference[0] == 'v' ? reference + 1 : reference, &n) || n == 0 ||
            n > MLC_VERSION_MAX)
                return false;
        *ret = (int64_t)n;
        return true;
}

int promotion_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_ref *model,
                           const char *reference, struct promotion_version *ret)
{
        _cleanup_(db_rows_done) struct db_rows found = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct promotion_version v = {0};
        int64_t number = -1;
        int r = 0;

        if (!reference_number(reference, &number)) {
                r = db_run(tx, SQL_PROMOTION_VERSION_NUMBER, &found, DB_TEXT(model->ns),
                           DB_TEXT(model->model), DB_TEXT(reference));
                number = r == 0 && found.n > 0 ? db_int(&found, 0, 0) : -1;
        }
        if (r == 0 && number >= 0)
                r = db_run(tx, SQL_PROMOTION_VERSION, &rows, DB_TEXT(model->ns),
                           DB_TEXT(model->model), DB_INT(number));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/version",
                                      "version '%s/%s:%s' does not exist", model->ns, model->model,
                                      reference);
        v.id = db_int(&rows, 0, 0);
        v.number = db_int(&rows, 0, 1);
        (void)snprintf(v.digest, sizeof(v.digest), "%s", db_text(&rows, 0, 2));
        v.status = db_text_dup(ctx, &rows, 0, 3);
        v.author = db_text_dup(ctx, &rows, 0, 4);
        if (v.status == NULL || v.author == NULL)
                return ctx->err.code;
        *ret = v;
        return 0;
}

int promotion_environment(struct mlc_ctx *ctx, struct db_tx *tx, const char *name, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct gate_document d;
        int r = gate_document_get(ctx, tx, "Environment", name, &d);

        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/environment",
                                      "there is no environment '%s'", name);
        }
        if (r == 0)
                r = gate_document_json(ctx, &d, &doc);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(doc);
        return 0;
}

int promotion_alias_free(struct mlc_ctx *ctx, struct db_tx *tx, const char *alias)
{
        const char *environment = NULL;
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        if (r == 0)
                r = gate_alias_environment(ctx, tx, alias, &environment);
        if (r < 0)
                return r;
        if (environment != NULL)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "alias '%s' is protected: it moves by promotion to environment "
                                "'%s'",
                                alias, environment);
        return 0;
}

int promotion_live(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                   const char *model, struct gate_live *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_LIVE_READ, &rows, DB_TEXT(environment), DB_TEXT(model));

        (void)ctx;
        if (r < 0)
                return r;
        *ret = (struct gate_live){0};
        if (rows.n > 0) {
                ret->number = db_int(&rows, 0, 0);
                ret->since_ms = db_int(&rows, 0, 3);
        }
        return 0;
}
