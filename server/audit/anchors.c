/* SPDX-License-Identifier: Apache-2.0 */
/* Anchors: signed commits in DIR/git/audit.git that name a checkpoint, each one's id a leaf. */
#include <inttypes.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "gen/audit.sql.h"

#define ANCHOR_MS 10000 /* at most one in this time */
#define SIGNERS_MAX 65536

void audit_anchor_path(const struct app *app, char ret[AUDIT_PATH_MAX])
{
        (void)snprintf(ret, AUDIT_PATH_MAX, "%s/git/audit.git", app->config.data);
}

int audit_anchor_message(const struct mlc_checkpoint *cp, struct mlc_str *ret, struct mlc_err *err)
{
        mlc_str_addf(ret, "checkpoint %llu\n\n", (unsigned long long)cp->size);
        mlc_checkpoint_format(cp, ret);
        return mlc_str_check(ret, err);
}

void audit_anchor_files(const char *note, const struct mlc_str *signers, struct git_file ret[2])
{
        ret[0] = (struct git_file){"allowed_signers", signers->data, signers->len};
        ret[1] = (struct git_file){"checkpoint", note, strlen(note)};
}

json_t *audit_anchor_state(const struct audit_anchor *a)
{
        char root[MLC_DIGEST_STR];

        mlc_digest_format(&a->cp.root, root);
        return json_pack("{ss,sI,ss,ss?}", "commit", a->oid, "size", (json_int_t)a->cp.size, "root",
                         root, "parent", a->parent[0] == '\0' ? NULL : a->parent);
}

int audit_db_anchor_last(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_anchor *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        (void)ctx;
        r = db_run0(tx, SQL_AUDIT_ANCHOR_LAST, &rows);
        if (r < 0)
                return r;
        *ret = (struct audit_anchor){0};
        if (rows.n == 0)
                return 0;
        (void)snprintf(ret->oid, sizeof(ret->oid), "%s", db_text(&rows, 0, 0));
        (void)snprintf(ret->parent, sizeof(ret->parent), "%s", db_text(&rows, 0, 1));
        ret->log_id = db_int(&rows, 0, 2);
        ret->cp.size = (uint64_t)db_int(&rows, 0, 3);
        return 0;
}

/* The reference follows the rows: a crash may have left it one anchor behind. */
static int sync_ref(struct git_repo *repo, const struct audit_anchor *last, struct mlc_err *err)
{
        char oid[GIT_OID_STR];
        int r;

        if (last->oid[0] == '\0')
                return 0;
        r = git_ref_get(repo, AUDIT_ANCHOR_REF, oid, err);
        if (r == 0 && mlc_streq(oid, last->oid))
                return 0;
        if (r < 0 && r != MLC_E_NOT_FOUND)
                return r;
        mlc_err_clear(err);
        return git_ref_set(repo, AUDIT_ANCHOR_REF, last->oid,
                           last->parent[0] == '\0' ? NULL : last->parent, err);
}

/* The row and its leaf, in one transaction. */
static int record(struct mlc_ctx *ctx, const struct audit_anchor *a, const struct mlc_str *bytes)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *state = audit_anchor_state(a);
        _cleanup_(free_p) char *text = json_dumps(state, JSON_COMPACT);
        const struct audit_entry e = {.action = "log.anchor",
                                      .kind = AUDIT_KIND_ANCHOR,
                                      .id = a->oid,
                                      .after = state,
                                      .actor = "system"};
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_AUDIT_ANCHOR_INSERT, NULL, DB_INT(a->log_id), DB_TEXT(a->oid),
                   DB_INT(a->cp.size), DB_TEXT(text), DB_BYTES(bytes->data, bytes->len));
        if (r < 0)
                return r;
        r = audit_append(ctx, &tx, &e, NULL);
        if (r < 0)
                return r;
        return db_tx_commit(&tx);
}

static int commit(struct mlc_ctx *ctx, struct audit_leader *l, struct git_repo *repo,
                  struct audit_anchor *next)
{
        const struct audit_anchor *last = &l->anchor;
        _cleanup_(mlc_str_done) struct mlc_str signers, message, bytes;
        struct git_file files[2];
        struct git_commit_in in = {.files = files,
                                   .n_files = 2,
                                   .parent = last->oid[0] == '\0' ? NULL : last->oid,
                                   .time_s = mlc_now_ms() / 1000,
                                   .signer = audit_signer(l->a->app)};
        int r;

        mlc_str_init(&signers, SIGNERS_MAX);
        mlc_str_init(&message, 4096);
        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        audit_commit_signers(&l->a->keys, l->a->keys.n, &signers);
        audit_anchor_files(l->state.note, &signers, files);
        r = audit_anchor_message(&l->state.cp, &message, &ctx->err);
        if (r < 0)
                return r;
        in.message = mlc_str_cstr(&message);
        r = git_commit_build(&in, &bytes, next->oid, &ctx->err);
        if (r < 0)
                return r;
        r = git_commit_write(repo, files, 2, &bytes, &ctx->err);
        if (r < 0)
                return r;
        (void)snprintf(next->parent, sizeof(next->parent), "%s", last->oid);
        next->cp = l->state.cp;
        next->log_id = l->state.log_id;
        return record(ctx, next, &bytes);
}

bool audit_anchor_due(const struct audit_leader *l)
{
        uint64_t since;

        if (l->state.cp.size == 0 || mlc_monotonic_ms() - l->anchored_ms < ANCHOR_MS)
                return false;
        if (l->anchor.oid[0] == '\0' || l->anchor.log_id != l->state.log_id)
                return true;
        /* one entry since then is the anchor's own */
        since = l->state.cp.size - l->anchor.cp.size;
        return since > 1;
}

/* The one before, as the database has it: a connection lost at COMMIT leaves open whether it has.
 */
static int reload(struct mlc_ctx *ctx, struct audit_anchor *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        return audit_db_anchor_last(ctx, &tx, ret);
}

int audit_leader_anchor(struct mlc_ctx *ctx, struct audit_leader *l)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        struct audit_anchor next = {0};
        char path[AUDIT_PATH_MAX];
        int r;

        l->anchored_ms = mlc_monotonic_ms(); /* also after a failure: not again at once */
        audit_anchor_path(l->a->app, path);
        r = git_repo_open(path, true, &repo, &ctx->err);
        if (r < 0)
                return r;
        r = git_repo_lock(repo, &ctx->err);
        if (r < 0)
                return r;
        r = reload(ctx, &l->anchor);
        if (r < 0)
                return r;
        r = sync_ref(repo, &l->anchor, &ctx->err);
        if (r < 0)
                return r;
        r = commit(ctx, l, repo, &next);
        if (r < 0)
                return r;
        r = git_ref_set(repo, AUDIT_ANCHOR_REF, next.oid,
                        l->anchor.oid[0] == '\0' ? NULL : l->anchor.oid, &ctx->err);
        l->anchor = next;
        return r;
}

/* The checkpoint that the newest anchor in git names, from its message. */
int audit_anchor_newest(const struct app *app, uint64_t *ret_size, struct mlc_err *err)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        struct mlc_checkpoint cp;
        char path[AUDIT_PATH_MAX], oid[GIT_OID_STR];
        const char *text;
        int r;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        audit_anchor_path(app, path);
        r = git_repo_open(path, false, &repo, err);
        if (r == 0)
                r = git_ref_get(repo, AUDIT_ANCHOR_REF, oid, err);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(err);
                *ret_size = 0;
                return 0;
        }
        if (r == 0)
                r = git_commit_read(repo, oid, &bytes, err);
        if (r < 0)
                return r;
        /* header, blank line, subject, blank line, checkpoint */
        text = strstr(mlc_str_cstr(&bytes), "\n\n");
        text = text == NULL ? NULL : strstr(text + 2, "\n\n");
        if (text == NULL)
                return mlc_fail(err, MLC_E_VERIFY, "the anchor '%s' names no checkpoint", oid);
        text += 2;
        r = mlc_checkpoint_parse(text, strlen(text), &cp, err);
        if (r < 0)
                return r;
        if (!mlc_streq(cp.origin, app->audit->origin)) {
                *ret_size = 0; /* of the log before this one */
                return 0;
        }
        *ret_size = cp.size;
        return 0;
}
