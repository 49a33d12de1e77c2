/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of rollouts: plans are those that were recorded, splits are what rollouts and what
 * is live say, promotions ended as their rollouts did. */
#include <inttypes.h>
#include <stdarg.h>

#include "gen/rollout.sql.h"
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
                expected = rollout_weight(&active, active.step);
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

        if (r == 0)
                r = check_plans(ctx, &tx, &c);
        if (r == 0)
                r = check_splits(ctx, &tx, &c);
        return r < 0 ? r : check_promotions(&tx, &c);
}
