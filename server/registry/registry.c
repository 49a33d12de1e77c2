/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "gen/registry.sql.h"
#include "http/http.h"
#include "promotion/promotion.h"
#include "registry/registry_internal.h"
#include "store/store.h"

static const struct cache_limits SHOWN = {
        .entries = 10000, .bytes = 16u << 20, .value = 256u << 10, .ttl_ms = 5000};

int registry_start(struct app *app, struct mlc_err *err)
{
        struct registry *reg;
        int r;

        r = git_setup(err);
        if (r < 0)
                return r;
        reg = calloc(1, sizeof(*reg));
        if (reg == NULL)
                abort();
        reg->shown = cache_new(app->changes, &SHOWN);
        app->registry = reg;
        return 0;
}

void registry_stop(struct app *app)
{
        if (app->registry == NULL)
                return;
        cache_free(&app->registry->shown);
        free(TAKE_PTR(app->registry));
}

/* What a version's leaf says, with this status. */
static json_t *state_json(const struct registry_version_new *v, const char *status)
{
        return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "model", v->draft->name.repo,
                         "version", (json_int_t)v->number, "digest", v->draft->digest, "commit",
                         v->commit, "status", status, "author", v->author, "metrics_digest",
                         v->metrics_digest, "labels_digest", v->labels_digest);
}

static int record_model(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name)
{
        _cleanup_(json_decref_p) json_t *after =
                json_pack("{s:s, s:s}", "namespace", name->ns, "name", name->model);

        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = "model.create",
                                                  .kind = "model",
                                                  .id = name->repo,
                                                  .after = after,
                                                  .model = name->repo},
                            NULL);
}

/* Nothing new is built on what was withdrawn. A base that is not here, or hidden, says nothing. */
static int check_base(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_draft *d)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char digest[MLC_DIGEST_STR];
        struct mlc_ref ref;
        int r;

        if (d->manifest.lineage.base == NULL)
                return 0;
        r = mlc_ref_parse(d->manifest.lineage.base, &ref, &ctx->err);
        if (r < 0)
                return r;
        if (!auth_may_read(ctx->principal, ref.ns))
                return 0;
        mlc_digest_format(&ref.digest, digest);
        r = db_run(tx, SQL_VERSION_BASE_STATUS, &rows, DB_TEXT(ref.ns), DB_TEXT(ref.model),
                   DB_TEXT(digest));
        if (r < 0)
                return r;
        if (rows.n > 0 && strcmp(db_text(&rows, 0, 0), "withdrawn") == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "base '%s' is withdrawn: nothing new can be made from it",
                                d->manifest.lineage.base);
        return 0;
}

static int find_existing(struct mlc_ctx *ctx, struct db_tx *tx, int64_t model_id,
                         const char *digest, struct registry_version_out *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_version_out out = {0};
        int r;

        (void)ctx;
        r = db_run(tx, SQL_VERSION_FIND_DIGEST, &rows, DB_INT(model_id), DB_TEXT(digest));
        if (r < 0)
                return r;
        if (rows.n > 0) {
                out.number = db_int(&rows, 0, 1);
                (void)snprintf(out.commit, sizeof(out.commit), "%s", db_text(&rows, 0, 2));
                (void)snprintf(out.leaf, sizeof(out.leaf), "%s", db_text(&rows, 0, 3));
        }
        *ret = out;
        return 0;
}

static int parent_commit(struct mlc_ctx *ctx, struct db_tx *tx, int64_t model_id, int64_t number,
                         const char **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        if (number == 0) {
                *ret = NULL;
                return 0;
        }
        r = db_run(tx, SQL_VERSION_COMMIT_OF, &rows, DB_INT(model_id), DB_INT(number));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_INTERNAL, "version %" PRId64 " has no commit", number);
        *ret = db_text_dup(ctx, &rows, 0, 0);
        return *ret != NULL ? 0 : ctx->err.code;
}

static int build_commit(struct mlc_ctx *ctx, struct db_tx *tx, struct registry_version_new *v,
                        int64_t created_ms, struct mlc_str *bytes)
{
        struct git_commit_in in = {.time_s = created_ms / 1000, .signer = audit_signer(ctx->app)};
        char oid[GIT_OID_STR];
        int r;

        r = parent_commit(ctx, tx, v->model_id, v->number - 1, &in.parent);
        if (r < 0)
                return r;
        r = registry_draft_git(ctx, v->draft, &in.files, &in.n_files);
        if (r < 0)
                return r;
        in.message = registry_commit_message(ctx, v->draft, v->number);
        if (in.message == NULL)
                return ctx->err.code;
        r = git_commit_build(&in, bytes, oid, &ctx->err);
        if (r < 0)
                return r;
        v->commit = ctx_strdup(ctx, oid);
        v->commit_bytes = bytes;
        return v->commit != NULL ? 0 : ctx->err.code;
}

static int fill_given(struct mlc_ctx *ctx, const struct registry_version_in *in,
                      struct registry_version_new *v, char labels_digest[MLC_DIGEST_STR],
                      char metrics_digest[MLC_DIGEST_STR])
{
        int r;

        r = registry_json_digest(ctx, in->labels, labels_digest);
        if (r < 0)
                return r;
        r = registry_json_digest(ctx, in->metrics, metrics_digest);
        if (r < 0)
                return r;
        v->labels_digest = labels_digest;
        v->metrics_digest = metrics_digest;
        v->labels = registry_json_text(ctx, in->labels);
        if (v->labels == NULL)
                return ctx->err.code;
        v->metrics = registry_json_text(ctx, in->metrics);
        return v->metrics != NULL ? 0 : ctx->err.code;
}

/* The model's row is held: the number is ours. */
static int make(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_version_in *in,
                struct registry_version_new *v, struct registry_version_out *ret)
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        char labels_digest[MLC_DIGEST_STR], metrics_digest[MLC_DIGEST_STR];
        struct audit_entry e = {.action = "version.create", .kind = "version"};
        struct registry_doc_in doc = {.number = v->number, .created_ms = mlc_now_ms()};
        int r;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        v->author = ctx->principal->user;
        r = check_base(ctx, tx, v->draft);
        if (r < 0)
                return r;
        r = fill_given(ctx, in, v, labels_digest, metrics_digest);
        if (r < 0)
                return r;
        r = build_commit(ctx, tx, v, doc.created_ms, &bytes);
        if (r < 0)
                return r;
        doc.commit = v->commit;
        doc.labels = in->labels;
        doc.metrics = in->metrics;
        r = registry_draft_doc(ctx, v->draft, &doc, &v->summary, &v->doc);
        if (r < 0)
                return r;
        after = state_json(v, "ready");
        e.after = after;
        e.model = v->draft->name.repo;
        e.id = ctx_printf(ctx, "%s:%" PRId64, e.model, v->number);
        if (e.id == NULL)
                return ctx->err.code;
        r = audit_append(ctx, tx, &e, ret->leaf);
        if (r < 0)
                return r;
        v->leaf = ret->leaf;
        r = registry_db_version_insert(ctx, tx, v);
        if (r < 0)
                return r;
        ret->number = v->number;
        ret->created = true;
        memcpy(ret->commit, v->commit, sizeof(ret->commit));
        return 0;
}

static int check_wanted(struct mlc_ctx *ctx, const struct registry_version_in *in,
                        const struct registry_name *name, int64_t number)
{
        if (in->want != REGISTRY_NUMBER_NONE && in->want != number)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "tag",
                                      "this manifest is version %" PRId64 " of '%s', not %" PRId64,
                                      number, name->repo, in->want);
        return 0;
}

/* Locks the model, finds the version or makes it. */
static int find_or_make(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_version_in *in,
                        const struct registry_draft *draft, int64_t *ret_model_id,
                        struct registry_version_out *ret)
{
        struct registry_version_new v = {.draft = draft};
        int64_t versions;
        bool new_model;
        int r;

        r = registry_db_model_lock(ctx, tx, &draft->name, &v.model_id, &versions, &new_model);
        if (r < 0)
                return r;
        *ret_model_id = v.model_id;
        r = find_existing(ctx, tx, v.model_id, draft->digest, ret);
        if (r < 0)
                return r;
        v.number = ret->number > 0 ? ret->number : versions + 1;
        r = check_wanted(ctx, in, &draft->name, v.number);
        if (r < 0 || ret->number > 0)
                return r;
        if (new_model) {
                r = record_model(ctx, tx, &draft->name);
                if (r < 0)
                        return r;
        }
        return make(ctx, tx, in, &v, ret);
}

static int link_manifest(struct mlc_ctx *ctx, struct db_tx *tx,
                         const struct registry_version_in *in, const struct registry_draft *d)
{
        int r;

        if (in->tag_manifest == NULL)
                return 0;
        r = store_link_repo(ctx, tx, d->name.repo, d->digest);
        if (r < 0)
                return r;
        return db_run(tx, SQL_MANIFEST_INSERT, NULL, DB_TEXT(d->name.repo), DB_TEXT(d->digest),
                      DB_TEXT(in->tag_manifest), DB_TEXT(d->manifest.artifact_type), DB_NULL,
                      DB_INT(d->len));
}

/* The manifest must be in the repository, unless it comes with this request; is it a version
 * already? */
static int look(struct mlc_ctx *ctx, const struct registry_name *name,
                const struct registry_version_in *in, bool *ret_known)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows manifest = {0}, version = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MANIFEST_BY_DIGEST, &manifest, DB_TEXT(name->repo),
                   DB_TEXT(in->digest));
        if (r < 0)
                return r;
        if (manifest.n == 0 && in->tag_manifest == NULL)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/digest",
                                      "manifest '%s' is not in '%s': put it there first",
                                      in->digest, name->repo);
        r = db_run(&tx, SQL_VERSION_BY_DIGEST, &version, DB_TEXT(name->ns), DB_TEXT(name->model),
                   DB_TEXT(in->digest));
        if (r < 0)
                return r;
        *ret_known = version.n > 0;
        return 0;
}

/* Derived content: what fails here is repaired when the same version is asked for again, at the
 * next version, or at the next start, and seen by check. */
static void sync_git(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name)
{
        if (registry_git_sync(ctx, model_id, name) == 0)
                return;
        mlc_log_err(MLC_LOG_ERROR, ctx->trace, "git.sync_failed", &ctx->err);
        mlc_err_clear(&ctx->err);
}

int registry_version_create(struct mlc_ctx *ctx, const struct registry_name *name,
                            const struct registry_version_in *in, registry_finish finish,
                            void *userdata, struct registry_version_out *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(registry_draft_done) struct registry_draft draft = {0};
        struct registry_alias_state before, now;
        struct registry_version_out out = {0};
        int64_t model_id;
        bool known;
        int r;

        r = look(ctx, name, in, &known);
        if (r < 0)
                return r;
        r = registry_draft_load(ctx, name, in->digest, &draft);
        if (r < 0)
                return r;
        if (!known) {
                /* before the transaction: it may read many files */
                r = registry_draft_inspect(ctx, &draft);
                if (r < 0)
                        return r;
        }
        r = db_tx_begin(ctx, &tx);
        if (r == 0 && in->alias != NULL)
                r = promotion_alias_free(ctx, &tx, in->alias);
        if (r < 0)
                return r;
        r = link_manifest(ctx, &tx, in, &draft);
        if (r < 0)
                return r;
        r = find_or_make(ctx, &tx, in, &draft, &model_id, &out);
        if (r < 0)
                return r;
        if (in->alias != NULL) {
                r = registry_alias_set_tx(
                        ctx, &tx,
                        &(struct registry_alias_in){name, in->alias, out.number, REGISTRY_IF_ANY},
                        &before, &now);
                if (r < 0)
                        return r;
        }
        if (finish != NULL) {
                r = finish(ctx, &tx, &out, userdata);
                if (r < 0)
                        return r;
        }
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        sync_git(ctx, model_id, name);
        *ret = out;
        return 0;
}

/* --- status --- */

static int lock_version(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                        int64_t number, struct db_rows *ret)
{
        int r;

        r = db_run(tx, SQL_VERSION_LOCK, ret, DB_TEXT(name->ns), DB_TEXT(name->model),
                   DB_INT(number));
        if (r < 0)
                return r;
        if (ret->n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "version '%s:%" PRId64 "' does not exist",
                                name->repo, number);
        return 0;
}

static json_t *locked_state(const struct registry_name *name, const struct db_rows *rows,
                            const char *status)
{
        return json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "model", name->repo, "version",
                         (json_int_t)db_int(rows, 0, 1), "digest", db_text(rows, 0, 2), "commit",
                         db_text(rows, 0, 3), "status", status, "author", db_text(rows, 0, 5),
                         "metrics_digest", db_text(rows, 0, 6), "labels_digest",
                         db_text(rows, 0, 7));
}

static int set_status(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                      const struct db_rows *row, const char *status, const char *reason)
{
        _cleanup_(json_decref_p) json_t *before = locked_state(name, row, db_text(row, 0, 4));
        _cleanup_(json_decref_p) json_t *after = locked_state(name, row, status);
        _cleanup_(json_decref_p) json_t *detail = NULL;
        char commitment[72];
        const char *id;
        int r;

        r = audit_commit_pii(ctx, tx, ctx->principal->user, reason, commitment);
        if (r < 0)
                return r;
        detail = json_pack("{s:s}", "reason", commitment);
        id = ctx_printf(ctx, "%s:%" PRId64, name->repo, db_int(row, 0, 1));
        if (id == NULL)
                return ctx->err.code;
        r = audit_append(ctx, tx,
                         &(struct audit_entry){.action = "version.status",
                                               .kind = "version",
                                               .id = id,
                                               .before = before,
                                               .after = after,
                                               .detail = detail,
                                               .model = name->repo},
                         NULL);
        if (r < 0)
                return r;
        return db_run(tx, SQL_VERSION_SET_STATUS, NULL, DB_INT(db_int(row, 0, 0)), DB_TEXT(status),
                      DB_TEXT(commitment));
}

int registry_version_status(struct mlc_ctx *ctx, const struct registry_name *name,
                            const char *reference, const char *status, const char *reason)
{
        unsigned roles = auth_roles(ctx->principal, name->ns);
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows row = {0};
        struct registry_version_row v;
        int r;

        if ((roles & AUTH_CONTRIBUTOR) == 0 && strcmp(status, "withdrawn") != 0)
                return ctx_fail_field(
                        ctx, MLC_E_FORBIDDEN, "/status",
                        "an operator may only withdraw; contributors set other states");
        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_version_find(ctx, &tx, name, reference, &v);
        if (r < 0)
                return r;
        r = lock_version(ctx, &tx, name, v.number, &row);
        if (r < 0)
                return r;
        if (strcmp(db_text(&row, 0, 4), status) == 0)
                return 0;
        r = set_status(ctx, &tx, name, &row, status, reason);
        if (r < 0)
                return r;
        return db_tx_commit(&tx);
}
