/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "codec/digest.h"
#include "codec/json.h"

/* Streaming SHA-256. May be copied with =, which forks the computation; needs no clean-up. */
struct mlc_sha256 {
        unsigned long long opaque[14];
};

void mlc_sha256_init(struct mlc_sha256 *h);
void mlc_sha256_update(struct mlc_sha256 *h, const void *data, size_t len);
/* The state is spent afterwards. */
void mlc_sha256_final(struct mlc_sha256 *h, struct mlc_digest *ret);

/*
 * The state half-way, to be kept across restarts (resumable uploads). A tag names the layout:
 * 4 bytes tag, 8 words of state, 64-bit count of bytes hashed, the partial block of 64 bytes, all
 * big-endian. Import refuses another tag or an impossible length (MLC_E_INVALID).
 */
#define MLC_SHA256_STATE_LEN 108
void mlc_sha256_export(const struct mlc_sha256 *h, unsigned char ret[MLC_SHA256_STATE_LEN]);
int mlc_sha256_import(const void *state, size_t len, struct mlc_sha256 *ret,
                      struct mlc_err *err) MLC_CHECK;
/* Bytes hashed so far. */
unsigned long long mlc_sha256_count(const struct mlc_sha256 *h);

void mlc_sha256(const void *data, size_t len, struct mlc_digest *ret);
/* SHA-256 of the value's RFC 8785 form (at most 16 MiB of it). */
int mlc_sha256_json(const json_t *j, struct mlc_digest *ret, struct mlc_err *err) MLC_CHECK;

/* SHA-1 of "TYPE LEN NUL" and the data: how git names an object. Only for that: SHA-1 proves
 * nothing by itself, so what matters is also bound by a SHA-256. */
#define MLC_GIT_OID_LEN 20
void mlc_git_hash(const char *type, const void *data, size_t len,
                  unsigned char ret[MLC_GIT_OID_LEN]);
