/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/*
 * What the log says of a bundle's version and champion: the number is that of the digest, and the
 * champion is what was made live last. MLC_E_VERIFY by name when it is not. Without a log that
 * could be looked at (cli->log NULL) nothing is compared.
 */
int standing_check(struct cli *cli, const json_t *bundle) MLC_CHECK;
