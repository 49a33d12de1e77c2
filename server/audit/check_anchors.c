/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/check.h"
#include "base/cleanup.h"
#include "gen/audit.sql.h"

#define SIGNERS_MAX 65536

/* One row of audit_anchor, with the note of its checkpoint and the index of its leaf. */
struct row {
        struct audit_anchor anchor;
        const char *note; /* borrowed from the rows */
        uint64_t index; /* the size of the log while its leaf is not sequenced */
        const void *bytes;
        size_t len;
};

static const struct check_log *log_by_id(const struct check *c, int64_t log_id)
{
        for (size_t i = 0; i < c->n_logs; i++)
                if (c->logs[i].log_id == log_id)
                        return &c->logs[i];
        return NULL;
}

/* The commit holds the checkpoint, and the keys as they were: the first k, of which the last
 * signed. */
static bool content_fits(struct check *c, const struct check_log *log, const struct row *a,
                         const struct git_commit_info *info)
{
        struct audit_keys keys = {.n = log->n_vkeys};
        struct git_file files[2];
        char tree[GIT_OID_STR];

        for (size_t k = 1; k <= log->n_vkeys; k++) {
                _cleanup_(mlc_str_done) struct mlc_str signers;
                struct mlc_err err = {0};

                mlc_str_init(&signers, SIGNERS_MAX);
                for (size_t i = 0; i < k; i++)
                        memcpy(keys.signer[i].pub, log->vkeys[i].pub, sizeof(keys.signer[i].pub));
                audit_commit_signers(&keys, k, &signers);
                audit_anchor_files(a->note, &signers, files);
                if (git_tree_oid(files, 2, tree, &err) == 0 && mlc_streq(tree, info->tree) &&
                    git_commit_verify(a->bytes, a->len, log->vkeys[k - 1].pub, &err) == 0)
                        return true;
        }
        (void)c;
        return false;
}

static int check_commit(struct check *c, struct git_repo *repo, const struct row *a,
                        const char *parent)
{
        const struct check_log *log = log_by_id(c, a->anchor.log_id);
        _cleanup_(mlc_str_done) struct mlc_str stored;
        struct git_commit_info info;
        char oid[GIT_OID_STR];
        struct mlc_err err = {0};

        mlc_str_init(&stored, GIT_COMMIT_MAX);
        git_commit_oid(a->bytes, a->len, oid);
        if (!mlc_streq(oid, a->anchor.oid))
                return check_found(c, a->index, "the row of anchor '%s' was changed",
                                   a->anchor.oid);
        if (git_commit_read(repo, oid, &stored, &err) < 0 || stored.len != a->len ||
            memcmp(stored.data, a->bytes, a->len) != 0)
                return check_found(c, a->index,
                                   "anchor '%s' is missing or damaged in 'git/audit.git'", oid);
        if (git_commit_parse(a->bytes, a->len, &info, &err) < 0 || !mlc_streq(info.parent, parent))
                return check_found(c, a->index, "anchor '%s' does not follow the one before", oid);
        if (log == NULL || !content_fits(c, log, a, &info))
                return check_found(c, a->index,
                                   "anchor '%s' does not hold the checkpoint and keys of its time",
                                   oid);
        if (git_tree_check(repo, info.tree, &err) < 0)
                return check_found(c, a->index, "anchor '%s' in 'git/audit.git': %s", oid, err.msg);
        return 0;
}

/* Only the one branch, at the last anchor; a crash may have left it one behind. */
struct refs {
        struct check *c;
        const struct row *last;
        bool found;
        int result;
};

static int check_ref(void *userdata, const char *name, const char *oid, struct mlc_err *err)
{
        struct refs *r = userdata;

        (void)err;
        if (r->c->anchor_ref[0] != '\0' && mlc_streq(name, AUDIT_ANCHOR_REF))
                oid = r->c->anchor_ref;
        if (!mlc_streq(name, AUDIT_ANCHOR_REF))
                r->result = check_found(r->c, r->last->index,
                                        "nothing accounts for '%s' in 'git/audit.git'", name);
        else if (!mlc_streq(oid, r->last->anchor.oid) && !mlc_streq(oid, r->last->anchor.parent))
                r->result = check_found(r->c, r->last->index,
                                        "'%s' of 'git/audit.git' is not the last anchor", name);
        else
                r->found = true;
        return r->result;
}

void check_anchor_ref(struct check *c)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        char path[AUDIT_PATH_MAX];
        struct mlc_err ignored = {0}; /* check_anchors says what is wrong with it */

        audit_anchor_path(c->ctx->app, path);
        if (git_repo_open(path, false, &repo, &ignored) < 0 ||
            git_ref_get(repo, AUDIT_ANCHOR_REF, c->anchor_ref, &ignored) < 0)
                c->anchor_ref[0] = '\0';
}

static int check_refs(struct check *c, struct git_repo *repo, const struct row *last)
{
        struct refs refs = {.c = c, .last = last};
        struct mlc_err err = {0};
        int r;

        r = git_ref_each(repo, check_ref, &refs, &err);
        if (refs.result < 0)
                return refs.result;
        if (r < 0)
                return check_found(c, last->index, "'git/audit.git': %s", err.msg);
        if (!refs.found && last->anchor.parent[0] != '\0')
                return check_found(c, last->index,
                                   "'git/audit.git' has lost '" AUDIT_ANCHOR_REF "'");
        return 0;
}

static int row_from(struct check *c, const struct db_rows *rows, int i, struct row *ret)
{
        ret->anchor.log_id = db_int(rows, i, 0);
        (void)snprintf(ret->anchor.oid, sizeof(ret->anchor.oid), "%s", db_text(rows, i, 1));
        ret->note = db_text(rows, i, 2);
        ret->index =
                db_is_null(rows, i, 3) ? c->logs[c->n_logs - 1].rows : (uint64_t)db_int(rows, i, 3);
        return db_bytes(c->ctx, rows, i, 4, &ret->bytes, &ret->len);
}

int check_anchors(struct check *c)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char path[AUDIT_PATH_MAX], parent[GIT_OID_STR] = "";
        struct row a = {0};
        struct mlc_err err = {0};
        int r;

        r = db_run0(&c->tx, SQL_AUDIT_ANCHORS, &rows);
        if (r < 0 || rows.n == 0)
                return r;
        audit_anchor_path(c->ctx->app, path);
        if (git_repo_open(path, false, &repo, &err) < 0)
                return check_found(c, (uint64_t)db_int(&rows, 0, 3), "'git/audit.git': %s",
                                   err.msg);
        for (int i = 0; i < rows.n; i++) {
                mlc_arena_done(&c->ctx->arena);
                r = row_from(c, &rows, i, &a);
                if (r == 0)
                        r = check_commit(c, repo, &a, parent);
                if (r < 0)
                        return r;
                (void)snprintf(a.anchor.parent, sizeof(a.anchor.parent), "%s", parent);
                (void)snprintf(parent, sizeof(parent), "%s", a.anchor.oid);
        }
        c->n_anchors = rows.n;
        return check_refs(c, repo, &a);
}
