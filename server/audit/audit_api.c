/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "audit/audit_internal.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "crypto/sshkey.h"
#include "gen/api.h"
#include "git/git.h"
#include "http/http.h"

#define TEXT "text/plain; charset=utf-8"
#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000
#define POLL_MS 50

/* A file below DIR/log; 404 when it is not there. */
static int reply_log_file(struct mlc_ctx *ctx, struct http_reply *reply, const char *path)
{
        bool tile = mlc_starts_with(path, "tile/");
        char full[AUDIT_PATH_MAX + MLC_TILE_PATH_MAX];
        _cleanup_(close_fd) int fd = -1;
        struct http_file file = {0};
        struct stat st;

        (void)snprintf(full, sizeof(full), "%s/%s", ctx->app->audit->dir, path);
        fd = open(full, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "the log has no '%s'", path);
        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(&ctx->err, "open", full);
        http_reply_header(reply, "Cache-Control",
                          tile ? "public, max-age=31536000, immutable" : "no-cache");
        file.fd = TAKE_FD(fd);
        file.len = (uint64_t)st.st_size;
        http_reply_file(reply, 200, tile ? "application/octet-stream" : TEXT, &file);
        return 0;
}

int api_log_vkey(struct mlc_ctx *ctx, const struct api_log_vkey_req *req, struct http_reply *reply)
{
        const struct audit_keys *keys = &ctx->app->audit->keys;
        _cleanup_(mlc_str_done) struct mlc_str text;

        (void)req;
        mlc_str_init(&text, 65536);
        for (size_t i = 0; i < keys->n; i++) {
                mlc_vkey_format(&keys->vkey[i], &text);
                mlc_str_addc(&text, '\n');
        }
        http_reply_bytes(reply, 200, TEXT, text.data, text.len);
        return 0;
}

int api_log_checkpoint(struct mlc_ctx *ctx, const struct api_log_checkpoint_req *req,
                       struct http_reply *reply)
{
        (void)req;
        return reply_log_file(ctx, reply, "checkpoint");
}

static int reply_tile(struct mlc_ctx *ctx, struct http_reply *reply, const char *level,
                      const char *rest)
{
        char path[MLC_TILE_PATH_MAX];
        struct mlc_tile t;

        (void)snprintf(path, sizeof(path), "tile/%s/%s", level, rest);
        if (mlc_tile_parse(path, &t, &ctx->err) < 0) {
                mlc_err_clear(&ctx->err);
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "path:path", "the log has no '%s'",
                                      path);
        }
        return reply_log_file(ctx, reply, path);
}

int api_log_entries(struct mlc_ctx *ctx, const struct api_log_entries_req *req,
                    struct http_reply *reply)
{
        return reply_tile(ctx, reply, "entries", req->path.path);
}

int api_log_tile(struct mlc_ctx *ctx, const struct api_log_tile_req *req, struct http_reply *reply)
{
        return reply_tile(ctx, reply, req->path.level, req->path.path);
}

int api_allowed_signers(struct mlc_ctx *ctx, const struct api_allowed_signers_req *req,
                        struct http_reply *reply)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        (void)req;
        mlc_str_init(&text, 8u << 20);
        audit_commit_signers(&ctx->app->audit->keys, ctx->app->audit->keys.n, &text);
        r = auth_allowed_signers(ctx, &text);
        if (r < 0)
                return r;
        http_reply_bytes(reply, 200, TEXT, text.data, text.len);
        return 0;
}

static json_t *entry_json(const struct audit_found *e)
{
        return json_pack("{sI,ss,ss,ss,ss,ss,ss,ss?,ss}", "index", (json_int_t)e->index,
                         "leaf_hash", e->leaf_hash, "time", e->time, "actor", e->actor, "action",
                         e->action, "kind", e->kind, "id", e->id, "model", e->model, "leaf",
                         e->leaf);
}

static int read_cursor(struct mlc_ctx *ctx, const char *cursor, struct audit_filter *f)
{
        _cleanup_(json_decref_p) json_t *keys = NULL;
        int r;

        f->before_log = INT32_MAX;
        f->before_index = INT64_MAX;
        if (cursor == NULL)
                return 0;
        r = http_cursor_read(ctx, cursor, &keys);
        if (r < 0)
                return r;
        if (!json_is_integer(json_array_get(keys, 0)) || !json_is_integer(json_array_get(keys, 1)))
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:cursor",
                                      "not a cursor of this list");
        f->before_log = json_integer_value(json_array_get(keys, 0));
        f->before_index = json_integer_value(json_array_get(keys, 1));
        return 0;
}

static int reply_page(struct mlc_ctx *ctx, struct http_reply *reply, const struct audit_found *e,
                      size_t n, bool more)
{
        _cleanup_(json_decref_p) json_t *keys = NULL;
        json_t *items = json_array();
        const char *next = NULL;

        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(items, entry_json(&e[i]));
        if (more) {
                keys = json_pack("[II]", (json_int_t)e[n - 1].log_id, (json_int_t)e[n - 1].index);
                next = http_cursor_make(ctx, keys);
                if (next == NULL) {
                        json_decref(items);
                        return ctx->err.code;
                }
        }
        http_reply_json(reply, 200, json_pack("{so,ss?}", "items", items, "next", next));
        return 0;
}

int api_audit_entry_list(struct mlc_ctx *ctx, const struct api_audit_entry_list_req *req,
                         struct http_reply *reply)
{
        int64_t limit = req->query.has_limit ? req->query.limit : LIMIT_DEFAULT;
        struct audit_filter f = {.actor = req->query.actor,
                                 .action = req->query.action,
                                 .model = req->query.model,
                                 .kind = req->query.kind,
                                 .id = req->query.id,
                                 .since = req->query.since,
                                 .until = req->query.until,
                                 .limit = limit + 1};
        struct audit_found *e;
        size_t n;
        int r;

        r = read_cursor(ctx, req->query.cursor, &f);
        if (r < 0)
                return r;
        e = mlc_arena_array(&ctx->arena, (size_t)f.limit, sizeof(*e), &ctx->err);
        if (e == NULL)
                return ctx->err.code;
        r = audit_search(ctx, &f, e, &n);
        if (r < 0)
                return r;
        if (n > (size_t)limit)
                return reply_page(ctx, reply, e, (size_t)limit, true);
        return reply_page(ctx, reply, e, n, false);
}

static int reply_entry(struct mlc_ctx *ctx, struct http_reply *reply, const struct audit_found *e,
                       const char *proof)
{
        json_t *j = entry_json(e);

        if (j == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "entry %" PRId64 " is not UTF-8", e->index);
        (void)json_object_set_new(j, "proof", proof == NULL ? json_null() : json_string(proof));
        http_reply_json(reply, 200, j);
        return 0;
}

int api_audit_entry_get(struct mlc_ctx *ctx, const struct api_audit_entry_get_req *req,
                        struct http_reply *reply)
{
        int64_t log_id = ctx->app->audit->log_id;
        struct audit_found e;
        const char *proof;
        int r;

        r = audit_entry_at(ctx, log_id, req->path.index, &e);
        if (r < 0)
                return r;
        r = audit_prove(ctx, log_id, req->path.index, &proof);
        if (r < 0)
                return r;
        return reply_entry(ctx, reply, &e, proof);
}

/* One look; MLC_E_NOT_FOUND or a NULL proof may change while *ret_again. */
static int look(struct mlc_ctx *ctx, const char *leaf_hash, struct audit_found *ret,
                const char **ret_proof, bool *ret_again)
{
        int64_t log_id, index;
        int r;

        r = audit_index_of(ctx, leaf_hash, &log_id, &index, ret_again);
        if (r < 0)
                return r;
        r = audit_entry_at(ctx, log_id, index, ret);
        if (r < 0)
                return r;
        r = audit_prove(ctx, log_id, index, ret_proof);
        *ret_again = r == 0 && *ret_proof == NULL;
        return r;
}

int api_audit_proof(struct mlc_ctx *ctx, const struct api_audit_proof_req *req,
                    struct http_reply *reply)
{
        int64_t until = mlc_monotonic_ms() + http_wait_ms(ctx);
        struct audit_found e;
        const char *proof = NULL;
        bool again = false;
        int r;

        for (;;) {
                r = look(ctx, req->query.leaf_hash, &e, &proof, &again);
                if (!again || mlc_monotonic_ms() >= until || http_draining(ctx))
                        break;
                mlc_err_clear(&ctx->err);
                mlc_sleep_ms(POLL_MS);
        }
        return r < 0 ? r : reply_entry(ctx, reply, &e, proof);
}

int api_audit_state(struct mlc_ctx *ctx, const struct api_audit_state_req *req,
                    struct http_reply *reply)
{
        struct http_file file = {0};
        int r;

        (void)req;
        r = audit_state_lines(ctx, &file.fd, &file.len);
        if (r < 0)
                return r;
        http_reply_file(reply, 200, "application/jsonl", &file);
        return 0;
}
