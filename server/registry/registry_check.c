/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld check` of what the registry keeps: all that can be derived is derived again and compared.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "gen/registry.sql.h"
#include "registry/registry_internal.h"
#include "store/store.h"

#define BATCH 20

#define WAITS 20
#define WAIT_MS 100

struct check {
        registry_report report;
        void *userdata;
        int *waits; /* left, of the whole check */
};

/* Beside a running server a repository may be a moment behind the rows, or ahead of rows read
 * before: whether to look again. */
static bool again(const struct check *c)
{
        if (*c->waits == 0)
                return false;
        --*c->waits;
        mlc_sleep_ms(WAIT_MS);
        return true;
}

__attribute__((format(printf, 2, 3))) static void say(const struct check *c, const char *fmt, ...)
{
        char what[1024];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        c->report(c->userdata, what);
}

/* A failure that says that something is wrong with the data is a finding, others end the check. */
static int finding(struct mlc_ctx *ctx, const struct check *c, int r, const char *subject)
{
        if (r != MLC_E_VERIFY && r != MLC_E_NOT_FOUND && r != MLC_E_INVALID &&
            r != MLC_E_CONFLICT && r != MLC_E_IO)
                return r;
        say(c, "%s: %s", subject, ctx->err.msg);
        mlc_err_clear(&ctx->err);
        return 0;
}

/* --- rows --- */

static int check_rows(struct mlc_ctx *ctx, const struct check *c)
{
        static const struct {
                const struct db_stmt *stmt;
                const char *what;
        } checks[] = {
                {&SQL_CHECK_NUMBERS, "version numbers have a gap or the model's count is wrong"},
                {&SQL_CHECK_SEARCH, "what searches use differs from the version"},
                {&SQL_CHECK_ALIASES, "alias differs from its newest history entry"},
                {&SQL_CHECK_HISTORY, "the history of this alias lacks an entry"},
                {&SQL_CHECK_LEAVES, "row differs from its leaf, or the leaf is missing"},
        };
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = db_exec(&tx, checks[i].stmt, NULL, 0, &rows);
                if (r < 0)
                        return r;
                for (int k = 0; k < rows.n; k++)
                        say(c, "%s: %s", db_text(&rows, k, 0), checks[i].what);
        }
        return 0;
}

/* --- versions --- */

enum {
        C_NS,
        C_MODEL,
        C_ID,
        C_NUMBER,
        C_DIGEST,
        C_COMMIT,
        C_LABELS,
        C_LABELS_DIGEST,
        C_METRICS,
        C_METRICS_DIGEST,
        C_SUMMARY,
        C_DOC,
        C_CARD,
        C_BYTES,
        C_MANIFEST,
};

struct subject {
        const char *text; /* "version ns/model:3" */
        struct registry_name name;
        const struct db_rows *rows;
        int row;
        struct git_commit_info info;
        struct mlc_str bytes; /* of the commit */
};

static int parse_object(struct mlc_ctx *ctx, const char *text, json_t **ret)
{
        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

static int check_given(struct mlc_ctx *ctx, const struct check *c, const struct subject *s,
                       const json_t *given, int digest_col)
{
        char digest[MLC_DIGEST_STR];
        int r;

        r = registry_json_digest(ctx, given, digest);
        if (r < 0)
                return r;
        if (strcmp(digest, db_text(s->rows, s->row, digest_col)) != 0)
                say(c, "%s: labels or metrics differ from their digest", s->text);
        return 0;
}

/* The stored texts are what manifest, blobs, labels and metrics give. */
static int check_doc(struct mlc_ctx *ctx, const struct check *c, const struct subject *s,
                     struct registry_draft *d)
{
        _cleanup_(json_decref_p) json_t *labels = NULL, *metrics = NULL, *summary = NULL;
        struct registry_doc_in in = {.number = db_int(s->rows, s->row, C_NUMBER),
                                     .commit = db_text(s->rows, s->row, C_COMMIT)};
        const char *text, *doc,
                *stored = ctx_printf(ctx, "{%s}", db_text(s->rows, s->row, C_SUMMARY));
        const char *created;
        int r;

        if (stored == NULL)
                return ctx->err.code;
        r = parse_object(ctx, stored, &summary);
        if (r < 0)
                return r;
        r = parse_object(ctx, db_text(s->rows, s->row, C_LABELS), &labels);
        if (r < 0)
                return r;
        r = parse_object(ctx, db_text(s->rows, s->row, C_METRICS), &metrics);
        if (r < 0)
                return r;
        r = check_given(ctx, c, s, labels, C_LABELS_DIGEST);
        if (r < 0)
                return r;
        r = check_given(ctx, c, s, metrics, C_METRICS_DIGEST);
        if (r < 0)
                return r;
        created = json_string_value(json_object_get(summary, "created"));
        if (created == NULL || !mlc_time_parse(created, &in.created_ms) ||
            in.created_ms / 1000 != s->info.time_s)
                say(c, "%s: its time of creation differs from its commit", s->text);
        in.labels = labels;
        in.metrics = metrics;
        r = registry_draft_doc(ctx, d, &in, &text, &doc);
        if (r < 0)
                return r;
        if (strcmp(text, db_text(s->rows, s->row, C_SUMMARY)) != 0 ||
            strcmp(doc, db_text(s->rows, s->row, C_DOC)) != 0)
                say(c, "%s: its description differs from the artifact", s->text);
        return 0;
}

static int check_derived(struct mlc_ctx *ctx, const struct check *c, const struct subject *s)
{
        _cleanup_(registry_draft_done) struct registry_draft d = {0};
        const struct git_file *files;
        char tree[GIT_OID_STR], described[300];
        size_t n;
        int r;

        r = registry_draft_load(ctx, &s->name, db_text(s->rows, s->row, C_DIGEST), &d);
        if (r < 0)
                return r;
        (void)snprintf(described, sizeof(described), "%s %zu", d.manifest.media_type, d.len);
        if (strcmp(described, db_text(s->rows, s->row, C_MANIFEST)) != 0)
                say(c, "%s: the row of its manifest differs from the manifest", s->text);
        if (strcmp(d.card != NULL ? d.card : "", db_text(s->rows, s->row, C_CARD)) != 0)
                say(c, "%s: its card is another blob", s->text);
        r = registry_draft_inspect(ctx, &d);
        if (r < 0)
                return r;
        r = check_doc(ctx, c, s, &d);
        if (r < 0)
                return r;
        r = registry_draft_git(ctx, &d, &files, &n);
        if (r < 0)
                return r;
        r = git_tree_oid(files, n, tree, &ctx->err);
        if (r < 0)
                return r;
        if (strcmp(tree, s->info.tree) != 0)
                say(c, "%s: its commit holds other files than the artifact gives", s->text);
        return 0;
}

static int check_repository(struct mlc_ctx *ctx, const struct check *c, const struct subject *s)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(mlc_str_done) struct mlc_str there;
        const char *path = registry_git_path(ctx, &s->name);
        char tag[40], oid[GIT_OID_STR];
        int r;

        mlc_str_init(&there, GIT_COMMIT_MAX);
        if (path == NULL)
                return ctx->err.code;
        r = git_repo_open(path, false, &repo, &ctx->err);
        if (r < 0)
                return r;
        (void)snprintf(tag, sizeof(tag), "refs/tags/v%" PRId64, db_int(s->rows, s->row, C_NUMBER));
        r = git_ref_get(repo, tag, oid, &ctx->err);
        while (r == MLC_E_NOT_FOUND && again(c)) {
                mlc_err_clear(&ctx->err);
                r = git_ref_get(repo, tag, oid, &ctx->err);
        }
        if (r < 0)
                return r;
        if (strcmp(oid, db_text(s->rows, s->row, C_COMMIT)) != 0)
                say(c, "%s: '%s' is at another commit", s->text, tag);
        r = git_commit_read(repo, db_text(s->rows, s->row, C_COMMIT), &there, &ctx->err);
        if (r < 0)
                return r;
        if (there.len != s->bytes.len ||
            memcmp(mlc_str_cstr(&there), mlc_str_cstr(&s->bytes), there.len) != 0)
                say(c, "%s: the commit in its repository differs from the stored one", s->text);
        return git_tree_check(repo, s->info.tree, &ctx->err);
}

/* Bytes, id and, while the key is the present one, signature. An older key's signature is bound by
 * the leaf, which names the commit. */
static int check_commit(struct mlc_ctx *ctx, const struct check *c, struct subject *s)
{
        const struct mlc_signer *signer = audit_signer(ctx->app);
        char oid[GIT_OID_STR], who[GIT_IDENTITY_STR], line[80];
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
        if (strcmp(oid, db_text(s->rows, s->row, C_COMMIT)) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "the stored commit is %s, not %s", oid,
                                db_text(s->rows, s->row, C_COMMIT));
        r = git_commit_parse(mlc_str_cstr(&s->bytes), s->bytes.len, &s->info, &ctx->err);
        if (r < 0)
                return r;
        git_identity(signer, who);
        (void)snprintf(line, sizeof(line), "\nauthor %s <", who);
        if (strstr(mlc_str_cstr(&s->bytes), line) != NULL)
                r = git_commit_verify(mlc_str_cstr(&s->bytes), s->bytes.len, signer->pub,
                                      &ctx->err);
        (void)c;
        return r;
}

static int check_version(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows,
                         int row)
{
        struct subject s = {.rows = rows, .row = row};
        int r;

        r = registry_name_make(ctx, db_text(rows, row, C_NS), db_text(rows, row, C_MODEL), &s.name);
        if (r < 0)
                return r;
        s.text = ctx_printf(ctx, "version %s:%" PRId64, s.name.repo, db_int(rows, row, C_NUMBER));
        if (s.text == NULL)
                return ctx->err.code;
        mlc_str_init(&s.bytes, GIT_COMMIT_MAX);
        r = check_commit(ctx, c, &s);
        if (r == 0) {
                r = finding(ctx, c, check_derived(ctx, c, &s), s.text);
                if (r == 0)
                        r = check_repository(ctx, c, &s);
        }
        mlc_str_done(&s.bytes);
        return finding(ctx, c, r, s.text);
}

static int read_batch(struct mlc_ctx *ctx, int64_t after, struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        return db_run(&tx, SQL_CHECK_VERSIONS, ret, DB_INT(after), DB_INT(BATCH));
}

/* Each version in an arena of its own: a check reads the whole registry. */
static int check_versions(struct mlc_ctx *ctx, const struct check *c)
{
        int64_t after = 0;
        int r = 0, n = BATCH;

        while (n == BATCH && r == 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = read_batch(ctx, after, &rows);
                if (r < 0)
                        return r;
                n = rows.n;
                for (int i = 0; i < n && r == 0; i++) {
                        struct mlc_ctx job;

                        mlc_ctx_init(&job, ctx->app, "check", 256u << 20, 600000);
                        r = check_version(&job, c, &rows, i);
                        if (r < 0)
                                ctx->err = job.err;
                        mlc_ctx_done(&job);
                        after = db_int(&rows, i, C_ID);
                }
        }
        return r;
}

/* --- manifests, versions or not --- */

static int check_manifest(struct mlc_ctx *ctx, const struct check *c, const struct db_rows *rows,
                          int row)
{
        const char *bytes, *digest = db_text(rows, row, 1);
        struct mlc_manifest m;
        size_t len;
        int r;

        r = store_read_bytes(ctx, digest, REGISTRY_MANIFEST_MAX, &bytes, &len);
        if (r < 0)
                return r;
        r = mlc_manifest_parse(bytes, len, NULL, &ctx->arena, &m, &ctx->err);
        if (r < 0)
                return r;
        if (strcmp(m.media_type, db_text(rows, row, 2)) != 0 ||
            strcmp(m.artifact_type != NULL ? m.artifact_type : "", db_text(rows, row, 3)) != 0 ||
            strcmp(m.subject != NULL ? m.subject : "", db_text(rows, row, 4)) != 0 ||
            (int64_t)len != db_int(rows, row, 5))
                say(c, "manifest %s of %s: its row differs from the manifest", digest,
                    db_text(rows, row, 0));
        return 0;
}

static int read_manifests(struct mlc_ctx *ctx, const char *repo, const char *digest,
                          struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        return db_run(&tx, SQL_CHECK_MANIFESTS, ret, DB_TEXT(repo), DB_TEXT(digest), DB_INT(BATCH));
}

static int check_manifests(struct mlc_ctx *ctx, const struct check *c)
{
        char repo[2 * MLC_NAME_MAX + 2] = "", digest[MLC_DIGEST_STR] = "";
        int r = 0, n = BATCH;

        while (n == BATCH && r == 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = read_manifests(ctx, repo, digest, &rows);
                if (r < 0)
                        return r;
                n = rows.n;
                for (int i = 0; i < n && r == 0; i++) {
                        struct mlc_ctx job;

                        (void)snprintf(repo, sizeof(repo), "%s", db_text(&rows, i, 0));
                        (void)snprintf(digest, sizeof(digest), "%s", db_text(&rows, i, 1));
                        mlc_ctx_init(&job, ctx->app, "check", 256u << 20, 600000);
                        r = finding(&job, c, check_manifest(&job, c, &rows, i), digest);
                        if (r < 0)
                                ctx->err = job.err;
                        mlc_ctx_done(&job);
                }
        }
        return r;
}

/* --- repositories --- */

struct refs {
        const struct check *c;
        const struct registry_name *name;
        int64_t versions, n_tags;
        const char *newest;
        bool quiet, wrong; /* only sees whether something is wrong */
};

__attribute__((format(printf, 2, 3))) static void wrong_ref(struct refs *refs, const char *fmt, ...)
{
        char what[600];
        va_list ap;

        refs->wrong = true;
        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        if (!refs->quiet)
                say(refs->c, "repository of %s: %s", refs->name->repo, what);
}

/* Tags themselves were compared version by version; here only that there are no others. */
static int check_ref(void *userdata, const char *name, const char *oid, struct mlc_err *err)
{
        static const char tag[] = "refs/tags/v";
        struct refs *refs = userdata;
        unsigned long long n;

        (void)err;
        if (strcmp(name, "refs/heads/main") == 0) {
                if (strcmp(oid, refs->newest) != 0)
                        wrong_ref(refs, "'%s' is not at the newest version", name);
                refs->n_tags++;
                return 0;
        }
        if (!mlc_starts_with(name, tag) || !mlc_parse_u64(name + strlen(tag), &n) || n == 0 ||
            n > (unsigned long long)refs->versions)
                wrong_ref(refs, "nothing accounts for '%s'", name);
        else
                refs->n_tags++;
        return 0;
}

static int newest_commit(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name,
                         struct refs *refs)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int64_t id;
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, name, &id, &refs->versions);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_VERSION_COMMIT_OF, &rows, DB_INT(model_id), DB_INT(refs->versions));
        if (r < 0)
                return r;
        refs->newest = rows.n > 0 ? db_text_dup(ctx, &rows, 0, 0) : "";
        return refs->newest != NULL ? 0 : ctx->err.code;
}

static int check_refs(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name,
                      const struct check *c)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        const char *path = registry_git_path(ctx, name);
        struct refs refs = {.c = c, .name = name};
        int r;

        if (path == NULL)
                return ctx->err.code;
        r = git_repo_open(path, false, &repo, &ctx->err);
        if (r == 0)
                r = git_repo_check(repo, &ctx->err);
        if (r < 0)
                return r;
        do {
                refs = (struct refs){.c = c, .name = name, .quiet = *c->waits > 0};
                r = newest_commit(ctx, model_id, name, &refs);
                if (r == 0)
                        r = git_ref_each(repo, check_ref, &refs, &ctx->err);
                if (r < 0)
                        return r;
                if (!refs.wrong && refs.n_tags == refs.versions + 1)
                        return 0;
        } while (refs.quiet && again(c));
        if (refs.n_tags < refs.versions + 1)
                return ctx_fail(ctx, MLC_E_VERIFY, "references are missing");
        return 0;
}

static int check_model(struct mlc_ctx *ctx, int64_t model_id, const struct registry_name *name,
                       void *userdata)
{
        const struct check *c = userdata;
        char subject[300];

        (void)snprintf(subject, sizeof(subject), "repository of %s", name->repo);
        return finding(ctx, c, check_refs(ctx, model_id, name, c), subject);
}

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

static int known_model(struct mlc_ctx *ctx, const char *ns, const char *model, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_name name;
        int64_t id, versions = 0;
        int r;

        r = registry_name_make(ctx, ns, model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = registry_db_model_find(ctx, &tx, &name, &id, &versions);
        if (r == MLC_E_NOT_FOUND)
                mlc_err_clear(&ctx->err);
        else if (r < 0)
                return r;
        *ret = versions > 0;
        return 0;
}

/* One entry of a namespace's directory. */
static int check_stranger(struct mlc_ctx *ctx, const struct check *c, const char *ns,
                          const char *entry)
{
        bool known = false;
        const char *model;
        int r;

        if (mlc_ends_with(entry, ".git")) {
                model = mlc_arena_strndup(&ctx->arena, entry, strlen(entry) - 4, &ctx->err);
                if (model == NULL)
                        return ctx->err.code;
                r = known_model(ctx, ns, model, &known);
                if (r < 0)
                        return r;
        }
        if (!known)
                say(c, "nothing accounts for '%s/%s' below git", ns, entry);
        return 0;
}

/* Directories that no model accounts for. */
static int check_strangers(struct mlc_ctx *ctx, const struct check *c, const char *ns,
                           const char *dir)
{
        _cleanup_(close_dir) DIR *d = opendir(dir);
        struct dirent *e;

        if (d == NULL)
                return errno == ENOENT || errno == ENOTDIR
                               ? 0
                               : mlc_fail_errno(&ctx->err, "cannot read", dir);
        while ((e = readdir(d)) != NULL) {
                const char *path;
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                    (ns == NULL && (strcmp(e->d_name, "audit.git") == 0 ||
                                    strcmp(e->d_name, "documents.git") == 0)))
                        continue;
                if (ns == NULL) {
                        path = ctx_printf(ctx, "%s/%s", dir, e->d_name);
                        if (path == NULL)
                                return ctx->err.code;
                        r = check_strangers(ctx, c, e->d_name, path);
                } else {
                        r = check_stranger(ctx, c, ns, e->d_name);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

int registry_check(struct mlc_ctx *ctx, registry_report report, void *userdata)
{
        int waits = WAITS;
        struct check c = {report, userdata, &waits};
        const char *git = ctx_printf(ctx, "%s/git", ctx->app->config.data);
        int r;

        if (git == NULL)
                return ctx->err.code;
        r = check_rows(ctx, &c);
        if (r < 0)
                return r;
        r = check_versions(ctx, &c);
        if (r < 0)
                return r;
        r = check_manifests(ctx, &c);
        if (r < 0)
                return r;
        r = registry_each_model(ctx, check_model, &c);
        if (r < 0)
                return r;
        return check_strangers(ctx, &c, NULL, git);
}
