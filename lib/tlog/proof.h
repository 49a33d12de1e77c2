/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "crypto/merkle.h"
#include "crypto/note.h"

/* The offline proof of one entry: C2SP tlog-proof, "c2sp.org/tlog-proof@v1". */
#define MLC_TLOG_PROOF_MAX (MLC_NOTE_MAX + 8192u)

struct mlc_tlog_proof {
        uint64_t index;
        struct mlc_merkle_proof path; /* leaf sibling first */
        const char *checkpoint; /* borrowed: the signed note, not NUL-terminated */
        size_t checkpoint_len;
};

/* Appends the text. */
void mlc_tlog_proof_format(const struct mlc_tlog_proof *p, struct mlc_str *ret);
/* An "extra" line is accepted and ignored; it is not authenticated. */
int mlc_tlog_proof_parse(const char *text, size_t len, struct mlc_tlog_proof *ret,
                         struct mlc_err *err) MLC_CHECK;
/*
 * Checks that `leaf` (the entry's hash) stands at p->index under the checkpoint, which one of the
 * keys signed under its own name as origin. MLC_E_VERIFY otherwise. ret may be NULL.
 */
int mlc_tlog_proof_verify(const struct mlc_tlog_proof *p, const struct mlc_digest *leaf,
                          const struct mlc_vkeys *keys, struct mlc_checkpoint *ret,
                          struct mlc_err *err) MLC_CHECK;
