/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "mlctl/error.h"

#define MLC_ED25519_KEY_LEN 32
#define MLC_ED25519_SIG_LEN 64

/* An Ed25519 key (RFC 8032). _cleanup_(mlc_signer_done) wipes it. */
struct mlc_signer {
        unsigned char seed[MLC_ED25519_KEY_LEN];
        unsigned char pub[MLC_ED25519_KEY_LEN];
};

int mlc_signer_generate(struct mlc_signer *ret, struct mlc_err *err) MLC_CHECK;
int mlc_signer_from_seed(const unsigned char seed[MLC_ED25519_KEY_LEN], struct mlc_signer *ret,
                         struct mlc_err *err) MLC_CHECK;
/* A PKCS#8 PEM file (unencrypted) or a raw seed of exactly 32 bytes. */
int mlc_signer_load(const char *path, struct mlc_signer *ret, struct mlc_err *err) MLC_CHECK;
/* PKCS#8 PEM, mode 0600, by rename, durable on return. Replaces an existing file. */
int mlc_signer_save(const struct mlc_signer *s, const char *path, struct mlc_err *err) MLC_CHECK;
void mlc_signer_done(struct mlc_signer *s);

int mlc_sign(const struct mlc_signer *s, const void *msg, size_t len,
             unsigned char ret[MLC_ED25519_SIG_LEN], struct mlc_err *err) MLC_CHECK;
/* MLC_E_VERIFY when the signature does not hold. */
int mlc_verify(const unsigned char pub[MLC_ED25519_KEY_LEN], const void *msg, size_t len,
               const unsigned char sig[MLC_ED25519_SIG_LEN], struct mlc_err *err) MLC_CHECK;
