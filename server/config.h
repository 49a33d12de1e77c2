/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "app.h"

/*
 * The settings: one table of options in config.c makes the flags (--name), the environment
 * (MLCTL_NAME), the lines of the file that --config names (name = value, # comments), --help and
 * the manual page. Flags win over the environment, that over the file, that over the default.
 */

/* How many of argv's leading arguments after the subcommand are positional. */
struct config_args {
        const char *positional[4];
        int n_positional;
};

/*
 * Reads argv[1..] (argv[0] is the subcommand) into *ret; strings live until config_done.
 * MLC_E_USAGE with what to change. --data is required, is made when it does not exist (if
 * `create`), and becomes absolute.
 */
int config_read(int argc, char *const argv[], bool create, struct app_config *ret,
                struct config_args *ret_args, struct mlc_err *err) MLC_CHECK;
void config_done(struct app_config *config);

void config_print_help(FILE *f);
/* The OPTIONS section of mlctld(8), mdoc. */
void config_print_man(FILE *f);
