/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <string.h>

#include "approval/approval.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "codec/ref.h"
#include "promotion/promotion.h"

/* Inside server/promotion. Everything lives in ctx's arena unless said otherwise. */

#define PROMOTION_PAGE_DEFAULT 100
#define PROMOTION_TASK "promotion.step" /* of the leader; woken when there is something to do */
#define PROMOTION_JUDGE_TASK "promotion.judge"
#define PROMOTION_STEP_MS 150
#define PROMOTION_JOB_ARENA (128u << 20)
#define PROMOTION_RETRY_MS 5000 /* after an error; doubles up to an hour */
#define PROMOTION_WAIT_S 2 /* how often windows, and those before it, are looked at again */

/* A row, with what is asked of its version. */
struct promotion {
        const char *id, *model, *ns, *name, *digest, *environment, *state, *requested_by;
        int64_t version_id, version, round;
        bool stale;
        const char *verdict_digest, *policy_digest, *environment_digest, *from,
                *basis; /* or NULL */
        const char *expires; /* or NULL */
        const char *version_status, *author;
        bool expired;
        bool due; /* a moment that it waits for has come; known only of a locked one */
        const char *verdict; /* RFC 8785 form, "" before it was judged */
        int64_t retries, created_ms;
        const char *outcome; /* "pass", …, "" */
};

/* For db_tx_retry: a function of one promotion. */
struct promotion_id {
        const char *id;
};

/* --- rows and leaves (promotion_db.c) --- */

int promotion_parse(struct mlc_ctx *ctx, const char *text, json_t **ret) MLC_CHECK;
/* RFC 8785 form; NULL with the error set. */
const char *promotion_text(struct mlc_ctx *ctx, const json_t *j);
/* Held until the transaction ends when `lock`. MLC_E_NOT_FOUND, also for a model that the caller
 * may not read. */
int promotion_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                   struct promotion *ret) MLC_CHECK;
/* The state as leaves have it; *ret NULL when there is none. */
int promotion_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                    json_t **ret) MLC_CHECK;
struct promotion_event {
        const char *action; /* "promotion.approve" */
        const char *kind, *id, *model;
        const json_t *before; /* NULL: it is new */
        const json_t *detail;
};
/* The leaf of a change that the row has by now. ret_leaf may be NULL. */
int promotion_record(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion_event *e,
                     char ret_leaf[65]) MLC_CHECK;
/* To another state, with its leaf; p->state is the new one. detail may be NULL. */
int promotion_move(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p, const char *state,
                   const json_t *detail) MLC_CHECK;
bool promotion_is_open(const char *state);
/* "ns/name" taken apart; MLC_E_INVALID with the field. */
int promotion_model(struct mlc_ctx *ctx, const char *field, const char *model,
                    struct mlc_ref *ret) MLC_CHECK;
struct promotion_version {
        int64_t id, number;
        char digest[MLC_DIGEST_STR];
        const char *status, *author;
};
/* By N, vN, latest, alias or digest; held against a change of its status. MLC_E_NOT_FOUND. */
int promotion_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct mlc_ref *model,
                           const char *reference, struct promotion_version *ret) MLC_CHECK;
/* The environment's document, the caller's; MLC_E_NOT_FOUND. */
int promotion_environment(struct mlc_ctx *ctx, struct db_tx *tx, const char *name,
                          json_t **ret) MLC_CHECK;

/* --- asking for one (promotion.c) --- */

struct promotion_in {
        const char *model, *version, *environment, *reason;
        bool supersede;
};
/* *ret_id is the new one, or the open or live one of this version. */
int promotion_create(struct mlc_ctx *ctx, const struct promotion_in *in, const char **ret_id,
                     bool *ret_created) MLC_CHECK;
int promotion_cancel(struct mlc_ctx *ctx, const char *id, const char *reason) MLC_CHECK;

/* --- judging (promotion_judge.c) --- */

/* Takes a promotion from evaluating to what its verdict says; nothing when it is no longer
 * evaluating. When it fails, the leader judges it soon. */
int promotion_judge(struct mlc_ctx *ctx, const char *id) MLC_CHECK;
/* The leader's task: promotions whose evaluation nobody does. What it cannot judge is held, with
 * the verdict error; but while the database is away it stays evaluating. */
int promotion_judge_task(struct mlc_ctx *ctx) MLC_CHECK;
/* Of a new leader: what the one before was judging is not waited for. */
int promotion_lead(struct mlc_ctx *ctx) MLC_CHECK;
/* The bundle as it would be judged now, the caller's. */
int promotion_bundle_now(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                         json_t **ret) MLC_CHECK;
/* Whether what was judged is still so: the basis is the same. */
int promotion_holds(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                    bool *ret) MLC_CHECK;
/* A stale one: fresh again, or back to evaluating. */
int promotion_compare(struct mlc_ctx *ctx, const char *id) MLC_CHECK;
/* To evaluating, approvals void. In the caller's transaction. */
int promotion_again(struct mlc_ctx *ctx, struct db_tx *tx, struct promotion *p,
                    const char *why) MLC_CHECK;
/* Digest over what of a bundle decides, without the moment. */
int promotion_basis(struct mlc_ctx *ctx, const json_t *bundle, char ret[MLC_DIGEST_STR]) MLC_CHECK;

/* --- deciding (promotion_approve.c) --- */

/* The rules of its policy, and who is excluded; *ret_rules is the caller's and lent to *ret. */
int promotion_rules(struct mlc_ctx *ctx, struct db_tx *tx, const struct promotion *p,
                    json_t **ret_rules, struct approval_rules *ret) MLC_CHECK;
int promotion_statement(struct mlc_ctx *ctx, const struct promotion *p,
                        struct mlc_statement *ret) MLC_CHECK;
/* A signed decision; *ret is the reply (ApprovalCreated), the caller's. */
int promotion_approve(struct mlc_ctx *ctx, const char *id, const struct approval_in *in,
                      json_t **ret) MLC_CHECK;

/* --- taking effect (promotion_effect.c) --- */

/* An approved one whose leaves are published goes live. */
int promotion_effect(struct mlc_ctx *ctx, const char *id) MLC_CHECK;
struct promotion_switch {
        const json_t *environment; /* document */
        const char *environment_name, *model, *ns, *name;
        int64_t version;
        const char *digest, *promotion;
        int64_t at_ms;
};
/* Whether promotions there move traffic, and so need a rollout. */
bool promotion_has_targets(const json_t *environment);
/* Row of what is live, alias and their leaves. */
int promotion_switch(struct mlc_ctx *ctx, struct db_tx *tx,
                     const struct promotion_switch *s) MLC_CHECK;
/* The leader's task. */
int promotion_step(struct mlc_ctx *ctx) MLC_CHECK;

/* --- windows (promotion_window.c) --- */

/* MLC_E_INVALID with the pointer: a zone that does not exist, a window of more than 366 days. */
int promotion_window_check(struct mlc_ctx *ctx, struct db_tx *tx,
                           const json_t *environment) MLC_CHECK;

/* --- rollback (promotion_rollback.c) --- */

struct rollback_in {
        const char *environment, *model, *to, *reason;
        const char *salt, *statement, *signature; /* all or none */
};
int promotion_rollback(struct mlc_ctx *ctx, const struct rollback_in *in, json_t **ret) MLC_CHECK;
/* The reply of GET rollbacks/statement, the caller's. */
int promotion_rollback_statement(struct mlc_ctx *ctx, const struct rollback_in *in,
                                 json_t **ret) MLC_CHECK;

/* --- showing (promotion_show.c); the caller's --- */

int promotion_show(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret) MLC_CHECK;
/* Adds `waiting_for` to what is shown of p. */
int promotion_add_waiting(struct mlc_ctx *ctx, struct db_tx *tx, json_t *shown) MLC_CHECK;
int promotion_evidence(struct mlc_ctx *ctx, const char *id, json_t **ret) MLC_CHECK;
int promotion_inbox(struct mlc_ctx *ctx, json_t **ret) MLC_CHECK;
