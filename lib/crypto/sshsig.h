/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "crypto/sign.h"
#include "crypto/sshkey.h"

/* Signatures of `ssh-keygen -Y sign` (PROTOCOL.sshsig of OpenSSH). */
#define MLC_SSHSIG_MAX 16384 /* bytes of armour */
#define MLC_SSHSIG_NS_APPROVAL "approval@mlctl"
#define MLC_SSHSIG_NS_GIT "git"
#define MLC_SSHSIG_ORIGIN_MAX 255

#define MLC_SSHSIG_FLAG_UP 0x01 /* user present */
#define MLC_SSHSIG_FLAG_UV 0x04 /* user verified by PIN or fingerprint */

struct mlc_sshsig_message {
        const char *ns; /* not empty, at most 255 bytes */
        const void *data;
        size_t len;
};

struct mlc_sshsig_result {
        struct mlc_sshkey key; /* who signed: the caller decides whether that key may */
        bool is_sk; /* made by a FIDO token: flags and counter are set, UP was checked */
        bool is_webauthn; /* by a browser: origin is set, the caller checks it */
        unsigned char flags;
        uint32_t counter;
        char origin[MLC_SSHSIG_ORIGIN_MAX + 1];
};

/*
 * Checks armour (any wrapping) over the message in its namespace. MLC_E_INVALID when it is no such
 * signature, MLC_E_VERIFY when it does not hold: another namespace or message, a non-empty reserved
 * field, RSA over SHA-1 (ssh-rsa), a token that did not see its user. Verified by UV is not asked
 * for here: see flags.
 */
int mlc_sshsig_verify(const char *armour, size_t len, const struct mlc_sshsig_message *m,
                      struct mlc_sshsig_result *ret, struct mlc_err *err) MLC_CHECK;
/* Appends the armour (SHA-512, lines of 70) with a final newline. git's gpgsig wants it without. */
int mlc_sshsig_sign(const struct mlc_signer *s, const struct mlc_sshsig_message *m,
                    struct mlc_str *ret, struct mlc_err *err) MLC_CHECK;
