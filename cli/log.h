/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "client/proof.h"

/*
 * The log of the server that is connected: pins its key at first contact and shows it on stderr;
 * later refuses another key, a shorter log or a forked one. Free with mlc_log_done.
 */
int cli_log_open(struct cli *cli, struct mlc_log *ret) MLC_CHECK;
/*
 * The same for commands that verify nothing by themselves: what does not fit is refused, but where
 * no pin can be kept (no home directory), or the server has no log to show, they go on.
 */
int cli_log_greet(struct cli *cli) MLC_CHECK;
void cli_log_free(struct cli *cli); /* what cli_log_greet left */
