/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <string.h>

#include "base/str.h"
#include "cache/cache.h"
#include "codec/manifest.h"
#include "db/db.h"
#include "git/git.h"
#include "registry/registry.h"

/* Inside server/registry. Everything lives in ctx's arena unless said otherwise. */

#define REGISTRY_PAGE_DEFAULT 100
#define REGISTRY_NUMBER_NONE 0
#define REGISTRY_DOC_MAX (16u << 20) /* bytes of a rendered version */

/* Versions as they were shown, under "NS/MODEL:REFERENCE": the ETag, then the JSON. */
struct registry {
        struct cache *shown;
};

struct registry_name {
        const char *ns, *model;
        const char *repo; /* "ns/model" */
};
int registry_name_make(struct mlc_ctx *ctx, const char *ns, const char *model,
                       struct registry_name *ret) MLC_CHECK;

/* --- draft: what a version will be, a function of its manifest and blobs (registry_draft.c) --- */

struct registry_draft {
        struct registry_name name;
        char digest[MLC_DIGEST_STR];
        const char *bytes; /* the manifest */
        size_t len;
        struct mlc_manifest manifest;
        const char *card; /* digest of README.md, or NULL */
        const char *card_text;
        size_t card_len;
        const char *lineage; /* lineage.json */
        json_t *files; /* array, owned: registry_draft_done */
        json_t *metadata; /* object, owned; NULL until registry_draft_inspect */
};
/* Reads manifest and card from the store. */
int registry_draft_load(struct mlc_ctx *ctx, const struct registry_name *name, const char *digest,
                        struct registry_draft *ret) MLC_CHECK;
void registry_draft_done(struct registry_draft *d);
/* Reads the model files' headers: fills metadata (registry_meta.c). */
int registry_draft_inspect(struct mlc_ctx *ctx, struct registry_draft *d) MLC_CHECK;
/* The files of the version's commit. */
int registry_draft_git(struct mlc_ctx *ctx, const struct registry_draft *d,
                       const struct git_file **ret, size_t *ret_n) MLC_CHECK;
const char *registry_commit_message(struct mlc_ctx *ctx, const struct registry_draft *d,
                                    int64_t number);

struct registry_doc_in {
        int64_t number, created_ms;
        const char *commit;
        const json_t *labels, *metrics;
};
/* The stored texts of a version: members without braces (see migrations, version.summary). */
int registry_draft_doc(struct mlc_ctx *ctx, const struct registry_draft *d,
                       const struct registry_doc_in *in, const char **ret_summary,
                       const char **ret_doc) MLC_CHECK;
/* RFC 8785 text in ctx's arena, NULL with the error set. */
const char *registry_json_text(struct mlc_ctx *ctx, const json_t *j);
int registry_json_digest(struct mlc_ctx *ctx, const json_t *j, char ret[MLC_DIGEST_STR]) MLC_CHECK;

/* --- versions (registry.c) --- */

struct registry_version_in {
        const char *digest;
        const json_t *labels, *metrics; /* objects */
        const char *alias; /* set to the version when not NULL */
        int64_t want; /* the number that it must be, or REGISTRY_NUMBER_NONE */
        const char *
                tag_manifest; /* media type when the manifest is new to the repository, else NULL */
};
struct registry_version_out {
        int64_t number;
        char commit[GIT_OID_STR];
        char leaf[65];
        bool created;
};
/* Finishes an operation inside the transaction, before COMMIT (stores the reply of an idempotent
 * POST). */
typedef int (*registry_finish)(struct mlc_ctx *ctx, struct db_tx *tx,
                               const struct registry_version_out *out, void *userdata);
int registry_version_create(struct mlc_ctx *ctx, const struct registry_name *name,
                            const struct registry_version_in *in, registry_finish finish,
                            void *userdata, struct registry_version_out *ret) MLC_CHECK;
int registry_version_status(struct mlc_ctx *ctx, const struct registry_name *name,
                            const char *reference, const char *status,
                            const char *reason) MLC_CHECK;

/* A row of version_shown. Texts in ctx's arena. */
struct registry_version_row {
        int64_t id, number;
        char digest[MLC_DIGEST_STR];
        const char *status, *reason, *author, *author_name, *summary, *doc, *card, *leaf, *aliases;
        const char *repo, *commit;
        int64_t leaf_index; /* -1: not sequenced yet */
};
/* By N, vN, latest, alias or digest; MLC_E_NOT_FOUND. */
int registry_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                          const char *reference, struct registry_version_row *ret) MLC_CHECK;
/* Appends the resource, in lists (`full` false) or alone. */
int registry_version_render(struct mlc_ctx *ctx, struct db_tx *tx,
                            const struct registry_version_row *v, bool full,
                            struct mlc_str *ret) MLC_CHECK;

/* --- aliases (registry_alias.c) --- */

struct registry_alias_state {
        int64_t number; /* 0: there is none */
        char digest[MLC_DIGEST_STR];
};
enum registry_if { REGISTRY_IF_ANY, REGISTRY_IF_MATCH, REGISTRY_IF_LIVE };
/*
 * Sets the alias in the caller's transaction. With `mode` REGISTRY_IF_MATCH the request's If-Match
 * is compared, and needed to move one; REGISTRY_IF_ANY moves, REGISTRY_IF_LIVE also to
 * what is withdrawn. Says what it was and what it is.
 */
struct registry_alias_in {
        const struct registry_name *name;
        const char *alias;
        int64_t number;
        enum registry_if mode;
};
int registry_alias_set_tx(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_alias_in *in,
                          struct registry_alias_state *ret_before,
                          struct registry_alias_state *ret_now) MLC_CHECK;
int registry_alias_set(struct mlc_ctx *ctx, const struct registry_name *name, const char *alias,
                       int64_t number, struct registry_alias_state *ret_now,
                       bool *ret_created) MLC_CHECK;
int registry_alias_delete(struct mlc_ctx *ctx, const struct registry_name *name,
                          const char *alias) MLC_CHECK;

/* --- git (registry_git.c) --- */

/* Brings the model's repository up to the rows, under its lock. */
int registry_git_sync(struct mlc_ctx *ctx, int64_t model_id,
                      const struct registry_name *name) MLC_CHECK;
const char *registry_git_path(struct mlc_ctx *ctx, const struct registry_name *name);
/* Calls fn for every model that has versions; a negative return ends it. */
typedef int (*registry_model_fn)(struct mlc_ctx *ctx, int64_t model_id,
                                 const struct registry_name *name, void *userdata);
int registry_each_model(struct mlc_ctx *ctx, registry_model_fn fn, void *userdata) MLC_CHECK;

/* --- statements (registry_db.c) --- */

int registry_db_model_lock(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                           int64_t *ret_id, int64_t *ret_versions, bool *ret_new) MLC_CHECK;
int registry_db_model_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct registry_name *name,
                           int64_t *ret_id, int64_t *ret_versions) MLC_CHECK;

struct registry_version_new {
        int64_t model_id, number;
        const struct registry_draft *draft;
        const char *commit, *author, *labels, *labels_digest, *metrics, *metrics_digest, *summary,
                *doc, *leaf;
        const struct mlc_str *commit_bytes;
};
int registry_db_version_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                               const struct registry_version_new *v) MLC_CHECK;
/* The row's columns; rows of version_shown. */
int registry_db_version_read(struct mlc_ctx *ctx, const struct db_rows *rows, int row,
                             struct registry_version_row *ret) MLC_CHECK;
/* "{a,b}" of the namespaces that the caller may read, NULL: all; "{}" when none. */
int registry_readable(struct mlc_ctx *ctx, const char **ret) MLC_CHECK;

struct registry_filter {
        const char *digest, *dataset, *alias, *status; /* NULL: any */
        const char *label, *label_value; /* value NULL: any */
        const char *metric; /* NULL: any */
        const char *metric_min, *metric_max; /* numbers as text, or "-inf", "inf" */
        bool metric_open; /* the bounds themselves do not count */
        bool by_id; /* a search over models: pages are by id, else by number */
        int64_t before; /* number or id below which to look */
        int64_t limit;
};
int registry_db_version_page(struct mlc_ctx *ctx, struct db_tx *tx,
                             const struct registry_name *name, const struct registry_filter *f,
                             struct db_rows *ret) MLC_CHECK;
int registry_db_version_search(struct mlc_ctx *ctx, struct db_tx *tx,
                               const struct registry_filter *f, const char *readable,
                               struct db_rows *ret) MLC_CHECK;

/* Layers that image-spec calls non-distributable are named, not pushed. */
static inline bool registry_may_be_absent(const struct mlc_descriptor *d)
{
        return strstr(d->media_type, ".nondistributable.") != NULL;
}
