/* SPDX-License-Identifier: Apache-2.0 */
/* A version as clients see it: stored text with what changes added, never parsed on the way. */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "gen/registry.sql.h"
#include "registry/registry_internal.h"

/* `N` or `vN`, `latest` as 0; false for anything else. */
static bool parse_number(const char *s, int64_t *ret)
{
        unsigned long long n;

        if (strcmp(s, "latest") == 0) {
                *ret = 0;
                return true;
        }
        if (s[0] == 'v')
                s++;
        if (!mlc_parse_u64(s, &n) || n == 0 || n > MLC_VERSION_MAX)
                return false;
        *ret = (int64_t)n;
        return true;
}

int registry_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                          const char *reference, struct registry_version_row *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int64_t number;
        int r;

        if (parse_number(reference, &number))
                r = db_run(tx, SQL_VERSION_BY_NUMBER, &rows, DB_TEXT(name->ns),
                           DB_TEXT(name->model), DB_INT(number));
        else if (mlc_starts_with(reference, "sha256:"))
                r = db_run(tx, SQL_VERSION_BY_DIGEST, &rows, DB_TEXT(name->ns),
                           DB_TEXT(name->model), DB_TEXT(reference));
        else
                r = db_run(tx, SQL_VERSION_BY_ALIAS, &rows, DB_TEXT(name->ns), DB_TEXT(name->model),
                           DB_TEXT(reference));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "version '%s:%s' does not exist", name->repo,
                                reference);
        return registry_db_version_read(ctx, &rows, 0, ret);
}

static void add_string(struct mlc_str *s, const char *text)
{
        _cleanup_(json_decref_p) json_t *j = text != NULL ? json_string(text) : json_null();
        _cleanup_(free_p) char *dumped = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);

        mlc_str_add(s, dumped != NULL ? dumped : "null");
}

int registry_version_render(struct mlc_ctx *ctx, struct db_tx *tx,
                            const struct registry_version_row *v, bool full, struct mlc_str *ret)
{
        const char *reason = NULL;
        int r;

        mlc_str_addc(ret, '{');
        mlc_str_add(ret, v->summary);
        mlc_str_add(ret, ",\"author\":{\"id\":");
        add_string(ret, v->author);
        mlc_str_add(ret, ",\"name\":");
        add_string(ret, v->author_name);
        mlc_str_addf(ret, "},\"status\":\"%s\",\"aliases\":%s", v->status, v->aliases);
        if (!full) {
                mlc_str_addc(ret, '}');
                return mlc_str_check(ret, &ctx->err);
        }
        if (v->reason != NULL) {
                r = audit_reveal_pii(ctx, tx, v->reason, &reason);
                if (r < 0)
                        return r;
        }
        mlc_str_add(ret, ",\"status_reason\":");
        add_string(ret, reason);
        mlc_str_addc(ret, ',');
        mlc_str_add(ret, v->doc);
        mlc_str_addf(ret, ",\"leaf_hash\":\"%s\",\"leaf_index\":", v->leaf);
        if (v->leaf_index < 0)
                mlc_str_add(ret, "null}");
        else
                mlc_str_addf(ret, "%" PRId64 "}", v->leaf_index);
        return mlc_str_check(ret, &ctx->err);
}
