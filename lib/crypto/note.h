/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/digest.h"
#include "crypto/sign.h"

/* C2SP signed-note and tlog-checkpoint, with Ed25519 keys (type 0x01). */
#define MLC_NOTE_MAX (1u << 20) /* bytes of a whole note */
#define MLC_NOTE_SIGS_MAX 100
#define MLC_NOTE_KEYS_MAX 64 /* keys that a verifier may know */
#define MLC_KEY_NAME_MAX 255

/* Who may have signed: "name+hex8(id)+base64(01 || pub)". */
struct mlc_vkey {
        char name[MLC_KEY_NAME_MAX + 1]; /* no "+", no white space, not empty */
        uint32_t id; /* first four bytes of SHA-256(name || LF || 01 || pub) */
        unsigned char pub[MLC_ED25519_KEY_LEN];
};

int mlc_vkey_make(const char *name, const unsigned char pub[MLC_ED25519_KEY_LEN],
                  struct mlc_vkey *ret, struct mlc_err *err) MLC_CHECK;
/* Refuses a wrong id and key types other than Ed25519. */
int mlc_vkey_parse(const char *s, struct mlc_vkey *ret, struct mlc_err *err) MLC_CHECK;
void mlc_vkey_format(const struct mlc_vkey *k, struct mlc_str *ret); /* appends */

/* Who signs: a key under a name. */
struct mlc_note_signer {
        const char *name;
        const struct mlc_signer *key;
};

/* Appends the note: text (UTF-8, ends with LF, no control characters but LF), a blank line, one
 * signature line for each of the n signers. */
int mlc_note_sign(const char *text, const struct mlc_note_signer *signers, size_t n,
                  struct mlc_str *ret, struct mlc_err *err) MLC_CHECK;

struct mlc_vkeys {
        const struct mlc_vkey *keys;
        size_t n; /* at most MLC_NOTE_KEYS_MAX */
};

struct mlc_note {
        const char *text; /* borrowed from the note; ends with LF, not NUL-terminated */
        size_t text_len;
        uint64_t verified; /* bit i: signed by keys[i]; never 0 */
};

/*
 * Opens a note: at least one known key signed, and no known key's signature fails (MLC_E_VERIFY
 * then). Lines by unknown keys are ignored. MLC_E_INVALID when it is not a note at all.
 */
int mlc_note_open(const char *note, size_t len, const struct mlc_vkeys *known, struct mlc_note *ret,
                  struct mlc_err *err) MLC_CHECK;

struct mlc_checkpoint {
        char origin[MLC_KEY_NAME_MAX + 1];
        uint64_t size;
        struct mlc_digest root;
};

/* The note's text. Extension lines are accepted and ignored; format writes none. */
int mlc_checkpoint_parse(const char *text, size_t len, struct mlc_checkpoint *ret,
                         struct mlc_err *err) MLC_CHECK;
void mlc_checkpoint_format(const struct mlc_checkpoint *c, struct mlc_str *ret); /* appends */
/* Opens the note, parses the checkpoint, and insists that the origin is the key's name. */
int mlc_checkpoint_open(const char *note, size_t len, const struct mlc_vkey *key,
                        struct mlc_checkpoint *ret, struct mlc_err *err) MLC_CHECK;
