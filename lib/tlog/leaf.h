/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/digest.h"
#include "codec/json.h"

/* The entries of our log: urn:mlctl:leaf:v1, RFC 8785 JSON (docs/architecture.md). */
#define MLC_LEAF_TYPE "urn:mlctl:leaf:v1"
#define MLC_LEAF_ACTOR_MAX 32
#define MLC_LEAF_ACTION_MAX 64
#define MLC_LEAF_KIND_MAX 32
#define MLC_LEAF_ID_MAX 512

struct mlc_leaf {
        const char *origin, *time, *actor, *action, *kind, *id; /* borrowed from doc */
        int64_t time_ms;
        bool has_before, has_after;
        struct mlc_digest before, after;
        const json_t *state; /* NULL when the object is gone */
        const json_t *detail; /* an object */
        json_t *doc;
};

/*
 * Strict: exactly the members of the leaf, the canonical form byte for byte, `after` the digest of
 * `state`, names within the limits above. MLC_E_INVALID otherwise. mlc_leaf_done(ret) frees.
 */
int mlc_leaf_parse(const void *data, size_t len, struct mlc_leaf *ret,
                   struct mlc_err *err) MLC_CHECK;
void mlc_leaf_done(struct mlc_leaf *leaf); /* for _cleanup_ */

struct mlc_leaf_in {
        const char *origin, *actor, *action, *kind, *id;
        int64_t time_ms;
        const json_t *before, *after; /* state objects; NULL when there is none */
        const json_t *detail; /* NULL for {} */
};

/*
 * Appends the leaf. MLC_E_INVALID for what mlc_leaf_parse would refuse, MLC_E_LIMIT above 65,535
 * bytes. ret must be empty.
 */
int mlc_leaf_build(const struct mlc_leaf_in *in, struct mlc_str *ret,
                   struct mlc_err *err) MLC_CHECK;

/* SHA-256 over the canonical form of a governed object. */
int mlc_leaf_state_digest(const json_t *state, struct mlc_digest *ret,
                          struct mlc_err *err) MLC_CHECK;
