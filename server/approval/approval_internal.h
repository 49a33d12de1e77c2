/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <string.h>

#include "approval/approval.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/str.h"

/* Inside server/approval. */

#define APPROVAL_PAGE_DEFAULT 100

/* The state of an approval or change as its leaf has it; MLC_E_NOT_FOUND. */
int approval_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                   json_t **ret) MLC_CHECK;
int approval_parse(struct mlc_ctx *ctx, const char *text, json_t **ret) MLC_CHECK;
/* "{a,b}" of the namespaces that the caller may read, NULL: all. */
int approval_readable(struct mlc_ctx *ctx, const char **ret) MLC_CHECK;

/* A change request as its row is; texts in ctx's arena. */
struct change {
        const char *id, *kind, *name, *before, *after, *yaml, *normal, *state, *requested_by,
                *expires;
        bool expired;
};
/* MLC_E_NOT_FOUND, also for a model that the caller may not read. */
int change_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                struct change *ret) MLC_CHECK;
/* The statement that an owner signs. */
void change_statement(struct mlc_ctx *ctx, const struct change *c, const char *document,
                      struct mlc_statement *ret);
/* The resource. The caller's. */
int change_show(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c,
                json_t **ret) MLC_CHECK;
/* A decision; *ret is the reply (ApprovalCreated), the caller's. */
int change_approve(struct mlc_ctx *ctx, const char *id, const struct approval_in *in,
                   json_t **ret) MLC_CHECK;
int change_cancel(struct mlc_ctx *ctx, const char *id, const char *reason, json_t **ret) MLC_CHECK;

/* --- changes of kinds Role and Key (approval_award.c) --- */

bool change_is_award(const struct change *c);
/* What it would give; *ret borrows from *ret_document, which is the caller's. */
int change_award(struct mlc_ctx *ctx, const struct change *c, json_t **ret_document,
                 struct auth_award *ret) MLC_CHECK;
/* As gate_protection, as people and documents are now. */
int change_award_protection(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c,
                            json_t **ret) MLC_CHECK;
/* What must stay as it is until COMMIT when any change is decided; before its row is locked. */
int change_hold(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c) MLC_CHECK;
/* MLC_E_CONFLICT when a role or key cannot be given any more. */
int change_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c) MLC_CHECK;
int change_apply_award(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c) MLC_CHECK;

/* A part of approval_check: that owners had signed what their environments guard. */
int approval_guard_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                         void *userdata) MLC_CHECK;

/* The leader's task. */
int change_expire(struct mlc_ctx *ctx) MLC_CHECK;
