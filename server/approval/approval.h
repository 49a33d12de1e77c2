/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/audit.h"
#include "auth/auth.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "ctx.h"
#include "db/db.h"
#include "gate/gate.h"
#include "policy/approval.h"
#include "policy/statement.h"

/*
 * Signed decisions over a subject (a promotion, a step of a rollout, a change, a rollback) and
 * change requests of protected environments. Tables and invariants: README.md. Threads: any. What
 * takes a tx joins the caller's transaction; results live in ctx's arena, json_t are the caller's.
 */
#define APPROVAL_REASON_MAX 1000
#define APPROVAL_TIME_MS (15 * 60000LL) /* how far a statement's time may be from ours */
#define APPROVAL_EXPIRES_MS (30LL * 86400000) /* of statements over what never expires itself */

/* For replay: the states of the kinds approval and change. */
#define APPROVAL_N_SOURCES 2
extern const struct audit_source approval_audit_sources[APPROVAL_N_SOURCES];
/* `mlctld check`: every statement and signature again, and the changes that they applied. */
int approval_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                   void *userdata) MLC_CHECK;
/* Before work_start: adds the leader's task that ends changes that nobody signed in time. */
void approval_start(struct app *app);

/* --- statements --- */

/* What came in; all strings borrowed. */
struct approval_in {
        const char *statement, *signature; /* exactly what was signed; armour */
        const char *reason;
        const char *salt; /* 64 hex digits */
};

/* A statement that holds: parsed, as expected, signed by the caller. Lives as long as the
 * request. */
struct approval_signed {
        struct mlc_statement s;
        const struct approval_in *in;
        char key[16];
        char digest[MLC_DIGEST_STR], signature_digest[MLC_DIGEST_STR];
};

/*
 * The statement about `expect` that the caller would sign now: with a fresh nonce and time, without
 * decision, meaning and reason_commitment; *ret_meanings by decision. Only the subject's members,
 * role, expires (NULL: the longest) and environment or document are read from expect.
 */
int approval_template(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_statement *expect,
                      json_t **ret, json_t **ret_meanings) MLC_CHECK;
/*
 * Whether `in` is the caller's own statement about `expect`, signed with one of their keys that
 * holds (which stays so until the transaction ends). MLC_E_VERIFY, field "/statement" or
 * "/signature", naming the member that differs.
 */
int approval_verify(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_in *in,
                    const struct mlc_statement *expect, struct approval_signed *ret) MLC_CHECK;
/* Row, reason and leaf. MLC_E_CONFLICT when this person has decided already, or the nonce was
 * used. */
int approval_store(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_signed *s,
                   const char *model, char ret_id[24], char ret_leaf[65]) MLC_CHECK;

/* --- who counts --- */

struct approval_rules {
        const char *subject_kind, *subject_id;
        const char *ns; /* where roles must be held; NULL: anywhere */
        const json_t *rules; /* [{name, from[], count, …}] */
        const char *const *excluded;
        size_t n_excluded;
        int64_t margin_s; /* so long beyond now an approval must hold; below 0: it may have expired
                           */
        bool hold; /* who counts and their keys stay as they are until COMMIT; not in a tx that only
                      reads */
};
/* Counts approvals that stand: not void, not expired, of an active person whose key holds. */
int approval_count(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                   struct mlc_approval_count *ret) MLC_CHECK;
/* Whether this person would count for some rule; *ret_rule its index, or -1. */
int approval_may(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                 const char *person, int *ret_rule) MLC_CHECK;
/* [{"kind":"approval","rule","need","have","eligible":[{"id","name"}…]}] of rules that lack
 * somebody. */
int approval_waiting(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                     json_t **ret) MLC_CHECK;
/* Decisions in the REST form, oldest first. */
int approval_list(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject_kind,
                  const char *subject_id, json_t **ret) MLC_CHECK;
/* [{"id","name"}…] of an array of people's ids. */
int approval_names(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *ids,
                   json_t **ret) MLC_CHECK;
/* What stands becomes void, each with its leaf. */
int approval_void(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject_kind,
                  const char *subject_id, const char *model) MLC_CHECK;

/* --- change requests --- */

/* struct gate_hooks.change_open. */
int approval_change_open(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                         const json_t *protection, json_t **ret) MLC_CHECK;
/* struct auth_hooks.ask and .renew. */
int approval_award_ask(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                       json_t **ret) MLC_CHECK;
int approval_award_renew(struct mlc_ctx *ctx, struct db_tx *tx, const char *user,
                         json_t *pending) MLC_CHECK;
/* [inbox item…] of changes that wait for the caller. */
int approval_inbox(struct mlc_ctx *ctx, struct db_tx *tx, json_t *items) MLC_CHECK;
