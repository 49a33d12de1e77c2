/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "crypto/note.h"

/* What somebody decided to trust: a log's key, and a tree that the log must hold. */
struct trust {
        size_t n_keys; /* 0 or 1 */
        struct mlc_vkey key;
        struct mlc_checkpoint seen; /* size 0: none */
};

/*
 * A trust file: line 1 the log's verifier key; optionally, last, a checkpoint note. "environment"
 * lines (founding owners) are refused as not supported yet.
 */
int trust_read(struct cli *cli, const char *file, struct trust *ret) MLC_CHECK;
/* For a log in files without a trust file: the pin of the log that its checkpoint names. */
int trust_by_pins(struct cli *cli, const char *dir, struct trust *ret) MLC_CHECK;
/* The pin of the log of that name. */
int trust_by_name(struct cli *cli, const char *origin, struct trust *ret) MLC_CHECK;
