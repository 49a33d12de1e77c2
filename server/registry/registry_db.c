/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/jcs.h"
#include "gen/registry.sql.h"
#include "registry/registry_internal.h"

const struct audit_source registry_audit_sources[3] = {
        {"model", &SQL_REGISTRY_STATES_MODEL},
        {"version", &SQL_REGISTRY_STATES_VERSION},
        {"alias", &SQL_REGISTRY_STATES_ALIAS},
};

int registry_name_make(struct mlc_ctx *ctx, const char *ns, const char *model,
                       struct registry_name *ret)
{
        const char *repo = ctx_printf(ctx, "%s/%s", ns, model);

        if (repo == NULL)
                return ctx->err.code;
        *ret = (struct registry_name){.ns = ns, .model = model, .repo = repo};
        return 0;
}

int registry_db_model_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                           int64_t *ret_id, int64_t *ret_versions)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run(tx, SQL_MODEL_FIND, &rows, DB_TEXT(name->ns), DB_TEXT(name->model));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "model '%s' does not exist", name->repo);
        *ret_id = db_int(&rows, 0, 0);
        *ret_versions = db_int(&rows, 0, 1);
        return 0;
}

int registry_db_model_lock(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                           int64_t *ret_id, int64_t *ret_versions, bool *ret_new)
{
        _cleanup_(db_rows_done) struct db_rows made = {0}, rows = {0};
        char now[MLC_TIME_MAX];
        int r;

        r = db_run(tx, SQL_MODEL_LOCK, &rows, DB_TEXT(name->ns), DB_TEXT(name->model));
        if (r < 0)
                return r;
        if (rows.n == 0) {
                mlc_time_format(mlc_now_ms(), now);
                r = db_run(tx, SQL_MODEL_INSERT, &made, DB_TEXT(name->ns), DB_TEXT(name->model),
                           DB_TEXT(now));
                if (r < 0)
                        return r;
                db_rows_done(&rows);
                rows = (struct db_rows){0};
                r = db_run(tx, SQL_MODEL_LOCK, &rows, DB_TEXT(name->ns), DB_TEXT(name->model));
                if (r < 0)
                        return r;
                if (rows.n == 0)
                        return ctx_fail(ctx, MLC_E_INTERNAL, "model '%s' vanished", name->repo);
        }
        *ret_id = db_int(&rows, 0, 0);
        *ret_versions = db_int(&rows, 0, 1);
        *ret_new = made.n > 0;
        return 0;
}

static int insert_search(struct mlc_ctx *ctx, struct db_tx *tx,
                         const struct registry_version_new *v, int64_t id)
{
        _cleanup_(json_decref_p) json_t *datasets = json_array(), *files = json_array();
        const struct mlc_lineage *l = &v->draft->manifest.lineage;
        const char *datasets_text, *files_text;
        json_t *file;
        size_t i;
        int r;

        for (i = 0; i < l->n_datasets; i++)
                json_array_append_new(datasets, json_string(l->datasets[i]));
        json_array_foreach (v->draft->files, i, file)
                json_array_append(files, json_object_get(file, "digest"));
        datasets_text = registry_json_text(ctx, datasets);
        files_text = registry_json_text(ctx, files);
        if (datasets_text == NULL || files_text == NULL)
                return ctx->err.code;
        r = db_run(tx, SQL_VERSION_INSERT_LABELS, NULL, DB_INT(id));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_VERSION_INSERT_METRICS, NULL, DB_INT(id));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_VERSION_INSERT_DATASETS, NULL, DB_INT(id), DB_TEXT(datasets_text));
        if (r < 0)
                return r;
        return db_run(tx, SQL_VERSION_INSERT_FILES, NULL, DB_INT(id), DB_TEXT(files_text));
}

int registry_db_version_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                               const struct registry_version_new *v)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int64_t id;
        int r;

        r = db_run(tx, SQL_VERSION_INSERT, &rows, DB_INT(v->model_id), DB_INT(v->number),
                   DB_TEXT(v->draft->digest), DB_TEXT(v->commit), DB_TEXT(v->author),
                   DB_TEXT(v->labels), DB_TEXT(v->labels_digest), DB_TEXT(v->metrics),
                   DB_TEXT(v->metrics_digest), DB_TEXT(v->summary), DB_TEXT(v->doc),
                   DB_TEXT(v->draft->card), DB_TEXT(v->leaf));
        if (r < 0)
                return r;
        id = db_int(&rows, 0, 0);
        r = db_run(tx, SQL_VERSION_INSERT_COMMIT, NULL, DB_INT(id),
                   DB_BYTES(v->commit_bytes->data, v->commit_bytes->len));
        if (r < 0)
                return r;
        r = insert_search(ctx, tx, v, id);
        if (r < 0)
                return r;
        return db_run(tx, SQL_MODEL_COUNT_VERSION, NULL, DB_INT(v->model_id), DB_INT(v->number));
}

/* Columns of version_shown. */
enum {
        C_NS,
        C_MODEL,
        C_MODEL_ID,
        C_VERSIONS,
        C_ID,
        C_NUMBER,
        C_DIGEST,
        C_COMMIT,
        C_STATUS,
        C_REASON,
        C_AUTHOR,
        C_AUTHOR_NAME,
        C_SUMMARY,
        C_DOC,
        C_CARD,
        C_LEAF,
        C_LEAF_INDEX,
        C_ALIASES,
};

/* Borrowed from the rows, which outlive the rendering of a request only when copied. */
static int copy_texts(struct mlc_ctx *ctx, const struct db_rows *rows, int row,
                      struct registry_version_row *v)
{
        const struct {
                int col;
                const char **ret;
        } texts[] = {
                {C_STATUS, &v->status},   {C_REASON, &v->reason},
                {C_AUTHOR, &v->author},   {C_AUTHOR_NAME, &v->author_name},
                {C_SUMMARY, &v->summary}, {C_DOC, &v->doc},
                {C_CARD, &v->card},       {C_LEAF, &v->leaf},
                {C_ALIASES, &v->aliases}, {C_COMMIT, &v->commit},
        };

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                *texts[i].ret = db_text_dup(ctx, rows, row, texts[i].col);
                if (*texts[i].ret == NULL && ctx->err.code != 0)
                        return ctx->err.code;
        }
        return 0;
}

int registry_db_version_read(struct mlc_ctx *ctx, const struct db_rows *rows, int row,
                             struct registry_version_row *ret)
{
        struct registry_version_row v = {.id = db_int(rows, row, C_ID),
                                         .number = db_int(rows, row, C_NUMBER),
                                         .leaf_index = -1};
        const char *digest = db_text(rows, row, C_DIGEST);
        int r;

        assert(strlen(digest) < sizeof(v.digest));
        memcpy(v.digest, digest, strlen(digest) + 1);
        if (!db_is_null(rows, row, C_LEAF_INDEX))
                v.leaf_index = db_int(rows, row, C_LEAF_INDEX);
        v.repo = ctx_printf(ctx, "%s/%s", db_text(rows, row, C_NS), db_text(rows, row, C_MODEL));
        if (v.repo == NULL)
                return ctx->err.code;
        r = copy_texts(ctx, rows, row, &v);
        if (r < 0)
                return r;
        *ret = v;
        return 0;
}

int registry_readable(struct mlc_ctx *ctx, const char **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        const struct auth_principal *p = ctx->principal;

        mlc_str_init(&s, 1u << 20);
        mlc_str_addc(&s, '{');
        for (unsigned i = 0; i < p->n_grants; i++) {
                if (p->grants[i].roles == 0)
                        continue;
                if (strcmp(p->grants[i].ns, "*") == 0) {
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

int registry_db_version_page(struct mlc_ctx *ctx, struct db_tx *tx,
                             const struct registry_name *name, const struct registry_filter *f,
                             struct db_rows *ret)
{
        (void)ctx;
        return db_run(tx, SQL_VERSION_PAGE, ret, DB_TEXT(name->ns), DB_TEXT(name->model),
                      DB_INT(f->before), DB_TEXT(f->label), DB_TEXT(f->label_value),
                      DB_TEXT(f->metric), DB_TEXT(f->metric_min), DB_TEXT(f->metric_max),
                      DB_BOOL(f->metric_open), DB_TEXT(f->alias), DB_TEXT(f->status),
                      DB_INT(f->limit));
}

int registry_db_version_search(struct mlc_ctx *ctx, struct db_tx *tx,
                               const struct registry_filter *f, const char *readable,
                               struct db_rows *ret)
{
        (void)ctx;
        /* each begins with the index that narrows most */
        if (f->digest != NULL)
                return db_run(tx, SQL_VERSION_SEARCH_DIGEST, ret, DB_TEXT(f->digest),
                              DB_INT(f->before), DB_TEXT(readable), DB_TEXT(f->label),
                              DB_TEXT(f->label_value), DB_TEXT(f->metric), DB_TEXT(f->metric_min),
                              DB_TEXT(f->metric_max), DB_BOOL(f->metric_open), DB_TEXT(f->dataset),
                              DB_INT(f->limit));
        if (f->dataset != NULL)
                return db_run(tx, SQL_VERSION_SEARCH_DATASET, ret, DB_TEXT(f->dataset),
                              DB_INT(f->before), DB_TEXT(readable), DB_TEXT(f->label),
                              DB_TEXT(f->label_value), DB_TEXT(f->metric), DB_TEXT(f->metric_min),
                              DB_TEXT(f->metric_max), DB_BOOL(f->metric_open), DB_INT(f->limit));
        if (f->label != NULL)
                return db_run(tx, SQL_VERSION_SEARCH_LABEL, ret, DB_TEXT(f->label),
                              DB_TEXT(f->label_value), DB_INT(f->before), DB_TEXT(readable),
                              DB_TEXT(f->metric), DB_TEXT(f->metric_min), DB_TEXT(f->metric_max),
                              DB_BOOL(f->metric_open), DB_INT(f->limit));
        assert(f->metric != NULL);
        return db_run(tx, SQL_VERSION_SEARCH_METRIC, ret, DB_TEXT(f->metric),
                      DB_TEXT(f->metric_min), DB_TEXT(f->metric_max), DB_BOOL(f->metric_open),
                      DB_INT(f->before), DB_TEXT(readable), DB_INT(f->limit));
}
