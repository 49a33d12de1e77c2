/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "cli.h"
#include "policy/statement.h"

/* The evidence of a promotion, judged again by whoever has to sign for it. */

/* What was compared with its source. */
struct evidence_seen {
        size_t evaluations; /* with the bytes submitted */
        size_t recomputed; /* of them, with their examples */
        size_t left_out; /* of them, not with their examples: too large to fetch */
        json_t *verdict; /* ours; owned */
};
void evidence_seen_done(struct evidence_seen *seen); /* for _cleanup_ */

/*
 * The verdict of a bundle after its evaluations were compared with what was submitted and with
 * their examples; MLC_E_VERIFY names the evaluation that is not what it says.
 */
int evidence_judge(struct cli *cli, const json_t *bundle, struct evidence_seen *ret) MLC_CHECK;
/*
 * `evidence` is the reply of …/promotions/ID/evidence. Computes everything that the verdict and the
 * statement say out of the bundle, and refuses by name (MLC_E_VERIFY) what the server says
 * otherwise. Fills the members of the subject in *ret; strings are borrowed from the evidence or in
 * the arena.
 */
int evidence_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                   struct mlc_statement *ret, struct evidence_seen *ret_seen) MLC_CHECK;
/* One line: what was checked here, and what was not. */
void evidence_print_seen(struct cli *cli, const struct evidence_seen *seen);
/* What is being signed: model, from → to, verdict and checks, difference to the champion. */
void evidence_print(struct cli *cli, const json_t *promotion, const json_t *evidence,
                    const json_t *verdict);
