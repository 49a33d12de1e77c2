/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories follow the rows: refs/tags/vN first, then refs/heads/main, both after COMMIT. */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"
#include "gen/registry.sql.h"
#include "registry/registry_internal.h"

#define MAIN_REF "refs/heads/main"
#define BATCH 50 /* versions read at once: a catch-up holds that many commits in memory */

const char *registry_git_path(struct mlc_ctx *ctx, const struct registry_name *name)
{
        return ctx_printf(ctx, "%s/git/%s/%s.git", ctx->app->config.data, name->ns, name->model);
}

struct row {
        int64_t number;
        char digest[MLC_DIGEST_STR], oid[GIT_OID_STR];
        const void *bytes;
        size_t len;
};

/* The versions after the one whose commit is `after` (""), at most BATCH. */
static int read_rows(struct mlc_ctx *ctx, int64_t model_id, const char *after, struct row *ret,
                     size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows known = {0}, rows = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        if (after[0] != '\0') {
                r = db_run(&tx, SQL_GIT_KNOWN, &known, DB_INT(model_id), DB_TEXT(after));
                if (r < 0)
                        return r;
                if (known.n == 0)
                        return ctx_fail(ctx, MLC_E_VERIFY,
                                        "'%s' is at commit %s, which no version has", MAIN_REF,
                                        after);
        }
        r = db_run(&tx, SQL_GIT_VERSIONS, &rows, DB_INT(model_id), DB_TEXT(after), DB_INT(BATCH));
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                struct row *v = &ret[i];

                v->number = db_int(&rows, i, 0);
                (void)snprintf(v->digest, sizeof(v->digest), "%s", db_text(&rows, i, 1));
                (void)snprintf(v->oid, sizeof(v->oid), "%s", db_text(&rows, i, 2));
                r = db_bytes(ctx, &rows, i, 3, &v->bytes, &v->len);
                if (r < 0)
                        return r;
        }
        *ret_n = (size_t)rows.n;
        return 0;
}

/* Another process may have been killed between tag and branch: the tag is then there already. */
static int set_tag(struct mlc_ctx *ctx, struct git_repo *repo, const struct row *v)
{
        char name[40], there[GIT_OID_STR];
        int r;

        (void)snprintf(name, sizeof(name), "refs/tags/v%" PRId64, v->number);
        r = git_ref_set(repo, name, v->oid, NULL, &ctx->err);
        if (r != MLC_E_CONFLICT)
                return r;
        mlc_err_clear(&ctx->err);
        r = git_ref_get(repo, name, there, &ctx->err);
        if (r < 0)
                return r;
        if (strcmp(there, v->oid) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "'%s' is at commit %s, not %s", name, there,
                                v->oid);
        return 0;
}

static int write_version(struct mlc_ctx *ctx, struct git_repo *repo,
                         const struct registry_name *name, const struct row *v, const char *main)
{
        _cleanup_(registry_draft_done) struct registry_draft draft = {0};
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        const struct git_file *files;
        char oid[GIT_OID_STR];
        size_t n;
        int r;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        mlc_str_addn(&bytes, v->bytes, v->len);
        git_commit_oid(mlc_str_cstr(&bytes), bytes.len, oid);
        if (strcmp(oid, v->oid) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY,
                                "the stored commit of '%s:%" PRId64 "' is %s, not %s", name->repo,
                                v->number, oid, v->oid);
        r = registry_draft_load(ctx, name, v->digest, &draft);
        if (r < 0)
                return r;
        r = registry_draft_git(ctx, &draft, &files, &n);
        if (r < 0)
                return r;
        r = git_commit_write(repo, files, n, &bytes, &ctx->err);
        if (r < 0)
                return r;
        r = set_tag(ctx, repo, v);
        if (r < 0)
                return r;
        return git_ref_set(repo, MAIN_REF, v->oid, main[0] != '\0' ? main : NULL, &ctx->err);
}

/* Catches up from where main is; the lock is held. Memory of a version is freed after it. */
static int catch_up(struct mlc_ctx *ctx, struct git_repo *repo, int64_t model_id,
                    const struct registry_name *name, int64_t *ret_written)
{
        struct mlc_ctx job;
        struct row rows[BATCH];
        char main[GIT_OID_STR] = "";
        int64_t written = 0;
        size_t n = BATCH;
        int r;

        r = git_ref_get(repo, MAIN_REF, main, &ctx->err);
        if (r == MLC_E_NOT_FOUND)
                mlc_err_clear(&ctx->err);
        else if (r < 0)
                return r;
        while (n == BATCH) {
                mlc_ctx_init(&job, ctx->app, "git_sync", 256u << 20, 600000);
                r = read_rows(&job, model_id, main, rows, &n);
                for (size_t i = 0; i < n && r == 0; i++) {
                        r = write_version(&job, repo, name, &rows[i], main);
                        if (r == 0) {
                                memcpy(main, rows[i].oid, sizeof(main));
                                written++;
                        }
                }
                if (r < 0)
                        ctx->err = job.err;
                mlc_ctx_done(&job);
                if (r < 0)
                        return mlc_wrap(&ctx->err, "repository of '%s'", name->repo);
        }
        if (ret_written != NULL)
                *ret_written += written;
        return 0;
}

int registry_git_sync(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        const char *path = registry_git_path(ctx, name);
        int r;

        if (path == NULL)
                return ctx->err.code;
        r = git_repo_open(path, true, &repo, &ctx->err);
        if (r < 0)
                return r;
        r = git_repo_lock(repo, &ctx->err);
        if (r < 0)
                return r;
        return catch_up(ctx, repo, model_id, name, NULL);
}

/* --- all models --- */

static int read_models(struct mlc_ctx *ctx, int64_t after, struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        return db_run(&tx, SQL_GIT_MODELS, ret, DB_INT(after));
}

int registry_each_model(struct mlc_ctx *ctx, registry_model_fn fn, void *userdata)
{
        int64_t after = 0;
        int r;

        for (;;) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = read_models(ctx, after, &rows);
                if (r < 0)
                        return r;
                if (rows.n == 0)
                        return 0;
                for (int i = 0; i < rows.n; i++) {
                        const char *ns = db_text_dup(ctx, &rows, i, 1);
                        const char *model = db_text_dup(ctx, &rows, i, 2);
                        struct registry_name name;

                        if (ns == NULL || model == NULL)
                                return ctx->err.code;
                        r = registry_name_make(ctx, ns, model, &name);
                        if (r < 0)
                                return r;
                        after = db_int(&rows, i, 0);
                        r = fn(ctx, after, &name, userdata);
                        if (r < 0)
                                return r;
                }
        }
}

/* One repository that cannot be repaired must not keep the server from starting: check names it. */
static int repair_one(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name,
                      void *userdata)
{
        (void)userdata;
        if (registry_git_sync(ctx, model_id, name) < 0) {
                mlc_log_err(MLC_LOG_ERROR, ctx->trace, "git.repair_failed", &ctx->err);
                mlc_err_clear(&ctx->err);
        }
        return 0;
}

int registry_repair(struct app *app, struct mlc_err *err)
{
        struct mlc_ctx ctx;
        int r;

        mlc_ctx_init(&ctx, app, "registry.repair", 256u << 20, 600000);
        r = registry_each_model(&ctx, repair_one, NULL);
        if (r < 0)
                *err = ctx.err;
        mlc_ctx_done(&ctx);
        return r;
}

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

struct rebuilt {
        int64_t models, versions;
};

static int move_aside(struct mlc_ctx *ctx, const char *path, const char *aside)
{
        if (rename(path, aside) < 0 && errno != ENOENT)
                return mlc_fail_errno(&ctx->err, "cannot move", path);
        return 0;
}

/* Built beside the old one and then put in its place; the old one is removed last. */
static int rebuild_one(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name,
                       void *userdata)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        const char *path = registry_git_path(ctx, name);
        const char *fresh =
                ctx_printf(ctx, "%s/git/.rebuild-%" PRId64, ctx->app->config.data, model_id);
        const char *old = ctx_printf(ctx, "%s/git/.old-%" PRId64, ctx->app->config.data, model_id);
        const char *dir = ctx_printf(ctx, "%s/git/%s", ctx->app->config.data, name->ns);
        struct rebuilt *sum = userdata;
        int r;

        if (path == NULL || fresh == NULL || old == NULL || dir == NULL)
                return ctx->err.code;
        r = remove_tree(ctx, fresh);
        if (r < 0)
                return r;
        r = remove_tree(ctx, old);
        if (r < 0)
                return r;
        r = git_repo_open(fresh, true, &repo, &ctx->err);
        if (r < 0)
                return r;
        r = catch_up(ctx, repo, model_id, name, &sum->versions);
        if (r < 0)
                return r;
        r = mlc_mkdirs(dir, 0700, &ctx->err);
        if (r < 0)
                return r;
        r = move_aside(ctx, path, old);
        if (r < 0)
                return r;
        if (rename(fresh, path) < 0)
                return mlc_fail_errno(&ctx->err, "cannot move", fresh);
        r = mlc_fsync_parent(path, &ctx->err);
        if (r < 0)
                return r;
        sum->models++;
        return remove_tree(ctx, old);
}

int registry_rebuild_git(struct mlc_ctx *ctx, int64_t *ret_models, int64_t *ret_versions)
{
        struct rebuilt sum = {0};
        int r;

        r = registry_each_model(ctx, rebuild_one, &sum);
        if (r < 0)
                return r;
        *ret_models = sum.models;
        *ret_versions = sum.versions;
        return 0;
}
