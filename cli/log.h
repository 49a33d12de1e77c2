/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "client/proof.h"

/*
 * The log of the server that is connected: pins its key at first contact and shows it on stderr;
 * later refuses another key, a shorter log or a forked one. Free with mlc_log_done.
 */
int cli_log_open(struct cli *cli, struct mlc_log *ret) MLC_CHECK;
