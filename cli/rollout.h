/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/* A rollout as people read it: where it is, its steps, what serves it, its checks. */
void rollout_print(struct cli *cli, const json_t *j);
/* Checks of a decision: statistic, estimate, interval against the limit, n, and the rule. */
void rollout_print_decision(struct cli *cli, const json_t *decision);
/* Decides again from j's plan, statistics and inputs; MLC_E_VERIFY when j's decision is another.
 * *ret is the caller's. */
int rollout_decide_again(struct cli *cli, const json_t *j, json_t **ret) MLC_CHECK;
/* "eu, us": the targets that a step names; NULL: none, it is about all. The caller's. */
json_t *rollout_targets(const json_t *step);
/* The steps of a plan; `expected` (lib/rollout/plan.h) beside them, or NULL. */
void rollout_print_steps(struct cli *cli, const json_t *steps, const json_t *expected);
/* Where it is, in one line: state, step, weight, and what it waits for or how it ended. */
#define ROLLOUT_LINE_MAX 512
void rollout_line(const json_t *j, char ret[ROLLOUT_LINE_MAX]);
