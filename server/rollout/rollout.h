/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "audit/audit.h"
#include "codec/json.h"
#include "ctx.h"
#include "db/db.h"
#include "gate/gate.h"

/*
 * How traffic moves to a version: plans, what serves it, and the gateways' tables. States, tables
 * and invariants: README.md. Threads: any. What takes a tx joins the caller's transaction.
 */

/* For replay: the states of the kinds rollout, request and line. */
#define ROLLOUT_N_SOURCES 3
extern const struct audit_source rollout_audit_sources[ROLLOUT_N_SOURCES];
/* `mlctld check`: plans and splits again from what they are made of. */
int rollout_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                  void *userdata) MLC_CHECK;
/* Before work_start: adds the leader's tasks. */
void rollout_start(struct app *app);

struct rollout_in {
        const char *promotion; /* that begins to roll out */
        const char *model, *environment, *digest; /* "ns/model" */
        int64_t version;
        const json_t *document; /* of the environment, with targets */
        const char *requested_by;
        bool back; /* a rollback: all traffic at once, no checks */
};
/*
 * The rollout of a promotion, in the transaction that makes it rolling_out. The rollout ends with
 * promotion_rolled_out() or promotion_rollout_ended(). MLC_E_CONFLICT when another one is active.
 */
int rollout_begin(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout_in *in) MLC_CHECK;
/*
 * Ends the rollout of a model in an environment at once, for a rollback whose own rollout then
 * covers what it did to the gateways. *ret_promotion is its promotion, for the caller to end, or
 * NULL when there was none.
 */
int rollout_cut(struct mlc_ctx *ctx, struct db_tx *tx, const char *model, const char *environment,
                const char *why, const char **ret_promotion) MLC_CHECK;
/* [inbox item…] of steps that wait for the caller's approval; `readable` as promotion_readable. */
int rollout_inbox(struct mlc_ctx *ctx, struct db_tx *tx, const char *readable,
                  json_t *items) MLC_CHECK;
/* Whether nothing new may begin: the line is stopped there. */
int rollout_stopped(struct db_tx *tx, const char *environment, bool *ret) MLC_CHECK;
/* Part of struct gate_hooks.changed: routes and instances of what is live follow the documents. */
int rollout_changed(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_news *news) MLC_CHECK;
/* Wakes the leader's tasks; after COMMIT. */
void rollout_wake(struct mlc_ctx *ctx);
