/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "gen/auth.sql.h"

const struct audit_source AUTH_SOURCES[AUTH_N_SOURCES] = {
        {"user", &SQL_AUTH_STATES_USER},
        {"role", &SQL_AUTH_STATES_ROLE},
        {"token", &SQL_AUTH_STATES_TOKEN},
        {"key", &SQL_AUTH_STATES_KEY},
};

static int parse_column(struct mlc_ctx *ctx, const struct db_rows *rows, int row, json_t **ret)
{
        const char *text = db_text(rows, row, 0);

        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

int auth_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
               void *userdata)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char what[128];
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = db_run0(&tx, SQL_AUTH_NAME_DIFFERS, &rows);
        if (r < 0 || rows.n == 0)
                return r;
        (void)snprintf(what, sizeof(what), "the name of user '%s' was changed",
                       db_text(&rows, 0, 0));
        report(userdata, what);
        return 0;
}

int auth_db_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                  json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_AUTH_STATE_GET, &rows, DB_TEXT(kind), DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0) {
                *ret = NULL;
                return 0;
        }
        return parse_column(ctx, &rows, 0, ret);
}

int auth_db_json(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_stmt *stmt, const char *key,
                 const char *what, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, *stmt, &rows, DB_TEXT(key));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no %s '%s'", what, key);
        return parse_column(ctx, &rows, 0, ret);
}

int auth_db_json_list(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_stmt *stmt,
                      const char *key, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *list = json_array();
        int r = db_run(tx, *stmt, &rows, DB_TEXT(key));

        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                json_t *one;

                r = parse_column(ctx, &rows, i, &one);
                if (r < 0)
                        return r;
                (void)json_array_append_new(list, one);
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int auth_db_user_find(struct mlc_ctx *ctx, struct db_tx *tx, const char *id_or_name,
                      struct auth_user *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_AUTH_USER_FIND, &rows, DB_TEXT(id_or_name));
        struct auth_user u = {0};

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no user '%s'", id_or_name);
        (void)snprintf(u.id, sizeof(u.id), "%s", db_text(&rows, 0, 0));
        if (!db_is_null(&rows, 0, 1)) {
                u.name = db_text_dup(ctx, &rows, 0, 1);
                if (u.name == NULL)
                        return ctx->err.code;
        }
        u.service = mlc_streq(db_text(&rows, 0, 2), "service");
        (void)snprintf(u.owner, sizeof(u.owner), "%s", db_text(&rows, 0, 3));
        u.active = mlc_streq(db_text(&rows, 0, 4), "active");
        u.erased = mlc_streq(db_text(&rows, 0, 4), "erased");
        *ret = u;
        return 0;
}
