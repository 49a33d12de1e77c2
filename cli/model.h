/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/* The commands of cmd_model.c that have a file of their own. */
int model_run_show(struct cli *cli);
int model_run_diff(struct cli *cli);
