/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "cli.h"

/* All that --help, the completions and mlctl(1) say comes from these tables (commands.c). */
extern const struct cli_command *const CLI_TABLES[]; /* ends with NULL */
extern const struct cli_option CLI_GLOBAL[]; /* ends with name NULL */

#define HELP_COLUMNS 100 /* no line of --help is longer */

/* The first command, and the one after `c`; NULL at the end. */
const struct cli_command *help_first(void);
const struct cli_command *help_next(const struct cli_command *c);

void help_command(FILE *f, const struct cli_command *c);
/* Every command; with `noun` ("alias") only those that begin with it: false when there is none. */
bool help_overview(FILE *f, const char *noun);
/* mlctl(1) in mdoc, on stdout. */
void help_man(void);
/* "--NAME", "--NAME ARG" or "--NAME[=ARG]" */
void help_option(char *ret, size_t size, const struct cli_option *o);
