/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/manifest.h"
#include "crypto/note.h"

/* The signed git commit of a version, checked without git (gitformat-signature(5), sshsig). */
#define MLC_COMMIT_OID_STR 41
#define MLC_COMMIT_MAX 65536u
#define MLC_COMMIT_CARD "README.md" /* the card's path in artifact and commit */
#define MLC_COMMIT_CARD_MAX (1u << 20) /* a larger card, or one that is no text, is not in it */

struct mlc_commit {
        char oid[MLC_COMMIT_OID_STR];
        char tree[MLC_COMMIT_OID_STR];
        const char *message; /* borrowed from the bytes, message_len long */
        size_t message_len;
        size_t key; /* index of the key that signed */
};

/*
 * Recomputes the id and checks the signature: by one of the keys, namespace "git". MLC_E_VERIFY
 * when it is no commit or not signed by one of them.
 */
int mlc_commit_check(const char *bytes, size_t len, const struct mlc_vkeys *keys,
                     struct mlc_commit *ret, struct mlc_err *err) MLC_CHECK;

struct mlc_bytes {
        const void *data;
        size_t len;
};

/*
 * The id of the tree that the version's commit has: a function of the manifest's bytes and of the
 * card (data NULL when there is none, or when it is not in the commit; see mlc_commit_card_counts).
 */
int mlc_commit_tree(const struct mlc_bytes *manifest, const struct mlc_manifest *parsed,
                    const struct mlc_bytes *card, char ret[MLC_COMMIT_OID_STR],
                    struct mlc_err *err) MLC_CHECK;
/* Takes the objects of that tree, blobs before the trees that name them; a tree last. */
struct mlc_commit_sink {
        int (*object)(void *userdata, const char *type, const void *data, size_t len,
                      struct mlc_err *err);
        void *userdata;
};
/* The same, and hands every object to the sink. */
int mlc_commit_tree_write(const struct mlc_bytes *manifest, const struct mlc_manifest *parsed,
                          const struct mlc_bytes *card, const struct mlc_commit_sink *sink,
                          char ret[MLC_COMMIT_OID_STR], struct mlc_err *err) MLC_CHECK;
/* Whether a card with these bytes is in the commit: text, and not too long. */
bool mlc_commit_card_counts(const struct mlc_bytes *card);
