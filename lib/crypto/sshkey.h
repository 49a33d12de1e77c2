/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "crypto/sign.h"

/* OpenSSH public keys (RFC 4253 section 6.6, RFC 8709, PROTOCOL.u2f of OpenSSH). */
#define MLC_SSHKEY_BLOB_MAX 2200 /* an RSA key of 16384 bits */
#define MLC_SSHKEY_LINE_MAX 8192
#define MLC_SSHKEY_FP 51 /* "SHA256:" and 43 characters, NUL included */

enum mlc_sshkey_type {
        MLC_SSHKEY_ED25519,
        MLC_SSHKEY_ECDSA_P256,
        MLC_SSHKEY_RSA, /* 3072 to 16384 bits */
        MLC_SSHKEY_SK_ED25519,
        MLC_SSHKEY_SK_ECDSA_P256,
};

struct mlc_sshkey {
        enum mlc_sshkey_type type;
        size_t len;
        unsigned char blob[MLC_SSHKEY_BLOB_MAX]; /* the wire form, len bytes, checked */
};

/* A line "TYPE BASE64 [COMMENT]" as in id_ed25519.pub; the comment is dropped. Options before the
 * type, other types, short RSA keys and private keys are refused with a message (MLC_E_INVALID). */
int mlc_sshkey_parse(const char *line, struct mlc_sshkey *ret, struct mlc_err *err) MLC_CHECK;
int mlc_sshkey_from_blob(const void *blob, size_t len, struct mlc_sshkey *ret,
                         struct mlc_err *err) MLC_CHECK;
void mlc_sshkey_from_ed25519(const unsigned char pub[MLC_ED25519_KEY_LEN], struct mlc_sshkey *ret);
void mlc_sshkey_format(const struct mlc_sshkey *k, struct mlc_str *ret); /* appends "TYPE BASE64" */
void mlc_sshkey_fingerprint(const struct mlc_sshkey *k, char ret[MLC_SSHKEY_FP]);
bool mlc_sshkey_equal(const struct mlc_sshkey *a, const struct mlc_sshkey *b);
const char *mlc_sshkey_type_name(enum mlc_sshkey_type type); /* "ssh-ed25519", static */
