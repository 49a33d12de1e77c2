/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "evidence.h"

/* A step of a rollout that waits for approvals, decided again by whoever has to sign for it. */

/*
 * `evidence` is the reply of …/rollouts/ID/evidence; facts->subject_id is the rollout's id.
 * Computes the decision and its digest out of the statistics, the plan out of the model's document,
 * and the rest out of the promotion's evidence, which it fetches and judges again; refuses by name
 * (MLC_E_VERIFY) what the server says otherwise. Fills the members of the subject; strings are
 * borrowed from the evidence or in the arena.
 */
int step_check(struct cli *cli, const json_t *evidence, struct mlc_arena *a,
               struct mlc_statement *facts, struct evidence_seen *ret_seen) MLC_CHECK;
/* What is being signed: where the rollout is, where it goes on to, and each check. */
void step_print(struct cli *cli, const json_t *rollout, const json_t *evidence,
                const struct mlc_statement *facts);
