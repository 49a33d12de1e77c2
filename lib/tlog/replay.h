/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "tlog/leaf.h"
#include "tlog/verify.h"

/*
 * Folds the leaves of a log into what they say is the present state, and compares it with what the
 * server says it is: (kind, id) -> digest. docs/architecture.md has the rule. Also follows the keys
 * of the log itself: leaves of kind `log` found it, and each rotation is signed by the key before.
 */
struct mlc_replay;

#define MLC_REPLAY_KEYS_MAX 16
#define MLC_REPLAY_KIND_LOG "log"
/* The text that the old key signs as a note: this line, the origin, the new verifier key. */
#define MLC_LOG_ROTATE_TYPE "urn:mlctl:log-rotate:v1"

struct mlc_replay *mlc_replay_new(void);
void mlc_replay_free(struct mlc_replay **r); /* for _cleanup_ */

/*
 * The next leaf, index counting from 0 without gaps. MLC_E_VERIFY when it is no leaf of this log,
 * when its `before` is not what the leaves so far give, or when a key of the log was not signed
 * over.
 */
int mlc_replay_leaf(struct mlc_replay *r, uint64_t index, const void *leaf, size_t len,
                    struct mlc_err *err) MLC_CHECK;
/* What was folded so far was an archived log: the next leaf, index 0, founds its successor. */
void mlc_replay_succeed(struct mlc_replay *r);
/*
 * True when the log succeeds another whose leaves were not folded: objects that it carried over are
 * then accepted as they first appear, and rows of theirs are no difference.
 */
bool mlc_replay_partial(const struct mlc_replay *r);

/* The log's keys and the index from which each signs; the last one signs commits. */
struct mlc_replay_key {
        struct mlc_vkey vkey;
        uint64_t from;
};
size_t mlc_replay_keys(const struct mlc_replay *r, const struct mlc_replay_key **ret);

/*
 * The comparison: announce each kind that is listed, then give every row of those, then finish.
 * Rows of other kinds are a difference. MLC_E_VERIFY from finish with the difference of the lowest
 * index: the last leaf that set the object, or `size` for a row that no leaf accounts for.
 */
void mlc_replay_kind(struct mlc_replay *r, const char *kind);
void mlc_replay_row(struct mlc_replay *r, const char *kind, const char *id, const char *state_json);
int mlc_replay_finish(struct mlc_replay *r, uint64_t size, struct mlc_tlog_finding *finding,
                      struct mlc_err *err) MLC_CHECK;
