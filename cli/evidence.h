/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "cli.h"
#include "policy/statement.h"

/* The evidence of a promotion, judged again by whoever has to sign for it. */

/*
 * `evidence` is the reply of …/promotions/ID/evidence. Computes everything that the verdict and the
 * statement say out of the bundle, and refuses by name (MLC_E_VERIFY) what the server says
 * otherwise. Fills the members of the subject in *ret; strings are borrowed from the evidence or in
 * the arena. *ret_verdict is ours, the caller's.
 */
int evidence_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
                   struct mlc_statement *ret, json_t **ret_verdict) MLC_CHECK;
/* What is being signed: model, from → to, verdict and checks, difference to the champion. */
void evidence_print(struct cli *cli, const json_t *promotion, const json_t *evidence,
                    const json_t *verdict);
