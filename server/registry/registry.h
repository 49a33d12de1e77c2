/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/audit.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "codec/ref.h"
#include "ctx.h"
#include "db/db.h"

/*
 * Models, versions, aliases, and the manifests behind them. A version is a manifest with a number;
 * see README.md for the tables and invariants. Threads: any; each call is one transaction of its
 * own.
 */
/* For every subcommand, before any thread: starts libgit2. Needs app->changes. */
int registry_start(struct app *app, struct mlc_err *err) MLC_CHECK;
void registry_stop(struct app *app); /* idempotent */
/* For `serve`, after db, store and audit, before requests: brings every repository up to the rows
 * (what a crash left out). A repository that cannot be is logged, and named by check. */
int registry_repair(struct app *app, struct mlc_err *err) MLC_CHECK;

#define REGISTRY_MANIFEST_MAX (4u << 20) /* bytes; what `mlctl push` builds stays under 3 MiB */
#define REGISTRY_CARD_MAX (1u << 20)
#define REGISTRY_REASON_MAX 1000

/* A manifest in a repository (namespace and model): what the OCI door serves. In ctx's arena. */
struct registry_manifest {
        char digest[MLC_DIGEST_STR];
        const char *media_type;
        uint64_t size; /* its bytes are the blob of that digest in the store */
        const char
                *warning; /* resolve: says that the version is deprecated or withdrawn, or NULL */
};

struct registry_manifest_in {
        const char *ns, *model; /* checked by the pipeline; write access is the caller's to check */
        const char *reference; /* a tag, or "sha256:…" */
        const char *media_type; /* Content-Type, NULL when absent */
        const void *bytes; /* borrowed */
        size_t len;
};

struct registry_manifest_out {
        struct registry_manifest manifest;
        const char *subject; /* digest, or NULL: becomes OCI-Subject */
        int64_t version; /* the version that it is, 0 when none was made */
        bool created; /* that version is new */
};

/*
 * PUT of a manifest. By tag (no subject, no index): a version, and the tag its alias; the tag
 * `latest` makes no alias; `N` or `vN` must be that very version (MLC_E_CONFLICT). By digest, an
 * index, or with a subject: stored. Blobs and manifests it names must be in the repository
 * (MLC_E_NOT_FOUND, field "blob"). MLC_E_INVALID (field "manifest" or "digest", or "tag") for what
 * is no manifest; MLC_E_LIMIT over REGISTRY_MANIFEST_MAX.
 */
int registry_manifest_put(struct mlc_ctx *ctx, const struct registry_manifest_in *in,
                          struct registry_manifest_out *ret) MLC_CHECK;
/* By digest, `latest`, `N`, `vN`, alias, or the tag of an index. MLC_E_NOT_FOUND. */
int registry_manifest_resolve(struct mlc_ctx *ctx, const char *ns, const char *model,
                              const char *reference, struct registry_manifest *ret) MLC_CHECK;
/* Tags after `last` (NULL: from the start) in byte order, at most n: a new array of strings.
 * MLC_E_NOT_FOUND when the repository holds no manifest. */
int registry_tags(struct mlc_ctx *ctx, const char *ns, const char *model, const char *last,
                  int64_t n, json_t **ret) MLC_CHECK;
/* Descriptors of the manifests whose subject is `digest`, at most 1000: a new array, empty when
 * none. */
int registry_referrers(struct mlc_ctx *ctx, const char *ns, const char *model, const char *digest,
                       const char *artifact_type, json_t **ret) MLC_CHECK;

/* The alias of an environment to what goes live there: registry_alias_move, that does not ask
 * whether the version is withdrawn; the caller has. */
int registry_alias_follow(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                          const char *alias, int64_t number) MLC_CHECK;
/* Makes the alias or moves it, in the caller's transaction, with its leaf: for what moves it by
 * itself. MLC_E_NOT_FOUND and MLC_E_CONFLICT as for people, whose way asks promotion_alias_free. */
int registry_alias_move(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                        const char *alias, int64_t number) MLC_CHECK;
/* Removes it in the caller's transaction, with its leaf; nothing when there is none. */
int registry_alias_drop(struct mlc_ctx *ctx, struct db_tx *tx, const char *ns, const char *model,
                        const char *alias) MLC_CHECK;

/* For replay: the states of the kinds model, version and alias. */
extern const struct audit_source registry_audit_sources[3];

/*
 * `mlctld check`: compares rows, manifests, metadata and repositories; calls report once for each
 * difference (lower case, names the version or repository). Negative only when it could not look.
 */
typedef void (*registry_report)(void *userdata, const char *what);
int registry_check(struct mlc_ctx *ctx, registry_report report, void *userdata) MLC_CHECK;
/* `mlctld rebuild-git`: makes every model's repository anew from rows and store, bit for bit, and
 * puts it in place of the old one. No server may run. */
int registry_rebuild_git(struct mlc_ctx *ctx, int64_t *ret_models, int64_t *ret_versions) MLC_CHECK;
