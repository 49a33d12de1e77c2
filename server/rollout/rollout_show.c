/* SPDX-License-Identifier: Apache-2.0 */
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

int rollout_show(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret)
{
        _cleanup_(rollout_done) struct rollout r = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *shown = NULL;
        int e = rollout_load(ctx, tx, id, false, &r);

        if (e == 0)
                e = db_run(tx, SQL_ROLLOUT_SHOWN, &rows, DB_TEXT(id));
        if (e == 0)
                e = rollout_parse(ctx, db_text(&rows, 0, 0), &shown);
        if (e < 0)
                return e;
        (void)json_object_set_new(shown, "weight", json_integer(rollout_weight(&r, r.step)));
        e = request_show(ctx, tx, &r, shown);
        if (e < 0) {
                json_decref(shown);
                return e;
        }
        *ret = shown;
        return 0;
}

int rollout_explained(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret)
{
        _cleanup_(rollout_done) struct rollout r = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = rollout_load(ctx, tx, id, false, &r);

        if (e == 0)
                e = db_run(tx, SQL_ROLLOUT_EXPLAINED, &rows, DB_TEXT(id));
        return e < 0 ? e : rollout_parse(ctx, db_text(&rows, 0, 0), ret);
}
