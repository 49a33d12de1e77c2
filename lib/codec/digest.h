/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "mlctl/error.h"

#define MLC_DIGEST_STR 72 /* "sha256:" and 64 lower-case hex digits, NUL included */

/* A SHA-256. Also the hash of a Merkle tree's node. */
struct mlc_digest {
        unsigned char b[32];
};

/* Exactly "sha256:" and 64 lower-case hex digits; MLC_E_INVALID otherwise. */
int mlc_digest_parse(const char *s, struct mlc_digest *ret, struct mlc_err *err) MLC_CHECK;
void mlc_digest_format(const struct mlc_digest *d, char ret[MLC_DIGEST_STR]);
bool mlc_digest_equal(const struct mlc_digest *a, const struct mlc_digest *b);
