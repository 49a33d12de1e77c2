/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "codec/jcs.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

#define TEXT_MAX (8u << 20)

const struct audit_source rollout_audit_sources[ROLLOUT_N_SOURCES] = {
        {"rollout", &SQL_ROLLOUT_STATES_ROLLOUT},
        {"request", &SQL_ROLLOUT_STATES_REQUEST},
        {"line", &SQL_ROLLOUT_STATES_LINE},
};

int rollout_parse(struct mlc_ctx *ctx, const char *text, json_t **ret)
{
        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

const char *rollout_text(struct mlc_ctx *ctx, const json_t *j)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, TEXT_MAX);
        if (mlc_jcs(j, &s, &ctx->err) < 0)
                return NULL;
        return ctx_strdup(ctx, mlc_str_cstr(&s));
}

void rollout_done(struct rollout *r)
{
        json_decref(r->plan);
        json_decref(r->stats);
        json_decref(r->seen);
        r->plan = r->stats = r->seen = NULL;
}

enum {
        C_ID,
        C_PROMOTION,
        C_MODEL,
        C_ENVIRONMENT,
        C_VERSION,
        C_DIGEST,
        C_FROM_VERSION,
        C_FROM_DIGEST,
        C_PLAN,
        C_STATE,
        C_STEP,
        C_PAUSED,
        C_HOLD,
        C_STEP_SINCE,
        C_STATS,
        C_SEEN,
        C_OUTCOME,
        C_REQUESTED_BY,
        C_CREATED
};

/* Takes the model apart; hides what the caller may not read. */
static int split_name(struct mlc_ctx *ctx, struct rollout *r)
{
        char *ns = ctx_strdup(ctx, r->model), *slash;

        if (ns == NULL)
                return ctx->err.code;
        slash = strchr(ns, '/');
        if (slash == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "rollout '%s' is of no model", r->id);
        *slash = '\0';
        r->ns = ns;
        r->name = slash + 1;
        if (ctx->principal != NULL && !auth_may_read(ctx->principal, ns))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no rollout '%s'", r->id);
        return 0;
}

static int read_texts(struct mlc_ctx *ctx, const struct db_rows *rows, struct rollout *r)
{
        const struct {
                const char **text;
                int col;
        } texts[] = {{&r->id, C_ID},           {&r->promotion, C_PROMOTION},
                     {&r->model, C_MODEL},     {&r->environment, C_ENVIRONMENT},
                     {&r->digest, C_DIGEST},   {&r->from_digest, C_FROM_DIGEST},
                     {&r->state, C_STATE},     {&r->hold, C_HOLD},
                     {&r->outcome, C_OUTCOME}, {&r->requested_by, C_REQUESTED_BY}};

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                *texts[i].text = db_text_dup(ctx, rows, 0, texts[i].col);
                if (*texts[i].text == NULL && !db_is_null(rows, 0, texts[i].col))
                        return ctx->err.code;
        }
        return 0;
}

/* `whole`: with what is folded, which is most of a row. */
static int read_row(struct mlc_ctx *ctx, const struct db_rows *rows, bool whole,
                    struct rollout *ret)
{
        _cleanup_(rollout_done) struct rollout r = {.now_ms = mlc_now_ms()};
        int e = read_texts(ctx, rows, &r);

        if (e == 0)
                e = split_name(ctx, &r);
        if (e == 0)
                e = rollout_parse(ctx, db_text(rows, 0, C_PLAN), &r.plan);
        if (e == 0 && whole)
                e = rollout_parse(ctx, db_text(rows, 0, C_STATS), &r.stats);
        if (e == 0 && whole)
                e = rollout_parse(ctx, db_text(rows, 0, C_SEEN), &r.seen);
        if (e < 0)
                return e;
        r.version = db_int(rows, 0, C_VERSION);
        r.from_version = db_int(rows, 0, C_FROM_VERSION);
        r.step = (int)db_int(rows, 0, C_STEP);
        r.paused = db_bool(rows, 0, C_PAUSED);
        r.step_since_ms = db_int(rows, 0, C_STEP_SINCE);
        r.created_ms = db_int(rows, 0, C_CREATED);
        *ret = r;
        r.plan = r.stats = r.seen = NULL;
        return 0;
}

int rollout_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                 struct rollout *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = lock ? db_run(tx, SQL_ROLLOUT_LOCK, &rows, DB_TEXT(id))
                     : db_run(tx, SQL_ROLLOUT_READ, &rows, DB_TEXT(id));

        if (e < 0)
                return e;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no rollout '%s'", id);
        return read_row(ctx, &rows, true, ret);
}

int rollout_peek(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, struct rollout *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_ROLLOUT_PEEK, &rows, DB_TEXT(id));

        if (e < 0)
                return e;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no rollout '%s'", id);
        return read_row(ctx, &rows, false, ret);
}

int rollout_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                  json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_ROLLOUT_STATE_GET, &rows, DB_TEXT(kind), DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0) {
                *ret = NULL;
                return 0;
        }
        return rollout_parse(ctx, db_text(&rows, 0, 0), ret);
}

static bool same_text(const char *a, const char *b)
{
        return a == NULL || b == NULL ? a == b : mlc_streq(a, b);
}

int rollout_set(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                const struct rollout_change *c)
{
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL;
        const char *state = c->state != NULL ? c->state : r->state;
        const char *outcome = c->outcome != NULL ? c->outcome : r->outcome;
        int step = c->step >= 0 ? c->step : r->step;
        bool paused = c->paused >= 0 ? c->paused > 0 : r->paused;
        int e;

        if (mlc_streq(state, r->state) && step == r->step && paused == r->paused &&
            same_text(c->hold, r->hold))
                return 0;
        e = rollout_state(ctx, tx, "rollout", r->id, &before);
        if (e == 0)
                e = db_run(tx, SQL_ROLLOUT_SET, NULL, DB_TEXT(r->id), DB_TEXT(state), DB_INT(step),
                           DB_BOOL(paused), DB_TEXT(c->hold), DB_TEXT(outcome));
        if (e == 0)
                e = rollout_state(ctx, tx, "rollout", r->id, &after);
        if (e < 0)
                return e;
        if (!mlc_streq(state, r->state) || step != r->step)
                r->step_since_ms = 0;
        r->state = ctx_strdup(ctx, state);
        r->hold = c->hold != NULL ? ctx_strdup(ctx, c->hold) : NULL;
        r->outcome = outcome != NULL ? ctx_strdup(ctx, outcome) : NULL;
        r->step = step;
        r->paused = paused;
        if (r->state == NULL || (c->hold != NULL && r->hold == NULL) ||
            (outcome != NULL && r->outcome == NULL))
                return ctx->err.code;
        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = c->action,
                                                  .kind = "rollout",
                                                  .id = r->id,
                                                  .before = before,
                                                  .after = after,
                                                  .detail = c->detail,
                                                  .model = r->model},
                            NULL);
}
