/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/http.h"
#include "client/pin.h"
#include "tlog/leaf.h"
#include "tlog/proof.h"
#include "tlog/source.h"

/*
 * The log of a server, seen by a client that does not trust it. Whatever a function here returns
 * stands under a checkpoint that the pinned key signed and that continues the one seen before. What
 * does not fit is MLC_E_VERIFY, by name: "another key", "shorter", "forked".
 */
#define MLC_PROOF_WAIT_MS 5000 /* for a checkpoint that covers an entry */

struct mlc_log {
        struct mlc_client *client; /* borrowed */
        struct mlc_pin pin; /* pin.seen is the checkpoint that counts; size 0: none published */
        struct mlc_vkey served[MLC_REPLAY_KEYS_MAX]; /* what the server says: a hint only */
        size_t n_served;
        bool first; /* the key was pinned just now: show it to the person */
        bool forget; /* nothing is kept: the keys were given, not pinned */
};

/* Pins the key at first contact, compares it later, and takes the published checkpoint. */
int mlc_log_open(struct mlc_client *c, const char *state_dir, struct mlc_log *ret,
                 struct mlc_err *err) MLC_CHECK;
void mlc_log_done(struct mlc_log *l); /* for _cleanup_ */
/* Takes the checkpoint that is published now. */
int mlc_log_refresh(struct mlc_log *l, struct mlc_err *err) MLC_CHECK;
/* Follows rotations: keys that the server shows beyond those known, each by a log.rotate entry that
 * the key before signed and the log holds. Keys that cannot be proven stay unknown (no error). */
int mlc_log_follow_keys(struct mlc_log *l, struct mlc_err *err) MLC_CHECK;
struct mlc_vkeys mlc_log_keys(const struct mlc_log *l);
/* The commit keys of /keys/allowed_signers are keys of the log, and each of those is in it. */
int mlc_log_check_signers(struct mlc_log *l, struct mlc_err *err) MLC_CHECK;
/* The log's files over HTTP; `c` must outlive the source. */
struct mlc_tlog_source mlc_log_source(struct mlc_client *c);

struct mlc_proven {
        uint64_t index;
        struct mlc_digest hash;
        struct mlc_leaf leaf;
        struct mlc_merkle_proof path; /* under the checkpoint of the log as it was then */
        json_t *entry; /* as the server shows it */
};
void mlc_proven_done(struct mlc_proven *p); /* for _cleanup_ */

/*
 * The entry with this leaf hash (64 hex digits) or at this index, proven to be in the log. Waits up
 * to MLC_PROOF_WAIT_MS for a checkpoint that covers it, then MLC_E_UNAVAILABLE.
 */
int mlc_log_prove(struct mlc_log *l, const char *leaf_hash, struct mlc_proven *ret,
                  struct mlc_err *err) MLC_CHECK;
int mlc_log_prove_index(struct mlc_log *l, uint64_t index, struct mlc_proven *ret,
                        struct mlc_err *err) MLC_CHECK;

/*
 * Compares two checkpoints of one log by its tiles: `now` must continue `seen`. Says "shorter" and
 * "forked"; `url` is for the messages.
 */
int mlc_log_compare(const struct mlc_tlog_source *src, const char *url,
                    const struct mlc_checkpoint *seen, const struct mlc_checkpoint *now,
                    struct mlc_err *err) MLC_CHECK;
