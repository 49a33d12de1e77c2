/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the log for the API: search, proofs, and the state that a replay is compared with. */
#include <fcntl.h>
#include <inttypes.h>

#include "audit/audit_internal.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "gen/audit.sql.h"
#include "tlog/proof.h"

#define NAMESPACES_MAX 65536 /* bytes of the array of namespaces */

static bool is_auditor(const struct auth_principal *p)
{
        for (unsigned i = 0; p != NULL && i < p->n_grants; i++)
                if (mlc_streq(p->grants[i].ns, "*") && (p->grants[i].roles & AUTH_AUDITOR) != 0)
                        return true;
        return false;
}

/* The namespaces of the principal as a PostgreSQL array; NULL when it may read in all of them. */
static int readable(struct mlc_ctx *ctx, const char **ret)
{
        const struct auth_principal *p = ctx->principal;
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, NAMESPACES_MAX);
        mlc_str_addc(&s, '{');
        for (unsigned i = 0; p != NULL && i < p->n_grants; i++) {
                if (p->grants[i].roles == 0)
                        continue;
                if (mlc_streq(p->grants[i].ns, "*")) {
                        *ret = NULL;
                        return 0;
                }
                mlc_str_addf(&s, "%s\"%s\"", s.len > 1 ? "," : "", p->grants[i].ns);
        }
        mlc_str_addc(&s, '}');
        if (mlc_str_check(&s, &ctx->err) < 0)
                return ctx->err.code;
        *ret = ctx_strdup(ctx, mlc_str_cstr(&s));
        return *ret == NULL ? ctx->err.code : 0;
}

static int found_from(struct mlc_ctx *ctx, const struct db_rows *rows, int row,
                      struct audit_found *ret)
{
        const struct {
                int col;
                const char **to;
        } text[] = {{1, &ret->leaf_hash}, {2, &ret->time}, {3, &ret->actor}, {4, &ret->action},
                    {5, &ret->kind},      {6, &ret->id},   {7, &ret->model}, {8, &ret->leaf}};

        ret->index = db_int(rows, row, 0);
        ret->log_id = db_int(rows, row, 9);
        for (size_t i = 0; i < ARRAY_LEN(text); i++) {
                *text[i].to = db_text_dup(ctx, rows, row, text[i].col);
                if (*text[i].to == NULL && !db_is_null(rows, row, text[i].col))
                        return ctx->err.code;
        }
        return 0;
}

int audit_search(struct mlc_ctx *ctx, const struct audit_filter *f, struct audit_found *ret,
                 size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *namespaces = NULL;
        int r;

        r = readable(ctx, &namespaces);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUDIT_ENTRIES, &rows, DB_TEXT(f->actor), DB_TEXT(f->action),
                   DB_TEXT(f->model), DB_TEXT(f->kind), DB_TEXT(f->id), DB_TEXT(f->since),
                   DB_TEXT(f->until), DB_INT(f->before_log), DB_INT(f->before_index),
                   DB_BOOL(is_auditor(ctx->principal)), DB_TEXT(namespaces), DB_INT(f->limit));
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                r = found_from(ctx, &rows, i, &ret[i]);
                if (r < 0)
                        return r;
        }
        *ret_n = (size_t)rows.n;
        return 0;
}

static const char *const OPEN_KINDS[] = {MLC_REPLAY_KIND_LOG, "key", "role"};

static bool may_read(const struct auth_principal *p, const struct audit_found *e)
{
        char ns[128];
        const char *slash;

        if (is_auditor(p))
                return true;
        /* whoever pinned the first key follows its rotations; keys and roles are shown to
         * everybody anyway, and prove who signed an approval */
        for (size_t i = 0; p != NULL && i < ARRAY_LEN(OPEN_KINDS); i++)
                if (mlc_streq(e->kind, OPEN_KINDS[i]))
                        return true;
        if (p != NULL && mlc_streq(e->action, "environment.protect"))
                return true; /* whoever keeps a trust file compares founding owners */
        slash = e->model == NULL ? NULL : strchr(e->model, '/');
        if (p == NULL || slash == NULL || (size_t)(slash - e->model) >= sizeof(ns))
                return false;
        (void)snprintf(ns, sizeof(ns), "%.*s", (int)(slash - e->model), e->model);
        return auth_may_read(p, ns);
}

int audit_entry_at(struct mlc_ctx *ctx, int64_t log_id, int64_t index, struct audit_found *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct audit_found e;
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUDIT_ENTRY_AT, &rows, DB_INT(log_id), DB_INT(index));
        if (r < 0)
                return r;
        if (rows.n > 0) {
                r = found_from(ctx, &rows, 0, &e);
                if (r < 0)
                        return r;
        }
        if (rows.n == 0 || !may_read(ctx->principal, &e))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no entry %" PRId64, index);
        *ret = e;
        return 0;
}

int audit_index_of(struct mlc_ctx *ctx, const char *leaf_hash, int64_t *ret_log, int64_t *ret_index,
                   bool *ret_waiting)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0}, waiting = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        /* the outbox first: a leaf goes from there to the log, never back */
        r = db_run(&tx, SQL_AUDIT_OUTBOX_HAS, &waiting, DB_TEXT(leaf_hash));
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUDIT_INDEX_OF, &rows, DB_TEXT(leaf_hash));
        if (r < 0)
                return r;
        *ret_waiting = rows.n == 0 && db_bool(&waiting, 0, 0);
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "query:leaf_hash",
                                      "there is no entry with leaf hash '%s'", leaf_hash);
        *ret_log = db_int(&rows, 0, 0);
        *ret_index = db_int(&rows, 0, 1);
        return 0;
}

void audit_log_dir(const struct audit *a, int64_t log_id, char ret[AUDIT_PATH_MAX])
{
        if (log_id == a->log_id)
                (void)snprintf(ret, AUDIT_PATH_MAX, "%s", a->dir);
        else
                (void)snprintf(ret, AUDIT_PATH_MAX, "%.4000s/archive/%" PRId64, a->dir, log_id);
}

static int prove_at(struct mlc_tlog_hashes *h, struct mlc_tlog_proof *p, struct mlc_str *ret,
                    struct mlc_err *err)
{
        struct mlc_merkle_source src = mlc_tlog_merkle_source(h);
        int r;

        r = mlc_merkle_prove_inclusion(&src, p->index, h->size, &p->path, err);
        if (r < 0)
                return r;
        mlc_tlog_proof_format(p, ret);
        return mlc_str_check(ret, err);
}

int audit_prove(struct mlc_ctx *ctx, int64_t log_id, int64_t index, const char **ret)
{
        _cleanup_(free_p) struct mlc_tlog_hashes *h = calloc(1, sizeof(*h));
        _cleanup_(mlc_str_done) struct mlc_str text;
        _cleanup_(free_p) char *note = NULL;
        char dir[AUDIT_PATH_MAX], path[AUDIT_PATH_MAX + 16];
        struct mlc_tlog_proof p = {.index = (uint64_t)index};
        struct mlc_checkpoint cp;
        const char *end;
        int r;

        if (h == NULL)
                abort();
        mlc_str_init(&text, MLC_TLOG_PROOF_MAX);
        audit_log_dir(ctx->app->audit, log_id, dir);
        (void)snprintf(path, sizeof(path), "%s/checkpoint", dir);
        r = mlc_read_file(path, MLC_NOTE_MAX, &note, &p.checkpoint_len, &ctx->err);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                *ret = NULL;
                return 0;
        }
        if (r < 0)
                return r;
        end = strstr(note, "\n\n");
        r = mlc_checkpoint_parse(note, end == NULL ? 0 : (size_t)(end - note) + 1, &cp, &ctx->err);
        if (r < 0)
                return r;
        *ret = NULL;
        if (cp.size <= p.index)
                return 0;
        p.checkpoint = note;
        h->src = mlc_tlog_source_dir(dir);
        h->size = cp.size;
        r = prove_at(h, &p, &text, &ctx->err);
        if (r < 0)
                return r;
        *ret = ctx_strdup(ctx, mlc_str_cstr(&text));
        return *ret == NULL ? ctx->err.code : 0;
}

/* One JSON line. */
static int line(FILE *f, struct mlc_ctx *ctx, json_t *j)
{
        int r = j == NULL ? -1 : json_dumpf(j, f, JSON_COMPACT);

        json_decref(j);
        if (r < 0 || fputc('\n', f) == EOF)
                return ctx_fail(ctx, MLC_E_IO, "cannot write the state of the log");
        return 0;
}

static int pending_lines(FILE *f, struct mlc_ctx *ctx, struct db_tx *tx, uint64_t size)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run0(tx, SQL_AUDIT_OUTBOX_TEXT, &rows);
        if (r < 0)
                return r;
        r = line(f, ctx,
                 json_pack("{ss,sI,si}", "origin", ctx->app->audit->origin, "size",
                           (json_int_t)size, "pending", rows.n));
        for (int i = 0; i < rows.n && r == 0; i++)
                r = line(f, ctx, json_pack("{ss}", "leaf", db_text(&rows, i, 0)));
        return r;
}

static int object_lines(FILE *f, struct mlc_ctx *ctx, struct db_tx *tx, int64_t *ret_n)
{
        const struct audit *a = ctx->app->audit;
        int64_t n = 0;
        int r = 0;

        for (size_t s = 0; s < a->n_sources && r == 0; s++) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};
                const char *kind = a->sources[s].kind;

                r = line(f, ctx, json_pack("{ss}", "kind", kind));
                if (r == 0)
                        r = db_exec(tx, a->sources[s].list, NULL, 0, &rows);
                for (int i = 0; i < rows.n && r == 0; i++, n++) {
                        json_t *state = json_loads(db_text(&rows, i, 1), 0, NULL);

                        r = line(f, ctx,
                                 json_pack("{ss,ss,so}", "kind", kind, "id", db_text(&rows, i, 0),
                                           "state", state));
                }
        }
        *ret_n = n;
        return r;
}

static int all_lines(FILE *f, struct mlc_ctx *ctx)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct audit_head head;
        int64_t n = 0;
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run0(&tx, SQL_AUDIT_SNAPSHOT, NULL);
        if (r < 0)
                return r;
        r = audit_db_head(ctx, &tx, false, &head);
        if (r < 0)
                return r;
        r = pending_lines(f, ctx, &tx, head.frontier.size);
        if (r < 0)
                return r;
        r = object_lines(f, ctx, &tx, &n);
        if (r < 0)
                return r;
        return line(f, ctx, json_pack("{sb,sI}", "end", 1, "objects", (json_int_t)n));
}

int audit_state_lines(struct mlc_ctx *ctx, int *ret_fd, uint64_t *ret_len)
{
        _cleanup_(close_fd) int fd = -1;
        _cleanup_(close_file) FILE *f = NULL;
        off_t len;
        int r;

        fd = open(ctx->app->config.data, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        if (fd < 0)
                return mlc_fail_errno(&ctx->err, "make a temporary file in", ctx->app->config.data);
        f = fdopen(dup(fd), "w");
        if (f == NULL)
                return mlc_fail_errno(&ctx->err, "write a temporary file in",
                                      ctx->app->config.data);
        r = all_lines(f, ctx);
        if (r < 0)
                return r;
        if (fflush(f) != 0 || (len = lseek(fd, 0, SEEK_END)) < 0)
                return mlc_fail_errno(&ctx->err, "write a temporary file in",
                                      ctx->app->config.data);
        *ret_fd = TAKE_FD(fd);
        *ret_len = (uint64_t)len;
        return 0;
}
