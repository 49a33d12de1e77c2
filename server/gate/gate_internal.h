/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "gate/gate.h"
#include "git/git.h"
#include "policy/document.h"

/* Inside server/gate. Everything lives in ctx's arena unless said otherwise. */

#define GATE_PAGE_DEFAULT 100
#define GATE_TEXT_MAX (64u << 20)

struct gate_hooks;
const struct gate_hooks *gate_hooks_of(const struct mlc_ctx *ctx); /* never NULL */

/* RFC 8785 text, NULL with the error set. */
const char *gate_json_text(struct mlc_ctx *ctx, const json_t *j);
int gate_parse(struct mlc_ctx *ctx, const char *text, json_t **ret) MLC_CHECK;

/* --- a request's documents (gate.c) --- */

/* One document of a request, with ids in place of names. */
struct gate_item {
        const char *kind, *name;
        const char *key; /* "Kind/name" */
        const char *yaml, *normal;
        char digest[MLC_DIGEST_STR];
        const json_t *doc; /* borrowed from the set */
        int64_t number; /* of the version that is there, 0: none */
        char before[MLC_DIGEST_STR]; /* "" when there is none */
        bool unchanged;
        json_t *protection; /* borrowed from the set; NULL: nobody needs to sign */
};
struct gate_set {
        struct gate_item *items;
        size_t n;
        json_t *docs; /* owned: what items borrow, by key */
        json_t *protections; /* owned, by key */
        json_t *warnings; /* owned */
        json_t *environments; /* owned: [[environment, policy|null]] as they will be; NULL until
                               * the first cross-check */
};
void gate_set_done(struct gate_set *set); /* for _cleanup_ */

/* *ret is the reply of POST documents, the caller's. */
int gate_apply(struct mlc_ctx *ctx, const char *text, size_t len, bool dry_run,
               json_t **ret) MLC_CHECK;

/* --- people (gate_people.c) --- */

/* The text with "user:NAME" written as "user:ID"; MLC_E_CONFLICT for who is not known. */
int gate_people_to_ids(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *doc, const char *yaml,
                       const char **ret) MLC_CHECK;
/* Distinct active people behind owners; groups of the set go before those of the database. */
int gate_owner_ids(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *owners,
                   const struct gate_set *set, json_t **ret) MLC_CHECK;
/* Environments with their policies as they are: [[environment, policy|null]]. */
int gate_environments(struct mlc_ctx *ctx, struct db_tx *tx, json_t **ret) MLC_CHECK;
bool gate_is_protected(const json_t *environment);
bool gate_array_has(const json_t *array, const char *text);

/* --- cross-checks and warnings (gate_cross.c) --- */

/* Item i of the set against the rest and the database. MLC_E_CONFLICT, field "/Kind/name". */
int gate_cross_check(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set,
                     size_t i) MLC_CHECK;
/* That no model's policy, of the set or of the database, redefines what an environment's says. */
int gate_cross_layers(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set) MLC_CHECK;
/* Appends to the set's warnings what mlc_policy_feasible says of item i, and when nobody approves
 * what goes live in a protected environment. */
int gate_warn(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set,
              size_t i) MLC_CHECK;

/* --- the repository (gate_git.c) --- */

/* Many documents are more than a request's arena holds: a tree has one of its own. */
struct gate_tree {
        struct mlc_arena arena;
        struct git_file *files; /* NULL until it is loaded */
        size_t n, size;
};
void gate_tree_done(struct gate_tree *t); /* for _cleanup_; a zeroed one is fine */
/* Documents as after commit `seq`. ret is zeroed, and done by the caller whatever happens. */
int gate_tree_load(struct mlc_ctx *ctx, struct db_tx *tx, int64_t seq,
                   struct gate_tree *ret) MLC_CHECK;
/* With this version of a document (key, yaml and normal are read), copied. */
int gate_tree_set(struct mlc_ctx *ctx, struct gate_tree *t, const struct gate_item *item) MLC_CHECK;
const char *gate_git_path(struct mlc_ctx *ctx);
int gate_git_sync(struct mlc_ctx *ctx) MLC_CHECK;

/* --- versions of models and evaluations --- */

struct gate_version {
        int64_t id, number;
        const char *model; /* "ns/model" */
        const char *digest, *author, *status;
        const char *card; /* digest, or "" */
        const char *summary, *doc; /* JSON objects */
};
/* By N, vN, latest, alias or digest; MLC_E_NOT_FOUND. */
int gate_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                      struct gate_version *ret) MLC_CHECK;
/* [RECORD…] as in a bundle. The caller's. */
int gate_records(struct mlc_ctx *ctx, struct db_tx *tx, int64_t version_id, json_t **ret) MLC_CHECK;

struct gate_evaluation_in {
        const char *bytes; /* as submitted */
        size_t len;
        const char *examples; /* digest, or NULL */
};
struct gate_evaluation_out {
        struct gate_version version;
        char id[MLC_DIGEST_STR];
        char leaf[65];
        const char *dataset;
        int64_t recomputed;
        bool created;
};
int gate_evaluation_create(struct mlc_ctx *ctx, const struct gate_subject *s,
                           const struct gate_evaluation_in *in,
                           struct gate_evaluation_out *ret) MLC_CHECK;
int gate_evaluation_withdraw(struct mlc_ctx *ctx, const struct gate_subject *s, const char *id,
                             const char *reason) MLC_CHECK;
int gate_evaluation_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                          void *userdata) MLC_CHECK;

/* *ret is the reply of POST policy-tests, the caller's. */
int gate_policy_test(struct mlc_ctx *ctx, const struct gate_subject *s, json_t **ret) MLC_CHECK;
