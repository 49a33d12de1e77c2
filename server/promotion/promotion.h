/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "approval/approval.h"
#include "audit/audit.h"
#include "ctx.h"
#include "db/db.h"
#include "gate/gate.h"

/*
 * Requests to bring a version into an environment, and what is live there. States, tables and
 * invariants: README.md. Threads: any.
 */

/* For replay: the states of the kinds promotion and live. */
#define PROMOTION_N_SOURCES 2
extern const struct audit_source promotion_audit_sources[PROMOTION_N_SOURCES];
/* `mlctld check`: verdicts again from their bundles, approvals counted again, what is live and the
 * aliases of environments. */
int promotion_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                    void *userdata) MLC_CHECK;
/* Before work_start: adds the leader's task. */
void promotion_start(struct app *app);

/*
 * The end of a rollout, in the transaction that ends it: takes the locks that come before the
 * rollout's row. The promotion becomes live, with the environment's alias, and what was live
 * `replaced` or (by a rollback) `rolled_back`; or, when it went back, `rolled_back` or `failed`.
 * MLC_E_CONFLICT when it does not roll out, or would bring live, and not back, what is withdrawn.
 */
int promotion_rolled_out(struct mlc_ctx *ctx, struct db_tx *tx, const char *id) MLC_CHECK;
int promotion_rollout_ended(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                            const char *state, const char *why) MLC_CHECK;

/*
 * Until the transaction ends no document changes, and nothing of the model begins, ends or goes
 * live: for what reads both and writes what follows from them. Before any lock on a row.
 */
int promotion_still(struct mlc_ctx *ctx, struct db_tx *tx, const char *model) MLC_CHECK;

/* Whether the environment's windows keep everything out now; deny wins. Rollbacks do not ask. */
int promotion_window_closed(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment,
                            bool *ret) MLC_CHECK;

/*
 * What a signed decision about a step of its rollout takes from a promotion: the statement's
 * members from model to from, without evidence, and of the rules `ns` and who never counts.
 */
int promotion_of_step(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                      struct mlc_statement *ret, struct approval_rules *ret_rules) MLC_CHECK;
/* Whether the caller counts for some of the rules; MLC_E_FORBIDDEN with why not, `of` is
 * what is decided about: "rollout 'r17'". */
int promotion_may_decide(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                         const struct approval_rules *rules, const char *of) MLC_CHECK;
/* MLC_E_CONFLICT for this decision: what is withdrawn can only be rejected. */
int promotion_decision_fits(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                            const char *decision) MLC_CHECK;

/* Namespaces that the caller reads, as a literal of text[]; NULL: all. */
int promotion_readable(struct mlc_ctx *ctx, const char **ret) MLC_CHECK;

/* MLC_E_FORBIDDEN when the alias is moved by an environment's promotions; what the registry asks
 * before it sets or removes one for a person. */
int promotion_alias_free(struct mlc_ctx *ctx, struct db_tx *tx, const char *alias) MLC_CHECK;

/* struct gate_hooks.live and .changed. */
int promotion_live(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                   const char *model, struct gate_live *ret) MLC_CHECK;
int promotion_changing(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
int promotion_changed(struct mlc_ctx *ctx, struct db_tx *tx,
                      const struct gate_news *news) MLC_CHECK;
