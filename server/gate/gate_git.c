/* SPDX-License-Identifier: Apache-2.0 */
/* documents.git follows the rows, one commit for each version: refs/heads/main, after COMMIT, which
 * moves once for all that a request applied. */
#include <errno.h>
#include <ftw.h>
#include <unistd.h>

#include "app.h"
#include "base/io.h"
#include "base/log.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"

#define MAIN_REF "refs/heads/main"
#define JOB_ARENA (256u << 20)
#define JOB_MS 600000
#define TREE_MAX (1u << 30)
#define BATCH_MAX (32u << 20) /* bytes of objects in memory */

const char *gate_git_path(struct mlc_ctx *ctx)
{
        return ctx_printf(ctx, "%s/git/documents.git", ctx->app->config.data);
}

/* --- the files of a commit --- */

static int add_file(struct mlc_ctx *ctx, struct gate_tree *t, const char *path)
{
        struct git_file *more;

        if (t->n == t->size) {
                more = mlc_arena_array(&t->arena, t->size * 2 + 16, sizeof(*more), &ctx->err);
                if (more == NULL)
                        return ctx->err.code;
                if (t->n > 0)
                        memcpy(more, t->files, t->n * sizeof(*more));
                t->files = more;
                t->size = t->size * 2 + 16;
        }
        t->files[t->n].path = mlc_arena_strdup(&t->arena, path, &ctx->err);
        return t->files[t->n++].path != NULL ? 0 : ctx->err.code;
}

static int set_file(struct mlc_ctx *ctx, struct gate_tree *t, const char *path, const char *text)
{
        size_t i = 0;
        int r;

        if (path == NULL)
                return ctx->err.code;
        while (i < t->n && strcmp(t->files[i].path, path) != 0)
                i++;
        if (i == t->n) {
                r = add_file(ctx, t, path);
                if (r < 0)
                        return r;
        }
        t->files[i].len = strlen(text);
        t->files[i].data = mlc_arena_strdup(&t->arena, text, &ctx->err);
        return t->files[i].data != NULL ? 0 : ctx->err.code;
}

int gate_tree_set(struct mlc_ctx *ctx, struct gate_tree *t, const struct gate_item *item)
{
        int r = set_file(ctx, t, ctx_printf(ctx, "%s.yaml", item->key), item->yaml);

        if (r < 0)
                return r;
        return set_file(ctx, t, ctx_printf(ctx, "%s.json", item->key), item->normal);
}

void gate_tree_done(struct gate_tree *t)
{
        mlc_arena_done(&t->arena);
        *t = (struct gate_tree){0};
}

int gate_tree_load(struct mlc_ctx *ctx, struct db_tx *tx, int64_t seq, struct gate_tree *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_DOCUMENT_TREE, &rows, DB_INT(seq));

        if (r < 0)
                return r;
        mlc_arena_init(&ret->arena, TREE_MAX);
        ret->size = (size_t)rows.n * 2 + 16;
        ret->files = mlc_arena_array(&ret->arena, ret->size, sizeof(*ret->files), &ctx->err);
        if (ret->files == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++)
                for (int k = 0; k < 2; k++) {
                        struct git_file *f = &ret->files[ret->n++];
                        const char *text = db_text(&rows, i, 2 + k);

                        f->path = mlc_arena_printf(&ret->arena, &ctx->err, "%s/%s.%s",
                                                   db_text(&rows, i, 0), db_text(&rows, i, 1),
                                                   k == 0 ? "yaml" : "json");
                        f->data = mlc_arena_strdup(&ret->arena, text, &ctx->err);
                        if (f->path == NULL || f->data == NULL)
                                return ctx->err.code;
                        f->len = strlen(text);
                }
        return 0;
}

/* --- catching up --- */

struct row {
        int64_t seq; /* 0: there is no further one */
        char oid[GIT_OID_STR];
        const void *bytes;
        size_t len;
};

/* ret is zeroed. The tree follows: loaded for the first row, then changed by each. */
static int read_row(struct mlc_ctx *ctx, const char *after, struct gate_tree *tree, struct row *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows known = {0}, rows = {0};
        struct gate_item item = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r < 0)
                return r;
        if (after[0] != '\0') {
                r = db_run(&tx, SQL_DOCUMENT_GIT_KNOWN, &known, DB_TEXT(after));
                if (r < 0)
                        return r;
                if (known.n == 0)
                        return ctx_fail(ctx, MLC_E_VERIFY,
                                        "'%s' is at commit %s, which no document has", MAIN_REF,
                                        after);
        }
        r = db_run(&tx, SQL_DOCUMENT_GIT_AFTER, &rows, DB_TEXT(after));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return 0;
        ret->seq = db_int(&rows, 0, 0);
        (void)snprintf(ret->oid, sizeof(ret->oid), "%s", db_text(&rows, 0, 1));
        r = db_bytes(ctx, &rows, 0, 2, &ret->bytes, &ret->len);
        if (r == 0 && tree->files == NULL)
                r = gate_tree_load(ctx, &tx, ret->seq - 1, tree);
        item.key = db_text(&rows, 0, 3);
        item.yaml = db_text(&rows, 0, 4);
        item.normal = db_text(&rows, 0, 5);
        return r < 0 ? r : gate_tree_set(ctx, tree, &item);
}

static int write_row(struct mlc_ctx *ctx, struct git_repo *repo, const struct row *row,
                     const struct gate_tree *tree)
{
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        char oid[GIT_OID_STR];

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        mlc_str_addn(&bytes, row->bytes, row->len);
        git_commit_oid(mlc_str_cstr(&bytes), bytes.len, oid);
        if (strcmp(oid, row->oid) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "a stored commit is %s, not %s", oid, row->oid);
        return git_commit_write(repo, tree->files, tree->n, &bytes, &ctx->err);
}

/* One that follows is written as it is, several as packs. */
static int begin(struct mlc_ctx *ctx, struct git_repo *repo, const char *main)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_DOCUMENT_GIT_BEHIND, &rows, DB_TEXT(main));
        if (r < 0)
                return r;
        return db_int(&rows, 0, 0) > 1 ? git_batch_begin(repo, &ctx->err) : 0;
}

struct follower {
        struct git_repo *repo;
        struct gate_tree tree;
        char main[GIT_OID_STR]; /* where the reference is, "" before the first commit */
        char last[GIT_OID_STR]; /* of what was written */
        int64_t written;
};

/* What was written is durable before main names it. */
static int publish(struct mlc_ctx *ctx, struct follower *f)
{
        int r = git_batch_flush(f->repo, &ctx->err);

        if (r == 0)
                r = git_ref_set(f->repo, MAIN_REF, f->last, f->main[0] != '\0' ? f->main : NULL,
                                &ctx->err);
        memcpy(f->main, f->last, sizeof(f->main));
        return r;
}

/* The memory of a commit is freed after it. */
static int follow_one(struct mlc_ctx *ctx, struct follower *f, bool *ret_more)
{
        struct mlc_ctx job;
        struct row row = {0};
        int r;

        mlc_ctx_init(&job, ctx->app, "git_sync", JOB_ARENA, JOB_MS);
        r = read_row(&job, f->last, &f->tree, &row);
        *ret_more = r == 0 && row.seq > 0;
        if (*ret_more)
                r = write_row(&job, f->repo, &row, &f->tree);
        if (r == 0 && *ret_more) {
                memcpy(f->last, row.oid, sizeof(f->last));
                f->written++;
                if (git_batch_size(f->repo) >= BATCH_MAX)
                        r = publish(&job, f);
        }
        if (r < 0)
                ctx->err = job.err;
        mlc_ctx_done(&job);
        return r;
}

/* From where main is; the lock is held. */
static int catch_up(struct mlc_ctx *ctx, struct follower *f)
{
        bool more = true;
        int r = git_ref_get(f->repo, MAIN_REF, f->main, &ctx->err);

        if (r == MLC_E_NOT_FOUND)
                mlc_err_clear(&ctx->err);
        else if (r < 0)
                return r;
        memcpy(f->last, f->main, sizeof(f->last));
        r = begin(ctx, f->repo, f->main);
        while (r == 0 && more)
                r = follow_one(ctx, f, &more);
        if (r == 0 && strcmp(f->last, f->main) != 0)
                r = publish(ctx, f);
        return r < 0 ? mlc_wrap(&ctx->err, "documents.git") : 0;
}

static int sync_at(struct mlc_ctx *ctx, const char *path, int64_t *ret_written)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        struct follower f = {0};
        int r;

        if (path == NULL)
                return ctx->err.code;
        r = git_repo_open(path, true, &repo, &ctx->err);
        if (r < 0)
                return r;
        r = git_repo_lock(repo, &ctx->err);
        if (r < 0)
                return r;
        f.repo = repo;
        r = catch_up(ctx, &f);
        gate_tree_done(&f.tree);
        *ret_written = f.written;
        return r;
}

int gate_git_sync(struct mlc_ctx *ctx)
{
        int64_t written;

        return sync_at(ctx, gate_git_path(ctx), &written);
}

void gate_documents_published(struct mlc_ctx *ctx)
{
        if (gate_git_sync(ctx) == 0)
                return;
        mlc_log_err(MLC_LOG_ERROR, ctx->trace, "git.sync_failed", &ctx->err);
        mlc_err_clear(&ctx->err);
}

static int any_document(struct mlc_ctx *ctx, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_DOCUMENT_COUNT, &rows);
        if (r < 0)
                return r;
        *ret = db_int(&rows, 0, 0) > 0;
        return 0;
}

/* A repository that cannot be repaired must not keep the server from starting: check names it. */
int gate_repair(struct app *app, struct mlc_err *err)
{
        struct mlc_ctx ctx;
        bool any = false;
        int r;

        mlc_ctx_init(&ctx, app, "gate.repair", JOB_ARENA, JOB_MS);
        r = any_document(&ctx, &any);
        if (r < 0)
                *err = ctx.err;
        else if (any)
                gate_documents_published(&ctx);
        mlc_ctx_done(&ctx);
        return r;
}

/* --- anew --- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

static int remove_tree(struct mlc_ctx *ctx, const char *path)
{
        if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
                return mlc_fail_errno(&ctx->err, "cannot remove", path);
        return 0;
}

/* Built beside the old one and then put in its place; the old one is removed last. */
int gate_rebuild_git(struct mlc_ctx *ctx, int64_t *ret_documents)
{
        const char *path = gate_git_path(ctx);
        const char *fresh = ctx_printf(ctx, "%s/git/.rebuild-documents", ctx->app->config.data);
        const char *old = ctx_printf(ctx, "%s/git/.old-documents", ctx->app->config.data);
        int64_t written = 0;
        bool any = false;
        int r;

        if (path == NULL || fresh == NULL || old == NULL)
                return ctx->err.code;
        r = any_document(ctx, &any);
        if (r < 0)
                return r;
        if (!any) {
                *ret_documents = 0;
                return 0;
        }
        r = remove_tree(ctx, fresh);
        if (r == 0)
                r = remove_tree(ctx, old);
        if (r == 0)
                r = sync_at(ctx, fresh, &written);
        if (r < 0)
                return r;
        if (rename(path, old) < 0 && errno != ENOENT)
                return mlc_fail_errno(&ctx->err, "cannot move", path);
        if (rename(fresh, path) < 0)
                return mlc_fail_errno(&ctx->err, "cannot move", fresh);
        r = mlc_fsync_parent(path, &ctx->err);
        if (r < 0)
                return r;
        *ret_documents = written;
        return remove_tree(ctx, old);
}
