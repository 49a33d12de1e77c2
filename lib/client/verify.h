/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "client/proof.h"
#include "policy/custody.h"
#include "tlog/verify.h"

/*
 * All of a log, verified by who does not trust it: every hash, tile and root is derived again from
 * the entries, the checkpoint must be signed by a key that was given, the tree must hold what was
 * seen before, every entry must start from what the ones before it made. With `state`, what the
 * server says of users, versions, aliases and all else is compared with that as well. With
 * `custody`, what went live must have been approved by the rules of those who founded the
 * environments (policy/custody.h).
 */
struct mlc_audit {
        struct mlc_tlog_source src;
        struct mlc_vkeys keys; /* trusted; keys[0] is of the log's name */
        const struct mlc_checkpoint *seen; /* size 0 or NULL: none */
        struct mlc_client *client; /* NULL for a log in files */
        bool state; /* compare with GET /api/v1/audit/state; needs `client` */
        bool commits; /* fetch and check every version's commit; needs `client` */
        bool custody; /* a trust file was given, with these environments (maybe none) */
        const struct mlc_custody_environment *environments;
        size_t n_environments;
};

struct mlc_audit_result {
        struct mlc_checkpoint checkpoint; /* what was verified */
        uint64_t objects; /* compared with the state */
        uint64_t commits; /* checked */
        json_t *environments; /* with custody: [{"name","protected"}]; the caller's */
};

/* MLC_E_VERIFY with *ret_finding, which names the first index that is wrong; other codes when the
 * log could not be read. */
int mlc_audit_run(const struct mlc_audit *a, struct mlc_audit_result *ret,
                  struct mlc_tlog_finding *ret_finding, struct mlc_err *err) MLC_CHECK;
