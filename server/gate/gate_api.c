/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <strings.h>

#include "auth/auth.h"
#include "base/clock.h"
#include "codec/ref.h"
#include "gate/gate_internal.h"
#include "gen/api.h"
#include "gen/gate.sql.h"
#include "http/http.h"
#include "policy/evaluation.h"
#include "policy/schema.h"

#define LIMIT(q) ((q).has_limit ? (q).limit : GATE_PAGE_DEFAULT)

/* --- bodies and pages --- */

/* Whether the body's media type, parameters aside, is one of the list. */
static bool body_is(struct mlc_ctx *ctx, const char *const *types)
{
        const char *type = http_header(ctx, "Content-Type");
        size_t len = type != NULL ? strcspn(type, "; \t") : 0;

        for (; *types != NULL; types++)
                if (len == strlen(*types) && strncasecmp(type, *types, len) == 0)
                        return true;
        return false;
}

static const char *const JSON[] = {"application/json", NULL};
static const char *const YAML[] = {"text/yaml", "application/yaml", "application/x-yaml",
                                   "text/x-yaml", NULL};

/* Rows whose column 0 is the item's text; one more than `limit` was asked for. */
static int reply_items(struct mlc_ctx *ctx, const struct db_rows *rows, int64_t limit,
                       const json_t *next, struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str page;
        const char *cursor = NULL;
        int r;

        mlc_str_init(&page, GATE_TEXT_MAX);
        mlc_str_add(&page, "{\"items\":[");
        for (int i = 0; i < rows->n && i < limit; i++) {
                mlc_str_add(&page, i > 0 ? "," : "");
                mlc_str_add(&page, db_text(rows, i, 0));
        }
        if (rows->n > limit) {
                cursor = http_cursor_make(ctx, next);
                if (cursor == NULL)
                        return ctx->err.code;
        }
        if (cursor != NULL)
                mlc_str_addf(&page, "],\"next\":\"%s\"}", cursor);
        else
                mlc_str_add(&page, "],\"next\":null}");
        r = mlc_str_check(&page, &ctx->err);
        if (r < 0)
                return r;
        http_reply_bytes(reply, 200, "application/json", page.data, page.len);
        return 0;
}

/* "{a,b}" of the namespaces that the caller may read, NULL: all. */
static int readable(struct mlc_ctx *ctx, const char **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        const struct auth_principal *p = ctx->principal;
        int r;

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
        r = mlc_str_check(&s, &ctx->err);
        if (r < 0)
                return r;
        *ret = ctx_strdup(ctx, s.data);
        return *ret != NULL ? 0 : ctx->err.code;
}

/* --- documents --- */

int api_document_list(struct mlc_ctx *ctx, const struct api_document_list_req *req,
                      struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *next = NULL;
        const char *after[2] = {"", ""}, *namespaces = NULL;
        int64_t limit = LIMIT(req->query);
        int r = http_cursor_texts(ctx, req->query.cursor, after, 2);

        if (r == 0)
                r = readable(ctx, &namespaces);
        if (r == 0)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_DOCUMENT_PAGE, &rows, DB_TEXT(after[0]), DB_TEXT(after[1]),
                           DB_TEXT(namespaces), DB_TEXT(req->query.kind), DB_INT(limit + 1));
        if (r < 0)
                return r;
        if (rows.n > limit)
                next = json_pack("[s, s]", db_text(&rows, (int)limit - 1, 1),
                                 db_text(&rows, (int)limit - 1, 2));
        return reply_items(ctx, &rows, limit, next, reply);
}

/* A document of a namespace in which the caller has no role is not there. */
static bool may_see(struct mlc_ctx *ctx, const char *kind, const char *name)
{
        const char *slash = strchr(name, '/');
        char ns[MLC_NAME_MAX + 1];

        if (strcmp(kind, "Model") != 0)
                return true;
        if (slash == NULL || (size_t)(slash - name) >= sizeof(ns))
                return false;
        (void)snprintf(ns, sizeof(ns), "%.*s", (int)(slash - name), name);
        return auth_may_read(ctx->principal, ns);
}

int api_document_get(struct mlc_ctx *ctx, const struct api_document_get_req *req,
                     struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *kind = req->path.kind, *name = req->path.name, *text;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_DOCUMENT_SHOW, &rows, DB_TEXT(kind), DB_TEXT(name),
                           DB_INT(req->query.has_version ? req->query.version : 0));
        if (r < 0)
                return r;
        if (rows.n == 0 || !may_see(ctx, kind, name))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "document '%s/%s' does not exist", kind,
                                name);
        text = db_text(&rows, 0, 0);
        http_reply_etag(reply, db_text(&rows, 0, 1) + strlen("sha256:"));
        http_reply_bytes(reply, 200, "application/json", text, strlen(text));
        return 0;
}

/* {"documents": [{…}, …]} as YAML: JSON is YAML. */
static int json_to_yaml(struct mlc_ctx *ctx, const struct api_bytes *body, struct mlc_str *ret)
{
        static const char *const keys[] = {"documents", NULL};
        _cleanup_(json_decref_p) json_t *j = NULL;
        json_t *list, *doc;
        size_t i;
        int r = mlc_json_parse(body->data, body->len, &j, &ctx->err);

        if (r == 0 && !json_is_object(j))
                r = ctx_fail(ctx, MLC_E_INVALID, "must be an object with the member \"documents\"");
        if (r == 0)
                r = mlc_json_only(j, "", keys, &ctx->err);
        if (r == 0)
                r = mlc_json_get_arr(j, "", "documents", &list, &ctx->err);
        if (r < 0)
                return r;
        json_array_foreach (list, i, doc) {
                _cleanup_(free_p) char *text = NULL;
                _cleanup_(json_decref_p) json_t *normal = NULL;
                char at[160];

                r = mlc_document_normalise(doc, &normal, &ctx->err);
                if (r < 0) {
                        (void)snprintf(at, sizeof(at), "/documents/%zu%s", i, ctx->err.field);
                        (void)snprintf(ctx->err.field, sizeof(ctx->err.field), "%.*s",
                                       (int)sizeof(ctx->err.field) - 1, at);
                        return r;
                }
                text = json_dumps(doc, JSON_INDENT(2));
                mlc_str_addf(ret, "---\n%s\n", text != NULL ? text : "");
        }
        return mlc_str_check(ret, &ctx->err);
}

int api_document_apply(struct mlc_ctx *ctx, const struct api_document_apply_req *req,
                       struct http_reply *reply)
{
        bool dry_run = req->query.has_dry_run && req->query.dry_run;
        _cleanup_(mlc_str_done) struct mlc_str text;
        json_t *body = NULL;
        int r = 0;

        mlc_str_init(&text, 4u << 20);
        if (body_is(ctx, YAML))
                mlc_str_addn(&text, req->body.data, req->body.len);
        else if (body_is(ctx, JSON))
                r = json_to_yaml(ctx, &req->body, &text);
        else
                r = ctx_fail_field(ctx, MLC_E_MEDIA_TYPE, "header:Content-Type",
                                   "must be text/yaml or application/json");
        if (r == 0)
                r = gate_apply(ctx, mlc_str_cstr(&text), text.len, dry_run, &body);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, body);
        return 0;
}

/* --- evaluations --- */

#define SUBJECT(req)                                                                               \
        {                                                                                          \
                .ns = (req)->path.namespace, .model = (req)->path.model,                           \
                .version = (req)->path.version                                                     \
        }

int api_evaluation_create(struct mlc_ctx *ctx, const struct api_evaluation_create_req *req,
                          struct http_reply *reply)
{
        struct gate_subject s = SUBJECT(req);
        struct gate_evaluation_in in = {req->body.data, req->body.len, req->query.examples};
        struct gate_evaluation_out out;
        int r;

        if (!body_is(ctx, JSON))
                return ctx_fail_field(ctx, MLC_E_MEDIA_TYPE, "header:Content-Type",
                                      "must be application/json");
        r = gate_evaluation_create(ctx, &s, &in, &out);
        if (r < 0)
                return r;
        http_reply_json(reply, out.created ? 201 : 200,
                        json_pack("{s:s, s:s, s:I, s:s, s:b, s:I, s:s}", "evaluation", out.id,
                                  "model", out.version.model, "version",
                                  (json_int_t)out.version.number, "dataset", out.dataset, "created",
                                  out.created, "recomputed", (json_int_t)out.recomputed,
                                  "leaf_hash", out.leaf));
        return 0;
}

int api_evaluation_list(struct mlc_ctx *ctx, const struct api_evaluation_list_req *req,
                        struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *next = NULL;
        struct gate_subject s = SUBJECT(req);
        int64_t limit = LIMIT(req->query), before = INT64_MAX;
        struct gate_version v;
        int r = http_cursor_number(ctx, req->query.cursor, &before);

        if (r == 0)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = gate_version_find(ctx, &tx, &s, &v);
        if (r == 0)
                r = db_run(&tx, SQL_EVALUATION_PAGE, &rows, DB_INT(v.id), DB_INT(before),
                           DB_INT(limit + 1));
        if (r < 0)
                return r;
        if (rows.n > limit)
                next = json_pack("[I]", (json_int_t)db_int(&rows, (int)limit - 1, 1));
        return reply_items(ctx, &rows, limit, next, reply);
}

static bool is_recomputed(const json_t *recomputed, const json_t *metric)
{
        const json_t *slice = json_object_get(metric, "slice"), *one;
        size_t i;

        json_array_foreach (recomputed, i, one) {
                const json_t *other = json_object_get(one, "slice");

                if (json_equal(json_object_get(one, "name"), json_object_get(metric, "name")) &&
                    mlc_slice_equal(json_is_object(slice) ? slice : NULL,
                                    json_is_object(other) ? other : NULL))
                        return true;
        }
        return false;
}

/* Marks each metric of the document: recomputed from the examples, or declared only. */
static void mark(json_t *document, const json_t *recomputed)
{
        json_t *metric;
        size_t i;

        json_array_foreach (json_object_get(document, "metrics"), i, metric)
                json_object_set_new(
                        metric, "evidence",
                        json_string(is_recomputed(recomputed, metric) ? "recomputed" : "declared"));
}

static int evaluation_json(struct mlc_ctx *ctx, struct db_tx *tx, const struct db_rows *row,
                           json_t **ret)
{
        _cleanup_(json_decref_p) json_t *doc = NULL, *recomputed = NULL;
        const char *reason = NULL;
        int r = gate_parse(ctx, db_text(row, 0, 13), &doc);

        if (r == 0)
                r = gate_parse(ctx, db_text(row, 0, 14), &recomputed);
        if (r == 0 && !db_is_null(row, 0, 11))
                r = audit_reveal_pii(ctx, tx, db_text(row, 0, 11), &reason);
        if (r < 0)
                return r;
        mark(doc, recomputed);
        *ret = json_pack(
                "{s:s, s:s, s:I, s:s, s:s, s:s, s:{s:s, s:s?}, s:s, s:s?, s:b, s:s?, s:I, s:O, "
                "s:O, s:s}",
                "evaluation", db_text(row, 0, 0), "model", db_text(row, 0, 1), "version",
                (json_int_t)db_int(row, 0, 2), "manifest", db_text(row, 0, 3), "dataset",
                db_text(row, 0, 4), "at", db_text(row, 0, 5), "author", "id", db_text(row, 0, 6),
                "name", db_is_null(row, 0, 7) ? NULL : db_text(row, 0, 7), "submitted",
                db_text(row, 0, 8), "examples", db_is_null(row, 0, 9) ? NULL : db_text(row, 0, 9),
                "withdrawn", db_bool(row, 0, 10), "reason", reason, "judged",
                (json_int_t)db_int(row, 0, 12), "document", doc, "recomputed", recomputed,
                "leaf_hash", db_text(row, 0, 15));
        return 0;
}

static int unknown_evaluation(struct mlc_ctx *ctx, const char *id, const struct gate_version *v)
{
        return ctx_fail(ctx, MLC_E_NOT_FOUND, "evaluation '%s' of '%s:%" PRId64 "' does not exist",
                        id, v->model, v->number);
}

static int reply_evaluation(struct mlc_ctx *ctx, const struct gate_subject *s, const char *id,
                            struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct gate_version v;
        json_t *body = NULL;
        char etag[80];
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = gate_version_find(ctx, &tx, s, &v);
        if (r == 0)
                r = db_run(&tx, SQL_EVALUATION_SHOW, &rows, DB_INT(v.id), DB_TEXT(id));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return unknown_evaluation(ctx, id, &v);
        r = evaluation_json(ctx, &tx, &rows, &body);
        if (r < 0)
                return r;
        (void)snprintf(etag, sizeof(etag), "%s%s", id + strlen("sha256:"),
                       db_bool(&rows, 0, 10) ? "-withdrawn" : "");
        http_reply_etag(reply, etag);
        http_reply_json(reply, 200, body);
        return 0;
}

int api_evaluation_get(struct mlc_ctx *ctx, const struct api_evaluation_get_req *req,
                       struct http_reply *reply)
{
        struct gate_subject s = SUBJECT(req);

        return reply_evaluation(ctx, &s, req->path.evaluation, reply);
}

int api_evaluation_document_get(struct mlc_ctx *ctx,
                                const struct api_evaluation_document_get_req *req,
                                struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct gate_subject s = SUBJECT(req);
        const char *id = req->path.evaluation, *bytes;
        struct gate_version v;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = gate_version_find(ctx, &tx, &s, &v);
        if (r == 0)
                r = db_run(&tx, SQL_EVALUATION_BYTES, &rows, DB_INT(v.id), DB_TEXT(id));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return unknown_evaluation(ctx, id, &v);
        bytes = db_text(&rows, 0, 0);
        http_reply_etag(reply, db_text(&rows, 0, 1) + strlen("sha256:"));
        http_reply_bytes(reply, 200, "application/json", bytes, strlen(bytes));
        return 0;
}

int api_evaluation_find(struct mlc_ctx *ctx, const struct api_evaluation_find_req *req,
                        struct http_reply *reply)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *namespaces = NULL;
        int r = readable(ctx, &namespaces);

        if (r == 0)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = db_run(&tx, SQL_EVALUATION_FIND_ALL, &rows, DB_TEXT(req->path.evaluation),
                           DB_TEXT(namespaces));
        return r < 0 ? r : reply_items(ctx, &rows, rows.n, NULL, reply);
}

int api_evaluation_withdraw(struct mlc_ctx *ctx, const struct api_evaluation_withdraw_req *req,
                            struct http_reply *reply)
{
        struct gate_subject s = SUBJECT(req);
        int r = gate_evaluation_withdraw(ctx, &s, req->path.evaluation, req->body.reason);

        return r < 0 ? r : reply_evaluation(ctx, &s, req->path.evaluation, reply);
}

/* --- verdicts and schemas --- */

int api_policy_test(struct mlc_ctx *ctx, const struct api_policy_test_req *req,
                    struct http_reply *reply)
{
        struct gate_subject s = {.version = req->body.version,
                                 .environment = req->body.environment,
                                 .now_ms = mlc_now_ms()};
        struct mlc_ref ref;
        json_t *body = NULL;
        int r = mlc_ref_parse_model(req->body.model, &ref, &ctx->err);

        if (r < 0)
                return r;
        if (!auth_may_read(ctx->principal, ref.ns))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "model '%s' does not exist", req->body.model);
        s.ns = ref.ns;
        s.model = ref.model;
        r = gate_policy_test(ctx, &s, &body);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, body);
        return 0;
}

int api_schema_get(struct mlc_ctx *ctx, const struct api_schema_get_req *req,
                   struct http_reply *reply)
{
        const struct mlc_schema *all;
        size_t n;

        all = mlc_schemas(&n);
        for (size_t i = 0; i < n; i++)
                if (strcmp(all[i].name, req->path.name) == 0) {
                        http_reply_borrowed(reply, 200, "application/schema+json", all[i].text,
                                            all[i].len);
                        return 0;
                }
        return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no schema '%s'", req->path.name);
}
