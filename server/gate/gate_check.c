/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of documents: read again from their YAML, their commits, and the repository. */
#include <inttypes.h>
#include <stdarg.h>

#include "app.h"
#include "auth/auth.h"
#include "base/clock.h"
#include "crypto/hash.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"

#define BATCH 20

struct check {
        void (*report)(void *userdata, const char *what);
        void *userdata;
        struct git_repo *repo; /* NULL when it is missing */
        char parent[GIT_OID_STR]; /* commit of the version before */
        struct gate_tree tree; /* the documents as far as was looked */
};

__attribute__((format(printf, 2, 3))) static void say(const struct check *c, const char *fmt, ...)
{
        char what[1024];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        c->report(c->userdata, what);
}

static int finding(struct mlc_ctx *ctx, const struct check *c, int r, const char *subject)
{
        if (r != MLC_E_VERIFY && r != MLC_E_NOT_FOUND && r != MLC_E_INVALID &&
            r != MLC_E_CONFLICT && r != MLC_E_IO && r != MLC_E_NOT_SUPPORTED)
                return r;
        say(c, "%s: %s", subject, ctx->err.msg);
        mlc_err_clear(&ctx->err);
        return 0;
}

/* --- one version --- */

enum { C_SEQ, C_KIND, C_NAME, C_NUMBER, C_DIGEST, C_YAML, C_NORMAL, C_COMMIT, C_BYTES, C_AT };

struct subject {
        const struct db_rows *rows;
        int row;
        const char *text; /* "document Kind/name version 3" */
        struct mlc_str bytes; /* of the commit */
        struct git_commit_info info;
};

static const char *col(const struct subject *s, int i)
{
        return db_text(s->rows, s->row, i);
}

/* YAML, normalised form and digest are the same document. */
static int check_text(struct mlc_ctx *ctx, const struct check *c, const struct subject *s)
{
        _cleanup_(mlc_documents_done) struct mlc_documents docs = {0};
        char digest[MLC_DIGEST_STR];
        struct mlc_digest d;
        int r;

        mlc_sha256(col(s, C_NORMAL), strlen(col(s, C_NORMAL)), &d);
        mlc_digest_format(&d, digest);
        if (strcmp(digest, col(s, C_DIGEST)) != 0)
                say(c, "%s: differs from its digest", s->text);
        r = mlc_documents_parse(col(s, C_YAML), strlen(col(s, C_YAML)), &ctx->arena, &docs,
                                &ctx->err);
        if (r < 0)
                return r;
        if (docs.n == 1)
                mlc_digest_format(&docs.items[0].digest, digest);
        if (docs.n != 1 || strcmp(digest, col(s, C_DIGEST)) != 0 ||
            strcmp(docs.items[0].name, col(s, C_NAME)) != 0 ||
            strcmp(mlc_document_kind_name(docs.items[0].kind), col(s, C_KIND)) != 0)
                say(c, "%s: its YAML is another document", s->text);
        return 0;
}

static int check_signature(struct mlc_ctx *ctx, const struct subject *s)
{
        const struct mlc_signer *signer = audit_signer(ctx->app);
        char who[GIT_IDENTITY_STR], line[80];

        git_identity(signer, who);
        (void)snprintf(line, sizeof(line), "\nauthor %s <", who);
        if (strstr(mlc_str_cstr(&s->bytes), line) == NULL)
                return 0; /* an older key's signature is bound by the leaf, which names the commit
                           */
        return git_commit_verify(mlc_str_cstr(&s->bytes), s->bytes.len, signer->pub, &ctx->err);
}

/* The stored commit: its id, place, time, signature, and the tree that the rows give. */
static int check_commit(struct mlc_ctx *ctx, struct check *c, struct subject *s)
{
        char oid[GIT_OID_STR], tree[GIT_OID_STR];
        const void *bytes;
        size_t len;
        int r;

        if (db_is_null(s->rows, s->row, C_BYTES))
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "its commit is not stored");
        r = db_bytes(ctx, s->rows, s->row, C_BYTES, &bytes, &len);
        if (r < 0)
                return r;
        mlc_str_addn(&s->bytes, bytes, len);
        git_commit_oid(mlc_str_cstr(&s->bytes), s->bytes.len, oid);
        if (strcmp(oid, col(s, C_COMMIT)) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "the stored commit is %s, not %s", oid,
                                col(s, C_COMMIT));
        r = git_commit_parse(mlc_str_cstr(&s->bytes), s->bytes.len, &s->info, &ctx->err);
        if (r == 0)
                r = git_tree_oid(c->tree.files, c->tree.n, tree, &ctx->err);
        if (r < 0)
                return r;
        if (strcmp(tree, s->info.tree) != 0)
                say(c, "%s: its commit holds other documents than the rows", s->text);
        if (strcmp(s->info.parent, c->parent) != 0)
                say(c, "%s: its commit does not follow the one before", s->text);
        if (s->info.time_s != db_int(s->rows, s->row, C_AT) / 1000)
                say(c, "%s: its time differs from its commit", s->text);
        return check_signature(ctx, s);
}

static int check_repository(struct mlc_ctx *ctx, const struct check *c, const struct subject *s)
{
        _cleanup_(mlc_str_done) struct mlc_str there;
        int r;

        mlc_str_init(&there, GIT_COMMIT_MAX);
        if (c->repo == NULL)
                return 0; /* said once */
        r = git_commit_read(c->repo, col(s, C_COMMIT), &there, &ctx->err);
        if (r < 0)
                return r;
        if (there.len != s->bytes.len ||
            memcmp(mlc_str_cstr(&there), mlc_str_cstr(&s->bytes), there.len) != 0)
                say(c, "%s: the commit in the repository differs from the stored one", s->text);
        return git_tree_check(c->repo, s->info.tree, &ctx->err);
}

/* The tree goes on with this version. */
static int follow(struct mlc_ctx *ctx, struct check *c, const struct subject *s)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct gate_item item = {.yaml = col(s, C_YAML), .normal = col(s, C_NORMAL)};
        int r = 0;

        item.key = ctx_printf(ctx, "%s/%s", col(s, C_KIND), col(s, C_NAME));
        if (item.key == NULL)
                return ctx->err.code;
        if (c->tree.files == NULL)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0 && c->tree.files == NULL)
                r = gate_tree_load(ctx, &tx, 0, &c->tree);
        return r < 0 ? r : gate_tree_set(ctx, &c->tree, &item);
}

static int check_version(struct mlc_ctx *ctx, struct check *c, const struct db_rows *rows, int row)
{
        struct subject s = {.rows = rows, .row = row};
        int r;

        s.text = ctx_printf(ctx, "document %s/%s version %" PRId64, db_text(rows, row, C_KIND),
                            db_text(rows, row, C_NAME), db_int(rows, row, C_NUMBER));
        if (s.text == NULL)
                return ctx->err.code;
        r = follow(ctx, c, &s);
        if (r < 0)
                return r;
        mlc_str_init(&s.bytes, GIT_COMMIT_MAX);
        r = finding(ctx, c, check_text(ctx, c, &s), s.text);
        if (r == 0)
                r = check_commit(ctx, c, &s);
        if (r == 0)
                r = check_repository(ctx, c, &s);
        mlc_str_done(&s.bytes);
        memcpy(c->parent, db_text(rows, row, C_COMMIT), strlen(db_text(rows, row, C_COMMIT)) + 1);
        return finding(ctx, c, r, s.text);
}

static int read_batch(struct mlc_ctx *ctx, int64_t after, struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        return r < 0 ? r : db_run(&tx, SQL_CHECK_DOCUMENTS, ret, DB_INT(after), DB_INT(BATCH));
}

/* Each version in an arena of its own. */
static int check_versions(struct mlc_ctx *ctx, struct check *c)
{
        int64_t after = 0;
        int r = 0, n = BATCH;

        while (n == BATCH && r == 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = read_batch(ctx, after, &rows);
                n = r == 0 ? rows.n : 0;
                for (int i = 0; i < n && r == 0; i++) {
                        struct mlc_ctx job;

                        mlc_ctx_init(&job, ctx->app, "check", 256u << 20, 600000);
                        r = check_version(&job, c, &rows, i);
                        if (r < 0)
                                ctx->err = job.err;
                        mlc_ctx_done(&job);
                        after = db_int(&rows, i, C_SEQ);
                }
        }
        return r;
}

/* --- rows and repository --- */

static int check_rows(struct mlc_ctx *ctx, const struct check *c)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0}, leaves = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_CHECK_DOCUMENT_ROWS, &rows);
        if (r == 0)
                r = db_run0(&tx, SQL_CHECK_GATE_LEAVES, &leaves);
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++)
                say(c, "%s", db_text(&rows, i, 0));
        for (int i = 0; i < leaves.n; i++)
                say(c, "%s: row differs from its leaf, or the leaf is missing",
                    db_text(&leaves, i, 0));
        return 0;
}

static int newest(struct mlc_ctx *ctx, char ret[GIT_OID_STR])
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_DOCUMENT_GIT_NEWEST, &rows);
        if (r < 0)
                return r;
        (void)snprintf(ret, GIT_OID_STR, "%s", db_text(&rows, 0, 0));
        return 0;
}

static int check_ref(void *userdata, const char *name, const char *oid, struct mlc_err *err)
{
        const struct check *c = userdata;

        (void)oid;
        (void)err;
        if (strcmp(name, "refs/heads/main") != 0)
                say(c, "documents.git: nothing accounts for '%s'", name);
        return 0;
}

/* Beside a running server the repository may be a moment behind. */
static int check_newest(struct mlc_ctx *ctx, struct check *c)
{
        char want[GIT_OID_STR] = "", main[GIT_OID_STR] = "";
        int r = 0;

        for (int i = 0; i < 20 && r == 0; i++) {
                r = newest(ctx, want);
                if (r == 0)
                        r = git_ref_get(c->repo, "refs/heads/main", main, &ctx->err);
                if (r < 0 || strcmp(main, want) == 0)
                        return r;
                mlc_sleep_ms(100);
        }
        say(c, "documents.git: 'refs/heads/main' is not at the newest document");
        return r;
}

static int open_repository(struct mlc_ctx *ctx, struct check *c)
{
        const char *path = gate_git_path(ctx);
        char want[GIT_OID_STR];
        int r = path != NULL ? newest(ctx, want) : ctx->err.code;

        if (r == 0)
                r = git_repo_open(path, false, &c->repo, &ctx->err);
        if (r == MLC_E_NOT_FOUND && want[0] == '\0') {
                mlc_err_clear(&ctx->err);
                return 0;
        }
        if (r == 0)
                r = git_repo_check(c->repo, &ctx->err);
        if (r == 0)
                r = git_ref_each(c->repo, check_ref, c, &ctx->err);
        return r < 0 ? r : check_newest(ctx, c);
}

int gate_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
               void *userdata)
{
        struct check c = {.report = report, .userdata = userdata};
        int r = check_rows(ctx, &c);

        if (r == 0)
                r = finding(ctx, &c, open_repository(ctx, &c), "documents.git");
        if (r == 0)
                r = check_versions(ctx, &c);
        git_repo_freep(&c.repo);
        gate_tree_done(&c.tree);
        return r < 0 ? r : gate_evaluation_check(ctx, report, userdata);
}
