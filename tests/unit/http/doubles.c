/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/http/doubles.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>

#include "audit/audit.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"
#include "gen/api.h"
#include "http/http.h"
#include "http/server.h"

struct doubles doubles;

/* ---- identity: the token names the roles ---- */

int auth_identify(struct mlc_ctx *ctx, const char *authorization, const struct auth_principal **ret)
{
        struct auth_principal *p = ctx_alloc(ctx, sizeof(*p));
        struct auth_grant *grants = ctx_alloc(ctx, 4 * sizeof(*grants));
        char *text, *at, *save = NULL;
        unsigned long long hash = 7;

        if (authorization == NULL || strncmp(authorization, "Bearer ", 7) != 0)
                return ctx_fail(ctx, MLC_E_UNAUTHENTICATED, "a token is needed");
        text = ctx_strdup(ctx, authorization + 7);
        for (const char *c = text; *c != '\0'; c++)
                hash = hash * 31 + (unsigned char)*c;
        (void)snprintf(p->user, sizeof(p->user), "u%012llx", hash & 0xffffffffffffULL);
        for (char *t = strtok_r(text, ",", &save); t != NULL; t = strtok_r(NULL, ",", &save)) {
                at = strchr(t, '@');
                assert(at != NULL && p->n_grants < 4);
                *at = '\0';
                grants[p->n_grants++] = (struct auth_grant){at + 1, auth_role_parse(t)};
        }
        p->grants = grants;
        *ret = p;
        return 0;
}

unsigned auth_roles(const struct auth_principal *p, const char *ns)
{
        unsigned roles = 0;

        for (unsigned i = 0; i < p->n_grants; i++)
                if (strcmp(p->grants[i].ns, "*") == 0 || strcmp(p->grants[i].ns, ns) == 0)
                        roles |= p->grants[i].roles;
        return roles;
}

bool auth_may_read(const struct auth_principal *p, const char *ns)
{
        return auth_roles(p, ns) != 0;
}

bool auth_holds_somewhere(const struct auth_principal *p, unsigned roles)
{
        for (unsigned i = 0; i < p->n_grants; i++)
                if ((p->grants[i].roles & roles) != 0)
                        return true;
        return false;
}

static const char *const ROLE_NAMES[] = {"contributor", "evaluator", "approver",
                                         "operator",    "auditor",   "admin"};

unsigned auth_role_parse(const char *name)
{
        for (unsigned i = 0; i < ARRAY_LEN(ROLE_NAMES); i++)
                if (strcmp(ROLE_NAMES[i], name) == 0)
                        return 1u << i;
        return 0;
}

const char *auth_role_name(unsigned role)
{
        return ROLE_NAMES[__builtin_ctz(role)];
}

int audit_writable(struct mlc_ctx *ctx)
{
        return doubles.log_read_only
                       ? ctx_fail(ctx, MLC_E_READ_ONLY, "database is older than the log")
                       : 0;
}

/* ---- a table of stored replies ---- */

struct stored {
        char user[16], operation[64], key[136], digest[80], body[256], status[8];
        bool committed;
};

static struct stored table[64];
static unsigned n_table;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

int db_tx_begin_read(struct mlc_ctx *ctx, struct db_tx *tx)
{
        tx->ctx = ctx;
        return 0;
}

void db_tx_done(struct db_tx *tx)
{
        (void)tx;
}

void db_rows_done(struct db_rows *rows)
{
        (void)rows;
}

const char *db_text(const struct db_rows *rows, int row, int col)
{
        const struct stored *s = rows->res;

        assert(row == 0);
        return col == 0 ? s->digest : s->body;
}

int64_t db_int(const struct db_rows *rows, int row, int col)
{
        assert(row == 0 && col == 1);
        return strtol(((const struct stored *)rows->res)->status, NULL, 10);
}

static struct stored *find(const struct db_param *p)
{
        for (unsigned i = 0; i < n_table; i++)
                if (strcmp(table[i].user, p[0].text) == 0 &&
                    strcmp(table[i].operation, p[1].text) == 0 &&
                    strcmp(table[i].key, p[2].text) == 0)
                        return &table[i];
        return NULL;
}

int db_exec(struct db_tx *tx, const struct db_stmt *stmt, const struct db_param *p, int n,
            struct db_rows *ret)
{
        struct stored *s;

        (void)tx;
        assert(n == stmt->n_params);
        if (strcmp(stmt->name, "http_idempotency_expire") == 0)
                return 0;
        (void)pthread_mutex_lock(&table_lock);
        s = find(p);
        if (strcmp(stmt->name, "http_idempotency_find") == 0) {
                *ret = (struct db_rows){.res = s, .n = s != NULL};
        } else {
                *ret = (struct db_rows){.n = s == NULL};
                assert(s != NULL || n_table < ARRAY_LEN(table));
                if (s == NULL) {
                        s = &table[n_table++];
                        (void)snprintf(s->user, sizeof(s->user), "%s", p[0].text);
                        (void)snprintf(s->operation, sizeof(s->operation), "%s", p[1].text);
                        (void)snprintf(s->key, sizeof(s->key), "%s", p[2].text);
                        (void)snprintf(s->digest, sizeof(s->digest), "%s", p[3].text);
                        (void)snprintf(s->status, sizeof(s->status), "%d", (int)p[4].num);
                        (void)snprintf(s->body, sizeof(s->body), "%s", p[5].text);
                }
        }
        (void)pthread_mutex_unlock(&table_lock);
        return 0;
}

/* ---- handlers ---- */

static int reply_text(struct mlc_ctx *ctx, struct http_reply *reply, const char *text)
{
        http_reply_json(reply, 200,
                        json_pack("{s:s, s:s}", "operation", ctx->operation, "text", text));
        return 0;
}

int api_t_open(struct mlc_ctx *ctx, const struct api_t_open_req *req, struct http_reply *reply)
{
        (void)req;
        return reply_text(ctx, reply, ctx->trace);
}

int api_t_list(struct mlc_ctx *ctx, const struct api_t_list_req *req, struct http_reply *reply)
{
        char text[128];
        int64_t until = mlc_monotonic_ms() + http_wait_ms(ctx);

        while (mlc_monotonic_ms() < until && !http_draining(ctx))
                mlc_sleep_ms(20);
        (void)snprintf(text, sizeof(text), "limit %lld%s labels %u %s", (long long)req->query.limit,
                       req->query.has_limit ? "" : " (none)", req->query.n_label,
                       req->query.n_label > 0 ? req->query.label[0] : "");
        return reply_text(ctx, reply, text);
}

int api_t_create(struct mlc_ctx *ctx, const struct api_t_create_req *req, struct http_reply *reply)
{
        struct db_tx tx = {.ctx = ctx};
        json_t *j;
        int r;

        mlc_sleep_ms(doubles.create_ms);
        j = json_pack("{s:s, s:I, s:I}", "name", req->body.name, "n", (json_int_t)req->body.n,
                      "made", (json_int_t)(atomic_fetch_add(&doubles.created, 1) + 1));
        r = http_idempotent_store(ctx, &tx, 201, j);
        if (r < 0) {
                json_decref(j);
                return r;
        }
        http_reply_json(reply, 201, j);
        return 0;
}

int api_t_get(struct mlc_ctx *ctx, const struct api_t_get_req *req, struct http_reply *reply)
{
        if (strcmp(req->path.name, "missing") == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "thing '%s' not found", req->path.name);
        if (strcmp(req->path.name, "broken") == 0)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the password is hunter2");
        http_reply_etag(reply, "7");
        if (http_not_modified(ctx, "7")) {
                http_reply_empty(reply, 304);
                return 0;
        }
        return reply_text(ctx, reply, req->path.name);
}

int api_t_put(struct mlc_ctx *ctx, const struct api_t_put_req *req, struct http_reply *reply)
{
        int r = http_if_match(ctx, "7", true);

        if (r < 0)
                return r;
        http_reply_bytes(reply, 200, "application/octet-stream", req->body.data, req->body.len);
        return 0;
}

int api_t_all(struct mlc_ctx *ctx, const struct api_t_all_req *req, struct http_reply *reply)
{
        return reply_text(ctx, reply, req->path.namespace);
}

int api_t_tile(struct mlc_ctx *ctx, const struct api_t_tile_req *req, struct http_reply *reply)
{
        http_reply_header(reply, "X-Split", "a\r\nInjected: yes");
        return reply_text(ctx, reply, req->path.index);
}

int api_t_ping(struct mlc_ctx *ctx, const struct api_t_ping_req *req, struct http_reply *reply)
{
        (void)ctx;
        (void)req;
        http_reply_json(reply, 200, json_object());
        return 0;
}

int api_t_blob(struct mlc_ctx *ctx, const struct api_t_blob_req *req, struct http_reply *reply)
{
        char path[] = "/tmp/mlc-blob-XXXXXX", data[2048];
        int fd = mkstemp(path);

        assert(fd >= 0 && unlink(path) == 0);
        if (strcmp(req->path.digest, "bad") == 0) {
                (void)close(fd);
                return ctx_fail_field(ctx, MLC_E_INVALID, "oci:DIGEST_INVALID", "not a digest");
        }
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)('a' + i % 26);
        assert(write(fd, data, sizeof(data)) == (ssize_t)sizeof(data));
        return http_reply_file_ranged(ctx, reply, "application/octet-stream", fd, sizeof(data));
}

int api_t_upload_open(struct mlc_ctx *ctx, const struct api_t_upload_req *req, void **ret_sink)
{
        if (req->query.digest != NULL && strcmp(req->query.digest, "bad") == 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "oci:DIGEST_INVALID", "not a digest");
        (void)atomic_fetch_add(&doubles.uploads_opened, 1);
        *ret_sink = calloc(1, sizeof(uint64_t));
        return 0;
}

int api_t_upload_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)
{
        uint64_t *n = sink;

        (void)data;
        *n += len;
        if (doubles.upload_fails && *n > 65536)
                return ctx_fail(ctx, MLC_E_NO_SPACE, "not enough free disk space");
        return 0;
}

void api_t_upload_abort(struct mlc_ctx *ctx, void *sink)
{
        (void)ctx;
        free(sink);
        (void)atomic_fetch_add(&doubles.uploads_aborted, 1);
}

int api_t_upload(struct mlc_ctx *ctx, const struct api_t_upload_req *req, void *sink,
                 struct http_reply *reply)
{
        (void)req;
        doubles.upload_bytes = *(uint64_t *)sink;
        free(sink);
        (void)atomic_fetch_add(&doubles.uploads_done, 1);
        http_reply_header(reply, "Location", "/v2/a/b/blobs/x");
        http_reply_empty(reply, 201);
        (void)ctx;
        return 0;
}

/* ---- the server ---- */

void doubles_start(int64_t max_connections)
{
        struct mlc_err err = {0};

        mlc_log_level_min(getenv("MLC_TEST_LOG") != NULL ? MLC_LOG_DEBUG : MLC_LOG_ERROR);
        memset(&doubles, 0, sizeof(doubles));
        n_table = 0;
        (void)snprintf(doubles.dir, sizeof(doubles.dir), "/tmp/mlc-http-XXXXXX");
        assert(mkdtemp(doubles.dir) != NULL);
        doubles.app.config = (struct app_config){
                .data = doubles.dir, .listen = "127.0.0.1:0", .max_connections = max_connections};
        if (http_start(&doubles.app, &err) < 0) {
                (void)fprintf(stderr, "%s\n", err.msg);
                abort();
        }
}

void doubles_stop(void)
{
        char path[128];

        http_drain(&doubles.app, 2000);
        http_stop(&doubles.app);
        assert(doubles.app.http == NULL);
        (void)snprintf(path, sizeof(path), "%s/keys/cursor.key", doubles.dir);
        (void)unlink(path);
        (void)snprintf(path, sizeof(path), "%s/keys", doubles.dir);
        (void)rmdir(path);
        (void)rmdir(doubles.dir);
}
