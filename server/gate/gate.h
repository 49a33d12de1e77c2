/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/audit.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "ctx.h"
#include "db/db.h"

/*
 * Documents (Environment, Policy, Model, Group), evaluations, and the bundle from which a verdict
 * is computed. Tables and invariants: README.md. Threads: any. What takes a tx joins the caller's
 * transaction; strings and rows that are returned live in ctx's arena, json_t are the caller's.
 */
#define GATE_DOCUMENTS_MAX 10000 /* documents of a server */
#define GATE_NORMAL_MAX (48u << 10) /* bytes of the normal form of all but groups */
#define GATE_MEMBERS_MAX 10000 /* people that one subject stands for */

/* For `serve`, after db, store and audit: brings documents.git up to the rows. */
int gate_repair(struct app *app, struct mlc_err *err) MLC_CHECK;
/* The states of the kinds document and evaluation, for replay. */
#define GATE_N_SOURCES 2
extern const struct audit_source gate_audit_sources[GATE_N_SOURCES];
/* `mlctld check`: rows, leaves, repository and examples again from what they are made of. */
int gate_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
               void *userdata) MLC_CHECK;
/* `mlctld rebuild-git`: documents.git anew from the rows, bit for bit. No server may run. */
int gate_rebuild_git(struct mlc_ctx *ctx, int64_t *ret_documents) MLC_CHECK;

/* --- documents --- */

struct gate_document {
        const char *kind, *name; /* "Environment", "production" */
        int64_t number; /* 1, 2, …: versions of this document */
        char digest[MLC_DIGEST_STR]; /* SHA-256 of `normal` */
        const char *yaml; /* as submitted, with people's names replaced by their ids */
        const char *normal; /* RFC 8785 form of the normalised document, people as ids */
};
/* The newest version; MLC_E_NOT_FOUND. */
int gate_document_get(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *name,
                      struct gate_document *ret) MLC_CHECK;
/* Parses `normal`; the caller owns *ret. */
int gate_document_json(struct mlc_ctx *ctx, const struct gate_document *d, json_t **ret) MLC_CHECK;

/*
 * A new version of one document that owners have signed (an approved change): cross-checks again,
 * then row, commit and leaf. MLC_E_CONFLICT when the newest digest is not `before` (NULL: there is
 * none). Call gate_documents_published() after COMMIT.
 */
struct gate_change {
        const char *kind, *name;
        const char *before; /* digest of the version that it replaces, NULL for a first one */
        const char *after; /* digest that it will have */
        const char *yaml, *normal;
        const char *author; /* user who submitted it */
        const json_t *detail; /* of the leaf: the change's id; NULL without */
};
int gate_document_put(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c) MLC_CHECK;
/* Brings documents.git up to the rows; what fails is logged and repaired later. */
void gate_documents_published(struct mlc_ctx *ctx);

/*
 * Until the transaction ends no document changes: what is decided by protection then holds at
 * COMMIT. `write`: this transaction may become the one that changes some. Take it before rows of
 * change requests, and after rows of people.
 */
int gate_documents_hold(struct mlc_ctx *ctx, struct db_tx *tx, bool write) MLC_CHECK;

/*
 * Which protected environments a change belongs to, judged by the documents as they are now: a new
 * array of {"environment","owners":[user ids],"threshold"}, empty when nobody needs to sign. An
 * environment is protected once it has owners and a threshold. Its own document, its policy,
 * the groups that these name, and routes of models that lead to it are its documents.
 */
int gate_protection(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                    json_t **ret) MLC_CHECK;
/*
 * The same for one environment by name: {"environment","owners":[user ids],"threshold"}, or JSON
 * null when it is unprotected. MLC_E_NOT_FOUND when there is no such environment.
 */
int gate_environment_owners(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                            json_t **ret) MLC_CHECK;
/*
 * The protected environments in which this person (user id) is an owner, or is named by an approval
 * rule (user:, group:, or role: in any namespace): as gate_protection. For grants, keys and
 * members.
 */
int gate_protection_of_person(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                              json_t **ret) MLC_CHECK;
/* The protected environments whose owners or approval rules name this subject ("role:approver",
 * "group:risk", "user:u7f3a"): as gate_protection. For grants of a role. */
int gate_protection_of_subject(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject,
                               json_t **ret) MLC_CHECK;
/* The environment whose promotions move this alias, NULL when it is free. */
int gate_alias_environment(struct mlc_ctx *ctx, struct db_tx *tx, const char *alias,
                           const char **ret) MLC_CHECK;
/* MLC_E_CONFLICT, field "/alias", while an alias of this name stands anywhere but on what is live
 * in the environment, or in another one that has the alias and gives it up in the same transaction:
 * it would name what was never promoted there. */
int gate_alias_claim(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                     const char *alias) MLC_CHECK;

/* --- people --- */

/*
 * The active persons behind "user:NAME-or-ID", "group:NAME" (nested groups included) or "role:ROLE"
 * (held in `ns` or everywhere): a new sorted array of ids. No service is among them. An unknown
 * user or group gives none.
 */
int gate_members(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject, const char *ns,
                 json_t **ret) MLC_CHECK;
/* `gate_members` of a group by its name. */
int gate_group_members(struct mlc_ctx *ctx, struct db_tx *tx, const char *group,
                       json_t **ret) MLC_CHECK;

/* --- bundle and verdict --- */

struct gate_subject {
        const char *ns, *model;
        const char *version; /* N, vN, latest, alias or digest */
        const char *environment;
        int64_t now_ms;
};
/*
 * Everything that a verdict needs ("bundle/v1"), from this transaction's snapshot. MLC_E_NOT_FOUND
 * for an unknown version, environment or policy; MLC_E_LIMIT above GATE_BUNDLE_MAX bytes.
 */
#define GATE_BUNDLE_MAX (16u << 20)
int gate_bundle(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                json_t **ret) MLC_CHECK;
/* Runs lib/policy on it with examples from the store. Takes time: call it outside of any
 * transaction. */
int gate_judge(struct mlc_ctx *ctx, const json_t *bundle, json_t **ret_verdict) MLC_CHECK;
/* SHA-256 of the RFC 8785 form; what approvals bind as verdict_digest. */
int gate_json_digest(struct mlc_ctx *ctx, const json_t *j, char ret[MLC_DIGEST_STR]) MLC_CHECK;
/* The governed object's id of an evaluation: "NS/MODEL:N/sha256:…". */
const char *gate_evaluation_object(struct mlc_ctx *ctx, const char *model, int64_t number,
                                   const char *id);

/* --- what other capabilities tell and are told; set by app.c before requests --- */

struct gate_live {
        int64_t number; /* version that is live, 0 when none is */
        int64_t since_ms; /* when it became live */
};
struct gate_news {
        const char *what; /* "document" | "evaluation" */
        const char *kind, *name; /* of a document */
        const char *model; /* "ns/model" of an evaluation */
        int64_t number; /* its version */
};
struct gate_hooks {
        /* What is live of a model ("ns/model") in an environment. NULL: nothing ever is. */
        int (*live)(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                    const char *model, struct gate_live *ret);
        /*
         * Opens a change request that the owners in `protection` (see gate_protection) must sign,
         * in the caller's transaction; *ret is what `apply` lists as pending: {"id","need",…}.
         * The same change again gives the open one. NULL: such changes are refused.
         */
        int (*change_open)(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                           const json_t *protection, json_t **ret);
        /* Before the first leaf of a new document version: waits until nothing goes live by the
         * documents as they are, and keeps it so until the transaction ends. NULL: nothing does. */
        int (*changing)(struct mlc_ctx *ctx, struct db_tx *tx);
        /* In the transaction of a new document version, evaluation, or withdrawal of one: what
         * waits for it is woken. NULL: nobody waits. */
        int (*changed)(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_news *news);
};
/* `hooks` is borrowed and lives as long as app. */
void gate_set_hooks(struct app *app, const struct gate_hooks *hooks);
