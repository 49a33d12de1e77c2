/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests as the OCI door puts and gets them. */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "gen/registry.sql.h"
#include "registry/registry_internal.h"
#include "store/store.h"

struct put {
        const struct registry_manifest_in *in;
        struct registry_name name;
        struct mlc_manifest manifest;
        char digest[MLC_DIGEST_STR];
        bool by_tag;
};

static int check_blob(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                      const struct mlc_descriptor *d)
{
        int64_t size;
        int r;

        r = store_has(ctx, tx, name->repo, d->digest, &size);
        if (r < 0)
                return r;
        if (size < 0 && registry_may_be_absent(d))
                return 0;
        if (size < 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "blob", "blob '%s' is not in '%s'",
                                      d->digest, name->repo);
        if ((uint64_t)size != d->size)
                return ctx_fail_field(ctx, MLC_E_INVALID, "manifest",
                                      "blob '%s' has %" PRId64 " bytes, the manifest says %" PRIu64,
                                      d->digest, size, d->size);
        return 0;
}

static int check_listed(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                        const struct mlc_descriptor *d)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_run(tx, SQL_MANIFEST_BY_DIGEST, &rows, DB_TEXT(name->repo), DB_TEXT(d->digest));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "blob", "manifest '%s' is not in '%s'",
                                      d->digest, name->repo);
        return 0;
}

/* What the manifest names must be in this repository, not only somewhere on the disk. */
static int check_contents(struct mlc_ctx *ctx, const struct put *p)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        if (!p->manifest.is_index) {
                r = check_blob(ctx, &tx, &p->name, &p->manifest.config);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < p->manifest.n_layers; i++) {
                r = p->manifest.is_index ? check_listed(ctx, &tx, &p->name, &p->manifest.layers[i])
                                         : check_blob(ctx, &tx, &p->name, &p->manifest.layers[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse(struct mlc_ctx *ctx, struct put *p)
{
        struct mlc_err err = {0};
        struct mlc_digest d;
        int r;

        r = mlc_manifest_parse(p->in->bytes, p->in->len, p->in->media_type, &ctx->arena,
                               &p->manifest, &err);
        if (r == MLC_E_INVALID)
                return ctx_fail_field(ctx, r, "manifest", "%s%s%s", err.field,
                                      err.field[0] != '\0' ? ": " : "", err.msg);
        if (r < 0) {
                ctx->err = err;
                return r;
        }
        mlc_sha256(p->in->bytes, p->in->len, &d);
        mlc_digest_format(&d, p->digest);
        p->by_tag = strchr(p->in->reference, ':') == NULL;
        if (!p->by_tag && strcmp(p->in->reference, p->digest) != 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "digest", "the manifest's digest is '%s'",
                                      p->digest);
        return 0;
}

/* A tag of OCI: what an alias may be, `latest`, a version number. */
static int check_tag(struct mlc_ctx *ctx, const char *tag)
{
        size_t len = strlen(tag);

        if (len == 0 || len > 128 || tag[0] == '.' || tag[0] == '-' ||
            strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != len)
                return ctx_fail_field(ctx, MLC_E_INVALID, "tag",
                                      "must be 1 to 128 letters, digits, '_', '.', '-'");
        return 0;
}

static int store_only(struct mlc_ctx *ctx, const struct put *p)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = store_link_repo(ctx, &tx, p->name.repo, p->digest);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MANIFEST_INSERT, NULL, DB_TEXT(p->name.repo), DB_TEXT(p->digest),
                   DB_TEXT(p->manifest.media_type), DB_TEXT(p->manifest.artifact_type),
                   DB_TEXT(p->manifest.subject), DB_INT(p->in->len));
        if (r < 0)
                return r;
        if (p->by_tag) {
                r = db_run(&tx, SQL_MANIFEST_TAG_SET, NULL, DB_TEXT(p->name.repo),
                           DB_TEXT(p->in->reference), DB_TEXT(p->digest));
                if (r < 0)
                        return r;
        }
        return db_tx_commit(&tx);
}

/* By tag: a version, and the tag its alias, unless it is `latest` or a number, which must be right.
 */
static int make_version(struct mlc_ctx *ctx, const struct put *p, struct registry_version_out *ret)
{
        _cleanup_(json_decref_p) json_t *none = json_object();
        struct registry_version_in in = {.digest = p->digest,
                                         .labels = none,
                                         .metrics = none,
                                         .tag_manifest = p->manifest.media_type};
        const char *tag = p->in->reference, *digits = tag[0] == 'v' ? tag + 1 : tag;
        unsigned long long n;

        if (mlc_parse_u64(digits, &n) && n > 0 && n <= MLC_VERSION_MAX)
                in.want = (int64_t)n;
        else if (digits[0] != '\0' && strspn(digits, "0123456789") == strlen(digits))
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "tag", "tag '%s' is no version's number",
                                      tag);
        else if (strcmp(tag, "latest") != 0)
                in.alias = tag;
        return registry_version_create(ctx, &p->name, &in, NULL, NULL, ret);
}

int registry_manifest_put(struct mlc_ctx *ctx, const struct registry_manifest_in *in,
                          struct registry_manifest_out *ret)
{
        _cleanup_(store_put_done) struct store_put blob = {0};
        struct registry_version_out version = {0};
        struct put p = {.in = in};
        int r;

        r = registry_name_make(ctx, in->ns, in->model, &p.name);
        if (r < 0)
                return r;
        r = parse(ctx, &p);
        if (r < 0)
                return r;
        if (p.by_tag) {
                r = check_tag(ctx, in->reference);
                if (r < 0)
                        return r;
        }
        r = check_contents(ctx, &p);
        if (r < 0)
                return r;
        r = store_put_bytes(ctx, in->bytes, in->len, &blob);
        if (r < 0)
                return r;
        if (p.by_tag && !p.manifest.is_index && p.manifest.subject == NULL)
                r = make_version(ctx, &p, &version);
        else
                r = store_only(ctx, &p);
        if (r < 0)
                return r;
        *ret = (struct registry_manifest_out){
                .manifest = {.media_type = p.manifest.media_type, .size = in->len},
                .subject = p.manifest.subject,
                .version = version.number,
                .created = version.created,
        };
        memcpy(ret->manifest.digest, p.digest, sizeof(p.digest));
        return 0;
}

static int query(struct db_tx *tx, const struct registry_name *name, const char *ref,
                 struct db_rows *ret)
{
        const char *digits = ref[0] == 'v' ? ref + 1 : ref;
        unsigned long long n = 0;

        if (strchr(ref, ':') != NULL)
                return db_run(tx, SQL_MANIFEST_BY_DIGEST, ret, DB_TEXT(name->repo), DB_TEXT(ref));
        if (strcmp(ref, "latest") == 0 ||
            (mlc_parse_u64(digits, &n) && n > 0 && n <= MLC_VERSION_MAX))
                return db_run(tx, SQL_MANIFEST_BY_NUMBER, ret, DB_TEXT(name->ns),
                              DB_TEXT(name->model), DB_TEXT(name->repo), DB_INT(n));
        return db_run(tx, SQL_MANIFEST_BY_ALIAS, ret, DB_TEXT(name->ns), DB_TEXT(name->model),
                      DB_TEXT(name->repo), DB_TEXT(ref));
}

/* Deprecated and withdrawn versions can be pulled, with a word. */
static int add_warning(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                       struct registry_manifest *m)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_MANIFEST_STATUS, &rows, DB_TEXT(name->ns), DB_TEXT(name->model),
                       DB_TEXT(m->digest));

        if (r < 0 || rows.n == 0 || strcmp(db_text(&rows, 0, 1), "ready") == 0)
                return r;
        m->warning = ctx_printf(ctx, "version %" PRId64 " of %s is %s", db_int(&rows, 0, 0),
                                name->repo, db_text(&rows, 0, 1));
        return m->warning == NULL ? ctx->err.code : 0;
}

int registry_manifest_resolve(struct mlc_ctx *ctx, const char *ns, const char *model,
                              const char *reference, struct registry_manifest *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct registry_manifest m = {.size = 0};
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, ns, model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = query(&tx, &name, reference, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0) {
                db_rows_done(&rows);
                rows = (struct db_rows){0};
                r = db_run(&tx, SQL_MANIFEST_BY_TAG, &rows, DB_TEXT(name.repo), DB_TEXT(reference));
                if (r < 0)
                        return r;
        }
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "manifest '%s' is not in '%s'", reference,
                                name.repo);
        (void)snprintf(m.digest, sizeof(m.digest), "%s", db_text(&rows, 0, 0));
        m.size = (uint64_t)db_int(&rows, 0, 2);
        m.media_type = db_text_dup(ctx, &rows, 0, 1);
        if (m.media_type == NULL)
                return ctx->err.code;
        r = add_warning(ctx, &tx, &name, &m);
        if (r < 0)
                return r;
        *ret = m;
        return 0;
}

int registry_tags(struct mlc_ctx *ctx, const char *ns, const char *model, const char *last,
                  int64_t n, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows any = {0}, rows = {0};
        struct registry_name name;
        json_t *list;
        int r;

        r = registry_name_make(ctx, ns, model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MANIFEST_ANY, &any, DB_TEXT(name.repo));
        if (r < 0)
                return r;
        if (any.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "repository '%s' does not exist", name.repo);
        r = db_run(&tx, SQL_MANIFEST_TAGS, &rows, DB_TEXT(ns), DB_TEXT(model), DB_TEXT(name.repo),
                   DB_TEXT(last), DB_INT(n));
        if (r < 0)
                return r;
        list = json_array();
        for (int i = 0; i < rows.n; i++)
                json_array_append_new(list, json_string(db_text(&rows, i, 0)));
        *ret = list;
        return 0;
}

int registry_referrers(struct mlc_ctx *ctx, const char *ns, const char *model, const char *digest,
                       const char *artifact_type, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *list = json_array();
        struct registry_name name;
        int r;

        r = registry_name_make(ctx, ns, model, &name);
        if (r < 0)
                return r;
        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run(&tx, SQL_MANIFEST_REFERRERS, &rows, DB_TEXT(name.repo), DB_TEXT(digest),
                   DB_TEXT(artifact_type));
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                const char *text = db_text(&rows, i, 0);
                json_t *item;

                r = mlc_json_parse(text, strlen(text), &item, &ctx->err);
                if (r < 0)
                        return r;
                json_array_append_new(list, item);
        }
        *ret = TAKE_PTR(list);
        return 0;
}
