/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

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

/* MLC_E_FORBIDDEN when the alias is moved by an environment's promotions; what the registry asks
 * before it sets or removes one for a person. */
int promotion_alias_free(struct mlc_ctx *ctx, struct db_tx *tx, const char *alias) MLC_CHECK;

/* struct gate_hooks.live and .changed. */
int promotion_live(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                   const char *model, struct gate_live *ret) MLC_CHECK;
int promotion_changing(struct mlc_ctx *ctx, struct db_tx *tx) MLC_CHECK;
int promotion_changed(struct mlc_ctx *ctx, struct db_tx *tx,
                      const struct gate_news *news) MLC_CHECK;
