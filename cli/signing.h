/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/str.h"
#include "cli.h"
#include "codec/digest.h"
#include "policy/statement.h"

/*
 * Statements to sign. The client writes the statement itself, out of what it has seen; of what the
 * server proposes, it takes only what is the server's to choose (nonce, time, expiry, role, the
 * commitment to the signer's name), and refuses by name whatever else is not the same.
 */
struct signing {
        const char *path; /* where the signed statement is posted */
        const char *reason;
        char salt[65];
        char commitment[MLC_DIGEST_STR]; /* to the reason */
        struct mlc_str text; /* exactly what is signed */
};

void signing_done(struct signing *s);
/*
 * `facts` has the decision, the subject and its members; *ret->text is the statement. `served` is
 * the server's proposal, `meanings` its texts. MLC_E_VERIFY names the member that differs.
 */
int signing_make(struct cli *cli, struct mlc_statement *facts, const json_t *served,
                 const json_t *meanings, struct signing *ret) MLC_CHECK;
/* Asks on a terminal, unless --yes was given; MLC_E_CONFLICT when the answer is no. */
int signing_ask(struct cli *cli, const char *question) MLC_CHECK;
/* {"statement","signature","reason","salt"}, signed by `ssh-keygen -Y sign` with the key. */
int signing_sign(struct cli *cli, const struct signing *s, const char *key, json_t **ret) MLC_CHECK;
/* Posts it with an idempotency key. */
int signing_post(struct cli *cli, const char *path, const json_t *body, json_t **ret) MLC_CHECK;
