/* SPDX-License-Identifier: Apache-2.0 */
/* A version before it has a number: all of it is a function of the manifest and its blobs. */
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/map.h"
#include "codec/jcs.h"
#include "codec/utf8.h"
#include "crypto/hash.h"
#include "registry/registry_internal.h"
#include "store/store.h"

#define CARD_PATH "README.md"
#define ATTRIBUTES                                                                                 \
        "files/** filter=lfs diff=lfs merge=lfs -text\n"                                           \
        "layers/** filter=lfs diff=lfs merge=lfs -text\n"

static json_t *files_json(const struct mlc_manifest *m)
{
        json_t *list = json_array();

        for (size_t i = 0; i < m->n_layers; i++) {
                const struct mlc_descriptor *d = &m->layers[i];

                json_array_append_new(list, json_pack("{s:s?, s:I, s:s, s:s}", "path", d->path,
                                                      "size", (json_int_t)d->size, "digest",
                                                      d->digest, "media_type", d->media_type));
        }
        return list;
}

/* README.md, when it is text of a sensible length. */
static int load_card(struct mlc_ctx *ctx, struct registry_draft *d)
{
        for (size_t i = 0; i < d->manifest.n_layers; i++) {
                const struct mlc_descriptor *l = &d->manifest.layers[i];
                const char *text;
                size_t len;
                int r;

                if (l->path == NULL || strcmp(l->path, CARD_PATH) != 0 ||
                    l->size > REGISTRY_CARD_MAX || registry_may_be_absent(l))
                        continue;
                r = store_read_bytes(ctx, l->digest, REGISTRY_CARD_MAX, &text, &len);
                if (r < 0)
                        return r;
                if (!mlc_utf8_valid(text, len) || memchr(text, '\0', len) != NULL)
                        return 0;
                d->card = l->digest;
                d->card_text = text;
                d->card_len = len;
        }
        return 0;
}

int registry_draft_load(struct mlc_ctx *ctx, const struct registry_name *name, const char *digest,
                        struct registry_draft *ret)
{
        struct registry_draft d = {.name = *name};
        struct mlc_str lineage;
        int r;

        r = store_read_bytes(ctx, digest, REGISTRY_MANIFEST_MAX, &d.bytes, &d.len);
        if (r < 0)
                return r;
        (void)snprintf(d.digest, sizeof(d.digest), "%s", digest);
        r = mlc_manifest_parse(d.bytes, d.len, NULL, &ctx->arena, &d.manifest, &ctx->err);
        if (r < 0)
                return r;
        if (d.manifest.is_index || d.manifest.subject != NULL)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/digest",
                                      "manifest '%s' is an index or refers to another one: it "
                                      "cannot be a version",
                                      digest);
        r = load_card(ctx, &d);
        if (r < 0)
                return r;
        mlc_str_init(&lineage, 1u << 20);
        r = mlc_lineage_format(&d.manifest.lineage, &lineage, &ctx->err);
        if (r == 0)
                d.lineage = ctx_strdup(ctx, mlc_str_cstr(&lineage));
        mlc_str_done(&lineage);
        if (d.lineage == NULL)
                return ctx->err.code;
        d.files = files_json(&d.manifest);
        *ret = d;
        return 0;
}

void registry_draft_done(struct registry_draft *d)
{
        json_decref(d->files);
        json_decref(d->metadata);
        d->files = d->metadata = NULL;
}

/* Where a layer stands in the tree: by its path, or by its digest where git would refuse that. */
static const char *git_name(struct mlc_ctx *ctx, const struct mlc_descriptor *l)
{
        if (l->path != NULL && git_path_allowed(l->path))
                return ctx_printf(ctx, "files/%s", l->path);
        return ctx_printf(ctx, "layers/%s", l->digest + strlen("sha256:"));
}

static int add_pointer(struct mlc_ctx *ctx, const struct mlc_descriptor *l, struct git_file *ret)
{
        const char *name = git_name(ctx, l), *text;

        if (name == NULL)
                return ctx->err.code;
        /* https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: an empty file is its own
         * pointer */
        text = l->size == 0 ? ""
                            : ctx_printf(ctx,
                                         "version https://git-lfs.github.com/spec/v1\n"
                                         "oid %s\nsize %" PRIu64 "\n",
                                         l->digest, l->size);
        if (text == NULL)
                return ctx->err.code;
        *ret = (struct git_file){.path = name, .data = text, .len = strlen(text)};
        return 0;
}

int registry_draft_git(struct mlc_ctx *ctx, const struct registry_draft *d,
                       const struct git_file **ret, size_t *ret_n)
{
        struct mlc_map seen;
        struct git_file *files;
        size_t n = 0;
        int r = 0;

        files = mlc_arena_array(&ctx->arena, d->manifest.n_layers + 4, sizeof(*files), &ctx->err);
        if (files == NULL)
                return ctx->err.code;
        files[n++] = (struct git_file){".gitattributes", ATTRIBUTES, strlen(ATTRIBUTES)};
        files[n++] = (struct git_file){"lineage.json", d->lineage, strlen(d->lineage)};
        files[n++] = (struct git_file){"manifest.json", d->bytes, d->len};
        if (d->card != NULL)
                files[n++] = (struct git_file){CARD_PATH, d->card_text, d->card_len};
        mlc_map_init(&seen);
        for (size_t i = 0; i < d->manifest.n_layers && r == 0; i++) {
                r = add_pointer(ctx, &d->manifest.layers[i], &files[n]);
                /* layers without a path may repeat a digest */
                if (r == 0 && mlc_map_get(&seen, files[n].path) == NULL) {
                        (void)mlc_map_set(&seen, files[n].path, files);
                        n++;
                }
        }
        mlc_map_done(&seen, NULL);
        if (r < 0)
                return r;
        *ret = files;
        *ret_n = n;
        return 0;
}

const char *registry_commit_message(struct mlc_ctx *ctx, const struct registry_draft *d,
                                    int64_t number)
{
        return ctx_printf(ctx, "%s:%" PRId64 "\n\nManifest: %s\n", d->name.repo, number, d->digest);
}

int registry_json_digest(struct mlc_ctx *ctx, const json_t *j, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;
        int r;

        r = mlc_sha256_json(j, &d, &ctx->err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, ret);
        return 0;
}

const char *registry_json_text(struct mlc_ctx *ctx, const json_t *j)
{
        _cleanup_(mlc_str_done) struct mlc_str text;

        mlc_str_init(&text, REGISTRY_DOC_MAX);
        if (mlc_jcs(j, &text, &ctx->err) < 0)
                return NULL;
        return ctx_strdup(ctx, mlc_str_cstr(&text));
}

/* The members of an object as text, without its braces. */
static const char *members(struct mlc_ctx *ctx, const json_t *obj)
{
        const char *text = registry_json_text(ctx, obj);

        if (text == NULL)
                return NULL;
        return mlc_arena_strndup(&ctx->arena, text + 1, strlen(text) - 2, &ctx->err);
}

int registry_draft_doc(struct mlc_ctx *ctx, const struct registry_draft *d,
                       const struct registry_doc_in *in, const char **ret_summary,
                       const char **ret_doc)
{
        _cleanup_(json_decref_p) json_t *summary = NULL, *doc = NULL, *ref = NULL, *manifest = NULL;
        char created[MLC_TIME_MAX];
        const char *s, *t;

        mlc_time_format(in->created_ms, created);
        ref = json_sprintf("%s:%" PRId64, d->name.repo, in->number);
        manifest = json_sprintf("/v2/%s/manifests/%s", d->name.repo, d->digest);
        summary =
                json_pack("{s:O, s:s, s:I, s:s, s:I, s:s, s:o, s:O, s:O, s:O, s:O, s:O}", "ref",
                          ref, "model", d->name.repo, "version", (json_int_t)in->number, "digest",
                          d->digest, "size", (json_int_t)d->manifest.size, "created", created,
                          "lineage", mlc_lineage_json(&d->manifest.lineage), "labels", in->labels,
                          "metrics", in->metrics, "format", json_object_get(d->metadata, "format"),
                          "parameters", json_object_get(d->metadata, "parameters"), "safety",
                          json_object_get(d->metadata, "safety"));
        doc = json_pack("{s:O, s:O, s:b, s:s, s:O}", "files", d->files, "metadata", d->metadata,
                        "card", d->card != NULL, "commit", in->commit, "manifest", manifest);
        if (summary == NULL || doc == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "cannot describe '%s'", d->digest);
        s = members(ctx, summary);
        if (s == NULL)
                return ctx->err.code;
        t = members(ctx, doc);
        if (t == NULL)
                return ctx->err.code;
        *ret_summary = s;
        *ret_doc = t;
        return 0;
}
