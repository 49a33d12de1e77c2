/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "rollout/rollout_internal.h"

/*
 * Predictions and labels that are reported late: recorded once by (model, environment, id,
 * version), joined by id, and counted once, by the leader, into the rollout that goes on. Kept for
 * OBSERVATION_DAYS.
 */
#define OBSERVATION_ITEMS_MAX 10000 /* of one report */
#define OBSERVATION_VALUE_MAX 256 /* bytes of an output or label as text */
#define OBSERVATION_ID_MAX 128
#define OBSERVATION_PLACES_MAX 100 /* models and routes that one report is about */
#define OBSERVATION_LOOK_MAX 5000 /* ids that one look counts */
#define OBSERVATION_DAYS 90
#define OBSERVATION_TASK "observation.forget" /* of the leader */
#define OBSERVATION_TASK_MS 600000

struct observation_done {
        int64_t received, predictions, labels, different;
};
/* `items`: the report, of any shape; MLC_E_INVALID with the pointer. */
int observation_record(struct mlc_ctx *ctx, const json_t *items,
                       struct observation_done *ret) MLC_CHECK;

/*
 * What is complete of the rollout's versions, as increments of rollout/analysis.h by the epoch in
 * which it was answered (its place in r->seen.weights): `labels` of each arm, `paired_labels` where
 * both answered the same id. Counted with this transaction. `key`: "random" or "sticky", as routes
 * are split. *ret: {EPOCH: increment}, the caller's.
 */
int observation_take(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                     const char *key, json_t **ret) MLC_CHECK;

/* The leader's task. */
int observation_forget(struct mlc_ctx *ctx) MLC_CHECK;

/* One item as it is written, for tests: 0, or MLC_E_INVALID with the pointer below `at`. */
struct observation_item {
        const char *id, *environment, *model, *route, *variant; /* NULL: not given; borrowed */
        const char *output, *label; /* as text, of the arena; NULL: not given */
        int64_t version, at_ms; /* 0, -1: not given */
};
int observation_read(struct mlc_arena *a, const json_t *item, const char *at,
                     struct observation_item *ret, struct mlc_err *err) MLC_CHECK;
