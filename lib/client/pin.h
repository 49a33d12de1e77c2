/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "crypto/note.h"
#include "crypto/sshkey.h"
#include "tlog/replay.h"

/*
 * What this account knows of the log of one server: the key that it showed at first contact, the
 * keys that a rotation proven under that one added, and the largest checkpoint seen. One file below
 * the state directory, named by the server's address. Trust on first use: after it, another key or
 * another history is refused.
 */
struct mlc_pin {
        char file[PATH_MAX];
        struct mlc_vkey keys[MLC_REPLAY_KEYS_MAX]; /* [0] is the pinned one */
        size_t n_keys; /* 0: nothing is pinned yet */
        struct mlc_checkpoint seen; /* size 0: none yet */
        char *note; /* the checkpoint's note, malloc'ed; NULL when none */
};

/* Reads the file; a missing one gives n_keys 0. MLC_E_VERIFY when the file does not hold together:
 * it says how to start over. */
int mlc_pin_load(const char *state_dir, const char *url, struct mlc_pin *ret,
                 struct mlc_err *err) MLC_CHECK;
/* One such file by its path. */
int mlc_pin_read(const char *file, struct mlc_pin *ret, struct mlc_err *err) MLC_CHECK;
/* Durable, by rename. */
int mlc_pin_save(const struct mlc_pin *pin, const char *url, struct mlc_err *err) MLC_CHECK;
void mlc_pin_done(struct mlc_pin *pin); /* for _cleanup_ */
/* Exclusive among processes until the descriptor is closed; waits. */
int mlc_pin_lock(const struct mlc_pin *pin, int *ret_fd, struct mlc_err *err) MLC_CHECK;

/* As ssh-keygen -l shows the key: "SHA256:…". */
void mlc_vkey_fingerprint(const struct mlc_vkey *k, char ret[MLC_SSHKEY_FP]);
bool mlc_vkey_equal(const struct mlc_vkey *a, const struct mlc_vkey *b);
