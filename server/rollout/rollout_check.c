/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of rollouts: plans are those that were recorded, splits are what rollouts and what
 * is live say, promotions ended as their rollouts did. */
#include <inttypes.h>
#include <stdarg.h>

#include "gen/rollout.sql.h"
#include "rollout/analysis.h"
#include "rollout/rollout_internal.h"

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

static int check_plans(struct mlc_ctx *ctx, struct db_tx *tx, const struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_ROLLOUT_CHECK_PLANS, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++) {
                _cleanup_(json_decref_p) json_t *plan = NULL;
                char digest[MLC_DIGEST_STR];

                r = rollout_parse(ctx, db_text(&rows, i, 1), &plan);
                if (r == 0)
                        r = gate_json_digest(ctx, plan, digest);
                if (r == 0 && !mlc_streq(digest, db_text(&rows, i, 2)))
                        say(c, "rollout '%s': its plan is not the one that was recorded",
                            db_text(&rows, i, 0));
        }
        return r;
}

/* The weight of the rollout's version in a split; -1 when it is no variant of it. */
static int weight_in(const json_t *entry, int64_t version)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(entry, "variants"), i, v)
                if (json_integer_value(json_object_get(v, "version")) == version)
                        return (int)json_integer_value(json_object_get(v, "weight"));
        return -1;
}

static int check_split(struct mlc_ctx *ctx, struct db_tx *tx, const struct check *c,
                       const struct db_rows *rows, int i)
{
        _cleanup_(json_decref_p) json_t *entry = NULL;
        _cleanup_(rollout_done) struct rollout active = {0};
        const char *route = db_text(rows, i, 0);
        int64_t live = db_int(rows, i, 5);
        int expected = ROLLOUT_WHOLE, found, r;

        r = rollout_parse(ctx, db_text(rows, i, 3), &entry);
        if (r == 0 && !db_is_null(rows, i, 4))
                r = rollout_load(ctx, tx, db_text(rows, i, 4), false, &active);
        if (r < 0)
                return r;
        found = weight_in(entry, active.id != NULL ? active.version : live);
        if (active.id != NULL)
                expected = rollout_weight_in(&active, db_text(rows, i, 6));
        if (found != expected && !(found == -1 && expected == 0))
                say(c, "route '%s' of '%s': version %" PRId64 " has weight %d, not %d", route,
                    db_text(rows, i, 1), active.id != NULL ? active.version : live, found,
                    expected);
        return 0;
}

static int check_splits(struct mlc_ctx *ctx, struct db_tx *tx, const struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_ROLLOUT_CHECK_SPLITS, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++)
                r = check_split(ctx, tx, c, &rows, i);
        return r;
}

/* --- signed approvals of steps --- */

enum {
        Q_ROLLOUT,
        Q_STEP,
        Q_STATE,
        Q_EVIDENCE,
        Q_DECISION,
        Q_STATISTICS,
        Q_INPUTS,
        Q_PLAN,
        Q_SIGNED,
        Q_SEQ
};

static bool is_of_step(const json_t *obj, int step)
{
        return json_integer_value(json_object_get(obj, "step")) == step;
}

static bool waits_for_approval(const json_t *decision)
{
        const json_t *w;
        size_t i;

        json_array_foreach (json_object_get(decision, "waiting_for"), i, w)
                if (mlc_streq(json_string_value(json_object_get(w, "what")), "approval"))
                        return mlc_streq(json_string_value(json_object_get(decision, "decision")),
                                         "wait");
        return false;
}

/* The decision that people saw, again from what it was computed from; says what is wrong with it.
 * Rows that nothing can be computed from are a finding, not the end of the check. */
static void decided_again(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows,
                          const json_t *plan)
{
        const char *id = db_text(rows, 0, Q_ROLLOUT), *evidence = db_text(rows, 0, Q_EVIDENCE);
        _cleanup_(json_decref_p) json_t *stats = NULL, *inputs = NULL, *decision = NULL;
        int step = (int)db_int(rows, 0, Q_STEP);
        char again[MLC_DIGEST_STR];
        int r = rollout_parse(ctx, db_text(rows, 0, Q_STATISTICS), &stats);

        if (r == 0)
                r = rollout_parse(ctx, db_text(rows, 0, Q_INPUTS), &inputs);
        if (r == 0)
                r = mlc_rollout_decide_again(plan, stats, inputs, &decision, &ctx->err);
        if (r == 0)
                r = gate_json_digest(ctx, decision, again);
        if (r < 0)
                say(c, "request '%s/%d': nothing can be decided from its statistics: %s", id,
                    step + 1, ctx->err.msg);
        else if (!mlc_streq(again, evidence))
                say(c, "request '%s/%d': its statistics give another decision", id, step + 1);
        else if (!is_of_step(inputs, step) || !is_of_step(decision, step))
                say(c, "request '%s/%d': its decision is of another step", id, step + 1);
        else if (!waits_for_approval(decision))
                say(c, "request '%s/%d': its decision is not that approvals are needed", id,
                    step + 1);
        ctx->err = (struct mlc_err){0};
}

static int check_request(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows)
{
        _cleanup_(json_decref_p) json_t *plan = NULL, *decision = NULL;
        const char *id = db_text(rows, 0, Q_ROLLOUT), *evidence = db_text(rows, 0, Q_EVIDENCE);
        int step = (int)db_int(rows, 0, Q_STEP);
        char digest[MLC_DIGEST_STR];
        json_int_t need = 0;
        const json_t *rule;
        size_t i;
        int r = rollout_parse(ctx, db_text(rows, 0, Q_PLAN), &plan);

        if (r == 0)
                r = rollout_parse(ctx, db_text(rows, 0, Q_DECISION), &decision);
        if (r == 0)
                r = gate_json_digest(ctx, decision, digest);
        if (r < 0)
                return r;
        if (!mlc_streq(digest, evidence))
                say(c, "request '%s/%d': its decision differs from its digest", id, step + 1);
        else
                decided_again(ctx, c, rows, plan);
        json_array_foreach (
                json_object_get(json_array_get(json_object_get(plan, "steps"), (size_t)step),
                                "approvals"),
                i, rule)
                need += json_integer_value(json_object_get(rule, "count"));
        if (mlc_streq(db_text(rows, 0, Q_STATE), "approved") &&
            (need == 0 || db_int(rows, 0, Q_SIGNED) < need))
                say(c, "request '%s/%d': was approved with %d signatures of people, %d are needed",
                    id, step + 1, (int)db_int(rows, 0, Q_SIGNED), (int)need);
        return 0;
}

static int check_requests(struct mlc_ctx *ctx, struct db_tx *tx, const struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows steps = {0};
        int64_t seq = 0, step = -1;
        int r = db_run0(tx, SQL_ROLLOUT_CHECK_STEPS, &steps);

        for (int i = 0; r == 0 && i < steps.n; i++)
                say(c, "rollout '%s': step %" PRId64 " was left without its approvals",
                    db_text(&steps, i, 0), db_int(&steps, i, 1));
        while (r == 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = db_run(tx, SQL_ROLLOUT_CHECK_REQUESTS, &rows, DB_INT(seq), DB_INT(step));
                if (r < 0 || rows.n == 0)
                        return r;
                seq = db_int(&rows, 0, Q_SEQ);
                step = db_int(&rows, 0, Q_STEP);
                r = check_request(ctx, c, &rows);
        }
        return r;
}

static int check_promotions(struct db_tx *tx, const struct check *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_ROLLOUT_CHECK_PROMOTIONS, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++)
                say(c, "promotion '%s' is %s, its rollout %s", db_text(&rows, i, 0),
                    db_text(&rows, i, 1), db_text(&rows, i, 2));
        return r;
}

int rollout_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                  void *userdata)
{
        const struct check c = {report, userdata};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        /* one moment of all tables: a server that runs goes on meanwhile */
        if (r == 0)
                r = db_run0(&tx, SQL_ROLLOUT_CHECK_SNAPSHOT, NULL);
        if (r == 0)
                r = check_plans(ctx, &tx, &c);
        if (r == 0)
                r = check_splits(ctx, &tx, &c);
        if (r == 0)
                r = check_requests(ctx, &tx, &c);
        return r < 0 ? r : check_promotions(&tx, &c);
}
