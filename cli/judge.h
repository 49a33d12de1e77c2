/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "examples.h"

/* Verdicts: computed again from the evidence, compared with what the server says, and shown. */

/*
 * The verdict of a bundle by the code of lib/policy; examples come from `x` by their digests and
 * are checked. *ret is the caller's.
 */
int judge_again(struct cli *cli, const json_t *bundle, struct examples *x, json_t **ret) MLC_CHECK;
/* MLC_E_VERIFY names the first member of the server's verdict that is not in ours. */
int judge_compare(struct cli *cli, const json_t *ours, const json_t *served) MLC_CHECK;
/* The table of checks. */
void judge_print_checks(struct cli *cli, const json_t *checks);
/* "pass" in green, all else in red, as a word on stdout. */
void judge_print_word(struct cli *cli, const char *verdict);
