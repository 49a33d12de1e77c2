/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "mlctl/error.h"

/*
 * Runs a program (found in PATH, or a path) and waits for it: standard input is empty, its output
 * goes to our standard error, no signal is blocked. MLC_E_IO when it cannot be started or does not
 * exit with 0.
 */
int mlc_run(const char *const argv[], struct mlc_err *err) MLC_CHECK;
