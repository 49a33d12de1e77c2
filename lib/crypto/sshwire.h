/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Private to lib/crypto: the encoding of RFC 4251 section 5, and keys as OpenSSL wants them. */
#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "crypto/sshkey.h"

/* Bytes borrowed from what is read; as a reader it shrinks from the left. */
struct sshwire {
        const unsigned char *p;
        size_t n;
};

bool sshwire_u8(struct sshwire *in, unsigned char *ret);
bool sshwire_u32(struct sshwire *in, uint32_t *ret);
bool sshwire_string(struct sshwire *in, struct sshwire *ret);
/* A positive, minimal mpint; ret is its magnitude without the leading zero byte. */
bool sshwire_mpint(struct sshwire *in, struct sshwire *ret);
bool sshwire_equals(const struct sshwire *s, const char *text);

void sshwire_put_u32(struct mlc_str *out, uint32_t v);
void sshwire_put_string(struct mlc_str *out, const void *data, size_t len);

struct sshkey_parts {
        enum mlc_sshkey_type type;
        struct sshwire point; /* 32 bytes of Ed25519, or 04 || X || Y */
        struct sshwire e, n; /* RSA */
        struct sshwire application; /* sk-* */
};

/* Shape of a key blob: MLC_E_INVALID when it is another type, malformed or too weak. */
int sshkey_parts(const void *blob, size_t len, struct sshkey_parts *ret,
                 struct mlc_err *err) MLC_CHECK;
/* NULL when OpenSSL refuses the numbers (a point that is not on the curve). */
EVP_PKEY *sshkey_evp(const struct sshkey_parts *k);
