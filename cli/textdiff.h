/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/* The lines of two JSON values (NULL: none) that differ, with three lines around them, as
 * diff -u shows them, on stdout. Nothing when they are equal. */
void textdiff_print(struct cli *cli, const json_t *before, const json_t *after);
