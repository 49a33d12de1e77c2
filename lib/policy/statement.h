/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "codec/json.h"

/*
 * What a person signs: one JSON object (urn:mlctl:approval:v1) in RFC 8785 form. All strings are
 * NUL-terminated; digests "sha256:hex"; times as mlc_time_format writes them.
 */
#define MLC_STATEMENT_MAX ((size_t)64 << 10)
#define MLC_STATEMENT_EVIDENCE_MAX 500
#define MLC_STATEMENT_NAMESPACE "approval@mlctl" /* of the sshsig */

struct mlc_statement {
        const char *decision; /* approve, reject, rollback (of a promotion, signed) */
        const char *meaning; /* shown to the person: 1 to 300 bytes */
        const char *subject_kind; /* promotion, change, rollout */
        const char *subject_id; /* p142, c5; of a rollout with the step, from 1: r17/2 */

        /* subject promotion, and of a rollout its promotion's; NULL, 0 and no evidence otherwise */
        const char *model; /* ns/model */
        int64_t version;
        const char *artifact;
        const char *environment;
        const char *environment_digest;
        const char *policy_digest;
        const char *verdict_digest; /* NULL only for a rollback: null */
        const char *const *evidence; /* ids, sorted, distinct; of a rollout one: the digest of the
                                        decision that the step's minima are met */
        size_t n_evidence;
        const char *from; /* digest of what is live, or NULL */
        const char *plan_digest; /* subject rollout: of the plan whose step it is */

        /* subject change */
        const char *document; /* Environment/production */
        const char *before; /* NULL: it is new */
        const char *after; /* NULL: it is removed */

        const char *role; /* approver, owner, operator */
        const char *signer; /* u7f3a */
        const char *signer_name_commitment;
        const char *reason_commitment;
        const char *time, *expires; /* expires is later */
        const char *nonce; /* 16 to 64 of [A-Za-z0-9_-] */
        const char *log; /* origin */
};

/* The meaning that goes with a decision about a subject, the same for whoever asks, signs or
 * checks: of a change by the kind that `document` begins with (Role/…, Key/…, other kinds are
 * documents; not read for a promotion). NULL for a decision that the subject does not know. */
const char *mlc_statement_meaning(const char *subject_kind, const char *document,
                                  const char *decision);

/* Validates as parsing does; MLC_E_INVALID with the member in err.field ("/nonce"). */
int mlc_statement_build(const struct mlc_statement *s, struct mlc_str *ret,
                        struct mlc_err *err) MLC_CHECK;
/* Exactly the bytes that mlc_statement_build makes: any other order, spelling, spacing, missing or
 * further member is MLC_E_INVALID. Strings are in the arena. */
int mlc_statement_parse(const void *text, size_t len, struct mlc_arena *a,
                        struct mlc_statement *ret, struct mlc_err *err) MLC_CHECK;
/* Names the first member in which two statements differ, apart from signer, signer_name_commitment,
 * reason_commitment, meaning, decision, role, time, expires and nonce; NULL when what they decide
 * about is the same. */
const char *mlc_statement_differs(const struct mlc_statement *a, const struct mlc_statement *b);
