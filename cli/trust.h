/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "crypto/note.h"
#include "policy/custody.h"

/* What somebody decided to trust: a log's key, founding owners, and a tree that the log must hold.
 */
struct trust {
        size_t n_keys; /* 0 or 1 */
        struct mlc_vkey key;
        struct mlc_checkpoint seen; /* size 0: none */
        bool file; /* it is a trust file: environments that it does not name are unprotected */
        struct mlc_custody_environment *environments; /* owned, with names and keys */
        size_t n_environments;
};
void trust_done(struct trust *t); /* for _cleanup_ */

/*
 * A trust file: line 1 the log's verifier key; then `environment NAME THRESHOLD`, each followed by
 * its founding owners' public keys ("TYPE BASE64 [COMMENT]"), one a line; optionally, last, a
 * checkpoint note. MLC_E_INVALID with the line.
 */
int trust_read(struct cli *cli, const char *file, struct trust *ret) MLC_CHECK;
/* For a log in files without a trust file: the pin of the log that its checkpoint names. */
int trust_by_pins(struct cli *cli, const char *dir, struct trust *ret) MLC_CHECK;
/* Prints one: the pinned key, each environment whose founding leaf the log proves, and the
 * checkpoint seen last. */
int trust_print(struct cli *cli) MLC_CHECK;
/* The pin of the log of that name. */
int trust_by_name(struct cli *cli, const char *origin, struct trust *ret) MLC_CHECK;
