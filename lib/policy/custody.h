/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/json.h"
#include "crypto/sshkey.h"
#include "tlog/leaf.h"

/*
 * Who may make a version live, derived from leaves alone: from the founding owners of an
 * environment, whose keys somebody got on another way, every later document, role and key is
 * accepted only when enough owners signed it, and every version that goes live only when the
 * approvals that the accepted rules ask for are there, each signed with an accepted key. Who can
 * write leaves (the server, and whoever writes its database) but has no owner's key gets nothing
 * accepted. docs/approvals.md says what is compared.
 *
 * A rollout's step that asks for approvals, by the model's document as it was when the rollout
 * began, is left only with those.
 *
 * What does not concern a protected environment needs no signature. Revocations always count. What
 * was there when the environment was founded is accepted as it then was.
 */
#define MLC_CUSTODY_ENVIRONMENTS_MAX 64
#define MLC_CUSTODY_KEYS_MAX 200 /* of the founding owners of one environment */

/* An environment as a trust file has it. */
struct mlc_custody_environment {
        const char *name;
        unsigned threshold;
        const struct mlc_sshkey *keys; /* of the founding owners, all of them */
        size_t n_keys;
};

struct mlc_custody;

/* Copies what it is given. n is at most MLC_CUSTODY_ENVIRONMENTS_MAX; keys are compared as sets. */
struct mlc_custody *mlc_custody_new(const char *origin,
                                    const struct mlc_custody_environment *environments, size_t n);
void mlc_custody_free(struct mlc_custody **c); /* for _cleanup_ */

/*
 * The next leaf, in the order of the log; borrowed. MLC_E_VERIFY with a sentence when it makes
 * something live, moves an environment's alias or changes a version as nobody who counts has
 * signed for.
 */
int mlc_custody_leaf(struct mlc_custody *c, uint64_t index, const struct mlc_leaf *leaf,
                     struct mlc_err *err) MLC_CHECK;
/* After the last leaf. MLC_E_VERIFY when an environment has other founding owners (*ret_index: the
 * leaf that names them), is not in the log at all (*ret_index: the number of leaves), or has an
 * alias that names what was never live there (*ret_index: the alias's leaf). */
int mlc_custody_finish(const struct mlc_custody *c, uint64_t *ret_index,
                       struct mlc_err *err) MLC_CHECK;
/* [{"name","protected"}] by name: every environment of the log; protected are those that were given
 * and still have owners. The caller's. */
json_t *mlc_custody_environments(const struct mlc_custody *c);

/*
 * What an owner signs for a role or a key: SHA-256 ("sha256:…") of the RFC 8785 form of
 * {"kind":"Role","user","role","namespace","keys":[all unrevoked public keys of the user, base64,
 * sorted by bytes]} or {"kind":"Key","user","type","public"}.
 */
int mlc_custody_role_digest(const json_t *state, const char *const *keys, size_t n,
                            char ret[MLC_DIGEST_STR], struct mlc_err *err) MLC_CHECK;
int mlc_custody_key_digest(const json_t *state, char ret[MLC_DIGEST_STR],
                           struct mlc_err *err) MLC_CHECK;
