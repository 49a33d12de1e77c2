/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/path.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "gen/api.h"
#include "gen/registry.sql.h"
#include "http/http.h"
#include "registry/registry_internal.h"
#include "store/store.h"

#define LIMIT(q) ((q).has_limit ? (q).limit : REGISTRY_PAGE_DEFAULT)

/* --- pages: items are text already --- */

static void page_begin(struct mlc_str *page)
{
        mlc_str_init(page, 64u << 20);
        mlc_str_add(page, "{\"items\":[");
}

/* `keys` NULL: this is the last page. Steals nothing. */
static int page_end(struct mlc_ctx *ctx, struct mlc_str *page, const json_t *keys,
                    struct http_reply *reply)
{
        int r;

        mlc_str_add(page, "],\"next\":");
        if (keys != NULL) {
                const char *cursor = http_cursor_make(ctx, keys);

                if (cursor == NULL)
                        return ctx->err.code;
                mlc_str_addf(page, "\"%s\"}", cursor);
        } else {
                mlc_str_add(page, "null}");
        }
        r = mlc_str_check(page, &ctx->err);
        if (r < 0)
                return r;
        http_reply_bytes(reply, 200, "application/json", page->data, page->len);
        return 0;
}

/* Rows whose column 0 is the item's text; one more than `limit` was asked for. */
static int reply_items(struct mlc_ctx *ctx, const struct db_rows *rows, int64_t limit,
                       const json_t *next, struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str page;

        page_begin(&page);
        for (int i = 0; i < rows->n && i < limit; i++) {
                mlc_str_add(&page, i > 0 ? "," : "");
                mlc_str_add(&page, db_text(rows, i, 0));
        }
        return page_end(ctx, &page, rows->n > limit ? next : NULL, reply);
}

/* --- models --- */

int api_model_list(struct mlc_ctx *ctx, const struct api_model_list_req *req,
                   struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *next = NULL;
        const char *after[2] = {"", ""}, *readable;
        int64_t limit = LIMIT(req->query);
        int r;

        r = http_cursor_texts(ctx, req->query.cursor, after, 2);
        if (r < 0)
                return r;
        r = registry_readable(ctx, &readable);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MODEL_PAGE, &rows, DB_TEXT(after[0]), DB_TEXT(after[1]),
                   DB_TEXT(readable), DB_TEXT(req->query.namespace), DB_TEXT(req->query.q),
                   DB_INT(limit + 1));
        if (r < 0)
                return r;
        if (rows.n > limit)
                next = json_pack("[s, s]", db_text(&rows, (int)limit - 1, 1),
                                 db_text(&rows, (int)limit - 1, 2));
        return reply_items(ctx, &rows, limit, next, reply);
}

int api_model_get(struct mlc_ctx *ctx, const struct api_model_get_req *req,
                  struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *text;
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MODEL_SHOW, &rows, DB_TEXT(req->path.namespace),
                   DB_TEXT(req->path.model));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "model '%s/%s' does not exist",
                                req->path.namespace, req->path.model);
        text = db_text(&rows, 0, 0);
        http_reply_bytes(reply, 200, "application/json", text, strlen(text));
        return 0;
}

/* --- versions --- */

#define ETAG_LEN 64 /* SHA-256 of the JSON, in hex */

/* Appends the ETag and then the JSON. */
static int show(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_version_row *v,
                struct mlc_str *ret)
{
        char etag[ETAG_LEN + 1];
        struct mlc_digest d;
        int r;

        mlc_str_addf(ret, "%*s", ETAG_LEN, "");
        r = registry_version_render(ctx, tx, v, true, ret);
        if (r < 0)
                return r;
        mlc_sha256(ret->data + ETAG_LEN, ret->len - ETAG_LEN, &d);
        mlc_hex_encode(d.b, sizeof(d.b), etag);
        memcpy(ret->data, etag, ETAG_LEN);
        return 0;
}

/* `shown` lies in ctx's arena. */
static void reply_shown(struct http_reply *reply, const char *shown, size_t len)
{
        char etag[ETAG_LEN + 1];

        (void)snprintf(etag, sizeof(etag), "%.*s", ETAG_LEN, shown);
        http_reply_etag(reply, etag);
        http_reply_borrowed(reply, 200, "application/json", shown + ETAG_LEN, len - ETAG_LEN);
}

static int find(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                const char *reference, struct registry_version_row *ret)
{
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, ns, model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, tx);
        if (r < 0)
                return r;
        return registry_version_find(ctx, tx, &name, reference, ret);
}

static int reply_text(struct mlc_ctx *ctx, const struct mlc_str *shown, struct http_reply *reply)
{
        const char *copy = mlc_arena_strndup(&ctx->arena, shown->data, shown->len, &ctx->err);

        if (copy == NULL)
                return ctx->err.code;
        reply_shown(reply, copy, shown->len);
        return 0;
}

/* A version that is not in the log yet will look different without any change of it. */
static int read_shown(struct mlc_ctx *ctx, const struct api_version_get_req *req, const char *key,
                      struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_version_row v;
        uint64_t epoch = epoch_now(ctx->app->changes);
        int r;

        mlc_str_init(&text, REGISTRY_DOC_MAX);
        r = find(ctx, &tx, req->path.namespace, req->path.model, req->path.version, &v);
        if (r < 0)
                return r;
        r = show(ctx, &tx, &v, &text);
        if (r < 0)
                return r;
        if (v.leaf_index >= 0)
                cache_put(ctx->app->registry->shown, key,
                          &(struct cache_value){text.data, text.len, epoch});
        return reply_text(ctx, &text, reply);
}

int api_version_get(struct mlc_ctx *ctx, const struct api_version_get_req *req,
                    struct http_reply *reply)
{
        const char *key = ctx_printf(ctx, "%s/%s:%s", req->path.namespace, req->path.model,
                                     req->path.version);
        void *shown;
        size_t len;
        int r;

        if (key == NULL)
                return ctx->err.code;
        r = cache_get(ctx, ctx->app->registry->shown, key, &shown, &len);
        if (r < 0)
                return r;
        if (shown == NULL)
                return read_shown(ctx, req, key, reply);
        reply_shown(reply, shown, len);
        return 0;
}

int api_version_commit_get(struct mlc_ctx *ctx, const struct api_version_commit_get_req *req,
                           struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_version_row v;
        const void *bytes;
        size_t len;
        int r;

        r = find(ctx, &tx, req->path.namespace, req->path.model, req->path.version, &v);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_VERSION_COMMIT_BYTES, &rows, DB_INT(v.id));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the commit of '%s:%" PRId64 "' is missing",
                                v.repo, v.number);
        r = db_bytes(ctx, &rows, 0, 0, &bytes, &len);
        if (r < 0)
                return r;
        http_reply_etag(reply, v.commit);
        http_reply_borrowed(reply, 200, "application/octet-stream", bytes, len);
        return 0;
}

static int reply_blob(struct mlc_ctx *ctx, const char *digest, const char *type,
                      struct http_reply *reply)
{
        uint64_t size;
        int fd, r;

        r = store_open_blob(ctx, digest, &fd, &size);
        if (r < 0)
                return r;
        http_reply_etag(reply, digest);
        http_reply_file(reply, 200, type, &(struct http_file){.fd = fd, .len = size});
        return 0;
}

int api_version_manifest_get(struct mlc_ctx *ctx, const struct api_version_manifest_get_req *req,
                             struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_version_row v;
        int r;

        r = find(ctx, &tx, req->path.namespace, req->path.model, req->path.version, &v);
        if (r < 0)
                return r;
        return reply_blob(ctx, v.digest, MLC_MT_OCI_MANIFEST, reply);
}

int api_version_card_get(struct mlc_ctx *ctx, const struct api_version_card_get_req *req,
                         struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_version_row v;
        int r;

        r = find(ctx, &tx, req->path.namespace, req->path.model, req->path.version, &v);
        if (r < 0)
                return r;
        if (v.card == NULL)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "version '%s:%" PRId64 "' has no card",
                                v.repo, v.number);
        return reply_blob(ctx, v.card, "text/markdown", reply);
}

static json_t *created_json(const struct registry_name *name, const char *digest,
                            const struct registry_version_out *out)
{
        return json_pack("{s:o, s:s, s:I, s:s, s:b, s:s, s:s}", "ref",
                         json_sprintf("%s:%" PRId64, name->repo, out->number), "model", name->repo,
                         "version", (json_int_t)out->number, "digest", digest, "created",
                         out->created, "commit", out->commit, "leaf_hash", out->leaf);
}

struct finish {
        const struct registry_name *name;
        const char *digest;
};

static int store_reply(struct mlc_ctx *ctx, struct db_tx *tx,
                       const struct registry_version_out *out, void *userdata)
{
        const struct finish *f = userdata;
        _cleanup_(json_decref_p) json_t *body = created_json(f->name, f->digest, out);

        return http_idempotent_store(ctx, tx, out->created ? 201 : 200, body);
}

/* Keys of labels and metrics: short printable text, so that filters can name them. */
static int check_key(struct mlc_ctx *ctx, const char *map, const char *key)
{
        char field[MLC_JSON_POINTER_MAX], shown[256];
        size_t len = strlen(key);

        /* what would be shown escaped could look like another key */
        if (len > 0 && len <= 128 && strpbrk(key, "=<>\"\\ \t\r\n") == NULL) {
                mlc_text_escape(key, len, shown, sizeof(shown));
                if (strcmp(shown, key) == 0)
                        return 0;
        }
        mlc_json_pointer(field, map, key);
        return ctx_fail_field(ctx, MLC_E_INVALID, field,
                              "keys are 1 to 128 bytes of printable text without spaces, quotes, "
                              "'=', '<', '>'");
}

static int given_json(struct mlc_ctx *ctx, const struct api_version_create_body *body,
                      json_t *labels, json_t *metrics)
{
        int r;

        for (unsigned i = 0; i < body->n_labels; i++) {
                r = check_key(ctx, "/labels", body->labels[i].key);
                if (r < 0)
                        return r;
                json_object_set_new(labels, body->labels[i].key,
                                    json_string(body->labels[i].value));
        }
        for (unsigned i = 0; i < body->n_metrics; i++) {
                r = check_key(ctx, "/metrics", body->metrics[i].key);
                if (r < 0)
                        return r;
                if (!isfinite(body->metrics[i].value))
                        return ctx_fail_field(ctx, MLC_E_INVALID, "/metrics", "must be finite");
                json_object_set_new(metrics, body->metrics[i].key,
                                    json_real(body->metrics[i].value));
        }
        return 0;
}

int api_version_create(struct mlc_ctx *ctx, const struct api_version_create_req *req,
                       struct http_reply *reply)
{
        _cleanup_(json_decref_p) json_t *labels = json_object(), *metrics = json_object();
        struct registry_version_in in = {.digest = req->body.digest,
                                         .labels = labels,
                                         .metrics = metrics,
                                         .alias = req->body.alias};
        struct registry_version_out out;
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = given_json(ctx, &req->body, labels, metrics);
        if (r < 0)
                return r;
        r = registry_version_create(ctx, &name, &in, store_reply,
                                    &(struct finish){&name, in.digest}, &out);
        if (r < 0)
                return r;
        http_reply_json(reply, out.created ? 201 : 200, created_json(&name, in.digest, &out));
        return 0;
}

int api_version_status_set(struct mlc_ctx *ctx, const struct api_version_status_set_req *req,
                           struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_version_row v;
        struct registry_name name;
        int r;

        mlc_str_init(&text, REGISTRY_DOC_MAX);
        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = registry_version_status(ctx, &name, req->path.version, req->body.status,
                                    req->body.reason);
        if (r < 0)
                return r;
        r = find(ctx, &tx, name.ns, name.model, req->path.version, &v);
        if (r < 0)
                return r;
        r = show(ctx, &tx, &v, &text);
        if (r < 0)
                return r;
        return reply_text(ctx, &text, reply);
}

/* --- filters --- */

/* KEY or KEY=VALUE */
static int parse_label(struct mlc_ctx *ctx, const char *s, struct registry_filter *f)
{
        const char *eq;

        if (s == NULL)
                return 0;
        eq = strchr(s, '=');
        f->label = mlc_arena_strndup(&ctx->arena, s, eq != NULL ? (size_t)(eq - s) : strlen(s),
                                     &ctx->err);
        if (f->label == NULL)
                return ctx->err.code;
        if (f->label[0] == '\0')
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:label",
                                      "must be KEY or KEY=VALUE");
        f->label_value = eq != NULL ? eq + 1 : NULL;
        return 0;
}

/* NAME, or NAME, an operator and a number */
static int parse_metric(struct mlc_ctx *ctx, const char *s, struct registry_filter *f)
{
        const char *number;
        char op, *end;
        size_t len;
        bool equal;

        if (s == NULL)
                return 0;
        len = strcspn(s, "<>=");
        f->metric = mlc_arena_strndup(&ctx->arena, s, len, &ctx->err);
        if (f->metric == NULL)
                return ctx->err.code;
        f->metric_min = "-inf";
        f->metric_max = "inf";
        if (len == 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:metric",
                                      "must be NAME, or NAME, one of >= <= > < = and a number");
        if (s[len] == '\0')
                return 0;
        op = s[len];
        equal = op == '=' || s[len + 1] == '=';
        number = s + len + (op != '=' && equal ? 2 : 1);
        if (!isfinite(strtod(number, &end)) || end == number || *end != '\0' ||
            strspn(number, "0123456789+-.eE") != strlen(number))
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:metric", "'%s' is no number",
                                      number);
        f->metric_min = op == '<' ? "-inf" : number;
        f->metric_max = op == '>' ? "inf" : number;
        f->metric_open = !equal;
        return 0;
}

static int reply_versions(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_rows *rows,
                          const struct registry_filter *f, struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str page;
        _cleanup_(json_decref_p) json_t *next = NULL;
        struct registry_version_row v = {.id = 0};
        int64_t shown = f->limit - 1;
        int r;

        page_begin(&page);
        for (int i = 0; i < rows->n && i < shown; i++) {
                r = registry_db_version_read(ctx, rows, i, &v);
                if (r < 0)
                        return r;
                mlc_str_add(&page, i > 0 ? "," : "");
                r = registry_version_render(ctx, tx, &v, false, &page);
                if (r < 0)
                        return r;
        }
        if (rows->n > shown)
                next = json_pack("[I]", (json_int_t)(f->by_id ? v.id : v.number));
        return page_end(ctx, &page, next, reply);
}

int api_version_list(struct mlc_ctx *ctx, const struct api_version_list_req *req,
                     struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_filter f = {.alias = req->query.alias,
                                    .status = req->query.status,
                                    .before = INT64_MAX,
                                    .limit = LIMIT(req->query) + 1};
        struct registry_name name;
        int64_t id, versions;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = http_cursor_number(ctx, req->query.cursor, &f.before);
        if (r < 0)
                return r;
        r = parse_label(ctx, req->query.label, &f);
        if (r < 0)
                return r;
        r = parse_metric(ctx, req->query.metric, &f);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, &name, &id, &versions);
        if (r < 0)
                return r;
        r = registry_db_version_page(ctx, &tx, &name, &f, &rows);
        if (r < 0)
                return r;
        return reply_versions(ctx, &tx, &rows, &f, reply);
}

int api_version_search(struct mlc_ctx *ctx, const struct api_version_search_req *req,
                       struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_filter f = {.digest = req->query.digest,
                                    .dataset = req->query.dataset,
                                    .by_id = true,
                                    .before = INT64_MAX,
                                    .limit = LIMIT(req->query) + 1};
        const char *readable;
        int r;

        r = http_cursor_number(ctx, req->query.cursor, &f.before);
        if (r < 0)
                return r;
        r = parse_label(ctx, req->query.label, &f);
        if (r < 0)
                return r;
        r = parse_metric(ctx, req->query.metric, &f);
        if (r < 0)
                return r;
        if (f.digest == NULL && f.dataset == NULL && f.label == NULL && f.metric == NULL)
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:digest",
                                      "give at least one of digest, label, metric, dataset");
        r = registry_readable(ctx, &readable);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_version_search(ctx, &tx, &f, readable, &rows);
        if (r < 0)
                return r;
        return reply_versions(ctx, &tx, &rows, &f, reply);
}

/* --- aliases --- */

static int reply_alias(const struct registry_name *name, const char *alias,
                       const struct registry_alias_state *s, int status, struct http_reply *reply)
{
        char etag[24];

        (void)snprintf(etag, sizeof(etag), "%" PRId64, s->number);
        http_reply_etag(reply, etag);
        http_reply_json(reply, status,
                        json_pack("{s:o, s:s, s:s, s:I, s:s}", "ref",
                                  json_sprintf("%s:%s", name->repo, alias), "model", name->repo,
                                  "alias", alias, "version", (json_int_t)s->number, "digest",
                                  s->digest));
        return 0;
}

int api_alias_list(struct mlc_ctx *ctx, const struct api_alias_list_req *req,
                   struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *next = NULL;
        int64_t limit = LIMIT(req->query), id, versions;
        struct registry_name name;
        const char *after = "";
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = http_cursor_texts(ctx, req->query.cursor, &after, 1);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, &name, &id, &versions);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_ALIAS_PAGE, &rows, DB_TEXT(name.ns), DB_TEXT(name.model),
                   DB_TEXT(after), DB_INT(limit + 1));
        if (r < 0)
                return r;
        if (rows.n > limit)
                next = json_pack("[s]", db_text(&rows, (int)limit - 1, 1));
        return reply_items(ctx, &rows, limit, next, reply);
}

int api_alias_get(struct mlc_ctx *ctx, const struct api_alias_get_req *req,
                  struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_alias_state s;
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_ALIAS_GET, &rows, DB_TEXT(name.ns), DB_TEXT(name.model),
                   DB_TEXT(req->path.alias));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "alias '%s:%s' does not exist", name.repo,
                                req->path.alias);
        s.number = db_int(&rows, 0, 0);
        (void)snprintf(s.digest, sizeof(s.digest), "%s", db_text(&rows, 0, 1));
        return reply_alias(&name, req->path.alias, &s, 200, reply);
}

int api_alias_set(struct mlc_ctx *ctx, const struct api_alias_set_req *req,
                  struct http_reply *reply)
{
        struct registry_alias_state now;
        struct registry_name name;
        bool created;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = registry_alias_set(ctx, &name, req->path.alias, req->body.version, &now, &created);
        if (r < 0)
                return r;
        return reply_alias(&name, req->path.alias, &now, created ? 201 : 200, reply);
}

int api_alias_delete(struct mlc_ctx *ctx, const struct api_alias_delete_req *req,
                     struct http_reply *reply)
{
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = registry_alias_delete(ctx, &name, req->path.alias);
        if (r < 0)
                return r;
        http_reply_empty(reply, 204);
        return 0;
}

int api_alias_history(struct mlc_ctx *ctx, const struct api_alias_history_req *req,
                      struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *next = NULL;
        int64_t limit = LIMIT(req->query), before = INT64_MAX, at_ms, id, versions;
        char at[MLC_TIME_MAX];
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, req->path.namespace, req->path.model, &name);
        if (r < 0)
                return r;
        r = http_cursor_number(ctx, req->query.cursor, &before);
        if (r < 0)
                return r;
        if (req->query.at != NULL) {
                if (!mlc_time_parse(req->query.at, &at_ms))
                        return ctx_fail_field(ctx, MLC_E_INVALID, "query:at",
                                              "must be an RFC 3339 time or a date");
                mlc_time_format(at_ms, at);
                limit = 1;
        }
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, &name, &id, &versions);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_ALIAS_HISTORY_PAGE, &rows, DB_TEXT(name.ns), DB_TEXT(name.model),
                   DB_TEXT(req->path.alias), DB_INT(before),
                   DB_TEXT(req->query.at != NULL ? at : NULL), DB_INT(limit + 1));
        if (r < 0)
                return r;
        if (rows.n > limit && req->query.at == NULL)
                next = json_pack("[I]", (json_int_t)db_int(&rows, (int)limit - 1, 1));
        return reply_items(ctx, &rows, limit, next, reply);
}
